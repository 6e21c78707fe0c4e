"""Any object of a script in Keras's form, which JSON can hold, and back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import (
    activations,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)
from fastrnn.utils import deserialize_object, get_registered_name, serialize_object

_KINDS = (
    (layers.Layer, layers),
    (losses.Loss, losses),
    (metrics.Metric, metrics),
    (optimizers.Optimizer, optimizers),
    (schedules.LearningRateSchedule, schedules),
    (initializers.Initializer, initializers),
    (regularizers.Regularizer, regularizers),
    (constraints.Constraint, constraints),
)
_MODULES = {
    "keras": layers,  # Sequential
    "keras.layers": layers,
    "keras.losses": losses,
    "keras.metrics": metrics,
    "keras.optimizers": optimizers,
    "keras.optimizers.schedules": schedules,
    "keras.initializers": initializers,
    "keras.regularizers": regularizers,
    "keras.constraints": constraints,
}
_FUNCTIONS = (activations, losses, metrics)


def serialize_keras_object(obj: Any) -> Any:
    """What `deserialize_keras_object` makes the object of again: a number, text, a list, or a dict
    {"module", "class_name", "config", "registered_name"} as Keras writes it.

    obj: a layer, model, loss, metric, optimizer, schedule, initializer, regularizer, constraint, an
    object of the user's own with get_config(), a named function, an array, or lists and dicts of
    these. Raises TypeError for anything else, ValueError for a lambda.
    Source: https://keras.io/api/models/model_saving_apis/serialization_utils/
    """
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, (list, tuple)):
        return type(obj)([serialize_keras_object(item) for item in obj])
    if isinstance(obj, Mapping):
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    if isinstance(obj, np.ndarray):
        return _special("numpy", value=obj.tolist(), dtype=obj.dtype.name)
    if isinstance(obj, bytes):
        return _special("bytes", value=obj.decode("latin-1"))
    if isinstance(obj, slice):
        return _special("slice", start=obj.start, stop=obj.stop, step=obj.step)
    if obj is Ellipsis:
        return _special("ellipsis")
    if inspect.isfunction(obj):
        config: Any = serialize_object(obj, {}, "")
        name = get_registered_name(obj)
        return {**config, "module": "builtins", "config": name, "registered_name": "function"}
    for kind, module in _KINDS:
        if isinstance(obj, kind):
            return module.serialize(obj)
    if inspect.isclass(obj) or not hasattr(obj, "get_config"):
        raise TypeError(
            "obj: expected an object with get_config(), a named function, an array, a number, "
            f"text, a list or a dict, received {obj!r}"
        )
    config = serialize_object(obj, {}, "")
    return {**config, "module": None, "config": serialize_keras_object(config["config"])}


def deserialize_keras_object(
    config: Any, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True
) -> Any:
    """The inverse of `serialize_keras_object`, but that tuples come back as lists.

    custom_objects: name -> class or function of the user's own, beside those that are registered.
    safe_mode: only True. Nothing is imported and no code is run that a config holds. Raises
    ValueError for a class or function that is not known, and what constructors raise.
    Source: https://keras.io/api/models/model_saving_apis/serialization_utils/
    """
    if safe_mode is not True:
        raise ValueError(
            f"safe_mode: expected True, received {safe_mode!r}: code in configs is never run"
        )
    if isinstance(config, str):
        return (custom_objects or {}).get(config, config)
    if isinstance(config, (list, tuple)):
        return [deserialize_keras_object(item, custom_objects) for item in config]
    if not isinstance(config, Mapping):
        return config
    if not {"class_name", "config"} <= set(config):
        return {key: deserialize_keras_object(v, custom_objects) for key, v in config.items()}
    name, options = config["class_name"], config["config"]
    if name in ("__numpy__", "__bytes__", "__slice__", "__ellipsis__"):
        return _ordinary(name, options)
    if name == "function":
        return _function(options, custom_objects)
    module = _MODULES.get(str(config.get("module")))
    if module is None:
        return deserialize_object(config, {}, "config", custom_objects)
    return module.deserialize(config, custom_objects)


def _special(name, **config):
    return {"class_name": f"__{name}__", "config": config}


def _ordinary(name, options):
    try:
        if name == "__numpy__":
            return np.array(options["value"], np.dtype(str(options["dtype"])))
        if name == "__bytes__":
            return options["value"].encode("latin-1")
        if name == "__slice__":
            return slice(options["start"], options["stop"], options["step"])
        return Ellipsis
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"config: not one of {name}: {error!r}") from None


def _function(name, custom_objects):
    config = {"class_name": "function", "config": name, "registered_name": "function"}
    known = {fn: getattr(m, fn) for m in _FUNCTIONS[::-1] for fn in m.__all__}
    functions = {key: value for key, value in known.items() if inspect.isfunction(value)}
    return deserialize_object(config, functions, "config", custom_objects)
