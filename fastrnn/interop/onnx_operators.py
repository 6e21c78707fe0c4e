"""The small ONNX operators in NumPy.

Each is a function of (node, budget, *inputs) that returns an array or a list of arrays; an optional
input that is left out is None. `node.attributes` holds the node's attributes with ONNX's defaults,
`node.version` the version of the operator. Nothing larger than `budget` allows is computed.
Source: https://onnx.ai/onnx/operators/"""

import math

import numpy as np
import onnx

from fastrnn import activations

OPERATORS = {}
MOST_WORK = 2**17  # in loops, beside 64 for each step that comes in: about two seconds
PIECE = 2**16  # bytes, which take as long as a node by itself

# Operators that make views, or look at a part of what they are given.
VIEWS = frozenset(
    """
    Flatten Gather GatherElements Identity Loop Reshape Shape Size Slice Split Squeeze Transpose
    Unsqueeze
""".split()
)

DTYPES = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
    onnx.TensorProto.INT8: np.dtype(np.int8),
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
    onnx.TensorProto.INT32: np.dtype(np.int32),
    onnx.TensorProto.INT64: np.dtype(np.int64),
    onnx.TensorProto.BOOL: np.dtype(bool),
}


class Budget:
    """What one run of a graph may take: bytes held at once, and work in loops for the `arrays` that
    come in, of which a loop takes the longest axis in steps. loops: how many are going on, one in
    another.

    Errors: ValueError where more is needed."""

    def __init__(self, memory_limit, arrays=()):
        self.memory_limit, self.held, self.loops = memory_limit, 0, 0
        steps = max((n for array in arrays for n in array.shape), default=0)
        pieces = sum(array.nbytes for array in arrays) // PIECE  # of which a step sees its part
        self.work = self.most_work = MOST_WORK + 64 * steps + 512 * pieces

    def check(self, shape, itemsize=4):
        size = math.prod(int(n) for n in shape) * itemsize
        if self.held + size > self.memory_limit:
            raise ValueError(
                f"a result of shape {tuple(shape)} needs {size} bytes; memory_limit is "
                f"{self.memory_limit}, of which {self.held} are in use"
            )

    def spend(self, nodes, size=0):
        """Count nodes, and bytes that they read and wrote, within a loop."""
        if not self.loops:
            return
        self.work -= nodes + size // PIECE
        if self.work < 0:
            raise ValueError(f"a loop goes on beyond the work of {self.most_work} nodes")


def check(node):
    """Raises ValueError for attributes of a node that no run could follow."""
    given = node.attributes
    if given.get("ceil_mode"):
        raise ValueError("ceil_mode: only 0 is supported, received 1")
    if given.get("training_mode"):
        raise ValueError("training_mode: only inference is supported")
    if node.op == "Pad" and given["mode"] != b"constant":
        raise ValueError(f"mode: only constant is supported, received {given['mode'].decode()!r}")
    if node.op == "Cast" and given["to"] not in DTYPES:
        raise ValueError(f"to: data type {given['to']} is not supported")
    if node.op == "ReverseSequence" and {given["batch_axis"], given["time_axis"]} != {0, 1}:
        raise ValueError("batch_axis and time_axis: expected 0 and 1")
    for name in ("kernel_shape", "strides", "dilations", "group"):
        sizes = np.atleast_1d(given.get(name, 1))
        if sizes.size and sizes.min() < 1:
            raise ValueError(f"{name}: expected sizes >= 1, received {given[name]}")
    _check_windows(given)
    for name, known in NAMES.items():
        if given.get(name, known[0]) not in known:
            names = [value.decode() for value in known]
            raise ValueError(f"{name}: expected one of {names}, received {given[name].decode()!r}")
    order = given.get("perm") if node.op == "Transpose" else None
    if order and sorted(order) != [*range(len(order))]:
        raise ValueError(f"perm: expected each axis once, received {[*order]}")
    if len(node.outputs) > OUTPUTS.get(node.op, 1) and node.op not in ("Loop", "Split"):
        raise ValueError(f"output {OUTPUTS.get(node.op, 1)} is not supported")


