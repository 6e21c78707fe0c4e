"""Inference at the lowest latency: a network as a list of calls on arrays that stay in place."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import layers, variable
from fastrnn.data import inputs_of
from fastrnn.layers.base import as_input, check_size
from fastrnn.layers.recurrent import Recurrent
from fastrnn.run import Run

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn._types import Whole
    from fastrnn.models import Model

SHAPES_KEPT = 8


class Predictor:
    """What Sequential.compile_inference returns: call it with a batch (batch, ...) for the outputs.

    Weights are packed and buffers laid out once for each of the shapes used last, and again when
    the weights have changed, so that a call costs microseconds beside the kernels. Any number of
    threads may call one Predictor at once, and others may change the weights: a call sees one whole
    set of them. out: an array that takes the outputs.
    Errors: ValueError for a shape that does not fit the model or `out`."""

    def __init__(self, model: Model, prepare: bool = False):
        self._model = model
        self._prepare = prepare
        self._dtype = model.input_dtype
        self._several = model.takes_several
        self._plans = {}  # shape -> plans that no thread is using
        self._seen = None, None  # the last change of any weight, and the model's versions after it
        self._repeatable = not model.has_states

    def __repr__(self):
        model = self._model
        return f"<Predictor of {model.name!r}: {model.input_shape} -> {model.output_shape}>"

    def __call__(self, x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
        if self._several:
            x = inputs_of(self._model, x)
        elif type(x) is not np.ndarray or x.dtype != self._dtype:
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
        return out  # type: ignore[return-value]

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
        shape = tuple([part.shape for part in x]) if self._several else x.shape
        free, plan = self._plans.get(shape), None
        if free:
            try:
                plan = free.pop()
            except IndexError:  # another thread was faster
                pass
        if plan is None or plan[3] is not version:
            repaired = x if self._several else self._model.repair_rank(x)
            if repaired is not x:
                return self._run(repaired, version)
            plan = self._plan(shape, version)
        if self._several:
            for source, part in zip(plan[0], x, strict=True):
                source[...] = part
        else:
            plan[0][...] = x
        for step in plan[1]:
            step()
        return plan

    def _plan(self, shape, version):
        self._check([*shape] if self._several else shape)
        kept = list(self._plans)
        if shape not in kept:
            for oldest in kept[: 1 - SHAPES_KEPT]:
                self._plans.pop(oldest, None)
        if self._several:
            source = [np.zeros(*part) for part in zip(shape, self._dtype, strict=True)]
        else:
            source = np.zeros(shape, self._dtype)
        steps = []
        y = self._model.plan(source, steps, self._new_run())
        return source, steps, y, version, shape

    def _check(self, shape):
        self._model.check_call(shape)

    def _new_run(self):
        return Run(prepare=self._prepare)


class Stepper(Predictor):
    """What Sequential.stream returns: call it with the next time steps of all streams, (streams,
    timesteps, ...), or with one step, (streams, ...), for the outputs. Calls in a row give what one
    call with all steps would, to rounding.

    state: float32 (streams, n), a row for each stream: the states of the recurrent layers in order,
    h before c. Save a copy, and assign it to go on from there. For one thread at a time.
    Errors: ValueError for a model of which a step's output depends on later steps, for a shape that
    does not fit, and for a padded step (Masking, mask_zero)."""

    def __init__(self, model: Model, streams: Whole):
        self.streams = check_size("streams", streams)
        if model.takes_several:
            raise ValueError(f"stream: model {model.name!r}: expected one input")
        super().__init__(model, prepare=True)
        self._repeatable = False
        self._recurrent, self._masks = [], []
        self._reject_future(model, True)
        self._states = {
            layer: [np.zeros((self.streams, layer.units), np.float32) for _ in layer.states_of]
            for layer in self._recurrent
        }
        self._rank = len(model.input_shape)

    def __repr__(self):
        model = self._model
        step = (self.streams, None, *model.input_shape[2:])
        return f"<Stepper of {model.name!r} for {self.streams} streams: x of shape {step}>"

    def __call__(self, x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
        x = as_input(x, self._dtype)
        one_step = x.ndim == self._rank - 1
        if one_step:
            x = x[:, None]
        if x.shape[:1] != (self.streams,) or x.ndim != self._rank:
            self._reject(x[:, 0] if one_step else x)
        for layer in self._masks:
            if not np.all(layer.compute_mask(x)):
                raise ValueError(
                    f"x: layer {layer.name!r} masks some of these steps; streams take no padding"
                )
        if one_step and self._sequences:
            y = super().__call__(x, None if out is None else out[:, None])
            return y[:, 0] if out is None else out
        return super().__call__(x, out)

    def _reject(self, x):
        steps = (self.streams, "timesteps", *self._model.input_shape[2:])
        step = (self.streams, *steps[2:])
        hint = ""
        if x.ndim == self._rank - 2 and x.shape[:1] == (self.streams,) and steps[2:] == (1,):
            hint = "; x[..., None] is one step of one feature"
        elif self.streams == 1 and x.ndim in (self._rank - 2, self._rank - 1):
            hint = f"; x[None] is {'one step' if x.ndim == self._rank - 2 else 'the steps'} of one"
        raise ValueError(
            f"x: expected {self.streams} streams in an array of shape {steps}, or {step} for one "
            f"step, received shape {x.shape}{hint}"
        )

    @property
    def state(self) -> np.ndarray:
        states = [array for arrays in self._states.values() for array in arrays]
        return np.concatenate([np.empty((self.streams, 0), np.float32), *states], axis=1)

    @state.setter
    def state(self, value: ArrayLike) -> None:
        value, at = np.asarray(value), 0
        if value.shape != self.state.shape or value.dtype.kind not in "biuf":
            raise ValueError(
                f"state: expected numbers of shape {self.state.shape}, received "
                f"{value.dtype} of shape {value.shape}"
            )
        for arrays in self._states.values():
            for array in arrays:
                array[...] = value[:, at : at + array.shape[1]]
                at += array.shape[1]

    def reset(self, streams: Any = slice(None)) -> None:
        """Start these streams (an index, several, or a mask; all by default) from zeros."""
        try:
            np.empty(self.streams)[streams]
        except IndexError:
            raise ValueError(
                f"streams: expected indices below {self.streams} or a mask of as many, "
                f"received {streams!r}"
            ) from None
        for arrays in self._states.values():
            for array in arrays:
                array[streams] = 0

    def _check(self, shape):
        if 0 in shape:
            raise ValueError(f"x: expected at least one time step, received shape {shape}")
        timesteps = self._model.input_shape[1] or shape[1]  # a fixed number is that of whole ones
        self._model.check_call((shape[0], timesteps, *shape[2:]))

    def _new_run(self):
        run = super()._new_run()
        run.states = self._states
        return run

    def _reject_future(self, model, sequences):
        """Collect the recurrent and masking layers; raise for one that looks at other steps."""
        for layer in model.layers:
            if isinstance(layer, type(model)):
                sequences = self._reject_future(layer, sequences)
                continue
            recurrent = isinstance(layer, Recurrent)
            if isinstance(layer, layers.Bidirectional) or getattr(layer, "go_backwards", False):
                reason = "reads a sequence from its end, which a stream does not have yet"
            elif recurrent and not sequences:
                reason = "follows a layer that gives no time steps"
            elif recurrent and (layer.stateful or layer.return_state):
                reason = "keeps or returns its state itself; a stream needs neither option"
            elif sequences and not recurrent and not _each_step_alone(layer):
                reason = f"{type(layer).__name__} may need several time steps at once"
            else:
                reason = None
            if reason:
                raise ValueError(f"stream: layer {layer.name!r}: {reason}")
            if recurrent:
                self._recurrent.append(layer)
                sequences = layer.return_sequences
            elif isinstance(layer, layers.Masking) or getattr(layer, "mask_zero", False):
                self._masks.append(layer)
        self._sequences = sequences
        return sequences


def _each_step_alone(layer):
    """Does this layer compute each time step (batch, timesteps, features) from itself alone?"""
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
