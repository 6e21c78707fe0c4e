"""Operations: functions of arrays as steps of a graph, which Keras saves by class and arguments."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from fastrnn.layers.base import Layer
from fastrnn.layers.symbolic import Node, Symbolic, check_text
from fastrnn.tape import Traced, gradients, recording

OPERATIONS: dict[str, type] = {}  # Keras's classes by name, which fastrnn.ops fills
_DTYPES = ("bool", "float32", "float64", "int32", "int64")  # of constants in files


class Argument:
    """The place of the n-th tensor among the arguments of a call. dtype: what the call gets it as,
    where that is an Input of whole numbers."""

    __slots__ = ("dtype", "n")

    def __init__(self, n, dtype=None):
        self.n, self.dtype = n, dtype


class Operation(Layer):
    """A call of a function of fastrnn.ops on symbolic tensors. A subclass is one function, and has
    Keras's name for it. options: the function's arguments beside tensors.

    Values are float32 between operations, as between layers: 0 and 1 for bools. A mask ends here.
    Source: https://keras.io/api/ops/"""

    takes_several = True
    function: Any  # of the tensors, and of `options` by name
    shape_of: Any  # the same for shapes: that of the result, or the list of several
    module = ""
    broadcasts = False  # is the result's shape that to which those of the tensors are broadcast?
    along_axis = False  # is it one of each number, or of those along an axis, if it has such?
    result = ""  # the dtype of the result, where it is not float32

    def __init__(self, name: str | None = None, **options: Any):
        super().__init__(name=name)
        known = inspect.signature(self.function).parameters
        if unknown := [key for key in options if key not in known]:
            raise ValueError(f"{type(self).__name__}: unknown arguments {unknown}")
        self.options = options
        self.built = True
        self._shapes: dict[Any, Any] = {}  # of inputs and id of args -> (args, that of the result)

    def __call__(self, *arguments, **kwargs):
        tensors: list[Symbolic] = []
        template = _mapped(arguments, lambda tensor: Argument(_placed(tensor, tensors)))
        if not tensors:
            return self.function(*arguments, **self.options)
        shapes = [tensor.shape for tensor in tensors]
        check_text(self, [tensor.dtype for tensor in tensors])
        single = len(tensors) == 1
        shapes = shapes[0] if single else shapes
        options = {"args": template}
        self.input_shape, self.output_shape = shapes, self.compute_output_shape(shapes, **options)
        node = Node(self, tensors, single, self.output_shape, options)
        for tensor in node.outputs:
            tensor.dtype = self.options.get("dtype") or self.result or "float32"
        return [*node.outputs] if node.several else node.outputs[0]

    def compute_output_shape(self, input_shape, args=()):
        shapes = input_shape if isinstance(input_shape, list) else [input_shape]
        key = (*map(tuple, shapes), id(args))
        if key not in self._shapes:
            if len(self._shapes) > 64:
                self._shapes.clear()
            self._shapes[key] = args, self._shape([tuple(shape) for shape in shapes], args)
        return self._shapes[key][1]

    def _shape(self, shapes, args):
        """That of the result; sizes that follow a free one are free."""
        if self.broadcasts:
            parts = [shapes[a.n] if isinstance(a, Argument) else np.shape(a) for a in args]
            shape = _broadcast(parts)
            if shape is None:
                raise ValueError(
                    f"operation {self.name!r}: expected shapes that can be broadcast, received "
                    f"{parts}"
                )
            return shape
        found, error = [], None
        for size in (2, 4, 6, 12):  # some divide what others do not
            known = [[size if n is None else n for n in shape] for shape in shapes]
            given = [np.broadcast_to(np.float32(0), shape) for shape in known]  # no memory
            try:
                with np.errstate(all="ignore"):
                    found.append(self.shape_of(*filled(args, given), **self.options))
            except (ValueError, TypeError, IndexError) as this:
                error = error or this
            if len(found) == 2 or (found and known == [[*shape] for shape in shapes]):
                break
        if not found or (len(found) == 1 and any(None in shape for shape in shapes)):
            raise ValueError(f"operation {self.name!r} of shapes {shapes}: {error}") from error
        one, other = found[0], found[-1]
        if isinstance(one, list):
            return [_free(*pair) for pair in zip(one, other, strict=True)]
        return _free(one, other)

    def forward(self, x, run, mask=None, args=()):
        xs = x if isinstance(x, list) else [x]
        if run.keeps:
            xs = [Traced(array) for array in xs]
            with recording(strict=True):
                y = self.function(*filled(args, xs), **self.options)
            run.saved[self] = xs, y
        else:
            y = self.function(*filled(args, xs), **self.options)
        return [_plain(part) for part in y] if isinstance(y, (list, tuple)) else _plain(y)

    def backward(self, dy, run, need_dx=True):
        xs, y = run.saved.pop(self)
        if not need_dx:
            return None
        several = isinstance(y, (list, tuple))
        ends = zip(*((y, dy) if several else ([y], [dy])), strict=True)
        found = gradients([end for end in ends if isinstance(end[0], Traced)], release=True)
        found = [found[id(x)] if id(x) in found else np.zeros_like(x.value) for x in xs]
        if len(xs) == 1:
            return np.ascontiguousarray(found[0], np.float32)
        return [np.array(gradient, np.float32, order="C") for gradient in found]

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **self.options}

    def described(self) -> dict[str, Any]:
        """The class and config in the form in which Keras writes them."""
        name = type(self).__name__
        config = self.get_config()
        return {
            "module": self.module, "class_name": name, "config": config, "registered_name": name,
        }  # fmt: skip


