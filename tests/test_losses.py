import math
import re

import numpy as np
import oracle
import pytest
from gradcheck import gradcheck
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastrnn
from fastrnn import _engine, loss_functions, losses

CASES = [
    ("mean_squared_error", {}),
    ("mean_absolute_error", {}),
    ("mean_absolute_percentage_error", {}),
    ("mean_squared_logarithmic_error", {}),
    ("huber", {}),
    ("huber", {"delta": 0.3}),
    ("log_cosh", {}),
    ("hinge", {}),
    ("squared_hinge", {}),
    ("categorical_hinge", {}),
    ("kl_divergence", {}),
    ("poisson", {}),
    ("cosine_similarity", {}),
    ("binary_crossentropy", {}),
    ("binary_crossentropy", {"label_smoothing": 0.2}),
    ("binary_crossentropy", {"from_logits": True, "label_smoothing": 0.1}),
    ("categorical_crossentropy", {}),
    ("categorical_crossentropy", {"label_smoothing": 0.2}),
    ("categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.1}),
    ("sparse_categorical_crossentropy", {}),
    ("sparse_categorical_crossentropy", {"from_logits": True}),
    ("sparse_categorical_crossentropy", {"ignore_class": 1}),
    ("sparse_categorical_crossentropy", {"ignore_class": -1, "from_logits": True}),
]
WITHOUT_ORACLE = [
    ("binary_focal_crossentropy", {}),
    ("binary_focal_crossentropy", {"gamma": 0.0, "apply_class_balancing": True, "alpha": 0.3}),
    ("binary_focal_crossentropy", {"gamma": 1.5, "from_logits": True, "label_smoothing": 0.1}),
    ("categorical_focal_crossentropy", {}),
    ("categorical_focal_crossentropy", {"gamma": 0.0, "alpha": [0.1, 0.2, 0.3, 0.4]}),
    ("categorical_focal_crossentropy", {"gamma": 1.5, "from_logits": True, "label_smoothing": 0.1}),
]
REDUCTIONS = ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight"]
CLASS_OF = {fn.__name__: cls for fn, cls in losses._CLASS_OF.items()}


def data(rng, name, shape, options):
    """y_true and y_pred that suit the loss, in float64."""
    if options.get("from_logits") or "error" in name or name in ("huber", "log_cosh", "hinge"):
        y_pred = rng.normal(size=shape)
    else:
        y_pred = rng.uniform(0.05, 0.95, size=shape)
    if name.startswith("sparse"):
        labels = rng.integers(0, shape[-1], shape[:-1])
        if options.get("ignore_class") == -1:
            labels.flat[::3] = -1
        return labels, y_pred
    if name.startswith("categorical"):
        return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])], y_pred
    if "hinge" in name:
        return rng.integers(0, 2, shape).astype(float), y_pred
    if name.startswith("binary") or name == "kl_divergence":
        return rng.uniform(0, 1, size=shape), y_pred
    return rng.normal(size=shape), y_pred


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4)])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_functions_follow_the_formula(rng, name, options, shape):
    y_true, y_pred = data(rng, name, shape, options)
    function = getattr(loss_functions, name)
    values, derivative = oracle.LOSSES[name](y_true, y_pred, **options)
    np.testing.assert_allclose(function(y_true, y_pred, **options), values, rtol=1e-9, atol=1e-12)
    gradient = function.gradient(y_true, y_pred, **options)
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, derivative, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES + WITHOUT_ORACLE)
def test_gradients_are_those_of_the_values(rng, name, options):
    y_true, y_pred = data(rng, name, (5, 4), options)
    function = getattr(loss_functions, name)
    gradient = function.gradient(y_true, y_pred, **options)

    def total():
        return function(y_true, y_pred, **options).sum()

    assert gradcheck(total, {"y_pred": y_pred}, {"y_pred": gradient}) == []
    assert gradcheck(total, {"y_pred": y_pred}, {"y_pred": 1.01 * gradient}) == ["y_pred"]


