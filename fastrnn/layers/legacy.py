"""Older spellings of arguments."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Constructor = TypeVar("Constructor", bound=Callable[..., Any])

WEIGHTS = {  # of Keras 1, for a layer with a kernel and a bias
    "init": "kernel_initializer",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
}


def old_spellings(**names: str) -> Callable[[Constructor], Constructor]:
    """Decorate a constructor to take keyword arguments under older names too: old="new"."""

    def decorate(function):
        @functools.wraps(function)
        def renamed(self, *args, **kwargs):
            for old in names.keys() & kwargs.keys():
                new = names[old]
                if new in kwargs:
                    raise TypeError(
                        f"{type(self).__name__}: expected one of {new} and its older name {old}, "
                        "received both"
                    )
                kwargs[new] = kwargs.pop(old)
            function(self, *args, **kwargs)

        return renamed

    return decorate


def rows_and_columns(function: Constructor) -> Constructor:
    """Decorate a constructor to take Keras 1's nb_row and nb_col for kernel_size."""

    @functools.wraps(function)
    def renamed(self, *args, **kwargs):
        if "nb_row" in kwargs and "nb_col" in kwargs:
            if "kernel_size" in kwargs:
                raise TypeError(
                    f"{type(self).__name__}: expected one of kernel_size and its older names "
                    "nb_row and nb_col, received both"
                )
            kwargs["kernel_size"] = kwargs.pop("nb_row"), kwargs.pop("nb_col")
        function(self, *args, **kwargs)

    return renamed
