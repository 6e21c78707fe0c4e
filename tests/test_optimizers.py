import copy
import inspect
import json
import math
import pickle

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastrnn import _engine, optimizers, schedules
from fastrnn.variable import Store, Variable

SHAPES = {"kernel": (5, 7), "recurrent": (3, 4, 11), "bias": (17,), "scalar": ()}
CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("RMSprop", {}),
    ("RMSprop", {"rho": 0.7, "epsilon": 1e-3}),
    ("RMSprop", {"momentum": 0.8}),
    ("RMSprop", {"momentum": 0.8, "centered": True}),
    ("RMSprop", {"centered": True}),
    ("Adam", {}),
    ("Adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.3}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Adagrad", {}),
    ("Adagrad", {"initial_accumulator_value": 0.01, "epsilon": 1e-2}),
    ("Adadelta", {"learning_rate": 1.0}),
]
NAMES = sorted({name for name, _ in CASES})


def make_store(rng, shapes=SHAPES):
    return Store(
        [
            Variable(rng.normal(size=shape), dtype="float32", name=name)
            for name, shape in shapes.items()
        ]
    )


def gradients_of(rng, store):
    """New gradients, also written into the store."""
    gradients = []
    for variable in store.variables:
        variable.gradient[...] = rng.normal(size=variable.shape)
        gradients.append(variable.gradient.astype(np.float64))
    return gradients


def follow(rng, name, options, steps=6, **formula_options):
    """The weights of the optimizer and of the formula after some steps."""
    store, optimizer = make_store(rng), getattr(optimizers, name)(**options)
    weights = [variable.value.astype(np.float64) for variable in store.variables]
    slots = [{} for _ in weights]
    for step in range(1, steps + 1):
        gradients = gradients_of(rng, store)
        optimizer.update(store)
        weights = oracle.optimizer_step(
            name, weights, gradients, slots, step, **(formula_options or options)
        )
    assert optimizer.iterations == steps
    return store, weights


