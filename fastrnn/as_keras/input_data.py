"""MNIST as TensorFlow 1's tutorials read it (tensorflow.examples.tutorials.mnist.input_data)."""

import gzip
import math
import os
import struct
import zlib
from typing import NamedTuple

import numpy as np

from fastrnn.datasets import mnist
from fastrnn.random import generator
from fastrnn.utils import to_categorical

_KINDS = ("images-idx3", "labels-idx1")
_LARGEST = 1 << 30  # bytes in a file; MNIST's have 47 million at most


class DataSet:
    """images (n, 784), or (n, 28, 28, 1) without reshape; labels (n) uint8, or (n, 10) float64."""

    def __init__(self, images, labels, seed):
        self.images, self.labels = images, labels
        self.num_examples = len(images)
        self.epochs_completed = 0
        self._rng = generator(seed)
        self._next = None

    def next_batch(self, batch_size, fake_data=False, shuffle=True):
        """The next (images, labels); every epoch in a new order, unless shuffle is False."""
        if not 1 <= batch_size <= self.num_examples:
            raise ValueError(
                f"batch_size: expected from 1 to {self.num_examples}, received {batch_size!r}"
            )
        if self._next is None:
            self._next = self._order(shuffle)
        elif len(self._next) < batch_size:
            self._next = np.concatenate([self._next, self._order(shuffle)])
            self.epochs_completed += 1
        places, self._next = self._next[:batch_size], self._next[batch_size:]
        return self.images[places], self.labels[places]

    def _order(self, shuffle):
        numbers = np.arange(self.num_examples)
        return self._rng.permutation(numbers) if shuffle else numbers


class Datasets(NamedTuple):
    train: DataSet
    validation: DataSet
    test: DataSet


def read_data_sets(
    train_dir,
    fake_data=False,
    one_hot=False,
    dtype="float32",
    reshape=True,
    validation_size=5000,
    seed=None,
    source_url=None,
):
    """Datasets: train (55,000 images), validation (the first 5,000 of the training file) and test.

    The data are the four files of MNIST's own format in the folder train_dir, or `mnist.npz` there,
    or found as by `fastrnn.datasets.mnist`.
    dtype "float32" gives pixels in [0, 1], "uint8" in [0, 255]. Errors: as mnist.load_data, and
    ValueError for another dtype or a validation_size that does not fit.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.uint8):
        raise ValueError(f"dtype: expected 'float32' or 'uint8', received {dtype.name!r}")
    train, test = _load(train_dir)
    if not 0 <= validation_size <= len(train[0]):
        raise ValueError(
            f"validation_size: expected from 0 to {len(train[0])}, received {validation_size!r}"
        )

    def prepared(images, labels):
        images = images.reshape(-1, 784) if reshape else images[..., None]
        if dtype == np.float32:
            images = images.astype(np.float32) / np.float32(255)
        return DataSet(images, to_categorical(labels, 10) if one_hot else labels, seed)

    n = validation_size
    return Datasets(
        prepared(*(array[n:] for array in train)),
        prepared(*(array[:n] for array in train)),
        prepared(*test),
    )


def _load(folder):
    """(images, labels) to train with and to test with."""
    names = (f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in _KINDS)
    paths = [os.path.join(folder, name) for name in names]
    if not all(map(os.path.isfile, paths)):
        file = os.path.join(folder, "mnist.npz")
        return mnist.load_data(file if os.path.isfile(file) else "mnist.npz")
    arrays = [_read_idx(path) for path in paths]
    for images, labels in (arrays[:2], arrays[2:]):
        if labels.ndim != 1 or images.shape != (len(labels), 28, 28):
            raise ValueError(
                f"{folder}: expected images (n, 28, 28) and labels (n), received {images.shape} "
                f"and {labels.shape}"
            )
    return arrays[:2], arrays[2:]


def _read_idx(path):
    """The array of bytes in a compressed file: two zeros, 8, the number of axes, sizes, bytes."""
    try:
        with gzip.open(path) as file:
            start, kind, axes = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{axes}I", file.read(4 * axes))
            size = math.prod(shape)
            content = file.read(min(size, _LARGEST) + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise ValueError(f"{path}: expected a file in MNIST's format ({error})") from error
    if (start, kind) != (0, 8) or len(content) != size:
        raise ValueError(f"{path}: expected a file in MNIST's format, received another")
    return np.frombuffer(content, np.uint8).reshape(shape)
