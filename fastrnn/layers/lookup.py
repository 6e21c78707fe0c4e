"""StringLookup and IntegerLookup: tokens as their places in a vocabulary, and back."""

from __future__ import annotations

import collections
import contextlib
import contextvars
import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.checks import count
from fastrnn.layers import symbolic
from fastrnn.layers.base import Layer, as_input, check_flag
from fastrnn.layers.hashing import bucket
from fastrnn.variable import Array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from numpy.typing import ArrayLike

    from fastrnn._types import LookupOptions, Path, Unpack, Whole

    OutputMode = Literal["int", "one_hot", "multi_hot", "count", "tf_idf"]

_MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")
_DROPPED = np.iinfo(np.int64).max  # the place of what is masked, where places are counted

# Whether configs take the vocabularies up: "all", those that their text file would not keep
# ("needed"), or none.
_in_configs: contextvars.ContextVar[str | None] = contextvars.ContextVar("in_configs", default=None)


@contextlib.contextmanager
def vocabularies_in_configs(which: str):
    """Within `with`, get_config() of layers gives what `adapt` found too."""
    before = _in_configs.set(which)
    try:
        yield
    finally:
        _in_configs.reset(before)


def encoded(array: np.ndarray, name: str = "inputs") -> list[bytes]:
    """The texts of an array in a row, as bytes."""
    texts = array.ravel().tolist()
    try:
        return [text.encode() for text in texts]
    except (AttributeError, UnicodeEncodeError):
        return [as_bytes(name, text) for text in texts]


def as_bytes(name, text) -> bytes:
    """Text as TensorFlow has it."""
    if isinstance(text, bytes):
        return bytes(text)
    if not isinstance(text, str):
        hint = "; texts of several lengths are no array" * isinstance(text, (list, np.ndarray))
        raise ValueError(f"{name}: expected text, str or bytes, received {text!r:.80}{hint}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}: expected text that UTF-8 can hold, received {text!a}") from None


def one_of(name, value, known):
    if value not in known:
        raise ValueError(f"{name}: expected one of {[*known]}, received {value!r}")
    return value


def mode_of(output_mode, known):
    """One of the output modes, from its name or an older one."""
    older = {"binary": "multi_hot", "tf-idf": "tf_idf"}
    mode = older.get(output_mode, output_mode) if isinstance(output_mode, str) else output_mode
    return one_of("output_mode", mode, known)


def batches_of(data, steps, dtype):
    """The arrays in what `adapt` was given; one array is one batch, of samples of one token."""
    name = "data"
    if isinstance(data, (list, tuple)) or hasattr(data, "__array__"):
        array = as_input(data, dtype, name)
        yield array[:, None] if array.ndim == 1 else array
    elif hasattr(data, "__iter__") and not isinstance(data, (str, bytes, dict)):
        for batch in itertools.islice(data, count("steps", steps, 1)):
            yield as_input(batch, dtype, name)
    else:
        raise ValueError(f"data: expected an array, a list or batches, received {data!r:.80}")


class Numbers(dict):
    """token -> its number, the next one where there is none."""

    def __missing__(self, token):
        self[token] = number = len(self)
        return number


class Counts:
    """How often each token was added: by their numbers, in arrays, which is faster than a Counter
    where there are many."""

    def __init__(self):
        self._numbers = Numbers()
        self._sums = np.zeros(0, np.int64)
        self._waiting, self._size = [], 0

    def add(self, tokens):
        numbers = np.fromiter(map(self._numbers.__getitem__, tokens), np.int64)
        self._waiting.append(numbers)
        self._size += len(numbers)
        if self._size > max(len(self._numbers), 1 << 16):
            self._sum()

    def _sum(self):
        numbers = np.concatenate([*self._waiting, np.zeros(0, np.int64)])
        sums = np.bincount(numbers, minlength=len(self._numbers))
        sums[: len(self._sums)] += self._sums
        self._sums = sums
        self._waiting, self._size = [], 0

    def found(self) -> dict[Any, int]:
        self._sum()
        return dict(zip(self._numbers, self._sums.tolist(), strict=True))


