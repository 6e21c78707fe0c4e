import math

import numpy as np
import pytest
from scipy import stats

from fastrnn import initializers, layers, random

RANDOM = [
    initializers.RandomNormal,
    initializers.RandomUniform,
    initializers.TruncatedNormal,
    initializers.VarianceScaling,
    initializers.GlorotNormal,
    initializers.GlorotUniform,
    initializers.HeNormal,
    initializers.HeUniform,
    initializers.LecunNormal,
    initializers.LecunUniform,
    initializers.Orthogonal,
]
ALL = [*RANDOM, initializers.Zeros, initializers.Ones, initializers.Constant, initializers.Identity]
SHAPE = (300, 200)


def truncated_normal(stddev):
    """The distribution whose standard deviation after the cut at 2 sigma is `stddev`."""
    return stats.truncnorm(-2, 2, scale=stddev / stats.truncnorm(-2, 2).std())


def uniform(limit):
    return stats.uniform(-limit, 2 * limit)


@pytest.mark.parametrize(
    ("initializer", "distribution"),
    [
        (initializers.RandomUniform, uniform(0.05)),
        (initializers.RandomNormal, stats.norm(0, 0.05)),
        (initializers.TruncatedNormal, stats.truncnorm(-2, 2, scale=0.05)),
        (initializers.GlorotUniform, uniform(math.sqrt(6 / 500))),
        (initializers.GlorotNormal, truncated_normal(math.sqrt(2 / 500))),
        (initializers.HeUniform, uniform(math.sqrt(6 / 300))),
        (initializers.HeNormal, truncated_normal(math.sqrt(2 / 300))),
        (initializers.LecunUniform, uniform(math.sqrt(3 / 300))),
        (initializers.LecunNormal, truncated_normal(math.sqrt(1 / 300))),
        (initializers.VarianceScaling, truncated_normal(math.sqrt(1 / 300))),
    ],
)
def test_default_distributions(initializer, distribution):
    values = initializer(seed=1)(SHAPE)
    assert values.shape == SHAPE and values.dtype == np.float32
    assert stats.kstest(values.ravel(), distribution.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("options", "distribution"),
    [
        ({"mode": "fan_out", "distribution": "uniform"}, uniform(math.sqrt(3 / 200))),
        ({"mode": "fan_avg", "distribution": "normal"}, truncated_normal(math.sqrt(1 / 250))),
        ({"scale": 3, "distribution": "untruncated_normal"}, stats.norm(0, math.sqrt(3 / 300))),
        ({"input_axes": [1], "output_axes": [0]}, truncated_normal(math.sqrt(1 / 200))),
    ],
)
def test_variance_scaling(options, distribution):
    values = initializers.VarianceScaling(**options, seed=2)(SHAPE)
    assert stats.kstest(values.ravel(), distribution.cdf).pvalue > 1e-3


def test_other_parameters():
    values = initializers.RandomUniform(2, 3, seed=0)(SHAPE)
    assert 2 <= values.min() < 2.01 and 2.99 < values.max() <= 3
    values = initializers.TruncatedNormal(1.0, 0.1, seed=0)(SHAPE)
    assert 0.8 <= values.min() < 0.81 and 1.19 < values.max() <= 1.2
    np.testing.assert_array_equal(initializers.Constant(2.5)((2, 3)), np.full((2, 3), 2.5))
    np.testing.assert_array_equal(initializers.Identity(3)((2, 3)), [[3, 0, 0], [0, 3, 0]])
    np.testing.assert_array_equal(initializers.Zeros()(3), [0, 0, 0])
    np.testing.assert_array_equal(initializers.Ones()((1, 2)), [[1, 1]])


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((), (1, 1)), ((7,), (7, 7)), ((7, 5), (7, 5)), ((3, 3, 7, 5), (63, 45))],
)
def test_compute_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (20, 20), (4, 5, 30), (2, 3, 20)])
def test_orthogonal(shape):
    values = initializers.Orthogonal(gain=2.0, seed=3)(shape, "float64")
    matrix = values.reshape(-1, shape[-1])
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    np.testing.assert_allclose(matrix.T @ matrix, 4 * np.eye(matrix.shape[1]), atol=1e-12)


