"""What writes ONNX files is made of: a graph in the making, the walk over a model's calls, and the
operators of activations."""

import hashlib

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fastrnn import activations, layers
from fastrnn.layers.merging import Merge
from fastrnn.layers.operation import Operation
from fastrnn.models import Model

END = 2**31 - 1  # a slice's end where it takes all

# Name of a class: function of (writer, layer, x, shape, mask, **options of the call) that returns y
# or a list of several; x, shape and mask are lists where the layer takes one.
EXPORTERS = {}
OPERATIONS = {}  # the same of fastrnn.ops, by the name of the operation; without mask


class Writer:
    """The nodes and constants of a graph in the making; methods return names of values.

    indices: those of inputs that hold whole numbers; ranks, orders: of masks."""

    def __init__(self):
        self.nodes, self.constants = [], {}
        self.indices, self.ranks, self.orders = set(), {}, {}
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
        """A constant that is there already, as those of a shared layer, is not stored again."""
        if value is None or isinstance(value, str):
            return value or ""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = array.dtype.str, array.shape, hashlib.sha256(array).digest()
        if key not in self.constants:
            name = f"{self._layer}/constant_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return self.constants[key].name

    # --- what several layers need ---

    def floats(self, x):
        return self.add("Cast", x, to=onnx.TensorProto.FLOAT)

    def whole(self, x):
        """x as whole numbers."""
        return x if x in self.indices else self.add("Cast", x, to=onnx.TensorProto.INT32)

    def differs(self, x, number):
        """Where x is another number than this one."""
        return self.add("Not", self.add("Equal", x, number))

    def unit(self, x, axes, most):
        """x by its L2 norm over the axes, but at most `most` times x."""
        square = self.add("ReduceSum", self.add("Mul", x, x), np.array(axes))
        inverse = self.add("Div", f(1), self.add("Sqrt", square))
        return self.add("Mul", x, self.add("Min", inverse, f(most)))

    def fold(self, op, xs):
        """op(op(xs[0], xs[1]), xs[2]) ..."""
        y, *others = xs
        for x in others:
            y = self.add(op, y, x)
        return y

    def with_axes(self, x, rank, wanted, first=None):
        """x with axes of size 1 from axis `first` on, default behind its own, to have `wanted`."""
        if rank == wanted:
            return x
        first = rank if first is None else first
        return self.add("Unsqueeze", x, np.arange(first, first + wanted - rank))

    def sizes(self, x, start, end=END):
        """The sizes of the axes from start to end."""
        return self.add("Slice", self.add("Shape", x), np.array([start]), np.array([end]))

    def joined(self, *sizes):
        """Sizes, whole numbers or from other values, as one shape."""
        parts = [s if isinstance(s, str) else np.array(s, np.int64).reshape(-1) for s in sizes]
        return self.add("Concat", *parts, axis=0)


def exporter(*names):
    def keep(function):
        EXPORTERS.update(dict.fromkeys(names, function))
        return function

    return keep


def refuse(layer, reason):
    raise ValueError(f"to_onnx: layer {layer.name!r}: {reason}")


# --- the walk over a model's calls ---


def write_model(writer, model, values):
    """Append a model's calls for values of its inputs: those of its outputs. A value is (name,
    shape with None where free, name of the mask or None)."""
    graph = model.graph
    known = dict(zip(graph.inputs, values, strict=True))
    for call in graph.calls:
        given = [known[slot] for slot in call.inputs]
        if call.masks:
            given = [
                (x, shape, None if slot is None else _given_mask(writer, *known[slot][:2]))
                for (x, shape, _), slot in zip(given, call.masks, strict=True)
            ]
        if call.training:
            refuse(call.layer, "a call with training=True is not supported")
        value = given[0] if call.single else tuple(map(list, zip(*given, strict=True)))
        results = write_layer(writer, call.layer, *value, **call.options)
        known.update(zip(call.outputs, results, strict=True))
    return [known[slot] for slot in graph.outputs]


def _given_mask(writer, x, shape):
    """A mask of numbers, which a call is given."""
    mask = writer.differs(x, f(0))
    writer.ranks[mask] = len(shape)
    return mask


def write_layer(writer, layer, x, shape, mask, **options):
    """Append a call of a layer: the values of its outputs, in a list."""
    if isinstance(layer, Model):
        value = x, shape, mask
        return write_model(
            writer, layer, [*zip(*value, strict=True)] if isinstance(x, list) else [value]
        )
    name = type(layer).__name__
    if isinstance(layer, Operation) and name in OPERATIONS:
        writer.begin(layer)
        y = OPERATIONS[name](writer, layer, x, shape, **options)
        shape = layer.compute_output_shape(shape, **options)
        return [(y, shape, None)]
    if name not in EXPORTERS or layers.CLASSES.get(name) is not type(layer):
        refuse(layer, f"{name} is not supported")
    if isinstance(mask, list) and not any(mask):
        mask = None
    writer.begin(layer)
    y = EXPORTERS[name](writer, layer, x, shape, mask, **options)
    mask = _mask(writer, layer, x, shape, mask)
    shape = layer.compute_output_shape(shape, **options)
    if not isinstance(shape, list):
        return [(y, shape, mask)]
    masks = mask if isinstance(mask, list) else [mask] + [None] * (len(y) - 1)
    return [*zip(y, shape, masks, strict=True)]


