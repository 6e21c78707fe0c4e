"""Layers of the user's own, which say what they compute in `call`: steps of the tape.

A class that defines `call` gets `forward` and `backward` from here: the one records what `call`
does, the other goes back over it. What fastrnn's own layers do within `call` is one step each.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from typing import Any, NamedTuple

import numpy as np

from fastrnn.arrays import Array, as_array
from fastrnn.layers import base, symbolic
from fastrnn.layers.input_spec import check_inputs
from fastrnn.layers.names import is_of_the_pass
from fastrnn.layers.operation import Argument, filled
from fastrnn.layers.symbolic import Node, Symbolic, check_text
from fastrnn.tape import Source, Traced, gradients, last_number, mapped, recording, value_of

_SIZES = (2, 3, 4, 6, 8, 12, 24)  # that free axes are tried with
_KINDS = ((False, np.float32), (True, np.float32), (False, np.int32), (True, np.int32))


def adopt(cls) -> None:
    """Make what a user's class says into methods of a layer of fastrnn."""
    said = vars(cls)
    if "build" in said:
        cls.build = _built(said["build"])
    if "call" not in said or is_of_the_pass(said.get("forward")):
        return
    cls._says_call = cls.takes_several = True
    cls.forward, cls.backward = forward, backward
    cls.plan = base.Layer.plan
    cls.__call__ = said.get("__call__", __call__)
    if cls.compute_mask is base.Layer.compute_mask:
        cls.compute_mask = compute_mask
    shape = cls.compute_output_shape
    if "compute_output_shape" in said or not shape.__module__.startswith("fastrnn."):
        cls.compute_output_shape = _shapes_by(shape)
    else:
        cls.compute_output_shape = compute_output_shape


def _built(build):
    """A user's `build`, which runs once, and after which shapes are known."""
    if getattr(build, "once", False):
        return build
    signature = inspect.signature(build)
    names = [*signature.parameters][1:]

    @functools.wraps(build)
    def built(self, *shapes, **named):
        if self.built:
            return
        outermost = not getattr(self, "_building", False)
        self._building = True
        try:
            build(self, *shapes, **named)
        finally:
            self._building = not outermost
        if outermost:
            self.built = True
            if base.context.built is not None and self._variables:
                base.context.built.append(self)
            said = signature.bind(self, *shapes, **named).arguments
            self._shapes_built_for = {name: said[name] for name in names if name in said}
            if len(shapes) == 1 and self.input_shape is None:
                self.input_shape = shapes[0]
            if self._initial_weights is not None:
                self.set_weights(self._initial_weights)
                self._initial_weights = None

    built.once, built.names = True, names
    return built


def _shapes_by(user):
    """A user's compute_output_shape, for a call of several tensors too."""
    if getattr(user, "is_adapted", False):
        return user

    @functools.wraps(user)
    def compute(self, *shapes, call=None, **named):
        given = shapes
        if call is not None:
            shapes, named = _shapes_of_call(self, shapes[0], call)
        result = user(self, *shapes, **named)
        result = [*map(tuple, result)] if _is_list_of_shapes(result) else tuple(result)
        if _has_free(result) and not _has_free(given):  # said for any batch
            return compute_output_shape(self, *given, call=call)
        return result

    compute.is_adapted = True
    return compute


def _has_free(shape):
    if isinstance(shape, (list, tuple)):
        return any(map(_has_free, shape))
    return shape is None


def _is_list_of_shapes(shape):
    return bool(shape) and all(isinstance(part, (tuple, list)) for part in shape)


def _shapes_of_call(layer, shapes, call):
    """What Keras gives compute_output_shape and build for a call of several tensors."""
    shapes = shapes if isinstance(shapes, list) else [shapes]
    args, kwargs = filled(call[0], shapes), call[1]
    named = {name: filled(value, shapes) for name, value in kwargs.items() if _has_tensor(value)}
    if len(args) + len(named) == 1:
        return tuple(args), named
    names = [*inspect.signature(type(layer).call).parameters][1:]
    named = {**dict(zip(names, args, strict=False)), **named}
    return (), {f"{name}_shape": shape for name, shape in named.items()}


def _has_tensor(value):
    return any(isinstance(leaf, Argument) for leaf in leaves(value))


# --- calls ----------------------------------------------------------------------------------------


def __call__(self, *args, **kwargs):
    """What the layer's `call` gives for these arrays; on symbolic tensors, a step of the graph."""
    tensors: list[Any] = []
    template = _without_tensors((args, kwargs), tensors)
    if any(isinstance(tensor, Symbolic) for tensor in tensors):
        return _symbolic_call(self, template, tensors)
    values = [_as_tensor(tensor) for tensor in tensors]
    args, kwargs = filled_call(template, values)
    _check_inputs(self, args)
    if not self.built:
        shapes = [(None, *np.shape(value_of(value))[1:]) for value in values]
        _build(self, shapes, template)
    outputs = invoke(self, args, kwargs)
    base.regularize_activity(self, outputs)
    return outputs


