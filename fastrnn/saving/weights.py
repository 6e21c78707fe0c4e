"""Weights and optimizer state in the places where Keras 3 keeps them, in HDF5.

A .weights.h5 file, and the same within a .keras file: each layer's variables under
`layers/<class in snake case, numbered>/vars/0`, ..., the optimizer's under `optimizer/vars`.
"""

import warnings

import numpy as np

from fastrnn.layers import GroupQueryAttention, StackedRNNCells
from fastrnn.layers.recurrent import OneCell
from fastrnn.models import Model
from fastrnn.saving import hdf5_reader, hdf5_writer, self_test
from fastrnn.utils import snake_case
from fastrnn.variable import Change

_BEFORE_2_14 = "_layer_checkpoint_dependencies"  # tf.keras 2.12 and 2.13 for "layers"

_INNER = (  # names of layers within others, in the order in which Keras tries them
    "forward_layer", "backward_layer", "layer", "cell", "query_dense", "key_dense", "value_dense",
    "output_dense", "_query_dense", "_key_dense", "_gate_dense", "_value_dense", "_output_dense",
)  # fmt: skip

_CLASSES = {GroupQueryAttention: "GroupedQueryAttention"}  # as Keras calls them in itself


def places(layer, path="", seen=None):
    """(path of its group, its name, its own variables) of a layer and of all layers in it, of one
    that is met several times only once."""
    seen = set() if seen is None else seen
    if layer in seen:
        return
    seen.add(layer)
    own = layer._variables
    if isinstance(layer, OneCell):
        kind = snake_case(type(layer).__name__).removesuffix("1d").removesuffix("2d")
        yield f"{path}cell/", f"{layer.name}/{kind}_cell", own
        own = []
    yield path, layer.name, own
    counts = {}
    for inner in layer.sublayers:
        if isinstance(layer, (Model, StackedRNNCells)):
            name = snake_case(_CLASSES.get(type(inner), type(inner).__name__))
            counts[name] = counts.get(name, -1) + 1
            name = f"{name}_{counts[name]}" if counts[name] else name
            name = f"{'layers' if isinstance(layer, Model) else 'cells'}/{name}"
        else:
            name = next(n for n in _INNER if getattr(layer, n, None) is inner)
        yield from places(inner, f"{path}{name}/", seen)


def write(model, include_optimizer=True, test=None) -> bytes:
    """The bytes of a .weights.h5 file. test: what self_test.make made."""
    file = hdf5_writer.Group()
    for path, name, variables in places(model):
        group = file.create_group(f"{path}vars")
        group.attributes["name"] = name.rpartition("/")[2]
        for i, variable in enumerate(variables):
            group[str(i)] = variable.value
    if include_optimizer and model.optimizer:
        group = file.create_group("optimizer/vars")
        group.attributes["name"] = model.optimizer.name
        for i, array in enumerate(model.optimizer.state().values()):
            group[str(i)] = array
    self_test.write(file, test)
    return file.to_bytes()


def read(model, root, skip_mismatch=False, optimizer=True, later=False) -> None:
    """Give a built model the weights of a .weights.h5 file, all or none, and the state of its
    optimizer, if it is compiled and the file has one.

    skip_mismatch: leave out, with a warning, the layers that the file has no fitting weights for.
    optimizer: whether its state is taken; later: see set_optimizer_state.
    """
    wanted = optimizer and model.optimizer is not None
    state = _numbered(root, "optimizer/vars") if wanted else None
    taken, misfits = [], []
    for path, name, variables in places(model):
        arrays = _numbered(root, f"{path}vars")
        if arrays is None:
            arrays = _numbered(root, f"{path}vars".replace("layers", _BEFORE_2_14))
        misfit = mismatch(f"layer {name!r} (group {path}vars)", variables, arrays or [])
        if misfit is None:
            taken += zip(variables, arrays or [], strict=True)
        else:
            misfits.append(misfit)
    assign(taken, misfits, skip_mismatch)
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
        optimizer.build(model._compiled.store)
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
    return "layers" in root or _BEFORE_2_14 in root
