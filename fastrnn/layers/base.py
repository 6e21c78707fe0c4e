"""Layer: weights, shapes, names and config, as keras.layers.Layer."""

from __future__ import annotations

import collections
import contextlib
import copy
import inspect
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _engine, activations, constraints, initializers, regularizers
from fastrnn._public import Missing
from fastrnn.arrays import Array, check_range, contiguous
from fastrnn.checks import flag as check_flag
from fastrnn.layers import names, symbolic
from fastrnn.run import Run, TapedRun
from fastrnn.tape import Joint, Source, Traced, is_recording, not_recording, of, value_of
from fastrnn.tensors import Float
from fastrnn.utils import snake_case, unknown_arguments
from fastrnn.variable import (
    Change,
    Variable,
    last_change,
    settled_versions,
    unchanging,
    undone,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from fastrnn._types import Identifier, LayerBaseOptions, Unpack


_names = collections.Counter()


class _Context(threading.local):
    """What a call in this thread stands within: the pass, the mode that an outer call said, the
    list of the losses that layers add."""

    run, training, losses = None, None, None
    built = None  # while shapes are tried, the layers with weights that a call has built


context = _Context()


class within:  # noqa: N801
    """`with within(run) as losses:` calls are part of this pass, and of its mode."""

    __slots__ = ("before", "run", "training")

    def __init__(self, run, in_mode=True):
        self.run, self.training = run, run.training if in_mode else None

    def __enter__(self):
        self.before = context.run, context.training, context.losses
        context.run, context.training, context.losses = self.run, self.training, []
        return context.losses

    def __exit__(self, *error):
        context.run, context.training, context.losses = self.before


class in_mode:  # noqa: N801
    """`with in_mode(training):` calls that say no mode are in this one; None leaves it."""

    __slots__ = ("before", "training")

    def __init__(self, training):
        self.training = training

    def __enter__(self):
        self.before = context.training
        if self.training is not None:
            context.training = bool(self.training)

    def __exit__(self, *error):
        context.training = self.before


@contextlib.contextmanager
def trying():
    """`with trying() as built:` calls leave nothing behind; built: layers with weights of their
    own that they built."""
    before, context.built = context.built, []
    try:
        with within(Run()), not_recording(), undone():
            yield context.built
    finally:
        context.built = before


_shape_of = np.ndarray.shape.__get__  # that of an Array, in less time
LARGEST_PLANNED = 65536  # numbers in an array that calls are planned for


def mask_of(value):
    """The mask that an array carries, or None."""
    return getattr(value, "_keras_mask", None)


def give_mask(outputs, mask):
    """Let an array, or the first of several, carry a mask."""
    if isinstance(outputs, (list, tuple)):
        masks = mask if isinstance(mask, (list, tuple)) else [mask]
        for output, part in zip(outputs, masks, strict=False):
            give_mask(output, part)
    elif mask is not None and isinstance(outputs, (Array, Source)):
        outputs._keras_mask = mask


def unique_name(prefix: str) -> str:
    """`prefix`, then `prefix_1`, `prefix_2`, ... as Keras counts within a process."""
    number = unique_number(prefix)
    return prefix if number == 1 else f"{prefix}_{number - 1}"


def unique_number(prefix: str) -> int:
    """1, then 2, ... for each prefix."""
    _names[prefix] += 1
    return _names[prefix]


def clear_session():
    """Start the automatic names again (keras.utils.clear_session)."""
    _names.clear()


def check_size(name: str, value) -> int:
    """`value` as an int; raise unless it is a whole number >= 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 1:
        raise ValueError(f"{name}: expected a whole number >= 1, received {value!r}")
    return int(value)


def checked_sizes(name: str, value) -> tuple[int, ...]:
    """A list of whole numbers as a tuple; raise ValueError for anything else."""
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__"):
        raise ValueError(f"{name}: expected a list of whole numbers, received {value!r}")
    value = list(value)
    if any(isinstance(size, bool) or not hasattr(size, "__index__") for size in value):
        raise ValueError(f"{name}: expected a list of whole numbers, received {value!r}")
    return tuple(int(size) for size in value)


def is_number(value) -> bool:
    """Is it a number of Python or NumPy, and no bool?"""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def check_rate(name: str, value) -> float:
    """`value` as a float; raise unless 0 <= value <= 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, received {value!r}")
    return float(value)


def check_activation(name: str, identifier):
    """An activation from its name, config or itself; raise unless one array is all it needs."""
    try:
        function = activations.get(identifier)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {str(error).removeprefix('activation: ')}") from None
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise ValueError(
            f"{name}: expected a function of one array, received {identifier!r}, which takes "
            f"{inspect.signature(function)}"
        ) from None
    except ValueError:
        pass  # a function written in C need not tell its signature
    return function


def activated_shape(function, shape) -> tuple:
    """The shape that an activation makes of `shape`; of Keras's only glu changes it."""
    if function is not activations.glu or shape[-1] is None:
        return tuple(shape)
    if shape[-1] % 2:
        raise ValueError(f"activation glu: expected an even last size, received shape {shape}")
    return (*shape[:-1], shape[-1] // 2)


def engine_activation(function) -> int | None:
    """The engine's number of an activation, or None if it has to run outside the kernels."""
    name = getattr(function, "__name__", "")
    return _engine.ACTIVATIONS.get(name) if function is getattr(activations, name, None) else None


_NOT_NUMBERS = {  # kinds of dtypes, and what makes numbers of them
    "O": "; sequences of different lengths need pad_sequences first",
    "U": "; text needs preprocessing.text.Tokenizer first, names of classes numpy.unique",
}


def as_numbers(given, name) -> np.ndarray:
    """An array of whatever numbers; raise ValueError for anything else."""
    try:
        array = np.asarray(given)
    except ValueError:
        if not isinstance(given, (list, tuple)):
            raise
        array = np.empty(len(given), object)  # lists of different lengths
    kind = array.dtype.kind
    if kind == "O" and not array.ndim:
        raise ValueError(f"{name}: expected an array of numbers, received {given!r:.80}")
    if kind not in "biuf":
        raise ValueError(
            f"{name}: expected an array of numbers, received dtype {array.dtype}"
            + _NOT_NUMBERS.get(kind, "")
        )
    return array


def as_text(given, name) -> np.ndarray:
    """An array of objects, of what is text; raise ValueError for numbers."""
    array = np.array(given, object) if isinstance(given, (list, tuple)) else np.asarray(given)
    if array.dtype.kind not in "OSTU":
        raise ValueError(
            f"{name}: expected an array of text, str or bytes, received dtype {array.dtype}"
        )
    return np.asarray(array, object, order="C")


def as_input(inputs, dtype, name="inputs") -> np.ndarray:
    """A C-contiguous array of the dtype that the network computes in, or of text; None: float32 for
    numbers with a fraction, others as they are."""
    if dtype == object:  # noqa: E721  as NumPy has it too
        return as_text(inputs, name)
    array = as_numbers(inputs, name)
    if dtype is None:
        dtype = np.float32 if array.dtype.kind == "f" else array.dtype
    if dtype in (np.int32, np.int64) and array.dtype != dtype and array.size:
        bits = 8 * np.dtype(dtype).itemsize
        low, high = array.min().item(), array.max().item()
        if not (low >= -(2 ** (bits - 1)) and high < 2 ** (bits - 1)):  # also refuses NaN
            raise ValueError(f"{name}: expected indices of {bits} bits, received {low} to {high}")
    return contiguous(array, dtype)


# What users of arrays (samples, timesteps) or (timesteps, features) look for.
LACKS_AN_AXIS = "; x[..., None] gives each step one feature, x[None] is one sample"


class Layer:
    """Base of all layers.

    name: default the class name in snake case, numbered. trainable: whether training changes the
    weights. input_shape (without batch) or batch_input_shape make the first layer of a Sequential
    build at once; input_dim and input_length are the older spelling of the same.

    A layer of the user's own says in `call(inputs)` what it computes, with fastrnn.ops, operators,
    NumPy's functions and other layers, and makes its weights in `build(input_shape)` with
    add_weight; its derivative is found. `training` and `mask` are given to a call that takes them.

    A layer of fastrnn computes in `forward(x, run, mask)` and `backward(dy, run, need_dx)`: arrays
    are C-contiguous float32 with the batch first; backward fills the weights' gradients, may
    overwrite dy, and returns the gradient of x (or None if need_dx is False). Where forward returns
    a list, dy is the list of the gradients of all that is in it. A layer that `takes_several`
    inputs gets lists of arrays, masks and shapes, and returns a list of gradients, of which no two
    may share memory.

    Errors: ValueError for an unknown argument. Source: https://keras.io/api/layers/base_layer/
    """

    input_shape: Any  # with the batch, None where free; None before the layer is built
    output_shape: Any  # the same, or the list of several outputs
    dtype = compute_dtype = variable_dtype = "float32"
    input_dtype: Any = np.float32  # object for text
    output_dtype: Any = "float32"  # as Keras says it; "string" of text
    gives_float32 = True  # or do others have to convert what forward gives?
    varies = False  # does the shape of the output follow the values of the input?
    own_names: tuple[str, ...] = ()  # of arrays in files that are no weights; see IndexLookup
    supports_masking = False
    _makes_mask = False  # can it mask steps that are not masked below?
    _said = None  # what a user's class was made with, where that is plain values alone
    _shapes_built_for = None  # the arguments of a user's build by name
    _says_call = False  # does the user's class say what it computes in `call`?
    batch_dependent = False  # does one sample's result in training depend on the others?
    _positional = ()  # what may follow the inputs in a call
    takes_several = False  # may the inputs be a list?
    _tensors_by_name = ()  # what a call may give beside the inputs, to follow them in the list
    _call_options = ()  # flags of a call: keywords of forward and compute_output_shape
    fixed_axes = ()  # axes of the input whose sizes the weights depend on
    _hidden_names = frozenset(
        {
            *("check_call", "check_mask", "has_states", "plan", "repair_rank", "sizes_of_states"),
            *("grouped", "groups_of_states", "states_beside", "sublayers", "takes_several"),
            "cell_variables",
            *("gives_float32", "load_own_arrays", "misfit", "output_dtype", "own_arrays"),
            *("own_names", "varies"),
        }
    )  # what dir() does not show

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if not cls.__module__.startswith("fastrnn."):
            from fastrnn.layers import own

            said = dict(vars(cls))
            own.adopt(cls)
            if cls._says_call and not hasattr(cls, "_of_tensors"):
                names.keep_apart(cls, said)

    def __new__(cls, *args, **kwargs):
        layer = super().__new__(cls)
        if not cls.__module__.startswith("fastrnn."):
            layer._said = _said(cls, args, kwargs)
        return layer

    def __init__(
        self,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
        activity_regularizer: Identifier = None,
        **kwargs: Unpack[LayerBaseOptions],
    ):
        if name is not None and not isinstance(name, str):
            raise ValueError(f"name: expected a string, received {name!r}")
        self.name = name or unique_name(snake_case(type(self).__name__))
        self._trainable = check_flag("trainable", trainable)
        if dtype not in (None, "float32", np.float32, "int32") and not isinstance(dtype, dict):
            raise ValueError(f"dtype: expected 'float32', received {dtype!r}")
        self.activity_regularizer = get_named(
            regularizers, "activity_regularizer", activity_regularizer
        )
        self.batch_input_shape = self._pop_input_shape(kwargs)
        self._initial_weights = kwargs.pop("weights", None)
        for unused in ("autocast", "quantization_config"):
            kwargs.pop(unused, None)
        if kwargs:
            raise ValueError(unknown_arguments(type(self), kwargs))
        self.built = False
        self._plans = {}  # shape -> steps bound to arrays, of calls within own code
        self._fitting = set()  # shapes of arrays that fit, as was seen in calls
        self._losses_of_call = []
        self.input_shape = self.output_shape = None
        self._variables = []
        self._models = ()  # weak references to the models that it was added to

    def _pop_input_shape(self, kwargs):
        batch = kwargs.pop("batch_size", None)
        shape = kwargs.pop("input_shape", None)
        batch_shape = kwargs.pop("batch_input_shape", None)
        shape = shape if shape is not None else self._legacy_input_shape(kwargs)
        if batch_shape is None and shape is not None:
            batch_shape = (batch, *(shape if isinstance(shape, (tuple, list)) else (shape,)))
        return None if batch_shape is None else check_shape("input_shape", batch_shape)

    def _legacy_input_shape(self, kwargs):
        size = kwargs.pop("input_dim", None)
        return None if size is None else (size,)

    # --- weights ---

    @property
    def path(self) -> str:
        return self.name

    @property
    def losses(self) -> list[Any]:
        """What regularizers and add_loss add to the loss: those of the last call of the layer, then
        those of the weights that are trained. Numbers; while a tape is open, steps of it."""
        regularized = [v for v in self.trainable_weights if v.regularizer is not None]
        if is_recording():
            return self._losses_of_last_call() + [*map(_regularized, regularized)]
        terms = [value_of(loss) for loss in self._losses_of_last_call()]
        terms += [variable.regularizer(variable.value) for variable in regularized]
        return [Float(term) for term in terms]

    def _losses_of_last_call(self):
        inner = self.sublayers if self._says_call else ()
        return self._losses_of_call + [t for la in inner for t in la._losses_of_last_call()]

    def _new_weight(
        self, name, shape, initializer, regularizer=None, constraint=None, trainable=True
    ):
        value = initializers.get(initializer)(tuple(shape), dtype="float32")
        check_range("initializer", f"{self.name}/{name}", np.asarray(value))
        variable = Variable(
            value,
            dtype="float32",
            trainable=trainable,
            name=name,
            regularizer=regularizer,
            constraint=constraint,
        )
        variable.path = f"{self.name}/{name}"
        self._variables.append(variable)
        self._variables.sort(key=lambda v: not v.trainable)
        return variable

    def add_weight(
        self,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: Any = None,
        overwrite_with_gradient: bool = False,
        name: str | None = None,
        **old: Any,
    ) -> Variable:
        """A weight of the layer: shape () and, for vectors and matrices, glorot_uniform are the
        defaults. The older order (name, shape, dtype or initializer, ...) is taken too."""
        if isinstance(shape, str) or (shape is None and isinstance(initializer, (tuple, list))):
            # add_weight(name, shape, dtype, initializer, ...) of Keras 2
            name, shape, third, fourth = shape, initializer, dtype, trainable
            trainable = True
            if third is None or _is_dtype(third):
                dtype, initializer = third, None if isinstance(fourth, bool) else fourth
            else:
                dtype, initializer = None, third
            initializer = old.pop("initializer", initializer)
        for unused in ("use_resource", "synchronization", "getter", "collections", "layout"):
            old.pop(unused, None)
        if old:
            raise TypeError(unknown_arguments(self.add_weight, old))
        sizes = () if shape is None else (shape,) if hasattr(shape, "__index__") else tuple(shape)
        if any(not hasattr(size, "__index__") or size < 0 for size in sizes):
            raise ValueError(f"shape: expected whole numbers >= 0, received {shape!r}")
        if dtype is not None and np.dtype(dtype).kind not in "f":
            variable = Variable(
                np.asarray(initializers.get(initializer or "zeros")(sizes, dtype="float32")),
                dtype=dtype, trainable=False, name=name,
            )  # fmt: skip
            self._states = [*getattr(self, "_states", ()), variable]
            return variable
        return self._new_weight(
            name or ("variable" if not self._variables else f"variable_{len(self._variables)}"),
            sizes,
            initializer or ("glorot_uniform" if sizes else "zeros"),
            get_named(regularizers, "weight_regularizer", regularizer),
            get_named(constraints, "weight_constraint", constraint),
            trainable,
        )

    add_variable = add_weight

    def add_loss(self, loss: Any, *args: Any, **kwargs: Any) -> None:
        """Add to the loss of what the call is part of: a number, or what was computed in `call`;
        or a list of such."""
        for part in loss if isinstance(loss, (list, tuple)) else [loss]:
            if callable(part) and not isinstance(part, Source):
                part = part()
            part = of(part)
            if np.ndim(value_of(part)):
                part = np.sum(part)
            self._losses_of_call.append(part)
            if context.losses is not None:
                context.losses.append(part)

    def add_metric(self, value: Any, name: str | None = None, aggregation: str = "mean") -> None:
        """As in Keras 2: let logs show, under this name, the mean over batches of what a user's
        `call` computed; or what a metric, called, gave, which has a name and a mean of its own.
        Keras 3 has metrics as attributes, and their update_state."""
        if symbolic.is_symbolic(value):
            raise ValueError(
                "value: expected an array that a layer's or model's `call` has computed, received "
                "an output of a graph; metrics of those are given to compile, or to add_metric in "
                "a layer of one's own"
            )
        if name is None or aggregation not in ("mean", None):
            raise ValueError(
                'add_metric: expected a name, and the aggregation "mean", received '
                f"name={name!r}, aggregation={aggregation!r}"
            )
        if name not in self._added_metrics:
            self._added_metrics = {**self._added_metrics, name: self._Mean(name)}
        self._added_metrics[name].update_state(np.asarray(value_of(value)))

    compute_output_spec: Any = Missing("compute_output_shape gives shapes")
    dtype_policy: Any = Missing("networks compute in float32, as `dtype` says")
    quantize: Any = Missing("weights are float32")
    stateless_call: Any = Missing(
        "weights and states are changed in place; GradientTape has derivatives of a call"
    )
    symbolic_call: Any = Missing("call the layer itself with an Input")

    _added_metrics: dict[str, Any] = {}
    _Metric: Any = None  # fastrnn.metrics, which stands above, sets these
    _Mean: Any = None

    @property
    def metrics(self) -> list[Any]:
        """The metrics that are attributes of a user's layer, and of those within."""
        return metrics_of(self)

    @property
    def metrics_variables(self) -> list[Any]:
        """What those keep."""
        return [variable for metric in self.metrics for variable in metric.variables]

    @property
    def trainable(self):
        """Whether training changes the weights. Assigning it assigns it to the sublayers too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        self._trainable = check_flag("trainable", value)
        for layer in self.sublayers:
            layer.trainable = value

    @property
    def sublayers(self):
        """Layers within this one, in the order of their weights: of a user's, its attributes."""
        return [] if type(self).__module__.startswith("fastrnn.") else layers_within(vars(self))

    @property
    def has_states(self):
        """Does a call leave something behind for the next?"""
        return any(layer.has_states for layer in self.sublayers)

    @property
    def weights(self) -> list[Variable]:
        inner = [w for layer in self.sublayers for w in layer.weights]
        if self._says_call:
            return [*dict.fromkeys(variables_within(self) + inner)]
        return self._variables + inner

    @property
    def trainable_weights(self):
        if not self.trainable:
            return []
        inner = [w for layer in self.sublayers for w in layer.trainable_weights]
        if self._says_call:
            own = [v for v in variables_within(self) if v.trainable]
            return [*dict.fromkeys(own + inner)]
        return [v for v in self._variables if v.trainable] + inner

    @property
    def non_trainable_weights(self):
        trained = set(map(id, self.trainable_weights))
        return [w for w in self.weights if id(w) not in trained]

    variables = weights
    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    def get_weights(self) -> list[np.ndarray]:
        with unchanging():
            return [w.numpy() for w in self.weights]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        set_weights(self, weights)

    def count_params(self) -> int:
        if not self.built:
            raise ValueError(f"layer {self.name!r} has no weights yet: it has not been built")
        return sum(w.value.size for w in self.weights)

    @property
    def output(self):
        """What the layer puts out within the model that it was first added to, for models.Model."""
        return self._model_of("output").symbolic(self)

    @property
    def input(self):
        """What the layer gets within that model."""
        return self._model_of("input").input_of(self)

    def _model_of(self, what):
        for model in self._models:
            if (found := model()) is not None:
                return found
        raise AttributeError(f"layer {self.name!r} has no {what}: it is in no model")

    def _joins(self, model):
        """The layer has been added to a model."""
        others = (m for m in self._models if m() not in (None, model))
        self._models = (*others, weakref.ref(model))

    # --- shapes ---

    def build(self, input_shape):
        """Create the weights for inputs of `input_shape`, batch included (None where free)."""
        if self.built:
            return
        if isinstance(input_shape, list):
            input_shape = [check_shape("input_shape", shape) for shape in input_shape]
        else:
            input_shape = check_shape("input_shape", input_shape)
        self.check_input_shape(input_shape)
        self.create_weights(input_shape)
        self.input_shape = input_shape
        self.output_shape = self.compute_output_shape(input_shape)
        self.built = True
        if context.built is not None and self._variables:
            context.built.append(self)
        if self._initial_weights is not None:
            self.set_weights(self._initial_weights)
            self._initial_weights = None

    def check_input_shape(self, shape):
        """Raise ValueError if inputs of this shape (batch included) do not fit the layer."""

    def create_weights(self, input_shape):
        pass

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def compute_mask(self, inputs, mask=None):
        return mask if self.supports_masking else None

    def reject_shape(self, expected, shape, hint=""):
        raise ValueError(
            f"layer {self.name!r} ({type(self).__name__}): expected input of shape {expected}, "
            f"received {tuple(shape)}{hint}"
        )

    # --- computing ---

    def forward(self, x, run, mask=None):
        self._lacks("forward(x, run, mask)")

    def backward(self, dy, run, need_dx=True):
        self._lacks("backward(dy, run, need_dx)")

    def _lacks(self, method):
        raise NotImplementedError(
            f"layer {self.name!r} ({type(self).__name__}): expected a method call(inputs), or "
            f"forward and backward on arrays, found no {method} (see fastrnn.layers.Layer)"
        )

    def __call__(
        self,
        inputs: Any,
        *arguments: Any,
        mask: Any = None,
        training: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The layer's output for an array of inputs, batch first; builds the layer if needed. The
        array has a method numpy(), as TensorFlow's. arguments: what Keras takes by position, such
        as a recurrent layer's initial_state and mask.

        Called on `Input(...)` or on what that gave, it becomes part of a models.Model."""
        if type(inputs) is Array and not (arguments or kwargs or training) and mask is None:
            outputs = self._planned(inputs)
            if outputs is not None:
                return outputs
        if arguments:
            named = self._by_position(arguments)
            mask = named.pop("mask", mask)
            kwargs |= named
        if kwargs or self._tensors_by_name:
            inputs, options = self._inputs_and_options(inputs, kwargs)
        else:
            options = {}
        if symbolic.is_symbolic(inputs):
            given = {"mask": mask, "training": training, **kwargs}
            return symbolic.call(self, inputs, given, options)
        kwargs |= options
        training = context.training if training is None else training
        if mask is None:
            mask = _carried(inputs)
        if is_recording():
            return self._recorded(inputs, mask, training, kwargs)
        x, mask = self._arrays_and_masks(inputs, mask)
        run = Run(training=bool(training))
        if training or context.run is not None or self.has_states:
            outputs = self._forward_call(x, run, mask, **kwargs)
        else:
            outputs = whole(self.weights, lambda: self._forward_call(x, run, mask, **kwargs))
        if run.updates or run.losses:
            self._leave(run)
        elif self._losses_of_call:
            self._losses_of_call = []
        if self.activity_regularizer is not None:
            regularize_activity(self, outputs)
        if isinstance(outputs, list):
            outputs = [_handed_out(output, x) for output in outputs]
        else:
            outputs = _handed_out(outputs, x)
        mask = self.compute_mask(x, mask)
        if mask is not None:
            give_mask(outputs, mask)
        return outputs

    def _planned(self, x):
        """The outputs for an array of a shape that was seen before, in inference and without a
        mask, by steps bound to arrays; None where that is not so. For calls within own code."""
        if context.run is None or context.training or is_recording():
            return None  # nobody sees to it that the weights stay as they are
        shape = _shape_of(x)
        plan = self._plans.pop(shape, None)  # other threads make their own
        now = last_change()
        if plan is None or (plan[0] is not now and plan[1] != settled_versions(self.weights)):
            if shape not in self._fitting or x.size > LARGEST_PLANNED or not self._can_be_planned:
                return None
            source, steps = np.empty(shape, np.float32), []
            y = self.plan(source, steps, Run())
            if len(self._plans) > 8:
                self._plans.clear()
            plan = now, settled_versions(self.weights), source, steps, y
        elif plan[0] is not now:
            plan = now, *plan[1:]
        if x.dtype != np.float32 or mask_of(x) is not None:
            return None
        _, _, source, steps, y = plan
        source[...] = x
        for step in steps:
            step()
        if isinstance(y, list):
            outputs = [part.copy().view(Array) for part in y]
        else:
            outputs = y.copy().view(Array)
        self._plans[shape] = plan
        return outputs

    @property
    def _can_be_planned(self):
        ours = type(self).__module__.startswith("fastrnn.")
        plain = self.input_dtype is np.float32 and self.activity_regularizer is None
        return ours and plain and not self._makes_mask and not self.has_states

    def _arrays_and_masks(self, inputs, mask):
        if mask is None and isinstance(inputs, np.ndarray) and inputs.shape in self._fitting:
            flags = inputs.flags
            if inputs.dtype == self.input_dtype and flags.c_contiguous and flags.aligned:
                return inputs, None
        if self.takes_several and isinstance(inputs, (list, tuple)):
            return self._arrays_of(inputs, mask)
        x = self.repair_rank(as_input(inputs, self.input_dtype))
        if mask is not None:
            mask = np.ascontiguousarray(mask, bool)
        self.build((None, *x.shape[1:]))
        self.check_call(x.shape)
        self.check_mask(mask, x.shape)
        if len(self._fitting) > 64:
            self._fitting = set()
        if self.built and not isinstance(inputs, (list, tuple)) and x.shape == np.shape(inputs):
            self._fitting.add(x.shape)
        return x, mask

    def _leave(self, run):
        """What a call leaves behind: batch statistics and losses."""
        if run.updates:
            if context.run is not None:
                context.run.updates += run.updates
            else:
                with Change([variable for variable, *_ in run.updates]):
                    run.apply_updates()
        self._losses_of_call = list(run.losses)

    def _recorded(self, inputs, mask, training, options):
        """A call as one step of the tape."""
        listed = isinstance(inputs, (list, tuple))
        sources = [of(source) for source in (inputs if listed else [inputs])]
        values = [value_of(source) for source in sources]
        x, mask = self._arrays_and_masks(values if listed else values[0], mask)
        run = TapedRun(bool(training))
        y = self._forward_call(x, run, mask, **options)
        self._leave(run)
        several, weights = isinstance(y, list), self.trainable_weights
        needs = [isinstance(s, Source) and s.takes_part() for s in sources]
        shapes = [part.shape for part in y] if several else None
        versions, passes = settled_versions(self.weights), [run]

        def pull(gradient):
            run = passes.pop() if passes else self._again(x, mask, training, options, versions)
            if run.losses:
                *gradient, of_losses = gradient
                run.loss_factor[0] = 0.0 if of_losses is None else float(of_losses)
                gradient = gradient if several else gradient[0]
            if several:
                gradient = [
                    np.zeros(shape, np.float32) if part is None else _as_gradient(part)
                    for part, shape in zip(gradient, shapes, strict=True)
                ]
            else:
                gradient = np.zeros_like(y) if gradient is None else _as_gradient(gradient)
            dx = self.backward(gradient, run, any(needs))
            found = run.gradients_of(weights)
            if not any(needs):
                return found
            dx = dx if listed else [dx]
            return [part for part, need in zip(dx, needs, strict=True) if need] + found

        sources = (*(s for s, need in zip(sources, needs, strict=True) if need), *weights)
        if not sources:
            outputs = [part.view(Array) for part in (y if several else [y])]
        elif several or run.losses:
            parts = y if several else [y]
            joint = Joint(sources, pull, len(parts) + bool(run.losses))
            outputs = [joint.result(place, part) for place, part in enumerate(parts)]
            if run.losses:
                total = np.asarray(sum(run.losses), np.float32)
                self._losses_of_call = [joint.result(len(parts), total)]
                if context.losses is not None:
                    context.losses += self._losses_of_call
        else:
            outputs = [Traced(y, sources, pull)]
        give_mask(outputs, self.compute_mask(x, mask))
        regularize_activity(self, outputs if several else outputs[0])
        return outputs if several else outputs[0]

    def _again(self, x, mask, training, options, versions):
        """The pass of a recorded call once more, for a gradient that is asked for again."""
        if settled_versions(self.weights) != versions or (training and _draws(self)):
            raise RuntimeError(
                f"layer {self.name!r}: a second gradient of one call was asked for after its "
                "weights changed, or of a call that drops at random; ask for all in one call, as "
                "in tape.gradient(loss, [*sources, *others])"
            )
        run = TapedRun(bool(training))
        self._forward_call(x, run, mask, **options)
        return run

    def _inputs_and_options(self, inputs, arguments):
        """Both taken out of the arguments of a call by name."""
        options = self._options(arguments)
        if self._tensors_by_name:
            inputs = [inputs, *(arguments.pop(name, None) for name in self._tensors_by_name)]
            while len(inputs) > 1 and inputs[-1] is None:
                inputs.pop()
        return inputs, options

    def _options(self, arguments):
        given = [name for name in self._call_options if name in arguments]
        return {name: check_flag(name, arguments.pop(name)) for name in given}

    def _arrays_of(self, inputs, masks):
        """Arrays of inputs and masks, which fit."""
        dtypes = self.input_dtype
        if not isinstance(dtypes, list):
            dtypes = [dtypes] * len(inputs)
        if len(dtypes) != len(inputs):
            raise ValueError(
                f"inputs: expected {len(dtypes)} arrays for layer {self.name!r}, received "
                f"{len(inputs)}"
            )
        xs = [as_input(x, dtype) for x, dtype in zip(inputs, dtypes, strict=True)]
        xs = self.repair_rank(xs)
        self.build([(None, *x.shape[1:]) for x in xs])
        self.check_call([x.shape for x in xs])
        if masks is None:
            return xs, None
        if not isinstance(masks, (list, tuple)) or len(masks) != len(xs):
            raise ValueError(
                f"mask: expected a list of {len(xs)}, None where an input has none, for layer "
                f"{self.name!r}, received {masks!r:.80}"
            )
        masks = [None if m is None else np.ascontiguousarray(m, bool) for m in masks]
        for mask, x in zip(masks, xs, strict=True):
            self.check_mask(mask, x.shape)
        return xs, masks

    def _by_position(self, arguments):
        if len(arguments) > len(self._positional):
            raise TypeError(
                f"layer {self.name!r} ({type(self).__name__}): expected the inputs"
                + "".join(f", {name}" for name in self._positional)
                + f" by position, received {1 + len(arguments)} arguments"
            )
        return dict(zip(self._positional, arguments, strict=False))

    def check_mask(self, mask, shape):
        """Raise ValueError unless a mask, or None, has the first axes of inputs of this shape."""
        if mask is None:
            return
        most = max(len(shape) - 1, 1)
        fits = symbolic.least_of_mask(shape) <= mask.ndim <= most
        if not fits or mask.shape != shape[: mask.ndim]:
            raise ValueError(
                f"mask: expected the first axes of inputs of shape {tuple(shape)} for layer "
                f"{self.name!r}, received shape {mask.shape}"
            )

    def repair_rank(self, x):
        """x, which models give the rank of their input where a last axis of size 1 makes it so."""
        return x

    def check_call(self, shape):
        """Raise unless an array of this shape (batch included) fits the layer as built."""
        if isinstance(shape, list):
            for place, one in enumerate(shape):
                if 0 in one:
                    raise ValueError(
                        f"inputs[{place}]: expected at least one element, received shape {one}"
                    )
            self.check_input_shape(shape)
            return
        if 0 in shape:
            raise ValueError(f"inputs: expected at least one element, received shape {shape}")
        self.check_input_shape(shape)
        expected = [None] * len(shape)
        for axis in self.fixed_axes:
            expected[axis] = self.input_shape[axis]
        if any(e not in (None, size) for e, size in zip(expected, shape, strict=True)):
            self.reject_shape(tuple(expected), shape)

    def call(self, inputs, *arguments, **kwargs):
        """What the layer computes; users' classes say it, and reach that of a layer of fastrnn
        that they are made from with super().call."""
        builtin = self._as_builtin()
        if type(builtin) is Layer:
            self._lacks("call(inputs)")
        return builtin(inputs, *arguments, **kwargs)

    def _as_builtin(self):
        """This very layer as one of the class of fastrnn that a user's class is made from."""
        cls = type(self).__mro__
        builtin = next(c for c in cls if c.__module__.startswith("fastrnn."))
        if builtin is type(self):
            return self
        view = object.__new__(builtin)
        view.__dict__ = self.__dict__
        return view

    def _forward_call(self, x, run, mask, **options):
        return self.forward(x, run, mask, **options)

    def plan(self, x, steps, run, **options):
        """Append to `steps` the calls without arguments that take what is in the array x, or in
        several, to what is in the array, or the list of them, that is returned; it may come from
        run.rooms. For inference without masks; options: keywords of this call."""
        several = isinstance(x, list)
        shape = self.compute_output_shape(
            [part.shape for part in x] if several else x.shape, **options
        )
        if isinstance(shape, list):
            ys = [run.rooms.new(s) for s in shape]
            steps.append(lambda: [*map(np.copyto, ys, self.forward(x, run, **options))])
            return ys
        y = run.rooms.new(shape)
        steps.append(lambda: np.copyto(y, self.forward(x, run, **options)))
        return y

    def gradient_array(self, variable, run):
        """Where backward writes the gradient of a weight of this layer; it is overwritten."""
        return run.gradient_array(self, variable)

    def __getstate__(self):
        """For pickle and copy: the copy is in no model, and packs its weights itself."""
        packed = {name: None for name in ("_packed", "_products") if name in self.__dict__}
        fresh = {names.engines_key(self, name): v for name, v in (("_models", ()), ("_plans", {}))}
        return {**self.__dict__, **packed, **fresh}

    # --- config ---

    def get_config(self) -> dict[str, Any]:
        """What from_config makes a layer like this of. A user's class without one is made again
        with what it was made with, where that is plain values; others have to say get_config."""
        config = {"name": self.name, "trainable": self.trainable, "dtype": "float32"}
        users = own_class(type(self))
        if users is not None and users.get_config is Layer.get_config:
            if self._said is None:
                raise NotImplementedError(
                    f"layer {self.name!r} ({users.__name__}) cannot be saved: it was made with "
                    "other than numbers, strings, bools, None and lists and dicts of these, so "
                    f"{users.__name__} has to say get_config(), whose dict from_config takes"
                )
            for name in _not_taken(users):
                if config[name] is not False:
                    del config[name]
            config |= self._said
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config):
        if own_class(cls) is None:
            return cls(**config)
        more = {name: config[name] for name in _not_taken(cls) if name in config}
        layer = cls(**{name: value for name, value in config.items() if name not in more})
        if more.get("trainable") is False:
            layer.trainable = False
        return layer

    def get_build_config(self) -> dict[str, Any] | None:
        """What build_from_config builds a layer like this of."""
        shapes = self._shapes_built_for
        if shapes is None:
            return None if self.input_shape is None else {"input_shape": self.input_shape}
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": shapes}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build the layer for the shapes that get_build_config said."""
        if "input_shape" in config:
            self.build(config["input_shape"])
        elif "shapes_dict" in config:
            self.build(**config["shapes_dict"])

    # --- files ---

    def _own_variables(self):
        """The weights of the layer that are of no layer within, in the order of files."""
        return variables_within(self) if self._says_call else self._variables

    cell_variables: Any = ()  # those of them that files have in a group of the cell

    def _filed_variables(self):
        return [v for v in self._own_variables() if v not in self.cell_variables]

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Put the layer's own weights into a dict: "0", "1", ...; users' classes may override it,
        with load_own_variables."""
        for place, variable in enumerate(self._filed_variables()):
            store[str(place)] = variable.value

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Take them from such a dict."""
        variables = self._filed_variables()
        if len(store) != len(variables):
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}): expected {len(variables)} weights, "
                f"the file has {len(store)}"
            )
        for place, variable in enumerate(variables):
            variable.assign(store[str(place)])

    def __dir__(self):
        return [name for name in super().__dir__() if name not in self._hidden_names]

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def own_class(cls) -> type | None:
    """The user's class that this is, or that it was made from for a model of a graph; None for a
    class of fastrnn."""
    cls = vars(cls).get("_made_from", cls)
    return None if cls.__module__.startswith("fastrnn.") else cls


