"""Thousands of damaged files of each format: each loads or raises ValueError, quickly."""

import functools
import json
import os
import random
import time
import tracemalloc
import zipfile
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from saving_examples import available, inputs, make
from test_saving_hostile import with_member

import fastrnn
from fastrnn import layers as L
from fastrnn.models import load_model, model_from_json
from fastrnn.saving import hdf5_reader, legacy_h5

# Numbers that are sizes, addresses and counts in these formats, or next to them.
VALUES = [0, 1, 7, 8, 255, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63, 2**64 - 1]


def small_model():
    fastrnn.utils.set_random_seed(3)
    model = fastrnn.Sequential(
        [
            L.Input((4,)),
            L.Embedding(5, 2, mask_zero=True, name="words"),
            L.Bidirectional(L.LSTM(2, name="inner"), name="both"),
            L.Dense(1, activation="sigmoid", name="out"),
        ],
        name="fuzzed",
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.train_on_batch(np.ones((2, 4), np.int32), np.ones((2, 1)))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    model = small_model()
    x = np.array([[1, 2, 3, 0]], np.int32)
    for ending in (".keras", ".h5"):
        model.save(folder / f"whole{ending}", self_test=x)
    for ending in (".weights.h5", ".h5", ".safetensors"):
        model.save_weights(folder / f"alone{ending}")
    return folder


def damage(data: bytes, seed: int) -> bytes:
    """A few changes: bits, bytes, numbers, pieces moved or cut out, the end cut off."""
    rng, data = random.Random(seed), bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        place = rng.randrange(len(data))
        width = rng.choice([1, 2, 4, 8])
        kind = rng.randrange(8)
        if kind < 2:
            data[place] ^= 1 << rng.randrange(8)
        elif kind < 4:
            value = rng.choice([*VALUES, rng.randrange(len(data)), place]) % 2 ** (8 * width)
            data[place : place + width] = value.to_bytes(width, "little")
        elif kind < 5:
            source = rng.randrange(len(data))
            size = rng.choice([8, 40, 400])
            data[place : place + size] = data[source : source + size]
        elif kind < 6:
            del data[place : place + rng.randrange(1, 64)]
        elif kind < 7:  # text of a config: another number or word
            digits = [i for i in range(place, min(place + 4000, len(data))) if 48 <= data[i] <= 57]
            if digits:
                data[digits[0] : digits[0] + 1] = rng.choice([b"99999999", b"-1", b"[]", b"null"])
        elif rng.random() < 0.2:
            del data[place:]
        if not data:
            return b""
    return bytes(data)


def survives(path, read, measure=True):
    """True if the file was read, False if it was refused in the right way. measure: the memory
    too, which takes longer."""
    size = os.path.getsize(path)
    start = time.perf_counter()
    if measure:
        tracemalloc.start()
    try:
        read(path)
        return True
    except ValueError:
        return False
    finally:
        if measure:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 40 * size + 8_000_000, f"{peak} bytes for a file of {size}"
        assert time.perf_counter() - start < 20  # a hang, not a speed


model_of_weights = functools.cache(small_model)


def load_weights(path):
    model = model_of_weights()
    before = model.get_weights()
    try:
        model.load_weights(path)
    except ValueError:
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)  # all or nothing
        raise


CASES = {
    "whole.keras": load_model,
    "whole.h5": load_model,
    "alone.weights.h5": load_weights,
    "alone.h5": load_weights,
    "alone.safetensors": load_weights,
}


