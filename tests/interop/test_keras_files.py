"""Files written by the real Keras load here, files written here load there: same predictions,
and training goes on where it stopped."""

import os

import numpy as np
import pytest
import saving_examples
from saving_examples import make, of_keras

import fastrnn
from fastrnn import layers as L
from fastrnn.models import load_model

tf = pytest.importorskip("tensorflow", reason="needs tensorflow, to ask the real Keras")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras")

pytestmark = [  # Keras's own
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def inputs(name):
    """As Keras takes them: text as a tensor."""
    x = saving_examples.inputs(name)
    return tf.constant(x) if x.dtype.kind == "O" else x


def keep_vocabularies(ours, theirs, ending):
    """Those that adapt found, which Keras leaves out of .h5 files."""
    for layer, source in zip(ours.layers, theirs.layers, strict=True):
        if ending == ".h5" and getattr(layer, "vocabulary", 0) is None:
            assert layer.get_vocabulary() == layer.get_vocabulary()[: layer.vocabulary_size()]
            layer.set_vocabulary(source.get_vocabulary(), *idf_weights(source))


def idf_weights(layer):
    lookup = getattr(layer, "_lookup_layer", layer)
    return [lookup.idf_weights.numpy()] if lookup.output_mode == "tf_idf" else []


def ask(model, x):
    return np.asarray(model(x, training=False))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", of_keras(L))
def test_models_from_keras(name, ending, tmp_path):
    theirs, x = make(keras, name), inputs(name)
    theirs.save(tmp_path / f"m{ending}")
    ours = load_model(tmp_path / f"m{ending}")
    keep_vocabularies(ours, theirs, ending)
    np.testing.assert_allclose(ours.predict(x, verbose=0), ask(theirs, x), **CLOSE)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [la.trainable for la in ours.layers] == [la.trainable for la in theirs.layers]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", of_keras(L))
def test_models_for_keras(name, ending, tmp_path):
    ours, x = make(fastrnn, name), inputs(name)
    ours.save(tmp_path / f"m{ending}", self_test=None if x.dtype == tf.string else x)
    theirs = keras.saving.load_model(tmp_path / f"m{ending}")
    np.testing.assert_allclose(ask(theirs, x), ours.predict(x, verbose=0), **CLOSE)
    assert [la.trainable for la in ours.layers] == [la.trainable for la in theirs.layers]


@pytest.mark.parametrize("name", of_keras(L))
def test_live_models(name):
    theirs, x = make(keras, name), inputs(name)
    ours = fastrnn.from_keras(theirs)
    np.testing.assert_allclose(ours.predict(x, verbose=0), ask(theirs, x), **CLOSE)


@pytest.mark.parametrize("name", ["LSTM", "Bidirectional", "Dense nested", "LSTM frozen"])
def test_weights_both_ways(name, tmp_path):
    theirs, ours, x = make(keras, name), make(fastrnn, name), inputs(name)
    for weight in theirs.weights:
        weight.assign(0.5 * weight.numpy() + 0.1)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours.load_weights(tmp_path / "theirs.weights.h5")
    np.testing.assert_allclose(ours.predict(x, verbose=0), ask(theirs, x), **CLOSE)
    ours.set_weights([0.5 * w + 0.2 for w in ours.get_weights()])
    ours.save_weights(tmp_path / "ours.weights.h5")
    theirs.load_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_allclose(ask(theirs, x), ours.predict(x, verbose=0), **CLOSE)
    ours.set_weights([0.5 * w + 0.2 for w in ours.get_weights()])
    ours.save_weights(tmp_path / "ours.h5")
    theirs.load_weights(tmp_path / "ours.h5")
    np.testing.assert_allclose(ask(theirs, x), ours.predict(x, verbose=0), **CLOSE)


OPTIMIZERS = {
    "SGD": {},
    "SGD momentum": {"momentum": 0.9, "nesterov": True, "learning_rate": 0.05},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "Adam": {},
    "Adam amsgrad": {"amsgrad": True, "clipnorm": 0.5},
    "Adam average": {"use_ema": True, "gradient_accumulation_steps": 2},
    "AdamW": {},
    "Adamax": {},
    "Nadam": {},
    "Adagrad": {},
    "Adadelta": {"learning_rate": 0.5},
    "Adam schedule": {
        "learning_rate": {
            "class_name": "CosineDecay",
            "config": {"initial_learning_rate": 0.01, "decay_steps": 10},
        }
    },
}


def compiled(library, name):
    model = make(library, "Bidirectional")
    options = dict(OPTIMIZERS[name])
    rate = options.get("learning_rate")
    if isinstance(rate, dict):
        schedules = library.optimizers.schedules if library is keras else library.schedules
        options["learning_rate"] = getattr(schedules, rate["class_name"])(**rate["config"])
    optimizer = getattr(library.optimizers, name.split()[0])(**options)
    model.compile(optimizer, "mse", metrics=["mae"])
    if library is keras:
        model.run_eagerly = True
    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("writer", "ending"),
    # Keras cannot train what it loads from .h5, its own files included.
    [("keras", ".keras"), ("keras", ".h5"), ("fastrnn", ".keras")],
)
def test_training_goes_on(writer, ending, name, tmp_path):
    x, y = inputs("Bidirectional"), np.ones((4, 6), np.float32)
    library = keras if writer == "keras" else fastrnn
    first = compiled(library, name)
    for _ in range(3):
        first.train_on_batch(x, y)
    first.save(tmp_path / f"m{ending}")
    if writer == "keras":
        second = load_model(tmp_path / f"m{ending}")
    else:
        second = keras.saving.load_model(tmp_path / f"m{ending}")
        second.run_eagerly = True
    assert int(second.optimizer.iterations) == int(first.optimizer.iterations) > 0
    for _ in range(3):
        first.train_on_batch(x, y)
        second.train_on_batch(x, y)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_a_live_model_goes_on_training():
    theirs, x, y = compiled(keras, "Adam"), inputs("Bidirectional"), np.ones((4, 6), np.float32)
    theirs.train_on_batch(x, y)
    ours = fastrnn.from_keras(theirs)
    for model in (ours, theirs):
        model.train_on_batch(x, y)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_a_live_model_that_was_saved_to_h5(tmp_path):
    """Keras then forgets which optimizer it was compiled with, but has it."""
    theirs, x, y = compiled(keras, "Adam"), inputs("Bidirectional"), np.ones((4, 6), np.float32)
    theirs.train_on_batch(x, y)
    theirs.save(tmp_path / "m.h5")
    ours = fastrnn.from_keras(theirs)
    assert type(ours.optimizer).__name__ == "Adam" and ours.optimizer.iterations == 1


