"""Type checkers flag each mistake of typing/mistakes.py, and nothing in typing/right.py."""

import runpy
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).parent / "typing" / "check.py"))


@pytest.mark.parametrize("name", ["mypy", "pyright"])
def test_types(name):
    pytest.importorskip(name, reason=f"checks with {name}")
    try:
        found = CHECK["differences"](CHECK[name])
    except RuntimeError as error:
        pytest.skip(f"{name} does not start here: {str(error)[-200:]}")
    assert found == []
