"""Attention layers against float64: values, masks, gradients of inputs and weights."""

import numpy as np
import pytest
from gradcheck import numeric_gradient

import fastrnn
from fastrnn import Input, Model
from fastrnn import layers as L
from fastrnn.run import Run

QUERY_MASK = np.array([[1, 1, 0], [1, 1, 1]], bool)
VALUE_MASK = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 0, 0]], bool)


def inputs(rng, several=3):
    shapes = (2, 3, 4), (2, 5, 4 if several == 2 else 6), (2, 5, 4)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes[:several]]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def seen_by_all(mask, causal, shape):
    """Which values (batch, Tv) each query may see: (batch, Tq, Tv)."""
    seen = np.ones(shape, bool)
    if mask is not None and mask[1] is not None:
        seen &= mask[1][:, None]
    return seen & np.tri(*shape[1:], dtype=bool) if causal else seen


def attention(layer, x, weights, mask=None, causal=False):
    """(output, weights of the values) in float64."""
    query, value, key = *x[:2], x[-1]
    weights = list(weights)
    if isinstance(layer, L.AdditiveAttention):
        scale = weights[0] if weights else 1.0
        scores = (scale * np.tanh(query[:, :, None] + key[:, None])).sum(axis=-1)
    else:
        scale = weights.pop(0) if layer.use_scale else 1.0
        if layer.score_mode == "concat":
            sums = np.tanh(scale * (query[:, :, None] + key[:, None])).sum(axis=-1)
            scores = weights[0] * sums
        else:
            scores = scale * query @ key.swapaxes(1, 2)
    shares = softmax(np.where(seen_by_all(mask, causal, scores.shape), scores, scores - 1e9))
    y = shares @ value
    if mask is not None and mask[0] is not None:
        y = np.where(mask[0][..., None], y, 0)
    return y, shares


def check(layer, x, reference, mask=None, **options):
    """Outputs and all gradients; reference(x, weights) gives the list of outputs in float64."""
    rng = np.random.default_rng(5)
    layer.build([a.shape for a in x])
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) * rng.choice([-1, 1], weight.shape))
        weight.gradient = np.full(weight.shape, np.nan, np.float32)
    run = Run(training=True)
    ys = layer.forward(x, run, mask, **options)
    several = isinstance(ys, list)
    ys = ys if several else [ys]
    arrays = [a.astype(np.float64) for a in x]
    weights = [w.astype(np.float64) for w in layer.get_weights()]
    dys = [rng.standard_normal(y.shape).astype(np.float32) for y in ys]
    for y, expected in zip(ys, reference(arrays, weights), strict=True):
        assert y.shape == expected.shape and y.dtype == np.float32
        atol = 1e-6 * max(1, abs(expected).max())
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=atol)
    given = [dy.copy() for dy in dys]
    dx = layer.backward(given if several else given[0], run)
    assert len(dx) == len(x)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(dx) for b in dx[:i])
    dx = [a.copy() for a in dx]

    def total():
        return sum((y * dy).sum() for y, dy in zip(reference(arrays, weights), dys, strict=True))

    gradients = [*dx, *(w.gradient for w in layer.weights)]
    numeric = [numeric_gradient(total, array) for array in (*arrays, *weights)]
    rounding = 1e-6 * max(abs(one).max() for one in numeric)  # the keys' bias has no gradient
    for gradient, expected in zip(gradients, numeric, strict=True):
        assert gradient.shape == expected.shape and gradient.flags.c_contiguous
        atol = 1e-5 * abs(expected).max() + rounding
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=atol)
    weights_alone = [w.gradient.copy() for w in layer.weights]
    layer.forward(x, run, mask, **options)
    given = [dy.copy() for dy in dys]
    layer.backward(given if several else given[0], run, need_dx=False)
    for weight, expected in zip(layer.weights, weights_alone, strict=True):
        np.testing.assert_array_equal(weight.gradient, expected)


KINDS = {
    "dot": lambda: L.Attention(),
    "scaled": lambda: L.Attention(use_scale=True),
    "concat": lambda: L.Attention(score_mode="concat"),
    "scaled concat": lambda: L.Attention(True, "concat"),
    "additive": lambda: L.AdditiveAttention(),
    "additive without scale": lambda: L.AdditiveAttention(use_scale=False),
}