def _said(cls, args, kwargs):
    """The arguments of a user's constructor by name with its defaults, or None where they are not
    plain values."""
    signature = inspect.signature(cls.__init__)
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    said = dict(bound.arguments)
    for place, (name, parameter) in enumerate(signature.parameters.items()):
        if parameter.kind is parameter.VAR_KEYWORD:
            said |= said.pop(name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            if said.pop(name):
                return None
        elif not place:
            del said[name]
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            return None
    for name in ("name", "trainable", "dtype"):
        said.pop(name, None)
    return copy.deepcopy(said) if _is_plain(said) else None


def _not_taken(cls):
    """What of the config of all layers a user's constructor does not take."""
    known = inspect.signature(cls.__init__).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return []
    return [name for name in ("name", "trainable", "dtype") if name not in known]


def _is_plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float))


def metrics_of(layer):
    """Those that are attributes of a user's layer, and of the layers within."""
    found = {}
    own = () if type(layer).__module__.startswith("fastrnn.") else vars(layer).values()
    for value in own:
        parts = [*value.values()] if isinstance(value, dict) else value
        for part in parts if isinstance(parts, (list, tuple)) else [value]:
            if isinstance(part, layer._Metric):
                found[part] = None
    for inner in layer.sublayers:
        found |= dict.fromkeys(metrics_of(inner))
    return [*found]


