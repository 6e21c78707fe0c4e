"""Progbar and write: what reaches a terminal, a file and a stream that is ASCII only."""

import contextlib
import io
import os
import re
import sys
import timeit
from pathlib import Path
from types import SimpleNamespace

import children
import pytest

from fastrnn import progress
from fastrnn.progress import Progbar, write


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "perf_counter", clock)
    return clock


@pytest.fixture
def file(monkeypatch):
    return redirect(monkeypatch, io.StringIO())


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return redirect(monkeypatch, Terminal())


def redirect(monkeypatch, stream):
    monkeypatch.delenv("PYCHARM_HOSTED", raising=False)
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=stream))  # sys.stdout is pytest's
    return stream


def screen(text):
    """The lines that a terminal shows after `text`."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def run_epoch(bar, clock, steps=196, seconds_per_step=0.061):
    for step in range(steps):
        clock.now += seconds_per_step
        bar.update(step + 1, {"loss": 0.5, "accuracy": 0.5})
    bar.finish({"loss": 0.4219, "accuracy": 0.8033})


def test_bar_in_a_file_is_one_line(file, clock):
    bar = Progbar(196, verbose=1)
    assert not bar.live
    run_epoch(bar, clock)
    assert file.getvalue() == (
        f"196/196 {'━' * 20} 12s 61ms/step - loss: 0.4219 - accuracy: 0.8033\n"
    )


def test_bar_in_a_terminal_is_redrawn_in_place(terminal, clock):
    bar = Progbar(196, verbose=1)
    assert bar.live
    run_epoch(bar, clock)
    assert terminal.getvalue().count("\r") == 197
    assert screen(terminal.getvalue()) == [
        f"196/196 {'━' * 20} 12s 61ms/step - loss: 0.4219 - accuracy: 0.8033",
        "",
    ]


def test_running_bar_shows_the_time_left(terminal, clock):
    bar = Progbar(8, verbose=1)
    clock.now += 10
    bar.update(2, {"loss": 0.5})
    assert screen(terminal.getvalue()) == [f"2/8 {'━' * 20} 30s 5s/step - loss: 0.5000"]
    assert f"\x1b[32m{'━' * 5}\x1b[37m{'━' * 15}\x1b[0m" in terminal.getvalue()


def test_shorter_line_leaves_nothing_of_a_longer_one(terminal, clock):
    bar = Progbar(2, verbose=1)
    clock.now += 0.1
    bar.update(1, {"loss": 123456.0})
    bar.finish({"loss": 1.0})
    assert screen(terminal.getvalue())[0].endswith("- loss: 1.0000")


def test_drawing_is_throttled(terminal, clock):
    bar = Progbar(1000, verbose=1)
    run_epoch(bar, clock, steps=1000, seconds_per_step=0.001)
    assert 10 <= terminal.getvalue().count("\r") <= 25


def test_running_line_stays_within_the_terminal(terminal, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    bar = Progbar(2, verbose=1)
    clock.now += 1
    bar.update(1, {"a_metric_with_a_long_name": 0.5})
    assert len(screen(terminal.getvalue())[0]) <= 39
    bar.finish({"a_metric_with_a_long_name": 0.5})
    assert "a_metric_with_a_long_name: 0.5000" in screen(terminal.getvalue())[0]


def test_without_colours_the_rest_of_the_bar_is_thin(terminal, clock, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    bar = Progbar(4, verbose=1)
    bar.update(1)
    assert "━" * 5 + "─" * 15 in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_verbose_2_is_plain_text(terminal, clock):
    bar = Progbar(196, verbose=2)
    assert not bar.live
    run_epoch(bar, clock)
    assert terminal.getvalue() == ("196/196 - 12s - 61ms/step - loss: 0.4219 - accuracy: 0.8033\n")


def test_verbose_0_is_silent(terminal, clock):
    run_epoch(Progbar(3, verbose=0), clock, steps=3)
    assert terminal.getvalue() == ""


def test_unknown_number_of_steps(terminal, clock):
    bar = Progbar(None, verbose=1)
    clock.now += 2
    bar.update(4, {"loss": 0.5})
    assert screen(terminal.getvalue()) == ["      4/Unknown 2s 500ms/step - loss: 0.5000"]
    bar.finish({"loss": 0.25})
    assert screen(terminal.getvalue())[0] == f"4/4 {'━' * 20} 2s 500ms/step - loss: 0.2500"


def test_more_steps_than_expected(terminal, clock):
    bar = Progbar(4, verbose=1)
    bar.update(5)
    assert f"5/4 {'━' * 20}" in screen(terminal.getvalue())[0]


def test_no_steps_at_all(file, clock):
    Progbar(None, verbose=1).finish()
    assert file.getvalue() == "      0/Unknown 0s 0us/step\n"


def test_start_begins_anew(file, clock):
    bar = Progbar(2, verbose=2)
    clock.now += 50
    bar.start()
    clock.now += 4
    bar.finish()
    assert file.getvalue() == "2/2 - 4s - 2s/step\n"


@pytest.mark.parametrize(
    "seconds, text", [(0, "0s"), (59.9, "59s"), (61, "1:01"), (3600, "1:00:00"), (7325, "2:02:05")]
)
def test_clock(seconds, text):
    assert progress._clock(seconds) == text


@pytest.mark.parametrize(
    "seconds, steps, text",
    [(12, 196, "61ms/step"), (5e-5, 1, "50us/step"), (90, 2, "45s/step"), (0, 0, "0us/step")],
)
def test_per_step(seconds, steps, text):
    assert progress._per_step(seconds, steps) == text


@pytest.mark.parametrize(
    "value, text",
    [
        (0.8033, "0.8033"),
        (1234.5, "1234.5000"),
        (-0.5, "-0.5000"),
        (0.00012345, "1.2345e-04"),
        (0.0, "0.0000e+00"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (3, "3.0000"),
        ([1.0, 2.0], "1.5000"),
    ],
)
def test_values(value, text):
    assert progress._values({"v": value}) == f" - v: {text}"


def test_values_keep_their_order():
    logs = {"loss": 1.0, "acc": 1.0, "val_loss": 1.0, "val_acc": 1.0}
    names = re.findall(r"- (\w+):", progress._values(logs))
    assert names == list(logs)


@pytest.mark.parametrize("verbose", ["yes", 3, -1, None, "2"])
def test_other_verbose_is_refused(verbose):
    with pytest.raises(ValueError, match="verbose: expected 'auto', 0, 1 or 2, received"):
        Progbar(1, verbose)


def test_auto_is_1():
    assert progress.check_verbose("auto") == 1


def test_ascii_stream(monkeypatch, clock):
    raw = io.BytesIO()
    redirect(monkeypatch, io.TextIOWrapper(raw, encoding="ascii", newline="\n"))
    bar = Progbar(4, verbose=1)
    bar.finish({"précision": 0.5})
    assert raw.getvalue() == b"4/4 ==================== 0s 0us/step - pr?cision: 0.5000\n"


def test_no_stdout(monkeypatch):
    redirect(monkeypatch, None)
    write("nothing")
    bar = Progbar(1, verbose=1)
    bar.update(1)
    bar.finish()


def test_notebook_is_live(monkeypatch):
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    redirect(monkeypatch, stream)
    assert Progbar(1, verbose=1).live


def test_an_epoch_line_is_cheap(file):
    bar = Progbar(1, verbose=2)
    logs = {"loss": 0.5, "accuracy": 0.5}

    def epoch():
        bar.start()
        bar.finish(logs)

    assert min(timeit.repeat(epoch, number=200, repeat=10)) / 200 < 15e-6


# --- fit with verbose="auto" in a real terminal, pipe and notebook ---

PROGRAM = """
import time
import numpy as np
from fastrnn import callbacks, layers
from fastrnn.models import Sequential

