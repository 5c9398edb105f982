"""β-VAE: unsupervised disentangling with PyTorch Lightning.

`import bvae` is cheap: `VAE`, `Training`, `load`, `metrics` and `data` are imported where they are first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bvae import data, metrics
    from bvae.checkpoints.load import load
    from bvae.model import VAE
    from bvae.training import Training

__all__ = ["VAE", "Training", "__version__", "data", "load", "metrics"]
__version__ = version("bvae")

# A notebook names its own drawing backend to every program that it starts. Where the program's environment lacks it,
# matplotlib can't be imported, and neither can Lightning.
_backend = os.environ.get("MPLBACKEND", "")
if _backend.startswith("module://") and find_spec(_backend.removeprefix("module://").partition(".")[0]) is None:
    del os.environ["MPLBACKEND"]

_WHERE = {"VAE": "bvae.model", "Training": "bvae.training", "load": "bvae.checkpoints.load"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in ("data", "metrics"):
        return import_module(f"bvae.{name}")
    raise AttributeError(f"module 'bvae' has no attribute {name!r}")