def layers_within(attributes) -> list[Layer]:
    """The layers among these attributes, and in lists and dicts of theirs, each once."""
    found: dict[Layer, None] = {}

    def look(value):
        if isinstance(value, Layer):
            found[value] = None
        elif isinstance(value, (list, tuple)):
            for part in value:
                look(part)
        elif isinstance(value, dict):
            for part in value.values():
                look(part)

    for value in attributes.values():
        look(value)
    return [*found]


def variables_within(layer) -> list[Variable]:
    """The weights of a user's layer itself: those that it added, and Variables that are attributes
    of it, those that are trained first."""
    found = dict.fromkeys(layer._variables)
    for value in vars(layer).values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, Variable):
                found[part] = None
    return sorted(found, key=lambda variable: (not variable.trainable, variable.number))


def _draws(layer) -> bool:
    """Does a call in training draw random numbers?"""
    rates = ("dropout", "recurrent_dropout", "rate", "stddev")
    own = any(is_number(value) and value for value in (vars(layer).get(name) for name in rates))
    return own or any(map(_draws, layer.sublayers))


def _handed_out(array, x):
    """An output for the user: no part of the inputs."""
    for part in x if isinstance(x, list) else (x,):
        if np.may_share_memory(array, part):
            return array.copy().view(Array)
    return array.view(Array)


