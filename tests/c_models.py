"""Random models that the C library takes, in every order that `to_c` allows, with inputs and what
`predict` gives, in a file for csrc/tests/run_models.c:

    python tests/c_models.py FILE COUNT [SEED]
"""

import struct
import sys

import numpy as np

import fastrnn
from fastrnn import layers as L
from fastrnn import models

ACTIVATIONS = [
    "linear", "relu", "sigmoid", "tanh", "hard_sigmoid", "hard_sigmoid_keras2", "softsign", "elu",
    "selu", "exponential",
]  # fmt: skip
UNITS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 20, 33, 64, 81]
MOST = 40_000  # numbers that a layer gives


class Dice:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def chance(self, p):
        return bool(self.rng.random() < p)

    def one_of(self, values):
        return values[int(self.rng.integers(len(values)))]

    def activation(self, usual):
        return usual if self.chance(0.6) else self.one_of(ACTIVATIONS)


# --- one layer of each kind; None where it has no place -------------------------------------------


def recurrent(cls):
    def layer(dice, steps, width, **kwargs):
        if steps is None:
            return None
        options = {
            "units": dice.one_of(UNITS),
            "activation": dice.activation("tanh"),
            "return_sequences": dice.chance(0.65),
            "go_backwards": dice.chance(0.15),
            "use_bias": dice.chance(0.8),
            **kwargs,
        }
        if cls is not L.SimpleRNN:
            options["recurrent_activation"] = dice.activation("sigmoid")
        if cls is L.GRU:
            options["reset_after"] = dice.chance(0.6)
        return cls(**options)

    return layer


def cells(dice, steps, width):
    if steps is None:
        return None
    kinds = [L.LSTMCell, L.GRUCell, L.SimpleRNNCell]
    chosen = [dice.one_of(kinds)(dice.one_of(UNITS), dice.activation("tanh")) for _ in range(2)]
    cell = chosen if dice.chance(0.5) else chosen[0]
    return L.RNN(cell, dice.chance(0.65), zero_output_for_mask=dice.chance(0.3))


def bidirectional(dice, steps, width):
    if steps is None:
        return None
    same = {"return_sequences": dice.chance(0.65), "units": dice.one_of(UNITS)}
    forward = recurrent(dice.one_of([L.LSTM, L.GRU, L.SimpleRNN]))(dice, steps, width, **same)
    backward, merge = None, dice.one_of(["concat", "concat", "sum", "mul", "ave"])
    if dice.chance(0.4):
        same["go_backwards"] = not forward.go_backwards
        if merge == "concat":
            same["units"] = dice.one_of(UNITS)
        backward = recurrent(dice.one_of([L.LSTM, L.GRU, L.SimpleRNN]))(dice, steps, width, **same)
    elif forward.go_backwards:
        return None
    return L.Bidirectional(forward, merge_mode=merge, backward_layer=backward)


def dense(dice, steps, width):
    activation = "softmax" if dice.chance(0.15) else dice.activation("linear")
    return L.Dense(dice.one_of(UNITS), activation, use_bias=dice.chance(0.8))


def layer_normalization(dice, steps, width):
    options = {name: dice.chance(0.7) for name in ("center", "scale")}
    return L.LayerNormalization(rms_scaling=dice.chance(0.3), epsilon=0.01, **options)


def time_distributed(dice, steps, width):
    inner = dice.one_of(
        [dense, layer_normalization, KINDS["BatchNormalization"], KINDS["Activation"]]
        + [KINDS[name] for name in ("Dropout", "GaussianNoise", "GaussianDropout")]
        + [KINDS["Rescaling"], KINDS["Normalization"]]
    )
    return None if steps is None else L.TimeDistributed(inner(dice, None, width))


def if_sequences(make):
    return lambda dice, steps, width: None if steps is None else make(dice)


