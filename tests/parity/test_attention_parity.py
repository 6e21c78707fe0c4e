"""Attention in graphs of layers against Keras: outputs, masks, gradients, and after training."""

import numpy as np
import pytest

import fastrnn
from fastrnn.layers.base import clear_session

keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")
pytest.importorskip("tensorflow", reason="compares with Keras on TensorFlow")

# Keras's GroupQueryAttention leaves the masks on what its dense layers get.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*does not support masking")

RNG = np.random.default_rng(3)
SOURCE = RNG.integers(1, 12, (8, 7)) * (np.arange(7) < RNG.integers(2, 8, (8, 1)))
Y = RNG.integers(0, 12, (8, 7))


def network(library, attend, masked, own):
    """An encoder and a decoder, whose steps look at the encoder's through `attend`: 5 steps from
    the encoder's states, or (own) as many as the source has, with its mask if it is masked."""
    layers = library.layers
    source = library.Input((7,), dtype="int32")
    x = layers.Embedding(12, 6, mask_zero=masked, name="words")(source)
    encoded, *states = layers.LSTM(6, return_sequences=True, return_state=True, name="in")(x)
    decoder = layers.LSTM(6, return_sequences=True, name="out")
    if own:
        decoded = decoder(x)
    else:
        decoded = decoder(layers.RepeatVector(5, name="again")(states[0]), initial_state=states)
    seen = attend(layers, decoded, encoded)
    scores = []
    if isinstance(seen, (list, tuple)):
        seen, *scores = seen
    x = layers.Add(name="both")([decoded, seen])
    x = layers.GRU(5, return_sequences=True, name="above")(x)  # skips what is masked
    y = layers.Dense(12, activation="softmax", name="y")(x)
    return library.Model(source, y), library.Model(source, [seen, *scores])


def compare(attend, masked, own):
    """Outputs; loss and weights after one step of SGD (which shows the gradients), after three."""
    found, weights = [], []
    for library in (fastrnn, keras):
        model, part = network(library, attend, masked, own)
        if not weights:
            rng = np.random.default_rng(7)
            weights += [rng.uniform(-0.7, 0.7, w.shape).astype(np.float32) for w in model.weights]
        assert [w.shape for w in weights] == [tuple(w.shape) for w in model.weights]
        model.set_weights(weights)
        model.compile(
            library.optimizers.SGD(0.5), "sparse_categorical_crossentropy", run_eagerly=True
        )
        parts = part(SOURCE)
        values = [model(SOURCE), *(parts if isinstance(parts, list) else [parts])]
        for _ in range(3):
            loss = model.train_on_batch(SOURCE, Y[:, : model.output_shape[1]])
            values += [np.float32(loss), *model.get_weights()]
        found.append(values)
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=5e-6, rtol=1e-5)


GRAPHS = pytest.mark.parametrize(
    "masked, own, more",
    [(False, False, True), (True, False, False), (True, True, True)],
    ids=["unmasked", "values masked", "both masked"],
)

KINDS = {
    "dot": lambda layers: layers.Attention(name="at"),
    "scaled": lambda layers: layers.Attention(use_scale=True, name="at"),
    "concat": lambda layers: layers.Attention(score_mode="concat", use_scale=True, name="at"),
    "additive": lambda layers: layers.AdditiveAttention(name="at"),
    "plain": lambda layers: layers.AdditiveAttention(use_scale=False, name="at"),
}


@GRAPHS
@pytest.mark.parametrize("kind", KINDS)
def test_attention(kind, masked, own, more):
    def attend(layers, query, value):
        layer = KINDS[kind](layers)
        if not more:
            return layer([query, value])
        key = layers.Dense(6, name="key")(value)
        return layer([query, value, key], return_attention_scores=True, use_causal_mask=True)

    compare(attend, masked, own)


