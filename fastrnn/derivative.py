"""Derivatives of users' losses, activations and regularizers, and of operations in graphs, from
NumPy's functions in them.

`derivative(function, x)` calls the function once with a `Traced` in place of x, which remembers the
steps, and goes back over them. Where a step has a kink its derivative is TensorFlow's: 0 for abs,
shared by those that are the greatest for max.
"""

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


def derivative(function, x, dy=None) -> np.ndarray:
    """The derivative with respect to x of the sum of y = function(x), or of dy * y.

    Raises ValueError for a result that does not come from x, TypeError for a step of which no
    derivative is known.
    """
    x = Traced(x, [], ())
    y = function(x)
    if not isinstance(y, Traced):
        raise ValueError("the result comes from no step with a derivative")
    y.gradient = np.ones_like(y.value) if dy is None else dy
    play(x.tape)
    return np.zeros_like(x.value) if x.gradient is None else x.gradient


def play(tape) -> None:
    """Go back over the steps of a tape, from the gradients that some of them have."""
    for step in reversed(tape):
        for source, pull in step.pulls if step.gradient is not None else ():
            part = _summed_to(pull(step.gradient), source.shape)
            source.gradient = part if source.gradient is None else source.gradient + part


def derivative_of_users(kind, name, advice, function, x, dy=None) -> np.ndarray:
    """`derivative` of a user's function; where there is none, a ValueError that ends in advice."""
    try:
        return derivative(function, x, dy)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind}: no derivative of {name} was found: {error}; {advice}") from error


class Traced(NDArrayOperatorsMixin):
    """An array that knows what it was computed from: `pulls` has each source with the function that
    takes the gradient of this to the gradient of that."""

    __hash__ = object.__hash__

    def __init__(self, value, tape, pulls):
        self.value, self.tape, self.pulls, self.gradient = np.asarray(value), tape, pulls, None
        tape.append(self)

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    T = property(lambda self: np.transpose(self))

    def then(self, value, pull):
        return Traced(value, self.tape, [(self, pull)])

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        values = [value_of(given) for given in inputs]
        if ufunc is np.matmul and method == "__call__":
            return _matmul(*inputs)
        if method != "__call__" or ufunc not in _UFUNCS:
            if method == "__call__" and ufunc in _FLAT:
                return ufunc(*values, **options)
            raise _unknown(ufunc)
        y = ufunc(*values, **options)
        return _from(
            y,
            [
                (given, lambda g, rule=rule: g * rule(y, *values))
                for given, rule in zip(inputs, _UFUNCS[ufunc], strict=True)
            ],
        )

    def __array_function__(self, function, types, args, options):
        if function in _FUNCTIONS:
            return _FUNCTIONS[function](*args, **options)
        if function in _FLAT:
            return function(*map(value_of, args), **options)
        raise _unknown(function)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("to find its derivative it must not make an array of what it is given")

    def __len__(self):
        return len(self.value)

    def __getitem__(self, place):
        parts = place if isinstance(place, tuple) else (place,)
        basic = all(isinstance(p, (int, slice, type(None), type(Ellipsis))) for p in parts)

        def pull(g):
            whole = np.zeros_like(self.value)
            if basic:
                whole[place] = g
            else:
                np.add.at(whole, place, g)
            return whole

        return self.then(self.value[place], pull)

    def astype(self, dtype):
        return self.then(self.value.astype(dtype), lambda g: g.astype(self.dtype))

    def reshape(self, *shape):
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def sum(self, *args, **options):
        return np.sum(self, *args, **options)

    def mean(self, *args, **options):
        return np.mean(self, *args, **options)

    def max(self, *args, **options):
        return np.max(self, *args, **options)

    def min(self, *args, **options):
        return np.min(self, *args, **options)


def _from(y, sources):
    """y as what came from these, each with its pull, of which some are Traced."""
    pulls = [(source, pull) for source, pull in sources if isinstance(source, Traced)]
    return Traced(y, pulls[0][0].tape, pulls)


def _unknown(function):
    return TypeError(f"no derivative is known of {function.__name__}")


def value_of(given):
    """The array of a Traced; anything else as it is."""
    return given.value if isinstance(given, Traced) else given


def _summed_to(gradient, shape):
    """What broadcasting from `shape` has spread, together again."""
    gradient = np.sum(gradient, tuple(range(gradient.ndim - len(shape))))
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1 != gradient.shape[axis])
    return np.sum(gradient, axes, keepdims=True)


def _spread(gradient, axis, keepdims, ndim):
    """The gradient of a reduction, with the axes that it took away."""
    if keepdims:
        return gradient
    axes = range(ndim) if axis is None else np.atleast_1d(axis) % ndim
    return np.expand_dims(gradient, tuple(axes))


def _sum(a, axis=None, keepdims=False):
    ones = np.ones_like(a.value)
    return a.then(
        np.sum(a.value, axis, keepdims=keepdims),
        lambda g: _spread(g, axis, keepdims, a.ndim) * ones,
    )


