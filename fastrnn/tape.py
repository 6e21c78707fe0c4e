"""The tape: derivatives of whatever is computed from NumPy's functions.

While a recording is open, an operation on a `Traced` array, or on a weight that is trained, gives a
`Traced`: an array that knows what it was computed from, and how gradients go back to that. A layer
of fastrnn is one such step, its `backward` the way back. `gradients` goes back over the steps from
the last; what is left of them goes with the arrays that nobody holds any more. Outside recordings
the same operations give plain arrays.

Losses, activations and regularizers of the user's own are differentiated so (`derivative`), layers
and models that only say `call` (fastrnn.layers.own), and what runs under a GradientTape. Where a
step has a kink its derivative is TensorFlow's: 0 for abs, shared by those that are the greatest for
max.
"""

import heapq
import itertools
import math
import string
import threading

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from . import _engine
from .arrays import Array, Reference, Shape, as_array, check_shape

_numbers = itertools.count(1)


class _State(threading.local):
    """Of this thread: how many recordings are open; does the innermost refuse to make plain arrays
    of what is traced, which would lose a derivative; do weights take part by themselves, and which
    do so beside; the number after which what the outermost recorded begins."""

    depth, strict, weights, watched, since = 0, False, True, (), 0


_state = _State()


class recording:  # noqa: N801
    """`with recording():` operations in this thread are remembered. strict: refuse to make plain
    arrays of what is traced; weights: whether those that are trained take part by themselves;
    watched: a set of others that do; since: the number of the last step that is not its own."""

    __slots__ = ("before", "now", "since")

    def __init__(self, strict=False, weights=True, watched=(), since=0):
        self.now, self.since = (strict, weights, watched), since

    def __enter__(self):
        state = _state
        self.before = state.depth, state.strict, state.weights, state.watched, state.since
        if not state.depth:
            state.since = self.since
        state.depth += 1
        state.strict, state.weights, state.watched = self.now

    def __exit__(self, *error):
        state = _state
        state.depth, state.strict, state.weights, state.watched, state.since = self.before


class not_recording:  # noqa: N801
    """`with not_recording():` they are not."""

    __slots__ = ("before",)

    def __enter__(self):
        self.before, _state.depth = _state.depth, 0

    def __exit__(self, *error):
        _state.depth = self.before


def last_number() -> int:
    """The number of a step that is made now."""
    return next(_numbers)


def is_recording() -> bool:
    return _state.depth > 0


def weight_takes_part(weight, trained) -> bool:
    """Are steps from this weight to be remembered now?"""
    return _state.depth > 0 and (trained and _state.weights or weight in _state.watched)


def derivative(function, x, dy=None) -> np.ndarray:
    """The derivative with respect to x of the sum of y = function(x), or of dy * y.

    Raises ValueError for a result that does not come from x, TypeError for a step of which no
    derivative is known.
    """
    x = Traced(np.asarray(x))
    with recording(strict=True, weights=False):
        y = function(x)
    if not isinstance(y, Traced):
        raise ValueError("the result comes from no step with a derivative")
    found = gradients([(y, np.ones_like(y.value) if dy is None else dy)], release=True)
    return found.get(id(x), np.zeros_like(x.value))


def derivative_of_users(kind, name, advice, function, x, dy=None) -> np.ndarray:
    """`derivative` of a user's function; where there is none, a ValueError that ends in advice."""
    try:
        return derivative(function, x, dy)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind}: no derivative of {name} was found: {error}; {advice}") from error


def gradients(ends, release=False, wanted=(), since=0):
    """{id: gradient} of the weights and first arrays that steps go back to from `ends`, pairs of a
    Traced and its gradient, and of those `wanted`, a set of ids. release: forget the steps; since:
    the number of the last step that is not gone back over."""
    found, own, pending = {}, set(), []

    def add(source, part):
        key = id(source)
        if type(source) is Joint:
            if key not in found:
                found[key] = [None] * source.count
                heapq.heappush(pending, (-source.number, source))
            place, part = part
            before = found[key][place]
            found[key][place] = part if before is None else before + part
        elif type(part) is Piece:
            if key not in found:
                found[key] = np.zeros(source.shape, source.dtype)
                if source.sources and source.number > since:
                    heapq.heappush(pending, (-source.number, source))
            elif key not in own:
                found[key] = np.array(found[key])
            own.add(key)
            part.add_to(found[key])
        elif key not in found:
            found[key] = part
            if source.sources and source.number > since:
                heapq.heappush(pending, (-source.number, source))
        elif key in own:
            found[key] += part
        else:
            own.add(key)
            found[key] = found[key] + part

    for end, gradient in ends:
        add(end.step, gradient)
    while pending:
        _, node = heapq.heappop(pending)
        gradient = found[id(node)] if id(node) in wanted else found.pop(id(node))
        own.discard(id(node))
        sources, pull = node.sources, node.pull
        if release:
            node.sources, node.pull = (), None
        for source, part in zip(sources, pull(gradient), strict=True):
            if part is not None:
                add(source, part)
    return found


