"""Operations of graphs: shapes, gradients by central differences, configs, errors."""

import json
import re

import numpy as np
import operation_examples as examples
import pytest
from gradcheck import numeric_gradient

import fastrnn
from fastrnn import Input, Model, layers, ops
from fastrnn.gradient_tape import GradientTape
from fastrnn.layers.operation import OPERATIONS
from fastrnn.tape import Traced, gradients, recording
from fastrnn.training import loss_and_gradients
from fastrnn.variable import Variable

NAMES = list(examples.EXAMPLES)


def weights_of(model, seed=1):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.5, w.shape).astype(np.float32) for w in model.weights])


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_arrays_and_shapes_are_true(name):
    model, given = examples.model(fastrnn, [name]), examples.inputs()
    weights_of(model)
    i, j = given
    y, _ = model.predict(given, verbose=0)
    x = model.get_layer("lstm")(i)
    expected = np.asarray(examples.EXAMPLES[name](ops, x, i, j))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    declared = model.output_shape[0]
    assert len(declared) == y.ndim
    assert all(size in (None, n) for size, n in zip(declared, y.shape, strict=True))
    one, two = model.compile_inference()(given), model.predict(given, verbose=0)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_central_differences(name):
    model, given = examples.model(fastrnn, [name]), examples.inputs()
    weights_of(model)
    top = Model(model.inputs, model.outputs[1])
    top.compile("sgd", "mse")
    target = np.random.default_rng(2).normal(size=(3, 3)).astype(np.float32)
    _, gradients, (di, dj) = loss_and_gradients(top, given, target)
    inside = dict(zip((w.path for w in top.trainable_weights), gradients, strict=True))
    assert np.abs(inside["lstm/kernel"]).max() > 0

    def loss():
        y = top.predict([a.astype(np.float32) for a in arrays], verbose=0)
        return float(np.mean(np.square(y.astype(float) - target)))

    arrays = [array.astype(float) for array in given]
    for array, found in zip(arrays, (di, dj), strict=True):
        expected = numeric_gradient(loss, array, 2e-3)
        found = np.zeros_like(array) if found is None else found
        np.testing.assert_allclose(found, expected, atol=2e-3 * max(1, abs(expected).max()))


def test_a_model_of_all_of_them_comes_back(tmp_path):
    model, given = examples.model(fastrnn, NAMES), examples.inputs()
    weights_of(model)
    expected = model.predict(given, verbose=0)
    copies = [fastrnn.models.model_from_json(model.to_json()), fastrnn.models.clone_model(model)]
    for copy in copies:
        copy.set_weights(model.get_weights())
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        copies.append(fastrnn.models.load_model(tmp_path / name))
    for copy in copies:
        for y, y_of_copy in zip(expected, copy.predict(given, verbose=0), strict=True):
            np.testing.assert_array_equal(y, y_of_copy)


@pytest.mark.parametrize("name", examples.CALLS)
def test_derivatives_by_central_differences(name):
    """In float64; Variables and watched arrays give the same, in float32."""
    function, given = examples.CALLS[name], examples.arrays(np.float64)
    factor = np.random.default_rng(4).normal(size=np.shape(function(ops, *given)))
    sources = [Traced(array) for array in given]
    with recording(strict=True):
        y = function(ops, *sources)
    assert y.dtype == np.float64
    found = gradients([(y, factor)])
    weights, watched = [Variable(array) for array in given], [*map(ops.array, examples.arrays())]
    with GradientTape() as tape:
        tape.watch(watched)
        ys = [function(ops, *weights), function(ops, *watched)]
    assert {y.dtype for y in ys} == {np.dtype("float32")}
    in_float32 = tape.gradient(ys, weights + watched, [factor, factor])
    known = 0
    for n, (array, source) in enumerate(zip(given, sources, strict=True)):
        expected = np.empty_like(array)
        for place in np.ndindex(array.shape):
            before, sums = array[place], []
            for step in (1e-6, -1e-6):
                array[place] = before + step
                sums.append(np.sum(function(ops, *given) * factor))
            array[place] = before
            expected[place] = (sums[0] - sums[1]) / 2e-6
        if id(source) not in found:
            assert in_float32[n] is None and in_float32[n + 4] is None
            np.testing.assert_allclose(expected, 0, atol=1e-12)
            continue
        known += 1
        np.testing.assert_allclose(found[id(source)], expected, rtol=2e-5, atol=1e-7)
        largest = max(1, np.abs(expected).max())
        for other in (in_float32[n], in_float32[n + 4]):
            np.testing.assert_allclose(other, expected, atol=3e-4 * largest)
    assert known


