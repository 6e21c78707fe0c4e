"""Processes that tests start, and that end with the process of the tests, however that ends."""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


def end_with_parent():
    """Linux kills this process, stopped or not, when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command, **options):
    """A subprocess.Popen; elsewhere than on Linux it is the caller's to end it."""
    if os.name == "posix":
        options["preexec_fn"] = end_with_parent
    return subprocess.Popen(command, **options)


def run(command, timeout=300, **options):
    """As subprocess.run(command, capture_output=True); after `timeout` what the command started is
    killed too."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(command, start_new_session=True, **pipes, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            if os.name == "posix" and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)
