"""Operations of graphs against Keras: values, three steps of training, files both ways."""

import importlib
import inspect

import numpy as np
import operation_examples as examples
import pytest

import fastrnn
from fastrnn.gradient_tape import GradientTape
from fastrnn.layers.operation import OPERATIONS

keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")
tf = pytest.importorskip("tensorflow", reason="compares with Keras on TensorFlow")

# Keras saves TensorFlow's variables.
# Keras reads `...` from no .h5 file, and wrote none that it can read itself.
NAMES = [name for name in examples.EXAMPLES if name != "x[..., None]"]


def compiled(module):
    model = examples.model(module, NAMES)
    model.compile(module.optimizers.SGD(0.05), ["mse"] * len(model.outputs))
    return model


def test_values_training_and_files(tmp_path, tally):
    ours, theirs = compiled(fastrnn), compiled(keras)
    rng, given = np.random.default_rng(3), examples.inputs()
    weights = [rng.normal(0, 0.5, w.shape).astype(np.float32) for w in theirs.weights]
    for model in (ours, theirs):
        model.set_weights(weights)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    expected = theirs.predict(given, verbose=0)
    theirs.save(tmp_path / "theirs.keras")
    theirs.save(tmp_path / "theirs.h5")
    ours.save(tmp_path / "ours.keras")
    ours.save(tmp_path / "ours.h5")
    load = keras.models.load_model
    for model in (
        ours,
        fastrnn.models.load_model(tmp_path / "theirs.keras"),
        fastrnn.models.load_model(tmp_path / "theirs.h5", compile=False),
        load(tmp_path / "ours.keras"),
        load(tmp_path / "ours.h5", compile=False),
    ):
        for name, y, y_expected in zip(
            [*NAMES, "top"], model.predict(given, verbose=0), expected, strict=True
        ):
            np.testing.assert_allclose(y, y_expected, rtol=1e-5, atol=2e-6, err_msg=name)
    tally.compared("operations")
    targets = [rng.normal(size=np.shape(y)).astype(np.float32) for y in expected]
    losses = [
        [float(model.train_on_batch(given, targets)[0]) for _ in range(3)]
        for model in (ours, theirs)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)


def tensor_of(array):
    return keras.ops.convert_to_tensor(array)


def numbers(value):
    """What an operation gave, as a list of arrays."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "dtype"):
        return [number for part in value for number in numbers(part)]
    return [np.asarray(value)]


# Keras 3.15.1's own is wrong.
@pytest.mark.parametrize("name", [name for name in examples.CALLS if name != "sparsemax"])
def test_values_and_gradients(name, tally):
    function, given = examples.CALLS[name], examples.arrays()
    theirs = [tensor_of(array) for array in given]
    ours = [fastrnn.ops.array(array) for array in given]
    with tf.GradientTape() as tape:
        tape.watch(theirs)
        expected = function(keras.ops, *theirs)
    with GradientTape() as our_tape:
        our_tape.watch(ours)
        found = function(fastrnn.ops, *ours)
    assert found.dtype.name == expected.dtype.name
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.value, expected, rtol=2e-5, atol=2e-6)
    if name == "slice_update":  # TensorFlow has no derivative
        return
    factor = np.random.default_rng(2).normal(size=found.shape).astype(np.float32)
    gradients = tape.gradient(expected, theirs, tf.constant(factor))
    for one, other in zip(our_tape.gradient(found, ours, factor), gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            other = tf.convert_to_tensor(other).numpy()
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())
    tally.compared("operations")


@pytest.mark.parametrize("name", [*examples.FLAT])
def test_values_without_derivatives(name, tally):
    function, given = examples.FLAT[name], examples.arrays()
    expected = function(keras.ops, *map(tensor_of, given))
    found = function(fastrnn.ops, *map(fastrnn.ops.array, given))
    assert isinstance(found, (list, tuple)) == isinstance(expected, (list, tuple))
    for one, other in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)
        assert one.shape == other.shape and one.dtype == other.dtype
    tally.compared("operations")


@pytest.mark.parametrize("name", examples.WHOLE)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_whole_numbers(name, dtype, tally):
    function, given = examples.WHOLE[name], np.array([[3, 1, 2], [5, 2, 4]], dtype)
    expected = function(keras.ops, tensor_of(given))
    found = function(fastrnn.ops, given)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype.name == expected.dtype.name and found.shape == expected.shape
    tally.compared("operations")


def test_classes_have_keras_names_and_arguments():
    for name, cls in OPERATIONS.items():
        theirs = getattr(importlib.import_module(cls.module), name, None)
        assert theirs, f"{cls.module}.{name}"
        ours = [*inspect.signature(cls.function).parameters]
        known = {*inspect.signature(theirs.__init__).parameters}
        options = [key for key in ours[cls.tensors :]] if cls.tensors else []
        assert {*options} <= known | {"subscripts"}, name
        taken = [*inspect.signature(theirs.call).parameters][1:]
        assert not cls.tensors or len(taken) >= cls.tensors, name


def test_all_names_of_keras():
    lacking = [
        name
        for name in dir(keras.ops)
        if name[0] != "_" and name not in fastrnn.ops.__all__ and name not in fastrnn.ops.LACKING
    ]
    assert lacking == ["linalg", "nn", "numpy"]  # modules of the same functions
    assert {*fastrnn.ops.LACKING} <= {*dir(keras.ops)}
