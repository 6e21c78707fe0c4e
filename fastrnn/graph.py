"""Graphs of layers: calls, each after those that give its inputs; forward and backward."""

from __future__ import annotations

import collections

import numpy as np

from fastrnn.layers.embedding import Embedding, Lookup
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.wrappers import Bidirectional
from fastrnn.regularizers import activity_gradient, activity_loss


class Call:
    """One call of a layer in a graph: `number` counts those of this layer. inputs, outputs: slots,
    the places of values in a pass; single: the layer takes and gives back one array for its inputs,
    not a list; options: keywords of the layer's methods. looks_up: only a recurrent layer sees this
    Embedding's vectors."""

    __slots__ = (
        "inputs", "layer", "looks_up", "number", "options", "outputs", "several", "single",
    )  # fmt: skip

    def __init__(self, layer, number, inputs, single, outputs, several, options):
        self.layer, self.number, self.single, self.several = layer, number, single, several
        self.options = options
        self.inputs, self.outputs = inputs, outputs
        self.looks_up = False


class Graph:
    """The calls between tensors `inputs` and `outputs`, symbolic ones, and their layers in the
    order in which Keras has them.

    Errors: ValueError where an output comes from other tensors than the inputs."""

    def __init__(self, inputs, outputs):
        self.nodes = _nodes_between(inputs, outputs)
        self.layers = [*dict.fromkeys(node.layer for node in self.nodes)]
        slots, counts = {}, collections.Counter()
        self.calls = []
        for node in self.nodes:
            if node in {tensor.node for tensor in inputs}:
                continue
            ins = [slots.setdefault(tensor, len(slots)) for tensor in node.inputs]
            outs = [slots.setdefault(tensor, len(slots)) for tensor in node.outputs]
            number = counts[node.layer]
            counts[node.layer] += 1
            self.calls.append(
                Call(node.layer, number, ins, node.single, outs, node.several, node.options)
            )
        self.inputs = [slots.setdefault(tensor, len(slots)) for tensor in inputs]
        self.outputs = [slots[tensor] for tensor in outputs]
        self.slots = len(slots)
        self.readers = collections.Counter(slot for call in self.calls for slot in call.inputs)
        self.readers.update(self.outputs)
        weights = [weight for call in self.calls for weight in call.layer.weights]
        self.shares = len(set(weights)) < len(weights)
        by_input = {call.inputs[0]: call for call in self.calls}
        for call in self.calls:
            (slot, *_), layer = call.outputs, call.layer
            reader = by_input.get(slot)
            call.looks_up = (
                type(layer) is Embedding
                and layer.activity_regularizer is None
                and self.readers[slot] == 1
                and reader is not None
                and type(reader.layer).forward in (Recurrent.forward, Bidirectional.forward)
            )

    def chain(self):
        """What the layers give one after another, of a chain from one input to all outputs of the
        last layer; or None."""
        tensors, below = [], self.inputs
        for call in self.calls:
            plain = call.single and not call.number and not call.options
            if call.inputs != below or not plain or len(below) != 1:
                return None
            below = call.outputs
        for node in self.nodes[-len(self.calls) :]:
            tensors.append([*node.outputs] if node.several else node.outputs[0])
        return tensors if self.calls and below == self.outputs else None

    def dtypes(self, slot):
        """Those that the readers of a slot want."""
        found = set()
        for call in self.calls:
            wanted = call.layer.input_dtype  # a list of a model of several inputs
            for place, other in enumerate(call.inputs):
                if other == slot:
                    found.add(wanted[place] if isinstance(wanted, list) else wanted)
        return found

    def shapes(self, given, check=False):
        """The outputs' shapes for shapes of the inputs; check: raise where one does not fit."""
        known = dict(zip(self.inputs, given, strict=True))
        for call in self.calls:
            shapes = [known[slot] for slot in call.inputs]
            shapes = shapes[0] if call.single else shapes
            if check:
                call.layer.check_call(shapes)
            out = call.layer.compute_output_shape(shapes, **call.options)
            known.update(zip(call.outputs, out if call.several else [out], strict=True))
        return [known[slot] for slot in self.outputs]

    def forward(self, arrays, run, masks=None):
        """(values of the outputs, their masks) for arrays, and masks, of the inputs."""
        values, known = [None] * self.slots, [None] * self.slots
        for place, slot in enumerate(self.inputs):
            values[slot] = arrays[place]
            if masks is not None:
                known[slot] = masks[place]
        for call in self.calls:
            layer, own = call.layer, run.of_call(call.layer, call.number)
            if call.single:
                (slot,) = call.inputs
                x, mask = values[slot], known[slot]
            else:
                x, mask = [values[s] for s in call.inputs], [known[s] for s in call.inputs]
                if all(m is None for m in mask):
                    mask = None
            if call.looks_up:
                y = Lookup(layer, x)
            else:
                y = layer.forward(x, own, mask, **call.options)
            mask = layer.compute_mask(x, mask)
            if call.several:
                for slot, value in zip(call.outputs, y, strict=True):
                    values[slot] = value
                masks_of = mask if isinstance(mask, list) else [mask] + [None] * (len(y) - 1)
                for slot, part in zip(call.outputs, masks_of, strict=True):
                    known[slot] = part
                continue
            (slot,) = call.outputs
            values[slot] = y
            if mask is not None and not mask.all():
                known[slot] = mask
            if layer.activity_regularizer is not None:
                run.losses.append(activity_loss(layer.activity_regularizer, y))
        run.saved[self] = values
        return [values[slot] for slot in self.outputs], [known[slot] for slot in self.outputs]

    def backward(self, gradients, run, need_dx=True):
        """Gradients of the inputs from those of the outputs (None where an output has none), and
        those of the weights. A list with None for inputs that none of the outputs depend on."""
        if not self.shares or run.filled is not None:
            return self._backward(gradients, run, need_dx)
        run.forget_gradients(set())
        try:
            return self._backward(gradients, run, need_dx)
        finally:
            run.forget_gradients(None)

    def _backward(self, gradients, run, need_dx):
        values, found = run.saved[self], [None] * self.slots
        for slot, gradient in zip(self.outputs, gradients, strict=True):
            _add(found, slot, gradient)
        needed = self._needed(need_dx)
        for call in reversed(self.calls):
            layer, own = call.layer, run.of_call(call.layer, call.number)
            dys = [found[slot] for slot in call.outputs]
            lower = [needed[slot] for slot in call.inputs]
            if not any(needed[slot] for slot in call.outputs):
                continue
            if all(dy is None for dy in dys):
                continue
            for place, slot in enumerate(call.outputs):
                found[slot] = None
                if dys[place] is None:
                    dys[place] = np.zeros_like(values[slot])
            dy = dys if call.several else dys[0]
            if layer.activity_regularizer is not None and not call.several:
                y = values[call.outputs[0]]
                dy = dy + activity_gradient(layer.activity_regularizer, y)
            dx = layer.backward(dy, own, any(lower))
            run.add_gradients()
            if not any(lower) or dx is None:
                continue
            for slot, need, part in zip(
                call.inputs, lower, [dx] if call.single else dx, strict=True
            ):
                if need:
                    _add(found, slot, part)
        return [found[slot] for slot in self.inputs]

    def _needed(self, need_dx):
        """For each slot: does something below it, or it itself, want its gradient?"""
        needed = [False] * self.slots
        for slot in self.inputs:
            needed[slot] = need_dx
        for call in self.calls:
            wanted = any(needed[slot] for slot in call.inputs) or bool(call.layer.trainable_weights)
            for slot in call.outputs:
                needed[slot] = wanted
        return needed


