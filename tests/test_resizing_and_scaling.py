"""Layers that lengthen, shorten and scale sequences, against float64."""

import numpy as np
import pytest
from test_conv_pooling_norm import check

import fastrnn
from fastrnn import layers as L

FORMATS = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 6, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_up_sampling(size, x):
    check(L.UpSampling1D(size), x, lambda x: np.repeat(x, size, axis=1))


@FORMATS
@pytest.mark.parametrize("padding", [0, 2, (3, 0), [0, 1], (1, 4)])
def test_zero_padding(padding, data_format, x):
    ends = (padding, padding) if isinstance(padding, int) else tuple(padding)
    check(L.ZeroPadding1D(padding, data_format), x, lambda x: np.pad(x, ((0, 0), ends, (0, 0))))


@pytest.mark.parametrize("cropping", [0, 1, (2, 0), [0, 5], (1, 3)])
def test_cropping(cropping, x):
    before, after = (cropping, cropping) if isinstance(cropping, int) else cropping
    check(L.Cropping1D(cropping), x, lambda x: x[:, before : 6 - after])


@pytest.mark.parametrize("offset", [0, -1, [1, 2, 3], np.arange(6)[:, None]])
@pytest.mark.parametrize("scale", [2, 1 / 255, np.arange(3), np.linspace(-1, 1, 18).reshape(6, 3)])
def test_rescaling(scale, offset, x):
    check(L.Rescaling(scale, offset), x, lambda x: x * scale + offset)


def test_identity(x):
    check(L.Identity(), x, lambda x: x)


def test_images_of_whole_numbers():
    x = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    y = L.Rescaling(1.0 / 127.5, offset=-1)(x)
    assert y.dtype == np.float32 and (y.min(), y.max()) == (-1, 1)


def test_masks_passed_on_and_dropped(x):
    mask = np.ones((2, 6), bool)
    for layer in (L.Identity(), L.Rescaling(2)):
        assert layer.compute_mask(x, mask) is mask
    for layer in (L.UpSampling1D(), L.ZeroPadding1D(), L.Cropping1D()):
        assert layer.compute_mask(x, mask) is None


def test_a_model_of_all_of_them(x):
    model = fastrnn.Sequential(
        [
            fastrnn.Input((None, 3)),
            L.Identity(),
            L.Rescaling(0.5, [1, 2, 3]),
            L.ZeroPadding1D((2, 0)),
            L.Conv1D(4, 3),
            L.UpSampling1D(2),
            L.LSTM(5, return_sequences=True),
            L.Cropping1D((0, 1)),
            L.TimeDistributed(L.Rescaling(2)),
        ]
    )
    assert model.output_shape == (None, None, 5)
    expected = model.predict(x, verbose=0)
    assert expected.shape == (2, 11, 5)
    predictor = model.compile_inference()
    for _ in range(2):
        np.testing.assert_allclose(predictor(x), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(predictor(-x), model.predict(-x, verbose=0))
    model.compile("adam", "mse")
    before = model.evaluate(x, np.zeros_like(expected), verbose=0)
    model.fit(x, np.zeros_like(expected), epochs=5, verbose=0)
    assert model.evaluate(x, np.zeros_like(expected), verbose=0) < before


def test_older_spellings():
    assert L.UpSampling1D(length=3).size == 3
    assert L.ZeroPadding1D({"left_pad": 2}).padding == (2, 0)
    assert L.ZeroPadding1D({"left_pad": 2, "right_pad": 1}).padding == (2, 1)


def test_numbers_of_numpy():
    assert L.UpSampling1D(np.int64(3)).get_config()["size"] == 3
    assert L.ZeroPadding1D(np.int64(3)).padding == (3, 3)
    assert L.Rescaling(np.float64(0.5)).get_config()["scale"] == 0.5


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.UpSampling1D(0), "size: expected a whole number >= 1, received 0"),
        (lambda: L.UpSampling1D(2.0), "size: expected a whole number >= 1, received 2.0"),
        (lambda: L.UpSampling1D(2)(np.ones((2, 3))), r"\(batch, timesteps, channels\).*None\]"),
        (lambda: L.ZeroPadding1D(-1), "padding: expected a whole number >= 0 or two of them"),
        (lambda: L.ZeroPadding1D((1, 2, 3)), "padding: expected .*two"),
        (lambda: L.ZeroPadding1D({"left": 1}), "padding: expected .*'left': 1"),
        (lambda: L.ZeroPadding1D(1, "last"), "data_format: expected 'channels_last'"),
        (lambda: L.Cropping1D((1.5, 1)), r"cropping: expected .*received \(1.5, 1\)"),
        (lambda: L.Cropping1D({"left_pad": 1}), "cropping: expected"),
        (lambda: L.Cropping1D(2)(np.ones((2, 4, 3))), "with at least 5 time steps, received"),
        (lambda: L.Rescaling("0.1"), "scale: expected a finite number, received '0.1'"),
        (lambda: L.Rescaling([1, np.inf]), "scale: expected finite numbers"),
        (lambda: L.Rescaling(np.array([1e300])), "scale: expected finite numbers"),
        (lambda: L.Rescaling([1], [[1, 2], [3]]), "offset: expected finite numbers"),
        (lambda: L.Rescaling([1, 2, 3], [1, 2]), r"scale, offset: .*\(3,\) and \(2,\)"),
        (lambda: L.Rescaling([1, 2])(np.ones((2, 3))), r"fit scale and offset, \(2,\), received"),
        (lambda: L.Rescaling(np.ones((3, 2)))(np.ones((3, 2))), r"offset, \(3, 2\), received"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_arrays_in_configs():
    def layer(value, dtype):
        return L.Rescaling({"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}})

    for dtype in ("float64", "float16", "int32", "uint8"):
        made = layer([1, 2], dtype)
        assert made.scale.dtype == dtype and made.scale.tolist() == [1, 2]
        assert (
            made.get_config() == L.Rescaling(np.array([1, 2], dtype), name=made.name).get_config()
        )
    assert layer([1.0, 2], "(10000000000,)f8").scale.shape == (2,)  # no dtype that makes it large
    with pytest.raises(ValueError, match="scale: expected finite numbers"):
        layer([["a"]], "object")


def test_branches_of_a_graph(rng):
    """What passes its gradient on must not share it with another branch."""
    inputs = fastrnn.Input((6, 3))
    x = L.Dense(3)(inputs)
    branches = [
        L.Identity()(x),
        x,
        L.Rescaling(2)(x),
        L.Cropping1D(0)(x),
        L.ZeroPadding1D(0)(x),
        L.UpSampling1D(1)(x),
        L.Identity()(L.Normalization(mean=1, variance=4)(x)),
    ]
    model = fastrnn.Model(inputs, L.Add()(branches))
    plain = fastrnn.Sequential([fastrnn.Input((6, 3)), L.Dense(3), L.Rescaling(7.5, -0.5)])
    plain.set_weights(model.get_weights())
    data, target = rng.standard_normal((2, 4, 6, 3)).astype(np.float32)
    results = []
    for made in (model, plain):
        made.compile("sgd", "mse")
        results.append(fastrnn.training.loss_and_gradients(made, data, target))
    (loss, gradients, _), (expected, wanted, _) = results
    assert loss == pytest.approx(expected, rel=1e-5)
    for one, other in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
