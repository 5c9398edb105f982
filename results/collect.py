"""Keep what a finished run has found: a row of results/runs.csv, from which results/README.md is written.

python results/collect.py outputs/2026-11-25/18-00-00-000000 annealed             # its row, under this setting's name
python results/collect.py outputs/2026-11-25/18-00-00-000000 annealed --pictures  # and its table and pictures
python results/collect.py                                                         # write the page anew
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
from pathlib import Path

import yaml
from matplotlib.figure import Figure

from bvae.runs.metrics_table import metrics_table

RESULTS = Path(__file__).parent
KEPT = ("latents.csv", "scores.json", "traversals.png", "reconstructions.png")
SPEED = "train/images_per_second"
SCORES = {
    "mig": "MIG",
    "factor_vae_score": "FactorVAE score",
    "dci_disentanglement": "DCI",
    "sap": "SAP",
    "infom": "InfoM",
    "infoe": "InfoE",
    "infoc": "InfoC",
    "modularity": "modularity",
    "beta_vae_score": "β-VAE score",
}
SHOWN = tuple(SCORES)[:7]
DRAWN = ("mig", "factor_vae_score", "dci_disentanglement")
COLUMNS = ("objective", "setting", "seed", "command", "code", "minutes", "units", "least_idle_variance", *SCORES)

INTRODUCTION = """\
# Results

Every run that was made with these settings, none left out: a row a setting and a dot a seed. A setting's command, with
its seed and OMP_NUM_THREADS=1, makes the numbers again; [runs.csv](runs.csv) has each run's. Of five or more runs the
table has the median, and the quartiles in brackets. Scores are of all 737,280 images, MIG from posterior means in 20
bins; DCI is the random forest's (`metrics=fast`). A unit stands under the factor that it tells best over all shapes,
which of a unit that turns with an ellipse is mostly the shape. Minutes are those of all steps at their median speed, on
one thread of a shared machine with two cores. Rounding alone moves the end of a run, so another processor gives other
numbers. The settings marked † ran on earlier code, on three other processors, and their new scores weren't computed. In
the commands `outputs/annealed-S`, `outputs/quick-S` and `outputs/mlp-quick-S` stand for the folders of *annealed*, of
*annealed, ReLU* and of *annealed, mlp* with that seed."""


def found(run: Path) -> tuple[str, str]:
    """Return a run's active units with factor, variance and correlation, and the least variance of the others."""
    with (run / "latents.csv").open(newline="", encoding="utf-8") as file:
        units = list(csv.DictReader(file))
    active = [unit for unit in units if unit["active"] == "True"]
    idle = [float(unit["variance"]) for unit in units if unit["active"] != "True"]
    names = [f"{u['factor'] or '–'} {float(u['variance']):.5f} {float(u['correlation']):+.2f}" for u in active]
    return "; ".join(names), f"{min(idle):.3f}" if idle else ""


