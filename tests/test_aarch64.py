"""The kernels' generic vector code, cross-compiled for aarch64 and run under qemu against the C
fuzzer's own reference. Needs `pip install ziglang` or a GCC for aarch64, and qemu-user."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CSRC = Path(__file__).parent.parent / "csrc"


def cross_compiler():
    """CC and AR for static programs on aarch64 Linux."""
    if shutil.which("aarch64-linux-gnu-gcc"):
        return "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-ar"
    if importlib.util.find_spec("ziglang"):
        zig = f"{sys.executable} -m ziglang"
        return f"{zig} cc -target aarch64-linux-musl", f"{zig} ar"
    return None


@pytest.mark.skipif(cross_compiler() is None, reason="needs a compiler for aarch64")
@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.skipif(not CSRC.exists(), reason="needs the sources beside the tests")
def test_kernels_on_aarch64(tmp_path):
    cc, ar = cross_compiler()
    program = tmp_path / "fuzz_kernels"
    subprocess.run(
        ["make", "-C", CSRC, f"CC={cc}", f"AR={ar}", f"BUILD={tmp_path}", "SETS=base",
         "CFLAGS=-O1 -static -Werror", program],
        check=True, env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(tmp_path / "cache")},
    )  # fmt: skip
    assert program.read_bytes()[18] == 183  # the ELF header's number for aarch64
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("compiled; running it needs qemu-user")
    done = subprocess.run([emulator, program, "40"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "40 rounds on base\n")
