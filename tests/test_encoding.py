"""What a model makes of a data module's images: codes, the ELBO's terms, and what is served for them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import Encoder, Served, tiny_vae
from torch.utils.data import DataLoader

from bvae.data.image_set import FactorGrid, Factors
from bvae.evaluation import codes_of, read_codes, units_of
from bvae.evaluation.codes import elbo_terms, encode, sample, serve, variances_at_quoted_picture, write_codes

CPU = torch.device("cpu")


def pixels(n: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(size=(n, *(shape or (1, 1, 3))))).float()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7])
def test_the_elbos_terms_are_means_over_images_however_they_are_batched(batch_size):
    images = pixels(5)
    vae = tiny_vae(log_variance=-20.0, shift=0.5, variance=0.25)  # a σ of 5e-5, so that each draw is the mean
    terms = elbo_terms(vae, Served(images, batch_size=batch_size))
    # Each of the three pixels is half a unit, or one σ, off.
    assert terms["reconstruction"] == pytest.approx(3 * (0.5 + 0.5 * math.log(2 * math.pi * 0.25)), abs=1e-3)
    kl = 0.5 * (images.square() + math.exp(-20) + 20 - 1)
    assert terms["kl"] == pytest.approx(kl.sum().item() / 5, rel=1e-6)
    assert terms["n"] == 5


def test_the_elbo_is_of_a_draw_from_each_posterior_always_the_same():
    data = Served(torch.zeros(2_000, 1, 1, 3), batch_size=500)
    loader = list(data.predict_dataloader())  # PyTorch's own takes a number from the global generator
    data.predict_dataloader = lambda: loader
    before = torch.random.get_rng_state()
    terms = elbo_terms(tiny_vae(), data)
    assert torch.equal(torch.random.get_rng_state(), before)
    # A draw's square is 1 on average; that of another would leave 6,000 the mean of 0.97 to 1.03.
    squares = 2 * (terms["reconstruction"] - 1.5 * math.log(2 * math.pi))
    assert squares / 3 == pytest.approx(1, abs=0.06)
    assert terms == elbo_terms(tiny_vae(), data)
    far = elbo_terms(tiny_vae(log_variance=math.log(4)), data)["reconstruction"]
    assert 2 * (far - 1.5 * math.log(2 * math.pi)) / squares == pytest.approx(4, rel=1e-4)  # σ is the root of σ²
    # Noise that is the same for each batch would repeat itself every 500 images.
    one_batch = elbo_terms(tiny_vae(), Served(torch.zeros(500, 1, 1, 3)))["reconstruction"]
    assert terms["reconstruction"] != pytest.approx(one_batch, rel=1e-6)


def test_codes_are_of_every_image_in_order_in_single_precision_and_without_a_graph(capsys):
    images, classes = pixels(7), np.arange(14).reshape(7, 2)
    vae = tiny_vae(log_variance=lambda batch: batch.flatten(1) - 2).double()
    every = (pixels(9) / 2, torch.zeros(9, 2, dtype=torch.int64))
    data = Served(images, classes, batch_size=3, every=every)
    codes = encode(vae, data)
    torch.testing.assert_close(codes.mean, images.flatten(1))
    torch.testing.assert_close(codes.log_variance, images.flatten(1) - 2)
    assert codes.factors.tolist() == classes.tolist()
    assert codes.mean.dtype == codes.log_variance.dtype == torch.float32
    assert codes.factors.dtype == torch.int64
    assert vae.encoder.calls == [(False, False)] * 3
    torch.testing.assert_close(encode(vae, data, every_image=True).mean, every[0].flatten(1))
    assert capsys.readouterr().out == ""  # no bar where there is no terminal
    elbo_terms(vae, data)
    assert vae.encoder.calls[-1] == (False, False)
    with pytest.raises(ValueError, match="Served serves no images"):
        encode(vae, Served(images[:0]))


def test_codes_of_batches_that_grow_lose_none():
    data = Served(pixels(10), np.arange(10))
    sizes = [[0], [1, 2], [3, 4, 5], [6, 7, 8, 9]]
    dataset = torch.utils.data.TensorDataset(*data.parts)
    data.predict_dataloader = lambda: DataLoader(dataset, batch_sampler=sizes)
    codes = encode(tiny_vae(), data)
    torch.testing.assert_close(codes.mean, data.parts[0].flatten(1))
    assert codes.factors.flatten().tolist() == list(range(10))


def test_batches_are_served_as_a_trainer_would_hand_them_over():
    calls = []

    class Travelling(Served):
        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            calls.append((device, dataloader_idx))
            return batch

        def on_after_batch_transfer(self, batch, dataloader_idx):
            calls.append(dataloader_idx)
            return batch * 2 if isinstance(batch, torch.Tensor) else [batch[0] * 2, *batch[1:]]

    images = pixels(2)
    module = Travelling(images)
    labels = torch.tensor([4, 5])
    both = torch.tensor([[4, 0], [5, 1]])
    batches = [images, [images], [images, labels], (images, both), [images, both, labels]]
    served = list(serve(batches, module, CPU))
    assert all(torch.equal(found, images * 2) for found, _ in served)
    assert [factors.tolist() for _, factors in served] == [
        [[], []],  # images without factors have none
        [[], []],
        [[4], [5]],  # labels are one factor
        both.tolist(),
        both.tolist(),
    ]
    assert calls == [(CPU, 0), 0] * 5


def test_a_sample_is_the_first_images_and_takes_no_more_batches_than_it_needs():
    images = pixels(10)
    data = Served(images, np.arange(10), batch_size=3)
    loader, drawn = data.predict_dataloader(), []
    data.predict_dataloader = lambda: (drawn.append(1) or batch for batch in loader)
    for n, found, batches in ((3, 3, 1), (4, 4, 2), (6, 6, 2), (99, 10, 4)):
        drawn.clear()
        shown, classes = sample(data, n, CPU)
        assert torch.equal(shown, images[:found])
        assert classes.tolist() == [[k] for k in range(found)]
        assert len(drawn) == batches


class Grid:
    """A picture of one pixel for each of 3 × 4 combinations, which travels as a byte."""

    factors = FactorGrid(("a", "b"), (3, 4), quoted=(2, 1))

    def __getitem__(self, indices):
        return torch.from_numpy(indices).byte().view(-1, 1, 1, 1), torch.zeros(len(indices), 2)

    def decode(self, batch):
        return batch.float() / 11


def test_the_quoted_variances_are_those_of_the_quoted_picture():
    vae = tiny_vae((1, 1, 1), log_variance=lambda images: images.flatten(1) - 1)
    data = SimpleNamespace(image_set=Grid())
    # The last factor varies fastest: of 4 values each, the classes (2, 1) are at 2 · 4 + 1.
    assert variances_at_quoted_picture(vae, data) == pytest.approx([math.exp(9 / 11 - 1)])
    assert not vae.encoder.calls[-1][1]
    for factors in (FactorGrid(("a", "b"), (3, 4)), Factors(("a", "b"), (3, 4), quoted=(2, 1)), None):
        data.image_set.factors = factors
        assert variances_at_quoted_picture(vae, data) is None
    assert variances_at_quoted_picture(vae, SimpleNamespace()) is None


def test_units_of_a_model_are_those_of_the_images_for_prediction():
    images = np.zeros((80, 1, 1, 2))
    images[:, 0, 0, 1] = np.arange(80) % 2 * 4
    factors = Factors(("still", "moves"), (1, 2))
    classes = np.stack((np.zeros(80), np.arange(80) % 2), axis=1).astype(int)
    vae = tiny_vae((1, 1, 2), log_variance=[0.0, math.log(0.1)])
    first, second = units_of(vae, Served(images, classes, factors=factors))
    assert (first.unit, first.factor, first.active, second.unit, second.active) == (1, "moves", True, 0, False)
    assert first.kl == pytest.approx(0.5 * (16 / 2 + 0.1 - math.log(0.1) - 1))
    first, _ = units_of(vae, Served(images, classes))
    assert first.factor == "factor 1"  # of a data module that names none


def test_codes_that_are_kept_are_drawn_rows_in_order_with_the_kl_of_all(tmp_path):
    rng = np.random.default_rng(1)
    means, log_variances = rng.normal(size=(50, 2)), rng.normal(size=(50, 2))
    codes = codes_of(means, np.arange(50)[:, None], log_variances)
    write_codes(codes, ["number"], tmp_path / "codes.npz", most=20)
    with np.load(tmp_path / "codes.npz") as kept:
        rows = kept["factors"][:, 0]
        assert len(set(rows)) == 20
        assert rows.tolist() == sorted(rows)
        assert rows[-1] - rows[0] > 25  # from all over
        assert kept["codes"] == pytest.approx(means[rows])
        assert kept["log_variances"] == pytest.approx(log_variances[rows])
        kl = 0.5 * (means**2 + np.exp(log_variances) - log_variances - 1)
        assert kept["kl"] == pytest.approx(kl.mean(axis=0))
        first = rows.tolist()
    write_codes(codes, ["number"], tmp_path / "codes.npz", most=20)
    read, names = read_codes(tmp_path / "codes.npz")
    assert (read.factors[:, 0].tolist(), names) == (first, ["number"])  # the same each time
    assert read.log_variance.numpy() == pytest.approx(log_variances[first])
    write_codes(codes_of(means, np.arange(50)[:, None]), (), tmp_path / "means.npz")
    with np.load(tmp_path / "means.npz") as kept:
        assert sorted(kept) == ["codes", "factor_names", "factors"]
        assert kept["codes"] == pytest.approx(means)
    many = codes_of(np.zeros((10_001, 1)), np.zeros((10_001, 1), int))
    write_codes(many, (), tmp_path / "many.npz")
    assert len(read_codes(tmp_path / "many.npz")[0].mean) == 10_000


def test_arrays_become_codes_of_classes_or_of_numbers():
    for factors, kind in (
        (np.array([[3], [250]], np.uint8), torch.int64),
        (np.array([[3], [60_000]], np.uint16), torch.int64),
        (np.array([[0.5], [1.0]]), torch.float64),
    ):
        codes = codes_of(np.ones((2, 1)), factors, np.full((2, 1), -3.0))
        assert codes.factors.dtype == kind
        assert codes.factors.tolist() == factors.tolist()
        assert (codes.mean.tolist(), codes.log_variance.tolist()) == ([[1], [1]], [[-3], [-3]])
    assert codes_of(np.ones((2, 1)), np.ones((2, 1))).log_variance is None


def test_posteriors_are_read_with_or_without_names(tmp_path):
    arrays = {"codes": np.ones((4, 2)), "factors": np.arange(4)[:, None], "log_variances": np.full((4, 2), -1.5)}
    for names in ({}, {"factor_names": np.array("only")}):
        np.savez(tmp_path / "codes.npz", **arrays, **names)
        codes, read = read_codes(tmp_path / "codes.npz")
        assert codes.log_variance.tolist() == [[-1.5, -1.5]] * 4
        assert read == (["only"] if names else None)
    for name, expected in (("größe".encode(), "größe"), (b"gr\xf6", None)):
        np.savez(tmp_path / "codes.npz", **arrays, factor_names=np.array([name]))
        if expected:
            assert read_codes(tmp_path / "codes.npz")[1] == [expected]
            continue
        with pytest.raises(ValueError, match=r"codes\.npz: names must be UTF-8, got b'gr\\xf6'$"):
            read_codes(tmp_path / "codes.npz")


def test_the_encoder_of_the_tests_gives_what_they_count_on():
    mean, log_variance = Encoder([-1.0, 2.0])(torch.tensor([[[[3.0, 4.0]]]])).chunk(2, dim=1)
    assert (mean.tolist(), log_variance.tolist()) == ([[3, 4]], [[-1, 2]])
