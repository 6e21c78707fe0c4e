"""Layers that make one array of several, against float64: values, gradients, masks, errors."""

import numpy as np
import pytest
from gradcheck import gradcheck

import fastrnn
from fastrnn import Input, Model
from fastrnn import layers as L
from fastrnn.run import Run

SHAPES = {
    "same": [(3, 4, 5), (3, 4, 5)],
    "one": [(3, 4, 5)],
    "three": [(3, 5), (3, 5), (3, 5)],
    "of one step": [(3, 4, 5), (3, 1, 5)],
    "of one feature": [(3, 4, 1), (3, 4, 5)],
    "both ways": [(3, 4, 1), (3, 1, 5)],
    "ranks": [(3, 5), (3, 4, 5), (3, 1)],
    "ranks of the same sizes": [(3, 5), (3, 1, 5), (3, 1, 1, 5)],
    "numbers": [(3,), (3, 4)],
}


def expand(arrays):
    rank = max(a.ndim for a in arrays)
    return [a.reshape(a.shape[0], *(1,) * (rank - a.ndim), *a.shape[1:]) for a in arrays]


def fold(function):
    def reference(*arrays):
        first, *others = expand(arrays)
        for other in others:
            first = function(first, other)
        return first

    return reference


REFERENCES = {
    "Add": fold(np.add),
    "Average": lambda *arrays: fold(np.add)(*arrays) / len(arrays),
    "Subtract": fold(np.subtract),
    "Multiply": fold(np.multiply),
    "Maximum": fold(np.maximum),
    "Minimum": fold(np.minimum),
}


def batch_dot(a, b):
    """The axes given here, as Dot(a) and Dot((a, b)) has them, one sample after the other."""

    def reference(x, y):
        left, right = a % x.ndim, b % y.ndim
        out = [np.tensordot(p, q, (left - 1, right - 1)) for p, q in zip(x, y, strict=True)]
        return np.array(out).reshape(len(x), *(np.shape(out[0]) or (1,)))

    return reference


def cosine(a, b):
    def reference(x, y):
        x = x / np.sqrt((x**2).sum(axis=a, keepdims=True))
        y = y / np.sqrt((y**2).sum(axis=b, keepdims=True))
        return batch_dot(a, b)(x, y)

    return reference


def check(layer, arrays, reference, masks=None):
    """The output, and all gradients by central differences of the reference."""
    arrays = [np.asarray(a, np.float32) for a in arrays]
    exact = [a.astype(np.float64) for a in arrays]
    expected = reference(*exact)
    layer.build([(None, *a.shape[1:]) for a in arrays])
    shape = layer.compute_output_shape([a.shape for a in arrays])
    run = Run(training=True)
    weight = np.random.default_rng(4).standard_normal(expected.shape)
    for _ in range(2):  # in the same memory
        given = [a.copy() for a in arrays]
        y = layer.forward(given, run, masks)
        assert (y.shape, y.dtype, y.flags.c_contiguous) == (shape, np.float32, True)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        gradients = layer.backward(weight.astype(np.float32), run)
        for before, after in zip(arrays, given, strict=True):
            np.testing.assert_array_equal(before, after)
    for i, gradient in enumerate(gradients):
        assert gradient.dtype == np.float32 and gradient.flags.c_contiguous
        assert not any(np.shares_memory(gradient, other) for other in gradients[:i])
    names = [f"input {i}" for i in range(len(exact))]
    wrong = gradcheck(
        lambda: (reference(*exact) * weight).sum(),
        dict(zip(names, exact, strict=True)),
        dict(zip(names, gradients, strict=True)),
        tolerance=1e-5,
    )
    assert not wrong


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_place_by_place(name, shapes, rng):
    shapes = SHAPES[shapes]
    if name == "Subtract" and len(shapes) != 2:
        shapes = (shapes * 2)[:2]
    check(getattr(L, name)(), [rng.standard_normal(s) for s in shapes], REFERENCES[name])


@pytest.mark.parametrize("axis", [-1, 1, 2, -2])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_concatenate(count, axis, rng):
    arrays = []
    for i in range(count):
        shape = [3, 4, 5]
        shape[axis] = 1 + i
        arrays.append(rng.standard_normal(shape))
    check(L.Concatenate(axis), arrays, lambda *xs: np.concatenate(xs, axis=axis))


