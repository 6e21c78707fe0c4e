"""Layers that merge several inputs against Keras: outputs, masks, gradients, and in graphs."""

import comparison
import numpy as np
import pytest
from comparison import keras, tf
from test_surrounding_layers import compare, pick

import fastrnn
from fastrnn.run import Run
from fastrnn.variable import Store

pytestmark = pytest.mark.filterwarnings("ignore:.*does not support masking")

NAMES = "Add Average Subtract Multiply Maximum Minimum Concatenate Dot".split()


def draw(name, rng):
    """(shapes, options, which inputs are masked)"""
    batch, timesteps, channels = (int(n) for n in rng.integers((1, 3, 1), (5, 8, 6)))
    count = int(rng.integers(1, 5))
    whole = (batch, timesteps, channels)
    if name == "Dot":
        # A normalised vector of one number is 1 or -1, and its gradient is all rounding.
        channels, other = channels + 1, int(rng.integers(1, 6))
        whole = (batch, timesteps, channels)
        axes, *shapes = pick(
            rng,
            (2, whole, (batch, other, channels)),
            (-1, whole, (batch, other, channels)),
            (1, whole, (batch, timesteps, other)),
            ((2, 1), whole, (batch, channels, other)),
            ([1, -1], whole, (batch, other, timesteps)),
            ((1, 1), whole, (batch, timesteps)),
            ((-1, 2), (batch, channels), whole),
            (1, (batch, channels), (batch, channels)),
            ((3, 2), (batch, 2, other, channels), whole),
            ((2, 2), (batch, 2, channels, other), whole),
        )
        return shapes, {"axes": axes, "normalize": pick(rng, False, True)}, [False, False]
    if name == "Concatenate":
        axis = pick(rng, -1, 1, 2, -2)
        shapes = [list(whole) for _ in range(count)]
        for shape in shapes:
            shape[axis] = int(rng.integers(1, 5))
        options = {"axis": axis}
    else:
        count = 2 if name == "Subtract" else count
        one_step, one_channel = (batch, 1, channels), (batch, timesteps, 1)
        shapes = [whole, *(pick(rng, whole, whole, one_step, one_channel) for _ in range(count))]
        shapes = [shapes[i] for i in rng.permutation(len(shapes))][:count]
        if rng.random() < 0.2 and count > 1:
            shapes[0] = (batch, channels)
        options = {}
    masked = [len(shape) == 3 and rng.random() < 0.7 for shape in shapes]
    return shapes, options, masked


def run_keras(layer, xs, masks, dy):
    """(output, mask, gradients of the inputs)"""
    tensors = [tf.convert_to_tensor(x) for x in xs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        given = [tf.identity(tensor) for tensor in tensors]
        for tensor, mask in zip(given, masks, strict=True):
            if mask is not None:
                tensor._keras_mask = tf.convert_to_tensor(mask)
        y = layer(given)
        mask = getattr(y, "_keras_mask", None)
        total = tf.reduce_sum(y * dy(y.shape))
    gradients = [g.numpy() for g in tape.gradient(total, tensors)]
    return y.numpy(), None if mask is None else mask.numpy(), gradients


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", NAMES)
def test_outputs_gradients_and_masks(name, seed, tally):
    rng = np.random.default_rng([seed, *name.encode()])
    shapes, options, masked = draw(name, rng)
    case = f"{name} {shapes} {options} {masked}"
    print(case)
    xs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    if seed % 3 == 0 and not options.get("normalize"):
        xs = [np.round(x) for x in xs]  # equal values
    masks = [
        rng.random(x.shape[:2]) < 0.6 if has else None for x, has in zip(xs, masked, strict=True)
    ]
    own, theirs = getattr(fastrnn.layers, name)(**options), getattr(keras.layers, name)(**options)

    def dy(shape):
        return np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)

    y, mask, gradients = run_keras(theirs, xs, masks, dy)
    shapes = [x.shape for x in xs]
    assert own.compute_output_shape(shapes) == tuple(theirs.compute_output_shape(shapes))
    free = [(None, *shape[1:]) for shape in shapes]
    assert own.compute_output_shape(free) == tuple(theirs.compute_output_shape(free))
    run = Run(training=True)
    own.build(free)
    given = masks if any(masked) else None
    found = own.forward([x.copy() for x in xs], run, given)
    compare(tally, case, "output", [found], [y])
    np.testing.assert_allclose(own(xs, mask=given), found, rtol=1e-6)
    own_mask = own.compute_mask(xs, given)
    assert (own_mask is None) == (mask is None)
    if mask is not None:
        np.testing.assert_array_equal(own_mask, mask)
    compare(tally, case, "gradient of the input", own.backward(dy(y.shape), run), gradients)
    tally.compared(name)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_of_symbolic_inputs(name):
    free = [(None, 3), (5, 3), (1, 3), (None, 1), (5, None), (3,), *([()] * (name != "Dot"))]
    for one in free:
        for other in free:
            try:
                options = {"axes": -1} if name == "Dot" else {}
                expected = getattr(keras.layers, name)(**options)(
                    [keras.Input(one), keras.Input(other)]
                )
            except (ValueError, IndexError):
                continue
            tensors = [fastrnn.Input(one), fastrnn.Input(other)]
            found = getattr(fastrnn.layers, name)(**options)(tensors)
            assert found.shape == expected.shape, (one, other)


