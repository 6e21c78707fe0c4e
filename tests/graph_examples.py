"""Models of branching graphs that are taken to other formats."""

import numpy as np

from fastrnn import layers as L
from fastrnn import ops
from fastrnn.models import Model


def words(name="words"):
    return L.Input((None,), name=name)


def steps(name="steps", features=3):
    return L.Input((None, features), name=name)


def masked(features=3, name="words"):
    start = words(name)
    return start, L.Embedding(9, features, mask_zero=True, name=f"{name}_embedded")(start)


def two_inputs():
    """A sequence and what does not change, two heads."""
    series, static = steps(), L.Input((4,), name="static")
    x = L.Concatenate()([L.LSTM(5)(series), L.Dense(3, "relu")(static)])
    x = L.Dense(6, "relu")(x)
    heads = [L.Dense(2, name="value")(x), L.Dense(3, "softmax", name="kind")(x)]
    return Model([series, static], heads)


def encoder_decoder(kind=L.LSTM, embedded=masked, **options):
    source, x = embedded(name="source")
    target, y = embedded(name="target")
    _, *states = kind(4, return_state=True, **options)(x)
    y, *states = kind(4, return_sequences=True, return_state=True)(y, initial_state=states)
    return Model([source, target], [L.Dense(5, "softmax", name="next")(y), *states])


def plain(name):
    start = steps(name)
    return start, start


def both_ways_to_decoder():
    source, x = masked(name="source")
    target, y = masked(name="target")
    x, fh, fc, bh, bc = L.Bidirectional(L.LSTM(3, return_sequences=True, return_state=True))(x)
    states = [L.Concatenate()([fh, bh]), L.Concatenate()([fc, bc])]
    y = L.LSTM(6, return_sequences=True)(y, initial_state=states)
    context = L.Attention()([y, x])
    return Model([source, target], L.Dense(4, "softmax")(L.Concatenate()([y, context])))


def both_ways_from_states(merge_mode="concat", embedded=plain, **options):
    start, x = embedded("steps")
    first, second = L.Input((2,), name="first"), L.Input((3,), name="second")
    pair = L.GRU(2, **options), L.GRU(3, go_backwards=True, **options)
    if merge_mode != "concat":
        second = L.Input((2,), name="second")
        pair = L.SimpleRNN(2, **options), L.SimpleRNN(2, go_backwards=True, **options)
    layer = L.Bidirectional(pair[0], merge_mode, backward_layer=pair[1])
    return Model([start, first, second], layer(x, initial_state=[first, second]))


def apart_below_others():
    """The mask goes on with what each direction gives."""
    start, x = masked()
    one, other = L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode=None)(x)
    outputs = [L.LSTM(3)(other), L.GlobalAveragePooling1D()(other), L.GRU(2)(L.Add()([one, other]))]
    return Model(start, outputs)


def siamese(merge):
    """One Embedding and one LSTM for two inputs."""
    left, right = words("left"), words("right")
    embedding, lstm = L.Embedding(9, 3, mask_zero=True), L.LSTM(4)
    return Model([left, right], merge()([lstm(embedding(x)) for x in (left, right)]))


def merged(merge, both=True):
    """What becomes of masks: those of two inputs, or of one of them."""
    left, x = masked(name="left")
    right, y = masked(name="right") if both else plain("right")
    z = merge()([x, y, x] if merge in (L.Add, L.Multiply, L.Maximum, L.Average) else [x, y])
    return Model([left, right], [z, L.LSTM(3)(z), L.GlobalAveragePooling1D()(z)])


def of_two_ranks(merge):
    left, x = masked(name="left")
    right = L.Input((3,), name="right")
    return Model([left, right], merge()([x, right]))


def along_time(both=True):
    left, x = masked(name="left")
    right, y = masked(name="right") if both else plain("right")
    z = L.Concatenate(axis=1)([x, y])
    return Model([left, right], L.GRU(3, return_sequences=True)(z))


def products(axes, left, right, **options):
    inputs = L.Input(left, name="left"), L.Input(right, name="right")
    return Model([*inputs], L.Dot(axes, **options)([*inputs]))


