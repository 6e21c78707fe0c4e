"""What LSTM, GRU and SimpleRNN share, and the run of one or two directions over a sequence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn import _engine, activations, random, regularizers
from fastrnn.arrays import Array, contiguous
from fastrnn.layers import legacy
from fastrnn.layers.base import (
    LACKS_AN_AXIS,
    Layer,
    WeightOptions,
    check_activation,
    check_flag,
    check_rate,
    check_size,
    engine_activation,
)
from fastrnn.layers.embedding import Lookup, OneHot, RowGradients
from fastrnn.layers.symbolic import is_symbolic
from fastrnn.tape import is_recording

OLD_SPELLINGS = {  # of Keras 1
    **legacy.WEIGHTS,
    "output_dim": "units",
    "inner_init": "recurrent_initializer",
    "U_regularizer": "recurrent_regularizer",
    "U_constraint": "recurrent_constraint",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "consume_less": "implementation",
}
OLD_SPELLINGS_OF_GATES = {**OLD_SPELLINGS, "inner_activation": "recurrent_activation"}


def given(arguments, *apart):
    """What a constructor with these locals() passes on to Recurrent: all but those `apart`."""
    named = {k: v for k, v in arguments.items() if k not in ("self", "__class__", "kwargs", *apart)}
    return {**named, **arguments["kwargs"]}


def check_cudnn_options(name, options):
    """Raise TypeError for arguments that CuDNNLSTM and CuDNNGRU do not have."""
    fixed = {"activation", "recurrent_activation", "use_bias", "dropout", "recurrent_dropout"}
    received = sorted((fixed | {"unroll", "reset_after", "implementation"}) & options.keys())
    if received:
        raise TypeError(f"{name}: unknown arguments {received}; cuDNN fixes what they say")


def flat(states):
    """The arrays or tensors in a list that may hold lists; anything else as it is."""

    def holds(value):
        return isinstance(value, (list, tuple)) and any(
            hasattr(v, "shape") or holds(v) for v in value
        )

    if not holds(states):
        return states
    return [part for state in states for part in (flat(state) if holds(state) else [state])]


def in_parts(states, counts):
    """The next so many of a flat list of states, for each count."""
    states = iter(states)
    return [[next(states) for _ in range(count)] for count in counts]


def grouped_as(states, arrays):
    """The next of these arrays in the lists that states are in."""
    if not isinstance(states, (list, tuple)):
        return next(arrays)
    return [grouped_as(part, arrays) for part in states]


class TakesStates(Layer):
    """Base of layers whose inputs may be a list: x, then the states to start from, as many as
    `sizes_of_states` says. Mask and shapes are those of x."""

    takes_several = True
    _rank_of_x = 3

    def sizes_of_states(self) -> list[int]:
        """Units of each state, in order."""
        self._lacks("sizes_of_states()")

    def states_beside(self, shape) -> list[tuple]:
        """The shapes of the states beside an x of this shape, in order."""
        return [(None, size) for size in self.sizes_of_states()]

    def groups_of_states(self) -> list[int]:
        """How states are grouped into lists outside the layer: 0 for one that stands alone, else
        the number of those in a list."""
        return [0] * len(self.sizes_of_states())

    def build(self, input_shape):
        super().build(self._of_x(input_shape))

    def check_call(self, shape):
        super().check_call(self._of_x(shape))

    def _of_x(self, shapes):
        """The shape of x; raises where there are states that do not fit."""
        if not isinstance(shapes, list):
            return shapes
        shape, *states = shapes
        expected = self.states_beside(shape)
        if [tuple(state[1:]) for state in states] != [state[1:] for state in expected]:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}): expected {len(expected)} initial "
                f"states of shapes {expected}, received {states}"
            )
        return shape

    def __call__(self, inputs, *arguments, **kwargs):
        if type(inputs) is Array and not (arguments or kwargs):
            outputs = self._planned(inputs)
            if outputs is not None and type(outputs) is not list:
                return outputs
        if isinstance(inputs, (list, tuple)) and len(inputs) > 1:
            inputs = flat(inputs)
            if not is_symbolic(inputs) and np.ndim(inputs[0]) == self._rank_of_x:
                inputs, *kwargs["initial_state"] = inputs
        if arguments:
            kwargs |= self._by_position(arguments)
        states = kwargs.get("initial_state")
        if states is not None:
            kwargs["initial_state"] = flat(states)
            if is_recording() and not is_symbolic(inputs):
                given = kwargs.pop("initial_state")
                inputs = [inputs, *(given if isinstance(given, (list, tuple)) else [given])]
                mask = kwargs.get("mask")
                if mask is not None:
                    kwargs["mask"] = [mask, *[None] * (len(inputs) - 1)]
        outputs = super().__call__(inputs, **kwargs)
        if not isinstance(outputs, list) or not any(self.groups_of_states()):
            return outputs
        symbolic, count = is_symbolic(outputs), len(self.sizes_of_states())
        if count >= len(outputs):  # a Bidirectional's two, without states
            return outputs
        if states is None or symbolic:
            states = self.grouped(outputs[-count:], alone=symbolic)
        else:
            states = grouped_as(states, iter(outputs[-count:]))
        return [*outputs[:-count], *states]

    def grouped(self, states, alone=True):
        """A flat list of states as `groups_of_states` says; alone: lists of one as what they hold,
        as Keras has them in graphs."""
        counts = self.groups_of_states()
        groups = in_parts(states, [count or 1 for count in counts])
        pairs = zip(counts, groups, strict=True)
        return [group if count > alone else group[0] for count, group in pairs]


class OfSequences(Layer):
    """Base of layers over sequences (batch, timesteps, features)."""

    def _legacy_input_shape(self, kwargs):
        features, length = kwargs.pop("input_dim", None), kwargs.pop("input_length", None)
        return None if features is None else (length, features)

    def check_input_shape(self, shape):
        if len(shape) != 3 or shape[2] is None:
            hint = LACKS_AN_AXIS * (len(shape) == 2)
            self.reject_shape("(batch, timesteps, features) with known features", shape, hint)


class Recurrent(TakesStates, OfSequences):
    """Base of layers that run cells over time: (batch, timesteps, features) -> (batch, units), or
    (batch, timesteps, units) with return_sequences. They compute as their `stages`, one after the
    other."""

    supports_masking = True
    fixed_axes = (-1,)
    _positional = ("initial_state", "mask")
    units = 0
    _hidden_names = Layer._hidden_names | {
        "dropout_masks", "gates", "gradients", "initial_state", "packed", "products",
        "recurrence", "shape_of_y", "shapes_of_states", "size_of_y", "split", "stages", "states_of",
    }  # fmt: skip

    def __init__(
        self, return_sequences, return_state, go_backwards, stateful, unroll,
        zero_output_for_mask=False, time_major=False, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        if time_major:
            raise ValueError(f"time_major: expected False, received {time_major!r}")
        self.return_sequences = check_flag("return_sequences", return_sequences)
        self.return_state = check_flag("return_state", return_state)
        self.go_backwards = check_flag("go_backwards", go_backwards)
        self.stateful = check_flag("stateful", stateful)
        self.unroll = check_flag("unroll", unroll)
        self.zero_output_for_mask = check_flag("zero_output_for_mask", zero_output_for_mask)

    @property
    def stages(self) -> list[OneCell]:
        """Layers of one cell each, of which each runs over what the one before gives."""
        self._lacks("stages")

    def split(self, states):
        """Those of each stage, from a list of all, None or an empty one."""
        if not states:
            return [states] * len(self.stages)
        return in_parts(states, [len(stage.states_of) for stage in self.stages])

    def sizes_of_states(self):
        return [stage.units for stage in self.stages for _ in stage.states_of]

    def compute_output_shape(self, input_shape):
        input_shape = self._of_x(input_shape)
        y = self.shape_of_y(input_shape)
        return [y, *self.shapes_of_states(input_shape)] if self.return_state else y

    def shape_of_y(self, input_shape):
        if self.return_sequences:
            return (input_shape[0], input_shape[1], self.units)
        return (input_shape[0], self.units)

    def shapes_of_states(self, input_shape):
        return [(input_shape[0], size) for size in self.sizes_of_states()]

    @property
    def size_of_y(self):
        """The last size of what the layer as built puts out."""
        return self.units

    def compute_mask(self, inputs, mask=None):
        if isinstance(mask, list):
            mask = mask[0]
        return mask if self.return_sequences else None

    @property
    def has_states(self):
        return self.stateful

    def _forward_call(self, x, run, mask, initial_state=None):
        if initial_state is not None:
            initial_state = check_states(self, initial_state, x.shape[0])
        return self.forward(x, run, mask, initial_state)

    def get_config(self):
        options = (
            "return_sequences", "return_state", "go_backwards", "stateful", "unroll",
            "zero_output_for_mask",
        )  # fmt: skip
        return {**super().get_config(), **{name: getattr(self, name) for name in options}}


class OneCell(Recurrent):
    """A recurrent layer of one cell. Weights: kernel (features, gates units), recurrent_kernel
    (units, gates units), bias; the gates of a unit lie `units` columns apart."""

    cell = ""  # in the engine
    gates = 0  # columns of the weights for each unit
    states_of = ("h",)
    recurrence = None  # the cell in NumPy
    masks_each_gate = False  # has each gate a dropout mask of its own where x alone is dropped?
    recurrent_activation = staticmethod(activations.linear)
    _hidden_names = Recurrent._hidden_names | {
        "cell", "cell_variables", "masks_each_gate", "new_recurrence", "state_shape",
    }  # fmt: skip

    kernel_initializer, kernel_regularizer, kernel_constraint = WeightOptions.properties("_kernel")
    recurrent_initializer, recurrent_regularizer, recurrent_constraint = WeightOptions.properties(
        "_recurrent"
    )
    bias_initializer, bias_regularizer, bias_constraint = WeightOptions.properties("_bias")

    def __init__(
        self, units, activation, use_bias, kernel_initializer, recurrent_initializer,
        bias_initializer, kernel_regularizer, recurrent_regularizer, bias_regularizer,
        kernel_constraint, recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed,
        recurrent_activation=None, use_cudnn="auto", implementation=2, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.units = check_size("units", units)
        self.activation = check_activation("activation", activation)
        if recurrent_activation is not None:
            self.recurrent_activation = check_activation(
                "recurrent_activation", recurrent_activation
            )
        if activations.glu in (self.activation, self.recurrent_activation):
            raise ValueError("activation: expected one that keeps the shape, received 'glu'")
        self.use_bias = check_flag("use_bias", use_bias)
        self._kernel = WeightOptions(
            "kernel", kernel_initializer, kernel_regularizer, kernel_constraint
        )
        self._recurrent = WeightOptions(
            "recurrent", recurrent_initializer, recurrent_regularizer, recurrent_constraint
        )
        self._bias = WeightOptions("bias", bias_initializer, bias_regularizer, bias_constraint)
        self.dropout = check_rate("dropout", dropout)
        self.recurrent_dropout = check_rate("recurrent_dropout", recurrent_dropout)
        self.seed = seed
        self._generator = None if seed is None else random.generator(seed)
        self.use_cudnn = use_cudnn
        self.kernel = self.recurrent_kernel = self.bias = None
        self._states = None  # those that the next batch starts from; None for zeros
        self._batch = None
        self._packed = self._products = None

    @property
    def stages(self):
        return [self]

    def create_weights(self, input_shape, holder=None):
        """holder: the layer whose weights they are; by default this one."""
        holder = holder or self
        of_x, of_state = self._kernel_shapes(input_shape)
        self.kernel = self._kernel.add_to(holder, "kernel", of_x)
        self.recurrent_kernel = self._recurrent.add_to(holder, "recurrent_kernel", of_state)
        if self.use_bias:
            self.bias = self._bias.add_to(holder, "bias", self._bias_shape(), self._initial_bias)
        codes = engine_activation(self.activation), engine_activation(self.recurrent_activation)
        self._codes = None if None in codes else codes  # None: the layer runs in NumPy

    @property
    def cell_variables(self):
        known = [vars(self).get(name) for name in ("kernel", "recurrent_kernel", "bias")]
        return [variable for variable in known if variable is not None]

    def _kernel_shapes(self, input_shape):
        """Those of kernel and recurrent kernel."""
        columns = self.gates * self.units
        return (input_shape[-1], columns), (self.units, columns)

    def _bias_shape(self):
        return (self.gates * self.units,)

    def _initial_bias(self, shape, dtype="float32"):
        return self._bias.initializer(shape, dtype=dtype)

    # --- state ---

    def initial_state(self, batch):
        """The states a stateful layer starts from, or None for zeros."""
        if not self.stateful or self._states is None:
            return None
        if self._states[0].shape[0] != batch:
            raise ValueError(
                f"layer {self.name!r} is stateful with batches of {self._states[0].shape[0]} "
                f"samples, received {batch}; reset_states() forgets the batch size"
            )
        return self._states

    @property
    def states(self) -> list[np.ndarray] | None:
        """The states of a stateful layer, arrays (batch, units), h first; None before it knows the
        size of its batches."""
        if self._states is not None:
            return self._states
        batch = self._batch or (self.input_shape and self.input_shape[0])
        return self.get_initial_state(batch) if self.stateful and batch else None

    @states.setter
    def states(self, states):
        self._states = states
        if states is not None:
            self._batch = states[0].shape[0]

    @property
    def state_size(self) -> list[int]:
        """The size of each state of one sample."""
        return [self.units] * len(self.states_of)

    def state_shape(self, batch):
        """The shape of a state of the layer as built."""
        return (batch, self.units)

    def get_initial_state(self, batch_size: int) -> list[np.ndarray]:
        """Zeros (batch_size, units) for each state."""
        check_size("batch_size", batch_size)
        return [np.zeros(self.state_shape(batch_size), np.float32) for _ in self.states_of]

    def reset_states(self, states=None):
        """Forget the states of a stateful layer, or set them: arrays (batch, units), h first."""
        if states is not None:
            states = check_states(self, states, None)
        self.states = states

    reset_state = reset_states

    # --- computing ---

    def packed(self, run):
        """The weights as the kernels take them."""
        bias, version = self.bias, self._version()
        packed, current = run.packed(self, version, self._new_packed)
        if not current:
            packed.pack(
                self.kernel.value, self.recurrent_kernel.value, None if bias is None else bias.value
            )
            run.keep_packed(self, packed, version)
        return packed

    def _new_packed(self):
        return _engine.PackedRNN(self.kernel.shape[0], self.units, self.cell)

    def _version(self):
        """What the packed weights depend on."""
        bias = None if self.bias is None else self.bias.version
        return self.kernel.version, self.recurrent_kernel.version, bias, _engine.isa()

    def products(self, embeddings, uses, run):
        """For inference, the Products of all rows of an Embedding's weight; None until so many
        rows were looked up with these weights as there are, unless the run says prepare, or where
        they would take more than MOST_PRODUCTS bytes."""
        size, version = embeddings.shape[0], (embeddings, embeddings.version, *self._version())
        products = self._products
        if products is None or products.version != version:
            products = self._products = _engine.Products(version)
        products.uses += uses
        wanted = run.prepare or products.uses >= size
        if products.computed or not wanted or 16 * self.units * size > MOST_PRODUCTS:
            return products if products.computed else None
        products = _engine.Products(version)  # another thread may be looking at the old one
        products.compute(self.packed(run), embeddings.value)
        self._products = products
        return products

    def dropout_masks(self, rate, shape, count):
        """`count` masks of this shape, of 0 or 1/(1 - rate); None where nothing is dropped, which
        is also what Keras makes of a rate of 1 in layers with gates."""
        if rate == 0 or (rate == 1 and self.gates > 1):
            return None
        ones = np.ones((count, *shape), np.float32)
        if rate == 1:
            return list(np.zeros_like(ones))
        if self._generator is None:
            seed = random.draw_seed()
        else:
            seed = int(self._generator.integers(2**63))
        _engine.dropout(ones, ones, rate, seed)
        return list(ones)

    def forward(self, x, run, mask=None, states=None):
        x, states, mask = given_states(self, x, states, run, mask)
        y = run.empty(self, "y", self.shape_of_y(x.shape))
        ys, lasts = ([y], [None]) if self.return_sequences else ([None], [y])
        forward_directions(self, [self], x, run, mask, [states], ys, lasts)
        return [y, *run.saved[self, "states"][0]] if self.return_state else y

    def backward(self, dy, run, need_dx=True):
        dstates = []
        if self.return_state:
            dy, *dstates = dy
        dys, dlasts = ([dy], [None]) if self.return_sequences else ([None], [dy])
        begins = run.saved[self, "begins"]
        dx = backward_directions(self, [self], run, dys, dlasts, need_dx, [dstates], [begins])
        return [dx, *begins] if begins else dx

    def plan(self, x, steps, run):
        kept = run.states.get(self)
        if kept is None and (self._codes is None or self.stateful):
            return super().plan(x, steps, run)
        x, *begin = x if isinstance(x, list) else [x]
        y = run.rooms.new(self.shape_of_y(x.shape))
        if self._codes is None:

            def step():
                outputs = self.forward(x, run, states=kept)
                np.copyto(y, outputs[0] if self.return_state else outputs)
                for state, last in zip(kept, run.saved[self, "states"][0], strict=True):
                    state[...] = last

            steps.append(step)
            return [y, *kept] if self.return_state else y
        begin, end = (kept, kept) if kept else (begin, [])
        if self.return_state and not kept:
            end = [run.rooms.new(shape) for shape in self.shapes_of_states(x.shape)]
        ys, lasts = ([y], [None]) if self.return_sequences else ([None], [y])
        steps.append(plan_directions([self], x, run, ys, lasts, [begin], [end]))
        return [y, *end] if self.return_state else y

    def new_recurrence(self, run, input_masks, recurrent_masks):
        """A pass through time in NumPy, with dropout masks for each gate or None."""
        return self.recurrence(self, input_masks, recurrent_masks)

    def gradients(self, run):
        weights = [self.kernel, self.recurrent_kernel]
        arrays = [run.gradient_array(self, weight) for weight in weights]
        return [*arrays, run.gradient_array(self, self.bias) if self.use_bias else None]

    def get_config(self):
        config = super().get_config()
        options = ("units", "use_bias", "dropout", "recurrent_dropout", "seed")
        config |= {name: getattr(self, name) for name in options}
        config["activation"] = activations.serialize(self.activation)
        if self.gates > 1:
            config["recurrent_activation"] = activations.serialize(self.recurrent_activation)
        for weight in (self._kernel, self._recurrent, self._bias):
            config |= weight.config()
        config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config


def given_states(layer, x, states, run, mask):
    """(x, states, mask) where x may be a list of x and states. run.saved[layer, "begins"]: room for
    the gradients of such states."""
    begins = ()
    if isinstance(x, list):
        x, *states = x
        begins = [run.empty(layer, f"begin {n}", state.shape) for n, state in enumerate(states)]
        mask = mask and mask[0]
    run.saved[layer, "begins"] = begins
    return x, states, mask


def check_states(layer, states, batch):
    """The layer's states, h first, as float32 arrays (batch, units)."""
    if isinstance(states, np.ndarray) and len(layer.sizes_of_states()) == 1:
        states = [states]
    states = [contiguous(s, np.float32) for s in states]
    shapes = [s.shape for s in states]
    batch = shapes[0][0] if batch is None and shapes and shapes[0] else batch
    expected = [stage.state_shape(batch) for stage in layer.stages for _ in stage.states_of]
    if shapes != expected:
        names = ", ".join(name for stage in layer.stages for name in stage.states_of)
        raise ValueError(
            f"initial_state: expected [{names}] of shape "
            f"{expected[0] if len(set(expected)) == 1 else expected} each for {layer.name!r}, "
            f"received shapes {shapes}"
        )
    return states


