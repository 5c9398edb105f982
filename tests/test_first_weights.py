"""With which weights a run begins, and from which it goes on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from assembled import SHAPE, Decoder, Encoder, configuration, made
from lightning.pytorch.callbacks import EarlyStopping
from records import ended
from torch import nn

from bvae.app import processes, resume
from bvae.app.assemble import resumed_from, same_shapes, weights_of
from bvae.losses import Beta, Gaussian
from bvae.training import Training

pytestmark = pytest.mark.usefixtures("alone")


def checkpoint(path: Path, training: Training, step: int = 7) -> Path:
    contents = {"state_dict": training.state_dict(), "global_step": step, "optimizer_states": [{}]}
    training.on_save_checkpoint(contents)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(contents, path)
    return path


def other(latent_dim: int = 2, activation: nn.Module | None = None, loss: Beta | None = None) -> Training:
    torch.manual_seed(99)
    return Training(Encoder(latent_dim, SHAPE, activation), Decoder(latent_dim), loss or Beta())


def test_a_run_begins_with_the_weights_of_another_but_goes_on_with_its_own(tmp_path):
    source = checkpoint(tmp_path / "theirs" / "checkpoints" / "x.ckpt", other())
    for named in (source, source.parents[1]):
        begun = made(tmp_path / "new", init_from=str(named)).training.model.state_dict()
        assert all(torch.equal(value, begun[name]) for name, value in other().model.state_dict().items())
    checkpoint(tmp_path / "own" / "checkpoints" / "x.ckpt", other(), step=2)
    run = made(tmp_path / "own", resumes=True, init_from="gone")
    assert run.checkpoint == tmp_path / "own" / "checkpoints" / "x.ckpt"
    assert run.trainer.loggers[0].options["name"].startswith("continuation of")
    assert run.trainer.loggers[1].options == {}


def test_weights_that_dont_fit_are_refused_with_the_reason(tmp_path):
    model = other().model
    source = checkpoint(tmp_path / "x.ckpt", other(loss=Beta(likelihood=Gaussian(0.3))))
    taken = weights_of(source, model)
    assert set(taken) == set(model.state_dict())  # but for the likelihood's own
    said = {
        checkpoint(tmp_path / "larger.ckpt", other(3)): "is a model of another architecture or latent size$",
        checkpoint(
            tmp_path / "tanh.ckpt", other(activation=nn.Tanh())
        ): r"has the activation Tanh\(\) in its encoder, not ReLU",
        tmp_path / "gone.ckpt": r"there is no such run or checkpoint; use init_from=outputs/…$",
    }
    (tmp_path / "text.ckpt").write_text("text")
    said[tmp_path / "text.ckpt"] = r".*text\.ckpt is not a readable checkpoint"
    for path, why in said.items():
        with pytest.raises(ValueError, match=rf"^init_from={re.escape(str(path))}:? {why}"):
            weights_of(path, model)


def test_a_run_goes_on_from_the_newest_checkpoint_that_fits(tmp_path, capsys):
    for name, step in (("a", 2), ("b", 4)):
        path = checkpoint(tmp_path / "checkpoints" / f"{name}.ckpt", other(), step)
    (tmp_path / "metrics.csv").write_text("step,train/loss\n" + "".join(f"{n},1\n" for n in range(8)))
    cfg = configuration(tmp_path, trainer__max_steps=9)
    assert resumed_from(cfg, other())[0] == path
    assert capsys.readouterr().out == f"Resuming from step 4: {path}\n"
    assert (tmp_path / "metrics.csv").read_text() == "step,train/loss\n0,1\n1,1\n2,1\n3,1\n"
    for steps in (4, -1):
        resumed_from(configuration(tmp_path, trainer__max_steps=steps), other())
    with pytest.raises(ValueError, match=rf"^trainer\.max_steps=3 is behind {path}, step 4$"):
        resumed_from(configuration(tmp_path, trainer__max_steps=3), other())
    said = "is resumed with its own architecture and latent size: leave out"
    with pytest.raises(ValueError, match=rf"^{tmp_path} {said} what changes the model$"):
        resumed_from(cfg, other(3))
    resume.changes[:] = ["seed=1", "model.latent_dim=3", "loss.width=5"]
    with pytest.raises(ValueError, match=rf"{said} model\.latent_dim=3 loss\.width=5$"):
        resumed_from(cfg, other(3))


def test_only_the_first_process_rewinds_and_speaks(tmp_path, capsys, monkeypatch):
    checkpoint(tmp_path / "checkpoints" / "a.ckpt", other(), 2)
    (tmp_path / "metrics.csv").write_text("step,train/loss\n5,1\n")
    monkeypatch.setattr(processes, "is_first", lambda: False)
    resumed_from(configuration(tmp_path), other())
    assert capsys.readouterr().out == ""
    assert (tmp_path / "metrics.csv").read_text() == "step,train/loss\n5,1\n"


def test_shapes_are_compared_by_name_and_by_part():
    module = Decoder()
    weights = dict(module.state_dict())
    assert same_shapes(weights, module)
    assert not same_shapes({**weights, "more": torch.ones(1)}, module)
    assert not same_shapes({"linear.weight": weights["linear.weight"]}, module)
    assert not same_shapes({**weights, "linear.bias": torch.ones(5)}, module)
    training = other()
    encoder = {name: value for name, value in training.state_dict().items() if name.startswith("model.encoder.")}
    assert same_shapes(encoder, training, ("model.encoder.",))
    assert not same_shapes(encoder, training, ("model.encoder.", "model.decoder."))


def test_what_ended_a_finished_run_counts_anew_where_it_is_resumed(tmp_path):
    stops = {"stop": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "train/loss"}}
    checkpoint(tmp_path / "checkpoints" / "x.ckpt", other(), step=2)
    for status, count in (("finished", 0), ("stopped", 7)):
        ended(tmp_path, status)
        run = made(tmp_path, resumes=True, callbacks=stops)
        (stop,) = (callback for callback in run.trainer.callbacks if isinstance(callback, EarlyStopping))
        stop.load_state_dict(stop.state_dict() | {"wait_count": 7})
        assert stop.wait_count == count