def attended(make, key=False, embedded=masked, scores=False, causal=False, **options):
    source, x = embedded(name="source")
    target, y = embedded(name="target")
    given = [L.Dense(3)(y), x, *([L.Dense(3)(x)] if key else [])]
    options |= {"use_causal_mask": True} if causal else {}
    out = make()(given, return_attention_scores=scores, **options)
    return Model([source, target], out)


def heads(make, key=False, embedded=masked, mask=False, **options):
    source, x = embedded(name="source")
    target, y = embedded(name="target")
    inputs = [source, target]
    if key:
        options["key"] = L.Dense(2)(x)
    if mask:
        inputs.append(L.Input((None, None), name="mask"))
        options["attention_mask"] = inputs[-1]
    return Model(inputs, make()(y, x, **options))


def heads_of_images(**options):
    start = L.Input((3, None, 4), name="image")
    layer = L.MultiHeadAttention(2, 3, **options)
    return Model(start, layer(start, start, return_attention_scores=True))


def residual():
    start = steps(features=4)
    x = L.LSTM(4, return_sequences=True)(start)
    x = L.LayerNormalization()(L.Add()([start, x]))
    y = L.Bidirectional(L.GRU(2, return_sequences=True))(x)
    return Model(start, L.Dense(2)(L.GlobalMaxPooling1D()(L.Add()([x, y]))))


def attention_pooling():
    """The mean of a Bidirectional's steps, weighted by a softmax over time."""
    start = words()
    x = L.Bidirectional(L.LSTM(3, return_sequences=True))(L.Embedding(9, 4)(start))
    shares = L.Softmax(axis=1)(L.Dense(1, "tanh")(x))
    pooled = L.Flatten()(L.Dot((1, 1))([shares, x]))
    return Model(start, L.Dense(2, "sigmoid")(pooled))


def nested():
    one, other = L.Input((None, 3), name="one"), L.Input((4,), name="other")
    h = L.GRU(4)(one, initial_state=[other])
    inner = Model([one, other], [L.Add()([h, other]), L.Multiply()([h, other])], name="inner")
    start, state = steps(), L.Input((4,), name="state")
    first, second = inner([start, state])
    third, fourth = inner([L.Dense(3)(start), second])
    return Model([start, state], [L.Concatenate()([first, third]), fourth])


def model_at_each_step():
    inner = L.Input((3,), name="step")
    inner = Model(inner, L.Add()([L.Dense(3, "tanh")(inner), inner]))
    start = steps()
    x = L.TimeDistributed(inner)(start)
    return Model(start, [L.LSTM(2)(x), x])


def words_of_sentences():
    """Masks of words within a TimeDistributed."""
    start = L.Input((3, 5), name="words")
    x = L.Embedding(9, 4, mask_zero=True)(start)
    x = L.TimeDistributed(L.LSTM(3))(x)
    return Model(start, [L.Flatten()(x), L.Dense(2)(x)])


def read_twice():
    """An input that an Embedding and other layers read; an output that is there twice."""
    start = L.Input((6,), name="numbers")
    x = L.GlobalAveragePooling1D()(L.Embedding(9, 3)(start))
    y = L.Dense(3, name="own")(start)
    z = L.Add()([x, y])
    return Model(start, [z, y, z, start])


def after_the_input():
    """A model that begins at an inner tensor of another."""
    whole = two_inputs()
    return Model(whole.get_layer("value").input, whole.outputs)


