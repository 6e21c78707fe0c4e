"""Layers called directly, their attributes and arguments: as in Keras 3.15, with its values."""

import inspect
import math

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L

X = np.arange(60).reshape(4, 5, 3).astype(np.float32) / 50
ONES = {"kernel_initializer": "ones", "recurrent_initializer": "ones"}
H = np.ones((4, 2), np.float32)
MASK = np.arange(5)[None].repeat(4, 0) < 3


def test_arguments_by_position():
    gru, lstm = L.GRU(2, **ONES), L.LSTM(2, **ONES)
    expected = gru(X, initial_state=[H])
    np.testing.assert_array_equal(gru(X, [H]), expected)
    np.testing.assert_array_equal(gru(X, H), expected)
    assert expected[0, 0] == pytest.approx(0.9901, abs=1e-4)
    expected = lstm(X, initial_state=[H, H], mask=MASK)
    np.testing.assert_array_equal(lstm(X, [H, H], MASK), expected)
    assert expected[0, 0] == pytest.approx(0.8928, abs=1e-4)
    both = L.Bidirectional(L.LSTM(2, **ONES))
    np.testing.assert_array_equal(both(X, [H] * 4), both(X, initial_state=[H] * 4))
    pool = L.GlobalAveragePooling1D()
    np.testing.assert_array_equal(pool(X, MASK), pool(X, mask=MASK))
    assert not L.Softmax()(np.ones((1, 4)), np.zeros((1, 4), bool)).any()
    attention, query = L.Attention(), np.arange(24.0).reshape(2, 4, 3)
    masks = [None, np.array([[1, 0, 1, 0]] * 2, bool)]
    expected = attention([query, query], mask=masks)
    np.testing.assert_array_equal(attention([query, query], masks), expected)
    assert (expected != attention([query, query])).any()
    with pytest.raises(TypeError, match="expected the inputs by position, received 2 arguments"):
        L.Dense(2)(X, MASK)
    with pytest.raises(TypeError, match="expected the inputs, initial_state, mask by position"):
        lstm(X, [H, H], MASK, False)


