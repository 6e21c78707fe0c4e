"""Reading ONNX files: `from_onnx`, and the graph that it returns."""

import os

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from fastrnn.interop.onnx_operators import DTYPES, OPERATORS, VIEWS, Budget, check
from fastrnn.interop.onnx_recurrent import GATES, Recurrent
from fastrnn.saving.guard import of_values, values_of

Formal = onnx.defs.OpSchema.FormalParameterOption
OLDEST_OPSET = 7  # before it, the operators broadcast in another way

# Which field of a TensorProto holds the numbers where raw_data does not.
FIELDS = {
    onnx.TensorProto.FLOAT: "float_data",
    onnx.TensorProto.DOUBLE: "double_data",
    onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.INT32: "int32_data",
    onnx.TensorProto.INT8: "int32_data",
    onnx.TensorProto.UINT8: "int32_data",
    onnx.TensorProto.BOOL: "int32_data",
}


def from_onnx(path, memory_limit=2**32):
    """A Graph from an .onnx file, or from its bytes.

    The operators are those of fastrnn.interop.onnx_operators and LSTM, GRU, RNN, in opset 7 or
    newer. memory_limit: bytes that one run may hold at once, beside the weights. A file is data:
    no code in it is run and no other file is opened (external data is refused).
    Errors: OSError if the file cannot be read; ValueError for what is not a sound ONNX file, and
    for an operator that is not supported, with the node's name."""
    if isinstance(path, (bytes, bytearray)):
        content = bytes(path)
    else:
        with open(os.fspath(path), "rb") as file:
            content = file.read()
    with values_of("path: not a sound ONNX file", value_errors=False):
        try:
            return Graph(onnx.ModelProto.FromString(content), memory_limit)
        except (DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"path: not a sound ONNX file: {error}") from error


class Graph:
    """An ONNX graph that can be run: LSTM, GRU and RNN on the fused engine, the rest in NumPy.

    inputs, outputs: lists of names; declared: input -> (dtype, shape or None), None where free.
    Several threads may call one Graph at once."""

    def __init__(self, model, memory_limit):
        self.memory_limit = memory_limit
        self.body = Body(model.graph, _opset(model))
        self.declared = {v.name: _declared(v) for v in self.body.declared}
        self.inputs, self.outputs = list(self.declared), self.body.outputs

    def __repr__(self):
        inputs = [
            f"{name} {np.dtype(dtype).name} {shape}"
            for name, (dtype, shape) in self.declared.items()
        ]
        return f"<Graph: {', '.join(inputs)} -> {', '.join(self.outputs)}>"

    def __call__(self, inputs):
        """The outputs, an array or a list of arrays, for an array, a list in the order of
        `inputs`, or a dict by name. Errors: ValueError for inputs that do not fit, and where a
        node cannot compute, with its name."""
        with np.errstate(all="ignore"):
            fed = self._feed(inputs)
            outputs = self.body.run(fed, Budget(self.memory_limit, fed.values()))
        outputs = [np.array(y, order="C") for y in outputs]
        return outputs if len(outputs) > 1 else outputs[0]

    predict = __call__

    def to_model(self):
        """A Model with the graph's weights and the names of its inputs, to be trained further or
        saved as a Keras file: several inputs and outputs, branches, states of recurrent layers,
        attention. Errors: ValueError where a node is none of Keras's layers, with its name; masks
        are not recognised."""
        from fastrnn.interop.onnx_model import to_model

        return to_model(self)

    def to_sequential(self):
        """A Sequential with the graph's weights, to be trained further or saved as a Keras file.
        Errors: ValueError where the graph is not a chain of Keras's layers, with the node's name
        where one is to blame; masks are not recognised."""
        from fastrnn.interop.onnx_sequential import to_sequential

        return to_sequential(self)

    def _feed(self, inputs):
        if not isinstance(inputs, dict):
            several = isinstance(inputs, (list, tuple)) and (
                len(self.inputs) != 1 or all(isinstance(x, np.ndarray) for x in inputs)
            )
            listed = list(inputs) if several else [inputs]
            if len(listed) != len(self.inputs):
                raise ValueError(
                    f"inputs: expected {len(self.inputs)} arrays ({', '.join(self.inputs)}), "
                    f"received {len(listed)}"
                )
            inputs = dict(zip(self.inputs, listed, strict=True))
        if set(inputs) != set(self.inputs):
            raise ValueError(f"inputs: expected {self.inputs}, received {sorted(inputs)}")
        return {name: _fitting(name, inputs[name], *self.declared[name]) for name in self.inputs}