class Source(NDArrayOperatorsMixin):
    """What steps start from: `value`, an array, that operators and NumPy's functions take."""

    __hash__ = object.__hash__
    number, sources, pull = 0, (), None
    step = property(lambda self: self)

    shape = property(lambda self: Shape(self.value.shape))
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    T = property(lambda self: np.transpose(self))

    def takes_part(self) -> bool:
        """Are steps from here to be remembered?"""
        return _state.depth > 0

    def then(self, value, pull):
        """What comes of this alone, and the way back for its gradient."""
        return traced(value, [(self, pull)])

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        inputs = [of(given) for given in inputs]
        if ufunc is np.matmul and method == "__call__":
            return _matmul(*inputs)
        values = _alike(inputs)
        if method != "__call__" or ufunc not in _UFUNCS:
            if method == "__call__" and ufunc in _FLAT:
                return as_array(ufunc(*values, **options))
            if not any(map(_takes_part, inputs)):
                return as_array(getattr(ufunc, method)(*values, **options))
            raise _unknown(ufunc)
        y = None if options or ufunc is not np.tanh else activated(TANH, *values)
        if y is None:
            y = ufunc(*values, **options)
        if not any(map(_takes_part, inputs)):
            return as_array(y)
        ways = _UFUNCS[ufunc](y, *values)
        return traced(
            y, [(x, _unspread(way, np.shape(y), x)) for x, way in zip(inputs, ways, strict=True)]
        )

    def __array_function__(self, function, types, args, options):
        if Watched in types:
            args, options = _unwatched(args), _unwatched(options)
        if any(map(_takes_part, leaves((args, options)))):
            if function in _FUNCTIONS:
                return _FUNCTIONS[function](*args, **options)
            if function not in _FLAT:
                raise _unknown(function)
        return as_array(function(*_valued(args), **_valued(options)))

    def __array__(self, dtype=None, copy=None):
        if _state.strict and self.takes_part():
            raise TypeError("to find its derivative it must not make an array of what it is given")
        return np.array(self.value, dtype, copy=True if copy is None else copy)

    def __len__(self):
        return len(self.value)

    def __iter__(self):
        return (self[place] for place in range(len(self.value)))

    def __getitem__(self, place):
        place = _valued(place)
        if not self.takes_part():
            return as_array(self.value[place])
        parts = place if isinstance(place, tuple) else (place,)
        if any(isinstance(part, np.ndarray) for part in parts):  # which may change later
            parts = tuple(np.array(p) if isinstance(p, np.ndarray) else p for p in parts)
            place = parts if isinstance(place, tuple) else parts[0]
        basic = all(isinstance(p, (int, slice, type(None), type(Ellipsis))) for p in parts)
        return self.then(self.value[place], lambda g: Piece(place, g, basic))

    def __bool__(self):
        return bool(self.value)

    def __float__(self):
        self._keep_derivative("float")
        return float(self.value)

    def __int__(self):
        self._keep_derivative("int")
        return int(self.value)

    def _keep_derivative(self, what):
        if _state.strict and self.takes_part():
            raise TypeError(f"{what} of what it is given has no derivative")

    def __format__(self, spec):
        return format(self.value[()] if self.value.ndim == 0 else self.value, spec)

    def numpy(self):
        """A copy of the value."""
        return self.value.copy()[()]

    def item(self):
        self._keep_derivative("item")
        return self.value.item()

    def astype(self, dtype):
        before = self.dtype
        if np.dtype(dtype).kind != "f":
            return as_array(self.value.astype(dtype))
        return self.then(self.value.astype(dtype), lambda g: g.astype(before))

    def get_shape(self):
        return self.shape

    def set_shape(self, shape):
        """Raises ValueError where the shape, None where anything fits, is another."""
        check_shape(self.shape, shape)

    def ref(self):
        """Something that stands for this in a set, or as a key; its deref() is this."""
        return Reference(self)

    def tolist(self):
        return self.value.tolist()

    def copy(self):
        return +self

    def reshape(self, *shape):
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes):
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def flatten(self):
        return np.ravel(self)


def _give_methods():
    def method_of(function):
        return lambda self, *args, **options: function(self, *args, **options)

    for name in (
        "all", "any", "argmax", "argmin", "argsort", "clip", "cumprod", "cumsum", "diagonal", "dot",
        "max", "mean", "min", "prod", "ravel", "repeat", "round", "squeeze", "std", "sum",
        "swapaxes", "take", "trace", "var",
    ):  # fmt: skip
        setattr(Source, name, method_of(getattr(np, name)))


_give_methods()


class Step:
    """How an array of a recording came about, without the array: sources, the steps and weights it
    was computed from; pull, the function that takes its gradient to theirs, None for one that needs
    none."""

    __slots__ = ("dtype", "number", "pull", "shape", "sources")

    def __init__(self, result, sources, pull):
        self.sources, self.pull, self.number = sources, pull, result.number
        self.shape, self.dtype = result.value.shape, result.value.dtype


class Traced(Source):
    """An array of a recording, and the step that gave it. What has no sources is its own step."""

    def __init__(self, value, sources=(), pull=None):
        self.value, self.number = value, next(_numbers)
        self._step = None
        if sources:
            self._step = Step(self, tuple([source.step for source in sources]), pull)

    step = property(lambda self: self._step or self)

    def takes_part(self) -> bool:
        """Was it made within the recordings that are open, or is it watched?"""
        return _state.depth > 0 and (self.number > _state.since or self in _state.watched)

    def __repr__(self):
        return f"<Traced shape={self.shape}, dtype={self.dtype}, value={self.value}>"


class Joint:
    """A step with several results, each a Traced whose only source this is. pull gets the list of
    the results' gradients, None for those without."""

    step = property(lambda self: self)

    def __init__(self, sources, pull, count):
        self.sources = tuple([source.step for source in sources])
        self.pull, self.count, self.number = pull, count, next(_numbers)

    def result(self, place, value):
        return Traced(value, (self,), lambda g: ((place, g),))


class Piece:
    """The gradient of an array from what was taken of it at one place, zero elsewhere."""

    __slots__ = ("basic", "gradient", "place")

    def __init__(self, place, gradient, basic):
        self.place, self.gradient, self.basic = place, gradient, basic

    def add_to(self, whole):
        if self.basic:
            whole[self.place] += self.gradient
        else:
            np.add.at(whole, self.place, self.gradient)


