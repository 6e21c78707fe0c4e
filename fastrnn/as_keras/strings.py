"""What functions for TextVectorization's standardize and split use of tf.strings: arrays of bytes
from arrays of text, and lists of bytes where TensorFlow has ragged tensors.

Patterns are those of Python's re, which has nearly all of TensorFlow's RE2."""

import re

import numpy as np

from fastrnn.variable import Array

__all__ = [
    "join", "length", "lower", "regex_full_match", "regex_replace", "split", "strip",
    "unicode_split", "upper",
]  # fmt: skip

_LOWER = {n: n + 32 for n in range(ord("A"), ord("Z") + 1)}
_UPPER = {small: capital for capital, small in _LOWER.items()}
_SPACE = " \t\n\r\x0b\x0c"


def _texts(input):
    array = np.asarray(input)
    texts = array.ravel().tolist()
    return [t.decode(errors="surrogateescape") if isinstance(t, bytes) else t for t in texts], array


def _encoded(text):
    return text.encode(errors="surrogateescape")


def _array(texts, shape):
    return np.fromiter(map(_encoded, texts), object).reshape(shape).view(Array)


def _each(function, input, dtype=None):
    texts, array = _texts(input)
    made = [function(text) for text in texts]
    if dtype is None:
        return _array(made, array.shape)
    return np.array(made, dtype).reshape(array.shape).view(Array)


def _lists(function, input):
    texts, array = _texts(input)
    words = [[*map(_encoded, function(text))] for text in texts]
    return words if array.ndim else words[0]


def lower(input, encoding: str = "") -> np.ndarray:
    """In lower case; without encoding="utf-8" the letters of ASCII alone."""
    return _each(str.lower if encoding else lambda text: text.translate(_LOWER), input)


def upper(input, encoding: str = "") -> np.ndarray:
    """In upper case; without encoding="utf-8" the letters of ASCII alone."""
    return _each(str.upper if encoding else lambda text: text.translate(_UPPER), input)


def strip(input) -> np.ndarray:
    """Without spaces at both ends."""
    return _each(lambda text: text.strip(_SPACE), input)


def length(input, unit: str = "BYTE") -> np.ndarray:
    """How many bytes, or of unit "UTF8_CHAR" characters, each text has."""
    if unit == "BYTE":
        return _each(lambda text: len(_encoded(text)), input, np.int32)
    return _each(len, input, np.int32)


def regex_replace(input, pattern: str, rewrite: str, replace_global: bool = True) -> np.ndarray:
    """Matches of a pattern, or only the first, in each text replaced."""
    found = re.compile(pattern)
    return _each(lambda text: found.sub(rewrite, text, 0 if replace_global else 1), input)


def regex_full_match(input, pattern: str) -> np.ndarray:
    """Is each text all of it a match?"""
    found = re.compile(pattern)
    return _each(lambda text: found.fullmatch(text) is not None, input, bool)


def split(input, sep: str | None = None, maxsplit: int = -1) -> list:
    """The words of each text, a list for each; sep: what is between them."""
    if not sep:  # of ASCII's spaces alone, unlike str.split()
        return _lists(lambda text: re.findall(f"[^{_SPACE}]+", text), input)
    return _lists(lambda text: text.split(sep, maxsplit), input)


def unicode_split(input, input_encoding: str = "UTF-8") -> list:
    """The characters of each text, a list for each."""
    return _lists(list, input)


def join(inputs, separator: str = "") -> np.ndarray:
    """Texts at the same places in several arrays as one."""
    columns = np.broadcast_arrays(*(np.asarray(part) for part in inputs))
    rows = zip(*(_texts(column)[0] for column in columns), strict=True)
    return _array(map(separator.join, rows), columns[0].shape)