# Attributes that are one of several names.
NAMES = {
    "auto_pad": (b"NOTSET", b"SAME_UPPER", b"SAME_LOWER", b"VALID"),
    "approximate": (b"none", b"tanh"),
}


def _check_windows(given):
    """Of pooling and convolutions."""
    if "auto_pad" not in given:
        return
    pads = given.get("pads") or ()
    if len(pads) % 2 or min(pads, default=0) < 0:
        raise ValueError(f"pads: expected two sizes >= 0 for each axis, received {[*pads]}")
    counts = {name: len(given.get(name) or ()) for name in ("kernel_shape", "strides", "dilations")}
    counts["pads"] = len(pads) // 2
    if len({count for count in counts.values() if count}) > 1:
        raise ValueError(f"{', '.join(counts)}: expected sizes of as many axes, received {counts}")


# Operators with several outputs: how many are computed.
OUTPUTS = {"Dropout": 2, "GRU": 2, "LSTM": 3, "LayerNormalization": 3, "RNN": 2, "TopK": 2}


def operator(function):
    OPERATORS[function.__name__] = function
    return function


# --- element by element ---


def _elementwise(name, function, *attributes):
    def run(node, budget, *inputs):
        shape = np.broadcast_shapes(*(x.shape for x in inputs))
        budget.check(shape, max(x.itemsize for x in inputs))
        return function(*inputs, *(node.attributes[a] for a in attributes))

    OPERATORS[name] = run


def _divide(x, y):
    if x.dtype.kind == "f":
        return x / y
    quotient = np.abs(x) // np.abs(y)  # ONNX rounds towards zero
    return np.where((x < 0) != (y < 0), -quotient, quotient).astype(x.dtype)


for _name, _function, *_attributes in (
    ("Abs", np.abs),
    ("Add", np.add),
    ("And", np.logical_and),
    ("Atan", np.arctan),
    ("Ceil", np.ceil),
    ("Celu", activations.celu, "alpha"),
    ("Cos", np.cos),
    ("Div", _divide),
    ("Elu", activations.elu, "alpha"),
    ("Equal", np.equal),
    ("Exp", np.exp),
    ("Floor", np.floor),
    ("Greater", np.greater),
    ("GreaterOrEqual", np.greater_equal),
    ("HardSigmoid", lambda x, a, b: np.clip(a * x + b, 0, 1), "alpha", "beta"),
    ("HardSwish", activations.hard_silu),
    ("Identity", lambda x: x),
    ("LeakyRelu", lambda x, a: np.where(x < 0, a * x, x), "alpha"),
    ("Less", np.less),
    ("LessOrEqual", np.less_equal),
    ("Log", np.log),
    ("Mish", activations.mish),
    ("Mul", np.multiply),
    ("Neg", np.negative),
    ("Not", np.logical_not),
    ("Or", np.logical_or),
    ("PRelu", lambda x, slope: np.where(x < 0, slope * x, x)),
    ("Pow", lambda x, y: np.power(x, y).astype(x.dtype)),
    ("Reciprocal", np.reciprocal),
    ("Round", np.round),
    ("Relu", lambda x: np.maximum(x, 0)),
    ("Selu", lambda x, a, g: g * activations.elu(x, a), "alpha", "gamma"),
    ("Sigmoid", activations.sigmoid),
    ("Sign", np.sign),
    ("Sin", np.sin),
    ("Softplus", activations.softplus),
    ("Softsign", activations.softsign),
    ("Sqrt", np.sqrt),
    ("Sub", np.subtract),
    ("Tanh", np.tanh),
    ("ThresholdedRelu", lambda x, a: np.where(x > a, x, 0), "alpha"),
    ("Where", np.where),
):
    _elementwise(_name, _function, *_attributes)


def _variadic(name, function):
    def run(node, budget, first, *others):
        for other in others:
            budget.check(np.broadcast_shapes(first.shape, other.shape), first.itemsize)
            first = function(first, other)
        return first

    OPERATORS[name] = run


_variadic("Max", np.maximum)
_variadic("Min", np.minimum)


@operator
def Erf(node, budget, x):
    from scipy.special import erf  # Importing it takes longer than all of fastrnn.

    return erf(x)


