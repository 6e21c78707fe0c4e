"""TextVectorization: words, n-grams and characters as places, values by hand and of TensorFlow."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L

DATA = ["foo bar", "bar baz", "baz bada boom", "Ärger ÄRGER don't a\u00a0b c\u2003d"]


def shown(layer, x):
    return layer(x).numpy().tolist()


def adapted(data=("a b a", "B, c"), **options):
    layer = L.TextVectorization(**options)
    layer.adapt([*data])
    return layer


def test_words():
    layer = adapted(DATA)
    words = ["Ärger", "baz", "bar", "foo", "dont", "c\u2003d", "boom", "bada", "a\xa0b"]
    assert layer.get_vocabulary() == ["", "[UNK]", *words]
    assert layer.get_vocabulary(include_special_tokens=False) == words
    assert layer.vocabulary_size() == 11
    y = layer(["foo qux bar", "qux baz"])
    assert y.dtype == np.int64 and y.numpy().tolist() == [[5, 1, 4], [1, 3, 0]]
    assert shown(layer, [["foo qux bar"], [b"qux baz"]]) == [[5, 1, 4], [1, 3, 0]]
    assert shown(layer, np.array(["FOO!", "\t"])) == [[5], [0]]
    assert shown(layer, "foo qux bar") == [5, 1, 4]
    assert shown(layer, [b"foo \xff bar"]) == [[5, 1, 4]]
    assert layer(["", ""]).shape == (2, 0) and layer(np.zeros(0, str)).shape == (0, 0)
    assert shown(layer, [[["foo"], ["bar foo"]]]) == [[[5, 0], [4, 5]]]


def test_length():
    layer = L.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3)
    assert shown(layer, ["a", "b c a b", ""]) == [[2, 0, 0], [3, 1, 2], [0, 0, 0]]
    assert shown(layer, "b a") == [3, 2, 0]
    many = [f"a {'b ' * (n % 7)}" for n in range(1000)]  # more than are looked at together
    assert shown(layer, many) == [
        [2, *[3] * min(n % 7, 2), *[0] * (2 - n % 7)] for n in range(1000)
    ]


@pytest.mark.parametrize(
    "standardize, text, expected",
    [
        ("lower_and_strip_punctuation", "Don't É-x  <b>", ["dont", "Éx", "b"]),
        ("lower", "Don't É", ["don't", "É"]),
        ("strip_punctuation", "Don't É", ["Dont", "É"]),
        (None, "Don't É", ["Don't", "É"]),
        (lambda x: np.char.replace(np.char.upper(x), "'", "_"), "Don't é", ["DON_T", "É"]),
    ],
)
def test_standardize(standardize, text, expected):
    layer = L.TextVectorization(standardize=standardize, vocabulary=[*expected, "other"])
    assert shown(layer, [text]) == [list(range(2, 2 + len(expected)))]


def test_split():
    assert shown(L.TextVectorization(vocabulary=["a"]), ["a\n\x0ba\ta\u2003 a\x1c"]) == [
        [2, 2, 1, 1]
    ]
    layer = L.TextVectorization(
        split="character", standardize=None, vocabulary=["a", "é", "�", " "]
    )
    texts = ["aé ", b"\xffa", b"a\xe2\x82b", "\ufeff"]
    assert shown(layer, texts) == [[2, 3, 5], [4, 2, 0], [2, 4, 1], [1, 0, 0]]
    layer = L.TextVectorization(split=None, standardize=None, vocabulary=["a b", "c"])
    assert shown(layer, [["a b"], ["z"]]) == [[2], [1]]
    assert shown(layer, [["a b", "c", ""]]) == [[2, 3, 0]] and shown(layer, ["c", ""]) == [3, 0]
    layer = L.TextVectorization(split=lambda x: [t.split("-") for t in x], standardize=None)
    layer.adapt(["a-b", "b-c d"])
    assert layer.get_vocabulary() == ["", "[UNK]", "b", "c d", "a"]
    assert shown(layer, ["c d-x", b"\xff-b"]) == [[3, 1], [1, 2]]


def test_ngrams():
    layer = adapted(["a b c", "a b"], ngrams=2)
    assert layer.get_vocabulary() == ["", "[UNK]", "b", "a b", "a", "c", "b c"]
    assert shown(layer, ["a b", "a", ""]) == [[4, 2, 3], [4, 0, 0], [0, 0, 0]]
    layer = adapted(["a b c", "a b"], ngrams=(2,))
    assert shown(layer, ["a b", "a"]) == [[2], [0]]
    layer = L.TextVectorization(ngrams=(3, 1), vocabulary=["c", "b", "a b c", "a"])
    assert shown(layer, ["a b c", "a"]) == [[4, 5, 3, 2], [5, 0, 0, 0]]
    layer = L.TextVectorization(ngrams=2, split=None, vocabulary=["a", "a c"])
    assert shown(layer, [["a", "c", "a"], ["b", "d", "x"]]) == [[2, 1, 2, 3, 1], [1] * 5]


def test_rows():
    options = {"vocabulary": ["a", "b"]}
    texts = ["a b b", "c", ""]
    layer = L.TextVectorization(output_mode="count", **options)
    assert layer.get_vocabulary() == ["[UNK]", "a", "b"]
    assert shown(layer, texts) == [[0, 1, 2], [1, 0, 0], [0, 0, 0]]
    assert layer(texts).dtype == np.int64 and shown(layer, "b z") == [1, 0, 1]
    layer = L.TextVectorization(output_mode="multi_hot", **options)
    assert shown(layer, texts * 50) == [[0, 1, 1], [1, 0, 0], [0, 0, 0]] * 50
    layer = L.TextVectorization(5, output_mode="binary", pad_to_max_tokens=True, **options)
    assert shown(layer, ["a z"]) == [[1, 1, 0, 0, 0]]
    layer = L.TextVectorization(output_mode="tf_idf", idf_weights=[0.5, 2], **options)
    np.testing.assert_allclose(layer(texts), [[0, 0.5, 4], [1.25, 0, 0], [0, 0, 0]])
    layer = adapted(["a b", "b", "b c"], output_mode="tf-idf")
    idf = np.log(1 + 3 / (1 + np.array([3, 1, 1])))
    assert layer.get_vocabulary() == ["[UNK]", "b", "c", "a"]
    np.testing.assert_allclose(layer(["b a a z"]), [[idf.mean(), idf[0], 0, 2 * idf[2]]], rtol=1e-6)


def test_adapt():
    layer = L.TextVectorization(max_tokens=4)
    layer.adapt(iter([["a b"], np.array([["b c"], ["c b"]], object)]))
    assert layer.get_vocabulary() == ["", "[UNK]", "b", "c"]
    layer.adapt([["x y", "x"][n % 2] for n in range(300)])
    assert layer.get_vocabulary() == ["", "[UNK]", "x", "y"]
    layer.adapt((["q"] for _ in iter(int, 1)), steps=3)
    assert layer.get_vocabulary() == ["", "[UNK]", "q"]
    layer.adapt(["..."])
    assert layer.get_vocabulary() == ["", "[UNK]", "q"]  # as Keras, which keeps the old
    layer.reset_state()
    layer.update_state(["a b"])
    layer.update_state("b")
    layer.finalize_state()
    assert layer.get_vocabulary() == ["", "[UNK]", "b", "a"]
    layer.set_vocabulary(["", "[UNK]", "w"])
    assert shown(layer, ["w a"]) == [[2, 1]]


def test_vocabulary_file(tmp_path):
    (tmp_path / "v.txt").write_text("b\na b\n")
    layer = L.TextVectorization(vocabulary=tmp_path / "v.txt")
    assert layer.get_vocabulary() == ["", "[UNK]", "b", "a b"]
    model = model_of(layer)
    model.save(tmp_path / "m.keras")
    (tmp_path / "v.txt").unlink()
    twin = fastrnn.models.load_model(tmp_path / "m.keras")
    assert twin.layers[0].get_vocabulary() == layer.get_vocabulary()


def model_of(layer, *top):
    top = top or (L.Embedding(20, 3), L.LSTM(4), L.Dense(1))
    return fastrnn.Sequential([L.Input((1,), dtype="string"), layer, *top])


X = np.array([["a b"], ["c"], ["b b, a!"]], object)


@pytest.mark.parametrize("length", [None, 4])
@pytest.mark.parametrize("mask_zero", [False, True])
def test_in_models(length, mask_zero):
    layer = adapted(output_sequence_length=length)
    assert model_of(layer).output_shape == (None, 1) and layer.dtype == "string"
    model = model_of(layer, L.Embedding(20, 3, mask_zero=mask_zero), L.LSTM(4), L.Dense(1))
    inner = fastrnn.Sequential(model.layers[1:])
    expected = inner.predict(layer(X), verbose=0)
    predictor = model.compile_inference()
    for given in (X, X[:, 0], X.tolist(), X[:, 0].tolist(), X.astype(str), X.astype(bytes)):
        for outputs in (model.predict(given, verbose=0), model(given), predictor(given)):
            np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    model.compile("adam", "mse")
    y = np.ones((3, 1), np.float32)
    before = model.evaluate(X, y, verbose=0)
    model.fit(X, y, epochs=20, batch_size=2, verbose=0)
    model.fit(((X, y) for _ in range(5)), steps_per_epoch=5, verbose=0)
    assert model.train_on_batch(X, y) < before
    assert model.evaluate(X[:, 0], y, verbose=0) < before
    longer = np.array([["a b c c c c c b"]], object)
    np.testing.assert_allclose(
        predictor(longer), inner.predict(layer(longer), verbose=0), rtol=1e-5, atol=1e-6
    )


def test_graphs():
    start, other = L.Input((), dtype="string", name="text"), L.Input((2,), name="numbers")
    words = adapted(output_sequence_length=4)(start)
    assert words.dtype == "int64" and words.shape == (None, 4) and start.dtype == "string"
    counts = adapted(output_mode="count")(start)
    assert counts.dtype == "float32" and counts.shape == (None, 4)
    y = L.GRU(3)(L.Embedding(9, 2)(words))
    model = fastrnn.Model([start, other], L.Dense(1)(L.Concatenate()([y, counts, other, words])))
    x = [X[:, 0], np.ones((3, 2), np.float32)]
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(model.predict({"text": X, "numbers": x[1]}, verbose=0), expected)
    np.testing.assert_allclose(model.compile_inference()(x), expected, rtol=1e-5, atol=1e-6)
    model.compile("adam", "mse")
    assert np.isfinite(model.fit(x, np.ones((3, 1)), epochs=2, verbose=0).history["loss"]).all()
    config = model.get_config()["layers"]
    tensors = [layer["inbound_nodes"][0]["args"][0]["config"] for layer in config[1:3]]
    assert {tensor["dtype"] for tensor in tensors if "dtype" in tensor} >= {"string"}
    nested = model_of(model_of(adapted(), L.Embedding(5, 2), L.LSTM(2)), L.Dense(1))
    assert nested.predict(X, verbose=0).shape == (3, 1)
    assert nested.compile_inference()(X).shape == (3, 1)


def test_whole_numbers_out_of_models():
    for options in ({}, {"output_sequence_length": 2}, {"output_mode": "count"}):
        layer = adapted(**options)
        model = fastrnn.Sequential([L.Input((1,), dtype="string"), layer])
        for x in (X, np.tile(X, (40, 1))):
            y = model.predict(x, verbose=0, batch_size=120)
            assert y.dtype == np.int64
            np.testing.assert_array_equal(y, layer(x))
    model = fastrnn.Sequential([L.Input((1,), dtype="string"), adapted()])
    with pytest.raises(
        ValueError, match=r"predict: expected outputs of one shape .*\(1,\) after \(2"
    ):
        model.predict(X, batch_size=1, verbose=0)
    message = r"'text_vec.*' \(TextV.*\): expected output_sequence_length for compile_inference"
    with pytest.raises(ValueError, match=message):
        model.compile_inference()(X)


def test_pandas():
    pandas = pytest.importorskip("pandas", reason="needs pandas, to ask it")
    frame = pandas.DataFrame({"text": X[:, 0], "y": [0, 1, 0]})
    layer = L.TextVectorization(output_sequence_length=3)
    layer.adapt(frame["text"])
    assert layer.get_vocabulary() == adapted([*X[:, 0]]).get_vocabulary()
    model = model_of(layer)
    for x in (frame["text"], frame[["text"]]):
        np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(X, verbose=0))
    model.compile("sgd", "mse")
    model.fit(frame["text"], frame["y"], verbose=0)
    with pytest.raises(ValueError, match="expected text, str or bytes, received nan"):
        model.predict(pandas.Series(["a", np.nan]))


def shouted(x):
    return np.char.upper(x)


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"output_mode": "tf_idf"}, {"split": "character", "standardize": None},
        {"output_mode": "tf_idf", "max_tokens": 9, "pad_to_max_tokens": True},
        {"ngrams": (1, 3), "encoding": "latin-1"}, {"standardize": shouted},
        {"standardize": None, "split": None},
    ],
    ids=str,
)  # fmt: skip
def test_files(options, ending, tmp_path):
    """Also of tokens that a text file of lines does not keep, such as line breaks."""
    layer = adapted(["a b\n \n", "c\x85 b", "é\r", " "], **options)
    top = () if layer.output_dtype == "int64" else (L.Dense(1),)
    model = model_of(layer, *top)
    path = tmp_path / f"m.{ending}"
    model.save(path)
    twin = fastrnn.models.load_model(
        path, {"shouted": shouted} if callable(layer.standardize) else None
    )
    copies = [twin, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for other in copies:
        assert other.layers[0].get_vocabulary() == layer.get_vocabulary()
        assert other.get_config() == model.get_config()
        np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
        if options.get("output_mode") != "tf_idf":
            other.layers[0].adapt(["it is as if adapted"])
    assert fastrnn.models.clone_model(model).layers[0].vocabulary_size() < layer.vocabulary_size()


def test_files_of_changed_vocabularies(tmp_path):
    layer = L.TextVectorization(vocabulary=["a"])
    layer.set_vocabulary(["b", "c"])
    model = model_of(layer)
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        twin = fastrnn.models.load_model(tmp_path / name)
        assert twin.layers[0].get_vocabulary() == ["", "[UNK]", "b", "c"]
    empty = model_of(L.TextVectorization())
    for name in ("e.keras", "e.h5"):
        empty.save(tmp_path / name)
        twin = fastrnn.models.load_model(tmp_path / name)
        assert twin.layers[0].get_vocabulary() == ["", "[UNK]"]
        with pytest.raises(ValueError, match="expected a vocabulary, found none"):
            twin.predict(X, verbose=0)


def test_weights_files(tmp_path):
    model, twin = (model_of(adapted(output_mode="tf_idf"), L.Dense(1)) for _ in range(2))
    twin.layers[0].set_vocabulary(twin.layers[0].get_vocabulary(), [9, 9, 9, 9])
    model.save_weights(tmp_path / "w.weights.h5")
    twin.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(twin.predict(X, verbose=0), model.predict(X, verbose=0))
    other = model_of(adapted(["a"], output_mode="tf_idf"), L.Dense(1))
    with pytest.raises(ValueError, match=r"expected 2 idf_weights, the file has shape \(4,\)"):
        other.load_weights(tmp_path / "w.weights.h5")
    plain = model_of(adapted(output_mode="count"), L.Dense(1))
    plain.save_weights(tmp_path / "p.weights.h5")
    with pytest.raises(ValueError, match="expected 4 idf_weights, the file has shape none"):
        model.load_weights(tmp_path / "p.weights.h5")


def test_what_is_not_saved(tmp_path):
    layer = L.TextVectorization()
    layer.adapt([b"\xff"])
    with pytest.raises(
        ValueError, match="vocabulary of layer 'string_lookup.*expected text of utf-8"
    ):
        model_of(layer).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="a lambda has no name to be saved under"):
        model_of(L.TextVectorization(split=lambda x: x, vocabulary=["a"])).save(
            tmp_path / "m.keras"
        )
    large = model_of(L.TextVectorization(vocabulary=[f"{n:020}" for n in range(180_000)]))
    with pytest.raises(
        ValueError, match=r"config: expected at most 4194304 bytes .*set_vocabulary"
    ):
        large.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="self_test: expected None for a model that takes text"):
        model_of(adapted()).save(tmp_path / "m.keras", self_test=X)
    assert not [*tmp_path.iterdir()]


def test_other_formats():
    pytest.importorskip("onnx", reason="needs onnx, to write it")
    model = model_of(adapted(output_sequence_length=3))
    for write in (fastrnn.to_onnx, fastrnn.to_c):
        with pytest.raises(ValueError, match="layer 'text_vectorization.*TextVectorization"):
            write(model)
    with pytest.raises(ValueError, match="layer .text_vec.*takes text; streams take numbers"):
        model.stream()


def test_threads():
    model = model_of(adapted(output_sequence_length=5))
    x, found = np.tile(X, (50, 1)), []
    expected = model.predict(x, verbose=0)
    work = [
        threading.Thread(target=lambda: found.append(model.predict(x, verbose=0))) for _ in "1234"
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(found) == 4 and all(np.array_equal(y, expected) for y in found)


COUNTS = L.TextVectorization(vocabulary=["a"], output_mode="count")


def bad(**options):
    return lambda: L.TextVectorization(**options)


@pytest.mark.parametrize(
    "make, message",
    [
        (bad(standardize="upper"), r"standardize: expected one of \['lower_and.*received 'upper'"),
        (bad(split="word"), r"split: expected one of \['whitespace', .*received 'word'"),
        (bad(ngrams=0), "ngrams: expected an int >= 1, a tuple of such or None, received 0"),
        (bad(ngrams=(2, 0)), r"ngrams: expected .*received \(2, 0\)"),
        (bad(ngrams=()), r"ngrams: expected .*received \(\)"),
        (bad(ngrams=1.5), "ngrams: expected .*received 1.5"),
        (bad(output_mode="one_hot"), "output_mode: expected one of .*received 'one_hot'"),
        (bad(output_sequence_length=0), "output_sequence_length: expected an int >= 1 or None"),
        (
            bad(output_sequence_length=3, output_mode="count"),
            "output_sequence_length: expected None for output_mode 'count', received 3",
        ),
        (bad(ragged=True), "ragged: expected False, as there are no ragged tensors"),
        (bad(sparse=True), "sparse: expected False, as there are no sparse tensors"),
        (bad(units=3), "unknown arguments.*units"),
        (bad(standardize={"class_name": "function", "config": "eval"}), "standardize: expected"),
        (lambda: L.TextVectorization()(["a"]), "expected a vocabulary, found none; call adapt"),
        (lambda: adapted()([["a", "b"]]), r"of shape \(batch,\) or \(batch, 1\), .*words"),
        (lambda: adapted()([None]), "inputs: expected text, str or bytes, received None"),
        (lambda: adapted()(np.ones(2)), "inputs: expected an array of text, .*dtype float64"),
        (lambda: model_of(adapted()).predict([1.5]), "inputs: expected text, str or bytes"),
        (lambda: adapted([1]), "data: expected text, str or bytes, received 1"),
        (lambda: COUNTS([[["a"], ["b"]]]), r"or \(batch, 1\), received \(1, 2"),
        (
            lambda: L.TextVectorization(standardize=lambda x: x[:1]).adapt(["a", "b"]),
            r"standardize: expected a function .*of shape \(2,\) for one, received \(1,\)",
        ),
        (
            lambda: L.TextVectorization(standardize=lambda x: np.ones(2)).adapt(["a", "b"]),
            "standardize: results: expected text, str or bytes, received 1.0",
        ),
        (
            lambda: L.TextVectorization(split=lambda x: x).adapt(["a", "b"]),
            "split: expected a function that gives 2 lists of words for as many texts, received",
        ),
        (
            lambda: L.TextVectorization(split=None, ngrams=2, vocabulary=["a"])("a"),
            "inputs: expected words for ngrams with split=None, received one text",
        ),
        (lambda: L.TextVectorization(vocabulary=["a"]).adapt(["a"]), "no vocabulary in the constr"),
    ],
)  # fmt: skip
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
