"""Tokenizer, hashing and skip-grams, by hand and against the functions that Keras 3 still has."""

import json
import random
import zlib

import numpy as np
import pytest

from fastrnn.preprocessing import sequence, text
from fastrnn.preprocessing.text import Tokenizer, text_to_word_sequence, tokenizer_from_json

TEXTS = ["The cat sat on the mat.", "The dog sat; the Dog barked!", "", "A bird\tflew\nover it all"]
OPTIONS = [
    {},
    {"num_words": 4},
    {"num_words": 4, "oov_token": "<oov>"},
    {"oov_token": "<oov>", "lower": False},
    {"char_level": True},
    {"char_level": True, "lower": False, "num_words": 6},
    {"filters": "at", "split": "e"},
    {"analyzer": lambda text: text.split("a")},
]


@pytest.fixture
def keras_text():
    pytest.importorskip("keras", reason="compares with Keras itself")
    from keras.src.legacy.preprocessing import text

    return text


@pytest.fixture
def keras_sequence():
    pytest.importorskip("keras", reason="compares with Keras itself")
    from keras.src.legacy.preprocessing import sequence

    return sequence


def test_words():
    assert text_to_word_sequence("Hello, big-World!\t(again)") == ["hello", "big", "world", "again"]
    assert text_to_word_sequence("It's  A", lower=False) == ["It's", "A"]
    assert text_to_word_sequence("a,b c", filters="b", split=",") == ["a", " c"]
    assert text_to_word_sequence("") == []
    with pytest.raises(ValueError, match=r"input_text: expected a string, received \['a'\]"):
        text_to_word_sequence(["a"])


def test_hashing():
    words = ["the", "cat", "the"]
    numbers = text.one_hot("The cat, the", 5)
    assert numbers == [hash(word) % 4 + 1 for word in words]
    crc = text.hashing_trick("The cat, the", 50, lambda word: zlib.crc32(word.encode()))
    assert crc == [zlib.crc32(word.encode()) % 49 + 1 for word in words]
    # md5("the") = 8fc42c6ddf9966db3b09e84365034357, md5("cat") = d077f244def8a70e5ea758bd8352fcd8
    the, cat = 0x8FC42C6DDF9966DB3B09E84365034357, 0xD077F244DEF8A70E5EA758BD8352FCD8
    assert text.hashing_trick("the cat", 1000, "md5") == [the % 999 + 1, cat % 999 + 1]
    assert text.one_hot("a-b", 9, analyzer=list) == [hash(c) % 8 + 1 for c in "a-b"]
    with pytest.raises(ValueError, match="n: expected an integer >= 2, received 1"):
        text.one_hot("a", 1)
    with pytest.raises(ValueError, match="hash_function: .*received 'sha'"):
        text.hashing_trick("a", 9, "sha")


def test_tokenizer_by_hand():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["b a b", "c a b"])
    assert tokenizer.word_index == {"b": 1, "a": 2, "c": 3}
    assert tokenizer.index_word == {1: "b", 2: "a", 3: "c"}
    assert dict(tokenizer.word_counts) == {"b": 3, "a": 2, "c": 1}
    assert dict(tokenizer.word_docs) == {"b": 2, "a": 2, "c": 1}
    assert dict(tokenizer.index_docs) == {1: 2, 2: 2, 3: 1}
    assert tokenizer.texts_to_sequences(["A x, c", ["b", "B"]]) == [[2, 3], [1, 1]]
    assert tokenizer.sequences_to_texts([[3, 1, 9]]) == ["c b"]
    counts = tokenizer.texts_to_matrix(["b a b", "x"], "count")
    np.testing.assert_array_equal(counts, [[0, 2, 1, 0], [0, 0, 0, 0]])
    share = tokenizer.texts_to_matrix(["b a b"], "freq")
    np.testing.assert_allclose(share, [[0, 2 / 3, 1 / 3, 0]])
    weight = tokenizer.texts_to_matrix(["c c"], "tfidf")
    np.testing.assert_allclose(weight, [[0, 0, 0, (1 + np.log(2)) * np.log(1 + 2 / 2)]])


