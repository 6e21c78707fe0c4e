"""Keras scripts, run as they are: the programs in tests/scripts, and the paths of Keras's names.

fastrnn.as_keras is for a whole process, so everything here runs in one of its own.
"""

import gzip
import json
import os
import re
import sys
from pathlib import Path

import children
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "tests" / "scripts"


def python(*args, cwd, **environment):
    """Exit status, standard output and standard error of Python, in the folder `cwd`."""
    paths = [environment.pop("before", None), str(ROOT), os.environ.get("PYTHONPATH")]
    done = children.run(
        [sys.executable, *map(str, args)],
        encoding="utf-8",
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONIOENCODING": "utf-8",
            **environment,
        },
        timeout=900,
    )
    return done.returncode, done.stdout, done.stderr


def script(name, cwd, **environment):
    """What a program of tests/scripts prints under `fastrnn run`."""
    status, out, err = python("-m", "fastrnn", "run", SCRIPTS / name, cwd=cwd, **environment)
    assert (status, err) == (0, "")
    return out


def code(text, cwd, **environment):
    """What a text prints after fastrnn.as_keras is imported."""
    status, out, err = python("-c", f"import fastrnn.as_keras\n{text}", cwd=cwd, **environment)
    assert (status, err) == (0, "")
    return out


def numbers(pattern, text):
    return [float(found) for found in re.findall(pattern, text)]


# --- the programs ---


def test_cumsum_learns_and_predicts_classes(tmp_path):
    out = script("cumsum.py", tmp_path)
    accuracy = numbers(r" acc: ([\d.]+)", out)
    assert len(accuracy) == 1000
    assert np.mean(accuracy[-200:]) > 0.85
    last = [line.split() for line in out.splitlines()[-10:]]
    assert all(line[::2] == ["Expected:", "Predicted"] for line in last)
    assert {value for line in last for value in line[1::2]} <= {"[0]", "[1]"}


def test_echo_learns_its_sequence(tmp_path):
    out = script("echo.py", tmp_path)
    assert "\nNone\n" in out  # print(model.summary())
    assert "Total params: 146 " in out  # 4 (1 + 5 + 1) 5 + 6
    loss = numbers(r"loss: ([\d.e-]+)", out)
    assert len(loss) == 1000
    assert loss[-1] < loss[0] / 3
    said = [float(line) for line in out.splitlines()[-5:]]
    assert np.abs(np.subtract(said, [0, 0.2, 0.4, 0.6, 0.8])).max() < 0.35


def test_frames_learns_and_counts_parameters_as_keras(tmp_path):
    out = script("frames.py", tmp_path)
    accuracy = numbers(r"val_accuracy: ([\d.]+)", out)
    assert len(accuracy) == 30
    assert accuracy[-1] > 0.97
    for count in (  # after training the total has the optimizer's
        *("Total params: 29,725 ", "Trainable params: 9,881 ", "Non-trainable params: 80 "),
        "Optimizer params: 19,764 ",
    ):
        assert count in out


def test_a_cnn_below_an_lstm_learns_videos(tmp_path):
    out = script("videos.py", tmp_path)
    assert numbers(r"Total params: ([\d,]+)".replace(",", ""), out.replace(",", ""))[:2] == [
        7464,
        14892,
    ]
    assert out.count("Non-trainable params: 32 ") == 2
    (accuracy,) = numbers(r"^Test accuracy: ([\d.]+), the same after", out.splitlines()[-1])
    assert accuracy > 0.95 and out.rstrip().endswith("the same after loading: True")
    assert not list(tmp_path.glob("*.keras"))


@pytest.mark.parametrize(
    "name, score",
    [
        ("bilstm_crf_tagger.py", 0.95),
        ("raw_text.py", 0.9),
        ("seq2seq_characters.py", 0.9),
        ("siamese.py", 0.9),
        ("translator.py", 0.9),
        ("two_heads.py", 0.85),
        ("video_layers.py", 0.8),
    ],
)
def test_graphs_learn(tmp_path, name, score):
    (found,) = numbers(r"^score: ([\d.-]+)$", script(name, tmp_path).splitlines()[-1])
    assert found > score
    assert not os.listdir(tmp_path)


def test_convolutional_lstms_learn_the_next_frame(tmp_path):
    out = script("next_frame.py", tmp_path)
    weights = 40 * (25 * (1 + 10) + 1) + 4 * 10 + 32 * (9 * (10 + 8) + 1) + 9 * 8 + 1
    assert f"Total params: {weights:,} " in out
    last = out.splitlines()[-1]
    before, after, still, right = numbers(r"\d\.\d+", last)
    assert after < 0.3 * before
    assert 1 - right < 0.6 * (1 - still)
    assert last.endswith("same after loading: True")
    assert not list(tmp_path.glob("*.keras"))


def test_fragments_count_parameters_as_keras(tmp_path):
    out = script("fragments.py", tmp_path)
    # 4 (inputs + units + 1) units, for each direction
    assert numbers(r"Total params: ([\d,]+)".replace(",", ""), out.replace(",", "")) == [
        98816 + 394240,
        2 * 4 * (10 + 10 + 1) * 10,
        2 * 4 * (3 + 8 + 1) * 8,
    ]


def test_the_spellings_of_keras_1(tmp_path):
    out = script("keras1.py", tmp_path)
    assert "Epoch 20/20" in out
    (accuracy,) = numbers(r"^accuracy: ([\d.]+) same: True$", out.splitlines()[-1])
    assert accuracy > 0.6


def test_the_spellings_of_keras_2(tmp_path):
    names, errors = script("keras2.py", tmp_path).splitlines()
    assert names == "['loss', 'mae', 'mse', 'rmse']"
    first, last = numbers(r" ([\d.]+)", errors)
    assert last < first / 2


@pytest.fixture
def data(tmp_path):
    """A folder with an mnist.npz of 5,400 + 200 pictures, each noise and a bright row that tells
    the digit, and an imdb.npz of 100 + 100 reviews in which one word praises and one blames."""
    rng = np.random.default_rng(1)
    digits, reviews = {}, {}
    for part, n in (("train", 5400), ("test", 200)):
        y = rng.integers(0, 10, n).astype(np.uint8)
        x = rng.integers(0, 60, (n, 28, 28)).astype(np.uint8)
        x[np.arange(n), 2 * y + 4] = 250
        digits |= {f"x_{part}": x, f"y_{part}": y}
        y = rng.integers(0, 2, 100)
        x = np.empty(100, dtype=object)
        for i in range(100):
            x[i] = [*rng.integers(30, 9000, rng.integers(5, 250)).tolist(), 20 - 10 * int(y[i])]
        reviews |= {f"x_{part}": x, f"y_{part}": y}
    np.savez(tmp_path / "mnist.npz", **digits)
    np.savez(tmp_path / "imdb.npz", **reviews)
    return tmp_path


@pytest.mark.parametrize(
    "name, parameters", [("mnist_double_lstm.py", "36,554"), ("mnist_bilstm.py", "48,906")]
)
def test_mnist_programs_on_small_data(data, tmp_path, name, parameters):
    out = script(name, tmp_path, FASTRNN_DATA=str(data))
    assert f"Trainable params: {parameters} " in out
    assert "Epoch 15/15" in out  # nb_epoch
    loss = numbers(r" val_loss: ([\d.]+)", out)
    assert len(loss) == 15
    assert loss[-1] < loss[0]
    assert len(numbers(r"test_loss: [\d.]+ - test_acc: ([\d.]+)", out)) == 1


def test_imdb_program_on_small_data(data, tmp_path):
    out = script("imdb_bilstm.py", tmp_path, FASTRNN_DATA=str(data))
    assert out.startswith("Train...\nEpoch 1/4\n")
    loss = numbers(r" loss: ([\d.]+)", out)
    assert len(loss) == 4
    assert loss[-1] < loss[0]


