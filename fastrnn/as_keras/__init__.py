"""Keras scripts on fastrnn, unmodified.

`import fastrnn.as_keras` as a script's first line makes `keras`, `tensorflow.keras`, the CRF of
`keras_contrib` and their submodules resolve to fastrnn, for this process only; so does `fastrnn run
script.py`. The real libraries are never imported. A name that fastrnn lacks is an ImportError or
AttributeError that says what there is. Errors: ImportError if one of the real libraries has been
imported before.
"""

import difflib
import importlib
import re
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

# What fastrnn follows; scripts ask for it.
_VERSIONS = {"keras": "3.15.1", "keras_contrib": "2.0.8", "tensorflow": "2.21.0"}
_KERAS = re.compile(
    r"^tensorflow\.(python\.|contrib\.|compat\.v[12]\.)?keras\b"
    r"|^tensorflow(?=\.(initializers|losses|metrics|optimizers)\b)"
)

# Keras's path: the module of fastrnn whose names are there. Those of Keras 1 and 2 are among them.
_LAYER_MODULES = (
    "advanced_activations", "convolutional", "convolutional_recurrent", "core", "cudnn_recurrent",
    "embeddings", "experimental", "experimental.preprocessing", "noise", "normalization",
    "normalization.batch_normalization", "pooling", "recurrent", "wrappers",
)  # fmt: skip
_UTIL_MODULES = (
    "data_utils", "generic_utils", "layer_utils", "np_utils", "vis_utils", "visualize_util",
)  # fmt: skip
_MODULES = {
    "keras.activations": "activations",
    "keras.backend": "as_keras.backend",
    "keras.callbacks": "callbacks",
    "keras.callbacks.experimental": "callbacks",
    "keras.config": "as_keras.backend",
    "keras.constraints": "constraints",
    "keras.datasets": "datasets",
    "keras.datasets.fashion_mnist": "datasets.fashion_mnist",
    "keras.datasets.imdb": "datasets.imdb",
    "keras.datasets.mnist": "datasets.mnist",
    "keras.datasets.reuters": "datasets.reuters",
    "keras.initializations": "initializers",
    "keras.initializers": "initializers",
    "keras.layers": "layers",
    **{f"keras.layers.{name}": "layers" for name in _LAYER_MODULES},
    "keras.losses": "losses",
    "keras.metrics": "metrics",
    "keras.models": "models",
    "keras.objectives": "losses",
    "keras.ops": "ops",
    "keras.ops.linalg": "ops",
    "keras.ops.nn": "ops",
    "keras.ops.numpy": "ops",
    "keras.optimizers": "optimizers",
    "keras.optimizers.legacy": "optimizers",
    "keras.optimizers.schedules": "schedules",
    "keras.preprocessing": "preprocessing",
    "keras.preprocessing.sequence": "preprocessing.sequence",
    "keras.preprocessing.text": "preprocessing.text",
    "keras.random": "as_keras.random_numbers",
    "keras.regularizers": "regularizers",
    "keras.saving": "saving",
    "keras.utils": "utils",
    **{f"keras.utils.{name}": "utils" for name in _UTIL_MODULES},
    "keras.wrappers.scikit_learn": "as_keras.scikit_learn",
    "tensorflow.compat.v1.logging": "as_keras.messages",
    "tensorflow.config": "as_keras.devices",
    "tensorflow.config.experimental": "as_keras.devices",
    "tensorflow.config.threading": "as_keras.devices",
    "tensorflow.data": "pipeline",
    "tensorflow.dtypes": "as_keras.dtypes",
    "tensorflow.examples.tutorials.mnist.input_data": "as_keras.input_data",
    "tensorflow.logging": "as_keras.messages",
    "tensorflow.strings": "as_keras.strings",
    "tensorflow.test": "as_keras.devices",
}

