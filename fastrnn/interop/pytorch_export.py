"""To PyTorch: `to_torch`, and the modules for what torch.nn has no module for."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fastrnn import activations, layers
from fastrnn.interop.onnx_recurrent import both_biases, reorder
from fastrnn.interop.pytorch_import import ACTIVATIONS, LAYERS, ORDERS
from fastrnn.layers.scaling import check_numbers
from fastrnn.models import Model, Sequential

KINDS = {name: kind for kind, name in LAYERS.items()}
MODULES = {function: (name, options) for name, (function, options) in ACTIVATIONS.items()}
MODULES["elu"] = "ELU", {"alpha": 1.0}
MODULES["leaky_relu"] = "LeakyReLU", {"negative_slope": 0.2}


def to_torch(model):
    """A module that gives what a built model gives: batch first, float32, in evaluation mode, with
    weights of its own. Of a Sequential it is an nn.Sequential; of another model it takes the inputs
    one after another and gives a tensor, or a tuple of the outputs.

    Errors: ValueError, with the layer's name, for what torch.nn does not compute: masks,
    stateful layers, activations of recurrent layers other than tanh and sigmoid, GRU with
    reset_after=False."""
    if not isinstance(model, Model):
        raise ValueError(f"model: expected a Sequential or another Model, received {model!r}")
    model.build()
    return _one(_modules(model, {})).eval()


def _modules(layer, made):
    """The modules of a layer, in order; shared layers are `made` once."""
    if layer in made:
        return made[layer]
    name = type(layer).__name__
    if isinstance(layer, Sequential):
        inner = [module for part in layer.layers for module in _modules(part, made)]
        modules = [nn.Sequential(*inner)]
    elif isinstance(layer, Model):
        modules = [Graph(layer, made)]
    elif name in CONVERTERS and layers.CLASSES.get(name) is type(layer):
        modules = CONVERTERS[name](layer)
    else:
        _refuse(layer, f"{name} is not supported")
    made[layer] = modules
    return modules


def _one(modules):
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def _refuse(layer, reason):
    raise ValueError(f"to_torch: layer {layer.name!r}: {reason}")


def _set(parameter, value):
    with torch.no_grad():
        parameter.copy_(torch.tensor(np.ascontiguousarray(value)))


def _unit(x, axes, most):
    """x by its L2 norm over the axes, but at most `most` times x."""
    return x * x.square().sum(axes, keepdim=True).rsqrt().clamp(max=most)


def _linear(layer, matrix):
    """nn.Linear with a layer's kernel as a matrix, and its bias."""
    linear = nn.Linear(*matrix.shape, bias=layer.use_bias)
    _set(linear.weight, matrix.T)
    if layer.use_bias:
        _set(linear.bias, layer.bias.value.reshape(-1))
    return linear


# --- modules ---


class Graph(nn.Module):
    """The modules of a model's layers, called as the model calls these; `modules_of` has them by
    the layers' names, with _ for dots."""

    def __init__(self, model, made):
        super().__init__()
        graph = model.graph
        self.modules_of = nn.ModuleDict()
        self.calls, self.inputs, self.outputs = [], graph.inputs, graph.outputs
        for call in graph.calls:
            if any(mask is not None for mask in call.masks):
                _refuse(call.layer, "masks are not supported (to_onnx keeps masks)")
            if call.training:
                _refuse(call.layer, "a call with training=True is not supported")
            name = call.layer.name.replace(".", "_")
            self.modules_of[name] = _one(_modules(call.layer, made))
            self.calls.append((name, call.inputs, call.outputs, call.options))
        self.one = not model.gives_several

    def forward(self, *inputs):
        values = dict(zip(self.inputs, inputs, strict=True))
        for name, given, slots, options in self.calls:
            xs = [values[slot] for slot in given]
            if isinstance(self.modules_of[name], nn.Embedding):
                xs = [x.int() if x.is_floating_point() else x for x in xs]
            y = self.modules_of[name](*xs, **options)
            values.update(zip(slots, y if isinstance(y, tuple) else (y,), strict=True))
        outputs = tuple(values[slot] for slot in self.outputs)
        return outputs[0] if self.one else outputs


