import math
import warnings

import numpy as np
import pytest

from fastrnn import activations

# (name, options, formula of one float)
ELEMENTWISE = [
    ("linear", {}, lambda x: x),
    ("relu", {}, lambda x: max(x, 0)),
    ("relu", {"negative_slope": 0.1}, lambda x: x if x > 0 else 0.1 * x),
    ("relu", {"max_value": 2.0}, lambda x: min(max(x, 0), 2)),
    ("relu", {"threshold": 1.0}, lambda x: x if x > 1 else 0),
    (
        "relu",
        {"negative_slope": 0.2, "max_value": 2.0, "threshold": 1.0},
        lambda x: min(x, 2) if x > 1 else 0.2 * (x - 1),
    ),
    ("leaky_relu", {}, lambda x: x if x > 0 else 0.2 * x),
    ("leaky_relu", {"negative_slope": 0.4}, lambda x: x if x > 0 else 0.4 * x),
    ("relu6", {}, lambda x: min(max(x, 0), 6)),
    ("sigmoid", {}, lambda x: 1 / (1 + math.exp(-x))),
    ("hard_sigmoid", {}, lambda x: min(max(x / 6 + 0.5, 0), 1)),
    ("hard_sigmoid_keras2", {}, lambda x: min(max(0.2 * x + 0.5, 0), 1)),
    ("sparse_sigmoid", {}, lambda x: min(max(0.5 * (x + 1), 0), 1)),
    ("tanh", {}, math.tanh),
    ("hard_tanh", {}, lambda x: min(max(x, -1), 1)),
    ("tanh_shrink", {}, lambda x: x - math.tanh(x)),
    ("softplus", {}, lambda x: math.log(1 + math.exp(x))),
    ("log_sigmoid", {}, lambda x: math.log(1 / (1 + math.exp(-x)))),
    ("sparse_plus", {}, lambda x: 0 if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4),
    ("squareplus", {}, lambda x: (x + math.sqrt(x * x + 4)) / 2),
    ("squareplus", {"b": 1}, lambda x: (x + math.sqrt(x * x + 1)) / 2),
    ("softsign", {}, lambda x: x / (1 + abs(x))),
    ("elu", {}, lambda x: x if x > 0 else math.exp(x) - 1),
    ("elu", {"alpha": 0.5}, lambda x: x if x > 0 else 0.5 * (math.exp(x) - 1)),
    (
        "selu",
        {},
        lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    ),
    ("celu", {}, lambda x: x if x > 0 else math.exp(x) - 1),
    ("celu", {"alpha": 0.5}, lambda x: x if x > 0 else 0.5 * (math.exp(x / 0.5) - 1)),
    ("exponential", {}, math.exp),
    ("gelu", {}, lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2)))),
    (
        "gelu",
        {"approximate": True},
        lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    ("silu", {}, lambda x: x / (1 + math.exp(-x))),
    ("swish", {}, lambda x: x / (1 + math.exp(-x))),
    ("hard_silu", {}, lambda x: x * min(max(x / 6 + 0.5, 0), 1)),
    ("mish", {}, lambda x: x * math.tanh(math.log(1 + math.exp(x)))),
    ("soft_shrink", {}, lambda x: math.copysign(max(abs(x) - 0.5, 0), x)),
    ("soft_shrink", {"threshold": 1}, lambda x: math.copysign(max(abs(x) - 1, 0), x)),
    ("hard_shrink", {}, lambda x: x if abs(x) > 0.5 else 0),
    ("hard_shrink", {"threshold": 1}, lambda x: x if abs(x) > 1 else 0),
    ("threshold", {"threshold": 0.3, "default_value": -2}, lambda x: x if x > 0.3 else -2),
]
ALONG_AXIS = [
    (name, {"axis": axis}) for name in ("softmax", "log_softmax", "sparsemax") for axis in (-1, 0)
] + [("softmax", {"axis": None}), ("glu", {}), ("glu", {"axis": 0})]
EVERY = [(name, options) for name, options, _ in ELEMENTWISE] + ALONG_AXIS

X = np.random.default_rng(0).standard_normal((6, 8)) * 3


