import math

import numpy as np
import pytest

from fastrnn import constraints, regularizers

RNG = np.random.default_rng(0)
W = RNG.standard_normal((4, 3))

REGULARIZERS = [
    regularizers.L1(0.3),
    regularizers.L2(0.2),
    regularizers.L1L2(0.3, 0.2),
    regularizers.L1L2(),
    regularizers.OrthogonalRegularizer(0.5),
    regularizers.OrthogonalRegularizer(0.5, mode="columns"),
]
CONSTRAINTS = [
    constraints.MaxNorm(1.5),
    constraints.MaxNorm(1, axis=1),
    constraints.NonNeg(),
    constraints.UnitNorm(),
    constraints.UnitNorm(axis=(0, 1)),
    constraints.MinMaxNorm(1.5, 2.0, 0.25, 1),
]


def central_differences(f, w, step=1e-6):
    gradient = np.empty_like(w)
    for i in np.ndindex(w.shape):
        delta = np.zeros_like(w)
        delta[i] = step
        gradient[i] = (f(w + delta) - f(w - delta)) / (2 * step)
    return gradient


def describe(obj):
    return f"{type(obj).__name__}{tuple(obj.get_config().values())}"


def test_penalties():
    w = np.array([[1.0, -2.0], [0.0, 3.0]])
    assert regularizers.L1()(w) == pytest.approx(0.06)
    assert regularizers.L2()(w) == pytest.approx(0.14)
    assert regularizers.L1L2(0.1, 0.2)(w) == pytest.approx(0.6 + 2.8)
    assert regularizers.L1L2()(w) == 0


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_orthogonal_penalty_is_the_mean_absolute_cosine(mode):
    rows = W if mode == "rows" else W.T
    cosines = [
        abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
        for i, a in enumerate(rows)
        for b in rows[:i]
    ]
    penalty = regularizers.OrthogonalRegularizer(0.5, mode)(W)
    assert penalty == pytest.approx(0.5 * np.mean(cosines))


def test_orthogonal_penalty_without_pairs_or_norm():
    regularizer = regularizers.OrthogonalRegularizer()
    assert regularizer(np.ones((1, 3))) == 0
    np.testing.assert_array_equal(regularizer.gradient(np.ones((1, 3))), np.zeros((1, 3)))
    assert regularizer(np.zeros((2, 3))) == 0
    assert np.isfinite(regularizer.gradient(np.zeros((2, 3)))).all()


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=describe)
def test_gradients(regularizer):
    gradient = regularizers.gradient_of(regularizer, W)
    np.testing.assert_allclose(gradient, central_differences(regularizer, W), atol=1e-8)


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=describe)
def test_types(regularizer):
    w = W.astype(np.float32)
    before = w.copy()
    assert isinstance(regularizer(w), float)
    gradient = regularizer.gradient(w)
    assert gradient.dtype == np.float32 and gradient.shape == w.shape
    np.testing.assert_allclose(gradient, regularizer.gradient(W), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(w, before)


def test_sum_of_many_small_terms():
    w = np.full(10_000_000, 0.1, np.float32)
    assert regularizers.L2(1.0)(w) == pytest.approx(1e7 * float(np.float32(0.1)) ** 2, rel=1e-6)


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=describe)
def test_regularizer_round_trip(regularizer):
    config = regularizers.serialize(regularizer)
    assert config["module"] == "keras.regularizers" and config["registered_name"] is None
    copy = regularizers.get(config)
    assert type(copy) is type(regularizer) and vars(copy) == vars(regularizer)


