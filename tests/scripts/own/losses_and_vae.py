import numpy as np
from shown import show, start

import keras
import tensorflow as tf
from keras import layers, ops


class Activity(layers.Layer):
    def __init__(self, rate=1e-2):
        super().__init__()
        self.rate = rate

    def call(self, inputs):
        self.add_loss(self.rate * ops.mean(inputs))
        return inputs


class Outer(layers.Layer):
    def __init__(self):
        super().__init__()
        self.act = Activity(1e-2)
        self.dense = layers.Dense(4, kernel_regularizer=keras.regularizers.L2(1e-3))

    def call(self, inputs):
        return self.act(self.dense(inputs))


x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
layer = Outer()
print("=", "before", len(layer.losses))
layer(tf.zeros((1, 5)))
print("=", "after", len(layer.losses))
start(layer)
layer(x)
show("losses", [float(v) for v in layer.losses])
layer(x)
print("=", "after", len(layer.losses))

inputs = keras.Input((5,))
h = Outer()(inputs)
model = keras.Model(inputs, layers.Dense(1)(h))
start(model)
model.compile("sgd", "mse", metrics=["mae"])
show("hist", model.fit(x, x[:, :1], epochs=3, batch_size=4, shuffle=False, verbose=0).history)
show("eval", model.evaluate(x, x[:, :1], verbose=0))
show("w", model.get_weights())
# only losses
inputs = keras.Input((5,))
model = keras.Model(inputs, Outer()(inputs))
start(model)
model.compile("sgd")
show("hist", model.fit(x, epochs=3, batch_size=4, shuffle=False, verbose=0).history)
show("w", model.get_weights())


class Sampling(layers.Layer):
    def call(self, inputs):
        mean, log_var = inputs
        noise = ops.cos(37.0 * mean)
        return mean + ops.exp(0.5 * log_var) * noise


class Encoder(layers.Layer):
    def __init__(self, latent=3, hidden=6, name="encoder", **kwargs):
        super().__init__(name=name, **kwargs)
        self.proj = layers.Dense(hidden, activation="relu")
        self.mean = layers.Dense(latent)
        self.log_var = layers.Dense(latent)
        self.sampling = Sampling()

    def call(self, inputs):
        x = self.proj(inputs)
        mean, log_var = self.mean(x), self.log_var(x)
        return mean, log_var, self.sampling((mean, log_var))


class Decoder(layers.Layer):
    def __init__(self, original, hidden=6, name="decoder", **kwargs):
        super().__init__(name=name, **kwargs)
        self.proj = layers.Dense(hidden, activation="relu")
        self.out = layers.Dense(original, activation="sigmoid")

    def call(self, inputs):
        return self.out(self.proj(inputs))


class VAE(keras.Model):
    def __init__(self, original, hidden=6, latent=3, name="vae", **kwargs):
        super().__init__(name=name, **kwargs)
        self.original = original
        self.encoder = Encoder(latent=latent, hidden=hidden)
        self.decoder = Decoder(original, hidden=hidden)

    def call(self, inputs):
        mean, log_var, z = self.encoder(inputs)
        reconstructed = self.decoder(z)
        kl = -0.5 * ops.mean(log_var - ops.square(mean) - ops.exp(log_var) + 1)
        self.add_loss(kl)
        return reconstructed


data = np.random.default_rng(3).uniform(size=(20, 5)).astype("float32")
vae = VAE(5)
vae(data[:2])
start(vae)
print("=", "n", len(vae.weights), len(vae.losses))
optimizer = keras.optimizers.SGD(learning_rate=0.1)
mse = keras.losses.MeanSquaredError()
metric = keras.metrics.Mean()
for epoch in range(2):
    for step in range(5):
        batch = data[4 * step : 4 * step + 4]
        with tf.GradientTape() as tape:
            out = vae(batch)
            loss = mse(batch, out)
            loss += sum(vae.losses)
        grads = tape.gradient(loss, vae.trainable_weights)
        optimizer.apply_gradients(zip(grads, vae.trainable_weights))
        metric(loss)
        show("loss", float(loss))
    show("mean", float(metric.result()))
show("w", vae.get_weights())
vae = VAE(5)
vae.compile(keras.optimizers.SGD(learning_rate=0.1), loss=keras.losses.MeanSquaredError())
vae(data[:2])
start(vae)
show("hist", vae.fit(data, data, epochs=3, batch_size=8, shuffle=False, verbose=0).history)
show("w", vae.get_weights())
show("eval", vae.evaluate(data, data, verbose=0))
show("pred", vae.predict(data, verbose=0))
vae.summary()
