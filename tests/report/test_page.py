"""A run's page: what stands in its tables, its pictures and its lines, of an evaluation made by hand."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
import torch

from bvae.data.image_set import Card, Factors
from bvae.evaluation import Evaluation, LatentUnit, Score, Turn
from bvae.evaluation.examples import Examples
from bvae.evaluation.features import LayerFeatures
from bvae.evaluation.pictures import columns_of
from bvae.metrics import Codes
from bvae.report import page, report
from bvae.report.plots import Plot
from bvae.report.strips import film, strip

FACTORS = Factors(("kind", "posX"), (2, 4), categories=("kind",), labels={"posX": "x"})
SHARES = {"shares": (0.1, 0.656), "given": "kind", "factor_given": "posX", "shares_given": (0.0, 0.7)}
SHARES |= {"labels": FACTORS.labels}
TABLE = [
    LatentUnit(2, 0.012346, 2.344, True, "posX", -0.987, 0.654, "x", normalized_mi_given=0.7, **SHARES),
    LatentUnit(0, 0.5, 1.25, True, "kind", 0.5, 0.004, normalized_mi_given=0.1, **SHARES),
    LatentUnit(1, 0.99, 0.0012, False, "kind", 0.0, 0.001, normalized_mi_given=0.2, **SHARES),
]
SCORES = [
    Score("mig", 0.5, "Chen et al. 2018: <gaps>", 1_234, None, 1.0, True, 0.25),
    Score("my_score", 12, "counts", 7, 3, 1.0),
    Score("irs", float("nan"), "can't be computed", 7, 3, 1.0, False, 0),
]


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def evaluation(**more) -> Evaluation:
    rng = np.random.default_rng(0)
    codes = Codes(
        torch.from_numpy(rng.normal(size=(1_200, 3))),
        torch.full((1_200, 3), -2.0, dtype=torch.float64),
        torch.from_numpy(rng.integers(2, size=(1_200, 2))),
    )
    return Evaluation(codes, FACTORS, TABLE, SCORES, **more)


@pytest.fixture
def calls(monkeypatch) -> dict[str, list]:
    """What the figures were asked for; each is an empty picture."""
    found: dict[str, list] = {"responses": [], "histogram": [], "training_curves": []}

    def asked(name):
        def draw(*given):
            found[name].append(given)
            made = Plot(f"{name} {len(found[name])}", "what it shows", f"<svg>{name}</svg>")
            return made if name == "histogram" else [made]

        return draw

    for name in found:
        monkeypatch.setattr(page.figures, name, asked(name))
    return found


def section(text: str, name: str) -> str:
    return text.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", markup)).strip()


def rows(markup: str) -> list[list[str]]:
    """The cells of a first table."""
    table = markup.partition("<table")[2].partition("</table>")[0]
    return [
        [plain(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in re.findall(r"<tr.*?</tr>", table)
    ]


def headings(text: str) -> list[str]:
    return re.findall(r'<section id="(\w+)">', text)


@pytest.mark.usefixtures("calls")
def test_the_latent_table_and_what_units_know(tmp_path):
    text = report(tmp_path, evaluation()).read_text(encoding="utf-8")
    assert rows(section(text, "latents")) == [
        ["unit", "name", "variance", "KL (nats)", "follows", "correlation", "MI / H", "within a kind", "MI / H"],
        ["2", "x", "0.01235", "2.34", "x", "−0.99", "0.65", "x", "0.70"],
        ["0", "no factor", "0.5", "1.25", "kind", "+0.50", "0.00", "x", "0.10"],
        ["1", "at the prior", "0.99", "0.00", "kind", "+0.00", "0.00", "x", "0.20"],
    ]
    assert [bool(idle) for idle in re.findall(r'<tr( class="idle")?><td', section(text, "latents"))] == [
        False,
        False,
        True,
    ]
    assert "averaged over 1,200 images; the factor" in section(text, "latents")
    assert "within each kind" in section(text, "latents")
    assert "under 0.85 of the prior's" in plain(section(text, "latents"))
    assert "last column" not in section(text, "latents")
    information = section(text, "information")
    assert rows(information) == [
        ["unit", "kind", "x"],
        ["2: x", "0.10", "0.66"],
        ["0: no factor", "0.10", "0.66"],
        ["1: at the prior", "0.10", "0.66"],
    ]
    assert information.count('<td style="--share: 0.656" class="strong">0.66</td>') == 3
    assert information.count('<td style="--share: 0.100">0.10</td>') == 3
    within = information.partition("The same within each kind")[2]
    assert rows(within) == [["unit", "x"], ["2: x", "0.70"], ["0: no factor", "0.70"]]  # the active ones
    assert "posX" not in text  # a thing has one name on a page


@pytest.mark.usefixtures("calls")
def test_the_finding_heads_the_page(tmp_path):
    factors = Factors(("turn",), (8,), angles=("turn",))
    found = evaluation(turns=[Turn("turn", "", 0, 1, (0, 2), 1, 0.9)])
    found = Evaluation(found.codes, factors, [replaced(row, shares=(0.0,)) for row in TABLE], [], turns=found.turns)
    text = report(tmp_path, found).read_text(encoding="utf-8")
    assert '<p class="finding">Found: turn (units 0 and 2).</p>' in text


def replaced(row: LatentUnit, **more) -> LatentUnit:
    return LatentUnit(**{**vars(row), "given": "", "shares_given": (), **more})


@pytest.mark.usefixtures("calls")
def test_the_scores_are_tiles_and_rows(tmp_path):
    found = evaluation(terms={"reconstruction": 12.345678, "kl": 3.5, "n": 1_200})
    scores = section(report(tmp_path, found).read_text(encoding="utf-8"), "scores")
    tiles = re.findall(r'<div class="tile"><strong>(.*?)</strong><span>(.*?)</span></div>', scores)
    assert [(html.unescape(value), html.unescape(label)) for value, label in tiles] == [
        ("12.35", "reconstruction (nats)\u00a0↓"),
        ("3.50", "KL (nats)"),
        ("0.500", "MIG\u00a0↑<br>by chance 0.250"),
        ("12", "my score"),
    ]
    assert "means over 1,200 images" in scores
    assert rows(scores) == [
        ["score", "value", "protocol", "N", "seed", "in files"],
        ["MIG ↑", "0.500", "Chen et al. 2018: <gaps>", "1,234", "–", "mig"],
        ["my score", "12", "counts", "7", "3", "my_score"],
    ]
    assert "<p>IRS can&#39;t be computed.</p>" in scores
    assert "&lt;gaps&gt;" in scores


@pytest.mark.usefixtures("calls")
def test_each_units_film_and_strip_stand_beside_its_name(tmp_path):
    moving = pictures(3, 31, 4, 6, 1)
    text = report(tmp_path, evaluation(traversals=moving)).read_text(encoding="utf-8")
    shown = section(text, "traversals")
    before, _, idle = shown.partition("<details>")
    assert "1 idle unit</summary>" in idle  # closed, as others are active
    for part, units in ((before, (2, 0)), (idle, (1,))):
        assert [int(unit) for unit in re.findall(r"<b>(\d): ", part)] == list(units)
        assert re.findall(r'<img src="(.*?)"', part) == [strip(columns_of(moving)[unit]) for unit in units]
        assert re.findall(r"background-image: url\((.*?)\)", part) == [film(moving[unit]) for unit in units]
    assert "<small>KL 2.34 · σ² 0.01235</small>" in before
    assert before.count("width: min(100%, 5.2rem * 6 / 4); aspect-ratio: 6 / 4; background-size: 3100% 100%") == 2
    assert 'max="30" value="15"' in before
    ticks = re.findall(r"<span>([^<]+)</span>", before.partition('class="ticks"')[2].partition("</div>")[0])
    assert ticks == ["−3.0", "−2.4", "−1.8", "−1.2", "−0.6", "0", "+0.6", "+1.2", "+1.8", "+2.4", "+3.0"]
    assert "11 values from −3 to 3" in before
    inactive = [LatentUnit(unit, 1.0, 0.0, False) for unit in range(3)]
    found = evaluation(traversals=moving)
    nothing = Evaluation(found.codes, None, inactive, [], traversals=moving)
    assert "<details open><summary>3 idle units" in report(tmp_path, nothing).read_text(encoding="utf-8")


@pytest.mark.usefixtures("calls")
def test_originals_are_over_their_reconstructions_and_samples_in_two_rows(tmp_path):
    of = [pictures(4, 5, 5, 3, seed=seed) for seed in range(6)]
    samples = pictures(6, 5, 5, 1)
    found = evaluation(
        originals=of[0],
        reconstructions=of[1],
        examples=[Examples("disc", of[2], of[3], 12.34), Examples("the worst of 9", of[4], of[5], 1234.56)],
        samples=samples,
    )
    text = report(tmp_path, found).read_text(encoding="utf-8")
    shown = section(text, "reconstructions")
    assert re.findall(r'<img src="(.*?)"', shown) == [strip(frames) for frames in of]
    assert re.findall(r'alt="(.*?)"', shown) == [
        f"{label}: {which}" for label in ("any", "disc", "the worst of 9") for which in ("originals", "reconstructions")
    ]
    assert re.findall(r"<small>(.*?)</small>", shown) == ["12.3 nats", "1234.6 nats"]
    drawn = section(text, "samples")
    assert re.findall(r'src="(.*?)"', drawn) == [strip(samples[:3]), strip(samples[3:])]
    assert drawn.count('alt="3 images decoded') == 2


def test_figures_are_of_the_active_units_codes(tmp_path, calls):
    run = tmp_path / "run"
    run.mkdir()
    found = evaluation()
    text = report(tmp_path, found, run=run).read_text(encoding="utf-8")
    assert (tmp_path / "report.html").is_file()
    means, latents = found.codes.mean.numpy(), found.codes.sample(seed=0).numpy()
    assert len(calls["histogram"]) == len(calls["responses"]) == 2
    for number, unit in enumerate((2, 0)):
        assert calls["histogram"][number][0] == pytest.approx(latents[:, unit])
        code, classes, factors = calls["responses"][number]
        assert code == pytest.approx(means[:, unit])
        assert np.array_equal(classes, found.codes.factors)
        assert factors is FACTORS
    assert calls["training_curves"] == [(run / "metrics.csv", TABLE)]
    assert re.findall(r"<h3>(.*?)</h3>", section(text, "responses")) == ["Unit 2: x", "Unit 0: no factor"]
    assert re.findall(r"<figcaption>(.*?)</figcaption>", section(text, "responses")) == ["responses 1", "responses 2"]
    assert re.findall(r"<figcaption>(.*?)</figcaption>", section(text, "codes")) == ["2: x", "0: no factor"]
    assert "<svg>training_curves</svg>" in section(text, "training")
    assert "1,200 images" in section(text, "codes")
    many = [LatentUnit(unit, 0.1, 1.0, True, shares=(0.0, 0.0)) for unit in range(13)]
    codes = Codes(torch.zeros(5, 13), torch.zeros(5, 13), torch.zeros(5, 2, dtype=torch.int64))
    calls["histogram"].clear()
    report(tmp_path, Evaluation(codes, FACTORS, many, []))
    assert len(calls["histogram"]) == 12


@pytest.mark.usefixtures("calls")
def test_a_section_is_there_where_there_is_something_in_it(tmp_path):
    found = evaluation()
    least = Evaluation(found.codes._replace(log_variance=None), None, [replaced(row, factor="") for row in TABLE], [])
    text = report(tmp_path, least).read_text(encoding="utf-8")
    assert headings(text) == ["latents", "training", "run"]
    assert re.findall(r'<a href="#(\w+)"', text) == headings(text)
    assert rows(section(text, "latents"))[0] == ["unit", "name"]
    assert "Of 1,200 images" in plain(section(text, "latents"))
    assert "variance over 0.01" in section(text, "latents")
    assert "<script>" not in text
    quoted = [replaced(row, variance_at_picture=0.25 + row.unit) for row in TABLE]
    text = report(tmp_path, Evaluation(found.codes, None, quoted, [])).read_text(encoding="utf-8")
    assert [row[-1] for row in rows(section(text, "latents"))] == ["one picture", "2.25", "0.25", "1.25"]
    assert "The last column" in section(text, "latents")
    whole = evaluation(
        traversals=pictures(3, 31, 4, 4, 1),
        originals=pictures(2, 4, 4, 1),
        reconstructions=pictures(2, 4, 4, 1),
        samples=pictures(2, 4, 4, 1),
        features=[LayerFeatures("encoder_1", 1, 3, True)],
        card=Card("mine", "Squares & more.", "here", "CC0", "Nobody 2020"),
    )
    text = report(tmp_path, whole).read_text(encoding="utf-8")
    assert headings(text) == [
        *("latents", "traversals", "scores", "reconstructions", "samples", "information", "responses", "codes"),
        *("training", "features", "data", "run"),
    ]
    assert re.findall(r'<a href="#(\w+)"', text) == headings(text)
    assert rows(section(text, "features")) == [
        ["layer", "dead", "features", "share"],
        ["encoder 1", "1", "3", "0.33"],
    ]
    assert "Squares &amp; more." in section(text, "data")
    assert "Nobody 2020 · here · licence: CC0" in section(text, "data")
    assert "<script>" in text


@pytest.mark.usefixtures("calls")
def test_a_report_links_to_the_explorer_of_its_model(tmp_path):
    assert "explorer.html" not in report(tmp_path, evaluation()).read_text(encoding="utf-8")  # of codes alone
    text = report(tmp_path, evaluation(traversals=pictures(3, 31, 4, 6, 1))).read_text(encoding="utf-8")
    assert '<a href="explorer.html">Explorer</a>' in text


@pytest.mark.usefixtures("calls")
def test_advice_stands_below_the_finding(tmp_path):
    text = report(tmp_path, evaluation(advice=["To open units: lower loss.beta, now 4."])).read_text(encoding="utf-8")
    assert re.search(r'<p class="finding">.*?</p>\s*<p>To open units: lower loss\.beta, now 4\.</p>', text)
    assert "To open units" not in report(tmp_path, evaluation()).read_text(encoding="utf-8")


@pytest.mark.usefixtures("calls")
def test_scores_that_cant_be_computed_say_why_once(tmp_path):
    nan, why = float("nan"), "can't be computed: no unit is active"
    found = evaluation()
    missing = [Score(name, nan, why, 5, None, 0.0, True, 0) for name in ("mig", "sap")]
    some = Evaluation(found.codes, found.factors, found.table, [*missing, *SCORES[1:2]])
    text = section(report(tmp_path, some).read_text(encoding="utf-8"), "scores")
    assert text.count("no unit is active") == 1
    assert "<p>MIG, SAP can&#39;t be computed: no unit is active.</p>" in text
    assert [row[-1] for row in rows(text)[1:]] == ["my_score"]
    none = Evaluation(found.codes, found.factors, found.table, missing)
    assert "<table" not in section(report(tmp_path, none).read_text(encoding="utf-8"), "scores")


def test_a_title_is_a_line_of_whole_words():
    words = ["experiment=quick", "trainer.max_steps=1500", "logger=csv", "hydra.run.dir=somewhere"]
    assert page.shortened(words[:2]) == "experiment=quick trainer.max_steps=1500"
    assert page.shortened(words) == "experiment=quick trainer.max_steps=1500 logger=csv …"
    assert page.shortened(["x" * 61]) == page.shortened([]) == ""
