"""Inference at the lowest latency: a network as a list of calls on arrays that stay in place."""

import collections

import numpy as np

from fastrnn import variable
from fastrnn.layers.base import as_input
from fastrnn.run import Run

SHAPES_KEPT = 8


class Predictor:
    """What Sequential.compile_inference returns: call it with a batch (batch, ...) for the outputs.

    Weights are packed and buffers laid out once for each of the shapes used last, and again when
    the weights have changed, so that a call costs microseconds beside the kernels. Any number of
    threads may call one Predictor at once. out: an array that takes the outputs.
    Errors: ValueError for a shape that does not fit the model or `out`."""

    def __init__(self, model):
        self._model = model
        self._dtype = model.input_dtype
        self._plans = collections.OrderedDict()  # shape -> plans that no thread is using
        self._checked = self._version = None

    def __call__(self, x, out=None):
        if type(x) is not np.ndarray or x.dtype != self._dtype:
            x = as_input(x, self._dtype)
        if self._checked != variable.last_change():
            self._check_weights()
        free = self._plans.get(x.shape)
        if free:
            try:
                plan = free.pop()
            except IndexError:
                plan = self._plan(x.shape)
        else:
            plan = self._plan(x.shape)
        source, steps, y, version = plan
        source[...] = x
        for step in steps:
            step()
        if isinstance(y, list):
            if out is not None:
                raise ValueError("out: expected None for a model of several outputs")
            out = [part.copy() for part in y]
        elif out is None:
            out = y.copy()
        elif getattr(out, "shape", None) != y.shape:
            raise ValueError(
                f"out: expected an array of shape {y.shape}, received {getattr(out, 'shape', out)}"
            )
        else:
            out[...] = y
        if version == self._version:
            self._plans.setdefault(x.shape, collections.deque()).append(plan)
        return out

    def _check_weights(self):
        now = variable.last_change()
        version = max((w.version for w in self._model.weights), default=0)
        if version != self._version:
            self._plans.clear()
            self._version = version
        self._checked = now

    def _plan(self, shape):
        self._model.check_call(shape)
        while len(self._plans) >= SHAPES_KEPT and shape not in self._plans:
            self._plans.popitem(last=False)
        source = np.zeros(shape, self._dtype)
        steps = []
        y = self._model.plan(source, steps, Run())
        return source, steps, y, self._version
