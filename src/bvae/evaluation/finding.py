"""The line that a run ends with: which factors have units of their own, and which haven't."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bvae.data.image_set import Factors
from bvae.evaluation.latent_table import CLEAR_SHARE, CLEARLY, LatentUnit
from bvae.evaluation.turning import Turn

_FOUND_SHARE = 0.25  # of a factor's entropy, from which on it counts as found


def finding(rows: Sequence[LatentUnit], factors: Factors | None, turns: Sequence[Turn] = ()) -> str:
    """Say in a line which factors have a unit of their own, which share units with others, and which none tells of.

    A factor is found in part where the units that are named after it tell little of it. An angle is found, whatever
    its units are named, where two units turn with it in every class of the category, and in part where they do in some.

    Args:
        rows: the latent table.
        factors: of the images, None without.
        turns: the units that turn with an angle, see `turning`.
    """
    number = sum(row.active for row in rows)
    if factors is None:
        return f"Active units: {number} of {len(rows)}."
    told: dict[str, list[str]] = {"Found": [], "In part": [], "Mixed with others": [], "Not found": []}
    place = {row.name: position for position, row in reversed(list(enumerate(rows)))}
    place_of_unit = {row.unit: position for position, row in enumerate(rows)}
    by_units: dict[str, str] = {}
    for k, (name, size) in enumerate(zip(factors.names, factors.sizes, strict=True)):
        if size < 2:
            continue
        label = factors.label(name)
        is_mixed = any(_shared(row)[k] for row in rows if row.active and not row.name)
        named = sorted(max((row.shares[k], *row.shares_given[k : k + 1])) for row in rows if row.name == label)
        told_of_it = sum(named[-2:] if name in factors.angles else named[-1:])  # an angle takes a sine and a cosine
        turned = [turn for turn in turns if turn.angle == name]
        if told_of_it >= _FOUND_SHARE or (turned and len(turned) == turned[0].classes):
            how = "Found"
        elif named or turned:
            how = "In part"
        else:
            how = "Mixed with others" if is_mixed else "Not found"
        if turned and told_of_it < _FOUND_SHARE:
            place.setdefault(label, min(place_of_unit[unit] for turn in turned for unit in turn.units))
            by_units[label] = f" ({_by_class(turned, factors)})"
        told[how].append(label)
    told["Found"].sort(key=lambda label: place[label])  # as the units stand in the table
    told["Found"] = told["Found"] or ["none"]
    said = {how: ", ".join(label + by_units.get(label, "") for label in labels) for how, labels in told.items()}
    nothing = "" if number else " No unit is active."
    return " ".join(f"{how}: {labels}." for how, labels in said.items() if labels) + nothing


def _by_class(turned: Sequence[Turn], factors: Factors) -> str:
    """Say which units turn with an angle, and in which classes where it isn't all: "ellipse: units 9 and 6"."""
    said = []
    for units in dict.fromkeys(turn.units for turn in turned):
        shown = [turn for turn in turned if turn.units == units]
        pair = f"units {units[0]} and {units[1]}"
        said.append(pair if len(shown) == shown[0].classes else f"{_classes(shown, factors)}: {pair}")
    return "; ".join(said)


def _classes(shown: Sequence[Turn], factors: Factors) -> str:
    category = shown[0].category
    if names := factors.value_names.get(category):
        return ", ".join(names[turn.shown] for turn in shown)
    return f"{len(shown)} of {shown[0].classes} classes of {factors.label(category)}"


def _shared(row: LatentUnit) -> np.ndarray:
    """Tell which factors keep a unit from being named after a single one."""
    shares = [np.array(share) for share in (row.shares, row.shares_given) if share]
    return np.any([share >= max(CLEAR_SHARE, share.max() / CLEARLY) for share in shares], axis=0)
