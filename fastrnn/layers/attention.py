"""Attention: Luong et al. 2015, Bahdanau et al. 2015; of several heads: Vaswani et al. 2017, and of
heads that share keys and values: Ainslie et al. 2023."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from fastrnn import _engine, constraints, initializers, random, regularizers
from fastrnn.layers.base import (
    Layer,
    WeightOptions,
    check_flag,
    check_rate,
    check_size,
    checked_sizes,
    get_named,
    unique_name,
)
from fastrnn.layers.symbolic import is_symbolic

if TYPE_CHECKING:
    from fastrnn._types import Identifier, Initializer, LayerOptions, Options, Unpack, Whole

_FAR = np.float32(1e9)  # how much less the scores of what is masked are
_LINEAR, _SIGMOID = (_engine.ACTIVATIONS[name] for name in ("linear", "sigmoid"))


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
    _positional = ("mask",)
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
            and (self.scale is None or self.scale.shape in ((), query[-1:]))
        )
        if not fits:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}): expected shapes (batch, Tq, dim), "
                f"(batch, Tv, dim of values), (batch, Tv, dim), received {shapes}"
            )

    def create_weights(self, input_shape):
        if self.use_scale:
            self.scale = self._new_weight("scale", (), "ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self._new_weight("concat_score_weight", (), "ones")

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
        if run.keeps:
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
            self.scale = self._new_weight("scale", (input_shape[0][-1],), "glorot_uniform")

    def _factors(self, dim):
        return None, np.ones(dim, np.float32) if self.scale is None else self.scale.value

    def _outer_gradient(self, gradient, run):
        if self.scale is not None:
            self.gradient_array(self.scale, run)[...] = gradient

    def get_config(self):
        config = super().get_config()
        del config["score_mode"]
        return config


class Projection(Layer):
    """The last `bound` axes of the inputs -> axes of `sizes`, as a Dense of their products; weights
    kernel (*bound axes, *sizes), bias (*sizes). What EinsumDense is in Keras's attention layers."""

    def __init__(self, owner, name, bound, sizes, code=_LINEAR):
        super().__init__(
            name=name, trainable=owner.trainable, activity_regularizer=owner._activity_regularizer
        )
        self.bound, self.sizes, self.code = bound, tuple(sizes), code
        self.owner_name, self.use_bias = owner.name, owner.use_bias
        self._kernel, self._bias = owner._kernel, owner._bias
        self._packed = self.kernel = self.bias = None

    def create_weights(self, input_shape):
        initializer, rank = self._kernel.initializer, self.bound + len(self.sizes)
        if isinstance(initializer, initializers.VarianceScaling) and (
            initializer.input_axes is None or initializer.output_axes is None
        ):
            axes = {
                "input_axes": [*range(self.bound)],
                "output_axes": [*range(self.bound, rank)],
            }
            initializer = type(initializer).from_config({**initializer.get_config(), **axes})
        shape = (*input_shape[-self.bound :], *self.sizes)
        self.kernel = self._kernel.add_to(self, "kernel", shape, initializer)
        if self.use_bias:
            self.bias = self._bias.add_to(self, "bias", self.sizes)
        for variable in self._variables:
            variable.path = f"{self.owner_name}/{variable.path}"
        self._matrix = math.prod(shape[: self.bound]), math.prod(self.sizes)

    def compute_output_shape(self, input_shape):
        return (*input_shape[: -self.bound], *self.sizes)

    def _pack(self, run):
        bias = self.bias
        version = (self.kernel.version, None if bias is None else bias.version, _engine.isa())
        packed, current = run.packed(self, version, lambda: _engine.PackedDense(*self._matrix))
        if not current:
            kernel = self.kernel.value.reshape(self._matrix)
            packed.pack(kernel, None if bias is None else bias.value.reshape(-1), run.keeps)
            run.keep_packed(self, packed, version)
        return packed

    def forward(self, x, run, mask=None):
        packed, shape = self._pack(run), self.compute_output_shape(x.shape)
        x = x.reshape(-1, self._matrix[0])
        y = run.empty(self, "y", (len(x), self._matrix[1]))
        packed.forward(y, x, self.code)
        if self.activity_regularizer is not None:
            loss = regularizers.activity_loss(self.activity_regularizer, y, shape[0])
            run.losses.append(loss)
        if run.keeps:
            run.saved[self] = packed, x, y, shape[0]
        return y.reshape(shape)

    def backward(self, dy, run, need_dx=True):
        """The gradient of x in memory of the run."""
        packed, x, y, batch = run.saved[self]
        shape, dy = dy.shape, dy.reshape(y.shape)
        if self.activity_regularizer is not None:
            slope = regularizers.activity_gradient(self.activity_regularizer, y, batch)
            dy = dy + np.float32(run.loss_factor[0]) * slope
        dx = run.empty(self, "dx", x.shape) if need_dx else None
        dkernel = self.gradient_array(self.kernel, run).reshape(self._matrix)
        dbias = self.gradient_array(self.bias, run).reshape(-1) if self.use_bias else None
        packed.backward(dx, dkernel, dbias, dy, x, y, self.code)
        lead = shape[: len(shape) - len(self.sizes)]
        return dx.reshape(*lead, *self.kernel.shape[: self.bound]) if need_dx else None


