"""Random graphs of layers, written down once and built of Keras's layers or of fastrnn's.

A tensor is a sequence "s" (STEPS, UNITS), a vector "v" (UNITS) or words "w" (STEPS). Each of KINDS
says which it needs, which it gives, and has a function that makes layers of a library, by random
choices of the program, and returns a function of tensors. Where an instruction is shared, that is
called again."""

import numpy as np

UNITS = 3
STEPS = 5


def layer(make):
    """make(layers, choose) -> a layer of one input."""
    return lambda library, choose: make(library.layers, choose)


def of_list(make):
    """The same of a layer of several inputs."""

    def made(library, choose):
        called = make(library.layers, choose)
        return lambda *tensors: called([*tensors])

    return made


def then_dense(make):
    """The same, and UNITS of what it gives, flat or in each step."""

    def made(library, choose):
        called, dense = make(library.layers, choose), library.layers.Dense(UNITS, "tanh")
        return lambda *tensors: dense(called([*tensors] if len(tensors) > 1 else tensors[0]))

    return made


def operation(compute):
    """compute(ops, tensors)"""
    return lambda library, choose: lambda *tensors: compute(library.ops, tensors)


def flat(make):
    """then_dense of all that a layer of several inputs gives."""

    def made(library, choose):
        layers = library.layers
        called, flatten = make(layers, choose), layers.Flatten()
        dense = layers.Dense(UNITS, "tanh")
        return lambda *tensors: dense(flatten(called([*tensors])))

    return made


def recurrent(name, **options):
    return layer(lambda la, choose: getattr(la, name)(UNITS, **options))


def from_states(make):
    """make(layers) -> a recurrent layer of a sequence and states to start from."""

    def made(library, choose):
        called = make(library.layers)
        return lambda x, *states: called(x, initial_state=[*states])

    return made


def with_states(library, choose):
    return library.layers.LSTM(UNITS, return_sequences=True, return_state=True)


def apart(library, choose):
    layers = library.layers
    return layers.Bidirectional(layers.GRU(UNITS, return_sequences=True), merge_mode=None)


def heads(library, choose):
    return library.layers.MultiHeadAttention(2, 2, use_bias=choose(2) == 1)


def inner(library, choose):
    """A model within the model, of a sequence and a vector."""
    layers = library.layers
    one, other = library.Input((STEPS, UNITS)), library.Input((UNITS,))
    h = layers.GRU(UNITS)(one)
    sums = layers.Add()([h, layers.Dense(UNITS, "tanh")(other)])
    steps = layers.Multiply()([one, layers.RepeatVector(STEPS)(sums)])
    model = library.Model([one, other], [steps, sums])
    return lambda x, y: model([x, y])


def chain(library, choose):
    layers = library.layers
    return library.Sequential([
        library.Input((STEPS, UNITS)), layers.Conv1D(UNITS, 2, padding="causal"),
        layers.SimpleRNN(UNITS, return_sequences=True),
    ])  # fmt: skip


MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")


def merge(layers, choose):
    return getattr(layers, MERGES[choose(len(MERGES))])()


def embedding(layers, choose):
    return layers.Embedding(7, UNITS, mask_zero=choose(2) == 1)


def gru(layers, choose):
    return layers.GRU(UNITS, return_sequences=True, reset_after=choose(2) == 1)


def both_ways(layers, choose):
    mode = ("sum", "ave", "mul")[choose(3)]
    return layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), mode)


def cells(layers, choose):
    return layers.RNN([layers.LSTMCell(UNITS), layers.GRUCell(UNITS)], return_sequences=True)


def convolution(layers, choose):
    return layers.Conv1D(UNITS, 3, padding=("same", "causal")[choose(2)], activation="tanh")


def separable(layers, choose):
    return layers.SeparableConv1D(UNITS, 2, padding="same")


def padded_and_cropped(library, choose):
    pad, crop = library.layers.ZeroPadding1D((1, 1)), library.layers.Cropping1D((2, 0))
    return lambda x: crop(pad(x))


def backwards(layers, choose):
    return layers.SimpleRNN(UNITS, return_sequences=True, go_backwards=True)


def lstm_both_ways(layers):
    return layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), merge_mode="sum")


def both_ways_with_states(library, choose):
    layers = library.layers
    one = layers.GRU(UNITS, return_sequences=True, return_state=True)
    return layers.Bidirectional(one, merge_mode="ave")


def cell(layers):
    return layers.RNN(layers.GRUCell(UNITS), return_sequences=True, return_state=True)


def model_of_steps(library, choose):
    layers = library.layers
    each = library.Sequential([
        library.Input((UNITS,)), layers.Dense(4, "tanh"), layers.Dense(UNITS),
    ])  # fmt: skip
    return layers.TimeDistributed(each)


def model_of_models(library, choose):
    layers = library.layers
    x, gru = library.Input((STEPS, UNITS)), layers.GRU(UNITS, return_sequences=True)
    within = library.Model(x, [gru(x), layers.GlobalMaxPooling1D()(x)])
    start = library.Input((STEPS, UNITS))
    steps, first = within(start)
    steps, second = within(steps)
    return library.Model(start, [steps, layers.Add()([first, second])])


