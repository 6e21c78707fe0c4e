"""ConvLSTM1D and ConvLSTM2D against a plain float64 reference: outputs, states, gradients."""

import itertools
import threading

import numpy as np
import pytest
from gradcheck import numeric_gradient
from oracle import ACTIVATIONS

import fastrnn
from fastrnn import _engine
from fastrnn import layers as L
from fastrnn.run import Run

B, T = 3, 4


def windows(size, kernel, stride, padding, dilation):
    """For each window the places on an axis that it sees, -1 beyond its ends."""
    reach = (kernel - 1) * dilation + 1
    count = (size - reach) // stride + 1 if padding == "valid" else -(-size // stride)
    before = 0 if padding == "valid" else max((count - 1) * stride + reach - size, 0) // 2
    starts = [n * stride - before for n in range(count)]
    places = [[start + k * dilation for k in range(kernel)] for start in starts]
    return np.array([[p if 0 <= p < size else -1 for p in seen] for seen in places])


def convolution(x, kernel, strides, padding, dilation):
    """x (batch, height, width, channels), kernel (rows, columns, channels, filters)."""
    down, across = (
        windows(*arguments, padding, d)
        for *arguments, d in zip(x.shape[1:3], kernel.shape[:2], strides, dilation, strict=True)
    )
    x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))  # -1 is a row, or column, of zeros
    return sum(
        x[:, down[:, i]][:, :, across[:, j]] @ kernel[i, j]
        for i, j in itertools.product(*map(range, kernel.shape[:2]))
    )


def reference(layer, x, weights, states=None, mask=None, dropped=None, recurrent_dropped=None):
    """[outputs, h, c] of a layer with channels last, of x (batch, timesteps, *sizes, channels)."""
    pair = {"kernel_size": layer.kernel_size, "strides": layer.strides}
    pair["dilation"] = layer.dilation_rate
    if layer.rank == 1:
        x = x[:, :, None]
        weights = [weights[0][None], weights[1][None], *weights[2:]]
        pair = {name: (1, *value) for name, value in pair.items()}
        states = states and [state[:, None] for state in states]
        mask = mask[:, :, None] if mask is not None and mask.ndim > 2 else mask
        dropped, recurrent_dropped = (
            masks and [m[:, None] for m in masks] for masks in (dropped, recurrent_dropped)
        )
    kernel, recurrent = (np.split(w, 4, axis=3) for w in weights[:2])
    biases = np.split(weights[2], 4) if layer.use_bias else [0] * 4
    act, rec = (ACTIVATIONS[f.__name__][0] for f in (layer.activation, layer.recurrent_activation))
    if layer.go_backwards:
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    outputs, out = [], 0.0
    for t in range(x.shape[1]):
        z = [
            convolution(
                x[:, t] if dropped is None else x[:, t] * dropped[gate],
                kernel[gate], pair["strides"], layer.padding, pair["dilation"],
            )
            + biases[gate]
            for gate in range(4)
        ]  # fmt: skip
        h, c = states or (np.zeros_like(z[0]), np.zeros_like(z[0]))
        for gate in range(4):
            seen = h if recurrent_dropped is None else h * recurrent_dropped[gate]
            z[gate] = z[gate] + convolution(seen, recurrent[gate], (1, 1), "same", (1, 1))
        new_c = rec(z[1]) * c + rec(z[0]) * act(z[2])
        new_h = rec(z[3]) * act(new_c)
        on = np.True_ if mask is None else mask[:, t]
        on = on.reshape(on.shape + (1,) * (4 - on.ndim))
        states = np.where(on, new_h, h), np.where(on, new_c, c)
        out = np.where(on, new_h, 0.0 if layer.zero_output_for_mask else out)
        outputs.append(out)
    y = np.stack(outputs, axis=1) if layer.return_sequences else out
    results = [y, *states]
    if layer.rank == 1:
        results = [
            a.squeeze(2 if n == 0 and layer.return_sequences else 1) for n, a in enumerate(results)
        ]
    return results


def example(rng, layer, shape):
    """The layer built with random weights, x, and those weights in float64."""
    x = rng.standard_normal((B, T, *shape)).astype(np.float32)
    layer.build((None, None, *shape))
    layer.set_weights([0.4 * rng.standard_normal(w.shape) for w in layer.weights])
    return x, [w.astype(np.float64) for w in layer.get_weights()]


