"""Pictures of what fit recorded and of models, by matplotlib and by graphviz."""

import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="tests pictures")

import matplotlib
from matplotlib import pyplot

import fastrnn
from fastrnn import layers, plot
from fastrnn.utils import plot_model

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture
def no_dot(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)


def network():
    inner = fastrnn.Sequential(
        [
            layers.GRU(5, return_sequences=True, input_shape=(None, 3), name="gru"),
            fastrnn.Sequential([layers.Dense(4, activation="relu", name="wide")], name="in$ner"),
        ],
        name='a "b" \\',
    )
    last = [layers.Bidirectional(layers.LSTM(4), name="both"), layers.Dense(1, name="last")]
    return fastrnn.Sequential([layers.Masking(input_shape=(7, 3), name="mask"), inner, *last])


def curves(figure):
    """{quantity: {label: [(epoch, value), ...]}} as the figure shows it."""
    return {
        panel.get_ylabel(): {
            line.get_label(): list(zip(*line.get_data(), strict=True)) for line in panel.lines
        }
        for panel in figure.axes
    }


def test_history_of_a_fit(tmp_path):
    model = fastrnn.Sequential([layers.LSTM(2, input_shape=(3, 1)), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = np.ones((8, 3, 1)), np.ones(8)
    fitted = model.fit(
        x, y, epochs=9, initial_epoch=3, validation_data=(x, y), validation_freq=3, verbose=0
    )
    figure = plot.history(fitted)
    shown = curves(figure)
    assert list(shown) == ["loss", "mae"]
    for name, lines in shown.items():
        values = fitted.history[name]
        assert lines["training"] == list(zip(range(4, 10), values, strict=True))
        assert lines["validation"] == list(zip((6, 9), fitted.history[f"val_{name}"], strict=True))
    assert pyplot.fignum_exists(figure.number)
    path = tmp_path / "curves.png"
    saved = plot.history(fitted, path)
    assert path.read_bytes()[:4] == b"\x89PNG" and not pyplot.fignum_exists(saved.number)


def test_history_of_a_dict():
    figure = plot.history({"loss": [3.0], "val_loss": [4.0], "val_auc": [0.5]})
    assert curves(figure) == {
        "loss": {"training": [(1, 3.0)], "validation": [(1, 4.0)]},
        "auc": {"validation": [(1, 0.5)]},
    }
    assert figure.axes[0].lines[0].get_marker() == "o", "one point makes no line"
    for nothing in ({}, {"loss": []}, fastrnn.callbacks.History(), [1.0]):
        with pytest.raises(ValueError, match="history: expected what fit returned"):
            plot.history(nothing)


def test_legends_tell_training_from_validation():
    """The learning rate is neither."""
    recorded = {"loss": [3.0, 2.0], "val_loss": [4.0, 3.0], "learning_rate": [0.1, 0.01]}
    loss, rate = plot.history(recorded).axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    assert rate.get_legend() is None and rate.get_ylabel() == "learning_rate"


def test_a_notebook_draws_once(monkeypatch):
    """Its backend shows every open figure at a cell's end, and the cell's value is shown too."""
    monkeypatch.setattr(pyplot, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    figure = plot.history({"loss": [3.0, 2.0]})
    assert not pyplot.get_fignums()
    assert curves(figure)["loss"]["training"] == [(1, 3.0), (2, 2.0)]


NOTEBOOK = """
import fastrnn.plot
fastrnn.plot.history({"loss": [3.0, 2.0]})
"""


def test_pictures_of_a_notebook(monkeypatch):
    pytest.importorskip("ipykernel", reason="runs a notebook")
    nbclient = pytest.importorskip("nbclient", reason="runs a notebook")
    nbformat = pytest.importorskip("nbformat", reason="runs a notebook")
    root = str(Path(fastrnn.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.getenv("PYTHONPATH")])))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    cell = nbformat.v4.new_code_cell(NOTEBOOK)
    nbclient.NotebookClient(
        nbformat.v4.new_notebook(cells=[cell]), timeout=60, kernel_name="python3"
    ).execute()
    assert sum("image/png" in output.get("data", ()) for output in cell.outputs) == 1


def texts(path):
    """The lines of text in an SVG picture and where they are."""
    place = r"(?:translate\(([\d.]+) ([\d.]+)\)|x=\"([\d.]+)\" y=\"([\d.]+)\")"
    found = re.findall(rf"<text [^>]*?{place}[^>]*>(.*?)<", path.read_text(), re.S)
    return {text: (float(a or c), float(b or d)) for a, b, c, d, text in found}


@pytest.mark.parametrize("rankdir", ["TB", "BT", "LR", "RL"])
def test_by_matplotlib(tmp_path, no_dot, rankdir):
    path = tmp_path / "model.svg"
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_model(network(), path, show_layer_names=True, rankdir=rankdir, expand_nested=True)
    found = texts(path)
    boxes = [
        "mask (Masking)", "gru (GRU)", "wide (Dense)", "both (Bidirectional (LSTM))", "last (Dense)"
    ]  # fmt: skip
    assert found.keys() == {*boxes, 'a "b" \\', "in$ner"}
    along = [found[box][1 if rankdir in ("TB", "BT") else 0] for box in boxes]
    assert along == sorted(along, reverse=rankdir in ("BT", "RL")) and len(set(along)) == 5
    assert not pyplot.get_fignums()


def test_what_boxes_say(tmp_path, no_dot):
    path = tmp_path / "model.svg"
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_model(network(), path, True, True, show_layer_activations=True, show_trainable=True)
    text = path.read_text()
    for part in ("input: (None, 7, 3)", "output: (None, 1)", "dtype: float32", "not trainable"):
        assert (part in text) == (part != "not trainable"), part
    assert "activation: linear" in text and "Sequential" in text and "wide" not in text
    model = network()
    model.layers[0].trainable = False
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_model(model, path, show_trainable=True)
    assert path.read_text().count("not trainable") == 1


def test_formats(tmp_path, no_dot):
    for name, start in (("m.png", b"\x89PNG"), ("m.pdf", b"%PDF"), ("m", b"\x89PNG")):
        plot_model(network(), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ValueError, match="nonsense"):
        plot_model(network(), tmp_path / "m.nonsense")
    assert not pyplot.get_fignums()


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match="model: expected one that is built"):
        plot_model(fastrnn.Sequential([layers.Dense(1)]), tmp_path / "m.png")
    with pytest.raises(ValueError, match="rankdir: .*received 'UP'"):
        plot_model(network(), tmp_path / "m.png", rankdir="UP")


