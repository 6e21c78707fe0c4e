import numpy as np
from shown import show, start

import keras
import tensorflow as tf
from keras import layers, ops


class Linear(layers.Layer):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True)
        self.b = self.add_weight(shape=(self.units,), initializer="random_normal", trainable=True)

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Eager(layers.Layer):
    def __init__(self, units=4, input_dim=3):
        super().__init__()
        self.w = self.add_weight(shape=(input_dim, units), initializer="random_normal", trainable=True)
        self.b = self.add_weight(shape=(units,), initializer="zeros", trainable=True)

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b


class Total(layers.Layer):
    def __init__(self, input_dim):
        super().__init__()
        self.total = self.add_weight(initializer="zeros", shape=(input_dim,), trainable=False)

    def call(self, inputs):
        self.total.assign_add(ops.sum(inputs, axis=0))
        return self.total


class Block(layers.Layer):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = Linear(5), Linear(4), Linear(1)

    def call(self, inputs):
        x = ops.relu(self.one(inputs))
        x = ops.relu(self.two(x))
        return self.three(x)


x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
layer = Eager()
start(layer)
show("eager", layer(x))
print("=", "names", *(w.name for w in layer.weights), len(layer.trainable_weights))
total = Total(3)
y = total(np.ones((2, 3), "float32"))
show("total", np.asarray(y))
y = total(np.ones((2, 3), "float32"))
show("total", np.asarray(y))
print("=", "n", len(total.weights), len(total.non_trainable_weights), len(total.trainable_weights))
lin = Linear(4)
y = lin(x)
start(lin)
show("lin", lin(x))
again = Linear.from_config(lin.get_config())
print("=", "config", again.units, again.name)
again.build((None, 3))
again.set_weights(lin.get_weights())
show("again", again(x))
block = Block()
block(tf.ones((3, 3)))
print("=", "block", len(block.weights), len(block.trainable_weights))
start(block)
show("block", block(x))
with tf.GradientTape() as tape:
    loss = tf.reduce_mean(tf.square(block(x)))
show("grads", [np.asarray(g) for g in tape.gradient(loss, block.trainable_weights)])
inputs = keras.Input((3,))
model = keras.Model(inputs, Linear(2)(Block()(inputs)))
start(model)
model.compile("sgd", "mse")
h = model.fit(x, x[:, :2], epochs=3, batch_size=2, shuffle=False, verbose=0)
show("hist", h.history["loss"])
show("w", model.get_weights())
model.summary()
seq = keras.Sequential([keras.Input((3,)), Linear(6, name="ll"), layers.ReLU(), Linear(1)])
start(seq)
seq.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
h = seq.fit(x, x[:, :1], epochs=3, batch_size=4, shuffle=False, verbose=0)
show("hist", h.history)
show("pred", seq.predict(x, verbose=0))
block.trainable = False
print("=", "frozen", len(block.trainable_weights), len(block.non_trainable_weights), lin.count_params())