@operator
def Gelu(node, budget, x):
    return activations.gelu(x, node.attributes["approximate"] == b"tanh")


@operator
def Clip(node, budget, x, low=None, high=None):
    low, high = node.attributes.get("min", low), node.attributes.get("max", high)
    if low is not None:
        x = np.maximum(x, np.asarray(low, x.dtype).reshape(()))
    return x if high is None else np.minimum(x, np.asarray(high, x.dtype).reshape(()))


@operator
def Shrink(node, budget, x):
    lambd, bias = node.attributes["lambd"], node.attributes["bias"]
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)).astype(x.dtype)


@operator
def Cast(node, budget, x):
    dtype = DTYPES.get(node.attributes["to"])
    if dtype is None:
        raise ValueError(f"to: data type {node.attributes['to']} is not supported")
    budget.check(x.shape, dtype.itemsize)
    return x.astype(dtype)


@operator
def Dropout(node, budget, x, ratio=None, training_mode=None):
    if training_mode is not None and training_mode.any():
        raise ValueError("training_mode: only inference is supported")
    outputs = [x]
    if len(node.outputs) > 1:
        outputs.append(np.ones(x.shape, bool))
    return outputs


# --- sums and products ---


@operator
def MatMul(node, budget, a, b):
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("expected at least one axis, received a number")
    rows = a.shape[-2:-1]
    columns = b.shape[-1:] if b.ndim > 1 else ()
    budget.check((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *rows, *columns), a.itemsize)
    return np.matmul(a, b)


@operator
def Gemm(node, budget, a, b, c=None):
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"expected matrices, received shapes {a.shape} and {b.shape}")
    a = a.T if node.attributes["transA"] else a
    b = b.T if node.attributes["transB"] else b
    budget.check((a.shape[0], b.shape[1]), a.itemsize)
    alpha, beta = node.attributes["alpha"], node.attributes["beta"]
    y = a @ b
    if alpha != 1:
        y *= np.asarray(alpha, y.dtype)
    if c is None:
        return y
    return y + np.broadcast_to(c if beta == 1 else np.asarray(beta, y.dtype) * c, y.shape)


def _softmax(name, function):
    def run(node, budget, x):
        axis = node.attributes["axis"]
        if node.version >= 13:
            return function(x, axis)
        axis = _axis(axis, x.ndim)  # before version 13: over all axes from this one on
        flat = x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
        return function(flat, -1).reshape(x.shape)

    OPERATORS[name] = run


_softmax("Softmax", activations.softmax)
_softmax("LogSoftmax", activations.log_softmax)


def _reduce(name, function):
    def run(node, budget, x, axes=None):
        axes = _axes(node, axes)
        if not axes:
            if node.attributes.get("noop_with_empty_axes", 0):
                return x
            axes = range(x.ndim)
        axes = tuple(_axis(axis, x.ndim) for axis in axes)
        return np.asarray(function(x, axis=axes, keepdims=bool(node.attributes["keepdims"])))

    OPERATORS[name] = run


_reduce("ReduceMax", np.max)
_reduce("ReduceMean", lambda x, **options: np.mean(x, **options).astype(x.dtype))
_reduce("ReduceMin", np.min)
_reduce("ReduceProd", lambda x, **options: np.prod(x, **options).astype(x.dtype))
_reduce("ReduceSum", lambda x, **options: np.sum(x, **options).astype(x.dtype))


@operator
def CumSum(node, budget, x, axis):
    axis = _axis(_integers(axis, 0), x.ndim)
    if node.attributes["reverse"]:
        x = np.flip(x, axis)
    y = np.cumsum(x, axis, dtype=x.dtype)
    if node.attributes["exclusive"]:
        y = y - x
    return np.flip(y, axis) if node.attributes["reverse"] else y


