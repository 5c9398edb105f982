"""What each dataset's factors are: their order, sizes and kinds, as its makers describe them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bvae.data import MPI3D, Cars3D, DSprites, FactorGrid, Factors, Shapes3D, SmallNORB
from bvae.data.__main__ import described as card_of
from bvae.data.image_set import named
from bvae.data.official import described, in_blocks, labels_of, resized

OF_THE_ROBOT = ("object_color", "object_shape", "object_size", "camera_height", "background_color")
SETS = {
    DSprites: (
        {"shape": 3, "scale": 6, "orientation": 40, "posX": 32, "posY": 32},
        {
            "value_names": {"shape": ("square", "ellipse", "heart")},
            "labels": {"orientation": "rotation", "posX": "x", "posY": "y"},
            "positions": ("posX", "posY"),
            "angles": ("orientation",),
            "closed_angles": ("orientation",),
            "categories": ("shape",),
            "quoted": (1, 2, 5, 0, 0),
        },
        737_280,
    ),
    Shapes3D: (
        {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15},
        {
            "labels": {"floor_hue": "floor hue", "wall_hue": "wall hue", "object_hue": "object hue"},
            "angles": ("floor_hue", "wall_hue", "object_hue"),
            "categories": ("shape",),
        },
        480_000,
    ),
    MPI3D: (
        dict(zip((*OF_THE_ROBOT, "first_dof", "second_dof"), (6, 6, 2, 3, 3, 40, 40), strict=True)),
        {
            "value_names": {
                "object_color": ("white", "green", "red", "blue", "brown", "olive"),
                "object_shape": ("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere"),
                "object_size": ("small", "large"),
                "camera_height": ("top", "center", "bottom"),
                "background_color": ("purple", "sea green", "salmon"),
            },
            "labels": {name: name.replace("_", " ") for name in OF_THE_ROBOT}
            | {"first_dof": "first DOF", "second_dof": "second DOF"},
            "categories": ("object_shape", "object_color", "background_color"),
        },
        1_036_800,
    ),
    Cars3D: (
        {"elevation": 4, "azimuth": 24, "object": 183},
        {"angles": ("azimuth",), "categories": ("object",)},
        17_568,
    ),
    SmallNORB: (
        {"category": 5, "instance": 10, "elevation": 9, "azimuth": 18, "lighting": 6},
        {
            "value_names": {"category": ("animal", "human", "airplane", "truck", "car")},
            "angles": ("azimuth",),
            "categories": ("category", "instance", "lighting"),
        },
        48_600,
    ),
}
KINDS = {
    "value_names": {},
    "labels": {},
    "positions": (),
    "angles": (),
    "closed_angles": (),
    "categories": (),
    "quoted": (),
}


@pytest.mark.parametrize("kind", SETS, ids=lambda kind: kind.__name__)
def test_a_datasets_factors_are_those_of_its_makers(kind):
    sizes, kinds, n = SETS[kind]
    factors = kind.factors
    assert isinstance(factors, FactorGrid)
    assert (factors.names, factors.sizes) == (tuple(sizes), tuple(sizes.values()))
    assert {name: getattr(factors, name) for name in KINDS} == KINDS | kinds
    assert len(factors) == math.prod(sizes.values()) == n
    assert f"{n:,}" in kind.card.about
    assert kind.shape == ((1 if kind in (DSprites, SmallNORB) else 3), 64, 64)


def test_sizes_of_another_full_grid_keep_names_and_kinds_but_not_the_values_names():
    complex_ = MPI3D("x.npz")._grid_of(460_800)
    assert complex_.sizes == (4, 4, 2, 3, 3, 40, 40)
    assert complex_.value_names == {}
    assert (complex_.names, complex_.labels, complex_.categories) == (
        MPI3D.factors.names,
        MPI3D.factors.labels,
        MPI3D.factors.categories,
    )
    own = MPI3D("x.npz", [1, 1, 1, 1, 1, 2, 3])
    assert own._grid_of(6).sizes == (1, 1, 1, 1, 1, 2, 3)
    with pytest.raises(ValueError, match=r"x\.npz holds 1,036,800 images, not 6; data\.factor_sizes=\[…\] names .*"):
        own._grid_of(1_036_800)
    for sizes in ("1234567", 7, [1] * 6, [1] * 8):
        with pytest.raises(ValueError, match=r"^data\.factor_sizes must be 7 integers, of object_color, .*, got "):
            MPI3D("x.npz", sizes)


def test_the_last_factor_varies_fastest():
    grid = FactorGrid(("a", "b", "c"), (2, 3, 4))
    expected = [[a, b, c] for a in range(2) for b in range(3) for c in range(4)]
    found = grid.classes_of(np.arange(24))
    assert found.tolist() == expected
    assert found.dtype == np.int64
    assert grid.classes_of([23, 0, 5]).tolist() == [expected[23], expected[0], expected[5]]
    assert grid.classes_of(5).tolist() == expected[5]
    assert len(grid) == 24


def test_a_turn_that_is_closed_has_a_step_less():
    factors = Factors(("x", "y"), (40, 24), {}, {"y": "why"}, angles=("x", "y"), closed_angles=("x",))
    assert [factors.steps_around(name) for name in ("x", "y")] == [39, 24]
    assert [factors.label(name) for name in ("x", "y")] == ["x", "why"]


@pytest.mark.parametrize("kind", ["value_names", "labels", "positions", "angles", "closed_angles", "categories"])
def test_a_kind_of_a_factor_that_there_isnt_is_refused(kind):
    named_too = {"z": ("a",), "y": ("b",)} if kind == "value_names" else {"z": "a", "y": "b"}
    unknown = named_too if kind in ("value_names", "labels") else ("z", "y")
    with pytest.raises(ValueError, match=r"^there are no factors y, z, only a, b$"):
        Factors(("a", "b"), (1, 2), **{kind: unknown})
    for names, sizes, said in (
        (("a", "b"), (1,), "each factor needs a size, got 2 names and 1 sizes"),
        (("a", "a"), (1, 2), "each factor needs a name of its own, got a, a"),
    ):
        with pytest.raises(ValueError, match=f"^{said}$"):
            Factors(names, sizes)


def test_factors_of_which_no_more_is_known_have_numbers_and_as_many_classes_as_occur():
    classes = np.array([[5, 0], [7, 0], [5, 0]])
    factors = named(classes)
    assert (factors.names, factors.sizes) == (("factor 0", "factor 1"), (2, 1))
    assert named(classes, ["hue", "size"]).names == ("hue", "size")
    assert named(np.empty((3, 0))) is None


def test_classes_in_order_are_a_grid_and_others_go_with_each_image():
    grid = FactorGrid(("a", "b"), (2, 3)).classes_of(np.arange(6))
    factors, own = described(grid, ("a", "b"), angles=("b",))
    assert isinstance(factors, FactorGrid)
    assert (factors.sizes, factors.angles, own) == ((2, 3), ("b",), None)
    for classes in (grid[::-1], grid[:5], np.concatenate([grid, grid[:1]]), grid[[0, 0, 1, 2, 4, 5]]):
        factors, own = described(classes, ("a", "b"), angles=("b",))
        assert type(factors) is Factors
        assert (factors.sizes, factors.angles) == ((2, 3), ("b",))
        assert np.array_equal(own, classes)
    assert labels_of(("floor_hue", "scale", "a_b_c")) == {"floor_hue": "floor hue", "a_b_c": "a b c"}


def test_many_images_are_split_and_none_is_lost():
    images = np.arange(2500)
    blocks = list(in_blocks(images))
    assert np.array_equal(np.concatenate(blocks), images)
    assert max(map(len, blocks)) <= 1024


def test_an_image_is_shrunk_as_it_stands():
    image = np.zeros((96, 96, 3), np.uint8)
    image[:48, :48], image[48:, :48], image[:48, 48:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    small = resized(image)
    assert small.shape == (64, 64, 3)
    assert np.array_equal(small[[16, 48, 16], [16, 16, 48]], np.diag([255, 255, 255]))
    # Lines 3 pixels apart, which 64 can't show, are averaged to a third; the nearest pixel would be 0 or 255.
    lines = np.repeat((np.arange(96) % 3 == 1)[:, None] * 255, 96, axis=1).astype(np.uint8)
    assert resized(lines)[4:-4] == pytest.approx(85, abs=2)


def test_a_card_is_printed_with_the_number_of_images_and_each_factors_size():
    card = Cars3D.card
    assert card_of("cars3d").splitlines() == [
        "cars3d",
        f"about     {card.about}",
        "images    17,568",
        "factors   elevation 4, azimuth 24, object 183",
        f"source    {card.source}",
        f"licence   {card.licence}",
        f"citation  {card.citation}",
    ]
    for kind, name in ((DSprites, "dsprites"), (Shapes3D, "shapes3d"), (MPI3D, "mpi3d"), (SmallNORB, "smallnorb")):
        assert kind.card.name == name
        assert f"images    {SETS[kind][2]:,}\n" in card_of(name)


def test_some_factors_keep_their_names_and_kinds():
    kinds = {"positions": ("x", "y"), "angles": ("turn",), "closed_angles": ("turn",), "categories": ("kind",)}
    labels, values = {"turn": "rotation", "x": "left"}, {"kind": ("disc", "bar")}
    factors = FactorGrid(("kind", "x", "turn", "y"), (2, 3, 4, 5), values, labels, **kinds)
    found = factors.chosen([3, 0])
    assert found == Factors(("y", "kind"), (5, 2), values, {}, positions=("y",), categories=("kind",))
    assert type(found) is Factors  # no longer one image of each combination
    assert factors.chosen([2]).closed_angles == ("turn",)
