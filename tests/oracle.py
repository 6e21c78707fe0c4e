"""Slow, obvious float64 reference for layers, losses and optimizers, after Keras 3.

Shapes: B batch, T timesteps, F features, H units. Gates in the order i, f, c, o.
Every forward returns what its backward needs as `cache`; gradients have the names of what they
belong to.
"""

import copy
import math

import numpy as np

EPSILON = 1e-7
ALMOST_ONE = float(np.float32(1.0 - EPSILON))  # the upper end of the clipped probabilities


# Activations: name -> (function, vjp), vjp(x, dy) = dy * derivative of the function at x.


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def softplus(x):
    return np.logaddexp(x, 0.0)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def sparsemax(x):
    descending = -np.sort(-x, axis=-1)
    rank = np.arange(1, x.shape[-1] + 1)
    excess = descending.cumsum(axis=-1) - 1.0
    support = (descending - excess / rank > 0).sum(axis=-1, keepdims=True)
    tau = np.take_along_axis(excess, support - 1, axis=-1) / support
    return np.maximum(x - tau, 0.0)


def softmax_vjp(x, dy):
    y = softmax(x)
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def log_softmax_vjp(x, dy):
    return dy - softmax(x) * dy.sum(axis=-1, keepdims=True)


def sparsemax_vjp(x, dy):
    support = sparsemax(x) > 0
    mean = (dy * support).sum(axis=-1, keepdims=True) / support.sum(axis=-1, keepdims=True)
    return support * (dy - mean)


def normal_cdf(x):
    return 0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2.0)))


def normal_pdf(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def elementwise(function, derivative):
    return function, lambda x, dy: dy * derivative(x)


def between(x, low, high):
    return ((x > low) & (x < high)).astype(float)


def exponential_unit(scale, alpha):
    return elementwise(
        lambda x: scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x: scale * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0))),
    )


def hard_sigmoid(x):
    return np.clip(x / 6.0 + 0.5, 0.0, 1.0)


def mish_derivative(x):
    t = np.tanh(softplus(x))
    return t + x * (1.0 - t * t) * sigmoid(x)


SELU_SCALE = 1.0507009873554804934
SELU_ALPHA = 1.6732632423543772848

ACTIVATIONS = {
    "linear": elementwise(lambda x: x, np.ones_like),
    "tanh": elementwise(np.tanh, lambda x: 1.0 - np.tanh(x) ** 2),
    "sigmoid": elementwise(sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "hard_sigmoid": elementwise(hard_sigmoid, lambda x: between(x, -3, 3) / 6.0),
    "relu": elementwise(lambda x: np.maximum(x, 0.0), lambda x: (x > 0).astype(float)),
    "relu6": elementwise(lambda x: np.clip(x, 0.0, 6.0), lambda x: between(x, 0, 6)),
    "leaky_relu": elementwise(
        lambda x: np.where(x > 0, x, 0.2 * x), lambda x: np.where(x > 0, 1.0, 0.2)
    ),
    "elu": exponential_unit(1.0, 1.0),
    "celu": exponential_unit(1.0, 1.0),
    "selu": exponential_unit(SELU_SCALE, SELU_ALPHA),
    "softplus": elementwise(softplus, sigmoid),
    "softsign": elementwise(lambda x: x / (1.0 + abs(x)), lambda x: (1.0 + abs(x)) ** -2),
    "squareplus": elementwise(
        lambda x: 0.5 * (x + np.sqrt(x * x + 4.0)), lambda x: 0.5 * (1.0 + x / np.sqrt(x * x + 4.0))
    ),
    "exponential": elementwise(np.exp, np.exp),
    "gelu": elementwise(lambda x: x * normal_cdf(x), lambda x: normal_cdf(x) + x * normal_pdf(x)),
    "silu": elementwise(lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1.0 + x * sigmoid(-x))),
    "hard_silu": elementwise(
        lambda x: x * hard_sigmoid(x), lambda x: hard_sigmoid(x) + x * between(x, -3, 3) / 6.0
    ),
    "mish": elementwise(lambda x: x * np.tanh(softplus(x)), mish_derivative),
    "hard_tanh": elementwise(lambda x: np.clip(x, -1.0, 1.0), lambda x: between(x, -1, 1)),
    "tanh_shrink": elementwise(lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2),
    "soft_shrink": elementwise(
        lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0.0), lambda x: (abs(x) > 0.5) * 1.0
    ),
    "hard_shrink": elementwise(
        lambda x: np.where(abs(x) > 0.5, x, 0.0), lambda x: (abs(x) > 0.5) * 1.0
    ),
    "log_sigmoid": elementwise(lambda x: -softplus(-x), lambda x: sigmoid(-x)),
    "sparse_sigmoid": elementwise(
        lambda x: np.clip(0.5 * (x + 1.0), 0.0, 1.0), lambda x: 0.5 * between(x, -1, 1)
    ),
    "sparse_plus": elementwise(
        lambda x: np.where(x < 1, 0.25 * np.maximum(x + 1.0, 0.0) ** 2, x),
        lambda x: np.clip(0.5 * (x + 1.0), 0.0, 1.0),
    ),
    "softmax": (softmax, softmax_vjp),
    "log_softmax": (log_softmax, log_softmax_vjp),
    "sparsemax": (sparsemax, sparsemax_vjp),
}
ACTIVATIONS["swish"] = ACTIVATIONS["silu"]
ACTIVATIONS["hard_swish"] = ACTIVATIONS["hard_silu"]


def activate(name, x):
    return ACTIVATIONS[name or "linear"][0](x)


def activate_backward(name, x, dy):
    return ACTIVATIONS[name or "linear"][1](x, dy)


# LSTM


def per_gate(dropout_mask):
    if dropout_mask is None:
        return [1.0] * 4
    if isinstance(dropout_mask, np.ndarray) and dropout_mask.ndim == 2:
        return [dropout_mask] * 4
    return list(dropout_mask)


