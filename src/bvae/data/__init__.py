"""Datasets: what one is, the one LightningDataModule that serves them, and dSprites."""

from bvae.data.datamodule import ImageDataModule
from bvae.data.dsprites import DSprites, DSpritesDataModule
from bvae.data.dsprites.render import FACTOR_NAMES, FACTOR_SIZES, render
from bvae.data.image_set import FactorGrid, ImageSet

__all__ = [
    "FACTOR_NAMES",
    "FACTOR_SIZES",
    "DSprites",
    "DSpritesDataModule",
    "FactorGrid",
    "ImageDataModule",
    "ImageSet",
    "render",
]
