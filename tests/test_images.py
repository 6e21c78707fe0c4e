"""Convolution and pooling of images, and the CNN below an LSTM, against the float64 reference."""

import numpy as np
import oracle
import pytest
from gradcheck import numeric_gradient
from test_conv_pooling_norm import check

import fastrnn
from fastrnn import layers as L
from fastrnn.layers import conv2d
from fastrnn.run import Run

FORMATS = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
PADDINGS = pytest.mark.parametrize("padding", ["valid", "same"])


@pytest.fixture(params=[2**20, 1], ids=["at once", "one by one"])
def parts(request, monkeypatch):
    """Windows of all images are gathered at once, or of one image after the other."""
    monkeypatch.setattr(conv2d, "WINDOWS_AT_ONCE", request.param)


@PADDINGS
@pytest.mark.parametrize(
    "size, strides, dilation_rate",
    [
        ((1, 1), (1, 1), (1, 1)),
        ((1, 1), (2, 3), (1, 1)),
        ((3, 3), (1, 1), (1, 1)),
        ((2, 3), (1, 1), (1, 1)),
        ((4, 1), (1, 1), (1, 1)),
        ((3, 2), (2, 1), (1, 1)),
        ((2, 2), (3, 3), (1, 1)),
        ((2, 3), (1, 1), (2, 1)),
        ((3, 2), (1, 1), (1, 3)),
    ],
)
def test_conv2d(size, strides, dilation_rate, padding, parts, rng):
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}
    x = rng.standard_normal((2, 5, 4, 2)).astype(np.float32)
    check(
        L.Conv2D(3, size, **options),
        x,
        lambda x, kernel, bias: oracle.conv2d_forward(x, kernel, bias, **options),
    )


@FORMATS
@pytest.mark.parametrize("activation", ["tanh", "softplus", "softmax"])
def test_conv2d_groups(activation, data_format, parts, rng):
    x = rng.standard_normal((2, 3, 2, 6)).astype(np.float32)
    options = {"padding": "same", "groups": 3}
    layer = L.Conv2D(
        9, (2, 3), use_bias=False, activation=activation, data_format=data_format, **options
    )

    def reference(x, kernel):
        z = oracle.conv2d_forward(x, kernel, None, **options)
        if data_format == "channels_last" or activation != "softmax":
            return oracle.activate(activation, z)
        return oracle.activate(activation, z.swapaxes(2, 3)).swapaxes(2, 3)  # along the width

    check(layer, x, reference)


@pytest.mark.parametrize("use_bias", [False, True])
def test_parts_of_the_batch_add_up(use_bias, monkeypatch, rng):
    x = rng.standard_normal((5, 4, 3, 2)).astype(np.float32)
    layer = L.Conv2D(4, 2, use_bias=use_bias, activation="relu")
    monkeypatch.setattr(conv2d, "WINDOWS_AT_ONCE", 2 * 4 * 6 * 16)
    assert [p.start for p in layer._parts((5, 3, 2, 4), x.shape)] == [0, 2, 4]
    check(layer, x, lambda x, *w: np.maximum(oracle.conv2d_forward(x, *w, *[None][use_bias:]), 0))


@FORMATS
@PADDINGS
@pytest.mark.parametrize(
    "pool_size, strides",
    [((2, 2), None), ((3, 2), (1, 2)), ((2, 3), (3, 1)), ((1, 4), (2, 2)), ((1, 1), (5, 3))],
)
@pytest.mark.parametrize("cls, reduce", [(L.MaxPooling2D, np.max), (L.AveragePooling2D, np.mean)])
def test_pooling(cls, reduce, pool_size, strides, padding, data_format, rng):
    x = rng.standard_normal((2, 5, 6, 3)).astype(np.float32)
    check(
        cls(pool_size, strides, padding, data_format),
        x,
        lambda x: oracle.pooling2d_forward(x, reduce, pool_size, strides, padding),
    )


