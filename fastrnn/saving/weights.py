"""Weights and optimizer state in the places where Keras 3 keeps them, in HDF5.

A .weights.h5 file, and the same within a .keras file: each layer's variables under
`layers/<class in snake case, numbered>/vars/0`, ..., the optimizer's under `optimizer/vars`.
"""

import contextlib
import warnings
from typing import NamedTuple

import numpy as np

from fastrnn.layers import GroupQueryAttention
from fastrnn.layers.base import Layer, own_class
from fastrnn.layers.names import users_attributes
from fastrnn.layers.recurrent import OneCell
from fastrnn.models import MODEL_KINDS, Model
from fastrnn.saving import hdf5_reader, hdf5_writer, self_test
from fastrnn.saving.guard import values_of
from fastrnn.tape import value_of
from fastrnn.utils import snake_case
from fastrnn.variable import Change, Variable

_BEFORE_2_14 = "_layer_checkpoint_dependencies"  # tf.keras 2.12 and 2.13 for "layers"

_INNER = (  # names of layers within others, in the order in which Keras tries them
    "forward_layer", "backward_layer", "layer", "cell", "query_dense", "key_dense", "value_dense",
    "output_dense", "_query_dense", "_key_dense", "_gate_dense", "_value_dense", "_output_dense",
    "_lookup_layer",
)  # fmt: skip

_OF_LAYERS = {"_input_layer", "_layer", "_layers", "_stages"}  # which hold layers of others

_CLASSES = {GroupQueryAttention: "GroupedQueryAttention"}  # as Keras calls them in itself


class Place(NamedTuple):
    """Where the weights of a layer itself are: the path of its group, its name there, its own
    weights, and the layer, None for what is no layer of fastrnn's."""

    path: str
    name: str
    variables: list[Variable]
    layer: Layer | None


def places(layer, path="", seen=None):
    """The Places of a layer and of all layers in it, of one that is met several times only once."""
    seen = set() if seen is None else seen
    if layer in seen:
        return
    seen.add(layer)
    if isinstance(layer, OneCell):
        builtin = type(layer._as_builtin()).__name__
        kind = snake_case(builtin).removesuffix("1d").removesuffix("2d")
        yield Place(f"{path}cell/", f"{layer.name}/{kind}_cell", layer.cell_variables, None)
    yield Place(path, layer.name, layer._filed_variables(), layer)
    for name, part in _parts(layer):
        if isinstance(part, Layer):
            yield from places(part, f"{path}{name}/", seen)
        elif isinstance(part, (list, tuple, dict)):
            yield from _places_in(part, f"{path}{name}/", seen, [])


def _places_in(container, path, seen, above):
    """Those in a list or dict, whose layers Keras names after their classes."""
    counts, above = {}, [*above, container]
    for part in container.values() if isinstance(container, dict) else container:
        inner = isinstance(part, (list, tuple, dict))
        if not inner and not isinstance(part, Layer):
            continue
        name = "container" if inner else _class_in_files(part)
        counts[name] = counts.get(name, -1) + 1
        name = f"{path}{name}_{counts[name]}/" if counts[name] else f"{path}{name}/"
        if not inner:
            yield from places(part, name, seen)
        elif not any(part is one for one in above):
            yield from _places_in(part, name, seen, above)


def _class_in_files(layer):
    users, cls = own_class(type(layer)), type(layer)
    name = users.__name__ if users else getattr(layer, "class_name", cls.__name__)
    return snake_case(_CLASSES.get(cls, name))


def _parts(layer):
    """(name, layer or container of layers) of what is in a layer, in the order in which Keras meets
    them: that of the names, those with _ at last; of models of a graph, layers first."""
    is_model = isinstance(layer, Model)
    if is_model:
        parts = {"layers": layer.layers}
    elif hasattr(layer, "cells"):
        parts = {"cells": layer.cells}
    else:
        inner = layer._as_builtin().sublayers
        parts = {next(n for n in _INNER if getattr(layer, n, None) is one): one for one in inner}
    users = own_class(type(layer))
    if users is None:
        return [*parts.items()]
    if isinstance(layer, MODEL_KINDS):
        first, parts = [*parts.items()], {}
    else:
        first = []
    for name in _names_of_user(layer):
        with contextlib.suppress(Exception):  # of a property
            parts.setdefault(name, getattr(layer, name))
    parts |= users_attributes(layer)
    return first + sorted(parts.items(), key=lambda part: (part[0].startswith("_"), part[0]))


def _names_of_user(layer):
    """The names of what a user's class, and nothing of fastrnn, gave a layer."""
    users, of_fastrnn = set(vars(layer)), set()
    for cls in type(layer).__mro__:
        (of_fastrnn if cls.__module__.startswith(("fastrnn.", "builtins")) else users).update(
            vars(cls)
        )
    return {name for name in users - of_fastrnn - _OF_LAYERS if not name.startswith("__")}


def write(model, include_optimizer=True, test=None) -> bytes:
    """The bytes of a .weights.h5 file. test: what self_test.make made."""
    file = hdf5_writer.Group()
    for path, name, variables, layer in places(model):
        group = file.create_group(f"{path}vars")
        group.attributes["name"] = name.rpartition("/")[2]
        if _says(layer, "save_own_variables"):
            store = {}
            layer.save_own_variables(store)
            for key, array in store.items():
                group[str(key)] = np.asarray(value_of(array))
            continue
        for i, variable in enumerate(variables):
            group[str(i)] = variable.value
        if layer is not None and layer.own_names:
            for i, array in layer.own_arrays().items():
                group[i] = array
    if include_optimizer and model.optimizer:
        group = file.create_group("optimizer/vars")
        group.attributes["name"] = model.optimizer.name
        for i, array in enumerate(model.optimizer.state().values()):
            group[str(i)] = array
    self_test.write(file, test)
    return file.to_bytes()