@pytest.mark.parametrize("name", ["binary_crossentropy", "categorical_crossentropy"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_gradients_along_another_axis(rng, name, from_logits):
    options = {"axis": 1, "from_logits": from_logits}
    y_true, y_pred = data(rng, name, (3, 4, 5), options)
    function = getattr(loss_functions, name)
    moved = np.moveaxis(y_true, 1, -1), np.moveaxis(y_pred, 1, -1)
    values = function(*moved, from_logits=from_logits)
    np.testing.assert_allclose(function(y_true, y_pred, **options), values, rtol=1e-12)
    gradient = np.moveaxis(function.gradient(*moved, from_logits=from_logits), -1, 1)
    np.testing.assert_allclose(function.gradient(y_true, y_pred, **options), gradient, rtol=1e-12)
    loss = CLASS_OF[name](**options)
    assert loss.fused_activation is None
    weights = rng.uniform(size=(3, 5))
    value, dy = loss.value_and_gradient(y_true, y_pred, weights)
    assert value == pytest.approx((values * weights).mean(), rel=1e-5)
    np.testing.assert_allclose(dy, gradient * weights[:, None] / 15, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_focal_crossentropy_of_large_logits(smoothing):
    """Exact where probabilities would have to be cut, also behind a sigmoid."""
    z = np.array([[-300.0, -90, -30, -17, 17, 30, 90, 300]], np.float32).T
    for target in (0.0, 1.0):
        t = target * (1 - smoothing) + smoothing / 2
        with np.errstate(over="ignore"):
            p = 1 / (1 + np.exp(-z.astype(np.float64)))
        bce = np.logaddexp(0, z.astype(np.float64)) - z * t
        miss = t * (1 - p) + (1 - t) * p
        values = miss**2 * bce
        slope = miss**2 * (p - t) - 2 * miss * (2 * t - 1) * p * (1 - p) * bce
        y = np.full(z.shape, target)
        loss = losses.BinaryFocalCrossentropy(label_smoothing=smoothing, from_logits=True)
        value, gradient = loss.value_and_gradient(y, z)
        np.testing.assert_allclose(value, values.mean(), rtol=1e-5)
        np.testing.assert_allclose(gradient, slope / len(z), rtol=1e-5, atol=1e-8)
        behind = losses.BinaryFocalCrossentropy(label_smoothing=smoothing)
        assert (behind.fused_activation, loss.fused_activation) == ("sigmoid", None)
        fused, probability, dz = behind.fused(y, z)
        assert fused == value == behind.fused(y, z, gradient=False)[0]
        np.testing.assert_array_equal(dz, gradient)
        np.testing.assert_allclose(probability, p, rtol=1e-6, atol=1e-12)


def test_focal_losses_without_focus_are_crossentropies(rng):
    y_true, y_pred = data(rng, "binary_crossentropy", (6, 3), {})
    focal = loss_functions.binary_focal_crossentropy(y_true, y_pred, gamma=0.0)
    np.testing.assert_allclose(focal, loss_functions.binary_crossentropy(y_true, y_pred))
    y_true, y_pred = data(rng, "categorical_crossentropy", (6, 3), {})
    focal = loss_functions.categorical_focal_crossentropy(y_true, y_pred, alpha=1.0, gamma=0.0)
    np.testing.assert_allclose(focal, loss_functions.categorical_crossentropy(y_true, y_pred))
    chosen = 0.25 * (1 - 0.7) ** 2 * -math.log(0.7)
    focal = loss_functions.categorical_focal_crossentropy([[0, 1.0]], np.array([[0.3, 0.7]]))
    np.testing.assert_allclose(focal, [chosen])


# Classes: reductions, weights, masks


def weights_and_masks(rng, shape):
    yield None, None
    yield rng.uniform(0.5, 2, size=shape[:1]), None
    yield rng.uniform(0.5, 2, size=shape), None
    yield rng.uniform(0.5, 2, size=(*shape, 1)), None
    mask = rng.uniform(size=shape) < 0.6
    mask.flat[0] = True
    yield None, mask
    yield rng.uniform(0.5, 2, size=shape), mask
    yield None, np.zeros(shape, bool)


def full(weights, shape):
    """The weights with exactly this shape."""
    if weights is None:
        return None
    if weights.ndim > len(shape):
        return weights[..., 0]
    return weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)) * np.ones(shape)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_classes_follow_the_formula(rng, name, options, reduction):
    for shape in ((7, 4), (3, 5, 4)):
        y_true, y_pred = data(rng, name, shape, options)
        y_pred = y_pred.astype(np.float32).astype(np.float64)
        loss = CLASS_OF[name](reduction=reduction, **options)
        for weights, mask in weights_and_masks(rng, shape[:-1]):
            if reduction == "mean_with_sample_weight" and np.ndim(weights) == 1:
                continue
            expected, derivative = oracle.loss_forward(
                name,
                y_true,
                y_pred,
                reduction=reduction,
                sample_weight=full(weights, shape[:-1]),
                mask=mask,
                **options,
            )
            value, gradient = loss.value_and_gradient(y_true, y_pred, weights, mask)
            limit = 1e-5 * max(1.0, abs(expected))
            assert type(value) is float and abs(value - expected) <= limit
            assert abs(loss(y_true, y_pred, weights, mask) - expected) <= limit
            assert gradient.dtype == np.float32 and gradient.flags.c_contiguous
            np.testing.assert_allclose(
                gradient, derivative, rtol=2e-4, atol=2e-6 * max(1.0, abs(derivative).max())
            )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "name", ["binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"]
)
def test_fused_starts_from_the_logits(rng, name, reduction):
    options = {"label_smoothing": 0.1} if name[0] in "bc" else {"ignore_class": 1}
    loss = CLASS_OF[name](reduction=reduction, **options)
    activation = {"sigmoid": oracle.sigmoid, "softmax": oracle.softmax}[loss.fused_activation]
    for shape in ((7, 1), (7, 4), (3, 5, 4)):
        if shape[-1] == 1 and loss.fused_activation == "softmax":
            continue
        y_true, z = data(rng, name, shape, {"from_logits": True})
        z = z.astype(np.float32)
        for weights, mask in weights_and_masks(rng, shape[:-1]):
            if reduction == "mean_with_sample_weight" and np.ndim(weights) == 1:
                continue
            expected, derivative = oracle.loss_forward(
                name,
                y_true,
                z.astype(np.float64),
                reduction=reduction,
                sample_weight=full(weights, shape[:-1]),
                mask=mask,
                from_logits=True,
                **options,
            )
            value, y_pred, gradient = loss.fused(y_true, z, weights, mask)
            assert abs(value - expected) <= 1e-5 * max(1.0, abs(expected))
            np.testing.assert_allclose(y_pred, activation(z.astype(np.float64)), rtol=2e-6)
            np.testing.assert_allclose(gradient, derivative, rtol=1e-4, atol=2e-6)
            again, same, none = loss.fused(y_true, z, weights, mask, gradient=False)
            assert again == value and none is None
            np.testing.assert_array_equal(same, y_pred)
            place, kept = z.copy(), np.empty_like(z)
            again, same, changed = loss.fused(y_true, place, weights, mask, y=kept)
            assert again == value and np.shares_memory(same, kept)
            assert np.shares_memory(changed, place)
            np.testing.assert_array_equal(same, y_pred)
            np.testing.assert_array_equal(changed, gradient)


