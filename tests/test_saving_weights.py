"""Weights alone: .weights.h5, .h5 and .safetensors, by order and by name, with mismatches."""

import builtins
import json

import numpy as np
import pytest
from saving_examples import available, inputs, make

import fastrnn
from fastrnn import layers as L
from fastrnn.saving import tensors

ENDINGS = [".weights.h5", ".h5", ".safetensors"]


def network(*units, names=("a", "b", "c")):
    layers = [L.Dense(n, name=name) for n, name in zip(units, names, strict=False)]
    return fastrnn.Sequential([L.Input((3,)), *layers])


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", available(L))
def test_round_trip(name, ending, tmp_path):
    model, twin = make(fastrnn, name), make(fastrnn, name)
    twin.set_weights([w + 1 for w in twin.get_weights()])
    model.save_weights(tmp_path / f"w{ending}")
    twin.load_weights(tmp_path / f"w{ending}")
    assert same(model, twin)


def test_freezing_one_weight_keeps_its_place(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs h5py, to ask it")
    model, twin = (fastrnn.Sequential([L.Input((3,)), L.BatchNormalization()]) for _ in range(2))
    model.set_weights([np.full(3, value) for value in (5.0, 6.0, 7.0, 8.0)])
    model.layers[0].gamma.trainable = False
    model.save_weights(tmp_path / "w.weights.h5")
    twin.load_weights(tmp_path / "w.weights.h5")
    assert same(model, twin)
    with h5py.File(tmp_path / "w.weights.h5") as file:
        group = file["layers/batch_normalization/vars"]
        assert [group[str(i)][0] for i in range(4)] == [5, 6, 7, 8]


def test_weights_of_whole_models(tmp_path):
    model = network(4, 2)
    for ending in (".keras", ".h5"):
        model.save(tmp_path / f"m{ending}")
        twin = network(4, 2)
        twin.load_weights(tmp_path / f"m{ending}")
        assert same(model, twin)


def test_weights_with_the_optimizer(tmp_path):
    x, y = inputs("Dense")[:, :3], np.ones((4, 2))
    model, twin = network(4, 2), network(4, 2)
    for each in (model, twin):
        each.compile("adam", "mse")
    model.train_on_batch(x, y)
    model.save_weights(tmp_path / "w.weights.h5")
    twin.load_weights(tmp_path / "w.weights.h5")
    assert twin.optimizer.iterations == 1
    assert model.train_on_batch(x, y) == twin.train_on_batch(x, y)
    assert same(model, twin)
    other = network(4, 2)
    other.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="'sgd' starts anew.* has 10 variables instead of 2"):
        other.load_weights(tmp_path / "w.weights.h5")


@pytest.mark.parametrize("ending", ENDINGS)
def test_mismatch(ending, tmp_path):
    path = tmp_path / f"w{ending}"
    model = network(4, 2)
    model.save_weights(path)
    other = network(4, 5)
    before = other.get_weights()
    with pytest.raises(ValueError, match=r"does not fit.*\(4, 5\).*\(4, 2\)"):
        other.load_weights(path)
    assert all(map(np.array_equal, before, other.get_weights()))
    with pytest.warns(UserWarning, match=r"left as they were:.*\(4, 5\).*\(4, 2\)"):
        other.load_weights(path, skip_mismatch=True)
    for new, old, saved, kept in zip(
        other.get_weights(), before, model.get_weights(), [False, False, True, True], strict=True
    ):
        np.testing.assert_array_equal(new, old if kept else saved)
    with pytest.raises(ValueError, match="expected 3 layers|expected 2 weights|expected 1 weights"):
        network(4, 2, 2).load_weights(path)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
def test_the_other_gru(ending, reset_after, tmp_path):
    def gru(reset_after):
        return fastrnn.Sequential([L.Input((5, 3)), L.GRU(2, reset_after=reset_after)])

    gru(reset_after).save_weights(tmp_path / f"w{ending}")
    with pytest.raises(ValueError, match=f"that of a GRU with reset_after={reset_after}"):
        gru(not reset_after).load_weights(tmp_path / f"w{ending}")


def test_by_name(tmp_path):
    model = network(4, 4, 2)
    model.save_weights(tmp_path / "w.h5")
    other = fastrnn.Sequential(
        [L.Input((4,)), L.Dense(4, name="b"), L.Dense(3, name="new"), L.Dense(5, name="c")]
    )
    with pytest.raises(ValueError, match=r"layer 'c': expected shape \(3, 5\)"):
        other.load_weights(tmp_path / "w.h5", by_name=True)
    with pytest.warns(UserWarning, match="layer 'c'"):
        other.load_weights(tmp_path / "w.h5", by_name=True, skip_mismatch=True)
    np.testing.assert_array_equal(other.layers[0].kernel.value, model.layers[1].kernel.value)
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ValueError, match="by_name: only for .h5"):
        model.load_weights(tmp_path / "w.weights.h5", by_name=True)