def _says(layer, method):
    """Has a user's class a method of its own in the place of that of all layers?"""
    return layer is not None and getattr(type(layer), method) is not getattr(Layer, method)


def read(model, root, skip_mismatch=False, optimizer=True, later=False) -> None:
    """Give a built model the weights of a .weights.h5 file, all or none, and the state of its
    optimizer, if it is compiled and the file has one.

    skip_mismatch: leave out, with a warning, the layers that the file has no fitting weights for.
    optimizer: whether its state is taken; later: see set_optimizer_state.
    """
    wanted = optimizer and model.optimizer is not None
    state = _numbered(root, "optimizer/vars") if wanted else None
    taken, misfits, own, kept = [], [], [], []
    for path, name, variables, layer in places(model):
        where = f"layer {name!r} (group {path}vars)"
        if layer is not None and layer.own_names:
            group = root.find(f"{path}vars")
            names = [] if group is None else [n for n in layer.own_names if n in group.links]
            arrays = {name: group.array(name) for name in names}
            misfit = layer.misfit(arrays)
            if misfit is None:
                kept.append((layer, arrays))
            else:
                misfits.append(f"{where}: {misfit}")
            continue
        if _says(layer, "load_own_variables"):
            group = root.find(f"{path}vars")
            own.append((where, layer, group))
            continue
        arrays = _numbered(root, f"{path}vars")
        if arrays is None:
            arrays = _numbered(root, f"{path}vars".replace("layers", _BEFORE_2_14))
        misfit = mismatch(where, variables, arrays or [])
        if misfit is None:
            taken += zip(variables, arrays or [], strict=True)
        else:
            if layer is not None and not layer.built and not variables:
                misfit += f"; {type(layer).__name__} is not built: its build, or that of the layer "
                misfit += "around it, has to make all weights, or say build_from_config"
            misfits.append(misfit)
    with Change([variable for variable, _ in taken]):
        assign(taken, misfits, skip_mismatch)
        for layer, arrays in kept:
            layer.load_own_arrays(arrays)
        for where, layer, group in own:
            names = () if group is None else group.links
            store = {name: group.array(name) for name in names}
            with values_of(where):
                layer.load_own_variables(store)
    if state is not None:
        set_optimizer_state(model, state, later)


def mismatch(where, variables, arrays) -> str | None:
    """What is wrong with these arrays for these variables, or None."""
    if len(arrays) != len(variables):
        return f"{where}: expected {len(variables)} weights, the file has {len(arrays)}"
    for variable, array in zip(variables, arrays, strict=True):
        if array.shape != variable.shape:
            hint, last = "", variable.shape[-1:]
            if {variable.shape, array.shape} == {(2, *last), last}:
                hint = f", that of a GRU with reset_after={len(array.shape) == 2}"
            return (
                f"{where}: expected shape {variable.shape} for {variable.path!r}, "
                f"the file has {array.shape}{hint}"
            )
    return None


def assign(taken, misfits, skip_mismatch) -> None:
    """Set the variables of (variable, array) pairs; complain of the misfits, or only warn."""
    if misfits and not skip_mismatch:
        raise ValueError(f"the file does not fit the model: {'; '.join(misfits)}")
    with Change([variable for variable, _ in taken]):
        for variable, array in taken:
            variable.assign(array)
    if misfits:
        warnings.warn(f"weights left as they were: {'; '.join(misfits)}", stacklevel=4)


def set_optimizer_state(model, arrays, later=False) -> None:
    """Set the optimizer's variables in Keras's order; warn, as Keras does, if they do not fit.

    later: warn only when the model is trained, which not everybody does who loads it."""
    optimizer = model.optimizer
    if len(arrays) > len(optimizer.state()):
        model._compiled.prepare(model)
        optimizer.bind(model._compiled.store)
    own = optimizer.state()
    misfit = _misfit_of_state(own, arrays)
    if misfit is None:
        optimizer.set_state(dict(zip(own, arrays, strict=True)))
        return
    notice = f"the optimizer {optimizer.name!r} starts anew, as its state in the file {misfit}"
    if later:
        model._compiled.notice = notice
    else:
        warnings.warn(notice, stacklevel=5)


def _misfit_of_state(own, arrays) -> str | None:
    if len(arrays) != len(own):
        return f"has {len(arrays)} variables instead of {len(own)}"
    for (name, value), array in zip(own.items(), arrays, strict=True):
        if array.shape != value.shape:
            return f"has shape {array.shape} for {name!r} instead of {value.shape}"
    return None if 0 <= arrays[0] < 2**62 else f"counts {arrays[0]} steps"


def _numbered(root, path) -> list[np.ndarray] | None:
    """The arrays 0, 1, ... of a group, or None if there is no such group."""
    group = root.find(path)
    return None if group is None else [group.array(str(i)) for i in range(len(group.links))]


def is_weights_file(root: hdf5_reader.Group) -> bool:
    """Has a file the weights where Keras 3 has them, and no names of layers as older ones?"""
    older = root.has_attribute("layer_names") or root.has_attribute("layer_names0")
    return not older and "model_weights" not in root and bool(root.links)
