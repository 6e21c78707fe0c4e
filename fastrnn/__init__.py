"""LSTM and bidirectional LSTM networks on CPUs: Keras's API on a fused C engine."""

from typing import TYPE_CHECKING

from fastrnn.runtime import get_num_threads, isa, set_num_threads  # isort: skip
from fastrnn import (
    activations,
    callbacks,
    constraints,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    pipeline,
    plot,
    preprocessing,
    random,
    regularizers,
    training,
    utils,
)
from fastrnn._public import public
from fastrnn.gradient_tape import GradientTape
from fastrnn.interop import from_keras, from_onnx, from_torch, to_c, to_onnx, to_torch
from fastrnn.layers import Input
from fastrnn.models import Model, Sequential
from fastrnn.variable import Variable

if TYPE_CHECKING:
    from fastrnn import saving, sklearn  # noqa: F401

__version__ = "0.1.0"
__all__ = [
    "GradientTape",
    "Input",
    "Model",
    "Sequential",
    "Variable",
    "activations",
    "callbacks",
    "constraints",
    "datasets",
    "from_keras",
    "from_onnx",
    "from_torch",
    "get_num_threads",
    "initializers",
    "isa",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "pipeline",
    "plot",
    "preprocessing",
    "random",
    "regularizers",
    "saving",
    "set_num_threads",
    "to_c",
    "to_onnx",
    "to_torch",
    "training",
    "utils",
]
public(__name__, lazy=("saving", "sklearn"))  # sklearn needs another library, unlike all of __all__
