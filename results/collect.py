"""Keep what a finished run has found, small enough for the repository, and list it in results/README.md.

python results/collect.py outputs/2026-11-25/18-00-00-000000 conv-annealed-seed0
python results/collect.py                                    # write the list anew
"""

from __future__ import annotations

import csv
import json
import shutil
import statistics
import sys
from pathlib import Path

import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bvae.runs.metrics_table import metrics_table

RESULTS = Path(__file__).parent
KEPT = ("latents.csv", "scores.json", "traversals.png", "traversals.gif", "reconstructions.png")
SPEED = "train/images_per_second"
CURVES = {
    "reconstruction (nats)": ("train/reconstruction",),
    "KL and C (nats)": ("train/kl", "train/capacity"),
    "KL of each unit (nats)": tuple(f"train/kl_unit/{unit}" for unit in range(10)),
    "MIG": ("scores/mig",),
}
SCORES = ("mig", "dci_disentanglement", "sap", "modularity", "beta_vae_score", "factor_vae_score")

INTRODUCTION = """\
# Results

Every run that was made with these settings, none left out; the command beside each, with OMP_NUM_THREADS=1, makes its
numbers again, and `python results/collect.py <run> <name>` copied them here. Scores are of all 737,280 images, each
with its protocol in `scores.json`; DCI is the fast learner's (`metrics=fast`). Minutes are those of all steps at their
median speed, on one thread of a shared machine with two cores, both at work. Rounding alone moves the end of a run, so
another processor gives other numbers: the annealed runs whose names end in -b were made on a second one, as were the
conv-free-bits runs that go on from them, and the quick-seed runs on a third. All but the latter were made on earlier
code, when `experiment=quick` had ReLU; with that, today's trains to the same bits. `outputs/quick-0` stands for the
folder of conv-annealed-seed0-b, `outputs/mlp-quick-0` for that of mlp-annealed-seed0."""


def keep(run: Path, folder: Path) -> None:
    """Copy the run's table, scores and pictures, its command and its curves."""
    folder.mkdir(exist_ok=True)
    for name in KEPT:
        shutil.copy(run / name, folder / name)
    overrides = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    own = [o for o in overrides if not o.startswith(("hydra.", "data.cache_dir=", "output_dir=", "logger"))]
    cfg = yaml.safe_load((run / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
    speed = statistics.median(metrics_table(run / "metrics.csv")[SPEED].values)
    seconds = cfg["trainer"]["max_steps"] * cfg["data"]["batch_size"] / speed
    about = {"command": f"python train.py {' '.join(own)}", "minutes": round(seconds / 60, 1)}
    (folder / "run.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    curves(run / "metrics.csv", folder / "curves.png")


def curves(metrics: Path, picture: Path) -> None:
    table = metrics_table(metrics)
    figure = Figure(figsize=(11, 2.4), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(CURVES)), CURVES.items(), strict=True):
        for name in names:
            if name in table:
                axes.plot(*table[name], linewidth=0.8)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    figure.savefig(picture, dpi=100)


def row(folder: Path) -> str:
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    with (folder / "latents.csv").open(newline="", encoding="utf-8") as file:
        units = list(csv.DictReader(file))
    active = [unit for unit in units if unit["active"] == "True"]
    idle = [float(unit["variance"]) for unit in units if unit["active"] != "True"]
    cells = (
        f"[{folder.name}](#{folder.name})",
        f"`{about['command']}`",
        str(about["minutes"]),
        "<br>".join(f"{u['factor']} {float(u['variance']):.5f} {float(u['correlation']):+.2f}" for u in active),
        f"{min(idle):.3f}" if idle else "–",
        *("–" if value is None else f"{value:.3f}" for value in (scores.get(n, {}).get("value") for n in SCORES)),
    )
    return f"| {' | '.join(cells)} |"


def pictures(folder: Path) -> list[str]:
    name = folder.name
    links = (f"[{file}]({name}/{file})" for file in ("traversals.gif", "latents.csv", "scores.json"))
    return [
        f"## {name}",
        *(f"![{picture}]({name}/{picture})" for picture in ("traversals.png", "reconstructions.png", "curves.png")),
        ", ".join(links),
    ]


def listing() -> str:
    """The README's text: a row a run, and its pictures below."""
    folders = sorted(path.parent for path in RESULTS.glob("*/run.json"))
    columns = ("run", "command", "minutes", "active units: factor, variance, r", "least idle variance", *SCORES)
    table = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *map(row, folders)]
    return (
        "\n\n".join((INTRODUCTION, "\n".join(table), *(line for folder in folders for line in pictures(folder)))) + "\n"
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        keep(Path(sys.argv[1]), RESULTS / sys.argv[2])
    (RESULTS / "README.md").write_text(listing(), encoding="utf-8")
