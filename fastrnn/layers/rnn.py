"""RNN: cells run over time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

from fastrnn.layers.cells import Cell, StackedRNNCells, checked_cell
from fastrnn.layers.own_rnn import OwnRNN, is_own
from fastrnn.layers.recurrent import Recurrent, check_states, flat, in_order

if TYPE_CHECKING:
    from fastrnn._types import RNNOptions, Unpack


class RNN(Recurrent):
    """A cell run over a sequence: (batch, timesteps, features) -> (batch, units), or (batch,
    timesteps, units) with return_sequences.

    cell: LSTMCell, GRUCell, SimpleRNNCell, StackedRNNCells or a list of cells, of which each runs
    over the whole sequence as LSTM, GRU or SimpleRNN does, then the next. Cells of the user's own,
    layers with `state_size` whose call(x, states) gives (y, states), run step by step. Arguments
    and defaults are Keras's; unroll is accepted and changes nothing. States are grouped by cell
    where there is a list: outputs with return_state are [output, [h, c], [h]] for an LSTMCell and a
    GRUCell (in graphs h for [h]), and initial_state is given so. Errors: ValueError for what is no
    cell. Source: https://keras.io/api/layers/recurrent_layers/rnn/
    """

    if not TYPE_CHECKING:

        def __new__(cls, cell: Any = None, *args: Any, **options: Any) -> Any:
            if cls is RNN and is_own(cell):
                return OwnRNN(cell, *args, **options)
            return super().__new__(cls)

    def __init__(
        self,
        cell: Cell | StackedRNNCells | Sequence[Cell],
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Unpack[RNNOptions],
    ):
        kwargs.pop("implementation", None)
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        self.cell = checked_cell("cell", cell, Cell, StackedRNNCells)
        super().__init__(
            return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask,
            **kwargs,
        )  # fmt: skip
        self._stages = None

    @property
    def sublayers(self):
        return [self.cell]

    @property
    def stages(self):
        return self._stages or [cell._layer for cell in self.cell.cells_within()]

    @property
    def units(self):
        return self.cell.output_size

    def create_weights(self, input_shape):
        self.cell.build_in(self, (input_shape[0], input_shape[2]))
        shape, stages = input_shape, []
        for cell in self.cell.cells_within():
            stage = copy.copy(cell._layer)
            stage.name, stage.input_shape, stage.built = self.name, shape, True
            shape = (*shape[:2], cell.units)
            stage.return_sequences = True
            stage.return_state, stage.stateful = self.return_state, self.stateful
            stage.zero_output_for_mask = self.zero_output_for_mask
            stage.go_backwards = self.go_backwards and not stages
            stages.append(stage)
        stages[-1].return_sequences = self.return_sequences
        self._stages = stages

    def groups_of_states(self):
        return self.cell.groups_of_states()

    @property
    def state_size(self) -> list[int | list[int]]:
        """The size of each state of one sample."""
        size = self.cell.state_size
        return size if isinstance(size, list) else [size]

    def get_initial_state(self, batch_size: SupportsIndex) -> list:
        """Zeros for each state, grouped as `state_size`."""
        return self.cell.get_initial_state(batch_size)

    @property
    def states(self) -> list | None:
        """The states of a stateful layer; None before it knows the size of its batches."""
        states = [stage.states for stage in self.stages]
        if None in states:
            return None
        return states[0] if isinstance(self.cell, Cell) else states

    def reset_states(self, states=None):
        """Forget the states of a stateful layer, or set them, arrays grouped as `state_size`."""
        if states is not None:
            states = check_states(self, flat(states), None)
        parts = self.split(states)
        for stage, part in zip(self.stages, parts, strict=True):
            stage.reset_states(part)

    reset_state = reset_states

    def forward(self, x, run, mask=None, states=None):
        if len(self._stages) == 1:
            return self._stages[0].forward(x, run, mask, states)
        given = isinstance(x, list)
        if given:
            x, *states = x
            mask = mask and mask[0]
        ends = []
        for stage, start in zip(self._stages, self.split(states), strict=True):
            if given:
                x = stage.forward([x, *start], run, None if mask is None else [mask])
            else:
                x = stage.forward(x, run, mask, start)
            if self.return_state:
                x, *end = x
                ends += end
            mask = None if mask is None else in_order(stage, mask)
        return [x, *ends] if self.return_state else x

    def backward(self, dy, run, need_dx=True):
        if len(self._stages) == 1:
            return self._stages[0].backward(dy, run, need_dx)
        dends, begins = None, []
        if self.return_state:
            dy, *dends = dy
        for stage, dend in reversed([*zip(self._stages, self.split(dends), strict=True)]):
            below = need_dx or stage is not self._stages[0]
            dy = stage.backward([dy, *dend] if self.return_state else dy, run, below)
            if isinstance(dy, list):
                dy, *begin = dy
                begins = begin + begins
        return [dy, *begins] if begins else dy

    def plan(self, x, steps, run):
        if self.stateful:
            return super().plan(x, steps, run)
        x, *begins = x if isinstance(x, list) else [x]
        ends = []
        for stage, begin in zip(self.stages, self.split(begins), strict=True):
            below, x = x, stage.plan([x, *begin] if begin else x, steps, run)
            if self.return_state:
                x, *end = x
                ends += end
            if stage is not self._stages[0]:  # all has been read that the one before gave
                run.rooms.hold(below)
                run.rooms.drop(below)
        return [x, *ends] if self.return_state else x

    def get_config(self):
        from fastrnn.layers import serialize

        return {**super().get_config(), "cell": serialize(self.cell)}

    @classmethod
    def from_config(cls, config):
        from fastrnn.layers import deserialize

        cell = config["cell"]
        return cls(**{**config, "cell": deserialize(cell) if isinstance(cell, dict) else cell})
