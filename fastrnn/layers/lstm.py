"""LSTM: Hochreiter & Schmidhuber 1997, with forget gates (Gers et al. 2000)."""

import numpy as np

from fastrnn import _engine, activations, random, regularizers
from fastrnn.layers.base import (
    Layer,
    WeightOptions,
    check_rate,
    check_size,
    engine_activation,
)
from fastrnn.layers.lstm_numpy import Recurrence


class LSTM(Layer):
    """(batch, timesteps, features) -> (batch, units), or (batch, timesteps, units) with
    return_sequences; float32. Weights, gates in the order i, f, c, o: kernel (features, 4 units),
    recurrent_kernel (units, 4 units), bias (4 units).

    Arguments and defaults are Keras's; unroll, use_cudnn and implementation are accepted and
    change nothing. dropout and recurrent_dropout draw one mask per sequence; with recurrent_dropout
    each gate has its own. The activations of fastrnn._engine.ACTIVATIONS run in the fused kernel,
    others and recurrent_dropout in NumPy. A layer that is called itself returns the list [output,
    h, c] with return_state. Source: https://keras.io/api/layers/recurrent_layers/lstm/
    """

    supports_masking = True
    fixed_axes = (-1,)

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias=True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        use_cudnn="auto",
        zero_output_for_mask=False,
        implementation=2,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = check_size("units", units)
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.use_bias, self.unit_forget_bias = bool(use_bias), bool(unit_forget_bias)
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
        self.return_sequences, self.return_state = bool(return_sequences), bool(return_state)
        self.go_backwards, self.stateful = bool(go_backwards), bool(stateful)
        self.unroll, self.use_cudnn = bool(unroll), use_cudnn
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.kernel = self.recurrent_kernel = self.bias = None
        self.states = None
        self._packed = None

    def _legacy_input_shape(self, kwargs):
        features, length = kwargs.pop("input_dim", None), kwargs.pop("input_length", None)
        return None if features is None else (length, features)

    def check_input_shape(self, shape):
        if len(shape) != 3 or shape[2] is None:
            self.reject_shape("(batch, timesteps, features) with known features", shape)

    def create_weights(self, input_shape):
        features, units = input_shape[2], self.units
        self.kernel = self._kernel.add_to(self, "kernel", (features, 4 * units))
        self.recurrent_kernel = self._recurrent.add_to(self, "recurrent_kernel", (units, 4 * units))
        if self.use_bias:
            self.bias = self._bias.add_to(self, "bias", (4 * units,), self._initial_bias)
        codes = engine_activation(self.activation), engine_activation(self.recurrent_activation)
        self._codes = None if None in codes else codes

    def _initial_bias(self, shape, dtype="float32"):
        initial, units = self._bias.initializer, self.units
        if not self.unit_forget_bias:
            return initial(shape, dtype=dtype)
        parts = [initial((units,), dtype=dtype), np.ones(units, dtype)]
        return np.concatenate([*parts, initial((2 * units,), dtype=dtype)])

    def compute_output_shape(self, input_shape):
        if self.return_sequences:
            return (input_shape[0], input_shape[1], self.units)
        return (input_shape[0], self.units)

    def compute_mask(self, inputs, mask=None):
        return mask if self.return_sequences else None

    # --- state ---

    def initial_state(self, batch):
        """The states (h, c) a stateful layer starts from, or None for zeros."""
        if not self.stateful or self.states is None:
            return None
        if self.states[0].shape[0] != batch:
            raise ValueError(
                f"layer {self.name!r} is stateful with batches of {self.states[0].shape[0]} "
                f"samples, received {batch}; reset_states() forgets the batch size"
            )
        return self.states

    def reset_states(self, states=None):
        """Forget the state of a stateful layer, or set it to [h, c], each (batch, units)."""
        if states is not None:
            states = check_states(self, states, None)
        self.states = states

    reset_state = reset_states

    # --- computing ---

    def packed(self, training, input_gradient):
        bias = self.bias
        version = (
            self.kernel.version, self.recurrent_kernel.version, bias and bias.version,
            training, input_gradient, _engine.isa(),
        )  # fmt: skip
        packed = self._packed
        if packed is None or packed.version != version:
            if packed is None or not training:  # another thread may be using the old one
                packed = _engine.PackedRNN(self.kernel.shape[0], self.units)
            packed.pack(
                self.kernel.value, self.recurrent_kernel.value, bias and bias.value,
                training, input_gradient,
            )  # fmt: skip
            packed.version = version
            self._packed = packed
        return packed

    def dropout_masks(self, rate, batch, size, count):
        """`count` masks (batch, size) of 0 or 1/(1 - rate); None for rate 0."""
        if rate == 0:
            return None
        ones = np.ones((count, batch, size), np.float32)
        if rate == 1:
            return list(np.zeros_like(ones))
        if self._generator is None:
            seed = random.draw_seed()
        else:
            seed = int(self._generator.integers(2**63))
        _engine.dropout(ones, ones, rate, seed)
        return list(ones)

    def forward(self, x, run, mask=None, states=None):
        batch, timesteps, _ = x.shape
        if self.return_sequences:
            y = run.empty(self, "y", (batch, timesteps, self.units))
            forward_directions(self, [self], x, run, mask, [states], [y], [None])
        else:
            y = run.empty(self, "y", (batch, self.units))
            forward_directions(self, [self], x, run, mask, [states], [None], [y])
        return y

    def backward(self, dy, run, need_dx=True):
        if self.return_sequences:
            return backward_directions(self, [self], run, [dy], [None], need_dx)
        return backward_directions(self, [self], run, [None], [dy], need_dx)

    def call(self, x, run, mask, initial_state=None):
        if initial_state is not None:
            initial_state = check_states(self, initial_state, x.shape[0])
        y = self.forward(x, run, mask, initial_state)
        return [y, *run.saved[self, "states"][0]] if self.return_state else y

    def plan(self, x, steps, run):
        if self._codes is None or self.stateful:
            return super().plan(x, steps, run)
        y = np.empty(self.compute_output_shape(x.shape), np.float32)
        ys, lasts = ([y], [None]) if self.return_sequences else ([None], [y])
        steps.append(plan_directions([self], x, ys, lasts))
        return y

    def gradients(self, run):
        weights = [self.kernel, self.recurrent_kernel]
        arrays = [self.gradient_array(weight, run) for weight in weights]
        return [*arrays, self.gradient_array(self.bias, run) if self.use_bias else None]

    def get_config(self):
        return {
            **super().get_config(),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
            "zero_output_for_mask": self.zero_output_for_mask,
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "use_bias": self.use_bias,
            **self._kernel.config(),
            **self._recurrent.config(),
            **self._bias.config(),
            "unit_forget_bias": self.unit_forget_bias,
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
        }


