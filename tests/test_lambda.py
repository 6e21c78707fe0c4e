"""Lambda: a function as a layer."""

import numpy as np
import pytest

from fastrnn import Input, Model, Sequential, models, ops
from fastrnn import layers as L


def weighted(x, factor=1.0, mask=None):
    kept = 1.0 if mask is None else ops.cast(mask, "float32")[..., None]
    return ops.sum(x * kept, axis=1) * factor


def test_values_shapes_and_training(rng):
    x = rng.normal(size=(4, 5, 3)).astype(np.float32)
    model = Sequential([
        Input((None, 3)), L.LSTM(4, return_sequences=True),
        L.Lambda(lambda y: ops.tanh(y[:, -1]) * 2), L.Dense(2),
    ])  # fmt: skip
    assert model.layers[1].output_shape == (None, 4)
    parts = Sequential(model.layers[:1]), model.layers[2]
    expected = parts[1](2 * np.tanh(parts[0].predict(x, verbose=0)[:, -1]))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    inputs = Input((None, 3))  # the same of operations
    h = L.LSTM(4, return_sequences=True)(inputs)
    other = Model(inputs, L.Dense(2)(ops.tanh(h[:, -1]) * 2))
    other.set_weights(model.get_weights())
    y = rng.normal(size=(4, 2))
    for each in (model, other):
        each.compile("sgd", "mse")
        each.fit(x, y, epochs=3, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_masks_and_arguments(rng):
    x = np.where(rng.uniform(size=(4, 5, 1)) < 0.4, 0, rng.normal(size=(4, 5, 3)))
    x = x.astype(np.float32)
    x[:, 0] = 1
    inputs = Input((5, 3))
    layer = L.Lambda(weighted, arguments={"factor": 3.0})
    model = Model(inputs, layer(L.Masking()(inputs)))
    np.testing.assert_allclose(model.predict(x, verbose=0), 3 * x.sum(1), rtol=1e-5)
    assert layer(x[:1]).shape == (1, 3)


def test_several_inputs(rng):
    a, b = Input((3,)), Input((3,))
    model = Model([a, b], L.Lambda(lambda pair: pair[0] * pair[1])([a, b]))
    x, y = rng.normal(size=(2, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(model.predict([x, y], verbose=0), x * y, rtol=1e-6)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_files_name_the_function(ending, tmp_path, rng):
    path = tmp_path / f"model.{ending}"
    model = Sequential([Input((5, 3)), L.Lambda(weighted, name="sum"), L.Dense(2)])
    model.save(path)
    x = rng.normal(size=(4, 5, 3)).astype(np.float32)
    for custom in ({"weighted": weighted}, {"sum": weighted}):
        again = models.load_model(path, custom_objects=custom)
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    with pytest.raises(ValueError, match="'sum'.*'weighted'; expected custom_objects"):
        models.load_model(path)


def test_code_in_files_is_not_run(tmp_path):
    model = Sequential([Input((3,)), L.Lambda(lambda x: x + 1, name="more")])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="holds code, which is never run"):
        models.load_model(tmp_path / "model.keras")
    again = models.load_model(tmp_path / "model.keras", custom_objects={"more": lambda x: x + 1})
    assert again.predict(np.ones((1, 3)), verbose=0).tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"function": 3}, "function: expected a function, received 3"),
        ({"function": abs, "mask": "x"}, "mask: expected None, a mask or a function"),
        ({"function": abs, "arguments": [1]}, "arguments: expected a dict"),
        ({"function": abs, "output_shape": -1}, "output_shape: expected a tuple"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        L.Lambda(**arguments)