def check_gradient(fn, gradient, options, x=X):
    """Compare with central differences of sum(dy * y) in float64."""
    y = fn(x, **options)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    expected = np.empty_like(x)
    for i in np.ndindex(x.shape):
        delta = np.zeros_like(x)
        delta[i] = 1e-6
        expected[i] = np.sum(dy * (fn(x + delta, **options) - fn(x - delta, **options))) / 2e-6
    np.testing.assert_allclose(gradient(x, y, dy, **options), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "options", "formula"), ELEMENTWISE)
def test_values(name, options, formula):
    expected = np.vectorize(formula, otypes=[float])(X)
    fn = activations.get(name)
    np.testing.assert_allclose(fn(X, **options), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(fn(X.astype(np.float32), **options), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax(axis):
    expected = np.exp(X) / np.exp(X).sum(axis=axis, keepdims=True)
    np.testing.assert_allclose(activations.softmax(X, axis), expected, rtol=1e-12)
    np.testing.assert_allclose(activations.log_softmax(X, axis), np.log(expected), rtol=1e-12)


def test_softmax_of_masked_and_huge_logits():
    x = np.array([1e38, 3e38, -np.inf, -3e38], np.float32)
    np.testing.assert_array_equal(activations.softmax(x), [0, 1, 0, 0])
    np.testing.assert_allclose(activations.softmax(X, axis=None).sum(), 1)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], [0, 0.1, 0.2, 0.3, 0.4]),
        ([0.0, 0.5, 1.0], [0, 0.25, 0.75]),
        ([5.0, 1.0, 1.0], [1, 0, 0]),
        ([2.0, 2.0], [0.5, 0.5]),
    ],
)
def test_sparsemax(x, expected):
    np.testing.assert_allclose(activations.sparsemax(np.array(x)), expected, atol=1e-15)


@pytest.mark.parametrize("axis", [-1, 0])
def test_sparsemax_is_the_projection_on_the_simplex(axis):
    y = activations.sparsemax(X, axis=axis)
    np.testing.assert_allclose(y.sum(axis=axis), 1)
    tau = np.where(y > 0, X - y, -np.inf).max(axis=axis, keepdims=True)
    np.testing.assert_allclose(y, np.maximum(X - tau, 0), atol=1e-14)


def test_glu():
    a, b = X[:, :4], X[:, 4:]
    np.testing.assert_allclose(activations.glu(X), a / (1 + np.exp(-b)), rtol=1e-12)
    with pytest.raises(ValueError, match=r"x: expected an even size along axis -1.*\(2, 3\)"):
        activations.glu(np.ones((2, 3)))


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_gradients(name, options):
    fn = activations.get(name)
    check_gradient(fn, activations.gradient_of(fn), options)


@pytest.mark.parametrize(("name", "options"), [("tanh", {}), ("softmax", {"axis": 0})])
def test_the_gradient_check_sees_a_wrong_gradient(name, options):
    fn = activations.get(name)
    with pytest.raises(AssertionError):
        check_gradient(fn, lambda x, y, dy, **_: fn.gradient(x, y, dy, **options) * 1.0001, options)


