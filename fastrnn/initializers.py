"""First values of weights, as keras.initializers.

Every initializer is called as `initializer(shape, dtype="float32")`. With an integer seed each call
gives the same values; without one, calls draw on the global stream (`fastrnn.random`).
"""

import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn._public import public

from . import checks
from .arrays import check_range
from .process import fork_safe
from .random import check_seed, generator
from .tensors import tensor
from .utils import Configurable, class_table, deserialize_object, get_object, serialize_object

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity",
    "Initializer", "LecunNormal", "LecunUniform", "Ones", "Orthogonal", "RandomNormal",
    "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros", "constant", "deserialize",
    "get", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "identity",
    "lecun_normal", "lecun_uniform", "ones", "orthogonal", "random_normal", "random_uniform",
    "serialize", "truncated_normal", "variance_scaling", "zeros",
]  # fmt: skip
public(__name__)

# OpenBLAS ends its threads when the process forks; another thread in the midst of a factorization
# would then wait for them for ever (seen with OpenBLAS 0.3.31, in the parent).
_factorizing = fork_safe(threading.Lock())

# The standard deviation of a standard normal cut off at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978


class Initializer(Configurable):
    """Base class: override `__call__(shape, dtype="float32")` to return an array."""

    def __call__(self, shape, dtype="float32") -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(shape, dtype)")

    @classmethod
    def from_config(cls, config: dict) -> "Initializer":
        """The inverse of `get_config`; the dtype that Keras 2 wrote is dropped."""
        return cls(**{name: value for name, value in config.items() if name != "dtype"})


class Constant(Initializer):
    """`value` everywhere, or an array whose shape must be the one asked for (ValueError)."""

    _options = ("value",)

    def __init__(self, value: Any = 0.0):
        if np.asarray(value).dtype.kind not in "biuf":
            raise ValueError(f"value: expected a number or an array of them, received {value!r}")
        check_range("value", None, np.asarray(value))
        self.value = value

    @tensor
    def __call__(self, shape, dtype="float32") -> np.ndarray:
        shape = _shape(shape)
        if np.ndim(self.value) and np.shape(self.value) != shape:
            raise ValueError(
                f"shape: expected {np.shape(self.value)}, the shape of the array given as value, "
                f"received {shape}"
            )
        return np.full(shape, self.value, _dtype(dtype))

    def get_config(self) -> dict:
        """The value; an array in the form in which Keras saves NumPy arrays."""
        value = np.asarray(self.value)
        if not value.ndim:
            return {"value": value.item()}
        config = {"value": value.tolist(), "dtype": value.dtype.name}
        return {"value": {"class_name": "__numpy__", "config": config}}

    @classmethod
    def from_config(cls, config: dict) -> "Constant":
        value = config.get("value", 0.0)
        if isinstance(value, Mapping):
            try:
                value = np.array(value["config"]["value"], value["config"]["dtype"])
            except (KeyError, TypeError) as error:
                message = f"value: expected a number or an array of them, received {value!r}"
                raise ValueError(message) from error
        return cls(value)


class Zeros(Initializer):
    """Zeros."""

    @tensor
    def __call__(self, shape, dtype="float32") -> np.ndarray:
        return np.zeros(_shape(shape), _dtype(dtype))


class Ones(Initializer):
    """Ones."""

    @tensor
    def __call__(self, shape, dtype="float32") -> np.ndarray:
        return np.ones(_shape(shape), _dtype(dtype))


class Identity(Initializer):
    """`gain` times the identity matrix; raises ValueError unless the shape has two axes."""

    _options = ("gain",)

    def __init__(self, gain: float = 1.0):
        self.gain = checks.number("gain", gain)

    @tensor
    def __call__(self, shape, dtype="float32") -> np.ndarray:
        shape = _shape(shape)
        if len(shape) != 2:
            raise ValueError(f"shape: expected two axes, received {shape}")
        return np.eye(*shape, dtype=_dtype(dtype)) * self.gain


