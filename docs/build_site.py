"""Gather the documentation's pages and build the site from them, strictly: `make docs`.

The pages keep the places that they have in the checkout, so that a link between two of them holds in both. The API
reference is made from the docstrings of what each package exports.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "build" / "site-source"
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")
FOLDERS = ("docs", "results")
PACKAGES = ("losses", "architectures", "optimizers", "data", "metrics", "evaluation")
TOP = ("bvae.load", "bvae.model.VAE", "bvae.training.Training")


def gather() -> None:
    """Copy the pages, their pictures and tables, and write the API's pages."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for page in PAGES:
        (SOURCE / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, SOURCE / page)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, SOURCE / folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    api = SOURCE / "api"
    api.mkdir()
    (api / "bvae.md").write_text("# bvae\n\n" + "".join(reference(name) for name in TOP), encoding="utf-8")
    for package in PACKAGES:
        text = f"# bvae.{package}\n\n" + reference(f"bvae.{package}", exported=True)
        (api / f"{package}.md").write_text(text, encoding="utf-8")


def reference(name: str, exported: bool = False) -> str:
    """Ask mkdocstrings for an object, or for what a package exports."""
    if exported:
        return f"::: {name}\n"
    return f"::: {name}\n    options:\n      show_root_heading: true\n      show_root_toc_entry: true\n\n"


if __name__ == "__main__":
    gather()
    sys.exit(subprocess.call([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=ROOT))