@pytest.mark.parametrize(
    ("options", "expected"),  # as Keras 3.15 on TensorFlow 2.21 gave at -0.5, 0, 0.5, 1, 6
    [
        ({}, [0, 0, 1, 1, 1]),
        ({"max_value": 1.0}, [0, 0, 1, 1, 0]),
        ({"max_value": 6.0}, [0, 0, 1, 1, 0]),
        ({"threshold": 0.5}, [0, 0, 0, 1, 1]),
        ({"threshold": 0.5, "max_value": 6.0}, [0, 0, 0, 1, 1]),
        ({"threshold": -0.5, "max_value": 1.0}, [0, 1, 1, 1, 0]),
        ({"negative_slope": 0.3}, [0.3, 0.3, 1, 1, 1]),
        ({"negative_slope": 0.3, "threshold": 0.5}, [0.3, 0.3, 0, 1, 1]),
        ({"negative_slope": 0.3, "threshold": -0.5}, [0, 1, 1, 1, 1]),
        ({"negative_slope": 0.3, "max_value": 1.0}, [0.3, 0, 1, 1, 0]),
        ({"negative_slope": 0.3, "max_value": 0.0}, [0.3, 0, 0, 0, 0]),
    ],
)
def test_gradient_of_relu_where_its_pieces_meet(options, expected):
    x = np.array([-0.5, 0, 0.5, 1, 6], np.float32)
    y = activations.relu(x, **options)
    np.testing.assert_allclose(
        activations.relu.gradient(x, y, np.ones_like(y), **options), expected
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), EVERY)
def test_dtypes(name, options, dtype):
    x = X.astype(dtype)
    before = x.copy()
    fn = activations.get(name)
    y = fn(x, **options)
    assert y.dtype == dtype
    assert fn.gradient(x, y, np.ones_like(y), **options).dtype == dtype
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(("name", "options"), [pair for pair in EVERY if pair[0] != "linear"])
def test_lists_become_float32(name, options):
    y = activations.get(name)([[1, -2], [3, 4]], **options)
    assert y.dtype == np.float32


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_large_inputs_are_finite_and_silent(name, options):
    sizes = [0, 1e-38, 1e-4, 20, 90, 1e4, 1e13, 1e20, 1e38]
    x = np.array([sizes + sizes, np.negative(sizes + sizes)], np.float32)
    fn = activations.get(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = fn(x, **options)
        dx = fn.gradient(x, y, np.ones_like(y), **options)
    if name == "exponential":
        assert np.isposinf(y[x > 89]).all()
        y, dx = y[x < 88], dx[x < 88]
    if name == "log_softmax":
        assert not np.isnan(y).any()
        y = y[y > -np.inf]
    assert np.isfinite(y).all() and np.isfinite(dx).all()


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("sigmoid", -80.0, math.exp(-80)),
        ("softplus", -80.0, math.exp(-80)),
        ("log_sigmoid", 80.0, -math.exp(-80)),
        ("squareplus", -1e6, 1e-6),
        ("elu", -1e-10, -1e-10),
        ("gelu", -10.0, -10 * 0.5 * math.erfc(10 / math.sqrt(2))),
    ],
)
def test_small_results_keep_their_digits(name, x, expected):
    y = activations.get(name)(np.array([x], np.float32))
    np.testing.assert_allclose(y, [expected], rtol=2e-6)


@pytest.mark.parametrize("fn", sorted({fn for fn, _ in EVERY} - {"swish"}))
def test_names_round_trip(fn):
    config = activations.serialize(activations.get(fn))
    assert config == fn or (fn, config["config"]) == ("hard_sigmoid_keras2", fn)
    assert activations.deserialize(config) is activations.get(fn)
    assert activations.deserialize(fn) is activations.get(fn) is getattr(activations, fn)


def test_get():
    assert activations.get(None) is activations.linear
    assert activations.serialize(None) == "linear"
    assert activations.get("swish") is activations.swish is activations.silu
    assert activations.get("hard_swish") is activations.hard_swish is activations.hard_silu
    config = {
        "module": "builtins",
        "class_name": "function",
        "config": "relu",
        "registered_name": "function",
    }
    assert activations.get(config) is activations.relu


def double(x):
    return 2 * x


def test_user_functions():
    assert activations.get(double) is double
    config = activations.serialize(double)
    assert config["class_name"] == "function" and config["config"] == "double"
    assert activations.deserialize(config, {"double": double}) is double
    assert activations.gradient_of(double)(np.ones(3), None, np.arange(3.0)).tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match=r"spacing.*; attach fn\.gradient = "):
        activations.gradient_of(np.spacing)(np.ones(3), None, np.ones(3))

    def triple(x):
        return 3 * x

    triple.gradient = lambda x, y, dy: 3 * dy
    check_gradient(triple, activations.gradient_of(triple), {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: activations.get("rely"), "activation: expected one of .*'rely'"),
        (lambda: activations.get(3), "activation: expected a name or .*received 3"),
        (lambda: activations.get({"config": "relu"}), "activation: expected a name or"),
        (lambda: activations.serialize(lambda x: x), "lambda"),
        (lambda: activations.deserialize(activations.serialize(double)), "'double'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_has_no_such_axis():
    for x, axis in ((-1, -1), (1.0, -1), (np.ones((2, 4)), 5)):
        for name in ("glu", "sparsemax", "softmax", "log_softmax"):
            with pytest.raises(ValueError, match="axis"):
                getattr(activations, name)(x, axis=axis)
    with pytest.raises(ValueError, match=r"^x: expected an axis -1, received shape \(\)"):
        activations.glu(-1)
