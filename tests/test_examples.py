"""The examples as programs: short runs of all, and full runs of the two that take seconds."""

import os
import re
import sys
from pathlib import Path

import children
import numpy as np
import pytest

from fastrnn.examples import _common

ROOT = Path(__file__).parents[1]
NAMES = ["attention", "cumsum", "echo", "frames", "imdb", "mnist", "search"]


def run(name, *options):
    """Exit status, standard output and standard error of `python -m fastrnn.examples.NAME`."""
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    done = children.run(
        [sys.executable, "-m", f"fastrnn.examples.{name}", *map(str, options)],
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"},
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def draw(tmp_path):
    """The option to plot into a file, and that file."""
    pytest.importorskip("matplotlib", reason="--plot needs matplotlib")
    path = tmp_path / "curves.png"
    return ("--plot", path), path


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n") and path.stat().st_size > 5000


@pytest.fixture
def reviews(tmp_path):
    """An imdb.npz of 60 + 60 reviews whose praise is word 10 and whose blame is word 20."""
    rng = np.random.default_rng(1)
    arrays = {}
    for part in ("train", "test"):
        y = rng.integers(0, 2, 60)
        x = np.empty(60, dtype=object)
        for i in range(60):
            x[i] = [*rng.integers(30, 9000, rng.integers(5, 250)).tolist(), 20 - 10 * int(y[i])]
        arrays |= {f"x_{part}": x, f"y_{part}": y}
    np.savez(tmp_path / "imdb.npz", **arrays)
    return tmp_path / "imdb.npz"


@pytest.fixture
def digits(tmp_path):
    """A mnist.npz of 120 + 20 pictures: noise, and a bright row that tells the digit."""
    rng = np.random.default_rng(1)
    arrays = {}
    for part, n in (("train", 120), ("test", 20)):
        y = rng.integers(0, 10, n).astype(np.uint8)
        x = rng.integers(0, 50, (n, 28, 28)).astype(np.uint8)
        x[np.arange(n), 2 * y] = 255
        arrays |= {f"x_{part}": x, f"y_{part}": y}
    np.savez(tmp_path / "mnist.npz", **arrays)
    return tmp_path / "mnist.npz"


@pytest.mark.parametrize("name", NAMES)
def test_help(name):
    status, out, err = run(name, "--help")
    assert (status, err) == (0, "")
    assert f"usage: python -m fastrnn.examples.{name}" in out
    assert all(option in out for option in ("--plot", "--epochs", "--seed", "--verbose"))


@pytest.mark.parametrize("name", NAMES)
def test_wrong_option(name):
    status, _, err = run(name, "--epochs", "many")
    assert status == 2 and "invalid int value: 'many'" in err


def test_frames_in_short(tmp_path):
    plot, png = draw(tmp_path)
    status, out, err = run("frames", "--epochs", 1, *plot)
    assert (status, err) == (0, "")
    end = " (after 30 epochs, the default, validation accuracy should be at least 0.95)\n"
    assert out.endswith(end)
    assert " Total params: 9,961 " in out
    assert re.search(r"\n32/32 ━{20} \d+s \d+ms/step - loss: .* - val_accuracy: 0\.\d{4}\n", out)
    assert is_png(png)


def test_a_missed_target(capsys):
    """With the epochs that it is for, or more, it is an error."""
    parser = _common.parser("name", "", epochs=5)
    for epochs in (5, 6):
        with pytest.raises(SystemExit, match="^target not met: accuracy should be at least 0.9$"):
            _common.check(parser.parse_args([f"--epochs={epochs}"]), "accuracy", 0.8, 0.9)
    _common.check(parser.parse_args([]), "accuracy", 0.9, 0.9)
    _common.check(parser.parse_args(["--epochs=4"]), "accuracy", 0.8, 0.9)
    assert capsys.readouterr().out.endswith(
        "accuracy: 0.8000 (after 5 epochs, the default, accuracy should be at least 0.9)\n"
    )


def test_attention_in_short():
    status, out, err = run("attention", "--epochs", 1)
    assert (status, err) == (0, "")
    assert re.search(r"^Epoch 1/1 - loss: 0\.\d{4} - accuracy: 0\.\d{4}$", out, re.M)
    assert " (after 10 epochs, the default, accuracy on 500 new sequences should be at lea" in out


def test_attention(tmp_path):
    plot, png = draw(tmp_path)
    status, out, err = run("attention", "--verbose", 0, *plot)
    assert (status, err) == (0, "")
    assert float(re.search(r"new sequences: (\S+)", out)[1]) >= 0.95
    assert float(re.search(r"weight of the marked step: (\S+)", out)[1]) >= 0.8
    assert is_png(png)


def test_cumsum_in_short():
    status, out, err = run("cumsum", "--epochs", 3)
    assert (status, err) == (0, "")
    assert " (after 1000 epochs, the default, accuracy on 200 new sequences should be at le" in out
    assert len(re.findall(r"^1/1 - 0s - \d+\ws/step - loss: \S+ - acc: \S+$", out, re.M)) == 3


def test_cumsum(tmp_path):
    plot, png = draw(tmp_path)
    status, out, err = run("cumsum", "--verbose", 0, *plot)
    assert (status, err) == (0, "")
    assert len(re.findall(r"^Expected: \[[01]\] Predicted \[[01]\]$", out, re.M)) == 10
    assert float(re.search(r"new sequences: (\S+)", out)[1]) >= 0.95
    assert re.search(r"^training time: \d+\.\d\d s$", out, re.M)
    assert is_png(png)


def test_echo_in_short():
    status, out, err = run("echo", "--epochs", 2, "--verbose", 2)
    assert (status, err) == (0, "")
    assert " (after 1000 epochs, the default, the echo should be [0.  0.2 0.4" in out
    assert re.search(r"^Epoch 2/2\n1/1 - 0s - \d+\ws/step - loss: \S+$", out, re.M)


def test_echo(tmp_path):
    plot, png = draw(tmp_path)
    status, out, err = run("echo", "--verbose", 0, *plot)
    assert (status, err) == (0, "")
    assert "\n0.0\n0.2\n0.4\n0.6\n0.8\n" in out
    assert "98,816" in out and "394,240" in out
    assert is_png(png)


def test_imdb_in_short(reviews, tmp_path):
    plot, png = draw(tmp_path)
    status, out, err = run("imdb", "--path", reviews, "--epochs", 2, *plot)
    assert (status, err) == (0, "")
    assert " Total params: 1,378,945 " in out
    assert out.count("\n1/1 ━") == 2
    assert "\nbest validation accuracy: 0." in out
    assert is_png(png)


def test_mnist_in_short(digits, tmp_path):
    plot, png = draw(tmp_path)
    status, out, err = run("mnist", "--path", digits, "--epochs", 2, *plot)
    assert (status, err) == (0, "")
    assert " (after 15 epochs, the default, lowest test accuracy should be at least 0.978)\n" in out
    assert " Total params: 36,554 " in out and " Total params: 48,906 " in out
    assert len(re.findall(r"^test_loss: \S+ - test_acc: \S+$", out, re.M)) == 2
    assert is_png(png)


@pytest.mark.parametrize("name", ["stacked", "bidirectional"])
def test_mnist_one_model(digits, name):
    out = run("mnist", "--path", digits, "--epochs", 1, "--model", name)[1]
    assert out.count("test_loss: ") == 1 and f'Model: "{name}"' in out


@pytest.mark.parametrize("name", ["imdb", "mnist"])
def test_without_data(name, tmp_path):
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(b"")
    status, _, err = run(name, "--path", damaged)
    assert status == 1 and "damaged.npz" in err


def test_results_depend_on_the_seed_alone():
    first, again, other = (
        run("cumsum", "--epochs", 5, "--seed", seed)[1].splitlines()[-1] for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.parametrize("by, package", [("optuna", "optuna"), ("sklearn", "sklearn")])
def test_search(tmp_path, by, package):
    pytest.importorskip(package, reason=f"searches by {package}")
    plot, png = draw(tmp_path)
    status, out, err = run("search", "--by", by, *plot)
    assert (status, err) == (0, "")
    assert re.search(r"^best: both_ways=\S+, dropout=\S+, rate=\S+, units=\d+$", out, re.M)
    assert float(re.search(r"new sequences: (\S+)", out)[1]) >= 0.85
    assert is_png(png)
    if by == "optuna":
        assert re.search(r"^10 trials, [1-9] ended early$", out, re.M)


@pytest.mark.parametrize("by, package", [("optuna", "optuna"), ("sklearn", "sklearn")])
def test_search_without_its_library(monkeypatch, tmp_path, by, package):
    (tmp_path / f"{package}.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    status, _, err = run("search", "--by", by)
    assert status == 1
    assert err.startswith("search") and f"pip install 'fastrnn[{package}]'" in err
