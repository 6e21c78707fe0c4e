"""One step of LSTM, GRU and SimpleRNN as a layer, and several of them one over the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from fastrnn.layers.base import check_size
from fastrnn.layers.gru import GRU
from fastrnn.layers.lstm import LSTM
from fastrnn.layers.own_rnn import OwnStackedCells, is_own
from fastrnn.layers.recurrent import TakesStates, flat, given, grouped_as, in_parts
from fastrnn.layers.simple_rnn import SimpleRNN

if TYPE_CHECKING:
    from fastrnn._types import CellOptions, Identifier, Initializer, StackOptions, Unpack, Whole

_OPTIONS = (
    "units", "activation", "recurrent_activation", "use_bias", "unit_forget_bias",
    "kernel_initializer", "recurrent_initializer", "bias_initializer", "kernel_regularizer",
    "recurrent_regularizer", "bias_regularizer", "kernel_constraint", "recurrent_constraint",
    "bias_constraint", "dropout", "recurrent_dropout", "reset_after", "seed",
)  # fmt: skip


class Steps(TakesStates):
    """Base of what computes one time step: called with x (batch, features) and the states before,
    it gives (y, states after)."""

    fixed_axes = (-1,)
    _hidden_names = TakesStates._hidden_names | {
        "build_in", "cells_within", "split",
    }  # fmt: skip

    @property
    def output_size(self) -> int:
        return self.cells_within()[-1].units

    def cells_within(self) -> list[Cell]:
        """The cells that a step runs, in order."""
        self._lacks("cells_within()")

    def check_input_shape(self, shape):
        if len(shape) != 2 or shape[1] is None:
            self.reject_shape(
                "(batch, features) with known features", shape,
                "; RNN(cell) takes sequences" * (len(shape) == 3),
            )  # fmt: skip

    def build_in(self, holder, shape):
        """Build for steps of this shape, as part of another layer."""
        if not self.built:
            self.build(shape)
            for variable in self.weights:
                variable.path = f"{holder.name}/{variable.path}"
        self.check_call(shape)

    def sizes_of_states(self):
        return [size for cell in self.cells_within() for size in cell._layer.sizes_of_states()]

    def compute_output_shape(self, input_shape):
        batch, _ = self._of_x(input_shape)
        sizes = [self.output_size, *self.sizes_of_states()]
        shapes = [(batch, size) for size in sizes]
        return shapes if isinstance(input_shape, list) else shapes[0]

    def __call__(  # type: ignore[override]
        self, inputs: Any, states: Any = None, training: bool | None = None
    ) -> Any:
        """(y, states) of a step from these states, arrays or outputs of layers, grouped as
        `state_size` says. training: drop what dropout says, anew at each step."""
        if states is None:
            raise TypeError(
                f"layer {self.name!r} ({type(self).__name__}): expected the states before the "
                "step, for instance get_initial_state(batch_size); RNN(cell) takes sequences"
            )
        y, *after = flat(super().__call__([inputs, *flat([states])], training=training))
        return y, grouped_as(states, iter(after))


class Cell(Steps):
    """Base of the cells. The weights are those of a layer of the same kind."""

    _kind: type = LSTM

    def __init__(self, arguments, options):
        options.pop("implementation", None)
        super().__init__(**options)
        chosen = given({**arguments, "kwargs": {}})
        self._layer = self._kind(**chosen, name=self.name, return_state=True)

    def __getattr__(self, name):
        if name in (*_OPTIONS, "kernel", "recurrent_kernel", "bias"):
            return getattr(self.__dict__["_layer"], name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def cells_within(self):
        return [self]

    @property
    def state_size(self) -> int | list[int]:
        """The size of each state of one sample."""
        sizes = self.sizes_of_states()
        return sizes if len(sizes) > 1 else sizes[0]

    def get_initial_state(self, batch_size: SupportsIndex) -> list[np.ndarray]:
        """Zeros (batch_size, units) for each state."""
        return self._layer.get_initial_state(batch_size)

    def create_weights(self, input_shape):
        self._layer.create_weights(input_shape, self)
        self._layer._variables = self._variables

    def forward(self, x, run, mask=None):
        x, *states = x
        return self._layer.forward([x[:, None], *states], run)

    def backward(self, dy, run, need_dx=True):
        dx, *begins = self._layer.backward(dy, run, need_dx)
        return [None if dx is None else dx[:, 0], *begins]

    def plan(self, x, steps, run):
        x, *states = x
        return self._layer.plan([x[:, None], *states], steps, run)

    def get_config(self):
        config = self._layer.get_config()
        chosen = {name: config[name] for name in _OPTIONS if name in config}
        return {**super().get_config(), **chosen}


class LSTMCell(Cell):
    """One step of an LSTM: for RNN(cell), or called as cell(x, [h, c]) -> (y, [h, c]).

    Weights, gates in the order i, f, c, o: kernel (features, 4 units), recurrent_kernel (units,
    4 units), bias (4 units). Arguments and defaults are Keras's.
    Source: https://keras.io/api/layers/recurrent_layers/lstm_cell/
    """

    _kind = LSTM

    def __init__(
        self,
        units: Whole,
        activation: Identifier = "tanh",
        recurrent_activation: Identifier = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Identifier = None,
        recurrent_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        recurrent_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[CellOptions],
    ):
        super().__init__(locals(), kwargs)


class GRUCell(Cell):
    """One step of a GRU: for RNN(cell), or called as cell(x, [h]) -> (y, [h]).

    Weights, gates in the order z, r, h: kernel (features, 3 units), recurrent_kernel (units,
    3 units), bias (2, 3 units), or (3 units) without reset_after. Arguments and defaults are
    Keras's. Source: https://keras.io/api/layers/recurrent_layers/gru_cell/
    """

    _kind = GRU

    def __init__(
        self,
        units: Whole,
        activation: Identifier = "tanh",
        recurrent_activation: Identifier = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        recurrent_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        recurrent_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[CellOptions],
    ):
        super().__init__(locals(), kwargs)


class SimpleRNNCell(Cell):
    """One step of a SimpleRNN: for RNN(cell), or called as cell(x, [h]) -> (y, [h]).

    Weights: kernel (features, units), recurrent_kernel (units, units), bias (units). Arguments and
    defaults are Keras's. Source: https://keras.io/api/layers/recurrent_layers/simple_rnn_cell/
    """

    _kind = SimpleRNN

    def __init__(
        self,
        units: Whole,
        activation: Identifier = "tanh",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        recurrent_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        recurrent_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[CellOptions],
    ):
        super().__init__(locals(), kwargs)


class StackedRNNCells(Steps):
    """Cells of which each takes what the one before puts out, as one cell. States are a list of
    those of each cell.

    Errors: ValueError for cells that are not LSTMCell, GRUCell or SimpleRNNCell, or that come
    twice; for Keras 2's reverse_state_order=True. Source: https://keras.io/api/layers/recurrent_layers/stacked_rnn_cell/
    """

    if not TYPE_CHECKING:

        def __new__(cls, cells: Any = None, **options: Any) -> Any:
            if cls is StackedRNNCells and is_own(cells):
                return OwnStackedCells(cells, **options)
            return super().__new__(cls)

    def __init__(self, cells: Sequence[Cell], **kwargs: Unpack[StackOptions]):
        if kwargs.pop("reverse_state_order", False):
            raise ValueError(
                "reverse_state_order: expected False, received True; states are in the cells' order"
            )
        super().__init__(**kwargs)
        if not isinstance(cells, (list, tuple)) or not cells:
            raise ValueError(f"cells: expected a list of cells, received {cells!r}")
        self.cells = [checked_cell("cells", cell, Cell) for cell in cells]
        if len(set(cells)) < len(cells):
            raise ValueError("cells: expected each cell once, as its weights are its own")

    @property
    def sublayers(self):
        return self.cells

    def cells_within(self):
        return self.cells

    def groups_of_states(self):
        return [len(cell.sizes_of_states()) for cell in self.cells]

    @property
    def state_size(self) -> list[int | list[int]]:
        """That of each cell."""
        return [cell.state_size for cell in self.cells]

    def get_initial_state(self, batch_size: SupportsIndex) -> list[list[np.ndarray]]:
        """Zeros for the states of each cell."""
        check_size("batch_size", batch_size)
        return [cell.get_initial_state(batch_size) for cell in self.cells]

    def create_weights(self, input_shape):
        batch, features = input_shape
        for cell in self.cells:
            cell.build_in(self, (batch, features))
            features = cell.units

    def split(self, states: list) -> list:
        """The states of each cell."""
        return in_parts(states, self.groups_of_states())

    def forward(self, x, run, mask=None):
        y, *states = x
        after = []
        for cell, before in zip(self.cells, self.split(states), strict=True):
            y, *new = cell.forward([y, *before], run)
            after += new
        return [y, *after]

    def backward(self, dy, run, need_dx=True):
        dy, *after = dy
        before = []
        for cell, ends in reversed([*zip(self.cells, self.split(after), strict=True)]):
            below = need_dx or cell is not self.cells[0]
            dy, *begins = cell.backward([dy, *ends], run, below)
            before = begins + before
        return [dy, *before]

    def plan(self, x, steps, run):
        y, *states = x
        after = []
        for cell, before in zip(self.cells, self.split(states), strict=True):
            y, *new = cell.plan([y, *before], steps, run)
            after += new
        return [y, *after]

    def get_config(self):
        from fastrnn.layers import serialize

        return {**super().get_config(), "cells": [serialize(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config):
        from fastrnn.layers import deserialize

        cells = [deserialize(c) if isinstance(c, dict) else c for c in config["cells"]]
        return cls(**{**config, "cells": cells})


def checked_cell(argument: str, cell: Any, *kinds: type) -> Any:
    """The cell; raises ValueError unless it is of one of these kinds, and computes as it does."""
    for kind in kinds:
        own = ("call", "__call__", "forward")
        if isinstance(cell, kind) and all(
            getattr(type(cell), method) is getattr(kind, method) for method in own
        ):
            return cell
    raise ValueError(
        f"{argument}: expected LSTMCell, GRUCell, SimpleRNNCell or a list of them, received "
        f"{cell!r:.80}; a cell of your own is a layer with state_size and call(x, states)"
    )