MERGES = L.Add, L.Average, L.Maximum, L.Minimum, L.Multiply, L.Subtract, L.Concatenate
GRAPHS = {
    "two inputs": two_inputs,
    "encoder, decoder": lambda: encoder_decoder(embedded=plain),
    "encoder, decoder, masks": encoder_decoder,
    "encoder, decoder, gru": lambda: encoder_decoder(L.GRU),
    "encoder, decoder, rnn backwards": lambda: encoder_decoder(L.SimpleRNN, go_backwards=True),
    "both ways, decoder, attention": both_ways_to_decoder,
    "both ways from states": both_ways_from_states,
    "both ways from states, masks": lambda: both_ways_from_states(embedded=masked_as("steps")),
    "both ways apart, masked": apart_below_others,
    "both ways apart": lambda: both_ways_from_states(None, return_state=True),
    "both ways apart, sequences": lambda: both_ways_from_states(
        None, masked_as("steps"), return_sequences=True, return_state=True
    ),
    "both ways, mean": lambda: both_ways_from_states("ave", return_sequences=True),
    "siamese": lambda: siamese(L.Subtract),
    "siamese, cosine": lambda: siamese(lambda: L.Dot(-1, normalize=True)),
    "concatenate in time": along_time,
    "concatenate in time, one mask": lambda: along_time(False),
    "dot of vectors": lambda: products(1, (4,), (4,)),
    "dot of matrices": lambda: products((2, 1), (None, 4), (4, 3)),
    "dot, first axes": lambda: products(1, (None, 3), (None, 4), normalize=True),
    "dot, a matrix, a vector": lambda: products((2, 1), (None, 4), (4,)),
    "dot, a vector, a matrix": lambda: products((1, 1), (4,), (4, 2)),
    "dot of images": lambda: products((3, 2), (2, None, 4), (5, 4)),
    "dot of images, middle": lambda: products((2, 1), (2, 4, 3), (4,)),
    "attention": lambda: attended(L.Attention),
    "attention, causal": lambda: attended(L.Attention, causal=True, scores=True),
    "attention, scale, key": lambda: attended(lambda: L.Attention(True), key=True),
    "attention, sums": lambda: attended(lambda: L.Attention(True, score_mode="concat")),
    "additive attention": lambda: attended(L.AdditiveAttention, scores=True),
    "additive attention, plain": lambda: attended(
        lambda: L.AdditiveAttention(False), embedded=plain
    ),
    "heads": lambda: heads(lambda: L.MultiHeadAttention(2, 3)),
    "heads, no masks": lambda: heads(
        lambda: L.MultiHeadAttention(2, 3, 4, use_bias=False), embedded=plain, key=True
    ),
    "heads, scores": lambda: heads(
        lambda: L.MultiHeadAttention(2, 3, output_shape=(2, 2)),
        return_attention_scores=True, use_causal_mask=True,
    ),
    "heads, window, gate": lambda: heads(
        lambda: L.MultiHeadAttention(2, 3, sliding_window=2, use_gate=True), embedded=plain
    ),
    "heads, mask of scores": lambda: heads(lambda: L.MultiHeadAttention(2, 3), mask=True),
    "heads of images": heads_of_images,
    "heads of columns": lambda: heads_of_images(attention_axes=1),
    "heads of rows": lambda: heads_of_images(attention_axes=(2,), output_shape=5),
    "grouped heads": lambda: heads(lambda: L.GroupQueryAttention(3, 4, 2), embedded=plain),
    "grouped heads, scores": lambda: heads(
        lambda: L.GroupQueryAttention(3, 4, 2), return_attention_scores=True, use_causal_mask=True
    ),
    "residual": residual,
    "attention pooling": attention_pooling,
    "nested": nested,
    "model at each step": model_at_each_step,
    "words of sentences": words_of_sentences,
    "read twice": read_twice,
    "after the input": after_the_input,
    **{f"{m.__name__.lower()}, masks": lambda m=m: merged(m) for m in MERGES},
    **{f"{m.__name__.lower()}, one mask": lambda m=m: merged(m, False) for m in MERGES},
    **{f"{m.__name__.lower()} of two ranks": lambda m=m: of_two_ranks(m) for m in MERGES[:-1]},
}  # fmt: skip


def operated(function):
    """Operations on what a layer gives and on an input, (batch, timesteps, 3)."""

    def make():
        x, y = steps("x"), steps("y")
        return Model([x, y], function(L.Dense(3)(x), y))

    return make


