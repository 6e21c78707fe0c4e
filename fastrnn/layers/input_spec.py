"""What a layer of the user's own says about the arrays that it takes (keras.layers.InputSpec)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.layers.base import check_shape
from fastrnn.utils import Configurable


class InputSpec(Configurable):
    """shape, with None for any size, or ndim, min_ndim and max_ndim, its number of axes; axes: the
    size of some of them; allow_last_axis_squeeze: a last axis of 1 may be missing.

    A layer that has one, or a list of them, as `self.input_spec` raises ValueError for others.
    """

    _options = (
        "dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes", "allow_last_axis_squeeze", "name",
        "optional",
    )  # fmt: skip

    def __init__(
        self,
        dtype: Any = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: Mapping[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ):
        self.dtype, self.name = _dtype(dtype), checks.text("name", name)
        self.shape = None if shape is None else check_shape("shape", shape)
        self.ndim = checks.count("ndim", ndim, 0) if self.shape is None else len(self.shape)
        self.max_ndim = checks.count("max_ndim", max_ndim, 0)
        self.min_ndim = checks.count("min_ndim", min_ndim, 0)
        self.allow_last_axis_squeeze = checks.flag(
            "allow_last_axis_squeeze", allow_last_axis_squeeze
        )
        self.optional = checks.flag("optional", optional)
        try:
            self.axes = {int(axis): size for axis, size in ({} if axes is None else axes).items()}
        except (AttributeError, TypeError, ValueError) as error:  # as in Keras
            raise TypeError(f"axes: expected a dict of whole numbers, received {axes!r}") from error

    def __repr__(self):
        said = {name: getattr(self, name) for name in self._options}
        shown = ", ".join(f"{name}={value!r}" for name, value in said.items() if value)
        return f"InputSpec({shown})"

    def refusal(self, shape) -> str:
        """What is expected instead of this shape, or nothing."""
        rank = len(shape)
        if self.ndim is not None and rank != self.ndim and not self.allow_last_axis_squeeze:
            return f"{self.ndim} axes"
        if self.max_ndim is not None and rank > self.max_ndim:
            return f"at most {self.max_ndim} axes"
        if self.min_ndim is not None and rank < self.min_ndim:
            return f"at least {self.min_ndim} axes"
        for axis, size in self.axes.items():
            if size is not None and shape[axis] not in (size, None):
                return f"size {size} of axis {axis}"
        expected = self.shape or ()
        if self.allow_last_axis_squeeze:
            shape, expected = _squeezed(shape), _squeezed(expected)
        pairs = zip(expected, shape, strict=False)
        if any(None not in pair and pair[0] != pair[1] for pair in pairs):
            return f"shape {self.shape}"
        return ""


def _dtype(dtype):
    if dtype is None:
        return None
    try:
        if isinstance(dtype, (str, type, np.dtype)):
            return np.dtype(dtype).name
    except TypeError:
        pass
    raise ValueError(f"dtype: expected the name of a type, received {dtype!r}")


def _squeezed(shape):
    return shape[:-1] if shape and shape[-1] == 1 else shape


def check_inputs(layer, given, shapes) -> None:
    """Raise ValueError unless shapes, of the tensors of a call's first argument, are those that the
    layer's input_spec says. given: that argument."""
    specs = layer.input_spec
    if isinstance(specs, InputSpec):
        specs = [specs]
    elif isinstance(specs, Mapping):
        specs = [specs[key] for key in (given if isinstance(given, Mapping) else sorted(specs))]
    what = f"layer {layer.name!r} ({type(layer).__name__}), by its input_spec"
    if len(specs) != len(shapes):
        raise ValueError(f"{what}: expected {len(specs)} inputs, received {len(shapes)}")
    for place, (spec, shape) in enumerate(zip(specs, shapes, strict=True)):
        refusal = "" if spec is None else spec.refusal(tuple(shape))
        if refusal:
            which = f"input {place}: " if len(specs) > 1 else ""
            raise ValueError(f"{what}: {which}expected {refusal}, received shape {tuple(shape)}")
