"""The training loop: fit, evaluate and predict as functions over a model."""

import collections
import contextlib
import inspect
import itertools
import operator
import os
import signal
import threading
import warnings
import weakref

import numpy as np

from fastrnn import _engine, activations, checks, losses, metrics, optimizers
from fastrnn._public import public
from fastrnn.arrays import as_array
from fastrnn.callbacks import CallbackList, Logs
from fastrnn.data import (
    ArrayBatches,
    batches,
    built_for,
    check_batch_size,
    class_weights,
    each,
    inputs_of,
    packed,
    samples_in,
    samples_of,
    shape_of,
    targets_of,
    weights_of,
)
from fastrnn.layers import own
from fastrnn.layers.base import WeightOptions, check_size, mask_of
from fastrnn.layers.core import Activation
from fastrnn.layers.crf import CRF
from fastrnn.layers.dense import Dense
from fastrnn.layers.wrappers import TimeDistributed
from fastrnn.process import fork_safe
from fastrnn.progress import write
from fastrnn.regularizers import gradient_of
from fastrnn.run import Run
from fastrnn.tape import of, value_of
from fastrnn.variable import Change, Store, whole

__all__ = ["loss_and_gradients"]
public(__name__)


class Head:
    """The loss and the metrics of one output, and their state while training."""

    def __init__(self, loss, metric_names, weighted_metrics):
        while isinstance(loss, (list, tuple)) and len(loss) == 1:
            (loss,) = loss
        self.loss = loss if loss in ("crossentropy", "ce") else losses.resolve(loss, (1,), (1,))
        self.metrics = [(m, False) for m in _flat(metric_names)]
        self.metrics += [(m, True) for m in _flat(weighted_metrics)]
        for metric, _ in self.metrics:
            metrics.check(metric)
        self.resolved = None
        self.loss_sum, self.samples = 0.0, 0

    def loss_for(self, y, output_shape):
        """The loss; "crossentropy" is one of three, depending on shapes."""
        if self.loss is None:
            return _NoLoss()
        if isinstance(self.loss, str):
            self.loss = losses.resolve(self.loss, y.shape, output_shape)
        return self.loss

    def resolve(self, y, y_pred):
        """The metric objects, once shapes are known ("accuracy" depends on them), each with a name
        of its own: auc, auc_1, weighted_auc, weighted_auc_1; with whether it is weighted, and
        whether it may keep what it gets."""
        self.resolved, seen = [], collections.Counter()
        for identifier, weighted in self.metrics:
            metric = metrics.resolve(identifier, y.shape, y_pred.shape)
            name = metric.name
            if weighted and seen[name]:
                name = f"weighted_{name}"
            seen[name] += 1
            metric.name = name if seen[name] == 1 else f"{name}_{seen[name] - 1}"
            self.resolved.append((metric, weighted, _may_keep(metric)))

    def reset(self):
        self.loss_sum, self.samples = 0.0, 0
        for metric, *_ in self.resolved or ():
            metric.reset_state()

    def update(self, value, y, y_pred, sample_weight, mask):
        samples = len(y_pred)
        self.loss_sum += value * samples
        self.samples += samples
        self.update_metrics(y, y_pred, sample_weight, mask)

    def update_metrics(self, y, y_pred, sample_weight, mask):
        if not self.metrics or y is None:
            return
        if self.resolved is None:
            self.resolve(y, y_pred)
        for metric, weighted, keeps in self.resolved:
            weight = sample_weight if weighted else None
            more = (mask,) if mask is not None and getattr(metric, "uses_mask", False) else ()
            given = (y.copy(), y_pred.copy()) if keeps else (y, y_pred)
            metric.update_state(*given, weight, *more)

    def mean_loss(self):
        return self.loss_sum / max(self.samples, 1)


def _may_keep(metric):
    """May a metric, of the user's own, hold arrays longer than a batch, which the next reuses?"""
    makers = type(metric), getattr(metric, "_fn", Head)
    modules = [getattr(maker, "__module__", None) or "" for maker in makers]
    return not all(module.startswith("fastrnn.") for module in modules)


