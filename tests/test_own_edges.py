"""Layers, models and tapes of the user's own where it is less than plain what they should do."""

import copy
import gc
import pathlib
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

import fastrnn
from fastrnn import layers, metrics, ops
from fastrnn.models import Model, Sequential
from fastrnn.optimizers import GradientTape
from fastrnn.saving import register_keras_serializable
from fastrnn.variable import Variable


def ones(*shape):
    return np.ones(shape, np.float32)


# --- tapes ----------------------------------------------------------------------------------------


def test_states_carried_from_tape_to_tape_are_constants():
    weight, state, found = Variable(2.0), ops.convert_to_tensor(1.0), []
    for _ in range(3):
        with GradientTape() as tape:
            state = state * weight
            loss = state * 1.0
        gradient = tape.gradient(loss, weight)
        weight.assign_sub(0.1 * gradient)
        found.append((float(gradient), float(weight.numpy())))
    np.testing.assert_allclose(found, [(1, 1.9), (2, 1.7), (3.8, 1.32)], rtol=1e-6)


def test_what_was_computed_before_a_tape_is_a_constant_in_it():
    weight, x = Variable(2.0), ops.convert_to_tensor(3.0)
    with GradientTape() as outer:
        before = weight * weight
        with GradientTape() as inner:
            within = before * weight
        after = within * 1.0
    assert (inner.gradient(within, weight), outer.gradient(after, weight)) == (4, 12)
    with GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x) == 6
    with GradientTape() as tape:
        z = x * x + y
    assert tape.gradient(z, x) is None
    with GradientTape() as tape:
        tape.watch([x, y])
        z = x * y
    assert tape.gradient(z, [x, y]) == [9, 3]
    tape = GradientTape(persistent=True)
    with tape:
        y = weight * weight
    with tape:
        z = y * weight
    assert tape.gradient(z, weight) == 12


def test_ten_thousand_steps_on_a_tape():
    weight, cell = Variable(ones(2)), layers.LSTMCell(2)
    with GradientTape() as tape:
        y, states, total = weight, [ops.zeros((1, 2))] * 2, 0.0
        for place in range(10000):
            y = y * 1.0 + 0.0001
            if place % 5 == 0:
                step, states = cell(ones(1, 3), states)
                total = total + ops.sum(step)
        loss = ops.sum(y) + total
    gradient, *of_cell = tape.gradient(loss, [weight, *cell.trainable_weights])
    np.testing.assert_array_equal(gradient, [1, 1])
    assert all(np.isfinite(part).all() for part in of_cell)
    with GradientTape(persistent=True):
        for _ in range(3000):
            y = ops.stack(ops.unstack(y * weight))
    del y, states, step, total, loss, tape
    gc.collect()


def test_many_training_steps_hold_no_memory():
    cell, states = layers.LSTMCell(2), [ops.zeros((1, 2))] * 2
    model, optimizer = layers.Dense(1), fastrnn.optimizers.SGD(0.01)

    def train(steps):
        nonlocal states
        for _ in range(steps):
            with GradientTape() as tape:
                y, states = cell(ones(1, 3), states)
                loss = ops.sum(ops.square(model(y)))
            weights = cell.trainable_weights + model.trainable_weights
            optimizer.apply(tape.gradient(loss, weights), weights)

    train(50)
    gc.collect()
    tracemalloc.start()
    try:
        train(50)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        train(200)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20000


@pytest.mark.parametrize("numbers", [(2.0, 0.0, 3.0), (0.0, 0.0, 3.0), (0.0, 2.0, 5.0)])
def test_gradient_of_a_cumulative_product_with_a_0(numbers):
    x = ops.convert_to_tensor(np.array([numbers, (1.0, 2.0, 4.0)], np.float32))
    factors = np.array([1, 2, 3], np.float32)
    with GradientTape() as tape:
        tape.watch(x)
        y = ops.sum(ops.cumprod(x, axis=1) * factors)
    (a, b, c), found = numbers, tape.gradient(y, x)
    right = [1 + 2 * b + 3 * b * c, 2 * a + 3 * a * c, 3 * a * b]
    np.testing.assert_allclose(found, [right, [1 + 4 + 24, 2 + 12, 6]], rtol=1e-6)


