"""The layers around recurrent ones against Keras: outputs, gradients, masks."""

import numpy as np
import pytest

import fastrnn
from fastrnn.run import Run

keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")
tf = pytest.importorskip("tensorflow", reason="compares with Keras on TensorFlow")

pytestmark = pytest.mark.filterwarnings("ignore:.*(does not support masking|rms_scaling)")

ACTIVATIONS = ["linear", "relu", "tanh", "sigmoid", "softmax", "gelu", "elu", "hard_sigmoid"]


def pick(rng, *values):
    return values[rng.integers(len(values))]


def axes(data_format, batch, timesteps, channels):
    """A shape in the order of data_format."""
    if data_format == "channels_first":
        return batch, channels, timesteps
    return batch, timesteps, channels


def conv(rng, batch, timesteps, channels):
    groups = pick(rng, 1, 1, 2, 3)
    strides, dilation_rate = pick(rng, (1, 1), (1, 2), (2, 1), (3, 1), (1, 3))
    data_format = pick(rng, "channels_last", "channels_last", "channels_first")
    return axes(data_format, batch, timesteps + 10, groups * channels), {
        "filters": groups * int(rng.integers(1, 9)),
        "kernel_size": int(rng.integers(1, 5)),
        "strides": strides,
        "padding": pick(rng, "valid", "same", "causal"),
        "dilation_rate": dilation_rate,
        "groups": groups,
        "activation": pick(rng, *ACTIVATIONS),
        "use_bias": pick(rng, True, False),
        "data_format": data_format,
    }


def conv_transpose(rng, batch, timesteps, channels):
    strides = int(rng.integers(1, 5))
    size, output_padding = int(rng.integers(1, 6)), pick(rng, None, 0, strides - 1)
    padding = pick(rng, "valid", "same")
    if padding == "same" and output_padding is not None:  # TensorFlow takes no others
        size += 1 - size % 2
    return (batch, timesteps, channels), {
        "filters": int(rng.integers(1, 9)),
        "kernel_size": size,
        "strides": strides,
        "padding": padding,
        "output_padding": output_padding,
        "activation": pick(rng, *ACTIVATIONS),
        "use_bias": pick(rng, True, False),
    }


def depthwise_conv(rng, batch, timesteps, channels, **more):
    data_format = pick(rng, "channels_last", "channels_last", "channels_first")
    shape = axes(data_format, batch, timesteps + 10, channels)
    options = {
        **more,
        "kernel_size": int(rng.integers(1, 5)),
        "strides": int(rng.integers(1, 4)),
        "padding": pick(rng, "valid", "same"),
        "dilation_rate": int(rng.integers(1, 4)),
        "depth_multiplier": int(rng.integers(1, 4)),
        "activation": pick(rng, *ACTIVATIONS),
        "use_bias": pick(rng, True, False),
        "data_format": data_format,
    }
    return shape, options


def separable_conv(rng, *shape):
    return depthwise_conv(rng, *shape, filters=int(rng.integers(2, 9)))


def pooling(rng, batch, timesteps, channels):
    data_format = pick(rng, "channels_last", "channels_first")
    return axes(data_format, batch, timesteps, channels), {
        "pool_size": int(rng.integers(1, 6)),
        "strides": pick(rng, None, 1, 2, 3, 7),
        "padding": pick(rng, "valid", "same"),
        "data_format": data_format,
    }


def global_pooling(rng, batch, timesteps, channels):
    # With channels_first Masking finds the mask along the channels: as many as there are steps.
    data_format = pick(rng, "channels_last", "channels_first")
    shape = (batch, timesteps, channels)
    return (batch, timesteps, timesteps) if data_format == "channels_first" else shape, {
        "data_format": data_format,
        "keepdims": pick(rng, True, False),
    }


def images(rng, data_format, batch, height, channels):
    """A shape in the order of data_format."""
    sizes = height, int(rng.integers(4, 12))
    return (
        (batch, channels, *sizes) if data_format == "channels_first" else (batch, *sizes, channels)
    )


def conv2d(rng, batch, timesteps, channels):
    groups = pick(rng, 1, 1, 2, 3)
    strides, dilation_rate = pick(
        rng, (1, 1), (1, 2), (2, 1), ((3, 1), 1), (1, (1, 3)), ((1, 2), 1)
    )
    data_format = pick(rng, "channels_last", "channels_last", "channels_first")
    return images(rng, data_format, batch, timesteps + 5, groups * channels), {
        "filters": groups * int(rng.integers(1, 9)),
        "kernel_size": pick(rng, 1, 2, 3, (1, 3), (4, 2)),
        "strides": strides,
        "padding": pick(rng, "same", "same", "valid") if dilation_rate == 1 else "same",
        "dilation_rate": dilation_rate,
        "groups": groups,
        "activation": pick(rng, *ACTIVATIONS),
        "use_bias": pick(rng, True, False),
        "data_format": data_format,
    }


