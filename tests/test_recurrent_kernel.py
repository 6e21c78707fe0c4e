"""The fused recurrent kernels against the float64 oracle, on every instruction set."""

import numpy as np
import oracle
import oracle_cells
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import _engine

CODES = _engine.ACTIVATIONS
VECTOR = {"base": 4, "avx2": 8, "avx512": 16}
ORACLES = {
    "gru": oracle_cells.GRU(reset_after=True),
    "gru_reset_before": oracle_cells.GRU(reset_after=False),
    "simple_rnn": oracle_cells.SimpleRNN(),
}


@pytest.fixture(params=list(_engine.CELLS))
def cell(request):
    return request.param


def close(actual, expected, tolerance):
    scale = np.abs(expected).max() + 0.2  # terms of order 1 may cancel
    worst = np.abs(actual - expected).max() / scale
    assert worst < tolerance, worst


MASKS = ["holes", "left", "right", "both sides", "padding and holes"]


def random_mask(rng, form, batch, timesteps):
    """(batch, timesteps) bool: a length a row, none in the first but for padding on one side."""
    t = np.arange(timesteps)
    if form == "holes":
        mask = rng.random((batch, timesteps)) < 0.6
    else:
        start, end = rng.integers(0, timesteps, (2, batch, 1))
        mask = (form == "right" or t >= start) & (form == "left" or t < end)
        if form == "padding and holes":
            mask &= rng.random((batch, timesteps)) < 0.9
    mask[0] &= form in ("left", "right")
    return mask


def case(rng, batch, timesteps, features, units, masked=None, states=True, cell="lstm"):
    """masked: one of MASKS."""

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    columns = _engine.GATES[cell] * units
    arrays = {
        "cell": cell,
        "x": normal(batch, timesteps, features),
        "kernel": normal(features, columns, scale=features**-0.5),
        "recurrent_kernel": normal(units, columns, scale=units**-0.5),
        "bias": normal(*((2, columns) if cell == "gru" else (columns,)), scale=0.5),
        "h0": normal(batch, units) if states else None,
        "c0": normal(batch, units) if states and cell == "lstm" else None,
        "dy": normal(batch, timesteps, units),
        "dh": normal(batch, units),
        "dc": normal(batch, units) if cell == "lstm" else None,
        "mask": None,
    }
    if masked:
        arrays["mask"] = random_mask(rng, masked, batch, timesteps)
    return arrays


def picked(a, rng, choices):
    """The case with x picked from so many rows."""
    batch, timesteps, features = a["x"].shape
    rows = rng.standard_normal((choices, features)).astype(np.float32)
    index = rng.integers(0, choices, (batch, timesteps)).astype(np.int32)
    return {**a, "rows": rows, "index": index, "x": rows[index]}


