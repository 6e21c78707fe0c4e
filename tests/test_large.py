"""Long sequences, wide layers, and tensors of more than 2^31 elements.

Such a tensor is a mapping of pages that exist only once written: what is read of the rest is one
page of zeros. bench/endurance.py has the cases that need the memory."""

import mmap
import sys

import numpy as np
import oracle
import pytest

import fastrnn
from fastrnn import _engine
from fastrnn import layers as L

MANY = 2**31
linux = pytest.mark.skipif(sys.platform != "linux", reason="maps more memory than there is")


def sparse_zeros(*shape):
    """Zeros, float32, that take no memory until they are written."""
    NORESERVE = 0x4000
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    memory = mmap.mmap(-1, 4 * int(np.prod(shape, dtype=np.int64)), flags=flags)
    return np.frombuffer(memory, np.float32).reshape(shape)


def test_a_hundred_thousand_steps(rng):
    steps, units = 100_000, 12
    model = fastrnn.Sequential(
        [
            fastrnn.Input((None, 2)),
            L.Bidirectional(L.LSTM(units, return_sequences=True), merge_mode="sum"),
        ]
    )
    x = rng.standard_normal((1, steps, 2)).astype(np.float32)
    y = model.predict(x, verbose=0)
    assert y.shape == (1, steps, units)
    weights = [w.astype(np.float64) for w in model.get_weights()]
    # The state forgets: the ends agree with the oracle on 300 steps.
    one, two = x[:, :300].astype(np.float64), x[:, -300:].astype(np.float64)
    for part, shown in ((one, y[:, :100]), (two, y[:, -100:])):
        forward = oracle.lstm_forward(part, *weights[:3])[0]
        backward = oracle.lstm_forward(part[:, ::-1], *weights[3:])[0][:, ::-1]
        keep = slice(0, 100) if part is one else slice(-100, None)
        np.testing.assert_allclose(shown, (forward + backward)[:, keep], atol=2e-6)
    model.compile("adam", "mse")
    target = np.zeros_like(y)
    before = model.evaluate(x, target, verbose=0)
    after = [model.train_on_batch(x, target) for _ in range(2)]
    assert before > after[1] > 0


def test_four_thousand_units(rng):
    units, features = 4096, 3
    kernel = rng.standard_normal((features, 4 * units), np.float32)
    recurrent = rng.standard_normal((units, 4 * units), np.float32)
    recurrent *= np.float32(units**-0.5)
    packed = _engine.PackedRNN(features, units)
    packed.pack(kernel, recurrent)
    x = rng.standard_normal((1, 3, features), np.float32)
    y = np.empty((1, 3, units), np.float32)
    run = _engine.RNNRun()
    run.set_direction(0, packed, 3, 2, x, y=y)
    run.forward()
    h = c = np.zeros((1, units))
    for t in range(3):
        z = x[:, t].astype(np.float64) @ kernel
        z += np.concatenate([h @ recurrent[:, j : j + 2048] for j in range(0, 4 * units, 2048)], 1)
        i, f, g, o = np.split(z, 4, axis=1)
        c = oracle.sigmoid(f) * c + oracle.sigmoid(i) * np.tanh(g)
        h = oracle.sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(y[:, t], h, atol=1e-5)


@linux
def test_a_batch_of_more_than_2_31_elements():
    x = sparse_zeros(MANY // 2**14 + 1, 1, 2**14)
    model = fastrnn.Sequential([fastrnn.Input((1, 2**14)), L.LSTM(2)])
    model.set_weights([w * 0 + 0.01 * (w.ndim > 1) for w in model.get_weights()])
    x[-1] = 1
    y = model.predict(x, batch_size=len(x), verbose=0)
    assert x.size > MANY and y.shape == (len(x), 2)
    np.testing.assert_array_equal(y[:-1], 0)
    np.testing.assert_allclose(y[-1], np.tanh(1), rtol=1e-5)  # all gates open


@linux
@pytest.mark.parametrize("axis", ["batch", "time"])
def test_rows_and_steps_far_apart(rng, axis):
    """x and y are views whose elements lie more than 2^31 apart, forward and backward."""
    shape = (2, 3) if axis == "batch" else (3, 2)
    x, y, dy, dx = (sparse_zeros(2, MANY // 16 + 3, 20) for _ in range(4))
    if axis == "time":
        x, y, dy, dx = (a[:, :3].swapaxes(0, 1) for a in (x, y, dy, dx))
    else:
        x, y, dy, dx = (a[:, :3] for a in (x, y, dy, dx))
    x[...], dy[...] = rng.standard_normal((2, *shape, 20), np.float32)
    kernel, recurrent = rng.standard_normal((2, 20, 80), np.float32)
    packed = _engine.PackedRNN(20, 20)
    packed.pack(kernel, recurrent, None, True, True)
    results = []
    for a in ((x, y, dy, dx), [np.ascontiguousarray(a) for a in (x, y, dy, dx)]):
        run = _engine.RNNRun()
        run.set_direction(0, packed, 3, 2, a[0], y=a[1])
        run.forward(True)
        gradients = np.empty_like(kernel), np.empty_like(recurrent)
        run.set_gradients(0, *gradients, dy=a[2], dx=a[3])
        run.backward()
        results.append([a[1], a[3], *gradients])
    assert max(map(abs, x.strides)) // 4 > MANY
    for far, near in zip(*results, strict=True):
        np.testing.assert_array_equal(far, near)


@linux
def test_an_embedding_table_of_more_than_2_31_elements():
    table = sparse_zeros(MANY // 16 + 2, 16)
    table[-1] = 7
    y = np.empty((2, 16), np.float32)
    _engine.embedding_forward(y, table, np.array([len(table) - 1, 5], np.int32))
    np.testing.assert_array_equal(y[:, 3], [7, 0])


@linux
@pytest.mark.parametrize("rule", ["sgd", "adam", "rmsprop"])
def test_an_update_beyond_2_31_elements(rule):
    size = MANY + 64
    values, gradients, *slots = (sparse_zeros(size) for _ in range(4))
    gradients[-40:] = 1
    slots = [*slots, None]
    shares = {"new_gradient": 0.5, "new_square": 0.5}
    update = _engine.Update(rule, values, gradients, slots, epsilon=1e-7, **shares)
    update.step(0.25, begin=MANY, end=size - 8)
    assert not values[-8:].any() and not values[MANY : size - 40].any()
    changed = values[size - 40 : size - 8]
    assert (changed < 0).all() and (changed == changed[0]).all()


def test_what_cannot_be_indexed_is_refused():
    with pytest.raises(ValueError, match="indices of 32 bits"):
        fastrnn.Sequential([L.Embedding(9, 2)]).predict(np.array([[2**31]]), verbose=0)
    model = fastrnn.Sequential([fastrnn.Input((2, 3)), L.LSTM(4)])
    with pytest.raises(MemoryError):
        model.predict(np.broadcast_to(np.float64(0), (2**45, 2, 3)), verbose=0)