def _mean(a, axis=None, keepdims=False):
    total = np.sum(a, axis, keepdims=keepdims)
    return total / np.float32(a.size / total.size)


def _var(a, axis=None, keepdims=False):
    return np.mean(np.square(a - np.mean(a, axis, keepdims=True)), axis, keepdims=keepdims)


def _extreme(function):
    def rule(a, axis=None, keepdims=False):
        y = function(a.value, axis, keepdims=True)
        best = a.value == y
        share = best / np.sum(best, axis, keepdims=True, dtype=np.float32)
        return a.then(
            y if keepdims else function(a.value, axis),
            lambda g: _spread(g, axis, keepdims, a.ndim) * share,
        )

    return rule


def _clip(a, low=None, high=None, **bounds):
    low, high = bounds.get("a_min", low), bounds.get("a_max", high)
    a = a if low is None else np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


def _where(condition, a, b):
    condition = value_of(condition)
    y = np.where(condition, value_of(a), value_of(b))
    of_a, of_b = lambda g: np.where(condition, g, 0), lambda g: np.where(condition, 0, g)
    return _from(y, [(a, of_a), (b, of_b)])


def _reshaping(function):
    def rule(a, *args, **options):
        y = function(a.value, *args, **options)
        return a.then(y, lambda g: g.reshape(a.shape))

    return rule


def _transpose(a, axes=None):
    back = None if axes is None else np.argsort(axes)
    return a.then(np.transpose(a.value, axes), lambda g: np.transpose(g, back))


def _rearranging(function, back):
    """A function that only puts numbers elsewhere; back(g, *its arguments) undoes it."""

    def rule(a, *args, **options):
        y = function(a.value, *args, **options)
        return a.then(y, lambda g: back(g, *args, **options))

    return rule


def _concatenate(arrays, axis=0):
    values = [value_of(array) for array in arrays]
    ends = np.cumsum([value.shape[axis] for value in values])
    y = np.concatenate(values, axis)

    def part(n):
        return lambda g: np.split(g, ends[:-1], axis)[n]

    return _from(y, [(array, part(n)) for n, array in enumerate(arrays)])


def _stack(arrays, axis=0):
    return _concatenate([np.expand_dims(array, axis) for array in arrays], axis)


def _split(a, indices_or_sections, axis=0):
    ends = np.cumsum([part.shape[axis] for part in np.split(a.value, indices_or_sections, axis)])
    places = [[slice(None)] * a.ndim for _ in ends]
    for place, begin, end in zip(places, [0, *ends], ends, strict=False):
        place[axis] = slice(int(begin), int(end))
    return [a[tuple(place)] for place in places]


def _repeat(a, repeats, axis=None):
    if axis is None or np.ndim(repeats):
        raise _unknown(np.repeat)
    axis %= a.ndim
    shape = (*a.shape[: axis + 1], repeats, *a.shape[axis + 1 :])
    return a.then(
        np.repeat(a.value, repeats, axis), lambda g: np.sum(g.reshape(shape), axis=axis + 1)
    )


def _tile(a, repeats):
    repeats = (repeats,) if np.ndim(repeats) == 0 else tuple(repeats)
    rank = max(len(repeats), a.ndim)
    repeats = (1,) * (rank - len(repeats)) + repeats
    shape = (1,) * (rank - a.ndim) + a.shape
    spread = [n for pair in zip(repeats, shape, strict=True) for n in pair]
    return a.then(
        np.tile(a.value, repeats),
        lambda g: np.sum(g.reshape(spread), tuple(range(0, 2 * rank, 2))).reshape(a.shape),
    )


def _cumsum(a, axis=None, dtype=None):
    if axis is None:
        raise _unknown(np.cumsum)
    return a.then(
        np.cumsum(a.value, axis, dtype), lambda g: np.flip(np.cumsum(np.flip(g, axis), axis), axis)
    )


def _prod(a, axis=None, keepdims=False):
    y = np.prod(a.value, axis, keepdims=True)

    def pull(g):
        if not np.all(a.value):
            raise ValueError("the derivative of a product needs factors that are not 0")
        return _spread(g, axis, keepdims, a.ndim) * y / a.value

    return a.then(y if keepdims else np.prod(a.value, axis), pull)


def _take(a, indices, axis=None):
    indices = np.asarray(value_of(indices)).astype(np.int64)
    if axis is None:
        return np.ravel(a)[indices]
    return a[(slice(None),) * (axis % a.ndim) + (indices,)]


def _pad(a, pad_width, mode="constant", constant_values=0):
    if mode != "constant":
        raise _unknown(np.pad)
    y = np.pad(a.value, pad_width, constant_values=constant_values)
    pairs = np.broadcast_to(pad_width, (a.ndim, 2))
    inner = tuple(slice(low, low + n) for (low, _), n in zip(pairs, a.shape, strict=True))
    return a.then(y, lambda g: g[inner])