def _check_inputs(layer, args):
    if getattr(layer, "input_spec", None) and args:
        shapes = [getattr(part, "shape", None) or np.shape(part) for part in leaves(args[0])]
        check_inputs(layer, args[0], shapes)


def _without_tensors(value, tensors):
    """Arguments with an Argument in the place of each tensor, which are appended to `tensors`."""
    if isinstance(value, (Symbolic, Source, np.ndarray)):
        tensors.append(value)
        return Argument(len(tensors) - 1)
    if isinstance(value, (list, tuple)):
        return type(value)(_without_tensors(part, tensors) for part in value)
    if isinstance(value, dict):
        return {key: _without_tensors(part, tensors) for key, part in value.items()}
    return value


def filled_call(template, values):
    args, kwargs = template
    return filled(args, values), filled(kwargs, values)


def _as_tensor(value):
    if isinstance(value, np.ndarray):
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        return value if isinstance(value, Array) else value.view(Array)
    return value


def invoke(layer, args, kwargs, training=None, masks=None):
    """layer.call(*args, **kwargs) with `training` and masks where it takes them; what it gives has
    its mask with it."""
    context = base.context
    names = parameters(type(layer))
    if "training" in names:
        if kwargs.get("training") is None:
            training = training if training is not None else context.training
            if training is not None:
                kwargs = {**kwargs, "training": training}
        training = kwargs.get("training")
    elif "training" in kwargs:
        training = kwargs["training"]
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
    given = dict(zip(names, args, strict=False))
    found = masks if masks is not None else [base.mask_of(value) for value in args[:1]]
    first = found[0] if found else None
    if "mask" in names and kwargs.get("mask") is None and "mask" not in given:
        kwargs = {**kwargs, "mask": first}
    elif "mask" not in names and "mask" in kwargs:
        first = kwargs["mask"]
        kwargs = {name: value for name, value in kwargs.items() if name != "mask"}
    elif kwargs.get("mask") is not None:
        first = kwargs["mask"]
    for name in names:
        if name.endswith("_mask") and name[:-5] in {**given, **kwargs} and name not in kwargs:
            value = {**given, **kwargs}[name[:-5]]
            kwargs = {**kwargs, name: base.mask_of(value)}
    layer._losses_of_call = []
    with base.in_mode(training):
        try:
            outputs = layer.call(*args, **kwargs)
        except Exception as error:
            _note(error, layer)
            raise
        if outputs is None:
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}), call: expected it to return an "
                "array, or a list or dict of such, received None"
            )
        if isinstance(outputs, (int, float, np.generic)):
            outputs = as_array(np.asarray(outputs))
        _check_results(layer, outputs)
        mask = layer.compute_mask(args[0] if args else None, first)
    outputs = mapped(_as_array, outputs)
    found = leaves(outputs)
    masks = mask if isinstance(mask, (list, tuple)) else [mask]
    for output, part in zip(found, masks, strict=False):
        if base.mask_of(output) is None:  # what layers within gave theirs goes on
            base.give_mask(output, part)
    return outputs


def _check_results(layer, outputs):
    for part in leaves(outputs):
        if not (part is None or isinstance(part, (Source, np.ndarray, int, float, np.generic))):
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}), call: expected it to return an "
                f"array, or a list or dict of such, received {part!r:.80}"
            )


def _note(error, layer):
    """Say with an exception, where Python has notes, which layer's `call` it comes from."""
    if hasattr(error, "add_note"):
        error.add_note(f"in call of layer {layer.name!r} ({type(layer).__name__})")


@functools.cache
def parameters(cls):
    parameters = inspect.signature(cls.call).parameters
    return [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD][1:]


# --- on symbolic tensors --------------------------------------------------------------------------


def _symbolic_call(layer, template, tensors):
    args, kwargs = _with_constants(template, tensors)
    tensors = [tensor for tensor in tensors if isinstance(tensor, Symbolic)]
    _check_inputs(layer, filled(args, tensors))
    check_text(layer, [tensor.dtype for tensor in tensors])
    training = kwargs.get("training")
    kwargs = {name: part for name, part in kwargs.items() if name != "training"}
    single = len(tensors) == 1
    shapes = [tensor.shape for tensor in tensors]
    plain = single and len(args) == 1 and isinstance(args[0], Argument) and not kwargs
    plain = plain and args[0].dtype is None
    options = {} if plain else {"call": (args, kwargs)}
    if not layer.built:
        _build(layer, shapes, (args, kwargs))
    given = shapes[0] if single else shapes
    layer.input_shape = given
    found = _try(layer, shapes, args, kwargs)
    layer.output_shape = layer.compute_output_shape(given, **options)
    _check_shapes(layer, found)
    node = Node(layer, tensors, single, layer.output_shape, options, (), training)
    layer.gives_tuple = False
    return [*node.outputs] if node.several else node.outputs[0]