class _Heads(Layer):
    """Base of the attention layers of several heads: what is projected, masked and put together.

    A subclass says in _sizes(shape of the query): (heads of queries, heads of values), (size of
    the heads of queries and keys, of values), sizes of the output. The first of the heads of
    queries look at the first head of values, as many at the second, and so on."""

    supports_masking = True
    takes_several = True
    _tensors_by_name = ("value", "key", "attention_mask")
    _positional = (
        "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask",
        "return_attention_scores",
    )  # fmt: skip
    _call_options = ("return_attention_scores", "use_causal_mask")
    _takes_query_mask = True  # of a call on arrays

    kernel_initializer, kernel_regularizer, kernel_constraint = WeightOptions.properties("_kernel")
    bias_initializer, bias_regularizer, bias_constraint = WeightOptions.properties("_bias")

    def _set(
        self, dropout, use_bias, sliding_window, flash_attention, kernel, bias,
        activity_regularizer, use_gate, seed,
    ):  # fmt: skip
        self._dropout = check_rate("dropout", dropout)
        self._use_bias = check_flag("use_bias", use_bias)
        self._use_gate = check_flag("use_gate", use_gate)
        self.sliding_window = (
            None if sliding_window is None else check_size("sliding_window", sliding_window)
        )
        self.flash_attention = flash_attention
        if flash_attention is not None and check_flag("flash_attention", flash_attention):
            raise ValueError(
                f"flash_attention: expected None or False, received {flash_attention!r}; there is "
                "one way to compute attention on a CPU"
            )
        self._kernel, self._bias = WeightOptions("kernel", *kernel), WeightOptions("bias", *bias)
        self._activity_regularizer = get_named(
            regularizers, "activity_regularizer", activity_regularizer
        )
        self.seed = seed
        self._seeds = None if seed is None else random.generator(seed)
        self._query_dense = self._key_dense = self._gate_dense = None
        self._value_dense = self._output_dense = None
        self._axes = None  # those that are attended over

    use_bias = property(lambda self: self._use_bias)
    use_gate = property(lambda self: self._use_gate)

    @property
    def sublayers(self):
        if self._output_dense is None:
            return []
        gate = [self._gate_dense] if self._use_gate else []
        return [
            self._query_dense, self._key_dense, *gate, self._value_dense, self._output_dense
        ]  # fmt: skip

    # --- calls ---

    def __call__(self, query: Any, *arguments: Any, **kwargs: Any) -> Any:
        """query (batch, Tq, dim), value (batch, Tv, dim), key=None, query_mask=None,
        value_mask=None, key_mask=None, attention_mask=None (batch, Tq, Tv),
        return_attention_scores=False, use_causal_mask=False, training=None. Symbolic tensors bring
        the masks of the layers below."""
        kwargs |= self._by_position(arguments)
        masks = [kwargs.pop(f"{name}_mask", None) for name in ("query", "value", "key")]
        if any(mask is not None for mask in masks):
            if is_symbolic(query):
                raise ValueError(
                    f"layer {self.name!r}: expected no masks beside attention_mask, as symbolic "
                    "tensors have those of the layers below"
                )
            if not self._takes_query_mask:
                masks[0] = None
            kwargs["mask"] = masks if kwargs.get("key") is not None else masks[:2]
        return super().__call__(query, **kwargs)

    def _inputs_and_options(self, inputs, arguments):
        value, key, mask = (arguments.pop(name, None) for name in self._tensors_by_name)
        if value is None:
            raise TypeError(
                f"layer {self.name!r} ({type(self).__name__}): expected query and value, received "
                "the query alone"
            )
        options = self._options(arguments)
        if mask is not None and not is_symbolic(mask):
            options["attention_mask"], mask = np.asarray(mask), None
        tensors = [inputs, value]
        if key is not None or mask is not None:
            tensors.append(value if key is None else key)
        return tensors if mask is None else [*tensors, mask], options

    # --- shapes ---

    def check_input_shape(self, shapes):
        if not isinstance(shapes, list) or not 2 <= len(shapes) <= 4:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}): expected query, value and perhaps a "
                f"key, received {shapes}"
            )
        query, value, *keys = shapes[:3]
        key = keys[0] if keys else value
        axes = self._attended(len(query))
        fits = (
            len(query) == len(value) == len(key) >= 3
            and None not in (query[-1], value[-1], key[-1])
            and _agree(value[:-1], key[:-1])
            and all(_agree(query[i : i + 1], value[i : i + 1]) for i in self._others(query, axes))
            and self._dims_fit(query, value)
        )
        if fits and self.built:
            denses = self._query_dense, self._value_dense, self._key_dense
            pairs = zip(denses, (query, value, key), strict=True)
            fits = all(dense.kernel.shape[0] == shape[-1] for dense, shape in pairs)
        if not fits:
            expected = self._expected()
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}): expected shapes {expected}, "
                f"received {shapes}"
            )

    def _dims_fit(self, query, value):
        return True

    def _expected(self):
        denses = self._query_dense, self._value_dense, self._key_dense
        dims = [dense.kernel.shape[0] if self.built else "dim" for dense in denses]
        return f"(batch, Tq, {dims[0]}), (batch, Tv, {dims[1]}), (batch, Tv, {dims[2]})"

    def _attended(self, rank):
        """The axes that are attended over, of inputs of this rank."""
        return (1,)

    @staticmethod
    def _others(shape, axes):
        """The axes of the batch, which queries and values share."""
        return [i for i in range(len(shape) - 1) if i not in axes]

    def create_weights(self, shapes):
        query, value = shapes[:2]
        key = shapes[2] if len(shapes) > 2 else value
        self._axes = self._attended(len(query))
        (heads, values), (size, value_size), out = self._sizes(query)
        self._group = heads // values
        self._query_dense = Projection(self, "query", 1, (heads, size))
        self._key_dense = Projection(self, "key", 1, (values, size))
        self._value_dense = Projection(self, "value", 1, (values, value_size))
        self._output_dense = Projection(self, "attention_output", 2, out)
        self._query_dense.build(query)
        self._key_dense.build(key)
        if self._use_gate:
            self._gate_dense = Projection(self, "gate", 1, (heads, value_size), _SIGMOID)
            self._gate_dense.build(query)
        self._value_dense.build(value)
        self._output_dense.build((*query[:-1], heads, value_size))
        self._factor = np.float32(1 / math.sqrt(size))

    def build(self, query_shape, value_shape=None, key_shape=None):
        super().build(_listed(query_shape, value_shape, key_shape))

    def compute_output_shape(
        self,
        query_shape,
        value_shape=None,
        key_shape=None,
        *,
        attention_mask=None,
        return_attention_scores=False,
        use_causal_mask=False,
    ):
        shapes = _listed(query_shape, value_shape, key_shape)
        self.check_input_shape(shapes)
        query, value = shapes[:2]
        (heads, _), _, out = self._sizes(query)
        shape = (*query[:-1], *out)
        if not return_attention_scores:
            return shape
        axes = self._attended(len(query))
        lead = [query[i] for i in self._others(query, axes)]
        return [shape, (*lead, heads, *(query[i] for i in axes), *(value[i] for i in axes))]

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[0]

    # --- computing ---

    def _by_heads(self, x):
        """(batch, ..., T, ..., heads, size) as (batch, ..., heads, T, size), a view where one axis
        is attended over."""
        x = x.transpose(self._order(x.ndim))
        places = len(self._axes)
        if places == 1:
            return x
        return x.reshape(*x.shape[: -places - 1], -1, x.shape[-1])

    def _order(self, rank):
        """The axes in the order (batch, ..., heads, T, size)."""
        lead = [i for i in range(rank - 2) if i not in self._axes]
        return [*lead, rank - 2, *self._axes, rank - 1]

    def _of_heads(self, x, shape):
        """The inverse of _by_heads, contiguous."""
        order = self._order(len(shape))
        x = x.reshape([shape[i] for i in order])
        return np.ascontiguousarray(x.transpose(np.argsort(order)))

    def _grouped(self, x):
        """(..., heads, T, size) as (..., heads of values, heads for each, T, size)."""
        return x.reshape(*x.shape[:-3], -1, self._group, *x.shape[-2:])

    def _seen(self, x, masks, attention_mask, causal, shape):
        """Which values each query may see, in a shape that broadcasts to that of the scores."""
        query_mask, value_mask, key_mask = (*(masks or ())[:3], None, None, None)[:3]
        seen = [] if query_mask is None else [query_mask[..., None]]
        seen += [mask[..., None, :] for mask in (value_mask, key_mask) if mask is not None]
        steps = x[0].shape[1], x[1].shape[1]
        if causal:
            seen.append(np.tri(*steps, dtype=bool)[None])
        if self.sliding_window is not None:
            distance = np.arange(steps[0])[:, None] - np.arange(steps[1])
            seen.append((abs(distance) < self.sliding_window)[None])
        if attention_mask is not None:
            seen.append(attention_mask.astype(bool))
        if not seen:
            return None
        try:
            one = seen[0]
            for other in seen[1:]:
                one = one & other
            places = 2 * len(self._axes)
            missing = len(shape) - one.ndim
            cut = max(one.ndim - places, 0)
            one = one.reshape(*one.shape[:cut], *(1,) * missing, *one.shape[cut:])
            np.broadcast_to(one, shape)
        except ValueError:
            raise ValueError(
                f"layer {self.name!r}: expected masks that broadcast to the scores of shape "
                f"{shape}, received masks of shapes {[mask.shape for mask in seen]}"
            ) from None
        return one

    def forward(
        self, x, run, mask=None, attention_mask=None, return_attention_scores=False,
        use_causal_mask=False,
    ):  # fmt: skip
        given, value = x[:2]
        key = x[2] if len(x) > 2 else value
        if len(x) == 4:
            attention_mask = x[3]
        query = self._grouped(self._by_heads(self._query_dense.forward(given, run)))
        key = self._by_heads(self._key_dense.forward(key, run))[..., None, :, :]
        gate = self._gate_dense.forward(given, run) if self._use_gate else None
        values = self._by_heads(self._value_dense.forward(value, run))[..., None, :, :]
        grouped = query @ key.swapaxes(-1, -2)
        grouped *= self._factor
        _, shape = self.compute_output_shape([a.shape for a in x], return_attention_scores=True)
        scores = grouped.reshape(shape)
        seen = self._seen(x, mask, attention_mask, use_causal_mask, shape)
        if seen is not None:
            np.copyto(scores, -_FAR, where=~seen)
        _engine.softmax(grouped)
        # As in Keras: what sees nothing takes the mean of all values, or else nothing.
        exact = self._dropout > 0 or return_attention_scores or given.ndim != 3
        if seen is not None and exact:
            scores *= seen
        kept, seed = grouped, None
        if run.training and self._dropout > 0:
            kept, seed = _dropped(grouped, self._dropout, self._seeds)
        heads = self._output_dense.kernel.shape[:2]
        together = context = self._of_heads(kept @ values, (*given.shape[:-1], *heads))
        if gate is not None:
            together = context * gate
        if run.keeps:
            hidden = None if seen is None or exact else ~seen
            run.saved[self] = (
                x, query, key, values, grouped, kept, seed, hidden, shape, context, gate,
            )  # fmt: skip
        y = self._output_dense.forward(together, run)
        return [y, scores] if return_attention_scores else y

    def backward(self, dy, run, need_dx=True):
        x, query, key, values, weights, kept, seed, hidden, shape, context, gate = run.saved[self]
        dy, dscores = dy if isinstance(dy, list) else (dy, None)
        dcontext = self._output_dense.backward(dy, run)
        dgate = None
        if gate is not None:
            dgate = dcontext * context
            dcontext *= gate
        dcontext = self._grouped(self._by_heads(dcontext))
        dvalues = self._summed(kept.swapaxes(-1, -2) @ dcontext)
        dweights = dcontext @ values.swapaxes(-1, -2)
        if seed is not None:
            _drop_again(dweights, self._dropout, seed)
        if dscores is not None:
            dweights += dscores.reshape(dweights.shape)
        _softmax_gradient(dweights, weights)
        if hidden is not None:
            np.copyto(dweights.reshape(shape), 0, where=hidden)
        dweights *= self._factor
        dquery = self._of_heads(dweights @ key, self._places(x[0], self._query_dense))
        dkey = self._summed(dweights.swapaxes(-1, -2) @ query)
        dkey = self._of_heads(dkey, self._places(x[1], self._key_dense))
        dvalue = self._of_heads(dvalues, self._places(x[1], self._value_dense))
        dquery = self._query_dense.backward(dquery, run, need_dx)
        dkey = self._key_dense.backward(dkey, run, need_dx)
        dvalue = self._value_dense.backward(dvalue, run, need_dx)
        if dgate is not None:
            dgate = self._gate_dense.backward(dgate, run, need_dx)
        if not need_dx:
            return None
        if dgate is not None:
            dquery += dgate
        if len(x) == 2:
            dvalue += dkey
            return [dquery, dvalue]
        return [dquery, dvalue, dkey, None][: len(x)]

    @staticmethod
    def _places(x, dense):
        return *x.shape[:-1], *dense.sizes

    @staticmethod
    def _summed(x):
        """(..., heads of values, heads for each, T, size) over the heads for each."""
        return x[..., 0, :, :] if x.shape[-3] == 1 else x.sum(axis=-3)

    def _own_config(self):
        return {
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self._activity_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
            "seed": self.seed,
        }


