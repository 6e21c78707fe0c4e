"""A test that a saved model carries: an input, its output, and how far a reader may be off."""

import math

import numpy as np

from fastrnn.saving.config import within
from fastrnn.saving.guard import of_values

_GROUP = "self_test"
_MAX_ELEMENTS = 1 << 22  # of any layer's output, so that no file makes its test a long computation


def make(model, x, tolerance=None) -> dict | None:
    """The arrays that are written: x, the model's output for it and the tolerance.

    x: a batch of inputs, or None for no test. tolerance: the greatest absolute difference of an
    element that loading accepts, by default 1e-4 of the greatest output, at least 1e-6.
    """
    if x is None:
        if tolerance is not None:
            raise ValueError("tolerance: expected self_test as well, received none")
        return None
    if model.input_dtype is object:
        raise ValueError("self_test: expected None for a model that takes text, received some")
    x = np.asarray(x, model.input_dtype)
    y = _answer(model, x)
    if not np.isfinite(y).all():
        raise ValueError("self_test: the model's output is not finite")
    if tolerance is None:
        tolerance = max(1e-4 * float(abs(y).max()), 1e-6)
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance: expected a number >= 0, received {tolerance!r}")
    return {"input": x, "output": y, "tolerance": np.array(tolerance, np.float64)}


def write(file, test) -> None:
    """Put what `make` made into a group of the file to be written."""
    for name, array in (test or {}).items():
        file[f"{_GROUP}/{name}"] = array


def replay(model, root) -> None:
    """Run the test in a file, if it has one. Raises ValueError saying how far the model is off."""
    group = root.find(_GROUP)
    if group is None:
        return
    x, expected, tolerance = (group.array(name) for name in ("input", "output", "tolerance"))
    if x.dtype != model.input_dtype or tolerance.shape != () or not tolerance >= 0:
        raise ValueError("self-test: expected an input, an output and a tolerance")
    with np.errstate(all="ignore"):
        try:
            y = _answer(model, x)
        except Exception as error:
            if not of_values(error):
                raise
            raise ValueError(f"self-test: {str(error).removeprefix('self-test: ')}") from error
        if y.shape != expected.shape:
            raise ValueError(f"self-test: expected output {expected.shape}, computed {y.shape}")
        difference = abs(y.astype(np.float64) - expected)
    if not (difference <= tolerance).all():
        raise ValueError(
            f"self-test failed: the model's output differs by {difference.max():.3g} from what was "
            f"saved with it, at {int((~(difference <= tolerance)).sum())} of {y.size} places; "
            f"the tolerance is {float(tolerance):.3g}"
        )


def _answer(model, x):
    """The model's output for x, starting from fresh states and leaving them as they were."""
    model.build((None, *x.shape[1:]))
    model.check_call(x.shape)
    shape = x.shape
    for layer in model.layers:
        shape = layer.compute_output_shape(shape)
        if isinstance(shape, list) or math.prod(shape) > _MAX_ELEMENTS:
            raise ValueError(
                f"self-test: expected one output of at most {_MAX_ELEMENTS} elements from each "
                f"layer, received {shape} from {layer.name!r}"
            )
    stateful = [layer for layer in within(model) if getattr(layer, "states", None) is not None]
    before = [layer._states for layer in stateful]
    for layer in stateful:
        layer.states = None
    y = model.predict(x, batch_size=len(x), verbose=0)
    for layer in within(model):
        if getattr(layer, "states", None) is not None:
            layer.states = None
    for layer, states in zip(stateful, before, strict=True):
        layer.states = states
    return y
