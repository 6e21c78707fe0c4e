"""Models of layers called on each other: a chain is a Sequential, all else a graph."""

import copy
import gc
import pickle

import numpy as np
import pytest

import fastrnn
from fastrnn import Input, Model, Sequential, layers, models

X = np.random.default_rng(0).integers(0, 20, (12, 7))
Y = X.sum(axis=1) % 2


def stack(kit):
    return [
        kit.Embedding(20, 4, mask_zero=True),
        kit.Bidirectional(kit.LSTM(3, return_sequences=True)),
        kit.LSTM(5),
        kit.Dense(1, activation="sigmoid"),
    ]


def called(library):
    inputs = x = library.Input(shape=(None,), dtype="int32")
    for layer in stack(library.layers):
        x = layer(x)
    return library.Model(inputs, x)


def trained(model, weights, library=fastrnn):
    model.set_weights(weights)
    model.compile(library.optimizers.SGD(0.5), "binary_crossentropy", metrics=["accuracy"])
    model.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    return [*model.get_weights(), model.predict(X, verbose=0)]


def test_it_is_the_sequential_of_its_layers():
    fastrnn.utils.set_random_seed(0)
    model = called(fastrnn)
    fastrnn.utils.set_random_seed(0)
    twin = Sequential([Input(shape=(None,), dtype="int32"), *stack(layers)])
    weights = model.get_weights()
    for one, other in zip(weights, twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(trained(model, weights), trained(twin, weights), strict=True):
        np.testing.assert_array_equal(one, other)
    assert isinstance(model, Model) and isinstance(model, Sequential) and isinstance(twin, Model)
    assert not isinstance(model.layers[0], Model)
    assert Model(name="mine", **{"inputs": model.input, "outputs": model.output}).name == "mine"


def test_as_keras_itself():
    keras = pytest.importorskip("keras", reason="compares with Keras itself")
    weights = called(fastrnn).get_weights()
    theirs = trained(called(keras), weights, keras)
    for one, other in zip(trained(called(fastrnn), weights), theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_shapes_are_known_on_the_way():
    x = Input((6, 3), batch_size=2, name="given")
    assert (x.shape, x.dtype) == ((2, 6, 3), "float32")
    x = layers.LSTM(4, return_sequences=True)(x)
    assert x.shape == (2, 6, 4)
    dense = layers.Dense(5)
    assert dense(x).shape == (2, 6, 5)
    assert [w.shape for w in dense.weights] == [(4, 5), (5,)]
    with pytest.raises(ValueError, match=r"expected input of shape \(batch, timesteps, features\)"):
        layers.LSTM(2)(Input((3,)))
    with pytest.raises(ValueError, match=r"expected input of shape \(None, None, 4\)"):
        dense(Input((6, 3)))


def test_copies_of_a_layer_are_in_no_model():
    model = Sequential([layers.Dense(2, input_shape=(3,))])
    for again in (copy.deepcopy(model.layers[0]), pickle.loads(pickle.dumps(model.layers[0]))):
        np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
        with pytest.raises(AttributeError, match="is in no model"):
            again.output  # noqa: B018


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Dense(2),
        lambda: layers.LSTM(2),
        lambda: layers.Bidirectional(layers.GRU(2)),
        lambda: layers.Conv1D(2, 2),
    ],
)
def test_copies_of_a_layer_that_was_called(make):
    x = np.random.default_rng(1).normal(size=(2, 5, 3))
    layer = make()
    y = layer(x)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(again(x), y)
        again.set_weights([2 * w for w in again.get_weights()])
        assert (again(x) != y).any()
        np.testing.assert_array_equal(layer(x), y)


def test_a_layer_that_was_built_before():
    """As the tutorials do that set an Embedding's weights first."""
    embedding = layers.Embedding(20, 8, trainable=False)
    embedding.build((1,))
    inputs = Input((None,), dtype="int32")
    model = Model(inputs, layers.LSTM(3)(embedding(inputs)))
    assert model.layers[0].output_shape == (None, None, 8)
    assert model.predict(X, verbose=0).shape == (12, 3)


def test_models_share_layers():
    inputs = Input((6, 2))
    code = layers.LSTM(4)(inputs)
    x = layers.RepeatVector(6)(code)
    decoded = layers.TimeDistributed(layers.Dense(2))(layers.LSTM(4, return_sequences=True)(x))
    both, encoder, decoder = Model(inputs, decoded), Model(inputs, code), Model(code, decoded)
    x = np.random.default_rng(1).normal(size=(9, 6, 2)).astype(np.float32)
    before = encoder.predict(x, verbose=0)
    both.compile("adam", "mse")
    both.fit(x, x, epochs=2, verbose=0)
    codes = encoder.predict(x, verbose=0)
    assert (codes != before).any()
    np.testing.assert_array_equal(decoder.predict(codes, verbose=0), both.predict(x, verbose=0))


def test_outputs_of_layers_in_a_model():
    model = Sequential(stack(layers))
    with pytest.raises(ValueError, match="expected a shape"):
        model.layers[2].output  # noqa: B018
    model.predict(X, verbose=0)
    middle = Model(model.inputs, model.layers[2].output)
    states = middle.predict(X, verbose=0)
    top = Model(model.layers[2].output, model.outputs)
    np.testing.assert_allclose(
        top.predict(states, verbose=0), model.predict(X, verbose=0), atol=1e-6
    )
    with pytest.raises(AttributeError, match="'dense_of_none' has no output: it is in no model"):
        layers.Dense(1, name="dense_of_none").output  # noqa: B018


