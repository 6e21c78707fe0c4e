"""The reference itself: every gradient against central differences, and what masks must mean."""

import numpy as np
import oracle
import pytest
from gradcheck import gradcheck

BATCH, TIMESTEPS, FEATURES, UNITS = 6, 5, 3, 4

# No padding, right padding, left padding, holes, a single step, nothing at all.
MASK = np.array(
    [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1],
        [1, 0, 1, 0, 1],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ],
    dtype=bool,
)

LSTM_NAMES = ("x", "kernel", "recurrent_kernel", "bias", "h0", "c0")
SMOOTH = ("tanh", "sigmoid", "softsign", "gelu", "softmax", "linear", "selu", "mish")
KINKED = {
    "relu": [0],
    "relu6": [0, 6],
    "leaky_relu": [0],
    "hard_sigmoid": [-3, 3],
    "hard_silu": [-3, 3],
    "hard_swish": [-3, 3],
    "hard_tanh": [-1, 1],
    "soft_shrink": [-0.5, 0.5],
    "hard_shrink": [-0.5, 0.5],
    "sparse_sigmoid": [-1, 1],
    "selu": [0],
}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def lstm_arrays(rng, units=UNITS):
    return {
        "x": rng.normal(size=(BATCH, TIMESTEPS, FEATURES)),
        "kernel": rng.normal(size=(FEATURES, 4 * units), scale=0.6),
        "recurrent_kernel": rng.normal(size=(units, 4 * units), scale=0.5),
        "bias": rng.normal(size=4 * units, scale=0.5),
        "h0": rng.normal(size=(BATCH, units), scale=0.7),
        "c0": rng.normal(size=(BATCH, units), scale=0.9),
    }


def dropout_masks(rng, width, count):
    masks = [(rng.random((BATCH, width)) < 0.6) / 0.6 for _ in range(count)]
    return masks[0] if count == 1 else masks


def lstm_check(rng, arrays, **options):
    dy = rng.normal(size=(BATCH, TIMESTEPS, UNITS))
    dh, dc = rng.normal(size=(2, BATCH, UNITS))

    def value():
        outputs, h, c, _ = oracle.lstm_forward(**arrays, **options)
        return (outputs * dy).sum() + (h * dh).sum() + (c * dc).sum()

    *_, cache = oracle.lstm_forward(**arrays, **options)
    gradients = oracle.lstm_backward(dy, dh, dc, cache)
    return value, gradients


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activation_gradient(name, rng):
    x = rng.uniform(-8, 8, size=(40, 5))
    for kink in KINKED.get(name, []):
        x[abs(x - kink) < 1e-3] = kink + 0.1
    dy = rng.normal(size=x.shape)
    gradient = oracle.activate_backward(name, x, dy)
    assert not gradcheck(lambda: (oracle.activate(name, x) * dy).sum(), {name: x}, {name: gradient})


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("masked", ["none", "repeat", "zero"])
@pytest.mark.parametrize("dropout", [0, 1, 4])
def test_lstm_gradient(go_backwards, masked, dropout, rng):
    arrays = lstm_arrays(rng)
    options = {"go_backwards": go_backwards, "zero_output_for_mask": masked == "zero"}
    if masked != "none":
        options["mask"] = MASK
    if dropout:
        options["dp_masks"] = dropout_masks(rng, FEATURES, dropout)
        options["rec_dp_masks"] = dropout_masks(rng, UNITS, dropout)
    value, gradients = lstm_check(rng, arrays, **options)
    assert not gradcheck(value, arrays, gradients)


@pytest.mark.parametrize(
    ("activation", "recurrent_activation"),
    [(name, "sigmoid") for name in SMOOTH]
    + [("tanh", name) for name in ("hard_sigmoid", "tanh", "softmax", "linear")],
)
def test_lstm_activation_gradient(activation, recurrent_activation, rng):
    arrays = lstm_arrays(rng)
    options = {"activation": activation, "recurrent_activation": recurrent_activation, "mask": MASK}
    value, gradients = lstm_check(rng, arrays, **options)
    assert not gradcheck(value, arrays, gradients, tolerance=1e-5)


