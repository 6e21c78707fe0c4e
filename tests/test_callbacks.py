"""Callbacks against a model that does nothing, then within fit, evaluate and predict."""

import csv
import io
import re
import timeit
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from fastrnn import callbacks as cb
from fastrnn import progress, utils
from fastrnn.callbacks import CallbackList
from fastrnn.layers import LSTM, Dense
from fastrnn.models import Sequential
from fastrnn.utils import set_random_seed

NAN = float("nan")
HOOKS = [name for name in vars(cb.Callback) if name.startswith("on_")]


class FakeModel:
    def __init__(self):
        self.optimizer = SimpleNamespace(learning_rate=np.float32(0.1))
        self.stop_training = False
        self.weights = 0

    def get_weights(self):
        return [self.weights]

    def set_weights(self, weights):
        (self.weights,) = weights


class Recorder(cb.Callback):
    """Notes every call; all hooks are overridden below."""

    def __init__(self):
        self.calls = []


def _recording(name):
    def hook(self, *args):
        self.calls.append((name, *args))

    return hook


for _name in HOOKS:
    setattr(Recorder, _name, _recording(_name))


@pytest.fixture
def output(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=stream))  # sys.stdout is pytest's
    return stream


def train(callbacks, epochs, model=None, **params):
    """Run through `epochs`, a list of logs; the weights of the model are the epoch's number."""
    model = model or FakeModel()
    callbacks = CallbackList(
        callbacks, add_history=True, model=model, epochs=len(epochs), steps=1, **params
    )
    callbacks.on_train_begin()
    for epoch, logs in enumerate(epochs):
        model.weights = epoch
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch, dict(logs))
        if model.stop_training:
            break
    callbacks.on_train_end()
    return model


def losses(*values, name="val_loss"):
    return [{name: value} for value in values]


class TestCallbackList:
    def test_every_hook_reaches_every_callback_in_order(self):
        first, second = Recorder(), Recorder()
        second.calls = first.calls
        both = CallbackList([first, second])
        expected = []
        for name in HOOKS:
            if name in ("on_batch_begin", "on_batch_end"):
                continue
            args = ({"loss": 1.0},) if name.count("_") == 2 else (3, {"loss": 1.0})
            if name in ("on_epoch_begin", "on_epoch_end"):
                args = (3, {"loss": 1.0})
            getattr(both, name)(*args)
            expected += [(name, *args)] * 2
        assert first.calls == expected

    def test_hooks_get_a_dict_without_logs(self):
        recorder = Recorder()
        CallbackList(recorder).on_train_batch_end(0)
        CallbackList(recorder).on_epoch_end(0)
        CallbackList(recorder).on_train_end()
        assert recorder.calls == [
            ("on_train_batch_end", 0, {}),
            ("on_epoch_end", 0, {}),
            ("on_train_end", {}),
        ]

    def test_older_names_of_batch_hooks(self):
        seen = []

        class Old(cb.Callback):
            def on_batch_begin(self, batch, logs=None):
                seen.append(("begin", batch, logs))

            def on_batch_end(self, batch, logs=None):
                seen.append(("end", batch, logs))

        callbacks = CallbackList([Old()])
        assert callbacks.wants_batch_logs
        callbacks.on_train_batch_begin(1, {})
        callbacks.on_train_batch_end(1, {"loss": 2.0})
        assert seen == [("begin", 1, {}), ("end", 1, {"loss": 2.0})]

    @pytest.mark.parametrize("hook", [name for name in HOOKS if "batch" in name])
    def test_any_batch_hook_is_wanted(self, hook):
        assert CallbackList(cb.LambdaCallback(**{hook: print})).wants_batch_logs

    def test_without_batch_hooks_batches_cost_nothing(self):
        model = FakeModel()
        callbacks = CallbackList(
            [cb.EarlyStopping(), cb.ReduceLROnPlateau()],
            add_history=True,
            add_progbar=True,
            model=model,
            verbose=2,
            epochs=1,
            steps=9,
        )
        assert not callbacks.wants_batch_logs

        def batch():
            callbacks.on_train_batch_begin(0)
            callbacks.on_train_batch_end(0)

        assert min(timeit.repeat(batch, number=1000, repeat=10)) / 1000 < 1e-6

    def test_history_and_progbar_are_added_once(self):
        model = FakeModel()
        own = cb.History()
        callbacks = CallbackList(
            [own, cb.ProgbarLogger()], add_history=True, add_progbar=True, model=model
        )
        assert len(callbacks.callbacks) == 2
        assert model.history is own and not callbacks.callbacks[1].params
        callbacks = CallbackList(None, add_history=True, add_progbar=True, model=model)
        assert [type(c) for c in callbacks.callbacks] == [cb.History, cb.ProgbarLogger]

    def test_nested_lists_and_lists_of_callbacks(self):
        a, b, c = cb.Callback(), cb.Callback(), cb.Callback()
        assert CallbackList([a, (b, [c])]).callbacks == [a, b, c]
        assert CallbackList(CallbackList(a)).callbacks == [a]

    def test_model_and_params_are_set(self):
        model, callback = FakeModel(), cb.Callback()
        CallbackList(callback, model=model, epochs=3, steps=5, verbose=0)
        assert callback.model is model
        assert callback.params == {"epochs": 3, "steps": 5, "verbose": 0}

    @pytest.mark.parametrize("wrong", [3, "EarlyStopping", cb.EarlyStopping, [None], {"a": 1}])
    def test_others_are_refused(self, wrong):
        with pytest.raises(TypeError, match="callbacks: expected Callback objects, received"):
            CallbackList(wrong)


