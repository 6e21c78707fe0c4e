"""Random programs of the user's own layers, cells and models, written down once and made with Keras
or with fastrnn.

What a layer, a cell or a model computes is its `code`: a list of steps, each of which reads tensors
by number (first the inputs) and gives others. `weights` are those that it adds, `parts` the layers
that it has. OPERATIONS says of each step what it needs and gives, without the batch: draw(draft) ->
(numbers of the tensors read, shapes given, options) or None, and run(m, own, tensors, options)."""

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

import fastrnn
from fastrnn.gradient_tape import GradientTape

STEPS, UNITS = 5, 3
LARGEST = 60


def tensorflow_of_fastrnn():
    """What scripts import as tensorflow, beside the real one: `import fastrnn.as_keras` wants to be
    the first."""
    place = "fastrnn.as_keras"
    before = {name: module for name, module in sys.modules.items() if name.startswith(place)}
    if not before:
        sys.modules[place] = ModuleType(place)
        sys.modules[place].__path__ = [str(Path(fastrnn.__file__).parent / "as_keras")]
    tables = importlib.import_module(f"{place}.tensorflow").TABLES
    tensors = importlib.import_module(f"{place}.tensors")
    if not before:
        for name in [name for name in sys.modules if name.startswith(place)]:
            del sys.modules[name]
    parts = {
        name: SimpleNamespace(**tables[f"tensorflow.{name}"]) for name in ("math", "nn", "linalg")
    }
    more = {"GradientTape": GradientTape, "constant": tensors.constant}
    return SimpleNamespace(**{**tables["tensorflow"], **parts, **more})


# --- steps ----------------------------------------------------------------------------------------

OPERATIONS = {}


def pointwise(**functions):
    def draw(d):
        n = d.one()
        return [n], [d.shapes[n]], {}

    for name, function in functions.items():
        OPERATIONS[name] = draw, lambda m, own, xs, o, f=function: f(m, xs[0])


def of_axis(**functions):
    """Of one axis, with the same shape."""

    def draw(d):
        n = d.one()
        axis = d.axis(n)
        return [n], [d.shapes[n]], {"axis": axis}

    for name, function in functions.items():
        OPERATIONS[name] = draw, lambda m, own, xs, o, f=function: f(m, xs[0], o["axis"])


def reducing(**functions):
    def draw(d):
        n = d.one(lambda s: len(s) > 1)
        if n is None:
            return None
        shape, keepdims = d.shapes[n], d.flip()
        axes = [d.axis(n)]
        if len(shape) > 2 and d.flip():
            axes = [1, -1]
        at = {axis % (len(shape) + 1) for axis in axes}
        sizes = [1 if k + 1 in at else size for k, size in enumerate(shape)]
        shape = [size for k, size in enumerate(sizes) if keepdims or k + 1 not in at]
        axis = axes[0] if len(axes) == 1 else axes
        return [n], [shape], {"axis": axis, "keepdims": keepdims}

    for name, function in functions.items():
        OPERATIONS[name] = (
            draw,
            lambda m, own, xs, o, f=function: f(m, xs[0], o["axis"], o["keepdims"]),
        )


def binary(**functions):
    def draw(d):
        a = d.one()
        b = d.one(lambda s: s == d.shapes[a])
        return [a, b], [d.shapes[a]], {}

    for name, function in functions.items():
        OPERATIONS[name] = draw, lambda m, own, xs, o, f=function: f(m, *xs)


def operation(draw):
    """A step of that name, of the function run."""

    def put(run):
        OPERATIONS[run.__name__.strip("_")] = draw, run
        return run

    return put


def _silent(name):
    return lambda m, x: getattr(m.ops, name)(x)


