"""An evaluation of a model whose codes are its pixels: what is found, drawn and written is known beforehand."""

from __future__ import annotations

import json
import math
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningDataModule
from PIL import Image
from tiny import Served, tiny_vae

from bvae import metrics
from bvae.data.image_set import Card, Factors
from bvae.evaluation import Scoring, evaluate, evaluate_codes, pictures, show
from bvae.evaluation.codes import elbo_terms
from bvae.evaluation.turning import turning
from bvae.model import VAE

MODULE = import_module("bvae.evaluation.evaluate")  # the package has the function of that name
SHAPE = (1, 2, 2)
FACTORS = Factors(("level", "kind"), (4, 2), categories=("kind",), value_names={"kind": ("dark", "light")})
CARD = Card("mine", "Squares.", "here", "CC0", "nobody")


@pytest.fixture
def plain(monkeypatch) -> None:
    """Draws no picture with axes, which takes a second."""
    blank = Image.new("RGB", (4, 4))
    monkeypatch.setattr(pictures, "reconstructions", lambda originals, decoded: blank)
    monkeypatch.setattr(pictures, "traversals", lambda frames, table: blank)


def served(n: int = 40) -> Served:
    """Images of four pixels: the first has the level, the second the kind, the third is still, the last is noise."""
    classes = np.stack((np.arange(n) % 4, np.arange(n) // 4 % 2), axis=1)
    noise = np.random.default_rng(0).uniform(size=n)
    flat = np.stack((classes[:, 0] / 4 + 0.1, classes[:, 1] * 0.8 + 0.1, np.full(n, 0.3), noise), axis=1)
    data = Served(flat.reshape(n, *SHAPE), classes, batch_size=16, factors=FACTORS)
    data.image_set = SimpleNamespace(card=CARD)
    return data


def byte(values) -> np.ndarray:
    return np.round(np.clip(np.asarray(values), 0, 1) * 255).astype(np.uint8)


def test_what_is_found_of_a_model_is_what_is_known_of_it(tmp_path):
    data = served()
    images = data.parts[0].flatten(1).numpy()
    vae = tiny_vae(SHAPE, log_variance=[-4.0, -3.0, 0.0, -1.0], shift=0.25)
    source = {"checkpoint": "a.ckpt", "step": 7}
    found = evaluate(vae, data, tmp_path, Scoring({"active_units": metrics.ActiveUnits()}), num_images=3, source=source)
    assert found.codes.mean.numpy() == pytest.approx(images)
    assert (found.factors, found.card, found.source) == (FACTORS, CARD, source)
    assert found.parameters == {"encoder": 1, "decoder": 1}
    # Means under 1, whose KL is 0.5 (μ² + σ² − log σ² − 1), so the order is that of −log σ².
    assert [row.unit for row in found.table] == [0, 1, 3, 2]
    assert found.scores[0].value == 3
    assert found.terms == elbo_terms(vae, data)
    assert found.turns == turning(found.codes, FACTORS)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert (written["terms"], written["source"]) == (found.terms, source)
    # Originals are the first images, pictures are a quarter lighter than the codes.
    assert np.array_equal(found.originals, byte(images[:3]).reshape(3, 2, 2, 1))
    assert np.array_equal(found.reconstructions, byte(images[:3] + 0.25).reshape(3, 2, 2, 1))
    start = images[(images**2).sum(axis=1).argmin()]
    assert found.traversals.shape == (4, 31, 2, 2, 1)
    for unit in range(4):
        for frame, value in ((0, -3.0), (14, -0.2), (15, 0.0), (16, 0.2), (18, 0.6), (30, 3.0)):
            code = start.copy()
            code[unit] = value
            assert np.abs(found.traversals[unit, frame].ravel().astype(int) - byte(code + 0.25)).max() <= 1
    assert [kind.title for kind in found.examples] == ["dark", "light", "the worst of 40"]
    assert [len(kind.originals) for kind in found.examples] == [3] * 3
    assert found.samples.shape == (24, 2, 2, 1)
    assert found.features == []  # there is no activation
    assert list(found.pictures) == ["reconstructions", "traversals"]
    files = {"reconstructions.png", "traversals.png", "latents.csv", "traversals.gif", "traversals", "codes.npz"}
    assert {path.name for path in tmp_path.iterdir()} == files | {"scores.json"}
    for name, picture in found.pictures.items():
        with Image.open(tmp_path / f"{name}.png") as kept:
            assert np.array_equal(np.asarray(kept), np.asarray(picture))
    with np.load(tmp_path / "codes.npz") as kept:
        assert kept["codes"] == pytest.approx(images)
        assert kept["factor_names"].tolist() == ["level", "kind"]
    assert found.gif == tmp_path / "traversals.gif"
    assert sorted(path.name for path in (tmp_path / "traversals").iterdir()) == [f"unit_{u}.gif" for u in range(4)]
    moving = pictures.back_and_forth(found.traversals)
    for unit in range(4):  # each pixel is four of the film
        with Image.open(tmp_path / "traversals" / f"unit_{unit}.gif") as gif:
            assert np.array_equal(np.asarray(gif.convert("L")), moving[unit, 0, ..., 0].repeat(2, 0).repeat(2, 1))
    assert not any(gradients for _, gradients in vae.encoder.calls)
    assert not any(training for training, _ in vae.encoder.calls)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_the_model_is_left_in_the_mode_that_it_was_found_in(tmp_path, training, ends, monkeypatch):
    vae = tiny_vae(SHAPE, log_variance=-1.0).train(training)
    evaluate(vae, served(), tmp_path, final=ends == "well")
    if ends == "badly":
        monkeypatch.setattr(vae.decoder, "shape", (3, 3, 3))
        with pytest.raises(RuntimeError):
            evaluate(vae, served(), tmp_path)
    assert {module.training for module in vae.modules()} == {training}
    assert {was_training for was_training, _ in vae.encoder.calls} == {False}


@pytest.mark.usefixtures("plain")
def test_while_a_model_trains_little_is_written_and_nothing_is_said(tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "reconstructions", lambda *shown: drawn.append(shown) or Image.new("RGB", (4, 4)))
    data = served()
    every = torch.zeros(50, *SHAPE)
    data.every = (every, torch.zeros(50, 2, dtype=torch.int64))
    scoring = Scoring(
        sample={"active_units": metrics.ActiveUnits()},
        every_image={"varying": metrics.ActiveUnits(), "other": metrics.ActiveUnits()},
    )
    vae = tiny_vae(SHAPE, log_variance=-1.0, shift=0.25)
    found = evaluate(vae, data, tmp_path / "new" / "folder", scoring, final=False)
    assert [(score.name, score.n) for score in found.scores] == [("active_units", 40)]
    assert (found.gif, found.samples, found.terms, list(found.examples), list(found.turns)) == (None, None, {}, [], [])
    assert found.source == {}
    for drawn_as, shift in zip(drawn[0], (0, 0.25), strict=True):  # twelve are drawn by default
        assert np.array_equal(drawn_as, byte(data.parts[0][:12] + shift).reshape(12, 2, 2, 1))
    written = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert written == ["latents.csv", "reconstructions.png", "traversals.png"]
    assert capsys.readouterr().out == ""
    final = evaluate(tiny_vae(SHAPE, log_variance=-1.0), data, tmp_path / "new" / "folder", scoring)
    assert [(score.name, score.n) for score in final.scores] == [("varying", 50), ("other", 50)]


@pytest.mark.usefixtures("plain")
def test_dead_features_and_examples_are_of_the_first_thousand_images(tmp_path, monkeypatch):
    seen = {}
    for name in ("dead_features", "examples"):
        monkeypatch.setattr(MODULE, name, lambda *given, name=name: seen.update({name: given}))
    data = served(1_010)
    evaluate(tiny_vae(SHAPE), data, tmp_path, num_images=5)
    assert torch.equal(seen["dead_features"][1], data.parts[0][:1000])
    _, images, classes, factors, n = seen["examples"]
    assert torch.equal(images, data.parts[0][:1000])
    assert np.array_equal(classes, data.parts[1][:1000])
    assert (factors, n) == (FACTORS, 5)


@pytest.mark.usefixtures("plain")
def test_scores_of_the_same_source_stay_beside_those_that_are_computed_again(tmp_path):
    factors = np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=1)
    codes = metrics.Codes(torch.from_numpy(factors * 1.0), None, torch.from_numpy(factors))
    source = {"codes": "a"}

    def names(*scored: str, **more) -> list[str]:
        chosen = {name: metrics.DCIScores() if name == "dci" else metrics.ActiveUnits() for name in scored}
        return [score.name for score in evaluate_codes(codes, tmp_path, Scoring(chosen), **more).scores]

    assert names("a", "b", source=source) == ["a", "b"]
    (tmp_path / "scores.json").write_text((tmp_path / "scores.json").read_text().replace('"a": {\n', '"dci": {\n'))
    # A metric of several scores replaces each, and what once stood for all of them under its own name.
    parts = ["dci_disentanglement", "dci_completeness", "dci_informativeness"]
    assert names("dci", source=source) == [*parts, "b"]
    assert names("dci", source=source) == [*parts, "b"]
    assert names("b", source=source) == ["b", *parts]
    assert list(json.loads((tmp_path / "scores.json").read_text()))[:4] == ["b", *parts]
    assert names("a", source={"codes": "b"}) == ["a"]
    assert names("c") == ["c", "a"]  # of codes that come from nowhere, what is there stays


def test_codes_without_a_model_are_scored_as_those_of_all_images(tmp_path):
    factors = np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=1)
    codes = metrics.Codes(torch.from_numpy(factors * 1.0), None, torch.from_numpy(factors))
    scoring = Scoring(sample={"a": metrics.ActiveUnits()}, every_image={"b": metrics.ActiveUnits()})
    found = evaluate_codes(codes, tmp_path / "new" / "folder", scoring)
    assert [(score.name, score.value, score.n) for score in found.scores] == [("b", 2, 20)]
    assert found.source == {}
    assert found.factors.names == ("factor 0", "factor 1")
    assert found.factors.sizes == (4, 5)
    assert (found.originals, found.traversals, found.samples, found.gif) == (None,) * 4
    assert "source" not in json.loads((tmp_path / "new" / "folder" / "scores.json").read_text())
    with pytest.raises(ValueError, match=r"factors of shape \(20, 2\) need 2 names, got 3"):
        evaluate_codes(codes, tmp_path, factor_names=["a", "b", "c"])
    with pytest.raises(ValueError, match="codes must be finite"):
        evaluate_codes(codes._replace(mean=codes.mean * math.nan), tmp_path)