# --- graphs ---


def encoded(m, x, **options):
    return m.layers.Bidirectional(m.layers.LSTM(3, return_sequences=True, **options))(x)


def residual(m, tokens):
    x = m.layers.Embedding(12, 6, mask_zero=True)(tokens)
    x = m.layers.Add()([x, encoded(m, x)])
    return m.layers.Dense(2)(m.layers.GRU(4)(x))


def gated(m, tokens):
    x = m.layers.Embedding(12, 6, mask_zero=True)(tokens)
    gate = m.layers.Dense(6, activation="sigmoid")(x)
    x = m.layers.Multiply()([encoded(m, x), gate])
    return m.layers.Dense(2)(m.layers.LSTM(4)(x))


def gated_by_the_whole(m, tokens):
    x = m.layers.Embedding(12, 6)(tokens)
    gate = m.layers.Dense(6, activation="sigmoid")(m.layers.GlobalAveragePooling1D()(x))
    return m.layers.Dense(2)(m.layers.GRU(4)(m.layers.multiply([gate, encoded(m, x)])))


def two_embeddings(m, tokens):
    """Of which one masks zeros."""
    x = m.layers.Embedding(12, 4, mask_zero=True)(tokens)
    y = m.layers.Embedding(12, 4)(tokens)
    x = m.layers.maximum([x, y, m.layers.Dense(4)(y)])
    return m.layers.Dense(2)(m.layers.SimpleRNN(4)(x))


def differently_masked(m, tokens):
    """Two masks that differ: that of the tokens and that of a relu's zeros."""
    x = m.layers.Embedding(12, 4, mask_zero=True)(tokens)
    y = m.layers.Masking()(m.layers.Dense(1, activation="relu")(m.layers.Dense(3)(x)))
    merged = [
        m.layers.Multiply()([x, y]),
        m.layers.Minimum()([x, y]),
        m.layers.Average()([y, x]),
        m.layers.Subtract()([x, y]),
    ]
    wide = m.layers.Concatenate()([*merged, x])
    return m.layers.Dense(2)(m.layers.LSTM(4)(wide))


def one_after_the_other(m, tokens):
    embedding = m.layers.Embedding(12, 4, mask_zero=True)
    x, y = embedding(tokens), m.layers.Embedding(12, 4)(tokens)
    return m.layers.Dense(2)(m.layers.LSTM(4)(m.layers.Concatenate(axis=1)([x, y, x])))


def wide_and_deep(m, tokens):
    x = m.layers.Embedding(12, 4, mask_zero=True)(tokens)
    x, h, c = m.layers.LSTM(5, return_sequences=True, return_state=True)(x)
    ends = [m.layers.GlobalMaxPooling1D()(x), m.layers.GlobalAveragePooling1D()(x), h, c]
    return m.layers.Dense(2)(m.layers.concatenate([*ends, m.layers.average([h, c])]))


