"""StringLookup and IntegerLookup: places in vocabularies, values by hand and of TensorFlow."""

import copy
import pickle

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn.layers.hashing import fingerprint, siphash

VOCABULARY = ["a", "b", "c"]


def shown(layer, x):
    return layer(x).numpy().tolist()


def test_places():
    layer = L.StringLookup(vocabulary=VOCABULARY)
    assert layer.get_vocabulary() == ["[UNK]", *VOCABULARY]
    assert layer.get_vocabulary(include_special_tokens=False) == VOCABULARY
    assert layer.vocabulary_size() == 4
    y = layer([["a", "z"], [b"c", "b"]])
    assert y.dtype == np.int64 and y.numpy().tolist() == [[1, 0], [3, 2]]
    assert shown(layer, "b") == 2 and shown(layer, np.array(["b", ""])) == [2, 0]
    assert layer(np.zeros((2, 0), str)).shape == (2, 0)
    assert shown(L.IntegerLookup(vocabulary=[5, 7]), [[7, 6], [5, -1]]) == [[2, 0], [1, 0]]
    assert shown(L.IntegerLookup(vocabulary=[5, 7]), 7) == 2
    assert shown(L.IntegerLookup(vocabulary=[5, 7]), np.array([7.9, 5.0])) == [2, 1]


def test_mask_and_oov():
    layer = L.StringLookup(vocabulary=VOCABULARY, mask_token="", num_oov_indices=2)
    assert layer.get_vocabulary() == ["", "[UNK]", "[UNK]", *VOCABULARY]
    assert shown(layer, ["", "a", "c"]) == [0, 3, 5]
    assert {*shown(layer, ["x", "y", "z", "q", "w"])} == {1, 2}
    layer = L.StringLookup(vocabulary=["", "[UNK]", "b"], mask_token="", oov_token="[UNK]")
    assert layer.get_vocabulary() == ["", "[UNK]", "b"]  # they may be at the start
    layer = L.StringLookup(vocabulary=VOCABULARY, num_oov_indices=0)
    assert layer.get_vocabulary() == VOCABULARY and shown(layer, ["c"]) == [2]
    with pytest.raises(ValueError, match=r"inputs: expected .*alone.*received \['x', 'y'\]"):
        layer(["a", "x", "y"])


def test_hashes_of_tensorflow():
    layer = L.StringLookup(vocabulary=["a", "b"], num_oov_indices=3, mask_token="")
    assert shown(layer, ["a", "z", "", "y", "hello world"]) == [4, 2, 0, 3, 1]
    layer = L.StringLookup(vocabulary=["a", "b"], num_oov_indices=3, salt=7)
    assert shown(layer, ["a", "z", "", "y", "hello world"]) == [3, 0, 1, 2, 1]
    numbers = [5, 7, 1, -1, 2, 0, -7]
    layer = L.IntegerLookup(vocabulary=[5, 7, 9], num_oov_indices=3, mask_token=0)
    assert shown(layer, numbers) == [4, 5, 2, 3, 3, 0, 3]
    options = {"vocabulary": [5, 7, 9], "num_oov_indices": 3, "oov_method": "farmhash"}
    assert shown(L.IntegerLookup(**options), numbers) == [3, 4, 0, 0, 1, 1, 2]
    assert shown(L.IntegerLookup(**options, salt=(1, 2)), numbers) == [3, 4, 2, 2, 2, 2, 0]


def test_hashes_by_length():
    """tf.strings.to_hash_bucket_fast and _strong of 2**62 + 12345 buckets."""
    buckets, text = 2**62 + 12345, bytes(range(256))
    found = {n: fingerprint(text[:n]) % buckets for n in HASHES}
    assert found == {n: fast for n, (fast, _) in HASHES.items()}
    found = {n: siphash(text[:n], 5, -7) % buckets for n in HASHES}
    assert found == {n: strong for n, (_, strong) in HASHES.items()}


HASHES = {
    0: (1936946117179596765, 3864768125528437111),
    1: (4494688008148675298, 2003064100387341961),
    3: (1486536572171666472, 110368728650879990),
    4: (198155675784217806, 4584580266997098074),
    7: (2513219638405383727, 2789985190433981863),
    8: (3267946340606860070, 3659108334578490879),
    16: (1080060857502750420, 680611585177979145),
    17: (4302810082142109354, 1723271068516054940),
    32: (1917831512995979081, 291243008053860663),
    33: (2915358112413434275, 1392388543960092507),
    64: (3856493858525166496, 3890035778615674185),
    65: (478270155923172627, 4049617874455740030),
    127: (3065801231394450698, 2540503782892138629),
    128: (2037963038260878803, 711013441590091761),
    129: (1048111057192646547, 1586295301564137407),
    256: (679971070136936166, 1706989698666461245),
}