class TestHistory:
    def test_records_epochs(self):
        model = train(None, [{"loss": 2.0}, {"loss": 1.0, "val_loss": 3.0}])
        assert model.history.history == {"loss": [2.0, 1.0], "val_loss": [3.0]}
        assert model.history.epoch == [0, 1]
        assert model.history.params == {"epochs": 2, "steps": 1}


class TestProgbarLogger:
    def test_fit(self, output):
        train(cb.ProgbarLogger(), [{"loss": 0.5}, {"loss": 0.25, "val_loss": 1.0}], verbose=2)
        lines = output.getvalue().splitlines()
        assert lines[::2] == ["Epoch 1/2", "Epoch 2/2"]
        assert lines[1].startswith("1/1 - 0s - ") and lines[1].endswith("/step - loss: 0.5000")
        assert lines[3].endswith("/step - loss: 0.2500 - val_loss: 1.0000")

    def test_a_single_epoch_has_no_heading_and_is_written_at_once(self, output):
        writes = []
        output.write = writes.append
        train(cb.ProgbarLogger(), [{"loss": 0.5}], verbose=2)
        assert len(writes) == 1 and writes[0].startswith("1/1 - 0s - ")

    def test_validation_within_fit_is_silent(self, output):
        callbacks = CallbackList(cb.ProgbarLogger(), verbose=2, epochs=1, steps=1)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(0)
        callbacks.on_test_begin()
        callbacks.on_test_batch_end(0, {"loss": 1.0})
        callbacks.on_test_end({"loss": 1.0})
        assert output.getvalue() == ""
        callbacks.on_epoch_end(0, {})
        callbacks.on_train_end()
        assert output.getvalue().count("\n") == 1

    def test_evaluate_and_predict(self, output):
        callbacks = CallbackList(cb.ProgbarLogger(), verbose=1, epochs=1, steps=2)
        callbacks.on_test_begin()
        callbacks.on_test_end({"loss": 1.0})
        callbacks.on_predict_begin()
        callbacks.on_predict_end()
        first, second = output.getvalue().splitlines()
        assert first.startswith(f"2/2 {'━' * 20} 0s ") and first.endswith("/step - loss: 1.0000")
        assert second.startswith(f"2/2 {'━' * 20} 0s ") and second.endswith("/step")

    def test_unknown_steps_are_counted(self, output):
        callbacks = CallbackList(cb.ProgbarLogger(), verbose=2, epochs=2, steps=None)
        assert callbacks.wants_batch_logs
        callbacks.on_train_begin()
        for epoch in range(2):
            callbacks.on_epoch_begin(epoch)
            for batch in range(7):
                callbacks.on_train_batch_end(batch, {"loss": 1.0})
            callbacks.on_epoch_end(epoch, {"loss": 1.0})
        assert [line[:4] for line in output.getvalue().splitlines()[1::2]] == ["7/7 ", "7/7 "]

    def test_verbose_0_is_silent(self, output):
        train(cb.ProgbarLogger(), [{"loss": 0.5}] * 2, verbose=0)
        assert output.getvalue() == ""


