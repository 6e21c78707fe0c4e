"""Pipelines of data as tf.data has them, of NumPy arrays and in plain Python."""

from __future__ import annotations

import collections
import functools
import glob as globbing
import gzip
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import checks, random
from ._public import public
from .specs import (
    DatasetSpec,
    NoneTensorSpec,
    TensorShape,
    TensorSpec,
    as_dtype,
    as_element,
    as_leaf,
    common_spec,
    is_nested,
    leaves,
    map_structure,
    spec_of,
)
from .tensors import Tensor

__all__ = ["Dataset", "Options", "TensorSpec", "TextLineDataset"]

AUTOTUNE = -1
INFINITE_CARDINALITY = -1
UNKNOWN_CARDINALITY = -2

# What TensorFlow's Dataset has besides: what to use in its place.
_INSTEAD = {
    "choose_from_datasets": "zip or interleave put Datasets together",
    "fingerprint": "repr() shows what its elements are",
    "ignore_errors": "map_func can catch its errors, and filter leave out what it gives for them",
    "load": "np.load and from_tensor_slices read arrays",
    "make_initializable_iterator": "iter() starts an iterator",
    "make_one_shot_iterator": "iter() starts an iterator",
    "ragged_batch": "padded_batch makes batches of elements of several lengths",
    "random": "from_generator takes a generator of random numbers",
    "rejection_resample": "filter leaves elements out",
    "sample_from_datasets": "concatenate and shuffle mix Datasets",
    "save": "np.save writes the arrays that as_numpy_iterator gives",
    "snapshot": "cache() keeps the elements in memory",
    "sparse_batch": "padded_batch makes batches of elements of several lengths",
}


class Options(SimpleNamespace):
    """Settings of TensorFlow's runtime, which change nothing here."""

    def __init__(self):
        super().__init__(
            autotune=SimpleNamespace(),
            experimental_optimization=SimpleNamespace(),
            threading=SimpleNamespace(),
            experimental_distribute=SimpleNamespace(),
            experimental_threading=SimpleNamespace(),
        )


