"""What completion offers: `__all__` and dir() of every public module, and of models and layers."""

import importlib
import inspect
import subprocess
import sys
import types

import pytest

import fastrnn
from fastrnn import interop, layers

# Public as attributes of their modules for others in the package, not for users.
INNER = {
    "fastrnn.activations": {"gradient_of"},
    "fastrnn.callbacks": {"Logs"},
    "fastrnn.initializers": {"compute_fans"},
    "fastrnn.losses": {"kind_of_targets", "resolve"},
    "fastrnn.metrics": {"check", "resolve"},
    "fastrnn.random": {"Generator", "check_seed"},
    "fastrnn.regularizers": {"activity_gradient", "activity_loss", "gradient_of"},
    "fastrnn.models": {"Functional"},  # which Model(inputs, outputs) makes
    "fastrnn.saving": {"ModelFileNotFoundError"},  # to be caught as what it derives from
    "fastrnn.training": {
        *("Compiled", "CompileMetrics", "CompiledSeveral", "Head", "checked_batch", "evaluate"),
        *(
            "fit",
            "flat_logs",
            "need_compiled",
            "no_loss",
            "one_batch",
            "only_trainer",
            "own_step",
            "predict",
        ),
        *("taped_step", "test_step", "train_step"),
    },
    "fastrnn.utils": {
        *("Configurable", "class_table", "deserialize_object", "did_you_mean", "get_object"),
        *("as_call", "choices", "serialize_object", "snake_case", "unknown_arguments"),
    },
}


def walk(module):
    assert module.__name__.startswith("fastrnn")
    yield module
    for name in dir(module):
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            yield from walk(value)


def public_modules():
    pytest.importorskip("sklearn")
    return {module.__name__: module for module in walk(fastrnn)}


def test_dir_is_all():
    modules = public_modules()
    assert {"fastrnn.saving", "fastrnn.sklearn", "fastrnn.plot", "fastrnn.schedules"} <= set(
        modules
    )
    for name, module in modules.items():
        lazy = {"sklearn"} if module is fastrnn else set()  # star imports go without scikit-learn
        assert set(dir(module)) == {*module.__all__} | lazy, name
        assert len(set(module.__all__)) == len(module.__all__), name


def test_only_what_is_of_fastrnn_is_offered():
    for name, module in public_modules().items():
        for attribute in module.__all__:
            value = getattr(module, attribute)
            home = value.__name__ if inspect.ismodule(value) else value.__module__
            assert home.startswith("fastrnn"), f"{name}.{attribute}"


def test_all_that_a_public_module_defines_is_offered():
    for name, module in public_modules().items():
        own = {
            attribute
            for attribute, value in vars(module).items()
            if not attribute.startswith("_") and getattr(value, "__module__", None) == name
        }
        assert own - INNER.get(name, set()) <= {*module.__all__}, name


def test_entrances_are_offered():
    entrances = {
        *("from_keras", "from_onnx", "from_torch", "to_c", "to_onnx", "to_torch"),
        *("saving", "sklearn", "plot"),
    }
    assert entrances <= {*dir(fastrnn)}
    assert entrances - {"sklearn"} <= {*fastrnn.__all__}


@pytest.mark.parametrize(
    "name, module",
    [
        ("from_keras", "saving.live"),
        ("from_onnx", "interop.onnx_import"),
        ("from_torch", "interop.pytorch_import"),
        ("to_c", "interop.c_export"),
        ("to_onnx", "interop.onnx_export"),
        ("to_torch", "interop.pytorch_export"),
    ],
)
def test_entrances_take_what_they_lead_to(name, module):
    pytest.importorskip("torch" if name == "to_torch" else "onnx")
    there = getattr(importlib.import_module(f"fastrnn.{module}"), name)
    shown, real = (
        inspect.signature(f).parameters.values() for f in (getattr(interop, name), there)
    )
    assert [(p.name, p.default, p.kind) for p in shown] == [
        (p.name, p.default, p.kind) for p in real
    ]


