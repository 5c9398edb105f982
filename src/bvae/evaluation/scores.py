"""A run's scores: computed one by one, and written with the protocol that makes them comparable."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from torch import Tensor

from bvae.data.image_set import Factors
from bvae.evaluation.numbers import readable
from bvae.files import atomic_write
from bvae.metrics import Codes, CodesMetric
from bvae.metrics.arrays import is_continuous
from bvae.received import damaged
from bvae.received import read_json as read_object
from bvae.terminal import console, shown

_NO_SCORES = ("source", "terms", "versions")  # of what a scores.json holds
_FEWEST = 20  # images with all labels that a score takes, where some images have not all
_RARE = 10  # rows of a class, below which it is told apart by chance
_UNDEFINED = "can't be computed"
_BETTER = {True: " ↑", False: " ↓", None: ""}
_TITLES = {  # as papers write them; another score's is its name
    **{"mig": "MIG", "mig_active": "MIG of active units", "mig_sampled": "MIG of samples", "mig_sup": "MIG-sup"},
    **{"dcimig": "DCIMIG", "jemmig": "JEMMIG", "infom": "InfoM", "infoe": "InfoE", "infoc": "InfoC", "sap": "SAP"},
    **{f"dci_{part}": f"DCI {part}" for part in ("disentanglement", "completeness", "informativeness")},
    **{"irs": "IRS", "beta_vae_score": "β-VAE score", "factor_vae_score": "FactorVAE score", "udr": "UDR", "kl": "KL"},
}
_NUMBER = (int, float, type(None))
_KINDS: dict[str, Any] = {"value": _NUMBER, "protocol": str, "n": int, "seed": (int, type(None)), "seconds": _NUMBER}
_VERSIONS = ("bvae", "torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Score:
    """A number, and what is needed to compute it again."""

    name: str
    value: float  # an int for a count, NaN where it can't be computed
    protocol: str
    n: int  # rows of codes
    seed: int | None  # of what is drawn at random, where something is
    seconds: float  # that it took, shared by the scores of one metric
    higher_is_better: bool | None = None
    chance: float | None = None  # what codes that tell nothing score, where that is known


@dataclass(frozen=True)
class Scoring:
    """Which scores are computed when, each metric by the name that its score gets; None does without."""

    sample: Mapping[str, CodesMetric | None] | None = None  # of some images, while the model trains
    every_image: Mapping[str, CodesMetric | None] | None = None  # of all, at the end; in place of the sample's
    encode_every_image_from: int | None = None  # steps of a training, from which on that is done for position maps too

    def __post_init__(self) -> None:
        for key, metrics in (("metrics.sample", self.sample), ("metrics.every_image", self.every_image)):
            if not isinstance(metrics, Mapping | None):
                raise ValueError(
                    f"{key} must have metrics by the names of their scores, or null for none, got {metrics!r}"
                )
            for name, metric in (metrics or {}).items():
                if not isinstance(metric, CodesMetric | None):
                    raise ValueError(f"{key}.{name} must be a metric, or null to do without, got {metric!r}")

    @property
    def final(self) -> Mapping[str, CodesMetric | None]:
        """The metrics at the end of a training."""
        return self.every_image or self.sample or {}

    def encodes_every_image(self, step: int, factors: Factors | None) -> bool:
        """Whether every image is encoded at the end of a training of so many steps."""
        is_long = self.encode_every_image_from is not None and step >= self.encode_every_image_from
        return bool(self.every_image) or (is_long and factors is not None and len(factors.positions) == 2)


NO_SCORES = Scoring()


def names_of(metrics: Mapping[str, CodesMetric | None]) -> list[str]:
    """List the scores that the metrics give: each one's own name, or those that it gives to several."""
    return [score for name, metric in metrics.items() if metric is not None for score in metric.names or (name,)]


def compute_scores(
    metrics: Mapping[str, CodesMetric | None],
    codes: Codes,
    show: bool = True,
) -> list[Score]:
    """Score the codes of N images by each metric in turn.

    A metric that can't score these codes, such as MIG one unit alone, gives NaN and the reason as its protocol. Where
    no unit is active, what is told of factors is the shape of noise, which most scores look at however small it is:
    they aren't defined then. Without factors, those that look at them are left out, and a line on the terminal says so.

    Args:
        metrics: by the names that their scores get; one of several scores names them itself.
        codes: with the images' factors. Scores that look at them are of the images whose factors are all known.
        show: say on the terminal which score is being computed.
    """
    terminal = console(quiet=not show)
    chosen = {name: metric for name, metric in metrics.items() if metric is not None}  # `metrics.sample.mig=null`
    if not codes.factors.shape[1]:
        left_out = [name for name, metric in chosen.items() if metric.looks_at_factors]
        chosen = {name: metric for name, metric in chosen.items() if name not in left_out}
        if left_out:
            terminal.print(f"Left out, as the images have no factors: {', '.join(left_out)}", soft_wrap=True)
    labelled = codes.labelled()
    nothing = _why_nothing(codes) or _why_too_few(labelled, codes)
    about_factors = "" if nothing else "; ".join(filter(None, _remarks_on_factors(labelled, codes)))
    scores = []
    if chosen and not terminal.is_terminal:
        terminal.print(f"Scoring: {', '.join(chosen)} …", soft_wrap=True)
    for name, metric in chosen.items():
        start = time.perf_counter()
        with terminal.status(Text(f"Score: {shown(name)}")) as status:
            if getattr(metric, "progress", False):
                status.stop()  # it shows a bar of its own
            result: Any
            chance = None
            scored = labelled if metric.looks_at_factors else codes
            try:
                if metric.looks_at_factors and nothing:
                    raise ValueError(nothing)
                chance = metric.chance(scored)
                result, protocol = metric.score(scored), metric.protocol(len(scored.mean))
                remarks = (metric.remark(scored), about_factors if metric.looks_at_factors else "")
                protocol = "; ".join(filter(None, (protocol, *remarks)))
            except Exception as error:  # a learner of anybody's, a setting that is text: better no score than no run
                chance = None
                result = metric.undefined
                protocol = f"{_UNDEFINED}: {error}"
        values: dict[str, Any] = result if isinstance(result, dict) else {name: result}
        seconds = time.perf_counter() - start
        for key, value in values.items():
            value = value.item() if hasattr(value, "item") else value
            by_chance = chance.get(key) if isinstance(chance, dict) else chance
            n, better = len(scored.mean), metric.higher_is_better
            scores.append(Score(key, value, protocol, n, metric.seed, seconds, better, by_chance))
    return scores


