"""RNN over cells that compute a step themselves: users' classes, which say it in `call`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.layers import own
from fastrnn.layers.base import Layer, unique_name
from fastrnn.tape import unstacked, value_of

_OPTIONS = (
    "return_sequences", "return_state", "go_backwards", "stateful", "unroll",
    "zero_output_for_mask",
)  # fmt: skip


def is_own(cell) -> bool:
    """Is this a cell of the user's own, or a list that has one?"""
    if isinstance(cell, (list, tuple)):
        return any(map(is_own, cell))
    return isinstance(cell, OwnStackedCells) or (
        getattr(cell, "_says_call", False) and hasattr(cell, "state_size")
    )


class OwnStackedCells(Layer):
    """StackedRNNCells of which one at least is the user's own."""

    class_name = "StackedRNNCells"

    def __init__(self, cells: Any, **options: Any):
        super().__init__(name=options.pop("name", None) or "stacked_rnn_cells", **options)
        self.cells = list(cells)

    @property
    def sublayers(self):
        return self.cells

    @property
    def state_size(self) -> list[Any]:
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> Any:
        return getattr(self.cells[-1], "output_size", None)

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return [initial_state(cell, batch_size) for cell in self.cells]

    def call(self, inputs, states, training=None):
        after = []
        for cell, before in zip(self.cells, states, strict=True):
            listed = isinstance(before, (list, tuple))
            inputs, new = step(cell, inputs, before if listed else [before], training)
            one = not listed and isinstance(new, (list, tuple))
            after.append(new[0] if one else new)
        return inputs, after

    def get_config(self) -> dict[str, Any]:
        from fastrnn.layers import serialize

        return {**super().get_config(), "cells": [serialize(cell) for cell in self.cells]}


class OwnRNN(Layer):
    """What RNN(cell) is for a cell of the user's own: a loop over time on the tape."""

    class_name = "RNN"
    supports_masking = True
    stateful = False

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **options: Any,
    ):
        options.pop("implementation", None)
        super().__init__(name=options.pop("name", None) or unique_name("rnn"), **options)
        self.cell = OwnStackedCells(cell) if isinstance(cell, (list, tuple)) else cell
        self.return_sequences = checks.flag("return_sequences", return_sequences)
        self.return_state = checks.flag("return_state", return_state)
        self.go_backwards = checks.flag("go_backwards", go_backwards)
        self.stateful = checks.flag("stateful", stateful)
        self.zero_output_for_mask = checks.flag("zero_output_for_mask", zero_output_for_mask)
        self.unroll = checks.flag("unroll", unroll)
        self.states = None

    @property
    def sublayers(self):
        return [self.cell]

    @property
    def has_states(self):
        return self.stateful

    @property
    def state_size(self) -> Any:
        size = self.cell.state_size
        return size if isinstance(size, (list, tuple)) else [size]

    def get_initial_state(self, batch_size: Any) -> list[Any]:
        """Those of the cell, or zeros."""
        states = initial_state(self.cell, batch_size)
        return states if isinstance(states, (list, tuple)) else [states]

    def reset_states(self, states=None):
        """Forget the states of a stateful layer, or set them."""
        self.states = states

    reset_state = reset_states

    def call(self, inputs, initial_state=None, mask=None, training=None):
        if isinstance(inputs, (list, tuple)):
            inputs, *initial_state = inputs
        if len(inputs.shape) < 3:
            raise ValueError(
                f"layer {self.name!r} (RNN): expected inputs (batch, timesteps, ...), received "
                f"shape {tuple(inputs.shape)}"
            )
        states = initial_state if initial_state is not None else self.states
        if states is None:
            states = self.get_initial_state(len(inputs))
        if not isinstance(states, (list, tuple)):
            states = [states]
        ys, states = loop(
            lambda x, states: step(self.cell, x, states, training),
            unstacked(inputs, 1)[:: -1 if self.go_backwards else 1],
            list(states),
            None if mask is None else kept_steps(mask)[:, :: -1 if self.go_backwards else 1],
            self.zero_output_for_mask,
        )
        if self.stateful:
            self.states = [np.array(value_of(state)) for state in states]
        y = np.stack(ys, 1) if self.return_sequences else ys[-1]
        return [y, *states] if self.return_state else y

    def compute_mask(self, inputs, mask=None):
        mask = mask[0] if isinstance(mask, list) else mask
        return mask if self.return_sequences else None

    def get_config(self) -> dict[str, Any]:
        from fastrnn.layers import serialize

        config = {name: getattr(self, name) for name in _OPTIONS}
        return {**super().get_config(), **config, "cell": serialize(self.cell)}


