"""Networks as data: layers and what is made of them, with shapes, random weights and data, and what
they compute, in NumPy."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

# --- layers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Input:
    """Random numbers of this shape beside the batch; where there are classes, their numbers from 1
    on, or one_hot, on a last axis. padded: zeros after a third of the steps or more."""

    shape: tuple
    classes: int | None = None
    one_hot: bool = False
    padded: bool = False

    @property
    def sizes(self):
        return (*self.shape, self.classes) if self.one_hot else self.shape

    @property
    def indices(self):
        return self.classes is not None and not self.one_hot

    def data(self, rng, samples):
        shape = (samples, *self.shape)
        if self.classes is None:
            return rng.standard_normal(shape, dtype=np.float32)
        if self.one_hot:
            return np.eye(self.classes, dtype=np.float32)[rng.integers(0, self.classes, shape)]
        numbers = rng.integers(1, self.classes, shape, dtype=np.int32)
        if self.padded:
            (steps,) = self.shape
            numbers[np.arange(steps) >= rng.integers(steps // 3, steps + 1, (samples, 1))] = 0
        return numbers


@dataclass(frozen=True)
class Embedding:
    """masked: index 0 is padding."""

    size: int
    width: int
    masked: bool = False


@dataclass(frozen=True)
class LSTM:
    """Of one input, or of an input and the states h and c. states: gives the last ones too, those
    of both directions."""

    units: int
    sequences: bool = False
    bidirectional: bool = False
    states: bool = False

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
    """On the last axis; the last layer before each output of a network."""

    units: int
    activation: str | None = None


@dataclass(frozen=True)
class Concatenate:
    """Along the last axis."""


@dataclass(frozen=True)
class Attention:
    """Luong's, of [query, value]."""


@dataclass(frozen=True)
class SoftmaxOverTime:
    pass


@dataclass(frozen=True)
class WeightedSum:
    """Of [weights (timesteps, 1), values (timesteps, width)] over time -> (width)."""


@dataclass(frozen=True)
class CRF:
    """The path of tags with the highest score, one-hot, and the first tag where there is padding;
    of what a Dense makes of the input."""

    units: int


class Node(NamedTuple):
    """One layer of a network; names of what it puts out and of what it gets."""

    outputs: tuple
    layer: object
    inputs: tuple


def node(outputs, layer, inputs=""):
    return Node(tuple(outputs.split()), layer, tuple(inputs.split()))


def _shapes(layer, shapes):
    """Of what a layer puts out, for those of its inputs, without the batch."""
    first = shapes[0] if shapes else ()
    match layer:
        case Input():
            return [layer.sizes]
        case Embedding(width=width):
            return [(*first, width)]
        case LSTM(units=units):
            out = (*first[:1], layer.width) if layer.sequences else (layer.width,)
            return [out] + [(units,)] * (2 * layer.states * (1 + layer.bidirectional))
        case Dense(units=units) | CRF(units):
            return [(*first[:-1], units)]
        case Concatenate():
            return [(*first[:-1], sum(shape[-1] for shape in shapes))]
        case Attention():
            return [(*first[:-1], shapes[1][-1])]
        case WeightedSum():
            return [shapes[1][1:]]
    return [first]


def _flops(layer, shapes):
    """Of the products of matrices."""
    first = shapes[0] if shapes else ()
    match layer:
        case LSTM():
            return 8 * first[0] * layer.width * (layer.units + first[-1])
        case Dense() | CRF():
            return 2 * int(np.prod(first)) * layer.units
        case Attention():
            return 4 * shapes[0][0] * shapes[1][0] * shapes[1][1]
        case WeightedSum():
            return 2 * int(np.prod(shapes[1]))
    return 0


def _weights(layer, shapes, rng):
    """In Keras's order; for an LSTM, kernel, recurrent_kernel and bias of each direction."""

    def uniform(*shape, fan):
        return rng.uniform(-(fan**-0.5), fan**-0.5, shape).astype(np.float32)

    match layer:
        case Embedding(size, width):
            return [uniform(size, width, fan=1)]
        case LSTM(units=units):
            sizes = ((shapes[0][-1], 4 * units), (units, 4 * units), (4 * units,))
            return [
                uniform(*shape, fan=units)
                for _ in range(1 + layer.bidirectional)
                for shape in sizes
            ]
        case Dense(units=units):
            inputs = shapes[0][-1]
            return [uniform(*shape, fan=inputs) for shape in ((inputs, units), (units,))]
        case CRF(n):
            shapes = (shapes[0][-1], n), (n, n), (n,), (n,), (n,)
            return [uniform(*shape, fan=1) for shape in shapes]
    return []


# --- networks -------------------------------------------------------------------------------------


