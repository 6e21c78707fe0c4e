"""from_torch and to_torch against PyTorch itself."""

import contextlib

import numpy as np
import pytest
from graph_examples import GRAPHS, assert_close, data, predicted
from graph_examples import built as built_graph
from test_layers import CASES, built

import fastrnn
from fastrnn import layers as L
from fastrnn.models import Model

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
nn = torch.nn

# What torch.nn's modules do not compute, by words in a case's name: words of the error.
NOT_IN_TORCH = {
    "lstm hard": "tanh and sigmoid only",
    "lstm gelu": "tanh and sigmoid only",
    "lstm silu": "tanh and sigmoid only",
    "gru gelu": "tanh and sigmoid only",
    "simple rnn gelu": "tanh and relu only",
    "bidirectional gelu": "tanh and sigmoid only",
    "gru reset before": "reset_after",
    "bidirectional of both": "alike",
    "bidirectional two layers": "alike",
    "bidirectional rnn of cells": "one cell in each direction",
    "embedding mask": "masks are not supported",
    "masking": "masks are not supported",
    "layer normalization middle": "last axes",
    "layer normalization plain": "last axes",
    "layer normalization rms": "last axes",
    "softmax": "one axis",
    "relu": "no options",
}


def run(module, x):
    with torch.no_grad():
        return module.eval()(torch.tensor(np.asarray(x)))


@pytest.mark.parametrize("case", CASES)
def test_every_layer_to_torch(case, rng):
    model, x = built(case, rng)
    words = NOT_IN_TORCH.get(case) or next(
        (w for name, w in NOT_IN_TORCH.items() if " " in name and case.startswith(name)), None
    )
    if words:
        with pytest.raises(ValueError, match=f"layer '.*{words}"):
            fastrnn.to_torch(model)
        return
    y = run(fastrnn.to_torch(model), x).numpy()
    np.testing.assert_allclose(y, model.predict(x, verbose=0), rtol=1e-5, atol=5e-6)


