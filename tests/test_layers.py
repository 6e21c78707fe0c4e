"""One contract for every layer: shapes, weights, config, gradients through a whole model."""

import numpy as np
import pytest

import fastrnn
from fastrnn import _engine
from fastrnn import layers as L
from fastrnn.run import Run

SEQUENCE, VECTOR, IMAGE, INDICES = (4, 5), (6,), (5, 4, 4), "indices"


def recurrent(**options):
    return lambda: L.LSTM(3, return_sequences=True, **options)


def bidirectional(mode, **options):
    return lambda: L.Bidirectional(L.LSTM(3, **options), merge_mode=mode)


def two_layers():
    return L.Bidirectional(
        L.LSTM(3, return_sequences=True),
        backward_layer=L.LSTM(2, activation="softsign", return_sequences=True, go_backwards=True),
    )


CASES = {
    "lstm": (lambda: L.LSTM(7), SEQUENCE),
    "lstm sequences": (recurrent(), SEQUENCE),
    "lstm backwards": (recurrent(go_backwards=True), SEQUENCE),
    "lstm no bias": (recurrent(use_bias=False), SEQUENCE),
    "lstm hard": (recurrent(recurrent_activation="hard_sigmoid"), SEQUENCE),
    "lstm gelu": (recurrent(activation="gelu"), SEQUENCE),
    "lstm silu backwards": (recurrent(activation="silu", go_backwards=True), SEQUENCE),
    "gru": (lambda: L.GRU(7), SEQUENCE),
    "gru sequences": (lambda: L.GRU(5, return_sequences=True), SEQUENCE),
    "gru wide": (lambda: L.GRU(37, return_sequences=True, go_backwards=True), SEQUENCE),
    "gru no bias": (lambda: L.GRU(3, use_bias=False), SEQUENCE),
    "gru gelu": (lambda: L.GRU(3, activation="gelu", return_sequences=True), SEQUENCE),
    "gru reset before": (lambda: L.GRU(3, reset_after=False, return_sequences=True), SEQUENCE),
    "gru dropout": (lambda: L.GRU(3, dropout=0.4, recurrent_dropout=0.3), SEQUENCE),
    "gru reset before dropout": (
        lambda: L.GRU(3, dropout=0.4, recurrent_dropout=0.3, reset_after=False),
        SEQUENCE,
    ),
    "simple rnn": (lambda: L.SimpleRNN(7), SEQUENCE),
    "simple rnn sequences": (lambda: L.SimpleRNN(70, return_sequences=True), SEQUENCE),
    "simple rnn gelu": (lambda: L.SimpleRNN(3, "gelu", use_bias=False), SEQUENCE),
    "simple rnn dropout": (lambda: L.SimpleRNN(3, dropout=0.4, recurrent_dropout=0.3), SEQUENCE),
    "rnn of a cell": (lambda: L.RNN(L.LSTMCell(5), return_sequences=True), SEQUENCE),
    "rnn of cells": (lambda: L.RNN([L.LSTMCell(3), L.GRUCell(4), L.SimpleRNNCell(2)]), SEQUENCE),
    "rnn of cells backwards": (
        lambda: L.RNN([L.GRUCell(3), L.LSTMCell(2)], return_sequences=True, go_backwards=True),
        SEQUENCE,
    ),
    "rnn of cells dropout": (
        lambda: L.RNN([L.GRUCell(3, dropout=0.4), L.LSTMCell(2, recurrent_dropout=0.3)]),
        SEQUENCE,
    ),
    "bidirectional rnn of a cell": (lambda: L.Bidirectional(L.RNN(L.GRUCell(3))), SEQUENCE),
    "bidirectional rnn of cells": (
        lambda: L.Bidirectional(L.RNN([L.LSTMCell(3), L.GRUCell(2)], return_sequences=True)),
        SEQUENCE,
    ),
    "time distributed rnn of cells": (
        lambda: L.TimeDistributed(L.RNN([L.GRUCell(3), L.LSTMCell(2)])),
        (3, *SEQUENCE),
    ),
    "bidirectional gru": (lambda: L.Bidirectional(L.GRU(5, return_sequences=True)), SEQUENCE),
    "bidirectional simple rnn": (lambda: L.Bidirectional(L.SimpleRNN(5), "sum"), SEQUENCE),
    "bidirectional regularized": (
        bidirectional("concat", return_sequences=True, activity_regularizer="l2"),
        SEQUENCE,
    ),
    "bidirectional mul regularized": (bidirectional("mul", activity_regularizer="l1"), SEQUENCE),
    "bidirectional of both": (
        lambda: L.Bidirectional(L.LSTM(3), backward_layer=L.GRU(5, go_backwards=True)),
        SEQUENCE,
    ),
    "bidirectional concat": (bidirectional("concat", return_sequences=True), SEQUENCE),
    "bidirectional last": (bidirectional("concat"), SEQUENCE),
    "bidirectional sum": (bidirectional("sum"), SEQUENCE),
    "bidirectional mul": (bidirectional("mul", return_sequences=True), SEQUENCE),
    "bidirectional ave": (bidirectional("ave", return_sequences=True), SEQUENCE),
    "bidirectional gelu": (bidirectional("concat", activation="gelu"), SEQUENCE),
    "bidirectional two layers": (two_layers, SEQUENCE),
    "dense": (lambda: L.Dense(3, "tanh"), VECTOR),
    "dense wide": (lambda: L.Dense(70), VECTOR),
    "dense gelu": (lambda: L.Dense(3, "gelu", use_bias=False), SEQUENCE),
    "dense softmax": (lambda: L.Dense(3, "softmax"), VECTOR),
    "time distributed": (lambda: L.TimeDistributed(L.Dense(2, "sigmoid")), SEQUENCE),
    "time distributed norm": (lambda: L.TimeDistributed(L.BatchNormalization()), SEQUENCE),
    "time distributed lstm": (lambda: L.TimeDistributed(L.LSTM(2)), (2, 3, 4)),
    "batch normalization": (lambda: L.BatchNormalization(), SEQUENCE),
    "batch normalization axis": (lambda: L.BatchNormalization(axis=1), SEQUENCE),
    "batch normalization plain": (lambda: L.BatchNormalization(scale=False, center=False), VECTOR),
    "embedding": (lambda: L.Embedding(9, 4), INDICES),
    "embedding mask": (lambda: L.Embedding(9, 4, mask_zero=True), INDICES),
    "masking": (lambda: L.Masking(), SEQUENCE),
    "activation": (lambda: L.Activation("softplus"), SEQUENCE),
    "flatten": (lambda: L.Flatten(), SEQUENCE),
    "reshape": (lambda: L.Reshape((2, -1)), SEQUENCE),
    "repeat": (lambda: L.RepeatVector(3), VECTOR),
    "dropout": (lambda: L.Dropout(0.4), SEQUENCE),
    "lstm dropout": (recurrent(dropout=0.4), SEQUENCE),
    "lstm recurrent dropout": (recurrent(dropout=0.3, recurrent_dropout=0.4), SEQUENCE),
    "bidirectional dropout": (bidirectional("concat", dropout=0.4), SEQUENCE),
    "bidirectional both dropouts": (
        bidirectional("sum", dropout=0.4, recurrent_dropout=0.3, return_sequences=True),
        SEQUENCE,
    ),
    "layer normalization": (lambda: L.LayerNormalization(), SEQUENCE),
    "layer normalization axes": (lambda: L.LayerNormalization([1, 2], epsilon=0.1), SEQUENCE),
    "layer normalization middle": (lambda: L.LayerNormalization([1, 2]), (3, 2, 4)),
    "layer normalization plain": (lambda: L.LayerNormalization(1, scale=False), SEQUENCE),
    "layer normalization rms": (lambda: L.LayerNormalization(rms_scaling=True), SEQUENCE),
    "global average": (lambda: L.GlobalAveragePooling1D(), SEQUENCE),
    "global average first": (lambda: L.GlobalAveragePooling1D("channels_first", True), SEQUENCE),
    "global max": (lambda: L.GlobalMaxPooling1D(), SEQUENCE),
    "global max kept": (lambda: L.GlobalMaxPooling1D(keepdims=True), SEQUENCE),
    "average pooling": (lambda: L.AveragePooling1D(3, 2, "same"), SEQUENCE),
    "max pooling": (lambda: L.MaxPooling1D(2), SEQUENCE),
    "max pooling first": (lambda: L.MaxPooling1D(3, 1, "same", "channels_first"), SEQUENCE),
    "conv": (lambda: L.Conv1D(3, 2, activation="tanh"), SEQUENCE),
    "conv strides": (lambda: L.Conv1D(3, 3, 2, "same", use_bias=False), SEQUENCE),
    "conv causal": (lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2), SEQUENCE),
    "conv groups": (lambda: L.Conv1D(4, 2, groups=2, activation="gelu"), (5, 6)),
    "conv first": (
        lambda: L.Conv1D(3, 2, data_format="channels_first", activation="softmax"),
        SEQUENCE,
    ),
    "conv transpose": (lambda: L.Conv1DTranspose(3, 3, 2, "same", activation="elu"), SEQUENCE),
    "conv transpose padding": (
        lambda: L.Conv1DTranspose(2, 2, 3, output_padding=2, use_bias=False),
        SEQUENCE,
    ),
    "conv transpose dilation": (
        lambda: L.Conv1DTranspose(3, 3, padding="same", dilation_rate=2, activation="tanh"),
        SEQUENCE,
    ),
    "conv transpose cut": (lambda: L.Conv1DTranspose(3, 4, 2, "same", 0), SEQUENCE),
    "conv transpose first": (
        lambda: L.Conv1DTranspose(3, 5, data_format="channels_first", activation="softmax"),
        SEQUENCE,
    ),
    "time distributed conv transpose": (
        lambda: L.TimeDistributed(L.Conv1DTranspose(2, 3)),
        (2, 3, 4),
    ),
    "depthwise conv": (lambda: L.DepthwiseConv1D(3, activation="tanh"), SEQUENCE),
    "depthwise conv multiplied": (
        lambda: L.DepthwiseConv1D(2, 2, "same", depth_multiplier=3, use_bias=False),
        SEQUENCE,
    ),
    "depthwise conv dilation": (
        lambda: L.DepthwiseConv1D(2, padding="same", dilation_rate=2, activation="softplus"),
        SEQUENCE,
    ),
    "depthwise conv first": (
        lambda: L.DepthwiseConv1D(2, data_format="channels_first", activation="softmax"),
        SEQUENCE,
    ),
    "separable conv": (lambda: L.SeparableConv1D(3, 3, activation="tanh"), SEQUENCE),
    "separable conv multiplied": (
        lambda: L.SeparableConv1D(4, 2, 3, "same", depth_multiplier=2, activation="softplus"),
        SEQUENCE,
    ),
    "separable conv causal": (
        lambda: L.SeparableConv1D(2, 2, padding="causal", dilation_rate=2, use_bias=False),
        SEQUENCE,
    ),
    "separable conv first": (
        lambda: L.SeparableConv1D(3, 2, data_format="channels_first", activation="softmax"),
        SEQUENCE,
    ),
    "time distributed separable conv": (
        lambda: L.TimeDistributed(L.SeparableConv1D(2, 3)),
        (2, 3, 4),
    ),
    "conv2d": (lambda: L.Conv2D(3, 2, activation="tanh"), IMAGE),
    "conv2d strides": (lambda: L.Conv2D(3, (3, 2), (2, 1), "same", use_bias=False), IMAGE),
    "conv2d dilated": (lambda: L.Conv2D(3, (2, 3), padding="same", dilation_rate=2), IMAGE),
    "conv2d groups": (lambda: L.Conv2D(4, 2, groups=2, activation="gelu"), IMAGE),
    "conv2d first": (
        lambda: L.Conv2D(3, 2, data_format="channels_first", activation="softmax"),
        IMAGE,
    ),
    "average pooling of images": (lambda: L.AveragePooling2D(3, 2, "same"), IMAGE),
    "max pooling of images": (lambda: L.MaxPooling2D(2), IMAGE),
    "max pooling of images first": (
        lambda: L.MaxPooling2D((3, 2), 1, "same", "channels_first"),
        IMAGE,
    ),
    "global average of images": (lambda: L.GlobalAveragePooling2D(), IMAGE),
    "global average of images first": (
        lambda: L.GlobalAveragePooling2D("channels_first", True),
        IMAGE,
    ),
    "global max of images": (lambda: L.GlobalMaxPooling2D(keepdims=True), IMAGE),
    "global max of images first": (lambda: L.GlobalMaxPooling2D("channels_first"), IMAGE),
    "spatial dropout of images": (lambda: L.SpatialDropout2D(0.4), IMAGE),
    "up sampling of images": (lambda: L.UpSampling2D((3, 2)), IMAGE),
    "up sampling of images first": (lambda: L.UpSampling2D(2, "channels_first"), IMAGE),
    "zero padding of images": (lambda: L.ZeroPadding2D(((2, 1), (0, 1))), IMAGE),
    "zero padding of images first": (lambda: L.ZeroPadding2D((1, 2), "channels_first"), IMAGE),
    "cropping of images": (lambda: L.Cropping2D(((0, 2), (1, 0))), IMAGE),
    "cropping of images first": (lambda: L.Cropping2D(1, "channels_first"), (3, 5, 4)),
    "flatten first": (lambda: L.Flatten("channels_first"), IMAGE),
    "batch normalization of images": (lambda: L.BatchNormalization(), IMAGE),
    "batch normalization of images first": (lambda: L.BatchNormalization(axis=1), IMAGE),
    "time distributed conv2d": (lambda: L.TimeDistributed(L.Conv2D(2, 2)), (3, *IMAGE)),
    "time distributed cnn": (
        lambda: L.TimeDistributed(
            fastrnn.Sequential(
                [
                    L.Conv2D(3, 2, padding="same"),
                    L.BatchNormalization(),
                    L.Activation("tanh"),
                    L.AveragePooling2D(2),
                    L.Flatten(),
                ]
            )
        ),
        (2, *IMAGE),
    ),
    "spatial dropout": (lambda: L.SpatialDropout1D(0.4), SEQUENCE),
    "gaussian noise": (lambda: L.GaussianNoise(0.4), SEQUENCE),
    "gaussian dropout": (lambda: L.GaussianDropout(0.4), SEQUENCE),
    "activity regularization": (lambda: L.ActivityRegularization(0.0, 0.1), SEQUENCE),
    "permute": (lambda: L.Permute((3, 1, 2)), (2, 3, 4)),
    "unit normalization": (lambda: L.UnitNormalization(), SEQUENCE),
    "unit normalization axes": (lambda: L.UnitNormalization([1, -1]), SEQUENCE),
    "unit normalization middle": (lambda: L.UnitNormalization(1), SEQUENCE),
    "rms normalization": (lambda: L.RMSNormalization(), SEQUENCE),
    "rms normalization axes": (lambda: L.RMSNormalization([1, 2], 0.1), SEQUENCE),
    "group normalization": (lambda: L.GroupNormalization(2), (4, 6)),
    "group normalization of each": (lambda: L.GroupNormalization(-1, epsilon=0.1), SEQUENCE),
    "group normalization first": (lambda: L.GroupNormalization(2, 1, scale=False), SEQUENCE),
    "group normalization middle": (lambda: L.GroupNormalization(1, -2), (3, 2, 4)),
    "group normalization of vectors": (lambda: L.GroupNormalization(2, center=False), VECTOR),
    "time distributed group normalization": (
        lambda: L.TimeDistributed(L.GroupNormalization(2)),
        (3, 2, 4),
    ),
    "normalization": (lambda: L.Normalization(), SEQUENCE),
    "normalization of all": (lambda: L.Normalization(None, invert=True), SEQUENCE),
    "normalization of steps": (lambda: L.Normalization([-1, 1]), SEQUENCE),
    "normalization given": (lambda: L.Normalization(1, [1, 2, 3, 4], [4, 3, 2, 1]), SEQUENCE),
    "normalization inverted": (lambda: L.Normalization(mean=1.5, variance=4, invert=True), VECTOR),
    "time distributed normalization": (lambda: L.TimeDistributed(L.Normalization()), SEQUENCE),
    "identity": (lambda: L.Identity(), SEQUENCE),
    "rescaling": (lambda: L.Rescaling(1 / 127.5, -1), SEQUENCE),
    "rescaling of channels": (lambda: L.Rescaling(np.arange(1.0, 6), [0.5] * 5), SEQUENCE),
    "rescaling of steps": (lambda: L.Rescaling([[1], [2], [3], [4]], 2), SEQUENCE),
    "up sampling": (lambda: L.UpSampling1D(3), SEQUENCE),
    "zero padding": (lambda: L.ZeroPadding1D((2, 1)), SEQUENCE),
    "zero padding first": (lambda: L.ZeroPadding1D((0, 3), "channels_first"), SEQUENCE),
    "cropping": (lambda: L.Cropping1D(), SEQUENCE),
    "cropping the start": (lambda: L.Cropping1D((2, 0)), SEQUENCE),
    "time distributed up sampling": (lambda: L.TimeDistributed(L.UpSampling1D()), (2, 3, 4)),
    "relu": (lambda: L.ReLU(1.5, 0.1), SEQUENCE),
    "leaky relu": (lambda: L.LeakyReLU(), SEQUENCE),
    "elu": (lambda: L.ELU(0.7), SEQUENCE),
    "softmax": (lambda: L.Softmax([1, 2]), SEQUENCE),
    "prelu": (lambda: L.PReLU("ones"), SEQUENCE),
    "prelu shared": (lambda: L.PReLU(shared_axes=[1]), SEQUENCE),
    "nested": (lambda: fastrnn.Sequential([L.Dense(3, "tanh"), L.LSTM(2)]), SEQUENCE),
}


