"""Models from the configs in files, and the configs of models.

A config can only name classes of a closed table and the caller's own `custom_objects`: nothing is
imported, and no code is taken from a file. A file's weights are made as zeros, and no more of them
than it has bytes, so that no config makes loading take memory out of proportion.
"""

import json
import math
import re
import warnings

from fastrnn import layers, losses, metrics, optimizers
from fastrnn.models import Sequential
from fastrnn.saving import legacy
from fastrnn.saving.guard import of_values, values_of
from fastrnn.utils import get_custom_objects, get_registered_object

MAX_BYTES = 4 << 20  # of JSON
MAX_LAYERS = 500
MAX_DEPTH = 16  # of layers within layers
_NAME = re.compile(r"[\w.][\w .>/-]*")
_HOLDS_CODE = ("Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer")


def parse(text: bytes | str, what: str) -> dict:
    """The object in JSON text. Raises ValueError for anything else."""
    if not isinstance(text, (str, bytes)):
        raise ValueError(f"{what}: expected text, received {type(text).__name__}")
    if len(text) > MAX_BYTES:
        raise ValueError(f"{what}: expected at most {MAX_BYTES} bytes, received {len(text)}")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what}: not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{what}: expected an object, received {type(config).__name__}")
    return config


def keras_version(config: dict) -> int:
    """The major version that wrote a config: what it says, or what its form says."""
    if "keras_version" in config:
        return legacy.major_version(config["keras_version"])
    return 3 if "registered_name" in config or "module" in config else 2


def check_name(name) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name.split("/"):
        raise ValueError(f"name: expected letters, digits and _ - . /, received {name!r}")
    return name