def unstacked(array, axis):
    """The list of what is at each place of an axis."""
    array = of(array)
    parts = [*np.moveaxis(value_of(array), axis, 0)]
    if not _takes_part(array):
        return parts
    zeros = np.zeros_like(parts[0])

    def pull(gradients):
        return (np.stack([zeros if g is None else g for g in gradients], axis),)

    joint = Joint((array,), pull, len(parts))
    return [joint.result(place, part) for place, part in enumerate(parts)]


class Watched(Array):
    """An array that a GradientTape was told to watch: operations on it are steps from `leaf`."""

    leaf: Traced

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return getattr(ufunc, method)(*_unwatched(inputs), **options)

    def __array_function__(self, function, types, args, options):
        return function(*_unwatched(args), **_unwatched(options))

    def __getitem__(self, place):
        return _unwatched(self)[place]


def watch(array: Array) -> None:
    """Let operations on this very array be remembered."""
    if not isinstance(array, Watched):
        array.__class__ = Watched
        array.leaf = Traced(np.asarray(array))  # type: ignore[attr-defined]
    array.leaf.number = next(_numbers)  # type: ignore[attr-defined]


def _unwatched(given):
    """With the leaf, or outside recordings the plain array, in the place of each Watched."""
    return mapped(_leaf_or_plain, given)


def _leaf_or_plain(given):
    if not isinstance(given, Watched):
        return given
    return given.leaf if _state.depth else given.view(Array)


def of(given):
    """The Traced that a Watched array stands for; anything else as it is."""
    return given.leaf if isinstance(given, Watched) else given


def traced(y, sources):
    """y as what came from these, pairs of something and the way of the gradient to it, as far as
    those take part; a plain array where none does."""
    sources = [pair for pair in sources if _takes_part(pair[0])]
    if not sources:
        return as_array(y)
    if len(sources) == 1:
        ((source, way),) = sources
        return Traced(np.asarray(y), (source,), lambda g: (way(g),))
    ways = [way for _, way in sources]
    return Traced(
        np.asarray(y), tuple(source for source, _ in sources), lambda g: [way(g) for way in ways]
    )


def _takes_part(given):
    return isinstance(given, Source) and given.takes_part()


def taken(given):
    """Arguments as operations take them: what takes part in a recording as it is, the arrays of
    other weights and steps, and a Watched array's Traced."""
    return mapped(_taken, given)


def _taken(given):
    if isinstance(given, Source):
        return given if given.takes_part() else given.value
    return _leaf_or_plain(given)


def joined(given):
    """One of several that take part, in lists, as NumPy makes an array of lists."""
    if isinstance(given, (list, tuple)) and any(isinstance(leaf, Source) for leaf in leaves(given)):
        return np.stack([joined(part) for part in given])
    return given


def value_of(given):
    """The array of a Traced or of a weight; anything else as it is. Under a GradientTape that of a
    weight is a copy, as it may be assigned to before the gradient is asked for."""
    if not isinstance(given, Source):
        return given
    changes = _state.depth and not _state.strict and not isinstance(given, Traced)
    return given.value.copy() if changes else given.value


def leaves(given):
    """What is in lists, tuples and dicts of each other."""
    if isinstance(given, (list, tuple)):
        return [leaf for part in given for leaf in leaves(part)]
    if isinstance(given, dict):
        return leaves([*given.values()])
    return [given]


def mapped(function, given):
    """The same structure of function(leaf) for each of those."""
    if isinstance(given, (list, tuple)):
        parts = [mapped(function, part) for part in given]
        return type(given)(*parts) if hasattr(given, "_fields") else type(given)(parts)
    if isinstance(given, dict):
        return {key: mapped(function, part) for key, part in given.items()}
    return function(given)


def _valued(given):
    return mapped(value_of, given)


_WHOLE = tuple(map(np.dtype, ("int32", "int64", "uint32", "uint64")))
_WIDE = (np.dtype("float64"), *_WHOLE)


def _constant(array):
    """What steps may hold of an array that is not theirs: a copy, as it may change later."""
    return array.copy() if array.ndim and _state.depth else array


def _alike(inputs):
    """The values of a step's inputs; float64, and whole numbers that would give such, become
    float32 beside float32 that is traced, as TensorFlow's constants do."""
    values = [
        _constant(given) if isinstance(given, np.ndarray) else value_of(given) for given in inputs
    ]
    if not any(isinstance(x, Source) and x.value.dtype == np.float32 for x in inputs):
        return values
    return [
        value.astype(np.float32)
        if isinstance(value, (np.ndarray, np.generic))
        and value.dtype in (_WIDE if not isinstance(given, Source) else _WHOLE)
        else value
        for given, value in zip(inputs, values, strict=True)
    ]


def _unspread(way, shape, x):
    """The way back to an input that was broadcast, if it was."""
    before = np.shape(value_of(x))
    if before == shape:
        return way
    return lambda g: _summed_to(way(g), before)


def _unknown(function):
    return TypeError(f"no derivative is known of {function.__name__}")


def _same(g):
    return g


TANH = _engine.ACTIVATIONS["tanh"]
SMALLEST_ACTIVATED = 2**14  # elements, from which the engine is faster than NumPy


def _suits(array):
    large = isinstance(array, np.ndarray) and array.size >= SMALLEST_ACTIVATED
    return large and array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned


def activated(activation, x):
    """An activation of the engine of a large array; None for others."""
    if not _suits(x):
        return None
    y = np.empty(x.shape, np.float32)
    _engine.activate(y, x, activation)
    return y


def activated_back(activation, g, y):
    """The gradient of what gave y, from that of y; None where that was not large."""
    if not (_suits(g) and _suits(y) and g.shape == y.shape):
        return None
    dx = np.empty(y.shape, np.float32)
    _engine.activate_back(dx, g, y, activation)
    return dx


def _tanh_back(g, y):
    dx = activated_back(TANH, g, y)
    return g * (1 - y * y) if dx is None else dx