# --- the vectors of an Embedding ------------------------------------------------------------------

MOST_PRODUCTS = 64 << 20
FEWEST_FEATURES = 32  # of fewer the products with W take no longer than being fetched
MOST_CLASSES = 1024


class Picked(NamedTuple):
    """Rows (n, features) of an Embedding's weight: those numbered `values`, or all if that is None.
    index (batch, timesteps): which of them the steps have; products: theirs, for each direction."""

    rows: np.ndarray
    index: np.ndarray
    values: np.ndarray | None
    products: list


def wins_if_one_hot(shape):
    """Is picking rows of W faster for one-hot inputs of this shape?"""
    return len(shape) == 3 and FEWEST_FEATURES <= shape[2] <= MOST_CLASSES


def as_one_hot(x):
    """The OneHot of an input (batch, timesteps, features) whose gradient nobody wants, or x itself
    if it lies in memory otherwise."""
    return OneHot(x) if x.dtype == np.float32 and x.flags.c_contiguous else x


def all_products(layers, lookup, run):
    """For inference, the layers' Products of all rows of an Embedding, or None."""
    if lookup.shape[2] < FEWEST_FEATURES:
        return None
    weight, uses = lookup.table, lookup.index.size
    products = [layer.products(weight, uses, run) for layer in layers]
    return None if None in products else products


