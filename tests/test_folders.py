from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from records import command, ended, leave

from bvae.app import recorded, resume
from bvae.app.errors import InputError
from bvae.app.recorded import with_absolute_paths
from bvae.app.resume import take_changes


def test_the_datas_folders_are_of_where_the_command_was_typed(monkeypatch, tmp_path):
    cwd = OmegaConf.create({"hydra": {"runtime": {"cwd": "/typed/here"}}})
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: cwd.hydra)
    monkeypatch.chdir(tmp_path)  # as hydra.job.chdir=true does
    cfg = OmegaConf.create({"seed": 3, "data": {"cache_dir": "data", "path": "~/x.npz", "seed": "${seed}"}})
    data = with_absolute_paths(cfg.data)
    assert data == {"cache_dir": "/typed/here/data", "path": str(Path.home() / "x.npz"), "seed": 3}
    nested = with_absolute_paths(OmegaConf.create({"images": {"source": {"path": "y.npz"}}}))
    assert nested.images.source.path == "/typed/here/y.npz"
    assert with_absolute_paths(OmegaConf.create({"background": "z.png"})).background == "/typed/here/z.png"
    assert with_absolute_paths(OmegaConf.create({"path": 2026})).path == "/typed/here/2026"
    assert with_absolute_paths(OmegaConf.create({"cache_dir": None})).cache_dir is None


def test_a_folder_belongs_to_one_configuration(composed, tmp_path):
    cfg = composed()
    cfg.seed = 1
    other = cfg.copy()
    other.seed = 0
    typed_again = cfg.copy()
    typed_again.sweep = "resume"
    assert resume.resumes(tmp_path, cfg, may_change=False) is False
    leave(tmp_path, cfg, [])
    for status, expected in (("finished", None), ("stopped", True), ("failed", True), ("running", True)):
        ended(tmp_path, status)
        assert resume.resumes(tmp_path, typed_again, may_change=False) is expected
        with pytest.raises(InputError, match=r"of another run, whose seed is 1, not 0: python train\.py run="):
            resume.resumes(tmp_path, other, may_change=False)
    ended(tmp_path, "finished")
    assert resume.resumes(tmp_path, cfg, may_change=True) is None
    assert resume.resumes(tmp_path, other, may_change=True) is True  # run= seed=0 is refused before
    ended(tmp_path, "stopped")
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    assert resume.resumes(tmp_path, cfg, may_change=False) is False
    assert not (tmp_path / "metrics.csv").exists()  # else its rows would come twice


def test_a_run_that_has_saved_nothing_begins_anew_where_it_is_resumed(composed, tmp_path, capsys):
    cfg = composed()
    longer = composed("trainer.max_steps=999999")
    for status in ("failed", "stopped", "running", "finished"):  # a full disk, say
        run = tmp_path / status
        leave(run, cfg, [])
        ended(run, status)
        (run / "checkpoints" / "last.ckpt").unlink()
        goes_on = resume.resumes(run, longer, may_change=True)
        # A finished run's results are kept: without a checkpoint, to go on is refused.
        assert goes_on == (run / "metrics.csv").exists() == (status == "finished")
        assert capsys.readouterr().out == ("" if goes_on else f"{run} has no checkpoint: the run begins anew\n")


def test_a_run_that_failed_before_it_trained_may_be_corrected(composed, tmp_path):
    recorded.record(tmp_path, composed("data.batch_size=2000000"), [])
    ended(tmp_path, "running")  # killed
    with pytest.raises(InputError, match="of another run"):
        resume.resumes(tmp_path, composed(), may_change=False)
    ended(tmp_path, "failed")
    (tmp_path / "metrics.csv").touch()
    with pytest.raises(InputError, match="of another run"):
        resume.resumes(tmp_path, composed(), may_change=False)
    (tmp_path / "metrics.csv").unlink()
    assert resume.resumes(tmp_path, composed(), may_change=False) is False


def test_what_another_run_left_is_refused_or_removed_when_told_to(composed, tmp_path):
    (tmp_path / "metrics.csv").touch()
    with pytest.raises(
        InputError,
        match=r"has a training in it whose .* isn't recorded: choose another hydra\.run\.dir, or overwrite=true to",
    ):
        resume.resumes(tmp_path, composed(), may_change=False)
    run = tmp_path / "run"
    leave(run, composed(), [])
    with pytest.raises(InputError, match="overwrite=true to start over"):
        resume.resumes(run, composed("seed=1", "overwrite=no"), may_change=False)
    assert resume.resumes(run, composed("seed=1", "overwrite=true"), may_change=False) is False
    assert [path.name for path in run.rglob("*") if path.is_file()] == ["mine.txt"]


def test_a_command_that_overwrites_goes_on_when_slurm_puts_it_in_the_queue_again(composed, tmp_path, monkeypatch):
    cfg = composed("overwrite=true")
    leave(tmp_path, cfg, [], status="stopped")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert resume.resumes(tmp_path, cfg, may_change=False) is True
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert resume.resumes(tmp_path, cfg, may_change=False) is False


