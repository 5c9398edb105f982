"""A run's callbacks: those of its configuration, checked, and those that every run has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer, WeightAveraging

from bvae.callbacks import LastCheckpoint, Monitors, WakeIdleUnits
from bvae.runs import job as jobs


def checked(callbacks: Mapping[str, Any]) -> dict[str, Callback]:
    """Return a configuration's callbacks by name; raises ValueError for what is none, and for two that wake units."""
    for name, callback in callbacks.items():
        if not isinstance(callback, Callback):
            raise ValueError(f"callbacks.{name} must be a callback, or null to do without, got {callback!r}")
    waking = [name for name, callback in callbacks.items() if isinstance(callback, WakeIdleUnits)]
    if len(waking) > 1:
        raise ValueError(f"one callback wakes units, got callbacks.{' and callbacks.'.join(waking)}")
    return dict(callbacks)


def with_own(callbacks: Iterable[Callback], folder: Path) -> list[Callback]:
    """Add the callbacks that every run has, which save into a folder, to those of its configuration."""
    callbacks = list(callbacks)
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:  # Lightning would ask the first logger
            callback.dirpath = str(folder)
    of_training = [callback for callback in callbacks if str(getattr(callback, "monitor", None)).startswith("train/")]
    # At its end a training gets averaged weights, which the last checkpoint is to have beside its own.
    averaging = [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
    others = [callback for callback in callbacks if callback not in averaging]
    return [*others, *([Monitors(of_training)] if of_training else []), LastCheckpoint(folder), *averaging]


def let_go_on(callbacks: Iterable[Any], output: Path) -> None:
    """Let what ended a finished run, its time or its early stopping, count anew as it goes on."""
    before = jobs.read(output)
    if before is None or before.status != "finished":
        return
    for callback in callbacks:
        if isinstance(callback, (EarlyStopping, Timer)):
            callback.load_state_dict = lambda state: None


def check_monitors(callbacks: Mapping[str, Callback], datamodule: LightningDataModule) -> None:
    """Raise ValueError for a callback that watches a validation that never comes."""
    if getattr(datamodule, "held_out", None) != 0:
        return
    for name, callback in callbacks.items():
        monitor = str(getattr(callback, "monitor", None))
        if monitor.startswith("val/"):
            raise ValueError(
                f"callbacks.{name}.monitor={monitor} is never logged, as no images are held out: use "
                f"data.val_fraction=0.1, or monitor {monitor.replace('val/', 'train/', 1)}"
            )
