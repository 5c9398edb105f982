"""The report as people see it: a short run's, in a real browser."""

from __future__ import annotations

import csv
import json
import re
import time

import numpy as np
import pytest
from runs import run_folder

from bvae.data import FactorGrid
from bvae.data.image_set import named
from bvae.evaluation import LatentUnit
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
    # A strip a unit; originals and reconstructions, of any images, each shape and the worst; samples.
    assert len(pictures) == 10 + 2 * (1 + 3 + 1) + 2
    assert all(loaded and alt and source == "data:" for loaded, alt, source in pictures)
    plots = browser.execute_script(
        "return [...document.querySelectorAll('figure [role=img]')].map(f => [f.ariaLabel, f.clientHeight])"
    )
    assert len(plots) >= 5  # the training's
    assert all(label and height > 50 for label, height in plots)
    links = "return [...document.querySelectorAll('[src], [href]')].map(e => e.src || e.getAttribute('href'))"
    assert all(link.startswith(("data:", "#")) or link == "explorer.html" for link in browser.execute_script(links))
    inside = "return [...document.querySelectorAll('nav a[href^=\"#\"]')].map(a => a.hash.slice(1))"
    contents = browser.execute_script(inside)
    sections = browser.execute_script("return [...document.querySelectorAll('section')].map(s => s.id)")
    assert contents == sections
    finding = browser.execute_script("return document.querySelector('.finding').textContent")
    assert finding.startswith("Found: ")
    pairs = "return [...document.querySelectorAll('dt')].map(t => [t, t.nextSibling].map(e => e.textContent))"
    about = dict(browser.execute_script(pairs))
    command = browser.execute_script("return document.querySelector('#run details pre').textContent")
    assert command.startswith("python train.py trainer.max_steps=6")
    assert about["encoder's parameters"].replace(",", "").isdigit()
    assert re.search(r"\d min \d+ s", about["duration"])
    assert {"hardware", "versions", "step"} <= set(about)
    assert (folder / "report.html").stat().st_size < 5e6


