"""Optimizers that PyTorch lacks."""

from bvae.optimizers.muon import Muon, orthogonalized

__all__ = ["Muon", "orthogonalized"]
