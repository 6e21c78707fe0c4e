"""CRF: the kernels against all paths and a float64 reference, the layer, its loss and metrics."""

import itertools
import pickle

import numpy as np
import pytest
from gradcheck import numeric_gradient

from fastrnn import _engine, activations, interop, losses, models, optimizers, training
from fastrnn import layers as L
from fastrnn.saving import legacy_h5


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


# --- the layer ---

SHAPE = 6, 5, 3  # sequences, steps, features
TAGS = 4
MASK = np.array(
    [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 1, 0], [0] * 5, [0, 1, 0, 0, 0]],
    bool,
)


def model_of(*stack, masks=True, **compiled):
    below = [L.Input(SHAPE[1:]), *([L.Masking(7.0)] if masks else [])]
    model = models.Sequential([*below, *(stack or [L.CRF(TAGS)])])
    model.compile(**{"optimizer": "sgd", "loss": "crf", **compiled})
    return model


def random_weights(model, rng):
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])


def data(rng):
    x = rng.normal(size=SHAPE).astype(np.float32)
    x[~MASK] = 7  # what Masking looks for
    return x, rng.integers(0, TAGS, SHAPE[:2])


def energies(layer, x):
    """float64 scores, chain, first and last of a CRF on x."""
    scores = x.astype(float)
    if layer.use_kernel:
        scores = scores @ layer.kernel.numpy() + (layer.bias.numpy() if layer.use_bias else 0)
        scores = scores if layer.activation is activations.linear else np.tanh(scores)
    ends = layer.left_boundary, layer.right_boundary
    ends = [end.numpy() if layer.use_boundary else np.zeros(layer.units) for end in ends]
    return [part.astype(float) for part in (scores, layer.chain_kernel.numpy(), *ends)]


def expected_loss(layer, x, y, weight=None, mask=MASK):
    """The mean over the sequences with steps of the weighted losses."""
    losses_ = losses_of(*energies(layer, x), y, mask)
    return (losses_ * (1 if weight is None else weight)).sum() / mask.any(axis=1).sum()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "tanh", "use_boundary": False},
        {"use_bias": False, "chain_regularizer": "l2", "boundary_regularizer": "l1"},
        {"use_kernel": False},
    ],
)
def test_loss_and_gradients_of_a_model(rng, isa, options):
    tags = SHAPE[2] if "use_kernel" in options else TAGS
    layer = L.CRF(tags, **options)
    model = model_of(layer)
    random_weights(model, rng)
    x, y = data(rng)
    y %= tags
    y[~MASK] = 99
    weight = rng.uniform(0, 2, len(x)).astype(np.float32)
    value, gradients, dx = training.loss_and_gradients(model, x, y, weight)

    def loss():
        return expected_loss(layer, x64, y, weight) + sum(
            float(v.regularizer(v.value)) for v in layer.weights if v.regularizer
        )

    x64 = x.astype(float)
    assert value == pytest.approx(loss(), rel=1e-5)
    found = dict(zip([v.name for v in layer.weights], gradients, strict=True))
    for variable in layer.weights:
        variable.value = variable.value.astype(float)
        expected = numeric_gradient(loss, variable.value)
        np.testing.assert_allclose(found[variable.name], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx, numeric_gradient(loss, x64), rtol=1e-4, atol=1e-5)