# Keras's path: names there that fastrnn keeps elsewhere, or under another name.
_LOSSES = {
    "mae": "losses.mean_absolute_error",
    "mape": "losses.mean_absolute_percentage_error",
    "mse": "losses.mean_squared_error",
    "msle": "losses.mean_squared_logarithmic_error",
    "kld": "losses.kl_divergence",
}
_LOSSES |= {name.upper(): place for name, place in _LOSSES.items()}
_LOSSES |= {
    "cosine_proximity": "losses.cosine_similarity",
    "kullback_leibler_divergence": "losses.kl_divergence",
    "logcosh": "losses.log_cosh",
}
_SEED = {"set_random_seed": "random.set_seed", "set_seed": "random.set_seed"}
_UTILS = {"clear_session": "layers.base.clear_session"}
_UTILS["is_keras_tensor"] = "as_keras.backend.is_keras_tensor"
_UTILS["print_summary"] = "summary.print_summary"
_UTILS["serialize_keras_object"] = "saving.serialize_keras_object"
_UTILS["deserialize_keras_object"] = "saving.deserialize_keras_object"
_TENSORS = {
    name: f"as_keras.tensors.{name}"
    for name in ("constant", "convert_to_tensor", "numpy_function", "py_function")
}
_TENSORS |= {
    name: f"as_keras.dtypes.{name}"
    for name in (
        "bool", "complex128", "complex64", "double", "float16", "float32", "float64", "half",
        "int16", "int32", "int64", "int8", "string", "uint16", "uint32", "uint64", "uint8",
    )
}  # fmt: skip
_SPECS = {name: f"specs.{name}" for name in ("TensorShape", "TensorSpec")}
_DATA = {
    name: f"pipeline.{name}" for name in ("AUTOTUNE", "INFINITE_CARDINALITY", "UNKNOWN_CARDINALITY")
}
_SESSION = {
    "ConfigProto": "as_keras.devices.ConfigProto",
    "GPUOptions": "as_keras.devices.ConfigProto",
    "InteractiveSession": "as_keras.devices.Session",
    "Session": "as_keras.devices.Session",
}
_ENGINE = {name: f"layers.{name}" for name in ("Input", "InputLayer", "InputSpec", "Layer")}
_ENGINE |= {name: f"models.{name}" for name in ("Model", "Sequential")}
_ENGINE_MODULES = (
    "base_layer", "functional", "input_layer", "network", "sequential", "topology", "training",
)  # fmt: skip
_CRF_LOSSES = {name: "losses.CRFLoss" for name in ("crf_loss", "crf_nll")}
_CRF_METRICS = {
    "crf_accuracy": "metrics.CRFAccuracy",
    "crf_viterbi_accuracy": "metrics.CRFViterbiAccuracy",
}
_OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "Adamax", "Nadam", "RMSprop", "SGD")
_NAMES = {
    "keras": {
        "Initializer": "initializers.Initializer",
        "Input": "layers.Input",
        "InputSpec": "layers.InputSpec",
        "Layer": "layers.Layer",
        "Loss": "losses.Loss",
        "Metric": "metric.Metric",
        "Model": "models.Model",
        "Operation": "layers.operation.Operation",
        "Optimizer": "optimizers.Optimizer",
        "Regularizer": "regularizers.Regularizer",
        "Sequential": "models.Sequential",
        "Variable": "variable.Variable",
        "name_scope": "as_keras.backend.name_scope",
    },
    "keras.engine": _ENGINE,
    **{f"keras.engine.{name}": _ENGINE for name in _ENGINE_MODULES},
    "keras.losses": _LOSSES,
    "keras.models": {"Input": "layers.Input"},
    "keras.metrics": {
        **_LOSSES,
        "Metric": "metric.Metric",
        "binary_focal_crossentropy": "losses.binary_focal_crossentropy",
        "categorical_focal_crossentropy": "losses.categorical_focal_crossentropy",
        "huber": "losses.huber",
    },
    "keras.objectives": _LOSSES,
    "keras.optimizers": {name.lower(): f"optimizers.{name}" for name in _OPTIMIZERS},
    "keras.utils": _UTILS,
    **{f"keras.utils.{name}": _UTILS for name in _UTIL_MODULES},
    "keras.utils.visualize_util": {**_UTILS, "plot": "plot.plot_model"},
    "keras_contrib.layers": {"CRF": "layers.CRF"},
    "keras_contrib.layers.crf": {"CRF": "layers.CRF"},
    "keras_contrib.losses": _CRF_LOSSES,
    "keras_contrib.losses.crf_losses": _CRF_LOSSES,
    "keras_contrib.metrics": _CRF_METRICS,
    "keras_contrib.metrics.crf_accuracies": _CRF_METRICS,
    "tensorflow": {
        "GradientTape": "gradient_tape.GradientTape",
        "Variable": "variable.Variable",
        "get_logger": "as_keras.messages.get_logger",
        "set_random_seed": "random.set_seed",
        **_TENSORS,
        **_SESSION,
        **_SPECS,
    },
    "tensorflow.compat.v1": {"set_random_seed": "random.set_seed", **_SESSION},
    "tensorflow.compat.v1.keras": {},
    "tensorflow.compat.v1.random": _SEED,
    "tensorflow.compat.v2.keras": {},
    "tensorflow.contrib.keras": {},
    **{f"tensorflow.{name}": {} for name in ("initializers", "losses", "metrics", "optimizers")},
    "tensorflow.data": {"DatasetSpec": "specs.DatasetSpec", **_DATA},
    "tensorflow.data.experimental": {"cardinality": "as_keras.tensors.cardinality", **_DATA},
    "tensorflow.keras": {},
    **{f"tensorflow.{name}": {} for name in ("debugging", "errors", "linalg", "math", "nn")},
    "tensorflow.python.keras": {},
    "tensorflow.random": _SEED,
}

