from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from bvae.callbacks.steps import NewStep
from bvae.terminal import console

_SPACE = "  "
_SYMBOLS = {
    **{"reconstruction": "rec", "kl": "KL", "information": "I", "offset": "O"},
    **{"capacity": "C", "beta": "β", "gamma": "γ", "free_nats": "λ"},
    **{"tc": "TC", "mutual_information": "MI", "dimension_wise_kl": "DWKL", "target_kl": "target"},
}
_MOST_WANTED = ("loss", "kl")  # terms, which the others give way to
_WARM_UP = 10  # steps that say nothing of the speed: a compiled model's first ones take minutes
# Where the output is no terminal:
_LINES = 20  # of a whole training
_FIRST = 100  # steps to a first line
_SECONDS = 120.0  # at most, between two


class _Terms(list[str]):
    """Words of a line, of which as many stand as there is room for."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fitting = (_SPACE.join(self[:n]) for n in range(len(self), -1, -1))
        yield next(line for line in fitting if len(line) <= options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, len(_SPACE.join(self)))


class _TermsColumn(ProgressColumn):
    def render(self, task: Task) -> _Terms:
        return task.fields["terms"]


class StepProgress(ProgressBar):
    """A bar over the training's steps with the loss and its terms in nats, the speed and the time left.

    Where the output is no terminal, and no notebook that has ipywidgets, a line after 100 steps, and then twenty over
    the training and one every two minutes at least.

    Args:
        speaks: tells whether to show anything, at each step; for trainings that take their steps together.
    """

    def __init__(self, speaks: Callable[[], bool] = lambda: True) -> None:
        super().__init__()
        self.speaks = speaks
        self._console = console()
        self._bar: Progress | None = None

    @property
    def every_n_steps(self) -> int | None:
        """The steps between two lines; a bar moves at the logging steps."""
        return self._lines_every if self._bar is None else None

    def disable(self) -> None:
        """Nothing to do in the processes beside the first, which show no bar."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._is_new_step = NewStep(trainer)
        self._total = self._steps(trainer)
        self._lines_every = max((self._total or _LINES) // _LINES, 1)
        self._first, self._spoke = trainer.global_step + _FIRST, time.monotonic()
        self._warm = trainer.global_step + _WARM_UP
        self._since: tuple[int, float] | None = None  # the step and the time from which on the speed is measured
        self._said = False  # how long it will take
        self._start(trainer)

    def _has_room(self) -> bool:
        """Whether the output is one that shows a bar."""
        return self._console.is_terminal or bool(self._console.is_jupyter and find_spec("ipywidgets"))

    def _start(self, trainer: Trainer) -> None:
        """Start the bar, where it is this training's to be shown."""
        if self._bar is None and self.speaks() and self._has_room():
            whole = Column(no_wrap=True)  # in a narrow terminal the terms give way
            self._bar = Progress(
                TextColumn("Training"),
                BarColumn(bar_width=12, table_column=whole),
                MofNCompleteColumn(table_column=whole),
                _TermsColumn(),
                TimeElapsedColumn(table_column=whole),
                TextColumn("left"),
                TimeRemainingColumn(table_column=whole),
                console=self._console,
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=trainer.global_step, terms=_Terms())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if not trainer.is_global_zero or not self._is_new_step(trainer) or not self.speaks():
            return
        self._start(trainer)
        if self._since is None and step >= self._warm:
            self._since = step, time.monotonic()
        if self._bar is not None:
            if not self._said and step >= self._first and (left := self._left(step)):
                self._said = True
                self._console.print(
                    f"About {left} to go, by the first {_FIRST} steps; drawing and scoring come on top", soft_wrap=True
                )
            self._bar.update(self._task, completed=step)
            if step % trainer.log_every_n_steps == 0:  # the terms change no more often, and a GPU waits to read them
                self._bar.update(self._task, terms=self._terms(trainer))
        elif self._has_something_to_say(step):
            of = f" of {self._total:,}" if self._total else ""
            words = [f"step {step:,}{of}", *self._terms(trainer)]
            if left := self._left(step):
                words.append(f"{left} left")
            self._console.print(_SPACE.join(words), soft_wrap=True)
            self._first, self._spoke = None, time.monotonic()

    def _has_something_to_say(self, step: int) -> bool:
        due = self._total is not None and step % self._lines_every == 0
        return due or (self._first is not None and step >= self._first) or time.monotonic() - self._spoke >= _SECONDS

    def _left(self, step: int) -> str | None:
        """Say how long the rest takes at the speed so far; None where that isn't known."""
        if self._total is None or self._since is None or step <= self._since[0]:
            return None
        since, start = self._since
        seconds = (self._total - step) * (time.monotonic() - start) / (step - since)
        for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
            if seconds >= 2 * size:
                return f"{seconds / size:.0f} {unit}"
        return f"{seconds:.0f} s"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @staticmethod
    def _steps(trainer: Trainer) -> int | None:
        steps = trainer.estimated_stepping_batches
        return int(steps) if steps != float("inf") else None

    @staticmethod
    def _terms(trainer: Trainer) -> _Terms:
        logged = trainer.logged_metrics
        named = {name.removeprefix("train/"): value for name, value in logged.items() if name.startswith("train/")}
        speed = named.pop("images_per_second", None)
        named.pop("learning_rate", None)
        named = {name: named[name] for name in _MOST_WANTED if name in named} | named
        words = [f"{_SYMBOLS.get(name, name)} {value:.1f}" for name, value in named.items() if "/" not in name]
        return _Terms(words if speed is None else [*words, f"{speed:,.0f} images/s"])
