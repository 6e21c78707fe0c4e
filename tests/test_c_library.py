"""The C library built from csrc/ by its Makefile: networks without Python."""

import ctypes
import itertools
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import c_models
import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn import models
from fastrnn.interop import c_export

CSRC = Path(__file__).parents[1] / "csrc"
OK, BAD_ARGUMENT, CANNOT_READ, NOT_A_MODEL, TOO_NEW, OUT_OF_MEMORY = range(6)
BAD_SHAPE, BAD_INDEX, NOT_STREAMABLE, WRONG_ABI, OTHER_ISA, SEVERAL = range(6, 12)

pytestmark = [
    pytest.mark.skipif(not (CSRC / "Makefile").is_file(), reason="csrc/ is not here"),
    pytest.mark.skipif(not shutil.which("make"), reason="make is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="libfastrnn.so is Linux's name"),
]

TIME, FEATURES = 7, 5
SEQUENCE, VECTOR, INDICES = (None, FEATURES), (FEATURES,), "indices"
MODELS = {
    "dense": (VECTOR, [L.Dense(9, "relu"), L.Dropout(0.5), L.Dense(4, "softmax")]),
    "one": (VECTOR, [L.Dense(1, "sigmoid", use_bias=False)]),
    "lstm": (SEQUENCE, [L.LSTM(20, return_sequences=True), L.LSTM(3)]),
    "gru": (SEQUENCE, [L.GRU(6, return_sequences=True), L.GRU(5, reset_after=False)]),
    "rnn": (SEQUENCE, [L.SimpleRNN(6, "relu", return_sequences=True, use_bias=False)]),
    "cell": (SEQUENCE, [L.RNN(L.LSTMCell(6), return_sequences=True), L.RNN(L.GRUCell(4))]),
    "cells": (
        SEQUENCE,
        [
            L.Masking(2.0),
            L.Bidirectional(L.RNN(L.LSTMCell(4), return_sequences=True)),
            L.RNN([L.LSTMCell(6), L.GRUCell(5, reset_after=False), L.SimpleRNNCell(3)]),
        ],
    ),
    "cells, stream": (
        SEQUENCE,
        [L.RNN([L.GRUCell(6), L.LSTMCell(5)], return_sequences=True)],
    ),
    "cells backwards": (
        SEQUENCE,
        [L.RNN([L.LSTMCell(6), L.GRUCell(5)], go_backwards=True, return_sequences=True)],
    ),
    "backwards": (SEQUENCE, [L.LSTM(4, go_backwards=True, return_sequences=True)]),
    "activations": (SEQUENCE, [L.LSTM(4, "elu", recurrent_activation="hard_sigmoid")]),
    "masked": (SEQUENCE, [L.Masking(2.0), L.LSTM(4, return_sequences=True), L.GRU(3)]),
    "words": (
        INDICES,
        [L.Embedding(10, 6, mask_zero=True), L.Bidirectional(L.LSTM(4)), L.Dense(1, "sigmoid")],
    ),
    "tagger": (
        INDICES,
        [
            L.Embedding(10, 6),
            L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode="ave"),
            L.TimeDistributed(L.Dense(3)),
            L.Softmax(),
        ],
    ),
    "looked up": (
        INDICES,
        [
            L.Embedding(10, 32, mask_zero=True),
            L.Bidirectional(L.GRU(20, return_sequences=True), merge_mode="sum"),
            L.LSTM(7),
        ],
    ),
    "looked up, stream": (INDICES, [L.Embedding(10, 40), L.LSTM(21, return_sequences=True)]),
    "sum": (SEQUENCE, [L.Bidirectional(L.LSTM(18, return_sequences=True), merge_mode="sum")]),
    "mul": (SEQUENCE, [L.Masking(), L.Bidirectional(L.LSTM(5), merge_mode="mul")]),
    "uneven": (
        SEQUENCE,
        [
            L.Bidirectional(
                L.LSTM(3, return_sequences=True),
                backward_layer=L.GRU(5, return_sequences=True, go_backwards=True),
            ),
            L.LayerNormalization(),
            L.GlobalMaxPooling1D(),
        ],
    ),
    "pooled": (
        SEQUENCE,
        [L.Masking(), L.LSTM(4, return_sequences=True), L.GlobalAveragePooling1D(), L.ReLU()],
    ),
    "normal": (
        SEQUENCE,
        [
            L.BatchNormalization(),
            L.Activation("softsign"),
            L.Normalization(),
            L.Normalization(mean=1, variance=4, invert=True),
            L.Rescaling(0.5, [0.1, -0.2, 0.3, 0.4, -0.5]),
            L.Identity(),
            L.LayerNormalization(rms_scaling=True),
        ],
    ),
    "encoder": (
        SEQUENCE,
        [L.LSTM(4), L.RepeatVector(3), L.LSTM(5, return_sequences=True), L.Flatten(), L.Dense(2)],
    ),
}
STREAMED = {
    "looked up, stream",
    "lstm",
    "gru",
    "rnn",
    "activations",
    "normal",
    "dense",
    "one",
    "cell",
    "cells, stream",
}


def sequence(width=FEATURES):
    return L.Input((None, width))


def words():
    return L.Input((None,), dtype="int32")


def encoder_and_decoder():
    source, target = words(), sequence()
    x = L.Embedding(10, 32, mask_zero=True)(source)
    _, *states = L.LSTM(6, return_state=True)(x)
    y = L.LSTM(6, return_sequences=True)(target, initial_state=states)
    return models.Model([source, target], L.Dense(4, "softmax")(y))


def decoder_step():
    token, h, c = words(), L.Input((6,)), L.Input((6,))
    x = L.Embedding(10, 40)(token)
    y, *states = L.LSTM(6, return_sequences=True, return_state=True)(x, initial_state=[h, c])
    return models.Model([token, h, c], [L.Dense(10, "softmax")(y), *states])


def two_inputs_two_heads():
    series, facts = sequence(), L.Input((3,))
    both = L.concatenate([L.LSTM(6)(series), L.Dense(4, "relu")(facts)])
    return models.Model([series, facts], [L.Dense(1)(both), L.Dense(2, "softmax")(both)])


