"""A layer called twice in one pass: each call keeps its own, and the gradients add up."""

import numpy as np
import pytest

import fastrnn
from fastrnn import Input, Model, layers
from fastrnn.run import Run
from fastrnn.variable import Store

# name -> a layer whose output has the shape of its input (5, 4, 3)
LAYERS = {
    "dense": lambda: layers.Dense(3, activation="tanh"),
    "conv": lambda: layers.Conv1D(3, 2, padding="same", activation="sigmoid"),
    "conv2d": lambda: fastrnn.Sequential(
        [
            layers.Reshape((4, 3, 1)),
            layers.Conv2D(2, 2, padding="same", activation="sigmoid"),
            layers.Conv2D(1, 3, strides=(1, 1), padding="same"),
            layers.Reshape((4, 3)),
        ]
    ),
    "lstm": lambda: layers.LSTM(3, return_sequences=True),
    "gru": lambda: layers.GRU(3, return_sequences=True),
    "rnn": lambda: layers.SimpleRNN(3, return_sequences=True, activation="softsign"),
    "both ways": lambda: layers.Bidirectional(
        layers.LSTM(3, return_sequences=True), merge_mode="ave"
    ),
    "batch norm": lambda: layers.BatchNormalization(),
    "layer norm": lambda: layers.LayerNormalization(),
    "prelu": lambda: layers.PReLU(alpha_initializer=fastrnn.initializers.Constant(0.25)),
    "softmax": lambda: layers.Softmax(),
    "pool": lambda: layers.MaxPooling1D(3, strides=1, padding="same"),
    "each step": lambda: layers.TimeDistributed(layers.Dense(3)),
    "each step, batch norm": lambda: layers.TimeDistributed(layers.BatchNormalization()),
    "model": lambda: fastrnn.Sequential([layers.Dense(5), layers.LSTM(3, return_sequences=True)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_twice_against_finite_differences(name):
    rng = np.random.default_rng(3)
    layer = LAYERS[name]()
    layer.build((None, 4, 3))
    x, weight = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
    store = Store(layer.trainable_weights)
    for variable in store.variables:
        variable.assign(variable.value + rng.uniform(-0.2, 0.2, variable.shape))

    def loss():
        run = Run(training=True)
        y = layer.forward(x, run.of_call(layer, 0))
        return run, float(np.sum(layer.forward(y, run.of_call(layer, 1)) * weight, dtype=float))

    run, _ = loss()
    run.forget_gradients(set())
    dy = layer.backward(weight.copy(), run.of_call(layer, 1))
    run.add_gradients()
    dx = layer.backward(dy, run.of_call(layer, 0))
    run.add_gradients()
    gradients = [variable.gradient.copy() for variable in store.variables]

    def numerical(array, touch):
        wanted = np.empty(array.shape)
        for place in np.ndindex(array.shape):
            before, sums = array[place], []
            for step in (2e-3, -2e-3):
                array[place] = before + np.float32(step)
                touch()
                sums.append(loss()[1])
            array[place] = before
            wanted[place] = (sums[0] - sums[1]) / 4e-3
        touch()
        return wanted

    np.testing.assert_allclose(dx, numerical(x, lambda: None), rtol=2e-2, atol=4e-3)
    for variable, gradient in zip(store.variables, gradients, strict=True):
        wanted = numerical(variable.value, variable.touch)
        np.testing.assert_allclose(gradient, wanted, rtol=2e-2, atol=4e-3, err_msg=variable.path)


def test_looked_up_twice():
    layer = layers.Embedding(5, 2)
    layer.build()
    store = Store(layer.trainable_weights)
    run = Run(training=True)
    run.forget_gradients(set())
    wanted = np.zeros((5, 2))
    given = np.array([[[0, 1, 1]], [[1, 4, 0]]], np.int32)
    for number, index in enumerate(given):
        layer.forward(index, run.of_call(layer, number))
    for number, index in enumerate(given):
        dy = np.full((1, 3, 2), 1.0 + number, np.float32)
        layer.backward(dy, run.of_call(layer, number))
        run.add_gradients()
        np.add.at(wanted, index, dy)
    np.testing.assert_allclose(store.variables[0].gradient, wanted)


def test_weights_are_packed_once_for_all_calls():
    layer = layers.LSTM(3, return_sequences=True)
    layer.build((None, 4, 3))
    run = Run(training=True)
    assert layer.packed(run) is layer.packed(run.of_call(layer, 1))


@pytest.mark.parametrize("features", [4, 96])
@pytest.mark.parametrize("shared", ["both", "embedding", "recurrent layer"])
def test_vectors_that_only_recurrent_layers_see(shared, features):
    """An Embedding and what is above it, called twice: as where something is in between."""
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 9, (12, 6)) for _ in range(2)]
    y = rng.normal(size=(12, 1)).astype(np.float32)
    results = []
    for between in (False, True):
        one, other = Input((6,), name="one"), Input((6,), name="other")
        embedding = layers.Embedding(9, features, mask_zero=True)
        above = layers.Bidirectional(layers.LSTM(5))
        second = layers.Bidirectional(layers.LSTM(5)) if shared == "embedding" else above
        again = layers.Embedding(9, features) if shared == "recurrent layer" else embedding
        found = [embedding(one), again(other)]
        if between:
            found = [layers.Activation("linear")(vectors) for vectors in found]
        found = layers.Concatenate()([above(found[0]), second(found[1])])
        model = Model([one, other], layers.Dense(1)(found))
        weights = np.random.default_rng(1)
        model.set_weights([weights.normal(0, 0.3, w.shape) for w in model.weights])
        model.compile("sgd", "mse")
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        results.append([*model.get_weights(), model.predict(x, verbose=0)])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
