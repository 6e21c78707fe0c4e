"""Arrays as the engine takes them."""

import numpy as np


def contiguous(array, dtype=None) -> np.ndarray:
    """A C-contiguous array of this dtype whose numbers start at multiples of their size, which
    those of a mapped file or of a message need not; the array itself if it is one."""
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.aligned else array.copy()