class Loader:
    """Builds models from configs.

    custom_objects: name -> the caller's class or function, besides those of
    fastrnn.utils.get_custom_objects. version: Keras's, 1 to 3. elements: make
    weights of zeros, of so many numbers at most; None: make them as the initializers say. Raises
    ValueError, with the layer's name, for what cannot be represented.
    """

    def __init__(self, custom_objects=None, version=3, elements=None):
        self.custom = {**get_custom_objects(), **(custom_objects or {})}
        self.version = version
        self.elements = elements
        self.made = 0
        self.restricted = []

    def model(self, entry) -> Sequential:
        """A Sequential from {"class_name": ..., "config": ...}."""
        try:
            with values_of("config", value_errors=False):
                return self._sequential(entry, 0)
        finally:
            for layer in self.restricted:
                layer.__dict__.pop("add_weight", None)

    def _sequential(self, entry, depth):
        class_name, config = _class_and_config(entry)
        if class_name in ("Functional", "Model"):
            config = {**config, "layers": chain(config)}
        elif class_name != "Sequential":
            raise ValueError(
                f"model of class {class_name!r}: expected Sequential, or a Functional model in "
                "which each layer has one input, the output of the layer before"
            )
        if not isinstance(config.get("layers"), list):
            raise ValueError(f"layers: expected a list, received {config.get('layers')!r}")
        name = config.get("name")
        model = Sequential(
            name=None if name is None else check_name(name),
            trainable=bool(config.get("trainable", True)),
        )
        self.restrict(model)
        for described in config["layers"]:
            layer = self.layer(described, depth + 1)
            where = f"layer {layer.name!r} ({described['class_name']})"
            with values_of(where, value_errors=False):
                model.add(layer)
        shape = config.get("build_input_shape")
        if shape is None and isinstance(entry.get("build_config"), dict):
            shape = entry["build_config"].get("input_shape")
        if not model.built and shape and model.layers:
            model.build(tuple(shape))
        return model

    def layer(self, entry, depth=0):
        """A layer from {"class_name": ..., "config": ...}."""
        class_name, config = _class_and_config(entry)
        self.made += 1
        if self.made > MAX_LAYERS or depth > MAX_DEPTH:
            raise ValueError(f"config: more than {MAX_LAYERS} layers, or {MAX_DEPTH} in each other")
        with values_of(f"layer {config.get('name')!r} ({class_name})"):
            if class_name in ("Sequential", "Functional", "Model"):
                return self._sequential(entry, depth)
            layer = self._layer(class_name, entry, config, depth)
            check_name(layer.name)
        self.restrict(layer)
        return layer

    def _layer(self, class_name, entry, config, depth):
        registered = entry.get("registered_name")
        if registered in self.custom or class_name in self.custom:
            cls = self.custom.get(registered, self.custom.get(class_name))
            return cls.from_config(config)
        name, config = legacy.update_layer(class_name, config, self.version)
        own = get_registered_object(registered or class_name)
        if own is not None and (registered is not None or name not in layers.CLASSES):
            return own.from_config(config)
        if registered is not None or name not in layers.CLASSES:
            if class_name in _HOLDS_CODE:
                raise ValueError(
                    f"unknown layer {class_name!r}: it holds code, which is never run from a file; "
                    f"pass custom_objects={{{class_name!r}: a class of yours}}, or rebuild "
                    "the model without it and use load_weights"
                )
            raise ValueError(
                f"unknown layer {class_name!r}; pass custom_objects="
                f"{{{registered or class_name!r}: the class}}, or rebuild the model without it"
            )
        for key, value in config.items():
            if key in ("layer", "backward_layer") and isinstance(value, dict):
                config[key] = self.layer(value, depth + 1)
            elif key == "activation" or key.endswith(
                ("_activation", "_initializer", "_regularizer", "_constraint")
            ):
                config[key] = self._object(value)
        return layers.CLASSES[name](**config)

    def _object(self, value):
        """A name or config, or the caller's own object for it."""
        if not self.custom:
            return value
        name, options = value, None
        if isinstance(value, dict):
            name, options = value.get("registered_name"), value.get("config")
            if name in (None, "function"):
                name = options if isinstance(options, str) else value.get("class_name")
        found = self.custom.get(name) if isinstance(name, str) else None
        if found is None:
            return value
        if isinstance(found, type):
            options = options if isinstance(options, dict) else {}
            return found.from_config(options) if hasattr(found, "from_config") else found(**options)
        return found

    def restrict(self, layer):
        """Let this layer and those within it make only zeros, and no more than is left."""
        if self.elements is None or isinstance(layer, layers.InputLayer):
            return

        def add_weight(name, shape, initializer=None, *args, **kwargs):
            size = math.prod(shape)
            if size > self.elements:
                raise ValueError(
                    f"weight {name!r} of shape {tuple(shape)}: expected weights that fit into "
                    "the file"
                )
            self.elements -= size
            return type(layer).add_weight(layer, name, shape, "zeros", *args, **kwargs)

        layer.add_weight = add_weight
        self.restricted.append(layer)
        for inner in layer.sublayers:
            if inner not in self.restricted:
                self.restrict(inner)

    def compile(self, model, config) -> None:
        """Compile a model with the config that `compile_config` or Keras wrote."""
        if not isinstance(config, dict):
            raise ValueError(f"compile_config: expected a dict, received {config!r}")
        if "optimizer" not in config:  # of Keras, right after it saved the model to .h5
            warnings.warn(
                "the file does not say which optimizer the model had: it gets RMSprop, as in Keras",
                stacklevel=5,
            )
        try:
            optimizer = config.get("optimizer", "rmsprop")
            if optimizer is not None:
                optimizer = optimizers.deserialize(optimizer, self.custom)
            model.compile(
                optimizer=optimizer,
                loss=_each(config.get("loss"), self._loss),
                loss_weights=config.get("loss_weights"),
                metrics=_each(config.get("metrics"), self._metric),
                weighted_metrics=_each(config.get("weighted_metrics"), self._metric),
                steps_per_execution=config.get("steps_per_execution") or 1,
            )
        except Exception as error:
            if not of_values(error):
                raise
            raise ValueError(
                f"compile_config: {error}; pass custom_objects, or compile=False to load the model "
                "without it"
            ) from error

    def _loss(self, entry):
        if isinstance(entry, str) and entry not in self.custom:
            return entry
        return losses.deserialize(self._with_function(entry), self.custom)

    def _metric(self, entry):
        if isinstance(entry, str) and entry not in self.custom:
            return entry
        options = entry.get("config") if isinstance(entry, dict) else None
        for key, value in options.items() if isinstance(options, dict) else ():
            if isinstance(value, int) and value > 100_000:
                raise ValueError(f"metric: expected {key} <= 100000, received {value}")
        return metrics.deserialize(self._with_function(entry), self.custom)

    def _with_function(self, entry):
        """The config of a loss or metric; of one that wraps a function, with the function itself,
        which may be the caller's."""
        options = entry.get("config") if isinstance(entry, dict) else None
        if not isinstance(options, dict) or not isinstance(options.get("fn"), (str, dict)):
            return entry
        function = losses.deserialize(options["fn"], self.custom)
        return {**entry, "config": {**options, "fn": function}}


def _class_and_config(entry):
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise ValueError(f"config: expected an object with a class_name, received {entry!r:.200}")
    config = entry.get("config")
    if isinstance(config, list) and entry["class_name"] == "Sequential":
        config = {"layers": config}  # as Keras wrote it before 2.2.3
    if not isinstance(config, dict):
        raise ValueError(f"config of {entry['class_name']!r}: expected an object")
    return entry["class_name"], config


