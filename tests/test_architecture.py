"""Who may import whom: each part only those named before it, wherever the import stands."""

import ast
import pathlib

import fastrnn

# From the ground up. A package counts as one part.
ORDER = """
    _engine _public _types process arrays checks runtime random tape variable gradient_tape
    run progress plot tensors specs pipeline preprocessing datasets utils
    schedules constraints activations regularizers initializers layers
    ops
    loss_functions losses metric confusion_metrics metrics optimizers
    callbacks data summary graph inference training subclassed models saving interop
    sklearn as_keras examples __init__ cli __main__
""".split()

# Imports upward, within functions, that are still there: a model saves and loads itself, a Variable
# is made by an initializer's name, and fastrnn.utils offers what Keras has there.
UPWARD = {
    ("variable", "initializers"),
    ("models", "saving"),
    ("models", "interop"),
    ("datasets", "saving"),
}

ROOT = pathlib.Path(fastrnn.__file__).parent


def imports(path):
    """The dotted names of what a file of the package imports, but for type checkers."""
    package = ["fastrnn", *path.relative_to(ROOT).parts[:-1]]
    pending = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            yield from ([*base, alias.name] for alias in node.names)


def edges():
    """(part, part that it imports, file) for all files."""
    for path in sorted(ROOT.rglob("*.py")):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for name in imports(path):
            if name[0] == "fastrnn":
                known = len(name) > 1 and name[1] in ORDER
                yield part, name[1] if known else "__init__", path.relative_to(ROOT)


def test_each_part_imports_only_those_below():
    upward, wrong = set(), []
    for part, other, path in edges():
        if part == other:
            continue
        if ORDER.index(other) > ORDER.index(part):
            upward.add((part, other))
            if (part, other) not in UPWARD:
                wrong.append(f"{path} imports {other}, which stands above {part}")
    assert not wrong, "\n".join(wrong)
    assert upward == UPWARD, "an import upward that is gone has to leave the list"


def test_the_order_names_every_part():
    parts = {path.name.removesuffix(".py") for path in ROOT.glob("*.py")}
    parts |= {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert sorted({*parts, "_engine"}) == sorted(ORDER)