def _check_shapes(layer, found):
    """Raise ValueError where compute_output_shape says other shapes than `call` gives."""
    said = layer.output_shape
    pairs = [(said, found)]
    if isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        pairs = zip(said, found, strict=True)
    for one, other in pairs:
        fits = type(one) is type(other) is tuple and len(one) == len(other)
        if not fits or any(
            None not in pair and pair[0] != pair[1] for pair in zip(one, other, strict=True)
        ):
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}), compute_output_shape: expected "
                f"{found}, which call gives, received {said}"
            )


def _with_constants(template, tensors):
    """The arguments of a call with the arrays among the tensors back in their places."""
    places = itertools.count()
    return filled_call(
        template,
        [
            Argument(next(places), declared(tensor))
            if isinstance(tensor, Symbolic)
            else _as_tensor(tensor)
            for tensor in tensors
        ],
    )


def declared(tensor):
    """The dtype of an Input that says it has whole numbers, or bools; None for other tensors."""
    if not hasattr(tensor.layer, "batch_shape") or tensor.layer.dtype == "string":
        return None
    dtype = np.dtype(tensor.layer.dtype)
    return dtype if dtype.kind in "iub" else None


def dtypes_in(template, count):
    """Those that a call gets its tensors as, None where they are as they come."""
    dtypes = [None] * count
    for leaf in leaves([*template]):
        if isinstance(leaf, Argument):
            dtypes[leaf.n] = leaf.dtype
    return dtypes


def _build(layer, shapes, template):
    """Call the layer's build as Keras does: with the shape of its one tensor, the list of those of
    a list, or with shapes by name."""
    if hasattr(layer, "build_by_call"):
        layer.build_by_call(*_shapes_of_call(layer, shapes, template))
        return
    build, builtin = type(layer).build, layer._as_builtin()
    positional, named = _shapes_of_call(layer, shapes, template)
    if getattr(build, "once", False):
        if named:
            taken = {name: shape for name, shape in named.items() if name in build.names}
            positional = () if taken else (next(iter(named.values())),)
            named = taken
        layer.build(*positional, **named)
        return
    if type(builtin).create_weights is not base.Layer.create_weights:
        builtin.build(shapes[0] if len(shapes) == 1 else shapes)
    elif shapes:
        layer.input_shape = shapes[0] if len(shapes) == 1 else shapes
    layer.built = True
    if layer._initial_weights is not None and not layer.sublayers:
        layer.set_weights(layer._initial_weights)
        layer._initial_weights = None


class Attempt(NamedTuple):
    """What `call` gave for zeros: the shapes of its outputs, None where free, and the structure
    that these stand in, None for one array."""

    shapes: list[tuple]
    structure: Any


def attempt(layer, shapes, args, kwargs) -> Attempt:
    """Call `call` with zeros of two sizes of what is free, which builds the layers within: of what
    it takes, as it may need a mask, or indices."""
    found, error, outputs = [], None, None
    dtypes = dtypes_in((args, kwargs), len(shapes))
    for size in _SIZES:
        known = [[size if n is None else n for n in shape] for shape in shapes]
        for masked, dtype in _KINDS:
            given = zip(known, dtypes, strict=True)
            values = [np.zeros(shape, said or dtype).view(Array) for shape, said in given]
            masks = [_all_true(shape) if masked else None for shape in known]
            for value, mask in zip(values, masks, strict=True):
                base.give_mask(value, mask)
            try:
                with np.errstate(all="ignore"), base.trying() as built:
                    filled_args, named = filled_call((args, kwargs), values)
                    outputs = invoke(layer, filled_args, named, False, masks)
                break
            except NotImplementedError:
                raise
            except Exception as this:
                error = error or this
        else:
            continue
        found.append([np.shape(value_of(part)) for part in leaves(outputs)])
        if len(found) == 2 and built:
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}): call makes a layer anew each time,"
                f" here {built[0].name!r} ({type(built[0]).__name__}), whose weights would be lost"
                ": expected it to be made in __init__ or build"
            )
        if len(found) == 2 or known == [[*shape] for shape in shapes]:
            break
    if not found:
        raise error
    if len(found[0]) != len(found[-1]):
        raise ValueError(
            f"layer {layer.name!r} ({type(layer).__name__}), call: expected as many outputs for "
            f"any size of a batch, received {len(found[0])} and {len(found[-1])}"
        )
    shapes = [
        tuple(a if a == b else None for a, b in zip(*pair, strict=True))
        for pair in zip(found[0], found[-1], strict=True)
    ]
    several = isinstance(outputs, (list, tuple, dict))
    return Attempt(shapes, _emptied(outputs) if several else None)