def pooling2d(rng, batch, timesteps, channels):
    data_format = pick(rng, "channels_last", "channels_last", "channels_first")
    return images(rng, data_format, batch, timesteps, channels), {
        "pool_size": pick(rng, 1, 2, 3, (3, 2), (1, 4)),
        "strides": pick(rng, None, 1, 2, (3, 1), (1, 2)),
        "padding": pick(rng, "valid", "same"),
        "data_format": data_format,
    }


def global_pooling2d(rng, *shape):
    data_format = pick(rng, "channels_last", "channels_first")
    return images(rng, data_format, *shape), {
        "data_format": data_format,
        "keepdims": pick(rng, True, False),
    }


def up_sampling2d(rng, *shape):
    data_format = pick(rng, "channels_last", "channels_first")
    size = pick(rng, 1, 2, (3, 1), (2, 4))
    return images(rng, data_format, *shape), {"size": size, "data_format": data_format}


def zero_padding2d(rng, *shape):
    data_format = pick(rng, "channels_last", "channels_first")
    padding = pick(rng, 0, 2, (1, 3), ((0, 1), (2, 0)))
    return images(rng, data_format, *shape), {"padding": padding, "data_format": data_format}


def cropping2d(rng, *shape):
    data_format = pick(rng, "channels_last", "channels_first")
    cropping = pick(rng, 0, 1, (2, 1), ((0, 1), (2, 0)))
    return images(rng, data_format, *shape), {"cropping": cropping, "data_format": data_format}


def rate2d(rng, *shape):
    data_format = pick(rng, "channels_last", "channels_first")
    return images(rng, data_format, *shape), {"rate": 0.4, "data_format": data_format}


def flatten(rng, *shape):
    data_format = pick(rng, "channels_last", "channels_first")
    return images(rng, data_format, *shape), {"data_format": data_format}


def batch_normalization_of_images(rng, batch, height, channels):
    # With another axis Keras's mask leaves out single pixels of single channels.
    return images(rng, "channels_last", batch + 1, height, channels), {
        "momentum": 0.7,
        "center": pick(rng, True, False),
        "scale": pick(rng, True, False),
    }


def layer_normalization(rng, batch, timesteps, channels):
    # Of two channels any normalisation is close to 1 and -1, and a gradient is all rounding.
    return (batch, timesteps, channels + 3), {
        "axis": pick(rng, -1, 1, 2, [1, 2], [2, 1], [-1], [-2, -1]),
        "epsilon": pick(rng, 1e-3, 1e-5, 0.1),
        "center": pick(rng, True, False),
        "scale": pick(rng, True, False),
        "rms_scaling": pick(rng, False, False, True),
    }


def rate(rng, *shape):
    return shape, {"rate": 0.4}


def stddev(rng, *shape):
    return shape, {"stddev": 0.4}


def penalties(rng, *shape):
    return shape, {"l1": 0.1, "l2": 0.2}


def permute(rng, *shape):
    return shape, {"dims": pick(rng, (1, 2), (2, 1))}


def relu(rng, *shape):
    return shape, {
        "max_value": pick(rng, None, 1.1, 0.2),
        "negative_slope": pick(rng, 0.0, 0.3),
        "threshold": pick(rng, 0.0, 0.5),
    }


def leaky_relu(rng, *shape):
    return shape, {"negative_slope": pick(rng, 0.0, 0.3, 1.0)}


def elu(rng, *shape):
    return shape, {"alpha": pick(rng, 1.0, 0.3)}


def softmax(rng, batch, timesteps, channels):
    # The layer aligns the mask of (batch, timesteps) with its last axes.
    return (timesteps, timesteps, timesteps), {"axis": pick(rng, -1, 1, [1], [1, 2])}


def prelu(rng, *shape):
    return shape, {"shared_axes": pick(rng, None, 1, [2], [1, 2])}


def rescaling(rng, batch, timesteps, channels):
    shapes = (), (channels,), (1, channels), (timesteps, 1), (timesteps, channels)
    scale, offset = (rng.standard_normal(pick(rng, *shapes)).astype(np.float32) for _ in range(2))
    return (batch, timesteps, channels), {"scale": scale, "offset": pick(rng, offset, -1)}


def up_sampling(rng, *shape):
    return shape, {"size": int(rng.integers(1, 5))}


