"""When to draw, to show progress, to save and to stop."""

from bvae.callbacks.checkpoint import StepCheckpoint
from bvae.callbacks.information import InformationCheck
from bvae.callbacks.interrupt import GracefulInterrupt
from bvae.callbacks.last import LastCheckpoint
from bvae.callbacks.monitors import Monitors, NotLogged
from bvae.callbacks.pictures import LatentPictures
from bvae.callbacks.progress import StepProgress
from bvae.callbacks.start import StartAtMean
from bvae.callbacks.throughput import Throughput
from bvae.callbacks.wake import WakeIdleUnits

__all__ = [
    "GracefulInterrupt",
    "InformationCheck",
    "LastCheckpoint",
    "LatentPictures",
    "Monitors",
    "NotLogged",
    "StartAtMean",
    "StepCheckpoint",
    "StepProgress",
    "Throughput",
    "WakeIdleUnits",
]