@pytest.mark.parametrize(
    ("name", "options", "activation"),
    [
        (*case, activation)
        for case in CASES + WITHOUT_ORACLE
        for activation in ("linear", "sigmoid", "softmax")
        if activation == "linear" or not case[1].get("from_logits")
    ],
)
def test_every_loss_in_a_model(rng, name, options, activation):
    """Whichever activation it takes over: the value of what the model puts out, and a step."""
    y_true, x = data(rng, name, (6, 4), options)
    dense = fastrnn.layers.Dense(4, activation, kernel_initializer="identity")
    model = fastrnn.Sequential([fastrnn.Input((4,)), dense])
    loss = CLASS_OF[name](**options)
    model.compile("sgd", loss)
    value = loss(y_true, model.predict(x, verbose=0))
    assert model.test_on_batch(x, y_true) == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert model.train_on_batch(x, y_true) == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert not np.array_equal(dense.get_weights()[0], np.eye(4))


@pytest.mark.parametrize("reduction", ["none", None])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_values_that_are_not_reduced(rng, name, options, reduction):
    y_true, y_pred = data(rng, name, (6, 4), options)
    loss = CLASS_OF[name](reduction=reduction, **options)
    weights = rng.uniform(size=6)
    values, derivative = oracle.LOSSES[name](y_true, y_pred, **options)
    np.testing.assert_allclose(loss(y_true, y_pred), values, rtol=1e-4, atol=1e-5)
    value, gradient = loss.value_and_gradient(y_true, y_pred, weights)
    np.testing.assert_allclose(value, values * weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient, derivative * weights[:, None], rtol=2e-4, atol=1e-4)


def test_fused_values_that_are_not_reduced(rng):
    z = rng.normal(size=(6, 4)).astype(np.float32)
    labels, weights = rng.integers(0, 4, 6), rng.uniform(size=6)
    values, y_pred, gradient = losses.SparseCategoricalCrossentropy(reduction=None).fused(
        labels, z, weights
    )
    expected, derivative = oracle.sparse_categorical_crossentropy(labels, z.astype(float), True)
    np.testing.assert_allclose(values, expected * weights, rtol=1e-5)
    np.testing.assert_allclose(y_pred, oracle.softmax(z.astype(float)), rtol=1e-6)
    np.testing.assert_allclose(gradient, derivative * weights[:, None], rtol=1e-5, atol=1e-7)


# Kernels


def kernel_case(kind, rows, columns, seed=0, weighted=True):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 4, size=(rows, columns)).astype(np.float32)
    weights = rng.uniform(0.5, 2, size=rows).astype(np.float32) if weighted else None
    if kind == "sparse":
        return z, rng.integers(0, columns, rows), weights
    if kind == "softmax":
        targets = rng.dirichlet(np.ones(columns), size=rows)
    elif kind == "sigmoid":
        targets = rng.uniform(size=(rows, columns))
    else:
        targets = rng.normal(size=(rows, columns))
    return z, targets.astype(np.float32), weights


KINDS = {
    "sigmoid": (_engine.SIGMOID_CROSSENTROPY, "binary_crossentropy", oracle.sigmoid),
    "softmax": (_engine.SOFTMAX_CROSSENTROPY, "categorical_crossentropy", oracle.softmax),
    "sparse": (_engine.SOFTMAX_CROSSENTROPY, "sparse_categorical_crossentropy", oracle.softmax),
    "squared": (_engine.SQUARED_ERROR, "mean_squared_error", lambda z: z),
    "absolute": (_engine.ABSOLUTE_ERROR, "mean_absolute_error", lambda z: z),
}


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 130])
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_follow_the_formula(isa, kind, columns):
    code, name, activation = KINDS[kind]
    per_row = code == _engine.SOFTMAX_CROSSENTROPY
    for rows in (1, 2, 5, 37):
        for weighted in (False, True):
            z, targets, weights = kernel_case(kind, rows, columns, rows, weighted)
            options = {"from_logits": True} if kind in ("sigmoid", "softmax", "sparse") else {}
            z64, t64 = z.astype(np.float64), targets.astype(np.float64)
            y_true = targets if kind == "sparse" else t64
            values, slope = oracle.LOSSES[name](y_true, z64, **options)
            w = np.ones(rows) if weights is None else weights.astype(np.float64)
            if not per_row:  # the kernel sums over the elements
                values, slope = values * columns, slope * columns
            value, y, dz = _engine.fused_loss(code, z, targets, weights, 0.25)
            assert value == pytest.approx((values * w).sum(), rel=2e-6, abs=1e-6)
            np.testing.assert_allclose(y, activation(z64), rtol=3e-6, atol=1e-30)
            np.testing.assert_allclose(dz, 0.25 * w[:, None] * slope, rtol=5e-6, atol=1e-6)


@pytest.mark.parametrize("rows,columns", [(200_003, 1), (70_001, 7), (300, 1000), (3, 40_000)])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_threads(isa, kind, rows, columns):
    z, targets, weights = kernel_case(kind, rows, columns)
    before, results = _engine.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            _engine.set_num_threads(threads)
            results.append(_engine.fused_loss(KINDS[kind][0], z, targets, weights, 0.5))
    finally:
        _engine.set_num_threads(before)
    for value, y, dz in results[1:]:
        assert value == results[0][0]
        np.testing.assert_array_equal(y, results[0][1])
        np.testing.assert_array_equal(dz, results[0][2])


def ulps(actual, expected):
    """Error in units of the last place of the float32 nearest to the expected value."""
    return np.abs(actual - expected) / np.spacing(np.abs(expected).astype(np.float32))


def test_sigmoid_and_softmax_are_exact_to_a_few_ulps(isa):
    x = np.linspace(-60, 60, 40_001).astype(np.float32)
    limit = 5 if isa != "base" else 60  # without FMA the argument of exp loses bits
    _, y, _ = _engine.fused_loss(_engine.SIGMOID_CROSSENTROPY, x, np.zeros_like(x))
    e = np.exp(-np.abs(x.astype(np.float64)))
    expected = np.where(x >= 0, 1, e) / (1 + e)
    assert ulps(y, expected).max() <= limit
    z = np.stack([x, np.zeros_like(x)], axis=1)
    _, y, _ = _engine.fused_loss(_engine.SOFTMAX_CROSSENTROPY, z, np.zeros(len(x), np.int64))
    assert ulps(y[:, 0], expected).max() <= limit


