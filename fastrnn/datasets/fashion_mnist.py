"""Articles of clothing: 70,000 grey images of 28 x 28 pixels (Zalando Research, MIT licence)."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from fastrnn._public import public

from ._files import locate

__all__ = ["load_data"]
public(__name__)

_IMAGES = {
    "train": ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    "test": ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
}
_LABELS = {
    "train": ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
    "test": ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
}
_LARGEST_ARRAY = 1 << 28  # bytes; the largest of these has 47 million


def load_data() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return (x_train, y_train), (x_test, y_test): uint8, x (60000 | 10000, 28, 28), y 0 to 9.

    The four files are found as by `mnist.load_data`, but in a folder fashion-mnist within those
    folders, as their names are those of MNIST's own. Raises OSError if one is not there, ValueError
    for a damaged one. As keras.datasets.fashion_mnist, with the MD5 hashes that Zalando published.
    """
    splits = []
    for part in ("train", "test"):
        x, y = (
            _read_idx(locate(name, name, digest, folder="fashion-mnist"), dimensions)
            for (name, digest), dimensions in ((_IMAGES[part], 3), (_LABELS[part], 1))
        )
        if len(x) != len(y):
            raise ValueError(f"{_LABELS[part][0]}: expected {len(x)} labels, received {len(y)}")
        splits.append((x, y))
    return tuple(splits)


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array of bytes in a gzipped IDX file: 0, 0, 8, dimensions, big-endian sizes, values."""
    try:
        with gzip.open(path) as file:
            start = file.read(4)
            if start != bytes((0, 0, 8, dimensions)):
                raise ValueError(f"it begins with {start!r}")
            shape = np.frombuffer(file.read(4 * dimensions), ">u4").tolist()
            size = math.prod(shape)
            if len(shape) != dimensions or size > _LARGEST_ARRAY:
                raise ValueError(f"its shape is {shape}")
            data = file.read(size + 1)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(
            f"{path}: expected a gzipped IDX file of bytes with {dimensions} dimensions, received "
            f"one that cannot be read ({error})"
        ) from error
    if len(data) != size:
        raise ValueError(f"{path}: expected {size} bytes for the shape {shape}, received others")
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)
