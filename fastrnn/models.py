"""Models: Sequential, layers one after another, and Functional, any graph of them."""

from __future__ import annotations

import collections
import itertools
import json
import warnings
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastrnn import subclassed, training
from fastrnn._public import Missing, public
from fastrnn.callbacks import History
from fastrnn.data import (
    check_batch_size,
    each,
    inputs_of,
    leaves_of,
    only_of,
    packed,
    parts_by_name,
    paths_in,
    steps_of,
)
from fastrnn.graph import Graph, masks_nothing
from fastrnn.inference import Predictor, Stepper
from fastrnn.layers import MODELS, own, serialize
from fastrnn.layers.base import (
    LACKS_AN_AXIS,
    Layer,
    layers_within,
    metrics_of,
    own_class,
    unique_name,
)
from fastrnn.layers.cells import Steps
from fastrnn.layers.core import InputLayer, Masking
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.names import keep_apart, reserve
from fastrnn.layers.operation import Operation, filled, written
from fastrnn.layers.recurrent import TakesStates
from fastrnn.layers.symbolic import Symbolic, check_text, source
from fastrnn.metrics import Mean, Metric
from fastrnn.run import Run
from fastrnn.summary import print_summary
from fastrnn.training import no_loss
from fastrnn.utils import custom_object_scope, snake_case, unknown_arguments
from fastrnn.variable import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from fastrnn._types import (
        CompileOptions,
        CustomObjects,
        Identifier,
        ModelOptions,
        Path,
        QueueOptions,
        Unpack,
        Whole,
    )
    from fastrnn.callbacks import Callback, CallbackList
    from fastrnn.optimizers import Optimizer

__all__ = ["Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model"]
public(__name__)

# Arguments of fit_generator and its like, of Keras 1 and 2, that say nothing about the result.
_OF_QUEUES = (
    *("max_queue_size", "workers", "use_multiprocessing"),
    *("max_q_size", "nb_worker", "pickle_safe"),
)


MODEL_KINDS: tuple[type, ...] = ()  # of graphs


class _Makes(type):
    """Model(inputs, outputs) makes a Sequential or a Functional, which are Models."""

    def __call__(cls, *tensors, **options):
        if cls is Model:
            return _model_between(*tensors, **options)
        return super().__call__(*tensors, **options)


