"""Operations of graphs against Keras: values, three steps of training, files both ways."""

import numpy as np
import operation_examples as examples
import pytest

import fastrnn

keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")

# Keras saves TensorFlow's variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

# Keras reads `...` from no .h5 file, and wrote none that it can read itself.
NAMES = [name for name in examples.EXAMPLES if name != "x[..., None]"]


def compiled(module):
    model = examples.model(module, NAMES)
    model.compile(module.optimizers.SGD(0.05), ["mse"] * len(model.outputs))
    return model


def test_values_training_and_files(tmp_path, tally):
    ours, theirs = compiled(fastrnn), compiled(keras)
    rng, given = np.random.default_rng(3), examples.inputs()
    weights = [rng.normal(0, 0.5, w.shape).astype(np.float32) for w in theirs.weights]
    for model in (ours, theirs):
        model.set_weights(weights)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    expected = theirs.predict(given, verbose=0)
    theirs.save(tmp_path / "theirs.keras")
    theirs.save(tmp_path / "theirs.h5")
    ours.save(tmp_path / "ours.keras")
    ours.save(tmp_path / "ours.h5")
    load = keras.models.load_model
    for model in (
        ours,
        fastrnn.models.load_model(tmp_path / "theirs.keras"),
        fastrnn.models.load_model(tmp_path / "theirs.h5", compile=False),
        load(tmp_path / "ours.keras"),
        load(tmp_path / "ours.h5", compile=False),
    ):
        for name, y, y_expected in zip(
            [*NAMES, "top"], model.predict(given, verbose=0), expected, strict=True
        ):
            np.testing.assert_allclose(y, y_expected, rtol=1e-5, atol=2e-6, err_msg=name)
    tally.compared("operations")
    targets = [rng.normal(size=np.shape(y)).astype(np.float32) for y in expected]
    losses = [
        [float(model.train_on_batch(given, targets)[0]) for _ in range(3)]
        for model in (ours, theirs)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
