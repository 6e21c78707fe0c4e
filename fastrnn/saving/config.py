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
from fastrnn.data import leaves_of
from fastrnn.layers import symbolic
from fastrnn.layers.lookup import check_vocabulary
from fastrnn.layers.operation import OPERATIONS, read
from fastrnn.models import Functional, Model, Sequential
from fastrnn.saving import legacy, tf_operations
from fastrnn.saving.guard import of_values, values_of
from fastrnn.subclassed import is_made_of_tensors
from fastrnn.utils import custom_object_scope, get_custom_objects, get_registered_object

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


def dumped(config: dict) -> str:
    """A config as JSON text that `parse` takes."""
    text = json.dumps(config)
    if len(text) > MAX_BYTES:
        raise ValueError(
            f"config: expected at most {MAX_BYTES} bytes of JSON, the model has {len(text)}; a "
            ".keras file has vocabularies beside it, if set_vocabulary or adapt gave them"
        )
    return text


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

    def model(self, entry) -> Model:
        """A model from {"class_name": ..., "config": ...}."""
        try:
            with values_of("config", value_errors=False):
                return self._model(entry, 0)
        finally:
            for layer in self.restricted:
                layer.__dict__.pop("_new_weight", None)

    def _model(self, entry, depth):
        class_name, config = _class_and_config(entry)
        users = self._users_class(entry, class_name)
        if users is not None:
            model = self.of_user(users, entry, config, depth)
            if not isinstance(model, Model):
                raise ValueError(f"expected a model, received {type(model).__name__}")
            return model
        if class_name in ("Functional", "Model"):
            return self._functional(config, depth)
        if class_name != "Sequential":
            name = entry.get("registered_name") or class_name
            raise ValueError(
                f"model of class {class_name!r}: expected Sequential or Functional; what its class "
                f"computes is not in the file: pass custom_objects={{{name!r}: the class}}"
            )
        return self._sequential(entry, config, depth)

    def _sequential(self, entry, config, depth, cls=Sequential):
        if not isinstance(config.get("layers"), list):
            raise ValueError(f"layers: expected a list, received {config.get('layers')!r}")
        name = config.get("name")
        model = self._empty(cls, config, None if name is None else check_name(name))
        self.restrict(model)
        made = bool(model.layers)  # a user's constructor adds layers itself
        for described in [] if made else config["layers"]:
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

    def _empty(self, cls, config, name):
        if cls is Sequential:
            return cls(name=name, trainable=bool(config.get("trainable", True)))
        kept = ("name", "trainable", "dtype", "layers", "build_input_shape")
        model = cls(name=name, **{k: v for k, v in config.items() if k not in kept})
        if config.get("trainable") is False:
            model.trainable = False
        return model

    def _functional(self, config, depth, cls=Model):
        """The model of a graph of layers."""
        nodes, made = Nodes(config), {}
        for name, entry in nodes.entries.items():
            made[name] = self.layer(entry, depth + 1)
        known = {}  # (layer's name, call, place) -> tensor
        for name, layer in made.items():
            if isinstance(layer, layers.InputLayer):
                known[name, 0, 0] = symbolic.source(layer, layer.batch_shape)

        def tensor_of(place):
            return place.value if isinstance(place, Constant) else known[place]

        waiting = dict(nodes.calls)
        while waiting:
            ready = [c for c, call in waiting.items() if all(t in known for t in call.tensors())]
            if not ready:
                raise ValueError(f"layers {sorted({name for name, _ in waiting})}: inputs missing")
            for place in ready:
                call = waiting.pop(place)
                name, number = place
                layer = made[name]
                with values_of(f"layer {name!r}", value_errors=False):
                    if isinstance(layer, layers.InputLayer):
                        raise ValueError(f"layer {name!r}: expected an Input without inputs")
                    args = [_mapped(tensor_of, arg) for arg in call.args]
                    named = _mapped(tensor_of, call.named)
                    outputs = layer(*args, **named, **call.options)
                for at, tensor in enumerate(leaves_of(outputs)):
                    known[name, number, at] = tensor
        ends = []
        for what in ("input_layers", "output_layers"):
            structure = nodes.ends(what)
            if what == "output_layers":
                structure = _mapped(lambda place: _from_0(place, nodes, made), structure)
            for place in _places_in(structure):
                if place not in known:
                    raise ValueError(f"{what}: expected an output of a layer, received {place}")
            ends.append(_mapped(known.__getitem__, structure))
        name = config.get("name")
        name = None if name is None else check_name(name)
        if cls is Model:
            return Model(*ends, name=name, trainable=bool(config.get("trainable", True)))
        kept = ("name", "trainable", "layers", "input_layers", "output_layers")
        more = {key: value for key, value in config.items() if key not in kept}
        model = cls(inputs=ends[0], outputs=ends[1], name=name, **more)
        if config.get("trainable") is False:
            model.trainable = False
        return model

    def layer(self, entry, depth=0):
        """A layer from {"class_name": ..., "config": ...}."""
        class_name, config = _class_and_config(entry)
        self.made += 1
        if self.made > MAX_LAYERS or depth > MAX_DEPTH:
            raise ValueError(f"config: more than {MAX_LAYERS} layers, or {MAX_DEPTH} in each other")
        with values_of(f"layer {config.get('name')!r} ({class_name})"):
            if class_name in ("Sequential", "Functional", "Model"):
                return self._model(entry, depth)
            if class_name in tf_operations.CLASSES:
                return tf_operations.TFOperation(config)
            layer = self._layer(class_name, entry, config, depth)
            check_name(layer.name)
        self.restrict(layer)
        return layer

    def _layer(self, class_name, entry, config, depth):
        registered = entry.get("registered_name")
        if _is_operation(entry):
            if class_name not in OPERATIONS:
                raise ValueError(f"unknown operation {class_name!r}")
            options = {k: v if isinstance(v, str) else read(v) for k, v in config.items()}
            return OPERATIONS[class_name](**options)
        users = self._users_class(entry, class_name)
        if users is not None:
            return self.of_user(users, entry, config, depth)
        name, config = legacy.update_layer(class_name, config, self.version)
        if name == "Lambda":
            if _has_code(config) and config.get("name") not in self.custom:
                _refuse_code(class_name)
            return layers.Lambda.from_config(config, self.custom)
        if registered is not None or name not in layers.CLASSES:
            if class_name in _HOLDS_CODE:
                _refuse_code(class_name)
            raise ValueError(
                f"unknown layer {class_name!r}; pass custom_objects="
                f"{{{registered or class_name!r}: the class}}, or rebuild the model without it"
            )
        for key, value in config.items():
            if key in ("layer", "backward_layer", "cell") and isinstance(value, dict):
                config[key] = self.layer(value, depth + 1)
            elif key in ("cell", "cells") and isinstance(value, list):
                config[key] = [self.layer(cell, depth + 1) for cell in value]
            elif key in ("standardize", "split") and isinstance(value, dict):
                config[key] = self._object(value)
            elif key == "activation" or key.endswith(
                ("_activation", "_initializer", "_regularizer", "_constraint")
            ):
                config[key] = self._object(value)
        if name in ("IntegerLookup", "StringLookup", "TextVectorization"):
            check_vocabulary(config)
        return layers.CLASSES[name](**config)

    def _users_class(self, entry, class_name):
        """The caller's own class for this entry, or None."""
        registered = entry.get("registered_name")
        if registered in self.custom or class_name in self.custom:
            return self.custom.get(registered, self.custom.get(class_name))
        if registered is None and (class_name in layers.CLASSES or class_name in layers.MODELS):
            return None
        return get_registered_object(registered or class_name)

    def of_user(self, cls, entry, config, depth=0):
        """A layer or model of the caller's own class, which its from_config makes; built as its
        build_config says."""
        config = legacy.update_own(cls, config, self.version)
        with custom_object_scope(self.custom):
            layer = self._of_user(cls, entry, config, depth)
            shapes = entry.get("build_config")
            if isinstance(layer, layers.Layer):
                self.restrict(layer)
                if isinstance(shapes, dict) and not layer.built and _builds(layer):
                    layer.build_from_config(_with_tuples(shapes))
        return layer

    def _of_user(self, cls, entry, config, depth):
        makes = getattr(cls.from_config, "__func__", None)
        if makes in (Sequential.from_config.__func__, Model.from_config.__func__):
            return self.by_default(cls, config, entry, depth)
        return cls.from_config(config)

    def by_default(self, cls, config, entry=None, depth=0):
        """A model of a user's class, as its from_config makes it unless the class says its own."""
        if issubclass(cls, Sequential):
            return self._sequential(entry or {}, config, depth, cls)
        if {"layers", "input_layers", "output_layers"} <= {*config} and is_made_of_tensors(cls):
            return self._functional(config, depth, cls)
        return layers.Layer.from_config.__func__(cls, config)

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

        def _new_weight(name, shape, initializer=None, *args, **kwargs):
            size = math.prod(shape)
            if size > self.elements:
                raise ValueError(
                    f"weight {name!r} of shape {tuple(shape)}: expected weights that fit into "
                    "the file"
                )
            self.elements -= size
            return type(layer)._new_weight(layer, name, shape, "zeros", *args, **kwargs)

        layer._new_weight = _new_weight
        self.restricted.append(layer)
        for inner in layer.sublayers:
            if inner not in self.restricted:
                self.restrict(inner)

    def compile(self, model, config) -> None:
        """Compile a model with the config that `compile_config` or Keras wrote, as its class says
        it where it does."""
        if not isinstance(config, dict):
            raise ValueError(f"compile_config: expected a dict, received {config!r}")
        if compiles_itself(model):
            model.compile_from_config(config)
        else:
            self.compile_plainly(model, config)

    def compile_plainly(self, model, config) -> None:
        """The same as all models do it."""
        if type(model).compile is not Model.compile:
            warnings.warn(
                f"model {model.name!r} is not compiled: {type(model).__name__} has a compile of its"
                " own, and needs get_compile_config and compile_from_config too to be compiled as "
                "it was; call compile",
                stacklevel=5,
            )
            return
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