def without_masks(monkeypatch):
    """Embeddings of the examples that mask nothing."""
    create = L.Embedding.__init__
    monkeypatch.setattr(
        L.Embedding, "__init__", lambda self, *a, mask_zero=False, **k: create(self, *a, **k)
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_to_torch(name, rng, monkeypatch):
    without_masks(monkeypatch)
    model = built_graph(name, rng)
    words = None
    if name.startswith("heads of"):
        words = "three axes"
    elif name.startswith("both ways from states"):
        words = "alike"
    if words:
        with pytest.raises(ValueError, match=f"layer '.*{words}"):
            fastrnn.to_torch(model)
        return
    module = fastrnn.to_torch(model)
    for free in ((3, 5), (1, 1), (4, 7)):
        x = data(model, rng, free)
        with torch.no_grad():
            y = module(*map(torch.tensor, x))
        found = [part.numpy() for part in (y if isinstance(y, tuple) else [y])]
        assert_close(found, predicted(model, x))


def test_masks_of_graphs_are_refused(rng):
    with pytest.raises(ValueError, match="layer 'source_embedded': masks are not supported"):
        fastrnn.to_torch(built_graph("encoder, decoder, masks", rng))


def test_what_calls_say_is_refused():
    start, mask = L.Input((None, 3)), L.Input((None,))
    for call, words in (
        (lambda: L.GRU(2, name="mine")(start, mask=mask), "masks are not supported"),
        (lambda: L.Dropout(0.5, name="mine")(start, training=True), "training=True"),
        (lambda: L.Dense(3, name="mine")(start) + start, "Add is not supported"),
    ):
        y = call()
        with pytest.raises(ValueError, match=f"to_torch: layer '(mine|add).*': .*{words}"):
            fastrnn.to_torch(Model([start, mask], [y, L.Activation("tanh")(mask)]))


def test_shared_layers_are_one_module(rng, monkeypatch):
    without_masks(monkeypatch)
    model = built_graph("siamese", rng)
    module = fastrnn.to_torch(model)
    numbers = sum(parameter.numel() for parameter in module.parameters())
    assert numbers == model.count_params() + 16  # PyTorch has two biases


RECURRENT = {
    "one": {},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "deep": {"num_layers": 3, "dropout": 0.4},
    "both ways": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "both ways no bias": {"bidirectional": True, "bias": False},
}


@pytest.mark.parametrize("options", RECURRENT)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_modules(kind, options, rng):
    options = RECURRENT[options]
    torch.manual_seed(3)
    module = getattr(nn, kind)(4, 3, **options)
    x = rng.standard_normal((5, 7, 4)).astype(np.float32)
    batch_first = options.get("batch_first", False)
    y, last = run(module, x if batch_first else x.swapaxes(0, 1))
    y = y if batch_first else y.transpose(0, 1)
    last = last[0] if kind == "LSTM" else last
    model = fastrnn.from_torch(module)
    np.testing.assert_allclose(model.predict(x, verbose=0), y, rtol=1e-5, atol=1e-6)
    directions = 2 if options.get("bidirectional") else 1
    said = contextlib.nullcontext()
    if directions == 2:
        said = pytest.warns(UserWarning, match=r"differs from its y\[:, -1\]; .*predict")
    with said:
        model = fastrnn.from_torch(module, return_sequences=False)
    h = torch.cat(list(last[-directions:]), -1)
    np.testing.assert_allclose(model.predict(x, verbose=0), h, rtol=1e-5, atol=1e-6)
    dropouts = [layer.rate for layer in model.layers if isinstance(layer, L.Dropout)]
    assert dropouts == [0.4] * 2 * ("dropout" in options)


def test_the_last_step_of_a_bidirectional_network(rng):
    """As networks are often written: the recipe of from_torch."""
    torch.manual_seed(4)
    rnn, head = nn.LSTM(4, 3, bidirectional=True, batch_first=True), nn.Linear(6, 2)
    x = rng.standard_normal((5, 7, 4)).astype(np.float32)
    with torch.no_grad():
        y = head(rnn(torch.from_numpy(x))[0][:, -1]).numpy()
    weights = {f"rnn.{name}": value for name, value in rnn.state_dict().items()}
    weights |= {f"head.{name}": value for name, value in head.state_dict().items()}
    model = fastrnn.from_torch(weights, [("rnn", "LSTM"), ("head", "Linear")])
    np.testing.assert_allclose(model.predict(x, verbose=0)[:, -1], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("key", ["model_state", "state_dict", "net"])
def test_a_whole_checkpoint(key):
    linear = nn.Linear(3, 2)
    adam = torch.optim.Adam(linear.parameters())
    checkpoint = {"epoch": 3, "optimizer": adam.state_dict(), key: linear.state_dict(), "loss": 0.1}
    with pytest.raises(ValueError, match=rf"a whole checkpoint .*; pass checkpoint\['{key}'\]"):
        fastrnn.from_torch(checkpoint, [("", "Linear")])
    with pytest.raises(ValueError, match=r"pass checkpoint\['net'\]"):
        fastrnn.from_torch({"epoch": 3, "net": linear})


def test_sequence_of_modules(rng):
    """Everything that needs no output of an nn.LSTM to be chosen, and so runs in PyTorch too."""
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Embedding(9, 4),
        nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.LayerNorm(6), nn.Dropout(0.3)),
        nn.Identity(),
        nn.Linear(6, 3, bias=False),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.BatchNorm1d(15),
        nn.ELU(0.7),
        nn.Softmax(-1),
    )
    module.train()
    for _ in range(3):  # statistics that are not 0 and 1
        module(torch.tensor(rng.integers(0, 9, (8, 5))))
    x = rng.integers(0, 9, (6, 5))
    y = run(module, x)
    np.testing.assert_allclose(
        fastrnn.from_torch(module).predict(x, verbose=0), y, rtol=1e-5, atol=1e-6
    )


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.rnn = nn.GRU(4, 3, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return torch.sigmoid(self.head(self.rnn(self.words(x))[0]))


TAGGER = [("words", "Embedding"), ("rnn", "GRU"), ("head", "Linear")]


def test_state_dict(rng, tmp_path):
    safetensors = pytest.importorskip(
        "safetensors.numpy", reason="needs safetensors: pip install 'fastrnn[files]'"
    )
    torch.manual_seed(3)
    module = Tagger()
    x = rng.integers(0, 9, (6, 5))
    y = run(module, x)
    state = module.state_dict()
    arrays = {name: value.numpy() for name, value in state.items()}
    path = tmp_path / "tagger.safetensors"
    safetensors.save_file(arrays, path)
    for source in (state, arrays, path):
        model = fastrnn.from_torch(source, [*TAGGER, L.Activation("sigmoid")])
        np.testing.assert_allclose(model.predict(x, verbose=0), y, rtol=1e-5, atol=1e-6)


def test_there_and_back(rng):
    """fastrnn to PyTorch's own classes, and these back."""
    x = rng.standard_normal((6, 5, 4)).astype(np.float32)
    model = fastrnn.Sequential([L.Bidirectional(L.GRU(3, return_sequences=True)), L.Dense(2)])
    y = model.predict(x, verbose=0)
    recurrent, linear = fastrnn.to_torch(model)
    back = fastrnn.from_torch(nn.Sequential(recurrent.rnn, linear))
    for ours, theirs in zip(back.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(back.predict(x, verbose=0), y)


def test_the_module_can_be_trained(rng):
    """Its gradients are those of fastrnn."""
    x, target = (rng.standard_normal((6, *s)).astype(np.float32) for s in ((5, 4), (2,)))
    model = fastrnn.Sequential([L.Input((5, 4)), L.LSTM(3), L.Dense(2)])
    model.compile("sgd", "mse")
    module = fastrnn.to_torch(model)
    nn.functional.mse_loss(module(torch.tensor(x)), torch.tensor(target)).backward()
    _, gradients, _ = fastrnn.training.loss_and_gradients(model, x, target)
    np.testing.assert_allclose(
        module[0].rnn.weight_ih_l0.grad.T, gradients[0], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(module[1].weight.grad.T, gradients[3], rtol=1e-4, atol=1e-6)


def test_modules_that_are_refused():
    for module, words in (
        (Tagger(), "Tagger at 'the top'.*layers"),
        (nn.LSTM(4, 3, proj_size=2), "proj_size=2"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), "Conv2d.*at '0'"),
        (nn.Hardtanh(-2, 2), "Hardtanh"),
    ):
        with pytest.raises(ValueError, match=words):
            fastrnn.from_torch(module)


def test_rms_norm(rng):
    x = rng.standard_normal((6, 5, 4)).astype(np.float32)
    for module in (
        nn.RMSNorm(4),
        nn.RMSNorm([5, 4], 0.1),
        nn.RMSNorm((4,), elementwise_affine=False),
    ):
        for weight in module.parameters():
            nn.init.normal_(weight)
        whole = nn.Sequential(module, nn.Linear(4, 3))
        model, expected = fastrnn.from_torch(whole), run(whole, x)
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
        back = run(fastrnn.to_torch(model), x)
        np.testing.assert_allclose(back, expected, rtol=1e-5, atol=1e-6)
    norm = nn.RMSNorm(4)
    nn.init.normal_(norm.weight)
    model = fastrnn.from_torch({"norm.weight": norm.weight.detach()}, [("norm", "RMSNorm")])
    np.testing.assert_allclose(model.predict(x, verbose=0), run(norm, x), rtol=1e-5, atol=1e-6)