class Compiled(Head):
    """What compile gives a model of one output: optimizer, loss and metrics, and their state."""

    metrics_first = False  # does evaluate list metrics before the losses of outputs?

    def __init__(
        self, model, optimizer, loss, metric_names, weighted_metrics, steps_per_execution=1
    ):
        super().__init__(loss, metric_names, weighted_metrics)
        self._model = weakref.ref(model)
        self.optimizer = optimizers.get(optimizer)
        if steps_per_execution == "auto":
            steps_per_execution = 1
        self.steps_per_execution = check_size("steps_per_execution", steps_per_execution)
        self.store = None
        self.notice = None  # a warning for the first training
        self.own_logs = None  # what a user's step has returned
        self._trackers = None
        self.run = Run(training=True)

    def prepare(self, model):
        """Put the weights that are trained into one flat store."""
        if self.notice is not None:
            notice, self.notice = self.notice, None
            warnings.warn(notice, stacklevel=4)
        variables = model.trainable_weights
        store = self.store
        if store is None or not all(v.store is store for v in variables):
            for other in {id(v.store): v.store for v in variables if v.store}.values():
                other.release()
            self.store = Store(variables)
            self.run.walks.clear()

    def changes(self):
        """The model has other layers: metrics, buffers and the weights' place start anew."""
        self.resolved, self.store, self.run = None, None, Run(training=True)

    def check_targets(self, model, y, x_shape):
        loss = self.loss_for(y, model.output_shape)
        shape = model.compute_output_shape(x_shape)
        if isinstance(shape, list):
            raise ValueError(
                f"model {model.name!r}: expected one output to train or evaluate, the last layer "
                f"has {len(shape)}; Model(inputs, outputs) makes a model of these that can be"
            )
        samples = samples_in(x_shape)
        loss.check_shapes(np.shape(y), (samples, *shape[1:]))

    def losses(self):
        """(name, what has its mean) of the losses that logs show."""
        return [("loss", self)]

    def all_metrics(self):
        """(name, metric) of the metrics that have seen a batch."""
        return [(metric.name, metric) for metric, *_ in self.resolved or ()]

    def trackers(self):
        """The mean of the loss and the metrics of compile, for users' steps to update."""
        if self._trackers is None:
            self._trackers = [metrics.Mean("loss")]
            self._trackers += [CompileMetrics(self)] if self.has_metrics() else []
        return self._trackers

    def has_metrics(self):
        return bool(self.metrics)

    def loss_of(self, model, y, y_pred, sample_weight):
        """The loss of outputs, on the tape while one is open."""
        if self.loss is None:
            return np.float32(0)
        y = np.asarray(value_of(of(y)))
        loss = self.loss_for(y, np.shape(value_of(y_pred)))
        return loss(y, y_pred, sample_weight)

    def update_all(self, y, y_pred, sample_weight):
        weight = None if sample_weight is None else np.asarray(value_of(sample_weight))
        self.update_metrics(
            np.asarray(value_of(of(y))), np.asarray(value_of(y_pred)), weight, mask_of(y_pred)
        )

    def logs(self):
        if self.own_logs is not None:
            return Logs(**self.own_logs)
        logs = Logs(**{name: head.mean_loss() for name, head in self.losses()})
        for name, metric in self.all_metrics():
            result = metric.result()
            logs[name] = float(result) if np.ndim(result) == 0 else result
        own = {metric.name: metric.result() for metric in self._model().own_metrics()}
        logs.update(flat_logs(own))
        return logs

    def listed(self):
        """The names of what evaluate gives, in the order of its list."""
        losses, found = self.losses(), self.all_metrics()
        if self.metrics_first:
            losses, found = losses[:1], [*found, *losses[1:]]
        return [*(name for name, _ in losses), *(name for name, _ in found)]


class CompileMetrics(metrics.Metric):
    """The metrics of compile as one, for users' steps; its result is a dict."""

    def __init__(self, compiled):
        super().__init__(name="compile_metrics")
        self._compiled = compiled

    def update_state(self, y_true, y_pred, sample_weight=None):
        self._compiled.update_all(y_true, y_pred, sample_weight)

    def result(self):
        return {name: metric.result() for name, metric in self._compiled.all_metrics()}

    def reset_state(self):
        for _, metric in self._compiled.all_metrics():
            metric.reset_state()

    reset_states = reset_state