def shared():
    """A layer called twice, a model called twice."""
    left, right = sequence(), sequence()
    inner = models.Sequential([L.LSTM(4, return_sequences=True), L.GlobalMaxPooling1D()])
    inner.build((None, None, FEATURES))
    dense = L.Dense(FEATURES, "tanh")
    tops = [inner(dense(x)) for x in (left, right)]
    return models.Model([left, right], [L.Dot(1, normalize=True)(tops), L.subtract(tops)])


def masks_that_merge():
    index = words()
    one = L.Embedding(10, 6, mask_zero=True)(index)
    two = L.LSTM(6, return_sequences=True)(one)
    makes = (L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate)
    merged = [make()([one, two]) for make in makes]
    long = L.Concatenate(axis=1)([*merged[:5], one])
    return models.Model(index, [L.GRU(3)(long), L.GlobalAveragePooling1D()(merged[-1])])


def attentions():
    index, query = words(), sequence(6)
    x = L.Embedding(10, 6, mask_zero=True)(index)
    y = L.Attention(use_scale=True)([query, x])
    y, scores = L.AdditiveAttention()([y, x], return_attention_scores=True)
    y = L.Attention(score_mode="concat")([y, x, x], use_causal_mask=True)
    return models.Model([index, query], [y, L.Softmax()(scores)])


def heads():
    index = words()
    x = L.Embedding(10, 6, mask_zero=True)(index)
    y = L.MultiHeadAttention(2, 4, value_dim=3, sliding_window=3)(x, x, use_causal_mask=True)
    y = L.LayerNormalization()(L.add([x, y]))
    return models.Model(index, L.GroupQueryAttention(4, 4, 2)(y, y, x))


def scores_by_dot():
    query, value = sequence(), sequence()
    scores = L.Activation("softmax")(L.Dot((2, 2))([query, value]))
    context = L.Dot((2, 1))([scores, value])
    return models.Model([query, value], L.Dense(3, "tanh")(L.Concatenate()([context, query])))


def directions_apart():
    x = sequence()
    layer = L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True), merge_mode=None)
    forward, backward, *states = layer(x)
    y = L.Bidirectional(L.LSTM(4), merge_mode="sum")(forward, initial_state=states)
    return models.Model(x, [backward, y, states[1]])


def other_shapes():
    x = L.Input((TIME, FEATURES))
    y = L.UpSampling1D(2)(L.Cropping1D((1, 2))(L.ZeroPadding1D((2, 1))(x)))
    return models.Model(x, [L.Reshape((-1, TIME))(y), L.Permute((2, 1))(y), x, x])


def streamed():
    x = sequence()
    y = L.LSTM(4, return_sequences=True)(x)
    z = L.GRU(4, return_sequences=True)(L.Concatenate()([x, y]))
    return models.Model(x, L.Dense(2)(L.add([y, z])))


GRAPHS = {
    make.__name__: make
    for make in (
        encoder_and_decoder, decoder_step, two_inputs_two_heads, shared, masks_that_merge,
        attentions, heads, scores_by_dot, directions_apart, other_shapes, streamed,
    )
}  # fmt: skip


def graph_of(name):
    """A model of several inputs or outputs with random weights, and a list of inputs."""
    model, rng = GRAPHS[name](), np.random.default_rng(len(name))
    c_models.throw_weights(c_models.Dice(len(name)), model)
    xs = []
    for number, tensor in enumerate(model.inputs):
        shape = [3, *(TIME - number if n is None else n for n in tensor.shape[1:])]
        if len(shape) == 2 and tensor.shape[1] is None:
            xs.append(rng.integers(0, 10, shape).astype(np.int32))
            xs[-1][0, -3:] = 0
        else:
            xs.append(rng.normal(size=shape).astype(np.float32))
    return model, xs


def predicted(model, xs):
    ys = model.predict(xs if len(xs) > 1 else xs[0], verbose=0)
    return ys if isinstance(ys, list) else [ys]


def file_of(name):
    return fastrnn.to_c(graph_of(name)[0] if name in GRAPHS else model_of(name)[0])