class MultiHeadAttention(_Heads):
    """layer(query, value, key=None): (batch, Tq, dim), (batch, Tv, dims) twice -> (batch, Tq, dim),
    or (batch, Tq, *output_shape): `num_heads` times attention between projections of size
    `key_dim`, of the values `value_dim` (default key_dim), put together and projected again.

    The call takes attention_mask (batch, Tq, Tv), use_causal_mask, and return_attention_scores,
    which gives the shares (batch, num_heads, Tq, Tv) too. attention_axes: the axes attended over,
    default all but the first and last. sliding_window: a query sees values at a distance below it.
    use_gate: sigmoids of projected queries scale the heads. dropout: of the shares, in training.
    Weights: kernel and bias of query, key, gate, value and output, as (dim, num_heads, key_dim).
    Errors: ValueError for inputs that do not fit.
    Source: https://keras.io/api/layers/attention_layers/multi_head_attention/
    """

    _takes_query_mask = False

    def __init__(
        self,
        num_heads: Whole,
        key_dim: Whole,
        value_dim: Whole | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: Whole | Sequence[SupportsIndex] | None = None,
        attention_axes: SupportsIndex | Sequence[SupportsIndex] | None = None,
        sliding_window: Whole | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        use_gate: bool = False,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[Options],
    ):
        super().__init__(**kwargs)
        self._num_heads = check_size("num_heads", num_heads)
        self._key_dim = check_size("key_dim", key_dim)
        self._value_dim = self._key_dim if value_dim is None else check_size("value_dim", value_dim)
        self._output_sizes = None
        if output_shape is not None:
            sizes = [output_shape] if hasattr(output_shape, "__index__") else output_shape
            sizes = checked_sizes("output_shape", sizes)
            self._output_sizes = tuple(check_size("output_shape", size) for size in sizes)
            if not sizes:
                raise ValueError("output_shape: expected at least one size, received none")
        if attention_axes is not None:
            one = hasattr(attention_axes, "__index__")
            attention_axes = checked_sizes(
                "attention_axes", [attention_axes] if one else attention_axes
            )
            if not attention_axes:
                raise ValueError("attention_axes: expected at least one axis, received none")
        self.attention_axes = attention_axes
        self._set(
            dropout, use_bias, sliding_window, flash_attention,
            (kernel_initializer, kernel_regularizer, kernel_constraint),
            (bias_initializer, bias_regularizer, bias_constraint),
            activity_regularizer, use_gate, seed,
        )  # fmt: skip

    num_heads = property(lambda self: self._num_heads)
    key_dim = property(lambda self: self._key_dim)
    value_dim = property(lambda self: self._value_dim)
    dropout = property(lambda self: self._dropout)
    query_dense = property(lambda self: self._query_dense)
    key_dense = property(lambda self: self._key_dense)
    value_dense = property(lambda self: self._value_dense)
    output_dense = property(lambda self: self._output_dense)

    def _attended(self, rank):
        if self.attention_axes is None:
            return tuple(range(1, rank - 1))
        axes = tuple(axis if axis >= 0 else rank + axis for axis in self.attention_axes)
        if len(set(axes)) < len(axes) or not all(0 < axis < rank - 1 for axis in axes):
            raise ValueError(
                f"attention_axes: expected axes from 1 to {rank - 2} for inputs of rank {rank}, "
                f"received {self.attention_axes}"
            )
        return axes

    def _sizes(self, query):
        heads, out = self._num_heads, self._output_sizes or (query[-1],)
        return (heads, heads), (self._key_dim, self._value_dim), out

    def create_weights(self, input_shape):
        super().create_weights(input_shape)
        self.attention_axes = self._axes

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self._num_heads,
            "key_dim": self._key_dim,
            "value_dim": self._value_dim,
            "dropout": self._dropout,
            "use_bias": self._use_bias,
            "use_gate": self._use_gate,
            "output_shape": self._output_sizes,
            "attention_axes": self.attention_axes,
            "sliding_window": self.sliding_window,
            **self._own_config(),
        }