def check_states(layer, states, batch):
    """[h, c] as two float32 arrays (batch, units)."""
    states = [np.ascontiguousarray(s, np.float32) for s in states]
    shapes = [s.shape for s in states]
    batch = shapes[0][0] if batch is None and shapes and shapes[0] else batch
    if shapes != [(batch, layer.units)] * 2:
        raise ValueError(
            f"initial_state: expected [h, c] of shape {(batch, layer.units)} each for "
            f"{layer.name!r}, received shapes {shapes}"
        )
    return states


# --- one or two directions over the same input ----------------------------------------------------


def forward_directions(owner, layers, x, run, mask, states, ys, lasts):
    """Runs LSTM layers over x side by side; `owner` (one of them, or their wrapper) keys what is
    kept. For each: states [h, c] or None, y (batch, timesteps, units) in the layer's own order of
    time and last (batch, units), either of which may be None."""
    batch = x.shape[0]
    fused = all(
        layer._codes is not None and not (run.training and layer.recurrent_dropout)
        for layer in layers
    )
    inputs, dropped, last_states = [], [], []
    for layer in layers:
        kept = None
        if run.training and layer.dropout:
            count = 4 if layer.recurrent_dropout else 1
            kept = layer.dropout_masks(layer.dropout, batch, x.shape[2], count)
        dropped.append(kept)
        seen = x
        if fused and kept is not None:
            seen = run.empty(layer, "x", x.shape)
            np.multiply(x, kept[0][:, None], out=seen)
        inputs.append(in_order(layer, seen))
    masks = [None if mask is None else in_order(layer, mask) for layer in layers]
    starts = [s or layer.initial_state(batch) for s, layer in zip(states, layers, strict=True)]

    if fused:
        engine = run.saved.get((owner, "engine"))
        if engine is None:
            engine = run.saved[owner, "engine"] = _engine.RNNRun(len(layers))
        for d, layer in enumerate(layers):
            h0, c0 = starts[d] or (None, None)
            h_last = c_last = None
            if layer.stateful or layer.return_state:
                h_last, c_last = np.empty((2, batch, layer.units), np.float32)
            last_states.append([h_last, c_last])
            engine.set_direction(
                d, layer.packed(run.training, run.training), *layer._codes, inputs[d], masks[d],
                layer.zero_output_for_mask, h0, c0, ys[d], lasts[d], h_last, c_last,
            )  # fmt: skip
        engine.forward(run.training)
        run.saved[owner] = engine, x, mask, dropped
    else:
        recurrences = []
        for d, layer in enumerate(layers):
            kept = dropped[d]
            if kept is not None and len(kept) == 1:
                kept = kept * 4
            recurrent_kept = None
            if run.training:
                recurrent_kept = layer.dropout_masks(layer.recurrent_dropout, batch, layer.units, 4)
            bias = layer.bias
            weights = layer.kernel.value, layer.recurrent_kernel.value, bias and bias.value
            recurrence = Recurrence(
                weights, layer.activation, layer.recurrent_activation, kept, recurrent_kept
            )
            h, c = starts[d] or np.zeros((2, batch, layer.units), np.float32)
            last_states.append(
                recurrence.forward(
                    inputs[d], masks[d], layer.zero_output_for_mask, h, c, ys[d], lasts[d]
                )
            )
            recurrences.append(recurrence)
        run.saved[owner] = recurrences, x, mask, dropped
    for layer, last in zip(layers, last_states, strict=True):
        if layer.stateful:
            layer.states = list(last)
    run.saved[owner, "states"] = last_states


