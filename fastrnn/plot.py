"""Pictures: what `fit` recorded, by matplotlib (fastrnn[plot]), and the layers of a model."""

from __future__ import annotations

import functools
import html
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

from fastrnn._public import public

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from fastrnn._types import Path
    from fastrnn.callbacks import History
    from fastrnn.models import Model


__all__ = ["Picture", "history", "model", "model_to_dot", "plot_model"]
public(__name__)

_LINE = 14.0  # points, as the next five: the height of a line of text
_CHARACTER = 6.1
_FONT = 10
_MARGIN = 10.0
_GAP = 26.0  # between rows, in which the arrows are
_BESIDE = 18.0
_SWEEPS = 12


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


def model(
    model: Model,
    to_file: Path | None = None,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> Picture:
    """Draw the layers of a built model, and where their inputs come from; notebooks show the
    Picture that is returned.

    to_file: also save it there, in the format that the suffix names (svg, png, pdf, dot, ...).
    show_*: what the boxes say besides the kind of layer. rankdir: "TB" (downwards), "BT", "LR" or
    "RL". expand_nested: draw the layers of models in the model, in a frame. dpi: of png. splines is
    graphviz's. Graphviz's `dot` draws where it is installed. Without it svg needs nothing, other
    formats need matplotlib. Raises ValueError for a model not built or a format not known,
    ImportError without the programs. As keras.utils.plot_model.
    """
    if not model.built:
        raise ValueError("model: expected one that is built; call model.build(input_shape) first")
    if rankdir not in ("TB", "BT", "LR", "RL"):
        raise ValueError(f'rankdir: expected "TB", "BT", "LR" or "RL", received {rankdir!r}')

    def describe(layer, given, outputs):
        """The lines of a layer's box, for the shapes of its inputs and its outputs' tensors."""
        lines = [_kind(layer)]
        if show_layer_names:
            lines[0] = f"{layer.name} ({lines[0]})"
        if show_layer_activations and hasattr(layer, "activation"):
            lines.append(f"activation: {getattr(layer.activation, '__name__', layer.activation)}")
        if show_shapes:
            if given is not None:
                lines.append(f"input: {given}")
            lines.append(f"output: {outputs}")
        if show_dtype:
            lines.append(f"dtype: {getattr(layer, 'dtype', 'float32')}")
        if show_trainable:
            lines.append("trainable" if layer.trainable else "not trainable")
        return lines

    picture = Picture(_frame_of(model, expand_nested, describe), rankdir, splines, dpi)
    if to_file is not None:
        path = os.fspath(to_file)
        picture.write(path, format=os.path.splitext(path)[1][1:] or "png")
    return picture


def plot_model(
    model: Model,
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
    """fastrnn.plot.model into a file, whose suffix (default png) is its format. Returns the picture
    in a notebook (png, svg), else None. As keras.utils.plot_model."""
    path = os.fspath(to_file)
    _model(
        model, path, show_shapes, show_dtype, show_layer_names, rankdir, expand_nested, dpi,
        show_layer_activations, show_trainable, splines,
    )  # fmt: skip
    kind = os.path.splitext(path)[1][1:] or "png"
    if kind in ("png", "svg") and "IPython" in sys.modules:
        from IPython import display

        return display.SVG(path) if kind == "svg" else display.Image(filename=path, format="png")


def model_to_dot(
    model: Model,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> Picture:
    """fastrnn.plot.model's Picture, which has pydot's methods. subgraph: only False."""
    if subgraph:
        raise ValueError(f"subgraph: expected False, received {subgraph!r}")
    return _model(
        model, None, show_shapes, show_dtype, show_layer_names, rankdir, expand_nested, dpi,
        show_layer_activations, show_trainable, splines,
    )  # fmt: skip


_model = model  # which an argument hides


class Picture:
    """What fastrnn.plot.model drew: str(picture) is the graph in graphviz's language. Notebooks
    show it. create and write are pydot's, as scripts call them on what model_to_dot gave."""

    def __init__(self, frame, rankdir, splines, dpi):
        self._frame, self._rankdir, self._dpi = frame, rankdir, dpi
        self._text = _dot(frame, rankdir, splines)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Picture of {self._frame.name!r}>"

    to_string = __str__

    def create(self, prog: Any = None, format: str = "svg", *, dpi: int | None = None) -> bytes:
        """The bytes of a file of this format."""
        if format in ("dot", "raw"):
            return self._text.encode()
        program = shutil.which("dot")
        if program:
            return _run_dot(program, self._text, format, dpi or self._dpi)
        boxes, arrows, frames, size = _placed(self._frame, self._rankdir)
        if format == "svg":
            return _svg(boxes, arrows, frames, size).encode()
        return _by_matplotlib(boxes, arrows, frames, size, format, dpi or self._dpi)

    def write(self, path: Path, prog: Any = None, format: str = "svg") -> bool:
        """Write a file of this format."""
        data = self.create(prog, format)
        with open(path, "wb") as file:
            file.write(data)
        return True

    create_svg = functools.partialmethod(create, format="svg")
    create_png = functools.partialmethod(create, format="png")
    create_dot = functools.partialmethod(create, format="dot")
    write_svg = functools.partialmethod(write, format="svg")
    write_png = functools.partialmethod(write, format="png")
    write_pdf = functools.partialmethod(write, format="pdf")
    write_dot = functools.partialmethod(write, format="dot")

    def _repr_svg_(self) -> str:
        return self.create(format="svg", dpi=72).decode()


# --- what is drawn ---


class _Box:
    """The lines of text of a layer. Or, of a model whose layers are shown, a frame around `boxes`
    with a name; arrows: (from, to) between boxes that are no frames. inputs, outputs: the boxes, no
    frames, at which arrows to each input end and from each output begin."""

    def __init__(self, lines=(), name=None, parent=None):
        self.lines, self.name, self.parent = lines, name, parent
        self.boxes, self.arrows = [], {}
        self.inputs = self.outputs = [self]
        self.size = self.place = (0.0, 0.0)  # place: of the top left corner, in the frame

    def within(self, frame):
        """This box, or the frame with it, that is in `frame` itself."""
        box = self
        while box.parent is not frame:
            box = box.parent
        return box


def _kind(layer) -> str:
    inner = getattr(layer, "layer", None)
    return type(layer).__name__ + (f" ({_kind(inner)})" if inner is not None else "")


def _frame_of(model, expand_nested, describe, parent=None) -> _Box:
    frame, made = _Box(name=model.name, parent=parent), {}

    def add(layer, given, outputs):
        if expand_nested and getattr(layer, "layers", None):
            box = _frame_of(layer, expand_nested, describe, frame)
        else:
            box = _Box(describe(layer, given, outputs), parent=frame)
        frame.boxes.append(box)
        return box

    def shapes_of(tensors, several):
        shapes = [tensor.shape for tensor in tensors]
        return shapes if several else shapes[0]

    nodes = getattr(getattr(model, "_graph", None), "nodes", ())
    if not nodes:  # a chain
        for layer in model.operations:
            add(layer, layer.input_shape, layer.output_shape)
        for box, above in zip(frame.boxes, frame.boxes[1:], strict=False):
            frame.arrows[box.outputs[0], above.inputs[0]] = None
        frame.inputs, frame.outputs = frame.boxes[0].inputs, frame.boxes[-1].outputs
        return frame
    starts = dict(zip((tensor.node for tensor in model.inputs), model.input_names, strict=True))
    for node in nodes:
        if node in starts:
            layer, given = model.get_layer(starts[node]), None
        else:
            layer, given = node.layer, shapes_of(node.inputs, not node.single)
        if layer not in made:
            made[layer] = add(layer, given, shapes_of(node.outputs, len(node.outputs) > 1))
        if node in starts:
            made[node.layer] = made[layer]

    def box_of(tensor):
        outputs = made[tensor.layer].outputs
        return outputs[tensor.place if len(outputs) > 1 else 0]

    for node in nodes:
        for place, tensor in enumerate(() if node in starts else node.sources):
            inputs = made[node.layer].inputs
            frame.arrows[box_of(tensor), inputs[place if len(inputs) > 1 else 0]] = None
    frame.inputs = [box_of(tensor) for tensor in model.inputs]
    frame.outputs = [box_of(tensor) for tensor in model.outputs]
    return frame


# --- by graphviz ---


def _dot(frame, rankdir, splines) -> str:
    """The graph in graphviz's language."""

    def quoted(*lines):
        escaped = (re.sub(r'(["\\])', r"\\\1", line) for line in lines)
        return '"' + r"\n".join(escaped) + '"'

    text = [f"digraph {{ rankdir={rankdir} splines={quoted(splines)} node [shape=box]"]
    numbers, arrows, clusters = {}, [], []

    def add(frame):
        for box in frame.boxes:
            if box.name is None:
                numbers[box] = len(numbers)
                text.append(f"{numbers[box]} [label={quoted(*box.lines)}]")
            else:
                text.append(
                    f"subgraph cluster_{len(clusters)} {{ style=dashed label={quoted(box.name)}"
                )
                clusters.append(box)
                add(box)
                text.append("}")
        arrows.extend(frame.arrows)

    add(frame)
    text += [f"{numbers[one]} -> {numbers[other]}" for one, other in arrows]
    return "\n".join([*text, "}"])


def _run_dot(program, graph, kind, dpi) -> bytes:
    import subprocess

    command = [program, f"-T{kind}", f"-Gdpi={dpi}"]
    result = subprocess.run(command, input=graph.encode(), capture_output=True)
    if result.returncode:
        raise ValueError(
            f"to_file: graphviz could not draw {kind!r}: {result.stderr.decode(errors='replace')}"
        )
    return result.stdout


# --- without graphviz ---


def _placed(frame, rankdir):
    """(boxes, arrows, frames, size) of the picture, in points: boxes (left, top, width, height,
    lines), arrows of points (x, y), the last of which is the tip, frames (left, top, width, height,
    name)."""
    along = rankdir in ("LR", "RL")
    lines_of = _arrange(frame, along)
    width, height = frame.size
    flips = rankdir in ("BT", "RL")

    def turned(x, y):
        """A point of the arrangement, which is downwards, in the picture."""
        y = height - y if flips else y
        return (y, x) if along else (x, y)

    boxes, arrows, frames, corners = [], [], [], {frame: (0.0, 0.0)}

    def rectangle(box):
        (left, top), (wide, high) = corners[box], box.size
        one, other = turned(left, top), turned(left + wide, top + high)
        left, top = min(one[0], other[0]), min(one[1], other[1])
        return left, top, abs(one[0] - other[0]), abs(one[1] - other[1])

    def put(inside):
        left, top = corners[inside]
        for box in inside.boxes:
            corners[box] = left + box.place[0], top + box.place[1]
            if box.name is None:
                boxes.append((*rectangle(box), box.lines))
            else:
                frames.append((*rectangle(box), box.name))
                put(box)

    put(frame)
    for (one, other), (inside, bends) in lines_of.items():
        (left, top), (x, y) = corners[inside], corners[one]
        begin, (end_x, end_y) = (x + one.size[0] / 2, y + one.size[1]), corners[other]
        end = end_x + other.size[0] / 2, end_y
        bends = [(left + bend_x, top + bend_y) for bend_x, bend_y in bends]
        arrows.append([turned(*point) for point in (begin, *bends, end)])
    return boxes, arrows, frames, (height, width) if along else (width, height)


def _arrange(frame, along) -> dict:
    """Give the boxes in a frame, and in those within it, sizes and places: rows of boxes, each
    below those that its inputs come from. along: boxes are turned, as rows will be columns. Returns
    for each arrow (frame, points at which it bends)."""
    lines_of = {}
    for box in frame.boxes:
        if box.name is None:
            wide = _CHARACTER * max(map(len, box.lines)) + 2 * _MARGIN
            high = _LINE * len(box.lines) + _MARGIN
            box.size = (high, wide) if along else (wide, high)
        else:
            lines_of |= _arrange(box, along)
    arrows = {(one.within(frame), other.within(frame)): (one, other) for one, other in frame.arrows}
    row_of = _rows(frame.boxes, arrows)
    rows = [[] for _ in range(1 + max(row_of.values(), default=0))]
    for box in frame.boxes:
        rows[row_of[box]].append(box)
    chains = {}  # arrow -> the boxes and the bends in the rows that it goes through
    for one, other in arrows:
        chain = [one]
        for between in range(row_of[one] + 1, row_of[other]):
            bend = _Box()
            bend.size = (_MARGIN, 0.0)
            rows[between].append(bend)
            chain.append(bend)
        chains[one, other] = [*chain, other]
    beside = {box: [] for row in rows for box in row}
    for chain in chains.values():
        for one, other in zip(chain, chain[1:], strict=False):
            beside[one].append(other)
            beside[other].append(one)
    middle = _middles(rows, beside)

    label = 0.0 if frame.parent is None else _LINE  # room for the frame's name
    left = min(middle[box] - box.size[0] / 2 for row in rows for box in row) - _MARGIN
    left -= label if along else 0.0
    top = _MARGIN if along else _MARGIN + label
    for row in rows:
        high = max(box.size[1] for box in row)
        for box in row:
            if not box.lines and not box.boxes:  # a bend
                box.size = box.size[0], high
            x = middle[box] - box.size[0] / 2 - left
            box.place = x, top + (high - box.size[1]) / 2
        top += high + _GAP
    wide = max(box.place[0] + box.size[0] for row in rows for box in row) + _MARGIN
    high = top - _GAP + _MARGIN
    named = _CHARACTER * len(frame.name) + 2 * _MARGIN if label else 0.0
    frame.size = (wide, max(high, named)) if along else (max(wide, named), high)
    for one, other in frame.arrows:
        chain = chains[one.within(frame), other.within(frame)]
        bends = []
        for bend in chain[1:-1]:  # straight through the row
            x, y = bend.place[0] + bend.size[0] / 2, bend.place[1]
            bends += [(x, y), (x, y + bend.size[1])]
        lines_of[one, other] = frame, bends
    return lines_of


def _rows(boxes, arrows) -> dict:
    """The row of each box: below all that its arrows come from, boxes without such just above the
    first that needs them. Arrows that would go round in a circle (layers called on what they gave)
    do not count."""
    after = {box: [] for box in boxes}
    for one, other in arrows:
        if boxes.index(one) < boxes.index(other):
            after[one].append(other)
    row_of = dict.fromkeys(boxes, 0)
    for box in boxes:
        for other in after[box]:
            row_of[other] = max(row_of[other], row_of[box] + 1)
    targets = {other for others in after.values() for other in others}
    for box in boxes:
        if box not in targets and after[box]:
            row_of[box] = min(row_of[other] for other in after[box]) - 1
    return row_of


def _middles(rows, beside) -> dict:
    """The middle of each box across the picture. Sorts the boxes of each row, so that few arrows
    cross, and moves them towards those that they are connected with."""
    middle = {}
    for row in rows:
        end = 0.0
        for box in row:
            middle[box] = end + box.size[0] / 2
            end += box.size[0] + _BESIDE
        for box in row:
            middle[box] -= (end - _BESIDE) / 2
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wished = {
                box: sum(middle[other] for other in beside[box]) / len(beside[box])
                if beside[box]
                else middle[box]
                for box in row
            }
            if sweep < _SWEEPS - 4:
                row.sort(key=wished.__getitem__)
            _spread(row, wished, middle)
    return middle


def _spread(row, wished, middle) -> None:
    """Set the middles of a row's boxes, in order, near those wished for, without overlaps: boxes
    that would touch make a group, which is put where its boxes want to be on average."""
    groups = []  # [boxes, their middles if the first is at 0, sum of the wishes for that 0]
    for box in row:
        groups.append([[box], [0.0], wished[box]])
        while len(groups) > 1:
            (boxes, places, wish), (others, others_places, others_wish) = groups[-2:]
            apart = (boxes[-1].size[0] + others[0].size[0]) / 2 + _BESIDE
            gap = places[-1] + apart
            if wish / len(boxes) + gap <= others_wish / len(others):
                break
            moved = others_wish - gap * len(others)
            places += [gap + place for place in others_places]
            groups[-2:] = [[boxes + others, places, wish + moved]]
    for boxes, places, wish in groups:
        for box, place in zip(boxes, places, strict=True):
            middle[box] = wish / len(boxes) + place


def _svg(boxes, arrows, frames, size) -> str:
    """The picture as plain SVG."""
    width, height = (f"{length:.0f}" for length in size)
    text = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
        f'viewBox="0 0 {width} {height}" font-family="monospace" font-size="{_FONT}">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0.5L8,4L0,7.5z"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]

    def rectangle(left, top, wide, high, style):
        text.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}" {style}/>'
        )

    def write(x, y, line, anchor):
        text.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(line, False)}'
            "</text>"
        )

    for left, top, wide, high, name in frames:
        rectangle(left, top, wide, high, 'rx="4" fill="none" stroke="gray" stroke-dasharray="4 3"')
        write(left + _MARGIN / 2, top + _LINE - 3, name, "start")
    for points in arrows:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        text.append(
            f'<polyline points="{path}" fill="none" stroke="black" marker-end="url(#tip)"/>'
        )
    for left, top, wide, high, lines in boxes:
        rectangle(left, top, wide, high, 'rx="3" fill="#f5f8fc" stroke="black"')
        first = top + (high - _LINE * len(lines)) / 2 + _FONT
        for n, line in enumerate(lines):
            write(left + wide / 2, first + _LINE * n, line, "middle")
    return "\n".join([*text, "</svg>\n"])


