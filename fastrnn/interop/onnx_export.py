"""Writing ONNX files: `to_onnx`."""

import os

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fastrnn import activations, layers
from fastrnn.interop.onnx_recurrent import GATES, KERAS_ACTIVATIONS, LAYERS, TO_ONNX, reorder
from fastrnn.layers.scaling import check_numbers
from fastrnn.models import Sequential
from fastrnn.saving.atomic import write_file

OPSET = 17
IR_VERSION = 8
END = 2**31 - 1  # a slice's end where it takes all

KINDS = {name: kind for kind, name in LAYERS.items()}
EXPORTERS = {}  # name of a class: function of (writer, layer, x, shape, mask) that returns y


def to_onnx(model, path=None):
    """Write a Sequential as an ONNX file (opset 17, float32; for inference), and return the
    onnx.ModelProto; path None only returns it.

    The batch is free, and so are the time steps unless an Input fixes them or a layer depends on
    their number. The input's dtype is int32 for a model that starts with an Embedding. Masks of any
    form become part of the graph. Errors: ValueError, with the layer's name, for what ONNX does not
    have: stateful layers, activations without an operator, layers that are not fastrnn's."""
    if not isinstance(model, Sequential):
        raise ValueError(f"model: expected a Sequential, received {model!r}")
    model.build()
    shape = _free_shape(model)
    writer = Writer()
    free = ("batch", "timesteps", *(f"axis_{n}" for n in range(2, len(shape))))
    dims = [free[n] if size is None else size for n, size in enumerate(shape)]
    kind = onnx.TensorProto.INT32 if model.input_dtype == np.int32 else onnx.TensorProto.FLOAT
    y, shape, _ = _sequential(writer, model, "input", shape, None)
    writer.add("Identity", y, outputs=["output"])
    output_dims = ["batch", *shape[1:]]
    graph = helper.make_graph(
        writer.nodes,
        model.name,
        [helper.make_tensor_value_info("input", kind, dims)],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, output_dims)],
        list(writer.constants.values()),
    )
    proto = helper.make_model(
        graph,
        producer_name="fastrnn",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(proto, full_check=True)
    if path is not None:
        write_file(os.fspath(path), proto.SerializeToString())
    return proto


def _free_shape(model):
    """The input's shape, with None for the batch and, if all layers allow it, the time steps."""
    declared = model._input_layer and model._input_layer.batch_input_shape
    shape = (None, *(declared or model.input_shape)[1:])
    if declared is None and len(shape) > 1:
        free = (None, None, *shape[2:])
        try:
            return free if _walk(model, free) else shape
        except (TypeError, ValueError):
            return shape
    return shape


def _walk(model, shape):
    """Do all layers take inputs of these sizes, None where free, without building anew?"""
    for layer in model.layers:
        if isinstance(layer, Sequential):
            if not _walk(layer, shape):
                return False
            shape = layer.compute_output_shape(shape)
            continue
        layer.check_input_shape(shape)
        if any(shape[axis] is None for axis in layer.fixed_axes):
            return False
        if isinstance(layer, (layers.Flatten, layers.Reshape)) and None in shape[1:]:
            return False
        shape = layer.compute_output_shape(shape)
    return True


class Writer:
    """The nodes and constants of a graph in the making; methods return names of values."""

    def __init__(self):
        self.nodes, self.constants = [], {}
        self._layer = None

    def begin(self, layer):
        self._layer = layer.name

    def add(self, op, *inputs, outputs=1, **attributes):
        """Append a node; returns its output's name, or a list for several outputs. Inputs that
        are arrays become constants; None leaves an input out."""
        number = len(self.nodes)
        if isinstance(outputs, int):
            outputs = [f"{self._layer}/{op}_{number}:{n}" for n in range(outputs)]
        names = [self._name(x) for x in inputs]
        node = helper.make_node(op, names, outputs, f"{self._layer}/{op}_{number}", **attributes)
        self.nodes.append(node)
        return outputs[0] if len(outputs) == 1 else outputs

    def _name(self, value):
        if value is None or isinstance(value, str):
            return value or ""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        small = array.size <= 8  # and worth keeping once only
        key = (array.dtype.str, array.shape, array.tobytes()) if small else len(self.constants)
        if key not in self.constants:
            name = f"{self._layer}/constant_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return self.constants[key].name


def exporter(*names):
    def keep(function):
        EXPORTERS.update(dict.fromkeys(names, function))
        return function

    return keep


def _sequential(writer, model, x, shape, mask):
    """Append a model's layers: (output, its shape with None where free, mask)."""
    for layer in model.layers:
        x, shape, mask = _layer(writer, layer, x, shape, mask)
    return x, shape, mask


def _layer(writer, layer, x, shape, mask):
    if isinstance(layer, Sequential):
        return _sequential(writer, layer, x, shape, mask)
    name = type(layer).__name__
    if name not in EXPORTERS or layers.CLASSES.get(name) is not type(layer):
        _refuse(layer, f"{name} is not supported")
    if isinstance(layer.output_shape, list):
        _refuse(layer, "return_state=True and merge_mode=None give several outputs; expected one")
    writer.begin(layer)
    y = EXPORTERS[name](writer, layer, x, shape, mask)
    if isinstance(layer, layers.Masking):
        mask = _masking_mask(writer, layer, x)
    elif getattr(layer, "mask_zero", False):
        mask = writer.add("Not", writer.add("Equal", x, np.int32(0)))
    elif mask is not None:
        mask = layer.compute_mask(None, mask)
    return y, layer.compute_output_shape(shape), mask


def _refuse(layer, reason):
    raise ValueError(f"to_onnx: layer {layer.name!r}: {reason}")


# --- activations ---


def _activation(writer, layer, function, x):
    name = function.__name__ if activations.get(function) is function else ""
    if getattr(activations, name, None) is not function or name not in ACTIVATIONS:
        _refuse(layer, f"the activation {name or function!r} has no operator in ONNX")
    return ACTIVATIONS[name](writer.add, x)


def _one(op, **attributes):
    return lambda add, x: add(op, x, **attributes)


def _f(number):
    return np.float32(number)


def _gelu(add, x):
    half = add("Erf", add("Mul", x, _f(0.5**0.5)))
    return add("Mul", add("Mul", x, _f(0.5)), add("Add", half, _f(1)))


def _sparse_plus(add, x):
    near = add("Add", add("Clip", x, _f(-1), _f(1)), _f(1))
    square = add("Mul", add("Mul", near, near), _f(0.25))
    return add("Where", add("Less", x, _f(1)), square, x)


def _squareplus(add, x):
    root = add("Sqrt", add("Add", add("Mul", x, x), _f(4)))
    return add("Mul", add("Add", x, root), _f(0.5))


ACTIVATIONS = {
    "celu": _one("Celu", alpha=1.0),
    "elu": _one("Elu", alpha=1.0),
    "exponential": _one("Exp"),
    "gelu": _gelu,
    "hard_shrink": _one("Shrink", lambd=0.5, bias=0.0),
    "hard_sigmoid": _one("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_sigmoid_keras2": _one("HardSigmoid", alpha=0.2, beta=0.5),
    "hard_silu": _one("HardSwish"),
    "hard_tanh": lambda add, x: add("Clip", x, _f(-1), _f(1)),
    "leaky_relu": _one("LeakyRelu", alpha=0.2),
    "linear": lambda add, x: x,
    "log_sigmoid": lambda add, x: add("Neg", add("Softplus", add("Neg", x))),
    "log_softmax": _one("LogSoftmax", axis=-1),
    "mish": lambda add, x: add("Mul", x, add("Tanh", add("Softplus", x))),
    "relu": _one("Relu"),
    "relu6": lambda add, x: add("Clip", x, _f(0), _f(6)),
    "selu": _one("Selu"),
    "sigmoid": _one("Sigmoid"),
    "silu": lambda add, x: add("Mul", x, add("Sigmoid", x)),
    "soft_shrink": _one("Shrink", lambd=0.5, bias=0.5),
    "softmax": _one("Softmax", axis=-1),
    "softplus": _one("Softplus"),
    "softsign": _one("Softsign"),
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _one("HardSigmoid", alpha=0.5, beta=0.5),
    "squareplus": _squareplus,
    "tanh": _one("Tanh"),
    "tanh_shrink": lambda add, x: add("Sub", x, add("Tanh", x)),
}


# --- layers without a sequence ---


@exporter(
    "ActivityRegularization",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "SpatialDropout1D",
    "SpatialDropout2D",
)
def _same(writer, layer, x, shape, mask):
    return x


@exporter("Activation")
def _activation_layer(writer, layer, x, shape, mask):
    return _activation(writer, layer, layer.activation, x)


@exporter("ReLU")
def _relu(writer, layer, x, shape, mask):
    limit, slope, threshold = (
        layer.options[name] for name in ("max_value", "negative_slope", "threshold")
    )
    above = writer.add("Where", writer.add("Greater", x, _f(threshold)), x, _f(0))
    if limit is not None:
        above = writer.add("Min", above, _f(limit))
    if not slope:
        return above
    below = writer.add("Min", writer.add("Sub", x, _f(threshold)), _f(0))
    return writer.add("Add", above, writer.add("Mul", below, _f(slope)))


@exporter("LeakyReLU")
def _leaky_relu(writer, layer, x, shape, mask):
    return writer.add("LeakyRelu", x, alpha=layer.options["negative_slope"])


@exporter("ELU")
def _elu(writer, layer, x, shape, mask):
    return writer.add("Elu", x, alpha=layer.options["alpha"])


@exporter("PReLU")
def _prelu(writer, layer, x, shape, mask):
    return writer.add("PRelu", x, layer.alpha.value)


@exporter("Softmax")
def _softmax(writer, layer, x, shape, mask):
    if mask is not None:
        _refuse(layer, "a mask that leaves elements out of a softmax is not supported")
    axis = layer.options["axis"]
    if not isinstance(axis, list):
        return writer.add("Softmax", x, axis=axis)
    e = writer.add("Exp", writer.add("Sub", x, writer.add("ReduceMax", x, axes=axis)))
    return writer.add("Div", e, writer.add("ReduceSum", e, np.array(axis)))


@exporter("Permute")
def _permute(writer, layer, x, shape, mask):
    return writer.add("Transpose", x, perm=[0, *layer.dims])


@exporter("Dense")
def _dense(writer, layer, x, shape, mask):
    kernel = layer.kernel.value
    if len(shape) == 2:
        y = writer.add("Gemm", x, kernel, *([layer.bias.value] if layer.use_bias else []))
    else:
        y = writer.add("MatMul", x, kernel)
        if layer.use_bias:
            y = writer.add("Add", y, layer.bias.value)
    return _activation(writer, layer, layer.activation, y)


@exporter("Embedding")
def _embedding(writer, layer, x, shape, mask):
    return writer.add("Gather", layer.embeddings.value, x, axis=0)


@exporter("BatchNormalization")
def _batch_normalization(writer, layer, x, shape, mask):
    scale, offset = layer.scale_and_offset()
    spread = [1] * len(shape)
    spread[layer.axis] = -1
    return writer.add("Add", writer.add("Mul", x, scale.reshape(spread)), offset.reshape(spread))


@exporter("Rescaling")
def _rescaling(writer, layer, x, shape, mask):
    scale, offset = (check_numbers(name, getattr(layer, name)) for name in ("scale", "offset"))
    return writer.add("Add", writer.add("Mul", x, scale), offset)


@exporter("Normalization")
def _normalization(writer, layer, x, shape, mask):
    mean, deviation = layer.mean_and_deviation(len(shape))
    if layer.invert:
        return writer.add("Add", writer.add("Mul", x, deviation), mean)
    return writer.add("Div", writer.add("Sub", x, mean), deviation)


@exporter("LayerNormalization")
def _layer_normalization(writer, layer, x, shape, mask):
    axes = sorted(axis % len(shape) for axis in layer.fixed_axes)
    spread = [shape[n] if n in axes else 1 for n in range(len(shape))]
    centred = writer.add("Sub", x, writer.add("ReduceMean", x, axes=axes))
    square = writer.add("Mul", centred, centred)
    variance = writer.add("ReduceMean", square, axes=axes)
    deviation = writer.add("Sqrt", writer.add("Add", variance, np.float32(layer.epsilon)))
    y = writer.add("Div", x if layer.rms_scaling else centred, deviation)
    if layer.gamma is not None:
        y = writer.add("Mul", y, layer.gamma.value.reshape(spread))
    return y if layer.beta is None else writer.add("Add", y, layer.beta.value.reshape(spread))


@exporter("UnitNormalization")
def _unit_normalization(writer, layer, x, shape, mask):
    square = writer.add("ReduceSum", writer.add("Mul", x, x), np.array(layer.axes(len(shape))))
    inverse = writer.add("Div", _f(1), writer.add("Sqrt", square))
    return writer.add("Mul", x, writer.add("Min", inverse, _f(1e12)))


@exporter("RMSNormalization")
def _rms_normalization(writer, layer, x, shape, mask):
    square = writer.add("ReduceMean", writer.add("Mul", x, x), axes=layer.axes(len(shape)))
    root = writer.add("Sqrt", writer.add("Add", square, np.float32(layer.epsilon)))
    return writer.add("Mul", writer.add("Div", x, root), layer.scale.value)


@exporter("GroupNormalization")
def _group_normalization(writer, layer, x, shape, mask):
    axis = layer.axis % len(shape)
    order = [0, axis, *(n for n in range(1, len(shape)) if n != axis)]
    moved = writer.add("Transpose", x, perm=order)
    rows = writer.add("Reshape", moved, np.array([0, layer.groups, -1]))
    centred = writer.add("Sub", rows, writer.add("ReduceMean", rows, axes=[2]))
    variance = writer.add("ReduceMean", writer.add("Mul", centred, centred), axes=[2])
    deviation = writer.add("Sqrt", writer.add("Add", variance, np.float32(layer.epsilon)))
    y = writer.add("Reshape", writer.add("Div", centred, deviation), writer.add("Shape", moved))
    spread = (-1, *[1] * (len(shape) - 2))
    if layer.gamma is not None:
        y = writer.add("Mul", y, layer.gamma.value.reshape(spread))
    if layer.beta is not None:
        y = writer.add("Add", y, layer.beta.value.reshape(spread))
    return writer.add("Transpose", y, perm=np.argsort(order).tolist())


@exporter("Flatten")
def _flatten(writer, layer, x, shape, mask):
    if layer.data_format == "channels_first" and len(shape) > 2:
        x = writer.add("Transpose", x, perm=[0, *range(2, len(shape)), 1])
    return writer.add("Flatten", x, axis=1)


@exporter("Reshape")
def _reshape(writer, layer, x, shape, mask):
    return writer.add("Reshape", x, np.array([0, *layer.target_shape]))


@exporter("RepeatVector")
def _repeat_vector(writer, layer, x, shape, mask):
    return writer.add(
        "Expand", writer.add("Unsqueeze", x, np.array([1])), np.array([1, layer.n, 1])
    )


@exporter("UpSampling1D")
def _up_sampling(writer, layer, x, shape, mask):
    if shape[2] is None:
        _refuse(layer, "expected a known number of channels")
    repeated = writer.add("Tile", x, np.array([1, 1, layer.size]))
    return writer.add("Reshape", repeated, np.array([0, -1, shape[2]]))


@exporter("ZeroPadding1D")
def _zero_padding(writer, layer, x, shape, mask):
    axis = 1 if layer.data_format == "channels_last" else 2
    pads = np.zeros((2, 3), np.int64)
    pads[:, axis] = layer.padding
    return writer.add("Pad", x, pads.ravel())


@exporter("Cropping1D")
def _cropping(writer, layer, x, shape, mask):
    before, after = layer.cropping
    return writer.add("Slice", x, np.array([before]), np.array([-after or END]), np.array([1]))


# --- images ---


def _channels_second(writer, layer, x):
    """x with the channels on axis 1, where ONNX has them."""
    if layer.data_format == "channels_first":
        return x
    return writer.add("Transpose", x, perm=[0, 3, 1, 2])


def _own_order(writer, layer, x):
    """x in the layer's own order, from that of `_channels_second`."""
    if layer.data_format == "channels_first":
        return x
    return writer.add("Transpose", x, perm=[0, 2, 3, 1])


def _padding_of_images(layer, sizes, dilations=(1, 1)):
    if layer.padding == "valid":
        return {}
    if max(layer.strides) > 1:
        return {"auto_pad": "SAME_UPPER"}
    beyond = [(size - 1) * dilation for size, dilation in zip(sizes, dilations, strict=True)]
    return {"pads": [*(n // 2 for n in beyond), *(n - n // 2 for n in beyond)]}


@exporter("Conv2D")
def _conv2d(writer, layer, x, shape, mask):
    y = writer.add(
        "Conv",
        _channels_second(writer, layer, x),
        layer.kernel.value.transpose(3, 2, 0, 1),
        layer.bias.value if layer.use_bias else None,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        group=layer.groups,
        kernel_shape=layer.kernel_size,
        **_padding_of_images(layer, layer.kernel_size, layer.dilation_rate),
    )
    return _activation(writer, layer, layer.activation, _own_order(writer, layer, y))


@exporter("MaxPooling2D", "AveragePooling2D")
def _pooling_of_images(writer, layer, x, shape, mask):
    y = writer.add(
        "MaxPool" if isinstance(layer, layers.MaxPooling2D) else "AveragePool",
        _channels_second(writer, layer, x),
        kernel_shape=layer.pool_size,
        strides=layer.strides,
        **_padding_of_images(layer, layer.pool_size),
    )
    return _own_order(writer, layer, y)


@exporter("GlobalMaxPooling2D", "GlobalAveragePooling2D")
def _global_pooling_of_images(writer, layer, x, shape, mask):
    op = "ReduceMax" if isinstance(layer, layers.GlobalMaxPooling2D) else "ReduceMean"
    axes = [1, 2] if layer.data_format == "channels_last" else [2, 3]
    return writer.add(op, x, axes=axes, keepdims=int(layer.keepdims))


@exporter("UpSampling2D")
def _up_sampling_of_images(writer, layer, x, shape, mask):
    down, across = layer.size
    x = _channels_second(writer, layer, x)
    for times, order in ((across, [0, 1, 2, 3]), (down, [0, 1, 3, 2])):
        x = writer.add("Unsqueeze", writer.add("Transpose", x, perm=order), np.array([-1]))
        repeated = writer.add("Tile", x, np.array([1, 1, 1, 1, times]))
        x = writer.add("Reshape", repeated, np.array([0, 0, 0, -1]))
        x = writer.add("Transpose", x, perm=order)
    return _own_order(writer, layer, x)


@exporter("ZeroPadding2D")
def _zero_padding_of_images(writer, layer, x, shape, mask):
    first = 1 if layer.data_format == "channels_last" else 2
    pads = np.zeros((2, 4), np.int64)
    pads[:, first : first + 2] = np.transpose(layer.padding)
    return writer.add("Pad", x, pads.ravel())


@exporter("Cropping2D")
def _cropping_of_images(writer, layer, x, shape, mask):
    first = 1 if layer.data_format == "channels_last" else 2
    starts, ends = np.transpose(layer.cropping)
    ends = np.where(ends == 0, END, -ends)
    return writer.add("Slice", x, starts, ends, np.array([first, first + 1]))


# --- masks and time ---


@exporter("Masking")
def _masking(writer, layer, x, shape, mask):
    kept = writer.add("Cast", _masking_mask(writer, layer, x), to=onnx.TensorProto.FLOAT)
    return writer.add("Mul", x, writer.add("Unsqueeze", kept, np.array([-1])))


def _masking_mask(writer, layer, x):
    differs = writer.add("Not", writer.add("Equal", x, np.float32(layer.mask_value)))
    differs = writer.add("Cast", differs, to=onnx.TensorProto.FLOAT)
    return writer.add(
        "Greater", writer.add("ReduceMax", differs, axes=[-1], keepdims=0), np.float32(0)
    )


@exporter("TimeDistributed")
def _time_distributed(writer, layer, x, shape, mask):
    sizes = writer.add("Shape", x)
    inner = writer.add("Slice", sizes, np.array([2]), np.array([END]))
    flat = writer.add("Reshape", x, writer.add("Concat", np.array([-1]), inner, axis=0))
    y, _, _ = _layer(writer, layer.layer, flat, (None, *shape[2:]), None)
    writer.begin(layer)
    outer = writer.add("Slice", sizes, np.array([0]), np.array([2]))
    inner = writer.add("Slice", writer.add("Shape", y), np.array([1]), np.array([END]))
    return writer.add("Reshape", y, writer.add("Concat", outer, inner, axis=0))


def _steps_last(writer, layer, x):
    """x with the time steps on the last axis, where ONNX has them, or from there back."""
    if layer.data_format == "channels_first":
        return x
    return writer.add("Transpose", x, perm=[0, 2, 1])


def _padding(layer, size, stride, dilation=1):
    reach = (size - 1) * dilation
    if layer.padding == "causal":
        return {"pads": [reach, 0]}
    if layer.padding == "same" and stride == 1:
        return {"pads": [reach // 2, reach - reach // 2]}
    return {"auto_pad": "SAME_UPPER"} if layer.padding == "same" else {}


@exporter("Conv1D")
def _conv1d(writer, layer, x, shape, mask):
    (size,), (stride,), (dilation,) = layer.kernel_size, layer.strides, layer.dilation_rate
    kernel = layer.kernel.value.transpose(2, 1, 0)
    y = writer.add(
        "Conv",
        _steps_last(writer, layer, x),
        kernel,
        layer.bias.value if layer.use_bias else None,
        strides=[stride],
        dilations=[dilation],
        group=layer.groups,
        kernel_shape=[size],
        **_padding(layer, size, stride, dilation),
    )
    return _activation(writer, layer, layer.activation, _steps_last(writer, layer, y))


@exporter("DepthwiseConv1D")
def _depthwise_conv1d(writer, layer, x, shape, mask):
    bias = layer.bias.value if layer.use_bias else None
    y = _depthwise(writer, layer, layer.kernel.value, bias, _steps_last(writer, layer, x))
    return _activation(writer, layer, layer.activation, _steps_last(writer, layer, y))


@exporter("SeparableConv1D")
def _separable_conv1d(writer, layer, x, shape, mask):
    x = _steps_last(writer, layer, x)
    y = _depthwise(writer, layer, layer.depthwise_kernel.value, None, x)
    pointwise = layer.pointwise_kernel.value.transpose(2, 1, 0)
    bias = layer.bias.value if layer.use_bias else None
    y = writer.add("Conv", y, pointwise, bias, kernel_shape=[1])
    return _activation(writer, layer, layer.activation, _steps_last(writer, layer, y))


def _depthwise(writer, layer, kernel, bias, x):
    """Conv with as many groups as there are channels; steps last."""
    (stride,), (dilation,) = layer.strides, layer.dilation_rate
    size, channels, multiplier = kernel.shape
    kernel = kernel.reshape(size, 1, channels * multiplier).transpose(2, 1, 0)
    return writer.add(
        "Conv",
        x,
        kernel,
        bias,
        strides=[stride],
        dilations=[dilation],
        group=channels,
        kernel_shape=[size],
        **_padding(layer, size, stride, dilation),
    )


@exporter("Conv1DTranspose")
def _conv1d_transpose(writer, layer, x, shape, mask):
    more, before, after = layer.ends()
    y = writer.add(
        "ConvTranspose",
        _steps_last(writer, layer, x),
        layer.kernel.value.transpose(2, 1, 0),
        layer.bias.value if layer.use_bias else None,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        kernel_shape=layer.kernel_size,
        pads=[before, after],
        output_padding=[more],
    )
    return _activation(writer, layer, layer.activation, _steps_last(writer, layer, y))


@exporter("MaxPooling1D", "AveragePooling1D")
def _pooling(writer, layer, x, shape, mask):
    (size,), (stride,) = layer.pool_size, layer.strides
    op = "MaxPool" if isinstance(layer, layers.MaxPooling1D) else "AveragePool"
    options = {"kernel_shape": [size], "strides": [stride], **_padding(layer, size, stride)}
    return _steps_last(writer, layer, writer.add(op, _steps_last(writer, layer, x), **options))


@exporter("GlobalMaxPooling1D", "GlobalAveragePooling1D")
def _global_pooling(writer, layer, x, shape, mask):
    axis = 1 if layer.data_format == "channels_last" else 2
    options = {"axes": [axis], "keepdims": int(layer.keepdims)}
    if isinstance(layer, layers.GlobalMaxPooling1D):
        return writer.add("ReduceMax", x, **options)
    if mask is None:
        return writer.add("ReduceMean", x, **options)
    mask = writer.add("Unsqueeze", mask, np.array([-1 if axis == 1 else 1]))
    kept = writer.add("Cast", mask, to=onnx.TensorProto.FLOAT)
    axes, keepdims = np.array([axis]), int(layer.keepdims)
    total = writer.add("ReduceSum", writer.add("Mul", x, kept), axes, keepdims=keepdims)
    return writer.add("Div", total, writer.add("ReduceSum", kept, axes, keepdims=keepdims))


# --- recurrent layers ---


def _kind(layer):
    """The ONNX operator of a recurrent layer."""
    return KINDS[type(layer).__name__]


@exporter("LSTM", "GRU", "SimpleRNN")
def _recurrent(writer, layer, x, shape, mask):
    (y,) = _directions(writer, [layer], x, shape, mask)
    if layer.go_backwards and layer.return_sequences:
        y = _reversed(writer, y)  # Keras's order is the one in which the layer ran
    return y


@exporter("Bidirectional")
def _bidirectional(writer, layer, x, shape, mask):
    pair = layer.sublayers
    if layer.forward_layer.go_backwards:
        _refuse(layer, "a forward layer with go_backwards is not supported")
    if pair[0].units == pair[1].units and _kind(pair[0]) == _kind(pair[1]):
        forward, backward = _directions(writer, pair, x, shape, mask)
    else:
        forward, backward = (_directions(writer, [one], x, shape, mask)[0] for one in pair)
    if layer.merge_mode == "concat":
        return writer.add("Concat", forward, backward, axis=-1)
    y = writer.add("Mul" if layer.merge_mode == "mul" else "Add", forward, backward)
    return writer.add("Mul", y, np.float32(0.5)) if layer.merge_mode == "ave" else y


def _reversed(writer, y):
    return writer.add("Slice", y, np.array([-1]), np.array([-END]), np.array([1]), np.array([-1]))


def _directions(writer, pair, x, shape, mask):
    """The outputs of one layer, or of a forward and a backward layer, in the order of time."""
    for layer in pair:
        if layer.stateful:
            _refuse(
                layer, "a stateful layer keeps what an ONNX graph cannot; expected stateful=False"
            )
    kind = _kind(pair[0])
    compact, lengths, rank = x, None, None
    if mask is not None:
        compact, lengths, rank = _compacted(writer, x, shape, mask)
    first = writer.add("Transpose", compact, perm=[1, 0, 2])
    if len(pair) == 2:
        direction = "bidirectional"
    else:
        direction = "reverse" if pair[0].go_backwards else "forward"
    attributes = _recurrent_attributes(kind, pair)
    y, last = writer.add(
        kind,
        first,
        *_recurrent_weights(kind, pair),
        lengths,
        outputs=2,
        direction=direction,
        hidden_size=pair[0].units,
        **attributes,
    )
    outputs = []
    if pair[0].return_sequences:
        y = writer.add("Transpose", y, perm=[2, 0, 1, 3])
    for d, layer in enumerate(pair):
        if not layer.return_sequences:
            out = writer.add("Gather", last, np.int64(d), axis=0)
        else:
            out = writer.add("Gather", y, np.int64(d), axis=2)
        if mask is not None:
            out = _spread(writer, layer, out, mask, lengths, rank)
        outputs.append(out)
    return outputs


def _recurrent_weights(kind, pair):
    order = TO_ONNX[kind]
    kernels = [reorder(layer.kernel.value.T, order, 0) for layer in pair]
    recurrent = [reorder(layer.recurrent_kernel.value.T, order, 0) for layer in pair]
    biases = None
    if any(layer.use_bias for layer in pair):
        biases = np.stack([_bias(kind, layer) for layer in pair])
    return np.stack(kernels), np.stack(recurrent), biases


def _bias(kind, layer):
    """A layer's bias as ONNX's two, of the input and of the state, one after the other."""
    size = GATES[kind] * layer.units
    both = np.zeros((2, size), np.float32)
    if layer.use_bias:
        bias = layer.bias.value
        both[: 2 if bias.ndim == 2 else 1] = bias
    return np.concatenate([reorder(half, TO_ONNX[kind], 0) for half in both])


def _recurrent_attributes(kind, pair):
    names, alphas, betas = [], [], []
    for layer in pair:
        gate, cell = getattr(layer, "recurrent_activation", None), layer.activation
        functions = {"LSTM": [gate, cell, cell], "GRU": [gate, cell], "RNN": [cell]}[kind]
        for function in functions:
            name = getattr(function, "__name__", "")
            if name not in KERAS_ACTIVATIONS or getattr(activations, name) is not function:
                _refuse(layer, f"the activation {name or function!r} is not one of ONNX's {kind}")
            op, alpha, beta = KERAS_ACTIVATIONS[name]
            names.append(op)
            alphas += [] if alpha is None else [alpha]
            betas += [] if beta is None else [beta]
    attributes = {"activations": names}
    if alphas:
        attributes["activation_alpha"] = alphas
    if betas:
        attributes["activation_beta"] = betas
    if kind == "GRU":
        attributes["linear_before_reset"] = int(pair[0].reset_after)
    return attributes


def _compacted(writer, x, shape, mask):
    """(x with the unmasked steps of each sequence moved to the front, their number, the number of
    unmasked steps up to and with each step). ONNX has masks only in the form of lengths; but a
    masked step only carries the state on, so that leaving it out changes nothing."""
    on = writer.add("Cast", mask, to=onnx.TensorProto.INT32)
    lengths = writer.add("ReduceSum", on, np.array([1]), keepdims=0)
    rank = writer.add("Cast", writer.add("CumSum", on, np.int64(1)), to=onnx.TensorProto.INT64)
    # Sort the steps by their number, the masked ones behind all others.
    timesteps = writer.add("Slice", writer.add("Shape", x), np.array([1]), np.array([2]))
    ones = writer.add("Expand", np.int64(1), writer.add("Shape", mask))
    number = writer.add("CumSum", ones, np.int64(1))
    key = writer.add("Where", mask, number, writer.add("Add", number, timesteps))
    _, order = writer.add("TopK", key, timesteps, outputs=2, axis=1, largest=0, sorted=1)
    return _gather_steps(writer, x, order), lengths, rank


def _gather_steps(writer, x, order):
    """x (batch, timesteps, n) with the steps that `order` (batch, timesteps) names."""
    order = writer.add("Unsqueeze", order, np.array([2]))
    return writer.add(
        "GatherElements", x, writer.add("Expand", order, writer.add("Shape", x)), axis=1
    )


def _spread(writer, layer, y, mask, lengths, rank):
    """Put the outputs of unmasked steps back in their places; a masked step repeats the output
    before it (as the layer runs), or is zero with zero_output_for_mask."""
    if not layer.return_sequences:
        if not layer.zero_output_for_mask:
            return y
        step = writer.add("Gather", mask, np.int64(0 if layer.go_backwards else -1), axis=1)
        shown = writer.add("Cast", step, to=onnx.TensorProto.FLOAT)
        return writer.add("Mul", y, writer.add("Unsqueeze", shown, np.array([1])))
    on = writer.add("Cast", mask, to=onnx.TensorProto.INT64)
    if layer.go_backwards:
        place = writer.add("Sub", rank, on)  # the next unmasked step in time
        number = writer.add("Cast", lengths, to=onnx.TensorProto.INT64)
        there = writer.add("Less", place, writer.add("Unsqueeze", number, np.array([1])))
    else:
        place = writer.add("Sub", rank, np.int64(1))
        there = writer.add("GreaterOrEqual", place, np.int64(0))
    if layer.zero_output_for_mask:
        there = mask
    place = writer.add("Where", there, place, np.int64(0))
    y = _gather_steps(writer, y, place)
    there = writer.add("Unsqueeze", there, np.array([2]))
    return writer.add("Where", there, y, np.float32(0))
