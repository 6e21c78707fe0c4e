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


# --- layers of graphs: fit(dice, pool) gives (layer, inputs) -------------------------------------
#
# pool: the tensors that there are -> their shapes in the example.


def pick(dice, pool, fits=lambda shape: True):
    return dice.one_of([tensor for tensor in pool if fits(pool[tensor])] or [None])


def is_sequence(shape):
    return len(shape) == 3


def merging(cls):
    def fit(dice, pool):
        first = pick(dice, pool)
        shape = pool[first]
        if dice.chance(0.3):  # broadcast

            def same(other):
                sizes = zip(other[::-1][:-1], shape[::-1][:-1], strict=False)
                return all(a == b or 1 in (a, b) for a, b in sizes)
        else:

            def same(other):
                return other == shape

        count = 2 if cls is L.Subtract else dice.one_of([1, 2, 2, 3])
        tensors = [first, *(pick(dice, pool, same) for _ in range(count - 1))]
        return cls(), [dice.one_of(tensors) for _ in tensors] if dice.chance(0.1) else tensors

    return fit


def concatenate(dice, pool):
    first = pick(dice, pool)
    shape = pool[first]
    axis = dice.one_of([-1, -1, len(shape) - 1, 1])
    place = axis % len(shape)

    def same(other):
        rest = [i for i in range(len(shape)) if i != place]
        return len(other) == len(shape) and all(other[i] == shape[i] for i in rest)

    others = [pick(dice, pool, same) for _ in range(dice.one_of([0, 1, 1, 2]))]
    return L.Concatenate(axis), [first, *others]


def dot(dice, pool):
    first = pick(dice, pool)
    axis = dice.one_of([1, len(pool[first]) - 1])
    size = pool[first][axis]
    second = pick(dice, pool, lambda shape: size in shape[1:])
    axes = [i for i, n in enumerate(pool[second]) if i and n == size]
    return L.Dot((axis, dice.one_of(axes)), normalize=dice.chance(0.3)), [first, second]


def attention(cls):
    def fit(dice, pool):
        query = pick(dice, pool, is_sequence)
        if query is None:
            return None
        width = pool[query][-1]

        def same(shape):
            return is_sequence(shape) and shape[-1] == width

        if cls is L.AdditiveAttention:
            layer = cls(use_scale=dice.chance(0.7))
        elif cls is L.Attention:
            layer = cls(dice.chance(0.5), score_mode=dice.one_of(["dot", "dot", "concat"]))
        else:
            return heads(dice, pool, query, cls)
        key = pick(dice, pool, same)
        if dice.chance(0.6):
            return layer, [query, key]
        steps = pool[key][1]
        value = pick(dice, pool, lambda shape: is_sequence(shape) and shape[1] == steps)
        return layer, [query, value, key]

    return fit


def heads(dice, pool, query, cls):
    options = {
        "sliding_window": dice.one_of([None, None, 1, 3]),
        "dropout": dice.one_of([0.0, 0.2]),
        "use_bias": dice.chance(0.7),
    }
    if cls is L.MultiHeadAttention:
        layer = cls(
            dice.one_of([1, 2, 3]),
            dice.one_of([1, 3, 8]),
            dice.one_of([None, 2, 5]),
            output_shape=dice.one_of([None, 4]),
            **options,
        )
        value = pick(dice, pool, is_sequence)
    else:
        groups, each = dice.one_of([1, 2, 3]), dice.one_of([1, 2])
        layer = cls(dice.one_of([1, 3, 8]), groups * each, groups, **options)
        width = pool[query][-1]
        value = pick(dice, pool, lambda shape: is_sequence(shape) and shape[-1] == width)
    if dice.chance(0.6):
        return layer, [query, value]
    steps = pool[value][1]
    key = pick(dice, pool, lambda shape: is_sequence(shape) and shape[1] == steps)
    return layer, [query, value, key]


def with_states(dice, pool):
    """A recurrent layer that gets states, or gives them."""
    x = pick(dice, pool, is_sequence)
    if x is None:
        return None
    state = pick(dice, pool, lambda shape: not is_sequence(shape)) if dice.chance(0.6) else None
    cls = dice.one_of([L.LSTM, L.GRU, L.SimpleRNN])
    options = {"units": dice.one_of(UNITS) if state is None else pool[state][-1]}
    options["return_state"] = dice.chance(0.6) or state is None
    layer = recurrent(cls)(dice, 1, 1, **options)
    if dice.chance(0.3) and not layer.go_backwards:
        merge = dice.one_of(["concat", "sum", "mul", "ave", None])
        layer = L.Bidirectional(layer, merge_mode=merge)
    if state is None:
        return layer, [x]
    width = pool[state][-1]
    count = len(layer.sizes_of_states())
    return layer, [x, *(pick(dice, pool, lambda s: s[1:] == (width,)) for _ in range(count))]