class Dataset:
    """Elements one after another, made when they are asked for, as tf.data.Dataset.

    An element is an array, or a tuple or dict of such. One of the `from_...` methods or `range`
    makes a Dataset, and each method of a Dataset another one; each iteration begins anew.
    `for x, y in dataset`, `next(iter(dataset))`, `dataset.as_numpy_iterator()`; `model.fit`,
    `evaluate` and `predict` take one whose elements are batches of x, (x, y) or (x, y,
    sample_weight):

        Dataset.from_tensor_slices((x, y)).shuffle(1000).batch(32)

    Arrays given to from_tensor_slices are not copied, and batches of them, also of shuffled ones,
    are taken at once. Functions given to `map` and the others see arrays with `numpy()` that they
    cannot change; they run one after another, when their results are needed, and once or twice more
    on examples where `element_spec` is asked for. num_parallel_calls, deterministic, name and
    prefetch change nothing. Raises ValueError for arguments that do not fit.
    """

    # An element is what `_at` says of a place, where there is such a function: of an int. Of a
    # range or an array of places it gives their elements stacked. `_order` makes an iterator of
    # what another gives, elements or places; `_range` has the places where they are a plain range.
    _at: Callable[..., Any] | None = None
    _range: range | None = None

    # --- what it is ---

    def __init__(self) -> None:
        raise TypeError("a Dataset comes from Dataset.from_tensor_slices and its like")

    def _elements(self) -> Iterator:
        at: Any = self._at
        return map(at, self._places())

    def _places(self) -> Iterator[int]:
        return iter(self._range or ())

    def _count(self) -> int:
        """How many elements there are, or one of the two other cardinalities."""
        return UNKNOWN_CARDINALITY if self._range is None else len(self._range)

    def _make_spec(self) -> Any:
        return spec_of(self._example(2))

    def _example(self, size: int) -> Any:
        """An element, with 2 or 3 where the spec leaves a size open; two of them tell where."""
        if self._at is not None and self._range:
            return self._at(0 if size == 2 else len(self._range) - 1)
        return map_structure(lambda spec: spec.example(size), self.element_spec)

    @property
    def element_spec(self) -> Any:
        """TensorSpecs, with the shape and dtype of each component."""
        if "_spec" not in vars(self):
            with np.errstate(all="ignore"):
                self._spec = self._make_spec()
        return self._spec

    def __iter__(self) -> Iterator[Any]:
        return _Iterator(self)

    def __len__(self):
        count = self._count()
        if count < 0:
            unknown = "unknown" if count == UNKNOWN_CARDINALITY else "infinite"
            raise TypeError(f"the length of the dataset is {unknown}")
        return count

    def __bool__(self):
        return True

    def __repr__(self):
        try:
            spec = repr(self.element_spec)
        except Exception as error:  # of a function of the user's own
            spec = f"? ({type(error).__name__}: {error})"
        return f"<{type(self).__name__} element_spec={spec}>"

    def cardinality(self) -> Any:
        """The number of elements, INFINITE_CARDINALITY or UNKNOWN_CARDINALITY."""
        return as_leaf("cardinality", np.int64(self._count()))

    def as_numpy_iterator(self) -> Iterator[Any]:
        """An iterator of the elements as NumPy's arrays and numbers, strings as bytes."""
        return (map_structure(_as_numpy, element) for element in self)

    def options(self) -> Options:
        return Options()

    # --- sources ---

    @staticmethod
    def from_tensor_slices(tensors: Any, name: Any = None) -> Dataset:
        """The rows of an array, or of a tuple or dict of arrays of one length."""
        return _TensorSliceDataset(as_element("tensors", tensors))

    @staticmethod
    def from_tensors(tensors: Any, name: Any = None) -> Dataset:
        """The one element `tensors`."""
        return _TensorDataset([as_element("tensors", tensors)])

    @staticmethod
    def from_generator(
        generator: Callable[..., Any],
        output_types: Any = None,
        output_shapes: Any = None,
        args: Any = None,
        output_signature: Any = None,
        name: Any = None,
    ) -> Dataset:
        """What `generator(*args)`, called for each iteration, yields; output_signature says what
        that is in TensorSpecs, or output_types and output_shapes."""
        return _GeneratorDataset(generator, output_types, output_shapes, args, output_signature)

    @staticmethod
    def range(*args: Any, output_type: Any = np.int64, name: Any = None) -> Dataset:
        """Numbers, as of Python's range(stop), range(start, stop) or range(start, stop, step)."""
        return _RangeDataset(args, output_type)

    @staticmethod
    def counter(start: int = 0, step: int = 1, dtype: Any = np.int64, name: Any = None) -> Dataset:
        """start, start + step, ... without end."""
        return _CounterDataset(_whole("start", start), _whole("step", step), dtype)

    @staticmethod
    def zip(*args: Any, datasets: Any = None, name: Any = None) -> Dataset:
        """Elements of several Datasets side by side, until one ends: zip(a, b), zip((a, b))."""
        if bool(args) == (datasets is not None):
            raise ValueError("zip: expected Datasets, or a tuple or dict of such")
        structure = datasets if not args else args[0] if len(args) == 1 else args
        for dataset in leaves(structure):
            _check_dataset("datasets", dataset)
        return structure if isinstance(structure, Dataset) else _ZipDataset(structure)

    @staticmethod
    def list_files(
        file_pattern: Any, shuffle: bool | None = None, seed: int | None = None, name: Any = None
    ) -> Dataset:
        """The names of the files that a pattern, or one of several, fits."""
        patterns = as_leaf("file_pattern", file_pattern).ravel().tolist()
        found = sorted(file for pattern in patterns for file in globbing.glob(pattern))
        if not found:
            raise ValueError(f"file_pattern: expected one that fits files, received {file_pattern}")
        files = Dataset.from_tensor_slices(found)
        return files.shuffle(len(found), seed) if shuffle in (None, True) else files

    # --- other elements of each ---

    def map(
        self,
        map_func: Callable[..., Any],
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
        synchronous: bool | None = None,
        use_unbounded_threadpool: bool | None = None,
        name: Any = None,
    ) -> Dataset:
        """map_func(element), or of a tuple's components: map_func(x, y)."""
        _check_parallel(num_parallel_calls)
        return _MapDataset(self, map_func)

    def filter(self, predicate: Callable[..., Any], name: Any = None) -> Dataset:
        """The elements of which predicate is true."""
        return _FilterDataset(self, predicate)

    def take_while(self, predicate: Callable[..., Any], name: Any = None) -> Dataset:
        """The elements before the first of which predicate is false."""
        return _TakeWhileDataset(self, predicate)

    def flat_map(self, map_func: Callable[..., Any], name: Any = None) -> Dataset:
        """The elements of the Datasets that map_func makes of elements, one after another."""
        return _FlatMapDataset(self, map_func)

    def interleave(
        self,
        map_func: Callable[..., Any],
        cycle_length: int | None = None,
        block_length: int | None = None,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
        name: Any = None,
    ) -> Dataset:
        """As flat_map, of `cycle_length` Datasets in turn, `block_length` elements at a time."""
        _check_parallel(num_parallel_calls)
        return _InterleaveDataset(self, map_func, cycle_length, block_length)

    def enumerate(self, start: int = 0, name: Any = None) -> Dataset:
        """(number, element), counted from `start`."""
        return Dataset.zip(_NumbersDataset(_whole("start", start)), self)

    def scan(self, initial_state: Any, scan_func: Callable[..., Any], name: Any = None) -> Dataset:
        """What scan_func(state, element) -> (state, output) puts out."""
        return _ScanDataset(self, initial_state, scan_func)

    # --- the same elements, others of them or in another order ---

    def shuffle(
        self,
        buffer_size: int,
        seed: int | None = None,
        reshuffle_each_iteration: bool | None = None,
        name: Any = None,
    ) -> Dataset:
        """Each drawn from the next `buffer_size` elements that are left, anew in each iteration
        unless reshuffle_each_iteration is False. The numbers are NumPy's, from `seed` or by default
        from `tf.random.set_seed`."""
        return _ShuffleDataset(self, buffer_size, seed, reshuffle_each_iteration)

    def repeat(self, count: int | None = None, name: Any = None) -> Dataset:
        """All elements `count` times; without end for None or -1."""
        return _RepeatDataset(self, -1 if count is None else _whole("count", count))

    def take(self, count: int, name: Any = None) -> Dataset:
        """The first `count` elements; all for -1."""
        return _TakeDataset(self, _whole("count", count))

    def skip(self, count: int, name: Any = None) -> Dataset:
        """All but the first `count` elements; none for -1."""
        return _SkipDataset(self, _whole("count", count))

    def shard(self, num_shards: int, index: int, name: Any = None) -> Dataset:
        """Every `num_shards`-th element, from number `index` on."""
        return _ShardDataset(self, num_shards, index)

    def cache(self, filename: str = "", name: Any = None) -> Dataset:
        """Keeps the elements of the first iteration that is gone through, for those that follow."""
        if not isinstance(filename, str) or filename:
            raise ValueError(
                f"filename: expected '', as elements are kept in memory, received {filename!r}"
            )
        return _CacheDataset(self)

    def prefetch(self, buffer_size: int | None = None, name: Any = None) -> Dataset:
        """The same elements."""
        if buffer_size is not None and _whole("buffer_size", buffer_size) < AUTOTUNE:
            raise ValueError(f"buffer_size: expected >= 0 or AUTOTUNE, received {buffer_size}")
        return _PrefetchDataset(self)

    def with_options(self, options: Any, name: Any = None) -> Dataset:
        """The same elements."""
        return _OptionsDataset(self)

    def concatenate(self, dataset: Dataset, name: Any = None) -> Dataset:
        """These elements, then those of the other."""
        _check_dataset("dataset", dataset)
        return _ConcatenateDataset(self, dataset)

    def unique(self, name: Any = None) -> Dataset:
        """The elements, each when it comes first."""
        return _UniqueDataset(self)

    def apply(self, transformation_func: Callable[[Dataset], Dataset]) -> Dataset:
        """transformation_func(dataset)"""
        made = transformation_func(self)
        _check_dataset("transformation_func", made)
        return made

    # --- batches ---

    def batch(
        self,
        batch_size: int,
        drop_remainder: bool = False,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
        name: Any = None,
    ) -> Dataset:
        """`batch_size` elements stacked on a new first axis; a last batch may have fewer, unless
        drop_remainder."""
        _check_parallel(num_parallel_calls)
        return _BatchDataset(self, batch_size, drop_remainder)

    def padded_batch(
        self,
        batch_size: int,
        padded_shapes: Any = None,
        padding_values: Any = None,
        drop_remainder: bool = False,
        name: Any = None,
    ) -> Dataset:
        """As batch, of arrays padded at their ends to padded_shapes, of which None and -1, the
        default, are the longest of the batch. padding_values: by default 0 and empty strings."""
        return _PaddedBatchDataset(self, batch_size, drop_remainder, padded_shapes, padding_values)

    def unbatch(self, name: Any = None) -> Dataset:
        """The parts of the elements along their first axis."""
        return _UnbatchDataset(self)

    def rebatch(self, batch_size: int, drop_remainder: bool = False, name: Any = None) -> Dataset:
        """Batches of another size."""
        return self.unbatch().batch(batch_size, drop_remainder)

    def window(
        self,
        size: int,
        shift: int | None = None,
        stride: int = 1,
        drop_remainder: bool = False,
        name: Any = None,
    ) -> Dataset:
        """Datasets of `size` elements, every `stride`-th, the next begins `shift` (by default
        size) further. Of a tuple or a dict each component is a Dataset:
        `windows.flat_map(lambda w: w.batch(size))`."""
        return _WindowDataset(self, size, shift, stride, drop_remainder)

    def group_by_window(
        self,
        key_func: Callable[..., Any],
        reduce_func: Callable[..., Any],
        window_size: int | None = None,
        window_size_func: Callable[..., Any] | None = None,
        name: Any = None,
    ) -> Dataset:
        """Elements of one key_func(element), `window_size` of them: those of the Dataset
        reduce_func(key, Dataset of them)."""
        return _GroupDataset(self, key_func, reduce_func, window_size, window_size_func)

    def bucket_by_sequence_length(
        self,
        element_length_func: Callable[..., Any],
        bucket_boundaries: Any,
        bucket_batch_sizes: Any,
        padded_shapes: Any = None,
        padding_values: Any = None,
        pad_to_bucket_boundary: bool = False,
        no_padding: bool = False,
        drop_remainder: bool = False,
        name: Any = None,
    ) -> Dataset:
        """Padded batches of elements of similar lengths: those below the first boundary, from it to
        below the second, and so on, each of its size."""
        if len(bucket_batch_sizes) != len(bucket_boundaries) + 1:
            raise ValueError(
                f"bucket_batch_sizes: expected {len(bucket_boundaries) + 1}, one more than "
                f"boundaries, received {len(bucket_batch_sizes)}"
            )
        if pad_to_bucket_boundary:
            raise ValueError("pad_to_bucket_boundary: expected False; padded_shapes says how far")
        options = padded_shapes, padding_values, no_padding, drop_remainder
        key = _Bucket(element_length_func, bucket_boundaries)
        return self.group_by_window(
            key,
            lambda bucket, elements: _bucket_batch(elements, bucket_batch_sizes[bucket], options),
            window_size_func=lambda bucket: bucket_batch_sizes[bucket],
        )

    # --- results ---

    def reduce(self, initial_state: Any, reduce_func: Callable[..., Any], name: Any = None) -> Any:
        """The last state of state = reduce_func(state, element)."""
        state = as_element("initial_state", initial_state)
        for element in self:
            state = _same_state("reduce_func", reduce_func(state, element), state)
        return state

    def get_single_element(self, name: Any = None) -> Any:
        """The only element."""
        found = list(itertools.islice(self, 2))
        if len(found) != 1:
            what = "more" if found else "none"
            raise ValueError(f"get_single_element: expected one element, received {what}")
        return found[0]


