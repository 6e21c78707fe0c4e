"""What is not a number: names, freezing, configs, kinds of input; and dropout, whose random numbers
differ, in structure and distribution."""

import inspect

import comparison
import configurations as random_of
import numpy as np
import pytest
from comparison import keras

import fastrnn

pytestmark = pytest.mark.filterwarnings("ignore:.*any trainable weights")

BOTH = pytest.mark.parametrize("library", [fastrnn, keras], ids=["fastrnn", "keras"])
RATE = 0.4

LAYERS = (
    ("Activation", {"activation": "gelu"}),
    ("BatchNormalization", {"momentum": 0.8, "scale": False, "beta_constraint": "NonNeg"}),
    ("Dense", {"units": 3, "activation": "relu", "kernel_regularizer": "l2", "use_bias": False}),
    ("Dropout", {"rate": 0.3, "seed": 4, "noise_shape": (None, 1, 3)}),
    ("Embedding", {"input_dim": 9, "output_dim": 3, "mask_zero": True}),
    ("Flatten", {}),
    ("LSTM", {"units": 3, "dropout": 0.2, "recurrent_regularizer": "l1", "stateful": True}),
    ("LSTM", {"units": 3, "activity_regularizer": "l1", "bias_constraint": "NonNeg"}),
    ("Masking", {"mask_value": -1.0}),
    ("RepeatVector", {"n": 3}),
    ("Reshape", {"target_shape": (2, -1)}),
    ("TimeDistributed", {"layer": ("Dense", {"units": 2})}),
    ("Bidirectional", {"layer": ("LSTM", {"units": 2}), "merge_mode": "ave"}),
    (
        "Bidirectional",
        {
            "layer": ("LSTM", {"units": 2}),
            "backward_layer": ("LSTM", {"units": 2, "activation": "relu", "go_backwards": True}),
            "merge_mode": None,
        },
    ),
    *(
        (name, {"units": 3, "recurrent_dropout": 0.1, "return_state": True})
        for name in random_of.RECURRENT
    ),
)


# What completion offers besides Keras's names: for layers of one's own, older names, weights.
OWN_NAMES = {
    *("backward", "forward", "create_weights", "check_input_shape", "reject_shape", "fixed_axes"),
    *("batch_dependent", "gradient_array", "batch_input_shape", "input_shape", "output_shape"),
    *("kernel", "recurrent_kernel", "bias", "gamma", "beta", "seed", "layer", "activation"),
    *("recurrent_activation", "use_cudnn"),
}
OWN_NAMES_OF_MODELS = {
    *("compile_inference", "stream", "history", "initial_epoch", "stop_training", "optimizer"),
    *("reset_state", "reset_states", "fit_generator", "evaluate_generator", "predict_generator"),
    *("predict_classes", "predict_proba", "batch_input_shape"),
    *("stop_evaluating", "stop_predicting"),
}


def offered(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec[0])
def test_completion_of_layers(spec):
    extra = offered(random_of.build(fastrnn, spec)) - offered(random_of.build(keras, spec))
    assert extra <= OWN_NAMES


def test_completion_of_models():
    ours, theirs = (lib.Sequential([lib.layers.Dense(2)]) for lib in (fastrnn, keras))
    assert offered(ours) - offered(theirs) <= OWN_NAMES_OF_MODELS


def plain(config):
    """Tuples as lists, as JSON would have them."""
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items()}
    return [plain(v) for v in config] if isinstance(config, (list, tuple)) else config


def without_modules(config):
    """A config without what says where and how Keras stores it (dtype policies, build shapes), and
    without the axes of initializers (test_differences.py)."""
    if isinstance(config, dict):
        dropped = ("module", "registered_name", "build_config", "dtype", "shared_object_id")
        dropped += ("input_axes", "output_axes")
        kept = {k: v for k, v in config.items() if k not in dropped and v is not None}
        return {k: without_modules(v) for k, v in kept.items()}
    return [without_modules(v) for v in config] if isinstance(config, list) else config


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec[0])
def test_layer_configs_are_exchanged(spec, tally):
    """Each library builds the other's config, and describes the layer it gets in the same way."""
    ours, theirs = random_of.build(fastrnn, spec), random_of.build(keras, spec)
    config = plain(theirs.get_config())
    twin = type(ours).from_config(config)
    back = type(theirs).from_config(twin.get_config())
    assert without_modules(plain(back.get_config())) == without_modules(config)
    mine = without_modules(plain(twin.get_config()))
    common = {k: v for k, v in without_modules(config).items() if k in mine}
    assert {k: mine[k] for k in common} == common
    tally.compared("configs")


