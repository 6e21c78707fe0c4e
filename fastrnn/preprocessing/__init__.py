"""Preparing data, under the names of `keras.preprocessing`."""

from fastrnn._public import public

from . import sequence, text
from .files import text_dataset_from_directory
from .timeseries import timeseries_dataset_from_array

__all__ = ["sequence", "text", "text_dataset_from_directory", "timeseries_dataset_from_array"]
public(__name__)
