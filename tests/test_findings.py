"""The latent table's cells, captions and columns, and the line of what was found, of rows made by hand."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from bvae.data.image_set import Factors
from bvae.evaluation import LatentUnit, Turn, codes_of, latent_table
from bvae.evaluation.finding import finding
from bvae.evaluation.latent_table import _name, caption, category_of, columns, terminal_table, write_csv

PLAIN = Factors(("a", "b"), (4, 5), labels={"b": "pos B"})


def shares(codes, factors=PLAIN, **more) -> dict[int, LatentUnit]:
    return {row.unit: row for row in latent_table(codes, factors, **more)}


def grid(*sizes: int, times: int = 1) -> np.ndarray:
    return np.tile(np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1), (times, 1))


def test_a_units_variance_and_kl_are_means_over_the_images():
    variances = np.tile([[0.01, 0.5], [0.99, 0.5]], (5, 1))  # the mean is ½; of the logarithms it would be 0.0995
    means = np.tile([[1.0, 0.0], [3.0, 0.0]], (5, 1))
    rows = shares(codes_of(means, np.zeros((10, 0), int), np.log(variances)), None)
    assert [rows[unit].variance for unit in (0, 1)] == pytest.approx([0.5, 0.5])
    kl = 0.5 * (np.mean([1, 9]) + 0.5 - np.mean(np.log([0.01, 0.99])) - 1)
    assert rows[0].kl == pytest.approx(kl)
    assert rows[1].kl == pytest.approx(0.5 * (0.5 - math.log(0.5) - 1))
    assert (rows[0].factor, rows[0].name, rows[0].shares, rows[0].given) == ("", "", (), "")
    assert math.isnan(rows[0].correlation)
    assert math.isnan(rows[0].normalized_mi)
    assert math.isnan(rows[0].variance_at_picture)
    (row,) = latent_table(codes_of(means[:, :1], np.ones((10, 1), int)), Factors(("a",), (1,)))
    assert (row.correlation, row.normalized_mi, row.name) == (0, 0, "")  # a factor that is constant is followed by none


def test_units_stand_by_their_kl_and_without_posteriors_by_what_they_tell():
    factors = grid(4, 5, times=50)  # as many images as nothing is subtracted from
    a, b = factors.T
    means = np.stack((a // 2, np.zeros(1000), -b, a == 0), axis=1).astype(float)
    table = latent_table(codes_of(means, factors), PLAIN)
    assert [row.unit for row in table] == [2, 0, 3, 1]
    # Half of two bits; all; and the entropy of a quarter over two bits.
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(4)
    assert [row.normalized_mi for row in table] == pytest.approx([1, 0.5, quarter, 0], abs=1e-9)
    assert table[1].shares == pytest.approx((0.5, 0), abs=1e-9)
    assert [(row.factor, row.name, row.active) for row in table[:3]] == [
        ("b", "pos B", True),
        ("a", "a", True),
        ("a", "a", True),
    ]
    # cov(a, a // 2) = (2 + 3) / 4 − 1.5 · 0.5 = 0.5, their variances are 1.25 and 0.25
    assert table[1].correlation == pytest.approx(0.5 / math.sqrt(1.25 * 0.25))
    assert table[0].correlation == pytest.approx(-1)
    assert (table[3].correlation, table[3].name, table[3].active) == (0, "", False)
    assert all(math.isnan(row.variance) and math.isnan(row.kl) for row in table)
    log_variances = np.log(np.tile([0.5, 0.1, 0.9, 0.3], (1000, 1)))
    by_kl = latent_table(codes_of(means * 0, factors, log_variances), PLAIN, np.array([1.0, 2.0, 3.0, 4.0]))
    assert [row.unit for row in by_kl] == [1, 3, 0, 2]
    assert [row.variance_at_picture for row in by_kl] == [2, 4, 1, 3]
    assert [row.active for row in by_kl] == [True, True, True, False]


def test_within_a_category_shares_are_of_the_factors_whole_entropy():
    """Unit 0 is b in one class of a alone, and tells nothing in the other."""
    factors = Factors(("a", "b"), (2, 4), categories=("a",))
    classes = grid(2, 4, times=100)
    means = np.where(classes[:, 0] == 1, classes[:, 1], 1.5)[:, None]
    (row,) = latent_table(codes_of(means, classes), factors)
    assert (row.given, row.factor_given, row.name) == ("a", "b", "b")
    assert row.normalized_mi_given == pytest.approx(0.5, abs=0.01)  # of two classes one tells all
    assert row.shares_given == pytest.approx((0, 0.5), abs=0.01)
    assert row.shares[0] == pytest.approx(1, abs=0.01)  # the middle is never taken in the other class
    assert (row.factor, row.normalized_mi) == ("a", row.shares[0])


def test_a_unit_is_named_where_it_tells_a_tenth_and_half_as_much_again_as_of_another():
    row = LatentUnit(0, 0.1, 1.0, True)
    for share, given, name in (
        ([0.75, 0.5], None, "a"),
        ([0.75, 0.501], None, ""),
        ([0.5, 0.75], None, "pos B"),
        ([0.1, 0.0], None, "a"),
        ([0.099, 0.0], None, ""),
        ([0.5, 0.5], None, ""),
        ([0.4, 0.1], [0.1, 0.41], "pos B"),  # the clearer of the two
        ([0.4, 0.1], [0.1, 0.39], "a"),
        ([0.4, 0.39], [0.1, 0.3], "pos B"),
        ([0.4, 0.1], [0.3, 0.3], "a"),
        ([0.2, 0.019], [0.001, 0.21], "pos B"),  # under 0.02 two can't be told apart, so 10 times against 10.5
        ([0.0, 0.0], [0.0, 0.0], ""),
    ):
        both = np.array(share), None if given is None else np.array(given)
        assert _name(row, *both, PLAIN) == name, (share, given)
        assert _name(replace(row, active=False), *both, PLAIN) == ""
    assert _name(row, np.array([0.1]), None, Factors(("a",), (4,))) == "a"  # one factor has no rival


def test_a_category_needs_an_image_for_each_bin_and_value_in_each_class():
    factors = Factors(("c", "d", "v"), (2, 2, 5), categories=("d", "c"))
    for of_c, of_d, found in (
        ([100, 100], [100, 100], "d"),  # 20 bins of the 5 values that v has are 100 cells; the first that has enough
        ([100, 100], [101, 99], "c"),
        ([99, 101], [99, 101], ""),
        ([100, 100], [200], "c"),  # one class is no category
    ):
        c, d = (np.repeat(np.arange(len(counts)), counts) for counts in (of_c, of_d))
        assert category_of(factors, np.stack((c, d, np.arange(200) % 5), axis=1)) == found
    assert category_of(Factors(("v",), (5,)), np.zeros((9, 1), int)) == ""


def test_the_csv_has_the_columns_that_something_is_known_of(tmp_path):
    bare = LatentUnit(3, 0.25, 1.5, True)
    followed = replace(bare, factor="a", correlation=-0.5, normalized_mi=0.75, name="pos A")
    within = replace(followed, given="c", factor_given="b", normalized_mi_given=0.3)
    quoted = replace(within, variance_at_picture=0.125)
    first, second = ("unit", "variance", "kl", "active"), ("factor", "correlation", "normalized_mi", "name")
    third = ("given", "factor_given", "normalized_mi_given")
    for row, names in (
        (bare, first),
        (followed, first + second),
        (within, first + second + third),
        (quoted, (*first, *second, *third, "variance_at_picture")),
        (replace(bare, variance_at_picture=0.5), (*first, "variance_at_picture")),
    ):
        assert columns([replace(row, factor="", given="", variance_at_picture=math.nan), row]) == names
    write_csv([quoted, replace(quoted, unit=0, active=False, name="")], tmp_path / "latents.csv")
    with (tmp_path / "latents.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    assert rows == [
        ["3", "0.25", "1.5", "True", "a", "-0.5", "0.75", "pos A", "c", "b", "0.3", "0.125"],
        ["0", "0.25", "1.5", "False", "a", "-0.5", "0.75", "", "c", "b", "0.3", "0.125"],
    ]


def test_captions_say_what_a_unit_encodes():
    row = LatentUnit(0, 0.1, 1.0, True)
    for changed, said in (
        ({}, "active"),
        ({"name": "size", "active": False}, "size"),
        ({"factor": "a", "normalized_mi": 0.1}, "mixed (a)"),
        ({"factor": "a", "normalized_mi": 0.0999}, "no factor"),
        ({"active": False, "kl": 0.0999}, "at the prior"),
        ({"active": False, "kl": 0.1}, "tells nothing"),
        ({"active": False, "kl": math.nan, "variance": math.nan}, "hardly moves"),
        ({"factor": "a", "normalized_mi": 0.5, "active": False, "kl": 0.0}, "at the prior"),
    ):
        assert caption(replace(row, **changed)) == said


def test_the_terminals_table_holds_each_units_numbers():
    rows = [
        LatentUnit(4, 0.00123, 2.345, True, "a", -0.987, 0.654, "pos A"),
        LatentUnit(1, 0.98766, 0.0012, False, "b", 0.004, 0.001),
    ]
    table = terminal_table(rows)
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    assert [column.header for column in table.columns] == [
        *("unit", "name", "variance", "KL (nats)"),
        *("follows", "corr.", "MI / H"),
    ]
    assert list(zip(*cells, strict=True)) == [
        ("4", "pos A", "0.00123", "2.35", "a", "−0.99", "0.65"),
        ("1", "at the prior", "0.9877", "0.00", "b", "+0.00", "0.00"),
    ]
    assert [row.style for row in table.rows] == [None, "dim"]
    bare = terminal_table([replace(row, factor="") for row in rows])
    assert [column.header for column in bare.columns] == ["unit", "name", "variance", "KL (nats)"]


KINDS = Factors(
    ("kind", "hue", "turn", "one"),
    (3, 4, 8, 1),
    labels={"hue": "colour", "turn": "rotation"},
    angles=("turn",),
    categories=("kind",),
    value_names={"kind": ("disc", "bar", "star")},
)


def unit(number: int, name: str = "", active: bool = True, **more) -> LatentUnit:
    """A row with the shares of some factors."""
    given = more.pop("given", {})
    row = LatentUnit(number, 0.1, 1.0, active, "kind", 0.0, 0.0, name)
    of = {key: tuple(found.get(name, 0.0) for name in KINDS.names) for key, found in (("all", more), ("given", given))}
    return replace(row, shares=of["all"], shares_given=of["given"] if given else ())


def turn(*units: int, shown: int = 0, classes: int = 1) -> Turn:
    return Turn("turn", "kind", shown, classes, units, 1, 0.9)


@pytest.mark.parametrize(
    ("rows", "turns", "line"),
    [
        ([unit(0)], (), "Found: none. Not found: kind, colour, rotation."),
        ([unit(0, active=False)], (), "Found: none. Not found: kind, colour, rotation. No unit is active."),
        ([unit(0, "colour", hue=0.25)], (), "Found: colour. Not found: kind, rotation."),
        ([unit(0, "colour", hue=0.249)], (), "Found: none. In part: colour. Not found: kind, rotation."),
        ([unit(0, "colour", hue=0.1, given={"hue": 0.3})], (), "Found: colour. Not found: kind, rotation."),
        # Two units together tell no more of what isn't an angle; of an angle they may be its sine and its cosine.
        ([unit(n, "colour", hue=0.2) for n in (0, 1)], (), "Found: none. In part: colour. Not found: kind, rotation."),
        ([unit(n, "rotation", turn=0.15) for n in (0, 1)], (), "Found: rotation. Not found: kind, colour."),
        (
            [unit(n, "rotation", turn=share) for n, share in enumerate((0.1, 0.14, 0.11))],
            (),
            "Found: rotation. Not found: kind, colour.",
        ),
        (
            [unit(n, "rotation", turn=0.1) for n in range(3)],
            (),
            "Found: none. In part: rotation. Not found: kind, colour.",
        ),
        # As the units stand in the table, the first of several units first.
        (
            [unit(5, "rotation", turn=0.9), unit(1, "kind", kind=0.9), unit(3, "rotation", turn=0.9)],
            (),
            "Found: rotation, kind. Not found: colour.",
        ),
        # A unit without a name shares what it tells a tenth of, and two thirds as much of as of any other.
        ([unit(0, kind=0.3, hue=0.2)], (), "Found: none. Mixed with others: kind, colour. Not found: rotation."),
        ([unit(0, kind=0.3, hue=0.19)], (), "Found: none. Mixed with others: kind. Not found: colour, rotation."),
        ([unit(0, kind=0.1, hue=0.099)], (), "Found: none. Mixed with others: kind. Not found: colour, rotation."),
        ([unit(0, kind=0.3, active=False)], (), "Found: none. Not found: kind, colour, rotation. No unit is active."),
        (
            [unit(0, hue=0.01, given={"hue": 0.4})],
            (),
            "Found: none. Mixed with others: colour. Not found: kind, rotation.",
        ),
        ([unit(0, "kind", kind=0.3, hue=0.3)], (), "Found: kind. Not found: colour, rotation."),
        # Pairs that turn with the angle.
        ([unit(2), unit(7)], [turn(2, 7)], "Found: rotation (units 2 and 7). Not found: kind, colour."),
        (
            [unit(2), unit(7)],
            [turn(2, 7, classes=3), turn(2, 7, shown=2, classes=3)],
            "Found: none. In part: rotation (disc, star: units 2 and 7). Not found: kind, colour.",
        ),
        (
            [unit(2), unit(7), unit(1)],
            [turn(1, 2, classes=2), turn(2, 7, shown=1, classes=2)],
            "Found: rotation (disc: units 1 and 2; bar: units 2 and 7). Not found: kind, colour.",
        ),
        (
            [unit(1, "kind", kind=0.5), unit(7), unit(2), unit(0, "colour", hue=0.5)],
            [turn(2, 7)],
            "Found: kind, rotation (units 2 and 7), colour.",
        ),
        (
            [unit(7), unit(1, "kind", kind=0.5), unit(2)],  # the pair stands where its first unit does
            [turn(2, 7)],
            "Found: rotation (units 2 and 7), kind. Not found: colour.",
        ),
        # What its own units tell is enough, and which units turn with it isn't said.
        ([unit(2, "rotation", turn=0.5), unit(7)], [turn(2, 7)], "Found: rotation. Not found: kind, colour."),
    ],
)
def test_the_line_says_which_factors_are_found(rows, turns, line):
    assert finding(rows, KINDS, turns) == line


def test_classes_without_names_are_counted():
    factors = replace(KINDS, value_names={}, labels={"kind": "sort"})
    turns = [turn(0, 1, shown=n, classes=3) for n in (0, 2)]
    line = finding([unit(0), unit(1)], factors, turns)
    assert line == "Found: none. In part: turn (2 of 3 classes of sort: units 0 and 1). Not found: sort, hue."
    two = Factors(("lit", "one"), (2, 1))
    assert finding([LatentUnit(0, 0.1, 1.0, True, shares=(0.0, 0.0))], two) == "Found: none. Not found: lit."
    assert finding([unit(0), unit(1, active=False)], None) == "Active units: 1 of 2."