def test_the_films_move_only_where_motion_is_wanted_and_can_be_paused(folder, browser):
    def opened(motion: str) -> str:
        features = [{"name": "prefers-reduced-motion", "value": motion}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(f"file://{folder}/report.html")
        return browser.execute_script("return document.querySelector('.player button').textContent")

    assert opened("reduce") == "Play"
    at = "return document.querySelector('.film').style.backgroundPositionX"
    assert browser.execute_script(at) == "50%"
    move = "const s = document.querySelector('.player input'); s.value = 0; s.dispatchEvent(new Event('input'));"
    browser.execute_script(move)
    assert browser.execute_script(at) == "0%"
    assert browser.execute_script("return document.querySelector('.player output').textContent") == "−3.0"
    assert opened("no-preference") == "Pause"
    browser.execute_script("document.querySelector('.player button').click()")
    before = browser.execute_script(at)
    time.sleep(0.3)
    assert browser.execute_script(at) == before


def test_the_tables_hold_the_runs_numbers(folder, browser):
    browser.get(f"file://{folder}/report.html")
    scores = json.loads((folder / "scores.json").read_text())
    scores = {name: score for name, score in scores.items() if name not in ("source", "terms", "versions")}
    header, *rows = cells(browser, "scores")
    assert header == ["score", "value", "protocol", "N", "seed", "in files"]
    assert [row[-1] for row in rows] == [name for name, score in scores.items() if score["value"] is not None]
    undefined = {score["protocol"] for score in scores.values() if score["value"] is None}
    said = browser.execute_script("return document.querySelector('#scores').textContent")
    assert all(said.count(why) == 1 for why in undefined)
    for _, value, protocol, n, _, name in rows:
        known = scores[name]["value"]
        assert value == "–" if known is None else float(value.replace("−", "-")) == pytest.approx(known, abs=6e-4)
        assert protocol == scores[name]["protocol"]
        assert n == "100"
    header, *rows = cells(browser, "latents")
    with (folder / "latents.csv").open() as file:
        units = list(csv.DictReader(file))
    assert [row[0] for row in rows] == [unit["unit"] for unit in units]
    assert [float(row[2]) for row in rows] == pytest.approx([float(unit["variance"]) for unit in units], rel=6e-4)
    quoted = [float(unit["variance_at_picture"]) for unit in units]
    assert [float(row[-1]) for row in rows] == pytest.approx(quoted, rel=6e-4)
    header, *rows = cells(browser, "information")
    assert header == ["unit", "shape", "scale", "rotation", "x", "y"]
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
    assert [label for _, label in scale.legend] == ["square", "ellipse", "heart"]
    without_squares = factors[:, 0] > 0
    _, scale = figures.responses(code[without_squares], factors[without_squares], grid)
    assert [label for _, label in scale.legend] == ["ellipse", "heart"]
    (curve,) = figures.responses(factors[:, 1] - 1.5, factors[:, 1:2], FactorGrid(("hue",), (4,)))
    assert "from −1.50 to +1.50" in curve.alt
    sizes = (183, 4)  # so many lines would be none
    cars = FactorGrid(("car", "elevation"), sizes, categories=("car",))
    _, elevation = figures.responses(cars.classes_of(np.arange(732))[:, 1] * 1.0, cars.classes_of(np.arange(732)), cars)
    assert elevation.alt == "mean code from +0.00 to +3.00 over elevation"


def test_a_continuous_factors_curve_has_a_place_for_each_bin():
    far = np.concatenate((np.linspace(0, 1, 50), [10.0] * 5))[:, None]
    (curve,) = figures.responses(far[:, 0], far, named(far, ["mass"]))
    assert "mass (bin)" in curve.svg
    ticks = [int(label) for label in re.findall(r">(\d+)</text>", curve.svg)]
    assert max(ticks) >= 15  # of 20 bins, though values lie in three


def test_a_map_of_a_sample_has_cells_of_forty_images():
    grid = FactorGrid(("posX", "posY"), (32, 32), positions=("posX", "posY"))
    factors = np.random.default_rng(0).integers(32, size=(640, 2))
    (position,) = figures.responses(factors[:, 0] - 15.5, factors, grid)
    lowest = float(re.search(r"from −([\d.]+) to", position.alt)[1])
    assert lowest == pytest.approx(12, abs=1)  # 4 × 4 cells: the first is a quarter of the axis; of 32 × 32, 15.5


def test_curves_are_called_what_the_units_are_and_idle_ones_are_grey(tmp_path):
    units = [
        LatentUnit(2, 0.01, 3.0, True, name="scale"),
        LatentUnit(0, 1.0, 0.0, False),
        LatentUnit(1, 1.0, 0.0, False),
    ]
    header = "step,train/loss,train/kl,train/capacity,train/kl_unit/0,train/kl_unit/1,train/kl_unit/2"
    (tmp_path / "metrics.csv").write_text(f"{header}\n0,9,1,0.5,0,0,1\n1,9,3,1,0,0,3\n")
    kl, of_units = figures.training_curves(tmp_path / "metrics.csv", units)
    assert [label for _, label in of_units.legend] == ["2: scale", "idle"]
    assert "2: scale from 1 to 3" in of_units.alt
    assert [label for _, label in kl.legend] == ["KL", "C"]
    assert "stroke-dasharray" in kl.svg


def test_a_score_stands_at_the_steps_done_like_the_terms_of_the_same_step(tmp_path):
    lines = ["step,train/loss,train/kl,scores/mig", "9,3,1.5,", "10,,,0.1", "19,3,2.5,", "20,,,0.2"]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    kl, mig = figures.training_curves(tmp_path / "metrics.csv")
    assert "KL (nats) over 20 steps" in kl.alt
    assert "MIG over 20 steps" in mig.alt


def test_scores_of_earlier_versions_are_told_from_what_is_validated(tmp_path):
    lines = ["step,train/loss,train/beta,val/loss,val/beta,val/beta_vae_score,val/mig"]
    lines += ["9,3,4,,,,", "9,,,2,4,,", "10,,,,,0.5,0.1"]  # Lightning validates before it counts the step
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
