"""Random configurations, described once and built by both libraries.

A layer is described by (class name, options); options may hold layers. Everything is drawn from the
generator that is passed in, so that a seed gives a configuration again."""

import inspect

import numpy as np

import fastrnn

RECURRENT = [name for name in ("LSTM", "GRU", "SimpleRNN") if hasattr(fastrnn.layers, name)]

BOUNDED = (
    "tanh", "sigmoid", "hard_sigmoid", "hard_tanh", "softsign", "relu6", "softmax",
    "sparse_sigmoid",
)  # fmt: skip
UNBOUNDED = (
    "log_sigmoid",
    "linear", "relu", "elu", "selu", "celu", "gelu", "silu", "hard_silu", "mish", "softplus",
    "squareplus", "leaky_relu", "soft_shrink", "hard_shrink",
    "tanh_shrink", "sparse_plus",
)  # fmt: skip
ACTIVATIONS = BOUNDED + UNBOUNDED

REGULARIZERS = (
    {"class_name": "L1", "config": {"l1": 0.02}},
    {"class_name": "L2", "config": {"l2": 0.03}},
    {"class_name": "L1L2", "config": {"l1": 0.01, "l2": 0.02}},
)
CONSTRAINTS = (
    {"class_name": "MaxNorm", "config": {"max_value": 0.8, "axis": 0}},
    {"class_name": "MinMaxNorm", "config": {"min_value": 0.4, "max_value": 0.9, "rate": 0.5}},
    {"class_name": "NonNeg", "config": {}},
    {"class_name": "UnitNorm", "config": {"axis": 0}},
)


def build(library, spec):
    """The layer or model of `library` (keras or fastrnn) that a description stands for."""
    name, options = spec
    options = {
        key: build(library, value) if key in ("layer", "backward_layer") else value
        for key, value in options.items()
    }
    if name == "Sequential":
        return library.Sequential([build(library, layer) for layer in options["layers"]])
    return getattr(library.layers, name)(**options)


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def chance(rng, probability):
    return bool(rng.random() < probability)


def between(rng, low, high):
    return int(rng.integers(low, high + 1))


def normal(rng, *shape, scale=1.0):
    return rng.normal(size=shape, scale=scale).astype(np.float32)


def size_of_sequence(rng):
    """Batch 1-40, timesteps 1-30 (more often short, for the sake of time), features 1-40."""
    longest = 30 if chance(rng, 0.2) else 8
    return between(rng, 1, 40), between(rng, 1, longest), between(rng, 1, 40)


def mask(rng, batch, timesteps):
    """(form, (batch, timesteps) bool): padding in one of several forms, or in all of them."""
    forms = ("right", "left", "both", "holes", "row", "none", "mixed")
    form = pick(rng, forms)
    kept = np.ones((batch, timesteps), bool)
    for row in kept:
        own = pick(rng, forms[:-1]) if form == "mixed" else form
        start, stop = sorted(rng.integers(0, timesteps + 1, 2))
        if own == "right":
            row[stop:] = False
        elif own == "left":
            row[:start] = False
        elif own == "both":
            row[:start] = row[stop:] = False
        elif own == "holes":
            row[:] = rng.random(timesteps) < 0.6
    if form in ("row", "mixed"):
        kept[rng.integers(batch)] = False
    return form, kept


def penalties(rng, share=0.15):
    """Regularizers and constraints for the kernel and bias of a layer."""
    options = {}
    if chance(rng, share):
        options["kernel_regularizer"] = pick(rng, REGULARIZERS)
    if chance(rng, share):
        options["bias_regularizer"] = pick(rng, REGULARIZERS)
    if chance(rng, share):
        options["kernel_constraint"] = pick(rng, CONSTRAINTS)
    if chance(rng, share):
        options["bias_constraint"] = pick(rng, CONSTRAINTS[:3])
    if chance(rng, share):
        options["activity_regularizer"] = pick(rng, REGULARIZERS)
    return options