@pytest.mark.parametrize(
    "name, file, pattern, target",
    [
        ("mnist_double_lstm.py", "mnist.npz", r"test_acc: ([\d.]+)", 0.97),
        ("mnist_bilstm.py", "mnist.npz", r"test_acc: ([\d.]+)", 0.97),
        ("imdb_bilstm.py", "imdb.npz", r"val_accuracy: ([\d.]+)", 0.85),
    ],
)
def test_programs_on_real_data(tmp_path, name, file, pattern, target):
    if not Path(os.environ.get("FASTRNN_DATA", "/nowhere"), file).is_file():
        pytest.skip(f"needs {file} in the folder FASTRNN_DATA, and minutes")
    assert max(numbers(pattern, script(name, tmp_path))) > target


# --- Keras's own tutorials, on data that take seconds ---


@pytest.mark.parametrize(
    "name, score",
    [
        ("addition_rnn.py", 0.9),
        ("bidirectional_lstm_imdb.py", 0.9),
        ("grid_search.py", 0.8),
        ("imdb_cnn_lstm.py", 0.9),
        ("imdb_lstm_keras1.py", 0.8),
        ("intermediate_output.py", 0.8),
        ("jena_generators.py", 0.7),
        ("lstm_character_level_text_generation.py", 0.9),
        ("lstm_models_for_time_series.py", 0.8),
        ("lstm_stateful.py", 0.5),
        ("mnist_hierarchical_rnn.py", 0.8),
        ("mnist_irnn.py", 0.9),
        ("named_entities.py", 0.9),
        ("pretrained_embeddings.py", 0.9),
        ("reuters_mlp.py", 0.9),
        ("sequence_autoencoder.py", 0.9),
        ("stock_prediction_keras1.py", 0.9),
        ("text_generation_checkpoints.py", 0.8),
        ("timeseries_classification.py", 0.9),
        ("timeseries_generator.py", 0.9),
        ("timeseries_weather_forecasting.py", 0.9),
        ("windowed_forecast.py", 0.75),
        ("working_with_rnns.py", 0.8),
    ],
)
def test_tutorials(data, tmp_path, name, score):
    text = (SCRIPTS / "tutorials" / name).read_text()
    for package in ("matplotlib", "pandas", "sklearn"):
        if re.search(rf"^(import|from) {package}\b", text, re.M) or "plot_model" in text:
            pytest.importorskip(package, reason="the tutorial uses it")
    seeded = tmp_path / "seeded.py"
    path = str(SCRIPTS / "tutorials" / name)
    seeded.write_text(
        "import keras, runpy\nkeras.utils.set_random_seed(3)\n"
        f"runpy.run_path({path!r}, run_name='__main__')\n"
    )
    quiet = {"PYTHONWARNINGS": "ignore"} if "keras1" in name else {}  # of what Keras 1 had
    out = script(seeded, tmp_path, FASTRNN_DATA=str(data), MPLBACKEND="agg", **quiet)
    (found,) = numbers(r"^score: ([\d.-]+)$", out.splitlines()[-1])
    assert found > score


@pytest.mark.parametrize("name, shape", [("seq2seq.py", "(3, 6, 7)"), ("babi_rnn.py", "(3, 50)")])
def test_networks_of_tutorials(tmp_path, name, shape):
    assert script(f"tutorials/{name}", tmp_path).splitlines()[-1] == f"outputs: {shape}"


@pytest.mark.parametrize(
    "name, line, message",
    [
        ("conv_lstm.py", 21, "AttributeError: fastrnn has no keras.layers.Conv3D; the nearest are "
         "Conv2D, "),
    ],
)  # fmt: skip
def test_tutorials_that_need_more_say_what(tmp_path, name, line, message):
    path = SCRIPTS / "tutorials" / name
    status, _, err = python("-m", "fastrnn", "run", path, cwd=tmp_path)
    assert status == 1
    assert f'{name}", line {line}, in <module>' in err
    assert err.splitlines()[-1].startswith(message)


# --- the paths ---

SAME = """
import fastrnn, keras, tensorflow, tensorflow as tf
import keras.backend as K
from keras import backend, callbacks, layers
from keras.callbacks import EarlyStopping
from keras.datasets import imdb, mnist
from keras.engine.topology import Layer
from keras.initializers import RandomNormal
from keras.layers.convolutional import Conv1D, Conv2D, MaxPooling2D, UpSampling2D, ZeroPadding2D
from keras.layers.convolutional_recurrent import ConvLSTM2D
from keras.layers.core import Activation, Dense, Dropout
from keras.layers.embeddings import Embedding
from keras.layers.normalization import BatchNormalization
from keras.layers.recurrent import GRU, LSTM, SimpleRNN
from keras.layers.wrappers import Bidirectional, TimeDistributed
from keras.losses import mse
from keras.models import Sequential, load_model
from keras.objectives import binary_crossentropy
from keras.optimizers import Adam, adam
from keras.optimizers.schedules import ExponentialDecay
from keras.preprocessing.sequence import pad_sequences
from keras.regularizers import l2
from keras.saving import save_model
from keras.utils import Progbar, to_categorical
from keras.utils.np_utils import to_categorical as older
from tensorflow import keras as tf_keras
from tensorflow.keras.layers import LSTM as tf_LSTM
from tensorflow.optimizers import SGD
from tensorflow.python.keras.layers import LSTM as python_LSTM
import tensorflow.compat.v1.keras.layers as v1

from fastrnn import layers as L
for ours, theirs in [
    (fastrnn.Sequential, (Sequential, keras.Sequential, tf.keras.Sequential,
                          tf.keras.models.Sequential)),
    (L.LSTM, (LSTM, layers.LSTM, keras.layers.LSTM, tf_keras.layers.LSTM, tf_LSTM, python_LSTM,
              v1.LSTM)),
    (L.Layer, (Layer, keras.Layer)),
    (L.Input, (keras.Input, tf.keras.Input, keras.models.Input)),
    (L.Activation, (Activation,)), (L.Dense, (Dense,)), (L.Dropout, (Dropout,)),
    (L.Embedding, (Embedding,)), (L.Conv1D, (Conv1D,)),
    (L.Conv2D, (Conv2D, keras.layers.Convolution2D)), (L.MaxPooling2D, (MaxPooling2D,)),
    (L.UpSampling2D, (UpSampling2D,)), (L.ZeroPadding2D, (ZeroPadding2D,)),
    (L.ConvLSTM2D, (ConvLSTM2D,)),
    (L.BatchNormalization, (BatchNormalization,)), (L.GRU, (GRU,)), (L.SimpleRNN, (SimpleRNN,)),
    (L.Bidirectional, (Bidirectional,)), (L.TimeDistributed, (TimeDistributed,)),
    (fastrnn.callbacks.EarlyStopping, (EarlyStopping, callbacks.EarlyStopping)),
    (fastrnn.datasets.imdb.load_data, (imdb.load_data,)),
    (fastrnn.datasets.mnist.load_data, (mnist.load_data, tf.keras.datasets.mnist.load_data)),
    (fastrnn.initializers.RandomNormal, (RandomNormal,)),
    (fastrnn.losses.mean_squared_error, (mse, keras.losses.MSE, tf.losses.mse)),
    (fastrnn.losses.Huber, (tf.losses.Huber,)), (fastrnn.metrics.AUC, (tf.metrics.AUC,)),
    (fastrnn.initializers.GlorotUniform, (tf.initializers.GlorotUniform,)),
    (fastrnn.optimizers.SGD, (SGD, tf.compat.v1.keras.optimizers.SGD)),
    (fastrnn.losses.binary_crossentropy, (binary_crossentropy,)),
    (fastrnn.models.load_model, (load_model,)),
    (fastrnn.optimizers.Adam, (Adam, adam, tf.keras.optimizers.legacy.Adam)),
    (fastrnn.preprocessing.sequence.pad_sequences, (pad_sequences, keras.utils.pad_sequences)),
    (fastrnn.progress.Progbar, (Progbar,)),
    (fastrnn.random.set_seed, (tf.random.set_seed, tf.set_random_seed)),
    (fastrnn.regularizers.l2, (l2,)),
    (fastrnn.saving.save_model, (save_model,)),
    (fastrnn.schedules.ExponentialDecay, (ExponentialDecay,)),
    (fastrnn.utils.to_categorical, (to_categorical, older)),
]:
    for their in theirs:
        print(their is ours)
print(K is backend, isinstance(keras.__version__, str), tf.__version__[0] == "2")
"""