def test_lstm_without_bias_is_zero_bias(rng):
    arrays = lstm_arrays(rng)
    arrays["bias"][:] = 0.0
    with_bias = oracle.lstm_forward(**arrays, mask=MASK)
    without = oracle.lstm_forward(**{**arrays, "bias": None}, mask=MASK)
    np.testing.assert_array_equal(with_bias[0], without[0])
    dy = rng.normal(size=with_bias[0].shape)
    a = oracle.lstm_backward(dy, None, None, with_bias[3])
    b = oracle.lstm_backward(dy, None, None, without[3])
    assert b.pop("bias") is None
    for name in b:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("fault", ["gate order", "states swapped", "first step", "scaled"])
def test_gradcheck_rejects_a_wrong_gradient(fault, rng):
    arrays = lstm_arrays(rng)
    value, gradients = lstm_check(rng, arrays, mask=MASK)
    wrong = dict(gradients)
    if fault == "gate order":
        wrong["kernel"] = np.roll(gradients["kernel"], UNITS, axis=1)
        expected = ["kernel"]
    elif fault == "states swapped":
        wrong["h0"], wrong["c0"] = gradients["c0"], gradients["h0"]
        expected = ["h0", "c0"]
    elif fault == "first step":
        wrong["x"] = gradients["x"].copy()
        wrong["x"][:, 0] = 0.0
        expected = ["x"]
    else:
        wrong["recurrent_kernel"] = gradients["recurrent_kernel"] * 1.0001
        expected = ["recurrent_kernel"]
    assert gradcheck(value, arrays, wrong) == expected


@pytest.mark.parametrize("go_backwards", [False, True])
def test_masked_steps_are_as_if_absent(go_backwards, rng):
    arrays = lstm_arrays(rng)
    outputs, h, c, _ = oracle.lstm_forward(**arrays, mask=MASK, go_backwards=go_backwards)
    zeroed, *_ = oracle.lstm_forward(
        **arrays, mask=MASK, go_backwards=go_backwards, zero_output_for_mask=True
    )
    for row, seen in enumerate(MASK):
        order = seen[::-1] if go_backwards else seen
        np.testing.assert_array_equal(zeroed[row][~order], 0.0)
        if not seen.any():
            np.testing.assert_array_equal(h[row], arrays["h0"][row])
            np.testing.assert_array_equal(c[row], arrays["c0"][row])
            np.testing.assert_array_equal(outputs[row], 0.0)
            continue
        one = {**arrays, "x": arrays["x"][row : row + 1, seen]}
        one |= {name: arrays[name][row : row + 1] for name in ("h0", "c0")}
        short, h_short, c_short, _ = oracle.lstm_forward(**one, go_backwards=go_backwards)
        np.testing.assert_allclose(outputs[row][order], short[0])
        np.testing.assert_allclose(zeroed[row][order], short[0])
        np.testing.assert_allclose(h[row], h_short[0])
        np.testing.assert_allclose(c[row], c_short[0])
        np.testing.assert_array_equal(outputs[row][: order.argmax()], 0.0)
        np.testing.assert_allclose(outputs[row][-1], short[0][-1])


def test_lstm_in_two_halves(rng):
    arrays = lstm_arrays(rng)
    outputs, h, c, _ = oracle.lstm_forward(**arrays)
    x = arrays.pop("x")
    first, arrays["h0"], arrays["c0"], _ = oracle.lstm_forward(x[:, :2], **arrays)
    second, h2, c2, _ = oracle.lstm_forward(x[:, 2:], **arrays)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), outputs)
    np.testing.assert_allclose(h2, h)
    np.testing.assert_allclose(c2, c)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "ave", "mul", None])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_bidirectional_gradient(merge_mode, return_sequences, mask, rng):
    forward, backward = lstm_arrays(rng), lstm_arrays(rng)
    x = forward.pop("x")
    del backward["x"]
    backward_options = {"activation": "softsign"}
    options = {"merge_mode": merge_mode, "return_sequences": return_sequences, "mask": mask}

    def run():
        return oracle.bidirectional_forward(x, forward, {**backward, **backward_options}, **options)

    y, _, cache = run()
    if merge_mode is None:
        dy = [rng.normal(size=part.shape) for part in y]
    else:
        dy = rng.normal(size=y.shape)

    def value():
        y, *_ = run()
        return sum((a * b).sum() for a, b in zip(y, dy, strict=True))

    dx, dforward, dbackward = oracle.bidirectional_backward(dy, cache)
    assert not gradcheck(value, {"x": x}, {"x": dx})
    assert not gradcheck(value, forward, dforward)
    assert not gradcheck(value, backward, dbackward)


