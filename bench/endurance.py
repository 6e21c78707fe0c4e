"""What takes too long, or too much memory, for the tests; each part fails by an exception.

    python bench/endurance.py [calls] [steps] [wide] [huge] [interrupts]

calls: a million predictions leave the resident memory flat. steps: so do 10,000 steps of training.
wide: training of an LSTM of 4,096 units (2 GB). huge: one prediction with more than 2^31 outputs
(11 GB). interrupts: signals at many moments of a training step of 4,096 units are heard within a
second. By default all five, a few minutes. Peak memory of training beside that of other libraries:
`python bench/compare.py --memory`."""

import itertools
import signal
import sys
import time

import numpy as np

import fastrnn
from fastrnn import layers


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def classifier():
    model = fastrnn.Sequential(
        [
            fastrnn.Input((None,), dtype="int32"),
            layers.Embedding(100, 16),
            layers.Bidirectional(layers.LSTM(16)),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def stays_flat(name, call, count):
    """Raise unless `count` calls after the first tenth add less than 1 MB."""
    for n in range(count // 10):
        call(n)
    before, start = resident(), time.perf_counter()
    for n in range(count):
        call(n)
    grown = resident() - before
    seconds = time.perf_counter() - start
    print(f"{name}: {count:,} in {seconds:.0f} s, {grown / 1024:+,.0f} KB", flush=True)
    if grown > 2**20:
        raise MemoryError(f"{name}: the resident memory grew by {grown} bytes")


def calls():
    model, x = classifier(), np.random.default_rng(0).integers(0, 100, (8, 20), np.int32)
    stays_flat("predict", lambda n: model.predict(x[: 1 + n % 4], verbose=0), 10**6)


def steps():
    rng = np.random.default_rng(0)
    model, x, y = classifier(), rng.integers(0, 100, (32, 20), np.int32), rng.integers(0, 3, 32)
    stays_flat("steps of fit", lambda n: model.fit(x, y, verbose=0), 10_000)


def wide():
    """Adam on 67 million weights lowers the loss."""
    rng = np.random.default_rng(0)
    lstm = layers.LSTM(4096, recurrent_initializer="glorot_uniform")
    model = fastrnn.Sequential([fastrnn.Input((3, 8)), lstm, layers.Dense(1)])
    model.compile("adam", "mse")
    x, y = rng.standard_normal((4, 3, 8)), rng.standard_normal((4, 1))
    losses = [model.train_on_batch(x, y) for _ in range(4)]
    print(f"wide: losses {losses}", flush=True)
    if not losses[-1] < losses[0]:
        raise ArithmeticError(f"training 4096 units does not lower the loss: {losses}")


def huge():
    """The last rows of an output of more than 2^31 elements are those of a small batch."""
    units, steps, rows = 64, 2048, 2**31 // (64 * 2048) + 8
    model = fastrnn.Sequential(
        [fastrnn.Input((steps, 1)), layers.LSTM(units, return_sequences=True)]
    )
    x = np.zeros((rows, steps, 1), np.float32)
    x[-4:] = np.random.default_rng(0).standard_normal((4, steps, 1))
    y = model.predict(x, batch_size=4096, verbose=0)
    np.testing.assert_array_equal(y[-4:], model.predict(x[-4:], verbose=0))
    print(f"huge: {y.size:,} outputs", flush=True)


class Interrupt(Exception):
    pass


def interrupts():
    """Each leaves the weights of before the step, or after. CPU time counts, on one thread."""

    def interrupt(number, frame):
        raise Interrupt

    def weights_are(expected):
        return all(map(np.array_equal, model.get_weights(), expected))

    signal.signal(signal.SIGPROF, interrupt)
    rng, threads = np.random.default_rng(0), fastrnn.get_num_threads()
    fastrnn.set_num_threads(1)
    lstm = layers.LSTM(4096, recurrent_initializer="glorot_uniform")
    model = fastrnn.Sequential([fastrnn.Input((3, 8)), lstm, layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = rng.standard_normal((32, 3, 8), np.float32), rng.standard_normal((32, 1))
    before = model.get_weights()
    model.train_on_batch(x, y)
    after, delays = model.get_weights(), []
    for seconds in itertools.count(0.05, 0.25):
        model.set_weights(before)
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            model.train_on_batch(x, y)
            signal.setitimer(signal.ITIMER_PROF, 0)
            break
        except Interrupt:
            delays.append(time.process_time() - start - seconds)
        if not weights_are(before) and not weights_are(after):
            raise ArithmeticError(f"a signal after {seconds} s left a step half made")
    fastrnn.set_num_threads(threads)
    print(f"interrupts: {len(delays)}, heard after {max(delays):.2f} s at most", flush=True)
    if len(delays) < 3 or max(delays) > 1:
        raise TimeoutError(f"signals were heard after {delays} s")


PARTS = {part.__name__: part for part in (calls, steps, wide, huge, interrupts)}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