class _RandomInitializer(Initializer):
    def __init__(self, seed: int | None = None):
        if isinstance(seed, Mapping):
            config = seed.get("config")
            if not isinstance(config, Mapping) or "seed" not in config:
                raise ValueError(f"seed: expected an integer or None, received {seed!r}")
            seed = config["seed"]
        self.seed = None if seed is None else check_seed(seed)


class RandomUniform(_RandomInitializer):
    """Uniform in [minval, maxval), by default +-0.05."""

    _options = ("minval", "maxval", "seed")

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None):
        super().__init__(seed)
        self.minval = checks.number("minval", minval)
        self.maxval = checks.number("maxval", maxval)

    @tensor
    def __call__(self, shape, dtype="float32") -> np.ndarray:
        low, high = sorted((self.minval, self.maxval))
        values = generator(self.seed).uniform(low, high, _shape(shape))
        return values.astype(_dtype(dtype))


class RandomNormal(_RandomInitializer):
    """Normal with `mean` (0) and `stddev` (0.05)."""

    _options = ("mean", "stddev", "seed")

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        super().__init__(seed)
        self.mean = checks.number("mean", mean)
        self.stddev = checks.number("stddev", stddev)

    @tensor
    def __call__(self, shape, dtype="float32") -> np.ndarray:
        values = generator(self.seed).normal(self.mean, abs(self.stddev), _shape(shape))
        return values.astype(_dtype(dtype))


class TruncatedNormal(RandomNormal):
    """As RandomNormal, drawing again what lies beyond two standard deviations."""

    @tensor
    def __call__(self, shape, dtype="float32") -> np.ndarray:
        values = _truncated_normal(generator(self.seed), _shape(shape))
        return (self.mean + self.stddev * values).astype(_dtype(dtype))


class VarianceScaling(_RandomInitializer):
    """Random values of variance scale / n, n being fan_in, fan_out or their mean (`mode`).

    `distribution` is "truncated_normal" (also "normal"), "untruncated_normal" or "uniform".
    `input_axes` and `output_axes` say which axes count as inputs and outputs; by default the last
    two, times the size of all others. Raises ValueError for other options.
    """

    _options = ("scale", "mode", "distribution", "seed")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        input_axes=None,
        output_axes=None,
    ):
        super().__init__(seed)
        scale = checks.number("scale", scale, "> 0")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"mode: expected fan_in, fan_out or fan_avg, received {mode!r}")
        if isinstance(distribution, str):
            distribution = distribution.lower()
            if distribution == "normal":
                distribution = "truncated_normal"
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(
                "distribution: expected truncated_normal, untruncated_normal or uniform, "
                f"received {distribution!r}"
            )
        self.scale = scale
        self.mode = mode
        self.distribution = distribution
        self.input_axes = input_axes
        self.output_axes = output_axes

    @tensor
    def __call__(self, shape, dtype="float32") -> np.ndarray:
        shape = _shape(shape)
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        rng = generator(self.seed)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            values = rng.uniform(-limit, limit, shape)
        elif self.distribution == "untruncated_normal":
            values = rng.normal(0.0, math.sqrt(variance), shape)
        else:
            values = _truncated_normal(rng, shape) * (math.sqrt(variance) / _TRUNCATED_STDDEV)
        return values.astype(_dtype(dtype))

    def get_config(self) -> dict:
        """The options; the axes, which older versions of Keras do not know, only if given."""
        axes = {"input_axes": self.input_axes, "output_axes": self.output_axes}
        given = {name: value for name, value in axes.items() if value is not None}
        return super().get_config() | given


class _NamedScaling(VarianceScaling):
    _options = ("seed",)
    _scaling: tuple[float, str, str]

    def __init__(self, seed: int | None = None, input_axes=None, output_axes=None):
        super().__init__(*self._scaling, seed, input_axes, output_axes)