def test_softmax_in_place(isa, threads, rng):
    for columns in (1, 3, 10, 16, 17, 100):
        z = (5 * rng.standard_normal((7, columns))).astype(np.float32)
        z[1, 0] = -np.inf if columns > 1 else 0
        y = z.copy()
        _engine.softmax(y)
        np.testing.assert_allclose(y, oracle.softmax(z.astype(float)), rtol=3e-6, atol=1e-7)
    y[0, 0] = np.nan
    _engine.softmax(y)
    assert np.isnan(y[0]).all() and np.isfinite(y[1:]).all()
    for bad in (np.zeros((2, 3)), np.float32(1), np.zeros((2, 0), np.float32)):
        with pytest.raises(ValueError, match="y: expected"):
            _engine.softmax(bad)


def test_loss_of_the_certain_is_exact(isa):
    """The loss falls to exp(-z), not to the rounding of 1 + exp(-z)."""
    z = np.float32([[5], [15], [25], [60]])
    limit = 1e-6 if isa != "base" else 1e-5
    for i, x in enumerate(z[:, 0]):
        value, _, _ = _engine.fused_loss(0, z[i : i + 1], np.ones((1, 1), np.float32))
        assert value == pytest.approx(math.log1p(math.exp(-x)), rel=limit)
        pair = np.array([[x, 0]], np.float32)
        value, _, _ = _engine.fused_loss(1, pair, np.zeros(1, np.int64))
        assert value == pytest.approx(math.log1p(math.exp(-x)), rel=limit, abs=3e-16)


def test_extreme_logits(isa):
    z = np.float32([[-100], [100], [-88], [88], [0], [-0.0], [1e30], [-1e30]])
    for target in (0.0, 1.0):
        targets = np.full_like(z, target)
        value, y, dz = losses.BinaryCrossentropy(reduction="sum").fused(targets, z)
        expected = [0, 1, 0, 1, 0.5, 0.5, 1, 0]
        np.testing.assert_allclose(y[:, 0], expected, atol=1e-37)
        np.testing.assert_allclose(dz[:, 0], np.array(expected) - target, atol=1e-37)
        assert value == pytest.approx(1e30, rel=1e-6)
    z = np.float32([[100, -100, 0], [-100, 100, 99], [1e30, 0, -1e30]])
    value, y, dz = losses.SparseCategoricalCrossentropy(reduction="sum").fused([1, 0, 0], z)
    e = 1 / (1 + math.e)
    expected = np.array([[1, 0, 0], [0, 1 - e, e], [1, 0, 0]])
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(dz, expected - np.eye(3)[[1, 0, 0]], rtol=1e-6, atol=1e-30)
    assert value == pytest.approx(200 + 200 + math.log1p(1 / math.e), rel=1e-6)


def test_classes_ruled_out_by_minus_infinity(isa):
    z = np.float32([[1, -np.inf, 2, -np.inf, 0]])
    kept = np.exp([1.0, 2.0, 0.0]) / np.exp([1.0, 2.0, 0.0]).sum()
    expected = np.array([[kept[0], 0, kept[1], 0, kept[2]]])
    one_hot = np.float32([[0, 0, 1, 0, 0]])
    for targets, loss in (
        (np.array([2]), losses.SparseCategoricalCrossentropy()),
        (one_hot, losses.CategoricalCrossentropy()),
    ):
        value, y, dz = loss.fused(targets, z)
        assert value == pytest.approx(-math.log(kept[1]), rel=1e-6)
        np.testing.assert_allclose(y, expected, rtol=1e-6)
        np.testing.assert_allclose(dz, expected - one_hot, rtol=1e-6)


def test_infinity_saturates_a_sigmoid(isa):
    z = np.float32([[np.inf], [-np.inf]])
    _, y, dz = losses.BinaryCrossentropy(reduction="sum").fused(np.float32([[0], [0]]), z)
    np.testing.assert_array_equal(y, [[1], [0]])
    np.testing.assert_array_equal(dz, [[1], [0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 3, 16, 21])
def test_nan_stays_in_its_row(isa, kind, columns):
    code = KINDS[kind][0]
    z, targets, weights = kernel_case(kind, 5, columns)
    for place in {0, columns - 1}:
        bad = z.copy()
        bad[2, place] = math.nan
        value, y, dz = _engine.fused_loss(code, bad, targets, weights)
        assert math.isnan(value)
        whole_row = code == _engine.SOFTMAX_CROSSENTROPY
        expected = np.zeros(z.shape, bool)
        expected[2, slice(None) if whole_row else place] = True
        np.testing.assert_array_equal(np.isnan(y), expected)
        np.testing.assert_array_equal(np.isnan(dz), expected)


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(2, 40)),
        elements=st.floats(-50, 50, width=32),
    ),
    st.integers(0, 2**31),
)
def test_properties_of_softmax_crossentropy(z, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, z.shape[1], len(z))
    loss = losses.SparseCategoricalCrossentropy(reduction="sum")
    value, y, dz = loss.fused(labels, z)
    assert value >= 0 and (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=2e-5)
    np.testing.assert_allclose(dz.sum(axis=1), 0, atol=2e-5)
    dense, same, gradient = losses.CategoricalCrossentropy(reduction="sum").fused(
        np.eye(z.shape[1], dtype=np.float32)[labels], z
    )
    assert dense == pytest.approx(value, rel=1e-5, abs=1e-5)
    np.testing.assert_array_equal(same, y)
    np.testing.assert_allclose(gradient, dz, rtol=1e-5, atol=1e-6)