@pytest.mark.filterwarnings("ignore")  # a damaged state of the optimizer only warns
@pytest.mark.parametrize("name", CASES)
def test_damaged_files(name, folder):
    data = (folder / name).read_bytes()
    results = []

    @settings(max_examples=2000, database=None)
    @given(st.integers(0, 2**64))
    @example(0)
    def check(seed):
        path = folder / f"damaged{name}"
        path.write_bytes(damage(data, seed))
        results.append(survives(path, CASES[name], seed % 5 == 0))

    others = {p.name for p in folder.iterdir()} | {f"damaged{name}"}
    check()
    assert {p.name for p in folder.iterdir()} == others
    assert 0 < sum(results) < len(results)  # some changes do no harm, some do


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["whole.keras", "whole.h5"])
def test_damaged_contents_of_sound_containers(name, folder):
    """Changes below the container's checksums: of the JSON, and of the HDF5 within the zip."""
    path = folder / f"inner{name}"
    source = (folder / name).read_bytes()

    @settings(max_examples=1000, database=None)
    @given(st.integers(0, 2**64))
    def check(seed):
        path.write_bytes(source)
        if name.endswith(".h5"):
            start = source.index(b'{"class_name"')
            end = start + 4000
            path.write_bytes(source[:start] + damage(source[start:end], seed) + source[end:])
        else:
            member = ("config.json", "model.weights.h5", "metadata.json")[seed % 3]
            content = zipfile.ZipFile(folder / name).read(member)
            with_member(path, member, damage(content, seed))
        survives(path, load_model, seed % 5 == 0)

    check()


OTHERS = [
    None, True, 0, -1, 1.5, 2**62, 10**400, 1e308, float("nan"), "x", "", "adam", [], [1.0], [[]],
    {}, {"a": [1]}, {"class_name": 5}, {"class_name": "Dense", "config": {}},
]  # fmt: skip


def places(value, way=()):
    """The ways to all values within a JSON value."""
    yield way
    listed = enumerate(value) if isinstance(value, list) else ()
    for key, part in value.items() if isinstance(value, dict) else listed:
        yield from places(part, (*way, key))


def replaced(value, way, new):
    if not way:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[way[0]] = replaced(copy[way[0]], way[1:], new)
    return copy


def trained(name, number):
    optimizers, schedules = fastrnn.optimizers, fastrnn.schedules
    made = (
        optimizers.Adam(amsgrad=True, clipnorm=1.0),
        optimizers.SGD(schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.9, nesterov=True),
        optimizers.RMSprop(centered=True, momentum=0.5, use_ema=True),
        optimizers.Nadam(weight_decay=0.1),
    )
    model, x = make(fastrnn, name), inputs(name)
    metrics = ["mae", fastrnn.metrics.AUC(), fastrnn.metrics.TopKCategoricalAccuracy()]
    model.compile(made[number % len(made)], "mse", metrics=metrics, weighted_metrics=["mse"])
    if model.trainable_weights and name != "CRF":  # which its own loss trains
        model.train_on_batch(x, np.zeros_like(model.predict(x, verbose=0)))
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_values_of_other_types(ending, tmp_path):
    """Each value of a config in turn, of any layer, optimizer, loss and metric, may be another."""
    rng, results = random.Random(4), []
    for number, name in enumerate(available(L)):
        path = tmp_path / f"m{ending}"
        model = trained(name, number)
        model.save(path)
        if ending == ".keras":
            parts = {"config.json": json.loads(zipfile.ZipFile(path).read("config.json"))}
        else:
            file = hdf5_reader.File(path.read_bytes()).root
            names = ("model_config", "training_config")
            parts = {name: json.loads(file.strings(name)[0]) for name in names}
        source = path.read_bytes()
        for _ in range(60):
            path.write_bytes(source)
            part = rng.choice(sorted(parts))
            config = parts[part]
            text = json.dumps(replaced(config, rng.choice([*places(config)]), rng.choice(OTHERS)))
            if ending == ".keras":
                with_member(path, part, text)
            else:
                with mock.patch.object(legacy_h5, "_text", stored(legacy_h5._text, part, text)):
                    results.append(survives(path, load_model, False))
                continue
            results.append(survives(path, load_model, False))
            try:
                model_from_json(text)
            except ValueError:
                pass
    assert 0 < sum(results) < len(results)


def stored(read, part, text):
    """legacy_h5._text for a file whose attribute `part` is `text`."""
    return lambda group, name: text if name == part else read(group, name)


@pytest.mark.parametrize("name", CASES)
def test_truncated_files(name, folder):
    data = (folder / name).read_bytes()
    path = folder / f"cut{name}"
    for end in [*range(0, 100), *range(100, len(data), max(1, len(data) // 100))]:
        path.write_bytes(data[:end])
        assert not survives(path, CASES[name])
