"""tensorflow.logging and tensorflow.get_logger: how much is said."""

import logging
from logging import DEBUG, ERROR, FATAL, INFO, WARN, WARNING

__all__ = ["DEBUG", "ERROR", "FATAL", "INFO", "WARN", "WARNING", "get_logger", "set_verbosity"]


def get_logger() -> logging.Logger:
    """The logger "tensorflow", for what scripts set on it; fastrnn says nothing through it."""
    return logging.getLogger("tensorflow")


def set_verbosity(level) -> None:
    get_logger().setLevel(level)
