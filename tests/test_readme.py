"""The examples of the documentation do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def block(page: str, heading: str) -> str:
    """The first Python example under a heading of a page."""
    section = (DOCS / page).read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def test_the_scores_of_anybodys_codes(capsys):
    example = block("scores.md", "Score your own codes")
    exec(compile(example, "scores.md", "exec"), {})
    printed = [float(number) for number in re.findall(r"\d\.\d+", capsys.readouterr().out)]
    promised = [float(number) for number in re.findall(r"# (\d\.\d+)", example)]
    assert printed[: len(promised)] == pytest.approx(promised, abs=0.006)
    assert len(promised) >= 2
