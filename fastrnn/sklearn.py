"""LSTM networks as scikit-learn estimators, for its pipelines, grid searches and scores."""

import contextlib
import multiprocessing
import os
import threading

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        check_array,
        check_consistent_length,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        "fastrnn.sklearn needs scikit-learn >= 1.6: pip install 'fastrnn[sklearn]'"
    ) from error

from fastrnn import layers, optimizers, random, runtime
from fastrnn._public import public
from fastrnn.layers.base import check_size
from fastrnn.models import Sequential

__all__ = ["LSTMClassifier", "LSTMRegressor"]
public(__name__)

_computing = threading.RLock()


def _new_lock():
    global _computing
    _computing = threading.RLock()  # whoever held the old one is not in the child process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


class _SequenceEstimator(BaseEstimator):
    """What the two estimators share.

    X is (samples, timesteps, features), or (samples, timesteps) for a series of one number; then
    all samples have as many timesteps as those of `fit`.

    One estimator computes at a time in a process. Workers of joblib get their share of the CPUs
    from OMP_NUM_THREADS, which it sets; processes of a multiprocessing pool use one thread each.
    """

    def __init__(
        self,
        units=32,
        *,
        bidirectional=False,
        dropout=0.0,
        mask_value=None,
        build=None,
        optimizer="adam",
        learning_rate=0.01,
        epochs=50,
        batch_size=32,
        validation_split=0.0,
        random_state=None,
        verbose=0,
    ):
        self.units = units
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.mask_value = mask_value
        self.build = build
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_split = validation_split
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _network(self, input_shape, outputs, activation):
        model = Sequential([layers.Input(shape=input_shape)])
        if self.mask_value is not None:
            model.add(layers.Masking(self.mask_value))
        stack = self.units if isinstance(self.units, (tuple, list)) else [self.units]
        for i, units in enumerate(stack):
            layer = layers.LSTM(
                check_size("units", units),
                return_sequences=i < len(stack) - 1,
                dropout=self.dropout,
            )
            model.add(layers.Bidirectional(layer) if self.bidirectional else layer)
        model.add(layers.Dense(outputs, activation=activation))
        return model

    def _train(self, X, y, sample_weight, callbacks, outputs, activation, loss):
        input_shape = (X.shape[1] if self._univariate else None, X.shape[2])
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        if sample_weight is not None:
            sample_weight = check_array(
                sample_weight, ensure_2d=False, dtype=np.float32, input_name="sample_weight"
            )
            if sample_weight.shape != (len(X),):
                raise ValueError(
                    f"sample_weight: expected shape ({len(X)},), received {sample_weight.shape}"
                )
            if not sample_weight.any():
                raise ValueError("sample_weight: expected some above zero, received zeros alone")
        with _alone(seed):
            if self.build is None:
                model = self._network(input_shape, outputs, activation)
            else:
                model = self.build(input_shape, outputs)
                if not isinstance(model, Sequential):
                    raise ValueError(f"build: expected to return a Sequential, received {model!r}")
            if model._compiled is None:
                optimizer = self.optimizer
                if isinstance(optimizer, str):
                    optimizer = {
                        "class_name": optimizer,
                        "config": {"learning_rate": self.learning_rate},
                    }
                else:  # its moments are of one training
                    optimizer = optimizers.serialize(optimizer)
                model.compile(optimizers.get(optimizer), loss)
            history = model.fit(
                X, y, self.batch_size, self.epochs, self.verbose, callbacks,
                self.validation_split, sample_weight=sample_weight,
            )  # fmt: skip
        if history.interrupted:  # ends a whole search, not only one fit of it
            raise KeyboardInterrupt
        if model.output_shape != (None, outputs):
            raise ValueError(
                f"build: expected a model of output shape (None, {outputs}), received "
                f"{model.output_shape}"
            )
        self.model_, self.history_ = model, history.history
        return self

    def _outputs(self, X):
        check_is_fitted(self)
        X = self._sequences(X, reset=False)
        with _alone():
            return self.model_.predict(X, verbose=0)

    def _sequences(self, X, reset):
        """X as float32 (samples, timesteps, features)."""
        if not hasattr(X, "ndim"):
            X = np.asarray(X)
        if X.ndim == 3:
            X = check_array(X, allow_nd=True, dtype=np.float32, input_name="X")
            features = X.shape[2]
            if reset:
                self.n_features_in_ = features
                self._univariate = False
            elif self._univariate or features != self.n_features_in_:
                expected = 1 if self._univariate else self.n_features_in_
                if features != expected:
                    raise ValueError(
                        f"X has {features} features, but {type(self).__name__} is expecting "
                        f"{expected} features as input"
                    )
            return X
        if not reset and not self._univariate:
            raise ValueError(
                f"X: expected shape (samples, timesteps, {self.n_features_in_}), received {X.shape}"
            )
        X = validate_data(self, X, dtype=np.float32, reset=reset)
        if reset:
            self._univariate = True
        return X[..., None]


