"""print_summary: the table, of stand-ins for layers and of the models it is for."""

import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastrnn import progress, summary
from fastrnn.layers import (
    LSTM,
    Attention,
    BatchNormalization,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalMaxPooling1D,
    Input,
    Multiply,
    TimeDistributed,
)
from fastrnn.models import Model, Sequential
from fastrnn.summary import print_summary


def weight(*shape, dtype="float32"):
    return SimpleNamespace(shape=shape, dtype=dtype)


def layer(name, kind="Dense", shape=(None, 3), trained=(), fixed=(), **attributes):
    count = sum(int(np.prod(w.shape)) for w in [*trained, *fixed])
    return type(kind, (SimpleNamespace,), {"count_params": lambda self: count})(
        name=name,
        output_shape=shape,
        trainable_weights=list(trained),
        non_trainable_weights=list(fixed),
        built=shape is not None,
        trainable=True,
        **attributes,
    )


def model(*layers):
    return SimpleNamespace(
        name="model",
        operations=list(layers),
        trainable_weights=[w for la in layers for w in la.trainable_weights],
        non_trainable_weights=[w for la in layers for w in la.non_trainable_weights],
    )


def text(model, **options):
    parts = []
    print_summary(model, print_fn=parts.append, **options)
    (whole,) = parts
    return whole


def lines(model, **options):
    return text(model, **options).splitlines()


FRAMES = model(
    layer("bidirectional", "Bidirectional", (None, 149, 40), [weight(61, 160)]),
    layer("batch_normalization", "BatchNormalization", (None, 149, 40), [weight(80)], [weight(80)]),
    layer("dropout", "Dropout", (None, 149, 40)),
)


def test_table():
    assert (
        text(FRAMES)
        == """\
Model: "model"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━┳━━━━━━━━━┓
┃ Layer (type)                             ┃ Output Shape    ┃ Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━╇━━━━━━━━━┩
│ bidirectional (Bidirectional)            │ (None, 149, 40) │   9,760 │
├──────────────────────────────────────────┼─────────────────┼─────────┤
│ batch_normalization (BatchNormalization) │ (None, 149, 40) │     160 │
├──────────────────────────────────────────┼─────────────────┼─────────┤
│ dropout (Dropout)                        │ (None, 149, 40) │       0 │
└──────────────────────────────────────────┴─────────────────┴─────────┘
 Total params: 9,920 (38.75 KB)
 Trainable params: 9,840 (38.44 KB)
 Non-trainable params: 80 (320.00 B)"""
    )


def test_model_without_layers():
    assert lines(model())[-4:] == [
        "└──────────────┴──────────────┴─────────┘",
        " Total params: 0 (0.00 B)",
        " Trainable params: 0 (0.00 B)",
        " Non-trainable params: 0 (0.00 B)",
    ]


def test_layers_not_built():
    shown = lines(model(layer("lstm", "LSTM", None)))
    assert shown[4] == "│ lstm (LSTM)  │ ?            │ 0 (unbuilt) │"


def test_several_output_shapes():
    shown = text(model(layer("lstm", "LSTM", [(None, 4), (None, np.int64(4))])))
    assert "[(None, 4), (None, 4)]" in shown


def test_shared_weights_count_once():
    shared = weight(10)
    both = model(layer("a", trained=[shared]), layer("b", trained=[shared]))
    assert " Total params: 10 (40.00 B)" in lines(both)


@pytest.mark.parametrize(
    "count, dtype, size",
    [
        (1, "float64", "8.00 B"),
        (256, "float32", "1.00 KB"),
        (1378945, "float32", "5.26 MB"),
        (2**30, "float16", "2.00 GB"),
    ],
)
def test_sizes(count, dtype, size):
    shown = lines(model(layer("a", trained=[weight(count, dtype=dtype)])))
    assert f" Total params: {count:,} ({size})" in shown


def test_line_length_wraps():
    shown = lines(FRAMES, line_length=50)
    assert {len(line) for line in shown[1:-3]} == {50}
    assert shown[7:10] == [
        "│ batch_normalizatio │ (None, 149, 40) │     160 │",
        "│ n (BatchNormalizat │                 │         │",
        "│ ion)               │                 │         │",
    ]


