"""Where the time of one training step goes, in percent, for each workload.

Run: python bench/profile_step.py [--only imdb,mnist] [--seconds S]
"""

import argparse
from time import perf_counter

from harness import machine, milliseconds
from peers import load
from workloads import WORKLOADS

from fastrnn.data import ArrayBatches


class Profile:
    """Time spent in wrapped functions, each without the wrapped functions it calls."""

    def __init__(self):
        self.spent, self._open = {}, []

    def wrap(self, owner, method, name):
        function = getattr(owner, method, None)
        if function is None:
            return
        self.spent.setdefault(name, 0.0)

        def timed(*args, **kwargs):
            start = perf_counter()
            self._open.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                whole = perf_counter() - start
                self.spent[name] += whole - self._open.pop()
                if self._open:
                    self._open[-1] += whole

        setattr(owner, method, timed)


def watch(peer):
    """A Profile of the parts of peer.train."""
    profile, compiled = Profile(), peer.model._compiled
    for layer in peer.model.layers:
        inner = getattr(layer, "layer", layer)
        for part in {id(la): la for la in [inner, *inner.sublayers, *layer.sublayers]}.values():
            profile.wrap(part, "packed", f"{layer.name}: packing")
            profile.wrap(part, "_pack", f"{layer.name}: packing")
        profile.wrap(layer, "forward", f"{layer.name}: forward")
    for layer in reversed(peer.model.layers):
        profile.wrap(layer, "backward", f"{layer.name}: backward")
    for head in getattr(compiled, "heads", [compiled]):
        profile.wrap(head.loss, "fused", "loss")
        profile.wrap(head.loss, "value_and_gradient", "loss")
    profile.wrap(compiled, "update", "metrics")
    profile.wrap(compiled.optimizer, "update", "optimizer")
    profile.wrap(peer, "train", "fit itself")
    return profile


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="workloads by the start of their names, a,b")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to run each")
    args = parser.parse_args()
    print(*machine(2).values(), sep="; ")
    only = tuple(args.only.split(","))
    take = ArrayBatches._take
    for workload in WORKLOADS:
        if "train" not in workload.kinds or not workload.name.startswith(only):
            continue
        peer = load("fastrnn")(workload, 2)
        peer.train()
        ArrayBatches._take = take
        profile = watch(peer)
        profile.wrap(ArrayBatches, "_take", "gathering shuffled batches")
        passes, end = 0, perf_counter() + args.seconds
        while perf_counter() < end or passes < 3:
            peer.train()
            passes += 1
        total = sum(profile.spent.values())
        print(f"\n{workload.name}: {milliseconds(total / passes / workload.steps)} ms a step")
        for name, seconds in profile.spent.items():
            each = 1e6 * seconds / passes / workload.steps
            print(f"  {name:<40} {seconds / total:6.1%} {each:10.1f} µs")


if __name__ == "__main__":
    main()
