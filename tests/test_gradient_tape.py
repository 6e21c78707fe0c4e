"""GradientTape: that it never gives a wrong derivative, and what mistakes say."""

import weakref

import numpy as np
import pytest

from fastrnn import layers, models, ops, optimizers
from fastrnn.gradient_tape import GradientTape
from fastrnn.variable import Variable

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "make", [lambda: layers.Dense(3, activation="tanh"), lambda: layers.LayerNormalization()]
)
def test_two_tapes_that_share_a_layer_each_have_its_gradient(make):
    """The second had that of the first added to it."""
    layer = make()
    layer(X)
    with GradientTape() as alone:
        loss = ops.sum(layer(X) ** 2)
    expected = alone.gradient(loss, layer.trainable_weights)
    with GradientTape() as one, GradientTape() as other:
        loss = ops.sum(layer(X) ** 2)
    for tape in (one, other):
        for ours, right in zip(tape.gradient(loss, layer.trainable_weights), expected, strict=True):
            assert np.allclose(ours, right, atol=1e-6)


def test_a_persistent_tape_gives_the_same_each_time():
    model = models.Sequential([layers.Conv1D(3, 2), layers.Dense(2, "tanh")])
    x = np.ones((2, 4, 3), np.float32)
    model(x)
    with GradientTape(persistent=True) as tape:
        loss = ops.sum(model(x) ** 2)
    first, second = (tape.gradient(loss, model.trainable_weights) for _ in range(2))
    assert all(map(np.array_equal, first, second))


def test_the_same_tensor_twice_and_shared_expressions():
    v = Variable(np.array([1.0, 2.0], np.float32))
    with GradientTape() as tape:
        square = v * v
        y = ops.sum(square * square + square + v[:1] * v[1:])
    x = v.numpy()
    assert np.allclose(tape.gradient(y, v), 4 * x**3 + 2 * x + 2 * x[::-1])


def test_arrays_that_change_after_their_use():
    v, factor = Variable(np.ones(3, np.float32)), np.full(3, 2.0, np.float32)
    chosen, places = np.array([True, False, True]), np.array([0, 0, 1])
    with GradientTape() as tape:
        y = ops.sum(v * factor) + ops.sum(np.where(chosen, v, 0.0)) + ops.sum(v[places])
        y = y + ops.sum(np.matmul(v, factor[:, None]))
    factor[...], chosen[...], places[...] = 0, False, 2
    assert np.allclose(tape.gradient(y, v), [2 + 1 + 2 + 2, 2 + 0 + 1 + 2, 2 + 1 + 0 + 2])


def test_what_is_not_connected_is_none():
    v, w = Variable(1.0), Variable(2.0)
    with GradientTape() as tape:
        y = v * 2.0
    assert tape.gradient(y, w) is None


def test_a_second_call_needs_a_persistent_tape():
    v = Variable(1.0)
    with GradientTape() as tape:
        y = v * v
    tape.gradient(y, v)
    with pytest.raises(RuntimeError, match="persistent=True"):
        tape.gradient(y, v)


def test_gradients_that_do_not_fit_the_weights():
    v = Variable(np.ones(3, np.float32), name="mine")
    with pytest.raises(ValueError, match="grads: expected a gradient of a weight at least"):
        optimizers.SGD().apply_gradients([(None, v)])
    with pytest.raises(ValueError, match=r"grads: expected shape \(3,\) for 'mine'"):
        optimizers.SGD().apply([np.ones(2)], [v])
    with pytest.raises(ValueError, match="grads: expected one for each of 1 weights, received 2"):
        optimizers.SGD().apply([np.ones(3)] * 2, [v])


def test_a_graph_of_many_steps():
    v = Variable(1.0)
    with GradientTape() as tape:
        y = v * 1.0
        for _ in range(5000):
            y = y + v * 0.001
    assert np.isclose(tape.gradient(y, v), 6.0, rtol=1e-4)


def test_weights_that_are_assigned_before_the_gradient():
    w, x = Variable(3.0), ops.convert_to_tensor(2.0)
    with GradientTape() as tape:
        tape.watch(x)
        y = w * x
    w.assign(100.0)
    assert float(tape.gradient(y, x)) == 3.0


def test_whole_numbers_made_of_what_is_traced_have_no_derivative():
    v = Variable(2.5)
    with GradientTape() as tape:
        y = (v * 1.0).astype("int32") * v
    assert float(tape.gradient(y, v)) == 2.0


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_two_gradients_of_a_recurrent_layer(kind, rng):
    layer, x = kind(3), rng.normal(size=(2, 4, 3)).astype(np.float32)
    layer(x)
    with GradientTape(persistent=True) as tape:
        y = ops.sum(layer(x, training=True) ** 2)
    first, again = tape.gradient(y, layer.weights), tape.gradient(y, layer.weights)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    layer.weights[0].assign(layer.weights[0].numpy() + 1)
    with pytest.raises(RuntimeError, match="a second gradient of one call"):
        tape.gradient(y, layer.weights)
    drops = kind(3, dropout=0.5, name="drops")
    with GradientTape(persistent=True) as tape:
        y = ops.sum(drops(x, training=True))
    tape.gradient(y, drops.weights)
    with pytest.raises(RuntimeError, match="'drops': a second gradient of one call"):
        tape.gradient(y, drops.weights)


def test_arrays_that_no_way_back_needs_are_let_go():
    x = Variable(np.ones((3, 2), np.float32), dtype="float32")
    with GradientTape() as tape:
        doubled = x * 2.0
        gone = weakref.ref(doubled.value)
        moved = ops.reshape(doubled + 1.0, (2, 3))
        del doubled
        assert gone() is None
        y = ops.sum(moved * moved)
    np.testing.assert_array_equal(tape.gradient(y, x), np.full((3, 2), 12.0))
