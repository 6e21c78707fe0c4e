"""A one-hot input below a recurrent layer: rows of W are picked, not multiplied."""

import numpy as np
import pytest

import fastrnn
from fastrnn import _engine
from fastrnn import layers as L
from fastrnn.layers import recurrent
from fastrnn.training import loss_and_gradients

CLASSES, UNITS = 40, 6
LAYERS = {
    "LSTM": lambda: L.LSTM(UNITS, return_sequences=True),
    "GRU": lambda: L.GRU(UNITS, return_sequences=True),
    "SimpleRNN": lambda: L.SimpleRNN(UNITS, return_sequences=True, go_backwards=True),
    "both ways": lambda: L.Bidirectional(L.LSTM(UNITS, return_sequences=True)),
    "sum": lambda: L.Bidirectional(L.GRU(UNITS, return_sequences=True), "sum"),
    "cells": lambda: L.RNN([L.LSTMCell(UNITS), L.GRUCell(UNITS)], return_sequences=True),
    "dropout": lambda: L.LSTM(UNITS, return_sequences=True, dropout=0.3),
    "activation": lambda: L.LSTM(UNITS, "softsign", return_sequences=True),
}


@pytest.fixture
def x(rng):
    x = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, (16, 12))]
    x[3, 7:] = 0
    return x


def network(*layers):
    fastrnn.utils.set_random_seed(3)
    model = fastrnn.Sequential([L.Input((None, CLASSES)), *layers, L.Dense(2)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("name", LAYERS)
def test_results_are_those_of_products(name, x, rng, monkeypatch):
    y = rng.normal(size=(16, 12, 2)).astype(np.float32)
    results = []
    for most in (1024, 0):
        monkeypatch.setattr(recurrent, "MOST_CLASSES", most)
        model = network(LAYERS[name](), L.LSTM(3, return_sequences=True))
        outputs = [
            model.predict(x, verbose=0), model.predict(x[:1], verbose=0), model(x),
            model.compile_inference()(x), model.evaluate(x, y, verbose=0),
            *[model.train_on_batch(x, y) for _ in range(3)],
        ]  # fmt: skip
        results.append((outputs, [weight.gradient for weight in model.trainable_weights]))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert np.abs(one - other).max() < 1e-4 * np.abs(other).max()


def test_only_inputs_whose_gradient_nobody_wants(x, ways):
    y = np.zeros((16, 12, 2))
    plain = lambda: L.LSTM(UNITS, return_sequences=True)  # noqa: E731
    for layers, expected in [
        ([plain()], [True]),
        ([L.Dense(CLASSES), plain()], []),
        ([L.Activation("linear"), plain()], []),
    ]:
        del ways[:]
        network(*layers).train_on_batch(x, y)
        assert ways == expected
    model = network(plain())
    del ways[:]
    _, _, dx = loss_and_gradients(model, x, y)
    assert ways == [] and np.abs(dx).max() > 0
    inner = network(plain())
    outer = fastrnn.Sequential([L.Input((None, CLASSES)), inner])
    outer.compile("sgd", "mse")
    outer.train_on_batch(x, y)
    assert ways == []
    other = x.copy()
    other[-1, -1, 0] = 0.5
    model.train_on_batch(other, y)
    assert ways == []


def test_a_predictor_takes_both_kinds_in_turns(x, rng):
    model = network(L.LSTM(UNITS, return_sequences=True), L.GRU(3))
    predictor = model.compile_inference()
    for _ in range(4):
        dense = rng.normal(size=x.shape).astype(np.float32)
        for batch in (x, dense):
            np.testing.assert_allclose(predictor(batch), model(batch), atol=1e-6)
    model.set_weights([2 * weight for weight in model.get_weights()])
    np.testing.assert_allclose(predictor(x), model(x), atol=1e-6)


def test_states_streams_and_masks(x):
    model = network(L.LSTM(UNITS, return_sequences=True))
    expected = model.predict(x, verbose=0)
    stream = model.stream(len(x))
    for t in range(x.shape[1]):
        np.testing.assert_allclose(stream(x[:, t]), expected[:, t], atol=1e-6)
    first = L.Input((None, CLASSES))
    state = L.Input((UNITS,))
    y, h, c = L.LSTM(UNITS, return_sequences=True, return_state=True)(
        first, initial_state=[state, state]
    )
    model = fastrnn.Model([first, state], [y, h, c])
    zeros = np.zeros((16, UNITS), np.float32)
    dense = x.copy()
    dense[0, 0] = 0.1
    halves = []
    for batch in (x, dense):
        states = model.predict([batch[:, :5], zeros], verbose=0)
        halves.append([part[1:] for part in states])
    for one, other in zip(*halves, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_shared_by_two_layers(x, ways):
    start = L.Input((None, CLASSES))
    both = [L.LSTM(UNITS)(start), L.GRU(UNITS)(start)]
    model = fastrnn.Model(start, L.Dense(1)(L.Concatenate()(both)))
    model.compile("sgd", "mse")
    model.train_on_batch(x, np.zeros((16, 1)))
    assert ways == [True, True]
    seen = fastrnn.Model(start, [L.LSTM(UNITS)(start), start])
    seen.compile("sgd", ["mse", "mse"])
    seen.train_on_batch(x, [np.zeros((16, UNITS)), x])
    assert ways == [True, True]


@pytest.mark.parametrize("features", [1, 15, 16, 17, 33])
def test_what_is_one_hot(features, rng):
    places = rng.integers(0, features + 1, (5, 4)).astype(np.int32)
    x = np.eye(features + 1, features, dtype=np.float32)[places]
    index = np.empty((5, 4), np.int32)
    assert _engine.one_hot(index, x)
    np.testing.assert_array_equal(index, places)
    for value in (0.5, -1, 2, np.nan, np.inf, -0.0, 1e-45):
        other = x.copy()
        other[4, 3, -1] = value
        assert not _engine.one_hot(index, other)
    if features > 1:
        x[2, 1, [0, -1]] = 1
        assert not _engine.one_hot(index, x)
    assert not _engine.one_hot(np.empty((0, 4), np.int32), x[:0])


def test_not_what_it_takes(rng):
    x = np.zeros((3, 2), np.float32)
    for index, value in [
        (np.empty(3, np.int64), x), (np.empty(6, np.int32)[::2], x), (np.empty(4, np.int32), x),
        (np.empty(3, np.int32), x.astype(np.float64)), ([0, 0, 0], x), (np.empty(3, np.int32), x.T),
        (np.empty(3, np.int32), np.float32(1)), (np.empty(3, np.int32), None),
    ]:  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            _engine.one_hot(index, value)
