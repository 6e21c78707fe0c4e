"""The progress bar of fit, evaluate and predict, and how text gets to the standard output."""

import os
import shutil
import sys
from collections.abc import Sequence
from time import perf_counter

import numpy as np

_WIDTH = 20  # characters
_INTERVAL = 0.05  # seconds between two drawings
_ASCII = str.maketrans("━─┃│┏┳┓┡╇┩├┼┤└┴┘", "=-||++++++++++++")


class Progbar:
    """A line that shows the steps done, the time they took and the values in `logs`.

    With verbose=1 it has a bar, drawn again and again in a terminal or notebook and once, by
    `finish`, elsewhere; with verbose=2 it is plain text, written by `finish`; with 0, nothing.
    `target` is the number of steps, None if unknown until `finish`.
    `live` says whether `update` draws. As keras.utils.Progbar, but `logs` are shown as they are.
    """

    def __init__(self, target: int | None, verbose: int | str = 1):
        self.target = target
        self.verbose = check_verbose(verbose)
        self.live = self.verbose == 1 and _can_redraw(sys.stdout)
        self._coloured = self.live and _has_colours()
        self.start()

    def start(self) -> None:
        """Begin at step 0, now."""
        self.seen = 0
        self._drawn_at = float("-inf")
        self._drawn_width = 0
        self._started = perf_counter()

    def update(
        self,
        current: int,
        values: dict | Sequence[tuple[str, float]] | None = None,
        finalize: bool | None = None,
    ) -> None:
        """Note that `current` steps are done and draw, unless the last drawing is very recent.
        values: a dict, or Keras's list of (name, value). finalize: whether it is the last one."""
        seen, logs = current, dict(values or {})
        self.seen = seen
        if finalize:
            self.target = self.target or seen
            return self.finish(logs)
        now = perf_counter()
        if not self.live or now - self._drawn_at < _INTERVAL:
            return
        self._drawn_at = now
        elapsed = now - self._started
        left = elapsed
        if self.target:
            left = max(self.target - seen, 0) * elapsed / max(seen, 1)
        self._draw(f" {_clock(left)} {_per_step(elapsed, seen)}{_values(logs)}", end="")

    def finish(self, logs: dict | None = None) -> None:
        """Write the last line of the bar; all of its steps count as done."""
        if not self.target:
            self.target = self.seen
        self.seen = self.target
        elapsed = perf_counter() - self._started
        per_step = _per_step(elapsed, self.seen)
        if self.verbose == 2:
            done = f"{self.seen}/{self.target}"
            write(f"{done} - {elapsed:.0f}s - {per_step}{_values(logs)}\n")
        elif self.verbose == 1:
            self._draw(f" {elapsed:.0f}s {per_step}{_values(logs)}", end="\n")

    def _draw(self, info: str, end: str) -> None:
        if self.target:
            done = _WIDTH * min(self.seen, self.target) // self.target
            count = f"{self.seen:{len(str(self.target))}d}/{self.target} "
            bar, width = count + self._bar(done), len(count) + _WIDTH
        else:
            bar = f"{self.seen:7d}/Unknown"
            width = len(bar)
        if not self.live:
            write(bar + info + end)
            return
        if not end and _is_terminal(sys.stdout):
            info = info[: max(shutil.get_terminal_size().columns - 1 - width, 0)]
        width += len(info)
        write("\r" + bar + info + " " * (self._drawn_width - width) + end)
        self._drawn_width = width

    def _bar(self, done: int) -> str:
        if self._coloured:
            return f"\x1b[32m{'━' * done}\x1b[37m{'━' * (_WIDTH - done)}\x1b[0m"
        return "━" * done + "─" * (_WIDTH - done)


def check_verbose(verbose: int | str) -> int:
    """Return 0, 1 or 2; "auto" is 1. Raises ValueError for anything else."""
    if verbose == "auto":
        return 1
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose: expected 'auto', 0, 1 or 2, received {verbose!r}")
    return int(verbose)


def write(text: str) -> None:
    """Write to the standard output at once, in ASCII where its encoding lacks the characters."""
    stream = sys.stdout
    if stream is None:
        return
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.translate(_ASCII).encode(encoding, "replace").decode(encoding))
    stream.flush()


def _can_redraw(stream) -> bool:
    notebook = type(stream).__module__.startswith("ipykernel")
    return notebook or "PYCHARM_HOSTED" in os.environ or _is_terminal(stream)


def _is_terminal(stream) -> bool:
    return hasattr(stream, "isatty") and stream.isatty()


def _has_colours() -> bool:
    return "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{rest}s"


def _per_step(seconds: float, steps: int) -> str:
    each = seconds / max(steps, 1)
    if each >= 1:
        return f"{each:.0f}s/step"
    return f"{each * 1e3:.0f}ms/step" if each >= 1e-3 else f"{each * 1e6:.0f}us/step"


def _values(logs: dict | None) -> str:
    text = ""
    for name, value in (logs or {}).items():
        if not isinstance(value, float):
            value = float(np.mean(value))
        text += f" - {name}: {value:.4f}" if abs(value) > 1e-3 else f" - {name}: {value:.4e}"
    return text
