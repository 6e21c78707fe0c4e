"""Batches: from arrays, or from whatever yields batches itself."""

import contextlib
import itertools
import math

import numpy as np

from fastrnn import random
from fastrnn.arrays import contiguous
from fastrnn.layers.base import as_input, as_numbers

_TO_DENSE = ("toarray", "to_tensor")  # methods of SciPy's sparse arrays, of ragged tensors


def each(function, value):
    """function(value), of each array where it is a list, None where there is none."""
    if type(value) is list:
        return [each(function, part) for part in value]
    return None if value is None else function(value)


def shape_of(arrays):
    return each(np.shape, arrays)


def samples_of(arrays):
    return len(arrays[0] if type(arrays) is list else arrays)


def samples_in(shapes):
    """The number of samples, from the shape of an array or a list of such."""
    return (shapes[0] if isinstance(shapes, list) else shapes)[0]


def built_for(x):
    """The input shape, or shapes, to build a model with for such a batch."""
    return each(lambda a: (None, *a.shape[1:]), x)


def paths_in(structure, above=()):
    """Where the leaves of dicts and lists in each other are, in Keras's order: that of the keys."""
    if isinstance(structure, dict):
        parts = [(key, structure[key]) for key in sorted(structure)]
    elif isinstance(structure, (list, tuple)):
        parts = enumerate(structure)
    else:
        return [above]
    return [path for key, part in parts for path in paths_in(part, (*above, key))]


def leaves_of(structure, paths=None):
    """What is at these paths; all leaves by default."""
    leaves = []
    for path in paths_in(structure) if paths is None else paths:
        leaf = structure
        for key in path:
            leaf = leaf[key]
        leaves.append(leaf)
    return leaves


def packed(structure, leaves):
    """The dicts and lists of a structure around other leaves."""
    leaves = dict(zip(paths_in(structure), leaves, strict=True))

    def fill(part, path):
        if isinstance(part, dict):
            return {key: fill(inner, (*path, key)) for key, inner in part.items()}
        if isinstance(part, (list, tuple)):
            kind = list if isinstance(part, list) else tuple
            return kind(fill(inner, (*path, n)) for n, inner in enumerate(part))
        return leaves[path]

    return fill(structure, ())


def parts_by_name(name, given, names, paths=()):
    """The parts of a list, or of a dict by these names, in order; None where a dict has none.
    paths: those at which they are, where that is deeper."""
    if any(len(path) > 1 for path in paths):
        with contextlib.suppress(KeyError, IndexError, TypeError):
            return leaves_of(given, paths)
    if len(names) == 1 and not isinstance(given, (list, tuple, dict)):
        return [given]
    if isinstance(given, dict):
        if unknown := [key for key in given if key not in names]:
            raise ValueError(f"{name}: expected a dict with keys of {names}, received {unknown}")
        return [given.get(key) for key in names]
    if not isinstance(given, (list, tuple)) or len(given) != len(names):
        count = f" of {len(given)}" if isinstance(given, (list, tuple)) else ""
        raise ValueError(
            f"{name}: expected a list of {len(names)} arrays, for {names}, received "
            f"{type(given).__name__}{count}"
        )
    return list(given)


def inputs_of(model, x):
    """x as the model takes it: an array, or a list of them."""
    if model._says_call:
        model.look_at(x)
    if not model.takes_several:
        if isinstance(x, dict) and len(x) > 1:
            (x,) = model.parts_of_inputs("x", x)
        return model.repair_rank(_input_of(x, model.input_dtype))
    parts = model.parts_of_inputs("x", x)
    dtypes = model.input_dtype
    return model.repair_rank([_input_of(a, t) for a, t in zip(parts, dtypes, strict=True)])


def _input_of(x, dtype):
    return as_input(single(x, "x", of_text=dtype is object), dtype, "x")


def _build_for_targets(model, x, y):
    """A model that says `call` only tells when it is built whether it gives several outputs."""
    several = isinstance(y, (list, tuple, dict)) and len(y) > 1
    if several and model._says_call and not model.built and not model._own_steps:
        model.build(built_for(x))


