"""fastrnn beside its peers: training, batch inference, one sample.

Run: python bench/compare.py [--quick] [--graphs] [--only imdb,mnist] [--peers fastrnn,PyTorch]
     [--threads N] [--json FILE] [--chart FILE.png] [--sweep | --scaling | --memory]
"""

import argparse
import json
import statistics
import sys
from dataclasses import replace
from functools import partial

import harness
from harness import alternate, each, milliseconds, table, typical
from networks import LSTM, Chain
from peers import PEERS, load
from workloads import CHAINS, GRAPHS, SOFTMAX, WORKLOADS, sweep

OURS = "fastrnn"
KINDS = {"train": "Training step", "predict": "Batch inference", "one": "One sample"}


# --- measuring ------------------------------------------------------------------------------------


def compare(workloads, names, threads, rounds, seconds, tries=3, kinds=tuple(KINDS)):
    """Yields for each workload and kind a dict: the typical time of each peer, all its turns, and
    the sgemm peak measured between them."""
    with harness.workers([*names, "sgemm"], threads) as team:
        print(*(f"{name} {w.answer}" for name, w in team.items() if name != "sgemm"), sep="; ")
        for workload in workloads:
            print(f"{workload.name} ...", file=sys.stderr, flush=True)
            able = each(team, "prepare", workload)
            _drop_other_training(able)
            for kind in kinds:
                turns = {
                    name: partial(w.ask, "measure", kind, seconds, tries)
                    for name, w in able.items()
                    if kind in w.answer["kinds"]
                }
                if not turns:
                    continue
                turns["sgemm"] = partial(team["sgemm"].ask, "measure", "sgemm", seconds, tries)
                timings = alternate(turns, rounds)
                peak = load("sgemm").gflop / min(t.seconds for t in timings.pop("sgemm"))
                times = {name: typical(ts) for name, ts in timings.items()}
                yield row(workload, kind, times, timings, peak)


def _drop_other_training(able):
    """Forget peers whose loss in the first pass is not that of the majority."""
    losses = {name: w.answer["loss"] for name, w in able.items() if w.answer["loss"] is not None}
    middle = statistics.median(losses.values()) if losses else None
    for name, loss in losses.items():
        if abs(loss - middle) > 0.03 * middle:
            print(f"skipped: {name} trains to a loss of {loss}, most peers to {middle}")
            del able[name]


def row(workload, kind, times, timings, peak):
    ours = times.get(OURS)
    others = {name: t for name, t in times.items() if name != OURS}
    gflops = workload.flops(kind) / ours / 1e9 if ours else None
    best = min(others, key=others.get) if others else None
    return {
        "workload": workload.name,
        "kind": kind,
        "seconds": times,
        "best_peer": best,
        "ratio_to_best": others[best] / ours if best and ours else None,
        "ratio_to_keras": others["tf.keras"] / ours if "tf.keras" in others and ours else None,
        "gflops": gflops,
        "sgemm_gflops": peak,
        "share_of_sgemm": gflops / peak if ours else None,
        "turns": timings,
    }


def memory(workloads, names, threads):
    """Peak memory in MB of each peer, a fresh process for each figure."""
    for workload in workloads:
        for kind in workload.kinds:
            if kind == "one":
                continue
            used = {}
            for name in names:
                with harness.workers([name], threads) as team:
                    for worker in each(team, "memory", workload, kind).values():
                        if worker.answer is not None:
                            used[name] = worker.answer / 1e6
            yield {"workload": workload.name, "kind": kind, "megabytes": used}


# --- printing -------------------------------------------------------------------------------------


