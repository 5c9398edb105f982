"""What a run records of its configuration, and how that is read again: paths, words, names and loggers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict
from records import begun, command, ended, leave

from bvae.app import interrupts, processes, recorded, resume, sweeps
from bvae.app.errors import InputError
from bvae.app.recorded import _leads_out, _moved, _why_not, hydra_of, record_of, use_own_cache
from bvae.app.resume import own_overrides, run_folder, take_changes, value_of
from bvae.runs import job as jobs


@pytest.fixture
def hydra():
    """Hydra's configuration for a command, as `command` sets it."""
    yield
    HydraConfig.instance().cfg = None
    resume.changes.clear()


def write(run: Path, name: str = "config", **tree: object) -> Path:
    path = record_of(run, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(tree))
    return path


# Paths.


def test_a_commands_paths_are_seen_from_where_it_was_typed(hydra):
    more = ("+data.more.path=deeper", "+data.more.background=/abs", "init_from=x")
    cfg = command("data=folder", "data.path=mine", *more)
    own = HydraConfig.get()
    OmegaConf.set_readonly(own, False)
    own.runtime.cwd = "/typed/here"
    found = recorded.resolved(cfg)
    assert (found.data.path, found.data.more.path, found.data.more.background) == (
        "/typed/here/mine",
        "/typed/here/deeper",
        "/abs",
    )
    assert found.output_dir == "/typed/here/run"
    assert found.init_from == "x"  # which is looked for as the run begins
    assert "${" not in OmegaConf.to_yaml(found)
    data = {"path": "???", "cache_dir": None, "source": {"path": {"a": "b"}}}
    cfg = OmegaConf.create({"output_dir": "x", "data": data})
    assert recorded.resolved(cfg) == {**cfg, "output_dir": "/typed/here/x"}


def test_an_interpolation_that_leads_nowhere_is_said(hydra):
    command()
    every = "metrics.every_image takes scores from metrics.sample, .* callbacks.pictures.metrics=null .* metrics=none"
    for key, said in (("metrics.sample.mig", every), ("nowhere", "'nowhere' not found")):
        with pytest.raises(ValueError, match=said):
            recorded.resolved(OmegaConf.create({"output_dir": "x", "data": {}, "a": f"${{{key}}}"}))


def test_a_folder_that_was_moved_is_named_by_its_present_place_and_no_other_is():
    tree = {"a": "/runs/1", "b": ["/runs/1/x", {"c": "/runs/12"}], "d": "see /runs/1", "e": 1, "f": "/runs/1/"}
    moved = {"a": "/new", "b": ["/new/x", {"c": "/runs/12"}], "d": "see /runs/1", "e": 1, "f": "/new/"}
    assert _moved(tree, "/runs/1", "/new") == moved
    assert _moved(tree, "/runs/1/", "/new") == {**moved, "a": "/runs/1"}


def test_a_record_is_read_for_its_present_place(tmp_path):
    write(tmp_path, output_dir="/before", data=None, trainer={}, callbacks={"a": {"dirpath": "/before/checkpoints"}})
    found = recorded.read(tmp_path, Path("/now"))
    assert found == {
        "output_dir": "/now",
        "data": None,
        "trainer": {"default_root_dir": "/now"},
        "callbacks": {"a": {"dirpath": "/now/checkpoints"}},
    }
    write(tmp_path, a="/before", trainer=5)
    assert recorded.read(tmp_path, Path("/now")) == {"a": "/before", "trainer": 5, "output_dir": "/now"}
    for tree, key in (({"a": {"b": [1, "x${c}"]}}, r"a\.b\.1=x\$\{c\}"), ({"${a}": 1}, r"\$\{a\}=1")):
        write(tmp_path, **tree)
        said = rf"config\.yaml has an interpolation, {key}, which .*; init_from={tmp_path} begins another run"
        with pytest.raises(ValueError, match=said):
            recorded.read(tmp_path, Path("/now"))
    write(tmp_path, data=[1])
    with pytest.raises(ValueError, match=r"config\.yaml is damaged: it holds no configuration$"):
        recorded.read(tmp_path, Path("/now"))


