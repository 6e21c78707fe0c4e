"""The ONNX operators of recurrent layers, with their states and masks of any form."""

import numpy as np
import onnx

from fastrnn import activations
from fastrnn.interop.onnx_recurrent import KERAS_ACTIVATIONS, LAYERS, TO_ONNX, both_biases, reorder
from fastrnn.interop.onnx_writer import END, exporter, refuse

KINDS = {name: kind for kind, name in LAYERS.items()}


def _kind(layer):
    """The ONNX operator of a recurrent layer."""
    name = type(layer).__name__
    if name not in KINDS:
        refuse(layer, f"{name} is not supported")
    return KINDS[name]


@exporter("LSTM", "GRU", "SimpleRNN", "RNN")
def _recurrent(writer, layer, x, shape, mask):
    x, states, mask = _apart(x, mask)
    y, *ends = _stages(writer, layer, x, mask, states)
    return [y, *ends] if layer.return_state else y


def _stages(writer, layer, x, mask, states):
    """[output, last states ...] of a layer's cells, of which each runs over what the one before
    gives, in the order in which they run."""
    ends = []
    for stage, starts in zip(layer.stages, layer.split(states), strict=True):
        ((x, *last),) = _directions(writer, [stage], x, mask, [starts])
        ends += last
        if stage.go_backwards and stage.return_sequences:
            x, mask = _reversed(writer, x), mask and _reversed(writer, mask)
    return [x, *ends]


@exporter("Bidirectional")
def _bidirectional(writer, layer, x, shape, mask):
    if layer.forward_layer.go_backwards:
        refuse(layer, "a forward layer with go_backwards is not supported")
    x, states, mask = _apart(x, mask)
    count = len(layer.forward_layer.sizes_of_states())
    states = [states[:count], states[count:]]
    pair = [stage for inner in layer.sublayers for stage in inner.stages]
    if len(pair) == 2 and pair[0].units == pair[1].units and _kind(pair[0]) == _kind(pair[1]):
        (forward, *ends), (backward, *others) = _directions(writer, pair, x, mask, states)
    else:
        (forward, *ends), (backward, *others) = (
            _stages(writer, inner, x, mask, starts)
            for inner, starts in zip(layer.sublayers, states, strict=True)
        )
        if layer.return_sequences:
            backward = _reversed(writer, backward)
    if layer.merge_mode is None:
        ys = [forward, backward]
    elif layer.merge_mode == "concat":
        ys = [writer.add("Concat", forward, backward, axis=-1)]
    else:
        ys = [writer.add("Mul" if layer.merge_mode == "mul" else "Add", forward, backward)]
        if layer.merge_mode == "ave":
            ys = [writer.add("Mul", ys[0], np.float32(0.5))]
    if layer.return_state:
        ys += [*ends, *others]
    return ys if len(ys) > 1 else ys[0]


def _apart(x, mask):
    """x, the states that it starts from (an empty list for zeros), the mask of x."""
    if isinstance(x, list):
        x, *states = x
        return x, states, mask and mask[0]
    return x, [], mask


def _reversed(writer, y):
    return writer.add("Slice", y, np.array([-1]), np.array([-END]), np.array([1]), np.array([-1]))


def _directions(writer, pair, x, mask, starts):
    """Of one layer, or of a forward and a backward layer: [output in the order of time, last states
    ...]. starts: for each the states that it starts from, or an empty list."""
    for layer in pair:
        if layer.stateful:
            refuse(
                layer, "a stateful layer keeps what an ONNX graph cannot; expected stateful=False"
            )
    kind = _kind(pair[0])
    compact, lengths, rank = x, None, None
    if mask is not None:
        compact, lengths, rank = _compacted(writer, x, mask)
    first = writer.add("Transpose", compact, perm=[1, 0, 2])
    if len(pair) == 2:
        direction = "bidirectional"
    else:
        direction = "reverse" if pair[0].go_backwards else "forward"
    attributes = _recurrent_attributes(kind, pair)
    count = len(pair[0].states_of)
    y, *lasts = writer.add(
        kind,
        first,
        *_recurrent_weights(kind, pair),
        lengths,
        *(_of_directions(writer, states) for states in zip(*starts, strict=True)),
        outputs=1 + count if pair[0].return_state else 2,
        direction=direction,
        hidden_size=pair[0].units,
        **attributes,
    )
    some = None
    if mask is not None and starts[0]:
        some = writer.add("Greater", writer.with_axes(lengths, 1, 2), np.int32(0))
    if pair[0].return_sequences:
        y = writer.add("Transpose", y, perm=[2, 0, 1, 3])
    found = []
    for d, layer in enumerate(pair):
        ends = [writer.add("Gather", last, np.int64(d), axis=0) for last in lasts]
        if layer.return_sequences:
            out = writer.add("Gather", y, np.int64(d), axis=2)
        else:
            out = ends[0]
        if some is not None:  # where all steps are masked there is no output, and nothing happens
            if not layer.return_sequences:
                out = writer.add("Where", some, out, np.float32(0))
            pairs = zip(ends, starts[d], strict=False)
            ends = [writer.add("Where", some, end, start) for end, start in pairs]
        if mask is not None:
            out = _spread(writer, layer, out, mask, lengths, rank)
        found.append([out, *ends] if layer.return_state else [out])
    return found


