"""What is read of a sweep's jobs, and what its page and its table are given."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.text import Text

from bvae.report import comparison, sweep_jobs
from bvae.report.sweep_jobs import Row, direction_of, read_rows, settings_of, swept_keys
from bvae.runs.job import Job

HEADER = "step,train/loss,train/reconstruction,train/kl"


def score(value, higher=True) -> dict:
    return {"value": value, "protocol": "p", "n": 1, "seed": None, "seconds": 0, "higher_is_better": higher}


def job(folder: Path, overrides: list[str], status: str = "finished", **scores) -> Path:
    folder.mkdir(parents=True)
    record = {"overrides": overrides, "status": status, "seconds": 90.0, "error": ""}
    (folder / "job.json").write_text(json.dumps(record))
    if scores:
        (folder / "scores.json").write_text(json.dumps({name: score(*found) for name, found in scores.items()}))
    return folder


def row(number: int, scores: dict, status: str = "finished", **keys) -> Row:
    directions = {name: name != "loss_of_it" for name in scores}
    keys = {key.replace("__", "."): value for key, value in keys.items()}
    return Row(Path(str(number)), str(number), Job((), status, 90.0), keys, scores=scores, directions=directions)


def test_a_jobs_end_is_the_mean_of_its_last_ten_rows(tmp_path):
    folder = job(tmp_path / "0", ["+a.b=1=2", "seed=3"], mig=(0.5,), x=(float("nan"),), irs=(0.25, False))
    rows = [f"{10 * n + 9},{n + 1},{n},{n * n}" for n in range(12)]
    (folder / "metrics.csv").write_text("\n".join((HEADER, *rows)) + "\n")
    (folder / "latents.csv").write_text("unit,active,name\n3,True,size\n0,False,x\n1,True,\n")
    (found,) = read_rows(tmp_path)
    assert (found.name, found.keys, found.step) == ("0", {"a.b": "1=2", "seed": "3"}, 120)
    # Of 2 … 11: the mean is 6.5, that of the squares 6.5² and the variance (10² − 1) / 12 of ten neighbours.
    assert found.terms == {"loss": 7.5, "reconstruction": 6.5, "kl": pytest.approx(6.5**2 + 99 / 12)}
    assert found.units == ((3, "size"), (1, ""))
    assert found.scores == {"mig": 0.5, "irs": 0.25}
    assert found.directions == {"mig": True, "irs": False}
    assert list(found.results) == ["mig", "active", "irs", "reconstruction", "kl"]
    assert found.results["active"] == found.active == 2
    assert found.setting == (("a.b", "1=2"),)


def test_people_name_the_units_of_a_job_rather_than_factors(tmp_path):
    folder = job(tmp_path / "0", [])
    (folder / "latents.csv").write_text("unit,active,name,called\n3,True,size,'=slant\n1,True,x,\n2,False,,edge\n")
    (found,) = read_rows(tmp_path)
    assert found.units == ((3, "=slant"), (1, "x"))


def test_a_job_without_files_has_nothing(tmp_path):
    job(tmp_path / "0", ["seed=0"], "failed")
    (found,) = read_rows(tmp_path)
    assert (found.step, found.terms, found.units, found.active, found.scores) == (None, {}, None, None, {})
    assert found.results == {}


@pytest.mark.parametrize("text", ["unit,active\nx,True\n", "active\nTrue\n", "unit,name\n1,x\n"])
def test_a_damaged_table_is_left_out(tmp_path, text, caplog):
    (job(tmp_path / "0", []) / "latents.csv").write_text(text)
    (found,) = read_rows(tmp_path)
    assert found.units is None
    assert "latents.csv is damaged" in caplog.text


def test_keys_that_differ_are_swept_and_settings_share_all_but_the_seed():
    rows = [row(0, {}, a="2", b="x", seed="0"), row(1, {}, a="1", b="x", seed="1"), row(2, {}, a="2", b="x", seed="1")]
    rows += [row(3, {}, "failed", a="3", b="x", seed="0"), row(4, {}, b="x", seed="0")]
    assert swept_keys(rows) == {"a": ["2", "1", "3", ""], "seed": ["0", "1"]}
    grouped = settings_of(rows)
    assert {key: [found.name for found in group] for key, group in grouped.items()} == {
        (("a", "2"), ("b", "x")): ["0", "2"],
        (("a", "1"), ("b", "x")): ["1"],
        (("b", "x"),): ["4"],
    }


def test_directions_are_the_scores_own_but_for_the_terms():
    rows = [row(0, {"mig": 1.0}), row(1, {"loss_of_it": 1.0})]
    found = [direction_of(name, rows) for name in ("mig", "loss_of_it", "reconstruction", "udr", "kl", "active")]
    assert found == [True, False, False, True, None, None]


def codes(folder: Path, latents: np.ndarray, kl, factors=None) -> None:
    factors = np.arange(len(latents)) if factors is None else factors
    np.savez(folder / "codes.npz", codes=latents, factors=factors, kl=np.array(kl))


def test_images_are_the_same_where_the_same_labels_are_unknown(tmp_path):
    labels = np.array([0, np.nan, 1, np.nan, 2, 3, 4, 5])
    latents = np.random.default_rng(0).normal(size=(8, 2))
    for seed in range(2):
        codes(job(tmp_path / str(seed), ["a=1", f"seed={seed}"]), latents, [1, 1], labels)
        codes(job(tmp_path / f"x{seed}", ["a=2", f"seed={seed}"]), latents, [1, 1], np.roll(labels, seed))
    found = {found.name: list(found.scores) for found in read_rows(tmp_path)}
    assert found == {"0": ["udr"], "1": ["udr"], "x0": [], "x1": []}


def test_jobs_are_ranked_by_informative_units_of_the_same_images(tmp_path, monkeypatch):
    asked = []

    def ranking(latents, informative):
        asked.append((latents, [kinds.tolist() for kinds in informative]))
        return np.array([0.25, math.nan, 0.75][: len(latents)])

    monkeypatch.setattr(sweep_jobs, "unsupervised_disentanglement_ranking", ranking)
    latents = np.random.default_rng(0).normal(size=(3, 8, 2))
    for seed in range(3):
        folder = job(tmp_path / str(seed), ["a=1", f"seed={seed}"], mig=(0.5,))
        codes(folder, latents[seed], [0.02, 0.01 if seed else 0.009])
    (tmp_path / "1" / "latents.csv").write_text("unit,active\n0,False\n1,False\n")
    for seed in range(2):  # of other images than each other's
        codes(job(tmp_path / f"x{seed}", ["a=2", f"seed={seed}"]), latents[0], [1, 1], np.arange(8) + seed)
    codes(job(tmp_path / "y", ["a=3", "seed=0"]), latents[0], [1, 1])  # alone
    for n in range(2):
        codes(job(tmp_path / f"z{n}", ["a=4"]), latents[0], [1, 1])  # without seeds
    found = {found.name: found.scores for found in read_rows(tmp_path)}
    ((given, informative),) = asked
    np.testing.assert_array_equal(given, latents)
    # Units of more than 0.01 nats; none of a model without an active one.
    assert informative == [[True, False], [False, False], [True, False]]
    assert found["0"] == {"mig": 0.5, "udr": 0.25}
    assert found["1"] == {"mig": 0.5}
    assert found["2"] == {"mig": 0.5, "udr": 0.75}
    assert not any(found[name] for name in ("x0", "x1", "y", "z0", "z1"))


@pytest.mark.parametrize(
    "wrong", [{"kl": np.ones(3)}, {"factors": np.arange(7)}, {"codes": np.array([["a", "b"]] * 8)}]
)
def test_codes_that_dont_fit_are_left_out(tmp_path, wrong, caplog):
    for seed in range(2):
        folder = job(tmp_path / str(seed), [f"seed={seed}"])
        arrays = {"codes": np.random.default_rng(0).normal(size=(8, 2)), "factors": np.arange(8), "kl": np.ones(2)}
        np.savez(folder / "codes.npz", **arrays | (wrong if seed else {}))
    assert [found.scores for found in read_rows(tmp_path)] == [{}, {}]
    assert "codes.npz is damaged" in caplog.text


@pytest.fixture
def compared(monkeypatch):
    """What the page of a sweep is given."""

    def found(sweep: Path, rows: list[Row] | None = None, **more) -> dict:
        pages = []
        monkeypatch.setattr(comparison, "write_page", lambda path, template, **shown: pages.append(shown))
        if rows is not None:
            monkeypatch.setattr(comparison, "read_rows", lambda folder: rows)
        comparison.compare(sweep, **more)
        return pages[0]

    return found


def rows_of_settings() -> list[Row]:
    found = []
    for gamma, migs in (("10", (0.0, 0.0, 0.9)), ("100", (0.25, 0.25, 0.25))):
        for seed, mig in enumerate(migs):
            scores = {"mig": mig, "loss_of_it": mig}
            found.append(row(len(found), scores, loss__gamma=gamma, loss="beta", lr="0.1", seed=str(seed)))
    return found


def test_the_page_has_the_best_jobs_and_settings_by_their_means(compared, tmp_path, drawn):
    rows = rows_of_settings()
    page = compared(tmp_path, rows)
    assert page["title"] == "loss.gamma=10,100 seed=0,1,2"
    assert page["shared"] == {"loss": "beta", "lr": "0.1"}
    assert page["swept"] == {"loss.gamma": ["10", "100"], "seed": ["0", "1", "2"]}
    assert {name: best.name for name, best in page["best"].items()} == {"mig": "2", "loss_of_it": "0"}
    # The mean of 0, 0 and 0.9 is 0.3, above that of the others, whose median is the larger; its sample deviation
    # is √(0.3² + 0.3² + 0.6²) / √2 = 0.3 · √3.
    first = {"loss.gamma": "10", "loss": "beta", "lr": "0.1"}
    (setting, n, spreads), (_, _, others) = page["settings"]
    assert (setting, n, spreads["mig"]) == (first, 3, (pytest.approx(0.3), pytest.approx(0.3 * 3**0.5)))
    assert others["mig"] == (0.25, 0)
    assert page["best_settings"] == [(first, "mig"), ({**first, "loss.gamma": "100"}, "loss_of_it")]
    assert page["titles"] == {"mig": "MIG ↑", "loss_of_it": "loss of it ↓"}
    boxes, _ = page["distributions"]
    assert boxes.alt == "mig: 10: median 0 of 3; 100: median 0.25 of 3"
    (mig, other) = page["plots"]["loss.gamma"]
    assert list(page["plots"]) == ["loss.gamma"]
    assert (mig.title, other.title) == ("MIG", "loss of it")
    assert mig.alt == "Mean mig by loss.gamma: 10: 0.3; 100: 0.25"
    assert page["search"] is None


def test_a_single_job_is_the_best_of_nothing(compared, tmp_path):
    page = compared(tmp_path, [row(0, {"mig": 0.5}, a="1"), row(1, {"mig": 0.9}, "failed", a="2")])
    assert page["best"] == {}
    assert page["plots"] == page["distributions"] == page["curves"] or not page["plots"]
    assert [spreads for _, _, spreads in page["settings"]] == [{"mig": (0.5, None)}]
    assert compared(tmp_path, [row(0, {}, a="1")])["title"] == tmp_path.name


def test_the_lines_of_a_plot_are_the_other_keys_values(drawn):
    rows = [
        row(n, {"mig": float(10 * a + b)}, a=str(a), b=str(b), seed=str(seed))
        for n, (a, b, seed) in enumerate((a, b, seed) for a in (1, 2) for b in (3, 4) for seed in (0, 1))
    ]
    rows.append(row(9, {"mig": 1e9}, "failed", a="1", b="3", seed="2"))  # which isn't drawn
    plots = comparison._plots(rows, swept_keys(rows))
    assert list(plots) == ["a", "b"]
    assert plots["a"][0].alt == "Mean mig by a: b=3, 1: 13; b=3, 2: 23; b=4, 1: 14; b=4, 2: 24"
    assert plots["b"][0].alt == "Mean mig by b: a=1, 3: 13; a=1, 4: 14; a=2, 3: 23; a=2, 4: 24"
    # A search's trials share no values: points without lines.
    trials = [row(n, {"mig": n / 10}, a=str(n + 0.5), b=str(n + 7.5)) for n in range(3)]
    (found,) = comparison._plots(trials, swept_keys(trials))["a"]
    assert found.alt == "Mean mig by a: 0.5: 0; 1.5: 0.1; 2.5: 0.2"
    assert [len(line.get_xdata()) for line in found.axes.lines] == [1, 1, 1]
    # More lines than there are colours for are one.
    many = [row(n, {"mig": float(n)}, a=str(n % 2), b=str(n // 2)) for n in range(18)]
    (found,) = comparison._plots(many, swept_keys(many))["a"]
    assert found.alt == "Mean mig by a: 0: 8; 1: 9"


def test_curves_are_labelled_by_setting_where_these_are_few(drawn):
    rows = rows_of_settings()
    assert set(comparison._labels(rows).values()) == {"loss.gamma=10", "loss.gamma=100"}
    many = [row(n, {}, a=str(n), seed="0") for n in range(9)]
    assert set(comparison._labels(many).values()) == {""}
    assert len(set(comparison._labels(many[:8]).values())) == 8
    trials = [row(n, {}, a=str(n), b=str(n)) for n in range(3)]
    assert set(comparison._labels(trials).values()) == {""}


@pytest.mark.parametrize(
    ("setting", "split"),
    [
        ((("loss", "beta"), ("loss.beta", "4")), ("beta", "4")),
        ((("experiment", "e"), ("loss", "beta"), ("loss.beta", "4"), ("lr", "1")), ("e beta", "beta=4 lr=1")),
        ((("loss.beta", "4"),), ("", "4")),
    ],
)
def test_a_setting_is_its_objective_and_its_strength(setting, split):
    assert comparison._objective(setting) == split


def test_the_boxes_are_grouped_by_objective_and_need_seeds(drawn):
    rows = [
        row(n, {"mig": n / 10}, loss=loss, loss__beta="4", seed=str(seed))
        for n, (loss, seed) in enumerate((loss, seed) for loss in ("a", "b") for seed in (0, 1))
    ]
    (found,) = comparison._distributions(rows, swept_keys(rows))
    assert found.alt == "mig: a: median 0.05 of 2; b: median 0.25 of 2"
    alone = [row(n, {"mig": 0.1}, loss="ab"[n], seed=str(n)) for n in range(2)]
    assert comparison._distributions(alone, swept_keys(alone)) == []
    same = [row(n, {"mig": 0.1}, loss="a", seed="0") for n in range(2)]
    assert comparison._distributions(same, swept_keys(same)) == []


def test_the_terminals_columns_are_short_and_those_that_have_something():
    rows = [
        Row(
            Path("0"),
            "0",
            Job((), "finished", 90.0),
            {"loss.gamma": "123.456789", "seed": "0"},
            scores={"mig": 0.12345},
        ),
        Row(Path("1"), "1", Job((), "failed", 30.0), {"loss.gamma": "abcdefghijkl", "seed": "1"}, terms={"kl": 12.0}),
    ]
    columns = dict(comparison._columns(rows))
    assert list(columns) == ["job", "MIG", "status", "gamma", "seed", "KL", "min"]
    assert columns["MIG"] == ["0.123", "–"]
    assert columns["KL"] == ["–", "12"]
    assert columns["gamma"] == ["123", "abcdefghijkl"]
    assert columns["min"] == ["1.5", "0.5"]
    assert columns["status"] == [Text("finished"), Text("failed")]
    assert [status.style for status in columns["status"]] == ["", "red"]
    both = [Row(Path(n), n, Job((), "finished"), {"a.x": n, "b.x": n}) for n in "01"]
    assert list(dict(comparison._columns(both)))[2:4] == ["a.x", "b.x"]  # which would be one
    assert [comparison._rounded(text) for text in ("0.12345678", "0.1234", "1" * 8)] == ["0.123", "0.1234", "1" * 8]


def test_a_narrow_terminal_drops_the_columns_that_matter_least(monkeypatch):
    rows = [
        Row(
            Path("0"), "0", Job((), "finished", 90.0), {"k": n}, terms={"reconstruction": 1.0, "kl": 2.0},
            units=(), scores={"mig": 0.1, "udr": 0.5},
        )
        for n in "01"
    ]  # fmt: skip
    every = ["job", "MIG", "active", "status", "k", "rec", "KL", "UDR", "min"]
    wide = [column.header for column in comparison.terminal_table(rows, 200).columns]
    assert wide == every
    tables = {width: comparison.terminal_table(rows, width) for width in range(28, 76, 4)}
    dropped = [[name for name in every if name not in ("min", "UDR", "KL", "rec")[:n]] for n in range(5)]
    seen = [[column.header for column in table.columns] for table in tables.values()]
    assert seen == sorted(seen, key=len)
    assert [names for n, names in enumerate(seen) if names not in seen[:n]] == dropped[::-1]
    for width, table in tables.items():
        assert comparison.console(width=10_000).measure(table).maximum <= width or len(table.columns) == 5


def test_a_long_list_of_values_is_their_number_in_the_title(tmp_path):
    short, long = ["1" * 20, "2" * 19], ["1" * 20, "2" * 20]
    assert comparison._title({"a": short, "b": long}, tmp_path) == f"a={','.join(short)} b (2 values)"


def test_the_table_of_a_sweep_has_every_score_and_its_page_the_report(compared, tmp_path):
    folder = job(tmp_path / "0", ["a=1"], mig=(0.5,))
    (folder / "report.html").touch()
    job(tmp_path / "1", ["a=2"], "failed", other=(0.25,))
    page = compared(tmp_path)
    assert [link for _, link, _ in page["rows"]] == ["0/report.html", ""]
    with (tmp_path / "sweep.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    names = "job a status step loss reconstruction kl mig other active seconds error report"
    assert list(first) == names.split()
    assert (first["mig"], first["other"], second["mig"], second["other"]) == ("0.5", "", "", "0.25")
    assert (first["step"], first["active"], first["seconds"], first["report"]) == ("", "", "90.0", "0/report.html")
    assert second["report"] == ""
