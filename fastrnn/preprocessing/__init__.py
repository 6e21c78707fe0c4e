"""Preparing data, under the names of `keras.preprocessing`."""

from . import sequence

__all__ = ["sequence"]