class Model(Layer, metaclass=_Makes):
    """Model(inputs, outputs): the layers from `Input(...)` to outputs of layers, called on each
    other.

        inputs = Input(shape=(None,))
        x = Embedding(20000, 128)(inputs)
        x = Bidirectional(LSTM(64))(x)
        model = Model(inputs, Dense(1, activation="sigmoid")(x))

    inputs, outputs: one tensor, or lists or dicts of them; arrays are given and come likewise. The
    inputs may be outputs of layers too: the model then begins after them; models share layers. A
    chain of layers is a Sequential. What all models have is here: training, prediction, files.
    Raises ValueError where outputs need more than the inputs, TypeError for subclasses.
    Source: https://keras.io/api/models/model/
    """

    _of_tensors = False  # made by Model(inputs, outputs)?
    supports_masking = True
    _hidden_names = Layer._hidden_names | {
        "backward", "batch_dependent", "check_input_shape", "compiled_changes", "create_weights",
        "fixed_axes", "forward", "give_run", "gives_several", "gradient_array", "graph",
        "handed_out", "head_names", "input_of", "mask_makers", "metric_names", "operations",
        "own_metrics",
        "parts_of_inputs", "parts_of_outputs", "plan_unmasked", "logits_layer", "propagate",
        "reject_shape", "symbolic", "take_run", "described",
    }  # fmt: skip

    def __init__(
        self,
        inputs: Symbolic | list[Any] | tuple[Any, ...] | Mapping[str, Any] | None = None,
        outputs: Symbolic | list[Any] | tuple[Any, ...] | Mapping[str, Any] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **old: Unpack[ModelOptions],
    ):
        if inputs is not None or outputs is not None:
            kind = type(self)
            self.__class__ = _of_graph(kind)
            name = name or unique_name(snake_case(kind.__name__))
            Functional.__init__(cast("Functional", self), inputs, outputs, name, trainable)
            return
        super().__init__(name=name, trainable=trainable, **cast("Any", old))
        self._layers: list[Layer] = []
        self._graph: Any = None
        self._runs = collections.deque()
        self._predictor: Any = None
        self._compiled: Any = None  # what compile made, training.Compiled
        self.run_eagerly, self.jit_compile, self.steps_per_execution = False, "auto", 1
        self.stop_training = self.stop_evaluating = self.stop_predicting = False
        self.initial_epoch = 0
        self.history = None
        self._trainer = None  # (process, thread) that trains it

    def __init_subclass__(cls, **options):
        said = dict(vars(cls))
        super().__init_subclass__(**options)
        of_graph = issubclass(cls, MODEL_KINDS)
        if subclassed.is_users(cls) and cls._says_call and not of_graph:
            subclassed.adopt(cls, said)
        names = ("train_step", "test_step", "predict_step")
        cls._own_steps = {n for n in names if getattr(cls, n) is not getattr(Model, n)}
        computed = ("compute_loss", "compute_metrics")
        cls._steps_on_tape = any(getattr(cls, n) is not getattr(Model, n) for n in computed)
        if cls._steps_on_tape:
            cls._own_steps |= {"train_step", "test_step"}
        if subclassed.is_users(cls) and "_made_from" not in said:
            keep_apart(cls, said)

    def __call__(self, inputs, *arguments, **kwargs):
        if not self.takes_several:
            inputs = only_of(inputs)
        return super().__call__(inputs, *arguments, **kwargs)

    # --- layers ---

    gives_several = False  # is the model trained to give a list of outputs?
    _heads_are_unnamed = False  # a list of a user's model, whose losses name its logs?

    def handed_out(self, outputs):
        """The output, or the list of outputs, in the form in which the model gives it."""
        return outputs

    @property
    def layers(self) -> list[Layer]:
        return [layer for layer in self._layers if not isinstance(layer, Operation)]

    @property
    def operations(self) -> list[Layer]:
        """The layers, and the operations between them (`x + y`, fastrnn.ops), in order."""
        return list(self._layers)

    @property
    def sublayers(self):
        if own_class(type(self)) is None:
            return self._layers
        return [*dict.fromkeys([*self._layers, *layers_within(vars(self))])]

    @property
    def batch_dependent(self):
        return any(layer.batch_dependent for layer in self._layers)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        if (name is None) == (index is None):
            raise ValueError("expected one of name and index")
        if index is not None:
            layers = self.layers
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"index: expected below {len(layers)}, received {index}")
            return layers[index]
        for layer in self._layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self._layers]
        raise ValueError(f"name: expected one of {names}, received {name!r}")

    def compiled_changes(self):
        """The stack has changed: metrics and buffers start anew."""
        self._graph = None
        self._fitting = set()
        self._runs.clear()
        self._predictor = None
        if self._compiled is not None:
            self._compiled.changes()

    # --- computing ---

    def _inputs_of(self, values):
        """A list of values for the inputs, or the one of them where the model takes no list."""
        return list(values) if self.takes_several else values[0]

    def _outputs_of(self, values):
        return list(values) if type(self.output_shape) is list else values[0]

    @property
    def graph(self):
        """The calls of the layers."""
        if self._graph is None:
            self._graph = Graph.of_chain(self._layers)
        return self._graph

    @property
    def gives_float32(self):
        return self.graph.gives_float32

    @property
    def varies(self):
        return self.graph.varies

    def propagate(self, x, run, mask=None):
        """(output, mask) for a batch that fits the model, or lists of them."""
        if self.takes_several:
            ys, masks = self.graph.forward(x, run, mask)
        else:
            ys, masks = self.graph.forward([x], run, None if mask is None else [mask])
        return self._outputs_of(ys), self._outputs_of(masks)

    def forward(self, x, run, mask=None):
        return self.propagate(x, run, mask)[0]

    def backward(self, dy, run, need_dx=True):
        dys = dy if type(self.output_shape) is list else [dy]
        return self._inputs_of(self.graph.backward(dys, run, need_dx))

    def plan(self, x, steps, run):
        xs = x if self.takes_several else [x]
        if self.varies:
            self._check_plan(x)
            return super().plan(x, steps, run)
        makers = [] if run.states else self.mask_makers()
        if not makers:
            return self.plan_unmasked(x, steps, run)
        if any(type(la) not in (Embedding, Masking) or place is None for la, place in makers):
            return super().plan(x, steps, run)
        unmasked = []
        y = self.plan_unmasked(x, unmasked, run)
        if isinstance(y, list) and _overlap([*xs, *y]):
            return super().plan(x, steps, run)

        def step():
            if all(masks_nothing(layer, xs[place]) for layer, place in makers):
                for one in unmasked:
                    one()
            elif isinstance(y, list):
                for kept, output in zip(y, self.forward(x, run), strict=True):
                    np.copyto(kept, output)
            else:
                np.copyto(y, self.forward(x, run))

        steps.append(step)
        return y

    def _check_plan(self, x):
        """Raise ValueError where the outputs have no shape before the values are known."""
        shape = self.compute_output_shape(each(np.shape, x))
        if any(None in part for part in (shape if isinstance(shape, list) else [shape])):
            layer = next(call.layer for call in self.graph.calls if call.layer.varies)
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}): expected output_sequence_length "
                "for compile_inference, as the shape of the model's output follows the text"
            )

    def plan_unmasked(self, x, steps, run):
        """plan for inputs of which no layer masks a step."""
        return self._outputs_of(self.graph.plan(x if self.takes_several else [x], steps, run))

    def mask_makers(self):
        return self.graph.mask_makers()

    def create_weights(self, input_shape):
        self._lacks("call(inputs)")

    def compile_inference(self) -> Predictor:
        """A Predictor: call it with a batch for the outputs, at the lowest latency."""
        self.build(None)
        return Predictor(self, prepare=True)

    def stream(self, streams: Whole = 1) -> Stepper:
        """A Stepper: feed it the next time steps of so many streams at once, for their outputs."""
        self.build(None)
        return Stepper(self, streams)

    def take_run(self):
        """A Run of its own for one thread's inference; give it back with give_run."""
        try:
            return self._runs.pop()
        except IndexError:
            return Run()

    def give_run(self, run):
        if len(self._runs) < 16:
            self._runs.append(run)

    # --- training ---

    def compile(
        self,
        optimizer: str | Mapping[str, Any] | Optimizer | type[Optimizer] | None = "rmsprop",
        loss: Identifier | Sequence[Identifier] = None,
        loss_weights: Any = None,
        metrics: Identifier | Sequence[Any] = None,
        weighted_metrics: Identifier | Sequence[Any] = None,
        run_eagerly: bool = False,
        steps_per_execution: Whole | str = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
        **kwargs: Unpack[CompileOptions],
    ) -> None:
        """Set optimizer, loss and metrics, by name, config or object. steps_per_execution: of how
        many steps callbacks are told at once. run_eagerly, jit_compile and Keras 1's class_mode
        are accepted and change nothing; metrics may be the third argument, as in Keras 2."""
        self._between_trainings("compile")
        for old in ("sample_weight_mode", "class_mode"):
            kwargs.pop(old, None)  # type: ignore[misc]
        if kwargs:
            raise TypeError(unknown_arguments(self.compile, kwargs))
        if metrics is None and _are_metrics(loss_weights):  # the third argument of Keras 2
            loss_weights, metrics = None, loss_weights
        self._compile(optimizer, loss, loss_weights, metrics, weighted_metrics, steps_per_execution)
        self.run_eagerly, self.jit_compile = run_eagerly, jit_compile
        self.steps_per_execution = self._compiled.steps_per_execution

    def _compile(
        self, optimizer, loss, loss_weights, metrics, weighted_metrics, steps_per_execution
    ):
        self._how_compiled = loss, loss_weights, metrics, weighted_metrics, steps_per_execution
        if self._says_call and not self.built:  # how many outputs there are is seen later
            structured = isinstance(loss, (list, tuple, dict)) and len(loss) > 1
            loss, metrics = (None, None) if structured else (loss, metrics)
            loss_weights = None
        if self.gives_several:
            self._compiled = training.CompiledSeveral(
                self, optimizer, loss, loss_weights, metrics, weighted_metrics, steps_per_execution
            )
        else:
            if loss_weights not in (None, 1, 1.0, [1], [1.0]):
                raise ValueError(f"loss_weights: the model has one loss, received {loss_weights!r}")
            loss = self._of_output("loss", loss)
            metrics = self._of_output("metrics", metrics)
            weighted_metrics = self._of_output("weighted_metrics", weighted_metrics)
            self._compiled = training.Compiled(
                self, optimizer, loss, metrics, weighted_metrics, steps_per_execution
            )

    def _compile_again(self):
        """For a model of which only now is known how many outputs it has."""
        if self.gives_several:
            self._compile(self._compiled.optimizer, *self._how_compiled)

    def _between_trainings(self, method):
        if self._trainer is not None:
            raise RuntimeError(
                f"model {self.name!r} is being trained: call {method} before or after that"
            )

    def _of_output(self, name, given):
        """What a dict by the output's name holds for it."""
        if not isinstance(given, dict) or not given or "class_name" in given:
            return given
        expected = self._output_name()
        if [*given] != [expected]:
            raise ValueError(
                f"{name}: expected a dict with the name of the output, {expected!r}, received "
                f"{[*given]}"
            )
        return given[expected]

    def _output_name(self):
        return self._layers[-1].name if self._layers else None

    @property
    def optimizer(self) -> Optimizer:
        return self._compiled and self._compiled.optimizer

    @optimizer.setter
    def optimizer(self, optimizer: str | Mapping[str, Any] | Optimizer | None) -> None:
        training.need_compiled(self).optimizer = training.optimizers.get(optimizer)

    @property
    def loss(self) -> Any:
        return self._compiled and self._compiled.loss

    @property
    def compiled(self) -> bool:
        """Has compile been called?"""
        return self._compiled is not None

    @property
    def metrics(self) -> list[Metric]:
        """The running mean of the loss, and the metrics once a batch has been seen."""
        own = self.own_metrics()
        if self._compiled is None:
            return own
        if self._own_steps:
            return [*self._compiled.trackers(), *own]
        means = []
        for name, head in self._compiled.losses():
            mean = Mean(name)
            mean.total, mean.count = head.loss_sum, float(head.samples)
            means.append(mean)
        return [*means, *(metric for _, metric in self._compiled.all_metrics()), *own]

    def own_metrics(self) -> list[Metric]:
        """Those that are attributes of the user's layers and models."""
        return metrics_of(self)

    @property
    def metrics_names(self) -> list[str]:
        if self._compiled is None:
            return ["loss"]
        return self._compiled.listed()

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: Whole | None = None,
        epochs: Whole = 1,
        verbose: str | int = "auto",
        callbacks: Callback | CallbackList | Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[Any, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: Whole = 0,
        steps_per_epoch: Whole | None = None,
        validation_steps: Whole | None = None,
        validation_batch_size: Whole | None = None,
        validation_freq: int | Sequence[int] | set[int] = 1,
        nb_epoch: Whole | None = None,
        **queues: Unpack[QueueOptions],
    ) -> History:
        """Train, and return a History; Ctrl-C ends it after the batch.

        x (samples, ...) and y, or an iterable of batches (x, y[, sample_weight]); batch_size
        default 32; sample_weight (samples) or (samples, timesteps); nb_epoch is the older name of
        epochs; queues are workers and others of Keras 2, which change nothing.
        Source: https://keras.io/api/models/model_training_apis/"""
        _check_queues(self.fit, queues)
        if nb_epoch is not None:
            epochs = nb_epoch
        return training.fit(
            self, x, y, batch_size, epochs, verbose, callbacks, validation_split, validation_data,
            shuffle, class_weight, sample_weight, initial_epoch, steps_per_epoch, validation_steps,
            validation_batch_size, validation_freq,
        )  # fmt: skip

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: Whole | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: Whole | None = None,
        callbacks: Callback | CallbackList | Sequence[Callback] | None = None,
        return_dict: bool = False,
        **queues: Unpack[QueueOptions],
    ) -> float | list[float] | dict[str, float]:
        """The loss, or [loss, metrics...], or a dict by name, over all samples."""
        _check_queues(self.evaluate, queues)
        logs = self._with_one_set_of_weights(
            lambda: training.evaluate(
                self, x, y, batch_size, verbose, sample_weight, steps, callbacks
            ),
            x,
            callbacks,
        )
        return self._results(logs, return_dict)

    def predict(
        self,
        x: Any,
        batch_size: Whole | None = None,
        verbose: str | int = "auto",
        steps: Whole | None = None,
        callbacks: Callback | CallbackList | Sequence[Callback] | None = None,
        **queues: Unpack[QueueOptions],
    ) -> np.ndarray:
        """Outputs for all samples, (samples, ...), float32, or a list of them if the last layer has
        several; several threads may call it at once."""
        if queues:
            _check_queues(self.predict, queues)
        plain = not verbose and not callbacks and steps is None and self.built and not self.varies
        plain = plain and "predict_step" not in self._own_steps
        if plain and _are_few(x if self.takes_several else [x], check_batch_size(batch_size)):
            if self._predictor is None:
                self._predictor = Predictor(self)
            return self._predictor(x)
        return self._with_one_set_of_weights(
            lambda: training.predict(self, x, batch_size, verbose, steps, callbacks), x, callbacks
        )

    def _with_one_set_of_weights(self, compute, x, callbacks):
        """compute(), again if another thread changed weights meanwhile. What cannot be repeated (an
        iterable's batches, users' callbacks, states) sees one set in each batch."""
        if callbacks or self.has_states or not isinstance(x, (np.ndarray, list, tuple, dict)):
            return compute()
        return whole(self.weights, compute)

    def train_on_batch(
        self,
        x: ArrayLike,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | None = None,
        return_dict: bool = False,
        reset_metrics: bool = True,
    ) -> float | list[float] | dict[str, float]:
        """One update on one batch: the loss, or [loss, metrics...]. reset_metrics=False gives
        running means over the calls."""
        compiled = training.need_compiled(self, optimizer=True)
        with training.only_trainer(self):
            if reset_metrics:
                self.reset_metrics()
            batch = training.one_batch(self, x, y, sample_weight, "train_step")
            (x, y, sample_weight), *_ = batch
            sample_weight = training.class_weights(
                y, class_weight, sample_weight, self.output_shape
            )
            compiled = self._compiled
            if "train_step" in self._own_steps:
                training.own_step(self, "train_step", x, y, sample_weight)
            else:
                compiled.prepare(self)
                training.train_step(self, x, y, sample_weight)
        return self._results(compiled.logs(), return_dict)

    def test_on_batch(
        self, x: ArrayLike, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> float | list[float] | dict[str, float]:
        compiled = training.need_compiled(self)
        (x, y, sample_weight), *_ = training.one_batch(self, x, y, sample_weight, "test_step")
        compiled = self._compiled
        self.reset_metrics()
        if "test_step" in self._own_steps:
            training.own_step(self, "test_step", x, y, sample_weight)
        else:
            run = self.take_run()
            training.test_step(self, x, y, sample_weight, run)
            self.give_run(run)
        return self._results(compiled.logs(), return_dict)

    def predict_on_batch(self, x: ArrayLike) -> np.ndarray:
        return self.predict(inputs_of(self, x), 2**62, verbose=0)

    def reset_metrics(self) -> None:
        if self._compiled is not None:
            self._compiled.reset()
        for metric in self.metrics if self._own_steps else self.own_metrics():
            metric.reset_state()

    # --- steps, which users' classes may override ---

    make_train_function: Any = Missing("fit calls train_step, which a class of one's own may say")
    make_test_function: Any = Missing("evaluate calls test_step, which a class may say")
    make_predict_function: Any = Missing("predict calls predict_step, which a class may say")
    distribute_strategy: Any = Missing("a model trains on the CPUs of one process")
    get_state_tree: Any = Missing("get_weights, and optimizer.state(), give all that changes")
    set_state_tree: Any = Missing("set_weights, and optimizer.set_state, set all that changes")
    stateless_compute_loss: Any = Missing("compute_loss has the loss of outputs")

    _own_steps: Any = frozenset()  # the names of those that a user's class says itself
    _steps_on_tape = False  # does a user's class say compute_loss or compute_metrics?

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on a batch, x or (x, y) or (x, y, sample_weight); what logs show of it."""
        if self._steps_on_tape:
            return training.taped_step(self, data, True)
        x, y, weight = training.checked_batch(self, data)
        self._compiled.prepare(self)
        training.train_step(self, x, y, weight)
        return self._compiled.logs()

    def test_step(self, data: Any) -> dict[str, Any]:
        """The same without an update."""
        if self._steps_on_tape:
            return training.taped_step(self, data, False)
        x, y, weight = training.checked_batch(self, data)
        run = self.take_run()
        training.test_step(self, x, y, weight, run)
        self.give_run(run)
        return self._compiled.logs()

    def predict_step(self, data: Any) -> Any:
        """The outputs of a batch."""
        x = data[0] if isinstance(data, tuple) else data
        return self(x, training=False)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of compile for these outputs, and what regularizers and add_loss add."""
        added = self.losses
        if self._compiled.loss is None and not added:
            raise ValueError(no_loss(self))
        total = self._compiled.loss_of(self, y, y_pred, sample_weight)
        for term in added:
            total = total + term
        return total

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """What the metrics of compile are after this batch, with the loss's mean."""
        _, *compiled = self._compiled.trackers()
        for metric in compiled:
            metric.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """The results of all metrics by name."""
        return training.flat_logs({metric.name: metric.result() for metric in self.metrics})

    def compiled_loss(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, regularization_losses: Any = None
    ) -> Any:
        """The loss of compile, as Keras 2 spells it, plus the losses that it is given."""
        total = self._compiled.loss_of(self, y_true, y_pred, sample_weight)
        self._compiled.trackers()[0].update_state(np.asarray(total), sample_weight=None)
        for term in regularization_losses or ():
            total = total + term
        return total

    @property
    def compiled_metrics(self) -> Metric:
        """The metrics of compile as one, as Keras 2 spells it."""
        return self._compiled.trackers()[-1]

    def _results(self, logs, return_dict):
        if return_dict:
            return logs
        if self._own_steps and self._compiled.own_logs is not None:  # in the order of the metrics
            names = [*training.flat_logs({m.name: m.result() for m in self.metrics})]
            names = [name for name in names if name in logs]
            logs = {name: logs[name] for name in [*names, *sorted({*logs} - {*names})]}
        elif self._compiled.metrics_first:
            logs = {name: logs[name] for name in [*self._compiled.listed(), *logs]}
        results = list(logs.values())
        return results if len(results) > 1 else results[0]

    def reset_states(self) -> None:
        """Forget the states of stateful layers."""
        for layer in self._layers:
            inner = getattr(layer, "layer", layer)
            for candidate in (layer, inner):
                if hasattr(candidate, "reset_states"):
                    candidate.reset_states()
                    break

    reset_state = reset_states

    # --- older names, of Keras 1 and 2 ---

    def predict_proba(
        self, x: Any, batch_size: Whole | None = None, verbose: str | int = 0
    ) -> np.ndarray:
        """The older name of predict."""
        return self.predict(x, batch_size, verbose)

    def predict_classes(
        self, x: Any, batch_size: Whole | None = None, verbose: str | int = 0
    ) -> np.ndarray:
        """Class numbers: argmax of the last axis, or output > 0.5 where that axis has size 1."""
        y = self.predict(x, batch_size, verbose)
        return y.argmax(axis=-1) if y.shape[-1] > 1 else (y > 0.5).astype("int32")

    def fit_generator(
        self,
        generator: Iterable[Any],
        steps_per_epoch: Whole | None = None,
        epochs: Whole = 1,
        *,
        samples_per_epoch: Whole | None = None,
        nb_val_samples: Whole | None = None,
        **options: Any,
    ) -> History:
        """fit for an iterable of batches. Keras 1's samples_per_epoch and nb_val_samples count
        samples; the arguments of queues and processes are accepted and change nothing."""
        if samples_per_epoch is not None:
            steps_per_epoch, generator = steps_of(generator, samples_per_epoch)
        held = options.get("validation_data")
        if nb_val_samples is not None and not isinstance(held, (tuple, list, type(None))):
            options["validation_steps"], options["validation_data"] = steps_of(held, nb_val_samples)
        return self.fit(generator, steps_per_epoch=steps_per_epoch, epochs=epochs, **options)

    def evaluate_generator(
        self,
        generator: Iterable[Any],
        steps: Whole | None = None,
        *,
        val_samples: Whole | None = None,
        **options: Any,
    ) -> float | list[float] | dict[str, float]:
        """evaluate for an iterable of batches; see fit_generator."""
        if val_samples is not None:
            steps, generator = steps_of(generator, val_samples)
        return self.evaluate(generator, steps=steps, **{"verbose": 0, **options})

    def predict_generator(
        self,
        generator: Iterable[Any],
        steps: Whole | None = None,
        *,
        val_samples: Whole | None = None,
        **options: Any,
    ) -> np.ndarray:
        """predict for an iterable of batches; see fit_generator."""
        if val_samples is not None:
            steps, generator = steps_of(generator, val_samples)
        return self.predict(generator, steps=steps, **{"verbose": 0, **options})

    # --- looking ---

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print a table of the layers, their output shapes and parameter counts."""
        print_summary(self, line_length, positions, print_fn, **kwargs)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: CustomObjects = None) -> Model:
        """The model of a functional or sequential model's config, or of a user's class."""
        from fastrnn.saving.config import Loader

        users = own_class(cls)
        if users is not None:
            return Loader(custom_objects).by_default(users, dict(config))
        name = "Functional" if "input_layers" in config else "Sequential"
        return Loader(custom_objects).model({"class_name": name, "config": config})

    # --- copies and files ---

    def __reduce__(self):
        """For pickle and copy, which keep the weights and how the model is compiled, with the
        state of its optimizer."""
        from fastrnn.saving import pickling

        return pickling.reduce(self)

    def described(self) -> dict[str, Any]:
        """The class and config in the form in which Keras writes them."""
        return serialize(self)

    def to_json(self, **kwargs: Any) -> str:
        """The architecture, without weights, as JSON text; kwargs are json.dumps's."""
        return json.dumps(serialize(self), **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of compile in Keras's form, {} where it was not called."""
        from fastrnn.saving import config

        return config.plain_compile_config(self) or {}

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compile the model as get_compile_config said."""
        from fastrnn.saving.config import Loader

        Loader().compile_plainly(self, dict(config))

    def save(
        self,
        filepath: Path,
        overwrite: bool = True,
        include_optimizer: bool = True,
        self_test: ArrayLike | None = None,
        tolerance: float | None = None,
        save_format: str | None = None,
    ) -> None:
        """Save the whole model to a .keras or .h5 file (fastrnn.saving.save_model)."""
        from fastrnn import saving

        saving.save_model(
            self, filepath, overwrite, include_optimizer, self_test, tolerance, save_format
        )

    def export(self, filepath: Path, format: str = "onnx") -> None:
        """Write the model to a file for other runtimes (fastrnn.to_onnx); "onnx" is the format."""
        if format != "onnx":
            raise ValueError(f"format: expected 'onnx', received {format!r}")
        from fastrnn.interop import to_onnx

        to_onnx(self, filepath)

    def save_weights(
        self, filepath: Path, overwrite: bool = True, save_format: str | None = None
    ) -> None:
        """Save to a .weights.h5, .h5 or .safetensors file (fastrnn.saving.save_weights)."""
        from fastrnn import saving

        saving.save_weights(self, filepath, overwrite, save_format)

    def load_weights(
        self, filepath: Path, skip_mismatch: bool = False, by_name: bool = False
    ) -> None:
        """Take the weights in a file (fastrnn.saving.load_weights)."""
        from fastrnn import saving

        saving.load_weights(self, filepath, skip_mismatch, by_name)


class Sequential(Model):
    """A stack of layers, each with one input and, except for the last, one output.

    If the last layer has several outputs (return_state, merge_mode=None), the model returns the
    list of them, and cannot be trained.
    layers: a list of layers; an Input, or input_shape on the first layer, makes the model build at
    once, otherwise it builds on its first data. A Sequential is itself a layer and may be added to
    another. Source: https://keras.io/api/models/sequential/
    """

    def __init__(
        self,
        layers: Sequence[Layer | Symbolic] | None = None,
        trainable: bool = True,
        name: str | None = None,
    ):
        super().__init__(name=name, trainable=trainable)
        self._input_layer: Any = None
        self._tensors: list[Symbolic] = []  # what the model gets, what the first layer gives, ...
        for layer in layers or ():
            self.add(layer)

    # --- layers ---

    @property
    def input_dtype(self):
        if not self._layers:
            return np.float32
        said = self._input_layer and own.declared(source(self._input_layer, ()))
        of_users = said is not None and self._layers[0]._says_call
        return said.type if of_users else self._layers[0].input_dtype

    @property
    def output_dtype(self):
        return self._layers[-1].output_dtype if self._layers else "float32"

    def add(self, layer: Layer | Symbolic) -> None:
        """Put a layer on top of the stack."""
        self._between_trainings("add")
        tensor = None
        if isinstance(layer, Symbolic) and isinstance(layer.layer, InputLayer):
            tensor, layer = layer, layer.layer
        if not isinstance(layer, Layer):
            raise ValueError(f"layer: expected a layer, received {layer!r}")
        if layer is self or self in _models_within(layer):
            raise ValueError(f"layer: expected another model than {self.name!r} itself")
        if isinstance(layer, InputLayer):
            if self._layers or self._input_layer:
                raise ValueError("an Input has to be the first entry of a Sequential")
            self._input_layer = layer
            self._tensors = [] if tensor is None else [tensor]
            return
        if any(layer is other or layer.name == other.name for other in self._layers):
            raise ValueError(f"layer: expected a name of its own, received {layer.name!r} again")
        if not self._layers and self._input_layer is None and layer.batch_input_shape is not None:
            self._input_layer = _input_of(layer, layer.batch_input_shape)
        if not self._layers and isinstance(layer, Sequential) and layer._input_layer:
            self._input_layer = self._input_layer or layer._input_layer
        was_built = self.built
        self._layers.append(layer)
        self.built = False
        self.compiled_changes()
        if was_built or self._input_layer is not None:
            try:
                self.build(self.input_shape or self._input_layer.batch_input_shape)
            except ValueError:
                self._layers.pop()
                self.built = was_built
                raise
        layer._joins(self)

    def pop(self) -> Layer:
        """Remove the last layer and return it."""
        self._between_trainings("pop")
        if not self._layers:
            raise TypeError("pop: there are no layers in the model")
        layer = self._layers.pop()
        del self._tensors[1 + len(self._layers) :]
        self.compiled_changes()
        if self.built and self._layers:
            self.output_shape = self._layers[-1].output_shape
        elif not self._layers:
            self.built, self.input_shape, self.output_shape = False, None, None
        return layer

    def symbolic(self, last=None):
        """What the layer `last` puts out (default: what the model gets), to be given to Model."""
        self.build()
        if self._input_layer is None:
            self._input_layer = _input_of(self, self.input_shape)
        if not self._tensors:
            self._tensors = [source(self._input_layer, self._input_layer.batch_input_shape)]
        wanted = 0 if last is None else self._layers.index(last) + 1
        while len(self._tensors) <= wanted:
            layer = self._layers[len(self._tensors) - 1]
            self._tensors.append(layer(self._tensors[-1]))
        return self._tensors[wanted]

    def _has_tensors(self):
        if not self.built and (self._input_layer is None or not self._layers):
            raise AttributeError(
                f"model {self.name!r} has no inputs and outputs before it has an Input and layers, "
                "or is built"
            )

    @property
    def input(self):
        self._has_tensors()
        return self.symbolic()

    @property
    def output(self):
        self._has_tensors()
        return self.symbolic(self._layers[-1]) if self._layers else self.input

    @property
    def inputs(self):
        return [self.input]

    @property
    def outputs(self):
        output = self.output
        return output if isinstance(output, list) else [output]

    def input_of(self, layer):
        place = self._layers.index(layer)
        return self.symbolic(self._layers[place - 1] if place else None)

    def logits_layer(self, place=0):
        """The layer whose activation, the network's last operation, a loss may take over."""
        return self._layers[-1]

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        if self.built:
            return
        if input_shape is None:
            if self._input_layer is None:
                raise ValueError("input_shape: expected a shape, as the model has no Input")
            input_shape = self._input_layer.batch_input_shape
        if not self._layers:
            raise ValueError(f"model {self.name!r} has no layers")
        super().build(tuple(input_shape))

    def create_weights(self, input_shape):
        shape, below = input_shape, None
        dtype = (self._input_layer or _input_of(self, input_shape)).output_dtype
        for layer in self._layers:
            if isinstance(shape, list):
                raise ValueError(
                    f"layer {layer.name!r}: expected one input, received the {len(shape)} outputs "
                    "of the layer below"
                )
            check_text(layer, [dtype])
            dtype = layer.output_dtype
            try:
                if layer.built:
                    layer.check_input_shape(shape)
                layer.build(shape)
            except ValueError as error:
                hint, text = "", str(error).removesuffix(LACKS_AN_AXIS)
                if below is None:
                    raise
                if not getattr(below, "return_sequences", True):
                    hint = f"; with return_sequences=True, {below.name!r} gives all time steps"
                raise ValueError(text + hint) from None
            shape = layer.output_shape = layer.compute_output_shape(shape)
            below = layer

    def compute_output_shape(self, input_shape):
        for layer in self._layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def __call__(self, inputs, *arguments, mask=None, training=None, **kwargs):
        if isinstance(inputs, dict):
            (inputs,) = self.parts_of_inputs("inputs", inputs)
        return super().__call__(inputs, *arguments, mask=mask, training=training, **kwargs)

    def parts_of_inputs(self, name, given):
        """A list of what a dict by the input's name, and by others, has for it."""
        expected = self._input_layer.name if self._input_layer else None
        if expected not in given:
            raise ValueError(
                f"{name}: expected an array, or a dict with the name of the input, {expected!r}, "
                f"received a dict of {[*given]}"
            )
        return [given[expected]]

    def repair_rank(self, x):
        declared = self._input_layer.batch_input_shape if self._input_layer else self.input_shape
        if declared is None or x.ndim == len(declared):
            return x
        return _repaired(x, declared)

    def check_call(self, shape):
        if self._input_layer is not None:
            declared = self._input_layer.batch_input_shape
            if not _fits(shape, declared):
                lacks_batch = _fits(shape, declared[1:])
                self.reject_shape(declared, shape, "; x[None] is one sample" * lacks_batch)
        for layer in self._layers:
            layer.check_call(shape)
            shape = layer.compute_output_shape(shape)

    def get_config(self) -> dict[str, Any]:
        layers = [serialize(layer) for layer in self._layers]
        if self._input_layer is not None:
            layers.insert(0, serialize(self._input_layer))
        config = {**(self._said or {}), "name": self.name, "trainable": self.trainable}
        config |= {"dtype": "float32", "layers": layers}
        if self.input_shape is not None:
            config["build_input_shape"] = self.input_shape
        return config

    def described(self) -> dict[str, Any]:
        """The class and config in the form in which Keras writes them."""
        described = {
            "module": "keras",
            "class_name": "Sequential",
            "config": self.get_config(),
            "registered_name": None,
        }
        if self.input_shape is not None:  # Keras takes one with any build_config for a built one
            described["build_config"] = {"input_shape": self.input_shape}
        return described

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | Sequence[Any], custom_objects: CustomObjects = None
    ) -> Model:
        """A model from get_config's dict, Keras's, or the bare list of layers of Keras 1 and 2."""
        from fastrnn.saving.config import Loader

        users = own_class(cls)
        if users is not None:
            return Loader(custom_objects).by_default(users, dict(config))
        return Loader(custom_objects).model({"class_name": "Sequential", "config": config})


class Functional(Model):
    """The model of a graph of layers, which Model(inputs, outputs) makes. inputs and outputs are
    one tensor each, or lists, or dicts; arrays are given and come likewise, and for a list may also
    be given as a dict by the names of the `Input`s. The attributes inputs and outputs have what is
    in a dict in the order of its keys, as Keras."""

    _of_tensors = True

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, trainable: bool = True):
        super().__init__(name=name or unique_name("functional"), trainable=trainable)
        self.inputs, self.outputs = _tensors("inputs", inputs), _tensors("outputs", outputs)
        self._structures = inputs, outputs
        self.takes_several = isinstance(inputs, (list, tuple, dict))
        self.gives_several = isinstance(outputs, (list, tuple, dict))
        listed = type(outputs) is list and all(isinstance(part, Symbolic) for part in outputs)
        self._gives_plainly = listed or not self.gives_several
        self._graph = Graph.between(self.inputs, self.outputs)
        starts = {
            tensor.layer: tensor.layer
            if isinstance(tensor.layer, InputLayer)
            else InputLayer(batch_shape=tensor.shape, dtype=_dtype_of(tensor))
            for tensor in self.inputs
        }
        self._layers = [starts.get(layer, layer) for layer in self._graph.layers]
        names = collections.Counter(layer.name for layer in self._layers)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"outputs: expected layers with names of their own, received {twice}")
        self.input_names = [starts[tensor.layer].name for tensor in self.inputs]
        self.output_names = [tensor.name for tensor in self.outputs]
        self._paths = paths_in(inputs), paths_in(outputs)
        self._part_names = _names_of(self._paths[0], self.input_names)
        self.head_names = _names_of(self._paths[1], self.output_names)
        nested = any(len(path) > 1 for path in self._paths[1])
        self.metric_names = self.output_names if nested else self.head_names
        self.input_shape = self._inputs_of([tensor.shape for tensor in self.inputs])
        shapes = [tensor.shape for tensor in self.outputs]
        self.output_shape = shapes if self.gives_several else shapes[0]
        self.built = True
        for layer in self._layers:
            layer._joins(self)

    def parts_of_inputs(self, name, given):
        """A list of what a list, dict or other structure has for each of the inputs."""
        names = self._part_names
        if isinstance(given, dict) and len(given) > len(names) and given.keys() >= {*names}:
            given = {part: given[part] for part in names}  # as Keras, which takes what it needs
        parts = parts_by_name(name, given, names, self._paths[0])
        if missing := [n for n, part in zip(names, parts, strict=True) if part is None]:
            raise ValueError(f"{name}: expected arrays for {names}, received none for {missing}")
        return parts

    def parts_of_outputs(self, name, given):
        """The same for the outputs, None where a dict has nothing."""
        return parts_by_name(name, given, self.head_names, self._paths[1])

    def handed_out(self, outputs):
        return outputs if self._gives_plainly else packed(self._structures[1], outputs)

    @property
    def input(self):
        return self._structures[0]

    @property
    def output(self):
        return self._structures[1]

    @property
    def input_dtype(self):
        """Of each input that of its readers, if all take the same; int32 of indices."""
        dtypes = [_dtype_for(self._graph.dtypes(slot)) for slot in self._graph.inputs]
        return self._inputs_of(dtypes)

    @property
    def output_dtype(self):
        dtypes = [tensor.dtype for tensor in self.outputs]
        return dtypes if self.gives_several else dtypes[0]

    def symbolic(self, last):
        """What the layer `last` puts out in its first call."""
        node = self._first_call(last)
        return [*node.outputs] if node.several else node.outputs[0]

    def _first_call(self, layer):
        calls = (node for node in self._graph.nodes if node.layer is layer)
        return min(calls, key=lambda node: node.number)

    def input_of(self, layer):
        node = self._first_call(layer)
        if not node.inputs:
            return node.outputs[0]
        return node.inputs[0] if node.single else [*node.inputs]

    def logits_layer(self, place=0):
        slot = self._graph.outputs[place]
        (call,) = [call for call in self._graph.calls if slot in call.outputs] or [None]
        alone = self._graph.readers[slot] == 1
        return call.layer if call and alone and not call.number and not call.several else None

    def _output_name(self):
        return self.output_names[0]

    def build(self, input_shape: Any = None) -> None:
        pass

    def __call__(self, inputs, *arguments, **kwargs):
        if self.takes_several or isinstance(inputs, dict):
            inputs = self._inputs_of(self.parts_of_inputs("inputs", inputs))
        return self.handed_out(super().__call__(inputs, *arguments, **kwargs))

    def compute_output_shape(self, input_shape):
        if isinstance(input_shape, dict):
            shapes = self._graph.shapes(self.parts_of_inputs("input_shape", input_shape))
            return self.handed_out(self._outputs_of(shapes))
        given = input_shape if self.takes_several else [input_shape]
        return self._outputs_of(self._graph.shapes(given))

    def check_call(self, shape):
        shapes = shape if self.takes_several else [shape]
        if len(shapes) != len(self.inputs):
            raise ValueError(
                f"inputs: expected {len(self.inputs)} arrays, {self.input_names}, received "
                f"{len(shapes)}"
            )
        for given, tensor, name in zip(shapes, self.inputs, self.input_names, strict=True):
            if 0 in given:
                raise ValueError(f"inputs: expected at least one element, received shape {given}")
            if not _fits(given, tensor.shape):
                raise ValueError(
                    f"input {name!r} of {self.name!r}: expected shape {tensor.shape}, received "
                    f"{tuple(given)}"
                )
        self._graph.shapes(shapes, check=True)

    def repair_rank(self, x):
        if self.takes_several:
            return [_repaired(a, t.shape) for a, t in zip(x, self.inputs, strict=True)]
        return _repaired(x, self.inputs[0].shape)

    # --- looking ---

    @property
    def weights(self):
        return [*dict.fromkeys(super().weights)]  # those of a shared layer once

    @property
    def trainable_weights(self):
        return [*dict.fromkeys(super().trainable_weights)]

    variables, trainable_variables = weights, trainable_weights

    def get_config(self) -> dict[str, Any]:
        users = own_class(type(self))
        if users is not None and not subclassed.is_made_of_tensors(users):
            return super().get_config()
        pairs = zip(self.inputs, self.input_names, strict=True)
        where = {tensor: [name, 0, 0] for tensor, name in pairs}
        ends = dict(where)
        nodes = collections.defaultdict(list)
        for node, number in self._graph.call_numbers().items():
            nodes[node.layer].append(node)
            for tensor in node.outputs:
                where[tensor] = [node.layer.name, number, tensor.place]
                from_1 = isinstance(node.layer, Functional)
                ends[tensor] = [node.layer.name, number + from_1, tensor.place]  # as Keras has it

        def described(tensor):
            history = {"shape": tensor.shape, "dtype": tensor.dtype, "keras_history": where[tensor]}
            return {"class_name": "__keras_tensor__", "config": history}

        entries = []
        for layer in self._layers:
            inbound = []
            for node in nodes[layer]:
                args, kwargs = _arguments(node, described)
                if kwargs.get("training") is False:
                    kwargs["training"] = 0  # Keras 3 writes False where nothing was said
                inbound.append({"args": written(args), "kwargs": written(kwargs)})
            entries.append({**serialize(layer), "name": layer.name, "inbound_nodes": inbound})
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": entries,
            "input_layers": packed(self.input, [where[tensor] for tensor in self.inputs]),
            "output_layers": packed(self.output, [ends[tensor] for tensor in self.outputs]),
        }

    def described(self) -> dict[str, Any]:
        """The class and config in the form in which Keras writes them."""
        return {
            "module": "keras.src.models.functional",
            "class_name": "Functional",
            "config": self.get_config(),
            "registered_name": "Functional",
            "build_config": {"input_shape": None},
        }