def lstm_forward(
    x,
    kernel,
    recurrent_kernel,
    bias,
    *,
    activation="tanh",
    recurrent_activation="sigmoid",
    mask=None,
    h0=None,
    c0=None,
    go_backwards=False,
    zero_output_for_mask=False,
    dp_masks=None,
    rec_dp_masks=None,
):
    """(B, T, F) -> outputs (B, T, H) in the order of processing, h (B, H), c (B, H), cache.

    A masked step carries h and c; its output repeats the previous output, or is zero.
    """
    x = np.asarray(x, dtype=np.float64)
    batch, timesteps, _ = x.shape
    units = recurrent_kernel.shape[0]
    kernels = np.split(kernel, 4, axis=1)
    recurrent_kernels = np.split(recurrent_kernel, 4, axis=1)
    biases = np.split(np.zeros(4 * units) if bias is None else bias, 4)
    dp, rec_dp = per_gate(dp_masks), per_gate(rec_dp_masks)

    h = np.zeros((batch, units)) if h0 is None else h0
    c = np.zeros((batch, units)) if c0 is None else c0
    output = np.zeros((batch, units))
    outputs, steps = [], []
    for t in reversed(range(timesteps)) if go_backwards else range(timesteps):
        z = [
            (x[:, t] * dp[gate]) @ kernels[gate]
            + (h * rec_dp[gate]) @ recurrent_kernels[gate]
            + biases[gate]
            for gate in range(4)
        ]
        i = activate(recurrent_activation, z[0])
        f = activate(recurrent_activation, z[1])
        g = activate(activation, z[2])
        o = activate(recurrent_activation, z[3])
        c_new = f * c + i * g
        h_new = o * activate(activation, c_new)
        seen = np.ones((batch, 1), bool) if mask is None else np.asarray(mask, bool)[:, t, None]
        steps.append((t, seen, h, c, z, i, f, g, o, c_new))
        h = np.where(seen, h_new, h)
        c = np.where(seen, c_new, c)
        output = np.where(seen, h_new, 0.0 if zero_output_for_mask else output)
        outputs.append(output)
    cache = {
        "x": x,
        "kernels": kernels,
        "recurrent_kernels": recurrent_kernels,
        "bias": bias,
        "activation": activation,
        "recurrent_activation": recurrent_activation,
        "zero_output_for_mask": zero_output_for_mask,
        "dp": dp,
        "rec_dp": rec_dp,
        "steps": steps,
    }
    return np.stack(outputs, axis=1), h, c, cache


def lstm_backward(dy, dh, dc, cache):
    """Gradients of x, kernel, recurrent_kernel, bias, h0, c0; dy, dh, dc are those of lstm_forward.

    dy is (B, T, H) in the order of processing; dh and dc belong to the final state and may be None.
    """
    x, dp, rec_dp = cache["x"], cache["dp"], cache["rec_dp"]
    kernels, recurrent_kernels = cache["kernels"], cache["recurrent_kernels"]
    activation, recurrent_activation = cache["activation"], cache["recurrent_activation"]
    dx = np.zeros_like(x)
    dkernels = [np.zeros_like(k) for k in kernels]
    drecurrent_kernels = [np.zeros_like(k) for k in recurrent_kernels]
    dbiases = [np.zeros(k.shape[1]) for k in kernels]
    state_shape = dy[:, 0].shape
    dh = np.zeros(state_shape) if dh is None else dh
    dc = np.zeros(state_shape) if dc is None else dc
    doutput = np.zeros(state_shape)
    for position, (t, seen, h, c, z, i, f, g, o, c_new) in reversed(
        list(enumerate(cache["steps"]))
    ):
        doutput = doutput + dy[:, position]
        dh_new = np.where(seen, dh + doutput, 0.0)
        dc_new = np.where(seen, dc, 0.0)
        dh = np.where(seen, 0.0, dh)
        dc = np.where(seen, 0.0, dc)
        doutput = np.where(seen, 0.0, 0.0 if cache["zero_output_for_mask"] else doutput)

        do = dh_new * activate(activation, c_new)
        dc_new = dc_new + activate_backward(activation, c_new, dh_new * o)
        dz = [
            activate_backward(recurrent_activation, z[0], dc_new * g),
            activate_backward(recurrent_activation, z[1], dc_new * c),
            activate_backward(activation, z[2], dc_new * i),
            activate_backward(recurrent_activation, z[3], do),
        ]
        dc = dc + dc_new * f
        for gate in range(4):
            dx[:, t] += dz[gate] @ kernels[gate].T * dp[gate]
            dh = dh + dz[gate] @ recurrent_kernels[gate].T * rec_dp[gate]
            dkernels[gate] += (x[:, t] * dp[gate]).T @ dz[gate]
            drecurrent_kernels[gate] += (h * rec_dp[gate]).T @ dz[gate]
            dbiases[gate] += dz[gate].sum(axis=0)
    return {
        "x": dx,
        "kernel": np.concatenate(dkernels, axis=1),
        "recurrent_kernel": np.concatenate(drecurrent_kernels, axis=1),
        "bias": None if cache["bias"] is None else np.concatenate(dbiases),
        "h0": dh,
        "c0": dc,
    }