@operator
def BatchNormalization(node, budget, x, scale, bias, mean, variance):
    if node.attributes.get("training_mode", 0):
        raise ValueError("training_mode: only inference is supported")
    if x.ndim < 2:
        raise ValueError(f"expected at least 2 axes, received shape {x.shape}")
    shape = (-1, *(1,) * (x.ndim - 2))
    for array in (scale, bias, mean, variance):
        if array.shape != x.shape[1:2]:
            raise ValueError(f"expected shape {x.shape[1:2]}, received {array.shape}")
    scale = scale / np.sqrt(variance + np.asarray(node.attributes["epsilon"], variance.dtype))
    return x * scale.reshape(shape) + (bias - mean * scale).reshape(shape)


@operator
def LayerNormalization(node, budget, x, scale, bias=None):
    axes = tuple(range(_axis(node.attributes["axis"], x.ndim), x.ndim))
    shape = np.broadcast_shapes(x.shape, scale.shape, () if bias is None else bias.shape)
    budget.check(shape, x.itemsize)
    mean = x.mean(axes, keepdims=True)
    variance = np.square(x - mean).mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + np.asarray(node.attributes["epsilon"], x.dtype))
    y = (x - mean) * inverse * scale
    return [y if bias is None else y + bias, mean, inverse]


# --- windows over one axis ---