@pytest.mark.parametrize("scores", [False, True], ids=["", "scores"])
@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
@pytest.mark.parametrize("several", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_attention(kind, several, causal, scores, rng):
    layer = KINDS[kind]()
    for mask in (None, [QUERY_MASK, VALUE_MASK, None], [QUERY_MASK, None], [None, VALUE_MASK]):
        check(
            layer,
            inputs(rng, several),
            lambda x, w, mask=mask: attention(layer, x, w, mask, causal)[: 1 + scores],
            mask,
            use_causal_mask=causal,
            return_attention_scores=scores,
        )


def test_a_query_that_sees_nothing_takes_the_mean(rng):
    query, value = inputs(rng, 2)
    mask = [None, np.zeros((2, 5), bool)]
    y, scores = L.Attention()([query, value], mask=mask, return_attention_scores=True)
    np.testing.assert_allclose(scores, np.full((2, 3, 5), 0.2), rtol=1e-6)
    np.testing.assert_allclose(y, value.mean(axis=1, keepdims=True).repeat(3, 1), atol=1e-6)


def test_dropout_of_the_weights(rng):
    x = query, value = [rng.standard_normal((2, 30, 4)).astype(np.float32) for _ in range(2)]
    layer = L.Attention(dropout=0.25, seed=3)
    plain, whole = L.Attention()(x, return_attention_scores=True)
    np.testing.assert_array_equal(layer(x), plain)
    y, scores = layer(x, training=True, return_attention_scores=True)
    kept = scores != 0
    assert 0.2 < 1 - kept.mean() < 0.3
    np.testing.assert_allclose(scores[kept], whole[kept] / 0.75, rtol=1e-5)
    np.testing.assert_allclose(y, scores @ value, atol=1e-5)

    run, again = Run(training=True), L.Attention(dropout=0.25, seed=3)
    np.testing.assert_array_equal(again.forward(x, run), y)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dquery, dvalue = again.backward(dy.copy(), run)
    dshares = dy @ value.swapaxes(1, 2) * kept / 0.75
    dscores = whole * (dshares - (dshares * whole).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(dquery, dscores @ value, atol=1e-4)
    expected = scores.swapaxes(1, 2) @ dy + dscores.swapaxes(1, 2) @ query
    np.testing.assert_allclose(dvalue, expected, atol=1e-4)
    assert not L.Attention(dropout=1.0)(x, training=True).any()


def test_attention_over_more_axes(rng):
    query, value = (rng.standard_normal((2, 3, t, 4)).astype(np.float32) for t in (5, 6))
    y = L.Attention()([query, value])
    for i in range(3):
        one = L.Attention()([query[:, i], value[:, i]])
        np.testing.assert_allclose(y[:, i], one, atol=1e-6)


def test_shapes_configs_and_errors():
    query, value = Input((3, 4)), Input((None, 6))
    key = Input((None, 4))
    layer = L.Attention(use_scale=True)
    assert layer([query, value, key]).shape == (None, 3, 6)
    y, scores = layer([query, value, key], return_attention_scores=True)
    assert (y.shape, scores.shape) == ((None, 3, 6), (None, 3, None))
    assert [w.path.split("/")[1] for w in layer.weights] == ["scale"]
    own = {"use_scale": True, "score_mode": "dot", "dropout": 0.0, "seed": None}
    assert {name: layer.get_config()[name] for name in [*layer.get_config()][3:]} == own
    again = L.AdditiveAttention.from_config(L.AdditiveAttention(False, 0.5, 3).get_config())
    assert (again.use_scale, again.dropout, again.seed) == (False, 0.5, 3)
    assert "score_mode" not in again.get_config()
    with pytest.raises(ValueError, match=r"\(Attention\): expected a list of \[query, value\]"):
        L.Attention()(query)
    with pytest.raises(ValueError, match=r"\(Attention\): expected shapes \(batch, Tq, dim\)"):
        L.Attention()([query, value])
    with pytest.raises(ValueError, match=r"\(Attention\): expected shapes \(batch, Tq, dim\)"):
        L.Attention()([np.ones((2, 3, 4)), np.ones((3, 3, 4))])
    with pytest.raises(ValueError, match="score_mode: expected 'dot' or 'concat'"):
        L.Attention(score_mode="sum")
    for x in (Input((3, 4)), np.ones((2, 3, 4))):
        with pytest.raises(ValueError, match="use_causal_mask: expected True or False"):
            L.Attention()([x, x], use_causal_mask="yes")
        with pytest.raises(ValueError, match="return_attention_scores: expected True or False"):
            L.MultiHeadAttention(1, 2)(x, x, return_attention_scores=2)
    with pytest.raises(ValueError, match="dropout: expected a number from 0 to 1"):
        L.Attention(dropout=2)


@pytest.mark.parametrize("cls", [L.Attention, L.AdditiveAttention])
def test_graphs_of_attention(cls, rng):
    """Self-attention: one tensor is query and value, and its gradients add up."""
    x = rng.standard_normal((8, 5, 3)).astype(np.float32)
    one = Input((5, 3))
    states = L.GRU(4, return_sequences=True)(one)
    layer = cls(use_scale=True)
    seen, scores = layer([states, states], use_causal_mask=True, return_attention_scores=True)
    model = Model(one, [L.Dense(1)(seen), scores])
    y, shares = model.predict(x, verbose=0)
    assert (y.shape, shares.shape) == ((8, 5, 1), (8, 5, 5))
    assert not np.triu(shares, 1).any()
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)
    outer = Model(one, L.Dense(1)(seen))
    outer.compile(fastrnn.optimizers.Adam(0.05), "mse")
    target = x[..., :1].cumsum(axis=1)
    losses = outer.fit(x, target, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]


# --- several heads --------------------------------------------------------------------------------


def heads(layer, x, weights, seen=None, exact=False):
    """(output, shares) in float64; seen: which values each query sees, as broadcast to the shares;
    exact: a query that sees nothing gets nothing, and not the mean of all."""
    query, value, key = *x[:2], x[-1]
    weights = list(weights)

    def project(x):
        kernel = weights.pop(0)
        bias = weights.pop(0) if layer.use_bias else 0
        return np.tensordot(x, kernel, 1) + bias

    q, k = project(query), project(key)
    gate = 1 / (1 + np.exp(-project(query))) if layer.use_gate else 1
    v = project(value)
    group = q.shape[2] // k.shape[2]
    k, v = (np.repeat(a, group, axis=2) for a in (k, v))
    scores = np.einsum("bqnh,bknh->bnqk", q, k) / np.sqrt(q.shape[-1])
    if seen is not None:
        scores = np.where(seen, scores, -1e30)
    shares = softmax(scores)
    if seen is not None and exact:
        shares = np.where(seen, shares, 0)
    context = np.einsum("bnqk,bknh->bqnh", shares, v) * gate
    kernel = weights.pop(0)
    y = np.tensordot(context, kernel, 2) + (weights.pop(0) if layer.use_bias else 0)
    assert not weights
    return y, shares


HEADS = {
    "two": lambda: L.MultiHeadAttention(2, 3),
    "of other sizes": lambda: L.MultiHeadAttention(3, 2, 4, use_bias=False, output_shape=5),
    "several axes": lambda: L.MultiHeadAttention(1, 3, output_shape=(2, 3), use_gate=True),
    "window": lambda: L.MultiHeadAttention(2, 3, sliding_window=2),
    "groups": lambda: L.GroupQueryAttention(3, 4, 2),
    "one group": lambda: L.GroupQueryAttention(2, 3, 1, use_bias=False, use_gate=True),
    "group window": lambda: L.GroupQueryAttention(2, 2, 2, sliding_window=3),
}


def inputs_of_heads(layer, rng, several):
    dims = (4, 4, 3) if isinstance(layer, L.GroupQueryAttention) else (4, 6, 3)
    shapes = (2, 3, dims[0]), (2, 5, dims[1]), (2, 5, dims[2])
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes[:several]]


