import numpy as np
from shown import show, start

import keras
import tensorflow as tf
from keras import layers

X = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")
C = np.random.default_rng(2).integers(0, 3, (24,)).astype("int64")


class Reg(layers.Layer):
    def call(self, inputs):
        self.add_loss(1e-2 * tf.reduce_sum(inputs))
        return inputs


def make():
    inputs = keras.Input(shape=(6,), name="digits")
    x = layers.Dense(7, activation="relu", name="dense_1")(inputs)
    x = Reg()(x)
    x = layers.Dense(7, activation="relu", name="dense_2")(x)
    model = keras.Model(inputs=inputs, outputs=layers.Dense(3, name="predictions")(x))
    start(model)
    return model


model = make()
optimizer = keras.optimizers.Adam(learning_rate=1e-2)
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
train_acc = keras.metrics.SparseCategoricalAccuracy()
val_acc = keras.metrics.SparseCategoricalAccuracy()
train = tf.data.Dataset.from_tensor_slices((X[:16], C[:16])).batch(4)
val = tf.data.Dataset.from_tensor_slices((X[16:], C[16:])).batch(4)

for epoch in range(2):
    for step, (x, y) in enumerate(train):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            value = loss_fn(y, logits)
            value += sum(model.losses)
        grads = tape.gradient(value, model.trainable_weights)
        optimizer.apply(grads, model.trainable_weights)
        train_acc.update_state(y, logits)
        show("loss", float(value))
    show("acc", float(train_acc.result()))
    train_acc.reset_state()
    for x, y in val:
        val_acc.update_state(y, model(x, training=False))
    show("val", float(val_acc.result()))
    val_acc.reset_state()
show("w", model.get_weights())


@tf.function
def train_step(x, y):
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss_value = loss_fn(y, logits)
        loss_value += sum(model.losses)
    grads = tape.gradient(loss_value, model.trainable_weights)
    optimizer.apply(grads, model.trainable_weights)
    train_acc.update_state(y, logits)
    return loss_value


@tf.function(jit_compile=True)
def test_step(x, y):
    val_acc.update_state(y, model(x, training=False))


for epoch in range(2):
    for step, (x, y) in enumerate(train):
        value = train_step(x, y)
        show("loss", float(value))
    show("acc", float(train_acc.result()))
    train_acc.reset_state()
    for x, y in val:
        test_step(x, y)
    show("val", float(val_acc.result()))
    val_acc.reset_state()
show("w", model.get_weights())
print("=", "iterations", int(optimizer.iterations))

discriminator = keras.Sequential(
    [keras.Input(shape=(6,)), layers.Dense(8), layers.LeakyReLU(negative_slope=0.2), layers.Dense(1)],
    name="discriminator",
)
generator = keras.Sequential([keras.Input(shape=(3,)), layers.Dense(8), layers.LeakyReLU(negative_slope=0.2), layers.Dense(6)], name="generator")
start(discriminator, 5)
start(generator, 6)
d_optimizer = keras.optimizers.SGD(learning_rate=0.3)
g_optimizer = keras.optimizers.RMSprop(learning_rate=0.004, epsilon=1e-2)
bce = keras.losses.BinaryCrossentropy(from_logits=True)


@tf.function
def gan_step(real, noise):
    generated = generator(noise)
    combined = tf.concat([generated, real], axis=0)
    labels = tf.concat([tf.ones((noise.shape[0], 1)), tf.zeros((real.shape[0], 1))], axis=0)
    with tf.GradientTape() as tape:
        d_loss = bce(labels, discriminator(combined))
    grads = tape.gradient(d_loss, discriminator.trainable_weights)
    d_optimizer.apply(grads, discriminator.trainable_weights)
    with tf.GradientTape() as tape:
        g_loss = bce(tf.zeros((noise.shape[0], 1)), discriminator(generator(noise)))
    grads = tape.gradient(g_loss, generator.trainable_weights)
    g_optimizer.apply(grads, generator.trainable_weights)
    return d_loss, g_loss, generated


# two tapes at once, as in the DCGAN tutorial
def both(real, noise):
    with tf.GradientTape() as gen_tape, tf.GradientTape() as disc_tape:
        generated = generator(noise, training=True)
        real_output = discriminator(real, training=True)
        fake_output = discriminator(generated, training=True)
        gen_loss = bce(tf.ones_like(fake_output), fake_output)
        disc_loss = bce(tf.ones_like(real_output), real_output) + bce(tf.zeros_like(fake_output), fake_output)
    g_grads = gen_tape.gradient(gen_loss, generator.trainable_variables)
    d_grads = disc_tape.gradient(disc_loss, discriminator.trainable_variables)
    g_optimizer.apply_gradients(zip(g_grads, generator.trainable_variables))
    d_optimizer.apply_gradients(zip(d_grads, discriminator.trainable_variables))
    return gen_loss, disc_loss


for step in range(4):
    noise = tf.constant(np.cos(step + X[:4, :3] * 9))
    d_loss, g_loss, out = gan_step(X[4 * step : 4 * step + 4], noise)
    show("gan", [float(d_loss), float(g_loss)])
    show("out", np.asarray(out))
    a, b = both(tf.constant(X[4 * step : 4 * step + 4]), noise)
    show("both", [float(a), float(b)])
show("w", discriminator.get_weights())
show("w", generator.get_weights())
