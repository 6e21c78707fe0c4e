"""Lambda: a function as a layer."""

from __future__ import annotations

import base64
import inspect
import marshal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastrnn.layers import own
from fastrnn.layers.base import Layer, check_shape
from fastrnn.utils import get_registered_name, get_registered_object

if TYPE_CHECKING:
    from fastrnn._types import LayerOptions, Unpack


class Lambda(Layer):
    """A function of arrays, made of fastrnn.ops, operators and NumPy's functions, as a layer.

    function(inputs), which may take `mask` and `training` too, and `arguments` by name.
    output_shape: found by calling it; or that of a sample, or a function of the input's shape.
    mask: None, a mask, or a function of inputs and mask. Files keep a function with a name by that
    name, for custom_objects; code of a lambda in a file is never run. Errors: ValueError for what
    is no function. Source: https://keras.io/api/layers/core_layers/lambda/
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        if not callable(function):
            raise ValueError(f"function: expected a function, received {function!r:.80}")
        if not (mask is None or callable(mask) or hasattr(mask, "__array__")):
            raise ValueError(f"mask: expected None, a mask or a function, received {mask!r:.80}")
        if not isinstance(arguments, (dict, type(None))):
            raise ValueError(f"arguments: expected a dict, received {arguments!r:.80}")
        if output_shape is not None and not callable(output_shape):
            output_shape = check_shape("output_shape", output_shape)
        self.function, self.mask = function, mask
        self.arguments = dict(arguments or {})
        self._output_shape = output_shape
        self.supports_masking = mask is not None
        try:
            names = inspect.signature(function).parameters
        except ValueError:  # one written in C
            names = {}
        self._takes = [name for name in ("mask", "training") if name in names]

    def call(self, inputs, mask=None, training=None):
        given = {"mask": mask, "training": training}
        named = {name: given[name] for name in self._takes}
        return self.function(inputs, **{**self.arguments, **named})

    def compute_output_shape(self, input_shape, call=None):
        shape = self._output_shape
        if shape is None:
            return own.compute_output_shape(self, input_shape, call=call)
        if callable(shape):
            return tuple(shape(input_shape))
        batch = (input_shape[0] if isinstance(input_shape, list) else input_shape)[0]
        return (batch, *shape)

    def compute_mask(self, inputs, mask=None):
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def get_config(self) -> dict[str, Any]:
        shape, mask = self._output_shape, self.mask
        return {
            **super().get_config(),
            "function": _written(self.function),
            "output_shape": _written(shape) if callable(shape) else shape,
            "mask": _written(mask) if callable(mask) else mask,
            "arguments": self.arguments,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Lambda:
        """Raises ValueError where a function is code in the config, or has an unknown name."""
        config = dict(config)
        for name in ("function", "output_shape", "mask"):
            given = config.get(name)
            if isinstance(given, (dict, str)):
                config[name] = _read(config.get("name"), given, custom_objects)
        for old in ("function_type", "module", "output_shape_type", "output_shape_module"):
            config.pop(old, None)
        return cls(**config)


own.adopt(Lambda)


def _written(function):
    name = get_registered_name(function)
    if getattr(function, "__name__", "") != "<lambda>":
        return {
            "module": "builtins", "class_name": "function", "config": name, "registered_name": name,
        }  # fmt: skip
    closure = function.__closure__ and tuple(cell.cell_contents for cell in function.__closure__)
    code = base64.b64encode(marshal.dumps(function.__code__)).decode("ascii")
    config = {"code": code, "defaults": function.__defaults__, "closure": closure}
    return {"class_name": "__lambda__", "config": config}


def _read(layer, given, custom_objects):
    by_layer = (custom_objects or {}).get(layer)
    if callable(by_layer):
        return by_layer
    name = given if isinstance(given, str) else given.get("config")
    found = get_registered_object(name, custom_objects) if isinstance(name, str) else None
    if found is None:
        what = f"{name!r}" if isinstance(name, str) else "a lambda, whose code is never run"
        raise ValueError(
            f"layer {layer!r}: its function is {what}; expected custom_objects with the function, "
            f"under its name or that of the layer, {layer!r}"
        )
    return found