def test_rare_and_unknown_words():
    tokenizer = Tokenizer(num_words=3, oov_token="?")
    tokenizer.fit_on_texts(["b a b"])
    assert tokenizer.word_index == {"?": 1, "b": 2, "a": 3}
    assert tokenizer.texts_to_sequences(["b a x"]) == [[2, 1, 1]]
    assert tokenizer.sequences_to_texts([[2, 3, 8]]) == ["b ? ?"]
    tokenizer.oov_token = None
    assert tokenizer.texts_to_sequences(["b a x"]) == [[2]]


def test_fitting_on_sequences():
    tokenizer = Tokenizer(num_words=4)
    tokenizer.fit_on_sequences([[1, 1, 2], [1]])
    matrix = tokenizer.sequences_to_matrix([[1, 3, 7]], "tfidf")
    np.testing.assert_allclose(matrix, [[0, np.log(1 + 2 / 3), 0, np.log(3)]])


def test_tokenizer_errors():
    with pytest.raises(TypeError, match="Tokenizer: unknown arguments words"):
        Tokenizer(words=3)
    with pytest.warns(DeprecationWarning, match="num_words"):
        assert Tokenizer(nb_words=3).num_words == 3
    with pytest.raises(ValueError, match="texts: expected a list"):
        Tokenizer().fit_on_texts("one text")
    with pytest.raises(ValueError, match="num_words: "):
        Tokenizer().sequences_to_matrix([[1]])
    with pytest.raises(ValueError, match="mode: .*received 'share'"):
        Tokenizer(num_words=3).sequences_to_matrix([[1]], "share")
    with pytest.raises(ValueError, match="tfidf"):
        Tokenizer(num_words=3).sequences_to_matrix([[1]], "tfidf")
    for damaged in ("{", "[]", '{"config": {"word_counts": "[1]"}}', '{"config": 3}'):
        with pytest.raises(ValueError, match="json_string: expected the JSON text of a Tokenizer"):
            tokenizer_from_json(damaged)


def test_json_round_trip():
    before = Tokenizer(num_words=6, oov_token="?")
    before.fit_on_texts(TEXTS)
    after = tokenizer_from_json(before.to_json(indent=1))
    assert after.get_config() == before.get_config()
    before.fit_on_texts(["dog cat"])
    after.fit_on_texts(["dog cat"])
    assert after.texts_to_sequences(TEXTS) == before.texts_to_sequences(TEXTS)
    np.testing.assert_array_equal(
        after.texts_to_matrix(TEXTS, "tfidf"), before.texts_to_matrix(TEXTS, "tfidf")
    )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tokenizer_is_that_of_keras(keras_text, options):
    ours, theirs = Tokenizer(**options), keras_text.Tokenizer(**options)
    for texts in (TEXTS, [["a", "Mat"], *TEXTS[:1]]):
        ours.fit_on_texts(texts)
        theirs.fit_on_texts(texts)
    assert ours.word_index == theirs.word_index
    assert dict(ours.index_docs) == dict(theirs.index_docs)
    new = [*TEXTS, "the zebra sat", ["cat", "Zebra"]]
    numbers = theirs.texts_to_sequences(new)
    assert ours.texts_to_sequences(new) == numbers
    assert ours.sequences_to_texts([*numbers, [99]]) == theirs.sequences_to_texts([*numbers, [99]])
    for mode in ("binary", "count", "freq", "tfidf"):
        np.testing.assert_allclose(
            ours.texts_to_matrix(new, mode), theirs.texts_to_matrix(new, mode), rtol=1e-15
        )
    config, expected = ours.get_config(), theirs.get_config()
    assert config.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, str) and value.startswith("{"):
            assert json.loads(config[name]) == json.loads(value), name
        else:
            assert config[name] == value, name
    assert tokenizer_from_json(theirs.to_json()).word_index == ours.word_index
    assert keras_text.tokenizer_from_json(ours.to_json()).word_index == ours.word_index


