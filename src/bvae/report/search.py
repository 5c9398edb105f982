"""The plots of an Optuna search: its history, how much each key matters, and the trials in parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from bvae.evaluation.numbers import significant
from bvae.evaluation.scores import label_of
from bvae.report.plots import GREY, INK, Plot, colour, plot
from bvae.runs.job import Study


class Search(NamedTuple):
    """The trials of a study, those of earlier commands too."""

    score: str  # that it optimizes
    maximizes: bool
    values: list[float]  # of each trial, NaN where it failed or isn't defined
    settings: list[dict[str, Any]]  # of each trial: what it chose for each key


def read(kept: Study) -> Search:
    """Read the trials of a study."""
    import optuna

    study = optuna.load_study(study_name=kept.name, storage=kept.storage)
    values = [math.nan if trial.value is None else trial.value for trial in study.trials]
    return Search(
        kept.score,
        study.direction == optuna.study.StudyDirection.MAXIMIZE,
        [value if math.isfinite(value) else math.nan for value in values],  # of a score that isn't defined
        [dict(trial.params) for trial in study.trials],
    )


def title(search: Search) -> str:
    """Call the search by what it looks for."""
    return f"Search for {label_of(search.score)}, {len(search.values)} trials"


def plots(search: Search) -> list[Plot]:
    """Draw the search; nothing where the score is defined for none of the trials."""
    if not np.isfinite(search.values).any():
        return []
    drawn = [_history(search)]
    keys = list(dict.fromkeys(key for trial in search.settings for key in trial))
    if len(keys) > 1 and np.isfinite(search.values).sum() > 1:
        drawn += [_importance(search, keys), _parallel(search, keys)]
    return drawn


def _history(search: Search) -> Plot:
    values = np.array(search.values, dtype=float)
    best = (np.fmax if search.maximizes else np.fmin).accumulate(values)

    def draw(axes: Axes) -> None:
        axes.plot(values, "o", ms=3.5, color=colour(0))
        axes.step(range(len(best)), best, where="post", linewidth=1.2, color=colour(1))
        axes.set_xlabel("trial")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))

    found = f"the best {significant(float(best[-1]), 3)}"
    legend = [(colour(0), "trial"), (colour(1), "best so far")]
    return plot(f"{label_of(search.score)} by trial", f"{search.score} of {len(values)} trials, {found}", draw, legend)


def _importance(search: Search, keys: Sequence[str]) -> Plot:
    """How much each key matters, by how far splits on it lower the impurity of a random forest.

    Optuna's importances fail, in its version 2, with NumPy of today.
    """
    from sklearn.ensemble import RandomForestRegressor  # here, as it takes a second

    defined = np.isfinite(search.values)
    chosen = np.stack([_placed([trial.get(key) for trial in search.settings])[0] for key in keys], axis=1)
    forest = RandomForestRegressor(random_state=0)
    forest.fit(np.nan_to_num(chosen[defined], nan=-1.0), np.array(search.values)[defined])
    ordered = sorted(zip(keys, forest.feature_importances_.tolist(), strict=True), key=lambda item: item[1])

    def draw(axes: Axes) -> None:
        axes.barh([key for key, _ in ordered], [share for _, share in ordered], color=colour(0), height=0.6)
        axes.set_xlim(0, 1)

    shares = ", ".join(f"{key} {share:.2f}" for key, share in reversed(ordered))
    return plot("Importance of each key (random forest)", f"Importance: {shares}", draw)


def _parallel(search: Search, keys: Sequence[str]) -> Plot:
    """A line a trial over an axis a key and the score's, coloured by the score."""
    places = {key: _placed([trial.get(key) for trial in search.settings]) for key in keys}
    score = _placed(search.values)
    best = int(np.nanargmax(search.values) if search.maximizes else np.nanargmin(search.values))

    def draw(axes: Axes) -> None:
        colours = matplotlib.colormaps["viridis"]
        for trial in np.flatnonzero(np.isfinite(search.values)).tolist():
            heights = [*(heights[trial] for heights, _ in places.values()), score[0][trial]]
            shade = colours(score[0][trial] if search.maximizes else 1 - score[0][trial])
            width, line = (2.2, INK) if trial == best else (0.9, shade)
            axes.plot(heights, color=line, lw=width, zorder=3 if trial == best else 2)
        for n, (_, (low, high)) in enumerate([*places.values(), score]):
            axes.axvline(n, color=GREY, lw=0.8, zorder=1)
            axes.text(n, -0.04, low, ha="center", va="top", fontsize=7.5)
            axes.text(n, 1.03, high, ha="center", va="bottom", fontsize=7.5)
        axes.set_xticks(range(len(keys) + 1), [*(key.rpartition(".")[2] for key in keys), label_of(search.score)])
        axes.tick_params(axis="x", length=0, pad=14)
        axes.set_yticks([])
        axes.spines[:].set_visible(False)

    chosen = ", ".join(f"{key}={_short(value)}" for key, value in search.settings[best].items())
    return plot("Trials, the best in ink", f"The best trial, {best}, has {chosen}", draw)


def _placed(values: Sequence[Any]) -> tuple[np.ndarray, tuple[str, str]]:
    """Place values on an axis from 0 to 1, logarithmic where they span decades, and say what stands at its ends."""
    if not all(isinstance(value, (int, float)) for value in values if value is not None):
        names = list(dict.fromkeys(str(value) for value in values))
        heights = np.array([names.index(str(value)) for value in values]) / max(len(names) - 1, 1)
        return heights, (names[0], names[-1])
    numbers = np.array([math.nan if value is None else value for value in values], dtype=float)
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    ends = _short(float(low)), _short(float(high))
    if low > 0 and high >= 10 * low:
        numbers, low, high = np.log(numbers), np.log(low), np.log(high)
    return (numbers - low) / ((high - low) or 1.0), ends


def _short(value: Any) -> str:
    return significant(float(value), 3) if isinstance(value, (int, float)) else str(value)