class TestLambdaCallback:
    def test_functions_are_called(self):
        seen = []
        callback = cb.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append((epoch, logs)),
            on_test_end=lambda logs: seen.append(logs),
        )
        callbacks = CallbackList(callback)
        assert not callbacks.wants_batch_logs
        callbacks.on_epoch_end(4, {"loss": 1.0})
        callbacks.on_test_end({"loss": 2.0})
        assert seen == [(4, {"loss": 1.0}), {"loss": 2.0}]

    def test_unknown_name_is_refused(self):
        with pytest.raises(TypeError, match="on_epoch_ends: expected a hook"):
            cb.LambdaCallback(on_epoch_ends=print)


class TestEarlyStopping:
    def stopped_after(self, values, name="val_loss", **options):
        callback = cb.EarlyStopping(monitor=name, **options)
        train(callback, losses(*values, name=name))
        return callback.stopped_epoch

    @pytest.mark.parametrize(
        "values, options, epoch",
        [
            ([3, 2, 1], {}, 0),
            ([3, 2, 2, 1], {}, 2),
            ([3, 2, 2.5, 2.5, 2.5], {"patience": 2}, 3),
            ([3, 2, 2.5, 1, 1, 1], {"patience": 2}, 5),
            ([3, 2.95, 1], {"min_delta": 0.1}, 1),
            ([3, 2.95, 1], {"min_delta": -0.1}, 1),
            ([3, 2, 1, 0.5], {"mode": "max"}, 1),
            ([5, 4, 3], {"baseline": 2, "patience": 2}, 0),
            ([5, 4, 3, 3], {"baseline": 2, "patience": 2}, 3),
            ([5, 1, 3, 3], {"baseline": 2, "patience": 2}, 3),
            ([1, 2, 3, 4, 5], {"start_from_epoch": 2}, 3),
            ([NAN, 2, 1, 3], {"patience": 2}, 0),
            ([2, NAN, NAN], {"patience": 2}, 2),
            ([NAN, NAN, NAN], {"patience": 2}, 1),
        ],
    )
    def test_when_it_stops(self, values, options, epoch):
        assert self.stopped_after(values, **options) == epoch

    @pytest.mark.parametrize("name", ["acc", "val_accuracy", "val_auc", "val_precision"])
    def test_auto_knows_what_should_rise(self, name):
        assert self.stopped_after([0.1, 0.2, 0.15], name=name) == 2

    @pytest.mark.parametrize("name", ["loss", "val_mae", "root_mean_squared_error"])
    def test_auto_knows_what_should_fall(self, name):
        assert self.stopped_after([0.1, 0.2, 0.3], name=name) == 1

    def test_auto_asks_about_other_names(self):
        with pytest.raises(ValueError, match="mode: expected 'min' or 'max', as the name 'zest'"):
            cb.EarlyStopping(monitor="zest")

    def test_restores_the_best_weights(self):
        callback = cb.EarlyStopping(patience=2, restore_best_weights=True)
        model = train(callback, losses(3, 1, 2, 2, 0))
        assert (model.weights, callback.best_epoch, callback.stopped_epoch) == (1, 1, 3)

    def test_knows_the_best_epoch_without_its_weights(self):
        callback = cb.EarlyStopping(patience=2)
        model = train(callback, losses(3, 1, 2, 2, 0))
        assert (model.weights, callback.best_epoch, callback.best_weights) == (3, 1, None)

    def test_restores_the_best_weights_even_if_never_stopped(self):
        callback = cb.EarlyStopping(patience=9, restore_best_weights=True)
        assert train(callback, losses(3, 1, 2)).weights == 1

    def test_best_epoch_is_restored_though_above_the_baseline(self):
        callback = cb.EarlyStopping(patience=3, baseline=0.5, restore_best_weights=True)
        assert train(callback, losses(3, 1, 2, 2, 2)).weights == 1

    def test_can_be_used_again(self):
        callback = cb.EarlyStopping(patience=1)
        train(callback, losses(1, 2))
        assert callback.stopped_epoch == 1
        train(callback, losses(5, 4, 3))
        assert callback.stopped_epoch == 0

    def test_says_what_it_did(self, output):
        callback = cb.EarlyStopping(restore_best_weights=True, verbose=1)
        train(callback, losses(1, 2))
        assert output.getvalue() == (
            "Epoch 2: early stopping\nRestoring the weights of the best epoch, 1\n"
        )

    def test_warns_of_a_missing_value(self):
        with pytest.warns(UserWarning, match="'val_loss' is not available; available are loss"):
            train(cb.EarlyStopping(), [{"loss": 1.0}])


