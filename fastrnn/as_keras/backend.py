"""What scripts use of keras.backend and keras.config, on arrays and tensors.

A loss made of these functions has a derivative (fastrnn.tape)."""

import contextlib

import numpy as np

from fastrnn import ops
from fastrnn.as_keras import random_numbers
from fastrnn.layers.base import clear_session, context, unique_number
from fastrnn.layers.own_rnn import kept_steps, loop
from fastrnn.layers.symbolic import Symbolic
from fastrnn.models import Model
from fastrnn.tape import unstacked
from fastrnn.variable import Variable

_NUMPY = (
    "abs", "all", "any", "clip", "cos", "equal", "exp", "float32", "float64",
    "greater", "greater_equal", "int32", "int64", "less", "less_equal", "log", "max", "maximum",
    "mean", "min", "minimum", "ndim", "not_equal", "ones_like", "prod", "reshape", "round", "shape",
    "sign", "sin", "sqrt", "square", "squeeze", "std", "sum", "tanh", "transpose", "var", "where",
    "zeros_like",
)  # fmt: skip
globals().update({name: getattr(ops, name, None) or getattr(np, name) for name in _NUMPY})
flatten, pow, switch = np.ravel, ops.pow, ops.where

__all__ = [
    "argmax", "argmin", "backend", "binary_crossentropy", "cast", "categorical_crossentropy",
    "clear_session", "constant", "epsilon", "eval", "expand_dims", "flatten", "floatx", "function",
    "get_value", "image_data_format", "int_shape", "learning_phase", "pow", "set_epsilon",
    "set_floatx", "set_image_data_format", "set_session", "set_value", "sigmoid", "softplus",
    "switch", "batch_dot", "batch_flatten", "concatenate", "cumprod", "cumsum", "dot", "dropout",
    "elu", "eye", "gather", "hard_sigmoid", "in_test_phase", "in_train_phase", "is_tensor",
    "l2_normalize", "logsumexp", "one_hot", "ones", "permute_dimensions",
    "random_normal", "random_uniform", "relu", "repeat", "repeat_elements", "reverse", "size",
    "softmax", "softsign", "sparse_categorical_crossentropy", "stack", "stop_gradient", "tile",
    "truncated_normal", "update", "update_add", "update_sub", "variable", "zeros", *_NUMPY,
    "arange", "batch_get_value", "batch_normalization", "batch_set_value", "bias_add",
    "cast_to_floatx", "count_params", "disable_flash_attention", "disable_traceback_filtering",
    "dtype", "enable_flash_attention", "enable_traceback_filtering", "foldl", "foldr", "get_uid",
    "in_top_k", "is_flash_attention_enabled", "is_keras_tensor", "is_sparse",
    "is_traceback_filtering_enabled", "map_fn", "moving_average_update", "name_scope",
    "random_bernoulli", "random_normal_variable", "random_uniform_variable", "rnn",
    "temporal_padding",
]  # fmt: skip

cast, sigmoid, softplus = ops.cast, ops.sigmoid, ops.softplus
elu, eye, hard_sigmoid, is_tensor = ops.elu, ops.eye, ops.hard_sigmoid, ops.is_tensor
logsumexp, ones, relu, size, softmax = ops.logsumexp, ops.ones, ops.relu, ops.size, ops.softmax
softsign, stack, stop_gradient, tile = ops.softsign, ops.stack, ops.stop_gradient, ops.tile
arange, zeros = ops.arange, ops.zeros

_epsilon = 1e-7


def backend() -> str:
    """The name "fastrnn"."""
    return "fastrnn"


def set_session(session) -> None:
    """Changes nothing: layers run without one."""


def argmax(x, axis=-1):
    return ops.argmax(x, axis)


def argmin(x, axis=-1):
    return ops.argmin(x, axis)


def expand_dims(x, axis=-1):
    return ops.expand_dims(x, axis)


def constant(value, dtype="float32", shape=None) -> np.ndarray:
    return np.full(np.shape(value) if shape is None else shape, value, dtype)


def dot(x, y):
    """x of n axes times y of two or more: over the last of x and the last but one of y."""
    return ops.dot(x, y)


