"""LSTM and bidirectional LSTM networks on CPUs: Keras's API on a fused C engine."""

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
    optimizers,
    preprocessing,
    random,
    regularizers,
    training,
    utils,
)
from fastrnn.layers import Input
from fastrnn.models import Sequential

__version__ = "0.1.0"
__all__ = [
    "Input",
    "Sequential",
    "activations",
    "callbacks",
    "constraints",
    "datasets",
    "get_num_threads",
    "initializers",
    "isa",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "preprocessing",
    "random",
    "regularizers",
    "set_num_threads",
    "training",
    "utils",
]
