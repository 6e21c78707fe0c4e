"""Pipelines of data: what they give, how, and what they say of mistakes. tests/parity compares them
with tf.data itself."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fastrnn
from fastrnn import layers, pipeline
from fastrnn.pipeline import Dataset
from fastrnn.specs import TensorShape, TensorSpec
from fastrnn.tensors import Tensor
from fastrnn.utils import text_dataset_from_directory, timeseries_dataset_from_array

X = np.random.default_rng(0).normal(size=(24, 5, 3)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 2, 24)


def numbers(dataset):
    return [part.tolist() for part in dataset.as_numpy_iterator()]


def network():
    fastrnn.utils.set_random_seed(0)
    model = fastrnn.Sequential([layers.LSTM(4, input_shape=(5, 3)), layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    return model


def assert_same_weights(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- elements ---


def test_elements_of_a_pipeline():
    data = Dataset.range(10).filter(lambda n: n % 2 == 1).map(lambda n: (n, n * n))
    batches = [(a.tolist(), b.tolist()) for a, b in data.batch(2)]
    assert batches == [([1, 3], [1, 9]), ([5, 7], [25, 49]), ([9], [81])]
    assert numbers(Dataset.range(4).repeat(2).skip(1).take(5)) == [1, 2, 3, 0, 1]
    windows = Dataset.range(5).window(3, shift=1, drop_remainder=True)
    assert numbers(windows.flat_map(lambda w: w.batch(3))) == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert Dataset.range(5).reduce(np.int64(0), lambda total, n: total + n).numpy() == 10
    padded = Dataset.from_generator(
        lambda: iter([[1], [2, 3]]), output_signature=TensorSpec([None], np.int32)
    ).padded_batch(2, padding_values=-1)
    assert numbers(padded) == [[[1, -1], [2, 3]]]


def test_elements_have_numpy_and_their_dtype():
    element = next(
        iter(Dataset.from_tensor_slices({"x": X, "n": [1, 2] * 12, "s": ["a", "b"] * 12}))
    )
    assert type(element["x"]) is Tensor and element["x"].numpy().tolist() == X[0].tolist()
    assert element["n"].numpy() == 1 and element["n"].dtype == np.int32
    assert element["s"].numpy() == b"a"
    assert type((element["x"] / 2)[0].numpy()) is np.ndarray
    iterator = iter(Dataset.range(3))
    assert [iterator.get_next().numpy(), next(iterator).numpy(), *iterator] == [0, 1, 2]
    (first,) = Dataset.from_tensor_slices([[0.5]]).as_numpy_iterator()
    assert first.dtype == np.float32 and not first.flags.writeable


def test_nothing_changes_the_arrays():
    x = X.copy()

    def scaled(part):
        part /= 2
        part += 1
        return part

    data = Dataset.from_tensor_slices(x)
    for _ in range(2):
        np.testing.assert_array_equal(next(iter(data.map(scaled))), X[0] / 2 + 1)
    for element in (next(iter(data)), next(iter(data.batch(3))), next(iter(data.shuffle(3)))):
        with pytest.raises(ValueError, match="read-only"):
            element[0] = 7
        element.numpy()[0] = 7
    np.testing.assert_array_equal(x, X)
    assert x.flags.writeable


def test_batches_of_arrays_are_views_and_those_of_shuffled_ones_taken_at_once():
    x = np.zeros((1000, 4), np.float32)
    data = Dataset.from_tensor_slices((x, x))
    for dataset in (data, data.skip(3), data.take(9).prefetch(2), data.shard(3, 1).cache()):
        assert np.shares_memory(next(iter(dataset.batch(8)))[0], x)
    assert np.shares_memory(next(iter(Dataset.zip(data, data).skip(1).batch(8)))[1][0], x)
    taken = []
    original = pipeline._rows
    try:
        data._element = (data._element[0],)
        pipeline._rows = lambda array, places: taken.append(places) or original(array, places)
        list(data.shuffle(100).repeat(2).batch(50))
    finally:
        pipeline._rows = original
    assert [len(places) for places in taken] == [50] * 40


def orders(rng):
    k, size = int(rng.integers(0, 9)), int(rng.integers(1, 6))
    seed = int(rng.integers(99))
    return [
        lambda d: d.take(10 * k),
        lambda d: d.skip(k),
        lambda d: d.shard(size, size - 1),
        lambda d: d.repeat(k),
        lambda d: d.shuffle(size, seed),
        lambda d: d.shuffle(100, seed, reshuffle_each_iteration=False),
        lambda d: d.cache(),
        lambda d: d.prefetch(k),
        lambda d: Dataset.zip(d, d.skip(k)).map(lambda a, b: a),
        lambda d: d.enumerate().map(lambda n, a: a),
        lambda d: d.window(size, k + 1, 2).flat_map(lambda w: w.batch(size)).unbatch(),
    ]


@pytest.mark.parametrize("seed", range(40))
def test_rows_of_arrays_come_as_other_elements_do(seed):
    """A step that looks at each element alone takes the short way from the steps after it."""

    def made(source):
        rng = np.random.default_rng(seed)
        for _ in range(rng.integers(1, 6)):
            every = orders(rng)
            source = every[rng.integers(len(every))](source)
        return source

    rows = made(Dataset.from_tensor_slices(np.arange(23)))
    alone = made(Dataset.from_tensor_slices(np.arange(23)).map(lambda x: x))
    for _ in range(2):
        assert numbers(rows.batch(4)) == numbers(alone.batch(4))
        assert numbers(rows) == numbers(alone)
    assert rows.cardinality() in (alone.cardinality(), len(numbers(rows)))


# --- order ---


def test_shuffle_is_repeatable():
    fastrnn.utils.set_random_seed(5)
    data = Dataset.range(50).shuffle(20)
    orders = [numbers(data), numbers(data)]
    fastrnn.utils.set_random_seed(5)
    again = Dataset.range(50).shuffle(20)
    assert [numbers(again), numbers(again)] == orders and orders[0] != orders[1]
    seeded = [Dataset.range(50).shuffle(20, seed=4) for _ in range(2)]
    epochs = [[numbers(data), numbers(data)] for data in seeded]
    assert epochs[0] == epochs[1] and epochs[0][0] != epochs[0][1]
    kept = Dataset.range(50).shuffle(20, reshuffle_each_iteration=False)
    assert numbers(kept) == numbers(kept) == numbers(kept.repeat(2))[50:]
    twice = numbers(Dataset.range(50).shuffle(50, seed=4).repeat(2))
    assert twice[:50] != twice[50:] and sorted(twice[:50]) == sorted(twice[50:])
    cached = Dataset.range(50).shuffle(50).cache()
    assert numbers(cached) == numbers(cached)


@pytest.mark.parametrize("buffer", [1, 4, 20, 99])
def test_a_buffer_keeps_no_more_elements_than_it_has(buffer):
    order = numbers(Dataset.range(60).shuffle(buffer, seed=0))
    assert sorted(order) == list(range(60))
    assert all(place > number - buffer for place, number in enumerate(order))
    assert (order == sorted(order)) == (buffer == 1)
    if buffer == 20:
        firsts = {numbers(Dataset.range(60).shuffle(20, seed=n).take(1))[0] for n in range(400)}
        assert firsts == set(range(20))


def test_cache_keeps_what_was_gone_through():
    calls = []
    data = Dataset.range(3).map(lambda n: calls.append(n) or n).cache()
    next(iter(data))
    assert len(calls) == 1
    assert numbers(data.repeat(3)) == [0, 1, 2] * 3 and len(calls) == 4


def test_iterations_do_not_know_of_each_other():
    data = Dataset.range(6).shuffle(6).map(lambda n: n).cache()
    one, other = iter(data), iter(data)
    got = [[int(next(it)) for it in (one, other)] for _ in range(6)]
    for order in zip(*got, strict=True):
        assert sorted(order) == list(range(6))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(sorted(numbers(data.repeat(50)))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sorted(list(range(6)) * 50)] * 4


def test_pipelines_can_be_pickled_and_copied():
    data = Dataset.from_tensor_slices((X, Y)).shuffle(9, seed=2).window(4).prefetch(1)
    data = Dataset.zip(data, Dataset.range(99)).skip(1).cache()
    before = data.map(lambda w, n: n).reduce(np.int64(0), lambda s, n: s + n)
    for other in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data), copy.copy(data)):
        assert other.map(lambda w, n: n).reduce(np.int64(0), lambda s, n: s + n) == before
    loaded = pickle.loads(pickle.dumps(Dataset.from_tensor_slices(X)))
    with pytest.raises(ValueError, match="read-only"):
        next(iter(loaded))[0] = 1


def test_deep_pipelines():
    data = Dataset.range(2)
    for _ in range(3000):
        data = data.concatenate(Dataset.range(1))
    assert len(data) == len(numbers(data)) == 3002
    for _ in range(200):
        data = data.map(lambda n: n + 1).take(3)
    assert numbers(data) == [200, 201, 200]


# --- what it says of itself ---


def test_specs():
    data = Dataset.from_tensor_slices((X, {"y": Y, "s": ["a"] * 24})).batch(4)
    x, rest = data.element_spec
    assert repr(x) == "TensorSpec(shape=(None, 5, 3), dtype=tf.float32, name=None)"
    assert rest["s"] == TensorSpec([None], "string") and rest["y"].dtype == np.int64
    assert repr(data.take(1)) == f"<_TakeDataset element_spec={data.element_spec}>"
    whole = data.map(lambda x, rest: x[:, -1], num_parallel_calls=pipeline.AUTOTUNE)
    assert whole.element_spec.shape == (None, 3)
    assert repr(whole.map(lambda x: x.nothing)).startswith("<_MapDataset element_spec=? (Attr")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        print(whole.map(lambda x: x.nothing).element_spec)
    shape = TensorShape([None, 2])
    assert (shape.rank, shape[1], shape.as_list(), list(shape[:1])) == (2, 2, [None, 2], [None])
    assert shape.is_compatible_with([7, 2]) and not shape.is_compatible_with([7, 3])
    assert TensorShape([3]) + shape == (3, None, 2) and TensorShape(None).rank is None
    assert TensorShape([2, 3]).num_elements() == 6 and hash(shape) == hash(TensorShape((None, 2)))
    assert pickle.loads(pickle.dumps([shape, TensorShape(None)])) == [shape, TensorShape(None)]
    assert shape != TensorShape(None) != TensorShape([]) == () and not TensorShape(None)
    with pytest.raises(ValueError, match=r"expected a known number of axes, received TensorShape"):
        len(TensorShape(None))
    assert layers.Input(x.shape[1:]).shape == layers.Input(batch_shape=x.shape).shape == x.shape


def test_examples_do_not_touch_the_data():
    seen = []
    data = Dataset.from_generator(
        lambda: seen.append(1) or iter([1]), output_signature=TensorSpec([], np.int32)
    )
    assert data.map(lambda n: n * 2.0).batch(3, True).element_spec == TensorSpec([3], np.float64)
    assert not seen


# --- training ---


def test_training_is_that_of_the_same_batches():
    data = Dataset.from_tensor_slices((X, Y)).batch(5)
    by_arrays, by_data = network(), network()
    expected = by_arrays.fit(X, Y, batch_size=5, shuffle=False, epochs=3, verbose=0,
                             validation_data=(X, Y))  # fmt: skip
    history = by_data.fit(data, epochs=3, verbose=0, validation_data=data)
    assert_same_weights(by_arrays, by_data)
    assert history.history.keys() == expected.history.keys()
    np.testing.assert_allclose(history.history["val_loss"], expected.history["val_loss"], 1e-6)
    np.testing.assert_array_equal(
        by_data.predict(data, verbose=0), by_data.predict(X, batch_size=5, verbose=0)
    )
    np.testing.assert_allclose(
        by_data.evaluate(data, verbose=0), by_data.evaluate(X, Y, verbose=0), 1e-6
    )
    steps = network()
    steps.fit(data.repeat(), epochs=3, steps_per_epoch=5, verbose=0, batch_size=7)
    assert_same_weights(by_arrays, steps)
    unknown = network()
    unknown.fit(data.filter(lambda x, y: True), epochs=3, verbose=0)
    assert_same_weights(by_arrays, unknown)


def test_class_and_sample_weights_of_a_dataset():
    weights = np.where(Y == 1, 3.0, 0.5)
    expected = network()
    expected.fit(X, Y, sample_weight=weights, batch_size=6, shuffle=False, verbose=0)
    by_class, by_sample = network(), network()
    data = Dataset.from_tensor_slices((X, Y)).batch(6)
    by_class.fit(data, class_weight={0: 0.5, 1: 3.0}, verbose=0)
    by_sample.fit(Dataset.from_tensor_slices((X, Y, weights)).batch(6), verbose=0)
    assert_same_weights(by_class, expected)
    assert_same_weights(by_sample, expected)


def test_the_progress_bar_knows_the_length(capsys):
    data = Dataset.from_tensor_slices((X, Y)).batch(5)
    network().fit(data, verbose=2)
    network().fit(data.unbatch().filter(lambda x, y: True).batch(5), verbose=2)
    out = capsys.readouterr().out
    assert out.count("5/5 - ") == 2


def test_each_epoch_is_shuffled_anew():
    seen = []
    data = Dataset.from_tensor_slices((X, Y, np.arange(24.0))).shuffle(24, seed=1).batch(24)
    network().fit(data.map(lambda x, y, n: seen.append(n.tolist()) or (x, y)), epochs=2, verbose=0)
    assert len(seen) == 2 and seen[0] != seen[1]
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(24))


DATA = Dataset.from_tensor_slices((X, Y)).batch(6)
FITS = {
    "y": (dict(y=Y), "y and sample_weight: expected None where x yields whole batches"),
    "weights": (dict(sample_weight=Y), "y and sample_weight: expected None"),
    "split": (dict(validation_split=0.2), "validation_split: expected arrays as x and y"),
    "endless": (dict(x=DATA.repeat()), "x: the dataset has no end; expected a number of steps"),
    "endless validation": (
        dict(validation_data=DATA.repeat()),
        r"x: the dataset has no end; .*validation_steps",
    ),
    "single elements": (
        dict(x=Dataset.from_tensor_slices((X, Y))),
        r"y: expected as many samples as x \(5\) in a batch, .* batch\(size\) makes batches",
    ),
    "nothing": (dict(x=DATA.take(0)), "x: expected at least one batch, received none"),
    "parts": (
        dict(x=DATA.map(lambda x, y: (x, y, y, y))),
        r"x: expected batches of x, \(x, y\) or .*, received 4 parts",
    ),
    "windows": (dict(x=DATA.window(2)), "x: expected an array of numbers, received <_List"),
}


@pytest.mark.parametrize("case", FITS)
def test_datasets_that_do_not_train(case):
    options, message = FITS[case]
    with pytest.raises(ValueError, match=message):
        network().fit(**{"x": DATA, "verbose": 0} | options)


def test_an_error_of_the_generator_comes_through():
    def broken():
        yield X, Y
        raise OSError("no such disk")

    data = Dataset.from_generator(broken, output_types=(np.float32, np.int64))
    with pytest.raises(OSError, match="no such disk"):
        network().fit(data.prefetch(1), verbose=0)


def test_normalization_adapts_to_a_dataset():
    layer, expected = layers.Normalization(), layers.Normalization()
    layer.adapt(Dataset.from_tensor_slices(X).batch(7))
    expected.adapt(X)
    np.testing.assert_allclose(layer(X), expected(X), atol=1e-6)


# --- windows of a series, texts of files ---


def test_windows_of_a_series_are_a_dataset():
    windows = timeseries_dataset_from_array(np.arange(20.0), np.arange(20), 4, batch_size=5)
    assert isinstance(windows, Dataset)
    assert windows.element_spec == (TensorSpec([None, 4], np.float64), TensorSpec([None], np.int64))
    x, y = next(iter(windows.map(lambda x, y: (x[..., None], y)).skip(1)))
    assert x.shape == (5, 4, 1) and y.tolist() == [5, 6, 7, 8, 9]
    fastrnn.utils.set_random_seed(1)
    orders = [
        [y.tolist() for _, y in timeseries_dataset_from_array(X[:, 0], Y, 2, shuffle=True)]
        for _ in range(2)
    ]
    fastrnn.utils.set_random_seed(1)
    again = [y.tolist() for _, y in timeseries_dataset_from_array(X[:, 0], Y, 2, shuffle=True)]
    assert again == orders[0] != orders[1]


@pytest.fixture
def texts(tmp_path):
    for folder, words in {"pos": "good fine nice", "neg": "bad dull", ".git": "x"}.items():
        (tmp_path / folder).mkdir()
        for word in words.split():
            (tmp_path / folder / f"{word}.txt").write_text(f"{word}, é")
    (tmp_path / "pos" / "readme.md").write_text("none of these")
    return tmp_path


def test_texts_of_a_directory(texts, capsys):
    data = text_dataset_from_directory(texts, shuffle=False, batch_size=4)
    assert capsys.readouterr().out == "Found 5 files belonging to 2 classes.\n"
    assert data.class_names == ["neg", "pos"]
    (first, labels), (last, _) = data
    assert [text.decode() for text in first.tolist()] == ["bad, é", "dull, é", "fine, é", "good, é"]
    assert labels.tolist() == [0, 0, 1, 1] and labels.dtype == np.int32 and len(last) == 1
    options = {"verbose": False, "batch_size": None, "shuffle": False}
    cut = text_dataset_from_directory(texts, label_mode=None, max_length=3, **options)
    assert list(cut.as_numpy_iterator()) == [b"x, ", b"bad", b"dul", b"fin", b"goo", b"nic"]
    hot = text_dataset_from_directory(
        texts, label_mode="categorical", class_names=["pos", "neg"], **options
    )
    assert [y.tolist() for _, y in hot.take(1)] == [[1, 0]]
    train, held = text_dataset_from_directory(
        texts, label_mode="binary", validation_split=0.4, subset="both", seed=3, verbose=False
    )
    parts = [{text for x, y in part.as_numpy_iterator() for text in x} for part in (train, held)]
    assert [*map(len, parts)] == [3, 2] and not parts[0] & parts[1]
    given = text_dataset_from_directory(texts / "neg", labels=[5, 7], **options)
    assert [int(y) for _, y in given] == [5, 7] and given.class_names == ["5", "7"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"label_mode": "one"}, "label_mode: expected 'int', 'categorical', 'binary' or None"),
        ({"labels": "x"}, "labels: expected 'inferred', None or a list, received 'x'"),
        ({"labels": [1]}, "labels: expected one for each of the 6 files, received 1"),
        ({"format": "grain"}, "format: expected 'tf', received 'grain'"),
        ({"class_names": ["x"]}, r"class_names: expected some of \['neg', 'pos'\], received"),
        ({"class_names": ["x"], "labels": None}, "class_names: expected None unless"),
        ({"validation_split": 2, "subset": "both"}, "validation_split: expected a number from 0"),
        ({"validation_split": 0.2}, "validation_split, subset: expected both or neither"),
        ({"validation_split": 0.2, "subset": "x"}, "subset: expected 'training', 'validation'"),
        ({"validation_split": 0.2, "subset": "both"}, "seed: expected a number"),
        ({"validation_split": 0.1, "subset": "both", "seed": 1}, "leaves a part without any"),
        ({"directory": "nothing"}, "directory: expected .txt files in '.*nothing'"),
        ({"label_mode": "binary", "class_names": ["pos"]}, "'binary' expects two classes"),
    ],
    ids=str,
)
def test_directories_that_do_not_fit(texts, options, message):
    (texts / "nothing").mkdir() if "directory" in options else None
    where = texts / options.pop("directory", "")
    with pytest.raises(ValueError, match=message):
        text_dataset_from_directory(where, **options)


# --- messages ---


def generated(values, **options):
    return list(Dataset.from_generator(lambda: iter(values), **options))


MISTAKES = {
    "batch": (lambda d: d.batch(0), "batch_size: expected a whole number >= 1, received 0"),
    "take": (lambda d: d.take(1.5), "count: expected a whole number, received 1.5"),
    "huge": (lambda d: d.take(10**30), "count: expected a whole number of 64 bits, received 10"),
    "drop": (lambda d: d.batch(2, "yes"), "drop_remainder: expected True or False, received 'ye"),
    "window": (lambda d: d.window(2, 0), "shift: expected a whole number >= 1, received 0"),
    "shuffle": (lambda d: d.shuffle(-1), "buffer_size: expected a whole number >= 1, received -1"),
    "cache": (lambda d: d.cache("f"), "filename: expected '', as elements are kept in memory"),
    "map": (lambda d: d.map(3), "map_func: expected a function, received 3"),
    "result": (lambda d: list(d.map(print)), "map_func: expected arrays, received None"),
    "set": (lambda d: list(d.map(lambda n: {1})), r"map_func: expected strings, received \{1\}"),
    "filter": (
        lambda d: list(d.filter(lambda n: n)),
        r"predicate: expected True or False, received Tensor\(0\)",
    ),
    "flat_map": (lambda d: list(d.flat_map(lambda n: n)), "map_func: expected a Dataset, received"),
    "zip": (lambda d: Dataset.zip([d, d]), "datasets: expected a Dataset, received list"),
    "shard": (lambda d: d.shard(3, 3), "index: expected from 0 to 2, received 3"),
    "concatenate": (
        lambda d: d.concatenate(d.map(float)),
        "dataset: expected elements as those before: expected TensorSpec.*tf.int64",
    ),
    "lengths": (
        lambda d: Dataset.from_tensor_slices({"a": X, "b": Y[:3]}),
        r"tensors: expected as many rows in each array \(24\), received 3",
    ),
    "sparse": (
        lambda d: Dataset.from_tensor_slices(pytest.importorskip("scipy.sparse").eye(3)),
        r"tensors: expected dense arrays, received dia_matrix; call its toarray\(\) first",
    ),
    "unequal": (
        lambda d: list(d.flat_map(lambda n: Dataset.from_tensors(np.ones(n))).batch(2)),
        r"batch: expected elements of one shape, received \(0,\) and \(1,\); padded_batch takes",
    ),
    "dtypes": (
        lambda d: list(d.map(lambda n: n if n else 0.5).batch(2)),
        "batch: expected elements of one dtype, received float32 and int64",
    ),
    "padding": (
        lambda d: list(d.batch(3).padded_batch(2, [2])),
        r"padded_shapes: expected sizes of at least \(3,\), received \(2,\)",
    ),
    "axes": (
        lambda d: list(d.padded_batch(2, [2])),
        r"padded_shapes: expected 0 sizes, one for each axis, received \[2\]",
    ),
    "padding values": (
        lambda d: list(d.padded_batch(2, None, (1, 2))),
        r"padding_values: expected numbers, received shape \(2,\)",
    ),
    "more padding values": (
        lambda d: list(d.enumerate().padded_batch(2, None, (1, 2, 3))),
        r"padding_values: expected the structure of \(Tensor.*, received \(1, 2, 3\)",
    ),
    "padding a string": (
        lambda d: list(d.padded_batch(2, None, "a")),
        "padding_values: expected int64, received 'a'",
    ),
    "generator": (lambda d: generated([1]), "from_generator: expected output_signature"),
    "dtype": (
        lambda d: generated([1.5], output_types=np.int32),
        "generator: expected int32, received 1.5",
    ),
    "shape": (
        lambda d: generated([[1]], output_signature=TensorSpec([2], np.int32)),
        r"generator: expected shape \(2,\), received \(1,\)",
    ),
    "structure": (
        lambda d: generated([[1, 2]], output_types=(np.int32, np.int32)),
        r"generator: expected the structure of \(TensorSpec.*, received \[1, 2\]",
    ),
    "signature": (
        lambda d: generated([1], output_signature=np.int32),
        "output_signature: expected TensorSpecs, received <class 'numpy.int32'>",
    ),
    "spec": (lambda d: TensorSpec([-1]), "shape: expected sizes >= 0, None for any, received -1"),
    "state": (
        lambda d: d.reduce(0, lambda s, n: s + n),
        "reduce_func: expected a state as before: expected TensorSpec.*int32.*received.*int64",
    ),
    "single": (lambda d: d.get_single_element(), "expected one element, received more"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case):
    make, message = MISTAKES[case]
    with pytest.raises(ValueError, match=message):
        make(Dataset.range(5))


def test_what_is_not_there_says_what_is():
    data = Dataset.range(3)
    with pytest.raises(AttributeError, match=r"has no snapshot: cache\(\) keeps the elements"):
        data.snapshot("folder")
    with pytest.raises(AttributeError, match=r"has no load: np.load and from_tensor_slices"):
        Dataset.load("folder")
    assert not hasattr(data, "save")
    with pytest.raises(TypeError, match="a Dataset comes from Dataset.from_tensor_slices"):
        Dataset()
    with pytest.raises(TypeError, match="the length of the dataset is infinite"):
        len(data.repeat())
    with pytest.raises(TypeError, match="elements that are arrays, received Datasets"):
        list(data.window(2).as_numpy_iterator())
