"""Layers of several inputs that make one array of them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from fastrnn import checks
from fastrnn.layers.base import Layer, check_flag

if TYPE_CHECKING:
    from fastrnn._types import LayerOptions, Unpack

_GREATEST = np.float32(1e7)  # what Dot multiplies by to normalise, at most


class Merge(Layer):
    """Base of the layers of this file, and of those that compute each number from those at its
    place in all inputs. These are broadcast to one shape; the axes that one of a lower rank lacks
    follow the batch.

    A step is masked if it is in all inputs."""

    supports_masking = True
    takes_several = True
    _number: int | None = None  # of inputs, if it is fixed
    _neutral: float | None = None  # what a masked step of an input counts as, if not as it is

    def __init__(self, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)

    def check_input_shape(self, shapes):
        if not isinstance(shapes, list):
            self._reject(f"expected a list of {self._number or ''} inputs", f"one, of {shapes}")
        if not shapes or len(shapes) != (self._number or len(shapes)):
            number = f"{self._number} inputs" if self._number else "at least one input"
            self._reject(f"expected {number}", len(shapes))
        batches = {shape[:1] for shape in shapes}
        if () in batches or len(batches - {(None,)}) > 1:
            self._reject("expected inputs with batches of one size", f"shapes {shapes}")
        self.check_shapes(shapes)

    def check_shapes(self, shapes):
        """Raise ValueError where these shapes, batch included, do not fit each other."""
        for sizes in zip(*_of_one_rank(shapes), strict=True):
            if len(set(sizes) - {None, 1}) > 1:
                self._reject("expected inputs of shapes that broadcast", f"shapes {shapes}")

    def _reject(self, expected, received):
        raise ValueError(
            f"layer {self.name!r} ({type(self).__name__}): {' '.join(expected.split())}, received "
            f"{received}"
        )

    def compute_output_shape(self, shapes):
        self.check_input_shape(shapes)
        if all(shape == shapes[0] for shape in shapes):
            return tuple(shapes[0])
        batches, *axes = zip(*_of_one_rank(shapes), strict=True)
        known = [batch for batch in batches if batch is not None]
        # As in Keras, a size is not known where it is not in one of the inputs.
        return (known[0] if known else None, *(None if None in a else max(a) for a in axes))

    def compute_mask(self, inputs, mask=None):
        if mask is None:
            return None
        masks = self._check_masks(inputs, mask)
        if any(one is None for one in masks):
            return None
        return functools.reduce(np.logical_or, _masks_of_one_rank(inputs, masks))

    def _check_masks(self, inputs, masks):
        if not isinstance(masks, (list, tuple)) or len(masks) != len(inputs):
            what = len(masks) if isinstance(masks, (list, tuple)) else type(masks).__name__
            self._reject(f"expected a list of {len(inputs)} masks, None where there is none", what)
        return masks

    def merge(self, xs, y):
        """Write into y what comes of arrays of its rank."""
        raise NotImplementedError

    def gradients(self, dy, xs, y, shapes, run):
        """Those of the inputs, of these shapes; may overwrite dy, and give it back for one."""
        raise NotImplementedError

    def forward(self, x, run, mask=None):
        given, nowhere = x, None
        if self._neutral is None or mask is None:
            mask = [None] * len(x)
        else:
            nowhere = _nowhere(x, mask)
            x = [self._filled(i, x[i], mask[i], run) for i in range(len(x))]
        xs, shape = self._arranged(x)
        y = run.empty(self, "y", shape)
        self.merge(xs, y)
        if nowhere is not None:
            nowhere = np.broadcast_to(nowhere, shape[: nowhere.ndim])
            y[nowhere] = self._masked_in_all(given, shape, nowhere)
        run.saved[self] = [part.shape for part in x], xs, y, mask, nowhere
        return y

    def _filled(self, place, x, mask, run):
        if mask is None:
            return x
        filled = run.empty(self, f"x {place}", x.shape)
        filled[...] = x
        filled[~mask] = self._neutral
        return filled

    def _masked_in_all(self, x, shape, nowhere):
        """The outputs where all inputs are masked."""
        return 0

    def _arranged(self, x):
        """Arrays of one rank, and the shape to which they broadcast."""
        shapes = [part.shape for part in x]
        if all(shape == shapes[0] for shape in shapes):
            return x, shapes[0]
        shapes = _of_one_rank(shapes)
        xs = [part.reshape(shape) for part, shape in zip(x, shapes, strict=True)]
        return xs, tuple(map(max, zip(*shapes, strict=True)))

    def backward(self, dy, run, need_dx=True):
        shapes, xs, y, masks, nowhere = run.saved[self]
        rest = None
        if nowhere is not None:
            rest = dy[nowhere]
            dy[nowhere] = 0
        found = self.gradients(dy, xs, y, shapes, run)
        for dx, mask in zip(found, masks, strict=True):
            if mask is not None:
                dx[~mask] = 0
        if rest is not None:
            self._add_masked_in_all(found, rest, nowhere, y.shape)
        return found

    def _add_masked_in_all(self, found, rest, nowhere, shape):
        """Add to the inputs' gradients those of the outputs where all are masked."""

    def plan(self, x, steps, run):
        xs, shape = self._arranged(x)
        y = run.rooms.new(shape)
        steps.append(functools.partial(self.merge, xs, y))
        return y

    def _sent_on(self, dy, shapes, run):
        """dy for each input, summed over the axes in which that was broadcast."""
        found, given = [], False
        for place, shape in enumerate(shapes):
            if math.prod(shape) < dy.size:
                found.append(_summed(dy, shape))
            elif given:
                found.append(run.empty(self, f"dx {place}", shape))
                found[-1][...] = dy.reshape(shape)
            else:
                found.append(dy.reshape(shape))
                given = True
        return found


