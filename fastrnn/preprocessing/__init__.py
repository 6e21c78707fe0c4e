"""Preparing data, under the names of `keras.preprocessing`."""

from . import sequence, text
from .timeseries import timeseries_dataset_from_array

__all__ = ["sequence", "text", "timeseries_dataset_from_array"]
