"""A sweep's jobs as one training: `hydra/launcher=together`.

Each job is the ordinary program in a thread of its own, in its own folder. One thread runs at a time: until its
training waits for a step, or its job ends. Once all that haven't ended wait, the step of all is computed at once.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Semaphore, Thread, current_thread
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from bvae.app import interrupts
from bvae.checks import integer

if TYPE_CHECKING:
    from bvae.app.assemble import Run
    from bvae.together import Member
    from hydra_plugins.bvae_together import Together

log = logging.getLogger(__name__)


class Turn(Thread):
    """A job in a thread that runs only in its turn: it goes on until it waits or ends, and then the caller does.

    What the jobs of one process would share, such as the generators of noise and the folder, each has for itself.
    """

    member: Member

    def __init__(self, function: Callable[[], Any], speaks: Callable[[Turn], bool], resident: dict[Any, Any]) -> None:
        super().__init__(daemon=True)
        self.function = function
        self.speaks = speaks
        self.resident = resident
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        self._mine, self._others = Semaphore(0), Semaphore(0)
        self._surroundings = _Surroundings()
        self.start()

    def run(self) -> None:
        self._mine.acquire()
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error
        self.ended = True
        self._others.release()

    def go_on(self) -> None:
        """Let the job go on until it waits or ends; raises what it raises."""
        outside = _Surroundings()
        self._surroundings.enter()
        self._mine.release()
        self._others.acquire()
        self._surroundings = _Surroundings()
        outside.enter()
        if self.error is not None:
            raise self.error

    def wait(self) -> None:
        """Let the caller of `go_on` go on; called by the job."""
        self._others.release()
        self._mine.acquire()

    def enter(self, run: Run) -> None:
        """Let the job's training take its steps with the others, of which one at a time shows its progress."""
        from bvae.callbacks import StepProgress
        from bvae.together import Member

        self.member = Member(run.training, self.wait)
        for part in (run.training.model.encoder, run.training.model.decoder):
            part._compiled_call_impl = None  # what they are computed as is compiled
        for callback in run.trainer.callbacks:
            if isinstance(callback, StepProgress):
                callback.speaks = lambda: self.speaks(self)
        if hasattr(run.datamodule, "resident"):
            run.datamodule.resident = self.resident


class _Surroundings:
    """What a process has once, as it is when this is made."""

    def __init__(self) -> None:
        import torch

        from bvae.random_states import random_states

        self.folder = os.getcwd()
        self.config = HydraConfig.instance().cfg
        self.handlers = list(logging.getLogger().handlers)
        self.dtype = torch.get_default_dtype()  # which a training in double precision changes
        self.random_states = random_states(), np.random.get_state(), random.getstate()

    def enter(self) -> None:
        """Make it so again."""
        import torch

        from bvae.random_states import set_random_states

        if os.getcwd() != self.folder:
            os.chdir(self.folder)
        HydraConfig.instance().cfg = self.config
        logging.getLogger().handlers[:] = self.handlers
        torch.set_default_dtype(self.dtype)
        torchs, numpys, pythons = self.random_states
        set_random_states(torchs)
        np.random.set_state(numpys)
        random.setstate(pythons)


def launch(launcher: Together, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Run a sweep's jobs, those that go together as one training; returns what became of each."""
    setup_globals()
    config = launcher.config
    most = integer("hydra.launcher.most", launcher.most, at_least=1)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    alike: dict[Any, list[DictConfig]] = {}
    for number, overrides in enumerate(job_overrides, first):
        job = launcher.hydra_context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job):
            job.hydra.job.id = job.hydra.job.num = number
        alike.setdefault(kind(job) or number, []).append(job)
    groups = [
        Jobs(launcher, jobs[start : start + most]) for jobs in alike.values() for start in range(0, len(jobs), most)
    ]
    returned = dict(pair for ran in run_groups(launcher, groups, first) for pair in ran)
    return [returned[number] for number in sorted(returned)]