def test_inverted():
    layer = L.StringLookup(vocabulary=["a", "é"], invert=True, mask_token="", num_oov_indices=2)
    y = layer([[0, 1, 2, 3, 4, 5, -1, 99]])
    assert y.numpy().tolist() == [[b"", b"[UNK]", b"[UNK]", b"a", "é".encode(), *[b"[UNK]"] * 3]]
    assert y.dtype == object
    assert shown(L.IntegerLookup(vocabulary=[5, 7, 9], invert=True), range(5)) == [-1, 5, 7, 9, -1]


@pytest.mark.parametrize(
    "mode, x, expected",
    [
        ("one_hot", "a", [[0, 1, 0]]),
        ("one_hot", ["a", "z"], [[0, 1, 0], [1, 0, 0]]),
        ("one_hot", [["a"], ["b"]], [[0, 1, 0], [0, 0, 1]]),
        ("one_hot", [["a", "", "z"]], [[[0, 1, 0], [0, 0, 0], [1, 0, 0]]]),
        ("multi_hot", ["a", "a", "z"], [1, 1, 0]),
        ("multi_hot", [["a", "b", "a"], ["z", "", ""]], [[0, 1, 1], [1, 0, 0]]),
        ("count", [["a", "b", "a"], ["z", "", ""]], [[0, 2, 1], [1, 0, 0]]),
        ("count", "a", [0, 1, 0]),
        ("binary", ["a"], [0, 1, 0]),
    ],
)
def test_rows(mode, x, expected):
    layer = L.StringLookup(vocabulary=["a", "b"], output_mode=mode, mask_token="")
    assert layer.get_vocabulary() == ["[UNK]", "a", "b"]
    y = layer(x)
    assert y.dtype == np.int64 and y.numpy().tolist() == expected
    padded = L.StringLookup(5, 1, "", "[UNK]", ["a", "b"], output_mode=mode, pad_to_max_tokens=True)
    np.testing.assert_array_equal(padded(x)[..., :3], expected)
    assert padded(x).shape == (*y.shape[:-1], 5) and not padded(x)[..., 3:].any()


def test_tf_idf():
    data = [["a", "c", "d", "d"], ["d", "z", "b", "z"]]
    weights = [0.25, 0.75, 0.6, 0.4]
    layer = L.StringLookup(output_mode="tf_idf")
    layer.set_vocabulary(["a", "b", "c", "d"], weights)
    expected = [[0, 0.25, 0, 0.6, 0.8], [1, 0, 0.75, 0, 0.4]]
    np.testing.assert_allclose(layer(data), expected, rtol=1e-6)
    layer.set_vocabulary(["[UNK]", "a", "b", "c", "d"], [0.9, *weights])
    np.testing.assert_allclose(layer(data)[1], [1.8, 0, 0.75, 0, 0.4], rtol=1e-6)
    layer = L.IntegerLookup(output_mode="tf_idf", max_tokens=4, pad_to_max_tokens=True)
    layer.adapt([[3, 3], [1, 2], [3, 2]])
    idf = np.log(1 + 3 / (1 + np.array([2, 2, 1])))
    assert layer.get_vocabulary() == [-1, 3, 2, 1]
    np.testing.assert_allclose(layer([[3, 1], [9, 9]])[0], [0, idf[0], 0, idf[2]], rtol=1e-6)
    np.testing.assert_allclose(layer([[9, 9]]), [[2 * idf.mean(), 0, 0, 0]], rtol=1e-6)