def test_positions():
    shown = lines(FRAMES, positions=[45, 64, 80])
    assert shown[1] == f"┏{'━' * 43}┳{'━' * 18}┳{'━' * 15}┓"
    assert shown == lines(FRAMES, line_length=80, positions=[45 / 80, 0.8, 1.0])


def test_show_trainable():
    frozen = layer("frozen", fixed=[weight(3)])
    frozen.trainable = False
    shown = lines(
        model(layer("dense", trained=[weight(3)]), frozen, layer("x")), show_trainable=True
    )
    assert [line.split("│")[4].strip() for line in shown[4:9:2]] == ["Y", "N", "-"]
    assert {len(line) for line in lines(FRAMES, show_trainable=True, line_length=90)[1:-3]} == {90}


def test_expand_nested():
    inner = layer("inner", "Sequential", layers=[layer("deep", layers=[layer("deeper")])])
    assert "deep" not in text(model(inner))
    shown = text(model(inner), expand_nested=True)
    assert "│    └ deep (Dense) " in shown and "│       └ deeper (Dense) │" in shown


def test_layer_range():
    stack = model(*(layer(f"dense_{i}") for i in range(5)))

    def chosen(*names):
        return [i for i in range(5) if f"dense_{i}" in text(stack, layer_range=names)]

    assert chosen("dense_1", "dense_3") == [1, 2, 3]
    assert chosen("dense_3", "dense_1") == [1, 2, 3]
    assert chosen("dense_[23]", "dense_[23]") == [2, 3]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"line_length": 12}, "line_length: expected room for 3 columns"),
        ({"positions": [0.5, 1.0]}, "positions: expected 3, received"),
        ({"layer_range": ["dropout"]}, "layer_range: expected the names of two layers"),
        ({"layer_range": [1, 2]}, "layer_range: expected the names of two layers"),
        ({"layer_range": ["dropout", "drip"]}, "layer_range: expected two of bidirectional, "),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        text(FRAMES, **options)


@pytest.mark.parametrize("print_fn", [None, print])
def test_stdout_without_box_characters(print_fn, monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=stream))
    print_summary(model(layer("dense", trained=[weight(3)])), print_fn=print_fn)
    assert raw.getvalue().decode("ascii").splitlines()[1:6] == [
        "+===============+==============+=========+",
        "| Layer (type)  | Output Shape | Param # |",
        "+===============+==============+=========+",
        "| dense (Dense) | (None, 3)    |       3 |",
        "+---------------+--------------+---------+",
    ]


def test_goes_to_stdout(capsys):
    print_summary(FRAMES)
    assert capsys.readouterr().out == text(FRAMES) + "\n"


def frames():
    return [
        Bidirectional(LSTM(units=20, return_sequences=True), input_shape=(149, 40)),
        Dropout(0.5),
        BatchNormalization(),
        TimeDistributed(Dense(1, activation="sigmoid")),
    ]


def stacked():
    return [LSTM(64, input_shape=(28, 28), return_sequences=True), LSTM(32), Dense(10)]


def bidirectional():
    return [Bidirectional(LSTM(64, input_shape=(28, 28))), Dense(10)]


def words():
    return [LSTM(128, input_dim=64, input_length=5, return_sequences=True), LSTM(256)]


def imdb():
    embedding = Embedding(10000, 128, input_length=200)
    return [embedding, Bidirectional(LSTM(64)), Dropout(0.5), Dense(1)]


@pytest.mark.parametrize(
    "layers, shapes, counts, totals",
    [
        (
            frames,
            ["(None, 149, 40)"] * 3 + ["(None, 149, 1)"],
            ["9,760", "0", "160", "41"],
            ["9,961", "9,881", "80"],
        ),
        (
            stacked,
            ["(None, 28, 64)", "(None, 32)", "(None, 10)"],
            ["23,808", "12,416", "330"],
            ["36,554", "36,554", "0"],
        ),
        (
            bidirectional,
            ["(None, 128)", "(None, 10)"],
            ["47,616", "1,290"],
            ["48,906", "48,906", "0"],
        ),
        (
            words,
            ["(None, 5, 128)", "(None, 256)"],
            ["98,816", "394,240"],
            ["493,056", "493,056", "0"],
        ),
        (
            imdb,
            ["(None, 200, 128)", "(None, 128)", "(None, 128)", "(None, 1)"],
            ["1,280,000", "98,816", "0", "129"],
            ["1,378,945", "1,378,945", "0"],
        ),
    ],
)
def test_known_models(layers, shapes, counts, totals):
    model = Sequential(layers())
    shown = lines(model)
    rows = [[cell.strip() for cell in line.split("│")[2:4]] for line in shown[4:-4:2]]
    assert rows == [[shape, count] for shape, count in zip(shapes, counts, strict=True)]
    assert [line.split()[-3] for line in shown[-3:]] == totals


