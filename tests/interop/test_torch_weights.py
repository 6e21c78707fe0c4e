"""from_torch on state dicts and .safetensors files, which needs no PyTorch."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import layers as L

UNITS, FEATURES = 3, 4


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def state_dict(rng, gates):
    shapes = {
        "words.weight": (9, FEATURES),
        "rnn.weight_ih_l0": (gates * UNITS, FEATURES),
        "rnn.weight_hh_l0": (gates * UNITS, UNITS),
        "rnn.bias_ih_l0": (gates * UNITS,),
        "rnn.bias_hh_l0": (gates * UNITS,),
        "head.weight": (2, UNITS),
        "head.bias": (2,),
    }
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def network(kind):
    return [("words", "Embedding"), ("rnn", kind), ("head", "Linear"), L.Activation("tanh")]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_definitions(kind, rng):
    """The formulas of nn.LSTM's, nn.GRU's and nn.RNN's pages, in float64."""
    state = state_dict(rng, {"LSTM": 4, "GRU": 3, "RNN": 1}[kind])
    words, w, u, b, c, head, head_bias = (a.astype(np.float64) for a in state.values())
    ids = rng.integers(0, 9, (5, 6))
    h, cell, ys = np.zeros((5, UNITS)), np.zeros((5, UNITS)), []
    for t in range(ids.shape[1]):
        x, of_h = words[ids[:, t]] @ w.T + b, h @ u.T + c
        if kind == "LSTM":
            i, f, g, o = np.split(x + of_h, 4, axis=1)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(cell)
        elif kind == "GRU":
            (r, z, n), (r_h, z_h, n_h) = np.split(x, 3, axis=1), np.split(of_h, 3, axis=1)
            z = sigmoid(z + z_h)
            h = (1 - z) * np.tanh(n + sigmoid(r + r_h) * n_h) + z * h
        else:
            h = np.tanh(x + of_h)
        ys.append(np.tanh(h @ head.T + head_bias))
    model = fastrnn.from_torch(state, network(kind))
    y = model.predict(ids, verbose=0)
    np.testing.assert_allclose(y, np.stack(ys, axis=1), rtol=1e-5, atol=1e-5)
    model = fastrnn.from_torch(state, network(kind), return_sequences=False)
    np.testing.assert_allclose(model.predict(ids, verbose=0), ys[-1], rtol=1e-5, atol=1e-5)


def test_no_pickle_is_read(tmp_path):
    """A pickle that would only set a mark when it is loaded."""

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "mark"), "w")

    for name in ("model.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
        with pytest.raises(ValueError, match=name):
            fastrnn.from_torch(tmp_path / name, network("LSTM"))
    assert not (tmp_path / "mark").exists()


def test_what_is_refused():
    linear = {"weight": np.ones((3, 2)), "bias": np.ones(3)}
    for arguments, words in (
        ((linear,), "layers: expected a list"),
        ((linear, [("", "Evil")]), "received.*Evil"),
        ((linear, [("other", "Linear")]), "'other.weight'"),
        ((linear, []), "no layer takes.*bias.*; strict=False leaves them out"),
        (({"net.weight": np.ones((3, 2))}, [("", "Linear")]), "did you mean the prefix net.?"),
        (({"module.rnn.weight_ih_l0": np.ones((3, 2))}, [("rnn", "RNN")]), "prefix module.rnn?"),
        ((linear, [fastrnn.layers.Dense(3)]), r"expected a pair \(prefix, 'Linear'\) for a layer"),
        (({"epoch": 1, "model_state": linear}, None), r"pass checkpoint\['model_state'\]"),
        (({**linear, "bias": np.full(3, 1e300)}, [("", "Linear")]), "float32 can hold for 'bias'"),
        (({"weight": np.ones(3)}, [("", "Linear")]), "2 axes"),
        (({**linear, "bias": np.ones(4)}, [("", "Linear")]), "shape"),
        (({"weight": np.array([["a"]])}, [("", "Linear")]), "numbers in 'weight'"),
        (({"weight_hr_l0": np.ones((2, 2))}, [("", "LSTM")]), "proj_size"),
        ((3,), "module: expected"),
    ):
        with pytest.raises(ValueError, match=words):
            fastrnn.from_torch(*arguments)


def test_weights_left_out():
    linear = {"a.weight": np.ones((3, 2)), "a.bias": np.ones(3), "b.weight": np.ones((9, 9))}
    model = fastrnn.from_torch(linear, [("a", "Linear")], strict=False)
    np.testing.assert_array_equal(model.predict(np.ones((1, 2)), verbose=0), np.full((1, 3), 3.0))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    safetensors = pytest.importorskip(
        "safetensors.numpy", reason="needs safetensors: pip install 'fastrnn[files]'"
    )
    state = state_dict(np.random.default_rng(1), 4)
    return tmp_path_factory.mktemp("torch") / "net.safetensors", safetensors.save(state)


def test_safetensors(file, rng):
    path, content = file
    path.write_bytes(content)
    ids = rng.integers(0, 9, (5, 6))
    state = state_dict(np.random.default_rng(1), 4)
    np.testing.assert_array_equal(
        fastrnn.from_torch(path, network("LSTM")).predict(ids, verbose=0),
        fastrnn.from_torch(state, network("LSTM")).predict(ids, verbose=0),
    )


@settings(max_examples=1000)
@given(st.data())
def test_mutated_safetensors(file, data):
    """A changed number may pass; anything else is a ValueError."""
    path, content = file
    content = bytearray(content)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            place = data.draw(st.integers(0, min(len(content), 700) - 1))
            content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        model = fastrnn.from_torch(path, network("LSTM"))
    except ValueError as error:
        assert str(error)
    else:
        assert len(model.layers) == 4