class GlorotUniform(_NamedScaling):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)); Glorot and Bengio, 2010."""

    _scaling = (1.0, "fan_avg", "uniform")


class GlorotNormal(_NamedScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out); Glorot and Bengio, 2010."""

    _scaling = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_NamedScaling):
    """Uniform in +-sqrt(6 / fan_in); He et al., 2015."""

    _scaling = (2.0, "fan_in", "uniform")


class HeNormal(_NamedScaling):
    """Truncated normal of variance 2 / fan_in; He et al., 2015."""

    _scaling = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_NamedScaling):
    """Uniform in +-sqrt(3 / fan_in); Klambauer et al., 2017."""

    _scaling = (1.0, "fan_in", "uniform")


class LecunNormal(_NamedScaling):
    """Truncated normal of variance 1 / fan_in; Klambauer et al., 2017."""

    _scaling = (1.0, "fan_in", "truncated_normal")


class Orthogonal(_RandomInitializer):
    """`gain` times a random matrix with orthonormal columns (or rows, if those are fewer).

    Axes before the last are taken together as rows; raises ValueError below two axes.
    Saxe et al., 2014.
    """

    _options = ("gain", "seed")

    def __init__(self, gain: float = 1.0, seed: int | None = None):
        super().__init__(seed)
        self.gain = checks.number("gain", gain)

    @tensor
    def __call__(self, shape, dtype="float32") -> np.ndarray:
        shape = _shape(shape)
        if len(shape) < 2:
            raise ValueError(f"shape: expected at least two axes, received {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = generator(self.seed).standard_normal((max(rows, columns), min(rows, columns)))
        with _factorizing:
            q, r = np.linalg.qr(tall)
        q *= np.sign(np.diag(r))  # Without this the distribution would not be uniform (Haar).
        if rows < columns:
            q = q.T
        return (self.gain * q).reshape(shape).astype(_dtype(dtype))


def compute_fans(shape, input_axes=None, output_axes=None) -> tuple[int, int]:
    """Number of inputs and outputs of a weight: of the axes given, or of the last two."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[i] for i in input_axes), math.prod(shape[i] for i in output_axes)
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = rng.standard_normal(shape)
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.standard_normal(np.count_nonzero(beyond))
    return values


def _shape(shape) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if not all(isinstance(size, (int, np.integer)) and size >= 0 for size in sizes):
        raise ValueError(f"shape: expected integers >= 0, received {shape!r}")
    return sizes


def _dtype(dtype) -> np.dtype:
    return np.dtype("float32" if dtype is None else dtype)


_TABLE = class_table(
    Zeros,
    Ones,
    Constant,
    Identity,
    RandomUniform,
    RandomNormal,
    TruncatedNormal,
    VarianceScaling,
    GlorotUniform,
    GlorotNormal,
    HeUniform,
    HeNormal,
    LecunUniform,
    LecunNormal,
    Orthogonal,
    zero=Zeros,
    one=Ones,
    uniform=RandomUniform,
    normal=RandomNormal,
    IdentityInitializer=Identity,
    OrthogonalInitializer=Orthogonal,
)

zeros = Zeros
ones = Ones
constant = Constant
identity = Identity
random_uniform = RandomUniform
random_normal = RandomNormal
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
glorot_uniform = GlorotUniform
glorot_normal = GlorotNormal
he_uniform = HeUniform
he_normal = HeNormal
lecun_uniform = LecunUniform
lecun_normal = LecunNormal
orthogonal = Orthogonal


def get(identifier):
    """Return the initializer for a name, config dict, class, instance, array or callable.

    A callable takes (shape, dtype=...); None stays None. Raises ValueError for anything else.
    """
    if isinstance(identifier, (np.ndarray, np.generic)):
        return Constant(identifier)
    return get_object(identifier, _TABLE, "initializer")


def serialize(initializer) -> dict | None:
    """The Keras config dict of an initializer."""
    return serialize_object(initializer, _TABLE, "keras.initializers")


def deserialize(config, custom_objects: Mapping | None = None):
    """The inverse of `serialize`; `custom_objects` maps names to the user's own classes."""
    return deserialize_object(config, _TABLE, "initializer", custom_objects)