def _each(value, convert):
    if value is None:
        return None
    if isinstance(value, list):
        return [_each(entry, convert) for entry in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {key: _each(entry, convert) for key, entry in value.items()}
    return convert(value)


# --- functional models that are a chain ---


def chain(config: dict) -> list:
    """The layers of a Functional model's config in their order, if each has one input, the output
    of the one before. Raises ValueError otherwise."""
    entries = config.get("layers")
    if not isinstance(entries, list):
        raise ValueError(f"layers: expected a list, received {entries!r}")
    following, masks, start = {}, {}, []
    for entry in entries:
        class_name, options = _class_and_config(entry)
        name = entry.get("name", options.get("name"))
        if class_name == "InputLayer":
            start.append((name, entry))
            continue
        inputs, mask, others = _inbound(entry, name)
        if class_name in ("NotEqual", "Any"):  # Keras 3 computes masks beside the layers
            masks[name] = class_name, inputs, others
            continue
        if inputs in following:
            raise ValueError(
                f"layer {name!r}: expected a chain, received a second user of {inputs!r}"
            )
        following[inputs] = name, entry, mask
    if len(start) != 1:
        raise ValueError(f"expected a model with one input, received {len(start)}")
    name, entry = start[0]
    found, makers = [entry], {}
    while name in following:
        before, (name, entry, mask) = name, following.pop(name)
        options = entry["config"]
        if entry["class_name"] == "Embedding" and options.get("mask_zero"):
            makers[before] = 0
        elif entry["class_name"] == "Masking":
            makers[before] = options.get("mask_value", 0)
        if mask is not None:
            kind, source, others = masks.get(mask, (None, None, None))
            if kind == "Any":
                kind, source, others = masks.get(source, (None, None, None))
            if kind != "NotEqual" or source not in makers or others != [makers[source]]:
                raise ValueError(
                    f"layer {name!r}: a mask that is an input of its own: not supported"
                )
        found.append(entry)
    output = _history(config.get("output_layers"), "outputs of the model")
    if following or output != name:
        raise ValueError(
            f"expected a chain of layers that ends in {output!r}; layers with several inputs or "
            "outputs are not supported"
        )
    return found


def _inbound(entry, name):
    """(the layer whose output `entry` takes, the one whose output is its mask, other arguments)."""
    nodes = entry.get("inbound_nodes")
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise ValueError(f"layer {name!r}: expected to be used once, in a chain")
    node = nodes[0]
    if isinstance(node, dict):
        args, kwargs = node.get("args"), node.get("kwargs") or {}
        if not isinstance(args, list) or not args or not isinstance(kwargs, dict):
            raise ValueError(f"layer {name!r}: expected one input")
        mask = kwargs.get("mask")
        mask = None if mask is None else _history(mask, f"mask of layer {name!r}")
        for key, value in kwargs.items():
            if key != "mask" and isinstance(value, (dict, list)):
                raise ValueError(f"layer {name!r}: expected one input, received {key!r} as well")
        return _history(args[0], f"inputs of layer {name!r}"), mask, args[1:]
    if not isinstance(node, list) or len(node) != 1 or (len(node[0]) > 3 and node[0][3]):
        raise ValueError(f"layer {name!r}: expected one input and no other arguments")
    return _history(node, f"inputs of layer {name!r}"), None, []


def _history(value, what):
    """The layer that a tensor comes from, in the several forms in which Keras writes it."""
    origin = _origin(value)
    if isinstance(origin, str):
        return origin
    several = [_origin(part) for part in value] if isinstance(value, list) else []
    if len(several) > 1 and all(isinstance(part, str) for part in several):
        raise ValueError(
            f"{what}: expected one, received the outputs of {', '.join(map(repr, several))}; a "
            "model here is a chain of layers: rebuild it without branches, or keep the part of it "
            "that is a chain, and take the weights with load_weights(by_name=True)"
        )
    raise ValueError(
        f"{what}: expected the one output of a layer, received {value!r:.100}; a model here is a "
        "chain of layers with one output each"
    )


def _origin(value):
    """The name of the layer whose only output a tensor is, or None."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        value = value["config"].get("keras_history")
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    first = value[0] if isinstance(value, list) and value else None
    return first if isinstance(first, str) and value[1:3] == [0, 0] else None


# --- from models ---


def within(layer):
    """The layer, and the layers in it at any depth."""
    yield layer
    for inner in layer.sublayers:
        yield from within(inner)


def model_config(model) -> dict:
    """The model as {"class_name": ..., "config": ...} in Keras's form."""
    if type(model) is not Sequential:
        raise ValueError(f"model: expected a Sequential, received {type(model).__name__}")
    for layer in model.layers:
        check_name(layer.name)
    return model.described()


def compile_config(model) -> dict | None:
    """The arguments of compile in Keras's form. None, with a warning, if they cannot be saved."""
    compiled = model._compiled
    if compiled is None:
        return None
    chosen = {True: [], False: []}
    try:
        for metric, weighted in compiled.metrics:
            known = isinstance(metric, str)
            chosen[weighted].append(metric if known else metrics.serialize(metric))
        known = isinstance(compiled.loss, str)
        config = {
            "loss": compiled.loss if known else _serialize_loss(compiled.loss),
            "loss_weights": None,
            "metrics": chosen[False] or None,
            "weighted_metrics": chosen[True] or None,
            "run_eagerly": False,
            "steps_per_execution": compiled.steps_per_execution,
            "jit_compile": "auto",
        }
        if compiled.optimizer is not None:  # Keras cannot load a None
            config["optimizer"] = optimizers.serialize(compiled.optimizer)
        json.dumps(config)
    except (TypeError, ValueError) as error:
        warnings.warn(f"saved without the arguments of compile: {error}", stacklevel=5)
        return None
    return config


def _serialize_loss(loss):
    """A loss of the user's own function is that function, as Keras writes it."""
    plain = type(loss) is losses.LossFunctionWrapper and loss.reduction == "sum_over_batch_size"
    return losses.serialize(loss.fn if plain and not loss._fn_options else loss)
