"""Normalization: what it learns from data, what is given, and what it computes."""

import numpy as np
import pytest
from test_conv_pooling_norm import check

import fastrnn
from fastrnn import layers as L


@pytest.fixture
def x(rng):
    return (3 + 2 * rng.standard_normal((7, 5, 3))).astype(np.float32)


def moments(data, axis):
    """(mean, standard deviation) in float64, over all axes but these, kept with size 1."""
    kept = {a % data.ndim for a in ((axis,) if isinstance(axis, int) else axis or ())}
    reduced = tuple(n for n in range(data.ndim) if n not in kept)
    data = data.astype(np.float64)
    return data.mean(axis=reduced, keepdims=True), data.std(axis=reduced, keepdims=True)


@pytest.mark.parametrize("axis", [None, -1, 1, 2, (1, 2), [-1, 1]])
def test_adapted_to_an_array(axis, x):
    layer, back = L.Normalization(axis), L.Normalization(axis, invert=True)
    mean, deviation = moments(x, axis)
    for made in (layer, back):
        assert made.adapt(x) is None
        np.testing.assert_allclose(made.adapt_mean.value, mean.squeeze(), rtol=1e-6)
        np.testing.assert_allclose(made.adapt_variance.value, deviation.squeeze() ** 2, rtol=1e-6)
        assert made.mean.shape == made.variance.shape == mean.shape and made.count.value == 0
        np.testing.assert_allclose(made.mean.numpy(), mean, rtol=1e-6)
        np.testing.assert_allclose(made.variance.numpy(), deviation**2, rtol=1e-6)
    np.testing.assert_allclose(layer(x), (x - mean) / deviation, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(back(x), x * deviation + mean, rtol=1e-5)
    np.testing.assert_allclose(back(layer(x)), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    "axis, shape", [(None, ()), (-1, ()), (-1, (3,)), (1, (5,)), ((1, 2), (5, 3)), ([2, 1], (3,))]
)
def test_a_given_mean(axis, shape, invert, x, rng):
    mean, variance = rng.standard_normal(shape), 0.5 + rng.random(shape)
    layer = L.Normalization(axis, mean, variance, invert)
    spread = [n.reshape(5, 1) if axis == 1 else n for n in (mean, variance**0.5)]
    mean, deviation = spread
    check(layer, x, lambda x: x * deviation + mean if invert else (x - mean) / deviation)
    assert not layer.weights and layer.mean.shape == layer.variance.shape


@pytest.mark.parametrize("invert", [False, True])
def test_outputs_and_gradients(invert, x):
    layer = L.Normalization(invert=invert)
    layer.adapt(x)
    mean, deviation = moments(x, -1)
    model = fastrnn.Sequential([layer])
    model.build(x.shape)
    _, _, dx = gradients(model, x)
    scale = deviation if invert else 1 / deviation
    y = x * deviation + mean if invert else (x - mean) / deviation
    np.testing.assert_allclose(dx, 2 * y / y.size * scale, rtol=1e-4, atol=1e-7)


def gradients(model, x):
    model.compile("sgd", "mse")
    return fastrnn.training.loss_and_gradients(model, x, np.zeros(x.shape, np.float32))


class Batches(fastrnn.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return len(self.x) // 2 + 1

    def __getitem__(self, index):
        return self.x[2 * index : 2 * index + 2], "the targets"


def test_adapted_to_batches(x):
    expected = L.Normalization()
    expected.adapt(x)
    parts = [x[:1], x[1:4], x[4:4], x[4:]]
    for data in (
        parts,
        tuple(parts),
        iter(parts),
        ((part, None) for part in parts),
        Batches(x),
        x.astype(np.float64),
        x.tolist(),
    ):
        layer = L.Normalization()
        layer.adapt(data)
        for weight, wanted in zip(layer.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(weight, wanted, rtol=1e-6)


def test_steps_and_batch_size(x):
    layer, expected = L.Normalization(), L.Normalization()
    layer.adapt((x[n : n + 1] for n in range(7)), steps=3)
    expected.adapt(x[:3], batch_size=2)
    for weight, wanted in zip(layer.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-6)


def test_large_numbers_far_from_zero():
    x = (1.6e9 + np.arange(1000)).reshape(-1, 1)
    layer = L.Normalization()
    layer.adapt(x)
    np.testing.assert_allclose(layer.adapt_variance.value, [(1000**2 - 1) / 12], rtol=1e-6)
    layer.adapt([part for part in np.split(x, 10)])
    np.testing.assert_allclose(layer.adapt_variance.value, [(1000**2 - 1) / 12], rtol=1e-6)
    layer.adapt(np.arange(256, dtype=np.uint8)[:, None])
    assert layer.adapt_mean.value == 127.5


def test_adapting_again_and_in_a_model(x):
    layer = L.Normalization()
    model = fastrnn.Sequential([fastrnn.Input((None, 3)), layer, L.LSTM(2)])
    predictor = model.compile_inference()
    untouched = predictor(x)
    for data in (x, 3 * x - 1, x[:, 0]):  # the last of other axes
        layer.adapt(data)
        mean, deviation = moments(data, -1)
        normal = (x - mean.reshape(3)) / deviation.reshape(3)
        expected = fastrnn.Sequential([model.layers[1]]).predict(normal, verbose=0)
        np.testing.assert_allclose(predictor(x), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)
        assert abs(expected - untouched).max() > 0.01
        assert layer.input_shape == (None, None, 3)
    assert [w.name for w in layer.non_trainable_weights] == ["mean", "variance", "count"]
    assert layer.count_params() == 7 and not layer.trainable_weights
    before = layer.get_weights()
    model.compile("adam", "mse")
    model.fit(x, np.zeros((7, 2)), verbose=0)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_one_mean_of_numbers_before_a_model_of_columns():
    """The tutorial: a layer of one feature is adapted to a plain array of it."""
    numbers = np.arange(5.0)
    for layer in (L.Normalization(axis=None), L.Normalization(axis=None, input_shape=[1])):
        layer.adapt(numbers)
        np.testing.assert_allclose(layer(numbers), (numbers - 2) / 2**0.5, rtol=1e-6)
        model = fastrnn.Sequential([layer, L.Dense(1, kernel_initializer="ones")])
        y = model.predict(numbers[:, None], verbose=0)
        np.testing.assert_allclose(y[:, 0], (numbers - 2) / 2**0.5, rtol=1e-6)
        assert layer.input_shape == (None, 1)
    np.testing.assert_allclose(model.predict(numbers, verbose=0), y)


def test_adapted_to_vectors_and_used_on_sequences(x):
    layer = L.Normalization(1)
    layer.adapt(x[:, 0])
    mean, deviation = moments(x[:, 0], -1)
    np.testing.assert_allclose(layer(x), (x - mean) / deviation, rtol=1e-5, atol=1e-6)


def test_what_does_not_vary():
    layer = L.Normalization()
    layer.adapt(np.full((4, 1), 3))
    np.testing.assert_allclose(layer([[3.0], [4.0]]), [[0], [1e7]])


def test_weights_take_effect_at_once(x):
    layer = L.Normalization()
    layer(x)
    layer.set_weights([[1, 2, 3], [4, 4, 4], 0])
    layer.finalize_state()
    np.testing.assert_allclose(layer(x), (x - [1, 2, 3]) / 2, rtol=1e-6)


def test_config():
    layer = L.Normalization((2, 1), np.ones(3, np.float32), [4, 5, 6], True)
    config = layer.get_config()
    assert {name: config[name] for name in ("axis", "invert", "mean", "variance")} == {
        "axis": (2, 1), "invert": True, "mean": [1.0, 1.0, 1.0], "variance": [4, 5, 6],
    }  # fmt: skip
    assert L.Normalization.from_config(config).get_config() == config
    assert L.Normalization(None).get_config()["axis"] == ()
    assert L.Normalization().get_config()["axis"] == (-1,) and L.Normalization().mean is None


ONES = np.ones((2, 5, 3))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.Normalization(mean=1), "mean, variance: expected both or none, received 1 and"),
        (lambda: L.Normalization(mean=1, variance=[1]), r"mean, variance: .*\(\) and \(1,\)"),
        (lambda: L.Normalization(None, [1], [1]), "of at most 0 axes for axis"),
        (lambda: L.Normalization(mean=0, variance=-1), "variance: expected numbers >= 0, received"),
        (lambda: L.Normalization(mean=[1], variance=[np.nan]), "variance: expected finite numbers"),
        (lambda: L.Normalization(1.5), "axis: expected a whole number or several, received 1.5"),
        (lambda: L.Normalization(invert="yes"), "invert: expected True or False"),
        (lambda: L.Normalization(3)(ONES), r"with axis \(3,\) after the batch, received"),
        (lambda: L.Normalization(0)(ONES), r"with axis \(0,\) after the batch, received"),
        (lambda: L.Normalization((2, -1))(ONES), "axis: expected each once"),
        (lambda: L.Normalization((1, 2)).build((None, None, 3)), r"known sizes on axis \(1, 2\)"),
        (lambda: L.Normalization(-1, [1, 2], [1, 2])(ONES), r"that fits a mean of shape \(2,\)"),
        (lambda: L.Normalization().adapt(np.ones(5)), "one mean of all"),
        (lambda: L.Normalization().adapt(3), "data: expected an array or batches of arrays, rec"),
        (lambda: L.Normalization().adapt({"a": ONES}), "data: expected an array or batches"),
        (lambda: L.Normalization().adapt("text"), "data: expected an array or batches"),
        (lambda: L.Normalization().adapt([(3, 4)]), "data: expected an array or batches"),
        (lambda: L.Normalization().adapt([]), "data: expected at least one element"),
        (lambda: L.Normalization().adapt(np.ones((0, 3))), "data: expected at least one element"),
        (lambda: L.Normalization().adapt([[1, np.nan]]), "data: expected finite numbers"),
        (lambda: L.Normalization().adapt([["a"]]), "data: expected an array of numbers"),
        (lambda: L.Normalization().adapt([ONES, ONES[..., :2]]), r"None, 3\), received \(None, 5"),
        (lambda: L.Normalization().adapt(ONES, steps=0), "steps: expected an int >= 1"),
        (lambda: L.Normalization(mean=1, variance=1).adapt(ONES), "no mean and variance in the"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_data_that_does_not_fit_changes_nothing(x):
    layer = L.Normalization()
    layer.adapt(x)
    before = layer.get_weights()
    for data in (x[..., :2], [x, x * np.nan], x[0, 0]):
        with pytest.raises(ValueError, match="expected"):
            layer.adapt(data)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