def _windows(node, budget, x, sizes, padding):
    """The windows of x (batch, channels, *places): (batch, channels, *windows, *sizes), a view."""
    axes, names = x.ndim - 2, ("strides", "dilations")
    strides, dilations = (node.attributes.get(name) or [1] * axes for name in names)
    pads = node.attributes.get("pads") or [0] * (2 * axes)
    numbers = [*sizes, *strides, *dilations]
    if axes < 1 or [len(sizes), len(strides), len(dilations), len(pads) / 2] != [axes] * 4:
        raise ValueError(f"expected windows of {axes} sizes for {x.shape}, received {sizes}")
    if min(numbers) < 1 or node.attributes.get("ceil_mode", 0):
        raise ValueError(f"expected sizes >= 1 and no ceil_mode, received {numbers}")
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations, strict=True)]
    widths = list(zip(pads[:axes], pads[axes:], strict=True))
    if node.attributes["auto_pad"] in (b"SAME_UPPER", b"SAME_LOWER"):
        totals = [
            max((-(-n // stride) - 1) * stride + wide - n, 0)
            for n, stride, wide in zip(x.shape[2:], strides, reach, strict=True)
        ]
        widths = [(total // 2, total - total // 2) for total in totals]
        if node.attributes["auto_pad"] == b"SAME_LOWER":
            widths = [width[::-1] for width in widths]
    padded = [n + sum(width) for n, width in zip(x.shape[2:], widths, strict=True)]
    if min(min(width) for width in widths) < 0 or any(np.greater(reach, padded)):
        raise ValueError(f"windows of {reach} do not fit {x.shape} with pads {widths}")
    budget.check((*x.shape[:2], *padded), x.itemsize)
    x = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=padding)
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(2, x.ndim)))
    windows = windows[(slice(None), slice(None), *(slice(None, None, n) for n in numbers[axes:]))]
    budget.check(windows.shape, x.itemsize)
    return windows


@operator
def Conv(node, budget, x, kernel, bias=None):
    groups, count, sizes = node.attributes["group"], kernel.shape[0], kernel.shape[2:]
    if kernel.ndim != x.ndim or groups < 1 or count % groups:
        raise ValueError(f"kernel of shape {kernel.shape}, {groups} groups: not supported")
    windows = _windows(node, budget, x, sizes, 0)
    if windows.shape[1] != groups * kernel.shape[1]:
        raise ValueError(f"expected {groups * kernel.shape[1]} channels, received {x.shape}")
    budget.check((len(x), count, *windows.shape[2 : x.ndim]), x.itemsize)
    inner = [1, *range(x.ndim, windows.ndim)]
    parts = [
        np.tensordot(part, filters, (inner, range(1, x.ndim)))
        for part, filters in zip(
            np.split(windows, groups, 1), np.split(kernel, groups), strict=True
        )
    ]
    y = np.concatenate(parts, -1)
    return np.moveaxis(y if bias is None else y + bias, -1, 1)


def _ends_of_transposed(node, places, whole, strides):
    """[(before, after)] that are cut from each axis of the windows of a transposed convolution."""
    axes, given = len(whole), node.attributes
    pads = given.get("pads") or [0] * (2 * axes)
    if len(pads) != 2 * axes:
        raise ValueError(f"expected {2 * axes} pads, received {pads}")
    sizes = given.get("output_shape")
    if sizes is None and given["auto_pad"] in (b"SAME_UPPER", b"SAME_LOWER"):
        sizes = [n * stride for n, stride in zip(places, strides, strict=True)]
    if sizes is None:
        return list(zip(pads[:axes], pads[axes:], strict=True))
    totals = [n - size for n, size in zip(whole, sizes, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if given["auto_pad"] == b"SAME_UPPER" else [half[::-1] for half in halves]


@operator
def ConvTranspose(node, budget, x, kernel, bias=None):
    axes, groups, sizes = x.ndim - 2, node.attributes["group"], kernel.shape[2:]
    names = "strides", "dilations", "output_padding"
    strides, dilations, more = (
        node.attributes.get(name) or [default] * axes
        for name, default in zip(names, (1, 1, 0), strict=True)
    )
    if axes < 1 or kernel.ndim != x.ndim or {len(n) for n in (strides, dilations, more)} != {axes}:
        raise ValueError(f"kernel of shape {kernel.shape} for {x.shape}: not supported")
    if x.shape[1] != len(kernel) or groups < 1 or len(kernel) % groups or min(more) < 0:
        raise ValueError(f"{groups} groups, kernel {kernel.shape} for {x.shape}: not supported")
    whole = [
        (n - 1) * stride + (size - 1) * dilation + 1 + extra
        for n, stride, size, dilation, extra in zip(
            x.shape[2:], strides, sizes, dilations, more, strict=True
        )
    ]
    ends = _ends_of_transposed(node, x.shape[2:], whole, strides)
    if min(*sizes, *x.shape[2:], *(n - sum(end) for n, end in zip(whole, ends, strict=True))) < 1:
        raise ValueError(f"nothing comes out of {x.shape} with {ends} cut off")
    if min(before for before, _ in ends) < 0:
        raise ValueError(f"pads: expected numbers >= 0, received {ends}")
    whole = [n + max(0, -after) for n, (_, after) in zip(whole, ends, strict=True)]
    filters = groups * kernel.shape[1]
    budget.check((len(x), filters, *x.shape[2:], *sizes), x.itemsize)
    budget.check((len(x), filters, *whole), x.itemsize)
    parts = [
        np.tensordot(part, weights, (1, 0))  # (batch, *places, filters, *sizes)
        for part, weights in zip(np.split(x, groups, 1), np.split(kernel, groups), strict=True)
    ]
    windows = np.moveaxis(np.concatenate(parts, x.ndim - 1), x.ndim - 1, 1)
    y = np.zeros((len(x), filters, *whole), x.dtype)
    for place in np.ndindex(*sizes):
        steps = tuple(
            slice(at * dilation, at * dilation + (n - 1) * stride + 1, stride)
            for at, dilation, n, stride in zip(place, dilations, x.shape[2:], strides, strict=True)
        )
        y[(..., *steps)] += windows[(..., *place)]
    kept = [
        slice(before, n - max(0, after)) for n, (before, after) in zip(whole, ends, strict=True)
    ]
    y = y[(..., *kept)]
    return y if bias is None else y + bias.reshape(-1, *(1,) * axes)


def _pooled(windows):
    return tuple(range(windows.ndim // 2 + 1, windows.ndim))


@operator
def MaxPool(node, budget, x):
    windows = _windows(node, budget, x, node.attributes["kernel_shape"], -np.inf)
    return windows.max(axis=_pooled(windows))


@operator
def AveragePool(node, budget, x):
    sizes = node.attributes["kernel_shape"]
    windows = _windows(node, budget, x, sizes, 0)
    total = windows.sum(axis=_pooled(windows), dtype=x.dtype)
    if node.attributes["count_include_pad"]:
        return total / np.asarray(math.prod(sizes), x.dtype)
    number = _windows(node, budget, np.ones((1, 1, *x.shape[2:]), x.dtype), sizes, 0)
    return total / number.sum(axis=_pooled(windows))


@operator
def GlobalAveragePool(node, budget, x):
    return x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)


@operator
def GlobalMaxPool(node, budget, x):
    return x.max(axis=tuple(range(2, x.ndim)), keepdims=True)


# --- places ---


@operator
def Shape(node, budget, x):
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return np.array(x.shape[start:end], np.int64)


@operator
def Gather(node, budget, x, indices):
    axis = _axis(node.attributes["axis"], x.ndim)
    budget.check((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.itemsize)
    return np.asarray(np.take(x, indices, axis))


@operator
def GatherElements(node, budget, x, indices):
    axis = _axis(node.attributes["axis"], x.ndim)
    budget.check(indices.shape, x.itemsize)
    if indices.ndim != x.ndim:
        raise ValueError(f"indices: expected {x.ndim} axes, received {indices.ndim}")
    within = tuple(
        slice(None) if n == axis else slice(size) for n, size in enumerate(indices.shape)
    )
    return np.take_along_axis(x[within], indices, axis)


@operator
def TopK(node, budget, x, k):
    k = int(_integers(k, 0))
    axis = _axis(node.attributes["axis"], x.ndim)
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"k: expected 0 to {x.shape[axis]}, received {k}")
    budget.check(x.shape, 8 + x.itemsize)
    # From the back, so that of equal elements the one with the lower index comes first.
    back = np.flip(x, axis)
    order = x.shape[axis] - 1 - np.flip(np.argsort(back, axis, kind="stable"), axis)
    if not node.attributes["largest"]:
        order = np.argsort(x, axis, kind="stable")
    order = order.take(range(k), axis)
    return [np.take_along_axis(x, order, axis), order.astype(np.int64)]


@operator
def Slice(node, budget, x, starts=None, ends=None, axes=None, steps=None):
    if node.version < 10:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes = node.attributes.get("axes")
    starts, ends = _integers(starts, 1), _integers(ends, 1)
    axes = range(len(starts)) if axes is None else _integers(axes, 1)
    steps = [1] * len(starts) if steps is None else _integers(steps, 1)
    taken = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        taken[_axis(axis, x.ndim)] = slice(int(start), int(end), int(step))
    return x[tuple(taken)]


@operator
def Split(node, budget, x, sizes=None):
    axis = _axis(node.attributes["axis"], x.ndim)
    total, count = x.shape[axis], len(node.outputs)
    sizes = node.attributes.get("split", sizes)
    if sizes is None:
        each = -(-total // count)
        sizes = [max(0, min(each, total - n * each)) for n in range(count)]
    sizes = [int(size) for size in _integers(sizes, 1)]
    if len(sizes) != count or min(sizes) < 0 or sum(sizes) != total:
        raise ValueError(f"split: {sizes} does not part {total} into {count} outputs")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


@operator
def Concat(node, budget, *inputs):
    axis = _axis(node.attributes["axis"], inputs[0].ndim)
    size = sum(x.size for x in inputs)
    budget.check((size,), inputs[0].itemsize)
    return np.concatenate(inputs, axis)


@operator
def Pad(node, budget, x, pads=None, value=None, axes=None):
    if node.attributes["mode"] != b"constant":
        raise ValueError(f"mode: only constant is supported, received {node.attributes['mode']}")
    value = node.attributes.get("value", 0) if value is None else value
    pads = _integers(node.attributes["pads"] if pads is None else pads, 1)
    axes = range(x.ndim) if axes is None else [_axis(a, x.ndim) for a in _integers(axes, 1)]
    if len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        raise ValueError(f"pads: expected {2 * len(axes)} numbers >= 0, received {list(pads)}")
    widths = [(0, 0)] * x.ndim
    for n, axis in enumerate(axes):
        widths[axis] = int(pads[n]), int(pads[n + len(axes)])
    budget.check([size + sum(w) for size, w in zip(x.shape, widths, strict=True)], x.itemsize)
    return np.pad(x, widths, constant_values=np.asarray(value, x.dtype).reshape(()))


# --- shapes ---


@operator
def Transpose(node, budget, x):
    return np.transpose(x, node.attributes.get("perm"))


@operator
def Squeeze(node, budget, x, axes=None):
    axes = _axes(node, axes)
    return np.squeeze(x, axes)


@operator
def Unsqueeze(node, budget, x, axes=None):
    axes = _axes(node, axes)
    if axes is None:
        raise ValueError("axes: expected some, received none")
    return np.expand_dims(x, axes)


@operator
def Reshape(node, budget, x, shape):
    shape = [int(size) for size in _integers(shape, 1)]
    if not node.attributes.get("allowzero", 0):
        if any(size == 0 for size in shape[x.ndim :]):
            raise ValueError(f"shape: {shape} copies axes that {x.shape} does not have")
        shape = [x.shape[n] if size == 0 else size for n, size in enumerate(shape)]
    if any(size < -1 for size in shape):
        raise ValueError(f"shape: expected sizes >= -1, received {shape}")
    budget.check(x.shape, x.itemsize)
    return np.reshape(x, shape)


@operator
def Flatten(node, budget, x):
    axis = node.attributes["axis"]
    axis = axis if axis == x.ndim else _axis(axis, x.ndim)
    budget.check(x.shape, x.itemsize)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator
def Expand(node, budget, x, shape):
    shape = np.broadcast_shapes(x.shape, tuple(int(size) for size in _integers(shape, 1)))
    budget.check(shape, x.itemsize)
    return np.broadcast_to(x, shape)


@operator
def Tile(node, budget, x, repeats):
    repeats = _integers(repeats, 1)
    if len(repeats) != x.ndim or (len(repeats) and min(repeats) < 0):
        raise ValueError(f"repeats: expected {x.ndim} numbers >= 0, received {list(repeats)}")
    budget.check([n * int(count) for n, count in zip(x.shape, repeats, strict=True)], x.itemsize)
    return np.tile(x, repeats)


@operator
def ReverseSequence(node, budget, x, lengths):
    batch, time = node.attributes["batch_axis"], node.attributes["time_axis"]
    if {batch, time} != {0, 1} or x.ndim < 2 or lengths.shape != x.shape[batch : batch + 1]:
        raise ValueError(f"expected axes 0 and 1, and a length for each sample of {x.shape}")
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= x.shape[time]:
        raise ValueError(f"sequence_lens: expected lengths up to {x.shape[time]}")
    budget.check(x.shape, x.itemsize)
    x = x.swapaxes(0, batch)
    steps, ends = np.arange(x.shape[1]), lengths[:, None]
    steps = np.where(steps < ends, ends - 1 - steps, steps)
    return x[np.arange(len(x))[:, None], steps].swapaxes(0, batch)


@operator
def Range(node, budget, start, limit, delta):
    start, limit, delta = (number.reshape(()) for number in (start, limit, delta))
    count = (float(limit) - float(start)) / float(delta)
    budget.check((max(0, math.ceil(count)),), start.itemsize)
    return np.arange(start, limit, delta, start.dtype)


@operator
def ConstantOfShape(node, budget, shape):
    shape = tuple(int(size) for size in _integers(shape, 1))
    value = node.attributes.get("value", np.zeros(1, np.float32))
    if value.size != 1:
        raise ValueError(f"value: expected one element, received shape {value.shape}")
    budget.check(shape, value.itemsize)
    return np.full(shape, value.reshape(()))


# --- arguments ---


def _axis(axis, ndim):
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis: expected {-ndim} to {ndim - 1}, received {axis}")
    return int(axis) % ndim


def _integers(values, ndim):
    """Whole numbers from an attribute or an input, with `ndim` axes; a number for 0."""
    values = np.asarray(values)
    if values.dtype.kind not in "iu" and values.size:
        raise ValueError(f"expected whole numbers, received {values.dtype}")
    if ndim == 0 and values.size == 1:
        return values.reshape(())
    if values.ndim != ndim:
        raise ValueError(f"expected {ndim} axes, received shape {values.shape}")
    return values


def _axes(node, axes):
    """The axes of a node, an attribute up to some version of its operator, an input from then."""
    axes = node.attributes.get("axes", axes)
    return None if axes is None else tuple(int(axis) for axis in _integers(axes, 1))
