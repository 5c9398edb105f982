"""README and docs/ are current: their Python runs, their commands compose, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning import Trainer

from bvae import Training, losses
from bvae.architectures import ConvDecoder, ConvEncoder

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
LINKED = [
    *PAGES,
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "results/README.md", "benchmarks/README.md")),
]
TARGETS = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def script(stem: str):
    """A script of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(stem, DOCS / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for kind, text in found if kind == language]


def commands(page: Path) -> list[str]:
    """The lines of its shell blocks, and the commands within its text."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "") for line in block.splitlines()]
    inline = re.findall(
        r"`(python (?:train|evaluate)\.py [^`]+|make [^`]+)`",
        re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE),
    )
    return [line for line in (*lines, *inline) if re.match(r"(python (train|evaluate)\.py|make) .*[^=]$", line)]


PYTHON = [page for page in PAGES if blocks(page, "python") and page.stem != "tutorial"]


@pytest.mark.parametrize("page", PYTHON, ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch, cache_dir, capsys):
    monkeypatch.setenv("BVAE_CACHE_DIR", str(cache_dir))
    rng = np.random.default_rng(0)
    factors = rng.integers((3, 6, 40, 32, 32), size=(2_000, 5))
    np.savez(tmp_path / "codes.npz", codes=rng.normal(size=(2_000, 10)), factors=factors, kl=rng.random(10))
    trainer = Trainer(logger=False, accelerator="cpu")
    trainer.strategy.connect(Training(ConvEncoder(), ConvDecoder(), losses.Beta()))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    given = {name: getattr(losses, name) for name in ("Context", "Loss", "Sample")}
    given |= {
        "nn": torch.nn,
        "Tensor": torch.Tensor,
        "linear": losses.schedules.linear,
        "images": torch.rand(8, 1, 64, 64),
    }
    if page.stem == "own-images":
        given |= {"images": rng.random((64, 32, 32, 3)), "factors": rng.integers(4, size=(64, 2))}
    for block in blocks(page, "python"):
        short = re.sub(r"max_steps=[\d_]+", "max_steps=1, logger=False, enable_checkpointing=False", block)
        short = short.replace("outputs/…/codes.npz", str(tmp_path / "codes.npz"))
        short = short.replace("outputs/…", str(tmp_path / "model.ckpt"))
        exec(compile(short, name(page), "exec"), given)
        printed = [float(number) for number in re.findall(r"\d\.\d+", capsys.readouterr().out)]
        promised = [float(number) for number in re.findall(r"\)  # (\d\.\d+)$", block, re.MULTILINE)]
        assert printed[: len(promised)] == pytest.approx(promised, abs=0.006)


def test_commands_compose(tmp_path):
    """Each override of each command is a key, and the first of a sweep's values a choice."""
    for block in (block for page in PAGES for block in blocks(page, "yaml")):  # of a choice that a page adds
        file = tmp_path / re.match("# conf/(.*)", block)[1]
        file.parent.mkdir(parents=True)
        file.write_text(block, encoding="utf-8")
    configurations = {}
    for line in sorted({line for page in PAGES for line in commands(page)}):
        program, *words = shlex.split(line.replace("…", "some"), comments=True)
        if program == "make":
            assert {word for word in words if re.fullmatch("[a-z-]+", word)} <= set(TARGETS), line
            overrides = [word for part in words if part.startswith("ARGS=") for word in shlex.split(part[5:])]
            if "train" not in words or not overrides:
                continue
            words = ["train.py", "experiment=quick", *overrides]
        config = "config" if words[0] == "train.py" else "evaluate"
        typed = [word for word in words[1:] if not word.startswith("-") and word not in ("some", "job")]
        choices, values = [], {}
        for override in OverridesParser.create().parse_overrides(typed):
            value = override.input_line
            if override.is_sweep_override():
                value = f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
            if (ROOT / "conf" / override.key_or_group).is_dir() or override.key_or_group.startswith("hydra/"):
                choices.append(value)
            else:
                values[override.key_or_group] = value
        lines, keys = configurations.setdefault((config, *sorted(choices)), ([], {}))
        lines.append(line)
        keys.update(values)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for (config, *choices), (lines, keys) in configurations.items():  # at once what chooses the same: half a second
            try:
                compose(config, [*choices, *keys.values(), f"hydra.searchpath=[file://{tmp_path}]"])
            except Exception as error:
                pytest.fail("\n".join([*lines, str(error)]))


def test_the_environment_is_named_before_python():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.index("source .venv/bin/activate") < readme.index("python train.py")
    assert len(readme.splitlines()) <= 135


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", re.sub(r"\]\(.*?\)", "", heading).lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_configuration_page_is_current():
    page = script("make_configuration")
    assert page.page() == page.PAGE.read_text(encoding="utf-8"), "make configuration writes it anew"


def test_site_shows_every_page():
    nav = set(re.findall(r'= "([^"]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8")))
    assert {name(page) for page in PAGES} <= nav
    assert all((ROOT / page).exists() for page in nav if not page.startswith("api/"))


def test_notebook_holds_the_tutorial():
    cells = script("make_notebook").notebook((DOCS / "tutorial.md").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code == [block.strip() for block in blocks(DOCS / "tutorial.md", "python")]
    text = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert "```python" not in "".join(text)
    assert all(part.count("<details") == part.count("</details>") for part in text), "a cell tears an answer apart"


@pytest.mark.slow
def test_notebook_runs(monkeypatch, cache_dir):
    """From top to bottom, but for the training's length."""
    monkeypatch.setenv("BVAE_CACHE_DIR", str(cache_dir))
    monkeypatch.setenv("BVAE_TUTORIAL_STEPS", "8")
    monkeypatch.setenv("MPLBACKEND", "agg")
    given: dict = {}
    for cell in script("make_notebook").notebook((DOCS / "tutorial.md").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "tutorial.md", "exec"), given)
    assert given["metrics"].mutual_information_gap(given["turned"], given["classes"]) < 0.02