def test_targets_that_do_not_sum_to_one(isa):
    """A row without any target adds nothing to the loss, nor to its gradient."""
    z = np.float32([[1, 2, 3], [4, 5, 7]])
    targets = np.float32([[0, 0, 0], [0, 2, 0]])
    value, _, dz = losses.CategoricalCrossentropy(reduction="sum").fused(targets, z)
    expected, derivative = oracle.categorical_crossentropy(targets, z.astype(float), True)
    assert value == pytest.approx(expected.sum(), rel=1e-6)
    np.testing.assert_allclose(dz, derivative, rtol=1e-5, atol=1e-6)
    assert not dz[0].any()


def test_the_engine_checks_its_arrays():
    z, labels = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)

    def run(kind=1, z=z, targets=labels, weights=None):
        return _engine.fused_loss(kind, z, targets, weights)

    for bad in (z.astype(np.float64), z[:, ::2], z.T, [1.0]):
        with pytest.raises(ValueError, match="y_pred: expected contiguous float32, received"):
            run(z=bad)
    with pytest.raises(ValueError, match="y_pred: expected at least one axis"):
        run(z=np.zeros((), np.float32))
    with pytest.raises(ValueError, match="y_true: expected contiguous int64 with 4 elements"):
        run(targets=labels[:3])
    with pytest.raises(ValueError, match="y_true: expected contiguous float32 with 12 elements"):
        run(targets=np.zeros((4, 2), np.float32))
    with pytest.raises(ValueError, match="y_true: expected contiguous float32"):
        run(kind=0)
    with pytest.raises(ValueError, match="sample_weight: expected contiguous float32 with 4"):
        run(weights=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="refused"):
        run(kind=17, targets=z)
    value, y, dz = run(z=np.zeros((0, 3), np.float32), targets=np.zeros(0, np.int64))
    assert value == 0 and y.shape == dz.shape == (0, 3)


# Shapes and types of the targets


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float32, np.float64, bool])
def test_targets_of_any_type(rng, dtype):
    z = rng.normal(size=(6, 2)).astype(np.float32)
    labels = np.array([0, 1, 1, 0, 1, 0])
    sparse = losses.SparseCategoricalCrossentropy()
    expected = sparse.fused(labels, z)
    for targets in (labels.astype(dtype), labels.astype(dtype)[:, None], list(labels)):
        for a, b in zip(sparse.fused(targets, z), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    binary = losses.BinaryCrossentropy()
    expected = binary.fused(labels.astype(np.float32)[:, None], z[:, :1])
    for targets in (labels.astype(dtype), labels.astype(dtype)[:, None], list(labels)):
        for a, b in zip(binary.fused(targets, z[:, :1]), expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["mean_squared_error", "huber", "binary_crossentropy"])
@pytest.mark.parametrize(
    ("true_shape", "pred_shape"),
    [((6,), (6, 1)), ((6, 1), (6,)), ((4, 5), (4, 5, 1)), ((4, 5, 1), (4, 5))],
)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_one_axis_too_many(rng, name, true_shape, pred_shape, reduction):
    y_true, y_pred = rng.uniform(size=true_shape), rng.uniform(0.1, 0.9, size=pred_shape)
    expected, derivative = oracle.loss_forward(
        name, y_true.reshape(pred_shape) if len(true_shape) == 1 else y_true,
        y_pred if len(pred_shape) > 1 else y_pred[:, None], reduction=reduction,
    )  # fmt: skip
    value, gradient = CLASS_OF[name](reduction=reduction).value_and_gradient(y_true, y_pred)
    assert value == pytest.approx(expected, rel=1e-5) and gradient.shape == pred_shape
    np.testing.assert_allclose(gradient.ravel(), derivative.ravel(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["binary_crossentropy", "mean_squared_error", "log_cosh"])
def test_a_mask_of_steps_where_the_outputs_have_one_axis_more(rng, name):
    y_true, z = rng.integers(0, 2, (4, 5)), rng.uniform(0.1, 0.9, size=(4, 5, 1))
    mask = rng.uniform(size=(4, 5)) < 0.7
    loss = CLASS_OF[name]()
    value, gradient = loss.value_and_gradient(y_true, z, mask=mask)
    expected = CLASS_OF[name]()(y_true[mask], z[mask])
    assert value == pytest.approx(expected, rel=1e-5)
    assert gradient.shape == z.shape and not gradient[~mask].any() and gradient[mask].all()
    assert loss(y_true, z, None, mask) == pytest.approx(expected, rel=1e-5)
    if loss.fused_activation:
        value, y_pred, gradient = loss.fused(y_true, z, None, mask)
        assert y_pred.shape == gradient.shape == z.shape and not gradient[~mask].any()


def test_weights_of_samples_spread_over_their_steps(rng):
    y_true, y_pred = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 2))
    weights = rng.uniform(size=3)
    value = losses.MeanSquaredError()(y_true, y_pred, weights)
    expected = (np.square(y_true - y_pred).mean(axis=-1) * weights[:, None]).mean()
    assert value == pytest.approx(expected, rel=1e-5)
    assert losses.MeanSquaredError()(y_true, y_pred, 2.0) == pytest.approx(
        2 * losses.MeanSquaredError()(y_true, y_pred), rel=1e-6
    )


@pytest.mark.parametrize("name", [n for n in CLASS_OF if not n.startswith("sparse")])
def test_shapes_that_do_not_match(name):
    message = re.escape("y_true and y_pred: expected the same shape, received (4, 3) and (4, 5)")
    loss = CLASS_OF[name]()
    y_true, y_pred = np.ones((4, 3)), np.ones((4, 5))
    with pytest.raises(ValueError, match=message):
        loss(y_true, y_pred)
    with pytest.raises(ValueError, match=message):
        loss.value_and_gradient(y_true, y_pred)
    if loss.fused_activation:
        with pytest.raises(ValueError, match=message):
            loss.fused(y_true, y_pred)