def regularize_activity(layer, outputs):
    """Add what the layer's activity_regularizer says of its output to the losses of the call."""
    regularizer = layer.activity_regularizer
    if regularizer is None or isinstance(outputs, (list, tuple, dict)):
        return
    y = value_of(outputs)
    loss = regularizers.activity_loss(regularizer, y)
    if isinstance(outputs, Source) and is_recording():
        loss = outputs.then(
            np.asarray(loss, np.float32),
            lambda g: g * regularizers.activity_gradient(regularizer, y),
        )
    layer._losses_of_call.append(loss)
    if context.losses is not None:
        context.losses.append(loss)


def _regularized(variable):
    """What a weight's regularizer adds to the loss, as a step of the tape."""
    regularizer, value = variable.regularizer, variable.value
    return variable.then(
        np.asarray(regularizer(value), np.float32),
        lambda g: g * regularizers.gradient_of(regularizer, value),
    )


def _carried(inputs):
    """The masks that arrays carry, None where none does."""
    if isinstance(inputs, (list, tuple)):
        masks = [mask_of(part) for part in inputs]
        return None if all(mask is None for mask in masks) else masks
    return mask_of(inputs)


def _as_gradient(array):
    """As backward takes it, which may overwrite it."""
    return np.array(array, np.float32, order="C")


