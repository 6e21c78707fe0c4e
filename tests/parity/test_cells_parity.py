"""RNN of cells, and cells by themselves, beside Keras's: outputs, states and how they are grouped,
gradients, masks, graphs with states, files."""

import numpy as np
import pytest
from comparison import floatx, keras, tensor, tf

import fastrnn
from fastrnn.run import Run
from fastrnn.variable import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs` doesn't match"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

FEATURES = 3
STACKS = {
    "lstm": lambda L: L.LSTMCell(4),
    "gru": lambda L: L.GRUCell(4, reset_after=False),
    "rnn": lambda L: L.SimpleRNNCell(4, "gelu"),
    "one": lambda L: [L.LSTMCell(4)],
    "lstm gru": lambda L: [L.LSTMCell(4, use_bias=False), L.GRUCell(5)],
    "gru rnn": lambda L: [L.GRUCell(5), L.SimpleRNNCell(2)],
    "three": lambda L: L.StackedRNNCells(
        [L.GRUCell(3), L.LSTMCell(4, "softsign", "hard_sigmoid"), L.LSTMCell(2)]
    ),
}
MASK = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 0]], bool)
BATCH, STEPS = MASK.shape


def grouped_like(form, arrays):
    """arrays, an iterator, in the lists of form."""
    if isinstance(form, (list, tuple)):
        return [grouped_like(part, arrays) for part in form]
    return next(arrays)


def shapes(value):
    if isinstance(value, (list, tuple)):
        return [shapes(part) for part in value]
    return tuple(value.shape)


def numbers(values):
    return [np.asarray(v) for v in keras.tree.flatten(values)]


def layers_of(stack, rng, wrap=lambda L, layer: layer, **options):
    pair = []
    for library in (fastrnn, keras):
        L = library.layers
        layer = wrap(L, L.RNN(STACKS[stack](L), **options))
        layer.build((None, STEPS, FEATURES))
        pair.append(layer)
    weights = [0.5 * rng.standard_normal(w.shape) for w in pair[1].get_weights()]
    for layer in pair:
        layer.set_weights(weights)
    return pair


def close(actual, expected, tolerance=2e-6):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("started, masked", [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True, "zero_output_for_mask": True},
        {"go_backwards": True, "unroll": True},
        {"return_sequences": True, "go_backwards": True},
    ],
)
@pytest.mark.parametrize("stack", STACKS)
def test_outputs_states_gradients(stack, options, started, masked, rng, tally):
    if stack == "one" and (masked or options.get("unroll")):
        pytest.skip("Keras raises (test_differences.py)")
    own, theirs = layers_of(stack, rng, return_state=True, **options)
    assert own.state_size == theirs.state_size
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    mask = MASK if masked else None
    form = theirs.get_initial_state(BATCH)
    assert shapes(own.get_initial_state(BATCH)) == shapes(form)
    states = None
    if started:
        arrays = [rng.standard_normal(s.shape) for s in keras.tree.flatten(form)]
        states = grouped_like(form, iter([a.astype(np.float32) for a in arrays]))

    y, *ends = own(x, initial_state=states, mask=mask)
    flat = [] if states is None else keras.tree.flatten(states)
    with tf.GradientTape() as tape:
        given = tensor(x)
        tensors = grouped_like(form, iter([tensor(s) for s in flat])) if started else None
        watched = [given, *(keras.tree.flatten(tensors) if started else [])]
        tape.watch(watched)
        their_y, *their_ends = theirs(given, initial_state=tensors, mask=mask)
        outputs = [their_y, *keras.tree.flatten(their_ends)]
        dys = [rng.standard_normal(o.shape).astype(np.float32) for o in outputs]
        loss = sum(tf.reduce_sum(o * d) for o, d in zip(outputs, dys, strict=True))
    variables = [w.value for w in theirs.trainable_weights]
    expected = tape.gradient(loss, [*watched, *variables])
    assert shapes(ends) == shapes(their_ends)
    close(numbers([y, ends]), numbers(outputs))

    store, run = Store(own.trainable_weights), Run(training=True)
    own.forward([x, *flat] if started else x, run, [mask] if started and masked else mask)
    dx = own.backward([d.copy() for d in dys], run)
    gradients = [*(dx if started else [dx]), *(v.gradient for v in store.variables)]
    close(gradients, numbers(expected), 1e-5)
    tally.compared("cells")


@pytest.mark.parametrize("merge_mode", ["concat", "ave"])
@pytest.mark.parametrize("stack", STACKS)
def test_both_ways(stack, merge_mode, rng, tally):
    own, theirs = layers_of(
        stack, rng, lambda L, layer: L.Bidirectional(layer, merge_mode), return_state=True,
        return_sequences=True,
    )  # fmt: skip
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    mask = None if stack == "one" else MASK
    y, their_y = own(x, mask=mask), theirs(tensor(x), mask=mask)
    assert shapes(y) == shapes(their_y)
    close(numbers(y), numbers(their_y))
    again, their_again = own(x, initial_state=y[1:]), theirs(x, initial_state=their_y[1:])
    close(numbers(again), numbers(their_again))
    tally.compared("cells")


@pytest.mark.parametrize("stack", STACKS)
def test_stateful(stack, rng, tally):
    own, theirs = layers_of_batch(stack, rng)
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    for _ in range(2):
        close(numbers(own(x)), numbers(theirs(x)))
        close(numbers(own.states), [np.asarray(v) for v in keras.tree.flatten(theirs.states)])
    tally.compared("cells")


def layers_of_batch(stack, rng):
    pair = []
    for library in (fastrnn, keras):
        layer = library.layers.RNN(STACKS[stack](library.layers), stateful=True)
        layer.build((BATCH, STEPS, FEATURES))
        pair.append(layer)
    weights = [0.5 * rng.standard_normal(w.shape) for w in pair[0].get_weights()]
    pair[0].set_weights(weights)
    for variable, weight in zip(pair[1].trainable_weights, weights, strict=True):
        variable.assign(weight)
    return pair


@pytest.mark.parametrize("stack", STACKS)
def test_cells_by_themselves(stack, rng, tally):
    cells, weights = [], None
    x = rng.standard_normal((BATCH, FEATURES)).astype(np.float32)
    for library in (fastrnn, keras):
        made = STACKS[stack](library.layers)
        cell = library.layers.StackedRNNCells(made) if isinstance(made, list) else made
        states = cell.get_initial_state(BATCH)
        cell(x, states)
        weights = weights or [0.5 * rng.standard_normal(w.shape) for w in cell.get_weights()]
        cell.set_weights(weights)
        cells.append(cell)
    own, theirs = cells
    form = theirs.get_initial_state(BATCH)
    assert shapes(own.get_initial_state(BATCH)) == shapes(form)
    assert (own.state_size, own.output_size) == (theirs.state_size, theirs.output_size)
    arrays = [rng.standard_normal(s.shape).astype("float32") for s in keras.tree.flatten(form)]
    states = grouped_like(form, iter(arrays))
    result, expected = own(x, states), theirs(x, states)
    if stack != "one":  # Keras leaves a list out there
        assert shapes(result) == shapes(expected)
    assert isinstance(result, tuple)
    close(numbers(result), numbers(expected))
    tally.compared("cells")


def encoder_and_decoder(library, stack):
    L = library.layers
    source, target = L.Input((None, FEATURES)), L.Input((None, 2))
    below = source if stack == "one" else L.Masking()(source)
    outputs = L.RNN(STACKS[stack](L), return_state=True)(below)
    decoder = L.RNN(STACKS[stack](L), return_sequences=True, return_state=True)
    y, *ends = decoder(target, initial_state=list(outputs[1:]))
    again = decoder(target, initial_state=ends)
    last = keras.tree.flatten(again[1:])[-1]
    return library.Model([source, target], [L.Dense(2)(L.Add()([y, again[0]])), L.Dense(1)(last)])


@pytest.mark.parametrize("stack", STACKS)
def test_graphs_and_files(stack, rng, tmp_path, tally):
    """An encoder's states start a decoder, which is called twice: numbers, steps of training, and
    files in both directions."""
    own, theirs = encoder_and_decoder(fastrnn, stack), encoder_and_decoder(keras, stack)
    weights = [0.5 * rng.standard_normal(w.shape) for w in theirs.get_weights()]
    x = [rng.standard_normal((4, 5, FEATURES)), rng.standard_normal((4, 3, 2))]
    x = [part.astype(np.float32) for part in x]
    x[0][1, 3:] = 0
    targets = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 3, 2), (4, 1))]
    for model in (own, theirs):
        model.set_weights(weights)
        model.compile("adam", "mse")
        for _ in range(2):
            model.train_on_batch(x, targets)
    expected = theirs.predict(x, verbose=0)
    close(numbers(own.predict(x, verbose=0)), numbers(expected), 2e-5)
    assert [w.shape for w in own.weights] == [tuple(w.shape) for w in theirs.weights]
    for one, other, library in ((own, theirs, keras), (theirs, own, fastrnn)):
        wanted = numbers(one.predict(x, verbose=0))
        for ending in ("keras", "h5"):
            path = tmp_path / f"{library.__name__}.{ending}"
            one.save(path)
            read = library.models.load_model(path)
            close(numbers(read.predict(x, verbose=0)), wanted)
        one.save_weights(tmp_path / "m.weights.h5")
        kept = other.get_weights()
        other.set_weights([0 * w for w in kept])
        other.load_weights(tmp_path / "m.weights.h5")
        close(numbers(other.predict(x, verbose=0)), wanted)
        other.set_weights(kept)
    tally.compared("cells")


@pytest.mark.parametrize("stack", ["lstm", "gru", "lstm gru"])
def test_cells_in_graphs(stack, rng, tmp_path, tally):
    """A decoder of two steps: numbers, steps of training, files in both directions."""

    def model(library):
        L = library.layers
        cell = STACKS[stack](L)
        cell = L.StackedRNNCells(cell) if isinstance(cell, list) else cell
        token, sizes = L.Input((FEATURES,)), keras.tree.flatten(cell.state_size)
        starts = [L.Input((size,)) for size in sizes]
        form = cell.get_initial_state(1)
        y, states = cell(token, grouped_like(form, iter(starts)))
        y, states = cell(L.Dense(FEATURES)(y), states, training=True)
        return library.Model([token, *starts], L.Concatenate()([y, *keras.tree.flatten(states)]))

    own, theirs = model(fastrnn), model(keras)
    weights = [0.5 * rng.standard_normal(w.shape) for w in theirs.get_weights()]
    x = [rng.standard_normal((4, *shape[1:])).astype(np.float32) for shape in own.input_shape]
    y = rng.standard_normal((4, own.output_shape[1])).astype(np.float32)
    for each in (own, theirs):
        each.set_weights(weights)
        each.compile("adam", "mse")
        for _ in range(2):
            each.train_on_batch(x, y)
    expected = theirs.predict(x, verbose=0)
    close([own.predict(x, verbose=0)], [expected], 2e-5)
    for one, library in ((own, keras), (theirs, fastrnn)):
        for ending in ("keras", "h5"):
            path = tmp_path / f"{library.__name__}.{ending}"
            one.save(path)
            read = library.models.load_model(path)
            close([read.predict(x, verbose=0)], [one.predict(x, verbose=0)])
    tally.compared("cells")


def test_of_leading_masked_steps(rng):
    """Keras on TensorFlow starts the outputs of masked steps from zeros, as fastrnn does."""
    own, theirs = layers_of("lstm gru", rng, return_sequences=True)
    x = rng.standard_normal((2, STEPS, FEATURES)).astype(np.float32)
    mask = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    close([own(x, mask=mask)], [np.asarray(theirs(x, mask=mask))])
    with floatx("float64"):
        exact = keras.layers.RNN(STACKS["lstm gru"](keras.layers), return_sequences=True)
        exact.build((None, STEPS, FEATURES))
        exact.set_weights(own.get_weights())
        close([own(x, mask=mask)], [np.asarray(exact(tensor(x), mask=mask))])