def test_concatenated_batches(rng):
    arrays = rng.standard_normal((3, 5)), rng.standard_normal((2, 5))
    check(L.Concatenate(0), arrays, lambda *xs: np.concatenate(xs))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    "axes, shapes",
    [
        (1, [(3, 4), (3, 4)]),
        (-1, [(3, 4), (3, 4)]),
        (-1, [(3, 2, 4), (3, 5, 4)]),
        (1, [(3, 4, 2), (3, 4, 5)]),
        ((2, 1), [(3, 5, 4), (3, 4, 2)]),
        ([1, 2], [(3, 4, 2), (3, 5, 4)]),
        ((-1, 1), [(3, 5, 4), (3, 4)]),
        ((1, -1), [(3, 4), (3, 5, 4)]),
        (2, [(3, 2, 4, 5), (3, 6, 4, 2)]),
        ((3, 1), [(3, 2, 5, 4), (3, 4, 2, 3)]),
        ((-3, -1), [(3, 4, 2, 5), (3, 4)]),
    ],
)
def test_dot(axes, shapes, normalize, rng):
    pair = (axes, axes) if isinstance(axes, int) else axes
    reference = (cosine if normalize else batch_dot)(*pair)
    check(L.Dot(axes, normalize), [rng.standard_normal(s) for s in shapes], reference)


def test_dot_of_zeros():
    x = np.zeros((2, 3), np.float32)
    x[0] = 1e-8
    y = np.ones((2, 3), np.float32)
    layer, run = L.Dot(1, True), Run(training=True)
    found = layer.forward([x, y], run)
    np.testing.assert_allclose(found, [[0.3 / np.sqrt(3)], [0]], rtol=1e-5)
    dx, dy = layer.backward(np.ones((2, 1), np.float32), run)
    np.testing.assert_allclose(dx, np.full((2, 3), 1e7 / np.sqrt(3)), rtol=1e-5)
    assert np.isfinite(dy).all()


# --- masks ----------------------------------------------------------------------------------------

MASKED = {
    "all": [True, True, True],
    "not the first": [False, True, True],
    "the first alone": [True, False, False],
    "the last alone": [False, False, True],
}


def mask_of(rng, which, shapes):
    return [
        rng.random((shape[0], shape[1])) < 0.5 if masked else None
        for shape, masked in zip(shapes, which, strict=True)
    ]


def product_reference(masks):
    def reference(*arrays):
        shape = np.broadcast_shapes(*[a.shape for a in arrays])
        y = np.ones(shape)
        for array, mask in zip(arrays, masks, strict=True):
            y = y * (array if mask is None else np.where(mask[..., None], array, 1))
        if all(mask is not None for mask in masks):
            y = y * np.any(np.broadcast_arrays(*masks), axis=0)[..., None]
        return y

    return reference


def extreme_reference(masks, largest):
    def reference(*arrays):
        shape = np.broadcast_shapes(*[a.shape for a in arrays])
        wide = [np.broadcast_to(a, shape) for a in arrays]
        counts = [
            np.ones(shape[:2], bool) if m is None else np.broadcast_to(m, shape[:2]) for m in masks
        ]
        y = np.empty(shape)
        for place in np.ndindex(*shape):
            seen = [a[place] for a, c in zip(wide, counts, strict=True) if c[place[:2]]]
            y[place] = (max if largest else min)(seen or [wide[0][place]])
        return y

    return reference


@pytest.mark.parametrize("shapes", [[(3, 4, 2)] * 3, [(3, 4, 1), (3, 1, 2), (3, 4, 2)]])
@pytest.mark.parametrize("which", MASKED)
@pytest.mark.parametrize("name", ["Multiply", "Maximum", "Minimum", "Add", "Average"])
def test_values_at_masked_steps(name, which, shapes, rng):
    masks = mask_of(rng, MASKED[which], shapes)
    if name == "Multiply":
        reference = product_reference(masks)
    elif name in ("Add", "Average"):
        reference = REFERENCES[name]
    else:
        reference = extreme_reference(masks, name == "Maximum")
    check(getattr(L, name)(), [rng.standard_normal(s) for s in shapes], reference, masks)


