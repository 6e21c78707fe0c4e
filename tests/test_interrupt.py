"""Long kernels: a signal is heard in their midst; threads that lose their CPUs are no hold-up."""

import signal
import sys

import children
import numpy as np
import pytest

from fastrnn import _engine

if not hasattr(signal, "setitimer"):
    pytest.skip("this system has no interval timers", allow_module_level=True)


class Alarm(Exception):
    pass


@pytest.fixture
def interrupted():
    """Runs a call of some tenths of a second, with a signal after 20 ms; it must not finish."""

    def ring(number, frame):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)

    def run(call):
        finished = False
        with pytest.raises(Alarm):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            call()
            finished = True
            signal.pause()
        assert not finished

    yield run
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = _engine.get_num_threads()
    _engine.set_num_threads(request.param)
    yield request.param
    _engine.set_num_threads(before)


def long_run(rng, batch, timesteps, units, training=False):
    """A run of an LSTM over an input that is one step, repeated without memory for it."""
    packed = _engine.PackedRNN(units, units)
    weights = [rng.standard_normal((units, 4 * units), np.float32) / units for _ in range(2)]
    packed.pack(*weights, training=training)
    x = np.broadcast_to(
        rng.standard_normal((batch, 1, units), np.float32), (batch, timesteps, units)
    )
    run, last = _engine.RNNRun(), np.empty((batch, units), np.float32)
    code = _engine.ACTIVATIONS
    run.set_direction(0, packed, code["tanh"], code["sigmoid"], x, last=last)
    return run, last, weights


@pytest.mark.parametrize("batch, timesteps, units", [(16, 20000, 128), (1, 20000, 512)])
def test_forward(batch, timesteps, units, threads, interrupted, rng):
    run, _, _ = long_run(rng, batch, timesteps, units)
    interrupted(run.forward)
    short, last, _ = long_run(rng, batch, 20, units)
    last[:] = np.nan
    short.forward()
    assert np.isfinite(last).all()


def test_backward(threads, interrupted, rng):
    run, _, weights = long_run(rng, 16, 500, 512, training=True)
    gradients = [np.zeros_like(w) for w in weights]
    dh = np.ones((16, 512), np.float32)
    run.forward(keep=True)
    run.set_gradients(0, *gradients, dh_last=dh)
    run.backward()
    expected = [g.copy() for g in gradients]
    run.forward(keep=True)
    interrupted(run.backward)
    run.forward(keep=True)
    run.backward()
    for gradient, whole in zip(gradients, expected, strict=True):
        assert gradient.any()
        np.testing.assert_array_equal(gradient, whole)


def test_dense(threads, interrupted, rng):
    k = n = 1024
    rows = 30000
    layer = _engine.PackedDense(k, n)
    layer.pack(rng.standard_normal((k, n), np.float32), None, True)
    x, y = np.zeros((rows, k), np.float32), np.zeros((rows, n), np.float32)
    interrupted(lambda: layer.forward(y, x, 0))
    dw = np.full((k, n), 7, np.float32)
    interrupted(lambda: layer.backward(None, dw, None, y, x, y, 0))
    assert (dw == 7).all()


def test_threads_without_a_cpu_do_not_hold_each_other_up(rng):
    """Threads that share a layer's units meet at each step; other programs take their CPUs away."""
    hogs = [children.start([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    before = _engine.get_num_threads()
    try:
        run, last, _ = long_run(rng, 1, 60, 512)
        _engine.set_num_threads(1)
        run.forward()
        expected = last.copy()
        _engine.set_num_threads(2)
        for _ in range(20):
            last[:] = np.nan
            run.forward()
            np.testing.assert_allclose(last, expected, rtol=1e-5, atol=1e-6)
    finally:
        _engine.set_num_threads(before)
        for hog in hogs:
            hog.kill()
            hog.wait()
