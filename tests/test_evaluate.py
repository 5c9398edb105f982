"""The real evaluate.py in a process of its own."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import history, offline_runs, run_folder, wandb_records
from test_published import SHAPES

from bvae.app.evaluate import with_the_runs_keys
from bvae.loggers import wandb_run_of

KEYS = {
    *("mig", "mig_active", "mig_sampled", "mig_sup", "dcimig", "jemmig", "infom", "infoe", "infoc"),
    *("sap", "dci_disentanglement", "dci_completeness", "dci_informativeness", "modularity", "explicitness"),
    *("irs", "beta_vae_score", "factor_vae_score", "total_correlation", "wasserstein_correlation", "varying_units"),
}


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """A copy of the short run's folder."""
    return shutil.copytree(run_folder(run[1].stdout), tmp_path / "outputs")


def test_a_finished_run_is_scored_again_in_its_folder(run, copy, evaluate, tmp_path):
    before = {name: (copy / name).read_bytes() for name in ("metrics.csv", ".hydra/config.yaml", "latents.csv")}
    (copy / "scores.json").unlink()
    (copy / "report.html").unlink()
    (copy / "explorer.html").unlink()
    job = evaluate(tmp_path, f"run={copy}", "metrics=default", WANDB_NAME="mine")
    assert job.returncode == 0, job.stderr
    for title in ("Latent units", "Scores", "Burda et al. 2016"):
        assert title in job.stdout
    assert run_folder(job.stdout) == copy
    assert (copy / "report.html").is_file()
    assert (copy / "explorer.html").is_file()
    # The same images, whose number and cache the run's configuration names, give the same numbers.
    assert {name: (copy / name).read_bytes() for name in before} == before
    written = json.loads((copy / "scores.json").read_text())
    with (copy / "metrics.csv").open() as file:
        last = [row for row in csv.DictReader(file) if row["scores/total_correlation"]][-1]
    total_correlation = pytest.approx(float(last["scores/total_correlation"]), abs=1e-6)
    assert (written["total_correlation"]["value"], written["total_correlation"]["n"]) == (total_correlation, 100)
    assert written["mig"]["value"] is None  # after six steps
    assert "no unit is active" in written["mig"]["protocol"]
    assert written["source"] == {"checkpoint": "checkpoints/last.ckpt", "step": 6}
    # Its W&B run was made offline, and can't be resumed.
    assert "W&B can't resume a run that was made offline" in job.stdout
    (wandb_run,) = offline_runs(tmp_path)
    trained = json.loads((copy / "wandb.json").read_text())
    (described,) = (record["run"] for record in wandb_records(wandb_run) if record["type"] == "run")
    assert described["run_id"] != trained["id"]
    assert (described["run_group"], described["display_name"]) == (trained["id"], "mine")
    logged = history(wandb_records(wandb_run))
    assert logged["trainer/global_step"][-1] == 6
    assert logged["scores/total_correlation"] == [total_correlation]
    config = {}
    for record in wandb_records(wandb_run):
        config |= record.get("config", {}).get("update", {})
    assert config["evaluated"] == str(copy)
    assert "${" not in json.dumps(config["metrics"])
    assert logged["report._type"] == ["html-file"]
    assert described["job_type"] == "evaluation"


def test_anybodys_codes_get_every_score(evaluate, tmp_path):
    factors = np.tile(np.stack(np.unravel_index(np.arange(12), (3, 4)), axis=1), (50, 1))
    codes = factors + np.random.default_rng(0).normal(size=factors.shape)
    np.savez(tmp_path / "codes.npz", codes=codes.astype(np.float32), factors=factors, factor_names=["size", "hue"])
    job = evaluate(tmp_path, "codes=codes.npz", "metrics=all", "logger=none", "output_dir=scored")
    assert job.returncode == 0, job.stderr
    written = json.loads((tmp_path / "scored" / "scores.json").read_text())
    assert set(written) == KEYS | {"source", "versions"}
    assert written["source"] == {"codes": str(tmp_path / "codes.npz")}
    assert all(written[key]["n"] == 600 for key in KEYS)
    assert [key for key in KEYS if written[key]["value"] is None] == ["mig_sampled"]
    assert "need the posteriors' log-variances" in written["mig_sampled"]["protocol"]
    assert "GradientBoostingClassifier()" in written["dci_completeness"]["protocol"]
    page = (tmp_path / "scored" / "report.html").read_text()
    assert "hue" in page
    assert "Traversals" not in page


