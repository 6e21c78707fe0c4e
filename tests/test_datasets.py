import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import sys
import threading
import traceback
import zipfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from fastrnn.datasets import _files, fashion_mnist, imdb, mnist, reuters
from fastrnn.utils import get_file

DATA = Path(os.environ.get("FASTRNN_DATA") or Path(__file__).parents[2] / "shared" / "data")

REVIEWS = [[4, 9, 2], [1], [7, 7, 3, 8], [5, 6], [30, 2]]
LABELS = [0, 1, 1, 0, 1]


@pytest.fixture(autouse=True)
def no_files_but_ours(tmp_path, monkeypatch):
    """An empty home, cache and working directory, and a network that refuses."""
    for folder in ("home", "cache", "cwd"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FASTRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(_files, "BASE_URL", "http://127.0.0.1:9/")


def need(name):
    file = DATA / name
    if not file.is_file():
        pytest.skip(f"{name} is not in {DATA}; set FASTRNN_DATA to a folder that has it")
    return str(file)


def objects(lists):
    array = np.empty(len(lists), dtype=object)
    array[:] = lists
    return array


def save_imdb(file, x=REVIEWS, y=LABELS):
    np.savez(file, x_train=objects(x), y_train=y, x_test=objects(x[:3]), y_test=y[:3])
    return str(file)


def save_mnist(file):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    np.savez(file, x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])
    return str(file)


def save_members(file, **members):
    """An .npz of raw members; those not given are plain numbers."""
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", members.get(name) or npy_bytes(np.zeros(2)))
    return str(file)


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def pickled_member(payload, shape=(2,)):
    """An .npy file that says it is an object array and holds the pickle `payload`."""
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + payload


def sha256(file):
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def keras_imdb(
    file,
    num_words=None,
    skip_top=0,
    maxlen=None,
    seed=113,
    start_char=1,
    oov_char=2,
    index_from=3,
):
    """The rules of Keras's loader, one after the other over all reviews."""
    with np.load(file, allow_pickle=True) as f:
        arrays = {name: f[name] for name in f.files}
    rng = np.random.RandomState(seed)
    splits = []
    for part in ("train", "test"):
        order = rng.permutation(len(arrays[f"x_{part}"]))
        start = [] if start_char is None else [start_char]
        pairs = [
            (start + [rank + index_from for rank in arrays[f"x_{part}"][i]], arrays[f"y_{part}"][i])
            for i in order
        ]
        splits.append([(x, y) for x, y in pairs if not maxlen or len(x) < maxlen])
    high = num_words or max(chain.from_iterable(x for x, _ in chain(*splits)))

    def kept(x):
        if oov_char is None:
            return [word for word in x if skip_top <= word < high]
        return [word if skip_top <= word < high else oov_char for word in x]

    return [([kept(x) for x, _ in split], [y for _, y in split]) for split in splits]