# --- functional models ---


class Constant:
    """An argument of an operation that is no tensor."""

    def __init__(self, value):
        self.value = value


class Call:
    """A call of a layer in a config. args, named: its tensors by position and by name, each (name
    of a layer, call, place) or a list of such, and Constants; options: what else it said; masks:
    those of named that are masks."""

    def __init__(self, args, named, options, masks=None):
        self.args, self.named, self.options, self.masks = args, named, options, masks or {}

    def tensors(self):
        for structure in (*self.args, *self.named.values()):
            yield from _places_in(structure)


class Nodes:
    """The layers' configs of a Functional model by name, and the calls of them that its config
    lists, (name, number of the call) -> Call. Raises ValueError for what is not understood."""

    def __init__(self, config):
        given = config.get("layers")
        if not isinstance(given, list):
            raise ValueError(f"layers: expected a list, received {given!r}")
        self.config, self.entries, self.calls = config, {}, {}
        masks = {}  # Keras 3 computes masks beside the layers
        operations = {}
        for entry in given:
            class_name, options = _class_and_config(entry)
            name = entry.get("name", options.get("name"))
            if not isinstance(name, str) or name in self.entries or name in masks:
                raise ValueError(f"layers: expected names of their own, received {name!r}")
            nodes = entry.get("inbound_nodes")
            if not isinstance(nodes, list) or len(nodes) > MAX_LAYERS:
                raise ValueError(f"layer {name!r}: expected inbound_nodes, received {nodes!r:.100}")
            if class_name in ("NotEqual", "Any", "ConvertToTensor"):
                masks[name] = class_name, *_inbound_of_mask(nodes, name)
                operations[name] = entry
                continue
            self._add(name, entry)
        for call in self.calls.values():
            call.args = [_mapped(self._counted, arg) for arg in call.args]
            call.named = _mapped(self._counted, call.named)
        self._take_masks(masks)
        used = [] if config.get("output_layers") is None else _places_in(self.ends("output_layers"))
        used += [place for call in self.calls.values() for place in call.tensors()]
        while used:  # what is more than a mask
            name, *_ = used.pop()
            if name in operations:
                self._add(name, operations.pop(name))
                used += self.calls[name, 0].tensors()

    def _add(self, name, entry):
        self.entries[name] = entry
        for number, node in enumerate(entry["inbound_nodes"]):
            called = _operation_call if _is_operation(entry) else _call
            if entry["class_name"] in tf_operations.CLASSES:
                called = _tf_call
            elif called is _call and isinstance(node, dict) and _may_be_own(entry):
                called = _own_call
            self.calls[name, number] = called(node, name)

    def ends(self, what):
        """The places of the inputs or the outputs."""
        structure = _structure(self.config.get(what), what)
        return _mapped(lambda place: self._counted(place, True), structure)

    def _counted(self, place, at_end=False):
        """A place with calls counted from 0. Keras 2 counts those of models from 1 on, and Keras 3
        where they give outputs, but for a Sequential."""
        entry = None if isinstance(place, Constant) else self.entries.get(place[0])
        if entry is None or entry["class_name"] not in ("Functional", "Model", "Sequential"):
            return place
        (name, call, at), nodes = place, entry["inbound_nodes"]
        of_keras_3 = bool(nodes) and isinstance(nodes[0], dict)
        if of_keras_3 and not (at_end and entry["class_name"] != "Sequential"):
            return place
        return name, max(call - 1, 0), at

    def _take_masks(self, masks):
        """Give calls the masks that are more than what a layer below makes, and passes on."""
        makers = {}
        for (name, _), call in self.calls.items():
            entry = self.entries[name]
            if entry["class_name"] == "Embedding" and entry["config"].get("mask_zero"):
                makers[call.args[0]] = 0
            elif entry["class_name"] == "Masking":
                makers[call.args[0]] = entry["config"].get("mask_value", 0)
        for call in self.calls.values():
            each = [
                (name, part)
                for name, mask in call.masks.items()
                for part in (mask if isinstance(mask, list) else [mask])
            ]
            for argument, mask in each:
                if mask is None:
                    continue
                kind, source, others = masks.get(mask[0], (None, None, None))
                for _ in masks:  # which may go round in a damaged file
                    if kind in ("Any", "ConvertToTensor"):
                        kind, source, others = masks.get(source[0], (None, None, None))
                if kind != "NotEqual" or source not in makers or others != [makers[source]]:
                    call.named[argument] = call.masks[argument]


