from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from rich.console import Console

from bvae.data import FACTOR_SIZES
from bvae.data.dsprites import FACTORS
from bvae.data.image_set import FactorGrid
from bvae.evaluation.codes import codes_of, encode, sample, variances_at_quoted_picture
from bvae.evaluation.finding import finding
from bvae.evaluation.latent_table import latent_table, terminal_table, write_csv
from bvae.metrics import Codes


@pytest.fixture
def codes() -> Codes:
    """Unit 0 is noise at the prior, 1 follows posX, 2 follows scale downwards, 3 follows posX and posY alike."""
    rng = np.random.default_rng(0)
    factors = FACTORS.classes_of(rng.integers(737_280, size=5_000))
    unit = [(factors[:, k] / (FACTOR_SIZES[k] - 1) - 0.5) * 3 for k in range(5)]
    means = np.stack((rng.normal(scale=0.01, size=5_000), unit[3], -unit[1], (unit[3] + unit[4]) / 2), axis=1)
    log_variances = np.log(np.tile([0.99, 0.001, 0.01, 0.04], (5_000, 1)))
    return codes_of(means, factors, log_variances)


def test_the_table_says_what_each_unit_follows(codes):
    table = {row.unit: row for row in latent_table(codes, FACTORS)}
    assert [(table[u].factor, table[u].name, table[u].active) for u in (1, 2)] == [
        ("posX", "x", True),
        ("scale", "scale", True),
    ]
    assert table[1].correlation == pytest.approx(1)
    assert table[2].correlation == pytest.approx(-1)
    assert table[2].normalized_mi == pytest.approx(1)  # six values in 20 bins
    assert table[1].normalized_mi == pytest.approx(np.log(20) / np.log(32), abs=0.03)  # 32 values in 20 bins
    assert not table[0].active
    assert table[0].name == ""
    assert table[3].active
    assert table[3].name == ""  # it follows two factors alike
    assert [table[u].variance for u in range(4)] == pytest.approx([0.99, 0.001, 0.01, 0.04])
    mean_square = (codes.mean[:, 1] ** 2).mean().item()
    assert table[1].kl == pytest.approx(0.5 * (mean_square + 0.001 - np.log(0.001) - 1))


def test_a_unit_that_never_moves_follows_nothing(codes):
    codes.mean[:, 0] = 0.1
    row = next(row for row in latent_table(codes, FACTORS) if row.unit == 0)
    assert (row.correlation, row.normalized_mi) == (0.0, 0.0)


def test_the_csv_has_the_units_with_the_most_kl_first(codes, tmp_path):
    table = latent_table(codes, FACTORS)
    assert finding(table, FACTORS) == "Found: x, scale. Mixed with others: y. Not found: shape, rotation."
    write_csv(table, tmp_path / "latents.csv")
    with (tmp_path / "latents.csv").open() as file:
        rows = list(csv.reader(file))
    columns = ["unit", "variance", "kl", "active", "factor", "correlation", "normalized_mi", "name"]
    assert rows[0] == [*columns, "given", "factor_given", "normalized_mi_given"]
    assert rows[1][7:10] == ["x", "shape", "posX"]
    assert [int(row[0]) for row in rows[1:]] == [1, 2, 3, 0]
    kls = [float(row[2]) for row in rows[1:]]
    assert kls == sorted(kls, reverse=True)


def test_units_are_named_by_what_they_tell_within_a_shape_where_that_is_clearer():
    """Unit 0 and 1 turn with the ellipse, less with the others and not at all with the square; 2 tells the shape."""
    rng = np.random.default_rng(0)
    factors = FACTORS.classes_of(rng.integers(737_280, size=10_000))
    shape, angle = factors[:, 0], factors[:, 2] / 39 * 2 * np.pi
    spread, turns = np.array([0.1, 1.4, 0.4])[shape], np.array([4, 2, 2])[shape]
    means = np.stack((spread * np.cos(turns * angle), spread * np.sin(turns * angle), shape - 1.0), axis=1)
    means += rng.normal(scale=0.1, size=means.shape)
    log_variances = np.log(np.full(means.shape, 0.01))
    table = sorted(latent_table(codes_of(means, factors, log_variances), FACTORS), key=lambda row: row.unit)
    assert [(row.factor, row.factor_given, row.name) for row in table[:2]] == [("shape", "orientation", "rotation")] * 2
    assert table[2].name == "shape"
    assert table[2].shares_given[0] == 0  # what is given tells nothing
    assert finding(table, FACTORS) == "Found: rotation, shape. Not found: scale, x, y."
    few = latent_table(codes_of(means[:600], factors[:600], log_variances[:600]), FACTORS)
    assert not any(row.given for row in few)  # with a few images in a shape, noise would tell of the rotation