@pytest.mark.parametrize("name", [*examples.CALLS, *examples.FLAT])
def test_shapes_of_symbolic_tensors(name):
    """Those of arrays; or a sentence that says that there is no step of a graph."""
    function, given = {**examples.CALLS, **examples.FLAT}[name], examples.arrays()
    tensors = [Input(batch_shape=array.shape) for array in given]
    try:
        y = function(ops, *tensors)
    except ValueError as error:
        assert re.search(
            r"expected (arrays|an array), received the output|num_segments", str(error)
        )
        return
    expected = function(ops, *given)
    if hasattr(y, "shape") and hasattr(y, "node"):
        assert y.shape == expected.shape
        if y.dtype != "float32":
            assert y.dtype == expected.dtype


@pytest.mark.parametrize("name", examples.FLAT)
def test_what_has_no_derivative(name):
    """It is a constant, or refused by its name; never wrong."""
    function = examples.FLAT[name]
    with recording(strict=True):
        try:
            y = function(ops, *map(Traced, examples.arrays()))
        except TypeError as error:
            assert re.search("no derivative is known of|must not make an array", str(error))
        else:
            parts = y if isinstance(y, (list, tuple)) else [y]
            assert name in ("convert_to_tensor", "array", "i0", "psnr") or not any(
                isinstance(part, Traced) for part in parts
            )


def test_losses_of_lists():
    x = Variable([1.0, 2.0])
    with GradientTape() as tape:
        y = ops.mean([x[0] * 2, ops.sum(x * x)]) + ops.convert_to_tensor([x[1], 3.0])[0]
    np.testing.assert_allclose(tape.gradient(y, x), [2, 3])


