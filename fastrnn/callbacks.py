"""What happens between the epochs and batches of fit, evaluate and predict: keras.callbacks."""

from __future__ import annotations

import csv
import glob
import inspect
import itertools
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Set
from functools import cache
from numbers import Real
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._public import public

from . import checks
from .progress import Progbar, write
from .utils import as_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastrnn._types import Path, TensorBoardOptions, Unpack

    from .models import Sequential


__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History",
    "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint", "MonitorCallback",
    "ProgbarLogger", "ReduceLROnPlateau", "TensorBoard", "TerminateOnNaN",
]  # fmt: skip
public(__name__)

_RISING = ("acc", "auc", "precision", "recall", "specificity", "score", "cosine", "true_")
_FALLING = (
    "loss",
    "error",
    "mse",
    "mae",
    "mape",
    "msle",
    "entropy",
    "hinge",
    "divergence",
    "false_",
)


_OLDER_OF_TENSORBOARD = ("batch_size", "write_grads", "embeddings_layer_names", "embeddings_data")
_file_numbers = itertools.count()
_RENAMED = {"acc": "accuracy", "val_acc": "val_accuracy", "lr": "learning_rate"}
_RENAMED |= {new: old for old, new in _RENAMED.items()}


class Logs(dict):
    """Values by name. What is not there under the name "accuracy" may be there as "acc", as Keras 1
    and 2 called it, and the reverse; likewise "learning_rate" and "lr"."""

    def __missing__(self, name):
        if _RENAMED.get(name) in self:
            return self[_RENAMED[name]]
        raise KeyError(name)

    def get(self, name, default=None):
        return self[name] if name in self or _RENAMED.get(name) in self else default


class Callback:
    """Base class: override the hooks that you want to be called.

    `model` and `params` (verbose, epochs, steps) are set before the first call. `logs` are the
    values so far: of a batch, of an epoch with the validation's as val_*. As
    keras.callbacks.Callback.
    """

    model: Sequential = None
    params: dict[str, Any] = None

    def __repr__(self):
        return as_call(self)

    def set_model(self, model) -> None:
        self.model = model

    def set_params(self, params: dict) -> None:
        self.params = params

    def on_train_begin(self, logs=None): ...

    def on_train_end(self, logs=None): ...

    def on_epoch_begin(self, epoch, logs=None): ...

    def on_epoch_end(self, epoch, logs=None): ...

    def on_batch_begin(self, batch, logs=None):
        """The older name of on_train_batch_begin."""

    def on_batch_end(self, batch, logs=None):
        """The older name of on_train_batch_end."""

    def on_train_batch_begin(self, batch, logs=None):
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs=None): ...

    def on_test_end(self, logs=None): ...

    def on_test_batch_begin(self, batch, logs=None): ...

    def on_test_batch_end(self, batch, logs=None): ...

    def on_predict_begin(self, logs=None): ...

    def on_predict_end(self, logs=None): ...

    def on_predict_batch_begin(self, batch, logs=None): ...

    def on_predict_batch_end(self, batch, logs=None): ...

    def _active(self) -> Set[str]:
        """The names of the hooks that do something, among others."""
        return _overridden(type(self)) | vars(self).keys()


