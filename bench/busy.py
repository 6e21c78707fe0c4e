"""One sample where others use the CPUs too: fastrnn, ONNX Runtime and PyTorch, one thread and two,
beside busy processes; and a Python service in which many threads predict.

Run: python bench/busy.py [--only imdb,mnist] [--busy N] [--quota 1.5] [--rounds 3] [--seconds 1]
     [--service]
"""

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from time import perf_counter, process_time

import harness
import numpy as np
from harness import milliseconds, table
from peers import PEERS, load
from workloads import WORKLOADS

ENGINES = ("fastrnn", "ONNX Runtime", "PyTorch ftz")
_CGROUPS = Path("/sys/fs/cgroup")
_UNIFIED = (_CGROUPS / "cgroup.controllers").exists()  # version 2 of control groups, or version 1
GROUP = (_CGROUPS if _UNIFIED else _CGROUPS / "cpu") / "fastrnn_busy"


def burn(parent):
    harness.end_with(parent)
    while True:
        pass


@contextlib.contextmanager
def busy(count):
    """So many processes that do nothing but take CPU time."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=burn, args=(os.getpid(),), daemon=True) for _ in range(count)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def latencies(call, seconds):
    """(seconds of each call, CPU time of a call) of calls in a row for so long, at least 30."""
    for _ in range(5):
        call()
    times, used, end = [], process_time(), perf_counter() + seconds
    while perf_counter() < end or len(times) < 30:
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return times, (process_time() - used) / len(times)


def serve(connection, parent, name, threads, workloads, seconds, quota):
    """In a process of its own: the latencies of one sample of each workload."""
    harness.end_with(parent)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if quota:
        (GROUP / "cgroup.procs").write_text(str(os.getpid()))
    try:
        cls = load(name)
        answer = {w.name: latencies(cls(w, threads).one, seconds) for w in workloads}
    except ImportError as error:
        answer = str(error)
    connection.send(answer)


def ask(*arguments):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, os.getpid(), *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return "its process ended"
    finally:
        process.kill()
        process.join()


def compare(workloads, rounds, seconds, quota):
    """{workload: {(engine, threads): [(times, CPU time) of each process]}}, engines in turns."""
    results = {w.name: {} for w in workloads}
    for _ in range(rounds):
        for engine in ENGINES:
            for threads in (1, 2):
                answer = ask(engine, threads, workloads, seconds, quota)
                if isinstance(answer, str):
                    print(f"skipped: {engine}: {answer}", file=sys.stderr, flush=True)
                    continue
                for name, timing in answer.items():
                    results[name].setdefault((engine, threads), []).append(timing)
    return results


def show(results):
    rows = []
    for name, engines in results.items():
        alone = None
        for (engine, threads), processes in engines.items():
            medians = [statistics.median(times) for times, _ in processes]
            tails = [np.percentile(times, 99) for times, _ in processes]
            median, tail = statistics.median(medians), statistics.median(tails)
            if threads == 1:
                alone = median
            rows.append([
                name, engine, threads, milliseconds(median), milliseconds(max(medians)),
                milliseconds(tail), milliseconds(statistics.median(cpu for _, cpu in processes)),
                f"{median / alone:.2f}" if alone else "-",
            ])  # fmt: skip
            name = ""
    table(
        rows,
        ["", "engine", "threads", "p50, ms", "worst p50", "p99", "CPU time", "p50 / one thread"],
    )


@contextlib.contextmanager
def limited(cpus):
    """A control group with this quota; raises OSError where none may be made."""
    GROUP.mkdir()
    quota = str(int(100000 * cpus))
    try:
        if _UNIFIED:
            (GROUP / "cpu.max").write_text(f"{quota} 100000")
        else:
            (GROUP / "cpu.cfs_period_us").write_text("100000")
            (GROUP / "cpu.cfs_quota_us").write_text(quota)
        yield
    finally:
        GROUP.rmdir()


# --- a service ------------------------------------------------------------------------------------


REQUEST = json.dumps(list(range(200)))


def cost(call):
    """Of one request, in seconds."""
    start = perf_counter()
    for _ in range(100):
        json.loads(REQUEST), call(), json.dumps(list(range(200)))
    return (perf_counter() - start) / 100


def handler(call, seconds, threads, pause):
    """Times of `call` in handlers of a service: each of the threads takes some JSON apart, calls,
    puts some together, and waits, `pause` seconds on average, for its next request."""
    work, end = [], perf_counter() + seconds

    def client(number):
        rng = np.random.default_rng(number)
        while perf_counter() < end:
            time.sleep(rng.exponential(pause))
            json.loads(REQUEST)
            begin = perf_counter()
            call()
            work.append(perf_counter() - begin)
            json.dumps(list(range(200)))

    team = [threading.Thread(target=client, args=(n,)) for n in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    return work


def service(seconds):
    import fastrnn
    from fastrnn import layers

    model = fastrnn.Sequential([
        fastrnn.Input((25,)), layers.Embedding(2000, 32), layers.LSTM(128), layers.Dense(4),
    ])  # fmt: skip
    x = np.random.default_rng(0).integers(0, 2000, (1, 25)).astype(np.int32)
    predict = model.compile_inference()

    def ours(threads):
        fastrnn.set_num_threads(threads)
        return predict(x)

    calls = {"a constant": lambda: None}
    calls |= {f"fastrnn, {n} threads": functools.partial(ours, n) for n in (1, 2)}
    with contextlib.suppress(ImportError):
        import onnxruntime

        onnx = fastrnn.to_onnx(model)
        for threads in (1, 2):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(
                onnx.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            given = {session.get_inputs()[0].name: x}
            calls[f"ONNX Runtime, {threads} threads"] = functools.partial(session.run, None, given)
    quiet = {name: statistics.median(latencies(call, seconds)[0]) for name, call in calls.items()}
    # The same requests for all: the slowest would take half of one CPU.
    pause = 2 * 20 * max(map(cost, calls.values()))
    rows = []
    for name, call in calls.items():
        times = handler(call, seconds, 20, pause)
        rows.append([
            name, milliseconds(quiet[name]), milliseconds(statistics.median(times)),
            milliseconds(np.percentile(times, 99)), len(times),
        ])  # fmt: skip
    print(
        "\nTwenty Python threads of one service, Embedding(2000, 32), LSTM(128), Dense(4), 25 steps"
    )
    table(rows, ["a call in a handler, ms", "alone", "p50", "p99", "calls"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", help="beginnings of workloads' names")
    parser.add_argument("--busy", type=int, default=4, help="busy processes for each CPU")
    parser.add_argument("--quota", type=float, help="CPUs that a control group allows the engine")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes for each figure")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of each measurement")
    parser.add_argument("--service", action="store_true", help="only the service")
    args = parser.parse_args()
    assert set(ENGINES) <= PEERS.keys()

    print("; ".join(f"{key}: {value}" for key, value in harness.machine(2).items()))
    if not args.service:
        workloads = WORKLOADS
        if args.only:
            workloads = [w for w in workloads if w.name.startswith(tuple(args.only.split(",")))]
        count = args.busy * len(os.sched_getaffinity(0))
        print(f"{count} busy processes; quota: {args.quota or 'none'}", flush=True)
        with contextlib.ExitStack() as stack:
            if args.quota:
                stack.enter_context(limited(args.quota))
            stack.enter_context(busy(count))
            results = compare(workloads, args.rounds, args.seconds, args.quota)
        show(results)
    service(args.seconds)


if __name__ == "__main__":
    main()
