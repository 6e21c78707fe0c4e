"""Layers and models of the user's own, which fastrnn and Keras save and load alike."""

import numpy as np


def define(keras):
    """The classes by name, made for fastrnn or for Keras."""
    layers, ops = keras.layers, keras.ops
    if hasattr(keras, "Variable"):
        Variable = keras.Variable
    else:
        from fastrnn.variable import Variable

    class Scale(layers.Layer):
        def __init__(self, units=3, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="w")
            self.c = self.add_weight(shape=(), initializer="zeros", trainable=False, name="c")
            self.b = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="b")

        def call(self, x):
            return x * self.w + self.b + self.c

    class Block(layers.Layer):
        """Layers in attributes, lists and dicts, one of them twice, and a Variable."""

        def __init__(self, n, **kwargs):
            super().__init__(**kwargs)
            self.n = n
            self.blocks = [layers.Dense(n), layers.Dense(n), Scale()]
            self.heads = {"b": layers.Dense(2), "a": [layers.Dense(3), {"z": Scale()}]}
            self.zeta = layers.LSTM(4)
            self.Alpha = Scale()
            self._hidden = Scale()
            self.var = Variable(np.ones(4, "float32"), name="var")
            self.shared = self.zeta
            self.drop = layers.Dropout(0.5)
            self.d10, self.d9 = layers.Dense(2), layers.Dense(2)

        def call(self, x):
            for layer in self.blocks:
                x = layer(x)
            y = self.zeta(self._hidden(x))
            dense, inner = self.heads["a"]
            a = inner["z"](dense(y))
            s = self.heads["b"](y) + self.d10(y) + self.d9(y)
            return (
                self.Alpha(y) * self.var
                + ops.sum(a, -1, keepdims=True)
                + ops.sum(s, -1, keepdims=True)
            )

    class Whole(keras.Model):
        def __init__(self, n=4, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(n)
            self.out = layers.Dense(2)
            self.block = Block(3)
            self.more = [layers.Dense(1)]

        def call(self, x):
            return self.more[0](self.out(self.block(self.dense(x))))

    class Attend(layers.Layer):
        """Several tensors by position and by name, and in a dict."""

        def build(self, query_shape, values_shape):
            self.k = self.add_weight(shape=(query_shape[-1], values_shape[-1]), name="k")

        def call(self, query, values, scale=1.0, training=False, extra=None):
            y = ops.matmul(query, self.k) + ops.mean(values) * scale
            return y if extra is None else y + extra["a"]

    class Plain(keras.Model):
        pass

    class Fancy(keras.Model):
        """A graph that its constructor makes, and a layer beside it."""

        def __init__(self, n=3, **kwargs):
            inputs = keras.Input((3,))
            super().__init__(inputs, layers.Dense(n)(inputs), **kwargs)
            self.n = n
            self.extra = layers.Dense(2)
            self.extra.build((None, 2))

    class MyLSTM(layers.LSTM):
        def __init__(self, units, extra=1, **kwargs):
            super().__init__(units, **kwargs)
            self.extra = extra

        def get_config(self):
            return {**super().get_config(), "extra": self.extra}

    class Masked(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.supports_masking = True

        def call(self, x, mask=None):
            return x if mask is None else x * ops.expand_dims(ops.cast(mask, "float32"), -1)

    class OfDict(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.a, self.b = layers.Dense(2), layers.Dense(2)

        def call(self, x):
            return self.a(x["p"]) + self.b(x["q"])

    class OfList(OfDict):
        def call(self, x):
            return [self.a(x[0]), self.b(x[1])]

    class Chain(keras.Sequential):
        pass

    class Storing(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="w")
            self.extra = 5.0

        def call(self, x):
            return x * self.w

        def save_own_variables(self, store):
            super().save_own_variables(store)
            store["extra"] = np.float32(self.extra + 1)

        def load_own_variables(self, store):
            self.w.assign(store["0"])
            self.extra = float(np.asarray(store["extra"]))

    class Around(keras.Model):
        def __init__(self, inner, **kwargs):
            super().__init__(**kwargs)
            self.inner = inner

        def call(self, x):
            return self.inner(x)

        def get_config(self):
            inner = keras.saving.serialize_keras_object(self.inner)
            return {**super().get_config(), "inner": inner}

        @classmethod
        def from_config(cls, config):
            inner = keras.saving.deserialize_keras_object(config["inner"])
            return cls(**{**config, "inner": inner})

    return {name: cls for name, cls in locals().items() if isinstance(cls, type)}


def _graph_of_tensors(keras, own):
    query, values = keras.Input((4,)), keras.Input((5,))
    attend = own["Attend"]()
    one = attend(query, values, scale=2.0, extra={"a": values})
    other = attend(query, values=values, training=True)
    return keras.Model([query, values], keras.layers.Concatenate()([one, other]))


def _masked(keras, own):
    x = keras.Input((5,))
    y = own["Masked"]()(keras.layers.Embedding(7, 3, mask_zero=True)(x))
    return keras.Model(x, keras.layers.GRU(2)(y))


def _plain(keras, own):
    x = keras.Input((3,))
    y = keras.layers.Dense(4)(x)
    return own["Plain"](inputs=x, outputs=keras.layers.Add()([y, keras.layers.Dense(4)(y)]))


def _nested(keras, own):
    x, y = keras.Input((5, 3)), keras.Input((1,))
    inner = own["Plain"](y, keras.layers.Dense(2)(y))
    return keras.Model(x, inner(own["Whole"]()(x)))


def _block(keras, own):
    x = keras.Input((5, 3))
    return keras.Model(x, own["Scale"](name="scaled")(own["Block"](3)(x)))


def _sequential(keras, own):
    rnn = own["MyLSTM"](4, 2, return_sequences=True)
    stack = [keras.Input((5, 3)), own["Scale"](), rnn, own["Block"](3), keras.layers.Dense(1)]
    return keras.Sequential(stack)


def _around(keras, own):
    return own["Around"](keras.Sequential([keras.layers.Dense(2), own["Scale"]()]))


# name -> (function of keras and the classes that makes the model, shape or shapes of its inputs)
MODELS = {
    "subclassed": (lambda keras, own: own["Whole"](), (4, 5, 3)),
    "block": (_block, (4, 5, 3)),
    "sequential": (_sequential, (4, 5, 3)),
    "several tensors": (_graph_of_tensors, [(4, 4), (4, 5)]),
    "of inputs and outputs": (_plain, (4, 3)),
    "graph in constructor": (lambda keras, own: own["Fancy"](), (4, 3)),
    "masked": (_masked, (4, 5)),
    "of a dict": (lambda keras, own: own["OfDict"](), {"p": (4, 3), "q": (4, 2)}),
    "of a list": (lambda keras, own: own["OfList"](), [(4, 3), (4, 2)]),
    "own Sequential": (
        lambda keras, own: own["Chain"](
            [keras.Input((3,)), keras.layers.Dense(2), own["Storing"]()]
        ),
        (4, 3),
    ),
    "nested": (_nested, (4, 5, 3)),
    "around": (_around, (4, 3)),
}


def inputs_of(name):
    def made(shape):
        if isinstance(shape, dict):
            return {key: made(part) for key, part in shape.items()}
        if isinstance(shape, list):
            return [made(part) for part in shape]
        if name == "masked":
            return rng.integers(0, 7, shape)
        return rng.normal(size=shape).astype("float32")

    rng = np.random.default_rng(3)
    return made(MODELS[name][1])


def trained(keras, name, own):
    """(a model with weights unlike the first, trained a little; its inputs and targets)."""
    model, x = MODELS[name][0](keras, own), inputs_of(name)
    y = model.predict(x, verbose=0)
    rng = np.random.default_rng(1)
    model.set_weights([0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    targets = [np.ones_like(part) for part in y] if isinstance(y, list) else np.ones_like(y)
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, targets, epochs=2, verbose=0, shuffle=False)
    return model, x, targets


def assert_same(one, other, x, tolerance=2e-5):
    ys, others = one.predict(x, verbose=0), other.predict(x, verbose=0)
    listed = isinstance(ys, list)
    for a, b in zip(*((ys, others) if listed else ([ys], [others])), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=tolerance)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
