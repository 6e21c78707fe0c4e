"""Writing ONNX files: `to_onnx`, and the operators of the layers of one input."""

import os

import numpy as np
import onnx
from onnx import helper

from fastrnn import layers
from fastrnn.interop import (  # noqa: F401  what they write
    onnx_merging,
    onnx_operations,
    onnx_recurrent_export,
)
from fastrnn.interop.onnx_writer import (
    END,
    Writer,
    activation,
    exporter,
    f,
    masking_mask,
    refuse,
    write_layer,
    write_model,
)
from fastrnn.layers.scaling import check_numbers
from fastrnn.models import Model, Sequential
from fastrnn.saving.atomic import write_file

OPSET = 17
IR_VERSION = 8


def to_onnx(model, path=None):
    """Write a model as an ONNX file (opset 17, float32; for inference), and return the
    onnx.ModelProto; path None only returns it.

    The inputs and outputs have the names of the `Input`s and of the layers that give the outputs,
    or of their keys in a dict (with _1 ... where one is there already); those of a Sequential are
    "input" and "output". The batch is free, and so are the time steps unless an Input fixes them or
    a layer depends on their number. An input's dtype is int32 where only Embeddings read it. Masks
    of any form become part of the graph. Errors: ValueError, with the layer's name, for what ONNX
    does not have: stateful layers, activations without an operator, layers that are not
    fastrnn's."""
    if not isinstance(model, Model):
        raise ValueError(f"model: expected a Sequential or another Model, received {model!r}")
    model.build()
    shapes, dtypes = _free_shapes(model), _listed(model.input_dtype)
    if isinstance(model, Sequential):
        names, results = ["input"], ["output"] * len(_listed(model.output_shape))
    else:
        names, results = model.input_names, model.head_names
    results = _names_of_their_own(results, names)
    writer, inputs = Writer(), []
    for name, shape, dtype in zip(names, shapes, dtypes, strict=True):
        kind = onnx.TensorProto.FLOAT
        if dtype == np.int32:
            kind = onnx.TensorProto.INT32
            writer.indices.add(name)
        inputs.append(helper.make_tensor_value_info(name, kind, _dims(shape, name, len(names) > 1)))
    values = [(name, shape, None) for name, shape in zip(names, shapes, strict=True)]
    outputs = []
    for (y, shape, _), name in zip(write_model(writer, model, values), results, strict=True):
        writer.add("Identity", y, outputs=[name])
        kind = onnx.TensorProto.INT32 if y in writer.indices else onnx.TensorProto.FLOAT
        outputs.append(helper.make_tensor_value_info(name, kind, ["batch", *shape[1:]]))
    graph = helper.make_graph(
        writer.nodes, model.name, inputs, outputs, list(writer.constants.values())
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


def _listed(parts):
    return parts if isinstance(parts, list) else [parts]


def _names_of_their_own(names, others):
    """Names that are not there already, nor among the others."""
    taken, found = {*others}, []
    for name in names:
        own, number = name, 0
        while own in taken:
            number += 1
            own = f"{name}_{number}"
        taken.add(own)
        found.append(own)
    return found


def _dims(shape, name, several):
    """An input's shape, with names of the free axes."""
    before = f"{name}_" if several else ""
    free = ("batch", f"{before}timesteps", *(f"{before}axis_{n}" for n in range(2, len(shape))))
    return [free[n] if size is None else size for n, size in enumerate(shape)]


def _free_shapes(model):
    """The inputs' shapes, with None for the batch and, if no Input says the time steps and all
    layers allow it, for those."""
    if not isinstance(model, Sequential):
        return [(None, *tensor.shape[1:]) for tensor in model.inputs]
    declared = model._input_layer and model._input_layer.batch_input_shape
    shape = (None, *(declared or model.input_shape)[1:])
    if declared is None and len(shape) > 1:
        free = (None, None, *shape[2:])
        try:
            return [free if _takes(model, [free]) else shape]
        except (TypeError, ValueError):
            pass
    return [shape]


def _takes(model, shapes):
    """Do all layers take inputs of these sizes, None where free, without building anew?"""
    graph = model.graph
    known = dict(zip(graph.inputs, shapes, strict=True))
    for call in graph.calls:
        given, layer = [known[slot] for slot in call.inputs], call.layer
        shape = given[0] if call.single else given
        if isinstance(layer, Model):
            if not _takes(layer, given):
                return False
        else:
            layer.check_input_shape(shape)
            if any(given[0][axis] is None for axis in layer.fixed_axes):
                return False
            if isinstance(layer, (layers.Flatten, layers.Reshape)) and None in shape[1:]:
                return False
        out = layer.compute_output_shape(shape, **call.options)
        known.update(zip(call.outputs, _listed(out), strict=True))
    return True


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
    return activation(writer, layer, layer.activation, x)


@exporter("ReLU")
def _relu(writer, layer, x, shape, mask):
    limit, slope, threshold = (
        layer.options[name] for name in ("max_value", "negative_slope", "threshold")
    )
    above = writer.add("Where", writer.add("Greater", x, f(threshold)), x, f(0))
    if limit is not None:
        above = writer.add("Min", above, f(limit))
    if not slope:
        return above
    below = writer.add("Min", writer.add("Sub", x, f(threshold)), f(0))
    return writer.add("Add", above, writer.add("Mul", below, f(slope)))


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
        refuse(layer, "a mask that leaves elements out of a softmax is not supported")
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
    return activation(writer, layer, layer.activation, y)


@exporter("Embedding")
def _embedding(writer, layer, x, shape, mask):
    x = writer.whole(x)
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
    if axes == [len(shape) - 1] and not layer.rms_scaling:
        gamma = np.ones(shape[-1], np.float32) if layer.gamma is None else layer.gamma.value
        beta = None if layer.beta is None else layer.beta.value
        return writer.add("LayerNormalization", x, gamma, beta, axis=-1, epsilon=layer.epsilon)
    spread = [shape[n] if n in axes else 1 for n in range(len(shape))]
    centred = _centred(writer, x, axes)
    y = _by_root_of_squares(writer, x if layer.rms_scaling else centred, centred, axes, layer)
    if layer.gamma is not None:
        y = writer.add("Mul", y, layer.gamma.value.reshape(spread))
    return y if layer.beta is None else writer.add("Add", y, layer.beta.value.reshape(spread))


def _centred(writer, x, axes):
    return writer.add("Sub", x, writer.add("ReduceMean", x, axes=axes))


def _by_root_of_squares(writer, x, of, axes, layer):
    """x by the root of the mean square of another value, with the layer's epsilon."""
    square = writer.add("ReduceMean", writer.add("Mul", of, of), axes=axes)
    root = writer.add("Sqrt", writer.add("Add", square, f(layer.epsilon)))
    return writer.add("Div", x, root)


@exporter("UnitNormalization")
def _unit_normalization(writer, layer, x, shape, mask):
    return writer.unit(x, layer.axes(len(shape)), 1e12)


@exporter("RMSNormalization")
def _rms_normalization(writer, layer, x, shape, mask):
    y = _by_root_of_squares(writer, x, x, layer.axes(len(shape)), layer)
    return writer.add("Mul", y, layer.scale.value)


@exporter("GroupNormalization")
def _group_normalization(writer, layer, x, shape, mask):
    axis = layer.axis % len(shape)
    order = [0, axis, *(n for n in range(1, len(shape)) if n != axis)]
    moved = writer.add("Transpose", x, perm=order)
    rows = writer.add("Reshape", moved, np.array([0, layer.groups, -1]))
    centred = _centred(writer, rows, [2])
    normal = _by_root_of_squares(writer, centred, centred, [2], layer)
    y = writer.add("Reshape", normal, writer.add("Shape", moved))
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
        refuse(layer, "expected a known number of channels")
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
    return activation(writer, layer, layer.activation, _own_order(writer, layer, y))


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
    kept = writer.add("Cast", masking_mask(writer, layer, x), to=onnx.TensorProto.FLOAT)
    return writer.add("Mul", x, writer.add("Unsqueeze", kept, np.array([-1])))


@exporter("TimeDistributed")
def _time_distributed(writer, layer, x, shape, mask):
    flat = writer.add("Reshape", x, writer.joined(-1, writer.sizes(x, 2)))
    inner_mask = None
    if mask is not None and writer.ranks[mask] > 2:
        of_mask = writer.joined(-1, writer.sizes(mask, 2))
        inner_mask = writer.add("Reshape", mask, of_mask)
        writer.ranks[inner_mask] = writer.ranks[mask] - 1
    ((y, _, _),) = write_layer(writer, layer.layer, flat, (None, *shape[2:]), inner_mask)
    writer.begin(layer)
    return writer.add("Reshape", y, writer.joined(writer.sizes(x, 0, 2), writer.sizes(y, 1)))


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
    return activation(writer, layer, layer.activation, _steps_last(writer, layer, y))


@exporter("DepthwiseConv1D")
def _depthwise_conv1d(writer, layer, x, shape, mask):
    bias = layer.bias.value if layer.use_bias else None
    y = _depthwise(writer, layer, layer.kernel.value, bias, _steps_last(writer, layer, x))
    return activation(writer, layer, layer.activation, _steps_last(writer, layer, y))


@exporter("SeparableConv1D")
def _separable_conv1d(writer, layer, x, shape, mask):
    x = _steps_last(writer, layer, x)
    y = _depthwise(writer, layer, layer.depthwise_kernel.value, None, x)
    pointwise = layer.pointwise_kernel.value.transpose(2, 1, 0)
    bias = layer.bias.value if layer.use_bias else None
    y = writer.add("Conv", y, pointwise, bias, kernel_shape=[1])
    return activation(writer, layer, layer.activation, _steps_last(writer, layer, y))


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
    return activation(writer, layer, layer.activation, _steps_last(writer, layer, y))


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
