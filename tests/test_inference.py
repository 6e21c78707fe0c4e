"""Predictor: the same as predict, at once from many threads, whatever happens to the weights."""

import threading

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn import ops


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


def test_weights_that_change_while_another_thread_plans(model_and_data, monkeypatch):
    """The plan of that thread, of the old weights, is not used again."""
    model, data = model_and_data
    predictor, x, plan = model.compile_inference(), data(2), model.plan

    def overtaken(*args):
        result = plan(*args)
        monkeypatch.undo()
        model.set_weights([0.5 * w for w in model.get_weights()])
        predictor(x)  # what another thread does now
        return result

    monkeypatch.setattr(model, "plan", overtaken)
    predictor(x)
    np.testing.assert_array_equal(predictor(x), model.predict(x, verbose=0))


def test_a_forward_of_the_users_own(rng):
    class Shifted(L.Dense):
        def forward(self, x, run, mask=None):
            return super().forward(x, run, mask) + 100

    class ShiftedModel(fastrnn.Sequential):
        def forward(self, x, run, mask=None):
            return super().forward(x, run, mask) + 100

    inner = ShiftedModel([L.Input((3,)), L.Dense(2)])
    outer = fastrnn.Sequential([L.Input((3,)), inner])
    x = rng.standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        outer.compile_inference()(x), x @ outer.get_weights()[0] + 100, rtol=1e-6
    )
    np.testing.assert_allclose(inner(x), x @ inner.get_weights()[0] + 100, rtol=1e-6)
    model = fastrnn.Sequential([L.Input((3,)), Shifted(2)])
    for y in (model.predict(x, verbose=0), model.compile_inference()(x)):
        np.testing.assert_allclose(y, x @ model.get_weights()[0] + 100, rtol=1e-6)


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


# --- masks ---


class Padded(L.Layer):
    """A user's own layer that makes a mask."""

    supports_masking = True

    def forward(self, x, run, mask=None):
        return x

    def compute_mask(self, inputs, mask=None):
        return inputs[..., 0] != 0


def looked_up():
    return L.Embedding(11, 32, mask_zero=True)


MASKED = {  # name: the layers, the shape of a sample (indices, or numbers if it ends in 4)
    "LSTM": (lambda: [looked_up(), L.LSTM(6), L.Dense(2)], (7,)),
    "BiLSTM": (lambda: [looked_up(), L.Dropout(0.5), L.Bidirectional(L.LSTM(5))], (7,)),
    "sequences": (lambda: [looked_up(), L.GRU(5, return_sequences=True), L.LSTM(3)], (7,)),
    "in NumPy": (lambda: [looked_up(), L.LSTM(5, activation="gelu")], (7,)),
    "mean": (lambda: [looked_up(), L.GlobalAveragePooling1D()], (7,)),
    "vectors": (lambda: [looked_up()], (7,)),
    "several outputs": (lambda: [looked_up(), L.LSTM(5, return_state=True)], (7,)),
    "TimeDistributed above": (
        lambda: [
            looked_up(),
            L.LSTM(5, return_sequences=True),
            L.TimeDistributed(L.Dense(2, "softmax")),
        ],
        (7,),
    ),
    "within TimeDistributed": (
        lambda: [L.TimeDistributed(fastrnn.Sequential([looked_up(), L.LSTM(5)])), L.GRU(3)],
        (3, 7),
    ),
    "3-D mask": (lambda: [looked_up(), L.TimeDistributed(L.LSTM(5)), L.Flatten()], (3, 7)),
    "Masking": (lambda: [L.Masking(), L.LSTM(5), L.Dense(2)], (7, 4)),
    "Masking of ones": (lambda: [L.Masking(1.0), L.GRU(5, return_sequences=True)], (7, 4)),
    "only Masking": (lambda: [L.Masking(1.0), L.Dropout(0.5)], (7, 4)),
    "two masks": (lambda: [looked_up(), L.Masking(0.25), L.LSTM(5)], (7,)),
    "not first": (lambda: [L.Dense(4, use_bias=False), L.Masking(), L.LSTM(5)], (7, 4)),
    "a user's": (lambda: [Padded(), L.LSTM(5)], (7, 4)),
    "model below": (lambda: [fastrnn.Sequential([looked_up()]), L.LSTM(5)], (7,)),
    "whole model below": (lambda: [fastrnn.Sequential([looked_up(), L.LSTM(5)]), L.Dense(2)], (7,)),
    "model in a model": (
        lambda: [
            fastrnn.Sequential([fastrnn.Sequential([L.Masking()]), L.GRU(5, "relu")]),
            L.Dense(3),
        ],
        (7, 4),
    ),
    "model in the middle": (
        lambda: [
            L.Dropout(0.5),
            fastrnn.Sequential([L.Masking(), L.LSTM(5, return_sequences=True)]),
            L.LSTM(3),
        ],
        (7, 4),
    ),
}  # fmt: skip


