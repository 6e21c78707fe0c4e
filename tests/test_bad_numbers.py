"""NaN, infinity, exploding gradients, and the caller's float environment."""

import ctypes
import ctypes.util
import platform
import struct

import numpy as np
import oracle
import pytest

import fastrnn
from fastrnn import _engine, callbacks
from fastrnn import layers as L
from fastrnn.run import Run

NETWORKS = {
    "lstm": lambda: [L.LSTM(20)],
    "gru": lambda: [L.GRU(20)],
    "simple_rnn": lambda: [L.SimpleRNN(20)],
    "bidirectional": lambda: [L.Bidirectional(L.LSTM(20, return_sequences=True)), L.Dense(5)],
    "stack": lambda: [
        L.Conv1D(8, 3, padding="same"), L.BatchNormalization(), L.LayerNormalization(),
        L.LSTM(9, return_sequences=True), L.GlobalMaxPooling1D(), L.Dense(4, "softmax"),
    ],
}  # fmt: skip


def network(layers, **compiled):
    model = fastrnn.Sequential([fastrnn.Input((7, 3)), *layers])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compiled})
    return model


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", NETWORKS)
def test_other_rows_are_untouched(isa, rng, kind, value):
    model = network(NETWORKS[kind]())
    x = rng.standard_normal((9, 7, 3)).astype(np.float32)
    expected = model.predict(x, verbose=0)
    x[4, 2, 1] = value
    with np.errstate(invalid="ignore"):  # layer normalization is NumPy's, which warns
        y = model.predict(x, verbose=0)
    others = np.arange(9) != 4
    np.testing.assert_array_equal(y[others], expected[others])
    if np.isnan(value):
        assert np.isnan(y[4]).all() if kind != "bidirectional" else np.isnan(y[4, 2]).all()


@pytest.mark.parametrize("scale", [np.inf, -np.inf, 3e38, 1e20, 1e-45])
@pytest.mark.parametrize("cell", _engine.CELLS)
def test_extreme_inputs_give_what_the_formula_gives(isa, rng, cell, scale):
    """One feature and no bias: every gate is exactly at one of its ends, or in its middle."""
    gates, units = _engine.GATES[cell], 20
    kernel = rng.choice([-1.0, 1.0], (1, gates * units)).astype(np.float32)
    recurrent = np.zeros((units, gates * units), np.float32)
    x = np.full((3, 1, 1), scale, np.float32)
    y = np.empty((3, 1, units), np.float32)
    packed = _engine.PackedRNN(1, units, cell)
    packed.pack(kernel, recurrent)
    run = _engine.RNNRun()
    run.set_direction(
        0, packed, _engine.ACTIVATIONS["tanh"], _engine.ACTIVATIONS["sigmoid"], x, y=y
    )
    run.forward()
    z = np.split(np.clip(float(x[0, 0, 0]), -700, 700) * kernel[0].astype(float), gates)
    sigmoid, tanh = oracle.sigmoid, np.tanh
    if cell == "lstm":
        expected = sigmoid(z[3]) * tanh(sigmoid(z[0]) * tanh(z[2]))
    elif cell == "simple_rnn":
        expected = tanh(z[0])
    else:
        expected = (1 - sigmoid(z[0])) * tanh(z[2])
    y = y[:, 0]
    if np.isinf(scale) and cell.startswith("gru"):
        y = np.where(np.isnan(y), expected, y)  # a GRU may also make NaN of an infinite input
    np.testing.assert_allclose(y, np.tile(expected, (3, 1)), atol=3e-7)


def test_nan_at_masked_steps_is_never_seen(rng):
    model = fastrnn.Sequential([L.Masking(), L.Bidirectional(L.LSTM(5)), L.Dense(2)])
    x = rng.standard_normal((4, 6, 3))
    x[:, 4:] = 0
    expected = model.predict(x, verbose=0)
    engine_input = x.astype(np.float32)
    engine_input[:, 4:] = np.nan
    layer = model.layers[1].forward_layer
    ys = []
    for given in (x.astype(np.float32), engine_input):
        y = np.empty((4, 5), np.float32)
        run = _engine.RNNRun()
        mask = np.arange(6)[None].repeat(4, 0) < 4
        run.set_direction(0, layer.packed(Run()), *layer._codes, given, mask, last=y)
        run.forward()
        ys.append(y)
    np.testing.assert_array_equal(*ys)
    assert np.isfinite(expected).all()


