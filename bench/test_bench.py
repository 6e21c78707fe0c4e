"""Every workload and installed peer through pytest-benchmark: pytest bench/."""

from contextlib import ExitStack

import harness
import pytest
from peers import PEERS
from workloads import WORKLOADS

KINDS = ("train", "predict", "one")
NAMES = [name for name in PEERS if name not in ("sgemm", "PyTorch")]  # PyTorch ftz is the faster


class Clock:
    """Shows the time that workers have measured; pytest-benchmark reads it as its timer."""

    now = 0.0

    def __call__(self):
        return self.now


CLOCK = Clock()


@pytest.fixture(scope="session")
def team():
    with ExitStack() as stack:
        yield stack.enter_context(harness.workers(NAMES, threads=2))


@pytest.fixture(scope="session")
def prepare(team):
    """prepare(name, workload) -> the peer's worker with that workload, or None."""

    def prepared(name, workload):
        worker = team.get(name)
        if worker is not None and worker.workload is not workload:
            worker.workload, worker.answer = workload, worker.ask("prepare", workload)
        return worker

    return prepared


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.name)
def test_peer(prepare, benchmark, workload, kind, name):
    worker = prepare(name, workload)
    if worker is None:
        pytest.skip(f"{name} is not installed")
    if kind not in worker.answer["kinds"]:
        pytest.skip(f"{name} does not train")

    def turn():
        CLOCK.now += worker.ask("measure", kind, 0.05, 1).seconds

    benchmark.group = f"{workload.name} {kind}"
    benchmark.extra_info["gflops"] = workload.flops(kind) / 1e9
    benchmark.pedantic(turn, rounds=3)