@pytest.mark.parametrize(
    ("value", "key", "out"),
    [
        ("/run", "x", False),
        ("/run/a", "x", False),
        ("/running", "x", True),
        ("/", "x", True),
        ("/run/../a", "x", True),
        ("../a", "x", True),
        ("a/..", "x", True),
        ("a..b/c", "x", False),
        ("~", "x", True),
        ("~me/a", "x", True),
        ("a\\..\\b", "x", True),
        ("C:a", "x", True),
        ("\\\\server\\a", "x", True),
        ("a/b", "x", False),
        *(("a", key, True) for key in ("dirpath", "folder", "save_dir", "default_root_dir", "root_dir", "log_dir")),
        ("/run/a", "dirpath", False),
    ],
)
def test_a_path_that_leads_out_of_the_folder_is_found(value, key, out):
    assert bool(_leads_out(value, key, Path("/run"))) is out


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("data.path", "/elsewhere", None),
        ("data.images.source.path", "../x", None),
        ("data.background", "~/x", None),
        ("data.cache_dir", "/elsewhere", None),
        ("model.path", "/elsewhere", "is outside of the run's folder /run"),
        ("data.folder", "x", "is outside of the run's folder /run"),
        ("init_from", "/elsewhere", None),
        ("data.path", "s3://x", "is an address"),
        ("init_from", "s3://x", "is an address"),
        ("a.url", "x", "is an address"),
        ("a.filename", "{step}", None),
        ("a.filename", "best-{val/loss:.2f}", None),
        ("a.filename", "a/b", "isn't a name with {step} and the like in it"),
        ("a.filename", "", "isn't a name with {step} and the like in it"),
        ("a.filename", "{a.b}", "isn't a name with {step} and the like in it"),
        ("a._args_.0", 5, "has no name, which tells what it is for"),
        ("a.b", 5, None),
        ("a.b", "text", None),
    ],
)
def test_what_a_record_may_not_name_is_said(key, value, why):
    assert _why_not(key, value, Path("/run")) == why


def test_what_the_command_types_is_its_own_and_nothing_else_is():
    cfg = OmegaConf.create(
        {"output_dir": "/run", "a": {"b": "/x", "bc": "y"}, "logger": {"dir": "/x"}, "run_name": "/y"}
    )
    recorded.check(cfg, [], {"a.b": "/x"})
    recorded.check(cfg, [], {"a": 1})
    for typed in ({}, {"a.bc": "y"}, {"a.b.c": 1}):
        said = r"^the configuration names a\.b=/x, which is outside of .* /run: .*, add a\.b=/x to the command$"
        with pytest.raises(ValueError, match=said):
            recorded.check(cfg, [], typed)


@pytest.mark.parametrize(
    ("typed", "prepared", "kept"), [([], False, False), ([], True, True), (["data.cache_dir"], False, True)]
)
def test_images_are_made_in_the_users_own_cache(typed, prepared, kept, monkeypatch):
    monkeypatch.setenv("BVAE_CACHE_DIR", "/mine")
    asked = []
    images = SimpleNamespace(is_prepared=lambda folder: asked.append(folder) or prepared)
    module = SimpleNamespace(image_set=images, cache_dir=Path("/theirs"))
    use_own_cache(module, typed)
    assert module.cache_dir == Path("/theirs" if kept else "/mine")
    assert asked == ([] if typed else [Path("/theirs")])
    own = SimpleNamespace(cache_dir=Path("/theirs"))  # of a set that has no cache
    use_own_cache(own, [])
    assert own.cache_dir == Path("/mine")
    use_own_cache(SimpleNamespace(image_set=images, cache_dir=None), [])


# Hydra's record.


def test_hydras_settings_stay_those_that_a_run_was_begun_with(hydra, tmp_path):
    cfg = recorded.resolved(command("seed=3"))
    recorded.record(tmp_path, cfg, ["seed=3"])
    found = hydra_of(tmp_path)
    assert (found["mode"], found["task"], found["choices"]["loss"]) == ("RUN", ["seed=3"], "capacity")
    assert "experiment" not in found["choices"]
    whole = yaml.safe_load(record_of(tmp_path, "hydra").read_text())
    whole["hydra"].update(mode="MULTIRUN", sweep={"dir": "multirun/x"})
    record_of(tmp_path, "hydra").write_text(yaml.safe_dump(whole))
    recorded.record(tmp_path, cfg, ["seed=3", "loss.gamma=5"])
    found = hydra_of(tmp_path)
    assert (found["mode"], found["sweep_dir"], found["task"]) == ("MULTIRUN", "multirun/x", ["seed=3", "loss.gamma=5"])
    assert yaml.safe_load(record_of(tmp_path, "overrides").read_text()) == ["seed=3", "loss.gamma=5"]
    assert recorded.read(tmp_path, Path(cfg.output_dir)) == cfg