def check(a, activation="tanh", recurrent="sigmoid", reverse=False, zero=False, tolerance=2e-6):
    """One direction, forward (both ways of running it) and backward, against the oracle."""
    batch, timesteps, features = a["x"].shape
    units = a["recurrent_kernel"].shape[0]
    cell = a["cell"]
    wide = {k: v.astype(float) for k, v in a.items() if getattr(v, "dtype", None) == np.float32}
    arguments = {
        "activation": activation, "recurrent_activation": recurrent, "mask": a["mask"],
        "h0": wide.get("h0"), "go_backwards": reverse, "zero_output_for_mask": zero,
    }  # fmt: skip
    weights = wide["kernel"], wide["recurrent_kernel"], wide["bias"]
    if cell == "lstm":
        y, h, c, cache = oracle.lstm_forward(wide["x"], *weights, c0=wide.get("c0"), **arguments)
        expected = list(oracle.lstm_backward(wide["dy"], wide["dh"], wide["dc"], cache).values())
    else:
        y, h, cache = oracle_cells.forward(ORACLES[cell], wide["x"], *weights, **arguments)
        c = None
        expected = [*oracle_cells.backward(wide["dy"], wide["dh"], cache).values(), None]
    index = a.get("index")
    if index is not None:
        dx, expected[0] = expected[0], np.zeros(a["rows"].shape)
        np.add.at(expected[0], index, dx)

    packed = _engine.PackedRNN(features, units, cell)
    packed.pack(a["kernel"], a["recurrent_kernel"], a["bias"], True, True)
    order = slice(None, None, -1 if reverse else 1)
    mask = None if a["mask"] is None else a["mask"][:, order]
    run = _engine.RNNRun()
    x, pick = a["x"][:, order], {}
    if index is not None:
        x, pick = a["rows"], {"index": index[:, order], "products": _engine.Products()}
        pick["products"].compute(packed, x)
    for keep in (False, True):
        out = np.full((batch, timesteps, units), np.nan, np.float32)
        last, h_last, c_last = np.full((3, batch, units), np.nan, np.float32)
        c_last = None if c is None else c_last
        run.set_direction(
            0, packed, CODES[activation], CODES[recurrent], x, mask, zero,
            a["h0"], a["c0"], out, last, h_last, c_last, **pick,
        )  # fmt: skip
        run.forward(keep)
        for actual, wanted in ((out, y), (last, y[:, -1]), (h_last, h), (c_last, c)):
            if wanted is not None:
                close(actual, wanted, tolerance)

    gradients = [e if e is None else np.full(e.shape, np.nan, np.float32) for e in expected]
    dx, dkernel, drecurrent, dbias, dh0, dc0 = gradients
    dx = dx if pick else dx[:, order]
    run.set_gradients(0, dkernel, drecurrent, dbias, a["dy"], a["dh"], a["dc"], dx, False, dh0, dc0)
    run.backward()
    for actual, wanted in zip(gradients, expected, strict=True):
        if wanted is not None:
            close(actual, wanted, 5 * tolerance)
    if batch * timesteps > 24:
        return

    packed.pack(a["kernel"], a["recurrent_kernel"], a["bias"])  # and nothing for backward
    if pick:
        pick["products"].compute(packed, x)
    run.forward(keep=True)
    for gradient in gradients:
        if gradient is not None:
            gradient[:] = np.nan
    run.set_gradients(
        0, dkernel, drecurrent, dbias, a["dy"], a["dh"], a["dc"], None, False, dh0, dc0
    )
    assert not run.needs_back(0)
    run.backward()
    for actual, wanted in zip(gradients[1:], expected[1:], strict=True):
        if wanted is not None:
            close(actual, wanted, 5 * tolerance)