class OwnBidirectional(Layer):
    """Bidirectional of an OwnRNN."""

    class_name = "Bidirectional"
    supports_masking = True

    def __init__(
        self,
        layer: OwnRNN,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **options: Any,
    ):
        super().__init__(
            name=options.pop("name", None) or unique_name("bidirectional"),
            weights=weights,
            **options,
        )
        if merge_mode not in MERGES:
            raise ValueError(f"merge_mode: expected one of {[*MERGES]}, received {merge_mode!r}")
        self.merge_mode = merge_mode
        self.forward_layer = _copied(layer, f"forward_{layer.name}", layer.go_backwards)
        other = backward_layer or layer
        backwards = other.go_backwards if backward_layer else not layer.go_backwards
        self.backward_layer = _copied(other, f"backward_{other.name}", backwards)
        for inner in self.sublayers:
            inner.zero_output_for_mask = inner.return_sequences
        self.return_sequences, self.return_state = layer.return_sequences, layer.return_state
        self._given_backward_layer = backward_layer is not None

    @property
    def sublayers(self):
        return [self.forward_layer, self.backward_layer]

    def call(self, inputs, initial_state=None, mask=None, training=None):
        starts = [None, None]
        if initial_state is not None:
            half = len(initial_state) // 2
            starts = [initial_state[:half], initial_state[half:]]
        found = [
            layer(inputs, initial_state=start, mask=mask, training=training)
            for layer, start in zip(self.sublayers, starts, strict=True)
        ]
        states = []
        if self.return_state:
            states = [state for _, *ends in found for state in ends]
            found = [y for y, *_ in found]
        forward, backward = found
        if self.return_sequences:
            backward = np.flip(backward, 1)
        y = MERGES[self.merge_mode](forward, backward)
        y = y if isinstance(y, list) else [y]
        return [*y, *states] if len(y) + len(states) > 1 else y[0]

    compute_mask = OwnRNN.compute_mask

    def get_config(self) -> dict[str, Any]:
        from fastrnn.layers import serialize

        config = {"merge_mode": self.merge_mode, "layer": serialize(self.forward_layer)}
        if self._given_backward_layer:
            config["backward_layer"] = serialize(self.backward_layer)
        return {**super().get_config(), **config}


MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], -1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
    None: lambda a, b: [a, b],
}
own.adopt(OwnStackedCells)
own.adopt(OwnRNN)
own.adopt(OwnBidirectional)


def _copied(layer, name, go_backwards):
    """The same without weights."""
    config = {**Layer.get_config(layer), "name": name}
    for option in (
        "return_sequences",
        "return_state",
        "stateful",
        "unroll",
        "zero_output_for_mask",
    ):
        config[option] = getattr(layer, option)
    return OwnRNN(_copied_cell(layer.cell), go_backwards=go_backwards, **config)


def _copied_cell(cell):
    if isinstance(cell, OwnStackedCells):
        return OwnStackedCells([*map(_copied_cell, cell.cells)], **Layer.get_config(cell))
    return type(cell).from_config(cell.get_config())


def step(cell, x, states, training):
    """(y, states) of one step of any cell."""
    named = {}
    if training is not None and (
        not getattr(cell, "_says_call", False) or "training" in own.parameters(type(cell))
    ):
        named["training"] = training
    return cell(x, states, **named)


def kept_steps(mask):
    """A mask, an array or a tensor, as bools of (batch, timesteps)."""
    mask = np.asarray(value_of(mask)) != 0
    return mask.reshape(mask.shape[:2])


def loop(function, steps, states, kept, zero_output_for_mask):
    """(the outputs, the states after the last) of y, states = function(x, states) for each step in
    turn; kept: which of them are not masked, (batch, timesteps), or None."""
    ys, y = [], None
    for t, x in enumerate(steps):
        new_y, new = function(x, states)
        new = list(new) if isinstance(new, (list, tuple)) else [new]
        if len(new) != len(states):
            raise ValueError(
                f"states: expected {len(states)} of each step, as at the start, received {len(new)}"
            )
        if kept is None:
            y = new_y
            ys.append(y)
        else:
            before = new_y * 0.0 if y is None else y
            shown = new_y * 0.0 if zero_output_for_mask else before
            new, y = _where(kept[:, t], new, states), _where(kept[:, t], new_y, before)
            ys.append(_where(kept[:, t], new_y, shown))
        states = new
    return ys, states


def initial_state(cell, batch):
    """What the cell says, or zeros."""
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(batch_size=batch)
    sizes = cell.state_size

    def zeros(size):
        return np.zeros(
            (batch, *(size if isinstance(size, (list, tuple)) else (size,))), np.float32
        )

    return [*map(zeros, sizes)] if isinstance(sizes, (list, tuple)) else zeros(sizes)


def _where(kept, new, before):
    if isinstance(new, (list, tuple)):
        return [_where(kept, *pair) for pair in zip(new, before, strict=True)]
    return np.where(kept.reshape(-1, *(1,) * (len(new.shape) - 1)), new, before)