class LSTMClassifier(ClassifierMixin, _SequenceEstimator):
    """Classifies whole sequences: LSTM layers, then softmax over the classes.

    units: of the LSTM, or a tuple with those of several LSTMs, one on the other (default 32).
    bidirectional: each LSTM reads both ways. dropout: share of each LSTM's inputs that training
    drops. mask_value: steps in which all features have this value are padding. build: a function
    (input_shape, outputs) -> Sequential to use in place of these; the network's outputs are
    `outputs` probabilities, and it is compiled here if it is not yet. optimizer: a name, used with
    `learning_rate` (default Adam, 0.01), or an optimizer. epochs (50), batch_size (32),
    validation_split and verbose are those of `Sequential.fit`. random_state: an int for repeatable
    results.

    Attributes after `fit`: classes_, n_features_in_, model_ (the Sequential), history_ (of `fit`,
    a dict of lists).
    """

    def fit(self, X, y, sample_weight=None, callbacks=None):
        """Train a new network on X (samples, timesteps[, features]) and labels y (samples,)."""
        X = self._sequences(X, reset=True)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        outputs = len(self.classes_)
        if outputs < 2:
            raise ValueError("y: expected labels of at least two classes, received one class")
        return self._train(
            X, numbers, sample_weight, callbacks, outputs, "softmax",
            "sparse_categorical_crossentropy",
        )  # fmt: skip

    def predict_proba(self, X):
        """The probability of each class, (samples, classes), in the order of classes_."""
        return self._outputs(X)

    def predict(self, X):
        """The most probable class of each sample, (samples,)."""
        numbers = self.predict_proba(X).argmax(axis=1)
        return self.classes_[numbers]


class LSTMRegressor(RegressorMixin, _SequenceEstimator):
    """Predicts one or more numbers of whole sequences: LSTM layers, then a linear layer.

    Arguments and attributes are those of LSTMClassifier; the loss is the mean squared error, so
    that targets far from 0 and 1 are better scaled first (sklearn's TransformedTargetRegressor).
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags

    def fit(self, X, y, sample_weight=None, callbacks=None):
        """Train a new network on X (samples, timesteps[, features]) and y (samples[, outputs])."""
        X = self._sequences(X, reset=True)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        y = check_array(y, ensure_2d=False, dtype=np.float32, input_name="y")
        check_consistent_length(X, y)
        self._one_output = y.ndim == 1
        y = y.reshape(len(y), -1)
        return self._train(X, y, sample_weight, callbacks, y.shape[1], None, "mse")

    def predict(self, X):
        """The predictions, of y's shape in `fit`."""
        outputs = self._outputs(X).astype(np.float64)
        return outputs[:, 0] if self._one_output else outputs


@contextlib.contextmanager
def _alone(seed=None):
    """The only estimator that computes in this process; fastrnn's random stream from `seed`, and
    after that where it was."""
    with _computing:
        if multiprocessing.current_process().daemon:  # one of a pool, all on the same CPUs
            runtime.set_num_threads(1)
        state = random.generator().bit_generator.state
        if seed is not None:
            random.set_seed(int(seed))
        try:
            yield
        finally:
            random.generator().bit_generator.state = state
