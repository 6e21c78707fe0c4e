"""What scripts use of TensorFlow's own functions that make tensors or call functions of NumPy."""

import numpy as np

from fastrnn import ops
from fastrnn.specs import as_dtype, as_element, as_leaf, map_structure

__all__ = [
    "cardinality", "constant", "convert_to_tensor", "fill", "function", "identity",
    "numpy_function", "one_hot", "ones", "py_function", "range", "rank", "shape", "size", "zeros",
]  # fmt: skip


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
    if isinstance(value, _PLAIN) or type(value) is np.ndarray:
        return constant(value, dtype)
    return ops.convert_to_tensor(value, dtype)


def identity(input, name=None):
    return convert_to_tensor(input)


def fill(dims, value, name=None):
    return constant(value, shape=dims)


def zeros(shape, dtype=np.float32, name=None):
    return as_leaf("zeros", np.zeros(shape, as_dtype("dtype", dtype)))


def ones(shape, dtype=np.float32, name=None):
    return as_leaf("ones", np.ones(shape, as_dtype("dtype", dtype)))


def range(start, limit=None, delta=1, dtype=None, name=None):
    """Numbers of the type of the arguments."""
    if limit is None:
        start, limit = 0, start
    kinds = [as_leaf("range", value).dtype for value in (start, limit, delta)]
    kinds = [kind for kind in kinds if kind.kind == "f"] or kinds
    dtype = np.result_type(*kinds) if dtype is None else as_dtype("dtype", dtype)
    return as_leaf("range", np.arange(start, limit, delta).astype(dtype))


def shape(input, out_type=np.int32, name=None):
    return as_leaf("shape", np.array(np.shape(input), out_type))


def size(input, out_type=np.int32, name=None):
    return as_leaf("size", np.array(np.size(input), out_type))


def rank(input, name=None):
    return as_leaf("rank", np.array(np.ndim(input), np.int32))


def one_hot(indices, depth, on_value=1, off_value=0, axis=-1, dtype=np.float32, name=None):
    """off_value, with on_value where the index is; nowhere for one outside."""
    hot = np.asarray(indices)[..., None] == np.arange(depth)
    found = np.where(hot, on_value, off_value).astype(dtype)
    return as_leaf("one_hot", np.moveaxis(found, -1, axis))


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


def function(func=None, **options):
    """A decorator that leaves a function as it is."""
    return func if func is not None else function
