"""Who may import whom: the rule of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "bvae"
ALLOWED = {
    "allocator": set(),
    "architectures": set(),
    "callbacks": {
        "checkpoints",
        "checks",
        "evaluation",
        "features",
        "history",
        "interrupts",
        "latents",
        "metrics",
        "scores",
    },
    "checkpoints": set(),
    "checks": set(),
    "cli": {"interrupts", "terminal"},
    "data": set(),
    "evaluation": {"features", "latents", "losses", "metrics", "scores", "vae", "visualization"},
    "features": {"vae"},
    "folders": {"cli", "interrupts", "jobs", "targets"},
    "history": set(),
    "interrupts": set(),
    "jobs": set(),
    "latents": {"losses", "metrics", "vae"},
    "losses": {"checks", "schedules"},
    "metrics": set(),
    "optimizers": set(),
    "processes": set(),
    "published": {"architectures", "losses", "vae"},
    "recipes": set(),
    "report": {"evaluation", "history", "jobs", "latents", "metrics", "scores", "vae", "visualization"},
    "schedules": set(),
    "scores": {"metrics"},
    "targets": set(),
    "terminal": set(),
    "vae": {"losses", "recipes"},
    "visualization": {"latents", "vae"},
}


def imports(path: Path) -> set[str]:
    """Every module that the file names in an import."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


MODULES = [path for path in PACKAGE.rglob("*.py") if part(path) != "__init__"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_part_imports_only_what_it_may(path):
    parts = {name.split(".")[1] for name in imports(path) if name.startswith("bvae.")}
    assert parts <= ALLOWED[part(path)] | {part(path)}


def test_only_the_entry_points_and_two_modules_know_hydra_and_only_the_callbacks_know_wandb():
    for path in MODULES:
        tops = {name.split(".")[0] for name in imports(path)}
        assert "hydra" not in tops or part(path) in ("folders", "processes"), path
        assert "wandb" not in tops or part(path) == "callbacks", path


def test_the_command_line_answers_without_the_heavy_imports():
    program = "import sys, train; print(sorted({'torch', 'lightning', 'wandb', 'matplotlib'} & set(sys.modules)))"
    job = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert job.stdout.strip() == "[]"