class Network:
    """What chains and graphs share. A subclass has name, batch, nodes and outputs (names); steps:
    batches in an epoch, epochs: of one timed call of train, sparse: are targets class numbers?"""

    kinds = ("train", "predict", "one")
    epochs = 1
    sparse = False
    scale = 1.0

    @cached_property
    def inputs(self):
        """{name: Input}"""
        return {n.outputs[0]: n.layer for n in self.nodes if isinstance(n.layer, Input)}

    @property
    def heads(self):
        """The layer before each output."""
        return [next(n.layer for n in self.nodes if name in n.outputs) for name in self.outputs]

    @property
    def plain(self):
        """Does the network compute the same in training and inference?"""
        return not any(isinstance(n.layer, (Dropout, BatchNormalization)) for n in self.nodes)

    @property
    def losses(self):
        """One for each output."""
        return [
            "crf" if isinstance(head, CRF)
            else "binary_crossentropy" if head.activation == "sigmoid"
            else "mean_squared_error" if head.units == 1
            else "sparse_categorical_crossentropy" if self.sparse
            else "categorical_crossentropy"
            for head in self.heads
        ]  # fmt: skip

    def shapes(self):
        """{name: shape without the batch}"""
        return _walk(self.nodes, lambda n, shapes: _shapes(n.layer, shapes))

    def _with_shapes(self):
        """(node, shapes of its inputs)"""
        shapes = self.shapes()
        return [(n, [shapes[name] for name in n.inputs]) for n in self.nodes]

    def flops(self, kind):
        """Of one training step, one batch or one sample; training is counted as three times the
        forward, as is usual, although no gradient of the network's input is needed."""
        total = sum(_flops(n.layer, shapes) for n, shapes in self._with_shapes())
        return total * {"train": 3 * self.batch, "predict": self.batch, "one": 1}[kind]

    def parameters(self):
        """(node, its weights) of all nodes but the inputs."""
        rng = np.random.default_rng(1)
        return [
            (n, [w * np.float32(self.scale) for w in _weights(n.layer, shapes, rng)])
            for n, shapes in self._with_shapes()
            if not isinstance(n.layer, Input)
        ]

    def data(self):
        """(arrays of the inputs, targets of the outputs) of an epoch."""
        return _data(self)

    def reference(self, xs):
        """The outputs for arrays of the inputs, step by step."""
        given = dict(zip(self.inputs, xs, strict=True))
        weights = {n.outputs: w for n, w in self.parameters()}
        padded = [name for name, layer in self.inputs.items() if layer.padded]
        mask = given[padded[0]] != 0 if padded else None

        def compute(n, values):
            if isinstance(n.layer, Input):
                return [given[n.outputs[0]]]
            return _computed(n.layer, weights[n.outputs], values, mask)

        values = _walk(self.nodes, compute)
        return [values[name] for name in self.outputs]


def _walk(nodes, function):
    """{name: what function(node, [its inputs' values]) gave for it}"""
    values = {}
    for n in nodes:
        outs = function(n, [values[name] for name in n.inputs])
        values.update(zip(n.outputs, outs, strict=True))
    return values


@lru_cache(maxsize=1)
def _data(network):
    rng = np.random.default_rng(0)
    samples = network.batch * network.steps
    xs = [layer.data(rng, samples) for layer in network.inputs.values()]
    ys, shapes = [], network.shapes()
    for name, loss in zip(network.outputs, network.losses, strict=True):
        shape = (samples, *shapes[name])
        if loss == "categorical_crossentropy":
            ys.append(np.eye(shape[-1], dtype=np.float32)[rng.integers(0, shape[-1], shape[:-1])])
        elif loss in ("sparse_categorical_crossentropy", "crf"):
            ys.append(rng.integers(0, shape[-1], shape[:-1], dtype=np.int32))
        else:
            ys.append(rng.integers(0, 2, shape).astype(np.float32))
    return xs, ys


@dataclass(frozen=True)
class Chain(Network):
    """Layers one after another on data (timesteps, features), or on indices if the first is an
    Embedding."""

    name: str
    batch: int
    timesteps: int
    features: int
    layers: tuple
    steps: int = 4
    epochs: int = 1

    @cached_property
    def nodes(self):
        steps = (self.timesteps,)
        first = Input((*steps, self.features))
        if self.embedding:
            first = Input(steps, self.embedding.size)
        nodes, below = [node("x", first)], "x"
        for number, layer in enumerate(self.layers):
            nodes.append(node(f"layer{number}", layer, below))
            (below,) = nodes[-1].outputs
        return tuple(nodes)

    @property
    def outputs(self):
        return self.nodes[-1].outputs

    @property
    def embedding(self):
        return self.layers[0] if isinstance(self.layers[0], Embedding) else None

    @property
    def sequences(self):
        return [layer for layer in self.layers if isinstance(layer, LSTM)][-1].sequences

    def widths(self):
        """(layer, size of its input's last axis) for each layer."""
        shapes = self.shapes()
        for n in self.nodes[1:]:
            width = shapes[n.inputs[0]][-1]
            yield n.layer, self.features if isinstance(n.layer, Embedding) else width