class _Iterator:
    """Over a Dataset; get_next() is next()."""

    def __init__(self, dataset):
        self._dataset, self._elements = dataset, dataset._elements()

    @property
    def element_spec(self):
        return self._dataset.element_spec

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._elements)

    get_next = __next__


class _Missing:
    """What is not there: an AttributeError that says what there is instead."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        raise AttributeError(f"fastrnn's Dataset has no {self.name}: {_INSTEAD[self.name]}")


for _name in _INSTEAD:
    setattr(Dataset, _name, _Missing())
    vars(Dataset)[_name].__set_name__(Dataset, _name)


# --- arguments and values -------------------------------------------------------------------------


def _whole(name, value):
    found = checks.whole(name, value)
    if not -(2**63) <= found < 2**63:
        raise ValueError(f"{name}: expected a whole number of 64 bits, received {value!r}")
    return found


def _positive(name, value):
    found = _whole(name, value)
    if found < 1:
        raise ValueError(f"{name}: expected a whole number >= 1, received {value!r}")
    return found


def _check_parallel(calls):
    if calls is not None and calls != AUTOTUNE:
        _positive("num_parallel_calls", calls)


def _check_dataset(name, value):
    if not isinstance(value, Dataset):
        raise ValueError(f"{name}: expected a Dataset, received {type(value).__name__}")


def _called(function, element):
    return function(*element) if type(element) is tuple else function(element)


def _result(name, value):
    """What a function gave, as an element."""
    if type(value) is Tensor:
        return value
    if value is None:
        raise ValueError(f"{name}: expected arrays, received None")
    if type(value) is tuple:
        return tuple([part if type(part) is Tensor else as_element(name, part) for part in value])
    return as_element(name, tuple(value) if isinstance(value, list) else value)


def _same_state(name, value, state):
    new = _result(name, value)
    try:
        common_spec(spec_of(state), spec_of(new))
    except ValueError as error:
        raise ValueError(f"{name}: expected a state as before: {error}") from None
    return new


def _as_numpy(leaf):
    if isinstance(leaf, Dataset):
        raise TypeError("as_numpy_iterator: expected elements that are arrays, received Datasets")
    return None if leaf is None else np.asarray(leaf)[()]


def _stacked(elements):
    """The elements on a new first axis."""
    return map_structure(lambda *parts: _stack(parts), *elements)


def _stack(parts):
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Dataset):
        raise ValueError("batch: expected elements that are arrays, received Datasets")
    shape, dtype = first.shape, first.dtype
    whole = np.empty((len(parts), *shape), dtype)
    for n, part in enumerate(parts):
        if part.shape != shape:
            raise ValueError(
                f"batch: expected elements of one shape, received {shape} and {part.shape}; "
                "padded_batch takes these"
            )
        if part.dtype != dtype:
            raise ValueError(
                f"batch: expected elements of one dtype, received {dtype} and {part.dtype}"
            )
        whole[n, ...] = part
    return _tensor(whole)


def _repeated(element, times):
    """The element so many times on a new first axis, without a copy."""

    def repeated(part):
        return None if part is None else _tensor(np.broadcast_to(part, (times, *part.shape)))

    return map_structure(repeated, element)


def _tensor(array):
    tensor = array.view(Tensor)
    tensor.flags.writeable = False
    return tensor


def _rows(array, places):
    """One row, or those of a range or an array of places."""
    if isinstance(places, range):
        return array[places.start : places.stop : places.step]
    if isinstance(places, np.ndarray):
        return array.take(places, 0, mode="clip")  # which asks no more: they are all in range
    return array[places, ...]


def _within(outer, places):
    """The places in a range of those in a range within it."""
    if isinstance(places, np.ndarray):
        return outer.start + outer.step * places
    return (
        outer[places.start : places.stop : places.step]
        if isinstance(places, range)
        else (outer[places])
    )


# --- sources --------------------------------------------------------------------------------------


class _TensorSliceDataset(Dataset):
    def __init__(self, element):
        arrays = [array for array in leaves(element) if array is not None]
        if not arrays:
            raise ValueError("tensors: expected at least one array")
        for array in arrays:
            if array.ndim < 1:
                raise ValueError(
                    "tensors: expected arrays with rows, received a number or a string"
                )
            if len(array) != len(arrays[0]):
                raise ValueError(
                    f"tensors: expected as many rows in each array ({len(arrays[0])}), received "
                    f"{len(array)}"
                )
            array.flags.writeable = False
        self._element, self._range = element, range(len(arrays[0]))
        if type(element) is Tensor:
            self._at = functools.partial(_rows, element)

    def __reduce__(self):
        return type(self), (self._element,)

    def _at(self, places):
        element = self._element
        if type(element) is tuple:
            return tuple([_part(part, places) for part in element])
        return _part(element, places)

    def _make_spec(self):
        return map_structure(
            lambda array: (
                spec_of(array) if array is None else TensorSpec(array.shape[1:], array.dtype)
            ),
            self._element,
        )


def _part(part, places):
    if type(part) is Tensor:
        return _rows(part, places)
    return map_structure(lambda array: None if array is None else _rows(array, places), part)


class _VariantDataset(Dataset):
    """The elements at some places of another Dataset, or of a component of it."""

    def __init__(self, at, places, spec):
        self._at, self._range, self._spec = at, places, spec


class _Component:
    """That of one number of what a function of places gives."""

    def __init__(self, at, number):
        self.at, self.number = at, number

    def __call__(self, places):
        return leaves(self.at(places))[self.number]


class _Same:
    """One element at all places."""

    def __init__(self, element):
        self.element = element

    def __call__(self, places):
        if isinstance(places, (range, np.ndarray)):
            return _repeated(self.element, len(places))
        return self.element


class _ListDataset(Dataset):
    def __init__(self, elements):
        self._list, self._range = elements, range(len(elements))

    def _at(self, places):
        if isinstance(places, (range, np.ndarray)):
            return _stacked([self._list[place] for place in places])
        return self._list[places]


class _TensorDataset(_ListDataset):
    pass


class _GeneratorDataset(Dataset):
    def __init__(self, generator, output_types, output_shapes, args, signature):
        if not callable(generator):
            raise ValueError(
                "generator: expected a function that returns an iterator, received "
                f"{type(generator).__name__}"
            )
        if signature is None and output_types is None:
            raise ValueError("from_generator: expected output_signature, or output_types")
        if signature is None:
            shapes = output_shapes
            if shapes is None:
                shapes = map_structure(lambda _: None, output_types)
            signature = _matched("output_shapes", _typed, output_types, shapes)
        elif output_types is not None or output_shapes is not None:
            raise ValueError(
                "from_generator: expected output_signature alone, without output_types"
            )
        for spec in leaves(signature):
            if not hasattr(spec, "batched"):
                raise ValueError(f"output_signature: expected TensorSpecs, received {spec!r}")
        self._generator, self._spec = generator, signature
        self._args = [_as_numpy(as_leaf("args", arg)) for arg in args or ()]

    def _elements(self):
        for value in self._generator(*self._args):
            yield _matched("generator", _generated, self._spec, value)


def _typed(dtype, shape):
    return TensorSpec(shape, dtype)


def _generated(spec, value):
    leaf = as_leaf("generator", value, getattr(spec, "dtype", None))
    if isinstance(spec, TensorSpec) and not spec.shape.is_compatible_with(leaf.shape):
        raise ValueError(f"expected shape {spec.shape}, received {leaf.shape}")
    return leaf


def _matched(name, function, structure, *others):
    """map_structure, with the argument's name in its messages."""
    try:
        return map_structure(function, structure, *others)
    except ValueError as error:
        message = str(error)
        if message.startswith("expected"):
            message = f"{name}: {message}"
        raise ValueError(message) from None