def _is_operation(entry):
    """Not a layer? Keras 3's .h5 files do not say so, and have both under the same names."""
    if "module" in entry:
        return isinstance(entry["module"], str) and entry["module"].startswith("keras.src.ops.")
    nodes = entry.get("inbound_nodes")
    of_keras_3 = isinstance(nodes, list) and nodes and isinstance(nodes[0], dict)
    return bool(of_keras_3 and entry["class_name"] in OPERATIONS) and not (
        {"trainable", "dtype"} <= entry["config"].keys()
    )


def _operation_call(node, name):
    where = f"inputs of operation {name!r}"
    args = node.get("args") if isinstance(node, dict) else None
    named = node.get("kwargs") or {} if isinstance(node, dict) else None
    if not isinstance(args, list) or any(value is not None for value in named.values()):
        raise ValueError(f"{where}: expected args alone")

    def part_of(arg):
        if isinstance(arg, list) and 0 < len(arg) <= MAX_LAYERS and any(map(_is_tensor, arg)):
            return [part_of(part) for part in arg]
        if _is_tensor(arg):
            return _structure(arg, where)
        try:
            return Constant(read(arg))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    return Call([part_of(arg) for arg in args], {}, {})


def _tf_call(node, name):
    where = f"inputs of operation {name!r}"
    listed = isinstance(node, list) and node and all(isinstance(part, list) for part in node)
    parts = node if listed else [node]
    for part in parts:
        if not isinstance(part, list) or len(part) != 4 or not isinstance(part[3], dict):
            raise ValueError(
                f"{where}: expected [layer, call, place, arguments], received {node!r:.100}"
            )

    def part_of(value):
        is_tensor = isinstance(value, list) and value[:1] and isinstance(value[0], str)
        return _structure(value, where) if is_tensor and len(value) == 3 else Constant(value)

    first = [
        Constant(part[2]) if part[0] == "_CONSTANT_VALUE" else _structure(part[:3], where)
        for part in parts
    ]
    named = {key: part_of(value) for key, value in parts[0][3].items()}
    return Call([first] if listed else first, named, {})