def _of_one_rank(shapes):
    rank = max(map(len, shapes))
    return [(shape[0], *(1,) * (rank - len(shape)), *shape[1:]) for shape in shapes]


def _masks_of_one_rank(inputs, masks):
    """Masks of the first axes of inputs, brought to one rank as these are."""
    rank = max(part.ndim for part in inputs)
    masks = [
        m.reshape(m.shape[0], *(1,) * (rank - part.ndim), *m.shape[1:])
        for part, m in zip(inputs, masks, strict=True)
    ]
    rank = max(m.ndim for m in masks)
    return [m.reshape(*m.shape, *(1,) * (rank - m.ndim)) for m in masks]


def _nowhere(inputs, masks):
    """Where all inputs are masked, if that is anywhere."""
    if any(mask is None for mask in masks):
        return None
    nowhere = ~functools.reduce(np.logical_or, _masks_of_one_rank(inputs, masks))
    return nowhere if nowhere.any() else None


def _fitted(gradient, shape):
    """A gradient of its own memory, as one of an input of this shape."""
    if gradient.size == math.prod(shape):
        return gradient.reshape(shape)
    return _summed(gradient, shape)


def _summed(gradient, shape):
    """A gradient summed over the axes in which an input of this shape was broadcast."""
    full = (shape[0], *(1,) * (gradient.ndim - len(shape)), *shape[1:])
    axes = tuple(i for i, size in enumerate(full) if size < gradient.shape[i])
    return gradient.sum(axis=axes).reshape(shape)


def _fold(function, xs, y):
    """function(function(xs[0], xs[1]), xs[2]) ... into y."""
    if len(xs) == 1:
        y[...] = xs[0]
        return
    function(xs[0], xs[1], out=y)
    for x in xs[2:]:
        function(y, x, out=y)


class Add(Merge):
    """The sum of the inputs. Source: https://keras.io/api/layers/merging_layers/add/"""

    def merge(self, xs, y):
        _fold(np.add, xs, y)

    def gradients(self, dy, xs, y, shapes, run):
        return self._sent_on(dy, shapes, run)


class Subtract(Merge):
    """The first of two inputs less the second.
    Source: https://keras.io/api/layers/merging_layers/subtract/"""

    _number = 2

    def merge(self, xs, y):
        np.subtract(*xs, out=y)

    def gradients(self, dy, xs, y, shapes, run):
        left, right = self._sent_on(dy, shapes, run)
        return [left, np.negative(right, out=right)]