@pytest.mark.usefixtures("plain")
def test_what_a_run_ends_with_says_what_there_is(tmp_path, capsys):
    found = evaluate(tiny_vae(SHAPE, log_variance=[-4.0, -3.0, 0.0, -1.0]), served(), tmp_path)
    capsys.readouterr()
    show(found, tmp_path)
    said = capsys.readouterr().out
    rec, kl = found.terms["reconstruction"], found.terms["kl"]
    assert f"Reconstruction {rec:.2f} nats, KL {kl:.2f} nats, means over 40 images" in said
    assert f"Report: {tmp_path}/report.html" in said
    assert f"Explorer: {tmp_path}/explorer.html" in said
    assert said.index("Found: level, kind") < said.index("Latent units") < said.index("Reconstruction ")
    assert "Scores" not in said
    factors = np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=1)
    codes = metrics.Codes(torch.from_numpy(factors * 1.0), None, torch.from_numpy(factors))
    show(evaluate_codes(codes, tmp_path, Scoring({"a": metrics.ActiveUnits()})), tmp_path)
    said = capsys.readouterr().out
    assert f"Report, with each score's protocol: {tmp_path}/report.html" in said
    assert "Scores" in said
    assert not any(word in said for word in ("Explorer", "Reconstruction", "dead features"))


@pytest.mark.usefixtures("plain")
def test_the_quoted_variances_stand_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "variances_at_quoted_picture", lambda vae, data: np.arange(4) / 10)
    found = evaluate(tiny_vae(SHAPE), served(), tmp_path, final=False)
    assert {row.unit: row.variance_at_picture for row in found.table} == {0: 0, 1: 0.1, 2: 0.2, 3: 0.3}


@pytest.mark.usefixtures("plain")
def test_a_data_module_needs_nothing_but_its_images(tmp_path):
    class Bare(LightningDataModule):
        def predict_dataloader(self):
            return [torch.rand(5, *SHAPE)]

    vae = tiny_vae(SHAPE)
    assert isinstance(vae, VAE)
    found = evaluate(vae, Bare(), tmp_path)
    assert (found.factors, found.card, found.turns) == (None, None, [])
    assert [kind.title for kind in found.examples] == ["the worst of 5"]
    with np.load(tmp_path / "codes.npz") as kept:
        assert kept["factor_names"].shape == (0,)