def test_names_are_at_keras_paths(tmp_path):
    said = code(SAME, tmp_path).split()
    assert len(said) > 50
    assert set(said) == {"True"}


def test_the_real_libraries_are_never_imported(tmp_path):
    for name in ("keras", "tensorflow"):
        (tmp_path / f"{name}.py").write_text(f"print('the real {name}')")
    assert code("import keras, tensorflow.keras.layers", tmp_path, before=str(tmp_path)) == ""
    status, _, err = python(
        "-c", "import keras, fastrnn.as_keras", cwd=tmp_path, before=str(tmp_path)
    )
    assert status == 1
    assert "ImportError: keras has been imported already" in err


@pytest.mark.parametrize(
    "statement, kind, name, offer",
    [
        ("from keras.layers import ConvLSTM3D", "ModuleNotFoundError", "keras.layers.ConvLSTM3D",
         "ConvLSTM2D"),
        ("from tensorflow.keras.layers import ConvLSTM3D", "ModuleNotFoundError",
         "keras.layers.ConvLSTM3D", "ConvLSTM2D"),
        ("import keras; keras.layers.ConvLSTM3D", "AttributeError", "keras.layers.ConvLSTM3D",
         "ConvLSTM2D"),
        ("import keras.applications", "ModuleNotFoundError", "keras.applications", "layers"),
        ("import tensorflow as tf; tf.Graph", "AttributeError", "tensorflow.Graph", "keras"),
        ("import tensorflow as tf; tf.reduce_men", "AttributeError", "tensorflow.reduce_men",
         "reduce_mean"),
        ("from keras.ops import fft", "ModuleNotFoundError", "keras.ops.fft", "numpy.fft"),
    ],
)  # fmt: skip
def test_a_missing_name_says_which_and_what_there_is(tmp_path, statement, kind, name, offer):
    status, _, err = python("-c", f"import fastrnn.as_keras\n{statement}", cwd=tmp_path)
    assert status == 1
    last = err.splitlines()[-1]
    assert last.startswith(f"{kind}: fastrnn has no {name}; ")
    assert re.search(rf"\b{offer}\b", last.partition(" has no ")[2].partition("; ")[2])


REAL = """
import inspect, importlib, json, sys
found = {}
for path in json.loads(sys.argv[1]):
    try:
        module = importlib.import_module(path)
    except ImportError:
        continue
    found[path] = [n for n in dir(module) if n[0] != "_" and not inspect.ismodule(getattr(module, n))]
print(json.dumps(found))
"""  # noqa: E501
OURS = """
import importlib, inspect, json, pkgutil, sys
import fastrnn
defined = set()
for part in pkgutil.walk_packages(fastrnn.__path__, "fastrnn."):
    if not part.name.startswith(("fastrnn.examples", "fastrnn.interop", "fastrnn.__main__")):
        try:
            module = importlib.import_module(part.name)
        except ImportError:  # what needs scikit-learn
            continue
        defined |= {n for n, v in vars(module).items() if inspect.getmodule(v) is module}
for path, names in json.load(sys.stdin).items():
    module = importlib.import_module(path)
    for name in names:
        if name in defined and name not in module.__all__:
            print(f"{path}.{name}")
"""


def test_what_fastrnn_has_is_where_keras_has_it(tmp_path):
    pytest.importorskip("keras", reason="compares with the names of Keras itself")
    listing = "import json\nprint(json.dumps(sorted(fastrnn.as_keras._Finder.paths)))"
    paths = [path for path in json.loads(code(listing, tmp_path)) if re.match(r"keras\b", path)]
    status, out, err = python("-c", REAL, json.dumps(paths), cwd=tmp_path, TF_CPP_MIN_LOG_LEVEL="3")
    assert status == 0, err
    real = json.loads(out.splitlines()[-1])
    assert len(real) > 15
    del real["keras.ops"]  # of which fastrnn has a part, that of keras.backend
    (tmp_path / "names.json").write_text(json.dumps(real))
    missing = code(f"import sys\nsys.stdin = open('names.json')\n{OURS}", tmp_path).split()
    # The first is an initializer in fastrnn.
    assert set(missing) <= {"keras.layers.Identity"}


