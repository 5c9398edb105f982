"""Draw the tutorial's pictures: `make pictures`.

Those of training come from a run of some minutes, which is made first where its folder is missing:

    python train.py experiment=quick trainer.max_steps=5000 callbacks.checkpoint.every_n_train_steps=250
        hydra.run.dir=outputs/tutorial logger=csv
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import bvae
from bvae.architectures import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from bvae.data import FACTOR_NAMES, FACTOR_SIZES, render

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
RUN = ROOT / "outputs" / "tutorial"
COMMAND = (
    *("experiment=quick", "trainer.max_steps=5000", "callbacks.checkpoint.every_n_train_steps=250"),
    *(f"hydra.run.dir={RUN}", "logger=csv"),
)
STEPS = (500, 1000, 1500, 2500, 5000)
BLUE, RED = "tab:blue", "tab:red"


def entangled() -> Figure:
    """Draw two independent factors, and a code that is independent too and yet mixes them."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(600, 2))
    turn = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    figure = Figure(figsize=(9, 3.2), dpi=100, layout="constrained")
    panels = figure.subplots(1, 3)
    codes = {
        "the factors": factors,
        "disentangled code": factors[:, ::-1] * [1, -1],
        "entangled code": factors @ turn.T,
    }
    for axes, (title, points) in zip(panels, codes.items(), strict=True):
        axes.scatter(*points.T, c=factors[:, 0], cmap="coolwarm", s=8)
        axes.set(title=title, xlim=(-4, 4), ylim=(-4, 4), aspect="equal", xticks=(), yticks=())
    panels[0].set(xlabel="factor a (the colour)", ylabel="factor b")
    for axes in panels[1:]:
        axes.set(xlabel="unit 0", ylabel="unit 1")
    return figure


