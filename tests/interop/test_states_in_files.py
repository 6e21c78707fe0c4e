"""Every state of a model that a file can hold, in every format, from Keras to here and back: it
loads, computes the same, is compiled as it was, and can be evaluated and trained."""

import logging
import os

import numpy as np
import pytest

import fastrnn

pytest.importorskip("tensorflow", reason="needs tensorflow, to ask the real Keras")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras")

pytestmark = [  # Keras's own
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built"),
    pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer"),
    pytest.mark.filterwarnings("ignore:The model does not have any trainable weights"),
]
logging.getLogger("absl").setLevel(logging.ERROR)
X = np.random.default_rng(3).standard_normal((4, 5, 3)).astype(np.float32)


class OurTwice(fastrnn.layers.Layer):
    def forward(self, x, run, mask=None):
        return 2 * x

    def backward(self, dy, run, need_dx=True):
        return 2 * dy


class TheirTwice(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def own_error(y_true, y_pred):
    return (y_true - y_pred) ** 2


OWN = {"Twice": {fastrnn: OurTwice, keras: TheirTwice}}
for kind in OWN["Twice"].values():
    kind.__name__ = "Twice"


def objects(library):
    return {"own_error": own_error, "Twice": OWN["Twice"][library]}


def network(library, *more, built=True):
    L = library.layers
    stack = [L.LSTM(3), L.BatchNormalization(), *more, L.Dense(2, name="top")]
    return library.Sequential([L.Input((5, 3)), *stack] if built else stack)


def train(model):
    shape = np.shape(model(X, training=False))
    if model.loss is not None:
        model.train_on_batch(X, np.zeros(shape, np.float32))


def compiled(library, optimizer="adam", loss="mse", trained=True, before=None, after=None, **rest):
    model = network(library)
    if before:
        before(model)
    model.compile(optimizer, loss, **rest)
    if trained:
        train(model)
    if after:
        after(model)
    return model


def fresh(model):
    """Forget the states of stateful layers."""
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            (layer.reset_state if hasattr(layer, "reset_state") else layer.reset_states)()


def freeze(model):
    model.layers[0].trainable = model.layers[1].trainable = False


def thaw(model):
    model.layers[0].trainable = True


def freeze_all(model):
    model.trainable = False


def pop(model):
    model.pop()


def add(model):
    library = fastrnn if isinstance(model, fastrnn.Sequential) else keras
    model.add(library.layers.Dense(2, name="added"))


def pop_and_compile(model):
    model.pop()
    model.compile("adam", "mse")


def to_h5(model):
    model.save("first.h5")


def slower(model):
    model.optimizer.learning_rate = 0.5


def schedule(library):
    module = library.optimizers.schedules if library is keras else library.schedules
    return library.optimizers.SGD(module.ExponentialDecay(0.1, 2, 0.5), momentum=0.9)


def users(library):
    model = network(library, OWN["Twice"][library]())
    model.compile("adam", own_error, metrics=[own_error])
    train(model)
    return model


def unbuilt_compiled(library):
    model = network(library, built=False)
    model.compile("adam", "mse")
    return model


def stateful(library):
    L = library.layers
    model = library.Sequential(
        [L.Input((5, 3), batch_size=4), L.LSTM(2, stateful=True), L.Dense(2)]
    )
    model.compile("adam", "mse")
    train(model)
    return model


def unseen_metrics(library):
    metrics = ["mae", "accuracy", library.metrics.RootMeanSquaredError(name="r")]
    return compiled(library, "sgd", trained=False, metrics=metrics, weighted_metrics=["mse"])


STATES = {
    "not compiled": network,
    "not built": lambda library: network(library, built=False),
    "not built, compiled": unbuilt_compiled,
    "without an optimizer": lambda library: compiled(library, None, trained=False),
    "without a loss": lambda library: compiled(library, loss=None),
    "optimizer not built": lambda library: compiled(library, trained=False),
    "trained": compiled,
    "metrics": lambda library: compiled(library, metrics=["mae"], weighted_metrics=["mse"]),
    "metrics not seen": unseen_metrics,
    "loss in a list": lambda library: compiled(library, loss=["mse"], metrics=[["mae"]]),
    "schedule": lambda library: compiled(library, schedule(library)),
    "learning rate changed": lambda library: compiled(library, "sgd", after=slower),
    "frozen": lambda library: compiled(library, before=freeze),
    "frozen afterwards": lambda library: compiled(library, after=freeze),
    "all frozen": lambda library: compiled(library, trained=False, before=freeze_all),
    "thawed": lambda library: compiled(library, before=freeze, after=thaw),
    "after pop": lambda library: compiled(library, after=pop),
    "after pop and compile": lambda library: compiled(library, after=pop_and_compile),
    "after add": lambda library: compiled(library, after=add),
    "saved to .h5 before": lambda library: compiled(library, after=to_h5),
    "users' objects": users,
    "stateful": stateful,
}
# The optimizer has no place there for what the file has, or the file has none: it starts anew.
ANEW = {"frozen afterwards", "thawed", "after pop", "after add"}


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def transfer(state, ending, writer, reader):
    """The model that `writer` saved, and what `reader` loaded."""
    model, alone = STATES[state](writer), ending == ".weights.h5"
    if writer is fastrnn and not model.built:
        with pytest.warns(UserWarning, match="not built"):
            model.save(f"m{ending}")
    else:
        (model.save_weights if alone else model.save)(f"m{ending}")
    if alone:
        twin = STATES[state](reader)
        twin.load_weights(f"m{ending}")
        return model, twin
    if reader is keras:
        return model, keras.saving.load_model(f"m{ending}", custom_objects=objects(keras))
    no_name = (state, ending, writer) in (
        ("saved to .h5 before", ".keras", keras),
        ("without an optimizer", ".keras", fastrnn),
    )
    if not no_name:
        return model, fastrnn.models.load_model(f"m{ending}", custom_objects=objects(fastrnn))
    with pytest.warns(UserWarning, match="does not say which optimizer.* RMSprop"):
        return model, fastrnn.models.load_model(f"m{ending}", custom_objects=objects(fastrnn))


def refused_by_keras(state, ending, writer):
    """What Keras itself does not save."""
    if state.startswith("not built") and ending == ".weights.h5":
        return True
    return writer is keras and state == "without an optimizer" and ending == ".h5"


CASES = [
    (state, ending, writer, reader)
    for state in STATES
    for ending in (".keras", ".h5", ".weights.h5")
    for writer, reader in ((keras, fastrnn), (fastrnn, keras), (fastrnn, fastrnn))
    if not refused_by_keras(state, ending, writer)
]


@pytest.mark.filterwarnings("ignore:the optimizer .* starts anew")
@pytest.mark.parametrize(
    ("state", "ending", "writer", "reader"),
    [pytest.param(*c, id=f"{c[0]} {c[1]} {c[2].__name__}-{c[3].__name__}") for c in CASES],
)
def test_state(state, ending, writer, reader):
    model, twin = transfer(state, ending, writer, reader)
    assert bool(twin.built) == bool(model.built)
    assert [la.trainable for la in twin.layers] == [la.trainable for la in model.layers]
    if model.built:
        fresh(model), fresh(twin)
        y = np.asarray(model(X, training=False))
        np.testing.assert_allclose(np.asarray(twin(X, training=False)), y, rtol=2e-5, atol=2e-6)

    kept = model.optimizer is not None if model.compiled else None
    if state == "without an optimizer" and ending != ".weights.h5":
        if ending == ".h5":  # which has no place for this
            assert not twin.compiled
            return
        if writer is keras:  # Keras cannot load that file itself
            assert twin.compiled and twin.optimizer is None
            return
        assert type(twin.optimizer).__name__ == "RMSprop"
    elif (state, ending, writer) == ("saved to .h5 before", ".keras", keras):
        assert type(twin.optimizer).__name__ == "RMSprop" and int(twin.optimizer.iterations) == 0
    elif not kept:
        assert (
            bool(twin.compiled) == bool(model.compiled) and getattr(twin, "optimizer", None) is None
        )
        return
    else:
        assert type(twin.optimizer).__name__ == type(model.optimizer).__name__
        np.testing.assert_allclose(
            np.asarray(twin.optimizer.learning_rate), np.asarray(model.optimizer.learning_rate)
        )
        if state not in ANEW and not (ending == ".h5" and reader is keras):
            assert int(twin.optimizer.iterations) == int(model.optimizer.iterations)

    if state == "without a loss" or not model.built:
        return
    target = np.zeros(np.shape(y), np.float32)
    fresh(twin)
    np.testing.assert_allclose(
        np.ravel(twin.evaluate(X, target, verbose=0))[0], (y**2).mean(), rtol=1e-4
    )
    if ending == ".h5" and reader is keras:
        return  # Keras cannot train what it loads from .h5, its own files included
    if ending == ".weights.h5" and state in ("thawed", "after add"):
        if reader is fastrnn:
            with pytest.raises(ValueError, match="weights that the optimizer was built for"):
                train(twin)
        return
    if reader is keras:
        twin.run_eagerly = True
    train(twin)
