from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, read_write
from records import CONF, begun, command, complete, ended, leave

from bvae.app import recorded, resume, sweeps
from bvae.app.errors import InputError
from bvae.app.recorded import with_absolute_paths
from bvae.app.resume import take_changes
from bvae.app.sweeps import find_sweep, with_study
from bvae.runs.job import jobs_of

TYPED = ["loss.gamma=100,1000", "seed=0,1"]


def test_resume_takes_the_newest_sweep_that_was_typed_alike(tmp_path):
    begun(tmp_path / "2026-01-01" / "10-00-00", TYPED)
    newest = begun(tmp_path / "2026-01-02" / "09-00-00", [*TYPED, "sweep=resume"])
    begun(tmp_path / "2026-01-03" / "09-00-00", ["seed=0,1"])
    command = ["-m", *TYPED, "sweep=resume"]
    assert find_sweep(command, tmp_path) == [*command, f"hydra.sweep.dir={newest}"]
    below = ["--config-dir", str(tmp_path), *command]  # no override, though it stands without a dash
    assert find_sweep(below, tmp_path) == [*below, f"hydra.sweep.dir={newest}"]
    more = ["-m", *TYPED, f"sweep={newest}", "hydra/launcher=joblib", "--config-dir", str(tmp_path)]
    found = ["sweep=resume", f"hydra.sweep.dir={newest}"]  # before what a flag would end
    assert find_sweep(more, tmp_path) == [*more[:3], *found, *more[4:]]
    (begun(tmp_path / "torn", TYPED) / "multirun.yaml").write_text("")
    assert find_sweep(command, tmp_path) == [*command, f"hydra.sweep.dir={newest}"]


def test_other_commands_stay_as_they_are(tmp_path):
    for words in (["-m", *TYPED], ["seed=1"], ["--help"], ["-m", "sweep=null"]):
        assert find_sweep(words, tmp_path) == words


def test_what_cannot_go_on_is_refused(tmp_path):
    other = begun(tmp_path / "2026-01-01" / "10-00-00", ["seed=5,6"])
    for words, message in (
        (["-m", *TYPED, "sweep=resume"], "^no sweep in .*/ has these overrides: loss.gamma=100,1000 seed=0,1$"),
        (["seed=1", "sweep=resume"], "^sweep=resume resumes a sweep: put -m before it$"),
        (["-m", *TYPED, f"sweep={other}"], f"^sweep={other} has other overrides: seed=5,6$"),
        (["-m", *TYPED, f"sweep={tmp_path}"], f"^sweep={tmp_path} is not a sweep's folder: it has no multirun.yaml$"),
        (
            ["-m", "hparams=optuna", "sweep=resume"],
            "^a search is resumed by running its command again: leave out sweep=…$",
        ),
    ):
        with pytest.raises(InputError, match=message):
            find_sweep(words, tmp_path)


def test_a_search_of_other_overrides_is_another_study():
    def study(*typed: str) -> str:
        (name,) = (word for word in with_study(["hparams=optuna", *typed]) if "study_name=" in word)
        return name

    first = study("experiment=quick", "loss=capacity")
    assert first.startswith("hydra.sweeper.study_name=bvae-")
    assert study("loss=capacity", "experiment=quick", "hydra.sweeper.n_trials=50", "hydra.sweeper.n_jobs=2") == first
    others = {
        study("experiment=quick", "loss=beta"),
        study("experiment=quick", "loss=capacity", "trainer.max_steps=9"),
        study("experiment=quick", "loss=capacity", "optimized_metric=sap"),
        study("experiment=quick", "loss=capacity", "hydra.sweeper.direction=minimize"),
    }
    assert len(others - {first}) == 4
    assert study("hydra.sweeper.study_name=mine") == "hydra.sweeper.study_name=mine"
    assert with_study(["loss=beta"]) == ["loss=beta"]
    *before, flag, kind = with_study(["hparams=optuna", "experiment=quick", "--cfg", "job"])
    assert (flag, kind) == ("--cfg", "job")  # no override may follow a flag
    assert before[-1] == "experiment=quick"


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


def test_a_sweeps_folder_may_have_any_name_and_lie_at_any_depth(tmp_path):
    named = begun(tmp_path / "beta=4, gamma's [2]", TYPED)
    for asked in (f"sweep={named}", f'sweep="{named}"', "sweep=resume"):
        arguments = find_sweep(["-m", *TYPED, asked], tmp_path)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("config", arguments[-2:], return_hydra_config=True)
        assert Path(cfg.hydra.sweep.dir) == named
    deeper = begun(tmp_path / "of" / "mine" / "2026-01-01" / "10-00-00", TYPED)
    begun(deeper / "0", TYPED)  # what a job leaves isn't looked at
    assert find_sweep(["-m", *TYPED, "sweep=resume"], tmp_path)[-1] == f"hydra.sweep.dir={deeper}"


@pytest.fixture
def composed():
    """Compose and resolve like train.py."""

    def configuration(*overrides: str):
        return recorded.resolved(command(*overrides))

    yield configuration
    HydraConfig.instance().cfg = None
    resume.changes.clear()


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


def test_a_sweeps_folder_belongs_to_one_sweep(composed, tmp_path):
    words = ["seed=0,1"]
    begun(tmp_path / "sweep", words)
    leave(tmp_path / "sweep" / "0", composed("seed=0"), ["seed=0"])

    def start(*typed: str) -> None:
        config = complete(*(word for word in typed if "overwrite" in word)).copy()
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.sweep.dir = str(tmp_path / "sweep")
        with read_write(config.hydra.overrides):
            config.hydra.overrides.task = list(typed)
        sweeps.SweepFolder().on_multirun_start(config)

    start(*words)
    assert sweeps.SweepFolder.path == tmp_path / "sweep"
    with pytest.raises(SystemExit, match="holds the jobs of another sweep, seed=0,1: choose another folder"):
        start("seed=5,6")
    start("seed=5,6", "overwrite=true")
    assert not jobs_of(tmp_path / "sweep")
    sweeps.SweepFolder.path = None


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
    with pytest.raises(
        InputError, match=f"names {typed}, which no file of .*: where you trust it, add {typed} to the command"
    ):
        resume.configuration_of(tmp_path, [], command())
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
