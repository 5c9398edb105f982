"""Score and picture what a model has learned: `python evaluate.py run=outputs/…`; `--help` tells the rest."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from pathlib import Path

from bvae.terminal import interruptible

with interruptible():
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from hydra.utils import instantiate
    from omegaconf import DictConfig, OmegaConf

    from bvae import folders
    from bvae.cli import InputError, input_errors, job, run_app
    from bvae.targets import check_targets, import_own

log = logging.getLogger("evaluate")
make = partial(instantiate, _convert_="all")
SOURCES = ("run", "checkpoint", "codes")


def source(cfg: DictConfig) -> tuple[str, Path]:
    """What to evaluate: which of SOURCES, and its path."""
    given = [name for name in SOURCES if cfg[name] is not None]
    if len(given) != 1:
        raise InputError(f"type one of run=…, checkpoint=… and codes=…, got {' and '.join(given) or 'none'}")
    path = Path(cfg[given[0]])
    if given[0] == "run" and not (path / ".hydra" / "config.yaml").is_file():
        raise InputError(f"run={path} is no folder of a run: it has no .hydra/config.yaml")
    if given[0] == "run" and not (path / "checkpoints" / "last.ckpt").is_file():
        raise InputError(f"run={path} has no checkpoints/last.ckpt: type checkpoint=… for another")
    if not path.exists():
        raise InputError(f"{given[0]}={path}: there is no such file")
    return given[0], path


def data_of(run: Path, typed: list[str]) -> DictConfig:
    """The run's data, and over it what was typed.

    Raises ValueError where it would have something called that neither `conf/` nor who typed the command names.
    """
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    words = [word for word in (override.lstrip("+") for override in typed) if word.startswith("data.")]
    config = OmegaConf.merge(config, OmegaConf.from_dotlist(words))
    targets = [word.partition("=")[2] for word in words if word.partition("=")[0].endswith("_target_")]
    check_targets({"data": OmegaConf.to_container(config.data, resolve=True)}, folders.conf(), targets)
    return config.data


def evaluate(cfg: DictConfig) -> None:
    kind, path = source(cfg)

    # Heavy imports stand here, so that --help and mistakes in the configuration answer at once.
    import torch

    from bvae import evaluation
    from bvae.allocator import keep_freed_memory
    from bvae.callbacks import finish, log_evaluation, quiet, run_of
    from bvae.published import load
    from bvae.report import report
    from bvae.vae import NotFinite

    quiet()
    keep_freed_memory()
    exit_code = 1
    try:
        with input_errors():
            default = path if kind == "run" else Path(f"evaluations/{datetime.now():%Y-%m-%d/%H-%M-%S-%f}")
            output = Path(cfg.output_dir or default)
            sets = make(cfg.metrics)
            metrics, every_image = sets["every_image"] or sets["sample"], bool(sets["every_image"])
            vae, step, read_from = None, 0, {kind: str(path.resolve())}
            if kind == "codes":
                codes, factors, names = evaluation.read_codes(path)
            else:
                checkpoint = path / "checkpoints" / "last.ckpt" if kind == "run" else path
                import_own(folders.conf())
                vae, step = load(checkpoint)
                # A run's is named as seen from its folder, which may be moved.
                named = checkpoint.relative_to(path).as_posix() if kind == "run" else str(path.resolve())
                read_from = {"checkpoint": named, "step": step}
                vae.to("cuda" if torch.cuda.is_available() else "cpu")
                data = data_of(path, HydraConfig.get().overrides.task) if kind == "run" else cfg.data
                datamodule = make(folders.typed_here(data))
                datamodule.prepare_data()
                datamodule.setup()
            arguments, remark = run_of(path, cfg.logger.get("mode"))
            if cfg.logger.get("name"):
                del arguments["name"]
            # The run's metrics.csv is left as it is: Lightning's logger would begin it anew.
            loggers = [
                make(node, **(arguments if name == "wandb" else {}))
                for name, node in (cfg.logger.loggers or {}).items()
                if node and name != "csv"
            ]
            for logger in loggers:
                logger.log_hyperparams(
                    {"evaluated": str(path), "metrics": OmegaConf.to_container(cfg.metrics, resolve=True)}
                )
        if vae is None:
            with input_errors():
                found = evaluation.evaluate_codes(codes, factors, output, metrics, names, read_from)
        else:
            try:
                found = evaluation.evaluate(vae, datamodule, output, metrics, every_image, source=read_from)
            except NotFinite as error:
                raise InputError(f"{kind}={path}: {error}") from error
        for logger in loggers:
            log_evaluation(logger, found, step, final=True)
        report(output, found, vae, run=path)
        evaluation.show(found, output)
        if remark and loggers:
            print(remark)
        exit_code = 0
    finally:
        for line in finish(exit_code):
            print(line)


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    with job(log, in_sweep=HydraConfig.get().mode == RunMode.MULTIRUN):
        evaluate(cfg)


if __name__ == "__main__":
    run_app(main)
