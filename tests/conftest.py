import os
import signal
import sys
import textwrap

import children
import numpy as np
import pytest
from hypothesis import settings

from fastrnn import _engine
from fastrnn.layers import recurrent

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def usual_interrupts():
    """Ctrl-C is a KeyboardInterrupt, though a shell that starts programs in the background has them
    ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


@pytest.fixture
def fresh_python():
    """fresh_python(code, **environment) -> what the code prints in a new process of Python, which
    has a minute; None in the environment removes a variable."""

    def run(code, **environment):
        environment = {**os.environ, **environment}
        environment = {name: value for name, value in environment.items() if value is not None}
        code = "import os, time, numpy as np\n" + textwrap.dedent(code)
        done = children.run([sys.executable, "-c", code], env=environment, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture
def ways(monkeypatch):
    """A list that recurrent layers above vectors or one-hot inputs add to: was x W taken for rows
    rather than for steps?"""
    taken, pick = [], recurrent.pick

    def record(*arguments):
        picked = pick(*arguments)
        taken.append(picked is not None)
        return picked

    monkeypatch.setattr(recurrent, "pick", record)
    return taken
