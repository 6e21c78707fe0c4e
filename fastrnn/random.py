"""The one random stream that everything without a seed of its own draws from."""

import operator

import numpy as np

from fastrnn._public import public
from fastrnn.process import fork_safe

__all__ = ["draw_seed", "generator", "set_seed"]
public(__name__)


class Generator(np.random.Generator):
    """NumPy's, whose lock does not stay locked in a child of fork()."""

    def __init__(self, bit_generator):
        super().__init__(bit_generator)
        fork_safe(bit_generator.lock)

    def __reduce__(self):
        return type(self), (self.bit_generator,)


_generator = Generator(np.random.PCG64())
_restarts = 0


def check_seed(seed) -> int:
    """Return `seed` as an int; raise unless it is an integer >= 0."""
    try:
        value = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: expected an integer, received {seed!r}") from None
    if value < 0:
        raise ValueError(f"seed: expected an integer >= 0, received {value}")
    return value


def set_seed(seed: int) -> None:
    """Restart the global stream from `seed`; generators handed out before restart with it."""
    global _restarts
    fresh = np.random.default_rng(check_seed(seed))
    _restarts += 1
    _generator.bit_generator.state = fresh.bit_generator.state


def generator(seed: int | None = None) -> np.random.Generator:
    """Return a fresh, repeatable generator for `seed`, or the global one for None."""
    return _generator if seed is None else Generator(np.random.PCG64(check_seed(seed)))


def draw_seed() -> int:
    """Draw a seed in [0, 2**63) from the global stream, for kernels with their own generator."""
    return int(_generator.integers(2**63))
