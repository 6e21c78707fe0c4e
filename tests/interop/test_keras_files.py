"""Files written by the real Keras load here, files written here load there: same predictions,
and training goes on where it stopped."""

import os

import numpy as np
import pytest
from saving_examples import available, inputs, make

import fastrnn
from fastrnn import layers as L
from fastrnn.models import load_model

pytest.importorskip("h5py", reason="needs h5py: pip install fastrnn[interop]")
pytest.importorskip("tensorflow", reason="needs tensorflow, to ask the real Keras")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras")

# Keras's own conversion of its variables
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def ask(model, x):
    return np.asarray(model(x, training=False))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", available(L))
def test_models_from_keras(name, ending, tmp_path):
    theirs, x = make(keras, name), inputs(name)
    theirs.save(tmp_path / f"m{ending}")
    ours = load_model(tmp_path / f"m{ending}")
    np.testing.assert_allclose(ours.predict(x, verbose=0), ask(theirs, x), **CLOSE)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [la.trainable for la in ours.layers] == [la.trainable for la in theirs.layers]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", available(L))
def test_models_for_keras(name, ending, tmp_path):
    ours, x = make(fastrnn, name), inputs(name)
    ours.save(tmp_path / f"m{ending}", self_test=x)
    theirs = keras.saving.load_model(tmp_path / f"m{ending}")
    np.testing.assert_allclose(ask(theirs, x), ours.predict(x, verbose=0), **CLOSE)
    assert [la.trainable for la in ours.layers] == [la.trainable for la in theirs.layers]
