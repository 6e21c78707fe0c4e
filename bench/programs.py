"""The time of a training step of the example programs' models, fastrnn against tf.keras.

Run: python bench/programs.py [--rounds N]
"""

import argparse
from functools import partial

from harness import alternate, each, machine, milliseconds, table, typical, workers
from networks import LSTM, BatchNormalization, Chain, Dense, Dropout, Embedding
from workloads import SIGMOID, SOFTMAX

# As the programs call fit: the steps of an epoch (fewer where the data are many) and the epochs.
PROGRAMS = (
    Chain(
        "frames", 64, 149, 40,
        (LSTM(20, True, True), Dropout(0.5), BatchNormalization(), SIGMOID), steps=31,
    ),
    Chain("cumsum", 1, 10, 1, (LSTM(20, True, True), SIGMOID), steps=1),
    Chain("echo", 1, 5, 1, (LSTM(5, True), Dense(1)), steps=1, epochs=100),
    Chain(
        "imdb", 128, 200, 128,
        (Embedding(10000, 128), LSTM(64, False, True), Dropout(0.5), SIGMOID), steps=16,
    ),
    Chain("mnist stacked", 500, 28, 28, (LSTM(64, True), LSTM(32), SOFTMAX), steps=22),
    Chain("mnist bidirectional", 500, 28, 28, (LSTM(64, False, True), SOFTMAX), steps=22),
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(*machine(2).values(), sep="; ")
    rows = []
    with workers(["fastrnn", "tf.keras"], threads=2) as team:
        for program in PROGRAMS:
            able = each(team, "prepare", program)
            turns = {name: partial(w.ask, "measure", "train", 0.5, 3) for name, w in able.items()}
            times = {name: typical(ts) for name, ts in alternate(turns, args.rounds).items()}
            ours, theirs = times.get("fastrnn", float("nan")), times.get("tf.keras", float("nan"))
            rows.append([program.name, milliseconds(ours), milliseconds(theirs)])
            rows[-1].append(f"{theirs / ours:.1f}")
    table(rows, ["training step, ms", "fastrnn", "tf.keras", "ratio"])


if __name__ == "__main__":
    main()
