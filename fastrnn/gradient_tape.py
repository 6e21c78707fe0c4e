"""GradientTape: the tape, opened by the user."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np

from ._public import public
from .arrays import Array, as_array
from .tape import (
    Source,
    Traced,
    gradients,
    last_number,
    leaves,
    mapped,
    not_recording,
    of,
    recording,
    watch,
)
from .variable import Variable

__all__ = ["GradientTape"]
public(__name__)


class _Open(threading.local):
    """The tapes that are open in this thread."""

    def __init__(self):
        self.tapes = []


_open = _Open()


class GradientTape:
    """`with GradientTape() as tape:` remembers what is computed from weights that are trained, and
    from arrays that were given to `watch`; `tape.gradient` then has derivatives.

    persistent: `gradient` may be called more than once. watch_accessed_variables: whether weights
    take part without `watch`. Of two tapes open at once both remember, but there are no derivatives
    of derivatives: NotImplementedError. Source: https://www.tensorflow.org/api_docs (GradientTape).
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True):
        self._persistent, self._weights = persistent, watch_accessed_variables
        self._watched: set[Any] = set()  # weights, and what other tapes have recorded
        self._since: int | None = None  # the number of the last step before the tape
        self._recording: Any = None
        self._used = self._shared = False

    def __enter__(self) -> GradientTape:
        if self._recording is not None:
            raise ValueError("GradientTape: expected one that is not open already")
        self._shared = self._shared or bool(_open.tapes)
        for tape in _open.tapes:
            tape._shared = True
        if self._since is None:
            self._since = last_number()
        self._recording = recording(False, self._weights, self._watched, self._since)
        self._recording.__enter__()
        _open.tapes.append(self)
        return self

    def __exit__(self, *error) -> None:
        _open.tapes.remove(self)
        opened, self._recording = self._recording, None
        opened.__exit__(*error)

    def watch(self, tensor: Any) -> None:
        """Remember what is computed from this array, or from each of a list or dict of them. Raises
        ValueError for other things than arrays of tf.constant and its like, and weights."""
        for part in leaves(tensor):
            if isinstance(part, (Variable, Traced)):
                self._watched.add(part)
            elif isinstance(part, Array):
                if part.dtype.kind != "f":
                    raise ValueError(
                        f"tensor: expected an array of floating-point numbers to watch, received "
                        f"dtype {part.dtype}"
                    )
                watch(part)
            else:
                raise ValueError(
                    f"tensor: expected what tf.constant, tf.Variable or a layer gives, received "
                    f"{type(part).__name__}; tf.constant(x) makes such of NumPy's arrays"
                )

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: str = "none",
    ) -> Any:
        """The derivative of the sum of target, or of several, with respect to each of sources, in
        their structure; None (or zeros, for unconnected_gradients="zero") where there is none.
        output_gradients: factors of the targets' numbers. Raises RuntimeError for a second call
        where the tape is not persistent."""
        if self._used and not self._persistent:
            raise RuntimeError(
                "A GradientTape that is not persistent gives derivatives once: expected "
                "GradientTape(persistent=True) for a second call of gradient"
            )
        if self._since is None:
            raise RuntimeError(
                "A GradientTape remembers what is computed in its block: expected `with "
                "GradientTape() as tape:` before gradient"
            )
        if [tape for tape in _open.tapes if tape is not self]:
            raise NotImplementedError(
                "GradientTape.gradient: another tape is open, and derivatives of derivatives are "
                "not computed; call it after that tape's block"
            )
        if unconnected_gradients not in ("none", "zero"):
            raise ValueError(
                "unconnected_gradients: expected 'none' or 'zero', received "
                f"{unconnected_gradients!r}"
            )
        self._used = True
        targets = [of(part) for part in leaves(target)]
        seeds = [None] * len(targets) if output_gradients is None else leaves(output_gradients)
        if len(seeds) != len(targets):
            raise ValueError(
                f"output_gradients: expected {len(targets)}, as targets, received {len(seeds)}"
            )
        with not_recording():
            ends = [
                (part, _seed(part, seed))
                for part, seed in zip(targets, seeds, strict=True)
                if isinstance(part, Source)
            ]
            wanted = {id(_step(part)) for part in leaves(sources)}
            release = not self._persistent and not self._shared
            found = gradients(ends, release, wanted, self._since)

        def result(source):
            source = of(source)
            if isinstance(source, np.ndarray):
                source = None if unconnected_gradients == "none" else source
            gradient = found.get(id(_step(source))) if source is not None else None
            if gradient is None and source is not None and unconnected_gradients == "zero":
                gradient = np.zeros(np.shape(source), np.float32)
            return None if gradient is None else as_array(np.asarray(gradient))

        return mapped(result, sources)

    @contextlib.contextmanager
    def stop_recording(self):
        """`with tape.stop_recording():` nothing is remembered."""
        with not_recording():
            yield

    def reset(self) -> None:
        """Begin anew, without what was computed before."""
        self._used, self._since = False, last_number()

    def watched_variables(self):
        raise NotImplementedError(
            "GradientTape.watched_variables: the tape keeps no list; name the weights, as in "
            "tape.gradient(loss, model.trainable_variables)"
        )

    def jacobian(self, *args, **kwargs):
        raise NotImplementedError(
            "GradientTape.jacobian: there is gradient(target, sources), one row for each target"
        )

    batch_jacobian = jacobian


def _step(given):
    """What gradients of an array are kept under."""
    given = of(given)
    return given.step if isinstance(given, Source) else given


def _seed(target, seed):
    if seed is None:
        return np.ones(target.shape, target.dtype)
    seed = np.asarray(getattr(seed, "value", seed), target.dtype)
    return np.broadcast_to(seed, target.shape)
