"""Models of the user's own: what a class below Model that says `call` gets in place of a graph."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from fastrnn.data import leaves_of, packed, parts_by_name, paths_in
from fastrnn.layers import own
from fastrnn.layers.base import Layer, layers_within
from fastrnn.layers.names import RESERVED
from fastrnn.layers.operation import Argument
from fastrnn.layers.symbolic import Symbolic
from fastrnn.tape import Source


class Subclassed:
    """The methods of a model that says `call`. Its inputs are what it is called with: an array, or
    a list or dict of them; its layers are its attributes. Shapes are found by calling it."""

    input_dtype = None
    _structures: Any = (None, None)  # of inputs and outputs, once they have been seen
    _own_layers = ()
    gives_float32, varies = True, False

    @property
    def _layers(self):
        return layers_within(vars(self))

    @_layers.setter
    def _layers(self, layers):
        pass

    @property
    def graph(self):
        return None

    @property
    def takes_several(self):
        return self._structures[0] is not None

    @property
    def gives_several(self):
        return self._structures[1] is not None

    def look_at(self, x):
        """Note the structure of inputs that were not seen before."""
        if not self.built and isinstance(x, (list, tuple, dict)):
            parts = leaves_of(x)
            if all(hasattr(part, "shape") and len(part.shape) for part in parts):
                self._structures = x, self._structures[1]
                self.input_dtype = [None] * len(parts)

    def parts_of_inputs(self, name, given):
        paths = paths_in(self._structures[0])
        names = ["/".join(map(str, path)) for path in paths]
        return parts_by_name(name, given, names, paths)

    def parts_of_outputs(self, name, given):
        return parts_by_name(name, given, self.head_names, paths_in(self._structures[1]))

    @property
    def head_names(self):
        structure = self._structures[1]
        if isinstance(structure, dict):
            return ["/".join(map(str, path)) for path in paths_in(structure)]
        return [f"output_{place + 1}" for place in range(len(structure or ()))]

    metric_names = output_names = head_names

    @property
    def _heads_are_unnamed(self):
        return not isinstance(self._structures[1], dict)

    @property
    def outputs(self):
        return [*leaves_of(self._structures[1])]

    def handed_out(self, outputs):
        return outputs if self._structures[1] is None else packed(self._structures[1], outputs)

    def _template(self):
        """How `call` is given the list of its inputs: the same object for the same structure."""
        structure, known = self._structures[0], self.__dict__.get("_template_known")
        if known is None or known[0] is not structure:
            first = Argument(0)
            if structure is not None:
                places = [Argument(place) for place in range(len(leaves_of(structure)))]
                first = packed(structure, places)
            known = self.__dict__["_template_known"] = structure, ((first,), {})
        return known[1]

    def build(self, input_shape=None):
        """For inputs of this shape, or the list of several, batch included."""
        if self.built:
            return
        if input_shape is None:
            raise ValueError(
                f"model {self.name!r}: expected a call on data, or build(input_shape), before its "
                "shapes and weights are there"
            )
        structure = _without_shapes(input_shape)
        shapes = [tuple(shape) for shape in leaves_of(input_shape, paths_in(structure))]
        if structure is not None and not (self.takes_several and structure == [None] * len(shapes)):
            self._structures, self.input_dtype = (structure, None), [None] * len(shapes)
        self._build_for(shapes)

    def get_build_config(self):
        if not self.built:
            return None
        several, shapes = self.takes_several, self.input_shape
        return {"input_shape": packed(self._structures[0], shapes) if several else shapes}

    def _build_for(self, shapes, outputs=None):
        template = self._template()
        users = getattr(type(self), "_users_build", None)
        if users is not None:
            users(self, self._inputs_of(shapes))
        found = own.attempt(self, shapes, *template)
        self._structures = self._structures[0], found.structure
        self.input_shape = self._inputs_of(shapes)
        self.output_shape = found.shapes if self.gives_several else found.shapes[0]
        self.built = True
        if self._compiled is not None:
            self._compile_again()

    def build_by_call(self, positional, named):
        """What a call needs of which the arguments are no structure of inputs."""
        users = getattr(type(self), "_users_build", None)
        if users is not None:
            users(self, *positional, **named)
        self.built = True

    def compute_output_shape(self, input_shape, call=None):
        return own.compute_output_shape(self, input_shape, call=call or self._template())

    def check_call(self, shape):
        for part in shape if self.takes_several else [shape]:
            if 0 in part:
                raise ValueError(f"inputs: expected at least one element, received shape {part}")

    def repair_rank(self, x):
        return x

    def propagate(self, x, run, mask=None):
        """Where `call` does not take `training`, layers within are told nothing of it, as in
        Keras."""
        takes_training = "training" in own.parameters(type(self))
        y = own.forward(self, x, run, mask, self._template(), takes_training)
        return y, run.masks_of_call

    def forward(self, x, run, mask=None, call=None):
        return own.forward(self, x, run, mask, call or self._template())

    backward = own.backward
    plan = Layer.plan

    def plan_unmasked(self, x, steps, run):
        return self.plan(x, steps, run)

    @property
    def inputs(self):
        raise AttributeError(
            f"model {self.name!r} ({type(self).__name__}) says what it computes in call, and has "
            "no graph of layers: no inputs that it could be exported or cut by"
        )

    def stream(self, streams=1):
        raise ValueError(
            f"stream: model {self.name!r} ({type(self).__name__}) says what it computes in call, "
            "which may need several time steps at once"
        )

    def logits_layer(self, place=0):
        return None

    def mask_makers(self):
        return []

    def __call__(self, *args, **kwargs):
        if not self.built and len(args) == 1 and not {*kwargs} - {"training", "mask"}:
            parts = leaves_of(args[0])
            if any(isinstance(part, np.ndarray) and part.dtype.kind in "OSTU" for part in parts):
                raise ValueError(
                    f"model {self.name!r} ({type(self).__name__}): expected numbers, received text"
                    ", which Model(inputs, outputs) and Sequential take, for a TextVectorization"
                )
            if all(isinstance(part, (np.ndarray, Source, Symbolic)) for part in parts):
                self.look_at(args[0])
                self._build_for([(None, *part.shape[1:]) for part in parts])
        return own.__call__(self, *args, **kwargs)

    def symbolic(self, last):
        raise ValueError(
            f"model {self.name!r} says what it computes in call: the output of its layer "
            f"{last.name!r} is no tensor of a graph"
        )

    def compute_mask(self, inputs, mask=None):
        return None


def adopt(cls, said) -> None:
    """Give a user's class that says `call` these methods, but for those that it says itself, where
    they are not of the pass."""
    if "build" in said:
        cls._users_build = said["build"]
    inherited = any("look_at" in vars(base) for base in cls.__mro__[1:])
    for name, member in vars(Subclassed).items():
        own_way = name in said and name not in ("build", "compute_output_shape", *RESERVED)
        if own_way or name in _OF_CLASSES:
            continue
        if not inherited or name in said:
            setattr(cls, name, member)
        elif name in vars(cls):  # that of a layer; the class above has it as it is for models
            delattr(cls, name)


def _without_shapes(structure):
    """Lists and dicts of shapes with None in the place of each."""
    if isinstance(structure, dict):
        return {key: _without_shapes(part) for key, part in structure.items()}
    if any(isinstance(part, (list, tuple, dict)) for part in structure):
        return [*map(_without_shapes, structure)]
    return None


_OF_CLASSES = ("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__")


def is_made_of_tensors(cls) -> bool:
    """Does the constructor of a user's class take inputs, outputs and a name, as Model's?"""
    known = inspect.getfullargspec(cls.__init__)
    of_fastrnn = cls.__init__.__module__.startswith("fastrnn.")
    if of_fastrnn or known.args[1:] == ["inputs", "outputs", "name"]:
        return True
    return known.varargs is not None and known.varkw is not None


def is_users(cls) -> bool:
    return cls is not object and not cls.__module__.startswith("fastrnn.")