class CallbackList:
    """Calls every hook of several callbacks. As keras.callbacks.CallbackList.

    `add_history` and `add_progbar` append a History and a ProgbarLogger unless there is one.
    Batch hooks reach only the callbacks that override them; if `wants_batch_logs` is false, the
    logs of a batch are never looked at. Raises TypeError for what is no Callback.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable | None = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model=None,
        **params,
    ):
        self.callbacks = [] if callbacks is None else list(_flatten(callbacks))
        history = next((c for c in self.callbacks if isinstance(c, History)), None)
        if add_history and history is None:
            history = History()
            self.callbacks.append(history)
        if add_progbar and not any(isinstance(c, ProgbarLogger) for c in self.callbacks):
            self.callbacks.append(ProgbarLogger())
        if model is not None:
            if history is not None:
                model.history = history
            self.set_model(model)
        self.set_params(params)

    def set_model(self, model) -> None:
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict) -> None:
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)
        active = [(callback, callback._active()) for callback in self.callbacks]

        def overriding(*names):
            return [getattr(c, names[0]) for c, hooks in active if not hooks.isdisjoint(names)]

        self._train_batch_begin = overriding("on_train_batch_begin", "on_batch_begin")
        self._train_batch_end = overriding("on_train_batch_end", "on_batch_end")
        self._test_batch_begin = overriding("on_test_batch_begin")
        self._test_batch_end = overriding("on_test_batch_end")
        self._predict_batch_begin = overriding("on_predict_batch_begin")
        self._predict_batch_end = overriding("on_predict_batch_end")

    @property
    def wants_batch_logs(self) -> bool:
        """Whether any callback overrides a hook of batches."""
        return any(
            (
                self._train_batch_begin,
                self._train_batch_end,
                self._test_batch_begin,
                self._test_batch_end,
                self._predict_batch_begin,
                self._predict_batch_end,
            )
        )

    def on_train_begin(self, logs=None):
        self._call("on_train_begin", logs)

    def on_train_end(self, logs=None):
        self._call("on_train_end", logs)

    def on_test_begin(self, logs=None):
        self._call("on_test_begin", logs)

    def on_test_end(self, logs=None):
        self._call("on_test_end", logs)

    def on_predict_begin(self, logs=None):
        self._call("on_predict_begin", logs)

    def on_predict_end(self, logs=None):
        self._call("on_predict_end", logs)

    def on_epoch_begin(self, epoch, logs=None):
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        for hook in self._train_batch_begin:
            hook(batch, logs or {})

    def on_train_batch_end(self, batch, logs=None):
        for hook in self._train_batch_end:
            hook(batch, logs or {})

    def on_test_batch_begin(self, batch, logs=None):
        for hook in self._test_batch_begin:
            hook(batch, logs or {})

    def on_test_batch_end(self, batch, logs=None):
        for hook in self._test_batch_end:
            hook(batch, logs or {})

    def on_predict_batch_begin(self, batch, logs=None):
        for hook in self._predict_batch_begin:
            hook(batch, logs or {})

    def on_predict_batch_end(self, batch, logs=None):
        for hook in self._predict_batch_end:
            hook(batch, logs or {})

    on_batch_begin = on_train_batch_begin
    on_batch_end = on_train_batch_end

    def _call(self, hook: str, logs) -> None:
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            getattr(callback, hook)(logs)


class History(Callback):
    """Records the logs of every epoch in the lists of `history`, and the epochs in `epoch`.

    What fit returns. `interrupted` says whether Ctrl-C ended it. As keras.callbacks.History.
    """

    interrupted = False

    history: dict[str, list[Any]]
    epoch: list[int]

    def __init__(self) -> None:
        self.history = Logs()
        self.epoch = []

    def __repr__(self):
        last = {name: values[-1] for name, values in self.history.items() if len(values)}
        shown = [f"{n} {v:.4g}" if isinstance(v, Real) else f"{n} {v}" for n, v in last.items()]
        ended = ", interrupted" if self.interrupted else ""
        return f"<History of {len(self.epoch)} epochs{ended}: {', '.join(shown) or 'nothing yet'}>"

    def on_train_begin(self, logs=None):
        self.epoch = []
        self.interrupted = False

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class ProgbarLogger(Callback):
    """Shows a Progbar on the standard output. As keras.callbacks.ProgbarLogger; Keras 2's arguments
    are accepted and change nothing."""

    def __init__(self, count_mode: Any = None, stateful_metrics: Any = None):
        self._progbar = None
        self._epochs = 1
        self._in_fit = False

    def set_params(self, params):
        self.params = params
        self._epochs = params.get("epochs", 1)
        self._progbar = Progbar(params.get("steps"), params.get("verbose", 1))

    def on_train_begin(self, logs=None):
        self._in_fit = True

    def on_train_end(self, logs=None):
        self._in_fit = False

    def on_epoch_begin(self, epoch, logs=None):
        if self._epochs > 1 and self._progbar.verbose:
            write(f"Epoch {epoch + 1}/{self._epochs}\n")
        self._progbar.start()

    def on_epoch_end(self, epoch, logs=None):
        self._progbar.finish(logs)

    def on_train_batch_end(self, batch, logs=None):
        self._progbar.update(batch + 1, logs)

    def on_test_begin(self, logs=None):
        if not self._in_fit:
            self._progbar.start()

    def on_test_batch_end(self, batch, logs=None):
        if not self._in_fit:
            self._progbar.update(batch + 1, logs)

    def on_test_end(self, logs=None):
        if not self._in_fit:
            self._progbar.finish(logs)

    def on_predict_begin(self, logs=None):
        self._progbar.start()

    def on_predict_batch_end(self, batch, logs=None):
        self._progbar.update(batch + 1)

    def on_predict_end(self, logs=None):
        self._progbar.finish()

    def _active(self):
        needed = self._progbar.live or self._progbar.target is None
        return super()._active() if needed else frozenset()


class LambdaCallback(Callback):
    """A callback made of functions: LambdaCallback(on_epoch_end=lambda epoch, logs: ...).

    Other keywords become attributes, for the functions to call. Raises TypeError for a name that
    begins with on_ and is no hook. As keras.callbacks.LambdaCallback.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Any,
    ):
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **kwargs,
        }
        for name, function in hooks.items():
            if name.startswith("on_") and not hasattr(Callback, name):
                raise TypeError(f"{name}: expected a hook of Callback, such as on_test_end")
            if function is not None:
                setattr(self, name, function)