# what is written -> the dtype and the numbers that TensorFlow gives
TENSORFLOW = {
    "tf.argmax(f)": ("int64", [1, 1, 1]),
    "tf.argmax(f, 1, output_type=tf.int32)": ("int32", [2, 2]),
    "tf.argsort(f, direction='DESCENDING')": ("int32", [2, 1, 0, 2, 1, 0]),
    "tf.boolean_mask(f, f > 2)": ("float32", [3, 4, 5, 6]),
    "tf.boolean_mask(f, [True, False])": ("float32", [1, 2, 3]),
    "tf.cast(2.7, tf.int32)": ("int32", [2]),
    "tf.clip_by_global_norm([f, f], 2.)[1]": ("float32", [13.490738]),
    "tf.clip_by_norm(f, 2.)[0]": ("float32", [0.20965695, 0.4193139, 0.62897086]),
    "tf.cumsum(f)": ("float32", [1, 2, 3, 5, 7, 9]),
    "tf.cumsum(f, 1, exclusive=True, reverse=True)": ("float32", [5, 3, 0, 11, 6, 0]),
    "tf.fill([2], 1)": ("int32", [1, 1]),
    "tf.gather(f, [0, 2], axis=1)": ("float32", [1, 3, 4, 6]),
    "tf.gather(f, [[0], [2]], batch_dims=1)": ("float32", [1, 6]),
    "tf.gather_nd(f, [[0, 1], [1, 2]])": ("float32", [2, 6]),
    "tf.linalg.band_part(f, 0, -1)": ("float32", [1, 2, 3, 0, 5, 6]),
    "tf.linalg.matvec(f, [1., 2, 3])": ("float32", [14, 32]),
    "tf.math.confusion_matrix([0, 1], [1, 1])": ("int32", [0, 1, 0, 1]),
    "tf.math.divide_no_nan(f[0], 0.)": ("float32", [0, 0, 0]),
    "tf.math.floordiv(i[0], 2)": ("int32", [0, 1, 1]),
    "tf.math.reduce_logsumexp(f, 1)": ("float32", [3.407606, 6.407606]),
    "tf.math.reduce_std(f)": ("float32", [1.7078252]),
    "tf.math.reduce_variance(f, axis=0)": ("float32", [2.25, 2.25, 2.25]),
    "tf.math.top_k(f, 2).indices": ("int32", [2, 1, 2, 1]),
    "tf.matmul(f, f, transpose_b=True)": ("float32", [14, 32, 32, 77]),
    "tf.nn.l2_normalize(f[0])": ("float32", [0.26726124, 0.5345225, 0.8017837]),
    "tf.nn.leaky_relu(f[0] - 3)": ("float32", [-0.4, -0.2, 0]),
    "tf.nn.moments(f, [0])[0]": ("float32", [2.5, 3.5, 4.5]),
    "tf.nn.sigmoid_cross_entropy_with_logits(labels=[1., 0.], logits=[2., 0.])": (
        "float32",
        [0.126928, 0.6931472],
    ),
    "tf.nn.softmax_cross_entropy_with_logits(labels=[[1., 0, 0]], logits=[[1., 2, 3]])": (
        "float32",
        [2.407606],
    ),
    "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[2], logits=[[1., 2, 3]])": (
        "float32",
        [0.40760595],
    ),
    "tf.norm(f)": ("float32", [9.539392]),
    "tf.norm(f, ord=1, axis=1)": ("float32", [6, 15]),
    "tf.one_hot([0, 2], 3, on_value=5, off_value=-1)": ("int32", [5, -1, -1, -1, -1, 5]),
    "tf.pad(f, [[1, 1], [1, 0]], 'REFLECT')[0]": ("float32", [5, 4, 5, 6]),
    "tf.pad(f, [[1, 0], [0, 0]], constant_values=2)[0]": ("float32", [2, 2, 2]),
    "tf.range(0, 1, 0.25)": ("float32", [0, 0.25, 0.5, 0.75]),
    "tf.range(1, 10, 2)": ("int32", [1, 3, 5, 7, 9]),
    "tf.rank(f)": ("int32", [2]),
    "tf.reduce_all(i > 1)": ("bool", [False]),
    "tf.reduce_mean(i)": ("int32", [3]),
    "tf.reduce_sum(i, 1)": ("int32", [6, 15]),
    "tf.reverse(f, [0, 1])": ("float32", [6, 5, 4, 3, 2, 1]),
    "tf.scan(lambda a, x: a + x, f)": ("float32", [1, 2, 3, 5, 7, 9]),
    "tf.sequence_mask([1, 3], 4, dtype=tf.float32)": ("float32", [1, 0, 0, 0, 1, 1, 1, 0]),
    "tf.shape(f)": ("int32", [2, 3]),
    "tf.slice(f, [0, 1], [2, -1])": ("float32", [2, 3, 5, 6]),
    "tf.split(f, [1, -1], 1)[1]": ("float32", [2, 3, 5, 6]),
    "tf.unique([3, 1, 3])[0]": ("int32", [3, 1]),
    "tf.where(f > 4)": ("int64", [1, 1, 1, 2]),
    "tf.while_loop(lambda n: n < 3, lambda n: (n + 1,), [0])[0]": ("int32", [3]),
}


def test_functions_of_tensorflow(tmp_path):
    text = f"""
import numpy as np, tensorflow as tf
f, i = tf.constant([[1., 2, 3], [4, 5, 6]]), tf.constant([[1, 2, 3], [4, 5, 6]])
for written, (dtype, numbers) in {TENSORFLOW!r}.items():
    found = eval(written)
    assert found.dtype == getattr(tf, dtype) and isinstance(found, tf.Tensor), written
    np.testing.assert_allclose(found.numpy().ravel(), numbers, rtol=1e-5, err_msg=written)


@tf.function(jit_compile=True)
def summed(x):
    parts = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
    for n in tf.range(tf.shape(x)[1]):
        parts = parts.write(n, x[:, n] * tf.cast(n, tf.float32))
    return tf.reduce_sum(parts.stack(), axis=0)


w = tf.Variable([[1., 2, 3], [4, 5, 6]])
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(summed(w)) + tf.reduce_mean([w[0, 0], 3.0])
assert tape.gradient(loss, w).numpy().tolist() == [[0.5, 1, 2], [0, 1, 2]]
tf.debugging.assert_equal(f, f, message="same")
try:
    tf.debugging.assert_less(f, f)
except tf.errors.InvalidArgumentError as error:
    assert "expected x < y" in str(error)
else:
    raise SystemExit("no error")
for _ in range(2):
    tf.random.set_seed(3)
    drawn = [tf.random.normal([2, 3]), tf.random.uniform((2,), maxval=5, dtype=tf.int32, seed=1),
             tf.random.categorical(f, 4), tf.random.shuffle(f), tf.random.truncated_normal([5])]
    before = drawn if _ == 0 else before
assert all((a.numpy() == b.numpy()).all() for a, b in zip(before, drawn))
assert drawn[1].dtype == tf.int32 and drawn[2].shape == (2, 4) and drawn[2].dtype == tf.int64
kept = tf.nn.dropout(tf.ones([1000]), 0.5).numpy()
assert set(kept) == {{0, 2}} and 400 < (kept > 0).sum() < 600
x = tf.keras.Input((4, 3))
assert tf.reduce_mean(tf.nn.relu(x), axis=1).shape == tf.concat([x, x], 1)[:, 0].shape
import keras
same = [keras.random.normal((3,), seed=4), keras.random.normal((3,), seed=4)]
assert same[0].tolist() == same[1].tolist()
seeds = keras.random.SeedGenerator(1)
first, second = (keras.random.uniform((2,), seed=seeds).tolist() for _ in range(2))
assert first != second
assert keras.random.randint((100,), 2, 5).numpy().min() == 2
"""
    code(text, tmp_path)


# --- keras.backend, keras.wrappers and the tutorials' MNIST ---


def test_backend(tmp_path):
    code(
        """
import numpy as np
from keras import backend as K
from keras.layers import Dense, Input

assert Dense(1).name == "dense" and Dense(1).name == "dense_1"
K.clear_session()
assert Dense(1).name == "dense"
assert (K.floatx(), K.epsilon(), K.image_data_format()) == ("float32", 1e-7, "channels_last")
x = np.array([[1.0, 3.0], [4.0, 2.0]])
assert K.argmax(x).tolist() == [1, 0]
assert K.mean(K.square(x), axis=-1).tolist() == [5, 10]
assert K.sum(K.cast(K.equal(K.round(x), x), "float32"), keepdims=True).tolist() == [[4]]
assert K.int_shape(x) == K.int_shape(x.tolist()) == (2, 2)
assert K.int_shape(Input((3,))) == (None, 3)
rng = np.random.default_rng(1)
a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 5))
assert np.allclose(K.batch_dot(a, b), a @ b)
assert np.allclose(K.batch_dot(a, a, axes=2), a @ a.swapaxes(1, 2))
assert np.allclose(K.batch_dot(a[:, 0], a[:, 1]), (a[:, 0] * a[:, 1]).sum(-1, keepdims=True))
assert np.allclose(K.batch_dot(a, a[:, 1], axes=[2, 1]), (a * a[:, 1:2]).sum(-1))
assert np.allclose(K.dot(a, b[0]), a @ b[0])
assert K.repeat(x, 3).shape == (2, 3, 2) and K.concatenate([x, x]).shape == (2, 4)
assert K.in_train_phase(lambda: 1, 2, training=True) == 1 and K.in_train_phase(1, 2) == 2
assert K.permute_dimensions(a, (0, 2, 1)).shape == (2, 4, 3)
state = K.variable(np.zeros(2))
K.update_add(state, [1.0, 2.0])
assert K.get_value(state).tolist() == [1, 2]
assert K.random_normal((2, 3)).shape == K.random_uniform((2, 3)).shape == (2, 3)
layer = Dense(2)
layer.build((None, 3))
K.set_value(layer.weights[0], np.ones((3, 2)))
assert K.get_value(layer.weights[0]).tolist() == np.ones((3, 2)).tolist()
from keras.optimizers import Adam
rate = Adam(0.5)
K.set_value(rate.lr, K.get_value(rate.lr) / 2)
assert K.eval(rate.lr) == rate.learning_rate == 0.25
for call in (lambda: K.set_value(0.1, 1), lambda: K.set_floatx("float64")):
    try:
        call()
    except (TypeError, ValueError) as error:
        assert "expected" in str(error)
    else:
        raise SystemExit("no error")
""",
        tmp_path,
    )


