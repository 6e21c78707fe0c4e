"""Embedding: a table of vectors, looked up by index."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _engine, constraints, initializers, regularizers
from fastrnn.layers.base import Layer, WeightOptions, as_input, check_flag, check_size
from fastrnn.layers.legacy import old_spellings

if TYPE_CHECKING:
    from fastrnn._types import EmbeddingOptions, Identifier, Initializer, Unpack, Whole


class Lookup:
    """What an Embedding gives to a recurrent layer right above it: not the vectors (batch,
    timesteps, output_dim), which is the shape, but which rows of the embeddings, the `table`, they
    are. own: the run of the Embedding's call, if it is another than the recurrent layer's."""

    def __init__(self, layer, index, own=None):
        self.layer, self.index, self.own = layer, as_indices(index), own
        self.table = layer.embeddings
        self.shape = (*index.shape, layer.output_dim)

    def found(self):
        """Is the index what the vectors are?"""
        return True

    def vectors(self, run):
        return self.layer.forward(self.index, self.own or run)

    def room(self):
        """An array for the vectors, which `fill` writes, of a plan."""
        return np.empty(self.shape, np.float32)

    def fill(self, vectors):
        _engine.embedding_forward(vectors, self.table.value, self.index)


@functools.lru_cache(4)
class _UnitRows:
    """The rows of a unit matrix, and one of zeros, as if they were an Embedding's weight."""

    version = 0

    def __init__(self, features):
        self.value = np.eye(features + 1, features, dtype=np.float32)
        self.shape = self.value.shape


class OneHot(Lookup):
    """What a model gives to a recurrent layer in the place of its input x (batch, timesteps,
    features): where the ones of its steps are, if these are one-hot or zeros (`found`)."""

    def __init__(self, x):
        self.x, self.shape = x, x.shape
        self.table = _UnitRows(x.shape[-1])
        self.index = np.empty(x.shape[:-1], np.int32)

    def found(self):
        return _engine.one_hot(self.index, self.x)

    def vectors(self, run):
        return self.x

    def room(self):
        return self.x

    def fill(self, vectors):
        pass


def as_indices(x, steps=None):
    """x as int32, where other layers give it as float32. In a plan, `steps` do it in each run."""
    if x.dtype == np.int32:
        return x
    if steps is None:
        return as_input(x, np.int32)
    index = np.empty(x.shape, np.int32)
    steps.append(lambda: np.copyto(index, as_input(x, np.int32)))
    return index


class RowGradients(NamedTuple):
    """Gradients of the embeddings: `gradients` (n, output_dim) of `rows` (n); zeros elsewhere."""

    rows: np.ndarray
    gradients: np.ndarray


class Embedding(Layer):
    """Indices (batch, ...) from 0 to input_dim - 1 -> (batch, ..., output_dim), float32.

    Weight: embeddings (input_dim, output_dim). mask_zero: index 0 is padding and masks its step.
    Errors: IndexError for an index out of range. input_length is the older spelling of the shape.
    Source: https://keras.io/api/layers/core_layers/embedding/
    """

    input_dtype = np.int32
    supports_masking = True

    embeddings_initializer, embeddings_regularizer, embeddings_constraint = (
        WeightOptions.properties("_embeddings")
    )

    @old_spellings(
        init="embeddings_initializer",
        W_regularizer="embeddings_regularizer",
        W_constraint="embeddings_constraint",
    )
    def __init__(
        self,
        input_dim: Whole,
        output_dim: Whole,
        embeddings_initializer: Initializer = "uniform",
        embeddings_regularizer: Identifier = None,
        embeddings_constraint: Identifier = None,
        mask_zero: bool = False,
        weights: Sequence[Any] | None = None,
        **kwargs: Unpack[EmbeddingOptions],
    ):
        if kwargs.pop("dropout", None):
            warnings.warn(
                "dropout: an Embedding has none since Keras 2, it is ignored; SpatialDropout1D "
                "can follow the layer",
                stacklevel=3,
            )
        if isinstance(weights, np.ndarray):
            weights = [weights]
        super().__init__(weights=weights, **kwargs)
        self.input_dim = check_size("input_dim", input_dim)
        self.output_dim = check_size("output_dim", output_dim)
        self.mask_zero = check_flag("mask_zero", mask_zero)
        self._embeddings = WeightOptions(
            "embeddings", embeddings_initializer, embeddings_regularizer, embeddings_constraint
        )
        self.embeddings = None

    def _legacy_input_shape(self, kwargs):
        length = kwargs.pop("input_length", None)
        if length is None:
            return None
        return tuple(length) if isinstance(length, (tuple, list)) else (length,)

    def build(self, input_shape=None):
        super().build((None, None) if input_shape is None else input_shape)

    def create_weights(self, input_shape):
        shape = (self.input_dim, self.output_dim)
        self.embeddings = self._embeddings.add_to(self, "embeddings", shape)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.output_dim)

    def compute_mask(self, inputs, mask=None):
        return inputs != 0 if self.mask_zero else None

    def forward(self, x, run, mask=None):
        x = as_indices(x)
        y = run.empty(self, "y", (*x.shape, self.output_dim))
        _engine.embedding_forward(y, self.embeddings.value, x)
        run.saved[self] = x
        return y

    def backward(self, dy, run, need_dx=True):
        gradient = self.gradient_array(self.embeddings, run)
        if isinstance(dy, RowGradients):
            gradient[...] = 0
            gradient[dy.rows] = dy.gradients
        else:
            _engine.embedding_backward(gradient, dy, run.saved[self])
        return None

    def plan(self, x, steps, run):
        x = as_indices(x, steps)
        y = run.rooms.new(self.compute_output_shape(x.shape))
        steps.append(functools.partial(_engine.embedding_forward, y, self.embeddings.value, x))
        return y

    def get_config(self):
        options = self._embeddings
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": initializers.serialize(options.initializer),
            "embeddings_regularizer": regularizers.serialize(options.regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "embeddings_constraint": constraints.serialize(options.constraint),
            "mask_zero": self.mask_zero,
        }