def objects(module, names):
    return [(module, name) for name in names]


@pytest.mark.parametrize(
    "module, name",
    [
        *objects("losses", [cls.__name__ for cls in fastrnn.losses._CLASSES]),
        *objects("optimizers", random_of.OPTIMIZERS),
        *objects("regularizers", ("L1", "L2", "L1L2", "OrthogonalRegularizer")),
        *objects("constraints", ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")),
        *objects(
            "initializers",
            (
                "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity",
                "LecunNormal", "LecunUniform", "Ones", "Orthogonal", "RandomNormal",
                "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros",
            ),
        ),
        *objects("metrics", ("AUC", "Precision", "F1Score", "BinaryAccuracy", "Mean")),
    ],
)  # fmt: skip
def test_other_configs_are_exchanged(module, name, tally):
    mine = getattr(getattr(fastrnn, module), name)
    theirs = getattr(getattr(keras, module), name)
    config = plain(theirs().get_config())
    twin = mine.from_config(config)
    again = plain(theirs.from_config(twin.get_config()).get_config())
    for key in ("dtype", "seed", "input_axes", "output_axes"):
        config.pop(key, None), again.pop(key, None)
    assert set(again) == set(config)
    for key, value in config.items():
        if isinstance(value, float):
            assert again[key] == pytest.approx(value, rel=1e-6)
        else:
            assert again[key] == value
    tally.compared("configs")


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec[0])
def test_arguments_and_their_defaults(spec, tally):
    """Every argument of Keras's layer (but for LoRA's) is accepted, and has the same default."""
    name, options = spec
    mine, theirs = (
        inspect.signature(getattr(lib.layers, name).__init__).parameters for lib in (fastrnn, keras)
    )
    for argument, parameter in theirs.items():
        if parameter.default is inspect.Parameter.empty:
            continue
        if argument in mine:
            assert mine[argument].default == parameter.default, argument
        elif argument not in options and not argument.startswith("lora_"):
            random_of.build(fastrnn, (name, {**options, argument: parameter.default}))
    positional = [n for n, p in theirs.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    own = [n for n in mine if n in positional]
    assert own == [n for n in positional if n in mine]  # in the same order
    tally.compared("arguments")


# named in test_differences.py
NOT_TAKEN = {
    "add": {"rebuild"},
    "save": {"zipped"},
    "save_weights": {"max_shard_size"},
    "SparseTopKCategoricalAccuracy": {"from_sorted_ids"},
}
METHODS = (
    "add", "compile", "evaluate", "fit", "get_layer", "load_weights", "predict",
    "predict_on_batch", "save", "save_weights", "test_on_batch", "train_on_batch",
)  # fmt: skip


def classes(module):
    """(class of fastrnn, class of Keras) for all names of a module that both have."""
    for name in dir(getattr(keras, module)):
        pair = [getattr(getattr(lib, module), name, None) for lib in (fastrnn, keras)]
        if all(map(inspect.isclass, pair)):
            yield pair


def same_arguments(mine, theirs, name, keywords=()):
    """Keras's arguments and defaults, in its order; `keywords` are accepted without being named."""
    own, wanted = inspect.signature(mine).parameters, inspect.signature(theirs).parameters
    variable = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    wanted = {n: p for n, p in wanted.items() if p.kind not in variable}
    missing = set(wanted) - set(own) - set(keywords)
    assert missing == NOT_TAKEN.get(name, set()), name
    for argument in set(wanted) & set(own) - {"name"}:  # a loss is named after its class by None
        assert own[argument].default == wanted[argument].default, (name, argument)
    assert [n for n in own if n in wanted] == [n for n in wanted if n in own], name


@pytest.mark.parametrize(
    "module",
    ["callbacks", "constraints", "initializers", "losses", "metrics", "optimizers", "regularizers"],
)
def test_arguments_of_other_classes(module, tally):
    pairs = list(classes(module))
    assert len(pairs) >= 4
    for mine, theirs in pairs:
        keywords = ()
        if module == "optimizers" and theirs is not keras.optimizers.Optimizer:
            keywords = set(inspect.signature(theirs.__init__).parameters)
            keywords -= set(inspect.signature(mine.__init__).parameters) | {"kwargs"}
            defaults = inspect.signature(theirs.__init__).parameters
            for option in keywords:
                mine(**{option: defaults[option].default})
        same_arguments(mine.__init__, theirs.__init__, theirs.__name__, keywords)
        tally.compared("arguments")


@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_a_model(method, tally):
    mine, theirs = (getattr(lib.Sequential, method) for lib in (fastrnn, keras))
    same_arguments(mine, theirs, method)
    tally.compared("arguments")


def test_masking_wants_all_features_equal(tally):
    """A step that equals mask_value in some features only is kept; a masked one becomes 0."""
    x = np.random.default_rng(9).integers(-1, 1, (20, 6, 2)).astype(np.float32)
    for value in (0.0, -1.0):
        mine, theirs = fastrnn.layers.Masking(value), keras.layers.Masking(value)
        expected = mine.compute_mask(x), mine(x)
        np.testing.assert_array_equal(expected[0], theirs.compute_mask(comparison.tensor(x)))
        np.testing.assert_array_equal(expected[1], theirs(x))
        assert (mine(x)[~mine.compute_mask(x)] == 0).all()
        assert ((x == value).any(axis=-1) & mine.compute_mask(x)).any()
    tally.compared("masking")


@BOTH
@pytest.mark.parametrize("option", ["go_backwards", "stateful", "return_sequences", "return_state"])
def test_directions_have_to_fit(library, option):
    layers = library.layers
    options = {"go_backwards": option != "go_backwards", option: option != "go_backwards"}
    with pytest.raises(ValueError, match=option):
        layers.Bidirectional(layers.LSTM(2), backward_layer=layers.LSTM(2, **options))


@BOTH
@pytest.mark.parametrize("name", random_of.RECURRENT)
def test_stateful_wants_one_batch_size(library, name):
    layer = getattr(library.layers, name)(2, stateful=True)
    layer(np.zeros((3, 4, 2), np.float32))
    with pytest.raises(ValueError, match="stateful"):
        layer(np.zeros((2, 4, 2), np.float32))


@pytest.mark.parametrize("schedule", random_of.SCHEDULES, ids=lambda s: s[0])
def test_schedules(schedule, tally):
    name, options = schedule
    mine = getattr(fastrnn.optimizers.schedules, name)(**options)
    theirs = getattr(keras.optimizers.schedules, name)(**options)
    for step in range(12):
        assert float(mine(step)) == pytest.approx(float(theirs(step)), rel=1e-5)
    assert type(mine).from_config(theirs.get_config()).get_config() == mine.get_config()
    tally.compared("schedules")


def stack(library, trainable=()):
    layers = library.layers
    model = library.Sequential(
        [
            library.Input((5, 4)),
            layers.Masking(),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.BatchNormalization(),
            layers.TimeDistributed(layers.Dense(2)),
            layers.LSTM(3, name="last"),
        ]
    )
    for index in trainable:
        model.layers[index].trainable = False
    return model


def path(weight):
    """Without the names of the model and of the cell, which only Keras has."""
    parts = weight.path.removeprefix("sequential/").split("/")
    return [part for part in parts if not part.endswith("_cell")]


@pytest.mark.parametrize("frozen", [(), (1,), (2,), (1, 3), (4,), (0, 1, 2, 3, 4)])
def test_names_and_freezing(frozen, tally):
    mine, theirs = stack(fastrnn, frozen), stack(keras, frozen)
    assert [la.name for la in mine.layers] == [la.name for la in theirs.layers]
    for group in ("weights", "trainable_weights", "non_trainable_weights"):
        named = [[(path(w), tuple(w.shape)) for w in getattr(m, group)] for m in (mine, theirs)]
        assert named[0] == named[1], group
        for a, b in zip(mine.layers, theirs.layers, strict=True):
            assert [w.name for w in getattr(a, group)] == [w.name for w in getattr(b, group)]
    assert mine.count_params() == theirs.count_params()
    mine.set_weights(theirs.get_weights())
    rng = np.random.default_rng(5)
    x, y = random_of.normal(rng, 6, 5, 4), random_of.normal(rng, 6, 3)
    for model in (mine, theirs):
        model.compile("sgd", "mse", run_eagerly=True)
        model.fit(x, y, epochs=2, batch_size=3, shuffle=False, verbose=0)
    for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    tally.compared("names and freezing")


@pytest.mark.parametrize("name", random_of.RECURRENT)
def test_initial_weights_have_the_same_distribution(name, tally):
    """Glorot's limits, an orthogonal recurrent kernel, ones in the forget gate."""
    layers = [getattr(lib.layers, name)(40) for lib in (fastrnn, keras)]
    for layer in layers:
        layer.build((None, 3, 30))
    (kernel, recurrent, bias), (k, r, b) = (layer.get_weights() for layer in layers)
    np.testing.assert_array_equal(bias, b)
    assert abs(kernel).max() == pytest.approx(abs(k).max(), rel=0.02)
    assert kernel.std() == pytest.approx(k.std(), rel=0.05)
    for matrix in (recurrent, r):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(40), atol=1e-5)
    tally.compared("initial weights")


