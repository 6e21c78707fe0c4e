"""The data sets of the examples, as keras.datasets."""

from . import fashion_mnist, imdb, mnist, reuters

__all__ = ["fashion_mnist", "imdb", "mnist", "reuters"]
