"""The tally of everything that was compared with Keras, printed at the end of the run."""

import collections
import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


class Tally:
    """Counts of configurations by kind, the largest deviation of each kind of number, and the
    cases in which float64 had to decide."""

    def __init__(self):
        self.configurations = collections.Counter()
        self.deviations = {}
        self.written_down = []

    def compared(self, kind):
        self.configurations[kind] += 1

    def deviation(self, kind, size, case):
        count, largest, where = self.deviations.get(kind, (0, -1.0, None))
        if size > largest:
            largest, where = size, case
        self.deviations[kind] = count + 1, largest, where

    def write_down(self, case, reason):
        self.written_down.append(f"{case}: {reason}")


TALLY = pytest.StashKey()


def pytest_configure(config):
    config.stash[TALLY] = Tally()


@pytest.fixture(scope="session")
def tally(pytestconfig):
    return pytestconfig.stash[TALLY]


@pytest.fixture(autouse=True)
def fresh_names():
    """Both libraries start to number their layers anew."""
    keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")
    from fastrnn.layers.base import clear_session

    keras.utils.clear_session(free_memory=False)
    clear_session()


def pytest_terminal_summary(terminalreporter, config):
    tally = config.stash[TALLY]
    if not tally.configurations:
        return
    write = terminalreporter.write_line
    terminalreporter.section("parity with Keras")
    write(f"{tally.configurations.total()} configurations compared:")
    for kind, count in sorted(tally.configurations.items()):
        write(f"  {count:6} {kind}")
    write("largest relative deviation of each kind of number:")
    for kind, (count, largest, where) in sorted(tally.deviations.items()):
        write(f"  {largest:8.1e} {kind} ({count} compared; largest in {where})")
    write(f"{len(tally.written_down)} comparisons decided by float64:")
    for line in tally.written_down:
        write(f"  {line}")