def pick(owner, layers, lookup, run):
    """A Picked for the fused layers, or None where taking x W for each step costs less: the same
    numbers come out."""
    embeddings, index = lookup.table, lookup.index
    products = None if run.keeps else all_products(layers, lookup, run)
    if products:
        _engine.check_indices(index, len(embeddings.value))
        return Picked(embeddings.value, index, None, products)
    if lookup.shape[2] < FEWEST_FEATURES:
        return None
    values, places = _engine.distinct(index, len(embeddings.value))
    if 10 * len(values) > 7 * index.size:
        return None
    rows = run.empty(owner, "rows", (len(values), lookup.shape[2]))
    _engine.embedding_forward(rows, embeddings.value, values)
    products = []
    for layer in layers:
        products.append(run.saved.setdefault((layer, "products"), _engine.Products()))
        products[-1].compute(layer.packed(run), rows)
    return Picked(rows, places, values, products)


# --- one or two directions over the same input ----------------------------------------------------


def forward_directions(owner, layers, x, run, mask, states, ys, lasts):
    """Runs recurrent layers over x side by side; `owner` (one of them, or their wrapper) keys what
    is kept. For each: states [h] or [h, c] or None, y (batch, timesteps, units) in the layer's own
    order of time and last (batch, units), either of which may be None."""
    batch = x.shape[0]
    fused = all(
        layer._codes is not None and not (run.training and layer.recurrent_dropout)
        for layer in layers
    )
    picked = None
    if isinstance(x, Lookup) and not x.found():
        x = x.vectors(run)
    if isinstance(x, Lookup):
        for layer in layers if run.keeps else ():
            layer._products = None  # soon those of older weights
        if fused and not (run.training and any(layer.dropout for layer in layers)):
            picked = pick(owner, layers, x, run)
        if picked is None:
            x = x.vectors(run)
    inputs, dropped, last_states = [], [], []
    for layer in layers:
        kept = None
        if run.training and layer.dropout:
            each = layer.masks_each_gate or layer.recurrent_dropout
            shape = (batch, *x.shape[2:])
            kept = layer.dropout_masks(layer.dropout, shape, layer.gates if each else 1)
        dropped.append(kept)
        seen = x
        if fused and kept is not None:
            seen = run.empty(layer, "x", x.shape)
            np.multiply(x, kept[0][:, None], out=seen)
        inputs.append(picked.rows if picked else in_order(layer, seen))
    masks = [None if mask is None else in_order(layer, mask) for layer in layers]
    starts = [s or layer.initial_state(batch) for s, layer in zip(states, layers, strict=True)]

    if fused:
        engine = run.saved.get((owner, "engine"))
        if engine is None:
            engine = run.saved[owner, "engine"] = _engine.RNNRun(len(layers))
        weights = [layer.packed(run) for layer in layers]
        for d, layer in enumerate(layers):
            count = len(layer.states_of)
            h0, c0 = [*(starts[d] or []), None, None][:2]
            kept = [None] * count
            if layer.stateful or layer.return_state:
                kept = list(np.empty((count, batch, layer.units), np.float32))
            last_states.append(kept)
            h_last, c_last = [*kept, None][:2]
            index = (in_order(layer, picked.index), picked.products[d]) if picked else ()
            engine.set_direction(
                d, weights[d], *layer._codes, inputs[d], masks[d],
                layer.zero_output_for_mask, h0, c0, ys[d], lasts[d], h_last, c_last, *index,
            )  # fmt: skip
        engine.forward(run.keeps)
        run.saved[owner] = engine, picked or x, mask, dropped, weights
    else:
        recurrences = []
        for d, layer in enumerate(layers):
            kept = dropped[d]
            if kept is not None and len(kept) == 1:
                kept = kept * layer.gates
            recurrent_kept = None
            if run.training:
                recurrent_kept = layer.dropout_masks(
                    layer.recurrent_dropout, layer.state_shape(batch), layer.gates
                )
            recurrence = layer.new_recurrence(run, kept, recurrent_kept)
            start = starts[d] or layer.get_initial_state(batch)
            last_states.append(
                recurrence.forward(
                    inputs[d], masks[d], layer.zero_output_for_mask, start, ys[d], lasts[d]
                )
            )
            recurrences.append(recurrence)
        run.saved[owner] = recurrences, x, mask, dropped, None
    for layer, last in zip(layers, last_states, strict=True):
        if layer.stateful:
            layer.states = list(last)
    run.saved[owner, "states"] = last_states


