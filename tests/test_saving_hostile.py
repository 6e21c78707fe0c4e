"""The attacks that loaders of model files have fallen to, and damaged files: all are refused with
a ValueError, run nothing, touch no other file and take little memory."""

import io
import json
import marshal
import pickle
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

import fastrnn
from fastrnn import layers as L
from fastrnn.models import load_model, model_from_json
from fastrnn.saving import hdf5_reader

h5py = pytest.importorskip("h5py", reason="needs h5py to make files")


@pytest.fixture(params=[".keras", ".h5"])
def saved(request, tmp_path):
    """A model's file in either format; the policy has to be the same."""
    path = tmp_path / f"model{request.param}"
    model = fastrnn.Sequential([L.Input((3,)), L.Dense(2, name="first"), L.Dense(1, name="last")])
    model.compile("adam", "mse")
    model.save(path)
    return path


@pytest.fixture(autouse=True)
def nothing_else_touched(tmp_path, monkeypatch):
    """Every test works in an empty folder, and leaves nothing there but its own model files."""
    monkeypatch.chdir(tmp_path)
    yield
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} <= {"model", "secret"}


def with_weights(path, edit):
    """Let edit(file) change the HDF5 part of a model's file."""
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            edit(file)
        return
    buffer = io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))
    with h5py.File(buffer, "a") as file:
        edit(file)
    with_member(path, "model.weights.h5", buffer.getvalue())


def with_member(path, name, content, **options):
    """Replace or add a member of a .keras file."""
    old = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            if info.filename != name:
                new.writestr(info, old.read(info))
        if content is not None:
            new.writestr(name, content, **options)


def with_config(path, edit, which="model_config"):
    """Let edit(config) change, or replace, the JSON of a model's file."""
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            config = json.loads(file.attrs[which])
            file.attrs[which] = json.dumps(edit(config) or config)
        return
    config = json.loads(zipfile.ZipFile(path).read("config.json"))
    with_member(path, "config.json", json.dumps(edit(config) or config))


def with_layer(path, layer):
    with_config(path, lambda config: config["config"]["layers"].append(layer))


def first_weight(path):
    places = {".keras": "layers/dense/vars/0", ".h5": "model_weights/first/{}/first/kernel"}
    return places[path.suffix].format(load_model(path).name)


def refused(path, match):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match):
            load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


# --- code ---


def code():
    return marshal.dumps(compile("open('owned', 'w')", "x", "exec")).hex()


@pytest.mark.parametrize("name", ["Lambda", "TorchModuleWrapper", "TFSMLayer"])
def test_layers_that_hold_code(name, saved):
    """CVE-2024-3660, CVE-2025-9905 (in .h5 as well), CVE-2025-49655, CVE-2026-1462."""
    function = {"class_name": "__lambda__", "config": {"code": code()}}
    config = {"name": "evil", "function": function, "module": pickle.dumps(print).hex()}
    with_layer(saved, {"class_name": name, "config": config})
    refused(saved, rf"layer 'evil' \({name}\).*holds code.*custom_objects")


EVIL = [
    {"module": "os", "class_name": "system", "config": {"command": "touch owned"}},
    {"module": "builtins", "class_name": "exec", "config": {"source": "open('owned', 'w')"}},
    {"module": "owned_module", "class_name": "Dense", "registered_name": "owned_module>Dense",
     "config": {"units": 1}},
    {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "file:///etc/passwd"}},
    {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}},
    {"class_name": "function", "config": {"name": "print"}},
]  # fmt: skip


@pytest.mark.parametrize("layer", EVIL, ids=lambda layer: layer["class_name"])
def test_classes_and_functions_by_name(layer, saved, monkeypatch):
    """CVE-2025-1550, GHSA-pwq7-2gvj-vg9v, CVE-2025-8747 (get_file), CVE-2025-9906 (the switch to
    unsafe loading): nothing is imported or called."""
    monkeypatch.syspath_prepend(saved.parent)
    module = saved.parent / "model.py"
    module.write_text("open('owned', 'w')")
    layer = {**layer, "module": "model"} if layer.get("module") == "owned_module" else layer
    with_layer(saved, layer)
    refused(saved, "unknown layer")
    assert "model" not in sys.modules


