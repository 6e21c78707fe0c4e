"""scikit-learn estimators of a function that builds a network, as Keras 1 and 2 had them
(keras.wrappers.scikit_learn)."""

import inspect

import numpy as np

from fastrnn.losses import CategoricalCrossentropy
from fastrnn.models import Sequential
from fastrnn.sklearn import BaseEstimator, ClassifierMixin, RegressorMixin
from fastrnn.utils import to_categorical, unknown_arguments

__all__ = ["KerasClassifier", "KerasRegressor"]


class _Wrapper(BaseEstimator):
    """build_fn returns a compiled Sequential. sk_params, and parameters set later, are arguments of
    build_fn or of the model's fit, predict and evaluate, each given to those that take it. Raises
    ValueError for any other. A search of scikit-learn can vary them all.

    Attribute after `fit`, which returns the History: model.
    """

    def __init__(self, build_fn=None, **sk_params):
        self.build_fn, self.sk_params = build_fn, {}
        self.set_params(**sk_params)

    def get_params(self, deep=True):
        return {"build_fn": self.build_fn, **self.sk_params}

    def set_params(self, **params):
        self.build_fn = params.pop("build_fn", self.build_fn)
        if not callable(self.build_fn):
            raise ValueError(
                f"build_fn: expected a function that returns a model, received {self.build_fn!r}"
            )
        known = {
            name
            for function in (self.build_fn, Sequential.fit, Sequential.predict, Sequential.evaluate)
            for name in inspect.signature(function).parameters
        }
        unknown = params.keys() - known
        if unknown:
            raise ValueError(unknown_arguments(self.build_fn, unknown))
        self.sk_params.update(params)
        return self

    def fit(self, x, y, **options):
        self.model = self.build_fn(**self._taken(self.build_fn, {}))
        if not isinstance(self.model, Sequential):
            raise ValueError(f"build_fn: expected to return a Sequential, received {self.model!r}")
        history = self.model.fit(x, self._targets(y), **self._taken(Sequential.fit, options))
        if history.interrupted:  # ends a whole search, not only one fit of it
            raise KeyboardInterrupt
        return history

    def __sklearn_is_fitted__(self):
        return hasattr(self, "model")

    def _taken(self, function, options):
        """The parameters and options that the function takes."""
        names = inspect.signature(function).parameters
        return {name: v for name, v in (self.sk_params | options).items() if name in names}

    def _outputs(self, x, options):
        return self.model.predict(x, **{"verbose": 0, **self._taken(Sequential.predict, options)})


class KerasClassifier(ClassifierMixin, _Wrapper):
    """y holds labels of classes, (samples,) or (samples, 1), or is one-hot, (samples, classes)."""

    def _targets(self, y):
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] > 1:
            self.classes_ = np.arange(y.shape[1])
            return y
        self.classes_, numbers = np.unique(y, return_inverse=True)
        numbers = numbers.reshape(len(y))
        one_hot = isinstance(self.model.loss, CategoricalCrossentropy)
        return to_categorical(numbers, len(self.classes_)) if one_hot else numbers

    def predict_proba(self, x, **options):
        """(samples, classes), of two classes too."""
        y = self._outputs(x, options)
        return np.hstack([1 - y, y]) if y.shape[1] == 1 else y

    def predict(self, x, **options):
        """The most probable class of each sample, (samples,)."""
        return self.classes_[self.predict_proba(x, **options).argmax(axis=1)]

    def score(self, x, y, **options):
        """The share of samples whose class is right."""
        y = np.asarray(y)
        y = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(len(y))
        return float(np.mean(self.predict(x, **options) == y))


class KerasRegressor(RegressorMixin, _Wrapper):
    def _targets(self, y):
        return y

    def predict(self, x, **options):
        """(samples,) for one output, else (samples, outputs)."""
        y = self._outputs(x, options)
        return y[:, 0] if y.shape[1] == 1 else y

    def score(self, x, y, **options):
        """The loss, negative, so that more is better."""
        options = {"verbose": 0, **self._taken(Sequential.evaluate, options)}
        result = self.model.evaluate(x, y, **options)
        return -(result[0] if isinstance(result, list) else result)