class Average(Merge):
    """The mean of the inputs. Source: https://keras.io/api/layers/merging_layers/average/"""

    def merge(self, xs, y):
        _fold(np.add, xs, y)
        y /= np.float32(len(xs))

    def gradients(self, dy, xs, y, shapes, run):
        dy /= np.float32(len(shapes))
        return self._sent_on(dy, shapes, run)


class Multiply(Merge):
    """The product of the inputs. A masked step of one counts as ones; where all are masked, the
    product is 0. Source: https://keras.io/api/layers/merging_layers/multiply/"""

    _neutral = 1.0

    def merge(self, xs, y):
        _fold(np.multiply, xs, y)

    def gradients(self, dy, xs, y, shapes, run):
        found = []
        for place, shape in enumerate(shapes):
            last = place == len(xs) - 1
            dx = dy if last else run.empty(self, f"dx {place}", dy.shape)
            _fold(np.multiply, [dy, *xs[:place], *xs[place + 1 :]], dx)
            found.append(_fitted(dx, shape))
        return found


class _Extreme(Merge):
    """Base of Maximum and Minimum. A masked step of an input does not count; where all are masked,
    the first does. The gradient goes to the first of equal values."""

    _function: Any

    def merge(self, xs, y):
        _fold(self._function, xs, y)

    def gradients(self, dy, xs, y, shapes, run):
        found = []
        for place, shape in enumerate(shapes):
            dx = dy
            if place < len(xs) - 1:
                dx = run.empty(self, f"dx {place}", dy.shape)
                np.multiply(dy, xs[place] == y, out=dx)
                dy -= dx
            found.append(_fitted(dx, shape))
        return found

    def _masked_in_all(self, x, shape, nowhere):
        first, *_ = self._arranged(x)[0]
        return np.broadcast_to(first, shape)[nowhere]

    def _add_masked_in_all(self, found, rest, nowhere, shape):
        if found[0].shape == shape:
            found[0][nowhere] = rest
            return
        gradient = np.zeros(shape, np.float32)
        gradient[nowhere] = rest
        found[0] += _fitted(gradient, found[0].shape)


class Maximum(_Extreme):
    """The largest of the inputs, of those that are not masked at a step.
    Source: https://keras.io/api/layers/merging_layers/maximum/"""

    _function, _neutral = np.maximum, -np.inf


class Minimum(_Extreme):
    """The smallest of the inputs, of those that are not masked at a step.
    Source: https://keras.io/api/layers/merging_layers/minimum/"""

    _function, _neutral = np.minimum, np.inf


class Concatenate(Merge):
    """The inputs side by side along an axis (default the last).

    A mask is that of the inputs side by side too; along the features, a step is masked if it is in
    all inputs. Source: https://keras.io/api/layers/merging_layers/concatenate/"""

    def __init__(self, axis: SupportsIndex = -1, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.axis = checks.whole("axis", axis)

    def check_input_shape(self, shapes):
        if self.axis == 0 and isinstance(shapes, list):  # batches may differ
            shapes = [(None, *shape[1:]) for shape in shapes]
        super().check_input_shape(shapes)

    def check_shapes(self, shapes):
        rank = len(shapes[0])
        if not -rank <= self.axis < rank:
            self._reject(f"expected inputs with an axis {self.axis}", f"shapes {shapes}")
        axis = self.axis % rank
        fits = all(len(shape) == rank for shape in shapes) and all(
            place == axis or len(set(sizes) - {None}) <= 1
            for place, sizes in enumerate(zip(*shapes, strict=True))
        )
        if not fits:
            self._reject(
                f"expected inputs that differ in axis {self.axis} alone", f"shapes {shapes}"
            )

    def compute_output_shape(self, shapes):
        self.check_input_shape(shapes)
        return self._shape(shapes)

    def compute_mask(self, inputs, mask=None):
        if mask is None:
            return None
        masks = self._check_masks(inputs, mask)
        if all(one is None for one in masks):
            return None
        axis = self.axis % inputs[0].ndim
        rank = max(one.ndim for one in masks if one is not None)
        masks = [
            np.ones(x.shape[:rank], bool) if one is None else one
            for x, one in zip(inputs, masks, strict=True)
        ]
        if axis >= rank:  # an axis that masks do not have
            return functools.reduce(np.logical_or, masks)
        return np.concatenate(masks, axis=axis)

    def forward(self, x, run, mask=None):
        shapes = [part.shape for part in x]
        run.saved[self] = shapes
        y = run.empty(self, "y", self._shape(shapes))
        return np.concatenate(x, axis=self.axis, out=y)

    def _shape(self, shapes):
        out, sizes = list(shapes[0]), [shape[self.axis] for shape in shapes]
        out[self.axis] = None if None in sizes else sum(sizes)
        return tuple(out)

    def backward(self, dy, run, need_dx=True):
        found, start = [], 0
        axis = self.axis % dy.ndim
        for place, shape in enumerate(run.saved[self]):
            found.append(run.empty(self, f"dx {place}", shape))
            end = start + shape[axis]
            found[-1][...] = dy[(slice(None),) * axis + (slice(start, end),)]
            start = end
        return found

    def plan(self, x, steps, run):
        y = run.rooms.new(self._shape([part.shape for part in x]))
        steps.append(functools.partial(np.concatenate, x, axis=self.axis, out=y))
        return y

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}


