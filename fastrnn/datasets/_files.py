"""Finding, downloading and reading the files of the data sets."""

import hashlib
import json
import math
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import numpy as np

BASE_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"

_READERS = ("builtins", "numpy", "zipfile", "zlib", "_lzma", "_pickle", "struct", "tokenize")
_TIMEOUT = 30  # seconds
_BLOCK = 1 << 20
_LARGEST_ARRAY = 1 << 30  # bytes; the largest of these data sets has 47 million


class DatasetNotFoundError(OSError):
    """A data set is neither on this machine nor to be had from the network."""


def locate(path, name: str, digest: str, folder: str = "") -> Path:
    """Return the file of a data set, downloading it if need be.

    In this order: `path`; its file name in the folder FASTRNN_DATA, in the cache (FASTRNN_CACHE,
    ~/.cache/fastrnn), in `datasets` of KERAS_HOME (~/.keras); the download of `name`, kept in the
    cache. A file that the user did not name, by `path` (other than `name`) or FASTRNN_DATA, must
    have the published hash `digest`. `folder` is one within each of these folders. Raises
    DatasetNotFoundError.
    """
    given = Path(path)
    if str(path) != name and os.path.isfile(given):
        return given
    named_folder = _folder("FASTRNN_DATA", "")
    if named_folder and os.path.isfile(file := Path(named_folder, folder, given.name)):
        return file

    cache = Path(_folder("FASTRNN_CACHE", "~/.cache/fastrnn"), folder)
    keras = Path(_folder("KERAS_HOME", "~/.keras"), "datasets", folder)
    passed_over = ""
    for file in (given, cache / given.name, keras / given.name):
        if os.path.isfile(file):
            if _digest(file, digest) == digest:
                return file
            passed_over += f" {file} was passed over, as it is not the published file."
    try:
        return _download(BASE_URL + name, cache / given.name, digest)
    except OSError as error:
        raise DatasetNotFoundError(
            f"{name} was not found and could not be downloaded from {BASE_URL}{name} ({error}). "
            f"Either pass its place as path=..., or set FASTRNN_DATA to a folder that has "
            f"{Path(folder, given.name)}, or put the published file into {cache}.{passed_over}"
        ) from None


def get_file(
    fname=None,
    origin=None,
    untar=False,
    md5_hash=None,
    file_hash=None,
    cache_subdir="datasets",
    hash_algorithm="auto",
    extract=False,
    archive_format="auto",
    cache_dir=None,
    force_download=False,
) -> str:
    """The path of the file at the URL `origin`, downloaded unless it is there.

    fname: its name, default the last part of `origin`. It is looked for in the folder FASTRNN_DATA,
    then in `cache_subdir` ("datasets") of cache_dir (default KERAS_HOME, or ~/.keras), where the
    download goes.
    file_hash (or md5_hash): MD5 or SHA-256 that it must have; what has another is loaded again.
    Archives are not unpacked: raises ValueError for extract and untar, DatasetNotFoundError where
    there is no such file. As keras.utils.get_file.
    """
    if extract or untar:
        raise ValueError(
            f"extract and untar: expected False, received {extract!r} and {untar!r}; unpack the "
            "file with zipfile or tarfile"
        )
    if not origin:
        raise ValueError(f"origin: expected a URL, received {origin!r}")
    name = os.fspath(fname or origin.partition("?")[0].rpartition("/")[2])
    digest = file_hash or md5_hash
    target = Path(cache_dir or _folder("KERAS_HOME", "~/.keras"), cache_subdir, name)
    for file in (Path(_folder("FASTRNN_DATA", target.parent), name), target):
        if not force_download and os.path.isfile(file) and digest in (None, _digest(file, digest)):
            return str(file)
    try:
        return str(_download(origin, target, digest))
    except OSError as error:
        raise DatasetNotFoundError(
            f"{origin} could not be downloaded ({error}). Put the file at {target}, or set "
            f"FASTRNN_DATA to a folder that has {name}"
        ) from None


def _folder(variable: str, default) -> str:
    """What the environment names, or `default`; ~ is the folder of temporary files if no other."""
    path = os.path.expanduser(os.environ.get(variable) or default)
    if not os.fspath(path).startswith("~/"):
        return path
    return os.path.join(tempfile.gettempdir(), path[2:])