@pytest.mark.parametrize(
    "option", ["activation", "kernel_initializer", "kernel_regularizer", "bias_constraint"]
)
@pytest.mark.parametrize("evil", EVIL, ids=lambda layer: layer["class_name"])
def test_objects_within_layers(evil, option, saved):
    """CVE-2025-1550 again, one level down."""

    def edit(config):
        config["config"]["layers"][1]["config"][option] = evil

    with_config(saved, edit)
    refused(saved, r"layer 'first' \(Dense\)")


@pytest.mark.parametrize("argument", ["optimizer", "loss", "metrics"])
@pytest.mark.parametrize("evil", EVIL, ids=lambda layer: layer["class_name"])
def test_objects_in_compile_config(evil, argument, saved):
    key = "optimizer_config" if (saved.suffix, argument) == (".h5", "optimizer") else argument

    def edit(config):
        compiled = config if saved.suffix == ".h5" else config["compile_config"]
        compiled[key] = [evil] if argument == "metrics" else evil

    with_config(saved, edit, "training_config")
    refused(saved, "compile_config")
    load_model(saved, compile=False)


def test_there_is_no_switch_to_unsafe_loading(saved):
    """CVE-2025-9905: safe_mode was ignored for .h5."""
    with pytest.raises(ValueError, match="safe_mode: expected True"):
        load_model(saved, safe_mode=False)


@pytest.mark.parametrize("content", ["pickle", "torch", "npz"])
def test_pickles(content, tmp_path):
    """CVE-2019-6446, CVE-2025-32434: pickles, in NumPy's and torch's wrappings or bare."""

    class Evil:
        def __reduce__(self):
            return open, ("owned", "w")

    path, pickled = tmp_path / "model.keras", pickle.dumps(Evil())
    if content == "pickle":
        path.write_bytes(pickled)
    else:
        member = "archive/data.pkl" if content == "torch" else "model.weights.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
            archive.writestr(member, pickled)
    refused(path, r"is a pickle, which could hold code|expected model.weights.h5")


# --- paths ---


def test_a_config_names_no_file(saved):
    """CVE-2025-12058: a vocabulary that is a path or URL."""
    vocabulary = {"name": "v", "vocabulary": "file:///etc/passwd"}
    with_layer(saved, {"class_name": "StringLookup", "config": vocabulary})
    refused(saved, r"layer 'v' \(StringLookup\): vocabulary: expected a list in a config")


@pytest.mark.parametrize("name", ["TextVectorization", "StringLookup", "IntegerLookup"])
def test_no_config_names_a_vocabulary_file(name, tmp_path):
    (tmp_path / "secret").write_text("1\n2\n")
    for place in (str(tmp_path / "secret"), b"secret"):
        with pytest.raises(ValueError, match="vocabulary: expected a list in a config, received"):
            getattr(L, name).from_config({"vocabulary": place})
        described = {"class_name": name, "config": {"vocabulary": place}}
        with pytest.raises(ValueError, match="vocabulary: expected a list in a config, received"):
            L.deserialize(described)
        with pytest.raises(ValueError, match="vocabulary: expected a list in a config, received"):
            fastrnn.Sequential.from_config({"layers": [described]})


VOCABULARY = "assets/layers/text_vectorization/_lookup_layer/vocabulary.txt"


@pytest.fixture
def text_model(tmp_path):
    layer = L.TextVectorization(output_sequence_length=3)
    layer.adapt(["a b", "b"])
    model = fastrnn.Sequential(
        [L.Input((1,), dtype="string"), layer, L.Embedding(4, 2), L.LSTM(2), L.Dense(1)]
    )
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\n[UNK]\n\xff\xfe", "vocabulary.txt: expected UTF-8, received"),
        (b"\n[UNK]\na\nb\na", r"vocabulary.txt: .* each token once, received \['a'\]"),
        (b"\n[UNK]\na\n\nb", "vocabulary.txt: .* mask_token '' at its start"),
        (b"\n[UNK]\na\n\n\nb", "vocabulary.txt: .* each token once"),
        (b"", "vocabulary.txt: .* expected tokens beside the special ones"),
    ],
)
def test_vocabularies(text_model, content, message):
    with_member(text_model, VOCABULARY, content)
    refused(text_model, message)


