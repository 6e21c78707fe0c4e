"""Arrays as the engine takes them."""

import numpy as np


def contiguous(array, dtype=None) -> np.ndarray:
    """A C-contiguous array of this dtype whose numbers start at multiples of their size, which
    those of a mapped file or of a message need not; the array itself if it is one."""
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.aligned else array.copy()


def check_range(name: str, path: str | None, array: np.ndarray) -> None:
    """Raise ValueError where a number, for the weight at `path`, is finite, but not as float32."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= 4:
        return
    beyond = np.isfinite(array) & (np.abs(array) > np.finfo(np.float32).max)
    if beyond.any():
        raise ValueError(
            f"{name}: expected numbers that float32 can hold{f' for {path!r}' if path else ''}, "
            f"received {float(array[beyond][0])!r}"
        )


class Array(np.ndarray):
    """An array that scripts written for TensorFlow can call numpy() on."""

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


def as_array(value):
    """An array or number of NumPy's as an Array; anything else as it is."""
    if type(value) is np.ndarray:
        return value.view(Array)
    if isinstance(value, np.generic):
        return np.asarray(value).view(Array)
    if isinstance(value, (list, tuple)):
        return type(value)(map(as_array, value))
    return value