@pytest.mark.parametrize("scores", [False, True], ids=["", "scores"])
@pytest.mark.parametrize("several", [2, 3])
@pytest.mark.parametrize("kind", HEADS)
def test_heads(kind, several, scores, rng):
    layer = HEADS[kind]()
    chosen = rng.random((2, 3, 5)) < 0.6
    chosen[:, 0] = False  # sees nothing
    cases = [
        (None, None, False), (None, None, True), ([QUERY_MASK, None, None], None, False),
        ([None, VALUE_MASK, None], None, True), ([None, None, VALUE_MASK], chosen, False),
        (None, chosen[0], False), (None, rng.random((2, 1, 3, 5)) < 0.7, True),
    ]  # fmt: skip
    for mask, attention_mask, causal in cases:
        mask = mask and mask[:several]
        seen = np.ones((2, 1, 3, 5), bool)
        if mask is not None and mask[0] is not None:
            seen &= mask[0][:, None, :, None]
        for one in () if mask is None else mask[1:]:
            if one is not None:
                seen &= one[:, None, None]
        if causal:
            seen &= np.tri(3, 5, dtype=bool)
        if layer.sliding_window:
            seen &= abs(np.arange(3)[:, None] - np.arange(5)) < layer.sliding_window
        if attention_mask is not None:
            own = attention_mask if attention_mask.ndim == 4 else attention_mask[..., None, :, :]
            seen = seen & own
        check(
            layer,
            inputs_of_heads(layer, rng, several),
            lambda x, w, seen=seen: heads(layer, x, w, seen, exact=scores)[: 1 + scores],
            mask,
            attention_mask=attention_mask,
            use_causal_mask=causal,
            return_attention_scores=scores,
        )


