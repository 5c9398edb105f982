"""The report as people see it: a short run's, in a real browser."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from runs import run_folder

from bvae.data import FactorGrid
from bvae.report import figures
from bvae.runs.metrics_table import metrics_table


@pytest.fixture(scope="module")
def folder(run):
    return run_folder(run[1].stdout)


def cells(browser, section: str) -> list[list[str]]:
    """The rows of a section's first table, as the page holds them."""
    script = "return [...document.querySelector(arguments[0]).rows].map(r => [...r.cells].map(c => c.textContent))"
    return browser.execute_script(script, f"#{section} table")


def test_the_page_opens_from_disk_with_no_error_and_every_picture(folder, browser):
    browser.get(f"file://{folder}/report.html")
    assert browser.get_log("browser") == []
    pictures = browser.execute_script(
        "return [...document.images].map(i => [i.complete && i.naturalWidth > 0, i.alt, i.src.slice(0, 5)])"
    )
    assert len(pictures) == 10 + 1 + 2  # a strip a unit, the GIF, originals and reconstructions
    assert all(loaded and alt and source == "data:" for loaded, alt, source in pictures)
    plots = browser.execute_script(
        "return [...document.querySelectorAll('figure[role=img]')].map(f => [f.ariaLabel, f.clientHeight])"
    )
    assert len(plots) >= 5  # the training's
    assert all(label and height > 50 for label, height in plots)
    links = "return [...document.querySelectorAll('[src], [href]')].map(e => e.src || e.href)"
    assert all(link.startswith(("data:", "#")) for link in browser.execute_script(links))
    assert (folder / "report.html").stat().st_size < 5e6


def test_the_tables_hold_the_runs_numbers(folder, browser):
    browser.get(f"file://{folder}/report.html")
    scores = json.loads((folder / "scores.json").read_text())
    scores = {name: score for name, score in scores.items() if name not in ("source", "terms", "versions")}
    header, *rows = cells(browser, "scores")
    assert header == ["score", "value", "protocol", "N", "seed"]
    assert [row[0] for row in rows] == list(scores)
    for name, value, protocol, n, _ in rows:
        known = scores[name]["value"]
        assert value == "–" if known is None else float(value) == pytest.approx(known, abs=6e-4)
        assert protocol == scores[name]["protocol"]
        assert n == "500"
    header, *rows = cells(browser, "latents")
    with (folder / "latents.csv").open() as file:
        units = list(csv.DictReader(file))
    assert [row[0] for row in rows] == [unit["unit"] for unit in units]
    assert [float(row[2]) for row in rows] == pytest.approx([float(unit["variance"]) for unit in units], abs=6e-5)
    header, *rows = cells(browser, "information")
    assert header == ["unit", "shape", "scale", "orientation", "posX", "posY"]
    for row, unit in zip(rows, units, strict=True):
        assert max(map(float, row[1:])) == pytest.approx(float(unit["normalized_mi"]), abs=6e-3)
    settings = dict(cells(browser, "settings"))
    assert settings["loss"] == "Annealed"
    assert settings["loss.beta_start"] == "60.0"
    assert settings["trainer.max_steps"] == "6"


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_dark_room(folder, browser, width, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme_feature]})
    browser.get(f"file://{folder}/report.html")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    colors = [
        browser.execute_script(f"return getComputedStyle({element}).{key}")
        for element, key in (
            ("document.body", "backgroundColor"),
            ("document.body", "color"),
            ("document.querySelector('svg text')", "fill"),
        )
    ]
    page, ink, label = (sum(map(int, re.findall(r"\d+", color)[:3])) / 3 for color in colors)
    assert (page < 60 and ink > 180) if scheme == "dark" else (page > 240 and ink < 60)
    assert label == ink  # plots are drawn in the page's colour


def test_responses_are_means_over_all_other_factors():
    sizes = (3, 4, 5, 6)
    factors = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
    code = factors[:, 3] - 2.5 + 10.0 * (factors[:, 0] == 1)
    names = ("shape", "scale", "posX", "posY")
    shapes = {"shape": ("square", "ellipse", "heart")}
    grid = FactorGrid(names, sizes, shapes, positions=("posX", "posY"), categories=("shape",))
    position, scale = figures.responses(code, factors, grid)
    assert "from +0.83 to +5.83" in position.alt  # ±2.5 and a third of 10
    assert "from +0.00 to +10.00" in scale.alt  # flat lines, the ellipse's at 10
    assert "ellipse" in scale.svg
    (curve,) = figures.responses(factors[:, 1] - 1.5, factors[:, 1:2], FactorGrid(("hue",), (4,)))
    assert "from -1.50 to +1.50" in curve.alt
    sizes = (183, 4)  # so many lines would be none
    cars = FactorGrid(("car", "elevation"), sizes, categories=("car",))
    _, elevation = figures.responses(cars.classes_of(np.arange(732))[:, 1] * 1.0, cars.classes_of(np.arange(732)), cars)
    assert elevation.alt == "mean code from +0.00 to +3.00 over elevation"


def test_a_score_stands_at_the_steps_done_like_the_terms_of_the_same_step(tmp_path):
    lines = ["step,train/loss,train/kl,scores/mig", "9,3,1.5,", "10,,,0.1", "19,3,2.5,", "20,,,0.2"]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    kl, mig = figures.training_curves(tmp_path / "metrics.csv")
    assert "KL (nats) over 20 steps" in kl.alt
    assert "MIG over 20 steps" in mig.alt


def test_scores_of_earlier_versions_are_told_from_what_is_validated(tmp_path):
    lines = ["step,train/loss,train/beta,val/loss,val/beta,val/beta_vae_score,val/mig", "9,3,4,,,,", "10,,,2,4,0.5,0.1"]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    found = metrics_table(tmp_path / "metrics.csv")
    assert list(found) == ["train/loss", "train/beta", "val/loss", "val/beta", "scores/beta_vae_score", "scores/mig"]
    assert all(column.steps.tolist() == [10] for column in found.values())


def test_long_histories_are_averaged_to_few_points(tmp_path):
    lines = ["step,train/reconstruction,scores/mig", *(f"{step},{step % 2},{''}" for step in range(3_000))]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    (plot,) = figures.training_curves(tmp_path / "metrics.csv")
    assert "over 2,99" in plot.alt
    assert len(plot.svg) < 60_000
