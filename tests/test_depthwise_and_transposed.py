"""Conv1DTranspose, DepthwiseConv1D and SeparableConv1D against the float64 reference."""

import numpy as np
import oracle
import pytest
from test_conv_pooling_norm import check

from fastrnn import layers as L
from fastrnn.run import Run
from fastrnn.saving.legacy import update_layer

FORMATS = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


def transposed(x, kernel, bias=None, *, strides, padding, output_padding=None, dilation_rate=1):
    """By the definition: each step adds to the steps of its window, then both ends are cut."""
    size, filters, _ = kernel.shape
    reach = (size - 1) * dilation_rate + 1
    whole = (x.shape[1] - 1) * strides + reach
    y = np.zeros((len(x), whole + strides, filters))  # zeros follow
    for t in range(x.shape[1]):
        for place in range(size):
            y[:, t * strides + place * dilation_rate] += x[:, t] @ kernel[place].T
    if padding == "valid":
        before = 0
        steps = max(whole, x.shape[1] * strides)
        if output_padding is not None:
            steps = whole + output_padding
    else:
        steps = x.shape[1] * strides
        if output_padding is not None:
            steps = (x.shape[1] - 1) * strides + reach % 2 + output_padding
        before = max(whole - steps, 0) // 2
    y = y[:, before : before + steps]
    return y if bias is None else y + bias


@pytest.mark.parametrize("timesteps", [2, 5])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    "size, strides, output_padding, dilation_rate",
    [
        (1, 1, None, 1), (3, 1, None, 1), (4, 1, 0, 1), (2, 1, None, 3), (3, 1, 0, 2),
        (3, 2, None, 1), (3, 2, 0, 1), (3, 2, 1, 1), (2, 2, 0, 1), (5, 2, 1, 1),
        (2, 3, None, 1), (1, 3, 1, 1), (2, 3, 2, 1), (7, 3, 0, 1), (6, 4, 1, 1),
    ],
)  # fmt: skip
def test_conv1d_transpose(size, strides, output_padding, dilation_rate, padding, timesteps, rng):
    options = {
        "strides": strides, "padding": padding, "output_padding": output_padding,
        "dilation_rate": dilation_rate,
    }  # fmt: skip
    x = rng.standard_normal((2, timesteps, 3)).astype(np.float32)
    layer = L.Conv1DTranspose(4, size, **options)
    check(layer, x, lambda *arrays: transposed(*arrays, **options))
    assert layer.compute_output_shape((None, None, 3)) == (None, None, 4)


@FORMATS
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_conv1d_transpose_activations(activation, data_format, rng):
    x = rng.standard_normal((2, 5, 6)).astype(np.float32)
    check(
        L.Conv1DTranspose(
            3, 4, 2, "same", data_format=data_format, activation=activation, use_bias=False
        ),
        x,
        lambda x, kernel: oracle.activate(
            activation, transposed(x, kernel, strides=2, padding="same")
        ),
    )


def test_transposed_is_the_gradient_of_the_convolution(rng):
    x = rng.standard_normal((2, 12, 3)).astype(np.float32)
    for options in ({"strides": 3, "padding": "same"}, {"dilation_rate": 2}):
        convolution = L.Conv1D(4, 3, use_bias=False, **options)
        run = Run(training=True)
        convolution(x)
        dy = convolution.forward(x, run)
        convolution.kernel.gradient = np.zeros(convolution.kernel.shape, np.float32)
        back = L.Conv1DTranspose(3, 3, use_bias=False, **options)
        back.build(dy.shape)
        back.set_weights(convolution.get_weights())
        expected = convolution.backward(dy.copy(), run)
        np.testing.assert_allclose(back(dy), expected, rtol=1e-4, atol=1e-5)


def depthwise(x, kernel, bias=None, **options):
    """A convolution of each channel, with each of its kernels."""
    parts = [
        oracle.conv1d_forward(x[..., c : c + 1], kernel[:, c : c + 1], None, **options)
        for c in range(x.shape[2])
    ]
    y = np.concatenate(parts, axis=2)
    return y if bias is None else y + bias


WINDOWS = pytest.mark.parametrize(
    "size, strides, dilation_rate", [(1, 1, 1), (3, 1, 1), (2, 3, 1), (2, 1, 2), (2, 3, 2)]
)


@WINDOWS
@pytest.mark.parametrize("depth_multiplier", [1, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("timesteps", [3, 8])
def test_depthwise_conv1d(size, strides, dilation_rate, depth_multiplier, padding, timesteps, rng):
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}
    x = rng.standard_normal((2, timesteps, 4)).astype(np.float32)
    layer = L.DepthwiseConv1D(size, depth_multiplier=depth_multiplier, **options)
    check(layer, x, lambda *arrays: depthwise(*arrays, **options))


@WINDOWS
@pytest.mark.parametrize("depth_multiplier", [1, 3])
@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
def test_separable_conv1d(size, strides, dilation_rate, depth_multiplier, padding, rng):
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}
    x = rng.standard_normal((2, 7, 4)).astype(np.float32)
    check(
        L.SeparableConv1D(5, size, depth_multiplier=depth_multiplier, **options),
        x,
        lambda x, kernel, pointwise, bias: depthwise(x, kernel, **options) @ pointwise[0] + bias,
    )


