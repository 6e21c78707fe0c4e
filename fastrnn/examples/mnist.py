"""Read handwritten digits row by row, with two LSTM layers or a bidirectional one (MNIST)."""

import sys

from fastrnn.datasets import mnist
from fastrnn.examples import _common
from fastrnn.layers import LSTM, Bidirectional, Dense
from fastrnn.models import Sequential
from fastrnn.utils import set_random_seed, to_categorical


def read_data(path):
    """Return training, validation (a twelfth, 5,000) and test data as pairs of x and y."""
    (x, y), (test_x, test_y) = mnist.load_data(path)
    x, test_x = x.astype("float32") / 255, test_x.astype("float32") / 255
    y, test_y = to_categorical(y, 10), to_categorical(test_y, 10)
    n = len(x) // 12
    return (x[n:], y[n:]), (x[:n], y[:n]), (test_x, test_y)


def build(name):
    model = Sequential(name=name)
    if name == "stacked":
        model.add(LSTM(64, input_shape=(28, 28), return_sequences=True))
        model.add(LSTM(32, return_sequences=False))
    else:
        model.add(Bidirectional(LSTM(64, return_sequences=False), input_shape=(28, 28)))
    model.add(Dense(10, activation="softmax"))
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def main():
    options = _common.parser("mnist", __doc__, epochs=15, verbose=2, seed=2)
    options.add_argument(
        "--path", default="mnist.npz", help="the data; found or downloaded if not given"
    )
    options.add_argument("--model", choices=("stacked", "bidirectional", "both"), default="both")
    args = options.parse_args()
    set_random_seed(args.seed)

    try:
        train, valid, test = read_data(args.path)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    histories, accuracies = {}, []
    for name in ("stacked", "bidirectional") if args.model == "both" else (args.model,):
        model = build(name)
        model.summary()
        histories[name] = model.fit(
            *train,
            batch_size=500,
            epochs=args.epochs,
            verbose=args.verbose,
            validation_data=valid,
        ).history
        pre = model.evaluate(*test, batch_size=500, verbose=args.verbose)
        print("test_loss:", pre[0], "- test_acc:", pre[1])
        accuracies.append(pre[1])
    _common.plot(args.plot, **histories)
    _common.check(args, "lowest test accuracy", min(accuracies), target=0.978)


if __name__ == "__main__":
    main()
