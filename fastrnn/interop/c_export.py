"""Writing the file that the C library reads (csrc/model.c): `to_c`."""

import os
import struct
import zlib
from typing import NamedTuple

import numpy as np

from fastrnn import _engine, activations, layers
from fastrnn.layers.base import engine_activation
from fastrnn.layers.recurrent import Recurrent
from fastrnn.models import Functional, Model, Sequential
from fastrnn.saving.atomic import write_file

MAGIC, CHAIN, GRAPH = b"fastrnn\0", 1, 2
INDICES, SEQUENCES = 1, 2
KINDS = (
    "embedding", "masking", "recurrent", "bidirectional", "dense", "scale", "activation", "softmax",
    "layer_norm", "average_pool", "max_pool", "repeat", "flatten", "merge", "concatenate", "dot",
    "attention", "heads", "padding", "cropping", "up_sampling", "transpose", "reshape",
)  # fmt: skip
KEEP_MASKS = {
    "recurrent", "bidirectional", "dense", "scale", "activation", "softmax", "layer_norm",
    "attention", "heads",
}  # fmt: skip
KIND = {name: number for number, name in enumerate(KINDS, start=1)}
RETURN_SEQUENCES, BACKWARDS, ZERO_OUTPUT, BIAS = 1, 2, 4, 8
MERGES = ("concat", "sum", "mul", "ave", None)
MERGE_LAYERS = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
TIME, FEATURES = 0, 1


def to_c(model, path=None):
    """Write a model as the file that libfastrnn runs without Python (see csrc/fastrnn.h), and
    return its bytes; path None only returns them. For inference, in float32.

    Takes Embedding, Masking, recurrent layers, with the states that they get and give,
    Bidirectional, Dense, TimeDistributed, normalisation of the last axis, activations that the
    kernels have and softmax, global pooling, merging and attention layers, layers that shape, and
    what does nothing in inference. Errors: ValueError that names any other layer."""
    if not isinstance(model, Model):
        raise ValueError(
            f"model: expected a Sequential or Model(inputs, outputs), received {model!r}"
        )
    model.build()
    data = _chain(model) if _is_chain(model) else _graph(model)
    if path is not None:
        write_file(os.fspath(path), data)
    return data


def _is_chain(model):
    """Can the model go into a file of a chain?"""
    return isinstance(model, Sequential) and all(
        _is_chain(layer) if isinstance(layer, Model) else not _needs_graph(layer)
        for layer in model.layers
    )


def _needs_graph(layer):
    takes = getattr(_Calls, f"_{type(layer).__name__}", None) is not None
    known = isinstance(layer, Recurrent) or takes
    return known and (type(layer).__name__ in OF_GRAPHS or isinstance(layer.output_shape, list))


def _chain(model):
    shape, indices = model.input_shape, model.input_dtype == np.int32
    flags = _flags(shape, indices, f"the model takes {shape}")
    sequences = bool(flags & SEQUENCES)
    writer = _Writer(sequences, indices)
    writer.model(model, shape)
    declared = model._input_layer and model._input_layer.batch_input_shape
    timesteps = writer.timesteps or (declared[1] if declared and sequences else None)
    counts = len(writer.layers), flags, 1 if indices else shape[-1], timesteps or 0
    return _file(CHAIN, counts, writer.layers)


def _graph(model):
    calls = _Calls()
    single = isinstance(model, Sequential)
    inputs = [calls.input(tensor.shape) for tensor in model.inputs]
    outputs = calls.model(model, inputs)
    if single:
        names = [model.inputs[0].name], [model.layers[-1].name] * len(outputs)
    else:
        names = model._part_names, model.head_names
    parts = [calls.port(slot, name) for slot, name in zip(inputs, names[0], strict=True)]
    parts += calls.entries
    for slot, name in zip(outputs, names[1], strict=True):
        if slot in calls.indices:
            raise ValueError(f"to_c: output {name!r}: expected numbers, it is an input of indices")
        parts.append(struct.pack("<qq", slot.number, len(name.encode())) + _padded(name.encode()))
    counts = len(calls.layers), calls.count, len(inputs), len(outputs)
    return _file(GRAPH, counts, parts)


