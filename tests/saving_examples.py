"""Models with every kind of layer, made from fastrnn's or from Keras's layers alike."""

import types

import numpy as np

SEQUENCE, VECTOR, IMAGE, INDICES, TEXT = (5, 3), (4,), (6, 5, 2), "indices", "text"

# name, the first word of which is a class -> (layers -> stack, shape of the input without batch)
EXAMPLES = {
    "Activation": (lambda L: [L.Dense(3), L.Activation("softplus")], VECTOR),
    "ActivityRegularization": (lambda L: [L.ActivityRegularization(0.1, 0.2)], SEQUENCE),
    "AveragePooling1D": (lambda L: [L.AveragePooling1D(2, padding="same")], SEQUENCE),
    "AveragePooling2D": (lambda L: [L.AveragePooling2D((2, 3), padding="same")], IMAGE),
    "BatchNormalization": (lambda L: [L.BatchNormalization(momentum=0.8)], SEQUENCE),
    "BatchNormalization of images": (lambda L: [L.BatchNormalization()], IMAGE),
    "BatchNormalization plain": (
        lambda L: [L.BatchNormalization(axis=1, scale=False, epsilon=0.01)],
        SEQUENCE,
    ),
    "Bidirectional": (
        lambda L: [L.Bidirectional(L.LSTM(2, return_sequences=True)), L.Bidirectional(L.LSTM(3))],
        SEQUENCE,
    ),
    "Bidirectional two": (
        lambda L: [
            L.Bidirectional(
                L.LSTM(2, return_sequences=True),
                merge_mode="sum",
                backward_layer=L.LSTM(
                    2, activation="softsign", return_sequences=True, go_backwards=True
                ),
            )
        ],
        SEQUENCE,
    ),
    "Conv1D": (
        lambda L: [L.Conv1D(4, 2, padding="causal", activation="relu"), L.Conv1D(2, 3, strides=2)],
        SEQUENCE,
    ),
    "Conv1DTranspose": (
        lambda L: [
            L.Conv1DTranspose(4, 3, 2, "same", 1, activation="relu", kernel_constraint="max_norm"),
            L.Conv1DTranspose(2, 2, use_bias=False, kernel_regularizer="l2"),
        ],
        SEQUENCE,
    ),
    "Conv2D": (
        lambda L: [
            L.Conv2D(4, 3, padding="same", activation="relu"),
            L.Conv2D(2, (3, 2), strides=(2, 1), use_bias=False, kernel_regularizer="l2"),
        ],
        IMAGE,
    ),
    "Conv2D below": (
        lambda L: [
            L.TimeDistributed(L.Conv2D(3, 2, activation="relu")),
            L.TimeDistributed(L.BatchNormalization()),
            L.TimeDistributed(L.MaxPooling2D(2)),
            L.TimeDistributed(L.Flatten()),
            L.LSTM(2),
        ],
        (3, *IMAGE),
    ),
    "Conv2D nested": (
        lambda L: [
            L.TimeDistributed(
                L.Sequential([L.Conv2D(3, 2), L.BatchNormalization(), L.GlobalAveragePooling2D()])
            ),
            L.GRU(2),
        ],
        (3, *IMAGE),
    ),
    "CRF": (
        lambda L: [
            L.CRF(
                3,
                activation="tanh",
                use_bias=False,
                chain_regularizer="l2",
                test_mode="marginal",
                boundary_initializer="ones",
                kernel_constraint="max_norm",
            ),
            L.LSTM(2),
        ],
        SEQUENCE,
    ),
    "ConvLSTM1D": (
        lambda L: [
            L.ConvLSTM1D(3, 2, padding="same", return_sequences=True, kernel_regularizer="l2"),
            L.ConvLSTM1D(2, 3, 2, use_bias=False, go_backwards=True, activation="softsign"),
        ],
        IMAGE,
    ),
    "ConvLSTM2D": (
        lambda L: [
            L.ConvLSTM2D(3, (3, 2), return_sequences=True, recurrent_activation="hard_sigmoid"),
            L.BatchNormalization(),
            L.ConvLSTM2D(2, 2, dropout=0.1, recurrent_dropout=0.2, recurrent_constraint="max_norm"),
        ],
        (3, *IMAGE),
    ),
    "ConvLSTM2D twice": (
        lambda L: [
            L.Bidirectional(L.ConvLSTM2D(3, 2, padding="same", return_sequences=True)),
            L.TimeDistributed(L.Flatten()),
            L.LSTM(2),
        ],
        (3, *IMAGE),
    ),
    "Cropping1D": (lambda L: [L.Cropping1D((1, 0)), L.LSTM(2)], SEQUENCE),
    "Cropping2D": (lambda L: [L.Cropping2D(((1, 0), (2, 1))), L.Flatten()], IMAGE),
    "Dense": (
        lambda L: [
            L.Dense(3, "tanh", kernel_regularizer="l2", bias_constraint="non_neg"),
            L.Dense(2, "softmax", use_bias=False),
        ],
        VECTOR,
    ),
    "DepthwiseConv1D": (
        lambda L: [
            L.DepthwiseConv1D(2, 2, "same", 3, activation="relu", depthwise_constraint="max_norm"),
            L.DepthwiseConv1D(2, use_bias=False, dilation_rate=2, depthwise_regularizer="l2"),
        ],
        SEQUENCE,
    ),
    "Dropout": (lambda L: [L.Dropout(0.3, seed=3), L.Dense(2)], VECTOR),
    "ELU": (lambda L: [L.ELU()], VECTOR),
    "Embedding": (lambda L: [L.Embedding(9, 3, mask_zero=True), L.LSTM(2)], INDICES),
    "Flatten": (lambda L: [L.Flatten(), L.Dense(2)], SEQUENCE),
    "GRU": (lambda L: [L.GRU(3, return_sequences=True), L.GRU(2, reset_after=False)], SEQUENCE),
    "GRU bidirectional": (lambda L: [L.Bidirectional(L.GRU(2))], SEQUENCE),
    "GroupNormalization": (lambda L: [L.GroupNormalization(3), L.LSTM(2)], SEQUENCE),
    "GroupNormalization of each": (
        lambda L: [L.GroupNormalization(-1, axis=1, center=False, gamma_regularizer="l2")],
        SEQUENCE,
    ),
    "GaussianDropout": (lambda L: [L.GaussianDropout(0.3, seed=3)], VECTOR),
    "GaussianNoise": (lambda L: [L.GaussianNoise(0.3)], VECTOR),
    "GlobalAveragePooling1D": (lambda L: [L.GlobalAveragePooling1D()], SEQUENCE),
    "GlobalAveragePooling2D": (lambda L: [L.GlobalAveragePooling2D()], IMAGE),
    "GlobalMaxPooling1D": (lambda L: [L.GlobalMaxPooling1D()], SEQUENCE),
    "GlobalMaxPooling2D": (lambda L: [L.GlobalMaxPooling2D(keepdims=True)], IMAGE),
    "Identity": (lambda L: [L.Identity(), L.Dense(2)], VECTOR),
    "InputLayer": (lambda L: [L.Dense(1)], VECTOR),
    "LSTM": (
        lambda L: [
            L.LSTM(4, return_sequences=True, dropout=0.2, recurrent_dropout=0.1),
            L.LSTM(3, recurrent_activation="hard_sigmoid", go_backwards=True, use_bias=False),
        ],
        SEQUENCE,
    ),
    "IntegerLookup": (
        lambda L: [L.IntegerLookup(vocabulary=[3, 1, 5], num_oov_indices=2), L.Embedding(5, 3)],
        INDICES,
    ),
    "IntegerLookup adapted": (
        lambda L: [adapted(L.IntegerLookup(output_mode="count"), [3, 1, 1, 0]), L.Dense(2)],
        INDICES,
    ),
    "LayerNormalization": (lambda L: [L.LayerNormalization(), L.LSTM(2)], SEQUENCE),
    "LeakyReLU": (lambda L: [L.LeakyReLU(0.1)], VECTOR),
    "Masking": (lambda L: [L.Masking(0.5), L.LSTM(2)], SEQUENCE),
    "MaxPooling1D": (lambda L: [L.MaxPooling1D(2)], SEQUENCE),
    "Normalization": (lambda L: [L.Normalization(), L.LSTM(2)], SEQUENCE),
    "Normalization axes": (lambda L: [L.Normalization((1, 2), invert=True), L.LSTM(2)], SEQUENCE),
    "Normalization given": (
        lambda L: [L.Normalization(mean=[1, 0.5, 2], variance=np.ones(3)), L.LSTM(2)],
        SEQUENCE,
    ),
    "MaxPooling2D": (lambda L: [L.MaxPooling2D(2), L.Flatten(), L.Dense(2)], IMAGE),
    "PReLU": (lambda L: [L.PReLU(shared_axes=[1]), L.Dense(2)], SEQUENCE),
    "Permute": (lambda L: [L.Permute((2, 1)), L.Dense(2)], SEQUENCE),
    "RMSNormalization": (lambda L: [L.RMSNormalization(), L.LSTM(2)], SEQUENCE),
    "RMSNormalization axes": (lambda L: [L.RMSNormalization([1, 2], 0.1)], SEQUENCE),
    "RNN": (
        lambda L: [
            L.RNN(L.LSTMCell(3, dropout=0.2), return_sequences=True),
            L.Bidirectional(L.RNN(L.GRUCell(2, reset_after=False), return_sequences=True)),
            L.RNN(L.SimpleRNNCell(2, kernel_regularizer="l2"), go_backwards=True),
        ],
        SEQUENCE,
    ),
    "RNN of cells": (
        lambda L: [
            L.RNN([L.LSTMCell(3), L.GRUCell(2), L.LSTMCell(2)], return_sequences=True),
            L.Bidirectional(L.RNN(L.StackedRNNCells([L.GRUCell(2), L.GRUCell(3)]))),
        ],
        SEQUENCE,
    ),
    "ReLU": (lambda L: [L.ReLU(2.0, 0.1)], VECTOR),
    "RepeatVector": (lambda L: [L.RepeatVector(3), L.LSTM(2)], VECTOR),
    "Rescaling": (lambda L: [L.Rescaling(1 / 255, -0.5), L.Dense(2)], VECTOR),
    "Rescaling of channels": (
        lambda L: [L.Rescaling(np.array([0.5, 1, 2], np.float32), [1, 2, 3]), L.LSTM(2)],
        SEQUENCE,
    ),
    "Reshape": (lambda L: [L.Reshape((3, -1))], SEQUENCE),
    "SeparableConv1D": (
        lambda L: [
            L.SeparableConv1D(
                4, 2, 2, "same", depth_multiplier=2, pointwise_constraint="unit_norm"
            ),
            L.SeparableConv1D(3, 2, activation="tanh", depthwise_regularizer="l1"),
        ],
        SEQUENCE,
    ),
    "SimpleRNN": (lambda L: [L.SimpleRNN(3, return_sequences=True), L.SimpleRNN(2)], SEQUENCE),
    "Softmax": (lambda L: [L.Softmax()], VECTOR),
    "SpatialDropout1D": (lambda L: [L.SpatialDropout1D(0.3), L.LSTM(2)], SEQUENCE),
    "SpatialDropout2D": (lambda L: [L.SpatialDropout2D(0.3), L.Flatten(), L.Dense(2)], IMAGE),
    "TimeDistributed": (
        lambda L: [L.LSTM(3, return_sequences=True), L.TimeDistributed(L.Dense(2, "sigmoid"))],
        SEQUENCE,
    ),
    "StringLookup": (
        lambda L: [L.StringLookup(vocabulary=["a b", "b"], output_mode="one_hot"), L.Dense(2)],
        TEXT,
    ),
    "TextVectorization": (
        lambda L: [
            adapted(L.TextVectorization(output_sequence_length=4), ["a b", "B c é", "b"]),
            L.Embedding(6, 3, mask_zero=True),
            L.LSTM(2),
        ],
        TEXT,
    ),
    "TextVectorization given": (
        lambda L: [
            L.TextVectorization(ngrams=2, vocabulary=["a", "a b"]),
            L.Embedding(4, 3),
            L.LSTM(2),
        ],
        TEXT,
    ),
    "TextVectorization of characters": (
        lambda L: [
            adapted(L.TextVectorization(output_mode="tf_idf", split="character"), ["a b", "B"]),
            L.Dense(2),
        ],
        TEXT,
    ),
    "TimeDistributed norm": (lambda L: [L.TimeDistributed(L.BatchNormalization())], SEQUENCE),
    "UnitNormalization": (lambda L: [L.UnitNormalization(axis=[1, 2]), L.LSTM(2)], SEQUENCE),
    "UpSampling1D": (lambda L: [L.UpSampling1D(3), L.LSTM(2)], SEQUENCE),
    "UpSampling2D": (lambda L: [L.UpSampling2D((2, 3)), L.Flatten(), L.Dense(2)], IMAGE),
    "ZeroPadding1D": (lambda L: [L.ZeroPadding1D((2, 1)), L.LSTM(2)], SEQUENCE),
    "ZeroPadding2D": (lambda L: [L.ZeroPadding2D(((1, 0), (2, 1))), L.Conv2D(2, 3)], IMAGE),
    "Dense nested": (
        lambda L: [
            L.Dense(3),
            L.Sequential([L.Dense(2), L.BatchNormalization(), L.Sequential([L.LSTM(3)])]),
            L.Sequential([L.Dense(2, trainable=False)]),
        ],
        SEQUENCE,
    ),
    "LSTM frozen": (
        lambda L: [L.LSTM(3, trainable=False), L.BatchNormalization(trainable=False), L.Dense(2)],
        SEQUENCE,
    ),
}