class _RangeDataset(Dataset):
    def __init__(self, args, output_type):
        if not 1 <= len(args) <= 3:
            raise ValueError(f"range: expected stop, start or step as well, received {len(args)}")
        args = [_whole("range", arg) for arg in args]
        if args[2:] == [0]:
            raise ValueError("range: expected a step other than 0")
        self._numbers, self._dtype = range(*args), as_dtype("output_type", output_type)
        self._range = range(len(self._numbers))

    def _at(self, places):
        numbers = self._numbers
        if isinstance(places, range):
            part = numbers[places.start : places.stop : places.step]
            found = np.arange(part.start, part.stop, part.step).astype(self._dtype)
        elif isinstance(places, np.ndarray):
            found = (numbers.start + numbers.step * places).astype(self._dtype)
        else:
            found = np.array(numbers[places], self._dtype)
        return _tensor(found)

    def _make_spec(self):
        return TensorSpec((), self._dtype)


class _NumbersDataset(_RangeDataset):
    """Those of enumerate, which has no end of its own."""

    def __init__(self, start):
        super().__init__([start, min(start, 0) + sys.maxsize], np.int64)

    def _count(self):
        return INFINITE_CARDINALITY


class _CounterDataset(Dataset):
    def __init__(self, start, step, dtype):
        self._start, self._step, self._dtype = start, step, as_dtype("dtype", dtype)

    def _elements(self):
        for number in itertools.count(self._start, self._step):
            yield _tensor(np.array(number, self._dtype))

    def _count(self):
        return INFINITE_CARDINALITY

    def _make_spec(self):
        return TensorSpec((), self._dtype)


