"""Operations in files of Keras 2, which names functions of TensorFlow: `x + y` and `x[:, -1]` of
tensors are TFOpLambda and SlicingOpLambda there."""

import re

from fastrnn import ops
from fastrnn.layers.operation import slice_of

CLASSES = ("TFOpLambda", "SlicingOpLambda")


def _matmul(a, b, transpose_a=False, transpose_b=False):
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)


def _l2_normalize(x, axis=None, epsilon=1e-12):
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, epsilon))


def _cast(x, dtype):
    found = re.fullmatch(r"(?:<dtype: ')?(float|int|bool)\d*(?:'>)?", dtype)
    if not found:
        raise ValueError(f"dtype: expected one of numbers, received {dtype!r}")
    return ops.cast(x, {"float": "float32", "int": "int32", "bool": "bool"}[found[1]])


def _item(x, slice_spec):
    return ops.get_item(x, tuple(map(_place, slice_spec)))


def _place(part):
    if isinstance(part, dict) and part.keys() == {"start", "stop", "step"}:
        return slice_of(part)
    if part in ("Ellipsis", {"class_name": "__ellipsis__"}):
        return ...
    if part is None or type(part) is int:
        return part
    raise ValueError(f"slice_spec: expected numbers and slices, received {part!r:.80}")


def _split(value, num_or_size_splits, axis=0):
    if isinstance(num_or_size_splits, list):
        sizes = num_or_size_splits[:-1]
        num_or_size_splits = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    return ops.split(value, num_or_size_splits, axis)


_OF_TWO = {
    "__operators__.add": "add", "math.add": "add", "math.subtract": "subtract",
    "math.multiply": "multiply", "math.truediv": "true_divide", "math.divide": "true_divide",
    "math.floordiv": "floor_divide", "math.floormod": "mod", "math.pow": "power",
    "math.maximum": "maximum", "math.minimum": "minimum", "math.equal": "equal",
    "math.not_equal": "not_equal", "math.greater": "greater", "math.less": "less",
    "math.greater_equal": "greater_equal", "math.less_equal": "less_equal",
    "math.logical_and": "logical_and", "math.logical_or": "logical_or",
}  # fmt: skip
_OF_ONE = {
    "math.negative": "negative", "math.abs": "absolute", "math.square": "square",
    "math.sqrt": "sqrt", "math.rsqrt": "rsqrt", "math.exp": "exp", "math.log": "log",
    "math.tanh": "tanh", "nn.tanh": "tanh", "math.sigmoid": "sigmoid", "nn.sigmoid": "sigmoid",
    "nn.relu": "relu", "math.sin": "sin", "math.cos": "cos", "math.sign": "sign",
    "math.softplus": "softplus", "nn.silu": "silu", "math.logical_not": "logical_not",
    "stop_gradient": "stop_gradient",
}  # fmt: skip
_REDUCED = ("all", "any", "logsumexp", "max", "mean", "min", "prod", "std", "sum", "var")


def _of_one(name):
    return lambda x: getattr(ops, name)(x)


def _of_two(name):
    return lambda x, y: getattr(ops, name)(x, y)


def _reduced(name):
    return lambda x, axis=None, keepdims=False: getattr(ops, name)(x, axis=axis, keepdims=keepdims)


def _squeeze(x, axis=None):
    return ops.squeeze(x, axis)


def _transpose(a, perm=None, conjugate=False):
    return ops.transpose(a, perm)


FUNCTIONS = {
    **{tf: _of_two(name) for tf, name in _OF_TWO.items()},
    **{tf: _of_one(name) for tf, name in _OF_ONE.items()},
    **{f"math.reduce_{name}": _reduced(name) for name in _REDUCED},
    "__operators__.getitem": _item,
    "cast": _cast,
    "clip_by_value": lambda x, clip_value_min, clip_value_max: ops.clip(
        x, clip_value_min, clip_value_max
    ),
    "compat.v1.squeeze": _squeeze,
    "compat.v1.transpose": _transpose,
    "concat": lambda values, axis: ops.concatenate(values, axis),
    "expand_dims": lambda x, axis: ops.expand_dims(x, axis),
    "linalg.matmul": _matmul,
    "math.cumsum": lambda x, axis=0: ops.cumsum(x, axis),
    "math.l2_normalize": _l2_normalize,
    "nn.softmax": lambda x, axis=-1: ops.softmax(x, axis),
    "one_hot": lambda x, depth: ops.one_hot(x, depth),
    "reshape": lambda x, shape: ops.reshape(x, tuple(shape)),
    "reverse": lambda x, axis: ops.flip(x, axis[0] if len(axis) == 1 else tuple(axis)),
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda values, axis=0: ops.stack(values, axis),
    "tile": lambda x, multiples: ops.tile(x, tuple(multiples)),
    "transpose": _transpose,
    "where": lambda condition, x, y: ops.where(condition, x, y),
}


class TFOperation:
    """A function of TensorFlow by its name, called on symbolic tensors. Raises ValueError for one
    that is not known."""

    sublayers = ()

    def __init__(self, config):
        self.name, name = config.get("name"), config.get("function")
        if name not in FUNCTIONS:
            raise ValueError(
                f"operation {name!r} of TensorFlow is not supported; those that are: "
                f"{', '.join(sorted(FUNCTIONS))}"
            )
        self.function = FUNCTIONS[name]

    def __call__(self, *args, name=None, **named):
        return self.function(*args, **named)
