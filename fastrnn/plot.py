"""Pictures: what `fit` recorded, and the layers of a model. Needs matplotlib: fastrnn[plot]."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import TYPE_CHECKING

from fastrnn._public import public

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from fastrnn._types import Path
    from fastrnn.callbacks import History
    from fastrnn.models import Sequential


__all__ = ["history", "plot_model"]
public(__name__)

_LINE = 0.2  # inches, as the next three: height of a line of text
_CHARACTER = 0.09
_MARGIN = 0.15
_GAP = 0.35


def history(history: History | Mapping[str, Sequence[float]], path: Path | None = None) -> Figure:
    """Plot the loss and each metric by epoch, training and validation; return matplotlib's Figure.

    history: what `fit` returned, or its dict of lists. path: also save the figure there and close
    it. Values of fewer epochs than the others (validation_freq) are spread over them evenly. Raises
    ValueError if nothing was recorded, ImportError without matplotlib.
    """
    pyplot = _pyplot()
    epochs = getattr(history, "epoch", None)
    recorded = getattr(history, "history", history)
    if not isinstance(recorded, dict) or not any(len(values) for values in recorded.values()):
        raise ValueError(
            f"history: expected what fit returned, of at least one epoch, received {history!r}"
        )
    names = list(dict.fromkeys(name.removeprefix("val_") for name in recorded))
    figure, panels = pyplot.subplots(
        1, len(names), figsize=(5 * len(names), 4), squeeze=False, layout="constrained"
    )
    first = epochs[0] if epochs else 0
    count = max(map(len, recorded.values()))
    for panel, name in zip(panels[0], names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            values = recorded.get(key, ())
            if len(values):
                every = count // len(values)
                at = [first + every * (i + 1) for i in range(len(values))]
                panel.plot(at, values, label=label, marker="o" if len(values) == 1 else None)
        panel.set(xlabel="epoch", ylabel=name)
        panel.xaxis.get_major_locator().set_params(integer=True)
        if f"val_{name}" in recorded:
            panel.legend()
    if path is not None:
        figure.savefig(path)
    if path is not None or "inline" in pyplot.get_backend():  # a notebook shows what is returned
        pyplot.close(figure)
    return figure


def plot_model(
    model: Sequential,
    to_file: Path = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
):
    """Draw the layers of a built Sequential into a file, whose suffix (default png) is its format.

    show_*: what the boxes say besides the kind of layer. rankdir: "TB" (downwards), "BT", "LR" or
    "RL". expand_nested: draw the layers of models in the model, in a frame. splines is graphviz's.
    Graphviz's `dot` draws where it is installed, else matplotlib. Returns the picture in a notebook
    (png), else None. Raises ValueError for a model not built or a format not known, ImportError
    without both programs. As keras.utils.plot_model.
    """
    if not model.built:
        raise ValueError("model: expected one that is built; call model.build(input_shape) first")
    if rankdir not in ("TB", "BT", "LR", "RL"):
        raise ValueError(f'rankdir: expected "TB", "BT", "LR" or "RL", received {rankdir!r}')
    path = os.fspath(to_file)
    kind = os.path.splitext(path)[1][1:] or "png"

    def describe(layer):
        lines = [_kind(layer)]
        if show_layer_names:
            lines[0] = f"{layer.name} ({lines[0]})"
        if show_layer_activations and hasattr(layer, "activation"):
            lines.append(f"activation: {getattr(layer.activation, '__name__', layer.activation)}")
        if show_shapes:
            lines += [f"input: {layer.input_shape}", f"output: {layer.output_shape}"]
        if show_dtype:
            lines.append("dtype: float32")
        if show_trainable:
            lines.append("trainable" if layer.trainable else "not trainable")
        return lines

    boxes, frames = [], []
    _collect(model, expand_nested, describe, boxes, frames)
    program = shutil.which("dot")
    if program:
        _run_dot(program, _dot(boxes, frames, rankdir, splines), path, kind, dpi)
    else:
        _draw(boxes, frames, rankdir, path, kind, dpi)
    if kind == "png" and "IPython" in sys.modules:
        from IPython import display

        return display.Image(filename=path, format="png")


def _kind(layer) -> str:
    inner = getattr(layer, "layer", None)
    return type(layer).__name__ + (f" ({_kind(inner)})" if inner is not None else "")


def _collect(model, expand_nested, describe, boxes, frames) -> int:
    """Append the lines of every box, and every frame as (name, first box, last box, height).

    Returns how many frames are in the model, one in the other; the height of a frame counts it too.
    """
    height = 0
    for layer in model.layers:
        if expand_nested and getattr(layer, "layers", None):
            first = len(boxes)
            within = 1 + _collect(layer, expand_nested, describe, boxes, frames)
            frames.append((layer.name, first, len(boxes) - 1, within))
            height = max(height, within)
        else:
            boxes.append(describe(layer))
    return height


def _dot(boxes, frames, rankdir, splines) -> str:
    """The graph in graphviz's language."""

    def quoted(lines):
        escaped = (re.sub(r'(["\\])', r"\\\1", line) for line in lines)
        return '"' + r"\n".join(escaped) + '"'

    text = [f"digraph {{ rankdir={rankdir} splines={quoted([splines])} node [shape=box]"]
    for i, lines in enumerate(boxes):
        for n, (name, first, _, _) in reversed([*enumerate(frames)]):  # outer frames come last
            if first == i:
                text.append(f"subgraph cluster_{n} {{ label={quoted([name])}")
        text.append(f"{i} [label={quoted(lines)}]")
        text += ["}" for _, _, last, _ in frames if last == i]
    text += [f"{i} -> {i + 1}" for i in range(len(boxes) - 1)]
    return "\n".join([*text, "}"])


