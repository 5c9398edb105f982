"""Checkpoints that hold something else than a training's: refused, and never removed elsewhere."""

from __future__ import annotations

import zipfile

import pytest
import torch

from bvae import load
from bvae.checkpoints.files import AtomicCheckpointIO
from bvae.training import Training


def doubled() -> list:
    """A list of a few bytes in a file and of 2^40 values."""
    values: list = [1]
    for _ in range(40):
        values = [values, values]
    return values


def misshapen() -> dict[str, object]:
    """Checkpoints of one's own, each with one thing wrong."""
    layer = {"class": "torch.nn.Linear", "arguments": {"in_features": 4096, "out_features": 6}}
    parts = {"encoder": layer, "decoder": layer, "loss": None}
    good = {"vae": parts, "state_dict": {}, "global_step": 3}
    return {
        "a list": [1],
        "text": "text",
        "no recipes": {**good, "vae": None},
        "recipes that are a list": {**good, "vae": [1]},
        "a part that is text": {**good, "vae": {**parts, "encoder": "text"}},
        "a recipe without a class": {**good, "vae": {**parts, "encoder": {"arguments": {}}}},
        "a class that is a number": {**good, "vae": {**parts, "encoder": {"class": 5, "arguments": {}}}},
        "arguments that are a list": {
            **good,
            "vae": {**parts, "encoder": {"class": "torch.nn.Linear", "arguments": []}},
        },
        "an argument too many": {**good, "vae": {**parts, "encoder": {**layer, "arguments": {"x": 1}}}},
        "no weights": {"vae": parts, "global_step": 3},
        "weights that are a list": {**good, "state_dict": [torch.ones(1)]},
        "weights that are text": {**good, "state_dict": {"model.encoder.weight": "text"}},
        "sparse weights": {**good, "state_dict": {"model.encoder.weight": torch.eye(3).to_sparse()}},
        "weights of another shape": {**good, "state_dict": {"model.encoder.weight": torch.ones(3)}},
        "a loss that is a list": {**good, "vae": {**parts, "loss": [1]}},
        "a layer larger than memory": {
            **good,
            "vae": {**parts, "encoder": {**layer, "arguments": {"in_features": 10**9, "out_features": 10**9}}},
        },
        "a step that is text": {**good, "global_step": "many"},
        "a foreign model": {"encoder.mu_logvar_gen.weight": 5},
        "lists that double": {**good, "vae": {**parts, "encoder": {**layer, "arguments": {"in_features": doubled()}}}},
        "a step that doubles": {**good, "global_step": doubled()},
        "weights that are not stored": {**good, "state_dict": {"model.encoder.weight": torch.zeros(1).expand(10**9)}},
        "moments that are not stored": {**good, "optimizer_states": [{"state": {0: torch.zeros(1).expand(10**9)}}]},
        "a library's module": {
            **good,
            "vae": {**parts, "encoder": {"class": "torchmetrics.aggregation.MeanMetric", "arguments": {}}},
        },
    }


@pytest.mark.parametrize("kind", misshapen())
def test_a_misshapen_checkpoint_is_refused_in_a_sentence(kind, tmp_path):
    path = tmp_path / "misshapen.ckpt"
    torch.save(misshapen()[kind], path)
    with pytest.raises(ValueError, match=r"misshapen\.ckpt|the checkpoint"):
        load(path)
    if kind not in ("a step that is text", "a step that doubles", "a foreign model"):
        with pytest.raises((ValueError, RuntimeError, TypeError)):
            Training.load_from_checkpoint(path)


def test_a_compressed_checkpoint_is_refused(tmp_path):
    torch.save({"global_step": 1, "x": torch.zeros(1_000_000)}, tmp_path / "plain.ckpt")
    source = zipfile.ZipFile(tmp_path / "plain.ckpt")
    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
    assert (tmp_path / "bomb.ckpt").stat().st_size < 50_000
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        load(tmp_path / "bomb.ckpt")


def test_only_checkpoints_in_a_runs_own_folder_are_removed(tmp_path):
    own, other = tmp_path / "run" / "checkpoints", tmp_path / "outside"
    for folder in (own, other, own / "deeper"):
        folder.mkdir(parents=True)
    (own / "out").symlink_to(other)
    (tmp_path / "latest").symlink_to(own.parent)
    files = [own / "a.ckpt", own / "mine.txt", other / "x.ckpt", own / "deeper" / "b.ckpt", own / "c.ckpt"]
    for path in files:
        path.touch()
    remover = AtomicCheckpointIO([own])
    seen = tmp_path / "latest" / "checkpoints" / "c.ckpt"  # in the same folder
    for path in (*files[:4], seen, own / ".." / ".." / "outside" / "x.ckpt", own / "out" / "x.ckpt", own / "gone.ckpt"):
        remover.remove_checkpoint(path)
    assert [path.exists() for path in files] == [False, True, True, True, False]