def bidirectional_forward(
    x, forward, backward, *, merge_mode="concat", return_sequences=True, mask=None
):
    """(B, T, F) -> merged outputs, (h, c, h, c), cache; `forward`, `backward`: lstm arguments.

    The output of the second layer is flipped in time whatever its direction, as in Keras; masked
    steps give zeros if sequences are returned and repeat the previous output otherwise.
    """
    results = []
    for direction in (forward, backward):
        arguments = {"go_backwards": direction is backward, **direction}
        arguments["zero_output_for_mask"] = return_sequences
        results.append(lstm_forward(x, mask=mask, **arguments))
    (a, ha, ca, cache_a), (b, hb, cb, cache_b) = results
    a, b = (a, b[:, ::-1]) if return_sequences else (a[:, -1], b[:, -1])
    output = {
        "concat": lambda: np.concatenate([a, b], axis=-1),
        "sum": lambda: a + b,
        "ave": lambda: 0.5 * (a + b),
        "mul": lambda: a * b,
        None: lambda: (a, b),
    }[merge_mode]()
    cache = {
        "a": a,
        "b": b,
        "caches": (cache_a, cache_b),
        "merge_mode": merge_mode,
        "return_sequences": return_sequences,
        "timesteps": x.shape[1],
    }
    return output, (ha, ca, hb, cb), cache


def bidirectional_backward(dy, cache):
    """Gradient of x, and the two dicts of lstm_backward."""
    a, b = cache["a"], cache["b"]
    da, db = {
        "concat": lambda: np.split(dy, [a.shape[-1]], axis=-1),
        "sum": lambda: (dy, dy),
        "ave": lambda: (0.5 * dy, 0.5 * dy),
        "mul": lambda: (dy * b, dy * a),
        None: lambda: dy,
    }[cache["merge_mode"]]()
    if cache["return_sequences"]:
        db = db[:, ::-1]
    else:
        da, db = (last_step_gradient(d, cache["timesteps"]) for d in (da, db))
    forward = lstm_backward(da, None, None, cache["caches"][0])
    backward = lstm_backward(db, None, None, cache["caches"][1])
    return forward["x"] + backward["x"], forward, backward


def last_step_gradient(dlast, timesteps):
    dy = np.zeros((dlast.shape[0], timesteps, dlast.shape[1]))
    dy[:, -1] = dlast
    return dy


# Other layers


def dense_forward(x, kernel, bias, activation=None):
    """(..., F) -> (..., units)"""
    z = x @ kernel + (0.0 if bias is None else bias)
    return activate(activation, z), {"x": x, "kernel": kernel, "z": z, "activation": activation}


def dense_backward(dy, cache):
    x, kernel = cache["x"], cache["kernel"]
    dz = activate_backward(cache["activation"], cache["z"], dy)
    dz_rows = dz.reshape(-1, dz.shape[-1])
    return {
        "x": dz @ kernel.T,
        "kernel": x.reshape(-1, x.shape[-1]).T @ dz_rows,
        "bias": dz_rows.sum(axis=0),
    }


def embedding_forward(ids, embeddings):
    """(...) of int -> (..., output_dim)"""
    return embeddings[ids], {"ids": ids, "embeddings": embeddings}


def embedding_backward(dy, cache):
    dembeddings = np.zeros_like(cache["embeddings"])
    np.add.at(dembeddings, cache["ids"], dy)
    return {"embeddings": dembeddings}


def masking_forward(x, mask_value=0.0):
    """A step whose features all equal mask_value is masked, and set to zero."""
    mask = (x != mask_value).any(axis=-1)
    return np.where(mask[..., None], x, 0.0), mask


def masking_backward(dy, mask):
    return np.where(mask[..., None], dy, 0.0)


def batch_normalization_forward(
    x,
    gamma,
    beta,
    moving_mean,
    moving_variance,
    *,
    training=False,
    mask=None,
    axis=-1,
    momentum=0.99,
    epsilon=1e-3,
):
    """-> y, (moving_mean, moving_variance) after the step, cache. gamma and beta may be None.

    Masked values are left out of the statistics, but normalized like all others.
    """
    rows = np.moveaxis(x, axis, -1)
    shape = rows.shape
    rows = rows.reshape(-1, shape[-1])
    if mask is None:
        weight, count = np.ones((len(rows), 1)), len(rows)
    else:
        weight = np.asarray(mask, float).reshape(-1, 1)
        count = weight.sum() + EPSILON
    mean, variance = moving_mean, moving_variance
    if training:
        mean = (weight * rows).sum(axis=0) / count
        variance = (weight * (rows - mean) ** 2).sum(axis=0) / count
        moving_mean = momentum * moving_mean + (1.0 - momentum) * mean
        moving_variance = momentum * moving_variance + (1.0 - momentum) * variance
    scale = 1.0 / np.sqrt(variance + epsilon)
    normalized = (rows - mean) * scale
    y = normalized * (1.0 if gamma is None else gamma) + (0.0 if beta is None else beta)
    y = np.moveaxis(y.reshape(shape), -1, axis)
    cache = {
        "shape": shape,
        "axis": axis,
        "gamma": gamma,
        "training": training,
        "weight": weight,
        "count": count,
        "centered": rows - mean,
        "scale": scale,
        "normalized": normalized,
    }
    return y, (moving_mean, moving_variance), cache


def batch_normalization_backward(dy, cache):
    rows = np.moveaxis(dy, cache["axis"], -1).reshape(-1, cache["shape"][-1])
    dnormalized = rows * (1.0 if cache["gamma"] is None else cache["gamma"])
    dx = dnormalized * cache["scale"]
    if cache["training"]:
        share = cache["weight"] / cache["count"]
        centered, scale = cache["centered"], cache["scale"]
        dvariance = -0.5 * scale**3 * (dnormalized * centered).sum(axis=0)
        dmean = -dx.sum(axis=0) - 2.0 * dvariance * (share * centered).sum(axis=0)
        dx = dx + share * (dmean + 2.0 * dvariance * centered)
    return {
        "x": np.moveaxis(dx.reshape(cache["shape"]), -1, cache["axis"]),
        "gamma": (rows * cache["normalized"]).sum(axis=0),
        "beta": rows.sum(axis=0),
    }


