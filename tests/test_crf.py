"""CRF: the kernels against all paths and a float64 reference, the layer, its loss and metrics."""

import itertools

import numpy as np
import pytest
from gradcheck import numeric_gradient

from fastrnn import _engine


def packed(scores, chain, first, last):
    """As the engine takes them."""
    parts = scores.reshape(-1, len(chain)), chain, first[None], last[None]
    return np.ascontiguousarray(np.concatenate(parts), np.float32)


def score(scores, chain, first, last, path):
    """Of a path through one sequence without masked steps."""
    steps = scores[range(len(path)), path].sum()
    return steps + chain[path[:-1], path[1:]].sum() + first[path[0]] + last[path[-1]]


def all_paths(scores, *energies):
    """(log of the sum over all paths, the probability of each tag in each step, best path)"""
    paths = np.array([*itertools.product(range(scores.shape[1]), repeat=len(scores))])
    values = np.array([score(scores, *energies, path) for path in paths])
    total = np.logaddexp.reduce(values)
    one_hot = np.eye(scores.shape[1])[paths]
    return total, np.einsum("p,pts->ts", np.exp(values - total), one_hot), paths[values.argmax()]


def log_sum(x, axis=None):
    top = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return total.sum() if axis is None else total.squeeze(axis)


def reference(scores, chain, first, last, tags):
    """(negative log-likelihood, its gradients by scores, chain, first and last) of one sequence, by
    the forward and the backward algorithm in float64."""
    steps, count = scores.shape
    alphas, betas = [first + scores[0]], [last]
    for step in scores[1:]:
        alphas.append(log_sum(alphas[-1][:, None] + chain, 0) + step)
    for step in scores[:0:-1]:
        betas.insert(0, log_sum(chain + step + betas[0], 1))
    total, one_hot = log_sum(alphas[-1] + last), np.eye(count)[tags]
    dscores = np.exp(np.add(alphas, betas) - total) - one_hot
    dchain = np.zeros((count, count))
    for t in range(1, steps):
        dchain += np.exp(alphas[t - 1][:, None] + chain + scores[t] + betas[t] - total)
    np.add.at(dchain, (tags[:-1], tags[1:]), -1)
    loss = total - score(scores, chain, first, last, tags)
    return loss, dscores, dchain, dscores[0], dscores[-1]


def of_batch(scores, chain, first, last, labels, mask, weights=None):
    """Losses of a batch, and the gradient of their sum times weights, rows as in packed()."""
    losses, dscores = np.zeros(len(scores)), np.zeros(scores.shape)
    others = [np.zeros(part.shape) for part in (chain, first, last)]
    for n, used in enumerate(mask):
        if used.any():
            found = reference(scores[n, used], chain, first, last, labels[n, used])
            weight = 1.0 if weights is None else float(weights[n])
            losses[n], dscores[n, used] = found[0], weight * found[1]
            for part, more in zip(others, found[2:], strict=True):
                part += weight * more
    parts = dscores.reshape(-1, len(chain)), others[0], others[1][None], others[2][None]
    return losses, np.concatenate(parts)


def losses_of(*arguments):
    return of_batch(*arguments)[0]


def problem(rng, batch, steps, tags, scale=1.0):
    """float64 scores, chain, first and last that float32 holds, and labels."""
    shapes = (batch, steps, tags), (tags, tags), (tags,), (tags,)
    parts = [(scale * rng.normal(size=shape)).astype(np.float32).astype(float) for shape in shapes]
    return parts, rng.integers(0, tags, (batch, steps))


def masks(rng, batch, steps):
    """Padding on the right and on the left, holes, nothing and everything masked."""
    mask = rng.random((batch, steps)) > 0.3
    lengths = rng.integers(1, steps + 1, batch)
    mask[0::5] = np.arange(steps) < lengths[0::5, None]
    mask[1::5] = np.arange(steps) >= steps - lengths[1::5, None]
    mask[2::5] = True
    mask[3::5] = False
    return mask


