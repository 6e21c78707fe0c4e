"""What a file is that is no model of Keras's: by its first bytes, else by its name."""

import os

_ARCHITECTURE = "which fastrnn.models.model_from_json reads"
_PYTORCH = "fastrnn.from_torch takes a module, or a state dict that torch.load read"
_BY_CONTENT = (  # first bytes, what the file is
    (b"\x89HDF", "a damaged .h5 file"),
    (b"fastrnn\0", "a file of fastrnn.to_c, which libfastrnn reads; load the file that the model "
     "was in before"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\x1f\x8b", "compressed; unpack it with gzip first"),
    (b"\x80", f"a pickle, which could hold code; {_PYTORCH}"),
    (b"{", f"JSON text: an architecture, {_ARCHITECTURE}, or something else"),
)  # fmt: skip
_BY_NAME = {
    ".onnx": "fastrnn.from_onnx reads it",
    ".safetensors": "it holds weights alone; make the model and call model.load_weights",
    ".pb": "only TensorFlow reads it; save the model there as .keras",
    ".tflite": "only TensorFlow Lite reads it",
    ".pt": _PYTORCH,
    ".pth": _PYTORCH,
}


def described(filepath, data: bytes) -> str:
    """The message about a file, with these bytes, that was to be loaded."""
    name = os.fspath(filepath)
    expected = f"filepath: expected a .keras or .h5 file, {name!r} is "
    if not data:
        return f"{expected}empty"
    what = _BY_NAME.get(os.path.splitext(str(name))[1].lower())
    if what:
        return f"{expected}none: {what}"
    for begin, what in _BY_CONTENT:
        if data.startswith(begin):
            return expected + what
    text = data[:1000].translate(None, b"\t\r\n")
    is_text = text.isascii() and text.decode("ascii").isprintable()
    return f"{expected}{'text' if is_text else 'of another kind, or damaged'}"


def of_members(names) -> str:
    """The end of the message about a zip with members of these names."""
    if any(name.endswith("data.pkl") for name in names):
        return f"; this is a file of PyTorch: {_PYTORCH}"
    if names and all(name.endswith(".npy") for name in names):
        return "; these are arrays of NumPy"
    return ""
