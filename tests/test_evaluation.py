from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from lightning import LightningDataModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from bvae import metrics
from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.callbacks import LatentPictures, Throughput
from bvae.data import FactorGrid, render
from bvae.evaluation import Scoring, evaluate, read_codes, show
from bvae.evaluation.codes import encode, sample
from bvae.evaluation.features import dead_features
from bvae.evaluation.pictures import pixels
from bvae.losses import ELBO, Sample
from bvae.model import VAE, NotFinite
from bvae.report import report
from bvae.training import Training


class Squares(LightningDataModule):
    """Squares at 32 places: all for testing, eight for prediction."""

    def __init__(self) -> None:
        super().__init__()
        at = np.arange(32)
        images = torch.from_numpy(render(0, 5, 0, at, at[::-1])).float()[:, None]
        self.all = TensorDataset(images, torch.from_numpy(np.stack((at, at // 16), axis=1)))

    def test_dataloader(self):
        return DataLoader(self.all, batch_size=10)

    def predict_dataloader(self):
        return DataLoader(torch.utils.data.Subset(self.all, range(0, 32, 4)), batch_size=10)


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(ConvEncoder(3), ConvDecoder(3)).eval()


@pytest.mark.parametrize(
    ("positions", "since", "final", "n"),
    [
        (("x", "y"), 10, True, 32),
        (("x", "y"), 11, True, 8),
        (("x", "y"), None, True, 8),
        (("x", "y"), 10, False, 8),
        ((), 10, True, 8),
    ],
)
def test_after_a_long_training_the_position_maps_are_of_every_image(vae, tmp_path, positions, since, final, n):
    data = Squares()
    data.factors = FactorGrid(("x", "y"), (32, 2), positions=positions)
    scoring = Scoring(encode_every_image_from=since)
    found = evaluate(vae, data, tmp_path, scoring, final=final, source={"checkpoint": "a.pt", "step": 10})
    assert len(found.codes.mean) == n


def test_a_model_that_trains_still_does_where_its_pictures_cant_be_written(vae, tmp_path):
    vae.train()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        evaluate(vae, Squares(), tmp_path / "file", final=False)
    assert vae.training


def test_a_loader_may_begin_with_its_smallest_batch(vae):
    data = Squares()
    whole = encode(vae, data).mean
    data.predict_dataloader = lambda: DataLoader(data.all, batch_sampler=[[0], [4, 8], [12, 16, 20, 24, 28]])
    torch.testing.assert_close(encode(vae, data).mean, whole, rtol=1e-4, atol=1e-5)


def test_every_image_is_encoded_in_order_where_that_is_asked_for(vae, tmp_path):
    data = Squares()
    chosen = {"distance": metrics.WassersteinCorrelation()}
    found = evaluate(vae, data, tmp_path, Scoring(every_image=chosen), num_images=5)
    images, factors = data.all.tensors
    torch.testing.assert_close(found.codes.mean, vae.encode(images).mean, rtol=1e-4, atol=1e-5)
    # Dead features are of the sample's images, whatever the codes are of.
    assert found.features == dead_features(vae, sample(data, 1_000, vae.device)[0])
    assert np.array_equal(found.codes.factors.numpy(), factors.numpy())
    (distance,) = found.scores
    assert distance.value == pytest.approx(metrics.wasserstein_correlation(found.codes.mean))
    assert distance.n == 32
    assert found.factors.names == ("factor 0", "factor 1")  # the data module names none
    assert json.loads((tmp_path / "scores.json").read_text())["distance"]["n"] == 32
    with Image.open(tmp_path / "traversals.gif") as gif:
        assert gif.n_frames > 1
    assert np.array_equal(found.originals, pixels(images[::4][:5]))
    nearest = torch.linalg.vector_norm(found.codes.mean, dim=1).argmin()
    start = found.codes.mean[nearest].clone()
    start[0] = -3.0  # where the first unit's traversal begins
    expected = pixels(vae.reconstruct(images[:1]) * 0 + vae.pictures(start[None]))
    assert np.abs(found.traversals[0, :1].astype(int) - expected).max() <= 1


def test_while_it_trains_a_sample_is_encoded_and_no_scores_or_gifs_are_written(vae, tmp_path):
    vae.train()
    found = evaluate(vae, Squares(), tmp_path, Scoring(sample={"mig": metrics.MutualInformationGap()}), final=False)
    assert vae.training
    assert found.scores[0].n == len(found.codes.factors) == 8
    assert found.gif is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latents.csv", "reconstructions.png", "traversals.png"]
    with (tmp_path / "latents.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3


def test_scores_that_are_not_taken_again_stay_unless_they_are_another_models(vae, tmp_path):
    first = {"distance": metrics.WassersteinCorrelation(), "correlation": metrics.TotalCorrelation()}
    again = {"distance": metrics.WassersteinCorrelation()}
    evaluate(vae, Squares(), tmp_path, Scoring(first), source={"checkpoint": "a.pt", "step": 3})
    found = evaluate(vae, Squares(), tmp_path, Scoring(every_image=again), source={"checkpoint": "a.pt", "step": 3})
    assert [(score.name, score.n) for score in found.scores] == [("distance", 32), ("correlation", 8)]
    found = evaluate(vae, Squares(), tmp_path, Scoring(again), source={"checkpoint": "a.pt", "step": 4})
    assert [score.name for score in found.scores] == ["distance"]
    assert json.loads((tmp_path / "scores.json").read_text())["source"] == {"checkpoint": "a.pt", "step": 4}


def test_reconstruction_and_kl_are_means_over_the_images_and_the_same_each_time(vae, tmp_path, capsys):
    found = evaluate(vae, Squares(), tmp_path)
    assert evaluate(vae, Squares(), tmp_path).terms == found.terms
    images = Squares().all.tensors[0][::4]
    with torch.no_grad():
        posterior = vae.encode(images)
        mean = posterior.mean
        exact = ELBO().terms(Sample(images, vae.decode(mean), posterior, mean))  # untrained, it hardly sees noise
    assert found.terms["kl"] == pytest.approx(exact["kl"].item(), rel=1e-4)
    assert found.terms["reconstruction"] == pytest.approx(exact["reconstruction"].item(), rel=0.01)
    assert found.terms["n"] == 8
    assert json.loads((tmp_path / "scores.json").read_text())["terms"] == found.terms
    show(found, tmp_path)
    assert f"KL {found.terms['kl']:.2f} nats, means over 8 images" in capsys.readouterr().out


def test_what_follows_factors_is_not_defined_where_no_unit_is_active(vae, tmp_path):
    chosen = {
        "mig": metrics.MutualInformationGap(),
        "sap": metrics.SAP(),
        "dci": metrics.DCIScores(),
        "factor_vae_score": metrics.FactorVAEScore(),
        "total_correlation": metrics.TotalCorrelation(),
        "varying_units": metrics.ActiveUnits(),
    }
    found = evaluate(vae, Squares(), tmp_path, Scoring(chosen))
    assert not any(unit.active for unit in found.table)
    taken = {score.name: score for score in found.scores}
    undefined = [name for name, score in taken.items() if np.isnan(score.value)]
    assert undefined == ["mig", "sap", *metrics.DCIScores.names, "factor_vae_score"]
    assert all("no unit is active" in taken[name].protocol for name in undefined)


def test_pages_of_checkpoints_with_one_name_are_told_apart(vae, tmp_path):
    for name in ("a", "b"):
        path = tmp_path / name / "model.pt"
        path.parent.mkdir()
        path.touch()
        found = evaluate(vae, Squares(), path.parent, source={"checkpoint": str(path), "step": 7})
        page = report(path.parent, found, run=path).read_text()
        assert f"<title>{path} · bvae</title>" in page
        assert f"<dt>checkpoint</dt><dd>{path}</dd>" in page
        assert "<dt>step</dt><dd>7</dd>" in page
        assert "reconstruction (nats)" in page


def test_codes_of_a_model_that_has_diverged_and_folders_are_refused_in_a_sentence(vae, tmp_path):
    with torch.no_grad():
        vae.encoder.layers[-1].bias.fill_(torch.nan)
    with pytest.raises(NotFinite, match=r"^the encoder's means are NaN or infinite: the model has diverged$"):
        evaluate(vae, Squares(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(
        ValueError, match=rf"^{tmp_path} is a folder where an \.npz is needed; a run's is its codes\.npz$"
    ):
        read_codes(tmp_path)


def test_a_compiled_model_is_not_compiled_again_for_evaluations_batches(vae, tmp_path):
    compiled = []
    vae.encoder.compile(backend=lambda graph, inputs: compiled.append(graph) or graph.forward)
    vae.encode(torch.zeros(2, 1, 64, 64))
    assert len(compiled) == 1
    evaluate(vae, Squares(), tmp_path, num_images=5)
    assert len(compiled) == 1


class NoFactors(Squares):
    """The same images alone, as a TensorDataset or as bare tensors gives them."""

    def __init__(self, bare: bool) -> None:
        super().__init__()
        images = self.all.tensors[0]
        self.all = images if bare else TensorDataset(images)

    def train_dataloader(self):
        return DataLoader(self.all, batch_size=8)


@pytest.mark.parametrize("bare", [True, False])
def test_without_factors_a_training_ends_with_what_can_be_had(vae, tmp_path, bare, capsys):
    data = NoFactors(bare)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        callbacks=[LatentPictures(str(tmp_path), every_n_steps=1), Throughput()],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    trainer.fit(Training(vae.encoder, vae.decoder, ELBO()), data)
    found = evaluate(
        vae, data, tmp_path, Scoring({"mig": metrics.MutualInformationGap(), "tc": metrics.TotalCorrelation()})
    )
    assert found.codes.mean.shape == (8, 3)
    assert found.codes.factors.shape == (8, 0)
    assert [score.name for score in found.scores] == ["tc"]
    assert np.isfinite(found.scores[0].value)
    assert "Left out, as the images have no factors: mig" in capsys.readouterr().out
    with (tmp_path / "latents.csv").open() as file:
        assert next(csv.reader(file)) == ["unit", "variance", "kl", "active"]
    show(found, tmp_path)
    assert "follows" not in capsys.readouterr().out
    page = report(tmp_path, found).read_text(encoding="utf-8")
    assert "Traversals" in page
    assert "correlation" not in page.partition("<h2>Latent units</h2>")[2]
    assert ">nan<" not in page
