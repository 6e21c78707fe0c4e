"""Weights that one thread changes while others compute: an answer is of one whole set."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn import variable

WORDS = np.random.default_rng(0).integers(1, 30, (4, 12)).astype(np.int32)
STEPS = np.random.default_rng(0).standard_normal((4, 12, 3)).astype(np.float32)
VIDEOS = np.random.default_rng(0).standard_normal((4, 5, 6, 4, 2)).astype(np.float32)
MODELS = {
    "words": (WORDS, [L.Embedding(30, 40, mask_zero=True), L.LSTM(16), L.Dense(5)]),
    "tags": (WORDS, [L.Embedding(30, 16, mask_zero=True), L.CRF(5, test_mode="marginal")]),
    "looked up": (WORDS, [L.Embedding(30, 40), L.Bidirectional(L.GRU(16)), L.Dense(5)]),
    "normal": (
        STEPS,
        [
            L.Conv1D(6, 3), L.BatchNormalization(), L.LayerNormalization(),
            L.LSTM(8, activation="gelu"), L.Dense(5, activation="swish"), L.Dense(2),
        ],
    ),
    "videos": (
        VIDEOS,
        [
            L.TimeDistributed(fastrnn.Sequential([L.Conv2D(6, 2), L.BatchNormalization()])),
            L.TimeDistributed(L.Conv2D(2, 3, strides=2)), L.TimeDistributed(L.Flatten()),
            L.GRU(8), L.Dense(2),
        ],
    ),
}  # fmt: skip


def model_of(name):
    x, stack = MODELS[name]
    model = fastrnn.Sequential(fastrnn.models.clone_model(fastrnn.Sequential(stack)).layers)
    model.build((None, *x.shape[1:]))
    return model, x


def two_sets(model):
    rng = np.random.default_rng(1)
    return [
        [rng.uniform(0.1, 0.9, w.shape).astype(np.float32) for w in model.weights] for _ in "ab"
    ]


class Changing:
    """Calls `change` in a loop, on a thread of its own, while the block runs."""

    def __init__(self, change):
        self.change, self.done, self.count, self.error = change, False, 0, None

    def __enter__(self):
        def run():
            try:
                while not self.done:
                    self.change()
                    self.count += 1
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.done = True
        self.thread.join()
        assert self.error is None, self.error


CALLS = {
    "predict": lambda model, x: lambda: model.predict(x, verbose=0),
    "batches": lambda model, x: lambda: model.predict(x, batch_size=1, verbose=0),
    "generator": lambda model, x: lambda: model.predict(iter([x]), steps=1, verbose=0),
    "compile_inference": lambda model, x: model.compile_inference(),
    "call": lambda model, x: lambda: model(x),
    "predict_on_batch": lambda model, x: lambda: model.predict_on_batch(x),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("how", CALLS)
def test_answers_are_of_one_set(name, how, tmp_path):
    model, x = model_of(name)
    sets = two_sets(model)
    expected = []
    for weights in sets:
        model.set_weights(weights)
        expected.append(model.predict(x, verbose=0))
    call = CALLS[how](model, x)
    if how == "compile_inference":
        predictor = call
        call = lambda: predictor(x)  # noqa: E731

    def swap():
        for weights in sets:
            model.set_weights(weights)

    answers = []
    with Changing(swap) as changing:
        while len(answers) < 100 or changing.count < 5:
            answers.append(call())
    for answer in answers:
        assert any(np.allclose(answer, e, rtol=1e-5, atol=1e-6) for e in expected)


def _loaded(model, path, save):
    save(path)
    again = fastrnn.models.clone_model(model)
    again.load_weights(path)
    return again.get_weights()


COPIES = {
    "get_weights": lambda model, path: model.get_weights(),
    "pickle": lambda model, path: pickle.loads(pickle.dumps(model)).get_weights(),
    "deepcopy": lambda model, path: copy.deepcopy(model).get_weights(),
    "to_c": lambda model, path: [
        np.intersect1d(np.frombuffer(fastrnn.to_c(model), np.float32), (1, 2))
    ],
    **{
        name: lambda model, path, name=name: _loaded(model, path / f"m{name}", model.save)
        for name in (".keras", ".h5")
    },
    **{
        name: lambda model, path, name=name: _loaded(model, path / f"m{name}", model.save_weights)
        for name in (".weights.h5", ".hdf5", ".safetensors")
    },
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_and_files_are_of_one_set(how, tmp_path):
    """Such as a checkpoint that a server writes while it trains on."""
    stack = [fastrnn.Input((12, 3)), L.LSTM(60), L.Dense(500), L.Dense(16)]
    model = fastrnn.Sequential(stack)
    sets = [[np.full(w.shape, n, np.float32) for w in model.weights] for n in (1, 2)]
    model.set_weights(sets[0])

    def swap():
        for weights in sets:
            model.set_weights(weights)

    with Changing(swap) as changing:
        count = 0
        while count < 8 or changing.count < 5:
            values = np.unique(np.concatenate([np.ravel(w) for w in COPIES[how](model, tmp_path)]))
            assert len(values) == 1
            count += 1


def test_loaded_weights_come_at_once(tmp_path):
    model, x = model_of("words")
    expected, files = [], []
    for number, weights in enumerate(two_sets(model)):
        model.set_weights(weights)
        files.append(tmp_path / f"{number}.weights.h5")
        model.save_weights(files[-1])
        expected.append(model.predict(x, verbose=0))

    def load():
        for file in files:
            model.load_weights(file)

    with Changing(load):
        answers = [model.predict(x, verbose=0) for _ in range(150)]
    for answer in answers:
        assert any(np.allclose(answer, e, rtol=1e-5, atol=1e-6) for e in expected)


def test_predicting_while_training():
    """An answer is that of the weights and batch statistics between two steps."""
    model = fastrnn.Sequential([
        fastrnn.Input((12, 3)), L.Conv1D(6, 3), L.BatchNormalization(), L.LSTM(8), L.Dense(1),
    ])  # fmt: skip
    model.compile(fastrnn.optimizers.SGD(0.05), "mse")
    y = np.ones((4, 1), np.float32)
    start = model.get_weights()

    def steps(count):
        """The answers after so many steps; the first is that before them."""
        model.set_weights(start)
        answers = [model.predict(STEPS, verbose=0)]
        for _ in range(count):
            model.train_on_batch(STEPS, y)
            answers.append(model.predict(STEPS, verbose=0))
        return answers

    expected = np.stack(steps(60))
    model.set_weights(start)
    answers = []
    with Changing(lambda: answers.append(model.predict(STEPS, verbose=0))):
        for _ in range(60):
            model.train_on_batch(STEPS, y)
    assert len(set(a.tobytes() for a in answers)) > 1
    for answer in answers:
        assert np.abs(expected - answer).max(axis=(1, 2)).min() < 1e-6


def test_streams_see_one_set():
    model, _ = model_of("looked up")
    model = fastrnn.Sequential(
        [fastrnn.Input((None,)), L.Embedding(30, 40), L.LSTM(16), L.Dense(5)]
    )
    sets = two_sets(model)
    expected = []
    for weights in sets:
        model.set_weights(weights)
        expected.append(model.stream(4)(WORDS[:, :1]))
    stream = model.stream(4)

    def swap():
        for weights in sets:
            model.set_weights(weights)

    with Changing(swap):
        for _ in range(150):
            stream.reset()
            answer = stream(WORDS[:, :1])
            assert any(np.allclose(answer, e, rtol=1e-5, atol=1e-6) for e in expected)


def test_a_change_within_a_change_stays_unsettled():
    weights = [variable.Variable(np.zeros(2), name=name) for name in "ab"]
    with variable.Change(weights):
        with variable.Change(weights[:1]):
            pass
        assert not weights[0].version.settled and not weights[1].version.settled
    assert weights[0].version.settled and weights[1].version.settled


def test_an_error_within_a_change_leaves_it_settled():
    weight = variable.Variable(np.zeros(2), name="a")
    with pytest.raises(KeyError), variable.Change([weight]):
        raise KeyError
    assert weight.version.settled
    assert variable.settled_versions([weight]) == (weight.version,)