def accepts(class_name, option):
    return option in inspect.signature(getattr(fastrnn.layers, class_name).__init__).parameters


def recurrent(rng, *, timesteps=8, **fixed):
    """A recurrent layer. Activations without bound only over few time steps, those of the gates
    over fewer still: gates above 1 multiply from step to step."""
    name = pick(rng, RECURRENT)
    pool = ACTIVATIONS if timesteps <= 8 else BOUNDED
    activation = "tanh" if chance(rng, 0.4) else pick(rng, pool)
    if timesteps > 4:
        pool = BOUNDED
    elif activation in UNBOUNDED:
        pool = (*BOUNDED, "linear", "relu", "gelu", "softplus")
    options = {
        "units": between(rng, 1, 70),
        "activation": activation,
        "recurrent_activation": "sigmoid" if chance(rng, 0.4) else pick(rng, pool),
        "use_bias": chance(rng, 0.85),
        "unit_forget_bias": chance(rng, 0.5),
        "bias_initializer": pick(rng, ("zeros", "ones")),
        "go_backwards": chance(rng, 0.3),
        "reset_after": chance(rng, 0.5),
        **penalties(rng),
    }
    if chance(rng, 0.1):
        options["recurrent_regularizer"] = pick(rng, REGULARIZERS)
    if chance(rng, 0.1):
        options["recurrent_constraint"] = pick(rng, CONSTRAINTS)
    if chance(rng, 0.15):
        options["zero_output_for_mask"] = True
    options["unroll"] = chance(rng, 0.1) and not options["go_backwards"]
    options.update(fixed)
    if name == "SimpleRNN":
        options["activity_regularizer"] = None  # Keras forgets it (test_differences.py)
    return name, {k: v for k, v in options.items() if accepts(name, k) or k.startswith("zero")}


def bidirectional(rng, *, timesteps=8, modes=("concat", "sum", "mul", "ave"), **fixed):
    """A wrapper of a recurrent layer; sometimes with a backward layer of another kind."""
    fixed |= {"unroll": False}  # Keras mistakes the mask of an unrolled backward layer
    forward = recurrent(rng, timesteps=timesteps, go_backwards=False, **fixed)
    options = {"layer": forward, "merge_mode": pick(rng, modes)}
    if chance(rng, 0.3):
        units = forward[1]["units"]
        other = recurrent(rng, timesteps=timesteps, go_backwards=True, **{**fixed, "units": units})
        if other[0] == forward[0]:
            options["backward_layer"] = other
    return "Bidirectional", options


def random_weight(rng, path, shape):
    """Weights without symmetry, of the size that training gives them; variances positive."""
    if path.endswith("moving_variance"):
        return rng.uniform(0.5, 2, shape).astype(np.float32)
    if path.endswith("gamma"):
        return 1 + normal(rng, *shape, scale=0.3)
    scale = 0.3 if len(shape) == 1 or "bias" in path else 0.7 * shape[0] ** -0.5
    return normal(rng, *shape, scale=scale)


# --- whole models ---------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": (
        {},
        {"momentum": 0.9},
        {"momentum": 0.8, "nesterov": True},
    ),
    "RMSprop": (
        {},
        {"rho": 0.7, "epsilon": 1e-3},
        {"momentum": 0.6},
        {"centered": True},
        {"centered": True, "momentum": 0.5, "epsilon": 1e-3},
    ),
    "Adam": ({}, {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-2}, {"amsgrad": True, "beta_2": 0.6}),
    "AdamW": ({}, {"weight_decay": 0.3}, {"amsgrad": True}),
    "Adamax": ({}, {"beta_1": 0.7, "beta_2": 0.6, "epsilon": 1e-2}),
    "Nadam": ({}, {"beta_1": 0.7, "beta_2": 0.9}),
    "Adagrad": ({}, {"initial_accumulator_value": 0.01}),
    "Adadelta": ({}, {"rho": 0.5, "epsilon": 1e-2}),
}
SCHEDULES = (
    ("ExponentialDecay", {"initial_learning_rate": 0.05, "decay_steps": 2, "decay_rate": 0.6}),
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 3, "decay_rate": 0.6, "staircase": True},
    ),
    ("PiecewiseConstantDecay", {"boundaries": [1, 3], "values": [0.05, 0.02, 0.01]}),
    (
        "PolynomialDecay",
        {"initial_learning_rate": 0.05, "decay_steps": 3, "power": 2.0, "cycle": True},
    ),
    ("InverseTimeDecay", {"initial_learning_rate": 0.05, "decay_steps": 2, "decay_rate": 0.5}),
    (
        "CosineDecay",
        {
            "initial_learning_rate": 0.01,
            "decay_steps": 4,
            "alpha": 0.1,
            "warmup_target": 0.05,
            "warmup_steps": 2,
        },
    ),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.05, "first_decay_steps": 2, "t_mul": 1.5}),
)


