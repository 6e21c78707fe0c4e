"""Derivatives of users' functions, against central differences in float64."""

import numpy as np
import pytest

import fastrnn
from fastrnn import activations, layers, losses, models, tape
from fastrnn.arrays import Array
from fastrnn.gradient_tape import GradientTape
from fastrnn.initializers import Orthogonal
from fastrnn.tape import Traced, derivative, gradients, recording
from fastrnn.variable import Variable

LOSSES = {
    "absolute": lambda t, p: np.mean(np.abs(t - p), axis=-1),
    "asymmetric": lambda t, p: np.where(p > t, p - t, 3 * (t - p)),
    "both in where": lambda t, p: np.where(t > 0, p**3, np.float64(0.5) * p),
    "clipped logs": lambda t, p: -np.log(np.clip(np.abs(p), 0.1, None)) * (t > 0),
    "correlation": lambda t, p: np.sum((t - t.mean()) * (p - p.mean())) / np.std(p),
    "dice": lambda t, p: 1 - 2 * np.sum(t * p) / (np.sum(np.ravel(p * p)) + 1),
    "exponents": lambda t, p: np.abs(p) ** np.abs(t) + 2.0**p - 1 / (2 + np.abs(p)),
    "first column": lambda t, p: np.square(t[:, 0] - p[:, 0]) + p[..., 1] * p[:, -1],
    "largest": lambda t, p: np.max(np.abs(t - p), axis=-1) + p.min(axis=0, keepdims=True).sum(),
    "masked": lambda t, p: np.mean(np.square(t - p)[t > 0]),
    "pinball": lambda t, p: np.mean(np.maximum(0.2 * (t - p), -0.8 * (t - p)), axis=-1),
    "reshaped": lambda t, p: p.reshape(-1, 2).T.sum(0) * np.squeeze(np.expand_dims(p, 0)).sum(1)[0],
    "rmse": lambda t, p: np.sqrt(np.mean(np.square(p - t), axis=-1)),
    "softplus": lambda t, p: np.logaddexp(0, p) + np.log1p(np.exp(-p)) + np.expm1(p / 9),
    "variance": lambda t, p: np.var(p, axis=1) + np.minimum(p, t).max(axis=1),
    "waves": lambda t, p: np.sin(p) * np.cos(p * t) - np.tanh(+p) + p.astype("float64"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_against_differences(name, rng):
    function = LOSSES[name]
    t, p = rng.normal(size=(2, 5, 4))
    expected = np.empty_like(p)
    for place in np.ndindex(p.shape):
        step = np.zeros_like(p)
        step[place] = 1e-6
        high, low = (np.sum(function(t, p + sign * step)) for sign in (1, -1))
        expected[place] = (high - low) / 2e-6
    found = derivative(lambda y: function(t, y), p)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


A, B, C = (5, 4), (4,), (2, 3, 4)  # shapes
# name -> function and shapes of its arguments, whose numbers are between 0.1 and 0.9
STEPS = {
    **{
        name: (getattr(np, name), A)
        for name in (
            "arccos",
            "arcsin",
            "arcsinh",
            "arctan",
            "arctanh",
            "cbrt",
            "conjugate",
            "copy",
            "cos",
            "cosh",
            "cumprod",
            "cumsum",
            "deg2rad",
            "diag",
            "diagflat",
            "diagonal",
            "diff",
            "exp",
            "exp2",
            "expm1",
            "fabs",
            "flip",
            "fliplr",
            "flipud",
            "log",
            "log10",
            "log1p",
            "log2",
            "max",
            "mean",
            "median",
            "min",
            "nan_to_num",
            "nancumprod",
            "nancumsum",
            "nanmax",
            "nanmean",
            "nanmin",
            "nanprod",
            "nanstd",
            "nansum",
            "nanvar",
            "negative",
            "positive",
            "prod",
            "ptp",
            "rad2deg",
            "ravel",
            "reciprocal",
            "rot90",
            "sin",
            "sinh",
            "sort",
            "sqrt",
            "square",
            "std",
            "sum",
            "tan",
            "tanh",
            "trace",
            "transpose",
            "tril",
            "triu",
            "var",
        )
    },
    **{
        name: (getattr(np, name), A, B)
        for name in (
            "add",
            "arctan2",
            "divide",
            "fmax",
            "fmin",
            "fmod",
            "hypot",
            "inner",
            "kron",
            "logaddexp",
            "logaddexp2",
            "maximum",
            "minimum",
            "multiply",
            "outer",
            "power",
            "remainder",
            "subtract",
            "matmul",
            "dot",
        )
    },
    "arccosh": (lambda a: np.arccosh(1 + a), A),
    "append": (np.append, A, B),
    "append along": (lambda a, b: np.append(a, b, 0), A, A),
    "array_split": (lambda a: np.multiply(*np.array_split(a, [1, 2], 1)[:2]), A),
    "average": (lambda a, b: np.average(a, -1, b), A, B),
    "average of both": (lambda a, b: np.average(a, weights=b), A, A),
    "broadcast_to": (lambda a: np.broadcast_to(a, (3, 5, 4)), (5, 1)),
    "cross": (lambda a, b: np.cross(a, b, axisa=0), (3, 5), (5, 3)),
    "cumprod backward": (lambda a: np.cumprod(a, axis=-2), C),
    "diag of a vector": (lambda a: np.diag(a, -1), B),
    "diagonal of axes": (lambda a: np.diagonal(a, -1, -1, 1), C),
    "diff twice": (lambda a: np.diff(a, 2, axis=0), A),
    "dot of vectors": (np.dot, B, B),
    "dot with a number": (np.dot, A, ()),
    "dot of n axes": (np.dot, C, (2, 4, 3)),
    "dsplit": (lambda a: np.multiply(*np.dsplit(a, 2)), C),
    "dstack": (lambda a, b: np.dstack([a, b]), B, B),
    "einsum": (lambda a, b: np.einsum("btf,uf->tu", a, b), C, A),
    "einsum with dots": (lambda a, b: np.einsum("...f,uf->...u", a, b), C, A),
    "einsum with dots in both": (lambda a, b: np.einsum("...f,...f->...", a, b), C, (1, 3, 4)),
    "einsum of its own output": (lambda a, b: np.einsum("btf,uf", a, b), C, A),
    "einsum of broadcast axes": (lambda a, b: np.einsum("tf,tf->f", a, b), (1, 4), A),
    "extremes of axes": (lambda a: np.max(a, (0, -1)) * np.min(a, (-1, 0), keepdims=True), C),
    "hsplit": (lambda a: np.multiply(*np.hsplit(a, 2)), A),
    "hstack": (lambda a, b: np.hstack([a, b]), A, A),
    "hstack of vectors": (lambda a, b: np.hstack([a, b]), B, B),
    "kron of matrices": (np.kron, A, (1, 2, 3)),
    "linalg.cholesky": (
        lambda a: np.linalg.cholesky(a @ np.swapaxes(a, -1, -2) + np.eye(3)),
        (2, 3, 4),
    ),
    "linalg.det": (lambda a: np.linalg.det(a + np.eye(3)), (2, 3, 3)),
    "linalg.inv": (lambda a: np.linalg.inv(a + np.eye(3)), (2, 3, 3)),
    "linalg.slogdet": (lambda a: np.linalg.slogdet(a + np.eye(3))[1], (2, 3, 3)),
    "linalg.solve": (lambda a, b: np.linalg.solve(a + np.eye(3), b), (2, 3, 3), (3, 2)),
    "linalg.solve of a vector": (lambda a, b: np.linalg.solve(a + np.eye(3), b), (3, 3), (3,)),
    "matmul of batches": (np.matmul, (2, 1, 3, 4), (3, 4, 2)),
    "matmul of vectors": (np.matmul, B, B),
    "matmul of a vector": (np.matmul, B, (4, 3)),
    "matmul to a matrix": (np.matmul, C, (4, 2)),
    "median of axes": (lambda a: np.median(a, (0, -1), keepdims=True), C),
    "moveaxis": (lambda a: np.moveaxis(a, (0, -1), (1, 0)), C),
    "nanmean of axes": (lambda a: np.nanmean(a, (0, -1), keepdims=True), C),
    "numbers": (lambda a, b: np.sin(a) * b / a, (), ()),
    "pad": (lambda a: np.pad(a, ((1, 0), (0, 2))), A),
    "percentile": (lambda a: np.percentile(a, 30, -1), A),
    "prod of axes": (lambda a: np.prod(a, (0, -1), keepdims=True), C),
    "prod with zeros": (lambda a: np.prod(a * np.array([0, 1, 1, 1])[None], 1), A),
    "quantile": (lambda a: np.quantile(a, 0.4), A),
    "quantiles": (lambda a: np.quantile(a, [[0.1, 0.5], [0.9, 1]], (0, -1), keepdims=True), C),
    "repeat": (lambda a: np.repeat(a, 3, -2), C),
    "roll": (lambda a: np.roll(a, (1, -2), (0, 1)), A),
    "roll of all": (lambda a: np.roll(a, 3), A),
    "rot90": (lambda a: np.rot90(a, 3, (1, 2)), C),
    "same twice": (lambda a: a * a + np.multiply(a, a.T) - np.matmul(a, a), (4, 4)),
    "split": (lambda a: np.split(a, [1, 3])[1] * np.amax(a) - np.amin(a, 0), A),
    "sort along": (lambda a: np.sort(a, 0), A),
    "spread": (lambda a, b: a + b * a, (2, 1, 4), (3, 1)),
    "stacks": (lambda a, b: np.stack([a, b], -2) * np.concatenate([a, b], None)[3], A, A),
    "std of axes": (lambda a: np.std(a, (-1, 0), keepdims=True), C),
    "swapaxes": (lambda a: np.swapaxes(a, 0, -1), C),
    "take": (lambda a: np.take(a, [[0, 3], [0, -1]], -1), A),
    "take_along_axis": (lambda a: np.take_along_axis(a, np.array([[0, 0, 2]] * 5), -1), A),
    "take_along_axis spread": (lambda a: np.take_along_axis(a, np.array([[0], [-1]]), 0), A),
    "tensordot": (np.tensordot, C, (3, 4, 2)),
    "tensordot of axes": (lambda a, b: np.tensordot(a, b, ([0, -1], [1, 0])), C, (4, 2, 3)),
    "tensordot of one": (lambda a, b: np.tensordot(a, b, 1), C, (4, 3)),
    "tile": (lambda a: np.tile(a, (2, 1, 3)), A),
    "trace": (lambda a: np.trace(a, 1, -1, 0), C),
    "transpose": (lambda a: np.transpose(a, (-1, 0, 1)), C),
    "tril": (lambda a: np.tril(a, -1), C),
    "vdot": (np.vdot, A, A),
    "vsplit": (lambda a: np.multiply(*np.vsplit(a, 2)), (4, 3)),
    "vstack": (lambda a, b: np.vstack([a, b]), B, A),
    "where": (lambda a, b: np.where(a > b, a, b * b), A, B),
    "methods": (lambda a: a.clip(0.2, 0.5).mean(-1).prod() + a.swapaxes(0, 1).flatten().var(), A),
    "indices": (lambda a: a[[0, 0, 1], :, None, 2:] * a[..., -1:, [1]][:1, :, :1], C),
}


def test_each_function_that_has_a_derivative_is_among_them(monkeypatch, rng):
    used = set()

    class Rules(dict):
        def __getitem__(self, function):
            used.add(function)
            return super().__getitem__(function)

    rules = [tape._UFUNCS, tape._FUNCTIONS]
    monkeypatch.setattr(tape, "_UFUNCS", Rules(tape._UFUNCS))
    monkeypatch.setattr(tape, "_FUNCTIONS", Rules(tape._FUNCTIONS))
    for function, *shapes in STEPS.values():
        with recording():
            function(*(Traced(rng.uniform(0.1, 0.9, shape)) for shape in shapes))
    for function in LOSSES.values():
        with recording():
            function(rng.normal(size=(5, 4)), Traced(rng.normal(size=(5, 4))))
    assert used == {*rules[0], *rules[1]}


@pytest.mark.parametrize("name", STEPS)
def test_steps_against_differences(name, rng):
    """The gradient of each argument; the same for all arguments as weights, but in float32."""
    function, *shapes = STEPS[name]
    arrays = [rng.uniform(0.1, 0.9, shape) for shape in shapes]
    factor = rng.normal(size=np.shape(function(*arrays)))
    given = [Traced(array) for array in arrays]
    with recording(strict=True):
        y = function(*given)
    np.testing.assert_allclose(y.value, function(*arrays), rtol=1e-12)
    found = gradients([(y, factor)])
    weights = [Variable(array) for array in arrays]
    with recording():
        y = function(*weights)
    assert y.dtype == np.float32
    of_weights = gradients([(y, factor.astype(np.float32))])
    for array, one, weight in zip(arrays, given, weights, strict=True):
        expected = np.empty_like(array)
        for place in np.ndindex(array.shape):
            before, sums = array[place], []
            for step in (1e-6, -1e-6):
                array[place] = before + step
                sums.append(np.sum(function(*arrays) * factor))
            array[place] = before
            expected[place] = (sums[0] - sums[1]) / 2e-6
        assert found[id(one)].dtype == np.float64 and found[id(one)].shape == array.shape
        np.testing.assert_allclose(found[id(one)], expected, rtol=1e-5, atol=1e-7)
        assert of_weights[id(weight)].dtype == np.float32
        largest = max(1, np.abs(expected).max())
        np.testing.assert_allclose(of_weights[id(weight)], expected, atol=2e-4 * largest)


def test_whole_numbers_are_constants():
    x, whole = Traced(np.ones((2, 3), np.float32)), np.arange(3)
    count = Variable(whole)
    with recording(strict=True):
        parts = [x * whole, whole - x, x**whole, x / np.int64(2), np.where(whole > 1, x, whole)]
        parts += [np.concatenate([x[0], whole]), x @ whole, np.einsum("ab,b->a", x, whole)]
        parts += [x * count, count + x]
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}
    for part in parts:
        found = gradients([(part, np.ones_like(part.value))])
        assert set(found) == {id(x)} and found[id(x)].dtype == np.float32


@pytest.mark.parametrize(
    "use",
    [
        lambda x: np.sum(a=x * 2),
        lambda x: np.clip(a_min=0, a_max=x, a=np.ones(3)),
        lambda x: np.mean(axis=0, a=x),
    ],
)
def test_arguments_by_name(use):
    x = Traced(np.full(3, 0.5))
    with recording():
        y = use(x)
    assert np.abs(gradients([(y, np.ones_like(y.value))])[id(x)]).sum() > 0


def test_what_scripts_ask_of_values():
    x, weight = Traced(np.float32([[1, 2], [3, 4]])), Variable([1.5, 2.5])
    with recording():
        for value in (x, x * 2, weight, weight + 1):
            assert value.shape.as_list() == [*value.shape] == value.get_shape().as_list()
            value.set_shape([None] * value.ndim)
            with pytest.raises(ValueError, match=r"^shape: expected \(7,\), received \(2"):
                value.set_shape([7])
            assert len(value) == 2 and len([*value]) == 2
            assert {value.ref(): 1}[value.ref()] == 1 and value.ref().deref() is value
            assert value.ref() != (value + 0).ref()
            assert value[..., np.newaxis].shape == (*value.shape, 1)
            assert value.numpy().tolist() == value.tolist()
        assert f"{x[0, 1]:.2f}" == "2.00" and int(x[1, 1]) == 4 and float(x.sum()) == 10
        assert x.copy() is not x and x.astype("int32").dtype == np.int32
    assert weight.assign_add([1, 1]).numpy().tolist() == [2.5, 3.5]
    result = weight * 2
    assert f"{result[0]:.1f}" == "5.0" and result[0].numpy() == 5
    assert [part.numpy() for part in result] == [5, 7] and result.shape.as_list() == [2]
    assert result.shape.num_elements() == result.shape.rank + 1 == 2
    assert {result.ref(): 1}[result.ref()] == 1
    result.set_shape((2,))


def test_a_loss_in_several_steps(rng):
    def function(t, p):
        total = np.square(t - p)
        total += np.abs(p)
        total *= 2
        return total

    t, p = rng.normal(size=(2, 5, 4)).astype(np.float32)
    found = derivative(lambda y: function(t, y), p)
    np.testing.assert_allclose(found, 2 * (2 * (p - t) + np.sign(p)), rtol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda t, p: np.spacing(p), "no derivative is known of spacing; attach"),
        (lambda t, p: np.nanmedian(p), "no derivative is known of nanmedian; attach"),
        (lambda t, p: np.add.reduce(p), "no derivative is known of add; attach"),
        (
            lambda t, p: np.square(np.asarray(p)),
            "must not make an array of what it is given; attach",
        ),
        (lambda t, p: np.round(p), "the result comes from no step with a derivative; attach"),
    ],
)
def test_what_has_no_derivative(function, message):
    y = np.ones((2, 2), np.float32)
    loss = losses.LossFunctionWrapper(function, name="own")
    with pytest.raises(ValueError, match="^loss: no derivative of 'own' was found: .*" + message):
        loss.value_and_gradient(y, y)