def row_of(run: Path, setting: str) -> dict[str, str]:
    """Read a finished run's row."""
    overrides = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    left_out = ("hydra.", "data.cache_dir=", "output_dir=", "logger", "metrics=", "seed=")
    own = [override for override in overrides if not override.startswith(left_out)]
    cfg = yaml.safe_load((run / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    speed = statistics.median(metrics_table(run / "metrics.csv")[SPEED].values)
    values = {name: scores.get(name, {}).get("value") for name in SCORES}
    units, idle = found(run)
    choices = yaml.safe_load((run / ".hydra" / "hydra.yaml").read_text(encoding="utf-8"))["hydra"]["runtime"]["choices"]
    return {
        "objective": choices["loss"],
        "setting": setting,
        "seed": str(cfg["seed"]),
        "command": f"python train.py {' '.join(own)} metrics=fast",  # whose scores `evaluate.py` may have taken later
        "code": scores["versions"]["bvae"],
        "minutes": f"{cfg['trainer']['max_steps'] * cfg['data']['batch_size'] / speed / 60:.1f}",
        "units": units,
        "least_idle_variance": idle,
        **{name: "" if value is None else f"{value:.6f}" for name, value in values.items()},
    }


def rows() -> list[dict[str, str]]:
    with (RESULTS / "runs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(kept: list[dict[str, str]]) -> None:
    with (RESULTS / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(kept, key=lambda row: (row["setting"], row["command"], int(row["seed"]))))


def grouped_by(key: str, runs: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    grouped: dict[str, list[dict[str, str]]] = {}
    for run in runs:
        grouped.setdefault(run[key], []).append(run)
    return grouped


def draw(settings: dict[str, list[dict[str, str]]], path: Path) -> None:
    """Draw a dot a seed for the three scores that papers report, a row a setting of an objective."""
    figure = Figure(figsize=(9, 0.8 + 0.27 * len(settings)), layout="constrained")
    for axes, score in zip(figure.subplots(1, len(DRAWN), sharey=True), DRAWN, strict=True):
        for place, runs in enumerate(settings.values()):
            values = [float(run[score]) for run in runs if run[score]]
            axes.plot(values, [place] * len(values), "o", color="C0", alpha=0.6, markersize=5)
        axes.set_title(f"{SCORES[score]} ↑", fontsize=10)
        axes.set_xlim(0, 1)  # of every objective alike
        axes.grid(axis="x", alpha=0.3)
    axes.set_yticks(range(len(settings)), list(settings), fontsize=9)
    axes.set_ylim(len(settings) - 0.5, -0.5)
    figure.savefig(path, dpi=110)


def in_short(values: list[str]) -> str:
    """Write a score of a few seeds one by one, of five or more as their median with the quartiles."""
    known = [float(value) for value in values if value]
    if not known:
        return "–"
    if len(known) < 5:
        return ", ".join(f"{float(value):.3f}" if value else "–" for value in values)
    low, median, high = statistics.quantiles(known, method="inclusive")
    return f"{median:.3f} ({low:.3f}–{high:.3f})"


def page(runs: list[dict[str, str]]) -> str:
    """Write the page: a row a setting, each objective's figure and commands, and the pictures of the runs kept."""
    columns = ("setting", "seeds", "minutes", *(SCORES[name] for name in SHOWN))
    table = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for setting, seeds in grouped_by("setting", runs).items():
        scores = (in_short([run[name] for run in seeds]) for name in SHOWN)
        minutes = [float(run["minutes"]) for run in seeds]
        cells = (
            ", ".join(run["seed"] for run in seeds),
            "–".join(dict.fromkeys(f"{m:.0f}" for m in (min(minutes), max(minutes)))),
            *scores,
        )
        table.append(f"| {setting} | {' | '.join(cells)} |")
    objectives = []
    for objective, own in grouped_by("objective", runs).items():
        listed = []
        for setting, seeds in grouped_by("setting", own).items():
            listed.append(f"- {setting}: `{seeds[0]['command']} seed=S`")
            for run in seeds:
                drawn = ", ".join(f"{float(run[name]):.3f}" for name in DRAWN)
                listed.append(f"    - seed {run['seed']}: {drawn}; {run['units'] or 'no active unit'}")
        picture = f"![MIG, FactorVAE score and DCI of every seed](scores-{objective}.png)"
        objectives.append(f"## `loss={objective}`\n\n{picture}\n\n" + "\n".join(listed))
    shown = [Path(kept) for kept in KEPT if kept.endswith(".png")]
    pictures = [
        f"## {folder.name}\n\n"
        + "\n\n".join(f"![{kept.stem.capitalize()} of {folder.name}]({folder.name}/{kept})" for kept in shown)
        for folder in sorted(path.parent for path in RESULTS.glob("*/scores.json"))
    ]
    parts = (
        INTRODUCTION,
        "\n".join(table),
        "Each objective's commands, and each seed's MIG, FactorVAE score, DCI and active units (factor, variance, "
        "correlation):",
        *objectives,
        *pictures,
    )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("setting", nargs="?")
    parser.add_argument("--pictures", action="store_true", help="keep the run's table and pictures too")
    asked = parser.parse_args()
    if asked.run is not None:
        new = row_of(asked.run, asked.setting)
        write([row for row in rows() if any(row[key] != new[key] for key in ("setting", "seed", "command"))] + [new])
        if asked.pictures:
            folder = RESULTS / f"{asked.setting.replace(' ', '-')}-seed{new['seed']}"
            folder.mkdir(exist_ok=True)
            for name in KEPT:
                shutil.copy(asked.run / name, folder / name)
    runs = rows()
    for objective, own in grouped_by("objective", runs).items():
        draw(grouped_by("setting", own), RESULTS / f"scores-{objective}.png")
    (RESULTS / "README.md").write_text(page(runs), encoding="utf-8")


if __name__ == "__main__":
    main()