class CompiledSeveral(Compiled):
    """What compile gives a model of a list or dict of outputs: a Head for each, and the loss, which
    is the sum of theirs times loss_weights."""

    def __init__(
        self, model, optimizer, loss, loss_weights, metric_names, weighted_metrics, steps=1
    ):
        super().__init__(model, optimizer, None, None, None, steps)
        names = self.names = model.head_names
        self.prefixes = [f"{name}_" for name in model.metric_names]
        if len(names) == 1 or model._heads_are_unnamed:
            self.prefixes = [""] * len(names)
        one = loss is None or isinstance(loss, str) or not isinstance(loss, (list, tuple, dict))
        if isinstance(loss, dict) and "class_name" in loss:
            one = True
        self.given_loss = loss
        structure = model._structures[1]
        named = isinstance(structure, dict) and {*names} == {*structure}
        order = [*loss] if named and not one and isinstance(loss, dict) else []
        order += [name for name in (structure if named else names) if name not in order]
        parts = [loss] * len(names) if one else model.parts_of_outputs("loss", loss)
        weights = [1.0] * len(names)
        if loss_weights is not None:
            given = [loss_weights] * len(names)
            if isinstance(loss_weights, (list, tuple, dict)):
                given = model.parts_of_outputs("loss_weights", loss_weights)
            weights = [1.0 if w is None else checks.number("loss_weights", w) for w in given]
        self.loss_weights = weights
        kinds = []
        for name, given in (("metrics", metric_names), ("weighted_metrics", weighted_metrics)):
            if len(names) == 1:
                kinds.append([given])
            else:
                kinds.append(model.parts_of_outputs(name, given) if given else [None] * len(names))
        self.heads = [Head(*head) for head in zip(parts, *kinds, strict=True)]
        self.loss_names = self.names
        self.metrics_first = model._heads_are_unnamed
        if model._heads_are_unnamed:  # Keras then calls them after their losses
            self.loss_names = _numbered([_name_of(loss) for loss in parts])
        self.loss = [head.loss for head in self.heads] if any(parts) else None
        self._listed = [names.index(name) for name in order]

    def changes(self):
        super().changes()
        for head in self.heads:
            head.resolved = None

    def check_targets(self, model, y, x_shape):
        shapes = model.compute_output_shape(x_shape)
        samples = samples_in(x_shape)
        for name, head, part, shape in zip(self.names, self.heads, y, shapes, strict=True):
            if head.loss is None:
                continue
            if part is None:
                raise ValueError(f"y: expected targets for output {name!r}, received None")
            try:
                head.loss_for(part, shape).check_shapes(np.shape(part), (samples, *shape[1:]))
            except ValueError as error:
                raise ValueError(f"output {name!r}: {error}") from None

    def has_metrics(self):
        return any(head.metrics for head in self.heads)

    def loss_of(self, model, y, y_pred, sample_weight):
        ys, weights = targets_of(model, y), weights_of(model, sample_weight)
        preds = model.parts_of_outputs("y_pred", y_pred)
        weights = weights or [None] * len(preds)
        total = np.float32(0)
        parts = zip(self.heads, ys, preds, weights, self.loss_weights, strict=True)
        for head, target, pred, weight, factor in parts:
            if head.loss is not None:
                loss = head.loss_for(target, np.shape(value_of(pred)))
                total = total + np.float32(factor) * loss(target, pred, weight)
        return total

    def update_all(self, y, y_pred, sample_weight):
        model = self._model()
        ys, weights = targets_of(model, y), weights_of(model, sample_weight)
        preds = model.parts_of_outputs("y_pred", y_pred)
        weights = weights or [None] * len(preds)
        for head, target, pred, weight in zip(self.heads, ys, preds, weights, strict=True):
            head.update_metrics(target, np.asarray(value_of(pred)), weight, mask_of(pred))

    def losses(self):
        """In the order in which the dict of losses, or else that of outputs, was written."""
        heads = [(f"{self.loss_names[place]}_loss", self.heads[place]) for place in self._listed]
        with_loss = [(name, head) for name, head in heads if head.loss is not None]
        return [("loss", self), *(with_loss if len(with_loss) > 1 else ())]

    def all_metrics(self):
        """In the order of their names, as Keras lists what evaluate found; where outputs have no
        names in that of the outputs."""
        pairs = zip(self.prefixes, self.heads, strict=True)
        pairs = [(prefix, metric) for prefix, head in pairs for metric, *_ in head.resolved or ()]
        names = _numbered([f"{prefix}{metric.name}" for prefix, metric in pairs])
        found = [(name, metric) for name, (_, metric) in zip(names, pairs, strict=True)]
        sorts = len(self.heads) > 1 and self.prefixes[0]
        return sorted(found, key=operator.itemgetter(0)) if sorts else found

    def reset(self):
        super().reset()
        for head in self.heads:
            head.reset()

    def update(self, values, y, y_pred, sample_weight, mask):
        """values: the loss, then those of the outputs."""
        samples = len(y_pred[0])
        self.loss_sum += values[0] * samples
        self.samples += samples
        nothing = [None] * len(self.heads)
        parts = (values[1:], y or nothing, y_pred, sample_weight or nothing, mask)
        for head, *part in zip(self.heads, *parts, strict=True):
            head.update(*part)


def _name_of(loss):
    return (
        loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", "loss"))
    )


def _numbered(names):
    """The names, those that come again with a number."""
    seen = collections.Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[place] = f"{name}_{seen[name] - 1}"
    return names


def _flat(entries):
    if entries is None:
        return []
    if isinstance(entries, dict):
        entries = list(entries.values())
    if not isinstance(entries, (list, tuple)):
        return [entries]
    return [m for entry in entries for m in _flat(entry)]


def need_compiled(model, optimizer=False):
    """What compile gave the model, a loss at least, and an optimizer too where it says so."""
    compiled = model._compiled
    free = compiled is not None and (model._own_steps or model._says_call)
    if compiled is None or (compiled.loss is None and not free and not _has_losses(model)):
        raise RuntimeError(
            f"model {model.name!r}: call compile(optimizer=..., loss=...) before training or "
            "evaluating"
        )
    if optimizer and model._compiled.optimizer is None:
        raise RuntimeError(
            f"model {model.name!r} was compiled with optimizer=None: call "
            "compile(optimizer=..., loss=...) before training"
        )
    return model._compiled