def test_labels_that_are_no_classes():
    loss, y_pred = losses.SparseCategoricalCrossentropy(), np.full((4, 3), 1 / 3)
    for label in (3, -1, 1000):
        message = rf"y_true: expected labels in \[0, 3\), the classes of y_pred, received {label}"
        for call in (loss, loss.value_and_gradient, loss.fused):
            with pytest.raises(ValueError, match=message):
                call([0, 2, label, 1], y_pred)
    with pytest.raises(ValueError, match=r"y_true: expected labels of shape \(4,\) or \(4, 1\)"):
        loss.fused([0, 1], y_pred)
    with pytest.raises(ValueError, match="axis: expected the last one"):
        loss_functions.sparse_categorical_crossentropy([0], y_pred[:1], axis=0)


def test_weights_and_masks_that_do_not_fit():
    y = np.ones((4, 3, 2))
    for call in (losses.MeanSquaredError(), losses.Huber(), losses.BinaryCrossentropy().fused):
        with pytest.raises(ValueError, match=r"sample_weight: .* fits \(4, 3\), received \(5,\)"):
            call(y, y, np.ones(5))
        with pytest.raises(ValueError, match=r"mask: .* that fits \(4, 3\), received \(4, 2\)"):
            call(y, y, None, np.ones((4, 2), bool))


def test_a_single_class_warns():
    y = np.ones((4, 1), np.float32)
    for call in (losses.CategoricalCrossentropy(), losses.CategoricalCrossentropy().fused):
        with pytest.warns(SyntaxWarning, match="expected more than one class"):
            call(y, y)


def test_logits_after_an_activation_warn():
    y = np.ones((4, 1), np.float32)
    loss = losses.BinaryCrossentropy(from_logits=True)
    assert loss.fused_activation == "sigmoid"
    with pytest.warns(UserWarning, match="from_logits: expected False .* after a sigmoid"):
        loss.fused(y, y)


# A user's own losses


def pinball(y_true, y_pred, share=0.5):
    error = y_true - y_pred
    return np.mean(np.maximum(share * error, (share - 1) * error), axis=-1)


def pinball_gradient(y_true, y_pred, share=0.5):
    return np.where(y_true > y_pred, -share, 1 - share) / y_pred.shape[-1]


def test_a_function_without_gradient(rng):
    y_true, y_pred = rng.normal(size=(2, 6, 3)).astype(np.float32)
    loss = losses.resolve(pinball, y_true.shape, y_pred.shape)
    assert loss.name == "pinball" and loss.fused_activation is None
    assert loss(y_true, y_pred) == pytest.approx(np.abs(y_true - y_pred).mean() / 2, rel=1e-6)
    _, gradient = loss.value_and_gradient(y_true, y_pred)
    np.testing.assert_allclose(gradient, pinball_gradient(y_true, y_pred) / 6, rtol=1e-5)
    with pytest.raises(ValueError, match="loss: expected one with a fused_activation"):
        loss.fused(y_true, y_pred)


def test_a_function_with_gradient_is_trained_with(rng):
    def own(y_true, y_pred, share=0.5):
        return pinball(y_true, y_pred, share)

    own.gradient = pinball_gradient
    loss = losses.LossFunctionWrapper(own, share=0.2)
    y_true, y_pred = rng.normal(size=(2, 6, 3))
    weights = rng.uniform(size=6)
    value, gradient = loss.value_and_gradient(y_true, y_pred, weights)
    assert value == pytest.approx((pinball(y_true, y_pred, 0.2) * weights).mean(), rel=1e-5)
    expected = pinball_gradient(y_true, y_pred, 0.2) * weights[:, None] / 6
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    own.gradient = lambda y_true, y_pred, share: np.ones(3)
    with pytest.raises(ValueError, match=r"gradient: expected shape \(6, 3\).*received \(3,\)"):
        loss.value_and_gradient(y_true, y_pred)


def test_functions_of_elements_and_of_the_whole_batch(rng):
    y_true, y_pred = rng.normal(size=(2, 6, 3))
    weights = rng.uniform(size=(6, 1))

    def elements(y_true, y_pred):
        return (y_pred - y_true) ** 2

    def batch(y_true, y_pred):
        return np.mean((y_pred - y_true) ** 2)

    elements.gradient = lambda y_true, y_pred: 2 * (y_pred - y_true)
    batch.gradient = lambda y_true, y_pred: 2 * (y_pred - y_true) / y_pred.size
    expected = losses.MeanSquaredError().value_and_gradient(y_true, y_pred)
    weighted = losses.MeanSquaredError().value_and_gradient(y_true, y_pred, weights)
    for fn in (elements, batch):
        loss = losses.LossFunctionWrapper(fn)
        value, gradient = loss.value_and_gradient(y_true, y_pred)
        assert value == pytest.approx(expected[0], rel=1e-5)
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-7)
    value, gradient = losses.LossFunctionWrapper(elements).value_and_gradient(
        y_true, y_pred, weights
    )
    assert value == pytest.approx(weighted[0], rel=1e-5)
    np.testing.assert_allclose(gradient, weighted[1], rtol=1e-4, atol=1e-7)
    value, gradient = losses.LossFunctionWrapper(batch).value_and_gradient(y_true, y_pred, weights)
    assert value == pytest.approx(expected[0] * weights.mean(), rel=1e-5)
    np.testing.assert_allclose(gradient, expected[1] * weights.mean(), rtol=1e-4, atol=1e-7)


