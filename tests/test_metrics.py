import math
import re

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastrnn
from fastrnn import _engine, layers, losses, metrics

# Accuracy


def one_hot(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


@pytest.mark.parametrize("n", [1, 3, 8, 15, 16, 17, 100, 20_011])
def test_binary_matches(isa, threads, n):
    rng = np.random.default_rng(n)
    y_pred = rng.uniform(size=n).astype(np.float32)
    y_pred[:: max(n // 7, 1)] = 0.5
    y_true = rng.integers(0, 3, n).astype(np.float32)  # 2 is never right
    for threshold in (0.5, 0.2):
        expected = y_true == (y_pred > np.float32(threshold))
        matches = np.full(n, 7, np.float32)
        assert _engine.binary_matches(y_true, y_pred, threshold, matches) == expected.sum()
        np.testing.assert_array_equal(matches, expected)
        assert _engine.binary_matches(y_true, y_pred, threshold) == expected.sum()


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 8, 10, 16, 17, 33, 1000])
@pytest.mark.parametrize("rows", [1, 7, 301])
def test_class_matches(isa, threads, rows, classes):
    rng = np.random.default_rng(classes)
    y_pred = rng.integers(0, 4, (rows, classes)).astype(np.float32) / 3  # many equals
    labels = rng.integers(0, classes, rows)
    labels[0] = y_pred[0].argmax()
    expected = y_pred.argmax(axis=1) == labels
    for y_true in (labels, one_hot(labels, classes)):
        matches = np.full(rows, 7, np.float32)
        assert _engine.class_matches(y_true, y_pred, matches) == expected.sum()
        np.testing.assert_array_equal(matches, expected)
        assert _engine.class_matches(y_true, y_pred) == expected.sum()


@settings(deadline=None, max_examples=200)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 40)),
        elements=st.sampled_from([0.0, -0.0, 1.0, 2.0, math.inf, -math.inf, math.nan]),
    )
)
def test_the_first_maximum_counts_as_in_numpy(y_pred):
    before = _engine.isa()
    try:
        for name in _engine.available_isas():
            _engine.set_isa(name)
            labels = y_pred.argmax(axis=1)
            assert _engine.class_matches(labels, y_pred) == len(labels)
            assert _engine.class_matches(y_pred, y_pred) == len(labels)
    finally:
        _engine.set_isa(before)


def test_the_engine_checks_its_arrays():
    y, labels = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)
    with pytest.raises(ValueError, match="y_pred: expected contiguous float32"):
        _engine.binary_matches(y, y.astype(np.float64))
    with pytest.raises(ValueError, match="y_true: expected contiguous float32 with 12 elements"):
        _engine.binary_matches(y[:2], y)
    with pytest.raises(ValueError, match="y_true: expected contiguous int64 with 4 elements"):
        _engine.class_matches(labels[:3], y)
    with pytest.raises(ValueError, match="matches: expected contiguous float32 with 4 elements"):
        _engine.class_matches(labels, y, np.zeros(3, np.float32))
    assert _engine.class_matches(labels[:0], y[:0]) == 0


def test_accuracies():
    y_pred = np.float32([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]])
    assert metrics.BinaryAccuracy()([[0], [1], [1]], y_pred[:, :1]) == pytest.approx(2 / 3)
    assert metrics.BinaryAccuracy(threshold=0.1)([0, 1, 1], y_pred[:, :1]) == pytest.approx(2 / 3)
    for labels in ([1, 1, 0], [[1], [1], [0]], np.array([1, 1, 0], np.uint8)):
        assert metrics.SparseCategoricalAccuracy()(labels, y_pred) == pytest.approx(2 / 3)
    assert metrics.CategoricalAccuracy()(one_hot([1, 1, 0], 2), y_pred) == pytest.approx(2 / 3)
    assert metrics.Accuracy()([1, 2, 3], [[1], [2], [4]]) == pytest.approx(2 / 3)
    scores = np.float32([[0.1, 0.4, 0.3, 0.2], [0.4, 0.3, 0.3, 0.0], [0.1, 0.2, np.nan, 0.4]])
    for labels, k, expected in (([2, 2, 2], 2, 2), ([3, 3, 2], 3, 1), ([1, 0, 3], 1, 3)):
        sparse, dense = metrics.SparseTopKCategoricalAccuracy(k), metrics.TopKCategoricalAccuracy(k)
        assert sparse(labels, scores) == pytest.approx(expected / 3)
        assert dense(one_hot(labels, 4), scores) == pytest.approx(expected / 3)
    assert metrics.SparseTopKCategoricalAccuracy(9)([4, -1, 0], scores) == pytest.approx(1 / 3)


