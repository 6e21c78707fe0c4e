"""Layers that ONNX has as several nodes: normalization and attention."""

import numpy as np

from fastrnn import layers as L
from fastrnn.interop.onnx_reading import OfSizes, Part, Value, is_causal, none, reader, step

# --- LayerNormalization in single steps ---

# What a part can be of (x - mean) / sqrt(variance + epsilon) * gamma + beta: the rest of `of` is
# the value x, epsilon, gamma, beta, as far as they are known.
NORMALIZING = "variance", "mean square", "inverse", "scaled", "shift", "normal", "rms"


def normalizing(reading, node, x, number):
    """A step with a constant."""
    kind, base, *known = x.of
    if kind in NORMALIZING[:2] and node.op == "Add" and known == [None] and number.size == 1:
        return step(node, x, kind, base, float(number.reshape(())))
    if kind == "rms" and node.op == "Mul" and number.shape[-1:] == (number.size,):
        options = {"axis": -1, "epsilon": known[0]}
        weights, part = [number.reshape(-1)], base.parts[0]
        call = reading.weighted(node, L.RMSNormalization, weights, (node.outputs[0],), **options)
        return Value(Part(lambda: call(part.tensor())), base.axes)
    of_last = number.shape[-1:] == (number.size,) or number.ndim == 0
    if of_last and kind in ("inverse", "normal") and node.op == "Mul" and len(known) == 1:
        value = step(node, x, kind, base, *known, number.reshape(-1))
        return _layer_of_steps(reading, node, value) if kind == "normal" else value
    if of_last and kind == "shift" and node.op == "Add" and len(known) == 2:
        return step(node, x, kind, base, *known, number.reshape(-1))
    if of_last and kind == "normal" and node.op == "Add" and len(known) <= 2:
        gamma = known[1] if len(known) == 2 else None
        value = step(node, x, kind, base, known[0], gamma, number.reshape(-1))
        return _layer_of_steps(reading, node, value)
    reading.refuse(node)


def normalized(reading, node, x, y):
    """A step with another value, or None where this is none."""
    if node.op == "Sub" and y.of[0] == "mean" and y.of[1].parts[0] is x.parts[0]:
        parts = x.parts[0], y.parts[0]
        made = Part(lambda: L.Subtract()([part.tensor() for part in parts]), ("centred", x))
        return Value(made, x.axes)
    if node.op == "Mul" and x.parts[0] is y.parts[0] and x.of[0] == "centred":
        part = x.parts[0]
        made = Part(lambda: L.Multiply()([part.tensor()] * 2), ("squares", x.of[1]))
        return Value(made, x.axes)
    if node.op == "Mul" and x.parts[0] is y.parts[0]:
        part = x.parts[0]
        made = Part(lambda: L.Multiply()([part.tensor()] * 2), ("own squares", x))
        return Value(made, x.axes)
    if node.op == "Div" and y.of[0] == "root" and y.of[1].parts[0] is x.parts[0]:
        return step(node, x, "rms", *y.of[1:])
    if node.op == "Div" and x.of[0] == "centred" and y.of[0] == "deviation":
        if y.of[1] is x.of[1]:
            return _layer_of_steps(reading, node, step(node, x, "normal", *y.of[1:]))
    for one, other in ((x, y), (y, x)):
        if other.of[0] == "inverse" and node.op == "Mul":
            _, base, *known = other.of
            known += [None] * (2 - len(known))
            if one.parts[0] is base.parts[0]:
                return step(node, one, "scaled", base, *known)
            if one.of[0] == "negative mean" and one.of[1].parts[0] is base.parts[0]:
                return step(node, one, "shift", base, *known)
        if one.of[0] == "scaled" and other.of[0] == "shift" and node.op == "Add":
            _, base, epsilon, gamma = one.of
            if other.of[1].parts[0] is base.parts[0] and other.of[3] is gamma:
                beta = other.of[4] if len(other.of) == 5 else None
                value = step(node, one, "normal", base, epsilon, gamma, beta)
                return _layer_of_steps(reading, node, value)
    return None


