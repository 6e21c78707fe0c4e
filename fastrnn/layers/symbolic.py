"""Symbolic tensors: layers called on the output of layers, to be made a model by models.Model."""


class Symbolic:
    """What the last of `layers`, each called on the output of the one before, will put out.

    `Input(...)` is the first; a layer called on one gives the next. There are no values in it, only
    `shape` (None where free) and `dtype`; `place` is its position among several outputs of a layer.
    Raises TypeError for whatever needs values, ValueError where layers do not form a chain.
    """

    dtype = "float32"
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, layers, shape, place=None):
        self.layers, self.shape, self.place = tuple(layers), shape, place

    def then(self, layer):
        """The output of `layer`, or the list of its outputs; builds the layer."""
        below = self.layers[-1]
        if self.place is not None:
            raise ValueError(
                f"layer {layer.name!r}: expected one input, received one of the outputs of "
                f"{below.name!r}; only the last layer of a model can have several"
            )
        if any(layer is other for other in self.layers):
            raise ValueError(
                f"layer {layer.name!r}: expected to be called once, received the output of "
                f"{below.name!r}, which it is part of; a model has each layer once"
            )
        if layer.built:
            layer.check_call(self.shape)
        layer.build(self.shape)
        layers, shape = (*self.layers, layer), layer.compute_output_shape(self.shape)
        if isinstance(shape, list):
            return [Symbolic(layers, part, place) for place, part in enumerate(shape)]
        return Symbolic(layers, shape)

    def __repr__(self):
        return f"<Symbolic output of layer {self.layers[-1].name!r}, shape={self.shape}>"

    def _no_values(self, *args, **kwargs):
        raise TypeError(
            f"the output of layer {self.layers[-1].name!r} is symbolic: it can only be passed to a "
            "layer, or to Model(inputs, outputs)"
        )

    __array__ = __bool__ = __float__ = __int__ = __iter__ = __len__ = __getitem__ = _no_values
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _no_values
    __rtruediv__ = __matmul__ = __pow__ = __neg__ = __lt__ = __gt__ = __le__ = __ge__ = _no_values
    numpy = _no_values


def call(layer, inputs, arguments):
    """A layer called on a symbolic tensor, or on a list that has one."""
    given = sorted(name for name, value in arguments.items() if value is not None)
    if given:
        raise ValueError(
            f"layer {layer.name!r}: expected only the output of a layer, received {given[0]}= too; "
            "a model is a chain of layers, and training= is a matter of fit and predict"
        )
    if isinstance(inputs, (list, tuple)):
        if len(inputs) != 1:
            raise ValueError(
                f"layer {layer.name!r}: expected the output of one layer, received {len(inputs)}; "
                "models in which layers have several inputs are not supported"
            )
        (inputs,) = inputs
    return inputs.then(layer)


def is_symbolic(inputs) -> bool:
    if isinstance(inputs, (list, tuple)):
        return any(isinstance(part, Symbolic) for part in inputs)
    return isinstance(inputs, Symbolic)
