"""The calls of a model's layers, for what writes it in other forms."""

from fastrnn.graph import Graph
from fastrnn.layers.core import InputLayer
from fastrnn.layers.symbolic import source
from fastrnn.models import Functional


def graph_of(model):
    """The Graph of a built model; what it has as inputs is not made part of the model."""
    if isinstance(model, Functional):
        return Graph(model.inputs, model.outputs)
    layer = InputLayer(batch_shape=model.input_shape, name="input")
    start = tensor = source(layer, model.input_shape)
    for layer in model.layers:
        tensor = layer(tensor)
    return Graph([start], tensor if isinstance(tensor, list) else [tensor])
