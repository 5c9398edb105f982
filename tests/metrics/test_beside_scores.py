"""What a report writes beside a score: protocol, remark and chance, and which way it is better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from bvae import metrics
from bvae.metrics import Codes

TREE = DecisionTreeClassifier(max_depth=3)
ROWS = {"num_train": 1_200, "num_test": 1_300}
PROTOCOLS = {
    metrics.MutualInformationGap(13): ("Chen et al. 2018", "in 13 equal bins"),
    metrics.ActiveMutualInformationGap(13): ("Chen et al. 2018", "in 13 equal bins", "of the active units alone"),
    metrics.MIGSup(13): ("Li et al. 2020", "in 13 equal bins"),
    metrics.DCIMIG(13): ("Sepliarskaia et al. 2019", "in 13 equal bins"),
    metrics.JEMMIG(13): ("Do & Tran 2020", "in 13 equal bins"),
    metrics.Modularity(13): ("Ridgeway & Mozer 2018", "in 13 equal bins"),
    metrics.InterventionalRobustness(0.7, 13): ("Suter et al. 2019", "at the 0.7 quantile", "in 13 bins at most"),
    metrics.InfoMEC(7, 1_500): ("Hsu et al. 2023", "by 7 nearest neighbours", "; 1,500 rows"),
    metrics.InfoMEC(7, 9_500): ("; 4,000 rows",),
    metrics.SampledMutualInformationGap([1, 3], 1_100, 1_700): (
        "Chen et al. 2018",
        "1,100 samples",
        "at most 1,700 posteriors",
        "mean over factors 1, 3 (",
    ),
    metrics.SampledMutualInformationGap(): ("4,000 samples", "at most 4,000 posteriors", "all factors that vary"),
    metrics.SAP(**ROWS): (
        "Kumar et al. 2018",
        "of a linear SVM (C = 0.01",
        "1,200 training and 1,300 test rows",
    ),
    metrics.SAP(**ROWS, continuous=True): ("of largest squared correlation", "1,200 training and 1,300 test rows"),
    metrics.DCIScores(**ROWS): (
        "Eastwood & Williams 2018",
        "gradient-boosted trees",
        "1,200 training and 1,300 test rows",
    ),
    metrics.DCIScores(learner=TREE): ("importances of DecisionTreeClassifier(max_depth=3), one", "2,667 training"),
    metrics.Explicitness(**ROWS): ("Ridgeway & Mozer 2018", "1,200 training and 1,300 test rows"),
    metrics.BetaVAEScore(13, **ROWS): ("Higgins et al. 2017", "of 13 pairs", "1,200 training and 1,300 test points"),
    metrics.FactorVAEScore(13, **ROWS, min_std=0.2): (
        "Kim & Mnih 2018",
        "batches of 13,",
        "under 0.2 without",
        "1,200 training and 1,300 test votes",
    ),
    metrics.TotalCorrelation(): ("Locatello et al. 2019: nats",),
    metrics.WassersteinCorrelation(): ("Locatello et al. 2019: squared Wasserstein-2",),
    metrics.ActiveUnits(0.3): ("Burda et al. 2016", "a variance over 0.3"),
}
METRICS = {type(metric): metric for metric in PROTOCOLS}


@pytest.mark.parametrize(("metric", "parts"), PROTOCOLS.items(), ids=lambda value: type(value).__name__)
def test_the_protocol_names_the_paper_and_every_option(metric, parts):
    said = metric.protocol(4_000)
    assert [part for part in parts if part not in said] == []


def codes(factors: np.ndarray, means: np.ndarray | None = None, log_variances: list[float] | None = None) -> Codes:
    means = np.random.default_rng(0).normal(size=(len(factors), 3)) if means is None else means
    variances = None if log_variances is None else torch.tensor(log_variances).expand(*means.shape)
    return Codes(torch.from_numpy(means), variances, torch.from_numpy(factors))


# Four factors of two to five values, of which one is constant.
ROW = np.arange(60)
FACTORS = np.stack((ROW % 2, ROW % 3, np.full(60, 4), ROW // 30 * (ROW % 5)), axis=1)


def test_chance_counts_the_factors_that_vary():
    chances = {
        metrics.MutualInformationGap: 0.0,
        metrics.ActiveMutualInformationGap: 0.0,
        metrics.MIGSup: 0.0,
        metrics.DCIMIG: 0.0,
        metrics.JEMMIG: None,
        metrics.Modularity: None,
        metrics.InterventionalRobustness: None,
        metrics.InfoMEC: {"infoe": 0.0},
        metrics.SampledMutualInformationGap: 0.0,
        metrics.SAP: 0.0,
        # Of the last factor, 30 zeros and a fifth of the other 30.
        metrics.DCIScores: {"dci_informativeness": pytest.approx((30 + 20 + 36) / 60 / 3)},
        metrics.Explicitness: 0.5,
        metrics.BetaVAEScore: pytest.approx(1 / 3),
        metrics.FactorVAEScore: pytest.approx(1 / 3),
        metrics.TotalCorrelation: None,
        metrics.WassersteinCorrelation: None,
        metrics.ActiveUnits: None,
    }
    assert {kind: metric.chance(codes(FACTORS)) for kind, metric in METRICS.items()} == chances
    for factors in (FACTORS * 1.0, FACTORS[:, 2:3], FACTORS[:, :0]):
        assert METRICS[metrics.DCIScores].chance(codes(factors)) is None
    for kind in (metrics.BetaVAEScore, metrics.FactorVAEScore):
        assert METRICS[kind].chance(codes(FACTORS[:, 2:3])) == 1  # there is nothing to guess


def test_which_way_a_score_is_better_and_what_it_needs():
    unsupervised = {metrics.TotalCorrelation: False, metrics.WassersteinCorrelation: False, metrics.ActiveUnits: None}
    drawn = {
        metrics.InfoMEC, metrics.SampledMutualInformationGap, metrics.SAP, metrics.DCIScores, metrics.Explicitness,
        metrics.BetaVAEScore, metrics.FactorVAEScore,
    }  # fmt: skip
    for kind, metric in METRICS.items():
        assert metric.higher_is_better is unsupervised.get(kind, True), kind
        assert metric.looks_at_factors is (kind not in unsupervised), kind
        assert metric.seed == (0 if kind in drawn else None), kind
        assert (metric.is_differentiable, metric.full_state_update) == (False, False)
        if kind in drawn:
            assert kind(seed=5).seed == 5


def test_remarks_say_what_of_these_codes_changes_a_score():
    binned = (metrics.MutualInformationGap, metrics.MIGSup, metrics.DCIMIG, metrics.JEMMIG, metrics.Modularity)
    plain = codes(FACTORS)
    spoken = {kind for kind, metric in METRICS.items() if metric.remark(plain)}
    assert spoken == {metrics.ActiveMutualInformationGap}  # which always names the units
    continuous = {kind: METRICS[kind].remark(codes(FACTORS * 1.0)) for kind in METRICS}
    assert {continuous[kind] for kind in binned} == {"continuous factors in 13 equal bins too"}
    assert continuous[metrics.SampledMutualInformationGap] == "continuous factors in 20 equal bins"
    assert continuous[metrics.InfoMEC] == "continuous factors: InfoE by the R² of a linear regression"
    said = "continuous factors: importances of {}, one regressor a factor, informativeness by R²"
    assert metrics.DCIScores().remark(codes(FACTORS * 1.0)) == said.format("gradient-boosted trees")
    tree = DecisionTreeRegressor(max_depth=3)
    assert metrics.DCIScores(regressor=tree).remark(codes(FACTORS * 1.0)) == said.format(tree)
    far = np.zeros((145, 2))
    far[0, 1] = 1.0  # √144 deviations from the mean
    far = codes(np.arange(145)[:, None] % 2, far)
    for kind in binned:
        assert METRICS[kind].remark(far).startswith("few values lie far out in units 1 (12) ")
        assert METRICS[kind].remark(far).endswith("the bins span them")
        both = METRICS[kind].remark(far._replace(factors=far.factors * 1.0))
        assert both.startswith("continuous factors in 13 equal bins too; few values lie far out in units 1 (12) ")
    assert METRICS[metrics.InterventionalRobustness].remark(far).endswith("the largest deviations are them")


def test_remarks_on_codes_that_are_small_or_few():
    small = codes(FACTORS, plain(0.04))
    for kind in (metrics.SAP, metrics.BetaVAEScore):
        assert kind().remark(small).startswith("no unit deviates by more than 0.04, and the classifier's penalty")
        assert kind().remark(codes(FACTORS, plain(0.2))) == ""
    assert metrics.SAP(continuous=True).remark(small) == ""
    assert metrics.FactorVAEScore().remark(small) == "no unit deviates by 0.05 or more, so that none has a vote"
    assert metrics.FactorVAEScore(min_std=0.03).remark(small) == ""
    assert metrics.FactorVAEScore().remark(codes(FACTORS, plain(0.04, 0.2))) == ""
    infomec = METRICS[metrics.InfoMEC]
    assert infomec.remark(codes(FACTORS[:, :1])) == "InfoM isn't defined with one factor"
    assert infomec.remark(codes(FACTORS[:, :1], plain(1, 0.01))) == (
        "InfoM isn't defined with one factor; InfoC isn't defined with one unit"
    )
    active = METRICS[metrics.ActiveMutualInformationGap]
    assert active.remark(codes(FACTORS, log_variances=[-2.0, 3.0, -3.0])) == "units 0, 2"
    far = np.zeros((145, 3))
    far[0] = 1.0
    said = active.remark(codes(np.zeros((145, 1)), far, [-2.0, 3.0, -3.0]))
    assert said.startswith(
        "units 0, 2; continuous factors in 13 equal bins too; few values lie far out in units 0 (12), "
    )


def plain(*deviations: float) -> np.ndarray:
    return np.where(np.arange(60)[:, None] % 2, 1, -1) * np.array(deviations)
