"""Files of models with users' classes, from Keras to fastrnn and back."""

import numpy as np
import own_saving_examples as examples
import pytest
from comparison import keras

import fastrnn

pytestmark = pytest.mark.filterwarnings("ignore:Gradients do not exist")

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


def momentum_of(library):
    """An optimizer of the user's own."""

    @library.saving.register_keras_serializable("own_saving")
    class Momentum(library.optimizers.Optimizer):
        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.m = [self.add_variable_from_reference(v, name="m") for v in variables]

        def update_step(self, gradient, variable, learning_rate):
            m, ops = self.m[self._get_variable_index(variable)], library.ops
            self.assign(m, 0.9 * m + gradient)
            self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * m)

    return Momentum


@pytest.mark.parametrize("way", ["from Keras", "to Keras"])
def test_optimizers(way, tmp_path):
    """Three steps of an optimizer in each library, and two more in the other from its file."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(16, 4, 3)).astype(np.float32), rng.normal(size=(16, 2))
    kinds, found = {library: momentum_of(library) for library in (keras, fastrnn)}, {}
    for library in (keras, fastrnn):
        layers = library.layers
        model = library.Sequential([library.Input((4, 3)), layers.GRU(5), layers.Dense(2)])
        model.compile(kinds[library](0.05, weight_decay=0.1, clipnorm=0.5), "mse", run_eagerly=True)
        found[library] = model
    found[fastrnn].set_weights(found[keras].get_weights())
    losses = [[float(m.train_on_batch(x, y)) for _ in range(3)] for m in found.values()]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    shapes = [[tuple(v.shape) for v in m.optimizer.variables] for m in found.values()]
    assert shapes[0] == shapes[1]
    one, other = (keras, fastrnn) if way == "from Keras" else (fastrnn, keras)
    found[one].save(tmp_path / "m.keras")
    found[other] = other.models.load_model(tmp_path / "m.keras")
    losses = [[float(m.train_on_batch(x, y)) for _ in range(2)] for m in found.values()]
    np.testing.assert_allclose(*losses, rtol=1e-5)