def test_training_as_with_fastrnns_own_functions(rng):
    x = rng.normal(size=(32, 4, 3))
    y = x.sum((1, 2))

    def own(y_true, y_pred):
        return np.mean(np.square(y_pred - y_true), axis=-1)

    def own_activation(x):
        return np.maximum(x, 0.2 * x)

    def own_regularizer(w):
        return 0.01 * np.sum(np.square(w))

    results = []
    for loss, activation, regularizer in (
        (own, own_activation, own_regularizer),
        ("mse", "leaky_relu", "l2"),
    ):
        lstm = layers.LSTM(
            4, activation, kernel_regularizer=regularizer, kernel_initializer=Orthogonal(seed=1),
            recurrent_initializer=Orthogonal(seed=2), input_shape=(4, 3),
        )  # fmt: skip
        model = models.Sequential([lstm, layers.Dense(1, own_activation)])
        model.layers[1].set_weights([np.ones((4, 1)), np.zeros(1)])
        model.compile("adam", loss)
        history = model.fit(x, y, epochs=3, verbose=0, shuffle=False, sample_weight=y**2)
        results.append(history.history["loss"])
    np.testing.assert_allclose(*results, rtol=1e-5)


ACTIVATIONS = [
    name for name in activations.__all__ if hasattr(getattr(activations, name), "gradient")
]
OPTIONS = {"threshold": {"threshold": 0.1, "default_value": -1}, "softmax": {"axis": 0}}


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "linear"])
def test_activations_are_steps(name, rng):
    """Their gradients are compared with differences in test_activations."""
    function, options = getattr(activations, name), OPTIONS.get(name, {})
    x, dy = rng.normal(size=(2, 3, 4))
    dy = dy[:, :2] if name == "glu" else dy
    found = derivative(lambda a: function(a, **options), x, dy)
    y = np.asarray(function(x, **options))
    np.testing.assert_array_equal(found, function.gradient(x, y, dy, **options))
    weight, array = Variable(x), fastrnn.ops.convert_to_tensor(x.astype(np.float32))
    with GradientTape() as tape:
        tape.watch(array)
        loss = np.sum(function(weight, **options) * dy.astype(np.float32))
        other = np.sum(function(array, **options) * dy.astype(np.float32))
    for part in tape.gradient([loss, other], [weight, array]):
        np.testing.assert_allclose(part, found, rtol=1e-4, atol=1e-5)
    assert type(function(weight, **options)) is Array