MODEL = """
import numpy as np
from keras.layers import LSTM, Dense
from keras.models import Sequential, load_model

x = np.random.default_rng(0).random((64, 5, 3)).astype("float32")
y = (x.sum((1, 2)) > 7.5).astype("float32")

def made(*compiled):
    model = Sequential([LSTM(4, input_shape=(5, 3)), Dense(1, activation="sigmoid")])
    model.compile(*compiled)
    return model
"""
LOSSES = """
import tensorflow as tf
from keras import backend as K, ops

def rmse(y_true, y_pred):
    return K.sqrt(K.mean(K.square(y_pred - y_true), axis=-1))

def quantile(q):
    def loss(y_true, y_pred):
        e = y_true - y_pred
        return tf.reduce_mean(tf.maximum(q * e, (q - 1) * e), axis=-1)
    return loss

def focal(y_true, y_pred):
    right = tf.where(tf.equal(y_true, 1), y_pred, 1 - tf.cast(y_pred, tf.float32))
    return -K.sum(0.25 * K.pow(1. - right, 2.) * tf.math.log(tf.clip_by_value(right, 1e-7, 1)))

def dice(y_true, y_pred, smooth=1):
    a, b = K.flatten(y_true), K.flatten(y_pred)
    return 1 - (2. * K.sum(a * b) + smooth) / (K.sum(a) + K.sum(b) + smooth)

def from_logits(y_true, y_pred):
    z = ops.log(y_pred) - ops.log(1 - y_pred)
    return K.switch(y_true > 0, K.softplus(-z), -ops.log(1 - K.sigmoid(z)))

def weighted(y_true, y_pred):
    return K.mean(K.binary_crossentropy(y_true, y_pred) * (1 + y_true), axis=-1)

def several(y_true, y_pred):
    same = tf.keras.losses.mean_squared_error(y_true, y_pred)
    return 0.5 * tf.keras.losses.binary_crossentropy(y_true, y_pred, label_smoothing=0.1) + same

def by_classes(y_true, y_pred):
    again = K.categorical_crossentropy(y_true, K.log(y_pred), from_logits=True)
    return (K.categorical_crossentropy(y_true, y_pred) + again) / 2

for loss in rmse, quantile(0.8), focal, dice, from_logits, weighted, several:
    losses = made("adam", loss, [loss]).fit(x, y, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0], (loss, losses)
huber = tf.keras.losses.huber
for own, known, outputs, activation in (
    (from_logits, "binary_crossentropy", 1, "sigmoid"),
    (lambda t, p: K.mean(K.binary_crossentropy(t, p)), "binary_crossentropy", 1, "sigmoid"),
    (lambda t, p: 3 * huber(t, p, delta=1.0) - 2 * huber(t, p), "huber", 1, "sigmoid"),
    (by_classes, "categorical_crossentropy", 2, "softmax"),
):
    targets = y if outputs == 1 else np.stack([y, 1 - y], 1)
    model = Sequential([LSTM(4, input_shape=(5, 3)), Dense(outputs, activation)])
    start, ends = model.get_weights(), []
    for loss in own, known:
        model.set_weights(start)
        model.compile("sgd", loss)
        model.fit(x, targets, epochs=3, shuffle=False, verbose=0)
        ends.append(model.get_weights())
    moved = max(np.abs(ours - before).max() for before, ours in zip(start, ends[0]))
    apart = max(np.abs(ours - theirs).max() for ours, theirs in zip(*ends))
    assert apart < 1e-3 * moved, (known, moved, apart)
"""


def test_losses_of_the_scripts_own(tmp_path):
    code(MODEL + LOSSES, tmp_path)


OWN = """
import keras
from keras import backend as K
from keras.layers import Activation
from keras.utils import CustomObjectScope
from keras.utils.generic_utils import get_custom_objects

def double_swish(x):
    return x * K.sigmoid(2 * x)

@keras.saving.register_keras_serializable(package="mine")
def square(y_true, y_pred):
    return K.mean(K.square(y_true - y_pred), axis=-1)

@keras.utils.register_keras_serializable()
class Tenths(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return np.full(shape, 0.1)

with CustomObjectScope({"double_swish": double_swish}):
    Activation("double_swish")
try:
    Activation("double_swish")
except ValueError:
    get_custom_objects().update({"double_swish": double_swish})
else:
    raise SystemExit("no error")
assert get_custom_objects()["mine>square"] is square
model = Sequential([LSTM(4, kernel_initializer=Tenths(), input_shape=(5, 3)), Dense(1)])
model.add(Activation("double_swish"))
model.compile("adam", square)
model.fit(x, y, verbose=0)
for name in ("m.keras", "m.h5"):
    model.save(name)
    again = load_model(name)
    assert np.array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert again.loss.fn is square and again.layers[2].activation is double_swish
    assert again.layers[0].get_config()["kernel_initializer"]["class_name"] == "Tenths"
"""


def test_objects_of_the_scripts_own(tmp_path):
    code(MODEL + OWN, tmp_path)


def test_outputs_of_layers(tmp_path):
    code(
        MODEL
        + """
from keras import backend as K

model = made("adam", "mse", ["mae"])
inside = K.function([model.layers[0].input, K.learning_phase()], [model.layers[0].output])
every = K.function([model.input], [layer.output for layer in model.layers])
top = K.function([model.layers[1].input], model.layers[1].output)
states = inside([x, 0])[0]
called = model(x, training=False).numpy()
assert type(called) is np.ndarray and np.array_equal(called, model.predict(x, verbose=0))
assert states.shape == (64, 4) and np.array_equal(states, every([x])[0])
assert np.array_equal(every([x])[1], model.predict(x, verbose=0))
assert np.allclose(top([states]), model.predict(x, verbose=0), atol=1e-6)
try:
    inside([x, 1])
except ValueError as error:
    assert "learning phase: expected 0" in str(error)
else:
    raise SystemExit("no error")
try:
    Dense(1).input
except AttributeError as error:
    assert "has no input: it is in no model" in str(error)
else:
    raise SystemExit("no error")
""",
        tmp_path,
    )


def test_names_of_older_modules(tmp_path):
    code(
        MODEL
        + """
import keras
from keras.engine.base_layer import Layer
from keras.engine.input_layer import Input
from keras.engine.sequential import Sequential as engines
from keras.layers.normalization.batch_normalization import BatchNormalization
from keras.losses import cosine_proximity, kullback_leibler_divergence, logcosh
from keras.utils.np_utils import normalize
from keras.utils.visualize_util import plot
from tensorflow.keras.callbacks.experimental import BackupAndRestore

assert engines is Sequential and BatchNormalization is keras.layers.BatchNormalization
assert Layer is keras.layers.Layer and Input is keras.Input
assert logcosh is keras.losses.log_cosh and BackupAndRestore is keras.callbacks.BackupAndRestore
assert plot is keras.utils.plot_model
assert normalize([[3., 4.], [0., 0.]]).tolist() == [[0.6, 0.8], [0, 0]]
assert normalize([[3., 1.], [6., 1.]], axis=0, order=1).tolist() == [[1/3, 0.5], [2/3, 0.5]]
model = made("adam", "mse", ["mae", keras.metrics.AUC()])  # metrics third, as in Keras 2
assert len(model.evaluate(x, y, verbose=0)) == 3
model.compile(loss="mse", optimizer="adam", class_mode="binary")
""",
        tmp_path,
    )