def _flags(shape, indices, received):
    """Those of an input of this shape."""
    rank = len(shape) + indices
    if rank not in (2, 3):
        raise ValueError(
            "to_c: expected inputs (batch, features) or (batch, timesteps, features), " + received
        )
    return INDICES * indices | SEQUENCES * (rank == 3)


def _file(form, counts, parts):
    body = struct.pack("<IIqq", *counts) + b"".join(parts)
    body = struct.pack("<Q", len(MAGIC) + 16 + len(body)) + body
    return MAGIC + struct.pack("<II", form, zlib.crc32(body)) + body


def _padded(entry):
    return entry + bytes(-len(entry) % 8)


def _record(kind, *numbers):
    return struct.pack("<8q", KIND[kind], *numbers, *[0] * (7 - len(numbers)))


def _floats(*arrays):
    return b"".join(np.ascontiguousarray(a, "<f4").tobytes() for a in arrays)


class _Writer:
    """The layers of a file in the making, of a chain."""

    def __init__(self, sequences, indices):
        self.layers = []
        self.indices = indices  # does the model take them?
        self.shape = None  # of the input of the layer that is written
        self.sequences = sequences  # does what comes next have time steps?
        self.masked = False
        self.repeated = False  # do these come from a RepeatVector?
        self.timesteps = None  # of the inputs, where a layer depends on their number

    def add(self, kind, *numbers, arrays=b""):
        self.append(kind, _padded(_record(kind, *numbers) + arrays))

    def append(self, kind, entry):
        self.layers.append(entry)

    def model(self, model, shape):
        for layer in model.layers:
            write = self.model if isinstance(layer, Sequential) else self.layer
            write(layer, shape)
            shape = layer.compute_output_shape(shape)

    def layer(self, layer, shape):
        write = self.writer_of(layer)
        if isinstance(layer.output_shape, list):
            self.refuse(layer, "several outputs are not supported")
        self.shape = shape
        write(layer)

    def writer_of(self, layer):
        name = type(layer).__name__
        write = getattr(self, f"_{name}", None)
        if isinstance(layer, Recurrent) and layer.cell:
            write = self._recurrent
        if write is None or layers.CLASSES.get(name) is not type(layer):
            self.refuse(layer, f"{name} is not among the layers of the C library")
        if getattr(layer, "stateful", False):
            self.refuse(
                layer, "stateful=True is not needed: the caller of the C library keeps the state"
            )
        return write

    def gets_indices(self):
        return self.indices and not self.layers

    def refuse(self, layer, reason):
        raise ValueError(f"to_c: layer {layer.name!r}: {reason}")

    def activation(self, layer, function):
        """The number of an activation for the kernels."""
        code = engine_activation(function)
        if code is None:
            self.refuse(
                layer,
                f"the activation {getattr(function, '__name__', function)!r} is not one of "
                f"{[*_engine.ACTIVATIONS, 'softmax']}",
            )
        return code

    # --- recurrent layers ---

    def directed(self, layer):
        flags = (
            RETURN_SEQUENCES * layer.return_sequences
            | BACKWARDS * layer.go_backwards
            | ZERO_OUTPUT * layer.zero_output_for_mask
            | BIAS * layer.use_bias
        )
        codes = (self.activation(layer, f) for f in (layer.activation, layer.recurrent_activation))
        numbers = _engine.CELLS[layer.cell], layer.units, *codes, flags
        return _record("recurrent", *numbers) + _floats(*(w.value for w in layer.weights))

    def check_stages(self, layer):
        if len(layer.stages) > 1 and layer.go_backwards and self.masked:
            self.refuse(layer, "several cells with go_backwards are not supported with a mask")

    def _recurrent(self, layer):
        self.check_stages(layer)
        for stage in layer.stages:
            self.append("recurrent", _padded(self.directed(stage)))
        self._after(layer.return_sequences)

    def _Bidirectional(self, layer):
        pair = [stage for inner in layer.sublayers for stage in inner.stages]
        if len(pair) > 2:
            self.refuse(layer, "expected one cell in each direction")
        arrays = b"".join(map(self.directed, pair))
        self.add("bidirectional", MERGES.index(layer.merge_mode), arrays=arrays)
        self._after(layer.return_sequences)

    def _after(self, sequences):
        self.sequences = sequences
        self.masked = self.masked and sequences

    # --- other layers ---

    def _Embedding(self, layer):
        if not self.gets_indices():
            self.refuse(layer, "expected indices that are an input of the model")
        table = _floats(layer.embeddings.value)
        self.add("embedding", *layer.embeddings.shape, layer.mask_zero, arrays=table)
        self.masked = layer.mask_zero

    def _Masking(self, layer):
        if not self.sequences:
            self.refuse(layer, "expected sequences")
        self.add("masking", arrays=_floats(layer.mask_value))
        self.masked = True

    def _Dense(self, layer):
        softmax = layer.activation is activations.softmax
        code = self.activation(layer, activations.linear if softmax else layer.activation)
        arrays = _floats(*(w.value for w in layer.weights))
        self.add("dense", layer.units, code, layer.use_bias, arrays=arrays)
        if softmax:
            self.add("softmax")

    def _TimeDistributed(self, layer):
        if not isinstance(layer.layer, EACH_STEP):
            self.refuse(layer, f"{type(layer.layer).__name__} at each time step is not supported")
        self.shape = (self.shape[0], *self.shape[2:])
        self.writer_of(layer.layer)(layer.layer)

    def _BatchNormalization(self, layer):
        if layer.axis not in (-1, len(self.shape) - 1):
            self.refuse(layer, f"expected axis -1, received {layer.axis}")
        self.add("scale", arrays=_floats(*layer.scale_and_offset()))

    def _Rescaling(self, layer):
        n = self.shape[-1]
        if None in (n, layer.input_shape[-1]):
            self.refuse(layer, "expected a fixed number of features")
        scale_and_offset = layer.scale_and_offset()
        if scale_and_offset is None:
            self.refuse(layer, "expected the same at each time step, numbers of the last axis")
        pair = (a if len(a) == n else np.broadcast_to(a[:1], n) for a in scale_and_offset)
        self.add("scale", arrays=_floats(*pair))

    def _Normalization(self, layer):
        self._Rescaling(layer)

    def _LayerNormalization(self, layer):
        rank = len(self.shape)
        if [axis % rank for axis in layer.fixed_axes] != [rank - 1]:
            self.refuse(layer, f"expected axis -1, received {layer.axis}")
        n = self.shape[-1]
        gamma = np.ones(n) if layer.gamma is None else layer.gamma.value
        beta = np.zeros(n) if layer.beta is None else layer.beta.value
        arrays = _floats(np.full(n, layer.epsilon), gamma, beta)
        self.add("layer_norm", layer.rms_scaling, arrays=arrays)

    def _Activation(self, layer):
        if layer.activation is activations.softmax:
            self.add("softmax")
        elif layer.activation is not activations.linear:
            self.add("activation", self.activation(layer, layer.activation))

    def _Softmax(self, layer):
        if layer.options["axis"] not in (-1, len(self.shape) - 1) or self.masked:
            self.refuse(layer, "expected axis -1 and no mask")
        self.add("softmax")

    def _ReLU(self, layer):
        if layer.options != {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}:
            self.refuse(layer, f"expected a plain ReLU, received {layer.options}")
        self.add("activation", _engine.ACTIVATIONS["relu"])

    def _GlobalAveragePooling1D(self, layer, kind="average_pool"):
        if layer.keepdims or layer.data_format == "channels_first":
            self.refuse(layer, "expected keepdims=False and channels last")
        self.add(kind)
        self._after(False)

    def _GlobalMaxPooling1D(self, layer):
        self._GlobalAveragePooling1D(layer, "max_pool")

    def _RepeatVector(self, layer):
        self.add("repeat", layer.n)
        self.sequences = self.repeated = True

    def _Flatten(self, layer):
        if not self.sequences:
            return
        if layer.data_format == "channels_first":
            self.refuse(layer, "expected channels last")
        timesteps = self.shape[1]
        if timesteps is None:
            self.refuse(layer, "expected a fixed number of time steps")
        self.add("flatten", timesteps)
        if not self.repeated:
            self.timesteps = timesteps
        self._after(False)

    def _nothing(self, layer):
        pass

    _Dropout = _SpatialDropout1D = _GaussianNoise = _GaussianDropout = _nothing
    _ActivityRegularization = _InputLayer = _Identity = _nothing