def make(build, *targets):
    flags = [f"BUILD={build}"]
    run = subprocess.run(
        ["make", "-s", "-C", CSRC, *flags, *targets], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""  # no warnings
    return build


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return make(tmp_path_factory.mktemp("build"))


def model_of(name):
    """A model with random weights and its inputs, some steps of which are masked."""
    shape, stack = MODELS[name]
    rng = np.random.default_rng(len(name))
    model = models.Sequential(models.clone_model(models.Sequential(stack)).layers)
    if shape is INDICES:
        x = rng.integers(0, 10, (3, TIME)).astype(np.int32)
        x[0, -3:] = 0
        model.build((None, TIME))
    else:
        x = rng.normal(size=(3, *(TIME if n is None else n for n in shape))).astype(np.float32)
        if len(shape) == 2:
            x[1, :2] = 0
            x[2, -2:] = 2
        model.build((None, *x.shape[1:]))
    for w in model.weights:
        low = 0.5 if "variance" in w.path else -0.6
        w.assign(rng.uniform(low, 0.9, w.shape).astype(np.float32))
    return model, x


class Port(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("indices", ctypes.c_int32),
        ("sequences", ctypes.c_int32),
        ("timesteps", ctypes.c_int64),
        ("features", ctypes.c_int64),
    ]


def shape_of(x):
    """(batch, timesteps or 0, features) of an input of the library."""
    if x.dtype == np.int32:
        x = x[..., None]
    return (*x.shape[:1], x.shape[1] if x.ndim == 3 else 0, x.shape[-1])


class Library:
    def __init__(self, path):
        self.c = ctypes.CDLL(str(path))
        self.c.fastrnn_status_text.restype = ctypes.c_char_p
        sizes = [ctypes.c_int64] * 2
        self.c.fastrnn_run.argtypes = [ctypes.c_void_p] * 2 + sizes + [ctypes.c_void_p] * 2
        self.c.fastrnn_model_read.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        self.c.fastrnn_model_output.argtypes = [ctypes.c_void_p, *sizes, ctypes.c_void_p]
        for name in ("model_free", "session_free"):
            getattr(self.c, f"fastrnn_{name}").argtypes = [ctypes.c_void_p]
        self.c.fastrnn_session_new.argtypes = [ctypes.c_void_p] * 2
        for name in ("model_input", "graph_sizes"):
            getattr(self.c, f"fastrnn_{name}").argtypes = [ctypes.c_void_p] * 2
        for name in ("graph_input", "graph_output"):
            arguments = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]
            getattr(self.c, f"fastrnn_{name}").argtypes = arguments
        self.c.fastrnn_graph_shapes.argtypes = [ctypes.c_void_p] * 3
        self.c.fastrnn_graph_run.argtypes = [ctypes.c_void_p] * 5

    def read(self, data):
        model = ctypes.c_void_p(1)
        status = self.c.fastrnn_model_read(ctypes.byref(model), data, len(data))
        assert bool(model) == (status == OK)
        return status, model

    def session(self, model):
        session = ctypes.c_void_p()
        assert self.c.fastrnn_session_new(ctypes.byref(session), model) == OK
        return session

    def inputs(self, model):
        values = (ctypes.c_int64 * 4)()  # the first holds two int32
        assert self.c.fastrnn_model_input(model, values) == OK
        return values[0] & 0xFFFFFFFF, values[0] >> 32, *values[1:]

    def output(self, model, x):
        shape = (ctypes.c_int64 * 3)()
        status = self.c.fastrnn_model_output(model, *self.sizes(model, x), shape)
        return status, tuple(n for n in shape if n)

    def graph(self, model):
        """How many inputs and outputs, and the size of the state."""
        values = (ctypes.c_int64 * 2)()
        assert self.c.fastrnn_graph_sizes(model, values) == OK
        return values[0] & 0xFFFFFFFF, values[0] >> 32, values[1]

    def ports(self, model):
        """(name, indices, sequences, timesteps, features) of all inputs, of all outputs."""
        inputs, outputs, _ = self.graph(model)
        port = Port()
        lists = [], []
        for ask, count, found in (
            (self.c.fastrnn_graph_input, inputs, lists[0]),
            (self.c.fastrnn_graph_output, outputs, lists[1]),
        ):
            for number in range(count):
                assert ask(model, number, ctypes.byref(port)) == OK
                values = (getattr(port, name) for name, _ in Port._fields_)
                found.append(tuple(values))
        return lists

    def graph_run(self, session, model, xs, state=None):
        """(status, outputs) of a model of any number of inputs."""
        inputs, outputs, _ = self.graph(model)
        xs = [np.ascontiguousarray(x) for x in xs]
        shapes = np.array([shape_of(x) for x in xs], np.int64)
        made = np.zeros((outputs, 3), np.int64)
        status = self.c.fastrnn_graph_shapes(model, shapes.ctypes.data, made.ctypes.data)
        if status:
            return status, None
        ys = [np.full([n for n in shape if n], np.nan, np.float32) for shape in made]
        places = [(ctypes.c_void_p * len(a))(*(v.ctypes.data for v in a)) for a in (xs, ys)]
        pointer = state.ctypes.data if state is not None else None
        status = self.c.fastrnn_graph_run(
            session, places[0], shapes.ctypes.data, pointer, places[1]
        )
        return status, ys

    def sizes(self, model, x):
        return len(x), x.shape[1] if self.inputs(model)[1] else 1

    def run(self, session, model, x, state=None):
        status, shape = self.output(model, x)
        if status:
            return status, None
        y = np.full(shape, np.nan, np.float32)
        pointer = state.ctypes.data if state is not None else None
        x = np.ascontiguousarray(x)
        status = self.c.fastrnn_run(
            session, x.ctypes.data, *self.sizes(model, x), pointer, y.ctypes.data
        )
        return status, y


@pytest.fixture(scope="module")
def library(build):
    return Library(build / "libfastrnn.so")


@pytest.fixture(params=fastrnn._engine.available_isas())
def each_isa(library, request):
    assert library.c.fastrnn_set_isa(request.param.encode()) == OK
    yield request.param
    library.c.fastrnn_set_isa(fastrnn._engine.available_isas()[0].encode())


def close(y, expected):
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", MODELS)
def test_library_gives_what_predict_gives(name, library, each_isa):
    model, x = model_of(name)
    status, c_model = library.read(fastrnn.to_c(model))
    assert status == OK
    session = library.session(c_model)
    for threads in (1, 2):
        library.c.fastrnn_set_threads(threads)
        for rows in (x, x[:1], np.concatenate([x] * 12)):
            status, y = library.run(session, c_model, rows)
            assert status == OK
            close(y, model.predict(rows, verbose=0))
    library.c.fastrnn_session_free(session)
    library.c.fastrnn_model_free(c_model)


@pytest.mark.parametrize("name", GRAPHS)
def test_library_gives_what_predict_gives_of_graphs(name, library, each_isa):
    model, xs = graph_of(name)
    status, c_model = library.read(fastrnn.to_c(model))
    assert status == OK
    session = library.session(c_model)
    for threads in (1, 2):
        library.c.fastrnn_set_threads(threads)
        for rows in (xs, [x[:1] for x in xs], [np.concatenate([x] * 12) for x in xs]):
            status, ys = library.graph_run(session, c_model, rows)
            assert status == OK
            for y, expected in zip(ys, predicted(model, rows), strict=True):
                assert y.shape == expected.shape
                close(y, expected)
    library.c.fastrnn_set_threads(1)
    library.c.fastrnn_session_free(session)
    library.c.fastrnn_model_free(c_model)