@pytest.mark.parametrize(
    "layer",
    [
        L.LSTM(2), L.GRU(2), L.SimpleRNN(2), L.Bidirectional(L.LSTM(2)), L.Conv1D(2, 2),
        L.RNN(L.GRUCell(2)), L.RNN([L.GRUCell(2), L.LSTMCell(2)]),
        L.Conv1DTranspose(2, 2), L.DepthwiseConv1D(2), L.SeparableConv1D(2, 2),
        L.GlobalAveragePooling1D(), L.GlobalMaxPooling1D(), L.MaxPooling1D(), L.Dense(2),
        L.BatchNormalization(), L.LayerNormalization(), L.TimeDistributed(L.Dense(2)), L.CRF(2),
        L.Dropout(0.5), L.Activation("relu"), L.Flatten(), L.Softmax(), L.Identity(),
        L.UnitNormalization(), L.RMSNormalization(), L.GroupNormalization(3), L.Rescaling(2),
        L.Normalization(), L.UpSampling1D(), L.ZeroPadding1D(), L.Cropping1D(), L.Conv2D(2, 2),
        L.MaxPooling2D(), L.GlobalAveragePooling2D(), L.ZeroPadding2D(), L.SpatialDropout2D(0.5),
        L.ConvLSTM1D(2, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_a_mask_that_does_not_fit(layer):
    of_images = type(layer).__name__.endswith("2D") or isinstance(layer, L.ConvLSTM1D)
    x = X[:, :, None].repeat(2, axis=2) if of_images else X
    wrong = [(4, 6), (3, 5), (5, 4), (4,)]
    if not isinstance(layer, L.Softmax):  # which broadcasts it
        wrong += [(1,), (), x.shape]
    for shape in wrong:
        with pytest.raises(ValueError, match="^mask: expected"):
            layer(x, mask=np.ones(shape, bool))
    masks = fastrnn.Input((6,), dtype="bool"), fastrnn.Input((), dtype="bool")
    for mask in masks:
        with pytest.raises(ValueError, match="^mask: expected"):
            layer(fastrnn.Input(x.shape[1:]), mask=mask)


def test_states():
    layer = L.LSTM(2, stateful=True)
    assert layer.states is None and L.LSTM(2).states is None
    layer.build((4, 5, 3))
    for _ in range(2):
        assert [s.shape for s in layer.states] == [(4, 2)] * 2 and not np.any(layer.states)
        layer(X)
        assert np.any(layer.states)
        layer.reset_states()
    layer(X[:2])  # another size of batches
    assert [s.shape for s in layer.states] == [(2, 2)] * 2
    assert [c(3).state_size for c in (L.LSTM, L.GRU, L.SimpleRNN)] == [[3, 3], [3], [3]]
    assert [s.shape for s in L.LSTM(2).get_initial_state(3)] == [(3, 2)] * 2
    assert [s.shape for s in L.GRU(2).get_initial_state(batch_size=3)] == [(3, 2)]
    with pytest.raises(ValueError, match="batch_size: expected a whole number"):
        L.GRU(2).get_initial_state(0)


def test_embeddings_of_given_weights():
    for weights in (np.ones((3, 4)), [np.ones((3, 4))]):
        np.testing.assert_array_equal(
            L.Embedding(3, 4, weights=weights)([[0, 1]]), np.ones((1, 2, 4))
        )
    layer = L.Embedding(5, 2)
    layer.build()
    assert layer.built and layer.get_weights()[0].shape == (5, 2)
    assert layer(np.zeros((2, 3), int)).shape == (2, 3, 2)


def test_losses_dtype_path():
    layer = L.Dense(
        2, kernel_regularizer="l2", activity_regularizer="l2", name="d", kernel_initializer="ones"
    )
    layer(np.ones((2, 3), np.float32))
    assert [float(loss) for loss in layer.losses] == pytest.approx([0.18, 0.06])
    assert (layer.dtype, layer.path) == ("float32", "d")
    assert layer.compute_dtype == layer.variable_dtype == "float32"
    layer.bias.assign_add([1, 2])
    layer.bias.assign_sub(np.array([0.5, 0]))
    assert layer.bias.numpy().tolist() == [0.5, 2] and layer.kernel.ndim == 2
    with pytest.raises(ValueError, match=r"value: expected shape \(2,\)"):
        layer.bias.assign_add(np.ones((2, 2)))
    layer.trainable = False
    assert len(layer.losses) == 1


NEEDED = {
    "Dense": {"units": 2}, "LSTM": {"units": 2}, "GRU": {"units": 2}, "SimpleRNN": {"units": 2},
    "LSTMCell": {"units": 2}, "GRUCell": {"units": 2}, "SimpleRNNCell": {"units": 2},
    "RNN": {"cell": L.GRUCell(2)}, "StackedRNNCells": {"cells": [L.GRUCell(2)]},
    "CuDNNLSTM": {"units": 2}, "CuDNNGRU": {"units": 2}, "CRF": {"units": 2},
    "Embedding": {"input_dim": 3, "output_dim": 2}, "Conv1D": {"filters": 2, "kernel_size": 2},
    "Conv1DTranspose": {"filters": 2, "kernel_size": 2}, "DepthwiseConv1D": {"kernel_size": 2},
    "SeparableConv1D": {"filters": 2, "kernel_size": 2},
    "Conv2D": {"filters": 2, "kernel_size": 2}, "ConvLSTM1D": {"filters": 2, "kernel_size": 2},
    "ConvLSTM2D": {"filters": 2, "kernel_size": 2}, "SpatialDropout2D": {"rate": 0.5},
    "Dropout": {"rate": 0.5}, "SpatialDropout1D": {"rate": 0.5}, "GaussianDropout": {"rate": 0.5},
    "AlphaDropout": {"rate": 0.5}, "GaussianNoise": {"stddev": 0.5}, "RepeatVector": {"n": 2},
    "Activation": {"activation": "relu"}, "Reshape": {"target_shape": (2,)},
    "Permute": {"dims": (1,)}, "TimeDistributed": {"layer": L.Dense(2)},
    "Bidirectional": {"layer": L.LSTM(2)}, "Rescaling": {"scale": 2}, "Dot": {"axes": 1},
    "Lambda": {"function": np.square},
    "MultiHeadAttention": {"num_heads": 2, "key_dim": 3},
    "Wrapper": {"layer": L.Dense(2)},
    "GroupQueryAttention": {"head_dim": 3, "num_query_heads": 2, "num_key_value_heads": 1},
}  # fmt: skip
CLASSES = [
    cls for cls in {getattr(L, name) for name in L.__all__}
    if inspect.isclass(cls) and cls not in (L.Layer, L.InputLayer) and cls.__module__ != "builtins"
]  # fmt: skip
CLASSES.sort(key=lambda cls: cls.__name__)
NONSENSE = (math.nan, math.inf, -1, "x", [], {}, object())
TAKEN = {  # what is no nonsense there
    ("axis", -1), ("axes", -1), ("alpha", -1), ("mask_value", -1), ("noise_shape", "[]"),
    ("shared_axes", "[]"),
    ("output_shape", "[]"), ("arguments", "{}"),
    ("dims", "[]"), ("target_shape", "[]"), ("Rescaling scale", -1), ("Rescaling offset", -1),
    ("mask_token", "'x'"), ("oov_token", "'x'"), ("IntegerLookup mask_token", -1),
    ("IntegerLookup oov_token", -1), ("StringLookup salt", -1),
    ("GroupNormalization groups", -1), ("attention_axes", -1), ("Normalization axis", "[]"),
    ("InputSpec shape", "[]"), ("InputSpec axes", "{}"),
}  # fmt: skip


def arguments(cls):
    given = inspect.signature(cls.__init__).parameters
    return [
        name for name in given if name not in ("self", "kwargs", "name", "weights", "use_cudnn")
    ]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_arguments_are_attributes(cls):
    layer = cls(**NEEDED.get(cls.__name__, {}))
    for name in arguments(cls):
        getattr(layer, name)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_nonsense_is_refused_by_name(cls):
    needed = NEEDED.get(cls.__name__, {})
    for name in arguments(cls):
        for value in NONSENSE:
            plain = value if isinstance(value, int) else repr(value)
            if {(name, plain), (f"{cls.__name__} {name}", plain)} & TAKEN:
                continue
            with pytest.raises((ValueError, TypeError), match=name):
                cls(**{**needed, name: value})


def test_numbers_of_numpy():
    one, half = np.int64(1), np.float32(0.5)
    assert L.LSTM(np.int32(3), dropout=half, recurrent_dropout=half).dropout == 0.5
    assert L.Dropout(half).rate == 0.5 and L.GaussianNoise(half).stddev == 0.5
    layer = L.BatchNormalization(momentum=half, epsilon=half, center=np.bool_(False), scale=one)
    assert (layer.momentum, layer.epsilon, layer.center, layer.scale) == (0.5, 0.5, False, True)
    assert L.Reshape([one, np.int32(2)]).target_shape == (1, 2)
    assert L.ReLU(half).max_value == 0.5 and L.Masking(half).mask_value == 0.5
