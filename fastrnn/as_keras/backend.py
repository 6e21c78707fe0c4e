"""What scripts use of keras.backend and keras.config, on NumPy arrays."""

import numpy as np

from fastrnn.layers.base import clear_session
from fastrnn.variable import Variable

_NUMPY = (
    "abs", "all", "any", "clip", "cos", "equal", "exp", "greater", "greater_equal", "less",
    "less_equal", "log", "max", "maximum", "mean", "min", "minimum", "not_equal", "ones_like",
    "prod", "reshape", "round", "sign", "sin", "sqrt", "square", "std", "sum", "var", "zeros_like",
)  # fmt: skip
globals().update({name: getattr(np, name) for name in _NUMPY})
pow = np.power

__all__ = [
    "argmax", "argmin", "backend", "cast", "clear_session", "epsilon", "eval", "floatx",
    "get_value", "image_data_format", "int_shape", "pow", "set_epsilon", "set_floatx",
    "set_image_data_format", "set_value", *_NUMPY,
]  # fmt: skip

_epsilon = 1e-7


def backend() -> str:
    """The name "fastrnn"."""
    return "fastrnn"


def argmax(x, axis=-1):
    return np.argmax(x, axis)


def argmin(x, axis=-1):
    return np.argmin(x, axis)


def cast(x, dtype) -> np.ndarray:
    return np.asarray(x).astype(dtype)


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