def available(layers):
    """The examples whose layers this module has."""
    return [name for name in EXAMPLES if hasattr(layers, name.split()[0])]


def of_keras(layers):
    """Those that Keras has too."""
    return [name for name in available(layers) if name != "CRF"]


def adapted(layer, data):
    layer.adapt(data)
    return layer


def make(library, name):
    """A model of an example, of fastrnn or keras, with weights without symmetry."""
    stack, shape = EXAMPLES[name]
    dtype = "string" if shape is TEXT else None
    shape = {INDICES: (5,), TEXT: (1,)}.get(shape, shape)
    kit = types.SimpleNamespace(**vars(library.layers), Sequential=library.Sequential)
    model = library.Sequential([kit.Input(shape, dtype=dtype), *stack(kit)])
    randomise(model)
    return model


def randomise(model):
    rng = np.random.default_rng(7)
    for weight in model.weights:
        if not hasattr(weight, "shape"):
            continue  # a vocabulary of Keras 2
        value = 0.5 * rng.standard_normal(weight.shape).astype(np.float32)
        value = abs(value) + 0.5 if "variance" in weight.name else value
        weight.assign(np.zeros_like(value) if "count" in weight.name else value)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):  # Keras's Normalization else goes on as before
            layer.finalize_state()


def inputs(name):
    rng = np.random.default_rng(8)
    shape = EXAMPLES[name][1]
    if shape is INDICES:
        return rng.integers(0, 9, (4, 5)).astype(np.int32)
    if shape is TEXT:
        return np.array([["a b, c"], ["c É b a"], [""], ["é é b b b"]], object)
    x = rng.standard_normal((4, *shape)).astype(np.float32)
    if name == "Masking":
        x[1, 3:] = 0.5
    return x
