"""Sequential as a Keras user drives it: compile, fit, evaluate, predict, and their bad inputs."""

import pickle
import threading
import warnings

import numpy as np
import pytest

import fastrnn
from fastrnn import callbacks
from fastrnn import layers as L
from fastrnn.data import ArrayBatches


@pytest.fixture
def data(rng):
    x = rng.standard_normal((50, 6, 3)).astype(np.float32)
    return x, (x.sum(axis=(1, 2)) > 0).astype(np.float32)[:, None]


def classifier(**compiled):
    fastrnn.utils.set_random_seed(11)
    model = fastrnn.Sequential([fastrnn.Input((6, 3)), L.LSTM(5), L.Dense(1, "sigmoid")])
    options = {"optimizer": "adam", "loss": "binary_crossentropy", "metrics": ["acc"], **compiled}
    model.compile(**options)
    return model


def weights_after(x, y, threads=None, **options):
    before = fastrnn.get_num_threads()
    if threads:
        fastrnn.set_num_threads(threads)
    model = classifier()
    model.fit(x, y, verbose=0, **{"epochs": 3, "batch_size": 16, **options})
    fastrnn.set_num_threads(before)
    return model.get_weights()


def assert_same(first, second, exactly=True):
    for a, b in zip(first, second, strict=True):
        if exactly:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_one_seed_gives_the_same_bits(data):
    assert_same(weights_after(*data), weights_after(*data))
    assert any(
        (a != b).any()
        for a, b in zip(weights_after(*data), weights_after(*data, shuffle=False), strict=True)
    )


def test_threads_change_rounding_only(rng):
    x = rng.standard_normal((64, 40, 16)).astype(np.float32)
    y = x[:, :, :1] > 0

    def train(threads):
        fastrnn.utils.set_random_seed(2)
        fastrnn.set_num_threads(threads)
        layers = [L.Bidirectional(L.LSTM(24, return_sequences=True)), L.Dropout(0.3)]
        model = fastrnn.Sequential([fastrnn.Input((40, 16)), *layers, L.Dense(1, "sigmoid")])
        model.compile("adam", "binary_crossentropy")
        model.fit(x, y, epochs=2, verbose=0)
        return model.get_weights()

    before = fastrnn.get_num_threads()
    results = [train(threads) for threads in (1, 2, 5)]
    fastrnn.set_num_threads(before)
    assert_same(results[0], results[1], exactly=False)
    assert_same(results[0], results[2], exactly=False)


def test_history_and_learning(data):
    x, y = data
    history = classifier(optimizer=fastrnn.optimizers.Adam(0.05)).fit(
        x, y, epochs=30, verbose=0, validation_split=0.2
    )
    assert set(history.history) == {"loss", "acc", "val_loss", "val_acc"}
    assert len(history.history["loss"]) == 30 and history.epoch == list(range(30))
    assert history.history["acc"][-1] > 0.95


def test_the_ways_to_pass_data_agree(data):
    x, y = data
    reference = weights_after(x, y, shuffle=False)

    def generate():
        while True:
            for start in range(0, 50, 16):
                yield x[start : start + 16], y[start : start + 16]

    class Batches:
        def __len__(self):
            return 4

        def __getitem__(self, place):
            return x[16 * place : 16 * place + 16], y[16 * place : 16 * place + 16]

    assert_same(reference, weights_after([x], [y], shuffle=False))
    assert_same(reference, weights_after(x.astype(float), y.astype(int), shuffle=False))
    assert_same(reference, weights_after(x.tolist(), y.tolist(), shuffle=False))
    assert_same(reference, weights_after(np.asfortranarray(x), y.astype(bool), shuffle=False))
    assert_same(reference, weights_after(x, y[:, 0], shuffle=False))
    assert_same(reference, weights_after(generate(), None, steps_per_epoch=4))
    assert_same(reference, weights_after(Batches(), None, shuffle=False))
    assert_same(reference, weights_after(list_of_batches(x, y), None))
    assert_same(reference, weights_after(x, y, shuffle=False, nb_epoch=3, epochs=7))


class list_of_batches:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return ((self.x[i : i + 16], self.y[i : i + 16]) for i in range(0, 50, 16))


def test_metrics_are_logged_under_the_name_typed(data):
    x, y = data
    for name in ("acc", "accuracy", "mse", "mean_squared_error"):
        history = classifier(metrics=[name]).fit(x, y, verbose=0, validation_split=0.2).history
        assert set(history) == {"loss", name, "val_loss", f"val_{name}"}


