"""PyTorch: nn.LSTM, the loop of its tutorials, inference_mode; packed sequences where there is
padding, and the package pytorch-crf."""

from functools import reduce

import networks
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import rnn

try:
    import torchcrf
except ImportError:  # pytorch-crf is needed for one workload alone
    torchcrf = None

LOSSES = {
    "binary_crossentropy": nn.BCEWithLogitsLoss,
    "mean_squared_error": nn.MSELoss,
    "categorical_crossentropy": nn.CrossEntropyLoss,
    "sparse_categorical_crossentropy": nn.CrossEntropyLoss,
    "crf": lambda: None,
}
ACTIVATIONS = {
    None: nn.Identity(), "sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(dim=-1), "tanh": nn.Tanh()
}  # fmt: skip


class Network(nn.Module):
    """Arrays (batch, ...) of a network's inputs -> those that its heads' activations get."""

    def __init__(self, network):
        super().__init__()
        self.modules_of = nn.ModuleList()
        self.crf, self.padded = None, any(layer.padded for layer in network.inputs.values())
        self.calls, numbers = [], {name: i for i, name in enumerate(network.inputs)}
        for node, weights in network.parameters():
            for name in node.outputs:
                numbers[name] = len(numbers)
            ends = any(name in network.outputs for name in node.outputs)
            call = self._call(node.layer, weights, ends)
            ins, outs = ([numbers[name] for name in names] for names in (node.inputs, node.outputs))
            self.calls.append((call, ins, outs))
        self.size, self.ends = len(numbers), [numbers[name] for name in network.outputs]

    def _call(self, layer, weights, ends):
        """What computes a node: a function of its inputs, which gives a tuple."""
        match layer:
            case networks.Embedding(size, width):
                module = self._add(nn.Embedding(size, width), weights)
            case networks.LSTM(units, sequences, bidirectional):
                values = []
                for d in range(0, len(weights), 3):
                    kernel, recurrent_kernel, bias = weights[d : d + 3]
                    values += [kernel.T, recurrent_kernel.T, bias, 0 * bias]
                lstm = nn.LSTM(
                    len(weights[0]), units, batch_first=True, bidirectional=bidirectional
                )
                self._add(lstm, values)
                if self.padded:
                    return lambda x: (self._packed(lstm, x),)
                return _recurrent(lstm, sequences, layer.states)
            case networks.Dense(units, activation):
                linear = nn.Linear(len(weights[0]), units)
                module = self._add(linear, [weights[0].T, weights[1]])
                if activation and not ends:
                    module = nn.Sequential(module, ACTIVATIONS[activation])
            case networks.CRF(units):
                if torchcrf is None:
                    raise NotImplementedError("a network with a CRF: pytorch-crf is not installed")
                kernel, chain, bias, left, right = weights
                module = self._add(nn.Linear(len(kernel), units), [kernel.T, bias])
                self.crf = torchcrf.CRF(units, batch_first=True)
                self._add(self.crf, [left, right, chain])
            case networks.Concatenate():
                return lambda *xs: (torch.cat(xs, dim=-1),)
            case networks.Attention():
                attention = functional.scaled_dot_product_attention
                return lambda query, value: (attention(query, value, value, scale=1.0),)
            case networks.SoftmaxOverTime():
                module = nn.Softmax(dim=1)
            case networks.WeightedSum():
                return lambda share, x: (torch.bmm(share.transpose(1, 2), x).squeeze(1),)
        return lambda x: (module(x),)

    def _add(self, module, values):
        with torch.no_grad():
            for parameter, value in zip(module.parameters(), values, strict=True):
                parameter.copy_(torch.from_numpy(value.copy()))
        self.modules_of.append(module)
        return module

    def _packed(self, lstm, x):
        packed = rnn.pack_padded_sequence(x, self.lengths, batch_first=True, enforce_sorted=False)
        y, _ = lstm(packed)
        return rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0]

    def forward(self, *xs):
        values = [*xs] + [None] * (self.size - len(xs))
        if self.padded:
            self.lengths = (xs[0] != 0).sum(dim=1)
        for call, ins, outs in self.calls:
            for place, y in zip(outs, call(*[values[i] for i in ins]), strict=False):
                values[place] = y
        return [values[i] for i in self.ends]


def _recurrent(lstm, sequences, gives_states):
    def call(x, *states):
        y, (h, c) = lstm(x, tuple([s[None] for s in states]) or None)
        if not sequences:
            y = torch.cat(list(h), dim=-1)
        if not gives_states:
            return (y,)
        return (y, *[part[i] for i in range(len(h)) for part in (h, c)])

    return call


class PyTorch:
    version = torch.__version__
    flush = False

    def __init__(self, workload, threads):
        torch.set_flush_denormal(self.flush)
        torch.set_num_threads(threads)
        self.workload = workload
        if isinstance(workload, networks.Decoding):
            self.pair = Network(workload.encoder), Network(workload.decoder)
            self.characters = torch.eye(workload.decoder.heads[0].units)[:, None, None]
            self.source = torch.from_numpy(workload.source)
            return
        self.network = Network(workload)
        self.optimizer = torch.optim.Adam(self.network.parameters(), eps=1e-7, fused=True)
        xs, ys = ([*map(torch.from_numpy, arrays)] for arrays in workload.data())
        self.losses, targets = [], []
        for loss, y in zip(workload.losses, ys, strict=True):
            if loss == "categorical_crossentropy":
                y = y.argmax(dim=-1)
            targets.append(y.long() if y.dtype == torch.int32 else y)
            self.losses.append(LOSSES[loss]())
        parts = [
            zip(*(a.split(workload.batch) for a in part), strict=True) for part in (xs, targets)
        ]
        self.batches = list(zip(*parts, strict=True))
        self.one_sample = [x[:1] for x in xs]
        self.activations = []
        if self.network.crf is None:
            self.activations = [ACTIVATIONS[head.activation] for head in workload.heads]

    def train(self):
        self.network.train()
        total = 0.0
        for xs, ys in self.batches:
            self.optimizer.zero_grad()
            outputs = self.network(*xs)
            if self.network.crf is None:
                loss = reduce(torch.add, map(self._loss, self.losses, outputs, ys))
            else:
                loss = -self.network.crf(*outputs, *ys, mask=xs[0] != 0, reduction="mean")
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.batches)

    def _loss(self, function, output, y):
        if isinstance(function, nn.CrossEntropyLoss):
            return function(output.flatten(0, -2), y.flatten())
        return function(output, y)

    def predict(self):
        return self._infer(self.batches[0][0])

    def one(self):
        if isinstance(self.workload, networks.Decoding):
            return self._decode()
        return self._infer(self.one_sample)

    def _infer(self, xs):
        self.network.eval()
        with torch.inference_mode():
            ys = self.network(*xs)
            if self.network.crf is not None:
                return [self.network.crf.decode(*ys, mask=xs[0] != 0)]
            return [a(y).numpy() for a, y in zip(self.activations, ys, strict=True)]

    def _decode(self):
        encoder, decoder = self.pair
        best, decoded = 0, []
        with torch.inference_mode():
            states = encoder(self.source)
            for _ in range(self.workload.length):
                scores, *states = decoder(self.characters[best], *states)
                best = scores.argmax().item()
                decoded.append(best)
        return decoded


class PyTorchFlushed(PyTorch):
    """With subnormal numbers flushed to zero, which the user has to know of."""

    flush = True