pointwise(
    **{n: _silent(n) for n in ("tanh", "sigmoid", "relu", "silu", "softplus", "sin", "erf", "abs",
                               "softsign", "cos", "arctan", "log_sigmoid", "relu6")},
    gelu=lambda m, x: m.ops.gelu(x, approximate=False),
    elu=lambda m, x: m.ops.elu(x),
    leaky=lambda m, x: m.ops.leaky_relu(x, negative_slope=0.1),
    root=lambda m, x: m.ops.sqrt(m.ops.square(x) + 0.1),
    rsqrt=lambda m, x: m.ops.rsqrt(x * x + 1.0),
    clip=lambda m, x: m.ops.clip(x, -1.1, 0.9),
    bell=lambda m, x: m.ops.exp(-m.ops.square(x)),
    log1p=lambda m, x: m.ops.log1p(m.ops.abs(x)),
    chosen=lambda m, x: m.ops.where(x > 0.1, x, 0.1 * x),
    power=lambda m, x: m.ops.power(m.ops.abs(x) + 0.5, 0.5),
    less=lambda m, x: 1.0 - x / 2,
    more=lambda m, x: (2 - x) * 0.5 + -x,
    inverse=lambda m, x: 1 / (1 + x**2),
    maximum_of=lambda m, x: m.ops.maximum(x, 0.05),
    stopped=lambda m, x: x + m.ops.stop_gradient(x),
    cast=lambda m, x: x * m.ops.cast(x > 0.2, "float32"),
    signs=lambda m, x: m.ops.sign(x) + x,
    isolated=lambda m, x: m.ops.where(
        m.ops.logical_and(x > -0.5, x < 0.5), x, m.ops.zeros_like(x)
    ),
    tf_tanh=lambda m, x: m.tf.tanh(x),
    tf_sigmoid=lambda m, x: m.tf.nn.sigmoid(x),
    tf_math=lambda m, x: m.tf.math.sigmoid(m.tf.math.square(x)),
    tf_relu=lambda m, x: m.tf.nn.relu(x),
    tf_clip=lambda m, x: m.tf.clip_by_value(x, -0.9, 1.1),
    tf_where=lambda m, x: m.tf.where(m.tf.greater(x, 0.1), x, m.tf.zeros_like(x)),
    tf_root=lambda m, x: m.tf.sqrt(m.tf.square(x) + 0.1),
    tf_exp=lambda m, x: m.tf.exp(-m.tf.abs(x)),
    tf_cast=lambda m, x: x * m.tf.cast(m.tf.math.greater(x, 0.2), "float32"),
    tf_stop=lambda m, x: x - 0.5 * m.tf.stop_gradient(x),
    tf_identity=lambda m, x: m.tf.identity(x) * m.tf.constant(0.7),
    tf_softplus=lambda m, x: m.tf.nn.softplus(x),
    tf_subtract=lambda m, x: m.tf.subtract(1.0, m.tf.multiply(x, 0.5)),
    tf_shape=lambda m, x: x / m.tf.cast(m.tf.shape(x)[-1], "float32"),
    tf_minimum=lambda m, x: m.tf.minimum(x, 0.7),
    tf_pow=lambda m, x: m.tf.pow(m.tf.abs(x) + 0.5, 0.5),
    tf_divide=lambda m, x: m.tf.math.divide_no_nan(x, m.tf.nn.relu(x)),
)  # fmt: skip
of_axis(
    softmax=lambda m, x, a: m.ops.softmax(x, axis=a),
    log_softmax=lambda m, x, a: 0.3 * m.ops.log_softmax(x, axis=a),
    cumsum=lambda m, x, a: 0.5 * m.ops.cumsum(x, axis=a),
    cumprod=lambda m, x, a: m.ops.cumprod(m.ops.tanh(x), axis=a),
    flip=lambda m, x, a: m.ops.flip(x, axis=a),
    roll=lambda m, x, a: m.ops.roll(x, 1, axis=a),
    sort=lambda m, x, a: m.ops.sort(x, axis=a),
    normalize=lambda m, x, a: m.ops.normalize(x + 2.0, axis=a),
    centred=lambda m, x, a: x - m.ops.mean(x, axis=a, keepdims=True),
    standard=lambda m, x, a: (x - m.ops.mean(x, axis=a, keepdims=True))
    / m.ops.sqrt(m.ops.var(x, axis=a, keepdims=True) + 0.1),
    of_moments=lambda m, x, a: x
    * m.ops.tanh(sum(m.ops.moments(x, axes=[a], keepdims=True))),
    share=lambda m, x, a: m.ops.exp(x - m.ops.max(x, axis=a, keepdims=True))
    / (1 + m.ops.sum(m.ops.abs(x), axis=a, keepdims=True)),
    logsumexp_left=lambda m, x, a: 0.5 * (x - m.ops.logsumexp(x, axis=a, keepdims=True)),
    halves=lambda m, x, a: m.ops.concatenate(m.ops.split(x, x.shape[a], axis=a)[::-1], axis=a),
    restacked=lambda m, x, a: m.ops.stack([0.5 * y for y in m.ops.unstack(x, axis=a)], axis=a),
    first_removed=lambda m, x, a: x - m.ops.take(x, [0], axis=a),
    hottest=lambda m, x, a: x
    * m.ops.one_hot(
        m.ops.argmax(x, axis=a),
        x.shape[a],
        axis=-1 if a in (-1, len(x.shape) - 1) else a % len(x.shape),  # as TensorFlow wants it
    ),
    unit=lambda m, x, a: x / m.ops.sqrt(m.ops.sum(m.ops.square(x), axis=a, keepdims=True) + 0.1),
    along=lambda m, x, a: x
    + m.ops.take_along_axis(x, m.ops.argmax(x, axis=a, keepdims=True), axis=a),
    tf_softmax=lambda m, x, a: m.tf.nn.softmax(x, axis=a),
    tf_cumsum=lambda m, x, a: 0.5 * m.tf.cumsum(x, axis=a),
    tf_cumsum_back=lambda m, x, a: 0.5 * m.tf.math.cumsum(x, axis=a, exclusive=True, reverse=True),
    tf_reverse=lambda m, x, a: m.tf.reverse(x, axis=[a]),
    tf_roll=lambda m, x, a: m.tf.roll(x, shift=-1, axis=a),
    tf_split=lambda m, x, a: m.tf.concat(m.tf.split(x, [1, x.shape[a] - 1], axis=a)[::-1], axis=a),
    tf_l2=lambda m, x, a: m.tf.nn.l2_normalize(x + 2.0, axis=a),
    tf_mean_left=lambda m, x, a: x - m.tf.reduce_mean(x, axis=a, keepdims=True),
    tf_gather=lambda m, x, a: m.tf.gather(x, [0] * x.shape[a], axis=a) * x,
    tf_stack=lambda m, x, a: m.tf.stack([m.tf.tanh(p) for p in m.tf.unstack(x, axis=a)], axis=a),
    tf_moments=lambda m, x, a: (x - m.tf.nn.moments(x, axes=[a], keepdims=True)[0])
    * m.tf.math.rsqrt(m.tf.nn.moments(x, axes=[a], keepdims=True)[1] + 0.1),
)  # fmt: skip
reducing(
    **{n: lambda m, x, a, k, n=n: getattr(m.ops, n)(x, axis=a, keepdims=k)
       for n in ("mean", "max", "min", "logsumexp", "var")},
    sum=lambda m, x, a, k: 0.5 * m.ops.sum(x, axis=a, keepdims=k),
    prod=lambda m, x, a, k: m.ops.prod(m.ops.tanh(x), axis=a, keepdims=k),
    norm=lambda m, x, a, k: m.ops.sqrt(m.ops.sum(x * x, axis=a, keepdims=k) + 0.01),
    std=lambda m, x, a, k: m.ops.std(x + m.ops.cumsum(x, axis=1), axis=a, keepdims=k),
    counted=lambda m, x, a, k: m.ops.mean(m.ops.cast(x > 0, "float32"), axis=a, keepdims=k)
    + m.ops.mean(x, axis=a, keepdims=k),
    tf_sum=lambda m, x, a, k: 0.5 * m.tf.reduce_sum(x, axis=a, keepdims=k),
    tf_mean=lambda m, x, a, k: m.tf.reduce_mean(x, axis=a, keepdims=k),
    tf_max=lambda m, x, a, k: m.tf.reduce_max(x, a, k),
    tf_min=lambda m, x, a, k: m.tf.math.reduce_min(x, axis=a, keepdims=k),
    tf_logsumexp=lambda m, x, a, k: m.tf.reduce_logsumexp(x, axis=a, keepdims=k),
    tf_prod=lambda m, x, a, k: m.tf.reduce_prod(m.tf.tanh(x), axis=a, keepdims=k),
    tf_std=lambda m, x, a, k: m.tf.math.reduce_variance(x, axis=a, keepdims=k),
)  # fmt: skip
binary(
    plus=lambda m, x, y: x + 0.5 * y,
    minus=lambda m, x, y: x - y,
    times=lambda m, x, y: x * m.ops.sigmoid(y),
    larger=lambda m, x, y: m.ops.maximum(x, y),
    smaller=lambda m, x, y: m.ops.minimum(x, 0.5 * y),
    either=lambda m, x, y: m.ops.where(m.ops.greater(x, 0.5 * y), x, m.ops.tanh(y)),
    ratio=lambda m, x, y: x / (1.0 + y * y),
    add=lambda m, x, y: m.ops.add(x, y),
    gate=lambda m, x, y: m.ops.multiply(m.ops.sigmoid(x), y) + (1 - m.ops.sigmoid(x)) * x,
    stacked=lambda m, x, y: m.ops.mean(m.ops.stack([x, y], axis=1), axis=1),
    stacked_last=lambda m, x, y: m.ops.max(m.ops.stack([x, 0.5 * y], axis=-1), axis=-1),
    tf_stacked=lambda m, x, y: m.tf.reduce_sum(m.tf.stack([x, y], axis=1), axis=1),
    tf_either=lambda m, x, y: m.tf.where(x > y, x, 0.5 * y),
    tf_times=lambda m, x, y: m.tf.multiply(m.tf.sigmoid(x), y),
    tf_squares=lambda m, x, y: m.tf.math.squared_difference(m.tf.tanh(x), y),
    tf_add=lambda m, x, y: m.tf.add(x, y),
    tf_add_n=lambda m, x, y: m.tf.add_n([x, y, 0.5 * x]),
)


