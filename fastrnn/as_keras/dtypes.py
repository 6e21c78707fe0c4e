"""NumPy's types under TensorFlow's names; strings are bytes in arrays of objects."""

from numpy import (
    bool_ as bool,
)
from numpy import (
    complex64,
    complex128,
    double,
    float16,
    float32,
    float64,
    half,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from numpy import (
    object_ as string,
)

__all__ = [
    "bool", "complex128", "complex64", "double", "float16", "float32", "float64", "half", "int16",
    "int32", "int64", "int8", "string", "uint16", "uint32", "uint64", "uint8",
]  # fmt: skip