def test_a_published_checkpoint_is_scored_in_a_folder_of_its_own(cache_dir, evaluate, tmp_path):
    state = {}
    for name, shape in SHAPES.items():
        state[f"{name}.weight"] = torch.randn(shape) * 0.05
        state[f"{name}.bias"] = torch.zeros(shape["convT" in name])
    torch.save(state, tmp_path / "model.pt")
    data = (f"data.cache_dir={cache_dir}", "data.eval_images=500")
    job = evaluate(tmp_path, "checkpoint=model.pt", "metrics=default", "logger=none", *data)
    assert job.returncode == 0, job.stderr
    (folder,) = (tmp_path / "evaluations").glob("*/*")
    for name in ("report.html", "explorer.html", "scores.json", "traversals.gif", "latents.csv"):
        assert (folder / name).is_file()
    assert not (tmp_path / "wandb").exists()


def test_other_images_are_scored_in_a_folder_of_their_own(copy, evaluate, tmp_path):
    before = (copy / "scores.json").read_bytes()
    np.save(tmp_path / "other.npy", np.random.default_rng(0).integers(2, size=(80, 64, 64), dtype=np.uint8))
    data = ("data=arrays", "data.path=other.npy", "data.cache_dir=cache", "metrics=none", "logger=none")
    job = evaluate(tmp_path, f"run={copy}", *data)
    assert job.returncode == 0, job.stderr
    assert (tmp_path / run_folder(job.stdout)).parents[1] == tmp_path / "evaluations"
    assert (copy / "scores.json").read_bytes() == before
    np.save(tmp_path / "other.npy", np.zeros((80, 8, 8), np.uint8))
    job = evaluate(tmp_path, f"run={copy}", *data)
    assert job.returncode == 1
    assert "takes images of 1×64×64" in job.stdout
    assert "with data=…" in job.stdout.splitlines()[-1]


def test_beside_a_run_its_own_datas_keys_can_be_named():
    typed = ["run=a", "data.path=b.npz", "metrics=none"]
    assert with_the_runs_keys(typed) == ["run=a", "++data.path=b.npz", "metrics=none"]
    for others in (["codes=c", "data.path=b"], ["run=a", "data=arrays", "data.path=b"]):
        assert with_the_runs_keys(others) == others


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "give one of run=…, checkpoint=… and codes=…, got none"),
        (["run=a", "codes=b"], "got run and codes"),
        (["outputs/a"], "an override has the form key=value, without spaces around the =, got outputs/a"),
        (["run=outptus"], "run=outptus is not a run's folder"),
        (["checkpoint=none.ckpt"], "checkpoint=none.ckpt: there is no such file"),
        (["metrics=best", "codes=x"], "there is no metrics=best; choose one of all, default, fast, none"),
        (["checkpoint=text"], "text is not a readable checkpoint"),
        (["codes=text"], "text can't be read as an .npz of plain arrays"),
        (["codes=nan.npz"], "codes must be finite, got NaN or infinity"),
        (["codes=nan.npz", "output_dir=/proc/none"], "/proc/none can't be written to, .*choose another output_dir"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value) or "nothing",
)
def test_a_mistake_ends_in_one_sentence(evaluate, tmp_path, overrides, message):
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "nan.npz", codes=np.full((9, 2), np.nan), factors=np.arange(18).reshape(9, 2))
    job = evaluate(tmp_path, *overrides, "logger=none")
    assert job.returncode == 1
    lines = (job.stdout + job.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(message, lines[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nan.npz", "text"]


def test_a_run_made_online_is_resumed_online(tmp_path):
    record = {"id": "abc", "project": "bvae", "entity": "me", "group": None, "name": "conv", "offline": False}
    (tmp_path / "wandb.json").write_text(json.dumps(record))
    arguments, remark = wandb_run_of(tmp_path, "online")
    assert arguments == {k: v for k, v in record.items() if k != "offline"} | {"resume": "must"}
    assert remark == "W&B goes on with the run me/bvae/abc."  # whoever wrote the file
    arguments, remark = wandb_run_of(tmp_path, "offline")
    assert (arguments["group"], "id" in arguments) == ("abc", False)
    assert "without logger.mode=online" in remark
    assert wandb_run_of(tmp_path / "elsewhere", "online") == ({"name": f"evaluation of {tmp_path / 'elsewhere'}"}, "")
