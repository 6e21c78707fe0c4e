"""Layers under Keras's names, and their configs (keras.layers)."""

import inspect
from collections.abc import Mapping
from typing import Any

from fastrnn._public import public
from fastrnn.layers.activation_layers import ELU, LeakyReLU, PReLU, ReLU, Softmax
from fastrnn.layers.attention import (
    AdditiveAttention,
    Attention,
    GroupQueryAttention,
    MultiHeadAttention,
)
from fastrnn.layers.base import Layer, own_class
from fastrnn.layers.batch_normalization import BatchNormalization
from fastrnn.layers.cells import GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells
from fastrnn.layers.conv1d import Conv1D
from fastrnn.layers.conv1d_transpose import Conv1DTranspose
from fastrnn.layers.conv2d import Conv2D
from fastrnn.layers.conv_lstm import ConvLSTM1D, ConvLSTM2D
from fastrnn.layers.core import (
    Activation,
    ActivityRegularization,
    Flatten,
    Identity,
    Input,
    InputLayer,
    Masking,
    Permute,
    RepeatVector,
    Reshape,
)
from fastrnn.layers.crf import CRF
from fastrnn.layers.dense import Dense
from fastrnn.layers.depthwise_conv1d import DepthwiseConv1D, SeparableConv1D
from fastrnn.layers.dropout import Dropout, SpatialDropout1D, SpatialDropout2D
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.group_normalization import GroupNormalization
from fastrnn.layers.gru import GRU, CuDNNGRU
from fastrnn.layers.input_spec import InputSpec
from fastrnn.layers.lambda_layer import Lambda
from fastrnn.layers.layer_normalization import LayerNormalization
from fastrnn.layers.lookup import IntegerLookup, StringLookup
from fastrnn.layers.lstm import LSTM, CuDNNLSTM
from fastrnn.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    merge,
    minimum,
    multiply,
    subtract,
)
from fastrnn.layers.noise import GaussianDropout, GaussianNoise
from fastrnn.layers.pooling import (
    AveragePooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    MaxPooling1D,
)
from fastrnn.layers.pooling2d import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
)
from fastrnn.layers.resizing import Cropping1D, UpSampling1D, ZeroPadding1D
from fastrnn.layers.resizing2d import Cropping2D, UpSampling2D, ZeroPadding2D
from fastrnn.layers.rnn import RNN
from fastrnn.layers.scaling import Normalization, Rescaling
from fastrnn.layers.simple_rnn import SimpleRNN
from fastrnn.layers.text_vectorization import TextVectorization
from fastrnn.layers.unit_normalization import RMSNormalization, UnitNormalization
from fastrnn.layers.wrappers import Bidirectional, TimeDistributed, TimeDistributedDense, Wrapper
from fastrnn.utils import (
    choices,
    did_you_mean,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    serialize_object,
)

CLASSES = {
    cls.__name__: cls
    for cls in list(vars().values())
    if isinstance(cls, type) and issubclass(cls, Layer) and cls not in (Layer, Wrapper)
}

AvgPool1D, MaxPool1D = AveragePooling1D, MaxPooling1D
AvgPool2D, MaxPool2D = AveragePooling2D, MaxPooling2D
Convolution1D, Convolution2D = Conv1D, Conv2D
Convolution1DTranspose, SeparableConvolution1D = Conv1DTranspose, SeparableConv1D
GlobalAvgPool1D, GlobalMaxPool1D = GlobalAveragePooling1D, GlobalMaxPooling1D
GlobalAvgPool2D, GlobalMaxPool2D = GlobalAveragePooling2D, GlobalMaxPooling2D

MODELS: dict[str, type] = {}  # layers that are models, which stand above: they enter themselves

__all__ = [
    "AvgPool1D", "AvgPool2D", "Convolution1D", "Convolution1DTranspose", "Convolution2D",
    "CuDNNGRU", "CuDNNLSTM", "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalMaxPool1D",
    "GlobalMaxPool2D", "Input", "InputSpec", "Layer", "MaxPool1D", "MaxPool2D",
    "SeparableConvolution1D", "TimeDistributedDense", "Wrapper", "add", "average", "concatenate",
    "deserialize", "dot", "maximum", "merge", "minimum", "multiply", "serialize", "subtract",
    *CLASSES,
]  # fmt: skip
public(__name__)


def serialize(layer: Layer) -> dict[str, Any]:
    """A layer's class and config in the form in which Keras writes it."""
    users = own_class(type(layer))
    if users is not None:
        return _described(layer, users)
    if hasattr(layer, "described"):  # models and operations
        return layer.described()
    name = getattr(layer, "class_name", type(layer).__name__)
    known = CLASSES.get(name) is type(layer) or hasattr(layer, "class_name")
    config = layer.get_config()
    for key, value in config.items():
        if inspect.isfunction(value):  # the user's, of a TextVectorization
            described = serialize_object(value, {}, "")
            described |= {"module": "builtins", "config": get_registered_name(value)}
            config[key] = {**described, "registered_name": "function"}
    return {
        "module": "keras.layers" if known else None,
        "class_name": name,
        "config": config,
        "registered_name": None if known else get_registered_name(type(layer)),
    }


def _described(layer, users):
    """The same for a layer or model of a user's class."""
    described = {
        "module": None,
        "class_name": users.__name__,
        "config": layer.get_config(),
        "registered_name": get_registered_name(users),
    }
    cls = type(layer)
    own_way = cls.get_build_config is not Layer.get_build_config
    shapes = layer.get_build_config() if own_way or hasattr(cls.build, "once") else None
    return described if shapes is None else {**described, "build_config": shapes}


def deserialize(
    config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
) -> Layer:
    """A layer from what `serialize` or Keras wrote. Classes are looked up by name among fastrnn's
    and custom_objects, never imported. Errors: ValueError for anything else."""
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ValueError(f"config: expected a dict with class_name and config, received {config!r}")
    name, registered = config.get("class_name"), config.get("registered_name")
    own = None
    if name not in MODELS and (registered is not None or name not in CLASSES):
        own = get_registered_object(registered or name, custom_objects)
    if own is not None:
        return own.from_config(config["config"])
    known = {**CLASSES, **MODELS, **get_custom_objects(), **(custom_objects or {})}
    if name not in known:
        raise ValueError(
            f"class_name: expected one of {choices(str(name), known)} or a name in custom_objects, "
            f"received {name!r}{did_you_mean(str(name), known)}"
        )
    return known[name].from_config(config["config"])
