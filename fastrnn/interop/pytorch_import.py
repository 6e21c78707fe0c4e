"""From PyTorch's modules and state dicts: `from_torch`. Only modules need PyTorch itself."""

import os
import warnings

import numpy as np

from fastrnn import layers as L
from fastrnn.arrays import check_range
from fastrnn.interop.onnx_recurrent import LAYERS, reorder
from fastrnn.models import Sequential
from fastrnn.saving import tensors

# PyTorch's activation modules: Keras's name, and the arguments that make the two the same function.
ACTIVATIONS = {
    "CELU": ("celu", {"alpha": 1.0}),
    "GELU": ("gelu", {"approximate": "none"}),
    "Hardshrink": ("hard_shrink", {"lambd": 0.5}),
    "Hardsigmoid": ("hard_sigmoid", {}),
    "Hardswish": ("hard_silu", {}),
    "Hardtanh": ("hard_tanh", {"min_val": -1.0, "max_val": 1.0}),
    "LogSigmoid": ("log_sigmoid", {}),
    "LogSoftmax": ("log_softmax", {"dim": -1}),
    "Mish": ("mish", {}),
    "ReLU": ("relu", {}),
    "ReLU6": ("relu6", {}),
    "SELU": ("selu", {}),
    "SiLU": ("silu", {}),
    "Sigmoid": ("sigmoid", {}),
    "Softmax": ("softmax", {"dim": -1}),
    "Softplus": ("softplus", {"beta": 1.0, "threshold": 20.0}),
    "Softshrink": ("soft_shrink", {"lambd": 0.5}),
    "Softsign": ("softsign", {}),
    "Tanh": ("tanh", {}),
    "Tanhshrink": ("tanh_shrink", {}),
}

# Layers with weights, and what PyTorch calls them.
KINDS = {
    "Dense": "Linear", "Embedding": "Embedding", "GRU": "GRU", "LSTM": "LSTM", "SimpleRNN": "RNN",
    "BatchNormalization": "BatchNorm1d", "LayerNormalization": "LayerNorm",
    "RMSNormalization": "RMSNorm",
}  # fmt: skip

# PyTorch's gates as indices into Keras's and the other way round: GRU r, z, n and z, r, h.
ORDERS = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}


def from_torch(module, layers=None, return_sequences=True, strict=True):
    """A Sequential with the weights of PyTorch's modules.

    module: an nn.Sequential, nn.LSTM, nn.GRU, nn.RNN, nn.Embedding, nn.Linear, nn.BatchNorm1d,
    nn.LayerNorm, nn.RMSNorm, nn.Dropout, nn.Flatten, nn.Identity or activation; or a state dict (of
    tensors or arrays); or the path of a .safetensors file. The last two need `layers`, what the
    network does in turn: pairs of a prefix and one of "LSTM", "GRU", "RNN", "Embedding", "Linear",
    "BatchNorm1d", "LayerNorm", "RMSNorm", such as ("rnn", "LSTM") for rnn.weight_ih_l0 and so on;
    and fastrnn's layers without weights. A recurrent module passes its output sequence on; with
    return_sequences=False the last one passes on its last states instead. That is y[:, -1] of what
    PyTorch's module returns, except where it is bidirectional: there it is torch.cat([h_n[-2],
    h_n[-1]], -1), and for y[:, -1] keep the sequences and take the last time step of what the model
    predicts, predict(x)[:, -1]. strict=False leaves out weights that no layer takes. The model
    takes the batch first, whatever batch_first was. Errors: ValueError for a module that is not one
    of these or does what Keras's layers do not, and for weights missing, left over or of the wrong
    shape."""
    if isinstance(module, (str, os.PathLike)):
        module = _read_safetensors(os.fspath(module))
    if hasattr(module, "state_dict"):
        if layers is not None:
            raise ValueError("layers: expected None, as the module itself says what it does")
        state, entries = module.state_dict(), list(_entries(module, ""))
    elif isinstance(module, dict):
        _check_state_dict(module)
        if layers is None:
            raise ValueError('layers: expected a list such as [("rnn", "LSTM"), ("fc", "Linear")]')
        state, entries = module, [_checked(entry) for entry in layers]
    else:
        raise ValueError(f"module: expected a module or a state dict, received {module!r}")
    weights = Weights(state)
    recurrent = [n for n, entry in enumerate(entries) if _kind(entry) in ORDERS]
    made = []
    for n, entry in enumerate(entries):
        if isinstance(entry, L.Layer):
            made.append(entry)
            continue
        prefix, kind, options = entry
        if n in recurrent:
            sequences = return_sequences or n != recurrent[-1]
            if not sequences and weights.has(prefix, "weight_ih_l0_reverse"):
                warnings.warn(
                    "return_sequences=False passes on both last states of the bidirectional "
                    f"{kind} {prefix!r}, torch.cat([h_n[-2], h_n[-1]], -1), which differs from its "
                    "y[:, -1]; for that, keep the sequences and take predict(x)[:, -1]",
                    stacklevel=3,
                )
            made += _recurrent(weights, prefix, kind, return_sequences=sequences, **options)
        else:
            made.append(READERS[kind](weights, prefix, **options))
    if weights.arrays and strict:
        raise ValueError(
            f"module: no layer takes the weights {sorted(weights.arrays)}; strict=False leaves "
            "them out"
        )
    return Sequential(made)


