"""Every difference that DIFFERENCES.md lists is real.

`python tests/parity/test_differences.py` writes the page's list of what fastrnn does not have."""

import contextlib
import inspect
import os
import pathlib
import re
import signal
import warnings

import configurations as random_of
import numpy as np
import pytest
from comparison import keras, tensor, tf

import fastrnn
from fastrnn import pipeline

PAGE = pathlib.Path(__file__).parents[2] / "DIFFERENCES.md"
HEADING = "## Not in fastrnn\n"
MODULES = (
    "layers", "losses", "metrics", "optimizers", "initializers", "regularizers", "constraints",
    "callbacks", "activations",
)  # fmt: skip


def rng():
    return np.random.default_rng(11)


def weight_like(layer, scale=0.3):
    generator = rng()
    return [random_of.normal(generator, *np.shape(w), scale=scale) for w in layer.get_weights()]


def missing():
    """The public names that Keras has and fastrnn has not, a paragraph for each module."""
    paragraphs = []
    for module in MODULES:
        theirs = getattr(keras, module)
        wanted = str.islower if module == "activations" else lambda name: name[0].isupper()
        names = [
            name
            for name in dir(theirs)
            if wanted(name) and callable(getattr(theirs, name))
            and not hasattr(getattr(fastrnn, module), name)
        ]  # fmt: skip
        if names:
            paragraphs.append(f"- `keras.{module}`: " + ", ".join(f"`{n}`" for n in names) + ".\n")
    return HEADING + "\n" + "".join(paragraphs)


def test_the_page_lists_what_is_missing():
    text = PAGE.read_text()
    assert text[text.index(HEADING) :] == missing(), f"run python {pathlib.Path(__file__).name}"


def test_every_difference_has_a_test():
    """The page names the test below each difference, and each test here is named."""
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert named == {name for name in globals() if name.startswith("test_")}


# --- the CRF of keras_contrib, which needs a Keras of 2019: here its formulas are written out -----


def crf(**weights):
    """A layer of two tags whose scores are its inputs."""
    layer = fastrnn.layers.CRF(2, use_kernel=False)
    model = fastrnn.Sequential([fastrnn.Input((4, 2)), fastrnn.layers.Masking(9.0), layer])
    model.compile("sgd", "crf")
    for name, value in weights.items():
        getattr(layer, name).assign(value)
    layer.chain_kernel.assign(weights.get("chain_kernel", np.zeros((2, 2))))
    return model


STEPS = np.array([[[2, 0], [0, 1], [3, 0], [0, 4]]], np.float32)


def test_crf_of_scores():
    model = crf()
    assert model.predict(STEPS, verbose=0).argmax(-1).tolist() == [[0, 1, 0, 1]]
    assert STEPS.argmin(-1).tolist() == [[1, 0, 1, 0]]  # that of the least energy


def test_crf_loss_of_whole_sequences():
    loss = crf().evaluate(STEPS, np.zeros((1, 4)), verbose=0)
    of_steps = np.log(np.exp(STEPS).sum(-1)) - STEPS[..., 0]
    assert loss == pytest.approx(of_steps.sum(), rel=1e-5)
    assert loss > 3 * of_steps.mean()


def test_crf_with_holes():
    x = np.where([[[True], [False], [True], [False]]], STEPS, 9.0)
    changes = crf(chain_kernel=[[0, 5], [0, 0]])
    assert changes.predict(x, verbose=0).argmax(-1).tolist() == [[0, 0, 1, 0]]
    last = crf(right_boundary=[0, 5])
    assert last.predict(x, verbose=0).argmax(-1).tolist() == [[0, 0, 1, 0]]
    cut = crf()  # neither counts
    assert cut.predict(x, verbose=0).argmax(-1).tolist() == [[0, 0, 0, 0]]


def test_crf_targets():
    model, classes = crf(), np.array([[0, 1, 1, 0]])
    losses = [
        model.evaluate(STEPS, y, verbose=0)
        for y in (classes, classes[..., None], np.eye(2)[classes])
    ]
    assert losses[0] == losses[1] == losses[2]
    with pytest.raises(ValueError, match="^learn_mode: expected 'join'"):
        fastrnn.layers.CRF(2, learn_mode="marginal")


# --- where Keras on TensorFlow is mistaken --------------------------------------------------------


def test_masks_beside_initial_states():
    ids, start = np.array([[1, 2, 0, 0]]), np.zeros((1, 2), np.float32)
    for api in (fastrnn, keras):
        layers = api.layers
        words, state = api.Input((4,), dtype="int32"), api.Input((2,))
        x = layers.Embedding(5, 3, mask_zero=True)(words)
        gru = layers.GRU(2, return_sequences=True)
        y = np.asarray(api.Model([words, state], gru(x, initial_state=state))([ids, start]))
        assert (y[0, 1] == y[0, 3]).all() == (api is fastrnn)
        y = np.asarray(api.Model(words, gru(x))(ids))
        assert (y[0, 1] == y[0, 3]).all()


def test_masked_steps_after_a_state():
    x, mask = np.ones((1, 4, 2), np.float32), np.array([[False, False, True, False]])
    state = np.full((1, 2), 0.5, np.float32)
    for api in (fastrnn, keras):
        for name in ("LSTM", "GRU", "SimpleRNN"):
            layer = getattr(api.layers, name)(2, return_sequences=True)
            given = (x, mask, state) if api is fastrnn else map(tf.constant, (x, mask, state))
            steps, masked, start = given
            y = layer(steps, mask=masked, initial_state=[start] * (2 if name == "LSTM" else 1))
            y = np.asarray(y)
            assert (y[0, :2] == 0).all() and (y[0, 2] == y[0, 3]).all() and (y[0, 2] != 0).all()


def test_loss_beside_heads():
    ids = np.array([[1, 2, 0, 0]])
    for api in (fastrnn, keras):
        layers = api.layers
        words = api.Input((4,), dtype="int32")
        x = layers.Embedding(5, 3, mask_zero=True)(words)
        model = api.Model(words, [layers.Dense(2)(x), layers.MultiHeadAttention(1, 2)(x, x)])
        model.compile("sgd", ["mse", None])
        y = [np.array(part) for part in model(ids)]
        y[0][0, 2:] += 10
        loss = model.test_on_batch(ids, y, return_dict=True)["loss"]
        assert loss == pytest.approx(0 if api is fastrnn else 50, abs=1e-3)


def test_training_in_calls():
    ones = np.ones((1, 1000), np.float32)
    for api in (fastrnn, keras):

        def model(mode, api=api):
            x = api.Input((1000,))
            return api.Model(x, api.layers.Dropout(0.5)(x, training=mode))

        drops = (model(True).predict(ones, verbose=0) == 0).any()
        assert drops == (api is fastrnn)
        assert (np.asarray(model(True)(ones)) == 0).any()
        drops = (np.asarray(model(False)(ones, training=True)) == 0).any()
        assert drops == (api is keras)


