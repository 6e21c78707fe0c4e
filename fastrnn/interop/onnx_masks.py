"""Masks in ONNX graphs, in the form in which to_onnx writes them.

Layers get them from the Embedding or Masking where they begin; so what a graph does with them on
the way is passed over, and whether it is the same shows when both are run."""

from fastrnn import layers as L
from fastrnn.interop.onnx_reading import MASKED, OfMask, Part, Value, constant, reader, step


def masked(*ops):
    def keep(function):
        MASKED.update(dict.fromkeys(ops, function))
        return function

    return keep


@reader("Equal")
def _equal(reading, node, x, number):
    number, part = constant(reading, node, number), reading.one(node, x)
    if number.size != 1:
        reading.refuse(node)
    if part.of[0] == "input":
        reading.masked[part.of[1]] = number.reshape(())
    if x.whole or number.dtype.kind in "iu":
        reading.needs.setdefault(("mask", part.of[1:]), set())
        return OfMask()
    return OfMask(masking=(part, float(number.reshape(()))))


@masked("GatherElements")
def _gather_elements(reading, node, x, places):
    return x


@masked("Where")
def _where(reading, node, seen, x, other):
    if not isinstance(seen, OfMask) or not isinstance(x, Value):
        reading.refuse(node)
    kind, *rest = x.of
    if not seen.causal:
        return x
    if kind == "scores":
        return step(node, x, kind, *rest[:3], True, *rest[4:])
    if kind == "head scores":
        return step(node, x, kind, *rest[:3], True)
    reading.refuse(node)


@masked("Mul")
def _mul(reading, node, x, y):
    x, mask = (x, y) if isinstance(x, Value) else (y, x)
    part = reading.one(node, x)
    if mask.masking is not None and mask.masking[0] is part and x.is_plain():
        number = mask.masking[1]
        return Value(Part(lambda: L.Masking(number)(part.tensor())), x.axes)
    if x.of[0] == "head shares":
        return x
    return Value(Part(part.tensor, ("kept", x)), x.axes)


@masked("Div")
def _div(reading, node, x, count):
    if not isinstance(x, Value) or x.of[0] != "kept sum":
        reading.refuse(node)
    _, part, data_format, keep = x.of
    options = {"data_format": data_format, "keepdims": keep}
    return Value(Part(lambda: L.GlobalAveragePooling1D(**options)(part.tensor())), x.axes)
