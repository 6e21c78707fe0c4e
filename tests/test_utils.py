import random as python_random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastrnn.random
from fastrnn import utils
from fastrnn.preprocessing.sequence import pad_sequences
from fastrnn.utils import (
    pack_x_y_sample_weight,
    set_random_seed,
    to_categorical,
    unpack_x_y_sample_weight,
)

SIDES = st.sampled_from(["pre", "post"])


def test_pad_sequences_examples():
    sequences = [[1], [2, 3], [4, 5, 6]]
    padded = pad_sequences(sequences)
    assert padded.dtype == np.int32
    np.testing.assert_array_equal(padded, [[0, 0, 1], [0, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(
        pad_sequences(sequences, value=-1, padding="post"), [[1, -1, -1], [2, 3, -1], [4, 5, 6]]
    )
    np.testing.assert_array_equal(pad_sequences(sequences, maxlen=2), [[0, 1], [2, 3], [5, 6]])
    np.testing.assert_array_equal(
        pad_sequences(sequences, maxlen=2, truncating="post"), [[0, 1], [2, 3], [4, 5]]
    )
    assert utils.pad_sequences is pad_sequences


@given(
    sequences=st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8), min_size=1),
    maxlen=st.none() | st.integers(1, 10),
    padding=SIDES,
    truncating=SIDES,
    value=st.integers(-5, 5),
    container=st.sampled_from([list, tuple, np.array]),
)
def test_pad_sequences_property(sequences, maxlen, padding, truncating, value, container):
    padded = pad_sequences(
        [container(sequence) for sequence in sequences],
        maxlen=maxlen,
        padding=padding,
        truncating=truncating,
        value=value,
    )
    length = max(map(len, sequences)) if maxlen is None else maxlen
    assert padded.shape == (len(sequences), length)
    for row, sequence in zip(padded.tolist(), sequences, strict=True):
        surplus = max(len(sequence) - length, 0)
        kept = sequence[surplus:] if truncating == "pre" else sequence[: len(sequence) - surplus]
        filling = [value] * (length - len(kept))
        assert row == (filling + kept if padding == "pre" else kept + filling)


def test_pad_sequences_of_vectors():
    padded = pad_sequences([[], [[1, 2]], np.ones((3, 2))], maxlen=2, dtype="float32", value=0.5)
    assert padded.shape == (3, 2, 2) and padded.dtype == np.float32
    np.testing.assert_array_equal(padded[0], 0.5)
    np.testing.assert_array_equal(padded[1], [[0.5, 0.5], [1, 2]])
    np.testing.assert_array_equal(padded[2], 1)


def test_pad_sequences_of_strings():
    padded = pad_sequences([["a"], ["bc", "d"]], dtype=object, value="-")
    assert padded.tolist() == [["-", "a"], ["bc", "d"]]


def test_pad_sequences_of_nothing():
    assert pad_sequences([[], []]).shape == (2, 0)
    assert pad_sequences([], maxlen=3).shape == (0, 3)


def test_pad_sequences_is_fast():
    sequences = [list(range(n % 400)) for n in range(25_000)]
    start = time.perf_counter()
    pad_sequences(sequences, maxlen=100)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequences": 5}, "sequences: expected a list or an array of sequences, received int"),
        ({"sequences": iter([[1]])}, "sequences: expected a list .*received list_iterator"),
        ({"sequences": [[1], 2]}, r"sequences\[1\]: expected a sequence, received 2"),
        ({"sequences": []}, "maxlen: .*sequences is empty"),
        ({"sequences": [[1]], "maxlen": 0}, "maxlen: expected an integer >= 1, received 0"),
        ({"sequences": [[1]], "padding": "left"}, "padding: .*received 'left'"),
        ({"sequences": [[1]], "truncating": "left"}, "truncating: .*received 'left'"),
        ({"sequences": [[1]], "value": "x"}, "dtype: .*'x', received int32"),
        (
            {"sequences": [[[1, 2]], [[1, 2, 3]]]},
            r"sequences\[1\]: expected steps of shape \(2,\).*received \(3,\)",
        ),
    ],
)
def test_pad_sequences_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        pad_sequences(**arguments)


def test_to_categorical_examples():
    encoded = to_categorical([0, 2])
    assert encoded.dtype == np.float64
    np.testing.assert_array_equal(encoded, [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(to_categorical(1), [0, 1])
    np.testing.assert_array_equal(to_categorical([[1], [0]], 3), [[0, 1, 0], [1, 0, 0]])
    assert to_categorical([1]).shape == (1, 2)
    assert to_categorical(np.array([1.0, 0.0], np.float32)).shape == (2, 2)
    assert to_categorical([True, False]).tolist() == [[0, 1], [1, 0]]


@given(
    labels=hnp.arrays(
        np.int64,
        hnp.array_shapes(max_dims=3, max_side=5),
        elements=st.integers(0, 9),
    ),
    extra=st.none() | st.integers(0, 3),
)
def test_to_categorical_property(labels, extra):
    num_classes = None if extra is None else int(labels.max()) + 1 + extra
    encoded = to_categorical(labels, num_classes)
    shape = labels.shape[:-1] if labels.ndim > 1 and labels.shape[-1] == 1 else labels.shape
    assert encoded.shape == (*shape, num_classes or labels.max() + 1)
    assert (encoded.sum(axis=-1) == 1).all()
    np.testing.assert_array_equal(encoded.argmax(axis=-1), labels.reshape(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 3], 3), r"x: expected labels in \[0, 3\), received 3"),
        (([0, -1], 3), r"x: expected labels in \[0, 3\), received -1"),
        (([-1],), "x: expected labels in .*received -1"),
        (([0.5],), "x: expected integer labels"),
        (([],), "num_classes: .*x is empty"),
    ],
)
def test_to_categorical_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        to_categorical(*arguments)


def test_data_of_a_step():
    x, y, weight = "x", "y", "weight"
    for data in (x, (x,), [x]):
        assert unpack_x_y_sample_weight(data) == (x, None, None)
    assert unpack_x_y_sample_weight((x, y)) == (x, y, None)
    assert unpack_x_y_sample_weight([x, y, weight]) == (x, y, weight)
    with pytest.raises(ValueError, match=r"data: expected x, .*received 4 parts"):
        unpack_x_y_sample_weight((x, y, weight, x))
    assert pack_x_y_sample_weight(x) == x
    assert pack_x_y_sample_weight([x, x]) == ([x, x],)
    assert pack_x_y_sample_weight(x, y) == (x, y)
    assert pack_x_y_sample_weight(x, None, weight) == (x, None, weight)


def test_set_random_seed():
    def draw():
        return python_random.random(), np.random.random(), fastrnn.random.draw_seed()

    set_random_seed(12)
    first = draw()
    assert all(a != b for a, b in zip(first, draw(), strict=True))
    set_random_seed(np.int64(12))
    assert draw() == first


def test_set_random_seed_changes_nothing_on_error():
    set_random_seed(1)
    state = python_random.getstate()
    with pytest.raises(ValueError, match=r"seed: expected an integer below 2\*\*32"):
        set_random_seed(2**32)
    with pytest.raises(ValueError, match="seed: expected an integer >= 0, received -1"):
        set_random_seed(-1)
    with pytest.raises(TypeError, match="seed: expected an integer, received 'a'"):
        set_random_seed("a")
    assert python_random.getstate() == state
