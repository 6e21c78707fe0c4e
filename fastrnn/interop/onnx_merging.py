"""The ONNX operators of layers of several inputs: those that merge them, and attention."""

import numpy as np
import onnx

from fastrnn.interop.onnx_writer import exporter, f, masks_of_one_rank, refuse

FAR = f(1e9)  # how much less the scores of what is masked are

# Class: the operator, and what a masked step of an input counts as, if not as it is.
FOLDS = {
    "Add": ("Add", None),
    "Average": ("Add", None),
    "Maximum": ("Max", -np.inf),
    "Minimum": ("Min", np.inf),
    "Multiply": ("Mul", 1),
    "Subtract": ("Sub", None),
}


@exporter(*FOLDS)
def _fold(writer, layer, xs, shapes, masks):
    op, neutral = FOLDS[type(layer).__name__]
    rank = max(map(len, shapes))
    given = xs
    if neutral is None:
        masks = None
    if masks is not None:
        xs = [
            x
            if mask is None
            else writer.add("Where", _shown(writer, mask, len(shape)), x, f(neutral))
            for x, shape, mask in zip(xs, shapes, masks, strict=True)
        ]
    y = writer.fold(op, _of_one_rank(writer, xs, shapes, rank))
    if type(layer).__name__ == "Average":
        y = writer.add("Div", y, f(len(xs)))
    if masks is None or None in masks:
        return y
    aligned, own = masks_of_one_rank(writer, masks, shapes)
    somewhere = writer.with_axes(writer.fold("Or", aligned), own, rank)
    first = f(0) if op == "Mul" else _of_one_rank(writer, given[:1], shapes[:1], rank)[0]
    return writer.add("Where", somewhere, y, first)


def _shown(writer, mask, rank):
    return writer.with_axes(mask, writer.ranks[mask], rank)


def _of_one_rank(writer, xs, shapes, rank):
    return [
        writer.with_axes(x, len(shape), rank, first=1) for x, shape in zip(xs, shapes, strict=True)
    ]


@exporter("Concatenate")
def _concatenate(writer, layer, xs, shapes, masks):
    return writer.add("Concat", *xs, axis=layer.axis % len(shapes[0]))


@exporter("Dot")
def _dot(writer, layer, xs, shapes, masks):
    axes = [axis % len(shape) for axis, shape in zip(layer.both_axes, shapes, strict=True)]
    if layer.normalize:
        xs = [writer.unit(x, [axis], 1e7) for x, axis in zip(xs, axes, strict=True)]
    rests, matrices = [], []
    for x, shape, axis in zip(xs, shapes, axes, strict=True):
        rest = [n for n in range(1, len(shape)) if n != axis]
        if axis < len(shape) - 1:
            x = writer.add("Transpose", x, perm=[0, *rest, axis])
        rests.append((x, len(rest)))
        if not rest:
            x = writer.add("Unsqueeze", x, np.array([1]))
        elif len(rest) > 1:
            x = writer.add("Reshape", x, writer.joined(0, -1, writer.sizes(x, len(rest) + 1)))
        matrices.append(x)
    right = writer.add("Transpose", matrices[1], perm=[0, 2, 1])
    y = writer.add("MatMul", matrices[0], right)
    (left, ours), (right, theirs) = rests
    if ours <= 1 and theirs <= 1:
        if ours and theirs:
            return y
        return writer.add("Squeeze", y, np.array([1 if theirs else 2]))
    sizes = [writer.sizes(left, 0, 1 + ours)]
    if theirs:
        sizes.append(writer.sizes(right, 1, 1 + theirs))
    return writer.add("Reshape", y, writer.joined(*sizes))


# --- attention ---


def _positions(writer, query, value, axis):
    """The numbers of the queries (Tq, 1) and of the values (Tv), which are on this axis."""
    numbers = []
    for x in (query, value):
        size = writer.add("Squeeze", writer.sizes(x, axis, axis + 1), np.array([0]))
        numbers.append(writer.add("Range", np.int64(0), size, np.int64(1)))
    return writer.add("Unsqueeze", numbers[0], np.array([1])), numbers[1]


