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