class TestReduceLROnPlateau:
    def rates(self, values, **options):
        callback = cb.ReduceLROnPlateau(factor=0.5, **options)
        model = train(callback, losses(*values))
        return [*model.history.history["learning_rate"][1:], model.optimizer.learning_rate]

    @pytest.mark.parametrize(
        "values, options, rates",
        [
            ([3, 2, 1], {"patience": 1}, [0.1, 0.1, 0.1]),
            ([1, 2, 2], {"patience": 1}, [0.1, 0.05, 0.025]),
            ([1, 2, 2], {"patience": 2}, [0.1, 0.1, 0.05]),
            ([1, 2, 2, 2], {"patience": 1, "cooldown": 2}, [0.1, 0.05, 0.05, 0.025]),
            ([1, 2, 2], {"patience": 1, "min_lr": 0.04}, [0.1, 0.05, 0.04]),
            ([1, 0.95, 0.95], {"patience": 1, "min_delta": 0.1}, [0.1, 0.05, 0.025]),
            ([1, 2, 3], {"patience": 1, "mode": "max"}, [0.1, 0.1, 0.1]),
        ],
    )
    def test_when_it_reduces(self, values, options, rates):
        assert self.rates(values, **options) == pytest.approx(rates)

    def test_says_what_it_did(self, output):
        train(cb.ReduceLROnPlateau(patience=1, verbose=1), losses(1, 2))
        assert "Epoch 2: ReduceLROnPlateau sets the learning rate to 0.01" in output.getvalue()

    def test_factor_must_reduce(self):
        with pytest.raises(ValueError, match="factor: expected less than 1, received 1.5"):
            cb.ReduceLROnPlateau(factor=1.5)

    def test_warns_of_a_missing_value(self):
        with pytest.warns(UserWarning, match="'val_loss' is not available; available are loss"):
            train(cb.ReduceLROnPlateau(), [{"loss": 1.0}])


class TestLearningRateScheduler:
    @pytest.mark.parametrize(
        "schedule",
        [lambda epoch, rate: rate / 2, lambda epoch: 0.1 / 2 ** (epoch + 1)],
        ids=["of epoch and rate", "of epoch"],
    )
    def test_sets_the_rate(self, schedule):
        model = train(cb.LearningRateScheduler(schedule), losses(1, 1))
        assert model.history.history["learning_rate"] == pytest.approx([0.05, 0.025])
        assert model.history.history["lr"] == model.history.history["learning_rate"]
        assert model.optimizer.learning_rate == pytest.approx(0.025)

    def test_says_what_it_did(self, output):
        train(cb.LearningRateScheduler(lambda epoch, rate: 0.5, verbose=1), losses(1))
        assert "Epoch 1: LearningRateScheduler sets the learning rate to 0.5" in output.getvalue()

    def test_other_results_are_refused(self):
        with pytest.raises(TypeError, match="schedule: expected it to return a number, received N"):
            train(cb.LearningRateScheduler(lambda epoch, rate: None), losses(1))

    def test_errors_within_the_schedule_are_not_hidden(self):
        with pytest.raises(TypeError, match="unsupported operand"):
            train(cb.LearningRateScheduler(lambda epoch, rate: rate + None), losses(1))


