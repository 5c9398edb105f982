from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

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
    return scores.compute_scores(chosen, torch.cat((factors.double(), factors[:, :1].double()), dim=1), factors)


def test_a_score_is_written_with_what_makes_it_comparable(taken, tmp_path):
    scores.write_json(taken, tmp_path / "scores.json")
    written = json.loads((tmp_path / "scores.json").read_text())
    assert list(written) == ["mig", "factor_vae_score", "active_units", "total_correlation", "versions"]
    assert written["mig"]["value"] == pytest.approx(1 / 2)  # one of two factors lies in two units
    assert written["mig"]["n"] == 20
    assert written["mig"]["seed"] is None
    assert "20 equal bins" in written["mig"]["protocol"]
    assert written["factor_vae_score"] == written["factor_vae_score"] | {"value": 1.0, "seed": 4}
    assert written["active_units"]["value"] == 3
    assert written["total_correlation"]["value"] is None  # infinite, as two units are one
    assert set(written["versions"]) == {"bvae", "torch", "numpy", "scikit-learn", "python"}


def test_what_was_written_reads_back(taken, tmp_path):
    scores.write_json(taken, tmp_path / "scores.json")
    read = scores.read_json(tmp_path / "scores.json")
    assert [(s.name, s.protocol, s.n, s.seed) for s in read] == [(s.name, s.protocol, s.n, s.seed) for s in taken]
    assert [s.value for s in read][:3] == pytest.approx([s.value for s in taken][:3])
    assert scores.read_json(tmp_path / "none.json") == []


def test_the_terminals_table_is_short(taken):
    table = scores.terminal_table(taken)
    assert [str(cell) for cell in table.columns[1].cells] == ["0.500", "1.000", "3", "∞"]
    assert next(iter(table.columns[4].cells)) == "Chen et al. 2018"


def test_a_score_that_cannot_be_taken_says_why_and_loses_no_other():
    codes, factors = torch.arange(4.0).repeat(5)[:, None], torch.tensor([[0], [0], [1], [1]]).repeat(5, 1)
    chosen = {"mig": metrics.MutualInformationGap(), "irs": metrics.InterventionalRobustness(), "sap": None}
    text = {"active_units": metrics.ActiveUnits(threshold="abc")}
    mig, irs, active_units = scores.compute_scores({**chosen, **text}, codes, factors)
    assert math.isnan(active_units.value)
    assert "can't be computed" in active_units.protocol
    assert math.isnan(mig.value)
    assert mig.protocol == "can't be computed: the gap needs two units or more, got codes of shape (20, 1)"
    assert irs.value == pytest.approx(1 - 0.5 / 1.5)
    assert scores.readable(mig.value) == "–"
