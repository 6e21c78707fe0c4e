"""Random programs of the user's own layers, cells and models, beside Keras's: weights and their
names, numbers, steps of training, and files."""

import re

import numpy as np
import pytest
import random_own
from comparison import keras, tf

import fastrnn

# Keras's advice about programs that nobody would write.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
THEIRS = random_own.define(keras, tf, lambda weight: weight.value)
OURS = random_own.define(fastrnn, random_own.tensorflow_of_fastrnn(), lambda weight: weight)


def flat(outputs):
    """(arrays, their structure)"""
    if isinstance(outputs, dict):
        names = sorted(outputs)
        return [np.asarray(outputs[name]) for name in names], names
    if isinstance(outputs, (list, tuple)):
        return [*map(np.asarray, outputs)], len(outputs)
    return [np.asarray(outputs)], None


def structured(arrays, structure):
    if structure is None:
        return arrays[0]
    return arrays if isinstance(structure, int) else dict(zip(structure, arrays, strict=True))


def started(rng, weight):
    """The same in each run; about 1 or above 0 where it has to be."""
    value = rng.normal(0, 0.4, weight.shape)
    if weight.name in ("gamma", "moving_variance"):
        value = 1 + 0.3 * value
    positive = weight.constraint is not None or "variance" in weight.name
    return np.abs(value) if positive else value


def close(ours, theirs, what, tolerance=3e-5):
    """The largest deviation, relative to numbers above 1."""
    largest = 0.0
    for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        one, other = np.asarray(one), np.asarray(other)
        assert one.shape == other.shape, (what, place)
        scale = max(1.0, float(np.abs(other).max(initial=0)))
        np.testing.assert_allclose(
            one, other, rtol=0, atol=tolerance * scale, err_msg=f"{what} {place}"
        )
        largest = max(largest, float(np.abs(one - other).max(initial=0)) / scale)
    return largest


def test_random_programs(random_program, tmp_path, tally):
    with (
        keras.saving.custom_object_scope(THEIRS.custom_objects),
        fastrnn.saving.custom_object_scope(OURS.custom_objects),
    ):
        compare_program(random_program, tmp_path, tally)


def compare_program(random_program, tmp_path, tally):
    def compare(ours, theirs, what, tolerance=3e-5):
        tally.deviation(
            f"{what} of random programs", close(ours, theirs, what, tolerance), random_program
        )

    def compare_outputs(one, other, what):
        one, other = flat(one), flat(other)
        assert one[1] == other[1], what
        compare(one[0], other[0], what)

    program = random_own.Program(random_program)
    x = program.data(np.random.default_rng(random_program))
    theirs, ours = program.build(THEIRS), program.build(OURS)
    if program.form == "model":
        theirs(x), ours(x)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    if program.spec.get("named"):
        assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    places = [[w.trainable for w in model.weights] for model in (ours, theirs)]
    assert places[0] == places[1]
    rng = np.random.default_rng(random_program)
    theirs.set_weights([started(rng, w) for w in theirs.weights])
    ours.set_weights(theirs.get_weights())
    expected = theirs(x, training=False)
    compare_outputs(ours(x, training=False), expected, "output")
    compare_outputs(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), "prediction")
    arrays, structure = flat(expected)
    y = structured([rng.normal(size=a.shape).astype(np.float32) for a in arrays], structure)
    losses = structured(["mse"] * len(arrays), structure)
    for m, model in ((THEIRS, theirs), (OURS, ours)):
        optimizer = m.keras.optimizers.SGD(0.02, momentum=0.9)
        model.compile(optimizer, losses, run_eagerly=True)

    def steps(model):
        if random_program % 4 == 0:
            history = model.fit(x, y, batch_size=3, shuffle=False, verbose=0)
            return [*map(np.asarray, history.history["loss"])]
        return [np.asarray(model.train_on_batch(x, y, return_dict=True)["loss"])]

    def steps_or_none(model):
        """None where no weight has a gradient, which is an error (DIFFERENCES.md)."""
        try:
            return steps(model)
        except ValueError as error:
            if not re.search("No gradients provided|grads: expected a gradient", str(error)):
                raise
            return None

    trains = bool(theirs.trainable_weights)
    if trains:
        found, expected = (steps_or_none(model) for model in (ours, theirs))
        trains = expected is not None
    if trains:
        compare(found, expected, "loss")
        for _ in range(2):
            compare(steps(ours), steps(theirs), "loss")
        compare(ours.get_weights(), theirs.get_weights(), "weight", 1e-4)
    results = [model.evaluate(x, y, verbose=0, return_dict=True) for model in (ours, theirs)]
    if structure is None:
        assert [*results[0]] == [*results[1]]
    name = "doubled" if "doubled" in results[1] else "loss"
    compare([results[0][name]], [results[1][name]], "evaluation")
    tally.compared("users' programs")
    path = str(tmp_path / "model.keras")
    theirs.save(path)
    again = fastrnn.models.load_model(path)
    expected = theirs.predict(x, verbose=0)
    compare_outputs(again.predict(x, verbose=0), expected, "loaded prediction")
    ours.set_weights(theirs.get_weights())
    ours.save(path)
    back = keras.models.load_model(path)
    back.run_eagerly = True
    compare_outputs(back.predict(x, verbose=0), expected, "prediction loaded by Keras")
    if trains:
        compare(steps(again), steps(back), "loss after loading", 1e-3)
    path = str(tmp_path / "model.weights.h5")
    theirs.save_weights(path)
    ours.set_weights([0 * w for w in ours.get_weights()])
    ours.load_weights(path)
    compare(ours.get_weights(), theirs.get_weights(), "weight read")
    ours.save_weights(path)
    theirs.set_weights([0 * w for w in theirs.get_weights()])
    theirs.load_weights(path)
    compare(theirs.get_weights(), ours.get_weights(), "weight read by Keras")
