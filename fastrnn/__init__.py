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
from fastrnn.models import Model, Sequential

__version__ = "0.1.0"
__all__ = [
    "Input",
    "Model",
    "Sequential",
    "activations",
    "callbacks",
    "constraints",
    "datasets",
    "from_keras",
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


def from_keras(model, custom_objects=None):
    """The fastrnn model of a Keras model in memory (fastrnn.saving.live.from_keras)."""
    from fastrnn.saving import live

    return live.from_keras(model, custom_objects)


_INTEROP = {
    "from_onnx": "onnx_import",
    "from_torch": "pytorch_import",
    "to_c": "c_export",
    "to_onnx": "onnx_export",
    "to_torch": "pytorch_export",
}


def __getattr__(name):
    """What needs other libraries is imported when it is first used; so are readers of files."""
    if name not in _INTEROP and name != "saving":
        raise AttributeError(f"module 'fastrnn' has no attribute {name!r}")
    import importlib

    if name == "saving":
        return importlib.import_module("fastrnn.saving")
    try:
        module = importlib.import_module(f"fastrnn.interop.{_INTEROP[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("google", "onnx", "torch"):
            raise
        package = "pip install torch" if error.name == "torch" else "pip install 'fastrnn[files]'"
        raise ImportError(f"fastrnn.{name} needs {error.name}: {package}") from error
    return getattr(module, name)
