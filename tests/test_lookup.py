"""An Embedding below a recurrent layer: x W is taken once for each row that is looked up."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn.layers import recurrent

VOCABULARY, FEATURES, UNITS = 40, 32, 20


def network(*above, **embedding):
    fastrnn.utils.set_random_seed(3)
    bottom = [L.Input((None,)), L.Embedding(VOCABULARY, FEATURES, **embedding)]
    model = fastrnn.Sequential([*bottom, *above, L.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


@pytest.fixture
def indices(rng):
    return rng.integers(0, VOCABULARY, (24, 15)).astype(np.int32)


NETWORKS = {
    "LSTM": lambda: [L.LSTM(UNITS)],
    "sequences": lambda: [L.LSTM(UNITS, return_sequences=True), L.GlobalAveragePooling1D()],
    "backwards": lambda: [L.LSTM(UNITS, go_backwards=True)],
    "GRU": lambda: [L.GRU(UNITS)],
    "GRU of Keras 1": lambda: [L.GRU(UNITS, reset_after=False)],
    "SimpleRNN": lambda: [L.SimpleRNN(UNITS)],
    "Bidirectional": lambda: [L.Bidirectional(L.LSTM(UNITS))],
    "sum": lambda: [L.Bidirectional(L.GRU(UNITS, return_sequences=True), "sum"), L.LSTM(3)],
    "no bias": lambda: [L.LSTM(UNITS, use_bias=False)],
}


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_those_of_the_vectors(name, mask_zero, indices, ways, monkeypatch):
    y = np.linspace(-1, 1, len(indices), dtype=np.float32)[:, None]
    results = []
    for fewest in (FEATURES, FEATURES + 1):
        monkeypatch.setattr(recurrent, "FEWEST_FEATURES", fewest)
        model = network(*NETWORKS[name](), mask_zero=mask_zero)
        outputs = [
            model.predict(indices[:1], verbose=0), model.predict(indices, verbose=0),
            model.predict(indices, batch_size=7, verbose=0), model.predict_on_batch(indices),
            model.compile_inference()(indices), model.evaluate(indices, y, verbose=0),
        ]  # fmt: skip
        del ways[:]
        model.train_on_batch(indices, y)
        assert ways == [fewest == FEATURES]
        results.append((outputs, [w.gradient.copy() for w in model.trainable_weights]))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert np.abs(one - other).max() < 1e-4 * np.abs(other).max()


def test_vectors_where_they_are_needed_or_cost_less(indices, ways):
    def trained(*layers, x=indices, **embedding):
        del ways[:]
        network(*layers, **embedding).train_on_batch(x, np.zeros((len(x), 1)))
        return ways

    assert trained(L.LSTM(4)) == [True]
    assert trained(L.LSTM(4), embeddings_regularizer="l2") == [True]
    assert trained(L.LSTM(4, dropout=0.5)) == []
    assert trained(L.LSTM(4, activation=lambda x: 2 * x)) == []
    assert trained(L.Dropout(0.5), L.LSTM(4)) == []
    assert trained(L.Dense(4), L.LSTM(4)) == []
    assert trained(L.LSTM(4), x=np.arange(VOCABULARY)[None]) == [False]
    assert trained(L.LSTM(4), activity_regularizer="l2") == []


def test_a_layer_with_a_forward_of_its_own_gets_vectors(indices):
    class Doubled(L.LSTM):
        def forward(self, x, run, mask=None, states=None):
            return super().forward(x * 2, run, mask, states)

    model = network(Doubled(4))
    assert model.predict(indices, verbose=0).shape == (24, 1)
    model.train_on_batch(indices, np.zeros((24, 1)))


def test_dropout_between_is_passed_in_inference(indices):
    model = network(L.Dropout(0.2), L.SpatialDropout1D(0.5), L.LSTM(4), L.Dropout(0.5))
    expected = network(L.LSTM(4)).predict(indices, verbose=0)
    np.testing.assert_array_equal(model.predict_on_batch(indices), expected)
    np.testing.assert_array_equal(model.compile_inference()(indices), expected)
    assert model.layers[3]._products.computed
    assert model.graph.calls[0].looks_up == "inference"
    assert not network(L.Dropout(0.2)).graph.calls[0].looks_up


def test_a_frozen_embedding_keeps_its_weights(indices, ways):
    model = network(L.LSTM(4), trainable=False)
    before = model.get_weights()
    model.train_on_batch(indices, np.ones((len(indices), 1)))
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert ways == [True] and changed == [False, *[True] * (len(changed) - 1)]


def test_products_of_all_rows_are_kept_while_the_weights_are(indices):
    model = network(L.LSTM(4))
    layer = model.layers[1]

    def kept():
        return layer._products is not None and layer._products.computed

    model.predict(indices[:1], verbose=0)
    assert not kept()  # fewer indices than rows
    model.predict(indices[1:2], verbose=0)
    assert not kept()
    model.predict(indices[2:3], verbose=0)
    assert kept()
    first = layer._products
    model.predict(indices, batch_size=5, verbose=0)
    assert layer._products is first
    model.layers[0].set_weights([np.ones((VOCABULARY, FEATURES))])
    model.predict(indices[:1], verbose=0)
    assert not kept()
    predictor = model.compile_inference()
    ones = predictor(indices[:1])
    assert kept()
    np.testing.assert_array_equal(ones, predictor(indices[3:4]))
    model.train_on_batch(indices, np.zeros((len(indices), 1)))
    assert layer._products is None
    fresh = network(L.LSTM(4))
    fresh.set_weights(model.get_weights())
    np.testing.assert_array_equal(predictor(indices[:1]), fresh.predict(indices[:1], verbose=0))


def test_products_have_a_bound(indices, monkeypatch):
    monkeypatch.setattr(recurrent, "MOST_PRODUCTS", 16 * 4 * VOCABULARY - 1)
    model = network(L.LSTM(4))
    expected = model.compile_inference()(indices)
    assert not model.layers[1]._products.computed
    monkeypatch.setattr(recurrent, "MOST_PRODUCTS", 16 * 4 * VOCABULARY)
    np.testing.assert_array_equal(model.compile_inference()(indices), expected)
    assert model.layers[1]._products.computed


def test_index_out_of_range(indices):
    model = network(L.Bidirectional(L.LSTM(4)))
    predictor = model.compile_inference()
    predictor(indices)
    for bad in (VOCABULARY, -1):
        wrong = indices.copy()
        wrong[-1, -1] = bad
        message = f"indices from 0 to {VOCABULARY - 1} .input_dim - 1., received {bad}"
        for call in (model.predict, model.predict_on_batch, predictor, network(L.GRU(3)).predict):
            with pytest.raises(IndexError, match=message):
                call(wrong)
        with pytest.raises(IndexError, match=message):
            model.train_on_batch(wrong, np.zeros((len(wrong), 1)))
    assert predictor(indices).shape == (24, 1)


def test_streams(indices):
    model = network(L.LSTM(UNITS, return_sequences=True), L.GRU(4))
    stream = model.stream(24)
    for t in range(15):
        last = stream(indices[:, t])
    np.testing.assert_allclose(last, model.predict(indices, verbose=0), rtol=0, atol=1e-6)
    assert model.layers[1]._products.computed


def test_threads_that_share_a_model(indices):
    model = network(L.Bidirectional(L.LSTM(UNITS)))
    expected = model.predict(indices, verbose=0)
    model.layers[0].embeddings.touch()  # all threads find it without products
    wrong = []

    def work():
        for _ in range(30):
            if not np.array_equal(model.predict(indices, verbose=0), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_copies_of_a_layer_with_products(indices):
    model = fastrnn.Sequential([L.Embedding(40, 48), L.LSTM(5)])
    for _ in range(3):
        wanted = model.predict(indices, verbose=0)
    layer = model.layers[1]
    assert layer._products.computed
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_allclose(again(model.layers[0](indices)), wanted, atol=1e-6)