def _matmul(a, b):
    x, y = value_of(a), np.asarray(value_of(b))
    if min(x.ndim, y.ndim) < 2:
        raise TypeError("no derivative is known of matmul of vectors")
    of_a = (a, lambda g: np.matmul(g, np.swapaxes(y, -1, -2)))
    of_b = (b, lambda g: np.matmul(np.swapaxes(x, -1, -2), g))
    return _from(np.matmul(x, y), [of_a, of_b])


def _dot(a, b):
    if np.ndim(value_of(b)) != 2:
        raise TypeError("no derivative is known of dot but with a matrix on the right")
    return np.matmul(a, b)


def _einsum(subscripts, *operands, optimize=True):
    names, arrow, out = subscripts.replace(" ", "").partition("->")
    names = names.split(",")
    values = [np.asarray(value_of(operand)) for operand in operands]
    if "." in subscripts or not arrow or any(len(set(name)) < len(name) for name in names):
        raise TypeError("no derivative is known of einsum with ..., without -> or with diagonals")

    def pull_of(n):
        others = [*zip(names, values, strict=True)]
        del others[n]
        elsewhere = {*out, *(axis for name, _ in others for axis in name)}
        alone = [axis for axis in names[n] if axis not in elsewhere]
        sizes = [values[n].shape[names[n].index(axis)] for axis in alone]
        others.append(("".join(alone), np.ones(sizes, values[n].dtype)))
        rule = ",".join([out, *(name for name, _ in others)]) + "->" + names[n]
        return lambda g: np.einsum(rule, g, *(v for _, v in others), optimize=True)

    y = np.einsum(subscripts, *values, optimize=True)
    return _from(y, [(operand, pull_of(n)) for n, operand in enumerate(operands)])


_UFUNCS = {  # for each input, the derivative: a function of the output y and the inputs
    np.absolute: [lambda y, a: np.sign(a)],
    np.add: [lambda y, a, b: 1, lambda y, a, b: 1],
    np.arctan: [lambda y, a: 1 / (1 + a * a)],
    np.cos: [lambda y, a: -np.sin(a)],
    np.divide: [lambda y, a, b: 1 / b, lambda y, a, b: -y / b],
    np.exp: [lambda y, a: y],
    np.expm1: [lambda y, a: y + 1],
    np.log: [lambda y, a: 1 / a],
    np.log1p: [lambda y, a: 1 / (1 + a)],
    np.logaddexp: [lambda y, a, b: np.exp(a - y), lambda y, a, b: np.exp(b - y)],
    np.maximum: [lambda y, a, b: a >= b, lambda y, a, b: a < b],
    np.minimum: [lambda y, a, b: a <= b, lambda y, a, b: a > b],
    np.multiply: [lambda y, a, b: b, lambda y, a, b: a],
    np.negative: [lambda y, a: -1],
    np.positive: [lambda y, a: 1],
    np.power: [
        lambda y, a, b: b * np.power(a, b - 1),
        lambda y, a, b: y * np.log(np.where(a > 0, a, 1)),
    ],
    np.remainder: [lambda y, a, b: 1, lambda y, a, b: -np.floor(a / b)],
    np.sin: [lambda y, a: np.cos(a)],
    np.sqrt: [lambda y, a: 0.5 / y],
    np.square: [lambda y, a: 2 * a],
    np.subtract: [lambda y, a, b: 1, lambda y, a, b: -1],
    np.tanh: [lambda y, a: 1 - y * y],
}
_FUNCTIONS = {
    np.clip: _clip,
    np.concatenate: _concatenate,
    np.cumsum: _cumsum,
    np.dot: _dot,
    np.einsum: _einsum,
    np.expand_dims: _reshaping(np.expand_dims),
    np.flip: _rearranging(np.flip, np.flip),
    np.max: _extreme(np.max),
    np.mean: _mean,
    np.min: _extreme(np.min),
    np.moveaxis: _rearranging(np.moveaxis, lambda g, source, to: np.moveaxis(g, to, source)),
    np.pad: _pad,
    np.prod: _prod,
    np.ravel: _reshaping(np.ravel),
    np.repeat: _repeat,
    np.reshape: _reshaping(np.reshape),
    np.split: _split,
    np.squeeze: _reshaping(np.squeeze),
    np.stack: _stack,
    np.std: lambda a, axis=None, keepdims=False: np.sqrt(_var(a, axis, keepdims)),
    np.sum: _sum,
    np.swapaxes: _rearranging(np.swapaxes, np.swapaxes),
    np.take: _take,
    np.tile: _tile,
    np.transpose: _transpose,
    np.var: _var,
    np.where: _where,
}
_FLAT = {  # of derivative 0, or without one
    *(np.all, np.any, np.argsort, np.floor_divide, np.isinf, np.logical_and, np.logical_not),
    *(np.logical_or, np.logical_xor),
    *(np.argmax, np.argmin, np.ndim, np.ones_like, np.round, np.shape, np.size, np.zeros_like),
    *(np.ceil, np.equal, np.floor, np.greater, np.greater_equal, np.isfinite, np.isnan, np.less),
    *(np.less_equal, np.not_equal, np.rint, np.sign),
}