def test_inputs_and_outputs_are_described(library):
    model, xs = graph_of("two_inputs_two_heads")
    _, c_model = library.read(fastrnn.to_c(model))
    inputs, outputs = library.ports(c_model)
    names = [name.encode() for name in model.input_names + model.output_names]
    assert inputs == [(names[0], 0, 1, 0, FEATURES), (names[1], 0, 0, 0, 3)]
    assert outputs == [(names[2], 0, 0, 0, 1), (names[3], 0, 0, 0, 2)]
    _, c_model = library.read(file_of("scores_by_dot"))
    assert library.ports(c_model)[1][0][1:] == (0, 1, 0, 3)
    _, c_model = library.read(file_of("attentions"))
    inputs, outputs = library.ports(c_model)
    assert inputs[0][1:] == (1, 1, 0, 1) and outputs[1][1:] == (0, 1, 0, 0)  # (batch, Tq, Tv)
    _, c_model = library.read(file_of("other_shapes"))
    inputs, outputs = library.ports(c_model)
    assert inputs[0][1:] == (0, 1, TIME, FEATURES) and outputs[0][1:] == (0, 1, 10, TIME)
    _, c_model = library.read(file_of("lstm"))
    assert library.ports(c_model) == ([(b"", 0, 1, 0, FEATURES)], [(b"", 0, 0, 0, 3)])
    kept = models.Model({"b": (x := sequence()), "a": (h := L.Input((4,)))},
                        {"out": L.LSTM(4)(x, initial_state=[h, h])})  # fmt: skip
    _, c_model = library.read(fastrnn.to_c(kept))
    inputs, outputs = library.ports(c_model)
    assert [p[0] for p in inputs + outputs] == [b"a", b"b", b"out"]


def test_functions_for_one_input_refuse_several(library):
    model, xs = graph_of("two_inputs_two_heads")
    _, c_model = library.read(fastrnn.to_c(model))
    room, x, y = (ctypes.c_int64 * 4)(), xs[0], np.zeros((3, 9), np.float32)
    assert library.c.fastrnn_model_input(c_model, room) == SEVERAL
    assert library.c.fastrnn_model_output(c_model, 3, TIME, room) == SEVERAL
    session = library.session(c_model)
    arguments = x.ctypes.data, 3, TIME, None, y.ctypes.data
    assert library.c.fastrnn_run(session, *arguments) == SEVERAL
    assert b"fastrnn_graph_run" in library.c.fastrnn_status_text(SEVERAL)
    _, c_model = library.read(file_of("streamed"))  # a graph of one input and one output
    assert library.inputs(c_model) == (0, 1, FEATURES, 0, 12)


def test_shapes_that_do_not_fit_a_graph_are_refused(library):
    for name, changes in {
        "two_inputs_two_heads": [{1: (3, 4)}, {1: (2, 3)}, {0: (3, 7, 4)}, {0: (3, 5)}],
        "decoder_step": [{1: (3, 7)}, {0: (4, 7)}],
        "masks_that_merge": [],
        "other_shapes": [{0: (3, TIME - 1, FEATURES)}],
    }.items():
        model, xs = graph_of(name)
        _, c_model = library.read(fastrnn.to_c(model))
        session = library.session(c_model)
        for change in changes:
            others = [np.zeros(change.get(i, x.shape), x.dtype) for i, x in enumerate(xs)]
            assert library.graph_run(session, c_model, others) == (BAD_SHAPE, None), change
        assert library.graph_run(session, c_model, xs)[0] == OK
    x, y = sequence(), sequence()
    for made, shapes in (
        (L.Add()([x, y]), [(2, 3), (2, 4)]),
        (L.Concatenate()([x, y]), [(2, 3), (2, 1)]),
        (L.Dot(1)([x, y]), [(2, 3), (2, 4)]),
        (L.Attention()([x, x, y]), [(2, 3), (2, 4)]),
        (L.MultiHeadAttention(1, 2)(x, x, y), [(2, 3), (2, 4)]),
        (L.Subtract()([L.Cropping1D(2)(x), y]), [(2, 4), (2, 1)]),
    ):
        _, c_model = library.read(fastrnn.to_c(models.Model([x, y], made)))
        session = library.session(c_model)
        others = [np.zeros((*shape, FEATURES), np.float32) for shape in shapes]
        assert library.graph_run(session, c_model, others)[0] == BAD_SHAPE


@pytest.mark.parametrize(
    "stack, sizes",
    [
        ([L.Input((1,)), L.Dense(8), L.Dense(1)], (2**43, 1)),
        ([L.Input((None, 1)), L.LSTM(8, return_sequences=True), L.LSTM(1)], (2**20, 2**23)),
        ([L.Input((1,)), L.RepeatVector(2**20), L.GlobalMaxPooling1D()], (2**26, 1)),
        ([L.Input((None, 1)), L.UpSampling1D(2**13), L.GlobalMaxPooling1D()], (2**13, 2**20)),
    ],
)
def test_more_than_any_memory_is_refused(stack, sizes, library):
    _, c_model = library.read(fastrnn.to_c(models.Sequential(stack)))
    session, x, y = library.session(c_model), np.ones((1, 1)), np.ones((1, 1), np.float32)
    assert library.c.fastrnn_model_output(c_model, *sizes, (ctypes.c_int64 * 3)()) == OK
    arguments = x.ctypes.data, *sizes, None, y.ctypes.data
    assert library.c.fastrnn_run(session, *arguments) == OUT_OF_MEMORY
    assert library.c.fastrnn_run(session, x.ctypes.data, 1, 1, None, y.ctypes.data) == OK


def test_layers_and_weights_are_in_the_file_once():
    x = sequence(64)
    dense = L.Dense(64)
    sizes = [
        len(fastrnn.to_c(models.Model(x, y))) for y in (dense(x), dense(dense(L.Identity()(x))))
    ]
    assert sizes[1] - sizes[0] < 300 < 64 * 64 * 4 < sizes[0]


