"""Graphs of layers: calls, each after those that give its inputs; forward and backward."""

from __future__ import annotations

import collections
import itertools

import numpy as np

from fastrnn.layers.base import Layer
from fastrnn.layers.core import Masking
from fastrnn.layers.dropout import Dropout, SpatialDropout1D
from fastrnn.layers.embedding import Embedding, Lookup, as_indices
from fastrnn.layers.own import dtypes_in
from fastrnn.layers.recurrent import OneCell, as_one_hot, wins_if_one_hot
from fastrnn.layers.rnn import RNN
from fastrnn.layers.wrappers import Bidirectional
from fastrnn.regularizers import activity_gradient, activity_loss

_RECURRENT = OneCell.forward, RNN.forward, Bidirectional.forward


class Call:
    """One call of a layer in a graph: `number` counts those of this layer. inputs, outputs: slots,
    the places of values in a pass; single: the layer takes and gives back one array for its inputs,
    not a list; options: keywords of the layer's methods. masks: slots of masks that the call is
    given in place of the inputs' own, or none; training: the mode that it says, or None. is_model:
    the layer is a graph itself. looks_up: only a recurrent layer sees this Embedding's vectors;
    with "inference", dropout does so too. converts: which inputs have to be made
    float32, or nothing."""

    __slots__ = (
        "converts", "inputs", "is_model", "layer", "looks_up", "masks", "number", "options",
        "outputs", "several", "single", "training",
    )  # fmt: skip

    def __init__(
        self, layer, number, inputs, single, outputs, several, options, masks=(), training=None
    ):
        self.layer, self.number, self.single, self.several = layer, number, single, several
        self.options, self.masks, self.training = options, masks, training
        self.inputs, self.outputs = inputs, outputs
        own = not type(layer).forward.__module__.startswith("fastrnn.")  # the user's
        self.is_model = hasattr(layer, "propagate") and not own and not layer._says_call
        self.looks_up = ""
        self.converts = ()

    def run_in(self, run):
        """The Run of this call in a pass."""
        if self.training is None:
            return run.of_call(self.layer, self.number)
        return run.of_mode(self.layer, self.number, self.training)


