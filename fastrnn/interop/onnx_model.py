"""ONNX graphs of Keras's layers, as a Model that can be trained.

Each value of the graph is taken to be what a layer puts out, its axes perhaps in another order;
each node gives another such value, or the layer that it is."""

import numpy as np

from fastrnn import layers as L
from fastrnn.interop import onnx_masks, onnx_readers  # noqa: F401  the nodes that are read
from fastrnn.interop.onnx_reading import SIZES, Reading, samples
from fastrnn.saving.guard import of_values


def to_model(graph):
    """The Model that computes what a Graph does. See Graph.to_model.

    The graph is read twice: at first, to see what is needed of each recurrent layer. Then both are
    run on random inputs, to see whether they agree."""
    needs = {}
    try:
        Reading(graph, needs, deciding=True, named=False).model()
        try:
            reading = Reading(graph, needs)
            model = reading.model()
        except ValueError:  # a name of the file is one of those that layers have got by themselves
            reading = Reading(graph, needs, named=False)
            model = reading.model()
        _compare(graph, model, reading)
    except Exception as error:
        if not of_values(error) or isinstance(error, ValueError):
            raise
        raise ValueError(f"graph: no layers do this: {error}") from error
    return model


def _compare(graph, model, reading):
    rng = np.random.default_rng(0)
    inner = [getattr(layer, "layer", layer) for layer in model.layers]
    below = min((la.input_dim for la in inner if isinstance(la, L.Embedding)), default=2)
    for sizes in SIZES:
        fed = samples(graph, sizes, rng, below, reading.indexed, reading.masked)
        wanted = graph(fed)  # first, as this is bounded
        wanted = wanted if isinstance(wanted, list) else [wanted]
        x = [*fed.values()]
        y = model.predict(x if len(x) > 1 else x[0], verbose=0)
        for one, other in zip(y if isinstance(y, list) else [y], wanted, strict=True):
            difference = abs(one - other).max() if one.shape == other.shape else np.inf
            if not difference <= 1e-4 * max(1, abs(other).max()):
                raise ValueError(f"graph: its layers are off by {difference:.3g}")
