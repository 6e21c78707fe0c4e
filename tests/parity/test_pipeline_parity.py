"""Pipelines of fastrnn.pipeline beside tf.data itself, element for element: random compositions of
steps, the steps one by one, and arguments that both have to refuse."""

import collections
import itertools
from operator import methodcaller

import numpy as np
import pytest
from comparison import keras, tf

import fastrnn
from fastrnn import specs
from fastrnn.pipeline import Dataset as Ours
from fastrnn.pipeline import TextLineDataset

Theirs = tf.data.Dataset
MOST = 40  # elements that are compared


# --- what is compared ---


def described(spec):
    """A structure of specs of either library, as one of text; a Dataset's by what is in it."""
    if isinstance(spec, dict):
        return {key: described(part) for key, part in spec.items()}
    if isinstance(spec, tuple):
        return tuple(described(part) for part in spec)
    if hasattr(spec, "element_spec"):
        return ["dataset", described(spec.element_spec)]
    return repr(spec).replace(", name=None", "")


def elements(dataset):
    """The first elements as NumPy's, Datasets in them as lists."""

    def plain(part):
        if isinstance(part, dict):
            return {key: plain(inner) for key, inner in part.items()}
        if isinstance(part, tuple):
            return tuple(plain(inner) for inner in part)
        if isinstance(part, (Ours, Theirs)):
            return elements(part)
        return None if part is None else np.asarray(part.numpy())

    return [plain(element) for element in itertools.islice(dataset, MOST)]


def assert_same(got, want):
    assert type(got) is type(want)
    if isinstance(want, dict):
        assert list(got) == list(want)
        got, want = list(got.values()), list(want.values())
    if isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert_same(one, other)
    elif want is not None:
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_array_equal(got, want)


def outcome(make, Dataset):
    """(None, what a pipeline of this class is and gives), or (the error, None)."""
    try:
        dataset = make(Dataset)
        shown = described(dataset.element_spec)
        return None, (int(dataset.cardinality().numpy()), shown, elements(dataset))
    except Exception as error:
        return error, None


def compare(make, tally=None):
    """Both raise, or both are the same."""
    theirs, want = outcome(make, Theirs)
    ours, got = outcome(make, Ours)
    if theirs is not None or ours is not None:
        assert ours is not None, f"fastrnn does not raise {theirs!r}"
        assert theirs is not None, f"TensorFlow does not raise {ours!r}"
        return False
    assert got[:2] == want[:2]
    assert_same(got[2], want[2])
    return True


# --- random compositions ---


def sources(rng):
    n = int(rng.integers(0, 12))
    numbers = rng.normal(size=(n, 3))
    x, y = numbers.astype(np.float32), rng.integers(0, 9, n)
    words = [f"word{k}" for k in range(max(n, 1))]
    rows = [list(range(k % 4)) for k in range(n)]
    a, b, c = (int(v) for v in rng.integers(-5, 9, 3))

    def generated(Dataset):
        def signature(*args):
            module = tf if Dataset is Theirs else specs
            return module.TensorSpec(*args)

        def rows_of():
            yield from ((row, len(row)) for row in rows)

        shapes = signature([None], np.int64), signature([], np.int32)
        return Dataset.from_generator(rows_of, output_signature=shapes)

    return [
        ("range", lambda D: D.range(n)),
        (f"range {a} {b} {c or 1}", lambda D: D.range(a, b, c or 1)),
        ("float64", lambda D: D.from_tensor_slices(numbers)),
        ("pair", lambda D: D.from_tensor_slices((x, y))),
        ("dict", lambda D: D.from_tensor_slices({"b": x, "a": y})),
        ("nested", lambda D: D.from_tensor_slices(({"b": x, "a": (y, numbers)}, y))),
        ("words", lambda D: D.from_tensor_slices(words)),
        ("whole", lambda D: D.from_tensors((x[:2], 3))),
        ("generator", generated),
    ]


def first_of(element):
    while not hasattr(element, "shape"):
        element = next(iter(element.values())) if isinstance(element, dict) else element[0]
    return element


def as_given(args):
    return args if len(args) > 1 else args[0]


def doubled(*args):
    def change(part):
        if isinstance(part, dict):
            return {key: change(inner) for key, inner in part.items()}
        if isinstance(part, tuple):
            return tuple(change(inner) for inner in part)
        return part if part.dtype in (object, tf.string) else part * 2

    return change(as_given(args))


