"""Layers around layers: Bidirectional and TimeDistributed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastrnn.layers.base import LACKS_AN_AXIS, Layer
from fastrnn.layers.dense import Dense
from fastrnn.layers.embedding import Lookup
from fastrnn.layers.own_rnn import OwnBidirectional, OwnRNN
from fastrnn.layers.recurrent import (
    Recurrent,
    TakesStates,
    backward_directions,
    check_states,
    forward_directions,
    given_states,
    plan_directions,
)
from fastrnn.regularizers import activity_gradient, activity_loss

if TYPE_CHECKING:
    from fastrnn._types import BidirectionalOptions, LayerOptions, Unpack


MERGE_MODES = ("concat", "sum", "mul", "ave", None)


class Wrapper(Layer):
    """Base of layers of the user's own around `layer`, which is saved with them. Raises ValueError
    for anything else than a layer."""

    def __init__(self, layer: Layer, **kwargs: Any):
        if not isinstance(layer, Layer):
            raise ValueError(f"layer: expected a layer, received {layer!r:.80}")
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape=None):
        if not self.layer.built:
            self.layer.build(input_shape)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        from fastrnn.layers import serialize

        return {**super().get_config(), "layer": serialize(self.layer)}

    @classmethod
    def from_config(cls, config):
        from fastrnn.layers import deserialize

        return super().from_config({**config, "layer": deserialize(config["layer"])})


class Bidirectional(TakesStates):
    """A recurrent layer run over the sequence and over its reverse: Schuster & Paliwal 1997.

    merge_mode: "concat" (default; forward first), "sum", "mul", "ave", or None for the list
    [forward, backward]. backward_layer: default a copy of `layer` with go_backwards; its sequence
    is turned round. Weights: the forward layer's, then the backward layer's. With return_state the
    outputs are [output, forward h, forward c, backward h, backward c].
    Source: https://keras.io/api/layers/recurrent_layers/bidirectional/
    """

    supports_masking = True
    _positional = ("initial_state", "mask")

    if not TYPE_CHECKING:

        def __new__(cls, layer: Any = None, *args: Any, **options: Any) -> Any:
            if cls is Bidirectional and isinstance(layer, OwnRNN):
                return OwnBidirectional(layer, *args, **options)
            return super().__new__(cls)

    def __init__(
        self,
        layer: Layer,
        merge_mode: Literal["concat", "sum", "mul", "ave"] | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: Layer | None = None,
        **kwargs: Unpack[BidirectionalOptions],
    ):
        if not isinstance(layer, Recurrent):
            raise ValueError(f"layer: expected a recurrent layer such as LSTM, received {layer!r}")
        if backward_layer is not None and not isinstance(backward_layer, Recurrent):
            raise ValueError(
                f"backward_layer: expected a recurrent layer, received {backward_layer!r}"
            )
        if merge_mode not in MERGE_MODES:
            raise ValueError(f"merge_mode: expected one of {MERGE_MODES}, received {merge_mode!r}")
        super().__init__(weights=weights, **kwargs)
        if self.batch_input_shape is None:
            self.batch_input_shape = layer.batch_input_shape
        self.merge_mode = merge_mode
        self._given_backward_layer = backward_layer is not None
        self.forward_layer = _unbuilt_copy(layer, "forward_")
        if backward_layer is None:
            backward_layer = _unbuilt_copy(layer, "backward_")
            backward_layer.go_backwards = True
        self.backward_layer = backward_layer
        for option in ("stateful", "return_sequences", "return_state"):
            if getattr(self.forward_layer, option) != getattr(self.backward_layer, option):
                raise ValueError(f"forward and backward layers must agree in {option}")
        if self.forward_layer.go_backwards == self.backward_layer.go_backwards:
            raise ValueError("forward and backward layers must differ in go_backwards")
        for inner in self.sublayers:
            inner.zero_output_for_mask = inner.return_sequences
        self.return_sequences, self.return_state = layer.return_sequences, layer.return_state
        self.stateful = layer.stateful
        self._count = len(self.forward_layer.sizes_of_states())
        self._pair = None  # of layers of one cell, which run side by side

    @property
    def sublayers(self):
        return [self.forward_layer, self.backward_layer]

    @property
    def layer(self):
        return self.forward_layer

    @property
    def fixed_axes(self):
        return self.forward_layer.fixed_axes

    @property
    def _rank_of_x(self):
        return self.forward_layer._rank_of_x

    def check_input_shape(self, shape):
        self.forward_layer.check_input_shape(shape)

    def sizes_of_states(self):
        return [size for layer in self.sublayers for size in layer.sizes_of_states()]

    def states_beside(self, shape):
        return [state for layer in self.sublayers for state in layer.states_beside(shape)]

    def groups_of_states(self):
        return [count for layer in self.sublayers for count in layer.groups_of_states()]

    def create_weights(self, input_shape):
        adds = self.merge_mode in ("sum", "mul", "ave")
        if adds and self.forward_layer.units != self.backward_layer.units:
            raise ValueError(
                f"merge_mode {self.merge_mode!r}: expected equal units, received "
                f"{self.forward_layer.units} and {self.backward_layer.units}"
            )
        for layer in self.sublayers:
            layer.build(input_shape)
            for variable in layer.weights:
                variable.path = f"{self.name}/{variable.path}"
        shapes = [layer.shape_of_y(input_shape) for layer in self.sublayers]
        if shapes[0][:-1] != shapes[1][:-1]:
            raise ValueError(
                f"layer {self.name!r}: expected layers whose outputs differ in the last size at "
                f"most, received shapes {shapes[0]} and {shapes[1]}"
            )
        stages = [stage for layer in self.sublayers for stage in layer.stages]
        self._pair = stages if len(stages) == 2 else None

    def compute_output_shape(self, input_shape):
        input_shape = self._of_x(input_shape)
        shapes = [layer.shape_of_y(input_shape) for layer in self.sublayers]
        if self.merge_mode == "concat":
            shapes = [(*shapes[0][:-1], shapes[0][-1] + shapes[1][-1])]
        elif self.merge_mode is not None:
            shapes = shapes[:1]
        if self.return_state:
            shapes += [s for layer in self.sublayers for s in layer.shapes_of_states(input_shape)]
        return shapes if len(shapes) > 1 else shapes[0]

    def compute_mask(self, inputs, mask=None):
        if isinstance(mask, list):
            mask = mask[0]
        if mask is None or not self.return_sequences:
            return None
        if self.merge_mode is not None:
            return mask
        return [mask, mask] + [None] * (len(self.sizes_of_states()) if self.return_state else 0)

    def reset_states(self):
        for layer in self.sublayers:
            layer.reset_states()

    reset_state = reset_states

    def _views(self, array):
        """For both layers the y and last (one of them None) that `array` or its half holds."""
        split = self.forward_layer.size_of_y
        halves = [array[..., :split], array[..., split:]]
        if not self.return_sequences:
            return [None, None], halves
        return [halves[0], halves[1][:, ::-1]], [None, None]

    def _size_of_both(self):
        return self.forward_layer.size_of_y + self.backward_layer.size_of_y

    def _regularized(self, both):
        """(activity regularizer, output) of the layers inside that have one."""
        regularizers = [layer.activity_regularizer for layer in self.sublayers]
        if regularizers == [None, None]:
            return []
        split = self.forward_layer.size_of_y
        pairs = zip(regularizers, (both[..., :split], both[..., split:]), strict=True)
        return [(regularizer, y) for regularizer, y in pairs if regularizer is not None]

    def _halves(self, states):
        """Those of both layers, of a list of all, None or an empty one."""
        return (states[: self._count], states[self._count :]) if states else (states, states)

    def forward(self, x, run, mask=None, states=None):
        x, states, mask = given_states(self, x, states, run, mask)
        *shape, _ = self.forward_layer.shape_of_y(x.shape)
        both = run.empty(self, "y", (*shape, self._size_of_both()))
        halves = self._halves(states)
        if self._pair:
            forward_directions(self, self._pair, x, run, mask, halves, *self._views(both))
        else:
            self._forward_apart(x, run, mask, halves, both)
        for regularizer, y in self._regularized(both):
            run.losses.append(activity_loss(regularizer, y))
        outputs = self._merged(both, run)
        if self.return_state:
            outputs += [state for states in run.saved[self, "states"] for state in states]
        return outputs if len(outputs) > 1 else outputs[0]

    def _apart(self, both):
        """For both layers the part of `both` that their output is, or its gradient."""
        return [y if last is None else last for y, last in zip(*self._views(both), strict=True)]

    def _forward_apart(self, x, run, mask, halves, both):
        """One layer after the other, of which one has several cells."""
        x = x.vectors(run) if isinstance(x, Lookup) else x
        ends = run.saved[self, "states"] = []
        for layer, states, part in zip(self.sublayers, halves, self._apart(both), strict=True):
            if run.saved[self, "begins"]:
                y = layer.forward([x, *states], run, None if mask is None else [mask])
            else:
                y = layer.forward(x, run, mask, states)
            if self.return_state:
                y, *end = y
                ends.append(end)
            part[...] = y

    def _backward_apart(self, dy, run, need_dx, halves, begins):
        dxs = []
        for layer, part, dends, room in zip(
            self.sublayers, self._apart(dy), halves, begins, strict=True
        ):
            part = np.ascontiguousarray(part)
            dx = layer.backward([part, *dends] if self.return_state else part, run, need_dx)
            if room:
                dx, *starts = dx
                for array, gradient in zip(room, starts, strict=True):
                    array[...] = gradient
            dxs.append(dx)
        return dxs[0] + dxs[1] if need_dx else None

    def _merged(self, both, run):
        if self.merge_mode == "concat":
            return [both]
        split = self.forward_layer.size_of_y
        forward, backward = both[..., :split], both[..., split:]
        if self.merge_mode is None:
            return [np.ascontiguousarray(forward), np.ascontiguousarray(backward)]
        merged = run.empty(self, "merged", forward.shape)
        if self.merge_mode == "mul":
            return [np.multiply(forward, backward, out=merged)]
        np.add(forward, backward, out=merged)
        if self.merge_mode == "ave":
            merged *= np.float32(0.5)
        return [merged]

    def backward(self, dy, run, need_dx=True):
        dstates = []
        if self.return_state:
            outputs = 2 if self.merge_mode is None else 1
            dstates = dy[outputs:]
            dy = dy[:2] if self.merge_mode is None else dy[0]
        if self.merge_mode is None:
            dy = np.concatenate(dy, axis=-1)
        both = run.empty(self, "y", (*dy.shape[:-1], self._size_of_both()))
        if self.merge_mode in ("sum", "mul", "ave"):
            split = self.forward_layer.size_of_y
            spread = run.empty(self, "dy", both.shape)
            if self.merge_mode == "mul":
                np.multiply(dy, both[..., split:], out=spread[..., :split])
                np.multiply(dy, both[..., :split], out=spread[..., split:])
            else:
                share = np.float32(0.5 if self.merge_mode == "ave" else 1)
                np.multiply(dy, share, out=spread[..., :split])
                np.multiply(dy, share, out=spread[..., split:])
            dy = spread
        pairs = zip(self._regularized(dy), self._regularized(both), strict=True)
        for (_, d), (regularizer, y) in pairs:
            d += np.float32(run.loss_factor[0]) * activity_gradient(regularizer, y)
        begins = run.saved[self, "begins"]
        halves = self._halves(dstates), self._halves(begins)
        if self._pair:
            dx = backward_directions(self, self._pair, run, *self._views(dy), need_dx, *halves)
        else:
            dx = self._backward_apart(dy, run, need_dx, *halves)
        return [dx, *begins] if begins else dx

    def plan(self, x, steps, run):
        pair = self._pair
        unfused = pair is None or any(stage._codes is None for stage in pair)
        if self.merge_mode != "concat" or self.stateful or unfused:
            return super().plan(x, steps, run)
        x, *begins = x if isinstance(x, list) else [x]
        shape = self.compute_output_shape(x.shape)
        y, *ends = [run.rooms.new(part) for part in (shape if self.return_state else [shape])]
        states = [self._halves(of) for of in (begins, ends)]
        steps.append(plan_directions(pair, x, run, *self._views(y), *states))
        return [y, *ends] if self.return_state else y

    def _forward_call(self, x, run, mask, initial_state=None):
        if initial_state is not None:
            count, half = len(self.sizes_of_states()), self._count
            if len(initial_state) != count:
                raise ValueError(
                    "initial_state: expected the forward layer's states, then the backward "
                    f"layer's, {count} arrays, received {len(initial_state)}"
                )
            initial_state = [
                *check_states(self.forward_layer, initial_state[:half], x.shape[0]),
                *check_states(self.backward_layer, initial_state[half:], x.shape[0]),
            ]
        return self.forward(x, run, mask, initial_state)

    def get_config(self):
        from fastrnn.layers import serialize

        config = {**super().get_config(), "merge_mode": self.merge_mode}
        config["layer"] = serialize(self.forward_layer)
        if self._given_backward_layer:
            config["backward_layer"] = serialize(self.backward_layer)
        return config

    @classmethod
    def from_config(cls, config):
        from fastrnn.layers import deserialize

        config = dict(config)
        for key in ("layer", "backward_layer"):
            if isinstance(config.get(key), dict):
                config[key] = deserialize(config[key])
        return cls(**config)


def _unbuilt_copy(layer, prefix):
    if layer.weights:
        twin = type(layer).from_config(layer.get_config())
    else:
        twin = copy.deepcopy(layer)
    twin.name = prefix + layer.name.removeprefix("forward_")
    return twin


class TimeDistributed(Layer):
    """A layer applied to each time step: (batch, timesteps, ...) -> (batch, timesteps, ...).

    Source: https://keras.io/api/layers/recurrent_layers/time_distributed/
    """

    supports_masking = True

    def __init__(self, layer: Layer, **kwargs: Unpack[LayerOptions]):
        if not isinstance(layer, Layer):
            raise ValueError(f"layer: expected a layer, received {layer!r}")
        super().__init__(**kwargs)
        self.layer = layer
        self.input_dtype = layer.input_dtype

    @property
    def sublayers(self):
        return [self.layer]

    @property
    def batch_dependent(self):
        return self.layer.batch_dependent

    @property
    def fixed_axes(self):
        return [axis if axis < 0 else axis + 1 for axis in self.layer.fixed_axes]

    @property
    def activation(self):
        """The wrapped layer's: the loss may compute it (see Run.logits_of)."""
        return getattr(self.layer, "activation", None)

    def check_input_shape(self, shape):
        if len(shape) < 3:
            self.reject_shape("(batch, timesteps, ...)", shape, LACKS_AN_AXIS * (len(shape) == 2))

    def create_weights(self, input_shape):
        self.layer.build((input_shape[0], *input_shape[2:]))
        if isinstance(self.layer.output_shape, list):
            raise ValueError(
                f"layer {self.name!r}: expected a layer of one output, {self.layer.name!r} has "
                f"{len(self.layer.output_shape)}"
            )
        for variable in self.layer.weights:
            variable.path = f"{self.name}/{variable.path}"

    def compute_output_shape(self, input_shape):
        inner = self.layer.compute_output_shape((input_shape[0], *input_shape[2:]))
        return (*input_shape[:2], *inner[1:])

    def forward(self, x, run, mask=None):
        batch, timesteps = x.shape[:2]
        if mask is not None and mask.shape[:2] != (batch, timesteps):
            raise ValueError(
                f"mask: expected shape {(batch, timesteps)} for layer {self.name!r}, "
                f"received {mask.shape}"
            )
        inner_mask = mask if mask is not None and mask.ndim > 2 else None
        if run.training and self.layer.batch_dependent:
            run.saved[self] = x.shape
            steps = []
            for t in range(timesteps):
                step_mask = None if inner_mask is None else np.ascontiguousarray(inner_mask[:, t])
                child = run.child(self, t)
                steps.append(self.layer.forward(np.ascontiguousarray(x[:, t]), child, step_mask))
            return np.stack(steps, axis=1)
        if inner_mask is not None:
            inner_mask = inner_mask.reshape(-1, *inner_mask.shape[2:])
        y = self.layer.forward(x.reshape(batch * timesteps, *x.shape[2:]), run, inner_mask)
        run.saved[self] = x.shape
        return y.reshape(batch, timesteps, *y.shape[1:])

    def backward(self, dy, run, need_dx=True):
        shape = run.saved[self]
        if self.layer.batch_dependent:
            return self._backward_by_step(dy, run, need_dx, shape)
        dx = self.layer.backward(dy.reshape(-1, *dy.shape[2:]), run, need_dx)
        return None if dx is None else dx.reshape(shape)

    def plan(self, x, steps, run):
        y = self.layer.plan(x.reshape(-1, *x.shape[2:]), steps, run)
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def _backward_by_step(self, dy, run, need_dx, shape):
        outer = run.filled
        if outer is None:
            run.forget_gradients(set())
        steps = []
        try:
            for t in range(shape[1]):
                child = run.child(self, t)
                steps.append(self.layer.backward(np.ascontiguousarray(dy[:, t]), child, need_dx))
                run.add_gradients()
        finally:
            run.forget_gradients(outer)
        return np.stack(steps, axis=1) if need_dx else None

    def get_config(self):
        from fastrnn.layers import serialize

        return {**super().get_config(), "layer": serialize(self.layer)}

    @classmethod
    def from_config(cls, config):
        from fastrnn.layers import deserialize

        config = dict(config)
        config["layer"] = deserialize(config["layer"])
        return cls(**config)


def TimeDistributedDense(*units: Any, **options: Any) -> TimeDistributed:
    """Keras 1's name of TimeDistributed(Dense(units, ...)). input_dim and input_length are the
    sizes of the input's last two axes."""
    names = "name", "trainable", "weights", "input_shape", "batch_input_shape"
    outer = {name: options.pop(name) for name in names if name in options}
    features, length = options.pop("input_dim", None), options.pop("input_length", None)
    if features is not None:
        outer["input_shape"] = (length, features)
    return TimeDistributed(Dense(*units, **options), **outer)