def plan_directions(layers, x, run, ys, lasts, begins, ends):
    """A call that runs fused layers over what is in x, as forward_directions does. begins, ends:
    the states of each layer that the call starts from and gives, which may be the same arrays;
    none for zeros, and where they are not wanted."""

    def plan(inputs, indices):
        engine = _engine.RNNRun(len(layers))
        for d, layer in enumerate(layers):
            h0, c0 = [*begins[d], None, None][:2]
            h_last, c_last = [*ends[d], None, None][:2]
            engine.set_direction(
                d, layer.packed(run), *layer._codes, inputs[d], None, False, h0, c0, ys[d],
                lasts[d], h_last, c_last, *indices[d],
            )  # fmt: skip
        return engine.forward

    if not isinstance(x, Lookup):
        return plan([in_order(layer, x) for layer in layers], [()] * len(layers))
    embeddings, index = x.table, x.index
    vectors = without = with_products = None

    def step():
        nonlocal vectors, without, with_products
        found = x.found()
        products = None if with_products or not found else all_products(layers, x, run)
        if products:
            vectors = without = None
            indices = [in_order(layer, index) for layer in layers]
            pairs = list(zip(indices, products, strict=True))
            with_products = plan([embeddings.value] * len(layers), pairs)
        if with_products and found:
            _engine.check_indices(index, len(embeddings.value))
            with_products()
            return
        if without is None:
            vectors = x.room()
            without = plan([in_order(layer, vectors) for layer in layers], [()] * len(layers))
        x.fill(vectors)
        without()

    return step


