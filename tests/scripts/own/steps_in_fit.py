import numpy as np
from shown import show, start

import keras
import tensorflow as tf
from keras import layers

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 1)).astype("float32")
C = np.random.default_rng(2).integers(0, 3, (16,))
SW = np.random.default_rng(4).uniform(0.5, 2, (16,)).astype("float32")


def build(cls, out=1, activation=None):
    inputs = keras.Input(shape=(6,))
    x = layers.Dense(5, activation="tanh")(inputs)
    outputs = layers.Dense(out, activation=activation)(x)
    model = cls(inputs, outputs)
    start(model)
    return model


class One(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        trainable_vars = self.trainable_variables
        gradients = tape.gradient(loss, trainable_vars)
        self.optimizer.apply(gradients, trainable_vars)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


model = build(One)
model.compile(optimizer="adam", loss="mse", metrics=["mae"])
show("one", model.fit(X, Y, epochs=3, batch_size=4, shuffle=False, verbose=0).history)
show("w", model.get_weights())


class Two(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.mae_metric = keras.metrics.MeanAbsoluteError(name="mae")
        self.loss_fn = keras.losses.MeanSquaredError()

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.loss_fn(y, y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.loss_tracker.update_state(loss)
        self.mae_metric.update_state(y, y_pred)
        return {"loss": self.loss_tracker.result(), "mae": self.mae_metric.result()}

    @property
    def metrics(self):
        return [self.loss_tracker, self.mae_metric]


model = build(Two)
model.compile(optimizer="adam")
show("two", model.fit(X, Y, epochs=4, batch_size=5, shuffle=False, verbose=0).history)
show("w", model.get_weights())


class Three(keras.Model):
    def train_step(self, data):
        if len(data) == 3:
            x, y, sample_weight = data
        else:
            sample_weight = None
            x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred, sample_weight=sample_weight)
        trainable_vars = self.trainable_variables
        gradients = tape.gradient(loss, trainable_vars)
        self.optimizer.apply(gradients, trainable_vars)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred, sample_weight=sample_weight)
        return {m.name: m.result() for m in self.metrics}


model = build(Three)
model.compile(optimizer="adam", loss="mse", metrics=["mae"])
show("three", model.fit(X, Y, sample_weight=SW, epochs=3, batch_size=5, shuffle=False, verbose=0).history)
show("w", model.get_weights())
model = build(Three, 3, "softmax")
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"])
show("cw", model.fit(X, C, class_weight={0: 1.0, 1: 2.0, 2: 0.5}, epochs=3, batch_size=4, shuffle=False, verbose=0).history)
show("w", model.get_weights())


class Four(keras.Model):
    def test_step(self, data):
        x, y = data
        y_pred = self(x, training=False)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


model = build(Four)
model.compile(loss="mse", metrics=["mae"])
show("four", model.evaluate(X, Y, verbose=0, batch_size=5))
show("four", model.evaluate(X, Y, verbose=0, batch_size=5, return_dict=True))
show("four", model.fit(X, Y, validation_data=(X[:6], Y[:6]), epochs=2, batch_size=5, verbose=0, shuffle=False).history)


class GAN(keras.Model):
    def __init__(self, discriminator, generator, latent_dim):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.latent_dim = latent_dim
        self.d_loss_tracker = keras.metrics.Mean(name="d_loss")
        self.g_loss_tracker = keras.metrics.Mean(name="g_loss")
        self.built = True

    @property
    def metrics(self):
        return [self.d_loss_tracker, self.g_loss_tracker]

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn

    def train_step(self, real):
        if isinstance(real, tuple):
            real = real[0]
        batch_size = tf.shape(real)[0]
        noise = tf.cos(5.0 * real[:, : self.latent_dim])
        generated = self.generator(noise)
        combined = tf.concat([generated, real], axis=0)
        labels = tf.concat([tf.ones((batch_size, 1)), tf.zeros((batch_size, 1))], axis=0)
        with tf.GradientTape() as tape:
            predictions = self.discriminator(combined)
            d_loss = self.loss_fn(labels, predictions)
        grads = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(zip(grads, self.discriminator.trainable_weights))
        noise = tf.sin(5.0 * real[:, : self.latent_dim])
        misleading = tf.zeros((batch_size, 1))
        with tf.GradientTape() as tape:
            predictions = self.discriminator(self.generator(noise))
            g_loss = self.loss_fn(misleading, predictions)
        grads = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(grads, self.generator.trainable_weights))
        self.d_loss_tracker.update_state(d_loss)
        self.g_loss_tracker.update_state(g_loss)
        return {"d_loss": self.d_loss_tracker.result(), "g_loss": self.g_loss_tracker.result()}


d = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.LeakyReLU(negative_slope=0.2), layers.Dense(1)])
g = keras.Sequential([keras.Input((3,)), layers.Dense(8, activation="relu"), layers.Dense(6)])
start(d)
start(g, 2)
gan = GAN(discriminator=d, generator=g, latent_dim=3)
gan.compile(
    d_optimizer=keras.optimizers.Adam(learning_rate=0.003),
    g_optimizer=keras.optimizers.Adam(learning_rate=0.003),
    loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
)
show("gan", gan.fit(X, epochs=3, batch_size=4, shuffle=False, verbose=0).history)
show("w", d.get_weights())
show("w", g.get_weights())