def test_devices(tmp_path):
    code(
        """
import logging
import fastrnn
import tensorflow as tf

tf.get_logger().setLevel("ERROR")
tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.FATAL)
assert logging.getLogger("tensorflow").level == logging.FATAL
tf.logging.set_verbosity(tf.logging.ERROR)
assert tf.test.gpu_device_name() == "" and not tf.test.is_built_with_cuda()
tf.config.experimental.enable_op_determinism()
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_intra_op_parallelism_threads(0)
assert tf.config.threading.get_intra_op_parallelism_threads() == fastrnn.get_num_threads() == 1

assert tf.config.list_physical_devices("GPU") == tf.config.list_logical_devices("GPU") == []
assert tf.config.experimental.list_physical_devices("GPU") == []
assert [d.device_type for d in tf.config.list_physical_devices()] == ["CPU"]
config = tf.ConfigProto(intra_op_parallelism_threads=1, allow_soft_placement=True)
config.gpu_options.allow_growth = True
tf.keras.backend.set_session(tf.compat.v1.Session(config=config))
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
with tf.Session(config=tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True))) as session:
    tf.compat.v1.keras.backend.set_session(session)
assert not tf.test.is_gpu_available()
""",
        tmp_path,
    )


def test_text_as_in_the_tutorials(tmp_path):
    """tf.strings, whose results are those of TensorFlow on these texts."""
    code(
        """
import numpy as np
import tensorflow as tf
from tensorflow.keras.layers import IntegerLookup, StringLookup, TextVectorization
from tensorflow.keras.layers.experimental import preprocessing
assert preprocessing.TextVectorization is TextVectorization
assert preprocessing.StringLookup is StringLookup and preprocessing.IntegerLookup is IntegerLookup

text = tf.constant([["\\u00c4 b\\u2003C "], ["x.y"]])
texts = lambda y: [texts(part) for part in y] if isinstance(y, list) else (
    y.decode() if isinstance(y, bytes) else y
)
plain = lambda y: y if isinstance(y, list) else np.asarray(y.numpy()).tolist()
same = lambda y, expected: texts(plain(y)) == expected
assert same(text, [["\\u00c4 b\\u2003C "], ["x.y"]]) and text.shape == (2, 1)
assert tf.constant("a", dtype=tf.string).numpy() == b"a"
assert tf.keras.Input((1,), dtype=tf.string).dtype == "string"
assert same(tf.strings.lower(text), [["\\u00c4 b\\u2003c "], ["x.y"]])
assert same(tf.strings.lower(text, encoding="utf-8"), [["\\u00e4 b\\u2003c "], ["x.y"]])
assert same(tf.strings.upper(b"\\xc3\\xa4a"), "\\u00e4A")
assert same(tf.strings.upper("\\u00e4a", encoding="utf-8"), "\\u00c4A")
assert same(tf.strings.strip(text), [["\\u00c4 b\\u2003C"], ["x.y"]])
assert same(tf.strings.length(["\\u00e9", "ab"]), [2, 2])
assert same(tf.strings.length(["\\u00e9", "ab"], unit="UTF8_CHAR"), [1, 2])
assert same(tf.strings.regex_replace(["aba", "c"], "(a)", r"<\\1>"), ["<a>b<a>", "c"])
assert same(tf.strings.regex_replace("aba", "a", "", replace_global=False), "ba")
assert same(tf.strings.regex_full_match(["aa", "ab"], "a+"), [True, False])
assert same(tf.strings.split(["a  b\\u2003c ", ""]), [["a", "b\\u2003c"], []])
assert same(tf.strings.split("a,b,,c", ","), ["a", "b", "", "c"])
assert same(tf.strings.split(["a,b,c"], sep=",", maxsplit=1), [["a", "b,c"]])
assert same(tf.strings.unicode_split(["a\\u00e9", ""], "UTF-8"), [["a", "\\u00e9"], []])
assert same(tf.strings.unicode_split("a\\u00e9", "UTF-8"), ["a", "\\u00e9"])
assert same(tf.strings.join([["a", "b"], "c"], "-"), ["a-c", "b-c"])

layer = TextVectorization(split=lambda x: tf.strings.split(x, "|"), standardize=tf.strings.upper)
layer.adapt(["a|b", b"b|\\xff"])
assert layer([["b|a|q"], ["\\udcff".encode(errors="surrogateescape")]]).numpy().tolist() == [
    [2, 4, 1], [3, 0, 0]
], layer([["b|a|q"]])

reviews, labels = ["A film.", "b film", "the film", "a b"], [1, 0, 1, 0]
raw = tf.data.Dataset.from_tensor_slices((reviews, labels)).batch(3)
vectorize = TextVectorization(output_sequence_length=4)
vectorize.adapt(raw.map(lambda text, label: text))
assert vectorize.get_vocabulary() == ["", "[UNK]", "film", "b", "a", "the"]
rows = [x for x, _ in raw.map(lambda text, label: (vectorize(text), label))]
assert [row.shape for row in rows] == [(3, 4), (1, 4)]
assert rows[1].numpy().tolist() == [[4, 3, 0, 0]]
rows = [x for x, _ in raw.map(lambda text, label: (vectorize(tf.expand_dims(text, -1)), label))]
assert [row.shape for row in rows] == [(3, 4), (1, 4)]
model = tf.keras.Sequential([
    vectorize, tf.keras.layers.Embedding(6, 2), tf.keras.layers.LSTM(2), tf.keras.layers.Dense(1)
])
model.compile("adam", "mse")
model.fit(raw, epochs=2, verbose=0)
assert np.isfinite(model.evaluate(raw, verbose=0)) and model.predict(raw, verbose=0).shape == (4, 1)
""",
        tmp_path,
    )


def test_preprocessing_layers_as_in_the_tutorials(tmp_path):
    code(
        """
import numpy as np
import tensorflow as tf
from tensorflow.keras import layers
from tensorflow.keras.layers.experimental import preprocessing
from tensorflow.keras.layers.experimental.preprocessing import Rescaling
assert preprocessing.Normalization is layers.Normalization and Rescaling is layers.Rescaling

features = np.random.default_rng(0).normal(5, 3, (100, 4))
normalizer = tf.keras.layers.Normalization(axis=-1)
normalizer.adapt(np.array(features))
assert np.allclose(normalizer.mean.numpy(), features.mean(axis=0), rtol=1e-5)
model = tf.keras.Sequential([normalizer, layers.Dense(units=1)])
model.predict(features[:10], verbose=0)
model.compile(optimizer=tf.keras.optimizers.Adam(learning_rate=0.1), loss="mean_absolute_error")
history = model.fit(features, features.sum(axis=1) - 20, epochs=30, verbose=0, validation_split=0.2)
assert history.history["val_loss"][-1] < 0.5 * history.history["val_loss"][0]

horsepower = np.array(features[:, 0])
one = layers.Normalization(input_shape=[1,], axis=None)
one.adapt(horsepower)
model = tf.keras.Sequential([one, layers.Dense(units=1)])
assert model.predict(horsepower[:10], verbose=0).shape == (10, 1)
""",
        tmp_path,
    )


PIPELINES_LACK = [
    "fastrnn has no tensorflow.data.TFRecordDataset; Dataset.from_generator takes what ",
    "fastrnn has no tensorflow.data.experimental.make_csv_dataset; Dataset.from_tensor_sl",
    "fastrnn has no tensorflow.data.experimental.CsvDataset; Dataset.from_tensor_slices ",
    "fastrnn has no tensorflow.data.x; tensorflow.data has AUTOTUNE, Dataset, DatasetSpec, ",
    "fastrnn's Dataset has no snapshot: cache() keeps the elements in memory",
]


