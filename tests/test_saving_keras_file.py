"""Whole models to files and back: the same predictions, configs and training."""

import io
import json
import zipfile

import numpy as np
import pytest
from saving_examples import EXAMPLES, available, inputs, make

import fastrnn
from fastrnn import layers as L
from fastrnn.models import clone_model, load_model, model_from_json

ENDINGS = [".keras", ".h5"]


def trained(optimizer="adam", steps=2, **options):
    model = make(fastrnn, "LSTM")
    model.compile(optimizer, "mse", metrics=["mae"], **options)
    x, y = inputs("LSTM"), np.ones((4, 3), np.float32)
    fastrnn.utils.set_random_seed(1)
    for _ in range(steps):
        model.train_on_batch(x, y)
    return model, x, y


def test_every_layer_has_an_example():
    public = {c for c in vars(L).values() if isinstance(c, type) and issubclass(c, L.Layer)}
    assert public - {L.Layer, L.Wrapper} == set(L.CLASSES.values())
    several = {
        name
        for name, cls in L.CLASSES.items()
        if cls.__module__.rpartition(".")[2] in ("merging", "attention", "cells")
    }
    several |= {"Lambda"}  # whose function has to be handed over, see test_lambda.py
    assert {name.split()[0] for name in EXAMPLES} >= set(L.CLASSES) - several  # no chain has these


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", available(L))
def test_round_trip(name, ending, tmp_path):
    model, x = make(fastrnn, name), inputs(name)
    model.save(tmp_path / f"m{ending}")
    twin = load_model(tmp_path / f"m{ending}")
    assert twin.get_config() == model.get_config()
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))
    assert not twin.compiled


def test_same_model_same_bytes(tmp_path):
    model = make(fastrnn, "LSTM")
    for name in "ab":
        model.save(tmp_path / f"{name}.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd", {"class_name": "SGD", "config": {"momentum": 0.9, "nesterov": True}}, "rmsprop",
        {"class_name": "RMSprop", "config": {"centered": True, "momentum": 0.5}}, "adam",
        {"class_name": "Adam", "config": {"amsgrad": True, "clipnorm": 1.0}}, "adamw", "adamax",
        "nadam", "adagrad", "adadelta",
        {"class_name": "Adam", "config": {"use_ema": True, "gradient_accumulation_steps": 2}},
        {"class_name": "SGD", "config": {"learning_rate": {
            "class_name": "ExponentialDecay",
            "config": {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5}}}},
    ],
    ids=str,
)  # fmt: skip
def test_training_goes_on_where_it_stopped(optimizer, ending, tmp_path):
    model, x, y = trained(optimizer, steps=3)
    model.save(tmp_path / f"m{ending}")
    twin = load_model(tmp_path / f"m{ending}")
    assert twin.optimizer.iterations == model.optimizer.iterations > 0
    for _ in range(3):
        results = []
        for each in (model, twin):
            fastrnn.utils.set_random_seed(2)
            results.append(each.train_on_batch(x, y))
        assert results[0] == results[1]
    for ours, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_compile_arguments(tmp_path):
    model, x, y = trained(loss_weights=None, weighted_metrics=["mse"])
    model.save(tmp_path / "m.keras")
    twin = load_model(tmp_path / "m.keras")
    assert twin.evaluate(x, y, verbose=0, return_dict=True) == model.evaluate(
        x, y, verbose=0, return_dict=True
    )
    assert load_model(tmp_path / "m.keras", compile=False).compiled is False
    model.save(tmp_path / "without.keras", include_optimizer=False)
    assert load_model(tmp_path / "without.keras").compiled is False


def test_compiled_but_not_trained(tmp_path):
    model, _, _ = trained(steps=0)
    model.save(tmp_path / "m.keras")
    assert load_model(tmp_path / "m.keras").optimizer.iterations == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_cannot_be_saved_of_compile_does_not_lose_the_model(ending, tmp_path):
    model = make(fastrnn, "Dense")
    model.compile(fastrnn.optimizers.SGD(lambda: 0.1), "mse")
    with pytest.warns(UserWarning, match="without the arguments of compile.*learning_rate"):
        model.save(tmp_path / f"m{ending}")
    x = inputs("Dense")
    twin = load_model(tmp_path / f"m{ending}")
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))


class Twice(L.Layer):
    def forward(self, x, run, mask=None):
        return 2 * x

    def backward(self, dy, run, need_dx=True):
        return 2 * dy


def halved(x):
    return 0.5 * x


halved.gradient = lambda x, y, dy: 0.5 * dy