def test_shapes_that_do_not_match():
    y, message = np.ones((4, 3), np.float32), re.escape("received (4, 2) and (4, 3)")
    for metric in (metrics.BinaryAccuracy(), metrics.CategoricalAccuracy(), metrics.AUC()):
        with pytest.raises(
            ValueError, match="y_true and y_pred: expected the same shape, " + message
        ):
            metric.update_state(y[:, :2], y)
    with pytest.raises(ValueError, match=r"y_true: expected labels of shape \(4,\)"):
        metrics.SparseCategoricalAccuracy().update_state([0, 1], y)


# Means: weights, masks, batches

MEANS = {
    "BinaryAccuracy": ("probability", lambda t, p: (t == (p > 0.5)).astype(float)),
    "CategoricalAccuracy": ("one_hot", lambda t, p: (t.argmax(-1) == p.argmax(-1)).astype(float)),
    "SparseCategoricalAccuracy": ("labels", lambda t, p: (t == p.argmax(-1)).astype(float)),
    "MeanSquaredError": ("real", lambda t, p: oracle.mean_squared_error(t, p)[0]),
    "MeanAbsoluteError": ("real", lambda t, p: oracle.mean_absolute_error(t, p)[0]),
    "MeanAbsolutePercentageError": (
        "real",
        lambda t, p: oracle.mean_absolute_percentage_error(t, p)[0],
    ),
    "MeanSquaredLogarithmicError": (
        "probability",
        lambda t, p: oracle.mean_squared_logarithmic_error(t, p)[0],
    ),
    "LogCoshError": ("real", lambda t, p: oracle.log_cosh(t, p)[0]),
    "CosineSimilarity": ("real", lambda t, p: -oracle.cosine_similarity(t, p)[0]),
    "KLDivergence": ("one_hot", lambda t, p: oracle.kl_divergence(t, p)[0]),
    "Poisson": ("probability", lambda t, p: oracle.poisson(t, p)[0]),
    "Hinge": ("probability", lambda t, p: oracle.hinge(t, p)[0]),
    "SquaredHinge": ("probability", lambda t, p: oracle.squared_hinge(t, p)[0]),
    "CategoricalHinge": ("one_hot", lambda t, p: oracle.categorical_hinge(t, p)[0]),
    "BinaryCrossentropy": ("probability", lambda t, p: oracle.binary_crossentropy(t, p)[0]),
    "CategoricalCrossentropy": ("one_hot", lambda t, p: oracle.categorical_crossentropy(t, p)[0]),
    "SparseCategoricalCrossentropy": (
        "labels",
        lambda t, p: oracle.sparse_categorical_crossentropy(t, p)[0],
    ),
}


def data(rng, kind, shape):
    if kind == "real":
        return rng.normal(size=shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    y_pred = rng.uniform(0.05, 0.95, size=shape).astype(np.float32)
    if kind == "probability":
        return rng.integers(0, 2, shape).astype(np.float32), y_pred
    labels = rng.integers(0, shape[-1], shape[:-1])
    return (labels if kind == "labels" else one_hot(labels, shape[-1])), y_pred


@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 4)])
@pytest.mark.parametrize("name", MEANS)
def test_means_follow_the_formula(rng, name, shape):
    kind, formula = MEANS[name]
    for weighting in ("none", "samples", "values", "mask", "both"):
        metric = getattr(metrics, name)()
        assert metric.result() == 0
        total = count = 0.0
        for _ in range(2):
            y_true, y_pred = data(rng, kind, shape)
            values = formula(y_true.astype(np.float64), y_pred.astype(np.float64))
            steps, weights, mask = shape[:-1], None, None
            if weighting == "samples":
                weights = rng.uniform(0.5, 2, size=shape[:1])
            elif weighting in ("values", "both"):
                weights = rng.uniform(0.5, 2, size=steps)
            if weighting in ("mask", "both"):
                mask = rng.uniform(size=steps) < 0.6
            metric.update_state(y_true, y_pred, weights, mask)
            full = np.ones(steps)
            if weights is not None:
                full = full * weights.reshape(weights.shape + (1,) * (len(steps) - weights.ndim))
            if mask is not None:
                full = full * mask
            full = full.reshape(steps + (1,) * (values.ndim - len(steps))) * np.ones(values.shape)
            total, count = total + (values * full).sum(), count + full.sum()
        assert metric.result() == pytest.approx(total / count, rel=1e-5, abs=1e-7)
        assert isinstance(metric.result(), float)
        metric.reset_state()
        assert metric.result() == 0


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.lists(st.integers(1, 19), max_size=3), st.booleans())
def test_batches_add_up(n, cuts, weighted):
    rng = np.random.default_rng(n)
    y_true, y_pred = data(rng, "probability", (n, 3))
    weights = rng.uniform(0.5, 2, size=n) if weighted else None
    cuts = sorted(cut for cut in cuts if cut < n)
    for name in ("BinaryAccuracy", "MeanSquaredError", "RootMeanSquaredError", "AUC", "Recall"):
        whole, parts = getattr(metrics, name)(), getattr(metrics, name)()
        whole.update_state(y_true, y_pred, weights)
        for begin, end in zip([0, *cuts], [*cuts, n], strict=True):
            part = None if weights is None else weights[begin:end]
            parts.update_state(y_true[begin:end], y_pred[begin:end], part)
        assert parts.result() == pytest.approx(whole.result(), rel=1e-5, abs=1e-9)


