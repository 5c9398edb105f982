"""What a run records of its configuration, and how that is read again: paths, places, addresses and words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from records import command, write

from bvae.app import recorded
from bvae.app.recorded import _leads_out, _moved, _why_not, hydra_of, record_of, use_own_cache

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
        {"output_dir": "/run", "a": {"b": "/x", "bc": "y"}, "logger": {"url": "s3://x", "_target_": "evil.X"}}
    )
    recorded.check(cfg, [], {"a.b": "/x"})
    recorded.check(cfg, [], {"a": 1})
    longer = OmegaConf.create({"output_dir": "/run", "a": {"b": "/x", "bc": "/y"}})
    with pytest.raises(ValueError, match=r"names a\.bc=/y, which is outside of"):
        recorded.check(longer, [], {"a.b": "/x"})
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