GEOMETRIES = [
    *((1, size, *rest) for size in (1, 2, 3, 5) for rest in (
        (1, "same", 1), (1, "valid", 1), (2, "same", 1), (3, "valid", 1), (1, "same", 2),
    )),
    *((2, size, *rest) for size in (1, 2, (1, 3), (3, 2)) for rest in (
        (1, "same", 1), (1, "valid", 1), (2, "same", 1), ((1, 2), "valid", 1), (1, "same", (2, 1)),
        (1, "valid", 2),
    )),
    (2, (7, 4), 1, "same", 1), (2, (5, 6), 1, "valid", 1), (1, 9, 1, "same", 1),
]  # fmt: skip


@pytest.mark.parametrize("rank, size, strides, padding, dilation", GEOMETRIES)
def test_geometries(rng, rank, size, strides, padding, dilation):
    make = L.ConvLSTM1D if rank == 1 else L.ConvLSTM2D
    layer = make(
        3, size, strides, padding, dilation_rate=dilation, return_sequences=True, return_state=True
    )
    x, weights = example(rng, layer, (11, 2) if rank == 1 else (5, 6, 2))
    expected = reference(layer, x, weights)
    for actual, wanted, shape in zip(
        layer(x), expected, layer.compute_output_shape(x.shape), strict=True
    ):
        assert actual.shape == wanted.shape == shape
        np.testing.assert_allclose(actual, wanted, atol=2e-6)


OPTIONS = {
    "plain": {},
    "sequences": {"return_sequences": True},
    "backwards": {"return_sequences": True, "go_backwards": True, "use_bias": False},
    "zeros": {"return_sequences": True, "zero_output_for_mask": True},
    "last or zeros": {"zero_output_for_mask": True, "activation": "relu"},
    "valid": {"padding": "valid", "return_sequences": True, "recurrent_activation": "hard_sigmoid"},
    "numpy": {"activation": "gelu", "return_sequences": True},
    "softmax": {"activation": "softmax", "strides": 2},
    "strides": {"strides": 2, "return_sequences": True, "activation": "softsign"},
    "dilation": {"padding": "valid", "dilation_rate": 2},
}


@pytest.mark.parametrize("masked", [None, "steps", "pixels"])
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("name", OPTIONS)
def test_outputs_and_gradients(rng, name, rank, masked):
    """Gradients in random directions, against those of the reference by central differences."""
    options = {"padding": "same", "return_state": True, **OPTIONS[name]}
    layer = (L.ConvLSTM1D if rank == 1 else L.ConvLSTM2D)(2, 3 if rank == 1 else (3, 2), **options)
    x, weights = example(rng, layer, (6, 2) if rank == 1 else (5, 6, 2))
    shape = layer.state_shape(B)
    states = [rng.standard_normal(shape).astype(np.float32) for _ in range(2)]
    mask = None
    if masked:
        mask = rng.random((B, T) if masked == "steps" else (B, T, *shape[1:-1])) < 0.6
        mask[0], mask[1] = True, False
    inputs = [x, *states]

    run = Run(training=True)
    for weight in layer.weights:
        weight.gradient = np.full(weight.shape, np.nan, np.float32)
    outputs = layer.forward(inputs, run, None if mask is None else [mask, None, None])
    exact = [a.astype(np.float64) for a in inputs]
    for actual, wanted in zip(
        outputs, reference(layer, exact[0], weights, exact[1:], mask), strict=True
    ):
        np.testing.assert_allclose(actual, wanted, atol=3e-6)
    without = layer.forward(inputs, Run(), None if mask is None else [mask, None, None])
    for actual, wanted in zip(without, outputs, strict=True):
        np.testing.assert_array_equal(actual, wanted)

    dys = [rng.standard_normal(y.shape).astype(np.float32) for y in outputs]
    gradients = [
        *layer.backward([dy.copy() for dy in dys], run),
        *(w.gradient for w in layer.weights),
    ]
    arrays = [*exact, *weights]
    for number, (gradient, array) in enumerate(zip(gradients, arrays, strict=True)):
        direction = rng.standard_normal(array.shape)

        def along(step, number=number, direction=direction):
            moved = list(arrays)
            moved[number] = moved[number] + step * direction
            results = reference(layer, moved[0], moved[3:], moved[1:3], mask)
            return sum((y * dy).sum() for y, dy in zip(results, dys, strict=True))

        expected = (along(1e-5) - along(-1e-5)) / 2e-5
        assert abs((gradient * direction).sum() - expected) < 2e-5 * (
            1 + np.linalg.norm(gradient) * np.sqrt(array.size)
        )