_entering = fork_safe(threading.Lock())


@contextlib.contextmanager
def only_trainer(model):
    """Raise RuntimeError where another thread trains the model; this one may do so within."""
    me, outer = (os.getpid(), threading.get_ident()), None
    with _entering:
        outer = model._trainer
        if outer is not None and outer != me and outer[0] == me[0]:
            raise RuntimeError(
                f"model {model.name!r}: another thread is training it; train one model in one "
                "thread at a time, or clones of it (fastrnn.models.clone_model)"
            )
        model._trainer = me
    try:
        yield
    finally:
        model._trainer = outer if outer == me else None


class _NoLoss:
    """That of a model compiled without one, which what its layers add trains."""

    fused_activation = None

    def check_shapes(self, targets, outputs):
        pass

    def __call__(self, y_true, y_pred, sample_weight=None, mask=None):
        return 0.0

    def value_and_gradient(self, y_true, y_pred, sample_weight=None, mask=None):
        return 0.0, np.zeros_like(y_pred)


def _has_losses(layer):
    """Whether the layer has regularizers, or a `call` of the user's own, which may add losses."""
    options = (value for value in vars(layer).values() if isinstance(value, WeightOptions))
    return (
        layer._says_call
        or layer.activity_regularizer is not None
        or any(option.regularizer is not None for option in options)
        or any(_has_losses(inner) for inner in layer.sublayers)
    )


def _need_loss(model, run):
    """Raise ValueError where neither compile nor a layer gave a loss."""
    if model._compiled.loss is None and not run.losses:
        if all(variable.regularizer is None for variable in model.trainable_weights):
            raise ValueError(no_loss(model))


def no_loss(model):
    return (
        f"model {model.name!r}: there is no loss: expected one in compile(loss=...), or that a "
        "layer's `call` adds one by self.add_loss(...)"
    )


def _need_targets(model, y):
    if y is None and model._compiled.loss is not None:
        raise ValueError("y: expected targets for training or evaluating, received None")


def _check(model, x, y, step):
    """Build the model for a batch, and raise ValueError unless the batch fits it and its loss. A
    step that a user's class says itself sees to that."""
    if step in model._own_steps:
        return
    _need_targets(model, y)
    model.build(built_for(x))
    shape = shape_of(x)
    model.check_call(shape)
    model._compiled.check_targets(model, y, shape)


def _logits_layer(model, activation, place=0):
    """The layer whose activation, the last operation of an output, the loss can take over."""
    if activation is None:
        return None
    layer = model.logits_layer(place)
    if activation == losses.CRFLoss.fused_activation:
        suits = isinstance(layer, CRF) and layer.activity_regularizer is None
        return layer if suits else None
    while isinstance(layer, TimeDistributed) and layer.activity_regularizer is None:
        layer = layer.layer
    suits = isinstance(layer, (Dense, Activation)) and layer.activity_regularizer is None
    return layer if suits and layer.activation is getattr(activations, activation) else None


def _losses(model, x, y, sample_weight, run, propagate, gradient=True):
    """Forward, for which it sets run.logits_of, and losses: (the loss, or the list of it and those
    of the outputs; y_pred; where wanted the gradient of the outputs; mask), lists for a model that
    gives several."""
    compiled = model._compiled
    if model.gives_several:
        return _several_losses(model, x, y, sample_weight, run, propagate, gradient)
    loss = compiled.loss_for(y, model.output_shape)
    fused = _logits_layer(model, loss.fused_activation)
    run.logits_of = () if fused is None else (fused,)
    out, mask = propagate()
    return *_loss(loss, y, out, sample_weight, mask, fused, run, gradient), mask


def _loss(loss, y, out, sample_weight, mask, fused, run, gradient):
    """(value, y_pred, gradient of out or None). fused: the layer whose activation the loss takes
    over, or None."""
    if fused is not None:
        kept = None
        if isinstance(fused, Dense):  # which needs no more what it has put out
            kept = run.empty(fused, "y_pred", out.shape)
        return loss.fused(y, out, sample_weight, mask, gradient, kept)
    if gradient:
        value, dy = loss.value_and_gradient(y, out, sample_weight, mask)
        return value, out, dy
    return float(loss(y, out, sample_weight, mask)), out, None