APART = {  # as ONNX has no such operator and tests/test_onnx.py takes all of CASES
    "dense glu": (lambda: L.Dense(6, "glu"), VECTOR),
    "activation glu": (lambda: L.Activation("glu"), (3, 8)),
    "conv glu": (lambda: L.Conv1D(4, 2, activation="glu"), SEQUENCE),
    "conv first glu": (
        lambda: L.Conv1D(3, 2, data_format="channels_first", activation="glu"),
        SEQUENCE,
    ),
    "conv lstm 1d": (lambda: L.ConvLSTM1D(3, 2, return_sequences=True), IMAGE),
    "conv lstm 1d backwards": (
        lambda: L.ConvLSTM1D(2, 3, 2, "same", go_backwards=True, use_bias=False),
        IMAGE,
    ),
    "conv lstm 1d first": (
        lambda: L.ConvLSTM1D(3, 2, data_format="channels_first", activation="gelu"),
        IMAGE,
    ),
    "conv lstm": (lambda: L.ConvLSTM2D(3, 3, padding="same"), (3, *IMAGE)),
    "conv lstm sequences": (
        lambda: L.ConvLSTM2D(2, (2, 3), padding="same", return_sequences=True),
        (3, *IMAGE),
    ),
    "conv lstm strides": (lambda: L.ConvLSTM2D(2, (3, 2), (2, 1)), (3, *IMAGE)),
    "conv lstm dilation": (
        lambda: L.ConvLSTM2D(2, 2, dilation_rate=(1, 2), activation="softsign"),
        (3, *IMAGE),
    ),
    "conv lstm first": (
        lambda: L.ConvLSTM2D(2, 2, padding="same", data_format="channels_first"),
        (3, *IMAGE),
    ),
    "conv lstm dropout": (
        lambda: L.ConvLSTM2D(2, 2, dropout=0.4, recurrent_dropout=0.3, return_sequences=True),
        (3, *IMAGE),
    ),
    "bidirectional conv lstm": (
        lambda: L.Bidirectional(L.ConvLSTM2D(2, 2, padding="same", return_sequences=True)),
        (3, *IMAGE),
    ),
    "bidirectional conv lstm 1d": (lambda: L.Bidirectional(L.ConvLSTM1D(2, 2), "mul"), IMAGE),
    "time distributed conv lstm": (lambda: L.TimeDistributed(L.ConvLSTM1D(2, 2)), (3, *IMAGE)),
}


