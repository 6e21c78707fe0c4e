"""Derivatives of users' functions, against central differences in float64."""

import numpy as np
import pytest

from fastrnn import layers, losses, models
from fastrnn.initializers import Orthogonal
from fastrnn.tape import derivative

LOSSES = {
    "absolute": lambda t, p: np.mean(np.abs(t - p), axis=-1),
    "asymmetric": lambda t, p: np.where(p > t, p - t, 3 * (t - p)),
    "both in where": lambda t, p: np.where(t > 0, p**3, np.float64(0.5) * p),
    "clipped logs": lambda t, p: -np.log(np.clip(np.abs(p), 0.1, None)) * (t > 0),
    "correlation": lambda t, p: np.sum((t - t.mean()) * (p - p.mean())) / np.std(p),
    "dice": lambda t, p: 1 - 2 * np.sum(t * p) / (np.sum(np.ravel(p * p)) + 1),
    "exponents": lambda t, p: np.abs(p) ** np.abs(t) + 2.0**p - 1 / (2 + np.abs(p)),
    "first column": lambda t, p: np.square(t[:, 0] - p[:, 0]) + p[..., 1] * p[:, -1],
    "largest": lambda t, p: np.max(np.abs(t - p), axis=-1) + p.min(axis=0, keepdims=True).sum(),
    "masked": lambda t, p: np.mean(np.square(t - p)[t > 0]),
    "pinball": lambda t, p: np.mean(np.maximum(0.2 * (t - p), -0.8 * (t - p)), axis=-1),
    "reshaped": lambda t, p: p.reshape(-1, 2).T.sum(0) * np.squeeze(np.expand_dims(p, 0)).sum(1)[0],
    "rmse": lambda t, p: np.sqrt(np.mean(np.square(p - t), axis=-1)),
    "softplus": lambda t, p: np.logaddexp(0, p) + np.log1p(np.exp(-p)) + np.expm1(p / 9),
    "variance": lambda t, p: np.var(p, axis=1) + np.minimum(p, t).max(axis=1),
    "waves": lambda t, p: np.sin(p) * np.cos(p * t) - np.tanh(+p) + p.astype("float64"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_against_differences(name, rng):
    function = LOSSES[name]
    t, p = rng.normal(size=(2, 5, 4))
    expected = np.empty_like(p)
    for place in np.ndindex(p.shape):
        step = np.zeros_like(p)
        step[place] = 1e-6
        high, low = (np.sum(function(t, p + sign * step)) for sign in (1, -1))
        expected[place] = (high - low) / 2e-6
    found = derivative(lambda y: function(t, y), p)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_loss_in_several_steps(rng):
    def function(t, p):
        total = np.square(t - p)
        total += np.abs(p)
        total *= 2
        return total

    t, p = rng.normal(size=(2, 5, 4)).astype(np.float32)
    found = derivative(lambda y: function(t, y), p)
    np.testing.assert_allclose(found, 2 * (2 * (p - t) + np.sign(p)), rtol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda t, p: np.sinh(p), "no derivative is known of sinh; attach"),
        (lambda t, p: np.cumsum(p), "no derivative is known of cumsum; attach"),
        (lambda t, p: np.add.reduce(p), "no derivative is known of add; attach"),
        (
            lambda t, p: np.square(np.asarray(p)),
            "must not make an array of what it is given; attach",
        ),
        (lambda t, p: np.round(p), "the result comes from no step with a derivative; attach"),
    ],
)
def test_what_has_no_derivative(function, message):
    y = np.ones((2, 2), np.float32)
    loss = losses.LossFunctionWrapper(function, name="own")
    with pytest.raises(ValueError, match="^loss: no derivative of 'own' was found: .*" + message):
        loss.value_and_gradient(y, y)


def test_training_as_with_fastrnns_own_functions(rng):
    x = rng.normal(size=(32, 4, 3))
    y = x.sum((1, 2))

    def own(y_true, y_pred):
        return np.mean(np.square(y_pred - y_true), axis=-1)

    def own_activation(x):
        return np.maximum(x, 0.2 * x)

    def own_regularizer(w):
        return 0.01 * np.sum(np.square(w))

    results = []
    for loss, activation, regularizer in (
        (own, own_activation, own_regularizer),
        ("mse", "leaky_relu", "l2"),
    ):
        lstm = layers.LSTM(
            4, activation, kernel_regularizer=regularizer, kernel_initializer=Orthogonal(seed=1),
            recurrent_initializer=Orthogonal(seed=2), input_shape=(4, 3),
        )  # fmt: skip
        model = models.Sequential([lstm, layers.Dense(1, own_activation)])
        model.layers[1].set_weights([np.ones((4, 1)), np.zeros(1)])
        model.compile("adam", loss)
        history = model.fit(x, y, epochs=3, verbose=0, shuffle=False, sample_weight=y**2)
        results.append(history.history["loss"])
    np.testing.assert_allclose(*results, rtol=1e-5)
