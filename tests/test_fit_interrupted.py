"""Ctrl-C ends fit after the batch, with the history so far; pressed twice it is as usual."""

import os
import signal
import threading

import numpy as np
import pytest

from fastrnn import callbacks, layers
from fastrnn.models import Sequential

X = np.random.default_rng(0).normal(size=(12, 4, 2)).astype(np.float32)
Y = X.sum((1, 2))[:, None]


class Press(callbacks.Callback):
    """Presses Ctrl-C `times` within a batch or in the validation of epoch 2."""

    def __init__(self, times=1, hook="on_train_batch_begin"):
        self.times, self.ended, self.epoch = times, False, None
        setattr(self, hook, self.press)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def press(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)

    def on_train_end(self, logs=None):
        self.ended = True


@pytest.fixture
def model():
    model = Sequential([layers.LSTM(3, input_shape=(4, 2)), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def test_the_history_so_far(model, capsys):
    press = Press()
    history = model.fit(X, Y, 4, 9, 0, [press], validation_split=0.3)
    assert history.interrupted
    assert history.epoch == [0, 1]
    assert {name: len(values) for name, values in history.history.items()} == {
        "loss": 2,
        "val_loss": 2,
    }
    assert model.optimizer.iterations == 2 * 2 + 2  # the batch is finished
    assert press.ended
    assert capsys.readouterr().out == "\nInterrupted: training ends\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    history = model.fit(X, Y, epochs=3, verbose=0)
    assert not history.interrupted
    assert len(history.epoch) == 3


def test_in_a_long_kernel(capsys):
    model = Sequential([layers.LSTM(512, input_shape=(None, 8)), layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.zeros((16, 1500, 8), np.float32)
    model.fit(x[:, :2], x[:, 0, 0], verbose=0)
    before = model.get_weights()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    history = model.fit(x, x[:, 0, 0], epochs=9, verbose=0)
    timer.join()
    assert history.interrupted and history.epoch == []
    assert capsys.readouterr().out == "\nInterrupted: training ends\n"
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert np.isfinite(model.fit(x[:, :2], x[:, 0, 0], verbose=0).history["loss"]).all()


def test_a_validation_is_finished(model):
    press = Press(hook="on_test_batch_begin")
    history = model.fit(X, Y, 4, 9, 0, [press], validation_data=(X, Y))
    assert history.epoch == [0, 1, 2]


def test_best_weights_are_restored(model):
    stopping = callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True)
    kept = []
    note = callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(model.get_weights()))
    model.fit(X, Y, 4, 9, 0, [stopping, note, Press()])
    for restored, best in zip(model.get_weights(), kept[stopping.best_epoch], strict=True):
        np.testing.assert_array_equal(restored, best)


def test_twice_is_at_once(model):
    press = Press(2)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, 4, 9, 0, [press])
    assert not press.ended
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_predictions_after_an_exception_are_of_the_present_weights(model, monkeypatch):
    """Ctrl-C twice may come between the update of the weights and the note that they changed."""
    model.fit(X, Y, verbose=0)
    before = model.predict(X, verbose=0)
    update = model.optimizer.update

    def broken_off(store):
        version = store.version
        update(store)
        store.version = version
        raise KeyboardInterrupt

    monkeypatch.setattr(model.optimizer, "update", broken_off)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, verbose=0)
    copy = Sequential.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    after = model.predict(X, verbose=0)
    np.testing.assert_array_equal(after, copy.predict(X, verbose=0))
    assert (after != before).any()


def test_a_handler_of_the_program_stays(model):
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        assert len(model.fit(X, Y, 4, 4, 0, [Press()]).epoch) == 4
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert pressed == [True]


def test_fit_in_another_thread(model):
    found = []
    thread = threading.Thread(target=lambda: found.append(model.fit(X, Y, epochs=2, verbose=0)))
    thread.start()
    thread.join()
    assert len(found[0].epoch) == 2


def test_a_backup_stays(model, tmp_path):
    backup = callbacks.BackupAndRestore(tmp_path / "backup")
    model.fit(X, Y, 4, 5, 0, [backup, Press()])
    assert model.fit(X, Y, 4, 5, 0, [backup]).epoch == [2, 3, 4]
