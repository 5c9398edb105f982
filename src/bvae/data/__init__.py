"""Datasets: what one is, the one LightningDataModule that serves them, and dSprites."""

from bvae.data.cached import CachedImages
from bvae.data.datamodule import ImagesDataModule
from bvae.data.dsprites import DSprites, DSpritesDataModule
from bvae.data.dsprites.render import FACTOR_NAMES, FACTOR_SIZES, render
from bvae.data.folder import FolderImages
from bvae.data.image_set import Card, FactorGrid, Factors, ImageSet
from bvae.data.own_arrays import ArrayFile, ArrayImages

__all__ = [
    "FACTOR_NAMES",
    "FACTOR_SIZES",
    "ArrayFile",
    "ArrayImages",
    "CachedImages",
    "Card",
    "DSprites",
    "DSpritesDataModule",
    "FactorGrid",
    "Factors",
    "FolderImages",
    "ImageSet",
    "ImagesDataModule",
    "render",
]