def _why_nothing(codes: Codes) -> str:
    """Say why no unit can follow a factor; empty where one can."""
    if codes.log_variance is not None and not codes.active().any():
        return "no unit is active: each posterior's mean variance is near the prior's"
    return "every unit is constant" if bool((codes.mean == codes.mean[0]).all()) else ""


def _why_too_few(labelled: Codes, codes: Codes) -> str:
    """Say that too few of the images have all labels; empty where all have, or enough."""
    n = len(labelled.mean)
    if labelled is codes or n >= _FEWEST:
        return ""
    return f"{n} of {len(codes.mean):,} images have all labels, and {_FEWEST} or more are needed"


def _remarks_on_factors(labelled: Codes, codes: Codes) -> tuple[str, str]:
    part = f"by the images with all labels, {len(labelled.mean):,} of {len(codes.mean):,}"
    return "" if labelled is codes else part, _remark_on_rare_classes(labelled.factors)


def _remark_on_rare_classes(factors: Tensor) -> str:
    """Say that a class has so few rows beside others that scores rise by chance; empty if none has."""
    if is_continuous(factors):
        return ""
    counts = [factor.unique(return_counts=True)[1] for factor in factors.T]
    rare = [int(of.min()) for of in counts if of.min() < _RARE and 10 * int(of.min()) < len(factors) / len(of)]
    if not rare:
        return ""
    fewest = min(rare)
    rows = "1 row" if fewest == 1 else f"{fewest} rows"
    return f"a class of the factors has {rows}, by which a score can lie well above chance for codes that are noise"


def label_of(name: str, higher_is_better: bool | None = None) -> str:
    """Call a score what papers do, with an arrow to where it is better."""
    return _TITLES.get(name, name.replace("_", " ")) + _BETTER[higher_is_better]


def write_json(
    scores: Sequence[Score],
    path: Path,
    source: Mapping[str, Any] | None = None,
    terms: Mapping[str, float] | None = None,
) -> None:
    """Write `{name: {"value", "protocol", "chance", …}, …, "versions": {…}}`; null where a value isn't finite.

    Args:
        scores: all that the file is to hold.
        path: of the file.
        source: what was scored, as `"source"`.
        terms: of the ELBO, as `"terms"`.
    """
    contents = {
        score.name: {
            "value": score.value if math.isfinite(score.value) else None,
            "protocol": score.protocol,
            "n": score.n,
            "seed": score.seed,
            "seconds": round(score.seconds, 2),
            "higher_is_better": score.higher_is_better,
            "chance": score.chance,
        }
        for score in scores
    }
    versions = {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()}
    about = {key: dict(value) for key, value in (("source", source), ("terms", terms)) if value}
    text = json.dumps(contents | about | {"versions": versions}, indent=2, ensure_ascii=False) + "\n"
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path, source: Mapping[str, Any] | None = None) -> list[Score]:
    """Read the scores that `write_json` wrote, NaN for null; none where there is no file, or one of another source.

    Raises ValueError for a file that is damaged.
    """
    if not path.is_file():
        return []
    contents = read_object(path)
    if source and contents.get("source", source) != source:
        return []
    try:
        return [_score(shown(name), score) for name, score in contents.items() if name not in _NO_SCORES]
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(path, repr(error)) from error


def _score(name: str, read: Mapping[str, Any]) -> Score:
    """Make a score of what a file says of it; raises KeyError, TypeError or AttributeError for what is none."""
    for key, kinds in _KINDS.items():
        if not isinstance(read[key], kinds):
            raise TypeError(f"{key} of {name} is {read[key]!r}")
    value = math.nan if read["value"] is None else read["value"]
    return Score(name, **{**read, "value": value, "protocol": shown(read["protocol"])})


def undefined(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Group the scores that couldn't be computed by what is said of them: "can't be computed: …"."""
    found: dict[str, list[Score]] = {}
    for score in scores:
        if math.isnan(score.value) and score.protocol.startswith(_UNDEFINED):
            found.setdefault(score.protocol, []).append(score)
    return found


def terminal_table(scores: Sequence[Score]) -> Table:
    """Lay the scores out for a terminal, each with the paper that its protocol begins with."""
    table = Table("score", "value", "N", "seed", "after", title="Scores")
    for score in scores:
        seed = "–" if score.seed is None else str(score.seed)
        paper = score.protocol.partition(": ")[0]
        table.add_row(score.name + _BETTER[score.higher_is_better], readable(score.value), f"{score.n:,}", seed, paper)
    return table