def resampled(library, choose):
    more, fewer = library.layers.UpSampling1D(2), library.layers.AveragePooling1D(2)
    return lambda x: fewer(more(x))


def attended(ops, xs):
    weights = ops.softmax(ops.matmul(xs[0], ops.transpose(xs[1], (0, 2, 1))))
    return ops.matmul(weights, xs[1])


def turned(ops, xs):
    return ops.concatenate([xs[0][:, 1:], xs[0][:, :1]], axis=1)


KINDS = {
    "Embedding": ("w", "s", layer(embedding)),
    "LSTM": ("s", "s", recurrent("LSTM", return_sequences=True)),
    "GRU": ("s", "s", layer(gru)),
    "SimpleRNN backwards": ("s", "s", layer(backwards)),
    "both ways": ("s", "s", layer(both_ways)),
    "both ways, joined": ("s", "v", then_dense(lambda la, _: la.Bidirectional(la.GRU(UNITS)))),
    "both ways, apart": ("s", "ss", apart),
    "cells": ("s", "s", layer(cells)),
    "with states": ("s", "svv", with_states),
    "GRU from": ("sv", "s", from_states(lambda la: la.GRU(UNITS, return_sequences=True))),
    "LSTM from": ("svv", "s", from_states(lambda la: la.LSTM(UNITS, return_sequences=True))),
    "LSTM from, both ways": ("svvvv", "s", from_states(lstm_both_ways)),
    "both ways with states": ("s", "svv", both_ways_with_states),
    "cell from": ("sv", "sv", from_states(cell)),
    "last of LSTM": ("s", "v", recurrent("LSTM")),
    "last of SimpleRNN": ("s", "v", recurrent("SimpleRNN")),
    "Dense of steps": ("s", "s", layer(lambda la, _: la.Dense(UNITS, "tanh"))),
    "TimeDistributed": ("s", "s", layer(lambda la, _: la.TimeDistributed(la.Dense(UNITS)))),
    "model of steps": ("s", "s", model_of_steps),
    "Conv1D": ("s", "s", layer(convolution)),
    "SeparableConv1D": (
        "s",
        "s",
        layer(separable),
    ),
    "padded and cropped": ("s", "s", padded_and_cropped),
    "resampled": ("s", "s", resampled),
    "LayerNormalization": ("s", "s", layer(lambda la, _: la.LayerNormalization())),
    "BatchNormalization": ("v", "v", layer(lambda la, _: la.BatchNormalization())),
    "merged steps": ("ss", "s", of_list(merge)),
    "merged": ("vv", "v", of_list(merge)),
    "joined steps": ("ss", "s", then_dense(lambda la, _: la.Concatenate())),
    "joined": ("vv", "v", then_dense(lambda la, _: la.Concatenate())),
    "joined along time": ("ss", "v", flat(lambda la, _: la.Concatenate(axis=1))),
    "Dot of steps": ("ss", "v", flat(lambda la, choose: la.Dot(((1, 1), (2, 2))[choose(2)]))),
    "Dot": ("vv", "v", then_dense(lambda la, choose: la.Dot(1, normalize=choose(2) == 1))),
    "Attention": ("ss", "s", of_list(lambda la, choose: la.Attention(use_scale=choose(2) == 1))),
    "AdditiveAttention": ("ss", "s", of_list(lambda la, _: la.AdditiveAttention())),
    "heads": ("ss", "s", heads),
    "Dense": ("v", "v", layer(lambda la, _: la.Dense(UNITS, "softsign"))),
    "repeated": ("v", "s", layer(lambda la, _: la.RepeatVector(STEPS))),
    "mean": ("s", "v", layer(lambda la, _: la.GlobalAveragePooling1D())),
    "largest": ("s", "v", layer(lambda la, _: la.GlobalMaxPooling1D())),
    "flat": ("s", "v", then_dense(lambda la, _: la.Flatten())),
    "x + y": ("ss", "s", operation(lambda ops, xs: xs[0] * 0.5 + xs[1])),
    "x - y": ("vv", "v", operation(lambda ops, xs: 1.0 - xs[0] * ops.tanh(xs[1]))),
    "last step": ("s", "v", operation(lambda ops, xs: xs[0][:, -1])),
    "sum of steps": ("s", "v", operation(lambda ops, xs: ops.tanh(ops.sum(xs[0], axis=1)))),
    "turned": ("s", "s", operation(turned)),
    "attended": ("ss", "s", operation(attended)),
    "x * y": ("sv", "s", operation(lambda ops, xs: ops.sigmoid(xs[0]) * ops.expand_dims(xs[1], 1))),
    "a model": ("sv", "sv", inner),
    "a model of models": ("s", "sv", model_of_models),
    "a chain": ("s", "s", chain),
}
ONCE = {"Embedding"}
OPERATIONS = {
    "x + y", "x - y", "last step", "sum of steps", "turned", "attended", "x * y",
}  # fmt: skip
WITH_MODELS = {"a model", "a model of models", "a chain", "model of steps"}
OF_FIXED_STEPS = {"repeated", "flat", "joined along time", "Dot of steps", *WITH_MODELS}
# to_model makes no layers of these; the weights of BatchNormalization are random there.
NOT_FROM_ONNX = {*OPERATIONS, "SimpleRNN backwards", "BatchNormalization"}
# Keras leaves the mask out where states are given, and takes it off what MultiHeadAttention reads.
UNMASKED = {"GRU from", "LSTM from", "LSTM from, both ways", "cell from", "heads"}


