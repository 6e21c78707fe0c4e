"""TextVectorization, StringLookup and IntegerLookup against Keras: random options and data."""

import json

import numpy as np
import pytest
from comparison import keras, tf

import fastrnn
from fastrnn import layers as L

K = keras.layers
SEED = 9_000_000
WORDS = [
    *("the", "a", "b", "film", "Film", "was", "don't", "great!", "<br", "/>", "é", "É", "ÄRGER"),
    *("東京", "x\u2003y", "a\xa0b", "\u0301", "[UNK]", "unk", "...", "", "0", "ZZ", "ß", "🎬"),
]
ODD = [b"\xff", b"a\xe2\x82 b", b"\xc0\x80", b"x\x00y", b"\xed\xa0\x80", b"\xf0\x9f\x98"]
SPACES = [" ", "  ", "\t", "\n", " \r\n", "\x0b", "\x1c", "\u2028"]


def text_of(rng, odd=False):
    parts = [
        str(rng.choice(WORDS)) + str(rng.choice(SPACES, p=[0.86, *[0.02] * 7]))
        for _ in range(rng.integers(0, 9))
    ]
    text = "".join(parts)
    if odd and rng.random() < 0.3:
        return text.encode() + ODD[rng.integers(len(ODD))]
    return text if rng.random() < 0.8 else text.encode()


def chance(rng, p, value, other=None):
    return value if rng.random() < p else other


def sizes(rng, options):
    """Options that all three layers have."""
    if rng.random() < 0.4:
        options["max_tokens"] = int(rng.integers(2, 14))
        if rng.random() < 0.4:
            options["pad_to_max_tokens"] = True
    return options


def text_options(rng):
    options = {
        "standardize": [None, "lower", "strip_punctuation", "lower_and_strip_punctuation"][
            rng.integers(4)
        ],
        "split": [None, "whitespace", "whitespace", "character"][rng.integers(4)],
        "ngrams": [None, None, 1, 2, 3, (2,), (3, 1), (2, 2)][rng.integers(8)],
        "output_mode": ["int", "int", "multi_hot", "count", "tf_idf"][rng.integers(5)],
    }
    if options["output_mode"] == "int" and rng.random() < 0.5:
        options["output_sequence_length"] = int(rng.integers(1, 8))
    return sizes(rng, options)


def lookup_options(rng, integers):
    options = {
        "num_oov_indices": [1, 1, 1, 0, 2, 5][rng.integers(6)],
        "output_mode": ["int", "int", "one_hot", "multi_hot", "count", "tf_idf"][rng.integers(6)],
        "mask_token": [None, None, 0 if integers else ""][rng.integers(3)],
    }
    if rng.random() < 0.2:
        options["oov_token"] = 7 if integers else "a"
    if options["num_oov_indices"] > 1 and rng.random() < 0.5:
        if integers:
            options["oov_method"] = "farmhash"
        options["salt"] = [None, 3, [1, -5]][rng.integers(3)]
    if options["output_mode"] == "int" and rng.random() < 0.3:
        options["invert"] = True
    return sizes(rng, options)


def data_of(rng, kind, shape):
    if kind == "IntegerLookup":
        return rng.integers(-3, 9, shape)
    if kind == "StringLookup":
        return rng.choice(np.array(WORDS), shape)
    texts = [text_of(rng, odd=True) for _ in range(int(np.prod(shape)))]
    flat = np.empty(len(texts), object)
    flat[:] = texts
    return flat.reshape(shape)


def outcome(call):
    """What a call gives, or the error that it raises."""
    try:
        return call(), None
    except Exception as error:
        return None, error


def same_outcome(case, ours, theirs):
    """What both gave, or None if both refused; ours in fastrnn's way."""
    (own, error), (other, refusal) = outcome(ours), outcome(theirs)
    if "not compatible with supplied shape" in str(refusal):  # of no n-grams, to be filled
        return None
    assert (error is None) == (refusal is None), f"{case}: {error!r}, Keras {refusal!r:.500}"
    assert error is None or isinstance(error, ValueError), f"{case}: {error!r}"
    return None if error is not None else (own, other)


def check_vocabulary(case, ours, theirs):
    pair = same_outcome(case, ours.get_vocabulary, theirs.get_vocabulary)
    if pair is not None:
        own, other = pair
        own = [t.rstrip("\0") if isinstance(t, str) else t for t in own]  # as NumPy does to Keras's
        assert own == [getattr(token, "item", lambda token=token: token)() for token in other], case
        assert ours.vocabulary_size() == theirs.vocabulary_size()