def shaping(make):
    def fit(dice, pool):
        x = pick(dice, pool, is_sequence)
        layer = None if x is None else make(dice, pool[x])
        return None if layer is None else (layer, [x])

    return fit


def reshape(dice, pool):
    x = pick(dice, pool, lambda shape: True)
    total = int(np.prod(pool[x][1:]))
    if None in x.shape[1:]:
        return None
    sizes = [n for n in range(1, total + 1) if total % n == 0]
    return L.Reshape(dice.one_of([(total,), (-1, dice.one_of(sizes)), (dice.one_of(sizes), -1)])), [
        x
    ]


def crop(dice, shape):
    before = int(dice.rng.integers(shape[1]))
    return L.Cropping1D((before, int(dice.rng.integers(shape[1] - before))))


GRAPH_KINDS = {
    **{cls.__name__: merging(cls) for cls in (L.Add, L.Subtract, L.Multiply, L.Average)},
    **{cls.__name__: merging(cls) for cls in (L.Maximum, L.Minimum)},
    "Concatenate": concatenate,
    "Dot": dot,
    **{cls.__name__: attention(cls) for cls in (L.Attention, L.AdditiveAttention)},
    **{cls.__name__: attention(cls) for cls in (L.MultiHeadAttention, L.GroupQueryAttention)},
    "states": with_states,
    "ZeroPadding1D": shaping(lambda dice, shape: L.ZeroPadding1D(dice.one_of([1, (0, 2), (3, 1)]))),
    "Cropping1D": shaping(crop),
    "UpSampling1D": shaping(lambda dice, shape: L.UpSampling1D(dice.one_of([1, 2, 3]))),
    "Permute": shaping(lambda dice, shape: L.Permute((2, 1))),
    "Reshape": reshape,
}
GRAPHS_OFTEN = [*GRAPH_KINDS, *["states", "Concatenate", "Multiply", "Maximum"] * 2]


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


def random_graph(dice):
    """random_model, of a graph: x is a list."""
    batch, common = dice.one_of([1, 2, 3, 5]), dice.one_of([1, 2, 3, 5, 9])
    pool, arrays, made, masks = {}, {}, [], False
    for _ in range(dice.one_of([1, 1, 2, 3])):
        steps = common if dice.chance(0.8) else dice.one_of([1, 2, 6])
        free = None if dice.chance(0.6) else steps
        if dice.chance(0.3):
            size, mask = dice.one_of([2, 5, 30]), dice.chance(0.6)
            tensor = L.Input((free,), dtype="int32")
            arrays[tensor] = x = dice.rng.integers(0, size, (batch, steps)).astype(np.int32)
            if dice.chance(0.5):
                x[:, dice.rng.integers(steps) :] = 0
            for _ in range(dice.one_of([1, 1, 2])):
                width = dice.one_of([1, 3, 5, 32, 40])
                pool[L.Embedding(size, width, mask_zero=mask)(tensor)] = (batch, steps, width)
            masks |= mask
            continue
        width = dice.one_of([1, 3, 5, 8])
        shape = (width,) if dice.chance(0.35) else (steps, width)
        tensor = L.Input(shape[:-2] + (free, width) if len(shape) == 2 else shape)
        arrays[tensor] = x = dice.rng.normal(size=(batch, *shape)).astype(np.float32)
        if len(shape) == 2:
            plant_padding(dice, x)
            if dice.chance(0.5):
                pool[L.Masking(dice.one_of([0.0, 2.0]))(tensor)] = x.shape
                masks = True
        pool[tensor] = x.shape
    for _ in range(dice.one_of([1, 2, 3, 5, 8, 12])):
        masks |= grow(dice, pool, made)
    ends = [tensor for tensor in [*pool][-3:] if tensor.node.inputs] or [*pool][-1:]
    outputs = [
        dice.one_of([ends[-1], dice.one_of([*pool])]) for _ in range(dice.one_of([0, 0, 1, 2]))
    ]
    outputs.append(ends[-1])
    below, pending = set(), [*outputs]
    while pending:
        tensor = pending.pop()
        if tensor not in below:
            below.add(tensor)
            pending += tensor.node.inputs
    inputs = [tensor for tensor in arrays if tensor in below]
    dice.rng.shuffle(outputs)
    model = models.Model(inputs, outputs if len(outputs) > 1 else outputs[0])
    throw_weights(dice, model)
    return model, [arrays[tensor] for tensor in inputs], masks


