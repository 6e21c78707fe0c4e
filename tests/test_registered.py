"""Names of the user's own objects, beside the built-in ones: as in Keras 3.15."""

import json

import numpy as np
import pytest

import fastrnn
from fastrnn import activations, initializers, losses, metrics, models, regularizers, utils
from fastrnn import layers as L


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(utils, "_custom_objects", {})
    monkeypatch.setattr(utils, "_registered", {})


def model(loss="mse", **dense):
    made = fastrnn.Sequential([fastrnn.Input((3,)), L.Dense(1, kernel_initializer="ones", **dense)])
    made.compile("sgd", loss)
    return made


X, Y = np.ones((2, 3), np.float32), np.full((2, 1), 5.0, np.float32)


def test_built_in_names_stay():
    """Whatever is registered under them, and for losses, metrics and the rest alike."""

    @utils.register_keras_serializable()
    def mse(y_true, y_pred):
        return 0 * y_pred[..., 0]

    @utils.register_keras_serializable()
    def relu(x):
        return 0 * x

    @utils.register_keras_serializable()
    class Zeros(initializers.Initializer):
        def __call__(self, shape, dtype="float32"):
            return np.ones(shape, dtype)

    @utils.register_keras_serializable()
    class L2(regularizers.Regularizer):
        def __call__(self, x):
            return 0.0

    @utils.register_keras_serializable()
    class Dense(L.Dense):
        pass

    assert model("mse").evaluate(X, Y, verbose=0) == 4
    with utils.custom_object_scope({"mse": mse}):
        assert model("mse").evaluate(X, Y, verbose=0) == 4
    assert type(metrics.get("mse")) is metrics.MeanSquaredError
    assert activations.get("relu") is activations.relu
    assert type(initializers.get("Zeros")) is initializers.Zeros
    assert type(regularizers.get("L2")) is regularizers.L2
    assert type(L.deserialize({"class_name": "Dense", "config": {"units": 2}})) is L.Dense
    assert losses.get("Custom>mse") is mse
    assert type(initializers.get("Custom>Zeros")) is Zeros


def test_names_that_nothing_else_has(tmp_path):
    @utils.register_keras_serializable("pack")
    def mine(y_true, y_pred):
        return 0 * y_pred[..., 0] + 7

    @utils.register_keras_serializable("pack", "Wide")
    class Own(L.Dense):
        pass

    for name in ("mine", "pack>mine"):
        assert model(name).evaluate(X, Y, verbose=0) == 7
    assert utils.get_registered_name(mine) == "pack>mine"
    assert utils.get_registered_name(Own) == "pack>Wide"
    assert utils.get_registered_name(L.Dense) == "Dense"
    assert utils.get_registered_object("pack>Wide") is Own
    made = fastrnn.Sequential([fastrnn.Input((3,)), Own(2)])
    made.compile("sgd", mine)
    made.save(tmp_path / "m.keras")
    again = models.load_model(tmp_path / "m.keras")
    assert type(again.layers[0]) is Own and again.loss.fn is mine
    config = json.loads(made.to_json())["config"]["layers"][1]
    assert config["registered_name"] == "pack>Wide"
    config["registered_name"] = "Wide"  # as fastrnn wrote it before
    assert type(L.deserialize(config)) is Own


def test_custom_objects_of_files_go_before_built_in_classes():
    class Dense(L.Dense):
        pass

    config = L.serialize(L.Dense(2))
    assert type(L.deserialize(config, custom_objects={"Dense": Dense})) is Dense


def test_models_are_layers():
    inner = fastrnn.Sequential([fastrnn.Input((3,)), L.Dense(2)])
    outer = fastrnn.Sequential([fastrnn.Input((3,)), inner, L.Dense(1)])
    again = L.deserialize(json.loads(json.dumps(L.serialize(outer))))
    again.set_weights(outer.get_weights())
    np.testing.assert_array_equal(again.predict(X, verbose=0), outer.predict(X, verbose=0))
    assert type(again.layers[0]) is fastrnn.Sequential
