"""What all scores have in common: what they take and refuse, and how they behave as torchmetrics."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torchmetrics import MetricCollection

from bvae import metrics

POINTS = {"num_train": 500, "num_test": 300}
FOREST = RandomForestClassifier(10, random_state=0)
METRICS = {
    "mig": metrics.MutualInformationGap(),
    "mig_active": metrics.ActiveMutualInformationGap(),
    "mig_sup": metrics.MIGSup(),
    "dcimig": metrics.DCIMIG(),
    "jemmig": metrics.JEMMIG(),
    "infomec": metrics.InfoMEC(num_rows=500),
    "sap": metrics.SAP(**POINTS),
    "dci": metrics.DCIScores(**POINTS, learner=FOREST),
    "modularity": metrics.Modularity(),
    "explicitness": metrics.Explicitness(**POINTS),
    "irs": metrics.InterventionalRobustness(),
    "beta_vae_score": metrics.BetaVAEScore(**POINTS),
    "factor_vae_score": metrics.FactorVAEScore(**POINTS),
    "total_correlation": metrics.TotalCorrelation(),
    "wasserstein_correlation": metrics.WassersteinCorrelation(),
    "active_units": metrics.ActiveUnits(),
}


def whole(function, **options):
    """A score of two parts, given the same table for both."""
    return lambda codes, factors: function(codes, factors, codes, factors, **options)


SUPERVISED = {
    "mig": metrics.mutual_information_gap,
    "mig_sampled": lambda codes, factors: metrics.sampled_mutual_information_gap(
        codes, np.full(np.shape(codes), -2.0), factors
    ),
    "mig_sup": metrics.mig_sup,
    "dcimig": metrics.dcimig,
    "jemmig": metrics.jemmig,
    "infom": lambda codes, factors: metrics.infomec(codes, factors)["infom"],
    "sap": whole(metrics.sap),
    "sap of R²": whole(metrics.sap, continuous=True),
    "dci": lambda codes, factors: whole(metrics.dci, learner=FOREST)(codes, factors).disentanglement,
    "modularity": metrics.modularity,
    "explicitness": whole(metrics.explicitness),
    "irs": metrics.interventional_robustness,
    "beta_vae_score": partial(metrics.beta_vae_score, **POINTS),
    "factor_vae_score": partial(metrics.factor_vae_score, **POINTS),
}
# The penalties of an SVM and of a logistic regression see scales, IRS weighs units by them, a posterior's deviation is
# one, and InfoMEC leaves out units of a small range.
SCALED = ("sap", "beta_vae_score", "irs", "mig_sampled", "infom")
supervised = pytest.mark.parametrize("score", SUPERVISED.values(), ids=SUPERVISED)
every = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def values(result) -> list[float]:
    return [float(value) for value in (result.values() if isinstance(result, dict) else [result])]


@supervised
def test_torch_any_integers_and_a_factor_of_one_value_change_nothing(score, noisy, factors):
    expected = score(noisy, factors)
    assert score(torch.from_numpy(noisy), torch.from_numpy(factors)) == expected
    assert score(torch.from_numpy(noisy).bfloat16(), factors) == pytest.approx(expected, abs=0.05)
    assert score(noisy, (factors * 1000 - 7).astype(np.int32)) == pytest.approx(expected)
    assert score(noisy, np.insert(factors, 1, 42, axis=1)) == pytest.approx(expected)


@supervised
def test_the_order_of_the_units_changes_nothing(score, noisy, factors):
    # Solvers stop a little elsewhere, and trees draw the units in another order.
    assert score(noisy[:, [2, 0, 1]], factors) == pytest.approx(score(noisy, factors), abs=0.03)


@pytest.mark.parametrize("name", [name for name in SUPERVISED if name not in SCALED])
def test_the_scale_of_a_unit_changes_nothing(name, noisy, factors):
    score = SUPERVISED[name]
    assert score(noisy * [2, 8, 0.5] + 3, factors) == pytest.approx(score(noisy, factors), abs=1e-6)


@pytest.mark.parametrize("name", [name for name in SUPERVISED if name != "sap of R²"])
def test_the_names_of_a_factors_values_change_nothing(name, noisy, factors):
    score, renamed = SUPERVISED[name], factors.copy()
    renamed[:, 0] = np.array([3, 0, 4, 1, 2])[factors[:, 0]]
    assert score(noisy, renamed) == pytest.approx(score(noisy, factors), abs=0.03)  # what is drawn differs


@supervised
def test_a_constant_unit_more_is_no_gain(score, noisy, factors):
    with_constant = np.insert(noisy, 1, 0.5, axis=1)
    assert score(with_constant, factors) <= score(noisy, factors) + 0.03


@supervised
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda codes, factors: (codes[:5], factors[:5]), "5 rows.* too few"),
        (lambda codes, factors: (codes * np.nan, factors), "codes must be finite, got NaN or infinity"),
        (lambda codes, factors: (codes[:-1], factors), r"with one N, got \(999, 3\) and \(1000, 3\)"),
        (lambda codes, factors: (codes[:, 0], factors), r"codes must be \(N, D\), got shape \(1000,\)"),
        (lambda codes, factors: (codes[:0], factors[:0]), r"codes must be \(N, D\), got shape \(0, 3\)"),
        (lambda codes, factors: (codes.astype(str), factors), "codes must be real numbers, got <U"),
        (
            lambda codes, factors: (codes, factors > 1),
            r"factors must be integers .* or floats .*, got bool",
        ),
        (lambda codes, factors: (codes, factors * np.nan), "continuous factors must be finite, got NaN or infinity"),
        (lambda codes, factors: (codes, factors * 0), "every factor has one value only, so there is nothing"),
    ],
    ids=["few rows", "NaN", "rows", "shape", "empty", "text", "booleans", "NaN factors", "constant factors"],
)
def test_what_cannot_be_scored_is_refused(score, spoil, message, noisy, factors):
    with pytest.raises(ValueError, match=message):
        score(*spoil(noisy, factors))


def test_factors_that_are_no_integers_come_with_advice_that_changes_no_score(perfect, noisy, factors):
    scales = np.linspace(0.5, 1, 5)  # as in dSprites' latents_values, which astype(int) would make 0 and 1
    with pytest.raises(ValueError, match="score needs factors that are classes, integers, got float64") as refused:
        metrics.factor_vae_score(noisy, scales[factors])
    advice = str(refused.value).partition(" by ")[2]
    indices = eval(advice, {"np": np, "factors": scales[factors]})
    assert metrics.mutual_information_gap(noisy, indices) == metrics.mutual_information_gap(noisy, factors)
    assert metrics.factor_vae_score(perfect, indices, **POINTS) == 1


def test_an_update_of_codes_and_factors_of_other_images_is_refused_and_adds_nothing(noisy, factors):
    metric = metrics.MutualInformationGap()
    codes, factors = torch.from_numpy(noisy), torch.from_numpy(factors)
    for wrong in ((codes[:100], factors[:200]), (codes[:100, 0], factors[:100]), (codes[:100], factors[:100, 0])):
        with pytest.raises(ValueError, match=r"codes must be \(B, D\) and factors \(B, K\) with one B, got"):
            metric.update(*wrong)
    metric.update(codes[:500], factors[:500])
    with pytest.raises(ValueError, match=rf"factors had the shape \(500, {factors.shape[1]}\) before, got \(.*, 2\)"):
        metric.update(codes[500:], factors[500:, :2])
    metric.update(codes[500:], factors[500:])
    assert metric.compute() == pytest.approx(metrics.mutual_information_gap(codes, factors))


@every
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")  # torchmetrics' own, beside ours
def test_a_metric_scores_all_updates_and_resets_pickles_and_clones(metric, noisy, factors):
    metric = metric.clone()
    for start in (0, 300, 900):
        stop = {0: 300, 300: 900, 900: 1000}[start]
        metric.update(torch.from_numpy(noisy[start:stop]), torch.from_numpy(factors[start:stop]))
    expected = values(metric.compute())
    for copy in (pickle.loads(pickle.dumps(metric)), metric.clone()):
        assert values(copy.compute()) == expected
    metric.reset()
    with pytest.raises(ValueError, match=r"has no codes yet: call update\(codes, factors\) first"):
        metric.compute()
    metric.update(torch.from_numpy(noisy), torch.from_numpy(factors))
    assert values(metric.compute()) == expected
    assert metric.protocol(1_000)
    with pytest.raises(ValueError, match=r"codes had the shape \(1000, 3\) before, got \(5, 4\)"):
        metric.update(torch.zeros(5, 4), torch.from_numpy(factors[:5]))
    assert f"{type(metric).__name__}" in repr(metric)


def test_an_update_copies_what_it_gets(noisy, factors):
    metric = METRICS["mig"].clone()
    buffer = np.empty_like(noisy[:100])
    for start in range(0, len(noisy), 100):
        buffer[:] = noisy[start : start + 100]
        metric.update(buffer, factors[start : start + 100])
    assert metric.compute().item() == pytest.approx(metrics.mutual_information_gap(noisy, factors))
    metric.reset()
    metric.update(torch.from_numpy(noisy).requires_grad_(), factors)
    assert metric.clone().compute().item() == pytest.approx(metrics.mutual_information_gap(noisy, factors))


def test_metrics_are_their_functions(noisy, factors):
    def of(name):
        metric = METRICS[name].clone()
        metric.update(torch.from_numpy(noisy), torch.from_numpy(factors))
        return metric.compute().item()

    assert of("mig") == pytest.approx(metrics.mutual_information_gap(noisy, factors))
    assert of("modularity") == pytest.approx(metrics.modularity(noisy, factors))
    assert of("irs") == pytest.approx(metrics.interventional_robustness(noisy, factors))
    assert of("factor_vae_score") == pytest.approx(metrics.factor_vae_score(noisy, factors, **POINTS))
    assert of("total_correlation") == pytest.approx(metrics.total_correlation(noisy))


def test_a_collection_keeps_one_buffer_and_names_every_score(noisy, factors):
    collection = MetricCollection({name: metric.clone() for name, metric in METRICS.items()})
    for rows in (slice(0, 600), slice(600, 1000)):
        collection.update(torch.from_numpy(noisy[rows]), torch.from_numpy(factors[rows]))
    scores = collection.compute()
    assert set(scores) == {score for name, metric in METRICS.items() for score in metric.names or (name,)}
    assert {"dci_completeness", "infoe", "mig_sup"} <= set(scores)
    assert len(collection.compute_groups) == 1
    buffers = [metric.codes for metric in collection.values(copy_state=False)]
    assert all(buffer is buffers[0] for buffer in buffers)


def test_two_processes_score_all_their_codes(tmp_path, noisy, factors):
    np.savez(tmp_path / "codes.npz", codes=noisy, factors=factors)
    program = f"""
import numpy as np, torch, torch.distributed as dist, torch.multiprocessing as mp
from bvae.metrics import MutualInformationGap

def work(rank):
    dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=rank, world_size=2)
    table = np.load("{tmp_path}/codes.npz")
    metric = MutualInformationGap()
    mine = [slice(0, 100), slice(100, 700)] if rank == 0 else [slice(700, 1000)]
    for rows in mine:
        metric.update(torch.from_numpy(table["codes"][rows]), torch.from_numpy(table["factors"][rows]))
    open(f"{tmp_path}/{{rank}}", "w").write(str(metric.compute().item()))

if __name__ == "__main__":
    mp.start_processes(work, nprocs=2, start_method="fork")  # a spawned process would import torch anew
"""
    (tmp_path / "program.py").write_text(program)
    job = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=120)
    assert job.returncode == 0, job.stderr
    expected = metrics.mutual_information_gap(noisy, factors)
    assert [float((tmp_path / rank).read_text()) for rank in "01"] == pytest.approx([expected] * 2)