def _product_with(other, own):
    """The way back to `own` from its product with `other`: g * other, summed along the last axis
    where that was spread for it."""
    shape = np.shape(own)
    if not shape or shape[-1] != 1 or np.shape(other)[-1:] in ((), (1,)):
        return lambda g: g * other
    return lambda g: np.einsum("...i,...i->...", g, other)[..., None]


def _summed_to(gradient, shape):
    """What broadcasting from `shape` has spread, together again."""
    ahead = gradient.ndim - len(shape)
    if ahead:
        rows = math.prod(gradient.shape[:ahead])
        gradient = np.sum(gradient.reshape(rows, *gradient.shape[ahead:]), 0)
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1 != gradient.shape[axis])
    return np.sum(gradient, axes, keepdims=True)


def _spread(gradient, axis, keepdims, ndim):
    """The gradient of a reduction, with the axes that it took away."""
    if keepdims:
        return gradient
    axes = range(ndim) if axis is None else np.atleast_1d(axis) % ndim
    return np.expand_dims(gradient, tuple(axes))


def _sum(a, axis=None, keepdims=False):
    shape = a.shape
    return a.then(
        np.sum(a.value, axis, keepdims=keepdims),
        lambda g: np.broadcast_to(_spread(g, axis, keepdims, len(shape)), shape),
    )


def _mean(a, axis=None, keepdims=False):
    total = np.sum(a, axis, keepdims=keepdims)
    return total / np.float32(a.size / total.size)


def _var(a, axis=None, keepdims=False):
    return np.mean(np.square(a - np.mean(a, axis, keepdims=True)), axis, keepdims=keepdims)


def _extreme(function):
    def rule(a, axis=None, keepdims=False):
        y, rank = function(a.value, axis, keepdims=True), a.ndim
        best = a.value == y
        share = best / np.sum(best, axis, keepdims=True, dtype=np.float32)
        return a.then(
            y if keepdims else function(a.value, axis),
            lambda g: _spread(g, axis, keepdims, rank) * share,
        )

    return rule


def _clip(a, low=None, high=None, **bounds):
    low, high = bounds.get("a_min", low), bounds.get("a_max", high)
    a = a if low is None else np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


def _where(condition, a, b):
    condition = np.array(value_of(condition))
    y = np.where(condition, *_alike((a, b)))
    of_a, of_b = lambda g: np.where(condition, g, 0), lambda g: np.where(condition, 0, g)
    pairs = [(a, of_a), (b, of_b)]
    return traced(y, [(x, _unspread(way, y.shape, x)) for x, way in pairs])


def _reshaping(function):
    def rule(a, *args, **options):
        y, before = function(a.value, *args, **options), a.shape
        return a.then(y, lambda g: g.reshape(before))

    return rule


def _transpose(a, axes=None):
    back = None if axes is None else np.argsort(np.mod(axes, a.ndim))
    return a.then(np.transpose(a.value, axes), lambda g: np.transpose(g, back))


def _rearranging(function, back):
    """A function that only puts numbers elsewhere; back(g, *its arguments) undoes it."""

    def rule(a, *args, **options):
        y = function(a.value, *args, **options)
        return a.then(y, lambda g: back(g, *args, **options))

    return rule


def _concatenate(arrays, axis=0):
    if axis is None:
        arrays, axis = [np.ravel(array) for array in arrays], 0
    values = [np.asarray(value) for value in _alike(arrays)]
    ends = np.cumsum([value.shape[axis] for value in values])
    y = np.concatenate(values, axis)

    def part(n):
        return lambda g: np.split(g, ends[:-1], axis)[n]

    return traced(y, [(array, part(n)) for n, array in enumerate(arrays)])


def _stack(arrays, axis=0):
    return _concatenate([np.expand_dims(array, axis) for array in arrays], axis)


def _split(a, indices_or_sections, axis=0, split=np.split):
    ends = np.cumsum([part.shape[axis] for part in split(a.value, indices_or_sections, axis)])
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
    before = a.shape
    return a.then(
        np.tile(a.value, repeats),
        lambda g: np.sum(g.reshape(spread), tuple(range(0, 2 * rank, 2))).reshape(before),
    )


def _cumsum(a, axis=None, dtype=None):
    if axis is None:
        a, axis = np.ravel(a), 0
    return a.then(np.cumsum(a.value, axis, dtype), lambda g: _sums_from(g, axis))


def _cumprod(a, axis=None, dtype=None):
    if axis is None:
        a, axis = np.ravel(a), 0
    x = a.value

    def pull(g):
        if np.all(x):
            return _sums_from(g * y, axis) / x
        g, rows = np.moveaxis(g, axis, 0), np.moveaxis(x, axis, 0)
        before, found = np.ones_like(rows[0]), np.empty_like(rows)
        for place, row in enumerate(rows):
            after = np.cumprod(np.concatenate([before[None], rows[place + 1 :]]), 0)
            found[place] = np.sum(after * g[place:], 0)
            before = before * row
        return np.moveaxis(found, 0, axis)

    y = np.cumprod(x, axis, dtype)
    return a.then(y, pull)


def _sums_from(x, axis):
    """Of each number and those after it."""
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis)


def _prod(a, axis=None, keepdims=False):
    x = a.value
    axes = tuple(range(x.ndim)) if axis is None else tuple(np.atleast_1d(axis) % x.ndim)

    def pull(g):
        last = tuple(range(-len(axes), 0))
        rows = np.moveaxis(x, axes, last)
        shape = rows.shape
        rows = rows.reshape(*shape[: x.ndim - len(axes)], -1)
        ones = np.ones((*rows.shape[:-1], 1), x.dtype)
        before = np.cumprod(np.concatenate([ones, rows[..., :-1]], -1), -1)
        after = np.cumprod(np.concatenate([ones, rows[..., :0:-1]], -1), -1)[..., ::-1]
        others = np.moveaxis((before * after).reshape(shape), last, axes)
        return _spread(g, axis, keepdims, x.ndim) * others

    return a.then(np.prod(x, axis, keepdims=keepdims), pull)