def test_orthogonal_is_uniform_over_rotations():
    angles = [
        math.atan2(*initializers.Orthogonal(seed=i)((2, 2), "float64")[:, 0]) for i in range(500)
    ]
    assert stats.kstest(angles, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3


@pytest.mark.parametrize("initializer", RANDOM)
def test_seeds(initializer):
    seeded = initializer(seed=5)
    np.testing.assert_array_equal(seeded((4, 6)), seeded((4, 6)))
    assert not np.array_equal(seeded((4, 6)), initializer(seed=6)((4, 6)))

    unseeded = initializer()
    random.set_seed(1)
    first, second = unseeded((4, 6)), unseeded((4, 6))
    assert not np.array_equal(first, second)
    random.set_seed(1)
    np.testing.assert_array_equal(unseeded((4, 6)), first)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", np.float32, None])
@pytest.mark.parametrize("initializer", ALL)
def test_dtypes(initializer, dtype):
    expected = np.float32 if dtype is None else np.dtype(dtype)
    assert initializer()((3, 4), dtype=dtype).dtype == expected


@pytest.mark.parametrize("initializer", ALL)
def test_config_round_trip(initializer):
    original = initializer(seed=7) if initializer in RANDOM else initializer()
    config = initializers.serialize(original)
    assert config["module"] == "keras.initializers"
    assert config["class_name"] == initializer.__name__
    assert config["registered_name"] is None
    copy = initializers.deserialize(config)
    assert type(copy) is initializer
    assert copy.get_config() == original.get_config()
    np.testing.assert_array_equal(copy((5, 4)), original((5, 4)))


def test_config_of_every_parameter_survives():
    original = initializers.VarianceScaling(2.0, "fan_out", "uniform", 3, [1], [0])
    copy = initializers.get(initializers.serialize(original))
    assert vars(copy) == vars(original)


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("glorot_uniform", initializers.GlorotUniform),
        ("GlorotUniform", initializers.GlorotUniform),
        ("uniform", initializers.RandomUniform),
        ("random_normal", initializers.RandomNormal),
        ("normal", initializers.RandomNormal),
        ("zeros", initializers.Zeros),
        ("zero", initializers.Zeros),
        ("one", initializers.Ones),
        ("lecun_normal", initializers.LecunNormal),
        ("OrthogonalInitializer", initializers.Orthogonal),
        (initializers.he_normal, initializers.HeNormal),
        ({"class_name": "HeUniform", "config": {"seed": 1}}, initializers.HeUniform),
        ({"class_name": "Zeros"}, initializers.Zeros),
        ({"class_name": "Ones", "config": {"dtype": "float32"}}, initializers.Ones),
        (
            {
                "module": "keras.initializers",
                "class_name": "GlorotUniform",
                "config": {"seed": None, "input_axes": None, "output_axes": None},
                "registered_name": None,
            },
            initializers.GlorotUniform,
        ),
    ],
)
def test_get(identifier, expected):
    assert type(initializers.get(identifier)) is expected


def test_get_other_identifiers():
    assert initializers.get(None) is None
    instance = initializers.Constant(3)
    assert initializers.get(instance) is instance

    def user_function(shape, dtype="float32"):
        return np.full(shape, 7, dtype)

    assert initializers.get(user_function) is user_function
    config = initializers.serialize(user_function)
    assert initializers.deserialize(config, {"user_function": user_function}) is user_function


def test_seed_generator_of_keras():
    generator = {"class_name": "SeedGenerator", "config": {"seed": 3, "name": "seed_generator"}}
    initializer = initializers.get({"class_name": "HeNormal", "config": {"seed": generator}})
    assert initializer.seed == 3


def test_array_as_fixed_value():
    values = np.arange(6, dtype=np.float64).reshape(2, 3)
    initializer = initializers.get(values)
    result = initializer((2, 3))
    assert result.dtype == np.float32 and result is not values
    np.testing.assert_array_equal(result, values)
    np.testing.assert_array_equal(
        initializers.deserialize(initializers.serialize(initializer))((2, 3)), values
    )
    with pytest.raises(ValueError, match=r"shape: expected \(2, 3\).*received \(3, 2\)"):
        initializer((3, 2))


def test_user_class():
    class Sevens(initializers.Initializer):
        def __call__(self, shape, dtype="float32"):
            return np.full(shape, 7, dtype)

    config = initializers.serialize(Sevens())
    assert config["registered_name"] == "Sevens"
    with pytest.raises(ValueError, match="custom_objects, received 'Sevens'"):
        initializers.deserialize(config)
    assert initializers.deserialize(config, {"Sevens": Sevens})((1,)) == 7