def test_older_methods_for_generators(data):
    x, y = data
    reference = weights_after(x, y, shuffle=False)

    def endless(*arrays):
        while True:
            for start in range(0, 50, 16):
                parts = tuple(a[start : start + 16] for a in arrays)
                yield parts if len(parts) > 1 else parts[0]

    class Batches:
        def __len__(self):
            return 4

        def __getitem__(self, place):
            return x[16 * place : 16 * place + 16], y[16 * place : 16 * place + 16]

    queues = {"max_q_size": 3, "nb_worker": 2, "pickle_safe": True}
    for source, options in (
        (endless(x, y), {"samples_per_epoch": 50, "nb_epoch": 3, **queues}),
        (endless(x, y), {"steps_per_epoch": 4, "epochs": 3, "workers": 2, "max_queue_size": 1}),
        (list_of_batches(x, y), {"samples_per_epoch": 64, "epochs": 3}),
        (Batches(), {"samples_per_epoch": 49, "epochs": 3, "shuffle": False}),
    ):
        model = classifier()
        held = {"validation_data": endless(x, y), "nb_val_samples": 50}
        history = model.fit_generator(source, verbose=0, **options, **held).history
        assert_same(reference, model.get_weights())
        assert len(history["val_loss"]) == 3
    logs = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(model.evaluate_generator(endless(x, y), val_samples=50), logs, 1e-6)
    np.testing.assert_allclose(model.evaluate_generator(Batches(), nb_worker=4), logs, 1e-6)
    whole = model.predict(x, verbose=0)
    np.testing.assert_array_equal(model.predict_generator(endless(x), val_samples=50), whole)
    np.testing.assert_array_equal(model.predict_generator(endless(x), 4, max_q_size=2), whole)
    history = model.fit_generator(
        Batches(), epochs=1, verbose=0, validation_data=(x, y), nb_val_samples=50
    ).history
    assert len(history["val_loss"]) == 1
    with pytest.raises(ValueError, match="generator: expected at least one batch, received none"):
        model.fit_generator(iter(()), samples_per_epoch=50)
    with pytest.raises(TypeError, match="wokers"):
        model.fit_generator(Batches(), wokers=1)


def test_steps_per_epoch(data):
    x, y = data
    assert_same(
        weights_after(x, y, shuffle=False, steps_per_epoch=4), weights_after(x, y, shuffle=False)
    )
    with pytest.warns(UserWarning, match="it ends"):
        longer = classifier().fit(x, y, batch_size=16, steps_per_epoch=6, epochs=2, verbose=0)
    assert len(longer.history["loss"]) == 2
    with pytest.warns(UserWarning, match="it ends"):
        again = classifier().fit(list_of_batches(x, y), steps_per_epoch=3, epochs=3, verbose=0)
    assert len(again.history["loss"]) == 3
    with pytest.warns(UserWarning, match="ran out of batches in epoch 2"):
        short = classifier().fit(iter(list_of_batches(x, y)), epochs=5, verbose=0)
    assert len(short.history["loss"]) == 1
    with pytest.warns(UserWarning, match="ran out of batches in epoch 1"):
        short = classifier().fit(
            iter(list_of_batches(x, y)), steps_per_epoch=9, epochs=5, verbose=0
        )
    assert len(short.history["loss"]) == 1


def test_training_by_hand_equals_fit(data):
    x, y = data
    model = classifier()
    for _ in range(3):
        for start in range(0, 50, 16):
            model.train_on_batch(x[start : start + 16], y[start : start + 16])
    assert_same(model.get_weights(), weights_after(x, y, shuffle=False))


def test_weights_of_samples_and_classes(data):
    x, y = data
    weight = np.where(y[:, 0] == 1, 3.0, 0.5)
    by_sample = weights_after(x, y, shuffle=False, sample_weight=weight)
    assert_same(by_sample, weights_after(x, y, shuffle=False, class_weight={0: 0.5, 1: 3.0}))
    assert (by_sample[0] != weights_after(x, y, shuffle=False)[0]).any()
    kept = y[:, 0] == 1
    model = classifier()
    loss = model.evaluate(x, y, sample_weight=kept.astype(float), verbose=0)[0]
    assert loss == pytest.approx(model.evaluate(x[kept], y[kept], verbose=0)[0] * kept.mean(), 1e-5)


def test_validation_data_in_every_form(data):
    x, y = data
    results = []
    for given in ((x, y), [x, y], (x, y, np.ones(50))):
        model = classifier()
        history = model.fit(x, y, epochs=2, verbose=0, validation_data=given, validation_freq=2)
        results.append(history.history["val_loss"])
        assert len(history.history["val_loss"]) == 1
        assert model.evaluate(x, y, verbose=0)[0] == pytest.approx(results[-1][0], 1e-6)
    assert results[0] == results[1] == results[2]


def test_evaluate_and_predict_in_pieces(data):
    x, y = data
    model = classifier()
    whole = model.predict(x, verbose=0)
    assert whole.shape == (50, 1) and whole.dtype == np.float32
    np.testing.assert_array_equal(model.predict(x, batch_size=7, verbose=0), whole)
    np.testing.assert_array_equal(model.predict_on_batch(x), whole)
    np.testing.assert_array_equal(model.predict_proba(x), whole)
    np.testing.assert_array_equal(model(x), whole)
    pieces = (x[start : start + 20] for start in range(0, 50, 20))
    np.testing.assert_array_equal(model.predict(pieces, verbose=0), whole)
    assert model.predict_classes(x).tolist() == (whole > 0.5).astype(int).tolist()
    by_name = model.evaluate(x, y, batch_size=7, verbose=0, return_dict=True)
    assert list(by_name) == ["loss", "acc"] == model.metrics_names
    assert by_name["acc"] == pytest.approx(((whole > 0.5) == y).mean())
    np.testing.assert_allclose(model.test_on_batch(x, y), list(by_name.values()), rtol=1e-5)


