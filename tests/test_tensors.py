"""numpy() on what functions return, and the variables of optimizers and metrics, as in Keras."""

import copy
import json
import pickle

import numpy as np
import pytest

from fastrnn import (
    activations,
    initializers,
    losses,
    metrics,
    regularizers,
    schedules,
    tensors,
)

ONES = np.ones((2, 4), np.float32)
NO_FUNCTIONS = {"get", "serialize", "deserialize", "Loss", "LossFunctionWrapper", "Metric"}


def names(module, kind):
    found = {name: getattr(module, name) for name in set(module.__all__) - NO_FUNCTIONS}
    return [name for name, value in sorted(found.items()) if isinstance(value, type) is kind]


def of_activation(name):
    more = {"threshold": (0.5, 0)}.get(name, ())
    return getattr(activations, name)(ONES, *more)


def of_initializer(name):
    return getattr(initializers, name)()((2, 2))


def labels(name):
    return np.zeros(2) if "parse" in name else ONES


RESULTS = {
    **{f"activations.{n}": (of_activation, n) for n in names(activations, False) if n != "linear"},
    **{
        f"initializers.{n}": (of_initializer, n)
        for n in names(initializers, True)
        if n != "Initializer"
    },
    **{
        f"losses.{n}": (lambda n: getattr(losses, n)(labels(n), ONES / 4), n)
        for n in names(losses, False)
    },
    **{
        f"losses.{n}": (lambda n: getattr(losses, n)()(labels(n), ONES / 4), n)
        for n in names(losses, True)
    },
    **{
        f"metrics.{n}": (lambda n: getattr(metrics, n)(labels(n), ONES / 4), n)
        for n in names(metrics, False)
    },
    **{
        f"metrics.{n}": (lambda n: getattr(metrics, n)()(labels(n), ONES / 4), n)
        for n in names(metrics, True)
        if n not in ("Mean", "Sum", "MeanMetricWrapper") and "At" not in n
    },
    "metrics.Mean": (lambda n: metrics.Mean()([1.0, 2.0]), ""),
    "metrics.PrecisionAtRecall": (lambda n: metrics.PrecisionAtRecall(0.5)(ONES, ONES / 4), ""),
    "reduction none": (lambda n: losses.MeanSquaredError(reduction=None)(ONES, ONES / 4), ""),
    "regularizers.L1L2": (lambda n: regularizers.L1L2(1, 1)(ONES), ""),
    "regularizers.Orthogonal": (lambda n: regularizers.OrthogonalRegularizer()(ONES), ""),
    "schedules": (lambda n: schedules.ExponentialDecay(0.1, 10, 0.5)(3), ""),
}


@pytest.mark.parametrize("case", sorted(RESULTS))
def test_results_have_numpy(case):
    make, name = RESULTS[case]
    result = make(name)
    plain = result.numpy()
    assert type(plain) in (np.ndarray, np.float32)
    np.testing.assert_allclose(plain, np.asarray(result), rtol=1e-6)


def test_a_number_with_numpy_is_a_float():
    value = schedules.CosineDecay(0.5, 10)(0)
    assert isinstance(value, float) and value == 0.5 and repr(value) == "0.5"
    assert json.dumps(value) == "0.5" and type(value + 1) is float
    assert type(pickle.loads(pickle.dumps(value))) is float and copy.copy(value) == 0.5


def test_the_step_of_a_training_keeps_plain_values():
    value, gradient = losses.MeanSquaredError().value_and_gradient(ONES, ONES / 4)
    assert type(value) is float and type(gradient) is np.ndarray
    assert tensors.as_tensor("x") == "x" and tensors.as_tensor(None) is None
