"""Configs and weights of Keras 1 and 2 in today's terms."""

import inspect
import warnings

import numpy as np

from fastrnn import activations

# Names of Keras 1 -> those since Keras 2; for all layers, then by class.
_KERAS_1 = {
    "init": "kernel_initializer",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "U_constraint": "recurrent_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
}
_KERAS_1_RECURRENT = {
    "output_dim": "units",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
}
_KERAS_1_BY_CLASS = {
    "Dense": {"output_dim": "units"},
    "Dropout": {"p": "rate"},
    "Embedding": {
        "init": "embeddings_initializer",
        "W_regularizer": "embeddings_regularizer",
        "W_constraint": "embeddings_constraint",
    },
    "BatchNormalization": {
        "beta_init": "beta_initializer",
        "gamma_init": "gamma_initializer",
    },
}
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "ConvLSTM2D")
_LSTMS = ("LSTM", "ConvLSTM1D", "ConvLSTM2D")
_KERAS_ITSELF = {"GroupedQueryAttention": "GroupQueryAttention"}  # what .h5 files call classes
_CUDNN = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}

# What Keras 2 wrote beside the options of a layer.
_NOT_OF_THE_LAYER = {
    "Conv1DTranspose": ("groups",),
    "DepthwiseConv1D": ("groups",),
    "SeparableConv1D": (
        "groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint",
    ),
}  # fmt: skip

# Options without influence on the result, or which have it only at the values not listed here.
_WITHOUT_EFFECT = {
    "implementation": None,
    "consume_less": None,
    "quantization_config": None,
    "num_constants": None,
    "time_major": (None, False),
    "ragged": (None, False),
    "sparse": (None, False),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "fused": None,
    "lora_rank": (None,),
    "lora_alpha": None,
    "optional": (False,),
}

_OWN_DTYPE = ("IntegerLookup", "StringLookup", "TextVectorization")


def major_version(version) -> int:
    """2 for "2.2.4-tf"; 1, of which files say nothing, for None."""
    if version is None:
        return 1
    major = str(version).split(".")[0]
    if not major.isdecimal() or not 1 <= int(major) <= 3:
        raise ValueError(f"keras_version: expected 1 to 3, received {version!r}")
    return int(major)


def update_layer(class_name: str, config: dict, version: int) -> tuple[str, dict]:
    """Class name and config of a layer that Keras `version` wrote, as Keras 3 would have."""
    config = dict(config)
    class_name = _KERAS_ITSELF.get(class_name, class_name)
    if version == 1:
        if class_name == "TimeDistributedDense":
            class_name = "Dense"
            config.pop("input_length", None)
        names = {**_KERAS_1, **(_KERAS_1_RECURRENT if class_name in _RECURRENT else {})}
        names.update(_KERAS_1_BY_CLASS.get(class_name, {}))
        config = {names.get(key, key): value for key, value in config.items()}
        if class_name in _LSTMS:
            config["unit_forget_bias"] = config.pop("forget_bias_init", "one") == "one"
        if class_name == "Embedding":
            config.pop("dropout", None)
    if class_name in _CUDNN:
        class_name = _CUDNN[class_name]
        if class_name == "GRU":
            config["reset_after"] = True
    elif version < 3 and class_name in (*_LSTMS, "GRU", "LSTMCell", "GRUCell"):
        config.setdefault("recurrent_activation", "hard_sigmoid")
    if version < 3 and class_name in ("GRU", "GRUCell"):
        config.setdefault("reset_after", False)
    if class_name == "CRF":  # keras_contrib's
        config.pop("input_dim", None)
    for key in _NOT_OF_THE_LAYER.get(class_name, ()):
        if version < 3 and (key != "groups" or config.get(key) == 1):
            config.pop(key, None)
    for key, harmless in _WITHOUT_EFFECT.items():
        if key in config and (harmless is None or config[key] in harmless):
            del config[key]
    for key in ("time_major", "sparse", "ragged"):
        if config.get(key):
            raise ValueError(f"{key}={config[key]!r} is not supported: expected False")
    axis = config.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    if class_name != "InputLayer":
        _drop_dtype(config, class_name in _OWN_DTYPE)
    for key, value in config.items():
        if version < 3 and key in ("activation", "recurrent_activation"):
            config[key] = _activation(value)
        elif key.endswith("_initializer") and isinstance(value, dict):
            config[key] = _initializer(value)
    return class_name, config


def update_own(cls, config: dict, version: int) -> dict:
    """The config of a layer of a user's class, for its from_config."""
    config = dict(config)
    builtin = next((c.__name__ for c in cls.__mro__ if c.__module__.startswith("fastrnn.")), None)
    if builtin in ("Layer", "Model", "Functional", "Sequential", None):
        if isinstance(config.get("dtype"), dict):  # a policy
            _drop_dtype(config)
        return config
    taken = inspect.signature(cls.__init__).parameters
    own = {key: value for key, value in config.items() if key in taken and key != "dtype"}
    return {**update_layer(builtin, config, version)[1], **own}


def _drop_dtype(config, own=False):
    """own: does the layer have dtypes of its own?"""
    policy = config.pop("dtype", None)
    if isinstance(policy, dict) and isinstance(policy.get("config"), dict):
        policy = policy["config"].get("name")
    if policy not in (None, "float32") and not own:
        warnings.warn(
            f"layer {config.get('name')!r} of dtype {policy} will compute in float32",
            stacklevel=3,
        )