def optimizer(rng):
    """(class name, options): every optimizer, with its own options and those of all."""
    name = pick(rng, list(OPTIMIZERS))
    options = {"learning_rate": 0.03, **pick(rng, OPTIMIZERS[name])}
    if chance(rng, 0.2):
        options["learning_rate"] = pick(rng, SCHEDULES)
    if chance(rng, 0.2):
        options["weight_decay"] = 0.1
    if chance(rng, 0.3):
        clip = pick(rng, ("clipnorm", "clipvalue", "global_clipnorm"))
        options[clip] = 0.02 if clip == "clipvalue" else 0.3
    if chance(rng, 0.1):
        options |= {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 2}
    if chance(rng, 0.1):
        options["gradient_accumulation_steps"] = 2
    return name, options


SUM_LOSSES = ("sum", "mean", "mean_with_sample_weight")
REGRESSION_METRICS = (
    "mse", "mae", "mape", "root_mean_squared_error", "cosine_similarity",
    ("LogCoshError", {}), ("MeanSquaredLogarithmicError", {}),
)  # fmt: skip
BINARY_METRICS = (
    "accuracy", "binary_accuracy", "auc", "precision", "recall", "mse", "binary_crossentropy",
    ("BinaryAccuracy", {"threshold": 0.4}),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}),
    ("AUC", {"num_thresholds": 7, "curve": "PR"}),
    ("AUC", {"summation_method": "minoring"}),
    ("Precision", {"thresholds": 0.45}),
    ("Recall", {"thresholds": 0.45}),
    ("TruePositives", {}), ("FalsePositives", {}), ("TrueNegatives", {}), ("FalseNegatives", {}),
    ("SensitivityAtSpecificity", {"specificity": 0.5}),
    ("PrecisionAtRecall", {"recall": 0.5}),
)  # fmt: skip
DENSE_METRICS = (
    "accuracy", "categorical_accuracy", "categorical_crossentropy", "kl_divergence",
    ("TopKCategoricalAccuracy", {"k": 2}), ("Poisson", {}), ("CategoricalHinge", {}),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}), ("AUC", {}),
)  # fmt: skip
SPARSE_METRICS = (
    "accuracy", "sparse_categorical_accuracy", "sparse_categorical_crossentropy",
    ("SparseTopKCategoricalAccuracy", {"k": 2}),
)  # fmt: skip

