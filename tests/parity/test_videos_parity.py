"""CNNs for each frame below recurrent layers, after some steps of training, against Keras."""

import numpy as np
import pytest

import fastrnn

keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")


def by_layer(m):
    L = m.layers
    return [
        L.TimeDistributed(L.ZeroPadding2D(((1, 0), (0, 1)))),
        L.TimeDistributed(L.Conv2D(4, 3, strides=(1, 2), padding="same", activation="relu")),
        L.TimeDistributed(L.BatchNormalization(momentum=0.8)),
        L.TimeDistributed(L.MaxPooling2D()),
        L.TimeDistributed(L.Flatten()),
        L.LSTM(6),
    ]


def nested(m):
    L = m.layers
    cnn = [
        L.Conv2D(4, (2, 3), padding="same", use_bias=False, kernel_regularizer="l2"),
        L.BatchNormalization(momentum=0.8),
        L.Activation("elu"),
        L.AveragePooling2D((1, 2)),
        L.Conv2D(4, 2, groups=2, activation="tanh"),
        L.UpSampling2D((2, 1)),
        L.Cropping2D(((1, 0), (0, 1))),
        L.GlobalAveragePooling2D(),
    ]
    return [L.TimeDistributed(m.Sequential(cnn)), L.Bidirectional(L.GRU(3))]


def reshaped(m):
    L = m.layers
    return [
        L.TimeDistributed(L.Conv2D(3, 2, dilation_rate=(2, 1), activation="sigmoid")),
        L.TimeDistributed(L.GlobalMaxPooling2D(keepdims=True)),
        L.TimeDistributed(L.Reshape((-1,))),
        L.SimpleRNN(4),
    ]


def convolutional(m):
    L = m.layers
    return [
        L.ConvLSTM2D(4, 3, padding="same", return_sequences=True, kernel_regularizer="l2"),
        L.BatchNormalization(momentum=0.8),
        L.Bidirectional(L.ConvLSTM2D(3, (2, 3), strides=(2, 1), activation="relu")),
        L.Conv2D(2, 2),
        L.Flatten(),
    ]


@pytest.mark.parametrize("frames", [4, None])
@pytest.mark.parametrize("stack", [by_layer, nested, reshaped, convolutional])
def test_training(stack, frames, tally):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((6, 4, 6, 7, 2)).astype(np.float32)
    y = rng.standard_normal((6, 2)).astype(np.float32)
    weights, predictions, losses = None, [], []
    for module in (keras, fastrnn):
        start = module.layers.Input((frames, 6, 7, 2))
        model = module.Sequential([start, *stack(module), module.layers.Dense(2)])
        if weights is None:
            weights = [
                abs(rng.standard_normal(w.shape)) / 2 + 0.1 * ("variance" in w.name)
                for w in model.weights
            ]
            weights = [w * rng.choice([-1, 1], w.shape) if w.ndim > 1 else w for w in weights]
        model.set_weights(weights)
        model.compile(module.optimizers.SGD(0.05, momentum=0.9), "mse")
        losses.append([float(model.train_on_batch(x, y)) for _ in range(4)])
        predictions.append(model.predict(x, verbose=0))
        if module is keras:
            expected = model.get_weights()
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(predictions[1], predictions[0], rtol=1e-3, atol=1e-4)
    for own, theirs, start in zip(model.get_weights(), expected, weights, strict=True):
        moved = abs(theirs - start).max()
        assert moved > 0
        np.testing.assert_allclose(own, theirs, atol=1e-3 * moved + 1e-6)
    tally.compared("videos")