# --- metrics within -------------------------------------------------------------------------------


class Counts(layers.Layer):
    def __init__(self):
        super().__init__()
        self.seen, self.mean = metrics.Sum(name="seen"), metrics.Mean(name="mean")

    def call(self, x):
        self.seen.update_state(ops.ones((2,)))
        self.mean.update_state(ops.sum(x))
        return x * 1.0


def test_metrics_that_a_layer_updates_in_call():
    counts, inputs = Counts(), layers.Input((3,))
    model = Model(inputs, layers.Dense(1)(counts(inputs)))
    assert counts.seen.result() == 0
    model(ones(2, 3))
    assert counts.seen.result() == 2
    model.compile("sgd", "mse")
    history = model.fit(ones(4, 3), ones(4, 1), batch_size=2, epochs=2, verbose=0).history
    assert history["seen"] == [4, 4] and history["mean"] == [6, 6]
    logs = model.evaluate(ones(4, 3), ones(4, 1), batch_size=2, verbose=0, return_dict=True)
    assert [*logs] == ["loss", "seen", "mean"] and logs["seen"] == 4


def test_metrics_that_a_model_updates_in_call():
    class Counting(Model):
        def __init__(self):
            super().__init__()
            self.counts, self.dense = Counts(), layers.Dense(1)

        def call(self, x):
            return self.dense(self.counts(x))

    model = Counting()
    model.compile("sgd", "mse")
    assert model.fit(ones(4, 3), ones(4, 1), batch_size=2, verbose=0).history["seen"] == [4]


# --- several outputs ------------------------------------------------------------------------------


class Several(Model):
    def __init__(self, structure):
        super().__init__()
        self.z, self.b = (layers.Dense(2, kernel_initializer="ones") for _ in range(2))
        self.structure = structure

    def call(self, x):
        z, b = self.z(x), self.b(x) * 3.0
        return {"z": z, "b": b} if self.structure is dict else (z, b)


def test_order_of_results_of_a_dict_of_outputs():
    x, y = ones(8, 4), {"z": np.zeros((8, 2)), "b": ones(8, 2)}
    model = Several(dict)
    model.compile("sgd", {"z": "mse", "b": "mae"}, metrics={"z": ["mae"], "b": ["mse"]})
    assert model.evaluate(x, y, verbose=0) == [27, 16, 11, 121, 4]  # of z, b; b_mse, z_mae
    assert model.metrics_names == ["loss", "z_loss", "b_loss", "b_mse", "z_mae"]
    model.compile("sgd", {"b": "mae", "z": "mse"})
    assert model.evaluate(x, y, verbose=0) == [27, 11, 16]
    model.compile("sgd", "mse")
    assert model.evaluate(x, y, verbose=0) == [137, 16, 121]


def test_results_of_outputs_without_names():
    x, y = ones(8, 4), [np.zeros((8, 2)), ones(8, 2)]
    model = Several(tuple)
    model.compile("sgd", ["mse", "mae"], metrics=[["mae"], ["mae"]])
    assert model.evaluate(x, y, verbose=0) == [27, 4, 11, 16, 11]
    assert model.metrics_names == ["loss", "mae", "mae_1", "mse_loss", "mae_loss"]
    history = model.fit(x, y, verbose=0).history
    assert [history[name][0] for name in model.metrics_names] == pytest.approx([27, 4, 11, 16, 11])


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
@pytest.mark.parametrize("structure", [dict, tuple])
def test_targets_of_a_model_that_was_not_called_before(method, structure):
    model, parts = Several(structure), [np.zeros((8, 2)), ones(8, 2)]
    model.compile("sgd", "mse")
    y = dict(zip("zb", parts, strict=True)) if structure is dict else parts
    options = {} if method == "train_on_batch" else {"verbose": 0}
    getattr(model, method)(ones(8, 4), y, **options)
    assert model.built


