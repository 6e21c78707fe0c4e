"""Losses, metrics, optimizers, regularizers and constraints by themselves, with random options and
data."""

import comparison
import configurations as random_of
import numpy as np
import pytest
import scipy.stats
from comparison import floatx, keras, tensor, tf

import fastrnn

pytestmark = pytest.mark.filterwarnings("ignore:.*softmax over axis")

SEED = 4_000_000

# class: kind of targets and the options to draw from
LOSSES = {
    "MeanSquaredError": ("real", {}),
    "MeanAbsoluteError": ("real", {}),
    "MeanAbsolutePercentageError": ("positive", {}),
    "MeanSquaredLogarithmicError": ("positive", {}),
    "Huber": ("real", {"delta": (0.2, 1.0, 3.0)}),
    "LogCosh": ("real", {}),
    "Hinge": ("binary", {}),
    "SquaredHinge": ("binary", {}),
    "CategoricalHinge": ("one-hot", {}),
    "KLDivergence": ("distribution", {}),
    "Poisson": ("positive", {}),
    "CosineSimilarity": ("real", {"axis": (-1, 1)}),
    "BinaryCrossentropy": ("binary", {"from_logits": (False, True), "label_smoothing": (0.0, 0.2)}),
    "CategoricalCrossentropy": (
        "one-hot",
        {"from_logits": (False, True), "label_smoothing": (0.0, 0.2)},
    ),
    "SparseCategoricalCrossentropy": (
        "class",
        {"from_logits": (False, True), "ignore_class": (None, 1, -1)},
    ),
    "BinaryFocalCrossentropy": (
        "binary",
        {
            "apply_class_balancing": (False, True),
            "alpha": (0.25, 0.6),
            "gamma": (2.0, 1.0, 0.0),
            "from_logits": (False, True),
            "label_smoothing": (0.0, 0.2),
        },
    ),
    "CategoricalFocalCrossentropy": (
        "one-hot",
        {
            "alpha": (0.25, 0.6),
            "gamma": (2.0, 1.0),
            "from_logits": (False, True),
            "label_smoothing": (0.0, 0.2),
        },
    ),
}
THRESHOLDS = {"thresholds": (None, 0.3, [0.2, 0.5, 0.8])}
RATES = {"num_thresholds": (200, 11), "class_id": (None, 1)}
METRICS = {
    **{name: LOSSES[name] for name in LOSSES if hasattr(keras.metrics, name)},
    "CosineSimilarity": ("real", {"axis": (-1, 1)}),
    "SparseCategoricalCrossentropy": ("class", {"from_logits": (False, True)}),
    "RootMeanSquaredError": ("real", {}),
    "LogCoshError": ("real", {}),
    "Accuracy": ("labels", {}),
    "BinaryAccuracy": ("binary", {"threshold": (0.5, 0.3)}),
    "CategoricalAccuracy": ("one-hot", {}),
    "SparseCategoricalAccuracy": ("class", {}),
    "TopKCategoricalAccuracy": ("one-hot", {"k": (1, 2, 5)}),
    "SparseTopKCategoricalAccuracy": ("class", {"k": (1, 2, 5)}),
    "TruePositives": ("binary", THRESHOLDS),
    "FalsePositives": ("binary", THRESHOLDS),
    "TrueNegatives": ("binary", THRESHOLDS),
    "FalseNegatives": ("binary", THRESHOLDS),
    "Precision": ("binary", {**THRESHOLDS, "class_id": (None, 1), "top_k": (None, 2)}),
    "Recall": ("binary", {**THRESHOLDS, "class_id": (None, 1), "top_k": (None, 2)}),
    "SensitivityAtSpecificity": ("binary", {"specificity": (0.3, 0.8), **RATES}),
    "SpecificityAtSensitivity": ("binary", {"sensitivity": (0.3, 0.8), **RATES}),
    "PrecisionAtRecall": ("binary", {"recall": (0.3, 0.8), **RATES}),
    "RecallAtPrecision": ("binary", {"precision": (0.3, 0.6), **RATES}),
    "AUC": (
        "binary",
        {
            "num_thresholds": (200, 9),
            "curve": ("ROC", "PR"),
            "summation_method": ("interpolation", "minoring", "majoring"),
            "multi_label": (False, True),
        },
    ),
    "F1Score": (
        "one-hot",
        {"average": (None, "micro", "macro", "weighted"), "threshold": (None, 0.4)},
    ),
    "FBetaScore": (
        "one-hot",
        {
            "average": (None, "micro", "macro", "weighted"),
            "beta": (0.5, 2.0),
            "threshold": (None, 0.4),
        },
    ),
}


def draw_options(rng, table):
    return {name: random_of.pick(rng, choices) for name, choices in table.items()}


