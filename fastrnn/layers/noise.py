"""Gaussian noise in training: added, or multiplied (Srivastava et al. 2014, section 10)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from fastrnn import random
from fastrnn.layers.base import Layer, check_rate
from fastrnn.layers.legacy import old_spellings

if TYPE_CHECKING:
    from fastrnn._types import LayerOptions, NoiseOptions, Unpack


class _Noise(Layer):
    supports_masking = True
    _hidden_names = Layer._hidden_names | {"normal"}

    def __init__(self, seed: SupportsIndex | None = None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.seed = seed
        self._own_generator = None if seed is None else random.generator(seed)

    def normal(self, shape, deviation):
        generator = self._own_generator or random.generator()
        return generator.standard_normal(shape, np.float32) * np.float32(deviation)

    def plan(self, x, steps, run):
        return x


class GaussianNoise(_Noise):
    """In training adds noise of mean 0 and standard deviation `stddev`, a number from 0 to 1.

    seed: makes the layer's own stream.
    Source: https://keras.io/api/layers/regularization_layers/gaussian_noise/
    """

    @old_spellings(sigma="stddev")
    def __init__(
        self, stddev: float, seed: SupportsIndex | None = None, **kwargs: Unpack[NoiseOptions]
    ):
        super().__init__(seed, **kwargs)
        self.stddev = check_rate("stddev", stddev)

    def forward(self, x, run, mask=None):
        return x + self.normal(x.shape, self.stddev) if run.training and self.stddev else x

    def backward(self, dy, run, need_dx=True):
        return dy

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}


class GaussianDropout(_Noise):
    """In training multiplies by noise of mean 1 and variance rate / (1 - rate), 0 <= rate < 1.

    seed: makes the layer's own stream.
    Source: https://keras.io/api/layers/regularization_layers/gaussian_dropout/
    """

    @old_spellings(p="rate")
    def __init__(
        self, rate: float, seed: SupportsIndex | None = None, **kwargs: Unpack[NoiseOptions]
    ):
        super().__init__(seed, **kwargs)
        self.rate = check_rate("rate", rate)
        if self.rate == 1:
            raise ValueError("rate: expected a number below 1, received 1")

    def forward(self, x, run, mask=None):
        run.saved[self] = None
        if not run.training or not self.rate:
            return x
        noise = run.saved[self] = 1 + self.normal(x.shape, math.sqrt(self.rate / (1 - self.rate)))
        return x * noise

    def backward(self, dy, run, need_dx=True):
        noise = run.saved[self]
        return dy if noise is None else dy * noise

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
