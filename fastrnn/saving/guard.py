"""The guard at the door of what files hold: whatever values in them cause is a ValueError."""

import contextlib

_OF_VALUES = (
    ArithmeticError, AttributeError, LookupError, MemoryError, NotImplementedError, RecursionError,
    TypeError, ValueError,
)  # fmt: skip
_BY = ("builtins", "fastrnn", "numpy")


def of_values(error: BaseException) -> bool:
    """Is this an error that constructors and arithmetic raise for the values that they are given?

    Any other passes through: that of a caller's signal handler (TimeoutError, or a class of its
    own), of the disk, or a warning that the caller has made an error.
    """
    return isinstance(error, _OF_VALUES) and type(error).__module__.partition(".")[0] in _BY


@contextlib.contextmanager
def values_of(what: str, value_errors: bool = True):
    """Errors of values become ValueErrors that begin with `what`. value_errors: those that are
    ValueErrors already, too."""
    try:
        yield
    except Exception as error:
        if not of_values(error) or (not value_errors and isinstance(error, ValueError)):
            raise
        raise ValueError(f"{what}: {error or type(error).__name__}") from error
