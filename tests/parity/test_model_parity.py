"""Whole models: predict, loss, gradients, evaluate, some steps of an optimizer."""

import comparison
import configurations as random_of
import numpy as np
import pytest
from comparison import floatx, keras

import fastrnn

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*mask"),  # a layer that drops it
    pytest.mark.filterwarnings("ignore:.*softmax over axis"),
]

SEED = 2_000_000
COUNT = 220
STEPS = 3


def make(library, config, weights):
    """A compiled model."""
    dtype = "int32" if config["layers"][0][0] == "Embedding" else None
    batch_shape = config.get("batch") or (None, *config["input"])
    shape = library.Input(batch_shape=batch_shape, dtype=dtype)
    layers = [random_of.build(library, layer) for layer in config["layers"]]
    model = library.Sequential([shape, *layers])
    if weights is not None:
        model.set_weights(weights)
    name, options = config["optimizer"]
    rate = options["learning_rate"]
    if isinstance(rate, tuple):
        schedules = library.optimizers.schedules
        options = {**options, "learning_rate": getattr(schedules, rate[0])(**rate[1])}
    optimizer = getattr(library.optimizers, name)(**options)
    if library is keras:
        optimizer = comparison.summing_gradients(optimizer)
    model.compile(
        optimizer,
        comparison.from_spec(library, "losses", config["loss"]),
        metrics=comparison.objects(library, "metrics", config["metrics"]),
        weighted_metrics=comparison.objects(library, "metrics", config["weighted_metrics"]),
        run_eagerly=True,
    )
    return model


def draw(seed):
    """(config, weights, x, y, sample_weight)"""
    rng = np.random.default_rng(seed)
    config, *arrays = random_of.stack(rng)
    model = make(fastrnn, config, None)
    weights = [random_of.random_weight(rng, w.path, w.shape) for w in model.weights]
    return config, weights, *arrays


def results(library, config, weights, x, y, sample_weight):
    model = make(library, config, weights)
    output = model.predict(x, batch_size=config["batch_size"], verbose=0)
    logs = model.evaluate(
        x, y, config["batch_size"], 0, sample_weight=sample_weight, return_dict=True
    )
    if library is keras:
        loss, gradients, dx = comparison.keras_loss_and_gradients(model, x, y, sample_weight)
    else:
        loss, gradients, dx = fastrnn.training.loss_and_gradients(model, x, y, sample_weight)
    model.set_weights(weights)
    losses = []
    for _ in range(STEPS):
        logs_of_step = model.train_on_batch(x, y, sample_weight=sample_weight, return_dict=True)
        losses.append(float(logs_of_step["loss"]))
    names = sorted(set(logs) - {"loss"})
    changes = [w - before for w, before in zip(model.get_weights(), weights, strict=True)]
    return names, {
        "output": [output],
        "loss": [loss, float(logs["loss"]), losses[0]],
        "metric": [np.asarray(logs[name], float) for name in names],
        "gradient of a weight": gradients,
        "gradient of the input": [] if dx is None else [dx],
        "weight after training": changes,
        "history": losses,
    }


def keras_results(config, weights, x, y, sample_weight, dtype="float32"):
    arrays = [
        a.astype(dtype) if a is not None and a.dtype.kind == "f" else a
        for a in (x, y, sample_weight)
    ]
    with floatx(dtype):
        return results(keras, config, weights, *arrays)


def exact_results(config, *data, expected):
    """Keras in float64, but for the metrics, some of which exist in float32 only."""
    without = {**config, "metrics": [], "weighted_metrics": []}
    _, exact = keras_results(without, *data, dtype="float64")
    return {**exact, "metric": expected["metric"]}


@pytest.mark.parametrize("seed", range(COUNT))
def test_model(seed, tally):
    config, weights, *data = draw(SEED + seed)
    names, actual = results(fastrnn, config, weights, *data)
    expected_names, expected = keras_results(config, weights, *data)
    assert names == expected_names, config
    comparison.agree(
        tally,
        "random model: predict, loss, gradients, evaluate, training",
        f"test_model[{seed}]",
        config,
        actual,
        expected,
        lambda: exact_results(config, weights, *data, expected=expected),
        lambda seed: exact_results(
            config, comparison.nudge(weights, seed), *data, expected=expected
        ),
    )
