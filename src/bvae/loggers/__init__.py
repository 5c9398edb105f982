"""Where a run is logged: metrics.csv, Weights & Biases, TensorBoard."""

from bvae.loggers.evaluation import log_evaluation, log_report
from bvae.loggers.metrics_file import MetricsFile, rewind
from bvae.loggers.wandb import WandbRun, finish_wandb, record_wandb_run, wandb_run_of, wandb_settings

__all__ = [
    "MetricsFile",
    "WandbRun",
    "finish_wandb",
    "log_evaluation",
    "log_report",
    "record_wandb_run",
    "rewind",
    "wandb_run_of",
    "wandb_settings",
]
