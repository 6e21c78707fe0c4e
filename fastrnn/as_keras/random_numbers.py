"""keras.random: arrays of random numbers.

seed: None for the one stream of fastrnn.random, a whole number, which gives the same array each
time, or a SeedGenerator. The numbers are NumPy's, not those that Keras draws."""

import numpy as np

from fastrnn import ops, random
from fastrnn.arrays import as_array
from fastrnn.layers.symbolic import is_symbolic
from fastrnn.tape import of, value_of

__all__ = [
    "SeedGenerator", "beta", "binomial", "categorical", "dropout", "gamma", "normal", "randint",
    "shuffle", "truncated_normal", "uniform",
]  # fmt: skip


class SeedGenerator:
    """Seeds, one after the other, that begin with `seed`, or with one drawn. `next()` gives one."""

    def __init__(self, seed=None, name=None, **kwargs):
        self.name = name or "seed_generator"
        self.seed = random.draw_seed() % 2**31 if seed is None else random.check_seed(seed)
        self._generator = random.generator(self.seed)

    def next(self, ordered=True):
        """A pair of whole numbers."""
        return as_array(self._generator.integers(2**31, size=2).astype(np.int32))

    def get_config(self):
        return {"seed": self.seed}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def drawn_by(seed) -> np.random.Generator:
    """The generator of a seed."""
    if isinstance(seed, SeedGenerator):
        return seed._generator
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, (list, tuple, np.ndarray)):  # a pair, as next() gives
        return np.random.default_rng([int(part) for part in np.ravel(seed)])
    return random.generator(None if seed is None else int(seed))


def sizes(shape) -> tuple:
    """A shape of whole numbers, of a list, an array or a tensor."""
    if is_symbolic(shape) or (isinstance(shape, (list, tuple)) and None in [*shape]):
        raise ValueError(
            "shape: expected whole numbers, received that of the output of a layer, whose batch is "
            "free; put it into the `call` of a layer of your own"
        )
    return tuple(int(value_of(size)) for size in np.atleast_1d(value_of(shape)).tolist())


def _as(numbers, dtype):
    return as_array(np.asarray(numbers).astype(np.dtype(dtype or "float32")))


def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    return _as(drawn_by(seed).normal(value_of(mean), value_of(stddev), sizes(shape)), dtype)


def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    return _as(drawn_by(seed).uniform(value_of(minval), value_of(maxval), sizes(shape)), dtype)


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normal numbers no further than two standard deviations from the mean."""
    generator, shape = drawn_by(seed), sizes(shape)
    numbers = generator.normal(size=shape)
    while (beyond := np.abs(numbers) > 2).any():
        numbers = np.where(beyond, generator.normal(size=shape), numbers)
    return _as(numbers * value_of(stddev) + value_of(mean), dtype)


def randint(shape, minval, maxval, dtype="int32", seed=None):
    """Whole numbers from minval to less than maxval."""
    numbers = drawn_by(seed).integers(value_of(minval), value_of(maxval), sizes(shape))
    return _as(numbers, dtype)


def categorical(logits, num_samples, dtype="int32", seed=None):
    """For each row of logits so many class numbers."""
    logits = np.asarray(value_of(of(logits)), np.float64)
    if logits.ndim != 2:
        raise ValueError(f"logits: expected shape (batch, classes), received {logits.shape}")
    noise = drawn_by(seed).gumbel(size=(len(logits), int(num_samples), logits.shape[1]))
    return _as(np.argmax(logits[:, None] + noise, -1), dtype)


def shuffle(x, axis=0, seed=None):
    """x with its parts along axis in another order."""
    order = drawn_by(seed).permutation(np.shape(value_of(of(x)))[axis])
    return ops.take(x, order, axis)


def dropout(inputs, rate, noise_shape=None, seed=None):
    """Each number 0 with the probability rate, else divided by 1 - rate."""
    if is_symbolic(inputs):
        raise ValueError(
            "dropout: expected arrays, received the output of a layer; there is layers.Dropout"
        )
    shape = np.shape(value_of(of(inputs)))
    if noise_shape is not None:
        given = [
            size if part is None else int(part)
            for part, size in zip(noise_shape, shape, strict=True)
        ]
        shape = tuple(given)
    if not 0 <= rate < 1:
        raise ValueError(f"rate: expected a number in [0, 1), received {rate!r}")
    kept = drawn_by(seed).random(shape) >= rate
    return ops.multiply(inputs, (kept / (1 - rate)).astype(np.float32))


def gamma(shape, alpha, dtype=None, seed=None):
    return _as(drawn_by(seed).gamma(value_of(alpha), size=sizes(shape)), dtype)


def beta(shape, alpha, beta, dtype=None, seed=None):
    return _as(drawn_by(seed).beta(value_of(alpha), value_of(beta), sizes(shape)), dtype)


def binomial(shape, counts, probabilities, dtype=None, seed=None):
    counts = np.asarray(value_of(counts)).astype(np.int64)
    return _as(drawn_by(seed).binomial(counts, value_of(probabilities), sizes(shape)), dtype)
