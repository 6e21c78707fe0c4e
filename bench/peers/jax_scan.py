"""JAX: jit over lax.scan, the input's product ahead of the scan, a hand-written Adam."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import workloads
from jax import lax


def lstm(x, kernel, recurrent_kernel, bias, reverse):
    """x (timesteps, batch, features) -> outputs of all time steps, the last one."""

    def step(state, z):
        h, c = state
        i, f, g, o = jnp.split(z + h @ recurrent_kernel, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[1], len(recurrent_kernel)))
    (last, _), y = lax.scan(step, (zeros, zeros), x @ kernel + bias, reverse=reverse)
    return y, last


def logits(layers, parameters, x):
    x = jnp.swapaxes(x, 0, 1)
    for layer, weights in zip(layers, parameters, strict=True):
        match layer:
            case workloads.Embedding():
                x = weights[0][x]
            case workloads.LSTM(sequences=sequences):
                both = [
                    lstm(x, *weights[d : d + 3], reverse=d > 0) for d in range(0, len(weights), 3)
                ]
                x = jnp.concatenate([pair[0 if sequences else 1] for pair in both], axis=-1)
            case workloads.Dense():
                x = x @ weights[0] + weights[1]
    return jnp.swapaxes(x, 0, 1) if x.ndim == 3 else x


def loss(layers, parameters, x, y):
    z = logits(layers, parameters, x)
    if layers[-1].activation == "sigmoid":
        return jnp.mean(jnp.logaddexp(0, z) - y * z)
    return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(z), axis=-1))


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(layers, state, x, y):
    parameters, means, squares, count = state
    value, gradients = jax.value_and_grad(partial(loss, layers))(parameters, x, y)
    count += 1
    rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    means = jax.tree.map(lambda m, g: m + 0.1 * (g - m), means, gradients)
    squares = jax.tree.map(lambda s, g: s + 0.001 * (g * g - s), squares, gradients)
    parameters = jax.tree.map(
        lambda p, m, s: p - rate * m / (jnp.sqrt(s) + 1e-7), parameters, means, squares
    )
    return (parameters, means, squares, count), value


@partial(jax.jit, static_argnums=0)
def infer(layers, parameters, x):
    z = logits(layers, parameters, x)
    activation = {None: lambda z: z, "sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax}
    return activation[layers[-1].activation](z)


class Jax:
    version = jax.__version__

    def __init__(self, workload, threads):
        self.workload = workload
        parameters = [[jnp.asarray(w) for w in ws] for _, ws in workload.parameters()]
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
        self.state = (parameters, *zeros, jnp.zeros(()))
        starts = range(0, workload.batch * workload.steps, workload.batch)
        x, y = workload.data()
        self.batches = [
            (jnp.asarray(x[i : i + workload.batch]), jnp.asarray(y[i : i + workload.batch]))
            for i in starts
        ]
        self.one_sample = jnp.asarray(x[:1])

    def train(self):
        values = []
        for x, y in self.batches:
            self.state, value = train_step(self.workload.layers, self.state, x, y)
            values.append(value)
        jax.block_until_ready(self.state)
        return np.mean(values)

    def predict(self):
        return self._infer(self.batches[0][0])

    def one(self):
        return self._infer(self.one_sample)

    def _infer(self, x):
        return infer(self.workload.layers, self.state[0], x).block_until_ready()