class Graph:
    """Calls of layers, each after those that give its inputs, from the slots `inputs` to the slots
    `outputs`. layers: each once, in the order in which Keras has them. nodes: what it was made of,
    of which those in `starts` give the inputs."""

    def __init__(self, calls, inputs, outputs, layers, nodes=(), starts=()):
        self.calls, self.inputs, self.outputs = calls, inputs, outputs
        self.layers, self.nodes, self.starts = layers, nodes, starts
        self.slots = 1 + max(itertools.chain(inputs, outputs, *(call.outputs for call in calls)))
        self.readers = collections.Counter(slot for call in calls for slot in call.inputs)
        self.readers.update(slot for call in calls for slot in call.masks if slot is not None)
        self.readers.update(outputs)
        weights = [weight for call in calls for weight in call.layer.weights]
        self.shares = len(set(weights)) < len(weights)
        self._mark_look_ups()
        self._mark_conversions()
        self.may_be_one_hot = [slot for slot in inputs if self._picks_rows(slot)]

    @classmethod
    def between(cls, inputs, outputs):
        """That of the symbolic tensors `inputs` and `outputs`. Errors: ValueError where an output
        comes from other tensors than the inputs."""
        nodes, layers = _nodes_between(inputs, outputs)
        slots, counts, calls = {}, collections.Counter(), []
        starts = {tensor.node for tensor in inputs}
        for node in nodes:
            if node in starts:
                continue
            ins = [slots.setdefault(tensor, len(slots)) for tensor in node.inputs]
            outs = [slots.setdefault(tensor, len(slots)) for tensor in node.outputs]
            masks = [None if m is None else slots.setdefault(m, len(slots)) for m in node.masks]
            number = counts[node.layer]
            counts[node.layer] += 1
            said = node.options, masks, node.training
            calls.append(Call(node.layer, number, ins, node.single, outs, node.several, *said))
        ins = [slots.setdefault(tensor, len(slots)) for tensor in inputs]
        outs = [slots[tensor] for tensor in outputs]
        return cls(calls, ins, outs, layers, nodes, starts)

    @classmethod
    def of_chain(cls, layers):
        """That of built layers, each of which gets what the one before gives."""
        calls, below = [], [0]
        for layer in layers:
            several = isinstance(layer.output_shape, list)
            count = len(layer.output_shape) if several else 1
            above = [below[-1] + 1 + place for place in range(count)]
            calls.append(Call(layer, 0, below, True, above, several, {}))
            below = above
        return cls(calls, [0], below, [*layers])

    def _mark_look_ups(self):
        by_input = {call.inputs[0]: call for call in self.calls}
        for call in self.calls:
            if type(call.layer) is not Embedding or call.layer.activity_regularizer is not None:
                continue
            above, when = by_input.get(call.outputs[0]), "always"
            while above is not None and self.readers[above.inputs[0]] == 1:
                layer = above.layer
                if type(layer).forward in _RECURRENT:
                    call.looks_up = when
                drops = type(layer) in (Dropout, SpatialDropout1D) and not above.training
                if not drops or layer.activity_regularizer is not None:
                    break
                above, when = by_input.get(above.outputs[0]), "inference"

    def _mark_conversions(self):
        others = {s for call in self.calls if not call.layer.gives_float32 for s in call.outputs}
        for call in self.calls:
            wanted = call.layer.input_dtype
            wanted = wanted if isinstance(wanted, list) else [wanted] * len(call.inputs)
            pairs = zip(call.inputs, wanted, strict=True)
            flags = [slot in others and dtype is np.float32 for slot, dtype in pairs]
            call.converts = flags if any(flags) else ()
        self.gives_float32 = others.isdisjoint(self.outputs)
        self.varies = any(call.layer.varies for call in self.calls)

    def _picks_rows(self, slot):
        """Do only recurrent layers that pick rows of W for one-hot inputs see this slot?"""
        count = 0
        for call in self.calls:
            if call.inputs[0] == slot and type(call.layer).forward in _RECURRENT:
                shape = call.layer.input_shape
                count += wins_if_one_hot(shape[0] if isinstance(shape, list) else shape)
        return 0 < count == self.readers[slot]

    def chain(self):
        """What the layers give one after another, of a chain from one input to all outputs of the
        last layer; or None, also where layers share weights."""
        if self.shares:
            return None
        tensors, below = [], self.inputs
        for call in self.calls:
            said = call.options or call.masks or call.training is not None
            plain = call.single and not call.number and not said
            if call.inputs != below or not plain or len(below) != 1:
                return None
            below = call.outputs
        for node in self.nodes[-len(self.calls) :]:
            tensors.append([*node.outputs] if node.several else node.outputs[0])
        return tensors if self.calls and below == self.outputs else None

    def call_numbers(self):
        """{node: which call of its layer it is} in the order in which the calls were made, for
        those that are no inputs."""
        made, numbers = collections.Counter(), {}
        for node in sorted(self.nodes, key=lambda node: node.number):
            if node not in self.starts:
                numbers[node] = made[node.layer]
                made[node.layer] += 1
        return numbers

    def dtypes(self, slot):
        """Those that the readers of a slot want."""
        found = set()
        for call in self.calls:
            wanted = call.layer.input_dtype  # a list of a model of several inputs
            said = dtypes_in(call.options.get("call", ()), len(call.inputs))
            for place, other in enumerate(call.inputs):
                if other == slot:
                    dtype = wanted[place] if isinstance(wanted, list) else wanted
                    found.add(dtype if said[place] is None else said[place].type)
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
            if call.several:
                _check_count(call, out)
            known.update(zip(call.outputs, out if call.several else [out], strict=True))
        return [known[slot] for slot in self.outputs]

    def forward(self, arrays, run, masks=None):
        """(values of the outputs, their masks) for arrays, and masks, of the inputs."""
        values, known = [None] * self.slots, [None] * self.slots
        for place, slot in enumerate(self.inputs):
            values[slot] = arrays[place]
            if masks is not None:
                known[slot] = masks[place]
        for slot in self.may_be_one_hot if not run.keeps or run.ends is self else ():
            values[slot] = as_one_hot(values[slot])
        for call in self.calls:
            layer = call.layer
            own = call.run_in(run)
            if call.single:
                slot = call.inputs[0]
                x, mask = values[slot], known[slot]
            else:
                x, mask = [values[s] for s in call.inputs], [known[s] for s in call.inputs]
                if all(m is None for m in mask):
                    mask = None
            if call.converts:
                x = _converted(call, [x] if call.single else x)
                x = x[0] if call.single else x
            if call.masks:
                mask = _given(call, x, values)
            if call.is_model:
                y, mask = layer.propagate(x, own, mask)
            elif call.looks_up and (call.looks_up == "always" or not run.keeps):
                y = Lookup(layer, x, own)
                mask = layer.compute_mask(x, mask)
            else:
                y = layer.forward(x, own, mask, **call.options)
                mask = own.masks_of_call if layer._says_call else layer.compute_mask(x, mask)
            if call.several:
                _check_count(call, y)
                masks_of = mask if isinstance(mask, list) else [mask] + [None] * (len(y) - 1)
                for slot, value, part in zip(call.outputs, y, masks_of, strict=True):
                    values[slot], known[slot] = value, _masking(part)
                run.saved[call] = [value.shape for value in y]
                continue
            slot = call.outputs[0]
            values[slot], known[slot] = y, _masking(mask)
            if layer.activity_regularizer is not None:
                run.losses.append(activity_loss(layer.activity_regularizer, y))
                run.saved[call] = y
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
        walk = run.walks.get((self, need_dx))
        if walk is None:
            walk = run.walks[self, need_dx] = self._walk(need_dx)
        found = [None] * self.slots
        for slot, gradient in zip(self.outputs, gradients, strict=True):
            _add(found, slot, gradient)
        for call, needed in walk:
            layer = call.layer
            own = call.run_in(run)
            if call.several:
                dy = [found[slot] for slot in call.outputs]
                if all(part is None for part in dy):
                    continue
                for place, shape in enumerate(run.saved[call]):
                    if dy[place] is None:
                        dy[place] = np.zeros(shape, np.float32)
            else:
                dy = found[call.outputs[0]]
                if dy is None:
                    continue
                if layer.activity_regularizer is not None:
                    slope = activity_gradient(layer.activity_regularizer, run.saved[call])
                    dy = dy + np.float32(run.loss_factor[0]) * slope
            for slot in call.outputs:
                found[slot] = None
            dx = layer.backward(dy, own, bool(needed))
            run.add_gradients()
            if not needed or dx is None:
                continue
            if call.single:
                _add(found, call.inputs[0], dx)
                continue
            for slot, part in zip(call.inputs, dx, strict=True):
                if slot in needed:
                    _add(found, slot, part)
        return [found[slot] for slot in self.inputs]

    def _walk(self, need_dx):
        """The calls that a gradient has to go back through, from the last, each with those of its
        inputs' slots below which something wants it, or which want it themselves."""
        wanted = set(self.inputs if need_dx else ())
        walk = []
        for call in self.calls:
            needed = wanted.intersection(call.inputs)
            if needed or call.layer.trainable_weights:
                wanted.update(call.outputs)
                walk.append((call, needed))
        return walk[::-1]

    # --- inference over fixed arrays ---

    def plan(self, arrays, steps, run):
        """Append to `steps` the calls without arguments that take what is in arrays to what is in
        the arrays returned, for inputs of which no layer masks a step. The memory of a slot goes to
        later ones after its last reader."""
        values, rooms = [None] * self.slots, run.rooms
        left = collections.Counter(self.readers)
        for slot, array in zip(self.inputs, arrays, strict=True):
            values[slot] = array
            rooms.hold(array)
        for call in self.calls:
            layer = call.layer
            own = call.run_in(run)
            xs = [values[slot] for slot in call.inputs]
            if call.inputs[0] in self.may_be_one_hot:
                xs[0] = as_one_hot(xs[0])
            if call.converts:
                xs = _converted(call, xs, steps)
            x = xs[0] if call.single else xs
            if call.looks_up:
                y = Lookup(layer, as_indices(x, steps))
            elif call.is_model and not call.training:
                y = layer.plan_unmasked(x, steps, own)
            elif type(layer) is Masking and not run.states:
                y = x
            elif call.training:
                y = Layer.plan(layer, x, steps, own, **call.options)
            else:
                y = _plan(layer, x, steps, own, call.options)
            for slot, array in zip(call.outputs, y if call.several else [y], strict=True):
                values[slot] = array
                if not call.is_model or call.training:  # which has them held already
                    rooms.hold(array)
            for slot in call.inputs:
                left[slot] -= 1
                if not left[slot]:
                    rooms.drop(values[slot])
        return [values[slot] for slot in self.outputs]

    def mask_makers(self):
        """The layers above which steps can be masked that are not below, each with which of the
        inputs it gets, or None where it gets something else."""
        found = []
        for call in self.calls:
            if call.is_model:
                inner = call.layer.mask_makers()
            else:
                inner = [(call.layer, 0)] if _makes_mask(call.layer) else []
            if call.masks and not inner:
                inner = [(call.layer, None)]
            for layer, place in inner:
                slot = None if place is None else call.inputs[place]
                outer = self.inputs.index(slot) if slot in self.inputs else None
                found.append((layer, outer))
        return found


