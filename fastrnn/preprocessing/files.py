"""Texts in the files of a directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.pipeline import Dataset


def text_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: str | Sequence[int] | None = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Batches (texts, labels) of the .txt files in a directory, one class in each folder in it.

    texts are bytes, cut to max_length; labels are whole numbers, or as label_mode says: "binary"
    (batch, 1), "categorical" one-hot, None for no labels. labels: a list of them, in the order of
    the files' paths, in place of the folders. class_names: the folders, in the order of their
    numbers; what is returned has them as an attribute of this name. validation_split with subset
    "training", "validation" or "both", then a list of two: a part of the files. format: "tf" is the
    only one. Raises ValueError. As keras.utils.text_dataset_from_directory.
    """
    if label_mode not in ("int", "categorical", "binary", None):
        raise ValueError(
            f"label_mode: expected 'int', 'categorical', 'binary' or None, received {label_mode!r}"
        )
    if labels not in ("inferred", None) and not isinstance(labels, (list, tuple)):
        raise ValueError(f"labels: expected 'inferred', None or a list, received {labels!r}")
    if format != "tf":
        raise ValueError(f"format: expected 'tf', received {format!r}")
    if class_names is not None and labels != "inferred":
        raise ValueError("class_names: expected None unless labels are 'inferred'")
    _check_split(validation_split, subset, shuffle, seed)
    if seed is None:
        seed = np.random.randint(10**6)
    if labels is None or label_mode is None:
        labels = label_mode = None
    names, files, numbers = _index(os.fspath(directory), labels, class_names, follow_links)
    if not files:
        raise ValueError(f"directory: expected .txt files in {os.fspath(directory)!r}")
    if label_mode == "binary" and len(names) != 2:
        raise ValueError(f"label_mode: 'binary' expects two classes, received {names}")
    if verbose:
        classes = "" if labels is None else f" belonging to {len(names)} classes"
        print(f"Found {len(files)} files{classes}.")
    if shuffle:
        order = np.random.RandomState(seed).permutation(len(files))
        files, numbers = [files[n] for n in order], numbers[order]
    held = int((validation_split or 0) * len(files))
    parts = {None: slice(None), "training": slice(-held), "validation": slice(-held, None)}
    if validation_split and not 0 < held < len(files):
        raise ValueError(
            f"validation_split: {validation_split} of {len(files)} files leaves a part without any"
        )

    def made(part, shuffle):
        data = Dataset.from_tensor_slices(files[parts[part]]).map(_Text(max_length))
        if label_mode is not None:
            targets = _encoded(numbers[parts[part]], label_mode, len(names))
            data = Dataset.zip(data, Dataset.from_tensor_slices(targets))
        if shuffle:
            data = data.shuffle(1024 if batch_size is None else 8 * batch_size, seed)
        data = data if batch_size is None else data.batch(batch_size)
        data.class_names = None if labels is None else names
        return data

    if verbose and subset in ("training", "validation"):
        count = len(files[parts[subset]])
        print(f"Using {count} files for {subset}.")
    if subset == "both":
        return [made("training", shuffle), made("validation", False)]
    return made(subset, shuffle)


class _Text:
    """The first bytes of a file of this name."""

    def __init__(self, length):
        self.length = length

    def __call__(self, name):
        with open(os.fsdecode(name[()]), "rb") as file:
            return file.read(-1 if self.length is None else self.length)


def _check_split(share, subset, shuffle, seed):
    if subset not in ("training", "validation", "both", None):
        raise ValueError(
            f"subset: expected 'training', 'validation', 'both' or None, received {subset!r}"
        )
    if share and not 0 < share < 1:
        raise ValueError(f"validation_split: expected a number from 0 to 1, received {share!r}")
    if bool(share) != bool(subset):
        raise ValueError("validation_split, subset: expected both or neither")
    if share and shuffle and seed is None:
        raise ValueError("seed: expected a number, so that the two parts have no file in common")


def _index(directory, labels, class_names, follow_links):
    """Names of the classes, of the files, and the number of each file's class."""
    folders = [""]
    if labels == "inferred":
        folders = sorted(
            name
            for name in os.listdir(directory)
            if not name.startswith(".") and os.path.isdir(os.path.join(directory, name))
        )
        if class_names is not None:
            if unknown := sorted({*class_names} - {*folders}):
                raise ValueError(f"class_names: expected some of {folders}, received {unknown}")
            folders = list(class_names)
    files, numbers = [], []
    for number, folder in enumerate(folders):
        walk = os.walk(os.path.join(directory, folder), followlinks=follow_links)
        for root, _, names in sorted(walk):
            found = [name for name in sorted(names) if name.lower().endswith(".txt")]
            files += [os.path.join(root, name) for name in found]
            numbers += [number] * len(found)
    if isinstance(labels, (list, tuple)):
        if len(labels) != len(files):
            raise ValueError(
                f"labels: expected one for each of the {len(files)} files, received {len(labels)}"
            )
        folders, numbers = [str(label) for label in sorted({*labels})], labels
    return folders, files, np.asarray(numbers, np.int32)


def _encoded(numbers, mode, classes):
    if mode == "binary":
        return numbers[:, None].astype(np.float32)
    if mode == "categorical":
        return (numbers[:, None] == np.arange(classes)).astype(np.float32)
    return numbers