@pytest.mark.parametrize("lengths", [[900] * 80, [30_000, 10, 20]])
def test_many_names_are_cut_into_several_attributes(lengths, tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs h5py, to ask it")
    names = [f"{'x' * length}{i}" for i, length in enumerate(lengths)]
    model = network(*[3] * len(names), names=names)
    model.save_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5") as file:
        assert "layer_names" not in file.attrs and "layer_names1" in file.attrs
    twin = network(*[3] * len(names), names=names)
    twin.load_weights(tmp_path / "w.h5", by_name=True)
    assert same(model, twin)


SAFETENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3), "number": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float16), "wide": np.arange(4.0),
    "bytes": np.arange(5, dtype=np.uint8), "flags": np.array([True, False]),
}  # fmt: skip


def test_safetensors_as_their_library_writes_and_reads_them():
    library = pytest.importorskip("safetensors.numpy", reason="needs safetensors, to ask it")
    by_columns = {"by columns": np.asfortranarray(np.arange(12.0).reshape(3, 4))}
    for back, arrays in (
        (library.load(tensors.to_bytes(SAFETENSORS | by_columns, {"a": "b"})), by_columns),
        (tensors.from_bytes(library.save(SAFETENSORS, {"a": "b"})), {}),
        (tensors.from_bytes(tensors.to_bytes(SAFETENSORS | by_columns, {})), by_columns),
    ):
        arrays = SAFETENSORS | arrays
        assert back.keys() == arrays.keys()
        for name, array in arrays.items():
            assert back[name].dtype == array.dtype
            np.testing.assert_array_equal(back[name], array)


def test_bfloat16_of_safetensors():
    entry = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    header = json.dumps({"w": entry}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes.fromhex("803f40c0")
    np.testing.assert_array_equal(tensors.from_bytes(data)["w"], np.float32([1, -3]))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F8"}, {"dtype": []}, {"shape": [3]}, {"shape": [-2]}, {"shape": [True, 2]},
        {"shape": None}, {"data_offsets": [0]}, {"data_offsets": [4, 12]}, {"more": 1},
        {"data_offsets": [0, 2**70]}, {"shape": [1] * 40 + [2]},
        {"data_offsets": [0, 4], "shape": [1]},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_headers_of_safetensors(change):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

    def file(entry):
        header = json.dumps({"w": entry}).encode()
        return len(header).to_bytes(8, "little") + header + bytes(8)

    assert tensors.from_bytes(file(entry))["w"].shape == (2,)
    with pytest.raises(ValueError):
        tensors.from_bytes(file({**entry, **change}))


def test_safetensors_by_its_own_library(tmp_path):
    safetensors = pytest.importorskip("safetensors", reason="needs safetensors, to ask it")
    pytest.importorskip("safetensors.numpy", reason="needs safetensors, to ask it")

    model = make(fastrnn, "Bidirectional")
    model.save_weights(tmp_path / "w.safetensors")
    arrays = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    assert "bidirectional_1/backward_layer/cell/recurrent_kernel" in arrays
    assert sorted(a.tobytes() for a in arrays.values()) == sorted(
        w.tobytes() for w in model.get_weights()
    )


@pytest.fixture
def only_numpy(monkeypatch):
    """Importing anything that a bare installation lacks fails."""
    real = builtins.__import__

    def without(name, *args):
        if name.partition(".")[0] in ("h5py", "safetensors", "onnx"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.parametrize("ending", [".keras", ".h5", ".weights.h5", ".safetensors"])
def test_files_of_a_bare_installation(ending, only_numpy, tmp_path):
    """Saving used to need h5py, and to say so at the first checkpoint."""
    model, twin = network(4, 2), network(4, 2)
    model.compile("adam", "mse")
    alone = ending in (".weights.h5", ".safetensors")
    checkpoint = fastrnn.callbacks.ModelCheckpoint(tmp_path / f"m{ending}", save_weights_only=alone)
    x, y = np.ones((4, 3)), np.ones((4, 2))
    backup = fastrnn.callbacks.BackupAndRestore(tmp_path / "backup")
    model.fit(x, y, epochs=2, callbacks=[checkpoint, backup], verbose=0)
    if alone:
        twin.load_weights(tmp_path / f"m{ending}")
    else:
        twin = fastrnn.models.load_model(tmp_path / f"m{ending}")
        assert twin.optimizer.iterations == 2
    assert same(model, twin)


def test_arguments(tmp_path):
    model = network(2)
    with pytest.raises(ValueError, match="filepath: expected .*weights.h5.*'w.npz'"):
        model.save_weights("w.npz")
    model.save_weights(tmp_path / "old", save_format="h5")
    network(2).load_weights(tmp_path / "old")
    with pytest.raises(ValueError, match="expected a built model"):
        fastrnn.Sequential([L.Dense(1)]).save_weights(tmp_path / "w.h5")
    model.save_weights(tmp_path / "w.h5")
    with pytest.raises(FileExistsError):
        model.save_weights(tmp_path / "w.h5", overwrite=False)
    with pytest.raises(ValueError, match="expected a built model"):
        fastrnn.Sequential([L.Dense(1)]).load_weights(tmp_path / "w.h5")
    with pytest.raises(ValueError, match="expected a .keras or .h5 file, .*x' is empty$"):
        (tmp_path / "x").write_bytes(b"")
        model.load_weights(tmp_path / "x")