def test_masks():
    x = np.ones((2, 3, 4), np.float32)
    one = np.array([[True, True, False], [True, False, False]])
    other = np.array([[False, True, False], [True, True, False]])
    for name in REFERENCES:
        layer = getattr(L, name)()
        assert layer.compute_mask([x, x]) is None
        assert layer.compute_mask([x, x], [one, None]) is None
        np.testing.assert_array_equal(layer.compute_mask([x, x], [one, other]), one | other)
    np.testing.assert_array_equal(  # a step of one sample for all
        L.Add().compute_mask([x, x[:, :1]], [one, other[:, :1]]), one | other[:, :1]
    )
    np.testing.assert_array_equal(  # a whole sample
        L.Add().compute_mask([x, x[:, 0]], [one, other[:, 0]]), one | other[:, :1]
    )
    assert L.Dot(1).compute_mask([x, x], [one, other]) is None

    side, after = L.Concatenate(), L.Concatenate(1)
    assert side.compute_mask([x, x], [None, None]) is None
    np.testing.assert_array_equal(side.compute_mask([x, x], [one, other]), one | other)
    assert side.compute_mask([x, x], [one, None]).all()
    for masks in ([one, other], [None, other], [one, None]):
        expected = np.hstack([np.ones((2, 3), bool) if m is None else m for m in masks])
        np.testing.assert_array_equal(after.compute_mask([x, x], masks), expected)


def test_ties_go_to_the_first():
    x = np.array([[1, 2, 3]], np.float32)
    for layer in (L.Maximum(), L.Minimum()):
        run = Run(training=True)
        layer.forward([x, x.copy(), x.copy()], run)
        first, *others = layer.backward(np.array([[4, 5, 6]], np.float32), run)
        np.testing.assert_array_equal(first, [[4, 5, 6]])
        assert not np.any(others)


# --- calls ----------------------------------------------------------------------------------------


def test_arrays(rng):
    x, y = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(L.Add()([x, y]), x + y)
    np.testing.assert_array_equal(L.add((x, y)).numpy(), x + y)
    np.testing.assert_array_equal(L.subtract([x, y]), x - y)
    np.testing.assert_array_equal(L.multiply([x, y]), x * y)
    np.testing.assert_array_equal(L.average([x, y]), (x + y) / 2)
    np.testing.assert_array_equal(L.maximum([x, y]), np.maximum(x, y))
    np.testing.assert_array_equal(L.minimum([x, y]), np.minimum(x, y))
    np.testing.assert_array_equal(L.concatenate([x, y], axis=1), np.concatenate([x, y], 1))
    np.testing.assert_array_equal(L.concatenate([x, y]), np.concatenate([x, y], -1))
    np.testing.assert_allclose(L.dot([x, y]), x @ y.swapaxes(1, 2), rtol=1e-5)
    np.testing.assert_allclose(L.dot([x, y], 1), x.swapaxes(1, 2) @ y, rtol=1e-5)
    ones = L.dot([x[:, 0], x[:, 0]], axes=1, normalize=True)
    np.testing.assert_allclose(ones, np.ones((3, 1)), rtol=1e-6)
    assert L.Add()([[[1, 2]], [[3, 4]]]).tolist() == [[4, 6]]

    mask = np.arange(4) < 2
    masks = np.array([mask] * 3), np.array([~mask] * 3)
    found = L.Maximum()([x, y], mask=masks)
    np.testing.assert_array_equal(found, np.where(mask[:, None], x, y))
    np.testing.assert_array_equal(L.Maximum()([x, y], mask=[None, None]), np.maximum(x, y))
    with pytest.raises(ValueError, match="mask: expected a list of 2"):
        L.Multiply()([x, y], mask=masks[0])
    with pytest.raises(ValueError, match="mask: expected the first axes of inputs"):
        L.Multiply()([x, y], mask=[masks[0][:, :2], None])


def test_functions_make_layers_of_models():
    x, y = Input((None, 3)), Input((None, 3))
    assert L.add([x, y], name="sum").layer.name == "sum"
    assert L.concatenate([x, y], axis=-1, name="wide").shape == (None, None, 6)
    assert L.dot([x, y], axes=(2, 2), normalize=True).layer.normalize is True