@exporter("Attention", "AdditiveAttention")
def _attention(
    writer, layer, xs, shapes, masks, return_attention_scores=False, use_causal_mask=False
):
    query, value, key = xs[0], xs[1], xs[-1]
    rank = len(shapes[0])
    if layer.score_mode == "dot":
        turned = writer.add("Transpose", key, perm=[*range(rank - 2), rank - 1, rank - 2])
        scores = writer.add("MatMul", query, turned)
        if layer.scale is not None:
            scores = writer.add("Mul", scores, layer.scale.value)
    else:
        inner, outer = layer._factors(shapes[0][-1])
        sums = writer.add(
            "Add",
            writer.add("Unsqueeze", query, np.array([rank - 1])),
            writer.add("Unsqueeze", key, np.array([rank - 2])),
        )
        if inner is not None:
            sums = writer.add("Mul", sums, inner)
        scores = writer.add("MatMul", writer.add("Tanh", sums), outer)
    query_mask, value_mask = (None, None) if masks is None else masks[:2]
    seen = []
    if value_mask is not None:
        seen.append(writer.add("Unsqueeze", value_mask, np.array([rank - 2])))
    if use_causal_mask:
        rows, columns = _positions(writer, query, value, rank - 2)
        seen.append(writer.add("GreaterOrEqual", rows, columns))
    if seen:
        less = writer.add("Sub", scores, FAR)
        scores = writer.add("Where", writer.fold("And", seen), scores, less)
    weights = writer.add("Softmax", scores, axis=-1)
    y = writer.add("MatMul", weights, value)
    if query_mask is not None:
        shown = writer.floats(writer.add("Unsqueeze", query_mask, np.array([rank - 1])))
        y = writer.add("Mul", y, shown)
    return [y, weights] if return_attention_scores else y