def test_constraints_and_regularizers_take_part(data):
    x, y = data
    model = fastrnn.Sequential(
        [
            fastrnn.Input((6, 3)),
            L.LSTM(4, kernel_regularizer="l2", recurrent_constraint="max_norm"),
            L.Dense(1, kernel_constraint=fastrnn.constraints.NonNeg()),
        ]
    )
    model.compile("sgd", "mse")
    model.fit(x, y, epochs=2, verbose=0)
    assert (model.layers[1].kernel.numpy() >= 0).all()
    plain = np.mean((model.predict(x, verbose=0) - y) ** 2)
    penalty = 0.01 * np.sum(model.layers[0].kernel.numpy() ** 2)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain + penalty, rel=1e-5)


def test_metrics_of_one_name_are_kept_apart(data):
    precision = [fastrnn.metrics.Precision(threshold) for threshold in (0.2, 0.5)]
    model = classifier(metrics=[*precision, "mse"], weighted_metrics=["mse", "mae", "mse"])
    x, y = data
    weight = np.where(y[:, 0] > 0, 2.0, 0.5)
    logs = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    names = ["loss", "precision", "precision_1", "mse", "weighted_mse", "mae", "weighted_mse_1"]
    assert list(logs) == names == model.metrics_names
    p = model.predict(x, verbose=0)
    for name, threshold in (("precision", 0.2), ("precision_1", 0.5)):
        np.testing.assert_allclose(logs[name], y[p > threshold].mean(), rtol=1e-6)
    np.testing.assert_allclose(logs["mse"], ((p - y) ** 2).mean(), rtol=1e-6)
    expected = ((p - y)[:, 0] ** 2 * weight).sum() / weight.sum()
    np.testing.assert_allclose(logs["weighted_mse"], expected, rtol=1e-6)


def test_show_accuracy_warns(data):
    with pytest.warns(UserWarning, match="show_accuracy changes nothing: give compile metrics"):
        classifier().fit(*data, verbose=0, show_accuracy=True)
    with pytest.warns(UserWarning, match="show_accuracy"):
        classifier().evaluate(*data, verbose=0, show_accuracy=True)


def test_own_loss_and_metric(data):
    x, y = data

    def half_square(y_true, y_pred):
        return 0.5 * (y_pred - y_true) ** 2

    model = classifier(loss=lambda y_true, y_pred: np.spacing(y_pred - y_true) ** 2)
    with pytest.raises(ValueError, match=r"no derivative of '<lambda>' was found: .*; attach"):
        model.fit(x, y, verbose=0)
    model = classifier(loss=half_square, metrics=[lambda t, p: np.abs(t - p)])
    history = model.fit(x, y, verbose=0, epochs=3).history
    assert history["loss"][-1] < history["loss"][0]
    half_square.gradient = lambda y_true, y_pred: y_pred - y_true
    history = model.fit(x, y, verbose=0, epochs=3).history
    assert history["loss"][-1] < history["loss"][0]


def test_stacking_changes(data):
    x, y = data
    model = classifier()
    assert [layer.output_shape for layer in model.layers] == [(None, 5), (None, 1)]
    removed = model.pop()
    assert model.output_shape == (None, 5)
    model.add(L.Dense(2, "tanh"))
    assert model.predict(x, verbose=0).shape == (50, 2)
    assert model.get_layer(index=0) is model.layers[0]
    assert model.get_layer(model.layers[1].name) is model.layers[1]
    with pytest.raises(ValueError, match="name of its own"):
        model.add(model.layers[0])
    assert removed not in model.layers


def test_deferred_building(data):
    x, y = data
    model = fastrnn.Sequential([L.LSTM(4, return_sequences=True), L.LSTM(3), L.Dense(1)])
    model.compile("rmsprop", "mse")
    assert not model.built
    model.fit(x, y, verbose=0)
    assert model.count_params() == sum(w.size for w in model.get_weights())
    assert model.predict(x[:, :2], verbose=0).shape == (50, 1)
    with pytest.raises(ValueError, match="expected input of shape"):
        model.predict(x[:, :, :2], verbose=0)


def test_config_round_trip(data):
    model = classifier()
    twin = fastrnn.Sequential.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        twin.predict(data[0], verbose=0), model.predict(data[0], verbose=0)
    )
    config = model.get_config()
    bare = fastrnn.Sequential.from_config(config["layers"])  # Keras 1's form
    assert bare.get_config()["layers"] == config["layers"]
    with pytest.raises(ValueError, match="unknown layer 'Conv3D'"):
        fastrnn.Sequential.from_config({"layers": [{"class_name": "Conv3D", "config": {}}]})