def test_buffers_are_used_again(library):
    """A long graph takes no more memory than a short one, whose tensors are as many at a time."""

    def memory(length):
        x = sequence(1)
        y = L.Dense(1000)(x)
        for _ in range(length):
            y = L.add([L.Activation("tanh")(y), y])
        _, c_model = library.read(fastrnn.to_c(models.Model(x, L.GlobalMaxPooling1D()(y))))
        session = library.session(c_model)
        before = resident()
        for _ in range(3):
            assert library.graph_run(session, c_model, [np.ones((1, 4000, 1), np.float32)])[0] == OK
        grown = resident() - before
        library.c.fastrnn_session_free(session)
        library.c.fastrnn_model_free(c_model)
        return grown

    memory(1)
    assert memory(40) < 5 * 16e6 + 8e6  # three buffers of 16 MB


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_decoder_runs_step_by_step(library):
    model, (tokens, h, c) = graph_of("decoder_step")
    expected = model.predict([tokens, h, c], verbose=0)
    _, c_model = library.read(fastrnn.to_c(model))
    session, states = library.session(c_model), [h, c]
    for t in range(TIME):
        status, (y, *states) = library.graph_run(session, c_model, [tokens[:, t : t + 1], *states])
        assert status == OK
        close(y[:, 0], expected[0][:, t])
    close(states[0], expected[1])
    close(states[1], expected[2])


def test_streams_of_graphs(library):
    model, (x,) = graph_of("streamed")
    _, c_model = library.read(fastrnn.to_c(model))
    session = library.session(c_model)
    state = np.zeros((3, library.graph(c_model)[2]), np.float32)
    outputs = [library.graph_run(session, c_model, [x[:, t : t + 1]], state) for t in range(TIME)]
    assert [status for status, _ in outputs] == [OK] * TIME
    close(np.concatenate([ys[0] for _, ys in outputs], axis=1), model.predict(x, verbose=0))
    start = sequence()
    y = L.LSTM(FEATURES, return_sequences=True)(start)
    for top in (L.add([y, L.LSTM(FEATURES)(y)]), L.Attention()([y, y]), L.ZeroPadding1D(1)(y)):
        _, c_model = library.read(fastrnn.to_c(models.Model(start, top)))
        assert library.graph(c_model)[2] == -1
    layer = L.GRU(3, return_sequences=True)  # each call has a state of its own
    again = models.Model(start, layer(L.Dense(FEATURES)(layer(start))))
    _, c_model = library.read(fastrnn.to_c(again))
    assert library.graph(c_model)[2] == 6


def test_library_needs_only_libc_and_libm(tmp_path):
    """And has no function at hand that prints or that ends the process."""
    library = tmp_path / "libfastrnn.so"
    make(tmp_path, "SETS=base", "CFLAGS=-O1", library)

    def ask(command):
        return subprocess.check_output([*command.split(), library], text=True)

    needed = re.findall(r"NEEDED.*\[(.*?)\.so", ask("readelf -d"))
    assert set(needed) <= {"libc", "libm"}
    called = re.findall(r" U (\w+)", ask("nm -D --undefined-only"))
    assert "malloc" in called
    assert not [name for name in called if re.search("print|put[cs]|write|exit|abort|assert", name)]
    exported = ask("nm -D --defined-only").splitlines()
    assert exported and all(" T fastrnn_" in line for line in exported)


def test_make_says_where_things_are(build, tmp_path):
    command = ["make", "-s", "-C", CSRC, f"BUILD={build}", f"PREFIX={tmp_path}", "install"]
    made, installed = subprocess.check_output(command, text=True).splitlines()
    files, header = re.fullmatch(r"(.*) are in .*, their header is (.*)", made).groups()
    assert str(build) in made and Path(header).samefile(CSRC / "fastrnn.h")
    assert all((build / name).is_file() for name in re.split(", | and ", files))
    assert installed == f"installed in {tmp_path}/lib and {tmp_path}/include"
    assert (tmp_path / "lib/libfastrnn.so").is_file() and (tmp_path / "include/fastrnn.h").is_file()


@pytest.mark.parametrize("name", ["lstm", "words", "dense"])
def test_example_program(name, build, tmp_path):
    model, x = model_of(name)
    path = tmp_path / "model.fastrnn"
    fastrnn.to_c(model, path)
    command = [build / "run_model", path, str(len(x)), str(x.shape[1] if name != "dense" else 1)]
    run = subprocess.run(command, input=x.tobytes(), capture_output=True, check=True)
    y = np.frombuffer(run.stdout, np.float32)
    close(y, model.predict(x, verbose=0).ravel())
    run = subprocess.run([*command, "--stream"], input=x.tobytes(), capture_output=True)
    if name == "words":
        assert run.returncode == 1 and b"whole sequences" in run.stderr
    else:
        close(np.frombuffer(run.stdout, np.float32), y)
    for bad, words in ((tmp_path, b"cannot be read"), (CSRC / "engine.c", b"not a model")):
        run = subprocess.run([command[0], bad, "1", "1"], input=b"", capture_output=True)
        assert run.returncode == 1 and words in run.stderr


def test_example_program_that_decodes(build, tmp_path):
    source = words()
    _, *states = L.GRU(6, return_state=True)(L.Embedding(10, 8)(source))
    encoder = models.Model(source, [*states, L.Dense(6)(states[0])])
    decoder = GRAPHS["decoder_step"]()
    paths = [str(tmp_path / name) for name in ("encoder", "decoder")]
    for model, path in zip((encoder, decoder), paths, strict=True):
        c_models.throw_weights(c_models.Dice(3), model)
        fastrnn.to_c(model, path)
    given, expected = np.array([[3, 1, 4, 1, 5]], np.int32), []
    states, token = encoder.predict(given, verbose=0), 2
    for _ in range(6):
        y, *states = decoder.predict([np.array([[token]], np.int32), *states], verbose=0)
        expected.append(token := int(y[0, 0].argmax()))
    assert len({*expected}) > 1
    command = [build / "decode", *paths, "2", "-1", "6"]
    run = subprocess.run(command, input=given.tobytes(), capture_output=True, check=True)
    assert np.frombuffer(run.stdout, np.int32).tolist() == expected
    command[4] = str(expected[-1])  # stops before it
    run = subprocess.run(command, input=given.tobytes(), capture_output=True, check=True)
    assert np.frombuffer(run.stdout, np.int32).tolist() == expected[: expected.index(expected[-1])]
    for bad, message in (
        ([paths[1], paths[0]], b"the decoder takes"),
        (["/", paths[1]], b"be read"),
    ):
        run = subprocess.run(
            [build / "decode", *bad, "2", "-1", "6"], input=b"", capture_output=True
        )
        assert run.returncode == 1 and message in run.stderr
    run = subprocess.run(command, input=b"", capture_output=True)
    assert run.returncode == 1 and b"encoder's input" in run.stderr