@pytest.mark.parametrize("several", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_calls_on_arrays(kind, several):
    rng = np.random.default_rng(several)
    x = [rng.standard_normal((2, n, 4)).astype(np.float32) for n in (3, 5, 5)][:several]
    masks = [rng.random((2, n)) < 0.6 for n in (3, 5)]
    ours, theirs = (KINDS[kind](library.layers) for library in (fastrnn, keras))
    ours(x)
    theirs(x)
    weights = [rng.standard_normal(w.shape).astype(np.float32) for w in ours.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    for mask in (None, masks, [masks[0], None], [None, masks[1]]):
        for causal in (False, True):
            options = {"use_causal_mask": causal, "return_attention_scores": True}
            found, expected = ours(x, mask=mask, **options), theirs(x, mask=mask, **options)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6)
    configs = [layer.get_config() for layer in (ours, theirs)]
    assert [*configs[0]] == [*configs[1]]
    for config in configs:
        del config["dtype"]
    assert configs[0] == configs[1]


HEADS = {
    "two": lambda layers: layers.MultiHeadAttention(2, 3, name="at"),
    "sizes": lambda layers: layers.MultiHeadAttention(
        3, 2, 4, use_bias=False, output_shape=6, sliding_window=3, name="at"
    ),
    "gate": lambda layers: layers.MultiHeadAttention(
        2, 3, use_gate=True, kernel_regularizer="l2", bias_constraint="non_neg", name="at"
    ),
    "activity": lambda layers: layers.MultiHeadAttention(
        1, 3, activity_regularizer="l2", use_gate=True, name="at"
    ),
    "groups": lambda layers: layers.GroupQueryAttention(3, 4, 2, name="at"),
    "one group": lambda layers: layers.GroupQueryAttention(
        2, 3, 1, use_bias=False, use_gate=True, sliding_window=2, activity_regularizer="l2",
        name="at",
    ),
}  # fmt: skip


@GRAPHS
@pytest.mark.parametrize("kind", HEADS)
def test_heads(kind, masked, own, more):
    def attend(layers, query, value):
        layer = HEADS[kind](layers)
        if not more:
            return layer(query, value)
        key = layers.Dense(6, name="key")(value)
        return layer(query, value, key, use_causal_mask=True)

    compare(attend, masked, own)


@pytest.mark.parametrize("kind", ["two", "groups"])
def test_shares_of_heads(kind):
    """In Keras too a query that sees nothing gets nothing where the shares are asked for."""
    own = kind == "two"  # Keras gives their shape as (batch, heads, Tq, Tq)
    compare(
        lambda layers, query, value: HEADS[kind](layers)(
            query, value, use_causal_mask=True, return_attention_scores=True
        ),
        True,
        own,
    )


@pytest.mark.parametrize("kind", HEADS)
def test_calls_of_heads_on_arrays(kind):
    rng = np.random.default_rng(2)
    query, value, key = (rng.standard_normal((2, n, 6)).astype(np.float32) for n in (3, 5, 5))
    masks = [rng.random((2, n)) < 0.6 for n in (3, 5)]
    masks[1][0] = False  # nothing to be seen
    chosen = rng.random((2, 3, 5)) < 0.6
    ours, theirs = (HEADS[kind](library.layers) for library in (fastrnn, keras))
    for library, layer in ((fastrnn, ours), (keras, theirs)):
        library.utils.set_random_seed(2)
        layer(query, value, key)
    paths = [[w.path for w in layer.weights] for layer in (ours, theirs)]
    assert paths[0] == paths[1]
    for one, other in zip(ours.weights, theirs.weights, strict=True):  # as many fans
        np.testing.assert_allclose(np.abs(one).max(), np.abs(other).max(), rtol=0.4)
    weights = [rng.standard_normal(w.shape).astype(np.float32) for w in ours.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    cases = [
        {}, {"key": key}, {"query_mask": masks[0]}, {"value_mask": masks[1]},
        {"key": key, "key_mask": masks[1], "value_mask": masks[1]}, {"attention_mask": chosen},
        {"attention_mask": chosen[0]}, {"attention_mask": chosen[:, None].astype(np.float32)},
        {"value_mask": masks[1], "use_causal_mask": True, "attention_mask": chosen},
        {"use_causal_mask": True},
    ]  # fmt: skip
    for case in cases:
        if case.get("attention_mask", chosen).ndim == 4 and ours.sliding_window:
            continue
        np.testing.assert_allclose(
            ours(query, value, **case), theirs(query, value, **case), atol=2e-5, err_msg=str(case)
        )
        losses = [[float(loss) for loss in layer.losses] for layer in (ours, theirs)]
        if ours.activity_regularizer is not None:  # Keras has that of the whole layer first
            losses[0].insert(0, losses[0].pop())
        np.testing.assert_allclose(*losses, rtol=1e-5)
        found, expected = (
            layer(query, value, return_attention_scores=True, **case) for layer in (ours, theirs)
        )
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5, err_msg=str(case))
    configs = [layer.get_config() for layer in (ours, theirs)]
    assert sorted(configs[0]) == sorted(configs[1])
    again = type(ours).from_config(configs[1])
    for config in (configs[0], again.get_config()):
        for name in configs[1]:
            if not isinstance(configs[1][name], dict):
                assert config[name] == configs[1][name], name
    twin = type(theirs).from_config(configs[0])
    twin(query, value, key)
    assert [w.shape for w in twin.weights] == [w.shape for w in theirs.weights]


@pytest.mark.parametrize("axes", [None, (1, 2), 2, -2, 1])
def test_axes_of_attention(axes):
    rng = np.random.default_rng(2)
    query = rng.standard_normal((2, 3, 4, 6)).astype(np.float32)
    shape = {2: (2, 3, 5, 6), -2: (2, 3, 5, 6), 1: (2, 7, 4, 6)}.get(axes, (2, 2, 5, 6))
    value = rng.standard_normal(shape).astype(np.float32)
    ours, theirs = (
        library.layers.MultiHeadAttention(2, 3, attention_axes=axes) for library in (fastrnn, keras)
    )
    ours(query, value)
    theirs(query, value)
    theirs.set_weights(ours.get_weights())
    assert ours.get_config()["attention_axes"] == theirs.get_config()["attention_axes"]
    found, expected = (
        layer(query, value, return_attention_scores=True) for layer in (ours, theirs)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(ours(query, value), theirs(query, value), atol=1e-6)


def test_names_of_heads():
    keras.utils.clear_session()
    clear_session()
    for library in (fastrnn, keras):
        layers = library.layers
        kinds = layers.MultiHeadAttention(1, 2), layers.GroupQueryAttention(1, 2, 1)
        assert [layer.name for layer in kinds] == [
            "multi_head_attention",
            "grouped_query_attention",
        ]
        assert [layers.serialize(layer)["class_name"] for layer in kinds] == [
            "MultiHeadAttention", "GroupQueryAttention",
        ]  # fmt: skip