def test_training_evaluation_and_single_batches_agree(rng):
    x, y = data(rng)
    model = model_of(metrics=[L.CRF.accuracy, "accuracy"], weighted_metrics=["crf_accuracy"])
    random_weights(model, rng)
    weight = rng.uniform(0, 2, len(x))
    loss, *accuracies = model.evaluate(x, y, sample_weight=weight, verbose=0)
    assert loss == pytest.approx(expected_loss(model.layers[-1], x, y, weight), rel=1e-5)
    path = model.predict(x, verbose=0)
    right = path.argmax(axis=-1) == y
    share = right[MASK].mean()
    weighted = np.average(right[MASK], weights=np.broadcast_to(weight[:, None], MASK.shape)[MASK])
    np.testing.assert_allclose(accuracies, [share, share, weighted], rtol=1e-5)
    assert model.test_on_batch(x, y, weight) == pytest.approx([loss, *accuracies])
    weights = model.get_weights()
    history = model.fit(x, y, sample_weight=weight, batch_size=6, shuffle=False, verbose=0).history
    assert [*history] == ["loss", "crf_viterbi_accuracy", "accuracy", "crf_accuracy"]
    assert [value for (value,) in history.values()] == pytest.approx([loss, *accuracies])
    trained = model.get_weights()
    model.set_weights(weights)
    assert model.train_on_batch(x, y, weight) == pytest.approx([loss, *accuracies])
    for a, b in zip(trained, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("form", ["steps", "column", "one-hot", "float"])
def test_forms_of_targets(rng, form):
    x, y = data(rng)
    forms = {"steps": y, "column": y[..., None], "one-hot": np.eye(TAGS)[y], "float": y * 1.0}
    model = model_of(metrics=["crf_viterbi_accuracy", "acc"])
    random_weights(model, rng)
    loss, accuracy, same = model.evaluate(x, forms[form], verbose=0)
    assert loss == pytest.approx(expected_loss(model.layers[-1], x, y), rel=1e-5)
    path = model.predict(x, verbose=0).argmax(axis=-1)
    assert accuracy == same == pytest.approx((path == y)[MASK].mean())


def test_paths_and_probabilities(rng):
    x, _ = data(rng)
    layer = L.CRF(TAGS)
    model = model_of(layer)
    random_weights(model, rng)
    marginal = model_of(L.CRF(TAGS, test_mode="marginal"))
    marginal.set_weights(model.get_weights())
    paths, probabilities = model.predict(x, verbose=0), marginal.predict(x, verbose=0)
    scores, *rest = energies(layer, x)
    for n, used in enumerate(MASK):
        if used.any():
            _, expected, best = all_paths(scores[n, used], *rest)
            np.testing.assert_array_equal(paths[n, used].argmax(axis=-1), best)
            np.testing.assert_allclose(probabilities[n, used], expected, atol=1e-5)
        np.testing.assert_array_equal(paths[n, ~used], np.eye(TAGS)[np.zeros(sum(~used), int)])
        assert not probabilities[n, ~used].any()
    np.testing.assert_array_equal(model.compile_inference()(x), paths)
    np.testing.assert_array_equal(layer(x, mask=MASK), paths)
    np.testing.assert_array_equal(layer(x, mask=MASK, training=True), paths)
    below = L.TimeDistributed(layer)(np.stack([x, x], axis=1))
    np.testing.assert_array_equal(below[:, 1], layer(x))


@pytest.mark.parametrize(
    "loss",
    [
        "crf", "crf_loss", L.CRF.loss, L.CRF.loss_function, losses.CRFLoss, losses.CRFLoss(),
        losses.serialize(losses.CRFLoss()), ["crf"],
    ],
    ids=str,
)  # fmt: skip
def test_names_of_the_loss(rng, loss):
    x, y = data(rng)
    model = model_of(loss=loss)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(
        expected_loss(model.layers[-1], x, y), rel=1e-5
    )


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight"])
def test_reductions(rng, reduction):
    x, y = data(rng)
    model = model_of(loss=losses.CRFLoss(reduction), masks=False)
    weight = rng.uniform(0, 2, len(x))
    values = losses_of(*energies(model.layers[-1], x), y, np.ones_like(MASK)) * weight
    share = {"sum": 1, "mean": len(x), "mean_with_sample_weight": weight.sum()}[reduction]
    value, gradients, _ = training.loss_and_gradients(model, x, y, weight)
    assert value == pytest.approx(values.sum() / share, rel=1e-5)
    model.compile("sgd", losses.CRFLoss("sum"))
    _, of_sum, _ = training.loss_and_gradients(model, x, y, weight)
    for a, b in zip(gradients, of_sum, strict=True):
        np.testing.assert_allclose(a, b / share, rtol=1e-5, atol=1e-6)


def test_one_of_two_outputs(rng):
    x, y = data(rng)
    inputs = L.Input(SHAPE[1:])
    below = L.LSTM(6, return_sequences=True)(L.Masking(7.0)(inputs))
    tags, number = L.CRF(TAGS, name="tags"), L.Dense(1, name="number")
    both = models.Model(inputs, [tags(below), number(below)])
    alone, other = models.Model(inputs, tags(below)), models.Model(inputs, number(below))
    both.compile("sgd", ["crf", "mse"], loss_weights=[0.5, 2.0], metrics={"tags": tags.accuracy})
    alone.compile("sgd", "crf")
    other.compile("sgd", "mse")
    targets = rng.normal(size=(*SHAPE[:2], 1))
    value, found, dx = training.loss_and_gradients(both, x, [y, targets])
    first, of_tags, dx_tags = training.loss_and_gradients(alone, x, y)
    second, of_number, dx_number = training.loss_and_gradients(other, x, targets)
    assert value == pytest.approx(0.5 * first + 2 * second, rel=1e-6)
    np.testing.assert_allclose(dx, 0.5 * dx_tags + 2 * dx_number, rtol=1e-4, atol=1e-6)
    for a, b in zip(found[3:8], of_tags[3:], strict=True):
        np.testing.assert_allclose(a, 0.5 * b, rtol=1e-5, atol=1e-7)
    for a, b, c in zip(found[:3], of_tags[:3], of_number[:3], strict=True):
        np.testing.assert_allclose(a, 0.5 * b + 2 * c, rtol=1e-4, atol=1e-6)
    logs = both.fit(x, {"tags": y, "number": targets}, verbose=0).history
    assert [*logs] == ["loss", "tags_loss", "number_loss", "tags_crf_viterbi_accuracy"]
    both.fit(x, [y, targets], sample_weight=[np.ones(6), np.ones(6)], verbose=0)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_files(rng, tmp_path, ending):
    x, y = data(rng)
    model = model_of(
        L.LSTM(5, return_sequences=True),
        L.CRF(TAGS, sparse_target=True, chain_constraint="max_norm", bias_initializer="ones"),
        **{"optimizer": "adam", "metrics": [L.CRF.accuracy], "loss": losses.CRFLoss("sum")},
    )
    model.fit(x, y, verbose=0)
    model.save(tmp_path / f"model.{ending}")
    again = models.load_model(tmp_path / f"model.{ending}")
    pickled = pickle.loads(pickle.dumps(model))
    assert again.layers[-1].get_config() == model.layers[-1].get_config()
    assert model.evaluate(x, y, verbose=0) == again.evaluate(x, y, verbose=0)
    for other in (again, pickled):
        np.testing.assert_array_equal(other.predict(x, verbose=0), model.predict(x, verbose=0))
    logs = [
        m.fit(x, y, verbose=0, epochs=3, shuffle=False).history for m in (model, again, pickled)
    ]
    assert logs[0] == logs[1] == logs[2]
    model.save_weights(tmp_path / "model.weights.h5")
    clone = models.clone_model(model)
    clone.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(clone.predict(x, verbose=0), model.predict(x, verbose=0))


def of_keras_contrib(layer):
    """The config that keras_contrib's CRF writes: no module names, its own keys."""

    def plain(value):
        if isinstance(value, dict):
            return {key: value[key] for key in ("class_name", "config")}
        return value

    config = {key: plain(value) for key, value in layer.get_config().items() if key != "use_kernel"}
    return {**config, "input_dim": layer.input_shape[-1], "unroll": False}


def test_files_of_keras_contrib(rng, tmp_path, monkeypatch):
    """Its weights give energies, of which the least counts, and are the negative of scores."""
    x, y = data(rng)
    model = model_of(metrics=["crf_viterbi_accuracy"], loss="crf_loss")
    random_weights(model, rng)
    paths, loss = model.predict(x, verbose=0), model.evaluate(x, y, verbose=0)
    monkeypatch.setattr(legacy_h5, "KERAS_VERSION", "2.2.4")
    config = of_keras_contrib(model.layers[-1])
    monkeypatch.setattr(L.CRF, "get_config", lambda layer: config)
    model.set_weights([-weight for weight in model.get_weights()])
    model.save(tmp_path / "model.h5")
    model.save_weights(tmp_path / "weights.h5")
    monkeypatch.undo()
    again = models.load_model(tmp_path / "model.h5", custom_objects={"CRF": L.CRF})
    np.testing.assert_array_equal(again.predict(x, verbose=0), paths)
    assert again.evaluate(x, y, verbose=0) == pytest.approx(loss)
    model.load_weights(tmp_path / "weights.h5")
    np.testing.assert_array_equal(model.predict(x, verbose=0), paths)
    other = model_of(L.CRF(TAGS, activation="tanh"))
    with pytest.raises(ValueError, match="expected activation='linear' to read weights of keras_c"):
        other.load_weights(tmp_path / "weights.h5")


def test_errors(rng, tmp_path):
    x, y = data(rng)
    elsewhere = r"expected the output of the model to be that of a layer CRF itself"
    for model in (
        model_of(L.CRF(TAGS), L.Activation("relu")),
        model_of(L.CRF(TAGS, activity_regularizer="l2")),
        model_of(L.Dense(TAGS, "softmax")),
        model_of(models.Sequential([L.CRF(TAGS)])),
    ):
        with pytest.raises(ValueError, match=elsewhere):
            model.fit(x, y, verbose=0)
        with pytest.raises(ValueError, match=elsewhere):
            model.evaluate(x, y, verbose=0)
    with pytest.raises(ValueError, match=elsewhere):
        losses.CRFLoss()(y, x)
    model = model_of(L.Dense(3), L.CRF(TAGS, name="tags"), loss="mse")
    with pytest.raises(ValueError, match=r"layer 'tags' \(CRF\): expected a model that ends in it"):
        model.fit(x, np.eye(TAGS)[y], verbose=0)
    model.compile("sgd", "crf")
    for wrong, message in [
        ((x, y[:, :3]), r"^y: expected class numbers of shape \(6, 5\) or \(6, 5, 1\), or one-hot"),
        ((x, np.eye(3)[y % 3]), r"one-hot targets of shape \(6, 5, 4\), received \(6, 5, 3\)"),
        ((x, y + 1), r"^y_true: expected labels in \[0, 4\), the tags of the CRF, received 4"),
        ((x, y * np.nan), "^y_true: expected labels, received NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(*wrong, verbose=0)
    message = r"^sample_weight: expected one for each sequence, \(6,\), .* \(6, 5\); class_weight"
    for weights in ({"sample_weight": np.ones((6, 5))}, {"class_weight": {1: 2.0}}):
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0, **weights)
    for call, message in [
        (lambda: L.CRF(0), "^units: expected a whole number >= 1"),
        (lambda: L.CRF(3, "marginal"), "^learn_mode: expected 'join'"),
        (lambda: L.CRF(3, test_mode="best"), "^test_mode: expected 'viterbi' or 'marginal'"),
        (lambda: L.CRF(3, use_kernel=False)(x[..., :2]), r"\(batch, timesteps, 3\), the scores"),
        (lambda: L.CRF(3)(x[0]), "with known features"),
        (lambda: model.stream(1), "layer 'tags': CRF may need several"),
        (lambda: interop.to_c(model, tmp_path / "m"), "layer 'tags': CRF"),
        (lambda: interop.to_onnx(model, tmp_path / "m"), "layer 'tags': CRF"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_sequences_of_other_lengths(rng):
    """Buffers of longer batches leave nothing in those of shorter ones."""
    model = models.Sequential([L.Input((None, 3)), L.CRF(TAGS)])
    model.compile("sgd", "crf")
    random_weights(model, rng)
    layer = model.layers[-1]
    for batch, steps in ((5, 9), (2, 1), (3, 4)):
        x = rng.normal(size=(batch, steps, 3)).astype(np.float32)
        y = rng.integers(0, TAGS, (batch, steps))
        expected = expected_loss(layer, x, y, mask=np.ones((batch, steps), bool))
        assert model.train_on_batch(x, y) == pytest.approx(expected, rel=1e-5)


def test_a_field_learns_what_follows_what():
    """Steps tell nothing but where a sequence of 0, 1, 2, 0, 1, ... begins: the chain has to."""
    model = models.Sequential([L.Input((12, 1)), L.CRF(3)])
    model.compile(optimizers.Adam(0.1), "crf", metrics=["accuracy"])
    first = np.arange(30) % 3
    y = (first[:, None] + np.arange(12)) % 3
    x = np.zeros((30, 12, 1), np.float32)
    x[:, 0, 0] = first - 1
    model.fit(x, y, epochs=60, verbose=0)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert accuracy == 1 and loss < 0.5