def masked_model(name, rng):
    """(model, a function that gives n samples without a masked step, one with some in the last)."""
    make, shape = MASKED[name]
    indices = shape[-1] != 4
    model = fastrnn.Sequential([fastrnn.Input(shape), *make()])
    model.set_weights([rng.standard_normal(w.shape) for w in model.weights])
    if name == "two masks":
        weights = model.get_weights()
        weights[0][0] = 0.25
        model.set_weights(weights)

    def unpadded(n):
        if indices:
            return rng.integers(1, 11, (n, *shape)).astype(np.int32)
        return 2 + rng.random((n, *shape), np.float32)

    def padded(n):
        x = unpadded(n)
        if indices:
            x[-1, ..., 4:] = 0
        else:
            x[-1, 4:] = 1 if name in ("Masking of ones", "only Masking") else 0
        return x

    return model, unpadded, padded


def general(model, x):
    """What the layers' forward gives, mask by mask."""
    y = model.propagate(x, fastrnn.run.Run())[0]
    return [part.copy() for part in y] if isinstance(y, list) else y.copy()


@pytest.mark.parametrize("name", MASKED)
def test_masks_in_any_order_of_masked_and_unmasked_inputs(name, rng):
    model, unpadded, padded = masked_model(name, rng)
    predictor = model.compile_inference()
    batches = [
        make(n)
        for n in (1, 3)
        for make in (unpadded, padded, padded, unpadded, padded, unpadded, unpadded)
    ]
    for x in batches:
        expected = general(model, x)
        for call in (predictor, lambda x: model.predict(x, verbose=0), model.predict_on_batch):
            y = call(x)
            assert isinstance(y, list) == isinstance(expected, list)
            pairs = zip(y, expected, strict=True) if isinstance(y, list) else [(y, expected)]
            for part, right in pairs:
                np.testing.assert_allclose(part, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name", [name for name in MASKED if name not in ("vectors", "several outputs", "only Masking")]
)
def test_masked_steps_count(name, rng):
    """The inputs of the test above would tell if a mask were left out."""
    model, _, padded = masked_model(name, rng)
    x, steps, run = padded(2), [], fastrnn.run.Run()
    run.states = {None: None}  # a stream's plan takes no step for masked
    y = model.plan(x, steps, run)
    for step in steps:
        step()
    assert np.abs(y - general(model, x)).max() > 1e-3


@pytest.mark.parametrize("name", ["LSTM", "BiLSTM", "model below", "Masking", "Masking of ones"])
def test_a_mask_that_masks_nothing_takes_the_short_way(name, rng, monkeypatch):
    model, unpadded, padded = masked_model(name, rng)
    predictor, forward, calls = model.compile_inference(), model.forward, []
    monkeypatch.setattr(model, "forward", lambda *given: calls.append(1) or forward(*given))
    for n in (1, 4):
        predictor(unpadded(n))
        assert not calls
        predictor(padded(n))
        assert calls.pop() and not calls
        predictor(unpadded(n))
        assert not calls


