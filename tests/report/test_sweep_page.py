"""A sweep's table, settings and plots, of rows made by hand."""

from __future__ import annotations

import csv
import html
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bvae.report import comparison
from bvae.report.comparison import compare, terminal_table
from bvae.report.plots import Plot
from bvae.report.sweep_jobs import Row, direction_of, settings_of, swept_keys
from bvae.runs.job import Job, Study


def row(number, status="finished", seconds=60.0, error="", **keys) -> Row:
    """A job whose keys are its overrides; scores, terms, units and so on are those of `Row`."""
    fields = {name: keys.pop(name) for name in ("step", "terms", "units", "scores", "directions") if name in keys}
    overrides = {name.replace("__", "."): str(value) for name, value in keys.items()}
    job = Job(tuple(f"{k}={v}" for k, v in overrides.items()), status, seconds, error)
    return Row(Path("/nowhere") / str(number), str(number), job, overrides, **fields)


UP = {"mig": True, "irs": False, "count": None}


@pytest.fixture
def rows() -> list[Row]:
    """Two settings, the first with three seeds whose MIG is 0, 0 and 3, and a failed job."""
    of = {"directions": UP, "same": "x"}
    return [
        row(0, g=1, seed=0, scores={"irs": 0.5, "mig": 0.0}, terms={"loss": 9.0, "kl": 4.0}, step=1_000, **of),
        row(1, g=1, seed=1, scores={"irs": 0.6, "mig": 0.0}, terms={"loss": 8.0, "kl": 2.0}, **of),
        row(2, g=1, seed=2, scores={"irs": 0.7, "mig": 3.0}, units=((1, "size"), (0, "")), **of),
        row(3, g=20, seed=0, seconds=90.0, scores={"irs": 0.4, "mig": 1.5, "count": 7.0}, **of),
        row(4, "failed", error="no <b>", g=20, seed=1, scores={"mig": 9.0, "irs": 0.0}, **of),
    ]


@pytest.fixture
def drawn_calls(monkeypatch) -> dict[str, list]:
    """What the figures were asked for."""
    found: dict[str, list] = {"against": [], "distributions": [], "curves": []}

    def asked(name):
        def draw(*given):
            found[name].append(given)
            plot = Plot(f"{name} of {given[0]}" if name != "curves" else name, "", "<svg/>")
            return [plot] if name == "curves" else plot

        return draw

    for name in found:
        monkeypatch.setattr(comparison.figures, name, asked(name))
    return found


def page(tmp_path, monkeypatch, rows, study=None) -> str:
    monkeypatch.setattr(comparison, "read_rows", lambda sweep: rows)
    assert compare(tmp_path, study) is rows
    return (tmp_path / "sweep.html").read_text(encoding="utf-8")


def table(text: str, name: str) -> list[list[str]]:
    """The cells of a section's table; what is bold has stars."""
    markup = text.partition(f'<section id="{name}">')[2].partition("</table>")[0]
    found = []
    for line in re.findall(r"<tr.*?</tr>", markup):
        cells = re.findall(r"<t[hd](.*?)>(.*?)</t[hd]>", line)
        plain = [(kind, html.unescape(re.sub(r"<[^>]*>", " ", text)).strip()) for kind, text in cells]
        found.append([f"*{cell}*" if "best" in kind else cell for kind, cell in plain])
    return found


def test_the_csv_has_a_row_a_job(tmp_path, monkeypatch, rows, drawn_calls):
    page(tmp_path, monkeypatch, rows)
    with (tmp_path / "sweep.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == [
        *("job", "g", "seed", "status", "step", "loss", "reconstruction", "kl", "irs", "mig", "count"),
        *("active", "seconds", "error", "report"),
    ]
    assert lines == [
        ["0", "1", "0", "finished", "1000", "9.0", "", "4.0", "0.5", "0.0", "", "", "60.0", "", ""],
        ["1", "1", "1", "finished", "", "8.0", "", "2.0", "0.6", "0.0", "", "", "60.0", "", ""],
        ["2", "1", "2", "finished", "", "", "", "", "0.7", "3.0", "", "2", "60.0", "", ""],
        ["3", "20", "0", "finished", "", "", "", "", "0.4", "1.5", "7.0", "", "90.0", "", ""],
        ["4", "20", "1", "failed", "", "", "", "", "0.0", "9.0", "", "", "60.0", "no <b>", ""],
    ]