def test_a_vocabulary_larger_than_the_file(text_model):
    with_member(text_model, VOCABULARY, b"a" * 10**6, compress_type=zipfile.ZIP_DEFLATED)
    refused(text_model, "declare more than 16 times its size")


def test_a_vocabulary_that_is_cut_off(text_model):
    source = text_model.read_bytes()
    assert source.count(b"\n[UNK]\nb\na") == 2
    text_model.write_bytes(source.replace(b"\n[UNK]\nb\na", b"\n[UNK]\nc\na"))
    refused(text_model, "vocabulary.txt cannot be read: Bad CRC-32")


def test_no_vocabulary(text_model):
    with_member(text_model, VOCABULARY, None)
    load_model(text_model)  # there is a second one
    with_member(text_model, "assets/layers/text_vectorization/vocabulary.txt", None)
    refused(text_model, "layer 'string_lookup.*expected assets/.*vocabulary.txt in the .keras file")


def test_vocabularies_elsewhere_are_not_read(text_model, tmp_path):
    (tmp_path / "secret").write_text("\n[UNK]\nstolen")
    for name in ("../secret", str(tmp_path / "secret"), "vocabulary.txt"):
        with_member(text_model, name, b"\n[UNK]\nevil")
    assert load_model(text_model).layers[0].get_vocabulary() == ["", "[UNK]", "b", "a"]


@pytest.mark.parametrize(
    "option, value",
    [
        ("ngrams", 10**12), ("vocabulary_size", 10**12), ("output_sequence_length", 10**12),
        ("vocabulary_size", -1), ("vocabulary", {}), ("vocabulary", [[]]), ("vocabulary", ["a", 1]),
        ("standardize", {"class_name": "function", "config": "eval"}), ("split", "os.system"),
        ("idf_weights", [1]), ("encoding", "\0"), ("max_tokens", 1), ("sparse", True),
    ],
)  # fmt: skip
def test_options_of_vocabularies(text_model, option, value):
    """No option makes loading take more than its file, and those that fit nothing are refused."""

    def edit(config):
        config["config"]["layers"][1]["config"][option] = value

    with_config(text_model, edit)
    if isinstance(value, int) and value == 10**12:
        tracemalloc.start()
        load_model(text_model)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()
    else:
        refused(text_model, rf"TextVectorization\): {option}|{option}: expected")


@pytest.mark.parametrize("tokens", [10**12, 2**63])
def test_more_special_tokens_than_memory(text_model, tokens):
    options = {"name": "v", "num_oov_indices": tokens, "vocabulary": ["a"]}
    with_layer(text_model, {"class_name": "StringLookup", "config": options})
    refused(text_model, "expected text, of Input|num_oov_indices")


def test_an_argument_that_names_a_file(saved):
    def edit(config):
        config["config"]["layers"][1]["config"]["vocabulary"] = "/etc/passwd"

    with_config(saved, edit)
    refused(saved, "unknown arguments.*vocabulary")


@pytest.mark.parametrize("saved", [".keras"], indirect=True)
@pytest.mark.parametrize("name", ["../owned", "/tmp/fastrnn_owned", "assets/../../owned"])
def test_members_of_a_zip_are_not_extracted(name, saved):
    """CVE-2025-12638, CVE-2025-12060: a path that leaves the folder, here of another member."""
    with_member(saved, name, b"evil")
    load_model(saved)
    assert not (saved.parent.parent / "owned").exists()


@pytest.mark.parametrize(
    "name", ["../owned", "/owned", "a/../../owned", "..", "a\\..\\b", "a\0b", 3]
)
def test_names_that_could_be_paths(name, saved):
    """CVE-2026-12479."""

    def edit(config):
        config["config"]["layers"][1]["config"]["name"] = name

    with_config(saved, edit)
    refused(saved, "name: expected")
    if isinstance(name, str):
        model = fastrnn.Sequential([L.Input((3,)), L.Dense(1, name=name)])
        with pytest.raises(ValueError, match="name: expected"):
            model.save(saved)


