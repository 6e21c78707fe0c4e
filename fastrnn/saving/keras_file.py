"""Keras 3's .keras files: a zip of metadata.json, config.json, model.weights.h5, and text files of
vocabularies."""

import io
import json
import zipfile
import zlib

from fastrnn.layers.lookup import IndexLookup, vocabularies_in_configs
from fastrnn.saving import assets as of_users
from fastrnn.saving import config, foreign, hdf5_reader, legacy, self_test, weights
from fastrnn.saving.guard import of_values

KERAS_VERSION = "3.15.1"  # whose form is written
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x61  # bits of a member's flags: encrypted, patched, strongly encrypted
_MAX_EXPANSION = 16  # of all members to the file, whose size bounds what reading it may take


def write(model, include_optimizer=True, test=None) -> bytes:
    """The bytes of a .keras file; the same model gives the same bytes."""
    with vocabularies_in_configs("needed"):
        described, assets = config.model_config(model), _assets(model)
    compiled = config.compile_config(model) if include_optimizer else None
    if compiled is not None:
        described["compile_config"] = compiled
    members = {
        _METADATA: json.dumps({"keras_version": KERAS_VERSION}).encode(),
        _CONFIG: config.dumped(described).encode(),
        _WEIGHTS: weights.write(model, compiled is not None, test),
        **assets,
        **of_users.files(model),
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
        has_state = "optimizer" in (compiled or ()) or config.compiles_itself(model)
        weights.read(model, root, optimizer=has_state, later=True)
    _read_assets(model, data, members)
    of_users.give(model, members, lambda name: _read(data, members[name]))
    self_test.replay(model, root)
    return model


_LOOKUP = "_lookup_layer/"  # within a TextVectorization, whose folder has the same file


def _assets(model) -> dict[str, bytes]:
    """The vocabularies of a model, by the names of their files."""
    found = {}
    for path, _, _, layer in weights.places(model):
        for name, content in layer.assets().items() if isinstance(layer, IndexLookup) else ():
            found[f"assets/{path}{name}"] = content
            found[f"assets/{path.removesuffix(_LOOKUP)}{name}"] = content
    return found


def _read_assets(model, data, members):
    for path, name, _, layer in weights.places(model):
        if not isinstance(layer, IndexLookup) or layer.input_vocabulary is not None:
            continue
        asset = f"assets/{path}vocabulary.txt"
        if asset not in members:
            asset = f"assets/{path.removesuffix(_LOOKUP)}vocabulary.txt"
        if asset not in members and layer.has_vocabulary:  # of the config
            continue
        if asset not in members:
            raise ValueError(f"layer {name!r}: expected {asset} in the .keras file")
        try:
            layer.load_assets(_read(data, members[asset]))
        except ValueError as error:
            raise ValueError(f"{asset}: {error}") from None


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
    """The members of a zip by name. Nothing is extracted to a disk, but for a user's load_assets
    (fastrnn.saving.assets)."""
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