@pytest.mark.parametrize(("steps", "tags"), [(1, 1), (1, 3), (4, 1), (5, 2), (4, 5)])
def test_against_all_paths(rng, isa, steps, tags):
    parts, _ = problem(rng, 3, steps, tags)
    z = packed(*parts)
    dz, path = np.empty_like(z), np.empty((3, steps, tags), np.float32)
    totals = _engine.crf_loss(z, 3, steps, dz=dz)
    _engine.crf_path(path, z)
    for n in range(3):
        total, marginals, best = all_paths(parts[0][n], *parts[1:])
        assert totals[n] == pytest.approx(total, rel=1e-6, abs=1e-6)
        found = dz[: 3 * steps].reshape(3, steps, tags)[n]
        np.testing.assert_allclose(found, marginals, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(path[n], np.eye(tags)[best])


def test_the_reference(rng):
    parts, labels = problem(rng, 2, 4, 3)
    mask = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
    weights = np.array([0.5, 2.0])
    gradient = of_batch(*parts, labels, mask, weights)[1]
    for part, rows in zip(parts, (slice(8), slice(8, 11), 11, 12), strict=True):
        expected = numeric_gradient(lambda: weights @ losses_of(*parts, labels, mask), part)
        np.testing.assert_allclose(gradient[rows], expected.reshape(-1, 3).squeeze(), atol=1e-8)


@pytest.mark.parametrize("tags", [1, 2, 3, 7, 8, 9, 16, 17, 33])
def test_losses_and_gradients(rng, isa, threads, tags):
    batch, steps = 23, 6
    parts, labels = problem(rng, batch, steps, tags)
    mask = masks(rng, batch, steps)
    labels[~mask] = -5  # nobody looks
    weights = rng.uniform(0, 2, batch).astype(np.float32)
    z = packed(*parts)
    dz = np.full_like(z, np.nan)
    losses = _engine.crf_loss(z, batch, steps, labels, mask, weights, dz)
    expected, gradient = of_batch(*parts, labels, mask, weights)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dz, gradient, rtol=1e-5, atol=1e-5)
    assert not losses[3::5].any()


def test_threads_change_nothing(rng, isa):
    parts, labels = problem(rng, 40, 30, 19)
    z, found = packed(*parts), []
    before = _engine.get_num_threads()
    for count in (1, 2, 3):
        _engine.set_num_threads(count)
        dz, path = np.empty_like(z), np.empty((40, 30, 19), np.float32)
        found.append((_engine.crf_loss(z, 40, 30, labels, dz=dz), dz, path))
        _engine.crf_path(path, z)
    _engine.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e3, 1e6, 1e30])
def test_scores_of_any_size(rng, isa, scale):
    """float32 rounds sums of several large scores; what it tells apart counts."""
    batch, steps, tags = 10, 7, 6
    parts, labels = problem(rng, batch, steps, tags, scale)
    mask = masks(rng, batch, steps)
    z = packed(*parts)
    dz, path = np.empty_like(z), np.empty((batch, steps, tags), np.float32)
    losses = _engine.crf_loss(z, batch, steps, labels, mask, dz=dz)
    _engine.crf_path(path, z, mask)
    np.testing.assert_allclose(
        losses, losses_of(*parts, labels, mask), rtol=1e-5, atol=1e-5 + 1e-6 * scale
    )
    assert np.isfinite(dz).all() and abs(dz[: batch * steps]).max() <= 1 + 1e-5
    probabilities = dz[: batch * steps].reshape(batch, steps, tags)
    np.testing.assert_allclose(probabilities.sum(-1), 0, atol=1e-5)
    if scale >= 1e3:  # one path has all of the probability
        at = np.eye(tags)[np.where(mask, labels, 0)]
        np.testing.assert_allclose(probabilities[mask], (path - at)[mask], atol=1e-3)