def test_the_page_has_a_row_a_job_with_the_best_of_the_finished_ones_marked(tmp_path, monkeypatch, rows, drawn_calls):
    text = page(tmp_path, monkeypatch, rows)
    header, *lines = table(text, "jobs")
    assert header == ["job", "MIG ↑", "active", "status", "g", "seed", "IRS ↓", "KL", "count", "step", "minutes"]
    assert lines == [
        ["0", "0", "–", "finished", "1", "0", "0.5", "4", "–", "1,000", "1.0"],
        ["1", "0", "–", "finished", "1", "1", "0.6", "2", "–", "–", "1.0"],
        ["2", "*3*", "2", "finished", "1", "2", "0.7", "–", "–", "–", "1.0"],
        ["3", "1.5", "–", "finished", "20", "0", "*0.4*", "–", "7", "–", "1.5"],
        ["4", "9", "–", "failed", "20", "1", "0", "–", "–", "–", "1.0"],
        ["", "no <b>"],
    ]
    assert "no &lt;b&gt;" in text
    assert '<tr class="idle"><td class="number">4</td>' in text
    assert "· 5 jobs · same=x</p>" in text
    assert "<title>g=1,20 seed=0,1,2 · bvae</title>" in text
    assert "<img" not in text
    assert "UDR" not in text.partition("</section>")[0]
    # A job has a column of pictures if one has left some.
    monkeypatch.setattr(comparison, "thumbnail", lambda folder, units: f"data:{folder.name}:{units}" if units else "")
    text = page(tmp_path, monkeypatch, rows)
    assert table(text, "jobs")[0][4] == "traversals"
    assert '<img class="thumbnail" src="data:2:[1, 0]" alt="Traversals of size, unit 0">' in text
    assert text.count("<img") == 1


def test_the_page_has_a_row_a_setting_with_the_mean_and_the_deviation(tmp_path, monkeypatch, rows, drawn_calls):
    text = page(tmp_path, monkeypatch, rows)
    header, *lines = table(text, "settings")
    assert header == ["g", "jobs", "MIG ↑", "active", "IRS ↓", "KL", "count"]
    # Of 0, 0 and 3 the mean is 1 and the standard deviation √3; the failed job counts nowhere.
    assert [[re.sub(r"\s+", " ", cell) for cell in line] for line in lines] == [
        ["1", "3", "1 ± 1.7", "2", "0.6 ± 0.1", "3 ± 1.4", "–"],
        ["20", "1", "*1.5*", "–", "*0.4*", "–", "7"],
    ]
    assert '<section id="settings">' not in page(tmp_path, monkeypatch, rows[:3])  # one setting
    assert '<section id="settings">' not in page(tmp_path, monkeypatch, [rows[0], rows[3]])  # a job each


def test_the_figures_are_of_what_came_of_each_value(tmp_path, monkeypatch, rows, drawn_calls):
    text = page(tmp_path, monkeypatch, rows)
    assert drawn_calls["against"] == [
        ("mig", "g", ["1", "20"], {"": {"1": [0.0, 0.0, 3.0], "20": [1.5]}}, True),
        ("irs", "g", ["1", "20"], {"": {"1": [0.5, 0.6, 0.7], "20": [0.4]}}, True),
    ]  # the KL is known of one value alone
    assert "<h2>By g</h2>" in text
    assert "a line through the means of the seeds" in text
    assert drawn_calls["distributions"] == [
        ("mig", {"": {"1": [0.0, 0.0, 3.0], "20": [1.5]}}),
        ("irs", {"": {"1": [0.5, 0.6, 0.7], "20": [0.4]}}),
        ("kl", {"": {"1": [4.0, 2.0]}}),
        ("active", {"": {"1": [2.0]}}),
        ("count", {"": {"20": [7.0]}}),
    ]
    (labels,) = drawn_calls["curves"][0]
    assert [(folder.name, label) for folder, label in labels.items()] == [
        *(("0", "g=1"), ("1", "g=1"), ("2", "g=1"), ("3", "g=20"), ("4", "g=20")),
    ]
    assert re.findall(r'<section id="(\w+)">', text) == ["jobs", "settings", "distributions", "training"]