class IndexLookup(Layer):
    """What StringLookup and IntegerLookup share."""

    _of_text = False
    _vocabulary_type = "int64"
    gives_float32 = False
    _hidden_names = Layer._hidden_names | {
        *("array_dtype", "assets", "count_rows", "depth", "has_vocabulary", "indices", "kept"),
        *("load_assets", "restore", "take_whole", "update"),
    }

    def __init__(
        self,
        max_tokens,
        num_oov_indices,
        mask_token,
        oov_token,
        vocabulary,
        idf_weights,
        invert,
        output_mode,
        sparse,
        pad_to_max_tokens,
        oov_method,
        salt,
        name,
        **kwargs,
    ):
        self._frozen_size = kwargs.pop("vocabulary_size", None)
        self._has_input_vocabulary = kwargs.pop("has_input_vocabulary", vocabulary is not None)
        for unused in ("trainable", "dtype"):
            kwargs.pop(unused, None)
        super().__init__(name=name, **kwargs)
        self.max_tokens = count("max_tokens", max_tokens, 2)
        self.num_oov_indices = count("num_oov_indices", num_oov_indices, 0)
        if self.num_oov_indices is None:
            raise ValueError("num_oov_indices: expected an int >= 0, received None")
        self.mask_token, self.oov_token = mask_token, oov_token
        self.invert = check_flag("invert", invert)
        self.output_mode = mode_of(output_mode, _MODES)
        self.pad_to_max_tokens = check_flag("pad_to_max_tokens", pad_to_max_tokens)
        self.oov_method = one_of("oov_method", oov_method, ("floormod", "farmhash"))
        self.salt = _salt(salt)
        if check_flag("sparse", sparse):
            raise ValueError("sparse: expected False, as there are no sparse tensors")
        self.sparse = False
        if self.pad_to_max_tokens and self.max_tokens is None:
            raise ValueError("max_tokens: expected an int >= 2 with pad_to_max_tokens=True")
        if self.salt and not self._of_text and oov_method != "farmhash":
            raise ValueError("salt: expected None where oov_method is not 'farmhash'")
        if self.invert and self.output_mode != "int":
            raise ValueError(f"output_mode: expected 'int' with invert, received {output_mode!r}")
        if idf_weights is not None and self.output_mode != "tf_idf":
            raise ValueError(
                f"idf_weights: expected None for output_mode {self.output_mode!r}, received "
                f"{idf_weights!r:.80}"
            )
        self._mask = None if mask_token is None else self._token("mask_token", mask_token)
        self._oov = None if oov_token is None else self._token("oov_token", oov_token)
        if self.invert and self._oov is None:
            raise ValueError("oov_token: expected a token with invert, received None")
        self._frozen_size = count("vocabulary_size", self._frozen_size, 0)
        if self._frozen_size is not None and self._frozen_size <= self._start():
            self._frozen_size = None
        self.input_dtype: Any = object if self._of_text and not self.invert else np.int64
        self.input_vocabulary, self.input_idf_weights = None, None
        self._tokens: list[Any] = []
        self._places: Any = None  # of tokens; or inverted, the tokens of places
        self.idf_weights: np.ndarray | None = None  # of each place
        self.reset_state()
        if vocabulary is not None:
            if self.output_mode == "tf_idf" and idf_weights is None:
                raise ValueError("idf_weights: expected those of the vocabulary, received None")
            self.set_vocabulary(vocabulary, idf_weights)
            if not isinstance(vocabulary, (str, os.PathLike)) and self._has_input_vocabulary:
                self.input_vocabulary, self.input_idf_weights = vocabulary, idf_weights
        self.built = True

    # --- the vocabulary ---

    @property
    def vocabulary(self):
        """The list that the constructor was given, or None."""
        return self.input_vocabulary

    @property
    def has_vocabulary(self):
        return self._places is not None

    def _token(self, name, value):
        """A token as the layer looks it up."""
        raise NotImplementedError

    def _shown(self, token):
        """A token as users see it."""
        return token

    def _start(self):
        """The place of the first token that is not special."""
        return self._first_oov() + self.num_oov_indices

    def _first_oov(self):
        return 1 if self._mask is not None and self.output_mode == "int" else 0

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The tokens in the order of their places, with mask_token and oov_token before the others
        unless include_special_tokens is False. Errors: UnicodeDecodeError for bytes that `encoding`
        does not have."""
        special = []
        if include_special_tokens:
            special = [self.mask_token] * self._first_oov()
            special += [self.oov_token] * self.num_oov_indices
        return special + [self._shown(token) for token in self._tokens]

    def vocabulary_size(self) -> int:
        """How many tokens there are, the special ones included."""
        return len(self._tokens) + self._start()

    def set_vocabulary(
        self, vocabulary: ArrayLike | Path, idf_weights: ArrayLike | None = None
    ) -> None:
        """Take this vocabulary: a list or an array of tokens, that may begin with the special ones,
        or the path of a text file with one a line, without those. idf_weights: for output_mode
        "tf_idf" the number of each token.

        Errors: ValueError for a token that is there twice, or special where it should not be, more
        tokens than max_tokens, another number of them than before where that is the size of the
        output, and idf_weights of another length."""
        is_path = isinstance(vocabulary, (str, os.PathLike))
        if (idf_weights is not None) != (self.output_mode == "tf_idf") or (
            is_path and self.output_mode == "tf_idf"
        ):
            raise ValueError(
                "idf_weights: expected those of a list of tokens for output_mode 'tf_idf', and "
                f"None for others, received {idf_weights!r:.80} for {self.output_mode!r}"
            )
        if is_path:
            given, special = self._read(os.fspath(vocabulary)), False
        else:
            given = self._checked(vocabulary)
            special = self._begins_with_special(given)
        tokens = given[self._start() :] if special else given
        self._check_tokens(tokens)
        size = self._start() + len(tokens)
        if self.max_tokens is not None and size > self.max_tokens and not is_path:
            raise ValueError(
                f"vocabulary: expected at most max_tokens, {self.max_tokens}, received {size} with "
                "the special tokens"
            )
        idf = None if idf_weights is None else self._padded(idf_weights, len(given), special)
        self._take(tokens, idf)
        if self.input_vocabulary is not None:
            self.input_vocabulary, self.input_idf_weights = vocabulary, idf_weights

    def _checked(self, vocabulary):
        if hasattr(vocabulary, "__array__"):
            vocabulary = np.asarray(vocabulary)
        if not isinstance(vocabulary, (list, tuple, np.ndarray)) or np.ndim(vocabulary) == 0:
            raise ValueError(
                f"vocabulary: expected a list of tokens or a path, received {vocabulary!r:.80}"
            )
        found = vocabulary.tolist() if isinstance(vocabulary, np.ndarray) else vocabulary
        return [
            None if token is None else self._token(f"vocabulary[{place}]", token)
            for place, token in enumerate(found)
        ]

    def _begins_with_special(self, given):
        first, start = self._first_oov(), self._start()
        return (
            len(given) >= start
            and all(token == self._mask for token in given[:first])
            and all(token == self._oov for token in given[first:start])
        )

    def _check_tokens(self, tokens):
        if len(set(tokens)) < len(tokens):
            twice = [token for token, n in collections.Counter(tokens).items() if n > 1]
            twice = [*map(self._described, twice[:5])]
            raise ValueError(f"vocabulary: expected each token once, received {twice} again")
        reserved = [("mask_token", self._mask)]
        if self.invert:
            reserved.append(("oov_token", self._oov))
        for name, token in reserved:
            if token is not None and token in tokens:
                raise ValueError(
                    f"vocabulary: expected {name} {self._described(token)!r} at its start, with "
                    "the other special tokens, or nowhere"
                )
        if not tokens:
            raise ValueError("vocabulary: expected tokens beside the special ones, received none")
        if None in tokens:
            raise ValueError("vocabulary: expected tokens, received None")

    def _described(self, token):
        return token.decode(errors="backslashreplace") if isinstance(token, bytes) else token

    def _padded(self, idf_weights, given, special):
        """The numbers of all places, from those of the given tokens."""
        idf = np.asarray(idf_weights)
        if idf.ndim != 1 or idf.dtype.kind not in "iuf" or not np.isfinite(idf).all():
            raise ValueError(f"idf_weights: expected finite numbers, received {idf_weights!r:.80}")
        if len(idf) != given:
            raise ValueError(
                f"idf_weights: expected {given} numbers, as there are tokens, received {len(idf)}"
            )
        if not special:
            idf = np.concatenate([np.full(self._start(), np.average(idf)), idf])
        return self._filled(idf)

    def _filled(self, idf):
        """With zeros for the places behind the vocabulary."""
        more = self.max_tokens - len(idf) if self.pad_to_max_tokens else 0
        return np.pad(idf.astype(np.float32), (0, max(more, 0)))

    def _read(self, path):
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            raise ValueError(f"vocabulary: expected a file, there is none at {path!r}") from None
        lines = content.replace(b"\r", b"").split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        if not lines or b"" in lines:
            raise ValueError(
                f"vocabulary: expected one token a line in {path!r}, received an empty "
                + ("line" if lines else "file")
            )
        return self._parsed("vocabulary", lines)

    def _parsed(self, name, lines):
        return [self._token(name, line) for line in lines]

    def _take(self, tokens, idf):
        """Let these be the vocabulary."""
        size = self._start() + len(tokens)
        if self._depends_on_size():
            if self._frozen_size not in (None, size):
                raise ValueError(
                    f"vocabulary of layer {self.name!r}: expected {self._frozen_size} tokens with "
                    f"the special ones, the size of the output, received {size}; with max_tokens "
                    "and pad_to_max_tokens=True it is always max_tokens"
                )
        places: dict[Any, Any] = dict(zip(tokens, itertools.count(self._start()), strict=False))
        if self.invert:
            places = {place: token for token, place in places.items()}
            if self._mask is not None:
                places[0] = self._mask
        elif self._mask is not None:
            places[self._mask] = 0 if self.output_mode == "int" else _DROPPED
        self._frozen_size = size
        self._tokens, self._places, self.idf_weights = [*tokens], places, idf

    def _depends_on_size(self):
        return self.output_mode != "int" and not self.pad_to_max_tokens

    # --- adapt ---

    def adapt(self, data: Any, steps: Whole | None = None) -> None:
        """Make the vocabulary of the tokens in data, the most frequent first, of those that are
        equally frequent the greater first, as many as max_tokens. data: a list or array, or batches
        of these. steps: of how many batches at most.

        Errors: ValueError for a layer that got its vocabulary in the constructor, and for one whose
        output is as large as the vocabulary, if that has another size than before."""
        self.reset_state()
        for batch in batches_of(data, steps, self._adapts_to()):
            self.update_state(batch)
        self.finalize_state()

    def _adapts_to(self):
        return object if self._of_text else np.int64

    def reset_state(self) -> None:
        """Forget the tokens that update_state has counted."""
        self._counts = Counts()
        self._documents: collections.Counter = collections.Counter()
        self._count_of_documents = 0

    def update_state(self, data: ArrayLike) -> None:
        """Count the tokens of a batch, of which each row is a document."""
        array = as_input(data, self._adapts_to(), "data")
        array = array.reshape(1, -1) if array.ndim < 2 else array
        tokens = encoded(array, "data") if array.dtype == object else array.ravel().tolist()
        size = array.shape[-1]
        rows = [tokens[n : n + size] for n in range(0, len(tokens), size or 1)]
        self.update([rows], array.ndim)

    def update(self, pieces, rank):
        """Count the tokens in lists of rows, of an array of this rank."""
        if self._has_input_vocabulary:
            raise ValueError(
                f"adapt of layer {self.name!r}: expected no vocabulary in the constructor"
            )
        of_documents = self.output_mode == "tf_idf"
        if of_documents and rank > 2:
            raise ValueError(
                "data: expected documents of tokens for output_mode 'tf_idf', received more axes"
            )
        for rows in pieces:
            rows = [*rows] if of_documents else rows
            self._counts.add(itertools.chain.from_iterable(rows))
            if of_documents:
                self._documents.update(itertools.chain.from_iterable(map(set, rows)))
                self._count_of_documents += len(rows)

    def finalize_state(self) -> None:
        """Make the vocabulary of what update_state has counted."""
        counts = self._counts.found()
        if self._has_input_vocabulary or not counts:
            if self.output_mode == "tf_idf" and self.idf_weights is None:
                raise ValueError("data: expected at least one token, received none")
            return
        special = {token for token in (self._mask, self._oov) if token is not None}
        tokens = sorted((token for token in counts if token not in special), reverse=True)
        if not tokens:
            raise ValueError("data: expected tokens beside mask_token and oov_token, received none")
        tokens.sort(key=counts.__getitem__, reverse=True)
        if self.max_tokens is not None:
            tokens = tokens[: max(self.max_tokens - self._start(), 0)]
            if not tokens:
                raise ValueError(
                    f"max_tokens of layer {self.name!r}: expected more than the {self._start()} "
                    f"places of mask_token and oov_token, received {self.max_tokens}"
                )
        idf = None
        if self.output_mode == "tf_idf":
            documents = np.array([self._documents[token] for token in tokens], np.float64)
            idf = np.log(1 + self._count_of_documents / (1 + documents)).astype(np.float32)
            mean = idf.mean() if len(idf) else np.float32(0)
            idf = self._filled(np.concatenate([np.full(self._start(), mean), idf]))
        self._take(tokens, idf)
        self.reset_state()

    # --- computing ---

    @property
    def output_dtype(self):
        if self.output_mode != "int":
            return "float32"
        return "string" if self.invert and self._of_text else "int64"

    @property
    def array_dtype(self):
        """That of what forward gives."""
        if self.output_mode == "tf_idf":
            return np.float32
        return object if self.output_dtype == "string" else np.int64

    def build(self, input_shape=None):
        pass

    def check_call(self, shape):
        self.compute_output_shape(shape)

    def compute_output_shape(self, input_shape):
        shape = tuple(input_shape)
        if self.output_mode == "int":
            return shape
        if self.output_mode == "one_hot":
            kept = shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape or (1,)
            return (*kept, self.depth)
        if len(shape) > 2:
            self.reject_shape("(batch, tokens)", shape)
        return (*shape[:-1], self.depth)

    def _lacks_vocabulary(self):
        raise ValueError(
            f"layer {self.name!r} ({type(self).__name__}): expected a vocabulary, found none; call "
            "adapt or set_vocabulary first"
        )

    def __call__(self, inputs: Any, *arguments: Any, **kwargs: Any) -> Any:
        """The layer's output for an array of any shape, or for one token, as int64: float32 for
        "tf_idf", bytes for text with `invert`. Called on `Input(...)`, part of a Model."""
        if symbolic.is_symbolic(inputs):
            return super().__call__(inputs, *arguments, **kwargs)
        x = as_input(inputs, self.input_dtype)
        x = x.reshape(()) if x.shape == (1,) and not np.ndim(inputs) else x
        return self.forward(x, None).view(Array)

    def forward(self, x, run, mask=None):
        self.check_call(x.shape)
        tokens = encoded(x) if x.dtype == object else x.astype(np.int64).ravel().tolist()
        if self.output_mode == "int" or self.output_mode == "one_hot":
            found = self.indices(tokens, len(tokens)).reshape(x.shape)
            return found if self.output_mode == "int" else self._one_hot(found)
        count, size = (x.shape[0], x.shape[1]) if x.ndim > 1 else (1, x.size)
        y = np.zeros((count, self.depth), self.array_dtype)
        self.count_rows([tokens[n * size : (n + 1) * size] for n in range(count)], y)
        return y if x.ndim > 1 else y[0]

    def backward(self, dy, run, need_dx=True):
        return None

    def indices(self, tokens, size):
        """The places of `size` tokens in a row; inverted, the tokens."""
        if self._places is None:
            self._lacks_vocabulary()
        if self.invert:
            found = map(self._places.get, tokens, itertools.repeat(self._oov))
            if self._of_text:
                return np.fromiter(found, object, size)
            return np.fromiter(found, np.int64, size)
        default = self._first_oov() if self.num_oov_indices == 1 else -1
        tokens = tokens if self.num_oov_indices == 1 else [*tokens]
        found = map(self._places.get, tokens, itertools.repeat(default))
        found = np.fromiter(found, np.int64, size)
        if self.num_oov_indices != 1:
            missing = np.flatnonzero(found == -1)
            if len(missing):
                tokens = [tokens[place] for place in missing]
                found[missing] = self._hashed(tokens)
        return found

    def _hashed(self, tokens):
        """The places of tokens that are not in the vocabulary."""
        if not self.num_oov_indices:
            shown = [*map(self._described, tokens[:5])]
            raise ValueError(
                f"inputs: expected tokens of the vocabulary alone for layer {self.name!r}, "
                f"received {shown}; num_oov_indices=1 has a place for others"
            )
        if not self._of_text and self.oov_method != "farmhash":
            places = [token % self.num_oov_indices for token in tokens]
        else:
            texts = tokens if self._of_text else [str(token).encode() for token in tokens]
            places = [bucket(text, self.num_oov_indices, self.salt) for text in texts]
        return np.array(places, np.int64) + self._first_oov()

    @property
    def depth(self):
        """The length of a row that counts places."""
        depth = self.max_tokens if self.pad_to_max_tokens else self._frozen_size
        if depth is None:
            self._lacks_vocabulary()
        return depth

    def _one_hot(self, found):
        if found.ndim > 1 and found.shape[-1] == 1:
            found = found[..., 0]
        found = found.reshape(found.shape or 1)
        return (found[..., None] == np.arange(self.depth)).astype(np.int64)

    def count_rows(self, rows, y):
        """Put into the rows of y, zeros, how often each place is in the rows of tokens."""
        sizes = [*map(len, rows)]
        found = self.indices(itertools.chain.from_iterable(rows), sum(sizes))
        number = np.repeat(np.arange(len(rows)), sizes)
        kept = found < self.depth
        if not kept.all():
            number, found = number[kept], found[kept]
        if self.output_mode == "multi_hot":
            y[number, found] = 1
            return
        counts = np.bincount(number * self.depth + found, minlength=y.size)
        np.copyto(y, counts.reshape(y.shape))
        if self.output_mode == "tf_idf":
            if self.idf_weights is None:
                self._lacks_vocabulary()
            y *= self.idf_weights

    def plan(self, x, steps, run):
        y = np.zeros(self.compute_output_shape(x.shape), self.array_dtype)
        steps.append(lambda: np.copyto(y, self.forward(x, run)))
        return y

    # --- config and files ---

    def get_config(self):
        vocabulary, idf = self.input_vocabulary, self.input_idf_weights
        config = super().get_config()
        if vocabulary is None and self._goes_into_config():
            vocabulary, idf = self._whole()
            config["has_input_vocabulary"] = self._has_input_vocabulary
        return {
            **{**config, "trainable": True},
            "invert": self.invert,
            "max_tokens": self.max_tokens,
            "num_oov_indices": self.num_oov_indices,
            "oov_token": self._listed(self.oov_token),
            "mask_token": self._listed(self.mask_token),
            "output_mode": self.output_mode,
            "sparse": self.sparse,
            "pad_to_max_tokens": self.pad_to_max_tokens,
            "idf_weights": None if idf is None else np.asarray(idf).tolist(),
            "vocabulary": None if vocabulary is None else [*map(self._listed, vocabulary)],
            "vocabulary_size": self._frozen_size,
            "oov_method": self.oov_method,
            "salt": self.salt,
        }

    def _listed(self, token):
        """A token as JSON holds it."""
        if isinstance(token, np.generic):
            token = token.item()
        return token.decode() if isinstance(token, bytes) else token

    def _whole(self):
        """The vocabulary and its idf_weights, as the constructor takes them."""
        if self.idf_weights is None:
            return self._tokens, None
        special = [self._mask] * self._first_oov() + [self._oov] * self.num_oov_indices
        return special + self._tokens, self.idf_weights[: self.vocabulary_size()]

    @classmethod
    def from_config(cls, config):
        check_vocabulary(config)
        return cls(**config)

    def _goes_into_config(self):
        which = _in_configs.get()
        return bool(self._tokens) and (which == "all" or which == "needed" and not self._survives())

    def _survives(self):
        """Does the text file of Keras keep the vocabulary?"""
        if self.idf_weights is not None and len(self.idf_weights) != self.vocabulary_size():
            return False
        vocabulary = [*map(str, self.get_vocabulary())]
        return _lines("\n".join(vocabulary)) == vocabulary

    def assets(self) -> dict[str, bytes]:
        """The files of the layer in a .keras file."""
        if self.input_vocabulary is not None or self._goes_into_config():
            return {}
        return {"vocabulary.txt": "\n".join(map(str, self.get_vocabulary())).encode()}

    def load_assets(self, content: bytes) -> None:
        """Take the vocabulary in the file that `assets` or Keras made."""
        try:
            lines = _lines(content.decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"expected UTF-8, received {error}") from None
        self.take_whole(self._parsed("line", lines), self.idf_weights)

    def take_whole(self, tokens, idf):
        """Take what get_vocabulary gave, of a layer that may have had none yet."""
        if len(tokens) > self._start() or not self._begins_with_special([*map(self._own, tokens)]):
            self.set_vocabulary(tokens, None if idf is None else idf[: len(tokens)])

    def _own(self, token):
        return None if token is None else self._token("vocabulary", token)

    @property
    def own_names(self):
        return ("idf_weights",) if self.output_mode == "tf_idf" else ()

    def own_arrays(self):
        return {} if self.idf_weights is None else {"idf_weights": self.idf_weights}

    def misfit(self, arrays):
        """What is wrong with arrays of own_names, of which some may be missing, or None."""
        if not arrays and self.idf_weights is None:
            return None
        shape = arrays["idf_weights"].shape if arrays else "none"
        sizes = {self.depth, self.vocabulary_size()} if self._tokens else {*shape}
        if arrays and len(shape) == 1 and shape[0] in sizes:
            return None
        return f"expected {max(sizes)} idf_weights, the file has shape {shape}"

    def load_own_arrays(self, arrays):
        """Take the arrays of own_names."""
        if arrays:
            self.idf_weights = arrays["idf_weights"].astype(np.float32)

    def kept(self):
        """For pickles: what `restore` takes."""
        return self.has_vocabulary, self._tokens, self.idf_weights

    def restore(self, known, tokens, idf):
        if known:
            self._take(tokens, idf)


def _lines(text):
    """The lines that Keras finds in the text file of a vocabulary."""
    lines = text.splitlines()
    while lines and lines[-1] == "":
        lines.pop()
    return lines


def check_vocabulary(config):
    """Raise ValueError where a config names a file."""
    if isinstance(config.get("vocabulary"), (str, bytes)):
        raise ValueError(
            f"vocabulary: expected a list in a config, received {config['vocabulary']!r:.80}; no "
            "file is read that a config names"
        )


def _salt(salt):
    if salt is None:
        return None
    pair = [*salt] if isinstance(salt, (list, tuple)) else [salt, salt]
    if len(pair) != 2 or any(isinstance(n, bool) or not hasattr(n, "__index__") for n in pair):
        raise ValueError(f"salt: expected a whole number, two or None, received {salt!r}")
    return [int(n) for n in pair]


class StringLookup(IndexLookup):
    """Text, str or bytes, -> its place in a vocabulary, int64; with `invert` the way back, bytes.

    The first places are for mask_token, unless that is None, and for tokens out of the vocabulary,
    oov_token, num_oov_indices of them, among which their hashes choose, with `salt` SipHash.
    output_mode "int" gives places; "one_hot" a row of zeros with a one for each; "multi_hot" and
    "count" a row of whole numbers for each sample, which says whether, or how often, each token is
    in it, and "tf_idf" the same times idf_weights, float32. The rows are as long as the vocabulary,
    with pad_to_max_tokens as max_tokens. vocabulary: a list, or the path of a text file; or `adapt`
    makes one, of at most max_tokens. encoding: of the bytes in the vocabulary that get_vocabulary
    gives. sparse: only False.

    Errors: ValueError for a token out of the vocabulary if num_oov_indices is 0, and for a call
    without a vocabulary.
    Source: https://keras.io/api/layers/preprocessing_layers/categorical/string_lookup/
    """

    dtype = compute_dtype = variable_dtype = "string"
    _of_text = True

    def __init__(
        self,
        max_tokens: Whole | None = None,
        num_oov_indices: Whole = 1,
        mask_token: str | bytes | None = None,
        oov_token: str | bytes | None = "[UNK]",
        vocabulary: ArrayLike | Path | None = None,
        idf_weights: ArrayLike | None = None,
        invert: bool = False,
        output_mode: OutputMode = "int",
        pad_to_max_tokens: bool = False,
        sparse: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        salt: Whole | Sequence[Whole] | None = None,
        oov_method: Literal["floormod", "farmhash"] = "floormod",
        **kwargs: Unpack[LookupOptions],
    ):
        self.encoding = check_encoding(encoding)
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
            output_mode, sparse, pad_to_max_tokens, oov_method, salt, name, **kwargs,
        )  # fmt: skip

    def _token(self, name, value):
        return as_bytes(name, value)

    def _parsed(self, name, lines):
        try:
            return [
                line if isinstance(line, bytes) else line.encode(self.encoding) for line in lines
            ]
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}: expected text of {self.encoding}, {error}") from None

    def _shown(self, token):
        return token.decode(self.encoding)

    def _survives(self):
        """Also to Keras, which reads the file as UTF-8, whatever the encoding is."""
        try:
            as_keras = [self._listed(token) for token in self._tokens]
        except UnicodeDecodeError:
            as_keras = None
        try:
            shown = self.get_vocabulary(include_special_tokens=False)
            return super()._survives() and as_keras in (None, shown)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"vocabulary of layer {self.name!r}: expected text of {self.encoding}, {error}"
            ) from None

    def get_config(self):
        return {**super().get_config(), "encoding": self.encoding}


def check_encoding(encoding):
    try:
        b"a".decode(encoding, "ignore")
    except (LookupError, TypeError, ValueError):
        raise ValueError(f"encoding: expected the name of one, received {encoding!r}") from None
    return encoding


class IntegerLookup(IndexLookup):
    """Whole numbers -> their places in a vocabulary, int64; with `invert` the way back.

    As StringLookup; among the places of tokens out of the vocabulary the remainder chooses, or with
    oov_method "farmhash" the hash of the number as text.
    Source: https://keras.io/api/layers/preprocessing_layers/categorical/integer_lookup/
    """

    dtype = compute_dtype = variable_dtype = "int64"

    def __init__(
        self,
        max_tokens: Whole | None = None,
        num_oov_indices: Whole = 1,
        mask_token: Whole | None = None,
        oov_token: Whole | None = -1,
        vocabulary: ArrayLike | Path | None = None,
        vocabulary_dtype: str = "int64",
        idf_weights: ArrayLike | None = None,
        invert: bool = False,
        output_mode: OutputMode = "int",
        sparse: bool = False,
        pad_to_max_tokens: bool = False,
        oov_method: Literal["floormod", "farmhash"] = "floormod",
        salt: Whole | Sequence[Whole] | None = None,
        name: str | None = None,
        **kwargs: Unpack[LookupOptions],
    ):
        self.vocabulary_dtype = one_of("vocabulary_dtype", vocabulary_dtype, ("int64",))
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
            output_mode, sparse, pad_to_max_tokens, oov_method, salt, name, **kwargs,
        )  # fmt: skip

    def _token(self, name, value):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(f"{name}: expected a whole number, received {value!r:.80}")
        value = int(value)
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{name}: expected a whole number of 64 bits, received {value}")
        return value

    def _parsed(self, name, lines):
        try:
            return [self._token(name, int(line)) for line in lines]
        except ValueError as error:
            raise ValueError(f"{name}: expected a whole number on each, {error}") from None

    def get_config(self):
        return {**super().get_config(), "vocabulary_dtype": self.vocabulary_dtype}
