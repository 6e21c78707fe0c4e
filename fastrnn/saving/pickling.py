"""Models in pickles and copies: as config, weights and optimizer state, without a file."""

import inspect
import warnings

from fastrnn.layers.base import own_class
from fastrnn.layers.lookup import IndexLookup
from fastrnn.saving import assets, config, weights
from fastrnn.variable import unchanging


def reduce(model):
    """What `Sequential.__reduce__` returns. Raises ValueError for what has no name to be saved
    under, such as a lambda."""
    described, compiled = config.model_config(model), config.compile_config(model)
    with unchanging():
        state = model.optimizer.state() if compiled and model.optimizer else {}
        arrays = model.get_weights()
    found = [layer.kept() for layer in _lookups(model)]
    own, files = own_objects(model), assets.files(model)
    return restore, (described, own, arrays, compiled, list(state.values()), found, files)


def restore(described, own, arrays, compiled, state, vocabularies=(), files=None):
    """The model of `reduce`."""
    loader = config.Loader(own, elements=sum(array.size for array in arrays))
    model = loader.model(described)
    if model.built:
        model.set_weights(arrays)
    for layer, vocabulary in zip(_lookups(model), vocabularies, strict=False):
        layer.restore(*vocabulary)
    if files is not None:
        assets.give(model, files, files.__getitem__)
    if compiled is not None:
        loader.compile(model, compiled)
    if state:
        weights.set_optimizer_state(model, state)
    return model


def _lookups(model):
    return [layer for layer in config.within(model) if isinstance(layer, IndexLookup)]


def compile_as(clone, model):
    """Compile a model as another is, with objects of its own, where these can be made again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = config.compile_config(model)
    if compiled is not None:
        config.Loader(own_objects(model)).compile(clone, compiled)


def own_objects(model):
    """name -> the user's own classes and functions in a model, which a pickle only refers to."""
    found = {}

    def look(thing, depth):
        kind = thing if inspect.isfunction(thing) else own_class(type(thing)) or type(thing)
        saved = kind is thing or hasattr(thing, "get_config")
        if saved and kind.__module__.partition(".")[0] != "fastrnn":
            found[kind.__name__] = kind
        if depth and kind is not thing:
            for part in getattr(thing, "__dict__", {}).values():
                look(part, depth - 1)

    for layer in config.within(model):
        look(layer, 2)  # its activation; the initializer within the options of a weight
    if model._compiled is not None:
        look(model.optimizer, 1)
        for head in getattr(model._compiled, "heads", [model._compiled]):
            for part in (head.loss, *(metric for metric, _ in head.metrics)):
                look(part, 1)
    return found
