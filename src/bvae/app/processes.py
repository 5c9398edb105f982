"""Several processes that train together: which is the first, and how it starts the others."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

_RESUMES = "BVAE_RESUMES"


def is_first() -> bool:
    """Whether this process is the one that writes files, of those on all machines."""
    names = [name for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK") if name in os.environ]
    return not any(int(os.environ.get(name, 0)) for name in names or ["SLURM_PROCID"])


def check_tasks(devices: int | str, num_nodes: int) -> None:
    """Raise ValueError where Slurm was asked for several tasks and the run is a single process."""
    tasks = int(os.environ.get("SLURM_NTASKS", 1))
    if devices == num_nodes == 1 < tasks and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        raise ValueError(
            f"Slurm was asked for {tasks} tasks, and a run with trainer.devices=1 is one: use sbatch -n 1 -c {tasks} "
            f"or, for {tasks} processes that train together, --ntasks-per-node={tasks}, srun and trainer=ddp "
            f"trainer.devices={tasks}"
        )


def launched_to_resume() -> bool | None:
    """Whether the process that launched this one resumes a run; None where this is the first."""
    flag = os.environ.get(_RESUMES)
    return None if flag is None else flag == "1"


@contextmanager
def own_command_line(overrides: Sequence[str], output: Path, resumes: bool) -> Iterator[None]:
    """Make the process's command line that of this one run, which may be a job of a sweep.

    Lightning launches the other processes with it. Afterwards the next job can launch its own.

    Args:
        overrides: of this run.
        output: its folder.
        resumes: whether it is resumed from what its folder holds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # of a job that is trained with others, see `bvae.app.together`: it is one process
        return
    argv, environment, config = sys.argv[1:], dict(os.environ), HydraConfig.get()
    own = config.copy()
    OmegaConf.set_readonly(own, False)
    own.run.dir = str(output)
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": own}))
    folders = [source.path for source in config.runtime.config_sources if source.provider == "command-line"]
    flags = [word for folder in folders for word in ("--config-dir", folder)]
    found = [word for word in config.overrides.hydra if word.startswith("hydra.searchpath=")]
    sys.argv[1:] = [*flags, *overrides, *found, "hydra.mode=RUN"]
    os.environ[_RESUMES] = str(int(resumes))
    try:
        yield
    finally:
        torch = sys.modules.get("torch")
        if torch is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        sys.argv[1:] = argv
        os.environ.clear()
        os.environ.update(environment)
        HydraConfig.instance().set_config(OmegaConf.create({"hydra": config}))