def test_a_model_is_a_layer():
    inner = Sequential([layers.Dense(3, activation="relu"), layers.Dense(2)])
    inputs = Input((5,))
    model = Model(inputs, inner(inputs))
    x = np.ones((2, 5))
    assert model.layers == [inner]
    np.testing.assert_array_equal(model.predict(x, verbose=0), inner.predict(x, verbose=0))


def test_all_outputs_of_the_last_layer():
    inputs = Input((6, 2))
    lstm = layers.LSTM(4, return_state=True)
    outputs = lstm(inputs)
    assert [tensor.shape for tensor in outputs] == [(None, 4)] * 3
    x = np.random.default_rng(1).normal(size=(3, 6, 2))
    found = Model(inputs, outputs).predict(x, verbose=0)
    for one, other in zip(found, lstm(x), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for some in (outputs[0], outputs[1:], outputs[::-1], [outputs[0], lstm(inputs)[0]]):
        ys = Model(inputs, some).predict(x, verbose=0)
        if some is outputs[0]:
            ys, some = [ys], [some]
        for y, tensor in zip(ys, some, strict=True):
            np.testing.assert_allclose(y, found[tensor.place], atol=1e-6)


def test_arrays_are_still_computed():
    x = np.ones((2, 6, 3))
    lstm = layers.LSTM(4)
    inputs = Input((6, 3))
    model = Model(inputs, lstm(inputs))
    y = lstm(x)
    assert isinstance(y, np.ndarray) and y.shape == (2, 4)
    np.testing.assert_allclose(model.predict(x, verbose=0), y, atol=1e-6)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x or 1,
        np.mean,
        np.asarray,
        float,
        list,
        lambda x: x.numpy(),
    ],
)
def test_what_needs_values(use):
    x = layers.LSTM(4, name="memory")(Input((6, 3)))
    with pytest.raises(TypeError, match="the output of layer 'memory' is symbolic"):
        use(x)


def test_calls_that_are_refused():
    one, two = Input((6, 3), name="one"), Input((6, 3), name="two")
    x, y = layers.LSTM(4, name="x")(one), layers.LSTM(4, name="y")(two)
    join = layers.Dense(2, name="join")
    with pytest.raises(ValueError, match=r"layer 'join' \(Dense\): expected one input, received 2"):
        join([x, y])
    assert join([x]).shape == (None, 2)
    with pytest.raises(ValueError, match=r"layer 'z' \(LSTM\): expected 2 initial states"):
        layers.LSTM(4, name="z")(one, initial_state=[x])
    with pytest.raises(ValueError, match="layer 'z': .* received scores= too"):
        layers.LSTM(4, name="z")(one, scores=False)
    with pytest.raises(
        ValueError, match="outputs: expected what comes of the inputs alone.* 'one'"
    ):
        Model(two, x)
    with pytest.raises(ValueError, match="expected layers with names of their own.*'x'"):
        Model([one, two], [x, layers.LSTM(4, name="x")(two)])
    for inputs, outputs in ((None, x), (one, None), (one, X), ([], x), ((6, 3), x)):
        with pytest.raises(ValueError, match=r"puts: expected Input\(...\) or the output of a"):
            Model(inputs, outputs)
    with pytest.raises(TypeError, match=r"unknown arguments \['outs'\]"):
        Model(one, x, outs=x)
    with pytest.raises(ValueError, match="layer: expected a layer, received <Symbolic"):
        Sequential([x])


def test_dicts_with_more_than_the_inputs():
    one, two = Input((2,), name="one"), Input((2,), name="two")
    x = np.random.default_rng(4).normal(size=(3, 5, 2)).astype(np.float32)
    data = dict(zip(("other", "two", "one"), x, strict=True))
    both = Model([one, two], layers.Subtract()([one, two]))
    chain = Model(two, layers.Activation("linear")(two))
    branches = Model(two, [layers.Activation("linear")(two), two])
    for call in (lambda model: model(data), lambda model: model.predict(data, verbose=0)):
        np.testing.assert_allclose(call(both), x[2] - x[1])
        np.testing.assert_array_equal(call(chain), x[1])
        np.testing.assert_array_equal(call(branches)[0], x[1])
    for model in (chain, branches):
        with pytest.raises(ValueError, match="x: expected .*'two'.* received .*'others'"):
            model.predict({"other": x[0], "others": x[1]}, verbose=0)


def test_one_weight_of_all_losses():
    inputs = Input((2,))
    model = Model(inputs, [layers.Dense(1)(inputs), layers.Dense(2)(inputs)])
    x, losses = np.ones((4, 2), np.float32), []
    for weights in (None, 0.5, [0.5, 0.5]):
        model.compile("sgd", ["mse", "mae"], loss_weights=weights)
        losses.append(model.evaluate(x, [x[:, :1], x], verbose=0))
    assert losses[1] == losses[2] == pytest.approx([losses[0][0] / 2, *losses[0][1:]])
    with pytest.raises(ValueError, match="loss_weights: expected a"):
        model.compile("sgd", "mse", loss_weights="half")


