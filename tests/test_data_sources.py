"""What other libraries hold data in, as x, y and batches: pandas, PyTorch, TensorFlow."""

import numpy as np
import pytest
import scipy.sparse

import fastrnn
from fastrnn import layers
from fastrnn.data import ArrayBatches, batches

X = np.random.default_rng(0).normal(size=(12, 5, 3)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 2, 12)
FLAT = X.reshape(12, 15)


def trained(x, y=None, flat=False, **options):
    """The weights of a new network after training on x and y."""
    fastrnn.utils.set_random_seed(0)
    network = fastrnn.Sequential([layers.Reshape((5, 3), input_shape=(15,))] if flat else [])
    network.add(layers.LSTM(4, input_shape=(5, 3)))
    network.add(layers.Dense(1, activation="sigmoid"))
    network.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    network.fit(x, y, epochs=2, verbose=0, **options)
    return network


def assert_same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def pd():
    return pytest.importorskip("pandas", reason="reads pandas's frames")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="reads PyTorch's tensors")


@pytest.fixture
def tf():
    return pytest.importorskip("tensorflow", reason="reads TensorFlow's tensors")


@pytest.mark.parametrize("dtype", ["float32", "float64", "Float64"])
def test_pandas(pd, dtype):
    frame = pd.DataFrame(FLAT).astype(dtype)
    frame.index = range(100, 112)
    series = pd.Series(Y, index=range(50, 62))
    weight = np.linspace(0.1, 1, 12)
    network = trained(frame, series, flat=True, sample_weight=pd.Series(weight), batch_size=5)
    assert_same(network, trained(FLAT, Y, flat=True, sample_weight=weight, batch_size=5))
    np.testing.assert_array_equal(
        network.predict(frame, verbose=0), network.predict(FLAT, verbose=0)
    )
    validated = trained(frame, series, flat=True, validation_data=(frame, series.to_frame()))
    assert_same(validated, trained(FLAT, Y, flat=True))


def test_pandas_with_a_part_held_out(pd):
    split = trained(pd.DataFrame(FLAT), pd.Series(Y), flat=True, validation_split=0.25)
    assert_same(split, trained(FLAT, Y, flat=True, validation_split=0.25))


def test_pandas_dtypes(pd):
    def arrays(x, y=None):
        return ArrayBatches(x, y, None, 32, False, fastrnn.Sequential())

    mixed = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    np.testing.assert_array_equal(arrays(mixed).x, [[1, 0.5, 1], [2, 1.5, 0]])
    lacking = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [0.5, 1.5]})
    np.testing.assert_array_equal(arrays(lacking).x, [[1, 0.5], [np.nan, 1.5]])
    whole = arrays(mixed["b"], pd.Series([3, 4], dtype="Int64"))
    assert whole.x.shape == whole.y.shape == (2, 1) and whole.y.dtype == np.int64
    words = pd.DataFrame({"a": [1, 2], "b": ["1", "2"]})
    with pytest.raises(ValueError, match="x: expected columns of numbers, received .'int64', "):
        arrays(words)
    with pytest.raises(ValueError, match="y: expected columns of numbers, received .'category'"):
        arrays(mixed, pd.Series(["u", "v"], dtype="category"))


def test_torch_tensors(torch):
    x = torch.tensor(X, requires_grad=True)
    network = trained(x, torch.tensor(Y), batch_size=5)
    assert_same(network, trained(X, Y, batch_size=5))
    np.testing.assert_array_equal(network.predict(x, verbose=0), network.predict(X, verbose=0))
    half = torch.tensor(X).bfloat16()
    assert_same(trained(half, Y), trained(half.float().numpy(), Y))


def test_torch_loader(torch):
    data = torch.utils.data
    pairs = data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    expected = trained(X, Y, batch_size=5, shuffle=False)
    assert_same(trained(data.DataLoader(pairs, batch_size=5)), expected)

    class Stream(data.IterableDataset):
        def __iter__(self):
            return iter(pairs)

    assert_same(trained(data.DataLoader(Stream(), batch_size=5)), expected)


def test_tensorflow_tensors(tf):
    network = trained(tf.constant(X), tf.constant(Y), batch_size=5)
    assert_same(network, trained(X, Y, batch_size=5))
    np.testing.assert_array_equal(
        network.predict(tf.constant(X), verbose=0), network.predict(X, verbose=0)
    )


def test_tensorflow_dataset(tf):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    expected = trained(X, Y, batch_size=4, shuffle=False)
    assert_same(trained(data), expected)
    assert_same(trained(data.filter(lambda x, y: True)), expected)  # of unknown length
    assert_same(trained(data.repeat(), steps_per_epoch=3), expected)


def test_a_length_that_cannot_be_told():
    class Endless:
        def __len__(self):
            raise TypeError("no length")

        def __iter__(self):
            return iter([(X, Y)])

    data = batches(Endless(), None, None, None, True, fastrnn.Sequential())
    assert data.steps is None and len(list(data)) == 1


def test_arrays_that_are_not_dense():
    flat = scipy.sparse.csr_array(FLAT)
    with pytest.raises(ValueError, match="x: expected a dense array, .* call its toarray"):
        trained(flat, Y, flat=True)
    with pytest.raises(ValueError, match="y: expected a dense array, received coo_array"):
        trained(X, scipy.sparse.coo_array(Y[:, None]))
    assert_same(trained(flat.toarray(), Y, flat=True), trained(FLAT, Y, flat=True))


def test_ragged_tensors(tf):
    with pytest.raises(ValueError, match="x: .* RaggedTensor; call its to_tensor"):
        trained(tf.ragged.constant([[1.0, 2.0], [3.0]]), Y[:2])


@pytest.mark.parametrize("of", ["torch", "pandas"])
def test_validation_split(of, request):
    library = request.getfixturevalue({"torch": "torch", "pandas": "pd"}[of])
    if of == "torch":
        x = library.tensor(FLAT, requires_grad=True)
        y, weight = library.tensor(Y), library.linspace(0.1, 1, 12, dtype=library.bfloat16)
        expected = weight.float().numpy()
    else:
        x = library.DataFrame(FLAT).astype("Float64")
        y, weight = library.Series(Y, dtype="Int64"), library.Series(np.linspace(0.1, 1, 12))
        expected = weight.to_numpy()
    options = {"flat": True, "validation_split": 0.25}
    network = trained(x, y, sample_weight=weight, **options)
    assert_same(network, trained(FLAT, Y, sample_weight=expected, **options))
    history = network.fit(x, y, validation_split=0.25, verbose=0).history
    assert "val_loss" in history