def show(rows, names):
    for kind, title in KINDS.items():
        chosen = [r for r in rows if r["kind"] == kind]
        present = [n for n in names if any(n in r["seconds"] for r in chosen)]
        if not chosen:
            continue
        print(f"\n{title}, ms; ratios: time of the peer / time of fastrnn")
        cells = [
            [
                r["workload"],
                *(milliseconds(r["seconds"][n]) if n in r["seconds"] else "-" for n in present),
                number(r["ratio_to_best"], ".2f"),
                r["best_peer"] or "-",
                number(r["ratio_to_keras"], ".1f"),
                number(r["gflops"], ".0f"),
                number(r["share_of_sgemm"], ".0%"),
            ]
            for r in chosen
        ]
        table(cells, ["", *present, "best peer", "which", "tf.keras", "GFLOP/s", "of sgemm"])
    peaks = [r["sgemm_gflops"] for r in rows]
    turns = [t for r in rows for ts in r["turns"].values() for t in ts]
    loud = sum(t.waited >= harness.QUIET for t in turns) / len(turns)
    print(f"\nsgemm peak: {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s between the workloads")
    print(f"turns in which other programs held the CPUs: {loud:.0%}")


def number(value, form):
    return "-" if value is None else format(value, form)


def show_memory(rows, names):
    print("\nPeak memory in MB, above the process with its library and data")
    present = [n for n in names if any(n in r["megabytes"] for r in rows)]
    cells = [
        [f"{r['workload']}, {r['kind']}", *(number(r["megabytes"].get(n), ".1f") for n in present)]
        for r in rows
    ]
    table(cells, ["", *present])


def chart(rows, names, file):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    present = [n for n in names if n != OURS and any(n in r["seconds"] for r in rows)]
    kinds = [kind for kind in KINDS if any(r["kind"] == kind for r in rows)]
    figure, axes = pyplot.subplots(len(kinds), figsize=(11, 3.4 * len(kinds)), squeeze=False)
    for kind, ax in zip(kinds, axes[:, 0], strict=True):
        chosen = [r for r in rows if r["kind"] == kind and OURS in r["seconds"]]
        for i, name in enumerate(present):
            points = [(x, r) for x, r in enumerate(chosen) if name in r["seconds"]]
            places = [x + (i - len(present) / 2 + 0.5) * 0.8 / len(present) for x, _ in points]
            ratios = [r["seconds"][name] / r["seconds"][OURS] for _, r in points]
            above = [ratio - 1 for ratio in ratios]
            bars = ax.bar(places, above, 0.8 / len(present), bottom=1, label=name, color=f"C{i}")
            labels = [f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" for ratio in ratios]
            ax.bar_label(bars, labels, fontsize=6, padding=1)
        ax.axhline(1, color="black", linewidth=1)
        ax.set_yscale("log")
        ax.margins(y=0.15)
        ax.set_xticks(range(len(chosen)), [r["workload"] for r in chosen], fontsize=8)
        ax.set_title(f"{KINDS[kind]}: time / time of fastrnn", fontsize=10)
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(present), fontsize=8)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(file, dpi=130)


# --- fastrnn alone --------------------------------------------------------------------------------


def scaling(workloads, rounds, seconds):
    """Tables over threads, and over timesteps and batch, where cost should grow linearly."""
    cls = load(OURS)
    cells = []
    for workload in workloads:
        peer = cls(workload, 1)
        turns = {
            (kind, threads): partial(_with_threads, peer, kind, threads, seconds)
            for kind in ("train", "predict", "one")
            for threads in (1, 2)
        }
        times = {name: typical(ts) for name, ts in alternate(turns, rounds).items()}
        cells.append([workload.name])
        for kind in ("train", "predict", "one"):
            one, two = times[kind, 1], times[kind, 2]
            cells[-1] += [milliseconds(one), milliseconds(two), f"{one / two:.2f}"]
    print("\nThreads: ms with 1, with 2, ratio")
    table(cells, ["", "train 1", "2", "ratio", "predict 1", "2", "ratio", "one 1", "2", "ratio"])

    for field, sizes in (("timesteps", (25, 50, 100, 200, 400)), ("batch", (16, 32, 64, 128, 256))):
        base = Chain("LSTM(64)", 64, 50, 64, (LSTM(64), SOFTMAX), 2)
        models = {size: cls(replace(base, **{field: size}), 2) for size in sizes}
        turns = {
            (kind, size): partial(harness.measure, getattr(model, kind), seconds)
            for kind in ("train", "predict")
            for size, model in models.items()
        }
        times = {name: typical(ts) for name, ts in alternate(turns, rounds).items()}
        units = {"train": base.steps, "predict": 1}
        cells = [
            [size, *(f"{1e6 * times[kind, size] / size / n:.2f}" for kind, n in units.items())]
            for size in sizes
        ]
        print(f"\nLSTM(64) on 64 features, {base.timesteps} timesteps, batch {base.batch} but for "
              f"growing {field}: µs per unit of it")  # fmt: skip
        table(cells, [field, "train", "predict"])