KINDS = {
    "LSTM": recurrent(L.LSTM),
    "GRU": recurrent(L.GRU),
    "SimpleRNN": recurrent(L.SimpleRNN),
    "RNN": cells,
    "Bidirectional": bidirectional,
    "Masking": if_sequences(lambda dice: L.Masking(dice.one_of([0.0, 0.0, 2.0]))),
    "Dense": dense,
    "TimeDistributed": time_distributed,
    "BatchNormalization": lambda dice, steps, width: L.BatchNormalization(scale=dice.chance(0.7)),
    "LayerNormalization": layer_normalization,
    "Activation": lambda dice, steps, width: L.Activation(dice.one_of([*ACTIVATIONS, "softmax"])),
    "Softmax": lambda dice, steps, width: L.Softmax(),
    "ReLU": lambda dice, steps, width: L.ReLU(),
    "GlobalAveragePooling1D": if_sequences(lambda dice: L.GlobalAveragePooling1D()),
    "GlobalMaxPooling1D": if_sequences(lambda dice: L.GlobalMaxPooling1D()),
    "RepeatVector": lambda dice, steps, width: (
        L.RepeatVector(dice.one_of([1, 2, 3, 5, 17, 60, 400])) if steps is None else None
    ),
    "Flatten": lambda dice, steps, width: L.Flatten(),
    "Dropout": lambda dice, steps, width: L.Dropout(0.3),
    "SpatialDropout1D": if_sequences(lambda dice: L.SpatialDropout1D(0.3)),
    "GaussianNoise": lambda dice, steps, width: L.GaussianNoise(0.3),
    "GaussianDropout": lambda dice, steps, width: L.GaussianDropout(0.3),
    "ActivityRegularization": lambda dice, steps, width: L.ActivityRegularization(0.1),
    "Normalization": lambda dice, steps, width: L.Normalization(
        dice.one_of([None, -1]), invert=dice.chance(0.5)
    ),
    "Identity": lambda dice, steps, width: L.Identity(),
    "Rescaling": lambda dice, steps, width: L.Rescaling(
        dice.one_of([0.5, -2, np.linspace(-1, 1, width)]), 0.1
    ),
}
# Rare by chance, or what grows and masks and keeps state, which the others are put between.
OFTEN = [*KINDS, *["LSTM", "GRU", "Bidirectional", "Masking", "RepeatVector"] * 2]


# --- a whole model --------------------------------------------------------------------------------


def random_model(dice):
    """(model, x, may a step be masked?), or None where the layers thrown do not fit together."""
    batch, steps = dice.one_of([1, 1, 2, 3, 5, 17]), dice.one_of([1, 2, 3, 4, 7, 12, 25])
    indices, vector = dice.chance(0.3), dice.chance(0.2)
    free = None if dice.chance(0.7) else steps
    masks, fixed = False, free is not None
    if indices:
        size, width = dice.one_of([2, 5, 30]), dice.one_of([1, 3, 8, 32, 40])
        masks = dice.chance(0.5)
        shape = () if vector else (free,)
        stack = [L.Input(shape, dtype="int32"), L.Embedding(size, width, mask_zero=masks)]
        x = dice.rng.integers(0, size, (batch,) if vector else (batch, steps)).astype(np.int32)
        if dice.chance(0.5) and not vector:
            x[:, dice.rng.integers(steps) :] = 0
    else:
        width = dice.one_of([1, 2, 3, 5, 8, 9, 33])
        stack = [L.Input((width,) if vector else (free, width))]
        x = dice.rng.normal(size=(batch, width) if vector else (batch, steps, width))
        x = x.astype(np.float32)
        if not vector and dice.chance(0.7):
            plant_padding(dice, x)
    now = None if vector else steps
    for _ in range(dice.one_of([1, 2, 3, 4, 5, 6, 7])):
        name = dice.one_of(OFTEN)
        layer = KINDS[name](dice, now, width)
        if layer is None or (name == "Flatten" and now and not fixed):
            continue
        shape = (batch, width) if now is None else (batch, now, width)
        after = layer.compute_output_shape(shape)
        if np.prod(after) > MOST:
            continue
        stack.append(layer)
        masks |= name == "Masking"
        fixed |= name == "RepeatVector"
        now, width = (None if len(after) == 2 else after[1]), after[-1]
    if dice.chance(0.2) and len(stack) > 2:
        stack[-2:] = [models.Sequential(stack[-2:])]
    model = models.Sequential(stack)
    model.build((batch, *x.shape[1:]))
    throw_weights(dice, model)
    return model, x, masks


