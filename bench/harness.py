"""How everything here is measured: one stop-watch, turns in alternation, a process a peer."""

import contextlib
import ctypes
import datetime
import glob
import multiprocessing
import os
import platform
import signal
import statistics
import traceback
from time import perf_counter
from typing import NamedTuple

import numpy as np
from networks import Decoding, one_hot_paths
from peers import load
from workloads import TINY

QUIET = 0.1  # a measurement whose threads waited less than this share of the time


class Timing(NamedTuple):
    seconds: float
    waited: float  # time that threads stood in line for a CPU, as a share of the time measured


def measure(call, seconds=0.2, before=None, tries=3):
    """Median time of `call` repeated for so many seconds; the first is a warm-up and does not
    count, unless it alone takes a second. before: what to do ahead of each call, untimed.

    Where other programs held the threads up, it tries again and takes the quietest try."""
    timings = []
    while len(timings) < tries and not any(t.waited < QUIET for t in timings):
        delay, start = _run_delay(), perf_counter()
        value = _median_time(call, seconds, before)
        timings.append(Timing(value, (_run_delay() - delay) / (perf_counter() - start)))
    return min(timings, key=lambda timing: timing.waited)


def _median_time(call, seconds, before):
    times, end = [], None
    while end is None or perf_counter() < end or len(times) < 2:
        if before is not None:
            before()
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
        if end is None:
            if times[0] > max(seconds, 1.0):
                return times[0]
            end = perf_counter() + seconds
    return statistics.median(times[1:])


def _run_delay():
    """Seconds that this process's threads have waited for a CPU so far; 0 where unknown."""
    total = 0
    for path in glob.glob("/proc/self/task/*/schedstat"):
        with contextlib.suppress(OSError), open(path) as file:
            total += int(file.read().split()[1])
    return total / 1e9


def alternate(turns, rounds):
    """{name: [Timing of each round]} of turns {name: function}, A B C A B C ..."""
    results = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            results[name].append(turn())
    return results


def typical(timings):
    """Median in seconds of the quiet turns, or the quietest turn if none was."""
    quiet = [t.seconds for t in timings if t.waited < QUIET]
    return statistics.median(quiet or [min(timings, key=lambda t: t.waited).seconds])


def end_with(parent):
    """Have Linux kill this process, stopped or not, when its parent, of that number, has ended."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


class Worker:
    """A peer in a process of its own, which is stopped (SIGSTOP) except in its turn: no thread of
    an idle peer spins, and no two libraries share a process. It ends with the process that started
    it, however that ends."""

    def __init__(self, peer, threads):
        self.peer, self.workload = peer, None
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, os.getpid(), peer, threads), daemon=True
        )
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(cpus)[:threads])
        self.process.start()
        os.sched_setaffinity(0, cpus)
        theirs.close()

    def send(self, *request):
        os.kill(self.process.pid, signal.SIGCONT)
        self.connection.send(request)

    def receive(self):
        """The answer to `send`; raises PeerError with the peer's traceback where it failed."""
        try:
            answer, error = self.connection.recv()
        except EOFError:
            raise PeerError(f"{self.peer}: its process ended") from None
        os.kill(self.process.pid, signal.SIGSTOP)
        if error:
            raise PeerError(f"{self.peer}: {error}")
        return answer

    def ask(self, *request):
        self.send(*request)
        return self.receive()

    def close(self):
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.process.close()


class PeerError(Exception):
    pass


@contextlib.contextmanager
def workers(names, threads):
    """{name: Worker} for the peers that are installed; says which are not."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name in names:
            started[name] = Worker(name, threads)
            stack.callback(started[name].close)
        yield each(started, "version")


def each(team, *request):
    """Ask all workers at once; returns those that could answer, each with its `answer`."""
    for worker in team.values():
        worker.send(*request)
    able = {}
    for name, worker in team.items():
        try:
            worker.answer = worker.receive()
            able[name] = worker
        except PeerError as error:
            print(f"skipped: {error}", flush=True)
    return able


def sgemm_peak(threads=2):
    """GFLOP/s of NumPy's product of two matrices 2048 x 2048, in this process; best of several."""
    sgemm = load("sgemm")(TINY, threads)
    return sgemm.gflop / min(measure(sgemm.sgemm, 0.2).seconds for _ in range(3))