def _model_between(
    inputs=None, outputs=None, name=None, trainable=True, *, input=None, output=None, **old
):
    """The Sequential of a chain of layers, or the Functional of another graph."""
    if old:
        raise TypeError(f"Model: unknown arguments {sorted(old)}")
    inputs = inputs if input is None else input
    outputs = outputs if output is None else output
    starts, ends = _tensors("inputs", inputs), _tensors("outputs", outputs)
    # As Keras, which takes lists of one for it.
    inputs = starts[0] if isinstance(inputs, (list, tuple)) and [*inputs] == starts[:1] else inputs
    outputs = ends[0] if isinstance(outputs, (list, tuple)) and [*outputs] == ends[:1] else outputs
    tensors = None
    if len(ends) == 1 and not _is_structure(inputs) and not _is_structure(outputs):
        tensors = Graph.between(starts, ends).chain()
    if tensors is None:
        return Functional(inputs, outputs, name, trainable)
    model = Sequential(name=name or unique_name("functional"), trainable=trainable)
    is_input = isinstance(starts[0].layer, InputLayer)
    model.add(
        starts[0]
        if is_input
        else InputLayer(batch_shape=starts[0].shape, dtype=_dtype_of(starts[0]))
    )
    for tensor in tensors:
        model.add((tensor[0] if isinstance(tensor, list) else tensor).layer)
    if is_input:
        model._tensors += tensors
    model._of_tensors = True
    return model


