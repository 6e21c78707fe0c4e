"""What is measured: networks as data, random data and weights for them, and what they compute."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Embedding:
    size: int
    width: int


@dataclass(frozen=True)
class LSTM:
    units: int
    sequences: bool = False
    bidirectional: bool = False

    @property
    def width(self):
        return self.units * (1 + self.bidirectional)


@dataclass(frozen=True)
class Dropout:
    rate: float


@dataclass(frozen=True)
class BatchNormalization:
    pass


@dataclass(frozen=True)
class Dense:
    """The last layer of every network."""

    units: int
    activation: str | None = None


@dataclass(frozen=True)
class Workload:
    """A network and the shape of its data: `steps` batches are one epoch, `epochs` one timed call
    of train."""

    name: str
    batch: int
    timesteps: int
    features: int
    layers: tuple
    steps: int = 4
    epochs: int = 1

    @property
    def head(self):
        return self.layers[-1]

    @property
    def embedding(self):
        return self.layers[0] if isinstance(self.layers[0], Embedding) else None

    @property
    def sequences(self):
        return [layer for layer in self.layers if isinstance(layer, LSTM)][-1].sequences

    @property
    def plain(self):
        """Does the network compute the same in training and inference?"""
        return not any(isinstance(la, (Dropout, BatchNormalization)) for la in self.layers)

    @property
    def loss(self):
        if self.head.activation == "sigmoid":
            return "binary_crossentropy"
        return "mean_squared_error" if self.head.units == 1 else "categorical_crossentropy"

    def widths(self):
        """(layer, size of its input's last axis) for each layer."""
        width = self.features
        for layer in self.layers:
            yield layer, width
            width = getattr(layer, "width", width)

    def flops(self, kind):
        """Of one training step, one batch or one sample; training is counted as three times the
        forward, as is usual, although no gradient of the network's input is needed."""
        total = 0
        for layer, inputs in self.widths():
            if isinstance(layer, LSTM):
                total += 8 * self.timesteps * layer.width * (layer.units + inputs)
            elif isinstance(layer, Dense):
                total += 2 * inputs * layer.units * (self.timesteps if self.sequences else 1)
        return total * {"train": 3 * self.batch, "predict": self.batch, "one": 1}[kind]

    def parameters(self):
        """(layer, its weights in Keras's order); for an LSTM, kernel, recurrent_kernel and bias of
        each direction."""
        rng = np.random.default_rng(1)

        def uniform(*shape, fan):
            return rng.uniform(-(fan**-0.5), fan**-0.5, shape).astype(np.float32)

        for layer, inputs in self.widths():
            if isinstance(layer, Embedding):
                yield layer, [uniform(layer.size, layer.width, fan=1)]
            elif isinstance(layer, LSTM):
                sizes = ((inputs, 4 * layer.units), (layer.units, 4 * layer.units))
                yield (
                    layer,
                    [
                        uniform(*shape, fan=layer.units)
                        for _ in range(1 + layer.bidirectional)
                        for shape in (*sizes, (4 * layer.units,))
                    ],
                )
            elif isinstance(layer, Dense):
                shapes = (inputs, layer.units), (layer.units,)
                yield layer, [uniform(*shape, fan=inputs) for shape in shapes]

    def data(self):
        return _data(self)


@lru_cache(maxsize=1)
def _data(workload):
    rng = np.random.default_rng(0)
    samples = workload.batch * workload.steps
    shape = (samples, workload.timesteps)
    if workload.embedding:
        x = rng.integers(1, workload.embedding.size, shape, dtype=np.int32)
    else:
        x = rng.standard_normal((*shape, workload.features), dtype=np.float32)
    rows = shape if workload.sequences else shape[:1]
    units = workload.head.units
    if workload.loss == "categorical_crossentropy":
        y = np.eye(units, dtype=np.float32)[rng.integers(0, units, rows)]
    else:
        y = rng.integers(0, 2, (*rows, units)).astype(np.float32)
    return x, y


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


ACTIVATIONS = {None: lambda z: z, "sigmoid": sigmoid, "softmax": softmax}


def reference(workload, x):
    """The network's output for x, step by step in NumPy."""
    for layer, weights in workload.parameters():
        if isinstance(layer, Embedding):
            x = weights[0][x]
        elif isinstance(layer, LSTM):
            directions = [_lstm(x, *weights[:3])]
            if layer.bidirectional:
                directions.append(_lstm(x[:, ::-1], *weights[3:]))
            if layer.sequences:
                directions[1:] = [directions[1][:, ::-1]] if layer.bidirectional else []
                x = np.concatenate(directions, axis=-1)
            else:
                x = np.concatenate([d[:, -1] for d in directions], axis=-1)
        else:
            x = ACTIVATIONS[layer.activation](x @ weights[0] + weights[1])
    return x


def _lstm(x, kernel, recurrent_kernel, bias):
    h = c = np.zeros((len(x), len(recurrent_kernel)), np.float32)
    states = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=1)


def _bi(units, sequences=False):
    return LSTM(units, sequences, bidirectional=True)


SIGMOID, SOFTMAX = Dense(1, "sigmoid"), Dense(10, "softmax")

WORKLOADS = (
    Workload("imdb_bilstm64", 128, 200, 128, (Embedding(10000, 128), _bi(64), SIGMOID)),
    Workload("mnist_lstm64_32", 500, 28, 28, (LSTM(64, True), LSTM(32), SOFTMAX), 8),
    Workload("mnist_bilstm64", 500, 28, 28, (_bi(64), SOFTMAX), 8),
    Workload("frames_bilstm20", 64, 149, 40, (_bi(20, True), SIGMOID), 16),
    Workload("cumsum_bilstm20", 1, 10, 1, (_bi(20, True), SIGMOID), 64),
    Workload("medium_bilstm256x2", 64, 100, 128, (_bi(256, True), _bi(256), Dense(10)), 2),
    Workload("large_lstm512", 32, 100, 512, (LSTM(512), Dense(10)), 4),
)
TINY = Workload("tiny", 2, 3, 4, (LSTM(4), SOFTMAX), 2)


def sweep(quick=False):
    """One layer over sizes, where all peers' memory together stays below some 16 GB; quick: the
    corners."""
    units = (16, 32, 64, 128, 256, 512, 1024)
    batches = (1, 8, 32, 128, 512)
    timesteps = (10, 100, 500)
    if quick:
        units, batches, timesteps = (16, 256), (1, 128), (10, 100)
    return [
        Workload(f"units {u}, batch {b}, steps {t}", b, t, u, (LSTM(u), SOFTMAX), 2)
        for u in units
        for b in batches
        for t in timesteps
        if u * b * t <= 40_000_000
    ]
