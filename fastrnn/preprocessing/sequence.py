"""Sequences of words or steps: padded to one array, cut into pairs, in windows."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._public import public

from .timeseries import TimeseriesGenerator

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import ArrayLike


__all__ = ["TimeseriesGenerator", "make_sampling_table", "pad_sequences", "skipgrams"]
public(__name__)


def pad_sequences(
    sequences: Iterable[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Pad or cut `sequences` to one length: (n, maxlen, *shape of one step).

    `maxlen` defaults to the longest length. `padding` and `truncating` name the end ("pre" or
    "post") where `value` is added or steps are dropped. Raises ValueError for anything but sized
    sequences whose steps agree in shape. As keras.utils.pad_sequences.
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in ("pre", "post"):
            raise ValueError(f'{name}: expected "pre" or "post", received {side!r}')
    if not hasattr(sequences, "__len__"):
        raise ValueError(
            "sequences: expected a list or an array of sequences, "
            f"received {type(sequences).__name__}"
        )
    lengths = [_length(sequence, i) for i, sequence in enumerate(sequences)]
    if maxlen is None:
        if not lengths:
            raise ValueError("maxlen: expected an integer, as sequences is empty; received None")
        maxlen = max(lengths)
    elif maxlen < 1:
        raise ValueError(f"maxlen: expected an integer >= 1, received {maxlen}")
    dtype = np.dtype(dtype)
    if isinstance(value, str) and dtype.kind not in "OUS":
        raise ValueError(
            f"dtype: expected object or a string type for value={value!r}, received {dtype}"
        )

    first = next((s for s, length in zip(sequences, lengths, strict=True) if length), ())
    step_shape = np.asarray(first).shape[1:]
    out = np.full((len(lengths), maxlen, *step_shape), value, dtype=dtype)
    for i, (row, sequence, length) in enumerate(zip(out, sequences, lengths, strict=True)):
        if not length:
            continue
        kept = sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen]
        kept = np.asarray(kept, dtype=dtype)
        if kept.shape[1:] != step_shape:
            raise ValueError(
                f"sequences[{i}]: expected steps of shape {step_shape} as in the first sequence, "
                f"received {kept.shape[1:]}"
            )
        if padding == "pre":
            row[-len(kept) :] = kept
        else:
            row[: len(kept)] = kept
    return out


def _length(sequence, position: int) -> int:
    try:
        return len(sequence)
    except TypeError:
        raise ValueError(
            f"sequences[{position}]: expected a sequence, received {sequence!r}"
        ) from None


def make_sampling_table(size: int, sampling_factor: float = 1e-5) -> np.ndarray:
    """The probability of keeping the word of each rank in `skipgrams`: float64 (size,).

    min(1, sqrt(sampling_factor / frequency)), as word2vec does, with the frequencies of Zipf's law:
    1 / (rank * (ln rank + 0.577) + 1/2 - 1/(12 * rank)). Rank 0 has the value of rank 1. As in
    Keras 2. Source: Mikolov et al., 2013, https://arxiv.org/abs/1310.4546
    """
    rank = np.maximum(np.arange(size), 1)
    inverse_frequency = rank * (np.log(rank) + 0.577) + 0.5 - 1 / (12 * rank)
    return np.minimum(1.0, np.sqrt(sampling_factor * inverse_frequency))


def skipgrams(
    sequence: ArrayLike,
    vocabulary_size: int,
    window_size: int = 4,
    negative_samples: float = 1.0,
    shuffle: bool = True,
    categorical: bool = False,
    sampling_table: ArrayLike | None = None,
    seed: int | None = None,
) -> tuple[list, list]:
    """Pairs [word, other word] and their labels, for training word vectors.

    Label 1 has every word of `sequence` with each at most `window_size` places away; label 0 has
    `negative_samples` times as many of its words, each with a random one in [1, vocabulary_size).
    0 is no word. categorical: labels are [0, 1] and [1, 0]. sampling_table: the probability of
    keeping each word. seed: of the order. Draws from Python's `random`. As in Keras 2.
    """
    positive, negative = ([0, 1], [1, 0]) if categorical else (1, 0)
    couples = []
    for i, word in enumerate(sequence):
        if not word or (sampling_table is not None and sampling_table[word] < random.random()):
            continue
        for j in range(max(i - window_size, 0), min(i + window_size + 1, len(sequence))):
            if j != i and sequence[j]:
                couples.append([word, sequence[j]])
    labels = [positive] * len(couples)

    if negative_samples > 0 and couples:
        if vocabulary_size < 2:
            raise ValueError(f"vocabulary_size: expected at least 2, received {vocabulary_size}")
        words = [word for word, _ in couples]
        random.shuffle(words)
        count = int(len(couples) * negative_samples)
        couples += [
            [words[i % len(words)], random.randint(1, vocabulary_size - 1)] for i in range(count)
        ]
        labels += [negative] * count

    if shuffle:
        seed = random.randint(0, 10**7) if seed is None else seed
        for pairs in (couples, labels):
            random.Random(seed).shuffle(pairs)
    return couples, labels
