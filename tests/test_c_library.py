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
OK, BAD_ARGUMENT, CANNOT_READ, NOT_A_MODEL, TOO_NEW = range(5)
BAD_SHAPE, BAD_INDEX, NOT_STREAMABLE, WRONG_ABI, OTHER_ISA = range(6, 11)

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
        self.c.fastrnn_model_input.argtypes = [ctypes.c_void_p] * 2

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
    for bad, words in ((tmp_path, b"cannot be read"), (CSRC / "model.c", b"not a model")):
        run = subprocess.run([command[0], bad, "1", "1"], input=b"", capture_output=True)
        assert run.returncode == 1 and words in run.stderr


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
    texts = {c.fastrnn_status_text(n) for n in range(12)}
    assert len(texts) == 12 and c.fastrnn_status_text(-1) == b"unknown status"
    model, x = model_of("encoder")  # its Flatten is of repeated steps
    _, c_model = library.read(fastrnn.to_c(model))
    assert library.run(library.session(c_model), c_model, x[:, :3])[0] == OK
    model = models.Sequential([L.LSTM(2, return_sequences=True), L.Flatten()])
    model.build(x.shape)
    _, c_model = library.read(fastrnn.to_c(model))
    assert library.inputs(c_model)[3] == TIME
    assert library.run(library.session(c_model), c_model, x[:, :3])[0] == BAD_SHAPE


def test_damaged_files_are_refused(library):
    data = fastrnn.to_c(model_of("lstm")[0])
    for size in range(0, len(data), 5):
        assert library.read(data[:size])[0] == NOT_A_MODEL
    for at in range(0, len(data), 3):
        changed = bytearray(data)
        changed[at] ^= 4
        assert library.read(bytes(changed))[0] in (NOT_A_MODEL, TOO_NEW)
    later = data[:8] + struct.pack("<I", 2) + data[12:]
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


@pytest.mark.parametrize("name", MODELS)
def test_damaged_files_under_sanitizers(name, sanitized, tmp_path):
    path = tmp_path / "model.fastrnn"
    fastrnn.to_c(model_of(name)[0], path)
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


@pytest.mark.parametrize("name", MODELS)
def test_allocations_that_fail(name, sanitized, tmp_path):
    """One after another; the session and the model go on."""
    path = tmp_path / "model.fastrnn"
    fastrnn.to_c(model_of(name)[0], path)
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
        (L.Bidirectional(L.LSTM(3), merge_mode=None, name="two"), "'two'.*several outputs"),
    ):
        model = models.Sequential([layer])
        model.build((2, TIME, FEATURES))
        with pytest.raises(ValueError, match=words):
            fastrnn.to_c(model)
    with pytest.raises(ValueError, match="expected a Sequential"):
        fastrnn.to_c(3)
