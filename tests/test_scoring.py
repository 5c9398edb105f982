"""How scores are computed in turn, written, read and shown, by metrics whose values are known."""

from __future__ import annotations

import json
import math
import platform
from importlib.metadata import version

import numpy as np
import pytest
import torch

from bvae import metrics
from bvae.data.image_set import Factors
from bvae.evaluation.scores import (
    NO_SCORES,
    Score,
    Scoring,
    compute_scores,
    label_of,
    names_of,
    read_json,
    terminal_table,
    write_json,
)


class First(metrics.CodesMetric):
    """The first code plus a number; keeps what it was asked."""

    def __init__(self, plus: float = 0.0, looks: bool = True, chance: float | dict | None = 0.25, fails="") -> None:
        super().__init__()
        self.plus, self.looks_at_factors, self.by_chance, self.fails = plus, looks, chance, fails
        self.seen: list = []

    def protocol(self, n):
        return f"of {n}"

    def remark(self, codes):
        return "by hand" if self.plus else ""

    def chance(self, codes):
        return self.by_chance

    def score(self, codes):
        self.seen.append(codes)
        if self.fails:
            raise ZeroDivisionError(self.fails)
        return float(codes.mean[0, 0]) + self.plus


class Several(First):
    names = ("low", "high")
    higher_is_better = False
    seed = 5

    def score(self, codes):
        first = super().score(codes)
        return {"low": first, "high": first + 1}


def codes(first: float = 2.0, posteriors: bool = True) -> metrics.Codes:
    mean = torch.tensor([[first, 0.0], [0.0, 1.0], [1.0, 2.0]])
    return metrics.Codes(mean, torch.full_like(mean, -3.0) if posteriors else None, torch.tensor([[0], [1], [2]]))


def test_each_metric_gives_its_scores_with_what_is_known_of_them(capsys):
    chosen = {"a": First(), "none": None, "b": First(0.5, chance=None), "c": Several(chance={"high": 0.75})}
    found = compute_scores(chosen, codes())
    assert [(s.name, s.value, s.protocol, s.n, s.seed, s.higher_is_better, s.chance) for s in found] == [
        ("a", 2.0, "of 3", 3, None, True, 0.25),
        ("b", 2.5, "of 3; by hand", 3, None, True, None),
        ("low", 2.0, "of 3", 3, 5, False, None),
        ("high", 3.0, "of 3", 3, 5, False, 0.75),
    ]
    assert all(isinstance(score.value, float) and 0 <= score.seconds < 60 for score in found)
    assert found[2].seconds == found[3].seconds
    (seen,) = chosen["a"].seen
    assert torch.equal(seen.mean, codes().mean)
    assert torch.equal(seen.factors, codes().factors)
    assert torch.equal(seen.log_variance, codes().log_variance)
    compute_scores({"a": chosen["a"]}, codes(posteriors=False), show=False)
    assert chosen["a"].seen[-1].log_variance is None
    assert capsys.readouterr().out.strip() == "Scoring: a, b, c …"  # a line where the output is no terminal


def test_a_score_is_of_the_codes_given_and_leaves_a_metrics_own_alone():
    metric = First()
    metric.update(np.full((4, 2), 9.0), np.zeros((4, 1), int))
    for first in (2.0, 3.0):
        (score,) = compute_scores({"a": metric}, codes(first))
        assert (score.value, score.n) == (first, 3)
    assert metric.compute() == 9


