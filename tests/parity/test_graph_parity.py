"""Random graphs of layers, beside Keras's: shared layers, several inputs and outputs, initial
states, masks through merges; the numbers, the order of layers, steps of training, and files."""

import re

import numpy as np
import pytest

import fastrnn

keras = pytest.importorskip("keras", reason="compares with Keras itself")

pytestmark = [
    # Keras takes a list of one array for one, and says so; saves TensorFlow's variables.
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs` doesn't match"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
]

GRAPHS = 60
UNITS = 3
STEPS = 5


def program(seed):
    """(instructions, outputs) of a random graph: each instruction (kind, options, inputs) gives one
    more tensor; inputs are numbers of tensors. kinds of tensors: a sequence of UNITS features, a
    vector of them, or whole numbers (word)."""
    rng = np.random.default_rng(seed)
    kinds, instructions, readers, masked = [], [], [], []

    def add(kind, name, options=(), inputs=(), shared=None):
        below = [masked[place] for place in inputs]
        mask = dict(options).get("mask_zero", bool(below) and all(below))
        masked.append(mask and kind == "sequence")
        instructions.append((name, dict(options), tuple(inputs), shared))
        for place in inputs:
            readers[place] += 1
        kinds.append(kind)
        readers.append(0)
        return len(kinds) - 1

    def some(kind):
        found = [place for place, k in enumerate(kinds) if k == kind]
        return int(rng.choice(found)) if found else None

    for _ in range(rng.integers(1, 4)):
        kind = str(rng.choice(["sequence", "sequence", "vector", "word"]))
        place = add(kind, f"input {kind}")
        if kind == "word":
            add("sequence", "Embedding", {"mask_zero": bool(rng.integers(2))}, [place])
    if some("sequence") is None:
        add("sequence", "input sequence")
    for _ in range(rng.integers(3, 9)):
        one, other, vector = some("sequence"), some("sequence"), some("vector")
        choice = rng.integers(11)
        if choice == 0:
            add("sequence", "LSTM", {"return_sequences": True}, [one])
        elif choice == 1:
            add("vector", "GRU", {"reset_after": bool(rng.integers(2))}, [one])
        elif choice == 2:
            add("sequence", "both ways", {"merge_mode": str(rng.choice(["sum", "ave"]))}, [one])
        elif choice == 3:
            add("sequence", "Dense", {"activation": "tanh"}, [one], int(rng.integers(2)))
        elif choice == 4 and vector is not None:
            add("vector", "Dense", {"activation": "softsign"}, [vector], 2 + int(rng.integers(2)))
        elif choice == 5:
            add("sequence", "Add", {}, [one, other])
        elif choice == 6 and vector is not None and not masked[one]:  # Keras ignores its mask
            add("sequence", "GRU from", {"return_sequences": True}, [one, vector])
        elif choice == 7:
            add("vector", "Concatenate and project", {}, [p for p in (vector, some("vector")) if p])
        elif choice == 8:
            add("vector", "pool", {}, [one])
        elif choice == 9:
            add("sequence", "shared SimpleRNN", {"return_sequences": True}, [one], 4)
        elif choice == 10:
            add("sequence", "LayerNormalization", {}, [one])
        if instructions[-1][0] == "Concatenate and project" and not instructions[-1][2]:
            instructions.pop(), kinds.pop(), readers.pop(), masked.pop()
    ends = [
        p for p, n in enumerate(readers) if not n and not instructions[p][0].startswith("input")
    ]
    return instructions, [int(e) for e in ends[-3:]] or [len(kinds) - 1]


def built(library, instructions, outputs, steps=STEPS):
    """The library's model of a program."""
    layers, tensors, shared, inputs = library.layers, [], {}, []
    for number, (name, options, places, key) in enumerate(instructions):
        given = [tensors[place] for place in places]
        if name.startswith("input"):
            shape = {"sequence": (steps, UNITS), "vector": (UNITS,), "word": (steps,)}[name[6:]]
            dtype = "int32" if name == "input word" else "float32"
            tensors.append(library.Input(shape, dtype=dtype, name=f"t{number}"))
            inputs.append(number)
            continue
        make = {
            "Embedding": lambda o: layers.Embedding(7, UNITS, **o),
            "LSTM": lambda o: layers.LSTM(UNITS, **o),
            "GRU": lambda o: layers.GRU(UNITS, **o),
            "GRU from": lambda o: layers.GRU(UNITS, **o),
            "shared SimpleRNN": lambda o: layers.SimpleRNN(UNITS, **o),
            "both ways": lambda o: layers.Bidirectional(
                layers.LSTM(UNITS, return_sequences=True), **o
            ),
            "Dense": lambda o: layers.Dense(UNITS, **o),
            "Add": lambda o: layers.Add(),
            "Concatenate and project": lambda o: layers.Dense(UNITS),
            "pool": lambda o: layers.GlobalAveragePooling1D(),
            "LayerNormalization": lambda o: layers.LayerNormalization(),
        }[name]
        if key is not None and (name, key) in shared:
            layer = shared[name, key]
        else:
            layer = shared[name, key] = make(options)
        if name == "GRU from":
            tensors.append(layer(given[0], initial_state=[given[1]]))
        elif name == "Concatenate and project":
            joined = layers.Concatenate()(given) if len(given) > 1 else given[0]
            tensors.append(layer(joined))
        else:
            tensors.append(layer(given if name == "Add" else given[0]))
    read = {place for _, _, places, _ in instructions for place in places}
    needed = _reached(instructions, outputs)
    kept = [place for place in inputs if place in needed]
    assert read
    model = library.Model([tensors[p] for p in kept], [tensors[p] for p in outputs])
    return model, [instructions[p][0][6:] for p in kept]


def _reached(instructions, outputs):
    found, pending = set(), list(outputs)
    while pending:
        place = pending.pop()
        if place not in found:
            found.add(place)
            pending += instructions[place][2]
    return found


def data(rng, kinds, samples=6, steps=STEPS):
    makers = {
        "sequence": lambda: rng.normal(size=(samples, steps, UNITS)).astype(np.float32),
        "vector": lambda: rng.normal(size=(samples, UNITS)).astype(np.float32),
        "word": lambda: np.sort(rng.integers(0, 7, (samples, steps)))[:, ::-1].astype(np.int32),
    }
    return [makers[kind]() for kind in kinds]


def as_list(outputs):
    return [np.asarray(part) for part in (outputs if isinstance(outputs, list) else [outputs])]


def outputs_of(model, x):
    return as_list(model(x, training=False))


def close(ours, theirs, what, tolerance=3e-5):
    for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        scale = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(
            one, other, rtol=0, atol=tolerance * scale, err_msg=f"{what} {place}"
        )


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_random_graphs(seed, tmp_path, tally):
    instructions, outputs = program(seed)
    theirs, kinds = built(keras, instructions, outputs)
    ours, _ = built(fastrnn, instructions, outputs)
    assert [type(la).__name__ for la in ours.layers if not hasattr(la, "batch_shape")] == [
        type(la).__name__ for la in theirs.layers if type(la).__name__ in fastrnn.layers.CLASSES
        and type(la).__name__ != "InputLayer"
    ]  # fmt: skip
    ours.set_weights(theirs.get_weights())
    rng = np.random.default_rng(seed)
    x = data(rng, kinds)
    close(as_list(ours.predict(x, verbose=0)), outputs_of(ours, x), "prediction")
    expected = outputs_of(theirs, x)
    close(outputs_of(ours, x), expected, "output")
    y = [rng.normal(size=part.shape).astype(np.float32) for part in expected]
    for library, model in ((keras, theirs), (fastrnn, ours)):
        optimizer = library.optimizers.SGD(0.05, momentum=0.9)
        model.compile(optimizer, ["mse"] * len(y), run_eagerly=True)
    for _ in range(3):
        close([ours.train_on_batch(x, y)], [theirs.train_on_batch(x, y)], "losses")
    close(ours.get_weights(), theirs.get_weights(), "weight", 1e-4)
    tally.compared("random graphs")
    if seed % 4 == 0:
        path = str(tmp_path / "model.keras")
        theirs.save(path)
        again = fastrnn.models.load_model(path)
        close(outputs_of(again, x), outputs_of(theirs, x), "loaded output")
        ours.save(path)
        back = keras.models.load_model(path)
        close(outputs_of(ours, x), outputs_of(back, x), "output loaded by Keras")
        back.run_eagerly = True
        close([again.train_on_batch(x, y)], [back.train_on_batch(x, y)], "loss after loading", 1e-3)


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


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_random_graphs_in_onnx(seed, tally):
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs what to_onnx writes")
    ours, kinds = built(fastrnn, *program(seed), steps=None)
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
        instructions, outputs = program(seed)
        ours, theirs = (built(library, instructions, outputs)[0] for library in (fastrnn, keras))
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
