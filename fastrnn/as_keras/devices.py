"""What scripts ask of tensorflow.config and tensorflow.test: devices and threads; and sessions of
TensorFlow 1, which they only set up."""

from types import SimpleNamespace
from typing import NamedTuple

from fastrnn.runtime import get_num_threads, set_num_threads

__all__ = [
    "enable_op_determinism", "functions_run_eagerly", "get_inter_op_parallelism_threads",
    "get_intra_op_parallelism_threads", "gpu_device_name", "is_built_with_cuda",
    "is_gpu_available", "list_logical_devices", "list_physical_devices", "run_functions_eagerly",
    "set_inter_op_parallelism_threads", "set_intra_op_parallelism_threads",
]  # fmt: skip


class PhysicalDevice(NamedTuple):
    name: str
    device_type: str


def list_physical_devices(device_type=None) -> list[PhysicalDevice]:
    """The CPU, where it is asked for; there is nothing else."""
    return [PhysicalDevice("/physical_device:CPU:0", "CPU")] if device_type in (None, "CPU") else []


list_logical_devices = list_physical_devices


def is_gpu_available(*args, **kwargs) -> bool:
    return False


def gpu_device_name() -> str:
    """No name: there is none."""
    return ""


def is_built_with_cuda() -> bool:
    return False


get_intra_op_parallelism_threads = get_num_threads


def set_intra_op_parallelism_threads(num_threads) -> None:
    """How many threads a layer computes with; 0 leaves them as they are."""
    if num_threads:
        set_num_threads(num_threads)


def get_inter_op_parallelism_threads() -> int:
    """The number 1: layers run one after another."""
    return 1


def set_inter_op_parallelism_threads(num_threads) -> None:
    """Changes nothing."""


def enable_op_determinism() -> None:
    """Changes nothing: a run is repeatable at a fixed number of threads as it is."""


class ConfigProto(SimpleNamespace):
    """Any settings; the number of threads of one operation counts, GPUs there are none."""

    def __init__(self, **settings):
        super().__init__(**{"gpu_options": SimpleNamespace(), **settings})


class Session:
    """What Keras 2 wanted a ConfigProto wrapped in. It runs nothing."""

    def __init__(self, target="", graph=None, config=None):
        set_intra_op_parallelism_threads(getattr(config, "intra_op_parallelism_threads", 0))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def close(self):
        pass


def run_functions_eagerly(run_eagerly) -> None:
    """Changes nothing: functions run as they are written."""


def functions_run_eagerly() -> bool:
    return True
