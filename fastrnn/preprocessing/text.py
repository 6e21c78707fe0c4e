"""Text to numbers: the functions of Keras 2's `keras.preprocessing.text`."""

import hashlib
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from fastrnn._public import public

__all__ = ["Tokenizer", "hashing_trick", "one_hot", "text_to_word_sequence", "tokenizer_from_json"]
public(__name__)

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_TABLES = ("word_counts", "word_docs", "index_docs", "index_word", "word_index")


def text_to_word_sequence(
    input_text: str, filters: str = FILTERS, lower: bool = True, split: str = " "
) -> list[str]:
    """The words of a text, cut at `split` and at the characters in `filters`.

    Raises ValueError for anything but a string. As in Keras 2.
    """
    if not isinstance(input_text, str):
        raise ValueError(f"input_text: expected a string, received {input_text!r}")
    if lower:
        input_text = input_text.lower()
    separated = input_text.translate(str.maketrans(dict.fromkeys(filters, split)))
    return [word for word in separated.split(split) if word]


def one_hot(
    input_text: str,
    n: int,
    filters: str = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable[[str], Iterable[str]] | None = None,
) -> list[int]:
    """The words of a text as integers in [1, n), by Python's `hash`: see `hashing_trick`.

    `hash` gives other numbers in each process unless PYTHONHASHSEED is set. As in Keras 2.
    """
    return hashing_trick(input_text, n, hash, filters, lower, split, analyzer)