OPTIONS = [
    {},
    {"num_words": 10},
    {"num_words": 10, "skip_top": 6, "seed": 1},
    {"num_words": 10, "oov_char": None, "skip_top": 5},
    {"start_char": None, "index_from": 0},
    {"start_char": 50, "oov_char": 99, "index_from": 10},
    {"maxlen": 4},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_imdb_follows_keras(tmp_path, options):
    file = save_imdb(tmp_path / "small.npz")
    for (x, y), (expected_x, expected_y) in zip(
        imdb.load_data(file, **options), keras_imdb(file, **options), strict=True
    ):
        assert x.dtype == object and x.ndim == 1 and y.dtype == np.int64
        assert list(x) == expected_x and list(y) == expected_y
        assert all(type(word) is int for review in x for word in review)


def test_imdb_by_hand(tmp_path):
    file = save_imdb(tmp_path / "small.npz", [[1, 5, 2]] * 3, [0, 1, 0])
    (x_train, _), _ = imdb.load_data(file, num_words=6)
    assert list(x_train) == [[1, 4, 2, 5]] * 3
    (x_train, _), _ = imdb.load_data(file)
    assert list(x_train) == [[1, 4, 2, 5]] * 3


def test_imdb_maxlen_counts_the_start_and_excludes_its_own_length(tmp_path):
    file = save_imdb(tmp_path / "small.npz")
    (x_train, y_train), _ = imdb.load_data(file, maxlen=4)
    assert sorted(map(len, x_train)) == [2, 3, 3] and len(y_train) == 3
    with pytest.raises(ValueError, match="maxlen: .*received 2"):
        imdb.load_data(file, maxlen=2)


def test_imdb_legacy_and_unknown_arguments(tmp_path):
    file = save_imdb(tmp_path / "small.npz")
    with pytest.warns(DeprecationWarning, match="num_words"):
        (x_train, _), _ = imdb.load_data(file, nb_words=10)
    assert list(x_train) == list(imdb.load_data(file, num_words=10)[0][0])
    with pytest.raises(TypeError, match="unknown arguments words"):
        imdb.load_data(file, words=10)


def test_mnist_arrays(tmp_path):
    file = save_mnist(tmp_path / "small.npz")
    (x_train, y_train), (x_test, y_test) = mnist.load_data(file)
    with np.load(file) as expected:
        np.testing.assert_array_equal(x_train, expected["x_train"])
        np.testing.assert_array_equal(y_test, expected["y_test"])
    assert x_train.dtype == y_train.dtype == np.uint8 and x_train.flags.writeable
    assert x_test.shape == (2, 28, 28)


@pytest.mark.parametrize("array", [np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.array(5)])
def test_every_kind_of_numbers(tmp_path, array):
    file = save_members(tmp_path / "small.npz", x_train=npy_bytes(array))
    (x_train, _), _ = mnist.load_data(file)
    assert x_train.dtype == array.dtype
    np.testing.assert_array_equal(x_train, array)


def test_compressed_file(tmp_path):
    with np.load(save_mnist(tmp_path / "plain.npz")) as arrays:
        np.savez_compressed(tmp_path / "small.npz", **arrays)
    assert mnist.load_data(tmp_path / "small.npz")[0][0].shape == (5, 28, 28)


def test_word_index(tmp_path):
    file = tmp_path / "index.json"
    file.write_text(json.dumps({"the": 1, "é": 2}, ensure_ascii=False), encoding="utf-8")
    assert imdb.get_word_index(file) == {"the": 1, "é": 2}
    for text in ('{"the": 1', "[1]"):
        file.write_text(text)
        with pytest.raises(ValueError, match="index.json: expected a JSON"):
            imdb.get_word_index(file)


def test_order_of_places(tmp_path, monkeypatch):
    for i, folder in enumerate(["given", "data", "cache", "home/.keras/datasets"]):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        np.savez(tmp_path / folder / "mnist.npz", x_train=[i], y_train=[i], x_test=[i], y_test=[i])
    keras_file = tmp_path / "home/.keras/datasets/mnist.npz"
    cache_file = tmp_path / "cache/mnist.npz"

    def found(path="mnist.npz"):
        return mnist.load_data(path)[0][0][0]

    monkeypatch.setattr(mnist, "_SHA256", sha256(keras_file))
    assert found() == 3
    monkeypatch.setattr(mnist, "_SHA256", sha256(cache_file))
    assert found() == 2
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "data"))
    assert found() == 1
    assert found(tmp_path / "given" / "mnist.npz") == 0
    assert found(tmp_path / "elsewhere" / "mnist.npz") == 1


def test_cache_defaults_to_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTRNN_CACHE")
    folder = tmp_path / "home/.cache/fastrnn"
    folder.mkdir(parents=True)
    monkeypatch.setattr(mnist, "_SHA256", sha256(save_mnist(folder / "mnist.npz")))
    assert mnist.load_data()[0][0].shape == (5, 28, 28)


@pytest.mark.parametrize(
    "variable, value, folder",
    [
        ("KERAS_HOME", "{}/k", "k/datasets"),
        ("FASTRNN_DATA", "~/mine", "home/mine"),
        ("FASTRNN_CACHE", "~/mine", "home/mine"),
    ],
)
def test_folders_that_the_environment_names(tmp_path, monkeypatch, variable, value, folder):
    monkeypatch.setenv(variable, value.format(tmp_path))
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(mnist, "_SHA256", sha256(save_mnist(tmp_path / folder / "mnist.npz")))
    assert mnist.load_data()[0][0].shape == (5, 28, 28)


@pytest.mark.parametrize("value", ["x" * 5000, "/dev/null", "\udcff/\n", "~nobody/there", "²"])
@pytest.mark.parametrize("variable", ["FASTRNN_DATA", "FASTRNN_CACHE", "KERAS_HOME", "HOME"])
def test_absurd_folders_are_passed_over(tmp_path, monkeypatch, variable, value):
    if variable == "HOME":
        monkeypatch.delenv("FASTRNN_CACHE")
    monkeypatch.setenv(variable, value)
    with pytest.raises(_files.DatasetNotFoundError, match="FASTRNN_DATA"):
        mnist.load_data()
    with pytest.raises(_files.DatasetNotFoundError, match="FASTRNN_DATA"):
        get_file("no.txt", "http://127.0.0.1:9/no.txt")


