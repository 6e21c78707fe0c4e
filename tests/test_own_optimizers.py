"""Optimizers of the user's own: classes that say update_step."""

import copy
import pickle

import numpy as np
import pytest

import fastrnn
from fastrnn import layers, models, ops, optimizers
from fastrnn.gradient_tape import GradientTape
from fastrnn.saving import register_keras_serializable

X = np.random.default_rng(0).normal(size=(32, 5, 3)).astype(np.float32)
Y = X.sum((1, 2), keepdims=True)[:, 0]


@register_keras_serializable("own_optimizers")
class Momentum(optimizers.Optimizer):
    """As SGD(momentum)."""

    def __init__(self, learning_rate=0.05, momentum=0.9, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum = momentum

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = [self.add_variable_from_reference(v, name="velocity") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        velocity = self.velocities[self._get_variable_index(variable)]
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign(velocity, velocity * self.momentum - rate * gradient)
        self.assign_add(variable, velocity)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}


class Moments(optimizers.Optimizer):
    """As Adam, in the spelling of Keras 2.11."""

    def build(self, var_list):
        super().build(var_list)
        if hasattr(self, "_momentums"):
            return
        self._momentums, self._velocities = [], []
        for var in var_list:
            self._momentums.append(
                self.add_variable_from_reference(model_variable=var, variable_name="m")
            )
            self._velocities.append(
                self.add_variable_from_reference(model_variable=var, variable_name="v")
            )

    def update_step(self, gradient, variable):
        step = ops.cast(self.iterations + 1, variable.dtype)
        m, v = (s[self._index_dict[self._var_key(variable)]] for s in self._slots_of_both())
        m.assign_add((gradient - m) * (1 - 0.9))
        v.assign_add((ops.square(gradient) - v) * (1 - 0.999))
        alpha = self.learning_rate * ops.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        variable.assign_sub(m * alpha / (ops.sqrt(v) + 1e-7))

    def _slots_of_both(self):
        return self._momentums, self._velocities


def model_of(optimizer):
    fastrnn.utils.set_random_seed(3)
    model = models.Sequential([fastrnn.Input((5, 3)), layers.LSTM(4), layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def trained(optimizer, epochs=3):
    model = model_of(optimizer)
    losses = model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, shuffle=False).history["loss"]
    return model, losses


OPTIONS = [
    {}, {"weight_decay": 0.1}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.01},
    {"use_ema": True, "ema_momentum": 0.5}, {"gradient_accumulation_steps": 2},
    {"learning_rate": optimizers.schedules.ExponentialDecay(0.05, 5, 0.5)},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "".join(options))
def test_as_the_built_in_rule(options):
    rate = options.get("learning_rate", 0.05)
    options = {name: value for name, value in options.items() if name != "learning_rate"}
    model, losses = trained(Momentum(rate, **options))
    expected, right = trained(optimizers.SGD(rate, momentum=0.9, **options))
    np.testing.assert_allclose(losses, right, rtol=1e-5)
    for one, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_older_spelling():
    np.testing.assert_allclose(
        trained(Moments(0.02))[1], trained(optimizers.Adam(0.02))[1], rtol=1e-5
    )


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "Adamax", "Nadam", "Adagrad", "AdamW"])
def test_a_built_in_rule_that_is_changed(name):
    base = getattr(optimizers, name)

    class Same(base):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate)

    class Halved(base):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate * 0.5)

    np.testing.assert_allclose(trained(Same(0.02))[1], trained(base(0.02))[1], rtol=1e-6)
    if name != "AdamW":  # whose decay follows the whole rate
        np.testing.assert_allclose(trained(Halved(0.02))[1], trained(base(0.01))[1], rtol=1e-5)


def test_in_a_loop_with_weights_that_have_no_gradient():
    weights = [fastrnn.Variable(np.ones(3, np.float32), name=name) for name in "ab"]
    optimizer = Momentum(0.1, 0.5)
    optimizer.build(weights)
    for _ in range(2):
        with GradientTape() as tape:
            loss = ops.sum(weights[0] * 2.0)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
    np.testing.assert_allclose(weights[0], 1 - 0.2 - 0.3)
    np.testing.assert_array_equal(weights[1], 1)
    assert [np.shape(v) for v in optimizer.variables] == [(), (), (3,), (3,)]
    assert [v.name for v in optimizer.variables[2:]] == ["a_velocity", "b_velocity"]
    np.testing.assert_allclose(optimizer.variables[2], -0.3)
    optimizer.variables[2].assign(np.zeros(3))
    np.testing.assert_array_equal(optimizer.velocities[0], 0)


@pytest.mark.parametrize("ending", [".keras", ".h5", "pickle", "copy"])
def test_training_goes_on(ending, tmp_path):
    model, _ = trained(Momentum())
    if ending == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif ending == "copy":
        again = copy.deepcopy(model)
    else:
        model.save(tmp_path / f"m{ending}")
        again = models.load_model(tmp_path / f"m{ending}")
    assert type(again.optimizer) is Momentum and again.optimizer is not model.optimizer
    losses = [m.fit(X, Y, epochs=2, verbose=0, shuffle=False).history for m in (model, again)]
    assert losses[0] == losses[1]


def test_another_model_needs_another_optimizer():
    optimizer = Momentum()
    trained(optimizer)
    other = models.Sequential([fastrnn.Input((5, 3)), layers.LSTM(2), layers.Dense(1)])
    other.compile(optimizer, "mse")
    with pytest.raises(ValueError, match="a new set of weights needs a new optimizer"):
        other.fit(X, Y, verbose=0)


class Without(optimizers.Optimizer):
    pass


class Old(optimizers.Optimizer):
    def get_updates(self, loss, params):
        return []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Without, r"Without: expected a method update_step\(gradient, variable, learning_rate\)$"),
        (Old, r"Old: expected a method update_step.*; get_updates is of older versions of Keras"),
    ],
)
def test_a_class_without_a_step(kind, message):
    with pytest.raises(NotImplementedError, match=message):
        model_of(kind()).fit(X, Y, verbose=0)


def test_wrong_arguments():
    optimizer = Momentum()
    with pytest.raises(ValueError, match="expected a weight, a name and an initializer, received"):
        optimizer.add_variable_from_reference(np.ones(3), "velocity")
    with pytest.raises(ValueError, match="received colour"):
        optimizer.add_variable_from_reference(fastrnn.Variable(1.0), "velocity", colour=1)


def test_several_slots_at_once():
    weights = [fastrnn.Variable(np.ones(n, np.float32), name=f"w{n}") for n in (2, 3)]
    optimizer = Momentum()
    m, v = optimizer.add_optimizer_variables(weights, ("m", "v"), ("zeros", "ones"))
    assert [np.shape(part) for part in m] == [(2,), (3,)]
    np.testing.assert_array_equal(v[1], 1)
    (only,) = optimizer.add_optimizer_variables(weights[:1], "z")
    assert only.name == "w2_z"
    count = optimizer.add_variable((), name="count", dtype="int32")
    assert count.dtype == "int32" and count.path == "momentum/count"