def _layer_of_steps(reading, node, value):
    _, base, epsilon, *weights = value.of
    gamma, beta = [*weights, None, None][:2]
    units = reading.sizes(node.outputs[0])[-1]
    arrays = [np.broadcast_to(a, units) for a in (gamma, beta) if a is not None]
    options = {"epsilon": epsilon, "scale": gamma is not None, "center": beta is not None}
    call = reading.weighted(node, L.LayerNormalization, arrays, (node.outputs[0],), **options)
    part = base.parts[0]
    return Value(Part(lambda: call(part.tensor()), value.of), base.axes)


@reader("Sqrt", "Reciprocal", "Neg")
def _of_one(reading, node, x):
    kind, *rest = x.of
    kinds = {
        ("Sqrt", "variance"): "deviation",
        ("Sqrt", "mean square"): "root",
        ("Sqrt", "square sum"): "norm",
        ("Reciprocal", "deviation"): "inverse",
        ("Neg", "mean"): "negative mean",
    }
    made = kinds.get((node.op, kind))
    if made is None or None in rest:
        reading.refuse(node)
    return step(node, x, made, *rest)


# --- attention ---


def additive_scores(x, outer):
    _, query, key, _, inner = x.of
    of = ("scores", query, key, inner, False, outer)
    return Value(Part(lambda: none("scores of sums"), of), (0, 1, 2))


@reader("Where")
def _where(reading, node, seen, x, less):
    if isinstance(seen, OfSizes) and isinstance(x, Value) and x.of[0] == "head scores":
        if isinstance(less, np.ndarray) and np.all(less == np.float32(-1e9)):
            if is_causal(seen):
                return step(node, x, *x.of[:4], True)
    if isinstance(seen, OfSizes) and isinstance(x, Value) and x.of[0] == "scores":
        if isinstance(less, Value) and less.of == ("less", x.parts[0]):
            if is_causal(seen):
                kind, query, key, scale, _, *outer = x.of
                of = (kind, query, key, scale, True, *outer)
                return Value(Part(lambda: none(node), of), x.axes)
    reading.refuse(node)


class AttentionCall:
    """A call of an attention layer, which gives the shares too where they are needed. make: a
    function that calls the layer with return_attention_scores, once the values are known."""

    def __init__(self, reading, key, fallback):
        self.reading, self.key, self.fallback = reading, ("shares", key), fallback
        self.make = self._outputs = None

    def output(self):
        return self._called()[0]

    def shares(self):
        self.reading.needs.setdefault(self.key, set()).add(True)
        return self.fallback() if self.make is None else self._called()[1]

    def _called(self):
        if self._outputs is None:
            scores = self.reading.deciding or self.key in self.reading.needs
            y = self.make(scores)
            self._outputs = y if scores else [y]
        return self._outputs


def _attended(reading, node, of, value):
    _, call, query, key, scale, causal, *outer = of
    if call.make is not None:
        reading.refuse(node, "its shares are read twice")
    if outer and scale is None:
        weights, cls, arguments = [outer[0]], L.AdditiveAttention, ()
    elif outer:
        if np.any(outer[0] != outer[0][0]):
            reading.refuse(node)
        weights, cls, arguments = [scale, outer[0][0]], L.Attention, (True, "concat")
    else:
        weights, cls = [] if scale is None else [scale], L.Attention
        arguments = (scale is not None,)

    def make(scores):
        layer = reading.layer(node, lambda **name: cls(*arguments, **name))
        tensors = [query.tensor(), value.tensor()]
        if key is not value and key.tensor() is not tensors[1]:
            tensors.append(key.tensor())
        options = {"return_attention_scores": True} if scores else {}
        y = layer(tensors, **options, **({"use_causal_mask": True} if causal else {}))
        layer.set_weights(weights)
        return y

    call.make = make
    return Value(Part(call.output), (0, 1, 2))


