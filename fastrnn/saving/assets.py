"""Files that users' layers keep beside their weights: save_assets(folder), load_assets(folder)."""

import os
import pathlib
import tempfile

from fastrnn.layers.lookup import IndexLookup
from fastrnn.saving import weights


def _places_of(model, method):
    for path, _, _, layer in weights.places(model):
        if hasattr(layer, method) and not isinstance(layer, IndexLookup):
            yield f"assets/{path}", layer


def files(model) -> dict[str, bytes]:
    """What the layers' save_assets write, by the names that .keras files have for it."""
    found = {}
    for path, layer in _places_of(model, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            for file in sorted(pathlib.Path(folder).rglob("*")):
                if file.is_file():
                    found[path + file.relative_to(folder).as_posix()] = file.read_bytes()
    return found


def give(model, names, read) -> None:
    """Let the layers' load_assets see, in a folder of the time, what read(name) has of these."""
    for path, layer in _places_of(model, "load_assets"):
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                parts = name.removeprefix(path).split("/")
                if not name.startswith(path) or not parts[-1]:
                    continue
                if any(part in ("", ".", "..") or os.path.basename(part) != part for part in parts):
                    raise ValueError(f".keras file: expected a plain path, received {name!r}")
                file = pathlib.Path(folder, *parts)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(read(name))
            layer.load_assets(folder)
