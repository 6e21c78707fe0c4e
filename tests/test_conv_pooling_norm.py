"""Convolution, pooling, layer normalisation and spatial dropout against the float64 reference."""

import numpy as np
import oracle
import pytest
from gradcheck import numeric_gradient

import fastrnn
from fastrnn import layers as L
from fastrnn.run import Run

PADDINGS = ("valid", "same", "causal")


def check(layer, x, reference):
    """Output and all gradients of a layer, channels last or first; `reference(x, *weights)` is in
    float64 and channels last."""
    first = getattr(layer, "data_format", "") == "channels_first"

    def turned(array, back=False):
        if not first or array.ndim < 3:
            return np.ascontiguousarray(array)
        return np.ascontiguousarray(np.moveaxis(array, *((1, -1) if back else (-1, 1))))

    rng = np.random.default_rng(5)
    layer(turned(x))
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape))
        weight.gradient = np.full(weight.shape, np.nan, np.float32)
    run = Run(training=True)
    y = turned(layer.forward(turned(x), run), back=True).copy()
    arrays = [a.astype(np.float64) for a in (x, *layer.get_weights())]
    expected = reference(*arrays)
    assert y.shape == expected.shape and y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6 * abs(expected).max())

    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx = turned(layer.backward(turned(dy).copy(), run), back=True)
    gradients = [dx, *(w.gradient for w in layer.weights)]
    for array, gradient in zip(arrays, gradients, strict=True):
        numeric = numeric_gradient(lambda: (reference(*arrays) * dy).sum(), array)
        np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-5 * abs(numeric).max() + 1e-6)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("timesteps", [3, 8])
