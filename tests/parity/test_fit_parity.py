"""A whole short fit without shuffling: history, weights, then evaluate and predict; and stateful
layers over several batches."""

import comparison
import configurations as random_of
import numpy as np
import pytest
from comparison import floatx, keras
from test_model_parity import make

import fastrnn

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*mask"),
    pytest.mark.filterwarnings("ignore:.*softmax over axis"),
]

SEED = 3_000_000
FITS = 90
STATEFUL = 90


def draw(seed):
    rng = np.random.default_rng(SEED + seed)
    config, x, y, sample_weight = random_of.stack(rng)
    fit = {
        "epochs": random_of.between(rng, 1, 2),
        "batch_size": random_of.between(rng, max(1, len(x) // 3), len(x)),
        "shuffle": False,
        "verbose": 0,
    }
    held = random_of.pick(rng, ("none", "split", "data", "data"))
    config["validate_on_half"] = held == "data"
    labels = class_labels(config["task"], y)
    if labels is not None and sample_weight is None and random_of.chance(rng, 0.7):
        most = max(1, labels.max())  # the last class keeps a weight of 1
        fit["class_weight"] = {label: float(rng.uniform(0.2, 2)) for label in range(most)}
    of_steps = "class_weight" in fit and labels.ndim > 1
    if held == "split" and len(x) > 4 and not of_steps:
        fit["validation_split"] = 0.3
    if held != "none":
        fit["validation_batch_size"] = random_of.pick(rng, (None, None, 3))
        fit["validation_freq"] = random_of.pick(rng, (1, 1, 2))
    fit["initial_epoch"] = random_of.pick(rng, (0, 0, fit["epochs"] - 1))
    config["fit"] = fit
    model = make(fastrnn, config, None)
    weights = [random_of.random_weight(rng, w.path, w.shape) for w in model.weights]
    return config, weights, x, y, sample_weight


def class_labels(task, y):
    """The class of each sample or time step, where the targets are classes."""
    if task.startswith("class"):
        return y
    if task.startswith("one-hot"):
        return y.argmax(axis=-1)
    return y[..., 0].astype(int) if task.startswith("binary") and y.shape[-1] == 1 else None


def with_class_weights(library, config, y):
    """Options of fit. Keras refuses class weights for time steps (test_differences.py), and gets
    the weight of each step instead."""
    options = config["fit"]
    labels = class_labels(config["task"], y)
    if library is fastrnn or "class_weight" not in options or labels.ndim == 1:
        return options
    options = dict(options)
    weights = options.pop("class_weight")
    steps = [[weights.get(int(label), 1.0) for label in row] for row in labels]
    return {**options, "sample_weight": np.array(steps, np.float32)}


def fitted(library, config, weights, x, y, sample_weight):
    model = make(library, config, weights)
    half = None
    if config["validate_on_half"]:
        half = tuple(a[::2] for a in (x, y, sample_weight) if a is not None)
    options = {"sample_weight": sample_weight, **with_class_weights(library, config, y)}
    history = model.fit(x, y, validation_data=half, **options).history
    names = sorted(set(history))
    logs = model.evaluate(
        x, y, config["batch_size"], 0, sample_weight=sample_weight, return_dict=True
    )
    changes = [w - before for w, before in zip(model.get_weights(), weights, strict=True)]
    return names, {
        "history": [np.asarray(history[name], float) for name in names if name.endswith("loss")],
        "metric after training": [
            np.asarray(history[name], float) for name in names if "loss" not in name
        ],
        "weight after training": changes,
        "loss after training": [logs["loss"]],
        "output after training": [model.predict(x, batch_size=config["batch_size"], verbose=0)],
    }


def keras_fitted(config, *data, dtype="float32"):
    with floatx(dtype):
        return fitted(keras, config, *data)


def exact_fitted(config, weights, *data, expected):
    without = {**config, "metrics": [], "weighted_metrics": []}
    _, exact = keras_fitted(without, weights, *data, dtype="float64")
    return {**exact, "metric after training": expected["metric after training"]}


@pytest.mark.parametrize("seed", range(FITS))
def test_fit(seed, tally):
    config, weights, *data = draw(seed)
    names, actual = fitted(fastrnn, config, weights, *data)
    expected_names, expected = keras_fitted(config, weights, *data)
    assert names == expected_names, config
    comparison.agree(
        tally,
        "random model: fit with validation and class weights, evaluate, predict",
        f"test_fit[{seed}]",
        config,
        actual,
        expected,
        lambda: exact_fitted(config, weights, *data, expected=expected),
        lambda seed: exact_fitted(
            config, comparison.nudge(weights, seed), *data, expected=expected
        ),
    )


def draw_stateful(seed):
    """A model of stateful layers and what is done with it, one step after the other."""
    rng = np.random.default_rng(SEED + 500_000 + seed)
    batch, timesteps, features = random_of.size_of_sequence(rng)
    timesteps = min(timesteps, 8)
    layers = [("Masking", {"mask_value": 0.0})] if random_of.chance(rng, 0.5) else []
    count = random_of.between(rng, 1, 2)
    for i in range(count):
        kind = random_of.pick(
            rng, (random_of.recurrent, random_of.recurrent, random_of.bidirectional)
        )
        options = {"stateful": True, "zero_output_for_mask": False, "unroll": False}
        options["return_sequences"] = i < count - 1 or random_of.chance(rng, 0.5)
        layers.append(kind(rng, timesteps=30, **options))
    layers.append(random_of.dense(rng, "tanh"))
    config = {
        "batch": (batch, None, features),
        "layers": layers,
        "loss": "mse",
        "metrics": [],
        "weighted_metrics": [],
        "optimizer": ("SGD", {"learning_rate": 0.05}),
    }
    steps = []
    for _ in range(random_of.between(rng, 3, 6)):
        step = random_of.pick(rng, ("predict", "predict", "train", "reset"))
        length = random_of.between(rng, 1, timesteps)
        x = random_of.normal(rng, batch, length, features)
        _, kept = random_of.mask(rng, batch, length)
        if layers[0][0] == "Masking":
            x *= kept[..., None]
        steps.append((step, x))
    config["steps"] = [step for step, _ in steps]
    model = make(fastrnn, config, None)
    weights = [random_of.random_weight(rng, w.path, w.shape) for w in model.weights]
    targets = [random_of.normal(rng, *model.compute_output_shape(x.shape)) for _, x in steps]
    return config, weights, steps, targets


def stepped(library, config, weights, steps, targets):
    model = make(library, config, weights)
    outputs, losses = [], []
    for (step, x), y in zip(steps, targets, strict=True):
        if step == "predict":
            outputs.append(model.predict(x, batch_size=len(x), verbose=0))
        elif step == "train":
            losses.append(model.train_on_batch(x, y))
        else:
            for layer in model.layers:
                if getattr(layer, "stateful", False):
                    layer.reset_states()
    changes = [w - before for w, before in zip(model.get_weights(), weights, strict=True)]
    return {
        "output after training": outputs,
        "loss after training": [np.asarray(loss) for loss in losses],
        "weight after training": changes,
    }


def keras_stepped(*arguments, dtype="float32"):
    with floatx(dtype):
        return stepped(keras, *arguments)


@pytest.mark.parametrize("seed", range(STATEFUL))
def test_stateful(seed, tally):
    config, weights, *data = draw_stateful(seed)
    comparison.agree(
        tally,
        "random model: stateful over several batches, with resets",
        f"test_stateful[{seed}]",
        config,
        stepped(fastrnn, config, weights, *data),
        keras_stepped(config, weights, *data),
        lambda: keras_stepped(config, weights, *data, dtype="float64"),
        lambda seed: keras_stepped(config, comparison.nudge(weights, seed), *data, dtype="float64"),
    )