@pytest.mark.parametrize("activation", [None, "tanh", "softmax"])
@pytest.mark.parametrize("shape", [(4, 3), (4, 5, 3)])
def test_dense_gradient(activation, shape, rng):
    arrays = {
        "x": rng.normal(size=shape),
        "kernel": rng.normal(size=(3, 2)),
        "bias": rng.normal(size=2),
    }
    y, cache = oracle.dense_forward(**arrays, activation=activation)
    dy = rng.normal(size=y.shape)
    assert not gradcheck(
        lambda: (oracle.dense_forward(**arrays, activation=activation)[0] * dy).sum(),
        arrays,
        oracle.dense_backward(dy, cache),
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("axis", "masked"), [(-1, False), (-1, True), (1, False)])
def test_batch_normalization_gradient(training, axis, masked, rng):
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES), loc=0.3, scale=1.7)
    width = x.shape[axis]
    arrays = {"x": x, "gamma": rng.normal(size=width), "beta": rng.normal(size=width)}
    moving = rng.normal(size=width), rng.uniform(0.5, 2.0, size=width)
    options = {"training": training, "axis": axis, "mask": MASK if masked else None}

    def run():
        return oracle.batch_normalization_forward(
            **arrays, moving_mean=moving[0], moving_variance=moving[1], **options
        )

    y, (mean, variance), cache = run()
    dy = rng.normal(size=y.shape)
    assert not gradcheck(
        lambda: (run()[0] * dy).sum(), arrays, oracle.batch_normalization_backward(dy, cache)
    )
    if not training:
        np.testing.assert_array_equal(mean, moving[0])
        np.testing.assert_array_equal(variance, moving[1])
    elif masked:
        np.testing.assert_allclose(mean, 0.99 * moving[0] + 0.01 * x[MASK].mean(axis=0))
        np.testing.assert_allclose(variance, 0.99 * moving[1] + 0.01 * x[MASK].var(axis=0))


def test_embedding_gradient(rng):
    ids = np.array([[1, 1, 4], [0, 2, 1]])
    arrays = {"embeddings": rng.normal(size=(6, 3))}
    y, cache = oracle.embedding_forward(ids, **arrays)
    dy = rng.normal(size=y.shape)
    assert not gradcheck(
        lambda: (oracle.embedding_forward(ids, **arrays)[0] * dy).sum(),
        arrays,
        oracle.embedding_backward(dy, cache),
    )


def probabilities(rng, shape):
    y = rng.uniform(0.05, 1.0, size=shape)
    return y / y.sum(axis=-1, keepdims=True)


def one_hot(rng, shape):
    return np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]


def binary(rng, shape):
    return rng.integers(2, size=shape).astype(float)


def real(rng, shape):
    return rng.normal(size=shape)


def positive(rng, shape):
    return rng.uniform(0.2, 2.0, size=shape)


def labels(rng, shape):
    return rng.integers(shape[-1], size=shape[:-1])


def signed(rng, shape):
    return 2.0 * binary(rng, shape) - 1.0


def unnormalized(rng, shape):
    return rng.uniform(0.05, 0.7, size=shape)


