"""Keras 3's .keras files: a zip of metadata.json, config.json and model.weights.h5."""

import io
import json
import zipfile
import zlib

from fastrnn.saving import config, foreign, hdf5_reader, legacy, self_test, weights
from fastrnn.saving.guard import of_values

KERAS_VERSION = "3.15.1"  # whose form is written
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x61  # bits of a member's flags: encrypted, patched, strongly encrypted
_MAX_EXPANSION = 16  # of all members to the file, whose size bounds what reading it may take


def write(model, include_optimizer=True, test=None) -> bytes:
    """The bytes of a .keras file; the same model gives the same bytes."""
    described = config.model_config(model)
    compiled = config.compile_config(model) if include_optimizer else None
    if compiled is not None:
        described["compile_config"] = compiled
    members = {
        _METADATA: json.dumps({"keras_version": KERAS_VERSION}).encode(),
        _CONFIG: json.dumps(described).encode(),
        _WEIGHTS: weights.write(model, compiled is not None, test),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def read(data: bytes, custom_objects=None, compile=True):
    """The model in the bytes of a .keras file."""
    members = _members(data)
    for name in (_CONFIG, _WEIGHTS):
        if name not in members:
            raise ValueError(
                f"expected {name} in the .keras file, received {sorted(members)}"
                + foreign.of_members(members)
            )
    described = config.parse(_read(data, members[_CONFIG]), _CONFIG)
    version = 3
    if _METADATA in members:
        metadata = config.parse(_read(data, members[_METADATA]), _METADATA)
        version = legacy.major_version(metadata.get("keras_version", "3"))
    stored = _read(data, members[_WEIGHTS])
    loader = config.Loader(custom_objects, version, elements=len(stored))
    model = loader.model(described)
    root = hdf5_reader.File(stored).root
    compiled = described.get("compile_config") if compile else None
    if compiled:  # {} of a model that was not compiled
        loader.compile(model, compiled)
    if model.built:
        weights.read(model, root, optimizer="optimizer" in (compiled or ()), later=True)
    self_test.replay(model, root)
    return model


def read_weights(model, data: bytes, skip_mismatch=False) -> None:
    """Give a built model the weights in the bytes of a .keras file."""
    members = _members(data)
    if _WEIGHTS not in members:
        raise ValueError(
            f"expected {_WEIGHTS} in the .keras file, received {sorted(members)}"
            + foreign.of_members(members)
        )
    root = hdf5_reader.File(_read(data, members[_WEIGHTS])).root
    weights.read(model, root, skip_mismatch)


def _members(data: bytes) -> dict[str, zipfile.ZipInfo]:
    """The members of a zip by name. Nothing is ever extracted to a disk."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
    except Exception as error:
        if not (of_values(error) or isinstance(error, (zipfile.BadZipFile, EOFError))):
            raise
        raise ValueError(f"not a .keras file, or a damaged one: {error}") from None
    members = {info.filename: info for info in infos}
    for info in infos:
        if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
            raise ValueError(
                f".keras file: expected {info.filename} stored or deflated, and not encrypted, as "
                f"Keras writes it, received method {info.compress_type}, flags {info.flag_bits:#x}"
            )
    if len(members) != len(infos):
        raise ValueError(".keras file: expected each member once")
    if sum(info.file_size for info in infos) > _MAX_EXPANSION * len(data):
        raise ValueError(
            f".keras file: its members declare more than {_MAX_EXPANSION} times its size"
        )
    return members


def _read(data: bytes, info: zipfile.ZipInfo) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(info) as member:
            content = member.read(info.file_size + 1)
    except Exception as error:
        if not (of_values(error) or isinstance(error, (zipfile.BadZipFile, zlib.error, EOFError))):
            raise
        raise ValueError(f".keras file: {info.filename} cannot be read: {error}") from None
    if len(content) != info.file_size:
        raise ValueError(f".keras file: {info.filename} is cut off")
    return content
