"""Optimizers, as keras.optimizers: one fused call updates all weights of a model.

`update(store)` takes a `fastrnn.variable.Store`: flat float32 arrays `values` and `gradients`, and
`variables` whose `value` and `gradient` are views into them.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from fastrnn._public import Missing, public

from . import checks, schedules
from ._engine import Update, clip, scale, sum_of_squares
from .arrays import as_array
from .gradient_tape import GradientTape
from .tape import Source, value_of
from .tensors import Count, State
from .utils import (
    Configurable,
    as_call,
    deserialize_object,
    did_you_mean,
    serialize_object,
    snake_case,
)
from .variable import Change, Store, Variable, aligned

if TYPE_CHECKING:
    from fastrnn._types import DecayingOptions, OptimizerOptions, Rate, Unpack


__all__ = [
    "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "LearningRate", "Nadam", "Optimizer",
    "RMSprop", "SGD", "deserialize", "get", "serialize", "schedules",
]  # fmt: skip
public(__name__)

# What update_step was called before.
_OLD_STEPS = ("get_updates", "_resource_apply_dense", "_create_slots")
# Options in the configs of Keras 2 that say nothing about the result.
_IGNORED = ("is_legacy_optimizer", "jit_compile", "loss_scale_factor")


class LearningRate(float):
    """The learning rate of an optimizer: a number that can be assigned to, as Keras's variable."""

    _optimizer: Optimizer

    def __new__(cls, value, optimizer):
        rate = super().__new__(cls, value)
        rate._optimizer = optimizer
        return rate

    def assign(self, value) -> None:
        self._optimizer.learning_rate = value

    def numpy(self) -> np.float32:
        return np.float32(self)

    @property
    def value(self) -> LearningRate:
        return self

    def __reduce__(self):
        return float, (float(self),)


