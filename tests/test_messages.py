"""Typical mistakes: the message names the argument, what was expected and what came."""

import inspect

import numpy as np
import pytest

from fastrnn import callbacks, layers, losses, metrics, optimizers, schedules
from fastrnn.layers import (
    LSTM,
    Bidirectional,
    Conv1D,
    Dense,
    Embedding,
    Input,
    Layer,
    MaxPooling1D,
    TimeDistributed,
)
from fastrnn.models import Sequential

LACKS_AN_AXIS = r"; x\[\.\.\., None\] gives each step one feature, x\[None\] is one sample$"
RNG = np.random.default_rng(0)
X = RNG.random((20, 6, 3)).astype(np.float32)
Y = RNG.integers(0, 3, 20)


def network(outputs=3, loss="sparse_categorical_crossentropy", compiled=True):
    activation = "softmax" if outputs > 1 else "sigmoid"
    model = Sequential([Input((6, 3)), LSTM(4), Dense(outputs, activation=activation)])
    if compiled:
        model.compile("adam", loss, metrics=["accuracy"])
    return model


def fit(x=X, y=Y, model=None, **options):
    (network() if model is None else model).fit(x, y, verbose=0, **options)


def unbuilt():
    model = Sequential([LSTM(4), Dense(3)])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def stream(streams, features=3):
    return Sequential([Input((None, features)), LSTM(4)]).stream(streams)


def one_hot(**options):
    return network(loss="categorical_crossentropy", **options)