@pytest.mark.parametrize("cls, reduce", [(L.MaxPooling2D, np.max), (L.AveragePooling2D, np.mean)])
def test_pooling_windows_larger_than_the_image(cls, reduce, rng):
    x = rng.standard_normal((2, 3, 2, 3)).astype(np.float32)
    check(cls(10**9, padding="same"), x, lambda x: reduce(x, axis=(1, 2), keepdims=True))


@FORMATS
@pytest.mark.parametrize(
    "cls, reduce", [(L.GlobalMaxPooling2D, np.max), (L.GlobalAveragePooling2D, np.mean)]
)
def test_global_pooling(cls, reduce, data_format, rng):
    x = rng.standard_normal((3, 4, 5, 2)).astype(np.float32)
    check(cls(data_format), x, lambda x: reduce(x, axis=(1, 2)))
    check(cls(data_format, True), x, lambda x: reduce(x, axis=(1, 2), keepdims=True))


def test_of_equal_values_the_first_gets_the_gradient_and_all_do_globally():
    x = np.array([[1, 2, 0, 0], [2, 2, 0, 0]], np.float32).reshape(1, 2, 4, 1)
    for layer, expected in (
        (L.MaxPooling2D(2), [[0, 1, 1, 0], [0, 0, 0, 0]]),
        (L.GlobalMaxPooling2D(), [[0, 1 / 3, 0, 0], [1 / 3, 1 / 3, 0, 0]]),
    ):
        run = Run(training=True)
        y = layer.forward(x, run)
        dx = layer.backward(np.ones_like(y), run)
        np.testing.assert_allclose(dx[0, :, :, 0], expected, rtol=1e-6)


@FORMATS
@pytest.mark.parametrize("size", [1, 2, (3, 1), [1, 2]])
def test_up_sampling(size, data_format, rng):
    x = rng.standard_normal((2, 3, 4, 2)).astype(np.float32)
    down, across = (size, size) if isinstance(size, int) else size
    layer = L.UpSampling2D(size, data_format)
    check(layer, x, lambda x: np.repeat(np.repeat(x, down, axis=1), across, axis=2))


EDGES = [
    (2, ((2, 2), (2, 2))),
    ((1, 0), ((1, 1), (0, 0))),
    (((0, 1), (2, 0)), ((0, 1), (2, 0))),
    ([[1, 0], 1], ((1, 0), (1, 1))),
]


@FORMATS
@pytest.mark.parametrize("given, edges", EDGES)
def test_zero_padding(given, edges, data_format, rng):
    x = rng.standard_normal((2, 3, 4, 2)).astype(np.float32)
    layer = L.ZeroPadding2D(given, data_format)
    assert layer.padding == edges
    check(layer, x, lambda x: np.pad(x, ((0, 0), *edges, (0, 0))))


@FORMATS
@pytest.mark.parametrize("given, edges", EDGES)
def test_cropping(given, edges, data_format, rng):
    x = rng.standard_normal((2, 5, 6, 2)).astype(np.float32)
    layer = L.Cropping2D(given, data_format)
    assert layer.cropping == edges
    (top, bottom), (left, right) = edges
    check(layer, x, lambda x: x[:, top : 5 - bottom, left : 6 - right])


@FORMATS
def test_flatten(data_format, rng):
    x = rng.standard_normal((2, 3, 4, 2)).astype(np.float32)
    check(L.Flatten(data_format), x, lambda x: x.reshape(2, -1))
    x = rng.standard_normal((2, 3)).astype(np.float32)
    check(L.Flatten(data_format), x, lambda x: x)


@FORMATS
def test_spatial_dropout_drops_whole_channels(data_format, rng):
    fastrnn.utils.set_random_seed(4)
    x = (2 + rng.random((50, 3, 4, 40))).astype(np.float32)
    layer = L.SpatialDropout2D(0.3, data_format)
    pixels, channels = ((1, 2), 40) if data_format == "channels_last" else ((2, 3), 3)
    np.testing.assert_array_equal(layer(x), x)
    run = Run(training=True)
    y = layer.forward(x, run)
    dropped = (y == 0).all(axis=pixels, keepdims=True)
    assert dropped.size == 50 * channels and abs(dropped.mean() - 0.3) < 0.1
    np.testing.assert_array_equal(y == 0, np.broadcast_to(dropped, y.shape))
    np.testing.assert_allclose(y[y != 0], (x / np.float32(0.7))[y != 0], rtol=1e-6)
    dx = layer.backward(np.ones_like(x), run)
    np.testing.assert_allclose(dx, np.where(y == 0, 0, 1 / 0.7), rtol=1e-6)


