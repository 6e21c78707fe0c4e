"""JAX: jit over lax.scan, the input's product ahead of the scan, a hand-written Adam."""

from functools import partial

import jax
import jax.numpy as jnp
import networks
import numpy as np
from jax import lax

ACTIVATIONS = {
    None: lambda z: z, "sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax, "tanh": jnp.tanh
}  # fmt: skip


def lstm(x, kernel, recurrent_kernel, bias, start, reverse):
    """x (timesteps, batch, features) -> outputs of all time steps, the last h and c."""

    def step(state, z):
        h, c = state
        i, f, g, o = jnp.split(z + h @ recurrent_kernel, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[1], len(recurrent_kernel)))
    last, y = lax.scan(step, start or (zeros, zeros), x @ kernel + bias, reverse=reverse)
    return y, *last


def _outputs(layer, weights, xs, ends):
    """What a layer puts out, a list; arrays with time steps have these first. ends: leave out the
    activation, which is the network's last."""
    x = xs[0]
    match layer:
        case networks.Embedding():
            return [weights[0][x]]
        case networks.LSTM(sequences=sequences):
            both = [
                lstm(x, *weights[d : d + 3], tuple(xs[1:]), reverse=d > 0)
                for d in range(0, len(weights), 3)
            ]
            y = jnp.concatenate([parts[0 if sequences else 1] for parts in both], axis=-1)
            return [y, *(state for _, *states in both for state in states if layer.states)]
        case networks.Dense():
            z = x @ weights[0] + weights[1]
            return [z if ends else ACTIVATIONS[layer.activation](z)]
        case networks.Concatenate():
            return [jnp.concatenate(xs, axis=-1)]
        case networks.Attention():
            shares = jax.nn.softmax(jnp.einsum("qbi,vbi->bqv", x, xs[1]))
            return [jnp.einsum("bqv,vbi->qbi", shares, xs[1])]
        case networks.SoftmaxOverTime():
            return [jax.nn.softmax(x, axis=0)]
        case networks.WeightedSum():
            return [jnp.einsum("tbj,tbi->bi", x, xs[1])]
    raise NotImplementedError(f"a network with {layer}")


def _time_first(network, name, array):
    """Swaps the first two axes of what has time steps."""
    layers = {output: node.layer for node in network.nodes for output in node.outputs}
    steps = array.ndim == 3 or getattr(layers[name], "indices", False)
    return jnp.swapaxes(array, 0, 1) if steps else array


def logits(network, parameters, xs):
    """The network's outputs without their last activations."""
    starts = zip(network.inputs, xs, strict=True)
    values = {name: _time_first(network, name, x) for name, x in starts}
    nodes = [node for node in network.nodes if not isinstance(node.layer, networks.Input)]
    for node, weights in zip(nodes, parameters, strict=True):
        ends = any(name in network.outputs for name in node.outputs)
        outs = _outputs(node.layer, weights, [values[name] for name in node.inputs], ends)
        values.update(zip(node.outputs, outs, strict=True))
    return [_time_first(network, name, values[name]) for name in network.outputs]


def loss(network, parameters, xs, ys):
    outs = logits(network, parameters, xs)
    return sum(_loss(kind, z, y) for kind, z, y in zip(network.losses, outs, ys, strict=True))


def _loss(kind, z, y):
    match kind:
        case "binary_crossentropy":
            return jnp.mean(jnp.logaddexp(0, z) - y * z)
        case "mean_squared_error":
            return jnp.mean((z - y) ** 2)
        case "sparse_categorical_crossentropy":
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[..., None], axis=-1))
    return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(z), axis=-1))


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(network, state, xs, ys):
    parameters, means, squares, count = state
    value, gradients = jax.value_and_grad(partial(loss, network))(parameters, xs, ys)
    count += 1
    rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    means = jax.tree.map(lambda m, g: m + 0.1 * (g - m), means, gradients)
    squares = jax.tree.map(lambda s, g: s + 0.001 * (g * g - s), squares, gradients)
    parameters = jax.tree.map(
        lambda p, m, s: p - rate * m / (jnp.sqrt(s) + 1e-7), parameters, means, squares
    )
    return (parameters, means, squares, count), value


@partial(jax.jit, static_argnums=0)
def infer(network, parameters, xs):
    outs = logits(network, parameters, xs)
    kinds = [getattr(head, "activation", None) for head in network.heads]
    return [ACTIVATIONS[kind](z) for kind, z in zip(kinds, outs, strict=True)]


def _arrays(network):
    return [[jnp.asarray(w) for w in weights] for _, weights in network.parameters()]


class Jax:
    version = jax.__version__

    def __init__(self, workload, threads):
        self.workload = workload
        if isinstance(workload, networks.Decoding):
            self.pair = [
                partial(infer, p, _arrays(p)) for p in (workload.encoder, workload.decoder)
            ]
            return
        parameters = _arrays(workload)
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
        self.state = (parameters, *zeros, jnp.zeros(()))
        starts = range(0, workload.batch * workload.steps, workload.batch)
        data = workload.data()
        self.batches = [
            [[jnp.asarray(a[i : i + workload.batch]) for a in arrays] for arrays in data]
            for i in starts
        ]
        self.one_sample = [jnp.asarray(x[:1]) for x in data[0]]

    def train(self):
        values = []
        for xs, ys in self.batches:
            self.state, value = train_step(self.workload, self.state, xs, ys)
            values.append(value)
        jax.block_until_ready(self.state)
        return np.mean(values)

    def predict(self):
        return self._infer(self.batches[0][0])

    def one(self):
        if isinstance(self.workload, networks.Decoding):
            return self.workload.greedy(*self.pair)
        return self._infer(self.one_sample)

    def _infer(self, xs):
        return jax.block_until_ready(infer(self.workload, self.state[0], xs))
