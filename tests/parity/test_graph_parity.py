"""Random graphs of layers, beside Keras's: the numbers, the order of layers, steps of training, and
files; dicts of arrays; summaries."""

import re

import numpy as np
import pytest
from random_graphs import (
    KINDS,
    NOT_FROM_ONNX,
    OF_FIXED_STEPS,
    OPERATIONS,
    STEPS,
    UNITS,
    WITH_MODELS,
    Program,
    data,
)

import fastrnn

keras = pytest.importorskip("keras", reason="compares with Keras itself")

pytestmark = [
    # Keras takes a list of one array for one, and says so; saves TensorFlow's variables.
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs` doesn't match"),
    pytest.mark.filterwarnings("ignore:(?s).*does not support masking"),
    pytest.mark.filterwarnings("ignore:(?s)Gradients do not exist for variables"),
    pytest.mark.filterwarnings("ignore:The model does not have any trainable weights"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist"),
]


def as_list(outputs):
    return [np.asarray(part) for part in (outputs if isinstance(outputs, list) else [outputs])]


def outputs_of(model, x):
    return as_list(model(x, training=False))


def close(ours, theirs, what, tolerance=3e-5):
    """The largest deviation, relative to numbers above 1."""
    largest = 0.0
    for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        scale = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(
            one, other, rtol=0, atol=tolerance * scale, err_msg=f"{what} {place}"
        )
        largest = max(largest, float(np.abs(one - other).max()) / scale)
    return largest


def layers_of(model):
    return [
        type(layer).__name__
        for layer in model.layers
        if type(layer).__name__ in fastrnn.layers.CLASSES and type(layer).__name__ != "InputLayer"
    ]


def test_random_graphs(random_graph, tmp_path, tally):
    def compare(ours, theirs, what, tolerance=3e-5):
        tally.deviation(
            f"{what} of random graphs", close(ours, theirs, what, tolerance), random_graph
        )

    program = Program(random_graph)
    (theirs, kinds), (ours, _) = program.build(keras), program.build(fastrnn)
    assert layers_of(ours) == layers_of(theirs)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    ours.set_weights(theirs.get_weights())
    rng = np.random.default_rng(random_graph)
    x = data(rng, kinds)
    expected = outputs_of(theirs, x)
    compare(as_list(ours.predict(x, verbose=0)), expected, "prediction")
    compare(outputs_of(ours, x), expected, "output")
    y = [rng.normal(size=part.shape).astype(np.float32) for part in expected]
    for library, model in ((keras, theirs), (fastrnn, ours)):
        optimizer = library.optimizers.SGD(0.02, momentum=0.9)
        model.compile(optimizer, ["mse"] * len(y), run_eagerly=True)

    def losses(*models):  # Keras has one entry for all outputs of a layer
        logs = [model.train_on_batch(x, y, return_dict=True) for model in models]
        return [[np.asarray(log["loss"])] for log in logs]

    for _ in range(3):
        compare(*losses(ours, theirs), "loss")
    compare(ours.get_weights(), theirs.get_weights(), "weight", 1e-4)
    tally.compared("random graphs")
    path = str(tmp_path / "model.keras")
    theirs.save(path)
    again = fastrnn.models.load_model(path)
    compare(outputs_of(again, x), outputs_of(theirs, x), "loaded output")
    ours.save(path)
    back = keras.models.load_model(path)
    compare(outputs_of(ours, x), outputs_of(back, x), "output loaded by Keras")
    back.run_eagerly = True
    compare(*losses(again, back), "loss after loading", 1e-3)
    if program.names() & OPERATIONS:
        return  # Keras reads none from .h5
    path = str(tmp_path / "model.h5")
    theirs.save(path)
    again = fastrnn.models.load_model(path, compile=False)
    compare(outputs_of(again, x), outputs_of(theirs, x), "output loaded from .h5")
    try:
        keras.models.load_model(path, compile=False)
    except (TypeError, ValueError):
        return  # nor masks, nor Attention: its own file
    ours.save(path)
    back = keras.models.load_model(path, compile=False)
    compare(outputs_of(ours, x), outputs_of(back, x), "output that Keras loads from .h5")


def test_order_in_which_calls_of_one_layer_change_its_state():
    def made(library):
        layers = library.layers
        one, other = library.Input((STEPS, UNITS)), library.Input((STEPS, UNITS))
        shared = layers.BatchNormalization(momentum=0.5)
        outputs = [shared(one), layers.Dense(2)(shared(layers.Dense(UNITS)(other)))]
        return library.Model([one, other], outputs)

    theirs, ours, rng = made(keras), made(fastrnn), np.random.default_rng(0)
    ours.set_weights(theirs.get_weights())
    x = [rng.normal(size=(6, STEPS, UNITS)).astype(np.float32) for _ in range(2)]
    for model in (ours, theirs):
        model.compile("sgd", ["mse", "mse"], run_eagerly=True)
        model.train_on_batch(x, [np.zeros((6, STEPS, n), np.float32) for n in (UNITS, 2)])
    close(ours.get_weights(), theirs.get_weights(), "weight")


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_dicts_of_arrays(ending, tmp_path):
    """Names of logs, losses and metrics by key, files both ways."""

    def made(library):
        layers = library.layers
        first, second = library.Input((6, 3), name="first"), library.Input((2,), name="second")
        x = layers.Concatenate()([layers.GRU(4)(first), second])
        outputs = {
            "up": layers.Dense(2, name="one")(x),
            "down": layers.Dense(1, name="other")(x),
        }
        model = library.Model({"second": second, "first": first}, outputs)
        model.compile(
            "sgd", {"up": "mean_squared_error", "down": "mean_absolute_error"},
            loss_weights={"up": 0.5, "down": 2.0}, metrics={"up": ["mse", "mae"], "down": ["mse"]},
            weighted_metrics={"up": ["mae"]}, run_eagerly=True,
        )  # fmt: skip
        return model

    def same(one, other):
        assert [*one] == [*other] == ["up", "down"]
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=2e-5)

    rng = np.random.default_rng(0)
    x = {"first": rng.normal(size=(5, 6, 3)), "second": rng.normal(size=(5, 2))}
    x = {name: value.astype(np.float32) for name, value in x.items()}
    y = {"up": rng.normal(size=(5, 2)), "down": rng.normal(size=(5, 1))}
    y = {name: value.astype(np.float32) for name, value in y.items()}
    weight = {name: rng.random(5).astype(np.float32) for name in y}
    ours, theirs = made(fastrnn), made(keras)
    ours.set_weights(theirs.get_weights())
    for part in ("input_layers", "output_layers"):
        assert [*ours.get_config()[part].items()] == [*theirs.get_config()[part].items()]
    assert ours.output_names == theirs.output_names
    same(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))
    for _ in range(3):
        results = [model.train_on_batch(x, y, weight, return_dict=True) for model in (ours, theirs)]
        assert {*results[0]} == {*results[1]}
        for name, value in results[0].items():
            np.testing.assert_allclose(value, results[1][name], rtol=1e-4)
    path = str(tmp_path / f"model{ending}")
    theirs.save(path)
    for again in (fastrnn.models.load_model(path), fastrnn.from_keras(theirs)):
        same(again.predict(x, verbose=0), theirs.predict(x, verbose=0))
        found = again.evaluate(x, y, return_dict=True, verbose=0)
        expected = theirs.evaluate(x, y, return_dict=True, verbose=0)
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    ours.save(path)
    back = keras.models.load_model(path)
    same(back.predict(x, verbose=0), ours.predict(x, verbose=0))
    outer = ours({"first": fastrnn.Input((6, 3)), "second": fastrnn.Input((2,))})
    assert [*outer] == ["up", "down"]
    within = fastrnn.Input((6, 3)), fastrnn.Input((2,))
    outer = fastrnn.Model([*within], ours({"first": within[0], "second": within[1]}))
    outer.save(path)
    back = keras.models.load_model(path)
    same(back.predict([x["first"], x["second"]], verbose=0), ours.predict(x, verbose=0))


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_in_onnx(seed, tally):
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs what to_onnx writes")
    ours, kinds = Program(seed, KINDS.keys() - OF_FIXED_STEPS - NOT_FROM_ONNX).build(
        fastrnn, steps=None
    )
    rng = np.random.default_rng(seed)
    ours.set_weights([rng.normal(size=w.shape) / 2 for w in ours.weights])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = fastrnn.to_onnx(ours).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    back = fastrnn.from_onnx(content).to_model()
    names = [entry.name for entry in session.get_inputs()]
    for samples, steps in ((1, 1), (5, 4), (2, 7)):
        x = data(rng, kinds, samples, steps)
        expected = as_list(ours.predict(x, verbose=0))
        close(session.run(None, dict(zip(names, x, strict=True))), expected, "output in ONNX")
        close(as_list(back.predict(x, verbose=0)), expected, "output of the model from ONNX")
    tally.compared("ONNX files of random graphs")


def test_summaries(monkeypatch):
    """The same cells, if not the same widths."""
    monkeypatch.setenv("COLUMNS", "500")
    compared = 0
    for seed in range(20):
        program = Program(seed, KINDS.keys() - OPERATIONS - WITH_MODELS)
        ours, theirs = (program.build(library)[0] for library in (fastrnn, keras))
        cells, totals = [], []
        for model in (ours, theirs):
            shown = []
            model.summary(print_fn=shown.append, line_length=400, show_trainable=True)
            shown = shown[0].replace("┃", "│").splitlines()
            rows = [[c.strip() for c in line.split("│")[1:-1]] for line in shown if line[0] == "│"]
            for row in rows:  # names count on from model to model
                row[0], row[3] = row[0].rpartition(" ")[2], re.sub(r"(_\d+)?\[", "[", row[3])
            cells.append(rows)
            totals.append(shown[-3:])
        if len(cells[0][0]) == 5 and ["(NotEqual)"] not in [row[:1] for row in cells[1]]:
            assert cells[0] == cells[1] and totals[0] == totals[1], seed
            compared += 1
    assert compared > 5


def test_order_of_results():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(9, STEPS, UNITS)).astype(np.float32)
    y = [rng.normal(size=(9, size)).astype(np.float32) for size in (2, 1)]
    weights, lists = None, []
    for library in (fastrnn, keras):
        inputs = library.Input((STEPS, UNITS))
        below = library.layers.LSTM(4)(inputs)
        model = library.Model(inputs, [library.layers.Dense(2, name="v")(below),
                                       library.layers.Dense(1, name="b")(below)])  # fmt: skip
        weights = weights or model.get_weights()
        model.set_weights(weights)
        model.compile("sgd", "huber", metrics=[["mse", "mae"], ["mae"]])
        lists.append(model.evaluate(x, y, verbose=0))
        lists.append(model.train_on_batch(x, y))
        if library is fastrnn:
            results = model.test_on_batch(x, y, return_dict=True)
            assert list(results) == model.metrics_names
    for found, expected in zip(lists[:2], lists[2:], strict=True):
        assert len(found) == 6
        np.testing.assert_allclose(found, expected, rtol=1e-5)