def test_root_mean_squared_error(rng):
    y_true, y_pred = data(rng, "real", (6, 4))
    weights = rng.uniform(size=6)
    errors = np.square(y_true - y_pred.astype(np.float64)).mean(axis=1)
    metric = metrics.RootMeanSquaredError()
    assert metric(y_true, y_pred) == pytest.approx(math.sqrt(errors.mean()), rel=1e-6)
    metric.reset_state()
    expected = math.sqrt((errors * weights).sum() / weights.sum())
    assert metric(y_true, y_pred, sample_weight=weights) == pytest.approx(expected, rel=1e-6)


def test_a_mask_of_steps_where_the_outputs_have_one_axis_more(rng):
    y_true, y_pred = rng.integers(0, 2, (4, 5)), rng.uniform(size=(4, 5, 1)).astype(np.float32)
    mask = rng.uniform(size=(4, 5)) < 0.6
    right = y_true == (y_pred[..., 0] > 0.5)
    error = np.abs(y_true - y_pred[..., 0])
    for metric, values in ((metrics.BinaryAccuracy(), right), (metrics.MeanAbsoluteError(), error)):
        metric.update_state(y_true, y_pred, mask=mask)
        assert metric.result() == pytest.approx(values[mask].mean(), rel=1e-6)


def test_mean_and_sum():
    mean, total = metrics.Mean(), metrics.Sum()
    for metric in (mean, total):
        metric.update_state([1, 3, 5, 7])
        metric.update_state(2.0)
    assert mean.result() == pytest.approx(18 / 5) and total.result() == 18
    mean.reset_state()
    total.reset_states()
    assert mean([1, 3], sample_weight=[1, 0]) == 1 and total([1, 3], sample_weight=[1, 0.5]) == 2.5
    mean.reset_state()
    mean.update_state(0.5, 3)
    mean.update_state(1.5, sample_weight=1)
    assert mean.result() == 0.75
    mean.reset_state()
    assert mean([[1, 3], [5, 9]]) == 4.5
    mean.update_state(math.nan)
    assert math.isnan(mean.result())


# Counts of right and wrong


def confusion(y_true, y_pred, weights, threshold):
    positive, actual = y_pred > threshold, y_true != 0
    return [
        float((weights * (found & true)).sum())
        for found, true in (
            (positive, actual),
            (positive, ~actual),
            (~positive, ~actual),
            (~positive, actual),
        )
    ]


@pytest.mark.parametrize("thresholds", [None, 0.3, [0.2, 0.7], [0.0, 0.25, 0.5, 0.75, 1.0]])
@pytest.mark.parametrize("weighted", [False, True])
def test_counts_follow_the_formula(rng, thresholds, weighted):
    y_true, y_pred = data(rng, "probability", (23, 3))
    y_pred[0] = 0, 1, 1
    weights = rng.uniform(size=23) if weighted else None
    listed = thresholds if isinstance(thresholds, list) else [thresholds or 0.5]
    w = np.ones((23, 1)) if weights is None else weights[:, None]
    tp, fp, tn, fn = np.array([confusion(y_true, y_pred, w, t) for t in listed]).T
    for name, expected in {
        "TruePositives": tp,
        "FalsePositives": fp,
        "TrueNegatives": tn,
        "FalseNegatives": fn,
        "Precision": np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp + fp > 0),
        "Recall": np.divide(tp, tp + fn, out=np.zeros_like(tp), where=tp + fn > 0),
    }.items():
        result = getattr(metrics, name)(thresholds=thresholds)(y_true, y_pred, weights)
        assert np.shape(result) == ((len(listed),) if len(listed) > 1 else ())
        np.testing.assert_allclose(result, expected if len(listed) > 1 else expected[0], rtol=1e-5)


