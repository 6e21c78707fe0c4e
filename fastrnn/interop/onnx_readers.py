"""The nodes of ONNX as Keras's layers: axes, layers with weights, merging, activations."""

import itertools

import numpy as np

from fastrnn import layers as L
from fastrnn.interop.onnx_reading import (
    BOTH,
    MakesRecurrent,
    OfMask,
    OfSizes,
    Part,
    RecurrentCalls,
    Value,
    axes_of,
    called,
    constant,
    listed,
    none,
    reader,
    step,
)
from fastrnn.interop.onnx_recurrent import GATES
from fastrnn.interop.onnx_sequential import ACTIVATIONS
from fastrnn.interop.onnx_steps import (
    NORMALIZING,
    AttentionCall,
    additive_scores,
    heads_layer,
    normalized,
    normalizing,
    product,
    reshaped_heads,
)

# --- axes ---


@reader("Cast", "Dropout", "Identity")
def _same(reading, node, x, *others):
    return x


@reader("Transpose")
def _transpose(reading, node, x):
    perm = node.attributes.get("perm") or [*range(x.rank)][::-1]
    return x.seen_as(x.axes[n] for n in perm)


@reader("Unsqueeze")
def _unsqueeze(reading, node, x, axes=None):
    rank = len(reading.sizes(node.outputs[0]))
    new, old = axes_of(reading, node, x, axes, rank), iter(x.axes)
    return x.seen_as(None if n in new else next(old) for n in range(rank))


@reader("Squeeze")
def _squeeze(reading, node, x, axes=None):
    dropped = axes_of(reading, node, x, axes, x.rank)
    if dropped is None:
        dropped = [n for n, size in enumerate(reading.sizes(node.inputs[0])) if size == 1]
    return x.seen_as(axis for n, axis in enumerate(x.axes) if n not in dropped)


@reader("Gather")
def _gather(reading, node, x, places):
    axis = node.attributes["axis"]
    if isinstance(x, np.ndarray) and isinstance(places, Value) and x.ndim == 2 and axis == 0:
        if places.of[0] == "input":
            reading.indexed.add(places.of[1])
        part = reading.one(node, places)

        def make():
            masks = ("mask", part.of[1:]) in reading.needs
            key = "Embedding", node.inputs[0], masks
            call = reading.weighted(node, L.Embedding, [x], key, *x.shape, mask_zero=masks)
            return call(part.tensor())

        return Value(Part(make), (*places.axes, len(places.axes)))
    place = constant(reading, node, places)
    if not isinstance(x, Value) or place.size != 1:
        reading.refuse(node)
    return _taken(reading, node, x, axis % x.rank, int(place.reshape(())), place.ndim > 0)


def _taken(reading, node, x, n, place, keep):
    """The elements at one place of an axis, which stays if `keep`."""
    axis = x.axes[n]
    axes = [*x.axes[:n], *([None] if keep else []), *x.axes[n + 1 :]]
    if axis is None:
        return x.seen_as(axes)
    if axis == BOTH:
        return Value(x.parts[place % len(x.parts)], axes, x.backwards)
    kind, *calls = x.of
    ends = {-1: 0, 0: 1}  # of the forward direction, of the backward one
    if kind == "recurrent" and calls[1] == "y" and axis == 1 and place in ends:
        calls, _, which, direction = calls
        if ends[place] == direction and not x.backwards:
            part = Part(lambda: calls.get("h", which), ("recurrent", calls, "h", which, direction))
            moved = [a if a in (None, BOTH, 0) else a - 1 for a in axes]
            return Value(part, moved)
    reading.refuse(node, "no layer takes single steps out")


@reader("Slice")
def _slice(reading, node, x, *arguments):
    names = "starts", "ends", "axes", "steps"
    given = {
        name: None if a is None else listed(constant(reading, node, a))
        for name, a in zip(names, [*arguments, None, None][:4], strict=False)
    }
    if node.version < 10:
        given = {name: node.attributes.get(name) for name in names}
    starts, ends = given["starts"], given["ends"]
    axes = [n % x.rank for n in given["axes"] or range(len(starts))]
    steps = given["steps"] or [1] * len(starts)
    before, cuts = reading.sizes(node.inputs[0]), {}
    for start, end, n, by in zip(starts, ends, axes, steps, strict=True):
        size = before[n]
        if by == -1 and start == -1 and x.axes[n] == 1 and end < -(2**30):
            x = Value(x.parts, x.axes, not x.backwards)
            continue
        if by != 1:
            reading.refuse(node, "steps other than 1 are not supported")
        if size is not None:
            start, end, _ = slice(start, end).indices(size)
            if (start, end) == (0, size):
                continue
            if end - start == 1 and x.axes[n] in (None, BOTH):
                x = _taken(reading, node, x, n, start, True)
                continue
        elif start == 0 and end >= 2**30:
            continue
        elif start == -1 and end >= 2**30 and x.of[0] == "recurrent":
            x = _taken(reading, node, x, n, -1, True)
            continue
        after = size - end if size is not None else 0 if end >= 2**30 else -end
        if start < 0 or after < 0:
            reading.refuse(node, "no layer takes these steps out")
        cuts[n] = start, after
    return _cropped(reading, node, x, cuts) if cuts else x


