"""What scripts use of TensorFlow's own functions that make tensors or call functions of NumPy."""

import numpy as np

from fastrnn import ops
from fastrnn.specs import as_dtype, as_element, as_leaf, map_structure
from fastrnn.tape import joined

__all__ = ["cardinality", "constant", "convert_to_tensor", "numpy_function", "py_function"]


def cardinality(dataset):
    """How many elements a Dataset has."""
    return dataset.cardinality()


def constant(value, dtype=None, shape=None, name=None):
    """An array: of Python's numbers int32 or float32."""
    found = as_leaf("value", value, None if dtype is None else as_dtype("dtype", dtype))
    if shape is None:
        return found
    shape = tuple(shape)
    if found.size == 1:
        return as_leaf("value", np.full(shape, found.ravel()[0], found.dtype))
    return found.reshape(shape)


_PLAIN = bool, int, float, str, bytes, list, tuple, np.generic


def convert_to_tensor(value, dtype=None, dtype_hint=None, name=None):
    """As constant; of outputs of layers and of what a tape remembers these themselves."""
    value = joined(value)
    if isinstance(value, _PLAIN) or type(value) is np.ndarray:
        return constant(value, dtype)
    return ops.convert_to_tensor(value, dtype)


def numpy_function(func, inp, Tout, stateful=True, name=None):
    """func of NumPy's arrays, with results of these types."""
    found = func(*map_structure(np.asarray, tuple(inp)))
    types = tuple(Tout) if isinstance(Tout, list) else Tout
    return map_structure(
        lambda dtype, value: as_leaf("func", value, as_dtype("Tout", dtype)),
        types,
        tuple(found) if isinstance(found, list) and isinstance(types, tuple) else found,
    )


def py_function(func=None, inp=None, Tout=None, name=None):
    """func of arrays with numpy(), with results of these types."""
    inp = as_element("inp", tuple(inp))
    return numpy_function(lambda *_: func(*inp), inp, Tout)
