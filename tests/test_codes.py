"""Anybody's codes: kept, read, scored, tabulated and reported without a model."""

from __future__ import annotations

import numpy as np
import pytest

from bvae import metrics
from bvae.evaluation import Scoring, codes_of, evaluate_codes, read_codes, show
from bvae.evaluation.codes import write_codes
from bvae.report import report


def test_names_are_no_markup_and_factors_without_variation_no_crash(tmp_path, capsys):
    factors = np.ones((30, 2), dtype=int)
    codes = np.random.default_rng(0).normal(size=(30, 3))
    found = evaluate_codes(
        codes_of(codes, factors), tmp_path, Scoring({"mig": metrics.MutualInformationGap()}), ["[red]a", "b [/m]"]
    )
    show(found, tmp_path)
    report(tmp_path, found)
    printed = capsys.readouterr().out
    assert "[red]a" in printed
    assert "can't be computed" in printed


def test_anybodys_codes_get_a_table_without_a_posterior(tmp_path):
    factors = np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=1)
    codes = np.stack((factors[:, 1] * -1.0, factors[:, 0], np.zeros(20)), axis=1)
    chosen = Scoring({"mig": metrics.MutualInformationGap()})
    found = evaluate_codes(codes_of(codes, factors), tmp_path, chosen, ["hue", "size"])
    assert found.scores[0].value == pytest.approx(1)
    rows = {row.unit: row for row in found.table}
    assert [(rows[u].name, rows[u].active) for u in range(3)] == [("size", True), ("hue", True), ("", False)]
    assert rows[0].correlation == pytest.approx(-1)
    assert np.isnan(rows[0].variance)
    assert (tmp_path / "scores.json").is_file()
    with pytest.raises(ValueError, match=r"^factors of shape \(20, 2\) need 2 names, got 1$"):
        evaluate_codes(codes_of(codes, factors), tmp_path, chosen, ["hue"])


def test_the_codes_that_a_run_keeps_are_of_images_of_every_value(tmp_path):
    grid = np.stack(np.unravel_index(np.arange(3 * 40 * 32), (3, 40, 32)), axis=1)
    write_codes(codes_of(grid.astype(np.float32), grid), ("shape", "angle", "y"), tmp_path / "codes.npz", most=1_000)
    kept, names = read_codes(tmp_path / "codes.npz")
    assert len(kept.mean) == 1_000  # every fourth would have every fourth y
    assert kept.factors.numpy() == pytest.approx(kept.mean.numpy())
    assert [len(np.unique(column)) for column in kept.factors.numpy().T] == [3, 40, 32]
    assert names == ["shape", "angle", "y"]


def test_continuous_factors_are_scored_tabulated_and_reported(tmp_path):
    factors = np.random.default_rng(0).uniform(size=(400, 2))
    np.savez(tmp_path / "codes.npz", codes=factors * [3, -3], factors=factors, factor_names=["mass", "speed"])
    codes, names = read_codes(tmp_path / "codes.npz")
    assert codes.factors.numpy() == pytest.approx(factors)
    chosen = {"mig": metrics.MutualInformationGap(), "factor_vae_score": metrics.FactorVAEScore()}
    found = evaluate_codes(codes, tmp_path, Scoring(chosen), names)
    mig, factor_vae_score = found.scores
    assert mig.value > 0.8
    assert "needs factors that are classes, integers, got float64" in factor_vae_score.protocol
    assert {row.unit: row.name for row in found.table} == {0: "mass", 1: "speed"}
    assert "over mass" in report(tmp_path, found).read_text()


def test_what_is_scored_again_replaces_its_number_and_the_others_stay(tmp_path):
    factors = np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=1)
    for name, kind in (("mig", metrics.MutualInformationGap), ("irs", metrics.InterventionalRobustness)):
        found = evaluate_codes(
            codes_of(factors * 1.0, factors), tmp_path, Scoring({name: kind()}), source={"codes": "a"}
        )
    assert [score.name for score in found.scores] == ["irs", "mig"]
    found = evaluate_codes(codes_of(factors * 1.0, factors), tmp_path, Scoring({"irs": kind()}), source={"codes": "b"})
    assert [score.name for score in found.scores] == ["irs"]


def test_codes_are_read_from_an_archive_of_plain_arrays(tmp_path):
    path = tmp_path / "codes.npz"
    np.savez(path, codes=np.zeros((4, 2)), factors=np.zeros((4, 1), dtype=int), factor_names=["size"])
    codes, names = read_codes(path)
    assert (codes.mean.shape, codes.log_variance, codes.factors.shape, names) == ((4, 2), None, (4, 1), ["size"])
    np.savez(path, codes=np.zeros((4, 2)), factors=np.zeros((4, 1), dtype=int), log_variances=np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"codes\.npz: codes have the shape \(4, 2\), their log_variances \(4, 3\)$"):
        read_codes(path)
    np.savez(path, codes=np.zeros((4, 2)), factors=np.zeros((4, 2), dtype=int), factor_names=np.array(["a", "a"], "S"))
    codes, names = read_codes(path)
    assert names == ["a", "a"]
    with pytest.raises(ValueError, match="each factor needs a name of its own, got a, a"):
        evaluate_codes(codes, tmp_path, factor_names=names)
    np.savez(path, codes=np.zeros((4, 2)), labels=np.zeros(4))
    with pytest.raises(ValueError, match=r"codes\.npz lacks factors, it holds codes, labels$"):
        read_codes(path)
    np.savez(path, codes=np.array([{}]), factors=np.zeros(1))
    with pytest.raises(
        ValueError,
        match=r"codes\.npz can't be read as an \.npz .*, which np\.savez\('codes', codes=…, factors=…\) makes$",
    ):
        read_codes(path)
    path.write_text("hello")
    with pytest.raises(
        ValueError,
        match=r"codes\.npz can't be read as an \.npz .*, which np\.savez\('codes', codes=…, factors=…\) makes$",
    ):
        read_codes(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(
        ValueError,
        match=r"one\.npy can't be read as an \.npz .*, which np\.savez\('one', codes=…, factors=…\) makes$",
    ):
        read_codes(tmp_path / "one.npy")