def _several_losses(model, x, y, sample_weight, run, propagate, gradient):
    compiled = model._compiled
    count = len(compiled.heads)
    y, weights = y or [None] * count, sample_weight or [None] * count
    found, fused = [], []
    for place, head in enumerate(compiled.heads):
        loss = head.loss_for(y[place], model.output_shape[place])
        found.append(loss)
        fused.append(_logits_layer(model, loss.fused_activation, place))
    fused = [layer if fused.count(layer) == 1 else None for layer in fused]
    run.logits_of = tuple(layer for layer in fused if layer is not None)
    outs, masks = propagate()
    values, y_pred, dys = [0.0], [], []
    for place, head in enumerate(compiled.heads):
        if head.loss is None:
            value, pred, dy = 0.0, outs[place], None
        else:
            value, pred, dy = _loss(
                found[place], y[place], outs[place], weights[place], masks[place],
                fused[place], run, gradient,
            )  # fmt: skip
        factor = compiled.loss_weights[place]
        if dy is not None and factor != 1.0:
            dy *= np.float32(factor)
        values[0] += factor * value
        values.append(value)
        y_pred.append(pred)
        dys.append(dy)
    return values, y_pred, dys, masks


def _gradients(model, x, y, sample_weight, need_dx=False):
    """Forward, loss and backward: fills the store's gradients; returns (loss, y_pred, mask, dx),
    the loss with those of the outputs where there are several."""
    compiled = model._compiled
    run = compiled.run
    run.losses.clear(), run.updates.clear()
    run.ends = None if need_dx else model.graph
    found, y_pred, dy, mask = _losses(
        model, x, y, sample_weight, run, lambda: model.propagate(x, run)
    )
    value = found[0] if model.gives_several else found
    if model.gives_several and any(part is None for part in dy):
        compiled.store.gradients[...] = 0  # of layers that no loss depends on
    _need_loss(model, run)
    for term in run.losses:
        value += term
    dx = model.backward(dy, run, need_dx)
    for variable in compiled.store.variables:
        if variable.regularizer is not None:
            value += float(variable.regularizer(variable.value))
            variable.gradient += gradient_of(variable.regularizer, variable.value)
    return [value, *found[1:]] if model.gives_several else value, y_pred, mask, dx


def flat_logs(logs):
    """Logs of numbers, with those of dicts in them beside the others."""
    found = {}
    for name, value in logs.items():
        if isinstance(value, dict):
            found |= flat_logs(value)
        else:
            found[name] = float(value) if np.ndim(value) == 0 else np.asarray(value)
    return found


def checked_batch(model, data):
    """(x, y, sample_weight) of what a user's step passes on."""
    parts = data if isinstance(data, tuple) else (data,)
    x, y, weight = (*parts, None, None)[:3]
    x, y, weight = inputs_of(model, x), targets_of(model, y), weights_of(model, weight)
    _need_targets(model, y)
    model.build(built_for(x))
    return x, y, weight


def taped_step(model, data, training):
    """A step by compute_loss and compute_metrics, of which a user's class says one."""
    parts = data if isinstance(data, tuple) else (data,)
    x, y, weight = (*parts, None, None)[:3]
    options = {"x": x, "y": y, "sample_weight": weight}
    if "training" in inspect.signature(model.compute_loss).parameters:
        options["training"] = training
    with optimizers.GradientTape() if training else contextlib.nullcontext() as tape:
        y_pred = model(x, training=training)
        loss = model.compute_loss(y_pred=y_pred, **options)
    model._compiled.trackers()[0].update_state(loss, sample_weight=samples_of(own.leaves(x)))
    if training and (weights := model.trainable_variables):
        model.optimizer.apply(tape.gradient(loss, weights), weights)
    return model.compute_metrics(x, y, y_pred, sample_weight=weight)


def _as_given(model, x):
    """Inputs, copied, in the form in which the model takes them."""
    x = as_array(each(np.copy, x))
    if model.takes_several and model._says_call:
        return packed(model._structures[0], x)
    if model.takes_several and isinstance(getattr(model, "input", None), dict):
        return packed(model.input, x)
    return x


def own_step(model, name, x, y, weight):
    """A user's step on a batch."""
    x = _as_given(model, x)
    y, weight = (as_array(each(np.copy, part)) for part in (y, weight))
    data = x if y is None else (x, y) if weight is None else (x, y, weight)
    logs = getattr(model, name)(data)
    if not isinstance(logs, dict):
        raise ValueError(f"{name}: expected a dict of results by name, received {logs!r:.80}")
    try:
        model._compiled.own_logs = flat_logs(logs)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers by name, received {logs!r:.80}") from None


def train_step(model, x, y, sample_weight):
    """One update of the weights; adds to the running loss and metrics."""
    compiled = model._compiled
    compiled.own_logs = None
    value, y_pred, mask, _ = _gradients(model, x, y, sample_weight)
    compiled.update(value, y, y_pred, sample_weight, mask)
    store, run = compiled.store, compiled.run
    changed = [store]
    if run.updates:
        changed += [variable for variable, *_ in run.updates]
    with Change(changed):
        compiled.optimizer.update(store)
        for variable in store.variables:
            if variable.constraint is not None:
                variable.value[...] = variable.constraint(variable.value)
        run.apply_updates()


