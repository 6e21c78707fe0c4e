"""What reads ONNX graphs as Keras layers: values, the axes that they have there and in the layers,
calls of recurrent layers."""

import collections

import numpy as np

from fastrnn import layers as L
from fastrnn.interop.onnx_operators import Budget
from fastrnn.interop.onnx_recurrent import Recurrent
from fastrnn.models import Model
from fastrnn.saving.guard import of_values

BOTH = "both"  # the axis of the two directions of a recurrent layer
SIZES = (3, 7), (2, 19)  # of batch and free axes, at which the values are looked at
READERS = {}  # operator: function of (reading, node, *inputs) that returns a value or several
MASKED = {}  # the same, of those that are given what comes of a mask

# What is computed with indices before an Embedding looks them up.
OF_INDICES = frozenset("Add Cast Identity Less Mul Not Where".split())


def samples(graph, sizes, rng, below, indexed=(), masked=None):
    """Random inputs by name, whole numbers below `below` where the graph takes such. masked: those
    of which some steps are to be masked, and the number there."""
    fed = {}
    for name, (dtype, shape) in graph.declared.items():
        if not shape:
            raise ValueError(f"input {name!r}: expected a known rank")
        size = [n or sizes[min(axis, 1)] for axis, n in enumerate(shape)]
        Budget(graph.memory_limit).check(size, 8)
        if dtype.kind in "iu" or name in indexed:
            fed[name] = rng.integers(0, below, size).astype(dtype)
        else:
            fed[name] = rng.standard_normal(size).astype(dtype)
        if masked and name in masked and len(size) > 1:
            some = rng.random(size[:2]) < 0.4
            some[0], some[-1] = np.arange(size[1]) < size[1] // 3, np.arange(size[1]) > size[1] // 2
            fed[name][some] = masked[name]
    return fed


def compare(graph, model, below, indexed=(), masked=None, layers="layers"):
    """ValueError where a model of layers gives other outputs than the graph for `samples`."""
    rng = np.random.default_rng(0)
    for sizes in SIZES:
        fed = samples(graph, sizes, rng, below, indexed, masked)
        wanted = graph(fed)  # first, as this is bounded
        wanted = wanted if isinstance(wanted, list) else [wanted]
        x = [*fed.values()]
        y = model.predict(x if len(x) > 1 else x[0], verbose=0)
        for one, other in zip(y if isinstance(y, list) else [y], wanted, strict=True):
            difference = abs(one - other).max() if one.shape == other.shape else np.inf
            if not difference <= 1e-4 * max(1, abs(other).max()):
                raise ValueError(f"graph: its {layers} are off by {difference:.3g}")


class OfSizes:
    """A value that comes of the sizes of the inputs alone; `array` is that at the first sizes."""

    def __init__(self, array):
        self.array = array


class OfMask:
    """A value that comes of a mask. causal: later steps are masked too; masking: the part that is
    compared with a number, and that number."""

    def __init__(self, causal=False, masking=None):
        self.causal, self.masking = causal, masking


class Unread:
    """A value that no layer gives, and why."""

    def __init__(self, reason):
        self.reason = reason


class Refused(Exception):
    pass


class Part:
    """The output of a layer that is made when the output is needed first; `of` says more about it,
    to those who might make another layer of it."""

    def __init__(self, make, of=(None,)):
        self._make, self._tensor, self.of = make, None, of

    def tensor(self):
        if self._tensor is None:
            self._tensor = self._make()
        return self._tensor


class Value:
    """A value as parts, for each axis which of a part's it is: None for one of size 1 that parts do
    not have, BOTH for that of several parts, (0, 1) for the first two in one. backwards: the steps
    are in the reverse of ONNX's order; whole: indices that an input holds."""

    def __init__(self, parts, axes, backwards=False, whole=False):
        self.parts = parts if isinstance(parts, list) else [parts]
        self.axes, self.backwards, self.whole = tuple(axes), backwards, whole

    @property
    def of(self):
        return self.parts[0].of if len(self.parts) == 1 else (None,)

    @property
    def rank(self):
        return len(self.axes)

    def seen_as(self, axes):
        return Value(self.parts, axes, self.backwards, self.whole)

    def is_plain(self):
        return len(self.parts) == 1 and self.axes == tuple(range(self.rank))


