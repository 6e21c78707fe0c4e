import numpy as np


def start(thing, seed=1):
    rng = np.random.default_rng(seed)
    thing.set_weights([rng.normal(0, 0.3, w.shape) if np.asarray(w).dtype.kind == "f" else w for w in thing.get_weights()])


def show(name, value):
    if isinstance(value, (list, tuple)) and not all(np.ndim(v) == 0 for v in value):
        for n, part in enumerate(value):
            show(f"{name}[{n}]", part)
        return
    flat = np.asarray(value, "float64").ravel()
    shown = flat if flat.size < 9 else [*flat[:8], flat.sum(), np.abs(flat).sum()]
    print("=", name, *(f"{v:.7g}" for v in shown))


def train(name, model, x, y, loss="binary_crossentropy"):
    start(model)
    model.compile(loss=loss, optimizer="sgd", metrics=["accuracy"])
    show(f"{name}_weights", [model.count_params(), len(model.weights)])
    show(f"{name}_before", model.predict(x, verbose=0))
    history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    show(f"{name}_losses", history.history["loss"])
    show(f"{name}_after", model.predict(x, verbose=0))


from tensorflow.keras import activations, constraints, initializers, regularizers
from tensorflow.keras import backend as K
from tensorflow.keras.layers import *
from tensorflow.keras.models import Model, Sequential, load_model

rng = np.random.default_rng(0)
words = rng.integers(1, 30, (16, 9))
for row, cut in zip(words, rng.integers(3, 10, 16)):
    row[cut:] = 0
labels = rng.integers(0, 2, (16, 1)).astype("float32")
series = rng.normal(size=(16, 9, 4)).astype("float32")


class Pool(Layer):
    """Everything set before the constructor of Layer, shapes in first place, names of its own."""

    def __init__(self, dims=0, regularizer=None, constraint=None, give_map=False, **kwargs):
        self.supports_masking = True
        self.init = initializers.get("normal")
        self.regularizer, self.constraint = regularizers.get(regularizer), constraints.get(constraint)
        self.dims, self.give_map = dims, give_map
        super(Pool, self).__init__(**kwargs)

    def build(self, input_shape):
        assert len(input_shape) == 3
        self.input_spec = [InputSpec(ndim=3)]
        self.W = self.add_weight((input_shape[-1], self.dims), initializer=self.init, name="{}_W".format(self.name),
                                 regularizer=self.regularizer, constraint=self.constraint)  # fmt: skip
        self.b = self.add_weight(name="{}_b".format(self.name), shape=(self.dims,), initializer="zeros")
        self.u = self.add_weight((self.dims,), initializer="uniform", name="{}_u".format(self.name))
        super(Pool, self).build(input_shape)

    def call(self, x, mask=None):
        scores = K.tanh(K.bias_add(K.dot(x, self.W), self.b))
        scores = K.squeeze(K.dot(scores, K.expand_dims(self.u)), axis=-1)
        a = K.exp(scores - K.max(scores, axis=-1, keepdims=True))
        if mask is not None:
            a *= K.cast(mask, K.floatx())
        a /= K.cast(K.sum(a, axis=1, keepdims=True) + K.epsilon(), K.floatx())
        pooled = K.sum(x * K.expand_dims(a), axis=1)
        return [pooled, a] if self.give_map else pooled

    def compute_mask(self, inputs, mask=None):
        return [None, None] if self.give_map else None

    def compute_output_shape(self, input_shape):
        pooled = (input_shape[0], input_shape[-1])
        return [pooled, input_shape[:2]] if self.give_map else pooled


tokens = Input(shape=(9,), dtype="int32")
steps = Bidirectional(LSTM(5, return_sequences=True))(Embedding(30, 6, mask_zero=True)(tokens))
pooled, weights = Pool(4, "l2", "max_norm", True, name="pool")(steps)
train("masked", Model(tokens, Dense(1, activation="sigmoid")(pooled)), words, labels)
show("map", Model(tokens, weights).predict(words, verbose=0))

try:
    Pool(4).build((None, 3))
except AssertionError:
    print("= refused 1")

sentence = Input(shape=(7,), dtype="int32")
encoder = Model(sentence, Pool(6)(GRU(4, return_sequences=True)(Embedding(30, 5)(sentence))))
document = Input(shape=(3, 7), dtype="int32")
found = Pool(6)(Bidirectional(GRU(4, return_sequences=True))(TimeDistributed(encoder)(document)))
documents = rng.integers(0, 30, (16, 3, 7))
classes = np.eye(2)[labels[:, 0].astype(int)]
train("documents", Model(document, Dense(2, activation="softmax")(found)), documents, classes, "categorical_crossentropy")


