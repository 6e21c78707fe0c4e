"""serialize_keras_object and its inverse: the forms are those that Keras 3.15 gives."""

import json

import numpy as np
import pytest

import fastrnn
from fastrnn import layers, losses, optimizers
from fastrnn.saving import deserialize_keras_object, serialize_keras_object


@fastrnn.saving.register_keras_serializable("tests")
class Ends:
    def __init__(self, ends):
        self.ends = ends

    def get_config(self):
        return {"ends": self.ends}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@fastrnn.saving.register_keras_serializable("tests")
def tenfold(x):
    return 10 * x


def free(x):
    return x


@pytest.mark.parametrize(
    "module, obj",
    [
        ("keras.layers", layers.LSTM(3)),
        ("keras.losses", losses.Huber(2.0)),
        ("keras.metrics", fastrnn.metrics.Accuracy()),
        ("keras.optimizers", optimizers.Adam(0.25)),
        ("keras.optimizers.schedules", fastrnn.schedules.ExponentialDecay(0.5, 10, 0.75)),
        ("keras.initializers", fastrnn.initializers.GlorotUniform(seed=4)),
        ("keras.regularizers", fastrnn.regularizers.L2(0.125)),
        ("keras.constraints", fastrnn.constraints.MaxNorm(2)),
        ("keras", fastrnn.Sequential([fastrnn.Input((2, 3)), layers.Dense(2)])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_objects_come_back(module, obj):
    config = json.loads(json.dumps(serialize_keras_object(obj)))
    assert config["module"] == module and config["registered_name"] is None
    again = deserialize_keras_object(config)
    assert type(again) is type(obj) and again.get_config() == obj.get_config()


@pytest.mark.parametrize(
    "value, config",
    [
        (
            np.arange(3),
            {"class_name": "__numpy__", "config": {"value": [0, 1, 2], "dtype": "int64"}},
        ),
        (b"x", {"class_name": "__bytes__", "config": {"value": "x"}}),
        (
            slice(1, 2),
            {"class_name": "__slice__", "config": {"start": 1, "stop": 2, "step": None}},
        ),
        (..., {"class_name": "__ellipsis__", "config": {}}),
        (np.float32(2), 2.0),
        ({"a": [1, None, True, "x"]}, {"a": [1, None, True, "x"]}),
    ],
)
def test_values_come_back(value, config):
    assert serialize_keras_object(value) == config
    assert np.array_equal(deserialize_keras_object(config), value)
    assert deserialize_keras_object(serialize_keras_object((1, (2,)))) == [1, [2]]


@pytest.mark.parametrize("function, name", [(tenfold, "tests>tenfold"), (free, "free")])
def test_functions(function, name):
    config = serialize_keras_object(function)
    assert config == {
        "module": "builtins",
        "class_name": "function",
        "config": name,
        "registered_name": "function",
    }
    assert deserialize_keras_object(config, custom_objects={"free": free}) is function


def test_own_functions_of_the_library():
    for function in (fastrnn.activations.relu, losses.mean_squared_error):
        assert deserialize_keras_object(serialize_keras_object(function)) is function


def test_registered_classes_hold_others():
    config = serialize_keras_object(Ends((1, Ends(2))))
    inner = {
        "module": None,
        "class_name": "Ends",
        "config": {"ends": 2},
        "registered_name": "tests>Ends",
    }
    assert config == {**inner, "config": {"ends": (1, inner)}}
    assert deserialize_keras_object(inner).ends == 2


def test_what_cannot_be_serialized():
    for obj in (object(), {1}, layers.Dense, print, np.float32):
        with pytest.raises(TypeError, match="obj: expected an object with get_config"):
            serialize_keras_object(obj)
    with pytest.raises(ValueError, match="a lambda has no name"):
        serialize_keras_object(lambda x: x)


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "Dense", "config": {"units": 2}},  # without its module, as in Keras
        {"module": "os", "class_name": "system", "config": {}},
        {"module": "os", "class_name": "system", "config": "x"},
        {"module": "keras.layers", "class_name": "Nothing", "config": {}},
        {"module": ["x"], "class_name": "Dense", "config": {}},
        {"class_name": "function", "config": "nothing"},
        {"class_name": "function", "config": 5},
        {"class_name": "__lambda__", "config": {"value": "x"}},
        {"class_name": "__numpy__", "config": {"value": [[1], [1, 2]], "dtype": "int64"}},
        {"class_name": "__numpy__", "config": {"value": [1], "dtype": "nothing"}},
        {"class_name": "__numpy__", "config": 5},
        {"class_name": "__bytes__", "config": {"value": 5}},
        {"class_name": ["x"], "config": {}},
    ],
)
def test_configs_of_nothing_known(config):
    with pytest.raises(ValueError, match="expected|not one of|config"):
        deserialize_keras_object(config)
    with pytest.raises(ValueError, match="safe_mode: expected True"):
        deserialize_keras_object(config, safe_mode=False)