def test_precision_and_recall_among_the_first(rng):
    y_true, y_pred = data(rng, "one_hot", (40, 5))
    first = np.argsort(-y_pred, axis=1, kind="stable")[:, :2]
    found = np.zeros(y_pred.shape, bool)
    np.put_along_axis(found, first, True, 1)
    right = (found & (y_true > 0)).sum(axis=0)
    assert metrics.Precision(top_k=2)(y_true, y_pred) == pytest.approx(right.sum() / 80)
    assert metrics.Recall(top_k=2)(y_true, y_pred) == pytest.approx(right.sum() / 40)
    recall = metrics.Recall(top_k=2, class_id=3)(y_true, y_pred)
    assert recall == pytest.approx(right[3] / y_true[:, 3].sum())
    positive = y_pred[:, 3] > 0.5
    precision = metrics.Precision(class_id=3)(y_true, y_pred)
    assert precision == pytest.approx(y_true[positive, 3].sum() / positive.sum())
    with pytest.raises(ValueError, match="y_pred: expected classes along the last axis"):
        metrics.Precision(class_id=0).update_state([0, 1], [0.1, 0.2])


def rates(y_true, y_pred, thresholds):
    counts = np.array([confusion(y_true, y_pred, np.ones(y_pred.shape), t) for t in thresholds])
    tp, fp, tn, fn = counts.T
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(tp + fp > 0, tp / (tp + fp), 0)
    return tp / (tp + fn), fp / (fp + tn), precision


@pytest.mark.parametrize("options", [{}, {"num_thresholds": 11}, {"thresholds": [0.3, 0.1, 0.75]}])
def test_auc_follows_the_formula(rng, options):
    y_true, y_pred = data(rng, "probability", (60, 1))
    y_pred = np.clip(y_pred + 0.1 * y_true, 0, 0.99).astype(np.float32)
    n = options.get("num_thresholds", 200)
    inner = sorted(options.get("thresholds", [i / (n - 1) for i in range(1, n - 1)]))
    recall, false_rate, precision = rates(y_true, y_pred, [-1e-7, *inner, 1 + 1e-7])
    for curve, x, y in (("ROC", false_rate, recall), ("pr", recall, precision)):
        for method, heights in (
            ("interpolation", (y[:-1] + y[1:]) / 2),
            ("minoring", np.minimum(y[:-1], y[1:])),
            ("Majoring", np.maximum(y[:-1], y[1:])),
        ):
            if (curve, method) == ("pr", "interpolation"):
                continue
            metric = metrics.AUC(curve=curve, summation_method=method, **options)
            expected = float(((x[:-1] - x[1:]) * heights).sum())
            assert metric(y_true, y_pred) == pytest.approx(expected, rel=1e-6)


def test_auc_is_the_share_of_pairs_in_order(rng):
    y_true = rng.integers(0, 2, 300).astype(np.float32)
    logits = (rng.normal(size=300) + y_true).astype(np.float32)
    pairs = logits[y_true == 1][:, None] - logits[y_true == 0]
    expected = (np.sign(pairs) + 1).mean() / 2
    metric = metrics.AUC(num_thresholds=20_000, from_logits=True)
    assert metric(y_true, logits) == pytest.approx(expected, abs=1e-4)


def test_auc_of_known_curves():
    y_true, y_pred = [0, 0, 1, 1], [0, 0.5, 0.3, 0.9]
    assert metrics.AUC(num_thresholds=3)(y_true, y_pred) == pytest.approx(0.75)
    weights = [1, 0, 0, 1]
    assert metrics.AUC(num_thresholds=3)(y_true, y_pred, weights) == pytest.approx(1.0)
    precision = metrics.AUC(num_thresholds=3, curve="PR")(y_true, y_pred)
    # Between recall 1/2 and 1 precision is (1 + 2 x) / (1 + 4 x), x the share of the way.
    between = sum((1 + 1 * x) / (1 + 3 * x) for x in np.linspace(0, 1, 100_001)) / 100_001
    assert precision == pytest.approx((1.0 + between) / 2, rel=1e-4)
    assert metrics.AUC()([1, 1], [0.2, 0.3]) == 0 and metrics.AUC().result() == 0