def _check_state_dict(state):
    """Raises ValueError for a checkpoint that holds a state dict, with the way to it."""

    def holds_weights(value):
        return hasattr(value, "state_dict") or (
            isinstance(value, dict) and any(np.ndim(v) for v in value.values() if _is_array(v))
        )

    inner = [key for key, value in state.items() if holds_weights(value)]
    if inner:
        likely = [key for key in inner if "model" in str(key) or str(key) == "state_dict"]
        raise ValueError(
            "module: expected a state dict, received a whole checkpoint with "
            f"{', '.join(map(repr, state))}; pass checkpoint[{(likely or inner)[0]!r}]"
        )


def _is_array(value):
    return hasattr(value, "detach") or isinstance(value, np.ndarray)


def _read_safetensors(path):
    if not path.endswith(".safetensors"):
        raise ValueError(
            f"module: {path!r} is not a .safetensors file; other files of PyTorch may hold code, "
            "so load one that you trust with torch.load and pass its state dict"
        )
    with open(path, "rb") as file:
        content = file.read()
    try:
        return tensors.from_bytes(content)
    except ValueError as error:
        raise ValueError(f"module: {path!r} is not a sound .safetensors file: {error}") from None


class Weights:
    """What of a state dict no layer has taken yet: name -> float32 array."""

    def __init__(self, state):
        self.arrays = {}
        for name, value in state.items():
            if hasattr(value, "detach"):
                value = value.detach().cpu()
                value = (value if str(value.dtype) == "torch.float64" else value.float()).numpy()
            array = np.asarray(value)
            if array.dtype.kind not in "fiu":
                raise ValueError(f"module: expected numbers in {name!r}, received {array.dtype}")
            check_range("module", name, array)
            self.arrays[name] = array.astype(np.float32)

    def has(self, prefix, name):
        return _join(prefix, name) in self.arrays

    def take(self, prefix, name, ndim):
        name = _join(prefix, name)
        if name not in self.arrays:
            longer = [other for other in self.arrays if other.endswith(f".{name}")]
            hint = f"; did you mean the prefix {longer[0][: -len(name)]}{prefix}?" if longer else ""
            raise ValueError(
                f"module: expected a weight {name!r}, received {sorted(self.arrays)}{hint}"
            )
        array = self.arrays.pop(name)
        if array.ndim != ndim:
            raise ValueError(f"module: expected {ndim} axes in {name!r}, received {array.shape}")
        return array


def _join(prefix, name):
    return f"{prefix}.{name}" if prefix else name


def _kind(entry):
    return None if isinstance(entry, L.Layer) else entry[1]


