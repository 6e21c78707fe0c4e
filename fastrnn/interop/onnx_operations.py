"""The ONNX operators of fastrnn.ops, the operations between layers in a graph."""

import numpy as np

from fastrnn.interop.onnx_writer import ACTIVATIONS, END, OPERATIONS, f, refuse
from fastrnn.layers.operation import Argument

ONE = {
    "Absolute": "Abs", "Arctan": "Atan", "Ceil": "Ceil", "Cos": "Cos", "Exp": "Exp",
    "Floor": "Floor", "Log": "Log", "Negative": "Neg", "Reciprocal": "Reciprocal",
    "Round": "Round", "Sign": "Sign", "Sin": "Sin", "Sqrt": "Sqrt", "StopGradient": "Identity",
}  # fmt: skip
TWO = {
    "Add": "Add", "Divide": "Div", "Matmul": "MatMul", "Maximum": "Max", "Minimum": "Min",
    "Multiply": "Mul", "Power": "Pow", "Subtract": "Sub", "TrueDivide": "Div",
}  # fmt: skip
COMPARED = {
    "Equal": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "Less": "Less",
    "LessEqual": "LessOrEqual",
}  # fmt: skip
REDUCED = {
    "Max": "ReduceMax", "Mean": "ReduceMean", "Min": "ReduceMin", "Prod": "ReduceProd",
    "Sum": "ReduceSum",
}  # fmt: skip
OF_ACTIVATIONS = {
    "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "LogSigmoid": "log_sigmoid",
    "Relu": "relu", "Relu6": "relu6", "Selu": "selu", "Sigmoid": "sigmoid", "Silu": "silu",
    "Softplus": "softplus", "Softsign": "softsign", "Tanh": "tanh",
}  # fmt: skip


def operation(*names):
    def keep(function):
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return keep


def _filled(x, shape, args):
    """The arguments of a call, and their shapes: names of values, or arrays of numbers."""
    xs, shapes = (x, shape) if isinstance(x, list) else ([x], [shape])

    def value(a):
        if isinstance(a, Argument):
            return xs[a.n], len(shapes[a.n])
        if isinstance(a, (list, tuple)):
            return [value(part) for part in a]
        array = np.asarray(a, np.float32)
        return array, array.ndim

    return [value(a) for a in args]


@operation(*ONE)
def _one(writer, layer, x, shape, args=()):
    return writer.add(ONE[type(layer).__name__], x)


@operation(*TWO)
def _two(writer, layer, x, shape, args=()):
    (one, _), (other, _) = _filled(x, shape, args)
    return writer.add(TWO[type(layer).__name__], one, other)


@operation(*COMPARED)
def _compared(writer, layer, x, shape, args=()):
    (one, _), (other, _) = _filled(x, shape, args)
    return writer.floats(writer.add(COMPARED[type(layer).__name__], one, other))


@operation("Where")
def _where(writer, layer, x, shape, args=()):
    values = _filled(x, shape, args)
    if len(values) != 3:
        refuse(layer, "where of a condition alone is not supported")
    (condition, _), (one, _), (other, _) = values
    return writer.add("Where", writer.differs(condition, f(0)), one, other)


@operation("Square")
def _square(writer, layer, x, shape, args=()):
    return writer.add("Mul", x, x)


@operation("Rsqrt")
def _rsqrt(writer, layer, x, shape, args=()):
    return writer.add("Reciprocal", writer.add("Sqrt", x))


@operation(*OF_ACTIVATIONS)
def _activation(writer, layer, x, shape, args=()):
    return ACTIVATIONS[OF_ACTIVATIONS[type(layer).__name__]](writer.add, x)


@operation("Elu")
def _elu(writer, layer, x, shape, args=()):
    return writer.add("Elu", x, alpha=float(layer.options["alpha"]))


@operation("LeakyRelu")
def _leaky_relu(writer, layer, x, shape, args=()):
    return writer.add("LeakyRelu", x, alpha=float(layer.options["negative_slope"]))


@operation("Softmax", "LogSoftmax")
def _softmax(writer, layer, x, shape, args=()):
    axis = layer.options["axis"]
    if not hasattr(axis, "__index__"):
        refuse(layer, f"expected one axis, received {axis}")
    return writer.add(type(layer).__name__, x, axis=axis)


@operation("Clip")
def _clip(writer, layer, x, shape, args=()):
    return writer.add("Clip", x, f(layer.options["x_min"]), f(layer.options["x_max"]))


def _axes(layer, rank):
    axis = layer.options.get("axis")
    if axis is None:
        return [*range(rank)]
    return [int(n) % rank for n in np.atleast_1d(axis)]


