"""Learn to repeat the sequence 0.0 0.2 0.4 0.6 0.8; then build a stack of two LSTM layers.

Adam has the rate 0.005: at its default of 0.001, a thousand epochs are often too few for 0.0.
"""

from numpy import array

from fastrnn.examples import _common
from fastrnn.layers import LSTM, Dense, TimeDistributed
from fastrnn.models import Sequential
from fastrnn.optimizers import Adam
from fastrnn.utils import set_random_seed


def main():
    args = _common.parser("echo", __doc__, epochs=1000, verbose=2).parse_args()
    set_random_seed(args.seed)

    length = 5
    seq = array([i / length for i in range(length)])
    X = seq.reshape(1, length, 1)
    y = seq.reshape(1, length, 1)

    model = Sequential()
    model.add(LSTM(length, input_shape=(length, 1), return_sequences=True))
    model.add(TimeDistributed(Dense(1)))
    model.compile(loss="mean_squared_error", optimizer=Adam(0.005))
    model.summary()

    history = model.fit(X, y, epochs=args.epochs, batch_size=1, verbose=args.verbose).history
    _common.plot(args.plot, echo=history)
    result = model.predict(X, batch_size=1, verbose=0)
    for value in result[0, :, 0]:
        print(f"{value:.1f}")

    stacked = Sequential()
    stacked.add(LSTM(128, input_dim=64, input_length=5, return_sequences=True))
    stacked.add(LSTM(256, return_sequences=False))
    stacked.summary()

    if not abs(result - y).max() < 0.05:
        _common.missed(args, f"echo: {result[0, :, 0]}", f"the echo should be {seq}")


if __name__ == "__main__":
    main()
