"""Layers of several inputs that make one array of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from fastrnn import checks
from fastrnn.layers.base import Layer

if TYPE_CHECKING:
    from fastrnn._types import LayerOptions, Unpack


class Merge(Layer):
    """Base of the layers that compute each number from those at its place in all inputs, which are
    broadcast to one shape."""

    supports_masking = True
    takes_several = True

    def __init__(self, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)

    def check_input_shape(self, shapes):
        if not isinstance(shapes, list) or not shapes:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}): expected a list of inputs, received "
                "one"
            )
        self.compute_output_shape(shapes)

    def compute_output_shape(self, shapes):
        rank = max(map(len, shapes))
        shapes = [(shape[0], *(1,) * (rank - len(shape)), *shape[1:]) for shape in shapes]
        out = []
        for sizes in zip(*shapes, strict=True):
            known = {size for size in sizes if size not in (None, 1)}
            if len(known) > 1:
                raise ValueError(
                    f"layer {self.name!r} ({type(self).__name__}): expected inputs of shapes that "
                    f"broadcast, received {shapes}"
                )
            out.append(known.pop() if known else None if None in sizes else 1)
        return tuple(out)

    def compute_mask(self, inputs, mask=None):
        if mask is None or any(part is None for part in mask):
            return None
        return np.logical_or.reduce(mask)

    def _of_one_rank(self, arrays):
        rank = max(array.ndim for array in arrays)
        return [a.reshape(a.shape[0], *(1,) * (rank - a.ndim), *a.shape[1:]) for a in arrays]

    def _reduced(self, gradient, shape):
        """A gradient of the output's shape, in memory of its own, summed to an input's."""
        rank = (1,) * (gradient.ndim - len(shape))
        full = (shape[0], *rank, *shape[1:])
        axes = tuple(i for i, size in enumerate(full) if size == 1 and gradient.shape[i] != 1)
        return (gradient.sum(axis=axes) if axes else gradient.copy()).reshape(shape)


class Add(Merge):
    """The sum of the inputs. Source: https://keras.io/api/layers/merging_layers/add/"""

    def forward(self, x, run, mask=None):
        run.saved[self] = [part.shape for part in x]
        first, *others = self._of_one_rank(x)
        y = first.copy() if not others else first + others[0]
        for part in others[1:]:
            y = y + part
        return y

    def backward(self, dy, run, need_dx=True):
        return [self._reduced(dy, shape) for shape in run.saved[self]]


class Concatenate(Layer):
    """The inputs side by side along an axis (default the last).
    Source: https://keras.io/api/layers/merging_layers/concatenate/"""

    supports_masking = True
    takes_several = True

    def __init__(self, axis: SupportsIndex = -1, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.axis = checks.whole("axis", axis)

    def check_input_shape(self, shapes):
        if not isinstance(shapes, list) or not shapes:
            raise ValueError(
                f"layer {self.name!r} (Concatenate): expected a list of inputs, received one"
            )
        self.compute_output_shape(shapes)

    def compute_output_shape(self, shapes):
        out = list(shapes[0])
        axis = self.axis % len(out)
        for place, sizes in enumerate(zip(*shapes, strict=True)):
            if place == axis:
                out[place] = None if None in sizes else sum(sizes)
                continue
            known = {size for size in sizes if size is not None}
            if len(known) > 1:
                raise ValueError(
                    f"layer {self.name!r} (Concatenate): expected inputs that differ in axis "
                    f"{self.axis} alone, received shapes {shapes}"
                )
            out[place] = known.pop() if known else None
        return tuple(out)

    def compute_mask(self, inputs, mask=None):
        return None

    def forward(self, x, run, mask=None):
        run.saved[self] = [part.shape[self.axis] for part in x]
        return np.concatenate(x, axis=self.axis)

    def backward(self, dy, run, need_dx=True):
        ends = np.cumsum(run.saved[self])[:-1]
        return [np.ascontiguousarray(part) for part in np.split(dy, ends, axis=self.axis)]

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}
