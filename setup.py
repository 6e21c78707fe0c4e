"""Builds the one extension: csrc/kernels.c once per instruction set, the rest once."""

import os
import platform
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

INSTRUCTION_SETS = {"base": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS["avx2"] = ["-mavx2", "-mfma"]
    INSTRUCTION_SETS["avx512"] = [
        "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512",
    ]  # fmt: skip

THREADS = ["-pthread"]
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter", *THREADS]


class BuildEngine(build_ext):
    def build_extension(self, ext):
        objects = []
        for name, flags in INSTRUCTION_SETS.items():
            objects += self.compiler.compile(
                ["csrc/kernels.c"],
                output_dir=os.path.join(self.build_temp, name),
                extra_postargs=FLAGS + flags,
                depends=ext.depends,
            )
        ext.extra_objects = objects
        super().build_extension(ext)


# For `fastrnn bench`. Outside of the package, uninstalling would leave folders behind.
BENCH = [
    Path("bench", name) for name in ("compare.py", "harness.py", "networks.py", "workloads.py")
]


class BuildPackage(build_py):
    def run(self):
        super().run()
        for path in [] if self.editable_mode else [*BENCH, *Path("bench/peers").glob("*.py")]:
            target = Path(self.build_lib, "fastrnn", f"_{path}")
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


SOURCES = ["csrc/engine.c", "csrc/threads.c", "csrc/layers.c", "csrc/pointwise.c", "csrc/crf.c"]
engine = Extension(
    "fastrnn._engine",
    ["fastrnn/_engine.pyx", *SOURCES],
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    depends=sorted(str(p) for p in [*Path("csrc").glob("*.[ch]"), *Path("fastrnn").glob("*.pxi")]),
    extra_compile_args=[*FLAGS, "-Wno-unused-function"],
    extra_link_args=THREADS,
)

setup(
    ext_modules=cythonize([engine], compiler_directives={"language_level": 3}),
    cmdclass={"build_ext": BuildEngine, "build_py": BuildPackage},
)