def test_where_nobody_has_a_home(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without a name
    monkeypatch.setattr(_files.tempfile, "gettempdir", lambda: "/tmp")
    assert _files._folder("NONE", "~/.keras") == "/tmp/.keras"


@pytest.mark.parametrize("folder", ["cache", "home/.keras/datasets", "cwd"])
def test_a_file_nobody_named_must_be_the_published_one(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    file = save_imdb(tmp_path / folder / "imdb.npz")
    with pytest.raises(OSError, match="imdb.npz was passed over, as it is not the published file"):
        imdb.load_data()
    assert len(imdb.load_data(file)[0][0]) == 5


def test_a_data_set_not_found_names_every_way_to_it(tmp_path):
    with pytest.raises(_files.DatasetNotFoundError) as info:
        mnist.load_data()
    message = str(info.value)
    assert isinstance(info.value, OSError)
    for part in ("http://127.0.0.1:9/mnist.npz", "path=", "FASTRNN_DATA", str(tmp_path / "cache")):
        assert part in message
    assert not list((tmp_path / "cache").iterdir())
    shown = "".join(traceback.format_exception(info.value))
    assert "During handling" not in shown and "direct cause" not in shown
    assert len(shown.splitlines()) < 12


@pytest.mark.skipif(sys.platform != "linux", reason="in /proc nobody makes files")
def test_a_cache_that_takes_no_files():
    with pytest.raises(OSError, match="No such file or directory: '/proc/mnist.npz'"):
        _files._download("http://127.0.0.1:9/", Path("/proc/mnist.npz"), None)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTRNN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(_files.DatasetNotFoundError, match="FASTRNN_DATA"):
        mnist.load_data()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of the folder `served`; yields the folder and the paths asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *_):
            asked.append(self.path)

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setattr(_files, "BASE_URL", f"http://127.0.0.1:{httpd.server_port}/")
        yield folder, asked
        httpd.shutdown()


def test_download(tmp_path, monkeypatch, server):
    folder, asked = server
    monkeypatch.setattr(imdb, "_SHA256", sha256(save_imdb(folder / "imdb.npz")))
    monkeypatch.setenv("FASTRNN_CACHE", str(tmp_path / "new" / "cache"))
    for _ in range(2):
        assert len(imdb.load_data()[0][0]) == 5
    assert asked == ["/imdb.npz"]
    assert [file.name for file in (tmp_path / "new" / "cache").iterdir()] == ["imdb.npz"]


def test_download_under_another_name(tmp_path, monkeypatch, server):
    folder, asked = server
    monkeypatch.setattr(mnist, "_SHA256", sha256(save_mnist(folder / "mnist.npz")))
    for _ in range(2):
        mnist.load_data("digits.npz")
    assert asked == ["/mnist.npz"]
    assert (tmp_path / "cache" / "digits.npz").is_file()


def test_download_of_the_word_index_by_md5(monkeypatch, server):
    folder, _ = server
    text = b'{"the": 1}'
    (folder / "imdb_word_index.json").write_bytes(text)
    monkeypatch.setattr(imdb, "_WORD_INDEX_MD5", hashlib.md5(text).hexdigest())
    assert imdb.get_word_index() == {"the": 1}


def test_download_of_another_file_is_thrown_away(tmp_path, server):
    folder, _ = server
    save_imdb(folder / "imdb.npz")
    with pytest.raises(_files.DatasetNotFoundError, match="expected the hash 69664113.*received"):
        imdb.load_data()
    assert not list((tmp_path / "cache").iterdir())


def test_get_file(tmp_path, monkeypatch, server):
    folder, asked = server
    (folder / "text.txt").write_text("one")
    url = f"{_files.BASE_URL}text.txt?raw=true"
    first = get_file("mine.txt", url)
    assert first == str(tmp_path / "home/.keras/datasets/mine.txt")
    assert Path(first).read_text() == Path(get_file("mine.txt", url)).read_text() == "one"
    assert len(asked) == 1
    second = get_file(origin=url, cache_dir=tmp_path / "own", cache_subdir="texts")
    assert second == str(tmp_path / "own/texts/text.txt")

    (folder / "text.txt").write_text("two")
    digest = hashlib.md5(b"two").hexdigest()
    assert Path(get_file("mine.txt", url, file_hash=digest)).read_text() == "two"
    (folder / "text.txt").write_text("three")
    assert Path(get_file("mine.txt", url)).read_text() == "two"
    assert Path(get_file("mine.txt", url, force_download=True)).read_text() == "three"
    with pytest.raises(_files.DatasetNotFoundError, match=f"expected the hash {digest}"):
        get_file("mine.txt", url, md5_hash=digest)

    (tmp_path / "named").mkdir()
    (tmp_path / "named/mine.txt").write_text("four")
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "named"))
    assert Path(get_file("mine.txt", url)).read_text() == "four"


