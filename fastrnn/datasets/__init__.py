"""The data sets of the examples, as keras.datasets."""

from fastrnn._public import public

from . import fashion_mnist, imdb, mnist, reuters

__all__ = ["fashion_mnist", "imdb", "mnist", "reuters"]
public(__name__)