def read_npz(path: Path, names: tuple[str, ...], sequences: bool = False) -> list[np.ndarray]:
    """Read the arrays `names` of an .npz file; with `sequences`, also object arrays of lists.

    No pickled code is run. Raises ValueError for a file that is damaged or holds anything else.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return [_read_member(archive, f"{name}.npy", sequences) for name in names]
        except Exception as error:  # A damaged file makes zipfile, NumPy and pickle raise anything.
            foreign = type(error).__module__.partition(".")[0] not in _READERS
            if foreign or (isinstance(error, OSError) and type(error) is not OSError):
                raise  # of a caller's signal handler, or of the disk
            raise ValueError(
                f"{path}: expected an .npz file with the arrays {', '.join(names)}, "
                f"received one that cannot be read ({type(error).__name__}: {error})"
            ) from error


def read_word_index(path, name: str, digest: str) -> dict[str, int]:
    """The JSON object in the file that `locate` finds. Raises ValueError for anything else."""
    file = locate(path, name, digest)
    with open(file, encoding="utf-8") as stream:
        try:
            index = json.load(stream)
        except ValueError as error:
            raise ValueError(f"{file}: expected a JSON file, received {error}") from error
    if not isinstance(index, dict):
        raise ValueError(f"{file}: expected a JSON object, received {type(index).__name__}")
    return index


def _digest(path: Path, like: str | None) -> str:
    """The hash of a file, of the kind of `like`."""
    hashed = _new_hash(like)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def _new_hash(like: str | None):
    return hashlib.new("md5" if like and len(like) == 32 else "sha256", usedforsecurity=False)


def _download(url: str, target: Path, digest: str | None) -> Path:
    from http.client import HTTPException  # importing these costs a tenth of fastrnn's import
    from urllib.request import urlopen

    from fastrnn.saving.atomic import naming

    target.parent.mkdir(parents=True, exist_ok=True)
    received = _new_hash(digest)
    with naming(target):
        part = tempfile.NamedTemporaryFile(dir=target.parent, delete=False)
    try:
        try:
            with part, urlopen(url, timeout=_TIMEOUT) as response:
                while block := response.read(_BLOCK):
                    received.update(block)
                    part.write(block)
        except HTTPException as error:
            raise OSError(str(error)) from error
        if digest not in (None, received.hexdigest()):
            raise OSError(f"expected the hash {digest}, received {received.hexdigest()}")
        os.replace(part.name, target)
    finally:
        Path(part.name).unlink(missing_ok=True)
    return target


def _read_member(archive: zipfile.ZipFile, name: str, sequences: bool) -> np.ndarray:
    size = archive.getinfo(name).file_size
    if size > _LARGEST_ARRAY:
        raise ValueError(f"{name} has {size} bytes")
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} has the .npy version {version}")
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, fortran_order, dtype = read_header(file)
        if dtype.hasobject:
            if not sequences:
                raise ValueError(f"{name} holds Python objects")
            return _read_sequences(file, name, shape)
        if size - file.tell() != dtype.itemsize * math.prod(shape):
            raise ValueError(f"{name} has {size} bytes for an array {shape} of {dtype}")
        array = np.frombuffer(bytearray(file.read()), dtype)
        return array.reshape(shape, order="F" if fortran_order else "C")


def _read_sequences(file, name: str, shape: tuple[int, ...]) -> np.ndarray:
    pickled = _SequenceUnpickler(file).load()
    lists = getattr(pickled, "items", None)
    if not isinstance(lists, list) or shape != (len(lists),):
        raise ValueError(f"{name} is not an array {shape} of lists")
    if not all(isinstance(item, list) for item in lists):
        raise ValueError(f"{name} is not an array of lists")
    array = np.empty(shape, dtype=object)
    for i, item in enumerate(lists):
        array[i] = item
    return array


class _PickledArray:
    """Takes the place of a NumPy array in a pickle."""

    def __init__(self, *_):
        self.items = None

    def __setstate__(self, state):
        _version, _shape, _dtype, _fortran_order, self.items = state


class _PickledType:
    """Takes the place of numpy.ndarray and numpy.dtype in a pickle."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        pass


class _SequenceUnpickler(pickle.Unpickler):
    """Reads lists and numbers, and the array around them, calling nothing that a file names.

    NumPy's own constructors are no safe substitute: a forged dtype state gives an array of
    arbitrary pointers.
    """

    _STAND_INS = {
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy", "ndarray"): _PickledType,
        ("numpy", "dtype"): _PickledType,
    }

    def find_class(self, module, name):
        if (module, name) not in self._STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a data set")
        return self._STAND_INS[module, name]