def check_output(case, ours, theirs, x):
    given = tf.constant(x) if getattr(x, "dtype", np.dtype(int)).kind == "O" else x
    pair = same_outcome(f"{case} of {x!r}", lambda: ours(x), lambda: theirs(given))
    if pair is None:
        return False
    own, other = pair[0].numpy(), pair[1].numpy()
    assert own.shape == other.shape and own.dtype == np.asarray(other).dtype, f"{case} of {x!r}"
    if own.dtype == np.float32:
        np.testing.assert_allclose(own, other, rtol=2e-6, err_msg=f"{case} of {x!r}")
    else:
        np.testing.assert_array_equal(own, other, err_msg=f"{case} of {x!r}")
    return True


def as_json(config):
    config = json.loads(json.dumps(config))
    return {key: value for key, value in config.items() if key not in ("dtype", "name")}


def made(rng, kind):
    """The layer of both libraries with random options, adapted or with a vocabulary; or None."""
    options = text_options(rng) if kind == "TextVectorization" else None
    if options is None:
        options = lookup_options(rng, kind == "IntegerLookup")
    special = options.get("num_oov_indices", 1) + (options.get("mask_token", "") is not None)
    if options.get("max_tokens", special + 1) <= special:  # Keras then keeps others than it says
        options["max_tokens"] += special
    case = f"{kind}({options})"
    if rng.random() < 0.4:
        count = int(rng.integers(1, 8))
        tokens = sorted(set(data_of(rng, kind, count).tolist()), key=repr)
        tokens = [t.decode("utf-8", "replace") if isinstance(t, bytes) else t for t in tokens]
        rng.shuffle(tokens)
        if rng.random() < 0.05:
            tokens.append(tokens[0])
        options["vocabulary"] = tokens
        if options["output_mode"] == "tf_idf" or rng.random() < 0.03:
            options["idf_weights"] = rng.random(len(tokens) + (rng.random() < 0.05)).tolist()
        case += f" with {tokens}"
    pair = same_outcome(
        case, lambda: getattr(L, kind)(**options), lambda: getattr(K, kind)(**options)
    )
    if pair is None:
        return case, None
    ours, theirs = pair
    if "vocabulary" in options:
        return case, pair
    way = rng.integers(3)
    if way < 2:
        n = int(rng.integers(1, 9))
        split = options.get("split", "") is not None and kind == "TextVectorization"
        shape = (n,) if way else (n, 1) if split else (n, int(rng.integers(1, 4)))
        data = data_of(rng, kind, shape)
        datas = data, tf.constant(data) if data.dtype == object else data
        if rng.random() < 0.5 and data.dtype != object:
            datas = data.tolist(), data.tolist()
    else:
        batches = [
            data_of(rng, kind, (int(rng.integers(1, 5)),)) for _ in range(rng.integers(1, 4))
        ]
        datas = iter(batches), iter([tf.constant(b) if b.dtype == object else b for b in batches])
    case = f"{case} adapted to {data.tolist() if way < 2 else batches}"
    if same_outcome(case, lambda: ours.adapt(datas[0]), lambda: theirs.adapt(datas[1])) is None:
        return case, None
    return case, pair


@pytest.mark.parametrize("kind", ["TextVectorization", "StringLookup", "IntegerLookup"])
@pytest.mark.parametrize("block", range(4))
def test_random_layers(kind, block, tally):
    outputs = layers = 0
    for seed in range(40):
        rng = np.random.default_rng((SEED, ord(kind[0]), block, seed))
        case, pair = made(rng, kind)
        case = f"{block}, {seed}: {case}"
        if pair is None:
            continue
        ours, theirs = pair
        layers += 1
        check_vocabulary(case, ours, theirs)
        own, other = as_json(ours.get_config()), as_json(theirs.get_config())
        assert own == other, case
        for shape in ((4,), (3, 1), (2, 3), (1,)):
            if kind == "StringLookup" and ours.invert or kind == "IntegerLookup":
                x = rng.integers(-3, 9, shape)
            else:
                x = data_of(rng, kind, shape)
            outputs += check_output(case, ours, theirs, x)
    assert layers > 20 and outputs > 60
    tally.compared("preprocessing layers", layers)


# --- in models, and files ---


def model_of(library, layer, x, top=()):
    kind = {"O": "string", "U": "string", "S": "string"}.get(x.dtype.kind, "int64")
    return library.Sequential([library.Input(x.shape[1:], dtype=kind), layer, *top])


