"""Files of models with users' classes, from Keras to fastrnn and back."""

import own_saving_examples as examples
import pytest
from comparison import keras

import fastrnn

pytestmark = [
    pytest.mark.filterwarnings("ignore:Gradients do not exist"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
]

OWN = {keras: examples.define(keras), fastrnn: examples.define(fastrnn)}


@pytest.mark.parametrize("name", examples.MODELS)
@pytest.mark.parametrize("way", ["from Keras", "to Keras"])
def test_whole_models(name, way, tmp_path):
    one, other = (keras, fastrnn) if way == "from Keras" else (fastrnn, keras)
    model, x, y = examples.trained(one, name, OWN[one])
    model.save(tmp_path / "m.keras")
    loaded = other.models.load_model(tmp_path / "m.keras", custom_objects=OWN[other])
    examples.assert_same(model, loaded, x)
    if name == "masked":
        return  # tokens occur twice, which Keras squares apart (DIFFERENCES.md)
    losses = [
        m.fit(x, y, epochs=2, verbose=0, shuffle=False).history["loss"] for m in (model, loaded)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


@pytest.mark.parametrize("name", examples.MODELS)
@pytest.mark.parametrize("way", ["from Keras", "to Keras"])
def test_weights_alone(name, way, tmp_path):
    one, other = (keras, fastrnn) if way == "from Keras" else (fastrnn, keras)
    model, x, _ = examples.trained(one, name, OWN[one])
    model.save_weights(tmp_path / "m.weights.h5")
    twin = examples.MODELS[name][0](other, OWN[other])
    twin.predict(x, verbose=0)
    twin.load_weights(tmp_path / "m.weights.h5")
    examples.assert_same(model, twin, x)
