"""What the scores share as torchmetrics, and what a table of codes says of itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection

from bvae import metrics
from bvae.metrics import Codes

FACTORS = torch.tensor([[0, 4, 1], [1, 4, 2], [0, 4, 3], [1, 4, 1]])
SIGNS = torch.tensor([1.0, -1.0, 1.0, -1.0])


def codes(means: list[float], log_variances: list | None = None) -> Codes:
    """Units whose means are this far on either side of 3."""
    spread = torch.stack([3 + SIGNS * mean for mean in means], dim=1)
    given = None if log_variances is None else torch.tensor(log_variances).log().expand(4, -1)
    return Codes(spread, given, FACTORS)


def test_sizes_are_those_of_the_factors_that_vary():
    assert codes([1]).sizes() == [2, 3]
    assert codes([1])._replace(factors=FACTORS[:, 1:2]).sizes() == []
    assert codes([1])._replace(factors=FACTORS[:, :0]).sizes() == []


def test_a_unit_is_active_below_085_of_the_priors_variance_or_its_own():
    assert metrics.ACTIVE_BELOW == 0.85
    assert codes([0, 0, 0], [0.01, 0.84, 0.86]).active().tolist() == [True, True, False]
    # 1.3 < 0.85·(1.3 + s²) where s² is over 0.229
    assert codes([0.0, 0.47, 0.49], [1.3, 1.3, 1.3]).active().tolist() == [False, False, True]
    # A variance under 1 is compared with the prior's though its own is smaller.
    assert codes([0.1], [0.5]).active().tolist() == [True]


def test_active_units_have_a_small_variance_on_average_over_the_images():
    found = Codes(torch.zeros(2, 2), torch.tensor([[0.2, 0.1], [1.6, 1.5]]).log(), FACTORS[:2])
    assert found.active().tolist() == [False, True]  # 0.9 and 0.8; of the logarithms, 0.57 and 0.39


def test_units_without_variances_are_active_where_their_means_have_one_over_a_hundredth():
    assert codes([0.0, 0.09, 0.11]).active().tolist() == [False, False, True]


def test_samples_have_their_posteriors_means_and_deviations():
    means, deviations = torch.tensor([3.0, -1.0]).expand(20_000, 2), torch.tensor([0.5, 4.0])
    found = Codes(means, (2 * deviations.log()).expand(20_000, 2), FACTORS)
    first, again, other = (found.sample(seed) for seed in (0, 0, 1))
    assert first.mean(dim=0).tolist() == pytest.approx([3, -1], abs=0.1)
    assert first.std(dim=0).tolist() == pytest.approx([0.5, 4], rel=0.03)
    assert np.corrcoef(first.T)[0, 1] == pytest.approx(0, abs=0.03)
    assert first.equal(again)
    assert not first.equal(other)
    assert found._replace(mean=means.double()).sample(0).dtype == torch.float64


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
def test_what_is_overwritten_after_an_update_has_been_copied(kind, noisy, factors):
    metric = metrics.SampledMutualInformationGap(num_samples=100, num_posteriors=100)
    table = noisy, factors, np.full_like(noisy, -2.0)
    buffers = [np.empty_like(part[:200]) for part in table]
    for start in range(0, 1_000, 200):
        for buffer, part in zip(buffers, table, strict=True):
            buffer[:] = part[start : start + 200]
        metric.update(*map(kind, buffers))
    for buffer in buffers:
        buffer[:] = 0
    for kept, part in zip((metric.codes, metric.factors, metric.log_variances), table, strict=True):
        assert torch.cat(kept).equal(torch.from_numpy(part))


def test_updates_are_scored_in_one_table_with_their_log_variances():
    class Means(metrics.CodesMetric):
        def protocol(self, n):
            return ""

        def score(self, codes):
            seen.append(codes)
            return {"whole": 1, "half": 0.1}

    seen: list[Codes] = []
    metric = Means()
    everything = codes([1, 2], [0.1, 0.2])
    for rows in (slice(0, 1), slice(1, 4)):
        metric.update(everything.mean[rows], FACTORS[rows], everything.log_variance[rows])
    found = metric.compute()
    assert {name: (value.item(), value.dtype) for name, value in found.items()} == {
        "whole": (1, torch.int64),  # a count stays one
        "half": (0.1, torch.float64),
    }
    metric.reset()
    metric.update(everything.mean, FACTORS)
    metric.compute()
    assert seen[1].log_variance is None
    for part, expected in zip(seen[0], everything, strict=True):
        assert part.equal(expected)
    with pytest.raises(ValueError, match="either every update has log_variances or none"):
        metric.update(*everything[::2], everything.log_variance)
    assert len(metric.codes) == len(metric.factors) == 1
    assert not metric.log_variances


def test_a_call_adds_its_rows_once_and_scores_them_alone_if_it_can(noisy, factors):
    mig = metrics.MutualInformationGap()
    for batch in (slice(0, 500), slice(500, 999)):
        expected = metrics.mutual_information_gap(noisy[batch], factors[batch])
        assert mig(noisy[batch], factors[batch]) == pytest.approx(expected)
    assert mig(noisy[999:], factors[999:]).isnan()
    with pytest.raises(ValueError, match="codes had the shape"):
        mig(noisy[:, :1], factors)
    assert mig.compute() == pytest.approx(metrics.mutual_information_gap(noisy, factors))
    infomec = metrics.InfoMEC()
    assert all(value.isnan() for value in infomec(noisy[:1], factors[:1]).values())
    with pytest.warns(UserWarning, match="InfoMEC can't be computed: every factor has one value"):
        assert list(infomec.compute()) == ["infom", "infoe", "infoc"]


def test_metrics_of_a_collection_share_the_rows_of_calls_and_updates(noisy, factors):
    collection = MetricCollection([metrics.MutualInformationGap(), metrics.MIGSup()])
    collection.update(noisy[:300], factors[:300])
    collection(noisy[300:600], factors[300:600])
    collection.update(noisy[600:], factors[600:])
    found = collection.compute()
    assert found["MutualInformationGap"] == pytest.approx(metrics.mutual_information_gap(noisy, factors))
    assert found["MIGSup"] == pytest.approx(metrics.mig_sup(noisy, factors))


class Scored(LightningModule):
    """Scores the codes that it is given, as Lightning's documentation has metrics logged."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.mig = metrics.MutualInformationGap()

    def training_step(self, batch):
        return self.weight

    def validation_step(self, batch):
        self.mig(*batch)
        self.log("mig", self.mig)

    def configure_optimizers(self):
        return SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning")
