"""Threads and instruction set: what this process may use, and how a user changes it."""

import math
import os
from pathlib import Path

try:
    from fastrnn import _engine
except ImportError as error:
    raise ImportError(
        "fastrnn's C engine is not built here: run `pip install -e .` in this folder, or leave the "
        "folder with the sources if fastrnn is installed"
    ) from error

get_num_threads, isa = _engine.get_num_threads, _engine.isa
set_num_threads = _engine.set_num_threads

__all__ = ["get_num_threads", "isa", "set_num_threads"]


def _quota(folder: Path) -> float:
    """CPUs that the quota of one control group allows (version 2, then 1); infinity without one."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    try:
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else math.inf
    except ValueError:
        return math.inf


def _cgroup_cpus(root: str = "/") -> float:
    """The smallest quota of this process's control group and of those around it."""
    groups = {Path("/")}
    try:
        for line in Path(root, "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                groups |= {Path(path), *Path(path).parents}
    except (OSError, ValueError):
        pass
    mounts = Path(root, "sys/fs/cgroup"), Path(root, "sys/fs/cgroup/cpu")
    return min(_quota(Path(f"{mount}{group}")) for mount in mounts for group in groups)


def _use_default_threads() -> None:
    """FASTRNN_NUM_THREADS, then OMP_NUM_THREADS, then the CPUs this process may use."""
    for name in ("FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        # "\u00b2" is a digit, and int() refuses more than some thousand of them
        if text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= 1024:
            return set_num_threads(int(text))
        if text and name == "FASTRNN_NUM_THREADS":
            raise ValueError(
                f"{name}: expected a whole number from 1 to 1024, received {text[:40]!r}"
            )
    _engine.set_num_threads_within_cpus(max(1, math.ceil(min(_cgroup_cpus(), 1024))))


def _use_named_isa() -> None:
    name = os.environ.get("FASTRNN_ISA", "").strip()
    sets = _engine.available_isas()
    if name and name not in sets:
        raise ValueError(
            f"FASTRNN_ISA: expected one of {sets}, which this CPU has, received {name[:40]!r}"
        )
    if name:
        _engine.set_isa(name)


_use_default_threads()
_use_named_isa()