class Optimizer(Configurable):
    """What all optimizers have: learning rate, clipping, weight decay, averaging, accumulation.

    learning_rate: a number, a schedule of `fastrnn.schedules` or a function without arguments
        (under its old name `lr`, too). `decay` (0), as in Keras 2, divides it by
        1 + decay * iterations; loss_scale_factor is accepted and needs nothing done.
    weight_decay (None): weights shrink by weight_decay * learning_rate of themselves before the
        step, except for what `exclude_from_weight_decay` names.
    clipnorm, global_clipnorm, clipvalue (None): greatest norm of each weight's gradient, of all
        gradients together, greatest absolute value of an element; one of them at most.
    use_ema (False): keep an average of the weights, average = ema_momentum (0.99) * average +
        (1 - ema_momentum) * weights; it replaces them every ema_overwrite_frequency (None) steps
        and in `finalize_variable_values`.
    gradient_accumulation_steps (None): step only once in so many calls, by the mean gradient.

    A class of the user's own says `update_step(gradient, variable, learning_rate)`, and in `build`
    makes slots by add_variable_from_reference.

    Raises ValueError for values out of range and options that do not exist.
    """

    _options = (
        *("name", "learning_rate", "weight_decay", "clipnorm", "global_clipnorm", "clipvalue"),
        *("use_ema", "ema_momentum", "ema_overwrite_frequency", "gradient_accumulation_steps"),
    )
    _rule = ""
    _kernel_slots: tuple[str | None, ...] = (None, None, None)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: SupportsIndex | None = None,
        gradient_accumulation_steps: SupportsIndex | None = None,
        name: str | None = None,
        decay: float = 0.0,
        **options,
    ):
        learning_rate = options.pop("lr", learning_rate)
        unknown = sorted(set(options) - set(_IGNORED))
        if unknown:
            raise ValueError(
                f"{type(self).__name__}: expected only known options, received {', '.join(unknown)}"
                + did_you_mean(unknown[0], inspect.signature(type(self)).parameters)
            )
        if sum(clipping is not None for clipping in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError(
                "expected at most one of clipnorm, clipvalue and global_clipnorm, received "
                f"clipnorm={clipnorm}, clipvalue={clipvalue}, global_clipnorm={global_clipnorm}"
            )
        self.name = checks.text("name", name) or snake_case(type(self).__name__)
        self.weight_decay = checks.number("weight_decay", weight_decay, ">= 0", none=True)
        self.clipnorm = checks.number("clipnorm", clipnorm, ">= 0", none=True)
        self.clipvalue = checks.number("clipvalue", clipvalue, ">= 0", none=True)
        self.global_clipnorm = checks.number("global_clipnorm", global_clipnorm, ">= 0", none=True)
        self.use_ema = checks.flag("use_ema", use_ema)
        self.ema_momentum = checks.number("ema_momentum", ema_momentum, "in [0, 1]")
        self.ema_overwrite_frequency = checks.count(
            "ema_overwrite_frequency", ema_overwrite_frequency, 1
        )
        self.gradient_accumulation_steps = checks.count(
            "gradient_accumulation_steps", gradient_accumulation_steps, 2
        )
        self.decay = checks.number("decay", decay, ">= 0", none=True) or 0.0
        self._learning_rate = None
        self.learning_rate = learning_rate
        self._calls = 0
        self._slots = {}  # name -> flat array
        self._undecayed = ((), None)  # variables, pattern of names
        self._shapes = None
        self._store = self._values = self._update = self._ranges = self._factors_now = None
        self._index_dict = None  # id of a weight -> its place
        self._variables = []  # that a user's class made
        self._left_out = ()  # ids of weights without a gradient in this step

    def __repr__(self):
        return as_call(self, learning_rate=self._learning_rate)

    # --- learning rate and iterations

    @property
    def learning_rate(self) -> float:
        """The rate at the present step, before `decay`; set it to a number, schedule or function,
        or call its `assign`, as if it were a variable.

        Raises TypeError where a number would replace a schedule.
        """
        return LearningRate(self._rate(), self)

    @learning_rate.setter
    def learning_rate(self, rate):
        if isinstance(rate, Mapping):
            rate = schedules.deserialize(rate)
        if callable(rate):
            self._learning_rate = rate
            return
        if isinstance(self._learning_rate, schedules.LearningRateSchedule):
            raise TypeError(
                "learning_rate: follows the schedule that the optimizer was made with and cannot "
                f"be set; received {rate!r}"
            )
        if not isinstance(rate, (Real, np.ndarray)) or isinstance(rate, bool) or np.size(rate) != 1:
            raise ValueError(
                "learning_rate: expected a number, a schedule or a function without arguments, "
                f"received {rate!r}"
            )
        self._learning_rate = float(checks.number("learning_rate", rate))

    lr = learning_rate

    def _rate(self):
        rate = self._learning_rate
        if isinstance(rate, float):
            return rate
        if isinstance(rate, schedules.LearningRateSchedule):
            return float(rate(self._calls))
        return float(rate())

    def _steps(self) -> int:
        return self._calls // (self.gradient_accumulation_steps or 1)

    @property
    def iterations(self) -> int:
        """Steps made so far; `assign` sets them, as if they were a variable."""

        def assign(steps):
            self._calls = steps * (self.gradient_accumulation_steps or 1)

        return Count(self._steps(), assign)

    @property
    def built(self) -> bool:
        """Whether the optimizer has the slots of a model's weights."""
        return self._shapes is not None

    @property
    def variables(self) -> list[State]:
        """All that changes in training, as Keras names and orders it: the steps, the learning rate
        unless a schedule rules it, and the slots. They can be assigned to."""
        return [self._variable(name, array) for name, array in self._state()]

    def _variable(self, name, array):
        for variable in self._variables:
            if variable.value is array:
                return variable
        assigned = None
        if not any(np.may_share_memory(array, slot) for slot in self._slots.values()):

            def assigned(value):  # of a number that is kept elsewhere
                if name == "iteration":
                    self._calls = int(value)
                elif name == "learning_rate":
                    self.learning_rate = float(value)
                else:
                    self._set_extra_state({name: value})

        return State.of(array, name, f"{self.name}/{name}", assigned)

    # --- slots

    def _slot_groups(self) -> list[tuple[str, ...]]:
        """Names of the optimizer's own slots; Keras's files mix those of a group."""
        return []

    def _initial_value(self) -> float:
        return 0.0

    def _kernel_options(self) -> dict:
        """Options of the engine's Update."""
        return {}

    def build(self, store) -> None:
        """Bind to a store, or to a list of weights; `update` and `apply` do so by themselves.
        Another store has to have the same shapes.

        Raises ValueError if it has not: an optimizer serves one model.
        """
        if self._is_users and type(self).update_step is Optimizer.update_step:
            old = next((name for name in _OLD_STEPS if hasattr(self, name)), None)
            found = "" if old is None else f"; {old} is of older versions of Keras"
            raise NotImplementedError(
                f"{type(self).__name__}: expected a method update_step(gradient, variable, "
                f"learning_rate){found}"
            )
        if isinstance(store, (list, tuple)):
            store = self._store_of(store)
        shapes = [np.shape(variable.value) for variable in store.variables]
        if self._shapes not in (None, shapes):
            raise ValueError(
                f"{self.name}: expected the {len(self._shapes)} weights that the optimizer was "
                f"built for, received {len(shapes)} weights of other shapes; "
                "a new set of weights needs a new optimizer"
            )
        size = store.values.size
        if self._shapes is None:
            if self.use_ema:
                self._slots["average"] = aligned(size)
            if self.gradient_accumulation_steps:
                self._slots["gradient_accumulator"] = aligned(size)
            for name in sum(self._slot_groups(), ()):
                self._slots[name] = aligned(size)
                self._slots[name][...] = self._initial_value()
        if not self._is_users:
            slots = [self._slots.get(name) for name in self._kernel_slots]
            self._update = Update(
                self._rule, store.values, store.gradients, slots, **self._kernel_options()
            )
        self._shapes, self._store, self._values = shapes, store, store.values
        self._index_dict = {id(variable): n for n, variable in enumerate(store.variables)}
        self._ranges = self._decay_ranges(store)

    def bind(self, store) -> None:
        """`build` for a Store; of a user's class only once."""
        if type(self).build is not Optimizer.build and self._shapes is None:
            self.build(list(store.variables))
        if self._store is not store or self._values is not store.values:
            Optimizer.build(self, store)

    def _places(self):
        """(variable, its slice of the flat arrays) for every variable."""
        return zip(self._store.variables, self._store.places, strict=True)

    # --- one update

    def update(self, store) -> None:
        """Update store.values in place from store.gradients, which clipping may change."""
        if store is not self._store or store.values is not self._values:
            self.bind(store)
        steps = self.gradient_accumulation_steps
        if not steps or self._accumulate(store, steps):
            if self.clipnorm or self.global_clipnorm or self.clipvalue:
                self._clip(store)
            rate = self._rate()
            if self.decay:
                rate /= 1.0 + self.decay * self._steps()
            rate = float(np.float32(rate))  # as files keep it: training goes on with the same bits
            self._step(rate, (self.weight_decay or 0.0) * rate)
        if self.use_ema:
            self._average(store)
        self._calls += 1

    def _store_of(self, variables):
        """The store that has these weights, and no others; made where there is none."""
        if wrong := [v for v in variables if not isinstance(v, Variable)]:
            raise ValueError(
                f"trainable_variables: expected weights, received {type(wrong[0]).__name__}"
            )
        if fixed := [v.path for v in variables if v.value.dtype != np.float32]:
            raise ValueError(f"trainable_variables: expected float32, received {fixed[0]!r}")
        store = variables[0].store if variables else None
        if store is not None and [*map(id, store.variables)] == [*map(id, variables)]:
            return store
        for other in {id(v.store): v.store for v in variables if v.store}.values():
            other.release()
        return Store(variables)

    def apply(self, grads, trainable_variables=None) -> None:
        """One update from these gradients of the weights, which are those of `build` or of the
        first call by default; None for one leaves it as it is. Applies the weights' constraints.

        Raises ValueError for gradients of other shapes, or none at all, and for weights that the
        optimizer was not built for.
        """
        grads = list(grads)
        built = None if self._store is None else self._store.variables
        variables = list(built or () if trainable_variables is None else trainable_variables)
        if len(grads) != len(variables):
            raise ValueError(
                f"grads: expected one for each of {len(variables)} weights, received {len(grads)}"
            )
        found = dict(zip(map(id, variables), grads, strict=True))
        if built is not None and {*found} < {*map(id, built)}:
            variables = built
        if not any(found.get(id(variable)) is not None for variable in variables):
            raise ValueError("grads: expected a gradient of a weight at least, received none")
        store = self._store_of(variables)
        if self._store is not store:
            self.bind(store)
        kept, left_out = [], set()
        for variable, place in self._places():
            gradient = found.get(id(variable))
            if gradient is None:
                left_out.add(id(variable))
                variable.gradient[...] = 0
                flat = [store.values, *self._slots.values()]
                kept += [(array[place], array[place].copy()) for array in flat]
                continue
            gradient = np.asarray(getattr(gradient, "value", gradient))
            if gradient.shape != variable.shape:
                raise ValueError(
                    f"grads: expected shape {variable.shape} for {variable.path!r}, received "
                    f"{gradient.shape}"
                )
            variable.gradient[...] = gradient
        self._left_out = left_out
        with Change((store,)):
            self.update(store)
            for array, before in kept:
                array[...] = before
            for variable in store.variables:
                if variable.constraint is not None:
                    variable.value[...] = variable.constraint(variable.value)

    def apply_gradients(self, grads_and_vars, **old) -> int:
        """`apply` for pairs of a gradient and its weight; returns the steps made so far."""
        pairs = list(grads_and_vars)
        self.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])
        return self.iterations

    def minimize(self, loss, var_list, tape=None) -> int:
        """One update down a loss: a function without arguments, or what a tape has seen."""
        if tape is None:
            if not callable(loss):
                raise ValueError("loss: expected a function without arguments where tape is None")
            with GradientTape() as tape:
                loss = loss()
        variables = list(var_list() if callable(var_list) else var_list)
        return self.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    def _factors(self, rate: float) -> tuple[float, ...]:
        """rate, mean_factor, gradient_factor, square_factor of the engine's step."""
        return rate, 1.0, 0.0, 1.0

    stateless_apply: Any = Missing("apply changes weights and slots in place")

    def scale_loss(self, loss):
        """The loss itself: nothing is computed in half precision."""
        return loss

    def set_weights(self, weights) -> None:
        """Set all `variables`, in their order."""
        variables = self.variables
        if len(weights) != len(variables):
            raise ValueError(
                f"weights: expected {len(variables)} arrays, as variables, received {len(weights)}"
            )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all `variables`."""
        return [np.array(variable) for variable in self.variables]

    # --- what a user's class says, and uses

    @property
    def _is_users(self) -> bool:
        return not self._rule

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Change one weight, and its slots, for its gradient."""
        place = self._store.places[self._get_variable_index(variable)]
        variable.gradient[...] = getattr(gradient, "value", gradient)
        rate, mean, gradient_factor, square = self._factors_now
        rate *= float(learning_rate) / self._rate_now if self._rate_now else 1.0
        self._update.step(rate, 0.0, mean, gradient_factor, square, place.start, place.stop)

    def add_variable(
        self, shape, initializer="zeros", dtype=None, aggregation=None, layout=None, name=None
    ) -> Variable:
        """An array that changes in training, and is saved with the optimizer."""
        made = Variable(initializer, shape, dtype or "float32", trainable=False, name=name)
        made.path = f"{self.name}/{made.name}"
        self._variables.append(made)
        return made

    def add_variable_from_reference(
        self, reference_variable=None, name=None, initializer="zeros", **old
    ) -> Variable:
        """One of a weight's shape, named after both."""
        reference = old.pop("model_variable", reference_variable)
        name, shape = old.pop("variable_name", name), old.pop("shape", None)
        value = old.pop("initial_value", None)
        if old or not isinstance(reference, Source):
            raise ValueError(
                "add_variable_from_reference: expected a weight, a name and an initializer, "
                f"received {', '.join(old) or type(reference).__name__}"
            )
        weight = reference.path.replace("/", "_")
        return self.add_variable(
            reference.shape if shape is None else shape,
            initializer if value is None else lambda shape, dtype=None: value_of(value),
            name=f"{weight}_{name or 'slot'}",
        )

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        """A list of one for each weight; for several names a tuple of such lists."""
        names = [name] if isinstance(name, str) else list(name)
        each = [initializer] * len(names) if isinstance(initializer, str) else list(initializer)
        made = tuple(
            [self.add_variable_from_reference(v, name, how) for v in trainable_variables]
            for name, how in zip(names, each, strict=True)
        )
        return made[0] if isinstance(name, str) else made

    def assign(self, variable, value) -> None:
        variable.assign(value)

    def assign_add(self, variable, value) -> None:
        variable.assign_add(value)

    def assign_sub(self, variable, value) -> None:
        variable.assign_sub(value)

    def _var_key(self, variable):
        return id(variable)

    def _get_variable_index(self, variable) -> int:
        return self._index_dict[id(variable)]

    @property
    def _trainable_variables(self) -> list[Variable]:
        return [] if self._store is None else list(self._store.variables)

    def _step_of_users(self, rate: float, decay: float) -> None:
        self._rate_now = rate
        whole = ((0, self._store.values.size, True),)
        for begin, end, decays in (self._ranges or whole) if decay else ():
            if decays:
                scale(self._store.values[begin:end], 1 - decay)
        older = len(inspect.signature(self.update_step).parameters) == 2
        for variable in self._store.variables:
            if id(variable) not in self._left_out:
                gradient = as_array(variable.gradient.copy())
                self.update_step(gradient, variable, *(() if older else (rate,)))
        self._left_out = ()

    def _step(self, rate: float, decay: float) -> None:
        self._factors_now = rate, mean, gradient, square = self._factors(rate)
        if type(self).update_step is not Optimizer.update_step:
            self._step_of_users(rate, decay)
            return
        if not decay or self._ranges is None:
            self._update.step(rate, decay, mean, gradient, square)
            return
        for begin, end, decays in self._ranges:
            self._update.step(rate, decay if decays else 0.0, mean, gradient, square, begin, end)

    def _accumulate(self, store, steps: int) -> bool:
        total = self._slots["gradient_accumulator"]
        total += store.gradients
        if (self._calls + 1) % steps:
            return False
        np.divide(total, np.float32(steps), out=store.gradients)
        total[...] = 0
        return True

    def _clip(self, store) -> None:
        if self.clipvalue:
            clip(store.gradients, self.clipvalue)
        elif self.global_clipnorm:
            norm = math.sqrt(sum_of_squares(store.gradients))
            if not norm <= self.global_clipnorm:
                scale(store.gradients, self.global_clipnorm / norm if norm < math.inf else math.nan)
        else:
            for variable in store.variables:
                norm = math.sqrt(sum_of_squares(variable.gradient))
                if not norm <= self.clipnorm:
                    scale(variable.gradient, self.clipnorm / norm)

    def _average(self, store) -> None:
        average = self._slots["average"]
        momentum = self.ema_momentum if self._steps() else 0.0
        average += (1.0 - momentum) * (store.values - average)
        frequency = self.ema_overwrite_frequency
        if frequency and (self._steps() + 1) % frequency == 0:
            store.values[...] = average

    def finalize_variable_values(self, store) -> None:
        """Replace the weights by their average, if `use_ema`: for the end of a training."""
        if self.use_ema and "average" in self._slots:
            with Change((store,)):
                store.values[...] = self._slots["average"]

    # --- weight decay

    def exclude_from_weight_decay(self, var_list=None, var_names=None) -> None:
        """Keep these variables, or those whose name has one of these strings, from weight decay.

        Raises ValueError after the first update.
        """
        if self._store is not None:
            raise ValueError("exclude_from_weight_decay: expected a call before the first update")
        pattern = re.compile("|".join(var_names)) if var_names else None
        self._undecayed = (tuple(var_list or ()), pattern)

    def _decay_ranges(self, store):
        """Runs (begin, end, whether weight decay applies) of the flat arrays; None: it does."""
        variables, pattern = self._undecayed
        if not variables and not pattern:
            return None
        ranges, begin, decays = [], 0, True
        for variable, place in self._places():
            excluded = any(variable is other for other in variables) or bool(
                pattern and pattern.search(variable.name)
            )
            if excluded == decays:
                ranges.append((begin, place.start, decays))
                begin, decays = place.start, not excluded
        ranges.append((begin, store.values.size, decays))
        return ranges

    # --- saving

    def get_config(self) -> dict:
        """The constructor's arguments as a dict of plain values."""
        rate = self._learning_rate
        if isinstance(rate, schedules.LearningRateSchedule):
            rate = schedules.serialize(rate)
        elif not isinstance(rate, float):
            raise ValueError("learning_rate: a function cannot be saved; use a schedule")
        others = [name for name in self._options if name != "learning_rate"]
        config = {"learning_rate": rate, **{name: getattr(self, name) for name in others}}
        if self.decay:
            config["decay"] = self.decay
        return config

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all that changes in training, named and ordered as Keras's variables.

        The key "learning_rate" is there unless a schedule rules it.
        """
        return {name: np.array(array) for name, array in self._state()}

    def set_state(self, state: Mapping) -> None:
        """Take over what `state` gave.

        Raises ValueError before `build`, and for names and shapes that are not the optimizer's.
        """
        own = dict(self._state())
        if set(state) != set(own):
            missing, unknown = sorted(set(own) - set(state)), sorted(set(state) - set(own))
            raise ValueError(
                f"state: expected the names that state() gives, received {unknown} too many and "
                f"{missing} too few; an optimizer has its slots after build(store)"
            )
        for name, array in own.items():
            if np.shape(state[name]) != array.shape:
                raise ValueError(
                    f"state[{name!r}]: expected shape {array.shape}, "
                    f"received {np.shape(state[name])}"
                )
        for name, array in own.items():
            array[...] = state[name]
        self._calls = int(own["iteration"])
        if "learning_rate" in own:
            self._learning_rate = float(state["learning_rate"])
        self._set_extra_state(own)

    def _state(self):
        yield "iteration", np.array(self._calls, np.int64)
        if isinstance(self._learning_rate, float):
            yield "learning_rate", np.array(self._learning_rate, np.float32)
        if self._store is None:
            return
        names, places = _unique_paths(self._store.variables), [p for _, p in self._places()]
        groups = [("average",), ("gradient_accumulator",), *self._slot_groups()]
        for group in groups:
            for name, place, shape in zip(names, places, self._shapes, strict=True):
                for slot in group:
                    if slot in self._slots:
                        yield f"{name}_{slot}", self._slots[slot][place].reshape(shape)
        for variable in self._variables:
            yield variable.name, variable.value
        yield from self._extra_state()

    def _extra_state(self):
        return ()

    def _set_extra_state(self, state) -> None:
        pass

    def __getstate__(self):
        bound = ("_store", "_values", "_update", "_ranges", "_factors_now", "_index_dict")
        return {**self.__dict__, **dict.fromkeys(bound)}


class SGD(Optimizer):
    """w += v, v = momentum * v - learning_rate * g; with `nesterov` w += momentum * v - rate * g.

    learning_rate 0.01, momentum 0.0 in [0, 1], nesterov False; further options as `Optimizer`.
    """

    _options = (*Optimizer._options, "momentum", "nesterov")
    _rule = "sgd"
    _kernel_slots = ("momentum", None, None)

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Unpack[OptimizerOptions],
    ):
        super().__init__(learning_rate, **options)
        self.momentum = float(checks.number("momentum", momentum, "in [0, 1]"))
        self.nesterov = checks.flag("nesterov", nesterov)

    def _slot_groups(self):
        return [("momentum",)] if self.momentum else []

    def _kernel_options(self):
        return {"momentum": self.momentum, "nesterov": self.nesterov}


class RMSprop(Optimizer):
    """w -= learning_rate * g / sqrt(v + epsilon), v the mean of g ** 2 (`centered`: its variance).

    learning_rate 0.001, rho 0.9 of the old mean is kept, momentum 0.0, epsilon 1e-7, centered
    False; further options as `Optimizer`. Tieleman and Hinton, 2012.
    """

    _options = (*Optimizer._options, "rho", "momentum", "epsilon", "centered")
    _rule = "rmsprop"
    _kernel_slots = ("velocity", "momentum", "average_gradient")

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Unpack[OptimizerOptions],
    ):
        super().__init__(learning_rate, **options)
        self.rho = checks.number("rho", rho, "in [0, 1]")
        self.momentum = checks.number("momentum", momentum, "in [0, 1]")
        self.epsilon, self.centered = _epsilon(epsilon), checks.flag("centered", centered)

    def _slot_groups(self):
        groups = [("velocity",)]
        if self.momentum > 0:
            groups.append(("momentum",))
        if self.centered:
            groups.append(("average_gradient",))
        return groups

    def _kernel_options(self):
        new = 1.0 - self.rho
        return {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "new_gradient": new,
            "new_square": new,
        }


class Adam(Optimizer):
    """w -= rate * m / (sqrt(v) + epsilon), m and v the means of g and g ** 2, bias corrected.

    learning_rate 0.001, beta_1 0.9, beta_2 0.999, epsilon 1e-7, amsgrad False (the largest v so
    far counts); further options as `Optimizer`. Kingma and Ba, 2014, end of section 2.
    """

    _options = (*Optimizer._options, "beta_1", "beta_2", "epsilon", "amsgrad")
    _rule = "adam"
    _kernel_slots = ("momentum", "velocity", "velocity_hat")

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[OptimizerOptions],
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = checks.number("beta_1", beta_1, "in [0, 1)")
        self.beta_2 = checks.number("beta_2", beta_2, "in [0, 1)")
        self.epsilon, self.amsgrad = _epsilon(epsilon), checks.flag("amsgrad", amsgrad)

    def _slot_groups(self):
        groups = [("momentum", "velocity")]
        if self.amsgrad:
            groups.append(("velocity_hat",))
        return groups

    def _kernel_options(self):
        return _moments(self)

    def _factors(self, rate):
        step = self._steps() + 1
        corrected = rate * math.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)
        return corrected, 1.0, 0.0, 1.0


class AdamW(Adam):
    """Adam with weight decay, 0.004. Loshchilov and Hutter, 2017."""

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[DecayingOptions],
    ):
        if weight_decay is None:
            raise ValueError("weight_decay: expected a number, received None")
        options["weight_decay"] = weight_decay
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, **options)


class Adamax(Optimizer):
    """w -= rate * m / (u + epsilon), u = max(beta_2 * u, abs(g)), m the bias-corrected mean of g.

    learning_rate 0.001, beta_1 0.9, beta_2 0.999, epsilon 1e-7; further options as `Optimizer`.
    Kingma and Ba, 2014, section 7.
    """

    _options = (*Optimizer._options, "beta_1", "beta_2", "epsilon")
    _rule = "adamax"
    _kernel_slots = ("momentum", "norm", None)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Unpack[OptimizerOptions],
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = checks.number("beta_1", beta_1, "in [0, 1)")
        self.beta_2 = checks.number("beta_2", beta_2, "in [0, 1]")
        self.epsilon = _epsilon(epsilon)

    def _slot_groups(self):
        return [("momentum", "norm")]

    def _kernel_options(self):
        return {
            "epsilon": self.epsilon,
            "new_gradient": 1.0 - self.beta_1,
            "momentum": self.beta_2,
        }

    def _factors(self, rate):
        return rate / (1.0 - self.beta_1 ** (self._steps() + 1)), 1.0, 0.0, 1.0


class Nadam(Optimizer):
    """Adam with Nesterov momentum, beta_1 rising with the step. Dozat, 2016.

    learning_rate 0.001, beta_1 0.9, beta_2 0.999, epsilon 1e-7; further options as `Optimizer`.
    """

    _options = (*Optimizer._options, "beta_1", "beta_2", "epsilon")
    _rule = "adam"
    _kernel_slots = ("momentum", "velocity", None)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Unpack[OptimizerOptions],
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = checks.number("beta_1", beta_1, "in [0, 1]")
        self.beta_2 = checks.number("beta_2", beta_2, "in [0, 1)")
        self.epsilon = _epsilon(epsilon)
        self._product = 1.0  # of beta_1 over the steps so far

    def _slot_groups(self):
        return [("momentum", "velocity")]

    def _kernel_options(self):
        return _moments(self)

    def _beta_1_at(self, step):
        return self.beta_1 * (1.0 - 0.5 * 0.96**step)

    def _factors(self, rate):
        step = self._steps() + 1
        now, after = self._beta_1_at(step), self._beta_1_at(step + 1)
        self._product = float(np.float32(self._product * now))
        return (
            rate,
            after / (1.0 - self._product * after),
            (1.0 - now) / (1.0 - self._product),
            1.0 / (1.0 - self.beta_2**step),
        )

    def _extra_state(self):
        yield "u_product", np.array(self._product, np.float32)

    def _set_extra_state(self, state):
        self._product = float(state["u_product"]) if "u_product" in state else 1.0


class Adagrad(Optimizer):
    """w -= learning_rate * g / sqrt(s + epsilon), s the sum of g ** 2 so far.

    learning_rate 0.001, initial_accumulator_value 0.1 of s, epsilon 1e-7; further options as
    `Optimizer`. Duchi et al., 2011.
    """

    _options = (*Optimizer._options, "initial_accumulator_value", "epsilon")
    _rule = "adagrad"
    _kernel_slots = ("accumulator", None, None)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Unpack[OptimizerOptions],
    ):
        super().__init__(learning_rate, **options)
        self.initial_accumulator_value = checks.number(
            "initial_accumulator_value", initial_accumulator_value, ">= 0"
        )
        self.epsilon = _epsilon(epsilon)

    def _slot_groups(self):
        return [("accumulator",)]

    def _initial_value(self):
        return self.initial_accumulator_value

    def _kernel_options(self):
        return {"epsilon": self.epsilon}


class Adadelta(Optimizer):
    """w -= rate * g * sqrt(d + epsilon) / sqrt(v + epsilon), v and d means of squares.

    The means are of g ** 2 and of the changes. learning_rate 0.001, rho 0.95 of the old means is
    kept, epsilon 1e-7; further options as `Optimizer`. Zeiler, 2012.
    """

    _options = (*Optimizer._options, "rho", "epsilon")
    _rule = "adadelta"
    _kernel_slots = ("accumulated_grad", "accumulated_delta_var", None)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **options: Unpack[OptimizerOptions],
    ):
        super().__init__(learning_rate, **options)
        self.rho = checks.number("rho", rho, "in [0, 1]")
        self.epsilon = _epsilon(epsilon)

    def _slot_groups(self):
        return [("accumulated_grad", "accumulated_delta_var")]

    def _kernel_options(self):
        return {"epsilon": self.epsilon, "new_square": 1.0 - self.rho}


def _moments(optimizer) -> dict:
    return {
        "epsilon": optimizer.epsilon,
        "new_gradient": 1.0 - optimizer.beta_1,
        "new_square": 1.0 - optimizer.beta_2,
    }


def _epsilon(value) -> float:
    return 1e-7 if value is None else checks.number("epsilon", value, ">= 0")  # Keras 2 wrote None


def _unique_paths(variables) -> list[str]:
    names = []
    for variable in variables:
        name = getattr(variable, "path", variable.name).replace("/", "_")
        names.append(f"{name}_{len(names)}" if name in names else name)
    return names


_TABLE = {
    cls.__name__.lower(): cls
    for cls in (SGD, RMSprop, Adam, AdamW, Adamax, Nadam, Adagrad, Adadelta)
}


def get(identifier: Any) -> Optimizer:
    """Return the optimizer for a name in any case, a config dict, a class or an instance.

    None stays None. Raises ValueError for anything else.
    """
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, (str, Mapping)):
        return deserialize(identifier)
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        return identifier()
    raise ValueError(
        "optimizer: expected a name, a config dict, a class or an instance, "
        f"received {identifier!r}"
    )


def serialize(optimizer: Optimizer) -> dict | None:
    """The Keras config dict of an optimizer."""
    return serialize_object(optimizer, _TABLE, "keras.optimizers")


def deserialize(config, custom_objects: Mapping | None = None):
    """The inverse of `serialize`; `custom_objects` maps names to the user's own classes."""
    if isinstance(config, str):
        config = {"class_name": config}
    name = config.get("class_name") if isinstance(config, Mapping) else None
    if isinstance(name, str):
        known = name.removeprefix("Custom>").lower()  # as some versions of Keras 2 wrote it
        if known in _TABLE and name not in (custom_objects or {}):
            config = {**config, "class_name": known, "registered_name": None}
    return deserialize_object(config, _TABLE, "optimizer", custom_objects)
