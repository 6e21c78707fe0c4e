"""Learning rates that depend on the step, as keras.optimizers.schedules.

A schedule is called as `schedule(step) -> float`, step counting the updates done, from 0.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise

from fastrnn._public import public

from .checks import flag, number, numbers, text
from .tensors import tensor
from .utils import Configurable, class_table, deserialize_object, serialize_object

__all__ = [
    "CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay",
    "LearningRateSchedule", "PiecewiseConstantDecay", "PolynomialDecay", "deserialize",
    "serialize",
]  # fmt: skip
public(__name__)


class LearningRateSchedule(Configurable):
    """Base class: override `__call__(step) -> float` and `get_config()`."""

    def __call__(self, step: int) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step)")


class ExponentialDecay(LearningRateSchedule):
    """rate = initial_learning_rate * decay_rate ** (step / decay_steps).

    `staircase` rounds step / decay_steps down. Raises ValueError unless decay_steps > 0.
    """

    _options = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase", "name")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ):
        self.initial_learning_rate = number("initial_learning_rate", initial_learning_rate)
        self.decay_steps = number("decay_steps", decay_steps, "> 0")
        self.decay_rate = number("decay_rate", decay_rate, ">= 0")
        self.staircase = flag("staircase", staircase)
        self.name = text("name", name)

    @tensor
    def __call__(self, step: int) -> float:
        periods = step // self.decay_steps if self.staircase else step / self.decay_steps
        return float(self.initial_learning_rate * _power(self.decay_rate, periods))


class InverseTimeDecay(LearningRateSchedule):
    """rate = initial_learning_rate / (1 + decay_rate * step / decay_steps).

    `staircase` rounds step / decay_steps down. Raises ValueError unless decay_steps > 0.
    """

    _options = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase", "name")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ):
        self.initial_learning_rate = number("initial_learning_rate", initial_learning_rate)
        self.decay_steps = number("decay_steps", decay_steps, "> 0")
        self.decay_rate = number("decay_rate", decay_rate, ">= 0")
        self.staircase = flag("staircase", staircase)
        self.name = text("name", name)

    @tensor
    def __call__(self, step: int) -> float:
        periods = step // self.decay_steps if self.staircase else step / self.decay_steps
        return float(self.initial_learning_rate / (1 + self.decay_rate * periods))


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], then values[1], and so on.

    Raises ValueError unless boundaries increase and values has one element more.
    """

    _options = ("boundaries", "values", "name")

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"
    ):
        self.boundaries = numbers("boundaries", boundaries)
        self.values = numbers("values", values)
        self.name = text("name", name)
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"values: expected {len(self.boundaries) + 1}, one more than boundaries, "
                f"received {len(self.values)}"
            )
        if any(a >= b for a, b in pairwise(self.boundaries)):
            raise ValueError(f"boundaries: expected to increase, received {self.boundaries}")

    @tensor
    def __call__(self, step: int) -> float:
        return float(self.values[bisect_left(self.boundaries, step)])


class PolynomialDecay(LearningRateSchedule):
    """From initial_learning_rate to end_learning_rate (1e-4) as (1 - step / decay_steps) ** power.

    After decay_steps the rate stays; with `cycle` the decay is stretched to the next multiple of
    decay_steps instead. Raises ValueError unless decay_steps > 0.
    """

    _options = (
        "initial_learning_rate",
        "decay_steps",
        "end_learning_rate",
        "power",
        "cycle",
        "name",
    )

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ):
        self.initial_learning_rate = number("initial_learning_rate", initial_learning_rate)
        self.decay_steps = number("decay_steps", decay_steps, "> 0")
        self.end_learning_rate = number("end_learning_rate", end_learning_rate)
        self.power = number("power", power, ">= 0")
        self.cycle = flag("cycle", cycle)
        self.name = text("name", name)

    @tensor
    def __call__(self, step: int) -> float:
        cycles = max(1, math.ceil(step / self.decay_steps)) if self.cycle else 1
        left = 1 - min(1.0, step / (self.decay_steps * cycles))
        span = self.initial_learning_rate - self.end_learning_rate
        return float(span * left**self.power + self.end_learning_rate)


class CosineDecay(LearningRateSchedule):
    """Half a cosine from initial_learning_rate down to alpha times it, over decay_steps.

    With a `warmup_target` the rate first rises to it in a straight line over `warmup_steps`, and
    the cosine starts there. Raises ValueError unless decay_steps > 0. Loshchilov and Hutter, 2016.
    """

    _options = (
        "initial_learning_rate",
        "decay_steps",
        "alpha",
        "name",
        "warmup_target",
        "warmup_steps",
    )

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ):
        self.initial_learning_rate = number("initial_learning_rate", initial_learning_rate)
        self.decay_steps = number("decay_steps", decay_steps, "> 0")
        self.alpha = number("alpha", alpha, ">= 0")
        self.name = text("name", name)
        self.warmup_target = number("warmup_target", warmup_target, none=True)
        self.warmup_steps = number("warmup_steps", warmup_steps, ">= 0")

    @tensor
    def __call__(self, step: int) -> float:
        peak = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return float(peak + (self.warmup_target - peak) * step / self.warmup_steps)
            peak = self.warmup_target
            step -= self.warmup_steps
        return float(peak * _cosine(min(1.0, step / self.decay_steps), self.alpha))


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays one after the other, the first over first_decay_steps.

    Each lasts `t_mul` (2) times as long and starts `m_mul` (1) times as high as the one before;
    alpha is the least rate, as a fraction. Raises ValueError unless first_decay_steps > 0 and
    t_mul >= 1. Loshchilov and Hutter, 2016.
    """

    _options = ("initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha", "name")

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ):
        self.initial_learning_rate = number("initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = number("first_decay_steps", first_decay_steps, "> 0")
        self.t_mul = number("t_mul", t_mul, ">= 1")
        self.m_mul = number("m_mul", m_mul, ">= 0")
        self.alpha = number("alpha", alpha, ">= 0")
        self.name = text("name", name)

    @tensor
    def __call__(self, step: int) -> float:
        if self.t_mul == 1:
            restarts, done = divmod(step, self.first_decay_steps)
            fraction = done / self.first_decay_steps
        else:
            restarts, length = 0, self.first_decay_steps
            while step >= length and restarts < 1000:
                step -= length
                length *= self.t_mul
                restarts += 1
            if step >= length:  # restarts that hardly grow: their sum in closed form
                growth = math.log(self.t_mul)
                more = int(math.log1p((self.t_mul - 1) * step / length) / growth)
                step = max(0.0, step - length * math.expm1(more * growth) / (self.t_mul - 1))
                length *= self.t_mul**more
                restarts += more
            fraction = min(1.0, step / length)
        height = _power(self.m_mul, restarts)
        return float(self.initial_learning_rate * _cosine(fraction, self.alpha, height))


def _cosine(fraction: float, alpha: float, height: float = 1.0) -> float:
    return (1 - alpha) * 0.5 * height * (1 + math.cos(math.pi * fraction)) + alpha


def _power(base: float, exponent: float) -> float:
    try:
        return float(base) ** exponent
    except OverflowError:
        return math.inf


_TABLE = class_table(
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
    CosineDecay,
    CosineDecayRestarts,
)


def serialize(schedule: LearningRateSchedule) -> dict | None:
    """The Keras config dict of a schedule."""
    return serialize_object(schedule, _TABLE, "keras.optimizers.schedules")


def deserialize(config, custom_objects: Mapping | None = None):
    """The inverse of `serialize`; `custom_objects` maps names to the user's own classes."""
    return deserialize_object(config, _TABLE, "learning rate schedule", custom_objects)
