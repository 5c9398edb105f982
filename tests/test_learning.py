"""What a training finds in colour, in a minute or two of steps."""

from __future__ import annotations

import numpy as np
import pytest

from bvae.metrics import entropy, mutual_information


def discs() -> tuple[np.ndarray, np.ndarray]:
    """Draw a disc of one of eight hues at 8×3 positions: images (192, 32, 32, 3) uint8, factors (192, 3).

    A β-VAE turns to the principal directions of what it sees (Rolínek et al. 2019). So that these are the factors, the
    disc is wide beside its moves, the hues are equally bright, and each factor has a variance of its own: hue, x, y.
    """
    factors = np.stack(np.unravel_index(np.arange(8 * 8 * 3), (8, 8, 3)), axis=1)
    hue, x, y = (factors[:, k, None, None] for k in range(3))
    rows, columns = np.mgrid[:32, :32]
    inside = (columns - 12 - x) ** 2 + (rows - 14.5 - y) ** 2 < 100
    angles = np.radians(np.linspace(0, 160, 8)[:, None] - np.array([0, 120, 240]))
    return (inside[..., None] * (127.5 * (1 + np.cos(angles)))[hue]).astype(np.uint8), factors


@pytest.mark.slow
def test_hue_and_positions_of_coloured_discs_get_a_unit_each(train, tmp_path):
    """Under a high β one unit takes in x, whole; as β falls, others take in the hue and y. So with seeds 0 to 4."""
    images, factors = discs()
    np.savez(tmp_path / "discs.npz", images=images, factors=factors, factor_names=["hue", "x", "y"])
    ended = train(
        tmp_path,
        *("data=arrays", "data.path=discs.npz", "data.batch_size=16", "model/activation=leaky_relu", "loss=annealed"),
        *("loss.beta_start=60", "loss.beta_end=4", "loss.hold_steps=300", "loss.anneal_steps=1000"),
        *("scheduler=drop", "scheduler.milestones=[3500]", "trainer.max_steps=4000"),
        *("metrics=none", "logger=csv", "hydra.run.dir=run"),
    )
    assert ended.returncode == 0, ended.stderr
    run = np.load(tmp_path / "run" / "codes.npz")
    known = mutual_information(run["codes"], run["factors"]) / entropy(run["factors"])  # (D, K)
    best = known.argmax(axis=0)
    assert len(set(best)) == 3, known.round(2)
    assert (known[best, np.arange(3)] >= 0.5).all(), known.round(2)