def example(name, rng):
    """What makes the layer of a case, and a batch of inputs for it."""
    make, shape = {**CASES, **APART}[name]
    if shape is INDICES:
        return make, rng.integers(0, 9, (6, 5)).astype(np.int32)
    return make, rng.standard_normal((6, *shape)).astype(np.float32)


@pytest.fixture(params=[*CASES, *APART])
def case(request, rng):
    return example(request.param, rng)


def built(name, rng):
    """A model of the layer of a case with random weights, and a batch of inputs for it."""
    make, x = example(name, rng)
    model = fastrnn.Sequential([make()])
    model.predict(x, verbose=0)
    randomise(model, rng)
    return model, x


def randomise(model, rng):
    """Weights without symmetry, variances positive."""
    for w in model.weights:
        values = 0.5 * rng.standard_normal(w.shape)
        w.assign(np.abs(values) + 0.5 if "variance" in w.name else values)


def test_output_shape_and_call(case):
    make, x = case
    layer = make()
    y = layer(x)
    assert y.shape == layer.compute_output_shape(x.shape)
    assert y.dtype == np.float32
    assert layer.output_shape == (None, *y.shape[1:])
    assert layer.count_params() == sum(w.size for w in layer.get_weights())


def test_config_round_trip(case):
    make, x = case
    layer = make()
    y = layer(x)
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    twin(x)
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(twin(x), y)


