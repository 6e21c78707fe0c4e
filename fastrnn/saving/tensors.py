"""Weights alone in safetensors files, named like `bidirectional/forward_layer/cell/kernel`.

A file is the size of a JSON header, the header, which has type, shape and place of each array, and
the arrays without gaps (https://github.com/huggingface/safetensors)."""

import json
import math
import struct

import numpy as np

from fastrnn.saving import config, weights

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
    "BF16": "<u2",  # the upper half of a float32, which NumPy has not
}  # fmt: skip


def to_bytes(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The bytes of a file of these arrays."""
    names = {np.dtype(dtype).str: name for name, dtype in _DTYPES.items() if name != "BF16"}
    header: dict = {"__metadata__": metadata}
    parts, end = [], 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):
        array = np.asarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": names[little.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        parts.append(little.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def from_bytes(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file, bfloat16 as float32. Raises ValueError for a damaged one."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ValueError("expected a header within the file")
    header = config.parse(data[8 : 8 + size], "header")
    header.pop("__metadata__", None)
    arrays, ends = {}, [(0, 0)]
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"{name!r}: expected dtype, shape and data_offsets")
        dtype, shape, place = (
            _DTYPES.get(str(entry["dtype"])),
            entry["shape"],
            entry["data_offsets"],
        )
        if dtype is None or not (_are_sizes(shape) and _are_sizes(place) and len(place) == 2):
            raise ValueError(f"{name!r}: expected a known dtype, sizes and a place: {entry}")
        start, end = place
        needed = math.prod(shape) * np.dtype(dtype).itemsize
        if end - start != needed or end > len(data) - 8 - size or len(shape) > 32:
            raise ValueError(f"{name!r}: shape {shape} needs {needed} bytes, its place is {place}")
        array = np.frombuffer(data, dtype, math.prod(shape), 8 + size + start).reshape(shape)
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array
        ends.append((start, end))
    ends.sort()
    if any(end != start for (_, end), (start, _) in zip(ends, ends[1:], strict=False)) or (
        ends[-1][1] != len(data) - 8 - size
    ):
        raise ValueError("expected arrays without gaps, up to the end of the file")
    return arrays


def _are_sizes(value) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _named(model):
    """name -> variable. Layers go by class and number, as they do in Keras 3's files, since the
    names that they get by themselves differ from one run of a program to the next."""
    named = {}
    for path, _, variables, _ in weights.places(model):
        for n, variable in enumerate(variables):
            name = f"{path.replace('layers/', '')}{variable.name}"
            named[f"{name}_{n}" if name in named else name] = variable
    return named


def write(model) -> bytes:
    """The bytes of a .safetensors file."""
    arrays = {name: variable.value for name, variable in _named(model).items()}
    return to_bytes(arrays, {"format": "fastrnn"})


def read(model, data: bytes, skip_mismatch=False) -> None:
    """Give a built model the weights in the bytes of a .safetensors file, all or none."""
    try:
        arrays = from_bytes(data)
    except ValueError as error:
        raise ValueError(f"not a .safetensors file, or a damaged one: {error}") from None
    taken, misfits = [], []
    variables = _named(model)
    for name, variable in variables.items():
        found = [arrays[name]] if name in arrays else []
        misfit = weights.mismatch(f"weight {name!r}", [variable], found)
        if misfit is None:
            taken.append((variable, found[0]))
        else:
            misfits.append(misfit)
    unknown = sorted(set(arrays) - set(variables))
    if unknown:
        misfits.append(f"the file has weights {unknown}, which the model has not")
    weights.assign(taken, misfits, skip_mismatch)