def reshaped_heads(reading, node, x, before, after):
    """The heads side by side, (batch, T, heads * size)."""
    if x.of[0] != "head context" or x.axes != (0, 2, 1, 3):
        return None
    if after != [*before[:2], before[2] * before[3]]:
        return None
    return Value(Part(lambda: none(node), ("context", *x.of[1:])), (0, 1, 2))


def heads_layer(reading, node, of, kernel, bias):
    """A function that calls MultiHeadAttention, whose last projection is this one."""
    _, (call, query, key, factor, causal), value = of
    (*_, heads, size), (*_, value_size) = query, value
    biases = [part[2] for part in (query, key, value)] + [bias]
    if len({b is None for b in biases}) > 1:  # until that of this projection is read
        return lambda: none(node)
    if key[3:] != query[3:] or value[3] != heads:
        reading.refuse(node)
    if factor is None or not np.isclose(factor, size**-0.5):
        reading.refuse(node, "expected products of queries and keys by the root of their size")
    weights = []
    for _, matrix, own, *sizes in (query, key, value):
        weights.append(matrix.reshape(-1, *sizes))
        weights += [] if own is None else [own.reshape(sizes)]
    weights.append(kernel.reshape(heads, value_size, -1))
    weights += [] if bias is None else [bias]
    if call.make is not None:
        return call.output

    def make(scores):
        x, v, k = (reading.plain(part[0], node) for part in (query, value, key))
        out = kernel.shape[1] if kernel.shape[1] != x.tensor().shape[-1] else None
        layer = reading.layer(
            node,
            lambda **name: L.MultiHeadAttention(
                heads, size, value_size, use_bias=bias is not None, output_shape=out, **name
            ),
        )
        tensors = [x.tensor(), v.tensor()]
        if key[0].parts[0] is not value[0].parts[0]:
            tensors.append(k.tensor())
        options = {"return_attention_scores": True} if scores else {}
        y = layer(*tensors, **options, **({"use_causal_mask": True} if causal else {}))
        layer.set_weights(weights)
        return y

    def output():
        call.make = call.make or make
        return call.output()

    return output


def product(reading, node, x, y):
    """Sums of products of what two layers give."""
    if x.of[0] == "shares" and x.is_plain() and y.is_plain() and y.rank == 3:
        return _attended(reading, node, x.of, y.parts[0])
    if x.of[0] == "heads" and y.of[0] == "heads":
        if (x.axes, y.axes) == ((0, 2, 1, 3), (0, 2, 3, 1)):
            of = ("head scores", x.of[1:], y.of[1:], None, False)
            return Value(Part(lambda: none(node), of), range(4))
    if x.of[0] == "head shares" and y.of[0] == "heads" and y.axes == (0, 2, 1, 3):
        return step(node, x, "head context", x.of[1:], y.of[1:])
    left, right = reading.one(node, x), reading.one(node, y)
    if not (x.rank == y.rank == 3 and x.axes[0] == y.axes[0] == 0):
        reading.refuse(node, "expected two inputs of three axes, the first of them the batch")
    if {*x.axes} != {0, 1, 2} or {*y.axes} != {0, 1, 2}:
        left, right = reading.plain(x, node), reading.plain(y, node)
        axes = 2, 1
    else:
        axes = x.axes[2], y.axes[1]
    of, options = ("scores", left, right, None, False) if axes == (2, 2) else (None,), {}
    if x.of[0] == y.of[0] == "unit" and (x.of[3], y.of[3]) == (np.float32(1e7),) * 2:
        if all(p.of[2] == [axis] for p, axis in zip((x, y), axes, strict=True)):
            left, right, options, of = x.of[1], y.of[1], {"normalize": True}, (None,)
    make = lambda: L.Dot(axes, **options)([left.tensor(), right.tensor()])  # noqa: E731
    return Value(Part(make, of), (0, 1, 2))