def test_shapes():
    free, five = (None, None, 3), (None, 5, 3)
    assert L.Add().compute_output_shape([free, five]) == free
    assert L.Add().compute_output_shape([(2, 3), five]) == (2, 5, 3)
    assert L.Maximum().compute_output_shape([(None, 5, 1), (None, 1, 3)]) == five
    assert L.Concatenate(1).compute_output_shape([five, five]) == (None, 10, 3)
    assert L.Concatenate(1).compute_output_shape([free, five]) == free
    assert L.Concatenate().compute_output_shape([free, five]) == (None, None, 6)
    assert L.Dot(-1).compute_output_shape([five, free]) == (None, 5, None)
    assert L.Dot((2, 1)).compute_output_shape([five, (None, 3)]) == (None, 5)
    assert L.Dot(1).compute_output_shape([(None, 3), (None, 3)]) == (None, 1)


def test_configs():
    for layer, options in (
        *((getattr(L, name)(name="it"), {}) for name in REFERENCES),
        (L.Concatenate(np.int64(1)), {"axis": 1}),
        (L.Dot(np.int64(1), normalize=True), {"axes": 1, "normalize": True}),
        (L.Dot((1, -1)), {"axes": (1, -1), "normalize": False}),
        (L.Dot([np.int32(1), 2]), {"axes": [1, 2], "normalize": False}),
    ):
        config = layer.get_config()
        assert {key: config[key] for key in list(config)[3:]} == options
        again = L.deserialize(L.serialize(layer))
        assert type(again) is type(layer) and again.get_config() == config


@pytest.mark.parametrize("mode", ["sum", "mul", "ave", "max", "concat", "dot"])
def test_the_spelling_of_keras_1(mode, rng):
    x, y = rng.standard_normal((2, 3, 4)).astype(np.float32)
    expected = {
        "sum": x + y, "mul": x * y, "ave": (x + y) / 2, "max": np.maximum(x, y),
        "concat": np.hstack([x, y]), "dot": (x * y).sum(1, keepdims=True),
    }  # fmt: skip
    found = L.merge([x, y], mode=mode, concat_axis=1, dot_axes=1)
    np.testing.assert_allclose(found, expected[mode], rtol=1e-5, atol=1e-6)


