"""What is measured."""

from networks import (
    CRF,
    LSTM,
    Attention,
    Chain,
    Concatenate,
    Decoding,
    Dense,
    Embedding,
    Graph,
    Input,
    SoftmaxOverTime,
    WeightedSum,
    node,
)


def _bi(units, sequences=False, states=False):
    return LSTM(units, sequences, bidirectional=True, states=states)


SIGMOID, SOFTMAX = Dense(1, "sigmoid"), Dense(10, "softmax")

CHAINS = (
    Chain("imdb_bilstm64", 128, 200, 128, (Embedding(10000, 128), _bi(64), SIGMOID)),
    Chain("mnist_lstm64_32", 500, 28, 28, (LSTM(64, True), LSTM(32), SOFTMAX), 8),
    Chain("mnist_bilstm64", 500, 28, 28, (_bi(64), SOFTMAX), 8),
    Chain("frames_bilstm20", 64, 149, 40, (_bi(20, True), SIGMOID), 16),
    Chain("cumsum_bilstm20", 1, 10, 1, (_bi(20, True), SIGMOID), 64),
    Chain("medium_bilstm256x2", 64, 100, 128, (_bi(256, True), _bi(256), Dense(10)), 2),
    Chain("large_lstm512", 32, 100, 512, (LSTM(512), Dense(10)), 4),
)
TINY = Chain("tiny", 2, 3, 4, (LSTM(4), SOFTMAX), 2)

# Characters, as in Keras's guide to such models; then words, whose softmax is most of the work.
_SOURCE = node("source", Input((40,), 96, one_hot=True))
_ENCODER = node("encoded h c", LSTM(256, states=True), "source")
_CHARACTERS = Dense(96, "softmax")
SEQ2SEQ = Graph(
    "seq2seq_lstm256",
    64,
    (
        _SOURCE,
        node("target", Input((40,), 96, one_hot=True)),
        _ENCODER,
        node("decoded h_last c_last", LSTM(256, True, states=True), "target h c"),
        node("characters", _CHARACTERS, "decoded"),
    ),
    ("characters",),
)
ATTENTION = Graph(
    "seq2seq_attention128",
    64,
    (
        node("source", Input((20,), 8000)),
        node("target", Input((20,), 8000)),
        node("source_vectors", Embedding(8000, 128), "source"),
        node("encoded h1 c1 h2 c2", _bi(128, True, states=True), "source_vectors"),
        node("h", Concatenate(), "h1 h2"),
        node("c", Concatenate(), "c1 c2"),
        node("target_vectors", Embedding(8000, 128), "target"),
        node("decoded", LSTM(256, True), "target_vectors h c"),
        node("context", Attention(), "decoded encoded"),
        node("both", Concatenate(), "decoded context"),
        node("words", Dense(8000, "softmax"), "both"),
    ),
    ("words",),
    steps=2,
    sparse=True,
)
# Additive attention of one query, which is a weight, over all time steps.
POOLING = Graph(
    "bilstm_attention64",
    128,
    (
        node("words", Input((200,), 10000)),
        node("vectors", Embedding(10000, 128), "words"),
        node("sequence", _bi(64, True), "vectors"),
        node("hidden", Dense(64, "tanh"), "sequence"),
        node("score", Dense(1), "hidden"),
        node("share", SoftmaxOverTime(), "score"),
        node("pooled", WeightedSum(), "share sequence"),
        node("label", SIGMOID, "pooled"),
    ),
    ("label",),
)
TWO_INPUTS = Graph(
    "two_inputs_lstm64",
    256,
    (
        node("series", Input((48, 16))),
        node("static", Input((8,))),
        node("last", LSTM(64), "series"),
        node("both", Concatenate(), "last static"),
        node("amount", Dense(1), "both"),
        node("alarm", SIGMOID, "both"),
    ),
    ("amount", "alarm"),
    steps=8,
)
TAGGER = Graph(
    "tagger_crf",
    32,
    (
        node("words", Input((60,), 10000, padded=True)),
        node("vectors", Embedding(10000, 100, masked=True), "words"),
        node("sequence", _bi(100, True), "vectors"),
        node("tags", CRF(17), "sequence"),
    ),
    ("tags",),
    steps=8,
)
_PAIR = (  # with weights at which the characters vary
    Graph("encoder", 1, (_SOURCE, _ENCODER), ("h", "c"), steps=1, scale=3.5),
    Graph(
        "decoder",
        1,
        (
            node("token", Input((1,), 96, one_hot=True)),
            node("h", Input((256,))),
            node("c", Input((256,))),
            node("decoded h_last c_last", LSTM(256, True, states=True), "token h c"),
            node("characters", _CHARACTERS, "decoded"),
        ),
        ("characters", "h_last", "c_last"),
        steps=1,
        scale=3.5,
    ),
)
GRAPHS = (
    SEQ2SEQ,
    ATTENTION,
    POOLING,
    TWO_INPUTS,
    TAGGER,
    Decoding("decode", *_PAIR, "compiled"),
    Decoding("decode_predict", *_PAIR, "predict"),
)
WORKLOADS = (*CHAINS, *GRAPHS)


def sweep(quick=False):
    """One layer over sizes, where all peers' memory together stays below some 16 GB; quick: the
    corners."""
    units = (16, 32, 64, 128, 256, 512, 1024)
    batches = (1, 8, 32, 128, 512)
    timesteps = (10, 100, 500)
    if quick:
        units, batches, timesteps = (16, 256), (1, 128), (10, 100)
    return [
        Chain(f"units {u}, batch {b}, steps {t}", b, t, u, (LSTM(u), SOFTMAX), 2)
        for u in units
        for b in batches
        for t in timesteps
        if u * b * t <= 40_000_000
    ]
