"""Models in pickles and copies."""

import copy
import pickle
import pickletools

import numpy as np
import pytest
from saving_examples import available, inputs, make

import fastrnn
from fastrnn import layers as L

WAYS = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", available(L))
def test_every_layer(name, way):
    model, x = make(fastrnn, name), inputs(name)
    before = model.predict(x, verbose=0)
    twin = WAYS[way](model)
    assert twin.get_config() == model.get_config()
    np.testing.assert_array_equal(twin.predict(x, verbose=0), before)
    twin.set_weights([w + 1 for w in twin.get_weights()])
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)  # nothing is shared


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "options", [{}, {"use_ema": True, "gradient_accumulation_steps": 2}, {"amsgrad": True}], ids=str
)
def test_training_goes_on(options, way):
    model, x, y = make(fastrnn, "LSTM frozen"), inputs("LSTM frozen"), np.ones((4, 2), np.float32)
    model.compile(fastrnn.optimizers.Adam(0.01, **options), "mse", metrics=["mae"])
    model.fit(x, y, epochs=3, verbose=0)
    twin = WAYS[way](model)
    assert twin.optimizer.iterations == model.optimizer.iterations > 0
    results = [m.fit(x, y, epochs=3, shuffle=False, verbose=0).history for m in (model, twin)]
    assert results[0] == results[1]
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("way", WAYS)
def test_a_model_without_weights_yet(way):
    model = fastrnn.Sequential([L.LSTM(2), L.Dense(1)])
    model.compile("sgd", "mse")
    twin = WAYS[way](model)
    assert not twin.built and twin.optimizer.name == "sgd"
    assert twin.get_config() == model.get_config()


class Twice(L.Layer):
    def forward(self, x, run, mask=None):
        return 2 * x


def thrice(x):
    return 3 * x


class Threes(fastrnn.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return np.full(shape, 3, np.float32)


class Always(fastrnn.metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(np.ones(len(y_true)))


@pytest.mark.parametrize("way", WAYS)
def test_own_classes_and_functions(way):
    inner = L.Dense(2, thrice, bias_initializer=Threes())
    model = fastrnn.Sequential([L.Input((4, 3)), Twice(), L.TimeDistributed(inner)])
    model.compile("adam", mean_of_both, metrics=[Always("always")])
    twin, x = WAYS[way](model), np.ones((2, 4, 3), np.float32)
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))
    assert type(twin.layers[0]) is Twice
    assert twin.evaluate(x, x[..., :2], verbose=0) == model.evaluate(x, x[..., :2], verbose=0)


@pytest.mark.parametrize("way", WAYS)
def test_own_functions_of_several_outputs(way):
    x = L.Input((3,))
    model = fastrnn.Model(x, [L.Dense(2, name="one")(x), L.Dense(1, name="other")(x)])
    model.compile("adam", ["mse", mean_of_both], metrics=[[Always("always")], None])
    twin, given = WAYS[way](model), np.ones((2, 3), np.float32)
    y = [np.zeros((2, 2)), np.zeros((2, 1))]
    assert twin.evaluate(given, y, verbose=0) == model.evaluate(given, y, verbose=0)


def mean_of_both(y_true, y_pred):
    return (y_true + y_pred).mean(axis=-1)


def test_what_has_no_name():
    model = fastrnn.Sequential([L.Input((3,)), L.Dense(2, lambda x: x)])
    with pytest.raises(ValueError, match="lambda"):
        pickle.dumps(model)


def test_a_pickle_names_only_constructors():
    """Of fastrnn and NumPy."""
    model = make(fastrnn, "Bidirectional")
    model.compile("adam", "mse", metrics=["mae"])
    model.train_on_batch(inputs("Bidirectional"), np.ones((4, 6)))
    steps = pickletools.genops(pickle.dumps(model, 2))
    named = {argument for step, argument, _ in steps if step.name == "GLOBAL"}
    assert "fastrnn.saving.pickling restore" in named
    modules = {name.split()[0].partition(".")[0] for name in named}
    assert modules == {"fastrnn", "numpy", "_codecs"}  # the last for NumPy's bytes