def capacity() -> Figure:
    """Draw γ·|KL − C|, and the direction in which its gradient moves the KL on both sides of C."""
    kl = np.linspace(0, 10, 101)
    figure = Figure(figsize=(6, 3), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(kl, kl, color="gray", label="β·KL: always down")
    axes.plot(kl, np.abs(kl - 5) * 2, color=BLUE, label="γ·|KL − C|: towards C")
    for x, y, dx in ((1.5, 8.2, 1.5), (8.5, 8.2, -1.5)):
        axes.annotate("", (x + dx, y - 0.4), (x, y - 0.4), arrowprops={"arrowstyle": "->", "color": BLUE, "lw": 2})
    axes.annotate("", (1.9, 3.2), (3.4, 3.2), arrowprops={"arrowstyle": "->", "color": "gray", "lw": 2})
    axes.set(xlabel="KL (nats)", ylabel="penalty (nats)", xticks=(0, 5, 10), ylim=(0, 11))
    axes.set_xticklabels(("0", "C", ""))
    axes.legend(loc="upper center", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def architectures() -> Figure:
    """Draw both pairs as rows of boxes, whose heights go by the logarithm of how many numbers a layer gives."""
    pairs = {
        "conv": (
            (ConvEncoder(), ConvDecoder()),
            ["1×64×64", "32×32×32", "32×16×16", "32×8×8", "32×4×4", "256", "256"],
            ["256", "256", "32×4×4", "32×8×8", "32×16×16", "32×32×32", "1×64×64"],
        ),
        "mlp": ((MLPEncoder(), MLPDecoder()), ["4096", "1200", "1200"], ["1200", "1200", "1200", "4096"]),
    }
    figure = Figure(figsize=(10, 4.6), dpi=100, layout="constrained")
    for axes, (name, (modules, before, after)) in zip(figure.subplots(2, 1), pairs.items(), strict=True):
        layers = [*before, "mean\n10", *after]
        for n, layer in enumerate(layers):
            size = np.prod([int(part) for part in layer.split()[-1].split("×")])
            height = np.log2(size) / 12
            code = layer.startswith("mean")
            axes.add_patch(Rectangle((n, -height / 2), 0.55, height, color=RED if code else BLUE, alpha=0.6))
            text = "10 means,\n10 log σ²" if code else layer
            axes.text(n + 0.275, -height / 2 - 0.08, text, ha="center", va="top", fontsize=8)
        count = sum(p.numel() for module in modules for p in module.parameters())
        axes.set(xlim=(-0.3, len(layers)), ylim=(-0.85, 0.75))
        axes.set_title(f"{name}: {count:,} parameters", loc="left", fontsize=10)
        axes.axis("off")
    return figure


def factors() -> Figure:
    """Draw each factor of dSprites from its first to its last value, the others in the middle."""
    figure = Figure(figsize=(9, 4.6), dpi=100, layout="constrained")
    middle = [size // 2 for size in FACTOR_SIZES]
    middle[0] = 2  # the heart shows which way up it is
    axes = figure.subplots(len(FACTOR_NAMES), 9)
    for row, (name, size) in enumerate(zip(FACTOR_NAMES, FACTOR_SIZES, strict=True)):
        values = np.linspace(0, size - 1, min(size, 9)).round().astype(int)
        for column in range(9):
            panel = axes[row, column]
            panel.axis("off")
            if column < len(values):
                classes = [*middle[:row], values[column], *middle[row + 1 :]]
                panel.imshow(render(*classes)[0], cmap="gray", vmin=0, vmax=1)
        axes[row, 0].set_title(f"{name}: {size} values", loc="left", fontsize=9)
    return figure


@torch.no_grad()
def turning(run: Path) -> Figure:
    """Draw what the units that end on the positions say of an ellipse at each place, at several steps of training."""
    grid = np.arange(32)
    places = render(1, 3, 0, *(axis.ravel() for axis in np.meshgrid(grid, grid)))  # y by x
    images = torch.from_numpy(places).float()[:, None]
    maps = {}
    for step in STEPS:
        codes = bvae.load(run / "checkpoints" / f"step-{step}.ckpt").encode(images)
        maps[step] = codes.mean.reshape(32, 32, -1).numpy(), codes.log_variance.exp().mean(dim=0).numpy()
    units = np.sort(np.argsort(maps[STEPS[-1]][1])[:2])
    figure = Figure(figsize=(9, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(STEPS))
    for column, (step, (means, _)) in enumerate(maps.items()):
        axes[0, column].set_title(f"step {step:,}", fontsize=10)
        for row, unit in enumerate(units):
            panel = axes[row, column]
            shown = panel.imshow(means[..., unit], cmap="coolwarm", vmin=-2, vmax=2)
            panel.contour(means[..., unit], levels=np.arange(-2, 2.1, 0.5), colors="black", linewidths=0.5)
            panel.set(xticks=(), yticks=())
    for row, unit in enumerate(units):
        axes[row, 0].set_ylabel(f"unit {unit}")
    figure.colorbar(shown, ax=axes, label="posterior mean")
    return figure


def curves(run: Path) -> Figure:
    """Draw the reconstruction and the KL of each unit over the steps, those at the prior in grey."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        lines = {int(line["step"]) + 1: line for line in csv.DictReader(file) if line["train/kl"]}
    steps = sorted(lines)
    figure = Figure(figsize=(9, 3), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [float(lines[step]["train/reconstruction"]) for step in steps], color="black")
    left.set(xlabel="step", title="reconstruction (nats)", ylim=(0, 800))  # the first steps lie far above
    for unit in range(10):
        kl = np.array([float(lines[step][f"train/kl_unit/{unit}"]) for step in steps])
        active = kl[-1] > 0.1
        right.plot(steps, kl, color=None if active else "lightgray", label=f"unit {unit}" if active else None)
    right.set(xlabel="step", title="KL of each unit (nats)")
    right.legend(frameon=False)
    return figure


def main() -> None:
    """Draw them all."""
    PICTURES.mkdir(exist_ok=True)
    drawn = {draw.__name__: draw() for draw in (entangled, capacity, architectures, factors)}
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else RUN
    if not (run / "checkpoints" / f"step-{STEPS[-1]}.ckpt").exists():
        subprocess.run([sys.executable, "train.py", *COMMAND], cwd=ROOT, check=True)
    for name, figure in (drawn | {"turning": turning(run), "curves": curves(run)}).items():
        figure.savefig(PICTURES / f"{name}.png")


if __name__ == "__main__":
    main()
