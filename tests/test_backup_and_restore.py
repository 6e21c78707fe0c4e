"""BackupAndRestore: training that was killed, at the worst moments too, ends with the same bits."""

import os
import signal
import sys
from pathlib import Path

import children
import numpy as np
import pytest

from fastrnn import layers
from fastrnn.callbacks import BackupAndRestore, Callback, EarlyStopping
from fastrnn.models import Sequential
from fastrnn.utils import set_random_seed

ROOT = Path(__file__).parents[1]
PROGRAM = """
import os, signal, sys
import numpy as np
from fastrnn import callbacks, layers, saving, utils
from fastrnn.models import Sequential

moment, target = sys.argv[1:]


def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)


class Die(callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if moment == "in a batch" and (self.epoch, batch) == (3, 1):
            die()
        if moment == "before the backup is in place" and (self.epoch, batch) == (3, 2):
            os.replace = die
        if moment == "before the old backup is gone" and (self.epoch, batch) == (3, 2):
            os.remove = die


utils.set_random_seed(5)
rng = np.random.default_rng(1)
x, y = rng.normal(size=(12, 4, 2)), rng.normal(size=(12, 1))
model = Sequential([layers.LSTM(3, input_shape=(4, 2)), layers.Dense(1)])
model.compile("adam", "mse")
history = model.fit(x, y, 4, 6, 0, [callbacks.BackupAndRestore("backup"), Die()], shuffle=False)
assert not os.path.exists("backup")
print(history.epoch)
model.save_weights(target)
"""


def run(moment, folder):
    return children.run(
        [sys.executable, "-c", PROGRAM, moment, "end.weights.h5"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "moment, rest",
    [
        ("in a batch", [3, 4, 5]),
        ("before the backup is in place", [3, 4, 5]),
        ("before the old backup is gone", [4, 5]),
    ],
)
def test_a_killed_training_continues(tmp_path, moment, rest):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = run("never", whole)
    assert (expected.returncode, expected.stderr) == (0, "")
    assert run(moment, parts).returncode == -signal.SIGKILL
    assert (parts / "backup").is_dir()
    done = run("never", parts)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{rest}\n"
    file = "end.weights.h5"
    assert (parts / file).read_bytes() == (whole / file).read_bytes()


# --- in one process ---

X = np.random.default_rng(0).normal(size=(12, 4, 2)).astype(np.float32)
Y = X.sum((1, 2))[:, None]


class Fail(Callback):
    def __init__(self, epoch, batch=None):
        self.at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.at == (epoch, None):
            raise RuntimeError("the machine is needed elsewhere")

    def on_train_batch_end(self, batch, logs=None):
        if self.at == (self.epoch, batch):
            raise RuntimeError("the machine is needed elsewhere")


def network():
    set_random_seed(3)
    model = Sequential([layers.LSTM(3, input_shape=(4, 2)), layers.Dense(1)])
    model.compile("rmsprop", "mse")
    return model


def fit(model, *callbacks, epochs=10):
    return model.fit(X, Y, 4, epochs, 0, list(callbacks), shuffle=False)


def failed(backup, *at):
    with pytest.raises(RuntimeError, match="elsewhere"):
        fit(network(), backup, Fail(*at))


def test_as_in_kerass_example(tmp_path):
    """Interrupted at the start of epoch 4 of 10: six are left."""
    failed(BackupAndRestore(tmp_path / "backup"), 4)
    history = fit(network(), BackupAndRestore(tmp_path / "backup"))
    assert len(history.history["loss"]) == 6
    assert history.epoch == [4, 5, 6, 7, 8, 9]
    assert fit(network(), BackupAndRestore(tmp_path / "backup")).epoch == list(range(10))


def test_by_batches(tmp_path):
    """An epoch that was begun is begun again, with the weights and the step of the backup."""
    failed(BackupAndRestore(tmp_path / "backup", save_freq=2), 2, 1)  # 3 batches each: 6 + 2
    model = network()
    steps = []

    class Look(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            steps.append((epoch, model.optimizer.iterations))

    history = fit(model, BackupAndRestore(tmp_path / "backup", save_freq=2), Look(), epochs=4)
    assert steps == [(2, 8), (3, 11)]
    assert history.epoch == [2, 3]


def test_the_backup_before_takes_over_from_a_damaged_one(tmp_path):
    folder = tmp_path / "backup"
    failed(BackupAndRestore(folder, double_checkpoint=True), 4)
    first, last = sorted(folder.iterdir())
    last.write_bytes(last.read_bytes()[:100])
    assert fit(network(), BackupAndRestore(folder)).epoch == [3, 4, 5, 6, 7, 8, 9]

    failed(BackupAndRestore(folder), 4)
    (only,) = folder.iterdir()
    only.write_bytes(b"damaged")
    with pytest.raises(ValueError):
        fit(network(), BackupAndRestore(folder))


def test_delete_checkpoint(tmp_path):
    backup = BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    fit(network(), backup, epochs=2)
    assert fit(network(), backup, epochs=3).epoch == [2]
    assert fit(network(), BackupAndRestore(tmp_path / "backup"), epochs=3).epoch == []
    assert not (tmp_path / "backup").exists()


def test_early_stopping_completes_a_training(tmp_path):
    fit(network(), BackupAndRestore(tmp_path / "backup"), EarlyStopping("loss", min_delta=1e9))
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("save_freq", [0, -1, False, "batch", 1.5])
def test_other_frequencies_are_refused(save_freq):
    with pytest.raises(ValueError, match="save_freq: expected 'epoch' or a whole number"):
        BackupAndRestore("backup", save_freq)


def test_a_folder_and_a_built_model_are_needed(tmp_path):
    with pytest.raises(ValueError, match="backup_dir: expected a folder, received ''"):
        BackupAndRestore("")
    model = Sequential([layers.LSTM(3), layers.Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="expected a built model"):
        model.fit(iter([(X, Y)]), verbose=0, callbacks=[BackupAndRestore(tmp_path)])