class Merge(nn.Module):
    """Inputs, brought to one rank by axes behind the batch, merged by a function of two."""

    def __init__(self, function, divide=False):
        super().__init__()
        self.function, self.divide = function, divide

    def forward(self, *xs):
        rank = max(x.ndim for x in xs)
        xs = [x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in xs]
        y = xs[0]
        for x in xs[1:]:
            y = self.function(y, x)
        return y / len(xs) if self.divide else y


class Concatenate(nn.Module):
    """The inputs side by side along an axis."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, *xs):
        return torch.cat(xs, self.axis)


class Dot(nn.Module):
    """Sums of products of two inputs along an axis of each, perhaps of vectors of length 1."""

    def __init__(self, axes, normalize):
        super().__init__()
        self.axes, self.normalize = axes, normalize

    def forward(self, x, y):
        pair = [part.movedim(axis, -1) for part, axis in zip((x, y), self.axes, strict=True)]
        if self.normalize:
            pair = [_unit(part, -1, 1e7) for part in pair]
        left, right = (part.flatten(1, -2) if part.ndim > 2 else part[:, None] for part in pair)
        sizes = *pair[0].shape[:-1], *pair[1].shape[1:-1]
        out = left @ right.transpose(1, 2)
        return out.reshape(sizes) if len(sizes) > 1 else out.flatten(1)


class Attention(nn.Module):
    """Query, value and perhaps a key -> the mean of the values, weighted by the softmax of
    products, or of sums by tanh; scale, outer: its weights."""

    def __init__(self, scale, outer, dropout):
        super().__init__()
        self.dropout = dropout
        self.scale = None if scale is None else nn.Parameter(torch.tensor(scale))
        self.outer = None if outer is None else nn.Parameter(torch.tensor(outer))

    def forward(self, query, value, key=None, return_attention_scores=False, use_causal_mask=False):
        key = value if key is None else key
        scale = 1 if self.scale is None else self.scale
        if self.outer is None:
            scores = query @ key.transpose(-1, -2) * scale
        else:
            sums = torch.tanh((query[..., :, None, :] + key[..., None, :, :]) * scale)
            scores = (sums * self.outer).sum(-1)
        if use_causal_mask:
            seen = torch.ones_like(scores, dtype=torch.bool).tril()
            scores = torch.where(seen, scores, scores - 1e9)
        shares = functional.dropout(scores.softmax(-1), self.dropout, self.training)
        y = shares @ value
        return (y, shares) if return_attention_scores else y


class Heads(nn.Module):
    """Attention of several heads between projections; `groups` heads of queries look at one of
    keys and values. window: queries see values at a distance below it."""

    def __init__(self, query, key, value, out, gate, heads, groups, sizes, window, dropout):
        super().__init__()
        self.query, self.key, self.value, self.out, self.gate = query, key, value, out, gate
        self.heads, self.groups, self.sizes, self.window = heads, groups, sizes, window
        self.dropout = dropout

    def forward(
        self, query, value, key=None, attention_mask=None, return_attention_scores=False,
        use_causal_mask=False,
    ):  # fmt: skip
        key = value if key is None else key
        q = self.query(query).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (
            part.unflatten(-1, (self.heads // self.groups, -1))
            .transpose(1, 2)
            .repeat_interleave(self.groups, 1)
            for part in (self.key(key), self.value(value))
        )
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        seen = seen.tril() if use_causal_mask else seen
        if self.window is not None:
            seen = seen.tril(self.window - 1).triu(1 - self.window)
        if attention_mask is not None:
            mask = torch.as_tensor(attention_mask, device=scores.device).bool()
            seen = seen & (mask[:, None] if mask.ndim == 3 else mask)
        shares = torch.where(seen, scores, -1e9).softmax(-1)
        if self.dropout or return_attention_scores:
            shares = shares * seen
        kept = functional.dropout(shares, self.dropout, self.training)
        y = (kept @ v).transpose(1, 2).flatten(2)
        if self.gate is not None:
            y = y * torch.sigmoid(self.gate(query))
        y = self.out(y)
        y = y.unflatten(-1, self.sizes) if len(self.sizes) > 1 else y
        return (y, shares) if return_attention_scores else y


class Recurrent(nn.Module):
    """A recurrent module (batch first) with Keras's choice of outputs, order and merge_mode; it may
    start from states, (batch, units) each, the forward direction's first."""

    def __init__(
        self, rnn, return_sequences, go_backwards=False, merge_mode="concat", return_state=False
    ):
        super().__init__()
        self.rnn, self.return_sequences, self.return_state = rnn, return_sequences, return_state
        self.go_backwards, self.merge_mode = go_backwards, merge_mode

    def forward(self, x, *states):
        x = x.flip(1) if self.go_backwards else x
        if states:
            count = 2 if self.rnn.mode == "LSTM" else 1
            states = tuple(torch.stack(states[n::count]) for n in range(count))
            y, last = self.rnn(x, states if count == 2 else states[0])
        else:
            y, last = self.rnn(x)
        last = last if isinstance(last, tuple) else (last,)
        parts = list(y.chunk(len(last[0]), -1)) if self.return_sequences else last[0].unbind(0)
        outputs = self.merged(*parts)
        if self.return_state:
            outputs += tuple(state for pair in zip(*last, strict=True) for state in pair)
        return outputs if len(outputs) > 1 else outputs[0]

    def merged(self, *parts):
        if self.merge_mode == "concat":
            return (torch.cat(parts, -1),)
        if self.merge_mode is None:
            return parts
        first, second = parts
        if self.merge_mode == "mul":
            return (first * second,)
        return ((first + second) * (0.5 if self.merge_mode == "ave" else 1),)


