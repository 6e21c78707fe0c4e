"""PyTorch: nn.LSTM, the loop of its tutorials, inference_mode."""

import torch
import workloads
from torch import nn


class Network(nn.Module):
    """(batch, timesteps, ...) -> the head's input to its activation."""

    def __init__(self, workload):
        super().__init__()
        self.layers = nn.ModuleList()
        self.returns_sequences = []
        for layer, weights in workload.parameters():
            match layer:
                case workloads.Embedding(size, width):
                    module = nn.Embedding(size, width)
                    values = weights
                case workloads.LSTM(units, _, bidirectional):
                    module = nn.LSTM(
                        len(weights[0]), units, batch_first=True, bidirectional=bidirectional
                    )
                    values = []
                    for d in range(0, len(weights), 3):
                        kernel, recurrent_kernel, bias = weights[d : d + 3]
                        values += [kernel.T, recurrent_kernel.T, bias, 0 * bias]
                case workloads.Dense(units):
                    module = nn.Linear(len(weights[0]), units)
                    values = [weights[0].T, weights[1]]
            with torch.no_grad():
                for parameter, value in zip(module.parameters(), values, strict=True):
                    parameter.copy_(torch.from_numpy(value.copy()))
            self.layers.append(module)
            self.returns_sequences.append(getattr(layer, "sequences", False))

    def forward(self, x):
        for module, sequences in zip(self.layers, self.returns_sequences, strict=True):
            if isinstance(module, nn.LSTM):
                y, (h, _) = module(x)
                x = y if sequences else torch.cat(list(h), dim=-1)
            else:
                x = module(x)
        return x


class PyTorch:
    version = torch.__version__
    flush = False

    def __init__(self, workload, threads):
        torch.set_flush_denormal(self.flush)
        torch.set_num_threads(threads)
        self.workload = workload
        self.network = Network(workload)
        self.optimizer = torch.optim.Adam(self.network.parameters(), eps=1e-7, fused=True)
        x, y = map(torch.from_numpy, workload.data())
        if workload.loss == "categorical_crossentropy":
            self.loss, y = nn.CrossEntropyLoss(), y.argmax(dim=-1)
        else:
            self.loss = nn.BCEWithLogitsLoss()
        self.batches = list(zip(x.split(workload.batch), y.split(workload.batch), strict=True))
        self.one_sample = x[:1]
        self.activation = {
            None: nn.Identity(), "sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(dim=-1)
        }[workload.head.activation]  # fmt: skip

    def train(self):
        self.network.train()
        total = 0.0
        for x, y in self.batches:
            self.optimizer.zero_grad()
            loss = self.loss(self.network(x), y)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.batches)

    def predict(self):
        return self._infer(self.batches[0][0])

    def one(self):
        return self._infer(self.one_sample)

    def _infer(self, x):
        self.network.eval()
        with torch.inference_mode():
            return self.activation(self.network(x)).numpy()


class PyTorchFlushed(PyTorch):
    """With subnormal numbers flushed to zero, which the user has to know of."""

    flush = True