def test_every_gradient(rng):
    layer = L.ConvLSTM2D(2, 2, padding="same", return_sequences=True)
    x, weights = example(rng, layer, (2, 3, 1))
    x = np.ascontiguousarray(x[:1, :3])
    dy = rng.standard_normal((1, 3, 2, 3, 2)).astype(np.float32)
    run = Run(training=True)
    for weight in layer.weights:
        weight.gradient = np.full(weight.shape, np.nan, np.float32)
    layer.forward(x, run)
    dx = layer.backward(dy.copy(), run)
    exact = x.astype(np.float64)
    arrays = [exact, *weights]
    for gradient, array in zip([dx, *(w.gradient for w in layer.weights)], arrays, strict=True):
        expected = numeric_gradient(lambda: (reference(layer, exact, weights)[0] * dy).sum(), array)
        np.testing.assert_allclose(gradient, expected, atol=2e-5)


@pytest.mark.parametrize("rank, strides", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5), (0.4, 0.3)])
def test_dropout_has_a_mask_for_each_gate(rng, monkeypatch, rank, strides, rates):
    make = L.ConvLSTM1D if rank == 1 else L.ConvLSTM2D
    layer = make(
        2, 3, strides, "same", dropout=rates[0], recurrent_dropout=rates[1], return_sequences=True
    )
    x, weights = example(rng, layer, (6, 2) if rank == 1 else (5, 6, 2))
    drawn, draw = [], layer.dropout_masks

    def masks(rate, shape, count):
        drawn.append(draw(rate, shape, count))
        return drawn[-1]

    monkeypatch.setattr(layer, "dropout_masks", masks)
    run = Run(training=True)
    for weight in layer.weights:
        weight.gradient = np.full(weight.shape, np.nan, np.float32)
    y = layer.forward(x, run)
    dropped, recurrent_dropped = drawn if rates[0] else (None, drawn[0])
    shapes = x[:, 0].shape, layer.state_shape(B)
    for given, shape, rate in zip((dropped, recurrent_dropped), shapes, rates, strict=True):
        assert (given is None) == (rate == 0)
        for one in given or ():
            assert one.shape == shape and set(np.unique(one)) == {0, np.float32(1 / (1 - rate))}
        assert given is None or not np.array_equal(given[0], given[1])
    exact, dropping = x.astype(np.float64), (dropped, recurrent_dropped)
    np.testing.assert_allclose(
        y, reference(layer, exact, weights, None, None, *dropping)[0], atol=3e-6
    )
    dy = rng.standard_normal(y.shape).astype(np.float32)
    gradients = [layer.backward(dy.copy(), run), *(w.gradient for w in layer.weights)]
    arrays = [exact, *weights]
    for number, gradient in enumerate(gradients):
        direction = rng.standard_normal(gradient.shape)

        def along(step, number=number, direction=direction):
            moved = list(arrays)
            moved[number] = moved[number] + step * direction
            return (reference(layer, moved[0], moved[1:], None, None, *dropping)[0] * dy).sum()

        expected = (along(1e-5) - along(-1e-5)) / 2e-5
        assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-3, abs=1e-3)
    np.testing.assert_allclose(layer(x), reference(layer, exact, weights)[0], atol=3e-6)


