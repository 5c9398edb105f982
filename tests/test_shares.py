"""What units tell of factors that some images are labelled with, and of how much is chance."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from tiny import Served, tiny_vae

from bvae.data.image_set import Factors, named
from bvae.evaluation import evaluate, evaluate_codes, latent_table, read_codes, units_of
from bvae.evaluation.scores import compute_scores
from bvae.evaluation.shares import known_by_enough, shares
from bvae.metrics import Codes, MutualInformationGap, TotalCorrelation
from bvae.report import report


def codes(means: np.ndarray, factors: np.ndarray) -> Codes:
    return Codes(torch.tensor(means).float(), torch.full(means.shape, -3.0), torch.tensor(factors))


@pytest.mark.parametrize("n", [200, 300, 500])
@pytest.mark.parametrize("kind", ["fraction", "36 numbers", "2 kinds", "a number an image"])
def test_noise_follows_nothing_however_few_images_there_are(n, kind):
    rng = np.random.default_rng(n)
    factor = {
        "fraction": rng.random(n),
        "36 numbers": rng.integers(36, size=n),
        "2 kinds": rng.integers(2, size=n),
        "a number an image": rng.permutation(n),
    }[kind]
    table = latent_table(codes(rng.standard_normal((n, 10)), factor[:, None]), named(factor[:, None], ["what"]))
    assert [row.name for row in table] == [""] * 10
    assert all(row.normalized_mi < 0.1 for row in table)


@pytest.mark.parametrize("n", [200, 2000])
def test_a_unit_that_is_the_factor_shares_all_of_it(n):
    rng = np.random.default_rng(0)
    factors = np.stack((rng.integers(10, size=n), rng.integers(3, size=n)), axis=1)
    found = shares(factors[:, ::-1].astype(float), factors)
    assert found == pytest.approx(np.array([[0, 1], [1, 0]]), abs=0.05)


def test_with_images_enough_it_is_the_information_over_the_entropy():
    """The unit tells which half of four values it is: one of two bits."""
    factor = np.tile(np.arange(4), 200)[:, None]  # ten for each of 4 x 20 cells
    assert shares((factor // 2).astype(float), factor) == pytest.approx(0.5, abs=1e-9)
    fewer = shares((factor[:-4] // 2).astype(float), factor[:-4])[0, 0]
    assert 0.45 < fewer < 0.5


def test_each_factor_is_looked_at_by_the_images_that_have_it():
    """No image has both labels."""
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(1600, 2)).astype(float)
    means = factors[:, ::-1] - 1.5
    factors[:800, 0] = factors[800:, 1] = np.nan
    rows = {row.unit: row for row in latent_table(codes(means, factors), named(np.zeros((1, 2)), ["a", "b"]))}
    assert (rows[0].name, rows[1].name) == ("b", "a")
    assert rows[0].shares == pytest.approx((0, 1), abs=0.05)
    assert (rows[0].correlation, rows[1].correlation) == pytest.approx((1, 1))


def test_factors_that_few_images_have_are_put_aside():
    factors = np.zeros((600, 3))
    factors[199:, 0] = factors[200:, 1] = np.nan  # 199, 200 and all 600 are known
    described = Factors(("a", "b", "c"), (1, 1, 1), categories=("a", "b"))
    found, kept = known_by_enough(codes(np.zeros((600, 2)), factors), described)
    assert kept == Factors(("b", "c"), (1, 1), categories=("b",))
    assert np.array_equal(found.factors, factors[:, 1:], equal_nan=True)
    found, kept = known_by_enough(codes(np.zeros((600, 2)), factors[:, :1]), described.chosen([0]))
    assert (kept, found.factors.shape) == (None, (600, 0))
    whole = codes(np.zeros((50, 2)), np.zeros((50, 3)))  # all known, however few
    found, kept = known_by_enough(whole, described)
    assert (found.factors.shape, kept) == ((50, 3), described)
    classes = codes(np.zeros((50, 2)), np.zeros((50, 3), int))
    assert known_by_enough(classes, described) == (classes, described)


def test_a_run_says_which_labels_are_too_few_and_keeps_them_with_its_codes(tmp_path, caplog):
    pixels = torch.rand(600, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    factors = np.full((600, 3), np.nan)
    factors[:300, 0] = (pixels[:300, 0, 0, 1] * 5).floor()
    factors[300:, 1] = (pixels[300:, 0, 0, 2] * 5).floor()
    factors[:9, 2] = 1
    data = Served(pixels, factors, factors=Factors(("wide", "high", "odd"), (5, 5, 1)))
    found = evaluate(tiny_vae(log_variance=-6.0), data, tmp_path)
    assert "Fewer than 200 images are labelled, so no unit is named by: odd" in caplog.text
    assert {row.unit: row.name for row in found.table} == {0: "", 1: "wide", 2: "high"}
    with (tmp_path / "latents.csv").open() as file:
        assert {row["unit"]: row["name"] for row in csv.DictReader(file)} == {"0": "", "1": "wide", "2": "high"}
    with np.load(tmp_path / "codes.npz") as kept:
        assert np.array_equal(kept["factors"], factors, equal_nan=True)
        assert kept["factor_names"].tolist() == ["wide", "high", "odd"]
    page = report(tmp_path, found).read_text(encoding="utf-8")  # though no image has both labels
    assert "What each unit knows" in page
    assert "How the active units respond" not in page
    assert [row.name for row in units_of(tiny_vae(log_variance=-6.0), data)] == [row.name for row in found.table]


@pytest.mark.parametrize("known", [40, 20, 19, 0])
def test_scores_say_of_how_many_labelled_images_they_are(known):
    factors = np.tile(np.arange(2.0), (2, 20)).T  # ten images or more of each value
    factors[known:, 1] = np.nan
    metrics = {"mig": MutualInformationGap(), "total_correlation": TotalCorrelation()}
    mig, correlation = compute_scores(metrics, codes(factors[:, :1].repeat(2, axis=1), factors), show=False)
    assert "labels" not in correlation.protocol
    if known == 40:
        assert "labels" not in mig.protocol
    elif known == 20:
        assert mig.protocol.endswith("; by the images with all labels, 20 of 40")
        assert mig.n == 20
    else:
        assert mig.protocol == f"can't be computed: {known} of 40 images have all labels, and 20 or more are needed"
        assert np.isnan(mig.value)


def test_the_codes_of_a_run_that_is_labelled_in_part_are_evaluated_like_others(tmp_path):
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(900, 2)).astype(float)
    means = rng.normal(scale=0.01, size=(900, 2)) + factors
    factors[:300, 0] = factors[600:, 1] = np.nan
    np.savez(tmp_path / "codes.npz", codes=means, factors=factors, factor_names=["a", "b"])
    found, names = read_codes(tmp_path / "codes.npz")
    assert np.array_equal(found.factors, factors, equal_nan=True)
    evaluation = evaluate_codes(found, tmp_path, factor_names=names)
    assert {row.unit: row.name for row in evaluation.table} == {0: "a", 1: "b"}
    assert evaluation.factors.sizes == (4, 4)
    factors[0, 0] = np.inf
    np.savez(tmp_path / "codes.npz", codes=means, factors=factors)
    with pytest.raises(ValueError, match="continuous factors must be finite"):
        read_codes(tmp_path / "codes.npz")
