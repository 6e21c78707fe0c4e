"""Tell praising from damning film reviews with a bidirectional LSTM (IMDB, 25,000 + 25,000)."""

import sys

import numpy as np

from fastrnn.datasets import imdb
from fastrnn.examples import _common
from fastrnn.layers import LSTM, Bidirectional, Dense, Dropout, Embedding
from fastrnn.models import Sequential
from fastrnn.preprocessing import sequence
from fastrnn.utils import set_random_seed

n_unique_words = 10000  # the words that are not among the most frequent become one
maxlen = 200
batch_size = 128


def main():
    options = _common.parser("imdb", __doc__, epochs=4)
    options.add_argument(
        "--path", default="imdb.npz", help="the data; found or downloaded if not given"
    )
    args = options.parse_args()
    set_random_seed(args.seed)

    try:
        data = imdb.load_data(path=args.path, num_words=n_unique_words)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    (x_train, y_train), (x_test, y_test) = data
    x_train = sequence.pad_sequences(x_train, maxlen=maxlen)
    x_test = sequence.pad_sequences(x_test, maxlen=maxlen)
    y_train = np.array(y_train)
    y_test = np.array(y_test)

    model = Sequential()
    model.add(Embedding(n_unique_words, 128, input_length=maxlen))
    model.add(Bidirectional(LSTM(64)))
    model.add(Dropout(0.5))
    model.add(Dense(1, activation="sigmoid"))
    model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
    model.summary()

    print("Train...")
    history = model.fit(
        x_train,
        y_train,
        batch_size=batch_size,
        epochs=args.epochs,
        validation_data=[x_test, y_test],
        verbose=args.verbose,
    ).history
    _common.plot(args.plot, imdb=history)
    _common.check(args, "best validation accuracy", max(history["val_accuracy"]), target=0.86)


if __name__ == "__main__":
    main()