GOOD = {
    "mode": "RUN",
    "sweep": {"dir": "x"},
    "runtime": {"choices": {"loss": "beta", "experiment": None}},
    "overrides": {"task": ["seed=1", "a=${b}"]},
}


def test_of_hydras_record_only_what_says_how_a_run_was_begun_is_taken(tmp_path):
    write(tmp_path, "hydra", hydra=GOOD)
    found = hydra_of(tmp_path)
    del found["whole"]
    assert found == {"mode": "RUN", "sweep_dir": "x", "choices": {"loss": "beta"}, "task": ["seed=1"]}
    for change in (
        {"mode": "OTHER"},
        {"sweep": {"dir": "${x}"}},
        {"sweep": {"dir": 5}},
        {"runtime": {"choices": {"loss": "${x}"}}},
        {"runtime": {"choices": {"${x}": "a"}}},
        {"runtime": {"choices": {"loss": 5}}},
        {"overrides": {"task": [5]}},
        {"overrides": {}},
    ):
        write(tmp_path, "hydra", hydra=GOOD | change)
        with pytest.raises(ValueError, match=r"hydra\.yaml is damaged: (it doesn't say how|it is no list|KeyError)"):
            hydra_of(tmp_path)


# Resuming.


def test_a_run_gets_its_own_folder_or_that_of_the_run_that_it_resumes(tmp_path):
    write(tmp_path, a=1)
    assert run_folder(None, "new") == "new"
    assert run_folder(tmp_path, "new") == str(tmp_path)
    for name in (str(tmp_path / ".hydra"), 2026):
        with pytest.raises(InputError, match=rf"^run={name} is not a run's folder: it has no \.hydra/config\.yaml$"):
            run_folder(name, "new")


def test_the_value_of_a_key_is_its_last_without_quotes():
    for typed, value in (
        (["run=a", "run=b"], "b"),
        (['run="a b"'], "a b"),
        (["run='a'"], "a"),
        (["run='a\""], "'a\""),
        (["run=null"], None),
        (["run="], None),
        (["runs=a", "+run=b"], None),
        (["run=a=b"], "a=b"),
    ):
        assert value_of("run", typed) == value


def test_only_the_first_process_removes_what_was_left(hydra, tmp_path, monkeypatch):
    cfg = recorded.resolved(command("overwrite=true"))
    leave(tmp_path, cfg, [])
    monkeypatch.setattr(processes, "is_first", lambda: False)
    assert resume.resumes(tmp_path, cfg, may_change=False) is False
    assert (tmp_path / "metrics.csv").exists()
    monkeypatch.setattr(processes, "is_first", lambda: True)
    assert resume.resumes(tmp_path, cfg, may_change=False) is False
    assert not (tmp_path / "metrics.csv").exists()


def test_what_differs_is_said_of_the_first_key_and_none_is_a_missing_one(hydra, tmp_path):
    cfg = recorded.resolved(command())
    leave(tmp_path, cfg, [], status="stopped")
    for key, value, said in (
        ("loss.gamma", 5, r"whose loss\.gamma is 1000\.0, not 5"),
        ("loss.more", 5, r"whose loss\.more is none, not 5"),
        ("callbacks", {}, r"whose callbacks\.\S+ is .*, not none"),
    ):
        other = cfg.copy()
        with open_dict(other):
            OmegaConf.update(other, key, value, merge=False)
        with pytest.raises(InputError, match=rf"another run, {said}: .* resumes that one; .* overwrite=true to start"):
            resume.resumes(tmp_path, other, may_change=False)
    names = cfg.copy()
    names.run_name, names.run_tags = "mine", ["a"]
    assert resume.resumes(tmp_path, names, may_change=False) is True
    ended(tmp_path, "finished")
    assert resume.resumes(tmp_path, names, may_change=False) is None


@pytest.mark.parametrize(
    ("typed", "kept", "changes"),
    [
        (["seed=1"], ["seed=1"], []),
        (["run=x", "seed=1"], ["run=x"], ["seed=1"]),
        (["seed=1", "run=x", "hydra.verbose=true"], ["run=x", "hydra.verbose=true"], ["seed=1"]),
        (["+logger.more=1", "run=x", "logger=csv"], ["+logger.more=1", "run=x", "logger=csv"], []),
        (["run=x", "run=y", "~seed"], ["run=x", "run=y"], ["~seed"]),
        (["--cfg", "job", "run=x", "seed=1"], ["--cfg", "job", "run=x"], ["seed=1"]),
        (["run=null", "seed=1"], ["run=null", "seed=1"], []),
        (["run=x", "loggers=1", "hydras=2"], ["run=x"], ["loggers=1", "hydras=2"]),
    ],
)
def test_what_stands_beside_run_changes_that_run(typed, kept, changes):
    resume.changes.clear()
    assert take_changes(typed) == kept
    assert resume.changes == changes
    resume.changes.clear()