def test_a_constant_changes_nothing(rng, isa):
    """What a step's scores have in common is in no gradient, however large it is."""
    parts, labels = problem(rng, 4, 9, 5)
    parts[0] = np.round(parts[0] * 64) / 64  # so that the sum is exact
    large = rng.choice([-1e5, 1e5, 0.0], (4, 9, 1))
    found = []
    for scores in (parts[0], parts[0] + large):
        z = packed(scores, *parts[1:])
        dz = np.empty_like(z)
        found.append((_engine.crf_loss(z, 4, 9, labels, dz=dz), dz))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_impossible_tags(rng, isa):
    """-inf rules tags, changes and ends out, as a float64 reference without them has it."""
    (scores, chain, first, last), labels = problem(rng, 4, 5, 4)
    chain[2], chain[:, 2], first[2], last[2], scores[:, 1, 2] = [-np.inf] * 5
    labels[labels == 2] = 1
    z = packed(scores, chain, first, last)
    dz, path = np.empty_like(z), np.empty((4, 5, 4), np.float32)
    losses = _engine.crf_loss(z, 4, 5, labels, dz=dz)
    _engine.crf_path(path, z)
    keep = [0, 1, 3]
    parts = scores[..., keep], chain[np.ix_(keep, keep)], first[keep], last[keep]
    fewer = np.searchsorted(keep, labels)
    everywhere = np.ones((4, 5), bool)
    np.testing.assert_allclose(losses, losses_of(*parts, fewer, everywhere), rtol=1e-5)
    assert np.isfinite(dz).all() and not dz[:, 2].any() and not path[..., 2].any()
    np.testing.assert_array_equal(path.sum(-1), 1)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_numbers_that_are_none(rng, isa, number, everywhere):
    """They end no program; NaN comes out of the sequence that has it, and paths are paths."""
    parts, labels = problem(rng, 3, 4, 9)
    parts[0][1, 2, 4] = number
    if everywhere:
        parts = [np.full_like(part, number) for part in parts]
    z = packed(*parts)
    dz, path = np.empty_like(z), np.empty((3, 4, 9), np.float32)
    losses = _engine.crf_loss(z, 3, 4, labels, dz=dz)
    _engine.crf_path(path, z)
    np.testing.assert_array_equal(path.sum(-1), 1)
    if number != -np.inf:
        np.testing.assert_array_equal(np.isnan(losses), [everywhere, True, everywhere])
    elif not everywhere:
        assert np.isfinite(dz).all() and not np.isnan(losses).any()


def test_bad_arguments_of_the_engine(rng):
    parts, labels = problem(rng, 2, 3, 4)
    z, path = packed(*parts), np.empty((2, 3, 4), np.float32)
    for labels[1, 2] in (4, -1, 2**40):
        with pytest.raises(ValueError, match=rf"in \[0, 4\), the tags of.*received {labels[1, 2]}"):
            _engine.crf_loss(z, 2, 3, labels)
    mask = np.arange(6).reshape(2, 3) < 5
    _engine.crf_loss(z, 2, 3, labels, mask)
    for call, name in [
        (lambda: _engine.crf_loss(z[:-1], 2, 3), "z"),
        (lambda: _engine.crf_loss(z.astype(float), 2, 3), "z"),
        (lambda: _engine.crf_loss(z, 0, 3), "z"),
        (lambda: _engine.crf_loss(z, 2, 3, labels[:1]), "labels"),
        (lambda: _engine.crf_loss(z, 2, 3, mask=mask[:1]), "mask"),
        (lambda: _engine.crf_loss(z, 2, 3, weights=np.ones(3, np.float32)), "weights"),
        (lambda: _engine.crf_loss(z, 2, 3, dz=z[1:]), "dz"),
        (lambda: _engine.crf_path(path[0], z), "path"),
        (lambda: _engine.crf_path(path[:1], z), "z"),
    ]:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            call()