@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"activation": "gelu"}])
@pytest.mark.parametrize("rank", [1, 2])
def test_channels_first(rng, rank, options):
    make = L.ConvLSTM1D if rank == 1 else L.ConvLSTM2D
    options = {"padding": "same", "return_sequences": True, "return_state": True, **options}
    options |= {"dropout": 0.3, "recurrent_dropout": 0.3}
    last, first = (make(2, 3, data_format=f"channels_{f}", **options) for f in ("last", "first"))
    x, _ = example(rng, last, (6, 3) if rank == 1 else (5, 6, 3))
    first.build((None, None, *np.moveaxis(x, -1, 2).shape[2:]))
    first.set_weights(last.get_weights())
    states = [rng.standard_normal(last.state_shape(B)).astype(np.float32) for _ in range(2)]
    swapped = [np.ascontiguousarray(np.moveaxis(s, -1, 1)) for s in states]
    mask = rng.random((B, T)) < 0.7
    assert first.state_shape(B) == swapped[0].shape
    runs = [Run(), Run()]
    ys = last.forward([x, *states], runs[0], [mask, None, None])
    zs = first.forward(
        [np.ascontiguousarray(np.moveaxis(x, -1, 2)), *swapped], runs[1], [mask, None, None]
    )
    for y, z, axis in zip(ys, zs, (2, 1, 1), strict=True):
        np.testing.assert_array_equal(np.moveaxis(y, -1, axis), z)
    with pytest.raises(ValueError, match=r"mask: expected shape \(3, 4\), or its first axes"):
        first(np.moveaxis(x, -1, 2), mask=np.ones((B, T, 3), bool))


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
def test_bidirectional(rng, mode):
    options = {"padding": "same", "return_sequences": True}
    layer = L.Bidirectional(L.ConvLSTM2D(2, 3, **options), merge_mode=mode)
    x = rng.standard_normal((B, T, 4, 5, 2)).astype(np.float32)
    both = layer(x)
    forward = layer.forward_layer(x)
    backward = layer.backward_layer(x)[:, ::-1]
    expected = {
        "concat": lambda: np.concatenate([forward, backward], axis=-1),
        "sum": lambda: forward + backward, "mul": lambda: forward * backward,
        "ave": lambda: (forward + backward) / 2, None: lambda: [forward, backward],
    }[mode]()  # fmt: skip
    np.testing.assert_allclose(both, expected, atol=1e-6)
    assert [w.path.split("/", 1)[1] for w in layer.weights[:2]] == [
        f"{layer.forward_layer.name}/{name}" for name in ("kernel", "recurrent_kernel")
    ]


def test_bidirectional_of_channels_first_lies_side_by_side():
    """As Keras, which joins the last axes."""
    layer = L.Bidirectional(L.ConvLSTM2D(2, 3, padding="same", data_format="channels_first"))
    x = np.random.default_rng(0).standard_normal((B, T, 2, 4, 5)).astype(np.float32)
    y = layer(x)
    assert y.shape == layer.compute_output_shape(x.shape) == (B, 2, 4, 10)
    np.testing.assert_array_equal(y[..., :5], layer.forward_layer(x))
    np.testing.assert_array_equal(y[..., 5:], layer.backward_layer(x))


def test_passes_of_other_sizes_leave_nothing_behind(rng):
    """What lies around the images in memory that is used again is zeros each time."""
    layer = L.ConvLSTM2D(3, 3, padding="same", return_state=True)
    _, weights = example(rng, layer, (4, 5, 2))
    runs = [Run(), Run(training=True)]
    for batch, steps in ((4, 3), (2, 3), (2, 5), (4, 3), (1, 1)):
        x = rng.standard_normal((batch, steps, 4, 5, 2)).astype(np.float32)
        states = [rng.standard_normal((batch, 4, 5, 3)).astype(np.float32) for _ in range(2)]
        for run in runs:
            for given, begin in (([x, *states], states), (x, None)):
                for actual, wanted in zip(
                    layer.forward(given, run), reference(layer, x, weights, begin), strict=True
                ):
                    np.testing.assert_allclose(actual, wanted, atol=3e-6)


@pytest.mark.parametrize("isa", _engine.available_isas())
@pytest.mark.parametrize("filters", [1, 4, 7, 17, 33])
def test_instruction_sets(rng, isa, filters):
    before = _engine.isa()
    layer = L.ConvLSTM2D(filters, 3, padding="same", return_sequences=True)
    x, weights = example(rng, layer, (3, 4, 2))
    try:
        _engine.set_isa(isa)
        np.testing.assert_allclose(layer(x), reference(layer, x, weights)[0], atol=1e-5)
    finally:
        _engine.set_isa(before)