@pytest.mark.parametrize(
    "axes, shapes",
    [
        (None, [(2, 3, 2, 4), (2, 2, 5, 4)]),
        ((1, 2), [(2, 3, 2, 4), (2, 2, 5, 4)]),
        ((2,), [(2, 3, 2, 4), (2, 3, 5, 4)]),
        (-2, [(2, 3, 2, 4), (2, 3, 5, 4)]),
        (1, [(2, 3, 2, 4), (2, 5, 2, 4)]),
        ((1, 3), [(1, 2, 2, 3, 4), (1, 3, 2, 2, 4)]),
    ],
)
def test_axes_of_attention(axes, shapes, rng):
    """By rows of one axis, by the layer of rank 3 with the same weights."""
    layer = L.MultiHeadAttention(2, 3, attention_axes=axes)
    x = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

    def reference(x, weights):
        query, value = x
        rank = query.ndim
        places = {None: (1, 2), -2: (2,), 1: (1,)}.get(axes, axes)
        lead = [i for i in range(rank - 1) if i not in places]
        order = [*lead, *places, rank - 1]
        rows = [a.transpose(order) for a in x]
        sizes = [r.shape for r in rows]
        several = len(lead)
        batch = int(np.prod(sizes[0][:several]))
        flat = [r.reshape(batch, -1, r.shape[-1]) for r in rows]
        y, shares = heads(layer, flat, weights, exact=True)
        y = y.reshape(sizes[0]).transpose(np.argsort(order))
        ends = sizes[0][several:-1], sizes[1][several:-1]
        return [y, shares.reshape(*sizes[0][:several], 2, *ends[0], *ends[1])]

    check(layer, x, reference, return_attention_scores=True)
    shape = layer.compute_output_shape([a.shape for a in x], return_attention_scores=True)[1]
    mask = rng.random(shape) < 0.5
    _, shares = layer(*x, attention_mask=mask, return_attention_scores=True)
    np.testing.assert_array_equal(shares != 0, mask)


def test_shapes_of_heads_one_by_one():
    query, value, key = (2, 8, 16), (2, 4, 12), (2, 4, 10)
    layer = L.MultiHeadAttention(2, 3)
    assert layer.compute_output_shape(query, value) == query
    assert layer.compute_output_shape(query_shape=query, value_shape=value, key_shape=key) == query
    with pytest.raises(ValueError, match="expected shapes"):
        layer.compute_output_shape(query, value, (2, 5, 10))
    layer.build(query, value, key)
    sizes = {w.path.split("/")[-2]: w.shape[0] for w in layer.weights if "kernel" in w.path}
    assert (sizes["query"], sizes["value"], sizes["key"]) == (16, 12, 10)
    other = L.MultiHeadAttention(2, 3)
    other.build([query, value, key])
    assert [w.shape for w in other.weights] == [w.shape for w in layer.weights]