@pytest.mark.parametrize("axis", [-1, 1])
def test_batch_normalization(axis, rng):
    x = (3 + rng.standard_normal((4, 3, 5, 2))).astype(np.float32)
    axes = (0, 1, 2) if axis == -1 else (0, 2, 3)
    spread = (-1,) if axis == -1 else (-1, 1, 1)

    def reference(x, gamma, beta):
        centred = x - x.mean(axes, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-3)
        return y * gamma.reshape(spread) + beta.reshape(spread)

    run, layer = Run(training=True), L.BatchNormalization(axis)
    layer(x)
    gamma, beta = rng.standard_normal((2, x.shape[axis])).astype(np.float32)
    layer.gamma.assign(gamma), layer.beta.assign(beta)
    for weight in layer.weights:
        weight.gradient = np.zeros(weight.shape, np.float32)
    arrays = [a.astype(np.float64) for a in (x, gamma, beta)]
    np.testing.assert_allclose(layer.forward(x, run), reference(*arrays), atol=1e-5)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    gradients = [layer.backward(dy.copy(), run), layer.gamma.gradient, layer.beta.gradient]
    for array, gradient in zip(arrays, gradients, strict=True):
        numeric = numeric_gradient(lambda: (reference(*arrays) * dy).sum(), array)
        np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-5 * abs(numeric).max() + 1e-6)


def test_masks_are_dropped(rng):
    x, mask = rng.standard_normal((2, 4, 4, 3)), np.ones((2, 4), bool)
    for layer in (
        L.Conv2D(2, 3), L.MaxPooling2D(), L.AveragePooling2D(), L.GlobalAveragePooling2D(),
        L.GlobalMaxPooling2D(), L.ZeroPadding2D(), L.UpSampling2D(), L.Cropping2D(), L.Flatten(),
    ):  # fmt: skip
        assert layer.compute_mask(x, mask) is None
        assert layer(x, mask=mask).shape == layer(x).shape
    assert L.SpatialDropout2D(0.5).compute_mask(x, mask) is mask


# --- below TimeDistributed ---