def _converted(call, xs, steps=None):
    """Inputs of a call, as float32 where they have to be. In a plan, `steps` do it in each run."""
    ys = [x.astype(np.float32) if c else x for x, c in zip(xs, call.converts, strict=True)]
    if steps is not None:
        pairs = [(y, x) for y, x in zip(ys, xs, strict=True) if y is not x]
        steps.append(lambda: [np.copyto(*pair) for pair in pairs])
    return ys


def _makes_mask(layer) -> bool:
    """Can steps be masked above this layer that are not below? A user's compute_mask may do so."""
    if getattr(layer, "mask_zero", False) or isinstance(layer, Masking):
        return True
    if layer._says_call and any(map(_makes_mask, layer.sublayers)):
        return True
    return not type(layer).compute_mask.__module__.startswith("fastrnn.")


def masks_nothing(layer, x) -> bool:
    """Does this Embedding with mask_zero, or Masking, keep all steps of x?"""
    if isinstance(layer, Embedding):
        return np.count_nonzero(x) == x.size
    kept = x[..., 0] != np.float32(layer.mask_value)  # mostly the first feature tells
    return np.count_nonzero(kept) == kept.size or layer.compute_mask(x).all()


def _plan(layer, x, steps, run, options):
    """layer.plan, unless it is that of a class below the user's own, which has another forward."""
    for cls in type(layer).__mro__:
        if cls.__module__.startswith("fastrnn.") or "plan" in vars(cls):
            break
        if "forward" in vars(cls):
            return Layer.plan(layer, x, steps, run, **options)
    return layer.plan(x, steps, run, **options)


