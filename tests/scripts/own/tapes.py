import numpy as np
from shown import show, start

import keras
import tensorflow as tf
from keras import layers, ops

X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
Z = np.random.default_rng(5).normal(size=(12, 6, 2)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 2)).astype("float32")
C = np.random.default_rng(1).integers(0, 3, size=(12,))


class Inner(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.a = layers.Dense(units, activation="relu")
        self.b = layers.Dense(units)

    def call(self, x):
        return self.b(self.a(x)) + 1

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.b.units)


# tape over a functional with own and list outputs
a = keras.Input((5,), name="a")
b = keras.Input((6, 2), name="b")
h = layers.Concatenate()([Inner(3)(a), layers.LSTM(3)(b)])
model = keras.Model([a, b], [layers.Dense(2)(h), layers.Dense(3)(h)])
start(model)
opt = keras.optimizers.SGD(0.1)
for step in range(3):
    with tf.GradientTape() as tape:
        u, v = model([tf.constant(X), tf.constant(Z)], training=True)
        loss = tf.reduce_mean(tf.square(u - Y)) + tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(C, v, from_logits=True))
    grads = tape.gradient(loss, model.trainable_variables)
    opt.apply_gradients(zip(grads, model.trainable_variables))
    show("tape", float(loss))
show("tape", model.get_weights())
# gradient with respect to inputs
x = tf.constant(X)
with tf.GradientTape() as tape:
    tape.watch(x)
    u, v = model([x, tf.constant(Z)])
    loss = tf.reduce_sum(u * u) + tf.reduce_sum(v)
show("dx", np.asarray(tape.gradient(loss, x)))
v1, v2 = tf.Variable(3.0), tf.Variable([1.0, 2.0])
with tf.GradientTape(persistent=True) as tape:
    y = v1 * v1 * v2
    z = tf.reduce_sum(y * y)
show("p", [np.asarray(t) for t in tape.gradient(z, [v1, v2])])
show("p", [np.asarray(t) for t in tape.gradient(y, [v1, v2])])
show("p", np.asarray(tape.gradient(z, y)))
show("p", {k: np.asarray(t) for k, t in tape.gradient(z, {"a": v1, "b": v2}).items()})
