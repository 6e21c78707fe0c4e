"""Preparing data, under the names of `keras.preprocessing`."""

from fastrnn._public import public

from . import sequence, text
from .timeseries import timeseries_dataset_from_array

__all__ = ["sequence", "text", "timeseries_dataset_from_array"]
public(__name__)
