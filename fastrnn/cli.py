"""The command `fastrnn`: argparse over what the package offers.

Exit status: 0 done, 1 an error (one line on the standard error; --traceback shows where), 2 a wrong
command line, 130 interrupted. `run`, `demo` and `bench` end with the status of what they run.
"""

import argparse
import os
import platform
import runpy
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np

import fastrnn
from fastrnn import _engine
from fastrnn.data import check_batch_size
from fastrnn.progress import Progbar
from fastrnn.saving.atomic import naming

_DEMOS = ("attention", "cumsum", "echo", "frames", "imdb", "mnist")
_WEIGHTS = (".weights.h5", ".safetensors")


def main(argv=None) -> int:
    """Run one command; argv default that of the process. Returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        return args.command(args) or 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if args.traceback:
            traceback.print_exc()
        else:
            print(f"fastrnn: {error or type(error).__name__}", file=sys.stderr)
        return 1


def info(args):
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    rows = {
        "fastrnn": fastrnn.__version__,
        "Python": f"{platform.python_version()}, NumPy {np.__version__}",
        "CPU": _cpu_name(),
        "instruction set": f"{fastrnn.isa()} (of {', '.join(_engine.available_isas())})",
        "threads": f"{fastrnn.get_num_threads()} (of {os.cpu_count()} CPUs)",
        "BLAS": f"none, kernels of its own (NumPy has {blas['name']} {blas.get('version', '')})",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")


def run(args):
    """An exception in the script is shown as Python shows it, from the script's own lines on."""
    import fastrnn.as_keras  # noqa: F401

    script = args.script
    if not os.path.isfile(script):
        raise ValueError(f"script: expected a Python file, received {script!r}")
    sys.argv = [script, *args.args]
    sys.path[0] = str(Path(script).resolve().parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except Exception as error:
        place = error.__traceback__
        while not args.traceback and place and place.tb_frame.f_code.co_filename != script:
            place = place.tb_next
        traceback.print_exception(type(error), error, place)
        return 1


def demo(args):
    sys.argv = [args.name, *args.args]
    runpy.run_module(f"fastrnn.examples.{args.name}", run_name="__main__", alter_sys=True)


def summary(args):
    _load_model(args.file, compile=False).summary(expand_nested=True)


def predict(args):
    """A batch is in memory at a time; the output file appears when it is whole."""
    size = check_batch_size(args.batch_size)
    compute = _load_function(args.file)
    try:
        x = np.load(args.data, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        x = None
    if not isinstance(x, np.ndarray) or x.ndim == 0 or len(x) == 0:
        raise ValueError(
            f"{args.data}: expected an .npy file of numbers (no objects), samples on the first axis"
        )
    starts = range(0, len(x), size)
    bar = Progbar(len(starts), verbose=0 if args.quiet else 1)
    folder = os.path.dirname(os.path.realpath(args.output))
    with (
        naming(args.output),
        tempfile.TemporaryDirectory(prefix=".fastrnn-", dir=folder) as temporary,
    ):
        whole, part = None, os.path.join(temporary, "out.npy")
        for step, start in enumerate(starts):
            y = compute(x[start : start + size])
            if not isinstance(y, np.ndarray):
                raise ValueError(f"{args.file}: expected a model with one output, it has {len(y)}")
            if whole is None:
                whole = np.lib.format.open_memmap(part, "w+", y.dtype, (len(x), *y.shape[1:]))
            whole[start : start + len(y)] = y
            bar.update(step + 1)
        whole.flush()
        os.replace(part, os.path.realpath(args.output))
    bar.finish()


def convert(args):
    name = args.output
    if name.endswith(".onnx"):
        fastrnn.to_onnx(_load_model(args.input, compile=False), name)
    elif name.endswith(".fastrnn"):
        fastrnn.to_c(_load_model(args.input, compile=False), name)
    elif name.endswith(_WEIGHTS):
        _load_model(args.input, compile=False).save_weights(name)
    elif name.endswith((".keras", ".h5", ".hdf5")):
        _load_model(args.input, compile=not args.no_optimizer).save(name)
    else:
        raise ValueError(
            "OUT: expected a name that ends in .keras, .h5, .onnx, .fastrnn, "
            f"{' or '.join(_WEIGHTS)}, received {name!r}"
        )


def bench(args):
    repository = Path(__file__).parents[1] / "bench"
    installed = Path(__file__).parent / "_bench"
    program = next((p for f in (repository, installed) if (p := f / "compare.py").is_file()), None)
    if program is None:
        raise ValueError(f"bench: expected its programs in {installed} or {repository}")
    options = [f"--threads={args.threads or fastrnn.get_num_threads()}"]
    options += [f"--{name}={v}" for name in ("only", "peers") if (v := getattr(args, name))]
    sys.argv = [str(program), "--quick", *options]
    sys.path.insert(0, str(program.parent))
    runpy.run_path(str(program), run_name="__main__")


def _load_model(path, compile):
    if path.endswith(".onnx"):
        return fastrnn.from_onnx(path).to_sequential()
    if path.endswith(_WEIGHTS):
        raise ValueError(f"{path}: expected a whole model, received weights alone")
    return fastrnn.models.load_model(path, compile=compile)


def _load_function(path):
    """The function x -> y of a model in a file."""
    if path.endswith(".onnx"):
        return fastrnn.from_onnx(path)
    return _load_model(path, compile=False).predict_on_batch


def _cpu_name():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line for line in file if line.startswith("model name")).split(": ")[1][:-1]
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _parser():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser = argparse.ArgumentParser(
        prog="fastrnn",
        description="LSTM networks on CPUs with Keras's API.",
        epilog="example: fastrnn demo; fastrnn COMMAND --help has one for each command",
    )
    parser.add_argument("--version", action="version", version=f"fastrnn {fastrnn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(function, text, example):
        command = commands.add_parser(
            function.__name__,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example: fastrnn {example}",
            parents=[common],
        )
        command.set_defaults(command=function)
        return command

    add(info, "version, CPU, instruction set in use, threads, BLAS", "info")

    command = add(run, "run a Keras script on fastrnn, as it is", "run train.py --epochs 3")
    command.add_argument("script", help="a Python file that imports keras or tensorflow.keras")
    command.add_argument("args", nargs=argparse.REMAINDER, help="the script's own arguments")

    command = add(
        demo,
        "train one of the example networks; imdb and mnist need data",
        "demo cumsum --epochs 500",
    )
    command.add_argument("name", nargs="?", default="cumsum", choices=_DEMOS, help="default cumsum")
    command.add_argument("args", nargs=argparse.REMAINDER, help="its options; --help lists them")

    command = add(summary, "the layers of a model in a file", "summary model.keras")
    command.add_argument("file", metavar="FILE")

    command = add(
        predict, "outputs of a model for the samples in a file", "predict m.keras x.npy -o y.npy"
    )
    command.add_argument("file", metavar="FILE", help="a .keras, .h5 or .onnx file")
    command.add_argument("data", metavar="data.npy", help="an array, samples on the first axis")
    command.add_argument("-o", "--output", metavar="out.npy", required=True)
    command.add_argument("--batch-size", type=int, default=128, help="default 128")
    command.add_argument("--quiet", action="store_true", help="no progress bar")

    command = add(
        convert, "a model into another format, by the names' endings", "convert old.h5 new.keras"
    )
    command.add_argument("input", metavar="IN", help=".keras or .h5, or .onnx of a chain of layers")
    command.add_argument("output", metavar="OUT", help=".keras, .h5, .onnx, .fastrnn (C library), "
                         "or .safetensors or .weights.h5 for the weights alone")  # fmt: skip
    command.add_argument(
        "--no-optimizer", action="store_true", help="leave out how the model was compiled"
    )

    command = add(
        bench, "the short comparison with the peers that are installed", "bench --only mnist"
    )
    command.add_argument("--only", help="workloads whose names begin like one of these: a,b")
    command.add_argument("--peers", help="some of the peers: fastrnn,tf.keras")
    command.add_argument("--threads", type=int, help="default those that fastrnn uses")
    return parser
