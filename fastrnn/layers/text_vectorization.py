"""TextVectorization: text as the places of its words in a vocabulary."""

from __future__ import annotations

import itertools
import math
import operator
import string
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.checks import count
from fastrnn.layers import symbolic
from fastrnn.layers.base import Layer, as_input, check_flag
from fastrnn.layers.lookup import (
    StringLookup,
    as_bytes,
    batches_of,
    check_vocabulary,
    encoded,
    mode_of,
)
from fastrnn.utils import deserialize_object
from fastrnn.variable import Array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from numpy.typing import ArrayLike

    from fastrnn._types import LookupOptions, Path, Unpack, Whole

_PUNCTUATION = string.punctuation.encode()
_STANDARDIZE = ("lower_and_strip_punctuation", "lower", "strip_punctuation")
_SPLIT = ("whitespace", "character")
_MODES = ("int", "multi_hot", "count", "tf_idf")
_LOWER = bytes(range(256)).lower()
_AT_ONCE = 64  # texts


class TextVectorization(Layer):
    """Texts, str or bytes, (batch,) or (batch, 1) -> the places of their words in a vocabulary,
    int64 (batch, output_sequence_length), with zeros behind shorter texts; without
    output_sequence_length as long as the longest.

    standardize: "lower_and_strip_punctuation" (of ASCII, as TensorFlow), "lower",
    "strip_punctuation", None or a function of an array of str that gives the same of another.
    split: at "whitespace", into each "character", None, or a function of an array (texts,) of str
    that gives a list of words for each. ngrams: joined with spaces, of up to so many words, or of
    the numbers in a tuple. max_tokens, output_mode ("int", "multi_hot", "count" or "tf_idf"),
    pad_to_max_tokens, vocabulary and idf_weights are those of StringLookup, whose places are 0 for
    padding and 1 for words out of the vocabulary; in other modes than "int" there is no padding.
    encoding: of bytes. sparse, ragged: only False.

    In a model it comes after `Input(shape=(1,), dtype="string")`.
    Errors: ValueError for a call without a vocabulary.
    Source: https://keras.io/api/layers/preprocessing_layers/text/text_vectorization/
    """

    dtype = compute_dtype = variable_dtype = "string"
    input_dtype = object
    gives_float32 = False

    def __init__(
        self,
        max_tokens: Whole | None = None,
        standardize: str | Callable[..., Any] | None = "lower_and_strip_punctuation",
        split: str | Callable[..., Any] | None = "whitespace",
        ngrams: Whole | Sequence[Whole] | None = None,
        output_mode: Literal["int", "multi_hot", "count", "tf_idf"] = "int",
        output_sequence_length: Whole | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: ArrayLike | Path | None = None,
        idf_weights: ArrayLike | None = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        **kwargs: Unpack[LookupOptions],
    ):
        options: Any = {
            key: kwargs.pop(key)  # type: ignore[misc]
            for key in ("vocabulary_size", "has_input_vocabulary")
            if key in kwargs
        }
        kwargs.pop("dtype", None)
        super().__init__(name=name, **kwargs)
        self.standardize = _function_or_name("standardize", standardize, _STANDARDIZE)
        self.split = _function_or_name("split", split, _SPLIT)
        self.ngrams = _check_ngrams(ngrams)
        self.output_mode = mode_of(output_mode, _MODES)
        self.output_sequence_length = count("output_sequence_length", output_sequence_length, 1)
        if self.output_sequence_length is not None and self.output_mode != "int":
            raise ValueError(
                f"output_sequence_length: expected None for output_mode {output_mode!r}, received "
                f"{self.output_sequence_length}"
            )
        if check_flag("ragged", ragged):
            raise ValueError("ragged: expected False, as there are no ragged tensors")
        self.ragged = self.sparse = False
        self._lookup_layer = StringLookup(
            max_tokens=max_tokens,
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            pad_to_max_tokens=pad_to_max_tokens,
            mask_token="",
            output_mode=self.output_mode,
            sparse=sparse,
            encoding=encoding,
            **options,
        )
        self.built = True

    max_tokens, pad_to_max_tokens, vocabulary, idf_weights, encoding = (
        property(operator.attrgetter(f"_lookup_layer.{name}"))
        for name in ("max_tokens", "pad_to_max_tokens", "vocabulary", "idf_weights", "encoding")
    )

    @property
    def sublayers(self):
        return [self._lookup_layer]

    # --- the vocabulary ---

    def adapt(self, data: Any, batch_size: Whole | None = None, steps: Whole | None = None) -> None:
        """Make the vocabulary of the words in data, the most frequent first, of those that are
        equally frequent the greater first, as many as max_tokens. data: a list or an array of
        texts, or batches of these. steps: of how many batches at most; batch_size is unused.

        Errors: ValueError for a layer that got its vocabulary in the constructor, and for one whose
        output is as large as the vocabulary, if that has another size than before."""
        self.reset_state()
        for batch in batches_of(data, steps, object):
            self.update_state(batch)
        self.finalize_state()

    def update_state(self, data: ArrayLike) -> None:
        """Count the words of a batch of texts, of which each is a document."""
        x = as_input(data, object, "data")
        self.check_call(x.shape)
        if self.split is None:
            self._lookup_layer.update_state(self._words(x, "data"))
            return
        self._lookup_layer.update(self._rows(x, "data"), max(x.ndim, 1) + (x.shape[-1:] != (1,)))

    def finalize_state(self) -> None:
        """Make the vocabulary of what update_state has counted."""
        self._lookup_layer.finalize_state()

    def reset_state(self) -> None:
        """Forget the words that update_state has counted."""
        self._lookup_layer.reset_state()

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The words in the order of their places; with "" for padding, where output_mode is "int",
        and "[UNK]" before them unless include_special_tokens is False. Errors: UnicodeDecodeError
        for bytes that `encoding` does not have."""
        return self._lookup_layer.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """How many words there are, with those for padding and out of the vocabulary."""
        return self._lookup_layer.vocabulary_size()

    def set_vocabulary(
        self, vocabulary: ArrayLike | Path, idf_weights: ArrayLike | None = None
    ) -> None:
        """Take this vocabulary (StringLookup.set_vocabulary)."""
        self._lookup_layer.set_vocabulary(vocabulary, idf_weights)

    # --- computing ---

    @property
    def output_dtype(self):
        return self._lookup_layer.output_dtype

    @property
    def varies(self):
        """Does the length of the output follow the texts?"""
        return self.output_mode == "int" and self.output_sequence_length is None

    def build(self, input_shape=None):
        pass

    def check_call(self, shape):
        if self.split is not None and len(shape) > 1 and shape[-1] not in (1, None):
            self.reject_shape("(batch,) or (batch, 1)", shape, "; split=None takes words")

    def compute_output_shape(self, input_shape):
        shape = tuple(input_shape)
        if self.split is not None:
            shape = (*(shape[:-1] if len(shape) > 1 else shape), None)
        elif self.output_mode != "int" and len(shape) <= 1:
            shape = (*shape, 1)
        if self.output_mode != "int":
            return self._lookup_layer.compute_output_shape(shape)
        plain = self.output_sequence_length is None and self.split is None and self.ngrams is None
        return shape if plain else (*shape[:-1], self.output_sequence_length)

    def __call__(self, inputs: Any, *arguments: Any, **kwargs: Any) -> Any:
        """The layer's output for texts, or for one, as int64, float32 for "tf_idf". Called on
        `Input(...)`, part of a Model."""
        if symbolic.is_symbolic(inputs):
            return super().__call__(inputs, *arguments, **kwargs)
        return self.forward(as_input(inputs, object), None).view(Array)

    def forward(self, x, run, mask=None):
        self.check_call(x.shape)
        lookup = self._lookup_layer
        if self.split is None:
            y = lookup.forward(self._words(x), run)
            return self._fitted(y) if self.output_mode == "int" and y.ndim else y
        shape = x.shape[:-1] if x.ndim > 1 else x.shape
        count = math.prod(shape)
        if self.output_mode != "int":
            if len(shape) > 1:
                self.reject_shape("(batch,) or (batch, 1)", x.shape)
            y = np.zeros((count, lookup.depth), lookup.array_dtype)
            for start, rows in enumerate(self._rows(x)):
                lookup.count_rows([*rows], y[start * _AT_ONCE :][:_AT_ONCE])
            return y if shape else y[0]
        pieces, sizes = [], []
        for rows in self._rows(x):
            rows = (
                [*rows]
                if self.output_sequence_length is None
                else [row[: self.output_sequence_length] for row in rows]
            )
            own = [*map(len, rows)]
            sizes += own
            pieces.append(lookup.indices(itertools.chain.from_iterable(rows), sum(own)))
        lengths = np.array(sizes, np.int64)
        longest = (
            max(sizes, default=0)
            if self.output_sequence_length is None
            else self.output_sequence_length
        )
        y = np.zeros((count, longest), np.int64)
        if pieces:
            y[np.arange(longest) < lengths[:, None]] = np.concatenate(pieces)
        return y.reshape(*shape, longest)

    def backward(self, dy, run, need_dx=True):
        return None

    def plan(self, x, steps, run):
        y = np.zeros(self.compute_output_shape(x.shape), self._lookup_layer.array_dtype)
        steps.append(lambda: np.copyto(y, self.forward(x, run)))
        return y

    def _fitted(self, y):
        """Cut or filled to output_sequence_length."""
        length = self.output_sequence_length
        if length is None or y.shape[-1] == length:
            return y
        fitted = np.zeros((*y.shape[:-1], length), np.int64)
        fitted[..., : y.shape[-1]] = y[..., :length]
        return fitted

    def _words(self, x, name="inputs"):
        """An array of bytes, where split=None."""
        texts = self._standardized(encoded(x, name))
        array = np.fromiter(texts, object, len(texts)).reshape(x.shape)
        return array if self.ngrams is None else self._ngrams_of_array(array)

    def _rows(self, x, name="inputs"):
        """Iterables of _AT_ONCE lists of words, one for each text: few enough for the cache."""
        texts = x.ravel()
        for start in range(0, len(texts), _AT_ONCE):
            some = self._standardized(encoded(texts[start : start + _AT_ONCE], name))
            if self.split == "whitespace":
                rows = map(bytes.split, some)
            elif self.split == "character":
                rows = map(_characters, some)
            else:
                rows = self._split_by_function(some)
            yield rows if self.ngrams is None else (_joined(row, self.ngrams) for row in rows)

    def _standardized(self, texts):
        if self.standardize == "lower_and_strip_punctuation":
            return [text.translate(_LOWER, _PUNCTUATION) for text in texts]
        if self.standardize == "lower":
            return [text.lower() for text in texts]
        if self.standardize == "strip_punctuation":
            return [text.translate(None, _PUNCTUATION) for text in texts]
        return texts if self.standardize is None else self._of_function(texts)

    def _of_function(self, texts):
        """What the user's `standardize` makes of texts."""
        given = _decoded(texts)
        made = np.asarray(self.standardize(given))
        if made.shape != given.shape:
            raise ValueError(
                f"standardize: expected a function that gives an array of shape {given.shape} for "
                f"one, received {made.shape}"
            )
        return _of_results("standardize", made.tolist())

    def _split_by_function(self, texts):
        found = self.split(_decoded(texts))
        found = found.tolist() if isinstance(found, np.ndarray) else found
        listed = isinstance(found, (list, tuple)) and len(found) == len(texts)
        if not listed or any(isinstance(row, (str, bytes)) for row in found):
            raise ValueError(
                f"split: expected a function that gives {len(texts)} lists of words for as many "
                f"texts, received {found!r:.80}"
            )
        return [_of_results("split", row) for row in found]

    def _ngrams_of_array(self, array):
        """Those of the words along the last axis."""
        if not array.ndim:
            raise ValueError("inputs: expected words for ngrams with split=None, received one text")
        rows = [_joined(row, self.ngrams) for row in array.reshape(-1, array.shape[-1]).tolist()]
        size = len(rows[0]) if rows else 0
        flat = np.fromiter(itertools.chain.from_iterable(rows), object, size * len(rows))
        return flat.reshape(*array.shape[:-1], size)

    # --- config and files ---

    @property
    def own_names(self):
        return self._lookup_layer.own_names

    def own_arrays(self):
        return self._lookup_layer.own_arrays()

    def misfit(self, arrays):
        return self._lookup_layer.misfit(arrays)

    def load_own_arrays(self, arrays):
        self._lookup_layer.load_own_arrays(arrays)

    def get_config(self):
        inner = self._lookup_layer.get_config()
        more = ("has_input_vocabulary",) if "has_input_vocabulary" in inner else ()
        return {
            **super().get_config(),
            **{name: inner[name] for name in more},
            "max_tokens": inner["max_tokens"],
            "standardize": self.standardize,
            "split": self.split,
            "ngrams": self.ngrams,
            "output_mode": self.output_mode,
            "output_sequence_length": self.output_sequence_length,
            "pad_to_max_tokens": inner["pad_to_max_tokens"],
            "sparse": False,
            "ragged": False,
            "vocabulary": inner["vocabulary"],
            "idf_weights": inner["idf_weights"],
            "encoding": inner["encoding"],
            "vocabulary_size": self.vocabulary_size(),
        }

    @classmethod
    def from_config(cls, config):
        check_vocabulary(config)
        return cls(**config)


