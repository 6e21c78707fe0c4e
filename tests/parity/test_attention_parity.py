"""Attention in graphs of layers against Keras: outputs, masks, gradients, and after training."""

import numpy as np
import pytest

import fastrnn

keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")
pytest.importorskip("tensorflow", reason="compares with Keras on TensorFlow")

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
