"""What every layer has in common, against Keras: configs, weights and freezing, input dtypes."""

import copy
import json

import numpy as np
import pytest

import fastrnn

keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")

SEQUENCE, VECTOR, IMAGE, INDICES, TEXT = (6, 4), (5,), (6, 5, 4), "indices", "text"
TWO = [SEQUENCE, SEQUENCE]
PAIR = (SEQUENCE, SEQUENCE)  # two arguments of a call, no list
STEP = (VECTOR, VECTOR)  # of a cell, which takes states too

# For each class: constructor examples (library -> layer), and the shape of an input.
LAYERS = {
    "Activation": (SEQUENCE, [lambda m: m.layers.Activation("softplus")]),
    "ActivityRegularization": (SEQUENCE, [lambda m: m.layers.ActivityRegularization(0.1)]),
    "Add": (TWO, [lambda m: m.layers.Add()]),
    "AdditiveAttention": (
        TWO,
        [
            lambda m: m.layers.AdditiveAttention(),
            lambda m: m.layers.AdditiveAttention(False, 0.5, seed=3),
        ],
    ),
    "Attention": (
        TWO,
        [
            lambda m: m.layers.Attention(),
            lambda m: m.layers.Attention(True, "concat", 0.2, 3, name="at"),
        ],
    ),
    "Average": (TWO, [lambda m: m.layers.Average()]),
    "AveragePooling1D": (
        SEQUENCE,
        [
            lambda m: m.layers.AveragePooling1D(2),
            lambda m: m.layers.AveragePooling1D(3, 1, "same", "channels_first"),
        ],
    ),
    "AveragePooling2D": (
        IMAGE,
        [
            lambda m: m.layers.AveragePooling2D(2),
            lambda m: m.layers.AveragePooling2D(3, (1, 2), "same", "channels_first"),
        ],
    ),
    "BatchNormalization": (
        SEQUENCE,
        [
            lambda m: m.layers.BatchNormalization(),
            lambda m: m.layers.BatchNormalization(
                1, 0.5, 0.1, scale=False, beta_constraint="non_neg"
            ),
        ],
    ),
    "Bidirectional": (
        SEQUENCE,
        [
            lambda m: m.layers.Bidirectional(m.layers.LSTM(3)),
            lambda m: m.layers.Bidirectional(
                m.layers.LSTM(2, return_sequences=True),
                "sum",
                backward_layer=m.layers.LSTM(2, return_sequences=True, go_backwards=True),
            ),
        ],
    ),
    "Concatenate": (TWO, [lambda m: m.layers.Concatenate(), lambda m: m.layers.Concatenate(1)]),
    "Conv1D": (
        SEQUENCE,
        [
            lambda m: m.layers.Conv1D(3, 2),
            lambda m: m.layers.Conv1D(
                4, (3,), 2, "SAME", "channels_last", 1, 2, "tanh", False, "he_normal",
                kernel_regularizer="l2", activity_regularizer="l1", kernel_constraint="max_norm",
            ),
        ],
    ),
    "Conv1DTranspose": (
        SEQUENCE,
        [
            lambda m: m.layers.Conv1DTranspose(3, 2),
            lambda m: m.layers.Conv1DTranspose(
                4, [3], (3,), "SAME", 1, "channels_last", 1, "tanh", False, "he_normal",
                kernel_regularizer="l2", activity_regularizer="l1", kernel_constraint="max_norm",
            ),
        ],
    ),
    "Cropping1D": (
        SEQUENCE,
        [lambda m: m.layers.Cropping1D(), lambda m: m.layers.Cropping1D([2, 0])],
    ),
    "Conv2D": (
        IMAGE,
        [
            lambda m: m.layers.Conv2D(3, 2),
            lambda m: m.layers.Conv2D(
                4, (3, 2), [2, 1], "SAME", "channels_last", 1, 2, "tanh", False, "he_normal",
                kernel_regularizer="l2", activity_regularizer="l1", kernel_constraint="max_norm",
            ),
        ],
    ),
    "ConvLSTM1D": (
        IMAGE,
        [
            lambda m: m.layers.ConvLSTM1D(3, 2),
            lambda m: m.layers.ConvLSTM1D(
                2, [3], (2,), "SAME", "channels_last", 1, "relu", "hard_sigmoid", False,
                "he_normal", "glorot_uniform", "ones", False, kernel_constraint="max_norm",
                return_sequences=True, zero_output_for_mask=True,
            ),
        ],
    ),
    "ConvLSTM2D": (
        (3, *IMAGE),
        [
            lambda m: m.layers.ConvLSTM2D(3, 2),
            lambda m: m.layers.ConvLSTM2D(
                2, (3, 2), [2, 1], "SAME", "channels_last", 1, "softsign", "sigmoid", True,
                "he_normal", "glorot_uniform", "ones", True, "l1", "l2", "l1", "l2", "max_norm",
                "unit_norm", "non_neg", seed=3, return_state=False, go_backwards=True,
                unroll=True, name="films",
            ),
        ],
    ),
    "Cropping2D": (
        IMAGE,
        [
            lambda m: m.layers.Cropping2D(),
            lambda m: m.layers.Cropping2D(1),
            lambda m: m.layers.Cropping2D(((0, 1), (2, 0)), "channels_first"),
        ],
    ),
    "Dense": (
        VECTOR,
        [
            lambda m: m.layers.Dense(3),
            lambda m: m.layers.Dense(3, "relu", activity_regularizer="l2", bias_initializer="ones"),
        ],
    ),
    "Dot": (
        TWO,
        [
            lambda m: m.layers.Dot(1),
            lambda m: m.layers.Dot((2, 2), True),
            lambda m: m.layers.Dot([-1, -1], normalize=True, name="likeness"),
        ],
    ),
    "DepthwiseConv1D": (
        SEQUENCE,
        [
            lambda m: m.layers.DepthwiseConv1D(3),
            lambda m: m.layers.DepthwiseConv1D(
                [2], (3,), "SAME", 2, "channels_last", 1, "tanh", False, "he_normal",
                depthwise_regularizer="l2", activity_regularizer="l1",
                depthwise_constraint="max_norm",
            ),
        ],
    ),
    "Dropout": (
        SEQUENCE,
        [lambda m: m.layers.Dropout(0.5), lambda m: m.layers.Dropout(0.1, (None, 1, None), 7)],
    ),
    "ELU": (SEQUENCE, [lambda m: m.layers.ELU()]),
    "Embedding": (
        INDICES,
        [
            lambda m: m.layers.Embedding(9, 4),
            lambda m: m.layers.Embedding(9, 4, "normal", "l2", "unit_norm", True),
        ],
    ),
    "Flatten": (
        SEQUENCE,
        [lambda m: m.layers.Flatten(), lambda m: m.layers.Flatten("channels_first")],
    ),
    "GaussianDropout": (SEQUENCE, [lambda m: m.layers.GaussianDropout(0.3, 5)]),
    "GaussianNoise": (SEQUENCE, [lambda m: m.layers.GaussianNoise(0.3)]),
    "GlobalAveragePooling1D": (
        SEQUENCE,
        [
            lambda m: m.layers.GlobalAveragePooling1D(),
            lambda m: m.layers.GlobalAveragePooling1D("channels_first", True),
        ],
    ),
    "GlobalAveragePooling2D": (
        IMAGE,
        [
            lambda m: m.layers.GlobalAveragePooling2D(),
            lambda m: m.layers.GlobalAveragePooling2D("channels_first", True),
        ],
    ),
    "GlobalMaxPooling1D": (
        SEQUENCE,
        [
            lambda m: m.layers.GlobalMaxPooling1D(),
            lambda m: m.layers.GlobalMaxPooling1D("channels_first", True),
        ],
    ),
    "GroupQueryAttention": (
        PAIR,
        [
            lambda m: m.layers.GroupQueryAttention(3, 4, 2),
            lambda m: m.layers.GroupQueryAttention(
                3, 4, 1, 0.5, False, 2, None, "he_normal", use_gate=True, bias_regularizer="l2",
                kernel_constraint="max_norm", activity_regularizer="l1", seed=1,
            ),
        ],
    ),
    "MultiHeadAttention": (
        PAIR,
        [
            lambda m: m.layers.MultiHeadAttention(2, 3),
            lambda m: m.layers.MultiHeadAttention(
                2, 3, 4, 0.5, False, (2, 3), (1,), 2, None, "he_normal", use_gate=True,
                bias_regularizer="l2", kernel_constraint="max_norm", activity_regularizer="l1",
                seed=1,
            ),
        ],
    ),
    "GroupNormalization": (
        SEQUENCE,
        [
            lambda m: m.layers.GroupNormalization(2),
            lambda m: m.layers.GroupNormalization(
                -1, 1, 0.1, scale=False, beta_constraint="non_neg", gamma_regularizer="l1"
            ),
        ],
    ),
    "GlobalMaxPooling2D": (
        IMAGE,
        [
            lambda m: m.layers.GlobalMaxPooling2D(),
            lambda m: m.layers.GlobalMaxPooling2D("channels_first", True),
        ],
    ),
    "GRU": (
        SEQUENCE,
        [lambda m: m.layers.GRU(3), lambda m: m.layers.GRU(3, "relu", reset_after=False)],
    ),
    "Identity": (SEQUENCE, [lambda m: m.layers.Identity()]),
    "InputLayer": (SEQUENCE, [lambda m: m.layers.InputLayer(SEQUENCE)]),
    "LayerNormalization": (
        SEQUENCE,
        [
            lambda m: m.layers.LayerNormalization(),
            lambda m: m.layers.LayerNormalization([1, 2], 0.1, False, gamma_regularizer="l1"),
        ],
    ),
    "LSTM": (
        SEQUENCE,
        [
            lambda m: m.layers.LSTM(3),
            lambda m: m.layers.LSTM(
                2, "relu", "hard_sigmoid", False, recurrent_regularizer="l1", dropout=0.1,
                return_sequences=True, go_backwards=True, activity_regularizer="l2",
            ),
        ],
    ),
    "LeakyReLU": (SEQUENCE, [lambda m: m.layers.LeakyReLU()]),
    "Masking": (SEQUENCE, [lambda m: m.layers.Masking(), lambda m: m.layers.Masking(-1.0)]),
    "Maximum": (TWO, [lambda m: m.layers.Maximum()]),
    "MaxPooling1D": (
        SEQUENCE,
        [
            lambda m: m.layers.MaxPooling1D(),
            lambda m: m.layers.MaxPooling1D([3], (1,), "same", "channels_first"),
        ],
    ),
    "Minimum": (TWO, [lambda m: m.layers.Minimum()]),
    "Multiply": (TWO, [lambda m: m.layers.Multiply(trainable=False)]),
    "Normalization": (
        SEQUENCE,
        [
            lambda m: m.layers.Normalization(),
            lambda m: m.layers.Normalization(None, invert=True),
            lambda m: m.layers.Normalization((2, 1)),
            lambda m: m.layers.Normalization(mean=3, variance=2.0),
            lambda m: m.layers.Normalization(1, np.arange(6), np.ones(6)),
            lambda m: m.layers.Normalization([1, 2], [1, 2, 3, 4], [4, 3, 2, 1], True),
        ],
    ),
    "MaxPooling2D": (
        IMAGE,
        [
            lambda m: m.layers.MaxPooling2D(),
            lambda m: m.layers.MaxPooling2D([3, 1], (1, 2), "same", "channels_first"),
        ],
    ),
    "Permute": (SEQUENCE, [lambda m: m.layers.Permute((2, 1))]),
    "PReLU": (
        SEQUENCE,
        [
            lambda m: m.layers.PReLU(),
            lambda m: m.layers.PReLU("ones", "l2", "non_neg", shared_axes=1),
        ],
    ),
    "RMSNormalization": (
        SEQUENCE,
        [
            lambda m: m.layers.RMSNormalization(),
            lambda m: m.layers.RMSNormalization([2, 1], 0.1),
        ],
    ),
    "ReLU": (SEQUENCE, [lambda m: m.layers.ReLU(), lambda m: m.layers.ReLU(6.0, 0.1, 0.5)]),
    "RepeatVector": (VECTOR, [lambda m: m.layers.RepeatVector(3)]),
    "Rescaling": (
        SEQUENCE,
        [
            lambda m: m.layers.Rescaling(2),
            lambda m: m.layers.Rescaling(np.float32(0.5), np.array([1, 2, 3, 4.0], np.float32)),
            lambda m: m.layers.Rescaling([1, 0.5, 2.0, -1], np.ones((6, 1))),
        ],
    ),
    "Reshape": (SEQUENCE, [lambda m: m.layers.Reshape((2, -1))]),
    "SeparableConv1D": (
        SEQUENCE,
        [
            lambda m: m.layers.SeparableConv1D(3, 2),
            lambda m: m.layers.SeparableConv1D(
                3, [2], (3,), "SAME", "channels_last", 1, 2, "tanh", False, "he_normal", "ones",
                depthwise_regularizer="l2", pointwise_regularizer="l1", activity_regularizer="l1",
                pointwise_constraint="max_norm",
            ),
        ],
    ),
    "RNN": (
        SEQUENCE,
        [
            lambda m: m.layers.RNN(m.layers.LSTMCell(3)),
            lambda m: m.layers.RNN(m.layers.GRUCell(3), True, False, True, name="r"),
            lambda m: m.layers.RNN([m.layers.LSTMCell(3), m.layers.GRUCell(2)]),
            lambda m: m.layers.RNN(
                m.layers.StackedRNNCells([m.layers.SimpleRNNCell(2)], name="stack"),
                zero_output_for_mask=True, activity_regularizer="l2",
            ),
        ],
    ),
    "LSTMCell": (
        STEP,
        [
            lambda m: m.layers.LSTMCell(5),
            lambda m: m.layers.LSTMCell(
                5, "relu", "hard_sigmoid", True, "ones", "zeros", "ones", False, "l1", "l2", "l1",
                "max_norm", "unit_norm", "non_neg", 0.1, 0.2, 3, name="c", trainable=False,
            ),
        ],
    ),
    "GRUCell": (
        STEP,
        [
            lambda m: m.layers.GRUCell(5),
            lambda m: m.layers.GRUCell(
                5, "relu", "hard_sigmoid", False, "ones", "zeros", "ones", "l1", "l2", "l1",
                "max_norm", "unit_norm", "non_neg", 0.1, 0.2, False, 3,
            ),
        ],
    ),
    "SimpleRNNCell": (
        STEP,
        [
            lambda m: m.layers.SimpleRNNCell(5),
            lambda m: m.layers.SimpleRNNCell(
                5, "relu", True, "ones", "zeros", "ones", "l1", "l2", "l1", "max_norm",
                "unit_norm", "non_neg", 0.1, 0.2, 3,
            ),
        ],
    ),
    "StackedRNNCells": (
        STEP,
        [
            lambda m: m.layers.StackedRNNCells([m.layers.LSTMCell(5), m.layers.GRUCell(5)]),
            lambda m: m.layers.StackedRNNCells([m.layers.SimpleRNNCell(5, name="one")], name="s"),
        ],
    ),
    "SimpleRNN": (SEQUENCE, [lambda m: m.layers.SimpleRNN(3)]),
    "Softmax": (SEQUENCE, [lambda m: m.layers.Softmax(), lambda m: m.layers.Softmax([1, 2])]),
    "SpatialDropout1D": (SEQUENCE, [lambda m: m.layers.SpatialDropout1D(0.5, 3)]),
    "Subtract": (TWO, [lambda m: m.layers.Subtract()]),
    "SpatialDropout2D": (
        IMAGE,
        [
            lambda m: m.layers.SpatialDropout2D(0.5),
            lambda m: m.layers.SpatialDropout2D(0.5, "channels_first", 3),
        ],
    ),
    "TimeDistributed": (
        SEQUENCE,
        [
            lambda m: m.layers.TimeDistributed(m.layers.Dense(3)),
            lambda m: m.layers.TimeDistributed(m.layers.BatchNormalization()),
            lambda m: m.layers.TimeDistributed(m.layers.Rescaling(0.1)),
        ],
    ),
    "UnitNormalization": (
        SEQUENCE,
        [lambda m: m.layers.UnitNormalization(), lambda m: m.layers.UnitNormalization((1, 2))],
    ),
    "IntegerLookup": (
        INDICES,
        [
            lambda m: m.layers.IntegerLookup(vocabulary=[3, 1]),
            lambda m: m.layers.IntegerLookup(9, 2, 0, vocabulary=[3, 1], oov_method="farmhash"),
        ],
    ),
    "StringLookup": (
        TEXT,
        [
            lambda m: m.layers.StringLookup(),
            lambda m: m.layers.StringLookup(
                9, 2, "", "?", ["a"], [0.5], output_mode="tf_idf", salt=[1, 2], name="s"
            ),
        ],
    ),
    "TextVectorization": (
        TEXT,
        [
            lambda m: m.layers.TextVectorization(),
            lambda m: m.layers.TextVectorization(
                9, "lower", "character", (1, 3), "int", 7, vocabulary=np.array(["a"]), name="t"
            ),
        ],
    ),
    "UpSampling1D": (
        SEQUENCE,
        [lambda m: m.layers.UpSampling1D(), lambda m: m.layers.UpSampling1D(3)],
    ),
    "ZeroPadding1D": (
        SEQUENCE,
        [
            lambda m: m.layers.ZeroPadding1D(),
            lambda m: m.layers.ZeroPadding1D([0, 3], "channels_first"),
        ],
    ),
    "UpSampling2D": (
        IMAGE,
        [
            lambda m: m.layers.UpSampling2D(),
            lambda m: m.layers.UpSampling2D((3, 1), "channels_first"),
        ],
    ),
    "ZeroPadding2D": (
        IMAGE,
        [
            lambda m: m.layers.ZeroPadding2D(),
            lambda m: m.layers.ZeroPadding2D(2),
            lambda m: m.layers.ZeroPadding2D((1, 2)),
            lambda m: m.layers.ZeroPadding2D(((0, 1), (2, 0)), "channels_first"),
        ],
    ),
}  # fmt: skip
CASES = [
    pytest.param(name, shape, make, id=f"{name}-{i}")
    for name, (shape, makes) in LAYERS.items()
    for i, make in enumerate(makes)
    if name in fastrnn.layers.CLASSES
]