class Body:
    """The nodes of a graph, or of a graph within a node; `around` are the names that the latter
    may use from outside, and `captured` those that it does use."""

    def __init__(self, graph, opset, around=frozenset()):
        if not graph.output:
            raise ValueError("path: not a sound ONNX file: a graph has no outputs")
        if graph.sparse_initializer:
            raise ValueError("sparse initializers are not supported")
        self.constants = {_text(t.name): read_tensor(t, t.name) for t in graph.initializer}
        if len(self.constants) < len(graph.initializer):
            raise ValueError("path: not a sound ONNX file: two initializers have one name")
        self.declared = [v for v in graph.input if v.name not in self.constants]
        self.inputs = [_text(v.name) for v in self.declared]
        self.outputs = [_text(v.name) for v in graph.output]
        own, used, self.nodes = {"", *self.constants, *self.inputs}, set(self.outputs), []
        for proto in graph.node:
            node = Node(proto, opset, own | around)
            unknown = [name for name in node.uses if name not in own | around]
            if unknown:
                raise ValueError(f"{node}: its inputs {unknown} come from no node before it")
            again = [name for name in node.outputs if name and name in own]
            if again:
                raise ValueError(f"{node}: its outputs {again} exist already")
            own.update(node.outputs)
            used.update(node.uses)
            if node.op == "Constant":
                self.constants[node.outputs[0]] = _constant(node)
            else:
                self.nodes.append(node)
        missing = [name for name in self.outputs if name not in own | around or not name]
        if missing:
            raise ValueError(f"graph: no node computes its outputs {missing}")
        self.captured = used - own
        needed = {*self.outputs, *self.constants, *self.inputs, *self.captured}
        for node in reversed(self.nodes):
            node.frees = {*node.uses, *node.outputs} - needed - {""}
            needed |= node.frees

    def run(self, values, budget):
        """The outputs for `values`, a dict of the inputs and what is captured."""
        values = {**values, **self.constants}
        before = budget.held
        for node in self.nodes:
            results = node.run(values, budget)
            if budget.loops:
                read = () if node.op in VIEWS else filter(None, node.inputs)
                size = sum(array.nbytes for array in (*results, *map(values.get, read)))
                budget.spend(1, size)
            for name, array in zip(node.outputs, results, strict=True):
                if name:
                    values[name] = array
                    budget.held += array.nbytes
            for name in node.frees:
                budget.held -= values.pop(name).nbytes
        budget.held = before
        return [values[name] for name in self.outputs]