def test_user_class_is_not_mistaken_for_a_builtin():
    config = {"module": "mine", "class_name": "Zeros", "config": {}, "registered_name": "Zeros"}
    with pytest.raises(ValueError, match="received 'Zeros'"):
        initializers.deserialize(config)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.get("glorot"), "initializer: expected one of .*'glorot'"),
        (lambda: initializers.get(3), "initializer: expected None, a name.*received 3"),
        (lambda: initializers.get({"name": "Zeros"}), "initializer: expected a name or"),
        (lambda: initializers.get({"class_name": ["Zeros"]}), "initializer: expected a name or"),
        (lambda: initializers.VarianceScaling(0), "scale: expected a number > 0, received 0"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode: .*'fan'"),
        (lambda: initializers.VarianceScaling(distribution="x"), "distribution: .*'x'"),
        (lambda: initializers.Orthogonal()((3,)), r"shape: expected at least two axes.*\(3,\)"),
        (lambda: initializers.Identity()((3,)), r"shape: expected two axes.*\(3,\)"),
        (lambda: initializers.Zeros()((3, -1)), r"shape: expected integers >= 0.*-1"),
        (lambda: initializers.HeNormal(seed=-1), "seed: expected an integer >= 0, received -1"),
        (lambda: initializers.serialize(lambda shape, dtype: 0), "lambda"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_seed_of_another_type():
    with pytest.raises(TypeError, match="seed: expected an integer, received 1.5"):
        initializers.HeNormal(seed=1.5)


def test_global_stream():
    random.set_seed(3)
    shared = random.generator()
    values = [random.draw_seed() for _ in range(100)]
    assert len(set(values)) == 100 and all(0 <= value < 2**63 for value in values)
    assert max(values) > 2**62
    random.set_seed(3)
    assert random.generator() is shared
    assert [random.draw_seed() for _ in range(100)] == values


def test_explicit_generators_are_independent_of_the_stream():
    random.set_seed(3)
    first = random.generator(9).random(4)
    random.draw_seed()
    np.testing.assert_array_equal(random.generator(9).random(4), first)
    assert random.generator(9) is not random.generator(9)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        *(("RandomUniform", "minval"), ("RandomUniform", "maxval"), ("RandomNormal", "mean")),
        *(("RandomNormal", "stddev"), ("TruncatedNormal", "stddev"), ("VarianceScaling", "scale")),
        *(("Orthogonal", "gain"), ("Identity", "gain")),
    ],
)
def test_numbers_are_checked(name, argument):
    for value in (np.nan, np.inf, "x", None, {}, [1]):
        with pytest.raises(ValueError, match=rf"^{argument}: expected a .*number.*, received "):
            getattr(initializers, name)(**{argument: value})


def test_distributions_seeds_and_values_are_checked():
    for distribution in (-1, None, []):
        with pytest.raises(ValueError, match="^distribution: expected .*, received"):
            initializers.VarianceScaling(distribution=distribution)
    for seed in ({}, {"config": 5}, {"config": {}}):
        with pytest.raises(ValueError, match="^seed: expected an integer or None, received {"):
            initializers.GlorotNormal(seed=seed)
    for value in ("x", None, {}, ["a"], 1j):
        with pytest.raises(ValueError, match="^value: expected a number or an array of them"):
            initializers.Constant(value)
    with pytest.raises(ValueError, match="^value: expected a number or an array of them"):
        initializers.Constant.from_config({"value": {"config": 3}})


def test_ends_in_either_order_and_negative_deviations():
    values = initializers.RandomUniform(2, 1)((1000,))  # as in Keras
    assert values.min() >= 1 and values.max() <= 2 and values.max() - values.min() > 0.9
    assert initializers.RandomNormal(0, -1)((1000,)).std() == pytest.approx(1, rel=0.1)


def test_initial_weights_that_float32_can_hold():
    for value in (1e300, np.array([1.0, -1e39])):
        with pytest.raises(ValueError, match="^value: expected numbers that float32 can hold"):
            initializers.Constant(value)
    layer = layers.Dense(1, kernel_initializer=lambda shape, dtype: np.full(shape, 1e300), name="d")
    with pytest.raises(ValueError, match="^initializer: expected .* can hold for 'd/kernel', rec"):
        layer.build((None, 1))