def test_time_distributed_after_two_lengths():
    shapes = []
    for api in (fastrnn, keras):
        layers = api.layers
        model = api.Sequential([api.Input((None, 2)), layers.TimeDistributed(layers.Dense(1))])
        model.predict(np.zeros((3, 8, 2), np.float32), verbose=0)
        shapes.append(model.predict(np.zeros((1, 4, 2), np.float32), verbose=0).shape)
    assert shapes == [(1, 4, 1), (1, 1, 1)]


def test_set_weights_of_a_normalization():
    x = np.ones((1, 2), np.float32)
    ours, theirs = (api.layers.Normalization() for api in (fastrnn, keras))
    for layer in (ours, theirs):
        layer(x)
        layer.set_weights([np.array([3, 3]), np.array([4, 4]), np.array(0)])
    np.testing.assert_allclose(ours(x), [[-1, -1]])
    np.testing.assert_allclose(theirs(x), x)
    theirs.finalize_state()
    np.testing.assert_allclose(theirs(x), ours(x))


def test_normalization_of_fewer_axes():
    x = random_of.normal(rng(), 4, 3, 2)
    shapes = []
    for api in (fastrnn, keras):
        layer = api.layers.Normalization()
        layer.adapt(x)
        shapes.append(tuple(layer(x[:, 0]).shape))
    assert shapes == [(4, 2), (1, 4, 2)]


def test_rms_normalization_over_other_axes():
    x = np.ones((1, 4, 4), np.float32)
    theirs = keras.layers.RMSNormalization(1)
    theirs.build(x.shape)
    theirs.set_weights([np.arange(4)])
    np.testing.assert_allclose(theirs(x)[0, 0], np.arange(4), rtol=1e-5)  # not theirs(x)[0, :, 0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Incompatible shapes"):
        keras.layers.RMSNormalization(1)(x[:, :3])
    with pytest.raises(ValueError, match="axis: expected the last of the axes"):
        fastrnn.layers.RMSNormalization(1)(x)


def test_sparsemax():
    x = np.array([[1.0, 0.9, 0.8, -1.0]], np.float32)
    assert fastrnn.activations.sparsemax(x).sum() == pytest.approx(1)
    assert abs(float(tf.reduce_sum(keras.activations.sparsemax(x))) - 1) > 0.1


def test_orthogonal_regularizer_of_one_row():
    one = np.ones((1, 3), np.float32)
    assert fastrnn.regularizers.OrthogonalRegularizer()(one) == 0
    assert np.isnan(keras.regularizers.OrthogonalRegularizer()(tensor(one)))


def test_unrolled_backward_layer_with_a_mask():
    x = random_of.normal(rng(), 2, 4, 3)
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    options = {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True}
    outputs = []
    for library, unroll in ((fastrnn, True), (keras, False), (keras, True)):
        layer = library.layers.LSTM(2, unroll=unroll, **options)
        layer.build((None, 4, 3))
        layer.set_weights(weight_like(layer))
        given = mask if library is fastrnn else tf.constant(mask)
        outputs.append(np.asarray(layer(x, mask=given)))
    ours, rolled, unrolled = outputs
    np.testing.assert_allclose(ours, rolled, atol=1e-6)
    assert abs(rolled - unrolled).max() > 1e-3