def assert_weights(store, weights, tolerance=2e-6):
    for variable, expected in zip(store.variables, weights, strict=True):
        np.testing.assert_allclose(variable.value, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_steps_follow_the_formula(isa, rng, name, options):
    assert_weights(*follow(rng, name, {"learning_rate": 0.1, **options}))


@pytest.mark.parametrize("name", NAMES)
def test_default_options_are_those_of_the_formula(rng, name):
    store, weights = follow(rng, name, {}, learning_rate=oracle.OPTIMIZERS[name][1])
    assert_weights(store, weights)


@pytest.mark.parametrize(
    "clipping", [{"clipnorm": 0.5}, {"clipnorm": 1e6}, {"clipvalue": 0.3}, {"global_clipnorm": 0.7}]
)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_clipping(rng, name, clipping):
    assert_weights(*follow(rng, name, {"learning_rate": 0.1, **clipping}))


@pytest.mark.parametrize("name", NAMES)
def test_gaps_between_weights_stay_zero(rng, name):
    store = make_store(rng)
    covered = np.zeros(store.values.size, bool)
    for variable in store.variables:
        begin = (variable.value.ctypes.data - store.values.ctypes.data) // 4
        covered[begin : begin + variable.value.size] = True
    optimizer = optimizers.get(name)
    for _ in range(3):
        gradients_of(rng, store)
        optimizer.update(store)
    assert not covered.all() and not store.values[~covered].any()


# Kernels


def update_of(rule, n, seed=0):
    rng = np.random.default_rng(seed)
    values, gradients = (rng.normal(size=n).astype(np.float32) for _ in range(2))
    slots = [rng.uniform(0.5, 2, size=n).astype(np.float32) for _ in range(3)]
    options = {"momentum": 0.9, "epsilon": 1e-3, "new_gradient": 0.1, "new_square": 0.01}
    return _engine.Update(rule, values, gradients, slots, **options)


@pytest.mark.parametrize("rule", sorted(_engine.RULES))
def test_bits_depend_neither_on_threads_nor_on_ranges(isa, rule):
    n = 300_007
    before = _engine.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            _engine.set_num_threads(threads)
            update = update_of(rule, n)
            update.step(0.1, 0.01)
            results.append(update.arrays)
    finally:
        _engine.set_num_threads(before)
    update = update_of(rule, n)
    for begin, end in ((0, 1), (1, 6), (6, 39), (39, 39), (39, n)):
        update.step(0.1, 0.01, begin=begin, end=end)
    results.append(update.arrays)
    for arrays in results[1:]:
        for array, expected in zip(arrays, results[0], strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("n", [0, 1, 7, 16, 17, 31, 8191, 8192, 100_003])
def test_sum_of_squares_has_the_same_bits_everywhere(n):
    x = np.random.default_rng(n).normal(size=n).astype(np.float32)
    isa, threads = _engine.isa(), _engine.get_num_threads()
    totals = set()
    try:
        for name in _engine.available_isas():
            for count in (1, 2):
                _engine.set_isa(name)
                _engine.set_num_threads(count)
                totals.add(_engine.sum_of_squares(x))
    finally:
        _engine.set_isa(isa)
        _engine.set_num_threads(threads)
    assert len(totals) == 1
    assert totals.pop() == pytest.approx(np.sum(np.square(x, dtype=np.float64)), rel=1e-12)


def test_sum_of_squares_of_large_and_small_numbers(isa):
    assert _engine.sum_of_squares(np.float32([3e30, 4e30])) == pytest.approx(25e60, rel=1e-6)
    assert _engine.sum_of_squares(np.float32([3e-30, 4e-30])) == pytest.approx(25e-60, rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(np.float32, st.integers(0, 70), elements=st.floats(width=32)),
    st.floats(2**-10, 2**10, width=32),
)
def test_scale_and_clip(x, bound):
    with np.errstate(all="ignore"):
        normal = np.where(np.abs(x) < 2e-38, np.float32(0), x)  # smaller ones are flushed
        expected = normal * np.float32(0.5)
    expected[np.abs(expected) < 2e-38] = 0
    scaled, clipped = normal.copy(), normal.copy()
    _engine.scale(scaled, 0.5)
    _engine.clip(clipped, bound)
    np.testing.assert_array_equal(scaled, expected)
    np.testing.assert_array_equal(clipped, np.clip(normal, -np.float32(bound), np.float32(bound)))


def test_the_engine_checks_its_arrays():
    def floats(n=4):
        return np.zeros(n, np.float32)

    def make(values=None, gradients=None, slots=None, rule="adam"):
        values = floats() if values is None else values
        gradients = floats() if gradients is None else gradients
        return _engine.Update(rule, values, gradients, slots or (floats(), floats(), None))

    with pytest.raises(ValueError, match="rule: expected one of .* received 'adamm'"):
        make(rule="adamm")
    with pytest.raises(ValueError, match="values: expected contiguous float32, received .*float64"):
        make(values=np.zeros(4))
    with pytest.raises(ValueError, match="values: expected contiguous float32"):
        make(values=floats(8)[::2])
    with pytest.raises(ValueError, match="gradients: expected contiguous float32 with 4 elements"):
        make(gradients=floats(5))
    with pytest.raises(ValueError, match=r"slots\[1\]: expected contiguous float32 with 4"):
        make(slots=(floats(), floats(3), None))
    with pytest.raises(ValueError, match="slots: expected three"):
        make(slots=(floats(), floats()))
    with pytest.raises(ValueError, match="refused"):
        make(slots=(floats(), None, None)).step(0.1)
    frozen = floats()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="values: expected a writable array"):
        make(values=frozen)
    with pytest.raises(ValueError, match="x: expected a writable array"):
        _engine.scale(frozen, 2.0)
    for begin, end in ((-1, 2), (3, 2), (0, 5)):
        with pytest.raises(ValueError, match="begin, end: expected a range within 4 values"):
            make().step(0.1, begin=begin, end=end)
    with pytest.raises(ValueError, match="x: expected contiguous float32, received list"):
        _engine.sum_of_squares([1.0])


def test_nan_and_infinity(isa, rng):
    for name in NAMES:
        store, optimizer = make_store(rng), optimizers.get(name)
        gradients_of(rng, store)
        store.variables[0].gradient[1, 2] = math.nan
        optimizer.update(store)
        bad = np.isnan(store.variables[0].value)
        assert bad[1, 2] and bad.sum() == 1
        assert all(np.isfinite(v.value).all() for v in store.variables[1:])
    for value in (math.nan, math.inf):
        store = make_store(rng)
        gradients_of(rng, store)
        store.variables[0].gradient[1, 2] = value
        optimizers.SGD(global_clipnorm=1.0).update(store)
        assert all(np.isnan(v.value).all() for v in store.variables)


# Learning rate


def test_learning_rate_may_follow_a_schedule(rng):
    schedule = schedules.PiecewiseConstantDecay([0, 2], [0.5, 0.25, 0.125])
    store, optimizer = make_store(rng), optimizers.SGD(schedule)
    for expected in (0.5, 0.25, 0.25, 0.125):
        assert optimizer.learning_rate == expected
        gradients = gradients_of(rng, store)
        before = store.variables[0].value.copy()
        optimizer.update(store)
        np.testing.assert_allclose(
            store.variables[0].value, before - expected * gradients[0], rtol=1e-5, atol=1e-6
        )
    with pytest.raises(TypeError, match="learning_rate: follows the schedule"):
        optimizer.learning_rate = 0.1
    optimizer.learning_rate = schedules.ExponentialDecay(0.5, 1, 0.5)
    assert optimizer.learning_rate == 0.5**5


def test_learning_rate_may_be_set_or_called():
    optimizer = optimizers.Adam()
    assert float(optimizer.learning_rate) == float(optimizer.lr) == 0.001
    optimizer.lr = np.float32(0.5)
    assert optimizer.learning_rate == 0.5 and isinstance(optimizer.learning_rate, float)
    optimizer.learning_rate.assign(0.25)
    assert optimizer.lr == optimizer.lr.numpy() == 0.25
    assert copy.deepcopy(optimizer.lr) == pickle.loads(pickle.dumps(optimizer.lr)) == 0.25
    rates = iter([3.0, 2.0])
    optimizer.learning_rate = lambda: next(rates)
    assert [optimizer.learning_rate, optimizer.learning_rate] == [3.0, 2.0]
    with pytest.raises(ValueError, match="learning_rate: a function cannot be saved"):
        optimizer.get_config()
    with pytest.raises(ValueError, match="learning_rate: expected a number.*received '0.1'"):
        optimizers.SGD("0.1")


def test_options_of_keras_2(rng):
    optimizer = optimizers.SGD(lr=1.0, decay=0.5)
    store = make_store(rng)
    expected = store.variables[0].value.astype(np.float64)
    for step in range(3):
        expected -= gradients_of(rng, store)[0] / (1 + 0.5 * step)
        optimizer.update(store)
    np.testing.assert_allclose(store.variables[0].value, expected, rtol=1e-5, atol=1e-6)
    assert optimizer.lr == 1.0
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert (again.decay, again.learning_rate) == (0.5, 1.0)
    assert optimizers.Adam(epsilon=None).epsilon == 1e-7
    for name in NAMES:
        optimizer = getattr(optimizers, name)(lr=0.25, decay=0.5)
        assert (optimizer.learning_rate, optimizer.decay) == (0.25, 0.5)


# Weight decay, averaging, accumulation


def test_weight_decay_spares_what_is_excluded(rng):
    for excluded in ({"var_names": ["bias", "recur"]}, {"var_list": [1, 2]}):
        store = make_store(rng)
        optimizer = optimizers.SGD(0.5, weight_decay=0.2)
        if "var_list" in excluded:
            excluded = {"var_list": [store.variables[i] for i in excluded["var_list"]]}
        optimizer.exclude_from_weight_decay(**excluded)
        before = [variable.value.copy() for variable in store.variables]
        optimizer.update(store)
        for i, (variable, value) in enumerate(zip(store.variables, before, strict=True)):
            factor = 1.0 if i in (1, 2) else 0.9
            np.testing.assert_allclose(variable.value, factor * value, rtol=1e-6)
        with pytest.raises(ValueError, match="exclude_from_weight_decay: expected a call before"):
            optimizer.exclude_from_weight_decay(var_names=["kernel"])


def test_average_of_the_weights(rng):
    store = make_store(rng)
    optimizer = optimizers.SGD(0.5, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=3)
    plain = average = None
    for step in range(5):
        weight = store.variables[0].value.astype(np.float64)
        plain = weight - 0.5 * gradients_of(rng, store)[0]
        average = plain if step == 0 else 0.75 * average + 0.25 * plain
        optimizer.update(store)
        shown = average if step == 2 else plain
        np.testing.assert_allclose(store.variables[0].value, shown, rtol=1e-5, atol=1e-6)
    optimizer.finalize_variable_values(store)
    np.testing.assert_allclose(store.variables[0].value, average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Nadam"])
def test_accumulated_gradients_are_one_step(rng, name):
    several = optimizers.get({"class_name": name, "config": {"gradient_accumulation_steps": 3}})
    one, first, second = optimizers.get(name), make_store(rng), make_store(rng)
    second.values[...] = first.values
    for _ in range(2):
        mean = [0.0] * len(first.variables)
        for call in range(3):
            assert (first.values == second.values).all() or call == 0
            gradients = gradients_of(rng, first)
            mean = [m + g / 3 for m, g in zip(mean, gradients, strict=True)]
            several.update(first)
        for variable, gradient in zip(second.variables, mean, strict=True):
            variable.gradient[...] = gradient
        one.update(second)
        np.testing.assert_allclose(first.values, second.values, rtol=1e-5, atol=1e-6)
        first.values[...] = second.values
    assert several.iterations == one.iterations == 2


# State


@pytest.mark.parametrize(("name", "options"), CASES)
def test_training_goes_on_from_a_saved_state_with_the_same_bits(name, options):
    options = {**options, "use_ema": True}
    rng = np.random.default_rng(3)
    store, optimizer = make_store(rng), getattr(optimizers, name)(**options)
    for _ in range(3):
        gradients_of(rng, store)
        optimizer.update(store)
    other, copy = make_store(rng), getattr(optimizers, name)(**options)
    other.values[...] = store.values
    copy.build(other)
    copy.set_state(optimizer.state())
    pickled = pickle.loads(pickle.dumps(optimizer))
    third = make_store(rng)
    third.values[...] = store.values
    for _ in range(2):
        gradients_of(rng, store)
        other.gradients[...] = third.gradients[...] = store.gradients
        optimizer.update(store)
        copy.update(other)
        pickled.update(third)
    np.testing.assert_array_equal(store.values, other.values)
    np.testing.assert_array_equal(store.values, third.values)
    for name, array in optimizer.state().items():
        np.testing.assert_array_equal(array, copy.state()[name])


def test_state_is_named_and_ordered_as_in_keras(rng):
    store = make_store(rng, {"kernel": (2, 3), "bias": (3,)})
    store.variables[0].path = "lstm/kernel"
    optimizer = optimizers.Adam(amsgrad=True, use_ema=True)
    assert list(optimizer.state()) == ["iteration", "learning_rate"]
    optimizer.build(store)
    assert {name: array.shape for name, array in optimizer.state().items()} == {
        "iteration": (),
        "learning_rate": (),
        "lstm_kernel_average": (2, 3),
        "bias_average": (3,),
        "lstm_kernel_momentum": (2, 3),
        "lstm_kernel_velocity": (2, 3),
        "bias_momentum": (3,),
        "bias_velocity": (3,),
        "lstm_kernel_velocity_hat": (2, 3),
        "bias_velocity_hat": (3,),
    }
    same_names = Store(
        [
            Variable(np.zeros(2), dtype="float32", name="w"),
            Variable(np.zeros(3), dtype="float32", name="w"),
        ]
    )
    optimizer = optimizers.Nadam(schedules.ExponentialDecay(0.1, 1, 0.5))
    optimizer.build(same_names)
    names = ["w_momentum", "w_velocity", "w_1_momentum", "w_1_velocity"]
    assert list(optimizer.state()) == ["iteration", *names, "u_product"]


def test_state_must_fit(rng):
    optimizer = optimizers.Adam()
    optimizer.build(make_store(rng, {"w": (2, 3)}))
    state = optimizer.state()
    with pytest.raises(ValueError, match=r"expected the names .*'w_momentum', 'w_velocity'"):
        optimizers.Adam().set_state(state)
    with pytest.raises(ValueError, match=r"state\['w_velocity'\]: expected shape \(2, 3\)"):
        optimizer.set_state({**state, "w_velocity": np.zeros(3)})
    with pytest.raises(ValueError, match="'more'"):
        optimizer.set_state({**state, "more": np.zeros(3)})


def test_an_optimizer_serves_one_set_of_weights(rng):
    optimizer, store = optimizers.Adam(), make_store(rng, {"w": (2, 3)})
    optimizer.update(store)
    optimizer.update(make_store(rng, {"w": (2, 3)}))
    assert optimizer.iterations == 2
    with pytest.raises(ValueError, match="adam: expected the 1 weights that the optimizer was"):
        optimizer.update(make_store(rng, {"w": (2, 4)}))


# Names and configs


@pytest.mark.parametrize("name", NAMES)
def test_names_and_configs(name):
    cls = getattr(optimizers, name)
    for identifier in (name, name.lower(), name.upper(), cls, cls(), {"class_name": name}):
        assert type(optimizers.get(identifier)) is cls
    config = optimizers.serialize(cls(learning_rate=0.5, clipvalue=2.0, use_ema=True))
    assert config["module"] == "keras.optimizers" and config["class_name"] == name
    again = optimizers.deserialize(config)
    assert again.get_config() == config["config"] and again.learning_rate == 0.5
    schedule = cls(learning_rate=schedules.CosineDecay(0.5, 10))
    again = optimizers.get(optimizers.serialize(schedule))
    assert again.learning_rate == 0.5 and again.get_config() == schedule.get_config()


def test_configs_of_other_versions():
    config = {"name": "Adam", "learning_rate": 0.25, "decay": 0.0, "is_legacy_optimizer": True}
    config |= {"jit_compile": False, "loss_scale_factor": None}
    made = optimizers.deserialize({"class_name": "Custom>Adam", "config": config})
    assert type(made) is optimizers.Adam and made.learning_rate == 0.25

    class Mine(optimizers.SGD):
        pass

    made = optimizers.deserialize(optimizers.serialize(Mine()), {"Mine": Mine})
    assert type(made) is Mine
    assert optimizers.get(None) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentun": 1}, "SGD: expected only known options, received momentun"),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, "at most one of clipnorm, clipvalue"),
        ({"use_ema": True, "ema_momentum": 1.5}, r"ema_momentum: expected .* received 1.5"),
        ({"ema_overwrite_frequency": 0}, "ema_overwrite_frequency: expected an int >= 1 or None"),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps: expected an int >= 2"),
        ({"momentum": 2}, r"momentum: expected a number in \[0, 1\], received 2"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        optimizers.SGD(**options)


def test_bad_identifiers():
    with pytest.raises(ValueError, match="optimizer: expected one of adadelta.*received 'adm'"):
        optimizers.get("adm")
    with pytest.raises(ValueError, match="optimizer: expected a name.*received 3"):
        optimizers.get(3)
    with pytest.raises(ValueError, match="weight_decay: expected a number, received None"):
        optimizers.AdamW(weight_decay=None)


RANGES = {  # bad and good values of the options of each range
    "in [0, 1]": ([-0.1, 1.5], [0, 1, np.float32(0.5)]),
    "in [0, 1)": ([-0.1, 1, 1e308], [0, np.float64(0.5)]),
    ">= 0": ([-1, -1e-9, 1e39], [0, 1e38, np.int64(3), np.array(0.5)]),
    "": ([1e39], [-1.0, 0, np.float32(0.5), np.array([0.5])]),
}
NO_NUMBERS = [math.nan, math.inf, -math.inf, 10**400, "1.0", [0.5], {}, 1j, np.zeros(2)]
OPTIONS = {
    **{name: "in [0, 1)" for name in ("beta_1", "beta_2")},
    **{name: "in [0, 1]" for name in ("rho", "momentum", "ema_momentum")},
    **{name: ">= 0" for name in ("epsilon", "weight_decay", "decay", "clipnorm", "clipvalue")},
    **{name: ">= 0" for name in ("global_clipnorm", "initial_accumulator_value")},
    "learning_rate": "",
}
OWN_RANGES = {("Adamax", "beta_2"): "in [0, 1]", ("Nadam", "beta_1"): "in [0, 1]"}


def numeric_options():
    inherited = inspect.signature(optimizers.Optimizer).parameters
    for cls in map(optimizers.__dict__.get, sorted({name for name, _ in CASES})):
        own = {**inherited, **inspect.signature(cls).parameters}
        for option in OPTIONS.keys() & own.keys():
            yield cls, option, OWN_RANGES.get((cls.__name__, option), OPTIONS[option])


@pytest.mark.parametrize(("cls", "option", "bounds"), sorted(numeric_options(), key=str))
def test_every_number_is_checked(cls, option, bounds):
    bad, good = RANGES[bounds]
    for value in bad + NO_NUMBERS:
        said = "learning.rate" if option == "learning_rate" else option
        with pytest.raises(ValueError, match=rf"^{said}.*: expected a .*, received "):
            cls(**{option: value})
        with pytest.raises(ValueError, match=rf"^{said}.*: "):
            config = {"class_name": cls.__name__, "config": {option: value}}
            optimizers.deserialize(config)
    for value in good:
        made = cls(**{option: value})
        assert getattr(made, option) == np.asarray(value).item()
        json.dumps(made.get_config())


@pytest.mark.parametrize("option", ["ema_overwrite_frequency", "gradient_accumulation_steps"])
def test_every_count_is_checked(option):
    for value in (0, -3, 2.0, "2", [2], math.nan):
        with pytest.raises(ValueError, match=f"^{option}: expected an int >= . or None, received"):
            optimizers.SGD(**{option: value})
    assert type(getattr(optimizers.SGD(**{option: np.int64(3)}), option)) is int


def test_names_are_checked():
    with pytest.raises(ValueError, match="^name: expected a str, received {}"):
        optimizers.SGD(name={})


def test_a_learning_rate_that_is_no_number_is_not_assigned():
    optimizer = optimizers.SGD(0.5)
    for value in (math.nan, math.inf, "x", [1.0], np.zeros(2), True):
        with pytest.raises(ValueError, match="^learning_rate: expected a .*received"):
            optimizer.learning_rate = value
    assert optimizer.learning_rate == 0.5
