"""What Keras answered (fixtures/make_fixtures.py says how) against the reference and fastrnn."""

import copy
import functools
import importlib
import json
import pathlib
import re

import numpy as np
import oracle
import pytest

pytestmark = pytest.mark.filterwarnings("ignore:.*mask")  # a layer that drops it may warn

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
FILE = json.loads((FIXTURES / "keras.json").read_text())
MODELS, CASES = FILE["models"], FILE["cases"]


@functools.cache
def archive():
    with np.load(FIXTURES / "keras.npz", allow_pickle=False) as file:
        return dict(file)


def unpack(key, shapes, integers=()):
    """The named arrays that lie end to end in one flat array."""
    flat, start, arrays = archive()[key], 0, {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        arrays[name] = flat[start : start + size].reshape(shape)
        if name in integers:
            arrays[name] = arrays[name].astype(np.int32)
        start += size
    if start != flat.size:
        raise ValueError(f"{key}: expected {start} numbers, received {flat.size}")
    return arrays


def load(case):
    return unpack(f"case/{case}", CASES[case]["shapes"], CASES[case]["integers"])


def load_weights(model):
    return list(unpack(f"model/{model}", dict(enumerate(MODELS[model]["weights"]))).values())


def numbered(arrays, prefix):
    return [a for name, a in arrays.items() if name.split("/")[0] == prefix]


def ids(kind, *keys):
    return [c for c, e in CASES.items() if e["kind"] == kind and all(k in e for k in keys)]


def all_close(actual, expected, rtol=1e-5, atol=1e-5):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=rtol, atol=atol)


def gradients_close(actual, expected, tolerance):
    """Within `tolerance` of the largest of the array, or of a tiny part of the largest of all."""
    assert len(actual) == len(expected)
    floor = 1e-2 * max((abs(e).max() for e in expected if e.size), default=0.0)
    for a, e in zip(actual, expected, strict=True):
        assert np.shape(a) == e.shape
        limit = tolerance * max(abs(e).max(initial=0.0), floor) + 1e-9
        np.testing.assert_allclose(np.asarray(a), e, rtol=0.0, atol=limit)


def updates_close(actual, expected, initial, tolerance):
    """Weights after training: `tolerance` is relative to how far the array has moved."""
    assert len(actual) == len(expected)
    for a, e, w in zip(actual, expected, initial, strict=True):
        limit = tolerance * abs(e - w).max(initial=0.0) + 1e-6
        np.testing.assert_allclose(np.asarray(a), e, rtol=1e-6, atol=limit)


# The reference


def oracle_loss(loss, arrays):
    """Name and options of a loss in the reference."""
    name, options = (loss, {}) if isinstance(loss, str) else loss
    if name == "crossentropy":
        classes = arrays["output"].shape[-1]
        sparse = arrays["y"].ndim < arrays["output"].ndim
        name = "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"
        name = "binary_crossentropy" if classes == 1 else name
    if name == "KLDivergence":
        name = "kl_divergence"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(), options


def oracle_model(case):
    model = CASES[case]["model"]
    return oracle.Sequential(MODELS[model]["config"], load_weights(model))


@pytest.mark.parametrize("case", ids("model"))
def test_oracle_output(case):
    arrays, model = load(case), oracle_model(case)
    output = model.forward(arrays["x"])
    if isinstance(output, tuple):
        for actual, expected in zip(output, numbered(arrays, "output"), strict=True):
            all_close(actual, expected)
    else:
        all_close(output, arrays["output"])
    if "output_training" in arrays:
        all_close(model.forward(arrays["x"], training=True), arrays["output_training"])


@pytest.mark.parametrize("case", ids("model", "loss_value"))
def test_oracle_gradients(case):
    entry, arrays, model = CASES[case], load(case), oracle_model(case)
    loss, options = oracle_loss(entry["loss"], arrays)
    options = {"sample_weight": arrays.get("sample_weight"), **options}
    value, gradients, dx = model.loss_and_gradients(arrays["x"], arrays["y"], loss, **options)
    np.testing.assert_allclose(value, entry["loss_value"], rtol=1e-5, atol=1e-6)
    gradients_close(gradients, numbered(arrays, "gradient"), 1e-5)
    if "dx" in arrays:
        gradients_close([dx], [arrays["dx"]], 1e-5)


@pytest.mark.parametrize("case", ids("model", "optimizer"))
def test_oracle_updates(case):
    entry, arrays, model = CASES[case], load(case), oracle_model(case)
    loss, options = oracle_loss(entry["loss"], arrays)
    options = {"sample_weight": arrays.get("sample_weight"), **options}
    initial = model.weights.copy()
    for _ in range(3):
        model.train_step(arrays["x"], arrays["y"], loss, entry["optimizer"], **options)
    updates_close(model.weights, numbered(arrays, "updated"), initial, 1e-4)


