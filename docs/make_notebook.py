"""Write the tutorial as a notebook beside it: `make notebook`. Its Python blocks become cells."""

from __future__ import annotations

import json
import re
from pathlib import Path

PAGE = Path(__file__).parent / "tutorial.md"
BLOCK = re.compile(r"```python\n(.*?)```\n", re.DOTALL)
UNFOLDS, ENDS = "<details markdown><summary>Answer</summary>", "</details>"


def notebook(page: str) -> dict:
    """Convert a page of Markdown to a notebook of format 4.5."""
    cells = []
    answers = False  # whether the next code is an answer, which a cell can't unfold: its source is hidden instead
    for n, part in enumerate(BLOCK.split(page)):  # text and code take turns
        source = part.strip()
        if n % 2:
            metadata = {"jupyter": {"source_hidden": True}} if answers else {}
            cell = {"cell_type": "code", "execution_count": None, "outputs": [], "metadata": metadata}
        else:
            source = source.removeprefix(ENDS).strip()
            answers = source.endswith(UNFOLDS)
            if answers:
                source = source.removesuffix(UNFOLDS) + "*Answer: show the hidden cell below, and run it.*"
            cell = {"cell_type": "markdown", "metadata": {}}
        if source:
            cells.append({**cell, "id": f"cell-{n}", "source": source.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


if __name__ == "__main__":
    written = PAGE.with_suffix(".ipynb")
    written.write_text(
        json.dumps(notebook(PAGE.read_text(encoding="utf-8")), indent=1, ensure_ascii=False) + "\n", "utf-8"
    )
    print(f"written: {written}")