def test_a_state_that_explodes_is_infinite_not_wrong():
    """relu doubles the state at every step: 2^t until float32 overflows, then infinity."""
    layer = L.SimpleRNN(3, activation="relu", return_sequences=True, use_bias=False)
    model = fastrnn.Sequential([fastrnn.Input((200, 1)), layer])
    model.set_weights([np.ones((1, 3)), 2 * np.eye(3)])
    x = np.zeros((1, 200, 1), np.float32)
    x[0, 0] = 1
    y = model.predict(x, verbose=0)[0]
    with np.errstate(over="ignore"):
        doubled = np.exp2(np.arange(200, dtype=np.float64)).astype(np.float32)
    # infinity times the matrix's zeros is NaN, as in NumPy and Keras
    np.testing.assert_array_equal(y[:128], np.tile(doubled[:128, None], (1, 3)))
    assert np.isinf(y[128]).all() and np.isnan(y[129:]).all()


def exploding(**clipping):
    """One step of SGD where dloss/dw is 2e25 * (1, 2, 3): its square overflows float32."""
    model = fastrnn.Sequential([fastrnn.Input((3,)), L.Dense(1, use_bias=False)])
    model.compile(fastrnn.optimizers.SGD(0.5, **clipping), "mse")
    model.set_weights([np.zeros((3, 1))])
    model.fit(np.array([[1.0, 2.0, 3.0]]), np.array([[-1e25]]), verbose=0)
    return model.get_weights()[0][:, 0]


def test_exploding_gradients_are_clipped():
    gradient = 2e25 * np.array([1.0, 2.0, 3.0])
    unit = gradient / np.sqrt((gradient**2).sum())
    np.testing.assert_allclose(exploding(), -0.5 * gradient, rtol=1e-5)
    np.testing.assert_allclose(exploding(clipvalue=2.0), -1.0)
    np.testing.assert_allclose(exploding(clipnorm=2.0), -unit, rtol=1e-5)
    np.testing.assert_allclose(exploding(global_clipnorm=2.0), -unit, rtol=1e-5)


def test_nan_in_training_reaches_the_loss_and_terminate_on_nan_stops(rng, capsys):
    x, y = rng.standard_normal((40, 7, 3)), rng.standard_normal((40, 2))
    x[25, 3, 0] = np.nan
    model = network([L.LSTM(6), L.Dense(2)])
    before = model.get_weights()
    stop = callbacks.TerminateOnNaN()
    model.fit(x, y, batch_size=10, epochs=5, shuffle=False, verbose=0, callbacks=[stop])
    assert model.history.epoch == [0] and np.isnan(model.history.history["loss"]).all()
    assert "Batch 2: the loss is nan" in capsys.readouterr().out
    assert all(np.isnan(weight).all() for weight in model.get_weights()[1:3])
    model.set_weights(before)  # usable again
    history = model.fit(x[:20], y[:20], epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


# --- the float environment ------------------------------------------------------------------------

x86 = pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="reads MXCSR out of glibc's fenv_t on x86-64",
)


class FloatEnvironment:
    """MXCSR of this thread, through glibc's fegetenv and fesetenv."""

    def __init__(self):
        self.libm = ctypes.CDLL(ctypes.util.find_library("m"))
        self.before = self.read()

    def read(self):
        buffer = ctypes.create_string_buffer(32)
        assert self.libm.fegetenv(buffer) == 0
        return buffer.raw

    @property
    def control(self):
        """Rounding, FTZ, DAZ and the masks of exceptions, without the flags of past ones."""
        return struct.unpack_from("<I", self.read(), 28)[0] & ~0x3F

    def set(self, bits):
        raw = bytearray(self.before)
        struct.pack_into("<I", raw, 28, struct.unpack_from("<I", raw, 28)[0] | bits)
        assert self.libm.fesetenv(bytes(raw)) == 0

    def restore(self):
        assert self.libm.fesetenv(self.before) == 0