INNER = {
    "Conv2D": lambda: L.Conv2D(3, 2, activation="tanh"),
    "MaxPooling2D": lambda: L.MaxPooling2D(2),
    "AveragePooling2D": lambda: L.AveragePooling2D((1, 2)),
    "GlobalAveragePooling2D": lambda: L.GlobalAveragePooling2D(),
    "GlobalMaxPooling2D": lambda: L.GlobalMaxPooling2D(),
    "ZeroPadding2D": lambda: L.ZeroPadding2D(((1, 0), (0, 2))),
    "UpSampling2D": lambda: L.UpSampling2D((1, 2)),
    "Cropping2D": lambda: L.Cropping2D(((1, 0), (0, 2))),
    "Activation": lambda: L.Activation("relu"),
    "Flatten": lambda: L.Flatten(),
    "Reshape": lambda: L.Reshape((-1, 4)),
    "Dropout": lambda: L.Dropout(0.0),
    "SpatialDropout2D": lambda: L.SpatialDropout2D(0.0),
    "BatchNormalization": lambda: L.BatchNormalization(),
    "Sequential": lambda: fastrnn.Sequential(
        [
            L.Conv2D(4, 3, padding="same"), L.BatchNormalization(), L.Activation("relu"),
            L.MaxPooling2D(), L.Dropout(0.0), L.Flatten(), L.Dense(3),
        ]
    ),
}  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", INNER)
def test_time_distributed_is_the_layer_of_each_step(name, training, rng):
    x = rng.standard_normal((3, 4, 4, 6, 2)).astype(np.float32)
    layer = L.TimeDistributed(INNER[name]())
    y = layer(x, training=training)
    expected = np.stack([layer.layer(x[:, t], training=training) for t in range(4)], axis=1)
    assert y.shape == expected.shape == layer.compute_output_shape(x.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def cnn_lstm(shape=(None, 8, 8, 1)):
    return fastrnn.Sequential(
        [
            fastrnn.Input(shape),
            L.TimeDistributed(L.ZeroPadding2D()),
            L.TimeDistributed(L.Conv2D(4, 3, activation="relu")),
            L.TimeDistributed(L.BatchNormalization()),
            L.TimeDistributed(L.MaxPooling2D()),
            L.TimeDistributed(L.SpatialDropout2D(0.1)),
            L.TimeDistributed(fastrnn.Sequential([L.Conv2D(6, 3, activation="relu"), L.Flatten()])),
            L.LSTM(8),
            L.Dense(1),
        ]
    )


def test_a_cnn_below_an_lstm_learns_and_predicts(tmp_path, rng):
    fastrnn.utils.set_random_seed(2)
    x = (0.1 * rng.random((48, 5, 8, 8, 1))).astype(np.float32)
    y = rng.integers(0, 2, (48, 1)).astype(np.float32)
    for video, right in zip(x, y, strict=True):  # a spot that moves right or left
        for t, frame in enumerate(video):
            frame[3:5, t if right else 6 - t, 0] = 1
    model = cnn_lstm()
    model.compile(fastrnn.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, y, epochs=12, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]
    expected = model.predict(x, verbose=0)
    assert ((expected > 0.5) == y).mean() > 0.9
    predictor = model.compile_inference()
    for _ in range(2):
        np.testing.assert_allclose(predictor(x[:3]), expected[:3], rtol=1e-4, atol=1e-5)
    for ending in ("keras", "h5"):
        model.save(tmp_path / f"model.{ending}")
        loaded = fastrnn.models.load_model(tmp_path / f"model.{ending}")
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
        loaded.train_on_batch(x, y)


def test_masked_frames_do_not_count(rng):
    x = rng.random((3, 6, 8, 8, 1)).astype(np.float32)
    frames = L.TimeDistributed(L.Conv2D(4, 3))
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2, [1] * 2 + [0] * 4], bool)
    assert frames.compute_mask(x, mask) is mask
    flat, lstm = L.TimeDistributed(L.Flatten()), L.LSTM(3)
    y = lstm(flat(frames(x, mask=mask), mask=mask), mask=mask)
    for row, length in enumerate((6, 4, 2)):
        alone = lstm(flat(frames(x[row : row + 1, :length])))
        np.testing.assert_allclose(y[row : row + 1], alone, atol=1e-6)


def test_a_size_for_both_axes():
    layer = L.Conv2D(4, 3, strides=2, dilation_rate=[1, 1])
    assert (layer.kernel_size, layer.strides, layer.dilation_rate) == ((3, 3), (2, 2), (1, 1))
    assert L.Convolution2D is L.Conv2D