def test_implementation_1_with_dropout():
    x = np.ones((3, 4, 2), np.float32)
    fastrnn.layers.LSTM(2, dropout=0.5, implementation=1)(x, training=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Rank of input"):
        keras.layers.LSTM(2, dropout=0.5, implementation=1)(x, training=True)


def test_weights_given_to_a_bidirectional():
    given = [random_of.normal(rng(), *shape) for shape in ((3, 8), (2, 8), (8,)) * 2]
    taken = []
    for library in (fastrnn, keras):
        layer = library.layers.Bidirectional(library.layers.LSTM(2), weights=given)
        layer.build((None, 4, 3))
        taken.append(all((w == g).all() for w, g in zip(layer.get_weights(), given, strict=True)))
    assert taken == [True, False]


def test_bidirectional_with_two_numbers_of_units():
    x = random_of.normal(rng(), 2, 4, 3)

    def model(library):
        layers = library.layers
        backward = layers.LSTM(5, go_backwards=True)
        wrapper = layers.Bidirectional(layers.LSTM(2), backward_layer=backward)
        return library.Sequential([library.Input((4, 3)), wrapper, layers.Dense(1)])

    assert model(fastrnn).predict(x, verbose=0).shape == (2, 1)
    with pytest.raises(Exception, match=r"shape|axis"):
        model(keras).predict(x, verbose=0)


def test_clipping_and_squaring_of_repeated_tokens():
    x, y = np.array([[1, 1, 1, 2]]), np.ones((1, 4, 2), np.float32)
    changes = []
    for library in (fastrnn, keras):
        model = library.Sequential(
            [library.Input((4,), dtype="int32"), library.layers.Embedding(3, 2)]
        )
        model.set_weights([np.zeros((3, 2), np.float32)])
        optimizer = library.optimizers.SGD(1.0, clipvalue=0.3)
        model.compile(optimizer, "mse", run_eagerly=True)
        model.train_on_batch(x, y)
        changes.append(model.get_weights()[0][1])
    ours, theirs = changes
    np.testing.assert_allclose(ours, 0.3)  # the sum of three gradients of 0.25, clipped
    np.testing.assert_allclose(theirs, 0.75)  # three gradients below the limit


def test_activity_regularizer_of_a_simple_rnn():
    x, y = random_of.normal(rng(), 5, 3, 2), np.zeros((5, 3), np.float32)
    penalties = []
    for library in (fastrnn, keras):
        results = []
        for regularizer in (None, "l2"):
            layer = library.layers.SimpleRNN(3, activity_regularizer=regularizer)
            model = library.Sequential([library.Input((3, 2)), layer])
            model.set_weights(weight_like(model))
            model.compile("sgd", "mse", run_eagerly=True)
            results.append(model.evaluate(x, y, verbose=0))
        penalties.append(results[1] - results[0])
    assert penalties[0] > 1e-4
    assert penalties[1] == 0


def test_a_stack_of_one_cell():
    x, mask = random_of.normal(rng(), 2, 4, 3), np.array([[1, 0, 1, 1], [1, 1, 1, 0]], bool)
    for options in ({}, {"unroll": True}):
        cell = fastrnn.layers.LSTMCell(2)
        ours = fastrnn.layers.RNN([cell], return_state=True, **options)
        y, (h, c) = ours(x, mask=None if options else mask)
        plain = fastrnn.layers.RNN(cell, return_state=True)(x, mask=None if options else mask)
        for one, other in zip([y, h, c], plain, strict=True):
            np.testing.assert_array_equal(one, other)
        theirs = keras.layers.RNN([keras.layers.LSTMCell(2)], return_state=True, **options)
        with pytest.raises(Exception):  # noqa: B017, PT011
            y, (h, c) = theirs(tensor(x), mask=None if options else mask)


# --- accepted here, refused there -----------------------------------------------------------------


def test_flat_states_of_several_cells():
    x, states = random_of.normal(rng(), 2, 4, 3), [random_of.normal(rng(), 2, 2)] * 3
    ours, theirs = (
        m.layers.RNN([m.layers.LSTMCell(2), m.layers.GRUCell(2)]) for m in (fastrnn, keras)
    )
    grouped = ours(x, initial_state=[states[:2], states[2:]])
    np.testing.assert_array_equal(ours(x, initial_state=states), grouped)
    with pytest.raises(IndexError):
        theirs(x, initial_state=states)


def test_weights_of_samples_for_sequences():
    x, y = random_of.normal(rng(), 5, 3, 2), random_of.normal(rng(), 5, 3, 4)
    weight = np.array([1, 2, 0, 1, 1], np.float32)

    def model(library):
        built = library.Sequential([library.Input((3, 2)), library.layers.Dense(4)])
        built.compile("sgd", "mse", run_eagerly=True)
        return built

    ours = model(fastrnn)
    assert ours.evaluate(x, y, sample_weight=weight, verbose=0) == pytest.approx(
        ours.evaluate(x, y, sample_weight=weight[:, None], verbose=0)
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="Incompatible shapes"):
        model(keras).evaluate(x, y, sample_weight=weight, verbose=0)


def test_stateful_without_a_batch_size():
    x = random_of.normal(rng(), 2, 4, 3)
    for library in (fastrnn, keras):
        model = library.Sequential([library.layers.LSTM(2, stateful=True)])
        if library is fastrnn:
            model.build((None, 4, 3))
            first, second = (model.predict(x, verbose=0) for _ in range(2))
            assert abs(first - second).max() > 1e-4
        else:
            with pytest.raises(ValueError, match="batch size must be static"):
                model.build((None, 4, 3))


def test_class_weights_of_time_steps():
    x, labels = random_of.normal(rng(), 6, 3, 2), rng().integers(0, 3, (6, 3))
    classes = {0: 2.0, 1: 0.5}

    def fit(library, y, **options):
        model = library.Sequential([library.Input((3, 2)), library.layers.Dense(3, "softmax")])
        model.set_weights(weight_like(model))
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        return model.fit(x, y, shuffle=False, verbose=0, **options).history["loss"]

    steps = np.array([2.0, 0.5, 1.0])[labels]
    expected = pytest.approx(fit(keras, labels, sample_weight=steps), rel=1e-5)
    assert fit(fastrnn, labels, class_weight=classes) == expected
    assert fit(fastrnn, labels[..., None], class_weight=classes) == expected
    with pytest.raises(TypeError, match="0-dimensional"):
        fit(keras, labels[..., None], class_weight=classes)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Incompatible shapes"):
        fit(keras, labels, class_weight=classes)


def test_adapt_to_lists():
    layer = fastrnn.layers.Normalization()
    layer.adapt([[1, 2], [3, 4]])
    np.testing.assert_array_equal(layer.adapt_mean.value, [2, 3])
    with pytest.raises(TypeError, match="a `.shape` attribute"):
        keras.layers.Normalization().adapt([[1, 2], [3, 4]])


def test_saving_into_a_new_folder(tmp_path):
    def model(library):
        return library.Sequential([library.Input((2,)), library.layers.Dense(1)])

    model(keras).save(tmp_path / "keras" / "m.h5")
    with pytest.raises(FileNotFoundError):
        model(keras).save(tmp_path / "new" / "m.keras")
    model(fastrnn).save(tmp_path / "new" / "m.keras")
    assert (tmp_path / "new" / "m.keras").is_file()


def test_formats_of_names_without_an_ending(tmp_path):
    def model(library):
        return library.Sequential([library.Input((2,)), library.layers.Dense(1)])

    with pytest.raises(ValueError, match="save_format"):
        model(keras).save(tmp_path / "m", save_format="h5")
    model(fastrnn).save(tmp_path / "m", save_format="h5")
    assert (tmp_path / "m").read_bytes()[1:4] == b"HDF"


def test_weights_of_metrics():
    assert fastrnn.metrics.Mean().add_weight("more").name == "more"
    with pytest.raises(ValueError, match="Cannot convert 'more' to a shape"):
        keras.metrics.Mean().add_weight("more", initializer="zeros")


def test_older_spellings():
    layer = fastrnn.layers.LSTM(3, input_shape=(4, 2))
    model = fastrnn.Sequential([layer, fastrnn.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = random_of.normal(rng(), 2, 4, 2)
    assert len(model.fit(x, x[:, 0, :1], nb_epoch=2, verbose=0).history["loss"]) == 2
    assert model.predict_classes(x).shape == (2, 1)
    with pytest.warns(UserWarning, match="input_shape"):
        keras.layers.LSTM(3, input_shape=(4, 2))
    theirs = keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(1)])
    theirs.compile("sgd", "mse")
    assert not hasattr(theirs, "predict_classes")
    with pytest.raises(TypeError, match="nb_epoch"):
        theirs.fit(x, x[:, 0, :1], nb_epoch=2, verbose=0)


def test_bare_names_of_registered_objects():
    for api, register in (
        (fastrnn, fastrnn.utils.register_keras_serializable),
        (keras, keras.saving.register_keras_serializable),
    ):

        @register("parity", "sevens")
        def sevens(y_true, y_pred):
            return 0 * y_pred[..., 0] + 7

        if api is fastrnn:
            assert api.losses.get("sevens") is sevens
        else:
            with pytest.raises(ValueError):
                api.losses.get("sevens")


def test_accuracy_by_its_other_name():
    x, y = np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)
    for library in (keras, fastrnn):
        model = library.Sequential([library.Input((3,)), library.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["accuracy"])
        history = model.fit(x, y, verbose=0).history
        assert "acc" not in history
        with pytest.raises(KeyError) if library is keras else contextlib.nullcontext():
            assert history["acc"] == history["accuracy"]


def test_both_kinds_of_weights():
    x, y = np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)
    for library, raises in ((keras, True), (fastrnn, False)):
        model = library.Sequential([library.Input((3,)), library.layers.Dense(1)])
        model.compile("sgd", "mse")
        with pytest.raises(ValueError) if raises else contextlib.nullcontext():
            model.fit(x, y, sample_weight=np.ones(4), class_weight={1: 2.0}, verbose=0)


# --- refused here, accepted there -----------------------------------------------------------------


def test_cells_that_are_refused():
    x = random_of.normal(rng(), 2, 4, 3)
    cell = keras.layers.GRUCell(3)
    assert len(keras.layers.RNN([cell, cell])(x)) == 2
    with pytest.raises(ValueError, match="cells: expected each cell once"):
        fastrnn.layers.RNN([fastrnn.layers.GRUCell(3)] * 2)