@pytest.mark.parametrize("name", MODELS)
def test_streams_in_chunks_equal_whole_sequences(name, library):
    model, x = model_of(name)
    _, c_model = library.read(fastrnn.to_c(model))
    session = library.session(c_model)
    size = library.inputs(c_model)[4]
    streamed = name in STREAMED or name in ("masked",)
    assert (size >= 0) == streamed
    if name not in STREAMED:
        state = np.zeros((len(x), max(size, 1)), np.float32)
        assert library.run(session, c_model, x, state)[0] == NOT_STREAMABLE
        return
    expected = model.predict(x, verbose=0)
    state = np.zeros((len(x), size), np.float32)
    if name in ("dense", "one"):
        close(library.run(session, c_model, x, state)[1], expected)
        return
    outputs = []
    for begin, end in ((0, 1), (1, 4), (4, 5), (5, TIME)):
        if begin == 4:  # saved, and put back in another order
            state = np.ascontiguousarray(state.copy()[::-1])
            status, y = library.run(session, c_model, x[::-1, begin:end], state)
            state, y = np.ascontiguousarray(state[::-1]), y[::-1]
        else:
            status, y = library.run(session, c_model, x[:, begin:end], state)
        assert status == OK
        outputs.append(y)
    close(np.concatenate(outputs, axis=1) if expected.ndim == 3 else outputs[-1], expected)


def test_many_threads_share_a_model(library):
    model, x = model_of("words")
    expected = model.predict(x, verbose=0)
    _, c_model = library.read(fastrnn.to_c(model))
    wrong = []

    def serve():
        session = library.session(c_model)
        for n in range(200):
            rows = x[: 1 + n % 3]
            status, y = library.run(session, c_model, rows)
            if status != OK or not np.allclose(y, expected[: len(rows)], atol=2e-6):
                wrong.append((n, status))
        library.c.fastrnn_session_free(session)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_threads_are_set_while_models_run(library):
    model, _ = model_of("lstm")
    x = np.random.default_rng(0).standard_normal((64, 90, *model.input_shape[2:]), np.float32)
    expected = model.predict(x, verbose=0)
    _, c_model = library.read(fastrnn.to_c(model))
    done = threading.Event()

    def set_threads():
        for n in itertools.count():
            library.c.fastrnn_set_threads(1 + n % 8)
            if done.is_set():
                break

    thread = threading.Thread(target=set_threads)
    thread.start()
    try:
        session = library.session(c_model)
        for rows in (64, 3, 64, 17) * 25:
            status, y = library.run(session, c_model, x[:rows])
            assert status == OK
            close(y, expected[:rows])
    finally:
        done.set()
        thread.join()
        library.c.fastrnn_set_threads(1)
    library.c.fastrnn_session_free(session)


def test_statuses(library, tmp_path):
    c = library.c
    model, x = model_of("words")
    data = fastrnn.to_c(model)
    _, c_model = library.read(data)
    session = library.session(c_model)
    assert c.fastrnn_check_abi(1) == OK and c.fastrnn_check_abi(2) == WRONG_ABI
    assert library.run(session, c_model, x + 10)[0] == BAD_INDEX
    assert library.run(session, c_model, x[:0])[0] == BAD_SHAPE
    assert c.fastrnn_run(session, None, 1, 1, None, None) == BAD_ARGUMENT
    assert c.fastrnn_run(None, None, 1, 1, None, None) == BAD_ARGUMENT
    for sizes in ((2**40, 2**20), (1, 2**63 - 1), (2**63 - 1, 1), (2**63 - 1,) * 2, (-(2**63), 1)):
        assert c.fastrnn_model_output(c_model, *sizes, (ctypes.c_int64 * 3)()) == BAD_SHAPE
    assert c.fastrnn_set_threads(0) == BAD_ARGUMENT
    assert c.fastrnn_set_isa(b"z80") == BAD_ARGUMENT
    found = ctypes.c_void_p(1)
    missing = str(tmp_path / "none").encode()
    assert c.fastrnn_model_load(ctypes.byref(found), missing) == CANNOT_READ and not found
    assert c.fastrnn_set_isa(b"base") == OK
    expected = OTHER_ISA if fastrnn._engine.available_isas()[0] != "base" else OK
    assert library.run(session, c_model, x)[0] == expected
    c.fastrnn_set_isa(fastrnn._engine.available_isas()[0].encode())
    assert library.run(session, c_model, x)[0] == OK
    texts = {c.fastrnn_status_text(n) for n in range(13)}
    assert len(texts) == 13 and c.fastrnn_status_text(-1) == b"unknown status"
    model, x = model_of("encoder")  # its Flatten is of repeated steps
    _, c_model = library.read(fastrnn.to_c(model))
    assert library.run(library.session(c_model), c_model, x[:, :3])[0] == OK
    model = models.Sequential([L.LSTM(2, return_sequences=True), L.Flatten()])
    model.build(x.shape)
    _, c_model = library.read(fastrnn.to_c(model))
    assert library.inputs(c_model)[3] == TIME
    assert library.run(library.session(c_model), c_model, x[:, :3])[0] == BAD_SHAPE