def _mask(writer, layer, x, shape, mask):
    """That of a layer's output, or of its outputs, as its compute_mask has it."""
    made = None
    if isinstance(layer, layers.Masking):
        made, rank = masking_mask(writer, layer, x), len(shape) - 1
    elif getattr(layer, "mask_zero", False):
        made, rank = writer.differs(writer.whole(x), np.int32(0)), len(shape)
    elif mask is None or isinstance(layer, layers.Dot):
        return None
    elif isinstance(layer, Merge):
        made, rank = merged_mask(writer, layer, x, shape, mask)
    else:
        return layer.compute_mask(None, mask)
    if made is not None:
        writer.ranks[made] = rank
    return made


def masking_mask(writer, layer, x):
    differs = writer.floats(writer.differs(x, f(layer.mask_value)))
    return writer.add("Greater", writer.add("ReduceMax", differs, axes=[-1], keepdims=0), f(0))


def merged_mask(writer, layer, xs, shapes, masks):
    """(mask, its rank) of the output of a layer that merges inputs, or (None, 0)."""
    if None not in masks:
        masks, rank = masks_of_one_rank(writer, masks, shapes)
    if isinstance(layer, layers.Concatenate):
        axis = layer.axis % len(shapes[0])
        rank = max(writer.ranks[mask] for mask in masks if mask is not None)
        if axis < rank:
            masks = [
                writer.add("Expand", np.array(True), writer.sizes(x, 0, rank))
                if mask is None
                else mask
                for x, mask in zip(xs, masks, strict=True)
            ]
            return writer.add("Concat", *masks, axis=axis), rank
    if None in masks:
        return None, 0
    return writer.fold("Or", masks), rank


def masks_of_one_rank(writer, masks, shapes):
    """(masks of the first axes of inputs, brought to one rank as these are, that rank)."""
    rank = max(map(len, shapes))
    aligned = []
    for mask, shape in zip(masks, shapes, strict=True):
        own = writer.ranks[mask]
        more = rank - len(shape)
        aligned.append((writer.with_axes(mask, own, own + more, 1), own + more))
    most = max(own for _, own in aligned)
    masks = [writer.with_axes(mask, own, most) for mask, own in aligned]
    writer.ranks |= dict.fromkeys(masks, most)
    return masks, most


# --- activations ---


def activation(writer, layer, function, x):
    name = function.__name__ if activations.get(function) is function else ""
    if getattr(activations, name, None) is not function or name not in ACTIVATIONS:
        refuse(layer, f"the activation {name or function!r} has no operator in ONNX")
    return ACTIVATIONS[name](writer.add, x)


def _one(op, **attributes):
    return lambda add, x: add(op, x, **attributes)


def f(number):
    return np.float32(number)


def _gelu(add, x):
    half = add("Erf", add("Mul", x, f(0.5**0.5)))
    return add("Mul", add("Mul", x, f(0.5)), add("Add", half, f(1)))


def _sparse_plus(add, x):
    near = add("Add", add("Clip", x, f(-1), f(1)), f(1))
    square = add("Mul", add("Mul", near, near), f(0.25))
    return add("Where", add("Less", x, f(1)), square, x)


def _squareplus(add, x):
    root = add("Sqrt", add("Add", add("Mul", x, x), f(4)))
    return add("Mul", add("Add", x, root), f(0.5))


ACTIVATIONS = {
    "celu": _one("Celu", alpha=1.0),
    "elu": _one("Elu", alpha=1.0),
    "exponential": _one("Exp"),
    "gelu": _gelu,
    "hard_shrink": _one("Shrink", lambd=0.5, bias=0.0),
    "hard_sigmoid": _one("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_sigmoid_keras2": _one("HardSigmoid", alpha=0.2, beta=0.5),
    "hard_silu": _one("HardSwish"),
    "hard_tanh": lambda add, x: add("Clip", x, f(-1), f(1)),
    "leaky_relu": _one("LeakyRelu", alpha=0.2),
    "linear": lambda add, x: x,
    "log_sigmoid": lambda add, x: add("Neg", add("Softplus", add("Neg", x))),
    "log_softmax": _one("LogSoftmax", axis=-1),
    "mish": lambda add, x: add("Mul", x, add("Tanh", add("Softplus", x))),
    "relu": _one("Relu"),
    "relu6": lambda add, x: add("Clip", x, f(0), f(6)),
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