def test_a_run_takes_single_keys_of_its_own_configuration(composed, tmp_path):
    words = ["experiment=quick", "trainer=gpu", "compile=null"]
    leave(tmp_path, composed(*words), words)
    own = ["loss.beta_end=8", "scheduler.milestones=[9]", "trainer.precision=32-true", "++trainer.gradient_clip_val=1"]
    typed = [f"run={tmp_path}", *own, "trainer.accelerator=cpu", "hydra.verbose=true"]
    assert take_changes(typed) == [typed[0], "logger=wandb", "hydra.verbose=true"]
    assert resume.changes == [*own, "trainer.accelerator=cpu"]
    composed()
    for _ in range(2):  # typed again by a scheduler
        cfg = resume.configuration_of(tmp_path, resume.changes, command())
        assert (cfg.loss.beta_end, cfg.loss.beta_start, cfg.scheduler.milestones) == (8, 60, [9])
        assert (cfg.trainer.precision, cfg.trainer.gradient_clip_val) == ("32-true", 1)
        recorded.record(tmp_path, cfg, resume.own_overrides())
    assert resume.own_overrides() == [*words, *own, "trainer.accelerator=cpu"]
    assert HydraConfig.get().runtime.choices.loss == "annealed"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("loss.gama=1", "loss has no key 'gama', its keys are anneal_steps, .* did you mean gamma"),
        ("loss=beta", r"^loss=beta: a run keeps its own choices; override single keys, trainer\.max_steps=…$"),
        ("experiment=quick", "^experiment=quick: a run keeps its own choices; override single keys"),
        ("~scheduler.factor", "^~scheduler.factor: a run keeps its own choices; override single keys"),
        ("loss.gamma=1,2", r"^loss.gamma=1,2: a run is resumed with one value; write a list as loss.gamma=\[…\]$"),
        ("seed=7", "was begun with seed=0, which can't be changed now"),
        ("data.seed=7", "was begun with data.seed=0, which can't be changed now"),
        ("data.val_fraction=0.5", "was begun with data.val_fraction=0.0, which can't be changed now"),
        ("init_from=x", "^init_from=x: run=.* was begun with init_from=None, which can't be changed now$"),
        (
            "optimizer._target_=torch.optim.SGD",
            "was begun with optimizer._target_=torch.optim.Adam, which can't be changed now$",
        ),
        ("overwrite=true", "was begun with overwrite=False, which can't be changed now$"),
        ("model.latent_dim=4", "is resumed with its own architecture and latent size: leave out model.latent_dim=4"),
    ],
)
def test_what_a_run_cannot_take_is_refused(word, message, composed, tmp_path):
    leave(tmp_path, composed(), [])
    composed()
    with pytest.raises(InputError, match=message):
        resume.configuration_of(tmp_path, [word], command())


def test_a_folder_that_would_have_something_called_is_refused_unless_it_is_typed(composed, tmp_path):
    cfg = composed()
    cfg.callbacks.pictures._target_ = "os.system"
    leave(tmp_path, cfg, [])
    composed()
    typed = "callbacks.pictures._target_=os.system"
    for others in ([], ["++optimizer.note=os.system"]):
        with pytest.raises(
            InputError, match=f"names {typed}, which no file of .*: where you trust it, add {typed} to the command"
        ):
            resume.configuration_of(tmp_path, others, command())
        composed()
    assert resume.configuration_of(tmp_path, [typed], command()).callbacks == cfg.callbacks


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("callbacks.pictures.folder", "/elsewhere", "is outside of the run's folder"),
        ("callbacks.pictures.folder", "pictures", "is outside of the run's folder"),
        ("callbacks.pictures.more", "a/../../b", "is outside of the run's folder"),
        ("callbacks.pictures.more", "~/x", "is outside of the run's folder"),
        ("callbacks.pictures.more", "C:\\x", "is outside of the run's folder"),
        ("callbacks.pictures._args_", ["outputs/latest/checkpoints"], "has no name, which tells what it is for"),
        ("callbacks.checkpoint.filename", "{step].item.__doc__[5]}", "isn't a name with {step} and the like in it"),
        ("callbacks.checkpoint.filename", "{step[", "isn't a name with {step} and the like in it"),
        ("callbacks.checkpoint.filename", "../x-{step}", "isn't a name with {step} and the like in it"),
        ("callbacks.checkpoint._target_", "lightning.pytorch.callbacks.OnExceptionCheckpoint", "which no file of"),
        ("data.images", {"_target_": "bvae.loggers.WandbRun", "save_dir": "x"}, "which no file of"),
        ("data.images.save_dir", "/elsewhere", "is outside of the run's folder"),
        ("data.images.source.url", "file:/dev/zero", "is an address"),
        ("data.path", "memory::x", "is an address"),
        ("model.encoder.x", "https://example.org/x", "is an address"),
        ("compile", "${oc.env:HOME}", "has an interpolation"),
    ],
)
def test_a_record_names_no_place_and_no_address_but_its_own(key, value, said, composed, tmp_path):
    cfg = composed()
    for name in ("checkpoint", "resume"):
        cfg.callbacks[name].filename = "best-{val/loss:.2f}-{step:06d}"  # of a user's own
    leave(tmp_path, cfg, [])
    composed()
    assert resume.configuration_of(tmp_path, [], command()).trainer.default_root_dir == "/typed/here/run"
    record = tmp_path / ".hydra" / "config.yaml"
    tree = yaml.safe_load(record.read_text())
    node = tree
    for name in key.split(".")[:-1]:
        node = node.setdefault(name, {})
    node[key.rpartition(".")[2]] = value
    record.write_text(yaml.safe_dump(tree))
    composed()
    with pytest.raises(InputError, match=re.escape(said)):
        resume.configuration_of(tmp_path, [], command())


def test_where_a_run_keeps_checkpoints_is_never_left_to_the_current_folder(composed, tmp_path):
    leave(tmp_path, composed(), [])
    record = tmp_path / ".hydra" / "config.yaml"
    tree = yaml.safe_load(record.read_text())
    del tree["trainer"]["default_root_dir"]
    record.write_text(yaml.safe_dump(tree))
    composed()
    assert resume.configuration_of(tmp_path, [], command()).trainer.default_root_dir == "/typed/here/run"


def test_run_goes_on_with_one_run():
    for words in (["-m", "run=x"], ["run=x", "sweep=y"]):
        with pytest.raises(InputError, match="run=x resumes one run: leave out -m and sweep=…"):
            take_changes(words)