def _input_of(layer, shape):
    """An InputLayer for a layer that is the first of a model."""
    return InputLayer(batch_shape=shape, dtype="string" if layer.input_dtype is object else None)


def _dtype_of(tensor):
    return "string" if tensor.dtype == "string" else None


def _dtype_for(wanted):
    """One for all readers: theirs, int32 for several whole ones, else float32."""
    if len(wanted) == 1:
        return next(iter(wanted))
    whole_numbers = wanted and all(dtype in (np.int32, np.int64) for dtype in wanted)
    return np.int32 if whole_numbers else np.float32


def _repaired(x, declared):
    """x with a last axis of size 1 more or less, where that gives it the declared rank."""
    if x.ndim == len(declared) + 1 and x.shape[-1] == 1:
        return x[..., 0]
    if x.ndim == len(declared) - 1 and declared[-1] == 1:
        return x[..., None]
    return x


def _models_within(layer):
    for inner in layer.sublayers:
        yield inner
        yield from _models_within(inner)


def _are_few(arrays, samples) -> bool:
    """Are these arrays of one number of samples, at most so many, and small?"""
    if type(arrays) is not list:
        return False
    count, size = -1, 0
    for array in arrays:
        if type(array) is not np.ndarray or not array.ndim or count not in (-1, len(array)):
            return False
        count = len(array)
        size += array.size
    return count <= samples and size <= 65536