def _cropped(reading, node, x, cuts):
    axes = {x.axes[n]: cut for n, cut in cuts.items()}
    return _resized(reading, node, x, axes, L.Cropping1D, L.Cropping2D)


def _resized(reading, node, x, ends, *classes):
    """Layers that take off, or put on, so many elements before and behind these axes."""
    rank = len(reading.one(node, x).tensor().shape)
    if rank == 3 and {*ends} == {1}:
        return reading.on(x, called(lambda: classes[0](ends[1])), node)
    if rank == 3 and {*ends} == {2} and classes[0] is L.ZeroPadding1D:
        make = called(lambda: classes[0](ends[2], data_format="channels_first"))
        return reading.on(x, make, node)
    for data_format, axes in (("channels_last", (1, 2)), ("channels_first", (2, 3))):
        if rank == 4 and {*ends} <= {*axes}:
            both = [ends.get(n, (0, 0)) for n in axes]
            make = called(lambda: classes[1](both, data_format=data_format))  # noqa: B023
            return reading.on(x, make, node)
    reading.refuse(node)


@reader("Pad")
def _pad(reading, node, x, pads=None, fill=None, axes=None):
    pads = listed(node.attributes["pads"] if pads is None else constant(reading, node, pads))
    if axes is not None or np.any(fill if fill is not None else node.attributes.get("value", 0)):
        reading.refuse(node)
    ends = {}
    for n in range(x.rank):
        if pads[n] or pads[n + x.rank]:
            ends[x.axes[n]] = pads[n], pads[n + x.rank]
    return _resized(reading, node, x, ends, L.ZeroPadding1D, L.ZeroPadding2D)


@reader("Split")
def _split(reading, node, x, sizes=None):
    n = node.attributes["axis"] % x.rank
    if x.axes[n] != BOTH or len(node.outputs) != len(x.parts):
        reading.refuse(node, "no layer takes its input apart")
    axes = [None if axis == BOTH else axis for axis in x.axes]
    return [Value(part, axes, x.backwards) for part in x.parts]


@reader("Flatten")
def _flatten(reading, node, x):
    if node.attributes["axis"] != 1:
        reading.refuse(node)
    if x.axes == ((0, 1), *range(2, x.rank + 1)):
        return reading.on(x, called(L.Flatten, True), node).seen_as(((0, 1), 2))
    part = reading.plain(x, node)
    if x.rank == 2:
        return Value(part, (0, 1))
    return Value(Part(lambda: L.Flatten()(part.tensor())), (0, 1))


@reader("Reshape")
def _reshape(reading, node, x, shape):
    before, after = (_shape_of(reading, name) for name in (node.inputs[0], node.outputs[0]))
    if [n for n in before if n != 1] == [n for n in after if n != 1]:
        left = [axis for axis, size in zip(x.axes, before, strict=True) if size != 1]
        kept = iter(left)
        return x.seen_as(None if size == 1 else next(kept) for size in after)
    if BOTH in x.axes[:-1]:
        n, others = x.axes.index(BOTH), [axis for axis in x.axes if axis != BOTH]
        merged = [*before[:n], before[n] * before[n + 1], *before[n + 2 :]]
        if merged == after and x.axes[n + 1] == len(others) - 1:
            return _side_by_side(reading, node, x, others)
    if x.axes[:2] == (0, 1) and after == [before[0] * before[1], *before[2:]]:
        return x.seen_as(((0, 1), *x.axes[2:]))
    if x.axes[0] == (0, 1):
        if after[2:] == before[1:] and after[0] * after[1] == before[0]:
            return x.seen_as((0, 1, *x.axes[1:]))
    special = reshaped_heads(reading, node, x, before, after) or _up_sampled(x, before, after)
    if special is not None:
        return special
    part, sizes = reading.plain(x, node), reading.sizes(node.outputs[0])
    if after[0] != before[0] or sizes[1:].count(None) > 1:
        reading.refuse(node, "no layer makes this shape")
    target = [-1 if size is None else size for size in sizes[1:]]
    if len(target) == 1:
        return Value(Part(lambda: L.Flatten()(part.tensor())), (0, 1))
    of = (None,)
    if x.of[0] == "dense" and x.of[6] is None and after[:-2] == before[:-1] and len(after) == 4:
        of = ("heads", *x.of[2:5], *after[-2:])
    return Value(Part(lambda: L.Reshape(target)(part.tensor()), of), range(len(after)))