def test_older_spellings():
    old = L.Convolution2D(
        nb_filter=4, nb_row=3, nb_col=2, border_mode="same", subsample=(2, 1), dim_ordering="th",
        input_shape=(5, 9, 7), W_regularizer="l2", bias=False, init="ones",
    )  # fmt: skip
    new = L.Conv2D(
        4, (3, 2), padding="same", strides=(2, 1), data_format="channels_first",
        input_shape=(5, 9, 7), kernel_regularizer="l2", use_bias=False, kernel_initializer="ones",
        name=old.name,
    )  # fmt: skip
    assert old.get_config() == new.get_config()
    assert old.batch_input_shape == new.batch_input_shape
    pooling = L.MaxPool2D((3, 2), border_mode="same", dim_ordering="th")
    assert (pooling.padding, pooling.data_format) == ("same", "channels_first")
    assert L.GlobalMaxPool2D(dim_ordering="tf").data_format == "channels_last"
    assert L.ZeroPadding2D({"top_pad": 2, "right_pad": 1}).padding == ((2, 0), (0, 1))
    assert L.SpatialDropout2D(p=0.3, dim_ordering="th").data_format == "channels_first"
    assert L.Conv2D(4, 3, dim_ordering="default").data_format == "channels_last"
    with pytest.raises(TypeError, match="kernel_size and its older names nb_row and nb_col"):
        L.Conv2D(4, kernel_size=3, nb_row=3, nb_col=3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.Conv2D(0, 3), "filters: expected a whole number >= 1, received 0"),
        (lambda: L.Conv2D(4, (3,)), r"kernel_size: expected one whole number or two, .*\(3,\)"),
        (lambda: L.Conv2D(4, (3, 0)), "kernel_size: expected a whole number >= 1, received 0"),
        (
            lambda: L.Conv2D(4, 3, strides=(1, 2), dilation_rate=(2, 1)),
            r"strides, dilation_rate: expected one of them to be 1, received \(1, 2\) and \(2, 1\)",
        ),
        (lambda: L.Conv2D(4, 3, groups=3), "filters: expected a multiple of groups, 3"),
        (lambda: L.Conv2D(4, 3, padding="causal"), "padding: expected one of .*'causal'"),
        (lambda: L.Conv2D(4, 3, data_format="last"), "data_format: expected .*received 'last'"),
        (lambda: L.Conv2D(4, 3, dim_ordering="last"), "dim_ordering: expected .*'last'"),
        (lambda: L.Conv2D(4, 3, groups=2)(np.zeros((2, 5, 5, 3))), "a multiple of 2, received"),
        (
            lambda: L.Conv2D(4, (3, 2))(np.zeros((2, 2, 5, 3))),
            "with images of at least 3 x 2, received",
        ),
        (
            lambda: L.Conv2D(4, 3)(np.zeros((2, 5, 3))),
            r"of shape \('batch', 'height', 'width', 'channels'\), received \(None, 5, 3\); "
            r"x\[..., None\] gives each pixel one channel, x\[None\] is one image$",
        ),
        (
            lambda: L.Conv2D(4, 3, data_format="channels_first").build((None, None, 5, 5)),
            "with a known number of channels",
        ),
        (lambda: L.MaxPooling2D(3)(np.zeros((2, 4, 2, 3))), "at least 3 x 3, received"),
        (lambda: L.MaxPooling2D((2, 2, 2)), "pool_size: expected one whole number or two"),
        (lambda: L.MaxPooling2D(2, strides=0), "strides: expected a whole number >= 1"),
        (lambda: L.AveragePooling2D(2, padding="causal"), "padding: expected one of"),
        (lambda: L.MaxPooling2D()(np.zeros((2, 4, 3))), "expected input of shape"),
        (lambda: L.GlobalMaxPooling2D("last"), "data_format: expected .*received 'last'"),
        (lambda: L.Flatten("last"), "data_format: expected .*received 'last'"),
        (lambda: L.SpatialDropout2D(0.5, "last"), "data_format: expected .*received 'last'"),
        (
            lambda: L.SpatialDropout2D(0.5)(np.zeros((2, 5, 3))),
            r"\(batch, height, width, channels\), received",
        ),
        (lambda: L.UpSampling2D(0), "size: expected a whole number >= 1, received 0"),
        (
            lambda: L.UpSampling2D(2, interpolation="bilinear"),
            "interpolation: expected 'nearest', received 'bilinear'",
        ),
        (lambda: L.ZeroPadding2D((1, -1)), r"padding: expected .*received \(1, -1\)"),
        (lambda: L.ZeroPadding2D((1, 1, 1, 1)), "padding: expected"),
        (lambda: L.ZeroPadding2D({"left": 1}), "padding: expected"),
        (lambda: L.ZeroPadding2D("12"), "padding: expected"),
        (lambda: L.Cropping2D({"top_pad": 1, "x": 2}), "cropping: expected"),
        (lambda: L.Cropping2D(2)(np.zeros((2, 4, 5, 1))), "at least 5 x 5, received"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
