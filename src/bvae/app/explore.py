"""Write the explorer of a run, or of two side by side. `bvae-explore --help` tells how it is called."""

from __future__ import annotations

import logging
import re
from datetime import datetime
from pathlib import Path

from bvae.terminal import interruptible, say, stage

with interruptible():
    import hydra
    from omegaconf import DictConfig, OmegaConf

    from bvae.app import resume
    from bvae.app.errors import CONF, InputError, input_errors, job, run_app
    from bvae.app.evaluate import checked_run, data_of, served, typed, with_the_runs_keys
    from bvae.app.targets import own_imported
    from bvae.runs.job import check_folder
    from bvae.runs.latest import folder_of

log = logging.getLogger("explore")


def with_names(arguments: list[str]) -> list[str]:
    """Let `name.3=slant` name a unit, of which the configuration has none."""
    return [re.sub(r"^(?=name\.\d+=)", "+", argument) for argument in with_the_runs_keys(arguments)]


def rename(run: Path, typed: DictConfig, units: int) -> None:
    """Give the run's units the names that the command gives, or take them away by null."""
    from bvae.evaluation.names import check_name, read_names, write_names

    names = read_names(run)
    for key, name in typed.items():
        if name is None:
            names.pop(int(key), None)
        elif OmegaConf.is_config(name):
            raise ValueError(f"name.{key} must be text, quoted twice if it has brackets: 'name.{key}=\"…\"'")
        else:
            text = str(name).lower() if isinstance(name, bool) else str(name)  # as it was typed
            names[int(key)] = check_name(int(key), text, units)
    write_names(run, names)


def explore(cfg: DictConfig) -> None:
    """Load the runs and write the page."""
    if cfg.run is None:
        raise InputError("give the folder of a run, run=outputs/…, and of another beside it, run2=outputs/…")
    with input_errors():
        given = {name: Path(folder_of(name, str(cfg[name]))) for name in ("run", "run2") if cfg[name] is not None}
    runs = [checked_run(name, path) for name, path in given.items()]
    default = runs[0] if len(runs) == 1 else Path(f"explorers/{datetime.now():%Y-%m-%d/%H-%M-%S-%f}")
    path = Path(cfg.output_dir or default) / "explorer.html"

    # Heavy imports stand here, so that --help and mistakes in the configuration answer at once.
    from bvae import evaluation, report
    from bvae.app.assemble import quiet
    from bvae.checkpoints.load import load
    from bvae.evaluation.names import named_by, read_names

    quiet()
    with input_errors():
        check_folder(path.parent)
        datamodule = served(data_of(runs[0], cfg), resume.typed(typed()))
        models = []
        titles = {run: report.title_of(run) for run in runs}
        if len(set(titles.values())) < len(runs):
            titles = {run: f"{title} ({run})" for run, title in titles.items()}
        for run in runs:
            with own_imported(resume.conf_folders()):
                vae = load(run / "checkpoints" / "last.ckpt")
            with stage(f"Encoding by {run}"):
                table = evaluation.units_of(vae, datamodule)
            if cfg.name and run is runs[0]:
                rename(run, cfg.name, len(table))
            table = named_by(table, read_names(run))
            models.append(report.Explored(titles[run], vae, table))
        with stage("Writing the explorer"):
            report.explore(path, models, datamodule)
    say(f"Explorer: {path}")
    if cfg.name:
        say(f"Names: {runs[0] / 'units.json'}; evaluate.py run={runs[0]} draws its report and its pictures with them")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="explore")
def main(cfg: DictConfig) -> None:
    """Explore the runs that the command names."""
    with job(log):
        explore(cfg)


def run() -> None:
    """Run `bvae-explore`."""
    run_app(main, with_names)