def _steps(d):
    """Two sequences."""
    a = d.one(lambda s: len(s) == 2)
    b = None if a is None else d.one(lambda s: len(s) == 2 and s[1] == d.shapes[a][1])
    return None if b is None else [a, b]


def _scores(d):
    of = _steps(d)
    return of and (of, [[d.shapes[of[0]][0], d.shapes[of[1]][0]]], {})


@operation(_scores)
def scores(m, own, xs, o):
    return m.ops.tanh(m.ops.matmul(xs[0], m.ops.transpose(xs[1], (0, 2, 1))))


@operation(_scores)
def scores_einsum(m, own, xs, o):
    return m.ops.tanh(m.ops.einsum("bti,bsi->bts", *xs))


@operation(_scores)
def tf_scores(m, own, xs, o):
    return m.tf.tanh(m.tf.matmul(xs[0], xs[1], transpose_b=True))


@operation(_scores)
def tf_scores_einsum(m, own, xs, o):
    return m.tf.tanh(m.tf.einsum("bti,bsi->bts", xs[0], xs[1]))


def _attending(d):
    of = _steps(d)
    return of and (of, [[d.shapes[of[0]][0], d.shapes[of[1]][1]]], {})


@operation(_attending)
def attended(m, own, xs, o):
    weights = m.ops.softmax(m.ops.matmul(xs[0], m.ops.swapaxes(xs[1], 1, 2)) / 2.0, axis=-1)
    return m.ops.matmul(weights, xs[1])


@operation(_attending)
def at_operator(m, own, xs, o):
    return m.ops.softmax(xs[0] @ m.ops.moveaxis(xs[1], 1, 2)) @ xs[1]


@operation(_attending)
def tf_attended(m, own, xs, o):
    weights = m.tf.nn.softmax(m.tf.linalg.matmul(xs[0], xs[1], transpose_b=True))
    return m.tf.matmul(weights, xs[1])


def _joined(d):
    a = d.one()
    b = d.one(lambda s: len(s) == len(d.shapes[a]) and s[:-1] == d.shapes[a][:-1])
    return [a, b], [[*d.shapes[a][:-1], d.shapes[a][-1] + d.shapes[b][-1]]], {}


@operation(_joined)
def concatenated(m, own, xs, o):
    return m.ops.concatenate(xs, axis=-1)


@operation(_joined)
def tf_concatenated(m, own, xs, o):
    return m.tf.concat(xs, -1)


def _of_step_and_vector(d):
    a = d.one(lambda s: len(s) == 2)
    b = None if a is None else d.one(lambda s: s == d.shapes[a][1:])
    return None if b is None else ([a, b], [d.shapes[a]], {})


@operation(_of_step_and_vector)
def over_steps(m, own, xs, o):
    return xs[0] * m.ops.sigmoid(m.ops.expand_dims(xs[1], 1))


@operation(_of_step_and_vector)
def none_axis(m, own, xs, o):
    return xs[0] - xs[1][:, None]


@operation(_of_step_and_vector)
def tf_over_steps(m, own, xs, o):
    return xs[0] + m.tf.expand_dims(xs[1], axis=1)


@operation(_of_step_and_vector)
def repeated(m, own, xs, o):
    return xs[0] + m.ops.repeat(xs[1][:, None, :], xs[0].shape[1], axis=1) * 0.5


@operation(_of_step_and_vector)
def tf_tiled(m, own, xs, o):
    return xs[0] + m.tf.tile(xs[1][:, m.tf.newaxis], [1, xs[0].shape[1], 1])


@operation(_of_step_and_vector)
def broadcast(m, own, xs, o):
    return xs[0] * m.ops.tanh(m.ops.broadcast_to(xs[1][:, None], m.ops.shape(xs[0])))