def plan_directions(layers, x, ys, lasts):
    """A call that runs fused LSTM layers over what is in x, as forward_directions does."""
    engine = _engine.RNNRun(len(layers))
    for d, layer in enumerate(layers):
        engine.set_direction(
            d, layer.packed(False, False), *layer._codes, in_order(layer, x), y=ys[d], last=lasts[d]
        )
    return engine.forward


def backward_directions(owner, layers, run, dys, dlasts, need_dx):
    """Gradients of forward_directions' layers from those of y and last; returns dx or None."""
    passes, x, mask, dropped = run.saved[owner]
    if isinstance(passes, list):
        parts = []
        for d, layer in enumerate(layers):
            dh, dh_last = _state_gradients(layer, run, mask, dys[d], dlasts[d], None)
            zeros = np.zeros((x.shape[0], layer.units), np.float32)
            dx, _, _ = passes[d].backward(
                dh, zeros if dh_last is None else dh_last, zeros, layer.gradients(run), need_dx
            )
            parts.append(in_order(layer, dx) if need_dx else None)
        return np.ascontiguousarray(sum(parts)) if need_dx else None

    # The directions share dx, one after the other, where each thread has rows of its own.
    share = passes.slices >= _engine.get_num_threads() and not any(k is not None for k in dropped)
    parts = []
    for d, layer in enumerate(layers):
        dx = None
        if need_dx:
            dx = run.empty(owner if share else layer, "dx", x.shape)
            parts.append(dx)
            dx = in_order(layer, dx)
        dh, dh_last = _state_gradients(layer, run, mask, dys[d], dlasts[d], (passes, d))
        passes.set_gradients(
            d, *layer.gradients(run), dh, dh_last, None, dx, share and d > 0, None, None
        )
    passes.backward()
    if not need_dx:
        return None
    for kept, dx in zip(dropped, parts, strict=True):
        if kept is not None:
            dx *= kept[0][:, None]
    if not share and len(parts) == 2:
        parts[0] += parts[1]
    return parts[0]


def _state_gradients(layer, run, mask, dy, dlast, engine):
    """Gradients of h at each step and of the last h from those of y and last, which differ where a
    mask repeats or zeroes outputs."""
    if dlast is not None:
        dlast = np.ascontiguousarray(dlast)
    if mask is None:
        return dy, dlast
    on = in_order(layer, mask)
    if dlast is not None:
        shown = on[:, -1] if layer.zero_output_for_mask else on.any(axis=1)
        dlast = dlast * shown[:, None]
    if dy is not None:
        dh = run.empty(layer, "dh", dy.shape)
        if engine is not None:
            passes, d = engine
            passes.mask_gradient(d, dh, dy)
        else:
            repeated = np.zeros(dy[:, 0].shape, np.float32)
            for t in reversed(range(dy.shape[1])):
                total = dy[:, t] + repeated
                dh[:, t] = np.where(on[:, t, None], total, 0)
                repeated = 0 if layer.zero_output_for_mask else np.where(on[:, t, None], 0, total)
        dy = dh
    return dy, dlast


def in_order(layer, array):
    """A view of (batch, timesteps, ...) in the order in which the layer processes time."""
    return array[:, ::-1] if layer.go_backwards else array
