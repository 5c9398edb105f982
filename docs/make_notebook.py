"""Write the tutorial as a notebook beside it: `make notebook`. Its Python blocks become cells."""

from __future__ import annotations

import json
import re
from pathlib import Path

PAGE = Path(__file__).parent / "tutorial.md"
BLOCK = re.compile(r"```python\n(.*?)```\n", re.DOTALL)
ANSWER = "<details markdown><summary>Answer</summary>"  # what unfolds would be torn apart by the cells


def notebook(page: str) -> dict:
    """Convert a page of Markdown to a notebook of format 4.5."""
    text = page.replace(ANSWER, "*Answer*").replace("</details>", "")
    cells = []
    for n, part in enumerate(BLOCK.split(text)):  # text and code take turns
        if part.strip():
            code = {"cell_type": "code", "execution_count": None, "outputs": []}
            kind = code if n % 2 else {"cell_type": "markdown"}
            cells.append({**kind, "id": f"cell-{n}", "metadata": {}, "source": part.strip().splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


if __name__ == "__main__":
    written = PAGE.with_suffix(".ipynb")
    written.write_text(
        json.dumps(notebook(PAGE.read_text(encoding="utf-8")), indent=1, ensure_ascii=False) + "\n", "utf-8"
    )
    print(f"written: {written}")
