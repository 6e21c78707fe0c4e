"""Files and copies of models with layers and classes of the user's own."""

import copy

import numpy as np
import own_saving_examples as examples
import pytest

import fastrnn
from fastrnn import layers, models
from fastrnn.saving import custom_object_scope

OWN = examples.define(fastrnn)


def _reloaded(model, path):
    model.save(path)
    return models.load_model(path, custom_objects=OWN)


WAYS = {
    "keras": lambda model, folder: _reloaded(model, folder / "m.keras"),
    "h5": lambda model, folder: _reloaded(model, folder / "m.h5"),
    "deepcopy": lambda model, folder: copy.deepcopy(model),
}


@pytest.mark.parametrize("name", examples.MODELS)
@pytest.mark.parametrize("way", WAYS)
def test_copies_and_files(name, way, tmp_path):
    if way == "h5" and name in ("graph in constructor", "own Sequential"):
        pytest.skip("older files hold no more than the weights of the graph's layers, as Keras's")
    model, x, y = examples.trained(fastrnn, name, OWN)
    loaded = WAYS[way](model, tmp_path)
    examples.assert_same(model, loaded, x)
    losses = [m.fit(x, y, verbose=0, shuffle=False).history["loss"] for m in (model, loaded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("name", examples.MODELS)
def test_clones_and_json(name):
    model, x, _ = examples.trained(fastrnn, name, OWN)
    for twin in (models.clone_model(model), models.model_from_json(model.to_json(), OWN)):
        assert type(twin) is type(model)
        twin.predict(x, verbose=0)
        twin.set_weights(model.get_weights())
        examples.assert_same(model, twin, x)


@pytest.mark.parametrize("name", examples.MODELS)
@pytest.mark.parametrize("ending", ["weights.h5", "safetensors"])
def test_weights_alone(name, ending, tmp_path):
    model, x, _ = examples.trained(fastrnn, name, OWN)
    model.save_weights(tmp_path / f"m.{ending}")
    twin = examples.MODELS[name][0](fastrnn, OWN)
    twin.predict(x, verbose=0)
    twin.load_weights(tmp_path / f"m.{ending}")
    examples.assert_same(model, twin, x)


def test_config_of_what_the_constructor_was_given():
    class Own(layers.Layer):
        def __init__(self, d=3, *, act=None, shape=(1, 2), **kwargs):
            super().__init__(**kwargs)

        def call(self, x):
            return x

    config = Own(4, act="relu", shape=[3], name="own").get_config()
    expected = {"name": "own", "trainable": True, "d": 4, "act": "relu", "shape": [3]}
    assert config == {**expected, "dtype": "float32"}
    assert Own.from_config(config).get_config() == config


def test_a_class_without_get_config_is_named(tmp_path):
    class Own(layers.Layer):
        def __init__(self, array):
            super().__init__()
            self.array = array

        def call(self, x):
            return x + self.array

    model = fastrnn.Sequential([fastrnn.Input((2,)), Own(np.ones(2, "float32"))])
    with pytest.raises(NotImplementedError, match=r"\(Own\) cannot be saved.*get_config"):
        model.save(tmp_path / "m.keras")


def test_unknown_classes_are_named(tmp_path):
    path = tmp_path / "m.keras"
    for name, what in (("block", "Scale|Block"), ("subclassed", "Whole")):
        model, x, _ = examples.trained(fastrnn, name, OWN)
        model.save(path)
        with pytest.raises(ValueError, match=rf"custom_objects=\{{'({what})'"):
            models.load_model(path)
        with custom_object_scope(OWN):
            examples.assert_same(model, models.load_model(path), x)


def test_models_without_a_graph_say_so():
    model, x, _ = examples.trained(fastrnn, "subclassed", OWN)
    assert model.compile_inference()(x) == pytest.approx(model.predict(x, verbose=0), abs=1e-6)
    with pytest.raises(ValueError, match=r"stream: model 'whole.*\(Whole\)"):
        model.stream()
    with pytest.raises(ValueError, match=r"\(Whole\) says what it computes in call"):
        fastrnn.to_onnx(model, "never.onnx")


def test_checkpoints(tmp_path):
    model, x, y = examples.trained(fastrnn, "subclassed", OWN)
    callbacks = [
        fastrnn.callbacks.ModelCheckpoint(tmp_path / "c.keras", monitor="loss"),
        fastrnn.callbacks.BackupAndRestore(tmp_path / "backup"),
    ]
    model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
    loaded = models.load_model(tmp_path / "c.keras", custom_objects=OWN)
    examples.assert_same(model, loaded, x)


class Doubled(layers.Layer):
    def call(self, x, training=False):
        return x * 2.0 if training else x


@pytest.mark.parametrize(
    "said, written, factor", [(None, None, 2), (None, False, 2), (False, 0, 1)]
)
def test_modes_of_calls(said, written, factor):
    """Keras writes False where a call said nothing and the layer's default is False; fastrnn 0
    where a call said False."""
    x = layers.Input((3,))
    y = layers.Add()([x, Doubled(name="doubled")(x, training=said)])
    config = models.Model(x, y).get_config()
    (entry,) = [entry for entry in config["layers"] if entry["name"] == "doubled"]
    kwargs = entry["inbound_nodes"][0]["kwargs"]
    assert repr(kwargs.get("training")) == repr(written if said is False else None)
    kwargs["training"] = written
    again = models.Model.from_config(config, custom_objects={"Doubled": Doubled})
    again.compile("sgd", "mse")
    x = np.ones((4, 3), np.float32)
    assert again.train_on_batch(x, 0 * x) == pytest.approx((1 + factor) ** 2)