def _placed(tensor, tensors):
    tensors.append(tensor)
    return len(tensors) - 1


def _mapped(value, change):
    """Arguments with change(tensor) in the place of each symbolic tensor."""
    if isinstance(value, Symbolic):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(part, change) for part in value)
    return value


def filled(args, values):
    """The arguments of a call with these values in the places of its tensors."""
    if isinstance(args, Argument):
        return values[args.n]
    if isinstance(args, (list, tuple)):
        return type(args)(filled(part, values) for part in args)
    if isinstance(args, dict):
        return {key: filled(part, values) for key, part in args.items()}
    return args


def written(args):
    """The arguments of a call in the form in which Keras writes them."""
    if isinstance(args, (list, tuple)):
        return type(args)(written(part) for part in args)
    if isinstance(args, dict):
        return {key: written(part) for key, part in args.items()}
    if isinstance(args, slice):
        parts = {"start": args.start, "stop": args.stop, "step": args.step}
        return {"class_name": "__slice__", "config": parts}
    if args is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(args, np.ndarray) and args.ndim:
        config = {"value": args.tolist(), "dtype": args.dtype.name}
        return {"class_name": "__numpy__", "config": config}
    return args.item() if isinstance(args, (np.generic, np.ndarray)) else args


def read(value, others=False):
    """What `written` made of a constant. others: also of text and dicts. Raises ValueError for
    anything else."""
    if isinstance(value, (list, tuple)):
        return type(value)(read(part, others) for part in value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if others and (isinstance(value, str) or isinstance(value, dict) and "class_name" not in value):
        if isinstance(value, str):
            return value
        return {key: read(part, others) for key, part in value.items()}
    described = value if isinstance(value, dict) else {}
    name, config = described.get("class_name"), described.get("config")
    if name == "__ellipsis__":
        return Ellipsis
    if name == "__slice__" and isinstance(config, dict):
        return slice_of(config)
    if name == "__numpy__" and isinstance(config, dict) and config.get("dtype") in _DTYPES:
        return np.array(config.get("value"), config["dtype"])
    raise ValueError(f"expected numbers or slices, received {value!r:.100}")


def slice_of(config):
    """The slice of a dict of start, stop and step. Raises ValueError for other than whole numbers
    and None."""
    parts = [config.get(key) for key in ("start", "stop", "step")]
    if not all(part is None or type(part) is int for part in parts):
        raise ValueError(f"expected numbers or slices, received {config!r:.100}")
    return slice(*parts)


def _plain(value):
    """A C-contiguous float32 array of a result."""
    return np.ascontiguousarray(value.value if isinstance(value, Traced) else value, np.float32)


def _broadcast(shapes):
    """As numpy.broadcast_shapes, None where they do not fit; a free size takes the other's, unless
    that is 1."""
    rank = max(map(len, shapes))
    sizes = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            if sizes[axis] == 1 or sizes[axis] is None and size not in (1, None):
                sizes[axis] = size
            elif size not in (1, None, sizes[axis]):
                return None
    return tuple(sizes)


def _free(one, other):
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))
