"""Plots as SVG, in the colours of the page around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO

import matplotlib
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"  # stands for the page's text colour, which depends on the room's light
GREY = "#8d96a3"  # of what is there for comparison, on light and dark
COLOURS = tuple(matplotlib.colors.to_hex(colour) for colour in matplotlib.colormaps["tab10"].colors)
_STYLE = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "svg.fonttype": "none",  # text, that the page's font is used for
    "svg.hashsalt": "bvae",  # the same identifiers in each run
    "text.parse_math": False,  # a factor may have a $ in its name
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "legend.frameon": False,
}
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Plot:
    """A picture for the page."""

    title: str
    alt: str  # what it shows, for those who don't see it
    svg: str
    legend: tuple[tuple[str, str], ...] = ()  # colours and what they stand for, beside the picture


def plot(
    title: str,
    alt: str,
    draw: Callable[[Axes], None],
    legend: Sequence[tuple[str, str]] = (),
    size: tuple[float, float] = (3.6, 2.5),
) -> Plot:
    """Draw into axes of a size in inches, of which the page takes the proportions."""
    with style.context(["default", _STYLE]):  # whatever a matplotlibrc says, which could run LaTeX
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_METADATA)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return Plot(title, alt, svg, tuple(legend) if len(legend) > 1 else ())


def colour(number: int) -> str:
    """Give the n-th of several lines its colour."""
    return COLOURS[number % len(COLOURS)]