class TimeDistributed(nn.Module):
    """A module applied to each time step of (batch, timesteps, ...)."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class OnChannels(nn.Module):
    """An nn.BatchNorm1d over any axis of an input with any number of axes."""

    def __init__(self, module, axis):
        super().__init__()
        self.module, self.axis = module, axis

    def forward(self, x):
        moved = x.movedim(self.axis, -1)
        y = self.module(moved.reshape(-1, moved.shape[-1]))
        return y.reshape(moved.shape).movedim(-1, self.axis)


class ChannelsSecond(nn.Module):
    """A module of (batch, channels, ...), with the channels on any axis."""

    def __init__(self, module, axis):
        super().__init__()
        self.module, self.axis = module, axis

    def forward(self, x):
        return self.module(x.movedim(self.axis, 1)).movedim(1, self.axis)


class OverTime(nn.Module):
    """A module of (batch, channels, timesteps), with Keras's order of axes and padding.

    reach, stride: of the module's windows. fill: what padding holds. mean: divide by the share of a
    window that lies on the input."""

    def __init__(self, module, layer, reach=1, stride=1, fill=0.0, mean=False):
        super().__init__()
        self.module, self.reach, self.stride, self.fill, self.mean = (
            module, reach, stride, fill, mean,
        )  # fmt: skip
        self.steps_last = getattr(layer, "data_format", None) == "channels_first"
        self.padding = getattr(layer, "padding", "valid")

    def forward(self, x):
        x = x if self.steps_last else x.transpose(1, 2)
        before = after = 0
        if self.padding == "causal":
            before = self.reach - 1
        elif self.padding == "same":
            count = -(-x.shape[2] // self.stride)
            total = max((count - 1) * self.stride + self.reach - x.shape[2], 0)
            before, after = total // 2, total - total // 2
        y = self.module(functional.pad(x, (before, after), value=self.fill))
        if self.mean:
            y = y / self.module(functional.pad(torch.ones_like(x), (before, after)))
        return y if self.steps_last else y.transpose(1, 2)


class OverImages(nn.Module):
    """A module of (batch, channels, height, width), with Keras's order of axes and padding.

    reach, strides: of the module's windows. fill, mean: as in OverTime."""

    def __init__(self, module, layer, reach=(1, 1), fill=0.0, mean=False):
        super().__init__()
        self.module, self.reach, self.fill, self.mean = module, reach, fill, mean
        self.channels_last = layer.data_format == "channels_last"
        self.strides = layer.strides if layer.padding == "same" else None

    def forward(self, x):
        x = x.movedim(-1, 1) if self.channels_last else x
        ends = []
        if self.strides is not None:
            for size, reach, stride in zip(x.shape[2:], self.reach, self.strides, strict=True):
                total = max((-(-size // stride) - 1) * stride + reach - size, 0)
                ends = [total // 2, total - total // 2, *ends]  # the last axis comes first
        y = self.module(functional.pad(x, ends, value=self.fill) if ends else x)
        if self.mean and ends:
            y = y / self.module(functional.pad(torch.ones_like(x), ends))
        return y.movedim(1, -1) if self.channels_last else y


class OverAllTime(nn.Module):
    """The mean or the largest value over all time steps."""

    def __init__(self, largest, axis, keepdims):
        super().__init__()
        self.largest, self.axis, self.keepdims = largest, axis, keepdims

    def forward(self, x):
        reduce = torch.amax if self.largest else torch.mean
        return reduce(x, self.axis, self.keepdims)


class PReLU(nn.Module):
    """x where positive, alpha * x elsewhere; alpha of the shape of one sample, or 1 on its axes."""

    def __init__(self, alpha):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, x):
        return torch.where(x > 0, x, self.alpha * x)


class Permute(nn.Module):
    """The axes in the order `dims`."""

    def __init__(self, dims):
        super().__init__()
        self.dims = dims

    def forward(self, x):
        return x.permute(*self.dims)


class Noise(nn.Module):
    """In training, normal noise added to x, or 1 plus the noise times x."""

    def __init__(self, deviation, multiply):
        super().__init__()
        self.deviation, self.multiply = deviation, multiply

    def forward(self, x):
        if not self.training:
            return x
        noise = self.deviation * torch.randn_like(x)
        return x * (1 + noise) if self.multiply else x + noise


class Reshape(nn.Module):
    """(batch, ...) -> (batch, *shape)."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(x.shape[0], *self.shape)


class RepeatVector(nn.Module):
    """(batch, n) -> (batch, times, n)."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def forward(self, x):
        return x[:, None].repeat(1, self.times, 1)


class UnitNorm(nn.Module):
    """x by its L2 norm over `axes`, as of 1e-12 where that is less."""

    def __init__(self, axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return _unit(x, self.axes, 1e12)


class Rescaling(nn.Module):
    """x * scale + offset, which are not trained."""

    def __init__(self, scale, offset):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("offset", torch.tensor(offset))

    def forward(self, x):
        return x * self.scale + self.offset


class Normalization(nn.Module):
    """(x - mean) / deviation, which are not trained."""

    def __init__(self, mean, deviation):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))

    def forward(self, x):
        return (x - self.mean) / self.deviation


# --- from layers ---


def _activation(layer, function):
    name = getattr(function, "__name__", "")
    if function is activations.linear:
        return []
    if name not in MODULES or getattr(activations, name) is not function:
        _refuse(layer, f"the activation {name or function!r} has no module in torch.nn")
    module, options = MODULES[name]
    return [getattr(nn, module)(**options)]


def _dense(layer):
    return [_linear(layer, layer.kernel.value), *_activation(layer, layer.activation)]


def _embedding(layer):
    if layer.mask_zero:
        _refuse(layer, "masks are not supported; expected mask_zero=False (to_onnx keeps masks)")
    embedding = nn.Embedding(layer.input_dim, layer.output_dim)
    _set(embedding.weight, layer.embeddings.value)
    return [embedding]


def _recurrent(layer):
    if len(layer.stages) > 1 and layer.return_state:
        _refuse(layer, "expected one cell, or no return_state")
    return [
        Recurrent(
            _rnn([stage]), stage.return_sequences, stage.go_backwards,
            return_state=stage.return_state,
        )
        for stage in layer.stages
    ]  # fmt: skip


def _bidirectional(layer):
    pair = [stage for inner in layer.sublayers for stage in inner.stages]
    if len(pair) > 2:
        _refuse(layer, "expected one cell in each direction")
    if type(pair[0]).__name__ not in KINDS:
        _refuse(layer, f"{type(pair[0]).__name__} has no module in torch.nn")
    if pair[0].go_backwards or type(pair[0]) is not type(pair[1]) or pair[0].units != pair[1].units:
        _refuse(layer, "expected a forward and a backward layer alike in class and units")
    rnn, state = _rnn(pair), layer.return_state
    return [Recurrent(rnn, layer.return_sequences, False, layer.merge_mode, state)]


def _rnn(pair):
    """A recurrent module with the weights of a layer, or of a forward and a backward layer."""
    kind, units = KINDS[type(pair[0]).__name__], pair[0].units
    order = ORDERS[kind]
    for layer in pair:
        if layer.stateful:
            _refuse(layer, "expected stateful=False")
        options = _nonlinearity(layer, kind)
        if kind == "GRU" and not layer.reset_after:
            _refuse(layer, "nn.GRU computes what reset_after=True does; expected that")
    rnn = getattr(nn, kind)(
        pair[0].kernel.shape[0],
        units,
        bias=any(layer.use_bias for layer in pair),
        batch_first=True,
        bidirectional=len(pair) == 2,
        **options,
    )
    for layer, suffix in zip(pair, ("l0", "l0_reverse"), strict=False):
        _set(getattr(rnn, f"weight_ih_{suffix}"), reorder(layer.kernel.value.T, order, 0))
        recurrent = layer.recurrent_kernel.value.T
        _set(getattr(rnn, f"weight_hh_{suffix}"), reorder(recurrent, order, 0))
        if rnn.bias:
            for part, bias in zip(("ih", "hh"), both_biases(layer, order), strict=True):
                _set(getattr(rnn, f"bias_{part}_{suffix}"), bias)
    return rnn


def _nonlinearity(layer, kind):
    """The arguments of a recurrent module for the layer's activations."""
    if kind == "RNN":
        for name in ("tanh", "relu"):
            if layer.activation is getattr(activations, name):
                return {"nonlinearity": name}
        _refuse(layer, "nn.RNN has the activations tanh and relu only")
    if layer.activation is not activations.tanh or (
        layer.recurrent_activation is not activations.sigmoid
    ):
        _refuse(layer, f"nn.{kind} has the activations tanh and sigmoid only")
    return {}


def _batch_normalization(layer):
    channels = layer.moving_mean.shape[0]
    norm = nn.BatchNorm1d(channels, eps=layer.epsilon, momentum=1 - layer.momentum)
    _set(norm.running_mean, layer.moving_mean.value)
    _set(norm.running_var, layer.moving_variance.value)
    if layer.scale:
        _set(norm.weight, layer.gamma.value)
    if layer.center:
        _set(norm.bias, layer.beta.value)
    rank = len(layer.input_shape)
    return [norm if rank <= 3 and layer.axis % rank == 1 else OnChannels(norm, layer.axis)]


def _layer_normalization(layer):
    rank = len(layer.input_shape)
    axes = sorted(axis % rank for axis in layer.fixed_axes)
    if layer.rms_scaling or axes != list(range(rank - len(axes), rank)):
        _refuse(layer, "nn.LayerNorm normalises the last axes, without rms_scaling")
    shape = [layer.input_shape[axis] for axis in axes]
    norm = nn.LayerNorm(shape, eps=layer.epsilon)
    if layer.gamma is not None:
        _set(norm.weight, layer.gamma.value.reshape(shape))
    if layer.beta is not None:
        _set(norm.bias, layer.beta.value.reshape(shape))
    return [norm]


def _unit_normalization(layer):
    return [UnitNorm(layer.axes(len(layer.input_shape)))]


def _rms_normalization(layer):
    norm = nn.RMSNorm(layer.scale.shape, eps=layer.epsilon)
    _set(norm.weight, layer.scale.value)
    return [norm]


def _group_normalization(layer):
    norm = nn.GroupNorm(layer.groups, layer.input_shape[layer.axis], layer.epsilon)
    if layer.gamma is not None:
        _set(norm.weight, layer.gamma.value)
    if layer.beta is not None:
        _set(norm.bias, layer.beta.value)
    return [norm if layer.axis == 1 else ChannelsSecond(norm, layer.axis)]


def _conv1d(layer):
    (size,), (stride,), (dilation,) = layer.kernel_size, layer.strides, layer.dilation_rate
    channels = layer.kernel.shape[1] * layer.groups
    conv = nn.Conv1d(
        channels, layer.filters, size, stride, 0, dilation, layer.groups, layer.use_bias
    )
    _set(conv.weight, layer.kernel.value.transpose(2, 1, 0))
    if layer.use_bias:
        _set(conv.bias, layer.bias.value)
    module = OverTime(conv, layer, (size - 1) * dilation + 1, stride)
    return [module, *_activation(layer, layer.activation)]


def _depthwise_conv1d(layer):
    return [_depthwise(layer, layer.kernel, layer.bias), *_activation(layer, layer.activation)]


def _separable_conv1d(layer):
    pointwise = nn.Conv1d(*layer.pointwise_kernel.shape[1:], 1, bias=layer.use_bias)
    _set(pointwise.weight, layer.pointwise_kernel.value.transpose(2, 1, 0))
    if layer.use_bias:
        _set(pointwise.bias, layer.bias.value)
    module = _depthwise(layer, layer.depthwise_kernel, None)
    module.module = nn.Sequential(module.module, pointwise)
    return [module, *_activation(layer, layer.activation)]


def _depthwise(layer, kernel, bias):
    """nn.Conv1d with as many groups as there are channels."""
    (stride,), (dilation,) = layer.strides, layer.dilation_rate
    size, channels, multiplier = kernel.shape
    features = channels * multiplier
    conv = nn.Conv1d(channels, features, size, stride, 0, dilation, channels, bias is not None)
    _set(conv.weight, kernel.value.reshape(size, 1, features).transpose(2, 1, 0))
    if bias is not None:
        _set(conv.bias, bias.value)
    return OverTime(conv, layer, (size - 1) * dilation + 1, stride)


def _conv1d_transpose(layer):
    size, filters, channels = layer.kernel.shape
    more, before, after = layer.ends()
    conv = nn.ConvTranspose1d(
        channels, filters, size, layer.strides, 0, more, 1, layer.use_bias, layer.dilation_rate
    )
    _set(conv.weight, layer.kernel.value.transpose(2, 1, 0))
    if layer.use_bias:
        _set(conv.bias, layer.bias.value)
    cut = nn.ConstantPad1d((-before, -after), 0.0)
    module = OverTime(nn.Sequential(conv, cut) if before or after else conv, layer)
    return [module, *_activation(layer, layer.activation)]


def _conv2d(layer):
    *_, channels, filters = layer.kernel.shape
    conv = nn.Conv2d(
        channels * layer.groups, filters, layer.kernel_size, layer.strides, 0,
        layer.dilation_rate, layer.groups, layer.use_bias,
    )  # fmt: skip
    _set(conv.weight, layer.kernel.value.transpose(3, 2, 0, 1))
    if layer.use_bias:
        _set(conv.bias, layer.bias.value)
    sizes = zip(layer.kernel_size, layer.dilation_rate, strict=True)
    reach = [(size - 1) * dilation + 1 for size, dilation in sizes]
    return [OverImages(conv, layer, reach), *_activation(layer, layer.activation)]


def _pooling_of_images(layer):
    options = layer.pool_size, layer.strides
    if isinstance(layer, layers.MaxPooling2D):
        return [OverImages(nn.MaxPool2d(*options), layer, layer.pool_size, fill=-np.inf)]
    return [OverImages(nn.AvgPool2d(*options), layer, layer.pool_size, mean=True)]


def _global_pooling_of_images(layer):
    axes = (1, 2) if layer.data_format == "channels_last" else (2, 3)
    return [OverAllTime(isinstance(layer, layers.GlobalMaxPooling2D), axes, layer.keepdims)]


def _of_channels_second(layer, module):
    """A module without windows, of (batch, channels, height, width)."""
    return [module if layer.data_format == "channels_first" else ChannelsSecond(module, -1)]


def _resizing_of_images(layer, edges):
    (top, bottom), (left, right) = edges
    return _of_channels_second(layer, nn.ConstantPad2d([left, right, top, bottom], 0.0))


def _flatten(layer):
    if layer.data_format == "channels_last" or len(layer.input_shape) < 3:
        return [nn.Flatten()]
    rank = len(layer.input_shape)
    return [Permute((0, *range(2, rank), 1)), nn.Flatten()]


def _max_pooling(layer):
    (size,), (stride,) = layer.pool_size, layer.strides
    return [OverTime(nn.MaxPool1d(size, stride), layer, size, stride, fill=-np.inf)]


def _average_pooling(layer):
    (size,), (stride,) = layer.pool_size, layer.strides
    return [OverTime(nn.AvgPool1d(size, stride), layer, size, stride, mean=True)]


def _global_pooling(layer):
    axis = 1 if layer.data_format == "channels_last" else 2
    return [OverAllTime(isinstance(layer, layers.GlobalMaxPooling1D), axis, layer.keepdims)]


def _rescaling(layer):
    return [Rescaling(*(check_numbers(name, getattr(layer, name)) for name in ("scale", "offset")))]


def _normalization(layer):
    mean, deviation = layer.mean_and_deviation(len(layer.input_shape))
    return [Rescaling(deviation, mean) if layer.invert else Normalization(mean, deviation)]


def _up_sampling(layer):
    return [OverTime(nn.Upsample(scale_factor=layer.size), layer)]


def _resizing(layer, ends):
    return [OverTime(nn.ConstantPad1d(ends, 0.0), layer)]


def _relu(layer):
    if layer.options != {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}:
        _refuse(layer, f"nn.ReLU has no options, received {layer.options}")
    return [nn.ReLU()]


def _softmax(layer):
    axis = layer.options["axis"]
    if isinstance(axis, list):
        _refuse(layer, f"nn.Softmax has one axis, received {axis}")
    return [nn.Softmax(axis)]


def _dot(layer):
    return [Dot(layer.both_axes, layer.normalize)]


def _attention(layer):
    scale = None if layer.scale is None else layer.scale.value
    if isinstance(layer, layers.AdditiveAttention):
        return [Attention(None, np.float32(1) if scale is None else scale, layer.dropout)]
    outer = layer.concat_score_weight
    return [Attention(scale, None if outer is None else outer.value, layer.dropout)]


def _projected(dense):
    return _linear(dense, dense.kernel.value.reshape(dense._matrix))


def _heads(layer):
    if layer._axes != (1,) or len(layer.input_shape[0]) != 3:
        _refuse(layer, "expected inputs of three axes, and attention over the second")
    denses = layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense
    gate = _projected(layer._gate_dense) if layer._use_gate else None
    return [
        Heads(
            *map(_projected, denses), gate, layer._query_dense.sizes[0], layer._group,
            layer._output_dense.sizes, layer.sliding_window, layer._dropout,
        )
    ]  # fmt: skip


CONVERTERS = {
    "Add": lambda layer: [Merge(torch.add)],
    "AdditiveAttention": _attention,
    "Attention": _attention,
    "Average": lambda layer: [Merge(torch.add, divide=True)],
    "Concatenate": lambda layer: [Concatenate(layer.axis)],
    "Dot": _dot,
    "Maximum": lambda layer: [Merge(torch.maximum)],
    "Minimum": lambda layer: [Merge(torch.minimum)],
    "MultiHeadAttention": _heads,
    "Multiply": lambda layer: [Merge(torch.mul)],
    "Subtract": lambda layer: [Merge(torch.sub)],
    "Activation": lambda layer: _activation(layer, layer.activation),
    "ActivityRegularization": lambda layer: [],
    "AveragePooling1D": _average_pooling,
    "AveragePooling2D": _pooling_of_images,
    "BatchNormalization": _batch_normalization,
    "Bidirectional": _bidirectional,
    "Conv1D": _conv1d,
    "Conv1DTranspose": _conv1d_transpose,
    "Conv2D": _conv2d,
    "Cropping1D": lambda layer: _resizing(layer, [-end for end in layer.cropping]),
    "Cropping2D": lambda layer: _resizing_of_images(layer, -np.array(layer.cropping)),
    "Dense": _dense,
    "DepthwiseConv1D": _depthwise_conv1d,
    "Dropout": lambda layer: [nn.Dropout(layer.rate)],
    "ELU": lambda layer: [nn.ELU(layer.options["alpha"])],
    "Embedding": _embedding,
    "Flatten": _flatten,
    "GRU": _recurrent,
    "GaussianDropout": lambda layer: [Noise((layer.rate / (1 - layer.rate)) ** 0.5, True)],
    "GaussianNoise": lambda layer: [Noise(layer.stddev, False)],
    "GlobalAveragePooling1D": _global_pooling,
    "GlobalAveragePooling2D": _global_pooling_of_images,
    "GlobalMaxPooling1D": _global_pooling,
    "GlobalMaxPooling2D": _global_pooling_of_images,
    "GroupNormalization": _group_normalization,
    "GroupQueryAttention": _heads,
    "Identity": lambda layer: [],
    "LSTM": _recurrent,
    "LayerNormalization": _layer_normalization,
    "LeakyReLU": lambda layer: [nn.LeakyReLU(layer.options["negative_slope"])],
    "Masking": lambda layer: _refuse(layer, "masks are not supported (to_onnx keeps masks)"),
    "MaxPooling1D": _max_pooling,
    "MaxPooling2D": _pooling_of_images,
    "Normalization": _normalization,
    "PReLU": lambda layer: [PReLU(layer.alpha.value)],
    "Permute": lambda layer: [Permute((0, *layer.dims))],
    "RMSNormalization": _rms_normalization,
    "RNN": _recurrent,
    "ReLU": _relu,
    "RepeatVector": lambda layer: [RepeatVector(layer.n)],
    "Rescaling": _rescaling,
    "Reshape": lambda layer: [Reshape(layer.target_shape)],
    "SeparableConv1D": _separable_conv1d,
    "SimpleRNN": _recurrent,
    "Softmax": _softmax,
    "SpatialDropout1D": lambda layer: [OverTime(nn.Dropout1d(layer.rate), layer)],
    "SpatialDropout2D": lambda layer: _of_channels_second(layer, nn.Dropout2d(layer.rate)),
    "TimeDistributed": lambda layer: [TimeDistributed(nn.Sequential(*_modules(layer.layer, {})))],
    "UnitNormalization": _unit_normalization,
    "UpSampling1D": _up_sampling,
    "UpSampling2D": lambda layer: _of_channels_second(layer, nn.Upsample(scale_factor=layer.size)),
    "ZeroPadding1D": lambda layer: _resizing(layer, layer.padding),
    "ZeroPadding2D": lambda layer: _resizing_of_images(layer, layer.padding),
}
