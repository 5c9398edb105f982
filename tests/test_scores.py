from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB

from bvae import metrics
from bvae.evaluation import scores


@pytest.fixture
def taken() -> list[scores.Score]:
    factors = torch.from_numpy(np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=1))
    chosen = {
        "mig": metrics.MutualInformationGap(),
        "factor_vae_score": metrics.FactorVAEScore(num_train=200, num_test=100, seed=4),
        "active_units": metrics.ActiveUnits(),
        "total_correlation": metrics.TotalCorrelation(),
    }
    means = torch.cat((factors.double(), factors[:, :1].double()), dim=1)
    return scores.compute_scores(chosen, metrics.Codes(means, None, factors))


def test_a_score_is_written_with_what_makes_it_comparable(taken, tmp_path):
    scores.write_json(taken, tmp_path / "scores.json")
    written = json.loads((tmp_path / "scores.json").read_text())
    assert list(written) == ["mig", "factor_vae_score", "active_units", "total_correlation", "versions"]
    assert written["mig"]["value"] == pytest.approx(1 / 2)  # one of two factors lies in two units
    assert written["mig"]["n"] == 20
    assert written["mig"]["seed"] is None
    assert "20 equal bins" in written["mig"]["protocol"]
    assert written["factor_vae_score"] == written["factor_vae_score"] | {"value": 1.0, "seed": 4}
    assert {name: written[name]["chance"] for name in list(written)[:3]} == {
        "mig": 0,
        "factor_vae_score": 0.5,  # two factors vary
        "active_units": None,
    }
    assert written["active_units"]["value"] == 3
    assert written["total_correlation"]["value"] is None  # infinite, as two units are one
    assert set(written["versions"]) == {"bvae", "torch", "numpy", "scikit-learn", "python"}


def test_what_was_written_reads_back(taken, tmp_path):
    scores.write_json(taken, tmp_path / "scores.json")
    read = scores.read_json(tmp_path / "scores.json")
    assert [(s.name, s.protocol, s.n, s.seed) for s in read] == [(s.name, s.protocol, s.n, s.seed) for s in taken]
    assert [s.value for s in read][:3] == pytest.approx([s.value for s in taken][:3])
    assert [s.chance for s in read] == [s.chance for s in taken]
    assert scores.read_json(tmp_path / "none.json") == []


def test_the_terminals_table_is_short(taken):
    table = scores.terminal_table(taken)
    assert [str(cell) for cell in table.columns[1].cells] == ["0.500", "1.000", "3", "∞"]
    assert next(iter(table.columns[4].cells)) == "Chen et al. 2018"


def test_a_score_that_cannot_be_taken_says_why_and_loses_no_other():
    codes, factors = torch.arange(4.0).repeat(5)[:, None], torch.tensor([[0], [0], [1], [1]]).repeat(5, 1)
    chosen = {"mig": metrics.MutualInformationGap(), "irs": metrics.InterventionalRobustness(), "sap": None}
    others = {"active_units": metrics.ActiveUnits(threshold="abc"), "dci": metrics.DCIScores(learner=GaussianNB())}
    mig, irs, active_units, *dci = scores.compute_scores({**chosen, **others}, metrics.Codes(codes, None, factors))
    assert all("no attribute 'feature_importances_'" in part.protocol for part in dci)
    assert [part.chance for part in dci] == [None] * 3  # beside no number
    assert math.isnan(active_units.value)
    assert "can't be computed" in active_units.protocol
    assert math.isnan(mig.value)
    assert mig.protocol == "can't be computed: the gap needs two units or more, got codes of shape (20, 1)"
    assert irs.value == pytest.approx(1 - 0.5 / 1.5)
    assert scores.readable(mig.value) == "–"


class SampleVariance(metrics.CodesMetric):
    """A score of samples, as a person writes one."""

    looks_at_factors = False

    def protocol(self, n):
        return "variance of a sample of each posterior, mean over units"

    def score(self, codes):
        return float(codes.sample(seed=0).var(dim=0).mean())


def test_a_score_of_samples_gets_the_posteriors_and_says_where_there_are_none():
    means = torch.from_numpy(np.random.default_rng(0).normal(size=(20_000, 2)))
    factors = torch.zeros(20_000, 1, dtype=torch.int64)
    posteriors = metrics.Codes(means, torch.full_like(means, math.log(3)), factors)
    (score,) = scores.compute_scores({"variance": SampleVariance()}, posteriors)
    assert score.value == pytest.approx(1 + 3, rel=0.03)
    (score,) = scores.compute_scores({"variance": SampleVariance()}, posteriors._replace(log_variance=None))
    assert math.isnan(score.value)
    assert "samples need the posteriors' log-variances" in score.protocol
    metric = SampleVariance()
    metric.update(means, factors, posteriors.log_variance)
    with pytest.raises(ValueError, match="either every update has log_variances or none"):
        metric.update(means, factors)
    with pytest.raises(
        ValueError, match=r"^log_variances must have the shape of the codes, got \(20000, 1\) and \(20000, 2\)$"
    ):
        metric.update(means, factors, means[:, :1])


def computed(chosen, mean, factors, log_variance=None):
    codes = metrics.Codes(torch.from_numpy(mean), log_variance, torch.from_numpy(factors))
    return {score.name: score for score in scores.compute_scores(chosen, codes, show=False)}