def test_a_run_is_resumed_with_the_loggers_that_it_had(hydra, tmp_path):
    cfg = recorded.resolved(command("logger=tensorboard"))
    names = list(cfg.logger.loggers)
    cfg.logger.loggers[names[0]] = None
    cfg.logger.loggers["no name"] = None
    recorded.record(tmp_path, cfg, [])
    assert take_changes(["seed=1", f"run={tmp_path}", "hydra.verbose=true"]) == [
        f"run={tmp_path}",
        "logger=tensorboard",
        f"++logger.loggers.{names[0]}=null",
        "hydra.verbose=true",
    ]
    tree = yaml.safe_load(record_of(tmp_path, "hydra").read_text())
    tree["hydra"]["runtime"]["choices"]["logger"] = "theirs"  # which isn't ours
    record_of(tmp_path, "hydra").write_text(yaml.safe_dump(tree))
    assert take_changes([f"run={tmp_path}"]) == [f"run={tmp_path}"]


def test_wandb_shows_the_choices_and_what_was_typed(hydra):
    cfg = command("loss=beta", "experiment=quick", "seed=3", "sweep=x", "overwrite=true", "hydra.verbose=true")
    assert own_overrides() == ["loss=beta", "experiment=quick", "seed=3"]
    resume.name_run(cfg)
    assert cfg.run_name == "conv beta loss=beta experiment=quick seed=3"
    assert cfg.run_tags == ["conv", "beta", "quick", "seed=3"]
    assert cfg.run_group is None
    cfg = command("run_name=mine")
    resume.name_run(cfg, {"run_name": "before", "run_group": "ours", "run_tags": ["a"]})
    assert (cfg.run_name, cfg.run_group, cfg.run_tags) == ("mine", "ours", ["a"])
    assert resume.typed(["+a=1", "++b.c=2=3", "~d"]) == ["a", "b.c", "~d"]


# Sweeps.


def started(folder: Path, *overrides: str) -> None:
    """Begin a sweep in the folder."""
    command("hparams=optuna", *overrides) if "search" in str(folder) else command(*overrides)
    config = OmegaConf.create({"hydra": HydraConfig.get(), "overwrite": False, "optimized_metric": "mig"})
    OmegaConf.set_readonly(config.hydra, False)
    config.hydra.sweep.dir = str(folder)
    sweeps.SweepFolder().on_multirun_start(config)


@pytest.fixture
def sweep_folder(monkeypatch, hydra):
    monkeypatch.setattr(sweeps.SweepFolder, "path", None)
    monkeypatch.setattr(sweeps.SweepFolder, "study", None)
    return sweeps.SweepFolder


def test_a_sweep_in_a_folder_of_links_is_refused(sweep_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/train.py"])
    (tmp_path / "0").symlink_to("/tmp")
    with pytest.raises(SystemExit) as caught:
        started(tmp_path)
    assert caught.value.code.startswith(f"train.py: {tmp_path / '0'} is a link that leads out of {tmp_path}")
    assert sweep_folder.path is None
    (tmp_path / "0").unlink()
    started(tmp_path)
    assert (sweep_folder.path, sweep_folder.study) == (tmp_path, None)
    begun(tmp_path / "torn", ["seed=0,1"])
    (tmp_path / "torn" / "0").mkdir()
    (tmp_path / "torn" / "multirun.yaml").unlink()
    ended(tmp_path / "torn" / "0", "finished")
    assert jobs.jobs_of(tmp_path / "torn")
    with pytest.raises(SystemExit) as caught:
        started(tmp_path / "torn", "seed=1")
    assert "holds the jobs of another search or sweep: choose another folder, or overwrite=true" in caught.value.code


def test_a_sweep_in_processes_hands_its_signals_on(sweep_folder, tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    handed = []
    monkeypatch.setattr(interrupts, "hand_on", lambda: handed.append(True))
    started(tmp_path)
    assert not handed
    started(tmp_path, "hydra/launcher=joblib")
    assert handed
