"""Operations of keras.ops on the outputs of layers: each a function of ops and of tensors x and i
of shape (batch, 5, 4), j (batch, 4)."""

import numpy as np

BASIC = {
    "x + i": lambda ops, x, i, j: x + i,
    "x + constant": lambda ops, x, i, j: x + np.arange(4, dtype=np.float32),
    "i - 2 x": lambda ops, x, i, j: i - 2 * x,
    "2 - x": lambda ops, x, i, j: 2 - x,
    "x * j": lambda ops, x, i, j: x * j[:, None],
    "x / (1 + i ** 2)": lambda ops, x, i, j: x / (1 + i**2),
    "-abs(x)": lambda ops, x, i, j: -abs(x),
    "x % 0.3": lambda ops, x, i, j: x % 0.3,
    "x @ i": lambda ops, x, i, j: x @ ops.transpose(i, (0, 2, 1)),
    "x > 0.1": lambda ops, x, i, j: ops.cast(x > 0.1, "float32") * x,
    "x[:, -1]": lambda ops, x, i, j: x[:, -1],
    "x[:, 1:4:2, ::-1]": lambda ops, x, i, j: x[:, 1:4:2, ::-1],
    "x[..., None]": lambda ops, x, i, j: x[..., None],
}
NAMED = {
    "clip": lambda ops, x, i, j: ops.clip(x, -0.1, 0.2),
    "concatenate": lambda ops, x, i, j: ops.concatenate([x, i, x], axis=1),
    "cumsum": lambda ops, x, i, j: ops.cumsum(x, axis=1),
    "dot": lambda ops, x, i, j: ops.dot(j, np.arange(8, dtype=np.float32).reshape(4, 2)),
    "einsum": lambda ops, x, i, j: ops.einsum("btf,bf->bt", x, j),
    "einsum of a sum": lambda ops, x, i, j: ops.einsum("btf,bsg->bts", x, i),
    "elu": lambda ops, x, i, j: ops.elu(x),
    "exp": lambda ops, x, i, j: ops.exp(x),
    "expand_dims": lambda ops, x, i, j: ops.expand_dims(j, 1),
    "flip": lambda ops, x, i, j: ops.flip(x, axis=1),
    "gelu": lambda ops, x, i, j: ops.gelu(x),
    "leaky_relu": lambda ops, x, i, j: ops.leaky_relu(x),
    "log": lambda ops, x, i, j: ops.log(ops.abs(i) + 1.0),
    "log_softmax": lambda ops, x, i, j: ops.log_softmax(x, axis=1),
    "logsumexp": lambda ops, x, i, j: ops.logsumexp(x, axis=-1),
    "matmul": lambda ops, x, i, j: ops.matmul(ops.swapaxes(x, 1, 2), i),
    "max": lambda ops, x, i, j: ops.max(x, axis=1),
    "maximum": lambda ops, x, i, j: ops.maximum(x, i),
    "mean": lambda ops, x, i, j: ops.mean(x, axis=1),
    "min": lambda ops, x, i, j: ops.min(x, axis=(1, 2), keepdims=True),
    "minimum": lambda ops, x, i, j: ops.minimum(x, 0.1),
    "moveaxis": lambda ops, x, i, j: ops.moveaxis(x, 1, 2),
    "norm": lambda ops, x, i, j: ops.norm(x, axis=-1),
    "normalize": lambda ops, x, i, j: ops.normalize(x, axis=-1),
    "one_hot": lambda ops, x, i, j: ops.one_hot(ops.cast(j * 2, "int32"), 3),
    "pad": lambda ops, x, i, j: ops.pad(x, ((0, 0), (1, 2), (0, 0))),
    "prod": lambda ops, x, i, j: ops.prod(i, axis=1),
    "relu": lambda ops, x, i, j: ops.relu(x),
    "repeat": lambda ops, x, i, j: ops.repeat(x, 3, axis=1),
    "reshape": lambda ops, x, i, j: ops.reshape(x, (-1, 20)),
    "sigmoid": lambda ops, x, i, j: ops.sigmoid(x),
    "silu": lambda ops, x, i, j: ops.silu(x),
    "softmax": lambda ops, x, i, j: ops.softmax(x, axis=1),
    "softplus": lambda ops, x, i, j: ops.softplus(x),
    "split": lambda ops, x, i, j: ops.split(x, 2, axis=-1)[1],
    "square": lambda ops, x, i, j: ops.square(x),
    "squeeze": lambda ops, x, i, j: ops.squeeze(x[:, :1], axis=1),
    "stack": lambda ops, x, i, j: ops.stack([x, i], axis=1),
    "std": lambda ops, x, i, j: ops.std(i, axis=-1),
    "sum": lambda ops, x, i, j: ops.sum(x, axis=-1, keepdims=True),
    "swapaxes": lambda ops, x, i, j: ops.swapaxes(x, 1, 2),
    "take": lambda ops, x, i, j: ops.take(x, np.array([0, 2, 0]), axis=1),
    "tanh": lambda ops, x, i, j: ops.tanh(x),
    "tile": lambda ops, x, i, j: ops.tile(j, (1, 3)),
    "transpose": lambda ops, x, i, j: ops.transpose(x, (0, 2, 1)),
    "var": lambda ops, x, i, j: ops.var(i, axis=1),
    "where": lambda ops, x, i, j: ops.where(x > 0, x, i),
}
EXAMPLES = BASIC | NAMED


def model(keras, names):
    """The operations of these names above an LSTM, each an output, and a Dense layer above
    all of them, x and j."""
    layers = keras.layers
    i, j = layers.Input((5, 4), name="i"), layers.Input((4,), name="j")
    x = layers.LSTM(4, return_sequences=True, name="lstm")(i)
    outputs = [EXAMPLES[name](keras.ops, x, i, j) for name in names]
    flat = [layers.Flatten(name=f"flat_{n}")(y) for n, y in enumerate([*outputs, x, j])]
    top = layers.Dense(3, activation="tanh", name="top")(layers.Concatenate(name="all")(flat))
    return keras.Model([i, j], [*outputs, top])


def inputs(batch=3):
    rng = np.random.default_rng(5)
    shapes = (batch, 5, 4), (batch, 4)
    i, j = (rng.uniform(0.1, 1.4, shape).astype(np.float32) for shape in shapes)
    return [i, np.round(j, 1) + np.float32(0.02)]