# kind of targets: losses, activations of the output (or None for any), metrics
TASKS = {
    "real": (
        (
            "mse", "mae", "huber", "log_cosh", "cosine_similarity", ("MeanSquaredError", {}),
            ("MeanAbsoluteError", {}), ("Huber", {"delta": 0.3}), ("LogCosh", {}),
            ("CosineSimilarity", {"axis": -1}),
        ),
        ("linear", "tanh", "gelu", "softsign"),
        REGRESSION_METRICS,
    ),
    "positive": (
        ("msle", "mape", "poisson", ("MeanSquaredLogarithmicError", {}), ("Poisson", {})),
        ("softplus", "sigmoid", "exponential"),
        REGRESSION_METRICS,
    ),
    "binary": (
        (
            "binary_crossentropy", ("BinaryCrossentropy", {"label_smoothing": 0.2}),
            ("BinaryFocalCrossentropy", {"gamma": 1.5, "apply_class_balancing": True}),
            "mse", ("Hinge", {}), ("SquaredHinge", {}),
        ),
        ("sigmoid", "hard_sigmoid"),
        BINARY_METRICS,
    ),
    "binary logits": (
        (
            ("BinaryCrossentropy", {"from_logits": True}),
            ("BinaryFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}),
        ),
        ("linear",),
        (("BinaryAccuracy", {"threshold": 0.0}), ("AUC", {"from_logits": True}), "mse"),
    ),
    "one-hot": (
        (
            "categorical_crossentropy", "kl_divergence", "categorical_hinge",
            ("CategoricalCrossentropy", {"label_smoothing": 0.1}),
            ("CategoricalFocalCrossentropy", {"alpha": 0.5, "gamma": 1.0}),
        ),
        ("softmax",),
        DENSE_METRICS,
    ),
    "one-hot logits": (
        (
            ("CategoricalCrossentropy", {"from_logits": True}),
            ("CategoricalFocalCrossentropy", {"from_logits": True}),
        ),
        ("linear",),
        ("categorical_accuracy", "mse"),
    ),
    "class": (
        (
            "sparse_categorical_crossentropy",
            ("SparseCategoricalCrossentropy", {"ignore_class": 1}),
        ),
        ("softmax",),
        SPARSE_METRICS,
    ),
    "class logits": (
        (("SparseCategoricalCrossentropy", {"from_logits": True}),),
        ("linear",),
        ("sparse_categorical_accuracy",),
    ),
}  # fmt: skip


def targets(rng, kind, shape):
    kind = kind.removesuffix(" logits")
    if kind == "real":
        return normal(rng, *shape)
    if kind == "positive":
        return rng.uniform(0.2, 2, shape).astype(np.float32)
    if kind == "binary":
        return rng.integers(0, 2, shape).astype(np.float32)
    labels = rng.integers(0, shape[-1], shape[:-1]).astype(np.int32)
    return labels if kind == "class" else np.eye(shape[-1], dtype=np.float32)[labels]


def sample_weights(rng, batch, timesteps):
    """None, one a sample, or (if there are time steps in the output) one a time step.

    For a sequence Keras wants (batch, 1), not (batch,) (test_differences.py)."""
    form = pick(rng, ("none", "none", "sample", "temporal"))
    if form == "none" or (form == "temporal" and timesteps is None):
        return None
    shape = (batch,) if timesteps is None else (batch, 1 if form == "sample" else timesteps)
    return rng.uniform(0, 2, shape).astype(np.float32)


def middle(rng, timesteps):
    """A layer from sequences to sequences."""
    kind = pick(rng, ("recurrent",) * 4 + ("bidirectional",) * 3 + ("dense", "shared", "other"))
    if kind == "recurrent":
        return recurrent(rng, timesteps=timesteps, return_sequences=True)
    if kind == "bidirectional":
        return bidirectional(rng, timesteps=timesteps, return_sequences=True)
    if kind == "dense":
        return dense(rng, pick(rng, BOUNDED))
    if kind == "shared":
        return "TimeDistributed", {"layer": dense(rng, pick(rng, BOUNDED))}
    return pick(
        rng,
        (
            ("BatchNormalization", {"momentum": 0.8, "epsilon": 0.01}),
            ("TimeDistributed", {"layer": ("Activation", {"activation": "tanh"})}),
            ("Activation", {"activation": pick(rng, BOUNDED)}),
            ("Dropout", {"rate": 0.0}),
        ),
    )


def dense(rng, activation, units=None):
    units = units or between(rng, 1, 20)
    return "Dense", {
        "units": units,
        "activation": activation,
        "use_bias": chance(rng, 0.9),
        **penalties(rng, 0.1),
    }


def stack(rng):
    """(config, x, y, sample_weight): layers from a random front to a head for a random task."""
    batch, timesteps, features = size_of_sequence(rng)
    timesteps = min(timesteps, pick(rng, (4, 8, 30)))
    front = pick(rng, ("plain", "masking", "masking", "embedding", "masked embedding", "nested"))
    form, kept = mask(rng, batch, timesteps)
    layers = []
    if front == "plain":
        x = normal(rng, batch, timesteps, features)
    elif front == "masking":
        value = pick(rng, (0.0, -1.0, 0.5))
        x = np.where(kept[..., None], normal(rng, batch, timesteps, features), np.float32(value))
        layers.append(("Masking", {"mask_value": value}))
    elif front == "nested":  # sequences of short sequences
        inner, features = between(rng, 1, 4), min(features, 10)
        x = normal(rng, batch, timesteps, inner, features)
        options = {"timesteps": inner, "return_sequences": False, "activity_regularizer": None}
        layer = pick(rng, (recurrent, bidirectional))(rng, **options)
        layers.append(("TimeDistributed", {"layer": layer}))
    else:
        count = between(rng, 2, 40)
        x = np.where(kept, rng.integers(1, count, (batch, timesteps)), 0).astype(np.int32)
        options = {"input_dim": count, "output_dim": between(rng, 1, 20)}
        options["mask_zero"] = front == "masked embedding"
        if chance(rng, 0.2):
            options["embeddings_regularizer"] = pick(rng, REGULARIZERS)
        if chance(rng, 0.2):
            options["embeddings_constraint"] = pick(rng, CONSTRAINTS)
        layers.append(("Embedding", options))
    layers += [middle(rng, timesteps) for _ in range(pick(rng, (0, 0, 1, 1, 2)))]
    kind = pick(rng, list(TASKS))
    losses, activations, metrics = TASKS[kind]
    end = pick(rng, ("last", "sequence", "sequence", "decoder"))
    out_steps = None if end == "last" else timesteps
    last = pick(rng, (recurrent, recurrent, bidirectional))
    layers.append(last(rng, timesteps=timesteps, return_sequences=end == "sequence"))
    if end == "decoder":
        out_steps = between(rng, 1, 4)
        layers.append(("RepeatVector", {"n": out_steps}))
        layers.append(recurrent(rng, timesteps=out_steps, return_sequences=True))
    classes = between(rng, 2, 6) if kind.startswith(("one-hot", "class")) else between(rng, 1, 4)
    head = dense(rng, pick(rng, activations), classes)
    if end != "last" and chance(rng, 0.5):
        head = "TimeDistributed", {"layer": head}
    layers.append(head)
    shape = (batch, classes) if out_steps is None else (batch, out_steps, classes)
    if classes == 1:  # the cosine of single numbers has no gradient
        losses = [loss for loss in losses if "osine" not in str(loss)]
    loss = pick(rng, losses)
    if not isinstance(loss, str) and chance(rng, 0.3):
        loss = loss[0], {**loss[1], "reduction": pick(rng, SUM_LOSSES)}
    config = {
        "input": x.shape[1:],
        "layers": layers,
        "mask": form if front.startswith("mask") else None,
        "task": kind,
        "loss": loss,
        "metrics": some(rng, metrics),
        "weighted_metrics": some(rng, metrics) if chance(rng, 0.4) else [],
        "optimizer": optimizer(rng),
        "batch_size": between(rng, max(1, batch // 4), batch),
    }
    return config, x, targets(rng, kind, shape), sample_weights(rng, batch, out_steps)


def some(rng, choices):
    """One or two of the choices, in their order."""
    numbers = {between(rng, 0, len(choices) - 1) for _ in range(2)}
    return [named(choices[i]) for i in sorted(numbers)]


def named(metric):
    """With a name of its own: Keras numbers those without through the whole process."""
    if isinstance(metric, str):
        return metric
    return metric[0], {**metric[1], "name": metric[0].lower()}
