"""Keras programs of own layers, models, steps and loops: their numbers are those of Keras.

Each program of tests/scripts/own sets its weights, trains without chance, and prints `= name`
and numbers; what Keras 3.15 on TensorFlow printed is in the file beside it."""

import sys
from pathlib import Path

import children
import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted((ROOT / "tests" / "scripts" / "own").glob("*.py"))
PROGRAMS = [path for path in PROGRAMS if path.stem != "shown"]  # what they share


def shown(text):
    return [line.split()[1:] for line in text.splitlines() if line.startswith("= ")]


def same(ours, theirs):
    try:
        ours, theirs = float(ours), float(theirs)
    except ValueError:
        return ours == theirs
    return abs(ours - theirs) <= 1e-5 * max(1, abs(theirs))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_numbers_are_those_of_keras(program, tmp_path):
    done = children.run(
        [sys.executable, "-m", "fastrnn", "run", str(program)],
        encoding="utf-8",
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = shown(done.stdout), shown(program.with_suffix(".txt").read_text())
    assert [line[0] for line in ours] == [line[0] for line in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == len(other) and all(map(same, one, other)), (one, other)


def test_there_are_programs():
    assert len(PROGRAMS) >= 9
