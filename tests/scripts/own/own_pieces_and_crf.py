import numpy as np
from shown import show, start

import keras
from keras import layers, ops

X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 2)).astype("float32")


class MyLoss(keras.losses.Loss):
    def __init__(self, factor=0.1, name="my_loss", **kw):
        super().__init__(name=name, **kw)
        self.factor = factor

    def call(self, y_true, y_pred):
        mse = ops.mean(ops.square(y_true - y_pred), axis=-1)
        return mse + ops.mean(ops.square(0.5 - y_pred), axis=-1) * self.factor


def my_fn(y_true, y_pred):
    d = y_true - y_pred
    return ops.mean(ops.log(ops.cosh(d)) if hasattr(ops, "cosh") else ops.log(0.5 * (ops.exp(d) + ops.exp(-d))), axis=-1)


class MyMetric(keras.metrics.Metric):
    def __init__(self, name="big", **kwargs):
        super().__init__(name=name, **kwargs)
        self.count = self.add_weight(name="count", shape=(), initializer="zeros")
        self.total = self.add_variable(shape=(), name="total", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        big = ops.cast(ops.abs(y_true - y_pred) > 0.5, "float32")
        if sample_weight is not None:
            big = big * ops.expand_dims(ops.cast(sample_weight, "float32"), -1)
        self.count.assign_add(ops.sum(big))
        self.total.assign(self.total + ops.cast(ops.size(y_true), "float32"))

    def result(self):
        return self.count / self.total

    def reset_state(self):
        self.count.assign(0.0)
        self.total.assign(0.0)


class MyReg(keras.regularizers.Regularizer):
    def __init__(self, s):
        self.s = s

    def __call__(self, x):
        return self.s * ops.sum(ops.square(ops.square(x)))

    def get_config(self):
        return {"s": self.s}


class MyInit(keras.initializers.Initializer):
    def __init__(self, a):
        self.a = a

    def __call__(self, shape, dtype=None, **kwargs):
        return self.a * np.ones(shape, "float32")


class MyCon(keras.constraints.Constraint):
    def __call__(self, w):
        return ops.clip(w, -0.2, 0.2)


class MyCall(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print("=", "epoch", epoch, *(f"{k} {logs[k]:.6f}" for k in sorted(logs)))

    def on_train_batch_end(self, batch, logs=None):
        print("=", "batch", batch, *(f"{k} {logs[k]:.6f}" for k in sorted(logs)))


class L(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer=MyInit(0.3), regularizer=MyReg(0.01), constraint=MyCon(), name="w")
        self.b = self.add_weight(shape=(self.units,), initializer=MyInit(0.1), name="b")

    def call(self, x):
        return x @ self.w + self.b


for loss in (MyLoss(0.2), my_fn, "mse"):
    inputs = keras.Input((5,))
    x = L(4)(inputs)
    model = keras.Model(inputs, layers.Dense(2, kernel_initializer=MyInit(0.05), kernel_regularizer=MyReg(0.1), activation=lambda t: ops.tanh(2 * t))(x))
    show("w", model.get_weights())
    model.compile(keras.optimizers.RMSprop(0.01, epsilon=1e-3), loss, metrics=[MyMetric(), "mae"])
    show("hist", model.fit(X, Y, epochs=2, batch_size=5, shuffle=False, verbose=0, callbacks=[MyCall()], sample_weight=np.linspace(0, 1, 12)).history)
    show("w", model.get_weights())
    show("eval", model.evaluate(X, Y, verbose=0))


# crf-like loss by ops: log partition by forward algorithm with a weight of transitions
class Crf(layers.Layer):
    def __init__(self, tags):
        super().__init__()
        self.tags = tags

    def build(self, shape):
        self.transitions = self.add_weight(shape=(self.tags, self.tags), name="transitions")

    def call(self, x):
        return x

    def loss(self, y, scores):
        y = ops.one_hot(ops.cast(y, "int32"), self.tags)
        point = ops.sum(y * scores, axis=(1, 2))
        pairs = ops.einsum("bti,bij,btj->b", y[:, :-1], ops.repeat(ops.expand_dims(self.transitions, 0), y.shape[0], axis=0), y[:, 1:])
        alpha = scores[:, 0]
        for t in range(1, scores.shape[1]):
            alpha = ops.logsumexp(ops.expand_dims(alpha, 2) + self.transitions, axis=1) + scores[:, t]
        return ops.mean(ops.logsumexp(alpha, axis=-1) - point - pairs)


class Tagger(keras.Model):
    def __init__(self):
        super().__init__()
        self.rnn = layers.Bidirectional(layers.LSTM(4, return_sequences=True))
        self.dense = layers.Dense(3)
        self.crf = Crf(3)

    def call(self, x):
        return self.crf(self.dense(self.rnn(x)))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.crf.loss(y, y_pred)


XS = np.random.default_rng(0).normal(size=(12, 6, 2)).astype("float32")
TAGS = np.random.default_rng(1).integers(0, 3, size=(12, 6))
model = Tagger()
model(XS[:4])
start(model)
model.compile(keras.optimizers.SGD(0.1))
show("crf", model.fit(XS, TAGS, epochs=3, batch_size=4, shuffle=False, verbose=0).history)
show("crf", model.get_weights())
show("crf", model.predict(XS, verbose=0))