@x86
@pytest.mark.parametrize(
    "bits", [0, 0x2000, 0x4000, 0x6000, 0x8040], ids=["default", "down", "up", "zero", "flush"]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_float_environment_is_left_as_it_was(rng, bits, threads):
    x = rng.standard_normal((64, 7, 3)).astype(np.float32)
    tokens, y = rng.integers(0, 9, (64, 7)), rng.standard_normal((64, 4)).astype(np.float32)
    model = network(NETWORKS["stack"](), optimizer=fastrnn.optimizers.Adam(clipnorm=1.0))
    other = fastrnn.Sequential(
        [L.Embedding(9, 16), L.Dropout(0.5), L.Bidirectional(L.GRU(64)), L.Dense(4, "softmax")]
    )
    other.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    expected = model.predict(x, verbose=0)
    before = fastrnn.get_num_threads()
    fastrnn.set_num_threads(threads)
    environment = FloatEnvironment()
    try:
        environment.set(bits)
        control = environment.control
        results = []
        for call in (
            lambda: results.append(model.predict(x, verbose=0)),
            lambda: model.fit(x, y, batch_size=16, verbose=0),
            lambda: model.compile_inference()(x[:1]),
            lambda: other.fit(tokens, np.abs(y), verbose=0),
            lambda: other.evaluate(tokens, np.abs(y), verbose=0),
        ):
            call()
            assert environment.control == control
    finally:
        environment.restore()
        fastrnn.set_num_threads(before)
    np.testing.assert_allclose(results[0], expected, atol=2e-5)


def test_subnormals_outside_of_calls_survive(rng):
    model = network([L.LSTM(64), L.Dense(2)])
    x, y = rng.standard_normal((300, 7, 3)), rng.standard_normal((300, 2))
    tiny = np.full(4, 1e-40, np.float32)
    half = tiny * np.float32(0.5)
    assert (half > 0).all()
    model.fit(x, y, verbose=0)
    model.predict(x, verbose=0)
    np.testing.assert_array_equal(tiny * np.float32(0.5), half)


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("rows, units, where", [(1, 5, 0), (3, 20, 19), (40, 40, 7)])
@pytest.mark.parametrize("kind", [L.LSTM, L.GRU, L.SimpleRNN])
def test_a_state_of_zeros_times_an_infinite_weight(isa, rng, kind, rows, units, where, value):
    """NaN at the first step already, as in Keras; and as after one step, with the state kept."""
    model = fastrnn.Sequential([fastrnn.Input((None, 3)), kind(units, return_sequences=True)])
    kernel, recurrent, bias = model.get_weights()
    recurrent[where, where] = value
    model.set_weights([kernel, recurrent, bias])
    x = rng.standard_normal((rows, 2, 3)).astype(np.float32)
    y = model.predict(x, verbose=0)
    hit = np.arange(units) == where
    assert np.isnan(y[:, 0, hit]).all() and np.isfinite(y[:, 0, ~hit]).all()
    assert np.isnan(y[:, 1]).all()


@pytest.mark.parametrize("layer", [L.Activation, lambda name: L.SimpleRNN(1, name)])
def test_the_exponential_goes_to_infinity_and_to_zero(isa, layer):
    model = fastrnn.Sequential([fastrnn.Input((1, 1)), layer("exponential")])
    model.set_weights([np.ones(w.shape) if "bias" not in w.path else [0] for w in model.weights])
    x = np.float32([-np.inf, -1000, -88, -87, -1, 0, 1, 87.2, 88, 88.7, 88.8, 1000, np.inf, np.nan])
    with np.errstate(over="ignore"):
        expected = np.exp(x)
    y = model.predict(x.reshape(-1, 1, 1), verbose=0).ravel()
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-38)  # subnormal numbers may be 0