def _checked(entry):
    """An entry of `layers` as a layer or as (prefix, kind, options)."""
    if isinstance(entry, L.Layer):
        kind = KINDS.get(type(entry).__name__)
        if kind:
            raise ValueError(
                f"layers: expected a pair (prefix, {kind!r}) for a layer whose weights are to be "
                f"read, received {entry!r}"
            )
        return entry
    known = (*ORDERS, *READERS)
    if not isinstance(entry, (tuple, list)) or len(entry) != 2 or entry[1] not in known:
        raise ValueError(f"layers: expected layers or (prefix, one of {known}), received {entry!r}")
    return *entry, {}


# --- modules ---


def _entries(module, prefix):
    """What a module and the modules within it do, in turn. A module of another class, or of one
    derived from these, may do anything in its forward, and is refused."""
    import torch

    kind = type(module).__name__
    if type(module) is not getattr(torch.nn, kind, None):
        raise ValueError(
            f"module: {type(module).__name__} at {prefix or 'the top'!r} has a forward of its own, "
            "which cannot be read; pass its state_dict() and say in `layers` what it does"
        )
    if kind == "Sequential":
        for name, inner in module.named_children():
            yield from _entries(inner, _join(prefix, name))
    elif kind in ORDERS:
        if getattr(module, "proj_size", 0):
            raise ValueError(f"module: {kind} with proj_size={module.proj_size} is not supported")
        options = {"dropout": module.dropout}
        if kind == "RNN":
            options["activation"] = module.nonlinearity
        yield prefix, kind, options
    elif kind == "Embedding":
        if module.max_norm is not None:
            raise ValueError("module: Embedding with max_norm is not supported")
        yield prefix, kind, {}
    elif kind == "Linear":
        yield prefix, kind, {}
    elif kind == "BatchNorm1d":
        if not module.track_running_stats:
            raise ValueError("module: BatchNorm1d without running statistics is not supported")
        momentum = 0.1 if module.momentum is None else module.momentum
        yield prefix, kind, {"epsilon": module.eps, "momentum": 1 - momentum}
    elif kind == "LayerNorm":
        yield prefix, kind, {"epsilon": module.eps, "shape": tuple(module.normalized_shape)}
    elif kind == "RMSNorm":
        epsilon = torch.finfo(torch.float32).eps if module.eps is None else module.eps
        yield prefix, kind, {"epsilon": epsilon, "shape": tuple(module.normalized_shape)}
    elif kind == "Dropout":
        yield L.Dropout(module.p)
    elif kind == "Flatten" and (module.start_dim, module.end_dim) == (1, -1):
        yield L.Flatten()
    elif kind == "ELU":
        yield L.ELU(module.alpha)
    elif kind == "LeakyReLU":
        yield L.LeakyReLU(module.negative_slope)
    elif kind in ACTIVATIONS:
        name, options = ACTIVATIONS[kind]
        if any(getattr(module, option) != value for option, value in options.items()):
            raise ValueError(f"module: expected {kind} with {options}, received {module!r}")
        yield L.Activation(name)
    elif kind != "Identity":
        raise ValueError(f"module: {module!r} at {prefix or 'the top'!r} is not supported")


# --- weights of one module ---


def _recurrent(weights, prefix, kind, return_sequences, dropout=0.0, activation="tanh"):
    """The layers of an nn.LSTM, nn.GRU or nn.RNN, one for each of its own."""
    if weights.has(prefix, "weight_hr_l0"):
        raise ValueError(f"module: {prefix!r} has a projection (proj_size), not supported")
    count = 1
    while weights.has(prefix, f"weight_ih_l{count}"):
        count += 1
    for n in range(count):
        suffixes = [f"l{n}"]
        if weights.has(prefix, f"weight_ih_l{n}_reverse"):
            suffixes.append(f"l{n}_reverse")
        arrays = [_direction(weights, prefix, kind, suffix) for suffix in suffixes]
        features, units = arrays[0][0].shape[0], arrays[0][1].shape[0]
        layer = getattr(L, LAYERS[kind])(
            units,
            activation=activation,
            use_bias=len(arrays[0]) == 3,
            return_sequences=return_sequences or n < count - 1,
        )
        if len(arrays) == 2:
            layer = L.Bidirectional(layer)
        layer.build((None, None, features))
        layer.set_weights([array for direction in arrays for array in direction])
        yield layer
        if dropout and n < count - 1:
            yield L.Dropout(dropout)