class Window(Layer):
    """Each step over those at most `width` away, by K.arange; saved and loaded."""

    def __init__(self, units=4, width=2, activation=None, **kwargs):
        super(Window, self).__init__(**kwargs)
        self.supports_masking = True
        self.units, self.width, self.activation = units, width, activations.get(activation)

    def get_config(self):
        mine = {"units": self.units, "width": self.width, "activation": activations.serialize(self.activation)}
        base_config = super(Window, self).get_config()
        return dict(list(base_config.items()) + list(mine.items()))

    def build(self, input_shape):
        size = int(input_shape[2])
        self.Wq = self.add_weight(shape=(size, self.units), name="{}_Wq".format(self.name), initializer="glorot_normal")
        self.Wk = self.add_weight(shape=(size, self.units), name="{}_Wk".format(self.name), initializer="glorot_normal")
        super(Window, self).build(input_shape)

    def call(self, inputs, mask=None, **kwargs):
        count = K.shape(inputs)[1]
        scores = K.batch_dot(K.dot(inputs, self.Wq), K.permute_dimensions(K.dot(inputs, self.Wk), (0, 2, 1)))
        e = K.exp(self.activation(scores))
        apart = K.expand_dims(K.arange(0, count), -1) - K.expand_dims(K.arange(0, count), 0)
        e = e * K.cast(K.abs(apart) <= self.width, K.floatx())
        if mask is not None:
            e = e * K.expand_dims(K.cast(mask, K.floatx()), 1)
        return K.batch_dot(e / (K.sum(e, axis=-1, keepdims=True) + K.epsilon()), inputs)

    def compute_mask(self, inputs, mask=None):
        return mask


model = Sequential()
model.add(Embedding(input_dim=30, output_dim=6, mask_zero=True))
model.add(Bidirectional(LSTM(units=4, return_sequences=True)))
model.add(Window(activation="sigmoid"))
model.add(Dense(units=3, activation="softmax"))
model.build((None, 9))
train("window", model, words, (words % 3)[..., None], "sparse_categorical_crossentropy")
model.save("window.keras")
again = load_model("window.keras", custom_objects={"Window": Window})
show("window_again", again.predict(words, verbose=0))


class Looks(Layer):
    """What a decoder sees of an encoder's steps, step by step with K.rnn."""

    def build(self, input_shape):
        assert isinstance(input_shape, list)
        (_, _, source), (_, _, target) = input_shape
        self.W = self.add_weight(name="W", shape=(target, source), initializer="uniform", trainable=True)
        super(Looks, self).build(input_shape)

    def call(self, inputs):
        assert type(inputs) == list  # noqa: E721
        source, target = inputs

        def energy(x, states):
            e = K.softmax(K.batch_dot(source, K.dot(x, self.W), axes=(2, 1)))
            return e, [e]

        def context(x, states):
            c = K.sum(source * K.expand_dims(x, -1), axis=1)
            return c, [c + states[0]]

        nothing = K.sum(K.zeros_like(source), axis=[1, 2])
        first = K.tile(K.expand_dims(nothing), [1, source.shape[1]])
        _, energies, _ = K.rnn(energy, target, [first])
        _, contexts, (total,) = K.rnn(context, energies, [K.tile(K.expand_dims(nothing), [1, source.shape[2]])])
        return contexts, energies, total

    def compute_output_shape(self, input_shape):
        (batch, steps, size), (_, others, _) = input_shape
        return [(batch, others, size), (batch, others, steps), (batch, size)]


source, target = Input(shape=(9,)), Input(shape=(5,))
encoded, h, c = LSTM(6, return_sequences=True, return_state=True)(Embedding(30, 5)(source))
decoded = LSTM(6, return_sequences=True)(Embedding(20, 5)(target), initial_state=[h, c])
contexts, energies, total = Looks(name="looks")([encoded, decoded])
decoded = Concatenate(axis=-1)([decoded, contexts])
outputs = TimeDistributed(Dense(20, activation="softmax"))(decoded)
spoken = rng.integers(0, 20, (16, 5))
train("looks", Model([source, target], outputs), [words, spoken], np.roll(spoken, -1, 1)[..., None], "sparse_categorical_crossentropy")
show("energies", Model([source, target], [energies, total]).predict([words, spoken], verbose=0))