def _take(a, indices, axis=None):
    indices = np.asarray(value_of(indices)).astype(np.int64)
    if not isinstance(a, Source):
        return as_array(np.take(a, indices, axis))
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
    x, y = _alike((a, b))
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 1 or y.ndim == 1:
        product = _matmul(a[None] if x.ndim == 1 else a, b[:, None] if y.ndim == 1 else b)
        product = np.squeeze(product, -1) if y.ndim == 1 else product
        return np.squeeze(product, -1 - (y.ndim > 1)) if x.ndim == 1 else product
    if y.ndim == 2 and y.shape[1] == 1 and x.dtype == y.dtype == np.float32:
        return _product_with_column(a, b, x, y)
    if y.ndim == 2 and x.dtype == y.dtype == np.float32 and x.size * y.shape[1] >= SMALLEST_PRODUCT:
        return _engine_product(a, b, np.ascontiguousarray(x), np.ascontiguousarray(y))
    if y.ndim == 2 < x.ndim:  # one product
        rows = x.reshape(-1, x.shape[-1])

        def of_a(g):
            return (g.reshape(-1, g.shape[-1]) @ y.T).reshape(x.shape)

        def of_b(g):
            return rows.T @ g.reshape(-1, g.shape[-1])

        return traced((rows @ y).reshape(*x.shape[:-1], y.shape[-1]), [(a, of_a), (b, of_b)])
    of_a = lambda g: _summed_to(np.matmul(g, np.swapaxes(y, -1, -2)), x.shape)  # noqa: E731
    of_b = lambda g: _summed_to(np.matmul(np.swapaxes(x, -1, -2), g), y.shape)  # noqa: E731
    return traced(np.matmul(x, y), [(a, of_a), (b, of_b)])


def _product_with_column(a, b, x, y):
    """x y where y is one column; without BLAS, whose threads would be in the engine's way."""
    rows, column = x.reshape(-1, x.shape[-1]), y[:, 0]
    product = np.einsum("ij,j->i", rows, column).reshape(*x.shape[:-1], 1)
    of_b = lambda g: np.einsum("i,ij->j", g.reshape(-1), rows)[:, None]  # noqa: E731
    return traced(product, [(a, lambda g: g * column), (b, of_b)])


SMALLEST_PRODUCT = 2**18  # multiplications, from which the engine is faster than NumPy


def _engine_product(a, b, x, w):
    """x w, (..., k) and (k, m), as one step whose way back is one call of the engine."""
    linear, packed = _engine.ACTIVATIONS["linear"], _engine.PackedDense(*w.shape)
    packed.pack(w, None, _takes_part(a))
    y = np.empty((*x.shape[:-1], w.shape[1]), np.float32)
    packed.forward(y, x, linear)
    sources = tuple(part for part in (a, b) if _takes_part(part))
    if not sources:
        return as_array(y)

    def pull(g):
        g, dw = np.ascontiguousarray(g, np.float32), np.empty_like(w)
        dx = np.empty_like(x) if _is_one_of(a, sources) else None
        packed.backward(dx, dw, None, g, x, g, linear)
        return [part for part, source in ((dx, a), (dw, b)) if _is_one_of(source, sources)]

    return Traced(y, sources, pull)


def _is_one_of(given, sources):
    return any(given is source for source in sources)


def _dot(a, b):
    if 0 in (np.ndim(a), np.ndim(b)):
        return np.multiply(a, b)
    return np.matmul(a, b) if np.ndim(b) < 3 else _tensordot(a, b, (-1, -2))


def _tensordot(a, b, axes=2):
    ranks = np.ndim(a), np.ndim(b)
    if np.ndim(axes) == 0:
        axes = range(ranks[0] - axes, ranks[0]), range(axes)
    summed = [
        [int(at) % rank for at in np.atleast_1d(part)]
        for part, rank in zip(axes, ranks, strict=True)
    ]
    kept = [
        [at for at in range(rank) if at not in part]
        for part, rank in zip(summed, ranks, strict=True)
    ]
    rows = np.transpose(a, kept[0] + summed[0])
    columns = np.transpose(b, summed[1] + kept[1])
    shape = *np.shape(rows)[: len(kept[0])], *np.shape(columns)[len(summed[1]) :]
    size = math.prod(np.shape(columns)[: len(summed[1])])
    return np.reshape(
        np.matmul(np.reshape(rows, (-1, size)), np.reshape(columns, (size, -1))), shape
    )


def _outer(a, b):
    return np.multiply(np.ravel(a)[:, None], np.ravel(b))


def _inner(a, b):
    return np.multiply(a, b) if 0 in (np.ndim(a), np.ndim(b)) else _tensordot(a, b, (-1, -1))


def _kron(a, b):
    rank = max(np.ndim(a), np.ndim(b))
    left, right = ((1,) * (rank - np.ndim(x)) + tuple(np.shape(x)) for x in (a, b))
    product = np.reshape(a, [n for size in left for n in (size, 1)]) * np.reshape(
        b, [n for size in right for n in (1, size)]
    )
    return np.reshape(product, [n * m for n, m in zip(left, right, strict=True)])