def test_model_not_built_yet():
    model = Sequential([LSTM(20), Dense(3)])
    shown = lines(model)
    assert [line.count("?") for line in shown[4:7:2]] == [1, 1]
    assert [line.count("0 (unbuilt)") for line in shown[4:7:2]] == [1, 1]
    assert " Total params: 0 (0.00 B)" in shown


def test_summary_returns_nothing(capsys):
    assert Sequential([Dense(1, input_shape=(2,))]).summary() is None
    assert sys.stdout is not None and "Total params: 3 (12.00 B)" in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [30, 60, 72, 150])
def test_as_wide_as_the_terminal(monkeypatch, columns):
    stream = Terminal()
    for module in (summary, progress):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stdout=stream))
    monkeypatch.setenv("COLUMNS", str(columns))
    print_summary(FRAMES)
    shown = stream.getvalue().splitlines()
    assert {len(line) for line in shown[1:-3]} == {columns}
    cells = [line.split("│")[1].strip() for line in shown if line.startswith("│")]
    names = "".join(cells).replace(" ", "")
    for la in FRAMES.operations:
        assert f"{la.name}({type(la).__name__})" in names
    assert len(lines(FRAMES)[1]) == 72, "print_fn gets the table as wide as its contents"


def test_a_terminal_too_narrow(monkeypatch):
    stream = Terminal()
    for module in (summary, progress):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stdout=stream))
    monkeypatch.setenv("COLUMNS", "5")
    print_summary(FRAMES)
    assert {len(line) for line in stream.getvalue().splitlines()[1:-3]} == {3 * 7 + 1}


def test_expand_wrappers():
    stack = Sequential([Bidirectional(LSTM(4, name="lstm"), input_shape=(3, 2))])
    stack.add(Dense(1))
    assert "forward_lstm" not in text(stack)
    shown = text(stack, expand_nested=True)
    for name in ("forward_lstm (LSTM)", "backward_lstm (LSTM)"):
        assert re.search(rf"│    └ {re.escape(name)} +│ \(None, 4\) +│ +112 │", shown), shown


def test_the_optimizers_numbers_count():
    """Keras's lines: Adam's two moments of each of 8 weights, the step and the learning rate."""
    model = Sequential([Dense(2, input_shape=(3,))])
    model.compile("adam", "mse")
    lines = []
    model.summary(print_fn=lines.append)
    assert "Optimizer params" not in lines[0] and "Total params: 8 (32.00 B)" in lines[0]
    model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    model.summary(print_fn=lines.append)
    assert "Total params: 26 (" in lines[1] and "Optimizer params: 18 (" in lines[1]
    assert "Trainable params: 8 (32.00 B)" in lines[1]


# --- graphs ---------------------------------------------------------------------------------------


def translator():
    source, target = Input((7, 6), name="a"), Input((4, 6), name="b")
    encoded, h, c = LSTM(8, return_sequences=True, return_state=True, name="enc")(source)
    decoded = LSTM(8, return_sequences=True, name="de")(target, initial_state=[h, c])
    found = Attention(name="at")([decoded, encoded])
    words = Dense(5, name="words")(Concatenate(name="c")([decoded, found, decoded]))
    return Model([source, target], words, name="translator")