LOSS_CASES = [
    ("mean_squared_error", real, real, {}),
    ("mean_absolute_error", real, real, {}),
    ("mean_absolute_percentage_error", real, real, {}),
    ("mean_squared_logarithmic_error", positive, real, {}),
    ("huber", real, real, {}),
    ("huber", real, real, {"delta": 0.4}),
    ("log_cosh", real, real, {}),
    ("hinge", binary, real, {}),
    ("hinge", signed, real, {}),
    ("squared_hinge", binary, real, {}),
    ("categorical_hinge", one_hot, real, {}),
    ("kl_divergence", probabilities, probabilities, {}),
    ("poisson", positive, positive, {}),
    ("cosine_similarity", real, real, {}),
    ("binary_crossentropy", binary, unnormalized, {}),
    ("binary_crossentropy", binary, unnormalized, {"label_smoothing": 0.2}),
    ("binary_crossentropy", binary, real, {"from_logits": True}),
    ("binary_crossentropy", probabilities, real, {"from_logits": True, "label_smoothing": 0.1}),
    ("categorical_crossentropy", one_hot, unnormalized, {}),
    ("categorical_crossentropy", one_hot, unnormalized, {"label_smoothing": 0.2}),
    ("categorical_crossentropy", positive, real, {"from_logits": True}),
    ("sparse_categorical_crossentropy", labels, unnormalized, {}),
    ("sparse_categorical_crossentropy", labels, real, {"from_logits": True}),
    ("sparse_categorical_crossentropy", labels, unnormalized, {"ignore_class": 1}),
]


@pytest.mark.parametrize(("name", "draw_true", "draw_pred", "options"), LOSS_CASES)
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_loss_gradient(name, draw_true, draw_pred, options, reduction, rng):
    shape = (BATCH, TIMESTEPS, 4)
    y_true, y_pred = draw_true(rng, shape), draw_pred(rng, shape)
    weights = rng.uniform(0.5, 2.0, size=(BATCH, TIMESTEPS))
    for extra in ({}, {"sample_weight": weights}, {"sample_weight": weights, "mask": MASK}):
        arguments = {"reduction": reduction, **options, **extra}
        _, gradient = oracle.loss_forward(name, y_true, y_pred, **arguments)
        assert not gradcheck(
            lambda arguments=arguments: oracle.loss_forward(name, y_true, y_pred, **arguments)[0],
            {name: y_pred},
            {name: gradient},
        )


@pytest.mark.parametrize(
    ("name", "y_true", "from_logits"),
    [
        ("binary_crossentropy", [[1.0, 0.0, 1.0]], False),
        ("categorical_crossentropy", [[0.0, 0.0, 1.0]], False),
        ("sparse_categorical_crossentropy", [2], False),
    ],
)
def test_crossentropy_is_clipped(name, y_true, from_logits):
    y_pred = np.array([[1.0, 0.0, 0.0]])
    value, gradient = oracle.loss_forward(name, y_true, y_pred, from_logits=from_logits)
    assert np.isfinite(value)
    np.testing.assert_array_equal(gradient, 0.0)


def test_masked_loss_is_the_mean_over_unmasked_steps(rng):
    y_true, y_pred = rng.normal(size=(2, BATCH, TIMESTEPS, 4))
    value, gradient = oracle.loss_forward("mse", y_true, y_pred, mask=MASK)
    np.testing.assert_allclose(value, ((y_true - y_pred)[MASK] ** 2).mean())
    np.testing.assert_array_equal(gradient[~MASK], 0.0)
    value, gradient = oracle.loss_forward("mse", y_true, y_pred, mask=np.zeros_like(MASK))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


REGULARIZERS = [
    {"class_name": "L1", "config": {"l1": 0.3}},
    {"class_name": "L2", "config": {"l2": 0.2}},
    {"class_name": "L1L2", "config": {"l1": 0.1, "l2": 0.2}},
    {"class_name": "OrthogonalRegularizer", "config": {"factor": 0.5, "mode": "rows"}},
    {"class_name": "OrthogonalRegularizer", "config": {"factor": 0.5, "mode": "columns"}},
]


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_regularizer_gradient(regularizer, rng):
    w = rng.normal(size=(4, 3))
    _, gradient = oracle.regularize(regularizer, w)
    assert not gradcheck(lambda: oracle.regularize(regularizer, w)[0], {"w": w}, {"w": gradient})


