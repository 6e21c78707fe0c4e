"""Derivatives of users' losses, activations and regularizers, from NumPy's functions in them.

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
    for step in reversed(x.tape):
        for source, pull in step.pulls if step.gradient is not None else ():
            part = _summed_to(pull(step.gradient), source.shape)
            source.gradient = part if source.gradient is None else source.gradient + part
    return np.zeros_like(x.value) if x.gradient is None else x.gradient


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
        values = [_value(given) for given in inputs]
        if method != "__call__" or ufunc not in _UFUNCS:
            if method == "__call__" and ufunc in _FLAT:
                return ufunc(*values, **options)
            raise _unknown(ufunc)
        y = ufunc(*values, **options)
        pulls = [
            (given, lambda g, rule=rule: g * rule(y, *values))
            for given, rule in zip(inputs, _UFUNCS[ufunc], strict=True)
            if isinstance(given, Traced)
        ]
        return Traced(y, self.tape, pulls)

    def __array_function__(self, function, types, args, options):
        if function in _FUNCTIONS:
            return _FUNCTIONS[function](*args, **options)
        if function in _FLAT:
            return function(*map(_value, args), **options)
        raise _unknown(function)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("to find its derivative it must not make an array of what it is given")

    def __len__(self):
        return len(self.value)

    def __getitem__(self, place):
        def pull(g):
            whole = np.zeros_like(self.value)
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


def _unknown(function):
    return TypeError(f"no derivative is known of {function.__name__}")


def _value(given):
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
    condition = _value(condition)
    y = np.where(condition, _value(a), _value(b))
    sources = [(s, m) for s, m in ((a, condition), (b, np.logical_not(condition)))]
    pulls = [(s, lambda g, m=m: np.where(m, g, 0)) for s, m in sources if isinstance(s, Traced)]
    return Traced(y, pulls[0][0].tape, pulls)


def _reshaping(function):
    def rule(a, *args, **options):
        y = function(a.value, *args, **options)
        return a.then(y, lambda g: g.reshape(a.shape))

    return rule


def _transpose(a, axes=None):
    back = None if axes is None else np.argsort(axes)
    return a.then(np.transpose(a.value, axes), lambda g: np.transpose(g, back))


_UFUNCS = {  # for each input, the derivative: a function of the output y and the inputs
    np.absolute: [lambda y, a: np.sign(a)],
    np.add: [lambda y, a, b: 1, lambda y, a, b: 1],
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
    np.sin: [lambda y, a: np.cos(a)],
    np.sqrt: [lambda y, a: 0.5 / y],
    np.square: [lambda y, a: 2 * a],
    np.subtract: [lambda y, a, b: 1, lambda y, a, b: -1],
    np.tanh: [lambda y, a: 1 - y * y],
}
_FUNCTIONS = {
    np.clip: _clip,
    np.expand_dims: _reshaping(np.expand_dims),
    np.max: _extreme(np.max),
    np.mean: _mean,
    np.min: _extreme(np.min),
    np.ravel: _reshaping(np.ravel),
    np.reshape: _reshaping(np.reshape),
    np.squeeze: _reshaping(np.squeeze),
    np.std: lambda a, axis=None, keepdims=False: np.sqrt(_var(a, axis, keepdims)),
    np.sum: _sum,
    np.transpose: _transpose,
    np.var: _var,
    np.where: _where,
}
_FLAT = {  # of derivative 0, or without one
    *(np.argmax, np.argmin, np.ndim, np.ones_like, np.round, np.shape, np.size, np.zeros_like),
    *(np.ceil, np.equal, np.floor, np.greater, np.greater_equal, np.isfinite, np.isnan, np.less),
    *(np.less_equal, np.not_equal, np.rint, np.sign),
}