def _by_matplotlib(boxes, arrows, frames, size, kind, dpi) -> bytes:
    pyplot = _pyplot()
    import io

    from matplotlib.patches import Rectangle

    figure = pyplot.figure(figsize=(size[0] / 72, size[1] / 72), dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.axis("off")
    words = {"family": "monospace", "parse_math": False}
    for left, top, wide, high, name in frames:
        dashed = {"fill": False, "linestyle": "--", "edgecolor": "gray"}
        axes.add_patch(Rectangle((left, top), wide, high, **dashed))
        axes.text(left + _MARGIN / 2, top + 2, name, va="top", fontsize=_FONT - 1, **words)
    for *points, end, tip in arrows:
        axes.plot(*zip(*points, end, strict=True), color="black", linewidth=1)
        arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "color": "black"}
        axes.annotate("", tip, end, arrowprops=arrow)
    for left, top, wide, high, lines in boxes:
        axes.add_patch(
            Rectangle((left, top), wide, high, facecolor="#f5f8fc", edgecolor="black", zorder=2)
        )
        axes.text(
            left + wide / 2, top + high / 2, "\n".join(lines),
            ha="center", va="center", fontsize=_FONT - 1, zorder=3, **words,
        )  # fmt: skip
    file = io.BytesIO()
    try:
        figure.savefig(file, format=kind, dpi=dpi)
    finally:
        pyplot.close(figure)
    return file.getvalue()


def _pyplot():
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: pip install 'fastrnn[plot]'; those of models as .svg do not"
        ) from error
    return pyplot