def _check_count(call, outputs):
    """Raise ValueError where a user's layer gives another number of outputs than at first."""
    if not isinstance(outputs, list) or len(outputs) != len(call.outputs):
        count = len(outputs) if isinstance(outputs, list) else 1
        raise ValueError(
            f"layer {call.layer.name!r} ({type(call.layer).__name__}): expected it to give "
            f"{len(call.outputs)} outputs, as when the model was made, received {count}"
        )


def _given(call, x, values):
    """The mask that a call is given, or the list of them."""
    masks = [None if slot is None else values[slot] != 0 for slot in call.masks]
    for mask, part in zip(masks, [x] if call.single else x, strict=True):
        call.layer.check_mask(mask, part.shape)
    return masks[0] if call.single else masks


def _masking(mask):
    """A mask, or None for one that masks nothing: the same, and faster."""
    return None if mask is None or mask.all() else mask


def _add(found, slot, gradient):
    """A gradient that one reader of a slot gives, beside those that others gave."""
    if gradient is None:
        return
    if found[slot] is None:
        found[slot] = gradient
    else:
        found[slot] += gradient


def _nodes_between(inputs, outputs):
    """The nodes and their layers in Keras's order: by how far they are from the outputs, the
    farthest first; then nodes as they are met from the inputs on, which tells when a layer called
    twice changes its state, and layers as they are met from the outputs on."""
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
            pending += [(tensor.node, False) for tensor in reversed(node.sources)]
    depths, of_layers = {}, {}
    for node in reversed(finished):
        depth = max(depths.get(node, 0), of_layers.get(node.layer, 0))
        depths[node] = of_layers[node.layer] = depth
        for tensor in () if node in ends else node.sources:
            depths[tensor.node] = max(depth + 1, depths.get(tensor.node, 0))
    for tensor in inputs:
        if tensor.node not in depths:
            depths[tensor.node] = of_layers[tensor.layer] = 0
            met.setdefault(tensor.layer, -1)
    nodes = sorted(depths, key=lambda node: -depths[node])
    return nodes, sorted(of_layers, key=lambda layer: (-of_layers[layer], met[layer]))