class TextLineDataset(Dataset):
    """The lines of text files, as bytes without their ends. compression_type: "GZIP" or none."""

    def __init__(
        self,
        filenames: Any,
        compression_type: str | None = None,
        buffer_size: int | None = None,
        num_parallel_reads: int | None = None,
        name: Any = None,
    ):
        if compression_type not in (None, "", "GZIP"):
            raise ValueError(
                f"compression_type: expected 'GZIP' or None, received {compression_type!r}"
            )
        if isinstance(filenames, Dataset):
            filenames = list(filenames.as_numpy_iterator())
        given = filenames if isinstance(filenames, (list, tuple)) else [filenames]
        given = [os.fspath(name) if hasattr(name, "__fspath__") else name for name in given]
        self._files = as_leaf("filenames", given).ravel().tolist()
        self._open = gzip.open if compression_type == "GZIP" else open

    def _elements(self):
        for file in self._files:
            with self._open(file, "rb") as lines:
                for line in lines:
                    text = np.array(line.removesuffix(b"\n").replace(b"\r", b""), object)
                    yield _tensor(text)

    def _make_spec(self):
        return TensorSpec((), object)


class _ZipDataset(Dataset):
    def __init__(self, structure):
        self._structure, self._members = structure, leaves(structure)
        if all(member._range is not None for member in self._members):
            self._range = range(min(len(member._range) for member in self._members))
        else:
            self._at = None

    def _at(self, places):
        return map_structure(
            lambda member: member._at(_within(member._range, places)), self._structure
        )

    def _elements(self):
        if self._at is not None:
            return super()._elements()
        rows = zip(*(member._elements() for member in self._members), strict=False)
        if type(self._structure) is tuple and not any(map(is_nested, self._structure)):
            return rows
        return (_packed(self._structure, iter(row)) for row in rows)

    def _count(self):
        counts = [member._count() for member in self._members]
        if UNKNOWN_CARDINALITY in counts:
            return UNKNOWN_CARDINALITY
        return min((n for n in counts if n >= 0), default=INFINITE_CARDINALITY)

    def _make_spec(self):
        return map_structure(lambda member: member.element_spec, self._structure)

    def _example(self, size):
        return map_structure(lambda member: member._example(size), self._structure)


def _packed(structure, parts):
    return map_structure(lambda _: next(parts), structure)


class _ConcatenateDataset(Dataset):
    def __init__(self, first, second):
        parts = first._parts if isinstance(first, _ConcatenateDataset) else [first]
        self._parts = [*parts, second]
        try:
            self._spec = common_spec(first.element_spec, second.element_spec)
        except ValueError as error:
            raise ValueError(f"dataset: expected elements as those before: {error}") from None

    def _elements(self):
        return itertools.chain.from_iterable(part._elements() for part in self._parts)

    def _count(self):
        counts = [part._count() for part in self._parts]
        return sum(counts) if min(counts) >= 0 else max(n for n in counts if n < 0)


# --- the same elements in another order -----------------------------------------------------------


class _Derived(Dataset):
    def __init__(self, source):
        self._source = source

    def _count(self):
        return self._source._count()


class _Ordered(_Derived):
    """Elements of its source, in the order in which `_order(open)` gives what the iterator open()
    does; from a plain range of places `_part_of` makes another, where that is all it takes."""

    def __init__(self, source):
        super().__init__(source)
        self._at = source._at
        if source._range is not None:
            self._range = self._part_of(source._range)

    def _part_of(self, places):
        return None

    def _order(self, open):
        return open()

    def _places(self):
        return self._order(self._source._places) if self._range is None else iter(self._range)

    def _elements(self):
        if self._at is not None:
            return map(self._at, self._places())
        return self._order(self._source._elements)

    def _make_spec(self):
        return self._source.element_spec

    def _example(self, size):
        return self._source._example(size)


