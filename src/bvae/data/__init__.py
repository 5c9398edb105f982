"""dSprites: rendered, read from or written to its official archives, and served in batches."""

from bvae.data.datamodule import DSpritesDataModule
from bvae.data.dsprites import FACTOR_NAMES, FACTOR_SIZES, render

__all__ = ["FACTOR_NAMES", "FACTOR_SIZES", "DSpritesDataModule", "render"]
