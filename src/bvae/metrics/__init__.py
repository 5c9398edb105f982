"""Scores of codes against factors: pure functions of arrays, usable with any model."""

from bvae.metrics.mig import mutual_information_gap
from bvae.metrics.mutual_information import discretize, entropy, mutual_information

__all__ = ["discretize", "entropy", "mutual_information", "mutual_information_gap"]