def test_only_float32():
    assert keras.layers.Dense(2, dtype="float64").dtype == "float64"
    with pytest.raises(ValueError, match="dtype: expected 'float32'"):
        fastrnn.layers.Dense(2, dtype="float64")


def test_derivatives_of_derivatives():
    import tensorflow

    from fastrnn.gradient_tape import GradientTape as Ours

    for tape_of in (tensorflow.GradientTape, Ours):
        x = fastrnn.ops.convert_to_tensor([3.0]) if tape_of is Ours else tensorflow.constant([3.0])
        with tape_of() as outer:
            outer.watch(x)
            with tape_of() as inner:
                inner.watch(x)
                y = x * x * x
            if tape_of is Ours:
                with pytest.raises(NotImplementedError, match="derivatives of derivatives"):
                    inner.gradient(y, x)
                continue
            slope = inner.gradient(y, x)
        assert float(outer.gradient(slope, x)[0]) == 18


def test_no_lora():
    assert keras.layers.Dense(2, lora_rank=1).lora_rank == 1
    with pytest.raises(ValueError, match="lora_rank"):
        fastrnn.layers.Dense(2, lora_rank=1)


def test_loss_weights():
    losses = []
    for weight in (None, 0.5):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.set_weights(weight_like(model))
        model.compile("sgd", "mse", loss_weights=weight)
        losses.append(model.evaluate(np.ones((2, 2)), np.zeros((2, 1)), verbose=0))
    assert losses[1] == pytest.approx(losses[0] / 2)
    with pytest.raises(ValueError, match="loss_weights"):
        fastrnn.Sequential([fastrnn.layers.Dense(1)]).compile("sgd", "mse", loss_weights=0.5)


def test_steps_without_a_derivative():
    def loss_of(sinc):
        return lambda y_true, y_pred: sinc(y_pred - y_true) ** 2

    data = {"x": np.ones((2, 2)), "y": np.zeros((2, 1)), "verbose": 0}
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss_of(keras.ops.sinc))
    model.fit(**data)
    model = fastrnn.Sequential([fastrnn.layers.Dense(1)])
    model.compile("sgd", loss_of(np.sinc))
    with pytest.raises(ValueError, match="no derivative is known of sinc; attach"):
        model.fit(**data)


def test_arguments_that_are_not_taken():
    keras.layers.BatchNormalization(renorm=True)
    with pytest.raises(ValueError, match="renorm"):
        fastrnn.layers.BatchNormalization(renorm=True)
    keras.metrics.SparseTopKCategoricalAccuracy(from_sorted_ids=True)
    with pytest.raises(TypeError, match="from_sorted_ids"):
        fastrnn.metrics.SparseTopKCategoricalAccuracy(from_sorted_ids=True)
    model = fastrnn.Sequential([fastrnn.Input((2,))])
    for name, given, option in (
        ("add", fastrnn.layers.Dense(1), "rebuild"),
        ("save", "m.keras", "zipped"),
        ("save_weights", "m.weights.h5", "max_shard_size"),
    ):
        assert option in inspect.signature(getattr(keras.Sequential, name)).parameters
        with pytest.raises(TypeError, match=option):
            getattr(model, name)(given, **{option: 1})


