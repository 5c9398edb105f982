"""Searches for the best settings: Optuna's, and the one that W&B steers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from runs import SHORT, offline_runs, wandb_records


def test_what_wandbs_agent_would_run_runs(train, tmp_path):
    """The agent's own functions make the command line; the sweep's server isn't needed for that."""
    from wandb.sdk.launch.sweeps import utils

    sweep = yaml.safe_load((Path(__file__).parents[1] / "conf" / "wandb_sweep.yaml").read_text())
    assert sweep["metric"]["name"] == "scores/mig"  # in the summary of each run, as another test holds
    middle = {name: {"value": (p["min"] * p["max"]) ** 0.5} for name, p in sweep["parameters"].items()}
    words = {
        "${env}": [],
        "${program}": [sweep["program"]],
        "${args_no_hyphens}": utils.create_sweep_command_args({"args": middle})["args_no_hyphens"],
    }
    command = [word for part in utils.create_sweep_command(sweep["command"]) for word in words.get(part, [part])]
    assert command[:2] == ["python", "train.py"]
    offline = [word for word in command[2:] if word != "logger.mode=online"]
    job = train(tmp_path, *offline, *SHORT, "logger.mode=offline")
    assert job.returncode == 0, job.stderr
    (run,) = offline_runs(tmp_path)
    config = {}
    for record in wandb_records(run):
        config |= record.get("config", {}).get("update", {})
    assert config["loss"]["gamma"] == pytest.approx(100)
    assert config["optimizer"]["lr"] == pytest.approx(middle["optimizer.lr"]["value"])


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_and_draws_its_history(train, tmp_path):
    pytest.importorskip("optuna", reason="an extra: pip install bvae[optuna]")
    search = ("hparams=optuna", "hydra.sweeper.n_trials=1", *SHORT, "logger=csv", "data.batch_size=4")
    for trials in (1, 2):
        job = train(tmp_path, *search)
        assert job.returncode == 0, job.stderr
        page = max((tmp_path / "multirun").glob("*/*/sweep.html")).read_text()
        assert f"Search for MIG, {trials} trials" in page
    refused = train(tmp_path, *search, "optimized_metric=nothing")
    assert refused.returncode == 1
    assert "optimized_metric=nothing isn't computed; choose one of mig, " in refused.stdout