def test_a_subclass(rng):
    class Mine(losses.Loss):
        def call(self, y_true, y_pred):
            return np.mean((y_true - y_pred) ** 2, axis=-1)

    y_true, y_pred = rng.normal(size=(2, 6, 3))
    assert Mine().name == "mine"
    assert Mine()(y_true, y_pred) == pytest.approx(losses.MeanSquaredError()(y_true, y_pred))
    _, expected = losses.MeanSquaredError().value_and_gradient(y_true, y_pred)
    np.testing.assert_allclose(Mine().value_and_gradient(y_true, y_pred)[1], expected, rtol=1e-4)
    Mine.gradient = lambda self, y_true, y_pred: 2 * (y_pred - y_true) / y_pred.shape[-1]
    np.testing.assert_allclose(Mine().value_and_gradient(y_true, y_pred)[1], expected, rtol=1e-4)
    Mine.call = lambda self, y_true, y_pred: np.nanmedian(y_pred)
    del Mine.gradient
    with pytest.raises(ValueError, match=r"of nanmedian; define a method gradient\(self, y_true"):
        Mine().value_and_gradient(y_true, y_pred)
    made = losses.deserialize(losses.serialize(Mine(reduction="sum")), {"Mine": Mine})
    assert type(made) is Mine and made.reduction == "sum"
    with pytest.raises(NotImplementedError, match="Loss must define call"):
        losses.Loss()(y_true, y_pred)


# Names and configs


@pytest.mark.parametrize("cls", losses._CLASSES, ids=lambda cls: cls.__name__)
def test_names_and_configs(cls):
    function = cls._function
    assert losses.get(function.__name__) is function
    assert losses.get(function) is function
    assert type(losses.get(cls.__name__)) is cls and type(losses.get(cls)) is cls
    resolved = losses.resolve(function.__name__, (3, 2), (3, 2))
    assert type(resolved) is cls and resolved.name == function.__name__
    loss = cls(reduction="sum", name="mine")
    assert losses.get(loss) is loss and losses.resolve(loss, (3, 2), (3, 2)) is loss
    config = losses.serialize(loss)
    assert config["module"] == "keras.losses" and config["class_name"] == cls.__name__
    again = losses.deserialize(config)
    assert type(again) is cls and again.get_config() == loss.get_config()
    saved = losses.serialize(function)
    assert saved == {
        "module": "builtins",
        "class_name": "function",
        "config": function.__name__,
        "registered_name": "function",
    }
    assert losses.deserialize(saved) is function


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("mse", "mean_squared_error"),
        ("MAE", "mean_absolute_error"),
        ("mape", "mean_absolute_percentage_error"),
        ("MSLE", "mean_squared_logarithmic_error"),
        ("bce", "binary_crossentropy"),
        ("KLD", "kl_divergence"),
        ("kullback_leibler_divergence", "kl_divergence"),
        ("logcosh", "log_cosh"),
        ("huber_loss", "huber"),
        ("cosine_proximity", "cosine_similarity"),
    ],
)
def test_aliases(alias, name):
    assert losses.get(alias) is getattr(loss_functions, name)
    assert losses.resolve(alias, (3, 2), (3, 2)).name == alias


@pytest.mark.parametrize(
    ("true_shape", "pred_shape", "cls"),
    [
        ((8,), (8, 1), losses.BinaryCrossentropy),
        ((8, 1), (8, 1), losses.BinaryCrossentropy),
        ((8,), (8, 5), losses.SparseCategoricalCrossentropy),
        ((8, 1), (8, 5), losses.SparseCategoricalCrossentropy),
        ((8, 7), (8, 7, 5), losses.SparseCategoricalCrossentropy),
        ((8, 5), (8, 5), losses.CategoricalCrossentropy),
        ((8, 7, 5), (8, 7, 5), losses.CategoricalCrossentropy),
    ],
)
def test_crossentropy_depends_on_shapes(true_shape, pred_shape, cls):
    for name in ("crossentropy", "ce"):
        assert type(losses.resolve(name, true_shape, pred_shape)) is cls


def test_wrapper_config():
    loss = losses.LossFunctionWrapper(losses.huber, delta=2.0)
    again = losses.deserialize(losses.serialize(loss))
    assert again.get_config() == loss.get_config() and again.fn is losses.huber
    assert losses.get(None) is None and losses.resolve(None, (1,), (1,)) is None
    assert losses.deserialize(losses.serialize(pinball), {"pinball": pinball}) is pinball


def test_bad_arguments():
    with pytest.raises(ValueError, match="reduction: expected one of.*received 'average'"):
        losses.MeanSquaredError(reduction="average")
    with pytest.raises(ValueError, match=r"label_smoothing: expected .* received 1.5"):
        losses.BinaryCrossentropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match="loss: expected one of .*received 'msee'"):
        losses.get("msee")
    with pytest.raises(ValueError, match="loss: expected a name.*received 3"):
        losses.get(3)
    with pytest.raises(ValueError, match="a lambda has no name"):
        losses.serialize(lambda y_true, y_pred: y_pred)


WITH_AXIS = ["CosineSimilarity", "BinaryCrossentropy", "CategoricalCrossentropy"]
WITH_AXIS += ["BinaryFocalCrossentropy", "CategoricalFocalCrossentropy"]


@pytest.mark.parametrize("name", WITH_AXIS)
def test_axes_are_checked(name):
    y = np.full((2, 3), 0.5, np.float32)
    for axis in (2, -3, (0, 2)):
        loss = getattr(losses, name)(axis=axis)
        for call in (loss, loss.value_and_gradient):
            with pytest.raises(ValueError, match=r"^axis: .* of shape \(2, 3\), received "):
                call(y, y)
    for axis in ("x", 1.5, {}, [None]):
        with pytest.raises(ValueError, match="^axis: expected a whole number or several, received"):
            getattr(losses, name)(axis=axis)