def _infer(model, x, run):
    """The model's (output, mask) with one whole set of weights."""

    def propagate():
        run.losses.clear()
        return model.propagate(x, run)

    return propagate() if model.has_states else whole(model.weights, propagate)


def test_step(model, x, y, sample_weight, run):
    model._compiled.own_logs = None
    found, y_pred, _, mask = _losses(
        model, x, y, sample_weight, run, lambda: _infer(model, x, run), gradient=False
    )
    run.logits_of = ()
    _need_loss(model, run)
    more = sum(run.losses) + sum(
        float(v.regularizer(v.value)) for v in model.trainable_weights if v.regularizer is not None
    )
    found = [found[0] + more, *found[1:]] if model.gives_several else found + more
    model._compiled.update(found, y, y_pred, sample_weight, mask)


def loss_and_gradients(model, x, y, sample_weight=None):
    """The loss of a compiled model on one batch in training mode, the gradient of each trainable
    weight, and that of x (None for integer inputs); nothing is updated but batch statistics."""
    compiled = need_compiled(model)
    with only_trainer(model):
        (x, y, sample_weight), *_ = one_batch(model, x, y, sample_weight)
        compiled.prepare(model)
        need_dx = type(x) is list or x.dtype == np.float32
        value, _, _, dx = _gradients(model, x, y, sample_weight, need_dx)
        value = value[0] if model.gives_several else value
        with Change([variable for variable, *_ in model._compiled.run.updates]):
            model._compiled.run.apply_updates()
    gradients = [v.gradient.copy() for v in model.trainable_weights]
    return value, gradients, each(np.copy, dx)


def one_batch(model, x, y, sample_weight, step=None):
    """All of the arrays as one batch, checked as the step, by default of no class of the user's,
    needs it."""
    if step not in model._own_steps:
        _need_targets(model, y)
    whole = ArrayBatches(x, y, sample_weight, 2**62, False, model)
    _check(model, whole.x, whole.y, step)
    return whole


# --- fit ------------------------------------------------------------------------------------------


def fit(model, *arguments):
    need_compiled(model, optimizer=True)
    with only_trainer(model):
        return _fit(model, *arguments)


def _fit(
    model, x, y, batch_size, epochs, verbose, callbacks, validation_split, validation_data, shuffle,
    class_weight, sample_weight, initial_epoch, steps_per_epoch, validation_steps,
    validation_batch_size, validation_freq,
):  # fmt: skip
    compiled, own_train = need_compiled(model), "train_step" in model._own_steps
    for name, count in (("epochs", epochs), ("initial_epoch", initial_epoch)):
        if isinstance(count, bool) or not hasattr(count, "__index__") or count < 0:
            raise ValueError(f"{name}: expected a whole number >= 0, received {count!r}")
    checks.count("steps_per_epoch", steps_per_epoch, 1)
    checks.count("validation_steps", validation_steps, 1)
    _check_frequency(validation_freq)
    if validation_batch_size is not None:
        try:
            check_batch_size(validation_batch_size)
        except ValueError as error:
            raise ValueError(f"validation_{error}") from None
    validation = None
    if validation_data is not None:
        validation = _validation_batches(
            validation_data, validation_batch_size or batch_size, model, validation_steps
        )
    elif validation_split:
        (x, y, sample_weight), held = _split(model, x, y, sample_weight, validation_split)
        validation = _validation_batches(
            held, validation_batch_size or batch_size, model, validation_steps
        )
    data = batches(x, y, sample_weight, batch_size, shuffle, model, steps_per_epoch)
    if isinstance(data, ArrayBatches):
        if not own_train:
            _need_targets(model, data.y)
            model.build(built_for(data.x))
        data.sample_weight = class_weights(
            data.y, class_weight, data.sample_weight, model.output_shape
        )
        _check(model, *data.first(), "train_step")
        if isinstance(validation, ArrayBatches):
            try:
                _check(model, *validation.first(), "test_step")
            except ValueError as error:
                raise ValueError(f"validation_data: {error}") from None
        compiled = model._compiled
        if not own_train:
            compiled.prepare(model)
    steps = steps_per_epoch or data.steps

    callbacks = CallbackList(
        callbacks, add_history=True, add_progbar=verbose != 0, model=model, verbose=verbose,
        epochs=epochs, steps=steps,
    )  # fmt: skip
    model.stop_training, model.initial_epoch = False, initial_epoch
    callbacks.on_train_begin()
    logs = {}
    try:
        with contextlib.suppress(_Interrupted), _interruptible(model):
            logs = _epochs(
                model, data, epochs, steps_per_epoch, class_weight, callbacks, validation,
                validation_steps, validation_freq,
            )  # fmt: skip
    finally:  # an exception may have come between two parts of an update
        if compiled.store is not None:
            compiled.store.touch()
    if model.history.interrupted:
        write("\nInterrupted: training ends\n")
    if compiled.store is not None:
        compiled.optimizer.finalize_variable_values(compiled.store)
    callbacks.on_train_end(logs)
    return model.history


