"""The same numbers from both libraries, and whether they agree.

Both sides of a comparison are a dict: kind of number -> list of arrays."""

import contextlib
import pprint

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="compares with Keras: needs the extra 'parity'")
tf = pytest.importorskip("tensorflow", reason="compares with Keras on TensorFlow")

TOLERANCES = {
    "output": 1e-5,
    "state": 1e-5,
    "initial weight": 0.0,
    "loss": 1e-5,
    "metric": 1e-5,
    "gradient of the input": 1e-4,
    "gradient of a weight": 1e-4,
    "weight after training": 1e-4,
    "history": 1e-4,
    "output after training": 1e-4,
    "loss after training": 1e-4,
    "metric after training": 1e-4,
}
TRAINED = {what for what in TOLERANCES if "after training" in what} | {"history"}


def deviation(kind, actual, expected):
    """The largest over the arrays of max |actual - expected| / max |expected|.

    An array much smaller than the largest of its kind is measured by a hundredth of that. Trained
    weights come as changes, and are measured by their norm: an optimizer that divides by the
    gradient makes a whole step of the rounding of a gradient that is zero."""
    if len(actual) != len(expected):
        return np.inf
    norm = np.linalg.norm if kind == "weight after training" else lambda a: np.abs(a).max(initial=0)
    pairs = [
        (np.asarray(a, np.float64), np.asarray(e, np.float64))
        for a, e in zip(actual, expected, strict=True)
    ]
    floor = 1e-2 * max((norm(e.ravel()) for _, e in pairs), default=0.0) + 1e-3
    largest = 0.0
    for a, e in pairs:
        if a.shape != e.shape or not np.isfinite(a).all():
            return np.inf
        largest = max(largest, norm((a - e).ravel()) / max(norm(e.ravel()), floor))
    return float(largest)


def agree(tally, kind, case, config, actual, expected, exact, nudged=None):
    """Compare, and note the deviations. Where float32 results differ by more than the tolerance,
    exact() (Keras in float64) decides: fastrnn must be within the tolerance of it, or no further
    from it than three times TensorFlow's own float32 (a network that amplifies rounding; ten times
    after steps of an optimizer, as those that divide by the gradient amplify it most). As
    TensorFlow may be lucky, nudged(seed), Keras in float64 with weights rounded otherwise, counts
    as well."""
    assert set(actual) == set(expected)
    wrong = []
    for what, values in expected.items():
        assert all(np.isfinite(v).all() for v in values), f"{case}: not finite in Keras: {what}"
        size = deviation(what, actual[what], values)
        if size <= TOLERANCES[what]:
            tally.deviation(what, size, case)
        else:
            wrong.append((what, size))
    if wrong:
        reference = exact()
    failures, again = [], None
    for what, size in wrong:
        own = deviation(what, actual[what], reference[what])
        theirs = deviation(what, expected[what], reference[what])
        factor = 10 if what in TRAINED else 3
        if nudged is not None and own > max(TOLERANCES[what], factor * theirs):
            again = again or [nudged(seed) for seed in range(3)]
            theirs = max(theirs, *(deviation(what, n[what], reference[what]) for n in again))
        if own <= TOLERANCES[what]:
            tally.deviation(what, own, case)
            reason = f"TensorFlow itself is off by {theirs:.1e}, fastrnn by {own:.1e}"
        elif own <= factor * theirs and theirs < 0.1:
            tally.deviation(f"{what}, where rounding is amplified", own, case)
            reason = f"amplifies rounding: Keras's to {theirs:.1e}, fastrnn's to {own:.1e}"
        else:
            failures.append(
                f"{what}: differs by {size:.1e} (from float64: fastrnn {own:.1e}, TensorFlow "
                f"{theirs:.1e}; tolerance {TOLERANCES[what]:.0e})"
            )
            continue
        tally.write_down(case, f"{what}: {reason}")
    assert not failures, f"{case}\n" + "\n".join(failures) + "\n" + pprint.pformat(config)
    tally.compared(kind)


def nudge(weights, seed):
    """The weights, off by half a unit in the last place of float32."""
    rng = np.random.default_rng(seed)
    return [w * (1 + 2.0**-24 * rng.choice((-1, 1), w.shape)) for w in weights]


@contextlib.contextmanager
def floatx(dtype):
    """Keras computes in `dtype` within."""
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)


def tensor(array):
    """In Keras's dtype of the moment, integers and bools as they are."""
    array = np.asarray(array)
    return tf.convert_to_tensor(array, keras.config.floatx() if array.dtype.kind == "f" else None)


def dense(gradient):
    """Without IndexedSlices, the form in which TensorFlow has the gradient of an embedding."""
    return tf.convert_to_tensor(gradient)


def summing_gradients(optimizer):
    """Make a Keras optimizer add up the gradients of a token that occurs several times, as Keras
    does on its other backends; on TensorFlow it squares and clips each of them apart
    (test_differences.py)."""
    apply = optimizer.apply

    def apply_dense(gradients, variables=None):
        return apply([dense(g) for g in gradients], variables)

    optimizer.apply = apply_dense
    return optimizer


def keras_loss_and_gradients(model, x, y, sample_weight=None):
    """(loss with its penalties, gradients of the trainable weights, gradient of x or None)."""
    x = tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        prediction = model(x, training=True)
        weight = None if sample_weight is None else tensor(sample_weight)
        loss = model.compute_loss(x, tensor(y), prediction, weight, training=True)
    variables = [v.value for v in model.trainable_variables]
    *gradients, dx = tape.gradient(loss, [*variables, x], unconnected_gradients="zero")
    return float(loss), [dense(g).numpy() for g in gradients], dx.numpy() if floating(x) else None


def floating(x):
    return x.dtype.is_floating


def from_spec(library, module, spec):
    """A loss, metric or optimizer: a name, or (class name, options), or None."""
    if spec is None or isinstance(spec, str):
        return spec
    name, options = spec
    return getattr(getattr(library, module), name)(**options)


def objects(library, module, specs):
    return [from_spec(library, module, spec) for spec in specs]