def _run_dot(program, graph, path, kind, dpi):
    import subprocess

    command = [program, f"-T{kind}", f"-Gdpi={dpi}", "-o", path]
    result = subprocess.run(command, input=graph.encode(), capture_output=True)
    if result.returncode:
        raise ValueError(
            f"to_file: graphviz could not draw {path!r}: {result.stderr.decode(errors='replace')}"
        )


def _draw(boxes, frames, rankdir, path, kind, dpi):
    """The graph by matplotlib: boxes in one row or column, arrows between, frames around."""
    pyplot = _pyplot()
    from matplotlib.patches import Rectangle

    downwards = rankdir in ("TB", "BT")
    sizes = [
        (_CHARACTER * max(map(len, lines)) + 2 * _MARGIN, _LINE * len(lines) + 2 * _MARGIN)
        for lines in boxes
    ]
    edge = _MARGIN + max([height for *_, height in frames], default=0) * (_MARGIN + _LINE)
    across = max(size[0 if downwards else 1] for size in sizes) + 2 * edge
    gap = _GAP + 2 * edge if frames else _GAP
    places, end = [], edge + _MARGIN
    for size in sizes:
        places.append(end)
        end += size[1 if downwards else 0] + gap
    along = end - gap + edge + _MARGIN

    figure = pyplot.figure(figsize=(across, along) if downwards else (along, across), dpi=dpi)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    spans = []  # left, top, right, bottom of each box
    for (wide, high), place, lines in zip(sizes, places, boxes, strict=True):
        if rankdir in ("BT", "RL"):
            place = along - place - (high if downwards else wide)
        left, top = ((width - wide) / 2, place) if downwards else (place, (height - high) / 2)
        spans.append((left, top, left + wide, top + high))
        axes.add_patch(Rectangle((left, top), wide, high, fill=False))
        axes.text(
            left + wide / 2, top + high / 2, "\n".join(lines),
            ha="center", va="center", fontsize=10, family="monospace", parse_math=False,
        )  # fmt: skip
    for one, other in zip(spans, spans[1:], strict=False):
        ends = {
            "TB": ((width / 2, one[3]), (width / 2, other[1])),
            "BT": ((width / 2, one[1]), (width / 2, other[3])),
            "LR": ((one[2], height / 2), (other[0], height / 2)),
            "RL": ((one[0], height / 2), (other[2], height / 2)),
        }
        start, tip = ends[rankdir]
        arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "color": "black"}
        axes.annotate("", tip, start, arrowprops=arrow)
    for name, first, last, levels in frames:
        room = (_MARGIN + _LINE) * levels - _LINE
        inside = list(zip(*spans[first : last + 1], strict=True))
        left, top = min(inside[0]) - room, min(inside[1]) - room - _LINE
        right, bottom = max(inside[2]) + room, max(inside[3]) + room
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, linestyle="--")
        )
        axes.text(left + 0.05, top + 0.05, name, va="top", fontsize=9, parse_math=False)
    try:
        figure.savefig(path, format=kind)
    finally:
        pyplot.close(figure)


def _pyplot():
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'fastrnn[plot]'") from error
    return pyplot
