"""Find where the running sum of ten random numbers passes 2.5, with a bidirectional LSTM.

Every epoch is one new sequence. Adam has the rate 0.005: at its default of 0.001, a thousand
sequences end at about 94.8 % of the time steps right.
"""

from time import perf_counter

import numpy as np

from fastrnn.examples import _common
from fastrnn.layers import LSTM, Bidirectional, Dense, TimeDistributed
from fastrnn.models import Sequential
from fastrnn.optimizers import Adam
from fastrnn.utils import set_random_seed

N_TIMESTEPS = 10


def get_sequences(count, rng):
    """Return X, random numbers in [0, 1), and y, whether their sum so far is at least 2.5."""
    X = rng.random((count, N_TIMESTEPS, 1))
    return X, (X.cumsum(axis=1) >= N_TIMESTEPS / 4).astype(int)


def main():
    options = _common.parser("cumsum", __doc__, epochs=1000, verbose=2)
    args = options.parse_args()
    set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    model = Sequential()
    model.add(Bidirectional(LSTM(20, return_sequences=True), input_shape=(N_TIMESTEPS, 1)))
    model.add(TimeDistributed(Dense(1, activation="sigmoid")))
    model.compile(loss="binary_crossentropy", optimizer=Adam(0.005), metrics=["acc"])
    model.summary()

    curves = {"loss": [], "acc": []}
    start = perf_counter()
    for _ in range(args.epochs):
        X, y = get_sequences(1, rng)
        history = model.fit(X, y, epochs=1, batch_size=1, verbose=args.verbose).history
        for name, values in curves.items():
            values += history[name]
    print(f"training time: {perf_counter() - start:.2f} s")

    X, y = get_sequences(1, rng)
    yhat = (model.predict(X, verbose=0) > 0.5).astype(int)
    for i in range(N_TIMESTEPS):
        print("Expected:", y[0, i], "Predicted", yhat[0, i])

    _common.plot(args.plot, cumsum=curves)
    X, y = get_sequences(200, rng)
    right = (model.predict(X, verbose=0) > 0.5) == y
    print("right at each time step:", *(f"{share:.3f}" for share in right.mean(axis=(0, 2))))
    _common.check(args, "accuracy on 200 new sequences", right.mean(), target=0.95)


if __name__ == "__main__":
    main()
