"""The kernels of Dense, at sizes for which rows, or columns of the weights, go to threads."""

import numpy as np
import pytest

from fastrnn import _engine

SIZES = [  # rows, inputs, units
    (1, 300, 1000), (20, 512, 4000), (97, 400, 701), (200, 1100, 257), (1536, 200, 1000),
    (1537, 200, 1000), (5, 8000, 300), (300, 700, 3), (7, 3, 5), (9, 500, 1),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_forward_and_backward(size, isa, threads, rng):
    rows, inputs, units = size
    x = rng.normal(size=(rows, inputs))
    weights = rng.normal(size=(inputs, units)) / inputs**0.5
    bias, dy = rng.normal(size=units), rng.normal(size=(rows, units))
    x, weights, bias, dy = (array.astype(np.float32) for array in (x, weights, bias, dy))
    packed = _engine.PackedDense(inputs, units)
    packed.pack(weights, bias, True)
    for activation, function, slope in (
        ("linear", lambda z: z, lambda y: 1.0),
        ("tanh", np.tanh, lambda y: 1 - y * y),
    ):
        code = _engine.ACTIVATIONS[activation]
        y = np.empty((rows, units), np.float32)
        packed.forward(y, x, code)
        exact = function(x.astype(float) @ weights + bias)
        np.testing.assert_allclose(y, exact, rtol=0, atol=2e-5)
        dz = dy * slope(exact)
        expected = dz @ weights.T.astype(float), x.T.astype(float) @ dz, dz.sum(axis=0)
        for wanted in (True, False):
            found = [np.full(array.shape, 7, np.float32) for array in expected]
            dx, dweights, dbias = found
            given = dy.copy()
            optional = [dx, dbias] if wanted else [None, None]
            packed.backward(optional[0], dweights, optional[1], given, x, y, code)
            np.testing.assert_allclose(given, dz, rtol=0, atol=2e-5)
            for one, other in zip(found, expected, strict=True):
                if one is dweights or wanted:
                    assert np.abs(one - other).max() < 1e-5 * max(1, np.abs(other).max())
