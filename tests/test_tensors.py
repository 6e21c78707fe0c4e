"""numpy() on what functions return, and the variables of optimizers and metrics, as in Keras."""

import copy
import json
import math
import pickle

import numpy as np
import pytest

import fastrnn
from fastrnn import (
    activations,
    constraints,
    initializers,
    losses,
    metrics,
    ops,
    optimizers,
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
        if n != "CRFLoss"  # of what a CRF hands on
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
    **{
        f"constraints.{n}": (lambda n: getattr(constraints, n)()(ONES), n)
        for n in ("Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")
    },
    **{f"ops.{n}": (lambda n: getattr(ops, n)(ONES), n) for n in ("mean", "relu", "sum", "exp")},
    "ops.add": (lambda n: ops.add(ONES, 1.0), ""),
    "ops.argmax": (lambda n: ops.argmax(ONES), ""),
    "schedules": (lambda n: schedules.ExponentialDecay(0.1, 10, 0.5)(3), ""),
}


@pytest.mark.parametrize("case", sorted(RESULTS))
def test_results_have_numpy(case):
    make, name = RESULTS[case]
    result = make(name)
    plain = result.numpy()
    assert type(plain) in (np.ndarray, np.float32, np.int32)
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


OWN_VARIABLES = {  # their names in Keras, but Nadam's last, which it calls "variable"
    "SGD": ["kernel_momentum"],
    "RMSprop": ["kernel_velocity", "kernel_momentum"],
    "Adam": ["kernel_momentum", "kernel_velocity"],
    "Adamax": ["kernel_momentum", "kernel_norm"],
    "Nadam": ["kernel_momentum", "kernel_velocity", "u_product"],
    "Adagrad": ["kernel_accumulator"],
    "Adadelta": ["kernel_accumulated_grad", "kernel_accumulated_delta_var"],
}


def trained(optimizer, metrics=()):
    layer = fastrnn.layers.Dense(2, use_bias=False, kernel_initializer="ones", name="d")
    model = fastrnn.Sequential([fastrnn.Input((4,)), layer])
    model.compile(optimizer, "mse", metrics=list(metrics))
    history = model.fit(ONES, ONES[:, :2], epochs=2, verbose=0)
    return model, history.history


@pytest.mark.parametrize("name", OWN_VARIABLES)
def test_variables_of_optimizers(name):
    momentum = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    optimizer = getattr(optimizers, name)(0.25, **momentum)
    assert [v.name for v in optimizer.variables] == ["iteration", "learning_rate"]
    assert not optimizer.built
    trained(optimizer)
    assert optimizer.built
    names = ["iteration", "learning_rate"]
    names += [v if v == "u_product" else f"d_{v}" for v in OWN_VARIABLES[name]]
    assert [v.name for v in optimizer.variables] == names
    assert [v.path for v in optimizer.variables] == [f"{optimizer.name}/{n}" for n in names]
    assert [v.shape for v in optimizer.variables[2:3]] == [(4, 2)]
    for variable, value in zip(optimizer.variables, optimizer.state().values(), strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
        variable.assign(np.full(value.shape, 3, value.dtype))
    for value in optimizer.state().values():
        assert (value == 3).all()
    with pytest.raises(ValueError, match=r"^value: expected shape \(4, 2\) for '.*d_kernel"):
        optimizer.variables[2].assign([1.0])


def test_steps_and_rate_as_variables():
    optimizer = optimizers.SGD(0.25, gradient_accumulation_steps=2)
    assert optimizer.learning_rate.value.numpy() == np.float32(0.25)
    optimizer.iterations.assign(5)
    assert optimizer.iterations == 5 and optimizer.iterations.value.numpy() == 5
    assert type(optimizer.iterations.numpy()) is np.int64
    assert type(copy.deepcopy(optimizer.iterations)) is int
    for wrong in (-1, 2.5, "x", math.nan):
        with pytest.raises(ValueError, match="^value: expected a .*number.*, received"):
            optimizer.iterations.assign(wrong)
    schedule = optimizers.SGD(schedules.CosineDecay(0.5, 10))
    assert [v.name for v in schedule.variables] == ["iteration"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("MeanSquaredError", {"total": 1.125, "count": 2}),
        ("Precision", {"true_positives": [0], "false_positives": [0]}),
        ("Recall", {"true_positives": [0], "false_negatives": [8]}),
        ("FalseNegatives", {"false_negatives": [8]}),
        ("F1Score", dict.fromkeys(("true_positives",), [2.0] * 4)),
    ],
)
def test_variables_of_metrics(name, values):
    metric = getattr(metrics, name)()
    metric.update_state(ONES, ONES / 4)
    found = {v.name: v.numpy().tolist() for v in metric.variables}
    assert {key: found[key] for key in values} == values
    assert all(
        v.path == f"{metric.name}/{v.name}" and v.dtype == "float32" for v in metric.variables
    )
    before = metric.result()
    for variable in metric.variables:
        variable.assign(variable * 2)
    np.testing.assert_allclose(metric.result(), before * (2 if "False" in name else 1), rtol=1e-6)


class Own(metrics.Metric):
    """As tutorials write it."""

    def __init__(self, name="own", **options):
        super().__init__(name=name, **options)
        self.total = self.add_weight(name="total", initializer="zeros")
        self.seen = self.add_weight("seen", initializer="zeros", dtype="int32")
        self.pair = self.add_variable((2,), initializers.Ones(), name="pair")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(np.sum(np.asarray(y_true) - np.asarray(y_pred)))
        self.seen.assign(self.seen + 2)
        self.pair.assign_sub([1.0, 2.0])

    def result(self):
        return self.total / float(self.seen)


def test_a_metric_with_weights():
    """The values are Keras's."""
    metric = Own()
    for _ in range(2):
        result = metric(ONES[:, :3], np.full((2, 3), 0.3, np.float32))
    assert result.numpy() == pytest.approx(2.1, rel=1e-6)
    states = {v.path: (str(v.dtype), v.numpy().tolist()) for v in metric.variables}
    assert states == {
        "own/total": ("float32", pytest.approx(8.4, rel=1e-6)),
        "own/seen": ("int32", 4),
        "own/pair": ("float32", [-1, -3]),
    }
    for again in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        again.reset_state()
        assert [v.numpy().tolist() for v in again.variables] == [0, 0, [0, 0]]
        assert again.total is again.variables[0] and again.total.name == "total"
    assert metric.seen == 4
    _, history = trained(optimizers.SGD(0.0), [Own()])
    assert history["own"] == [-6, -6]


def test_states_that_float32_can_hold():
    optimizer = optimizers.Adam()
    trained(optimizer)
    for variable in optimizer.variables[2:]:
        with pytest.raises(ValueError, match=f"^value: expected .* can hold for '{variable.path}'"):
            variable.assign(np.full(variable.shape, 1e300))
