"""A sweep's jobs side by side, of folders whose numbers are known."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bvae.report import compare, search, strips
from bvae.report.comparison import terminal_table
from bvae.runs.job import recorded

HIGHER = {"higher_is_better": True}


def job(folder: Path, overrides: list[str], terms: list[float], mig: float, codes: np.ndarray | None = None) -> None:
    folder.mkdir(parents=True)
    with recorded(folder, overrides):
        rows = [f"{step},{term + 1},{term},1.0" for step, term in enumerate(terms)]
        header = "step,train/loss,train/reconstruction,train/kl"
        (folder / "metrics.csv").write_text("\n".join((header, *rows)) + "\n")
        (folder / "latents.csv").write_text("unit,active\n0,True\n1,False\n")
        (folder / "scores.json").write_text(
            json.dumps(
                {"mig": {"value": mig, "protocol": "p", "n": 10, "seed": None, "seconds": 0, "higher_is_better": True}}
            )
        )
        (folder / "report.html").touch()
        if codes is not None:
            np.savez(folder / "codes.npz", codes=codes, factors=np.arange(len(codes)), kl=np.ones(codes.shape[1]))


@pytest.fixture
def sweep(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    found, other = rng.normal(size=(2, 2_000, 3))
    number = iter(range(9))
    for gamma in (100, 1000):
        for seed in (0, 1, 2):
            codes = other if (gamma, seed) == (1000, 2) else found[:, ::-1] if seed else found
            overrides = [f"loss.gamma={gamma}", f"seed={seed}", "logger=csv"]
            job(tmp_path / str(next(number)), overrides, [500.0] * 5 + [100.0 + seed] * 10, gamma / 10_000, codes)
    folder = tmp_path / "6"
    folder.mkdir()
    with (
        pytest.raises(ValueError, match="gamma must not be negative, got -1"),
        recorded(folder, ["loss.gamma=-1", "seed=0", "logger=csv"]),
    ):
        raise ValueError("loss: gamma must not be negative, got -1 & <b>")
    return tmp_path


def test_a_unit_that_moves_nothing_has_a_thumbnail_too(tmp_path):
    (tmp_path / "traversals").mkdir()
    still = Image.new("L", (8, 8))
    still.save(tmp_path / "traversals" / "unit_0.gif", save_all=True, append_images=[still] * 9)  # Pillow keeps one
    assert strips.thumbnail(tmp_path, [0]).startswith("data:image/png;base64,")


def test_a_row_a_job_with_what_it_differs_in_and_what_came_of_it(sweep):
    compare(sweep)
    with (sweep / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = ("job", "loss.gamma", "seed", "status")
    assert list(rows[0])[:4] == list(keys)  # logger=csv is what all have in common
    assert [row["job"] for row in rows] == list("0123456")
    first, *_, failed = rows
    assert tuple(first[key] for key in keys) == ("0", "100", "0", "finished")
    assert (first["step"], float(first["reconstruction"]), float(first["loss"])) == ("15", 100, 101)
    assert (float(first["mig"]), first["active"], first["report"]) == (0.01, "1", "0/report.html")
    assert failed["status"] == "failed"
    assert "gamma must not be negative" in failed["error"]
    assert failed["mig"] == failed["udr"] == failed["report"] == ""


def test_a_jobs_folder_may_have_any_name(sweep):
    (sweep / "0").rename(sweep / "loss=beta#1,<i>50%")
    compare(sweep)
    page = (sweep / "sweep.html").read_text()
    assert '<a href="loss%3Dbeta%231%2C%3Ci%3E50%25/report.html">loss=beta#1,&lt;i&gt;50%</a>' in page


def test_an_objective_of_anybodys_may_log_other_terms(sweep):
    path = sweep / "0" / "metrics.csv"
    path.write_text(path.read_text().replace("train/reconstruction", "train/energy"))
    first, second, *_ = compare(sweep)
    assert list(first.terms) == ["loss", "kl"]
    assert list(second.terms) == ["loss", "reconstruction", "kl"]
    assert (sweep / "sweep.html").is_file()


def test_jobs_of_one_setting_are_ranked_by_how_alike_they_are(sweep):
    rows = compare(sweep)
    udr = [row.scores.get("udr") for row in rows]
    assert udr[:3] == pytest.approx([0.9] * 3, abs=0.02)
    assert udr[5] < 0.1
    assert udr[6] is None


def test_a_model_without_an_active_unit_has_no_rank(tmp_path):
    codes = np.random.default_rng(0).normal(size=(200, 3))
    for seed in range(3):
        job(tmp_path / str(seed), [f"seed={seed}"], [1.0], 0.1, codes)
    (tmp_path / "0" / "latents.csv").write_text("unit,active\n0,False\n1,False\n2,False\n")
    ranked = [row.scores.get("udr") for row in compare(tmp_path)]
    assert ranked[0] is None
    assert None not in ranked[1:]


def test_the_page_links_each_report_and_draws_each_score_by_the_swept_key(sweep):
    compare(sweep)
    page = (sweep / "sweep.html").read_text()
    assert [f'<a href="{number}/report.html">' in page for number in range(7)] == [True] * 6 + [False]
    assert "&lt;b&gt;" in page
    assert "By loss.gamma" in page
    assert "By seed" not in page
    assert "Mean mig by loss.gamma: 100: 0.01; 1000: 0.1" in page
    assert page.index(">MIG ↑<") < page.index(">status<") < page.index(">loss.gamma<")
    assert "mig: 100: median 0.01 of 3; 1000: median 0.1 of 3" in page  # a box a setting
    assert "reconstruction (nats) of 6 jobs, which end at loss.gamma=100 100" in page  # the overlaid curves


def test_a_job_that_failed_is_never_the_best(sweep):
    job = json.loads((sweep / "3" / "job.json").read_text())
    (sweep / "3" / "job.json").write_text(json.dumps(job | {"status": "failed"}))
    scores = json.loads((sweep / "3" / "scores.json").read_text())
    scores["mig"]["value"] = 0.9
    (sweep / "3" / "scores.json").write_text(json.dumps(scores))
    compare(sweep)
    jobs = (sweep / "sweep.html").read_text().partition('id="jobs"')[2].partition("</table>")[0]
    assert '<td class="number">0.9<' in jobs
    assert '<td class="number best">0.1<' in jobs


def test_settings_have_their_means_and_deviations_and_the_best_is_marked(sweep):
    compare(sweep)
    table = (sweep / "sweep.html").read_text().partition('id="settings"')[2].partition("</table>")[0]
    first, second = re.findall(r"<tr><td.*?</tr>", table)
    assert '<td class="number best">0.1<' in second
    assert '<td class="number">0.01<' in first
    assert ">101<br><small>± 1<" in first  # reconstructions of 100, 101 and 102


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminals_table_fits_and_keeps_what_matters(sweep, width, capsys):
    Console(width=width).print(terminal_table(compare(sweep), width))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert all(name in lines[2] for name in ("job", "MIG", "active", "status", "gamma", "seed"))
    assert any("0.1 " in line and "finished" in line for line in lines)


def test_a_search_is_drawn_by_its_trials():
    settings = [{"loss.gamma": 10.0**n, "optimizer.lr": 1e-4, "loss": "beta"} for n in range(4)]
    found = search.Search("mig", True, [0.1, 0.3, math.nan, 0.2], settings)
    history, importance, parallel = search.plots(found)
    assert search.title(found) == "Search for MIG, 4 trials"
    assert history.alt == "mig of 4 trials, the best 0.3"
    assert importance.alt == "Importance: loss.gamma 1.00, loss 0.00, optimizer.lr 0.00"  # these are always the same
    assert parallel.alt == "The best trial, 1, has loss.gamma=10, optimizer.lr=0.0001, loss=beta"
    assert search.plots(found._replace(values=[math.nan] * 4)) == []


def test_a_search_has_a_title_of_one_line_and_no_legend_of_its_trials(tmp_path):
    for number in range(6):
        overrides = [f"loss.gamma={100 + number / 7}", f"optimizer.lr={1e-4 * (1 + number / 7)}"]
        job(tmp_path / str(number), overrides, [1.0] * 3, 0.1 * number)
    compare(tmp_path)
    page = (tmp_path / "sweep.html").read_text()
    assert "<h1>loss.gamma (6 values) optimizer.lr (6 values)</h1>" in page
    assert 'class="legend"' not in page
    assert '<td class="key">0.000114</td>' in page  # of 0.00011428571428571428


def test_a_legend_stands_beside_the_plot_where_it_takes_no_room_from_the_axes(tmp_path):
    jobs = [(gamma, lr) for gamma in (10, 100) for lr in (0.1, 0.2)]
    for number, (gamma, lr) in enumerate(jobs):
        job(tmp_path / str(number), [f"loss.gamma={gamma}", f"optimizer.lr={lr}"], [1.0] * 3, 0.1 * number)
    compare(tmp_path)
    page = (tmp_path / "sweep.html").read_text()
    assert "</i>optimizer.lr=0.1</li>" in page
    assert "optimizer.lr=0.1</text>" not in page
    assert "optimizer.lr=0.1 -->" not in page


def test_a_job_that_was_killed_is_a_row_too(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "job.json").write_text(
        '{"overrides": ["seed=0"], "status": "running", "seconds": 3.0, "error": ""}'
    )
    (row,) = compare(tmp_path)
    assert (row.job.status, row.step, row.terms) == ("running", None, {})
    assert "running" in (tmp_path / "sweep.csv").read_text()
