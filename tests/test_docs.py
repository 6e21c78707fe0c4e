"""The pages in docs: each block of Python runs, one after the other, and links lead somewhere."""

import re
import sys
from pathlib import Path

import children
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page, tmp_path):
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks(page)))
    done = children.run([sys.executable, str(program)], encoding="utf-8", cwd=tmp_path, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text()
    named = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    named += [ROOT / path for path in re.findall(r"`((?:fastrnn|tests|bench)/[\w/]+\.py)`", text)]
    assert named and all(path.exists() for path in named), named


def test_there_is_a_page_of_own_code():
    assert len(blocks(ROOT / "docs" / "own_code.md")) >= 5