def test_where_inputs_come_from():
    assert (
        text(translator())
        == """\
Model: "translator"
┏━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
┃ Layer (type)    ┃ Output Shape                         ┃ Param # ┃ Connected to                  ┃
┡━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┩
│ a (InputLayer)  │ (None, 7, 6)                         │       0 │ -                             │
├─────────────────┼──────────────────────────────────────┼─────────┼───────────────────────────────┤
│ b (InputLayer)  │ (None, 4, 6)                         │       0 │ -                             │
├─────────────────┼──────────────────────────────────────┼─────────┼───────────────────────────────┤
│ enc (LSTM)      │ [(None, 7, 8), (None, 8), (None, 8)] │     480 │ a[0][0]                       │
├─────────────────┼──────────────────────────────────────┼─────────┼───────────────────────────────┤
│ de (LSTM)       │ (None, 4, 8)                         │     480 │ b[0][0], enc[0][1], enc[0][2] │
├─────────────────┼──────────────────────────────────────┼─────────┼───────────────────────────────┤
│ at (Attention)  │ (None, 4, 8)                         │       0 │ de[0][0], enc[0][0]           │
├─────────────────┼──────────────────────────────────────┼─────────┼───────────────────────────────┤
│ c (Concatenate) │ (None, 4, 24)                        │       0 │ de[0][0], at[0][0], de[0][0]  │
├─────────────────┼──────────────────────────────────────┼─────────┼───────────────────────────────┤
│ words (Dense)   │ (None, 4, 5)                         │     125 │ c[0][0]                       │
└─────────────────┴──────────────────────────────────────┴─────────┴───────────────────────────────┘
 Total params: 1,085 (4.24 KB)
 Trainable params: 1,085 (4.24 KB)
 Non-trainable params: 0 (0.00 B)"""
    )


def nested():
    """A layer and a model that are called twice, a model of two outputs in a model."""
    left, right = Input((9, 4), name="left"), Input((9, 4), name="right")
    shared = LSTM(4, name="shared")
    both = Multiply(name="both")([shared(left), shared(right)])
    inner = Model([left, right], [both, Dense(2, name="two")(both)], name="inner")
    x, y = Input((9, 4), name="x"), Input((9, 4), name="y")
    (four, two), (_, again) = inner([x, y]), inner([y, x])
    pooled = GlobalMaxPooling1D(name="pooled")(x)
    return Model([x, y], Concatenate(name="c")([four, two, again, pooled]), name="outer")


def test_layers_called_twice_and_inner_models():
    rows = {}
    for options in ({}, {"expand_nested": True, "show_trainable": True}):
        shown = lines(nested(), line_length=240, **options)
        for cells in [[c.strip() for c in line.split("│")[1:-1]] for line in shown if "│" in line]:
            rows[cells[0]] = cells[1:]
    assert rows["inner (Functional)"] == [
        "[(None, 4), (None, 2)]", "154", "x[0][0], y[0][0], y[0][0], x[0][0]", "Y",
    ]  # fmt: skip
    assert rows["└ left (InputLayer)"] == ["(None, 9, 4)", "0", "-", "-"]
    assert rows["└ shared (LSTM)"] == ["(None, 4)", "144", "-", "Y"]
    assert rows["c (Concatenate)"][2] == "inner[0][0], inner[0][1], inner[1][1], pooled[0][0]"
    inner = text(nested().layers[2])
    assert "left[0][0], right[0][0]" in inner and "shared[0][0], shared[1][0]" in inner


def test_widths_of_graphs(monkeypatch):
    assert {len(line) for line in lines(translator(), line_length=90)[1:-3]} == {90}
    at = [25, 50, 65, 100]
    assert lines(translator(), positions=at)[1].index("┳") == at[0] - 1
    chosen = text(translator(), layer_range=["de", "c"])
    assert "de (LSTM)" in chosen and "words" not in chosen and "a (I" not in chosen
    with pytest.raises(ValueError, match="positions: expected 4, received"):
        lines(translator(), positions=[0.5, 0.8, 1.0])
    stream = Terminal()
    for module in (summary, progress):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stdout=stream))
    for columns in (40, 60, 160):
        monkeypatch.setenv("COLUMNS", str(columns))
        stream.truncate(0), stream.seek(0)
        translator().summary()
        assert {len(line) for line in stream.getvalue().splitlines()[1:-3]} == {columns}


def test_graphs_that_look_like_a_chain():
    """As Keras, which has no column for them."""
    x = Input((9, 4), name="x")
    _, h, _ = LSTM(4, return_state=True)(x)
    model = Model(x, {"y": Dense(2)(h)})
    assert not isinstance(model, Sequential) and "Connected to" not in text(model)
    assert "x (InputLayer)" in text(model) and "[(None, 4), (None, 4), (None, 4)]" in text(model)
    assert "Connected to" in text(Model(x, [Dense(3)(h), Dense(2)(h)]))
