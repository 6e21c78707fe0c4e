"""Names that users' classes and the engine both use, each for something of its own: a user's layer
may call an attribute `forward`, `graph` or `_model`, as Keras has no such names."""

from __future__ import annotations

import inspect
import sys
from typing import Any

# What the engine calls inside; names that begin with an underscore are added by `reserve`.
RESERVED = {
    "backward", "batch_dependent", "build_by_call", "cell_variables", "check_call",
    "check_input_shape", "check_mask", "compiled_changes", "create_weights", "described",
    "fixed_axes", "forward", "give_run", "gives_float32", "gives_several", "gradient_array",
    "graph", "handed_out", "has_states", "head_names", "input_of", "input_shape", "inputs",
    "logits_layer", "look_at", "mask_makers", "metric_names", "operations", "output_dtype",
    "output_names", "output_shape", "outputs", "own_metrics", "own_names", "parts_of_inputs",
    "parts_of_outputs", "plan", "plan_unmasked", "propagate", "reject_shape", "repair_rank",
    "sublayers", "symbolic", "take_run", "takes_several", "varies",
}  # fmt: skip
_NOTHING: Any = object()
_TAKEN = "_names_of_the_user"


def reserve(names) -> None:
    """Add those of these names that begin with one underscore."""
    RESERVED.update(name for name in names if name[0] == "_" != name[1])


def keep_apart(cls, said) -> None:
    """Of a user's class, what was `said` in its body, by name, from what the engine has under the
    same names."""
    if "__setattr__" not in said:
        cls.__setattr__ = _setattr
    for name in RESERVED:
        users = said.get(name, _NOTHING)
        shared = [v for base in cls.__mro__[1:] if isinstance(v := vars(base).get(name), Shared)]
        if users is _NOTHING or is_of_the_pass(users):
            if not shared:
                continue
            users = shared[0].users
        engines = vars(cls).get(name, _NOTHING)
        if engines is users or isinstance(engines, Shared):
            engines = _NOTHING
        setattr(cls, name, Shared(name, cls, engines, users))


def is_of_the_pass(value) -> bool:
    """Is it a method of the engine's contract, which gets the pass's `run`?"""
    return inspect.isfunction(value) and "run" in inspect.signature(value).parameters


def _is_users(frame) -> bool:
    return not frame.f_globals.get("__name__", "").startswith("fastrnn.")


def _setattr(self, name, value):
    if name in RESERVED and _is_users(sys._getframe(1)):
        shared = inspect.getattr_static(type(self), name, None)
        if not isinstance(shared, Shared):
            engines = vars(type(self)).get(name, _NOTHING)
            shared = Shared(name, type(self), engines, _NOTHING)
            setattr(type(self), name, shared)
        shared.take(self, value)
    else:
        object.__setattr__(self, name, value)


class Shared:
    """An attribute that is one thing for the engine's code and another for all other. engines,
    users: what the class has for each, if anything."""

    def __init__(self, name, cls, engines, users):
        self.name, self.cls, self.engines, self.users = name, cls, engines, users

    def __get__(self, layer, owner=None):
        if _is_users(sys._getframe(1)):
            if layer is not None and self.name in vars(layer).get(_TAKEN, ()):
                return vars(layer)[self.name]
            if self.users is not _NOTHING:
                return _bound(self.users, layer, owner)
        value = self._of_engine(owner)
        if layer is not None and not hasattr(value, "__set__"):
            key = self._key(layer)
            if key in vars(layer):
                return vars(layer)[key]
        if value is _NOTHING:
            raise AttributeError(f"{owner.__name__!r} has no attribute {self.name!r}")
        return _bound(value, layer, owner)

    def __set__(self, layer, value):
        if _is_users(sys._getframe(1)):
            self.take(layer, value)
            return
        engines = self._of_engine(type(layer))
        if hasattr(engines, "__set__"):
            engines.__set__(layer, value)
        else:
            vars(layer)[self._key(layer)] = value

    def take(self, layer, value):
        """Set the user's."""
        if hasattr(self.users, "__set__"):
            self.users.__set__(layer, value)
            return
        attributes = vars(layer)
        taken = attributes.setdefault(_TAKEN, set())
        if self.name not in taken and self.name in attributes:
            attributes[f"engine's {self.name}"] = attributes.pop(self.name)
        taken.add(self.name)
        attributes[self.name] = value

    def _key(self, layer):
        return engines_key(layer, self.name)

    def _of_engine(self, owner):
        """What the engine's classes have."""
        if self.engines is not _NOTHING:
            return self.engines
        mro = owner.__mro__
        for base in mro[mro.index(self.cls) + 1 :]:
            value = vars(base).get(self.name, _NOTHING)
            if isinstance(value, Shared):
                return value._of_engine(owner)
            if value is not _NOTHING:
                return value
        return _NOTHING


def users_attributes(layer) -> dict[str, Any]:
    """Those of an instance that are the user's under names that the engine has too."""
    return {name: vars(layer)[name] for name in vars(layer).get(_TAKEN, ())}


def engines_key(layer, name) -> str:
    """Where the engine's value of a name is among a layer's attributes."""
    return f"engine's {name}" if name in vars(layer).get(_TAKEN, ()) else name


def _bound(value, layer, owner):
    bind = getattr(type(value), "__get__", None)
    return value if bind is None else bind(value, layer, owner)
