"""Predictor: the same as predict, at once from many threads, whatever happens to the weights."""

import threading

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L


def tagger():
    return fastrnn.Sequential(
        [
            fastrnn.Input((None, 4)),
            L.Bidirectional(L.LSTM(5, return_sequences=True)),
            L.Dropout(0.5),
            L.BatchNormalization(),
            L.TimeDistributed(L.Dense(2, activation="sigmoid")),
        ]
    )


def classifier():
    return fastrnn.Sequential(
        [
            fastrnn.Input((7,), dtype="int32"),
            L.Embedding(11, 3),
            L.LSTM(6, return_sequences=True, go_backwards=True),
            L.Bidirectional(L.LSTM(4), merge_mode="sum"),
            L.RepeatVector(2),
            L.Flatten(),
            L.Reshape((2, 4)),
            L.LSTM(3, activation="gelu"),
            L.Dense(3),
            L.Activation("softmax"),
        ]
    )


def masked():
    layers = [L.Masking(), L.LSTM(6, return_sequences=True), L.LSTM(3), L.Dense(1, "gelu")]
    return fastrnn.Sequential([fastrnn.Input((None, 4)), *layers])


@pytest.fixture(params=[tagger, classifier, masked])
def model_and_data(request, rng):
    model = request.param()
    for w in model.weights:
        w.assign(np.abs(rng.standard_normal(w.shape)) if "variance" in w.name else
                 rng.standard_normal(w.shape))  # fmt: skip
    if request.param is classifier:
        return model, lambda n: rng.integers(0, 11, (n, 7))
    return model, lambda n: rng.standard_normal((n, 7, 4)) * (rng.random((n, 7, 1)) < 0.8)


def test_equals_predict(model_and_data):
    model, data = model_and_data
    predictor = model.compile_inference()
    for size in (1, 3, 1, 20):
        x = data(size)
        np.testing.assert_array_equal(predictor(x), model.predict(x, verbose=0, batch_size=size))
    out = np.empty_like(predictor(x))
    assert predictor(x, out=out) is out
    np.testing.assert_array_equal(out, predictor(x))


def test_follows_the_weights(model_and_data):
    model, data = model_and_data
    predictor = model.compile_inference()
    x = data(3)
    before = predictor(x)
    model.set_weights([0.5 * w for w in model.get_weights()])
    assert (predictor(x) != before).any()
    np.testing.assert_array_equal(predictor(x), model.predict(x, verbose=0))


def test_many_threads(model_and_data):
    model, data = model_and_data
    predictor = model.compile_inference()
    batches = [data(1 + n % 3) for n in range(8)]
    expected = [model.predict(x, verbose=0) for x in batches]
    wrong = []

    def work(n):
        for _ in range(200):
            if (predictor(batches[n]) != expected[n]).any():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_bad_input():
    predictor = tagger().compile_inference()
    with pytest.raises(ValueError, match="shape"):
        predictor(np.zeros((1, 7, 5)))
    with pytest.raises(ValueError, match="at least one element"):
        predictor(np.zeros((0, 7, 4)))
    with pytest.raises(ValueError, match=r"out: expected an array of shape \(1, 7, 2\)"):
        predictor(np.zeros((1, 7, 4)), out=np.zeros((1, 7)))
    with pytest.raises(ValueError, match="no Input"):
        fastrnn.Sequential([L.Dense(2)]).compile_inference()
