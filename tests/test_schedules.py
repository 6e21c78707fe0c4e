import json
import math

import numpy as np
import pytest

from fastrnn import schedules

HALF = (1 + math.cos(math.pi / 4)) / 2

CASES = [
    (schedules.ExponentialDecay(0.1, 10, 0.5), {0: 0.1, 5: 0.1 * 0.5**0.5, 10: 0.05, 30: 0.0125}),
    (schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True), {9: 0.1, 10: 0.05, 19: 0.05}),
    (schedules.InverseTimeDecay(0.1, 10, 0.5), {0: 0.1, 5: 0.08, 10: 0.1 / 1.5}),
    (schedules.InverseTimeDecay(0.1, 10, 0.5, staircase=True), {9: 0.1, 10: 0.1 / 1.5}),
    (
        schedules.PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.1]),
        {0: 1.0, 10: 1.0, 11: 0.5, 20: 0.5, 21: 0.1, 1000: 0.1},
    ),
    (schedules.PolynomialDecay(0.1, 10), {0: 0.1, 5: 0.05005, 10: 1e-4, 99: 1e-4}),
    (schedules.PolynomialDecay(0.1, 10, 0.0, power=2.0), {5: 0.025}),
    (
        schedules.PolynomialDecay(0.1, 10, 0.0, cycle=True),
        {0: 0.1, 5: 0.05, 10: 0.0, 11: 0.1 * 9 / 20, 20: 0.0, 25: 0.1 * 5 / 30},
    ),
    (schedules.CosineDecay(0.1, 20), {0: 0.1, 5: 0.1 * HALF, 10: 0.05, 20: 0.0, 30: 0.0}),
    (schedules.CosineDecay(0.1, 20, alpha=0.2), {0: 0.1, 10: 0.06, 20: 0.02, 30: 0.02}),
    (
        schedules.CosineDecay(0.02, 20, alpha=0.2, warmup_target=0.1, warmup_steps=4),
        {0: 0.02, 1: 0.04, 3: 0.08, 4: 0.1, 14: 0.06, 24: 0.02, 90: 0.02},
    ),
    (schedules.CosineDecay(0.02, 20, warmup_target=0.1), {0: 0.1, 10: 0.05}),
    (
        schedules.CosineDecayRestarts(0.1, 10),
        {0: 0.1, 5: 0.05, 10: 0.1, 20: 0.05, 30: 0.1, 50: 0.05, 70: 0.1},
    ),
    (
        schedules.CosineDecayRestarts(0.1, 10, t_mul=1.0, m_mul=0.5, alpha=0.1),
        {0: 0.1, 5: 0.055, 10: 0.055, 15: 0.0325, 20: 0.0325},
    ),
    (
        schedules.CosineDecayRestarts(0.1, 10, t_mul=3.0, m_mul=0.5),
        {0: 0.1, 10: 0.05, 40: 0.025, 130: 0.0125, 400: 0.00625, 1210: 0.003125},
    ),
]


@pytest.mark.parametrize(("schedule", "rates"), CASES)
def test_rates(schedule, rates):
    for step, rate in rates.items():
        result = schedule(step)
        assert isinstance(result, float)
        assert result == pytest.approx(rate, rel=1e-12, abs=1e-15), step


@pytest.mark.parametrize(("schedule", "rates"), CASES)
def test_config_round_trip(schedule, rates):
    config = schedules.serialize(schedule)
    assert config["module"] == "keras.optimizers.schedules" and config["registered_name"] is None
    copy = schedules.deserialize(config)
    assert type(copy) is type(schedule) and vars(copy) == vars(schedule)
    assert [copy(step) for step in rates] == [schedule(step) for step in rates]


def test_default_names_are_those_of_keras():
    names = {case[0].name for case in CASES}
    assert names == {
        "ExponentialDecay",
        "InverseTimeDecay",
        "PiecewiseConstant",
        "PolynomialDecay",
        "CosineDecay",
        "SGDRDecay",
    }


