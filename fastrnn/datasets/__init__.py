"""The data sets of the examples, as keras.datasets."""

from . import imdb, mnist

__all__ = ["imdb", "mnist"]