def test_auc_of_several_labels(rng):
    y_true, y_pred = data(rng, "probability", (50, 3))
    areas = [metrics.AUC()(y_true[:, i], y_pred[:, i]) for i in range(3)]
    for options in ({}, {"num_labels": 3}):
        metric = metrics.AUC(multi_label=True, **options)
        assert metric(y_true, y_pred) == pytest.approx(np.mean(areas), rel=1e-6)
        metric.reset_state()
        assert metric(y_true, y_pred) == pytest.approx(np.mean(areas), rel=1e-6)
    each = metrics.AUC(multi_label=True, label_weights=[1, 2, 5])
    assert each(y_true, y_pred) == pytest.approx(np.average(areas, weights=[1, 2, 5]), rel=1e-6)
    together = metrics.AUC(label_weights=[1, 2, 5])(y_true, y_pred)
    weights = np.tile([1.0, 2.0, 5.0], 50)
    expected = metrics.AUC()(y_true.ravel(), y_pred.ravel(), weights)
    assert together == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"y_pred: expected shape \(samples, 3\) with multi_label"):
        each.update_state(y_true[:, :2], y_pred[:, :2])


def test_best_rates_under_a_condition(rng):
    y_true, y_pred = data(rng, "probability", (60, 1))
    y_pred = (0.7 * y_pred + 0.2 * y_true).astype(np.float32)
    thresholds = np.arange(200) / 199
    recall, false_rate, precision = rates(y_true, y_pred, thresholds)
    for name, argument, best, condition in (
        ("SensitivityAtSpecificity", "specificity", recall, 1 - false_rate),
        ("SpecificityAtSensitivity", "sensitivity", 1 - false_rate, recall),
        ("PrecisionAtRecall", "recall", precision, recall),
        ("RecallAtPrecision", "precision", recall, precision),
    ):
        metric = getattr(metrics, name)(0.5)
        assert metric(y_true, y_pred) == pytest.approx(best[condition >= 0.5].max(), rel=1e-6)
        assert metric.get_config()[argument] == 0.5
        with pytest.raises(ValueError, match=rf"{argument}: expected a number in \[0, 1\]"):
            getattr(metrics, name)(1.5)


@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_f_scores_follow_the_formula(rng, threshold, weighted):
    y_true, y_pred = data(rng, "one_hot", (40, 4))
    y_pred += 0.2 * y_true
    weights = rng.uniform(size=40) if weighted else np.ones(40)
    found = y_pred > threshold if threshold else one_hot(y_pred.argmax(axis=1), 4) > 0
    w = weights[:, None]

    def score(axis, beta):
        tp = (w * (found & (y_true > 0))).sum(axis)
        precision, recall = tp / (w * found).sum(axis), tp / (w * y_true).sum(axis)
        return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)

    given_weights = weights if weighted else None
    for beta in (1.0, 2.0):
        each = score(0, beta)
        shares = (w * y_true).sum(axis=0) / (w * y_true).sum()
        for average, expected in (
            (None, each),
            ("macro", each.mean()),
            ("micro", score(None, beta)),
            ("weighted", (each * shares).sum()),
        ):
            metric = metrics.FBetaScore(average=average, beta=beta, threshold=threshold)
            result = metric(y_true, y_pred, given_weights)
            np.testing.assert_allclose(result, expected, rtol=1e-5)
            if beta == 1.0:
                metric = metrics.F1Score(average=average, threshold=threshold)
                np.testing.assert_allclose(metric(y_true, y_pred, given_weights), result)


# A user's own metrics