SLICES = {
    "last": (2, lambda s: s[1:], lambda x: x[:, -1]),
    "without the first": (2, lambda s: [s[0] - 1, s[1]], lambda x: x[:, 1:]),
    "each other": (2, lambda s: [(s[0] + 1) // 2, s[1]], lambda x: x[:, ::2]),
    "backwards": (1, lambda s: s, lambda x: x[..., ::-1]),
    "one feature": (2, lambda s: s[:-1], lambda x: x[:, :, 0]),
    "dots": (2, lambda s: [*s[:-1], 1], lambda x: x[..., -1:]),
    "of a vector": (1, lambda s: [*s[:-1], s[-1] - 1], lambda x: x[..., :-1]),
}


def _slice(d):
    name = d.choose([*SLICES])
    rank, shape, _ = SLICES[name]
    n = d.one(lambda s: len(s) == 2 if rank == 2 else len(s) >= 1)
    if n is None:
        return None
    given = shape(d.shapes[n])
    return None if 0 in given else ([n], [given], {"slice": name})


@operation(_slice)
def slices(m, own, xs, o):
    return SLICES[o["slice"]][2](xs[0])


def _reshaping(function):
    def draw(d):
        n = d.one(lambda s: len(s) == 2)
        return None if n is None else ([n], [function(*d.shapes[n])], {})

    return draw


@operation(_reshaping(lambda t, u: [t * u]))
def flat(m, own, xs, o):
    return m.ops.reshape(xs[0], (-1, xs[0].shape[1] * xs[0].shape[2]))


@operation(_reshaping(lambda t, u: [u, t]))
def turned(m, own, xs, o):
    return m.ops.transpose(xs[0], (0, 2, 1))


@operation(_reshaping(lambda t, u: [u, t]))
def tf_turned(m, own, xs, o):
    return m.tf.transpose(xs[0], perm=[0, 2, 1])


@operation(_reshaping(lambda t, u: [u, t]))
def tf_reshaped(m, own, xs, o):
    return m.tf.reshape(xs[0], [m.tf.shape(xs[0])[0], xs[0].shape[2], xs[0].shape[1]])


@operation(_reshaping(lambda t, u: [t + 1, u]))
def padded(m, own, xs, o):
    return m.ops.pad(xs[0], [[0, 0], [1, 0], [0, 0]])


@operation(_reshaping(lambda t, u: [t + 1, u + 1]))
def tf_padded(m, own, xs, o):
    return m.tf.pad(xs[0], [[0, 0], [1, 0], [0, 1]])


@operation(_reshaping(lambda t, u: [t, u, 1]))
def deeper(m, own, xs, o):
    return m.ops.expand_dims(xs[0], axis=-1)


@operation(_reshaping(lambda t, u: [t, u]))
def differences(m, own, xs, o):
    return m.ops.concatenate([xs[0][:, :1], m.ops.diff(xs[0], axis=1)], axis=1)


@operation(_reshaping(lambda t, u: [t, t]))
def itself(m, own, xs, o):
    return m.ops.softmax(m.ops.einsum("btu,bsu->bts", xs[0], xs[0]), -1)


@operation(_reshaping(lambda t, u: [t, 1]))
def top(m, own, xs, o):
    return m.ops.top_k(xs[0], 1)[0]


@operation(_reshaping(lambda t, u: [t, u]))
def each_step(m, own, xs, o):
    """Python's loop over the steps, with what came before."""
    found, state = [], xs[0][:, 0] * 0
    for t in range(xs[0].shape[1]):
        state = m.ops.tanh(0.5 * state + xs[0][:, t])
        found.append(state)
    return m.ops.stack(found, axis=1)


@operation(_reshaping(lambda t, u: [t, u]))
def tf_each_step(m, own, xs, o):
    found, state = [], m.tf.zeros_like(xs[0][:, 0])
    for step in m.tf.unstack(xs[0], axis=1):
        state = state + 0.5 * m.tf.tanh(step)
        found.append(state)
    return m.tf.transpose(m.tf.stack(found), [1, 0, 2])


def _deep(d):
    n = d.one(lambda s: len(s) == 3)
    return None if n is None else ([n], [d.shapes[n][:1] + [int(np.prod(d.shapes[n][1:]))]], {})


@operation(_deep)
def shallow(m, own, xs, o):
    shape = xs[0].shape
    return m.ops.reshape(xs[0], (-1, shape[1], shape[2] * shape[3]))


@operation(_deep)
def tf_shallow(m, own, xs, o):
    return m.tf.reshape(xs[0], (-1, xs[0].shape[1], xs[0].shape[2] * xs[0].shape[3]))


def _weight(shape_of_weight, shape_given):
    def draw(d):
        if not d.has_weights:
            return None
        n = d.one(lambda s: len(s) >= 1 and s[-1] > 0)
        shape = d.shapes[n]
        return [n], [shape_given(shape)], {"weight": d.weight(shape_of_weight(shape))}

    return draw


def _of(own, o):
    return own.own_weights[o["weight"]]


@operation(_weight(lambda s: [s[-1], UNITS], lambda s: [*s[:-1], UNITS]))
def by_matrix(m, own, xs, o):
    return m.ops.tanh(m.ops.matmul(xs[0], _of(own, o)))


@operation(_weight(lambda s: [s[-1], UNITS], lambda s: [*s[:-1], UNITS]))
def by_einsum(m, own, xs, o):
    return m.ops.tanh(m.ops.einsum("...i,ij->...j", xs[0], _of(own, o)))


@operation(_weight(lambda s: [s[-1], UNITS], lambda s: [*s[:-1], UNITS]))
def by_dot(m, own, xs, o):
    return m.ops.tanh(m.ops.dot(xs[0], _of(own, o)))


@operation(_weight(lambda s: [UNITS, s[-1]], lambda s: [*s[:-1], UNITS]))
def by_transposed(m, own, xs, o):
    return m.ops.tanh(m.ops.matmul(xs[0], m.ops.transpose(_of(own, o))))


@operation(_weight(lambda s: [s[-1], UNITS], lambda s: [*s[:-1], UNITS]))
def by_operator(m, own, xs, o):
    return m.ops.tanh(xs[0] @ _of(own, o))


@operation(_weight(lambda s: [s[-1], UNITS], lambda s: [*s[:-1], UNITS]))
def tf_by_matrix(m, own, xs, o):
    return m.tf.tanh(
        m.tf.tensordot(xs[0], m.value(_of(own, o)), axes=[[len(xs[0].shape) - 1], [0]])
    )


@operation(_weight(lambda s: [s[-1]], lambda s: s))
def scaled(m, own, xs, o):
    return xs[0] * _of(own, o) + 0.1


@operation(_weight(lambda s: [s[-1]], lambda s: s))
def biased(m, own, xs, o):
    return _of(own, o) + xs[0]


@operation(_weight(lambda s: [], lambda s: s))
def by_scalar(m, own, xs, o):
    return xs[0] * m.ops.sigmoid(_of(own, o))


@operation(_weight(lambda s: [s[-1]], lambda s: s))
def less_weight(m, own, xs, o):
    return _of(own, o) - 0.5 * xs[0]


@operation(_weight(lambda s: [s[-1], s[-1]], lambda s: s))
def row_of_weight(m, own, xs, o):
    return xs[0] + _of(own, o)[0]


@operation(_weight(lambda s: [4, s[-1]], lambda s: s))
def looked_up(m, own, xs, o):
    places = m.ops.argmax(xs[0], axis=-1) % 4
    return xs[0] + m.ops.take(_of(own, o), places, axis=0)


@operation(_weight(lambda s: [4, s[-1]], lambda s: s))
def tf_looked_up(m, own, xs, o):
    places = m.tf.cast(m.tf.greater(m.tf.reduce_sum(xs[0], axis=-1), 0.0), "int32")
    return xs[0] + m.tf.gather(m.value(_of(own, o)), places)


def _running(d):
    if not d.has_weights or not d.takes_training:
        return None
    n = d.one()
    weight = d.weight([d.shapes[n][-1]], trainable=False, initializer="zeros")
    return [n], [d.shapes[n]], {"weight": weight, "way": d.choose(["assign", "assign_add"])}


@operation(_running)
def running_mean(m, own, xs, o, training=None):
    """A weight that training assigns."""
    weight = _of(own, o)
    if training:
        mean = m.ops.mean(xs[0], axis=[*range(len(xs[0].shape) - 1)])
        if o["way"] == "assign":
            weight.assign(0.9 * weight + 0.1 * mean)
        else:
            weight.assign_add(0.1 * (mean - weight))
    return xs[0] - weight


def _if_training(d):
    n = d.one()
    return ([n], [d.shapes[n]], {}) if d.takes_training else None


@operation(_if_training)
def when_training(m, own, xs, o, training=None):
    return 0.5 * xs[0] if training else xs[0]


def _if_masked(d):
    n = d.one(lambda s: len(s) == 2 and s[0] == d.shapes[0][0])
    return ([n], [d.shapes[n]], {}) if d.takes_mask and n is not None else None


@operation(_if_masked)
def where_masked(m, own, xs, o, mask=None):
    return xs[0] if mask is None else xs[0] * m.ops.cast(mask, "float32")[:, :, None]


@operation(_if_masked)
def mean_of_masked(m, own, xs, o, mask=None):
    if mask is None:
        return xs[0]
    kept = m.ops.expand_dims(m.ops.cast(mask, xs[0].dtype), -1)
    mean = m.ops.sum(xs[0] * kept, 1) / m.ops.maximum(m.ops.sum(kept, 1), 1.0)
    return xs[0] - mean[:, None]


def _loss(d):
    return ([d.one()], [], {}) if d.has_weights else None


@operation(_loss)
def add_loss(m, own, xs, o):
    own.add_loss(0.1 * m.ops.mean(m.ops.square(xs[0])))
    return []


# --- layers ---------------------------------------------------------------------------------------

SEQUENCES = [
    ("LSTM", {"return_sequences": True}), ("GRU", {"return_sequences": True}), ("LSTM", {}),
    ("GRU", {}), ("SimpleRNN", {}), ("GRU", {"return_sequences": True, "go_backwards": True}),
    ("GlobalAveragePooling1D", None), ("Conv1D", {"kernel_size": 2, "padding": "causal"}),
    ("Bidirectional", {"layer": ["LSTM", {"return_sequences": True}], "merge_mode": "sum"}),
    ("Bidirectional", {"layer": ["GRU", {}], "merge_mode": "concat"}),
    ("TimeDistributed", {"layer": ["Dense", {"activation": "tanh"}]}),
    ("RNN", {"return_sequences": True}), ("RNN", {"return_sequences": False}), ("RNN", {}),
    ("RNN", {"return_sequences": True, "go_backwards": True}),
    ("RNN", {"return_sequences": True, "return_state": True}),
    ("LSTM", {"return_sequences": True, "return_state": True}),
    ("Bidirectional", {"layer": ["RNN", {"return_sequences": True}], "merge_mode": "concat"}),
    ("Bidirectional", {"layer": ["RNN", {}], "merge_mode": "ave"}),
]  # fmt: skip
ANY = [
    ("Dense", {}), ("Dense", {"activation": "tanh"}), ("LayerNormalization", None),
    ("Dropout", None), ("BatchNormalization", None), ("Dense", {"use_bias": False}),
    ("Activation", None),
]  # fmt: skip
LAMBDAS = {
    "doubled": lambda m: lambda x: 2.0 * x,
    "squashed": lambda m: lambda x, factor=1.0: m.ops.tanh(factor * x),
    "trained": lambda m: lambda x, training=None: 0.7 * x if training else x,
    "shares": lambda m: lambda x: m.ops.softmax(x) + m.tf.reduce_mean(x, -1, keepdims=True),
}  # fmt: skip


def of_layer(draft, n, depth):
    """(a layer for a tensor, the shapes of what it gives)"""
    shape, rng = draft.shapes[n], draft.rng
    if depth and rng.random() < 0.5:
        spec, shapes = own_layer(rng, [shape], depth - 1)
        return spec, shapes
    choices = ANY + (SEQUENCES * 2 if len(shape) == 2 else [])
    if depth:
        choices = [*choices, ("Lambda", None)]
    name, options = choices[rng.integers(len(choices))]
    return built_in(rng, name, options, shape, depth)


def built_in(rng, name, options, shape, depth):
    if options is None:
        if name == "GlobalAveragePooling1D":
            return {"kind": name, "options": {}}, [shape[1:]]
        if name == "Lambda":
            function = [*LAMBDAS][rng.integers(len(LAMBDAS))]
            arguments = {"factor": 0.5} if function == "squashed" else None
            return {"kind": name, "function": function, "arguments": arguments}, [shape]
        given = {
            "Dropout": {"rate": 0.0}, "Activation": {"activation": "softsign"},
            "BatchNormalization": {"momentum": 0.8},
        }.get(name, {})  # fmt: skip
        return {"kind": name, "options": given}, [shape]
    if "layer" in options:
        inner, (given, *_) = built_in(rng, *options["layer"], shape, depth)
        if name == "TimeDistributed":
            return {"kind": name, "layer": inner, "options": {}}, [given]
        mode = options["merge_mode"]
        wide = [*given[:-1], given[-1] * 2] if mode == "concat" else given
        return {"kind": name, "layer": inner, "options": {"merge_mode": mode}}, [wide]
    units = int(rng.integers(2, 5))
    if name in ("Dense", "Conv1D"):
        key = "units" if name == "Dense" else "filters"
        return {"kind": name, "options": {key: units, **options}}, [[*shape[:-1], units]]
    steps = shape[:1] if options.get("return_sequences") else []
    if name == "RNN":
        cells = [own_cell(rng, shape[-1], units)]
        if rng.random() < 0.3:
            cells.append({"kind": "GRUCell", "options": {"units": units}, "states": 1})
        states = sum(cell["states"] for cell in cells)
        spec = {"kind": name, "cells": cells, "options": dict(options)}
        if options.get("return_state") and len(cells) > 1:  # the states of each cell are lists
            spec["options"].pop("return_state")
            states = 0
        states = [[units]] * states if options.get("return_state") else []
        return spec, [[*steps, units], *states]
    states = {"LSTM": 2}.get(name, 1) if options.get("return_state") else 0
    spec = {"kind": name, "options": {"units": units, **options}}
    return spec, [[*steps, units], *[[units]] * states]


def make(m, spec):
    """The layer of a spec."""
    kind = spec["kind"]
    if kind in m.own:
        return m.own[kind](spec)
    if kind == "Lambda":
        return m.layers.Lambda(m.functions[spec["function"]], arguments=spec["arguments"])
    cls = getattr(m.layers, kind)
    if kind == "RNN":
        cells = [make(m, cell) for cell in spec["cells"]]
        return cls(cells if len(cells) > 1 else cells[0], **spec["options"])
    if "layer" in spec:
        return cls(make(m, spec["layer"]), **spec["options"])
    return cls(**spec["options"])


# --- drafts ---------------------------------------------------------------------------------------


class Draft:
    """Code that is being written, for inputs of these shapes."""

    def __init__(self, rng, shapes, takes_training=False, takes_mask=False, has_weights=True):
        self.rng, self.shapes = rng, [list(map(int, shape)) for shape in shapes]
        self.code, self.weights, self.parts, self.read = [], [], [], set()
        self.takes_training, self.takes_mask = takes_training, takes_mask
        self.has_weights = has_weights
        self.inputs = len(shapes)

    def flip(self):
        return bool(self.rng.random() < 0.5)

    def choose(self, values):
        return values[self.rng.integers(len(values))]

    def one(self, test=lambda shape: True):
        """The number of some tensor, rather of those that nothing has read."""
        found = [n for n, shape in enumerate(self.shapes) if test(shape)]
        fresh = [n for n in found if n not in self.read]
        if fresh and self.rng.random() < 0.6:
            found = fresh
        return int(self.choose(found)) if found else None

    def axis(self, n):
        axis, rank = int(self.rng.integers(len(self.shapes[n]))) + 1, len(self.shapes[n]) + 1
        return axis - rank if self.flip() else axis

    def weight(self, shape, trainable=True, initializer=None):
        if trainable and self.rng.random() < 0.25:  # shared
            same = [n for n, w in enumerate(self.weights) if w["shape"] == shape and w["trainable"]]
            if same:
                return int(self.choose(same))
        entry = {
            "shape": shape, "trainable": trainable and self.rng.random() > 0.1,
            "initializer": initializer or self.choose(["glorot_uniform", "ones", "random_normal"]),
            "regularizer": self.choose([None, None, None, "l2"]),
            "constraint": self.choose([None, None, None, "non_neg"]) if trainable else None,
        }  # fmt: skip
        if not entry["trainable"]:
            entry["regularizer"] = None
        self.weights.append(entry)
        return len(self.weights) - 1

    def step(self, name):
        """Add a step of that name if its tensors are there."""
        before = len(self.weights)
        drawn = OPERATIONS[name][0](self)
        if drawn is None:
            return
        of, shapes, options = drawn
        if any(np.prod(shape) > LARGEST or len(shape) > 3 for shape in shapes):
            del self.weights[before:]
            return
        self.put(name, of, shapes, options)

    def put(self, name, of, shapes, options):
        self.code.append({"do": name, "of": [int(n) for n in of], **options})
        self.read.update(of)
        self.shapes += [list(map(int, shape)) for shape in shapes]

    def layer(self, depth):
        """Call a layer, of this draft's own already or a new one."""
        n = self.one(lambda shape: len(shape) in (1, 2))
        if n is None:
            return
        for place, (_, shape, shapes) in enumerate(self.parts):
            if shape == self.shapes[n] and self.rng.random() < 0.3:
                self.put("layer", [n], shapes, {"part": place})
                return
        spec, shapes = of_layer(self, n, depth)
        self.parts.append((spec, self.shapes[n], shapes))
        self.put("layer", [n], shapes, {"part": len(self.parts) - 1})

    def ends(self, most):
        found = [n for n in range(self.inputs, len(self.shapes)) if n not in self.read]
        found = [n for n in found if self.shapes[n]] or [len(self.shapes) - 1]
        return [int(n) for n in found[-most:]]

    def written(self, **entries):
        return {
            "code": self.code, "weights": self.weights, "parts": [part for part, *_ in self.parts],
            **entries,
        }  # fmt: skip


def own_layer(rng, shapes, depth):
    training, mask = bool(rng.random() < 0.4), bool(rng.random() < 0.4)
    draft = Draft(rng, shapes, training, mask)
    names = [*OPERATIONS]
    for _ in range(int(rng.integers(3, 9))):
        if rng.random() < 0.25:
            draft.layer(depth)
        else:
            draft.step(names[rng.integers(len(names))])
    if not draft.code:
        draft.step("tanh")
    ends = draft.ends(2 if rng.random() < 0.2 else 1)
    first = draft.shapes[ends[0]]
    supports = len(first) > 1 and len(shapes[0]) > 1 and first[0] == shapes[0][0]
    spec = draft.written(
        kind=f"Own{'Training' * training}{'Mask' * mask}" if len(shapes) == 1
        else draft.choose(["OwnPair", "OwnList", "OwnDict"]),
        outputs=ends, supports_masking=supports and bool(rng.random() < 0.5),
        gives=draft.choose(["list", "tuple", "dict"]), build=draft.choose(["build", "init"]),
        held=draft.choose(["attributes", "list", "dict"]), named=bool(rng.random() < 0.8),
    )  # fmt: skip
    return spec, [draft.shapes[n] for n in ends]


def own_cell(rng, features, units):
    states = int(rng.integers(1, 3))
    draft = Draft(rng, [[features], *[[units]] * states], has_weights=True)
    draft.put("to_units", [0], [[units]], {"weight": draft.weight([features, units])})
    names = [name for name in OPERATIONS if name not in _NOT_IN_CELLS]
    for _ in range(int(rng.integers(2, 5))):
        draft.step(names[rng.integers(len(names))])
    last = draft.one(lambda s: s == [units])
    ends = []
    for state in range(1, states + 1):
        weight = draft.weight([units, units])
        draft.put("next_state", [last, state], [[units]], {"weight": weight})
        ends.append(len(draft.shapes) - 1)
        last = ends[-1]
    return draft.written(
        kind="OwnCell", units=units, states=states, outputs=[ends[-1], *ends],
        listed=bool(rng.random() < 0.5), build="build", held="attributes", named=True,
        training=False, gives="list",
    )  # fmt: skip


_NOT_IN_CELLS = {"add_loss", "running_mean"}


def _never(d):
    return None


@operation(_never)
def to_units(m, own, xs, o):
    return m.ops.matmul(xs[0], _of(own, o))


@operation(_never)
def next_state(m, own, xs, o):
    return m.ops.tanh(xs[0] + 0.5 * m.ops.matmul(xs[1], _of(own, o)))


# --- classes --------------------------------------------------------------------------------------


def run(m, own, spec, tensors, training=None, mask=None):
    tensors = [*tensors]
    for step in spec["code"]:
        xs = [tensors[n] for n in step["of"]]
        if step["do"] == "layer":
            found = own.part(step["part"])(xs[0])
        else:
            function = OPERATIONS[step["do"]][1]
            named = _NAMED.get(function)
            if named is None:
                names = inspect.signature(function).parameters
                named = _NAMED[function] = [n for n in ("training", "mask") if n in names]
            given = {"training": training, "mask": mask}
            found = function(m, own, xs, step, **{name: given[name] for name in named})
        if isinstance(found, dict):
            found = [found[name] for name in sorted(found)]
        tensors += found if isinstance(found, (list, tuple)) else [found]
    return [tensors[n] for n in spec["outputs"]]


_NAMED = {}


def given_as(found, gives):
    if len(found) == 1 and gives != "dict":
        return found[0]
    if gives == "dict":
        return {f"y{n}": value for n, value in enumerate(found)}
    return tuple(found) if gives == "tuple" else found


class Parts:
    """What layers, cells and models of a spec have in common."""

    def start(self, m, spec):
        self.spec, self.own_weights = spec, []
        parts = [make(m, part) for part in spec["parts"]]
        if spec["held"] == "attributes":
            for n, part in enumerate(parts):
                setattr(self, f"part{n}", part)
        elif spec["held"] == "list":
            self.held = parts
        else:
            self.held = {f"k{n}": part for n, part in enumerate(parts)}

    def part(self, n):
        if self.spec["held"] == "attributes":
            return getattr(self, f"part{n}")
        return self.held[n] if self.spec["held"] == "list" else self.held[f"k{n}"]

    def add_weights(self):
        for n, w in enumerate(self.spec["weights"]):
            options = {"name": f"w{n}"} if self.spec["named"] else {}
            self.own_weights.append(
                self.add_weight(
                    shape=tuple(w["shape"]),
                    initializer=w["initializer"],
                    trainable=w["trainable"],
                    regularizer=w["regularizer"],
                    constraint=w["constraint"],
                    **options,
                )  # fmt: skip
            )


def define(keras, tf, value):
    """The namespace of a library: its modules, and the classes and functions made with it."""
    m = SimpleNamespace(keras=keras, layers=keras.layers, ops=keras.ops, tf=tf, value=value)
    m.own = classes = {}
    m.functions = {}
    for name, function in LAMBDAS.items():
        m.functions[name] = function(m)
        m.functions[name].__name__ = name

    class Base(keras.layers.Layer, Parts):
        def __init__(self, spec, **kwargs):
            super().__init__(**kwargs)
            self.start(m, spec)
            self.supports_masking = spec["supports_masking"]
            if spec["build"] == "init":
                self.add_weights()

        def get_config(self):
            return {**super().get_config(), "spec": self.spec}

        def results(self, tensors, **given):
            return given_as(run(m, self, self.spec, tensors, **given), self.spec["gives"])

    class OneInput(Base):
        def build(self, input_shape):
            if self.spec["build"] == "build":
                self.add_weights()

    class Own(OneInput):
        def call(self, x):
            return self.results([x])

    class OwnTraining(OneInput):
        def call(self, x, training=False):
            return self.results([x], training=training)

    class OwnMask(OneInput):
        def call(self, x, mask=None):
            return self.results([x], mask=mask)

    class OwnTrainingMask(OneInput):
        def call(self, x, training=None, mask=None):
            return self.results([x], training=training, mask=mask)

    class OwnPair(Base):
        def build(self, x_shape, y_shape):
            if self.spec["build"] == "build":
                self.add_weights()

        def call(self, x, y, training=None):
            return self.results([x, y], training=training)

    class OwnList(OneInput):
        def call(self, inputs, training=None):
            x, y = inputs
            return self.results([x, y], training=training)

    class OwnDict(OneInput):
        def call(self, inputs):
            return self.results([inputs["one"], inputs["other"]])

    class OwnCell(keras.layers.Layer, Parts):
        def __init__(self, spec, **kwargs):
            super().__init__(**kwargs)
            self.start(m, spec)
            units, states = spec["units"], spec["states"]
            several = states > 1 or spec["listed"]
            self.units, self.state_size = units, [units] * states if several else units
            self.output_size = units

        def build(self, input_shape):
            self.add_weights()

        def call(self, inputs, states):
            several = isinstance(states, (list, tuple))
            y, *after = run(m, self, self.spec, [inputs, *(states if several else [states])])
            return y, after if several else after[0]

        def get_config(self):
            return {**super().get_config(), "spec": self.spec}

    class BaseModel(keras.Model, Parts):
        def __init__(self, spec, **kwargs):
            super().__init__(**kwargs)
            self.start(m, spec)
            self.add_weights()

        def get_config(self):
            return {**super().get_config(), "spec": self.spec}

        def results(self, tensors, **given):
            return given_as(run(m, self, self.spec, tensors, **given), self.spec["gives"])

    class OfOne(BaseModel):
        def call(self, x, training=None):
            return self.results([x], training=training)

    class OfOneMask(BaseModel):
        def call(self, x, mask=None):
            return self.results([x], mask=mask)

    class OfList(BaseModel):
        def call(self, inputs):
            return self.results(inputs)

    class OfDict(BaseModel):
        def call(self, inputs, training=False):
            return self.results([inputs[name] for name in sorted(inputs)], training=training)

    class WithStep(OfOne):
        def train_step(self, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                found = self(x, training=True)
                loss = self.compute_loss(x=x, y=y, y_pred=found)
            weights = self.trainable_variables
            gradients = tape.gradient(loss, weights)
            self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, found)
            return {metric.name: metric.result() for metric in self.metrics}

        def test_step(self, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=False))
            return {"doubled": 2.0 * loss}

    class WithLoss(OfOne):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight)
            parts = y_pred if isinstance(y_pred, (list, tuple)) else [y_pred]
            if isinstance(y_pred, dict):
                parts = [y_pred[name] for name in sorted(y_pred)]
            return loss + 0.1 * sum(m.ops.mean(m.ops.abs(part)) for part in parts)

    classes |= {
        name: cls
        for name, cls in locals().items()
        if isinstance(cls, type) and name not in ("Base", "OneInput", "BaseModel")
    }
    m.custom_objects = {**classes, **m.functions}
    return m