model = Sequential([layers.LSTM(2, input_shape=(3, 2)), layers.Dense(1)])
model.compile("sgd", "mse")
x = np.ones((40, 3, 2))
slow = callbacks.LambdaCallback(on_train_batch_end=lambda *_: time.sleep(0.03))
history = model.fit(x, x[:, 0, :1], epochs=2, batch_size=4, callbacks=[slow])
"""
LINES = [
    r"Epoch 1/2", r"10/10 ━{20} \d+s \d+[mu]s/step - loss: [\d.e-]+",
    r"Epoch 2/2", r"10/10 ━{20} \d+s \d+[mu]s/step - loss: [\d.e-]+",
]  # fmt: skip


def assert_lines(text):
    *lines, end = screen(text.replace("\r\n", "\n"))
    assert end == "" and len(lines) == len(LINES)
    for line, pattern in zip(lines, LINES, strict=True):
        assert re.fullmatch(pattern, line)


def environment():
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONIOENCODING": "utf-8",
        "TERM": "xterm",
    }


def test_fit_in_a_pipe():
    done = children.run(
        [sys.executable, "-c", PROGRAM],
        env=environment(), encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert_lines(done.stdout)
    assert not {"\r", "\x1b"} & set(done.stdout)


def test_fit_in_a_terminal():
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    ours, theirs = pty.openpty()
    with children.start(
        [sys.executable, "-c", PROGRAM], env=environment(), stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        received = b""
        with contextlib.suppress(OSError):  # the end of a terminal, on Linux
            while part := os.read(ours, 4096):
                received += part
    os.close(ours)
    assert process.returncode == 0
    assert_lines(received.decode())
    assert received.replace(b"\r\n", b"\n").count(b"\r") >= 10  # drawn again and again


def test_fit_in_a_notebook(monkeypatch):
    pytest.importorskip("ipykernel", reason="runs a notebook")
    nbclient = pytest.importorskip("nbclient", reason="runs a notebook")
    nbformat = pytest.importorskip("nbformat", reason="runs a notebook")
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PROGRAM)])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert {output.get("name") for output in outputs} == {"stdout"}
    text = "".join(output.text for output in outputs)
    assert_lines(text)
    assert text.count("\r") >= 10