class _Slot(NamedTuple):
    """What a call gives: its number in the file, its shape, whether steps may be masked."""

    number: int
    shape: tuple
    masked: bool = False


class _Calls(_Writer):
    """The calls of a file in the making, and their layers, each with its first call. What a layer
    writes goes from `self.given`, the slots of the call, to `self.slots`."""

    def __init__(self):
        super().__init__(False, None)
        self.entries, self.count, self.next, self.inputs = [], 0, 0, 0
        self.layers = {}  # what is written of them -> their number
        self.indices, self.numbers = set(), set()  # slots that are read as such
        self.given, self.slots, self.shapes, self.options = [], [], [], {}

    def input(self, shape):
        slot = _Slot(self.next, tuple(shape))
        self.next = self.inputs = self.next + 1
        return slot

    def port(self, slot, name):
        """An input in the file, once all calls are known."""
        if slot in self.indices and slot in self.numbers:
            raise ValueError(f"to_c: input {name!r}: some layers read it as indices, others do not")
        indices, shape = slot in self.indices, slot.shape
        flags = _flags(shape, indices, f"input {name!r} is of shape {shape}")
        timesteps = shape[1] or 0 if flags & SEQUENCES else 0
        name = name.encode()
        head = struct.pack("<4q", flags, 1 if indices else shape[-1], timesteps, len(name))
        return head + _padded(name)

    def gets_indices(self):
        return self.given[0].number < self.inputs

    # --- models ---

    def model(self, model, slots):
        """The slots of a model's outputs."""
        if isinstance(model, Sequential):
            for layer in model.layers:
                slots = self.call(layer, slots, True, {})
            return slots
        graph, known = model._graph, {}
        known.update(zip(graph.inputs, slots, strict=True))
        for call in graph.calls:
            if call.training or call.masks:
                what = "training=True" if call.training else "mask="
                self.refuse(call.layer, f"a call with {what} is not supported")
            given = [known[slot] for slot in call.inputs]
            made = self.call(call.layer, given, call.single, call.options)
            known.update(zip(call.outputs, made, strict=True))
        return [known[slot] for slot in graph.outputs]

    def call(self, layer, given, single, options):
        """The slots of what a layer gives."""
        if isinstance(layer, (Sequential, Functional)):
            return self.model(layer, given)
        write = self.writer_of(layer)
        shapes = [slot.shape for slot in given]
        out = layer.compute_output_shape(shapes[0] if single else shapes, **options)
        self.shapes = out if isinstance(out, list) else [out]
        wrong = [shape for shape in self.shapes if len(shape) not in (2, 3)]
        if wrong and not (isinstance(layer, layers.Embedding) and len(shapes[0]) < 3):
            self.refuse(layer, f"outputs of shape {wrong[0]} are not supported")
        self.given = self.slots = given
        self.options = {k: v for k, v in options.items() if v is not None and v is not False}
        self.shape, self.sequences = shapes[0], len(shapes[0]) == 3
        self.masked = given[0].masked
        write(layer)
        if self.options:
            self.refuse(layer, f"a call with {sorted(self.options)} is not supported")
        return self.slots

    def append(self, kind, entry):
        options = 0
        if kind in ("attention", "heads"):
            options = int(self.options.pop("use_causal_mask", False))
        (self.indices if kind == "embedding" else self.numbers).update(self.slots)
        key = self.slots[0].shape[-1], entry
        known = key in self.layers
        number = self.layers.setdefault(key, len(self.layers))
        made = [_Slot(self.next + i, tuple(shape)) for i, shape in enumerate(self.shapes)]
        made[0] = made[0]._replace(masked=self._masked_after(kind))
        slots = [slot.number for slot in self.slots]
        head = struct.pack(f"<4q{len(slots)}q", number, options, len(slots), len(made), *slots)
        self.entries.append(head if known else head + entry)
        self.count += 1
        self.next += len(made)
        self.slots = made

    def _masked_after(self, kind):
        masked = [slot.masked for slot in self.slots]
        if len(self.shapes[0]) != 3:
            return False
        if kind == "merge":
            return all(masked)
        if kind == "concatenate":
            return any(masked) if self.axis == TIME else all(masked)
        if kind in ("masking", "embedding"):
            return kind == "masking" or self.mask_zero
        return masked[0] and kind in KEEP_MASKS

    # --- layers ---

    def _Embedding(self, layer):
        if layer.mask_zero and len(self.given[0].shape) == 1:
            self.refuse(layer, "mask_zero needs time steps")
        self.mask_zero = layer.mask_zero
        super()._Embedding(layer)

    def _recurrent(self, layer):
        self.check_stages(layer)
        shapes, last = self.shapes, layer.stages[-1]
        if last is not layer.stages[0] and len(self.given) + len(shapes) > 2:
            self.refuse(layer, "several cells with states are not supported")
        for stage in layer.stages:
            self.shapes = shapes if stage is last else [(*self.shape[:2], stage.units)]
            self.append("recurrent", _padded(self.directed(stage)))

    def _Merge(self, layer):
        self.add("merge", MERGE_LAYERS.index(type(layer).__name__))

    _Add = _Subtract = _Multiply = _Average = _Maximum = _Minimum = _Merge

    def axis_of(self, layer, axis, shape):
        """TIME or FEATURES."""
        axis %= len(shape)
        if axis == 0:
            self.refuse(layer, "expected another axis than the batch's")
        return FEATURES if axis == len(shape) - 1 else TIME

    def _Concatenate(self, layer):
        self.axis = self.axis_of(layer, layer.axis, self.shape)
        self.add("concatenate", self.axis)

    def _Dot(self, layer):
        pairs = zip(layer.both_axes, self.given, strict=True)
        axes = [self.axis_of(layer, axis, slot.shape) for axis, slot in pairs]
        self.add("dot", *axes, layer.normalize)

    def _Attention(self, layer):
        self.options.pop("return_attention_scores", None)  # there are two outputs
        sums, dim = layer.score_mode == "concat", self.shape[-1]
        if sums:
            if dim is None:
                self.refuse(layer, "expected a fixed number of features")
            inner, outer = layer._factors(dim)
            arrays = _floats(1 if inner is None else inner, outer)
        else:
            arrays = _floats(1 if layer.scale is None else layer.scale.value)
        self.add("attention", sums, arrays=arrays)

    _AdditiveAttention = _Attention

    def _MultiHeadAttention(self, layer):
        if layer.use_gate or len(self.given) > 3:
            self.refuse(layer, "use_gate and attention_mask are not supported")
        denses = layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense
        matrices = [dense.kernel.value.reshape(dense._matrix) for dense in denses]
        (heads, size), (values, _), (_, value_size) = [dense.sizes for dense in denses[:3]]
        window = layer.sliding_window or 0
        dims = struct.pack("<qq", len(matrices[1]), len(matrices[2]))
        parts = [dims]
        for dense, matrix in zip(denses, matrices, strict=True):
            record = _record("dense", matrix.shape[1], 0, dense.use_bias)
            bias = [dense.bias.value] if dense.use_bias else []
            parts.append(_padded(record + _floats(matrix, *bias)))
        numbers = heads, values, size, value_size, window, layer.dropout > 0
        self.add("heads", *numbers, arrays=b"".join(parts))

    _GroupQueryAttention = _MultiHeadAttention

    def _ZeroPadding1D(self, layer):
        if layer.data_format == "channels_first":
            self.refuse(layer, "expected channels last")
        self.add("padding", *layer.padding)

    def _Cropping1D(self, layer):
        self.add("cropping", *layer.cropping)

    def _UpSampling1D(self, layer):
        self.add("up_sampling", layer.size)

    def _Permute(self, layer):
        if layer.dims != (2, 1):
            self.refuse(layer, f"expected dims (2, 1), received {layer.dims}")
        self.add("transpose")

    def _Reshape(self, layer):
        (_, *sizes) = self.shapes[0]
        if None in sizes:
            self.refuse(layer, "expected fixed sizes")
        self.add("reshape", *[0] * (2 - len(sizes)), *sizes)


OF_GRAPHS = {
    *MERGE_LAYERS, "Concatenate", "Dot", "Attention", "AdditiveAttention", "MultiHeadAttention",
    "GroupQueryAttention", "ZeroPadding1D", "Cropping1D", "UpSampling1D", "Permute", "Reshape",
}  # fmt: skip

EACH_STEP = (
    layers.Dense, layers.Activation, layers.BatchNormalization, layers.LayerNormalization,
    layers.Dropout, layers.GaussianNoise, layers.GaussianDropout, layers.Identity,
    layers.Rescaling, layers.Normalization,
)  # fmt: skip