def off_by(y_true, y_pred):
    return abs(y_true - y_pred).mean(axis=-1)


@pytest.mark.parametrize("ending", ENDINGS)
def test_custom_objects(ending, tmp_path):
    path = tmp_path / f"m{ending}"
    model = fastrnn.Sequential(
        [L.Input((5, 3)), L.TimeDistributed(Twice()), Twice(name="two"), L.LSTM(2, halved)]
    )
    model.compile("sgd", off_by, metrics=[off_by])
    model.save(path)
    with pytest.raises(ValueError, match=r"'two'|Twice.*custom_objects"):
        load_model(path)
    with pytest.raises(ValueError, match=r"'lstm.*custom_objects.*'halved'"):
        load_model(path, {"Twice": Twice})
    with pytest.raises(ValueError, match=r"compile_config.*off_by.*compile=False"):
        load_model(path, {"Twice": Twice, "halved": halved})
    twin = load_model(path, {"Twice": Twice, "halved": halved, "off_by": off_by})
    x = inputs("LSTM")
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))
    assert twin.layers[2].activation is halved
    y = np.ones((4, 2), np.float32)
    assert twin.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)


@pytest.mark.parametrize("name", ["Dense nested", "Bidirectional two", "Embedding"])
def test_json_and_clone(name):
    model = make(fastrnn, name)
    for twin in (model_from_json(model.to_json(indent=1)), clone_model(model)):
        assert twin.get_config() == model.get_config()
        assert any(w.any() for w in twin.get_weights())  # new ones, but not all zero
        twin.set_weights(model.get_weights())
        x = inputs(name)
        np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))


def test_self_test(tmp_path):
    model, x = make(fastrnn, "LSTM"), inputs("LSTM")
    model.save(tmp_path / "m.keras", self_test=x, tolerance=1e-3)
    load_model(tmp_path / "m.keras")

    changed = zipfile.ZipFile(tmp_path / "m.keras").read("config.json").replace(b"tanh", b"relu")
    with pytest.raises(
        ValueError, match=r"self-test failed: .* differs by \d.* tolerance is 0.001"
    ):
        load_model(replaced(tmp_path / "m.keras", "config.json", changed))
    for ending in ENDINGS:
        model.layers[0].bias.assign(model.layers[0].bias.value + 1)
        model.save(tmp_path / f"m{ending}", self_test=x)
        load_model(tmp_path / f"m{ending}")