@pytest.mark.parametrize(
    "code, error, message",
    [
        (
            "fastrnn.load_model",
            AttributeError,
            "no attribute 'load_model'; it is fastrnn.models.load",
        ),
        ("fastrnn.LSTM", AttributeError, "no attribute 'LSTM'; it is fastrnn.layers.LSTM$"),
        ("fastrnn.models.Adam", AttributeError, "'Adam'; it is fastrnn.optimizers.Adam$"),
        ("fastrnn.metrics.LogCosh", AttributeError, "'LogCosh'; it is fastrnn.losses.LogCosh$"),
        ("fastrnn.nothing", AttributeError, "^module 'fastrnn' has no attribute 'nothing'$"),
        ("from fastrnn import LSTM", ImportError, "'LSTM'; it is fastrnn.layers.LSTM$"),
        ("from fastrnn.models import Adam", ImportError, "'Adam'; it is fastrnn.optimizers.Adam$"),
        ("from fastrnn import nothing", ImportError, "cannot import name 'nothing'"),
    ],
)
def test_where_a_name_is(code, error, message):
    with pytest.raises(error, match=message):
        exec(code, {"fastrnn": fastrnn})


def test_import_reads_no_other_library():
    """Nor does looking at all that is offered, and a star import goes without scikit-learn."""
    code = (
        "import sys; sys.modules.update(sklearn=None, torch=None, onnx=None, matplotlib=None)\n"
        "import fastrnn; lazy = 'fastrnn.saving' not in sys.modules\n"
        "from fastrnn import *\n"
        "import inspect; inspect.getmembers(fastrnn.layers)\n"
        "print(lazy, hasattr(fastrnn, 'sklearn'), from_torch is fastrnn.from_torch)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True False True\n", done.stderr


def test_what_models_and_layers_offer():
    model = fastrnn.Sequential([layers.Input((4, 2)), layers.LSTM(3), layers.Dense(1)])
    offered = {*dir(model)}
    assert not offered & {"give_run", "take_run", "plan", "propagate", "compiled_changes"}
    assert {"fit", "predict", "compile_inference", "stream", "save", "layers", "name"} <= offered
    assert not {*dir(model.layers[0])} & {"plan", "packed", "products", "gates", "recurrence"}
    assert {"kernel", "units", "get_weights", "forward", "backward"} <= {*dir(model.layers[0])}
    loss = {*dir(fastrnn.losses.BinaryCrossentropy())}
    assert {"name", "reduction", "call", "gradient", "get_config"} <= loss
    assert not loss & {"fused", "fused_activation", "check_shapes", "value_and_gradient"}
    assert "uses_mask" not in dir(fastrnn.metrics.AUC())


def test_what_objects_say_of_themselves():
    optimizers, callbacks = fastrnn.optimizers, fastrnn.callbacks
    model = fastrnn.Sequential([layers.Input((4, 2)), layers.LSTM(3)], name="net")
    decay = fastrnn.schedules.ExponentialDecay(0.1, 10, 0.5)
    history = callbacks.History()
    said = {repr(history): "<History of 0 epochs: nothing yet>"}
    history.on_epoch_end(0, {"loss": 0.5})
    history.on_epoch_end(1, {"loss": 0.123456, "val_loss": 2})
    said |= {
        repr(history): "<History of 2 epochs: loss 0.1235, val_loss 2>",
        repr(optimizers.Adam()): "Adam(learning_rate=0.001)",
        repr(optimizers.SGD(0.1, momentum=0.9)): "SGD(learning_rate=0.1, momentum=0.9)",
        repr(optimizers.Adam(decay)): "Adam(learning_rate=ExponentialDecay("
        "initial_learning_rate=0.1, decay_steps=10, decay_rate=0.5))",
        repr(fastrnn.losses.MeanSquaredError(name="mine")): "MeanSquaredError()",
        repr(fastrnn.losses.Huber(2.0)): "Huber(delta=2.0)",
        repr(fastrnn.metrics.AUC()): "<AUC name=auc>",
        repr(fastrnn.regularizers.L2(0.1)): "L2(l2=0.1)",
        repr(fastrnn.initializers.Constant([1.0] * 9)): "Constant(value=[1.0, 1.0, 1.0, 1.0, 1.0, "
        "1.0, ...])",
        repr(callbacks.EarlyStopping(patience=3)): "EarlyStopping(monitor='val_loss', patience=3)",
        repr(callbacks.LambdaCallback(on_epoch_end=walk)): "LambdaCallback(on_epoch_end=walk)",
        repr(model): "<Sequential name=net, built=True>",
        repr(model.compile_inference()): "<Predictor of 'net': (None, 4, 2) -> (None, 3)>",
        repr(model.stream(5)): "<Stepper of 'net' for 5 streams: x of shape (5, None, 2)>",
    }
    for text, expected in said.items():
        assert text == expected
