"""Batches of windows that slide over one long series, and the base class of such batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.pipeline import Dataset
from fastrnn.specs import TensorSpec, as_leaf

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class PyDataset:
    """Batches by number, to subclass: `__len__` or num_batches, and `__getitem__(index)` ->
    (x, y[, weights]).

    `on_epoch_begin` and `on_epoch_end` may be overridden. workers, use_multiprocessing and
    max_queue_size are accepted and change nothing: batches are made where they are used. As
    keras.utils.PyDataset; keras.utils.Sequence is its older name.
    """

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ):
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    @property
    def num_batches(self) -> int | None:
        """How many batches there are, None for no end; by default __len__ says."""
        if hasattr(self, "__len__"):
            return len(self)
        raise NotImplementedError(
            f"{type(self).__name__} needs __len__ or num_batches, its number of batches"
        )

    def __getitem__(self, index):
        raise NotImplementedError(f"{type(self).__name__} needs __getitem__, the batch `index`")

    def __iter__(self):
        return (self[index] for index in range(self.num_batches))

    def on_epoch_begin(self) -> None:
        """Called before the first batch of an epoch."""

    def on_epoch_end(self) -> None:
        """Called after the last batch of an epoch."""


class TimeseriesGenerator(PyDataset):
    """Batches (x, y) of windows of `data` and the value of `targets` after each, as in Keras 2.

    data (steps, ...) and targets (steps, ...) are of one length. Window `r` is
    data[r - length : r : sampling_rate] with the target targets[r], for every `stride`-th r from
    start_index + length to end_index (inclusive, default the last). shuffle: each batch is drawn
    at random, with replacement. reverse: windows run backwards. batch_size: windows in a batch.
    Raises ValueError for unequal lengths or no window.
    """

    def __init__(
        self,
        data: ArrayLike,
        targets: ArrayLike,
        length: int,
        sampling_rate: int = 1,
        stride: int = 1,
        start_index: int = 0,
        end_index: int | None = None,
        shuffle: bool = False,
        reverse: bool = False,
        batch_size: int = 128,
    ):
        super().__init__()
        if len(data) != len(targets):
            raise ValueError(
                f"targets: expected as many as data ({len(data)}), received {len(targets)}"
            )
        self.data = np.asarray(data)
        self.targets = np.asarray(targets)
        self.length = _count("length", length)
        self.sampling_rate = _count("sampling_rate", sampling_rate)
        self.stride = _count("stride", stride)
        self.start_index = start_index + length
        self.end_index = len(data) - 1 if end_index is None else end_index
        self.shuffle = shuffle
        self.reverse = reverse
        self.batch_size = _count("batch_size", batch_size)
        if not 0 <= start_index or not self.start_index <= self.end_index < len(data):
            raise ValueError(
                f"start_index, end_index: expected 0 <= start_index <= end_index - {length} < "
                f"{len(data)} - {length}, received {start_index} and {self.end_index}"
            )

    def __len__(self):
        return -(-(self.end_index + 1 - self.start_index) // (self.batch_size * self.stride))

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected one of {len(self)} batches, received {index}")
        if self.shuffle:
            ends = np.random.randint(self.start_index, self.end_index + 1, self.batch_size)
        else:
            span = self.batch_size * self.stride
            first = self.start_index + index * span
            ends = np.arange(first, min(first + span, self.end_index + 1), self.stride)
        steps = np.arange(-self.length, 0, self.sampling_rate)
        windows = self.data[ends[:, None] + steps]
        return (windows[:, ::-1] if self.reverse else windows), self.targets[ends]

    def __repr__(self):
        return f"<{type(self).__name__} of {len(self)} batches>"


class _WindowsDataset(Dataset):
    """Windows of `data` from `starts`, with the `targets` there."""

    def __init__(self, data, targets, starts, steps):
        self._data, self._targets = data, targets
        self._starts, self._steps = starts, steps
        self._range = range(len(starts))

    def _at(self, places):
        at = slice(places.start, places.stop, places.step) if isinstance(places, range) else places
        starts = self._starts[at]
        windows = as_leaf("data", self._data[starts[..., None] + self._steps])
        if self._targets is None:
            return windows
        return windows, as_leaf("targets", self._targets[starts])

    def _make_spec(self):
        spec = TensorSpec((len(self._steps), *self._data.shape[1:]), self._data.dtype)
        if self._targets is None:
            return spec
        return spec, TensorSpec(self._targets.shape[1:], self._targets.dtype)


def timeseries_dataset_from_array(
    data: ArrayLike,
    targets: ArrayLike | None,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "tf",
) -> Dataset:
    """Batches of windows over a series: x, or (x, y) if `targets` is given.

    Window s is data[s], data[s + sampling_rate], ..., `sequence_length` steps in all, and its
    target is targets[s]; s counts from start_index by sequence_stride. Only data[start_index:
    end_index] is used. x is (batch, sequence_length, ...), or without the batch axis if batch_size
    is None. shuffle: in another order each time it is iterated, drawn from `seed`. format: "tf" is
    the only one. Raises ValueError. As keras.utils.timeseries_dataset_from_array.
    """
    if format != "tf":
        raise ValueError(f"format: expected 'tf', received {format!r}")
    data = np.asarray(data)
    if data.ndim == 0:
        raise ValueError("data: expected an array with time on the first axis, received a number")
    size = len(data)
    sequence_length = _count("sequence_length", sequence_length)
    for name, step in (("sampling_rate", sampling_rate), ("sequence_stride", sequence_stride)):
        if _count(name, step) >= size:
            raise ValueError(f"{name}: expected less than the {size} steps, received {step}")
    if batch_size is not None:
        _count("batch_size", batch_size)
    first = 0 if start_index is None else start_index
    if not 0 <= first < size:
        raise ValueError(f"start_index: expected from 0 to {size - 1}, received {start_index}")
    if end_index is not None and not first < end_index < size:
        raise ValueError(
            f"end_index: expected above start_index ({first}) and below {size}, "
            f"received {end_index}"
        )
    data = data[first:end_index]
    count = len(data) - (sequence_length - 1) * sampling_rate
    if targets is not None:
        targets = np.asarray(targets)
        count = min(count, len(targets))
        targets = targets[first:end_index]
        count = min(count, len(targets))
    starts = np.arange(0, max(count, 0), sequence_stride)
    steps = sampling_rate * np.arange(sequence_length)
    windows: Dataset = _WindowsDataset(data, targets, starts, steps)
    if shuffle:
        windows = windows.shuffle(max(len(starts), 1), seed)
    return windows if batch_size is None else windows.batch(batch_size)


def _count(name: str, value) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name}: expected a whole number >= 1, received {value!r}")
    return int(value)