def _call(node, name):
    where = f"inputs of layer {name!r}"
    if isinstance(node, dict):  # Keras 3
        args, kwargs = node.get("args"), node.get("kwargs") or {}
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise ValueError(f"{where}: expected args and kwargs")
        kwargs = dict(kwargs)
        mask = kwargs.pop("mask", None)
        if not args:
            args = [kwargs.pop("inputs", kwargs.pop("sequences", None))]
        if not args or args[0] is None:
            raise ValueError(f"{where}: expected tensors, received none")
        named = {
            key: _structure(kwargs.pop(key), where)
            for key, value in [*kwargs.items()]
            if isinstance(value, (dict, list))
        }
        return Call(
            [_structure(arg, where) for arg in args if arg is not None],
            named,
            _options(kwargs, where),
            None if mask is None else {"mask": _each_mask(mask, f"mask of layer {name!r}")},
        )
    if not isinstance(node, list) or not node:
        raise ValueError(f"{where}: expected a list, received {node!r:.100}")
    tensors, named, others = [], {}, {}
    for part in node:  # Keras 2: [layer, call, place, arguments]
        if not isinstance(part, list) or not 3 <= len(part) <= 4:
            raise ValueError(f"{where}: expected [layer, call, place, ...], received {part!r:.100}")
        options = dict(part[3]) if len(part) == 4 and isinstance(part[3], dict) else {}
        for key, value in [*options.items()]:
            if isinstance(value, list):
                named[key] = _structure(options.pop(key), where)
        others |= _options(options, where, kept=["training"])
        tensors.append(_structure(part[:3], where))
    return Call([tensors if len(tensors) > 1 else tensors[0]], named, others)


