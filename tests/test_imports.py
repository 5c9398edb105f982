"""Who may import whom: the rule of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "bvae"
SMALL = {"checks", "files", "received", "terminal"}  # which everybody may import
ALLOWED = {
    "app": {
        "data",
        "callbacks",
        "captured",
        "checkpoints",
        "evaluation",
        "loggers",
        "losses",
        "model",
        "random_states",
        "report",
        "runs",
        "together",
        "training",
    },
    "architectures": set(),
    "bursts": {"model", "training"},
    "callbacks": {"checkpoints", "evaluation", "loggers", "losses", "metrics", "model"},
    "captured": {"bursts", "losses", "training"},
    "checkpoints": {"architectures", "model"},
    "data": set(),
    "evaluation": {"data", "losses", "metrics", "model"},
    "interval_means": set(),
    "loggers": {"evaluation", "runs"},
    "losses": set(),
    "metrics": set(),
    "model": {"losses"},
    "optimizers": set(),
    "random_states": set(),
    "report": {"data", "evaluation", "metrics", "model", "runs"},
    "runs": set(),
    "stacked": {"architectures"},
    "together": {"bursts", "losses", "model", "random_states", "stacked", "training"},
    "training": {"checkpoints", "interval_means", "losses", "model", "random_states"},
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
HOUSE = [path for path in MODULES if part(path) not in SMALL]


@pytest.mark.parametrize("path", HOUSE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_part_imports_only_what_it_may(path):
    parts = {name.split(".")[1] for name in imports(path) if name.startswith("bvae.")}
    assert parts <= ALLOWED[part(path)] | {part(path)} | SMALL


def test_only_the_app_knows_hydra_and_only_the_loggers_know_wandb():
    for path in MODULES:
        tops = {name.split(".")[0] for name in imports(path)}
        assert not {"hydra", "omegaconf"} & tops or part(path) == "app", path
        assert "wandb" not in tops or part(path) == "loggers", path


def test_importing_the_package_is_cheap_and_its_names_come_when_they_are_used():
    program = """if True:
        import sys, bvae
        print(sorted({"torch", "lightning", "sklearn", "numpy", "hydra", "wandb"} & set(sys.modules)))
        print(bvae.VAE.__name__, bvae.load.__name__, bvae.metrics.mutual_information_gap.__name__, bvae.__version__)
        print(sorted({"hydra", "wandb"} & set(sys.modules)), all(hasattr(bvae, name) for name in bvae.__all__))
    """
    job = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert job.stdout.splitlines() == ["[]", f"VAE load mutual_information_gap {version('bvae')}", "[] True"], (
        job.stderr
    )


def test_the_command_line_answers_without_the_heavy_imports():
    program = "import sys, train; print(sorted({'torch', 'lightning', 'wandb', 'matplotlib'} & set(sys.modules)))"
    job = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert job.stdout.strip() == "[]"