class GroupQueryAttention(_Heads):
    """layer(query, value, key=None) as `MultiHeadAttention`, with fewer heads of keys and values
    than of queries: num_query_heads is a multiple of num_key_value_heads. Its size is the query's.
    Source: https://keras.io/api/layers/attention_layers/group_query_attention/
    """

    def __init__(
        self,
        head_dim: Whole,
        num_query_heads: Whole,
        num_key_value_heads: Whole,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: Whole | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        use_gate: bool = False,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[Options],
    ):
        if kwargs.get("name") is None and type(self) is GroupQueryAttention:
            kwargs["name"] = unique_name("grouped_query_attention")  # as Keras calls it
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.head_dim = check_size("head_dim", head_dim)
        self.num_query_heads = check_size("num_query_heads", num_query_heads)
        self.num_key_value_heads = check_size("num_key_value_heads", num_key_value_heads)
        if self.num_query_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_query_heads: expected a multiple of num_key_value_heads, "
                f"{num_key_value_heads}, received {num_query_heads}"
            )
        self._set(
            dropout, use_bias, sliding_window, flash_attention,
            (kernel_initializer, kernel_regularizer, kernel_constraint),
            (bias_initializer, bias_regularizer, bias_constraint),
            activity_regularizer, use_gate, seed,
        )  # fmt: skip

    dropout = property(lambda self: self._dropout)

    def _dims_fit(self, query, value):
        return len(query) == 3 and query[-1] == value[-1]

    def _sizes(self, query):
        heads = self.num_query_heads, self.num_key_value_heads
        return heads, (self.head_dim, self.head_dim), (query[-1],)

    def get_config(self):
        return {
            **super().get_config(),
            "head_dim": self.head_dim,
            "num_query_heads": self.num_query_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "use_bias": self._use_bias,
            "use_gate": self._use_gate,
            "sliding_window": self.sliding_window,
            "dropout": self._dropout,
            **self._own_config(),
        }


def _listed(query, *others):
    """The shapes of query, value and key in a list, which may be given as one."""
    given = [shape for shape in others if shape is not None]
    return [query, *given] if given else query


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