class Program:
    """inputs: kinds of tensors; instructions (kind, numbers of the tensors it reads, number of an
    earlier instruction whose layers it calls again or None, seed of its choices); outputs: numbers
    of tensors. kinds: those of KINDS that it may have."""

    def __init__(self, seed, kinds=None):
        rng = np.random.default_rng(seed)
        self.kinds = [kind for kind in KINDS if kind not in ONCE and (not kinds or kind in kinds)]
        self.inputs = [str(kind) for kind in rng.choice([*"ssvw"], rng.integers(1, 4))]
        self.instructions, self.tensors, self.masked = (
            [],
            [*self.inputs],
            [False] * len(self.inputs),
        )
        self.read = set()
        for place, kind in enumerate(self.inputs):
            if kind == "w":
                self._add("Embedding", [place], None, int(rng.integers(1 << 30)))
        wanted, earlier = len(self.instructions) + rng.integers(3, 10), {}
        for _ in range(200):
            if len(self.instructions) >= wanted:
                break
            kind = self.kinds[rng.integers(len(self.kinds))]
            places = [self._some(rng, need, kind in UNMASKED) for need in KINDS[kind][0]]
            if None in places:
                continue
            shared = earlier.get(kind) if rng.integers(3) == 0 else None
            number = self._add(kind, places, shared, int(rng.integers(1 << 30)))
            earlier.setdefault(kind, number)
        ends = [n for n, kind in enumerate(self.tensors) if n not in self.read and kind != "w"]
        self.outputs = [n for n in ends if n >= len(self.inputs)][-3:] or [len(self.tensors) - 1]

    def _some(self, rng, kind, unmasked):
        found = [
            n for n, k in enumerate(self.tensors) if k == kind and not (unmasked and self.masked[n])
        ]
        return int(rng.choice(found)) if found else None

    def _add(self, kind, places, shared, seed):
        masked = kind == "Embedding" or any(self.masked[place] for place in places)
        self.instructions.append((kind, places, shared, seed))
        self.read.update(places)
        gives = KINDS[kind][1]
        self.tensors += gives
        self.masked += [masked and given == "s" for given in gives]
        return len(self.instructions) - 1

    def names(self):
        return {kind for kind, *_ in self.instructions}

    def build(self, library, steps=STEPS):
        """(the library's model, the kinds of its inputs)"""
        shapes = {"s": (steps, UNITS), "v": (UNITS,), "w": (steps,)}
        made = []
        tensors = [
            library.Input(shapes[kind], dtype="int32" if kind == "w" else "float32", name=f"t{n}")
            for n, kind in enumerate(self.inputs)
        ]
        first, needed = len(self.inputs), self._needed()
        for number, (kind, places, shared, seed) in enumerate(self.instructions):
            made.append(None)
            gives = KINDS[kind][1]
            if number not in needed:
                tensors += [None] * len(gives)
                continue
            call = made[shared] if shared is not None else None
            if call is None:
                draws = np.random.default_rng(seed)
                call = KINDS[kind][2](library, lambda n, draws=draws: int(draws.integers(n)))
            made[number] = call
            out = call(*[tensors[place] for place in places])
            tensors += out if isinstance(out, (list, tuple)) else [out]
        kept = [place for place in range(first) if any(
            place in self.instructions[number][1] for number in needed
        )]  # fmt: skip
        model = library.Model([tensors[n] for n in kept], [tensors[n] for n in self.outputs])
        return model, [self.inputs[n] for n in kept]

    def _needed(self):
        """The instructions that the outputs depend on."""
        makers, at = {}, len(self.inputs)
        for number, (kind, *_) in enumerate(self.instructions):
            for _ in KINDS[kind][1]:
                makers[at] = number
                at += 1
        found, pending = set(), list(self.outputs)
        while pending:
            number = makers.get(pending.pop())
            if number is not None and number not in found:
                found.add(number)
                pending += self.instructions[number][1]
        return found


def data(rng, kinds, samples=6, steps=STEPS):
    """Arrays for inputs of these kinds; words are padded at the end."""
    makers = {
        "s": lambda: rng.normal(size=(samples, steps, UNITS)).astype(np.float32),
        "v": lambda: rng.normal(size=(samples, UNITS)).astype(np.float32),
        "w": lambda: np.sort(rng.integers(0, 7, (samples, steps)))[:, ::-1].astype(np.int32),
    }
    return [makers[kind]() for kind in kinds]
