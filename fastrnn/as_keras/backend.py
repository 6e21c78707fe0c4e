"""What scripts use of keras.backend, keras.config and keras.ops, on NumPy arrays.

A loss made of these functions has a derivative (fastrnn.tape)."""

import numpy as np

from fastrnn import ops
from fastrnn.layers.base import clear_session
from fastrnn.models import Model
from fastrnn.variable import Variable

_NUMPY = (
    "abs", "all", "any", "clip", "cos", "equal", "exp", "float32", "float64",
    "greater", "greater_equal", "int32", "int64", "less", "less_equal", "log", "max", "maximum",
    "mean", "min", "minimum", "ndim", "not_equal", "ones_like", "prod", "reshape", "round", "shape",
    "sign", "sin", "sqrt", "square", "squeeze", "std", "sum", "tanh", "transpose", "var", "where",
    "zeros_like",
)  # fmt: skip
globals().update({name: getattr(ops, name, None) or getattr(np, name) for name in _NUMPY})
flatten, pow, switch = np.ravel, ops.pow, ops.where

__all__ = [
    "argmax", "argmin", "backend", "binary_crossentropy", "cast", "categorical_crossentropy",
    "clear_session", "constant", "epsilon", "eval", "expand_dims", "flatten", "floatx", "function",
    "get_value", "image_data_format", "int_shape", "learning_phase", "pow", "set_epsilon",
    "set_floatx", "set_image_data_format", "set_session", "set_value", "sigmoid", "softplus",
    "switch", *_NUMPY,
]  # fmt: skip

cast, sigmoid, softplus = ops.cast, ops.sigmoid, ops.softplus

_epsilon = 1e-7


def backend() -> str:
    """The name "fastrnn"."""
    return "fastrnn"


def set_session(session) -> None:
    """Changes nothing: layers run without one."""


def argmax(x, axis=-1):
    return ops.argmax(x, axis)


def argmin(x, axis=-1):
    return ops.argmin(x, axis)


def expand_dims(x, axis=-1):
    return ops.expand_dims(x, axis)


def constant(value, dtype="float32", shape=None) -> np.ndarray:
    return np.full(np.shape(value) if shape is None else shape, value, dtype)


def _probabilities(p):
    return np.clip(p, np.float32(1e-7), np.float32(1 - 1e-7))


def binary_crossentropy(target, output, from_logits=False):
    """That of each element."""
    p = _probabilities(sigmoid(output) if from_logits else output)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    if from_logits:
        output = np.exp(output - np.max(output, axis, keepdims=True))
    p = _probabilities(output / np.sum(output, axis, keepdims=True))
    return -np.sum(target * np.log(p), axis)


def function(inputs, outputs):
    """A function of [x], or [x, 0], that gives the list of what `outputs`, of layers of one model,
    are; without a list, the one. Raises ValueError for the learning phase 1."""
    several = isinstance(outputs, (list, tuple))
    models = [Model(inputs[0], output) for output in (outputs if several else [outputs])]

    def call(given):
        x, *phase = given
        if any(phase):
            raise ValueError("learning phase: expected 0, as functions are not for training")
        found = [model.predict(x, verbose=0) for model in models]
        return found if several else found[0]

    return call


def learning_phase() -> int:
    """The number 0: `function` and `predict` are for inference."""
    return 0


def epsilon() -> float:
    """The small number for a user's own functions; fastrnn's losses keep to 1e-7."""
    return _epsilon


def set_epsilon(value: float) -> None:
    global _epsilon
    _epsilon = float(value)


def floatx() -> str:
    """The name "float32", the only type that networks compute in."""
    return "float32"


def set_floatx(value: str) -> None:
    """Raises ValueError for anything but "float32"."""
    if value != "float32":
        raise ValueError(f"value: expected 'float32', received {value!r}")


def image_data_format() -> str:
    """The name "channels_last"."""
    return "channels_last"


def set_image_data_format(data_format: str) -> None:
    """Raises ValueError for anything but "channels_last"."""
    if data_format != "channels_last":
        raise ValueError(f"data_format: expected 'channels_last', received {data_format!r}")


def int_shape(x) -> tuple:
    """The shape of an array, or of what a layer puts out, None where free."""
    return tuple(np.shape(x) if not hasattr(x, "shape") else x.shape)


def get_value(x):
    """The number or array in a variable."""
    return x.numpy() if isinstance(x, Variable) else x


eval = get_value


def set_value(x, value) -> None:
    """Give a weight or a learning rate another value. Raises TypeError for anything else."""
    if not hasattr(x, "assign"):
        raise TypeError(f"x: expected a weight or a learning rate, received {x!r}")
    x.assign(value)