class TestTerminateOnNaN:
    @pytest.mark.parametrize("loss, stops", [(1.0, False), (NAN, True), (float("inf"), True)])
    def test_stops(self, loss, stops, output):
        model = FakeModel()
        callbacks = CallbackList(cb.TerminateOnNaN(), model=model)
        assert callbacks.wants_batch_logs
        callbacks.on_train_batch_end(0, {"loss": loss})
        assert model.stop_training == stops
        assert ("Batch 0: the loss is" in output.getvalue()) == stops

    def test_raises_if_asked(self):
        callbacks = CallbackList(cb.TerminateOnNaN(raise_error=True), model=FakeModel())
        with pytest.raises(RuntimeError, match="the loss of batch 3 is nan"):
            callbacks.on_train_batch_end(3, {"loss": NAN})


class TestCSVLogger:
    def test_writes_the_epochs(self, tmp_path):
        path = tmp_path / "log.csv"
        train(cb.CSVLogger(path), [{"loss": 1.0, "acc": 0.5}, {"loss": 0.5, "val_acc": 0.25}])
        assert path.read_text().splitlines() == [
            "epoch,acc,loss,val_acc,val_loss",
            "0,0.5,1.0,NA,NA",
            "1,NA,0.5,0.25,NA",
        ]

    def test_appends(self, tmp_path):
        path = tmp_path / "log.csv"
        for _ in range(2):
            train(cb.CSVLogger(path, separator=";", append=True), [{"loss": 1.0, "val_loss": 2.0}])
        assert path.read_text().splitlines() == ["epoch;loss;val_loss", "0;1.0;2.0", "0;1.0;2.0"]

    def test_overwrites(self, tmp_path):
        path = tmp_path / "log.csv"
        callback = cb.CSVLogger(path)
        for _ in range(2):
            train(callback, [{"loss": 1.0, "val_loss": 2.0}])
        assert path.read_text().splitlines() == ["epoch,loss,val_loss", "0,1.0,2.0"]

    def test_arrays(self, tmp_path):
        path = tmp_path / "log.csv"
        train(cb.CSVLogger(path), [{"recall": np.array([1.0, 0.5]), "val_loss": np.float32(2)}])
        assert list(csv.reader(path.read_text().splitlines()))[1] == ["0", "[1.0, 0.5]", "2.0"]


