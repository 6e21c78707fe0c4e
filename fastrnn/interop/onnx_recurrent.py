"""The ONNX operators LSTM, GRU and RNN: on fastrnn's layers where these do the same, else in NumPy.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html and those of GRU and RNN."""

import functools

import numpy as np

from fastrnn import activations, layers

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
LAYERS = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}

# ONNX's order of gates, as indices into Keras's: LSTM i, o, f, c of i, f, c, o; GRU z, r, h.
TO_ONNX = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "RNN": (0,)}
FROM_ONNX = {"LSTM": (0, 2, 3, 1), "GRU": (0, 1, 2), "RNN": (0,)}

# Operator's name in lower case: function of (x, alpha, beta), default alpha, default beta.
ACTIVATIONS = {
    "relu": (lambda x, a, b: np.maximum(x, 0), None, None),
    "tanh": (lambda x, a, b: np.tanh(x), None, None),
    "sigmoid": (lambda x, a, b: activations.sigmoid(x), None, None),
    "softsign": (lambda x, a, b: activations.softsign(x), None, None),
    "softplus": (lambda x, a, b: activations.softplus(x), None, None),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: np.where(x < 0, a * x, x), 0.01, None),
    "thresholdedrelu": (lambda x, a, b: np.where(x > a, x, 0), 1.0, None),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "elu": (lambda x, a, b: activations.elu(x, a), 1.0, None),
}