def _may_be_own(entry):
    """Is this no layer of fastrnn by its name, or the user's own of that name?"""
    registered, name = entry.get("registered_name"), entry["class_name"]
    known = name in layers.CLASSES or name in layers.MODELS or name == "Model"
    return not known or registered not in (None, name)


def _own_call(node, name):
    """A call of a layer of the user's own, with tensors and constants wherever it takes them."""
    where = f"inputs of layer {name!r}"
    args, kwargs = node.get("args"), node.get("kwargs") or {}
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
        raise ValueError(f"{where}: expected args and kwargs")

    def part_of(arg, depth=0):
        if depth > MAX_DEPTH:
            raise ValueError(f"{where}: more than {MAX_DEPTH} lists in each other")
        if _is_tensor(arg):
            return _structure(arg, where)
        if isinstance(arg, (list, tuple)) and any(map(_holds_tensor, arg)):
            return [part_of(part, depth + 1) for part in arg]
        if isinstance(arg, dict) and any(map(_holds_tensor, arg.values())):
            return {key: part_of(part, depth + 1) for key, part in arg.items()}
        try:
            return Constant(read(arg, others=True))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    masks = {k: v for k, v in kwargs.items() if k.endswith("mask") and _holds_tensor(v)}
    training = kwargs.get("training")
    said = training is not None and training is not False  # which Keras writes for a default
    options = {"training": bool(training)} if said else {}
    named = {k: part_of(v) for k, v in kwargs.items() if k not in masks and k != "training"}
    masks = {k: _each_mask(v, f"{k} of layer {name!r}") for k, v in masks.items()}
    return Call([part_of(arg) for arg in args], named, options, masks)


def _holds_tensor(value, depth=0):
    if _is_tensor(value):
        return True
    parts = value.values() if isinstance(value, dict) else value
    listed = isinstance(value, (list, tuple, dict)) and depth <= MAX_DEPTH
    return listed and any(_holds_tensor(part, depth + 1) for part in parts)


def _from_0(place, nodes, made):
    """The place of an output of a user's model of a graph, whose calls Keras counts from 1."""
    name, call, at = place
    if name in nodes.entries and _may_be_own(nodes.entries[name]):
        if isinstance(made[name], Functional) and call:
            return name, call - 1, at
    return place


def _builds(layer):
    """Does a user's class say how it is built? Others are by being called."""
    cls = type(layer)
    own_way = cls.build_from_config is not layers.Layer.build_from_config
    return own_way or isinstance(layer, Model) or hasattr(cls.build, "once")


def _with_tuples(shapes):
    """Shapes as tuples, which JSON has as lists."""
    if isinstance(shapes, dict):
        return {key: _with_tuples(shape) for key, shape in shapes.items()}
    if isinstance(shapes, list):
        if all(size is None or isinstance(size, int) for size in shapes):
            return tuple(shapes)
        return [_with_tuples(shape) for shape in shapes]
    return shapes


def _options(given, where, kept=()):
    """Those of a call that say anything: switches and numbers. kept: those that may be False."""
    options = {
        key: value
        for key, value in given.items()
        if value is not None and (value is not False or key in kept)
    }
    for key, value in options.items():
        if not isinstance(value, (bool, int, float, str)):
            raise ValueError(f"{where}: expected {key!r} to be a number, received {value!r:.100}")
    return options


def _inbound_of_mask(nodes, name):
    """(the tensor that an operation of a mask takes, its other arguments)."""
    node = nodes[0] if len(nodes) == 1 else None
    args = node.get("args") if isinstance(node, dict) else None
    if not isinstance(args, list) or not args:
        raise ValueError(f"layer {name!r}: expected one input")
    return _structure(args[0], f"inputs of layer {name!r}"), args[1:]