def targets_of(model, y):
    """y as numbers: an array, or a list with one, or None, for each output."""
    if y is None:
        return None
    if not model.gives_several:
        return as_target(single(y, "y"))
    return each(lambda a: as_target(single(a, "y")), model.parts_of_outputs("y", y))


def weights_of(model, sample_weight):
    """As targets_of; an array for a model of several outputs is that of each."""
    if sample_weight is None:
        return None
    if not model.gives_several:
        return np.asarray(single(sample_weight, "sample_weight"), np.float32)
    if isinstance(sample_weight, (list, tuple, dict)):
        parts = model.parts_of_outputs("sample_weight", sample_weight)
    else:
        parts = [sample_weight] * len(model.outputs)
    return each(lambda a: np.asarray(single(a, "sample_weight"), np.float32), parts)


def check_samples(x, y, sample_weight, where="", hint=""):
    """How many samples all arrays have; raise ValueError unless it is one number."""
    samples = samples_of(x)
    for name, value in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        for array in value if type(value) is list else (value,):
            if array is not None and (array.ndim < 1 or len(array) != samples):
                raise ValueError(
                    f"{name}: expected as many samples as x ({samples}){where}, received shape "
                    f"{array.shape}{hint}"
                )
    return samples


class ArrayBatches:
    """Batches of (x, y, sample_weight) cut from arrays with the samples on the first axis, or from
    lists of arrays where the model has several inputs or outputs.

    shuffle: a new order each time it is iterated; "batch": of the samples within each batch.
    steps: into how many batches to cut where no batch_size is given. Errors: ValueError for lengths
    that differ."""

    endless = False

    def __init__(self, x, y, sample_weight, batch_size, shuffle, model, steps=None):
        self.x = inputs_of(model, x)
        _build_for_targets(model, self.x, y)
        if any(part.ndim < 1 for part in self._parts(self.x)):
            raise ValueError(
                "x: expected an array with samples on the first axis, received a number"
            )
        self.y = targets_of(model, y)
        self.sample_weight = weights_of(model, sample_weight)
        lists = any(isinstance(given, (list, tuple)) for given in (x, y))
        lists = lists and not model.takes_several and not model.gives_several
        hint = "; a model has one input and one output, so a list is one array" * lists
        self.samples = check_samples(self.x, self.y, self.sample_weight, hint=hint)
        if self.samples == 0:
            raise ValueError(f"x: expected at least one sample, received shape {shape_of(self.x)}")
        if batch_size is None and steps:
            batch_size = -(-self.samples // steps)
        self.batch_size = check_batch_size(batch_size)
        self.shuffle = check_shuffle(shuffle)
        self.steps = -(-self.samples // self.batch_size)
        self._buffers = {}

    @staticmethod
    def _parts(value):
        return value if type(value) is list else [value]

    def first(self):
        """x and y of the first samples, as many as in a batch."""

        def begin(array):
            return array[: self.batch_size]

        return each(begin, self.x), each(begin, self.y)

    def __iter__(self):
        arrays = [self.x, self.y, self.sample_weight]
        if not any(type(value) is list for value in arrays):
            yield from self._batches(arrays)
            return
        flat, ends = [], []
        for value in arrays:
            flat += self._parts(value)
            ends.append(len(flat))
        for parts in self._batches(flat):
            yield tuple(
                list(parts[begin:end]) if type(value) is list else parts[begin]
                for value, begin, end in zip(arrays, [0, *ends], ends, strict=False)
            )

    def _batches(self, arrays):
        size = self.batch_size
        if not self.shuffle or self.samples == 1:
            for start in range(0, self.samples, size):
                yield [None if a is None else a[start : start + size] for a in arrays]
            return
        if self.shuffle == "batch":
            order = np.arange(self.samples)
            for start in range(0, self.samples, size):
                random.generator().shuffle(order[start : start + size])
        else:
            order = random.generator().permutation(self.samples)
        for start in range(0, self.samples, size):
            places = order[start : start + size]
            yield [self._take(n, a, places) for n, a in enumerate(arrays)]

    def _take(self, n, array, places):
        if array is None:
            return None
        buffer = self._buffers.get(n)
        if buffer is None:
            shape = (min(self.batch_size, self.samples), *array.shape[1:])
            buffer = self._buffers[n] = np.empty(shape, array.dtype)
        # mode="clip" writes straight into out; the places are all in range
        return array.take(places, axis=0, out=buffer[: len(places)], mode="clip")


class IteratedBatches:
    """Batches from an iterable, or from an object with __len__ and __getitem__ such as a Keras
    Sequence or PyDataset. Each is x, (x, y) or (x, y, sample_weight). endless: the source is a
    generator, which goes on where it was and cannot start again."""

    def __init__(self, source, model, steps=None, shuffle=False):
        self.source, self.model, self.shuffle = source, model, check_shuffle(shuffle)
        self.indexed = hasattr(source, "__getitem__") and (
            hasattr(source, "__len__") or hasattr(source, "num_batches")
        )
        self.endless = hasattr(source, "__next__")
        self.steps = steps
        if steps is None and (self.indexed or hasattr(source, "__len__")):
            try:
                self.steps = self._length()
            except TypeError:  # a tf.data.Dataset or DataLoader of unknown length
                if self.indexed:
                    raise
            if self.steps is None and _is_infinite(source):
                raise ValueError(
                    "x: the dataset has no end; expected a number of steps (steps_per_epoch, "
                    "validation_steps or steps), or repeat(count)"
                )

    def __iter__(self):
        if hasattr(self.source, "on_epoch_begin"):
            self.source.on_epoch_begin()
        if self.indexed:
            length = self._length()
            places = itertools.count() if length is None else np.arange(length)
            if self.shuffle and length is not None:
                random.generator().shuffle(places)
            items = (self.source[int(place)] for place in places)
        else:
            items = iter(self.source)
        for item in items:
            yield self._arrays(item)
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()

    def _length(self):
        """How many batches there are: Keras 3's num_batches, None for no end, or __len__."""
        if hasattr(self.source, "__len__"):
            return len(self.source)
        return self.source.num_batches

    def _arrays(self, item):
        parts = item if isinstance(item, (tuple, list)) else (item,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(
                f"x: expected batches of x, (x, y) or (x, y, sample_weight), received {len(parts)} "
                "parts"
            )
        x, y, weight = (*parts, None, None)[:3]
        x = inputs_of(self.model, x)
        _build_for_targets(self.model, x, y)
        y, weight = targets_of(self.model, y), weights_of(self.model, weight)
        unbatched = hasattr(type(self.source), "element_spec")
        hint = "; the dataset's batch(size) makes batches" * unbatched
        check_samples(x, y, weight, " in a batch", hint)
        return x, y, weight


def _is_infinite(source):
    """Is it a tf.data.Dataset, of ours or TensorFlow's, without an end?"""
    return hasattr(source, "cardinality") and int(source.cardinality()) == -1


def batches(x, y, sample_weight, batch_size, shuffle, model, steps=None):
    """The right kind of batches for what a user passed as x to this model."""
    arrays = ("__array__", *_TO_DENSE)
    given = (list, tuple, dict, int, float, memoryview)
    if isinstance(x, given) or any(hasattr(x, name) for name in arrays):
        return ArrayBatches(x, y, sample_weight, batch_size, shuffle, model, steps)
    if isinstance(x, str) or not (hasattr(x, "__iter__") or hasattr(x, "__getitem__")):
        raise ValueError(f"x: expected an array or an iterable of batches, received {x!r}")
    if y is not None or sample_weight is not None:
        raise ValueError("y and sample_weight: expected None where x yields whole batches")
    return IteratedBatches(x, model, steps, shuffle)


def steps_of(source, samples):
    """How many batches of an iterable hold so many samples, if all are as large as the first; and
    the iterable, from which nothing is missing."""
    restarts = hasattr(source, "__getitem__") or not hasattr(source, "__next__")
    first = source[0] if hasattr(source, "__getitem__") else next(iter(source), None)
    if first is None:
        raise ValueError("generator: expected at least one batch, received none")
    x = single(first[0] if isinstance(first, (tuple, list)) else first, "x")
    return -(-samples // len(x)), source if restarts else itertools.chain([first], source)


def only_of(arrays):
    """The array of a list of one, else what is given."""
    one = isinstance(arrays, (list, tuple)) and len(arrays) == 1 and hasattr(arrays[0], "ndim")
    return arrays[0] if one and arrays[0].ndim > 0 else arrays


def single(array, name, of_text=False):
    """The one array of a list of one: Keras takes a list of inputs or outputs, we have one each."""
    array = only_of(array)
    if isinstance(array, dict):
        if len(array) != 1:
            raise ValueError(f"{name}: expected one array, received a dict of {len(array)}")
        array = next(iter(array.values()))
    for method in _TO_DENSE:
        if hasattr(array, method):
            raise ValueError(
                f"{name}: expected a dense array, received {type(array).__name__}; call its "
                f"{method}() first"
            )
    if hasattr(array, "iloc"):
        return _from_pandas(array, name, of_text)
    if hasattr(array, "detach"):  # PyTorch's; NumPy has no bfloat16
        array = array.detach().cpu()
        return (array.float() if array.is_floating_point() else array).numpy()
    return array


def _from_pandas(frame, name, of_text=False):
    """A frame as (samples, columns), a series as (samples, 1) as in Keras; weights as they are."""
    dtypes = frame.dtypes if frame.ndim == 2 else [frame.dtype]
    if of_text:
        array = frame.to_numpy(object)
        return array[:, None] if array.ndim == 1 else array
    if any(dtype.kind not in "biuf" for dtype in dtypes):
        raise ValueError(f"{name}: expected columns of numbers, received {[*map(str, dtypes)]}")
    array = frame.to_numpy()
    if array.dtype == object:  # pandas's own dtypes, which can lack values
        array = frame.to_numpy(np.float64, na_value=np.nan)
    return array[:, None] if array.ndim == 1 and name != "sample_weight" else array


def as_target(y):
    y = as_numbers(y, "y")
    return contiguous(y, np.float32 if y.dtype.kind in "bf" else np.int64)


def check_batch_size(batch_size):
    if batch_size is None:
        return 32
    if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
        raise ValueError(f"batch_size: expected a whole number >= 1, received {batch_size!r}")
    return int(batch_size)


def check_shuffle(shuffle):
    if shuffle is None or isinstance(shuffle, (bool, np.bool_)) or shuffle in (0, 1):
        return bool(shuffle)
    if shuffle == "batch":
        return shuffle
    raise ValueError(f"shuffle: expected True, False or 'batch', received {shuffle!r}")


def class_weights(y, class_weight, sample_weight, output_shape):
    """A weight for each sample (or time step): that of its class, times its own if it has one.
    y holds labels or, on a last axis as the outputs, 1 for the class."""
    if class_weight is None:
        return sample_weight
    if type(y) is list:
        raise ValueError(
            "class_weight: expected None for a model of several outputs; sample_weight takes a list"
        )
    if not isinstance(class_weight, dict) or not class_weight:
        raise ValueError(
            f"class_weight: expected a dict of class: weight, received {class_weight!r}"
        )
    for label, weight in class_weight.items():
        if not _is_number(label) or label != int(label) or not _is_number(weight):
            raise ValueError(
                "class_weight: expected whole numbers as classes and finite numbers as weights, "
                f"received {label!r}: {weight!r}"
            )
    y = np.asarray(y)
    labels = y
    if y.ndim > 1 and y.ndim >= len(output_shape):
        labels = y[..., 0] if y.shape[-1] == 1 else y.argmax(axis=-1)
    labels = np.rint(labels).astype(np.int64)
    weights = np.ones(labels.shape, np.float32)
    for label, weight in class_weight.items():
        weights[labels == int(label)] = weight
    if sample_weight is None:
        return weights
    extra = (1,) * (weights.ndim - sample_weight.ndim)
    return weights * sample_weight.reshape(sample_weight.shape + extra)


def _is_number(value):
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)