class Dot(Merge):
    """Sums of products of two inputs along an axis of each: of shapes (batch, *a, n) and (batch, n,
    *b), with axes=(-1, 1), it makes (batch, *a, *b), and (batch, 1) where that is (batch,).

    axes: a number for both inputs, or one for each; not the batch. normalize: first divide each
    vector along these axes by its L2 norm, if that is at least 1e-7. Drops a mask.
    Source: https://keras.io/api/layers/merging_layers/dot/"""

    _number = 2

    def __init__(
        self,
        axes: SupportsIndex | Sequence[SupportsIndex],
        normalize: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        several = isinstance(axes, (list, tuple))
        numbers = axes if several else [axes]
        if len(numbers) != 1 + several or not all(hasattr(n, "__index__") for n in numbers):
            raise (ValueError if several else TypeError)(
                f"axes: expected a whole number or two of them, received {axes!r}"
            )
        numbers = [*map(operator.index, numbers)]
        self.axes = type(axes)(numbers) if several else numbers[0]
        self.normalize = check_flag("normalize", normalize)

    def check_shapes(self, shapes):
        for shape, axis in zip(shapes, self.both_axes, strict=True):
            if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
                self._reject(f"expected inputs with an axis {axis} beside the batch", shapes)
        sizes = {shape[axis] for shape, axis in zip(shapes, self.both_axes, strict=True)}
        if len(sizes - {None}) > 1:
            self._reject(
                f"expected inputs of the same sizes in axes {self.both_axes}", f"shapes {shapes}"
            )

    @property
    def both_axes(self):
        """The axis of each input that is summed over."""
        return (self.axes, self.axes) if isinstance(self.axes, int) else tuple(self.axes)

    def compute_output_shape(self, shapes):
        self.check_input_shape(shapes)
        return self._shape(shapes)

    def _shape(self, shapes):
        rests = [_without(shape, axis) for shape, axis in zip(shapes, self.both_axes, strict=True)]
        return (shapes[0][0], *(rests[0] + rests[1] or (1,)))

    def compute_mask(self, inputs, mask=None):
        return None

    def forward(self, x, run, mask=None):
        axes = [axis % part.ndim for part, axis in zip(x, self.both_axes, strict=True)]
        shapes = [part.shape for part in x]
        inverses = None
        if self.normalize:
            inverses = [*map(_inverse_norms, x, axes)]
            x = [
                np.multiply(part, inverse, out=run.empty(self, f"x {place}", part.shape))
                for place, (part, inverse) in enumerate(zip(x, inverses, strict=True))
            ]
        left, right = map(_matrices, x, axes)
        y = run.empty(self, "y", (*left.shape[:2], right.shape[1]))
        np.matmul(left, right.swapaxes(1, 2), out=y)
        run.saved[self] = x, axes, inverses, left, right
        return y.reshape(self._shape(shapes))

    def backward(self, dy, run, need_dx=True):
        x, axes, inverses, left, right = run.saved[self]
        dy = dy.reshape(*left.shape[:2], right.shape[1])
        found = []
        for place, (factor, other) in enumerate(((dy, right), (dy.swapaxes(1, 2), left))):
            axis, shape = axes[place], x[place].shape
            dx = run.empty(self, f"dx {place}", shape)
            matrices = _matrices(dx, axis)  # a view, unless the axis is one in the middle
            (np.multiply if factor.shape[2] == 1 else np.matmul)(factor, other, out=matrices)
            if 1 < axis < dx.ndim - 1:
                moved = np.moveaxis(dx, axis, -1)
                moved[...] = matrices.reshape(moved.shape)
            if inverses is not None:
                along = (dx * x[place]).sum(axis=axis, keepdims=True)
                along *= inverses[place] < _GREATEST
                dx -= x[place] * along
                dx *= inverses[place]
            found.append(dx)
        return found

    plan = Layer.plan

    def get_config(self):
        return {**super().get_config(), "axes": self.axes, "normalize": self.normalize}


def _without(shape, axis):
    """A shape without the batch and this axis."""
    return tuple(size for i, size in enumerate(shape) if i not in (0, axis % len(shape)))


def _matrices(array, axis):
    """A contiguous array as (batch, all else, the axis): a view if it is the first or the last."""
    batch, size = array.shape[0], array.shape[axis]
    if axis == 1:
        return array.reshape(batch, size, -1).swapaxes(1, 2)
    return np.moveaxis(array, axis, -1).reshape(batch, -1, size)


def _inverse_norms(x, axis):
    with np.errstate(divide="ignore"):
        inverse = 1 / np.sqrt(np.square(x).sum(axis=axis, keepdims=True))
    return np.minimum(inverse, _GREATEST, out=inverse)


def add(inputs: Sequence[Any], **kwargs: Unpack[LayerOptions]) -> Any:
    """Add(...)(inputs)"""
    return Add(**kwargs)(inputs)


def subtract(inputs: Sequence[Any], **kwargs: Unpack[LayerOptions]) -> Any:
    """Subtract(...)(inputs)"""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Sequence[Any], **kwargs: Unpack[LayerOptions]) -> Any:
    """Multiply(...)(inputs)"""
    return Multiply(**kwargs)(inputs)


