"""Dropout: Srivastava et al. 2014."""

import numpy as np

from fastrnn import _engine, random
from fastrnn.layers.base import Layer, check_rate


class Dropout(Layer):
    """In training sets a share `rate` of the inputs to zero and scales the others by 1/(1 - rate).

    noise_shape: sizes, 1 where all places share one decision. seed: makes the layer's own stream.
    Source: https://keras.io/api/layers/regularization_layers/dropout/
    """

    supports_masking = True

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_rate("rate", rate)
        self.noise_shape, self.seed = noise_shape, seed
        self._seeds = None if seed is None else random.generator(seed)

    def _draw_seed(self):
        if self._seeds is None:
            return random.draw_seed()
        return int(self._seeds.integers(2**63))

    def forward(self, x, run, mask=None):
        if not run.training or self.rate == 0:
            run.saved[self] = None
            return x
        y = run.empty(self, "y", x.shape)
        if self.rate == 1:
            run.saved[self] = np.zeros(1, np.float32)
            y[...] = 0
        elif self.noise_shape is None:
            seed = run.saved[self] = self._draw_seed()
            _engine.dropout(y, x, self.rate, seed)
        else:
            shape = tuple(
                size if noise is None else noise
                for size, noise in zip(x.shape, self.noise_shape, strict=True)
            )
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