def classes(module, base):
    found = vars(module).values()
    return sorted({c.__name__ for c in found if isinstance(c, type) and issubclass(c, base)})


@pytest.mark.parametrize("writer", ["keras", "fastrnn"])
def test_compile_arguments(writer, tmp_path):
    losses = set(classes(fastrnn.losses, fastrnn.losses.Loss)) - {"Loss", "LossFunctionWrapper"}
    metrics = set(classes(fastrnn.metrics, fastrnn.metrics.Metric))
    metrics -= {"Metric", "Mean", "Sum", "MeanMetricWrapper"}
    of_crfs = {name for name in losses | metrics if name.startswith("CRF")}  # not Keras's
    losses, metrics = losses - of_crfs, metrics - of_crfs
    metrics = {name for name in metrics if not name.startswith(("_", "Sparse"))}
    required = {"SensitivityAtSpecificity": 0.5, "SpecificityAtSensitivity": 0.5}
    required |= {"PrecisionAtRecall": 0.5, "RecallAtPrecision": 0.5}
    library = keras if writer == "keras" else fastrnn
    K = library.layers
    model = library.Sequential([K.Input((4,)), K.Dense(2, "hard_sigmoid")])
    read = load_model if writer == "keras" else keras.saving.load_model
    made = []
    for name in sorted(metrics):
        made.append(getattr(library.metrics, name)(*[required[name]] if name in required else []))
    for i, loss in enumerate(sorted(n for n in losses if not n.startswith("_"))):
        model.compile(
            "sgd", getattr(library.losses, loss)(), metrics=made if i == 0 else ["accuracy"]
        )
        model.save(tmp_path / "m.keras")
        twin = read(tmp_path / "m.keras")
        assert type(twin.loss).__name__ == loss
        assert twin.loss.reduction == model.loss.reduction
        if i == 0:
            x, y = inputs("Dense"), np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]
            results = [m.evaluate(x, y, verbose=0, return_dict=True) for m in (model, twin)]
            assert results[0].keys() == results[1].keys()
            for key, value in results[0].items():
                np.testing.assert_allclose(results[1][key], value, rtol=1e-4, err_msg=key)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_functional_chains_with_masks(ending, tmp_path):
    K = keras.layers
    inputs = keras.Input((5,))
    y = K.Embedding(9, 3, mask_zero=True)(inputs)
    y = K.Bidirectional(K.LSTM(2, return_sequences=True))(y)
    outputs = K.Dense(1)(K.Dropout(0.5)(K.LSTM(3)(y)))
    theirs = keras.Model(inputs, outputs)
    theirs.compile("adam", "mse")
    theirs.save(tmp_path / f"m{ending}")
    x = np.array([[1, 2, 3, 0, 0], [0, 4, 0, 5, 0]], np.int32)
    for ours in (load_model(tmp_path / f"m{ending}"), fastrnn.from_keras(theirs)):
        np.testing.assert_allclose(ours.predict(x, verbose=0), ask(theirs, x), **CLOSE)

    branches = K.Add()([K.Dense(2)(outputs), K.Dense(2)(outputs)])
    theirs = keras.Model(inputs, branches)
    theirs.save(tmp_path / f"m{ending}")
    ours = load_model(tmp_path / f"m{ending}")
    np.testing.assert_allclose(ours.predict(x, verbose=0), ask(theirs, x), **CLOSE)


