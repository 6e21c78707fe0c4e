"""RNN over cells that compute a step themselves: users' classes, which say it in `call`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.layers import own
from fastrnn.layers.base import Layer
from fastrnn.tape import unstacked, value_of


def is_own(cell) -> bool:
    """Is this a cell of the user's own, or a list that has one?"""
    if isinstance(cell, (list, tuple)):
        return any(map(is_own, cell))
    return isinstance(cell, OwnStackedCells) or (
        getattr(cell, "says_call", False) and hasattr(cell, "state_size")
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
        super().__init__(name=options.pop("name", None) or _name(), **options)
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
        states, steps, ys, y = list(states), unstacked(inputs, 1), [], None
        order = range(len(steps))[:: -1 if self.go_backwards else 1]
        for t in order:
            new_y, new = step(self.cell, steps[t], states, training)
            new = list(new) if isinstance(new, (list, tuple)) else [new]
            if mask is not None:
                kept = np.asarray(value_of(mask))[:, t]
                before = new_y * 0.0 if y is None else y
                shown = new_y * 0.0 if self.zero_output_for_mask else before
                new, y = _where(kept, new, states), _where(kept, new_y, before)
                ys.append(_where(kept, new_y, shown))
            else:
                y = new_y
                ys.append(y)
            states = new
        if self.stateful:
            self.states = [np.array(value_of(state)) for state in states]
        y = np.stack(ys, 1) if self.return_sequences else ys[-1]
        return [y, *states] if self.return_state else y

    def compute_mask(self, inputs, mask=None):
        mask = mask[0] if isinstance(mask, list) else mask
        return mask if self.return_sequences else None

    def get_config(self) -> dict[str, Any]:
        from fastrnn.layers import serialize

        options = (
            "return_sequences", "return_state", "go_backwards", "stateful", "unroll",
            "zero_output_for_mask",
        )  # fmt: skip
        config = {name: getattr(self, name) for name in options}
        return {**super().get_config(), **config, "cell": serialize(self.cell)}


own.adopt(OwnStackedCells)
own.adopt(OwnRNN)


def _name():
    from fastrnn.layers.base import unique_name

    return unique_name("rnn")


def step(cell, x, states, training):
    """(y, states) of one step of any cell."""
    named = {}
    if training is not None and (
        not getattr(cell, "says_call", False) or "training" in own.parameters(type(cell))
    ):
        named["training"] = training
    return cell(x, states, **named)


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
