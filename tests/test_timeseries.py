"""Windows over a series, by hand and against Keras; data sets of batches in fit."""

import numpy as np
import pytest

import fastrnn
from fastrnn import layers
from fastrnn.preprocessing.sequence import TimeseriesGenerator
from fastrnn.utils import PyDataset, Sequence, timeseries_dataset_from_array

SERIES = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
TARGETS = np.arange(40.0)
WINDOWS = [
    {"sequence_length": 5},
    {"sequence_length": 5, "batch_size": 7},
    {"sequence_length": 4, "sampling_rate": 3, "sequence_stride": 2, "batch_size": 4},
    {"sequence_length": 4, "start_index": 6, "end_index": 30, "batch_size": 8},
    {"sequence_length": 4, "start_index": 6, "batch_size": None},
    {"sequence_length": 40},
]


def model(units=3):
    layer = layers.LSTM(units, input_shape=(None, 3))
    network = fastrnn.Sequential([layer, layers.Dense(1)])
    network.compile("sgd", "mse")
    return network


def test_windows_by_hand():
    data = np.arange(99)
    batches = list(timeseries_dataset_from_array(data, None, 10, 3, 2, batch_size=20))
    assert [batch.shape for batch in batches] == [(20, 10), (7, 10)]
    np.testing.assert_array_equal(batches[0][1], [3, 5, 7, 9, 11, 13, 15, 17, 19, 21])
    np.testing.assert_array_equal(batches[1][-1], [78, 80, 82, 84, 86, 88, 90, 92, 94, 96])
    [(x, y)] = timeseries_dataset_from_array(data[:-10], data[10:], 10)
    np.testing.assert_array_equal(x[:, -1] + 1, y)
    assert list(timeseries_dataset_from_array(data, None, 100)) == []


@pytest.mark.parametrize("options", WINDOWS, ids=str)
@pytest.mark.parametrize("targets", [None, TARGETS, TARGETS[:30]], ids=["none", "all", "fewer"])
def test_windows_are_those_of_keras(options, targets):
    pytest.importorskip("tensorflow", reason="Keras's function returns a tf.data.Dataset")
    from keras.utils import timeseries_dataset_from_array as theirs

    if targets is not None and len(targets) == 30 and options.get("start_index"):
        pytest.skip("Keras reads targets beyond their end")
    ours = timeseries_dataset_from_array(SERIES, targets, **options)
    expected = list(theirs(SERIES, targets, **options))
    assert len(ours) == len(expected)
    for got, want in zip(ours, expected, strict=True):
        if targets is None:
            got, want = (got,), (want,)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b.numpy())


def test_batches_as_those_of_tensorflow():
    windows = timeseries_dataset_from_array(SERIES, TARGETS, 5, batch_size=8)
    whole = list(windows)
    assert len(whole) > 2
    for count, expected in ((2, 2), (0, 0), (-1, len(whole)), (99, len(whole))):
        taken = windows.take(count)
        assert len(taken) == len(list(taken)) == len(list(taken)) == expected
        for one, other in zip(taken, whole, strict=False):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)
    x, y = whole[0]
    assert type(x.numpy()) is type(y.numpy()) is type(x[0].numpy()) is np.ndarray
    np.testing.assert_array_equal(x[0].numpy(), SERIES[:5])


def test_shuffled_windows():
    data = timeseries_dataset_from_array(SERIES, TARGETS, 5, batch_size=8, shuffle=True, seed=3)
    orders = []
    for _ in range(2):
        x, y = (np.concatenate(parts) for parts in zip(*data, strict=True))
        np.testing.assert_array_equal(x[:, 0], SERIES[y.astype(int)])
        assert sorted(y) == list(range(36))
        orders.append(list(y))
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])
    again = timeseries_dataset_from_array(SERIES, TARGETS, 5, batch_size=8, shuffle=True, seed=3)
    assert np.concatenate([y for _, y in again]).tolist() == orders[0]


def test_targets_that_end_early_with_a_start_index():
    [(x, y)] = timeseries_dataset_from_array(SERIES, TARGETS[:30], 4, start_index=6)
    assert len(x) == len(y) == 24 and y[-1] == 29