@dataclass(frozen=True)
class Graph(Network):
    """Any network of nodes."""

    name: str
    batch: int
    nodes: tuple
    outputs: tuple
    steps: int = 4
    sparse: bool = False
    scale: float = 1.0  # of the weights


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding of so many characters for one sequence, step by step: the encoder gives the
    states from which the decoder starts, which takes a character, one-hot, and the states.
    calls: "predict" or "compiled", the way in which networks of Keras's kind are called."""

    name: str
    encoder: Graph
    decoder: Graph
    calls: str
    length: int = 100

    kinds = ("one",)
    batch = steps = epochs = 1
    plain = True

    def flops(self, kind):
        return self.encoder.flops("one") + self.length * self.decoder.flops("one")

    @cached_property
    def source(self):
        """The sequence that is decoded, (1, timesteps, characters)."""
        (layer,) = self.encoder.inputs.values()
        return layer.data(np.random.default_rng(0), 1)

    def greedy(self, encode, step):
        """The characters' numbers; encode and step take and give lists of arrays."""
        characters = self.decoder.heads[0].units
        states, best, decoded = encode([self.source]), 0, []
        for _ in range(self.length):
            token = np.zeros((1, 1, characters), np.float32)
            token[0, 0, best] = 1
            scores, *states = step([token, *states])
            best = int(np.argmax(np.asarray(scores)[0, -1]))
            decoded.append(best)
        return decoded


# --- what they compute ----------------------------------------------------------------------------


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z, axis=-1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


ACTIVATIONS = {None: lambda z: z, "sigmoid": sigmoid, "softmax": softmax, "tanh": np.tanh}


def _computed(layer, weights, xs, mask=None):
    """What a layer puts out, a list. mask (batch, timesteps): False where there is padding."""
    x = xs[0]
    match layer:
        case Embedding():
            return [weights[0][x]]
        case LSTM(sequences=sequences):
            y, *states = _lstm(*xs, weights=weights[:3], mask=mask)
            ys = [y]
            if layer.bidirectional:
                turned = None if mask is None else mask[:, ::-1]
                y, *others = _lstm(x[:, ::-1], weights=weights[3:], mask=turned)
                ys.append(y[:, ::-1] if sequences else y)
                states += others
            if not sequences:
                ys = [y[:, -1] for y in ys]
            return [np.concatenate(ys, axis=-1), *(states if layer.states else ())]
        case Dense():
            return [ACTIVATIONS[layer.activation](x @ weights[0] + weights[1])]
        case Concatenate():
            return [np.concatenate(xs, axis=-1)]
        case Attention():
            return [softmax(x @ xs[1].swapaxes(1, 2)) @ xs[1]]
        case SoftmaxOverTime():
            return [softmax(x, axis=1)]
        case WeightedSum():
            return [(x * xs[1]).sum(axis=1)]
        case CRF(tags):
            kernel, chain, bias, left, right = weights
            scores, lengths = x @ kernel + bias, mask.sum(axis=1)
            paths = [
                _best_path(rows[:length], chain, left, right)
                for rows, length in zip(scores, lengths, strict=True)
            ]
            return [one_hot_paths(paths, x.shape[1], tags)]
    raise NotImplementedError(f"a reference of {layer}")


def _best_path(scores, chain, left, right):
    total, back = scores[0] + left, []
    for row in scores[1:]:
        ways = total[:, None] + chain
        back.append(ways.argmax(axis=0))
        total = ways.max(axis=0) + row
    path = [int((total + right).argmax())]
    for before in reversed(back):
        path.insert(0, int(before[path[0]]))
    return path


def one_hot_paths(paths, timesteps, tags):
    """Paths of their own lengths as a CRF puts them out."""
    numbers = np.zeros((len(paths), timesteps), int)
    for row, path in zip(numbers, paths, strict=True):
        row[: len(path)] = path
    return np.eye(tags, dtype=np.float32)[numbers]


def _lstm(x, h=None, c=None, weights=(), mask=None):
    """-> h of all time steps, the last h, the last c"""
    kernel, recurrent_kernel, bias = weights
    if h is None:
        h = c = np.zeros((len(x), len(recurrent_kernel)), np.float32)
    states = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
        new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        new_h = sigmoid(o) * np.tanh(new_c)
        on = True if mask is None else mask[:, t, None]
        h, c = np.where(on, new_h, h), np.where(on, new_c, c)
        states.append(h)
    return np.stack(states, axis=1), h, c