def test_adapt():
    layer = L.StringLookup()
    layer.adapt(["b", "a", "c", "c", "[UNK]", "é", "b"])
    assert layer.get_vocabulary() == ["[UNK]", "c", "b", "é", "a"]  # ties: the greater bytes first
    layer.adapt(iter([["x", "y"], np.array([["y"]])]))
    assert layer.get_vocabulary() == ["[UNK]", "y", "x"]
    layer.adapt((["x", "y"] for _ in range(10**9)), steps=2)
    assert layer.get_vocabulary() == ["[UNK]", "y", "x"]
    layer.adapt([])
    assert layer.get_vocabulary() == ["[UNK]", "y", "x"]  # as Keras, which keeps the old
    layer.set_vocabulary(["q"])
    layer.adapt(["x"])
    assert layer.get_vocabulary() == ["[UNK]", "x"]
    layer = L.IntegerLookup(max_tokens=4, mask_token=0)
    layer.adapt(np.array([[3, 3, 1], [2, 0, -1]]))
    assert layer.get_vocabulary() == [0, -1, 3, 2]
    layer.reset_state()
    layer.update_state([8, 8])
    layer.update_state([9])
    layer.finalize_state()
    assert layer.get_vocabulary() == [0, -1, 8, 9]


def test_vocabulary_files(tmp_path):
    path = tmp_path / "v.txt"
    path.write_bytes(b"a\r\nb c\n\xc3\xa9")
    for given in (path, str(path)):
        layer = L.StringLookup(vocabulary=given, mask_token="")
        assert layer.get_vocabulary() == ["", "[UNK]", "a", "b c", "é"]
        assert layer.get_config()["vocabulary"] is None
    path.write_text("5\n-7\n")
    assert L.IntegerLookup(vocabulary=path).get_vocabulary() == [-1, 5, -7]
    for content, message in [
        ("", "received an empty file"),
        ("a\n\nb", "received an empty line"),
        ("a\na\n", r"each token once, received \['a'\]"),
    ]:
        path.write_text(content)
        with pytest.raises(ValueError, match=f"vocabulary: expected .*{message}"):
            L.StringLookup(vocabulary=path)
    path.write_text("5\nx\n")
    with pytest.raises(ValueError, match="vocabulary: expected a whole number on each, .*'x'"):
        L.IntegerLookup(vocabulary=path)
    with pytest.raises(ValueError, match=r"vocabulary: expected a file, there is none at .*nope"):
        L.StringLookup(vocabulary=tmp_path / "nope")


def test_bytes_and_encodings():
    layer = L.StringLookup()
    layer.adapt([b"\xff", b"a", b"\xff"])
    assert shown(layer, [b"\xff", "a"]) == [1, 2]
    with pytest.raises(UnicodeDecodeError):
        layer.get_vocabulary()
    twin = pickle.loads(pickle.dumps(layer))
    assert shown(twin, [b"\xff", "a"]) == [1, 2]
    layer = L.StringLookup(encoding="latin-1")
    layer.adapt([b"\xff", b"\xff", "a"])
    assert layer.get_vocabulary() == ["[UNK]", "ÿ", "a"]


@pytest.mark.parametrize(
    "layer, x",
    [
        (L.StringLookup(vocabulary=VOCABULARY, num_oov_indices=2, salt=3), ["a", "q", ""]),
        (L.IntegerLookup(vocabulary=[3, 1], output_mode="count", mask_token=0), [3, 0, 1, 1]),
        (L.StringLookup(vocabulary=np.array(["a", "b"]), invert=True), [0, 1, 2]),
        (L.StringLookup(vocabulary=(b"a", "b"), idf_weights=(1, 2), output_mode="tf_idf"), ["a"]),
    ],
)
def test_configs_and_copies(layer, x):
    twins = [type(layer).from_config(layer.get_config()), L.deserialize(L.serialize(layer))]
    for twin in [*twins, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]:
        assert twin.get_config() == layer.get_config()
        assert shown(twin, x) == shown(layer, x)


def test_in_models():
    start = L.Input((2,), dtype="string")
    index = L.StringLookup(vocabulary=VOCABULARY)(start)
    assert index.dtype == "int64"
    y = L.Dense(2)(L.Flatten()(L.Embedding(4, 3)(index)))
    back = L.StringLookup(vocabulary=VOCABULARY, invert=True)(index)
    model = fastrnn.Model(start, [y, back])
    x = np.array([["a", "z"], ["c", "b"]], object)
    for outputs in (model(x), model.predict(x, verbose=0), model.compile_inference()(x)):
        assert outputs[0].shape == (2, 2)
        assert np.asarray(outputs[1]).tolist() == [[b"a", b"[UNK]"], [b"c", b"b"]]
    whole = fastrnn.Sequential(
        [L.Input((3,), dtype="int64"), L.IntegerLookup(vocabulary=[2**40, 5]), L.Embedding(3, 2)]
    )
    x = np.array([[2**40, 5, 2**40 + 1]])
    for given in (x, x.tolist()):
        np.testing.assert_array_equal(
            whole.predict(given, verbose=0)[0], whole.get_weights()[0][[1, 2, 0]]
        )
    dense = fastrnn.Sequential(
        [L.Input((2,), dtype="string"), L.StringLookup(vocabulary=VOCABULARY), L.Dense(1)]
    )  # whole numbers as numbers
    kernel = dense.get_weights()[0]
    for _ in range(2):
        x = np.array([["a", "c"]])
        np.testing.assert_allclose(dense.predict(x, verbose=0), [[1, 3]] @ kernel, rtol=1e-6)
        np.testing.assert_allclose(dense.compile_inference()(x), [[1, 3]] @ kernel, rtol=1e-6)


