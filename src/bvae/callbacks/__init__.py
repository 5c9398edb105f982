"""When to draw, what to log, how to stop."""

from bvae.callbacks.checkpoint import StepCheckpoint
from bvae.callbacks.information import InformationCheck
from bvae.callbacks.interrupt import GracefulInterrupt
from bvae.callbacks.loggers import WandbRun, finish, log_evaluation, quiet, remember_run, run_of, wandb_settings
from bvae.callbacks.metrics_file import MetricsFile, go_back
from bvae.callbacks.pictures import LatentPictures
from bvae.callbacks.progress import StepProgress
from bvae.callbacks.throughput import Throughput

__all__ = [
    "GracefulInterrupt",
    "InformationCheck",
    "LatentPictures",
    "MetricsFile",
    "StepCheckpoint",
    "StepProgress",
    "Throughput",
    "WandbRun",
    "finish",
    "go_back",
    "log_evaluation",
    "quiet",
    "remember_run",
    "run_of",
    "wandb_settings",
]
