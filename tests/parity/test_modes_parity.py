"""Calls that say their masks and their mode themselves, against Keras: values, files both ways, and
three steps of training, where Keras 3 forgets the mode (DIFFERENCES.md)."""

import numpy as np
import pytest

import fastrnn

keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")

# Keras saves TensorFlow's variables.


def of_recurrent_layers(m, x, flags):
    L = m.layers
    masked = L.LSTM(4, return_sequences=True)(x, mask=flags > 0.5)
    return L.Bidirectional(L.GRU(3))(masked + x[..., :4], mask=flags < 0.9)


def of_attention(m, x, flags):
    L = m.layers
    query = L.LSTM(4, return_sequences=True)(x)
    value = L.LSTM(4, return_sequences=True)(x)
    mask = flags > 0.5
    found = L.Attention()([query, value], mask=[mask, mask])
    more = L.MultiHeadAttention(2, 3)(query, value, attention_mask=None)
    return L.GlobalAveragePooling1D()(L.Concatenate()([found, more]), mask=mask)


def of_frozen_layers(m, x, flags):
    L = m.layers
    y = L.BatchNormalization(name="still")(x, training=False)
    y = L.Dropout(0.5)(y, training=False)
    y = L.BatchNormalization(name="moving", momentum=0.5)(y)
    y = L.GaussianNoise(0.5)(y, training=False)
    inner = m.Sequential([L.Input((6, 5)), L.Dropout(0.5), L.BatchNormalization(), L.LSTM(3)])
    return inner(y, training=False)


def of_masks_through_merges(m, x, flags):
    L = m.layers
    a, b = L.Masking(0.0)(x), L.Masking(1.0)(x)
    summed = L.LSTM(3)(L.Add()([a, b]))
    joined = L.LSTM(3)(L.Concatenate()([a, b]))
    return L.Concatenate()([summed, joined, flags])


BUILD = [of_recurrent_layers, of_attention, of_frozen_layers, of_masks_through_merges]


def model_of(module, build):
    x, flags = module.layers.Input((6, 5), name="x"), module.layers.Input((6,), name="flags")
    top = module.layers.Dense(2, name="top")(build(module, x, flags))
    model = module.Model([x, flags], top)
    model.compile(module.optimizers.SGD(0.1), "mse")
    return model


@pytest.mark.parametrize("build", BUILD)
def test_values_training_and_files(build, tmp_path, tally):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((7, 6, 5)).astype(np.float32)
    x[:, 4:] *= rng.integers(0, 2, (7, 2, 1))
    x[2:4, 0] = 1
    given = [x, rng.uniform(0, 1, (7, 6)).astype(np.float32)]
    y = rng.standard_normal((7, 2)).astype(np.float32)
    ours, theirs = model_of(fastrnn, build), model_of(keras, build)
    weights = [
        abs(rng.standard_normal(w.shape)) / 2 + 0.2 * ("variance" in w.name) for w in theirs.weights
    ]
    for model in (ours, theirs):
        model.set_weights(weights)
    expected = theirs.predict(given, verbose=0)
    theirs.save(tmp_path / "theirs.keras")
    ours.save(tmp_path / "ours.keras")
    for model in (
        ours,
        fastrnn.models.load_model(tmp_path / "theirs.keras"),
        keras.models.load_model(tmp_path / "ours.keras"),
    ):
        np.testing.assert_allclose(model.predict(given, verbose=0), expected, atol=3e-6)
    np.testing.assert_allclose(ours.compile_inference()(given), expected, atol=3e-6)
    if build is of_frozen_layers:
        return
    losses = [[float(model.train_on_batch(given, y)) for _ in range(3)] for model in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    tally.compared("modes and masks of calls")
