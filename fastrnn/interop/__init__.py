"""Models to and from other libraries and file formats.

Each library is imported when it is first needed. The functions' whole descriptions stand where
these lead to, in saving/live.py and the modules of this folder.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastrnn.variable import unchanging

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from fastrnn.interop.onnx_import import Graph
    from fastrnn.models import Model, Sequential

__all__ = ["from_keras", "from_onnx", "from_torch", "to_c", "to_onnx", "to_torch"]

_PATH = str | os.PathLike[str]


@contextlib.contextmanager
def _needed_by(function):
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("google", "onnx", "torch"):
            raise
        package = "pip install torch" if error.name == "torch" else "pip install 'fastrnn[files]'"
        raise ImportError(f"fastrnn.{function} needs {error.name}: {package}") from error


def _check_layers(function, model):
    """Raise ValueError where a model, or a layer in it, is of a class that says `call`."""
    from fastrnn.layers import Layer
    from fastrnn.saving import config

    for layer in (model, *config.within(model)) if isinstance(model, Layer) else ():
        if layer._says_call:
            what = "model" if layer is model else "layer"
            raise ValueError(
                f"{function}: {what} {layer.name!r} ({type(layer).__name__}) says what it computes "
                "in call, which only Python runs: expected Model(inputs, outputs) or Sequential of "
                "fastrnn's layers; model.save writes any model to a .keras file"
            )


def from_keras(model, custom_objects: Mapping[str, Any] | None = None) -> "Model":
    """The fastrnn model of a Keras model in memory (fastrnn.saving.live.from_keras)."""
    from fastrnn.saving import live

    return live.from_keras(model, custom_objects)


def from_onnx(path: _PATH | bytes, memory_limit: int = 2**32) -> "Graph":
    """A Graph from an .onnx file or its bytes: call it with arrays, or make a Model of it with
    to_model(), a Sequential with to_sequential() (fastrnn.interop.onnx_import.from_onnx)."""
    with _needed_by("from_onnx"):
        from fastrnn.interop import onnx_import
    return onnx_import.from_onnx(path, memory_limit)


def from_torch(
    module, layers: Sequence[Any] | None = None, return_sequences: bool = True, strict: bool = True
) -> "Sequential":
    """A Sequential with the weights of PyTorch's modules, of a state dict or of a .safetensors
    file; the last two need `layers`. return_sequences=False: of a bidirectional layer both last
    states, which y[:, -1] in PyTorch is not; strict=False leaves out weights that no layer takes
    (fastrnn.interop.pytorch_import.from_torch)."""
    with _needed_by("from_torch"):
        from fastrnn.interop import pytorch_import
    return pytorch_import.from_torch(module, layers, return_sequences, strict)


def to_c(model: "Model", path: _PATH | None = None) -> bytes:
    """Write a model as the file that libfastrnn runs without Python, and return its bytes
    (fastrnn.interop.c_export.to_c)."""
    _check_layers("to_c", model)
    from fastrnn.interop import c_export

    with unchanging():
        return c_export.to_c(model, path)


def to_onnx(model: "Model", path: _PATH | None = None) -> "onnx.ModelProto":
    """Write a model as an ONNX file, and return the onnx.ModelProto
    (fastrnn.interop.onnx_export.to_onnx)."""
    _check_layers("to_onnx", model)
    with _needed_by("to_onnx"):
        from fastrnn.interop import onnx_export
    with unchanging():
        return onnx_export.to_onnx(model, path)


def to_torch(model: "Model") -> "nn.Module":
    """A torch.nn.Module that gives what a model gives, of a Sequential an nn.Sequential
    (fastrnn.interop.pytorch_export.to_torch)."""
    _check_layers("to_torch", model)
    with _needed_by("to_torch"):
        from fastrnn.interop import pytorch_export
    with unchanging():
        return pytorch_export.to_torch(model)
