"""Helpers for users (`to_categorical`, `pad_sequences`, `set_random_seed`) and for the modules
that turn names and configs into objects."""

import contextlib
import difflib
import inspect
import random as python_random
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fastrnn._public import public

from . import random
from .datasets._files import get_file
from .plot import model_to_dot, plot_model
from .preprocessing.files import text_dataset_from_directory
from .preprocessing.sequence import pad_sequences
from .preprocessing.timeseries import PyDataset, timeseries_dataset_from_array
from .progress import Progbar

__all__ = [
    "CustomObjectScope",
    "Progbar",
    "PyDataset",
    "Sequence",
    "custom_object_scope",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "get_file",
    "model_to_dot",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "set_random_seed",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
    "to_categorical",
    "unpack_x_y_sample_weight",
]
public(__name__)

Sequence = PyDataset  # its name before Keras 3


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of the data that a `train_step` or `test_step` gets, None for what is
    not there. As keras.utils.unpack_x_y_sample_weight. Raises ValueError for more than three."""
    parts = tuple(data) if isinstance(data, (list, tuple)) else (data,)
    if not 1 <= len(parts) <= 3:
        raise ValueError(
            f"data: expected x, (x,), (x, y) or (x, y, sample_weight), received {len(parts)} parts"
        )
    return (*parts, None, None)[:3]


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """The data for a `train_step` without what is None. As keras.utils.pack_x_y_sample_weight."""
    if sample_weight is not None:
        return x, y, sample_weight
    if y is not None:
        return x, y
    return (x,) if isinstance(x, (list, tuple)) else x


def to_categorical(x, num_classes: int | None = None) -> np.ndarray:
    """One-hot encode integer labels: shape (...) or (..., 1) to float64 (..., num_classes).

    `num_classes` defaults to max(x) + 1. Raises ValueError for labels that are not integers in
    [0, num_classes). As keras.utils.to_categorical, which lets negative labels count from the end.
    """
    labels = np.asarray(x)
    classes = labels.astype(np.int64)
    if not np.array_equal(classes, labels):
        raise ValueError("x: expected integer labels, received other numbers")
    if classes.ndim > 1 and classes.shape[-1] == 1:
        classes = classes[..., 0]
    if not num_classes:
        if not classes.size:
            raise ValueError("num_classes: expected an integer, as x is empty; received None")
        num_classes = int(classes.max()) + 1
    outside = classes[(classes < 0) | (classes >= num_classes)]
    if outside.size:
        raise ValueError(f"x: expected labels in [0, {num_classes}), received {outside[0]}")
    return (classes[..., None] == np.arange(num_classes)).astype(np.float64)


def set_random_seed(seed: int) -> None:
    """Seed Python's `random`, NumPy's global generator and fastrnn: an int in [0, 2**32)."""
    seed = random.check_seed(seed)
    if seed >= 2**32:
        raise ValueError(f"seed: expected an integer below 2**32, received {seed}")
    python_random.seed(seed)
    np.random.seed(seed)
    random.set_seed(seed)


def normalize(x, axis: int = -1, order: float = 2) -> np.ndarray:
    """`x` divided by its norm along an axis; a norm of 0 counts as 1."""
    norms = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norms == 0, 1, norms)


_custom_objects: dict[str, Callable] = {}
_registered: dict[str, Callable] = {}  # by their bare names, which built-in ones go before


def get_custom_objects() -> dict[str, Callable]:
    """name -> the user's own class or function: the dict in which names and files are looked up."""
    return _custom_objects


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """A decorator that puts a class or function into `get_custom_objects()`, as package>name. Its
    bare name stands for it, too, where nothing built-in is called so."""

    def register(found):
        own = name or found.__name__
        _custom_objects[f"{package}>{own}"] = _registered[own] = found
        return found

    return register


def get_registered_name(obj: Callable) -> str:
    """package>name of a class or function that was registered, of others their own name."""
    for name, found in _custom_objects.items():
        if found is obj and ">" in name:
            return name
    return obj.__name__


def get_registered_object(name: str, custom_objects: Mapping | None = None) -> Callable | None:
    """The user's own class or function of this name, or None."""
    found = (custom_objects or {}).get(name) or _custom_objects.get(name)
    return found or _registered.get(name)


@contextlib.contextmanager
def custom_object_scope(*custom_objects: Mapping[str, Callable]):
    """Within `with`, `get_custom_objects()` has these too."""
    before = dict(_custom_objects)
    for names in custom_objects:
        _custom_objects.update(names)
    try:
        yield
    finally:
        _custom_objects.clear()
        _custom_objects.update(before)