def test_lambda_is_refused_with_its_name(tmp_path):
    K = keras.layers
    theirs = keras.Sequential([K.Input((3,)), K.Lambda(lambda x: x * 2, name="doubled")])
    for ending in (".keras", ".h5"):
        theirs.save(tmp_path / f"m{ending}")
        with pytest.raises(ValueError, match="layer 'doubled' .*Lambda.* holds code.*custom_obj"):
            load_model(tmp_path / f"m{ending}")


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_the_hard_sigmoid_of_keras_2_in_keras_3(ending, tmp_path):
    old = {"recurrent_activation": "hard_sigmoid_keras2"}
    ours = fastrnn.Sequential(
        [
            L.Input((5, 3)),
            L.LSTM(2, return_sequences=True, **old),
            L.TimeDistributed(L.Dense(2, "hard_sigmoid_keras2")),
            L.Bidirectional(L.GRU(2, **old)),
            L.Activation("hard_sigmoid_keras2"),
        ]
    )
    path, x = tmp_path / f"m{ending}", inputs("LSTM")
    with pytest.warns(UserWarning, match="Keras with custom_objects.*hard_sigmoid_keras2"):
        ours.save(path)
    np.testing.assert_array_equal(
        load_model(path).predict(x, verbose=0), ours.predict(x, verbose=0)
    )
    with pytest.raises((TypeError, ValueError), match="hard_sigmoid_keras2"):
        keras.saving.load_model(path)

    def hard_sigmoid_keras2(x):
        return keras.ops.clip(0.2 * x + 0.5, 0, 1)

    objects = {"hard_sigmoid_keras2": hard_sigmoid_keras2}
    theirs = keras.saving.load_model(path, custom_objects=objects)
    np.testing.assert_allclose(ask(theirs, x), ours.predict(x, verbose=0), **CLOSE)


def of_models(api, ends, chain):
    """A model whose outputs are those of a model that it calls twice."""
    layers = api.layers
    x, y = api.Input((5, 3)), api.Input((3,))
    if chain:
        inner = api.Sequential([api.Input((3,)), layers.Dense(3)])
        outputs = [inner(y), inner(layers.Dense(3)(y))]
        return api.Model(y, [outputs[end] for end in ends])
    a, b = api.Input((5, 3)), api.Input((3,))
    inner = api.Model([a, b], [layers.LSTM(3)(a), layers.Dense(3)(b)])
    outputs = inner([x, y])
    outputs = [*outputs, *inner([layers.Dense(3)(x), outputs[0]])]
    return api.Model([x, y], [outputs[end] for end in ends])