def line_of(library):
    model = library.Sequential([library.Input((2,)), library.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_targets_wider_than_the_outputs():
    x, y = np.ones((4, 2), np.float32), np.ones((4, 2), np.float32)
    assert np.isfinite(line_of(keras).evaluate(x, y, verbose=0))
    with pytest.raises(ValueError, match=r"^y: expected shape \(4, 1\) as the outputs"):
        line_of(fastrnn).evaluate(x, y, verbose=0)


def test_no_samples_and_no_steps():
    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not line_of(keras).fit(x[:0], y[:0], verbose=0).history
        assert line_of(keras).evaluate(x[:0], y[:0], verbose=0) == []
        model = line_of(keras)
        assert model.evaluate(x, y, steps=0, verbose=0) == model.evaluate(x, y, verbose=0) > 0
    for method in ("fit", "evaluate"):
        with pytest.raises(ValueError, match="^x: expected at least one sample"):
            getattr(line_of(fastrnn), method)(x[:0], y[:0], verbose=0)
        steps = {"steps_per_epoch" if method == "fit" else "steps": 0}
        with pytest.raises(ValueError, match="^steps.*: expected an int >= 1 or None"):
            getattr(line_of(fastrnn), method)(x, y, **steps, verbose=0)


class Stops(keras.callbacks.Callback):
    """Ends what goes on and on, after 30 batches."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch >= 30

    def on_test_batch_end(self, batch, logs=None):
        self.model.stop_evaluating = batch >= 30

    def on_predict_batch_end(self, batch, logs=None):
        self.model.stop_predicting = batch >= 30


def test_endless_datasets_without_a_number_of_steps():
    arrays = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    endless = {
        library: Dataset.from_tensor_slices(arrays).batch(2).repeat()
        for library, Dataset in ((keras, tf.data.Dataset), (fastrnn, pipeline.Dataset))
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert line_of(keras).fit(endless[keras], verbose=0, callbacks=[Stops()]).history["loss"]
        assert line_of(keras).evaluate(endless[keras], verbose=0, callbacks=[Stops()]) >= 0
        found = line_of(keras).predict(endless[keras], verbose=0, callbacks=[Stops()])
    assert len(found) == 62
    for method in ("fit", "evaluate", "predict"):
        with pytest.raises(ValueError, match="^x: the dataset has no end; expected a number of"):
            getattr(line_of(fastrnn), method)(endless[fastrnn], verbose=0)
    model = line_of(fastrnn)
    with pytest.raises(ValueError, match="^x: the dataset has no end; .*validation_steps"):
        model.fit(*arrays, validation_data=endless[fastrnn], verbose=0)
    assert model.fit(endless[fastrnn], steps_per_epoch=3, verbose=0).history["loss"]


def test_datasets_in_files_and_in_batches(tmp_path):
    theirs = tf.data.Dataset.range(3)
    assert len(list(theirs.cache(str(tmp_path / "file")))) == 3 and os.listdir(tmp_path)
    assert len(list(theirs.window(1).batch(2))) == 2
    ours = pipeline.Dataset.range(3)
    with pytest.raises(ValueError, match="^filename: expected '', as elements are kept in memory"):
        ours.cache(str(tmp_path / "other"))
    with pytest.raises(ValueError, match="^batch: expected elements that are arrays, .* Datasets"):
        list(ours.window(1).batch(2))


def test_functions_of_datasets_that_look_at_numbers():
    def halves(x):
        return np.full(int(x), 0.5)

    with pytest.raises(TypeError):
        tf.data.Dataset.range(3).map(halves)
    assert [len(x) for x in pipeline.Dataset.range(3).map(halves)] == [0, 1, 2]


def test_padding_values_of_another_type():
    def padded(Dataset):
        data = Dataset.from_tensor_slices(np.arange(4).reshape(2, 2))
        return next(iter(data.padded_batch(2, [3], padding_values=-1)))

    with pytest.raises(TypeError, match="int32.*does not match type.*int64"):
        padded(tf.data.Dataset)
    assert padded(pipeline.Dataset).tolist() == [[0, 1, -1], [2, 3, -1]]


def test_order_of_shuffled_datasets():
    def order(Dataset, buffer, seed):
        data = Dataset.range(50).shuffle(buffer, seed=seed)
        return [int(x) for x in data.as_numpy_iterator()]

    tf.random.set_seed(1)
    for buffer in (5, 50):
        orders = [order(Dataset, buffer, 3) for Dataset in (pipeline.Dataset, tf.data.Dataset)]
        assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
        for places in orders:
            assert all(place > number - buffer for place, number in enumerate(places))
    seeds = []
    for seed in (1, 2):
        tf.random.set_seed(seed)
        fastrnn.random.set_seed(seed)
        seeds.append([order(D, 50, 3) for D in (pipeline.Dataset, tf.data.Dataset)])
    assert seeds[0][0] == seeds[1][0] and seeds[0][1] != seeds[1][1]


def test_sizes_that_depend_on_numbers():
    ours = pipeline.Dataset.from_tensor_slices([2, 3, 2]).map(lambda x: np.zeros(int(x)))
    theirs = tf.data.Dataset.from_tensor_slices([2, 3, 2]).map(tf.zeros)
    assert ours.element_spec.shape == (2,)
    assert theirs.element_spec.shape.as_list() == [None]
    assert ours.take(3).element_spec.shape == (2,)
    grown = pipeline.Dataset.from_tensor_slices([2, 3]).map(lambda x: np.zeros(int(x)))
    assert grown.element_spec.shape == (None,)


def test_rates_are_checked():
    assert keras.layers.LSTM(2, dropout=1.5).dropout == 1.0
    with pytest.raises(ValueError, match="dropout: expected a number from 0 to 1"):
        fastrnn.layers.LSTM(2, dropout=1.5)


def test_numbers_are_checked():
    for options in ({"beta_1": 1.0}, {"beta_2": -0.5}, {"epsilon": np.nan}):
        assert keras.optimizers.Adam(**options).get_config().keys() >= options.keys()
        with pytest.raises(ValueError, match=f"^{[*options][0]}: expected a"):
            fastrnn.optimizers.Adam(**options)
    assert np.isnan(np.asarray(keras.initializers.RandomUniform(np.nan)((2,)))).all()
    with pytest.raises(ValueError, match="^minval: expected a finite number, received nan"):
        fastrnn.initializers.RandomUniform(np.nan)
    for lib in (keras, fastrnn):
        layer = lib.layers.Dense(1, use_bias=False)
        layer.build((None, 1))
        if lib is keras:
            with np.errstate(over="ignore"):
                layer.set_weights([np.array([[1e300]])])
            assert np.isinf(layer.get_weights()[0]).all()
        else:
            with pytest.raises(ValueError, match="float32 can hold .* received 1e"):
                layer.set_weights([np.array([[1e300]])])


# --- other results --------------------------------------------------------------------------------


def test_dropout_of_a_cell_called_by_itself():
    x, zeros = np.ones((2, 50), np.float32), np.zeros((2, 50), np.float32)
    same = []
    for library in (fastrnn, keras):
        cell = library.layers.SimpleRNNCell(50, kernel_initializer="identity", dropout=0.5)
        draws = [np.asarray(cell(x, [zeros], training=True)[0]) for _ in range(2)]
        same.append(bool(np.all(draws[0] == draws[1])))
    assert same == [False, True]


def test_random_numbers():
    draws = [np.asarray(lib.initializers.GlorotUniform(seed=1)((4, 3))) for lib in (fastrnn, keras)]
    assert draws[0].shape == draws[1].shape
    assert abs(draws[0] - draws[1]).max() > 1e-3


def that_adds_a_loss(library):
    class Adds(library.layers.Layer):
        def call(self, x):
            self.add_loss(0.01 * library.ops.mean(x))
            return x

    inputs = library.Input((3,))
    return library.Model(inputs, Adds()(inputs))


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_the_loss_of_an_earlier_compile():
    x = np.ones((2, 3), np.float32)
    losses = []
    for model in map(that_adds_a_loss, (fastrnn, keras)):
        for options in ({"loss": "mse"}, {}):
            model.compile("sgd", **options)
            losses.append(model.fit(x, 0 * x, verbose=0).history["loss"][0])
    np.testing.assert_allclose(losses, [1.01, 0.01, 1.01, 1.01], rtol=1e-6)


def test_names_of_metrics():
    assert [fastrnn.metrics.AUC().name for _ in range(2)] == ["auc", "auc"]
    names = [keras.metrics.AUC().name for _ in range(2)]
    assert names[0] != names[1]


def saturated(library, metrics):
    """A model whose only sample has a probability that float32 rounds to 1, for the class 0."""
    model = library.Sequential([library.Input((1,)), library.layers.Dense(1, "sigmoid")])
    model.set_weights([np.array([[30]], np.float32), np.zeros(1, np.float32)])
    model.compile("sgd", "binary_crossentropy", run_eagerly=True, **metrics)
    one = np.ones((1, 1), np.float32)
    return model, one, 0 * one


def test_crossentropy_metric_of_a_probability_of_one():
    values = []
    for library in (fastrnn, keras):
        model, x, y = saturated(library, {"metrics": ["binary_crossentropy"]})
        logs = model.evaluate(x, y, verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(30)
        values.append(logs["binary_crossentropy"])
    assert values == pytest.approx([-np.log(1.192e-7), 30], rel=1e-3)


def test_binary_crossentropy_of_a_softmax():
    x, labels = random_of.normal(rng(), 5, 2), rng().integers(0, 3, 5)
    y = np.eye(3, dtype=np.float32)[labels]
    losses = []
    for library in (fastrnn, keras):
        model = library.Sequential([library.Input((2,)), library.layers.Dense(3, "softmax")])
        model.set_weights(weight_like(model))
        model.compile("sgd", "binary_crossentropy", run_eagerly=True)
        losses.append(model.evaluate(x, y, verbose=0))
        p = model.predict(x, verbose=0).astype(float)
    logits = x @ weight_like(model)[0] + weight_like(model)[1]
    of_sigmoid = np.logaddexp(0, logits) - y * logits
    of_softmax = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert losses == pytest.approx([of_softmax.mean(), of_sigmoid.mean()], rel=1e-5)
    assert abs(losses[0] - losses[1]) > 1e-2


def stack_with_a_frozen_wrapper(library):
    layers = library.layers
    frozen = layers.TimeDistributed(layers.Dense(2), trainable=False)
    return library.Sequential([layers.Input((3, 2)), frozen, layers.Dense(1)])


def test_trainable_in_the_constructor_of_a_wrapper():
    models = [stack_with_a_frozen_wrapper(lib) for lib in (fastrnn, keras)]
    assert [len(model.layers[0].trainable_weights) for model in models] == [0, 0]
    assert [len(model.trainable_weights) for model in models] == [2, 4]


def test_assigning_the_value_that_trainable_has():
    models = [stack_with_a_frozen_wrapper(lib) for lib in (fastrnn, keras)]
    for model in models:
        model.layers[1].trainable = False
        model.trainable = True  # which it is
    assert [model.layers[1].trainable for model in models] == [True, False]


def test_thawing_a_layer_with_a_frozen_weight():
    models = [stack_with_a_frozen_wrapper(lib) for lib in (fastrnn, keras)]
    for model in models:
        layer = model.layers[1]
        layer.kernel.trainable = False
        layer.trainable = False
        layer.trainable = True
    assert [model.layers[1].kernel.trainable for model in models] == [False, True]


def test_list_of_results_where_metrics_share_a_name():
    metrics = {"metrics": ["mse"], "weighted_metrics": ["mse"]}
    lengths = []
    for library in (fastrnn, keras):
        model, x, y = saturated(library, metrics)
        lengths.append(len(model.evaluate(x, y, verbose=0)))
        assert len(model.evaluate(x, y, verbose=0, return_dict=True)) == 3
    assert lengths == [3, 4]
    x, lengths = np.ones((2, 4, 3), np.float32), []
    for library in (fastrnn, keras):
        inputs = library.Input((4, 3))
        model = library.Model(inputs, library.layers.GRU(2, return_state=True)(inputs))
        model.compile("sgd", ["mse", "mse"])
        lengths.append(len(model.evaluate(x, [np.zeros((2, 2))] * 2, verbose=0)))
    assert lengths == [2, 3]


def test_dtype_of_the_count_of_a_normalization():
    dtypes = []
    for api in (fastrnn, keras):
        layer = api.layers.Normalization()
        layer.build((None, 2))
        dtypes.append(str(layer.count.dtype))
    assert dtypes == ["float32", "int64"]


def test_paths_of_weights():
    paths = []
    for library in (fastrnn, keras):
        model = library.Sequential([library.Input((4, 2)), library.layers.LSTM(3)], name="m")
        paths.append(model.weights[0].path)
    assert paths == ["lstm/kernel", "m/lstm/lstm_cell/kernel"]


def test_several_outputs_of_a_sequential():
    x = random_of.normal(rng(), 2, 4, 3)

    def predict(library, layer):
        return library.Sequential([library.Input((4, 3)), layer]).predict(x, verbose=0)

    wrappers = [
        lib.layers.Bidirectional(lib.layers.LSTM(2), merge_mode=None) for lib in (fastrnn, keras)
    ]
    both = predict(fastrnn, wrappers[0]), predict(keras, wrappers[1])
    assert [type(b) for b in both] == [list, tuple]
    assert [len(b) for b in both] == [2, 2]
    states = [predict(lib, lib.layers.LSTM(2, return_state=True)) for lib in (fastrnn, keras)]
    assert [type(s) for s in states] == [list, tuple]
    assert [[a.shape for a in s] for s in states] == [[(2, 2)] * 3] * 2


def test_transposed_convolutions():
    x = random_of.normal(rng(), 2, 5, 3)
    for options in (
        {"dilation_rate": 2},
        {"padding": "same", "strides": 2, "output_padding": 0},
    ):
        own, theirs = (lib.layers.Conv1DTranspose(4, 2, **options) for lib in (fastrnn, keras))
        assert own(x).shape == tuple(theirs.compute_output_shape(x.shape))
        with pytest.raises(tf.errors.InvalidArgumentError):
            theirs(x)


def test_normalization_over_the_batch():
    x = np.arange(4, dtype=np.float32)
    theirs = keras.layers.Normalization()
    theirs.adapt(x)
    assert not np.any(theirs(x))
    with pytest.raises(ValueError, match="axis=None takes one mean of all"):
        fastrnn.layers.Normalization().adapt(x)


def test_normalization_by_what_is_not_finite():
    x = np.array([[1], [np.nan]], np.float32)
    theirs = keras.layers.Normalization()
    theirs.adapt(x)
    assert np.isnan(theirs(x)).all()
    assert np.isnan(keras.layers.Normalization(mean=0, variance=-1.0)(x)).all()
    with pytest.raises(ValueError, match="data: expected finite numbers"):
        fastrnn.layers.Normalization().adapt(x)
    with pytest.raises(ValueError, match="variance: expected numbers >= 0"):
        fastrnn.layers.Normalization(mean=0, variance=-1.0)


def test_bias_of_as_many_channels_as_steps():
    x, bias = np.zeros((1, 3, 3), np.float32), np.array([1, 2, 3], np.float32)
    results = []
    for library in (fastrnn, keras):
        layer = library.layers.DepthwiseConv1D(1, data_format="channels_first")
        layer.build(x.shape)
        layer.bias.assign(bias)
        results.append(np.asarray(layer(x))[0])
    np.testing.assert_array_equal(results[0], np.tile(bias[:, None], 3))
    np.testing.assert_array_equal(results[1], np.tile(bias, (3, 1)))


def test_causal_separable_convolutions():
    x = random_of.normal(rng(), 2, 6, 3)
    causal = fastrnn.layers.SeparableConv1D(4, 3, padding="causal")
    valid = keras.layers.SeparableConv1D(4, 3)
    expected = valid(np.pad(x, ((0, 0), (2, 0), (0, 0))))
    causal.build(x.shape)
    causal.set_weights(valid.get_weights())
    np.testing.assert_allclose(causal(x), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="Received: causal"):
        keras.layers.SeparableConv1D(4, 3, padding="causal")


def test_merged_inputs_of_four_axes():
    x = np.arange(1, 49, dtype=np.float32).reshape(2, 3, 4, 2)
    mask = np.array([[True, False, True], [False, False, True]])
    full = np.broadcast_to(mask[:, :, None, None], x.shape)
    wide = np.ones((2, 3, 4, 2), np.float32)
    for name, expected in (
        ("Multiply", np.where(full, x, wide)),
        ("Maximum", np.where(full, x, wide)),
        ("Minimum", wide),
    ):
        y = getattr(fastrnn.layers, name)()([x, wide], mask=[mask, None])
        np.testing.assert_array_equal(y, expected)
        masked = tf.convert_to_tensor(x)
        masked._keras_mask = tf.convert_to_tensor(mask)
        with pytest.raises(tf.errors.InvalidArgumentError):
            getattr(keras.layers, name)()([masked, wide])
    masks = [mask, None]
    own = fastrnn.layers.Concatenate(1).compute_mask([x, x], masks)
    np.testing.assert_array_equal(own, np.hstack([mask, np.ones((2, 3), bool)]))
    with pytest.raises(tf.errors.InvalidArgumentError):
        keras.layers.Concatenate(1).compute_mask([tf.constant(x)] * 2, [tf.constant(mask), None])


def test_masks_given_to_a_merging_layer():
    x, y = np.ones((1, 2, 3)), np.full((1, 2, 3), 2)
    masks = np.array([[[True, True]], [[True, False]]])
    found = fastrnn.layers.Multiply()([x, y], mask=[*masks])
    assert found[0, :, 0].tolist() == [2, 1]
    with pytest.raises(TypeError, match="mask"):
        keras.layers.Multiply()([x, y], mask=[*masks])


def test_dot_of_a_free_size():
    inputs = [lib.Input(shape) for lib in (fastrnn, keras) for shape in ((None, 3), (5, 3))]
    assert fastrnn.layers.Dot(1)(inputs[:2]).shape == (None, 3, 3)
    with pytest.raises(ValueError, match="Incompatible"):
        keras.layers.Dot(1)(inputs[2:])


def test_merge_of_keras_1():
    x = np.ones((2, 3))
    assert fastrnn.layers.merge([x, x], mode="concat").shape == (2, 6)
    assert not hasattr(keras.layers, "merge")


def test_merged_whole_numbers():
    x = np.ones((2, 3), np.int32)
    assert fastrnn.layers.Add()([x, x]).dtype == np.float32
    assert keras.layers.Add()([tf.constant(x), tf.constant(x)]).dtype == tf.int32


def test_names_after_a_concatenate_of_masks():
    names = []
    for lib in (fastrnn, keras):
        x = lib.layers.Masking()(lib.Input((4, 3)))
        lib.layers.Concatenate()([x, x])
        names.append(lib.layers.Concatenate().name)
    assert names == ["concatenate_1", "concatenate_2"]
    names = []
    for lib in (fastrnn, keras):
        lib.layers.GroupQueryAttention(2, 2, 1)(lib.Input((4, 3)), lib.Input((4, 3)))
        names.append(lib.layers.Softmax().name)
    assert names == ["softmax", "softmax_1"]


def test_unit_normalization_over_the_batch():
    x = np.full((2, 1), 3, np.float32)
    np.testing.assert_allclose(keras.layers.UnitNormalization(0)(x), x / 18**0.5, rtol=1e-6)
    with pytest.raises(ValueError, match="with axis 0 after the batch"):
        fastrnn.layers.UnitNormalization(0)(x)


def test_training_with_several_outputs():
    x = random_of.normal(rng(), 2, 4, 3)
    models = [
        lib.Sequential([lib.Input((4, 3)), lib.layers.LSTM(2, return_state=True)])
        for lib in (fastrnn, keras)
    ]
    for model in models:
        model.compile("sgd", "mse")
    targets = [np.zeros((2, 2), np.float32)] * 3
    assert models[1].fit(x, targets, verbose=0).history["loss"][0] > 0
    with pytest.raises(ValueError, match="expected one output to train or evaluate"):
        models[0].fit(x, targets[0], verbose=0)


def adapted(library, data, kind="TextVectorization", **options):
    layer = getattr(library.layers, kind)(**options)
    layer.adapt(data)
    return layer


def text_model(library, layer):
    top = [library.layers.Embedding(30, 2), library.layers.LSTM(2)]
    return library.Sequential([library.Input((1,), dtype="string"), layer, *top])


def load(library, path):
    return library.models.load_model(path)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_vocabularies_in_h5_files(tmp_path):
    sizes = []
    for lib in (fastrnn, keras):
        text_model(lib, adapted(lib, ["a b"])).save(tmp_path / "m.h5")
        sizes += [
            load(other, tmp_path / "m.h5").layers[0].vocabulary_size() for other in (lib, keras)
        ]
    assert sizes == [4, 4, 2, 2]


def test_vocabularies_that_lines_do_not_hold(tmp_path):
    path = tmp_path / "m.keras"
    for options in (
        {"split": "character", "standardize": None},
        {"output_mode": "tf_idf", "max_tokens": 9, "pad_to_max_tokens": True},
    ):
        for lib in (fastrnn, keras):
            layer = adapted(lib, ["a\n\nb"], **options)
            lib.Sequential([lib.Input((1,), dtype="string"), layer]).save(path)
            if lib is keras:
                with pytest.raises(ValueError, match="could not be loaded"):
                    load(keras, path)
                continue
            for other in (fastrnn, keras):
                assert load(other, path).layers[0].get_vocabulary() == layer.get_vocabulary()


def test_vocabularies_set_after_the_constructor(tmp_path):
    found = []
    for lib in (fastrnn, keras):
        layer = lib.layers.TextVectorization(vocabulary=["a"])
        layer.set_vocabulary(["b"])
        text_model(lib, layer).save(tmp_path / "m.keras")
        found.append(load(lib, tmp_path / "m.keras").layers[0].get_vocabulary()[2:])
    assert found == [["b"], ["a"]]


def test_arrays_of_text():
    layers = [lib.layers.TextVectorization(vocabulary=["a"]) for lib in (fastrnn, keras)]
    models = [text_model(*pair) for pair in zip((fastrnn, keras), layers, strict=True)]
    models[1].set_weights(models[0].get_weights())
    x = [["a b"], ["b"]]
    expected = models[1].predict(tf.constant(x), verbose=0)
    for given in (x, np.array(x), np.array(x, object), np.array(x, bytes), tf.constant(x)):
        np.testing.assert_allclose(models[0].predict(given, verbose=0), expected, atol=1e-6)
        if given is x or isinstance(given, np.ndarray):
            with pytest.raises(ValueError):
                models[1].predict(given, verbose=0)


def test_no_sparse_and_ragged_vocabularies():
    for name, option in (("StringLookup", "sparse"), ("TextVectorization", "ragged")):
        options = {option: True, "output_mode": "count" if option == "sparse" else "int"}
        assert getattr(keras.layers, name)(vocabulary=["a"], **options)(["a"]).shape[0] is not None
        with pytest.raises(ValueError, match=f"{option}: expected False"):
            getattr(fastrnn.layers, name)(vocabulary=["a"], **options)


def test_counts_along_other_axes():
    x, options = [[["a", "b"], ["z", "z"]]], {"vocabulary": ["a", "b"], "output_mode": "count"}
    y = keras.layers.StringLookup(**options)(x)
    assert y.numpy().tolist() == [[[1, 1, 0], [1, 0, 1]]]
    with pytest.raises(ValueError, match=r"expected input of shape \(batch, tokens\)"):
        fastrnn.layers.StringLookup(**options)(x)


def test_adapt_to_one_text():
    assert adapted(keras, "abb").get_vocabulary() == ["", "[UNK]", "b", "a"]
    with pytest.raises(ValueError, match="data: expected an array, a list or batches"):
        adapted(fastrnn, "abb")


def test_max_tokens_below_the_special_ones():
    options = {"kind": "StringLookup", "max_tokens": 2, "num_oov_indices": 3}
    assert adapted(keras, ["a", "b", "b", "c"], **options).get_vocabulary()[3:] == ["b", "c"]
    with pytest.raises(ValueError, match="max_tokens of layer .*: expected more than the 3 places"):
        adapted(fastrnn, ["a", "b", "b", "c"], **options)


def test_functions_of_text():
    given = []
    for lib in (fastrnn, keras):
        layer = lib.layers.TextVectorization(
            standardize=lambda x: given.append(x) or x, vocabulary=["a"]
        )
        assert layer(["a", "b"]).numpy().tolist() == [[2], [1]]
    assert given[0].dtype.kind == "U" and given[0].tolist() == ["a", "b"]
    assert tf.is_tensor(given[1]) and given[1].numpy().tolist() == [b"a", b"b"]


def test_nul_in_vocabularies():
    ends = [adapted(lib, ["a\0"]).get_vocabulary()[2] for lib in (fastrnn, keras)]
    assert ends == ["a\0", "a"]


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page[: page.index(HEADING)] + missing())


def test_layers_of_a_model():
    for library, names in ((keras, ["given", "dense"]), (fastrnn, ["dense"])):
        inputs = library.Input((3,), name="given")
        model = library.Model(inputs, library.layers.Dense(2, name="dense")(inputs))
        assert [layer.name for layer in model.layers] == names


def of_dicts(library):
    b, a = library.Input((3,), name="b"), library.Input((2,), name="a")
    up, down = (library.layers.Dense(n)(x) for n, x in ((1, a), (2, b)))
    return library.Model({"b": b, "a": a}, {"up": up, "down": down})


def test_lists_for_dicts():
    ours, theirs = of_dicts(fastrnn), of_dicts(keras)
    a, b = np.ones((4, 2)), np.ones((4, 3))
    assert ours.predict([a, b], verbose=0)["down"].shape == (4, 2)
    with pytest.raises(ValueError, match="structure of `inputs` doesn't match"):
        theirs.predict([a, b], verbose=0)


def test_calls_that_a_summary_counts():
    shown = []
    for library in (fastrnn, keras):
        x, dense = library.Input((3,), name="x"), library.layers.Dense(3, name="d")
        dense(x)
        y = dense(x)
        model = library.Model(x, library.layers.Add()([x, y]))
        model.summary(print_fn=shown.append, line_length=76)
    assert "d[0][0]" in shown[0] and "d[1][0]" in shown[1]


def test_interrupt_of_fit():
    for library, raises in ((keras, True), (fastrnn, False)):
        model = library.Sequential([library.Input((3,)), library.layers.Dense(1)])
        model.compile("sgd", "mse")
        press = library.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: os.kill(os.getpid(), signal.SIGINT)
        )
        x = np.ones((4, 3), np.float32)
        with pytest.raises(KeyboardInterrupt) if raises else contextlib.nullcontext():
            model.fit(x, x[:, :1], epochs=3, callbacks=[press], verbose=0)


def test_derivative_of_a_cumulative_product_with_a_0():
    found = []
    for library, kind in ((fastrnn, fastrnn.optimizers), (keras, tf)):
        x = library.ops.convert_to_tensor(np.array([2.0, 0.0, 3.0], np.float32))
        with kind.GradientTape() as tape:
            tape.watch(x)
            y = library.ops.sum(library.ops.cumprod(x))
        found.append(np.asarray(tape.gradient(y, x)).tolist())
    assert found == [[1, 8, 0], [1, 0, 0]]  # y = a + a b + a b c


def model_with_weights_apart(library, constraint):
    """One weight is used, if `constraint` is given; one is not."""

    class Apart(library.layers.Layer):
        def build(self, input_shape):
            self.used = self.add_weight(shape=(), initializer="ones", name="used")
            self.apart = self.add_weight(
                shape=(2,), initializer=library.initializers.Constant(-1.0), name="apart",
                constraint=constraint,
            )  # fmt: skip

        def call(self, x):
            return x * self.used if constraint else x * 2.0

    model = library.Sequential([library.Input((2,)), Apart()])
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def test_a_loss_of_no_weight():
    x = np.ones((3, 2), np.float32)
    ours, theirs = (model_with_weights_apart(library, None) for library in (fastrnn, keras))
    before = ours.get_weights()
    ours.train_on_batch(x, x)
    for one, other in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="No gradients provided"):
        theirs.train_on_batch(x, x)


@pytest.mark.filterwarnings("ignore:(?s)Gradients do not exist")
def test_constraint_of_a_weight_without_a_gradient():
    x = np.ones((3, 2), np.float32)
    ours, theirs = (model_with_weights_apart(library, "non_neg") for library in (fastrnn, keras))
    for model, expected in ((ours, [0, 0]), (theirs, [-1, -1])):
        model.train_on_batch(x, 0 * x)
        used, apart = model.get_weights()
        assert used < 1
        np.testing.assert_array_equal(apart, expected)


def own_config(base, keywords):
    """A user's class that does not say get_config."""

    class Own(base):
        if keywords:

            def __init__(self, units, rate=0.5, **kwargs):
                super().__init__(**kwargs)
                self.units = units

        else:

            def __init__(self, units=3, rate=0.5):
                super().__init__()
                self.units = units

        def call(self, x):
            return x

    return Own


def test_automatic_config_of_models():
    ours, theirs = (own_config(lib.Model, False) for lib in (fastrnn, keras))
    assert ours(4).get_config()["units"] == 4 and theirs(4).get_config()["units"] == 3
    assert ours.from_config(ours(4).get_config()).units == 4
    ours, theirs = (own_config(lib.Model, True) for lib in (fastrnn, keras))
    assert ours.from_config(ours(4).get_config()).units == 4
    with pytest.raises(NotImplementedError, match="non-serializable argument"):
        theirs(4).get_config()


def test_automatic_config_without_keywords():
    ours, theirs = (own_config(lib.layers.Layer, False) for lib in (fastrnn, keras))
    assert ours.from_config(ours(4).get_config()).units == 4
    with pytest.raises(TypeError, match="trainable"):
        theirs.from_config(theirs(4).get_config())


def test_name_in_an_automatic_config():
    for library, always in ((fastrnn, True), (keras, False)):

        class Own(library.layers.Layer):
            def __init__(self, units, **options):
                super().__init__(**options)

        assert ("name" in Own(4).get_config()) is always
        of_kwargs = own_config(library.layers.Layer, True)
        assert of_kwargs(4, name="given").get_config()["name"] == "given"
        assert "name" in of_kwargs(4).get_config()