def test_self_test_starts_from_fresh_states(tmp_path):
    model = fastrnn.Sequential([L.Input((5, 3), batch_size=4), L.LSTM(3, stateful=True)])
    x = inputs("LSTM")
    model.predict(x, batch_size=4, verbose=0)
    before = [state.copy() for state in model.layers[0].states]
    model.save(tmp_path / "m.keras", self_test=x)
    for state, kept in zip(model.layers[0].states, before, strict=True):
        np.testing.assert_array_equal(state, kept)
    assert not any(np.any(s) for s in load_model(tmp_path / "m.keras").layers[0].states)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 1e-3}, "tolerance: expected self_test"),
        ({"self_test": np.ones((4, 5, 3)), "tolerance": -1}, "tolerance: expected a number"),
        ({"self_test": np.full((4, 5, 3), np.nan)}, "self_test: the model's output is not finite"),
        ({"self_test": np.ones((4, 5, 2))}, r"expected .*\(None, 5, 3\)"),
    ],
)
def test_self_test_arguments(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make(fastrnn, "LSTM").save(tmp_path / "m.keras", **options)
    assert list(tmp_path.iterdir()) == []


def replaced(path, member, content):
    """Another file, in which one member of the zip is different."""
    changed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for info in old.infolist():
            new.writestr(info, content if info.filename == member else old.read(info))
    other = path.with_name("changed.keras")
    other.write_bytes(changed.getvalue())
    return other


def test_arguments_of_save_and_load(tmp_path):
    model = make(fastrnn, "Dense")
    path = tmp_path / "m.keras"
    with pytest.raises(ValueError, match=r"filepath: expected .*\.keras or \.h5.*'m.pkl'"):
        model.save("m.pkl")
    with pytest.raises(ValueError, match="safe_mode: expected True"):
        load_model(path, safe_mode=False)
    with pytest.raises(TypeError, match="zipped"):
        model.save(path, zipped=False)
    model.save(path)
    with pytest.raises(FileExistsError, match="m.keras"):
        model.save(path, overwrite=False)
    for kind in (FileNotFoundError, ValueError):  # Keras raises the latter
        with pytest.raises(kind, match="No such file.*other.keras"):
            load_model(tmp_path / "other.keras")
    with pytest.raises(OSError):
        load_model(tmp_path)


@pytest.mark.parametrize("ending", [".keras", ".h5", ".weights.h5", ".safetensors"])
def test_folders_are_made(ending, tmp_path):
    path, model = tmp_path / "new" / "folder" / f"m{ending}", make(fastrnn, "Dense")
    if ending in ENDINGS:
        model.save(path)
        model = load_model(path)
    else:
        model.save_weights(path)
        model.load_weights(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_model_that_is_not_built(ending, tmp_path):
    model = fastrnn.Sequential([L.LSTM(3), L.Dense(2)])
    model.compile("adam", "mse")
    with pytest.warns(UserWarning, match="is not built.*no weights"):
        model.save(tmp_path / f"m{ending}")
    twin = load_model(tmp_path / f"m{ending}")
    assert not twin.built and twin.get_config() == model.get_config()
    twin.fit(inputs("LSTM"), np.ones((4, 2)), verbose=0)


def test_the_format_by_its_older_argument(tmp_path):
    model, signatures = make(fastrnn, "Dense"), {"keras": b"PK", "h5": b"\x89HDF"}
    for save_format, signature in signatures.items():
        model.save(tmp_path / "m", save_format=save_format)
        assert (tmp_path / "m").read_bytes().startswith(signature)
        load_model(tmp_path / "m")
        for ending, kind in ((".keras", b"PK"), (".h5", b"\x89HDF")):  # a known ending decides
            model.save(tmp_path / f"m{ending}", save_format=save_format)
            assert (tmp_path / f"m{ending}").read_bytes().startswith(kind)
    model.save(tmp_path / "m.h5", save_format="tf")
    with pytest.raises(ValueError, match="ends in .keras or .h5.*SavedModel is not written"):
        model.save(tmp_path / "folder", save_format="tf")


def test_functional_chains():
    def node(name):
        tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}
        return [{"args": [tensor], "kwargs": {"training": False}}]

    def entry(layer, before):
        return {**L.serialize(layer), "name": layer.name, "inbound_nodes": node(before)}

    start = L.InputLayer((3,), name="start")
    layers = [
        {**L.serialize(start), "name": "start", "inbound_nodes": []},
        entry(L.Dense(2, name="first"), "start"),
        entry(L.Dense(1, name="second"), "first"),
    ]
    config = {
        "name": "functional", "layers": layers, "input_layers": [["start", 0, 0]],
        "output_layers": [["second", 0, 0]],
    }  # fmt: skip
    model = model_from_json(json.dumps({"class_name": "Functional", "config": config}))
    assert [layer.name for layer in model.layers] == ["first", "second"]
    two = {"args": [[n["args"][0] for n in node("start") + node("first")]], "kwargs": {}}
    layers[2]["inbound_nodes"] = [two]
    with pytest.raises(
        ValueError, match=r"layer 'second' \(Dense\): expected one input, received 2"
    ):
        model_from_json(json.dumps({"class_name": "Functional", "config": config}))
    layers[2]["inbound_nodes"] = node("start")
    model = model_from_json(json.dumps({"class_name": "Functional", "config": config}))
    assert [layer.name for layer in model.layers] == ["second"]  # what no output needs is left out
    layers[2]["inbound_nodes"] = node("nothing")
    with pytest.raises(ValueError, match=r"layers \['second'\]: inputs missing"):
        model_from_json(json.dumps({"class_name": "Functional", "config": config}))
    layers.append({**L.serialize(L.Dense(1, name="idle")), "name": "idle", "inbound_nodes": []})
    layers[1]["inbound_nodes"] = node("start") + node("second")
    layers[2]["inbound_nodes"] = node("first")
    with pytest.raises(ValueError, match="'first' .*expected input of shape .None, 3., received"):
        model_from_json(json.dumps({"class_name": "Functional", "config": config}))
    layers[1]["inbound_nodes"] = [{"args": [], "kwargs": {}}]
    with pytest.raises(
        ValueError, match="inputs of layer 'first': expected tensors, received none"
    ):
        model_from_json(json.dumps({"class_name": "Functional", "config": config}))
    layers[1]["inbound_nodes"] = node("start")
    layers[2]["inbound_nodes"] = node("second")
    with pytest.raises(ValueError, match=r"layers \['second'\]: inputs missing"):
        model_from_json(json.dumps({"class_name": "Functional", "config": config}))