def test_masking_where_only_some_features_are_the_masked_value(rng, monkeypatch):
    model, unpadded, _ = masked_model("Masking", rng)
    x = unpadded(2)
    x[:, 2:4, 0] = 0
    expected, predictor = general(model, x), model.compile_inference()
    monkeypatch.setattr(model, "forward", None)  # no step is masked
    np.testing.assert_allclose(predictor(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["LSTM", "BiLSTM"])
def test_products_of_all_rows_serve_an_embedding_that_masks(name, rng, monkeypatch):
    model, unpadded, padded = masked_model(name, rng)
    predictor, x = model.compile_inference(), unpadded(1)
    first = predictor(x)
    above = model.layers[-1] if name == "BiLSTM" else model.layers[1]
    layers = above.sublayers or [above]
    assert all(layer._products.computed for layer in layers)
    monkeypatch.setattr(fastrnn._engine, "embedding_forward", None)  # no vector is needed
    predictor(padded(1))
    np.testing.assert_array_equal(predictor(x), first)


def test_an_index_out_of_range_below_a_mask(rng):
    model, unpadded, padded = masked_model("LSTM", rng)
    predictor = model.compile_inference()
    for x in (unpadded(2), padded(2)):
        expected, wrong = predictor(x), x.copy()
        wrong[0, 0] = 11
        with pytest.raises(IndexError, match="received 11"):
            predictor(wrong)
        np.testing.assert_array_equal(predictor(x), expected)


# --- streams ---

STREAMED = {
    "stacked": lambda: [
        L.Dense(6, activation="relu"),
        L.LSTM(20, return_sequences=True),
        L.Dropout(0.5),
        L.Identity(),
        L.Rescaling(2.0, np.arange(20.0)),
        L.Normalization(mean=0.5, variance=4),
        L.UnitNormalization(),
        L.RMSNormalization(2),
        L.LayerNormalization(),
        L.GRU(5, return_sequences=True),
        L.TimeDistributed(L.Dense(2, activation="softmax")),
    ],
    "last": lambda: [
        L.SimpleRNN(7, return_sequences=True),
        L.LSTM(3),
        L.Dense(2),
        L.Reshape((1, 2)),
    ],
    "in NumPy": lambda: [L.LSTM(6, activation="gelu", return_sequences=True), L.GRU(4, "silu")],
    "nested": lambda: [
        fastrnn.Sequential([L.GRU(5, reset_after=False, return_sequences=True)]),
        L.BatchNormalization(),
        L.LSTM(130, return_sequences=True),
    ],
    "masked": lambda: [L.Masking(-7.0), L.LSTM(4, return_sequences=True)],
}


def streamed(name, rng, streams=3, timesteps=9):
    shape = (timesteps if name == "stacked" else None, 4)
    model = fastrnn.Sequential([fastrnn.Input(shape), *STREAMED[name]()])
    x = rng.standard_normal((streams, timesteps, 4), np.float32)
    return model, x, model.predict(x, verbose=0)


def close(y, expected):
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", STREAMED)
def test_stream_in_chunks_is_the_whole_sequence(name, rng):
    model, x, expected = streamed(name, rng)
    stepper = model.stream(3)
    sequences = len(model.layers[-1].output_shape) == 3 and name != "last"
    outputs = [stepper(x[:, a:b]) for a, b in ((0, 4), (4, 5), (5, 7))]
    outputs += [stepper(x[:, t])[:, None] if sequences else stepper(x[:, t]) for t in (7, 8)]
    close(np.concatenate(outputs, axis=1) if sequences else outputs[-1], expected)


@pytest.mark.parametrize("name", STREAMED)
def test_streams_are_saved_restored_and_reset(name, rng):
    model, x, expected = streamed(name, rng)
    stepper, other = model.stream(3), model.stream(1)
    stepper(x[:, :5])
    saved = stepper.state
    stepper(x[:, 5:])
    stepper.state = saved
    close(stepper(x[:, 5:])[..., -1:, :], expected[..., -1:, :])
    other.state = saved[1:2]
    close(other(x[1:2, 5:])[..., -1:, :], expected[1:2][..., -1:, :])
    stepper.reset([0, 2])
    assert not stepper.state[[0, 2]].any() and stepper.state[1].any()
    for wrong in ([5], 3, [True], "x"):
        with pytest.raises(ValueError, match="streams: expected indices below 3 or a mask"):
            stepper.reset(wrong)
    assert stepper.state[1].any()
    stepper.reset()
    out = np.empty((3, *model.compute_output_shape((3, 9, 4))[1:]), np.float32)
    assert stepper(x, out=out) is out
    close(out, expected)


def test_stream_of_indices_follows_new_weights(rng):
    model = fastrnn.Sequential(
        [L.Embedding(9, 5, mask_zero=True), L.LSTM(4, return_sequences=True)]
    )
    x = rng.integers(1, 9, (2, 6))
    model.build((None, 6))
    stepper = model.stream(2)
    for _ in range(2):
        stepper.reset()
        outputs = [stepper(x[:, t]) for t in range(6)]
        close(np.stack(outputs, axis=1), model.predict(x, verbose=0))
        model.set_weights([w * 1.5 for w in model.get_weights()])
    state = stepper.state
    with pytest.raises(ValueError, match="streams take no padding"):
        stepper([[3, 0], [1, 2]])
    with pytest.raises(IndexError):
        stepper([9, 1])
    with pytest.raises(ValueError, match="at least one time step"):
        stepper(np.zeros((2, 0), int))
    with pytest.raises(ValueError, match="expected 2 streams"):
        stepper([[3]])
    np.testing.assert_array_equal(stepper.state, state)
    with pytest.raises(ValueError, match=r"state: expected numbers of shape \(2, 8\)"):
        stepper.state = np.zeros((2, 7))


@pytest.mark.parametrize(
    "stack, words",
    [
        (lambda: [L.Bidirectional(L.LSTM(3, name="b"))], "from its end"),
        (lambda: [L.LSTM(3, go_backwards=True)], "from its end"),
        (lambda: [L.LSTM(3, stateful=True)], "neither option"),
        (lambda: [L.LSTM(3), L.RepeatVector(2), L.LSTM(3)], "gives no time steps"),
        (lambda: [L.Conv1D(3, 2), L.LSTM(3)], "Conv1D may need several"),
        (lambda: [L.DepthwiseConv1D(2), L.LSTM(3)], "DepthwiseConv1D may need several"),
        (lambda: [L.SeparableConv1D(3, 2), L.LSTM(3)], "SeparableConv1D may need several"),
        (lambda: [L.Conv1DTranspose(3, 2), L.LSTM(3)], "Conv1DTranspose may need several"),
        (lambda: [L.GroupNormalization(2), L.LSTM(3)], "GroupNormalization may need several"),
        (lambda: [L.UnitNormalization([1, 2]), L.LSTM(3)], "UnitNormalization may need several"),
        (lambda: [L.RMSNormalization([1, 2]), L.LSTM(3)], "RMSNormalization may need several"),
        (lambda: [L.Normalization([1, 2]), L.LSTM(3)], "Normalization may need several"),
        (lambda: [L.UpSampling1D(), L.LSTM(3)], "UpSampling1D may need several"),
        (lambda: [L.ZeroPadding1D(), L.LSTM(3)], "ZeroPadding1D may need several"),
        (lambda: [L.Cropping1D(), L.LSTM(3)], "Cropping1D may need several"),
        (
            lambda: [
                L.Reshape((6, 2, 2, 1)),
                L.TimeDistributed(L.Conv2D(3, 2)),
                L.TimeDistributed(L.Flatten()),
                L.LSTM(3),
            ],
            "Reshape may need several",
        ),
        (lambda: [L.Rescaling(np.ones((6, 1))), L.LSTM(3)], "Rescaling may need several"),
        (lambda: [L.LSTM(3, return_sequences=True), L.BatchNormalization(axis=1)], "several"),
    ],
)
def test_what_cannot_be_streamed(stack, words):
    model = fastrnn.Sequential([L.Input(batch_shape=(2, 6, 4)), *stack()])
    with pytest.raises(ValueError, match=f"layer '.*{words}"):
        model.stream(2)
    with pytest.raises(ValueError, match="streams: expected a whole number"):
        model.stream(0)


# --- streams of graphs ---


def watch():
    """Two sequences and what does not change, branches, a layer and a model called twice, outputs
    of each step and of the last."""
    x, y, fixed = (
        fastrnn.Input((None, 4), name="x"), fastrnn.Input((9, 4), name="y"),
        fastrnn.Input((5,), name="fixed"),
    )  # fmt: skip
    shared = L.LSTM(5, return_sequences=True, name="shared")
    one, other = shared(x), shared(y)
    a = fastrnn.Input((None, 5))
    again = L.GRU(5, return_sequences=True)
    inner = fastrnn.Model(a, L.Maximum()([again(a), again(L.Dense(5)(a))]), name="inner")
    both = L.Subtract()([inner(one), inner(other)])
    moved = L.Multiply()([both, L.Dense(5, activation="tanh")(fixed)])
    joined = L.Concatenate()([moved, L.LayerNormalization()(one), y])
    states, h, c = L.LSTM(3, return_sequences=True, return_state=True)(joined)
    first, _ = L.GRU(4, return_state=True)(moved)
    score = L.Dense(2)(L.Concatenate()([L.Add()([h, c]), first, fixed]))
    outputs = {"steps": L.Dense(2)(states), "end": score, "fixed": L.Dense(1)(fixed), "c": c}
    return fastrnn.Model([x, y, fixed], outputs)


def watched(rng, streams=3, timesteps=9):
    x = {name: rng.standard_normal((streams, timesteps, 4), np.float32) for name in "xy"}
    return x, rng.standard_normal((streams, 5), np.float32)


def test_streams_of_graphs(rng):
    model, (x, fixed) = watch(), watched(rng)
    expected = model.predict({**x, "fixed": fixed}, verbose=0)
    stepper = model.stream(3)
    assert stepper.state.shape == (3, 2 * 2 * 5 + 2 * 2 * 5 + 2 * 3 + 4)
    found = []
    for begin, end in ((0, 4), (4, 5), (5, 7)):
        chunk = {name: value[:, begin:end] for name, value in x.items()}
        found.append(stepper({**chunk, "fixed": fixed}))
    saved = stepper.state
    for _ in range(2):
        later = [stepper([x["x"][:, t], x["y"][:, t], fixed]) for t in (7, 8)]
        steps = [y["steps"] for y in found] + [y["steps"][:, None] for y in later]
        close(np.concatenate(steps, axis=1), expected["steps"])
        for name in ("end", "fixed", "c"):
            close(later[-1][name], expected[name])
        stepper.state = saved
    stepper.reset()
    for name, y in stepper({**x, "fixed": fixed}).items():
        close(y, expected[name])
    assert "(3, None, 4), (3, None, 4), (3, 5)" in repr(stepper)
    wrong = [x["x"][:, 0], x["y"][:, :2], fixed]
    with pytest.raises(ValueError, match="x, input 'x': expected 3 streams in an array of shape"):
        stepper(wrong)
    with pytest.raises(ValueError, match=r"input 'fixed': .* shape \(3, 5\), received \(2, 5\)"):
        stepper([x["x"], x["y"], fixed[:2]])
    with pytest.raises(ValueError, match="out: expected None for a model of several outputs"):
        stepper([x["x"], x["y"], fixed], out=np.empty((3, 9, 2)))


def test_streams_of_small_graphs(rng):
    x = rng.integers(1, 9, (2, 6))
    words = fastrnn.Input((None,), dtype="int32", name="words")
    vectors = L.Embedding(9, 5, mask_zero=True)(words)
    memory = L.GRU(4, activation="gelu", return_state=True)  # in NumPy
    last, state = memory(vectors)
    again, _ = memory(L.Dense(5)(vectors))
    model = fastrnn.Model(words, L.Concatenate()([last, state, again]))
    stepper, expected = model.stream(2), model.predict(x, verbose=0)
    for t in range(6):
        y = stepper(x[:, t])
    close(y, expected)
    stepper.reset()
    out = np.empty((2, 12), np.float32)
    assert stepper(x, out=out) is out
    close(out, expected)
    with pytest.raises(ValueError, match="streams take no padding"):
        stepper([[3, 0], [1, 2]])
    chain = fastrnn.Sequential([fastrnn.Input((None, 3)), L.LSTM(4, return_state=True)])
    x = rng.standard_normal((2, 6, 3), np.float32)
    stepper = chain.stream(2)
    for t in range(6):
        found = stepper(x[:, t])
    for y, other in zip(found, chain.predict(x, verbose=0), strict=True):
        close(y, other)
    np.testing.assert_array_equal(stepper.state, np.hstack(found[1:]))


def random_graph(rng):
    """A graph of which each step can be computed alone, and its inputs' names."""
    inputs = [fastrnn.Input((None, 4), name="a"), fastrnn.Input((4,), name="b")]
    steps, lasts, shared = [inputs[0]], [inputs[1]], {}

    def some(tensors):
        return tensors[rng.integers(len(tensors))]

    def layer(kind, make):
        if kind not in shared or rng.integers(2):
            shared[kind] = make()
        return shared[kind]

    for _ in range(rng.integers(3, 10)):
        choice = rng.integers(8)
        if choice == 0:
            steps.append(layer(0, lambda: L.LSTM(4, return_sequences=True))(some(steps)))
        elif choice == 1:
            steps.append(layer(1, lambda: L.Dense(4, activation="tanh"))(some(steps)))
        elif choice == 2:
            kind = rng.choice(["Add", "Average", "Maximum", "Minimum", "Multiply"])
            steps.append(getattr(L, kind)()([some(steps), some(steps)]))
        elif choice == 3:
            steps.append(L.Dense(4)(L.Concatenate()([some(steps), some(steps)])))
        elif choice == 4:
            y, h = layer(4, lambda: L.GRU(4, return_sequences=True, return_state=True))(some(steps))
            steps.append(y)
            lasts.append(h)
        elif choice == 5:
            lasts.append(layer(5, lambda: L.SimpleRNN(4))(some(steps)))
        elif choice == 6:
            lasts.append(L.Subtract()([some(lasts), some(lasts)]))
        elif choice == 7:
            steps.append(L.Add()([some(steps), L.Dense(4)(inputs[1])]))
    return fastrnn.Model(inputs, [L.Dense(2)(steps[-1]), L.Dense(3)(lasts[-1]), some(steps)])


@pytest.mark.parametrize("seed", range(40))
def test_streams_of_random_graphs(seed):
    rng = np.random.default_rng(seed)
    model = random_graph(rng)
    x, fixed = rng.standard_normal((2, 7, 4), np.float32), rng.standard_normal((2, 4), np.float32)
    expected, stepper, found, at = model.predict([x, fixed], verbose=0), model.stream(2), [], 0
    while at < 7:
        count = int(rng.integers(1, 4))
        if count == 1:
            first, last, second = stepper([x[:, at], fixed])
            found.append([first[:, None], last, second[:, None]])
        else:
            found.append(stepper([x[:, at : at + count], fixed]))
        at += count
    for place in (0, 2):
        close(np.concatenate([part[place] for part in found], axis=1), expected[place])
    close(found[-1][1], expected[1])


def test_streams_of_operations(rng):
    x, fixed = fastrnn.Input((None, 4), name="x"), fastrnn.Input((4,), name="fixed")
    y = L.LSTM(4, return_sequences=True)(2 * x - 1)
    y = ops.tanh(y) * x + ops.expand_dims(fixed, 1) - np.arange(4.0)
    y = ops.concatenate([y, ops.softmax(x)[..., 1:], ops.max(x, axis=-1, keepdims=True)], axis=-1)
    last = L.Dense(3)(y[:, -1]) + ops.sum(fixed, axis=1, keepdims=True)
    model = fastrnn.Model([x, fixed], [ops.mean(y, axis=2), last, y[..., 0]])
    x, fixed = rng.standard_normal((2, 5, 4), np.float32), rng.standard_normal((2, 4), np.float32)
    expected, stepper = model.predict([x, fixed], verbose=0), model.stream(2)
    found = [stepper([x[:, :2], fixed])]
    for t in (2, 3, 4):
        means, last, firsts = stepper([x[:, t], fixed])
        found.append([means[:, None], last, firsts[:, None]])
    for place in (0, 2):
        close(np.concatenate([part[place] for part in found], axis=1), expected[place])
    close(found[-1][1], expected[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda x, f: x[:, 0],
        lambda x, f: x[:, 1:],
        lambda x, f: x[0],
        lambda x, f: x[:, None],
        lambda x, f: ops.mean(x),
        lambda x, f: ops.mean(x, axis=1),
        lambda x, f: ops.flip(x, axis=1),
        lambda x, f: ops.cumsum(x, axis=1),
        lambda x, f: ops.softmax(x, axis=1),
        lambda x, f: ops.concatenate([x, x], axis=1),
        lambda x, f: x + L.LSTM(4)(x)[:, None],
        lambda x, f: x[:, -1] + x,
        lambda x, f: x + f,
        lambda x, f: x * np.ones((6, 1)),
        lambda x, f: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
        lambda x, f: L.Dense(2)(ops.mean(x, axis=-1)),
    ],
)
def test_operations_that_cannot_be_streamed(make):
    x, fixed = fastrnn.Input(batch_shape=(6, 6, 4)), fastrnn.Input(batch_shape=(6, 4))
    with pytest.raises(ValueError, match="stream: layer '.*': .* may need several time steps"):
        fastrnn.Model([x, fixed], [make(x, fixed), L.Dense(1)(fixed)]).stream(6)


@pytest.mark.parametrize(
    "make, name, words",
    [
        (lambda x, f: L.LSTM(4, name="bad")(x, initial_state=[f, f]), "bad", "begins with states"),
        (
            lambda x, f: L.Concatenate(axis=1, name="bad")([x, x]), "bad",
            "joins inputs along the time steps",
        ),
        (
            lambda x, f: L.Add(name="bad")([x, L.LSTM(4)(x)]), "bad",
            "needs the end of a sequence beside earlier",
        ),
        (
            lambda x, f: L.Add(name="bad")([x, L.RepeatVector(6)(f)]), "bad",
            "needs time steps that a stream does not have yet",
        ),
        (lambda x, f: L.Attention(name="bad")([x, x]), "bad", "Attention may need several"),
        (lambda x, f: L.Dot(2, name="bad")([x, x]), "bad", "Dot may need several time steps"),
        (lambda x, f: L.GlobalMaxPooling1D(name="bad")(x), "bad", "may need several time steps"),
        (lambda x, f: L.GRU(4, name="bad")(L.RepeatVector(6)(f)), "bad", "gives no time steps"),
        (lambda x, f: L.LSTM(4, name="bad", stateful=True)(x), "bad", "keeps or returns its state"),
        (lambda x, f: L.GRU(4)(L.Masking(name="bad")(L.Dense(4)(x))), "bad", "take no padding"),
        (
            lambda x, f: fastrnn.Model(x, L.Bidirectional(L.GRU(2), name="bad")(x))(L.Dense(4)(x)),
            "bad", "from its end",
        ),
        (lambda x, f: L.LSTM(4, name="bad")(x, mask=x[..., 0] > 0), "bad", "is given a mask"),
        (lambda x, f: L.LSTM(4, name="bad")(x, training=True), "bad", "says training=True"),
        (
            lambda x, f: fastrnn.Sequential(
                [fastrnn.Input((6, 4)), L.LSTM(4)], name="bad"
            )(x, training=True), "bad", "says training=True",
        ),
    ],
)  # fmt: skip
def test_paths_that_cannot_be_streamed(make, name, words):
    x, fixed = fastrnn.Input(batch_shape=(2, 6, 4), name="x"), fastrnn.Input((4,), name="fixed")
    if words == "keeps or returns its state":
        fixed = fastrnn.Input(batch_shape=(2, 4), name="fixed")
    ends = [make(x, fixed), L.Dense(1)(fixed), L.LSTM(2)(x)]
    with pytest.raises(ValueError, match=f"stream: layer '{name}': .*{words}"):
        fastrnn.Model([x, fixed], ends).stream(2)