# --- dtypes ---------------------------------------------------------------------------------------


class Sees(layers.Layer):
    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x):
        self.seen.append(x.dtype)
        return ops.cast(x, "float32") * 2.0


def _kinds(layer, model, x):
    layer.seen.clear()
    model.compile("sgd", "mse")
    model.fit(x, ones(2, 1), verbose=0)
    model.predict(x, verbose=0)
    model.evaluate(x, ones(2, 1), verbose=0)
    model(x)
    return {*map(str, layer.seen)}


def test_whole_numbers_reach_own_layers_as_the_input_says():
    x = np.arange(6).reshape(2, 3)
    for dtype in ("int32", "int64", "float32"):
        layer, inputs = Sees(), layers.Input((3,), dtype=dtype)
        model = Model(inputs, layers.Dense(1)(layer(inputs)))
        assert _kinds(layer, model, x) == {dtype}
        layer = Sees()
        vectors = layers.Flatten()(layers.Embedding(9, 2)(inputs))
        both = layers.Concatenate()([layer(inputs), vectors, layers.Dense(1)(inputs)])
        assert _kinds(layer, Model(inputs, layers.Dense(1)(both)), x) == {dtype}
    layer = Sees()
    model = Sequential([layers.Input((3,), dtype="int32"), layer, layers.Dense(1)])
    model(x)
    assert _kinds(layer, model, x) == {"int32"}
    big = 2**24 + 1
    inputs = layers.Input((1,), dtype="int32")
    digit = Model(inputs, layers.Lambda(lambda x: x % 10)(Remainder()(inputs)))
    assert digit.predict(np.array([[big]]), verbose=0) == big % 10


class Remainder(layers.Layer):
    def call(self, x):
        return x % 10


def test_arrays_reach_own_models_as_they_are():
    class Dtypes(Model):
        seen = ()

        def call(self, x):
            self.seen = [x.dtype, *self.seen]
            return ops.cast(x, "float32") * 2.0

    for dtype, given in (("int64", "int64"), ("float32", "float32"), ("float64", "float32")):
        model, x = Dtypes(), np.ones((2, 3), dtype)
        model.predict(x, verbose=0)
        assert model.seen[0] == given
        model.predict(ones(2, 3), verbose=0)
        assert model.seen[0] == "float32"
        model.predict(x, batch_size=1, verbose=0)
        assert model.seen[0] == given


# --- names that the engine has for something else -------------------------------------------------

NAMES = (
    "forward", "backward", "plan", "propagate", "graph", "inputs", "outputs", "sublayers",
    "takes_several", "check_call", "gradient_array", "input_shape", "_models", "_model", "_graph",
    "_variables", "_layers", "_plans", "_compiled", "_said", "_structures", "_own_steps",
)  # fmt: skip


def _trained(model):
    model.compile("sgd", "mse")
    model.fit(ones(4, 3), ones(4, 2), epochs=2, verbose=0)
    return model.predict(ones(1, 3), verbose=0)