def attention(m, tokens):
    """Luong's, by hand."""
    x = encoded(m, m.layers.Embedding(12, 6)(tokens))
    query = m.layers.Dense(6)(m.layers.GRU(4)(x))
    scores = m.layers.Dot(axes=(2, 1))([x, query])
    weights = m.layers.Activation("softmax")(scores)
    context = m.layers.Dot(axes=(1, 1))([weights, x])
    return m.layers.Dense(2)(m.layers.Concatenate()([context, query]))


def likeness(m, tokens):
    x = m.layers.Embedding(12, 6)(tokens)
    one, other = m.layers.GRU(4)(x), m.layers.LSTM(4)(x)
    near = m.layers.Dot(1, normalize=True)([one, other])
    each = m.layers.dot([encoded(m, x), x], axes=(2, 2), normalize=True)
    pooled = m.layers.GlobalMaxPooling1D()(each)
    return m.layers.Dense(2)(m.layers.concatenate([near, pooled]))


def twice(m, tokens):
    """The same tensor, and the same layer, several times."""
    x = m.layers.Embedding(12, 4, mask_zero=True)(tokens)
    add, dense = m.layers.Add(), m.layers.Dense(4, activation="tanh")
    x = add([x, dense(x), x])
    x = add([dense(x), x, m.layers.Multiply()([x, x])])
    return m.layers.Dense(2)(m.layers.GRU(3)(x))


GRAPHS = [
    residual, gated, gated_by_the_whole, two_embeddings, differently_masked, one_after_the_other,
    wide_and_deep, attention, likeness, twice,
]  # fmt: skip


