"""The real train.py in a process of its own, the real wandb in offline mode."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from runs import SHORT, environment, history, metrics_of, offline_runs, run_folder, wandb_records

import bvae
from bvae.training import Training


def test_a_run_ends_with_its_table_and_says_where_everything_is(run):
    folder, job = run
    assert "Latent units" in job.stdout
    (wandb_run,) = offline_runs(folder)
    assert f"wandb sync wandb/{wandb_run.name}" in job.stdout
    assert "wandb leet wandb" in job.stdout
    assert "step 6 of 6  loss" in job.stdout
    output = run_folder(job.stdout)
    assert job.stdout.startswith(f"Run: {output.relative_to(folder)}\nOn: CPU, threads: 1. With Ctrl-C it ends after")
    assert (folder / "outputs" / "latest").resolve() == output
    assert job.stderr == ""


def test_a_run_leaves_its_files(run):
    folder, job = run
    output = run_folder(job.stdout)
    assert output.is_relative_to(folder / "outputs")
    for name in (
        "report.html",
        "scores.json",
        "wandb.json",
        ".hydra/config.yaml",
        "checkpoints/step-3.ckpt",
        "checkpoints/step-6.ckpt",
        "checkpoints/last.ckpt",
    ):
        assert (output / name).is_file(), name
    for name in ("reconstructions.png", "traversals.png", "traversals.gif", "traversals/unit_9.gif"):
        with Image.open(output / name) as picture:
            picture.load()
            assert getattr(picture, "n_frames", 1) > 1 or name.endswith("png")
    with (output / "latents.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "unit",
        "variance",
        "kl",
        "active",
        "factor",
        "correlation",
        "normalized_mi",
        "name",
        "variance_at_picture",
    ]
    assert sorted(int(row["unit"]) for row in rows) == list(range(10))
    with (output / "metrics.csv").open() as file:
        metrics = list(csv.DictReader(file))
    train_rows = [row for row in metrics if row["train/loss"]]
    assert [int(row["step"]) for row in train_rows] == [1, 3, 5]
    for row in train_rows:
        kl, beta = float(row["train/kl"]), float(row["train/beta"])
        assert float(row["train/loss"]) == pytest.approx(float(row["train/reconstruction"]) + beta * kl, rel=1e-5)
        assert sum(float(row[f"train/kl_unit/{unit}"]) for unit in range(10)) == pytest.approx(kl, rel=1e-4)
        assert float(row["train/information"]) + float(row["train/offset"]) == pytest.approx(kl, rel=1e-4)
        assert float(row["train/images_per_second"]) > 0
    assert [int(row["step"]) for row in metrics if row["scores/total_correlation"]] == [4, 6]
    pictures = [row for row in metrics if row["train/dead_features/encoder_2"]]
    assert [int(row["step"]) for row in pictures] == [4, 6]
    shares = [float(row[f"train/dead_features/decoder_{layer}"]) for row in pictures for layer in range(1, 7)]
    assert all(0 <= share <= 1 for share in shares)
    assert "Dead features" in (output / "report.html").read_text()


def test_the_last_checkpoint_is_the_trained_model(run):
    output = run_folder(run[1].stdout)
    checkpoint = torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6
    assert Training.load_from_checkpoint(output / "checkpoints" / "last.ckpt").loss.beta_start == 60
    before, after = (bvae.load(path).encoder for path in (output / "checkpoints" / "step-3.ckpt", output))
    assert not torch.equal(before.layers[0].weight, after.layers[0].weight)
    assert torch.equal(after.layers[0].weight, checkpoint["state_dict"]["model.encoder.layers.0.weight"])


def test_wandbs_own_reader_finds_the_config_the_scalars_and_the_images(run):
    folder, job = run
    (wandb_run,) = offline_runs(folder)
    records = wandb_records(wandb_run)
    config = {}
    for record in records:
        config |= record.get("config", {}).get("update", {})
    assert config["loss"]["_target_"] == "bvae.losses.Annealed"
    assert config["loss"]["beta_start"] == 60
    assert config["seed"] == 3
    assert config["model"]["encoder"]["latent_dim"] == 10  # nested and resolved
    assert config == config | yaml.safe_load((run_folder(job.stdout) / "hparams.yaml").read_text())
    logged = history(records)
    assert logged["train/beta"] == [60, 60, 60]
    assert all(len(logged[f"train/{term}"]) == 3 for term in ("loss", "reconstruction", "kl", "kl_unit/0"))
    assert len(logged["scores/total_correlation"]) == 2
    assert "scores/mig" not in logged  # undefined while no unit is active
    assert logged["trainer/global_step"][0] == 1
    for key, kind, count in (
        ("pictures/reconstructions", "image-file", 2),
        ("pictures/traversals", "image-file", 2),
        ("pictures/traversals_gif", "video-file", 1),
        ("report", "html-file", 1),
    ):
        assert logged[f"{key}._type"] == [kind] * count
        assert all((wandb_run / "files" / path).is_file() for path in logged[f"{key}.path"])
    assert logged["kl_per_unit._type"] == ["histogram"] * 2
    assert len(logged["kl_per_unit.values"][0]) == 10
    assert not [key for key in logged if key == "epoch" or key.startswith(("latents", "scores."))]  # no curves
    summary, described = {}, {}
    for record in records:
        summary |= record.get("summary", {}).get("update", {})
        described |= record.get("run", {})
    assert described["job_type"] == "train"
    assert described["tags"] == ["conv", "annealed", "seed=3"]
    assert Path(described["notes"]) == run_folder(job.stdout)
    table = json.loads((wandb_run / "files" / summary["latents"]["path"]).read_text())
    assert table["columns"][:4] == ["unit", "variance", "kl", "active"]
    table = json.loads((wandb_run / "files" / summary["scores"]["path"]).read_text())
    scores = {row[0]: row[1] for row in table["data"]}
    assert scores["total_correlation"] == pytest.approx(logged["scores/total_correlation"][-1])
    assert summary["best/total_correlation"] == pytest.approx(min(logged["scores/total_correlation"]))
    assert summary["train/loss"] == {"last": logged["train/loss"][-1], "min": min(logged["train/loss"])}
    assert logged["train/learning_rate"] == pytest.approx([5e-4] * 3)
    assert summary["scores/total_correlation"] == pytest.approx(scores["total_correlation"])
    assert summary["terms/reconstruction"] > 0
    assert [record["exit"].get("exit_code", 0) for record in records if record["type"] == "exit"] == [0]


def test_one_seed_gives_the_same_numbers_twice_and_another_gives_others(run, train, tmp_path):
    again = train(tmp_path, *SHORT, "loss=annealed", "seed=3", "logger=csv")
    assert again.returncode == 0, again.stderr
    first, second = run_folder(run[1].stdout), run_folder(again.stdout)
    assert metrics_of(first) == metrics_of(second)
    states = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (first, second)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not (tmp_path / "wandb").exists()  # logger=csv asks for none
    other = train(tmp_path, *SHORT, "loss=annealed", "seed=4", "logger=csv")
    assert metrics_of(first) != metrics_of(run_folder(other.stdout))


def test_a_run_begins_with_anothers_weights(run, train, tmp_path):
    before = run_folder(run[1].stdout)
    job = train(tmp_path, *SHORT, f"init_from={before}", "optimizer.lr=0", "logger=csv", "metrics=none")
    assert job.returncode == 0, job.stderr
    folders = (before, run_folder(job.stdout))
    states = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in folders]
    assert all(torch.equal(value, states[1]["state_dict"][name]) for name, value in states[0]["state_dict"].items())
    assert states[1]["global_step"] == 6
    refused = train(tmp_path, f"init_from={before}", "model.latent_dim=4")
    assert refused.returncode == 1
    assert f"init_from={before} is a model of another architecture or latent size" in refused.stdout


def test_a_folder_stays_its_runs_own(run, train, tmp_path):
    folder = shutil.copytree(run_folder(run[1].stdout), tmp_path / "run")
    words = (*SHORT, "loss=annealed", "callbacks.checkpoint.every_n_train_steps=3", "seed=3", f"hydra.run.dir={folder}")

    def left() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"}

    before = left()
    again = train(tmp_path, *words)
    assert (again.returncode, again.stdout) == (0, f"Finished before, in {folder}\n")
    other = train(tmp_path, *words, "seed=4")
    assert other.returncode == 1
    assert (
        f"{folder} is the folder of another run, whose seed is 3, not 4: python train.py run={folder}" in other.stdout
    )
    assert left() == before
    keys = ("loss.beta_end=8", "optimizer.lr=1e-9", "++trainer.gradient_clip_val=1", "trainer.max_steps=8")
    job = subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "train.py"), f"run={folder}", *keys, "logger.mode=disabled"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert job.returncode == 0, job.stderr
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert (checkpoint["global_step"], checkpoint["vae"]["loss"]["arguments"]["beta_end"]) == (8, 8)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-9
    config = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
    assert (config["trainer"]["gradient_clip_val"], config["trainer"]["max_steps"], config["seed"]) == (1, 8, 3)


def test_a_sweep_groups_its_runs_and_outlives_a_failed_job(train, tmp_path):
    wandb = {"WANDB_ENTITY": "somebody", "WANDB_NOTES": "a note", "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": "theirs"}
    job = train(tmp_path, "loss.gamma=100,-1,1000", "-m", *SHORT, **wandb)
    assert job.returncode == 1
    assert "At least one job of the sweep failed" in job.stderr
    (sweep,) = (path for path in (tmp_path / "multirun").glob("*/*"))
    assert sorted(path.name for path in sweep.iterdir()) == ["0", "1", "2", "multirun.yaml", "sweep.csv", "sweep.html"]
    assert "gamma must not be negative, got -1" in (sweep / "1" / "train.log").read_text()
    assert all((sweep / number / "traversals.png").is_file() for number in "02")
    runs = [next(r["run"] for r in wandb_records(path) if r["type"] == "run") for path in offline_runs(tmp_path)]
    assert len(runs) == 2
    assert {(run["entity"], run["notes"], run["project"]) for run in runs} == {("somebody", "a note", "theirs")}
    assert {run["run_group"] for run in runs} == {sweep.relative_to(tmp_path).as_posix()}
    assert {word for run in runs for word in run["display_name"].split() if "gamma" in word} == {
        "loss.gamma=100",
        "loss.gamma=1000",
    }


def test_a_job_that_breaks_while_it_trains_leaves_its_trace(train, tmp_path):
    (tmp_path / "traversals.png").mkdir()  # where the picture belongs
    folders = f"callbacks.pictures.folder={tmp_path},{tmp_path / 'good'}"
    job = train(tmp_path, "-m", folders, *SHORT, "logger=csv", "metrics=none")
    assert job.returncode == 1
    (broken, good) = sorted(path for path in (tmp_path / "multirun").glob("*/*/*") if path.is_dir())
    assert "IsADirectoryError" in (broken / "train.log").read_text()
    assert (good / "checkpoints" / "last.ckpt").is_file()


def test_ctrl_c_at_a_terminal_saves_draws_and_finishes(cache_dir, tmp_path):
    command = [sys.executable, str(Path(__file__).parents[1] / "train.py"), f"data.cache_dir={cache_dir}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | {"COLUMNS": "160"}
    terminal, theirs = pty.openpty()
    job = subprocess.Popen(
        [*command, "data.eval_images=500", "trainer.log_every_n_steps=1"],
        cwd=tmp_path,
        env=environment,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    output, interrupted = "", False
    with contextlib.suppress(OSError):  # how a terminal says that the program has ended
        while chunk := os.read(terminal, 4096):
            output += chunk.decode(errors="replace")
            if "images/s" in output and not interrupted:
                job.send_signal(signal.SIGINT)
                interrupted = True
    os.close(terminal)
    assert job.wait(timeout=60) == 130
    assert re.search(r"Training.*/150000.*loss \d.*rec \d.*KL \d.*C \d.*left", output)
    assert output.index("Training") < output.index("Latent units") < output.index("wandb sync")
    (folder,) = tmp_path.glob("outputs/2*/*")
    assert (folder / "traversals.gif").is_file()
    step = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    with (folder / "metrics.csv").open() as file:
        assert max(int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]) == step - 1
    records = wandb_records(offline_runs(tmp_path)[0])
    assert [record["exit"].get("exit_code", 0) for record in records if record["type"] == "exit"] == [0]


def test_wandb_mode_is_respected(train, tmp_path):
    job = train(tmp_path, "-m", "seed=0,1", *SHORT, "metrics=none", WANDB_MODE="disabled")
    assert job.returncode == 0, job.stderr
    assert "already in progress" not in job.stderr  # each job has a run of its own
    assert "wandb sync" not in job.stdout
    assert not offline_runs(tmp_path)
