"""β-VAE: unsupervised disentangling with PyTorch Lightning."""

import os
from importlib.util import find_spec

# A notebook names its own drawing backend to every program that it starts. Where the program's environment lacks it,
# matplotlib can't be imported, and neither can Lightning.
_backend = os.environ.get("MPLBACKEND", "")
if _backend.startswith("module://") and find_spec(_backend.removeprefix("module://").partition(".")[0]) is None:
    del os.environ["MPLBACKEND"]