def _epochs(
    model, data, epochs, steps_per_epoch, class_weight, callbacks, validation, validation_steps,
    validation_freq,
):  # fmt: skip
    """Train from model.initial_epoch on; returns the last epoch's logs."""
    compiled, own_train = model._compiled, "train_step" in model._own_steps
    wants_logs, group = callbacks.wants_batch_logs, compiled.steps_per_execution
    iterator = None
    logs = {}
    for epoch in range(model.initial_epoch, epochs):
        callbacks.on_epoch_begin(epoch)
        model.reset_metrics()
        if iterator is None or (steps_per_epoch is None and not data.endless):
            iterator = iter(data)
        step = 0
        while steps_per_epoch is None or step < steps_per_epoch:
            batch = next(iterator, None)
            if batch is None and step == 0 and not data.endless:
                iterator = iter(data)  # the epoch before took the last batch
                batch = next(iterator, None)
            if batch is None:
                if not data.endless:
                    iterator = None
                break
            batch_x, batch_y, weight = batch
            if not isinstance(data, ArrayBatches):
                _check(model, batch_x, batch_y, "train_step")
                compiled = model._compiled
                if not own_train:
                    compiled.prepare(model)
                weight = class_weights(batch_y, class_weight, weight, model.output_shape)
            if wants_logs and step % group == 0:
                callbacks.on_train_batch_begin(step)
            if own_train:
                own_step(model, "train_step", batch_x, batch_y, weight)
            else:
                train_step(model, batch_x, batch_y, weight)
            if wants_logs and (step + 1) % group == 0:
                callbacks.on_train_batch_end(step, compiled.logs())
            step += 1
            if model.stop_training:
                break
        if model.history.interrupted:
            break
        if wants_logs and step % group:
            callbacks.on_train_batch_end(_last_of_group(step, group), compiled.logs())
        if step == 0 and epoch == model.initial_epoch:
            raise ValueError("x: expected at least one batch, received none")
        if step == 0 or (steps_per_epoch is not None and step < steps_per_epoch):
            if not model.stop_training:
                what = "training" if data.endless or step == 0 else "it"
                warnings.warn(
                    f"x ran out of batches in epoch {epoch + 1}: {what} ends", stacklevel=4
                )
                model.stop_training = what == "training"
        if step == 0:
            break
        logs = compiled.logs()
        if validation is not None and _validates(validation_freq, epoch + 1):
            results = _evaluate(model, validation, validation_steps, callbacks)
            logs.update({f"val_{name}": value for name, value in results.items()})
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    return logs


def _last_of_group(step, group):
    """What Keras calls the last step of an incomplete group after so many steps."""
    return step - step % group + group - 1


class _Interrupted(Exception):
    pass


@contextlib.contextmanager
def _interruptible(model):
    """Ctrl-C ends training after the batch, or in the midst of it where a kernel takes long, which
    leaves the weights as they were before it; the second Ctrl-C is a KeyboardInterrupt at once."""

    def interrupt(number, frame):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        model.stop_training = model.history.interrupted = True
        if _engine.in_kernel():
            raise _Interrupted

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _check_frequency(frequency):
    several = isinstance(frequency, (list, tuple, set))
    for epoch in frequency if several else (frequency,):
        if not hasattr(epoch, "__index__") or epoch < 1:
            raise ValueError(
                "validation_freq: expected a whole number >= 1 or a list of such, "
                f"received {frequency!r}"
            )


def _validates(frequency, epoch):
    if isinstance(frequency, (list, tuple, set)):
        return epoch in frequency
    return epoch % frequency == 0


def _validation_batches(given, batch_size, model, steps):
    if hasattr(given, "shape"):
        raise ValueError(
            "validation_data: expected (x, y), (x, y, sample_weight) or an iterable of batches, "
            f"received an array of shape {tuple(given.shape)}"
        )
    if isinstance(given, (tuple, list)):
        if not 2 <= len(given) <= 3:
            raise ValueError(
                f"validation_data: expected (x, y) or (x, y, sample_weight), received {len(given)} "
                "parts"
            )
        x, y, weight = (*given, None)[:3]
        try:
            return ArrayBatches(x, y, weight, batch_size, False, model, steps)
        except ValueError as error:
            raise ValueError(f"validation_data: {error}") from None
    return batches(given, None, None, batch_size, False, model, steps)