def test_freezing_needs_compiling_again(data):
    x, y = data
    model = classifier()
    model.layers[0].trainable = False
    model.compile("adam", "binary_crossentropy")
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    changed = [(a != b).any() for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [False, False, False, True, True]


def test_one_layer_in_two_models(data):
    x, y = data
    shared = L.LSTM(4)
    models = [fastrnn.Sequential([fastrnn.Input((6, 3)), shared, L.Dense(1)]) for _ in range(2)]
    for model in models:
        model.compile("adam", "mse")
    for model in (*models, *models):
        before = shared.kernel.numpy()
        model.fit(x, y, verbose=0)
        assert (shared.kernel.numpy() != before).any()
        np.testing.assert_array_equal(models[0].get_weights()[0], models[1].get_weights()[0])


def test_several_threads_predict_with_one_model(data):
    import concurrent.futures

    x, _ = data
    model = classifier()
    expected = model.predict(x, verbose=0)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda _: model.predict(x, verbose=0, batch_size=9), range(100))
        for result in results:
            np.testing.assert_array_equal(result, expected)


def test_fork_after_training(data):
    import multiprocessing

    x, y = data
    model = classifier()
    model.fit(np.repeat(x, 40, 0), np.repeat(y, 40, 0), batch_size=500, verbose=0)
    expected = model.predict(x, verbose=0)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(model.predict(x, verbose=0)))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    child.join(10)
    assert child.exitcode == 0


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"y": np.zeros((49, 1))}, ValueError, r"y: expected as many samples as x \(50\)"),
        ({"y": None}, ValueError, "y: expected targets"),
        ({"y": np.zeros((50, 2))}, ValueError, r"y: expected shape .* received \(.*2\)"),
        ({"y": np.array([["a"]] * 50)}, ValueError, "y: expected an array of numbers"),
        ({"x": np.zeros((50, 6))}, ValueError, r"expected input of shape .*received"),
        ({"x": np.zeros((50, 6, 4))}, ValueError, "expected input of shape"),
        ({"x": np.zeros((0, 6, 3)), "y": np.zeros((0, 1))}, ValueError, "at least one sample"),
        ({"x": "data"}, ValueError, "x: expected"),
        ({"x": [[1], [1, 2]], "y": [0, 1]}, ValueError, "x: expected an array of numbers"),
        ({"x": iter([])}, ValueError, "y and sample_weight|at least one batch"),
        ({"batch_size": 0}, ValueError, "batch_size: expected"),
        ({"batch_size": 2.5}, ValueError, "batch_size: expected"),
        ({"epochs": -1}, ValueError, "epochs: expected"),
        ({"validation_split": 1.5}, ValueError, "validation_split: expected"),
        ({"validation_data": (np.zeros((3, 6, 3)),)}, ValueError, "validation_data: expected"),
        ({"sample_weight": np.ones(7)}, ValueError, "sample_weight: expected as many"),
        ({"class_weight": {}}, ValueError, "class_weight: expected"),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch: expected"),
        ({"verbose": 7}, ValueError, "verbose: expected"),
        ({"callbacks": ["stop"]}, TypeError, "allback"),
        ({"validation_freq": 0, "validation_split": 0.5}, ValueError, "validation_freq"),
        (
            {"validation_freq": [1, "x"]},
            ValueError,
            "validation_freq: expected a whole number >= 1",
        ),
        ({"validation_freq": 1.5}, ValueError, "validation_freq: expected a whole number >= 1"),
        ({"validation_steps": -1}, ValueError, "validation_steps: expected an int >= 1 or None"),
    ],
)
def test_bad_fit_arguments(data, change, error, message):
    x, y = data
    with pytest.raises(error, match=message):
        classifier().fit(**{"x": x, "y": y, "verbose": 0, **change})


@pytest.mark.parametrize("steps", [0, -1, 1.5, "x"])
def test_bad_steps_of_evaluate_and_predict(data, steps):
    x, y = data
    message = f"steps: expected an int >= 1 or None, received {steps!r}"
    with pytest.raises(ValueError, match=message):
        classifier().evaluate(x, y, steps=steps, verbose=0)
    with pytest.raises(ValueError, match=message):
        classifier().predict((x for _ in range(2)), steps=steps, verbose=0)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"loss": "binary_crosentropy"}, ValueError, "binary_crosentropy"),
        ({"optimizer": "adan"}, ValueError, "adan"),
        ({"loss_weights": [0.5]}, ValueError, "loss_weights"),
        ({"unknown": 1}, TypeError, "unknown arguments"),
    ],
)
def test_bad_compile_arguments(options, error, message):
    with pytest.raises(error, match=message):
        classifier(**options)


def test_unknown_metric_and_uncompiled(data):
    x, y = data
    with pytest.raises(ValueError, match="acuracy"):
        classifier(metrics=["acuracy"]).fit(x, y, verbose=0)
    model = fastrnn.Sequential([L.Dense(1)])
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(RuntimeError, match="compile"):
            call(x, y)
    with pytest.raises(ValueError, match="no layers"):
        fastrnn.Sequential([fastrnn.Input((3,))]).predict(x)


def test_steps_take_as_many_batches_from_a_generator(rng):
    model = fastrnn.Sequential([fastrnn.Input((4,)), fastrnn.layers.Dense(1)])
    model.compile("sgd", "mse")
    drawn = []

    def batches():
        while True:
            drawn.append(1)
            yield rng.standard_normal((2, 4)), rng.standard_normal((2, 1))

    model.evaluate(batches(), steps=3, verbose=0)
    assert len(drawn) == 3
    model.predict((x for x, _ in batches()), steps=2, verbose=0)
    assert len(drawn) == 5


