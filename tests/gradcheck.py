"""Central differences, to check the gradients of a scalar function in float64."""

import numpy as np


def numeric_gradient(function, array, step=1e-5):
    """Gradient of the scalar `function()` with respect to `array`, which it reads."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = function()
        array[index] = value - step
        below = function()
        array[index] = value
        gradient[index] = (above - below) / (2.0 * step)
    return gradient


def gradcheck(function, arrays, gradients, tolerance=1e-6, step=1e-5):
    """The names whose gradient differs from the numeric one; an empty list means all agree.

    arrays: name -> float64 array that `function()` reads; gradients: name -> array of its shape.
    A gradient agrees within `tolerance` of the largest numeric derivative of its array.
    """
    wrong = []
    for name, array in arrays.items():
        if array.dtype != np.float64:
            raise TypeError(f"{name}: expected float64, received {array.dtype}")
        expected = numeric_gradient(function, array, step)
        gradient = np.asarray(gradients[name])
        limit = tolerance * max(abs(expected).max(), 1e-3)
        if gradient.shape != array.shape or not (abs(gradient - expected) <= limit).all():
            wrong.append(name)
    return wrong
