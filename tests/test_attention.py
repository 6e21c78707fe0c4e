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
    layer(x, **options)
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
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    given = [dy.copy() for dy in dys]
    dx = layer.backward(given if several else given[0], run)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(dx) for b in dx[:i])

    def total():
        return sum((y * dy).sum() for y, dy in zip(reference(arrays, weights), dys, strict=True))

    gradients = [*dx, *(w.gradient for w in layer.weights)]
    for array, gradient in zip([*arrays, *weights], gradients, strict=True):
        numeric = numeric_gradient(total, array)
        assert gradient.shape == array.shape and gradient.flags.c_contiguous
        np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-5 * abs(numeric).max() + 1e-6)
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