def test_functions_losses_and_subclasses(rng):
    y_true, y_pred = data(rng, "real", (6, 4))

    def largest_error(y_true, y_pred):
        return np.max(np.abs(y_true - y_pred), axis=-1)

    metric = metrics.resolve(largest_error, y_true.shape, y_pred.shape)
    assert metric.name == "largest_error"
    expected = np.abs(y_true - y_pred).max(axis=1)
    assert metric(y_true, y_pred) == pytest.approx(expected.mean(), rel=1e-6)
    weights = rng.uniform(size=6)
    metric.reset_state()
    weighted = np.average(expected, weights=weights)
    assert metric(y_true, y_pred, weights) == pytest.approx(weighted, rel=1e-6)

    metric = metrics.resolve(losses.Huber(delta=0.5), y_true.shape, y_pred.shape)
    assert metric.name == "huber_loss"
    expected = losses.Huber(delta=0.5)(y_true, y_pred)
    assert metric(y_true, y_pred) == pytest.approx(expected, rel=1e-6)
    assert metrics.MeanMetricWrapper(losses.huber, delta=0.5)(y_true, y_pred) == pytest.approx(
        expected, rel=1e-6
    )

    class Largest(metrics.Metric):
        def __init__(self, name=None):
            super().__init__(name=name)
            self.reset_state()

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.value = max(self.value, float(np.max(y_pred)))

        def result(self):
            return self.value

        def reset_state(self):
            self.value = -math.inf

    metric = metrics.resolve(Largest, y_true.shape, y_pred.shape)
    assert metric.name == "largest" and not metric.uses_mask
    assert metric(y_true, y_pred) == y_pred.max()
    with pytest.raises(NotImplementedError, match="Metric must define update_state"):
        metrics.Metric().update_state(y_true, y_pred)


# Names and configs

ARGUMENTS = {
    "SensitivityAtSpecificity": (0.5,),
    "SpecificityAtSensitivity": (0.5,),
    "PrecisionAtRecall": (0.5,),
    "RecallAtPrecision": (0.5,),
    "MeanMetricWrapper": (losses.huber,),
}
CLASSES = sorted(set(metrics._TABLE.values()), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_names_and_configs(cls):
    metric = cls(*ARGUMENTS.get(cls.__name__, ()), name="mine")
    assert metrics.get(metric) is metric and metrics.resolve(metric, (3, 2), (3, 2)) is metric
    config = metrics.serialize(metric)
    assert config["module"] == "keras.metrics" and config["class_name"] == cls.__name__
    assert config["config"]["name"] == "mine" and config["config"]["dtype"] == "float32"
    again = metrics.deserialize(config)
    assert type(again) is cls and again.get_config() == metric.get_config()
    if cls.__name__ not in ARGUMENTS:
        assert type(metrics.get(cls.__name__)) is cls and type(metrics.get(cls)) is cls


@pytest.mark.parametrize(
    "options",
    [
        {"curve": "PR", "summation_method": "minoring", "num_thresholds": 7},
        {"thresholds": [0.2, 0.6], "multi_label": True, "num_labels": 2, "label_weights": [1, 2]},
    ],
)
def test_config_of_auc(options):
    again = metrics.AUC.from_config(metrics.AUC(**options).get_config())
    for name, value in options.items():
        assert again.get_config()[name] == value
    assert again.thresholds == metrics.AUC(**options).thresholds


@pytest.mark.parametrize(
    ("true_shape", "pred_shape", "kind"),
    [
        ((8,), (8, 1), "Binary"),
        ((8, 1), (8, 1), "Binary"),
        ((8, 5), (8, 5, 1), "Binary"),
        ((8,), (8, 5), "SparseCategorical"),
        ((8, 1), (8, 5), "SparseCategorical"),
        ((8, 7), (8, 7, 5), "SparseCategorical"),
        ((8, 5), (8, 5), "Categorical"),
        ((8, 7, 5), (8, 7, 5), "Categorical"),
    ],
)
def test_accuracy_depends_on_shapes_and_keeps_its_name(true_shape, pred_shape, kind):
    for name in ("acc", "accuracy", "Accuracy", "ACC"):
        metric = metrics.resolve(name, true_shape, pred_shape)
        assert type(metric).__name__ == kind + "Accuracy" and metric.name == name
    for name in ("ce", "crossentropy"):
        metric = metrics.resolve(name, true_shape, pred_shape)
        assert type(metric).__name__ == kind + "Crossentropy" and metric.name == name


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("mse", metrics.MeanSquaredError),
        ("MAE", metrics.MeanAbsoluteError),
        ("mape", metrics.MeanAbsolutePercentageError),
        ("MSLE", metrics.MeanSquaredLogarithmicError),
        ("rmse", metrics.RootMeanSquaredError),
        ("bce", metrics.BinaryCrossentropy),
        ("kld", metrics.KLDivergence),
        ("AUC", metrics.AUC),
        ("auc", metrics.AUC),
        ("precision", metrics.Precision),
        ("TruePositives", metrics.TruePositives),
        ("f1_score", metrics.F1Score),
        ("binary_accuracy", metrics.BinaryAccuracy),
        ("log_cosh_error", metrics.LogCoshError),
        ("kl_divergence", metrics.KLDivergence),
    ],
)
def test_aliases(name, cls):
    metric = metrics.resolve(name, (8, 1), (8, 1))
    assert type(metric) is cls and metric.name == name


