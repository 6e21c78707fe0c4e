"""ONNX graphs of Keras's layers, as a Model that can be trained.

Each value of the graph is taken to be what a layer puts out, its axes perhaps in another order;
each node gives another such value, or the layer that it is."""

from fastrnn import layers as L
from fastrnn.interop import onnx_masks, onnx_readers  # noqa: F401  the nodes that are read
from fastrnn.interop.onnx_reading import Reading, compare
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
        layers = [getattr(layer, "layer", layer) for layer in model.layers]
        below = min((la.input_dim for la in layers if isinstance(la, L.Embedding)), default=2)
        compare(graph, model, below, reading.indexed, reading.masked)
    except Exception as error:
        if not of_values(error) or isinstance(error, ValueError):
            raise
        raise ValueError(f"graph: no layers do this: {error}") from error
    return model