def results(library, graph, weights, x, y):
    tokens = library.Input((7,), dtype="int32")
    model = library.Model(tokens, graph(library, tokens))
    if weights is None:
        return model
    model.set_weights(weights)
    optimizer = library.optimizers.SGD(0.1, momentum=0.5)
    if library is keras:
        optimizer = comparison.summing_gradients(optimizer)
    model.compile(optimizer, "mse", run_eagerly=True)
    output = model.predict(x, verbose=0)
    if library is keras:
        loss, gradients, _ = comparison.keras_loss_and_gradients(model, x, y)
    else:
        loss, gradients, _ = fastrnn.training.loss_and_gradients(model, x, y)
    losses = [float(model.train_on_batch(x, y)) for _ in range(3)]
    changes = [w - before for w, before in zip(model.get_weights(), weights, strict=True)]
    return {
        "output": [output],
        "loss": [loss, losses[0]],
        "gradient of a weight": gradients,
        "weight after training": changes,
        "history": losses,
        "output after training": [model.predict(x, verbose=0)],
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_graphs(graph, seed, tally):
    rng = np.random.default_rng([seed, *graph.__name__.encode()])
    model = results(fastrnn, graph, None, None, None)
    theirs = results(keras, graph, None, None, None)
    assert [layer.name for layer in model.layers] == [layer.name for layer in theirs.layers]
    weights = [rng.standard_normal(w.shape).astype(np.float32) / 2 for w in model.weights]
    x = rng.integers(0, 12, (6, 7))
    x[np.arange(7) >= rng.integers(2, 8, 6)[:, None]] = 0  # padded at the end
    y = rng.standard_normal((6, 2)).astype(np.float32)

    def in_float64(values=weights):
        with comparison.floatx("float64"):
            return results(keras, graph, values, x, y.astype(np.float64))

    comparison.agree(
        tally,
        "graph of merging layers",
        f"test_graphs[{graph.__name__}-{seed}]",
        graph.__name__,
        results(fastrnn, graph, weights, x, y),
        results(keras, graph, weights, x, y),
        in_float64,
        lambda seed: in_float64(comparison.nudge(weights, seed)),
    )


# --- several inputs ---


def siamese(m, one, other):
    """One encoder for both, compared in four ways."""
    masking, lstm = m.layers.Masking(), m.layers.LSTM(4)
    one, other = lstm(masking(one)), lstm(masking(other))
    near = [
        m.layers.Dot(1, normalize=True)([one, other]),
        m.layers.Subtract()([one, other]),
        m.layers.Multiply()([one, other]),
        m.layers.Maximum()([one, other]),
    ]
    return [m.layers.Dense(3)(m.layers.Concatenate()(near))]


def masked_differently(m, one, other):
    """Sequences of which different steps are padding."""
    one, other = m.layers.Masking()(one), m.layers.Masking()(other)
    merged = [
        getattr(m.layers, name)()([one, other])
        for name in ("Add", "Multiply", "Average", "Maximum", "Minimum", "Subtract")
    ]
    states = [m.layers.GRU(2)(x) for x in merged]
    after = m.layers.LSTM(3)(m.layers.Concatenate(axis=1)([other, one]))
    beside = m.layers.LSTM(3)(m.layers.Concatenate()([one, other]))
    return [m.layers.Dense(2)(m.layers.concatenate(states)), m.layers.add([after, beside])]


def one_masked(m, one, other):
    one = m.layers.Masking()(one)
    merged = [
        getattr(m.layers, name)()(pair)
        for name in ("Multiply", "Maximum", "Minimum", "Average")
        for pair in ([one, other], [other, one])
    ]
    return [m.layers.SimpleRNN(3)(m.layers.Concatenate()([*merged, one]))]


def attended(m, one, other):
    """All pairs of steps: (batch, steps, other steps), and what they weigh."""
    one = m.layers.GRU(4, return_sequences=True)(one)
    other = m.layers.LSTM(4, return_sequences=True)(other)
    scores = m.layers.Activation("softmax")(m.layers.Dot((2, 2))([one, other]))
    context = m.layers.Dot((2, 1))([scores, other])
    last = m.layers.GRU(4)(context)
    return [m.layers.Add()([last, m.layers.Minimum()([one, context, last])])]


SIDE_BY_SIDE = [siamese, masked_differently, one_masked, attended]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("graph", SIDE_BY_SIDE, ids=lambda graph: graph.__name__)
def test_several_inputs(graph, seed, tally):
    rng = np.random.default_rng([seed, *graph.__name__.encode()])
    xs = [rng.standard_normal((5, 6, 4)).astype(np.float32) for _ in range(2)]
    for x in xs:
        x[rng.random(x.shape[:2]) < 0.3] = 0
    models = []
    for library in (fastrnn, keras):
        inputs = [library.Input((6, 4)), library.Input((6, 4))]
        models.append(library.Model(inputs, graph(library, *inputs)))
    own, theirs = models
    weights = [rng.standard_normal(w.shape).astype(np.float32) / 2 for w in theirs.weights]
    dys = [rng.standard_normal((5, *y.shape[1:])).astype(np.float32) for y in theirs.outputs]

    def of_keras(values=weights, dtype="float32"):
        with comparison.floatx(dtype):
            inputs = [keras.Input((6, 4)), keras.Input((6, 4))]
            model = keras.Model(inputs, graph(keras, *inputs))
            model.set_weights(values)
            tensors = [tf.convert_to_tensor(x.astype(dtype)) for x in xs]
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                ys = tf.nest.flatten(model(tensors, training=True))
                total = sum(tf.reduce_sum(y * dy) for y, dy in zip(ys, dys, strict=True))
            variables = [v.value for v in model.trainable_variables]
            found = tape.gradient(total, [*tensors, *variables])
        return {
            "output": [y.numpy() for y in ys],
            "gradient of the input": [g.numpy() for g in found[:2]],
            "gradient of a weight": [g.numpy() for g in found[2:]],
        }

    kinds = [[type(layer).__name__ for layer in model.layers] for model in models]
    assert kinds[0] == kinds[1]  # Keras's names skip a number for each Concatenate of masks
    own.set_weights(weights)
    store, run = Store(own.trainable_weights), Run(training=True)
    out, given = own.forward(xs, run), [dy.copy() for dy in dys]
    several = own.gives_several
    ys = [y.copy() for y in (out if several else [out])]
    actual = {
        "output": ys,
        "gradient of the input": own.backward(given if several else given[0], run),
        "gradient of a weight": [variable.gradient for variable in store.variables],
    }
    comparison.agree(
        tally,
        "graph of several inputs",
        f"test_several_inputs[{graph.__name__}-{seed}]",
        graph.__name__,
        actual,
        of_keras(),
        lambda: of_keras(dtype="float64"),
        lambda seed: of_keras(comparison.nudge(weights, seed), "float64"),
    )
