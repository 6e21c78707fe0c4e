"""CRF against pytorch-crf: the same loss, gradients and paths from the same weights."""

import numpy as np
import pytest

from fastrnn import layers, models, training

torch = pytest.importorskip("torch")
torchcrf = pytest.importorskip("torchcrf")


@pytest.mark.parametrize("tags", [1, 2, 9, 17])
def test_the_same_numbers(tags):
    rng = np.random.default_rng(tags)
    batch, steps, features = 7, 12, 5
    mask = np.arange(steps) < rng.integers(1, steps + 1, batch)[:, None]
    x = np.where(mask[..., None], rng.normal(size=(batch, steps, features)), 0).astype(np.float32)
    y = rng.integers(0, tags, (batch, steps))

    torch.manual_seed(tags)
    dense, other = torch.nn.Linear(features, tags), torchcrf.CRF(tags, batch_first=True)
    inputs = torch.tensor(x, requires_grad=True)
    given = torch.tensor(mask)
    loss = -other(dense(inputs), torch.tensor(y), mask=given, reduction="mean")
    loss.backward()

    crf = layers.CRF(tags)
    model = models.Sequential([layers.Input((steps, features)), layers.Masking(), crf])
    model.compile("sgd", "crf")
    theirs = [
        *(dense.weight, other.transitions, dense.bias),
        *(other.start_transitions, other.end_transitions),
    ]
    numbers = [weight.detach().numpy() for weight in theirs]
    model.set_weights([numbers[0].T, *numbers[1:]])
    value, gradients, dx = training.loss_and_gradients(model, x, y)
    assert value == pytest.approx(loss.item(), rel=1e-5)
    expected = [weight.grad.numpy() for weight in theirs]
    for a, b in zip([*gradients, dx], [expected[0].T, *expected[1:], inputs.grad], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    paths = other.decode(dense(inputs), given)
    found = model.predict(x, verbose=0).argmax(axis=-1)
    assert [list(tags[used]) for tags, used in zip(found, mask, strict=True)] == paths