def _is_dtype(value) -> bool:
    try:
        return np.dtype(value).kind in "fiub"
    except TypeError:
        return False


def check_shape(name, shape):
    """A tuple of whole numbers >= 1, None where free."""
    if not isinstance(shape, (tuple, list)):
        raise ValueError(f"{name}: expected a tuple, received {shape!r}")
    for size in shape:
        if size is not None and (
            isinstance(size, bool) or not hasattr(size, "__index__") or size < 1
        ):
            raise ValueError(f"{name}: expected whole numbers >= 1 or None, received {shape!r}")
    return tuple(None if size is None else int(size) for size in shape)


def set_weights(owner, weights):
    """Assign a list of arrays to the weights of a layer or model, all or none."""
    if not isinstance(weights, (Iterable, np.ndarray)):
        raise ValueError(f"weights: expected a list of arrays, received {weights!r}")
    variables, weights = owner.weights, list(weights)
    if len(weights) != len(variables):
        raise ValueError(
            f"weights: expected {len(variables)} arrays for {owner.name!r}, received {len(weights)}"
        )
    arrays = [np.asarray(w) for w in weights]
    for variable, array in zip(variables, arrays, strict=True):
        if array.shape != variable.shape:
            raise ValueError(
                f"weights: expected shape {variable.shape} for {variable.path!r}, "
                f"received {array.shape}"
            )
        if array.dtype.kind not in "biuf":
            raise ValueError(f"weights: expected numbers for {variable.path!r}, got {array.dtype}")
        check_range("weights", variable.path, array)
    with Change(variables):
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)


