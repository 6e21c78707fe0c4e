"""The engine's kernels alone, on the workloads' shapes, for each instruction set of this CPU.

Run: python bench/kernels.py [--only lstm,adam] [--threads N] [--rounds N]
"""

import argparse
from functools import partial

import numpy as np
from harness import alternate, machine, measure, milliseconds, sgemm_peak, table, typical
from networks import LSTM
from workloads import CHAINS

from fastrnn import _engine, get_num_threads, set_num_threads

TANH, SIGMOID, LINEAR = (_engine.ACTIVATIONS[name] for name in ("tanh", "sigmoid", "linear"))
GFLOP, GB = "GFLOP/s", "GB/s"


class LSTMKernels:
    """One LSTM layer of a workload, both directions if it has two."""

    def __init__(self, workload, layer, features):
        rng = np.random.default_rng(0)
        batch, steps, units = workload.batch, workload.timesteps, layer.units
        self.count = 1 + layer.bidirectional

        def random(*shape):
            return rng.uniform(-0.1, 0.1, shape).astype(np.float32)

        self.x, self.dy = random(batch, steps, features), random(batch, steps, units)
        self.weights = random(features, 4 * units), random(units, 4 * units), random(4 * units)
        self.gradients = [[np.empty_like(w) for w in self.weights] for _ in range(self.count)]
        self.dx = [np.empty_like(self.x) for _ in range(self.count)]
        self.packed = _engine.PackedRNN(features, units)
        self.runs = {keep: _engine.RNNRun(self.count) for keep in (False, True)}
        for run in self.runs.values():
            for d in range(self.count):
                order = slice(None, None, -1 if d else 1)
                run.set_direction(
                    d, self.packed, TANH, SIGMOID, self.x[:, order],
                    y=np.empty_like(self.dy)[:, order],
                )  # fmt: skip
        size = 4 * units * (units + features)
        forward = 2 * batch * steps * size * self.count
        sequence = 4 * units * units * 2 * batch * steps * self.count
        self.kernels = {
            "pack for inference": (self.pack, None, GB, 8 * size),
            "pack for training": (partial(self.pack, True), None, GB, 16 * size),
            "forward, inference": (partial(self.forward, False), None, GFLOP, forward),
            "forward, training": (partial(self.forward, True), None, GFLOP, forward),
            "backward": (self.backward, self.ready, GFLOP, forward + sequence),
            "backward with dx": (partial(self.backward, True), self.ready, GFLOP, 2 * forward),
        }

    def pack(self, training=False):
        self.packed.pack(*self.weights, training, training)

    def forward(self, keep):
        self.runs[keep].forward(keep)

    def ready(self):
        self.forward(True)

    def backward(self, with_dx=False):
        run = self.runs[True]
        share = with_dx and run.slices >= get_num_threads()  # as the layers do
        for d, gradients in enumerate(self.gradients):
            order = slice(None, None, -1 if d else 1)
            dx = self.dx[0 if share else d][:, order] if with_dx else None
            run.set_gradients(d, *gradients, self.dy[:, order], dx=dx, dx_add=share and d > 0)
        run.backward()


def lstm_kernels():
    for workload in CHAINS:
        number = 0
        for layer, features in workload.widths():
            if isinstance(layer, LSTM):
                number += 1
                kernels = LSTMKernels(workload, layer, features)
                pack = partial(kernels.pack, True)
                for name, kernel in kernels.kernels.items():
                    yield f"lstm {workload.name}/{number}: {name}", pack, *kernel


def other_kernels():
    rng = np.random.default_rng(0)

    def random(*shape):
        return rng.uniform(-1, 1, shape).astype(np.float32)

    for workload in CHAINS:
        layer, width = list(workload.widths())[-1]
        rows = workload.batch * (workload.timesteps if workload.sequences else 1)
        x, dx, w, dw = *random(2, rows, width), *random(2, width, layer.units)
        y, dy, b, db = *random(2, rows, layer.units), *random(2, layer.units)
        packed, flops = _engine.PackedDense(width, layer.units), 2 * rows * w.size
        pack, name = partial(packed.pack, w, b, True), f"dense {workload.name}"
        forward = partial(packed.forward, y.copy(), x, LINEAR)
        yield f"{name}: forward", pack, forward, None, GFLOP, flops
        backward = partial(packed.backward, dx, dw, db, dy, x, y, LINEAR)
        yield f"{name}: backward", pack, backward, None, GFLOP, 2 * flops

        kind, loss = _engine.SIGMOID_CROSSENTROPY, "sigmoid cross-entropy"
        if layer.units > 1:
            kind, loss = _engine.SOFTMAX_CROSSENTROPY, "softmax cross-entropy"
        targets = np.eye(layer.units, dtype=np.float32)[rng.integers(0, layer.units, rows)]
        call = partial(_engine.fused_loss, kind, y, targets)
        yield f"loss {workload.name}: {loss}", None, call, None, GB, 16 * y.size

        size = sum(a.size for _, weights in workload.parameters() for a in weights)
        values, gradients, mean, square = random(4, size)
        update = _engine.Update(
            "adam", values, gradients, (mean, abs(square), None), epsilon=1e-7,
            new_gradient=0.1, new_square=0.001,
        )  # fmt: skip
        step = partial(update.step, 1e-3)
        yield f"adam {workload.name}: {size} weights", None, step, None, GB, 28 * size
    x, y = random(2, 500, 28, 64)
    drop = partial(_engine.dropout, y, x, 0.5, 1)
    yield "dropout of (500, 28, 64)", None, drop, None, GB, 8 * x.size


def with_isa(name, prepare, call, before, seconds):
    _engine.set_isa(name)
    if prepare is not None:
        prepare()
    return measure(call, seconds, before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="kernels whose names begin like one of a,b,...")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    sets = _engine.available_isas()
    set_num_threads(args.threads)
    peak = sgemm_peak()
    print(*machine(args.threads).values(), f"sgemm peak {peak:.0f} GFLOP/s", sep="; ")
    cells = []
    for source in (lstm_kernels, other_kernels):
        for name, prepare, call, before, unit, amount in source():
            if not name.startswith(tuple(args.only.split(","))):
                continue
            turns = {isa: partial(with_isa, isa, prepare, call, before, 0.05) for isa in sets}
            times = {isa: typical(ts) for isa, ts in alternate(turns, args.rounds).items()}
            rate = amount / times[sets[0]] / 1e9
            share = f"{rate / peak:.0%}" if unit == GFLOP else "-"
            slower = [f"{times[sets[0]] / times[isa]:.2f}" for isa in sets[1:]]
            shown = [milliseconds(times[isa]) for isa in sets]
            cells.append([name, *shown, f"{rate:.0f} {unit}", share, *slower])
    table(cells, ["ms", *sets, "rate", "of sgemm", *(f"{isa}/{sets[0]}" for isa in sets[1:])])


if __name__ == "__main__":
    main()