class Node:
    """One node: what it computes, from and to which names, with which attributes."""

    def __init__(self, proto, opset, around):
        self.name, self.op = _text(proto.name), _text(proto.op_type)
        self.inputs = [_text(name) for name in proto.input]
        self.outputs = [_text(name) for name in proto.output]
        self.frees = []
        known = self.op in OPERATORS or self.op in GATES or self.op in ("Constant", "Loop")
        if proto.domain not in ("", "ai.onnx") or not known:
            domain = f" of domain {proto.domain!r}" if proto.domain else ""
            raise ValueError(f"{self}{domain}: this operator is not supported")
        try:
            schema = onnx.defs.get_schema(self.op, opset, "")
        except onnx.defs.SchemaError:
            raise ValueError(f"{self}: opset {opset} has no such operator") from None
        self.version = schema.since_version
        self._check_names(schema)
        self.attributes = self._read_attributes(proto, schema, opset, around)
        self.uses = {*self.inputs}
        if self.op == "Loop":
            self.uses |= self.attributes["body"].captured
        with values_of(str(self)):
            check(self)
            self._function = (
                Recurrent(self.op, self.attributes) if self.op in GATES else OPERATORS.get(self.op)
            )

    def __str__(self):
        return f"node {self.name or ', '.join(filter(None, self.outputs))!r} ({self.op})"

    def _check_names(self, schema):
        """Are there as many inputs and outputs as the operator has, and all that it needs?"""
        for n, formal in enumerate(schema.inputs):
            if formal.option == Formal.Single and not "".join(self.inputs[n : n + 1]):
                raise ValueError(f"{self}: needs the input {formal.name!r}")
        variadic = schema.inputs and schema.inputs[-1].option == Formal.Variadic
        if variadic and "" in self.inputs[len(schema.inputs) - 1 :]:
            raise ValueError(f"{self}: expected names of inputs, received {self.inputs}")
        if len(self.inputs) > schema.max_input or not 1 <= len(self.outputs) <= schema.max_output:
            raise ValueError(
                f"{self}: expected at most {schema.max_input} inputs and {schema.max_output} "
                f"outputs, received {len(self.inputs)} and {len(self.outputs)}"
            )

    def _read_attributes(self, proto, schema, opset, around):
        values = {
            name: onnx.helper.get_attribute_value(formal.default_value)
            for name, formal in schema.attributes.items()
            if formal.default_value.type
        }
        for attribute in proto.attribute:
            formal = schema.attributes.get(attribute.name)
            if formal is None or attribute.type != formal.type.value or attribute.ref_attr_name:
                raise ValueError(f"{self}: attribute {attribute.name!r} is not one of {self.op}")
            if attribute.type == onnx.AttributeProto.TENSOR:
                values[attribute.name] = read_tensor(attribute.t, f"{self}: {attribute.name}")
            elif attribute.type == onnx.AttributeProto.GRAPH:
                values[attribute.name] = Body(attribute.g, opset, around)
            else:
                values[attribute.name] = onnx.helper.get_attribute_value(attribute)
        for name, formal in schema.attributes.items():
            if formal.required and name not in values:
                raise ValueError(f"{self}: needs the attribute {name!r}")
        return values

    def run(self, values, budget):
        """The outputs, from a dict that has the inputs."""
        inputs = [values[name] if name else None for name in self.inputs]
        try:
            if self.op == "Loop":
                results = self._loop(values, budget, *inputs)
            elif isinstance(self._function, Recurrent):
                results = self._function(budget, *inputs)
            else:
                results = self._function(self, budget, *inputs)
            results = results if isinstance(results, list) else [results]
            if len(results) < len(self.outputs):
                raise ValueError(f"output {len(results)} is not supported")
        except Exception as error:
            if not of_values(error):
                raise
            raise ValueError(f"{self}: {error}") from error
        return [np.asarray(result) for result in results[: len(self.outputs)]]

    def _loop(self, values, budget, trips=None, go=None, *carried):
        """Runs the body while its first output is true: carried values, then what it gave at each
        time, stacked."""
        body = self.attributes["body"]
        if len(body.inputs) != len(carried) + 2 or len(body.outputs) <= len(carried):
            raise ValueError(f"body: expected {len(carried) + 2} inputs, received {body.inputs}")
        outer = {name: values[name] for name in body.captured}
        trips = np.inf if trips is None else int(trips.reshape(()))
        go = True if go is None else bool(go.reshape(()))
        collected = [[] for _ in body.outputs[len(carried) + 1 :]]
        count, before = 0, budget.held
        budget.loops += 1
        while go and count < trips:
            budget.spend(1)
            started = [np.array(count, np.int64), np.array(True), *carried]
            holding = sum(array.nbytes for array in carried)
            budget.held += holding
            go, *results = body.run(
                {**outer, **dict(zip(body.inputs, started, strict=True))}, budget
            )
            budget.held -= holding
            go, carried = bool(go.reshape(())), results[: len(carried)]
            for part, array in zip(collected, results[len(carried) :], strict=True):
                part.append(array)
                budget.held += array.nbytes
            count += 1
        budget.loops -= 1
        for part in collected:
            if not part:
                raise ValueError("the body ran not once, so that the shape of its outputs is open")
            budget.check((len(part), *part[0].shape), part[0].itemsize)
        budget.held = before
        return [*carried, *(np.stack(part) for part in collected)]