def get_named(module, name, identifier):
    """module.get(identifier), whose errors name the argument."""
    try:
        return module.get(identifier)
    except (TypeError, ValueError) as error:
        what = name.rsplit("_", 1)[1]
        raise type(error)(f"{name}: {str(error).removeprefix(f'{what}: ')}") from None


class WeightOptions:
    """Initializer, regularizer and constraint of one kind of weight, from a layer's arguments."""

    def __init__(self, prefix, initializer, regularizer, constraint):
        self.prefix = prefix
        self.initializer = get_named(initializers, f"{prefix}_initializer", initializer)
        self.regularizer = get_named(regularizers, f"{prefix}_regularizer", regularizer)
        self.constraint = get_named(constraints, f"{prefix}_constraint", constraint)

    def add_to(self, layer, name, shape, initializer=None):
        return layer._new_weight(
            name, shape, initializer or self.initializer, self.regularizer, self.constraint
        )

    @staticmethod
    def properties(attribute):
        """Those of a layer with WeightOptions at `attribute` that give its initializer,
        regularizer and constraint, and set them for build."""

        def property_of(kind, module):
            def read(layer):
                return getattr(getattr(layer, attribute), kind)

            def write(layer, value):
                options = getattr(layer, attribute)
                setattr(options, kind, get_named(module, f"{options.prefix}_{kind}", value))

            return property(read, write)

        return (
            property_of("initializer", initializers),
            property_of("regularizer", regularizers),
            property_of("constraint", constraints),
        )

    def config(self, kinds=("initializer", "regularizer", "constraint")):
        config = {
            f"{self.prefix}_initializer": initializers.serialize(self.initializer),
            f"{self.prefix}_regularizer": regularizers.serialize(self.regularizer),
            f"{self.prefix}_constraint": constraints.serialize(self.constraint),
        }
        return {f"{self.prefix}_{kind}": config[f"{self.prefix}_{kind}"] for kind in kinds}


def config_of_weights(layer, *options):
    """The config of several WeightOptions of a layer and its activity_regularizer, in the order in
    which Keras writes it."""
    config = {}
    for kind in ("initializer", "regularizer", "constraint"):
        for of_weight in options:
            config |= of_weight.config([kind])
        if kind == "regularizer":
            of_activity = regularizers.serialize(layer.activity_regularizer)
            config["activity_regularizer"] = of_activity
    return config


names.reserve({*vars(Layer), *vars(Layer(name="layer"))})