def test_every_tile_edge(isa, cell, rng):
    width = VECTOR[isa]
    sizes = {1, 2, 3, width // 4, width - 1, width, width + 1, 2 * width + width // 2 + 1}
    for units in sizes | ({4 * width, 5 * width + 1} if cell == "simple_rnn" else set()):
        for batch in (1, 2, 3, 5, 6, 7, 13, 25):
            check(case(rng, batch, 2, 1 + batch % 4, units, cell=cell))


def test_every_feature_edge(isa, cell, rng):
    for features in (1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 100):
        check(case(rng, 5, 3, features, 18, cell=cell))


def test_large_weights(isa, threads, cell, rng):
    """From 1 MB on they are packed in strips for all but AVX-512."""
    features, units = (30, 523) if cell == "simple_rnn" else (150, 203)
    for batch in (1, 3, 4, 5, 16, 20):
        check(case(rng, batch, 3, features, units, cell=cell), tolerance=4e-6)
    check(picked(case(rng, 4, 3, features, units, "holes", cell=cell), rng, 7), tolerance=4e-6)


def test_many_rows(isa, threads, cell, rng):
    """From 129 a thread on they are cut into several slices."""
    for masked in (None, "padding and holes"):
        check(case(rng, 413, 3, 5, 9, masked, cell=cell), tolerance=4e-6)


def test_blocks_of_steps(isa, cell, rng):
    """Weight gradients and x W are taken for blocks of steps when there are few rows."""
    for timesteps in (11, 12, 13, 31, 32, 33, 50, 95, 97):
        for batch in (1, 2, 3, 4):
            check(case(rng, batch, timesteps, 9, 18, cell=cell))


def test_threads_and_directions_of_time(isa, threads, cell, rng):
    for reverse in (False, True):
        check(case(rng, 37, 30, 40, 36, cell=cell), reverse=reverse)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("form", MASKS)
def test_masks(isa, threads, form, zero, cell, rng):
    for units in (3, 20, 33):
        for reverse in (False, True):
            a = case(rng, 9, 7, 16 if reverse else 5, units, masked=form, cell=cell)
            check(a, reverse=reverse, zero=zero)
    check(case(rng, 41, 13, 40, 20, masked=form, cell=cell), zero=zero)


@pytest.mark.parametrize("form", [None, *MASKS])
def test_rows_picked_by_index(isa, threads, form, cell, rng):
    for units, features in ((3, 1), (20, 5), (33, 40), (64, 16)):
        for batch, timesteps, choices in ((1, 3, 7), (9, 7, 1), (5, 70, 3), (41, 13, 130)):
            a = picked(case(rng, batch, timesteps, features, units, form, cell=cell), rng, choices)
            check(a, reverse=units == 20, zero=units == 33)


def test_picked_rows_give_the_same_bits(isa, cell, rng):
    a = picked(case(rng, 23, 9, 40, 20, cell=cell), rng, 30)
    packed, products = _engine.PackedRNN(40, 20, cell), _engine.Products()
    packed.pack(a["kernel"], a["recurrent_kernel"], a["bias"])
    products.compute(packed, a["rows"])
    outputs = []
    for x, pick in ((a["x"], ()), (a["rows"], (a["index"], products))):
        y, run = np.empty((23, 9, 20), np.float32), _engine.RNNRun()
        run.set_direction(
            0, packed, 3, 2, x, None, False, a["h0"], a["c0"], y, None, None, None, *pick
        )
        run.forward()
        outputs.append(y)
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("activation", CODES)
def test_activations(isa, activation, cell, rng):
    if activation == "hard_sigmoid_keras2":
        pytest.skip("not in the oracle; see test_activations")
    a = case(rng, 5, 4, 7, 21, cell=cell)
    if activation == "exponential":  # keep the recurrence from overflowing
        a = {k: v if v is None or k == "cell" else 0.1 * v for k, v in a.items()}
    # without saturation the recurrence amplifies rounding
    check(a, activation=activation, tolerance=2e-5)
    check(a, recurrent=activation, tolerance=2e-5)


def test_error_of_tanh_and_sigmoid_in_ulp(isa):
    """Every 499th float32 of both signs; the figures found stand in simd.h."""
    bits = np.arange(0, 2**31, 499, dtype=np.int64).astype(np.uint32)
    x = bits.view(np.float32)
    x = np.concatenate([x[np.isfinite(x)], -x[np.isfinite(x)]])
    wide, e = x.astype(float), np.exp(-np.abs(x.astype(float)))
    tiny = np.finfo(np.float32).tiny
    tail = np.maximum(-wide, 0) * (1.4 if isa == "base" else 0.22)
    for name, expected, limit in (
        ("tanh", np.tanh(wide), 5.5 if isa == "avx512" else 4),
        ("sigmoid", np.where(x >= 0, 1, e) / (1 + e), tail + (4 if isa == "avx512" else 2.8)),
    ):
        packed, y = _engine.PackedDense(1, 1), np.empty((x.size, 1), np.float32)
        packed.pack(np.ones((1, 1), np.float32))
        packed.forward(y, x[:, None].copy(), CODES[name])
        error = np.abs(y[:, 0] - expected)
        ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(float)
        normal = x > -87 if name == "sigmoid" else np.abs(expected) > tiny
        assert (error / ulp < limit)[normal].all()
        assert error[~normal].max() < 1.5 * tiny
        assert error.max() < (2.5e-7 if isa == "avx512" else 1.6e-7)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 12), st.integers(1, 40), st.integers(1, 70),
    st.sampled_from([None, *MASKS]), st.booleans(), st.sampled_from(list(_engine.CELLS)),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_shape(batch, timesteps, features, units, masked, states, cell, seed):
    rng = np.random.default_rng(seed)
    a = case(rng, batch, timesteps, features, units, masked, states, cell)
    if seed % 3 == 0:
        a = picked(a, rng, 1 + seed % 50)
    check(a, reverse=seed % 2 == 1)


def test_zero_states_are_the_default(isa, rng):
    a = case(rng, 4, 3, 5, 18)
    packed = _engine.PackedRNN(5, 18)
    packed.pack(a["kernel"], a["recurrent_kernel"], None)
    outputs = []
    for state in (None, np.zeros((4, 18), np.float32)):
        y = np.empty((4, 3, 18), np.float32)
        run = _engine.RNNRun()
        run.set_direction(0, packed, 3, 2, a["x"], h0=state, c0=state, y=y)
        run.forward()
        outputs.append(y)
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("features, units", [(9, 20), (150, 200)])
def test_rows_do_not_depend_on_their_batch(isa, features, units, cell, rng):
    a = case(rng, 23, 6, features, units, cell=cell)
    packed = _engine.PackedRNN(features, units, cell)
    packed.pack(a["kernel"], a["recurrent_kernel"], a["bias"])

    def run(x):
        y = np.empty((len(x), 6, units), np.float32)
        engine = _engine.RNNRun()
        engine.set_direction(0, packed, 3, 2, x, y=y)
        engine.forward()
        return y

    whole = run(a["x"])
    for row in range(23):
        np.testing.assert_array_equal(run(a["x"][row : row + 1])[0], whole[row])