def bad(cls=L.StringLookup, **options):
    return lambda: cls(**options)


@pytest.mark.parametrize(
    "make, message",
    [
        (bad(max_tokens=1), "max_tokens: expected an int >= 2 or None, received 1"),
        (bad(num_oov_indices=-1), "num_oov_indices: expected an int >= 0"),
        (bad(num_oov_indices=None), "num_oov_indices: expected an int >= 0, received None"),
        (bad(output_mode="hot"), r"output_mode: expected one of \['int', .*received 'hot'"),
        (bad(pad_to_max_tokens=True), "max_tokens: expected an int >= 2 with pad_to_max_tokens"),
        (bad(sparse=True), "sparse: expected False, as there are no sparse tensors"),
        (bad(invert=True, output_mode="count"), "output_mode: expected 'int' with invert"),
        (bad(invert=True, oov_token=None), "oov_token: expected a token with invert"),
        (bad(idf_weights=[1]), "idf_weights: expected None for output_mode 'int'"),
        (bad(encoding="no"), "encoding: expected the name of one, received 'no'"),
        (bad(salt=(1, 2, 3)), r"salt: expected a whole number, two or None, received \(1, 2, 3\)"),
        (bad(mask_token=3), "mask_token: expected text, str or bytes, received 3"),
        (bad(vocabulary=["a", "a", "b"]), r"vocabulary: expected each token once, .*\['a'\] again"),
        (bad(vocabulary=[]), "vocabulary: expected tokens beside the special ones, received none"),
        (bad(vocabulary=["[UNK]"]), "vocabulary: expected tokens beside the special ones"),
        (bad(vocabulary=["a", None]), "vocabulary: expected tokens, received None"),
        (bad(vocabulary=["a", 3]), r"vocabulary\[1\]: expected text, str or bytes, received 3"),
        (bad(vocabulary=["\ud800"]), r"vocabulary\[0\]: expected text that UTF-8 can hold"),
        (bad(vocabulary=3), "vocabulary: expected a list of tokens or a path, received 3"),
        (bad(vocabulary=["a", ""], mask_token=""), "vocabulary: expected mask_token '' at its"),
        (bad(vocabulary=["a", "[UNK]"], invert=True), "vocabulary: expected oov_token .* at its"),
        (bad(vocabulary=VOCABULARY, max_tokens=3), "vocabulary: expected at most max_tokens, 3, r"),
        (
            bad(vocabulary=["a"], output_mode="tf_idf"),
            "idf_weights: expected those of the vocabulary, received None",
        ),
        (
            bad(vocabulary=["a"], output_mode="tf_idf", idf_weights=[1, 2]),
            "idf_weights: expected 1 numbers, as there are tokens, received 2",
        ),
        (
            bad(vocabulary=["a"], output_mode="tf_idf", idf_weights=[np.nan]),
            "idf_weights: expected finite numbers",
        ),
        (
            lambda: L.StringLookup().set_vocabulary(["a"], [1]),
            "idf_weights: expected .* None for others, received .* for 'int'",
        ),
        (bad(L.IntegerLookup, vocabulary=["a"]), r"vocabulary\[0\]: expected a whole number"),
        (bad(L.IntegerLookup, vocabulary=[2**63]), r"vocabulary\[0\]: .*of 64 bits, received 9"),
        (bad(L.IntegerLookup, salt=3), "salt: expected None where oov_method is not 'farmhash'"),
        (bad(L.IntegerLookup, vocabulary_dtype="int32"), "vocabulary_dtype: expected one of"),
        (lambda: L.StringLookup()(["a"]), "expected a vocabulary, found none; call adapt or set_"),
        (
            lambda: L.StringLookup(output_mode="count")(["a"]),
            r"layer 'string_lookup.*' \(StringLookup\): expected a vocabulary, found none",
        ),
        (lambda: L.StringLookup(vocabulary=["a"])([1]), "inputs: expected text, .*received 1"),
        (
            lambda: L.StringLookup(vocabulary=["a"])(np.ones(3)),
            "inputs: expected an array of text, str or bytes, received dtype float64",
        ),
        (
            lambda: L.StringLookup(vocabulary=["a"])([["a"], ["b", "c"]]),
            "inputs: expected text, .*received .*; texts of several lengths are no array",
        ),
        (lambda: L.IntegerLookup(vocabulary=[1])(["a"]), "inputs: expected an array of numbers"),
        (lambda: L.IntegerLookup(vocabulary=[1])([np.nan]), "inputs: expected indices of 64 bits"),
        (
            lambda: L.StringLookup(vocabulary=["a"], output_mode="count")([[["a"]]]),
            r"expected input of shape \(batch, tokens\), received \(1, 1, 1\)",
        ),
        (lambda: L.StringLookup().adapt("abc"), "data: expected an array, a list or batches, r"),
        (lambda: L.StringLookup().adapt(3), "data: expected an array, a list or batch"),
        (lambda: L.StringLookup().adapt([1, 2]), "data: expected text, str or bytes, received 1"),
        (lambda: L.StringLookup().adapt(["[UNK]"]), "data: expected tokens beside mask_token and"),
        (lambda: L.StringLookup(output_mode="tf_idf").adapt([]), "data: expected at least one tok"),
        (
            lambda: L.StringLookup(output_mode="tf_idf").adapt([[["a"]]]),
            "data: expected documents of tokens for output_mode 'tf_idf', received more axes",
        ),
        (
            lambda: L.StringLookup(2, mask_token="").adapt(["a"]),
            "max_tokens of layer .*expected more than the 2 places of mask_token and oov_token",
        ),
        (
            lambda: L.StringLookup(vocabulary=["a"]).adapt(["a"]),
            "adapt of layer .*expected no vocabulary in the constructor",
        ),
        (lambda: L.StringLookup().adapt(iter([["a"]]), steps=0), "steps: expected an int >= 1"),
    ],
)  # fmt: skip
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_vocabulary_of_another_size():
    """Where rows are as long as the vocabulary, layers above rely on it."""
    layer = L.StringLookup(output_mode="count")
    layer.adapt(["a", "b"])
    layer.adapt(["x", "y"])
    for change in (lambda: layer.adapt(["a"]), lambda: layer.set_vocabulary(VOCABULARY)):
        with pytest.raises(ValueError, match=r"expected 3 tokens with the special ones.*received"):
            change()
    assert layer.get_vocabulary() == ["[UNK]", "y", "x"]