def _cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)
    if np.shape(a)[-1] != 3 or np.shape(b)[-1] != 3:
        raise _unknown(np.cross)
    parts = [a[..., i] * b[..., j] - a[..., j] * b[..., i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return np.moveaxis(np.stack(parts, -1), -1, axisc)


def _diff(a, n=1, axis=-1):
    for _ in range(n):
        ahead = (slice(None),) * (axis % a.ndim)
        a = a[(*ahead, slice(1, None))] - a[(*ahead, slice(None, -1))]
    return a


def _diagonal(a, offset=0, axis1=0, axis2=1):
    a = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows = np.arange(np.diagonal(a.value, offset, -2, -1).shape[-1])
    return a[..., rows - min(offset, 0), rows + max(offset, 0)]


def _diag(a, k=0):
    if a.ndim != 1:
        return _diagonal(a, k)
    return a.then(np.diag(a.value, k), lambda g: np.diag(g, k))


def _take_along_axis(a, indices, axis=-1):
    indices = np.asarray(value_of(indices)).astype(np.int64)
    if not isinstance(a, Source):
        return as_array(np.take_along_axis(a, indices, axis))
    if axis is None:
        return np.ravel(a)[indices]
    grid = [
        np.arange(size).reshape(-1, *(1,) * (a.ndim - 1 - at)) for at, size in enumerate(a.shape)
    ]
    grid[axis] = indices
    return a[tuple(grid)]


def _sort(a, axis=-1):
    if axis is None:
        a, axis = np.ravel(a), 0
    return _take_along_axis(a, np.argsort(a.value, axis, kind="stable"), axis)


def _quantile(a, q, axis=None, *, method="linear", keepdims=False):
    """That of each q, on a first axis, by numbers beside it in order."""
    if method != "linear":
        raise _unknown(np.quantile)
    q, x = np.asarray(value_of(q)), a.value
    axes = tuple(range(x.ndim)) if axis is None else tuple(np.atleast_1d(axis) % x.ndim)
    rest = [at for at in range(x.ndim) if at not in axes]
    rows = np.reshape(np.transpose(a, [*rest, *axes]), [*(x.shape[at] for at in rest), -1])
    place = q * (rows.shape[-1] - 1)
    low = np.floor(place).astype(int)
    share, rows = (place - low).astype(x.dtype), _sort(rows)
    y = rows[..., low] * (1 - share) + rows[..., np.ceil(place).astype(int)] * share
    y = np.moveaxis(y, tuple(range(len(rest), y.ndim)), tuple(range(q.ndim)))
    return np.expand_dims(y, tuple(q.ndim + at for at in axes)) if keepdims else y


def _average(a, axis=None, weights=None, *, keepdims=False):
    if weights is None:
        return np.mean(a, axis, keepdims=keepdims)
    if np.ndim(weights) != np.ndim(a):
        shape = [1] * np.ndim(a)
        shape[axis] = -1
        weights = np.reshape(weights, shape)
    return np.sum(a * weights, axis, keepdims=keepdims) / np.sum(
        weights * np.ones(np.shape(a), np.float32), axis, keepdims=keepdims
    )


def _broadcast_to(a, shape):
    before = a.shape
    return a.then(np.broadcast_to(a.value, shape), lambda g: _summed_to(g, before))


def _stacked_along(axis, rank):
    def rule(arrays):
        if axis == 0:
            arrays = [np.reshape(a, (1, -1)) if np.ndim(a) < rank else a for a in arrays]
        elif rank == 1:
            arrays = [np.reshape(a, (-1,)) if np.ndim(a) == 0 else a for a in arrays]
            return _concatenate(arrays, 0 if np.ndim(arrays[0]) == 1 else axis)
        else:
            arrays = [np.reshape(a, (1, -1, 1)) if np.ndim(a) < 2 else a for a in arrays]
            arrays = [a[..., None] if np.ndim(a) == 2 else a for a in arrays]
        return _concatenate(arrays, axis)

    return rule


def _nan_to_num(a, copy=True, nan=0.0, posinf=None, neginf=None):
    y = np.nan_to_num(a.value, True, nan, posinf, neginf)
    finite = np.isfinite(a.value)
    return a.then(y, lambda g: np.where(finite, g, 0))


def _without_nans(function, instead):
    """The function with `instead` in the place of each NaN."""
    return lambda a, *args, **options: function(np.where(np.isnan(a), instead, a), *args, **options)


def _nanmean(a, axis=None, keepdims=False):
    count = np.sum(~np.isnan(a.value), axis, keepdims=keepdims).astype(a.dtype)
    return _without_nans(np.sum, 0)(a, axis, keepdims=keepdims) / count


def _nanvar(a, axis=None, keepdims=False):
    apart = np.square(a - _nanmean(a, axis, keepdims=True))
    return _nanmean(apart, axis, keepdims)


def _det(a):
    y, x = np.linalg.det(a.value), a.value
    return a.then(y, lambda g: (g * y)[..., None, None] * _turned(np.linalg.inv(x)))


def _slogdet(a):
    x = a.value
    sign, y = np.linalg.slogdet(x)
    return as_array(sign), a.then(y, lambda g: g[..., None, None] * _turned(np.linalg.inv(x)))


def _inv(a):
    y = np.linalg.inv(a.value)
    return a.then(y, lambda g: -_turned(y) @ g @ _turned(y))


def _solve(a, b):
    x, c = _alike((a, b))
    if np.ndim(c) == 1:
        return np.squeeze(_solve(a, b[:, None]), -1)
    y = np.linalg.solve(x, c)
    back = lambda g: np.linalg.solve(_turned(x), g)  # noqa: E731
    of_a = lambda g: _summed_to(-back(g) @ _turned(y), np.shape(x))  # noqa: E731
    of_b = lambda g: _summed_to(back(g), np.shape(c))  # noqa: E731
    return traced(y, [(a, of_a), (b, of_b)])


def _cholesky(a, *, upper=False):
    y = np.linalg.cholesky(a.value)

    def pull(g):
        g = np.tril(g)
        inner = np.tril(_turned(y) @ g)
        inner = inner - 0.5 * inner * np.eye(y.shape[-1], dtype=y.dtype)
        back = np.linalg.inv(y)
        s = _turned(back) @ inner @ back
        return 0.5 * (s + _turned(s))

    lower = a.then(y, pull)
    return np.swapaxes(lower, -1, -2) if upper else lower


def _turned(x):
    return np.swapaxes(x, -1, -2)


def _einsum(subscripts, *operands, optimize=True):
    names, arrow, out = subscripts.replace(" ", "").partition("->")
    names = names.split(",")
    values = [np.asarray(value) for value in _alike(operands)]
    if not arrow:
        axes = sorted({*"".join(names)} - {"."})
        out = "..." * ("." in subscripts) + "".join(a for a in axes if "".join(names).count(a) == 1)
    names = _without_dots(names, out, values)
    names, out = names[:-1], names[-1]
    if any(len(set(name)) < len(name) for name in names):
        raise TypeError("no derivative is known of einsum with an axis twice in one array")

    sizes: dict[str, int] = {}
    for name, value in zip(names, values, strict=True):
        sizes |= {a: m for a, m in zip(name, value.shape, strict=True) if sizes.get(a, 1) == 1}

    def pull_of(n):
        others = [*zip(names, values, strict=True)]
        del others[n]
        shape, found = values[n].shape, [(out, y), *others]
        elsewhere = {*itertools.chain(*(zip(name, v.shape, strict=True) for name, v in found))}
        alone = [pair for pair in zip(names[n], shape, strict=True) if pair not in elsewhere]
        ones = np.ones([size for _, size in alone], values[n].dtype)
        others.append(("".join(axis for axis, _ in alone), ones))
        kept = "".join(a for a, m in zip(names[n], shape, strict=True) if sizes[a] == m)
        rule = ",".join([out, *(name for name, _ in others)]) + "->" + kept
        return lambda g: np.einsum(rule, g, *(v for _, v in others), optimize=True).reshape(shape)

    y = np.einsum(subscripts, *values, optimize=True)
    return traced(y, [(operand, pull_of(n)) for n, operand in enumerate(operands)])


def _without_dots(names, out, values):
    """Names of axes, those of the output last, with letters for what ... stands for."""
    free = [a for a in string.ascii_letters if not any(a in name for name in (*names, out))]
    counts = [v.ndim - len(name.replace("...", "")) for name, v in zip(names, values, strict=True)]
    most = max((n for n, name in zip(counts, names, strict=True) if "." in name), default=0)
    counts = [*counts, most]
    return [
        name.replace("...", "".join(free[most - n : most]))
        for name, n in zip([*names, out], counts, strict=True)
    ]


# For each input the way back to it: a function of the output y and the inputs gives the list.
_UFUNCS = {
    np.absolute: lambda y, a: [lambda g: g * np.sign(a)],
    np.add: lambda y, a, b: [_same, _same],
    np.arccos: lambda y, a: [lambda g: -g / np.sqrt(1 - a * a)],
    np.arccosh: lambda y, a: [lambda g: g / np.sqrt(a * a - 1)],
    np.arcsin: lambda y, a: [lambda g: g / np.sqrt(1 - a * a)],
    np.arcsinh: lambda y, a: [lambda g: g / np.sqrt(a * a + 1)],
    np.arctan: lambda y, a: [lambda g: g / (1 + a * a)],
    np.arctan2: lambda y, a, b: [
        lambda g: g * (b / (a * a + b * b)),
        lambda g: g * (-a / (a * a + b * b)),
    ],
    np.arctanh: lambda y, a: [lambda g: g / (1 - a * a)],
    np.cbrt: lambda y, a: [lambda g: g / (3 * y * y)],
    np.conjugate: lambda y, a: [_same],
    np.cos: lambda y, a: [lambda g: g * -np.sin(a)],
    np.cosh: lambda y, a: [lambda g: g * np.sinh(a)],
    np.deg2rad: lambda y, a: [lambda g: g * (math.pi / 180)],
    np.divide: lambda y, a, b: [lambda g: g / b, lambda g: g * (-y / b)],
    np.exp: lambda y, a: [lambda g: g * y],
    np.exp2: lambda y, a: [lambda g: g * (y * math.log(2))],
    np.expm1: lambda y, a: [lambda g: g * (y + 1)],
    np.fabs: lambda y, a: [lambda g: g * np.sign(a)],
    np.fmax: lambda y, a, b: [lambda g: g * (y == a), lambda g: g * (y != a)],
    np.fmin: lambda y, a, b: [lambda g: g * (y == a), lambda g: g * (y != a)],
    np.fmod: lambda y, a, b: [_same, lambda g: g * -np.trunc(a / b)],
    np.hypot: lambda y, a, b: [lambda g: g * (a / y), lambda g: g * (b / y)],
    np.log: lambda y, a: [lambda g: g / a],
    np.log10: lambda y, a: [lambda g: g / (a * math.log(10))],
    np.log1p: lambda y, a: [lambda g: g / (1 + a)],
    np.log2: lambda y, a: [lambda g: g / (a * math.log(2))],
    np.logaddexp: lambda y, a, b: [lambda g: g * np.exp(a - y), lambda g: g * np.exp(b - y)],
    np.logaddexp2: lambda y, a, b: [lambda g: g * np.exp2(a - y), lambda g: g * np.exp2(b - y)],
    np.maximum: lambda y, a, b: [lambda g: g * (a >= b), lambda g: g * (a < b)],
    np.minimum: lambda y, a, b: [lambda g: g * (a <= b), lambda g: g * (a > b)],
    np.multiply: lambda y, a, b: [_product_with(b, a), _product_with(a, b)],
    np.negative: lambda y, a: [np.negative],
    np.positive: lambda y, a: [_same],
    np.power: lambda y, a, b: [
        lambda g: g * (b * np.power(a, b - 1)),
        lambda g: g * (y * np.log(np.where(a > 0, a, 1))),
    ],
    np.rad2deg: lambda y, a: [lambda g: g * (180 / math.pi)],
    np.reciprocal: lambda y, a: [lambda g: g * -(y * y)],
    np.remainder: lambda y, a, b: [_same, lambda g: g * -np.floor(a / b)],
    np.sin: lambda y, a: [lambda g: g * np.cos(a)],
    np.sinh: lambda y, a: [lambda g: g * np.cosh(a)],
    np.sqrt: lambda y, a: [lambda g: g * (0.5 / y)],
    np.square: lambda y, a: [lambda g: g * (2 * a)],
    np.subtract: lambda y, a, b: [_same, np.negative],
    np.tan: lambda y, a: [lambda g: g * (1 + y * y)],
    np.tanh: lambda y, a: [lambda g: _tanh_back(g, y)],
}
_FUNCTIONS = {
    np.amax: _extreme(np.max),
    np.amin: _extreme(np.min),
    np.append: lambda a, b, axis=None: _concatenate((a, b), axis),
    np.array_split: lambda a, parts, axis=0: _split(a, parts, axis, np.array_split),
    np.average: _average,
    np.broadcast_to: _broadcast_to,
    np.clip: _clip,
    np.concatenate: _concatenate,
    np.copy: np.positive,
    np.cross: _cross,
    np.cumprod: _cumprod,
    np.cumsum: _cumsum,
    np.diag: _diag,
    np.diagflat: lambda a, k=0: _diag(np.ravel(a), k),
    np.diagonal: _diagonal,
    np.diff: _diff,
    np.dot: _dot,
    np.dsplit: lambda a, parts: _split(a, parts, 2),
    np.dstack: _stacked_along(2, 3),
    np.einsum: _einsum,
    np.expand_dims: _reshaping(np.expand_dims),
    np.flip: _rearranging(np.flip, np.flip),
    np.fliplr: _rearranging(np.fliplr, np.fliplr),
    np.flipud: _rearranging(np.flipud, np.flipud),
    np.hsplit: lambda a, parts: _split(a, parts, int(a.ndim > 1)),
    np.hstack: _stacked_along(1, 1),
    np.inner: _inner,
    np.kron: _kron,
    np.linalg.cholesky: _cholesky,
    np.linalg.det: _det,
    np.linalg.inv: _inv,
    np.linalg.slogdet: _slogdet,
    np.linalg.solve: _solve,
    np.max: _extreme(np.max),
    np.mean: _mean,
    np.median: lambda a, axis=None, keepdims=False: _quantile(a, 0.5, axis, keepdims=keepdims),
    np.min: _extreme(np.min),
    np.moveaxis: _rearranging(np.moveaxis, lambda g, source, to: np.moveaxis(g, to, source)),
    np.nan_to_num: _nan_to_num,
    np.nancumprod: _without_nans(np.cumprod, 1),
    np.nancumsum: _without_nans(np.cumsum, 0),
    np.nanmax: _without_nans(np.max, -np.inf),
    np.nanmean: _nanmean,
    np.nanmin: _without_nans(np.min, np.inf),
    np.nanprod: _without_nans(np.prod, 1),
    np.nanstd: lambda a, axis=None, keepdims=False: np.sqrt(_nanvar(a, axis, keepdims)),
    np.nansum: _without_nans(np.sum, 0),
    np.nanvar: _nanvar,
    np.outer: _outer,
    np.pad: _pad,
    np.percentile: lambda a, q, *args, **options: _quantile(a, q / 100, *args, **options),
    np.prod: _prod,
    np.ptp: lambda a, axis=None, keepdims=False: (
        np.max(a, axis, keepdims=keepdims) - np.min(a, axis, keepdims=keepdims)
    ),
    np.quantile: _quantile,
    np.ravel: _reshaping(np.ravel),
    np.repeat: _repeat,
    np.reshape: _reshaping(np.reshape),
    np.roll: _rearranging(
        np.roll, lambda g, shift, axis=None: np.roll(g, np.negative(shift), axis)
    ),
    np.rot90: _rearranging(np.rot90, lambda g, k=1, axes=(0, 1): np.rot90(g, -k, axes)),
    np.sort: _sort,
    np.split: _split,
    np.squeeze: _reshaping(np.squeeze),
    np.stack: _stack,
    np.std: lambda a, axis=None, keepdims=False: np.sqrt(_var(a, axis, keepdims)),
    np.sum: _sum,
    np.swapaxes: _rearranging(np.swapaxes, np.swapaxes),
    np.take: _take,
    np.take_along_axis: _take_along_axis,
    np.tensordot: _tensordot,
    np.tile: _tile,
    np.trace: lambda a, *args, **options: np.sum(_diagonal(a, *args, **options), -1),
    np.transpose: _transpose,
    np.tril: _rearranging(np.tril, np.tril),
    np.triu: _rearranging(np.triu, np.triu),
    np.var: _var,
    np.vdot: lambda a, b: np.sum(np.ravel(a) * np.ravel(b)),
    np.vsplit: _split,
    np.vstack: _stacked_along(0, 2),
    np.where: _where,
}
_FLAT = {  # of derivative 0, or without one
    *(np.all, np.any, np.argsort, np.floor_divide, np.isinf, np.logical_and, np.logical_not),
    *(np.logical_or, np.logical_xor, np.allclose, np.argpartition, np.argwhere, np.array_equal),
    *(np.argmax, np.argmin, np.ndim, np.ones_like, np.round, np.shape, np.size, np.zeros_like),
    *(np.ceil, np.equal, np.floor, np.greater, np.greater_equal, np.isfinite, np.isnan, np.less),
    *(np.less_equal, np.not_equal, np.rint, np.sign, np.bincount, np.count_nonzero, np.digitize),
    *(np.empty_like, np.full_like, np.heaviside, np.isclose, np.isin, np.nonzero, np.searchsorted),
    *(np.nanargmax, np.nanargmin, np.signbit, np.trunc, np.unique, np.invert, np.isneginf),
    np.isposinf,
}
