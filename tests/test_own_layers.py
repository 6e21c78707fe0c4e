"""Layers and models of the user's own: their gradients, their steps, and what mistakes say."""

import threading

import numpy as np
import pytest

from fastrnn import layers, losses, models, ops, optimizers, utils
from fastrnn.gradient_tape import GradientTape
from fastrnn.training import loss_and_gradients

X = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(12, 2)).astype(np.float32)


def random_weights(model, seed=1):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])


def wrong_gradients(model, x, y, step=1e-2):
    """The weights whose gradient is not the difference of losses about it."""
    _, gradients, _ = loss_and_gradients(model, x, y)
    wrong = []
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        for place in list(np.ndindex(weight.shape))[:8]:
            found, before = [], weight.numpy()
            for sign in (1, -1):
                changed = before.copy()
                changed[place] += sign * step
                weight.assign(changed)
                found.append(loss_and_gradients(model, x, y)[0])
            weight.assign(before)
            slope = (found[0] - found[1]) / (2 * step)
            if abs(slope - gradient[place]) > 2e-3 * max(1, abs(slope)):
                wrong.append((weight.path, place, slope, gradient[place]))
    return wrong


class Linear(layers.Layer):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), name="bias")

    def call(self, x):
        return ops.matmul(x, self.kernel) + self.bias


class Inner(models.Model):
    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(5, activation="tanh"), layers.Dense(5)

    def call(self, x):
        return self.b(self.a(x)) + 1


class OwnLSTM(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 12), name="kernel")
        self.recurrent = self.add_weight(shape=(3, 12), name="recurrent")

    def call(self, x):
        h = c = np.zeros((x.shape[0], 3), np.float32)
        steps = []
        for t in range(x.shape[1]):
            z = x[:, t] @ self.kernel + h @ self.recurrent
            i, f, g, o = ops.split(z, 4, axis=-1)
            c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
            h = ops.sigmoid(o) * ops.tanh(c)
            steps.append(h)
        return ops.stack(steps, axis=1)