def test_a_metric_that_fails_loses_no_other():
    found = compute_scores({"a": First(fails="by zero"), "c": Several(fails="too"), "b": First()}, codes())
    assert [(s.name, math.isnan(s.value), s.protocol, s.chance) for s in found] == [
        ("a", True, "can't be computed: by zero", None),
        ("low", True, "can't be computed: too", None),
        ("high", True, "can't be computed: too", None),
        ("b", False, "of 3", 0.25),
    ]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (codes()._replace(mean=codes().mean * 0.01, log_variance=torch.zeros(3, 2)), "no unit is active"),
        (codes(posteriors=False)._replace(mean=torch.full((3, 2), 0.7)), "every unit is constant"),
        (
            codes()._replace(mean=torch.full((3, 2), 0.7), log_variance=torch.full((3, 2), -3.0)),
            "every unit is constant",
        ),
        (codes(posteriors=False)._replace(mean=torch.tensor([[0.7, 0], [0.7, 0], [0.7, 1e-3]])), ""),
        (codes(), ""),
    ],
)
def test_what_follows_factors_isnt_defined_where_no_unit_can(given, why):
    follows, other = compute_scores({"a": First(), "b": First(looks=False)}, given)
    assert math.isnan(follows.value) == bool(why)
    assert why in follows.protocol
    assert (follows.chance is None) == bool(why)
    assert other.value == pytest.approx(float(given.mean[0, 0]))


def test_without_factors_what_looks_at_them_is_left_out(capsys):
    bare = codes()._replace(factors=torch.zeros(3, 0, dtype=torch.int64))
    chosen = {"a": First(), "b": First(looks=False), "c": Several(), "d": None}
    assert [score.name for score in compute_scores(chosen, bare)] == ["b"]
    assert capsys.readouterr().out == "Left out, as the images have no factors: a, c\nScoring: b …\n"
    assert [score.name for score in compute_scores(chosen, bare, show=False)] == ["b"]
    assert compute_scores({"b": chosen["b"]}, bare)[0].name == "b"
    assert capsys.readouterr().out == "Scoring: b …\n"


def test_scores_while_training_and_those_at_its_end():
    one, other = {"a": First()}, {"b": First()}
    assert Scoring(one, other).final is other
    assert Scoring(one).final is one
    assert Scoring(one, {}).final is one
    assert NO_SCORES.final == {}
    assert names_of({"a": First(), "none": None, "c": Several()}) == ["a", "low", "high"]
    two = Factors(("x", "y", "z"), (2, 2, 2), positions=("x", "y"))
    for scoring, step, factors, every in (
        (Scoring(one), 9, two, False),
        (Scoring(one, other), 0, None, True),
        (Scoring(one, encode_every_image_from=5), 5, two, True),
        (Scoring(one, encode_every_image_from=5), 4, two, False),
        (Scoring(one, encode_every_image_from=0), 0, two, True),
        (Scoring(one, encode_every_image_from=5), 9, None, False),
        (Scoring(one, encode_every_image_from=5), 9, Factors(("x",), (2,), positions=("x",)), False),
    ):
        assert scoring.encodes_every_image(step, factors) is every
    for given, message in (
        (
            {"sample": [1]},
            r"metrics.sample must have metrics by the names of their scores, or null for none, got \[1\]",
        ),
        ({"every_image": "x"}, "metrics.every_image must have metrics by the names"),
        ({"sample": {"mig": 5}}, "metrics.sample.mig must be a metric, or null to do without, got 5"),
        ({"every_image": {"a": None, "mig": "x"}}, "metrics.every_image.mig must be a metric"),
    ):
        with pytest.raises(ValueError, match=message):
            Scoring(**given)


SCORES = [
    Score("a", 0.5, "Chen et al. 2018: gaps", 1_234, None, 1.2345, True, 0.1),
    Score("b", math.nan, "can't be computed: why: not", 7, 3, 0.0, False),
    Score("c", 3, "counts", 7, 0, 2.0),
    Score("d", -math.inf, "logarithm", 7, None, 1.0, None, 0),
]