@FORMATS
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_activations(activation, data_format, rng):
    x = rng.standard_normal((2, 5, 6)).astype(np.float32)
    options = {"use_bias": False, "activation": activation, "data_format": data_format}
    check(
        L.DepthwiseConv1D(2, depth_multiplier=2, **options),
        x,
        lambda x, kernel: oracle.activate(activation, depthwise(x, kernel)),
    )
    check(
        L.SeparableConv1D(3, 2, **options),
        x,
        lambda x, kernel, pointwise: oracle.activate(
            activation, depthwise(x, kernel) @ pointwise[0]
        ),
    )


def test_masks_are_dropped(rng):
    x, mask = rng.standard_normal((2, 4, 3)), np.ones((2, 4), bool)
    for layer in (L.Conv1DTranspose(2, 3), L.DepthwiseConv1D(3), L.SeparableConv1D(2, 3)):
        assert layer.compute_mask(x, mask) is None


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.Conv1DTranspose(0, 3), "filters: expected a whole number >= 1, received 0"),
        (lambda: L.Conv1DTranspose(4, (3, 3)), "kernel_size: expected one whole number, received"),
        (
            lambda: L.Conv1DTranspose(4, 3, 2, output_padding=2),
            "output_padding: expected None or a whole number from 0, below strides, 2, received 2",
        ),
        (lambda: L.Conv1DTranspose(4, 3, output_padding=(0, 0)), "output_padding: expected None"),
        (
            lambda: L.Conv1DTranspose(4, 3, strides=2, dilation_rate=2),
            "strides, dilation_rate: expected one",
        ),
        (lambda: L.Conv1DTranspose(4, 3, padding="causal"), "padding: expected one of"),
        (lambda: L.Conv1DTranspose(4, 3, groups=1), "groups"),
        (lambda: L.Conv1DTranspose(4, 2, 1, "same", 0)(np.zeros((2, 1, 3))), "at least 2 time"),
        (lambda: L.Conv1DTranspose(4, 3)(np.zeros((2, 3))), "expected input of shape"),
        (lambda: L.DepthwiseConv1D(3, depth_multiplier=0), "depth_multiplier: expected a whole"),
        (lambda: L.DepthwiseConv1D(3, padding="causal"), "padding: expected one of"),
        (lambda: L.DepthwiseConv1D(3)(np.zeros((2, 2, 3))), "with at least 3 time steps, received"),
        (lambda: L.DepthwiseConv1D(3).build((None, 3, None)), "known number of channels"),
        (lambda: L.SeparableConv1D(0, 3), "filters: expected a whole number >= 1, received 0"),
        (lambda: L.SeparableConv1D(2, 3, pointwise_initializer="no"), "pointwise_initializer: "),
        (lambda: L.SeparableConv1D(2, 3, kernel_initializer="ones"), "kernel_initializer"),
        (lambda: L.SeparableConv1D(2, 3)(np.zeros((2, 2, 3))), "with at least 3 time steps"),
        (lambda: L.DepthwiseConv1D(3).compute_output_shape((None, 2, 3)), "at least 3 time steps"),
        (lambda: L.Conv1DTranspose(4, 3).build((None, 3, None)), "known number of channels"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_shapes_by_their_older_names():
    for layer in (
        L.Conv1DTranspose(2, 3, input_dim=5, input_length=9),
        L.DepthwiseConv1D(3, input_dim=5, input_length=9),
        L.SeparableConv1D(2, 3, input_dim=5, input_length=9),
    ):
        assert layer.batch_input_shape == (None, 9, 5)


@pytest.mark.parametrize("name", ["Conv1DTranspose", "DepthwiseConv1D", "SeparableConv1D"])
def test_configs_of_keras_2(name):
    options = {"kernel_size": 3} if name == "DepthwiseConv1D" else {"filters": 2, "kernel_size": 3}
    layer = getattr(L, name)(**options)
    of_kernel = {"kernel_initializer": "zeros", "kernel_regularizer": None}
    old = {**(of_kernel if name == "SeparableConv1D" else {}), "groups": 1}
    _, config = update_layer(name, {**layer.get_config(), **old}, 2)
    assert type(layer).from_config(config).get_config() == layer.get_config()
    with pytest.raises(ValueError, match="groups"):
        type(layer).from_config(update_layer(name, {**config, "groups": 2}, 2)[1])
