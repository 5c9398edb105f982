"""The launcher `hydra/launcher=together`. It stands here because Hydra takes launchers from `hydra_plugins` alone."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Together(Launcher):
    """Trains the jobs of a sweep as one model, as far as they go together, see `bvae.app.together`.

    Args:
        most: jobs that are trained as one.
        through: another launcher, which runs each group as if it were a job; without, they run here one by one.
    """

    def __init__(self, most: int = 64, through: Launcher | None = None) -> None:
        self.most = most
        self.through = through

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from bvae.app.together import launch  # not when Hydra looks for its plugins, at the start of every program

        return launch(self, job_overrides, initial_job_idx)