def test_directories_are_not_guessed_at(tmp_path):
    """KERAS-MFV-001: what looks like a checkpoint's folder."""
    folder = tmp_path / "model.keras"
    (folder / "0").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(OSError):
        load_model(folder)
    assert sorted(p.name for p in folder.rglob("*")) == ["0", "config.json"]


# --- HDF5 ---


def replace(path, make):
    """Put something else in the place of the first weight."""
    place = first_weight(path)

    def edit(file):
        del file[place]
        make(file, place)

    with_weights(path, edit)


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"password" * 3)
    return path


def external(file, place, secret):
    file.create_dataset(place, (3, 2), "f4", external=[(str(secret), 0, 24)])


def virtual(file, place, secret):
    layout = h5py.VirtualLayout((3, 2), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "x", (3, 2))
    file.create_virtual_dataset(place, layout)


def soft(file, place, secret):
    file["elsewhere"] = np.ones((3, 2), np.float32)
    file[place] = h5py.SoftLink("/elsewhere")


def external_link(file, place, secret):
    file[place] = h5py.ExternalLink(str(secret), "/x")


@pytest.mark.parametrize("attack", [external, virtual, soft, external_link])
def test_data_from_elsewhere(attack, saved, secret):
    """CVE-2026-1669."""
    replace(saved, lambda file, place: attack(file, place, secret))
    refused(saved, "another file|virtually|link, which is not followed")


def petabyte(file, place):
    file.create_dataset(place, (2**25, 2**25), "f4", chunks=(64, 64))


def petabyte_in_one_piece(file, place):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    space = h5py.h5s.create_simple((2**20, 2**20))
    h5py.h5d.create(file.id, place.encode(), h5py.h5t.IEEE_F32LE, space, properties)


def compressed(file, place):
    file.create_dataset(place, (2000, 1000), "f4", compression="gzip", fillvalue=1)


def text(file, place):
    file[place] = ["a", "b"]


def compound(file, place):
    file[place] = np.zeros((3, 2), [("a", "f4")])


def another_shape(file, place):
    file[place] = np.zeros((2, 3), np.float32)


def group(file, place):
    file.create_group(place)


def missing(file, place):
    pass


@pytest.mark.parametrize(
    "attack",
    [petabyte, petabyte_in_one_piece, compressed, text, compound, another_shape, group, missing],
)
def test_other_things_in_the_place_of_a_weight(attack, saved):
    """CVE-2026-0897 among them: shapes that declare more than the file holds."""
    replace(saved, attack)
    refused(saved, "HDF5|does not fit the model")


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"chunks": (2, 2)}], ids=str)
def test_recompressed_files_are_told_how_to_be_plain_again(options, saved):
    def write(file, place):
        file.create_dataset(place, data=np.ones((3, 2), "f4"), **options)

    replace(saved, write)
    refused(saved, "(compressed|in chunks); .*h5repack -f NONE -l CONTI OLD NEW converts")


def test_missing_groups(saved):
    name = "layers" if saved.suffix == ".keras" else "model_weights"
    with_weights(saved, lambda file: file.__delitem__(name))
    refused(saved, "does not fit the model|has no 'model_weights'")


def test_the_hdf5_library_sees_no_file(saved):
    """CVE-2016-4333, CVE-2026-26200: its C code is not used for reading."""
    script = f"import sys; from fastrnn.models import load_model; load_model({str(saved)!r})"
    command = [sys.executable, "-c", f"{script}; sys.exit('h5py' in sys.modules)"]
    subprocess.run(command, check=True, cwd=fastrnn.__path__[0] + "/..")


# --- sizes ---


@pytest.mark.parametrize("units", [10**6, 10**9, 10**400])
def test_weights_larger_than_the_file(units, saved):
    def edit(config):
        config["config"]["layers"][1]["config"]["units"] = units

    with_config(saved, edit)
    refused(saved, "layer 'first' .*Dense|expected weights that fit into the file")


@pytest.mark.parametrize("saved", [".keras"], indirect=True)
@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "other"])
def test_zip_bombs(name, saved):
    with_member(saved, name, bytes(10_000_000), compress_type=zipfile.ZIP_DEFLATED)
    refused(saved, "declare more than 16 times its size|expected at most")