def _add(found, slot, gradient):
    """A gradient that one reader of a slot gives, beside those that others gave."""
    if gradient is None:
        return
    if found[slot] is None:
        found[slot] = gradient
    else:
        found[slot] += gradient


def _nodes_between(inputs, outputs):
    """The nodes in Keras's order: by how far they are from the outputs, the farthest first, then as
    they are met from the outputs on."""
    ends = {tensor.node for tensor in inputs}
    met, finished = {}, {}  # layer -> when it was met first; nodes, each after those below
    for output in outputs:
        pending = [(output.node, False)]
        while pending:
            node, leaving = pending.pop()
            if leaving:
                finished[node] = None
                continue
            if node in finished:
                continue
            met.setdefault(node.layer, len(met))
            pending.append((node, True))
            if node in ends:
                continue
            if not node.inputs:
                raise ValueError(
                    f"outputs: expected what comes of the inputs alone, received {output}, which "
                    f"needs {node.outputs[0]} too"
                )
            pending += [(tensor.node, False) for tensor in reversed(node.inputs)]
    depths, of_layers = {}, {}
    for node in reversed(finished):
        depth = max(depths.get(node, 0), of_layers.get(node.layer, 0))
        depths[node] = of_layers[node.layer] = depth
        for tensor in () if node in ends else node.inputs:
            depths[tensor.node] = max(depth + 1, depths.get(tensor.node, 0))
    for tensor in inputs:
        if tensor.node not in depths:
            depths[tensor.node] = of_layers[tensor.layer] = 0
            met.setdefault(tensor.layer, -1)
    return sorted(depths, key=lambda node: (-depths[node], met[node.layer], node.number))