def zero_padding(rng, batch, timesteps, channels):
    data_format = pick(rng, "channels_last", "channels_first")
    return axes(data_format, batch, timesteps, channels), {
        "padding": pick(rng, 0, 1, 5, (2, 0), [0, 3], (1, 4)),
        "data_format": data_format,
    }


def cropping(rng, *shape):
    return shape, {"cropping": pick(rng, 0, 1, 2, (3, 0), [0, 4], (1, 2))}


def unit_normalization(rng, *shape):
    return shape, {"axis": pick(rng, -1, 1, 2, [1, 2], (-1, 1))}


def rms_normalization(rng, batch, timesteps, channels):
    # Of one channel it gives 1 or -1, and a gradient is all rounding.
    return (batch, timesteps, channels + 1), {
        "axis": pick(rng, -1, 2, [1, 2], [2, 1], [-1], [-2, -1]),
        "epsilon": pick(rng, 1e-6, 1e-3, 0.1),
    }


def group_normalization(rng, batch, timesteps, channels):
    axis, groups = pick(rng, -1, 1, 2, -2), pick(rng, 1, 2, 3)
    shape = [batch, timesteps, channels + 3]
    shape[axis] *= groups
    return tuple(shape), {
        "groups": pick(rng, groups, groups, -1),
        "axis": axis,
        "epsilon": pick(rng, 1e-3, 0.1),
        "center": pick(rng, True, False),
        "scale": pick(rng, True, False),
    }


def normalization(rng, batch, timesteps, channels):
    axis = pick(rng, None, -1, 1, 2, (1, 2), [2, 1], [-1])
    options = {"axis": axis, "invert": pick(rng, False, True)}
    if axis in (None, -1) and rng.random() < 0.4:
        shape = (channels,) if axis else ()
        options |= {"mean": rng.standard_normal(shape), "variance": rng.random(shape)}
    return (batch, timesteps, channels), options


def no_options(rng, *shape):
    return shape, {}


OPTIONS = {
    "Conv1D": conv,
    "Conv1DTranspose": conv_transpose,
    "DepthwiseConv1D": depthwise_conv,
    "SeparableConv1D": separable_conv,
    "Conv2D": conv2d,
    "MaxPooling2D": pooling2d,
    "AveragePooling2D": pooling2d,
    "GlobalMaxPooling2D": global_pooling2d,
    "GlobalAveragePooling2D": global_pooling2d,
    "UpSampling2D": up_sampling2d,
    "ZeroPadding2D": zero_padding2d,
    "Cropping2D": cropping2d,
    "SpatialDropout2D": rate2d,
    "Flatten": flatten,
    "BatchNormalization": batch_normalization_of_images,
    "MaxPooling1D": pooling,
    "AveragePooling1D": pooling,
    "GlobalMaxPooling1D": global_pooling,
    "GlobalAveragePooling1D": global_pooling,
    "LayerNormalization": layer_normalization,
    "SpatialDropout1D": rate,
    "GaussianDropout": rate,
    "GaussianNoise": stddev,
    "ActivityRegularization": penalties,
    "Permute": permute,
    "ReLU": relu,
    "LeakyReLU": leaky_relu,
    "ELU": elu,
    "Softmax": softmax,
    "PReLU": prelu,
    "Identity": no_options,
    "Rescaling": rescaling,
    "UpSampling1D": up_sampling,
    "ZeroPadding1D": zero_padding,
    "Cropping1D": cropping,
    "UnitNormalization": unit_normalization,
    "RMSNormalization": rms_normalization,
    "GroupNormalization": group_normalization,
    "Normalization": normalization,
}
RANDOM = {"SpatialDropout1D", "SpatialDropout2D", "GaussianDropout", "GaussianNoise"}


TOLERANCES = {"output": 1e-5, "gradient of the input": 1e-4, "gradient of a weight": 1e-4}


def compare(tally, case, kind, actual, expected):
    """Deviations are relative to the largest number of an array; of an array that is much smaller
    than the largest of its kind, to a hundredth of that; at least to 1e-3."""
    floor = max([1e-3, *(1e-2 * abs(e).max() for e in expected)])
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape and a.dtype == np.float32
        deviation = float(abs(a - e).max() / max(abs(e).max(), floor))
        assert deviation <= TOLERANCES[kind], kind
        tally.deviation(kind, deviation, case)


def run_keras(layer, called, x, dy, training):
    """(output, mask, gradient of x, gradients of the weights); a step of zeros is masked."""
    tensor = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = called(keras.layers.Masking()(tensor), training=training)
        mask = getattr(y, "_keras_mask", None)
        total = tf.reduce_sum(y * dy(y.shape))
    gradients = tape.gradient(total, [tensor, *(w.value for w in layer.trainable_weights)])
    dx, *weights = (g.numpy() for g in gradients)
    return y.numpy(), None if mask is None else mask.numpy(), dx, weights