def _are_metrics(given) -> bool:
    listed = given if isinstance(given, (list, tuple)) else ()
    return any(isinstance(metric, str) or callable(metric) for metric in listed)


def _overlap(arrays) -> bool:
    return any(np.may_share_memory(a, b) for a, b in itertools.combinations(arrays, 2))


def _fits(shape, declared) -> bool:
    return len(shape) == len(declared) and all(
        size in (None, given) for size, given in zip(declared, shape, strict=True)
    )


def _is_structure(tensors):
    """Is this a dict, or more than a list of tensors?"""
    return isinstance(tensors, dict) or any(len(path) > 1 for path in paths_in(tensors))


def _names_of(paths, names):
    """What losses and arrays are called at these paths, for the names of the tensors' layers."""
    named = [
        path if path and isinstance(path[-1], str) else (*path[:-1], name)
        for path, name in zip(paths, names, strict=True)
    ]
    return ["/".join(map(str, path)) for path in named]


def _tensors(name, given):
    tensors = leaves_of(given)
    if not tensors or not all(isinstance(tensor, Symbolic) for tensor in tensors):
        raise ValueError(
            f"{name}: expected Input(...) or the output of a layer, received {given!r}"
        )
    return tensors


def _check_queues(method, options):
    if options.pop("show_accuracy", False):  # of Keras before 1.0
        warnings.warn(
            "show_accuracy changes nothing: give compile metrics=['accuracy']", stacklevel=3
        )
    unknown = options.keys() - set(_OF_QUEUES)
    if unknown:
        raise TypeError(unknown_arguments(method, unknown))


