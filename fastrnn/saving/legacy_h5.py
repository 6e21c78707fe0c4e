"""The .h5 files of Keras 1, 2 and Keras 3's legacy writer: whole models, or their weights.

Attributes keras_version, model_config and training_config (JSON), groups model_weights and
optimizer_weights; a file of weights alone is what model_weights holds. Each layer has a group, the
attribute weight_names lists the arrays in it.
"""

import json

import numpy as np

from fastrnn.layers.lookup import vocabularies_in_configs
from fastrnn.saving import config, hdf5_reader, hdf5_writer, legacy, self_test, weights
from fastrnn.saving.keras_file import KERAS_VERSION

_ATTRIBUTE_BYTES = 64512  # HDF5 holds no more in one; longer lists are cut into name0, name1, ...


def write(model, include_optimizer=True, test=None) -> bytes:
    """The bytes of a whole model's .h5 file."""
    file = hdf5_writer.Group()
    with vocabularies_in_configs("all"):
        described = config.model_config(model)
    file.attributes["keras_version"] = KERAS_VERSION
    file.attributes["backend"] = "tensorflow"
    file.attributes["model_config"] = config.dumped(
        {
            key: described[key]
            for key in ("class_name", "config", "build_config")
            if key in described
        }
    )
    _write_weights(file.create_group("model_weights"), model)
    compiled = config.compile_config(model) if include_optimizer else None
    if compiled is not None and "optimizer" in compiled:
        optimizer = compiled.pop("optimizer")
        compiled["optimizer_config"] = {
            "class_name": optimizer["class_name"],
            "config": optimizer["config"],
        }
        for part in ("loss", "metrics", "weighted_metrics"):
            compiled[part] = _by_name(compiled[part])
        file.attributes["training_config"] = json.dumps(compiled)
        state = model.optimizer.state()
        state = {f"{model.optimizer.name}/{name}": array for name, array in state.items()}
        _write_arrays(file.create_group("optimizer_weights"), state)
    self_test.write(file, test)
    return file.to_bytes()


def write_weights(model) -> bytes:
    """The bytes of a .h5 file of weights alone."""
    file = hdf5_writer.Group()
    _write_weights(file, model)
    return file.to_bytes()


def _write_weights(group, model):
    _write_names(group, "layer_names", [layer.name for layer in model.layers])
    group.attributes["backend"] = "tensorflow"
    group.attributes["keras_version"] = KERAS_VERSION
    for layer in sorted(model.layers, key=lambda layer: layer.name):
        arrays = {f"{model.name}/{v.path}": v.value for v in layer_weights(layer)}
        if len(arrays) != len(layer_weights(layer)):
            arrays = {f"{model.name}/{i}": v.value for i, v in enumerate(layer_weights(layer))}
        _write_arrays(group.create_group(layer.name), arrays)
    _write_arrays(group.create_group("top_level_model_weights"), {})


def _write_arrays(group, arrays):
    _write_names(group, "weight_names", list(arrays))
    for name, array in arrays.items():
        group[name] = array


def _write_names(group, attribute, names):
    encoded = np.array([name.encode() for name in names], "S")
    in_one = max(1, _ATTRIBUTE_BYTES // encoded.itemsize)
    parts = max(1, -(-len(encoded) // in_one))
    for i, part in enumerate(np.array_split(encoded, parts)):
        group.attributes[attribute if parts == 1 else f"{attribute}{i}"] = part


def _by_name(entry):
    """Keras's older format names functions, where the newer one describes them."""
    if isinstance(entry, list):
        return [_by_name(part) for part in entry]
    if isinstance(entry, dict) and "class_name" not in entry:
        return {key: _by_name(part) for key, part in entry.items()}
    named = isinstance(entry, dict) and entry["class_name"] == "function"
    return entry["config"] if named else entry


def layer_weights(layer):
    """The weights of a layer of fastrnn or Keras, in the order of .h5 files."""
    return layer.trainable_weights + layer.non_trainable_weights


# --- reading ---


def read(data: bytes, custom_objects=None, compile=True):
    """The model in the bytes of a .h5 file."""
    root = hdf5_reader.File(data).root
    if not root.has_attribute("model_config"):
        raise ValueError(
            "expected a whole model in the .h5 file; this one holds weights alone, which "
            "load_weights of a model of the same layers reads"
        )
    described = config.parse(_text(root, "model_config"), "model_config")
    group = root.group("model_weights")
    version = described.get("keras_version", _version(root) or _version(group))
    loader = config.Loader(custom_objects, legacy.major_version(version), elements=len(data))
    model = loader.model(described)
    if model.built:
        read_weights(model, group)
    elif any(_names(group.group(name), "weight_names") for name in _names(group, "layer_names")):
        raise ValueError(
            f"model {model.name!r} ({type(model).__name__}): the file has weights, and not for "
            "which shapes the model is built, as Keras's .h5 files of such models; "
            "call a new model on data and use load_weights"
        )
    self_test.replay(model, root)
    if compile and root.has_attribute("training_config"):
        compiled = config.parse(_text(root, "training_config"), "training_config")
        loader.compile(model, legacy.update_compile_config(compiled))
        if model.built and "optimizer_weights" in root:
            group = root.group("optimizer_weights")
            arrays = _arrays(group)
            if loader.version < 3 and arrays:
                names = _names(group, "weight_names")
                shapes = [weight.shape for weight in model.trainable_weights]
                arrays = legacy.update_optimizer_weights(names, arrays, model.optimizer, shapes)
            if arrays:
                weights.set_optimizer_state(model, arrays, later=True)
    return model


def read_weights(model, group, skip_mismatch=False, by_name=False) -> None:
    """Give a built model the weights of a group (or file) of layers, all or none.

    by_name: by the names of the layers; default by their order, not counting those without
    weights. skip_mismatch: leave out, with a warning, the layers whose weights do not fit.
    """
    names = _names(group, "layer_names")
    saved = {name: _arrays(group.group(name)) for name in names}
    if len(saved) != len(names):
        raise ValueError("layer_names: expected each name once")
    if by_name:
        pairs = [(layer, saved[layer.name]) for layer in model.layers if layer.name in saved]
    else:
        holders = [layer for layer in model.layers if layer.weights]
        filled = [arrays for arrays in saved.values() if arrays]
        if len(holders) != len(filled):
            raise ValueError(
                f"expected {len(holders)} layers with weights, the file has {len(filled)}"
            )
        pairs = zip(holders, filled, strict=True)
    taken, misfits, version = [], [], _version(group)
    for layer, arrays in pairs:
        arrays = legacy.update_weights(layer, arrays, version)
        variables = layer_weights(layer)
        misfit = weights.mismatch(f"layer {layer.name!r}", variables, arrays)
        if misfit is None:
            taken += zip(variables, arrays, strict=True)
        else:
            misfits.append(misfit)
    weights.assign(taken, misfits, skip_mismatch)


def _arrays(group) -> list[np.ndarray]:
    return [group.array(name) for name in _names(group, "weight_names")]


def _names(group, attribute) -> list[str]:
    if group.has_attribute(f"{attribute}0"):
        names, i = [], 0
        while group.has_attribute(f"{attribute}{i}"):
            names += group.strings(f"{attribute}{i}")
            i += 1
        return names
    return group.strings(attribute)


def _text(group, attribute) -> str:
    values = group.strings(attribute)
    if len(values) != 1:
        raise ValueError(f"{attribute}: expected one string, received {len(values)}")
    return values[0]


def _version(group) -> str | None:
    return _text(group, "keras_version") if group.has_attribute("keras_version") else None