def test_pipelines_of_data(tmp_path):
    out = code(
        """
import numpy as np
import tensorflow as tf
from tensorflow.data import AUTOTUNE, Dataset
from tensorflow.data.experimental import cardinality

assert tf.data.Dataset is Dataset and tf.data.experimental.AUTOTUNE == AUTOTUNE == -1
assert cardinality(Dataset.range(3).repeat()).numpy() == tf.data.INFINITE_CARDINALITY
filtered = Dataset.range(3).filter(lambda n: n > 1)
assert filtered.cardinality() == tf.data.experimental.UNKNOWN_CARDINALITY
options = tf.data.Options()
options.experimental_optimization.apply_default_optimizations = False
assert len(Dataset.range(3).with_options(options)) == 3

tf.keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
sequences = [rng.normal(size=(rng.integers(2, 9), 3)).astype("float32") for _ in range(256)]
labels = [int(rows.sum() > 0) for rows in sequences]

def sequence_generator(limit):
    for rows, label in zip(sequences[:limit], labels):
        yield {"rows": rows, "length": len(rows)}, label

signature = (
    {"rows": tf.TensorSpec(shape=(None, 3), dtype=tf.float32),
     "length": tf.TensorSpec(shape=(), dtype=tf.int32)},
    tf.TensorSpec(shape=[], dtype=tf.int64),
)
data = Dataset.from_generator(sequence_generator, args=[200], output_signature=signature)
older = Dataset.from_generator(
    sequence_generator, args=[200],
    output_types=({"rows": tf.float32, "length": tf.int32}, tf.int64),
    output_shapes=({"rows": (None, 3), "length": []}, tf.TensorShape([])),
)
assert data.element_spec == older.element_spec == signature

@tf.function
def with_weights(inputs, label):
    rows = tf.cast(inputs["rows"], tf.float32)
    weight = tf.where(label == 1, 1.0, 0.5)
    return rows, tf.expand_dims(label, -1), weight

data = data.map(with_weights, num_parallel_calls=AUTOTUNE, deterministic=False).cache()
train = data.take(160).shuffle(160, seed=1).bucket_by_sequence_length(
    lambda rows, label, weight: tf.shape(rows)[0], bucket_boundaries=[5],
    bucket_batch_sizes=[16, 16],
).prefetch(tf.data.AUTOTUNE)
held = data.skip(160).padded_batch(16, padded_shapes=([None, 3], [1], []))
shapes = [rows.shape for rows, *_ in train]
assert {rows[1] for rows in shapes} <= set(range(2, 9)) and max(rows[0] for rows in shapes) == 16
model = tf.keras.Sequential([
    tf.keras.layers.Input((None, 3)), tf.keras.layers.Masking(), tf.keras.layers.LSTM(8),
    tf.keras.layers.Dense(1, activation="sigmoid"),
])
model.compile(tf.keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
history = model.fit(train, epochs=25, validation_data=held, verbose=0)
assert model.evaluate(held, verbose=0)[1] > 0.8

def check(value, dtype, expected):
    assert value.dtype == dtype and np.asarray(value).tolist() == expected, value
    assert hasattr(value, "numpy")

check(tf.constant([1, 2]), tf.int32, [1, 2])
check(tf.constant(1.5), tf.float32, 1.5)
check(tf.constant([1, 2], tf.float64), tf.float64, [1, 2])
check(tf.constant("a"), tf.string, "a".encode())
check(tf.constant(3, shape=(2, 1)), tf.int32, [[3], [3]])
check(tf.constant([1, 2, 3, 4], shape=[2, 2]), tf.int32, [[1, 2], [3, 4]])
check(tf.convert_to_tensor(np.arange(2), dtype=tf.float32), tf.float32, [0, 1])
check(tf.identity([1.0]), tf.float32, [1])
check(tf.range(3), tf.int32, [0, 1, 2])
check(tf.range(1, 6, 2), tf.int32, [1, 3, 5])
check(tf.range(2.0), tf.float32, [0, 1])
check(tf.fill([2], tf.constant(7, tf.int64)), tf.int64, [7, 7])
check(tf.zeros([2]), tf.float32, [0, 0])
check(tf.ones((1, 2), tf.int32), tf.int32, [[1, 1]])
check(tf.shape(np.ones((2, 3))), tf.int32, [2, 3])
check(tf.size(np.ones((2, 3))), tf.int32, 6)
check(tf.rank(np.ones((2, 3))), tf.int32, 2)
check(tf.one_hot([0, 2, 5], 3), tf.float32, [[1, 0, 0], [0, 0, 1], [0, 0, 0]])
check(tf.one_hot([0, 1], 2, on_value=5, off_value=1, axis=0, dtype=tf.int32), tf.int32,
      [[5, 1], [1, 5]])
check(tf.stack([tf.ones(1), tf.zeros(1)]), tf.float32, [[1], [0]])
check(tf.concat([tf.constant([1]), tf.constant([2])], axis=0), tf.int32, [1, 2])
check(tf.numpy_function(lambda a, b: a + b, [tf.ones(1), tf.ones(1)], tf.float32), tf.float32, [2])
first, second = tf.py_function(lambda a: [a.numpy() + 1, "s"], [1], [tf.int32, tf.string])
check(first, tf.int32, 2)
check(second, tf.string, "s".encode())
weight, optimizer = tf.Variable([0.0, 0.0]), tf.keras.optimizers.SGD(0.2)
points = np.random.default_rng(1).normal(size=(64, 2)).astype("float32")
pairs = Dataset.from_tensor_slices((points, points @ np.float32([2, -1]))).shuffle(64).batch(16)
for epoch in range(30):
    for inputs, targets in pairs:
        with tf.GradientTape() as tape:
            told = tf.reduce_sum(tf.identity(inputs * weight), axis=1)
            loss = tf.reduce_mean(tf.square(tf.convert_to_tensor(told) - targets))
        optimizer.apply_gradients(zip(tape.gradient(loss, [weight]), [weight]))
assert np.allclose(weight.numpy(), [2, -1], atol=0.01)

for wrong in ("TFRecordDataset", "experimental.make_csv_dataset", "experimental.CsvDataset", "x"):
    try:
        eval(f"tf.data.{wrong}")
    except AttributeError as error:
        print(error)
try:
    Dataset.range(3).snapshot("folder")
except AttributeError as error:
    print(error)
""",
        tmp_path,
    )
    for line, start in zip(out.splitlines(), PIPELINES_LACK, strict=True):
        assert line.startswith(start)


def test_modules_in_what_is_sent_to_another_process(tmp_path):
    sent = code(
        "import keras.layers, pickle\n"
        "print(pickle.dumps([keras, keras.layers, keras.models.Sequential]).hex())",
        tmp_path,
    )
    program = f"""
import pickle
keras, layers, Sequential = pickle.loads(bytes.fromhex({sent.strip()!r}))
assert keras.__version__ and keras.layers is layers and keras.Sequential is Sequential
"""
    assert python("-c", program, cwd=tmp_path) == (0, "", "")


