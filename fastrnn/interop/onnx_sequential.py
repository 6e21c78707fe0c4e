"""ONNX graphs that are a chain of Keras's layers, as a Sequential that can be trained."""

from fastrnn import layers as L
from fastrnn.interop.onnx_operators import Budget
from fastrnn.interop.onnx_reading import compare
from fastrnn.interop.onnx_recurrent import GATES, Recurrent
from fastrnn.models import Sequential
from fastrnn.saving.guard import of_values

# What moves numbers about between the layers.
LAYOUT = """
    Cast Concat Dropout Expand Flatten Gather Identity Reshape Slice Squeeze Transpose Unsqueeze
""".split()

# What Keras's Embedding does with indices below 0.
INDICES = "Add Less Mul Not Where".split()

# ONNX's activations: Keras's names, and the attributes that make the two the same function.
ACTIVATIONS = {
    "Celu": ("celu", {"alpha": 1.0}),
    "Elu": ("elu", {"alpha": 1.0}),
    "Gelu": ("gelu", {"approximate": b"none"}),
    "HardSwish": ("hard_silu", {}),
    "LogSoftmax": ("log_softmax", {}),
    "Mish": ("mish", {}),
    "Relu": ("relu", {}),
    "Selu": ("selu", {}),
    "Sigmoid": ("sigmoid", {}),
    "Softmax": ("softmax", {}),
    "Softplus": ("softplus", {}),
    "Softsign": ("softsign", {}),
    "Tanh": ("tanh", {}),
}


def to_sequential(graph):
    """The Sequential that computes what a Graph does. See Graph.to_sequential.

    The nodes with weights and the activations are taken to be a chain, and both are run on random
    inputs, to see whether they are."""
    errors = []
    for return_sequences in (False, True):  # of the last recurrent layer: no attribute says it
        try:
            return _chain(graph, return_sequences)
        except Exception as error:
            if not of_values(error):
                raise
            errors.append(str(error))
    raise ValueError(
        f"{'; or '.join(dict.fromkeys(errors))}. Only a chain of Embedding, LSTM, GRU, SimpleRNN, "
        "Bidirectional, Dense, BatchNormalization, LayerNormalization and activations becomes a "
        "Sequential; predict runs other graphs too"
    )


def _chain(graph, return_sequences):
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            f"graph: expected one input and one output, received {graph.inputs}, {graph.outputs}"
        )
    ((_, shape),) = graph.declared.values()
    if not shape:
        raise ValueError("graph: expected an input of known rank")
    layers, weights = zip(*_layers(graph, return_sequences), strict=True)
    model = Sequential([L.Input(tuple(shape[1:])), *layers])
    for layer, arrays in zip(layers, weights, strict=True):
        layer.set_weights(arrays)
    of_indices = isinstance(layers[0], L.Embedding)
    below, indexed = (layers[0].input_dim, graph.inputs) if of_indices else (2, ())
    compare(graph, model, below, indexed, layers="layers in a chain")
    return model


def _layers(graph, return_sequences):
    """Pairs of a layer and its weights, in the order of the nodes."""
    body, budget = graph.body, Budget(graph.memory_limit)
    constants, made, of_shapes = dict(body.constants), [], set()
    recurrent = [node for node in body.nodes if node.op in GATES]
    for node in body.nodes:
        if node.op != "Loop" and all(name in constants for name in node.inputs if name):
            outputs = node.run(constants, budget)
            constants.update(zip(node.outputs, outputs, strict=True))
            continue
        if node.op == "Shape" or {*node.inputs} - {*constants, ""} <= of_shapes:
            of_shapes.update(node.outputs)  # not of the numbers of the input
            continue
        inputs = [constants.get(name) for name in node.inputs]
        known = [n for n, array in enumerate(inputs) if array is not None]
        if node.op in GATES:
            last = node is recurrent[-1]
            made.append(_recurrent(node, inputs, return_sequences or not last))
        elif node.op == "Gather" and known == [0] and inputs[0].ndim == 2:
            made.append((L.Embedding(*inputs[0].shape), inputs[:1]))
        elif node.op in LAYOUT or (not made and node.op in INDICES):
            continue
        elif node.op in ("MatMul", "Gemm") and known in ([1], [1, 2]) and inputs[1].ndim == 2:
            made.append(_dense(node, *inputs[1:]))
        elif node.op == "Add" and len(known) == 1 and _lacks_bias(made):
            kernel = made[-1][1][0]
            made[-1] = L.Dense(kernel.shape[1]), [kernel, inputs[known[0]].reshape(-1)]
        elif node.op == "BatchNormalization" and known == [1, 2, 3, 4]:
            options = {name: node.attributes[name] for name in ("momentum", "epsilon")}
            made.append((L.BatchNormalization(**options), inputs[1:]))
        elif node.op == "LayerNormalization" and known in ([1], [1, 2]):
            options = {"epsilon": node.attributes["epsilon"], "center": len(known) == 2}
            made.append((L.LayerNormalization(**options), [inputs[n] for n in known]))
        else:
            made.append((_activation(node), []))
    if not made:
        raise ValueError("graph: has no layers")
    return made


def _recurrent(node, inputs, return_sequences):
    w, r, b = (*inputs[1:4], None)[:3]
    if w is None or r is None or (b is None and "".join(node.inputs[3:4])):
        raise ValueError(f"{node}: its weights are computed from the input")
    try:
        layer = Recurrent(node.op, node.attributes).keras_layer(w, r, b, return_sequences)
    except ValueError as error:
        raise ValueError(f"{node}: {error}") from error
    return layer, layer.get_weights()


def _dense(node, kernel, bias=None):
    if node.op == "Gemm":
        if node.attributes["transA"]:
            raise ValueError(f"{node}: transA is not supported")
        kernel = node.attributes["alpha"] * (kernel.T if node.attributes["transB"] else kernel)
        bias = None if bias is None else node.attributes["beta"] * bias.reshape(-1)
    arrays = [kernel] if bias is None else [kernel, bias]
    return L.Dense(kernel.shape[1], use_bias=len(arrays) == 2), arrays


def _lacks_bias(made):
    return bool(made) and isinstance(made[-1][0], L.Dense) and not made[-1][0].use_bias


def _activation(node):
    if node.op == "LeakyRelu":
        return L.LeakyReLU(node.attributes["alpha"])
    name, options = ACTIVATIONS.get(node.op, (None, {}))
    if name is None or any(node.attributes[key] != value for key, value in options.items()):
        raise ValueError(f"{node}: no layer does this")
    return L.Activation(name)