def run_fastrnn(layer, x, dy, training):
    """The same."""
    masking = fastrnn.layers.Masking()
    mask = masking.compute_mask(x)
    run = Run(training)
    for weight in layer.weights:
        weight.gradient = np.full(weight.shape, np.nan, np.float32)
    y = layer.forward(x, run, mask).copy()
    dx = layer.backward(dy(y.shape).copy(), run) if training else None
    if dx is not None:
        dx = dx * mask[..., None]
    return y, layer.compute_mask(x, mask), dx, [w.gradient for w in layer.trainable_weights]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("name", OPTIONS)
def test_outputs_gradients_and_masks(name, seed, tally):
    rng = np.random.default_rng([seed, *name.encode()])
    shape, options = OPTIONS[name](rng, *(int(rng.integers(*r)) for r in ((1, 6), (5, 20), (1, 9))))
    case = f"{name} {shape} {options}"
    print(case)
    x = rng.standard_normal(shape).astype(np.float32)
    if seed % 3 == 0 and name != "ReLU":  # whose gradients at its kinks are not all Keras's
        x = np.round(x)  # equal values
    x[rng.random(shape[:2]) < 0.3] = 0
    x[:, 0] = 1  # no sequence wholly masked

    own = getattr(fastrnn.layers, name)(**options)
    if options.get("data_format") == "channels_first" and options.get("use_bias"):
        made = own.compute_output_shape(shape)
        if made[1] == made[-1]:  # see test_bias_of_as_many_channels_as_steps
            options["use_bias"] = False
            own = getattr(fastrnn.layers, name)(**options)
    theirs = getattr(keras.layers, name)(**options)
    own(x)
    called = theirs
    try:
        theirs(x)
    except tf.errors.UnimplementedError:  # on this CPU TensorFlow has it compiled alone
        assert options["data_format"] == "channels_first"
        called = tf.function(theirs, jit_compile=True)
    assert own.compute_output_shape(x.shape) == tuple(theirs.compute_output_shape(x.shape))
    assert [w.name for w in own.weights] == [w.name for w in theirs.weights]
    weights = [rng.standard_normal(w.shape).astype(np.float32) for w in theirs.weights]
    if weights and name == "Normalization":
        weights = [weights[0], np.asarray(abs(weights[1])), np.array(0)]
    for weight, value in zip(theirs.weights, weights, strict=True):
        if "variance" in weight.name:
            np.abs(value, out=value)
    own.set_weights(weights)
    theirs.set_weights(weights)
    if name == "Normalization":
        theirs.finalize_state()

    def dy(shape):
        return np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)

    for training in (False, True):
        y, mask, dx, gradients = run_fastrnn(own, x, dy, training)
        expected_y, expected_mask, expected_dx, expected = run_keras(
            theirs, called, x, dy, training
        )
        assert (mask is None) == (expected_mask is None)
        if mask is not None:
            np.testing.assert_array_equal(mask, expected_mask)
        if training and name in RANDOM:
            continue
        compare(tally, case, "output", [y], [expected_y])
        if training:
            compare(tally, case, "gradient of the input", [dx], [expected_dx])
            compare(tally, case, "gradient of a weight", gradients, expected)
    tally.compared(name)


@pytest.mark.parametrize("seed", range(12))
def test_normalization_adapts_as_keras(seed, tally):
    rng = np.random.default_rng(seed)
    axis = pick(rng, None, -1, 1, 2, (1, 2), [2, 1])
    shape = tuple(int(rng.integers(*r)) for r in ((5, 60), (2, 9), (1, 6)))
    case = f"{axis} {shape}"
    data = (rng.normal(pick(rng, 0, 5), 2, shape)).astype(pick(rng, "float32", "float64", "int64"))
    if seed % 2:  # batches; Keras adds up in float32
        data = np.array_split(data.astype(np.float32), int(rng.integers(1, 5)))
    given = {
        "arrays": lambda: data,
        "tuples": lambda: ((part, 0) for part in data),
    }["tuples" if seed % 4 == 3 else "arrays"]
    own, theirs = (api.layers.Normalization(axis) for api in (fastrnn, keras))
    own.adapt(given())
    theirs.adapt(given())
    for weight, expected in zip(own.get_weights(), theirs.get_weights(), strict=True):
        assert weight.shape == np.shape(expected)
        np.testing.assert_allclose(weight, expected, rtol=2e-5, atol=2e-6)
    x = np.concatenate(data) if isinstance(data, list) else data
    compare(tally, case, "output", [own(x)], [theirs(x).numpy()])
    tally.compared("adapt")