@pytest.mark.parametrize("case", ids("stateful"))
def test_oracle_stateful(case):
    entry, arrays, model = CASES[case], load(case), oracle_model(case)
    initial = model.weights.copy()
    for i, (step, value) in enumerate(zip(entry["steps"], entry["losses"], strict=True)):
        if step == "reset":
            model.states.clear()
        elif step == "predict":
            all_close(model.forward(arrays[f"x/{i}"]), arrays[f"output/{i}"])
        else:
            loss = model.train_step(
                arrays[f"x/{i}"], arrays[f"y/{i}"], entry["loss"], entry["optimizer"]
            )
            np.testing.assert_allclose(loss, value, rtol=1e-5)
    updates_close(model.weights, numbered(arrays, "updated"), initial, 1e-4)


# fastrnn


@pytest.fixture
def fastrnn():
    return importlib.import_module("fastrnn")


def make(module, spec):
    if spec is None or isinstance(spec, str):
        return spec
    name, config = spec
    return getattr(module, name)(**config)


def fastrnn_model(fastrnn, case):
    """The model with its weights, compiled if the case has a loss."""
    entry = CASES[case]
    config = copy.deepcopy(MODELS[entry["model"]]["config"])
    input_shape = config["build_input_shape"]
    model = fastrnn.Sequential.from_config(config)
    if not model.built:
        model.build(input_shape)
    model.set_weights(load_weights(entry["model"]))
    if "loss" in entry:
        metrics, weighted = entry.get("metrics"), entry.get("weighted_metrics")
        model.compile(
            optimizer=make(fastrnn.optimizers, entry.get("optimizer", "sgd")),
            loss=make(fastrnn.losses, entry["loss"]),
            metrics=metrics and [make(fastrnn.metrics, m) for m in metrics],
            weighted_metrics=weighted and [make(fastrnn.metrics, m) for m in weighted],
        )
    return model


@pytest.mark.parametrize("case", ids("model"))
def test_output(case, fastrnn):
    arrays, model = load(case), fastrnn_model(fastrnn, case)
    output = model.predict(arrays["x"], verbose=0)
    if isinstance(output, (list, tuple)):
        for actual, expected in zip(output, numbered(arrays, "output"), strict=True):
            all_close(actual, expected)
    else:
        all_close(output, arrays["output"])
        all_close(model.predict(arrays["x"], batch_size=2, verbose=0), arrays["output"])


@pytest.mark.parametrize("case", ids("model", "loss_value"))
def test_gradients(case, fastrnn):
    entry, arrays, model = CASES[case], load(case), fastrnn_model(fastrnn, case)
    training = importlib.import_module("fastrnn.training")
    value, gradients, dx = training.loss_and_gradients(
        model, arrays["x"], arrays["y"], sample_weight=arrays.get("sample_weight")
    )
    np.testing.assert_allclose(value, entry["loss_value"], rtol=1e-5, atol=1e-6)
    gradients_close(gradients, numbered(arrays, "gradient"), 1e-4)
    if "dx" in arrays:
        gradients_close([dx], [arrays["dx"]], 1e-4)


@pytest.mark.parametrize("case", ids("model", "optimizer"))
def test_updates(case, fastrnn):
    arrays, model = load(case), fastrnn_model(fastrnn, case)
    initial = load_weights(CASES[case]["model"])
    for _ in range(3):
        model.train_on_batch(arrays["x"], arrays["y"], sample_weight=arrays.get("sample_weight"))
    updates_close(model.get_weights(), numbered(arrays, "updated"), initial, 1e-3)


@pytest.mark.parametrize("case", ids("model", "results"))
def test_metrics(case, fastrnn):
    entry, arrays, model = CASES[case], load(case), fastrnn_model(fastrnn, case)
    results = model.evaluate(
        arrays["x"],
        arrays["y"],
        sample_weight=arrays.get("sample_weight"),
        batch_size=entry["batch_size"],
        verbose=0,
        return_dict=True,
    )
    assert set(results) == set(entry["results"])
    for name, expected in entry["results"].items():
        np.testing.assert_allclose(
            np.asarray(results[name]), expected, rtol=1e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("case", ids("stateful"))
def test_stateful(case, fastrnn):
    entry, arrays, model = CASES[case], load(case), fastrnn_model(fastrnn, case)
    initial = load_weights(entry["model"])
    for i, (step, value) in enumerate(zip(entry["steps"], entry["losses"], strict=True)):
        if step == "reset":
            for layer in model.layers:
                if getattr(layer, "stateful", False):
                    layer.reset_state()
        elif step == "predict":
            x = arrays[f"x/{i}"]
            all_close(model.predict(x, batch_size=len(x), verbose=0), arrays[f"output/{i}"])
        else:
            loss = model.train_on_batch(arrays[f"x/{i}"], arrays[f"y/{i}"])
            np.testing.assert_allclose(loss, value, rtol=1e-5)
    updates_close(model.get_weights(), numbered(arrays, "updated"), initial, 1e-3)


@pytest.mark.parametrize("case", ids("mean"))
def test_mean(case, fastrnn):
    arrays, metric = load(case), fastrnn.metrics.Mean()
    weights = numbered(arrays, "weights")
    for i, values in enumerate(numbered(arrays, "values")):
        metric.update_state(values, sample_weight=weights[i] if weights else None)
    np.testing.assert_allclose(np.asarray(metric.result()), CASES[case]["result"], rtol=1e-5)
