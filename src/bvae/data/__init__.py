"""Datasets: what one is, the one LightningDataModule that serves them, and each of them."""

from bvae.data.cached import CachedImages
from bvae.data.cars3d import Cars3D
from bvae.data.datamodule import ImagesDataModule
from bvae.data.digits import Digits
from bvae.data.dsprites import ColorDSprites, DSprites, DSpritesDataModule, NoisyDSprites, ScreamDSprites
from bvae.data.dsprites.render import FACTOR_NAMES, FACTOR_SIZES, render
from bvae.data.folder import FolderImages
from bvae.data.image_set import Card, FactorGrid, Factors, ImageSet
from bvae.data.mnist import MNIST, FashionMNIST
from bvae.data.mpi3d import MPI3D
from bvae.data.own_arrays import ArrayFile, ArrayImages
from bvae.data.shapes3d import Shapes3D
from bvae.data.smallnorb import SmallNORB

__all__ = [
    "FACTOR_NAMES",
    "FACTOR_SIZES",
    "MNIST",
    "MPI3D",
    "ArrayFile",
    "ArrayImages",
    "CachedImages",
    "Card",
    "Cars3D",
    "ColorDSprites",
    "DSprites",
    "DSpritesDataModule",
    "Digits",
    "FactorGrid",
    "Factors",
    "FashionMNIST",
    "FolderImages",
    "ImageSet",
    "ImagesDataModule",
    "NoisyDSprites",
    "ScreamDSprites",
    "Shapes3D",
    "SmallNORB",
    "render",
]
