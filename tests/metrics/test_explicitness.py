from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from bvae.metrics import explicitness


def test_a_tiny_example_by_hand():
    codes = np.arange(4.0)[:, None]
    # Trained to rank upwards; of the four pairs of a 1 and a 0, the one of rows 1 and 2 is the wrong way round.
    assert explicitness(codes, [[0], [0], [1], [1]], codes, [[0], [1], [0], [1]]) == pytest.approx(3 / 4)


def test_codes_of_known_explicitness(perfect, rotated, noise, constant, factors):
    assert explicitness(perfect, factors, perfect, factors) == pytest.approx(1)
    assert explicitness(rotated, factors[:, :2], rotated, factors[:, :2]) == pytest.approx(1)  # linear all the same
    assert explicitness(constant, factors, constant, factors) == pytest.approx(0.5)
    half = slice(0, 500), slice(500, 1000)
    assert explicitness(noise[half[0]], factors[half[0]], noise[half[1]], factors[half[1]]) == pytest.approx(
        0.5, abs=0.05
    )


def test_the_areas_are_scikit_learns(uneven):
    # Two classes have one curve, which either gives; of one that few rows have the area counts as any other's.
    noisy, factors = uneven[0], uneven[1][:, [0, 2]]
    train, test = slice(0, 250), slice(250, 400)
    scaler = StandardScaler().fit(noisy[train])
    areas = []
    for factor in factors.T:
        model = LogisticRegression(max_iter=1000).fit(scaler.transform(noisy[train]), factor[train])
        probabilities = model.predict_proba(scaler.transform(noisy[test]))
        areas.append(roc_auc_score(factor[test], probabilities, multi_class="ovr", average="macro"))
    ours = explicitness(noisy[train], factors[train], noisy[test], factors[test])
    assert ours == pytest.approx(np.mean(areas))


def test_classes_that_one_part_lacks_are_left_out(perfect, factors):
    known = factors[:, 0] < 4
    score = explicitness(perfect[known], factors[known], perfect, factors)
    assert 0.9 < score <= 1
    with pytest.raises(ValueError, match="the test part has no factor with two classes that the training part knows"):
        explicitness(perfect, factors[:, :1], perfect[:4], factors[:4, :1])