@pytest.mark.parametrize("axis", [None, 0, (0, 2), [1, 2]])
@pytest.mark.parametrize("name", WITH_AXIS)
def test_gradient_along_several_axes(name, axis, rng):
    y_true, y_pred = rng.uniform(0.1, 0.9, (2, 2, 3, 4)).astype(np.float32)
    loss = getattr(losses, name)(axis=axis)
    value, gradient = loss.value_and_gradient(y_true, y_pred)
    assert value == pytest.approx(loss(y_true, y_pred), rel=1e-6)
    step = 2e-3 * rng.standard_normal(y_pred.shape).astype(np.float32)
    change = loss(y_true, y_pred + step) - loss(y_true, y_pred - step)
    assert change == pytest.approx(2 * np.vdot(gradient, step), rel=1e-2, abs=2e-6)


@pytest.mark.parametrize("name", sorted(losses.__all__))
def test_single_numbers(name):
    found = getattr(losses, name)
    if name in ("CRFLoss", "Loss", "LossFunctionWrapper", "deserialize", "get", "serialize"):
        return
    loss = found() if isinstance(found, type) else found
    calls = [loss, loss.value_and_gradient] if isinstance(found, type) else [loss]
    if name in ("CosineSimilarity", "cosine_similarity"):
        assert loss(1.0, 0.5) == -1  # as in Keras
        return
    for call in calls:
        with pytest.raises(ValueError, match=r"^y_true and y_pred: expected at least one axis"):
            call(1.0, 0.5)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (losses.Huber, "delta"),
        (losses.BinaryCrossentropy, "label_smoothing"),
        (losses.CategoricalCrossentropy, "label_smoothing"),
        (losses.BinaryFocalCrossentropy, "label_smoothing"),
        (losses.BinaryFocalCrossentropy, "alpha"),
        (losses.BinaryFocalCrossentropy, "gamma"),
        (losses.CategoricalFocalCrossentropy, "alpha"),
        (losses.CategoricalFocalCrossentropy, "gamma"),
        (losses.SparseCategoricalCrossentropy, "ignore_class"),
    ],
)
def test_numbers_are_checked(make, argument):
    for value in ("x", math.nan, {}, ["x"]):
        with pytest.raises(ValueError, match=rf"^{argument}(\[0\])?: expected .*, received "):
            make(**{argument: value})


TARGETS = np.array([[0.1], [0.2], [0.3], [0.4]], np.float32)
OUTPUTS = np.arange(8.0).reshape(4, 2) / 9


@pytest.mark.parametrize(
    "loss, expected",
    [
        ("MeanSquaredError", 0.04105), ("MeanAbsoluteError", 0.16389), ("Huber", 0.02052),
        ("LogCosh", 0.02022), ("Poisson", 0.76819), ("MeanAbsolutePercentageError", 60.41667),
        ("MeanSquaredLogarithmicError", 0.01893), ("KLDivergence", 0.11867), ("Hinge", 0.875),
        ("SquaredHinge", 0.7775), ("CategoricalHinge", 1.05556),
    ],
)  # fmt: skip
def test_targets_of_one_column_stand_for_all(loss, expected):
    """Values of Keras 3.15, and the gradient of the targets repeated."""
    loss = getattr(losses, loss)()
    outputs = OUTPUTS.astype(np.float32)
    assert float(loss(TARGETS, outputs)) == pytest.approx(expected, abs=1e-5)
    value, gradient = loss.value_and_gradient(TARGETS, outputs.copy())
    same, repeated = loss.value_and_gradient(np.repeat(TARGETS, 2, axis=1), outputs.copy())
    assert value == same == pytest.approx(expected, abs=1e-5)
    np.testing.assert_array_equal(gradient, repeated)


def test_a_cosine_is_that_of_the_targets_as_they_are_given():
    """Keras makes their length 1 before it repeats them."""
    loss, outputs = losses.CosineSimilarity(), OUTPUTS.astype(np.float32)
    assert loss(TARGETS, outputs) == pytest.approx(-1.30059, abs=1e-5)
    value, gradient = loss.value_and_gradient(TARGETS, outputs.copy())
    assert value == pytest.approx(-1.30059, abs=1e-5)
    for place in np.ndindex(outputs.shape):
        more, less = OUTPUTS.copy(), OUTPUTS.copy()
        more[place] += 1e-6
        less[place] -= 1e-6
        both = [np.mean(losses.cosine_similarity(TARGETS, y)) for y in (more, less)]
        if place[0]:  # the first row is 0 at one place, and no direction at all times
            assert gradient[place] == pytest.approx((both[0] - both[1]) / 2e-6, abs=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_target_of_a_sample_stands_for_all_steps(weighted):
    """Outputs (4, 5, 1) and targets (4, 1); values of Keras 3.15."""
    model = fastrnn.Sequential([
        fastrnn.Input((5, 1)), fastrnn.layers.Dense(1, kernel_initializer="identity"),
    ])  # fmt: skip
    model.compile("sgd", "mse", metrics=["mae"])
    x = np.arange(20, dtype=np.float32).reshape(4, 5, 1) / 10
    y = np.arange(4, dtype=np.float32).reshape(4, 1) / 7
    weights = np.array([1, 0, 2, 0.5]) if weighted else None
    loss = model.evaluate(x, y, sample_weight=weights, verbose=0)[0]
    assert loss == pytest.approx(0.64753 if weighted else 0.72071, abs=1e-5)
    history = model.fit(x, y, sample_weight=weights, epochs=2, shuffle=False, verbose=0).history
    assert history["loss"][1] == pytest.approx(0.60200 if weighted else 0.66474, abs=1e-5)


def test_crossentropies_broadcast_nothing():
    for loss in (losses.BinaryCrossentropy(), losses.CategoricalCrossentropy()):
        with pytest.raises(ValueError, match="expected the same shape"):
            loss(TARGETS, OUTPUTS)