WRAPPERS = """
import numpy as np
from keras.layers import LSTM, Dense
from keras.models import Sequential
from keras.wrappers.scikit_learn import KerasClassifier, KerasRegressor
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

def build(units=4, outputs=1, loss="binary_crossentropy"):
    model = Sequential([LSTM(units, input_shape=(5, 2))])
    model.add(Dense(outputs, activation="softmax" if outputs > 1 else "sigmoid"))
    model.compile("adam", loss, metrics=["accuracy"])
    return model

rng = np.random.default_rng(0)
y = rng.integers(0, 3, 90)
x = rng.normal(y[:, None, None], 0.3, (90, 5, 2))
names = np.array(["a", "b", "c"])[y]
for loss, targets, classes in (
    ("categorical_crossentropy", names, "abc"),
    ("sparse_categorical_crossentropy", names[:, None], "abc"),
    ("categorical_crossentropy", np.eye(3)[y], range(3)),
):
    one = KerasClassifier(build, outputs=3, loss=loss, units=2, epochs=1, verbose=0)
    try:
        check_is_fitted(one)
    except NotFittedError:
        pass
    again = clone(one).set_params(units=8, epochs=30, batch_size=8)
    assert one.get_params()["units"] == 2 and again.get_params()["units"] == 8
    history = again.fit(x, targets, epochs=40)  # fit's own argument counts
    assert len(history.epoch) == 40 and again.model.layers[0].units == 8
    assert list(again.classes_) == list(classes)
    assert again.predict_proba(x).shape == (90, 3)
    assert set(again.predict(x)) <= set(classes) and again.score(x, targets) > 0.8
two = KerasClassifier(build_fn=build, epochs=2, verbose=0)
two.fit(x, y > 0)
assert np.allclose(two.predict_proba(x).sum(axis=1), 1) and two.predict(x).dtype == bool

number = KerasRegressor(lambda: build(loss="mse"), epochs=2, verbose=0)
number.fit(x, y / 2)
assert number.predict(x).shape == (90,)
loss = number.model.evaluate(x, y / 2, verbose=0)[0]
assert number.score(x, y / 2) == -loss
for mistake, expected in (
    (lambda: KerasClassifier(build, unit=3), "build: unknown arguments ['unit']; did you mean 'u"),
    (lambda: KerasClassifier(), "build_fn: expected a function that returns a model, received No"),
    (lambda: KerasRegressor(lambda: 3).fit(x, y), "build_fn: expected to return a Sequential, rec"),
):
    try:
        mistake()
    except ValueError as error:
        assert expected in str(error), error
    else:
        raise SystemExit("no error")
"""


def test_wrappers_for_scikit_learn(tmp_path):
    pytest.importorskip("sklearn")
    code(WRAPPERS, tmp_path)


def test_wrappers_without_scikit_learn(tmp_path):
    (tmp_path / "sklearn.py").write_text("raise ImportError('not here')")
    program = "import fastrnn.as_keras\nfrom keras.wrappers.scikit_learn import KerasClassifier"
    status, _, err = python("-c", program, cwd=tmp_path, before=str(tmp_path))
    assert status == 1
    assert "fastrnn.sklearn needs scikit-learn >= 1.6: pip install 'fastrnn[sklearn]'" in err


def test_input_data(data, tmp_path):
    code(
        """
import numpy as np
from tensorflow.examples.tutorials.mnist import input_data

with np.load("mnist.npz") as file:
    x, y, test_x = file["x_train"], file["y_train"], file["x_test"]
got = input_data.read_data_sets(".", one_hot=True, validation_size=4000)
assert [len(part.images) for part in got] == [1400, 4000, 200]
assert np.array_equal(got.train.images, (x[4000:].reshape(-1, 784) / 255).astype("float32"))
assert np.array_equal(got.validation.labels, np.eye(10)[y[:4000]])
assert got.test.images.dtype == np.float32 and got.test.labels.shape == (200, 10)
plain = input_data.read_data_sets(".", reshape=False, dtype="uint8")
assert np.array_equal(plain.test.images[..., 0], test_x)
assert np.array_equal(plain.train.labels, y[5000:])

train = got.train
seen = np.concatenate([train.next_batch(400)[0] for _ in range(7)])  # two epochs
assert train.epochs_completed == 1
for epoch in (seen[:1400], seen[1400:]):
    assert np.array_equal(np.sort(epoch.sum(1)), np.sort(train.images.sum(1)))
images, labels = got.test.next_batch(3, shuffle=False)
assert np.array_equal(images, got.test.images[:3])
assert np.array_equal(labels, got.test.labels[:3])
""",
        data,
    )


def test_input_data_in_the_format_of_mnist(data, tmp_path):
    with np.load(data / "mnist.npz") as file:
        arrays = dict(file)
    for part, name in (("train", "train"), ("test", "t10k")):
        for kind, array in (
            ("images-idx3", arrays[f"x_{part}"]),
            ("labels-idx1", arrays[f"y_{part}"]),
        ):
            sizes = np.array(array.shape, ">u4").tobytes()
            content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            (tmp_path / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content, 1))
    os.rename(tmp_path / "mnist.npz", tmp_path / "other.npz")
    code(
        """
import gzip, os
import numpy as np
from tensorflow.examples.tutorials.mnist import input_data

with np.load("other.npz") as file:
    arrays = dict(file)
read = lambda: input_data.read_data_sets(".", dtype="uint8", validation_size=0)
got = read()
assert np.array_equal(got.train.images.reshape(-1, 28, 28), arrays["x_train"])
assert np.array_equal(got.train.labels, arrays["y_train"])
assert np.array_equal(got.test.images.reshape(-1, 28, 28), arrays["x_test"])
assert np.array_equal(got.test.labels, arrays["y_test"])

name = "t10k-labels-idx1-ubyte.gz"
sound = open(name, "rb").read()
labels = gzip.decompress(sound)
for damaged in (
    b"", sound[:-20], labels, gzip.compress(labels[:-1]), gzip.compress(labels + b"0"),
    gzip.compress(labels[:3]), gzip.compress(b"1" + labels[1:]), gzip.compress(b""),
    gzip.compress(bytes([0, 0, 8, 1]) + b"\\xff" * 4 + labels[8:]),
    gzip.compress(bytes([0, 0, 8, 2]) + labels[4:8] + bytes([0, 0, 0, 1]) + labels[8:]),
):
    with open(name, "wb") as file:
        file.write(damaged)
    try:
        read()
    except ValueError as error:
        assert "expected" in str(error)
    else:
        raise SystemExit(f"no error for {damaged[:20]}")
""",
        data,
    )


def test_names_that_are_refused_say_what_there_is(tmp_path):
    """Each of the tables' names, where a script uses it: one sentence, and that of the table."""
    out = code(
        "import importlib, json\n"
        "from fastrnn import as_keras\n"
        "from fastrnn.as_keras import tensorflow\n"
        "table = as_keras._INSTEAD\n"
        "top = {f'tensorflow.{name}': said for name, said in tensorflow.LACKING.items()}\n"
        "said = {}\n"
        "for path in [*table, *top]:\n"
        "    above, _, name = path.rpartition('.')\n"
        "    if hasattr(importlib.import_module(above), name): continue\n"
        "    try: getattr(importlib.import_module(above), name)\n"
        "    except AttributeError as error: said[path] = [str(error), (table | top)[path]]\n"
        "print(json.dumps([said, [*table]]))\n",
        tmp_path,
    )
    said, table = json.loads(out)
    assert {*table} <= said.keys()  # none of them is there after all
    for path, (message, instead) in said.items():
        assert message == f"fastrnn has no {path}; {instead}"
        assert "\n" not in message and len(message) < 200


def test_dtypes_of_variables_and_eager_functions(tmp_path):
    text = (
        "import tensorflow as tf\n"
        "tf.config.run_functions_eagerly(True)\n"
        "x, n = tf.Variable(1.0), tf.Variable(1)\n"
        "print(tf.config.functions_run_eagerly(), x.dtype == tf.float32, tf.float32 == x.dtype,"
        " x.dtype != tf.float32, n.dtype == tf.int32, n.dtype == tf.float32, x.dtype == 'float32',"
        " x.dtype in (tf.int32,), x.dtype)\n"
    )
    expected = "True True True False True False True False float32\n"
    assert code(text, tmp_path) == expected