def test_no_layer_is_missing():
    # Keras has no CRF; a Lambda's function is no config (test_lambda.py)
    assert set(fastrnn.layers.CLASSES) - {"CRF", "Lambda"} <= set(LAYERS)


# --- configs ---

# Keys that only Keras writes. All have one value here that fastrnn reads.
ONLY_KERAS = {
    "BatchNormalization": {"renorm", "renorm_clipping", "renorm_momentum"},
    "Bidirectional": {"backward_layer"},  # written by fastrnn where it was given
    "Dense": {"quantization_config"},
    "Embedding": {"quantization_config"},
    "GlorotUniform": {"input_axes", "output_axes"},
    "HeNormal": {"input_axes", "output_axes"},
    "InputLayer": {"optional"},
}

# Keys that only fastrnn writes, and Keras reads.
ONLY_FASTRNN = {
    "Dense": {"activity_regularizer"},  # where there is none
    "ELU": {"alpha"},
    "SimpleRNN": {"seed"},
}


def as_file(config):
    """As it comes from a JSON file, dtypes by name."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return config["config"]["name"]
        return {key: as_file(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [as_file(value) for value in config]
    return json.loads(json.dumps(config))


def same(own, theirs, class_name):
    """Compare the configs of two objects of one class, and of what is within them."""
    assert set(theirs) - set(own) <= ONLY_KERAS.get(class_name, set())
    assert set(own) - set(theirs) <= ONLY_FASTRNN.get(class_name, set())
    for key in set(own) & set(theirs):
        if isinstance(own[key], dict) and isinstance(theirs[key], dict):
            same_object(own[key], theirs[key])
        elif key == "cells":
            for pair in zip(own[key], theirs[key], strict=True):
                same_object(*pair)
        elif isinstance(own[key], float):
            assert own[key] == pytest.approx(theirs[key], rel=1e-7), key  # some are float32 there
        else:
            assert own[key] == theirs[key], key


def same_object(own, theirs):
    left, right = dict(own), dict(theirs)
    inner = left.pop("config"), right.pop("config")
    right.pop("build_config", None)
    assert left == right
    same(*inner, left["class_name"])


@pytest.mark.parametrize("name, shape, make", CASES)
def test_configs(name, shape, make, tally):
    own, theirs = make(fastrnn), make(keras)
    assert own.name == theirs.name
    config, keras_config = as_file(own.get_config()), as_file(theirs.get_config())
    if "Conv" in name or "Cell" in name or name == "RNN":
        assert list(config) == list(keras_config)
    same(config, keras_config, name)
    read = type(own).from_config(copy.deepcopy(keras_config))
    same(as_file(read.get_config()), keras_config, name)
    keras_read = as_file(type(theirs).from_config(copy.deepcopy(config)).get_config())
    if name == "Bidirectional":  # named after the forward layer that it was copied from
        keras_read["backward_layer"]["config"]["name"] = own.backward_layer.name
    same(config, keras_read, name)
    tally.compared("config")


# --- inputs ---


def inputs(shape, rng):
    """The same numbers, small and whole, in many forms."""
    if shape is INDICES:
        x = rng.integers(0, 9, (7, 6))
    else:
        shape = shape[0] if shape in (TWO, PAIR, STEP) else shape
        x = rng.integers(0, 2, (7, *shape))
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), np.float32)
    wide[..., ::2] = x
    yield from (x.astype(d) for d in ("float32", "float64", "float16", "int32", "int64", "uint8"))
    yield np.asfortranarray(x.astype(np.float32))
    yield wide[..., ::2]
    yield np.ascontiguousarray(x[::-1].astype(np.float32))[::-1]
    yield x.astype(">f4")
    if shape is not INDICES:
        yield x.astype(bool)


def of_cells(layer, x):
    """x for each state of a cell, or of each of several."""
    if hasattr(layer, "cells"):
        return [of_cells(cell, x) for cell in layer.cells]
    return [x, x] if isinstance(layer.state_size, list) else [x]


def called(layer, shape, x):
    """With x for all its inputs."""
    if shape is STEP:
        y, _ = layer(x, of_cells(layer, x))
        return y
    if shape is PAIR:
        return layer(x, x)
    return layer([x, x] if shape is TWO else x)


def pair(make, shape, rng):
    """A model of each library with the same weights."""
    models = []
    for module in (fastrnn, keras):
        if shape in (TWO, PAIR, STEP):
            start = module.layers.Input(shape[0])
            models.append(module.Model(start, called(make(module), shape, start)))
            continue
        start = module.layers.Input((6,) if shape is INDICES else shape)
        models.append(module.Sequential([start, make(module)]))
    weights = [0.1 + rng.random(w.shape) for w in models[1].get_weights()]
    for model in models:
        model.set_weights(weights)
    if hasattr(models[1].layers[0], "finalize_state"):
        models[1].layers[0].finalize_state()
    return models


@pytest.mark.parametrize("name, shape, make", CASES)
def test_input_dtypes(name, shape, make, rng, tally):
    if name == "InputLayer" or shape is TEXT:
        return
    own, theirs = pair(make, shape, rng)
    for x in inputs(shape, rng):
        before = x.copy()
        expected = np.asarray(theirs(x.astype(x.dtype.newbyteorder("=")), training=False))
        y = own.predict(x, verbose=0)
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(called(own.layers[-1], shape, x), y)
        np.testing.assert_array_equal(x, before)
    tally.compared("input dtypes")


# --- freezing ---


def stack(m, normalized=True, inner=True):
    """A model with normalisation in every place; two layers can be frozen by the constructor."""
    layers = m.layers
    return m.Sequential(
        [
            layers.Input((5, 4)),
            layers.TimeDistributed(layers.BatchNormalization()),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True, trainable=inner)),
            layers.BatchNormalization(trainable=normalized),
            m.Sequential([layers.Dense(3), layers.BatchNormalization()]),
            layers.LSTM(2),
            layers.LayerNormalization(),
            layers.Dense(1),
        ]
    )


def off_and_on(layer):
    layer.trainable = False
    layer.trainable = True


def set_trainable(*path):
    """Freeze what the names and numbers of `path` lead to."""

    def change(model):
        found = model
        for step in path:
            found = found.layers[step] if isinstance(step, int) else getattr(found, step)
        found.trainable = False

    return change


FREEZING = {
    "nothing": ({}, lambda model: None),
    "constructor": ({"normalized": False}, lambda model: None),
    "constructor of an inner layer": ({"inner": False}, lambda model: None),
    **{f"layer {i}": ({}, set_trainable(i)) for i in range(7)},
    "model": ({}, set_trainable()),
    "model off and on": ({}, off_and_on),
    "forward layer": ({}, set_trainable(1, "forward_layer")),
    "wrapped layer": ({}, set_trainable(0, "layer")),
    "nested layer": ({}, set_trainable(3, 1)),
    "thawed by its wrapper": ({"inner": False}, lambda m: off_and_on(m.layers[1])),
    "kernel": ({}, set_trainable(6, "kernel")),
    "gamma": ({}, set_trainable(2, "gamma")),
}  # fmt: skip


def flags(layer):
    """trainable of a layer, and of those within it."""
    inner = list(getattr(layer, "layers", ()))
    names = ("forward_layer", "backward_layer") if hasattr(layer, "merge_mode") else ("layer",)
    inner += [getattr(layer, name) for name in names if hasattr(layer, name)]
    return layer.trainable, [flags(part) for part in inner]


@pytest.mark.parametrize("kind", FREEZING)
def test_freezing(kind, rng, tally):
    options, change = FREEZING[kind]
    own, theirs = stack(fastrnn, **options), stack(keras, **options)
    change(own), change(theirs)
    assert flags(own) == flags(theirs)
    weights = [0.1 + rng.random(w.shape) for w in theirs.get_weights()]
    for model in (own, theirs):
        model.set_weights(weights)
        if model.trainable_weights:
            model.compile(model_module(model).optimizers.SGD(0.1), "mse", run_eagerly=True)
    for layer, keras_layer in zip([own, *own.layers], [theirs, *theirs.layers], strict=True):
        for attribute in ("weights", "trainable_weights", "non_trainable_weights"):
            places = [
                [
                    [w is other for other in model.weights].index(True)
                    for w in getattr(la, attribute)
                ]
                for model, la in ((own, layer), (theirs, keras_layer))
            ]
            assert places[0] == places[1], (layer, attribute)
    if not theirs.trainable_weights:
        return
    x, y = rng.standard_normal((6, 5, 4)), rng.standard_normal((6, 1))
    single = kind in ("kernel", "gamma")  # stays frozen in fastrnn, whatever its layer is
    for again in (False,) if single else (False, True):
        for model in (own, theirs):
            if again:
                off_and_on(model)
                model.compile(model_module(model).optimizers.SGD(0.1), "mse", run_eagerly=True)
            model.fit(x, y, batch_size=3, epochs=1, shuffle=False, verbose=0)
        for w, expected in zip(own.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(w, expected, rtol=1e-4, atol=1e-5)
    tally.compared("freezing")


def model_module(model):
    return fastrnn if isinstance(model, fastrnn.Sequential) else keras