def test_gradients_by_central_differences(case, rng):
    make, x = case
    model = fastrnn.Sequential([fastrnn.Input(x.shape[1:]), make()])
    model.compile("sgd", "mse")
    randomise(model, rng)
    target = rng.standard_normal(model.predict(x, verbose=0).shape).astype(np.float32)
    statistics = [w.numpy() for w in model.non_trainable_weights]

    def loss(inputs):
        fastrnn.utils.set_random_seed(1)  # dropout drops the same each time
        for weight, value in zip(model.non_trainable_weights, statistics, strict=True):
            weight.assign(value)
        return fastrnn.training.loss_and_gradients(model, inputs, target)

    _, gradients, dx = loss(x)
    step = 1e-2

    def check(gradient, change):
        """Along some random directions; a single number would drown in float32 rounding."""
        for _ in range(3):
            direction = rng.standard_normal(gradient.shape)
            direction /= np.linalg.norm(direction)
            numeric = (change(step * direction) - change(-step * direction)) / (2 * step)
            expected = float((gradient * direction).sum())
            assert abs(numeric - expected) < 2e-3 * np.linalg.norm(gradient) + 2e-4

    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        value = weight.numpy()

        def changed(delta, weight=weight, value=value):
            weight.assign(value + delta)
            result = loss(x)[0]
            weight.assign(value)
            return result

        check(gradient, changed)
    if x.dtype == np.float32 and not isinstance(model.layers[0], L.Masking):
        check(dx, lambda delta: loss((x + delta).astype(np.float32))[0])


