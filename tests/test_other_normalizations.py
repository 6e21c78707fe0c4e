"""UnitNormalization, RMSNormalization and GroupNormalization against float64."""

import numpy as np
import pytest
from test_conv_pooling_norm import check

import fastrnn
from fastrnn import layers as L
from fastrnn.run import Run


@pytest.mark.parametrize("axis", [-1, 1, [1, 2], (-1, 2), [3, 1, 2]])
def test_unit_normalization(axis, rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    axes = tuple(axis) if isinstance(axis, (list, tuple)) else axis

    def reference(x):
        return x / np.sqrt((x**2).sum(axis=axes, keepdims=True))

    check(L.UnitNormalization(axis), x, reference)


def test_unit_normalization_of_what_has_no_length():
    """Values and gradients are Keras's."""
    x = np.array([[0, 0], [3, 4], [1e-20, 0], [1e-13, 0], [1e20, 1e20]], np.float32)
    layer, run = L.UnitNormalization(), Run(training=True)
    with np.errstate(over="ignore"):
        y = layer.forward(x, run)
        dx = layer.backward(np.tile(np.float32([1, 2]), (5, 1)), run)
    expected = [[0, 0], [0.6, 0.8], [1e-8, 0], [0.1, 0], [0, 0]]
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    expected = [[1e12, 2e12], [-0.064, 0.048], [1e12, 2e12], [1e12, 2e12], [0, 0]]
    np.testing.assert_allclose(dx, expected, rtol=1e-5)


@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
@pytest.mark.parametrize("axis", [-1, 3, [2, 3], (-1, -2), [3, 1, 2]])
def test_rms_normalization(axis, epsilon, rng):
    x = (1 + rng.standard_normal((2, 3, 4, 5))).astype(np.float32)
    axes = tuple(axis) if isinstance(axis, (list, tuple)) else axis

    def reference(x, scale):
        return x / np.sqrt((x**2).mean(axis=axes, keepdims=True) + epsilon) * scale

    check(L.RMSNormalization(axis, epsilon), x, reference)


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
@pytest.mark.parametrize("shape, axis", [((3, 6), -1), ((2, 3, 6), 2), ((2, 6, 3, 2), 1)])
@pytest.mark.parametrize("groups", [1, 3, -1])
def test_group_normalization(groups, shape, axis, options, rng):
    if groups == -1 and len(shape) == 2:
        groups = 2  # a group of one element is 0
    x = (3 + rng.standard_normal(shape)).astype(np.float32)
    layer = L.GroupNormalization(groups, axis, 0.01, **options)

    def reference(x, *weights):
        weights = list(weights)
        gamma = weights.pop(0) if layer.scale else np.ones(6)
        beta = weights.pop(0) if layer.center else np.zeros(6)
        y = np.empty_like(x)
        for rows in np.arange(6).reshape(6 if groups == -1 else groups, -1):
            part = np.moveaxis(x, axis, 0)[rows]  # (channels of the group, batch, ...)
            axes = (0, *range(2, part.ndim))
            part = part - part.mean(axis=axes, keepdims=True)
            part = part / np.sqrt((part**2).mean(axis=axes, keepdims=True) + 0.01)
            spread = (-1, *[1] * (x.ndim - 1))
            part = part * gamma[rows].reshape(spread) + beta[rows].reshape(spread)
            np.moveaxis(y, axis, 0)[rows] = part
        return y

    check(layer, x, reference)


def test_what_keras_does_to_the_arguments_when_it_builds():
    layers = L.RMSNormalization(), L.RMSNormalization((2, 1)), L.GroupNormalization(-1)
    for layer in layers:
        layer(np.ones((2, 3, 4)))
    assert [la.get_config()["axis"] for la in layers] == [[-1], [1, 2], -1]
    assert layers[2].get_config()["groups"] == 4


def test_masks_passed_on_and_dropped(rng):
    x, mask = rng.standard_normal((2, 4, 6)), np.ones((2, 4), bool)
    for layer in (L.UnitNormalization(), L.GroupNormalization(2)):
        assert layer.compute_mask(x, mask) is mask
    assert L.RMSNormalization().compute_mask(x, mask) is None


def test_a_model_of_all_of_them_learns(rng):
    model = fastrnn.Sequential(
        [
            fastrnn.Input((None, 3)),
            L.Conv1D(8, 3, padding="causal", activation="relu"),
            L.GroupNormalization(4),
            L.LSTM(6, return_sequences=True),
            L.RMSNormalization(),
            L.TimeDistributed(L.UnitNormalization()),
            L.GlobalAveragePooling1D(),
            L.Dense(1),
        ]
    )
    fastrnn.utils.set_random_seed(2)
    x = rng.standard_normal((64, 12, 3))
    y = x[:, :, 0].max(axis=1, keepdims=True)
    model.compile(fastrnn.optimizers.Adam(0.02), "mse")
    losses = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    fast = model.compile_inference()
    np.testing.assert_allclose(fast(x[:2]), model.predict(x, verbose=0)[:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.UnitNormalization(3)(np.ones((2, 4, 3))), "with axis 3 after the batch, rec"),
        (lambda: L.UnitNormalization(0)(np.ones((2, 4, 3))), "with axis 0 after the batch, rec"),
        (lambda: L.UnitNormalization([2, -1])(np.ones((2, 4, 3))), "axis: expected each once"),
        (lambda: L.RMSNormalization(1)(np.ones((2, 4, 3))), "axis: expected the last of the axes"),
        (lambda: L.RMSNormalization([1, 3])(np.ones((2, 4, 3, 3))), r"received \[1, 3\] for shape"),
        (lambda: L.RMSNormalization().build((None, 4, None)), "with known sizes on axis -1"),
        (lambda: L.RMSNormalization(-1, -0.1), "epsilon: expected a number >= 0, received -0.1"),
        (lambda: L.GroupNormalization(0), "groups: expected a whole number >= 1, received 0"),
        (lambda: L.GroupNormalization(1, 0)(np.ones((2, 4))), "size on axis 0, after the batch"),
        (lambda: L.GroupNormalization(1, 2)(np.ones((2, 4))), "known size on axis 2"),
        (lambda: L.GroupNormalization(3)(np.ones((2, 4))), "a multiple of 3 channels on axis 1"),
        (lambda: L.GroupNormalization(1, [1]), r"axis: expected a whole number, received \[1\]"),
        (lambda: L.GroupNormalization().build((None, 4, 4)), "a multiple of 32 channels on axis 2"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [L.UnitNormalization, L.RMSNormalization])
def test_axis_of_another_type(make):
    for axis in (1.5, None, [], "1"):
        with pytest.raises(TypeError, match="axis: expected a whole number or several, received"):
            make(axis)