def test_a_gradient_of_ones_own():
    @ops.custom_gradient
    def doubled(x, y):
        return x * y, lambda dy: (dy * 10, dy * 100)

    x, y = Variable([1.0, 2.0]), ops.array([3.0, 4.0])
    with GradientTape() as tape:
        tape.watch(y)
        loss = ops.sum(doubled(x, y) * np.float32([1, 2]))
    assert float(loss) == 19
    for found, expected in zip(tape.gradient(loss, [x, y]), ([10, 20], [100, 200]), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert doubled(x, y).numpy().tolist() == [3, 8]


@pytest.mark.parametrize("name", sorted(ops.LACKING))
def test_what_ops_lacks_says_what_there_is(name):
    with pytest.raises(AttributeError, match=f"no attribute '{name}'; .*{ops.LACKING[name]}"):
        getattr(ops, name)


def test_free_sizes():
    x = Input((None, 4))
    for y, shape in (
        (ops.mean(x, axis=1), (None, 4)),
        (ops.reshape(x, (-1, 8)), (None, 8)),
        (x + np.zeros((7, 1)), (None, 7, 4)),
        (x[:, 1:], (None, None, 4)),
        (ops.concatenate([x, x], axis=1), (None, None, 4)),
        (ops.split(x, 2, axis=1)[0], (None, None, 4)),
        (ops.expand_dims(x, -1), (None, None, 4, 1)),
        (ops.matmul(x, ops.transpose(x, (0, 2, 1))), (None, None, None)),
        (ops.sum(x), ()),
    ):
        assert y.shape == shape
    assert (x > 0).dtype == "bool"
    assert ops.argmax(x, axis=-1).dtype == "int32"
    assert ops.cast(x, "int32").dtype == "int32"


def test_masks_end_at_operations():
    indices = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    tokens = Input((4,))
    embedding = layers.Embedding(5, 3, mask_zero=True)
    x = embedding(tokens)
    masked, not_masked = Model(tokens, layers.LSTM(2)(x)), Model(tokens, layers.LSTM(2)(x * 1.0))
    not_masked.set_weights(masked.get_weights())
    vectors = np.asarray(embedding(indices))  # without the mask
    np.testing.assert_allclose(
        not_masked.predict(indices, verbose=0), not_masked.layers[-1](vectors), atol=1e-6
    )
    assert np.abs(masked.predict(indices, verbose=0) - not_masked.predict(indices)).max() > 1e-3


def test_whole_numbers_and_truth_between_operations():
    tokens = Input((3,))
    counts = ops.sum(ops.cast(ops.not_equal(tokens, 0), "float32"), axis=1, keepdims=True)
    picked = ops.one_hot(ops.cast(tokens, "int32"), 4)
    either = ops.logical_or(tokens > 2, ops.logical_not(tokens > 0))
    model = Model(tokens, [counts, picked, either, ops.argmax(picked, axis=-1)])
    x = np.array([[3, 0, 1], [2, 2, 0]])
    for y, expected in zip(
        model.predict(x, verbose=0),
        ((x != 0).sum(1)[:, None], np.eye(4)[x], (x > 2) | (x == 0), x),
        strict=True,
    ):
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    "use, message",
    [
        (lambda x: x + np.zeros((2, 3, 5)), "operation 'add.*: expected shapes that can be"),
        (lambda x: ops.reshape(x, (7,)), "newshape: expected"),
        (lambda x: ops.mean(x, axis=3), "axis: expected axes of 3, received 3"),
        (lambda x: x[:, 9], "index 9 is out of bounds"),
        (lambda x: ops.matmul(x, x), "expected .*n, k"),
        (lambda x: ops.concatenate([x, x[:, 0]]), "expected shapes that differ in axis"),
        (lambda x: ops.one_hot(x, 3, sparse=True), "sparse: expected False"),
        (lambda x: ops.norm(x, ord=3), "ord: expected a norm of 3 axes, received 3"),
        (lambda x: ops.einsum("ab->a", x), "einsum"),
        (lambda x: ops.clip(x, x, 1), "x_min: expected no output of a layer"),
    ],
)
def test_what_does_not_fit(use, message):
    x = layers.LSTM(4, return_sequences=True)(Input((6, 3)))
    with pytest.raises(ValueError, match=message):
        y = use(x)
        Model(y.node.inputs[0].node.inputs[0], y).predict(np.zeros((2, 6, 3)), verbose=0)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda entry: entry.update(class_name="Nothing"), "unknown operation 'Nothing'"),
        (lambda entry: entry["config"].update(axis="x"), "operation 'mean"),
        (lambda entry: entry["config"].update(other=1), "unknown arguments .'other'"),
        (lambda entry: entry["config"].update(axis={"class_name": "f"}), "expected numbers or sl"),
        (lambda entry: entry["inbound_nodes"][0].update(kwargs={"x": 1}), "expected args alone"),
        (lambda entry: entry["inbound_nodes"][0]["args"].append({}), "expected numbers or slices"),
    ],
)
def test_damaged_configs(change, message):
    x = Input((6, 3), name="x")
    described = json.loads(Model(x, [ops.mean(layers.LSTM(4)(x), axis=1), x]).to_json())
    (entry,) = [e for e in described["config"]["layers"] if e["class_name"] == "Mean"]
    change(entry)
    with pytest.raises(ValueError, match=message):
        fastrnn.models.model_from_json(json.dumps(described))


def test_configs_take_no_memory(monkeypatch):
    x = Input((6, 3), name="x")
    y = ops.repeat(x, 2, axis=1)
    for _ in range(30):
        y = ops.concatenate([y, y], axis=1)
    assert y.shape == (None, 12 * 2**30, 3)
    assert ops.one_hot(x, 10**12).shape == (None, 6, 3, 10**12)


def test_classes_of_keras():
    assert len(OPERATIONS) > 80
    for name, cls in OPERATIONS.items():
        assert cls.__name__ == name
        assert cls.module.startswith("keras.src.ops.")