def test_the_other_keys_values_are_the_lines(rows):
    asked = []

    def against(*given):
        asked.append(given)
        return given[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison.figures, "against", against)
        both = [row(n, g=g, h=h, seed=s, scores={"mig": g * h + s}) for n, (g, h, s) in enumerate(np.ndindex(2, 2, 2))]
        comparison._plots(both, swept_keys(both))
        assert asked == [
            ("mig", "g", ["0", "1"], {"h=0": {"0": [0, 1], "1": [0, 1]}, "h=1": {"0": [0, 1], "1": [1, 2]}}, True),
            ("mig", "h", ["0", "1"], {"g=0": {"0": [0, 1], "1": [0, 1]}, "g=1": {"0": [0, 1], "1": [1, 2]}}, True),
        ]
        asked.clear()
        # A search's values meet once: points together, without a line.
        search = [row(n, g=n, h=10 - n, scores={"mig": n / 10}) for n in range(3)]
        comparison._plots(search, swept_keys(search))
        assert [given[3:] for given in asked] == [
            ({"": {"0": [0.0], "1": [0.1], "2": [0.2]}}, False),
            ({"": {"10": [0.0], "9": [0.1], "8": [0.2]}}, False),
        ]
        asked.clear()
        # More lines than can be told apart are one.
        for number, lines in ((8, 8), (9, 1)):
            many = [row(f"{g}{h}", g=g, h=h, scores={"mig": 1.0}) for g in range(2) for h in range(number)]
            comparison._plots(many, {"g": ["0", "1"], "h": [str(h) for h in range(number)]})
            assert len(next(given[3] for given in asked if given[1] == "g")) == lines
            asked.clear()
        comparison._plots(both[:1], {"g": ["0", "1"]})
        assert asked == []  # a point is no plot


def test_boxes_are_by_objective_and_strength():
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison.figures, "distributions", lambda *given: asked.append(given))
        of = [("beta", 1), ("beta", 4), ("btcvae", 1)]
        found = [
            row(f"{n}{seed}", same=1, loss=loss, loss__beta=beta, seed=seed, scores={"mig": n + seed / 10})
            for n, (loss, beta) in enumerate(of)
            for seed in (0, 1)
        ]
        comparison._distributions(found, swept_keys(found))
        assert asked == [("mig", {"beta": {"1": [0, 0.1], "4": [1, 1.1]}, "btcvae": {"1": [2, 2.1]}})]
        asked.clear()
        comparison._distributions(found, {"loss": ["beta", "btcvae"]})  # no seeds
        comparison._distributions(found[::2], swept_keys(found))  # a job each
        comparison._distributions([], {"seed": ["0", "1"]})
        assert asked == []
    assert comparison._objective((("loss", "beta"), ("a.b", "1"))) == ("beta", "1")
    assert comparison._objective((("a.b", "1"), ("experiment", "x"), ("c.d.e", "2"))) == ("x", "b=1 e=2")
    assert comparison._objective(()) == ("", "")