@pytest.mark.parametrize(
    "options",
    [
        {"sequence_length": 0},
        {"sampling_rate": 0},
        {"sampling_rate": 40},
        {"sequence_stride": 0},
        {"sequence_stride": 40},
        {"batch_size": 0},
        {"start_index": -1},
        {"start_index": 40},
        {"end_index": 40},
        {"end_index": 0},
        {"start_index": 5, "end_index": 5},
    ],
    ids=str,
)
def test_window_errors_name_the_argument(options):
    with pytest.raises(ValueError, match=list(options)[-1]):
        timeseries_dataset_from_array(SERIES, None, **{"sequence_length": 4} | options)


def test_windows_train_a_model_in_their_order():
    seen = []

    class Watched(type(layers.LSTM(1))):
        def forward(self, x, run, mask=None):
            seen.append(x.copy())
            return super().forward(x, run, mask)

    network = fastrnn.Sequential([Watched(2, input_shape=(None, 3)), layers.Dense(1)])
    network.compile("sgd", "mse")
    data = timeseries_dataset_from_array(SERIES, TARGETS, 5, batch_size=8)
    history = network.fit(data, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2 and len(seen) == 10
    for got, (want, _) in zip(seen, [*data, *data], strict=True):
        np.testing.assert_array_equal(got, want)
    whole = np.concatenate([x for x, _ in data])
    np.testing.assert_allclose(
        network.predict(data, verbose=0), network.predict(whole, verbose=0), atol=1e-6
    )


def test_generator_by_hand():
    data = TimeseriesGenerator(np.arange(50), np.arange(50), 10, sampling_rate=2, batch_size=2)
    assert len(data) == 20
    x, y = data[0]
    np.testing.assert_array_equal(x, [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]])
    np.testing.assert_array_equal(y, [10, 11])
    assert isinstance(data, Sequence)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sampling_rate": 2, "stride": 3, "batch_size": 4},
        {"start_index": 4, "end_index": 20, "reverse": True, "batch_size": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_generator_is_that_of_keras(options, shuffle):
    pytest.importorskip("keras", reason="compares with Keras itself")
    from keras.src.legacy.preprocessing.sequence import TimeseriesGenerator as Theirs

    ours = TimeseriesGenerator(SERIES, TARGETS, 6, shuffle=shuffle, **options)
    theirs = Theirs(SERIES, TARGETS, 6, shuffle=shuffle, **options)
    assert len(ours) == len(theirs)
    for i in range(len(ours)):
        np.random.seed(i)
        x, y = ours[i]
        np.random.seed(i)
        expected_x, expected_y = theirs[i]
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


def test_generator_errors():
    with pytest.raises(ValueError, match=r"targets: expected as many as data \(40\), received 3"):
        TimeseriesGenerator(SERIES, TARGETS[:3], 4)
    with pytest.raises(ValueError, match="start_index, end_index: "):
        TimeseriesGenerator(SERIES, TARGETS, 40)
    with pytest.raises(ValueError, match="stride: expected a whole number >= 1, received 0"):
        TimeseriesGenerator(SERIES, TARGETS, 4, stride=0)
    with pytest.raises(IndexError, match="received 9"):
        TimeseriesGenerator(SERIES, TARGETS, 4)[9]


class Batches(PyDataset):
    def __init__(self, count, **kwargs):
        super().__init__(**kwargs)
        self.count, self.log = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.log.append(index)
        return SERIES[None, index : index + 5], TARGETS[None, index]

    def on_epoch_begin(self):
        self.log.append("begin")

    def on_epoch_end(self):
        self.log.append("end")


@pytest.mark.parametrize("base", [PyDataset, Sequence])
def test_a_subclass_feeds_fit(base):
    data = Batches(4, workers=2, use_multiprocessing=False, max_queue_size=3)
    assert isinstance(data, base) and data.num_batches == 4 and len(list(data)) == 4
    data.log.clear()
    model().fit(data, epochs=2, shuffle=False, verbose=0)
    assert data.log == ["begin", 0, 1, 2, 3, "end"] * 2


def test_a_subclass_that_lacks_its_methods():
    with pytest.raises(NotImplementedError, match="__len__ or num_batches"):
        print(PyDataset().num_batches)
    with pytest.raises(NotImplementedError, match="__getitem__"):
        PyDataset()[0]


def test_format_of_a_dataset():
    windows = [x for x in timeseries_dataset_from_array(np.arange(6.0), None, 3, format="tf")]
    assert windows[0].shape == (4, 3)
    with pytest.raises(ValueError, match="format: expected 'tf', received 'grain'"):
        timeseries_dataset_from_array(np.arange(6.0), None, 3, format="grain")