class MonitorCallback(Callback):
    """Base class of callbacks that watch one value of the logs, `monitor`, for improvement.

    `mode` is "min", "max" or "auto", which goes by the name of the value. A change of less than
    `min_delta` is no improvement, nor is NaN. Another mode counts as "auto", with a warning. Raises
    ValueError if a name does not tell "auto" the direction.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float):
        if mode not in ("auto", "min", "max"):
            warnings.warn(
                f"mode: expected 'auto', 'min' or 'max', received {mode!r}; it counts as 'auto'",
                stacklevel=4,
            )
            mode = "auto"
        if not isinstance(monitor, str):
            raise ValueError(f"monitor: expected the name of a metric, received {monitor!r}")
        checks.number("min_delta", min_delta)
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(min_delta)
        self.best = None
        if mode == "auto":
            falls = any(word in monitor for word in _FALLING)
            if not falls and not any(word in monitor for word in _RISING):
                raise ValueError(
                    f"mode: expected 'min' or 'max', as the name {monitor!r} does not tell which; "
                    f"received 'auto'"
                )
            mode = "min" if falls else "max"
        self._sign = 1 if mode == "max" else -1

    def _current(self, logs: dict | None) -> float | None:
        """The monitored value, warning if there is none."""
        logs = Logs(logs or {})
        current = logs.get(self.monitor)
        if current is None:
            warnings.warn(
                f"{type(self).__name__}: monitor {self.monitor!r} is not available; "
                f"available are {', '.join(logs) or 'no values'}",
                stacklevel=4,
            )
        return current

    def _improves(self, current: float, best: float | None) -> bool:
        if best is None:
            return current == current
        return self._sign * (current - self._sign * self.min_delta - best) > 0


class EarlyStopping(MonitorCallback):
    """Stops training when `monitor` has not improved for `patience` epochs.

    The first `start_from_epoch` epochs are not looked at. With `baseline`, only values better than
    it restart the waiting. `restore_best_weights` puts back the weights of the best epoch at the
    end of training. As keras.callbacks.EarlyStopping.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = checks.number("patience", patience, ">= 0")
        self.verbose = verbose
        self.baseline = checks.number("baseline", baseline, none=True)
        self.restore_best_weights = checks.flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = checks.whole("start_from_epoch", start_from_epoch)
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights = None

    def on_epoch_end(self, epoch, logs=None):
        current = self._current(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        improved = self._improves(current, self.best)
        if improved:
            self.best = current
            if self.baseline is None or self._improves(current, self.baseline):
                self.wait = 0
            self.best_epoch = epoch
        if self.restore_best_weights and (improved or self.best_weights is None):
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        if not improved and self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.stopped_epoch and self.verbose:
            write(f"Epoch {self.stopped_epoch + 1}: early stopping\n")
        if self.best_weights is not None:
            if self.verbose:
                write(f"Restoring the weights of the best epoch, {self.best_epoch + 1}\n")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or with `save_weights_only` its weights, after epochs or batches.

    filepath: as Sequential.save or save_weights take it; {epoch} (from 1) and the names in the
    logs are filled in, as in "{epoch:02d}-{val_loss:.2f}.keras". save_best_only: only when
    `monitor` has improved, at first on `initial_value_threshold`. save_freq: "epoch" (default) or
    a number of batches; period: the older way to save every so many epochs. Raises ValueError for
    another ending or save_freq, KeyError for a name that is not in the logs. As
    keras.callbacks.ModelCheckpoint.
    """

    def __init__(
        self,
        filepath: Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        period: int = 1,
    ):
        self.save_best_only = checks.flag("save_best_only", save_best_only)
        self.save_weights_only = checks.flag("save_weights_only", save_weights_only)
        known = mode in ("auto", "min", "max")
        super().__init__(monitor, mode if save_best_only or not known else "min", 0)
        self.filepath = os.fspath(filepath)
        endings = (".safetensors" if save_weights_only else ".keras", ".h5", ".hdf5")
        if not self.filepath.endswith(endings):
            raise ValueError(
                f"filepath: expected a name that ends in {' or '.join(endings)}, "
                f"received {self.filepath!r}"
            )
        for name, count in (("save_freq", save_freq), ("period", period)):
            if count != "epoch" and (not isinstance(count, int) or count < 1):
                raise ValueError(f"{name}: expected a whole number >= 1, received {count!r}")
        self.verbose = verbose
        self.save_freq, self.period = save_freq, period
        self.best = initial_value_threshold
        self._epoch = self._batches = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        if self.save_freq != "epoch" and self._batches % self.save_freq == 0:
            self._save({"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch" and (epoch + 1) % self.period == 0:
            self._save(logs or {})

    def _save(self, logs):
        if self.save_best_only:
            current = self._current(logs)
            if current is not None and not self._improves(current, self.best):
                if self.verbose:
                    best = math.nan if self.best is None else self.best
                    name, number = self.monitor, self._epoch + 1
                    write(f"\nEpoch {number}: {name} did not improve from {best:.5f}\n")
                return
            self.best = self.best if current is None else current
        known = Logs({"epoch": self._epoch + 1, **logs})
        try:
            path = self.filepath.format_map(known)
        except KeyError as error:
            raise KeyError(
                f"filepath: expected names of {', '.join(known)} in {self.filepath!r}, received "
                f"{error.args[0]!r}"
            ) from None
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        if self.verbose:
            write(f"\nEpoch {self._epoch + 1}: saved to {path}\n")


class BackupAndRestore(Callback):
    """Training that was killed goes on where it was: the same program, run again, continues.

    Keeps weights, optimizer state and epoch in the folder `backup_dir`, which is its own: after
    every epoch, or with save_freq=n after every n batches (it then begins anew the epoch that it
    was in, with the weights of that batch). Whenever the process ends, a whole backup is there.
    fit removes it when training is complete, unless `delete_checkpoint` is false; after Ctrl-C it
    stays. double_checkpoint: the backup before is kept too, and used if the last is damaged.
    Raises ValueError for another save_freq, and in fit for a model that has not been built.
    As keras.callbacks.BackupAndRestore.
    """

    def __init__(
        self,
        backup_dir: Path,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        if not os.fspath(backup_dir):
            raise ValueError(f"backup_dir: expected a folder, received {backup_dir!r}")
        if save_freq != "epoch" and (type(save_freq) is not int or save_freq < 1):
            raise ValueError(
                f"save_freq: expected 'epoch' or a whole number >= 1, received {save_freq!r}"
            )
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = checks.flag("double_checkpoint", double_checkpoint)
        self.delete_checkpoint = checks.flag("delete_checkpoint", delete_checkpoint)
        self._epoch = self._batches = 0

    def on_train_begin(self, logs=None):
        if not self.model.built:
            raise ValueError(
                f"BackupAndRestore: expected a built model, received {self.model!r}; call "
                "model.build(input_shape) before fit"
            )
        self._batches = 0
        damaged = None
        for path in self._backups():
            try:
                self.model.load_weights(path)
            except (OSError, ValueError) as error:
                damaged = damaged or error
                continue
            self.model.initial_epoch = _numbers(path)[1]
            return
        if damaged is not None:
            raise damaged

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        if self.save_freq != "epoch" and self._batches % self.save_freq == 0:
            self._save(self._epoch)

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch":
            self._save(epoch + 1)

    def on_train_end(self, logs=None):
        if self.delete_checkpoint and not self.model.history.interrupted:
            shutil.rmtree(self.backup_dir, ignore_errors=True)

    def _save(self, epoch):
        # The name holds the epoch, so that one renaming puts both in place.
        earlier = self._backups()
        number = _numbers(earlier[0])[0] + 1 if earlier else 0
        os.makedirs(self.backup_dir, exist_ok=True)
        self.model.save_weights(
            os.path.join(self.backup_dir, f"backup-{number}-{epoch}.weights.h5")
        )
        for path in earlier[1 if self.double_checkpoint else 0 :]:
            os.remove(path)

    def _backups(self):
        """The backups, the latest first."""
        found = glob.glob(os.path.join(glob.escape(self.backup_dir), "backup-*-*.weights.h5"))
        return sorted(found, key=_numbers, reverse=True)


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the learning rate by `factor` after `patience` epochs without improvement.

    Never below `min_lr`, and not for `cooldown` epochs afterwards. Adds learning_rate to the logs.
    epsilon is the older name of min_delta. Raises ValueError unless factor < 1. As
    keras.callbacks.ReduceLROnPlateau.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        epsilon: float | None = None,
    ):
        super().__init__(monitor, mode, min_delta if epsilon is None else epsilon)
        self.factor = checks.number("factor", factor)
        if factor >= 1:
            raise ValueError(f"factor: expected less than 1, received {factor}")
        self.patience = checks.number("patience", patience, ">= 0")
        self.verbose = verbose
        self.cooldown = checks.number("cooldown", cooldown, ">= 0")
        self.min_lr = checks.number("min_lr", min_lr)
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self.best = None
        self.cooldown_counter = 0
        self.wait = 0

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        rate = float(self.model.optimizer.learning_rate)
        logs["learning_rate"] = rate
        current = self._current(logs)
        if current is None:
            return
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improves(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.cooldown_counter:
            self.wait += 1
            if self.wait >= self.patience and rate > np.float32(self.min_lr):
                self._reduce(rate, epoch)

    def _reduce(self, rate: float, epoch: int) -> None:
        rate = max(rate * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = rate
        self.cooldown_counter = self.cooldown
        self.wait = 0
        if self.verbose:
            write(f"\nEpoch {epoch + 1}: ReduceLROnPlateau sets the learning rate to {rate}\n")


class LearningRateScheduler(Callback):
    """Sets the learning rate of every epoch to schedule(epoch, rate) or schedule(epoch).

    Adds learning_rate to the logs. Raises TypeError if a schedule returns no number.
    As keras.callbacks.LearningRateScheduler.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = True
        try:
            inspect.signature(schedule).bind(0, 0.0)
        except TypeError:
            self._takes_rate = False

    def on_epoch_begin(self, epoch, logs=None):
        optimizer = self.model.optimizer
        if self._takes_rate:
            rate = self.schedule(epoch, float(optimizer.learning_rate))
        else:
            rate = self.schedule(epoch)
        if not isinstance(rate, (int, float, np.floating)):
            raise TypeError(f"schedule: expected it to return a number, received {rate!r}")
        optimizer.learning_rate = float(rate)
        if self.verbose:
            write(f"\nEpoch {epoch + 1}: LearningRateScheduler sets the learning rate to {rate}\n")

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class TerminateOnNaN(Callback):
    """Stops training at the batch whose loss is NaN or infinite.

    `raise_error` raises RuntimeError instead. As keras.callbacks.TerminateOnNaN.
    """

    def __init__(self, raise_error: bool = False):
        self.raise_error = checks.flag("raise_error", raise_error)

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss", 0.0)
        if math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"the loss of batch {batch} is {loss}")
        write(f"\nBatch {batch}: the loss is {loss}, training stops\n")
        self.model.stop_training = True