def draw_data(rng, kind, shape, logits):
    """(y_true, y_pred) for a kind of targets."""
    if kind == "labels":
        return tuple(rng.integers(0, 3, shape).astype(np.float32) for _ in range(2))
    y_pred = random_of.normal(rng, *shape)
    if kind == "distribution":
        y_true = rng.uniform(0.05, 1, shape).astype(np.float32)
        y_true /= y_true.sum(axis=-1, keepdims=True)
    else:
        y_true = random_of.targets(rng, kind, shape)
    if kind in ("one-hot", "class", "distribution") and not logits:
        y_pred = np.exp(y_pred) / np.exp(y_pred).sum(axis=-1, keepdims=True)
    elif kind in ("binary", "positive") and not logits:
        y_pred = 1 / (1 + np.exp(-y_pred))
    return y_true, y_pred


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, seed, tally):
    rng = np.random.default_rng([SEED, seed, len(name), *name.encode()])
    kind, table = LOSSES[name]
    options = draw_options(rng, table)
    reductions = ("sum_over_batch_size",) * 3 + ("sum", "mean", "mean_with_sample_weight", "none")
    options["reduction"] = random_of.pick(rng, reductions)
    batch, timesteps, classes = (random_of.between(rng, 2, n) for n in (12, 6, 7))
    shape = (batch, timesteps, classes) if random_of.chance(rng, 0.5) else (batch, classes)
    y_true, y_pred = draw_data(rng, kind, shape, options.get("from_logits"))
    weight = None
    if random_of.chance(rng, 0.5) and options.get("axis", -1) == -1:
        weight = rng.uniform(0, 2, shape[:-1]).astype(np.float32)

    def of_keras(dtype="float32"):
        with floatx(dtype):
            loss = getattr(keras.losses, name)(**options)
            y = tensor(y_pred)
            with tf.GradientTape() as tape:
                tape.watch(y)
                value = loss(tensor(y_true), y, None if weight is None else tensor(weight))
            results = {"loss": [value.numpy()]}
            if options["reduction"] != "none":
                results["gradient of the input"] = [tape.gradient(value, y).numpy()]
            return results

    loss = getattr(fastrnn.losses, name)(**options)
    results = {"loss": [loss(y_true, y_pred, weight)]}
    if options["reduction"] != "none":
        results["gradient of the input"] = [loss.value_and_gradient(y_true, y_pred, weight)[1]]
    case, config = f"test_loss[{name}-{seed}]", {"options": options, "shape": shape}
    comparison.agree(
        tally, "losses", case, config, results, of_keras(), lambda: of_keras("float64")
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", METRICS)
def test_metric(name, seed, tally):
    rng = np.random.default_rng([SEED, seed, len(name), *name.encode()])
    kind, table = METRICS[name]
    options = draw_options(rng, table)
    if options.get("top_k"):
        options["thresholds"] = None
    classes = random_of.between(rng, 2, 7)
    metrics = [getattr(lib.metrics, name)(**options) for lib in (fastrnn, keras)]
    weighted = random_of.chance(rng, 0.4)
    for _ in range(3):
        shape = (random_of.between(rng, 2, 20), classes)
        y_true, y_pred = draw_data(rng, kind, shape, options.get("from_logits"))
        weight = rng.uniform(0, 2, shape[0]).astype(np.float32) if weighted else None
        for metric in metrics:
            metric.update_state(y_true, y_pred, sample_weight=weight)
    actual, expected = ({"metric": [np.asarray(m.result(), float)]} for m in metrics)
    config = {"options": options, "classes": classes, "weighted": weighted}
    comparison.agree(
        tally, "metrics", f"test_metric[{name}-{seed}]", config, actual, expected, lambda: expected
    )


@pytest.mark.parametrize("seed", range(120))
def test_optimizer(seed, tally):
    """The same gradients for both, step after step."""
    rng = np.random.default_rng(SEED + seed)
    name, options = random_of.optimizer(rng)
    shapes = [(random_of.between(rng, 1, 9), random_of.between(rng, 1, 9)), (4,)]
    weights = [random_of.normal(rng, *shape, scale=0.5) for shape in shapes]
    gradients = [[random_of.normal(rng, *shape) for shape in shapes] for _ in range(5)]

    def make(library):
        rate = options["learning_rate"]
        if isinstance(rate, tuple):
            rate = getattr(library.optimizers.schedules, rate[0])(**rate[1])
        return getattr(library.optimizers, name)(**{**options, "learning_rate": rate})

    def of_keras(dtype="float32"):
        with floatx(dtype):
            variables = [keras.Variable(w.astype(dtype), dtype=dtype, name="w") for w in weights]
            optimizer = make(keras)
            for step in gradients:
                optimizer.apply([tensor(g) for g in step], variables)
            optimizer.finalize_variable_values(variables)
            return [v.numpy() - w for v, w in zip(variables, weights, strict=True)]

    variables = [fastrnn.variable.Variable(w, dtype="float32", name="w") for w in weights]
    store = fastrnn.variable.Store(variables)
    optimizer = make(fastrnn)
    for step in gradients:
        for variable, gradient in zip(variables, step, strict=True):
            variable.gradient[...] = gradient
        optimizer.update(store)
    optimizer.finalize_variable_values(store)
    changes = [v.numpy() - w for v, w in zip(variables, weights, strict=True)]
    comparison.agree(
        tally,
        "optimizers",
        f"test_optimizer[{seed}]",
        {"optimizer": name, "options": options},
        {"weight after training": changes},
        {"weight after training": of_keras()},
        lambda: {"weight after training": of_keras("float64")},
    )


REGULARIZERS = (
    ("L1", {"l1": 0.3}), ("L2", {"l2": 0.3}), ("L1L2", {"l1": 0.1, "l2": 0.2}),
    ("OrthogonalRegularizer", {"factor": 0.3, "mode": "rows"}),
    ("OrthogonalRegularizer", {"factor": 0.3, "mode": "columns"}),
)  # fmt: skip
CONSTRAINTS = (
    ("MaxNorm", {"max_value": 0.7, "axis": 0}), ("MaxNorm", {"max_value": 0.7, "axis": 1}),
    ("MinMaxNorm", {"min_value": 0.9, "max_value": 1.1, "rate": 0.4, "axis": 0}),
    ("NonNeg", {}), ("UnitNorm", {"axis": 0}), ("UnitNorm", {"axis": 1}),
)  # fmt: skip


@pytest.mark.parametrize("module, name, options", [
    *(("regularizers", *r) for r in REGULARIZERS), *(("constraints", *c) for c in CONSTRAINTS),
])  # fmt: skip
def test_regularizer_or_constraint(module, name, options, tally):
    rng = np.random.default_rng(SEED)
    for rows in (2, 5, 17):
        value = random_of.normal(rng, rows, 6)
        actual, expected = (
            {"output": [np.asarray(getattr(getattr(lib, module), name)(**options)(given))]}
            for lib, given in ((fastrnn, value), (keras, tensor(value)))
        )
        case = f"test_regularizer_or_constraint[{name}]"
        comparison.agree(tally, module, case, options, actual, expected, lambda e=expected: e)


@pytest.mark.parametrize(
    "name, shape, options",
    [
        ("LSTM", (None, 28, 28), {"units": 64}),
        ("GRU", (None, 5, 20), {"units": 12}),
        ("SimpleRNN", (None, 5, 20), {"units": 30}),
        ("Dense", (None, 128), {"units": 10}),
        ("Conv1D", (None, 9, 16), {"filters": 8, "kernel_size": 3}),
        ("Conv2D", (None, 6, 9, 8), {"filters": 16, "kernel_size": (3, 2)}),
        ("ConvLSTM1D", (None, 3, 9, 8), {"filters": 4, "kernel_size": 3}),
        ("ConvLSTM2D", (None, 3, 6, 9, 8), {"filters": 4, "kernel_size": (3, 2)}),
        ("DepthwiseConv1D", (None, 9, 16), {"kernel_size": 3, "depth_multiplier": 4}),
        ("SeparableConv1D", (None, 9, 16), {"filters": 8, "kernel_size": 3}),
        ("Conv1DTranspose", (None, 9, 4), {"filters": 32, "kernel_size": 3}),
        ("Embedding", (None, 5), {"input_dim": 200, "output_dim": 16}),
    ],
)
def test_initial_weights_are_drawn_from_one_distribution(name, shape, options):
    drawn = []
    for library in (keras, fastrnn):
        library.utils.set_random_seed(SEED)
        layers = [getattr(library.layers, name)(**options) for _ in range(20)]
        for layer in layers:
            layer.build(shape)
        drawn.append([np.stack(w) for w in zip(*(la.get_weights() for la in layers), strict=True)])
    for theirs, ours in zip(*drawn, strict=True):
        if np.ptp(theirs, axis=0).max() == 0:  # biases are always the same
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert scipy.stats.ks_2samp(theirs.ravel(), ours.ravel()).pvalue > 1e-3
        if theirs.ndim == 3:  # orthogonal weights are so in both
            grams = [w @ w.transpose(0, 2, 1) for w in (theirs, ours)]
            orthogonal = [np.allclose(g, np.eye(g.shape[1]), atol=1e-5) for g in grams]
            assert orthogonal[0] == orthogonal[1]