@pytest.mark.parametrize("saved", [".keras"], indirect=True)
def test_a_zip_that_lies_about_sizes(saved):
    data = bytearray(saved.read_bytes())
    for place in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
        data[place : place + 4] = (10).to_bytes(4, "little")
    saved.write_bytes(data)
    refused(saved, "keras file")


@pytest.mark.parametrize("saved", [".keras"], indirect=True)
def test_a_member_twice(saved):
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", "{}")
    refused(saved, "expected each member once")


def test_many_layers(saved):
    flat = {"class_name": "Activation", "config": {"activation": "relu"}}
    with_config(saved, lambda config: config["config"]["layers"].extend([flat] * 600))
    with pytest.raises(ValueError, match="more than 500 layers"):
        load_model(saved)


def test_a_metric_that_is_large(saved):
    def edit(config):
        compiled = config if saved.suffix == ".h5" else config["compile_config"]
        compiled["metrics"] = [{"class_name": "AUC", "config": {"num_thresholds": 10**9}}]

    with_config(saved, edit, "training_config")
    refused(saved, "num_thresholds <= 100000")


def test_a_self_test_that_would_take_long(saved):
    with_layer(saved, {"class_name": "RepeatVector", "config": {"n": 10**12}})
    test = {"input": np.ones((1, 3), "f4"), "output": np.ones(1), "tolerance": 1.0}
    with_weights(saved, lambda file: file.create_group("self_test").update(test))
    refused(saved, "self-test: expected one output of at most")


def test_a_self_test_whose_input_the_model_cannot_take(tmp_path):
    path = tmp_path / "model.keras"
    fastrnn.Sequential([L.Input((3,)), L.Embedding(4, 2)]).save(path)
    test = {"input": np.full((1, 3), 9, "i4"), "output": np.ones((1, 3, 2), "f4"), "tolerance": 1.0}
    with_weights(path, lambda file: file.create_group("self_test").update(test))
    refused(path, "self-test: .*9")


def test_a_self_test_with_windows_that_would_take_long(tmp_path):
    path = tmp_path / "model.keras"
    fastrnn.Sequential([L.Input((3, 2)), L.AveragePooling1D(2**62, padding="same")]).save(
        path, self_test=np.ones((1, 3, 2))
    )
    np.testing.assert_array_equal(load_model(path).predict(np.ones((1, 3, 2)), verbose=0), 1)


# --- what is not the file's fault ---


class TookTooLong(ValueError):
    """A caller's own, which is a ValueError by chance."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer of POSIX")
@pytest.mark.parametrize("kind", [TimeoutError, TookTooLong, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["constructor", "build", "loss", "call", "weights", "zip"])
def test_the_exception_of_a_signal_handler_passes(place, kind, tmp_path, monkeypatch):
    """load_model made "layer 'dense' (Dense): took too long" of it."""

    def handler(signum, frame):
        raise kind("took too long")

    def wait(where):
        if where == place and waiting:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            time.sleep(10)

    class Own(L.Dense):
        def __init__(self, *args, **options):
            wait("constructor")
            super().__init__(*args, **options)

        def build(self, input_shape):
            wait("build")
            super().build(input_shape)

        def forward(self, x, run, mask=None):
            wait("call")
            return super().forward(x, run, mask)

    class OwnLoss(fastrnn.losses.MeanSquaredError):
        def __init__(self, **options):
            wait("loss")
            super().__init__(**options)

    waiting, path = False, tmp_path / "model.keras"
    model = fastrnn.Sequential([L.Input((3,)), Own(2)])
    model.compile("sgd", OwnLoss())
    model.save(path, self_test=np.ones((1, 3)))
    array, contents = hdf5_reader.Group.array, zipfile.ZipExtFile.read
    monkeypatch.setattr(hdf5_reader.Group, "array", lambda *a: (wait("weights"), array(*a))[1])
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *a: (wait("zip"), contents(*a))[1])
    before, waiting = signal.signal(signal.SIGALRM, handler), True
    try:
        with pytest.raises(kind, match="^took too long$") as raised:
            load_model(path, {"Own": Own, "OwnLoss": OwnLoss})
        assert type(raised.value) is kind
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- JSON of another form ---


WRONG = [
    ("layer", "weights", 5), ("layer", "units", [2]), ("layer", "name", None),
    ("layer", "kernel_initializer", {"class_name": []}), ("layer", "activation", 5),
    ("optimizer", "beta_1", []), ("optimizer", "epsilon", "x"), ("optimizer", "beta_2", 10**400),
    ("optimizer", "learning_rate", {}), ("optimizer", "clipnorm", "x"),
    ("optimizer", "ema_momentum", []), ("optimizer", "weight_decay", {}),
]  # fmt: skip


@pytest.mark.parametrize(("where", "option", "value"), WRONG, ids=str)
def test_values_of_the_wrong_type(where, option, value, tmp_path):
    """The constructors were guarded; build and the optimizer's state were not."""
    path = tmp_path / "model.keras"
    model = fastrnn.Sequential([L.Input((3,)), L.Dense(2, name="first")])
    model.compile(fastrnn.optimizers.Adam(use_ema=True), "mse")
    model.train_on_batch(np.ones((1, 3)), np.ones((1, 2)))
    model.save(path)

    def edit(config):
        layer = config["config"]["layers"][1]
        (layer if where == "layer" else config["compile_config"]["optimizer"])["config"][option] = (
            value
        )

    with_config(path, edit)
    try:
        load_model(path)
    except ValueError:
        return
    # may be read as none given, or is looked at when it is used
    assert option in ("name", "weight_decay", "learning_rate", "clipnorm", "ema_momentum")