class CSVLogger(Callback):
    """Writes the logs of every epoch to a CSV file, as keras.callbacks.CSVLogger.

    The columns are epoch, then the names of the first epoch's logs in alphabetical order, then,
    if that epoch had no validation, their val_* twins. What an epoch lacks is NA.
    """

    def __init__(self, filename: Path, separator: str = ",", append: bool = False):
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = checks.flag("append", append)
        self._file = None
        self._writer = None

    def on_train_begin(self, logs=None):
        self._close()
        self._file = open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8")

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self._writer is None:
            names = sorted(logs)
            if not any(name.startswith("val_") for name in names):
                names += [f"val_{name}" for name in names]
            self._writer = csv.DictWriter(
                self._file,
                ["epoch", *names],
                restval="NA",
                extrasaction="ignore",
                delimiter=self.separator,
                lineterminator="\n",
            )
            if not self._file.tell():
                self._writer.writeheader()
        row = {name: _plain(value) for name, value in logs.items()}
        self._writer.writerow({**row, "epoch": epoch})
        self._file.flush()

    def on_train_end(self, logs=None):
        self._close()

    def _close(self):
        if self._file is not None:
            self._file.close()
        self._file = self._writer = None


class TensorBoard(Callback):
    """Writes losses, metrics and the learning rate where the program TensorBoard shows them.

    In the folder `log_dir`: train/ and validation/ with epoch_* of every epoch, and what evaluate
    found against the steps of training. update_freq: "epoch" (default), or "batch" or a number n
    for batch_* of every n-th batch as well. histogram_freq: weights as histograms every so many
    epochs, 0 for never (default). write_steps_per_second: the speed too. Graphs, images, profiles
    and embeddings are not written; their arguments are accepted. Raises ImportError without the
    package tensorboardX, ValueError for another update_freq. As keras.callbacks.TensorBoard.
    """

    def __init__(
        self,
        log_dir: Path = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
        **older: Unpack[TensorBoardOptions],
    ):
        unknown = sorted(older.keys() - set(_OLDER_OF_TENSORBOARD))
        if unknown:
            raise TypeError(f"TensorBoard: unknown arguments {unknown}")
        if update_freq not in ("epoch", "batch") and (
            type(update_freq) is not int or update_freq < 1
        ):
            raise ValueError(
                "update_freq: expected 'epoch', 'batch' or a whole number >= 1, received "
                f"{update_freq!r}"
            )
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "callbacks.TensorBoard needs tensorboardX: pip install 'fastrnn[tensorboard]'"
            ) from error
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = histogram_freq
        self.write_steps_per_second = checks.flag("write_steps_per_second", write_steps_per_second)
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._new_writer = SummaryWriter
        self._writers = {}
        self._in_fit = False
        self._batches = self._epoch_batches = 0

    def on_train_begin(self, logs=None):
        self._in_fit = True
        self._batches = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_batches, self._epoch_began = self._batches, perf_counter()

    def on_train_batch_begin(self, batch, logs=None):
        self._batches += 1
        self._batch_began = perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if self.update_freq == "epoch" or self._batches % self.update_freq:
            return
        logs = dict(logs or {})
        if self.write_steps_per_second:
            logs["steps_per_second"] = 1 / (perf_counter() - self._batch_began)
        self._write("train", "batch_{}", logs, self._batches)

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        held = {n.removeprefix("val_"): v for n, v in logs.items() if n.startswith("val_")}
        trained = {n: v for n, v in logs.items() if not n.startswith("val_")}
        trained["learning_rate"] = self.model.optimizer.learning_rate
        if self.write_steps_per_second:
            seconds = perf_counter() - self._epoch_began
            trained["steps_per_second"] = (self._batches - self._epoch_batches) / seconds
        self._write("train", "epoch_{}", trained, epoch)
        self._write("validation", "epoch_{}", held, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for weight in self.model.weights:
                self._writer("train").add_histogram(f"{weight.path}/histogram", weight.value, epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_test_end(self, logs=None):
        steps = self.model.optimizer.iterations
        self._write("validation", "evaluation_{}_vs_iterations", logs or {}, steps)
        if not self._in_fit:
            self._close()

    def on_train_end(self, logs=None):
        self._in_fit = False
        self._close()

    def _writer(self, part):
        if part not in self._writers:
            # tensorboardX tells files apart by the second in which they were opened
            suffix = f".{os.getpid()}.{next(_file_numbers)}"
            folder = os.path.join(self.log_dir, part)
            self._writers[part] = self._new_writer(folder, filename_suffix=suffix)
        return self._writers[part]

    def _write(self, part, name, values, step):
        for key, value in values.items():
            if np.ndim(value) == 0:
                self._writer(part).add_scalar(name.format(key), float(value), step)

    def _close(self):
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


@cache
def _overridden(kind: type[Callback]) -> frozenset[str]:
    names = (name for name in vars(Callback) if name.startswith("on_"))
    return frozenset(n for n in names if getattr(kind, n) is not getattr(Callback, n))


def _flatten(callbacks):
    if isinstance(callbacks, CallbackList):
        yield from callbacks.callbacks
    elif isinstance(callbacks, Callback):
        yield callbacks
    elif isinstance(callbacks, Iterable) and not isinstance(callbacks, (str, dict)):
        for callback in callbacks:
            yield from _flatten(callback)
    else:
        raise TypeError(f"callbacks: expected Callback objects, received {callbacks!r}")


def _numbers(path):
    """The running number and the epoch in the name of a backup."""
    return [int(number) for number in re.findall(r"\d+", os.path.basename(path))[:2]]


def _plain(value):
    """A cell of CSVLogger: arrays and lists as [1, 2]."""
    if isinstance(value, str) or not np.ndim(value):
        return value
    return f"[{', '.join(map(str, value))}]"