def _with_threads(peer, kind, threads, seconds):
    peer.api.set_num_threads(threads)
    timing = harness.measure(getattr(peer, kind), seconds)
    steps = peer.workload.steps if kind == "train" else 1
    return timing._replace(seconds=timing.seconds / steps)


# --- command line ---------------------------------------------------------------------------------


def main():
    everybody = [name for name in PEERS if name != "sgemm"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shortly, the chains alone")
    parser.add_argument("--graphs", action="store_true", help="the workloads that are no chains")
    parser.add_argument("--only", help="workloads whose names begin like one of these, a,b,...")
    parser.add_argument("--peers", help=f"of {', '.join(everybody)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="turns of each peer (7; quick: 1)")
    parser.add_argument("--json", help="write all figures to this file")
    parser.add_argument("--chart", help="draw the ratios into this PNG")
    for name, text in (
        ("sweep", "one layer over units, batch and timesteps"),
        ("scaling", "fastrnn over threads, timesteps and batch"),
        ("memory", "peak memory beside the peers'"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=text)
    args = parser.parse_args()

    names = everybody
    if args.peers:
        names = args.peers.split(",")
        if unknown := set(names) - set(everybody):
            parser.error(f"--peers: expected some of {everybody}, received {sorted(unknown)}")
    elif args.quick:
        # PyTorch would take minutes for subnormal numbers, JAX for compiling
        names = [n for n in everybody if n not in ("PyTorch", "JAX")]
    workloads = GRAPHS if args.graphs else CHAINS if args.quick else WORKLOADS
    if args.only:
        begins = args.only.split(",")
        known = [w.name for w in WORKLOADS]
        for begin in begins:
            if not begin or not any(name.startswith(begin) for name in known):
                parser.error(f"--only: expected beginnings of {known}, received {begin!r}")
        workloads = [w for w in WORKLOADS if w.name.startswith(tuple(begins))]
    for name in ("threads", "rounds"):
        if (count := getattr(args, name)) is not None and count < 1:
            parser.error(f"--{name}: expected a whole number >= 1, received {count}")
    rounds, seconds, tries = args.rounds or 7, 0.3, 3
    if args.quick:
        workloads = [replace(w, steps=w.steps // 2) if w.steps > 1 else w for w in workloads]
        rounds, seconds, tries = args.rounds or 1, 0.05, 1

    header = harness.machine(args.threads)
    print("; ".join(f"{key}: {value}" for key, value in header.items()))
    if args.scaling:
        scaling(workloads, rounds, seconds)
        return
    if args.memory:
        rows = memory(workloads, names, args.threads)
    elif args.sweep:
        points = sweep(args.quick)
        batches = [w for w in points if w.batch > 1]
        single = [w for w in points if w.batch == 1]
        rows = (
            r
            for group, kinds in ((single, ("train", "one")), (batches, ("train", "predict")))
            for r in compare(group, names, args.threads, args.rounds or 3, 0.1, tries, kinds)
        )
    else:
        rows = compare(workloads, names, args.threads, rounds, seconds, tries)
    done = []
    for r in rows:
        done.append(r)
        if args.json:
            with open(args.json, "w") as file:
                json.dump({"machine": header, "rows": done}, file, indent=1)
    if args.memory:
        show_memory(done, names)
    else:
        show(done, names)
        if args.chart:
            chart(done, names, args.chart)


if __name__ == "__main__":
    main()