def test_user_schedule():
    class Constant(schedules.LearningRateSchedule):
        def __init__(self, rate):
            self.rate = rate

        def __call__(self, step):
            return self.rate

        def get_config(self):
            return {"rate": self.rate}

    config = schedules.serialize(Constant(0.3))
    assert schedules.deserialize(config, {"Constant": Constant})(7) == 0.3
    with pytest.raises(NotImplementedError, match="LearningRateSchedule must define __call__"):
        schedules.LearningRateSchedule()(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps: .* > 0, received 0"),
        (lambda: schedules.InverseTimeDecay(0.1, -1, 0.5), "decay_steps: .* > 0, received -1"),
        (lambda: schedules.PolynomialDecay(0.1, 0), "decay_steps: .* > 0, received 0"),
        (lambda: schedules.CosineDecay(0.1, 0), "decay_steps: .* > 0, received 0"),
        (lambda: schedules.CosineDecayRestarts(0.1, 0), "first_decay_steps: .*received 0"),
        (lambda: schedules.CosineDecayRestarts(0.1, 1, t_mul=0.5), "t_mul: .*received 0.5"),
        (lambda: schedules.PiecewiseConstantDecay([1], [1.0]), "values: expected 2.*received 1"),
        (lambda: schedules.PiecewiseConstantDecay([2, 1], [1, 2, 3]), "boundaries: .*increase"),
        (lambda: schedules.deserialize("Step"), "learning rate schedule: .*'Step'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


ARGUMENTS = {
    "ExponentialDecay": {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5},
    "InverseTimeDecay": {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5},
    "PolynomialDecay": {
        **{"initial_learning_rate": 0.1, "decay_steps": 10, "end_learning_rate": 0.1, "power": 2},
    },
    "CosineDecay": {
        **{"initial_learning_rate": 0.1, "decay_steps": 10, "alpha": 0.1, "warmup_target": 1},
        **{"warmup_steps": 3},
    },
    "CosineDecayRestarts": {
        **{"initial_learning_rate": 0.1, "first_decay_steps": 10, "t_mul": 2, "m_mul": 1},
        **{"alpha": 0.1},
    },
}
LEAST = {  # the least value and one that is too small
    **{name: (1, 0) for name in ("decay_steps", "first_decay_steps")},
    **{name: (0, -0.5) for name in ("decay_rate", "power", "alpha", "m_mul", "warmup_steps")},
    "t_mul": (1, 0.9),
}


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, a in ARGUMENTS.items() for o in a])
def test_every_number_is_checked(name, option):
    arguments = ARGUMENTS[name]
    least, too_small = LEAST.get(option, (-1, -1e39))
    for value in (too_small, math.nan, math.inf, 10**400, 1e39, "1", [1], {}, None):
        if option == "warmup_target" and value is None:
            continue
        with pytest.raises(ValueError, match=rf"^{option}: expected a .*number.*, received "):
            schedules.deserialize({"class_name": name, "config": {**arguments, option: value}})
    for value in (least, np.float32(1.5), np.int64(2), np.array(2.0)):
        schedule = getattr(schedules, name)(**{**arguments, option: value})
        assert getattr(schedule, option) == np.asarray(value).item()
        json.dumps(schedule.get_config())
        assert all(math.isfinite(schedule(step)) for step in (0, 1, 5, 10, 1000))


def test_lists_and_names_are_checked():
    for values in (5, "12", None, [1, math.nan], [1, "2"], [1, None]):
        with pytest.raises(ValueError, match=r"^values(\[1\])?: expected"):
            schedules.PiecewiseConstantDecay([1], values)
    with pytest.raises(ValueError, match=r"^boundaries\[0\]: expected a finite number, received"):
        schedules.PiecewiseConstantDecay(["1"], [1, 2])
    with pytest.raises(ValueError, match="^name: expected a str, received"):
        schedules.CosineDecay(0.1, 10, name={})


def test_what_grows_beyond_all_numbers_is_infinite():
    assert schedules.ExponentialDecay(1.0, 1, 2.0)(10_000) == math.inf
    assert schedules.ExponentialDecay(1, 1, 2, staircase=True)(10_000) == math.inf
    assert schedules.CosineDecayRestarts(1.0, 1, 1, 2)(10_000) == math.inf


def test_restarts_that_hardly_grow_are_not_counted_one_by_one():
    schedule = schedules.CosineDecayRestarts(1.0, 1e-3, 1 + 1e-9)
    assert 0 <= schedule(10**12) <= 1  # 1e15 restarts
    slow = schedules.CosineDecayRestarts(1.0, 7, 1.001, m_mul=0.999)
    step, length, restarts = 30_000, 7, 0
    while step >= length:
        step, length, restarts = step - length, length * 1.001, restarts + 1
    assert restarts > 1000
    expected = 0.999**restarts * 0.5 * (1 + math.cos(math.pi * step / length))
    assert slow(30_000) == pytest.approx(expected, rel=1e-9)