def answer(model, x):
    if isinstance(model, fastrnn.Sequential):
        return model.predict(x, verbose=0)
    return model.predict(tf.constant(x), verbose=0)


def same_answers(case, models, x):
    own, other = [answer(model, x) for model in models]
    assert own.dtype == other.dtype and own.shape == other.shape, case
    if own.dtype.kind == "f":
        np.testing.assert_allclose(own, other, rtol=2e-5, atol=1e-6, err_msg=case)
    else:
        np.testing.assert_array_equal(own, other, err_msg=case)


def input_for(rng, kind, layer):
    if kind == "IntegerLookup" or getattr(layer, "invert", False):
        return rng.integers(1, 3, (3, 2))
    if kind == "StringLookup":
        return data_of(rng, kind, (3, 2)).astype(object)
    return texts(rng, 3)


def texts(rng, count):
    return np.array([[text_of(rng)] for _ in range(count)], object)


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("kind", ["TextVectorization", "StringLookup", "IntegerLookup"])
def test_files_both_ways(kind, ending, tmp_path, tally):
    """What Keras cannot load of its own, or loses, fastrnn writes so that both read it."""
    compared = 0
    for seed in range(16):
        rng = np.random.default_rng((SEED + 1, ord(kind[0]), seed))
        case, pair = made(rng, kind)
        if pair is None or outcome(pair[0].get_vocabulary)[1]:
            continue
        if pair[0].output_dtype == "int64" and getattr(pair[0], "num_oov_indices", 1) == 0:
            continue
        x = input_for(rng, kind, pair[0])
        models = [model_of(*args, x) for args in zip((fastrnn, keras), pair, strict=True)]
        if any(outcome(lambda m=model, x=x: answer(m, x))[1] for model in models):
            continue
        same_answers(case, models, x)
        path = str(tmp_path / f"{seed}.{ending}")
        models[0].save(path)
        read = [fastrnn.models.load_model(path), keras.models.load_model(path)]
        for model in read:
            vocabulary = [str(t).rstrip("\0") for t in model.layers[0].get_vocabulary()]
            expected = [str(t).rstrip("\0") for t in pair[0].get_vocabulary()]
            assert vocabulary == expected, case
        same_answers(f"{case}, written by fastrnn", [read[0], read[1]], x)
        models[1].save(path)
        again, error = outcome(lambda path=path: keras.models.load_model(path))
        if error is None and [*again.layers[0].get_vocabulary()] == [*pair[1].get_vocabulary()]:
            same_answers(f"{case}, written by Keras", [fastrnn.models.load_model(path), again], x)
        compared += 1
    assert compared > 5
    tally.compared("files of preprocessing layers", 3 * compared)


@pytest.mark.parametrize("seed", range(4))
def test_networks_of_text(seed, tmp_path):
    rng = np.random.default_rng((SEED + 2, seed))
    data = texts(rng, 12)
    length = [None, 5][seed % 2]
    counts = seed == 3
    mode = {"output_mode": "tf_idf"} if counts else {"output_sequence_length": length}
    models = []
    for library in (fastrnn, keras):
        layer = library.layers.TextVectorization(max_tokens=15, **mode)
        layer.adapt(data if library is fastrnn else tf.constant(data))
        below = [library.layers.Embedding(15, 4, mask_zero=seed > 0), library.layers.LSTM(3)]
        top = ([] if counts else below) + [library.layers.Dense(1)]
        if seed == 2:
            start = library.Input((1,), dtype="string")
            y = layer(start)
            for part in top:
                y = part(y)
            models.append(library.Model(start, y))
        else:
            models.append(library.Sequential([library.Input((1,), dtype="string"), layer, *top]))
    models[1].set_weights(models[0].get_weights())
    x = texts(rng, 7)
    same = lambda: np.testing.assert_allclose(  # noqa: E731
        models[0].predict(x, verbose=0), models[1].predict(tf.constant(x), verbose=0), atol=1e-6
    )
    same()
    y = rng.normal(size=(7, 1)).astype(np.float32)
    for model, given in zip(models, (x, tf.constant(x)), strict=True):
        model.compile("sgd", "mse")
        model.fit(given, y, epochs=3, batch_size=7, verbose=0)
    same()
    models[0].save(tmp_path / "own.keras")
    models[1].save(tmp_path / "keras.keras")
    other = keras.models.load_model(tmp_path / "own.keras")
    models = [fastrnn.models.load_model(tmp_path / "keras.keras"), other]
    same()