def _structure(value, what):
    """(layer's name, call, place), or a list or dict of such, from the several forms in which Keras
    writes tensors."""
    if _is_tensor(value):
        value = value["config"]["keras_history"]
    elif isinstance(value, dict) and 0 < len(value) <= MAX_LAYERS:
        return {key: _structure(part, what) for key, part in value.items()}
    if isinstance(value, list) and 3 <= len(value) <= 4 and isinstance(value[0], str):
        name, call, place = value[:3]
        if all(type(n) is int and 0 <= n < MAX_LAYERS for n in (call, place)):
            return name, call, place
    elif isinstance(value, (list, tuple)) and 0 < len(value) <= MAX_LAYERS:
        return type(value)(_structure(part, what) for part in value)
    raise ValueError(f"{what}: expected outputs of layers, received {value!r:.100}")


def _is_tensor(value):
    described = value.get("config") if isinstance(value, dict) else None
    return isinstance(described, dict) and "keras_history" in described


def _mapped(function, structure):
    if isinstance(structure, dict):
        return {key: _mapped(function, part) for key, part in structure.items()}
    if _is_listed(structure):
        return type(structure)(_mapped(function, part) for part in structure)
    return None if structure is None else function(structure)


def _is_listed(structure):
    """Is this a list or tuple of tensors, not the place of one?"""
    if isinstance(structure, tuple):
        return not isinstance(structure[0], str)
    return isinstance(structure, list)


def _places_in(structure):
    if not isinstance(structure, dict) and not _is_listed(structure):
        return [] if structure is None or isinstance(structure, Constant) else [structure]
    parts = structure.values() if isinstance(structure, dict) else structure
    return [place for part in parts for place in _places_in(part)]


def _each_mask(mask, what):
    if isinstance(mask, dict) and not _is_tensor(mask):
        mask = [*mask.values()]
    if isinstance(mask, list) and not (mask and isinstance(mask[0], str)):
        return [None if part is None else _structure(part, what) for part in mask]
    return _structure(mask, what)


# --- from models ---


def within(layer):
    """The layer, and the layers in it at any depth."""
    yield layer
    for inner in layer.sublayers:
        yield from within(inner)


def model_config(model) -> dict:
    """The model as {"class_name": ..., "config": ...} in Keras's form."""
    if not isinstance(model, Model):
        raise ValueError(f"model: expected a model, received {type(model).__name__}")
    for layer in model.layers:
        check_name(layer.name)
    return layers.serialize(model)


def compile_config(model) -> dict | None:
    """The arguments of compile in Keras's form, or what the model's class says. None, with a
    warning, if they cannot be saved."""
    if type(model).get_compile_config is not Model.get_compile_config:
        return model.get_compile_config()
    return plain_compile_config(model)


def compiles_itself(model) -> bool:
    """Does a user's class say compile_from_config?"""
    return type(model).compile_from_config is not Model.compile_from_config


def plain_compile_config(model) -> dict | None:
    """That of all models."""
    compiled = model._compiled
    if compiled is None:
        return None
    try:
        if model.gives_several:
            given = [_serialize_head(head) for head in compiled.heads]
            loss, plain, weighted = ([*part] for part in zip(*given, strict=True))
            weights = compiled.loss_weights
        else:
            (loss, plain, weighted), weights = _serialize_head(compiled), None
        config = {
            "loss": loss,
            "loss_weights": weights,
            "metrics": plain if any(plain or ()) else None,
            "weighted_metrics": weighted if any(weighted or ()) else None,
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


def _serialize_head(head):
    """(loss, metrics, weighted metrics) of an output."""
    chosen = {True: [], False: []}
    for metric, weighted in head.metrics:
        known = isinstance(metric, str)
        chosen[weighted].append(metric if known else metrics.serialize(metric))
    loss = head.loss if isinstance(head.loss, str) else _serialize_loss(head.loss)
    return loss, chosen[False] or None, chosen[True] or None


def _serialize_loss(loss):
    """A loss of the user's own function is that function, as Keras writes it."""
    plain = type(loss) is losses.LossFunctionWrapper and loss.reduction == "sum_over_batch_size"
    return losses.serialize(loss.fn if plain and not loss._fn_options else loss)


def _has_code(config):
    """Is a function in a Lambda's config given by its code?"""
    parts = [config.get(name) for name in ("function", "output_shape", "mask")]
    return any(
        isinstance(part, dict) and part.get("class_name") == "__lambda__" for part in parts
    ) or isinstance(parts[0], (list, tuple))  # as Keras 2 writes it


def _refuse_code(class_name):
    raise ValueError(
        f"unknown layer {class_name!r}: it holds code, which is never run from a file; "
        f"pass custom_objects={{{class_name!r}: a class of yours}}, or rebuild "
        "the model without it and use load_weights"
    )
