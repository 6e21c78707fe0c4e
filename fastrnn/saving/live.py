"""A model of Keras in memory, as a model of fastrnn."""

import numpy as np

from fastrnn.layers.lookup import IndexLookup
from fastrnn.saving import config, legacy, legacy_h5, weights


def from_keras(model, custom_objects=None):
    """A fastrnn Sequential with the layers, weights and, if it is compiled by Keras 3, the
    optimizer's state of `model`, a built Sequential (or a Functional model that is a chain).

    custom_objects: name -> class or function, for names that fastrnn does not know. Raises
    ValueError, with the layer's name, for what cannot be represented.
    """
    if not (hasattr(model, "to_json") and hasattr(model, "layers") and hasattr(model, "weights")):
        raise ValueError(f"model: expected a model of Keras, received {type(model).__name__}")
    if not model.built:
        raise ValueError(f"model {model.name!r}: expected a built model, which has weights")
    described = config.parse(model.to_json(), "model.to_json()")
    loader = config.Loader(
        custom_objects, config.keras_version(described), elements=model.count_params()
    )
    twin = loader.model(described)
    taken, misfits = [], []
    holders = [layer for layer in model.layers if _weights(layer)]
    for layer, source in zip([la for la in twin.layers if la.weights], holders, strict=True):
        variables = legacy_h5.layer_weights(layer)
        arrays = [np.asarray(w.numpy()) for w in _weights(source)]
        arrays = legacy.update_weights(layer, arrays)
        misfit = weights.mismatch(f"layer {layer.name!r}", variables, arrays)
        taken += zip(variables, arrays, strict=True) if misfit is None else ()
        misfits += [misfit] if misfit else []
    weights.assign(taken, misfits, skip_mismatch=False)
    lookups = [layer for layer in config.within(twin) if isinstance(layer, IndexLookup)]
    for layer, source in zip(lookups, _lookups(model), strict=True):
        if layer.input_vocabulary is None:
            idf = getattr(source, "idf_weights_const", None)
            layer.take_whole(source.get_vocabulary(), None if idf is None else idf.numpy())
    compiled = described.get("compile_config")
    if compiled:
        if "optimizer" not in compiled and model.optimizer is not None:  # once saved to .h5
            name, options = type(model.optimizer).__name__, model.optimizer.get_config()
            compiled["optimizer"] = {"class_name": name, "config": options}
        loader.compile(twin, compiled)
        if twin.optimizer is not None:
            state = [np.asarray(v.numpy()) for v in model.optimizer.variables]
            weights.set_optimizer_state(twin, state)
    return twin


def _weights(layer):
    """Those of a layer of Keras, without the vocabularies that Keras 2 has among them."""
    return [w for w in legacy_h5.layer_weights(layer) if hasattr(w, "numpy")]


def _lookups(layer):
    """The layers of Keras in a layer that have vocabularies."""
    if hasattr(layer, "get_vocabulary"):
        return [getattr(layer, "_lookup_layer", layer)]
    return [found for inner in getattr(layer, "layers", ()) for found in _lookups(inner)]
