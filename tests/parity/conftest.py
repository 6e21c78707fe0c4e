"""The tally of everything that was compared with Keras, printed at the end of the run."""

import gc
import os
import pathlib

import pytest

from fastrnn.layers import recurrent

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


class Tally:
    """Counts of configurations by kind, the largest deviation of each kind of number, and the
    cases in which float64 had to decide. All builtin types: it travels between processes."""

    def __init__(self):
        self.configurations = {}
        self.deviations = {}
        self.written_down = []

    def compared(self, kind, count=1):
        self.configurations[kind] = self.configurations.get(kind, 0) + count

    def deviation(self, kind, size, case, count=1):
        before, largest, where = self.deviations.get(kind, (0, -1.0, None))
        if size > largest:
            largest, where = size, case
        self.deviations[kind] = before + count, largest, where

    def write_down(self, case, reason):
        self.written_down.append(f"{case}: {reason}")

    def networks(self):
        """How many random networks and layers with their data there were."""
        return sum(n for kind, n in self.configurations.items() if kind.startswith("random "))

    def falls_short(self, config):
        """What was compared less often than the options ask for, or None."""
        if self.networks() < config.getoption("networks"):
            return f"fewer random networks than {config.getoption('networks')}"
        graphs = config.getoption("graphs") or 0
        if self.configurations.get("random graphs", 0) < graphs:
            return f"fewer random graphs than {graphs}"
        programs = config.getoption("programs") or 0
        if self.configurations.get("users' programs", 0) < programs:
            return f"fewer random programs than {programs}"
        return None

    def add(self, other):
        for kind, count in other.configurations.items():
            self.compared(kind, count)
        for kind, (count, largest, where) in other.deviations.items():
            self.deviation(kind, largest, where, count)
        self.written_down += other.written_down


@pytest.fixture(autouse=True)
def products_of_few_features(monkeypatch):
    """Let x W be taken once for each row of the random networks' Embeddings, which are small."""
    monkeypatch.setattr(recurrent, "FEWEST_FEATURES", 1)


HERE = pathlib.Path(__file__).parent
TALLY = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--networks", type=int, default=0, help="fail unless so many were compared")
    parser.addoption("--graphs", type=int, help="compare so many random graphs (100), or fail")
    parser.addoption("--programs", type=int, help="compare so many random programs (60), or fail")
    parser.addoption("--first", type=int, default=0, help="the first random program")


def pytest_generate_tests(metafunc):
    if "random_graph" in metafunc.fixturenames:
        metafunc.parametrize("random_graph", range(metafunc.config.getoption("graphs") or 100))
    if "random_program" in metafunc.fixturenames:
        first = metafunc.config.getoption("first")
        programs = range(first, first + (metafunc.config.getoption("programs") or 60))
        metafunc.parametrize("random_program", programs)


def pytest_configure(config):
    config.stash[TALLY] = Tally()


def pytest_collection_finish():
    """Spare the garbage collector TensorFlow's million objects: a tenth of the time."""
    gc.freeze()


def pytest_sessionfinish(session):
    """A worker of pytest-xdist sends its tally; the whole run needs `--networks` of them."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["tally"] = vars(config.stash[TALLY])
    elif config.stash[TALLY].falls_short(config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items):
    """Let Keras read TensorFlow 2.21's variables, which do not know the `copy` of NumPy 2."""
    known = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(known)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    tally = Tally()
    vars(tally).update(getattr(node, "workeroutput", {}).get("tally", {}))
    node.config.stash[TALLY].add(tally)


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


@pytest.fixture(autouse=True)
def no_layer_freed_meanwhile():
    """Keras 3.15 knows the layers of a file that it loads by their addresses, and takes one layer
    for another where the collector has freed the first in the meantime."""
    gc.disable()
    yield
    gc.enable()


def pytest_terminal_summary(terminalreporter, config):
    tally = config.stash[TALLY]
    if not tally.configurations:
        return
    write = terminalreporter.write_line
    terminalreporter.section("parity with Keras")
    total = sum(tally.configurations.values())
    write(f"{total} configurations compared, {tally.networks()} of them random networks:")
    for kind, count in sorted(tally.configurations.items()):
        write(f"  {count:6} {kind}")
    write("largest relative deviation of each kind of number (and where):")
    for kind, (count, largest, where) in sorted(tally.deviations.items()):
        write(f"  {largest:8.1e} {kind} ({count} compared; {where})")
    write(f"{len(tally.written_down)} comparisons decided by float64, as TensorFlow itself is off:")
    for line in sorted(tally.written_down):
        write(f"  {line}")
    unexplained = sum(len(terminalreporter.stats.get(k, ())) for k in ("failed", "error"))
    write(f"{unexplained} unexplained differences")
    if short := tally.falls_short(config):
        write(short, red=True)