def _direction(weights, prefix, kind, suffix):
    """kernel, recurrent_kernel and perhaps bias of one direction, in Keras's order."""
    order = ORDERS[kind]
    kernel = weights.take(prefix, f"weight_ih_{suffix}", 2)
    recurrent = weights.take(prefix, f"weight_hh_{suffix}", 2)
    rows = len(order) * recurrent.shape[1]
    if rows == 0 or len(kernel) != rows or len(recurrent) != rows:
        raise ValueError(
            f"module: expected {rows} rows in the weights of the {kind} {prefix!r}, received "
            f"shapes {kernel.shape} and {recurrent.shape}"
        )
    arrays = [reorder(kernel.T, order, 1), reorder(recurrent.T, order, 1)]
    if weights.has(prefix, f"bias_ih_{suffix}"):
        biases = [weights.take(prefix, f"bias_{part}_{suffix}", 1) for part in ("ih", "hh")]
        if any(bias.shape != (rows,) for bias in biases):
            raise ValueError(f"module: expected {rows} numbers in the biases of {prefix!r}")
        biases = [reorder(bias, order, 0) for bias in biases]
        arrays.append(np.stack(biases) if kind == "GRU" else sum(biases))
    return arrays


def _embedding(weights, prefix):
    table = weights.take(prefix, "weight", 2)
    layer = L.Embedding(*table.shape)
    layer.build((None, None))
    layer.set_weights([table])
    return layer


def _linear(weights, prefix):
    kernel = weights.take(prefix, "weight", 2).T
    arrays = [kernel]
    if weights.has(prefix, "bias"):
        arrays.append(weights.take(prefix, "bias", 1))
    layer = L.Dense(kernel.shape[1], use_bias=len(arrays) == 2)
    layer.build((None, kernel.shape[0]))
    layer.set_weights(arrays)
    return layer


def _batch_norm(weights, prefix, epsilon=1e-5, momentum=0.9):
    affine = weights.has(prefix, "weight")
    names = [*(("weight", "bias") if affine else ()), "running_mean", "running_var"]
    arrays = [weights.take(prefix, name, 1) for name in names]
    weights.arrays.pop(_join(prefix, "num_batches_tracked"), None)
    layer = L.BatchNormalization(1, momentum, epsilon, center=affine, scale=affine)
    layer.build((None, len(arrays[0])))
    layer.set_weights(arrays)
    return layer


def _layer_norm(weights, prefix, epsilon=1e-5, shape=None):
    names = [name for name in ("weight", "bias") if weights.has(prefix, name)]
    if shape is None:
        if not names:
            raise ValueError(f"module: expected a weight {_join(prefix, 'weight')!r}")
        shape = weights.arrays[_join(prefix, names[0])].shape
    arrays = [weights.take(prefix, name, len(shape)) for name in names]
    axis = -1 if len(shape) == 1 else list(range(-len(shape), 0))
    layer = L.LayerNormalization(axis, epsilon, center="bias" in names, scale="weight" in names)
    layer.build((None, *shape))
    layer.set_weights(arrays)
    return layer


def _rms_norm(weights, prefix, epsilon=2.0**-23, shape=None):
    scale = np.ones(shape or (), np.float32)
    if shape is None or weights.has(prefix, "weight"):
        scale = weights.take(prefix, "weight", 1 if shape is None else len(shape))
    layer = L.RMSNormalization(list(range(-scale.ndim, 0)), epsilon)
    layer.build((None, *scale.shape))
    layer.set_weights([scale])
    return layer


READERS = {
    "Embedding": _embedding,
    "Linear": _linear,
    "BatchNorm1d": _batch_norm,
    "LayerNorm": _layer_norm,
    "RMSNorm": _rms_norm,
}