class RecurrentCalls:
    """What a node for a recurrent layer gives: "y", "h" and "c", of one direction or of both.
    within: the layer is called at each step of its inputs."""

    def __init__(self, reading, node, key, make, inputs, within):
        self.reading, self.node, self.key, self.make, self.inputs = reading, node, key, make, inputs
        self.within, self._outputs = within, None

    def get(self, kind, which):
        """which: 0 or 1, of a bidirectional node also BOTH (side by side), "sum", "mul", "ave"."""
        needs = self.reading.needs.setdefault(self.key, set())
        needs.add((kind, which))
        sequences = any(k == "y" for k, _ in needs)
        state = any(k == "c" or (k == "h" and sequences) for k, _ in needs)
        main, two = "y" if sequences else "h", self.make.directions == 2
        ways = {w for k, w in needs if k == main}
        (together,) = ways if len(ways) == 1 else (None,)
        if self.reading.deciding:
            sequences, state, main, together = True, True, "y", None
            if self.within:
                sequences, state, main, together = kind == "y", False, kind, which
        if together in (0, 1):
            together = None
        mode = "concat" if together == BOTH else together
        outputs, count = self._call(sequences, state, mode), len(self.make.states)
        if kind == main and (not two or (together is not None and which == together)):
            return outputs[0]
        if kind == main and together is None:
            pair = outputs[:2]
        else:
            ends = outputs[2 if two and together is None else 1 :]
            pair = ends[self.make.states.index(kind) :: count]
        if which in (0, 1):
            return pair[which]
        if which == "ave":
            return L.Average()(pair)
        return {BOTH: L.Concatenate, "sum": L.Add, "mul": L.Multiply}[which]()(pair)

    def _call(self, sequences, state, merge_mode):
        if self._outputs is None:
            x, *states = (part.tensor() for part in self.inputs)

            def make(name=None):
                layer = self.make(sequences, state, merge_mode)
                if self.within:
                    return L.TimeDistributed(layer, name=name)
                layer.name = name or layer.name
                return layer

            if self.within and (state or (self.make.directions == 2 and merge_mode is None)):
                raise Refused(f"{self.node}: expected one output, as it is called at each step")
            layer = self.reading.layer(self.node, make, self.key)
            y = layer(x, initial_state=states) if states else layer(x)
            self._outputs = y if isinstance(y, list) else [y]
        return self._outputs


class MakesRecurrent:
    """Makes the layer of a node for a recurrent layer."""

    def __init__(self, node, weights):
        self._recurrent, self._weights = Recurrent(node.op, node.attributes), weights
        self.directions = self._recurrent.directions
        self.states = ("h", "c") if node.op == "LSTM" else ("h",)

    def __call__(self, sequences, state, merge_mode):
        return self._recurrent.keras_layer(*self._weights, sequences, state, merge_mode)


