"""ONNX Runtime and OpenVINO, inference on one graph."""

import numpy as np
import workloads
from onnx import TensorProto, helper, numpy_helper


def graph(workload):
    """The network as a serialized ONNX model with a free batch size. ONNX's LSTM puts time first
    and has the gates in the order i, o, f, c."""
    nodes, constants = [], []

    def constant(array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), f"c{len(constants)}"))
        return constants[-1].name

    def node(kind, *inputs, outputs=1, **attributes):
        names = [f"n{len(nodes)}_{i}" for i in range(outputs)]
        nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[-1]

    def gates(array):
        i, f, c, o = np.split(array, 4, axis=-1)
        return np.concatenate([i, o, f, c], axis=-1).T

    x = "x"
    if not workload.embedding:
        x = node("Transpose", x, perm=[1, 0, 2])
    for layer, weights in workload.parameters():
        match layer:
            case workloads.Embedding():
                x = node("Gather", constant(weights[0]), node("Transpose", x, perm=[1, 0]))
            case workloads.LSTM(units, sequences, bidirectional):
                parts = [weights[d : d + 3] for d in range(0, len(weights), 3)]
                kernel, recurrent_kernel = (
                    constant(np.stack([gates(part[i]) for part in parts])) for i in (0, 1)
                )
                biases = [gates(part[2]) for part in parts]
                bias = constant(np.stack([np.concatenate([b, 0 * b]) for b in biases]))
                direction = "bidirectional" if bidirectional else "forward"
                x = node(
                    "LSTM", x, kernel, recurrent_kernel, bias,
                    outputs=1 if sequences else 2, hidden_size=units, direction=direction,
                )  # fmt: skip
                x = node("Transpose", x, perm=[0, 2, 1, 3] if sequences else [1, 0, 2])
                shape = [0, 0, layer.width] if sequences else [0, layer.width]
                x = node("Reshape", x, constant(np.array(shape)))
            case workloads.Dense():
                if workload.sequences:
                    x = node("Transpose", x, perm=[1, 0, 2])
                x = node("Add", node("MatMul", x, constant(weights[0])), constant(weights[1]))
                if layer.activation:
                    x = node(layer.activation.capitalize(), x)
    steps = [workload.timesteps]
    kind = TensorProto.INT32 if workload.embedding else TensorProto.FLOAT
    inputs = ["batch", *steps] + ([] if workload.embedding else [workload.features])
    outputs = ["batch", *(steps if workload.sequences else []), workload.head.units]
    body = helper.make_graph(
        nodes,
        workload.name,
        [helper.make_tensor_value_info("x", kind, inputs)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, outputs)],
        constants,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


class Graph:
    def __init__(self, workload, threads):
        self.workload = workload
        x, _ = workload.data()
        self.batch, self.one_sample = x[: workload.batch], x[:1]
        self.load(graph(workload), threads)