def _split(model, x, y, sample_weight, share):
    """The last `share` of the samples is held out, before any shuffling."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ValueError(f"validation_split: expected a number from 0 to 1, received {share!r}")
    if not (hasattr(x, "__array__") or isinstance(x, (list, tuple, dict))):
        raise ValueError("validation_split: expected arrays as x and y; x yields whole batches")
    data = ArrayBatches(x, y, sample_weight, None, False, model)
    kept = int(data.samples * (1 - share))
    if kept in (0, data.samples):
        raise ValueError(
            f"validation_split: {share} of {data.samples} samples leaves one part without any"
        )
    arrays = data.x, data.y, data.sample_weight
    first = [each(lambda array: array[:kept], value) for value in arrays]
    return first, [each(lambda array: array[kept:], value) for value in arrays]


# --- evaluate and predict -------------------------------------------------------------------------


def _evaluate(model, data, steps, callbacks):
    compiled = model._compiled
    model.stop_evaluating = False
    callbacks.on_test_begin()
    model.reset_metrics()
    run, group, done = model.take_run(), compiled.steps_per_execution, 0
    for step, (x, y, weight) in enumerate(itertools.islice(data, steps)):
        if step == 0 or not isinstance(data, ArrayBatches):
            _check(model, x, y, "test_step")
        if step % group == 0:
            callbacks.on_test_batch_begin(step)
        if "test_step" in model._own_steps:
            own_step(model, "test_step", x, y, weight)
        else:
            test_step(model, x, y, weight, run)
        done = step + 1
        if done % group == 0:
            logs = compiled.logs() if callbacks.wants_batch_logs else None
            callbacks.on_test_batch_end(step, logs)
            if model.stop_evaluating:
                break
    if done % group:
        callbacks.on_test_batch_end(_last_of_group(done, group), compiled.logs())
    model.give_run(run)
    if done == 0:
        raise ValueError("x: expected at least one batch, received none")
    logs = compiled.logs()
    callbacks.on_test_end(logs)
    return logs


def evaluate(model, x, y, batch_size, verbose, sample_weight, steps, callbacks):
    need_compiled(model)
    checks.count("steps", steps, 1)
    data = batches(x, y, sample_weight, batch_size, False, model, steps)
    callbacks = CallbackList(
        callbacks, add_progbar=verbose != 0, model=model, verbose=verbose, epochs=1,
        steps=steps or data.steps,
    )  # fmt: skip
    return _evaluate(model, data, steps, callbacks)


def predict(model, x, batch_size, verbose, steps, callbacks):
    checks.count("steps", steps, 1)
    data = batches(x, None, None, batch_size, False, model, steps)
    if verbose or callbacks:
        callbacks = CallbackList(
            callbacks, add_progbar=verbose != 0, model=model, verbose=verbose, epochs=1,
            steps=steps or data.steps,
        )  # fmt: skip
        callbacks.on_predict_begin()
    model.stop_predicting = False
    group = model._compiled.steps_per_execution if model._compiled else 1
    run = model.take_run()
    whole_y, parts, done, outputs = None, [], 0, []

    def whole_output(parts):
        return model.handed_out(_joined(parts))

    for step, (batch, _, _) in enumerate(itertools.islice(data, steps)):
        if step == 0 or not isinstance(data, ArrayBatches):
            model.build(built_for(batch))
            model.check_call(shape_of(batch))
        if callbacks and step % group == 0:
            callbacks.on_predict_batch_begin(step)
        if "predict_step" in model._own_steps:
            y = own.leaves(model.predict_step(_as_given(model, batch)))
            y = [np.asarray(part, np.float32) for part in y]
            y = y if len(y) > 1 else y[0]
        else:
            y, _ = _infer(model, batch, run)
        if isinstance(data, ArrayBatches) and not isinstance(y, list):
            if whole_y is None:
                whole_y = np.empty((data.samples, *y.shape[1:]), y.dtype)
            if y.shape[1:] != whole_y.shape[1:]:
                raise ValueError(
                    f"predict: expected outputs of one shape in all batches, received "
                    f"{y.shape[1:]} after {whole_y.shape[1:]}; a TextVectorization with "
                    "output_sequence_length gives it, and so does one batch of all samples"
                )
            kept = whole_y[done : done + len(y)]
            kept[...] = y
            done += len(y)
        else:
            kept = [part.copy() for part in y] if isinstance(y, list) else y.copy()
            parts.append(kept)
        if callbacks:
            outputs.append(kept)
            if (step + 1) % group == 0:
                callbacks.on_predict_batch_end(step, {"outputs": whole_output(outputs)})
                outputs.clear()
        if model.stop_predicting:
            break
    if outputs:
        last = _last_of_group(step + 1, group)
        callbacks.on_predict_batch_end(last, {"outputs": whole_output(outputs)})
    model.give_run(run)
    if callbacks:
        callbacks.on_predict_end()
    if whole_y is not None:
        return whole_y[:done]
    if not parts:
        raise ValueError("x: expected at least one batch, received none")
    return whole_output(parts)


def _joined(parts):
    """The outputs of several batches as those of one."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        return [np.concatenate(part) for part in zip(*parts, strict=True)]
    return np.concatenate(parts)