class TestWithinFit:
    @pytest.fixture
    def model(self):
        set_random_seed(1)
        model = Sequential([LSTM(3, input_shape=(4, 2)), Dense(1)])
        model.compile(loss="mse", optimizer="adam", metrics=["mae"])
        return model

    @pytest.fixture
    def data(self):
        x = np.random.default_rng(1).random((40, 4, 2))
        return x, x.sum(axis=(1, 2))

    def test_order_of_calls(self, model, data):
        recorder = Recorder()
        model.fit(*data, epochs=1, validation_data=data, callbacks=[recorder], verbose=0)
        names = [call[0] for call in recorder.calls]
        batches = ["on_train_batch_begin", "on_train_batch_end"] * 2
        tests = ["on_test_batch_begin", "on_test_batch_end"] * 2
        validation = ["on_test_begin", *tests, "on_test_end"]
        assert names == [
            *("on_train_begin", "on_epoch_begin", *batches),
            *(*validation, "on_epoch_end", "on_train_end"),
        ]
        recorder.calls.clear()
        model.evaluate(*data, callbacks=[recorder], verbose=0)
        assert [call[0] for call in recorder.calls] == validation
        recorder.calls.clear()
        model.predict(data[0], callbacks=[recorder], verbose=0)
        assert [call[0] for call in recorder.calls] == [
            n.replace("test", "predict") for n in validation
        ]

    def test_epoch_logs(self, model, data):
        recorder = Recorder()
        history = model.fit(*data, epochs=2, validation_split=0.2, callbacks=recorder, verbose=0)
        logs = [call[2] for call in recorder.calls if call[0] == "on_epoch_end"]
        assert list(logs[0]) == ["loss", "mae", "val_loss", "val_mae"]
        assert {name: [entry[name] for entry in logs] for name in logs[0]} == history.history
        assert all(type(value) is float for entry in logs for value in entry.values())

    def test_batch_hooks_without_logs_are_called(self, model, data):
        batches = []
        callback = cb.LambdaCallback(on_train_batch_begin=lambda batch, logs: batches.append(batch))
        model.fit(*data, epochs=2, batch_size=20, callbacks=[callback], verbose=0)
        assert batches == [0, 1, 0, 1]

    def test_early_stopping_restores_weights(self, model, data):
        weights = []
        model.fit(
            *data,
            epochs=9,
            verbose=0,
            callbacks=[
                cb.LambdaCallback(on_epoch_end=lambda *_: weights.append(model.get_weights())),
                cb.EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True),
            ],
        )
        assert len(weights) == 3
        for restored, first in zip(model.get_weights(), weights[0], strict=True):
            np.testing.assert_array_equal(restored, first)

    def test_stops_within_an_epoch_on_nan(self, model, data, output):
        x, y = data
        y[:] = NAN
        history = model.fit(x, y, epochs=3, batch_size=4, callbacks=cb.TerminateOnNaN(), verbose=0)
        assert history.epoch == [0]
        assert output.getvalue() == "\nBatch 0: the loss is nan, training stops\n"

    def test_rate_of_the_optimizer(self, model, data):
        schedule = cb.LearningRateScheduler(lambda epoch, rate: rate / 2)
        history = model.fit(*data, epochs=2, callbacks=[schedule], verbose=0).history
        assert history["learning_rate"] == pytest.approx([0.0005, 0.00025])
        assert float(model.optimizer.learning_rate) == pytest.approx(0.00025)

    @pytest.mark.parametrize("verbose", [1, 2])
    def test_output_in_a_file(self, model, data, output, verbose):
        model.fit(*data, epochs=2, validation_data=data, verbose=verbose)
        model.evaluate(*data, verbose=verbose)
        model.predict(data[0], verbose=verbose)
        lines = output.getvalue().splitlines()
        start = f"2/2 {'━' * 20} 0s " if verbose == 1 else "2/2 - 0s - "
        assert lines[0] == "Epoch 1/2" and lines[2] == "Epoch 2/2" and len(lines) == 6
        assert all(line.startswith(start) for line in lines[1:4:2] + lines[4:])
        names = [re.findall(r" - (\w+): \d+\.\d{4}", line) for line in lines]
        assert names[1] == names[3] == ["loss", "mae", "val_loss", "val_mae"]
        assert names[4] == ["loss", "mae"]
        assert lines[5].endswith("/step")

    def test_generator(self, model, data, output):
        class Batches:
            def __iter__(self):
                return iter([data] * 3)

        model.fit(Batches(), epochs=2, verbose=1)
        assert [line[:4] for line in output.getvalue().splitlines()[1::2]] == ["3/3 ", "3/3 "]


class TestOlderSpellings:
    def test_endings_of_keras_2(self, tmp_path):
        """As scripts of Keras 2 name the files of whole models."""
        x, y = np.ones((8, 3, 2)), np.ones((8, 1))
        model = Sequential([LSTM(2, input_shape=(3, 2)), Dense(1)])
        model.compile("sgd", "mse")
        path = str(tmp_path / "weights-{epoch:02d}-{loss:.2f}.hdf5")
        saved = cb.ModelCheckpoint(path, monitor="loss", save_best_only=True, mode="min")
        model.fit(x, y, epochs=1, callbacks=[saved], verbose=0)
        (file,) = tmp_path.iterdir()
        assert re.fullmatch(r"weights-01-\d+\.\d\d\.hdf5", file.name)
        twin = Sequential([LSTM(2, input_shape=(3, 2)), Dense(1)])
        twin.load_weights(str(file))
        for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_arguments(self):
        assert cb.ReduceLROnPlateau(epsilon=0.5).min_delta == 0.5
        cb.ProgbarLogger(count_mode="steps", stateful_metrics=["mae"])

    def test_arguments_of_tensorboard(self, tmp_path):
        with pytest.raises(TypeError, match=r"unknown arguments \['log'\]"):
            cb.TensorBoard(log=tmp_path)
        pytest.importorskip("tensorboardX", reason="TensorBoard writes with it")
        cb.TensorBoard(tmp_path, batch_size=32, write_grads=True)


# --- accuracy under its other name ---