OF_MODELS = [
    (ends, chain)
    for chain, all_ends in (
        (False, ([0], [1, 0], [2], [0, 3], [1, 2, 3])),
        (True, ([0], [1], [1, 0])),
    )
    for ends in all_ends
]


def outputs_of(model, chain):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 5, 3), (2, 3)))
    out = model(y if chain else [x, y])
    return [np.asarray(part) for part in (out if isinstance(out, (list, tuple)) else [out])]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(("ends", "chain"), OF_MODELS)
def test_outputs_of_models_within(ends, chain, ending, tmp_path):
    path = str(tmp_path / f"m{ending}")
    for writer, reader in ((keras, fastrnn), (fastrnn, keras), (fastrnn, fastrnn)):
        model = of_models(writer, ends, chain)
        model.save(path)
        pairs = zip(
            *(outputs_of(m, chain) for m in (reader.models.load_model(path), model)), strict=True
        )
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize(("ends", "chain"), OF_MODELS)
def test_outputs_of_models_within_from_keras_2(ends, chain, keras2, tmp_path):
    model = of_models(keras2, ends, chain)
    model.save(tmp_path / "m.h5")
    pairs = zip(
        *(outputs_of(m, chain) for m in (load_model(tmp_path / "m.h5"), model)), strict=True
    )
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_masks_beyond_attention(ending, tmp_path):
    """Keras writes what its attention does to the mask as operations."""

    def model(api):
        layers = api.layers
        words = api.Input((5,), dtype="int32")
        x = layers.Embedding(7, 3, mask_zero=True)(words)
        x = layers.AdditiveAttention()([x, x])
        return api.Model(words, layers.LSTM(3)(x))

    ids = np.array([[3, 1, 2, 0, 0], [1, 0, 0, 0, 0]], np.int32)
    path = str(tmp_path / f"m{ending}")
    theirs = model(keras)
    theirs.save(path)
    ours = load_model(path)
    np.testing.assert_allclose(ours.predict(ids, verbose=0), ask(theirs, ids), **CLOSE)
    ours.save(path)
    back = keras.models.load_model(path)
    np.testing.assert_allclose(ours.predict(ids, verbose=0), ask(back, ids), **CLOSE)


@pytest.mark.parametrize("ending", [".keras", ".h5", ".weights.h5"])
def test_heads_in_files(ending, tmp_path):
    """Keras calls GroupQueryAttention by another name in weights' paths, and in .h5's configs."""

    def attending(library):
        made = library.layers
        x = library.Input((4, 6))
        y = made.MultiHeadAttention(2, 3)(made.Dense(6)(x), x)
        return library.Model(x, made.GroupQueryAttention(3, 4, 2, use_gate=True)(y, x))

    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    for writer, reader in ((keras, fastrnn), (fastrnn, keras)):
        first, second = attending(writer), attending(reader)
        path = str(tmp_path / f"{writer.__name__}{ending}")
        if ending == ".weights.h5":
            first.save_weights(path)
            second.load_weights(path)
        else:
            first.save(path)
            second = reader.models.load_model(path)
        np.testing.assert_allclose(ask(second, x), ask(first, x), **CLOSE)


# --- Keras 2, as tf_keras ---


@pytest.fixture(scope="module")
def keras2():
    return pytest.importorskip("tf_keras", reason="needs tf_keras, the last Keras 2")


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", of_keras(L))
def test_models_from_keras_2(name, ending, keras2, tmp_path):
    if name.startswith("RMSNormalization"):
        assert not hasattr(keras2.layers, "RMSNormalization")
        pytest.skip("Keras 2 has no such layer")
    if name == "TextVectorization of characters":
        pytest.skip("Keras 2 has its idf_weights among the weights, of no shape")
    theirs, x = make(keras2, name), inputs(name)
    if ending == ".h5" and not all(hasattr(weight, "shape") for weight in theirs.weights):
        with pytest.raises(NotImplementedError):  # of a vocabulary that adapt found
            theirs.save(tmp_path / "m.h5")
        return
    theirs.save(tmp_path / f"m{ending}", save_format="keras" if ending == ".keras" else "h5")
    ours = load_model(tmp_path / f"m{ending}")
    np.testing.assert_allclose(ours.predict(x, verbose=0), ask(theirs, x), **CLOSE)
    ours.set_weights([w + 1 for w in ours.get_weights()])
    theirs.save_weights(tmp_path / "m.weights.h5")
    ours.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_allclose(ours.predict(x, verbose=0), ask(theirs, x), **CLOSE)
    live = fastrnn.from_keras(theirs)
    np.testing.assert_allclose(live.predict(x, verbose=0), ask(theirs, x), **CLOSE)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["SGD momentum", "RMSprop", "Adam", "Adam amsgrad"])