def test_without_matplotlib(monkeypatch, no_dot, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (
        lambda: plot_model(network(), tmp_path / "m.png"),
        lambda: plot.history({"a": [1]}),
    ):
        with pytest.raises(ImportError, match=r"pip install 'fastrnn\[plot\]'"):
            draw()


@pytest.mark.skipif(not shutil.which("dot"), reason="needs graphviz's dot")
@pytest.mark.parametrize("rankdir", ["TB", "LR"])
def test_by_graphviz(tmp_path, rankdir):
    path = tmp_path / "model.plain"  # dot's list of boxes and arrows
    plot_model(network(), path, show_layer_names=True, rankdir=rankdir, expand_nested=True)
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [line[1:3] for line in lines if line[0] == "edge"] == [
        [str(i), str(i + 1)] for i in range(4)
    ]
    at = [float(line[2 if rankdir == "LR" else 3]) for line in lines if line[0] == "node"]
    assert at == sorted(at, reverse=rankdir == "TB") and len(set(at)) == 5
    plot_model(network(), tmp_path / "model.svg", expand_nested=True)
    svg = (tmp_path / "model.svg").read_text()
    assert "a &quot;b&quot; \\<" in svg and svg.count('class="cluster"') == 2
    with pytest.raises(ValueError, match="to_file: graphviz could not draw .*nonsense"):
        plot_model(network(), tmp_path / "model.nonsense")


def test_graphviz_is_asked_first(tmp_path, monkeypatch):
    asked = []

    def run(command, input, **_):
        asked.append((command, input.decode()))
        return SimpleNamespace(returncode=len(asked) - 1, stdout=b"drawn", stderr=b"no such font")

    monkeypatch.setattr(shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr("subprocess.run", run)
    plot_model(network(), tmp_path / "m.svg", dpi=50, splines="line")
    [(command, graph)] = asked
    assert command == ["/bin/dot", "-Tsvg", "-Gdpi=50"]
    assert (tmp_path / "m.svg").read_bytes() == b"drawn"
    assert 'splines="line"' in graph and graph.count("->") == 3
    with pytest.raises(ValueError, match="to_file: .*no such font"):
        plot_model(network(), tmp_path / "other.svg")
    assert not (tmp_path / "other.svg").exists()


# --- graphs ---------------------------------------------------------------------------------------


def forecaster():
    """Two inputs, two heads, a layer called twice, a model in it."""
    first, second = layers.Input((5, 3), name="first"), layers.Input((3,), name="second")
    shared = layers.Dense(3, name="shared", activation="tanh")
    inner = fastrnn.Model(
        [first, second],
        [layers.GRU(3, name="gru")(first), layers.Dense(4, name="four")(second)],
        name="inner",
    )
    x, y = layers.Input((5, 3), name="x"), layers.Input((3,), name="y")
    gru, four = inner([shared(x), shared(y)])
    joined = layers.Concatenate(name="joined")([gru, four, y])
    return fastrnn.Model(
        [x, y], [layers.Dense(1, name="a")(joined), layers.Dense(1, name="b")(joined)]
    )


def arrows_of(picture):
    """The arrows of a picture, by the first words of the boxes, from graphviz's language."""
    text = str(picture)
    names = dict(re.findall(r'(\d+) \[label="([^ "\\]*)', text))
    return sorted((names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", text))


def test_arrows_of_graphs():
    found = arrows_of(plot.model(forecaster()))
    assert found == [
        ("inner", "joined"), ("joined", "a"), ("joined", "b"), ("shared", "inner"), ("x", "shared"),
        ("y", "joined"), ("y", "shared"),
    ]  # fmt: skip
    found = arrows_of(plot.model(forecaster(), expand_nested=True))
    assert found == [
        ("first", "gru"), ("four", "joined"), ("gru", "joined"), ("joined", "a"), ("joined", "b"),
        ("second", "four"), ("shared", "first"), ("shared", "second"), ("x", "shared"),
        ("y", "joined"), ("y", "shared"),
    ]  # fmt: skip


@pytest.mark.parametrize("rankdir", ["TB", "BT", "LR", "RL"])
def test_boxes_of_graphs(no_dot, rankdir):
    """Rows one below the other, nothing across a box, all within the picture."""
    picture = plot.model(forecaster(), rankdir=rankdir, expand_nested=True, show_shapes=True)
    svg = picture._repr_svg_()
    number = r'="([\d.]+)"'
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    shape = rf"<rect x{number} y{number} width{number} height{number}"
    boxes = [[*map(float, box)] for box in re.findall(rf"{shape} rx{number} fill=.#", svg)]
    boxes = [(x, y, x + wide, y + high) for x, y, wide, high, _ in boxes]
    assert len(boxes) == 10
    for n, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left < right <= width + 1 and 0 <= top < bottom <= height + 1
        for other in boxes[:n]:
            assert left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]
    frames = re.findall(rf"{shape} rx{number} fill=.none", svg)
    [(x, y, wide, high)] = [[*map(float, frame[:4])] for frame in frames]
    inside = [b for b in boxes if b[0] >= x and b[1] >= y and b[2] <= x + wide and b[3] <= y + high]
    assert len(inside) == 4
    lines = [
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'<polyline points="([^"]*)"', svg)
    ]
    assert len(lines) == 11
    for points in lines:
        for one, other in zip(points, points[1:], strict=False):
            along = other[1] - one[1] if rankdir in ("TB", "BT") else other[0] - one[0]
            assert (along > 0) == (rankdir in ("TB", "LR"))
            for share in np.linspace(0.01, 0.99, 50):
                px, py = (a + share * (b - a) for a, b in zip(one, other, strict=True))
                for left, top, right, bottom in boxes:
                    assert not (left + 1 < px < right - 1 and top + 1 < py < bottom - 1)
    for text in ("shared (Dense)", "inner", "input: [(None, 3), (None, 4), (None, 3)]"):
        assert f">{text}</text>" in svg
    assert "first (InputLayer)" in svg and svg.count("input: (None, 5, 3)") == 2  # shared, gru


def test_a_picture_without_matplotlib(tmp_path, no_dot, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    picture = plot.model(forecaster(), tmp_path / "m.svg")
    assert (tmp_path / "m.svg").read_text() == picture._repr_svg_()
    plot.model(forecaster(), tmp_path / "m.dot")
    assert (tmp_path / "m.dot").read_text() == str(picture) == picture.to_string()
    with pytest.raises(ImportError, match="those of models as .svg do not"):
        plot.model(forecaster(), tmp_path / "m.png")


def test_pictures_are_well_formed(no_dot):
    from xml.etree import ElementTree

    hostile = fastrnn.Sequential([layers.Dense(1, input_shape=(2,), name="<b> & c")], name="a<b")
    outer = fastrnn.Sequential([hostile])
    root = ElementTree.fromstring(plot.model(outer, expand_nested=True)._repr_svg_())
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words == ["a<b", "<b> & c (Dense)"]


def test_methods_of_pydot(tmp_path, no_dot):
    """As in SVG(model_to_dot(model).create(prog="dot", format="svg"))."""
    picture = fastrnn.utils.model_to_dot(forecaster(), show_shapes=True)
    svg = picture.create(prog="dot", format="svg")
    assert svg == picture.create_svg() == picture._repr_svg_().encode() and svg[:4] == b"<svg"
    assert picture.create_png()[:4] == b"\x89PNG" and b"joined (Concatenate)" in svg
    picture.write_pdf(tmp_path / "m.pdf"), picture.write(tmp_path / "m.png", format="png")
    assert (tmp_path / "m.pdf").read_bytes()[:4] == b"%PDF"
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="subgraph: expected False"):
        fastrnn.utils.model_to_dot(forecaster(), subgraph=True)


def test_layers_that_go_round(no_dot):
    """Called on what they gave: one box each, an arrow goes back."""
    x = layers.Input((3,), name="x")
    one, two = layers.Dense(3, name="one"), layers.Dense(3, name="two")
    model = fastrnn.Model(x, two(one(two(one(x)))))
    picture = plot.model(model)
    assert arrows_of(picture) == [("one", "two"), ("two", "one"), ("x", "one")]
    assert picture._repr_svg_().count("<polyline") == 3


@pytest.mark.skipif(not shutil.which("dot"), reason="needs graphviz's dot")
def test_graphs_by_graphviz(tmp_path):
    plot.model(forecaster(), tmp_path / "m.svg", expand_nested=True, show_dtype=True)
    svg = (tmp_path / "m.svg").read_text()
    assert svg.count('class="node"') == 10 and svg.count('class="edge"') == 11
    assert svg.count('class="cluster"') == 1
