"""Saving leaves the old file or the new one, whatever happens while it writes."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import children
import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn.models import load_model
from fastrnn.saving import atomic

ROOT = Path(fastrnn.__file__).parents[1]

SAVE_FOR_EVER = """
import sys, numpy as np
from fastrnn.models import load_model
model = load_model(sys.argv[1])
for number in range(10**9):
    model.set_weights([np.full(w.shape, number, np.float32) for w in model.get_weights()])
    model.save(sys.argv[1])
    model.save_weights(sys.argv[2])
    print(number, flush=True)
"""

DIE_AT = """
import os, signal, sys
from fastrnn.saving import atomic

left = int(sys.argv[2])

def dying(function):
    def call(*args):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return call

for name in ("open", "fsync", "replace", "close"):
    setattr(os, name, dying(getattr(os, name)))
atomic.write_file(sys.argv[1], b"new" * 5000)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_killed_while_saving(tmp_path):
    model = fastrnn.Sequential([L.Input((30,)), L.Dense(300)])
    model.set_weights([np.full(w.shape, -1, np.float32) for w in model.get_weights()])
    whole, alone = tmp_path / "m.keras", tmp_path / "m.weights.h5"
    model.save(whole)
    model.save_weights(alone)
    rng, seen = np.random.default_rng(5), set()
    for _ in range(12):
        command = [sys.executable, "-c", SAVE_FOR_EVER, whole, alone]
        with children.start(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            try:
                for _ in range(rng.integers(1, 5)):
                    saved = int(process.stdout.readline())
                    time.sleep(rng.uniform(0, 0.03))
                    process.send_signal(signal.SIGSTOP)  # the disk is as a kill leaves it
                    found = number_in(load_model(whole))
                    assert found >= saved
                    seen.add(found)
                    process.send_signal(signal.SIGCONT)
                time.sleep(rng.uniform(0, 0.03))
            finally:
                process.kill()
        seen.add(number_in(load_model(whole)))
        model.load_weights(alone)
        number_in(model)
    assert len(seen) > 3  # it was killed at different moments


def number_in(model):
    """The one number that all weights have: no mixture of two saved states."""
    values = {float(v) for w in model.get_weights() for v in np.unique(w)}
    assert len(values) == 1
    return values.pop()


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_killed_at_each_step(tmp_path):
    path, found, status = tmp_path / "file", [], None
    while status != 0:
        path.write_bytes(b"old")
        command = [sys.executable, "-c", DIE_AT, path, str(len(found))]
        status = subprocess.run(command, cwd=ROOT).returncode
        assert status in (0, -signal.SIGKILL)
        found.append(path.read_bytes())
    assert set(found) == {b"old", b"new" * 5000}
    assert len(found) > 5 and found == sorted(found, reverse=True)  # old, and from one step on new


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_an_error_while_saving(step, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    if step == "write":
        monkeypatch.setattr(atomic, "open", fail, raising=False)
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_synced_before_it_takes_its_name(tmp_path, monkeypatch):
    path, order = tmp_path / "file", []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, real=real: (order.append(name), real(*a))
        )
    atomic.write_file(path, b"new")
    assert order[:2] == ["fsync", "replace"]
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
def test_permissions_and_links_stay(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o600)
    link.symlink_to(path)
    atomic.write_file(link, b"new")
    assert link.is_symlink() and path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic.write_file(tmp_path / "none" / "file", b"new")