def _of_a_graph(layer):
    inputs = layers.Input((3,))
    return Model(inputs, layers.Rescaling(1.0)(layer(inputs)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("base", [layers.Layer, Model])
def test_methods_with_names_of_the_engine(base, name):
    def build_class(name):
        def init(self):
            base.__init__(self)
            self.dense = layers.Dense(2, kernel_initializer="ones")

        def call(self, x):
            return getattr(self, name)(self.dense(x))

        members = {"__init__": init, "call": call, name: lambda self, x: x * 3.0}
        return type("Own", (base,), members)

    found = []
    for wanted in (name, "plainly"):
        own = build_class(wanted)
        for cls in (own, type("Heir", (own,), {}), type("Saying", (own,), {"call": own.call})):
            layer = cls()
            assert getattr(layer, wanted)(2.0) == 6
            found.append(_trained(layer if base is Model else _of_a_graph(layer)))
            assert len(layer.weights) == 2
    np.testing.assert_array_equal(found, [found[0]] * 6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("base", [layers.Layer, Model])
def test_attributes_with_names_of_the_engine(base, name, tmp_path):
    class Own(base):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2, kernel_initializer="ones")
            setattr(self, name, layers.Dense(2, kernel_initializer="ones"))

        def call(self, x):
            return getattr(self, name)(self.dense(x))

    layer = Own()
    model = layer if base is Model else _of_a_graph(layer)
    y = _trained(model)
    assert isinstance(getattr(layer, name), layers.Dense) and len(layer.weights) == 4
    model.save_weights(tmp_path / "own.weights.h5")
    other = Own()
    again = other if base is Model else _of_a_graph(other)
    again(ones(1, 3))
    again.load_weights(tmp_path / "own.weights.h5")
    np.testing.assert_array_equal(again.predict(ones(1, 3), verbose=0), y)
    setattr(layer, name, 5)
    assert getattr(layer, name) == 5


def test_two_directions_with_their_plain_names():
    class Both(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.forward = layers.LSTM(units, return_sequences=True)
            self.backward = layers.LSTM(units, return_sequences=True, go_backwards=True)

        def call(self, x):
            return ops.concatenate([self.forward(x), ops.flip(self.backward(x), axis=1)], axis=-1)

    layer, x = Both(3), np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    built_in = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
    built_in.build((None, 5, 4))
    y = layer(x)
    built_in.set_weights(layer.get_weights())
    np.testing.assert_allclose(y, built_in(x), atol=1e-6)
    model = Sequential([layers.Input((5, 4)), layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, ones(2, 5, 1), verbose=0)
    assert model.predict(x, verbose=0).shape == (2, 5, 1)


# --- files ----------------------------------------------------------------------------------------


@register_keras_serializable("edges")
class CompiledOwnWay(Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense, self.rate = layers.Dense(1), None

    def call(self, x):
        return self.dense(x)

    def compile(self, rate):
        super().compile(fastrnn.optimizers.SGD(rate, momentum=0.9), "mse")
        self.rate = rate

    def get_compile_config(self):
        return {"rate": self.rate}

    def compile_from_config(self, config):
        self.compile(**config)


@register_keras_serializable("edges")
class CompiledByHand(Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def compile(self, rate):
        super().compile(fastrnn.optimizers.SGD(rate), "mse")


@register_keras_serializable("edges")
class Words(layers.Layer):
    words = ()

    def call(self, x):
        return x * 1.0

    def save_assets(self, folder):
        pathlib.Path(folder, "lists").mkdir()
        pathlib.Path(folder, "lists", "words.txt").write_text("\n".join(self.words))

    def load_assets(self, folder):
        self.words = pathlib.Path(folder, "lists", "words.txt").read_text().split("\n")


def test_models_that_compile_in_their_own_way(tmp_path):
    model, x, y = CompiledOwnWay(), ones(8, 3), ones(8, 1)
    model.compile(0.05)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "own.keras")
    again = fastrnn.models.load_model(tmp_path / "own.keras")
    copied = pickle.loads(pickle.dumps(model))
    assert (again.rate, copied.rate) == (0.05, 0.05)
    losses = [m.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"] for m in
              (model, again, copied)]  # fmt: skip
    np.testing.assert_allclose(losses, [losses[0]] * 3, rtol=1e-6)


def test_models_with_a_compile_alone_are_loaded_without_it(tmp_path):
    model = CompiledByHand()
    model.compile(0.05)
    model.fit(ones(8, 3), ones(8, 1), verbose=0)
    model.save(tmp_path / "own.keras")
    with pytest.warns(UserWarning, match="is not compiled: CompiledByHand has a compile of its"):
        again = fastrnn.models.load_model(tmp_path / "own.keras")
    assert not again.compiled
    np.testing.assert_array_equal(again(ones(8, 3)), model(ones(8, 3)))


def test_files_that_a_layer_keeps_beside_its_weights(tmp_path):
    words = Words()
    words.words = ["one", "two"]
    model = Sequential([layers.Input((3,)), words, layers.Dense(1)])
    model.save(tmp_path / "own.keras")
    with zipfile.ZipFile(tmp_path / "own.keras") as archive:
        assert archive.read("assets/layers/words/lists/words.txt") == b"one\ntwo"
    for again in (
        fastrnn.models.load_model(tmp_path / "own.keras"),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
    ):
        assert again.layers[0].words == ["one", "two"]
    with zipfile.ZipFile(tmp_path / "own.keras", "a") as archive:
        archive.writestr("assets/layers/words/../../../../beyond.txt", "")
    with pytest.raises(ValueError, match="expected a plain path, received .*beyond.txt"):
        fastrnn.models.load_model(tmp_path / "own.keras")


@pytest.mark.parametrize("function", ["to_onnx", "to_c", "to_torch", "export"])
def test_own_layers_are_not_exported(function, tmp_path):
    inputs = layers.Input((3,))
    inner = Model(inputs, layers.Dense(2)(Words(name="words")(inputs)))
    for model, named in (
        (CompiledByHand(name="mine"), "model 'mine' .CompiledByHand."),
        (Model(inputs, layers.Dense(1)(inner(inputs))), "layer 'words' .Words."),
    ):
        model(ones(2, 3))
        with pytest.raises(ValueError, match=f"{named} says what it computes in call, which only"):
            if function == "export":
                model.export(tmp_path / "own.onnx")
            else:
                getattr(fastrnn, function)(model)


# --- mistakes -------------------------------------------------------------------------------------


class Returns(layers.Layer):
    def __init__(self, function):
        super().__init__(name="returns")
        self.function = function

    def call(self, x):
        return self.function(x)


class Lies(Returns):
    def compute_output_shape(self, input_shape):
        return (input_shape[0], 7)


class Anew(layers.Layer):
    def call(self, x):
        return layers.Dense(2, name="inner")(x)


class TooFew(layers.Layer):
    state_size = (4, 4)

    def call(self, x, states):
        return x, states[:1]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: Returns(lambda x: None), r"'returns' \(Returns\), call: .* received None"),
        (lambda: Returns(lambda x: "text"), r"'returns' \(Returns\), call: .* received 'text'"),
        (lambda: Returns(lambda x: [x, object]), "call: expected it to return an array, or"),
        (lambda: Lies(lambda x: ops.sum(x, -1)), r"compute_output_shape: expected \(None, 5\), .* "
         r"received \(None, 7\)"),
        (lambda: Lies(lambda x: x[0, 0]), r"compute_output_shape: expected \(4,\), .* received"),
        (lambda: Anew(name="anew"), r"'anew' \(Anew\): call makes a layer anew each time, here "
         r"'inner' \(Dense\), whose weights would be lost"),
        (lambda: layers.RNN(TooFew()), "states: expected 2 of each step, as at the start, rec.* 1"),
        (lambda: Returns(lambda x: [x, x] if len(x) < 5 else [x]), "expected it to give 2 outputs"),
    ],
)  # fmt: skip
def test_what_call_may_not_do(layer, message):
    inputs = layers.Input((5, 4))
    with pytest.raises(ValueError, match=message):
        Model(inputs, layer()(inputs))(ones(8, 5, 4))


def test_a_tape_that_was_not_opened():
    with pytest.raises(RuntimeError, match="expected `with GradientTape.* before gradient"):
        GradientTape().gradient(ops.zeros(()), Variable(1.0))


def test_steps_that_return_no_numbers():
    class Says(CompiledByHand):
        def train_step(self, data):
            return {"loss": "small"}

    model = Says()
    model.compile(0.1)
    with pytest.raises(ValueError, match="train_step: expected numbers by name, received .*small"):
        model.fit(ones(4, 3), ones(4, 1), verbose=0)