@pytest.mark.parametrize(
    "mistake, message",
    [
        (lambda: network().predict(X[0]), r"received \(6, 3\); x\[None\] is one sample"),
        (lambda: fit(X[:, :, :2]), r"of shape \(None, 6, 3\), received \(20, 6, 2\)$"),
        (lambda: fit([[1, 2], [3]], [0, 1]), "x: .*dtype object; .*lengths need pad_sequences"),
        (lambda: fit(["a text"], [0]), "x: expected an array of numbers.*<U6; text needs .*Token"),
        (lambda: fit(y=["a", "b"] * 10), "y: expected an array of numbers.*<U1; .*names of class"),
        (lambda: fit(X.astype(complex)), "x: .* received dtype complex128$"),
        (lambda: fit(y=None), "y: expected targets .* received None"),
        (lambda: fit(y=np.eye(3)[Y]), r"y: .*of shape \(20,\).*\(20, 3\); .* categorical_c"),
        (lambda: fit(y=np.zeros((20, 2))), r"y: .*numbers of shape \(20,\), received .*\(20, 2\)$"),
        (lambda: fit(model=one_hot()), r"y: .*\(20, 3\).*\(20,\); class numbers need to_c"),
        (
            lambda: fit(y=np.eye(4)[Y], model=one_hot()),
            r"y: expected shape \(20, 3\) as the outputs, received \(20, 4\)$",
        ),
        (lambda: fit(y=Y + 2), r"expected labels in \[0, 3\).* received [34]"),
        (lambda: fit(y=np.full(20, np.nan)), "expected labels, received NaN"),
        (lambda: fit(((X, np.eye(3)) for _ in "a"), None), "y: expected as many samples as x"),
        (lambda: fit(((X, Y[:, None, None]) for _ in "a"), None), r"y: .*received .*\(20, 1, 1\)$"),
        (lambda: network().evaluate(X, np.eye(3)[Y]), "y: expected class numbers"),
        (lambda: network().train_on_batch(X, np.eye(3)[Y]), "y: expected class numbers"),
        (lambda: fit(validation_data=X), r"validation_data: .*array of shape \(20, 6, 3\)"),
        (lambda: fit(validation_data=(X, Y[:3])), "validation_data: y: expected as many samples"),
        (lambda: network(compiled=False).compile("adamm", "mse"), "adamm'; did you mean 'adam'"),
        (lambda: network(loss="mean_square_error"), "loss: .*; did you mean 'mean_squared_error'"),
        (lambda: LSTM(4, retrun_sequences=1), "LSTM: .*; did you mean 'return_sequences'"),
        (lambda: LSTM(4, input_sizes=3), r"LSTM: unknown arguments \['input_sizes'\]$"),
        (lambda: optimizers.Adam(learning_rat=1), "Adam: .*; did you mean 'learning_rate'"),
        (
            lambda: Sequential([Input((6, 3)), LSTM(4, name="low"), LSTM(4)]),
            r"\(batch, timesteps, features\) .* received \(None, 4\); with return_sequences=True, "
            "'low' gives all time steps$",
        ),
        (lambda: LSTM(4)(X[..., 0]), rf"received \(None, 6\){LACKS_AN_AXIS}"),
        (lambda: Conv1D(4, 2)(X[0]), rf"received \(None, 3\){LACKS_AN_AXIS}"),
        (lambda: MaxPooling1D()(X[0]), rf"received \(None, 3\){LACKS_AN_AXIS}"),
        (lambda: TimeDistributed(Dense(2))(X[0]), rf"received \(None, 3\){LACKS_AN_AXIS}"),
        (lambda: Bidirectional(LSTM(4))(X[0]), rf"received \(None, 3\){LACKS_AN_AXIS}"),
        (
            lambda: fit(X[..., 0], model=unbuilt()),
            rf"received \(None, 6\){LACKS_AN_AXIS}",
        ),
        (lambda: stream(1)(X[0, 0]), r"received shape \(3,\); x\[None\] is one step of one$"),
        (lambda: stream(1)(X[0]), r"received shape \(6, 3\); x\[None\] is the steps of one$"),
        (
            lambda: stream(2)(X[0]),
            r"expected 2 streams in an array of shape \(2, 'timesteps', 3\), or"
            r" \(2, 3\) for one step, received shape \(6, 3\)$",
        ),
        (
            lambda: stream(6, 1)(X[0, :, 0]),
            r"\(6,\); x\[\.\.\., None\] is one step of one feature$",
        ),
        (
            lambda: network(compiled=False).compile("adam", "mse", metrics=["acuracy"]),
            "^metric: expected one of accuracy, .{,150}, received 'acuracy'; did you mean 'accu",
        ),
        (
            lambda: network(compiled=False).compile("adam", "mse", weighted_metrics=[["mae", 3]]),
            "^metric: expected a name, .* received 3$",
        ),
        (
            lambda: network(compiled=False).compile("adam", "bse"),
            "^loss: .{,200}; did you mean 'mse'",
        ),
        (
            lambda: layers.deserialize({"class_name": "LTSM", "config": {}}),
            "^class_name: .{,150}, received 'LTSM'; did you mean 'LSTM'",
        ),
    ],
)
def test_values(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()


@pytest.mark.parametrize("name, meant", [("epoch", "epochs"), ("units", None)])
def test_unknown_arguments_of_fit(name, meant):
    end = f"; did you mean '{meant}'?" if meant else ""
    with pytest.raises(TypeError) as error:
        fit(**{name: 3})
    assert str(error.value) == f"fit: unknown arguments ['{name}']{end}"


def test_validation_data_is_looked_at_before_training():
    model = network()
    before = model.get_weights()
    for held in ((X[:, :, :2], Y), (X, np.eye(3)[Y])):
        with pytest.raises(ValueError, match="^validation_data: "):
            fit(model=model, validation_data=held)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_forgotten_compile_and_index_out_of_range():
    with pytest.raises(RuntimeError, match=r"call compile\(optimizer=..., loss=...\) before"):
        fit(model=network(compiled=False))
    model = Sequential([Embedding(10, 4), LSTM(4), Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(IndexError, match=r"indices from 0 to 9 \(input_dim - 1\), received 10"):
        fit(np.full((4, 5), 10), np.zeros(4), model)


def test_a_layer_that_computes_nothing():
    class Nothing(Layer):
        pass

    model = Sequential([Input((6, 3)), Nothing(name="none")])
    with pytest.raises(NotImplementedError, match=r"'none' \(Nothing\): expected a method call\("):
        model.predict(X, verbose=0)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.weights.h5"):
        network().load_weights(tmp_path / "nowhere.weights.h5")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="/file'"):
        network().save(tmp_path / "file" / "m.keras")


def test_flags_and_shapes_of_layers_are_named():
    for wrong in ("yes", 2, np.nan, None, [True]):
        with pytest.raises(ValueError, match="trainable: expected True or False, received"):
            layers.Dense(2, trainable=wrong)
        with pytest.raises(ValueError, match="trainable: expected True or False, received"):
            layers.Dense(2).trainable = wrong
    assert layers.Dense(2, trainable=np.bool_(False)).trainable is False
    with pytest.raises(ValueError, match="batch_size: expected None beside batch_shape"):
        layers.Input(batch_size=2, batch_shape=(3, 4))
    with pytest.raises(ValueError, match="one of shape and batch_shape, received shape="):
        layers.Input((4,), batch_shape=(3, 4))


NEEDED = {
    "BackupAndRestore": ["folder"], "CSVLogger": ["a.csv"], "ModelCheckpoint": ["a.keras"],
    "ExponentialDecay": [0.1, 5, 0.9], "InverseTimeDecay": [0.1, 5, 0.9],
    "PolynomialDecay": [0.1, 5],
}  # fmt: skip
FLAGS = [
    (cls, name)
    for module in (optimizers, schedules, losses, metrics, callbacks)
    for cls in map(vars(module).get, module.__all__)
    if inspect.isclass(cls) and cls.__name__ not in ("CallbackList", "TensorBoard")
    for name, parameter in inspect.signature(cls).parameters.items()
    if isinstance(parameter.default, bool)
]


@pytest.mark.parametrize("cls, name", FLAGS, ids=lambda x: x if type(x) is str else x.__name__)
def test_flags_of_all_classes_are_named(cls, name):
    for wrong in ("yes", 2, [True]):
        with pytest.raises(ValueError, match=f"^{name}: expected True or False, received"):
            cls(*NEEDED.get(cls.__name__, ()), **{name: wrong})


def test_weights_of_no_list():
    layer = Dense(2, weights=5)
    for call in (lambda: layer.build((None, 3)), lambda: Dense(2).set_weights(5)):
        with pytest.raises(ValueError, match="^weights: expected a list of arrays, received 5"):
            call()


def test_all_flags_are_found():
    assert len(FLAGS) > 20


def test_axis_of_batch_normalization_and_mask_of_time_distributed():
    for wrong in (np.inf, np.nan, 1.5, "x", None, True):
        with pytest.raises(ValueError, match="axis: expected a whole number, received"):
            layers.BatchNormalization(axis=wrong)
    assert layers.BatchNormalization(axis=np.int64(1)).axis == 1
    outer = layers.TimeDistributed(layers.Dense(4))
    message = r"mask: expected the first axes of inputs .* received shape \(4, 6\)"
    with pytest.raises(ValueError, match=message):
        outer(np.zeros((4, 5, 3), np.float32), mask=np.ones((4, 6), bool))


def test_options_of_activation_layers_are_attributes():
    assert layers.ReLU(6.0).max_value == 6 and layers.ReLU().threshold == 0
    assert layers.LeakyReLU(0.1).negative_slope == 0.1
    assert layers.ELU(0.5).alpha == 0.5 and layers.Softmax(1).axis == 1
    assert not hasattr(layers.ReLU(), "nothing")


@pytest.mark.parametrize(
    ("make", "name", "advice"),
    [
        (lambda: layers.Dense(2), "stateless_call", "changed in place; GradientTape"),
        (lambda: layers.Dense(2), "symbolic_call", "call the layer itself"),
        (lambda: layers.LSTM(2), "compute_output_spec", "compute_output_shape"),
        (lambda: Sequential(), "make_train_function", "train_step"),
        (lambda: Sequential(), "distribute_strategy", "one process"),
        (lambda: optimizers.Adam(), "stateless_apply", "apply changes weights"),
    ],
)
def test_what_keras_has_and_fastrnn_lacks(make, name, advice):
    thing = make()
    kind = type(thing).__name__
    with pytest.raises(AttributeError, match=f"^{kind} has no {name} in fastrnn: .*{advice}"):
        getattr(thing, name)
    assert not hasattr(thing, name)
    setattr(thing, name, 3)  # the user's own
    assert getattr(thing, name) == 3
