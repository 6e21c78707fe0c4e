import numpy as np
from shown import show, start

import keras
from keras import layers, ops
import tensorflow as tf

X = np.random.default_rng(0).normal(size=(12, 7, 3)).astype("float32")
Y = np.random.default_rng(1).integers(0, 2, size=(12, 1)).astype("float32")


class AttentionPooling(layers.Layer):
    def __init__(self, units=5, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.W = self.add_weight(name="W", shape=(input_shape[-1], self.units), initializer="glorot_uniform")
        self.b = self.add_weight(name="b", shape=(self.units,), initializer="zeros")
        self.u = self.add_weight(name="u", shape=(self.units, 1), initializer="glorot_uniform")
        super().build(input_shape)

    def call(self, x, mask=None):
        e = ops.tanh(ops.matmul(x, self.W) + self.b)
        e = ops.squeeze(ops.matmul(e, self.u), -1)
        if mask is not None:
            e = e + (1.0 - ops.cast(mask, "float32")) * -1e9
        a = ops.softmax(e, axis=-1)
        return ops.sum(x * ops.expand_dims(a, -1), axis=1)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])


class OwnLSTM(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 4 * self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, 4 * self.units), initializer="orthogonal", name="recurrent")
        self.bias = self.add_weight(shape=(4 * self.units,), initializer="zeros", name="bias")

    def call(self, x):
        batch = ops.shape(x)[0]
        h = ops.zeros((batch, self.units))
        c = ops.zeros((batch, self.units))
        outputs = []
        for t in range(x.shape[1]):
            z = ops.matmul(x[:, t], self.kernel) + ops.matmul(h, self.recurrent) + self.bias
            i, f, g, o = ops.split(z, 4, axis=-1)
            c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
            h = ops.sigmoid(o) * ops.tanh(c)
            outputs.append(h)
        return ops.stack(outputs, axis=1)


class Position(layers.Layer):
    def __init__(self, length, dim):
        super().__init__()
        pos = np.arange(length)[:, None]
        i = np.arange(dim)[None]
        angle = pos / np.power(10000, (2 * (i // 2)) / np.float32(dim))
        angle[:, 0::2] = np.sin(angle[:, 0::2])
        angle[:, 1::2] = np.cos(angle[:, 1::2])
        self.encoding = angle[None]

    def call(self, x):
        return x + ops.cast(self.encoding[:, : x.shape[1]], "float32")


class Transformer(layers.Layer):
    def __init__(self, dim, heads, ff, rate=0.0):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=heads, key_dim=dim)
        self.ffn = keras.Sequential([layers.Dense(ff, activation="relu"), layers.Dense(dim)])
        self.norm1 = layers.LayerNormalization(epsilon=1e-6)
        self.norm2 = layers.LayerNormalization(epsilon=1e-6)
        self.drop1 = layers.Dropout(rate)
        self.drop2 = layers.Dropout(rate)

    def call(self, inputs, training=False):
        a = self.att(inputs, inputs)
        a = self.drop1(a, training=training)
        out = self.norm1(inputs + a)
        f = self.drop2(self.ffn(out), training=training)
        return self.norm2(out + f)


class OwnHeads(layers.Layer):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.depth, self.dim = heads, dim // heads, dim
        self.wq, self.wk, self.wv, self.dense = (layers.Dense(dim) for _ in range(4))

    def split_heads(self, x, batch):
        x = ops.reshape(x, (batch, -1, self.heads, self.depth))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, v, k, q, mask=None):
        batch = ops.shape(q)[0]
        q, k, v = (self.split_heads(w(t), batch) for w, t in ((self.wq, q), (self.wk, k), (self.wv, v)))
        logits = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / ops.sqrt(ops.cast(self.depth, "float32"))
        if mask is not None:
            logits += mask * -1e9
        weights = ops.softmax(logits, axis=-1)
        out = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
        return self.dense(ops.reshape(out, (batch, -1, self.dim))), weights


class TokenAndPosition(layers.Layer):
    def __init__(self, maxlen, vocab, dim):
        super().__init__()
        self.token_emb = layers.Embedding(input_dim=vocab, output_dim=dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=dim)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        positions = ops.arange(start=0, stop=maxlen, step=1)
        positions = self.pos_emb(positions)
        return self.token_emb(x) + positions


def check(name, model, x, y, loss="binary_crossentropy"):
    start(model)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["mae"])
    show(name, model.predict(x, verbose=0))
    show(name, model.fit(x, y, epochs=3, batch_size=5, shuffle=False, verbose=0).history)
    show(name, model.get_weights())
    show(name, model.evaluate(x, y, verbose=0))
    print("=", name, *model.output_shape[1:], model.count_params())


inputs = keras.Input((7, 3))
x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(inputs)
check("pool", keras.Model(inputs, layers.Dense(1, activation="sigmoid")(AttentionPooling()(x))), X, Y)
XM = X.copy()
XM[:, 5:] = 0
inputs = keras.Input((7, 3))
x = layers.Masking()(inputs)
x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
check("poolmask", keras.Model(inputs, layers.Dense(1, activation="sigmoid")(AttentionPooling()(x))), XM, Y)
inputs = keras.Input((7, 3))
check("ownlstm", keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.GRU(4)(OwnLSTM(4)(inputs)))), X, Y)
inputs = keras.Input((7, 3))
own, lstm = OwnLSTM(4), layers.LSTM(4, return_sequences=True)
a = keras.Model(inputs, own(inputs))
b = keras.Model(inputs, lstm(inputs))
start(a)
b.set_weights(a.get_weights())
show("same", a.predict(X, verbose=0))
show("same", b.predict(X, verbose=0))
inputs = keras.Input((7, 3))
x = layers.Dense(4)(inputs)
x = Position(50, 4)(x)
x = Transformer(4, 2, 6)(x)
x = layers.GlobalAveragePooling1D()(x)
check("transformer", keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x)), X, Y)
inputs = keras.Input((7, 3))
x = layers.Dense(4)(inputs)
look = np.triu(np.ones((7, 7), "float32"), 1)
x, w = OwnHeads(4, 2)(x, x, x, mask=look)
check("heads", keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x[:, -1])), X, Y)
inputs = keras.Input((7,))
x = TokenAndPosition(7, 9, 4)(inputs)
x = Transformer(4, 2, 6)(x)
x = layers.GlobalAveragePooling1D()(x)
check("tokens", keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x)), np.random.default_rng(2).integers(0, 9, (12, 7)), Y)
seq = keras.Sequential([keras.Input((7, 3)), layers.Bidirectional(layers.GRU(3, return_sequences=True)), AttentionPooling(4), layers.Dense(1)])
check("seq", seq, X, Y, "mse")
td = keras.Sequential([keras.Input((2, 7, 3)), layers.TimeDistributed(AttentionPooling(4)), layers.LSTM(3), layers.Dense(1)])
check("td", td, X[:, None] * np.array([1, 2], "float32")[None, :, None, None], Y, "mse")