def whole_windows(D, size, drop):
    """A function for flat_map that makes batches of windows of any structure."""

    def batched(part):
        if isinstance(part, dict):
            return {key: batched(inner) for key, inner in part.items()}
        if isinstance(part, tuple):
            return tuple(batched(inner) for inner in part)
        return part.batch(size, drop_remainder=drop)

    return lambda *args: D.zip(batched(as_given(args)))


def steps(rng):
    """(what it says, function of the class and a Dataset)"""
    k, size, drop = int(rng.integers(-1, 7)), int(rng.integers(1, 5)), bool(rng.integers(2))
    shift, stride = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    return [
        (f"batch {size} {drop}", lambda D, d: d.batch(size, drop_remainder=drop)),
        (f"padded_batch {size} {drop}", lambda D, d: d.padded_batch(size, drop_remainder=drop)),
        (f"take {k}", lambda D, d: d.take(k)),
        (f"skip {k}", lambda D, d: d.skip(k)),
        (f"repeat {k}", lambda D, d: d.repeat(k)),
        (f"shard {size}", lambda D, d: d.shard(size, size - 1)),
        ("prefetch", lambda D, d: d.prefetch(k)),
        ("cache", lambda D, d: d.cache()),
        ("shuffle 1", lambda D, d: d.shuffle(1)),
        ("unbatch", lambda D, d: d.unbatch()),
        ("enumerate", lambda D, d: d.enumerate(k)),
        ("map", lambda D, d: d.map(doubled, num_parallel_calls=-1)),
        ("map to dict", lambda D, d: d.map(lambda *args: {"q": first_of(args), "p": (1, 2.5)})),
        ("map to list", lambda D, d: d.map(lambda *args: [first_of(args), "text"])),
        ("filter", lambda D, d: d.enumerate().filter(lambda n, _: n % 2 == 0)),
        ("concatenate", lambda D, d: d.concatenate(d.take(2))),
        ("zip", lambda D, d: D.zip((d, D.range(5)))),
        ("zip itself", lambda D, d: D.zip({"one": d, "two": d.skip(1)})),
        (
            f"window {size} {shift} {stride} {drop}",
            lambda D, d: d.window(size, shift, stride, drop).flat_map(whole_windows(D, size, drop)),
        ),
        (f"windows {size} {shift}", lambda D, d: d.window(size, shift, stride, drop)),
        ("flat_map", lambda D, d: d.flat_map(lambda *args: D.from_tensors(args).repeat(2))),
        (
            f"interleave {size} {shift}",
            lambda D, d: d.enumerate().interleave(
                lambda n, _: D.range(n), cycle_length=size, block_length=shift
            ),
        ),
        ("scan", lambda D, d: d.scan(np.int64(1), lambda s, x: (s * 3, (s, x)))),
        ("take_while", lambda D, d: d.enumerate().take_while(lambda n, _: n < 3)),
        ("options", lambda D, d: d.apply(lambda inner: inner.skip(1))),
    ]


def composed(seed):
    """A random pipeline: what it is in words, and the function that makes it with a class."""
    rng = np.random.default_rng(seed)
    said, make = sources(rng)[rng.integers(9)]
    chain = []
    for _ in range(rng.integers(1, 6)):
        every = steps(rng)
        chain.append(every[rng.integers(len(every))])
        if chain[-1][0].startswith("windows"):
            break
    words = " | ".join([said, *(word for word, _ in chain)])

    def made(Dataset):
        dataset = make(Dataset)
        for _, step in chain:
            dataset = step(Dataset, dataset)
        return dataset

    return words, made


@pytest.mark.parametrize("block", range(10))
def test_random_pipelines(block, tally):
    ran = 0
    for seed in range(40 * block, 40 * block + 40):
        words, make = composed(seed)
        try:
            ran += compare(make)
        except AssertionError as error:
            raise AssertionError(f"pipeline {seed}: {words}: {error}") from None
    tally.compared("pipelines", ran)
    assert ran >= 20


# --- steps one by one ---


def generated(*values, types=np.int32, shapes=None, args=None):
    return lambda D: D.from_generator(
        lambda *given: iter(given or values), types, shapes, args=args
    )