X = np.ones((2, 4, 3))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.Add(name="it")(X), r"layer 'it' \(Add\): expected a list of inputs, received"),
        (lambda: L.Add()([]), "expected at least one input, received 0"),
        (lambda: L.Add()([X, np.ones((2, 5, 3))]), r"that broadcast, received.*\(None, 5, 3\)"),
        (lambda: L.Add()([Input((4, 3)), Input((5, 3))]), "that broadcast, received shapes"),
        (lambda: L.Multiply()([X, X[:1]]), r"batches of one size, received.*\(1, 4, 3\)"),
        (lambda: L.Multiply()([X, 3.0]), "batches of one size"),
        (lambda: L.Subtract()([X] * 3), "expected 2 inputs, received 3"),
        (lambda: L.Subtract()([X]), "expected 2 inputs, received 1"),
        (lambda: L.Subtract()(X), r"expected a list of 2 inputs, received one, of \(None, 4, 3\)"),
        (lambda: L.Concatenate()(X), "expected a list of inputs, received one"),
        (lambda: L.Concatenate()(Input((3,))), "expected a list of inputs, received one"),
        (lambda: L.Concatenate()([]), "expected at least one input, received 0"),
        (lambda: L.Concatenate(1)([X, np.ones((2, 4, 2))]), "differ in axis 1 alone, received"),
        (lambda: L.Concatenate()([X, np.ones((2, 3))]), "differ in axis -1 alone, received"),
        (lambda: L.Concatenate()([X, X[:1]]), "batches of one size"),
        (lambda: L.Concatenate(3)([X, X]), "with an axis 3, received"),
        (lambda: L.Concatenate(1.5), "axis: expected a whole number, received 1.5"),
        (lambda: L.Dot(1)([X]), "expected 2 inputs, received 1"),
        (lambda: L.Dot(1)(X), "expected a list of 2 inputs, received one"),
        (lambda: L.Dot(0)([X, X]), "with an axis 0 beside the batch"),
        (lambda: L.Dot((1, -3))([X, X]), "with an axis -3 beside the batch"),
        (lambda: L.Dot(3)([X, X]), "with an axis 3 beside the batch"),
        (lambda: L.Dot(-1)([X[:, 0, 0], X[:, 0, 0]]), "with an axis -1 beside the batch"),
        (lambda: L.Dot((1, 2))([X, X]), r"the same sizes in axes \(1, 2\), received shapes"),
        (lambda: L.Dot((1, 2, 3)), r"axes: expected .*received \(1, 2, 3\)"),
        (lambda: L.Dot((1.0, 2)), r"axes: expected .*received \(1.0, 2\)"),
        (lambda: L.Dot(1, normalize="l2"), "normalize: expected True or False, received 'l2'"),
        (lambda: L.Add().compute_mask([X, X], X), "expected a list of 2 masks.*received ndarray"),
        (lambda: L.Concatenate().compute_mask([X, X], [None]), "of 2 masks.*received 1"),
        (lambda: L.merge([X, X], mode="cos"), r"mode: expected.*; Dot\(axes, normalize=True\)"),
        (lambda: L.merge([X, X], mode=lambda x: x), "mode: expected one of .*function"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types():
    with pytest.raises(TypeError, match="axes: expected a whole number or two of them.*'x'"):
        L.Dot("x")
    with pytest.raises(ValueError, match="unknown arguments"):
        L.Add(axis=1)


# --- models ---------------------------------------------------------------------------------------

EACH = {
    **{name: getattr(L, name) for name in REFERENCES},
    "Concatenate": L.Concatenate,
    "Concatenate steps": lambda: L.Concatenate(1),
    "Dot": lambda: L.Dot(2),
    "Dot normalized": lambda: L.Dot(1, True),
}


def branches(merge, mask_zero=True):
    tokens = Input((6,), dtype="int32")
    x = L.Embedding(9, 4, mask_zero=mask_zero)(tokens)
    y = L.Bidirectional(L.GRU(2, return_sequences=True))(x)
    z = merge([x, y, y] if merge._number is None else [x, y])
    return Model(tokens, L.Dense(1)(L.LSTM(3)(z)))


@pytest.mark.parametrize("name", EACH)
def test_training(name, rng):
    fastrnn.utils.set_random_seed(1)
    model = branches(EACH[name]())
    x, y = rng.integers(0, 9, (16, 6)), rng.standard_normal((16, 1))
    model.compile(fastrnn.optimizers.Adam(0.02), "mse")
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=5, verbose=0)
    assert model.evaluate(x, y, verbose=0) < before


@pytest.mark.parametrize("name", EACH)
def test_compiled_inference(name, rng):
    model = branches(EACH[name](), mask_zero=False)
    predictor = model.compile_inference()
    for _ in range(2):
        x = rng.integers(0, 9, (5, 6))
        np.testing.assert_allclose(predictor(x), model.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("mask_zero", [False, True])
def test_tokens_side_by_side(mask_zero, rng):
    """Indices that pass through another layer on their way to an Embedding."""
    tokens = Input((6,), dtype="int32")
    both = L.Concatenate()([tokens, tokens])
    model = Model(tokens, L.LSTM(3)(L.Embedding(9, 4, mask_zero=mask_zero)(both)))
    chain = fastrnn.Sequential([L.Reshape((12,)), *model.layers[-2:]])
    x = rng.integers(0, 9, (5, 6))
    twice = np.hstack([x, x])
    direct = model.layers[-1](model.layers[-2](twice), mask=twice != 0 if mask_zero else None)
    for found in (
        model.predict(x, verbose=0),
        model.compile_inference()(x),
        chain.predict(twice, verbose=0),
    ):
        np.testing.assert_allclose(found, direct, atol=1e-6)
    predictor = chain.compile_inference()
    for given in (twice, twice[:, ::-1]):
        np.testing.assert_allclose(predictor(given), chain.predict(given, verbose=0), atol=1e-6)