def run_groups(launcher: Together, groups: list[Jobs], first: int) -> Iterator[list[tuple[int, JobReturn]]]:
    """Run groups one by one, or as the jobs of another launcher; yields what `Jobs` returns for each."""
    outer = launcher.through
    if outer is None:
        for group in groups:
            yield group()
        return
    config = launcher.config.copy()
    with open_dict(config):
        config.hydra.launcher = config.hydra.launcher.through
    outer.setup(hydra_context=launcher.hydra_context, task_function=_Chosen(groups, first), config=config)
    of_first = [overrides_of(group.configs[0]) for group in groups]
    for group, ran in zip(groups, outer.launch(of_first, first), strict=True):
        if ran.status == JobStatus.COMPLETED:
            yield ran.return_value
        else:  # what the other launcher says of its job is what became of each
            yield [(config.hydra.job.num, ran) for config in group.configs]


def overrides_of(config: DictConfig) -> list[str]:
    """List the overrides that make a job's configuration from the sweep's."""
    return list(config.hydra.overrides.task)


class Jobs:
    """Jobs that are trained as one, by their configurations; called, runs them and returns what became of each."""

    def __init__(self, launcher: Together, configs: list[DictConfig]) -> None:
        self.context, self.function, self.config = launcher.hydra_context, launcher.task_function, launcher.config
        self.configs = configs

    def __call__(self) -> list[tuple[int, JobReturn]]:
        numbers = [config.hydra.job.num for config in self.configs]
        log.info("Launching %s", "one job" if len(numbers) == 1 else f"{len(numbers)} jobs as one training")
        for number, config in zip(numbers, self.configs, strict=True):
            log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides_of(config))))
        runs = [partial(self._run, config) for config in self.configs]
        if len(runs) == 1:
            returned = [runs[0]()]
        else:
            common = self.configs[0]
            mode = "reduce-overhead" if common.capture and common.compile else common.compile
            returned = train_as_one(runs, mode)
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return list(zip(numbers, returned, strict=True))

    def _run(self, config: DictConfig) -> JobReturn:
        return run_job(
            hydra_context=self.context,
            task_function=self.function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


class _Chosen:
    """What another launcher runs as a job: the group of that job's number."""

    def __init__(self, groups: list[Jobs], first: int) -> None:
        self.groups, self.first = groups, first

    def __call__(self, config: DictConfig) -> list[tuple[int, JobReturn]]:
        group = self.groups[HydraConfig.get().job.num - self.first]
        configure_log(group.config.hydra.hydra_logging, group.config.hydra.verbose)
        return group()


def _wakes(node: Any) -> bool:
    from bvae.callbacks import WakeIdleUnits  # late, as it brings torch

    target = get_object(node._target_) if OmegaConf.is_dict(node) and "_target_" in node else None
    return isinstance(target, type) and issubclass(target, WakeIdleUnits)


def kind(cfg: DictConfig) -> str | None:
    """Describe what jobs that are trained as one agree in; None for a job that is trained alone.

    These are the model, the data but for its seed, and the trainer. What the others are made with is each job's own.
    """
    trainer = cfg.trainer
    if trainer.devices != 1 or trainer.get("num_nodes", 1) != 1 or str(trainer.precision) in ("16", "16-mixed"):
        return None  # several processes, or gradients that are scaled before they are computed
    if any(_wakes(node) for node in cfg.callbacks.values()):
        return None  # its objective is another in some steps
    with suppress(OmegaConfBaseException):  # of an interpolation that only the job itself can resolve
        parts = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("model", "data")}
        parts["data"].pop("seed", None)
        parts |= {"trainer": OmegaConf.to_container(cfg.trainer), "compile": cfg.compile, "capture": cfg.capture}
        return OmegaConf.to_yaml(OmegaConf.create(parts))
    return None


def train_as_one(jobs: Sequence[Callable[[], Any]], compile_mode: str | None = None) -> list[Any]:
    """Run jobs whose trainings take their steps together; returns what each returns."""
    from bvae.together import Group

    group = Group(compile_mode)
    resident: dict[Any, Any] = {}  # the images on the device, which all share
    speaker: Turn | None = None
    turns = [Turn(job, lambda turn: turn is speaker, resident) for job in jobs]
    with interrupts.remembered():
        speaker = turns[0]
        for turn in turns:
            turn.go_on()
        while waiting := [turn for turn in turns if not turn.ended]:
            speaker = waiting[0]
            group.step([turn.member for turn in waiting])
            for turn in waiting:
                turn.go_on()
    return [turn.result for turn in turns]


def enter(run: Run) -> None:
    """Let a job's training take its steps with those of its group; a job that is trained alone is left as it is."""
    turn = current_thread()
    if isinstance(turn, Turn):
        turn.enter(run)