def test_get_file_that_is_nowhere(tmp_path):
    with pytest.raises(_files.DatasetNotFoundError, match="Put the file at .*home.*or set FASTRNN"):
        get_file("no.txt", "http://127.0.0.1:9/no.txt")
    for options in ({"extract": True}, {"untar": True}):
        with pytest.raises(ValueError, match="extract and untar: expected False"):
            get_file("no.zip", "http://127.0.0.1:9/no.zip", **options)
    with pytest.raises(ValueError, match="origin: expected a URL"):
        get_file("no.txt")


class MakeFolder:
    """Pickles to a call that creates a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("module", [imdb, mnist])
@pytest.mark.parametrize("wrap", [lambda bad: [[1], bad], lambda bad: [[1], [bad]]])
def test_pickled_code_is_not_run(tmp_path, module, wrap):
    marker = tmp_path / "marker"
    array = objects(wrap(MakeFolder(marker)))
    file = save_members(tmp_path / "bad.npz", x_train=npy_bytes(array))
    with pytest.raises(ValueError, match="bad.npz: expected an .npz file with the arrays x_train"):
        module.load_data(file)
    assert not marker.exists()
    with np.load(file, allow_pickle=True) as unsafe:
        unsafe["x_train"]
    assert marker.exists(), "the file would do nothing even if it were unpickled"


@pytest.mark.parametrize(
    "payload",
    [
        b"cbuiltins\neval\n(V1\ntR.",
        b"cos\nsystem\n(Vtrue\ntR.",
        b"cnumpy\nload\n(Vx\ntR.",
        b"cnumpy._core.multiarray\nfrombuffer\n.",
        b"cnumpy\nndarray.dumps\n.",
        pickle.dumps({"x": 1}),
        pickle.dumps([[1], [2]]),
        pickle.dumps(np.arange(2)),
        pickle.dumps(np.dtype("O")),
        pickle.dumps(objects([[1], [2], [3]])),
        pickle.dumps(objects([(1,), (2,)])),
        pickle.dumps(objects([[1], [2]]))[:-3],
        b"\x80\x04\x95" + b"\xff" * 8,
        b"",
    ],
)
def test_other_pickles_are_refused(tmp_path, payload):
    file = save_members(tmp_path / "bad.npz", x_train=pickled_member(payload))
    with pytest.raises(ValueError, match="bad.npz: expected an .npz file"):
        imdb.load_data(file)


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_pickles_of_every_numpy_are_read(tmp_path, core, protocol):
    payload = pickle.dumps(objects([[5], [6, 7]]), protocol=protocol)
    if protocol == 3:
        payload = payload.replace(b"numpy._core.", core + b".")
    file = save_members(
        tmp_path / "small.npz",
        x_train=pickled_member(payload),
        x_test=pickled_member(payload),
    )
    (x_train, _), _ = imdb.load_data(file, start_char=None, index_from=0, num_words=100)
    assert sorted(x_train) == [[5], [6, 7]]


@pytest.mark.parametrize("words", [["a"], [1.5], [[1]], [None]])
def test_reviews_must_hold_integers(tmp_path, words):
    file = save_imdb(tmp_path / "small.npz", [words, [1, 2], [3]], [0, 1, 0])
    with pytest.raises(ValueError, match="small.npz: expected lists of integers"):
        imdb.load_data(file)


@pytest.mark.parametrize("save", [save_imdb, save_mnist])
def test_truncated_files(tmp_path, save):
    whole = Path(save(tmp_path / "whole.npz")).read_bytes()
    file = tmp_path / "cut.npz"
    for length in (0, 10, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut.npz: expected an .npz file"):
            imdb.load_data(file)


def test_changed_bytes(tmp_path):
    whole = bytearray(Path(save_mnist(tmp_path / "whole.npz")).read_bytes())
    whole[1000] ^= 1
    (tmp_path / "changed.npz").write_bytes(whole)
    with pytest.raises(ValueError, match="changed.npz: .*CRC"):
        mnist.load_data(tmp_path / "changed.npz")


def test_missing_array(tmp_path):
    np.savez(tmp_path / "small.npz", x_train=[1], y_train=[1], x_test=[1])
    with pytest.raises(ValueError, match="small.npz: .*y_test"):
        mnist.load_data(tmp_path / "small.npz")


def test_header_that_claims_more_than_there_is(tmp_path):
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**15, 28, 28)}
    np.lib.format.write_array_header_1_0(stream, header)
    file = save_members(tmp_path / "small.npz", x_train=stream.getvalue() + b"abc")
    with pytest.raises(ValueError, match="small.npz: .*bytes for an array"):
        mnist.load_data(file)


@pytest.mark.parametrize("start", [b"", b"\x93NUMPY\x03\x00", b"\x93NUMPY\x01\x00\x08\x00{'descr'"])
def test_damaged_headers(tmp_path, start):
    file = save_members(tmp_path / "small.npz", x_train=start + b"\0" * 64)
    with pytest.raises(ValueError, match="small.npz: expected an .npz file"):
        mnist.load_data(file)


def test_array_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_LARGEST_ARRAY", 100)
    with pytest.raises(ValueError, match="small.npz: .*x_train.npy has 4048 bytes"):
        mnist.load_data(save_mnist(tmp_path / "small.npz"))


def test_real_mnist():
    (x_train, y_train), (x_test, y_test) = mnist.load_data(need("mnist.npz"))
    assert x_train.shape == (60000, 28, 28) and x_test.shape == (10000, 28, 28)
    assert y_train.shape == (60000,) and y_test.shape == (10000,)
    assert x_train.dtype == y_train.dtype == np.uint8
    assert x_train.max() == 255 and set(y_train) == set(y_test) == set(range(10))


def test_real_imdb():
    file = need("imdb.npz")
    options = {"num_words": 20000, "maxlen": 100}
    for (x, y), (expected_x, expected_y) in zip(
        imdb.load_data(file, **options), keras_imdb(file, **options), strict=True
    ):
        assert list(x) == expected_x and list(y) == expected_y


def test_real_imdb_through_the_folder(monkeypatch):
    need("imdb.npz")
    monkeypatch.setenv("FASTRNN_DATA", str(DATA))
    (x_train, y_train), (x_test, y_test) = imdb.load_data(num_words=20000)
    assert len(x_train) == len(x_test) == 25000
    assert y_train.sum() == y_test.sum() == 12500
    assert {review[0] for review in x_train} == {1}
    assert max(map(max, x_train)) == 19999


def test_real_word_index():
    index = imdb.get_word_index(need("imdb_word_index.json"))
    assert index["the"] == 1 and all(type(rank) is int for rank in index.values())


def save_reuters(file, count=20):
    rng = np.random.default_rng(2)
    x = [rng.integers(1, 30, length).tolist() for length in rng.integers(1, 9, count)]
    np.savez(file, x=objects(x), y=rng.integers(0, 46, count))
    return str(file)


@pytest.mark.parametrize("options", [*OPTIONS, {"test_split": 0.5, "num_words": 12}], ids=str)
def test_reuters_follows_keras(tmp_path, options):
    file = save_reuters(tmp_path / "small.npz")
    options = dict(options)
    with np.load(file, allow_pickle=True) as f:  # one part of the data set as imdb has two
        np.savez(
            tmp_path / "as_imdb.npz", x_train=f["x"], y_train=f["y"], x_test=f["x"][:0], y_test=[]
        )
    share = options.get("test_split", 0.2)
    rules = {name: value for name, value in options.items() if name != "test_split"}
    (expected_x, expected_y), _ = keras_imdb(tmp_path / "as_imdb.npz", **rules)
    (x_train, y_train), (x_test, y_test) = reuters.load_data(file, **options)
    assert len(x_train) == len(y_train) == int(len(expected_x) * (1 - share))
    assert [*x_train, *x_test] == expected_x and [*y_train, *y_test] == expected_y


def test_reuters_is_that_of_keras(tmp_path):
    keras = pytest.importorskip("keras", reason="compares with Keras itself")
    file = tmp_path / "home/.keras/datasets/small.npz"
    file.parent.mkdir(parents=True)
    save_reuters(file)
    for options in ({}, {"num_words": 12, "oov_char": None}, {"maxlen": 6, "test_split": 0.4}):
        from keras.src.datasets import reuters as theirs

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(theirs, "get_file", lambda fname, **_: str(file))
            expected = keras.datasets.reuters.load_data("small.npz", **options)
        ours = reuters.load_data(file, **options)
        for (x, y), (expected_x, expected_y) in zip(ours, expected, strict=True):
            assert list(x) == list(expected_x)
            np.testing.assert_array_equal(y, expected_y)
    assert reuters.get_label_names() == keras.datasets.reuters.get_label_names()


def test_reuters_arguments_and_files(tmp_path):
    file = save_reuters(tmp_path / "small.npz")
    with pytest.warns(DeprecationWarning, match="num_words"):
        reuters.load_data(file, nb_words=9)
    with pytest.raises(TypeError, match="unknown arguments words"):
        reuters.load_data(file, words=9)
    with pytest.raises(ValueError, match="maxlen: .*received 1"):
        reuters.load_data(file, maxlen=1)
    with pytest.raises(ValueError, match="test_split: expected a number from 0 to 1, received 20"):
        reuters.load_data(file, test_split=20)
    np.savez(tmp_path / "bad.npz", x=objects([[1], [2]]), y=[1])
    with pytest.raises(ValueError, match="bad.npz: expected 2 topics"):
        reuters.load_data(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", x=objects([[1], ["a"]]), y=[1, 2])
    with pytest.raises(ValueError, match="bad.npz: expected lists of integers"):
        reuters.load_data(tmp_path / "bad.npz")
    names = reuters.get_label_names()
    assert len(names) == 46 == len(set(names)) and names[3] == "earn" and names[-1] == "lead"


def test_reuters_downloads(monkeypatch, server):
    folder, asked = server
    monkeypatch.setattr(reuters, "_SHA256", sha256(save_reuters(folder / "reuters.npz")))
    assert len(reuters.load_data()[0][0]) == 16
    text = b'{"the": 1}'
    (folder / "reuters_word_index.json").write_bytes(text)
    monkeypatch.setattr(reuters, "_WORD_INDEX_MD5", hashlib.md5(text).hexdigest())
    assert reuters.get_word_index() == {"the": 1}
    assert asked == ["/reuters.npz", "/reuters_word_index.json"]


def idx(array):
    sizes = np.array(array.shape, ">u4").tobytes()
    return gzip.compress(bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes())


def fashion_files(folder):
    """The four files of a small data set, and its arrays in the order of load_data."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = []
    for part, count in (("train", 5), ("t10k", 3)):
        x = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        y = rng.integers(0, 10, count, dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(x))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(y))
        arrays += [x, y]
    return arrays