def backward_directions(owner, layers, run, dys, dlasts, need_dx, dstates, begins):
    """Gradients of forward_directions' layers from those of y, last and (for each layer a list, or
    an empty one) the last states; returns dx or None. begins: for each layer arrays for the
    gradients of the states that it started from, or none."""
    passes, x, mask, dropped, weights = run.saved[owner]
    picked = x if isinstance(x, Picked) else None
    if isinstance(passes, list):
        parts = []
        for d, layer in enumerate(layers):
            given = _end_gradients(layer, mask, dlasts[d], dstates[d])
            dh = _state_gradients(layer, mask, dys[d])
            zeros = layer.get_initial_state(x.shape[0])
            ends = [zero if end is None else end for zero, end in zip(zeros, given, strict=False)]
            dx, first = passes[d].backward(dh, ends, layer.gradients(run), need_dx)
            for array, gradient in zip(begins[d], first, strict=False):
                array[...] = gradient
            parts.append(in_order(layer, dx) if need_dx else None)
        return np.ascontiguousarray(sum(parts)) if need_dx else None

    # The directions share dx, one after the other, where each thread has rows of its own.
    share = passes.slices >= _engine.get_num_threads() and not any(k is not None for k in dropped)
    share = share or picked is not None
    shape = picked.rows.shape if picked else x.shape
    parts = []
    for d, layer in enumerate(layers):
        dx = None
        if need_dx:
            dx = run.empty(owner if share else layer, "dx", shape)
            parts.append(dx)
            dx = dx if picked else in_order(layer, dx)
        ends = _end_gradients(layer, mask, dlasts[d], dstates[d])
        dh0, dc0 = [*begins[d], None, None][:2]
        passes.set_gradients(d, *layer.gradients(run), dys[d], *ends, dx, share and d > 0, dh0, dc0)
        packed = weights[d]
        missing = not packed.has_back or need_dx > packed.has_input_back
        if missing and passes.needs_back(d):
            packed.pack_back(layer.kernel.value if need_dx else None, layer.recurrent_kernel.value)
    passes.backward()
    if not need_dx:
        return None
    for kept, dx in zip(dropped, parts, strict=True):
        if kept is not None:
            dx *= kept[0][:, None]
    if not share and len(parts) == 2:
        parts[0] += parts[1]
    return RowGradients(picked.values, parts[0]) if picked else parts[0]


