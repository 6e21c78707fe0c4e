"""Gaussian noise, activation functions as layers, Permute and ActivityRegularization."""

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn.run import Run


def test_gaussian_noise_is_of_the_given_size_and_only_in_training():
    fastrnn.utils.set_random_seed(3)
    x = np.full((100, 40, 5), 2, np.float32)
    for layer, deviation in (
        (L.GaussianNoise(0.3), 0.3),
        (L.GaussianDropout(0.2), 2 * np.sqrt(0.2 / 0.8)),
        (L.GaussianNoise(sigma=0.1), 0.1),
        (L.GaussianDropout(p=0.5), 2),
    ):
        np.testing.assert_array_equal(layer(x), x)
        y = layer(x, training=True)
        assert y.dtype == np.float32
        assert abs(y.mean() - 2) < 0.05 * deviation
        assert abs(y.std() / deviation - 1) < 0.03
        assert (y != layer(x, training=True)).any()
        twins = [type(layer)(0.3, seed=5)(x, training=True) for _ in range(2)]
        np.testing.assert_array_equal(*twins)
        assert (twins[0] != layer(x, training=True)).any()
    for off in (L.GaussianNoise(0.0), L.GaussianDropout(0.0)):
        np.testing.assert_array_equal(off(x, training=True), x)


def test_gaussian_dropout_backward_multiplies_by_the_same_noise(rng):
    x = 1 + rng.random((3, 4)).astype(np.float32)
    layer, run = L.GaussianDropout(0.3), Run(training=True)
    noise = layer.forward(x, run) / x
    np.testing.assert_allclose(layer.backward(np.ones_like(x), run), noise, rtol=1e-6)


def test_values_of_activation_layers():
    x = np.array([[-2, -0.5, 0.25, 1, 8]], np.float32)
    for layer, expected in (
        (L.ReLU(), [0, 0, 0.25, 1, 8]),
        (L.ReLU(max_value=6, negative_slope=0.5, threshold=0.5), [-1.25, -0.5, -0.125, 1, 6]),
        (L.LeakyReLU(), [-0.6, -0.15, 0.25, 1, 8]),
        (L.LeakyReLU(alpha=0.5), [-1, -0.25, 0.25, 1, 8]),
        (L.ELU(2.0), [2 * np.expm1(-2), 2 * np.expm1(-0.5), 0.25, 1, 8]),
        (L.PReLU(fastrnn.initializers.Constant(0.1)), [-0.2, -0.05, 0.25, 1, 8]),
    ):
        np.testing.assert_allclose(layer(x), [expected], rtol=1e-6)


def test_softmax_layer_over_axes_and_with_a_mask(rng):
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    for axis in (-1, 1, [1], [1, 2]):
        y = L.Softmax(axis)(x)
        sums = y.sum(axis=tuple(np.atleast_1d(axis)))
        np.testing.assert_allclose(sums, np.ones_like(sums), rtol=1e-6)
    mask = np.array([1, 0, 1, 1], bool)
    y = L.Softmax()(x, mask=mask)
    assert (y[..., 1] == 0).all()
    np.testing.assert_allclose(y[..., mask], L.Softmax()(x[..., mask]), rtol=1e-6)
    with pytest.raises(ValueError, match=r"mask: expected a shape that broadcasts to \(2, 3, 4\)"):
        L.Softmax()(x, mask=np.ones((2, 3), bool))


def test_prelu_shares_alpha_and_learns_it(rng):
    x = rng.standard_normal((64, 5, 3)).astype(np.float32)
    layer = L.PReLU(shared_axes=[1])
    model = fastrnn.Sequential([fastrnn.Input((None, 3)), layer])
    assert layer.alpha.shape == (1, 3)
    model.compile(fastrnn.optimizers.SGD(1.0), "mse")
    slopes = np.array([0.1, 0.5, -0.3], np.float32)
    model.fit(x, np.where(x > 0, x, slopes * x), epochs=60, verbose=0)
    np.testing.assert_allclose(layer.alpha.numpy()[0], slopes, atol=0.01)
    with pytest.raises(ValueError, match="known sizes"):
        L.PReLU().build((None, None, 3))


def test_activity_regularization_adds_to_the_loss(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    layer = L.ActivityRegularization(l1=0.1, l2=0.2)
    model = fastrnn.Sequential([fastrnn.Input((3,)), layer])
    model.compile("sgd", "mse")
    penalty = (0.1 * np.abs(x).sum() + 0.2 * np.square(x).sum()) / 4
    assert model.evaluate(x, x, verbose=0) == pytest.approx(penalty, rel=1e-6)
    _, _, dx = fastrnn.training.loss_and_gradients(model, x, x)
    np.testing.assert_allclose(dx, (0.1 * np.sign(x) + 0.4 * x) / 4, rtol=1e-5, atol=1e-7)


def test_permute(rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    layer, run = L.Permute((3, 1, 2)), Run(training=True)
    y = layer.forward(x, run)
    np.testing.assert_array_equal(y, x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(layer.backward(y, run), x)
    assert layer.compute_mask(x, np.ones((2, 3), bool)) is None


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.GaussianNoise(2), "stddev: expected a number from 0 to 1, received 2"),
        (lambda: L.GaussianDropout(1), "rate: expected a number below 1"),
        (lambda: L.Permute((0, 1)), r"dims: expected a permutation of 1, 2, .*received \(0, 1\)"),
        (lambda: L.Permute((2, 1))(np.zeros((2, 3))), "expected input of shape with 3 axes"),
        (lambda: L.ReLU(threshold=-1), "threshold: expected a number >= 0.0, received -1"),
        (lambda: L.LeakyReLU(None), "negative_slope: expected a number"),
        (lambda: L.ELU("x"), "alpha: expected a number"),
        (lambda: L.Softmax(None), "axis: expected a whole number or several, received None"),
        (lambda: L.Softmax(2)(np.zeros((2, 3))), "with an axis 2"),
        (lambda: L.PReLU(shared_axes=0), r"shared_axes: expected numbers >= 1, received \[0\]"),
        (lambda: L.PReLU(shared_axes=[3])(np.zeros((2, 3))), r"with the axes \[3\]"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_softmax_where_everything_is_masked_is_zero():
    layer, x = L.Softmax(), np.ones((2, 4), np.float32)
    mask = np.array([[False] * 4, [True, True, False, False]])
    assert layer(x, mask=mask).tolist() == [[0, 0, 0, 0], [0.5, 0.5, 0, 0]]  # Keras 3.15