# --- weights of classes, and arguments of Keras 2 ---


def weighted(x, y=None, **options):
    fastrnn.utils.set_random_seed(2)
    model = fastrnn.Sequential([L.LSTM(3, input_shape=(4, 2)), L.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    model.fit(x, y, shuffle=False, verbose=0, epochs=2, **options)
    return np.concatenate([w.ravel() for w in model.get_weights()])


def test_weights_of_classes_in_batches():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 4, 2)), rng.integers(0, 2, (12, 1))
    weight = rng.uniform(0.5, 2, 12)
    classes = {0: 0.2, 1: 3.0}
    product = np.where(y[:, 0] == 1, 3.0, 0.2) * weight
    expected = weighted(x, y, sample_weight=product, batch_size=4)
    parts = [slice(i, i + 4) for i in (0, 4, 8)]
    batches = [(x[p], y[p], weight[p]) for p in parts]
    found = weighted(x, y, sample_weight=weight, class_weight=classes, batch_size=4)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(found, weighted(batches_of(batches), class_weight=classes))
    without = weighted(batches_of([b[:2] for b in batches]), class_weight=classes)
    np.testing.assert_array_equal(without, weighted(x, y, class_weight=classes, batch_size=4))
    assert (without != found).any()


@pytest.mark.parametrize("form", ["labels", "labels in a column", "one-hot", "binary"])
def test_weights_of_classes_in_sequences(form, rng):
    """Each time step has the weight of its own class, times that of its sample."""
    labels = rng.integers(0, 2 if form == "binary" else 3, (6, 6))
    x, y = rng.normal(size=(6, 6, 2)), labels if form == "labels" else labels[..., None]
    loss, head = "sparse_categorical_crossentropy", L.Dense(3, "softmax")
    if form == "one-hot":
        y, loss = np.eye(3)[labels], "categorical_crossentropy"
    elif form == "binary":
        loss, head = "binary_crossentropy", L.Dense(1, "sigmoid")
    model = fastrnn.Sequential([fastrnn.Input((6, 2)), L.LSTM(4, return_sequences=True), head])
    model.compile("sgd", loss)
    start, results = model.get_weights(), []
    of_class, of_sample = np.array([0.2, 3.0, 1.0]), rng.uniform(0.5, 2, 6)
    for options in (
        {"class_weight": {0: 0.2, 1: 3.0}, "sample_weight": of_sample},
        {"sample_weight": of_class[labels] * of_sample[:, None]},
    ):
        model.set_weights(start)
        history = model.fit(x, y, shuffle=False, verbose=0, batch_size=4, **options).history
        results.append([*history["loss"], *model.get_weights()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


class batches_of(fastrnn.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def test_arguments_of_queues_change_nothing():
    x, y = np.ones((6, 4, 2)), np.ones((6, 1))
    queues = {"workers": 2, "use_multiprocessing": True, "max_queue_size": 5}
    np.testing.assert_array_equal(weighted(x, y, **queues), weighted(x, y))
    model = fastrnn.Sequential([L.LSTM(3, input_shape=(4, 2)), L.Dense(1)])
    model.compile("sgd", "mse")
    assert model.evaluate(x, y, verbose=0, **queues) == model.evaluate(x, y, verbose=0)
    np.testing.assert_array_equal(
        model.predict(x, verbose=0, workers=3), model.predict(x, verbose=0)
    )
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(TypeError, match=r"unknown arguments \['worker'\]"):
            method(x, worker=3)


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_arrays_for_one(kind):
    model = fastrnn.Sequential([L.LSTM(3, input_shape=(4, 2)), L.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((6, 4, 2)), np.ones((6, 1))
    with pytest.raises(ValueError, match="y: expected as many samples .* one input and one output"):
        model.fit(x, kind([y, y]), verbose=0)
    with pytest.raises(ValueError, match="y: expected as many samples .* one input and one output"):
        model.fit(kind([x, x]), y, verbose=0)
    model.fit({"x": x}, {"y": y}, verbose=0)


# --- what Keras 3.15 does, step by step -----------------------------------------------------------

X = np.arange(48).reshape(16, 3).astype(np.float32) / 16
Y = np.arange(16).reshape(16, 1).astype(np.float32)


class Steps(callbacks.Callback):
    """Notes every callback of a batch: ("train begin", 0), ..."""

    def __init__(self, stop=None):
        super().__init__()
        self.seen, self.stop = [], stop

    def note(self, what, step):
        self.seen.append((what, step))
        if step == self.stop:
            self.model.stop_evaluating = self.model.stop_predicting = True

    def on_train_batch_begin(self, batch, logs=None):
        self.note("train begin", batch)

    def on_train_batch_end(self, batch, logs=None):
        self.note("train end", batch)

    def on_test_batch_begin(self, batch, logs=None):
        self.note("test begin", batch)

    def on_test_batch_end(self, batch, logs=None):
        self.note("test end", batch)

    def on_predict_batch_begin(self, batch, logs=None):
        self.note("predict begin", batch)

    def on_predict_batch_end(self, batch, logs=None):
        self.note("predict end", batch)


def line(**options):
    model = fastrnn.Sequential([fastrnn.Input((3,)), L.Dense(1, kernel_initializer="ones")])
    model.compile(fastrnn.optimizers.SGD(0.01), "mse", **options)
    return model


@pytest.mark.parametrize(
    "options, steps, losses, short",
    [
        (
            {"batch_size": 4, "steps_per_epoch": 3, "epochs": 4},
            [3, 1, 3, 1], [6.2448, 17.044, 0.8902, 3.2042], [2, 4],
        ),
        (
            {"batch_size": 4, "steps_per_epoch": 6, "epochs": 3},
            [4, 4, 4], [8.9446, 1.4687, 0.3153], [1, 2, 3],
        ),
        ({"steps_per_epoch": 3, "epochs": 2}, [3, 3], [10.4806, 2.1265], []),
        ({"batch_size": 5, "epochs": 2}, [4, 4], [9.7678, 0.6836], []),
    ],
)  # fmt: skip
def test_epochs_of_arrays_go_on_where_the_last_one_ended(options, steps, losses, short):
    seen = Steps()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = line().fit(X, Y, shuffle=False, verbose=0, callbacks=[seen], **options)
    assert [number for what, number in seen.seen if what == "train end"] == [
        step for count in steps for step in range(count)
    ]
    np.testing.assert_allclose(history.history["loss"], losses, rtol=3e-4)
    assert [
        f"epoch {n}: it ends" in str(w.message) for n, w in zip(short, caught, strict=True)
    ] == [True] * len(short)


def test_steps_cut_what_has_no_batch_size():
    seen = Steps()
    line().evaluate(X, Y, steps=3, verbose=0, callbacks=[seen])
    assert line().predict(X, steps=3, verbose=0, callbacks=[seen]).shape == (16, 1)
    assert [n for what, n in seen.seen if what.endswith("end")] == [0, 1, 2] * 2


@pytest.mark.parametrize("group, steps", [(2, [0, 1, 2, 3]), (3, [0, 2, 3, 5])])
def test_steps_per_execution(group, steps):
    """Four batches: callbacks hear of so many at once, the last group may be short."""
    model, seen = line(steps_per_execution=group), Steps()
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[seen])
    model.evaluate(X, Y, batch_size=4, verbose=0, callbacks=[seen])
    assert model.predict(X, batch_size=4, verbose=0, callbacks=[seen]).shape == (16, 1)
    assert seen.seen == [
        (f"{kind} {('begin', 'end')[n % 2]}", step)
        for kind in ("train", "test", "predict")
        for n, step in enumerate(steps)
    ]
    for wrong in (0, "x", 1.5):
        with pytest.raises(ValueError, match="steps_per_execution: expected"):
            line(steps_per_execution=wrong)


def test_evaluating_and_predicting_can_be_stopped():
    model, seen = line(), Steps(stop=1)
    model.evaluate(X, Y, batch_size=4, verbose=0, callbacks=[seen])
    assert model.predict(X, batch_size=4, verbose=0, callbacks=[seen]).shape == (8, 1)
    assert [n for what, n in seen.seen if what.endswith("end")] == [0, 1, 0, 1]


def test_shuffling_within_batches():
    """shuffle="batch" leaves the batches in order and moves the samples within each."""
    fastrnn.utils.set_random_seed(3)
    batches = ArrayBatches(np.arange(10.0), None, None, 4, "batch", line())
    order = np.concatenate([x.copy() for x, _, _ in batches])
    assert not np.array_equal(order, np.arange(10))
    for start in (0, 4, 8):
        part = order[start : start + 4]
        assert sorted(part) == list(range(start, min(start + 4, 10)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"shuffle": "x"}, "shuffle: expected True, False or 'batch', received 'x'"),
        ({"validation_split": "x"}, "validation_split: expected a number from 0 to 1"),
        ({"validation_split": True}, "validation_split: expected a number from 0 to 1"),
        ({"validation_batch_size": 0}, "validation_batch_size: expected a whole number"),
        ({"class_weight": {"a": 1}}, "class_weight: expected whole numbers as classes"),
        ({"class_weight": {0: "a"}}, "class_weight: expected whole numbers as classes"),
        ({"class_weight": {0: float("nan")}}, "class_weight: expected whole numbers as classes"),
        ({"class_weight": {0.5: 1}}, "class_weight: expected whole numbers as classes"),
    ],
)
def test_arguments_of_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        line().fit(X, Y, verbose=0, **arguments)


def test_no_batch_to_evaluate():
    with pytest.raises(ValueError, match="x: expected at least one batch, received none"):
        line().evaluate(iter([]), verbose=0)
    with pytest.raises(ValueError, match="x: expected at least one batch, received none"):
        line().fit(X, Y, validation_data=iter([]), verbose=0)


# --- inputs whose rank a last axis of size 1 makes right, as in Keras ----------------------------

RANKS = {  # what is declared, the right shape, and what is repaired
    "steps of one number": ((6, 1), (8, 6, 1), (8, 6)),
    "free steps": ((None, 1), (8, 6, 1), (8, 6)),
    "vectors with an axis more": ((6,), (8, 6), (8, 6, 1)),
    "one number": ((1,), (8, 1), (8,)),
}


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("declared", ["declared", "built by data"])
def test_rank_is_repaired(name, declared, rng):
    shape, right, given = RANKS[name]
    stack = [L.LSTM(3)] if len(right) == 3 else []
    model = fastrnn.Sequential([*stack, L.Dense(1)])
    x = rng.standard_normal(right).astype(np.float32)
    if declared == "declared":
        model = fastrnn.Sequential([fastrnn.Input(shape), *stack, L.Dense(1)])
    model(x)
    model.compile("sgd", "mse")
    z, y = x.reshape(given), rng.standard_normal((8, 1)).astype(np.float32)
    start = model.get_weights()

    def trained(x, fit):
        model.set_weights(start)
        fit(x)
        return [*model.get_weights(), model.evaluate(x, y, verbose=0)]

    for fit in (
        lambda x: model.fit(x, y, shuffle=False, verbose=0, validation_data=(z, y)),
        lambda x: model.fit(iter([(x, y)]), verbose=0),
        lambda x: model.train_on_batch(x, y),
    ):
        assert_same(trained(x, fit), trained(z, fit))
    expected, predictor = model.predict(x, verbose=0), model.compile_inference()
    for predict in (
        lambda x: model.predict(x, verbose=0),
        lambda x: model.predict(x, batch_size=3, verbose=0),
        lambda x: model.predict(iter([x]), verbose=0),
        model.predict_on_batch, model, predictor, predictor,
    ):  # fmt: skip
        np.testing.assert_allclose(predict(z), expected, rtol=1e-5, atol=1e-6)
    assert model.test_on_batch(z, y) == model.test_on_batch(x, y)


def test_other_ranks_are_refused():
    model = fastrnn.Sequential([fastrnn.Input((10, 2)), L.LSTM(3), L.Dense(1)])
    model.compile("sgd", "mse")
    for x in (np.zeros((4, 10)), np.zeros((4, 10, 2, 2)), np.zeros(4)):
        with pytest.raises(ValueError, match="expected input of shape"):
            model.predict(x, verbose=0)
        with pytest.raises(ValueError, match="expected input of shape"):
            model.fit(x, np.zeros((4, 1)), verbose=0)


# --- refused calls, names, threads ---------------------------------------------------------------


def unaligned(array):
    """The same numbers one byte past where they should start."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    moved = memory[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


@pytest.mark.parametrize("kind", [unaligned, memoryview])
def test_arrays_of_any_memory(kind, data):
    x, y = data
    model = classifier()
    start = model.get_weights()

    def results(x, y, **options):
        model.set_weights(start)
        model.compile("sgd", "binary_crossentropy", metrics=["acc", "mae"])
        history = model.fit(x, y, shuffle=False, verbose=0, validation_data=(x, y), **options)
        batch = model.train_on_batch(x, y), model.test_on_batch(x, y)
        return [
            *map(np.array, history.history.values()), *map(np.array, batch),
            model.predict(x, verbose=0), model.predict(x, batch_size=7, verbose=0), model(x),
            model.compile_inference()(x), np.array(model.evaluate(x, y, verbose=0)),
        ]  # fmt: skip

    weights = np.linspace(0, 1, len(x), dtype=np.float32)
    expected = results(x, y, sample_weight=weights)
    assert_same(results(kind(x), kind(y), sample_weight=kind(weights)), expected)


def test_a_refused_fit_leaves_nothing_half_made(tmp_path):
    model = line()
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    model.add(L.Dense(5))
    with pytest.raises(ValueError, match="a new set of weights needs a new optimizer"):
        model.fit(X, np.zeros((16, 5)), verbose=0)
    model.save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="the optimizer 'adam' starts anew"):
        again = pickle.loads(pickle.dumps(model))
    assert_same(again.get_weights(), model.get_weights())
    model.pop()  # the weights that the optimizer knows
    model.fit(X, Y, verbose=0)
    model.add(L.Dense(5))
    model.compile("adam", "mse")
    model.fit(X, np.zeros((16, 5)), verbose=0)


def test_a_model_is_not_added_to_itself():
    model = fastrnn.Sequential([L.Dense(2)])
    outer = fastrnn.Sequential([model])
    for whole, part in ((model, model), (model, outer)):
        with pytest.raises(ValueError, match="layer: expected another model than"):
            whole.add(part)
    assert len(model.layers) == len(outer.layers) == 1


def test_another_optimizer_by_assignment():
    model = line()
    model.fit(X, Y, verbose=0)
    model.optimizer = "adam"
    assert type(model.optimizer) is fastrnn.optimizers.Adam
    model.fit(X, Y, batch_size=8, verbose=0)
    assert model.optimizer.iterations == 2
    model.optimizer = None
    with pytest.raises(RuntimeError, match="compiled with optimizer=None"):
        model.fit(X, Y, verbose=0)
    with pytest.raises(RuntimeError, match="call compile"):
        fastrnn.Sequential([L.Dense(1)]).optimizer = "adam"


def test_training_needs_an_optimizer():
    model = line()
    model.compile(optimizer=None, loss="mse")
    assert model.evaluate(X, Y, verbose=0) > 0
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(RuntimeError, match="compiled with optimizer=None: call compile"):
            train(X, Y)


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_batch_end"])
@pytest.mark.parametrize(
    "name, arguments", [("compile", ["adam", "mse"]), ("add", [L.Dense(1)]), ("pop", [])]
)
def test_changing_a_model_within_a_callback(name, arguments, hook):
    class Changes(callbacks.Callback):
        def change(self, epoch, logs=None):
            getattr(self.model, name)(*arguments)

    setattr(Changes, hook, Changes.change)
    model = line()
    with pytest.raises(RuntimeError, match=f"is being trained: call {name} before or after"):
        model.fit(X, Y, verbose=0, callbacks=[Changes()])
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)


def test_dicts_by_name():
    stack = [fastrnn.Input((3,), name="a"), L.Dense(1, name="out", kernel_initializer="ones")]
    model = fastrnn.Sequential(stack)
    np.testing.assert_array_equal(model({"a": X}), model(X))
    with pytest.raises(ValueError, match=r"with the name of the input, 'a', received a dict of"):
        model({"b": X})
    model.compile("sgd", {"out": "mse"}, metrics={"out": ["mae"]})
    assert model.fit({"a": X}, {"out": Y}, verbose=0).history.keys() == {"loss", "mae"}
    for wrong in ({"loss": {"b": "mse"}}, {"loss": "mse", "metrics": {"b": ["mae"]}}):
        with pytest.raises(ValueError, match=r"with the name of the output, 'out', received"):
            model.compile("sgd", **wrong)


def test_two_threads_train_one_model():
    model, begun, go_on = line(), threading.Event(), threading.Event()

    class Waits(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.train_on_batch(X, Y)  # its own thread may
            begun.set()
            go_on.wait(30)

    first = threading.Thread(
        target=model.fit, args=(X, Y), kwargs={"verbose": 0, "callbacks": [Waits()]}
    )
    first.start()
    begun.wait(30)
    try:
        for train in (model.fit, model.train_on_batch):
            with pytest.raises(RuntimeError, match="another thread is training it"):
                train(X, Y)
        assert model.predict(X, verbose=0).shape == (16, 1)
    finally:
        go_on.set()
        first.join()
    model.fit(X, Y, verbose=0)


def test_what_compile_leaves_to_see(tmp_path):
    model = fastrnn.Sequential([fastrnn.Input((3,)), L.Dense(1, kernel_regularizer="l2")])
    assert model.compiled is False and model.metrics == [] and model.jit_compile == "auto"
    model.compile("sgd", "mse", metrics=["mae"], jit_compile=False, run_eagerly=True)
    assert (model.compiled, model.jit_compile, model.run_eagerly) == (True, False, True)
    results = model.evaluate(X, Y, verbose=0)
    assert [m.name for m in model.metrics] == ["loss", "mae"]
    assert [float(m.result()) for m in model.metrics] == pytest.approx(results)
    assert len(model.losses) == 1 and float(model.losses[0]) > 0
    with pytest.raises(ValueError, match="format: expected 'onnx', received 'tf_saved_model'"):
        model.export(tmp_path / "m", format="tf_saved_model")
    pytest.importorskip("onnx", reason="needs onnx")
    model.export(tmp_path / "m.onnx")
    np.testing.assert_allclose(
        fastrnn.from_onnx(tmp_path / "m.onnx").predict(X), model.predict(X, verbose=0), rtol=1e-5
    )


def test_training_without_a_loss():
    """Regularizers are all there is to train for; losses of Keras 3.15."""
    ones, targets = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)

    def made(**options):
        model = fastrnn.Sequential([
            fastrnn.Input((3,)), L.Dense(2, kernel_initializer="ones", **options),
        ])  # fmt: skip
        model.compile("sgd", metrics=["mae"])
        return model

    model = made(activity_regularizer="l2")
    history = model.fit(ones, epochs=2, verbose=0)
    assert history.history["loss"] == pytest.approx([0.18, 0.179712], abs=1e-5)
    assert model.evaluate(ones, verbose=0) == pytest.approx(0.179425, abs=1e-5)
    history = made(kernel_regularizer="l2").fit(ones, targets, epochs=2, verbose=0).history
    assert history["loss"] == pytest.approx([0.06, 0.059976], abs=1e-5)
    assert history["mae"] == pytest.approx([2.0, 1.9994], abs=1e-4)
    with pytest.raises(RuntimeError, match="call compile"):
        made().fit(ones, verbose=0)


def test_batches_counted_by_num_batches(data):
    x, y = data

    class Counted(fastrnn.utils.PyDataset):
        num_batches = 4

        def __getitem__(self, place):
            return x[16 * place : 16 * place + 16], y[16 * place : 16 * place + 16]

    class Endless(Counted):
        num_batches = None

        def __getitem__(self, place):
            return super().__getitem__(place % 4)

    expected = weights_after(x, y, shuffle=False)
    assert_same(weights_after(Counted(), None, shuffle=False), expected)
    assert_same(weights_after(Endless(), None, shuffle=False, steps_per_epoch=4), expected)
    assert len(classifier().predict(Counted(), verbose=0)) == 50
