"""Symbolic tensors, and the calls of layers that give them: what models.Model makes models of."""

from __future__ import annotations

import itertools

_numbers = itertools.count()


class Node:
    """One call of a layer. inputs: the tensors that it got, `single` if it got one tensor and no
    list; options: what the call said beside tensors; outputs: what came of it, `several` if that is
    a list. masks: those that the call gave in place of the inputs' own, or none; training: the mode
    that it said, or None. number: nodes made later have higher ones."""

    __slots__ = (
        "__weakref__", "inputs", "layer", "masks", "number", "options", "outputs", "several",
        "single", "training",
    )  # fmt: skip

    def __init__(self, layer, inputs, single, shape, options=None, masks=(), training=None):
        self.layer, self.inputs, self.single = layer, tuple(inputs), single
        self.options, self.masks, self.training = options or {}, tuple(masks), training
        self.number = next(_numbers)
        self.several = isinstance(shape, list)
        shapes = shape if self.several else [shape]
        self.outputs = tuple(Symbolic(self, place, part) for place, part in enumerate(shapes))
        dtypes = layer.output_dtype
        if dtypes != "float32":
            several = isinstance(dtypes, list)
            for tensor in self.outputs:
                tensor.dtype = dtypes[tensor.place] if several else dtypes

    @property
    def sources(self):
        """All tensors that the call needs: its inputs and masks."""
        return self.inputs + tuple(mask for mask in self.masks if mask is not None)


class Symbolic:
    """What a layer puts out when it is called on `Input(...)`, or on what that gave.

    There are no values in it, only `shape` (None where free) and `dtype`; `node` is the call that
    gives it, `place` its position among that call's outputs. fastrnn.ops gives it its arithmetic:
    `x + y`, `x[:, -1]`. Raises TypeError for whatever needs values.
    """

    dtype = "float32"
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, node, place, shape):
        self.node, self.place, self.shape = node, place, shape

    @property
    def layer(self):
        return self.node.layer

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def _keras_mask(self):
        """The mask of this output, a symbolic tensor too; AttributeError where it has none."""
        if "mask" not in self.__dict__:
            self.mask = _mask_of(self.node, self.place)
        if self.mask is None:
            raise AttributeError(f"the output of layer {self.layer.name!r} has no mask")
        return self.mask

    def __repr__(self):
        return f"<Symbolic output of layer {self.layer.name!r}, shape={self.shape}>"

    def _no_values(self, *args, **kwargs):
        raise TypeError(
            f"the output of layer {self.layer.name!r} is symbolic: it can only be passed to a "
            "layer, or to Model(inputs, outputs)"
        )

    __array__ = __bool__ = __float__ = __int__ = __iter__ = __len__ = numpy = _no_values


def _mask_of(node, place):
    if not node.inputs:
        return None
    layer = node.layer
    masks = node.masks or [getattr(tensor, "_keras_mask", None) for tensor in node.inputs]
    if hasattr(layer, "propagate") or sum(mask is not None for mask in masks) > 1:
        raise TypeError(
            f"the mask of layer {layer.name!r} is found as arrays pass through it: expected one of "
            "an Embedding, of Masking, or of a layer of one input above them"
        )
    if node.single:
        found = layer.compute_mask(node.inputs[0], masks[0])
    else:
        given = None if all(mask is None for mask in masks) else [*masks]
        found = layer.compute_mask([*node.inputs], given)
    if isinstance(found, (list, tuple)):
        return found[place]
    return None if place else found


def source(layer, shape):
    """The tensor that an InputLayer stands for."""
    return Node(layer, (), True, shape).outputs[0]


def call(layer, inputs, arguments, options):
    """A layer called on a symbolic tensor, or on a list that has one: its output or outputs.
    options: keywords of the layer's methods in this call."""
    states, training = arguments.pop("initial_state", None), arguments.pop("training", None)
    mask = arguments.pop("mask", None)
    if given := sorted(name for name, value in arguments.items() if value is not None):
        raise ValueError(
            f"layer {layer.name!r}: expected only outputs of layers, received {given[0]}= too"
        )
    if training is not None and training not in (True, False):
        raise ValueError(
            f"training: expected True, False or None for layer {layer.name!r}, received "
            f"{training!r:.80}"
        )
    single = not isinstance(inputs, (list, tuple))
    tensors = [inputs] if single else [*inputs]
    if states is not None:
        single = False
        tensors += states if isinstance(states, (list, tuple)) else [states]
    for tensor in tensors:
        if not isinstance(tensor, Symbolic):
            raise ValueError(
                f"layer {layer.name!r}: expected outputs of layers alone, received {tensor!r:.80} "
                "among them"
            )
    if not single and len(tensors) == 1 and not layer.takes_several:
        single = True
    if not single and not layer.takes_several:
        raise ValueError(
            f"layer {layer.name!r} ({type(layer).__name__}): expected one input, received "
            f"{len(tensors)}"
        )
    shapes = [tensor.shape for tensor in tensors]
    check_text(layer, [tensor.dtype for tensor in tensors])
    if single:
        (shapes,) = shapes
    if layer.built:
        layer.check_call(shapes)
    layer.build(shapes)
    shape = layer.compute_output_shape(shapes, **options)
    masks = _masks(layer, mask, tensors)
    training = None if training is None else bool(training)
    node = Node(layer, tensors, single, shape, options, masks, training)
    return [*node.outputs] if node.several else node.outputs[0]


def check_text(layer, dtypes):
    """Raise ValueError unless the layer takes text where it gets it, and nowhere else."""
    wanted = layer.input_dtype
    for place, dtype in enumerate(dtypes):
        takes = (
            wanted[place : place + 1] == [object] if isinstance(wanted, list) else wanted is object
        )
        if takes != (dtype == "string"):
            expected = "text, of Input(..., dtype='string')" if takes else "numbers"
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}): expected {expected}, received "
                f"{'text' if dtype == 'string' else dtype}"
            )


def _masks(layer, mask, tensors):
    """That of each tensor, or nothing; those after the last may be left out."""
    masks = [*mask] if isinstance(mask, (list, tuple)) else [mask]
    if mask is None or all(part is None for part in masks):
        return ()
    if len(masks) > len(tensors):
        raise ValueError(
            f"mask: expected at most {len(tensors)} for layer {layer.name!r}, received {len(masks)}"
        )
    for part, tensor in zip(masks, tensors, strict=False):
        if part is None:
            continue
        axes = range(least_of_mask(tensor.shape), len(tensor.shape) + 1)
        fits = isinstance(part, Symbolic) and len(part.shape) in axes
        if not fits or any(
            None not in (a, b) and a != b for a, b in zip(part.shape, tensor.shape, strict=False)
        ):
            raise ValueError(
                f"mask: expected an output of a layer with the first axes of {tensor.shape} for "
                f"layer {layer.name!r}, received {part!r:.80}"
            )
    return [*masks, *[None] * (len(tensors) - len(masks))]


def least_of_mask(shape) -> int:
    """How many axes a mask of inputs of this shape has at least: that of sequences has steps."""
    return min(2, max(len(shape) - 1, 1))


def is_symbolic(inputs) -> bool:
    if isinstance(inputs, (list, tuple)):
        return any(isinstance(part, Symbolic) for part in inputs)
    return isinstance(inputs, Symbolic)