@operation(*REDUCED)
def _reduced(writer, layer, x, shape, args=()):
    name = type(layer).__name__
    if layer.options.get("initial") is not None or layer.options.get("dtype") is not None:
        refuse(layer, "initial= and dtype= are not supported")
    axes, keep = _axes(layer, len(shape)), int(layer.options["keepdims"])
    if name == "Sum":
        return writer.add("ReduceSum", x, np.array(axes), keepdims=keep)
    return writer.add(REDUCED[name], x, axes=axes, keepdims=keep)


@operation("Var", "Std")
def _variance(writer, layer, x, shape, args=()):
    axes, keep = _axes(layer, len(shape)), int(layer.options["keepdims"])
    centred = writer.add("Sub", x, writer.add("ReduceMean", x, axes=axes))
    y = writer.add("ReduceMean", writer.add("Mul", centred, centred), axes=axes, keepdims=keep)
    return writer.add("Sqrt", y) if type(layer).__name__ == "Std" else y


@operation("Reshape")
def _reshape(writer, layer, x, shape, args=()):
    sizes = np.atleast_1d(layer.options["newshape"])
    return writer.add("Reshape", x, np.array([-1 if n is None else int(n) for n in sizes]))


@operation("Transpose")
def _transpose(writer, layer, x, shape, args=()):
    axes = layer.options["axes"]
    axes = range(len(shape))[::-1] if axes is None else axes
    return writer.add("Transpose", x, perm=[int(n) % len(shape) for n in axes])


@operation("Swapaxes", "Moveaxis")
def _moved(writer, layer, x, shape, args=()):
    function, names = np.moveaxis, ("source", "destination")
    if type(layer).__name__ == "Swapaxes":
        function, names = np.swapaxes, ("axis1", "axis2")
    numbered = np.empty([*range(len(shape))])  # each axis as long as its number
    moved = function(numbered, *(layer.options[name] for name in names))
    return writer.add("Transpose", x, perm=moved.shape)


@operation("ExpandDims")
def _expand_dims(writer, layer, x, shape, args=()):
    return writer.add("Unsqueeze", x, np.atleast_1d(layer.options["axis"]).astype(np.int64))


@operation("Squeeze")
def _squeeze(writer, layer, x, shape, args=()):
    axis = layer.options["axis"]
    if axis is None:
        axis = [n for n, size in enumerate(shape) if size == 1]
    return writer.add("Squeeze", x, np.atleast_1d(axis).astype(np.int64))


@operation("Flip")
def _flip(writer, layer, x, shape, args=()):
    axes = np.array(_axes(layer, len(shape)))
    back = -np.ones_like(axes)
    return writer.add("Slice", x, back, back * END, axes, back)


@operation("GetItem")
def _get_item(writer, layer, x, shape, args=()):
    _, key = args
    key = [*key] if isinstance(key, (tuple, list)) else [key]
    if not all(
        k is None or k is Ellipsis or isinstance(k, slice) or hasattr(k, "__index__") for k in key
    ):
        refuse(layer, f"expected numbers, slices, None and ..., received {key}")
    taken = sum(k is not None and k is not Ellipsis for k in key)
    if Ellipsis not in key:
        key.append(Ellipsis)
    place = key.index(Ellipsis)
    key[place : place + 1] = [slice(None)] * (len(shape) - taken)
    starts, ends, axes, steps, dropped, new, n = [], [], [], [], [], [], 0
    for k in key:
        if k is None:
            new.append(n - len(dropped) + len(new))
            continue
        if not isinstance(k, slice):
            dropped.append(n)
            k = slice(k, k + 1 if k != -1 else None)
        if k != slice(None):
            by = 1 if k.step is None else k.step
            starts.append((0 if by > 0 else END) if k.start is None else k.start)
            ends.append((END if by > 0 else -END) if k.stop is None else k.stop)
            axes.append(n)
            steps.append(by)
        n += 1
    if axes:
        x = writer.add("Slice", x, *(np.array(part) for part in (starts, ends, axes, steps)))
    if dropped:
        x = writer.add("Squeeze", x, np.array(dropped))
    return writer.add("Unsqueeze", x, np.array(new)) if new else x


@operation("Concatenate")
def _concatenate(writer, layer, x, shape, args=()):
    (values,) = _filled(x, shape, args)
    return writer.add("Concat", *(name for name, _ in values), axis=int(layer.options["axis"]))


@operation("Stack")
def _stack(writer, layer, x, shape, args=()):
    (values,) = _filled(x, shape, args)
    axis = np.array([int(layer.options["axis"])])
    parts = [writer.add("Unsqueeze", name, axis) for name, _ in values]
    return writer.add("Concat", *parts, axis=int(axis[0]))
