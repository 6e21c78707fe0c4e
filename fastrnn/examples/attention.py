"""Find the one step of a sequence that is marked, and say what it holds: an attention layer of the
user's own, trained in a loop of the user's own.

In each sequence of random numbers a step has a mark, and the sign of its first number is the label.
The layer pools the steps by weights that it learns; in the end they are nearly all on the mark.
"""

from time import perf_counter

import numpy as np

from fastrnn import ops
from fastrnn.examples import _common
from fastrnn.gradient_tape import GradientTape
from fastrnn.layers import LSTM, Bidirectional, Dense, Input, Layer
from fastrnn.losses import BinaryCrossentropy
from fastrnn.metrics import BinaryAccuracy, Mean
from fastrnn.models import Model
from fastrnn.optimizers import Adam
from fastrnn.utils import set_random_seed

N_TIMESTEPS, N_FEATURES = 30, 4
BATCH = 50


class Attention(Layer):
    """The mean of steps (batch, timesteps, features) by weights, which it returns too."""

    def __init__(self, units=16, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.score = self.add_weight(shape=(self.units, 1), name="score")

    def call(self, x):
        energy = ops.tanh(ops.matmul(x, self.kernel) + self.bias)
        weights = ops.softmax(ops.matmul(energy, self.score), axis=1)
        return ops.sum(weights * x, axis=1), ops.squeeze(weights, -1)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def get_sequences(count, rng):
    """Return X, random numbers and in the last feature the mark; y; and which step is marked."""
    X = rng.normal(size=(count, N_TIMESTEPS, N_FEATURES)).astype(np.float32)
    marked = rng.integers(0, N_TIMESTEPS, count)
    X[:, :, -1] = np.arange(N_TIMESTEPS) == marked[:, None]
    return X, (X[np.arange(count), marked, :1] > 0).astype(np.float32), marked


def main():
    args = _common.parser("attention", __doc__, epochs=10, verbose=2).parse_args()
    set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    X, y, _ = get_sequences(2000, rng)

    inputs = Input((N_TIMESTEPS, N_FEATURES))
    steps = Bidirectional(LSTM(16, return_sequences=True))(inputs)
    pooled, weights = Attention()(steps)
    model = Model(inputs, [Dense(1, activation="sigmoid")(pooled), weights])
    model.summary()

    loss_of, optimizer = BinaryCrossentropy(), Adam(0.005)
    loss_mean, accuracy = Mean(), BinaryAccuracy()
    curves = {"loss": [], "accuracy": []}
    start = perf_counter()
    for epoch in range(args.epochs):
        loss_mean.reset_state()
        accuracy.reset_state()
        order = rng.permutation(len(X))
        for first in range(0, len(X), BATCH):
            batch = order[first : first + BATCH]
            with GradientTape() as tape:
                found, _ = model(X[batch], training=True)
                loss = loss_of(y[batch], found)
            gradients = tape.gradient(loss, model.trainable_weights)
            optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
            loss_mean.update_state(loss)
            accuracy.update_state(y[batch], found)
        curves["loss"].append(float(loss_mean.result()))
        curves["accuracy"].append(float(accuracy.result()))
        if args.verbose:
            shown = (f"{name}: {values[-1]:.4f}" for name, values in curves.items())
            print(f"Epoch {epoch + 1}/{args.epochs}", *shown, sep=" - ")
    print(f"training time: {perf_counter() - start:.2f} s")

    X, y, marked = get_sequences(500, rng)
    found, weights = model.predict(X, verbose=0)
    print(f"weight of the marked step: {weights[np.arange(500), marked].mean():.2f}")
    _common.plot(args.plot, attention=curves)
    _common.check(args, "accuracy on 500 new sequences", ((found > 0.5) == y).mean(), target=0.95)


if __name__ == "__main__":
    main()