def test_calls_of_heads(rng):
    """What Keras takes by position and by name; masks of arrays."""
    layer = L.MultiHeadAttention(2, 3)
    query, value = inputs(rng, 2)
    y = layer(query, value)
    np.testing.assert_array_equal(layer(query, value, value), y)
    np.testing.assert_array_equal(layer(query, value=value, key=value), y)
    chosen = rng.random((2, 3, 5)) < 0.6
    chosen[..., 0] = True
    masked = layer(query, value, attention_mask=chosen)
    np.testing.assert_array_equal(layer(query, value, None, None, None, None, chosen), masked)
    np.testing.assert_allclose(
        layer(query, value, attention_mask=chosen.astype(np.float32)), masked, atol=1e-6
    )
    seen = layer(query, value, attention_mask=np.repeat(VALUE_MASK[:, None], 3, 1))
    np.testing.assert_allclose(layer(query, value, value_mask=VALUE_MASK), seen, atol=1e-6)
    np.testing.assert_allclose(layer(query, value, value, key_mask=VALUE_MASK), seen, atol=1e-6)
    np.testing.assert_array_equal(layer(query, value, query_mask=QUERY_MASK), y)  # as in Keras
    groups = L.GroupQueryAttention(3, 2, 1)
    assert (groups(query, value, query_mask=QUERY_MASK) != groups(query, value)).any()
    with pytest.raises(TypeError, match="expected query and value, received the query alone"):
        layer(query)
    with pytest.raises(ValueError, match="expected masks that broadcast to the scores of shape"):
        layer(query, value, attention_mask=np.ones((2, 5, 3), bool))
    with pytest.raises(ValueError, match="mask: expected the first axes of inputs"):
        layer(query, value, value_mask=QUERY_MASK)
    with pytest.raises(ValueError, match=r"expected shapes \(batch, Tq, 4\), \(batch, Tv, 4\)"):
        layer(query, value[..., :3])
    with pytest.raises(ValueError, match=r"\(GroupQueryAttention\): expected shapes"):
        L.GroupQueryAttention(3, 2, 1)(query, value[..., :3])
    with pytest.raises(ValueError, match="num_query_heads: expected a multiple of"):
        L.GroupQueryAttention(3, 3, 2)
    for options in ({"num_heads": 0}, {"key_dim": 1.5}, {"value_dim": 0}, {"sliding_window": -1}):
        with pytest.raises(ValueError, match=f"{[*options][0]}: expected a whole number >= 1"):
            L.MultiHeadAttention(**{"num_heads": 1, "key_dim": 2, **options})
    with pytest.raises(ValueError, match="attention_axes: expected axes from 1 to 1 for inputs"):
        L.MultiHeadAttention(1, 2, attention_axes=2)(query, value)
    with pytest.raises(ValueError, match="flash_attention: expected None or False"):
        L.MultiHeadAttention(1, 2, flash_attention=True)


def test_dropout_of_heads(rng):
    x = [rng.standard_normal((2, 30, 4)).astype(np.float32) for _ in range(2)]
    layer, twin, plain = (
        L.MultiHeadAttention(2, 3, dropout=rate, seed=1) for rate in (0.25, 0.25, 0)
    )
    whole = plain(*x, return_attention_scores=True)
    for other in (layer, twin):
        other(*x)
        other.set_weights(plain.get_weights())
    np.testing.assert_allclose(layer(*x), whole[0], atol=1e-6)
    y, shares = layer(*x, training=True, return_attention_scores=True)
    np.testing.assert_array_equal(shares, whole[1])  # before dropout
    assert (abs(y - whole[0]) > 1e-3).any()
    np.testing.assert_array_equal(twin(*x, training=True), y)

    # The gradient of the values, which the dropped shares alone give.
    run = Run(training=True)
    for weight in layer.weights:
        weight.gradient = np.zeros(weight.shape, np.float32)
    layer.forward(x, run)
    dy = rng.standard_normal((2, 30, 4)).astype(np.float32)
    dquery, dvalue = (d.copy() for d in layer.backward(dy.copy(), run))
    kept = run.saved[layer][5].reshape(2, 2, 30, 30)
    assert 0.2 < (kept == 0).mean() < 0.3
    w = dict(zip("qQkKvVoO", (w.astype(float) for w in layer.get_weights()), strict=True))
    q, k, v = (
        np.tensordot(a, w[n], 1) + w[n.upper()]
        for a, n in zip((x[0], x[1], x[1]), "qkv", strict=True)
    )
    dcontext = np.einsum("bqd,nhd->bqnh", dy, w["o"])
    dkept = np.einsum("bqnh,bknh->bnqk", dcontext, v) * (kept != 0) / 0.75
    dscores = whole[1] * (dkept - (dkept * whole[1]).sum(-1, keepdims=True)) / np.sqrt(3)
    expected = np.einsum("bnqk,bknh,dnh->bqd", dscores, k, w["q"])
    np.testing.assert_allclose(dquery, expected, atol=1e-4)
    expected = np.einsum("bnqk,bqnh,dnh->bkd", kept, dcontext, w["v"])
    expected += np.einsum("bnqk,bqnh,dnh->bkd", dscores, q, w["k"])
    np.testing.assert_allclose(dvalue, expected, atol=1e-4)