# Keras's name of an activation: the operator's name with alpha and beta.
KERAS_ACTIVATIONS = {
    "linear": ("Affine", 1.0, 0.0),
    "relu": ("Relu", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "tanh": ("Tanh", None, None),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "hard_sigmoid_keras2": ("HardSigmoid", 0.2, 0.5),
    "sparse_sigmoid": ("HardSigmoid", 0.5, 0.5),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
    "elu": ("Elu", 1.0, None),
    "leaky_relu": ("LeakyRelu", 0.2, None),
}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def _single(name, alpha, beta):
    """An activation as a key: attributes of a file are numbers of 32 bits."""
    rounded = [None if value is None else float(np.float32(value)) for value in (alpha, beta)]
    return (name.lower(), *rounded)


_KERAS_NAMES = {_single(*entry): name for name, entry in KERAS_ACTIVATIONS.items()}


def reorder(array, order, axis):
    """`array` with its equal blocks along `axis` in another order."""
    blocks = np.split(np.asarray(array), len(order), axis)
    return np.concatenate([blocks[n] for n in order], axis)


def both_biases(layer, order):
    """A recurrent layer's bias as the two of ONNX and PyTorch, of the input and of the state, zeros
    where it has none, with the blocks of its gates in another order."""
    both = np.zeros((2, len(order) * layer.units), np.float32)
    if layer.use_bias:
        bias = layer.bias.value
        both[: 2 if bias.ndim == 2 else 1] = bias
    return [reorder(half, order, 0) for half in both]


class Recurrent:
    """One LSTM, GRU or RNN node; keeps the layers that it made for the weights seen last.

    attributes: the node's, with defaults. Call it with the node's inputs for [Y, Y_h, Y_c].
    Errors: ValueError for attributes and arrays that do not fit each other."""

    def __init__(self, kind, attributes):
        self.kind, self.attributes = kind, attributes
        self.direction = _text(attributes.get("direction", "forward"))
        if self.direction not in ("forward", "reverse", "bidirectional"):
            raise ValueError(f"direction: expected a known one, received {self.direction!r}")
        self.directions = 2 if self.direction == "bidirectional" else 1
        if attributes.get("layout", 0) not in (0, 1):
            raise ValueError(f"layout: expected 0 or 1, received {attributes['layout']}")
        self.batch_first = attributes.get("layout", 0) == 1
        self.clip = attributes.get("clip")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip: expected a number > 0, received {self.clip}")
        self.activations = self._read_activations()
        self._made = None

    def _read_activations(self):
        """For each direction its activations as keys (name, alpha, beta)."""
        count = len(DEFAULTS[self.kind])
        names = self.attributes.get("activations")
        names = [_text(name) for name in names] if names else DEFAULTS[self.kind] * self.directions
        if self.kind == "RNN":
            names = names[: self.directions]  # ONNX's default is two of them
        if len(names) != count * self.directions:
            raise ValueError(
                f"activations: expected {count * self.directions}, received {len(names)}"
            )
        alphas = list(self.attributes.get("activation_alpha", ()))
        betas = list(self.attributes.get("activation_beta", ()))
        keys = []
        for name in names:
            if name.lower() not in ACTIVATIONS:
                raise ValueError(f"activations: {name!r} is not one that ONNX names")
            _, alpha, beta = ACTIVATIONS[name.lower()]
            if alpha is not None and alphas:
                alpha = alphas.pop(0)
            if beta is not None and betas:
                beta = betas.pop(0)
            keys.append(_single(name, alpha, beta))
        return [keys[d * count : (d + 1) * count] for d in range(self.directions)]

    def __call__(self, budget, x, w, r, b=None, lengths=None, h0=None, c0=None, peepholes=None):
        self._check(x, w, r, b, lengths, h0, c0, peepholes)
        states = [s for s in (h0, c0)[: 2 if self.kind == "LSTM" else 1]]
        if not self.batch_first:
            x = x.transpose(1, 0, 2)
        else:
            states = [None if s is None else s.transpose(1, 0, 2) for s in states]
        batch, timesteps, _ = x.shape
        units = r.shape[2]
        budget.check((batch, timesteps, 2 * self.directions * GATES[self.kind] * units))
        states = [
            np.zeros((self.directions, batch, units), np.float32) if s is None else s
            for s in states
        ]
        on = None if lengths is None else np.arange(timesteps) < lengths[:, None]
        budget.spend(timesteps)
        if batch and timesteps and not self._special(peepholes):
            y, last = self._by_layers(x, w, r, b, on, states)
        else:
            y, last = self._by_numpy(x, w, r, b, on, states, peepholes)
        # y: (batch, timesteps, units) and last: [(batch, units), ...] of each direction
        axis = 2 if self.batch_first else 1
        y = np.stack(y if self.batch_first else [part.transpose(1, 0, 2) for part in y], axis)
        stack = functools.partial(np.stack, axis=1 if self.batch_first else 0)
        return [y, *(stack(parts) for parts in zip(*last, strict=True))]

    def _check(self, x, w, r, b, lengths, h0, c0, peepholes):
        if x.ndim != 3 or r.ndim != 3:
            raise ValueError(f"X and R: expected 3 axes, received {x.shape} and {r.shape}")
        batch, timesteps = x.shape[:2] if self.batch_first else x.shape[1::-1]
        units, directions, gates = r.shape[2], self.directions, GATES[self.kind]
        if self.attributes.get("hidden_size", units) != units or units == 0:
            raise ValueError(
                f"hidden_size: expected {units} as in R, received "
                f"{self.attributes.get('hidden_size')}"
            )
        state = (batch, directions, units) if self.batch_first else (directions, batch, units)
        expected = {
            "W": (w, (directions, gates * units, x.shape[2])),
            "R": (r, (directions, gates * units, units)),
            "B": (b, (directions, 2 * gates * units)),
            "initial_h": (h0, state),
            "initial_c": (c0, state),
            "P": (peepholes, (directions, 3 * units)),
        }
        for name, (array, shape) in expected.items():
            if array is not None and array.shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, received {array.shape}")
        for array in (x, w, r, b, h0, c0, peepholes):
            if array is not None and array.dtype != np.float32:
                raise ValueError(f"expected float32 arrays, received {array.dtype}")
        if lengths is not None and (
            lengths.shape != (batch,)
            or lengths.dtype.kind not in "iu"
            or (batch and not 0 <= lengths.min() <= lengths.max() <= timesteps)
        ):
            raise ValueError(
                f"sequence_lens: expected {batch} whole numbers from 0 to {timesteps}, received "
                f"{lengths.dtype} of shape {lengths.shape}"
            )

    def _special(self, peepholes):
        """Is this something that Keras's layers do not have?"""
        if peepholes is not None or self.clip is not None:
            return True
        if self.attributes.get("input_forget", 0):
            return True
        if self.kind == "LSTM" and any(cell != out for _, cell, out in self.activations):
            return True
        return any(key not in _KERAS_NAMES for keys in self.activations for key in keys)

    # --- by fastrnn's layers ---

    def _by_layers(self, x, w, r, b, mask, states):
        made = self._made
        if made is None or any(a is not c for a, c in zip(made[0], (w, r, b), strict=True)):
            made = self._made = (w, r, b), self._make_layer(w, r, b)
        starts = [s[d] for d in range(self.directions) for s in states]
        outputs = made[1](x, mask=mask, initial_state=starts)
        ys, last = outputs[: self.directions], outputs[self.directions :]
        if self.direction == "reverse":
            ys = [ys[0][:, ::-1]]
        count = len(states)
        return ys, [last[d * count : (d + 1) * count] for d in range(self.directions)]

    def _make_layer(self, w, r, b):
        return self._layer(
            w, r, b, return_sequences=True, return_state=True, zero_output_for_mask=True
        )

    def keras_layer(self, w, r, b, return_sequences, return_state=False, merge_mode="concat"):
        """The layer that does the same, with these weights, for inputs without lengths.
        Errors: ValueError if there is none."""
        if self._special(None):
            raise ValueError("no layer has these attributes")
        options = {"return_sequences": return_sequences, "return_state": return_state}
        if self.directions == 1:
            return self._layer(w, r, b, **options)
        return self._layer(w, r, b, merge_mode, **options)

    def _layer(self, w, r, b, merge_mode=None, **options):
        made = []
        for d in range(self.directions):
            own = {
                "activation": _KERAS_NAMES[self.activations[d][-1]],
                "use_bias": b is not None,
                "go_backwards": d == 1 or self.direction == "reverse",
                "kernel_initializer": "zeros",
                "recurrent_initializer": "zeros",
            }
            if self.kind != "RNN":
                own["recurrent_activation"] = _KERAS_NAMES[self.activations[d][0]]
            if self.kind == "GRU":
                own["reset_after"] = bool(self.attributes.get("linear_before_reset", 0))
            made.append(getattr(layers, LAYERS[self.kind])(r.shape[2], **own, **options))
        layer = made[0]
        if self.directions == 2:
            layer = layers.Bidirectional(layer, backward_layer=made[1], merge_mode=merge_mode)
        layer.build((None, None, w.shape[2]))
        order = FROM_ONNX[self.kind]
        weights = []
        for d in range(self.directions):
            weights += [reorder(w[d].T, order, 1), reorder(r[d].T, order, 1)]
            if b is not None:
                both = [reorder(half, order, 0) for half in np.split(b[d], 2)]
                separate = self.kind == "GRU" and self.attributes.get("linear_before_reset", 0)
                weights.append(np.stack(both) if separate else both[0] + both[1])
        layer.set_weights(weights)
        return layer

    # --- in NumPy ---

    def _by_numpy(self, x, w, r, b, on, states, peepholes):
        gates, units = GATES[self.kind], r.shape[2]
        step = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.kind]
        ys, last = [], []
        for d in range(self.directions):
            bias = np.zeros(2 * gates * units, np.float32) if b is None else b[d]
            state = [s[d] for s in states]
            if peepholes is None:
                peep = np.zeros((3, units), np.float32)
            else:
                peep = peepholes[d].reshape(3, units)
            functions = [
                functools.partial(ACTIVATIONS[name][0], a=alpha, b=beta)
                for name, alpha, beta in self.activations[d]
            ]
            from_input = x @ w[d].T + bias[: gates * units]
            y = np.zeros((*x.shape[:2], units), np.float32)
            times = range(x.shape[1])
            for t in reversed(times) if d == 1 or self.direction == "reverse" else times:
                new = step(from_input[:, t], r[d], bias[gates * units :], peep, functions, *state)
                if on is None:
                    state = new
                    y[:, t] = new[0]
                else:
                    here = on[:, t, None]
                    state = [np.where(here, n, s) for n, s in zip(new, state, strict=True)]
                    y[:, t] = np.where(here, new[0], 0)
            ys.append(y)
            last.append(state)
        return ys, last

    def _bounded(self, z):
        return z if self.clip is None else np.clip(z, -self.clip, self.clip)

    def _lstm(self, z, r, bias, peep, functions, h, c):
        gate, candidate, output = functions
        i, o, f, g = np.split(z + h @ r.T + bias, 4, axis=-1)
        i = gate(self._bounded(i + peep[0] * c))
        if self.attributes.get("input_forget", 0):
            f = 1 - i
        else:
            f = gate(self._bounded(f + peep[2] * c))
        c = f * c + i * candidate(self._bounded(g))
        o = gate(self._bounded(o + peep[1] * c))
        return [o * output(c), c]  # as ONNX Runtime, which clips the gates' inputs only

    def _gru(self, z, r, bias, peep, functions, h):
        gate, candidate = functions
        units = h.shape[-1]
        both = z[:, : 2 * units] + h @ r[: 2 * units].T + bias[: 2 * units]
        update, reset = np.split(gate(self._bounded(both)), 2, axis=-1)
        r, bias = r[2 * units :], bias[2 * units :]
        if self.attributes.get("linear_before_reset", 0):
            recurrent = reset * (h @ r.T + bias)
        else:
            recurrent = (reset * h) @ r.T + bias
        new = candidate(self._bounded(z[:, 2 * units :] + recurrent))
        return [(1 - update) * new + update * h]

    def _rnn(self, z, r, bias, peep, functions, h):
        return [functions[0](self._bounded(z + h @ r.T + bias))]


def _text(value):
    return value.decode("ascii") if isinstance(value, bytes) else value