def test_hashing_is_that_of_keras(keras_text):
    for whole in TEXTS:
        for function in (None, "md5"):
            expected = keras_text.hashing_trick(whole, 30, function)
            assert text.hashing_trick(whole, 30, function) == expected
        assert text.one_hot(whole, 30) == keras_text.one_hot(whole, 30)


def test_skipgrams_by_hand():
    couples, labels = sequence.skipgrams([1, 2, 0, 3], 9, 1, negative_samples=0, shuffle=False)
    assert couples == [[1, 2], [2, 1]] and labels == [1, 1]
    couples, labels = sequence.skipgrams([1, 2, 0, 3], 9, 2, negative_samples=0.5, shuffle=False)
    assert couples[:4] == [[1, 2], [2, 1], [2, 3], [3, 2]]
    assert labels == [1, 1, 1, 1, 0, 0]
    assert all(word in (1, 2, 3) and 1 <= other < 9 for word, other in couples[4:])
    assert sequence.skipgrams([0, 0], 9) == ([], [])
    assert sequence.skipgrams([1, 2], 9, sampling_table=np.zeros(3)) == ([], [])
    with pytest.raises(ValueError, match="vocabulary_size: expected at least 2, received 1"):
        sequence.skipgrams([1, 1], 1)


def test_skipgrams_leave_the_stream_of_random_where_it_was():
    random.seed(1)
    sequence.skipgrams([1, 2, 3], 9, negative_samples=0, seed=5)
    drawn = random.random()
    random.seed(1)
    assert drawn == random.random()


@pytest.mark.filterwarnings("ignore:non-integer arguments to randrange")  # Keras's
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window_size": 2, "categorical": True, "negative_samples": 1.5},
        {"shuffle": False, "negative_samples": 0.3},
        {"seed": 7, "sampling_table": sequence.make_sampling_table(30, 0.05)},
    ],
    ids=str,
)
def test_skipgrams_are_those_of_keras(keras_sequence, options):
    words = np.random.default_rng(0).integers(0, 30, 50).tolist()
    random.seed(3)
    expected = keras_sequence.skipgrams(words, 30, **options)
    random.seed(3)
    assert sequence.skipgrams(words, 30, **options) == expected


def test_sampling_table_is_that_of_keras(keras_sequence):
    for factor in (1e-5, 0.01):
        np.testing.assert_allclose(
            sequence.make_sampling_table(1000, factor),
            keras_sequence.make_sampling_table(1000, factor),
            rtol=1e-14,
        )


def test_sampling_table_by_hand():
    table = sequence.make_sampling_table(3, 1.0)
    second = 2 * (np.log(2) + 0.577) + 0.5 - 1 / 24
    np.testing.assert_allclose(table, [*[np.sqrt(0.577 + 0.5 - 1 / 12)] * 2, min(1, second**0.5)])
    assert (np.diff(sequence.make_sampling_table(1000)) >= 0).all()


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 3, 9])
def test_padding_is_that_of_keras(padding, truncating, maxlen):
    keras = pytest.importorskip("keras", reason="compares with Keras itself")
    options = {"maxlen": maxlen, "padding": padding, "truncating": truncating}
    words = [[1, 2, 3, 4, 5, 6], [], [7], (8, 9, 10, 11)]
    vectors = [np.arange(2 * length).reshape(length, 2) / 3 for length in (5, 1, 2)]
    for sequences, more in (
        (words, {}),
        (words, {"value": -1.5, "dtype": "float32"}),
        (vectors, {"dtype": "float64", "value": 7}),
        ([["a", "b"], ["c"]], {"dtype": object, "value": "pad"}),
    ):
        ours = sequence.pad_sequences(sequences, **options, **more)
        theirs = keras.utils.pad_sequences(sequences, **options, **more)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