KINDS = {
    "int64": lambda x: (3 * x).astype(np.int64),
    "bool": lambda x: x > 0,
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "uint8": lambda x: (abs(x) * 10).astype(np.uint8),
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: x[::-1, ::-1],
    "transposed": lambda x: x.transpose(2, 1, 0).copy().transpose(2, 1, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_input(kind, tally):
    rng = np.random.default_rng(6)
    x = KINDS[kind](random_of.normal(rng, 6, 5, 4))
    y = np.asarray(rng.integers(0, 2, (6, 3)), {"bool": bool}.get(kind, np.int64))
    mine, theirs = stack(fastrnn), stack(keras)
    mine.set_weights(theirs.get_weights())
    results = []
    for model in (mine, theirs):
        model.compile("sgd", "mse", run_eagerly=True)
        results.append([model.predict(x, verbose=0), model.train_on_batch(x, y)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert results[0][0].dtype == results[1][0].dtype == np.float32
    tally.compared("kinds of input")


@pytest.mark.parametrize("kind", ["int64", "uint8", "float32", "bool"])
def test_kinds_of_indices(kind, tally):
    tokens = np.random.default_rng(7).integers(0, 2 if kind == "bool" else 9, (4, 5)).astype(kind)
    results = []
    for library in (fastrnn, keras):
        layers = library.layers
        model = library.Sequential([layers.Embedding(9, 3, mask_zero=True), layers.LSTM(2)])
        model.build((None, 5))
        weights = [np.random.default_rng(8).normal(size=w.shape) for w in model.get_weights()]
        model.set_weights(weights)
        results.append(model.predict(tokens, verbose=0))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)
    tally.compared("kinds of input")


def seen_through(library, **options):
    """An LSTM whose weights let its dropout masks be read: what it puts out in training, and in
    inference, for inputs of one, each (batch, timesteps, units)."""
    units = 6
    layer = library.layers.LSTM(units, use_bias=True, return_sequences=True, **options)
    layer.build((None, 5, units))
    kernel = np.zeros((units, 4, units), np.float32)
    kernel[:, 2] = np.eye(units)  # one input for each unit, through the cell candidate only
    bias = np.repeat(np.array([30, -30, 0, 30], np.float32), units)  # i and o open, f shut
    recurrent = np.zeros((units, 4 * units), np.float32)
    if options.get("recurrent_dropout"):
        recurrent[:, 2 * units : 3 * units] = np.eye(units)
    layer.set_weights([kernel.reshape(units, -1), recurrent, bias])
    x = np.full((400, 5, units), 0.5, np.float32)
    return [np.asarray(layer(x, training=training)) for training in (True, False)]


@BOTH
def test_dropout_of_a_recurrent_layer(library, tally):
    """One mask for all time steps, kept inputs scaled by 1 / (1 - rate), none in inference."""
    trained, inferred = seen_through(library, dropout=RATE)
    assert (trained == trained[:, :1]).all()
    np.testing.assert_allclose(inferred, np.tanh(np.tanh(0.5)), rtol=1e-5)
    dropped = trained[:, 0] == 0
    np.testing.assert_allclose(
        trained[:, 0][~dropped], np.tanh(np.tanh(0.5 / (1 - RATE))), rtol=1e-5
    )
    assert dropped.mean() == pytest.approx(RATE, abs=4 * (RATE * (1 - RATE) / dropped.size) ** 0.5)
    assert len({row.tobytes() for row in dropped}) > 40  # sequences differ
    tally.compared("dropout")


@BOTH
def test_recurrent_dropout(library, tally):
    """The mask on the previous output is the same from step to step and scales what it keeps."""
    trained, inferred = seen_through(library, recurrent_dropout=RATE)
    first = np.tanh(np.tanh(0.5))
    np.testing.assert_allclose(trained[:, 0], first, rtol=1e-5)
    dropped = abs(trained[:, 1] - first) < 1e-5
    h = np.full(trained[:, 0].shape, first)
    for t in range(1, 5):
        h = np.tanh(np.tanh(0.5 + np.where(dropped, 0, h / (1 - RATE))))
        np.testing.assert_allclose(trained[:, t], h, rtol=1e-4)
    assert dropped.mean() == pytest.approx(RATE, abs=4 * (RATE * (1 - RATE) / dropped.size) ** 0.5)
    h = np.full(inferred[:, 0].shape, first)
    for t in range(1, 5):
        h = np.tanh(np.tanh(0.5 + h))
        np.testing.assert_allclose(inferred[:, t], h, rtol=1e-4)
    tally.compared("dropout")


@BOTH
@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout"])
def test_rate_of_one_drops_nothing(library, option, tally):
    trained, inferred = seen_through(library, **{option: 1.0})
    np.testing.assert_allclose(trained, inferred, rtol=1e-6)
    tally.compared("dropout")


@BOTH
@pytest.mark.parametrize("recurrent_dropout, masks", [(0.0, 1), (0.01, 4)])
def test_number_of_input_masks(library, recurrent_dropout, masks, tally):
    """Any recurrent dropout makes Keras draw an input mask for each gate; one without."""
    layer = library.layers.LSTM(
        1, "linear", "linear", dropout=0.5, recurrent_dropout=recurrent_dropout
    )
    layer.build((None, 1, 1))
    # One step from zero states: h = i o g, with i = 1 or 3, o = 1 or 5, g = 1 or 9.
    kernel = np.array([[1, 0, 4, 2]], np.float32)
    layer.set_weights([kernel, np.zeros((1, 4), np.float32), np.ones(4, np.float32)])
    h = np.asarray(layer(np.ones((500, 1, 1), np.float32), training=True))
    seen = {round(float(v)) for v in h.ravel()}
    expected = (
        {1, 3 * 5 * 9}
        if masks == 1
        else {i * o * g for i in (1, 3) for o in (1, 5) for g in (1, 9)}
    )
    assert seen == expected
    tally.compared("dropout")


@BOTH
def test_gradient_goes_through_the_mask_of_the_forward_pass(library, tally):
    """d(sum of y)/dx is 1 / (1 - rate) where y is not zero, and zero where it is."""
    x = np.ones((50, 4, 3), np.float32)
    if library is keras:
        x = comparison.tensor(x)
        with comparison.tf.GradientTape() as tape:
            tape.watch(x)
            y = keras.layers.Dropout(RATE)(x, training=True)
        dx = tape.gradient(y, x).numpy()
    else:
        layer, run = fastrnn.layers.Dropout(RATE), fastrnn.run.Run(training=True)
        layer.build((None, 4, 3))
        y = layer.forward(x, run).copy()
        dx = layer.backward(np.ones_like(x), run)
    y = np.asarray(y)
    assert 0 < (y == 0).mean() < 1
    np.testing.assert_allclose(dx, y, rtol=1e-6)
    np.testing.assert_allclose(dx[dx > 0], 1 / (1 - RATE), rtol=1e-6)
    tally.compared("dropout")


def test_both_hard_sigmoids(tally):
    x = np.linspace(-4, 4, 81, dtype=np.float32)
    hard = fastrnn.activations.hard_sigmoid(x)
    np.testing.assert_allclose(hard, keras.activations.hard_sigmoid(x), atol=1e-6)
    old = fastrnn.activations.get("hard_sigmoid_keras2")(x)
    np.testing.assert_allclose(old, np.clip(0.2 * x + 0.5, 0, 1), atol=1e-6)
    assert fastrnn.activations.get("hard_sigmoid") is fastrnn.activations.hard_sigmoid
    tally.compared("activations")


@BOTH
def test_weights_given_to_an_embedding(library, tally):
    table = random_of.normal(np.random.default_rng(10), 4, 3)
    embedded = library.layers.Embedding(4, 3, weights=[table])(np.array([[2, 0]]))
    np.testing.assert_array_equal(np.asarray(embedded), table[[[2, 0]]])
    tally.compared("initial weights")


@pytest.mark.parametrize("place", ["below", "in the middle"])
def test_masks_leave_inner_models(place, rng):
    x = rng.standard_normal((3, 7, 4)).astype(np.float32)
    x[:, 4:] = 0
    models = []
    for library in (keras, fastrnn):
        layers = library.layers
        inner = library.Sequential([layers.Masking(), layers.LSTM(4, return_sequences=True)])
        below = [layers.Dropout(0.2)] if place == "in the middle" else []
        models.append(library.Sequential([library.Input((7, 4)), *below, inner, layers.LSTM(5)]))
    theirs, mine = models
    mine.set_weights(theirs.get_weights())
    expected = theirs.predict(x, verbose=0)
    for y in (mine.predict(x, verbose=0), mine.compile_inference()(x), mine(x)):
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)