def test_configs_and_names_of_heads():
    layer = L.MultiHeadAttention(2, 3, name="at", kernel_initializer="he_normal", use_gate=True)
    query = Input((5, 4))
    y, shares = layer(query, Input((7, 6)), return_attention_scores=True)
    assert (y.shape, shares.shape) == ((None, 5, 4), (None, 2, 5, 7))
    parts = ("query", "key", "gate", "value", "attention_output")
    paths = [f"at/{part}/{kind}" for part in parts for kind in ("kernel", "bias")]
    assert [w.path for w in layer.weights] == paths
    assert layer.get_config()["attention_axes"] == (1,)
    again = L.MultiHeadAttention.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    layer.trainable = False
    assert not layer.trainable_weights and len(layer.non_trainable_weights) == 10
    frozen = L.MultiHeadAttention(2, 3, trainable=False)
    frozen(query, query)
    assert not frozen.trainable_weights and len(frozen.weights) == 8
    wide = L.MultiHeadAttention(4, 8)
    wide(Input((5, 64)), Input((5, 64)))
    for kernel in (wide.get_weights()[0], wide.get_weights()[6]):  # fans 64 and 32
        assert 0.98 < abs(kernel).max() / np.sqrt(6 / 96) <= 1


@pytest.mark.parametrize("kind", HEADS)
def test_graphs_of_heads(kind, rng):
    """A mask as an input, as a constant, none; the tensors as in a call on arrays."""
    layer = HEADS[kind]()
    x = inputs_of_heads(layer, rng, 3)
    tensors = [Input(a.shape[1:]) for a in x]
    chosen = rng.random((2, 3, 5)) < 0.6
    mask = Input((3, 5))
    query, value, key = tensors
    cases = [
        ([query, value], {}, {}), (tensors, {"key": key}, {"key": x[2]}),
        ([*tensors, mask], {"key": key, "attention_mask": mask},
         {"key": x[2], "attention_mask": chosen}),
        (tensors, {"key": key, "attention_mask": chosen[0]},
         {"key": x[2], "attention_mask": chosen[0]}),
        (tensors, {"key": key, "use_causal_mask": True, "return_attention_scores": True},
         {"key": x[2], "use_causal_mask": True, "return_attention_scores": True}),
    ]  # fmt: skip
    for given, symbolic, arrays in cases:
        fresh = HEADS[kind]()
        model = Model(given, fresh(query, value, **symbolic))
        found = model([*x, chosen.astype(np.float32)][: len(given)])
        expected = fresh(x[0], x[1], **arrays)
        if not isinstance(expected, list):
            found, expected = [found], [expected]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="expected no masks beside attention_mask"):
        HEADS[kind]()(query, value, value_mask=VALUE_MASK)


def test_training_with_heads(rng):
    """A transformer's block of a mask from below, with a penalty, learns."""
    x = rng.integers(1, 9, (16, 6)) * (np.arange(6) < rng.integers(2, 7, (16, 1)))
    one = Input((6,), dtype="int32")
    embedded = L.Embedding(9, 8, mask_zero=True)(one)
    seen = L.MultiHeadAttention(2, 4, kernel_regularizer="l2", activity_regularizer="l2")(
        embedded, embedded, use_causal_mask=True
    )
    both = L.LayerNormalization()(L.Add()([embedded, seen]))
    model = Model(one, L.Dense(9, activation="softmax")(both))
    model.compile(fastrnn.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    losses = model.fit(x, x, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
