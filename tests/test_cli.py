"""The command `fastrnn`: what each subcommand does, its errors and exit statuses."""

import importlib.metadata
import os
import re
import sys
import tracemalloc
import zipfile
from pathlib import Path

import children
import numpy as np
import pytest

import fastrnn
from fastrnn.cli import main
from fastrnn.layers import LSTM, Dense, Embedding
from fastrnn.models import Sequential, load_model

ROOT = Path(__file__).parents[1]


def program(*args, cwd):
    """Exit status, standard output and standard error of `python -m fastrnn` in a process."""
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    done = children.run(
        [sys.executable, "-m", "fastrnn", *map(str, args)],
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"},
    )
    return done.returncode, done.stdout, done.stderr


def call(*args):
    return main([str(arg) for arg in args])


@pytest.fixture
def model():
    model = Sequential([LSTM(3, input_shape=(None, 4), return_sequences=True), LSTM(2), Dense(5)])
    model.compile("adam", "mse", metrics=["mae"])
    return model


@pytest.fixture
def saved(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


# --- info, help and wrong command lines ---


def test_info(capsys):
    assert call("info") == 0
    rows = dict(re.split("  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["fastrnn"] == fastrnn.__version__
    assert rows["instruction set"].startswith(f"{fastrnn.isa()} ")
    assert rows["threads"].startswith(f"{fastrnn.get_num_threads()} ")
    assert rows["CPU"]
    assert rows["BLAS"]


@pytest.mark.parametrize("name", ["info", "run", "demo", "summary", "predict", "convert", "bench"])
def test_help_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(name, "--help")
    assert stopped.value.code == 0
    assert f"example: fastrnn {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args", [[], ["train"], ["predict", "m.keras", "x.npy"], ["demo", "alexnet"], ["summary"]]
)
def test_a_wrong_command_line_is_status_2(args, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(*args)
    assert stopped.value.code == 2
    assert "usage: fastrnn" in capsys.readouterr().err


def test_an_error_is_one_line_and_a_traceback_if_asked(tmp_path, capsys):
    assert call("summary", tmp_path / "none.keras") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"fastrnn: .*none\.keras'\n", err)
    assert call("summary", "--traceback", tmp_path / "none.keras") == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "FileNotFoundError" in err


# --- run ---


def test_run_gives_a_script_its_arguments_and_place(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "helper.py").write_text("from keras.layers import LSTM\n")
    (tmp_path / "there" / "script.py").write_text(
        "import sys, helper\nprint(__name__, __file__, sys.argv[1:], helper.LSTM.__module__)\n"
        "sys.exit(7)\n"
    )
    script = os.path.join("there", "script.py")
    status, out, err = program("run", script, "--epochs", "3", "-h", cwd=tmp_path)
    assert (status, err) == (7, "")
    assert out == f"__main__ {script} ['--epochs', '3', '-h'] fastrnn.layers.lstm\n"


def test_an_interrupt_is_status_130(tmp_path):
    (tmp_path / "script.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    assert program("run", "script.py", cwd=tmp_path) == (130, "", "")


def test_run_shows_the_line_of_the_script_that_failed(tmp_path):
    (tmp_path / "script.py").write_text("import keras\n\nfrom keras.layers import Conv3D\n")
    status, out, err = program("run", "script.py", cwd=tmp_path)
    assert (status, out) == (1, "")
    assert 'File "script.py", line 3' in err
    assert "fastrnn has no keras.layers.Conv3D; the nearest are" in err
    assert "cli.py" not in err
    assert "runpy" not in err
    _, _, err = program("run", "--traceback", "script.py", cwd=tmp_path)
    assert "cli.py" in err
    assert 'File "script.py", line 3' in err


@pytest.mark.parametrize("text", ["x = (\n", None])
def test_run_of_what_is_no_script(tmp_path, text):
    if text is not None:
        (tmp_path / "script.py").write_text(text)
    status, out, err = program("run", "script.py", cwd=tmp_path)
    assert (status, out) == (1, "")
    assert "script.py" in err
    assert ("SyntaxError" in err) == (text is not None)
    assert "Traceback" not in err


# --- demo, summary ---


def test_demo(tmp_path):
    status, out, err = program("demo", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert float(re.search(r"accuracy on 200 new sequences: ([\d.]+)", out)[1]) >= 0.95
    status, out, err = program("demo", "echo", "--epochs", "2", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert "Epoch 2/2" in out
    assert "(after 1000 epochs, the default, the echo should be" in out


def test_summary(saved, model, capsys):
    lines = []
    model.summary(print_fn=lines.append)
    assert call("summary", saved) == 0
    assert capsys.readouterr().out.splitlines() == lines[0].splitlines()


def test_files_that_are_no_models(saved, model, tmp_path, capsys):
    torch, arrays = tmp_path / "net.bin", tmp_path / "x.npz"
    with zipfile.ZipFile(torch, "w") as archive:
        archive.writestr("net/data.pkl", b"")
    np.savez(arrays, x=1)
    fastrnn.to_c(model, tmp_path / "m.fastrnn")
    np.save(tmp_path / "x.npy", np.zeros(3))
    expected = "filepath: expected a .keras or .h5 file, "
    for name, content, message in (
        ("a.csv", b"a,b\r\n1,2\n", f"{expected}'.*a.csv' is text$"),
        (
            "m.fastrnn",
            None,
            f"{expected}.* is a file of fastrnn.to_c, which libfastrnn reads; load",
        ),
        ("empty.keras", b"", f"{expected}.* is empty$"),
        ("m.json", model.to_json().encode(), f"{expected}.* JSON text: .*models.model_from_json"),
        ("x.npy", None, f"{expected}.* is an array of NumPy$"),
        ("m.pkl", b"\x80\x04.", f"{expected}.* is a pickle, which could hold code; fastrnn.from_t"),
        ("m.pb", b"\x08\x01", f"{expected}.* is none: only TensorFlow reads it"),
        ("noise", b"\xff\x00\x17", f"{expected}.* is of another kind, or damaged$"),
        (
            "net.bin",
            None,
            "received .'net/data.pkl'.; this is a file of PyTorch: fastrnn.from_torch",
        ),
        ("x.npz", None, "expected config.json .* received .'x.npy'.; these are arrays of NumPy$"),
        ("nosuch.keras", None, "No such file or directory: '.*nosuch.keras'$"),
        (".", None, "expected a file, received a folder: "),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert call("summary", tmp_path / name) == 1
        assert re.search(message, capsys.readouterr().err.strip()), name
    for name in ("a.csv", "m.fastrnn"):
        with pytest.raises(ValueError, match=f"{expected}.*{name}' is "):
            model.load_weights(tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="in /proc nobody makes files")
def test_a_folder_that_takes_no_files(saved, tmp_path, capsys):
    """The error names the file that was to be written, none that stood in its place."""
    np.save(tmp_path / "x.npy", np.zeros((2, 6, 4)))
    assert call("predict", saved, tmp_path / "x.npy", "-o", "/proc/y.npy", "--quiet") == 1
    assert capsys.readouterr().err.endswith("No such file or directory: '/proc/y.npy'\n")
    assert call("convert", saved, "/proc/m.keras") == 1
    assert capsys.readouterr().err.endswith("No such file or directory: '/proc/m.keras'\n")
    with pytest.raises(OSError) as info:
        fastrnn.to_c(load_model(saved), "/proc/m.fastrnn")
    assert info.value.filename == "/proc/m.fastrnn"


# --- predict ---


@pytest.mark.parametrize("batch_size", [1, 7, 128])
def test_predict(saved, model, tmp_path, rng, capsys, batch_size):
    x = rng.standard_normal((20, 6, 4))
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "y.npy"
    assert call("predict", saved, tmp_path / "x.npy", "-o", out, "--batch-size", batch_size) == 0
    steps = -(-20 // batch_size)
    assert f"{steps}/{steps} " in capsys.readouterr().out
    y = np.load(out)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert sorted(os.listdir(tmp_path)) == ["model.keras", "x.npy", "y.npy"]


def test_predict_from_indices_in_silence(tmp_path, rng, capsys):
    model = Sequential([Embedding(9, 3, mask_zero=True), LSTM(2)])
    model.build((None, 5))
    model.save(tmp_path / "m.keras")
    x = rng.integers(0, 9, (11, 5))
    np.save(tmp_path / "x.npy", x)
    args = ("predict", tmp_path / "m.keras", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert call(*args, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(y, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_predict_reads_and_writes_a_batch_at_a_time(tmp_path, rng):
    model = Sequential([Dense(256, input_shape=(256,))])
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", rng.standard_normal((20000, 256), np.float32))
    tracemalloc.start()
    args = ("predict", tmp_path / "m.keras", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert call(*args, "--quiet") == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert os.path.getsize(tmp_path / "y.npy") > 2e7
    assert peak < 5e6


def test_predict_leaves_the_old_output_where_it_fails(saved, tmp_path, capsys):
    x = np.zeros((4, 6, 4), np.float32)
    np.save(tmp_path / "x.npy", x[..., :3])
    (tmp_path / "y.npy").write_bytes(b"old")
    assert call("predict", saved, tmp_path / "x.npy", "-o", tmp_path / "y.npy") == 1
    assert "(None, None, 4)" in capsys.readouterr().err
    assert (tmp_path / "y.npy").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["model.keras", "x.npy", "y.npy"]


@pytest.mark.parametrize(
    "array, options, message",
    [
        (np.zeros((0, 6, 4)), [], "samples on the first axis"),
        (np.float32(1), [], "samples on the first axis"),
        ("1,2\n", [], "x.npy: expected an .npy file of numbers (no objects), samples on the first"),
        (np.array([[1], [1, 2]], dtype=object), [], "object"),
        (np.zeros((2, 6, 4)), ["--batch-size", 0], "batch_size: expected"),
    ],
)
def test_predict_refuses(saved, tmp_path, capsys, array, options, message):
    if isinstance(array, str):
        (tmp_path / "x.npy").write_text(array)
    else:
        np.save(tmp_path / "x.npy", array)
    args = ("predict", saved, tmp_path / "x.npy", "-o", tmp_path / "y.npy", *options)
    assert call(*args) == 1
    err = capsys.readouterr().err
    assert err.startswith("fastrnn: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "y.npy").exists()


# --- convert ---


@pytest.mark.parametrize("name", ["new.keras", "new.h5", "new.hdf5"])
@pytest.mark.parametrize("compiled", [True, False])
def test_convert_to_a_whole_model(saved, model, tmp_path, rng, name, compiled):
    options = [] if compiled else ["--no-optimizer"]
    assert call("convert", saved, tmp_path / name, *options) == 0
    new = load_model(tmp_path / name)
    assert (new.optimizer is not None) == compiled
    x = rng.standard_normal((2, 6, 4), np.float32)
    np.testing.assert_array_equal(new.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("name", ["new.weights.h5", "new.safetensors"])
def test_convert_to_weights(saved, model, tmp_path, name):
    if name.endswith(".safetensors"):
        pytest.importorskip("safetensors", reason="compares with the safetensors library")
    assert call("convert", saved, tmp_path / name) == 0
    new = Sequential.from_config(model.get_config())
    new.load_weights(tmp_path / name)
    for ours, theirs in zip(new.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_convert_to_onnx_which_predict_reads(saved, model, tmp_path, rng):
    pytest.importorskip("onnx", reason="ONNX files need onnx")
    assert call("convert", saved, tmp_path / "new.onnx") == 0
    x = rng.standard_normal((5, 6, 4), np.float32)
    np.save(tmp_path / "x.npy", x)
    args = ("predict", tmp_path / "new.onnx", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert call(*args, "--batch-size", 2) == 0
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(y, model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


def test_convert_from_onnx(saved, model, tmp_path, rng):
    pytest.importorskip("onnx", reason="ONNX files need onnx")
    fastrnn.to_onnx(model, tmp_path / "m.onnx")
    assert call("convert", tmp_path / "m.onnx", tmp_path / "new.keras") == 0
    x = rng.standard_normal((5, 6, 4), np.float32)
    y = fastrnn.models.load_model(tmp_path / "new.keras").predict(x, verbose=0)
    np.testing.assert_allclose(y, model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


def test_convert_for_the_c_library(saved, model, tmp_path):
    assert call("convert", saved, tmp_path / "new.fastrnn") == 0
    assert (tmp_path / "new.fastrnn").read_bytes() == fastrnn.to_c(model)


@pytest.mark.parametrize(
    "source, target, message",
    [
        ("model.keras", "new.pb", "OUT: expected a name that ends in"),
        ("model.safetensors", "new.keras", "expected a whole model, received weights alone"),
        ("none.h5", "new.keras", "No such file"),
    ],
)
def test_convert_refuses(tmp_path, capsys, source, target, message):
    assert call("convert", tmp_path / source, tmp_path / target) == 1
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


# --- bench ---


def test_nothing_is_installed_outside_of_the_package():
    """`pip uninstall` leaves folders there; .ci/wheels runs this on wheels, and uninstalls them."""
    for installed in importlib.metadata.distributions(name="fastrnn"):
        outside = [path for path in installed.files if path.parts[0] == ".."]
        assert {path.parts[-2] for path in outside} <= {"bin"}, outside


@pytest.mark.parametrize(
    "name, tables", [("cumsum", 3), ("two_inputs", 3), ("tagger", 3), ("decode_predict", 1)]
)
def test_bench_measures_fastrnn(tmp_path, name, tables):
    if not (ROOT / "bench" / "compare.py").is_file():
        pytest.skip("the benchmark is in the repository, not in the installed package")
    status, out, err = program("bench", "--only", name, "--peers", "fastrnn", cwd=tmp_path)
    assert status == 0, err
    rows = [line.split("|") for line in out.splitlines() if line.startswith(f"| {name}")]
    assert len(rows) == tables
    assert all(float(row[2]) > 0 for row in rows)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--peers", "abacus"], "--peers: expected some of .*'fastrnn'.*, received .'abacus'"),
        (["--only", "nosuch"], "--only: expected beginnings of .*'imdb.*, received 'nosuch'$"),
        (["--only", "cumsum,nosuch"], "--only: .* received 'nosuch'$"),
        (["--threads", "-1"], "--threads: expected a whole number >= 1, received -1$"),
    ],
)
def test_bench_options(options, message, tmp_path):
    if not (ROOT / "bench" / "compare.py").is_file():
        pytest.skip("the benchmark is in the repository, not in the installed package")
    status, _, err = program("bench", *options, cwd=tmp_path)
    assert status == 2
    assert re.search(message, err.strip()), err
