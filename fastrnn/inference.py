"""Inference at the lowest latency: a network as a list of calls on arrays that stay in place."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import layers, variable
from fastrnn.data import each, inputs_of, leaves_of
from fastrnn.layers.base import as_input, check_size
from fastrnn.layers.operation import Argument, Operation
from fastrnn.layers.recurrent import Recurrent
from fastrnn.run import Run

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn._types import Whole
    from fastrnn.models import Model

SHAPES_KEPT = 8


def _dtype(dtype):
    """That of a model's input, None where any is taken."""
    return None if dtype is None else np.dtype(dtype)


class Predictor:
    """What Model.compile_inference returns: call it with a batch (batch, ...) for the outputs.

    Weights are packed and buffers laid out once for each of the shapes used last, and again when
    the weights have changed, so that a call costs microseconds beside the kernels. Any number of
    threads may call one Predictor at once, and others may change the weights: a call sees one whole
    set of them. out: an array that takes the outputs.
    Errors: ValueError for a shape that does not fit the model or `out`."""

    def __init__(self, model: Model, prepare: bool = False):
        self._model = model
        self._prepare = prepare
        self._several = model.takes_several
        dtype: Any = model.input_dtype
        self._dtype = [*map(_dtype, dtype)] if self._several else _dtype(dtype)
        dtypes = self._dtype if self._several else [self._dtype]
        self._takes_any = any(dtype is None for dtype in dtypes)
        self._plans = {}  # shape -> plans that no thread is using
        self._seen = None, None  # the last change of any weight, and the model's versions after it
        self._repeatable = not model.has_states

    def __repr__(self):
        model = self._model
        return f"<Predictor of {model.name!r}: {model.input_shape} -> {model.output_shape}>"

    def __call__(self, x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
        if self._several:
            if not self._are_ready(x):
                x = inputs_of(self._model, x)
        elif self._dtype is None or type(x) is not np.ndarray or x.dtype != self._dtype:
            x = as_input(x, self._dtype)
        for _ in range(2 if self._repeatable else 0):
            change, version = self._seen
            if change is not variable.last_change():
                change, version = self._look_at_weights()
            plan = self._run(x, version)
            if change is variable.last_change() or self._look_at_weights()[1] is version:
                break
        else:
            with variable.unchanging():
                _, version = self._look_at_weights()
                plan = self._run(x, version)
        y = plan[2]
        if isinstance(y, list):
            if out is not None:
                raise ValueError("out: expected None for a model of several outputs")
            out = self._model.handed_out([part.copy() for part in y])
        elif out is None:
            out = y.copy()
        elif getattr(out, "shape", None) != y.shape:
            raise ValueError(
                f"out: expected an array of shape {y.shape}, received {getattr(out, 'shape', out)}"
            )
        else:
            out[...] = y
        if version is self._seen[1]:
            self._plans.setdefault(plan[4], collections.deque()).append(plan)
        return out

    def _are_ready(self, arrays):
        if type(arrays) is not list or len(arrays) != len(self._dtype):
            return False
        for array, dtype in zip(arrays, self._dtype, strict=True):
            if type(array) is not np.ndarray or array.dtype is not dtype:
                return False
        return True

    def _key(self, x):
        """The shape, or shapes, by which plans are kept; with the dtypes where any are taken."""
        parts = x if self._several else [x]
        shapes = tuple([part.shape for part in x]) if self._several else x.shape
        return (shapes, *(part.dtype for part in parts)) if self._takes_any else shapes

    def _look_at_weights(self):
        """self._seen, brought up to date."""
        now = variable.last_change()
        versions = variable.settled_versions(self._model.weights)
        if versions == self._seen[1]:
            versions = self._seen[1]
        else:
            self._plans.clear()
        self._seen = seen = now, versions
        return seen

    def _run(self, x, version):
        """The plan, of weights of this version, that has taken x to its outputs."""
        shape = self._key(x)
        free, plan = self._plans.get(shape), None
        if free:
            try:
                plan = free.pop()
            except IndexError:  # another thread was faster
                pass
        if plan is None or plan[3] is not version:
            repaired = self._model.repair_rank(x)
            if self._key(repaired) != shape:
                return self._run(repaired, version)
            plan = self._plan(x, shape, version)
        if self._several:
            for source, part in zip(plan[0], x, strict=True):
                source[...] = part
        else:
            plan[0][...] = x
        for step in plan[1]:
            step()
        return plan

    def _plan(self, x, shape, version):
        self._check([part.shape for part in x] if self._several else x.shape)
        kept = list(self._plans)
        if shape not in kept:
            for oldest in kept[: 1 - SHAPES_KEPT]:
                self._plans.pop(oldest, None)
        source = each(lambda part: np.zeros(part.shape, part.dtype), x)
        steps = []
        y = self._model.plan(source, steps, self._new_run())
        return source, steps, y, version, shape

    def _check(self, shape):
        self._model.check_call(shape)

    def _new_run(self):
        return Run(prepare=self._prepare)


class Stepper(Predictor):
    """What Model.stream returns: call it with the next time steps of all streams, (streams,
    timesteps, ...), or with one step, (streams, ...), for the outputs. Calls in a row give what one
    call with all steps would, to rounding. Of several inputs those of rank 2 that are no indices
    are no sequences: each call gets them, (streams, ...). Outputs that are no sequences are those
    of the last step so far.

    state: float32 (streams, n), a row for each stream: the states of the recurrent layers in order,
    h before c, once for each call of a layer. Save a copy, and assign it to go on from there. For
    one thread at a time.
    Errors: ValueError for a model of which a step's output depends on later steps, for a shape that
    does not fit, and for a padded step (Masking, mask_zero)."""

    def __init__(self, model: Model, streams: Whole):
        self.streams = check_size("streams", streams)
        super().__init__(model, prepare=True)
        self._repeatable = False
        self._shapes = model.input_shape if self._several else [model.input_shape]
        dtypes: Any = self._dtype if self._several else [self._dtype]
        pairs = zip(self._shapes, dtypes, strict=True)
        self._sequences = [len(shape) > 2 or dtype == np.int32 for shape, dtype in pairs]
        self._recurrent = {}  # (calls of layers within each other after the first, layer) -> states
        kinds = [_STEPS if is_sequence else _FIXED for is_sequence in self._sequences]
        given = [*zip(kinds, self._shapes, strict=True)]
        self._rank = len(self._shapes[0])
        self._rank_of_step = self._rank - 1 if self._sequences[0] else None
        self._kinds = [kind for kind, _ in self._follow(model.graph, given, ())]
        self._alone: bool | None = None  # are steps all that there is, or is there none?
        if _STEPS not in self._kinds:
            self._alone = False
        elif type(model.output_shape) is not list:
            self._alone = True
        self._masks = []
        for layer, place in model.mask_makers():
            if not isinstance(layer, layers.Masking) and not getattr(layer, "mask_zero", False):
                continue
            if place is None:
                _cannot(layer, "masks what another layer gives; streams take no padding")
            self._masks.append((layer, place))

    def __repr__(self):
        model = self._model
        steps = [self._shape_of(place) for place in range(len(self._shapes))]
        shapes = f"shapes {steps}" if self._several else f"shape {steps[0]}"
        return f"<Stepper of {model.name!r} for {self.streams} streams: x of {shapes}>"

    def _shape_of(self, place, timesteps: Any = None):
        """That of an input's arrays."""
        shape = self._shapes[place]
        if not self._sequences[place]:
            return (self.streams, *shape[1:])
        return (self.streams, timesteps, *shape[2:])

    def __call__(self, x: Any, out: np.ndarray | None = None) -> np.ndarray:
        if self._several:
            given, one_step = self._of_several(x)
        else:
            x = as_input(x, self._dtype)
            one_step = x.ndim == self._rank_of_step
            given = x[:, None] if one_step else x
            if given.ndim != self._rank or len(given) != self.streams:
                self._reject(0, x)
        for layer, place in self._masks:
            if not np.all(layer.compute_mask(given[place] if self._several else given)):
                raise ValueError(
                    f"x: layer {layer.name!r} masks some of these steps; streams take no padding"
                )
        if not one_step or self._alone is False:
            return super().__call__(given, out)
        if self._alone:
            y = super().__call__(given, None if out is None else out[:, None])
            return y[:, 0] if out is None else out
        outputs = leaves_of(super().__call__(given, out))
        pairs = zip(outputs, self._kinds, strict=True)
        return self._model.handed_out([y[:, 0] if kind == _STEPS else y for y, kind in pairs])

    def _of_several(self, x):
        """(arrays with an axis of time where there are sequences, are these one step each?)"""
        parts = self._model.parts_of_inputs("x", x)
        xs = [as_input(part, t) for part, t in zip(parts, self._dtype, strict=True)]
        ranks = [array.ndim - len(shape) for array, shape in zip(xs, self._shapes, strict=True)]
        one_step = any(self._sequences) and ranks == [-1 if s else 0 for s in self._sequences]
        given = [
            x[:, None] if s and one_step else x for x, s in zip(xs, self._sequences, strict=True)
        ]
        for place, array in enumerate(given):
            if array.ndim != len(self._shapes[place]) or len(array) != self.streams:
                self._reject(place, xs[place])
        return given, one_step

    def _reject(self, place, x):
        name = f"x, input {self._model.input_names[place]!r}" if self._several else "x"
        shape = self._shape_of(place, "timesteps")
        if not self._sequences[place]:
            raise ValueError(f"{name}: expected an array of shape {shape}, received {x.shape}")
        step, rank = (self.streams, *shape[2:]), len(shape)
        hint = ""
        if x.ndim == rank - 2 and x.shape[:1] == (self.streams,) and shape[2:] == (1,):
            hint = "; x[..., None] is one step of one feature"
        elif self.streams == 1 and x.ndim in (rank - 2, rank - 1):
            hint = f"; x[None] is {'one step' if x.ndim == rank - 2 else 'the steps'} of one"
        raise ValueError(
            f"{name}: expected {self.streams} streams in an array of shape {shape}, or {step} for "
            f"one step, received shape {x.shape}{hint}"
        )

    @property
    def state(self) -> np.ndarray:
        n = self.streams
        states = [array.reshape(n, -1) for arrays in self._recurrent.values() for array in arrays]
        return np.concatenate([np.empty((n, 0), np.float32), *states], axis=1)

    @state.setter
    def state(self, value: ArrayLike) -> None:
        value, at = np.asarray(value), 0
        if value.shape != self.state.shape or value.dtype.kind not in "biuf":
            raise ValueError(
                f"state: expected numbers of shape {self.state.shape}, received "
                f"{value.dtype} of shape {value.shape}"
            )
        for arrays in self._recurrent.values():
            for array in arrays:
                size = array[0].size
                array[...] = value[:, at : at + size].reshape(array.shape)
                at += size

    def reset(self, streams: Any = slice(None)) -> None:
        """Start these streams (an index, several, or a mask; all by default) from zeros."""
        try:
            np.empty(self.streams)[streams]
        except IndexError:
            raise ValueError(
                f"streams: expected indices below {self.streams} or a mask of as many, "
                f"received {streams!r}"
            ) from None
        for arrays in self._recurrent.values():
            for array in arrays:
                array[streams] = 0

    def _check(self, shape):
        shapes = []
        of_sequences = zip(self._shapes, self._sequences, strict=True)
        fixed = [declared[1] for declared, is_sequence in of_sequences if is_sequence]
        fixed = next((timesteps for timesteps in fixed if timesteps), None)
        for place, given in enumerate(shape if self._several else [shape]):
            if 0 in given:
                raise ValueError(f"x: expected at least one time step, received shape {given}")
            if self._sequences[place]:  # a fixed number of steps is that of whole ones
                timesteps = self._shapes[place][1] or fixed or given[1]
                given = (given[0], timesteps, *given[2:])
            shapes.append(tuple(given))
        self._model.check_call(shapes if self._several else shapes[0])

    def _new_run(self):
        run = super()._new_run()
        for (calls, layer), states in self._recurrent.items():
            own = run
            for call in calls:
                own = own.of_call(*call)
            own.states[layer] = states
        return run

    def _follow(self, graph, given, calls):
        """(kind, shape) of each output, for those of the inputs: is it time steps, what comes of
        the last one, or the same for all? Collects the recurrent layers; raises for one that looks
        at other steps."""
        known = dict(zip(graph.inputs, given, strict=True))
        for call in graph.calls:
            parts = [known[slot] for slot in call.inputs]
            here = (*calls, (call.layer, call.number)) if call.number else calls
            if call.layer.input_dtype is object and not call.is_model:
                _cannot(call.layer, "takes text; streams take numbers")
            if call.masks:
                _cannot(call.layer, "is given a mask; streams take no padding")
            if call.training and (call.is_model or isinstance(call.layer, Recurrent)):
                _cannot(call.layer, "says training=True, which keeps no state from call to call")
            if call.is_model:
                found = self._follow(call.layer.graph, parts, here)
            else:
                kinds, shapes = [kind for kind, _ in parts], [shape for _, shape in parts]
                outputs = call.layer.compute_output_shape(
                    shapes[0] if call.single else shapes, **call.options
                )
                outputs = outputs if call.several else [outputs]
                found = [*zip(self._step(call, kinds, shapes, here), outputs, strict=False)]
            known.update(zip(call.outputs, found, strict=True))
        return [known[slot] for slot in graph.outputs]

    def _step(self, call, kinds, shapes, here):
        """The kinds of a layer's outputs."""
        layer, reason = call.layer, None
        if isinstance(layer, Operation) and _STEPS in kinds:
            kind = _of_operation(call, kinds, shapes)
            if kind is None:
                _cannot(layer, f"{type(layer).__name__} may need several time steps at once")
            return [kind] * len(call.outputs)
        recurrent, steps = isinstance(layer, Recurrent), _STEPS in kinds
        if isinstance(layer, layers.Bidirectional) or getattr(layer, "go_backwards", False):
            reason = "reads a sequence from its end, which a stream does not have yet"
        elif recurrent and kinds[0] != _STEPS:
            reason = "follows a layer that gives no time steps"
        elif recurrent and layer.stateful:
            reason = "keeps or returns its state itself; a stream needs neither option"
        elif recurrent and not call.single:
            reason = "begins with states that it is given; a stream's are those of its last step"
        elif isinstance(layer, _AT_EACH_PLACE) and steps:
            reason = _misfit(kinds, shapes)
        elif isinstance(layer, layers.Concatenate) and steps:
            if layer.axis % len(shapes[0]) < 2 or {*kinds} != {_STEPS}:
                reason = "joins inputs along the time steps"
        elif steps and not recurrent and not (call.single and _each_step_alone(layer, shapes[0])):
            reason = f"{type(layer).__name__} may need several time steps at once"
        if reason:
            _cannot(layer, reason)
        if recurrent:
            for stage in layer.stages:
                self._recurrent[here, stage] = stage.get_initial_state(self.streams)
            return [_STEPS if layer.return_sequences else _LAST] + [_LAST] * (len(call.outputs) - 1)
        return [max(kinds)] * len(call.outputs)


_FIXED, _LAST, _STEPS = range(3)  # what an array is, see Stepper._follow
_AT_EACH_PLACE = (
    layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum,
)  # fmt: skip


def _misfit(kinds, shapes):
    """Why time steps cannot be merged place by place with what else there is, or None."""
    ranks = {len(s) for kind, s in zip(kinds, shapes, strict=True) if kind == _STEPS}
    if _LAST in kinds:
        return "needs the end of a sequence beside earlier time steps"
    for kind, shape in zip(kinds, shapes, strict=True):
        if len(shape) > min(ranks) or (len(shape) == min(ranks) and _own_steps(kind, shape)):
            return "needs time steps that a stream does not have yet"
    return None


def _own_steps(kind, shape):
    return kind == _FIXED and shape[1] != 1


def _of_operation(call, kinds, shapes):
    """The kind of what an operation gives of time steps, None where it may need others."""
    layer, args = call.layer, call.options["args"]
    rank, axis = max(map(len, shapes)), layer.options.get("axis", -1)
    all_steps = {*kinds} == {_STEPS} and all(len(shape) == rank for shape in shapes)
    last = type(axis) is int and axis % rank >= 2
    if type(layer).__name__ == "GetItem":
        return _of_key(args[1], rank)
    if layer.along_axis or type(layer).__name__ == "Concatenate":
        return _STEPS if all_steps and ("axis" not in layer.options or last) else None
    if not layer.broadcasts or _LAST in kinds:
        return None
    for arg in args:  # sizes are matched from the last on
        kind = kinds[arg.n] if isinstance(arg, Argument) else _FIXED
        shape = shapes[arg.n] if isinstance(arg, Argument) else np.shape(arg)
        if len(shape) > rank or (kind == _STEPS and len(shape) < rank):
            return None
        if kind == _FIXED and len(shape) >= rank - 1 and shape[1 - rank] != 1:
            return None
    return _STEPS


def _of_key(key, rank):
    """That of time steps indexed by `key`: as they are, or the last of them."""
    key = [*key] if isinstance(key, (list, tuple)) else [key]
    if not all(isinstance(part, (slice, int)) or part is Ellipsis for part in key):
        return None
    if Ellipsis in key:
        place = key.index(Ellipsis)
        key[place : place + 1] = [slice(None)] * (rank - len(key) + 1)
    batch, steps = (key + [slice(None)] * 2)[:2]
    if batch != slice(None):
        return None
    return _STEPS if steps == slice(None) else _LAST if steps == -1 else None


def _cannot(layer, reason):
    raise ValueError(f"stream: layer {layer.name!r}: {reason}")


def _each_step_alone(layer, shape):
    """Does this layer compute each time step (batch, timesteps, features) from itself alone?"""
    if len(shape) < 3:
        return isinstance(layer, (layers.Embedding, layers.Identity, layers.Dropout))
    if isinstance(layer, (layers.BatchNormalization, layers.LayerNormalization)):
        axes = layer.axis if isinstance(layer.axis, list) else [layer.axis]
        return all(axis in (-1, len(layer.input_shape) - 1) for axis in axes)
    if isinstance(layer, layers.Softmax):
        return layer.options["axis"] in (-1, len(layer.input_shape) - 1)
    if isinstance(layer, (layers.UnitNormalization, layers.RMSNormalization)):
        rank = len(layer.input_shape)
        return layer.axes(rank) == (rank - 1,)
    if isinstance(layer, (layers.Rescaling, layers.Normalization)):
        return set(layer.fixed_axes) <= {-1}
    return type(layer) in EACH_STEP


EACH_STEP = {
    layers.InputLayer, layers.Embedding, layers.Masking, layers.Dense, layers.TimeDistributed,
    layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Dropout,
    layers.SpatialDropout1D, layers.GaussianDropout, layers.GaussianNoise,
    layers.ActivityRegularization, layers.Identity,
}  # fmt: skip