def layer_normalization_forward(x, gamma, beta, *, axis=-1, epsilon=1e-3, rms_scaling=False):
    """gamma and beta have the sizes of the normalised axes, in their order; or are None."""
    axes = tuple(sorted(a % x.ndim for a in np.atleast_1d(axis)))
    sizes = [size if a in axes else 1 for a, size in enumerate(x.shape)]
    deviation = np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)
    y = (x if rms_scaling else x - x.mean(axis=axes, keepdims=True)) / deviation
    y = y if gamma is None else y * gamma.reshape(sizes)
    return y if beta is None else y + beta.reshape(sizes)


def windows(timesteps, size, stride=1, padding="valid", dilation=1):
    """For each window the steps of its places; None where a place lies beyond the ends."""
    reach = dilation * (size - 1) + 1
    before = after = 0
    if padding == "causal":
        before = reach - 1
    elif padding == "same":
        number = math.ceil(timesteps / stride)
        beyond = max((number - 1) * stride + reach - timesteps, 0)
        before, after = beyond // 2, beyond - beyond // 2
    steps = [None] * before + list(range(timesteps)) + [None] * after
    starts = range(0, len(steps) - reach + 1, stride)
    return [steps[start : start + reach : dilation] for start in starts]


def pooling_forward(x, reduce, pool_size, strides=None, padding="valid"):
    """(B, T, F) -> (B, windows, F), reduce being np.max or np.mean"""
    all_windows = windows(x.shape[1], pool_size, strides or pool_size, padding)
    inside = [[t for t in window if t is not None] for window in all_windows]
    return np.stack([reduce(x[:, steps], axis=1) for steps in inside], axis=1)


def conv1d_forward(x, kernel, bias, *, strides=1, padding="valid", dilation_rate=1, groups=1):
    """(B, T, F), kernel (size, F / groups, filters) -> (B, windows, filters)"""
    size, width, filters = kernel.shape
    share = filters // groups
    all_windows = windows(x.shape[1], size, strides, padding, dilation_rate)
    y = np.zeros((len(x), len(all_windows), filters))
    for w, window in enumerate(all_windows):
        for place, t in enumerate(window):
            for g in range(groups if t is not None else 0):
                part = slice(g * share, (g + 1) * share)
                inputs = x[:, t, g * width : (g + 1) * width]
                y[:, w, part] += inputs @ kernel[place, :, part]
    return y if bias is None else y + bias


def pixels(shape, size, strides, padding, dilation_rate=(1, 1)):
    """For each window of images (B, H, W, C), by row and column: its pixels, None beyond the
    edges, by place."""
    axes = zip(shape[1:3], size, strides, dilation_rate, strict=True)
    rows, columns = (windows(n, k, step, padding, apart) for n, k, step, apart in axes)
    for i, down in enumerate(rows):
        for j, across in enumerate(columns):
            yield i, j, [[None if None in (h, w) else (h, w) for w in across] for h in down]


def counted(shape, size, strides, padding, dilation_rate=(1, 1)):
    """(rows, columns) of windows."""
    *_, (i, j, _) = pixels(shape, size, strides, padding, dilation_rate)
    return i + 1, j + 1


def conv2d_forward(
    x, kernel, bias, *, strides=(1, 1), padding="valid", dilation_rate=(1, 1), groups=1
):
    """(B, H, W, C), kernel (height, width, C / groups, filters) -> (B, rows, columns, filters)"""
    *size, width, filters = kernel.shape
    share = filters // groups
    options = size, strides, padding, dilation_rate
    y = np.zeros((len(x), *counted(x.shape, *options), filters))
    for i, j, window in pixels(x.shape, *options):
        for place in np.ndindex(*size):
            if (pixel := window[place[0]][place[1]]) is None:
                continue
            for g in range(groups):
                part = slice(g * share, (g + 1) * share)
                inputs = x[:, pixel[0], pixel[1], g * width : (g + 1) * width]
                y[:, i, j, part] += inputs @ kernel[place][:, part]
    return y if bias is None else y + bias


def pooling2d_forward(x, reduce, pool_size, strides=None, padding="valid"):
    """(B, H, W, C) -> (B, rows, columns, C), reduce being np.max or np.mean"""
    options = pool_size, strides or pool_size, padding
    y = np.zeros((len(x), *counted(x.shape, *options), x.shape[3]))
    for i, j, window in pixels(x.shape, *options):
        inside = [pixel for row in window for pixel in row if pixel is not None]
        y[:, i, j] = reduce([x[:, h, w] for h, w in inside], axis=0)
    return y


# Losses: (y_true, y_pred) of equal shape (..., n) -> values (...), and dvalues (..., n), the
# derivative of each value with respect to its own row of y_pred.


def clip(x, low, high):
    return np.clip(x, low, high), ((x >= low) & (x <= high)).astype(float)


def mean_last(values, derivative):
    return values.mean(axis=-1), derivative / values.shape[-1]


def mean_squared_error(y_true, y_pred):
    return mean_last((y_pred - y_true) ** 2, 2.0 * (y_pred - y_true))


def mean_absolute_error(y_true, y_pred):
    return mean_last(abs(y_pred - y_true), np.sign(y_pred - y_true))


def mean_absolute_percentage_error(y_true, y_pred):
    scale = 100.0 / np.maximum(abs(y_true), EPSILON)
    return mean_last(scale * abs(y_pred - y_true), scale * np.sign(y_pred - y_true))


def mean_squared_logarithmic_error(y_true, y_pred):
    error = np.log1p(np.maximum(y_pred, EPSILON)) - np.log1p(np.maximum(y_true, EPSILON))
    return mean_last(error**2, 2.0 * error * (y_pred >= EPSILON) / (1.0 + y_pred))


def huber(y_true, y_pred, delta=1.0):
    error = y_pred - y_true
    quadratic = abs(error) <= delta
    return mean_last(
        np.where(quadratic, 0.5 * error**2, delta * abs(error) - 0.5 * delta**2),
        np.where(quadratic, error, delta * np.sign(error)),
    )