def test_bad_arguments():
    with pytest.raises(ValueError, match="metric: expected one of .*received 'acurracy'"):
        metrics.resolve("acurracy", (8,), (8, 1))
    with pytest.raises(ValueError, match="metric: expected a name.*received None"):
        metrics.resolve(None, (8,), (8, 1))
    with pytest.raises(ValueError, match="metric: expected a name.*received 3"):
        metrics.get(3)
    with pytest.raises(ValueError, match=r"thresholds: expected numbers in \[0, 1\], received 1.5"):
        metrics.Precision(thresholds=[0.5, 1.5])
    with pytest.raises(ValueError, match="curve: expected one of ROC, PR, PRGAIN, received 'rock'"):
        metrics.AUC(curve="rock")
    with pytest.raises(ValueError, match="summation_method: expected one of interpolation"):
        metrics.AUC(summation_method="simpson")
    with pytest.raises(ValueError, match="num_thresholds: expected an int > 1, received 1"):
        metrics.AUC(num_thresholds=1)
    with pytest.raises(ValueError, match="num_labels: expected None without multi_label"):
        metrics.AUC(num_labels=3)
    with pytest.raises(ValueError, match="average: expected None"):
        metrics.F1Score(average="mean")
    with pytest.raises(ValueError, match=r"threshold: expected None or a float in \(0, 1\]"):
        metrics.F1Score(threshold=2.0)
    with pytest.raises(ValueError, match="beta: expected a float > 0, received 1"):
        metrics.FBetaScore(beta=1)
    with pytest.raises(ValueError, match=r"expected shape \(samples, classes\)"):
        metrics.F1Score().update_state([0, 1], [0.5, 0.5])


def test_single_numbers():
    """The values are Keras's; where it raises, so does fastrnn."""
    values = {"Accuracy": 0, "BinaryAccuracy": 0, "RootMeanSquaredError": 0.5}
    values |= {"CosineSimilarity": 1, "AUC": 0}
    for name, value in values.items():
        assert getattr(metrics, name)()(1.0, 0.5) == value
    for name in ("CategoricalAccuracy", "SparseCategoricalAccuracy", "TopKCategoricalAccuracy",
                 "SparseTopKCategoricalAccuracy", "MeanSquaredError", "MeanAbsoluteError",
                 "LogCoshError", "KLDivergence", "Hinge", "BinaryCrossentropy", "Precision",
                 "CategoricalCrossentropy", "SparseCategoricalCrossentropy", "TruePositives",
                 "Recall"):  # fmt: skip
        with pytest.raises(ValueError, match=r"^y_true and y_pred: expected at least one axis"):
            getattr(metrics, name)()(1.0, 0.5)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("BinaryAccuracy", "threshold"), ("TopKCategoricalAccuracy", "k"),
        ("SparseTopKCategoricalAccuracy", "k"), ("CosineSimilarity", "axis"),
        ("Precision", "top_k"),
        ("Recall", "class_id"),
        ("AUC", "num_thresholds"),
        ("CategoricalCrossentropy", "axis"), ("BinaryCrossentropy", "label_smoothing"),
    ],
)  # fmt: skip
def test_arguments_are_checked(name, argument):
    for value in ("x", 1j, {}):
        with pytest.raises(ValueError, match=rf"^{argument}: expected a .*, received "):
            getattr(metrics, name)(**{argument: value})


def test_rates_and_names_are_checked():
    for value in ("x", math.nan, 1.5, None):
        with pytest.raises(ValueError, match=r"^recall: expected a number in \[0, 1\], received"):
            metrics.PrecisionAtRecall(value)
    with pytest.raises(ValueError, match="^num_labels: expected a whole number, received 'x'"):
        metrics.AUC(multi_label=True, num_labels="x")
    for make in (metrics.Mean, metrics.AUC, losses.MeanSquaredError, losses.Huber):
        with pytest.raises(ValueError, match="^name: expected a str, received 5"):
            make(name=5)


