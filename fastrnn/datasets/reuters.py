"""Newswires as lists of word ranks, and their topics (Reuters-21578, 46 topics)."""

import operator
import warnings

import numpy as np

from fastrnn._public import public

from ._files import locate, read_npz, read_word_index

__all__ = ["get_label_names", "get_word_index", "load_data"]
public(__name__)

_SHA256 = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
_WORD_INDEX_MD5 = "4d44cc38712099c9e383dc6e5f11a921"
_LABELS = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves "
    "ship cotton carcass crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin "
    "strategic-metal livestock retail ipi iron-steel rubber heat jobs lei bop zinc orange pet-chem "
    "dlr gas silver wpi hog lead"
)


def load_data(
    path: str = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
    **kwargs,
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return (x_train, y_train), (x_test, y_test): x arrays of lists, y topics from 0 to 45.

    Of the 11,228 newswires, shuffled by `seed`, the last `test_split` (a share) are for testing;
    the other arguments are those of `imdb.load_data`. The file is found as by `mnist.load_data`.
    Raises OSError if it is not, ValueError for a damaged file or if no newswire is shorter than
    maxlen. As keras.datasets.reuters.
    """
    if "nb_words" in kwargs:
        warnings.warn("nb_words is now called num_words", DeprecationWarning, stacklevel=2)
        num_words = kwargs.pop("nb_words")
    if kwargs:
        raise TypeError(f"load_data: unknown arguments {', '.join(kwargs)}")
    if not 0 <= test_split <= 1:
        raise ValueError(f"test_split: expected a number from 0 to 1, received {test_split!r}")
    file = locate(path, "reuters.npz", _SHA256)
    x, y = read_npz(file, ("x", "y"), sequences=True)
    if y.shape != x.shape:
        raise ValueError(f"{file}: expected {len(x)} topics, received an array {y.shape}")

    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)
    prefix = [] if start_char is None else [start_char]
    shift = index_from or 0
    try:
        newswires = [prefix + [operator.index(rank) + shift for rank in x[i]] for i in order]
    except TypeError as error:
        raise ValueError(f"{file}: expected lists of integers ({error})") from error
    topics = y[order]
    if maxlen:
        short = [i for i, newswire in enumerate(newswires) if len(newswire) < maxlen]
        if not short:
            raise ValueError(f"maxlen: expected some newswires to be shorter, received {maxlen}")
        newswires, topics = [newswires[i] for i in short], topics[short]

    high = num_words or max(max(newswire, default=0) for newswire in newswires)
    array = np.empty(len(newswires), dtype=object)
    for i, newswire in enumerate(newswires):
        if oov_char is None:
            array[i] = [word for word in newswire if skip_top <= word < high]
        else:
            array[i] = [word if skip_top <= word < high else oov_char for word in newswire]
    cut = int(len(array) * (1 - test_split))
    return (array[:cut], topics[:cut]), (array[cut:], topics[cut:])


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """Return the rank of every word, as `imdb.get_word_index`. As keras.datasets.reuters."""
    return read_word_index(path, "reuters_word_index.json", _WORD_INDEX_MD5)


def get_label_names() -> tuple[str, ...]:
    """Return the names of the 46 topics, in the order of their numbers."""
    return tuple(_LABELS.split())