def _end_gradients(layer, mask, dlast, dstates):
    """Gradients of the last h and of the last c (or None) from those of last and the last states.
    A mask can leave zeros as the last output."""
    dh_last, dc_last = [*dstates, None, None][:2]
    if dlast is not None:
        dlast = np.ascontiguousarray(dlast)
        if mask is not None:
            on = in_order(layer, mask)
            shown = on[:, -1] if layer.zero_output_for_mask else on.any(axis=1)
            dlast = dlast * beside(shown, dlast)
        dh_last = dlast if dh_last is None else dlast + dh_last
    return dh_last, dc_last


def _state_gradients(layer, mask, dy):
    """Gradients of h at each step from those of y, which a mask repeats or zeroes."""
    if mask is None or dy is None:
        return dy
    on, dh, repeated = in_order(layer, mask), np.empty_like(dy), 0
    for t in reversed(range(dy.shape[1])):
        total = dy[:, t] + repeated
        here = beside(on[:, t], total)
        dh[:, t] = np.where(here, total, 0)
        repeated = 0 if layer.zero_output_for_mask else np.where(here, 0, total)
    return dh


def beside(mask, array):
    """A view of a mask of the first axes of `array`, for arithmetic with it."""
    return mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))


def in_order(layer, array):
    """A view of (batch, timesteps, ...) in the order in which the layer processes time."""
    return array[:, ::-1] if layer.go_backwards else array
