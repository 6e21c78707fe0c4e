"""RNN over cells of the user's own, against fastrnn's fused layers of the same arithmetic."""

import numpy as np
import pytest

from fastrnn import Input, Model, ops
from fastrnn import layers as L


class OwnGRUCell(L.Layer):
    """A GRUCell with reset_after, step by step."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = units

    def get_config(self):
        return {**super().get_config(), "units": self.units}

    def build(self, input_shape):
        units = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], 3 * units), name="kernel")
        self.recurrent = self.add_weight(shape=(units, 3 * units), name="recurrent_kernel")
        self.bias = self.add_weight(shape=(2, 3 * units), initializer="zeros", name="bias")

    def call(self, inputs, states):
        h = states[0]
        a = ops.split(ops.matmul(inputs, self.kernel) + self.bias[0], 3, axis=-1)
        b = ops.split(ops.matmul(h, self.recurrent) + self.bias[1], 3, axis=-1)
        z, r = ops.sigmoid(a[0] + b[0]), ops.sigmoid(a[1] + b[1])
        y = z * h + (1 - z) * ops.tanh(a[2] + r * b[2])
        return y, [y]


class Scaled(L.LSTMCell):
    """One that changes what an LSTMCell gives."""

    def call(self, inputs, states, training=False):
        y, after = super().call(inputs, states, training=training)
        return y * 2.0, after


def two(make, options, rng, start=False):
    """Models of an own cell and of the fused layer, with the same weights; x."""
    models = []
    for layer in make:
        x, h = Input((6, 3)), Input((4,))
        y = layer(**options)(L.Masking()(x), **({"initial_state": [h]} if start else {}))
        models.append(Model([x, h] if start else x, y))
    own, fused = models
    own.set_weights([rng.normal(size=w.shape) for w in own.weights])
    fused.set_weights(own.get_weights())
    x = rng.normal(size=(5, 6, 3)).astype(np.float32)
    x[1:3, 4:] = x[3, 2] = 0
    return own, fused, [x, rng.normal(size=(5, 4)).astype(np.float32)] if start else x


OPTIONS = [
    {},
    {"return_sequences": True},
    {"return_sequences": True, "go_backwards": True},
    {"return_sequences": True, "zero_output_for_mask": True},
    {"return_state": True},
]


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_as_the_fused_layer(options, start, rng):
    own, fused, x = two(
        (lambda **o: L.RNN(OwnGRUCell(4), **o), lambda **o: L.GRU(4, **o)), options, rng, start
    )
    expected = fused.predict(x, verbose=0)
    found = own.predict(x, verbose=0)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    y = [rng.normal(size=part.shape) for part in expected] if options.get("return_state") else None
    y = rng.normal(size=expected.shape) if y is None else y
    losses = []
    for model in (own, fused):
        model.compile("sgd", ["mse"] * len(y) if isinstance(y, list) else "mse")
        losses.append([model.train_on_batch(x, y) for _ in range(3)])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for a, b in zip(own.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("sequences", [False, True])
def test_both_directions(mode, sequences, rng):
    own, fused, x = two(
        (
            lambda **o: L.Bidirectional(L.RNN(OwnGRUCell(4), **o), mode),
            lambda **o: L.Bidirectional(L.GRU(4, **o), mode),
        ),
        {"return_sequences": sequences},
        rng,
    )
    expected = fused.predict(x, verbose=0)
    np.testing.assert_allclose(own.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_a_cell_made_from_a_cell_of_fastrnn(rng):
    own, fused, x = two(
        (
            lambda **o: L.RNN(Scaled(4), **o),
            lambda **o: L.LSTM(4, **o),
        ),
        {"return_sequences": True},
        rng,
    )
    expected = 2 * fused.predict(x, verbose=0)
    np.testing.assert_allclose(own.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stacked", [list, L.StackedRNNCells])
def test_own_cells_among_others(stacked, rng):
    layer = L.RNN(stacked([OwnGRUCell(4), L.LSTMCell(3), L.GRUCell(2)]), return_state=True)
    x = rng.normal(size=(5, 6, 3)).astype(np.float32)
    y, *states = layer(x)
    assert [np.shape(part) for part in states[1]] == [(5, 3), (5, 3)]
    above = L.RNN([L.GRUCell(4), L.LSTMCell(3), L.GRUCell(2)])
    above.build((None, 6, 3))
    above.set_weights(layer.get_weights())
    np.testing.assert_allclose(y, above(x), rtol=1e-5, atol=1e-6)


def test_own_cells_among_others_in_both_directions(rng):
    layer = L.Bidirectional(L.RNN([OwnGRUCell(4), L.LSTMCell(3)]))
    x = rng.normal(size=(5, 6, 3)).astype(np.float32)
    y, fused = layer(x), L.Bidirectional(L.RNN([L.GRUCell(4), L.LSTMCell(3)]))
    fused.build((None, 6, 3))
    fused.set_weights(layer.get_weights())
    np.testing.assert_allclose(y, fused(x), rtol=1e-5, atol=1e-6)


def test_states_that_stay(rng):
    layer = L.RNN(OwnGRUCell(4), stateful=True)
    x = rng.normal(size=(5, 6, 3)).astype(np.float32)
    whole = L.RNN(layer.cell)(x)
    layer(x[:, :2])
    np.testing.assert_allclose(layer(x[:, 2:]), whole, rtol=1e-6)
    layer.reset_states()
    np.testing.assert_allclose(layer(x), whole, rtol=1e-6)


def test_steps_of_the_wrong_rank():
    with pytest.raises(ValueError, match=r"'short' \(RNN\): expected inputs \(batch, timesteps"):
        L.RNN(OwnGRUCell(4), name="short")(np.zeros((5, 3), np.float32))