def grown(D, n=4):
    """1, 2 2, 3 3 3, ..."""
    return D.range(1, n + 1).flat_map(lambda x: D.from_tensors(x).repeat(x).batch(9))


def slices(*arrays):
    return lambda D: D.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])


Point = collections.namedtuple("Point", "a b")
X = np.arange(12, dtype=np.float32).reshape(4, 3)
STEPS = {
    "whole numbers": slices([1, 2]),
    "large numbers": slices([1, 2**40]),
    "numbers of NumPy": slices([np.float64(1), np.float64(2)]),
    "mixed numbers": slices([1, 2.5]),
    "true and false": slices([True, False]),
    "a list of arrays": slices([X, X]),
    "strings": slices(["a", b"b", "é"]),
    "NumPy's strings": slices(np.array(["a", "é"])),
    "NumPy's bytes": slices(np.array([b"a", b"bc"])),
    "objects": slices(np.array(["a", b"b"], object)),
    "nothing": slices([]),
    "rows of none": slices(np.zeros((0, 3), np.float16)),
    "None beside an array": slices(X, None),
    "a named tuple": lambda D: slices(Point([1, 2], [3, 4]))(D).map(lambda p: (p.b, p.a)),
    "a tuple of one": lambda D: slices([1])(D).map(lambda x: (x,)),
    "a string of a function": lambda D: slices([1])(D).map(lambda x: "a"),
    "None of a function": lambda D: slices([1])(D).map(lambda x: (x, None)),
    "a list in a list": lambda D: slices([1])(D).map(lambda x: [(x, x), x]),
    "float64 of a function": lambda D: slices([1])(D).map(lambda x: np.float64(3)),
    "from_tensors": lambda D: D.from_tensors({"a": [1, 2], "b": ("x", 2.0)}),
    "range of floats": lambda D: D.range(5, output_type=np.float32),
    "range backwards": lambda D: D.range(5, 1, -2),
    "counter": lambda D: D.counter(3, -2, np.int32),
    "generator of numbers": generated(1, 2),
    "generator of a list": generated([1, 2], [3]),
    "generator of strings": generated("a", b"b", types="string"),
    "generator of a cast": generated(1, 2.5, np.array(3), types=np.float32),
    "generator of arrays that are cut": generated(np.array([1.7, -1.7]), np.float32(2.5)),
    "generator of a shape": generated([[1, 2]], types=np.int64, shapes=(None, 2)),
    "generator of pairs": generated((1, "a"), types=(np.int64, "string"), shapes=([], [])),
    "generator of arguments": generated(types=np.int64, args=[3, 4]),
    "generator again": lambda D: generated(1, 2)(D).repeat(2),
    "zip of one": lambda D: D.zip(D.range(2)),
    "zip of a tuple of one": lambda D: D.zip((D.range(2),)),
    "zip by name": lambda D: D.zip(datasets={"b": D.range(2), "a": D.range(3)}),
    "zip nested": lambda D: D.zip(D.range(2), (D.range(3), D.range(1))),
    "zip with a filter": lambda D: D.zip(D.range(9).filter(lambda x: x > 3), D.range(3).repeat()),
    "repeat of an unknown number": lambda D: D.range(5).filter(lambda x: x > 2).repeat(),
    "repeat of none": lambda D: D.range(0).repeat(),
    "take of endless": lambda D: D.range(3).repeat().take(7),
    "skip of endless": lambda D: D.range(3).repeat().skip(7),
    "skip of all that is endless": lambda D: D.range(3).repeat().skip(-1),
    "repeats of a skip": lambda D: D.range(3).skip(-1).repeat(),
    "zip nested, of filtered": lambda D: D.zip(D.range(3).filter(lambda x: x > 0), (D.range(3),)),
    "enumerate of endless": lambda D: D.range(3).repeat().enumerate(-2),
    "padded_batch of strings": lambda D: slices(["a", "b", "c"])(D).padded_batch(2).unbatch(),
    "none of an unknown number": lambda D: D.range(3).filter(lambda x: x > 0).take(0),
    "windows of batches of free sizes": lambda D: (
        D.range(8).batch(2).batch(2, True).window(2).flat_map(lambda w: w.batch(2))
    ),
    "endless and more": lambda D: D.range(3).repeat().concatenate(D.range(2)),
    "unknown and endless": lambda D: (
        D.range(3).filter(lambda x: x > 1).concatenate(D.range(2).repeat())
    ),
    "concatenate of lengths": lambda D: slices([[1, 2]])(D).concatenate(slices([[1, 2, 3]])(D)),
    "concatenate of ranks": lambda D: slices([[1, 2]])(D).concatenate(slices([[[1, 2, 3]]])(D)),
    "padded_batch": lambda D: grown(D).padded_batch(3),
    "padded_batch to a shape": lambda D: grown(D).padded_batch(3, [5], np.int64(-1)),
    "padded_batch of none": lambda D: grown(D).padded_batch(3, [None], None, True),
    "padded_batch to -1": lambda D: grown(D).padded_batch(3, padded_shapes=[-1]),
    "padded_batch to TensorShape": lambda D: grown(D).padded_batch(
        3, (specs if D is Ours else tf).TensorShape([None])
    ),
    "padded_batch of a pair": lambda D: D.zip(
        grown(D), slices(["a", "b", "c", "d"])(D)
    ).padded_batch(3, ([None], []), (np.int64(7), "none")),
    "padded_batch of a dict": lambda D: slices({"a": X, "b": X})(D).padded_batch(
        3, {"a": [4], "b": [None]}
    ),
    "padded_batch of rows": lambda D: slices(np.ones((2, 2, 3)))(D).padded_batch(
        2, [3, None], np.float64(2.5)
    ),
    "padded_batch of numbers": lambda D: D.range(5).padded_batch(2),
    "unbatch of endless": lambda D: slices(X)(D).repeat().unbatch(),
    "batches of strings": lambda D: slices(["a", "b", "c"])(D).batch(2),
    "rebatch": lambda D: D.range(7).batch(3).rebatch(2),
    "rebatch whole": lambda D: D.range(7).batch(3).rebatch(2, drop_remainder=True),
    "windows of a pair": lambda D: slices(X, X[:, 0])(D).window(2, 1),
    "windows of shuffled": lambda D: D.range(6).shuffle(1).window(4, 3, 2),
    "windows further apart": lambda D: D.range(20).window(2, 5, 3),
    "windows reduced": lambda D: (
        D.range(7)
        .window(3, 2)
        .flat_map(lambda w: D.from_tensors(w.reduce(np.int64(0), lambda s, x: s + x)))
    ),
    "windows of words": lambda D: (
        slices(["a", "b", "c"])(D)
        .window(2, 1, 1, True)
        .flat_map(lambda w: w.batch(2, drop_remainder=True))
    ),
    "interleave": lambda D: D.range(1, 5).interleave(
        lambda x: D.from_tensors(x).repeat(4), cycle_length=2, block_length=3
    ),
    "interleave of lengths": lambda D: D.range(7).interleave(
        lambda x: D.range(x), cycle_length=3, block_length=2
    ),
    "unique": lambda D: slices(["a", "b", "a"])(D).unique(),
    "group_by_window": lambda D: D.range(11).group_by_window(
        lambda x: x % 3, lambda key, part: part.batch(2).enumerate(), window_size=3
    ),
    "bucket_by_sequence_length": lambda D: grown(D, 7).bucket_by_sequence_length(
        lambda x: x[0].astype(np.int32) if D is Ours else tf.cast(x[0], tf.int32), [3, 5], [2, 2, 1]
    ),
    "random seeds": lambda D: D.range(3).shuffle(1, seed=-5, reshuffle_each_iteration=False),
    "with_options": lambda D: D.range(3).with_options(tf.data.Options()),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps(name):
    assert compare(STEPS[name])


@pytest.mark.parametrize("count", [0, 1, 5, 8])
@pytest.mark.parametrize("drop", [False, True])
def test_lengths(count, drop):
    for size, shift, stride in itertools.product((1, 2, 3, 9), (1, 2, 5), (1, 2)):
        for step in (
            methodcaller("window", size, shift, stride, drop),
            methodcaller("batch", size, drop),
            methodcaller("shard", size, size - 1),
            methodcaller("skip", max(size - shift, -1)),
            methodcaller("take", max(size - shift, -1)),
        ):
            assert compare(lambda D, step=step: step(D.range(count)))


def number(name, *values):
    """A step of D.range(3) with each of these for its argument."""
    return {
        f"{name}({value!r})": lambda D, value=value: getattr(D.range(3), name)(value)
        for value in values
    }


REFUSED = {
    **number("batch", 0, -1, 2.5, None, "a"),
    **number("take", 2.5, None, "a"),
    **number("skip", 2.5, None, "a"),
    **number("repeat", 2.5, "a"),
    **number("shuffle", 0, -1, 2.5, None, "a"),
    **number("prefetch", -2, 2.5, "a"),
    **number("window", 0, -1, 2.5, None),
    **number("cache", 3),
    **number("concatenate", 3, [1]),
    **number("filter", lambda x: x, lambda x: None, lambda x: x[None] > 0, 3),
    **number("map", 3, lambda: 1, lambda x, y: x, lambda x: None, lambda x: x + {}),
    **number("flat_map", lambda x: x, 3),
    **number("apply", lambda d: 3),
    "window shift": lambda D: D.range(3).window(2, 0),
    "window stride": lambda D: D.range(3).window(2, 1, 0),
    "shard": lambda D: D.range(3).shard(3, 3),
    "shard below": lambda D: D.range(3).shard(3, -1),
    "no shards": lambda D: D.range(3).shard(0, 0),
    "calls": lambda D: D.range(3).map(lambda x: x, num_parallel_calls=0),
    "no range": lambda D: D.range(),
    "range of a float": lambda D: D.range(2.5),
    "range of four": lambda D: D.range(1, 2, 3, 4),
    "range without a step": lambda D: D.range(0, 5, 0),
    "zip of nothing": lambda D: D.zip(),
    "zip of both": lambda D: D.zip(D.range(2), datasets=D.range(2)),
    "zip of a list": lambda D: D.zip([D.range(2)]),
    "zip of arrays": lambda D: D.zip(X),
    "slices of a number": slices(3),
    "slices of nothing": slices(()),
    "slices of lengths": slices(X, X[:2]),
    "slices of a dict of lengths": slices({"a": X, "b": X[:2]}),
    "slices of unequal rows": slices([[1], [1, 2]]),
    "slices of objects": slices(np.array([1, 2.5], object)),
    "slices of dates": slices(np.array(["2020-01-01"], "datetime64[D]")),
    "generator that is one": lambda D: D.from_generator(iter([1]), output_types=np.int32),
    "generator without types": lambda D: D.from_generator(lambda: [1]),
    "generator with both": lambda D: D.from_generator(
        lambda: [1], np.int32, output_signature=(specs if D is Ours else tf).TensorSpec([])
    ),
    "generator of a float": generated(1.7),
    "generator of a number for a string": generated(1, types="string"),
    "generator of a string for a number": generated("a"),
    "generator of None": generated(None),
    "generator of lists for tuples": generated([1, 2], types=(np.int32, np.int32)),
    "generator of another shape": generated(1, shapes=(2,)),
    "generator of more": generated({"a": 1, "b": 2}, types={"a": np.int32}),
    "generator of another type": generated(1, types="nothing"),
    "concatenate of types": lambda D: D.range(3).concatenate(slices([1.0])(D)),
    "concatenate of structures": lambda D: D.range(3).concatenate(slices([1], [2])(D)),
    "batch of lengths": lambda D: grown(D).batch(2),
    "padded_batch below": lambda D: grown(D).padded_batch(3, [2]),
    "padded_batch of axes": lambda D: D.range(3).padded_batch(3, [2]),
    "padded_batch of a structure": lambda D: D.range(3).padded_batch(3, ([], [])),
    "padding with an array": lambda D: grown(D).padded_batch(3, None, np.ones(2, np.int64)),
    "padding with a string": lambda D: grown(D).padded_batch(3, None, "a"),
    "unbatch of numbers": lambda D: D.range(3).unbatch(),
    "unbatch of lengths": lambda D: slices(X, np.ones((4, 2)))(D).unbatch(),
    "interleave of none": lambda D: D.range(3).interleave(D.range, cycle_length=0),
    "interleave of no block": lambda D: D.range(3).interleave(D.range, block_length=0),
    "scan of one": lambda D: D.range(3).scan(0, lambda s, x: s),
    "scan of another state": lambda D: D.range(3).scan(0, lambda s, x: (x, x)),
    "no window size": lambda D: D.range(3).group_by_window(lambda x: x, lambda k, d: d),
    "bucket sizes": lambda D: grown(D).bucket_by_sequence_length(lambda x: 1, [3], [1]),
    "single of two": lambda D: D.from_tensors(D.range(2).get_single_element()),
    "state of another type": lambda D: D.from_tensors(D.range(5).reduce(0, lambda s, x: s + x)),
}


@pytest.mark.parametrize("name", REFUSED, ids=range(len(REFUSED)))
def test_both_refuse(name):
    assert not compare(REFUSED[name])


def test_numpy_iterators():
    def make(D):
        return D.zip(D.range(2), D.from_tensor_slices({"s": ["a", "b"], "x": X[:2]}))

    for got, want in zip(
        make(Ours).as_numpy_iterator(), make(Theirs).as_numpy_iterator(), strict=True
    ):
        assert type(got[0]) is type(want[0]) is np.int64
        assert type(got[1]["s"]) is type(want[1]["s"]) is bytes and got[1]["s"] == want[1]["s"]
        for rows in (got[1]["x"], want[1]["x"]):
            assert type(rows) is np.ndarray and not rows.flags.writeable
        np.testing.assert_array_equal(got[1]["x"], want[1]["x"])


def test_lengths_that_cannot_be_told():
    for D in (Ours, Theirs):
        for dataset in (D.range(3).repeat(), D.range(3).filter(lambda x: x > 1)):
            with pytest.raises(TypeError, match="infinite|unknown"):
                len(dataset)
        assert bool(D.range(0)) and len(D.range(0)) == 0


@pytest.mark.parametrize("buffer", [1, 3, 7, 20, 500])
def test_shuffled_elements_come_as_late_as_the_buffer_allows(buffer):
    for D in (Ours, Theirs):
        dataset = D.range(200).shuffle(buffer, seed=3)
        orders = [list(dataset.as_numpy_iterator()) for _ in range(2)]
        assert (orders[0] != orders[1]) == (buffer > 1)
        for order in orders:
            assert sorted(order) == list(range(200))
            assert all(place >= number - buffer + 1 for place, number in enumerate(order))
    kept = Ours.range(200).shuffle(buffer, reshuffle_each_iteration=False)
    assert list(kept.as_numpy_iterator()) == list(kept.as_numpy_iterator())


def test_lines_of_files(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_bytes("one\r\ntwo\n\né\rx\nlast".encode())
    (tmp_path / "other.txt").write_bytes(b"more\n")
    names = [str(file), str(tmp_path / "other.txt")]
    assert_same(elements(TextLineDataset(names)), elements(tf.data.TextLineDataset(names)))
    assert_same(
        elements(Ours.list_files(str(tmp_path / "*.txt"), shuffle=False)),
        elements(Theirs.list_files(str(tmp_path / "*.txt"), shuffle=False)),
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_mode": "categorical", "batch_size": 2},
        {"label_mode": "binary", "class_names": ["pos", "neg"], "batch_size": None},
        {"label_mode": None, "max_length": 3},
        {"labels": [3, 1, 2, 1, 3, 5], "follow_links": True},
        {"validation_split": 0.4, "subset": "training"},
        {"validation_split": 0.4, "subset": "validation"},
        {"validation_split": 0.4, "subset": "validation", "shuffle": True, "seed": 3},
    ],
    ids=str,
)
def test_texts_of_a_directory(options, tmp_path):
    for folder, words in {"pos": "good fine nice", "neg": "bad dull", ".x": "none"}.items():
        (tmp_path / folder).mkdir()
        for word in words.split():
            (tmp_path / folder / f"{word}.txt").write_text(f"{word}, é")
    (tmp_path / "pos" / "readme.md").write_text("none of these")
    options = {"shuffle": False, "verbose": False} | options
    want = keras.utils.text_dataset_from_directory(str(tmp_path), **options)
    got = fastrnn.utils.text_dataset_from_directory(tmp_path, **options)
    assert got.class_names == want.class_names
    assert described(got.element_spec) == described(want.element_spec)
    got, want = elements(got), elements(want)
    if options["shuffle"]:  # whole parts of the same files, each in an order of its own
        got, want = (sorted(part[0][0].tolist()) for part in (got, want))
        assert got == want and len(got) == 2
        return
    assert_same(got, want)