def test_same_bits_every_time(isa, threads, cell, rng):
    a = case(rng, 33, 20, 16, 32, cell=cell)
    results = []
    for _ in range(2):
        packed = _engine.PackedRNN(16, 32, cell)
        packed.pack(a["kernel"], a["recurrent_kernel"], a["bias"], True)
        run = _engine.RNNRun()
        run.set_direction(0, packed, 3, 2, a["x"])
        run.forward(True)
        gradients = [np.empty_like(a[k]) for k in ("kernel", "recurrent_kernel", "bias")]
        run.set_gradients(0, *gradients, dy=a["dy"])
        run.backward()
        results.append(gradients)
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_subnormals_are_flushed_and_the_float_environment_restored(isa):
    units, steps = 16, 300
    packed = _engine.PackedRNN(1, units)
    kernel = np.zeros((1, 4 * units), np.float32)
    bias = np.full(4 * units, -3.0, np.float32)
    packed.pack(kernel, np.full((units, 4 * units), 1e-3, np.float32), bias, True, True)
    x = np.zeros((4, steps, 1), np.float32)
    run = _engine.RNNRun()
    run.set_direction(0, packed, 3, 2, x)
    run.forward(True)
    dx = np.empty_like(x)
    run.set_gradients(
        0, np.empty_like(kernel), np.empty((units, 4 * units), np.float32),
        dh_last=np.full((4, units), 1e-3, np.float32), dx=dx,
    )  # fmt: skip
    run.backward()
    tiny = np.finfo(np.float32).tiny
    assert not ((np.abs(dx) > 0) & (np.abs(dx) < tiny)).any()
    assert np.float32(1e-40) * np.float32(0.5) > 0


def test_nan_stays_nan(isa, cell, rng):
    a = case(rng, 3, 4, 5, 20, cell=cell)
    a["x"][1, 2, 3] = np.nan
    packed = _engine.PackedRNN(5, 20, cell)
    packed.pack(a["kernel"], a["recurrent_kernel"], a["bias"])
    y = np.empty((3, 4, 20), np.float32)
    run = _engine.RNNRun()
    run.set_direction(0, packed, 3, 2, a["x"], y=y)
    run.forward()
    assert np.isnan(y[1, 2:]).all()
    assert np.isfinite(y[[0, 2]]).all() and np.isfinite(y[1, :2]).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": np.zeros((2, 3, 4), np.float64)}, "x: expected float32"),
        ({"x": np.zeros((2, 3, 5), np.float32)}, r"x: expected float32 of shape \(2, 3, 4\)"),
        ({"x": np.zeros((2, 4), np.float32)}, "x: expected"),
        ({"x": np.zeros((0, 3, 4), np.float32)}, "at least one sample"),
        ({"x": np.zeros((2, 3, 8), np.float32)[:, :, ::2]}, "contiguous in the last axis"),
        ({"mask": np.zeros((2, 4), bool)}, "mask: expected bool"),
        ({"mask": np.zeros((2, 3), np.uint8)}, "mask: expected bool"),
        ({"h0": np.zeros((3, 5), np.float32)}, "h0: expected"),
        ({"y": np.zeros((2, 3, 6), np.float32)}, "y: expected"),
        ({"last": np.zeros((2, 6), np.float32)}, "last: expected"),
    ],
)
def test_bad_arrays_are_refused(change, message):
    packed = _engine.PackedRNN(4, 5)
    packed.pack(np.zeros((4, 20), np.float32), np.zeros((5, 20), np.float32))
    arguments = {"x": np.zeros((2, 3, 4), np.float32), **change}
    run = _engine.RNNRun()
    with pytest.raises(ValueError, match=message):
        run.set_direction(0, packed, 3, 2, **arguments)