@exporter("GroupQueryAttention", "MultiHeadAttention")
def _heads(
    writer, layer, xs, shapes, masks, attention_mask=None, return_attention_scores=False,
    use_causal_mask=False,
):  # fmt: skip
    query, value = xs[:2]
    key = xs[2] if len(xs) > 2 else value
    if len(xs) == 4:
        attention_mask = writer.add("Cast", xs[3], to=onnx.TensorProto.BOOL)
    elif attention_mask is not None:
        attention_mask = np.asarray(attention_mask, bool)
    rank, axes, group = len(shapes[0]), layer._axes, layer._group
    lead, places = [n for n in range(rank - 1) if n not in axes], len(axes)
    order = [*lead, rank - 1, *axes, rank]  # of (batch, ..., T, ..., heads, size)
    projections = {
        "query": layer._query_dense, "key": layer._key_dense, "value": layer._value_dense,
    }  # fmt: skip
    heads = {}
    for name, x in zip(projections, (query, key, value), strict=True):
        dense = projections[name]
        y = _projected(writer, dense, x)
        count, size = dense.sizes
        y = writer.add("Reshape", y, np.array([0] * (rank - 1) + [count, size]))
        y = writer.add("Transpose", y, perm=order)
        split = [0] * len(lead) + ([count] if group == 1 else [count, 1])
        if group > 1 and name == "query":
            split[-2:] = [count // group, group]
        if group > 1 or places > 1:
            y = writer.add("Reshape", y, np.array([*split, -1, size]))
        heads[name] = y
    axis = len(lead) + (2 if group > 1 else 1)
    turned = writer.add("Transpose", heads["key"], perm=[*range(axis), axis + 1, axis])
    scores = writer.add("MatMul", heads["query"], turned)
    scores = writer.add("Mul", scores, layer._factor)
    seen = _seen(writer, layer, xs, shapes, masks, attention_mask, use_causal_mask)
    plain = group == 1 and places == 1
    count = layer._query_dense.sizes[0]
    public = own = None
    if not plain and (seen is not None or return_attention_scores):
        of_places = [
            writer.add("Gather", writer.add("Shape", x), np.array(axes), axis=0)
            for x in (query, key)
        ]
        of_lead = writer.add("Gather", writer.add("Shape", query), np.array(lead), axis=0)
        public, own = writer.joined(of_lead, count, *of_places), writer.add("Shape", scores)
    if seen is not None:
        if public is not None:
            scores = writer.add("Reshape", scores, public)
        scores = writer.add("Where", seen, scores, -FAR)
        if public is not None:
            scores = writer.add("Reshape", scores, own)
    weights = writer.add("Softmax", scores, axis=-1)
    shown = weights
    if return_attention_scores and public is not None:
        shown = writer.add("Reshape", weights, public)
    if seen is not None and (layer._dropout > 0 or return_attention_scores or rank != 3):
        kept = writer.floats(seen)
        if public is None:
            weights = shown = writer.add("Mul", weights, kept)
        else:
            shown = writer.add("Mul", writer.add("Reshape", weights, public), kept)
            weights = writer.add("Reshape", shown, own)
    y = writer.add("MatMul", weights, heads["value"])
    size = layer._value_dense.sizes[1]
    if places > 1:
        of_lead = writer.add("Gather", writer.add("Shape", query), np.array(lead), axis=0)
        of_places = writer.add("Gather", writer.add("Shape", query), np.array(axes), axis=0)
        y = writer.add("Reshape", y, writer.joined(of_lead, count, of_places, size))
    elif group > 1:
        y = writer.add("Reshape", y, np.array([0] * len(lead) + [count, -1, size]))
    y = writer.add("Transpose", y, perm=np.argsort(order).tolist())
    y = writer.add("Reshape", y, np.array([0] * (rank - 1) + [count * size]))
    if layer._use_gate:
        gate = writer.add("Sigmoid", _projected(writer, layer._gate_dense, query))
        y = writer.add("Mul", y, gate)
    y = _projected(writer, layer._output_dense, y)
    out = layer._output_dense.sizes
    if len(out) > 1:
        y = writer.add("Reshape", y, np.array([0] * (rank - 1) + [*out]))
    return [y, shown] if return_attention_scores else y


def _projected(writer, dense, x):
    """x (..., n) by a Projection, with its sizes on one axis."""
    y = writer.add("MatMul", x, dense.kernel.value.reshape(dense._matrix))
    return writer.add("Add", y, dense.bias.value.reshape(-1)) if dense.use_bias else y


def _seen(writer, layer, xs, shapes, masks, attention_mask, causal):
    """Which values each query may see, in a shape that broadcasts to the scores', or None."""
    query_mask, value_mask, key_mask = (*(masks or ())[:3], None, None, None)[:3]
    seen = []  # pairs of a name and its rank
    if query_mask is not None:
        rank = writer.ranks[query_mask]
        seen.append((writer.add("Unsqueeze", query_mask, np.array([rank])), rank + 1))
    for mask in (value_mask, key_mask):
        if mask is not None:
            rank = writer.ranks[mask]
            seen.append((writer.add("Unsqueeze", mask, np.array([rank - 1])), rank + 1))
    if causal or layer.sliding_window is not None:
        rows, columns = _positions(writer, *xs[:2], 1)
        if causal:
            seen.append((writer.add("GreaterOrEqual", rows, columns), 2))
        if layer.sliding_window is not None:
            distance = writer.add("Abs", writer.add("Sub", rows, columns))
            seen.append((writer.add("Less", distance, np.int64(layer.sliding_window)), 2))
    if attention_mask is not None:
        rank = len(shapes[3]) if isinstance(attention_mask, str) else attention_mask.ndim
        seen.append((attention_mask, rank))
    if not seen:
        return None
    rank = max(3, *(own for _, own in seen))
    one = writer.fold("And", [name for name, _ in seen])
    if max(own for _, own in seen) < rank:
        one = writer.add("Unsqueeze", one, np.array([0]))
    places = 2 * len(layer._axes)
    missing = len(shapes[0]) + len(layer._axes) - rank
    if missing < 0:
        refuse(layer, f"a mask of rank {rank} is not supported")
    return writer.with_axes(one, rank, rank + missing, max(rank - places, 0))
