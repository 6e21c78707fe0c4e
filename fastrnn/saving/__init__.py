"""Files of models and of weights: Keras's own, and safetensors.

Loading never runs code from a file, opens no other file, and takes memory and time in proportion
to the file: a damaged or hostile one raises ValueError.
"""

from __future__ import annotations

import errno
import os
import warnings
from typing import TYPE_CHECKING

from fastrnn._public import public
from fastrnn.activations import hard_sigmoid_keras2
from fastrnn.saving import config, foreign, hdf5_reader, keras_file, legacy_h5, tensors, weights
from fastrnn.saving.atomic import write_file
from fastrnn.saving.guard import values_of
from fastrnn.saving.objects import deserialize_keras_object, serialize_keras_object
from fastrnn.saving.self_test import make as make_test
from fastrnn.utils import (
    CustomObjectScope,
    custom_object_scope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from fastrnn.variable import unchanging

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn._types import CustomObjects, Path
    from fastrnn.models import Model

__all__ = [
    "CustomObjectScope", "custom_object_scope", "deserialize_keras_object", "get_custom_objects",
    "get_registered_name", "get_registered_object", "load_model", "load_weights",
    "register_keras_serializable", "save_model", "save_weights", "serialize_keras_object",
]  # fmt: skip
public(__name__)

_HDF5 = (".h5", ".hdf5")
_WEIGHTS = (".weights.h5", ".safetensors")


class ModelFileNotFoundError(FileNotFoundError, ValueError):
    """There is no such file: a ValueError, as in Keras, and an OSError."""


def save_model(
    model: Model,
    filepath: Path,
    overwrite: bool = True,
    include_optimizer: bool = True,
    self_test: ArrayLike | None = None,
    tolerance: float | None = None,
    save_format: str | None = None,
) -> None:
    """Save a model with all that loading needs; the file is never left half written.

    filepath: ends in .keras (Keras 3's format), or in .h5 or .hdf5 (its older one); folders that do
    not exist are made. save_format: Keras 2's "keras" or "h5", for a name with neither. overwrite
    (True): whether an existing file is replaced. include_optimizer (True): also the arguments of
    compile and the optimizer's state, so that training can go on. self_test: a batch of inputs
    which load_model will run, to compare with the output of now; tolerance: by how much an element
    may differ, default 1e-4 of the largest output.

    Warns of a model without weights yet. Raises ValueError for another ending, FileExistsError.
    Source: https://keras.io/api/models/model_saving_apis/model_saving_and_loading/
    """
    name = os.fspath(filepath)
    if name.endswith(".keras"):
        write = keras_file.write
    elif name.endswith(_HDF5) and not name.endswith(".weights.h5"):
        write = legacy_h5.write
    elif save_format in ("keras", "h5") and not name.endswith(_WEIGHTS):
        write = keras_file.write if save_format == "keras" else legacy_h5.write
    else:
        raise ValueError(
            f"filepath: expected a name that ends in .keras or .h5, received {name!r}; "
            "save_weights writes weights alone"
            + "; TensorFlow's SavedModel is not written"
            * (save_format == "tf")
        )
    _check_overwrite(filepath, overwrite)
    if not model.built:
        warnings.warn(
            f"model {model.name!r} is not built: the file will hold its layers and no weights; "
            "call build(input_shape) or fit first",
            stacklevel=3,
        )
    _warn_of_keras_2(model)
    with unchanging():
        data = write(model, include_optimizer, make_test(model, self_test, tolerance))
    _write(name, data)


def load_model(
    filepath: Path,
    custom_objects: CustomObjects = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Model:
    """The model in a .keras or .h5 file that Keras 1, 2 or 3 or `save_model` wrote.

    custom_objects: name -> class or function, for names in the file that fastrnn does not know.
    compile (True): compile the model as it was, with its optimizer's state. safe_mode: only True.

    Raises ValueError for a file that is damaged or holds what cannot be represented, OSError for
    one that cannot be read, one that is both if there is none.
    Source: https://keras.io/api/models/model_saving_apis/model_saving_and_loading/
    """
    if safe_mode is not True:
        raise ValueError(
            f"safe_mode: expected True, received {safe_mode!r}: code in files is never run"
        )
    try:
        data = _contents(filepath)
    except FileNotFoundError as error:
        raise ModelFileNotFoundError(errno.ENOENT, error.strerror, error.filename) from None
    read = legacy_h5.read if data[:8] == hdf5_reader.SIGNATURE else keras_file.read
    if read is keras_file.read and not data.startswith(b"PK"):
        raise ValueError(foreign.described(filepath, data))
    with values_of(f"{os.fspath(filepath)}: damaged", value_errors=False):
        return read(data, custom_objects, compile)


def save_weights(
    model: Model, filepath: Path, overwrite: bool = True, save_format: str | None = None
) -> None:
    """Save a built model's weights: to .weights.h5 as Keras 3 (with the optimizer's state), to
    .h5 or .hdf5 as Keras 2, or to .safetensors. Folders that do not exist are made. save_format:
    Keras 2's "h5", for a name with another ending.

    Raises ValueError for another ending and for a model without weights yet, FileExistsError.
    """
    name = os.fspath(filepath)
    if not model.built:
        raise ValueError(
            f"model {model.name!r}: expected a built model, which has weights; call "
            "build(input_shape) or fit first"
        )
    _check_overwrite(filepath, overwrite)
    if name.endswith(".weights.h5"):
        write = weights.write
    elif name.endswith(_HDF5) or (save_format == "h5" and not name.endswith(".safetensors")):
        write = legacy_h5.write_weights
    elif name.endswith(".safetensors"):
        write = tensors.write
    else:
        raise ValueError(
            "filepath: expected a name that ends in .weights.h5, .h5 or .safetensors, "
            f"received {name!r}"
        )
    with unchanging():
        data = write(model)
    _write(name, data)


def load_weights(
    model: Model, filepath: Path, skip_mismatch: bool = False, by_name: bool = False
) -> None:
    """Give a built model the weights in a file, all or, if any does not fit, none.

    filepath: a .weights.h5, .keras, .h5 or .safetensors file; only the last is known by its name.
    skip_mismatch (False): leave out, with a warning, layers that do not fit. by_name (False): match
    layers by name instead of order, for .h5 files as of Keras 2.

    Raises ValueError for a file that is damaged or does not fit, OSError for one that cannot be
    read.
    """
    if not model.built:
        raise ValueError(f"model {model.name!r}: expected a built model; call build(input_shape)")
    name, data = os.fspath(filepath), _contents(filepath)
    with values_of(f"{name}: damaged", value_errors=False):
        _read_weights(model, name, data, skip_mismatch, by_name)


def _read_weights(model, name, data, skip_mismatch, by_name):
    root = hdf5_reader.File(data).root if data[:8] == hdf5_reader.SIGNATURE else None
    by_layers = root is not None and not weights.is_weights_file(root)
    if by_name and not by_layers:
        raise ValueError("by_name: only for .h5 files as of Keras 2, which go by layer names")
    if by_layers:
        group = root.group("model_weights") if "model_weights" in root else root
        legacy_h5.read_weights(model, group, skip_mismatch, by_name)
    elif root is not None:
        weights.read(model, root, skip_mismatch)
    elif name.endswith(".safetensors"):
        tensors.read(model, data, skip_mismatch)
    elif not data.startswith(b"PK"):
        raise ValueError(foreign.described(name, data))
    else:
        keras_file.read_weights(model, data, skip_mismatch)


def _check_overwrite(filepath, overwrite):
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"{os.fspath(filepath)!r} exists, and overwrite is False")


def _warn_of_keras_2(model):
    options = ("activation", "recurrent_activation")
    layers = [
        layer.name
        for layer in config.within(model)
        if any(getattr(layer, option, None) is hard_sigmoid_keras2 for option in options)
    ]
    if layers:
        warnings.warn(
            f"layers {layers} have Keras 2's hard_sigmoid, which Keras 3 lacks; fastrnn loads the "
            "file as it is, Keras with custom_objects={'hard_sigmoid_keras2': a function of yours} "
            "that returns keras.ops.clip(0.2 * x + 0.5, 0, 1)",
            stacklevel=4,
        )


def _write(name, data):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    write_file(name, data)


def _contents(filepath) -> bytes:
    try:
        with open(filepath, "rb") as file:
            return file.read()
    except IsADirectoryError as error:
        what = "a folder"
        if os.path.exists(os.path.join(filepath, "saved_model.pb")):
            what = "a SavedModel, which only TensorFlow reads; save the model there as .keras"
        raise IsADirectoryError(
            error.errno, f"expected a file, received {what}", os.fspath(filepath)
        ) from None