@pytest.mark.parametrize("name", ["lstm", "decoder_step"])
def test_damaged_files_are_refused(name, library):
    data = file_of(name)
    for size in range(0, len(data), 5):
        assert library.read(data[:size])[0] == NOT_A_MODEL
    for at in range(0, len(data), 3):
        changed = bytearray(data)
        changed[at] ^= 4
        assert library.read(bytes(changed))[0] in (NOT_A_MODEL, TOO_NEW)
    later = data[:8] + struct.pack("<I", 3) + data[12:]
    assert library.read(later)[0] == TOO_NEW
    body = data[16:24] + struct.pack("<I", 9) + data[28:]  # more layers than there are
    assert library.read(data[:12] + struct.pack("<I", zlib.crc32(body)) + body)[0] == NOT_A_MODEL


@pytest.mark.parametrize(
    "name, at, kind, value",
    [
        ("words", 32, "q", 64),  # features of indices
        ("words", 32, "q", 0),
        ("words", 28, "I", 2),  # sequences, but no indices, to an Embedding
        ("dense", 28, "I", 1),  # indices without an Embedding
        ("dense", 40, "q", 7),  # time steps without sequences
        ("dense", 48 + 24, "q", 2),  # of Dense: is there a bias?
        ("dense", 48 + 32, "q", 1),  # a number that it has no use for
        ("words", 48 + 24, "q", -1),  # mask_zero
        ("flat", 40, "q", 0),  # free time steps that Flatten fixes
        ("flat", 40, "q", TIME - 1),
        ("flat", 48 + 8, "q", TIME + 1),
        ("both", 48 + 64 + 40, "q", 8 | 1 | 2),  # both directions backwards
        ("both", 48 + 64 + 40, "q", 8),  # one returns sequences, the other does not
    ],
)
def test_files_that_contradict_themselves_are_refused(name, at, kind, value, library):
    if name in MODELS:
        data = fastrnn.to_c(model_of(name)[0])
    else:
        both = L.Bidirectional(L.SimpleRNN(2, return_sequences=True))
        model = models.Sequential([{"flat": L.Flatten(), "both": both}[name]])
        model.build((None, TIME, FEATURES))
        data = fastrnn.to_c(model)
    assert library.read(data)[0] == OK
    assert struct.unpack_from(f"<{kind}", data, at)[0] != value
    changed = bytearray(data)
    struct.pack_into(f"<{kind}", changed, at, value)
    struct.pack_into("<I", changed, 12, zlib.crc32(changed[16:]))
    assert library.read(bytes(changed))[0] == NOT_A_MODEL


@pytest.mark.parametrize("layer", [L.LSTM, L.GRU, L.SimpleRNN])
def test_no_state_and_zeros_are_one_where_a_weight_is_infinite(layer, library, each_isa):
    model = models.Sequential([layer(5, return_sequences=True)])
    model.build((None, 3, FEATURES))
    kernel, recurrent, *bias = model.get_weights()
    recurrent[2, 1] = np.inf
    model.set_weights([kernel, recurrent, *bias])
    x = np.random.default_rng(0).normal(size=(2, 3, FEATURES)).astype(np.float32)
    _, c_model = library.read(fastrnn.to_c(model))
    session = library.session(c_model)
    state = np.zeros((2, library.inputs(c_model)[4]), np.float32)
    expected = model.predict(x, verbose=0)
    for y in (expected, *(library.run(session, c_model, x, s)[1] for s in (None, state))):
        assert np.isnan(y[:, 0, 1]).all() and np.isnan(y[:, 1:]).all()  # 0 * inf, as in Keras
        assert np.isfinite(y[:, 0, [0, 2, 3, 4]]).all()
        np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_a_refused_call_leaves_the_state(library):
    stack = [L.LSTM(3, "relu", return_sequences=True), L.Masking(), L.LSTM(2)]
    model = models.Sequential(stack)
    model.build((None, TIME, FEATURES))
    weights = model.get_weights()
    weights[2][:] = [0] * 3 + [1] * 3 + [-90] * 3 + [0] * 3  # its outputs are 0: padding
    model.set_weights(weights)
    _, c_model = library.read(fastrnn.to_c(model))
    state = np.ones((2, library.inputs(c_model)[4]), np.float32)
    x = np.full((2, TIME, FEATURES), 0.1, np.float32)
    state[:, :6] = 0
    before = state.copy()
    assert library.run(library.session(c_model), c_model, x, state)[0] == NOT_STREAMABLE
    np.testing.assert_array_equal(state, before)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """Folder of fuzz_model, run_models and short_memory under sanitizers."""
    folder = tmp_path_factory.mktemp("sanitized")
    flags = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    probe = subprocess.run(
        ["cc", *flags.split(), "-x", "c", "-", "-o", folder / "probe"],
        input=b"int main(void) { return 0; }", capture_output=True,
    )  # fmt: skip
    if probe.returncode:
        pytest.skip("the C compiler has no sanitizers")
    programs = [f"{folder}/{name}" for name in ("fuzz_model", "run_models", "short_memory")]
    programs.append(f"{folder}/run_model")
    return make(folder, f"CFLAGS={flags}", "SETS=base", *programs)