CustomObjectScope = custom_object_scope


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the one most like it, if any is."""
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def choices(name: str, known: Iterable[str]) -> str:
    """The names to choose from, for a message; of many, those that are most like `name`."""
    each = sorted({n.lower().replace("_", ""): n for n in sorted(known)}.values())
    if len(", ".join(each)) <= 300:
        return ", ".join(each)
    close = difflib.get_close_matches(name, each, 4, 0.4) or each[:4]
    return f"{', '.join(close)}, another of {len(each)} names"


def unknown_arguments(function: Callable, given: Iterable[str]) -> str:
    """The message about arguments that a function or a class does not have."""
    meant = did_you_mean(min(given), inspect.signature(function).parameters)
    return f"{function.__name__}: unknown arguments {sorted(given)}{meant}"


_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 90


def as_call(obj, **values) -> str:
    """For __repr__: the constructor's first argument, and those that differ from their defaults.
    values: arguments that are not the object's attributes of their names."""
    shown = []
    for n, (name, parameter) in enumerate(inspect.signature(type(obj)).parameters.items()):
        default = None if parameter.default is parameter.empty else parameter.default
        value = values.get(name, getattr(obj, name, default))
        usual = value is default or type(value) is type(default) and value == default
        hidden = name in ("name", "dtype") or inspect.ismethod(value)
        if hidden or (usual and (n or value is None or name == "reduction")):
            continue
        text = value.__name__ if inspect.isroutine(value) else _shortened.repr(value)
        shown.append(f"{name}={text}")
    return f"{type(obj).__name__}({', '.join(shown)})"


class Configurable:
    """An object rebuilt from the constructor arguments named in `_options`."""

    _options: tuple[str, ...] = ()
    _hidden_names: frozenset[str] = frozenset()  # what dir() does not show

    def __dir__(self):
        return [name for name in super().__dir__() if name not in self._hidden_names]

    def __repr__(self):
        return as_call(self)

    def get_config(self) -> dict:
        """The constructor's arguments as a dict of plain values."""
        return {name: getattr(self, name) for name in self._options}

    @classmethod
    def from_config(cls, config: dict):
        """The inverse of `get_config`."""
        return cls(**config)


def snake_case(name: str) -> str:
    """MeanSquaredError -> mean_squared_error, as Keras names objects after their class."""
    return re.sub("(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name).lower()


def class_table(*classes: type, **aliases: type) -> dict[str, type]:
    """Classes by CamelCase name, by snake_case name and by the aliases given."""
    table = dict(aliases)
    for cls in classes:
        table[cls.__name__] = cls
        table[re.sub("(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()] = cls
    return table


def serialize_object(obj, table: Mapping[str, type], module: str) -> dict | None:
    """The Keras config dict of `obj`: of `module` if its class is in `table`, else the user's."""
    if obj is None:
        return None
    kind = obj if inspect.isfunction(obj) else type(obj)
    if kind.__name__ == "<lambda>":
        raise ValueError("a lambda has no name to be saved under; use a named function")
    if kind is not obj and not hasattr(obj, "get_config"):
        raise ValueError(f"{obj!r} cannot be saved: it has no get_config()")
    known = kind in table.values()
    return {
        "module": module if known else kind.__module__,
        "class_name": type(obj).__name__,
        "config": obj.__name__ if kind is obj else obj.get_config(),
        "registered_name": None if known else get_registered_name(kind),
    }


def deserialize_object(
    config, table: Mapping[str, Callable], kind: str, custom_objects: Mapping | None = None
):
    """Build what a name or a Keras config dict stands for.

    Only names in `custom_objects` and `table` count; nothing is imported. Raises ValueError for
    any other name, naming `kind`.
    """
    if config is None:
        return None
    plain = isinstance(config, str)
    if plain:
        config = {"class_name": config}
    name = config.get("class_name") if isinstance(config, Mapping) else None
    options = config.get("config") or {} if name else {}
    if name == "function":
        name, options = options, {}
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise ValueError(
            f'{kind}: expected a name or {{"class_name": ..., "config": ...}}, received {config!r}'
        )
    registered = config.get("registered_name")
    own = {**_custom_objects, **(custom_objects or {})}
    if plain:  # as Keras, which looks up the names of what it has itself first
        known = {**_registered, **own, **table}
    elif registered in (None, "function"):
        known = {**_registered, **table, **own}
    else:  # Keras writes another name for the user's own objects
        known = {**_registered, **own}
    found = known.get(str(registered)) or known.get(name)
    if found is None:
        raise ValueError(
            f"{kind}: expected {f'one of {choices(name, table)} or ' if table else ''}a name in "
            f"custom_objects, "
            f"received {name!r}{did_you_mean(name, known)}"
        )
    if not inspect.isclass(found):
        return found
    return found.from_config(options) if hasattr(found, "from_config") else found(**options)


def get_object(identifier, table: Mapping[str, Callable], kind: str):
    """Resolve None, a name, a config dict, a class or a callable; raise ValueError otherwise."""
    if identifier is None or isinstance(identifier, (str, Mapping)):
        return deserialize_object(identifier, table, kind)
    if inspect.isclass(identifier):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(
        f"{kind}: expected None, a name, a config dict, a class or a callable, "
        f"received {identifier!r}"
    )