class Reading:
    """A graph's values as Keras's layers give them. needs: what is needed of recurrent layers;
    named: layers have the names of where the file comes from."""

    def __init__(self, graph, needs, deciding=False, named=True):
        self.graph, self.needs, self.deciding, self.named = graph, needs, deciding, named
        self._layers, self._names = {}, set()
        self._looked_at = [self._look_at(sizes) for sizes in SIZES]
        self.known = {name: array for name, array in graph.body.constants.items()}
        self.readers = collections.Counter(graph.outputs)
        self.readers.update(name for node in graph.body.nodes for name in node.inputs)
        self.indexed = set()  # inputs that an Embedding reads
        self.masked = {}  # inputs of which steps are masked, and the number there
        self._starts = []
        for name, (dtype, shape) in graph.declared.items():
            options = {"dtype": "int32"} if dtype.kind in "iu" else {}
            given = name if "/" not in name and ":" not in name else None
            start = L.Input(tuple(shape[1:]), name=given, **options)
            self._names.add(start.name)
            self._starts.append(start)
            part = Part(lambda start=start: start, ("input", name))
            self.known[name] = Value(part, range(len(shape)), whole=dtype.kind in "iu")
        for node in graph.body.nodes:
            self.known |= zip(node.outputs, self._read(node), strict=True)

    def model(self):
        outputs = []
        for name in self.graph.outputs:
            value = self.known[name]
            if isinstance(value, Value):
                outputs.append(self._made(self.plain, value, name))
                continue
            reason = value.reason if isinstance(value, Unread) else "it does not come of the inputs"
            raise ValueError(f"output {name!r}: {reason}; predict runs other graphs too")
        inputs = self._starts if len(self._starts) > 1 else self._starts[0]
        return Model(inputs, outputs if len(outputs) > 1 else outputs[0])

    def _made(self, make, value, name):
        try:
            return make(value).tensor()
        except Refused as error:
            raise ValueError(f"output {name!r}: {error}; predict runs other graphs too") from error

    # --- looking at the values ---

    def _look_at(self, sizes):
        """All values of a run on random inputs."""
        body, budget = self.graph.body, Budget(self.graph.memory_limit)
        values = dict(body.constants)
        values |= samples(self.graph, sizes, np.random.default_rng(1), 2)
        for node in body.nodes:
            with np.errstate(all="ignore"):
                results = node.run(values, budget)
            values |= zip(node.outputs, results, strict=True)
            budget.held += sum(array.nbytes for array in results)
        return values

    def array(self, name):
        return self._looked_at[0][name]

    def sizes(self, name):
        """The shape of a value, None where it differs with those of the inputs."""
        shapes = [values[name].shape for values in self._looked_at]
        if len(shapes[0]) != len(shapes[1]):
            raise Refused(f"the value {name!r} has no fixed rank")
        return [a if a == b else None for a, b in zip(*shapes, strict=True)]

    # --- nodes ---

    def _read(self, node):
        inputs = [self.known[name] if name else None for name in node.inputs]
        for given in inputs:
            if isinstance(given, Unread):
                return [given] * len(node.outputs)
        fixed = [given for given in inputs if given is not None]
        if node.op != "Loop":
            if all(isinstance(given, np.ndarray) for given in fixed) and fixed:
                return [self.array(name) if name else None for name in node.outputs]
            if node.op in ("Shape", "Size") or all(
                isinstance(given, (np.ndarray, OfSizes)) for given in fixed
            ):
                return [OfSizes(self.array(name)) if name else None for name in node.outputs]
            if not any(isinstance(given, Value) for given in fixed):
                return [_of_mask(node, fixed)] * len(node.outputs)
        try:
            values = self._value(node, inputs)
        except Refused as error:
            return [Unread(str(error))] * len(node.outputs)
        except Exception as error:
            if not of_values(error):
                raise
            return [Unread(f"{node}: {error}")] * len(node.outputs)
        values = values if isinstance(values, list) else [values]
        return values + [Unread(f"{node}: no layer gives this")] * (len(node.outputs) - len(values))

    def _value(self, node, inputs):
        values = [given for given in inputs if isinstance(given, Value)]
        if node.op in OF_INDICES and all(value.whole for value in values):
            return values[0]
        read = READERS.get(node.op)
        if node.op in MASKED and any(isinstance(given, OfMask) for given in inputs):
            read = MASKED[node.op]
        if read is None:
            self.refuse(node)
        if node.op not in ("Slice", "Transpose", "Squeeze", "Unsqueeze", "Gather", "Identity"):
            if any(value.backwards for value in values):
                self.refuse(node, "the order of its steps is reversed")
        return read(self, node, *inputs)

    def refuse(self, node, reason="no layer does this"):
        raise Refused(f"{node}: {reason}")

    def layer(self, node, make, key=None):
        """The layer that make(name=...) gives, one for all nodes with this key."""
        if key is None or key not in self._layers:
            name = self._name(node)
            layer = make(**({"name": name} if name else {}))
            if key is None:
                return layer
            self._layers[key] = layer
        return self._layers[key]

    def _name(self, node):
        """What the layer was called where the file comes from, if that is a name that is free."""
        *_, name = node.name.strip("/").rpartition("/")[0].split("/")
        if not (name and self.named) or name in self._names or not name.replace("_", "").isalnum():
            return None
        self._names.add(name)
        return name

    def weighted(self, node, cls, weights, key, *arguments, within=False, **options):
        """A function of tensors that calls the layer with these weights, or calls it at each step
        of the tensor."""

        def make(**name):
            if within:
                return L.TimeDistributed(cls(*arguments, **options), **name)
            return cls(*arguments, **options, **name)

        def call(*tensors):
            layer = self.layer(node, make, (*key, within))
            built = layer.built
            try:
                y = layer(*tensors)
                if not built:
                    layer.set_weights(weights)
            except ValueError as error:
                raise Refused(f"{node}: {error}") from error
            return y

        return call

    # --- axes ---

    def one(self, node, value):
        if not isinstance(value, Value):
            self.refuse(node, "expected what layers give")
        if len(value.parts) > 1:
            self.refuse(node, "expected one direction of a recurrent layer, or both side by side")
        return value.parts[0]

    def plain(self, value, node=None):
        """The part that has a value's axes in the order of ONNX, behind the batch."""
        where = f"{node}: " if node else ""
        if value.backwards:
            raise Refused(f"{where}the order of its steps is reversed")
        if len(value.parts) > 1 or (0, 1) in value.axes or value.axes[:1] != (0,):
            raise Refused(f"{where}expected the batch on its first axis")
        (part,), axes = value.parts, value.axes
        if value.is_plain():
            return Part(lambda: self._as_ranked(part.tensor(), len(axes)), part.of)

        def make():
            tensor = part.tensor()
            order = [axis for axis in axes if axis is not None]
            ranks = range(len(tensor.shape))
            left = [axis for axis in ranks if axis not in order]  # of size 1, and dropped
            if [*order, *left] != [*ranks] and sorted(order) != order:
                tensor = L.Permute([*order, *left][1:])(tensor)
                left, order = [*ranks][len(order) :], [*ranks][: len(order)]
            if None in axes or left:
                kept = iter([tensor.shape[axis] for axis in order])
                sizes = [1 if axis is None else next(kept) for axis in axes][1:]
                if sizes.count(None) > 1:
                    raise Refused(f"{where}more than one size is free")
                tensor = L.Reshape([-1 if size is None else size for size in sizes])(tensor)
            return tensor

        return Part(make)

    @staticmethod
    def _as_ranked(tensor, rank):
        if len(tensor.shape) > rank:
            sizes = [-1 if size is None else size for size in tensor.shape[1:rank]]
            return L.Reshape(sizes)(tensor)
        return tensor

    def on(self, value, call, node):
        """What a function of the tensor gives that works on the last axis, or on all alike."""
        part = self.one(node, value)
        return Value(Part(lambda: call(part.tensor())), value.axes)

    def last(self, node, value):
        """The value with ONNX's last axis as the part's."""
        part = self.one(node, value)
        rank = len(part.tensor().shape)
        if value.axes[-1] == rank - 1:
            return value
        return Value(self.plain(value, node), range(value.rank))


