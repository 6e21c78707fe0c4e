"""RNN of cells against cells run step by step in float64, and cells called one step at a time."""

import copy
import itertools
import pickle

import numpy as np
import oracle_cells
import pytest
from oracle import activate

import fastrnn
from fastrnn import layers as L
from fastrnn.models import Model
from fastrnn.run import Run
from fastrnn.variable import Store

FEATURES = 3
STACKS = {  # cells from the lowest on
    "lstm": lambda: [L.LSTMCell(2)],
    "gru": lambda: [L.GRUCell(3)],
    "rnn": lambda: [L.SimpleRNNCell(2, "softsign")],
    "lstm gru": lambda: [L.LSTMCell(2, use_bias=False), L.GRUCell(3)],
    "gru lstm": lambda: [L.GRUCell(2, reset_after=False), L.LSTMCell(2)],
    "three": lambda: [L.SimpleRNNCell(2), L.LSTMCell(3, "softsign", "hard_sigmoid"), L.GRUCell(1)],
    "not fused": lambda: [L.LSTMCell(2), L.GRUCell(2, "gelu"), L.SimpleRNNCell(2, "silu")],
}
# Masked steps at the start, in the middle and at the end, and all of them.
MASK = np.array([[0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
BATCH, STEPS = MASK.shape


def lstm_step(x, h, c, weights, cell):
    kernel, recurrent, *bias = weights
    parts = np.split(x @ kernel + h @ recurrent + (bias[0] if bias else 0), 4, axis=1)
    names = [cell.recurrent_activation.__name__] * 4
    names[2] = cell.activation.__name__
    i, f, g, o = (activate(name, part) for name, part in zip(names, parts, strict=True))
    c = f * c + i * g
    return [o * activate(names[2], c), c]


def step(cell, weights, x, states):
    if isinstance(cell, L.LSTMCell):
        return lstm_step(x, *states, weights, cell)
    gru = isinstance(cell, L.GRUCell)
    kind = oracle_cells.GRU(cell.reset_after) if gru else oracle_cells.SimpleRNN()
    gate = cell.recurrent_activation.__name__ if gru else None
    named = cell.activation.__name__, gate
    return [kind.step(x, *states, *weights, *[None] * (3 - len(weights)), *named)[0]]


def by_steps(cells, weights, x, states, mask=None, go_backwards=False, zero_output=False):
    """(outputs in the order of processing, states of each cell): at each step all cells run, or,
    where it is masked, none. Keras's loop."""
    states = [[*of_cell] for of_cell in states]
    output, outputs = np.zeros((len(x), cells[-1].units)), []
    for t in reversed(range(x.shape[1])) if go_backwards else range(x.shape[1]):
        on = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        y = x[:, t]
        for n, cell in enumerate(cells):
            new = step(cell, weights[n], y, states[n])
            y = new[0]
            states[n] = [np.where(on, a, b) for a, b in zip(new, states[n], strict=True)]
        output = np.where(on, y, 0 if zero_output else output)
        outputs.append(output)
    return np.stack(outputs, axis=1), states


def randomised(layer, rng):
    for weight in layer.weights:
        weight.assign(0.6 * rng.standard_normal(weight.shape))
    return layer


def in_float64(cells):
    return [[w.numpy().astype(np.float64) for w in cell.weights] for cell in cells]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sequences, backwards, zero", itertools.product([False, True], repeat=3))
@pytest.mark.parametrize("stack", STACKS)
def test_against_steps_in_float64(stack, sequences, backwards, zero, masked, rng):
    cells = STACKS[stack]()
    options = {"return_sequences": sequences, "go_backwards": backwards, "return_state": True}
    layer = L.RNN(cells, zero_output_for_mask=zero, **options)
    layer.build((None, None, FEATURES))
    randomised(layer, rng)
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    states = [
        [rng.standard_normal((BATCH, size)).astype(np.float32) for size in cell.sizes_of_states()]
        for cell in cells
    ]
    mask = MASK if masked else None
    flat = [state for of_cell in states for state in of_cell]
    store = Store(layer.trainable_weights)
    run = Run(training=True)
    y, *ends = layer.forward([x, *flat], run, None if mask is None else [mask])

    exact = in_float64(cells), x.astype(np.float64), [[s.astype(float) for s in c] for c in states]

    def reference():
        ys, ends = by_steps(cells, *exact, mask, backwards, zero)
        return ys if sequences else ys[:, -1], [state for of_cell in ends for state in of_cell]

    expected, expected_ends = reference()
    np.testing.assert_allclose(y, expected, atol=2e-6)
    for end, wanted in zip(ends, expected_ends, strict=True):
        np.testing.assert_allclose(end, wanted, atol=2e-6)

    dy, dends = rng.standard_normal(y.shape), [rng.standard_normal(end.shape) for end in ends]

    def loss():
        y, ends = reference()
        return sum(np.sum(a * b) for a, b in zip([y, *ends], [dy, *dends], strict=True))

    dx, *dstates = layer.backward([d.astype(np.float32) for d in [dy, *dends]], run)
    weights, x64, states64 = exact
    named = [
        ("x", dx, x64),
        *zip("states", dstates, [s for c in states64 for s in c], strict=False),
        *((v.path, v.gradient, w) for v, w in zip(store.variables, sum(weights, []), strict=True)),
    ]
    assert len(named) == 1 + len(flat) + len(layer.weights)
    for name, gradient, array in named:
        value, direction = array.copy(), rng.standard_normal(array.shape)
        losses = []
        for size in (1e-5, -1e-5):
            array[...] = value + size * direction
            losses.append(loss())
        array[...] = value
        slope = (losses[0] - losses[1]) / 2e-5
        given = np.sum(gradient * direction)
        np.testing.assert_allclose(given, slope, rtol=1e-4, atol=1e-4, err_msg=name)


KINDS = {
    "lstm": (L.LSTMCell, L.LSTM, {}),
    "lstm dropout": (L.LSTMCell, L.LSTM, {"dropout": 0.3, "recurrent_dropout": 0.2}),
    "lstm seed": (L.LSTMCell, L.LSTM, {"dropout": 0.3, "seed": 4, "unit_forget_bias": False}),
    "gru": (L.GRUCell, L.GRU, {"dropout": 0.2, "reset_after": False}),
    "rnn": (L.SimpleRNNCell, L.SimpleRNN, {"activation": "relu", "use_bias": False}),
    "rnn dropout": (L.SimpleRNNCell, L.SimpleRNN, {"dropout": 0.5, "recurrent_dropout": 0.5}),
}


@pytest.mark.parametrize("options", [{}, {"return_sequences": True, "go_backwards": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_gives_what_the_layer_of_its_name_gives(kind, options, rng):
    """To the last bit, through training: initial weights, dropout and updates."""
    cell, layer, own = KINDS[kind]
    x = rng.standard_normal((6, 5, FEATURES)).astype(np.float32)
    y, weights = [], []
    for make in (lambda: L.RNN(cell(4, **own), **options), lambda: layer(4, **own, **options)):
        fastrnn.utils.set_random_seed(3)
        model = fastrnn.Sequential([L.Input((5, FEATURES)), L.Masking(), make(), L.Dense(1)])
        model.compile("adam", "mse")
        model.fit(x, x[:, :, :1] if options else x[:, 0, :1], epochs=2, batch_size=3, verbose=0)
        y.append(model.predict(x, verbose=0))
        weights.append(model.get_weights())
    np.testing.assert_array_equal(*y)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("stack", STACKS)
def test_a_cell_called_by_hand(stack, rng):
    cells = STACKS[stack]()
    cell = cells[0] if len(cells) == 1 else L.StackedRNNCells(cells)
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    states = cell.get_initial_state(BATCH)
    y, states = cell(x[:, 0], states)
    randomised(cell, rng)
    states, ys = cell.get_initial_state(batch_size=BATCH), []
    for t in range(STEPS):
        y, states = cell(x[:, t], states)
        ys.append(y.numpy())
    weights = in_float64(cells)
    zeros = [[np.zeros((BATCH, size)) for size in c.sizes_of_states()] for c in cells]
    expected, ends = by_steps(cells, weights, x, zeros)
    np.testing.assert_allclose(np.stack(ys, axis=1), expected, atol=2e-6)
    for of_cell, wanted in zip(states if len(cells) > 1 else [states], ends, strict=True):
        assert [type(state.numpy()) for state in of_cell] == [np.ndarray] * len(wanted)
        np.testing.assert_allclose(of_cell, wanted, atol=2e-6)
    whole = L.RNN(cell, return_sequences=True)  # of the same weights
    np.testing.assert_allclose(whole(x), expected, atol=2e-6)


def test_states_stand_as_they_are_given():
    x, h = np.ones((2, 3), np.float32), np.zeros((2, 4), np.float32)
    y, after = L.GRUCell(4)(x, h)
    assert y.shape == after.shape == (2, 4)
    y, after = L.SimpleRNNCell(4)(x, [h])
    assert isinstance(after, list) and len(after) == 1
    y, (lstm, gru) = L.StackedRNNCells([L.LSTMCell(4), L.GRUCell(4)])(x, [[h, h], h])
    assert len(lstm) == 2 and gru.shape == (2, 4)
    y, gru, lstm = L.RNN([L.GRUCell(4), L.LSTMCell(5)], return_state=True)(x[:, None])
    assert [s.shape for s in gru] == [(2, 4)] and [s.shape for s in lstm] == [(2, 5), (2, 5)]
    y, gru, lstm = L.RNN([L.GRUCell(4), L.LSTMCell(5)], return_state=True)(L.Input((1, 3)))
    assert gru.shape == (None, 4) and [s.shape for s in lstm] == [(None, 5), (None, 5)]
    given = [h, [np.zeros((2, 5)), np.zeros((2, 5))]]
    y, gru, lstm = L.RNN([L.GRUCell(4), L.LSTMCell(5)], return_state=True)(x[:, None], given)
    assert gru.shape == (2, 4) and len(lstm) == 2
    y, h, c = L.RNN(L.LSTMCell(5), return_state=True)(x[:, None])
    np.testing.assert_array_equal(y, h)


def test_sizes_and_zeros():
    cells = [L.LSTMCell(4), L.GRUCell(5), L.SimpleRNNCell(2)]
    assert [cell.state_size for cell in cells] == [[4, 4], 5, 2]
    assert [cell.output_size for cell in cells] == [4, 5, 2]
    stack = L.StackedRNNCells(cells)
    assert stack.state_size == [[4, 4], 5, 2] and stack.output_size == 2
    assert L.RNN(stack).state_size == [[4, 4], 5, 2]
    assert L.RNN(L.LSTMCell(3)).state_size == [3, 3] and L.RNN(L.GRUCell(3)).state_size == [3]
    zeros = L.RNN(stack).get_initial_state(7)
    assert [[z.shape for z in of] for of in zeros] == [[(7, 4)] * 2, [(7, 5)], [(7, 2)]]
    assert L.RNN(cells[1]).get_initial_state(batch_size=2)[0].shape == (2, 5)
    assert L.RNN(stack, return_state=True).compute_output_shape((None, 3, 1)) == [
        (None, size) for size in (2, 4, 4, 5, 2)
    ]


def test_stateful(rng):
    x = rng.standard_normal((BATCH, 6, FEATURES)).astype(np.float32)
    layer = L.RNN([L.LSTMCell(2), L.GRUCell(3)], return_sequences=True, stateful=True)
    assert layer.states is None
    first, second = layer(x[:, :2]), layer(x[:, 2:])
    plain = L.RNN(layer.cell, return_sequences=True, return_state=True)
    whole, *ends = plain(x)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    for of_cell, wanted in zip(layer.states, ends, strict=True):
        np.testing.assert_allclose(of_cell, wanted, atol=1e-6)
    with pytest.raises(ValueError, match=f"layer {layer.name!r} is stateful with batches of 4"):
        layer(x[:2])
    layer.reset_states()
    np.testing.assert_array_equal(layer(x[:, :2]), first)
    layer.reset_states([[np.ones((BATCH, 2))] * 2, [np.zeros((BATCH, 3))]])
    given = plain(x, initial_state=[[np.ones((BATCH, 2))] * 2, [np.zeros((BATCH, 3))]])
    np.testing.assert_allclose(layer(x), given[0], atol=1e-6)


def encoder_and_decoder(cells):
    """Two RNNs of such cells; the second starts from the first's states, then from its own."""
    source, target = L.Input((None, FEATURES)), L.Input((None, 2))
    encoder = L.RNN(cells(), return_state=True)
    _, *states = encoder(L.Masking()(source))
    decoder = L.RNN(cells(), return_sequences=True, return_state=True)
    y, *ends = decoder(target, initial_state=states)
    again, *_ = decoder(target, initial_state=ends)
    return Model([source, target], L.Dense(2)(L.Add()([y, again])))


@pytest.mark.parametrize("stack", STACKS)
def test_in_a_graph(stack, rng, tmp_path):
    """The states of one start another, which is called twice; trained, saved and copied."""
    model = randomised(encoder_and_decoder(STACKS[stack]), rng)
    x = [rng.standard_normal((4, 5, FEATURES)), rng.standard_normal((4, 3, 2))]
    x = [part.astype(np.float32) for part in x]
    x[0][1, 3:] = 0
    y = rng.standard_normal((4, 3, 2)).astype(np.float32)
    model.compile("sgd", "mse")
    before = model.predict(x, verbose=0)

    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    twins = [fastrnn.models.load_model(tmp_path / f"model.{kind}") for kind in ("keras", "h5")]
    for twin in (*twins, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin.predict(x, verbose=0), before)
        assert twin.get_config() == model.get_config()
    np.testing.assert_allclose(model.compile_inference()(x), before, atol=1e-6)

    _, gradients, _ = fastrnn.training.loss_and_gradients(model, x, y)
    for n, weight in enumerate(model.trainable_weights):
        direction = rng.standard_normal(weight.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        value, losses = weight.numpy(), []
        for size in (1e-2, -1e-2):
            weight.assign(value + size * direction)
            losses.append(float(np.mean((model.predict(x, verbose=0).astype(float) - y) ** 2)))
        weight.assign(value)
        slope = (losses[0] - losses[1]) / 2e-2
        given = float(np.sum(gradients[n] * direction))
        np.testing.assert_allclose(given, slope, rtol=2e-2, atol=2e-4, err_msg=weight.path)


def test_a_cell_in_a_graph(rng, tmp_path):
    """A decoder of one step: what it computes, its gradients, its file."""
    token, h, c, g = L.Input((FEATURES,)), L.Input((2,)), L.Input((2,)), L.Input((3,))
    cell = L.StackedRNNCells([L.LSTMCell(2), L.GRUCell(3)])
    y, states = cell(token, [[h, c], [g]])
    y, ((h2, c2), (g2,)) = cell(token, states)
    model = Model([token, h, c, g], L.Concatenate()([y, h2, c2, g2]))
    sizes = (FEATURES, 2, 2, 3)
    arrays = [rng.standard_normal((4, size)).astype(np.float32) for size in sizes]
    randomised(model, rng)
    token, h, c, g = arrays
    layer = L.RNN(cell, return_state=True)
    expected, lstm, gru = layer(np.stack([token, token], 1), initial_state=[[h, c], [g]])
    expected = np.concatenate([expected, *lstm, *gru], axis=1)
    np.testing.assert_allclose(model.predict(arrays, verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(model.compile_inference()(arrays), expected, atol=1e-6)
    model.save(tmp_path / "model.keras")
    twin = fastrnn.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(twin.predict(arrays, verbose=0), model.predict(arrays, verbose=0))
    assert twin.get_config() == model.get_config()
    model.compile("sgd", "mse")
    target = rng.standard_normal(expected.shape).astype(np.float32)
    _, gradients, dx = fastrnn.training.loss_and_gradients(model, arrays, target)
    for n, weight in enumerate(model.weights):
        value, losses = weight.numpy(), []
        direction = rng.standard_normal(weight.shape).astype(np.float32)
        for size in (1e-2, -1e-2):
            weight.assign(value + size * direction)
            losses.append(np.mean((model.predict(arrays, verbose=0).astype(float) - target) ** 2))
        weight.assign(value)
        slope = (losses[0] - losses[1]) / 2e-2
        given = np.sum(gradients[n] * direction)
        np.testing.assert_allclose(given, slope, rtol=2e-2, atol=2e-4, err_msg=weight.path)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_both_ways(sequences, merge_mode, rng):
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    one = L.RNN([L.LSTMCell(2), L.GRUCell(3)], sequences, return_state=True)
    both = L.Bidirectional(one, merge_mode)
    y, *states = both(x, mask=MASK)
    if merge_mode is None:
        y, states = [y, states[0]], states[1:]
    forward, backward = both.forward_layer, both.backward_layer
    assert [len(of_cell) for of_cell in states] == [2, 1, 2, 1]
    parts, ends = [], []
    for layer in (forward, backward):
        part, *end = layer(x, mask=MASK)
        parts.append(part[:, ::-1] if sequences and layer is backward else part)
        ends += end
    expected = {
        "concat": lambda: np.concatenate(parts, axis=-1), "sum": lambda: sum(parts),
        None: lambda: parts,
    }[merge_mode]()  # fmt: skip
    np.testing.assert_array_equal(y, expected)
    for of_cell, wanted in zip(states, ends, strict=True):
        np.testing.assert_array_equal(of_cell, wanted)
    again = both(x, initial_state=states)
    assert not np.allclose(again[0], y[0])
    started = forward(x, initial_state=states[:2])
    other = backward(x, initial_state=states[2:])
    np.testing.assert_array_equal(again[-4], started[1])
    np.testing.assert_array_equal(again[-1], other[-1])


def test_at_each_step(rng):
    x = rng.standard_normal((2, 3, STEPS, FEATURES)).astype(np.float32)
    inner = L.RNN([L.GRUCell(2), L.LSTMCell(4)])
    y = L.TimeDistributed(inner)(x)
    np.testing.assert_array_equal(y, np.stack([inner(x[:, t]) for t in range(3)], axis=1))


@pytest.mark.parametrize("stack", STACKS)
def test_streamed_and_compiled(stack, rng):
    model = fastrnn.Sequential([L.Input((None, FEATURES)), L.RNN(STACKS[stack](), True)])
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    y = model.predict(x, verbose=0)
    np.testing.assert_array_equal(model.compile_inference()(x), y)
    stream = model.stream(BATCH)
    steps = [stream(x[:, t]) for t in range(2)]
    state = stream.state.copy()
    assert state.shape[1] == sum(model.layers[0].sizes_of_states())
    np.testing.assert_allclose(np.stack(steps, 1), y[:, :2], atol=1e-6)
    np.testing.assert_allclose(stream(x[:, 2:]), y[:, 2:], atol=1e-6)
    stream.state = state
    np.testing.assert_allclose(stream(x[:, 2:]), y[:, 2:], atol=1e-6)
    backwards = fastrnn.Sequential([L.Input((None, 3)), L.RNN(STACKS[stack](), go_backwards=True)])
    with pytest.raises(ValueError, match=f"stream: layer {backwards.layers[0].name!r}: reads"):
        backwards.stream(1)


@pytest.mark.parametrize("wrap", [lambda layer: layer, L.Bidirectional])
def test_after_an_embedding(wrap, rng):
    """Looked up, or multiplied out once for each index: the same."""
    model = fastrnn.Sequential([L.Input((7,)), L.Embedding(9, 40), wrap(L.RNN(STACKS["three"]()))])
    index = rng.integers(0, 9, (8, 7)).astype(np.int32)
    model.compile("sgd", "mse")
    vectors = np.ascontiguousarray(model.layers[0].embeddings.numpy()[index])
    expected = model.layers[1](vectors)
    for _ in range(3):
        np.testing.assert_allclose(model.predict(index, verbose=0), expected, atol=1e-6)
    target = rng.standard_normal(expected.shape).astype(np.float32)
    _, gradients, _ = fastrnn.training.loss_and_gradients(model, index, target)
    above = fastrnn.Sequential([L.Input((7, 40)), model.layers[1]])
    above.compile("sgd", "mse")
    _, alone, dx = fastrnn.training.loss_and_gradients(above, vectors, target)
    rows = np.zeros((9, 40))
    np.add.at(rows, index, dx)
    np.testing.assert_allclose(gradients[0], rows, atol=1e-6)
    for one, other in zip(gradients[1:], alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_cell_of_two_layers(rng):
    """Its weights are the same in both, and gradients add up."""
    cell = L.GRUCell(3)
    start = L.Input((STEPS, 3))
    y = L.RNN(cell, return_sequences=True)(start)
    model = Model(start, L.RNN(cell, go_backwards=True)(y))
    assert len(model.weights) == 3 and model.count_params() == cell.count_params()
    assert [w.path for w in cell.weights][0].endswith(f"{cell.name}/kernel")
    x = rng.standard_normal((BATCH, STEPS, 3)).astype(np.float32)
    target = rng.standard_normal((BATCH, 3)).astype(np.float32)
    model.compile("sgd", "mse")
    _, gradients, _ = fastrnn.training.loss_and_gradients(model, x, target)
    for n, weight in enumerate(cell.weights):
        value, losses = weight.numpy(), []
        direction = rng.standard_normal(weight.shape).astype(np.float32)
        for size in (1e-2, -1e-2):
            weight.assign(value + size * direction)
            losses.append(np.mean((model.predict(x, verbose=0).astype(float) - target) ** 2))
        weight.assign(value)
        slope = (losses[0] - losses[1]) / 2e-2
        np.testing.assert_allclose(np.sum(gradients[n] * direction), slope, rtol=2e-2, atol=2e-4)


def test_frozen_cells(rng):
    x = rng.standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    layer = L.RNN([L.LSTMCell(2), L.GRUCell(3)])
    layer.cell.cells[0].trainable = False
    model = fastrnn.Sequential([L.Input((STEPS, FEATURES)), layer])
    model.compile("sgd", "mse")
    frozen, trained = layer.get_weights()[:3], layer.get_weights()[3:]
    model.fit(x, np.ones((BATCH, 3)), verbose=0)
    assert len(layer.trainable_weights) == len(layer.non_trainable_weights) == 3
    now = [w.numpy() for w in (*layer.cell.cells[0].weights, *layer.cell.cells[1].weights)]
    for before, after in zip(frozen, now[:3], strict=True):
        np.testing.assert_array_equal(before, after)
    assert all(np.any(a != b) for a, b in zip(trained[:1], now[3:4], strict=True))
    assert layer.trainable and not layer.cell.cells[0].trainable
    layer.trainable = False
    assert not layer.trainable_weights and not layer.cell.cells[1].trainable


def test_names_and_attributes():
    layer = L.RNN([L.LSTMCell(2, name="a"), L.GRUCell(3, name="b")], name="r")
    layer.cell.name = "s"
    layer.build((None, None, 4))
    assert [w.path for w in layer.weights] == [
        f"r/s/{cell}/{weight}" for cell in "ab" for weight in ("kernel", "recurrent_kernel", "bias")
    ]
    a, b = layer.cell.cells
    assert (
        a.kernel.shape == (4, 8) and b.recurrent_kernel.shape == (3, 9) and b.bias.shape == (2, 9)
    )
    assert a.units == 2 and a.unit_forget_bias and b.reset_after and b.dropout == 0
    with pytest.raises(AttributeError, match="'LSTMCell' object has no attribute 'return_state'"):
        a.return_state  # noqa: B018


class OwnCell:
    state_size = 3

    def call(self, x, states):
        return x, states


class Short(L.GRUCell):
    def __init__(self, **options):
        super().__init__(3, **options)


ERRORS = [
    (lambda: L.RNN(OwnCell()), "cell: expected LSTMCell, GRUCell, .*OwnCell.* your own"),
    (lambda: L.RNN([L.GRUCell(2), OwnCell()]), "cells: expected LSTMCell, GRUCell, .* your own"),
    (lambda: L.RNN(L.LSTM(2)), "cell: expected LSTMCell, GRUCell, SimpleRNNCell or a list of them"),
    (lambda: L.RNN(L.GRUCell), "cell: expected LSTMCell, GRUCell, SimpleRNNCell or a list of them"),
    (lambda: L.RNN([]), r"cells: expected a list of cells, received \[\]"),
    (lambda: L.StackedRNNCells(L.GRUCell(2)), "cells: expected a list of cells, received <GRUCell"),
    (
        lambda: L.StackedRNNCells([L.GRUCell(2)], reverse_state_order=True),
        "reverse_state_order: expected False, received True",
    ),
    (lambda: L.StackedRNNCells([L.GRUCell(2)] * 2), "cells: expected each cell once"),
    (lambda: L.RNN(L.GRUCell(2), time_major=True), "time_major: expected False, received True"),
    (lambda: L.RNN(L.GRUCell(2), units=3), r"RNN: unknown arguments \['units'\]"),
    (lambda: L.LSTMCell(2, return_state=True), r"LSTMCell: unknown arguments \['return_state'\]"),
    (lambda: L.LSTMCell(0), "units: expected a whole number >= 1, received 0"),
    (lambda: L.GRUCell(2, "tan"), "activation: expected"),
    (lambda: L.SimpleRNNCell(2, dropout=2), "dropout: expected a number from 0 to 1, received 2"),
    (lambda: L.LSTMCell(2)(np.ones((2, 3, 4)), []), r"RNN\(cell\) takes sequences"),
    (
        lambda: L.LSTMCell(2, name="c")(np.ones((2, 3)), [np.ones((2, 2))]),
        r"layer 'c' \(LSTMCell\): expected 2 initial states",
    ),
    (
        lambda: L.RNN([L.LSTMCell(2), L.GRUCell(3)], name="r")(
            np.ones((2, 3, 4)), initial_state=[[np.ones((2, 2))] * 2, np.ones((2, 2))]
        ),
        r"expected \[h, c, h\] of shape \[\(2, 2\), \(2, 2\), \(2, 3\)\] each for 'r'",
    ),
]  # fmt: skip


@pytest.mark.parametrize("make, message", ERRORS)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_other_errors():
    with pytest.raises(
        TypeError, match=r"expected the states before the step, .*get_initial_state"
    ):
        L.LSTMCell(2)(np.ones((2, 3)))
    cell = L.GRUCell(2)
    cell(np.ones((2, 3)), [np.zeros((2, 2))])
    with pytest.raises(
        ValueError, match=r"expected input of shape \(None, 3\), received \(None, 5\)"
    ):
        L.RNN(cell)(np.ones((2, 4, 5)))
    assert L.RNN(Short())(np.ones((2, 4, 5))).shape == (2, 3)  # it only chooses options


def test_keras_2_wrote():
    """What tf.keras 2.11 put into .h5 files, which lacks what was not there yet."""
    cells = [
        {"class_name": "LSTMCell", "config": {"name": "a", "units": 2, "implementation": 1}},
        {"class_name": "GRUCell", "config": {"name": "b", "units": 3, "implementation": 2}},
    ]
    stack = {"class_name": "StackedRNNCells", "config": {"name": "s", "cells": cells}}
    options = {"return_sequences": True, "time_major": False, "unroll": False, "num_constants": 0}
    entry = {"name": "r", "batch_input_shape": [None, 4, 3], "cell": stack, **options}
    layer = {"class_name": "RNN", "config": entry}
    described = {"class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}
    loader = fastrnn.saving.config.Loader(version=2)
    (read,) = loader.model(described).layers
    lstm, gru = read.cell.cells
    assert read.return_sequences and read.output_shape == (None, 4, 3)
    assert lstm.recurrent_activation.__name__ == "hard_sigmoid_keras2" and not gru.reset_after