def plant_padding(dice, x):
    """Time steps of 0 and of 2: at the beginning, at the end, within, everywhere in a row."""
    steps = x.shape[1]
    for row in x:
        value = dice.one_of([0, 0, 2])
        match dice.one_of(["begin", "end", "within", "all", "none"]):
            case "begin":
                row[: dice.rng.integers(steps + 1)] = value
            case "end":
                row[dice.rng.integers(steps) :] = value
            case "within":
                row[dice.rng.random(steps) < 0.4] = value
            case "all":
                row[:] = value


def throw_weights(dice, model):
    for w in model.weights:
        limit = 1.2 / np.sqrt(w.shape[0]) if len(w.shape) > 1 else 0.8  # no recurrence grows
        low = 0.5 if "variance" in w.path else -limit
        value = dice.rng.uniform(low, limit, w.shape).astype(np.float32)
        if "recurrent_kernel" in w.path and dice.chance(0.02):
            value.flat[dice.rng.integers(value.size)] = np.inf
        w.assign(value)


def tolerance(dice, model, x, y):
    """Twenty times what other kernels, and weights that are wrong in their last bits, change."""
    kept, isa = model.get_weights(), fastrnn.isa()
    last_bits = [w * (1 + 2e-7 * dice.rng.choice([-1, 1], w.shape)) for w in kept]
    others = []
    for weights, name in ((kept, "base"), (last_bits, isa)):
        fastrnn._engine.set_isa(name)
        model.set_weights(weights)
        others.append(model.predict(x, verbose=0))
    model.set_weights(kept)
    if not np.isfinite([y, *others]).all() and all(np.isfinite(w).all() for w in kept):
        return np.inf  # of what overflows the order of the sums decides
    change = np.abs(np.subtract(others, y))
    change, size = (np.max(v[np.isfinite(v)], initial=0.0) for v in (change, np.abs(y)))
    return 2e-6 + 1e-5 * size + 20 * change


def entry(model, x, masks, dice=None):
    """What the file has of a model, and whether it is compared closely."""
    data = fastrnn.to_c(model)
    with np.errstate(all="ignore"):
        y = model.predict(x, verbose=0)
        near = tolerance(dice or Dice(0), model, x, y)
    steps = 1 if x.ndim + (x.dtype == np.int32) == 2 else x.shape[1]
    head = struct.pack("<6qd", len(data), len(x), steps, x.size, y.size, masks, near)
    parts = (head, data, x.tobytes(), y.tobytes())
    close = near < 1e-3 * (1 + np.max(np.abs(y[np.isfinite(y)]), initial=0.0))
    return b"".join(part + bytes(-len(part) % 8) for part in parts), close


def example(seed):
    """An entry of a random model, or None."""
    dice = Dice(seed)
    try:
        return entry(*random_model(dice), dice)
    except ValueError as error:
        if not any(part in str(error) for part in ("to_c: layer", "to_c: expected", "no layers")):
            raise
    return None


def write(path, count, seed=0):
    """Write so many models; returns how many of them are compared closely."""
    close, threads = 0, fastrnn.get_num_threads()
    fastrnn.set_num_threads(1)
    with open(path, "wb") as file:
        while count > 0:
            seed += 1
            if (made := example(seed)) is None:
                continue
            file.write(made[0])
            close += made[1]
            count -= 1
    fastrnn.set_num_threads(threads)
    return close


if __name__ == "__main__":
    path, count, *seed = sys.argv[1:]
    print("compared closely:", write(path, int(count), *map(int, seed)))
