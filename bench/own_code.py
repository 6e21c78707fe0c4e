"""Code of the user's own: a layer of fastrnn within it, beside the same layer's kernels alone; an
attention layer of five operations beside PyTorch's; both their memory.

Run: python bench/own_code.py [--threads 2] [--rounds 9]
"""

import argparse
import multiprocessing
from importlib.util import find_spec

import harness
import numpy as np
from harness import alternate, measure, milliseconds, table, typical

import fastrnn
from fastrnn import layers, ops
from fastrnn.arrays import Array
from fastrnn.gradient_tape import GradientTape
from fastrnn.layers.base import within
from fastrnn.run import Run

BATCH, STEPS, UNITS = 128, 200, 128


class Attention(layers.Layer):
    """Pooling of steps by weights that are learned."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], UNITS), name="kernel")
        self.bias = self.add_weight(shape=(UNITS,), initializer="zeros", name="bias")
        self.score = self.add_weight(shape=(UNITS, 1), name="score")

    def call(self, x):
        energy = ops.tanh(ops.matmul(x, self.kernel) + self.bias)
        weights = ops.softmax(ops.matmul(energy, self.score), axis=1)
        return ops.sum(x * weights, axis=1)


def ours(threads, batch=BATCH):
    """A step: loss and gradients of x and the weights."""
    fastrnn.set_num_threads(threads)
    x = np.random.default_rng(0).normal(size=(batch, STEPS, UNITS)).astype(np.float32).view(Array)
    layer = Attention()
    layer(x[:2])

    def step():
        with GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = ops.sum(y * y)
        return tape.gradient(loss, [x, *layer.trainable_weights])

    return step


def pytorch(threads, batch=BATCH):
    import torch

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(batch, STEPS, UNITS)).astype(np.float32), requires_grad=True)
    weights = [
        torch.randn(shape, requires_grad=True) for shape in ((UNITS, UNITS), (UNITS,), (UNITS, 1))
    ]
    kernel, bias, score = weights

    def step():
        energy = torch.tanh(x @ kernel + bias)
        y = (x * torch.softmax(energy @ score, 1)).sum(1)
        loss = (y * y).sum()
        for part in (x, *weights):
            part.grad = None
        loss.backward()
        return [part.grad for part in (x, *weights)]

    return step


ENGINES = {"fastrnn": ours, "PyTorch eager": pytorch}


def peak(name, threads, results):
    """MB that steps need at most beyond their input and weights."""
    ENGINES[name](threads, 2)()  # the library's own first call
    step = ENGINES[name](threads)
    before = harness._status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    for _ in range(5):
        step()
    results.put((harness._status("VmHWM") - before) / 2**20)


def within_own_code(rounds):
    """Rows of an LSTM(8) over 4 steps of 3 features: its kernels, and a call in own code."""
    fastrnn.set_num_threads(1)
    x = np.random.default_rng(0).normal(size=(1, 4, 3)).astype(np.float32).view(Array)
    layer = layers.LSTM(8)
    with within(Run()):
        for _ in range(3):
            layer(x)
        _, _, _, steps, _ = layer._plans[x.shape]

        def kernels():
            for step in steps:
                step()

        turns = {"kernels": lambda: measure(kernels), "call": lambda: measure(lambda: layer(x))}
        found = {name: typical(timings) for name, timings in alternate(turns, rounds).items()}
    beside = found["call"] - found["kernels"]
    return [[f"{1e6 * seconds:.2f}" for seconds in (found["kernels"], found["call"], beside)]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    print("; ".join(f"{key}: {value}" for key, value in harness.machine(given.threads).items()))
    print("\nA layer of fastrnn called within own code, us, one thread")
    table(within_own_code(given.rounds), ["kernels", "call", "beside"])
    names = [name for name in ENGINES if name == "fastrnn" or find_spec("torch")]
    steps = {name: ENGINES[name](given.threads) for name in names}
    turns = {name: (lambda step=step: measure(step, 0.5)) for name, step in steps.items()}
    times = {name: typical(timings) for name, timings in alternate(turns, given.rounds).items()}
    context, rows = multiprocessing.get_context("spawn"), []
    for name in names:
        results = context.Queue()
        process = context.Process(target=peak, args=(name, given.threads, results))
        process.start()
        memory = results.get()
        process.join()
        ratio = times[name] / times["fastrnn"]
        rows.append([name, milliseconds(times[name]), f"{ratio:.2f}", f"{memory:.0f}"])
    shape = (BATCH, STEPS, UNITS)
    print(f"\nAttention of five operations on {shape}, forward and backward")
    table(rows, ["", "ms", "/ fastrnn's", "memory, MB"])


if __name__ == "__main__":
    main()