class _PrefetchDataset(_Ordered):
    def _part_of(self, places):
        return places


class _OptionsDataset(_PrefetchDataset):
    pass


class _CacheDataset(_PrefetchDataset):
    _kept: list | None = None

    def _order(self, open):
        return iter(self._kept) if self._kept is not None else self._keep(open())

    def _keep(self, items):
        kept = []
        for item in items:
            kept.append(item)
            yield item
        self._kept = kept


class _TakeDataset(_Ordered):
    def __init__(self, source, count):
        self._limit = count if count >= 0 else None
        super().__init__(source)

    def _part_of(self, places):
        return places[: self._limit]

    def _order(self, open):
        return open() if self._limit is None else itertools.islice(open(), self._limit)

    def _count(self):
        count = super()._count()
        if self._limit is None or count == UNKNOWN_CARDINALITY:
            return count
        return self._limit if count < 0 else min(count, self._limit)


class _SkipDataset(_Ordered):
    def __init__(self, source, count):
        self._skipped = count if count >= 0 else None
        super().__init__(source)

    def _part_of(self, places):
        return places[:0] if self._skipped is None else places[self._skipped :]

    def _order(self, open):
        return iter(()) if self._skipped is None else itertools.islice(open(), self._skipped, None)

    def _count(self):
        count = super()._count()
        if count < 0:
            return count
        return 0 if self._skipped is None else max(count - self._skipped, 0)


