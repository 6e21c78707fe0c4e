"""What masks cost: padded batches against the same network without a mask, as ratios of time.

Run: python bench/masks.py [--only imdb,frames] [--threads N] [--rounds N]
"""

import argparse
from functools import partial

import numpy as np
from harness import alternate, machine, measure, milliseconds, table, typical
from peers import load
from workloads import CHAINS

import fastrnn

FORMS = {
    "nothing is padded": lambda t, start, stop, rng: t >= 0,
    "left": lambda t, start, stop, rng: t >= start,
    "right": lambda t, start, stop, rng: t < stop,
    "both sides": lambda t, start, stop, rng: (t >= start) & (t < stop),
    "holes": lambda t, start, stop, rng: rng.random((len(start), t.size)) < 0.7,
    "left, half of the steps for all": lambda t, start, stop, rng: t >= t.size // 2,
}


def kept(form, samples, timesteps):
    """(samples, timesteps) bool: padding of 0 to 40 % of the steps on a side, a length a sample."""
    rng = np.random.default_rng(2)
    start, end = rng.integers(0, int(0.4 * timesteps) + 1, (2, samples, 1))
    mask = FORMS[form](np.arange(timesteps), start, timesteps - end, rng)
    return np.broadcast_to(mask, (samples, timesteps))


def network(workload, threads, form=None):
    """The peer fastrnn on a workload, its network with a mask and its data padded with zeros."""
    peer = load("fastrnn")(workload, threads)
    if form is None:
        return peer
    x, layers = peer.x, fastrnn.layers
    mask = kept(form, *x.shape[:2])
    peer.x = np.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, 0).astype(x.dtype)
    peer.batch = peer.x[: workload.batch]
    layer = partial(peer._layer, each_step=workload.sequences)
    first, *rest = workload.layers
    if workload.embedding:
        masked = [layers.Embedding(first.size, first.width, mask_zero=True)]
    else:
        masked = [layers.Masking(), layer(first)]
    old = peer.model
    shape = fastrnn.Input(x.shape[1:])
    peer.model = fastrnn.Sequential([shape, *masked, *map(layer, rest)])
    peer.model.set_weights(old.get_weights())
    peer.model.compile("adam", old.loss, metrics=["accuracy"])
    return peer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="imdb,mnist_lstm,frames,large", help="start of names")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(*machine(args.threads).values(), sep="; ")
    rows = []
    for workload in CHAINS:
        if not workload.name.startswith(tuple(args.only.split(","))):
            continue
        peers = {form: network(workload, args.threads, form) for form in (None, *FORMS)}
        times = {}
        for kind in ("train", "predict"):
            turns = {f: partial(measure, getattr(p, kind), 0.3) for f, p in peers.items()}
            times[kind] = {f: typical(ts) for f, ts in alternate(turns, args.rounds).items()}
        train, predict = times["train"], times["predict"]
        for form in peers:
            cells = [f"{workload.name}: {form or 'no mask'}"]
            cells += [
                milliseconds(train[form] / workload.steps),
                f"{train[form] / train[None]:.2f}",
            ]
            rows.append(
                [*cells, milliseconds(predict[form]), f"{predict[form] / predict[None]:.2f}"]
            )
    table(rows, ["padding", "training step, ms", "ratio", "inference, ms", "ratio"])


if __name__ == "__main__":
    main()