def _all_true(shape):
    return np.ones(shape[: symbolic.least_of_mask(shape)], bool)


def _emptied(structure):
    if isinstance(structure, dict):
        return {key: _emptied(part) for key, part in structure.items()}
    if isinstance(structure, (list, tuple)):
        return (
            [*map(_emptied, structure)] if type(structure) is list else (*map(_emptied, structure),)
        )
    return None


def _as_array(output):
    return output.view(Array) if type(output) is np.ndarray else output


def leaves(structure) -> list:
    """The arrays of what `call` gave, of dicts in the order of their keys."""
    if isinstance(structure, dict):
        return [leaf for key in sorted(structure) for leaf in leaves(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for part in structure for leaf in leaves(part)]
    return [structure]


def _try(layer, shapes, args, kwargs):
    """The shape that `call` gives, or the list of several."""
    found = attempt(layer, shapes, args, kwargs)
    return found.shapes[0] if found.structure is None else found.shapes


def compute_output_shape(self, *shapes, call=None):
    """The shape that `call` gives for inputs of such a shape, found by calling it."""
    given = shapes[0] if len(shapes) == 1 else [*shapes]
    listed = isinstance(given, list) and (not given or isinstance(given[0], (tuple, list)))
    parts = given if listed else [given]
    key = (*map(tuple, parts), id(call))
    known = self.__dict__.setdefault("_shapes_found", {})
    if key not in known:
        if len(known) > 64:
            known.clear()
        places = [Argument(n) for n in range(len(parts))]
        args, kwargs = call or ((places if listed else places[0],), {})
        known[key] = call, _try(self, [tuple(part) for part in parts], args, kwargs)
    return known[key][1]


def compute_mask(self, inputs, mask=None):
    if isinstance(mask, list):
        mask = mask[0]
    return mask if self.supports_masking else None


# --- in a pass ------------------------------------------------------------------------------------


def forward(self, x, run, mask=None, call=None, in_mode=True):
    """The layer's `call` as a step of a graph, told the mode of the pass."""
    several = isinstance(x, list)
    xs = x if several else [x]
    masks = mask if isinstance(mask, list) else [mask] * len(xs)
    taped, since = run.keeps, last_number()
    if call is not None:
        said = zip(xs, dtypes_in(call, len(xs)), strict=True)
        xs = [x if dtype is None else np.asarray(x, dtype) for x, dtype in said]
    values = [Traced(a) if taped and a.dtype.kind == "f" else a.view(Array) for a in xs]
    for value, part in zip(values, masks, strict=True):
        base.give_mask(value, part)
    places = [Argument(n) for n in range(len(values))]
    args, kwargs = call or ((places if several else places[0],), {})
    args, kwargs = filled_call((args, kwargs), values)
    taping = recording(strict=True, since=since) if taped else contextlib.nullcontext()
    with taping, base.within(run, in_mode) as losses:
        outputs = invoke(self, args, kwargs, run.training if in_mode else None, masks)
    run.losses += [float(value_of(loss)) for loss in losses]
    found = [base.mask_of(output) for output in leaves(outputs)]
    run.masks_of_call = found if isinstance(outputs, (list, tuple, dict)) else found[0]
    if taped:
        run.saved[self] = values, outputs, losses, several
    return _plain(outputs)


def backward(self, dy, run, need_dx=True):
    values, outputs, losses, listed = run.saved.pop(self)
    several = isinstance(outputs, (list, tuple, dict))
    ends = zip(leaves(outputs), dy if several else [dy], strict=True)
    ends = [end for end in ends if isinstance(end[0], Traced)]
    factor = np.float32(run.loss_factor[0])
    ends += [(loss, factor) for loss in losses if isinstance(loss, Traced)]
    found = gradients(ends, release=True)
    weights = run.walks.get((self, "weights"))
    if weights is None:
        weights = run.walks[self, "weights"] = self.trainable_weights
    for variable in weights:
        self.gradient_array(variable, run)[...] = found.get(id(variable), 0)
    if not need_dx:
        return None
    dxs = []
    for value in values:
        gradient = found.get(id(value))
        if gradient is None:
            gradient = np.zeros(value.shape, np.float32)
        dxs.append(np.array(gradient, np.float32, order="C"))
    return dxs if listed else dxs[0]


def _plain(outputs):
    """C-contiguous float32 arrays of what `call` gave."""
    if isinstance(outputs, (list, tuple, dict)):
        return [np.ascontiguousarray(value_of(part), np.float32) for part in leaves(outputs)]
    return np.ascontiguousarray(value_of(outputs), np.float32)