def _activation(value):
    """Before Keras 3, "hard_sigmoid" had a slope of 0.2."""
    if value == "hard_sigmoid" or (
        isinstance(value, dict) and value.get("config") == "hard_sigmoid"
    ):
        return "hard_sigmoid_keras2"
    return value


def _initializer(value):
    """Keras 2 wrote dtypes into initializers, and "normal" for truncated normal."""
    options = value.get("config")
    if not isinstance(options, dict):
        return value
    options = {key: option for key, option in options.items() if key != "dtype"}
    if value.get("class_name") == "VarianceScaling" and options.get("distribution") == "normal":
        options["distribution"] = "truncated_normal"
    return {**value, "config": options}


def update_compile_config(config: dict) -> dict:
    """Arguments of compile from the training_config of a .h5 file."""
    optimizer = config.get("optimizer_config")
    if not isinstance(optimizer, dict):
        raise ValueError(f"optimizer_config: expected a dict, received {optimizer!r}")
    weights = config.get("loss_weights")
    return {
        "optimizer": optimizer,
        "loss_weights": weights if isinstance(weights, (list, dict)) and len(weights) > 1 else None,
        "loss": _entries(config.get("loss"), _loss),
        "metrics": _entries(config.get("metrics"), _metric),
        "weighted_metrics": _entries(config.get("weighted_metrics"), _metric),
    }


def _entries(value, convert):
    if isinstance(value, list):
        return [_entries(entry, convert) for entry in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {key: _entries(entry, convert) for key, entry in value.items()}
    return convert(value)


def _loss(entry):
    """Keras 2's reduction "auto" has another name now."""
    if isinstance(entry, dict) and isinstance(entry.get("config"), dict):
        options = dict(entry["config"])
        if options.get("reduction") == "auto":
            options["reduction"] = "sum_over_batch_size"
        options.pop("axis" if options.get("axis") == -1 else "", None)
        return {**entry, "config": options}
    return entry


def _metric(entry):
    """tf.keras 2 wrote metrics that were given by name as wrapped functions."""
    if isinstance(entry, dict) and entry.get("class_name") == "MeanMetricWrapper":
        options = entry.get("config")
        if isinstance(options, dict) and isinstance(options.get("fn"), str):
            return {"class_name": options["fn"], "config": {"name": options.get("name")}}
    return entry


# --- weights ---


def update_weights(layer, arrays: list[np.ndarray], version="3") -> list[np.ndarray]:
    """The arrays of a layer in a .h5 file that this version of Keras wrote, in today's order and
    layout.

    Keras 1 kept kernel, recurrent kernel and bias of each gate apart, the LSTM's gates as i, c, f,
    o. Those of CuDNNLSTM and CuDNNGRU hold the transposed matrix of each gate and two biases. Those
    of keras_contrib's CRF give energies, the lower the better."""
    name = type(layer).__name__
    if name == "CRF" and major_version(version) < 3:
        if layer.activation is not activations.linear:
            raise ValueError(
                f"layer {layer.name!r}: expected activation='linear' to read weights of "
                f"keras_contrib's CRF, received {layer.activation.__name__!r}"
            )
        return [-array for array in arrays]
    gates = 4 if name in _LSTMS else 3 if name == "GRU" else None
    inner = getattr(layer, "forward_layer", None)
    if inner is not None and len(arrays) % 2 == 0:
        half, backward = len(arrays) // 2, layer.backward_layer
        return update_weights(inner, arrays[:half]) + update_weights(backward, arrays[half:])
    if gates is not None and len(arrays) == 3 * gates:
        order = (0, 2, 1, 3) if gates == 4 else (0, 1, 2)
        return [
            np.concatenate([arrays[3 * gate + kind] for gate in order], axis=-1)
            for kind in range(3)
        ]
    if gates is None or [array.ndim for array in arrays] != [2, 2, 1]:
        return arrays
    kernel, recurrent, bias = arrays
    if bias.shape != (2 * gates * layer.units,) or kernel.shape[1] != gates * layer.units:
        return arrays
    parts = [np.ascontiguousarray(part) for part in np.hsplit(kernel, gates)]
    kernel = np.hstack([part.reshape(part.shape[::-1]).T for part in parts])
    recurrent = np.hstack([part.T for part in np.hsplit(recurrent, gates)])
    bias = bias.reshape(2, -1)
    return [kernel, recurrent, bias.sum(axis=0) if gates == 4 else bias]


def update_optimizer_weights(names: list[str], arrays: list, optimizer, shapes: list) -> list:
    """The arrays of an optimizer of Keras 1 or 2, for weights of these shapes, as Keras 3's.

    Up to tf.keras 2.10 all weights' first slot came first, then all weights' second. Keras itself
    kept slots that are not used (of amsgrad, momentum), and of some optimizers no number of steps.
    None of Keras 2 saved the learning rate as a variable."""
    leading = next((n for n, array in enumerate(arrays) if array.ndim), len(arrays))
    scalars, slots = arrays[:leading] or [np.array(0)], arrays[leading:]
    groups = [len(group) for group in optimizer._slot_groups()]
    by_weight = [shape for count in groups for shape in shapes for _ in range(count)]
    newer = names[0].partition(":")[0] == "iteration"
    if not newer or [array.shape for array in slots] != by_weight:
        ordered, start = [], 0
        for count in groups:
            block = slots[start : start + count * len(shapes)]
            ordered += [array for w in range(len(shapes)) for array in block[w :: len(shapes)]]
            start += count * len(shapes)
        slots = ordered
    rate = optimizer.state().get("learning_rate")
    return [*scalars, *([rate] if rate is not None and len(scalars) == 1 else []), *slots]