@pytest.mark.parametrize(
    "size, strides, dilation_rate", [(1, 1, 1), (3, 1, 1), (2, 3, 1), (2, 1, 2)]
)
def test_conv1d(size, strides, dilation_rate, timesteps, padding, rng):
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}
    x = rng.standard_normal((2, timesteps, 3)).astype(np.float32)
    check(
        L.Conv1D(4, size, **options),
        x,
        lambda x, kernel, bias: oracle.conv1d_forward(x, kernel, bias, **options),
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_conv1d_groups(activation, data_format, rng):
    x = rng.standard_normal((2, 5, 6)).astype(np.float32)
    layer = L.Conv1D(9, 2, groups=3, use_bias=False, activation=activation, data_format=data_format)
    check(
        layer,
        x,
        lambda x, kernel: oracle.activate(
            activation, oracle.conv1d_forward(x, kernel, None, groups=3)
        ),
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("padding", PADDINGS[:2])
@pytest.mark.parametrize("pool_size, strides", [(2, None), (3, 1), (2, 3), (4, 2), (1, 5)])
@pytest.mark.parametrize("cls, reduce", [(L.MaxPooling1D, np.max), (L.AveragePooling1D, np.mean)])
def test_pooling(cls, reduce, pool_size, strides, padding, data_format, rng):
    x = rng.standard_normal((2, 7, 3)).astype(np.float32)
    check(
        cls(pool_size, strides, padding, data_format),
        x,
        lambda x: oracle.pooling_forward(x, reduce, pool_size, strides, padding),
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "cls, reduce", [(L.GlobalMaxPooling1D, np.max), (L.GlobalAveragePooling1D, np.mean)]
)
def test_global_pooling(cls, reduce, data_format, rng):
    x = rng.standard_normal((3, 7, 4)).astype(np.float32)
    check(cls(data_format), x, lambda x: reduce(x, axis=1))
    check(cls(data_format, True), x, lambda x: reduce(x, axis=1, keepdims=True))


@pytest.mark.parametrize("rms_scaling", [False, True])
@pytest.mark.parametrize("axis", [-1, 1, [1, 2], [3, 1], [-1, -2]])
def test_layer_normalization(axis, rms_scaling, rng):
    options = {"axis": axis, "epsilon": 0.01, "rms_scaling": rms_scaling}
    x = (3 + rng.standard_normal((2, 3, 4, 5))).astype(np.float32)

    def reference(x, gamma, beta=None):
        return oracle.layer_normalization_forward(x, gamma, beta, **options)

    check(L.LayerNormalization(**options), x, reference)


def test_of_equal_values_the_first_gets_the_gradient_and_all_do_globally():
    x = np.array([1, 2, 2, 2, 0, 0], np.float32).reshape(1, 6, 1)
    for layer, expected in (
        (L.MaxPooling1D(3), [0, 1, 0, 1, 0, 0]),
        (L.GlobalMaxPooling1D(), [0, 1 / 3, 1 / 3, 1 / 3, 0, 0]),
    ):
        run = Run(training=True)
        y = layer.forward(x, run)
        dx = layer.backward(np.ones_like(y), run)
        np.testing.assert_allclose(dx.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_global_average_leaves_masked_steps_out(data_format, keepdims, rng):
    x = rng.standard_normal((3, 5, 2)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    given = x if data_format == "channels_last" else x.swapaxes(1, 2)
    layer = L.GlobalAveragePooling1D(data_format, keepdims)
    y = layer(given, mask=mask).reshape(3, 2)
    np.testing.assert_allclose(y[0], x[0].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(y[1], x[1, [1, 3]].mean(axis=0), rtol=1e-6)
    assert np.isnan(y[2]).all()
    run = Run(training=True)
    shape = layer.forward(np.ascontiguousarray(given), run, mask).shape
    dx = layer.backward(np.ones(shape, np.float32), run).reshape(given.shape)
    dx = dx if data_format == "channels_last" else dx.swapaxes(1, 2)
    np.testing.assert_allclose(dx[1, :, 0], [0, 0.5, 0, 0.5, 0])
    np.testing.assert_allclose(dx[0], 0.2, rtol=1e-6)


def test_masks_passed_on_and_dropped(rng):
    x, mask = rng.standard_normal((2, 4, 3)), np.ones((2, 4), bool)
    for layer in (L.LayerNormalization(), L.SpatialDropout1D(0.5)):
        assert layer.compute_mask(x, mask) is mask
    for layer in (
        L.Conv1D(2, 3, padding="same"),
        L.MaxPooling1D(1),
        L.AveragePooling1D(1),
        L.GlobalAveragePooling1D(),
        L.GlobalMaxPooling1D(),
    ):
        assert layer.compute_mask(x, mask) is None


def test_spatial_dropout_drops_whole_channels(rng):
    fastrnn.utils.set_random_seed(4)
    x = (2 + rng.random((50, 7, 40))).astype(np.float32)
    layer = L.SpatialDropout1D(0.3)
    np.testing.assert_array_equal(layer(x), x)
    run = Run(training=True)
    y = layer.forward(x, run)
    dropped = (y == 0).all(axis=1)
    np.testing.assert_array_equal(y == 0, np.repeat(dropped[:, None], 7, axis=1))
    np.testing.assert_allclose(y[y != 0], (x / np.float32(0.7))[y != 0], rtol=1e-6)
    assert abs(dropped.mean() - 0.3) < 0.03
    assert (y != layer(x, training=True)).any()
    seeded = [L.SpatialDropout1D(0.3, seed=3)(x, training=True) for _ in range(2)]
    np.testing.assert_array_equal(*seeded)


def test_a_model_of_all_of_them_learns(rng):
    model = fastrnn.Sequential(
        [
            fastrnn.Input((None, 3)),
            L.Conv1D(8, 3, padding="causal", activation="relu"),
            L.MaxPooling1D(2),
            L.SpatialDropout1D(0.1),
            L.LayerNormalization(),
            L.LSTM(6, return_sequences=True),
            L.AveragePooling1D(2),
            L.GlobalAveragePooling1D(),
            L.Dense(1),
        ]
    )
    fastrnn.utils.set_random_seed(2)
    x = rng.standard_normal((64, 12, 3))
    y = x[:, :, 0].max(axis=1, keepdims=True)
    model.compile(fastrnn.optimizers.Adam(0.02), "mse")
    losses = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    assert model.predict(x[:5, :9], verbose=0).shape == (5, 1)
    fast = model.compile_inference()
    np.testing.assert_allclose(fast(x[:2]), model.predict(x, verbose=0)[:2], rtol=1e-4, atol=1e-5)
    twin = fastrnn.Sequential.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))


def test_older_spellings():
    old = L.Convolution1D(
        nb_filter=4, filter_length=3, border_mode="same", subsample_length=2, input_dim=5,
        input_length=9, W_regularizer="l2", bias=False, init="ones",
    )  # fmt: skip
    new = L.Conv1D(
        4, 3, padding="same", strides=2, input_shape=(9, 5), kernel_regularizer="l2",
        use_bias=False, kernel_initializer="ones", name=old.name,
    )  # fmt: skip
    assert old.get_config() == new.get_config()
    assert old.batch_input_shape == new.batch_input_shape == (None, 9, 5)
    pooling = L.MaxPool1D(pool_length=4, stride=2, border_mode="same")
    assert (pooling.pool_size, pooling.strides, pooling.padding) == ((4,), (2,), "same")
    assert L.Dropout(p=0.3).rate == L.SpatialDropout1D(p=0.3).rate == 0.3
    with pytest.raises(TypeError, match="one of rate and its older name p"):
        L.Dropout(p=0.3, rate=0.4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.Conv1D(0, 3), "filters: expected a whole number >= 1, received 0"),
        (lambda: L.Conv1D(4, (3, 3)), r"kernel_size: expected one whole number, received \(3, 3\)"),
        (
            lambda: L.Conv1D(4, 3, strides=2, dilation_rate=2),
            "strides, dilation_rate: expected one",
        ),
        (lambda: L.Conv1D(4, 3, groups=3), "filters: expected a multiple of groups, 3"),
        (lambda: L.Conv1D(4, 3, padding="full"), "padding: expected one of .*received 'full'"),
        (lambda: L.Conv1D(4, 3, groups=2)(np.zeros((2, 5, 3))), "a multiple of 2, received"),
        (lambda: L.Conv1D(4, 3)(np.zeros((2, 2, 3))), "with at least 3 time steps, received"),
        (lambda: L.Conv1D(4, 3).compute_output_shape((None, 2, 3)), "with at least 3 time steps"),
        (lambda: L.Conv1D(4, 3)(np.zeros((2, 3))), "expected input of shape"),
        (lambda: L.MaxPooling1D(3)(np.zeros((2, 2, 3))), "with at least 3 time steps, received"),
        (lambda: L.MaxPooling1D(2, strides=0), "strides: expected a whole number >= 1"),
        (lambda: L.AveragePooling1D(2, padding="causal"), "padding: expected one of"),
        (lambda: L.GlobalMaxPooling1D("last"), "data_format: expected .*received 'last'"),
        (lambda: L.LayerNormalization(3)(np.zeros((2, 5, 3))), "with known sizes on axis 3"),
        (lambda: L.LayerNormalization([2, -1])(np.zeros((2, 5, 3))), "axis: expected each once"),
        (lambda: L.SpatialDropout1D(1.5), "rate: expected a number from 0 to 1"),
        (lambda: L.SpatialDropout1D(0.5)(np.zeros((2, 5))), "expected input of shape"),
        (lambda: L.Dropout(0.5, (None, 1))(np.zeros((2, 5, 3))), r"noise_shape \(None, 1\)"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_axis_of_another_type():
    with pytest.raises(TypeError, match="axis: expected a whole number or several, received 1.5"):
        L.LayerNormalization(1.5)