MODEL_KINDS += (Sequential, Functional)
reserve({*vars(Model), *vars(subclassed.Subclassed), *vars(Sequential(name="sequential"))})
MODELS |= {"Sequential": Sequential, "Functional": Functional}


def save_model(
    model: Sequential,
    filepath: Path,
    overwrite: bool = True,
    include_optimizer: bool = True,
    save_format: str | None = None,
) -> None:
    """model.save(filepath)."""
    model.save(filepath, overwrite, include_optimizer, save_format=save_format)


def load_model(
    filepath: Path,
    custom_objects: CustomObjects = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Model:
    """The model in a .keras or .h5 file (fastrnn.saving.load_model)."""
    from fastrnn import saving

    return saving.load_model(filepath, custom_objects, compile, safe_mode)


def model_from_json(json_string: str | bytes, custom_objects: CustomObjects = None) -> Model:
    """A model, with new weights, from what to_json of fastrnn or any Keras gave."""
    from fastrnn.saving import config

    parsed = config.parse(json_string, "json_string")
    return config.Loader(custom_objects, config.keras_version(parsed)).model(parsed)


def clone_model(
    model: Model,
    input_tensors: Symbolic | Sequence[Any] | Mapping[str, Any] | None = None,
    clone_function: Callable[[Layer], Layer] | None = None,
    call_function: Callable[..., Any] | None = None,
    recursive: bool = False,
) -> Model:
    """A model of the same layers, with new weights, compiled as the model is, with a new optimizer.

    input_tensors: what it begins with, in the form of model.input. clone_function(layer): the layer
    in a layer's place, asked once for each. call_function(layer, *args, **kwargs): what a layer of
    Model(inputs, outputs) gives. recursive: in inner models too. As keras.models.clone_model."""
    if not isinstance(model, Model):
        raise ValueError(f"model: expected a model, received {model!r}")
    users, changes = own_class(type(model)), (input_tensors, clone_function, call_function)
    if users is not None:
        of_graph = isinstance(model, Functional) and subclassed.is_made_of_tensors(users)
        changed = any(change is not None for change in changes)
        if not isinstance(model, MODEL_KINDS) or not (of_graph or changed):
            return _clone_user(model, *changes)
    clones: dict[Layer, Layer] = {}

    def clone_of(layer):
        if layer not in clones:
            if recursive and isinstance(layer, Model):
                of_graph = call_function if layer._of_tensors else None
                clones[layer] = clone_model(layer, None, clone_function, of_graph, True)
            elif clone_function is None:
                clones[layer] = _copied(layer)
            else:
                clones[layer] = clone_function(layer)
            if not isinstance(clones[layer], Layer):
                raise ValueError(
                    f"clone_function: expected it to return a layer, received {clones[layer]!r}"
                )
        return clones[layer]

    if call_function is not None and not model._of_tensors:
        raise ValueError(f"call_function: expected None for {model.name!r}, a chain of layers")
    if isinstance(model, Functional) or call_function is not None:
        clone = _clone_graph(model, input_tensors, clone_of, call_function)
    else:
        clone = _clone_chain(model, input_tensors, clone_of)
    if model.compiled:
        from fastrnn.saving import pickling

        pickling.compile_as(clone, model)
    return clone


def _clone_user(model, *changes):
    """A model that says `call` is made again by its own class."""
    if any(change is not None for change in changes):
        raise ValueError(
            f"model {model.name!r} ({type(model).__name__}): input_tensors, clone_function and "
            "call_function are of models of a graph; the class says what it computes in call"
        )
    from fastrnn.saving import pickling

    with custom_object_scope(pickling.own_objects(model)):
        clone = type(model).from_config(model.get_config())
    if model.built and not clone.built:
        clone.build_from_config(model.get_build_config())
    if model.compiled:
        pickling.compile_as(clone, model)
    return clone


def _clone_chain(model, input_tensors, clone_of):
    clone = Sequential(name=model.name, trainable=model.trainable)
    clone._of_tensors = model._of_tensors
    if input_tensors is not None:
        start, *others = _tensors("input_tensors", input_tensors)
        if others:
            raise ValueError(f"input_tensors: expected one, received {1 + len(others)}")
        clone.add(start)
    elif model._input_layer is not None:
        clone.add(InputLayer.from_config(model._input_layer.get_config()))
    for layer in model.layers:
        clone.add(clone_of(layer))
    if model.built and not clone.built:
        clone.build(model.input_shape)
    return clone


def _clone_graph(model, input_tensors, clone_of, call_function):
    if isinstance(model, Functional):
        users = own_class(type(model))
        own_way = users is not None and subclassed.is_made_of_tensors(users)
        graph, kind = model._graph, users if own_way else Functional
        inputs = [model.get_layer(name) for name in model.input_names]
    else:
        graph, kind = Graph.between(model.inputs, model.outputs), Model
        inputs = [model._input_layer]
    if input_tensors is not None:
        starts = input_tensors
        if isinstance(model, Functional):
            starts = model.parts_of_inputs("input_tensors", starts)
        starts = _tensors("input_tensors", starts)
        if len(starts) != len(inputs):
            raise ValueError(f"input_tensors: expected {len(inputs)}, received {len(starts)}")
    else:
        made = [InputLayer.from_config(layer.get_config()) for layer in inputs]
        starts = [source(layer, layer.batch_shape) for layer in made]
    found = dict(zip(model.inputs, starts, strict=True))
    calls = graph.call_numbers()
    for node in graph.nodes:
        if node in calls:
            clone_of(node.layer)
    for node in calls:
        layer = clone_of(node.layer)
        args, kwargs = _arguments(node, found.__getitem__)
        outputs = (
            layer(*args, **kwargs)
            if call_function is None
            else call_function(layer, *args, **kwargs)
        )
        found |= zip(node.outputs, leaves_of(outputs), strict=True)
    ends = packed(model.output, [found[tensor] for tensor in model.outputs])
    clone = kind(packed(model.input, starts), ends, name=model.name)
    if not model.trainable:
        clone.trainable = False
    return clone


def _arguments(node, change):
    """What a call like the node's gets, (args, kwargs), with change(tensor) for tensors."""
    layer, args, kwargs = node.layer, [*map(change, node.inputs)], {**node.options}
    if node.masks:
        masks = [mask if mask is None else change(mask) for mask in node.masks]
        kwargs["mask"] = masks[0] if node.single else masks
    if node.training is not None:
        kwargs["training"] = node.training
    if "call" in kwargs:
        args, kwargs = filled(kwargs.pop("call"), args), kwargs
        args, kwargs = args[0], {**args[1], **kwargs}
    elif isinstance(layer, Operation):
        args = [*filled(kwargs.pop("args"), args)]
    elif isinstance(layer, Steps):
        args = [args[0], layer.grouped(args[1:])]
    elif isinstance(layer, TakesStates) and not node.single:
        args, kwargs["initial_state"] = args[:1], layer.grouped(args[1:])
    elif layer._tensors_by_name:
        kwargs |= dict(zip(("attention_mask",), args[3:], strict=False))
        args = args[:3]
    elif not node.single:
        args = [packed(layer.input, args) if isinstance(layer, Functional) else args]
    return args, kwargs


def _of_graph(kind):
    """The class of models of a user's class that are made of inputs and outputs."""
    if "_class_of_graph" not in vars(kind):
        members = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        members |= {"_made_from": kind, "_class_of_graph": None}
        kind._class_of_graph = type(kind)(kind.__name__, (kind, Functional), members)
    return kind._class_of_graph


def _copied(layer):
    return clone_model(layer) if isinstance(layer, Model) else layer.from_config(layer.get_config())