@pytest.mark.parametrize("name", [*MODELS, *GRAPHS])
def test_damaged_files_under_sanitizers(name, sanitized, tmp_path):
    path = tmp_path / "model.fastrnn"
    path.write_bytes(file_of(name))
    run = subprocess.run(
        [sanitized / "fuzz_model", path, "500"], capture_output=True, text=True,
        env={**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    refused, ran = (int(part.split()[-1]) for part in run.stdout.split(","))
    assert refused > 50 and ran > 10


def run_models(sanitized, path):
    run = subprocess.run(
        [sanitized / "run_models", path], capture_output=True, text=True,
        env={**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return [int(part.split()[-1]) for part in run.stdout.split(",")]


def test_random_models_under_sanitizers(sanitized, tmp_path):
    """Whole, in parts and step by step; .ci/sanitize runs more of them."""
    path = tmp_path / "models"
    assert c_models.write(path, 150) > 130
    count, streams, padded = run_models(sanitized, path)
    assert count == 150 and streams > 50 and padded > 5


ROWS_GROW = {
    "masked": (SEQUENCE, [L.LSTM(4), L.RepeatVector(20000), L.Masking(0.0), L.LSTM(2)]),
    "masked vector": (VECTOR, [L.RepeatVector(20000), L.Masking(0.0)]),
    "twice": (
        VECTOR,
        [L.RepeatVector(900), L.GRU(3), L.RepeatVector(9000), L.Masking(0.0), L.GRU(2)],
    ),
    "both ways": (VECTOR, [L.RepeatVector(900), L.Masking(0.0), L.Bidirectional(L.LSTM(20))]),
    "wide": (
        INDICES,
        [L.Embedding(9, 2, mask_zero=True), L.LSTM(300), L.RepeatVector(50), L.LSTM(90)],
    ),
}


def test_models_whose_rows_grow_under_sanitizers(sanitized, tmp_path):
    for name, (shape, stack) in ROWS_GROW.items():
        model = models.Sequential(stack)
        model.build((None, TIME) if shape is INDICES else (None, *(n or TIME for n in shape)))
        x = np.zeros((2, *model.input_shape[1:]), np.int32 if shape is INDICES else np.float32)
        x[0] = 1
        path = tmp_path / "model.fastrnn"
        fastrnn.to_c(model, path)
        steps = str(x.shape[1] if x.ndim + (shape is INDICES) == 3 else 1)
        command = [sanitized / "run_model", path, str(len(x)), steps]  # the example
        run = subprocess.run(command, input=x.tobytes(), capture_output=True)
        assert run.returncode == 0, run.stderr
        expected = model.predict(x, verbose=0).ravel()
        close(np.frombuffer(run.stdout, np.float32), expected)
        for rows in (x, x[:1, :1] if len(shape) == 2 and x.ndim == 3 else x[:1]):
            path = tmp_path / "models"
            path.write_bytes(c_models.entry(model, rows, masks=True)[0])
            assert run_models(sanitized, path)[0] == 1, name


def test_random_models_have_every_layer_that_the_library_takes():
    taken = {name[1:] for name in vars(c_export._Writer) if name[1:] in L.CLASSES}
    recurrent = {
        n
        for n, cls in L.CLASSES.items()
        if issubclass(cls, c_export.Recurrent) and getattr(cls, "cell", True)
    }
    assert {*c_models.KINDS, "Embedding", "InputLayer"} == taken | recurrent
    more = {name[1:] for name in vars(c_export._Calls) if name[1:] in L.CLASSES} - {"Embedding"}
    assert c_models.GRAPH_KINDS.keys() - {"states"} == more == c_export.OF_GRAPHS


@pytest.mark.parametrize("name", [*MODELS, *GRAPHS])
def test_allocations_that_fail(name, sanitized, tmp_path):
    """One after another; the session and the model go on."""
    path = tmp_path / "model.fastrnn"
    path.write_bytes(file_of(name))
    run = subprocess.run([sanitized / "short_memory", path], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout) >= 4


def test_layers_without_a_place_in_the_library_are_named():
    for layer, words in (
        (L.Conv1D(3, 2, name="window"), "'window'.*Conv1D"),
        (L.DepthwiseConv1D(2, name="deep"), "'deep'.*DepthwiseConv1D"),
        (L.SeparableConv1D(3, 2, name="apart"), "'apart'.*SeparableConv1D"),
        (L.Conv1DTranspose(3, 2, name="up"), "'up'.*Conv1DTranspose"),
        (L.Flatten("channels_first", name="flat"), "'flat'.*channels last"),
        (L.Dense(3, "gelu", name="odd"), "'odd'.*gelu"),
        (L.LSTM(3, stateful=True, name="kept"), "'kept'.*state"),
        (L.Permute((1, 2), name="order"), r"'order'.*\(2, 1\)"),
        (L.ZeroPadding1D(1, "channels_first", name="padded"), "'padded'.*channels last"),
    ):
        model = models.Sequential([layer])
        model.build((2, TIME, FEATURES))
        with pytest.raises(ValueError, match=words):
            fastrnn.to_c(model)
    with pytest.raises(ValueError, match="expected a Sequential"):
        fastrnn.to_c(3)


def test_calls_without_a_place_in_the_library_are_named():
    x, index = sequence(), words()
    masked, mask = L.Masking()(x), L.Input((None,), dtype="bool")
    for inputs, output, words_ in (
        (x, L.Conv1D(3, 2, name="window")(L.add([x, x])), "'window'.*Conv1D"),
        (x, L.Softmax(name="shares")(L.add([masked, masked])), "'shares'.*no mask"),
        (x, L.Concatenate(axis=0, name="batches")([x, x]), "'batches'.*batch"),
        (x, L.MultiHeadAttention(1, 2, use_gate=True, name="gated")(x, x), "'gated'.*use_gate"),
        (
            x,
            L.MultiHeadAttention(1, 2, name="scored")(x, x, return_attention_scores=True),
            "'scored'.*outputs of shape",
        ),
        (x, L.Embedding(4, 2, name="rows")(L.LSTM(2)(x)), "'rows'.*input of the model"),
        (
            x,
            L.Embedding(4, 2, name="sums")(L.add([h := L.LSTM(2)(x), h])),
            "'sums'.*input of the model",
        ),
        (x, L.Reshape((-1, 2), name="turned")(L.add([x, x])), "'turned'.*fixed sizes"),
        (index, [L.Embedding(4, 2)(index), L.Softmax()(index)], "as indices"),
        (index, [L.Embedding(4, 2)(index), index], "an input of indices"),
        (x, L.LSTM(2, stateful=True, name="kept")(L.add([x, x])), "'kept'.*state"),
        (x, L.add([L.Dropout(0.5, name="drops")(x, training=True), x]), "'drops'.*training=True"),
        (
            [x, mask],
            L.LSTM(2, name="told")(L.add([x, x]), mask=mask),
            "'told'.*mask=",
        ),
    ):
        with pytest.raises(ValueError, match=words_):
            fastrnn.to_c(models.Model(inputs, output))
    four = L.Input((2, 3, 4), name="image")
    with pytest.raises(ValueError, match="'image' is of shape"):
        fastrnn.to_c(models.Model([four, x], [four, L.Dense(1)(x)]))
