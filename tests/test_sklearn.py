"""The scikit-learn estimators: scikit-learn's own checks, sequences, and searches in parallel."""

import os
import pickle
import signal
import sys
from pathlib import Path

import children
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="tests the scikit-learn estimators")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastrnn
from fastrnn import callbacks, layers
from fastrnn.sklearn import LSTMClassifier, LSTMRegressor

ORDER = "a sample that is there twice falls into other batches than one of twice the weight"


def sequences(samples=80, timesteps=6, seed=0):
    """Series of two numbers, and which of three thirds the sum of the first one's lies in."""
    x = np.random.default_rng(seed).normal(size=(samples, timesteps, 2))
    total = x[..., 0].sum(axis=1)
    return x, np.array(["low", "mid", "top"])[np.searchsorted([-1.0, 1.0], total)], total


@parametrize_with_checks(
    [LSTMClassifier(), LSTMRegressor()],
    expected_failed_checks=lambda _: {"check_sample_weight_equivalence_on_dense_data": ORDER},
)
@pytest.mark.filterwarnings("ignore")  # the checks provoke scikit-learn's own
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_classifier():
    x, y, _ = sequences(300)
    classifier = LSTMClassifier(16, random_state=0).fit(x, y)
    assert list(classifier.classes_) == ["low", "mid", "top"] and classifier.n_features_in_ == 2
    new, expected, _ = sequences(200, timesteps=6, seed=1)
    share = classifier.predict_proba(new)
    assert share.shape == (200, 3)
    np.testing.assert_allclose(share.sum(axis=1), 1, atol=1e-6)
    assert list(classifier.predict(new)) == [classifier.classes_[i] for i in share.argmax(axis=1)]
    assert classifier.score(new, expected) > 0.8
    np.testing.assert_array_equal(share, classifier.model_.predict(new, verbose=0))
    assert len(classifier.history_["loss"]) == 50
    assert classifier.predict(new[:, :4]).shape == (200,)  # any number of steps


def test_regressor():
    x, _, y = sequences(300)
    new, _, expected = sequences(200, seed=1)
    regressor = LSTMRegressor(16, random_state=0).fit(x, y)
    assert regressor.predict(new).shape == (200,) and regressor.score(new, expected) > 0.9
    both = regressor.fit(x, np.stack([y, -y], axis=1))
    assert both.predict(new).shape == (200, 2)
    assert both.score(new, np.stack([expected, -expected], axis=1)) > 0.9


def test_weights_and_callbacks_reach_fit():
    x, _, y = sequences()
    weight = (y > 0).astype(float)
    options = {"epochs": 3, "batch_size": 80, "random_state": 0}
    stop = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(stop.model, "stop_training", True)
    )
    regressor = LSTMRegressor(4, **options).fit(x, y, weight, [stop])
    assert len(regressor.history_["loss"]) == 1
    changed = np.where(weight, y, 1e3)  # what has no weight may be anything
    np.testing.assert_array_equal(
        LSTMRegressor(4, **options).fit(x, y, weight).predict(x),
        LSTMRegressor(4, **options).fit(x, changed, weight).predict(x),
    )
    with pytest.raises(ValueError, match=r"sample_weight: expected shape \(80,\), received \(3,\)"):
        LSTMRegressor().fit(x, y, np.ones(3))


