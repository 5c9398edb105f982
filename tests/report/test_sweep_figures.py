"""What is drawn of a sweep and of a search: points, lines, boxes and bars themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from bvae.report import search, sweep_figures
from bvae.report.plots import GREY, INK, colour

pytestmark = pytest.mark.usefixtures("drawn")


def points(axes) -> list[tuple[list, list, str]]:
    """Lines and points in the order in which they are drawn: where, how high, in which colour."""
    return [(list(map(float, x.get_xdata())), list(map(float, x.get_ydata())), x.get_color()) for x in axes.get_lines()]


def test_results_stand_over_the_values_with_a_line_through_their_means():
    lines = {"a=1": {"10": [3.0], "1": [0.0, 0.0, 3.0]}, "a=2": {"4": [5.0, 7.0]}}
    found = sweep_figures.against("mig", "loss.beta", ["10", "1", "7", "4"], lines)
    assert points(found.axes) == [
        ([1, 10], [1, 3], colour(0)),  # of 0, 0 and 3 the mean is 1, the median 0; in the order of the numbers
        ([1, 1, 1], [0, 0, 3], colour(0)),
        ([10], [3], colour(0)),
        ([4], [6], colour(1)),
        ([4, 4], [5, 7], colour(1)),
    ]
    assert [line.get_linestyle() for line in found.axes.get_lines()] == ["-", "None", "None", "-", "None"]
    assert found.alt == "Mean mig by loss.beta: a=1, 10: 3; a=1, 1: 1; a=2, 4: 6"
    assert (found.title, found.axes.get_xlabel(), found.axes.get_xscale()) == ("MIG", "loss.beta", "log")
    assert found.legend == ((colour(0), "a=1"), (colour(1), "a=2"))
    scattered = sweep_figures.against("mig", "beta", ["1", "4"], {"": {"1": [2.0], "4": [3.0]}}, joined=False)
    assert points(scattered.axes) == [([1], [2], colour(0)), ([4], [3], colour(0))]
    assert scattered.alt == "Mean mig by beta: 1: 2; 4: 3"


@pytest.mark.parametrize(
    ("values", "scale"),
    [(["1", "10"], "log"), (["1", "9.9"], "linear"), (["0", "10"], "linear"), (["-5", "100"], "linear")],
)
def test_numbers_that_span_decades_stand_on_a_logarithmic_axis(values, scale):
    found = sweep_figures.against("kl", "k", values, {"": {value: [1.0] for value in values}})
    assert found.axes.get_xscale() == scale
    assert [x for x, *_ in points(found.axes)][1:] == [[float(value)] for value in values]


def test_words_stand_side_by_side_in_the_commands_order():
    values = ["relu", "elu", "a_name_that_is_far_too_long", "gone"]
    found = sweep_figures.against("kl", "k", values, {"": {"elu": [1.0], "relu": [2.0], values[2]: [3.0]}})
    assert points(found.axes)[0] == ([0, 1, 2], [2, 1, 3], colour(0))
    assert found.axes.get_xticks().tolist() == [0, 1, 2]
    assert [label.get_text() for label in found.axes.get_xticklabels()] == ["relu", "elu", "a_name…oo_long"]
    assert {label.get_rotation() for label in found.axes.get_xticklabels()} == {0}
    many = [f"{letter * 14}" for letter in "abc"]  # 42 letters don't fit side by side
    turned = sweep_figures.against("kl", "k", many, {"": {value: [1.0] for value in many}})
    assert {label.get_rotation() for label in turned.axes.get_xticklabels()} == {30}
    assert [label.get_text() for label in turned.axes.get_xticklabels()] == many


def test_each_settings_results_have_a_box_and_a_dot_each():
    results = {"beta": {"1": [0.0, 1.0, 2.0, 3.0, 100.0], "4": [7.0]}, "btcvae": {"": [1.0, 3.0]}}
    found = sweep_figures.distributions("mig", results)
    places = (0.0, 1.0, 2.6)
    assert found.axes.get_xticks().tolist() == pytest.approx(places)
    assert [label.get_text() for label in found.axes.get_xticklabels()] == ["1", "4", "btcvae"]
    drawn = [(x, y, c) for x, y, c in points(found.axes) if y in ([0, 1, 2, 3, 100], [7], [1, 3])]
    assert [(y, c) for _, y, c in drawn] == [
        ([0, 1, 2, 3, 100], colour(0)),
        ([7], colour(0)),
        ([1, 3], colour(1)),
    ]
    assert drawn[0][0] == pytest.approx([-0.16, -0.08, 0, 0.08, 0.16])
    assert drawn[1][0] == [1]
    assert drawn[2][0] == pytest.approx([2.6 - 0.16, 2.6 + 0.16])
    medians = [(x, y) for x, y, c in points(found.axes) if c == INK]
    assert [y for _, y in medians] == [[2, 2], [7, 7], [2, 2]]
    for (x, _), place in zip(medians, places, strict=True):
        assert x == pytest.approx([place - 0.275, place + 0.275])
    boxes = [(min(y), max(y)) for x, y, _ in points(found.axes) if len(x) == 5 and len(set(x)) == 2]
    assert boxes == [(1, 3), (7, 7), (1.5, 2.5)]  # from the first quartile to the third
    assert found.alt == "mig: beta 1: median 2 of 5; beta 4: median 7 of 1; btcvae: median 2 of 2"
    assert found.legend == ((colour(0), "beta"), (colour(1), "btcvae"))
    assert found.title == "MIG"


def test_jobs_curves_have_the_colours_of_their_labels(tmp_path):
    labels = {}
    for name, label, values in (("0", "g=1", [5, 3]), ("1", "g=2", [4, 2]), ("2", "g=1", [6, 1]), ("3", "g=3", [9])):
        (tmp_path / name).mkdir()
        rows = [f"{step},{value},1,{value / 2}" for step, value in enumerate(values)]
        (tmp_path / name / "metrics.csv").write_text("\n".join(("step,train/kl,train/loss,scores/mig", *rows)) + "\n")
        labels[tmp_path / name] = label
    labels[tmp_path / "gone"] = "g=1"
    kl, mig = sweep_figures.curves(labels)
    assert points(kl.axes) == [([1, 2], [5, 3], colour(0)), ([1, 2], [4, 2], colour(1)), ([1, 2], [6, 1], colour(0))]
    assert (kl.title, mig.title) == ("KL (nats)", "MIG")
    assert kl.alt == "KL (nats) of 3 jobs, which end at g=1 3, g=2 2, g=1 1"
    assert kl.legend == ((colour(0), "g=1"), (colour(1), "g=2"), (colour(2), "g=3"))
    assert [y for _, y, _ in points(mig.axes)] == [[2.5, 1.5], [2, 1], [3, 0.5]]
    assert kl.axes.get_xlabel() == "step"
    assert sweep_figures.curves({tmp_path / "gone": ""}) == []
    rows = [f"{step},{step}" for step in range(240)]
    (tmp_path / "0" / "metrics.csv").write_text("\n".join(("step,train/reconstruction", *rows)) + "\n")
    (rec,) = sweep_figures.curves({tmp_path / "0": ""})
    assert points(rec.axes)[0][1] == [2 * n + 0.5 for n in range(120)]
    assert (rec.title, rec.alt) == ("reconstruction (nats)", "reconstruction (nats) of 1 jobs, which end at 238")


SETTINGS = [
    {"loss.gamma": 1.0, "model": "conv", "optimizer.lr": 3},
    {"loss.gamma": 100.0, "model": "mlp", "optimizer.lr": 3},
    {"loss.gamma": 10.0, "model": "conv", "optimizer.lr": 3},
    {"loss.gamma": 10.0, "model": "mlp", "optimizer.lr": 3},
]


@pytest.mark.parametrize(
    ("maximizes", "values", "best", "is_best"),
    [
        (True, [0.2, 0.1, 0.4, 0.3], [0.2, 0.2, 0.4, 0.4], 2),
        (False, [0.2, 0.1, 0.4, 0.3], [0.2, 0.1, 0.1, 0.1], 1),
        (True, [math.nan, 0.1, math.nan, 0.3], [math.nan, 0.1, 0.1, 0.3], 3),
    ],
)
def test_a_searchs_history_and_its_trials_in_parallel(maximizes, values, best, is_best):
    history, importance, parallel = search.plots(search.Search("mig", maximizes, values, SETTINGS))
    (at, trials, first), (_, steps, second) = points(history.axes)
    assert at == [0, 1, 2, 3]
    np.testing.assert_equal(trials, values)
    np.testing.assert_equal(steps, best)
    assert history.axes.get_lines()[1].get_drawstyle() == "steps-post"
    assert (first, second) == (colour(0), colour(1))
    assert history.legend == ((colour(0), "trial"), (colour(1), "best so far"))
    assert history.alt == f"mig of 4 trials, the best {best[-1]:g}"
    assert (history.title, importance.title) == ("MIG by trial", "Importance of each key (random forest)")
    known = [n for n, value in enumerate(values) if not math.isnan(value)]
    low, high = np.nanmin(values), np.nanmax(values)
    # γ from 1 to 100 by its logarithm, models in the order of the trials, one learning rate, and the score.
    heights = [[(0, 1, 0.5, 0.5)[n], (0, 1, 0, 1)[n], 0, (values[n] - low) / (high - low)] for n in range(len(values))]
    lines = parallel.axes.get_lines()
    shown = [line for line in lines if len(line.get_ydata()) == 4]
    assert [list(line.get_ydata()) for line in shown] == [pytest.approx(heights[n]) for n in known]
    marked = [n for n, line in zip(known, shown, strict=True) if line.get_color() == INK]
    assert marked == [is_best]
    assert shown[known.index(is_best)].get_zorder() > max(
        line.get_zorder() for n, line in zip(known, shown, strict=True) if n != is_best
    )
    axes_lines = [line for line in lines if line.get_color() == GREY]
    assert [line.get_xdata()[0] for line in axes_lines] == [0, 1, 2, 3]
    assert [text.get_text() for text in parallel.axes.texts] == [
        *("1", "100", "conv", "mlp", "3", "3"),
        *(f"{low:g}", f"{high:g}"),
    ]
    assert len(parallel.axes.get_yticks()) == 0  # each axis has numbers of its own
    ticks = [label.get_text() for label in parallel.axes.get_xticklabels()]
    assert ticks == ["gamma", "model", "lr", "MIG"]
    chosen = ", ".join(
        f"{key}={value:g}" if key != "model" else f"model={value}" for key, value in SETTINGS[is_best].items()
    )
    assert parallel.alt == f"The best trial, {is_best}, has {chosen}"


def test_better_trials_are_lighter_whichever_way_is_better():
    def shades(maximizes):
        *_, parallel = search.plots(search.Search("mig", maximizes, [0.1, 0.2, 0.3, 0.4], SETTINGS))
        lines = [line for line in parallel.axes.get_lines() if len(line.get_ydata()) == 4]
        return [sum(line.get_color()[:3]) for line in lines if line.get_color() != INK]

    up, down = shades(True), shades(False)
    assert spearmanr(up, [0, 1, 2]).statistic == 1
    assert spearmanr(down, [0, -1, -2]).statistic == 1


def test_what_the_score_depends_on_is_important():
    rng = np.random.default_rng(0)
    settings = [{"noise": float(n), "a": float(a)} for n, a in rng.uniform(size=(30, 2))]
    values = [setting["a"] for setting in settings]
    values[3] = math.nan
    _, importance, _ = search.plots(search.Search("mig", True, values, settings))
    low, high = importance.axes.patches
    assert [low.get_width(), high.get_width()] == pytest.approx([0, 1], abs=0.05)
    assert low.get_width() + high.get_width() == pytest.approx(1)
    assert [label.get_text() for label in importance.axes.get_yticklabels()] == ["noise", "a"]  # the highest is on top
    assert importance.axes.get_xlim() == (0, 1)
    assert importance.alt == f"Importance: a {high.get_width():.2f}, noise {low.get_width():.2f}"


def test_a_search_of_one_key_or_one_trial_has_its_history_alone():
    one = [{"a": 1.0}, {"a": 2.0}]
    assert len(search.plots(search.Search("mig", True, [0.1, 0.2], one))) == 1
    assert len(search.plots(search.Search("mig", True, [0.1, math.nan], SETTINGS[:2]))) == 1
    assert len(search.plots(search.Search("mig", True, [0.1, 0.2], SETTINGS[:2]))) == 3
    assert search.plots(search.Search("mig", True, [math.nan], SETTINGS[:1])) == []
    assert search.title(search.Search("mig", True, [0.1, 0.2], one)) == "Search for MIG, 2 trials"


@pytest.mark.parametrize(
    ("values", "heights", "ends"),
    [
        ([2.0, 4.0, 3.0], [0, 1, 0.5], ("2", "4")),
        ([1.0, 100.0, 10.0], [0, 1, 0.5], ("1", "100")),
        ([1.0, 9.9, 5.45], [0, 1, 0.5], ("1", "9.9")),
        ([0.0, 100.0, 50.0], [0, 1, 0.5], ("0", "100")),
        ([5.0, 5.0], [0, 0], ("5", "5")),
        ([1.0, None, 3.0], [0, math.nan, 1], ("1", "3")),
        (["b", "a", "b", "c"], [0, 0.5, 0, 1], ("b", "c")),
        (["b", "b"], [0, 0], ("b", "b")),
        ([True, "x", None], [0, 0.5, 1], ("True", "None")),
    ],
)
def test_values_are_placed_from_0_to_1(values, heights, ends):
    found, said = search._placed(values)
    assert found.tolist() == pytest.approx(heights, nan_ok=True)
    assert said == ends


def test_a_studys_trials_are_read_with_their_direction(tmp_path):
    import optuna

    from bvae.runs.job import Study

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    for value in (0.5, math.inf, None):
        trial = study.ask({"a": optuna.distributions.UniformDistribution(0, 1)})
        if value is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, value)
    found = search.read(Study(storage, "s", "mig"))
    assert (found.score, found.maximizes, len(found.settings), list(found.settings[0])) == ("mig", True, 3, ["a"])
    assert found.values == pytest.approx([0.5, math.nan, math.nan], nan_ok=True)
    optuna.create_study(study_name="least", storage=storage, direction="minimize")
    assert search.read(Study(storage, "least", "kl")).maximizes is False


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["100", "1000"], ["100", "200", "500", "1,000"]),
        (["0.001", "10000"], ["0.001", "0.01", "0.1", "1", "10", "100", "1,000", "10,000"]),
        (["1e-05", "0.001"], ["1e−5", "0.0001", "0.001"]),
    ],
)
def test_a_logarithmic_axis_has_plain_numbers(values, labels):
    axes = sweep_figures.against("kl", "k", values, {"": {value: [1.0] for value in values}}).axes
    low, high = float(values[0]), float(values[-1])
    shown = [
        label.get_text()
        for label, place in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
        if low * 0.999 <= place <= high * 1.001
    ]
    assert shown == labels
    assert {label.get_text() for label in axes.get_xticklabels(minor=True)} <= {""}
