import numpy as np
import pytest
from hypothesis import settings

from fastrnn import _engine

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(params=_engine.available_isas())
def isa(request):
    """Every instruction set that this CPU can run."""
    before = _engine.isa()
    _engine.set_isa(request.param)
    yield request.param
    _engine.set_isa(before)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = _engine.get_num_threads()
    _engine.set_num_threads(request.param)
    yield request.param
    _engine.set_num_threads(before)


@pytest.fixture
def rng():
    return np.random.default_rng(1234)