def test_a_layer_called_twice_in_a_model(rng):
    layer = L.ConvLSTM1D(2, 3, padding="same", return_state=True)
    a, b = L.Input((None, 5, 2)), L.Input((None, 5, 2))
    first, *states = layer(a)
    second, *_ = layer(b, initial_state=states)
    model = fastrnn.Model([a, b], L.Concatenate()([first, second]))
    _, weights = example(rng, layer, (5, 2))
    xs = [rng.standard_normal((B, steps, 5, 2)) for steps in (3, 4)]
    target = rng.standard_normal((B, 5, 4))

    def output(inputs, weights):
        y, *begin = reference(layer, inputs[0], weights)
        return np.concatenate([y, reference(layer, inputs[1], weights, begin)[0]], axis=-1)

    np.testing.assert_allclose(model.predict(xs, verbose=0), output(xs, weights), atol=3e-6)
    model.compile("sgd", "mse")
    _, gradients, _ = fastrnn.training.loss_and_gradients(model, xs, target.astype(np.float32))
    directions = [rng.standard_normal(w.shape) for w in weights]

    def loss(number, step):
        moved = list(weights)
        moved[number] = moved[number] + step * directions[number]
        return ((output(xs, moved) - target) ** 2).mean()

    for number, (gradient, direction) in enumerate(zip(gradients, directions, strict=True)):
        expected = (loss(number, 1e-5) - loss(number, -1e-5)) / 2e-5
        assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_states_between_batches_and_streams(rng):
    stateful = L.ConvLSTM2D(2, 3, padding="same", stateful=True, return_sequences=True)
    x, weights = example(rng, stateful, (3, 4, 1))
    whole = reference(stateful, x, weights)
    parts = [stateful(x[:, :1]), stateful(x[:, 1:])]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole[0], atol=3e-6)
    for state, wanted in zip(stateful.states, whole[1:], strict=True):
        np.testing.assert_allclose(state, wanted, atol=3e-6)
    with pytest.raises(ValueError, match="is stateful with batches of 3 samples, received 2"):
        stateful(x[:2])
    stateful.reset_states()
    np.testing.assert_allclose(stateful(x[:2]), whole[0][:2], atol=3e-6)
    with pytest.raises(ValueError, match=r"\[h, c\] of shape \(3, 3, 4, 2\) each"):
        stateful.reset_states([np.zeros((3, 3, 2))] * 2)

    layer = L.ConvLSTM2D(2, 3, padding="same", return_sequences=True)
    model = fastrnn.Sequential([L.Input((None, 3, 4, 1)), layer, L.TimeDistributed(L.Flatten())])
    layer.set_weights(weights)
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(model.compile_inference()(x), expected)
    stepper = model.stream(B)
    np.testing.assert_allclose(stepper(x[:, 0]), expected[:, 0], atol=1e-6)
    state = stepper.state.copy()
    assert state.shape == (B, 2 * 3 * 4 * 2)
    np.testing.assert_allclose(stepper(x[:, 1:]), expected[:, 1:], atol=1e-6)
    stepper.state = state
    np.testing.assert_allclose(stepper(x[:, 1:]), expected[:, 1:], atol=1e-6)
    stepper.reset([0, 2])
    assert not stepper.state[[0, 2]].any() and stepper.state[1].any()