@pytest.mark.parametrize("name", oracle.OPTIMIZERS)
def test_optimizer_reaches_a_minimum(name, rng):
    target = rng.normal(size=(3, 2))
    weights, slots = [np.zeros((3, 2))], [{}]
    rate = 2.0 if name == "Adadelta" else 0.05
    options = {"weight_decay": 0.0} if name == "AdamW" else {}
    for step in range(1, 2001):
        gradients = [weights[0] - target]
        weights = oracle.optimizer_step(
            name, weights, gradients, slots, step, learning_rate=rate, **options
        )
    np.testing.assert_allclose(weights[0], target, atol=0.05)


@pytest.mark.parametrize("kind", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_clipping_leaves_small_gradients_alone(kind, rng):
    gradients = [rng.normal(size=(3, 2)), rng.normal(size=4)]
    for kept, gradient in zip(
        oracle.clip_gradients(gradients, **{kind: 100.0}), gradients, strict=True
    ):
        np.testing.assert_allclose(kept, gradient)
    clipped = oracle.clip_gradients(gradients, **{kind: 0.1})
    norms = [np.sqrt((g**2).sum()) for g in clipped]
    if kind == "clipnorm":
        np.testing.assert_allclose(norms, 0.1)
    elif kind == "global_clipnorm":
        np.testing.assert_allclose(np.hypot(*norms), 0.1)
    else:
        assert max(abs(g).max() for g in clipped) == 0.1


def layer(class_name, **config):
    return {"class_name": class_name, "config": {"name": class_name.lower(), **config}}


def lstm(units, **config):
    return layer(
        "LSTM",
        **{
            "units": units,
            "activation": "tanh",
            "recurrent_activation": "sigmoid",
            "use_bias": True,
            "return_sequences": True,
            "go_backwards": False,
            "stateful": False,
            **config,
        },
    )


def lstm_weights(rng, features, units):
    shapes = (features, 4 * units), (units, 4 * units), (4 * units,)
    return [rng.normal(size=shape, scale=0.5) for shape in shapes]


def test_sequential_gradient(rng):
    """Masking, stacked and bidirectional LSTMs, normalization, penalties and the loss mask."""
    penalty = {"class_name": "L1L2", "config": {"l1": 0.01, "l2": 0.02}}
    backward = lstm(2, go_backwards=True)
    backward["config"]["name"] = "backward_lstm"
    config = {
        "layers": [
            layer("InputLayer"),
            layer("Masking", mask_value=0.0),
            lstm(4, kernel_regularizer=penalty, activity_regularizer=penalty),
            layer("Bidirectional", merge_mode="mul", layer=lstm(2), backward_layer=backward),
            layer(
                "BatchNormalization",
                axis=-1,
                momentum=0.9,
                epsilon=1e-3,
                center=True,
                scale=True,
                gamma_regularizer=penalty,
            ),
            layer("TimeDistributed", layer=layer("Dense", use_bias=True, activation="tanh")),
            layer("Dense", use_bias=False, activation="softmax"),
        ]
    }
    weights = lstm_weights(rng, FEATURES, 4) + lstm_weights(rng, 4, 2) + lstm_weights(rng, 4, 2)
    weights += [rng.normal(size=2) for _ in range(3)] + [rng.uniform(0.5, 2.0, size=2)]
    weights += [rng.normal(size=(2, 5)), rng.normal(size=5), rng.normal(size=(5, 3))]
    model = oracle.Sequential(config, weights)
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)) * MASK[..., None]
    y = rng.integers(3, size=(BATCH, TIMESTEPS))

    def value():
        return model.loss_and_gradients(x, y, "sparse_categorical_crossentropy")[0]

    _, gradients, dx = model.loss_and_gradients(x, y, "sparse_categorical_crossentropy")
    arrays = {f"weight {i}": model.weights[i] for i in model.trainable}
    assert len(gradients) == len(arrays) == len(weights) - 2
    assert not gradcheck(value, arrays, dict(zip(arrays, gradients, strict=True)), tolerance=1e-5)
    np.testing.assert_array_equal(dx[~MASK], 0.0)
    row = x[0]
    assert not gradcheck(value, {"x": row}, {"x": dx[0]}, tolerance=1e-5)