# --- in the worker --------------------------------------------------------------------------------


def _serve(connection, parent, name, threads):
    end_with(parent)
    peer = None
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # TensorFlow's start is talkative
    while True:
        try:
            request, *arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = error = None
            cls = load(name)
            if request == "version":
                answer = cls.version
            elif request == "prepare":
                peer = None  # so that its memory is free for the next
                peer = cls(*arguments, threads)
                answer = verify(peer, *arguments)
            elif request == "measure":
                kind, seconds, tries = arguments
                answer = measure(getattr(peer, kind), seconds, tries=tries)
                if kind == "train":
                    steps = peer.workload.steps * peer.workload.epochs
                    answer = answer._replace(seconds=answer.seconds / steps)
            elif request == "memory":
                answer = peak_memory(cls, *arguments, threads)
        except ImportError as problem:
            error = f"not installed ({problem})"
        except NotImplementedError as problem:
            error = f"does not have {problem}"
        except Exception:
            error = traceback.format_exc()
        connection.send((answer, error))


def verify(peer, workload):
    """Raise unless the peer computes the network; returns its kinds of measurement and the loss of
    its first training pass (or None)."""
    kinds = [kind for kind in (*workload.kinds, "sgemm") if hasattr(peer, kind)]
    if isinstance(workload, Decoding) and "one" in kinds:
        _check_decoding(peer, workload)
    elif "predict" in kinds and workload.plain:
        _check_outputs(peer, workload)
    return {"kinds": kinds, "loss": float(peer.train()) if "train" in kinds else None}


def _check_outputs(peer, workload):
    xs, _ = workload.data()
    rows = min(workload.batch, 4)
    expected = workload.reference([x[:rows] for x in xs])
    for outputs in (peer.predict(), peer.one()):
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        for output, right in zip(outputs, expected, strict=True):
            if isinstance(output, list):
                output = one_hot_paths(output, *right.shape[1:])
            output = np.asarray(output)[:rows]
            worst = np.abs(output - right[: len(output)]).max()
            if not worst < 1e-3 * np.abs(right).max():
                raise ArithmeticError(f"{workload.name}: outputs differ by {worst}")


def _check_decoding(peer, workload):
    encoder, decoder = workload.encoder.reference, workload.decoder.reference
    expected, decoded = workload.greedy(encoder, decoder), peer.one()
    if decoded != expected:
        raise ArithmeticError(f"{workload.name}: decoded {decoded}, expected {expected}")


def peak_memory(cls, workload, kind, threads):
    """Bytes that a model and three calls of `kind` add to a process in which the library is loaded,
    has run once, and the data are there; None for a peer that does not do that."""
    if kind not in workload.kinds or not hasattr(cls, kind):
        return None
    tiny = cls(TINY, threads)
    getattr(tiny, kind)()
    del tiny
    workload.data()
    level = _status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    peer = cls(workload, threads)
    for _ in range(3):
        getattr(peer, kind)()
    return _status("VmHWM") - level


def _status(field):
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024


# --- what ran where -------------------------------------------------------------------------------


def cpu_name():
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line for line in file if line.startswith("model name"))
        return name.split(":")[1].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine(threads):
    import fastrnn

    return {
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "threads": threads,
        "isa": fastrnn.isa(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "date": datetime.datetime.now().isoformat(" ", "minutes"),
        "load": os.getloadavg()[0],
    }


def table(rows, header):
    """Print rows of strings in columns, the first to the left."""
    rows = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print(f"| {' | '.join([first.ljust(widths[0]), *cells])} |", flush=True)


def milliseconds(seconds):
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"
