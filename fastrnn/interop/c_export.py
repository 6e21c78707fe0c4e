"""Writing the file that the C library reads (csrc/model.c): `to_c`."""

import os
import struct
import zlib

import numpy as np

from fastrnn import _engine, activations, layers
from fastrnn.layers.base import engine_activation
from fastrnn.layers.recurrent import Recurrent
from fastrnn.models import Sequential
from fastrnn.saving.atomic import write_file

MAGIC, FORMAT = b"fastrnn\0", 1
INDICES, SEQUENCES = 1, 2
KINDS = (
    "embedding", "masking", "recurrent", "bidirectional", "dense", "scale", "activation", "softmax",
    "layer_norm", "average_pool", "max_pool", "repeat", "flatten",
)  # fmt: skip
KIND = {name: number for number, name in enumerate(KINDS, start=1)}
RETURN_SEQUENCES, BACKWARDS, ZERO_OUTPUT, BIAS = 1, 2, 4, 8
MERGES = ("concat", "sum", "mul", "ave")


def to_c(model, path=None):
    """Write a Sequential as the file that libfastrnn runs without Python (see csrc/fastrnn.h), and
    return its bytes; path None only returns them. For inference, in float32.

    Takes Embedding, Masking, recurrent layers, Bidirectional, Dense, TimeDistributed, normalisation
    of the last axis, activations that the kernels have and softmax, global pooling, RepeatVector,
    Flatten, and what does nothing in inference. Errors: ValueError that names any other layer."""
    if not isinstance(model, Sequential):
        raise ValueError(f"model: expected a Sequential, received {model!r}")
    model.build()
    shape = model.input_shape
    indices = model.input_dtype == np.int32
    rank = len(shape) + indices
    if rank not in (2, 3):
        raise ValueError(
            "to_c: expected inputs (batch, features) or (batch, timesteps, features), the model "
            f"takes {shape}"
        )
    writer = _Writer(rank == 3)
    writer.model(model)
    declared = model._input_layer and model._input_layer.batch_input_shape
    timesteps = writer.timesteps or (declared[1] if declared and rank == 3 else None)
    body = struct.pack(
        "<IIqq",
        len(writer.layers),
        INDICES * indices | SEQUENCES * (rank == 3),
        1 if indices else shape[-1],
        timesteps or 0,
    )
    body += b"".join(writer.layers)
    body = struct.pack("<Q", len(MAGIC) + 16 + len(body)) + body
    data = MAGIC + struct.pack("<II", FORMAT, zlib.crc32(body)) + body
    if path is not None:
        write_file(os.fspath(path), data)
    return data


def _record(kind, *numbers):
    return struct.pack("<8q", KIND[kind], *numbers, *[0] * (7 - len(numbers)))


def _floats(*arrays):
    return b"".join(np.ascontiguousarray(a, "<f4").tobytes() for a in arrays)


class _Writer:
    """The layers of a file in the making."""

    def __init__(self, sequences):
        self.layers = []
        self.sequences = sequences  # does what comes next have time steps?
        self.masked = False
        self.repeated = False  # do these come from a RepeatVector?
        self.timesteps = None  # of the inputs, where a layer depends on their number

    def add(self, kind, *numbers, arrays=b""):
        self.append(_record(kind, *numbers) + arrays)

    def append(self, entry):
        self.layers.append(entry + bytes(-len(entry) % 8))

    def model(self, model):
        for layer in model.layers:
            if isinstance(layer, Sequential):
                self.model(layer)
            else:
                self.layer(layer)

    def layer(self, layer):
        name = type(layer).__name__
        write = getattr(self, f"_{name}", None)
        if isinstance(layer, Recurrent) and layer.cell:
            write = self._recurrent
        if write is None or layers.CLASSES.get(name) is not type(layer):
            self.refuse(layer, f"{name} is not among the layers of the C library")
        if isinstance(layer.output_shape, list):
            self.refuse(layer, "several outputs are not supported")
        if getattr(layer, "stateful", False):
            self.refuse(
                layer, "stateful=True is not needed: the caller of the C library keeps the state"
            )
        write(layer)

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

    def _recurrent(self, layer):
        if len(layer.stages) > 1 and layer.go_backwards and self.masked:
            self.refuse(layer, "several cells with go_backwards are not supported with a mask")
        for stage in layer.stages:
            self.append(self.directed(stage))
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
        self.layer(layer.layer)

    def _BatchNormalization(self, layer):
        if layer.axis not in (-1, len(layer.input_shape) - 1):
            self.refuse(layer, f"expected axis -1, received {layer.axis}")
        self.add("scale", arrays=_floats(*layer.scale_and_offset()))

    def _Rescaling(self, layer):
        scale_and_offset = layer.scale_and_offset()
        if scale_and_offset is None:
            self.refuse(layer, "expected the same at each time step, numbers of the last axis")
        self.add("scale", arrays=_floats(*scale_and_offset))

    def _Normalization(self, layer):
        self._Rescaling(layer)

    def _LayerNormalization(self, layer):
        rank = len(layer.input_shape)
        if [axis % rank for axis in layer.fixed_axes] != [rank - 1]:
            self.refuse(layer, f"expected axis -1, received {layer.axis}")
        n = layer.input_shape[-1]
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
        if layer.options["axis"] not in (-1, len(layer.input_shape) - 1) or self.masked:
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
        timesteps = layer.input_shape[1]
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


EACH_STEP = (
    layers.Dense, layers.Activation, layers.BatchNormalization, layers.LayerNormalization,
    layers.Dropout, layers.GaussianNoise, layers.GaussianDropout, layers.Identity,
    layers.Rescaling, layers.Normalization,
)  # fmt: skip