@pytest.mark.parametrize(
    ("identifier", "config"),
    [
        ("l1", {"l1": 0.01}),
        ("L1", {"l1": 0.01}),
        ("l2", {"l2": 0.01}),
        ("L2", {"l2": 0.01}),
        (regularizers.L2, {"l2": 0.01}),
        ("l1_l2", {"l1": 0.01, "l2": 0.01}),
        ("L1L2", {"l1": 0.01, "l2": 0.01}),
        ("orthogonal_regularizer", {"factor": 0.01, "mode": "rows"}),
        ({"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.5}}, {"l1": 0.0, "l2": 0.5}),
    ],
)
def test_get_regularizer(identifier, config):
    assert regularizers.get(identifier).get_config() == config


def test_factories_of_keras_2():
    assert regularizers.l1(0.5).l1 == regularizers.l1(l=0.5).l1 == regularizers.l1(l1=0.5).l1 == 0.5
    assert regularizers.l2(0.5).l2 == regularizers.l2(l=0.5).l2 == regularizers.l2(l2=0.5).l2 == 0.5
    assert regularizers.l1().l1 == regularizers.l2().l2 == 0.01
    assert regularizers.l1_l2().get_config() == {"l1": 0.01, "l2": 0.01}
    assert regularizers.l1_l2(l1=0.2, l2=0.3).get_config() == {"l1": 0.2, "l2": 0.3}


def test_user_callables():
    def penalty(w):
        return float(np.sum(w**4))

    assert regularizers.get(None) is None
    assert regularizers.get(penalty) is penalty
    np.testing.assert_allclose(regularizers.gradient_of(lambda w: np.sum(w**4), W), 4 * W**3)
    with pytest.raises(ValueError, match=r"no derivative of .*penalty.*: float.*a gradient\(w\)"):
        regularizers.gradient_of(penalty, W)
    penalty.gradient = lambda w: 4 * w**3
    np.testing.assert_array_equal(regularizers.gradient_of(penalty, W), 4 * W**3)


def test_user_class_needs_its_own_gradient():
    class Quartic(regularizers.Regularizer):
        def __call__(self, w):
            return float(np.sum(w**4))

    with pytest.raises(ValueError, match="gradient"):
        regularizers.gradient_of(Quartic(), W)
    config = regularizers.serialize(Quartic())
    assert isinstance(regularizers.deserialize(config, {"Quartic": Quartic}), Quartic)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: regularizers.L1(-1), "l1: expected a finite number >= 0, received -1"),
        (lambda: regularizers.L2(float("nan")), "l2: .*received nan"),
        (lambda: regularizers.L1L2(l2="x"), "l2: .*received 'x'"),
        (lambda: regularizers.OrthogonalRegularizer(mode="x"), "mode: .*'x'"),
        (lambda: regularizers.OrthogonalRegularizer()(np.ones(3)), r"w: .*two axes.*\(3,\)"),
        (lambda: regularizers.get("l3"), "regularizer: expected one of .*'l3'"),
        (lambda: regularizers.get(0.01), "regularizer: .*received 0.01"),
    ],
)
def test_regularizer_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_non_neg():
    np.testing.assert_array_equal(constraints.NonNeg()(np.array([-1.0, 0.0, 2.0])), [0, 0, 2])


def test_unit_norm():
    result = constraints.UnitNorm()(W)
    np.testing.assert_allclose(np.linalg.norm(result, axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(result, W / np.linalg.norm(W, axis=0), atol=1e-6)


def test_max_norm():
    w = np.array([[3.0, 0.3], [4.0, 0.4]])
    np.testing.assert_allclose(constraints.MaxNorm()(w), [[1.2, 0.3], [1.6, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(constraints.MaxNorm(1, axis=1)(w), axis=1), 1, rtol=1e-6
    )


@pytest.mark.parametrize(("rate", "norms"), [(1, [2, 1, 1.5]), (0.5, [3.5, 0.75, 1.5])])
def test_min_max_norm(rate, norms):
    w = np.eye(3) * [5, 0.5, 1.5]
    result = constraints.MinMaxNorm(1, 2, rate)(w)
    np.testing.assert_allclose(np.linalg.norm(result, axis=0), norms, rtol=1e-6)


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=describe)
def test_constraints_keep_shape_and_dtype(constraint):
    w = W.astype(np.float32)
    before = w.copy()
    result = constraint(w)
    assert result.dtype == np.float32 and result.shape == w.shape
    np.testing.assert_allclose(result, constraint(W), atol=1e-6)
    np.testing.assert_array_equal(w, before)
    assert np.isfinite(constraint(np.zeros_like(w))).all()


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=describe)
def test_constraint_round_trip(constraint):
    config = constraints.serialize(constraint)
    assert config["module"] == "keras.constraints" and config["registered_name"] is None
    copy = constraints.get(config)
    assert type(copy) is type(constraint) and vars(copy) == vars(constraint)


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("MaxNorm", constraints.MaxNorm),
        ("max_norm", constraints.MaxNorm),
        ("maxnorm", constraints.MaxNorm),
        ("non_neg", constraints.NonNeg),
        ("unit_norm", constraints.UnitNorm),
        ("min_max_norm", constraints.MinMaxNorm),
        (constraints.NonNeg, constraints.NonNeg),
        ({"class_name": "MaxNorm", "config": {"max_value": 3, "axis": [0]}}, constraints.MaxNorm),
    ],
)
def test_get_constraint(identifier, expected):
    constraint = constraints.get(identifier)
    assert type(constraint) is expected
    assert constraint(W).shape == W.shape


def test_user_constraint():
    assert constraints.get(None) is None
    assert constraints.get(np.abs) is np.abs
    np.testing.assert_array_equal(constraints.Constraint()(W), W)
    assert np.allclose(constraints.MaxNorm(math.inf)(W), W, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: constraints.MaxNorm(-1), "max_value: .*received -1"),
        (lambda: constraints.MinMaxNorm(2, 1), "min_value, max_value: .*received 2 and 1"),
        (lambda: constraints.MinMaxNorm(rate=2), r"rate: .*\[0, 1\], received 2"),
        (lambda: constraints.MaxNorm(math.nan), "max_value: expected a .* >= 0, received nan"),
        (lambda: constraints.MaxNorm("x"), "max_value: expected a finite number.*'x'"),
        (lambda: constraints.MinMaxNorm([]), r"min_value: expected a finite number.*\[\]"),
        (lambda: constraints.UnitNorm(axis="x"), "axis: expected a whole number or several"),
        (lambda: constraints.get("norm"), "constraint: expected one of .*'norm'"),
    ],
)
def test_constraint_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