def log_cosh(y_true, y_pred):
    error = y_pred - y_true
    return mean_last(error + softplus(-2.0 * error) - math.log(2.0), np.tanh(error))


def hinge_labels(y_true):
    binary = np.isin(y_true, (0.0, 1.0)).all()
    return 2.0 * y_true - 1.0 if binary else y_true


def hinge(y_true, y_pred):
    y_true = hinge_labels(y_true)
    margin = np.maximum(1.0 - y_true * y_pred, 0.0)
    return mean_last(margin, -y_true * (margin > 0))


def squared_hinge(y_true, y_pred):
    y_true = hinge_labels(y_true)
    margin = np.maximum(1.0 - y_true * y_pred, 0.0)
    return mean_last(margin**2, -2.0 * y_true * margin)


def categorical_hinge(y_true, y_pred):
    others = (1.0 - y_true) * y_pred
    worst = np.eye(y_pred.shape[-1])[others.argmax(axis=-1)]
    values = others.max(axis=-1) - (y_true * y_pred).sum(axis=-1) + 1.0
    return np.maximum(values, 0.0), (values > 0)[..., None] * (worst * (1.0 - y_true) - y_true)


def kl_divergence(y_true, y_pred):
    y_true = np.clip(y_true, EPSILON, 1.0)
    y_pred, inside = clip(y_pred, EPSILON, 1.0)
    return (y_true * np.log(y_true / y_pred)).sum(axis=-1), -inside * y_true / y_pred


def poisson(y_true, y_pred):
    return mean_last(y_pred - y_true * np.log(y_pred + EPSILON), 1.0 - y_true / (y_pred + EPSILON))


def cosine_similarity(y_true, y_pred):
    norm = np.sqrt((y_pred**2).sum(axis=-1, keepdims=True))
    true = y_true / np.sqrt((y_true**2).sum(axis=-1, keepdims=True))
    pred = y_pred / norm
    cosine = (true * pred).sum(axis=-1, keepdims=True)
    return -cosine[..., 0], -(true - cosine * pred) / norm


def binary_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0):
    y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        return mean_last(softplus(y_pred) - y_true * y_pred, sigmoid(y_pred) - y_true)
    y_pred, inside = clip(y_pred, EPSILON, ALMOST_ONE)
    return mean_last(
        -y_true * np.log(y_pred) - (1.0 - y_true) * np.log1p(-y_pred),
        inside * (y_pred - y_true) / (y_pred * (1.0 - y_pred)),
    )


def categorical_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0):
    y_true = y_true * (1.0 - label_smoothing) + label_smoothing / y_true.shape[-1]
    if from_logits:
        values = -(y_true * log_softmax(y_pred)).sum(axis=-1)
        return values, y_true.sum(axis=-1, keepdims=True) * softmax(y_pred) - y_true
    total = y_pred.sum(axis=-1, keepdims=True)
    share, inside = clip(y_pred / total, EPSILON, ALMOST_ONE)
    dshare = -inside * y_true / share
    dpred = (dshare - (dshare * y_pred / total).sum(axis=-1, keepdims=True)) / total
    return -(y_true * np.log(share)).sum(axis=-1), dpred


def sparse_categorical_crossentropy(y_true, y_pred, from_logits=False, ignore_class=None):
    """y_true is (...) of class numbers. Probabilities are clipped, then normalized."""
    labels = np.asarray(y_true).astype(int)
    ignored = np.zeros(labels.shape, bool) if ignore_class is None else labels == ignore_class
    one_hot = np.eye(y_pred.shape[-1])[np.where(ignored, 0, labels)]
    logits, dlogits = y_pred, 1.0
    if not from_logits:
        share, inside = clip(y_pred, EPSILON, ALMOST_ONE)
        logits, dlogits = np.log(share), inside / share
    values = -(one_hot * log_softmax(logits)).sum(axis=-1)
    derivative = (softmax(logits) - one_hot) * dlogits
    return np.where(ignored, 0.0, values), np.where(ignored[..., None], 0.0, derivative)


LOSSES = {
    function.__name__: function
    for function in (
        mean_squared_error,
        mean_absolute_error,
        mean_absolute_percentage_error,
        mean_squared_logarithmic_error,
        huber,
        log_cosh,
        hinge,
        squared_hinge,
        categorical_hinge,
        kl_divergence,
        poisson,
        cosine_similarity,
        binary_crossentropy,
        categorical_crossentropy,
        sparse_categorical_crossentropy,
    )
}
LOSSES |= {
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "msle": mean_squared_logarithmic_error,
    "kld": kl_divergence,
    "bce": binary_crossentropy,
}


def reduction_weights(shape, reduction="sum_over_batch_size", sample_weight=None, mask=None):
    """What every value of a loss of this shape counts in the reduced loss."""
    if mask is not None:
        mask = np.asarray(mask, float)
        if reduction != "sum" and reduction != "mean_with_sample_weight":
            mask = mask * mask.size / max(mask.sum(), 1.0)
        sample_weight = mask if sample_weight is None else sample_weight * mask
    weights = np.ones(shape)
    if sample_weight is not None:
        sample_weight = np.asarray(sample_weight, float)
        if sample_weight.ndim == len(shape) + 1:
            sample_weight = sample_weight[..., 0]
        weights = weights * sample_weight
    if reduction == "sum":
        return weights
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        total = sample_weight.sum()
        return weights / total if total else np.zeros(shape)
    return weights / weights.size