def _up_sampled(x, before, after):
    """Of (batch, steps, n times the channels) as (batch, n times the steps, channels)."""
    if x.of[0] != "tiled" or x.rank != 3 or len(after) != 3:
        return None
    _, part, times = x.of
    if after != [before[0], before[1] * times, before[2] // times]:
        return None
    return Value(Part(lambda: L.UpSampling1D(times)(part.tensor())), (0, 1, 2))


@reader("Tile")
def _tile(reading, node, x, repeats):
    *others, times = listed(constant(reading, node, repeats))
    if not x.is_plain() or {*others} != {1}:
        reading.refuse(node)
    return Value(Part(lambda: none(node), ("tiled", x.parts[0], times)), x.axes)


def _shape_of(reading, name):
    return [*reading.array(name).shape]


def _side_by_side(reading, node, x, axes):
    """The parts of a value along their last axis."""
    kinds = [part.of for part in x.parts]
    if len(kinds) == 1:
        return Value(x.parts[0], axes, x.backwards)
    if all(of[0] == "recurrent" and of[1] is kinds[0][1] for of in kinds):
        _, calls, kind, *_ = kinds[0]
        if [of[2:4] for of in kinds] == [(kind, 0), (kind, 1)]:
            made = Part(lambda: calls.get(kind, BOTH), ("recurrent", calls, kind, BOTH, None))
            return Value(made, axes)
    return _concatenated(x.parts, axes)


@reader("Expand")
def _expand(reading, node, x, shape):
    before, after = reading.sizes(node.inputs[0]), reading.sizes(node.outputs[0])
    if before == after:
        return x
    part = reading.one(node, x)
    if x.axes == (0, None, 1) and after[1] is not None and before[2] == after[2]:
        return Value(Part(lambda: L.RepeatVector(after[1])(part.tensor())), (0, 1, 2))
    reading.refuse(node)


@reader("Concat")
def _concat(reading, node, *values):
    if not all(isinstance(value, Value) for value in values):
        reading.refuse(node, "no layer puts constants beside what others give")
    n = node.attributes["axis"] % values[0].rank
    first = values[0].axes
    parts = [reading.one(node, value) for value in values]
    if all(value.axes == first for value in values):
        if first[n] is None and len(values) == 2:
            return Value(parts, [*first[:n], BOTH, *first[n + 1 :]])
        if first[n] is not None and (0, 1) not in first:
            if first[n] == max(a for a in first if a is not None):
                return _side_by_side(reading, node, Value(parts, first), first)
            return _concatenated(parts, first, first[n])
    plain = [reading.plain(value, node) for value in values]
    return _concatenated(plain, range(len(first)), n)


def _concatenated(parts, axes, axis=-1):
    """What Concatenate gives of parts with these axes."""
    return Value(Part(lambda: L.Concatenate(axis)([part.tensor() for part in parts])), axes)


# --- layers with weights ---


@reader("MatMul")
def _matmul(reading, node, x, kernel):
    if isinstance(x, Value) and isinstance(kernel, np.ndarray):
        if kernel.ndim == 1 and x.of[0] == "sums" and x.of[3]:
            return additive_scores(x, kernel)
        if kernel.ndim == 2:
            return _dense(reading, node, x, kernel, None, node.inputs[1:])
    if isinstance(x, Value) and isinstance(kernel, Value):
        return product(reading, node, x, kernel)
    reading.refuse(node)


@reader("Gemm")
def _gemm(reading, node, x, kernel, bias=None):
    kernel, bias = constant(reading, node, kernel), constant(reading, node, bias)
    if node.attributes["transA"] or not isinstance(x, Value):
        reading.refuse(node)
    kernel = node.attributes["alpha"] * (kernel.T if node.attributes["transB"] else kernel)
    if bias is not None:
        bias = np.broadcast_to(node.attributes["beta"] * bias, (1, kernel.shape[1]))[0]
    return _dense(reading, node, x, kernel, bias, node.inputs[1:])


def _dense(reading, node, x, kernel, bias, names, activation=None):
    if x.of[0] != "context":
        x = reading.last(node, x)
    weights = [kernel] if bias is None else [kernel, bias]
    options = {"use_bias": bias is not None}
    if activation is not None:
        options["activation"] = activation
    key = ("Dense", *names, activation)
    part = reading.one(node, x)
    if x.of[0] == "context" and x.is_plain() and activation is None:
        made = heads_layer(reading, node, x.of, kernel, bias)
        return Value(Part(made, ("dense", node, x, kernel, bias, [*names], None)), x.axes)
    call = reading.weighted(node, L.Dense, weights, key, kernel.shape[1], **options)
    of = ("dense", node, x, kernel, bias, [*names], activation)
    return Value(Part(lambda: call(part.tensor()), of), x.axes)


@reader(*GATES)
def _recurrent(reading, node, x, w, r, b=None, lengths=None, h=None, c=None, peepholes=None):
    w, r, b = (constant(reading, node, a) for a in (w, r, b))
    if isinstance(lengths, Value) or peepholes is not None or node.attributes.get("layout", 0):
        reading.refuse(node, "no layer has lengths that are computed, or other layouts")
    if lengths is not None and not isinstance(lengths, OfMask):
        steps = reading.array(node.inputs[0]).shape[0]
        if np.any(constant(reading, node, lengths) != steps):
            reading.refuse(node, "no layer has these lengths")
    make = MakesRecurrent(node, (w, r, b))
    x = x.seen_as([x.axes[n] for n in (1, 0, 2)])
    within = x.axes == ((0, 1), 2, 3)
    part = reading.one(node, x) if within else reading.plain(x, node)
    inputs = [part, *_starts(reading, node, [h, c][: len(make.states)], make.directions)]
    key = (node.op, *node.inputs[1:4], str(sorted(node.attributes.items())), within)
    calls = RecurrentCalls(reading, node, key, make, inputs, within)
    backward = node.attributes.get("direction") in (b"reverse", "reverse")
    values = []
    for kind, axes in (("y", (1, BOTH, 0, 2)), ("h", (BOTH, 0, 1)), ("c", (BOTH, 0, 1))):
        if kind == "c" and kind not in make.states:
            continue
        parts = [
            Part(lambda k=kind, d=d: calls.get(k, d), ("recurrent", calls, kind, d, d or backward))
            for d in range(make.directions)
        ]
        if make.directions == 1:
            axes = [None if axis == BOTH else axis for axis in axes]
        if within:
            axes = [(0, 1) if a == 0 else a + 1 if isinstance(a, int) else a for a in axes]
        values.append(Value(parts, axes, backward and kind == "y"))
    return values[: len(node.outputs)]


def _starts(reading, node, states, directions):
    """The parts of initial states, the forward direction's first; none where they are zeros."""
    found = []
    for state in states:
        if state is None or isinstance(state, (np.ndarray, OfSizes)):
            array = constant(reading, node, state)
            if array is not None and array.any():
                reading.refuse(node, "no layer has states to start from that are constants")
            continue
        wanted = (None, 0, 1) if directions == 1 else (BOTH, 0, 1)
        if state.axes != wanted or len(state.parts) != directions:
            reading.refuse(node, "expected its states from layers")
        found.append(state.parts)
    if found and len(found) < len(states):
        reading.refuse(node, "expected all states to start from, or none")
    return [part for direction in zip(*found, strict=True) for part in direction]


@reader("LayerNormalization")
def _layer_normalization(reading, node, x, scale, bias=None):
    scale, bias = constant(reading, node, scale), constant(reading, node, bias)
    if node.attributes["axis"] not in (-1, x.rank - 1) or scale.ndim != 1:
        reading.refuse(node, "expected the last axis")
    weights = [scale] if bias is None else [scale, bias]
    options = {"epsilon": node.attributes["epsilon"], "center": bias is not None}
    key = ("LayerNormalization", *node.inputs[1:])
    call = reading.weighted(node, L.LayerNormalization, weights, key, **options)
    return reading.on(reading.last(node, x), call, node)


@reader("BatchNormalization")
def _batch_normalization(reading, node, x, *arrays):
    arrays = [constant(reading, node, array) for array in arrays]
    options = {name: node.attributes[name] for name in ("momentum", "epsilon")}
    part, axis = reading.one(node, x), x.axes[1] if x.rank > 1 else None
    if not isinstance(axis, int):
        reading.refuse(node)
    key = ("BatchNormalization", *node.inputs[1:])
    call = reading.weighted(node, L.BatchNormalization, arrays, key, axis, **options)
    return Value(Part(lambda: call(part.tensor())), x.axes)


@reader("Conv")
def _conv(reading, node, x, kernel, bias=None):
    kernel, bias = constant(reading, node, kernel), constant(reading, node, bias)
    axes = kernel.ndim - 2
    if axes not in (1, 2) or x.rank != kernel.ndim:
        reading.refuse(node)
    x, data_format, steps = _channels(reading, node, x)
    sizes, padding = kernel.shape[2:], _padding(reading, node, kernel.shape[2:], axes)
    options = {
        "strides": node.attributes.get("strides") or [1] * axes,
        "dilation_rate": node.attributes.get("dilations") or [1] * axes,
        "groups": node.attributes["group"],
        "use_bias": bias is not None,
    }
    weights = [kernel.transpose(*range(2, kernel.ndim), 1, 0), *([] if bias is None else [bias])]
    cls, key = (L.Conv1D, L.Conv2D)[axes - 1], ("Conv", *node.inputs[1:], padding, data_format)
    options = {name: tuple(o) if isinstance(o, list) else o for name, o in options.items()}
    part = reading.one(node, x)

    def made(activation=None):
        call = reading.weighted(
            node, cls, weights, (*key, activation), len(kernel), sizes, within=steps,
            padding=padding, data_format=data_format, activation=activation, **options,
        )  # fmt: skip
        return Value(Part(lambda: call(part.tensor()), ("conv", made, activation)), x.axes)

    return made()


@reader("ConvTranspose")
def _conv_transpose(reading, node, x, kernel, bias=None):
    kernel, bias = constant(reading, node, kernel), constant(reading, node, bias)
    given = node.attributes
    if kernel.ndim != 3 or given["group"] != 1 or given["auto_pad"] != b"NOTSET":
        reading.refuse(node)
    x, data_format, steps = _channels(reading, node, x)
    strides, dilations = ((given.get(n) or [1])[0] for n in ("strides", "dilations"))
    ends = (given.get("output_padding") or [0])[0], *(given.get("pads") or [0, 0])
    arguments = *kernel.shape[1:], strides
    always = {"data_format": data_format, "dilation_rate": dilations, "use_bias": bias is not None}
    for padding, more in itertools.product(("valid", "same"), (None, *range(strides))):
        options = {"padding": padding, "output_padding": more, **always}
        if L.Conv1DTranspose(*arguments, **options).ends() == ends:
            weights = [kernel.transpose(2, 1, 0), *([] if bias is None else [bias])]
            key = ("ConvTranspose", *node.inputs[1:], padding, more, data_format)
            call = reading.weighted(
                node, L.Conv1DTranspose, weights, key, *arguments, within=steps, **options
            )
            return reading.on(x, call, node)
    reading.refuse(node, f"no layer has the padding {ends}")


def _channels(reading, node, x):
    """(a value whose part has the channels where a layer takes them, the layer's data_format, are
    its first two axes in one)."""
    steps = x.axes[0] == (0, 1)
    shift = 1 if steps else 0
    inner = [axis - shift for axis in x.axes[1:] if isinstance(axis, int)]
    if len(inner) == x.rank - 1 and (steps or x.axes[0] == 0):
        if inner == [x.rank - 1, *range(1, x.rank - 1)]:
            return x, "channels_last", steps
        if inner == [*range(1, x.rank)]:
            return x, "channels_first", steps
    if steps:
        reading.refuse(node, "its axes are in another order")
    return Value(reading.plain(x, node), range(x.rank)), "channels_first", False


def _padding(reading, node, sizes, axes):
    given = node.attributes
    pads, strides = given.get("pads") or [0] * 2 * axes, given.get("strides") or [1] * axes
    dilations = given.get("dilations") or [1] * axes
    reach = [(size - 1) * dilation for size, dilation in zip(sizes, dilations, strict=True)]
    if given["auto_pad"] == b"SAME_UPPER":
        return "same"
    if given["auto_pad"] in (b"NOTSET", b"VALID") and not any(pads):
        return "valid"
    if pads == [*(n // 2 for n in reach), *(n - n // 2 for n in reach)] and max(strides) == 1:
        return "same"
    if axes == 1 and pads == [reach[0], 0]:
        return "causal"
    reading.refuse(node, f"no layer has the padding {pads}")


@reader("MaxPool", "AveragePool")
def _pool(reading, node, x):
    sizes = tuple(node.attributes["kernel_shape"])
    axes = len(sizes)
    if axes not in (1, 2) or (
        node.attributes.get("count_include_pad") and any(node.attributes.get("pads") or [])
    ):
        reading.refuse(node)
    if any(n != 1 for n in node.attributes.get("dilations") or []):
        reading.refuse(node)
    x, data_format, steps = _channels(reading, node, x)
    kinds = {"MaxPool": (L.MaxPooling1D, L.MaxPooling2D)}
    cls = kinds.get(node.op, (L.AveragePooling1D, L.AveragePooling2D))[axes - 1]
    padding = _padding(reading, node, sizes, axes)
    strides = tuple(node.attributes.get("strides") or [1] * axes)
    call = called(lambda: cls(sizes, strides, padding, data_format=data_format), steps)
    return reading.on(x, call, node)


@reader("ReduceMean", "ReduceMax", "GlobalAveragePool", "GlobalMaxPool")
def _reduce(reading, node, x, axes=None):
    keep = bool(node.attributes.get("keepdims", 1))
    if node.op.startswith("Global"):
        axes = [*range(2, x.rank)]
    else:
        axes = axes_of(reading, node, x, axes, x.rank) or [*range(x.rank)]
    part, mean = reading.one(node, x), node.op in ("ReduceMean", "GlobalAveragePool")
    steps = x.axes[0] == (0, 1)
    over = sorted(x.axes[n] - steps for n in axes if isinstance(x.axes[n], int))
    rank = len(part.tensor().shape) - steps
    formats = {
        (1,): "channels_last", (2,): "channels_first", (1, 2): "channels_last",
        (2, 3): "channels_first",
    }  # fmt: skip
    if len(over) != len(axes) or rank != len(over) + 2 or tuple(over) not in formats:
        reading.refuse(node, "no layer takes this mean" if mean else "no layer takes this maximum")
    options = {"keepdims": keep, "data_format": formats[tuple(over)]}
    classes = {
        (True, 1): L.GlobalAveragePooling1D, (True, 2): L.GlobalAveragePooling2D,
        (False, 1): L.GlobalMaxPooling1D, (False, 2): L.GlobalMaxPooling2D,
    }  # fmt: skip
    made = reading.on(x, called(lambda: classes[mean, len(over)](**options), steps), node)
    if keep:
        if mean and not steps and over == [rank - 1] and x.is_plain():
            kind, *base = x.of
            if kind in ("squares", "own squares"):
                name = "variance" if kind == "squares" else "mean square"
                made.parts[0].of = (name, *base, None)
            else:
                made.parts[0].of = ("mean", x)
        return made
    rest = [axis for n, axis in enumerate(x.axes) if n not in axes]
    left = sorted(axis for axis in rest if isinstance(axis, int))
    return made.seen_as(left.index(a) + 2 * steps if isinstance(a, int) else a for a in rest)


# --- layers of several inputs ---

MERGES = {"Add": L.Add, "Max": L.Maximum, "Min": L.Minimum, "Mul": L.Multiply, "Sub": L.Subtract}


@reader("Add", "Div", "Max", "Min", "Mul", "Sub")
def _merge(reading, node, *values):
    if len(values) == 1:
        return values[0]
    if len(values) > 2:
        first = _merge(reading, node, *values[:-1])
        return _merge(reading, node, first, values[-1])
    x, y = values
    if isinstance(x, Value) and isinstance(y, Value):
        return _merged(reading, node, x, y)
    turned = isinstance(y, Value)
    value, number = (y, x) if turned else (x, y)
    return _with_number(reading, node, value, constant(reading, node, number), turned)


def _merged(reading, node, x, y):
    known = normalized(reading, node, x, y)
    if known is not None:
        return known
    if node.op == "Add" and {x.axes, y.axes} == {(0, 1, None, 2), (0, None, 1, 2)}:
        query, key = (x, y) if x.axes[2] is None else (y, x)
        return Value(
            Part(lambda: none(node), ("sums", query.parts[0], key.parts[0], False, None)),
            range(4),
        )
    for one, other in ((x, y), (y, x)) if node.op == "Mul" else ():
        if other.of == ("sigmoid", one.parts[0]):
            return _activated(reading, node, one, "silu")
        if other.of[0] == "erf and 1" and one.of[0] == "rescaled" and one.of[1] is other.of[1]:
            if np.all(one.of[2] == 0.5) and not np.any(one.of[3]):
                value = Value(one.of[1], one.axes)
                return _activated(reading, node, value, "gelu")
        if other.of[0] == "bounded" and one.parts[0] is other.of[1].parts[0]:
            _, base, axes, bound = other.of
            part = base.parts[0]
            made = Part(
                lambda: L.UnitNormalization(axes)(part.tensor()),  # noqa: B023
                ("unit", part, axes, bound),
            )
            return Value(made, one.axes)
    if node.op == "Div":
        reading.refuse(node, "no layer divides its inputs")
    if x.of[0] == y.of[0] == "recurrent" and x.axes == y.axes and node.op in ("Add", "Mul"):
        _, calls, kind, first, _ = x.of
        if y.of[1:4] == (calls, kind, 1) and first == 0:
            mode = "sum" if node.op == "Add" else "mul"
            made = Part(lambda: calls.get(kind, mode), ("recurrent", calls, kind, mode, None))
            return Value(made, x.axes)
    parts, axes = _aligned(reading, node, x, y)
    if node.op != "Sub" and x.of[:2] == ("merged", node.op) and x.axes == y.axes:
        if reading.readers[node.inputs[0]] == 1:
            parts = [*x.of[2:], parts[1]]
    of = ("merged", node.op, *parts)
    return Value(Part(lambda: MERGES[node.op]()([p.tensor() for p in parts]), of), axes)


def _aligned(reading, node, x, y):
    """The parts of two values that a layer of Keras broadcasts as ONNX does, and their axes."""
    pair = [reading.one(node, value) for value in (x, y)]
    if x.axes == y.axes:
        return pair, x.axes
    parts = []
    for value, part in zip((x, y), pair, strict=True):
        own = [axis for axis in value.axes if axis is not None]
        lead = (0, *[None] * (value.rank - len(own)), *range(1, len(own)))
        same = value.axes == lead and max(x.rank, y.rank) == value.rank
        parts.append(part if same else reading.plain(value, node))
    if x.rank != y.rank:
        reading.refuse(node, "its inputs have different numbers of axes")
    return parts, range(x.rank)


def _with_number(reading, node, x, number, turned):
    """An operator on what a layer gives and a constant."""
    kind, *rest = x.of
    sizes = reading.sizes(node.outputs[0])
    if kind in NORMALIZING:
        return normalizing(reading, node, x, number)
    if node.op == "Add" and kind == "dense" and rest[3] is None and rest[5] is None:
        origin, given, kernel, _, names, _ = rest
        of_units = number.shape[-1:] == kernel.shape[1:] and number.size == kernel.shape[1]
        if of_units and x.axes[-1] == given.axes[-1]:
            bias = np.broadcast_to(number.reshape(-1), kernel.shape[1:])
            bias_name = node.inputs[0 if turned else 1]
            made = _dense(reading, origin, given, kernel, bias, [*names, bias_name])
            return made.seen_as(x.axes)
    if number.ndim > len(sizes):
        reading.refuse(node)
    if node.op == "Div" and x.of[:2] == ("merged", "Add") and np.all(number == len(rest) - 1):
        parts = rest[1:]
        return Value(Part(lambda: L.Average()([part.tensor() for part in parts])), x.axes)
    special = _with_number_of(reading, node, x, number, turned)
    if special is not None:
        return special
    one = np.float32(1)
    if node.op == "Add":
        scale, offset = one, number
    elif node.op == "Mul":
        scale, offset = number, one * 0
    elif node.op == "Sub":
        scale, offset = (-one, number) if turned else (one, -number)
    elif node.op == "Div" and not turned and np.all(number):
        scale, offset = one / number, one * 0
    else:
        reading.refuse(node)
    given = scale, offset
    part, of = reading.one(node, x), ()
    if kind == "rescaled" and reading.readers[node.inputs[1 if turned else 0]] == 1:
        part, before, moved = rest
        scale, offset = scale * before, scale * moved + offset
    scale, offset = _trimmed(scale), _trimmed(offset)
    if max(scale.ndim, offset.ndim) > 1 or x.axes[-1] != x.rank - 1 + (x.axes[0] == (0, 1)):
        if max(scale.size, offset.size) > 1:
            if kind == "rescaled":
                part = x.parts[0]
                scale, offset = map(_trimmed, given)
            if not x.is_plain():
                part = reading.plain(x, node)
                x = x.seen_as(range(x.rank))
    of = ("rescaled", part, scale, offset)
    if node.op == "Sub" and not turned and number.size == 1:
        of = ("less", x.parts[0])
    return Value(Part(lambda: L.Rescaling(scale, offset)(part.tensor()), of), x.axes)


def _trimmed(array):
    """An array without leading axes of size 1, a number if it has one element."""
    array = np.asarray(array, np.float32)
    if array.size == 1:
        return array.reshape(())
    while array.shape[0] == 1:
        array = array[0]
    return array


def _with_number_of(reading, node, x, number, turned):
    """Steps of attention, of activations and of norms with a constant; None for others."""
    kind, *rest = x.of
    single = number.reshape(-1)[0] if number.size == 1 else None
    if node.op == "Mul" and single is not None:
        if kind == "scores" and rest[2] is None and rest[3] is False:
            query, key, *_ = rest
            part = x.parts[0]
            made = Part(
                lambda: L.Rescaling(single)(part.tensor()), ("scores", query, key, single, False)
            )
            return Value(made, x.axes)
        if kind == "sums" and rest[3] is None:
            return step(node, x, *x.of[:4], single)
        if kind == "head scores" and rest[2] is None:
            return step(node, x, kind, *rest[:2], single, *rest[3:])
    if node.op == "Mul" and kind == "recurrent" and rest[2] == "sum" and single == 0.5:
        calls, which, *_ = rest
        made = Part(lambda: calls.get(which, "ave"), ("recurrent", calls, which, "ave", None))
        return Value(made, x.axes)
    if node.op == "Add" and kind == "erf" and single == 1:
        return step(node, x, "erf and 1", *rest)
    if node.op == "Div" and kind == "norm" and turned and single == 1:
        return step(node, x, "inverse norm", *rest)
    if node.op == "Min" and kind == "inverse norm" and single is not None:
        return step(node, x, "bounded", *rest, single)
    if node.op == "Mul" and kind == "head shares" and rest[4]:  # what sees nothing is 0 anyway
        return x
    return None


@reader("ReduceSum")
def _sum(reading, node, x, axes=None):
    axes = axes_of(reading, node, x, axes, x.rank)
    kind, *rest = x.of
    if kind == "own squares" and axes and node.attributes["keepdims"]:
        if x.is_plain():
            return step(node, x, "square sum", rest[0], axes)
        reading.refuse(node)
    if (
        kind == "merged"
        and rest[0] == "Mul"
        and x.rank == 3
        and axes is not None
        and len(axes) == 1
    ):
        _, one, other = rest
        axis = x.axes[axes[0]]
        if axis == 1:
            tensors = one.tensor(), other.tensor()
            if any(tensor.shape[2:] == (1,) for tensor in tensors):
                made = Part(lambda: L.Dot((1, 1))([*tensors]))
                first = tensors[0].shape[2:] == (1,)
                return Value(made, _summed_axes(first, node.attributes["keepdims"]))
    if kind == "kept" and x.rank == 3 and axes in ([1], [2]) and rest[0].is_plain():
        keep, data_format = bool(node.attributes["keepdims"]), "channels_last"
        if axes == [2]:
            data_format = "channels_first"
        return step(node, x, "kept sum", rest[0].parts[0], data_format, keep).seen_as(
            (0, 1, 2) if keep else (0, 1)
        )
    reading.refuse(node)


def _summed_axes(first, keep):
    """Those of (batch, 1, n), or of (batch, n, 1), as (batch, 1, n) or (batch, n)."""
    own = 2 if first else 1
    return (0, 3 - own, own) if keep else (0, own)


# --- activations ---


@reader("Softmax")
def _softmax(reading, node, x):
    n = node.attributes["axis"] % x.rank
    if node.version < 13 and n != x.rank - 1:
        reading.refuse(node, "a softmax over several axes is not supported")
    axis, kind = x.axes[n], x.of[0]
    if not isinstance(axis, int):
        reading.refuse(node)
    if kind == "dense" and axis == x.of[2].axes[-1]:
        return _activated(reading, node, x, "softmax")
    part = reading.one(node, x)
    if kind == "scores":
        if n != x.rank - 1:
            reading.refuse(node)
        call = AttentionCall(reading, node.outputs[0], lambda: L.Softmax()(part.tensor()))
        return Value(Part(call.shares, ("shares", call, *x.of[1:])), x.axes)
    if kind == "head scores" and n == x.rank - 1:
        call = AttentionCall(reading, node.outputs[0], lambda: none(node))
        return Value(Part(call.shares, ("head shares", call, *x.of[1:])), x.axes)
    rank = len(part.tensor().shape)
    if axis == rank - 1:
        return _activated(reading, node, x, "softmax")
    return reading.on(x, lambda t: L.Softmax(axis)(t), node)


@reader("LeakyRelu")
def _leaky_relu(reading, node, x):
    alpha = node.attributes["alpha"]
    return reading.on(x, lambda t: L.LeakyReLU(alpha)(t), node)


@reader("PRelu")
def _prelu(reading, node, x, slope):
    slope = constant(reading, node, slope)
    value = Value(reading.plain(x, node), range(x.rank))
    sizes = reading.sizes(node.inputs[0])[1:]
    shape = (1,) * (len(sizes) - slope.ndim) + slope.shape
    shared = [n + 1 for n, size in enumerate(shape) if size == 1]
    call = reading.weighted(
        node, L.PReLU, [slope.reshape(shape)], ("PRelu", node.inputs[1]), shared_axes=shared or None
    )
    return reading.on(value, call, node)


@reader("Clip")
def _clip(reading, node, x, low=None, high=None):
    ends = [node.attributes.get("min", low), node.attributes.get("max", high)]
    ends = [None if end is None else float(np.asarray(end).reshape(())) for end in ends]
    name = {(0.0, 6.0): "relu6", (-1.0, 1.0): "hard_tanh"}.get(tuple(ends))
    if name is None:
        reading.refuse(node)
    return _activated(reading, node, x, name)


@reader("Erf")
def _erf(reading, node, x):
    if x.of[0] != "rescaled" or not np.allclose(x.of[2], 0.5**0.5) or np.any(x.of[3]):
        reading.refuse(node)
    return step(node, x, "erf", x.of[1])


@reader("Exp", "HardSigmoid", *ACTIVATIONS.keys() - {"Softmax"})
def _activation(reading, node, x):
    if node.op == "HardSigmoid":
        names = {1 / 6: "hard_sigmoid", 0.2: "hard_sigmoid_keras2", 0.5: "sparse_sigmoid"}
        alpha, beta = node.attributes["alpha"], node.attributes["beta"]
        name = next((n for a, n in names.items() if np.float32(a) == np.float32(alpha)), None)
        options = {"beta": 0.5} if beta == 0.5 and name else {"beta": None}
    elif node.op == "Exp":
        name, options = "exponential", {}
    else:
        name, options = ACTIVATIONS[node.op]
    if node.op == "Elu" and node.attributes["alpha"] != 1:
        return reading.on(x, called(lambda: L.ELU(node.attributes["alpha"])), node)
    if any(node.attributes[key] != value for key, value in options.items()):
        reading.refuse(node)
    if node.op == "Tanh" and x.of[0] == "sums" and not x.of[3]:
        return Value(Part(lambda: none(node), (*x.of[:3], True, x.of[4])), x.axes)
    if node.op == "LogSoftmax" and node.attributes["axis"] % x.rank != x.rank - 1:
        reading.refuse(node)
    return _activated(reading, node, x, name)


def _activated(reading, node, x, name):
    """An activation, which becomes part of a Dense below it."""
    kind, *rest = x.of
    if kind == "dense" and rest[5] is None:
        origin, given, kernel, bias, names, _ = rest
        return _dense(reading, origin, given, kernel, bias, names, name).seen_as(x.axes)
    if kind == "conv" and rest[1] is None and name != "softmax":
        return rest[0](name).seen_as(x.axes)
    part = reading.one(node, x)
    of = ("sigmoid", part) if name == "sigmoid" else (None,)
    if name in ("softmax", "log_softmax"):
        x = reading.last(node, x)
        part = reading.one(node, x)
    return Value(Part(lambda: L.Activation(name)(part.tensor()), of), x.axes)