class _ShardDataset(_Ordered):
    def __init__(self, source, num_shards, index):
        self._shards, self._index = _positive("num_shards", num_shards), _whole("index", index)
        if not 0 <= self._index < self._shards:
            raise ValueError(f"index: expected from 0 to {self._shards - 1}, received {index}")
        super().__init__(source)

    def _part_of(self, places):
        return places[self._index :: self._shards]

    def _order(self, open):
        return itertools.islice(open(), self._index, None, self._shards)

    def _count(self):
        count = super()._count()
        return max(-(-(count - self._index) // self._shards), 0) if count >= 0 else count


class _RepeatDataset(_Ordered):
    def __init__(self, source, times):
        self._times = times
        super().__init__(source)

    def _part_of(self, places):
        return places[: len(places) * self._times] if self._times in (0, 1) else None

    def _order(self, open):
        for _ in itertools.count() if self._times < 0 else range(self._times):
            empty = True
            for item in open():
                empty = False
                yield item
            if empty:
                return

    def _count(self):
        count = super()._count()
        if count == 0 or self._times == 0:
            return 0
        if self._times < 0 or count == INFINITE_CARDINALITY:
            return INFINITE_CARDINALITY
        return count * self._times if count >= 0 else count


class _ShuffleDataset(_Ordered):
    def __init__(self, source, buffer_size, seed, reshuffle):
        super().__init__(source)
        size = _whole("buffer_size", buffer_size)
        if size < 1 and size != UNKNOWN_CARDINALITY:
            raise ValueError(f"buffer_size: expected a whole number >= 1, received {buffer_size!r}")
        self._size = sys.maxsize if size < 1 else min(size, sys.maxsize)
        self._seed = None if seed is None else _whole("seed", seed) % 2**64
        self._anew = reshuffle is None or checks.flag("reshuffle_each_iteration", reshuffle)
        self._iterations = 0
        if self._seed is None and not self._anew:
            self._seed = random.draw_seed()

    def _generator(self):
        """That of the next iteration."""
        if self._seed is None:
            return np.random.default_rng(random.draw_seed())
        number = self._iterations
        self._iterations += self._anew
        return np.random.default_rng([self._seed, number])

    def _places(self):
        places = self._source._range
        if places is None or len(places) > self._size:
            return super()._places()
        return self._permuted(places)

    def _permuted(self, places):
        """The places as _order gives them, without a list of them all."""
        order = _within(places, self._generator().permutation(len(places)))
        for start in range(0, len(order), 4096):
            yield from order[start : start + 4096].tolist()

    def _order(self, open):
        generator, items = self._generator(), open()
        buffer = list(itertools.islice(items, self._size))
        if len(buffer) == self._size:
            draws = _integers(generator, self._size)
            for item in items:
                place = next(draws)
                yield buffer[place]
                buffer[place] = item
        for place in generator.permutation(len(buffer)).tolist():
            yield buffer[place]


def _integers(generator, end):
    while True:
        yield from generator.integers(end, size=1024).tolist()


# --- other elements -------------------------------------------------------------------------------


class _Made(_Derived):
    """Its elements come of a function, of which examples say their spec."""

    argument = "map_func"

    def __init__(self, source, function):
        super().__init__(source)
        if not callable(function):
            raise ValueError(f"{self.argument}: expected a function, received {function!r}")
        self._function = function

    def _spec_with(self, size):
        return spec_of(self._example(size))

    def _make_spec(self):
        try:
            return common_spec(self._spec_with(2), self._spec_with(3))
        except Exception:  # of a function that wants other numbers than those of examples
            for element in self._elements():
                return spec_of(element)
            raise


class _MapDataset(_Made):
    def _elements(self):
        function, name = self._function, self.argument
        for element in self._source._elements():
            yield _result(name, _called(function, element))

    def _example(self, size):
        return _result(self.argument, _called(self._function, self._source._example(size)))


class _FilterDataset(_Made):
    argument = "predicate"

    def _elements(self):
        return (element for element in self._source._elements() if self._is_true(element))

    def _is_true(self, element):
        found = _called(self._function, element)
        if np.ndim(found) or np.asarray(found).dtype != bool:
            raise ValueError(f"predicate: expected True or False, received {found!r}")
        return bool(found)

    def _count(self):
        return UNKNOWN_CARDINALITY

    def _make_spec(self):
        return self._source.element_spec

    def _example(self, size):
        return self._source._example(size)


class _TakeWhileDataset(_FilterDataset):
    def _elements(self):
        return itertools.takewhile(self._is_true, self._source._elements())


class _FlatMapDataset(_Made):
    def _dataset(self, element):
        made = _called(self._function, element)
        _check_dataset("map_func", made)
        return made

    def _elements(self):
        for element in self._source._elements():
            yield from self._dataset(element)._elements()

    def _count(self):
        return UNKNOWN_CARDINALITY

    def _spec_with(self, size):
        return self._dataset(self._source._example(size)).element_spec

    def _example(self, size):
        return self._dataset(self._source._example(size))._example(size)


class _InterleaveDataset(_FlatMapDataset):
    def __init__(self, source, function, cycle_length, block_length):
        super().__init__(source, function)
        if cycle_length in (None, AUTOTUNE):
            cycle_length = 2
        self._cycle = _positive("cycle_length", cycle_length)
        self._block = _positive("block_length", 1 if block_length is None else block_length)

    def _elements(self):
        given, ended = self._source._elements(), False
        slots = [None] * self._cycle
        place = 0
        while not ended or any(slots):
            if slots[place] is None and not ended:
                element = next(given, self)
                ended = element is self
                if ended:
                    continue
                slots[place] = self._dataset(element)._elements()
            if slots[place] is not None:
                block = 0
                for part in slots[place]:
                    yield part
                    block += 1
                    if block == self._block:
                        break
                else:
                    slots[place] = None
            place = (place + 1) % self._cycle


class _ScanDataset(_Made):
    argument = "scan_func"

    def __init__(self, source, state, function):
        super().__init__(source, function)
        self._state = as_element("initial_state", state)

    def _step(self, state, element):
        made = self._function(state, element)
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise ValueError("scan_func: expected (state, output)")
        return _same_state(self.argument, made[0], state), _result(self.argument, made[1])

    def _elements(self):
        state = self._state
        for element in self._source._elements():
            state, output = self._step(state, element)
            yield output

    def _example(self, size):
        return self._step(self._state, self._source._example(size))[1]


class _UniqueDataset(_Derived):
    def _elements(self):
        seen = set()
        for element in self._source._elements():
            if is_nested(element):
                raise ValueError("unique: expected elements that are one array each")
            key = (element.shape, tuple(element.ravel().tolist()))
            if key not in seen:
                seen.add(key)
                yield element

    def _count(self):
        return UNKNOWN_CARDINALITY

    def _make_spec(self):
        return self._source.element_spec


# --- batches and windows --------------------------------------------------------------------------


class _BatchDataset(_Derived):
    def __init__(self, source, batch_size, drop_remainder):
        super().__init__(source)
        self._size = _positive("batch_size", batch_size)
        self._drops = checks.flag("drop_remainder", drop_remainder)

    def _elements(self):
        return self._of_elements() if self._source._at is None else self._of_places()

    def _of_places(self):
        source, size, places = self._source, self._size, self._source._range
        if places is None:
            for part in self._parts(source._places()):
                yield source._at(np.array(part))
            return
        end = len(places) - len(places) % size if self._drops else len(places)
        for start in range(0, end, size):
            yield source._at(places[start : start + size])

    def _of_elements(self):
        return map(self._batch, self._parts(self._source._elements()))

    def _parts(self, items):
        """Lists of as many items as make a batch."""
        while part := list(itertools.islice(items, self._size)):
            if len(part) == self._size or not self._drops:
                yield part

    def _batch(self, elements):
        return _stacked(elements)

    def _count(self):
        count = super()._count()
        if count < 0:
            return count
        return count // self._size if self._drops else -(-count // self._size)

    def _make_spec(self):
        size = self._size if self._drops else None
        return map_structure(lambda spec: spec.batched(size), self._source.element_spec)

    def _example(self, size):
        return _repeated(self._source._example(size), self._size if self._drops else size)


class _PaddedBatchDataset(_BatchDataset):
    def __init__(self, source, batch_size, drop_remainder, shapes, values):
        super().__init__(source, batch_size, drop_remainder)
        self._shapes, self._values = shapes, values

    def _elements(self):
        return self._of_elements()

    def _options(self, structure):
        """For each component, the shape and the value to pad it with."""
        shapes, values = self._shapes, self._values
        if shapes is None:
            shapes = map_structure(lambda _: None, structure)
        if not is_nested(values):
            value = values
            values = map_structure(lambda _: value, structure)
        _matched("padding_values", lambda *_: None, structure, values)
        return shapes, values

    def _batch(self, elements):
        shapes, values = self._options(elements[0])
        columns = map_structure(lambda *parts: list(parts), *elements)
        return _matched(
            "padded_shapes",
            lambda _, shape, value, parts: _padded(parts, shape, value),
            elements[0], shapes, values, columns,
        )  # fmt: skip

    def _make_spec(self):
        spec = self._source.element_spec
        shapes, _ = self._options(spec)
        size = self._size if self._drops else None

        def padded(part, shape):
            if isinstance(part, TensorSpec) and shape is not None:
                part = TensorSpec(_open(shape), part.dtype)
            return part.batched(size)

        return _matched("padded_shapes", padded, spec, shapes)

    def _example(self, size):
        return Dataset._example(self, size)


def _open(shape):
    """A shape of padded_shapes, in which -1 is None."""
    dims = shape if isinstance(shape, TensorShape) else np.atleast_1d(np.array(shape, object))
    return TensorShape([None if dim is None or dim == -1 else dim for dim in dims])


def _padded(parts, shape, value):
    """The arrays in one, padded at their ends."""
    if parts[0] is None or isinstance(parts[0], Dataset):
        return _stack(parts)
    dtype, rank = parts[0].dtype, parts[0].ndim
    empty = b"" if dtype.kind == "O" else 0
    value = as_leaf("padding_values", empty if value is None else value, dtype)
    if value.ndim:
        raise ValueError(f"padding_values: expected numbers, received shape {value.shape}")
    wanted = [None] * rank if shape is None else _open(shape).as_list()
    if len(wanted) != rank:
        raise ValueError(
            f"padded_shapes: expected {rank} sizes, one for each axis, received {shape}"
        )
    if ranks := {part.ndim for part in parts} - {rank}:
        raise ValueError(
            f"padded_batch: expected arrays of {rank} axes, received one of {min(ranks)}"
        )
    longest = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    sizes = [most if size is None else size for size, most in zip(wanted, longest, strict=True)]
    if any(size < most for size, most in zip(sizes, longest, strict=True)):
        raise ValueError(
            f"padded_shapes: expected sizes of at least {tuple(longest)}, received {tuple(sizes)}"
        )
    whole = np.full((len(parts), *sizes), value, dtype)
    for n, part in enumerate(parts):
        whole[(n, *map(slice, part.shape), ...)] = part
    return _tensor(whole)


class _UnbatchDataset(_Derived):
    def _elements(self):
        for element in self._source._elements():
            arrays = [part for part in leaves(element) if part is not None]
            sizes = {len(part) if part.ndim else None for part in arrays}
            if len(sizes) != 1 or None in sizes:
                raise ValueError(
                    "unbatch: expected arrays of one length, received shapes "
                    f"{[part.shape for part in arrays]}"
                )
            for place in range(*sizes):
                yield _part(element, place)

    def _count(self):
        count = super()._count()
        if count < 0:
            return count
        shapes = [spec.shape for spec in leaves(self._source.element_spec)]
        sizes = {shape[0] for shape in shapes if shape.rank} - {None}
        return count * sizes.pop() if sizes else UNKNOWN_CARDINALITY

    def _make_spec(self):
        return map_structure(self._row_spec, self._source.element_spec)

    @staticmethod
    def _row_spec(spec):
        if spec.shape.rank is None or isinstance(spec, NoneTensorSpec):
            return spec
        if spec.shape.rank == 0:
            raise ValueError("unbatch: expected arrays of one length, received numbers or strings")
        return TensorSpec(spec.shape[1:], spec.dtype)


class _WindowDataset(_Derived):
    def __init__(self, source, size, shift, stride, drop_remainder):
        super().__init__(source)
        self._size = _positive("size", size)
        self._shift = self._size if shift is None else _positive("shift", shift)
        self._stride = _positive("stride", stride)
        self._drops = checks.flag("drop_remainder", drop_remainder)
        self._span = min((self._size - 1) * self._stride + 1, sys.maxsize)

    def _elements(self):
        if self._source._range is None:
            return self._of_elements()
        return map(self._of_places, self._starts(len(self._source._range)))

    def _starts(self, count):
        return range(0, max(count - self._span + 1, 0) if self._drops else count, self._shift)

    def _of_places(self, start):
        source = self._source
        places = source._range[start : start + self._span : self._stride]
        spec = source.element_spec
        if not is_nested(spec):
            return _VariantDataset(source._at, places, spec)
        numbers = itertools.count()
        return map_structure(
            lambda part: _VariantDataset(_Component(source._at, next(numbers)), places, part), spec
        )

    def _of_elements(self):
        items, held = self._source._elements(), collections.deque()
        while True:
            held.extend(itertools.islice(items, self._span - len(held)))
            if not held or (self._drops and len(held) < self._span):
                return
            yield self._window(list(itertools.islice(held, 0, None, self._stride)))
            for _ in range(min(self._shift, len(held))):
                held.popleft()
            for _ in itertools.islice(items, max(self._shift - self._span, 0)):
                pass

    @staticmethod
    def _window(elements):
        return map_structure(lambda *parts: _ListDataset(list(parts)), *elements)

    def _count(self):
        count = super()._count()
        return len(self._starts(count)) if count >= 0 else count

    def _make_spec(self):
        return map_structure(DatasetSpec, self._source.element_spec)

    def _example(self, size):
        places = range(self._size)
        return map_structure(
            lambda part: _VariantDataset(_Same(part), places, spec_of(part)),
            self._source._example(size),
        )


class _GroupDataset(_Made):
    argument = "key_func"

    def __init__(self, source, key_func, reduce_func, size, size_func):
        super().__init__(source, key_func)
        if (size is None) == (size_func is None):
            raise ValueError("window_size: expected it, or window_size_func")
        self._reduce, self._size_func = reduce_func, size_func
        self._size = None if size is None else _positive("window_size", size)

    def _dataset(self, key, elements):
        made = self._reduce(as_leaf("key", np.int64(key)), _ListDataset(elements))
        _check_dataset("reduce_func", made)
        return made

    def _elements(self):
        groups = collections.defaultdict(list)
        for element in self._source._elements():
            key = _whole("key_func", _called(self._function, element))
            groups[key].append(element)
            size = self._size
            if size is None:
                size = _positive("window_size_func", self._size_func(key))
            if len(groups[key]) >= size:
                yield from self._dataset(key, groups.pop(key))._elements()
        for key in sorted(groups):
            yield from self._dataset(key, groups[key])._elements()

    def _count(self):
        return UNKNOWN_CARDINALITY

    def _spec_with(self, size):
        element = self._source._example(size)
        return self._dataset(_called(self._function, element), [element]).element_spec

    def _example(self, size):
        return Dataset._example(self, size)


class _Bucket:
    """The number of the bucket that an element of this length is in."""

    def __init__(self, length, boundaries):
        self.length, self.boundaries = length, boundaries

    def __call__(self, *element):
        return int(np.searchsorted(self.boundaries, self.length(*element), side="right"))


def _bucket_batch(elements, size, options):
    shapes, values, unpadded, drops = options
    if unpadded:
        return elements.batch(size, drops)
    return elements.padded_batch(size, shapes, values, drops)


public(__name__)
