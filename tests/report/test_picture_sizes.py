"""How large pictures that aren't square are in the pages: in their proportions, and none fills the screen."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
import torch
from explored import opened, table
from networks import runnable
from tiny import Served

from bvae.report import Explored, explore

REM = 16  # pixels


@pytest.mark.parametrize(("height", "width"), [(40, 4), (12, 8), (8, 8), (4, 40)])
def test_pictures_of_the_explorer_keep_their_proportions_and_none_is_too_tall(height, width, browser, tmp_path):
    shape = (1, height, width)
    data = Served(torch.rand(3, *shape), np.zeros((3, 0), int))
    explore(tmp_path / "explorer.html", [Explored("a", runnable(shape), table())], data)
    opened(browser, tmp_path / "explorer.html")
    sizes = browser.execute_script(
        "return ['.original .picture', '.decoded .picture', '.choice canvas']"
        ".map((s) => document.querySelector(s).getBoundingClientRect()).map((box) => [box.width, box.height])"
    )
    for (across, down), widest, tallest in zip(sizes, (15, 15, 2.6), (24, 24, 5.2), strict=True):
        assert across / down == pytest.approx(width / height, rel=0.03)
        assert across == pytest.approx(REM * min(widest, tallest * width / height), abs=1)


@pytest.mark.parametrize(("height", "width", "across"), [(64, 64, 5.2), (96, 24, 1.3), (48, 64, 5.2)])
def test_a_film_is_no_longer_than_its_column_is_wide(height, width, across, browser, tmp_path):
    css = files("bvae.report").joinpath("page.css").read_text(encoding="utf-8")
    style = f"width: min(100%, 5.2rem * {width} / {height}); aspect-ratio: {width} / {height}"
    row = f'<div class="strip unit"><div>0</div><div class="film" style="{style}"></div><div></div></div>'
    (tmp_path / "film.html").write_text(f"<!doctype html><style>{css}</style><body>{row}", encoding="utf-8")
    browser.get((tmp_path / "film.html").as_uri())
    found = browser.execute_script(
        "const box = document.querySelector('.film').getBoundingClientRect(); return [box.width, box.height]"
    )
    assert found == pytest.approx([REM * across, REM * across * height / width], abs=0.5)