def test_curves_have_labels_where_these_are_few():
    def labels(found):
        return list(comparison._labels(found).values())

    assert labels([row(n, g=n % 8, seed=n) for n in range(16)])[:9] == [*(f"g={n}" for n in range(8)), "g=0"]
    assert set(labels([row(n, g=n % 9, seed=n) for n in range(18)])) == {""}
    assert set(labels([row(n, g=n, h=-n) for n in range(3)])) == {""}  # a search's
    assert labels([row(n, g=n) for n in range(3)]) == ["g=0", "g=1", "g=2"]
    assert labels([row(n, g=n % 2, h=n // 2) for n in range(4)])[3] == "g=1 h=1"


def test_a_searchs_page_has_its_plots_first(tmp_path, monkeypatch, rows, drawn_calls):
    found = SimpleNamespace()
    monkeypatch.setattr(comparison.searches, "read", lambda study: found)
    monkeypatch.setattr(comparison.searches, "title", lambda search: "Search for <x>")
    for plots, said in (
        ([Plot("history", "", "<svg/>")], "<figcaption>history</figcaption>"),
        ([], "defined for none"),
    ):
        monkeypatch.setattr(comparison.searches, "plots", lambda search, plots=plots: plots)
        text = page(tmp_path, monkeypatch, rows, Study("a", "b", "mig"))
        assert said in text.partition('<section id="search">')[2].partition("</section>")[0]
        assert "<h1>Search for &lt;x&gt;</h1>" in text
        assert "a line through the means" not in text


def test_the_terminals_table_drops_columns_until_it_fits(rows):
    def headers(width):
        return [column.header for column in terminal_table(rows, width).columns]

    whole = terminal_table(rows, 200)
    cells = list(zip(*([str(cell) for cell in column.cells] for column in whole.columns), strict=True))
    assert headers(200) == ["job", "MIG", "active", "status", "g", "seed", "KL", "min"]
    assert cells == [
        ("0", "0", "–", "finished", "1", "0", "4", "1.0"),
        ("1", "0", "–", "finished", "1", "1", "2", "1.0"),
        ("2", "3", "2", "finished", "1", "2", "–", "1.0"),
        ("3", "1.5", "–", "finished", "20", "0", "–", "1.5"),
        ("4", "9", "–", "failed", "20", "1", "–", "1.0"),
    ]
    statuses = list(whole.columns[3].cells)
    assert [str(status.style) for status in statuses] == ["", "", "", "", "red"]
    assert headers(50)[-1] == "KL"
    assert headers(10)[-1] == "seed"  # what it can't do without stays
    assert all(len(column._cells) == 5 for column in whole.columns)
    long = [row(n, loss__beta=n, model__beta=n) for n in range(2)]
    assert [column.header for column in terminal_table(long, 200).columns] == [
        "job",
        "status",
        "loss.beta",
        "model.beta",
        "min",
    ]
    assert [column.header for column in terminal_table([row(n, loss__beta=n) for n in range(2)], 200).columns][
        2
    ] == "beta"


def test_results_are_the_scores_mig_first_and_the_terms_but_for_the_loss(rows):
    found = row(0, scores={"irs": 0.5, "mig": 0.25}, terms={"loss": 9.0, "kl": 4.0}, units=((3, "a"),), seed=1, g=2)
    assert list(found.results.items()) == [("mig", 0.25), ("active", 1.0), ("irs", 0.5), ("kl", 4.0)]
    assert found.setting == (("g", "2"),)
    assert list(row(0, units=()).results.items()) == [("active", 0.0)]
    assert row(0).active is None
    assert swept_keys(rows) == {"g": ["1", "20"], "seed": ["0", "1", "2"]}
    assert swept_keys([row(0, a=1), row(1)]) == {"a": ["1", ""]}
    assert {key: [r.name for r in of] for key, of in settings_of(rows).items()} == {
        (("g", "1"), ("same", "x")): ["0", "1", "2"],
        (("g", "20"), ("same", "x")): ["3"],
    }
    for name, direction in (("reconstruction", False), ("udr", True), ("mig", True), ("irs", False), ("other", None)):
        assert direction_of(name, rows) is direction
    known_later = [row(0), row(1, directions={"own": False})]
    assert direction_of("own", known_later) is False


def test_the_comparison_is_named_at_the_end(tmp_path, rows, capsys):
    comparison.show_comparison(rows, tmp_path)
    assert capsys.readouterr().out.endswith(f"Comparison: {tmp_path}/sweep.html\n")