def test_states_of_the_last_layer_are_trained():
    inputs = Input((6, 2))
    model = Model(inputs, layers.LSTM(3, return_state=True)(inputs))
    model.compile("sgd", "mse")
    x = np.random.default_rng(1).normal(size=(4, 6, 2)).astype(np.float32)
    history = model.fit(x, [np.ones((4, 3))] * 3, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_a_layer_is_no_tensor():
    for given, said in ((layers.Dense(3, name="below"), "<Dense name=below"), (None, "None")):
        with pytest.raises(ValueError, match=f"inputs: expected an array of .*, received {said}"):
            layers.Dense(2)(given)


def test_small_graphs():
    one = Input((6, 3))
    x = layers.LSTM(4)(one)
    y = layers.Dense(2)(x)
    given = np.random.default_rng(2).normal(size=(5, 6, 3)).astype(np.float32)
    states, out = Model(one, [x, y]).predict(given, verbose=0)
    np.testing.assert_allclose(states, Model(one, x).predict(given, verbose=0), atol=1e-6)
    np.testing.assert_allclose(out, Model(one, y).predict(given, verbose=0), atol=1e-6)
    np.testing.assert_array_equal(Model(one, one).predict(given, verbose=0), given)


def test_subclasses():
    class Mine(Model):
        pass

    inputs = Input((6, 3))
    outputs = layers.LSTM(4)(inputs)
    model = Mine(inputs, outputs)
    assert isinstance(model, Mine) and model.name == "mine"
    x = np.ones((2, 6, 3), np.float32)
    np.testing.assert_array_equal(model.predict(x), Model(inputs, outputs).predict(x))
    for use in (lambda: Mine(name="none")(x), lambda: Mine(name="none").predict(x)):
        with pytest.raises(NotImplementedError, match=r"'none' \(Mine\): expected a method call"):
            use()


def test_the_spelling_of_keras_1():
    inputs = Input((6, 3))
    assert Model(input=inputs, output=layers.LSTM(4)(inputs)).output_shape == (None, 4)


# --- clones ---------------------------------------------------------------------------------------


def test_clones_by_function_and_with_another_input():
    model = models.Sequential([
        layers.Input((5, 3)), layers.LSTM(4), models.Sequential([layers.Dense(2)]),
    ])  # fmt: skip
    seen = []

    def wider(layer):
        seen.append(layer)
        if isinstance(layer, layers.LSTM):
            return layers.LSTM.from_config({**layer.get_config(), "units": 6})
        return models.clone_model(layer)

    clone = models.clone_model(model, clone_function=wider)
    assert seen == model.layers and clone.layers[0].units == 6
    assert clone.output_shape == (None, 2) and clone.name == model.name
    other = models.clone_model(model, input_tensors=layers.Input((7, 2)))
    assert other.input_shape == (None, 7, 2) and other.layers[0] is not model.layers[0]
    assert models.clone_model(model, clone_function=lambda layer: layer).layers == model.layers
    with pytest.raises(ValueError, match="clone_function: expected it to return a layer"):
        models.clone_model(model, clone_function=lambda layer: None)
    with pytest.raises(ValueError, match="model: expected a model"):
        models.clone_model(layers.Dense(2))


def test_clones_of_graphs():
    model, (x, y) = translator(), translations()
    clone = models.clone_model(model)
    names = [layer.name for layer in model.layers]
    assert [layer.name for layer in clone.layers] == names and clone.name == model.name
    assert not {*model.layers} & {*clone.layers} and clone.get_config() == model.get_config()
    assert [w.shape for w in clone.weights] == [w.shape for w in model.weights]
    assert (clone.get_weights()[0] != model.get_weights()[0]).any()
    clone.set_weights(model.get_weights())
    for one, other in zip(clone.predict(x), model.predict(x), strict=True):
        np.testing.assert_array_equal(one, other)
    assert clone.train_on_batch(x, y) == model.train_on_batch(x, y)
    assert clone.optimizer is not model.optimizer and clone.optimizer.iterations == 1

    seen = []

    def smaller(layer):
        seen.append(layer)
        if layer.name == "shared":
            return layers.Dense(5, use_bias=False, name="changed")
        return layer

    inputs = [Input((9, 3), name="long"), Input((4, 3))]
    clone = models.clone_model(model, inputs, smaller)
    assert sorted(map(id, seen)) == sorted(map(id, model.layers[2:]))
    assert clone.input_shape == [(None, 9, 3), (None, 4, 3)] and clone.inputs == inputs
    assert clone.get_layer("words") is model.get_layer("words")
    assert len(clone.get_layer("changed").weights) == 1
    for wrong in (inputs[:1], [inputs[0], x[1]], x[0]):
        with pytest.raises(ValueError, match="input_tensors: expected"):
            models.clone_model(model, wrong)
    with pytest.raises(ValueError, match="clone_function: expected it to return a layer"):
        models.clone_model(model, clone_function=lambda layer: None)


def test_clones_of_models_in_models():
    inner, inputs = of_dicts(), {"first": Input((6, 3), name="a"), "second": Input((2,), name="b")}
    stack = Sequential([layers.Dense(3), layers.Dense(2)])
    model = Model(inputs, stack(inner(inputs)["up"]))
    clone = models.clone_model(model)
    assert not {*inner.weights, *stack.weights} & {*clone.weights} and [*clone.input] == [*inputs]
    assert [w.shape for w in clone.weights] == [w.shape for w in model.weights]
    met = []
    models.clone_model(model, clone_function=lambda layer: met.append(layer) or layer)
    assert {*met} == {inner, stack}
    clone = models.clone_model(
        model, clone_function=lambda layer: met.append(layer) or layer, recursive=True
    )
    assert {*met} >= {inner.get_layer("one"), *stack.layers} and not {inner, stack} & {*met[2:]}
    assert {*clone.weights} == {*model.weights} and inner not in clone.layers

    def dropping(layer, *args, **kwargs):
        output = layer(*args, **kwargs)
        return layers.Dropout(0.5)(output) if layer is stack else output

    clone = models.clone_model(model, None, lambda layer: layer, dropping)
    assert isinstance(clone.layers[-1], layers.Dropout) and stack in clone.layers
    with pytest.raises(ValueError, match="call_function: expected None for .* a chain"):
        models.clone_model(stack, call_function=dropping)


def test_clones_of_chains_with_a_call_function():
    def dropping(layer, *args, **kwargs):
        output = layer(*args, **kwargs)
        return layers.Dropout(0.5)(output) if isinstance(layer, layers.Dense) else output

    start = Input((3,), name="start")
    model = Model(start, layers.Dense(4)(layers.Dense(2)(start)))
    options = {"clone_function": lambda layer: layer, "call_function": dropping}
    clone = models.clone_model(model, **options)
    kinds = [type(layer).__name__ for layer in clone.layers]
    assert kinds == ["Dense", "Dropout", "Dense", "Dropout"]
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(clone.predict(x, verbose=0), model.predict(x, verbose=0))
    other = Input((3,), name="other")
    assert models.clone_model(model, other, **options).input is other
    with pytest.raises(ValueError, match="input_tensors: expected 1, received 2"):
        models.clone_model(model, [other, start], **options)
    deeper = Model(other, layers.ReLU()(model(other)))
    (inner,) = [
        layer
        for layer in models.clone_model(deeper, **options, recursive=True).layers
        if isinstance(layer, Model)
    ]
    assert len(inner.layers) == 4
    with pytest.raises(ValueError, match="call_function: expected None for .* a chain"):
        models.clone_model(Sequential([start, layers.Dense(2)]), **options)


@pytest.mark.parametrize(
    "loss", [["mse", ["mae"]], [["mse"], "mae"], {"one": ("mse",), "two": ["mae"]}]
)
def test_losses_in_lists_of_their_own(loss):
    start = Input((3,))
    model = Model(start, [layers.Dense(2, name="one")(start), layers.Dense(2, name="two")(start)])
    x, y = np.ones((4, 3), np.float32), np.full((4, 2), 3, np.float32)
    model.compile("sgd", ["mse", "mae"])
    expected = model.evaluate(x, [y, y], verbose=0)
    model.compile("sgd", loss)
    assert model.evaluate(x, [y, y], verbose=0) == expected


@pytest.mark.parametrize("loss", ["mse", ["mse"], [["mse"]], {"one": ["mse"]}])
@pytest.mark.parametrize("listed", [False, True])
def test_the_one_loss_in_lists(loss, listed):
    start = Input((3,))
    one = layers.Dense(2, name="one", kernel_initializer="zeros")(start)
    model = Model(start, [one] if listed else one)
    model.compile("sgd", loss)
    assert model.evaluate(np.ones((4, 3)), np.full((4, 2), 3), verbose=0) == 9


def test_structures_come_back_from_configs():
    start = Input((3,), name="start")
    one, two = layers.Dense(2)(start), layers.Dense(4)(start)
    x = np.ones((2, 3), np.float32)

    def kinds(part):
        listed = isinstance(part, (list, tuple))
        return (type(part), [*map(kinds, part)]) if listed else part.shape

    for outputs in ([one, two], (one, two), [one, (two, one)], ([one], two)):
        model = Model(start, outputs)
        again = Model.from_config(model.get_config())
        assert kinds(again(x)) == kinds(model(x))
    model = Model([[start]], layers.ReLU()(two))
    again = models.model_from_json(model.to_json())
    assert again.to_json() == model.to_json() and again([[x]]).shape == (2, 4)


def test_models_without_inputs_have_no_tensors():
    model = Sequential()
    assert not any(hasattr(model, name) for name in ("input", "output", "inputs", "outputs"))
    model.add(layers.Dense(2))
    with pytest.raises(AttributeError, match="no inputs and outputs before it has an Input"):
        model.output  # noqa: B018
    model.build((None, 3))
    assert model.output.shape == (None, 2) and model.inputs == [model.input]


def test_clones_are_compiled():
    model = models.Sequential([layers.Input((3,)), layers.Dense(2)])
    for many in (False, True):
        if many:
            x = Input((3,))
            model = Model(x, [layers.Dense(2, name="a")(x), layers.Dense(1, name="b")(x)])
        model.compile("adam", "mse", metrics=[["mae"], ["mse"]] if many else ["mae"])
        clone = models.clone_model(model)
        assert clone.metrics_names == model.metrics_names and clone.optimizer.name == "adam"
        model.compile("adam", ["mse", lambda y, p: (y - p) ** 2] if many else (lambda y, p: y - p))
        assert not models.clone_model(model).compiled  # a lambda cannot be made again


def test_model_from_config():
    model = models.Sequential([layers.Input((5, 3)), layers.LSTM(4), layers.Dense(2)])
    again = models.Model.from_config(model.get_config())
    assert [type(layer) for layer in again.layers] == [layers.LSTM, layers.Dense]
    assert again.output_shape == (None, 2)


# --- files of graphs ------------------------------------------------------------------------------


def translator():
    """Two inputs, a shared layer, states that start a decoder, attention, two outputs."""
    source, target = Input((6, 3), name="source"), Input((4, 3), name="target")
    shared = layers.Dense(5, activation="tanh", name="shared")
    encoded, h, c = layers.LSTM(5, return_sequences=True, return_state=True)(shared(source))
    decoded = layers.LSTM(5, return_sequences=True)(shared(target), initial_state=[h, c])
    found = layers.Attention()([decoded, encoded], use_causal_mask=True)
    found = layers.MultiHeadAttention(2, 3)(found, encoded, key=encoded, use_causal_mask=True)
    words = layers.Dense(7, activation="softmax", name="words")
    joined = layers.Concatenate()([decoded, found])
    pooled = layers.GlobalMaxPooling1D()(joined)
    model = Model([source, target], [words(joined), layers.Dense(1, name="score")(pooled)])
    model.compile(
        "adam",
        {"words": "sparse_categorical_crossentropy", "score": "mse"},
        loss_weights={"score": 0.25},
        metrics={"words": ["accuracy"]},
    )
    return model


def translations(count=8):
    rng = np.random.default_rng(5)
    x = [rng.normal(size=(count, n, 3)).astype(np.float32) for n in (6, 4)]
    return x, [rng.integers(0, 7, (count, 4)), rng.normal(size=(count, 1)).astype(np.float32)]


def test_dicts_and_lists_of_arrays():
    model, (x, y) = translator(), translations()
    by_name = {"target": x[1], "source": x[0]}
    for one, other in zip(model.predict(x), model.predict(by_name), strict=True):
        np.testing.assert_array_equal(one, other)
    results = model.evaluate(by_name, {"score": y[1], "words": y[0]}, return_dict=True, verbose=0)
    assert [*results] == ["loss", "words_loss", "score_loss", "words_accuracy"]
    assert results["loss"] == pytest.approx(results["words_loss"] + 0.25 * results["score_loss"])
    history = model.fit(x, y, epochs=40, batch_size=2, validation_split=0.25, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0] and "val_score_loss" in history
    batches = [(([a, b]), [c, d]) for a, b, c, d in zip(*x, *y, strict=True)]
    batches = [([p[None] for p in x], [p[None] for p in y]) for x, y in batches]
    model.fit(iter(batches), verbose=0)
    with pytest.raises(ValueError, match=r"x: expected a list of 2 arrays, .*'source', 'target'"):
        model.fit(x[0], y)
    with pytest.raises(
        ValueError, match=r"x: expected a dict with keys of .* received \['nothing'"
    ):
        model.predict({"nothing": x[0]})
    with pytest.raises(ValueError, match="output 'words': y: expected class numbers"):
        model.fit(x, y[::-1])
    with pytest.raises(ValueError, match="class_weight: expected None for a model of several"):
        model.fit(x, y, class_weight={0: 1.0})


def test_several_inputs_and_one_output():
    one, two = Input((6, 3), name="one"), Input((2,), name="two")
    x = layers.concatenate([layers.LSTM(4)(one), two])
    model = Model([one, two], layers.Dense(2)(x))
    model.compile("adam", "mse")
    rng = np.random.default_rng(3)
    x = [rng.normal(size=shape).astype(np.float32) for shape in ((9, 6, 3), (9, 2))]
    history = model.fit(x, np.ones((9, 2)), epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert model.train_on_batch({"one": x[0], "two": x[1]}, np.ones((9, 2))) < history[0]
    with pytest.raises(ValueError, match=r"y: expected shape \(9, 2\) as the outputs"):
        model.evaluate(x, np.ones((9, 3)))


@pytest.mark.parametrize("ending", [".keras", ".h5", "pickle", "json", "clone"])
def test_graphs_come_back(tmp_path, ending):
    model, (x, y) = translator(), translations()
    model.fit(x, y, verbose=0)
    if ending == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif ending in ("json", "clone"):
        again = model.from_config(model.get_config())
        if ending == "json":
            again = models.model_from_json(model.to_json())
        again.set_weights(model.get_weights())
    else:
        model.save(tmp_path / f"model{ending}")
        again = models.load_model(tmp_path / f"model{ending}")
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    for one, other in zip(again.predict(x), model.predict(x), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    if ending not in ("json", "clone"):
        assert again.train_on_batch(x, y) == pytest.approx(model.train_on_batch(x, y), rel=1e-5)
        for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_outputs_that_are_one_array_where_nothing_is_masked():
    start = Input((None, 2))
    zeros, twos = layers.Masking()(start), layers.Masking(2.0)(start)
    model = Model(start, [twos, zeros, start])
    x = np.array([[[2, 2], [1, 2], [0, 0]]], np.float32)
    for y, expected in zip(model.predict(x), (x * [[[0], [1], [1]]], x, x), strict=True):
        np.testing.assert_array_equal(y, expected)


def test_layers_above_directions_that_are_apart():
    """Each takes what one of them gives as an array of its own."""
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    start = Input((None, 2))
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode=None)
    for top in (
        layers.Dense(2),
        layers.TimeDistributed(layers.Dense(2)),
        layers.BatchNormalization(),
        layers.MultiHeadAttention(1, 2),
    ):
        forward, backward = both(start)
        heads = isinstance(top, layers.MultiHeadAttention)
        model = Model(start, top(backward, forward) if heads else top(backward))
        whole, alone = model(x), Model(start, [forward, backward])(x)
        parts = alone[::-1] if heads else alone[1:]
        np.testing.assert_allclose(whole, top(*parts), atol=1e-6)
        model.compile("sgd", "mse")
        assert np.isfinite(model.train_on_batch(x, np.zeros_like(whole)))


def test_calls_of_models_are_counted_as_keras_does(tmp_path):
    """From 1 on where they give outputs, as each model has a call of its own before."""
    inner_x, x = Input((3,)), Input((3,))
    inner = Model(inner_x, layers.add([inner_x, layers.Dense(3)(inner_x)]), name="inner")
    first = inner(x)
    model = Model(x, [inner(layers.Dense(3)(first)), first])
    assert model.get_config()["output_layers"] == [["inner", 2, 0], ["inner", 1, 0]]
    given = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected = model.predict(given, verbose=0)
    model.save(tmp_path / "model.keras")
    clone = fastrnn.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for again in (fastrnn.models.load_model(tmp_path / "model.keras"), clone):
        for one, other in zip(again.predict(given, verbose=0), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_other_formats_cannot_hold(tmp_path):
    x = layers.Input((8, 3))
    with pytest.raises(ValueError, match="layer 'window': Conv1D"):
        fastrnn.to_c(
            Model(x, layers.add([x, layers.Conv1D(3, 1, name="window")(x)])), tmp_path / "file"
        )


def test_predictors_of_several_inputs():
    model, (x, _) = translator(), translations(3)
    predict = model.compile_inference()
    for count in (1, 3, 1):
        given = [part[:count] for part in x]
        for one, other in zip(predict(given), model(given), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    for one, other in zip(predict({"target": x[1], "source": x[0]}), predict(x), strict=True):
        np.testing.assert_array_equal(one, other)
    before = predict(x)[0]
    model.set_weights([weight * 0.5 for weight in model.get_weights()])
    assert np.abs(predict(x)[0] - before).max() > 1e-3
    with pytest.raises(ValueError, match="x: expected a list of 2 arrays"):
        predict(x[0])
    with pytest.raises(ValueError, match="input 'target' .* expected shape"):
        predict([x[0], x[0]])
    with pytest.raises(ValueError, match="stream: layer 'lstm.*: begins with states"):
        model.stream()


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_several_inputs_and_one_output_are_trained(loss):
    x, y = np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 4], np.array([1, 3, 0, 2] * 4)
    inputs = [Input((4,)), Input((4,))]
    outputs = layers.Dense(4, activation="softmax")(layers.Concatenate()(inputs))
    model = Model(inputs, outputs)
    model.compile("adam", loss)
    y = y if loss.startswith("sparse") else np.eye(4)[y]
    losses = model.fit([x, -x], y, batch_size=8, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.evaluate([x, -x], y, verbose=0) < losses[-1]
    with pytest.raises(ValueError, match=r"y: expected .*shape \(16, *(4)?\)"):
        model.fit([x, -x], y[:, None, None], verbose=0)


def test_models_of_several_inputs_within_models():
    inner, (x, _) = translator(), translations(4)
    inputs = [Input((6, 3)), Input((4, 3))]
    words, score = inner(inputs)
    outer = Model(inputs, layers.Concatenate()([layers.Flatten()(words), score]))
    words, score = inner(x)
    found = outer.predict(x, verbose=0)
    np.testing.assert_allclose(found, np.hstack([words.reshape(4, -1), score]), atol=1e-6)
    outer.compile("sgd", "mse")
    before = inner.get_weights()
    outer.fit(x, np.zeros_like(found), verbose=0)
    changed = [(w != v).any() for w, v in zip(before, inner.get_weights(), strict=True)]
    assert sum(changed) > 0.8 * len(changed)  # not the biases of keys, which softmax ignores
    again = Model.from_config(outer.get_config())
    again.set_weights(outer.get_weights())
    np.testing.assert_allclose(again.predict(x, verbose=0), outer.predict(x, verbose=0), atol=1e-6)


# --- dicts ----------------------------------------------------------------------------------------


def of_dicts(library=fastrnn):
    made = library.layers
    first, second = library.Input((6, 3), name="first"), library.Input((2,), name="second")
    x = made.Concatenate()([made.LSTM(4)(first), second])
    outputs = {"up": made.Dense(2, name="one")(x), "down": made.Dense(1, name="other")(x)}
    return library.Model({"second": second, "first": first}, outputs)


def dicts(count=8):
    rng = np.random.default_rng(3)
    x = {"first": rng.normal(size=(count, 6, 3)), "second": rng.normal(size=(count, 2))}
    return x, {"up": rng.normal(size=(count, 2)), "down": rng.normal(size=(count, 1))}


def test_models_of_dicts():
    model, (x, y) = of_dicts(), dicts()
    assert [*model.input] == ["second", "first"] and [*model.output] == ["up", "down"]
    assert [tensor.name for tensor in model.inputs] == ["first", "second"]
    assert model.output_names == ["other", "one"] and model.output_shape == [(None, 1), (None, 2)]
    shapes = model.compute_output_shape({"first": (8, 6, 3), "second": (8, 2)})
    assert shapes == {"up": (8, 2), "down": (8, 1)}
    twin = Model(model.inputs, model.outputs)
    other, one = twin.predict([x["first"], x["second"]], verbose=0)
    compiled = model.compile_inference()
    listed = [x["first"], x["second"]]
    for found in (
        model(x), model.predict(x, verbose=0), model.predict_on_batch(x), compiled(x),
        model.predict(x, batch_size=3, verbose=0), model(listed), compiled(listed),
    ):  # fmt: skip
        assert [*found] == ["up", "down"]
        np.testing.assert_allclose(found["up"], one, atol=1e-6)
        np.testing.assert_allclose(found["down"], other, atol=1e-6)
    options = {"loss_weights": {"up": 0.5, "down": 2.0}, "metrics": {"up": ["mae", "mse"]}}
    model.compile("sgd", {"up": "mse", "down": "mae"}, **options)
    names = ["loss", "up_loss", "down_loss", "up_mae", "up_mse"]
    weight = {"up": np.linspace(0, 1, 8), "down": np.ones(8)}
    results = model.evaluate(x, y, sample_weight=weight, return_dict=True, verbose=0)
    assert [*results] == names and model.metrics_names == names
    history = model.fit(x, y, epochs=30, validation_split=0.25, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] and "val_up_mse" in history
    loss = model.evaluate(x, y, verbose=0)[0]
    assert model.evaluate(x, [y["down"], y["up"]], verbose=0)[0] == pytest.approx(loss)
    batches = [({k: v[i : i + 4] for k, v in x.items()},
                {k: v[i : i + 4] for k, v in y.items()}) for i in (0, 4)]  # fmt: skip
    assert model.evaluate(iter(batches), verbose=0)[0] == pytest.approx(loss, rel=1e-5)
    with pytest.raises(ValueError, match=r"loss: expected a dict with keys of \['down', 'up'\]"):
        model.compile("sgd", {"one": "mse", "other": "mae"})
    with pytest.raises(ValueError, match=r"x: expected arrays for .* received none for \['first"):
        model.predict({"second": x["second"]})
    with pytest.raises(ValueError, match="y: expected targets for output 'up', received None"):
        model.fit(x, {"down": y["down"]})


def test_one_output_by_name():
    x = Input((3,), name="x")
    model = Model({"x": x}, {"a": layers.Dense(1)(x)})
    given = np.ones((4, 3))
    for found in (model.predict(given, verbose=0), model({"x": given}), model([given])):
        assert [*found] == ["a"] and found["a"].shape == (4, 1)
    for loss, metrics in (("mse", ["mae"]), ({"a": "mse"}, {"a": ["mae"]})):
        model.compile("sgd", loss, metrics=metrics)
        for target in (np.ones((4, 1)), {"a": np.ones((4, 1))}, [np.ones((4, 1))]):
            assert [*model.evaluate(given, target, return_dict=True, verbose=0)] == ["loss", "mae"]


@pytest.mark.parametrize("ending", [".keras", ".h5", "pickle", "json", "inner"])
def test_models_of_dicts_come_back(tmp_path, ending):
    model, (x, y) = of_dicts(), dicts()
    model.compile("sgd", {"up": "mse", "down": "mae"}, metrics={"up": ["mae"]})
    model.fit(x, y, verbose=0)
    if ending == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif ending == "json":
        again = models.model_from_json(model.to_json())
        again.set_weights(model.get_weights())
    elif ending == "inner":
        first, second = Input((6, 3)), Input((2,))
        found = model({"first": first, "second": second})
        assert [*found] == ["up", "down"] and found["up"].shape == (None, 2)
        outer = Model({"first": first, "second": second}, found)
        again = Model.from_config(outer.get_config())
        again.set_weights(model.get_weights())
    else:
        model.save(tmp_path / f"model{ending}")
        again = models.load_model(tmp_path / f"model{ending}")
    found, expected = again.predict(x, verbose=0), model.predict(x, verbose=0)
    assert [*found] == [*expected] == ["up", "down"]
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    if ending not in ("json", "inner"):
        results = [m.evaluate(x, y, return_dict=True, verbose=0) for m in (again, model)]
        assert [*results[0]] == [*results[1]] and results[0]["loss"] == results[1]["loss"]


def test_structures_within_each_other():
    x = Input((3,), name="x")
    one, two, three = (layers.Dense(n, name=f"d{n}")(x) for n in (1, 2, 3))
    model, given = Model(x, {"q": three, "p": [one, two]}), np.ones((4, 3))
    found = model.predict(given, verbose=0)
    assert [*found] == ["q", "p"] and [part.shape for part in found["p"]] == [(4, 1), (4, 2)]
    model.compile(
        "sgd", {"q": "mse", "p": ["mse", "mae"]}, metrics={"q": "mae", "p": ["mae", None]}
    )
    results = model.evaluate(given, found, return_dict=True, verbose=0)
    names = ["loss", "p/d1_loss", "p/d2_loss", "q_loss", "d1_mae", "d3_mae"]
    assert [*results] == names and results["loss"] == pytest.approx(0, abs=1e-6)
    again = Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict(given, verbose=0)["p"][1], found["p"][1])
    pair = Model(x, (one, two)).predict(given, verbose=0)
    assert isinstance(pair, tuple) and len(pair) == 2
    both = [Input((1,), name="a"), {"c": Input((2,), name="c"), "b": Input((3,), name="b")}]
    joined = Model(both, layers.Concatenate()([both[0], both[1]["b"], both[1]["c"]]))
    parts = [np.full((2, n), n) for n in (1, 2, 3)]
    y = joined.predict([parts[0], {"b": parts[2], "c": parts[1]}], verbose=0)
    np.testing.assert_array_equal(y[0], [1, 3, 3, 3, 2, 2])


def test_a_shared_embedding_below_a_shared_lstm_is_trained(rng):
    """Its gradients by central differences: each call has a pass of its own."""
    left, right = Input((5,)), Input((5,))
    embedding, lstm = layers.Embedding(7, 3), layers.LSTM(2)
    model = Model([left, right], layers.Subtract()([lstm(embedding(x)) for x in (left, right)]))
    x = [rng.integers(0, 7, (4, 5)).astype(np.int32) for _ in range(2)]
    y = rng.standard_normal((4, 2)).astype(np.float32)
    model.compile("sgd", "mse")
    _, gradients, _ = fastrnn.training.loss_and_gradients(model, x, y)
    weight, gradient = embedding.embeddings, gradients[0]
    for place in ((0, 0), (3, 1), (6, 2)):
        losses = []
        for move in (1e-2, -2e-2):
            value = weight.numpy()
            value[place] += move
            weight.assign(value)
            losses.append(float(np.mean((model.predict(x, verbose=0) - y) ** 2)))
        value[place] += 1e-2
        weight.assign(value)
        np.testing.assert_allclose(gradient[place], (losses[0] - losses[1]) / 2e-2, atol=2e-3)


def test_dropout_that_is_always_in_training():
    x = Input((50, 3))
    y = layers.LSTM(8, dropout=0.5, return_sequences=True)(x, training=True)
    y = layers.Dropout(0.5)(layers.Dropout(0.5)(y), training=True)
    model, given = Model(x, layers.Dense(1)(y)), np.ones((2, 50, 3), np.float32)
    for predict in (model.compile_inference(), model.predict_on_batch, model):
        one, two = np.array(predict(given)), np.array(predict(given))
        assert np.abs(one - two).max() > 1e-3
    y = layers.Dropout(0.5)(layers.Dropout(0.5)(x), training=True)
    zeros = np.mean(Model(x, y).predict(np.ones((64, 50, 3)), verbose=0) == 0)
    assert 0.44 < zeros < 0.56  # one of both drops


def test_statistics_that_stay():
    x = Input((4,))
    y = layers.BatchNormalization(name="still")(x, training=False)
    y = layers.BatchNormalization(name="moving")(y)
    model = Model(x, y)
    model.compile("sgd", "mse")
    model.fit(np.random.default_rng(0).normal(3, 1, (32, 4)), np.zeros((32, 4)), verbose=0)
    assert not model.get_layer("still").moving_mean.numpy().any()
    assert model.get_layer("moving").moving_mean.numpy().all()


def test_outputs_of_layers_that_were_in_other_models_too():
    x = np.ones((2, 5, 3), np.float32)
    model = Sequential([layers.Input((5, 3)), layers.GRU(4), layers.Dense(3), layers.Dense(2)])
    first, second, _ = model.layers
    for _ in range(2):  # the first part is gone when the second is made
        part = Model(model.inputs, first.output)
        assert part.predict(x, verbose=0).shape == (2, 4)
        del part
        gc.collect()
    part = Model(model.inputs, first.output)
    both = Model(model.inputs, [first.output, second.output])
    assert [y.shape for y in both.predict(x, verbose=0)] == [(2, 4), (2, 3)]
    del model, part, both
    gc.collect()
    with pytest.raises(AttributeError, match="it is in no model"):
        _ = second.output


def test_masks_of_symbolic_outputs():
    words = layers.Input((None,), dtype="int32")
    embedded = layers.Embedding(9, 4, mask_zero=True)(words)
    steps = layers.Input((None, 2))
    masked = layers.Masking()(steps)
    above = layers.LSTM(3, return_sequences=True)(masked)
    for output in (embedded, layers.Dense(3)(embedded), masked, above):
        assert output._keras_mask.shape == (None, None)
    pooled = layers.GlobalAveragePooling1D()(above)
    for output in (words, pooled, layers.GRU(2)(above)):
        assert getattr(output, "_keras_mask", None) is None
    with pytest.raises(TypeError, match="is found as arrays pass through it"):
        _ = layers.Add()([above, above])._keras_mask
    model = models.Model([words, steps], [embedded._keras_mask, above._keras_mask])
    one, other = model.predict(
        [np.array([[1, 2, 0]]), np.array([[[0, 1], [0, 0]]], np.float32)], verbose=0
    )
    assert one.tolist() == [[1, 1, 0]] and other.tolist() == [[1, 0]]


def test_masks_that_calls_are_given():
    x, flags = Input((6, 3)), Input((6,))
    lstm = layers.LSTM(4)
    model = Model([x, flags], [lstm(x, mask=flags > 0), lstm(layers.Masking()(x), mask=flags)])
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(5, 6, 3)).astype(np.float32), rng.integers(0, 2, (5, 6))]
    given[0][:, 2] = 0
    expected = lstm(given[0], mask=given[1] > 0)
    for y in (*model.predict(given, verbose=0), *model.compile_inference()(given)):
        np.testing.assert_allclose(y, expected, atol=1e-6)
    for mask, message in (
        (np.ones((5, 6)), "mask: expected an output of a layer with the first axes of"),
        (Input((5,)), "with the first axes of .None, 6, 3."),
        ([flags, flags], "mask: expected at most 1 for layer"),
    ):
        with pytest.raises(ValueError, match=message):
            lstm(x, mask=mask)
    with pytest.raises(ValueError, match="training: expected True, False or None"):
        lstm(x, training="yes")


def test_modes_come_back(tmp_path):
    x = Input((4,))
    y = layers.BatchNormalization()(layers.Dropout(0.5)(x, training=True), training=False)
    model = Model(x, y)
    model.save(tmp_path / "m.keras")
    for again in (models.load_model(tmp_path / "m.keras"), models.clone_model(model)):
        modes = [call.training for call in again.graph.calls]
        assert modes == [True, False]
    config = model.get_config()
    kwargs = config["layers"][2]["inbound_nodes"][0]["kwargs"]
    assert kwargs == {"training": 0}
    kwargs["training"] = False  # as Keras 3 has it where nothing was said
    assert Model.from_config(config).graph.calls[1].training is None