def test_a_metric_that_lightning_logs_is_that_of_all_rows_of_the_validation(noisy, factors):
    rows = TensorDataset(torch.from_numpy(noisy), torch.from_numpy(factors))
    loader = DataLoader(rows, batch_size=9)  # of the two batches that are tried first no score can be computed
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_steps=2, val_check_interval=1, accelerator="cpu", **quiet)
    with pytest.warns(UserWarning, match="MutualInformationGap can't be computed: .* too few"):
        trainer.fit(Scored(), loader, loader)
    expected = metrics.mutual_information_gap(noisy, factors)
    assert trainer.callback_metrics["mig"].item() == pytest.approx(expected)


@pytest.mark.parametrize("change", [lambda a: a.astype(a.dtype.newbyteorder()), lambda a: a[::-1].copy()[::-1]])
def test_arrays_of_any_byte_order_and_stride_are_scored(change, noisy, factors):
    mig = metrics.MutualInformationGap()
    mig.update(change(noisy), change(factors))
    assert mig.compute() == pytest.approx(metrics.mutual_information_gap(noisy, factors))


def test_scores_are_plotted(noisy, factors):
    mig, infomec = metrics.MutualInformationGap(), metrics.InfoMEC()
    _, axes = mig.plot([torch.tensor(0.25), torch.tensor(0.75)])
    assert axes.lines[0].get_ydata().tolist() == [0.25, 0.75]
    mig.update(noisy, factors)
    assert mig.plot(ax=axes)[1] is axes
    assert axes.lines[-1].get_ydata() == [mig.compute()]
    _, axes = infomec.plot({name: torch.tensor(0.5) for name in infomec.names})
    assert [line.get_label() for line in axes.lines] == ["infom", "infoe", "infoc"]


def test_a_refused_update_adds_nothing():
    metric = metrics.MIGSup()
    good = torch.zeros(4, 2), FACTORS, torch.zeros(4, 2)
    for wrong, message in (
        ((good[0][:, 0], FACTORS), r"codes must be \(B, D\) and factors \(B, K\) with one B, got \(4,\) and \(4, 3\)"),
        ((good[0], FACTORS[:, 0]), r"codes must be .* with one B, got \(4, 2\) and \(4,\)"),
        ((good[0], FACTORS[:3]), r"codes must be .* with one B, got \(4, 2\) and \(3, 3\)"),
        (
            (good[0], FACTORS, torch.zeros(4, 3)),
            r"log_variances must have the shape of the codes, got \(4, 3\) and \(4, 2\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(*wrong)
    metric.update(*good)
    for wrong, message in (
        ((torch.zeros(4, 3), FACTORS, torch.zeros(4, 3)), r"codes had the shape \(4, 2\) before, got \(4, 3\)"),
        ((good[0], FACTORS[:, :2], good[2]), r"factors had the shape \(4, 3\) before, got \(4, 2\)"),
        ((good[0], FACTORS), "either every update has log_variances or none"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(*wrong)
    assert [len(kept) for kept in (metric.codes, metric.factors, metric.log_variances)] == [1, 1, 1]
    metric.update(*(part[:1] for part in good))
    assert len(metric.codes) == 2


def test_the_two_parts_are_other_images_with_their_own_factors():
    rows = torch.arange(1_000)
    table = Codes(torch.stack((rows, -rows), dim=1).double(), None, rows[:, None] * 10)
    metric = metrics.SAP(num_train=500, num_test=300)
    parts = metric.parts(table)
    for codes, factors, n in ((*parts[:2], 500), (*parts[2:], 300)):
        assert len(codes) == len(factors) == n
        assert torch.equal(codes[:, :1] * 10, factors)
    assert len({*parts[0][:, 0].tolist(), *parts[2][:, 0].tolist()}) == 800
    assert torch.equal(parts[0], metric.parts(table)[0])
    assert not torch.equal(parts[0], metrics.SAP(500, 300, seed=1).parts(table)[0])
    assert metric.rows(1_000) == "500 training and 300 test rows"
    assert len(metrics.SAP().parts(table)[0]) == 667  # two in three of a smaller table