def loss_forward(
    name,
    y_true,
    y_pred,
    *,
    reduction="sum_over_batch_size",
    sample_weight=None,
    mask=None,
    **options,
):
    """-> loss, dloss/dy_pred. The ranks of y_true and y_pred are matched as Keras does."""
    y_true = np.asarray(y_true, float)
    shape = y_pred.shape
    if y_pred.ndim == y_true.ndim + 1 and y_pred.shape[-1] == 1:
        if y_true.ndim == 1:
            y_true = y_true[:, None]
        else:
            y_pred = y_pred[..., 0]
    elif y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if LOSSES[name] is sparse_categorical_crossentropy:
        if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
            y_true = y_true[..., 0]
        if options.get("ignore_class") is not None:
            valid = y_true != options["ignore_class"]
            mask = valid if mask is None else mask & valid
    values, dvalues = LOSSES[name](y_true, y_pred, **options)
    weights = reduction_weights(values.shape, reduction, sample_weight, mask)
    return (values * weights).sum(), (weights[..., None] * dvalues).reshape(shape)


# Optimizers: one step of one variable; `slots` is a dict of its moments, `step` starts at 1.


def slot(slots, name, like, value=0.0):
    return slots.setdefault(name, np.full_like(like, value))


def sgd(w, g, slots, step, *, learning_rate=0.01, momentum=0.0, nesterov=False):
    if momentum == 0.0:
        return w - learning_rate * g
    slots["m"] = m = momentum * slot(slots, "m", w) - learning_rate * g
    return w + (momentum * m - learning_rate * g if nesterov else m)


def rmsprop(
    w, g, slots, step, *, learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False
):
    slots["v"] = v = rho * slot(slots, "v", w) + (1.0 - rho) * g**2
    denominator = v + epsilon
    if centered:
        slots["mean"] = mean = rho * slot(slots, "mean", w) + (1.0 - rho) * g
        denominator = denominator - mean**2
    slots["m"] = m = momentum * slot(slots, "m", w) + learning_rate * g / np.sqrt(denominator)
    return w - m


def adam(
    w, g, slots, step, *, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False
):
    slots["m"] = m = beta_1 * slot(slots, "m", w) + (1.0 - beta_1) * g
    slots["v"] = v = beta_2 * slot(slots, "v", w) + (1.0 - beta_2) * g**2
    if amsgrad:
        slots["v_hat"] = v = np.maximum(slot(slots, "v_hat", w), v)
    alpha = learning_rate * np.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)
    return w - alpha * m / (np.sqrt(v) + epsilon)