def test_what_codes_do_to_a_score_stands_after_its_protocol():
    rng = np.random.default_rng(0)
    factors = rng.integers(5, size=(1_000, 2))
    mean = factors + rng.normal(scale=0.2, size=factors.shape)
    chosen = {"mig": metrics.MutualInformationGap(), "sap": metrics.SAP(), "irs": metrics.InterventionalRobustness()}
    found = computed(chosen, mean, factors)
    assert not any("far out" in score.protocol or "deviates" in score.protocol for score in found.values())
    assert "continuous factors in 20 equal bins" in computed(chosen, mean, factors * 1.0)["mig"].protocol
    assert "no unit deviates by more than" in computed(chosen, mean * 1e-6, factors)["sap"].protocol
    infom = {"infomec": metrics.InfoMEC()}
    assert "isn't defined" not in computed(infom, mean, factors)["infom"].protocol
    assert computed(infom, mean, factors[:, :1])["infom"].protocol.endswith("; InfoM isn't defined with one factor")
    assert computed(infom, mean * [1, 1e-3], factors)["infoc"].protocol.endswith("; InfoC isn't defined with one unit")
    mean[0] = 60
    far = computed(chosen, mean, factors)
    assert far["mig"].value < found["mig"].value - 0.2
    for name in ("mig", "irs"):
        assert "few values lie far out in units 0 (" in far[name].protocol


def test_active_units_have_a_gap_of_their_own_and_one_alone_none():
    factors = np.tile(np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=1), (10, 1))
    mean = np.concatenate((factors, factors[:, :1] * 1e-4), axis=1)  # an idle unit follows a factor all the same
    log_variance = torch.tensor([-4.0, -4.0, 0.0]).repeat(len(mean), 1)
    chosen = {"mig": metrics.MutualInformationGap(), "mig_active": metrics.ActiveMutualInformationGap()}
    found = computed(chosen, mean, factors, log_variance)
    assert found["mig"].value == pytest.approx(1 / 2)
    assert found["mig_active"].value == pytest.approx(1)
    assert "; units 0, 1" in found["mig_active"].protocol
    log_variance[:, 1] = 0
    mean[:, 1] *= 1e-4
    alone = computed(chosen, mean, factors, log_variance)["mig_active"]
    assert math.isnan(alone.value)
    assert "two active units or more, got 1 of 3" in alone.protocol


def test_scores_of_nothing_are_not_defined_with_or_without_posteriors():
    factors = np.tile(np.arange(5), 200)[:, None]
    chosen = {"mig": metrics.MutualInformationGap(), "infomec": metrics.InfoMEC(), "tc": metrics.TotalCorrelation()}
    constant = computed(chosen, np.full((1_000, 3), 0.7), factors)
    assert list(constant) == ["mig", "infom", "infoe", "infoc", "tc"]
    idle = computed(chosen, np.random.default_rng(0).normal(size=(1_000, 3)) * 0.01, factors, torch.zeros(1_000, 3))
    for found, reason in ((constant, "every unit is constant"), (idle, "no unit is active")):
        assert [name for name, score in found.items() if math.isnan(score.value)] == ["mig", "infom", "infoe", "infoc"]
        assert found["mig"].protocol.startswith(f"can't be computed: {reason}")


def test_each_metric_names_its_scores():
    chosen = {"mig": metrics.MutualInformationGap(), "dci": metrics.DCIScores(), "sap": None}
    assert scores.names_of(chosen) == ["mig", "dci_disentanglement", "dci_completeness", "dci_informativeness"]


def test_informativeness_by_chance_is_the_mean_over_the_factors_that_vary():
    factors = torch.from_numpy(np.stack(np.unravel_index(np.arange(20), (4, 1, 5)), axis=1))
    codes = metrics.Codes(torch.zeros(20, 2), None, factors)
    assert metrics.DCIScores().chance(codes) == {"dci_informativeness": pytest.approx((1 / 4 + 1 / 5) / 2)}
    assert metrics.DCIScores().chance(codes._replace(factors=factors * 1.0)) is None
    assert metrics.InfoMEC().chance(codes) == {"infoe": 0}
    seldom = codes._replace(factors=(torch.arange(20) == 0).long()[:, None])
    assert metrics.DCIScores().chance(seldom) == {"dci_informativeness": pytest.approx(19 / 20)}


def test_a_score_says_which_way_is_better(taken, tmp_path):
    scores.write_json(taken, tmp_path / "scores.json")
    read = {score.name: score.higher_is_better for score in scores.read_json(tmp_path / "scores.json")}
    assert read == {"mig": True, "factor_vae_score": True, "active_units": None, "total_correlation": False}
    names = list(scores.terminal_table(taken).columns[0].cells)
    assert names == ["mig ↑", "factor_vae_score ↑", "active_units", "total_correlation ↓"]


@pytest.mark.parametrize(("rows", "said"), [(1, "has 1 row, by"), (9, "has 9 rows, by"), (10, "")])
def test_a_class_of_few_rows_is_remarked_on_beside_scores_of_factors(rows, said):
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, 3, 1500), np.zeros(1500, np.int64)], axis=1)
    factors[:rows, 0] = 3
    codes = metrics.Codes(torch.from_numpy(rng.normal(size=(1500, 4))), None, torch.from_numpy(factors))
    chosen = {"sap": metrics.SAP(), "mig": metrics.MutualInformationGap(), "active_units": metrics.ActiveUnits()}
    found = {score.name: score.protocol for score in scores.compute_scores(chosen, codes, show=False)}
    for name in ("sap", "mig"):
        assert said in found[name]
        assert ("well above chance" in found[name]) == bool(said)
    assert "chance" not in found["active_units"]
    continuous = codes._replace(factors=codes.factors.double())
    found = scores.compute_scores({"sap": metrics.SAP(continuous=True)}, continuous, show=False)
    assert "chance" not in found[0].protocol