def test_a_layer_that_cannot_be_built_is_named():
    dims = {"class_name": "Permute", "config": {"name": "turned", "dims": [1.0]}}
    layers = [{"class_name": "InputLayer", "config": {"batch_shape": [None, 3]}}, dims]
    with pytest.raises(ValueError, match="layer 'turned'"):
        model_from_json(json.dumps({"class_name": "Sequential", "config": {"layers": layers}}))


@pytest.mark.parametrize("saved", [".keras"], indirect=True)
@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_members_packed_otherwise(method, saved):
    content = zipfile.ZipFile(saved).read("config.json")
    with_member(saved, "config.json", content, compress_type=method)
    refused(saved, f"config.json stored or deflated.*received method {method}")


@pytest.mark.parametrize("given", [None, 5, {}, []])
def test_json_that_is_no_text(given):
    with pytest.raises(ValueError, match="json_string: expected text, received"):
        model_from_json(given)


@pytest.mark.parametrize(
    "config",
    [
        [], 3, None, "x", {}, {"class_name": "Sequential"},
        {"class_name": "Sequential", "config": 3}, {"class_name": "Sequential", "config": {}},
        {"class_name": 3, "config": {}}, {"class_name": "Sequential", "config": {"layers": {}}},
        {"class_name": "Sequential", "config": {"layers": [3]}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense"}]}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": []}]}},
        {"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {"units": "3"}}]},
        {"class_name": "Sequential", "config": [{"class_name": "LSTM", "config": {}}]},
        {"class_name": "Sequential", "config": {"name": "../x", "layers": []}},
        {"class_name": "Sequential", "config": {"layers": [
            {"class_name": "TimeDistributed", "config": {"layer": 3}}]}},
        {"class_name": "Sequential", "keras_version": "9.1", "config": []},
        {"class_name": "Sequential", "keras_version": [], "config": []},
        {"class_name": "Functional", "config": {}},
        {"class_name": "Functional", "config": {"layers": [{"class_name": "Dense", "config": {}}]}},
        {"class_name": "Functional", "config": {"layers": [], "output_layers": [[[]]]}},
        {"class_name": "MyModel", "config": {}},
    ],
    ids=str,
)  # fmt: skip
def test_json_of_the_wrong_form(config):
    with pytest.raises(ValueError):
        model_from_json(json.dumps(config))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "\xff", "{}x"])
def test_text_that_is_no_json(text):
    with pytest.raises(ValueError, match="json_string: not valid JSON"):
        model_from_json(text)


def test_layers_in_layers_without_end():
    config = {"class_name": "Dense", "config": {"units": 1}}
    for _ in range(300):
        config = {"class_name": "TimeDistributed", "config": {"layer": config}}
    with pytest.raises(ValueError, match="or 16 in each other"):
        model_from_json(json.dumps({"class_name": "Sequential", "config": [config]}))