def test_scores_are_written_and_read_back(tmp_path):
    path = tmp_path / "new" / "scores.json"
    write_json(SCORES, path, {"checkpoint": "β.ckpt"}, {"kl": 1.5})
    written = json.loads(path.read_text(encoding="utf-8"))
    assert "β.ckpt" in path.read_text(encoding="utf-8")
    assert list(written) == ["a", "b", "c", "d", "source", "terms", "versions"]
    assert written["a"] == {
        **{"value": 0.5, "protocol": "Chen et al. 2018: gaps", "n": 1_234, "seed": None, "seconds": 1.23},
        **{"higher_is_better": True, "chance": 0.1},
    }
    assert [written[name]["value"] for name in "bcd"] == [None, 3, None]
    assert written["d"]["chance"] == 0
    assert (written["source"], written["terms"]) == ({"checkpoint": "β.ckpt"}, {"kl": 1.5})
    names = ("bvae", "torch", "numpy", "scikit-learn")
    assert written["versions"] == {**{n: version(n) for n in names}, "python": platform.python_version()}
    for source in (None, {}, {"checkpoint": "β.ckpt"}):
        read = read_json(path, source)
        assert [(s.name, s.n, s.seed, s.higher_is_better, s.chance, s.protocol) for s in read] == [
            (s.name, s.n, s.seed, s.higher_is_better, s.chance, s.protocol) for s in SCORES
        ]
        assert [read[0].value, read[0].seconds, read[2].value] == [0.5, 1.23, 3]
        assert math.isnan(read[1].value)
    assert read_json(path, {"checkpoint": "other.ckpt"}) == []
    write_json(SCORES[:1], path)
    assert list(json.loads(path.read_text(encoding="utf-8"))) == ["a", "versions"]
    assert [score.name for score in read_json(path, {"checkpoint": "any"})] == ["a"]  # of a source that isn't known
    assert read_json(tmp_path / "none.json") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": "1"},
        {"protocol": None},
        {"n": None},
        {"n": 1.5},
        {"seed": "1"},
        {"seconds": "1"},
        {"more": 1},
        {"value": ...},
        {"protocol": ...},
        {"n": ...},
        {"seconds": ...},
    ],
    ids=str,
)
def test_a_file_of_scores_that_is_damaged_is_named(tmp_path, wrong):
    whole = {"value": 1, "protocol": "p", "n": 1, "seed": None, "seconds": 0}
    (tmp_path / "scores.json").write_text(json.dumps({"a": whole}))
    assert read_json(tmp_path / "scores.json")[0].value == 1
    changed = {name: value for name, value in (whole | wrong).items() if value is not ...}
    (tmp_path / "scores.json").write_text(json.dumps({"a": changed}))
    with pytest.raises(ValueError, match=r"scores\.json is damaged"):
        read_json(tmp_path / "scores.json")


def test_the_terminals_table_has_a_row_a_score():
    table = terminal_table(SCORES)
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    assert [column.header for column in table.columns] == ["score", "value", "N", "seed", "after"]
    assert list(zip(*cells, strict=True)) == [
        ("a ↑", "0.500", "1,234", "–", "Chen et al. 2018"),
        ("b ↓", "–", "7", "3", "can't be computed"),
        ("c", "3", "7", "0", "counts"),
        ("d", "−∞", "7", "–", "logarithm"),
    ]


def test_scores_are_called_what_papers_call_them():
    for (name, better), label in {
        ("mig", None): "MIG",
        ("mig", True): "MIG ↑",
        ("irs", False): "IRS ↓",
        ("mig_sup", None): "MIG-sup",
        ("dci_completeness", True): "DCI completeness ↑",
        ("my_own_score", None): "my own score",
        ("beta_vae_score", None): "β-VAE score",
        ("factor_vae_score", None): "FactorVAE score",
        ("infom", None): "InfoM",
        ("jemmig", None): "JEMMIG",
        ("kl", None): "KL",
        ("udr", True): "UDR ↑",
        ("mig_active", None): "MIG of active units",
        ("mig_sampled", None): "MIG of samples",
        ("sap", None): "SAP",
    }.items():
        assert label_of(name, better) == label