def test_training_goes_on_from_keras_2(name, legacy, keras2, tmp_path):
    x, y = inputs("Bidirectional"), np.ones((4, 6), np.float32)
    theirs = make(keras2, "Bidirectional")
    module = keras2.optimizers.legacy if legacy else keras2.optimizers
    theirs.compile(getattr(module, name.split()[0])(**OPTIMIZERS[name]), "mse", metrics=["mae"])
    theirs.run_eagerly = True
    for _ in range(3):
        theirs.train_on_batch(x, y)
    theirs.save(tmp_path / "m.h5")
    ours = load_model(tmp_path / "m.h5")
    assert ours.optimizer.iterations == 3
    for _ in range(3):
        theirs.train_on_batch(x, y)
        ours.train_on_batch(x, y)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_functional_chain_from_keras_2(keras2, tmp_path):
    K = keras2.layers
    inputs = keras2.Input((5,))
    y = K.Embedding(9, 3, mask_zero=True, input_length=5)(inputs)
    y = K.Bidirectional(K.LSTM(2, return_sequences=True, time_major=False))(y)
    theirs = keras2.Model(inputs, K.Dense(1)(K.LSTM(3)(y)))
    theirs.save(tmp_path / "m.h5")
    x = np.array([[1, 2, 3, 0, 0], [0, 4, 0, 5, 0]], np.int32)
    for ours in (load_model(tmp_path / "m.h5"), fastrnn.from_keras(theirs)):
        np.testing.assert_allclose(ours.predict(x, verbose=0), ask(theirs, x), **CLOSE)


def test_operations_from_keras_2(keras2, tmp_path):
    tf = pytest.importorskip("tensorflow")
    K = keras2.layers
    i, j = keras2.Input((5, 4)), keras2.Input((4,))
    x = K.LSTM(4, return_sequences=True)(i)
    outputs = [
        *(x + i, 2 - x, x * 0.5, x / 2.0, 1 / (1 + tf.square(i)), x**2, -abs(x), x > 0),
        *(x[:, -1], x[:, 1:3, ::2], x[:, tf.newaxis], tf.concat([x, i], -1), tf.exp(x)),
        *(tf.matmul(x, i, transpose_b=True), x @ tf.transpose(x, [0, 2, 1]), tf.stack([x, i], 1)),
        *(tf.reduce_mean(x, axis=1), tf.reduce_sum(x, -1, keepdims=True), tf.squeeze(x[:, :1], 1)),
        *(tf.reshape(x, [-1, 20]), tf.nn.softmax(x, axis=1), tf.nn.relu(x), tf.maximum(x, i)),
        *(tf.where(x > 0, x, i), tf.clip_by_value(x, 0.0, 0.1), tf.expand_dims(j, 1)),
        *(tf.tile(j, [1, 2]), *tf.split(x, 2, axis=-1), tf.reverse(x, [1]), tf.cumsum(x, axis=1)),
        *(tf.math.l2_normalize(x, axis=-1), tf.one_hot(tf.cast(j, tf.int32), 3)),
    ]
    theirs = keras2.Model([i, j], outputs)
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(3, 5, 4)).astype("f"), rng.uniform(0, 2.5, (3, 4)).astype("f")]
    expected = theirs.predict(x, verbose=0)
    theirs.save(tmp_path / "m.h5")
    theirs.save(tmp_path / "m.keras", save_format="keras")
    for ours in (
        load_model(tmp_path / "m.h5"),
        load_model(tmp_path / "m.keras"),
        fastrnn.from_keras(theirs),
    ):
        for y, y_expected in zip(ours.predict(x, verbose=0), expected, strict=True):
            np.testing.assert_allclose(y, y_expected, **CLOSE)
