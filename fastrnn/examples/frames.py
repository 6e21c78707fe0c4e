"""Tag each frame of a noisy recording as speech or not, with a bidirectional LSTM.

A recording has 149 frames of 40 features and three sounds in loud noise. All sounds have the same
spectrum; a speech sound starts with an onset and ends with a release, other sounds have only one
of the two or none. So a frame alone tells little, and what came before it only half.
"""

import numpy as np

from fastrnn.examples import _common
from fastrnn.layers import LSTM, BatchNormalization, Bidirectional, Dense, Dropout, TimeDistributed
from fastrnn.models import Sequential
from fastrnn.utils import set_random_seed

N_FRAMES, N_FEATURES = 149, 40


def make_recordings(n, spectra, rng):
    """Return features (n, 149, 40) and labels (n, 149, 1); spectra: of sound, onset, release."""
    frame = np.arange(N_FRAMES)
    length = rng.integers(22, 40, (n, 3, 1))
    start = rng.integers(0, 50 - length) + [[0], [50], [100]]
    end = start + length
    has_onset, has_release = rng.random((2, n, 3, 1)) < 0.7
    sound = (start <= frame) & (frame < end)
    onset = sound & has_onset & (frame < start + 3)
    release = sound & has_release & (frame >= end - 3)
    heard = np.stack([0.4 * sound, onset, release], axis=-1).sum(axis=1)
    x = heard @ spectra + rng.standard_normal((n, N_FRAMES, N_FEATURES))
    y = (sound & has_onset & has_release).any(axis=1)
    return x.astype(np.float32), y[..., None].astype(np.float32)


def main():
    args = _common.parser("frames", __doc__, epochs=30).parse_args()
    set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    spectra = rng.standard_normal((3, N_FEATURES))
    x_training, y_training = make_recordings(2000, spectra, rng)
    x_test, y_test = make_recordings(400, spectra, rng)

    model = Sequential()
    model.add(Bidirectional(LSTM(20, return_sequences=True), input_shape=(N_FRAMES, N_FEATURES)))
    model.add(Dropout(0.5))
    model.add(BatchNormalization())
    model.add(TimeDistributed(Dense(1, activation="sigmoid")))
    model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
    model.summary()

    history = model.fit(
        x_training,
        y_training,
        batch_size=64,
        epochs=args.epochs,
        validation_data=(x_test, y_test),
        verbose=args.verbose,
    ).history
    _common.plot(args.plot, frames=history)
    _common.check(args, "validation accuracy", history["val_accuracy"][-1], target=0.95)


if __name__ == "__main__":
    main()
