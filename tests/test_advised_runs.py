"""Real runs that need advice, on images of 8×8: each is told in its output and on its page what to change."""

from __future__ import annotations

import numpy as np
import pytest
from runs import run_folder

SMALL = ("data=arrays", "data.batch_size=8", "metrics=none", "logger=csv", "trainer.log_every_n_steps=10")


@pytest.fixture
def bars(tmp_path):
    """Twenty noisy pictures of a bright bar on a light ground, which have no order that could be told of others."""
    rng = np.random.default_rng(0)
    images = 0.7 + 0.1 * rng.random((20, 8, 8))
    for image in images:
        image[rng.integers(8), :] = rng.random()
        image[:, rng.integers(8)] = rng.random()
    np.savez(tmp_path / "bars.npz", images=images.astype(np.float32))
    return (*SMALL, f"data.path={tmp_path / 'bars.npz'}")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("loss=beta", "loss.beta=500", "trainer.max_steps=40"), "To open units: lower loss.beta, now 500"),
        (
            ("loss=beta", "loss.beta=0.01", "model.latent_dim=2", "trainer.max_steps=200"),
            "All 2 units are active, which mixes factors. To close some: raise loss.beta, now 0.01",
        ),
        (
            ("loss=beta", "loss.beta=0.1", "trainer.max_steps=800", "data.val_fraction=0.4", "optimizer.lr=0.001"),
            "The images are memorised: held-out ones have",
        ),
        (("loss=beta", "loss.beta=0", "trainer.max_steps=100"), "nats of the KL are an offset"),
    ],
)
def test_it_is_told_what_to_change(train, bars, tmp_path, overrides, said):
    job = train(tmp_path, *bars, *overrides)
    assert job.returncode == 0, job.stderr
    assert said in job.stdout
    page = (run_folder(job.stdout) / "report.html").read_text(encoding="utf-8")
    assert f"<p>{said}" in page or (said.startswith("nats") and said in page)