def test_bad_indices_and_products_are_refused():
    packed, products = _engine.PackedRNN(4, 5), _engine.Products()
    rows, index = np.zeros((6, 4), np.float32), np.zeros((2, 3), np.int32)
    run = _engine.RNNRun()

    def go(x, index, products):
        run.set_direction(0, packed, 3, 2, x, index=index, products=products)
        run.forward(True)

    with pytest.raises(ValueError, match="packed"):
        products.compute(packed, rows)
    packed.pack(np.zeros((4, 20), np.float32), np.zeros((5, 20), np.float32), None, True, True)
    with pytest.raises(ValueError, match="x: expected"):
        products.compute(packed, rows[:, :3])
    with pytest.raises(ValueError, match="x: expected"):
        products.compute(packed, rows[0])
    with pytest.raises(ValueError, match="refused"):
        products.compute(packed, rows[:0])
    with pytest.raises(ValueError, match="products: expected"):
        go(rows, index, products)  # not computed
    products.compute(packed, rows)
    with pytest.raises(ValueError, match="products: expected"):
        go(rows, index, None)
    for bad in (index.astype(np.int64), index[0], [[0]], index[..., None]):
        with pytest.raises(ValueError, match="index: expected"):
            go(rows, bad, products)
    with pytest.raises(ValueError, match="at least one sample"):
        go(rows, index[:0], products)
    for bad in (6, -1, 2**31 - 1, -(2**31)):
        index[1, 2] = bad
        with pytest.raises(IndexError):
            go(rows, index, products)
    index[1, 2] = 5
    for x in (rows[:5], rows[None], np.zeros((6, 5), np.float32), rows.astype(float)):
        with pytest.raises(ValueError, match="x: expected|products: expected"):
            go(x, index, products)
    other, of_other = _engine.PackedRNN(4, 6), _engine.Products()
    other.pack(np.zeros((4, 24), np.float32), np.zeros((6, 24), np.float32))
    of_other.compute(other, rows)
    with pytest.raises(ValueError, match="products: expected"):
        go(rows, index, of_other)
    go(rows, index, products)
    gradients = np.zeros((4, 20), np.float32), np.zeros((5, 20), np.float32)
    with pytest.raises(ValueError, match="dx: expected"):
        run.set_gradients(0, *gradients, dx=np.zeros((2, 3, 4), np.float32))
    run.set_gradients(0, *gradients, dx=np.zeros((6, 4), np.float32))
    run.backward()
    assert not products.computed  # it has overwritten them
    with pytest.raises(ValueError, match="products: expected"):
        run.forward()


def test_the_order_of_calls_is_checked():
    packed = _engine.PackedRNN(4, 5)
    run = _engine.RNNRun()
    x = np.zeros((2, 3, 4), np.float32)
    run.set_direction(0, packed, 3, 2, x)
    with pytest.raises(ValueError, match="packed"):
        run.forward()
    packed.pack(np.zeros((4, 20), np.float32), np.zeros((5, 20), np.float32))
    run.forward()
    run.set_gradients(0, np.zeros((4, 20), np.float32), np.zeros((5, 20), np.float32))
    with pytest.raises(ValueError, match="keep=True"):
        run.backward()
    with pytest.raises(ValueError, match="activation|refused"):
        run.set_direction(0, packed, 99, 2, x)
        run.forward()
    with pytest.raises(ValueError, match="cell: expected one of"):
        _engine.PackedRNN(4, 5, "cell")
    packed = _engine.PackedRNN(4, 5, "gru")
    packed.pack(np.zeros((4, 15), np.float32), np.zeros((5, 15), np.float32))
    with pytest.raises(ValueError, match="refused"):  # it has no c
        run.set_direction(0, packed, 3, 2, x, c0=np.zeros((2, 5), np.float32))
        run.forward()


@pytest.mark.parametrize("masked", [None, *MASKS])
def test_units_split_over_threads(isa, threads, masked, cell, rng):
    """Few rows and many units: the threads meet at every step."""
    for batch in (1, 2, 5):
        check(case(rng, batch, 5, 30, 203, masked, cell=cell), reverse=batch == 2)


def test_steps_masked_in_every_row_are_skipped_rightly(isa, threads, cell, rng):
    a = case(rng, 5, 30, 9, 21, cell=cell)
    mask = np.ones((5, 30), bool)
    mask[:, :13] = mask[:, 25:] = mask[:, 18] = False
    a["mask"] = mask
    for reverse in (False, True):
        check(a, reverse=reverse)