def test_a_factor_of_which_its_unit_tells_little_is_found_in_part():
    rng = np.random.default_rng(0)
    factors = FACTORS.classes_of(rng.integers(737_280, size=10_000))
    for noise, expected in ((0.2, "Found: x. Not found"), (0.8, "Found: none. In part: x. Not found")):
        means = factors[:, 3:4] / 31 * 3.4 - 1.7 + rng.normal(scale=noise, size=(10_000, 1))
        table = latent_table(codes_of(means, factors, np.full(means.shape, -3.0)), FACTORS)
        assert finding(table, FACTORS) == f"{expected}: shape, scale, rotation, y."


def test_an_angle_is_found_by_its_sine_and_cosine_together():
    rng = np.random.default_rng(0)
    classes = rng.integers(40, size=(10_000, 1))
    turn = classes / 40 * 2 * np.pi
    means = np.concatenate((np.cos(turn), np.sin(turn)), axis=1) + rng.normal(scale=0.4, size=(10_000, 2))
    codes = codes_of(means, classes, np.full(means.shape, -3.0))
    for angles, expected in ((("turn",), "Found: turn."), ((), "Found: none. In part: turn.")):
        factors = FactorGrid(("turn",), (40,), angles=angles)
        assert finding(latent_table(codes, factors), factors) == expected


def test_what_a_wide_posterior_knows_is_not_idle():
    """As under DIP-VAE, where q(z) isn't held at the prior; a constant offset knows nothing, whatever its KL."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(5_000, 3)) * [1.56, 0.01, 0.45] + [0.0, 1.5, 0.0]
    log_variances = np.log(np.tile([1.27, 1.0, 0.8], (5_000, 1)))
    table = sorted(latent_table(codes_of(means, np.empty((5_000, 0)), log_variances), None), key=lambda row: row.unit)
    assert [row.kl for row in table] == pytest.approx([1.2, 1.1, 0.1], abs=0.1)
    assert [row.active for row in table] == [True, False, True]
    assert finding(table, None) == "Active units: 2 of 3."


def test_the_terminals_table_fits_80_columns(codes, capsys):
    Console(width=80).print(terminal_table(latent_table(codes, FACTORS)))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    assert "−1.00" in printed


def test_encoding_goes_through_the_data_modules_images(cache_dir):
    from bvae.architectures import ConvDecoder, ConvEncoder
    from bvae.data import DSpritesDataModule, render
    from bvae.model import VAE

    data = DSpritesDataModule(cache_dir=str(cache_dir), eval_images=600)
    data.setup()
    vae = VAE(ConvEncoder(), ConvDecoder())
    codes, images = encode(vae, data), sample(data, 500, vae.device)[0]
    assert codes.mean.shape == codes.log_variance.shape == (600, 10)
    assert np.array_equal(images[:, 0].numpy(), render(*codes.factors.numpy()[: len(images)].T))
    assert torch.allclose(codes.mean[: len(images)], vae.encode(images).mean, atol=1e-5)
    picture = torch.from_numpy(render(1, 2, 5, 0, 0)).float()[None]  # miyosuda's: an ellipse in the corner
    expected = vae.encode(picture).log_variance[0].exp().detach().numpy()
    assert variances_at_quoted_picture(vae, data) == pytest.approx(expected, rel=1e-4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_batches(cache_dir):
    program = f"""
from bvae.app.allocator import keep_freed_memory
from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.data import DSpritesDataModule
from bvae.evaluation import encode
from bvae.model import VAE

keep_freed_memory()
vae = VAE(ConvEncoder(), ConvDecoder()).eval()
for images in (5_000, 5_000, 5_000, 5_000, 40_000):  # the heap takes some rounds to settle
    data = DSpritesDataModule(cache_dir="{cache_dir}", eval_images=images)
    data.setup()
    encode(vae, data)
    print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")))
"""
    job = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert job.returncode == 0, job.stderr
    *_, few, many = map(int, job.stdout.split())
    assert many - few < 100_000  # kB; the codes themselves are 7 MB