_READ = "Dataset.from_generator takes what Python reads from files"
_TABLES = "Dataset.from_tensor_slices takes the columns that pandas.read_csv reads"
_EAGER = "functions and layers run as they are called, without a graph"
_CELLS = "there are keras.layers.LSTM, GRU, SimpleRNN, RNN and Bidirectional"
_TAPE = "there is tensorflow.GradientTape"
_CTC = "there is no CTC; keras.layers.CRF labels sequences"
_LAYERS = "there are the layers of keras.layers"
_ONLY_FLOAT32 = "networks compute in float32"
# What is there instead of names that fastrnn has not.
_INSTEAD = {
    "keras.backend.conv1d": "there is keras.layers.Conv1D",
    "keras.backend.conv2d": "there is keras.layers.Conv2D",
    "keras.backend.ctc_batch_cost": _CTC,
    "keras.backend.ctc_decode": _CTC,
    "keras.backend.get_session": _EAGER,
    "keras.backend.gradients": _TAPE,
    "keras.backend.manual_variable_initialization": "variables have values from the start",
    "keras.backend.normalize_batch_in_training": "there is keras.layers.BatchNormalization",
    "keras.backend.placeholder": "there is keras.Input",
    "keras.backend.pool2d": "there are keras.layers.MaxPooling2D and AveragePooling2D",
    "keras.backend.print_tensor": "there is Python's print",
    "keras.backend.resize_images": "there is keras.layers.UpSampling2D",
    "keras.backend.set_learning_phase": "calls of layers and models take training=True",
    "keras.backend.sparse_placeholder": "there is keras.Input, of arrays that are not sparse",
    "keras.backend.tensorflow_backend": "its functions are in keras.backend",
    "keras.mixed_precision": _ONLY_FLOAT32,
    "tensorflow.compat.v1.get_variable": "there is tensorflow.Variable",
    "tensorflow.compat.v1.layers": _LAYERS,
    "tensorflow.compat.v1.nn": _CELLS,
    "tensorflow.compat.v1.placeholder": "there is tensorflow.keras.Input",
    "tensorflow.compat.v1.train": "there are tensorflow.keras.optimizers and model.save_weights",
    "tensorflow.get_variable": "there is tensorflow.Variable",
    "tensorflow.global_variables_initializer": "variables have values from the start",
    "tensorflow.gradients": _TAPE,
    "tensorflow.hessians": "there is tensorflow.GradientTape, of first derivatives",
    "tensorflow.layers": _LAYERS,
    "tensorflow.nest": "there are Python's lists and dicts",
    "tensorflow.nn.bidirectional_dynamic_rnn": _CELLS,
    "tensorflow.nn.dynamic_rnn": _CELLS,
    "tensorflow.nn.rnn_cell": _CELLS,
    "tensorflow.nn.static_rnn": _CELLS,
    "tensorflow.py_func": "there is tensorflow.py_function",
    "tensorflow.raw_ops": "there are the functions of tensorflow and tensorflow.math",
    "tensorflow.reset_default_graph": _EAGER,
    "tensorflow.data.FixedLengthRecordDataset": _READ,
    "tensorflow.data.TFRecordDataset": _READ,
    "tensorflow.data.experimental.CsvDataset": _TABLES,
    "tensorflow.data.experimental.SqlDataset": _TABLES,
    "tensorflow.data.experimental.make_batched_features_dataset": _READ,
    "tensorflow.data.experimental.make_csv_dataset": _TABLES,
}


