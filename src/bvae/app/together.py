"""A sweep's jobs as one training: `hydra/launcher=together`.

Each job is the ordinary program in a thread of its own, in its own folder. One thread runs at a time: until its
training waits for a step, or its job ends. Once all that haven't ended wait, the step of all is computed at once.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Semaphore, Thread, current_thread
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
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

        from bvae.training import random_states

        self.folder = os.getcwd()
        self.config = HydraConfig.instance().cfg
        self.handlers = list(logging.getLogger().handlers)
        self.dtype = torch.get_default_dtype()  # which a training in double precision changes
        self.random_states = random_states(), np.random.get_state(), random.getstate()

    def enter(self) -> None:
        """Make it so again."""
        import torch

        from bvae.training import set_random_states

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
    config, context = launcher.config, launcher.hydra_context
    most = integer("hydra.launcher.most", launcher.most, at_least=1)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)

    def run(number: int) -> JobReturn:
        return run_job(
            hydra_context=context,
            task_function=launcher.task_function,
            config=configs[number],
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )

    configs: dict[int, DictConfig] = {}
    groups: dict[Any, list[int]] = {}
    for number, overrides in enumerate(job_overrides, first):
        configs[number] = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(configs[number]):
            configs[number].hydra.job.id = configs[number].hydra.job.num = number
        groups.setdefault(kind(configs[number]) or number, []).append(number)
    returned: dict[int, JobReturn] = {}
    for alike in groups.values():
        for numbers in (alike[start : start + most] for start in range(0, len(alike), most)):
            log.info("Launching %s", "one job" if len(numbers) == 1 else f"{len(numbers)} jobs as one training")
            for number in numbers:
                log.info("\t#%d : %s", number, " ".join(filter_overrides(job_overrides[number - first])))
            if len(numbers) == 1:
                returned[numbers[0]] = run(numbers[0])
            else:
                jobs = [partial(run, number) for number in numbers]
                common = configs[numbers[0]]
                mode = "reduce-overhead" if common.capture and common.compile else common.compile
                returned |= zip(numbers, train_as_one(jobs, mode), strict=True)
            configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    return [returned[number] for number in configs]


def kind(cfg: DictConfig) -> str | None:
    """Describe what jobs that are trained as one agree in; None for a job that is trained alone.

    These are the model, the data but for its seed, and the trainer. What the others are made with is each job's own.
    """
    trainer = cfg.trainer
    if trainer.devices != 1 or trainer.get("num_nodes", 1) != 1 or str(trainer.precision) in ("16", "16-mixed"):
        return None  # several processes, or gradients that are scaled before they are computed
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
