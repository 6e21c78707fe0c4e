"""Film reviews as lists of word ranks, and whether they praise (Maas et al., 2011)."""

import operator
import warnings
from itertools import chain

import numpy as np

from fastrnn._public import public

from ._files import locate, read_npz, read_word_index

__all__ = ["get_word_index", "load_data"]
public(__name__)

_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
_WORD_INDEX_MD5 = "bfafd718b763782e994055a2d397834f"


def load_data(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
    **kwargs,
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return (x_train, y_train), (x_test, y_test): x arrays of 25,000 lists, y of 0 and 1.

    Reviews are shuffled by `seed`, begin with `start_char` and have words as rank + `index_from`.
    Only those shorter than `maxlen` are kept. A word outside [skip_top, num_words) becomes
    `oov_char`, or is dropped if that is None; `num_words` defaults to the largest word, which is
    thus left out, as in Keras. `nb_words` is the old name of `num_words`.

    The file is found as by `mnist.load_data`. Raises OSError if it is not, ValueError for a
    damaged file or if no review is shorter than maxlen. As keras.datasets.imdb.
    """
    if "nb_words" in kwargs:
        warnings.warn("nb_words is now called num_words", DeprecationWarning, stacklevel=2)
        num_words = kwargs.pop("nb_words")
    if kwargs:
        raise TypeError(f"load_data: unknown arguments {', '.join(kwargs)}")
    file = locate(path, "imdb.npz", _SHA256)
    x_train, y_train, x_test, y_test = read_npz(
        file, ("x_train", "y_train", "x_test", "y_test"), sequences=True
    )

    rng = np.random.RandomState(seed)
    prefix = [] if start_char is None else [start_char]
    splits = []
    for x, y in ((x_train, y_train), (x_test, y_test)):
        order = np.arange(len(x))
        rng.shuffle(order)
        if maxlen:
            order = [i for i in order if len(prefix) + len(x[i]) < maxlen]
            if not order:
                raise ValueError(f"maxlen: expected some reviews to be shorter, received {maxlen}")
        splits.append((x[order], y[order]))

    try:
        ranks = set(chain.from_iterable(chain(splits[0][0], splits[1][0])))
        words = {rank: operator.index(rank) + index_from for rank in ranks}
    except TypeError as error:
        raise ValueError(f"{file}: expected lists of integers ({error})") from error
    high = num_words or max([*prefix, *words.values()])
    if oov_char is None:
        words = {rank: word for rank, word in words.items() if skip_top <= word < high}
        prefix = [word for word in prefix if skip_top <= word < high]
    else:
        words = {rank: w if skip_top <= w < high else oov_char for rank, w in words.items()}
        prefix = [word if skip_top <= word < high else oov_char for word in prefix]
    return tuple((_translate(x, words, prefix), y) for x, y in splits)


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """Return the rank of every word, 1 being the most frequent.

    `load_data` adds index_from to ranks. The file is found as by `mnist.load_data`. Raises
    OSError if it is not, ValueError for a damaged file. As keras.datasets.imdb.
    """
    return read_word_index(path, "imdb_word_index.json", _WORD_INDEX_MD5)


def _translate(reviews: np.ndarray, words: dict[int, int], prefix: list[int]) -> np.ndarray:
    translated = np.empty(len(reviews), dtype=object)
    for i, review in enumerate(reviews):
        translated[i] = prefix + [words[rank] for rank in review if rank in words]
    return translated