def hashing_trick(
    text: str,
    n: int,
    hash_function: Callable[[str], int] | str | None = None,
    filters: str = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable[[str], Iterable[str]] | None = None,
) -> list[int]:
    """The words of a text as integers in [1, n); different words may get the same one.

    `hash_function` is a function, "md5" (repeatable), or None for Python's `hash`; `analyzer`
    takes the place of `text_to_word_sequence`. Raises ValueError for n < 2. As in Keras 2.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 2:
        raise ValueError(f"n: expected an integer >= 2, received {n!r}")
    if hash_function is None:
        hash_function = hash
    elif hash_function == "md5":
        hash_function = _md5
    elif not callable(hash_function):
        raise ValueError(
            f'hash_function: expected a function, "md5" or None, received {hash_function!r}'
        )
    words = analyzer(text) if analyzer else text_to_word_sequence(text, filters, lower, split)
    return [hash_function(word) % (n - 1) + 1 for word in words]


def _md5(word: str) -> int:
    return int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest(), 16)


class Tokenizer:
    """Numbers the words of texts by frequency, from 1; 0 is for padding.

    num_words: only words below this number are kept, thus the num_words - 1 most frequent; default
    all. filters, lower, split: see `text_to_word_sequence`. char_level: number characters instead.
    oov_token: gets number 1 and replaces the words that have none; by default they are left out.
    analyzer: a function from a text to its words. A text may also be a list of words.
    nb_words is the older name of num_words. As in Keras 2.
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
        analyzer: Callable[[str], Iterable[str]] | None = None,
        **kwargs,
    ):
        if "nb_words" in kwargs:
            warnings.warn("nb_words is now called num_words", DeprecationWarning, stacklevel=2)
            num_words = kwargs.pop("nb_words")
        self.document_count = kwargs.pop("document_count", 0)
        if kwargs:
            raise TypeError(f"Tokenizer: unknown arguments {', '.join(kwargs)}")
        self.num_words = num_words
        self.filters = filters
        self.lower = lower
        self.split = split
        self.char_level = char_level
        self.oov_token = oov_token
        self.analyzer = analyzer
        self.word_counts = Counter()  # occurrences
        self.word_docs = defaultdict(int)  # texts that have the word
        self.index_docs = defaultdict(int)  # the same by number
        self.word_index = {}
        self.index_word = {}

    def __repr__(self):
        return f"<Tokenizer of {len(self.word_index)} words from {self.document_count} texts>"

    def _words(self, text: str | list[str]) -> list[str] | str:
        if self.char_level or isinstance(text, list):
            if not self.lower:
                return text
            return [word.lower() for word in text] if isinstance(text, list) else text.lower()
        if self.analyzer:
            return self.analyzer(text)
        return text_to_word_sequence(text, self.filters, self.lower, self.split)

    def fit_on_texts(self, texts: Iterable) -> None:
        """Count the words of texts, in addition to those counted before, and number them anew."""
        if isinstance(texts, str):
            raise ValueError("texts: expected a list of strings, received one string")
        for text in texts:
            words = list(self._words(text))
            self.document_count += 1
            self.word_counts.update(words)
            for word in set(words):
                self.word_docs[word] += 1
        by_count = sorted(self.word_counts, key=self.word_counts.get, reverse=True)
        if self.oov_token is not None:
            by_count.insert(0, self.oov_token)
        self.word_index = {word: number for number, word in enumerate(by_count, 1)}
        self.index_word = {number: word for word, number in self.word_index.items()}
        for word, count in self.word_docs.items():
            self.index_docs[self.word_index[word]] = count

    def fit_on_sequences(self, sequences) -> None:
        """Count the texts that have each number, for the mode "tfidf" without `fit_on_texts`."""
        self.document_count += len(sequences)
        for sequence in sequences:
            for number in set(sequence):
                self.index_docs[number] += 1

    def texts_to_sequences(self, texts: Iterable) -> list[list[int]]:
        """Each text as a list of numbers."""
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable) -> Iterator[list[int]]:
        """As `texts_to_sequences`, one text at a time."""
        if isinstance(texts, str):
            raise ValueError("texts: expected a list of strings, received one string")
        for text in texts:
            numbers = (self._kept(self.word_index.get(word)) for word in self._words(text))
            yield [number for number in numbers if number is not None]

    def sequences_to_texts(self, sequences: Iterable) -> list[str]:
        """Each list of numbers as words with a space between them."""
        return list(self.sequences_to_texts_generator(sequences))

    def sequences_to_texts_generator(self, sequences: Iterable) -> Iterator[str]:
        """As `sequences_to_texts`, one sequence at a time."""
        for sequence in sequences:
            known = (self._kept(n if n in self.index_word else None) for n in sequence)
            yield " ".join(self.index_word[number] for number in known if number is not None)

    def _kept(self, number: int | None) -> int | None:
        """The number to use for a word: its own or that of `oov_token`; None to leave it out."""
        if number is None or (self.num_words and number >= self.num_words):
            return self.word_index.get(self.oov_token)
        return number

    def texts_to_matrix(self, texts: Iterable, mode: str = "binary") -> np.ndarray:
        """`sequences_to_matrix` of `texts_to_sequences`."""
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(self, sequences, mode: str = "binary") -> np.ndarray:
        """A float64 array (sequences, num_words) of how often each number occurs in a sequence.

        mode: "binary" (0 or 1), "count", "freq" (share of the sequence) or "tfidf":
        (1 + ln count) * ln(1 + documents / (1 + documents with the number)). Numbers from
        `num_words` on (default: all words) are left out. Raises ValueError if nothing says how
        many words there are.
        """
        if mode not in ("binary", "count", "freq", "tfidf"):
            raise ValueError(
                f'mode: expected "binary", "count", "freq" or "tfidf", received {mode!r}'
            )
        columns = self.num_words or (len(self.word_index) + 1 if self.word_index else None)
        if columns is None:
            raise ValueError("num_words: expected a number, as no text has been fitted; got None")
        if mode == "tfidf" and not self.document_count:
            raise ValueError('mode: "tfidf" needs fit_on_texts or fit_on_sequences first')
        matrix = np.zeros((len(sequences), columns))
        for row, sequence in zip(matrix, sequences, strict=True):
            for number, count in Counter(sequence).items():
                if number >= columns:
                    continue
                if mode == "binary":
                    row[number] = 1
                elif mode == "count":
                    row[number] = count
                elif mode == "freq":
                    row[number] = count / len(sequence)
                else:
                    documents = 1 + self.index_docs.get(number, 0)
                    row[number] = (1 + np.log(count)) * np.log(1 + self.document_count / documents)
        return matrix

    def get_config(self) -> dict:
        """Arguments and counts, the tables as JSON texts, as in Keras 2. Without `analyzer`."""
        names = ("num_words", "filters", "lower", "split", "char_level", "oov_token")
        config = {name: getattr(self, name) for name in (*names, "document_count")}
        return config | {name: json.dumps(getattr(self, name)) for name in _TABLES}

    def to_json(self, **kwargs) -> str:
        """What `tokenizer_from_json` of fastrnn or Keras reads; kwargs are json.dumps's."""
        return json.dumps({"class_name": "Tokenizer", "config": self.get_config()}, **kwargs)


def tokenizer_from_json(json_string: str) -> Tokenizer:
    """The Tokenizer that fastrnn's or Keras's `to_json` described. Raises ValueError."""
    try:
        config = dict(json.loads(json_string)["config"])
        tables = {name: dict(json.loads(config.pop(name))) for name in _TABLES}
        for name in ("index_docs", "index_word"):
            tables[name] = {int(number): value for number, value in tables[name].items()}
        tokenizer = Tokenizer(**config)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"json_string: expected the JSON text of a Tokenizer ({type(error).__name__}: {error})"
        ) from error
    tokenizer.word_counts.update(tables["word_counts"])
    tokenizer.word_docs.update(tables["word_docs"])
    tokenizer.index_docs.update(tables["index_docs"])
    tokenizer.word_index, tokenizer.index_word = tables["word_index"], tables["index_word"]
    return tokenizer