# --- shapes that Keras 3.15 broadcasts; its values ------------------------------------------------

LABELS = np.array([1, -1, 2, 0])
CHANCES = np.array(
    [[0.05, 0.9, 0.05], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]], np.float32
)
WEIGHTS = np.array([0.3, 0.7, 0.2, 0.5], np.float32)


@pytest.mark.parametrize(
    "labels, chances, weights, expected",
    [
        (LABELS, CHANCES, None, 0.65777),
        (LABELS, CHANCES, WEIGHTS, 1.01959),
        (LABELS[:, None], CHANCES, WEIGHTS, 1.01959),
        (LABELS.reshape(2, 2), CHANCES.reshape(2, 2, 3), WEIGHTS.reshape(2, 2), 1.01959),
        (np.full(4, -1), CHANCES, np.ones(4), 0.0),
    ],
)
def test_ignored_classes_and_weights(labels, chances, weights, expected):
    """Ignored labels count where there are no sample weights, and do not where there are."""
    for metric in (
        metrics.SparseCategoricalCrossentropy(ignore_class=-1),
        metrics.MeanMetricWrapper(losses.sparse_categorical_crossentropy, ignore_class=-1),
    ):
        metric.update_state(labels, chances, weights)
        assert float(metric.result()) == pytest.approx(expected, abs=1e-5)


SQUARES = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "y_true, y_pred, weights, expected",
    [
        ([2, 4, 6], [1, 3, 2], [0, 1, 1], 2.91548),
        ([2.0, 4, 6], [1, 3, 2.0], None, 2.44949),
        (SQUARES, np.ones((2, 3)), [1, 2], 2.58199),
        (SQUARES, np.ones((2, 3)), SQUARES, 2.94392),
        (SQUARES, np.ones((2, 3)), 2.0, 2.27303),
        ([[1.0], [2.0]], [2.0, 5.0], [1, 3], 2.64575),
    ],
)
def test_root_mean_squared_error_of_weighted_numbers(y_true, y_pred, weights, expected):
    metric = metrics.RootMeanSquaredError()
    metric.update_state(y_true, y_pred, weights)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-5)


def test_labels_across_predictions():
    metric = metrics.SparseCategoricalAccuracy()
    chances = np.array([[[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]])
    metric.update_state([[1], [2]], chances)
    assert float(metric.result()) == 0.5
    with pytest.raises(ValueError, match="y_true: expected labels of shape"):
        metric.update_state([[1, 2, 1]], chances)


@pytest.mark.parametrize("loss", ["mse", "sparse_categorical_crossentropy"])
def test_the_users_metrics_may_keep_what_they_get(loss, rng):
    kept = []

    class Collector(metrics.Metric):
        def update_state(self, y_true, y_pred, sample_weight=None):
            kept.append((y_true, y_pred))

        def result(self):
            return 0.0

        def reset_state(self):
            pass

    def first(y_true, y_pred):
        kept.append((y_true, y_pred))
        return y_pred[..., 0]

    last = "softmax" if loss != "mse" else None
    model = fastrnn.Sequential([fastrnn.Input((4, 3)), layers.LSTM(5), layers.Dense(3, last)])
    x, labels = rng.normal(size=(12, 4, 3)).astype(np.float32), np.arange(12) % 3
    y = labels if last else np.eye(3)[labels]
    for metric in (Collector(), first):
        model.compile(fastrnn.optimizers.SGD(0.0), loss, metrics=[metric])
        del kept[:]
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        model.evaluate(x, y, batch_size=4, verbose=0)
        expected = model.predict(x, verbose=0)
        for half in (kept[:3], kept[3:]):
            np.testing.assert_allclose(np.concatenate([p for _, p in half]), expected, atol=1e-6)
            np.testing.assert_array_equal(np.concatenate([t for t, _ in half]).ravel(), y.ravel())


def test_labels_of_one_column_stand_for_all():
    """Values of Keras 3.15."""
    y_true, y_pred = np.array([[1.0], [0.0], [1.0], [1.0]]), np.arange(8.0).reshape(4, 2) / 9
    for weights, expected in ((None, 0.625), (np.array([1, 0, 2, 1]), 0.5)):
        assert metrics.BinaryAccuracy()(y_true, y_pred, weights) == expected
    matches = metrics.binary_accuracy(y_true, y_pred)
    np.testing.assert_array_equal(matches, [[0, 0], [1, 1], [0, 1], [1, 1]])
