"""Dropout: Srivastava et al. 2014; of whole channels: Tompson et al. 2015."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from fastrnn import _engine, random
from fastrnn.layers.base import Layer, check_rate, check_shape
from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.spatial import check_data_format, data_format_of

if TYPE_CHECKING:
    from fastrnn._types import DataFormat, NoiseOptions, SpatialNoiseOptions, Unpack


class Dropout(Layer):
    """In training sets a share `rate` of the inputs to zero and scales the others by 1/(1 - rate).

    noise_shape: sizes, 1 where all places share one decision. seed: makes the layer's own stream.
    Source: https://keras.io/api/layers/regularization_layers/dropout/
    """

    supports_masking = True

    @old_spellings(p="rate")
    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[SupportsIndex | None] | None = None,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[NoiseOptions],
    ):
        super().__init__(**kwargs)
        self.rate = check_rate("rate", rate)
        self.noise_shape = None if noise_shape is None else check_shape("noise_shape", noise_shape)
        self.seed = seed
        self._seeds = None if seed is None else random.generator(seed)

    def check_input_shape(self, shape):
        if self.noise_shape is not None and len(self.noise_shape) != len(shape):
            self.reject_shape(f"that fits noise_shape {self.noise_shape}", shape)

    def _noise_shape(self, shape):
        """The shape of the decisions for inputs of `shape`; None for one each."""
        if self.noise_shape is None:
            return None
        sizes = zip(self.noise_shape, shape, strict=True)
        return tuple(size if noise is None else noise for noise, size in sizes)

    def _draw_seed(self):
        if self._seeds is None:
            return random.draw_seed()
        return int(self._seeds.integers(2**63))

    def forward(self, x, run, mask=None):
        if not run.training or self.rate == 0:
            run.saved[self] = None
            return x
        y = run.empty(self, "y", x.shape)
        shape = self._noise_shape(x.shape)
        if self.rate == 1:
            run.saved[self] = np.zeros(1, np.float32)
            y[...] = 0
        elif shape is None:
            seed = run.saved[self] = self._draw_seed()
            _engine.dropout(y, x, self.rate, seed)
        else:
            noise = np.ones(shape, np.float32)
            _engine.dropout(noise, noise, self.rate, self._draw_seed())
            run.saved[self] = noise
            np.multiply(x, noise, out=y)
        return y

    def backward(self, dy, run, need_dx=True):
        saved = run.saved[self]
        if isinstance(saved, int):
            _engine.dropout(dy, dy, self.rate, saved)
        elif saved is not None:
            dy = dy * saved
        return dy

    def plan(self, x, steps, run):
        return x

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "seed": self.seed,
            "noise_shape": self.noise_shape,
        }


class SpatialDropout1D(Dropout):
    """Dropout of whole channels of (batch, timesteps, channels): one decision for all time steps.

    Source: https://keras.io/api/layers/regularization_layers/spatial_dropout1d/
    """

    @old_spellings(p="rate")
    def __init__(
        self, rate: float, seed: SupportsIndex | None = None, **kwargs: Unpack[NoiseOptions]
    ):
        super().__init__(rate, seed=seed, **kwargs)

    def check_input_shape(self, shape):
        if len(shape) != 3:
            self.reject_shape("(batch, timesteps, channels)", shape)

    def _noise_shape(self, shape):
        return (shape[0], 1, shape[2])

    def get_config(self):
        config = super().get_config()
        return {name: config[name] for name in ("name", "dtype", "rate", "seed")}


class SpatialDropout2D(Dropout):
    """Dropout of whole channels of (batch, height, width, channels): one decision for all pixels.

    data_format "channels_first" puts the channels before the height.
    Source: https://keras.io/api/layers/regularization_layers/spatial_dropout2d/
    """

    @old_spellings(p="rate")
    def __init__(
        self,
        rate: float,
        data_format: DataFormat = None,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[SpatialNoiseOptions],
    ):
        self.data_format = check_data_format(data_format_of(data_format, kwargs))
        super().__init__(rate, seed=seed, **kwargs)

    def check_input_shape(self, shape):
        if len(shape) != 4:
            last = self.data_format == "channels_last"
            axes = "height, width, channels" if last else "channels, height, width"
            self.reject_shape(f"(batch, {axes})", shape)

    def _noise_shape(self, shape):
        if self.data_format == "channels_last":
            return (shape[0], 1, 1, shape[3])
        return (*shape[:2], 1, 1)

    def get_config(self):
        config = super().get_config()
        kept = {name: config[name] for name in ("name", "dtype", "rate", "seed")}
        return {**kept, "data_format": self.data_format}