@pytest.mark.parametrize("compiled, asked", [("accuracy", "acc"), ("acc", "accuracy")])
def test_accuracy_is_found_by_its_name_in_another_version_of_keras(tmp_path, compiled, asked):
    seen = []

    class Watch(cb.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((logs.get(asked), logs.get(f"val_{asked}"), logs.get("nothing", 7)))

    model = Sequential([Dense(1, activation="sigmoid", input_shape=(2,))])
    model.compile("adam", "binary_crossentropy", metrics=[compiled])
    x = np.random.default_rng(0).normal(size=(20, 2))
    y = (x[:, 0] > 0).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is monitored is there
        history = model.fit(
            x, y, epochs=2, validation_split=0.5, verbose=0,
            callbacks=[
                Watch(),
                cb.EarlyStopping(f"val_{asked}", patience=5),
                cb.ModelCheckpoint(f"{tmp_path}/{{val_{asked}:.3f}}.weights.h5",
                                          save_weights_only=True),
            ],
        ).history  # fmt: skip
    assert sorted(history) == sorted(["loss", compiled, "val_loss", f"val_{compiled}"])
    assert history[asked] == history[compiled]
    assert [s[:2] for s in seen] == list(zip(history[asked], history[f"val_{asked}"], strict=True))
    assert seen[0][2] == 7
    assert (tmp_path / f"{history[f'val_{compiled}'][0]:.3f}.weights.h5").is_file()
    with pytest.raises(KeyError, match="precision"):
        history["precision"]


def test_a_name_in_the_path_of_a_checkpoint_that_is_not_in_the_logs(tmp_path):
    model = Sequential([Dense(1, input_shape=(2,))])
    model.compile("adam", "mse")
    checkpoint = cb.ModelCheckpoint(f"{tmp_path}/{{val_loss:.2f}}.keras")
    with pytest.raises(KeyError, match="filepath: expected names of epoch, loss .*'val_loss'"):
        model.fit(np.zeros((4, 2)), np.zeros(4), verbose=0, callbacks=[checkpoint])


def test_batches_that_predict_has_done_are_in_the_logs():
    outputs = []

    class Watch(cb.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            outputs.append(logs["outputs"])

    model = Sequential([Dense(2, input_shape=(3,))])
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    for data in (x, iter([x[:4], x[4:8], x[8:]])):
        outputs.clear()
        y = model.predict(data, batch_size=4, verbose=0, callbacks=[Watch()])
        assert [len(part) for part in outputs] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate(outputs), y)


# --- what Keras takes -----------------------------------------------------------------------------


def test_lambda_callback_keeps_other_keywords():
    callback = cb.LambdaCallback(custom_method=lambda: 3, on_epoch_end=None)
    assert callback.custom_method() == 3
    with pytest.raises(TypeError, match="on_epok_end: expected a hook"):
        cb.LambdaCallback(on_epok_end=print)


def test_modes_and_numbers_of_monitors(tmp_path):
    for make in (
        lambda mode: cb.ModelCheckpoint(tmp_path / "m.keras", mode=mode),
        lambda mode: cb.EarlyStopping(mode=mode),
        lambda mode: cb.ReduceLROnPlateau(mode=mode),
    ):
        with pytest.warns(UserWarning, match="mode: expected 'auto', 'min' or 'max', received 'x'"):
            assert make("x").mode == "auto"
    for arguments, message in (
        ({"monitor": 5}, "monitor: expected the name of a metric, received 5"),
        ({"min_delta": "x"}, "min_delta: expected a finite number, received 'x'"),
        (
            {"patience": -1},
            "patience: expected a",
        ),
        ({"baseline": "x"}, "baseline: expected a finite number or None"),
        ({"start_from_epoch": 1.5}, "start_from_epoch: expected a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            cb.EarlyStopping(**arguments)


def test_lines_of_a_progress_bar_in_keras_form(capsys):
    bar = utils.Progbar(3, verbose=2)
    bar.update(1, [("loss", 0.5)])
    assert capsys.readouterr().out == ""
    bar.update(3, values=[("loss", 0.25), ("acc", 1.0)], finalize=True)
    line = capsys.readouterr().out
    assert line.startswith("3/3 - ") and "loss: 0.25" in line and "acc: 1" in line