LARGE = {
    "bias": (lambda x, b: x + b, (16,)),
    "column": (lambda x, w: x @ w, (16, 1)),
    "elu": (lambda x, b: activations.elu(x) + b, ()),
    "hard_sigmoid": (lambda x, b: activations.hard_sigmoid(x) * b, (1,)),
    "matrix": (lambda x, w: x @ w, (16, 9)),
    "rows": (lambda x, b: x * b, (50, 1)),
    "selu": (lambda x, b: activations.selu(x * b), (50, 1)),
    "sigmoid": (lambda x, b: activations.sigmoid(x) * b, (40, 1, 1)),
    "softsign": (lambda x, b: activations.softsign(x * b), (40, 50, 1)),
    "steps": (lambda x, b: np.sum(x * b, 1), (40, 50, 1)),
    "tanh": (lambda x, b: np.tanh(x + b), (16,)),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_arrays(name, isa, rng):
    """In float32 they take ways of their own: beside the rules for float64."""
    function, shape = LARGE[name]
    x, w = rng.normal(size=(40, 50, 16)), rng.normal(size=shape)
    w *= np.abs(w) > 0.01  # far from what no derivative is there for

    def run(dtype):
        sources = [Traced(x.astype(dtype)), Traced(w.astype(dtype))]
        with recording():
            y = function(*sources)
        found = gradients([(y, np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype))])
        return [y.value, *(found[id(source)] for source in sources)]

    for found, expected in zip(run(np.float32), run(np.float64), strict=True):
        assert found.dtype == np.float32 and expected.dtype == np.float64
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=5e-6 * max(1, np.abs(expected).max()))


def test_large_arrays_with_infinities_and_nan():
    x = np.zeros(2**15, np.float32)
    x[:4] = np.nan, np.inf, -np.inf, -0.0
    for function in (np.tanh, activations.sigmoid, activations.elu, activations.selu):
        with recording():
            y = function(Traced(x)).value
        np.testing.assert_allclose(y[:4], function(x[:4]), 1e-6, 1e-37)