def test_fashion_mnist(tmp_path, monkeypatch):
    arrays = fashion_files(tmp_path / "data" / "fashion-mnist")
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "data"))
    for got, want in zip(chain(*fashion_mnist.load_data()), arrays, strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == np.uint8 and got.flags.writeable
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "data" / "fashion-mnist"))
    with pytest.raises(_files.DatasetNotFoundError, match="fashion-mnist/train-images"):
        fashion_mnist.load_data()


def test_fashion_mnist_where_keras_keeps_it(tmp_path, monkeypatch):
    folder = tmp_path / "home/.keras/datasets/fashion-mnist"
    arrays = fashion_files(folder)
    with pytest.raises(_files.DatasetNotFoundError, match="not the published file"):
        fashion_mnist.load_data()
    for table in (fashion_mnist._IMAGES, fashion_mnist._LABELS):
        for part, (name, _) in table.items():
            monkeypatch.setitem(table, part, (name, sha256(folder / name)))
    np.testing.assert_array_equal(fashion_mnist.load_data()[1][0], arrays[2])


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"not gzip",
        idx(np.zeros((5, 28), np.uint8)),
        idx(np.zeros((5, 28, 28), np.uint8))[:-9],
        gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12),
        gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x05" * 3 + bytes(9)),
        gzip.compress(b"\0\0\x08\x03\0"),
    ],
)
def test_fashion_mnist_damaged(tmp_path, monkeypatch, damaged):
    fashion_files(tmp_path / "fashion-mnist")
    (tmp_path / "fashion-mnist" / "train-images-idx3-ubyte.gz").write_bytes(damaged)
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz: expected "):
        fashion_mnist.load_data()


def test_fashion_mnist_with_a_label_too_few(tmp_path, monkeypatch):
    fashion_files(tmp_path / "fashion-mnist")
    file = tmp_path / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(idx(np.zeros(2, np.uint8)))
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="t10k-labels.*: expected 3 labels, received 2"):
        fashion_mnist.load_data()
