"""Layers that scale their inputs by numbers that are given, not trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.checks import number
from fastrnn.layers.base import Layer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn._types import LayerOptions, Unpack


def check_numbers(name, value) -> np.ndarray:
    """A number, or several in any number of axes, as float32; raise unless all are finite."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        return np.array(number(name, value), np.float32)
    try:
        array = np.asarray(value)
        finite = array.dtype.kind in "iuf" and np.isfinite(array.astype(np.float32)).all()
    except ValueError:
        finite = False  # lists of different lengths
    if not finite or not array.size:
        raise ValueError(f"{name}: expected finite numbers, received {value!r}")
    return array.astype(np.float32)


def written(value):
    """A number, a list or an array as Keras writes it into a config."""
    if isinstance(value, np.ndarray):
        config = {"value": value.tolist(), "dtype": value.dtype.name}
        return {"class_name": "__numpy__", "config": config}
    if isinstance(value, (list, tuple)):
        return type(value)(map(written, value))
    return value.item() if isinstance(value, np.generic) else value


def read(value):
    """The inverse of `written`; anything else as it is."""
    if isinstance(value, Mapping) and value.get("class_name") == "__numpy__":
        return np.array(value["config"]["value"], np.dtype(str(value["config"]["dtype"])))
    return value


class Rescaling(Layer):
    """x * scale + offset, in training and in inference.

    scale, offset: numbers, or arrays of them that fit the inputs' last axes. Passes a mask on.
    Source: https://keras.io/api/layers/preprocessing_layers/image_preprocessing/rescaling/
    """

    supports_masking = True
    _hidden_names = Layer._hidden_names | {"scale_and_offset"}

    def __init__(self, scale: ArrayLike, offset: ArrayLike = 0.0, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.scale, self.offset = read(scale), read(offset)
        self._scale = check_numbers("scale", self.scale)
        self._offset = check_numbers("offset", self.offset)
        try:
            self._shape = np.broadcast_shapes(self._scale.shape, self._offset.shape)
        except ValueError:
            raise ValueError(
                f"scale, offset: expected shapes that fit, received {self._scale.shape} and "
                f"{self._offset.shape}"
            ) from None

    @property
    def fixed_axes(self):
        return [n - len(self._shape) for n, size in enumerate(self._shape) if size > 1]

    def check_input_shape(self, shape):
        last = shape[max(1, len(shape) - len(self._shape)) :]
        if len(last) < len(self._shape) or any(
            size not in (1, given) and given is not None
            for size, given in zip(self._shape, last, strict=True)
        ):
            self.reject_shape(f"whose last axes fit scale and offset, {self._shape}", shape)

    def scale_and_offset(self):
        """What each of the last axis is multiplied by, and what is then added, if that is all."""
        if np.prod(self._shape[:-1]) != 1:
            return None
        size = self.input_shape[-1:]
        return tuple(np.broadcast_to(a.ravel(), size) for a in (self._scale, self._offset))

    def forward(self, x, run, mask=None):
        y = run.empty(self, "y", x.shape)
        np.multiply(x, self._scale, out=y)
        y += self._offset
        return y

    def backward(self, dy, run, need_dx=True):
        return dy * self._scale if need_dx else None

    def get_config(self):
        config = super().get_config()
        return {**config, "scale": written(self.scale), "offset": written(self.offset)}