OPERATIONS = {
    "arithmetic": operated(lambda x, y: (x + y) * 0.5 - y / (ops.exp(x) + 1) + 2 - x),
    "items": operated(
        lambda x, y: [
            x[:, -1], y[:, 0], x[:, 1:], x[..., 0], x[:, ::-1], x[:, None], x[..., -1:],
            x[:, :2, 1], x[:, -2:, None, 1:],
        ]
    ),
    "reduced": operated(
        lambda x, y: [
            ops.mean(x, axis=1), ops.sum(x, axis=-1, keepdims=True), ops.max(y, axis=1),
            ops.min(x, axis=[1, 2]), ops.var(x, axis=1), ops.std(x, axis=-1, keepdims=True),
            ops.prod(x, axis=-1),
        ]
    ),
    "activations": operated(
        lambda x, y: [
            ops.relu(x), ops.sigmoid(x), ops.silu(x), ops.softplus(x), ops.softmax(x, axis=1),
            ops.log_softmax(x), ops.elu(x, alpha=0.5), ops.leaky_relu(x), ops.tanh(x),
            ops.hard_sigmoid(x), ops.relu6(x * 5), ops.selu(x), ops.softsign(x),
            ops.log_sigmoid(x), ops.hard_silu(x),
        ]
    ),
    "of one": operated(
        lambda x, y: [
            ops.absolute(x), ops.negative(x), ops.sqrt(ops.absolute(x)), ops.square(x),
            ops.rsqrt(ops.absolute(x) + 1), ops.floor(y * 3), ops.ceil(y * 3), ops.round(y * 3),
            ops.sign(x), ops.sin(x), ops.cos(x), ops.log(ops.absolute(x) + 1), ops.arctan(x),
        ]
    ),
    "of two": operated(
        lambda x, y: [
            ops.maximum(x, y), ops.minimum(x, 0.1), ops.power(ops.absolute(x) + 0.5, 1.5),
            ops.greater(y, 0.1), ops.where(y > 0, x, y), ops.where(ops.less(y, 0.2), 0.0, x),
            y >= 0, ops.equal(y, y), ops.divide(x, ops.absolute(y) + 1),
        ]
    ),
    "shapes": operated(
        lambda x, y: [
            ops.transpose(x, (0, 2, 1)), ops.expand_dims(x, 1), ops.swapaxes(x, 1, 2),
            ops.squeeze(ops.expand_dims(x, 2), 2), ops.moveaxis(x, 2, 1), ops.flip(x, axis=1),
            ops.concatenate([x, x], axis=-1), ops.stack([x, x], axis=1), ops.clip(x, -0.1, 0.2),
        ]
    ),
    "products": operated(
        lambda x, y: ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(y, (0, 2, 1)))), y)
    ),
    "given mask": operated(lambda x, y: L.GRU(2, return_sequences=True)(x, mask=x[..., 0] > 0)),
}  # fmt: skip


def masked_as(name):
    return lambda _: masked(name=name)


def data(model, rng, free=(3, 5)):
    """Arrays for a model's inputs, with these sizes of the batch and of free axes."""
    arrays = []
    for name, tensor in zip(model.input_names, model.inputs, strict=True):
        shape = [free[min(n, 1)] if size is None else size for n, size in enumerate(tensor.shape)]
        if name == "mask":  # a step that sees nothing is another matter
            arrays.append((rng.random(shape) < 0.7).astype(np.float32))
            arrays[-1][..., 0] = 1
        elif len(shape) == 2 and tensor.shape[1] is None or name in ("words", "numbers"):
            x = rng.integers(0, 9, shape)
            x[0] = np.where(np.arange(shape[-1]) < shape[-1] // 2, 0, x[0])
            x[-1, ..., -1] = 0
            arrays.append(x.astype(np.float32 if name == "numbers" else np.int32))
        else:
            arrays.append(rng.standard_normal(shape).astype(np.float32))
    return arrays


def built(name, rng):
    """The model, with weights that are not those of new ones."""
    model = (GRAPHS.get(name) or OPERATIONS[name])()
    for weight in model.weights:
        weight.assign(rng.uniform(-0.7, 0.7, weight.shape))
    return model


def predicted(model, x):
    """The outputs for a list of inputs, in a list."""
    y = model.predict(x if model.takes_several else x[0], verbose=0)
    return y if isinstance(y, list) else [y]


def assert_close(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=5e-6)