def _paths():
    """Every path that can be imported, those above the tables' paths included."""
    found = {path for path, source in _MODULES.items() if find_spec(f"fastrnn.{source}")}
    for path in (*found, *_NAMES):
        while path:
            found.add(path)
            path = path.rpartition(".")[0]
    return found


def _module(path):
    """The module of fastrnn for a path of Keras, or None."""
    place = "as_keras.tensorflow" if path == "tensorflow" else _MODULES.get(path)
    return place and importlib.import_module(f"fastrnn.{place}")


def _get(place):
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(f"fastrnn.{module}"), name)


def _offered(path):
    """name -> object of what belongs at Keras's path: a module's `__all__`, or else what it defines
    and what its table of names refers to."""
    found = {}
    if path in _MODULES:
        module = importlib.import_module(f"fastrnn.{_MODULES[path]}")
        table = getattr(module, "_TABLE", ())
        found = {
            name: value
            for name, value in vars(module).items()
            if (
                name in module.__all__
                if hasattr(module, "__all__")
                else not name.startswith("_")
                and (getattr(value, "__module__", None) == module.__name__ or name in table)
            )
        }
    if path.startswith("tensorflow"):
        found |= _get("as_keras.tensorflow.TABLES").get(path, {})
    return found | {name: _get(place) for name, place in _NAMES.get(path, {}).items()}


def _import(name):
    return importlib.import_module(name)


class _Module(ModuleType):
    """A module of Keras; what is sent to another process with it imports fastrnn.as_keras there."""

    def __reduce__(self):
        return _import, (self.__name__,)


class _Finder:
    """Finds modules of Keras, and none of others; loads them as packages with the names above."""

    paths = _paths()

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        parent, _, name = fullname.rpartition(".")
        if fullname.partition(".")[0] not in _VERSIONS:
            return None
        if _KERAS.sub("keras", fullname) not in cls.paths:
            # The name is not fullname: `from parent import name` would then hide the message.
            raise ModuleNotFoundError(cls.lacks(parent, name), name=parent)
        return ModuleSpec(fullname, cls, is_package=True)

    @staticmethod
    def create_module(spec):
        return _Module(spec.name)

    @classmethod
    def exec_module(cls, module):
        path = _KERAS.sub("keras", module.__name__)
        if path in _VERSIONS:
            module.__version__ = _VERSIONS[path]
        offered = _offered(path)
        module.__all__ = sorted(offered)
        vars(module).update(offered)
        module.__getattr__ = partial(cls.submodule, module.__name__)

    @classmethod
    def submodule(cls, parent, name):
        """What `parent.name` is where the name is not in the module yet."""
        if _KERAS.sub("keras", f"{parent}.{name}") in cls.paths:
            return importlib.import_module(f"{parent}.{name}")
        raise AttributeError(cls.lacks(parent, name))

    @classmethod
    def lacks(cls, parent, name):
        path = _KERAS.sub("keras", parent)
        message = f"fastrnn has no {path}.{name}; "
        if f"{path}.{name}" in _INSTEAD:
            return message + _INSTEAD[f"{path}.{name}"]
        lacking = getattr(_module(path), "LACKING", {})
        if name in lacking:
            return message + lacking[name]
        below = {p.removeprefix(f"{path}.") for p in cls.paths if p.startswith(f"{path}.")}
        names = sorted({*_offered(path), *(p for p in below if "." not in p)})
        if len(names) > 50:
            near = difflib.get_close_matches(name, names, 5, 0.5)
            if not near:
                return f"{message}{path} has {len(names)} others, see dir({path})"
            return f"{message}the nearest are {', '.join(near)}"
        return f"{message}{path} has {', '.join(names)}"


for _root in _VERSIONS:
    if _root in sys.modules:
        raise ImportError(
            f"{_root} has been imported already: import fastrnn.as_keras before it, as the "
            "script's first line"
        )
sys.meta_path.insert(0, _Finder)
