"""ModelCheckpoint, and that training goes on from what it saved."""

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn.callbacks import ModelCheckpoint
from fastrnn.models import load_model


def network():
    fastrnn.utils.set_random_seed(1)
    model = fastrnn.Sequential([L.Input((5, 2)), L.LSTM(3), L.Dense(1)])
    model.compile("adam", "mse")
    return model


@pytest.fixture
def data(rng):
    return rng.standard_normal((8, 5, 2)), rng.standard_normal((8, 1))


def fit(model, data, *checkpoints, epochs=3, **options):
    model.fit(
        *data, batch_size=4, epochs=epochs, verbose=0, shuffle=False,
        callbacks=list(checkpoints), **options,
    )  # fmt: skip


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_epoch_and_training_goes_on(data, tmp_path):
    model = network()
    path = tmp_path / "new" / "{epoch:02d}-{loss:.0f}.keras"
    fit(model, data, ModelCheckpoint(path), epochs=2)
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name[:3] for file in files] == ["01-", "02-"]
    twin = load_model(files[0])
    fit(twin, data, epochs=1)
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_by_batches_and_by_period(data, tmp_path):
    by_batches = ModelCheckpoint(
        tmp_path / "b{epoch}-{batch}.weights.h5", save_weights_only=True, save_freq=3
    )
    by_period = ModelCheckpoint(tmp_path / "p{epoch}.h5", period=2)
    fit(network(), data, by_batches, by_period, epochs=4)
    assert names(tmp_path) == ["b2-1.weights.h5", "b3-2.weights.h5", "p2.h5", "p4.h5"]


def test_best_only(data, tmp_path):
    checkpoint = ModelCheckpoint(
        tmp_path / "{epoch}.keras", "val_loss", save_best_only=True, initial_value_threshold=0.5
    )
    checkpoint.model = network()
    for epoch, loss in enumerate([0.6, 0.4, float("nan"), 0.5, 0.3]):
        checkpoint.on_epoch_begin(epoch)
        checkpoint.on_epoch_end(epoch, {"val_loss": loss})
    assert names(tmp_path) == ["2.keras", "5.keras"]
    with pytest.warns(UserWarning, match="'val_loss' is not available"):
        checkpoint.on_epoch_end(5, {"loss": 1.0})


def test_a_model_that_says_what_it_saved(data, tmp_path, capsys):
    fit(network(), data, ModelCheckpoint(tmp_path / "m.keras", verbose=1), epochs=1)
    assert f"Epoch 1: saved to {tmp_path / 'm.keras'}" in capsys.readouterr().out
    best = ModelCheckpoint(tmp_path / "best.keras", save_best_only=True, verbose=1)
    best.model = network()
    for epoch, loss in enumerate([float("nan"), 0.5, 0.6]):
        best.on_epoch_begin(epoch)
        best.on_epoch_end(epoch, {"val_loss": loss})
    assert capsys.readouterr().out.split("\n")[1::2] == [
        "Epoch 1: val_loss did not improve from nan",
        f"Epoch 2: saved to {tmp_path / 'best.keras'}",
        "Epoch 3: val_loss did not improve from 0.50000",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filepath": "m"}, r"filepath: expected .*\.keras or \.h5 or \.hdf5, received 'm'"),
        ({"filepath": "m.keras", "save_weights_only": True}, "filepath: expected .*safetensors"),
        ({"filepath": "m.h5", "save_freq": "batch"}, "save_freq: expected"),
        ({"filepath": "m.h5", "period": 0}, "period: expected"),
    ],
)
def test_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ModelCheckpoint(**options)
