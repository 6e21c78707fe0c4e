"""ONNX Runtime and OpenVINO, inference on one graph."""

import networks
import numpy as np
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Nodes and constants of a graph. ONNX's LSTM puts time first and has the gates in the order
    i, o, f, c; arrays stay in that order of axes until something else wants the batch first."""

    def __init__(self):
        self.nodes, self.constants = [], []
        self.time_first = set()  # names of such arrays

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def node(self, kind, *inputs, outputs=1, **attributes):
        """The name of its first output, or the names of all where it has several."""
        names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def with_time(self, name, first, rank=3):
        """An array with its time steps, or its batch, on the first axis."""
        if (name in self.time_first) == first:
            return name
        turned = self.node("Transpose", name, perm=[1, 0, 2][:rank])
        if first:
            self.time_first.add(turned)
        return turned

    def add(self, layer, weights, inputs, ends):
        """The names of what a layer puts out. ends: is that the network's output?"""
        x = inputs[0]
        match layer:
            case networks.Embedding():
                turned = self.with_time(x, True, rank=2)
                vectors = self.node("Gather", self.constant(weights[0]), turned)
                self.time_first.add(vectors)
                return [vectors]
            case networks.LSTM():
                return self._lstm(layer, weights, self.with_time(x, True), inputs[1:])
            case networks.Dense():
                turned = x in self.time_first
                if ends and turned:
                    x, turned = self.with_time(x, False), False
                x = self.node("MatMul", x, self.constant(weights[0]))
                x = self.node("Add", x, self.constant(weights[1]))
                if layer.activation:
                    x = self.node(layer.activation.capitalize(), x)
                if turned:
                    self.time_first.add(x)
                return [x]
            case networks.Concatenate():
                turned = {name in self.time_first for name in inputs}
                parts = inputs
                if len(turned) > 1:
                    parts = [self.with_time(name, False) for name in inputs]
                x = self.node("Concat", *parts, axis=-1)
                if turned == {True}:
                    self.time_first.add(x)
                return [x]
            case networks.Attention():
                query, value = (self.with_time(name, False) for name in inputs)
                scores = self.node("MatMul", query, self.node("Transpose", value, perm=[0, 2, 1]))
                return [self.node("MatMul", self.node("Softmax", scores), value)]
            case networks.SoftmaxOverTime():
                return [self.node("Softmax", self.with_time(x, False), axis=1)]
            case networks.WeightedSum():
                share, values = (self.with_time(name, False) for name in inputs)
                share = self.node("Transpose", share, perm=[0, 2, 1])
                summed = self.node("MatMul", share, values)
                return [self.node("Squeeze", summed, self.constant(np.array([1])))]
        raise NotImplementedError(f"a network with {layer}")

    def _lstm(self, layer, weights, x, states):
        parts = [weights[d : d + 3] for d in range(0, len(weights), 3)]
        kernel, recurrent_kernel = (
            self.constant(np.stack([_gates(part[i]) for part in parts])) for i in (0, 1)
        )
        biases = [_gates(part[2]) for part in parts]
        bias = self.constant(np.stack([np.concatenate([b, 0 * b]) for b in biases]))
        directions = len(parts)
        first = self.constant(np.array([0]))
        starts = ["", *(self.node("Unsqueeze", state, first) for state in states)]
        sequence, h, c = self.node(
            "LSTM", x, kernel, recurrent_kernel, bias, *(starts if states else ()),
            outputs=3, hidden_size=layer.units,
            direction="bidirectional" if directions == 2 else "forward",
        )  # fmt: skip
        node = self.nodes[-1]
        if layer.sequences:
            y = self.node("Transpose", sequence, perm=[0, 2, 1, 3])
            y = self.node("Reshape", y, self.constant(np.array([0, 0, layer.width])))
            self.time_first.add(y)
        else:
            y = self.node("Transpose", h, perm=[1, 0, 2])
            y = self.node("Reshape", y, self.constant(np.array([0, layer.width])))
        if not layer.states:
            # outputs that nothing reads are left out
            del node.output[1 if layer.sequences else 2 :]
            if not layer.sequences:
                node.output[0] = ""
            return [y]
        ends = []
        for d in range(directions):
            for state in (h, c):
                one = self.node("Gather", state, self.constant(np.array(d)), axis=0)
                ends.append(one)
        return [y, *ends]


def _gates(array):
    i, f, c, o = np.split(array, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1).T


def graph(network):
    """The network as a serialized ONNX model with a free batch size."""
    builder, names = Builder(), {name: name for name in network.inputs}
    for node, weights in network.parameters():
        ends = any(name in network.outputs for name in node.outputs)
        outs = builder.add(node.layer, weights, [names[name] for name in node.inputs], ends)
        names.update(zip(node.outputs, outs, strict=True))
    inputs = [
        helper.make_tensor_value_info(
            name, TensorProto.INT32 if layer.indices else TensorProto.FLOAT, ["batch", *layer.sizes]
        )
        for name, layer in network.inputs.items()
    ]
    shapes = network.shapes()
    outputs = [
        helper.make_tensor_value_info(
            builder.with_time(names[name], False), TensorProto.FLOAT, ["batch", *shapes[name]]
        )
        for name in network.outputs
    ]
    body = helper.make_graph(builder.nodes, network.name, inputs, outputs, builder.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


class Graph:
    """A subclass has `load(model, shapes, threads)`: for each dict of shapes by input a function of
    a list of such arrays that gives a list."""

    def __init__(self, workload, threads):
        self.workload = workload
        if isinstance(workload, networks.Decoding):
            parts = workload.encoder, workload.decoder
            self.pair = [self._loaded(part, threads, [1])[0] for part in parts]
            return
        xs, _ = workload.data()
        self.batch, self.one_sample = ([x[:rows] for x in xs] for rows in (workload.batch, 1))
        self.calls = self._loaded(workload, threads, [workload.batch, 1])

    def _loaded(self, network, threads, batches):
        shapes = [
            {name: [batch, *layer.sizes] for name, layer in network.inputs.items()}
            for batch in batches
        ]
        return self.load(graph(network), shapes, threads)

    def predict(self):
        return self.calls[0](self.batch)

    def one(self):
        if isinstance(self.workload, networks.Decoding):
            return self.workload.greedy(*self.pair)
        return self.calls[1](self.one_sample)
