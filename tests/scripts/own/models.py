import numpy as np
from shown import show, start

import keras
from keras import layers, ops

X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
Z = np.random.default_rng(5).normal(size=(12, 6, 2)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 2)).astype("float32")
C = np.random.default_rng(1).integers(0, 3, size=(12,))


class Control(keras.Model):
    def __init__(self, depth, residual=True):
        super().__init__()
        self.blocks = [layers.Dense(4, activation="tanh") for _ in range(depth)]
        self.residual = residual
        self.out = layers.Dense(2)

    def call(self, x, training=None):
        for n, block in enumerate(self.blocks):
            y = block(x)
            x = x + y if self.residual and n else y
        if training:
            x = x * 2.0
        return self.out(x)


class InOut(keras.Model):
    def __init__(self):
        super().__init__()
        self.rnn = layers.LSTM(3)
        self.dense = layers.Dense(4, activation="relu")
        self.value = layers.Dense(2, name="value")
        self.kind = layers.Dense(3, activation="softmax", name="kind")

    def call(self, inputs):
        x = ops.concatenate([self.rnn(inputs["z"]), self.dense(inputs["x"])], axis=-1)
        return {"value": self.value(x), "kind": self.kind(x)}


class Lists(keras.Model):
    def __init__(self):
        super().__init__()
        self.rnn = layers.LSTM(3)
        self.dense = layers.Dense(4, activation="relu")
        self.value = layers.Dense(2, name="value")
        self.kind = layers.Dense(3, activation="softmax", name="kind")

    def call(self, inputs):
        x, z = inputs
        x = ops.concatenate([self.rnn(z), self.dense(x)], axis=-1)
        return [self.value(x), self.kind(x)]


class Tied(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(5)
        self.bias = self.add_weight(shape=(5,), initializer="zeros", name="bias")
        self.out = layers.Dense(2)

    def call(self, x):
        h = ops.tanh(self.dense(x))
        h = self.dense(h)
        h = ops.matmul(h, ops.transpose(self.dense.kernel)) + self.bias
        return self.out(h)


class Kernel(layers.Layer):
    def __init__(self, of):
        super().__init__()
        self.of = of

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.of.kernel))


class Inner(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.a = layers.Dense(units, activation="relu")
        self.b = layers.Dense(units)

    def call(self, x):
        return self.b(self.a(x)) + 1

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.b.units)


def finish(name, model, x, y, **how):
    start(model)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), **how)
    show(name, model.predict(x, verbose=0))
    show(name, model.fit(x, y, epochs=3, batch_size=4, shuffle=False, verbose=0).history)
    show(name, model.get_weights())
    show(name, model.evaluate(x, y, verbose=0, return_dict=True))
    print("=", name, *(w.name for w in model.weights))


for depth in (1, 3):
    model = Control(depth)
    model(X[:2])
    finish(f"control{depth}", model, X, Y, loss="mse", metrics=["mae"])
model = InOut()
model({"x": X[:2], "z": Z[:2]})
finish("inout", model, {"x": X, "z": Z}, {"value": Y, "kind": C}, loss={"value": "mse", "kind": "sparse_categorical_crossentropy"}, metrics={"kind": ["accuracy"], "value": ["mae"]}, loss_weights={"value": 0.5, "kind": 2.0})
model = Lists()
model([X[:2], Z[:2]])
finish("lists", model, [X, Z], [Y, C], loss=["mse", "sparse_categorical_crossentropy"], metrics=[["mae"], ["accuracy"]], loss_weights=[0.5, 2.0])
model = Lists()
model((X[:2], Z[:2]))
finish("lists2", model, [X, Z], [Y, C], loss=["mse", "sparse_categorical_crossentropy"])
model = Tied()
model(X[:2])
finish("tied", model, X, Y, loss="mse")
inputs = keras.Input((5,))
dense = layers.Dense(4, activation="tanh")
h = dense(inputs)
h = Kernel(dense)(h)
model = keras.Model(inputs, layers.Dense(2)(h))
finish("kernel", model, X, Y, loss="mse")
inputs = keras.Input((5,))
inner = Inner(5)
h = inner(inner(inputs))
model = keras.Model(inputs, layers.Dense(2)(h))
finish("inner", model, X, Y, loss="mse")
inner = Inner(3)
inner(Z[:, 0])
inputs = keras.Input((6, 2))
h = layers.TimeDistributed(inner)(inputs)
h = layers.LSTM(3)(h)
model = keras.Model(inputs, layers.Dense(2)(h))
finish("tdinner", model, Z, Y, loss="mse")