class OwnLayer(L.Layer):
    def call(self, x):
        return x


class OwnModel(fastrnn.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L.Dense(1)(L.Input((1,), dtype="string")), "'dense.*: expected numbers, received"),
        (lambda: L.Input((1,), dtype="string") + 1, "expected numbers, received text"),
        (
            lambda: L.StringLookup(vocabulary=["a"])(L.Input((1,))),
            r"\(StringLookup\): expected text, of Input\(..., dtype='string'\), received float32",
        ),
        (
            lambda: fastrnn.Sequential([L.Input((1,)), L.StringLookup(vocabulary=["a"])]),
            r"\(StringLookup\): expected text, of Input\(..., dtype='string'\), received float32",
        ),
        (
            lambda: fastrnn.Sequential([L.Input((1,), dtype="string"), L.Dense(1)]),
            r"\(Dense\): expected numbers, received text",
        ),
        (
            lambda: L.Concatenate()([L.Input((1,), dtype="string"), L.Input((1,))]),
            r"\(Concatenate\): expected numbers, received text",
        ),
        (
            lambda: OwnLayer()(L.Input((1,), dtype="string")),
            r"\(OwnLayer\): expected numbers, received text",
        ),
        (
            lambda: OwnModel()(np.array([["a"]], object)),
            r"\(OwnModel\): expected numbers, received text, which Model\(inputs, outputs\)",
        ),
    ],
)  # fmt: skip
def test_text_goes_where_it_is_taken(make, message):
    with pytest.raises(ValueError, match=message):
        make()
