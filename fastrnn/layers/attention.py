"""Attention: Luong et al. 2015, Bahdanau et al. 2015."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from fastrnn import _engine, random
from fastrnn.layers.base import Layer, check_flag, check_rate

if TYPE_CHECKING:
    from fastrnn._types import LayerOptions, Unpack

_FAR = np.float32(1e9)  # how much less the scores of what is masked are


class Attention(Layer):
    """[query (batch, Tq, dim), value (batch, Tv, dim)] and perhaps a key (batch, Tv, dim), default
    the value -> (batch, Tq, dim): for each query the mean of the values, weighted by the softmax of
    its products with the keys. A call with return_attention_scores=True gives the weights
    (batch, Tq, Tv) too, with use_causal_mask=True position i sees the values up to i.

    use_scale: a weight multiplies the scores. score_mode "concat": scores are sums of
    tanh(query + key). dropout: the share of the weights that training drops.
    Errors: ValueError for other inputs. Source: https://keras.io/api/layers/attention_layers/attention/
    """

    supports_masking = True
    takes_several = True
    _call_options = ("return_attention_scores", "use_causal_mask")

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.use_scale = check_flag("use_scale", use_scale)
        if score_mode not in ("dot", "concat"):
            raise ValueError(f"score_mode: expected 'dot' or 'concat', received {score_mode!r}")
        self.score_mode = score_mode
        self.dropout = check_rate("dropout", dropout)
        self.seed = seed
        self._seeds = None if seed is None else random.generator(seed)
        self.scale = self.concat_score_weight = None

    def check_input_shape(self, shapes):
        if not isinstance(shapes, list) or not 2 <= len(shapes) <= 3:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}): expected a list of [query, value] "
                f"or [query, value, key], received {shapes}"
            )
        query, value, key = *shapes[:2], shapes[-1]
        fits = (
            len(query) == len(value) == len(key) >= 3
            and _agree(query[:-2], value[:-2])
            and _agree(value[:-1], key[:-1])
            and _agree(query[-1:], key[-1:])
        )
        if not fits:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}): expected shapes (batch, Tq, dim), "
                f"(batch, Tv, dim of values), (batch, Tv, dim), received {shapes}"
            )

    def create_weights(self, input_shape):
        if self.use_scale:
            self.scale = self.add_weight("scale", (), "ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight("concat_score_weight", (), "ones")

    def compute_output_shape(
        self, input_shape, return_attention_scores=False, use_causal_mask=False
    ):
        query, value = input_shape[:2]
        shape = (*query[:-1], value[-1])
        return [shape, (*query[:-1], value[-2])] if return_attention_scores else shape

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[0]

    def _arrays_of(self, inputs, masks):
        if isinstance(masks, (list, tuple)) and len(masks) == 2 < len(inputs):
            masks = [*masks, None]
        return super()._arrays_of(inputs, masks)

    def forward(self, x, run, mask=None, return_attention_scores=False, use_causal_mask=False):
        query, value, key = *x[:2], x[-1]
        weights, saved = self._scores(query, key, run)
        query_mask, value_mask = (None, None) if mask is None else mask[:2]
        seen = None if value_mask is None else value_mask[..., None, :]
        if use_causal_mask:
            earlier = np.tri(*weights.shape[-2:], dtype=bool)
            seen = earlier if seen is None else seen & earlier
        if seen is not None:
            np.subtract(weights, _FAR, out=weights, where=~seen)
        _engine.softmax(weights)
        kept, seed = weights, None
        if run.training and self.dropout > 0:
            kept, seed = _dropped(weights, self.dropout, self._seeds)
        y = kept @ value
        if query_mask is not None:
            y *= query_mask[..., None]
        run.saved[self] = x, saved, weights, kept, seed, query_mask
        return [y, kept] if return_attention_scores else y

    def backward(self, dy, run, need_dx=True):
        x, saved, weights, kept, seed, query_mask = run.saved[self]
        query, value, key = *x[:2], x[-1]
        dy, dkept = dy if isinstance(dy, list) else (dy, None)
        if query_mask is not None:
            dy = dy * query_mask[..., None]
        dvalue = kept.swapaxes(-1, -2) @ dy if need_dx else None
        dscores = dy @ value.swapaxes(-1, -2)
        if dkept is not None:
            dscores += dkept
        if seed is not None:
            _drop_again(dscores, self.dropout, seed)
        _softmax_gradient(dscores, weights)
        dquery, dkey = self._scores_gradient(dscores, query, key, saved, run, need_dx)
        if not need_dx:
            return None
        if len(x) == 3:
            return [dquery, dvalue, dkey]
        dvalue += dkey
        return [dquery, dvalue]

    def _scores(self, query, key, run):
        """(scores (batch, Tq, Tv) in new memory, what their gradient needs)."""
        if self.score_mode == "concat":
            return self._sums(query, key, run)
        scores = query @ key.swapaxes(-1, -2)
        if self.scale is not None:
            scores *= self.scale.value
        return scores, None

    def _scores_gradient(self, dscores, query, key, saved, run, need_dx):
        """Gradients of query and key, in memory of their own, and those of the weights."""
        if self.score_mode == "concat":
            return self._sums_gradient(dscores, query, key, saved, run, need_dx)
        if not need_dx and self.scale is None:
            return None, None
        dquery = dscores @ key
        if self.scale is not None:
            gradient = self.gradient_array(self.scale, run)
            gradient[...] = np.vdot(dquery, query)
            dquery *= self.scale.value
        if not need_dx:
            return None, None
        dkey = dscores.swapaxes(-1, -2) @ query
        if self.scale is not None:
            dkey *= self.scale.value
        return dquery, dkey

    def _factors(self, dim):
        """(factor of query + key or None, factors of the summands)."""
        inner = None if self.scale is None else self.scale.value
        return inner, np.full(dim, self.concat_score_weight.value, np.float32)

    def _sums(self, query, key, run):
        inner, outer = self._factors(query.shape[-1])
        shape = (*query.shape[:-1], key.shape[-2], query.shape[-1])
        summands = run.empty(self, "summands", shape)
        np.add(query[..., :, None, :], key[..., None, :, :], out=summands)
        if inner is not None:
            summands *= inner
        np.tanh(summands, out=summands)
        return summands @ outer, summands

    def _sums_gradient(self, dscores, query, key, summands, run, need_dx):
        dim = query.shape[-1]
        inner, outer = self._factors(dim)
        self._outer_gradient(dscores.reshape(-1) @ summands.reshape(-1, dim), run)
        if not need_dx and inner is None:
            return None, None
        dsums = run.empty(self, "dsums", summands.shape)
        np.multiply(summands, summands, out=dsums)
        np.subtract(1, dsums, out=dsums)
        dsums *= outer
        dsums *= dscores[..., None]
        dquery, dkey = dsums.sum(axis=-2), dsums.sum(axis=-3)
        if inner is not None:
            gradient = self.gradient_array(self.scale, run)
            gradient[...] = np.vdot(dquery, query) + np.vdot(dkey, key)
            dquery *= inner
            dkey *= inner
        return dquery, dkey

    def _outer_gradient(self, gradient, run):
        self.gradient_array(self.concat_score_weight, run)[...] = gradient.sum()

    def get_config(self):
        return {
            **super().get_config(),
            "use_scale": self.use_scale,
            "score_mode": self.score_mode,
            "dropout": self.dropout,
            "seed": self.seed,
        }


class AdditiveAttention(Attention):
    """As `Attention`, with the scores sum(scale * tanh(query + key)); weight scale (dim,) unless
    use_scale is False.
    Source: https://keras.io/api/layers/attention_layers/additive_attention/"""

    def __init__(
        self,
        use_scale: bool = True,
        dropout: float = 0.0,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(use_scale, "concat", dropout, seed, **kwargs)

    def create_weights(self, input_shape):
        if self.use_scale:
            self.scale = self.add_weight("scale", (input_shape[0][-1],), "glorot_uniform")

    def _factors(self, dim):
        return None, np.ones(dim, np.float32) if self.scale is None else self.scale.value

    def _outer_gradient(self, gradient, run):
        if self.scale is not None:
            self.gradient_array(self.scale, run)[...] = gradient

    def get_config(self):
        config = super().get_config()
        del config["score_mode"]
        return config


def _agree(one, other) -> bool:
    """Can these sizes, None where free, be the same?"""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(a == b or None in (a, b) for a, b in pairs)


def _dropped(weights, rate, seeds):
    """(weights with some dropped, what makes the same choice again)."""
    if rate == 1:
        return np.zeros_like(weights), -1
    seed = random.draw_seed() if seeds is None else int(seeds.integers(2**63))
    kept = np.empty_like(weights)
    _engine.dropout(kept, weights, rate, seed)
    return kept, seed


def _drop_again(gradient, rate, seed):
    if seed < 0:
        gradient[...] = 0
    else:
        _engine.dropout(gradient, gradient, rate, seed)


def _softmax_gradient(gradient, weights):
    """The gradient of the scores from that of their softmax, in its place."""
    gradient -= np.einsum("...i,...i->...", gradient, weights)[..., None]
    gradient *= weights