def average(inputs: Sequence[Any], **kwargs: Unpack[LayerOptions]) -> Any:
    """Average(...)(inputs)"""
    return Average(**kwargs)(inputs)


def maximum(inputs: Sequence[Any], **kwargs: Unpack[LayerOptions]) -> Any:
    """Maximum(...)(inputs)"""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Sequence[Any], **kwargs: Unpack[LayerOptions]) -> Any:
    """Minimum(...)(inputs)"""
    return Minimum(**kwargs)(inputs)


def concatenate(
    inputs: Sequence[Any], axis: SupportsIndex = -1, **kwargs: Unpack[LayerOptions]
) -> Any:
    """Concatenate(axis, ...)(inputs)"""
    return Concatenate(axis, **kwargs)(inputs)


def dot(
    inputs: Sequence[Any],
    axes: SupportsIndex | Sequence[SupportsIndex] = -1,
    normalize: bool = False,
    **kwargs: Unpack[LayerOptions],
) -> Any:
    """Dot(axes, normalize, ...)(inputs)"""
    return Dot(axes, normalize, **kwargs)(inputs)


_MODES = {
    "sum": Add, "mul": Multiply, "ave": Average, "max": Maximum, "concat": Concatenate, "dot": Dot,
}  # fmt: skip


def merge(
    inputs: Sequence[Any],
    mode: str = "sum",
    concat_axis: SupportsIndex = -1,
    dot_axes: SupportsIndex | Sequence[SupportsIndex] = -1,
    name: str | None = None,
) -> Any:
    """Keras 1's spelling of these layers. mode: "sum", "mul", "ave", "max", "concat" or "dot"."""
    if not isinstance(mode, str) or mode not in _MODES:
        hint = "; Dot(axes, normalize=True) is the cosine" if mode == "cos" else ""
        raise ValueError(f"mode: expected one of {[*_MODES]}, received {mode!r}{hint}")
    options = {"concat": (concat_axis,), "dot": (dot_axes,)}.get(mode, ())
    return _MODES[mode](*options, name=name)(inputs)
