"""The table that a model's summary prints."""

import collections
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .progress import write

_POSITIONS = {False: (0.45, 0.8, 1.0), True: (0.3, 0.56, 0.74, 1.0)}  # True: of a graph of layers
_LINE_LENGTH = {False: 88, True: 108}
_CONNECTIONS = 40  # as wide as these get where they need not be wider


def print_summary(
    model,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], object] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Print the layers of `model`, their output shapes and their numbers of parameters; of a graph
    also where their inputs come from: layer[call][output].

    Columns fit their contents; in a terminal the table is as wide as the terminal. If `line_length`
    or `positions` (of the columns' right edges, as fractions of the line or in characters) is
    given, columns are cut to it. Contents that do not fit are wrapped. `expand_nested` shows the
    layers of nested models and wrappers too.
    `layer_range` names the first and last layer to show, by regular expressions. `print_fn` is
    called once, with the whole text. Raises ValueError for a line too short and for layers that
    are not there. As keras.utils.print_summary.
    """
    connections, shapes = _graph_of(model)
    is_graph = connections is not None
    header = ["Layer (type)", "Output Shape", "Param #"]
    if is_graph:
        header.append("Connected to")
    if show_trainable:
        header.append("Trainable")
    rows = []
    for layer in _between(model.operations, layer_range):
        rows += _rows(layer, 0, expand_nested, show_trainable, connections, shapes)

    if line_length is None and positions is None:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        if is_graph:
            longest = max(len(part) for row in rows for part in row[3].split(" "))
            at_most = max(_CONNECTIONS, longest)
            shown = [line for row in rows for line in textwrap.wrap(row[3], at_most)]
            widths[3] = max(map(len, [header[3], *shown]))
        if (print_fn is None or print_fn is print) and getattr(sys.stdout, "isatty", bool)():
            widths = _stretched(widths, shutil.get_terminal_size().columns)
    else:
        widths = _fixed_widths(line_length, positions, len(header), is_graph)

    trained = _unique(model.trainable_weights)
    fixed = _unique(model.non_trainable_weights)
    used = getattr(model, "optimizer", None)
    optimizer = list(used.variables) if used and used.built else []
    text = "\n".join(
        [
            f'Model: "{model.name}"',
            *_table(header, rows, widths),
            f" Total params: {_count_and_size(trained + fixed + optimizer)}",
            f" Trainable params: {_count_and_size(trained)}",
            f" Non-trainable params: {_count_and_size(fixed)}",
            *([f" Optimizer params: {_count_and_size(optimizer)}"] if optimizer else ()),
        ]
    )
    if print_fn is None or print_fn is print:
        write(text + "\n")
    else:
        print_fn(text)


def _between(layers: list, layer_range: Sequence[str] | None) -> list:
    if layer_range is None:
        return layers
    if len(layer_range) != 2 or not all(isinstance(name, str) for name in layer_range):
        raise ValueError(f"layer_range: expected the names of two layers, received {layer_range}")
    first, last = (
        [i for i, layer in enumerate(layers) if re.match(name, layer.name)] for name in layer_range
    )
    if not first or not last:
        names = ", ".join(layer.name for layer in layers)
        raise ValueError(f"layer_range: expected two of {names}; received {layer_range}")
    if first[0] > last[-1]:
        first, last = last, first
    return layers[first[0] : last[-1] + 1]


def _graph_of(model):
    """Of a model that is no chain: the texts that say where each layer's inputs come from, by the
    layer's name, and the shapes of what its last call gives; (None, {}) of another."""
    graph = getattr(model, "_graph", None)
    if not getattr(graph, "nodes", ()):
        return None, {}
    starts = dict(zip((tensor.node for tensor in model.inputs), model.input_names, strict=True))
    numbers, shapes = graph.call_numbers(), {}
    for node in numbers:
        given = [tensor.shape for tensor in node.outputs]
        shapes[node.layer.name] = given if node.several and len(given) > 1 else given[0]
    connections = collections.defaultdict(list)
    readers = collections.Counter()
    for node in numbers:
        for tensor in node.sources:
            name, number = starts.get(tensor.node), 0
            if name is None:
                name, number = tensor.layer.name, numbers[tensor.node]
            connections[node.layer.name].append(f"{name}[{number}][{tensor.place}]")
        readers.update({tensor.node for tensor in node.sources})
    chain = len(starts) == 1 and all(len(node.sources) == 1 for node in numbers)
    if chain and max(readers.values(), default=0) <= 1 and not any(numbers.values()):
        return None, shapes
    return connections, shapes


def _rows(layer, level: int, expand_nested, show_trainable, connections, shapes) -> list[list[str]]:
    indent = "   " * level + "└ " if level else ""
    count = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
    shape = _shape(shapes.get(layer.name, getattr(layer, "output_shape", None)))
    row = [f"{indent}{layer.name} ({type(layer).__name__})", shape, count]
    if connections is not None:
        row.append(", ".join(connections.get(layer.name, ("-",)) if not level else "-"))
    if show_trainable:
        trained = "Y" if layer.trainable else "N"
        row.append(trained if layer.trainable_weights or layer.non_trainable_weights else "-")
    rows = [row]
    if expand_nested:
        for inner in getattr(layer, "layers", None) or getattr(layer, "sublayers", ()):
            rows += _rows(inner, level + 1, expand_nested, show_trainable, connections, {})
    return rows


def _shape(shape) -> str:
    """A shape or a list of shapes as text; "?" for None."""
    if shape is None:
        return "?"
    if isinstance(shape, list):
        return f"[{', '.join(map(_shape, shape))}]"
    return f"({', '.join(map(str, shape))})"


def _stretched(widths: list[int], line_length: int) -> list[int]:
    """The widths changed so that the table fills a line; none below 4."""
    spare = line_length - (sum(widths) + 3 * len(widths) + 1)
    share, rest = divmod(max(spare, 0), len(widths))
    widths = [width + share for width in widths]
    widths[0] += rest
    for _ in range(-spare):
        widest = widths.index(max(widths))
        widths[widest] = max(widths[widest] - 1, 4)
    return widths


def _fixed_widths(line_length, positions, columns: int, is_graph: bool) -> list[int]:
    """The widths of the columns' texts, for edges at `positions` of a line."""
    if positions is None:
        positions = _POSITIONS[is_graph]
        if columns > len(positions):
            positions = [*(0.9 * p for p in positions), 1.0]
    if len(positions) != columns:
        raise ValueError(f"positions: expected {columns}, received {list(positions)}")
    if positions[-1] <= 1:
        positions = [int(p * (line_length or _LINE_LENGTH[is_graph])) for p in positions]
    starts = [1, *positions]
    widths = [end - start - 3 for start, end in zip(starts, positions, strict=False)]
    if min(widths) < 4:
        raise ValueError(
            f"line_length: expected room for {columns} columns of at least 4 characters, "
            f"received {line_length} with edges at {list(positions)}"
        )
    return widths


def _table(header: list[str], rows: list[list[str]], widths: list[int]) -> list[str]:
    def rule(left, line, cross, right):
        return left + cross.join(line * (width + 2) for width in widths) + right

    def cells(row, edge):
        wrapped = [
            textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)
        ]
        for i in range(max(map(len, wrapped))):
            texts = [lines[i] if i < len(lines) else "" for lines in wrapped]
            aligned = [t.ljust(w) for t, w in zip(texts, widths, strict=True)]
            aligned[2] = texts[2].rjust(widths[2])
            yield f"{edge} {f' {edge} '.join(aligned)} {edge}"

    lines = [rule("┏", "━", "┳", "┓"), *cells(header, "┃"), rule("┡", "━", "╇", "┩")]
    for i, row in enumerate(rows):
        if i:
            lines.append(rule("├", "─", "┼", "┤"))
        lines += cells(row, "│")
    return [*lines, rule("└", "─", "┴", "┘")]


def _unique(weights: Iterable) -> list:
    return list({id(weight): weight for weight in weights}.values())


def _count_and_size(weights: list) -> str:
    counts = [math.prod(weight.shape) for weight in weights]
    size = sum(n * np.dtype(w.dtype).itemsize for n, w in zip(counts, weights, strict=True))
    units = ["B", "KB", "MB", "GB", "TB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{sum(counts):,} ({size:.2f} {units[0]})"
