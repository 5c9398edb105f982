"""What is drawn of a run: the lines, maps and bars themselves."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import pytest

from bvae.data import FactorGrid
from bvae.data.image_set import Factors
from bvae.evaluation import LatentUnit
from bvae.report import figures
from bvae.report.plots import GREY, INK, colour, plot
from bvae.runs.metrics_table import Column

pytestmark = pytest.mark.usefixtures("drawn")


def grid(*sizes: int) -> np.ndarray:
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)


def lines(axes) -> list[list[float]]:
    return [np.asarray(line.get_ydata(), float).tolist() for line in axes.get_lines()]


def test_a_map_has_x_across_and_y_down():
    factors = FactorGrid(("across", "down", "hue"), (5, 3, 2), labels={"across": "x"}, positions=("across", "down"))
    classes = grid(5, 3, 2)
    for number, code in ((0, classes[:, 0] * 1.0), (1, classes[:, 1] * 1.0)):
        position, hue = figures.responses(code + classes[:, 2] * 10, classes, factors)
        (image,) = position.axes.get_images()
        shown = np.asarray(image.get_array())
        assert shown.shape == (3, 5)
        expected = np.tile(np.arange(5), (3, 1)) if number == 0 else np.tile(np.arange(3)[:, None], (1, 5))
        assert shown == pytest.approx(expected + 5)  # averaged over the hue, 0 and 10
        assert image.get_extent() == [-0.5, 4.5, 2.5, -0.5]  # the first row is on top
        assert (position.axes.get_xlabel(), position.axes.get_ylabel()) == ("x", "down")
        middle = (2.0, 1.0)[number]
        assert lines(hue.axes) == [pytest.approx([middle, middle + 10])]
        # From the least to the largest of both, and a twentieth beyond: one range for all.
        low, high = middle, middle + 10
        low, high = min(low, 5), max(high, 5 + (4, 2)[number])
        bounds = (low - 0.05 * (high - low), high + 0.05 * (high - low))
        assert image.get_clim() == pytest.approx(bounds)
        assert hue.axes.get_ylim() == pytest.approx(bounds)
        assert (position.title, hue.title) == ("position", "hue")
        assert hue.alt == f"mean code from +{middle:.2f} to +{middle + 10:.2f} over hue"
        assert hue.axes.get_xlabel() == "hue (class)"


def test_a_map_of_a_sample_has_wider_cells_which_end_with_the_last_place():
    factors = FactorGrid(("x", "y"), (10, 6), positions=("x", "y"))
    classes = grid(10, 6)[:59]  # not the whole grid: cells of √(40 · 60 / 59) = 6.4 places, so 7
    (position,) = figures.responses(classes[:, 0] * 1.0, classes, factors)
    (image,) = position.axes.get_images()
    # The first has x from 0 to 6, the second six of 7 and of 8, and five of 9.
    assert np.asarray(image.get_array()) == pytest.approx(np.array([[3.0, (6 * 7 + 6 * 8 + 5 * 9) / 17]]))
    assert image.get_extent() == [-0.5, 13.5, 6.5, -0.5]


def test_a_place_without_images_is_empty():
    factors = FactorGrid(("x", "y"), (2, 2), positions=("x", "y"))
    classes = np.repeat([[0, 0], [1, 1], [1, 0]], 40, axis=0)
    (position,) = figures.responses(np.repeat([1.0, 2.0, 3.0], 40), classes, factors)
    (image,) = position.axes.get_images()
    shown = np.ma.filled(image.get_array(), np.nan)
    assert shown == pytest.approx(np.array([[1.0, 3.0], [np.nan, 2.0]]), nan_ok=True)
    assert position.alt == "mean code from +1.00 to +3.00 over the positions"


def test_a_curve_has_a_line_a_class_of_the_category():
    names = ("kind", "size", "one")
    factors = FactorGrid(names, (3, 4, 1), {"kind": ("disc", "bar", "star")}, {"size": "scale"}, categories=("kind",))
    classes = grid(3, 4, 1)
    code = classes[:, 1] * np.array([1.0, -1.0, 0.0])[classes[:, 0]]
    (size,) = figures.responses(
        code, classes, factors
    )  # the category itself is in the lines, and one value is no curve
    assert lines(size.axes) == [[0, 1, 2, 3], [0, -1, -2, -3], [0, 0, 0, 0]]
    assert [line.get_color() for line in size.axes.get_lines()] == [colour(n) for n in range(3)]
    assert size.legend == ((colour(0), "disc"), (colour(1), "bar"), (colour(2), "star"))
    assert size.axes.get_xlabel() == "scale (class)"
    assert (size.title, size.alt) == ("scale", "mean code from −3.00 to +3.00 over scale, one line a kind")
    kept = classes[:, 0] > 0
    (size,) = figures.responses(code[kept], classes[kept], factors)
    assert lines(size.axes) == [[0, -1, -2, -3], [0, 0, 0, 0]]
    assert [label for _, label in size.legend] == ["bar", "star"]
    (kind,) = figures.responses(classes[:, 0] * 2.0, classes[:, :1], FactorGrid(("kind",), (3,), categories=("kind",)))
    assert [label for _, label in kind.legend] == ["kind 0", "kind 1", "kind 2"]
    flat = np.array(lines(kind.axes), float)
    assert np.diag(flat).tolist() == [0, 2, 4]
    assert np.isnan(flat).sum() == 6  # each class is at its own place
    (size,) = figures.responses(classes[:, 1] * 1.0, classes[:, [1]], FactorGrid(("size",), (4,)))
    assert size.legend == ()
    assert figures.responses(code, np.zeros((12, 1), int), FactorGrid(("one",), (1,))) == []


@pytest.mark.parametrize(("number", "lines_drawn"), [(12, 12), (13, 1)])
def test_a_category_has_lines_where_they_are_twelve_at_most(number, lines_drawn):
    factors = FactorGrid(("kind", "size"), (number, 3), categories=("kind",))
    *_, size = figures.responses(grid(number, 3)[:, 1] * 1.0, grid(number, 3), factors)
    assert len(size.axes.get_lines()) == lines_drawn


def test_continuous_factors_are_drawn_over_twenty_bins():
    values = np.linspace(0, 1, 401)[:, None]
    (curve,) = figures.responses(values[:, 0], values, Factors(("mass",), (401,)))
    (line,) = lines(curve.axes)
    assert len(line) == 20
    assert line[0] == pytest.approx(np.linspace(0, 1, 401)[:20].mean(), abs=1e-6)
    assert curve.axes.get_xlabel() == "mass (bin)"


def test_a_histogram_is_a_density_beside_the_normal_one():
    code = np.array([-4.0, 0.05, 0.1, 0.15, 1.0, 5.0, -4.1, 0.3])
    found = figures.histogram(code)
    (bars,) = found.axes.patches
    heights, edges, _ = bars.get_data()
    assert (len(heights), edges[0], edges[-1]) == (40, -4, 4)
    # Bins of a fifth: eight codes, of which one each makes 1 / (8 · 0.2).
    assert heights.nonzero()[0].tolist() == [0, 20, 21, 25]
    assert heights[[0, 20, 21, 25]] == pytest.approx(np.array([1, 3, 1, 1]) / 1.6)
    (prior,) = found.axes.get_lines()
    at, height = prior.get_data()
    assert (at[0], at[-1], len(at)) == (-4, 4, 121)
    assert height == pytest.approx(np.exp(-(at**2) / 2) / math.sqrt(2 * math.pi))
    assert prior.get_color() == INK
    mean, deviation = code.mean(), math.sqrt(np.mean((code - code.mean()) ** 2))
    assert found.alt == f"mean −{abs(mean):.2f}, deviation {deviation:.2f}, 25% beyond ±4"
    assert found.size == (2.4, 1.3)
    assert figures.histogram(np.zeros(9)).alt == "mean +0.00, deviation 0.00"
    assert "beyond" not in figures.histogram(np.array([-3.9, 3.9])).alt  # in the first bin and the last
    rare = np.zeros(1_000)
    rare[:5] = 9
    assert figures.histogram(rare).alt.endswith(", 0% beyond ±4")  # half a percent is said, less isn't
    rare[0] = 0
    assert "beyond" not in figures.histogram(rare).alt


def metrics_csv(path, **columns):
    rows = [("step", *columns), *((step, *row) for step, row in enumerate(zip(*columns.values(), strict=True)))]
    path.write_text("\n".join(",".join(map(str, row)).replace("__", "/") for row in rows) + "\n")
    return path


def test_training_curves_are_in_the_order_in_which_they_are_read(tmp_path):
    table = [LatentUnit(1, 0.1, 2.0, True, name="size"), LatentUnit(0, 0.9, 0.0, False), LatentUnit(2, 0.1, 1.0, True)]
    path = metrics_csv(
        tmp_path / "metrics.csv",
        train__loss=[9, 8],
        train__kl=[1, 3],
        train__capacity=[0, 2],
        train__target_kl=[5, 6],
        train__offset=[0.5, 0.25],
        train__reconstruction=[100, 50],
        val__reconstruction=[110, 60],
        train__beta_now=[4, 5],
        train__constant=[7, 7],
        train__kl_unit__0=[0, 0],
        train__kl_unit__1=[0, 2],
        train__kl_unit__2=[1, 1.5],
        train__kl_unit__7=[3, 4],
        train__images_per_second=[10, 20],
        train__dead_features__encoder_1=[0, 0.5],
        scores__mig=["0.1", "0.2"],
    )
    plots = figures.training_curves(path, table)
    assert [p.title for p in plots] == [
        *("Reconstruction (nats)", "KL (nats)", "KL of each unit (nats)", "beta now", "MIG"),
        *("Dead features (share of a layer)", "Speed (images/s)"),
    ]
    rec, kl, units, beta, mig, dead, speed = plots
    assert lines(rec.axes) == [[100, 50], [110, 60]]
    assert [list(line.get_xdata()) for line in rec.axes.get_lines()] == [[1, 2], [1, 2]]  # steps done
    assert rec.legend == ((colour(0), "training"), (colour(1), "held out"))
    assert lines(kl.axes) == [[1, 3], [0, 2], [5, 6], [0.5, 0.25]]
    assert [(line.get_linestyle(), line.get_color()) for line in kl.axes.get_lines()] == [
        ("-", colour(0)),
        ("--", INK),  # what the KL is steered to
        ("--", INK),
        ("-", colour(3)),
    ]
    assert [label for _, label in kl.legend] == ["KL", "C", "target", "offset"]
    assert (
        kl.alt == "KL (nats) over 2 steps: KL from 1 to 3, C from 0 to 2, target from 5 to 6, offset from 0.5 to 0.25"
    )
    # Idle units first, so behind the others; these in the table's order, and at the end what isn't in it.
    assert lines(units.axes) == [[0, 0], [0, 2], [1, 1.5], [3, 4]]
    assert [line.get_color() for line in units.axes.get_lines()] == [GREY, colour(0), colour(1), colour(2)]
    assert [line.get_linewidth() for line in units.axes.get_lines()] == [0.8, 1.3, 1.3, 1.3]
    assert units.legend == ((colour(0), "1: size"), (colour(1), "2: active"), (colour(2), "7"), (GREY, "idle"))
    assert (lines(beta.axes), lines(mig.axes), lines(speed.axes)) == ([[4, 5]], [[0.1, 0.2]], [[10, 20]])
    assert (lines(dead.axes), dead.legend) == ([[0, 0.5]], ((colour(0), "encoder_1"),))
    assert {axes.axes.get_xlabel() for axes in plots} == {"step"}
    assert [line.get_marker() for line in rec.axes.get_lines()] == ["o", "o"]


def test_one_point_is_no_curve_and_many_have_no_markers(tmp_path):
    assert figures.training_curves(metrics_csv(tmp_path / "metrics.csv", train__kl=[1])) == []
    assert figures.training_curves(tmp_path / "none.csv") == []
    for n, marker in ((11, "o"), (12, "")):
        (kl,) = figures.training_curves(metrics_csv(tmp_path / "metrics.csv", train__kl=list(range(n))))
        (line,) = kl.axes.get_lines()
        assert line.get_marker() == marker


def test_columns_are_averaged_to_a_number_of_points():
    column = Column(np.arange(1.0, 11.0), np.arange(10.0) ** 2)
    steps, values = figures.averaged(column, 5)
    assert steps.tolist() == [1.5, 3.5, 5.5, 7.5, 9.5]
    assert values.tolist() == [0.5, 6.5, 20.5, 42.5, 72.5]
    assert figures.averaged(column).values.tolist() == column.values.tolist()
    assert len(figures.averaged(Column(np.arange(1_000.0), np.arange(1_000.0))).steps) == 400


def test_a_plot_is_svg_in_the_pages_colour_with_its_legend_beside_it():
    def draw(axes):
        axes.plot([0, 1], color=INK)
        axes.set_title("$x_1$ 50%")

    legend = [("#ff0000", "a"), ("#00ff00", "b")]
    found = plot("title", "what it shows", draw, legend)
    assert (found.title, found.alt, found.legend) == ("title", "what it shows", tuple(legend))
    assert found.svg.startswith("<svg")
    assert INK not in found.svg
    assert "currentColor" in found.svg
    assert ">$x_1$ 50%</text>" in found.svg  # text is text, and no formula
    assert 'width="259.2pt" height="180pt"' in found.svg  # 3.6 by 2.5 inches of 72 points
    assert 'width="72pt" height="144pt"' in plot("", "", draw, size=(1, 2)).svg
    assert plot("", "", draw, legend[:1]).legend == ()  # one line needs none
    assert plot("title", "what it shows", draw).svg == found.svg
    with matplotlib.rc_context({"text.usetex": True, "savefig.bbox": "tight", "font.size": 40, "axes.grid": True}):
        assert plot("title", "what it shows", draw).svg == found.svg
    assert colour(10) == colour(0) != colour(1)


def test_dead_features_are_drawn_if_there_are_any(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "step,train/reconstruction,train/dead_features/a,train/dead_features/b\n0,5,0,0\n1,4,0,0.5\n"
    )
    plots = {plot.title: plot for plot in figures.training_curves(tmp_path / "metrics.csv")}
    assert list(plots) == ["Reconstruction (nats)", "Dead features (share of a layer)"]
    assert lines(plots["Dead features (share of a layer)"].axes) == [[0, 0.5]]
    (tmp_path / "metrics.csv").write_text("step,train/reconstruction,train/dead_features/a\n0,5,0\n1,4,0\n")
    assert [plot.title for plot in figures.training_curves(tmp_path / "metrics.csv")] == ["Reconstruction (nats)"]


def test_a_huge_start_does_not_set_the_axis(tmp_path):
    def limits(values: list[float]) -> tuple[float, float]:
        rows = "\n".join(f"{step},{value}" for step, value in enumerate(values))
        (tmp_path / "metrics.csv").write_text(f"step,train/reconstruction\n{rows}\n")
        (plot,) = figures.training_curves(tmp_path / "metrics.csv")
        return plot.axes.get_ylim()

    later = [100.0 - n for n in range(19)]
    assert limits([20_000.0, *later]) == pytest.approx((82 - 0.9, 99 + 0.9), abs=1.1)
    low, high = limits([101.0, *later])
    assert low < 82
    assert high > 101
