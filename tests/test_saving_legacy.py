"""Files of Keras 1 and 2, written here after their published format, against float64 NumPy."""

import json

import numpy as np
import pytest

import fastrnn
from fastrnn.models import load_model, model_from_json

h5py = pytest.importorskip("h5py", reason="needs h5py to make files")
UNITS, FEATURES = 3, 2


def hard_sigmoid_of_keras_2(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def hard_sigmoid_of_keras_3(x):
    return np.clip(x / 6 + 0.5, 0, 1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, kernel, recurrent, bias, gate):
    h = c = np.zeros((len(x), recurrent.shape[0]))
    for t in range(x.shape[1]):
        i, f, z, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = gate(f) * c + gate(i) * np.tanh(z)
        h = gate(o) * np.tanh(c)
    return h


def layer(class_name="LSTM", **options):
    config = {"name": "lstm_1", "trainable": True, "units": UNITS, "activation": "tanh"}
    config |= {"batch_input_shape": [None, 5, FEATURES], "dtype": "float32", **options}
    return {"class_name": class_name, "config": config}


OLD_OPTIONS = {
    "recurrent_activation": "hard_sigmoid", "use_bias": True, "unit_forget_bias": True,
    "implementation": 1, "time_major": False, "unroll": False, "stateful": False,
    "return_sequences": False, "return_state": False, "go_backwards": False,
    "kernel_initializer": {"class_name": "VarianceScaling", "config": {
        "scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None}},
    "recurrent_initializer": {"class_name": "Orthogonal", "config": {
        "gain": 1.0, "seed": None, "dtype": "float32"}},
    "bias_initializer": {"class_name": "Zeros", "config": {}},
    "kernel_regularizer": None, "dropout": 0.0, "recurrent_dropout": 0.0,
}  # fmt: skip


@pytest.fixture
def arrays(rng):
    shapes = (FEATURES, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, 5, FEATURES)).astype(np.float32)


def write(path, layers, arrays, version="2.2.4", as_list=False, training=None, **attributes):
    """A whole model: `arrays` are those of the first layer; names end in :0 as Keras 2's did."""
    config = layers if as_list else {"name": "sequential_1", "layers": layers}
    with h5py.File(path, "w") as file:
        if version is not None:
            file.attrs["keras_version"] = np.bytes_(version)
        file.attrs["backend"] = np.bytes_("tensorflow")
        described = {"class_name": "Sequential", "config": config}
        file.attrs["model_config"] = json.dumps(described).encode()
        if training:
            file.attrs["training_config"] = json.dumps(training).encode()
        for name, value in attributes.items():
            file.attrs[name] = value
        group = file.create_group("model_weights")
        names = [entry["config"]["name"] for entry in layers]
        group.attrs["layer_names"] = np.array([name.encode() for name in names])
        for name in names:
            inner = group.create_group(name)
            held = arrays if name == names[0] else []
            words = ["kernel", "recurrent_kernel", "bias"]
            words = words[: len(held)] if len(held) <= 3 else range(len(held))
            weights = [f"{name}/{word}:0" for word in words]
            inner.attrs["weight_names"] = np.array([w.encode() for w in weights], "S60")
            for weight, array in zip(weights, held, strict=True):
                inner[weight] = array
    return path


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("version", ["2.0.8", "2.2.4-tf", "2.15.0"])
def test_keras_2(version, as_list, arrays, x, tmp_path):
    dropout = {
        "class_name": "Dropout",
        "config": {
            "name": "dropout_1",
            "trainable": True,
            "rate": 0.5,
            "noise_shape": None,
            "seed": None,
        },
    }
    stack = [layer(**OLD_OPTIONS), dropout]  # fmt: skip
    model = load_model(write(tmp_path / "m.h5", stack, arrays, version, as_list))
    expected = lstm(x, *map(np.float64, arrays), hard_sigmoid_of_keras_2)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert model.input_shape == (None, 5, FEATURES)
    # Saved again, it stays the same model.
    with pytest.warns(UserWarning, match=r"'lstm_1'.*hard_sigmoid.*Keras with custom_objects"):
        model.save(tmp_path / "again.keras")
    again = load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("version", "options", "gate"),
    [
        ("2.3.1", {}, hard_sigmoid_of_keras_2),  # the default when it was written
        ("3.1.0", {}, sigmoid),
        ("3.1.0", {"recurrent_activation": "hard_sigmoid"}, hard_sigmoid_of_keras_3),
        ("2.15.0", {"recurrent_activation": "sigmoid"}, sigmoid),
    ],
)
def test_gates_by_version(version, options, gate, arrays, x, tmp_path):
    model = load_model(write(tmp_path / "m.h5", [layer(**options)], arrays, version))
    expected = lstm(x, *map(np.float64, arrays), gate)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_keras_1(arrays, x, tmp_path):
    config = {
        "name": "lstm_1", "batch_input_shape": [None, 5, FEATURES], "output_dim": UNITS,
        "init": "glorot_uniform", "inner_init": "orthogonal", "forget_bias_init": "one",
        "activation": "tanh", "inner_activation": "hard_sigmoid", "W_regularizer": None,
        "U_regularizer": None, "b_regularizer": None, "dropout_W": 0.2, "dropout_U": 0.1,
        "consume_less": "cpu", "input_dim": FEATURES, "input_length": 5, "trainable": True,
    }  # fmt: skip
    dropout = {"class_name": "Dropout", "config": {"name": "dropout_1", "p": 0.5}}
    stack = [{"class_name": "LSTM", "config": config}, dropout]
    model = load_model(write(tmp_path / "m.h5", stack, arrays, None, as_list=True))
    expected = lstm(x, *map(np.float64, arrays), hard_sigmoid_of_keras_2)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert model.layers[0].dropout == 0.2 and model.layers[0].recurrent_dropout == 0.1
    assert model.layers[1].rate == 0.5


def keras_1(class_name, name, **options):
    config = {
        "name": name, "trainable": True, "init": "glorot_uniform", "activation": "tanh",
        "output_dim": UNITS, "W_regularizer": None, "b_regularizer": None, "input_dim": FEATURES,
        "input_length": 5, "batch_input_shape": [None, 5, FEATURES], **options,
    }  # fmt: skip
    return {"class_name": class_name, "config": config}


def gates_apart(arrays, order):
    """As Keras 1 wrote a recurrent layer: kernel, recurrent kernel and bias of each gate."""
    parts = [np.split(array, len(order), axis=-1) for array in arrays]
    return [part[gate] for gate in order for part in parts]


RECURRENT_1 = {"inner_init": "orthogonal", "inner_activation": "hard_sigmoid", "dropout_W": 0.0}


@pytest.mark.parametrize("both", [False, True])
def test_keras_1_with_the_gates_apart(both, arrays, x, tmp_path):
    options = {**RECURRENT_1, "forget_bias_init": "one", "consume_less": "cpu"}
    entry, held = keras_1("LSTM", "lstm_1", **options), gates_apart(arrays, (0, 2, 1, 3))
    expected = lstm(x, *map(np.float64, arrays), hard_sigmoid_of_keras_2)
    if both:
        config = {"name": "both", "merge_mode": "concat", "layer": entry}
        config["batch_input_shape"] = entry["config"].pop("batch_input_shape")
        entry, held = {"class_name": "Bidirectional", "config": config}, 2 * held
        backward = lstm(x[:, ::-1], *map(np.float64, arrays), hard_sigmoid_of_keras_2)
        expected = np.concatenate([expected, backward], axis=1)
    model = load_model(write(tmp_path / "m.h5", [entry], held, None, as_list=True))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_gru_of_keras_1(x, rng, tmp_path):
    shapes = (FEATURES, 3 * UNITS), (UNITS, 3 * UNITS), (3 * UNITS,)
    kernel, recurrent, bias = arrays = [rng.standard_normal(shape).astype("f4") for shape in shapes]
    entry, held = keras_1("GRU", "gru_1", **RECURRENT_1), gates_apart(arrays, (0, 1, 2))
    model = load_model(write(tmp_path / "m.h5", [entry], held, None, as_list=True))
    h = np.zeros((len(x), UNITS))
    for t in range(x.shape[1]):
        from_x = np.split(x[:, t] @ kernel + bias, 3, axis=1)
        u_z, u_r, u_h = np.split(recurrent, 3, axis=1)
        z = hard_sigmoid_of_keras_2(from_x[0] + h @ u_z)
        r = hard_sigmoid_of_keras_2(from_x[1] + h @ u_r)
        h = z * h + (1 - z) * np.tanh(from_x[2] + (r * h) @ u_h)
    np.testing.assert_allclose(model.predict(x, verbose=0), h, rtol=1e-5, atol=1e-6)


def test_time_distributed_dense_of_keras_1(x, rng, tmp_path):
    kernel, bias = rng.standard_normal((FEATURES, UNITS)), rng.standard_normal(UNITS)
    entry = keras_1("TimeDistributedDense", "timedistributeddense_1")
    path = write(tmp_path / "m.h5", [entry], [kernel, bias], None, as_list=True)
    y = load_model(path).predict(x, verbose=0)
    np.testing.assert_allclose(y, np.tanh(x @ kernel + bias), rtol=1e-5, atol=1e-6)


def cudnn_form(kernel, recurrent, bias, gates):
    """The arrays in which CuDNNLSTM and CuDNNGRU kept what these compute with: for each gate the
    matrix from inputs to units, row after row, and the bias in two parts."""
    columns = [part.T.ravel().reshape(part.shape) for part in np.split(kernel, gates, axis=1)]
    squares = [part.T for part in np.split(recurrent, gates, axis=1)]
    return [np.hstack(columns), np.hstack(squares), bias]


def test_cudnn_lstm(arrays, x, rng, tmp_path):
    kernel, recurrent, _ = arrays
    bias = rng.standard_normal((2, 4 * UNITS)).astype(np.float32)
    stored = cudnn_form(kernel, recurrent, bias.ravel(), 4)
    model = load_model(write(tmp_path / "m.h5", [layer("CuDNNLSTM")], stored))
    expected = lstm(x, *map(np.float64, (kernel, recurrent, bias.sum(axis=0))), sigmoid)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_cudnn_gru(x, rng, tmp_path):
    kernel, recurrent = rng.standard_normal((2, 3 * UNITS)), rng.standard_normal((3, 3 * UNITS))
    bias = rng.standard_normal((2, 3 * UNITS))
    stored = [a.astype(np.float32) for a in cudnn_form(kernel, recurrent, bias.ravel(), 3)]
    model = load_model(write(tmp_path / "m.h5", [layer("CuDNNGRU")], stored))
    h = np.zeros((4, UNITS))
    for t in range(5):
        from_x = np.split(x[:, t] @ kernel + bias[0], 3, axis=1)
        from_h = np.split(h @ recurrent + bias[1], 3, axis=1)
        z, r = (sigmoid(a + b) for a, b in zip(from_x[:2], from_h[:2], strict=True))
        h = z * h + (1 - z) * np.tanh(from_x[2] + r * from_h[2])
    np.testing.assert_allclose(model.predict(x, verbose=0), h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_major": True}, "layer 'lstm_1' .*time_major=True is not supported"),
        ({"surprise": 1}, "layer 'lstm_1' .*unknown arguments.*surprise"),
    ],
)
def test_options_that_cannot_be_followed(options, message, arrays, tmp_path):
    path = write(tmp_path / "m.h5", [layer(**options)], arrays)
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_another_precision(arrays, tmp_path):
    policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    path = write(tmp_path / "m.h5", [layer(dtype=policy)], arrays)
    with pytest.warns(UserWarning, match="'lstm_1' of dtype mixed_float16 will compute in float32"):
        load_model(path)
    path = write(tmp_path / "m.h5", [layer()], [a.astype(">f8") for a in arrays])
    for ours, theirs in zip(load_model(path).get_weights(), arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_compile_arguments_of_tf_keras_2(arrays, x, tmp_path):
    training = {
        "optimizer_config": {"class_name": "Adam", "config": {
            "name": "Adam", "learning_rate": 0.01, "decay": 0.0, "beta_1": 0.9, "beta_2": 0.999,
            "epsilon": 1e-07, "amsgrad": False}},
        "loss": {"class_name": "BinaryCrossentropy", "config": {
            "reduction": "auto", "name": "binary_crossentropy", "from_logits": True,
            "label_smoothing": 0}},
        "metrics": [[{"class_name": "MeanMetricWrapper", "config": {
            "name": "acc", "dtype": "float32", "fn": "binary_accuracy"}}]],
        "weighted_metrics": None, "loss_weights": None, "sample_weight_mode": None,
    }  # fmt: skip
    model = load_model(write(tmp_path / "m.h5", [layer()], arrays, "2.4.0", training=training))
    assert model.optimizer.learning_rate == pytest.approx(0.01)
    assert model.loss.from_logits is True
    y = np.ones((4, UNITS), np.float32)
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    expected = np.mean(np.log1p(np.exp(-model.predict(x, verbose=0))))
    assert results["loss"] == pytest.approx(expected, rel=1e-5)
    assert set(results) == {"loss", "acc"}


OLD_STATES = {
    # optimizer -> what its file holds of each weight w, in which order, with which names
    "Adam of Keras 2.2": ("Adam", {}, ["iterations", "m", "v", "one"], "Adam/iterations:0"),
    "Adam of Theano": ("Adam", {}, ["iterations", "m", "v", "one"], "iterations:0"),
    "Adam with amsgrad": ("Adam", {"amsgrad": True}, ["iterations", "m", "v", "u"], "iterations:0"),
    "Adam of tf.keras 2.11": ("Adam", {}, ["iterations", "rate", "mv"], "iteration:0"),
    "RMSprop of Keras 2.2": ("RMSprop", {}, ["v"], "RMSprop/Variable:0"),
    "SGD of Keras 2.2": ("SGD", {}, ["iterations", "m"], "SGD/iterations:0"),
    "SGD with momentum": ("SGD", {"momentum": 0.9}, ["iterations", "m"], "SGD/iterations:0"),
    "Adadelta of Keras 2.2": ("Adadelta", {}, ["m", "v"], "Adadelta/Variable:0"),
}


@pytest.mark.parametrize("name", OLD_STATES)
def test_optimizer_state(name, arrays, x, tmp_path):
    class_name, options, held, first = OLD_STATES[name]
    slots = {key: [np.full(a.shape, i + n, np.float32) for i, a in enumerate(arrays)]
             for key, n in (("m", 10), ("v", 20), ("u", 30))}  # fmt: skip
    state = []
    for key in held:
        if key == "mv":
            state += [a for pair in zip(slots["m"], slots["v"], strict=True) for a in pair]
        elif key in slots:
            state += slots[key]
        elif key == "one":
            state += [np.zeros(1, np.float32)] * len(arrays)
        else:
            state.append(np.array(7, np.int64) if key == "iterations" else np.float32(0.25))
    training = {"optimizer_config": {"class_name": class_name, "config": options}, "loss": "mse"}
    path = write(tmp_path / "m.h5", [layer()], arrays, training=training)
    with h5py.File(path, "a") as file:
        group = file.create_group("optimizer_weights")
        names = [first, *(f"Adam/{i}:0" for i in range(1, len(state)))]
        group.attrs["weight_names"] = np.array([n.encode() for n in names])
        for weight, array in zip(names, state, strict=True):
            group[weight] = array
    model = load_model(path)
    assert model.optimizer.iterations == (7 if "iterations" in held else 0)
    if "rate" in held:
        assert model.optimizer.learning_rate == 0.25
    found = model.optimizer.state()
    kinds = {"momentum": "m", "velocity": "v", "velocity_hat": "u", "accumulated_grad": "m"}
    kinds["accumulated_delta_var"] = "v"
    compared = 0
    for i, weight in enumerate(model.trainable_weights):
        for kind, key in kinds.items():
            array = found.get(f"{weight.path.replace('/', '_')}_{kind}")
            if array is not None:
                np.testing.assert_array_equal(array, slots[key][i])
                compared += 1
    assert compared == sum(array.ndim > 0 for array in found.values())
    model.fit(x, np.zeros((4, UNITS)), verbose=0)  # without a warning


def test_a_state_that_does_not_fit_is_said_when_training(arrays, x, tmp_path):
    training = {"optimizer_config": {"class_name": "Adam", "config": {}}, "loss": "mse"}
    path = write(tmp_path / "m.h5", [layer()], arrays, training=training)
    with h5py.File(path, "a") as file:
        group = file.create_group("optimizer_weights")
        names = [b"iteration:0", *(b"Adam/m%d" % i for i in range(7))]
        group.attrs["weight_names"] = np.array(names)
        for weight in names:
            group[weight] = np.ones((3, 3), np.float32) if b"m" in weight else np.array(7)
    model = load_model(path)
    model.predict(x, verbose=0)
    model.evaluate(x, np.zeros((4, UNITS)), verbose=0)
    with pytest.warns(
        UserWarning, match="'adam' starts anew.*8 variables instead of 8|shape"
    ) as all:
        model.fit(x, np.zeros((4, UNITS)), verbose=0)
    assert len(all) == 1
    model.fit(x, np.zeros((4, UNITS)), verbose=0)


def test_json_says_its_version():
    for version, name in (("2.2.4", "hard_sigmoid_keras2"), ("3.0.0", "hard_sigmoid")):
        described = {"class_name": "Sequential", "config": [layer(**OLD_OPTIONS)]}
        model = model_from_json(json.dumps({**described, "keras_version": version}))
        assert model.layers[0].recurrent_activation is getattr(fastrnn.activations, name)


def test_weights_alone(arrays, tmp_path):
    write(tmp_path / "m.h5", [layer()], arrays)
    with h5py.File(tmp_path / "m.h5") as whole, h5py.File(tmp_path / "w.h5", "w") as alone:
        whole.copy("model_weights", alone, "x")
        alone.attrs["layer_names"] = alone["x"].attrs["layer_names"]
        alone.move("x/lstm_1", "lstm_1")
        del alone["x"]
    model = fastrnn.Sequential(
        [fastrnn.Input((5, FEATURES)), fastrnn.layers.LSTM(UNITS, name="lstm_1")]
    )
    for by_name in (False, True):
        model.set_weights([w + 1 for w in model.get_weights()])
        model.load_weights(tmp_path / "w.h5", by_name=by_name)
        for ours, theirs in zip(model.get_weights(), arrays, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="expected a whole model"):
        load_model(tmp_path / "w.h5")


def of_operations(function="__operators__.add", slices=None):
    """The JSON of Keras 2 of (x + y)[:, 1:]."""
    arguments = {"y": ["y", 0, 0], "name": None}
    slices = slices or [*[{"start": start, "stop": None, "step": None} for start in (None, 1)]]
    entries = [
        ("InputLayer", {"batch_input_shape": [None, 4]}, "x", []),
        ("InputLayer", {"batch_input_shape": [None, 4]}, "y", []),
        ("TFOpLambda", {"function": function}, "tf.add", [["x", 0, 0, arguments]]),
        (
            "SlicingOpLambda", {"function": "__operators__.getitem"}, "tf.get",
            [["tf.add", 0, 0, {"slice_spec": slices}]],
        ),
    ]  # fmt: skip
    layers = [
        {"class_name": c, "config": {"name": n, **config}, "name": n, "inbound_nodes": nodes}
        for c, config, n, nodes in entries
    ]
    ends = {"input_layers": [["x", 0, 0], ["y", 0, 0]], "output_layers": [["tf.get", 0, 0]]}
    config = {"name": "model", "layers": layers, **ends}
    described = {"class_name": "Functional", "config": config, "keras_version": "2.15.0"}
    return json.dumps(described)


def test_operations_of_keras_2():
    model = fastrnn.models.model_from_json(of_operations())
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(model.predict([x, 2 * x], verbose=0), 3 * x[:, 1:])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"function": "py_function"}, "operation 'py_function' of TensorFlow is not supported"),
        ({"function": 5}, "operation 5 of TensorFlow is not supported"),
        ({"function": "reshape"}, "tf.add"),
        ({"slices": [{"start": "x"}]}, "slice_spec: expected numbers and slices"),
        ({"slices": 7}, "tf.get"),
    ],
)
def test_operations_of_keras_2_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fastrnn.models.model_from_json(of_operations(**options))