def test_frozen_layer_passes_the_gradient_on(rng):
    frozen = L.LSTM(3, return_sequences=True, trainable=False)
    first = L.LSTM(4, return_sequences=True)
    model = fastrnn.Sequential([fastrnn.Input((5, 2)), first, frozen, L.Dense(1)])
    model.compile("sgd", "mse")
    before = frozen.get_weights()
    x, y = rng.standard_normal((8, 5, 2)), rng.standard_normal((8, 5, 1))
    start = first.get_weights()
    model.train_on_batch(x, y)
    for old, new in zip(before, frozen.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert any((a != b).any() for a, b in zip(start, first.get_weights(), strict=True))
    assert len(model.trainable_weights) == 5 and len(model.non_trainable_weights) == 3


def test_trainable_reaches_the_layers_within(rng):
    wrapped = L.TimeDistributed(L.BatchNormalization())
    inner = fastrnn.Sequential([L.Dense(3), L.BatchNormalization()])
    both = L.Bidirectional(L.LSTM(2, return_sequences=True))
    frozen = fastrnn.Sequential([fastrnn.Input((5, 4)), wrapped, inner, both])
    model = fastrnn.Sequential([frozen, L.Dense(1)])
    frozen.trainable = False
    assert not any(la.trainable for la in (wrapped.layer, inner.layers[1], both.backward_layer))
    before = frozen.get_weights()
    model.compile("sgd", "mse")
    x, y = rng.standard_normal((6, 5, 4)), rng.standard_normal((6, 5, 1))
    model.train_on_batch(x, y)
    for old, new in zip(before, frozen.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    frozen.trainable = True
    model.compile("sgd", "mse")
    model.train_on_batch(x, y)
    assert all((a != b).any() for a, b in zip(before, frozen.get_weights(), strict=True))


def test_freezing_one_weight_keeps_the_order():
    layer = L.BatchNormalization()
    layer(np.zeros((2, 3)))
    layer.gamma.trainable = False
    assert [w.name for w in layer.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert layer.trainable_weights == [layer.beta]


def test_activity_regularizer_is_in_the_config():
    for make in (lambda **options: L.Activation("relu", **options), L.LayerNormalization):
        layer = make(activity_regularizer="l2")
        assert layer.get_config()["activity_regularizer"]["class_name"] == "L2"
        twin = type(layer).from_config(layer.get_config())
        assert isinstance(twin.activity_regularizer, fastrnn.regularizers.L2)
        assert "activity_regularizer" not in make().get_config()


def test_indices_of_half_precision():
    layer = L.Embedding(9, 4)
    x = np.array([[3, 8], [0, 1]])
    np.testing.assert_array_equal(layer(x.astype(np.float16)), layer(x))


@pytest.mark.parametrize("make", [L.GRU, L.SimpleRNN])
@pytest.mark.parametrize("options", [{}, {"activation": "gelu"}])  # in the engine, in NumPy
def test_states_of_one_array(make, options, rng):
    x = rng.standard_normal((3, 6, 2)).astype(np.float32)
    layer = make(5, return_sequences=True, return_state=True, **options)
    whole, h = layer(x)
    first, h1 = layer(x[:, :2])
    for state in (h1, [h1]):
        second, h2 = layer(x[:, 2:], initial_state=state)
        np.testing.assert_allclose(np.concatenate([first, second], 1), whole, atol=1e-6)
        np.testing.assert_allclose(h2, h, atol=1e-6)
    both = L.Bidirectional(make(5, return_state=True, **options))
    assert [a.shape for a in both(x)] == [(3, 10)] + [(3, 5)] * 2
    out, a, b = both(x, initial_state=[h, h1])
    np.testing.assert_allclose(out[:, :5], a)
    with pytest.raises(ValueError, match="2 arrays, received 1"):
        both(x, initial_state=[h])
    with pytest.raises(ValueError, match="initial_state: expected"):
        layer(x, initial_state=[h, h])


@pytest.mark.parametrize("make", [L.LSTM, L.GRU, L.SimpleRNN])
def test_a_dropout_rate_of_one_is_keras_s(make, rng):
    x = rng.standard_normal((3, 4, 2)).astype(np.float32)
    layer = make(5, dropout=1.0)
    changed = np.abs(layer(x, training=True) - layer(x)).max()
    assert (changed == 0) == (make is not L.SimpleRNN)


def test_old_spellings_of_recurrent_arguments():
    layer = L.LSTM(output_dim=3, inner_activation="hard_sigmoid", init="uniform", dropout_U=0.2)
    assert layer.units == 3 and layer.recurrent_dropout == 0.2
    assert layer.get_config()["recurrent_activation"] == "hard_sigmoid"
    with pytest.raises(TypeError, match="received both"):
        L.GRU(units=3, output_dim=3)


OLD_DENSE = {
    "output_dim": 3, "init": "he_normal", "W_regularizer": "l2", "b_regularizer": "l1",
    "W_constraint": "non_neg", "b_constraint": "max_norm", "bias": False,
}  # fmt: skip
NEW_DENSE = {
    "units": 3, "kernel_initializer": "he_normal", "kernel_regularizer": "l2",
    "bias_regularizer": "l1", "kernel_constraint": "non_neg", "bias_constraint": "max_norm",
    "use_bias": False,
}  # fmt: skip
OLD_RECURRENT = {
    **OLD_DENSE, "inner_init": "identity", "U_regularizer": "l1", "dropout_W": 0.1,
    "dropout_U": 0.2, "consume_less": "gpu", "time_major": False,
}  # fmt: skip
NEW_RECURRENT = {
    **NEW_DENSE, "recurrent_initializer": "identity", "recurrent_regularizer": "l1",
    "dropout": 0.1, "recurrent_dropout": 0.2,
}  # fmt: skip


@pytest.mark.parametrize(
    "make, old, new",
    [
        (L.Dense, OLD_DENSE, NEW_DENSE),
        (L.SimpleRNN, OLD_RECURRENT, NEW_RECURRENT),
        (
            L.GRU,
            {**OLD_RECURRENT, "inner_activation": "hard_sigmoid"},
            {**NEW_RECURRENT, "recurrent_activation": "hard_sigmoid"},
        ),
        (
            L.LSTM,
            {**OLD_RECURRENT, "forget_bias_init": "one"},
            {**NEW_RECURRENT, "unit_forget_bias": True},
        ),
        (
            lambda **options: L.Embedding(9, 4, **options),
            {"init": "normal", "W_regularizer": "l2", "W_constraint": "non_neg", "dropout": 0.0},
            {
                "embeddings_initializer": "normal",
                "embeddings_regularizer": "l2",
                "embeddings_constraint": "non_neg",
            },
        ),
        (
            L.BatchNormalization,
            {"beta_init": "ones", "gamma_init": "zeros", "mode": 0, "fused": True},
            {"beta_initializer": "ones", "gamma_initializer": "zeros"},
        ),
        (L.PReLU, {"init": "ones"}, {"alpha_initializer": "ones"}),
        (L.Activation, {"activation": "time_distributed_softmax"}, {"activation": "softmax"}),
    ],
)
def test_old_spellings_give_the_same_layer(make, old, new):
    assert make(name="a", **old).get_config() == make(name="a", **new).get_config()


def test_old_spellings_that_say_nothing_now():
    with pytest.warns(UserWarning, match="forget_bias_init: expected 'one', received 'zero'"):
        layer = L.LSTM(3, forget_bias_init="zero", unit_forget_bias=False)
    assert not layer.unit_forget_bias
    with pytest.warns(UserWarning, match="dropout: an Embedding has none"):
        assert L.Embedding(9, 4, dropout=0.2, input_length=5).batch_input_shape == (None, 5)
    with pytest.raises(ValueError, match="mode: expected 0.*received 2"):
        L.BatchNormalization(mode=2)
    with pytest.raises(ValueError, match="time_major: expected False, received True"):
        L.LSTM(3, time_major=True)


def test_time_distributed_dense(rng):
    x = rng.standard_normal((2, 5, 4)).astype(np.float32)
    layer = L.TimeDistributedDense(
        output_dim=3, activation="tanh", input_dim=4, input_length=5, W_regularizer="l2", name="a"
    )
    assert type(layer) is L.TimeDistributed and layer.name == "a"
    model = fastrnn.Sequential([layer])
    assert model.output_shape == (None, 5, 3)
    dense = L.Dense(3, "tanh")
    dense.build((None, 4))
    dense.set_weights(model.get_weights())
    np.testing.assert_allclose(model.predict(x, verbose=0), dense(x), atol=1e-6)
    assert L.TimeDistributedDense(2).layer.units == 2


@pytest.mark.parametrize("make, plain", [(L.CuDNNLSTM, L.LSTM), (L.CuDNNGRU, L.GRU)])
def test_cudnn_layers(make, plain):
    options = {"return_sequences": True, "kernel_initializer": "ones", "name": "a"}
    layer = make(3, stateful=True, input_shape=(5, 4), **options)
    assert layer.get_config() == plain(3, stateful=True, **options).get_config()
    assert fastrnn.Sequential([layer]).output_shape == (None, 5, 3)
    for fixed in ("activation", "recurrent_dropout", "use_bias", "reset_after"):
        with pytest.raises(TypeError, match=f"CuDNN.*unknown arguments.*{fixed}"):
            make(3, **{fixed: None})


@pytest.mark.parametrize("make", [L.LSTM, L.GRU, L.SimpleRNN])
def test_recurrent_layers_run_in_the_kernels(make, rng):
    layer, run = make(3), Run()
    layer.build((None, 4, 2))
    layer.forward(rng.standard_normal((2, 4, 2), np.float32), run)
    assert isinstance(run.saved[layer][0], _engine.RNNRun)


def test_lstm_states(rng):
    x = rng.standard_normal((3, 6, 2)).astype(np.float32)
    layer = L.LSTM(5, return_sequences=True, return_state=True)
    whole, h, c = layer(x)
    first, h1, c1 = layer(x[:, :2])
    second, h2, c2 = layer(x[:, 2:], initial_state=[h1, c1])
    np.testing.assert_allclose(np.concatenate([first, second], 1), whole, atol=1e-6)
    np.testing.assert_allclose(h2, h, atol=1e-6)
    np.testing.assert_allclose(c2, c, atol=1e-6)
    np.testing.assert_array_equal(h, whole[:, -1])
    both = L.Bidirectional(L.LSTM(5, return_state=True))(x)
    assert [a.shape for a in both] == [(3, 10)] + [(3, 5)] * 4
    with pytest.raises(ValueError, match="initial_state: expected"):
        layer(x, initial_state=[h, c[:, :2]])


def test_stateful_carries_over_and_resets(rng):
    x = rng.standard_normal((3, 6, 2)).astype(np.float32)
    model = fastrnn.Sequential([fastrnn.Input(batch_shape=(3, None, 2)), L.LSTM(4, stateful=True)])
    plain = L.LSTM(4)
    plain(x)
    model.set_weights(plain.get_weights())
    model.predict(x[:, :2], verbose=0)
    np.testing.assert_allclose(model.predict(x[:, 2:], verbose=0), plain(x), atol=1e-6)
    model.reset_states()
    np.testing.assert_allclose(model.predict(x, verbose=0), plain(x), atol=1e-6)
    with pytest.raises(ValueError, match="stateful|shape"):
        model.predict(x[:2], verbose=0)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])  # in the engine, in NumPy
@pytest.mark.parametrize("make", [L.LSTM, L.GRU, L.SimpleRNN])
@pytest.mark.parametrize("sequences", [False, True])
def test_gradients_through_states_and_both_directions(sequences, make, activation, rng):
    """backward takes the gradients of all that forward returned; by central differences."""
    x = rng.standard_normal((4, 5, 2)).astype(np.float32)
    mask = rng.random((4, 5)) < 0.7
    options = {"activation": activation, "return_sequences": sequences}
    one, two = make(3, return_state=True, **options), make(3, return_state=True, **options)
    states = len(one.states_of)
    for layer, outputs in (
        (one, 1 + states),
        (L.Bidirectional(two), 1 + 2 * states),
        (L.Bidirectional(two, merge_mode=None), 2 + 2 * states),
        (L.Bidirectional(make(3, **options), merge_mode=None), 2),
    ):
        given = [rng.standard_normal(y.shape).astype(np.float32) for y in layer(x)]
        assert len(given) == outputs
        randomise(layer, rng)
        run = Run(training=True)
        layer.forward(x, run, mask)
        dx = layer.backward([d.copy() for d in given], run)

        def total(delta, layer=layer, given=given):
            ys = layer((x + delta).astype(np.float32), mask=mask)
            return sum(float((y * d).sum(dtype=np.float64)) for y, d in zip(ys, given, strict=True))

        for _ in range(3):
            direction = rng.standard_normal(x.shape)
            direction *= 1e-2 / np.linalg.norm(direction)
            numeric = (total(direction) - total(-direction)) / 2e-2
            expected = float((dx * direction).sum()) / 1e-2
            assert abs(numeric - expected) < 2e-3 * np.linalg.norm(dx) + 2e-4


@pytest.mark.parametrize("activation", ["tanh", "gelu"])  # in the engine, in NumPy
@pytest.mark.parametrize("make", [L.LSTM, L.GRU, L.SimpleRNN])
def test_a_sequential_returns_the_states_too(make, activation, rng):
    x = rng.standard_normal((5, 4, 2)).astype(np.float32)
    options = {"activation": activation, "return_state": True, "activity_regularizer": "l2"}
    layers = [
        make(3, **options),
        make(3, return_sequences=True, stateful=True, **options),
        L.Bidirectional(make(3, **options)),
        L.Bidirectional(make(3, **options), merge_mode=None),
    ]
    for layer in layers:
        model = fastrnn.Sequential([fastrnn.Input((4, 2)), fastrnn.Sequential([layer])])
        outputs = layer(x)
        model.reset_states()
        assert model.output_shape == [(None, *y.shape[1:]) for y in outputs]
        for predict in (
            model,
            model.compile_inference(),
            lambda x, model=model: model.predict(x, verbose=0),
            lambda x, model=model: model.predict(iter([x]), verbose=0),
        ):
            results = predict(x)
            model.reset_states()
            assert isinstance(results, list)
            for result, y in zip(results, outputs, strict=True):
                np.testing.assert_allclose(result, y, atol=1e-6)
        if not getattr(layer, "stateful", False):
            results = model.predict(x, batch_size=2, verbose=0)
            for result, y in zip(results, outputs, strict=True):
                np.testing.assert_allclose(result, y, atol=1e-6)


def test_several_outputs_are_for_the_last_layer_and_inference():
    def model(*above):
        bottom = L.GRU(3, return_sequences=True, return_state=True)
        return fastrnn.Sequential([fastrnn.Input((4, 2)), bottom, *above])

    with pytest.raises(ValueError, match="'dense.*expected one input, received the 2 outputs"):
        model(L.Dense(1))
    with pytest.raises(ValueError, match="expected a layer of one output, 'gru.* has 2"):
        L.TimeDistributed(L.GRU(3, return_state=True)).build((None, 2, 3, 4))
    x, y = np.zeros((5, 4, 2)), np.zeros((5, 4, 3))
    single = model()
    single.compile("sgd", "mse")
    for learn in (single.fit, single.evaluate, single.train_on_batch, single.test_on_batch):
        with pytest.raises(ValueError, match="expected one output to train or evaluate.* has 2"):
            learn(x, y)
    with pytest.raises(ValueError, match="out: expected None for a model of several outputs"):
        single.compile_inference()(x.astype(np.float32), out=np.zeros((5, 4, 3), np.float32))


def test_masked_steps_do_not_count(rng):
    x = rng.standard_normal((4, 7, 3)).astype(np.float32)
    x[:, 5:] = 0
    x[1, 2] = 0
    lstm = L.LSTM(5)
    model = fastrnn.Sequential([fastrnn.Input((7, 3)), L.Masking(), lstm])
    short = np.delete(x[1:2, :5], 2, axis=1)
    np.testing.assert_allclose(model.predict(x, verbose=0)[0:1], lstm(x[:1, :5]), atol=1e-6)
    np.testing.assert_allclose(model.predict(x, verbose=0)[1:2], lstm(short), atol=1e-6)


@pytest.mark.parametrize(
    "make", [L.LSTM, L.GRU, L.SimpleRNN, lambda *a, **k: L.Bidirectional(L.LSTM(*a, **k))]
)
def test_recurrent_dropout_uses_one_mask_a_sequence(make, rng):
    fastrnn.utils.set_random_seed(3)
    x = np.repeat(rng.standard_normal((64, 1, 4)), 9, axis=1)
    layer = make(6, dropout=0.4, recurrent_dropout=0.3, return_sequences=True)
    y = layer(x)
    np.testing.assert_array_equal(layer(x), y)
    dropped = layer(x, training=True)
    assert np.abs(dropped - y).max() > 1e-3
    model = fastrnn.Sequential([fastrnn.Input((9, 4)), layer])
    model.compile(fastrnn.optimizers.Adam(0.01), "mse")
    history = model.fit(x, 0 * y, epochs=20, verbose=0, batch_size=16).history["loss"]
    assert history[-1] < 0.5 * history[0]


def test_dropout_keeps_the_mean_and_drops_nothing_in_inference(threads):
    fastrnn.utils.set_random_seed(5)
    x = np.ones((200, 50, 7), np.float32)
    layer = L.Dropout(0.3)
    np.testing.assert_array_equal(layer(x), x)
    y = layer(x, training=True)
    assert set(np.unique(np.asarray(y))) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    assert abs((y == 0).mean() - 0.3) < 0.01
    assert abs(np.corrcoef(y[:-1].ravel(), y[1:].ravel())[0, 1]) < 0.02
    assert (y != layer(x, training=True)).any()
    shared = L.Dropout(0.5, noise_shape=(None, 1, 7))(x, training=True)
    assert (shared == shared[:, :1]).all()


def test_seeded_dropout_does_not_depend_on_threads():
    x = np.ones((64, 1000), np.float32)
    results = []
    before = fastrnn.get_num_threads()
    for count in (1, 2, 5):
        fastrnn.set_num_threads(count)
        results.append(L.Dropout(0.5, seed=7)(x, training=True))
    fastrnn.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_one_model_on_every_instruction_set(isa, rng):
    x = rng.standard_normal((5, 6, 9)).astype(np.float32)
    layers = [L.Bidirectional(L.LSTM(7, return_sequences=True)), L.LSTM(18), L.Dense(5, "tanh")]
    model = fastrnn.Sequential([fastrnn.Input((6, 9)), *layers])
    chosen = model(x)
    for name in fastrnn._engine.available_isas():
        fastrnn._engine.set_isa(name)
        np.testing.assert_allclose(model(x), chosen, atol=2e-6)


def test_names_and_weight_paths():
    fastrnn.layers.base.clear_session()
    model = fastrnn.Sequential(
        [
            L.Bidirectional(L.LSTM(20, return_sequences=True), input_shape=(149, 40)),
            L.Dropout(0.5),
            L.BatchNormalization(),
            L.TimeDistributed(L.Dense(1, activation="sigmoid")),
        ]
    )
    names = [layer.name for layer in model.layers]
    assert names == ["bidirectional", "dropout", "batch_normalization", "time_distributed"]
    assert L.Bidirectional(L.LSTM(1)).name == "bidirectional_1"
    assert [layer.count_params() for layer in model.layers] == [9760, 0, 160, 41]
    assert model.count_params() == 9961
    assert [w.path for w in model.layers[0].weights][:2] == [
        "bidirectional/forward_lstm/kernel",
        "bidirectional/forward_lstm/recurrent_kernel",
    ]
    assert [w.name for w in model.layers[2].weights] == [
        "gamma", "beta", "moving_mean", "moving_variance",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.LSTM(0), "units: expected a whole number >= 1, received 0"),
        (lambda: L.LSTM(3.5), "units"),
        (lambda: L.LSTM(3, dropout=1.5), "dropout: expected a number from 0 to 1"),
        (lambda: L.LSTM(3, activation="tahn"), "tahn"),
        (lambda: L.Dense(3, kernel_initializer="glorot"), "glorot"),
        (lambda: L.Dense(3, "threshold"), "activation: expected a function of one array.*thresh"),
        (lambda: L.Activation("threshold"), "activation: expected a function of one array"),
        (lambda: L.Conv1D(3, 2, activation="threshold"), "activation: expected a function of one"),
        (lambda: L.LSTM(3, recurrent_activation="threshold"), "recurrent_activation: expected a f"),
        (lambda: L.GRU(4, "glu"), "activation: expected one that keeps the shape, received 'glu'"),
        (lambda: L.LSTM(4, recurrent_activation="glu"), "keeps the shape, received 'glu'"),
        (
            lambda: L.Dense(5, "glu").build((None, 4)),
            r"glu: expected an even last size.*\(None, 5\)",
        ),
        (lambda: L.Bidirectional(L.LSTM(3), merge_mode="add"), "merge_mode: expected one of"),
        (lambda: L.Bidirectional(L.Dense(3)), "layer: expected a recurrent layer"),
        (lambda: L.TimeDistributed("dense"), "layer: expected a layer"),
        (lambda: L.LSTM(3)(np.zeros((2, 4))), r"expected input of shape \(batch, timesteps"),
        (lambda: L.LSTM(3)(np.zeros((2, 0, 4))), "input_shape"),
        (lambda: L.Reshape((5, 5))(np.zeros((2, 4))), "target_shape"),
        (lambda: L.Dense(2)(np.array([["a"]])), "inputs: expected an array of numbers"),
        (lambda: L.Input(), "one of shape and batch_shape"),
        (lambda: L.Input((4, -1)), "shape: expected whole numbers"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_argument_and_bad_index():
    with pytest.raises(ValueError, match="unknown arguments"):
        L.LSTM(3, unit=4)
    with pytest.raises(IndexError, match=r"indices from 0 to 8 .*received 9"):
        L.Embedding(9, 4)(np.array([[1, 9]]))
    with pytest.raises(IndexError, match="received -1"):
        L.Embedding(9, 4)(np.array([[-1, 2]]))
    with pytest.raises(ValueError, match="32 bits"):
        L.Embedding(9, 4)(np.array([[2**40]]))
    with pytest.raises(ValueError, match="32 bits"):
        L.Embedding(9, 4)(np.array([[np.nan]]))


def test_wrong_shape_after_building():
    layer = L.LSTM(3)
    layer(np.zeros((2, 5, 4)))
    with pytest.raises(ValueError, match="expected input of shape"):
        layer(np.zeros((2, 5, 6)))


def test_set_weights_is_all_or_nothing():
    layer = L.Dense(3)
    layer(np.zeros((1, 2)))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=r"expected shape \(3,\) for 'dense.*bias'"):
        layer.set_weights([np.ones((2, 3)), np.ones(4)])
    with pytest.raises(ValueError, match="expected 2 arrays"):
        layer.set_weights([np.ones((2, 3))])
    for value in (1e300, -3.5e38):
        with pytest.raises(ValueError, match=r"weights: .*float32 .*bias', received .*e\+"):
            layer.set_weights([np.ones((2, 3)), [0.0, value, 0.0]])
    np.testing.assert_array_equal(layer.get_weights()[0], before[0])
    layer.set_weights([np.ones((2, 3)), [np.inf, 3.4e38, np.nan]])
    assert np.isinf(layer.get_weights()[1][0])


@pytest.mark.parametrize("make", [L.LSTM, L.GRU, L.SimpleRNN])
def test_the_kernels_run_layers_with_the_default_activations(make, monkeypatch):
    monkeypatch.setattr(make, "recurrence", None)  # the NumPy form, for other activations
    model = fastrnn.Sequential([fastrnn.Input((4, 3)), make(5)])
    assert np.isfinite(model.predict(np.ones((2, 4, 3)), verbose=0)).all()


def test_names_of_the_two_directions_after_loading():
    layer = L.Bidirectional(L.LSTM(3, name="rnn"))
    for _ in range(2):
        assert [part.name for part in layer.sublayers] == ["forward_rnn", "backward_rnn"]
        layer = L.Bidirectional.from_config(layer.get_config())


@pytest.mark.parametrize(
    "shape", [(1, 300, 700), (5, 90, 3200), (200, 1100, 130), (101, 1030, 900)]
)
def test_dense_whose_weights_exceed_a_cache(isa, threads, shape, rng):
    """Threads share its columns, and take a part of a deep kernel at a time."""
    rows, k, n = shape
    x, w = rng.normal(size=(rows, k)), rng.normal(size=(k, n)) / k**0.5
    b, dy = rng.normal(size=n), rng.normal(size=(rows, n)) / n**0.5
    x, w, b, dy = (array.astype(np.float32) for array in (x, w, b, dy))
    packed = _engine.PackedDense(k, n)
    packed.pack(w, b, True)
    y, tanh = np.full((rows, n), np.nan, np.float32), _engine.ACTIVATIONS["tanh"]
    packed.forward(y, x, tanh)
    dx, dw, db = np.full_like(x, np.nan), np.empty_like(w), np.empty_like(b)
    packed.backward(dx, dw, db, dy.copy(), x, y, tanh)
    x, w, b, dy = (array.astype(np.float64) for array in (x, w, b, dy))
    right = np.tanh(x @ w + b)
    dz = dy * (1 - right * right)
    for found, wanted in ((y, right), (dx, dz @ w.T), (dw, x.T @ dz), (db, dz.sum(axis=0))):
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