def _decoded(texts: list[bytes]):
    """An array of str; bytes that are not UTF-8 are in it as lone surrogates."""
    return np.array([text.decode("utf-8", "surrogateescape") for text in texts], str)


def _of_results(name, texts) -> list[bytes]:
    """The bytes of what the user's function gave."""
    try:
        return [text.encode("utf-8", "surrogateescape") for text in texts]
    except (AttributeError, UnicodeEncodeError):
        return [as_bytes(f"{name}: results", text) for text in texts]


_ASCII = [bytes([n]) for n in range(128)]


def _characters(text: bytes) -> list[bytes]:
    if text.isascii():
        return [*map(_ASCII.__getitem__, text)]
    return [character.encode() for character in text.decode("utf-8", "replace")]


def _joined(words, numbers):
    """The n-grams of words, for each of these numbers; of a number, for those up to it."""
    if isinstance(numbers, int):
        numbers = range(1, min(numbers, len(words)) + 1)
    found = []
    for n in numbers:
        found += [b" ".join(words[at : at + n]) for at in range(len(words) - n + 1)]
    return found


def _check_ngrams(ngrams):
    if ngrams is None:
        return None
    several = isinstance(ngrams, (list, tuple))
    numbers = [*ngrams] if several else [ngrams]
    if not numbers or any(not hasattr(n, "__index__") or n < 1 for n in numbers):
        raise ValueError(
            f"ngrams: expected an int >= 1, a tuple of such or None, received {ngrams!r:.80}"
        )
    return tuple(map(int, numbers)) if several else int(ngrams)


def _function_or_name(name, value, known):
    if isinstance(value, Mapping):
        value = deserialize_object(value, {}, name)
    if value is None or callable(value):
        return value
    if value not in known:
        raise ValueError(
            f"{name}: expected one of {[*known]}, a function or None, received {value!r:.80}"
        )
    return value