def batch_dot(x, y, axes=None):
    """For each sample the sum of products over an axis of x and one of y, counted with it."""
    ranks = ops.ndim(x), ops.ndim(y)
    if axes is None:
        axes = ranks[0] - 1, 1 if ranks[1] == 2 else ranks[1] - 2
    one, two = (axes, axes) if isinstance(axes, int) else axes
    letters = "abcdefghijklmnop"
    left = [*letters[: ranks[0]]]
    right = ["a", *letters[ranks[0] : ranks[0] + ranks[1] - 1]]
    right[two % ranks[1]] = summed = left[one % ranks[0]]
    out = [part for part in left + right[1:] if part != summed]
    y = ops.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", x, y)
    return ops.expand_dims(y, -1) if len(out) == 1 else y


def concatenate(tensors, axis=-1):
    return ops.concatenate(tensors, axis)


def permute_dimensions(x, pattern):
    return ops.transpose(x, pattern)


def reverse(x, axes):
    return ops.flip(x, axes)


def repeat(x, n):
    """Each row n times, on a new axis after the batch."""
    return ops.repeat(ops.expand_dims(x, 1), n, axis=1)


def repeat_elements(x, rep, axis):
    return ops.repeat(x, rep, axis=axis)


def batch_flatten(x):
    return ops.reshape(x, (-1, int(np.prod(ops.shape(x)[1:]))))


def gather(reference, indices):
    return ops.take(reference, indices, 0)


def cumsum(x, axis=0):
    return ops.cumsum(x, axis)


def cumprod(x, axis=0):
    return ops.cumprod(x, axis)


def one_hot(indices, num_classes):
    return ops.one_hot(indices, num_classes)


def l2_normalize(x, axis=None):
    squares = ops.sum(ops.square(x), axis, keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(squares, 1e-12)))


def dropout(x, level, noise_shape=None, seed=None):
    return random_numbers.dropout(x, level, noise_shape, seed)


def random_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    return random_numbers.normal(shape, mean, stddev, dtype, seed)


def random_uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    return random_numbers.uniform(shape, minval, maxval, dtype, seed)


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    return random_numbers.truncated_normal(shape, mean, stddev, dtype, seed)


def variable(value, dtype="float32", name=None, constraint=None):
    return Variable(np.asarray(value), dtype=dtype, name=name, constraint=constraint)


def update(x, new_x):
    return x.assign(new_x)


def update_add(x, increment):
    return x.assign_add(increment)


def update_sub(x, decrement):
    return x.assign_sub(decrement)


def moving_average_update(x, value, momentum):
    return x.assign(x * momentum + value * (1.0 - momentum))


def random_normal_variable(shape, mean, scale, dtype=None, name=None, seed=None):
    return variable(random_normal(shape, mean, scale, dtype, seed), dtype or "float32", name)


def random_uniform_variable(shape, low, high, dtype=None, name=None, seed=None):
    return variable(random_uniform(shape, low, high, dtype, seed), dtype or "float32", name)


def random_bernoulli(shape, p=0.0, dtype=None, seed=None):
    """Ones with the probability p, else zeros."""
    return cast(random_numbers.uniform(shape, seed=seed) <= p, dtype or "float32")


def rnn(step_function, inputs, initial_states, go_backwards=False, mask=None, constants=None,
        unroll=False, input_length=None, time_major=False, zero_output_for_mask=False,
        return_all_outputs=True):  # fmt: skip
    """(last output, outputs, states after the last step) of output, states =
    step_function(x, states + constants) for each time step x."""
    if isinstance(inputs, Symbolic):
        raise TypeError(
            "rnn: expected arrays, received the output of a layer; put it into the `call` of a "
            "layer of your own"
        )
    constants, axis = tuple(constants or ()), 0 if time_major else 1
    if mask is not None:
        kept = kept_steps(ops.transpose(mask) if time_major else mask)
        mask = kept[:, ::-1] if go_backwards else kept
    outputs, states = loop(
        lambda x, states: step_function(x, (*states, *constants)),
        unstacked(inputs, axis)[:: -1 if go_backwards else 1],
        list(initial_states),
        mask,
        zero_output_for_mask,
    )
    return outputs[-1], stack(outputs if return_all_outputs else outputs[-1:], axis), states


def foldl(fn, elems, initializer=None, name=None):
    """fn(fn(initializer, first), second) and so on, which starts with the first without one."""
    parts = unstacked(elems, 0)
    found, *parts = parts if initializer is None else [initializer, *parts]
    for part in parts:
        found = fn(found, part)
    return found


def foldr(fn, elems, initializer=None, name=None):
    return foldl(fn, reverse(elems, 0), initializer)


def map_fn(fn, elems, name=None, dtype=None):
    return ops.map(fn, elems)


