import numpy as np
from shown import show, start

import keras
import tensorflow as tf
from keras import layers, ops

X = np.random.default_rng(0).normal(size=(12, 7, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 2)).astype("float32")
IDS = np.random.default_rng(2).integers(0, 9, (12, 7))
IDS[:, 5:] = 0
IDS[2, 2:] = 0


class Losses(keras.Model):
    def __init__(self):
        super().__init__()
        self.d1 = layers.Dense(4, activation="tanh")
        self.d2 = layers.Dense(2)

    def call(self, x):
        return self.d2(self.d1(x[:, -1]))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = ops.mean(ops.square(y - y_pred)) + 0.01 * ops.sum(ops.abs(x[:, 0]))
        return loss + 0.1 * ops.sum(ops.square(self.d2.kernel))


class LossTrack(keras.Model):
    def __init__(self):
        super().__init__()
        self.d1 = layers.Dense(4, activation="tanh")
        self.d2 = layers.Dense(2)
        self.loss_tracker = keras.metrics.Mean(name="my_loss")

    def call(self, x, training=None):
        x = self.d1(x[:, -1])
        if training:
            x = x * 1.5
        return self.d2(x)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        loss = ops.mean(ops.square(y_pred - y))
        loss += ops.sum(self.losses) if self.losses else 0.0
        self.loss_tracker.update_state(loss)
        return loss

    def reset_metrics(self):
        super().reset_metrics()
        self.loss_tracker.reset_state()

    @property
    def metrics(self):
        return [self.loss_tracker]


class MyMetrics(keras.Model):
    def __init__(self):
        super().__init__()
        self.d2 = layers.Dense(2)

    def call(self, x):
        return self.d2(x[:, 0])

    def compute_metrics(self, x, y, y_pred, sample_weight):
        result = super().compute_metrics(x, y, y_pred, sample_weight)
        result["twice"] = 2 * ops.mean(y_pred)
        return result


class Super(keras.Model):
    def __init__(self):
        super().__init__()
        self.d2 = layers.Dense(2, kernel_regularizer="l2")

    def call(self, x):
        return self.d2(x[:, 0])

    def train_step(self, data):
        x, y = data[0], data[1]
        logs = super().train_step((x, 2 * y))
        logs["extra"] = 3.0
        return logs

    def predict_step(self, data):
        if isinstance(data, tuple):
            data = data[0]
        return 10 * self(data, training=False)


for cls, metrics in ((Losses, None), (LossTrack, None), (MyMetrics, ["mae"]), (Super, ["mae"]), (Losses, ["mae"])):
    model = cls()
    model(X[:2])
    start(model)
    model.compile("rmsprop", None if cls in (Losses, LossTrack) else "mse", metrics=metrics)
    name = cls.__name__
    show(name, model.fit(X, Y, epochs=3, batch_size=5, shuffle=False, verbose=0, validation_data=(X[:4], Y[:4])).history)
    show(name, model.get_weights())
    show(name, model.evaluate(X, Y, verbose=0))
    show(name, model.evaluate(X, Y, verbose=0, return_dict=True))
    show(name, model.train_on_batch(X, Y))
    show(name, model.train_on_batch(X, Y, return_dict=True))
    show(name, model.test_on_batch(X, Y))
    show(name, model.predict(X, verbose=0))
    show(name, model.predict_on_batch(X))
    show(name, model.get_weights())
    print("=", "metrics", *(m.name for m in model.metrics))


class Masked(layers.Layer):
    def __init__(self, **kw):
        super().__init__(**kw)
        self.supports_masking = True

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones", name="w")

    def call(self, inputs, mask=None):
        x = inputs * self.w
        if mask is not None:
            x = x * ops.expand_dims(ops.cast(mask, "float32"), -1)
        return x


class TempSoftmax(layers.Layer):
    def call(self, inputs, mask=None):
        assert mask is not None
        broadcast = ops.cast(ops.expand_dims(mask, -1), "float32")
        e = ops.exp(inputs) * broadcast
        return e / (ops.sum(e * broadcast, axis=1, keepdims=True) + 1e-7)


class CustomEmbedding(layers.Layer):
    def __init__(self, input_dim, output_dim, mask_zero=False, **kwargs):
        super().__init__(**kwargs)
        self.input_dim, self.output_dim, self.mask_zero = input_dim, output_dim, mask_zero

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim), initializer="random_normal", dtype="float32"
        )

    def call(self, inputs):
        inputs = ops.cast(inputs, "int32")
        return ops.take(self.embeddings, inputs, axis=0)

    def compute_mask(self, inputs, mask=None):
        if not self.mask_zero:
            return None
        return ops.not_equal(inputs, 0)


class TemporalSplit(layers.Layer):
    def call(self, inputs):
        return ops.split(inputs, 2, axis=1)

    def compute_mask(self, inputs, mask=None):
        if mask is None:
            return None
        return ops.split(mask, 2, axis=1)


inputs = keras.Input((None,), dtype="int32")
x = CustomEmbedding(9, 4, mask_zero=True)(inputs)
x = Masked()(x)
x = TempSoftmax()(x)
x = layers.Dense(3)(x)
model = keras.Model(inputs, x)
start(model)
model.compile("sgd", "mse")
y = np.random.default_rng(1).normal(size=(12, 7, 3))
show("mask", model.predict(IDS, verbose=0))
show("mask", model.fit(IDS, y, epochs=3, batch_size=4, shuffle=False, verbose=0).history)
show("mask", model.get_weights())

inputs = keras.Input((7,), dtype="int32")
x = layers.Embedding(9, 4, mask_zero=True)(inputs)
x = Masked()(x)
x = layers.LSTM(3, return_sequences=True)(x)
x = Masked()(x)
x = layers.GRU(3)(x)
model = keras.Model(inputs, layers.Dense(2)(x))
start(model)
model.compile("sgd", "mse")
show("mask2", model.fit(IDS, Y, epochs=3, batch_size=4, shuffle=False, verbose=0).history)
show("mask2", model.get_weights())
show("mask2", model.predict(IDS, verbose=0))
emb = CustomEmbedding(9, 4, mask_zero=True)
x = emb(np.array([[1, 2, 0, 3], [4, 0, 0, 0]]))
start(emb)
x = emb(np.array([[1, 2, 0, 3], [4, 0, 0, 0]]))
show("emb", np.asarray(x))
show("embmask", np.asarray(x._keras_mask if hasattr(x, "_keras_mask") else emb.compute_mask(np.array([[1, 2, 0, 3], [4, 0, 0, 0]]))))
lstm = layers.LSTM(3)
lstm(x)
start(lstm)
show("lstm", np.asarray(lstm(x)))
a, b = TemporalSplit()(x)
show("split", np.asarray(lstm(a)))
show("split", np.asarray(lstm(b)))