def _of_mask(node, inputs):
    """What an operator makes of masks and of what comes of sizes."""
    masks = [given for given in inputs if isinstance(given, OfMask)]
    causal = any(mask.causal for mask in masks)
    if node.op == "And":
        causal = causal or any(is_causal(given) for given in inputs)
    found = [mask.masking for mask in masks if mask.masking is not None]
    return OfMask(causal, found[0] if found else None)


def is_causal(value):
    """Does this come of sizes, as a matrix in which no row sees what is behind its place?"""
    if not isinstance(value, OfSizes) or value.array.ndim < 2 or value.array.dtype.kind != "b":
        return False
    seen = value.array
    return np.array_equal(np.broadcast_to(np.tri(*seen.shape[-2:], dtype=bool), seen.shape), seen)


def reader(*ops):
    def keep(function):
        READERS.update(dict.fromkeys(ops, function))
        return function

    return keep


def constant(reading, node, value):
    """An array that an input of a node has to be."""
    if isinstance(value, OfSizes):
        value = value.array
    if value is not None and not isinstance(value, np.ndarray):
        reading.refuse(node, "expected a constant beside what it works on")
    return value


def listed(array):
    return [int(n) for n in np.asarray(array).reshape(-1)]


def axes_of(reading, node, value, given, rank):
    """The axes of a node, from an attribute or an input, counted from the first."""
    given = node.attributes.get("axes", given)
    if isinstance(given, OfSizes):
        given = given.array
    if isinstance(given, Value):
        reading.refuse(node)
    return None if given is None else [n % rank for n in listed(given)]


def called(make, within=False):
    """A function that calls the layer on a tensor, or at each step of it."""
    return lambda tensor: (L.TimeDistributed(make()) if within else make())(tensor)


def none(node):
    raise Refused(f"{node}: no layer does this")


def step(node, x, *of):
    return Value(Part(lambda: none(node), of), x.axes)