def test_interrupt_ends_a_search():
    x, y, _ = sequences(40)
    pressed = []

    def press(epoch, logs):
        pressed.append(epoch)
        os.kill(os.getpid(), signal.SIGINT)

    search = GridSearchCV(LSTMClassifier(epochs=3), {"units": [2, 3]}, cv=2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(x, y, callbacks=[callbacks.LambdaCallback(on_epoch_begin=press)])
    assert pressed == [0]


def test_random_state():
    x, y, _ = sequences()
    shares = []
    for state in (0, 0, 1, np.random.RandomState(0)):
        fastrnn.utils.set_random_seed(9)
        classifier = LSTMClassifier(4, epochs=2, dropout=0.3, random_state=state).fit(x, y)
        shares.append(classifier.predict_proba(x))
        after = fastrnn.random.draw_seed()
        fastrnn.utils.set_random_seed(9)
        assert after == fastrnn.random.draw_seed(), "the user's stream has moved"
    np.testing.assert_array_equal(shares[0], shares[1])
    np.testing.assert_array_equal(shares[0], shares[3])
    assert np.abs(shares[0] - shares[2]).max() > 1e-3


def test_network():
    x, y, _ = sequences(20)
    options = {"units": (5, 4), "bidirectional": True, "mask_value": 0.0, "dropout": 0.1}
    classifier = LSTMClassifier(epochs=1, **options).fit(x, y)
    kinds = [type(layer).__name__ for layer in classifier.model_.layers]
    assert kinds == ["Masking", "Bidirectional", "Bidirectional", "Dense"]
    assert classifier.model_.layers[1].forward_layer.dropout == 0.1
    padded = np.concatenate([np.zeros((20, 3, 2)), x], axis=1)
    np.testing.assert_allclose(
        classifier.predict_proba(padded), classifier.predict_proba(x), atol=1e-6
    )
    with pytest.raises(ValueError, match="units: expected a whole number >= 1, received 0"):
        LSTMClassifier(0).fit(x, y)


def grown(input_shape, outputs):
    return fastrnn.Sequential(
        [
            layers.Input(input_shape),
            layers.GRU(5),
            layers.Dense(outputs, activation="softmax"),
        ]
    )


def test_build():
    x, y, _ = sequences(30)
    seen = []

    def build(input_shape, outputs):
        seen.append((input_shape, outputs))
        model = grown(input_shape, outputs)
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    classifier = LSTMClassifier(build=build, epochs=2).fit(x, y)
    assert seen == [((None, 2), 3)] and len(classifier.history_["accuracy"]) == 2
    sgd = fastrnn.optimizers.SGD(0.5, momentum=0.9)
    fitted = LSTMClassifier(build=grown, epochs=2, optimizer=sgd).fit(x, y).model_
    assert fitted.optimizer is not sgd and fitted.optimizer.momentum == 0.9
    with pytest.raises(ValueError, match="build: expected to return a Sequential, received 3"):
        LSTMClassifier(build=lambda *_: 3).fit(x, y)
    with pytest.raises(ValueError, match=r"build: expected a model of output shape \(None, 3\)"):
        LSTMClassifier(build=lambda shape, _: grown(shape, 4), epochs=1).fit(x, y)


@pytest.mark.parametrize("build", [None, grown])
def test_pickle(build):
    x, y, _ = sequences(30)
    before = LSTMClassifier(4, build=build, epochs=1).fit(x, y)
    after = pickle.loads(pickle.dumps(before))
    np.testing.assert_array_equal(after.predict_proba(x), before.predict_proba(x))
    assert after.history_ == before.history_
    assert not hasattr(pickle.loads(pickle.dumps(clone(before))), "model_")


def test_inputs_of_another_kind():
    x, y, _ = sequences(30)
    classifier = LSTMClassifier(4, epochs=1).fit(x, y)
    with pytest.raises(ValueError, match="X has 1 features, but LSTMClassifier is expecting 2"):
        classifier.predict(x[..., :1])
    with pytest.raises(ValueError, match=r"X: expected shape \(samples, timesteps, 2\)"):
        classifier.predict(x[..., 0])
    classifier.fit(x[..., 0], y)
    np.testing.assert_array_equal(
        classifier.predict_proba(x[..., 0]), classifier.predict_proba(x[..., :1])
    )
    with pytest.raises(ValueError, match="X has 2 features, but LSTMClassifier is expecting 1"):
        classifier.predict(x)
    with pytest.raises(ValueError, match="y: expected labels of at least two classes"):
        classifier.fit(x, np.ones(30))
    with pytest.raises(ValueError, match="NaN"):
        classifier.fit(np.where(x > 1, np.nan, x), y)


def test_pipeline():
    x, y, _ = sequences(60)
    steps = make_pipeline(StandardScaler(), LSTMClassifier(4, epochs=2))
    assert cross_val_score(steps, 100 * x[..., 0], y, cv=2).shape == (2,)


PARALLEL = """
import sys
import numpy as np
import joblib
import fastrnn
from fastrnn.sklearn import LSTMClassifier
from sklearn.model_selection import GridSearchCV

x = np.random.default_rng(0).normal(size=(60, 6, 2))
y = (x[..., 0].sum(axis=1) > 0).astype(int)
if sys.argv[2] == "used":
    LSTMClassifier(64, epochs=1).fit(x, y)

def threads(estimator, x, y):
    return fastrnn.get_num_threads()

with joblib.parallel_config(sys.argv[1], n_jobs=2):
    search = GridSearchCV(
        LSTMClassifier(epochs=3, random_state=0), {"units": [3, 5]}, cv=2, refit=False,
        scoring={"accuracy": "accuracy", "threads": threads}, error_score="raise",
    ).fit(x, y)
print(search.cv_results_["mean_test_threads"].max(), *search.cv_results_["mean_test_accuracy"])
"""


@pytest.mark.parametrize("used", ["used", "fresh"])
@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_search_in_parallel(backend, used):
    """The same results as alone, no hanging, and no more threads than CPUs."""
    environment = {name: v for name, v in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment["PYTHONPATH"] = str(Path(fastrnn.__file__).parents[1])
    environment["JOBLIB_START_METHOD"] = "fork"  # from Python 3.14 on not what it is by default
    result = children.run(
        [sys.executable, "-W", "ignore", "-c", PARALLEL, backend, used],
        env=environment, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    threads, *accuracy = map(float, result.stdout.split())
    import joblib

    if backend != "threading":  # there, one estimator at a time has all threads
        assert threads <= max(joblib.cpu_count() // 2, 1)
    x = np.random.default_rng(0).normal(size=(60, 6, 2))
    y = (x[..., 0].sum(axis=1) > 0).astype(int)
    alone = GridSearchCV(
        LSTMClassifier(epochs=3, random_state=0), {"units": [3, 5]}, cv=2, refit=False
    ).fit(x, y)
    np.testing.assert_allclose(accuracy, alone.cv_results_["mean_test_score"], atol=1e-6)