def test_threads_predict_at_once(rng):
    model = fastrnn.Sequential([L.Input((T, 6, 7, 2)), L.ConvLSTM2D(5, 3, padding="same")])
    predictor = model.compile_inference()
    xs = [rng.standard_normal((n + 1, T, 6, 7, 2)).astype(np.float32) for n in range(4)]
    expected, found = [predictor(x) for x in xs], [None] * 4

    def work(n):
        found[n] = [predictor(xs[n]) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ys, wanted in zip(found, expected, strict=True):
        for y in ys:
            np.testing.assert_array_equal(y, wanted)


def test_older_spellings():
    new = L.ConvLSTM2D(
        3, (2, 3), (1, 2), "same", dropout=0.1, recurrent_dropout=0.2,
        recurrent_activation="hard_sigmoid", recurrent_initializer="ones", kernel_regularizer="l2",
        recurrent_constraint="max_norm", unit_forget_bias=True, data_format="channels_first",
        name="a",
    )  # fmt: skip
    old = L.ConvLSTM2D(
        nb_filter=3, nb_row=2, nb_col=3, subsample=(1, 2), border_mode="same", dropout_W=0.1,
        dropout_U=0.2, inner_activation="hard_sigmoid", inner_init="ones", W_regularizer="l2",
        U_constraint="max_norm", forget_bias_init="one", dim_ordering="th", name="a",
    )  # fmt: skip
    assert old.get_config() == new.get_config()
    assert L.ConvLSTM1D(2, [3], unroll=True, implementation=1).unroll is True


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.ConvLSTM2D(0, 3), "filters: expected a whole number >= 1, received 0"),
        (lambda: L.ConvLSTM2D(2, (3,)), "kernel_size: expected one whole number or two"),
        (lambda: L.ConvLSTM1D(2, (3, 3)), "kernel_size: expected one whole number"),
        (lambda: L.ConvLSTM2D(2, 3, padding="causal"), "padding: expected one of"),
        (lambda: L.ConvLSTM2D(2, 3, 2, dilation_rate=2), "strides, dilation_rate: expected one"),
        (lambda: L.ConvLSTM2D(2, 3, activation="glu"), "expected one that keeps the shape"),
        (lambda: L.ConvLSTM2D(2, 3, dropout=1.5), "dropout: expected a number from 0 to 1"),
        (lambda: L.ConvLSTM2D(2, 3, units=3), r"ConvLSTM2D: unknown arguments \['units'\]"),
        (lambda: L.ConvLSTM1D(2, 3, groups=1), r"ConvLSTM1D: unknown arguments \['groups'\]"),
        (lambda: L.ConvLSTM2D(2, 3, data_format="last"), "data_format: expected"),
        (
            lambda: L.ConvLSTM2D(2, 3)(np.zeros((2, 4, 5, 6))),
            r"'height', 'width', 'channels'\), received \(None, 4, 5, 6\); x\[..., None\] gives",
        ),
        (
            lambda: L.ConvLSTM1D(2, 3, data_format="channels_first").build((None, None, None, 5)),
            r"\('batch', 'timesteps', 'channels', 'width'\) with all but the first two known",
        ),
        (
            lambda: L.ConvLSTM2D(2, 3)(np.zeros((2, 4, 2, 6, 1))),
            "with images of at least 3 x 3, received",
        ),
        (
            lambda: L.ConvLSTM2D(2, 3, padding="same")(
                np.zeros((2, 4, 5, 6, 1)), initial_state=[np.zeros((2, 5, 6, 2))] * 3
            ),
            r"initial_state: expected \[h, c\] of shape \(2, 5, 6, 2\) each",
        ),
        (
            lambda: L.ConvLSTM2D(2, 3)(
                L.Input((4, 5, 6, 1)), initial_state=[L.Input((5, 6, 2))] * 2
            ),
            r"2 initial states of shapes \[\(None, 3, 4, 2\), \(None, 3, 4, 2\)\], received",
        ),
        (
            lambda: L.ConvLSTM2D(2, 3)(np.zeros((2, 4, 5, 6, 1)), mask=np.ones((2, 4, 5, 6), bool)),
            r"mask: expected shape \(2, 4, 3, 4\), or its first axes, .*received \(2, 4, 5, 6\)",
        ),
        (
            lambda: L.Bidirectional(
                L.ConvLSTM2D(2, 3), backward_layer=L.ConvLSTM2D(2, 2, go_backwards=True)
            )(np.zeros((2, 4, 5, 6, 1))),
            r"in the last size at most, received shapes \(None, 3, 4, 2\) and \(None, 4, 5, 2\)",
        ),
    ],
)  # fmt: skip
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("wrap", [lambda layer: layer, L.Bidirectional])
def test_formats_without_it_name_the_layer(wrap, tmp_path):
    layer = wrap(L.ConvLSTM1D(2, 3, name="films"))
    model = fastrnn.Sequential([L.Input((3, 8)), L.Reshape((3, 4, 2)), layer])
    with pytest.raises(ValueError, match="to_onnx: layer '(forward_)?films': ConvLSTM1D is not"):
        fastrnn.to_onnx(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="to_c: layer 'reshape.*': outputs of shape"):
        fastrnn.to_c(model)


def test_a_built_layer_takes_images_of_its_size_only():
    """Sequences and batches of any, as in Keras."""
    layer = L.ConvLSTM2D(2, 3, padding="same")
    layer(np.zeros((2, 4, 5, 6, 1)))
    assert layer(np.zeros((3, 7, 5, 6, 1))).shape == (3, 5, 6, 2)
    with pytest.raises(ValueError, match=r"\(None, None, 5, 6, 1\), received \(2, 4, 5, 7, 1\)"):
        layer(np.zeros((2, 4, 5, 7, 1)))