# --- programs -------------------------------------------------------------------------------------


class Program:
    """form: "graph", "chain" or "model". shapes: of its inputs, without the batch."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.form = str(rng.choice(["graph", "graph", "chain", "model", "model", "wrapped"]))
        self.masking = bool(rng.random() < 0.3)
        if self.form in ("chain",):
            self.shapes = [[STEPS, UNITS]]
            self.spec = self.chain(rng)
        elif self.form == "graph":
            self.shapes = [[STEPS, UNITS], [STEPS, UNITS], [UNITS]][: int(rng.integers(1, 4))]
            self.spec = self.graph(rng)
        else:
            self.spec = self.model(rng)

    def chain(self, rng):
        draft = Draft(rng, self.shapes)
        for _ in range(int(rng.integers(2, 5))):
            n = len(draft.shapes) - 1
            if len(draft.shapes[n]) not in (1, 2):
                break
            for _ in range(20):
                spec, shapes = of_layer(draft, n, 1)
                if len(shapes) == 1 and spec.get("gives") != "dict":
                    draft.parts.append((spec, draft.shapes[n], shapes))
                    draft.put("layer", [n], shapes, {"part": len(draft.parts) - 1})
                    break
        return draft.written(outputs=[len(draft.shapes) - 1])

    def graph(self, rng):
        draft = Draft(rng, self.shapes, has_weights=False)
        names = [name for name in OPERATIONS if not name.startswith("tf_")]
        names = [name for name in names if name not in ("each_step", "halves")]
        for _ in range(int(rng.integers(3, 7))):
            chance = rng.random()
            if chance < 0.2:
                draft.step(names[rng.integers(len(names))])
            elif chance < 0.5:
                self.several(draft)
            else:
                draft.layer(1)
        if not any(step["do"] == "layer" for step in draft.code):
            draft.layer(1)
        return draft.written(outputs=draft.ends(3))

    def several(self, draft):
        """An own layer of two tensors."""
        of = [draft.one(), draft.one()]
        spec, shapes = own_layer(draft.rng, [draft.shapes[n] for n in of], 1)
        draft.parts.append((spec, None, shapes))
        draft.put("layers", of, shapes, {"part": len(draft.parts) - 1})

    def model(self, rng):
        kind = str(rng.choice(["OfOne", "OfOneMask", "OfList", "OfDict", "WithStep", "WithLoss"]))
        several = kind in ("OfList", "OfDict")
        self.shapes = [[STEPS, UNITS], [STEPS, UNITS], [UNITS]][: int(rng.integers(2, 4))]
        if not several:
            self.shapes = self.shapes[:1]
        training = kind not in ("OfOneMask", "OfList")
        draft = Draft(rng, self.shapes, training, kind == "OfOneMask")
        names = [*OPERATIONS]
        for _ in range(int(rng.integers(3, 8))):
            if rng.random() < 0.5:
                draft.layer(1)
            else:
                draft.step(names[rng.integers(len(names))])
        draft.layer(0)
        gives = draft.choose(["list", "dict"])
        ends = draft.ends(1 if kind == "WithStep" or rng.random() < 0.6 else 2)
        return draft.written(
            kind=kind, outputs=ends, gives="list" if len(ends) == 1 else gives,
            held=draft.choose(["attributes", "list", "dict"]), named=bool(rng.random() < 0.8),
        )  # fmt: skip

    def build(self, m):
        keras = m.keras
        if self.form == "model":
            return m.own[self.spec["kind"]](self.spec)
        if self.form == "chain":
            masking = [m.layers.Masking()] if self.masking else []
            return keras.Sequential(
                [keras.Input((STEPS, UNITS)), *masking, *(make(m, p) for p in self.spec["parts"])]
            )
        inputs = [keras.Input(tuple(shape), name=f"t{n}") for n, shape in enumerate(self.shapes)]
        tensors = [*inputs]
        if self.masking:
            tensors = [
                m.layers.Masking()(x) if len(shape) == 2 else x
                for x, shape in zip(inputs, self.shapes, strict=True)
            ]
        if self.form == "wrapped":
            found = m.own[self.spec["kind"]](self.spec)(self.packed(tensors))
            if isinstance(found, dict):
                found = [found[name] for name in sorted(found)]
            found = [*found] if isinstance(found, (list, tuple)) else [found]
            return keras.Model(inputs, found if len(found) > 1 else found[0])
        parts, made = self.spec["parts"], {}

        def part(n):
            if made.get(n) is None:
                made[n] = make(m, parts[n])
            return made[n]

        own = SimpleNamespace(part=part)
        for step in self.spec["code"]:
            xs = [tensors[n] for n in step["of"]]
            if step["do"] == "layer":
                found = part(step["part"])(xs[0])
            elif step["do"] == "layers":
                layer, kind = part(step["part"]), parts[step["part"]]["kind"]
                found = layer(*xs) if kind == "OwnPair" else layer(
                    xs if kind == "OwnList" else {"one": xs[0], "other": xs[1]}
                )  # fmt: skip
            else:
                found = OPERATIONS[step["do"]][1](m, own, xs, step)
            if isinstance(found, dict):
                found = [found[name] for name in sorted(found)]
            tensors += found if isinstance(found, (list, tuple)) else [found]
        outputs = [tensors[n] for n in self.spec["outputs"]]
        return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])

    def packed(self, arrays):
        """Inputs as the program's model takes them."""
        kind = self.spec.get("kind")
        if kind == "OfDict":
            return {f"x{n}": x for n, x in enumerate(arrays)}
        return arrays if len(arrays) > 1 or kind == "OfList" else arrays[0]

    def data(self, rng, samples=6):
        arrays = []
        for shape in self.shapes:
            x = rng.normal(size=(samples, *shape)).astype(np.float32)
            if self.masking and len(shape) == 2:
                for row in range(samples):
                    x[row, int(rng.integers(2, STEPS + 1)) :] = 0
            arrays.append(x)
        return self.packed(arrays) if self.form == "model" else (
            arrays if len(arrays) > 1 else arrays[0]
        )  # fmt: skip