def grow(dice, pool, made):
    """Call one more layer in a graph, new or not; True if it masks steps."""
    if dice.chance(0.3):
        fitted = GRAPH_KINDS[name := dice.one_of(GRAPHS_OFTEN)](dice, pool)
        if fitted is None:
            return False
        layer, tensors = fitted
    elif made and dice.chance(0.35):
        name, layer, count = dice.one_of(made)
        tensors = [dice.one_of([*pool]) for _ in range(count)]
    else:
        name, tensors = dice.one_of(OFTEN), [dice.one_of([*pool])]
        shape = pool[tensors[0]]
        layer = KINDS[name](dice, shape[1] if is_sequence(shape) else None, shape[-1])
        if layer is None:
            return False
        if dice.chance(0.15):
            layer = nested(dice, tensors[0], layer)
            if layer is None:
                return False
    options, single = {}, len(tensors) == 1 and not isinstance(layer, L.merging.Merge)
    if name in ("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"):
        options["use_causal_mask"] = dice.chance(0.3)
        if "Head" not in name and "Group" not in name:
            options["return_attention_scores"] = dice.chance(0.3)
    shapes = [pool[tensor] for tensor in tensors]
    try:
        if layer.built:
            layer.check_call(shapes[0] if single else shapes)
        after = layer.compute_output_shape(shapes[0] if single else shapes, **options)
        after = after if isinstance(after, list) else [after]
        if any(np.prod(shape) > MOST or len(shape) > 3 or 0 in shape for shape in after):
            return False
        if "Head" in name or "Group" in name:
            y = layer(*tensors, **options)
        elif single or isinstance(layer, L.merging.Merge):
            y = layer(tensors[0] if single else tensors, **options)
        elif options:
            y = layer(tensors, **options)
        else:
            y = layer(tensors[0], initial_state=tensors[1:])
    except ValueError:  # does not fit
        return False
    made.append((name, layer, len(tensors)))
    pool.update(zip(y if isinstance(y, list) else [y], after, strict=True))
    return name == "Masking"


def nested(dice, tensor, layer):
    """A model of a layer and another one, or None where they need sizes that are free."""
    start = L.Input(tensor.shape[1:])
    try:
        y = layer(start)
        if dice.chance(0.5):
            return models.Model(start, L.Dense(dice.one_of(UNITS))(y))
        return models.Model(start, [y, L.Activation("tanh")(y)])
    except ValueError:
        return None


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
    y, kept, isa = flat(y), model.get_weights(), fastrnn.isa()
    last_bits = [w * (1 + 2e-7 * dice.rng.choice([-1, 1], w.shape)) for w in kept]
    others = []
    for weights, name in ((kept, "base"), (last_bits, isa)):
        fastrnn._engine.set_isa(name)
        model.set_weights(weights)
        others.append(flat(model.predict(x, verbose=0)))
    model.set_weights(kept)
    if not np.isfinite([y, *others]).all() and all(np.isfinite(w).all() for w in kept):
        return np.inf  # of what overflows the order of the sums decides
    change = np.abs(np.subtract(others, y))
    change, size = (np.max(v[np.isfinite(v)], initial=0.0) for v in (change, np.abs(y)))
    return 2e-6 + 1e-5 * size + 20 * change


def flat(outputs):
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return np.concatenate([y.ravel() for y in outputs])


def shape_of(x):
    """(batch, timesteps or 0, features)."""
    shape = (*x.shape, 1) if x.dtype == np.int32 else x.shape
    return shape[0], shape[1] if len(shape) == 3 else 0, shape[-1]


def entry(model, x, masks, dice=None):
    """What the file has of a model, and whether it is compared closely."""
    data = fastrnn.to_c(model)
    with np.errstate(all="ignore"):
        x = x[0] if isinstance(x, list) and len(x) == 1 else x
        ys = model.predict(x, verbose=0)
        near = tolerance(dice or Dice(0), model, x, ys)
    x, ys = (part if isinstance(part, list) else [part] for part in (x, ys))
    head = struct.pack("<5qd", len(data), len(x[0]), len(x), len(ys), masks, near)
    shapes = [struct.pack("<3q", *shape_of(part)) for part in [*x, *ys]]
    parts = (head, *shapes, data, *(part.tobytes() for part in [*x, *ys]))
    y = flat(ys)
    close = near < 1e-3 * (1 + np.max(np.abs(y[np.isfinite(y)]), initial=0.0))
    return b"".join(part + bytes(-len(part) % 8) for part in parts), close


def example(seed):
    """An entry of a random model, or None."""
    dice = Dice(seed)
    try:
        return entry(*(random_graph if dice.chance(0.5) else random_model)(dice), dice)
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