def _text(value):
    """A string of a file; protobuf gives bytes where they are not UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"path: not a sound ONNX file: the name {value!r} is not UTF-8")
    return value


def _opset(model):
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise ValueError(
            f"opset: expected one version from {OLDEST_OPSET} to {newest}, received {versions}"
        )
    return versions[0]


def _declared(value):
    """(dtype, shape) of an input, shape None or with None for what is free."""
    kind = value.type.tensor_type
    if kind.elem_type not in DTYPES:
        raise ValueError(f"input {value.name!r}: data type {kind.elem_type} is not supported")
    if not kind.HasField("shape"):
        return DTYPES[kind.elem_type], None
    return DTYPES[kind.elem_type], [d.dim_value or None for d in kind.shape.dim]


def _fitting(name, array, dtype, shape):
    array = np.asarray(array)
    if array.dtype.kind not in "biuf" or (dtype.kind == "b") != (array.dtype.kind == "b"):
        raise ValueError(f"input {name!r}: expected {dtype}, received {array.dtype}")
    if shape is not None and (
        len(shape) != array.ndim
        or any(s not in (None, given) for s, given in zip(shape, array.shape, strict=True))
    ):
        raise ValueError(f"input {name!r}: expected shape {tuple(shape)}, received {array.shape}")
    return np.ascontiguousarray(array, dtype).reshape(array.shape)


def _constant(node):
    if len(node.attributes) != 1:
        raise ValueError(f"{node}: expected one value, received {sorted(node.attributes)}")
    ((name, value),) = node.attributes.items()
    if name == "value":
        return value
    if name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    if name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    raise ValueError(f"{node}: {name} is not supported")


def read_tensor(tensor, name):
    """The array of a TensorProto. Its declared shape must be that of the numbers it holds.

    Errors: ValueError for external data, for a data type that is not supported, and where shape and
    numbers disagree or the numbers are there twice."""
    if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
        raise ValueError(f"tensor {name!r}: external data is not supported")
    dtype = DTYPES.get(tensor.data_type)
    if dtype is None or tensor.HasField("segment"):
        raise ValueError(f"tensor {name!r}: data type {tensor.data_type} is not supported")
    fields = [field.name for field, _ in tensor.ListFields() if field.name.endswith("_data")]
    count = 1
    for size in tensor.dims:
        if size < 0:
            raise ValueError(f"tensor {name!r}: shape {list(tensor.dims)} is not one")
        count *= size
    if fields == ["raw_data"]:
        raw = tensor.raw_data
        if len(raw) != count * dtype.itemsize:
            raise ValueError(
                f"tensor {name!r}: shape {list(tensor.dims)} needs {count * dtype.itemsize} "
                f"bytes, received {len(raw)}"
            )
        stored = np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("<")
        array = np.frombuffer(raw, stored).astype(dtype)
    else:
        field = FIELDS[tensor.data_type]
        if fields not in ([field], []):
            raise ValueError(f"tensor {name!r}: expected {field} or raw_data, received {fields}")
        numbers = getattr(tensor, field)
        if len(numbers) != count:
            raise ValueError(
                f"tensor {name!r}: shape {list(tensor.dims)} needs {count} numbers, received "
                f"{len(numbers)}"
            )
        array = np.array(numbers).astype(dtype)
    return array.reshape(tuple(tensor.dims))
