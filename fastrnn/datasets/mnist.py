"""Handwritten digits: 70,000 grey images of 28 x 28 pixels (LeCun and Cortes, CC BY-SA 3.0)."""

import numpy as np

from fastrnn._public import public

from ._files import locate, read_npz

__all__ = ["load_data"]
public(__name__)

_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def load_data(path: str = "mnist.npz") -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return (x_train, y_train), (x_test, y_test): uint8, x (60000 | 10000, 28, 28), y digits.

    The file is `path` if it exists, else looked for in the folders FASTRNN_DATA, FASTRNN_CACHE
    (~/.cache/fastrnn) and ~/.keras/datasets, else downloaded. Raises OSError if none works,
    ValueError for a damaged file. As keras.datasets.mnist.
    """
    file = locate(path, "mnist.npz", _SHA256)
    x_train, y_train, x_test, y_test = read_npz(file, ("x_train", "y_train", "x_test", "y_test"))
    return (x_train, y_train), (x_test, y_test)