def in_train_phase(x, alt, training=None):
    """x in training, alt elsewhere; either may be a function without arguments."""
    chosen = x if (context.training if training is None else training) else alt
    return chosen() if callable(chosen) else chosen


def in_test_phase(x, alt, training=None):
    return in_train_phase(alt, x, training)


def bias_add(x, bias, data_format=None):
    return ops.add(x, bias)


def batch_normalization(x, mean, var, beta, gamma, axis=-1, epsilon=1e-3):
    y = (x - mean) * ops.rsqrt(var + epsilon)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def temporal_padding(x, padding=(1, 1)):
    """x with so many steps of zeros before and after it."""
    return ops.pad(x, [(0, 0), padding, (0, 0)])


def in_top_k(predictions, targets, k):
    return ops.in_top_k(targets, predictions, k)


def binary_crossentropy(target, output, from_logits=False):
    """That of each element."""
    p = np.clip(sigmoid(output) if from_logits else output, 1e-7, 1 - 1e-7)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    return ops.categorical_crossentropy(target, output, from_logits, axis)


def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    return ops.sparse_categorical_crossentropy(target, output, from_logits, axis)


def function(inputs, outputs):
    """A function of [x], or [x, 0], that gives the list of what `outputs`, of layers of one model,
    are; without a list, the one. Raises ValueError for the learning phase 1."""
    several = isinstance(outputs, (list, tuple))
    models = [Model(inputs[0], output) for output in (outputs if several else [outputs])]

    def call(given):
        x, *phase = given
        if any(phase):
            raise ValueError("learning phase: expected 0, as functions are not for training")
        found = [model.predict(x, verbose=0) for model in models]
        return found if several else found[0]

    return call


def learning_phase() -> int:
    """The number 0: `function` and `predict` are for inference."""
    return 0


def batch_get_value(tensors) -> list:
    return [get_value(x) for x in tensors]


def batch_set_value(tuples) -> None:
    """Set each weight of (weight, value) pairs."""
    for x, value in tuples:
        set_value(x, value)


def count_params(x) -> int:
    return int(np.prod(x.shape))


def dtype(x) -> str:
    """The name of an array's or a tensor's type."""
    return str(getattr(x, "dtype", "float32"))


def cast_to_floatx(x):
    return cast(x, "float32")


def get_uid(prefix="") -> int:
    """1, then 2, ... for each prefix."""
    return unique_number(prefix)


def name_scope(name, **options):
    """`with` it nothing changes."""
    return contextlib.nullcontext(name)


def is_keras_tensor(x) -> bool:
    """Is x an output of a layer, without values?"""
    return isinstance(x, Symbolic)


def is_sparse(tensor) -> bool:
    return False


def enable_traceback_filtering() -> None:
    """Changes nothing: exceptions are shown as they are."""


def is_traceback_filtering_enabled() -> bool:
    return False


def enable_flash_attention() -> None:
    """Changes nothing: attention is computed in one way."""


def is_flash_attention_enabled() -> bool:
    return False


disable_traceback_filtering = enable_traceback_filtering
disable_flash_attention = enable_flash_attention


def epsilon() -> float:
    """The small number for a user's own functions; fastrnn's losses keep to 1e-7."""
    return _epsilon


def set_epsilon(value: float) -> None:
    global _epsilon
    _epsilon = float(value)


def floatx() -> str:
    """The name "float32", the only type that networks compute in."""
    return "float32"


def set_floatx(value: str) -> None:
    """Raises ValueError for anything but "float32"."""
    if value != "float32":
        raise ValueError(f"value: expected 'float32', received {value!r}")


def image_data_format() -> str:
    """The name "channels_last"."""
    return "channels_last"


def set_image_data_format(data_format: str) -> None:
    """Raises ValueError for anything but "channels_last"."""
    if data_format != "channels_last":
        raise ValueError(f"data_format: expected 'channels_last', received {data_format!r}")


def int_shape(x) -> tuple:
    """The shape of an array, or of what a layer puts out, None where free."""
    return tuple(np.shape(x) if not hasattr(x, "shape") else x.shape)


def get_value(x):
    """The number or array in a variable."""
    return x.numpy() if isinstance(x, Variable) else x


eval = get_value


def set_value(x, value) -> None:
    """Give a weight or a learning rate another value. Raises TypeError for anything else."""
    if not hasattr(x, "assign"):
        raise TypeError(f"x: expected a weight or a learning rate, received {x!r}")
    x.assign(value)