def _of_directions(writer, states):
    """A state of one or two directions, (batch, units) each, as (directions, batch, units)."""
    states = [writer.add("Unsqueeze", state, np.array([0])) for state in states]
    return states[0] if len(states) == 1 else writer.add("Concat", *states, axis=0)


def _recurrent_weights(kind, pair):
    order = TO_ONNX[kind]
    kernels = [reorder(layer.kernel.value.T, order, 0) for layer in pair]
    recurrent = [reorder(layer.recurrent_kernel.value.T, order, 0) for layer in pair]
    biases = None
    if any(layer.use_bias for layer in pair):
        biases = np.stack([np.concatenate(both_biases(layer, order)) for layer in pair])
    return np.stack(kernels), np.stack(recurrent), biases


def _recurrent_attributes(kind, pair):
    names, alphas, betas = [], [], []
    for layer in pair:
        gate, cell = getattr(layer, "recurrent_activation", None), layer.activation
        functions = {"LSTM": [gate, cell, cell], "GRU": [gate, cell], "RNN": [cell]}[kind]
        for function in functions:
            name = getattr(function, "__name__", "")
            if name not in KERAS_ACTIVATIONS or getattr(activations, name) is not function:
                refuse(layer, f"the activation {name or function!r} is not one of ONNX's {kind}")
            op, alpha, beta = KERAS_ACTIVATIONS[name]
            names.append(op)
            alphas += [] if alpha is None else [alpha]
            betas += [] if beta is None else [beta]
    attributes = {"activations": names}
    if alphas:
        attributes["activation_alpha"] = alphas
    if betas:
        attributes["activation_beta"] = betas
    if kind == "GRU":
        attributes["linear_before_reset"] = int(pair[0].reset_after)
    return attributes


def _compacted(writer, x, mask):
    """(x with the unmasked steps of each sequence moved to the front, their number, the number of
    unmasked steps up to and with each step). ONNX has masks only in the form of lengths; but a
    masked step only carries the state on, so that leaving it out changes nothing."""
    if mask not in writer.orders:
        writer.orders[mask] = _order(writer, mask)
    order, lengths, rank = writer.orders[mask]
    return _gather_steps(writer, x, order), lengths, rank


def _order(writer, mask):
    """(numbers of the steps, the unmasked ones first, the number of these, ... up to each step)."""
    on = writer.add("Cast", mask, to=onnx.TensorProto.INT32)
    lengths = writer.add("ReduceSum", on, np.array([1]), keepdims=0)
    rank = writer.add("Cast", writer.add("CumSum", on, np.int64(1)), to=onnx.TensorProto.INT64)
    timesteps = writer.sizes(mask, 1, 2)
    ones = writer.add("Expand", np.int64(1), writer.add("Shape", mask))
    number = writer.add("CumSum", ones, np.int64(1))
    key = writer.add("Where", mask, number, writer.add("Add", number, timesteps))
    _, order = writer.add("TopK", key, timesteps, outputs=2, axis=1, largest=0, sorted=1)
    return order, lengths, rank


def _gather_steps(writer, x, order):
    """x (batch, timesteps, n) with the steps that `order` (batch, timesteps) names."""
    order = writer.add("Unsqueeze", order, np.array([2]))
    return writer.add(
        "GatherElements", x, writer.add("Expand", order, writer.add("Shape", x)), axis=1
    )


def _spread(writer, layer, y, mask, lengths, rank):
    """Put the outputs of unmasked steps back in their places; a masked step repeats the output
    before it (as the layer runs), or is zero with zero_output_for_mask."""
    if not layer.return_sequences:
        if not layer.zero_output_for_mask:
            return y
        step = writer.add("Gather", mask, np.int64(0 if layer.go_backwards else -1), axis=1)
        shown = writer.add("Cast", step, to=onnx.TensorProto.FLOAT)
        return writer.add("Mul", y, writer.add("Unsqueeze", shown, np.array([1])))
    on = writer.add("Cast", mask, to=onnx.TensorProto.INT64)
    if layer.go_backwards:
        place = writer.add("Sub", rank, on)  # the next unmasked step in time
        number = writer.add("Cast", lengths, to=onnx.TensorProto.INT64)
        there = writer.add("Less", place, writer.add("Unsqueeze", number, np.array([1])))
    else:
        place = writer.add("Sub", rank, np.int64(1))
        there = writer.add("GreaterOrEqual", place, np.int64(0))
    if layer.zero_output_for_mask:
        there = mask
    place = writer.add("Where", there, place, np.int64(0))
    y = _gather_steps(writer, y, place)
    there = writer.add("Unsqueeze", there, np.array([2]))
    return writer.add("Where", there, y, np.float32(0))