class Shared(layers.Layer):
    """One weight many times: broadcast, sliced, transposed, squared, and in a product of itself."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], shape[-1]), name="w")
        self.v = self.add_weight(shape=(shape[-1],), name="v")

    def call(self, x):
        y = x @ self.w + x @ ops.transpose(self.w)
        y = y * self.v + self.v * self.v
        y = y + self.w[1] * self.w[:, 2] + x @ (self.w @ self.w)
        part = y[:, 1:]
        part = part[:, ::2]
        return ops.concatenate([y, part, part], axis=-1)


def graph_of(*parts, shape=(5,)):
    inputs = layers.Input(shape)
    x = inputs
    for part in parts:
        x = part(x)
    return models.Model(inputs, layers.Dense(2)(x))


def twice(layer):
    return lambda x: layer(layer(x))


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: graph_of(Linear(3)), (5,)),
        (lambda: graph_of(Linear(3), ops.tanh, Linear(3)), (5,)),
        (lambda: graph_of(twice(Linear(5))), (5,)),
        (lambda: graph_of(Inner()), (5,)),
        (lambda: graph_of(twice(Inner())), (5,)),
        (lambda: graph_of(twice(twice(Inner()))), (5,)),
        (lambda: graph_of(Shared()), (5,)),
        (lambda: graph_of(OwnLSTM(), layers.GRU(3), shape=(4, 5)), (4, 5)),
    ],
    ids=["linear", "two", "twice", "model", "model_twice", "model_4_times", "shared", "lstm"],
)
def test_gradients(make, shape):
    model = make()
    random_weights(model)
    model.compile("sgd", "mse")
    x = np.random.default_rng(2).normal(size=(6, *shape)).astype(np.float32)
    assert wrong_gradients(model, x, Y[:6]) == []


def test_weights_of_one_name_in_a_model_called_twice():
    """Their gradients were added up in one array."""
    inner = Inner()
    model = graph_of(twice(inner))
    random_weights(model)
    model.compile("sgd", "mse")
    _, gradients, _ = loss_and_gradients(model, X, Y)
    with GradientTape() as tape:
        loss = losses.MeanSquaredError()(Y, model(X))
    for one, other in zip(gradients, tape.gradient(loss, model.trainable_weights), strict=True):
        assert np.allclose(one, other, atol=1e-6)


# --- steps of the user's own ----------------------------------------------------------------------


class Counted(models.Model):
    """Says how often each step was taken, and doubles what it predicts."""

    def __init__(self):
        super().__init__()
        self.dense, self.steps = layers.Dense(2), []

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        self.steps.append(("train", len(data)))
        return super().train_step(data)

    def test_step(self, data):
        self.steps.append(("test", len(data)))
        return super().test_step(data)

    def predict_step(self, data):
        return 2 * self(data, training=False)


def test_calls_on_one_batch_take_the_steps_of_the_class():
    model = Counted()
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    model.test_on_batch(X, Y)
    model.train_on_batch(X, Y, sample_weight=np.ones(12))
    assert model.steps == [("train", 2), ("test", 2), ("train", 3)]
    y = model(X)
    assert np.allclose(model.predict(X, verbose=0), 2 * y)
    assert np.allclose(model.predict_on_batch(X), 2 * y)


def test_class_weights_come_to_a_train_step_as_sample_weights():
    seen = []

    class Weighed(models.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            seen.append(data[2].tolist())
            return {"loss": 0.0}

    model, labels = Weighed(), np.arange(6) % 3
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X[:6], labels, class_weight={0: 1.0, 2: 4.0}, shuffle=False, verbose=0)
    assert seen == [[1, 1, 4, 1, 1, 4]]


def test_a_test_step_leaves_the_logs_of_training_alone():
    class Tested(models.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2, kernel_initializer="ones")

        def call(self, x):
            return self.dense(x)

        def test_step(self, data):
            return {"loss": -1.0}

    plain = models.Sequential([layers.Dense(2, kernel_initializer="ones")])
    histories = []
    for model in (Tested(), plain):
        model.compile("sgd", "mse")
        found = model.fit(
            X, Y, validation_data=(X, Y), epochs=3, batch_size=4, shuffle=False, verbose=0
        )
        histories.append(found.history)
    assert histories[0]["val_loss"] == [-1, -1, -1]
    assert np.allclose(histories[0]["loss"], histories[1]["loss"], atol=1e-6)


def test_a_predict_step_alone_leaves_the_checks_of_fit():
    class Predicts(models.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

        def predict_step(self, data):
            return self(data)

    model = Predicts()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="^y: expected targets"):
        model.fit(X, verbose=0)


def test_compute_loss_is_what_is_trained():
    class Halved(models.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return ops.mean(ops.square(y - y_pred)) / 2

    one = Halved()
    plain = models.Sequential([layers.Dense(2)])
    one(X), plain(X)
    random_weights(one), random_weights(plain)
    one.compile(optimizers.SGD(0.2))
    plain.compile(optimizers.SGD(0.1), "mse")
    ours = one.fit(X, Y, epochs=2, batch_size=4, shuffle=False, verbose=0).history["loss"]
    theirs = plain.fit(X, Y, epochs=2, batch_size=4, shuffle=False, verbose=0).history["loss"]
    assert np.allclose(2 * np.array(ours), theirs, atol=1e-6)
    assert all(map(np.allclose, one.get_weights(), plain.get_weights()))
    assert np.isclose(2 * one.evaluate(X, Y, verbose=0), plain.evaluate(X, Y, verbose=0))
    assert np.isclose(2 * one.test_on_batch(X, Y), plain.test_on_batch(X, Y))


def test_compute_metrics_is_what_logs_show():
    class Extra(models.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

        def compute_metrics(self, x, y, y_pred, sample_weight):
            return {**super().compute_metrics(x, y, y_pred, sample_weight), "extra": 7.0}

    model = Extra()
    model.compile("sgd", "mse", metrics=["mae"])
    logs = model.fit(X, Y, verbose=0).history
    assert sorted(logs) == ["extra", "loss", "mae"] and logs["extra"] == [7.0]
    assert [*model.evaluate(X, Y, verbose=0, return_dict=True)] == ["loss", "mae", "extra"]


# --- shapes and calls -----------------------------------------------------------------------------


def test_trying_a_layer_leaves_its_weights_as_they_are():
    class Counts(layers.Layer):
        def build(self, shape):
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.count.assign_add(1.0)
            return x * 1.0

    layer = Counts()
    model = graph_of(layer)
    assert layer.count.numpy() == 0
    model(X)
    assert layer.count.numpy() == 1


def test_arrays_in_a_call_on_symbolic_tensors_are_constants():
    class Plus(layers.Layer):
        def call(self, x, other, scale=1.0):
            return (x + other) * scale

    inputs = layers.Input((5,))
    constant = np.arange(5, dtype=np.float32)
    layer = Plus()
    for given in ((layer(inputs, constant, scale=2.0)), layer(inputs, other=constant, scale=2.0)):
        assert np.allclose(models.Model(inputs, given)(X), (X + constant) * 2)


def test_a_layer_that_needs_its_mask():
    class Needs(layers.Layer):
        def call(self, x, mask=None):
            return x * np.asarray(mask, np.float32)[..., None]

    inputs = layers.Input((None, 1))
    model = models.Model(inputs, Needs()(layers.Masking()(inputs)))
    x = np.array([[[1], [2], [0]]], np.float32)
    assert np.allclose(model.predict(x, verbose=0), x)


def test_a_model_of_several_arguments():
    class Step(models.Model):
        def __init__(self):
            super().__init__()
            self.gru = layers.GRU(3, return_state=True)

        def call(self, x, state):
            return self.gru(x, initial_state=state)

    model, x, state = Step(), np.ones((2, 4, 3), np.float32), np.ones((2, 3), np.float32)
    y, _ = model(x, state)
    with GradientTape() as tape:
        again, last = model(x, state)
        loss = ops.sum(again * last)
    assert np.allclose(y, again.numpy(), atol=1e-6)
    assert all(g is not None for g in tape.gradient(loss, model.trainable_weights))


class OfStructure(models.Model):
    """Of a list or a dict of two arrays."""

    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(3, activation="tanh"), layers.Dense(3)

    def call(self, inputs):
        x, y = [inputs[name] for name in "pq"] if isinstance(inputs, dict) else inputs
        return {"u": self.a(x) * self.b(y), "v": self.b(y)}


@pytest.mark.parametrize("pack", [list, lambda parts: dict(zip("pq", parts, strict=True))])
def test_models_of_structures_within_graphs(pack):
    inner, inputs = OfStructure(), [layers.Input((5,)), layers.Input((2,))]
    one = inner(pack(inputs))
    other = inner(pack([inputs[0] * 0.5, layers.Dense(2)(one[1])]))
    model = models.Model(inputs, layers.Dense(2)(layers.Add()([one[0], other[0]])))
    random_weights(model)
    model.compile("sgd", "mse")
    assert wrong_gradients(model, [X[:6], Y[:6]], Y[:6]) == []
    found = inner(pack([X, Y]))
    part = models.Model(inputs, one).predict([X, Y], verbose=0)
    np.testing.assert_allclose(part[0], found["u"], atol=1e-6)
    np.testing.assert_allclose(part[1], found["v"], atol=1e-6)


class Doubled(layers.Layer):
    def call(self, x, training=None):
        return x * 2.0 if training else x


def test_a_model_whose_call_does_not_take_training_says_nothing_of_it():
    """As in Keras: layers within are in training where an outer call says so, and otherwise as
    by themselves, in fit too."""

    class Untold(models.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.doubled = layers.Dense(2), Doubled()

        def call(self, x):
            return self.doubled(self.dense(x))

    class Told(Untold):
        def call(self, x, training=None):
            return super().call(x)

    def is_doubled(model):
        model.compile("sgd", "mse")
        y = model.predict(X, verbose=0)
        loss = model.evaluate(X, Y, verbose=0)
        assert loss == pytest.approx(np.mean((y - Y) ** 2), rel=1e-5)
        loss, doubled = model.train_on_batch(X, Y), np.mean((2 * y - Y) ** 2)
        return loss == pytest.approx(doubled, rel=1e-5)

    inputs, model = layers.Input((5,)), Untold()
    assert not is_doubled(model)
    np.testing.assert_allclose(model(X, training=True), 2 * model(X), rtol=1e-6)
    assert is_doubled(Told())
    assert is_doubled(models.Model(inputs, Untold()(inputs)))
    assert is_doubled(models.Sequential([Untold()]))


# --- mistakes -------------------------------------------------------------------------------------


def layer_saying(call, build=None):
    members = {"call": call, **({"build": build} if build else {})}
    return type("Own", (layers.Layer,), members)(name="mine")


@pytest.mark.skipif(not hasattr(Exception, "add_note"), reason="Python has no notes")
def test_an_exception_in_call_is_what_it_was_and_names_the_layer():
    class Special(Exception):
        pass

    special = Special("as it was")

    def call(self, x):
        raise special

    with pytest.raises(Special) as caught:
        layer_saying(call)(X)
    assert caught.value is special and str(special) == "as it was"
    assert special.__notes__ == ["in call of layer 'mine' (Own)"]


def test_wrong_arguments_of_a_call():
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        layer_saying(lambda self, x: x)(X, size=3)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        layer_saying(lambda self, x, y: x)(X)


def test_a_wrong_shape_of_a_weight():
    with pytest.raises(ValueError, match="shape: expected whole numbers >= 0, received"):
        layers.Layer().add_weight(shape=(2.5,))
    with pytest.raises(ValueError, match="shape: expected whole numbers >= 0, received"):
        layers.Layer().add_weight(shape=(None, 3))


def test_a_call_that_returns_nothing_says_so():
    for given in (X, layers.Input((5,))):
        with pytest.raises(ValueError, match="layer 'mine'.*call: expected .*, received None"):
            layer_saying(lambda self, x: None)(given)


def test_a_train_step_that_returns_nothing():
    class Nothing(Counted):
        def train_step(self, data):
            pass

    model = Nothing()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="train_step: expected a dict of results.*received None"):
        model.fit(X, Y, verbose=0)


def test_fit_without_compile():
    with pytest.raises(RuntimeError, match="model 'counted.*call compile"):
        Counted().fit(X, Y, verbose=0)


class Adds(layers.Layer):
    """Adds a loss, where it has a rate."""

    def __init__(self, rate=0.0):
        super().__init__()
        self.rate = rate

    def call(self, x):
        if self.rate:
            self.add_loss(self.rate * ops.mean(x))
        return x


def sequence_of(*parts):
    return models.Sequential([layers.Dense(3, kernel_initializer="ones"), *parts])


def test_a_loss_that_a_layer_adds_is_enough():
    model = sequence_of(Adds(0.01))
    model.compile("adam")
    x = np.ones((2, 3), np.float32)
    history = model.fit(x, x, verbose=0).history  # Keras's
    np.testing.assert_allclose(history["loss"], [0.03], rtol=1e-6)
    np.testing.assert_allclose(model.evaluate(x, x, verbose=0), 0.029960038, rtol=1e-6)


@pytest.mark.parametrize("use", ["fit", "evaluate", "train_on_batch", "compute_loss"])
@pytest.mark.parametrize("make", [lambda: sequence_of(Adds()), Inner])
def test_without_any_loss(make, use):
    model = make()
    model.compile("adam")
    model(X)
    options = {"y": Y, "y_pred": Y} if use == "compute_loss" else {}
    with pytest.raises(ValueError, match="there is no loss: expected one in compile"):
        getattr(model, use)(X, **(options or {"y": Y}))


def test_what_numpy_makes_of_inputs_has_no_derivative_and_is_refused():
    model = graph_of(layer_saying(lambda self, x: ops.sum(np.asarray(x), axis=-1, keepdims=True)))
    model.compile("sgd", "mse")
    model.predict(X, verbose=0)
    with pytest.raises(TypeError, match="must not make an array of what it is given"):
        model.fit(X, Y, verbose=0)


def test_arrays_are_not_changed_in_place():
    def call(self, x):
        x[:, 0] = 0
        return x

    model = graph_of(layer_saying(call))
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match="does not support item assignment"):
        model.fit(X, Y, verbose=0)


def test_constants_that_change_after_their_use():
    """An array that `call` fills again for each step: derivatives are of what it was."""

    def call(self, x):
        share, y = np.ones(5, np.float32), x * 0
        for n in range(3):
            share[...] = n
            y = y + x * x * share
        return y

    model = graph_of(layer_saying(call))
    random_weights(model)
    model.compile("sgd", "mse")
    inputs = layers.Input((5,))
    right = models.Model(inputs, layers.Dense(2)(inputs * inputs * 3.0))
    right.set_weights(model.get_weights())
    right.compile("sgd", "mse")
    _, gradients, dx = loss_and_gradients(model, X, Y)
    _, expected, expected_dx = loss_and_gradients(right, X, Y)
    assert np.allclose(dx, expected_dx, atol=1e-5)
    assert all(map(np.allclose, gradients, expected))


def test_two_threads_train_two_models():
    def train(results, place):
        model = graph_of(Linear(4), ops.tanh)
        random_weights(model)
        model.compile("sgd", "mse")
        results[place] = model.fit(X, Y, epochs=10, batch_size=4, shuffle=False, verbose=0).history[
            "loss"
        ]

    results = [None, None, None]
    train(results, 2)
    threads = [threading.Thread(target=train, args=(results, n)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.allclose(results[0], results[2]) and np.allclose(results[1], results[2])


class Whole(layers.Layer):
    """Says a shape whose batch is free, whatever it is asked for."""

    def call(self, x):
        return ops.reshape(x, (-1, 6))

    def compute_output_shape(self, input_shape):
        return (None, 6)


@pytest.mark.parametrize("above", [layers.Dense(2), layers.Activation("relu"), layers.Flatten()])
def test_a_shape_that_is_said_for_any_batch(above):
    inputs = layers.Input((3, 2))
    model = models.Model(inputs, above(Whole()(inputs)))
    x = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    want = above(x.reshape(4, 6)).numpy()
    for found in (model.predict(x, verbose=0), model(x), model.compile_inference()(x)):
        np.testing.assert_allclose(np.asarray(found), want, rtol=1e-6)


class Specified(layers.Layer):
    def __init__(self, spec):
        super().__init__()
        self.input_spec = spec

    def call(self, x):
        return x[0] if isinstance(x, list) else x


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("options", "fits", "wrong", "message"),
    [
        ({"ndim": 3}, (4, 3), (4,), "expected 3 axes, received shape"),
        ({"min_ndim": 3}, (4, 3, 2), (4,), "expected at least 3 axes"),
        ({"max_ndim": 2}, (4,), (4, 3), "expected at most 2 axes"),
        ({"min_ndim": 2, "axes": {-1: 4}}, (4,), (3,), "expected size 4 of axis -1"),
        ({"shape": (None, 5, 1)}, (5, 1), (5, 2), r"expected shape \(None, 5, 1\)"),
        (
            {"shape": (None, 5, 1), "allow_last_axis_squeeze": True}, (5,), (4, 1),
            r"expected shape \(None, 5, 1\)",
        ),
    ],
)  # fmt: skip
def test_inputs_that_an_input_spec_takes(options, fits, wrong, message, symbolic):
    def make(shape):
        return layers.Input(shape) if symbolic else np.ones((2, *shape), np.float32)

    spec = layers.InputSpec(**options)
    Specified(spec)(make(fits)), Specified([spec])(make(fits))
    with pytest.raises(ValueError, match=message):
        Specified(spec)(make(wrong))
    with pytest.raises(ValueError, match="input 1: " + message):
        Specified([None, spec])([make(fits), make(wrong)])
    with pytest.raises(ValueError, match="expected 2 inputs, received 1"):
        Specified([spec, spec])(make(fits))


class Watched(layers.Layer):
    """Says how large what it is given is, as in Keras 2."""

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")
        super().build(input_shape)

    def call(self, x):
        self.add_metric(ops.max(x), name="largest", aggregation="mean")
        return x * self.factor


@pytest.mark.parametrize("kind", ["chain", "graph", "model"])
def test_metrics_that_a_call_adds(kind):
    class Whole(models.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.last = Watched(), layers.Dense(1)

        def call(self, x):
            y = self.last(self.inner(x))
            self.add_metric(ops.sum(x), "sum")
            return y

    if kind == "model":
        model = Whole()
    elif kind == "chain":
        model = models.Sequential([layers.Input((3,)), Watched(), layers.Dense(1)])
    else:
        x = layers.Input((3,))
        model = models.Model(x, layers.Dense(1)(Watched()(x)))
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    model.compile("sgd", "mse")
    history = model.fit(
        x / 24, x[:, :1], batch_size=4, epochs=2, verbose=0, shuffle=False,
        validation_data=(x[:2] / 24, x[:2, :1]),
    ).history  # fmt: skip
    np.testing.assert_allclose(history["largest"], [17 / 24] * 2, rtol=1e-6)
    np.testing.assert_allclose(history["val_largest"], [5 / 24] * 2, rtol=1e-6)
    if kind == "model":
        np.testing.assert_allclose(history["sum"], [276 / 24 / 2] * 2, rtol=1e-6)
        assert [metric.name for metric in model.inner.metrics] == ["largest"]
    assert "largest" in [metric.name for metric in model.metrics]
    assert layers.Dense(1).metrics == [] and layers.Dense(1).metrics_variables == []


def test_metrics_that_cannot_be_added():
    layer = Watched()
    with pytest.raises(ValueError, match="value: expected an array .*compile"):
        layer.add_metric(layers.Input((3,)), name="x")
    with pytest.raises(ValueError, match='expected a name, and the aggregation "mean"'):
        layer.add_metric(1.0)
    with pytest.raises(ValueError, match="aggregation='sum'"):
        layer.add_metric(1.0, name="x", aggregation="sum")


class Twice(layers.Wrapper):
    def call(self, x):
        return self.layer(x) + self.layer(x)


@utils.register_keras_serializable("own")
class Scaled(layers.Wrapper):
    def __init__(self, layer, factor=2.0, **kwargs):
        super().__init__(layer, **kwargs)
        self.factor = factor

    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return self.layer(x) * self.factor * self.scale

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def test_wrappers(tmp_path):
    model = models.Sequential(
        [layers.Input((5,)), Twice(layers.Dense(3)), Scaled(layers.Dense(2), 3.0)]
    )
    assert [w.shape for w in model.weights] == [(5, 3), (3,), (), (3, 2), (2,)]
    random_weights(model)
    first, second = (layer.layer.get_weights() for layer in model.layers)
    scale = model.layers[1].scale.numpy()
    want = ((2 * (X @ first[0] + first[1])) @ second[0] + second[1]) * 3 * scale
    np.testing.assert_allclose(model.predict(X, verbose=0), want, rtol=1e-4, atol=1e-5)
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    assert not wrong_gradients(model, X, Y)
    model.save(tmp_path / "m.keras")
    again = models.load_model(tmp_path / "m.keras", custom_objects={"Twice": Twice})
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    with pytest.raises(ValueError, match="layer: expected a layer, received 3"):
        Twice(3)


class Seen(layers.Layer):
    """Keeps the masks that it is given."""

    def __init__(self, seen, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking, self.seen = True, seen

    def call(self, x, mask=None):
        self.seen[self.name] = None if mask is None else np.asarray(mask).tolist()
        return x

    def compute_output_shape(self, shape):
        return shape


class Two(layers.Layer):
    def __init__(self):
        super().__init__()
        self.supports_masking = True
        self.rnn, self.conv = layers.LSTM(3, return_sequences=True), layers.Conv1D(4, 1)

    def call(self, x):
        return [ops.sin(self.conv(x)), self.rnn(x)]


class Around(layers.Layer):
    def __init__(self):
        super().__init__()
        self.two = Two()

    def call(self, x):
        one, other = self.two(x)
        return [other, ops.tanh(other), one]


def test_masks_of_layers_within_go_on_with_outputs():
    """As Keras 3.15's: what an output carries from within stays, others get the layer's own."""
    x, seen = np.ones((1, 3, 2), np.float32), {}
    x[0, 1] = 0
    given = layers.Input((3, 2))
    masked = layers.Masking()(given)
    ends = [Seen(seen, name=f"two{n}")(part) for n, part in enumerate(Two()(masked))]
    ends += [Seen(seen, name=f"around{n}")(part) for n, part in enumerate(Around()(masked))]
    model = models.Model(given, ends)
    mask, expected = [[True, False, True]], {}
    for name, value in zip(
        ["two0", "two1", "around0", "around1", "around2"], range(5), strict=True
    ):
        expected[name] = None if value == 3 else mask
    for run in (model, lambda x: model.predict(x, verbose=0), model.compile_inference()):
        seen.clear()
        run(x)
        assert seen == expected


class Tagger(models.Model):
    def __init__(self):
        super().__init__()
        self.words = layers.Embedding(5, 4, mask_zero=True)
        self.steps, self.tags = layers.LSTM(3, return_sequences=True), layers.Dense(1)

    def call(self, x):
        return self.tags(self.steps(self.words(x)))


class Unmasked(Tagger):
    def call(self, x):
        return super().call(x) * 1.0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [  # loss, mean absolute error, and both after a step, of Keras 3.15
        (Tagger, [0.50741887, 0.5734449625, 0.281266838, 0.401150167]),
        (Unmasked, [0.517710984, 0.5618966818, 0.293431133, 0.3902705908]),
    ],
)
def test_the_loss_of_a_model_keeps_out_what_is_masked(kind, expected):
    x, y = np.array([[1, 2, 0, 0], [3, 4, 1, 0]]), np.ones((2, 4, 1), np.float32)
    model, rng = kind(), np.random.default_rng(0)
    model(x)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    model.compile(optimizers.SGD(0.1), "mse", metrics=["mae"])
    found = model.evaluate(x, y, verbose=0)
    model.train_on_batch(x, y)
    found += model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


class Sum(layers.Layer):
    """A cell: sums of what came."""

    units = state_size = output_size = 2

    def call(self, x, states):
        return x + states[0], [x + states[0]]


class TwiceOrMasked(layers.Layer):
    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, x, mask=None):
        return x * 2.0


@pytest.mark.parametrize(
    "make",
    [
        TwiceOrMasked,
        lambda: layers.RNN(Sum(), return_sequences=True),
        lambda: layers.Bidirectional(layers.RNN(Sum(), return_sequences=True)),
        lambda: layers.LSTM(2, return_sequences=True),
    ],
)
def test_outputs_carry_the_mask_that_a_call_was_given(make):
    def carried(y):
        return np.asarray(y._keras_mask).tolist()

    x, mask = np.ones((1, 5, 2), np.float32), [[True, True, False, True, False]]
    layer, other = make(), [[True, True, True, True, False]]
    assert carried(layer(ops.convert_to_tensor(x), mask=np.array(mask))) == mask
    x = ops.convert_to_tensor(x)
    x._keras_mask = np.array(other)
    assert carried(layer(x)) == other
    assert carried(layer(x, mask=np.array(mask))) == mask
