"""TensorBoard's files: the scalars that callbacks.TensorBoard writes, and where."""

import struct
import sys

import numpy as np
import pytest

from fastrnn import callbacks, layers, metrics
from fastrnn.models import Sequential

X = np.random.default_rng(0).normal(size=(12, 4, 2)).astype(np.float32)
Y = X.sum((1, 2))[:, None]


@pytest.fixture
def event_pb2():
    pytest.importorskip("tensorboardX", reason="callbacks.TensorBoard writes with it")
    from tensorboardX.proto import event_pb2

    return event_pb2


@pytest.fixture
def model():
    model = Sequential([layers.LSTM(3, input_shape=(4, 2), name="lstm"), layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def records(path):
    """The contents of a file in TensorFlow's record format: length, its check sum, content, sum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[16 + length :]


def scalars(event_pb2, folder):
    """{tag: [(step, value), ...]} of all files of a run, and the tags of histograms."""
    found, histograms = {}, set()
    for path in sorted(folder.iterdir()):
        for record in records(path):
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if value.HasField("histo"):
                    histograms.add((value.tag, event.step))
                else:
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found, histograms


def float32(values):
    return [(step, np.float32(value)) for step, value in enumerate(values)]


def test_epochs(event_pb2, model, tmp_path):
    board = callbacks.TensorBoard(tmp_path / "logs")
    history = model.fit(X, Y, epochs=3, verbose=0, validation_split=0.25, callbacks=[board]).history
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["train", "validation"]
    train, _ = scalars(event_pb2, tmp_path / "logs/train")
    assert train == {
        "epoch_loss": float32(history["loss"]),
        "epoch_mae": float32(history["mae"]),
        "epoch_learning_rate": float32([0.001] * 3),
    }
    held, _ = scalars(event_pb2, tmp_path / "logs/validation")
    assert held.pop("epoch_loss") == float32(history["val_loss"])
    assert held.pop("epoch_mae") == float32(history["val_mae"])
    # Each epoch's validation is against the steps of training, too.
    assert held.keys() == {"evaluation_loss_vs_iterations", "evaluation_mae_vs_iterations"}
    assert [step for step, _ in held["evaluation_loss_vs_iterations"]] == [1, 2, 3]


@pytest.mark.parametrize(
    "update_freq, steps", [("batch", [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), ("epoch", [])]
)
def test_batches(event_pb2, model, tmp_path, update_freq, steps):
    seen = []
    note = callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: seen.append(logs["loss"]))
    board = callbacks.TensorBoard(tmp_path, update_freq=update_freq)
    model.fit(X, Y, 4, 2, 0, [board, note])
    train, _ = scalars(event_pb2, tmp_path / "train")
    expected = [(step, np.float32(seen[step - 1])) for step in steps]
    assert train.get("batch_loss", []) == expected
    assert not (tmp_path / "validation").exists()


def test_speed_and_weights(event_pb2, model, tmp_path):
    board = callbacks.TensorBoard(
        tmp_path, histogram_freq=2, write_steps_per_second=True, update_freq="batch"
    )
    model.fit(X, Y, 4, 3, 0, [board])
    train, histograms = scalars(event_pb2, tmp_path / "train")
    assert [step for step, _ in train["batch_steps_per_second"]] == list(range(1, 10))
    assert [step for step, _ in train["epoch_steps_per_second"]] == [0, 1, 2]
    assert all(value > 0 for tag in train if "second" in tag for _, value in train[tag])
    weights = {f"{weight.path}/histogram" for weight in model.weights}
    assert len(weights) == 5
    assert histograms == {(name, epoch) for name in weights for epoch in (0, 2)}


def test_evaluate(event_pb2, model, tmp_path):
    model.fit(X, Y, 4, verbose=0)
    board = callbacks.TensorBoard(tmp_path)
    loss, _ = model.evaluate(X, Y, verbose=0, callbacks=[board])
    held, _ = scalars(event_pb2, tmp_path / "validation")
    assert held["evaluation_loss_vs_iterations"] == [(3, np.float32(loss))]


def test_one_callback_for_several_trainings(event_pb2, model, tmp_path):
    board = callbacks.TensorBoard(tmp_path)
    for first in (0, 2):
        model.fit(X, Y, epochs=first + 2, initial_epoch=first, verbose=0, callbacks=[board])
    train, _ = scalars(event_pb2, tmp_path / "train")
    assert sorted(step for step, _ in train["epoch_loss"]) == [0, 1, 2, 3]


def test_metrics_of_several_numbers_are_left_out(event_pb2, model, tmp_path):
    model.compile("adam", "mse", metrics=[metrics.F1Score(threshold=0.5)])
    model.fit(X, np.abs(Y), verbose=0, callbacks=[callbacks.TensorBoard(tmp_path)])
    train, _ = scalars(event_pb2, tmp_path / "train")
    assert train.keys() == {"epoch_loss", "epoch_learning_rate"}


def test_tensorboard_itself_reads_it(event_pb2, model, tmp_path):
    pytest.importorskip("tensorboard", reason="reads the files with TensorBoard itself")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[callbacks.TensorBoard(tmp_path)])
    read = EventAccumulator(str(tmp_path / "train"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("epoch_loss")] == float32(
        history.history["loss"]
    )


def test_without_the_writer(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"needs tensorboardX: pip install 'fastrnn\[tensorboard"):
        callbacks.TensorBoard()


@pytest.mark.parametrize("update_freq", [0, -1, "batches", 1.5, True])
def test_other_frequencies_are_refused(update_freq):
    with pytest.raises(ValueError, match="update_freq: expected 'epoch', 'batch' or a whole"):
        callbacks.TensorBoard(update_freq=update_freq)