def adamax(w, g, slots, step, *, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    slots["m"] = m = beta_1 * slot(slots, "m", w) + (1.0 - beta_1) * g
    slots["u"] = u = np.maximum(beta_2 * slot(slots, "u", w), abs(g))
    return w - learning_rate * m / ((1.0 - beta_1**step) * (u + epsilon))


def nadam(w, g, slots, step, *, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    def schedule(t):
        return beta_1 * (1.0 - 0.5 * 0.96**t)

    product = math.prod(schedule(t) for t in range(1, step + 1))
    slots["m"] = m = beta_1 * slot(slots, "m", w) + (1.0 - beta_1) * g
    slots["v"] = v = beta_2 * slot(slots, "v", w) + (1.0 - beta_2) * g**2
    m_hat = schedule(step + 1) * m / (1.0 - product * schedule(step + 1))
    m_hat = m_hat + (1.0 - schedule(step)) * g / (1.0 - product)
    v_hat = v / (1.0 - beta_2**step)
    return w - learning_rate * m_hat / (np.sqrt(v_hat) + epsilon)


def adagrad(w, g, slots, step, *, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7):
    slots["a"] = a = slot(slots, "a", w, initial_accumulator_value) + g**2
    return w - learning_rate * g / np.sqrt(a + epsilon)


def adadelta(w, g, slots, step, *, learning_rate=0.001, rho=0.95, epsilon=1e-7):
    slots["g"] = mean_g = rho * slot(slots, "g", w) + (1.0 - rho) * g**2
    delta = -np.sqrt(slot(slots, "d", w) + epsilon) / np.sqrt(mean_g + epsilon) * g
    slots["d"] = rho * slots["d"] + (1.0 - rho) * delta**2
    return w + learning_rate * delta


OPTIMIZERS = {
    "SGD": (sgd, 0.01),
    "RMSprop": (rmsprop, 0.001),
    "Adam": (adam, 0.001),
    "AdamW": (adam, 0.001),
    "Adamax": (adamax, 0.001),
    "Nadam": (nadam, 0.001),
    "Adagrad": (adagrad, 0.001),
    "Adadelta": (adadelta, 0.001),
}


def clip_gradients(gradients, clipnorm=None, clipvalue=None, global_clipnorm=None):
    if clipnorm:
        return [g * clipnorm / max(np.sqrt((g**2).sum()), clipnorm) for g in gradients]
    if global_clipnorm:
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        return [g * global_clipnorm / max(norm, global_clipnorm) for g in gradients]
    if clipvalue:
        return [np.clip(g, -clipvalue, clipvalue) for g in gradients]
    return gradients


def optimizer_step(
    name,
    weights,
    gradients,
    slots,
    step,
    *,
    clipnorm=None,
    clipvalue=None,
    global_clipnorm=None,
    weight_decay=None,
    **options,
):
    """Lists of weights, gradients and slots (dicts) -> list of new weights. Steps start at 1."""
    update, learning_rate = OPTIMIZERS[name]
    options = {"learning_rate": learning_rate, **options}
    if name == "AdamW" and weight_decay is None:
        weight_decay = 0.004
    gradients = clip_gradients(gradients, clipnorm, clipvalue, global_clipnorm)
    decay = options["learning_rate"] * (weight_decay or 0.0)
    return [
        update(w - decay * w, g, s, step, **options)
        for w, g, s in zip(weights, gradients, slots, strict=True)
    ]


# Regularizers and constraints: (class name, configuration) as Keras writes them.


def regularize(regularizer, w):
    """-> penalty, its gradient"""
    if regularizer is None:
        return 0.0, np.zeros_like(w)
    name, config = regularizer["class_name"], regularizer["config"]
    if name in ("L1", "L2", "L1L2"):
        l1, l2 = config.get("l1", 0.0), config.get("l2", 0.0)
        return l1 * abs(w).sum() + l2 * (w**2).sum(), l1 * np.sign(w) + 2.0 * l2 * w
    if name == "OrthogonalRegularizer":
        rows = w if config["mode"] == "rows" else w.T
        norms = np.sqrt((rows**2).sum(axis=1, keepdims=True))
        unit = rows / norms
        product = (unit @ unit.T) * (1.0 - np.eye(len(unit)))
        scale = config["factor"] / (len(unit) * (len(unit) - 1.0))
        dunit = 2.0 * scale * np.sign(product) @ unit
        drows = (dunit - unit * (dunit * unit).sum(axis=1, keepdims=True)) / norms
        return scale * abs(product).sum(), drows if config["mode"] == "rows" else drows.T
    raise ValueError(f"Unknown regularizer: {name}")


def constrain(constraint, w):
    if constraint is None:
        return w
    name, config = constraint["class_name"], constraint["config"]
    if name == "NonNeg":
        return np.maximum(w, 0.0)
    axis = config["axis"]
    norms = np.sqrt((w**2).sum(axis=tuple(np.atleast_1d(axis)), keepdims=True))
    if name == "UnitNorm":
        desired = np.ones_like(norms)
    elif name == "MaxNorm":
        desired = np.clip(norms, 0.0, config["max_value"])
    elif name == "MinMaxNorm":
        rate = config["rate"]
        clipped = np.clip(norms, config["min_value"], config["max_value"])
        desired = rate * clipped + (1.0 - rate) * norms
    else:
        raise ValueError(f"Unknown constraint: {name}")
    return w * desired / (EPSILON + norms)


# A Sequential model, read from the configuration that Keras writes.


class Sequential:
    """Reference model; `weights` is the list of Keras's `get_weights()`. Dropout is not applied.

    `states` keeps h and c of stateful layers, `weights` changes in `train_step`.
    """

    def __init__(self, config, weights):
        self.layers = [
            (layer["class_name"], layer["config"])
            for layer in config["layers"]
            if layer["class_name"] != "InputLayer"
        ]
        self.weights = [np.asarray(w, np.float64) for w in weights]
        self.states = {}
        self.slots = None
        self.step = 0

    def forward(self, x, training=False):
        """-> output; afterwards `mask`, `penalty`, `trainable` and `updates` describe the pass."""
        self.next_weight = 0
        self.mask, self.penalty, self.updates = None, 0.0, {}
        self.trainable, self.regularized, self.constraints = [], {}, {}
        self.backwards = []
        y = np.asarray(x)
        if y.dtype.kind == "f":
            y = y.astype(np.float64)
        for name, config in self.layers:
            y, self.mask, backward = getattr(self, name)(config, y, self.mask, training)
            self.backwards.append(backward)
            regularizer = config.get("activity_regularizer")
            if regularizer is not None and name != "Bidirectional":
                self.backwards.append(self.activity(regularizer, y))
        return y

    def backward(self, dy):
        """-> dx, gradients of the trainable weights, both of loss + penalty"""
        gradients = {index: gradient.copy() for index, gradient in self.regularized.items()}
        for backward in reversed(self.backwards):
            dy, layer_gradients = backward(dy)
            for index, gradient in layer_gradients.items():
                gradients[index] = gradients.get(index, 0.0) + gradient
        return dy, [gradients[index] for index in self.trainable]

    def loss_and_gradients(self, x, y, loss, sample_weight=None, **options):
        """-> loss, gradients, dx. A crossentropy looks through a final sigmoid or softmax."""
        model = self
        name, config = self.layers[-1]
        looks_through = {
            ("sigmoid", binary_crossentropy),
            ("softmax", categorical_crossentropy),
            ("softmax", sparse_categorical_crossentropy),
        }
        if (
            name in ("Dense", "Activation")
            and (config["activation"], LOSSES[loss]) in looks_through
            and options.get("ignore_class") is None
        ):
            model = copy.copy(self)
            model.layers = self.layers[:-1] + [(name, {**config, "activation": "linear"})]
            options = {**options, "from_logits": True}
        y_pred = model.forward(x, training=True)
        value, dy = loss_forward(
            loss, y, y_pred, sample_weight=sample_weight, mask=model.mask, **options
        )
        dx, gradients = model.backward(dy)
        self.trainable, self.constraints = model.trainable, model.constraints
        self.updates, self.states = model.updates, model.states
        return value + model.penalty, gradients, dx

    def train_step(self, x, y, loss, optimizer, sample_weight=None, **options):
        """`optimizer` is (name, configuration)."""
        name, config = optimizer
        value, gradients, _ = self.loss_and_gradients(x, y, loss, sample_weight, **options)
        if self.slots is None:
            self.slots = [{} for _ in gradients]
        self.step += 1
        trained = optimizer_step(
            name,
            [self.weights[index] for index in self.trainable],
            gradients,
            self.slots,
            self.step,
            **config,
        )
        for index, weight in zip(self.trainable, trained, strict=True):
            self.weights[index] = constrain(self.constraints.get(index), weight)
        for index, value_ in self.updates.items():
            self.weights[index] = value_
        return value

    def take(self, config, *names, trainable=True):
        """The next weights and their indices, registering regularizers and constraints."""
        taken = {}
        for name in names:
            index = self.next_weight
            self.next_weight += 1
            weight = self.weights[index]
            taken[name] = (index, weight)
            if not (trainable and config.get("trainable", True)):
                continue
            self.trainable.append(index)
            prefix = name.removesuffix("_kernel")
            penalty, gradient = regularize(config.get(f"{prefix}_regularizer"), weight)
            self.penalty += penalty
            self.regularized[index] = gradient
            self.constraints[index] = config.get(f"{prefix}_constraint")
        return taken

    def activity(self, regularizer, y):
        penalty, gradient = regularize(regularizer, y)
        self.penalty += penalty / len(y)
        return lambda dy: (dy + gradient / len(y), {})

    def Dense(self, config, x, mask, training):
        taken = self.take(config, "kernel", *(["bias"] if config["use_bias"] else []))
        kernel = taken["kernel"][1]
        bias = taken["bias"][1] if "bias" in taken else None
        y, cache = dense_forward(x, kernel, bias, config["activation"])

        def backward(dy):
            gradients = dense_backward(dy, cache)
            return gradients["x"], {index: gradients[n] for n, (index, _) in taken.items()}

        return y, mask, backward

    def TimeDistributed(self, config, x, mask, training):
        inner = config["layer"]
        if inner["class_name"] == "Dense":
            return self.Dense(inner["config"], x, mask, training)
        batch, timesteps = x.shape[:2]
        rows = x.reshape(batch * timesteps, *x.shape[2:])
        y, _, inner_backward = getattr(self, inner["class_name"])(
            inner["config"], rows, None, training
        )

        def backward(dy):
            dx, gradients = inner_backward(dy.reshape(y.shape))
            return dx.reshape(x.shape), gradients

        return y.reshape(batch, timesteps, *y.shape[1:]), mask, backward

    def Activation(self, config, x, mask, training):
        name = config["activation"]
        return activate(name, x), mask, lambda dy: (activate_backward(name, x, dy), {})

    def Dropout(self, config, x, mask, training):
        return x, mask, lambda dy: (dy, {})

    def Flatten(self, config, x, mask, training):
        return x.reshape(len(x), -1), None, lambda dy: (dy.reshape(x.shape), {})

    def Reshape(self, config, x, mask, training):
        y = x.reshape(len(x), *config["target_shape"])
        return y, None, lambda dy: (dy.reshape(x.shape), {})

    def RepeatVector(self, config, x, mask, training):
        y = np.repeat(x[:, None], config["n"], axis=1)
        return y, None, lambda dy: (dy.sum(axis=1), {})

    def Masking(self, config, x, mask, training):
        y, mask = masking_forward(x, np.float32(config["mask_value"]))
        return y, mask, lambda dy: (masking_backward(dy, mask), {})

    def Embedding(self, config, x, mask, training):
        taken = self.take(config, "embeddings")
        index, embeddings = taken["embeddings"]
        y, cache = embedding_forward(x.astype(int), embeddings)
        mask = x != 0 if config["mask_zero"] else None
        return y, mask, lambda dy: (None, {index: embedding_backward(dy, cache)["embeddings"]})

    def BatchNormalization(self, config, x, mask, training):
        names = [n for n, used in (("gamma", "scale"), ("beta", "center")) if config[used]]
        taken = self.take(config, *names)
        moving = self.take(config, "moving_mean", "moving_variance", trainable=False)
        training = training and config.get("trainable", True)
        y, moments, cache = batch_normalization_forward(
            x,
            taken["gamma"][1] if "gamma" in taken else None,
            taken["beta"][1] if "beta" in taken else None,
            moving["moving_mean"][1],
            moving["moving_variance"][1],
            training=training,
            mask=mask,
            axis=config["axis"],
            momentum=config["momentum"],
            epsilon=config["epsilon"],
        )
        if training:
            for (index, _), moment in zip(moving.values(), moments, strict=True):
                self.updates[index] = moment

        def backward(dy):
            gradients = batch_normalization_backward(dy, cache)
            return gradients["x"], {index: gradients[n] for n, (index, _) in taken.items()}

        return y, mask, backward

    def lstm_arguments(self, config, x):
        names = ["kernel", "recurrent_kernel"] + (["bias"] if config["use_bias"] else [])
        taken = self.take(config, *names)
        arguments = {name: weight for name, (_, weight) in taken.items()}
        arguments.setdefault("bias", None)
        arguments["activation"] = config["activation"]
        arguments["recurrent_activation"] = config["recurrent_activation"]
        arguments["go_backwards"] = config["go_backwards"]
        if config["stateful"] and config["name"] in self.states:
            arguments["h0"], arguments["c0"] = self.states[config["name"]]
        return taken, arguments

    def LSTM(self, config, x, mask, training):
        taken, arguments = self.lstm_arguments(config, x)
        zero = config.get("zero_output_for_mask", False)
        outputs, h, c, cache = lstm_forward(x, mask=mask, zero_output_for_mask=zero, **arguments)
        if config["stateful"]:
            self.states[config["name"]] = (h, c)
        sequences = config["return_sequences"]

        def backward(dy):
            dy = dy if sequences else last_step_gradient(dy, x.shape[1])
            gradients = lstm_backward(dy, None, None, cache)
            return gradients["x"], {index: gradients[n] for n, (index, _) in taken.items()}

        return (outputs, mask, backward) if sequences else (outputs[:, -1], None, backward)

    def Bidirectional(self, config, x, mask, training):
        first, second = config["layer"]["config"], config["backward_layer"]["config"]
        taken_a, forward = self.lstm_arguments(first, x)
        taken_b, backward = self.lstm_arguments(second, x)
        sequences = first["return_sequences"]
        y, states, cache = bidirectional_forward(
            x,
            forward,
            backward,
            merge_mode=config["merge_mode"],
            return_sequences=sequences,
            mask=mask,
        )
        if first["stateful"]:
            self.states[first["name"]] = states[:2]
            self.states[second["name"]] = states[2:]

        def backward_pass(dy):
            dx, gradients_a, gradients_b = bidirectional_backward(dy, cache)
            gradients = {index: gradients_a[n] for n, (index, _) in taken_a.items()}
            gradients |= {index: gradients_b[n] for n, (index, _) in taken_b.items()}
            return dx, gradients

        return y, mask if sequences else None, backward_pass
