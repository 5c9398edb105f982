"""The arrays that pictures are made of, pixel by pixel."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from tiny import tiny_vae

from bvae.evaluation import LatentUnit, pictures


@pytest.fixture
def figure(monkeypatch) -> list[Figure]:
    """The figures that are drawn, instead of their pictures."""
    found = []
    monkeypatch.setattr(pictures, "_render", lambda figure: found.append(figure) or Image.new("RGB", (1, 1)))
    return found


def frames(units: int, n: int, height: int, width: int, channels: int = 1) -> np.ndarray:
    shape = (units, n, height, width, channels)
    return np.random.default_rng(0).integers(200, size=shape, dtype=np.uint8)


TABLE = [
    LatentUnit(2, 0.012345, 2.5, True, "posX", 0.9, 0.8, "x"),
    LatentUnit(0, 0.5, 1.25, True),
    LatentUnit(1, 0.99, 0.001, False),
]


def test_values_in_0_to_1_become_the_nearest_bytes_with_the_channels_last():
    images = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 0.5, 254.4 / 255, 1.0]).view(1, 3, 1, 2)
    assert pictures.pixels(images).tolist() == [[[[0, 1, 254], [0, 128, 255]]]]
    many = pictures.pixels(torch.rand(4, 5, 1, 6, 7, dtype=torch.float64).bfloat16())
    assert (many.shape, many.dtype) == ((4, 5, 6, 7, 1), np.uint8)
    assert pictures.picture(np.full((2, 3, 1), 7, np.uint8)).mode == "L"
    coloured = pictures.picture(np.tile(np.array([1, 2, 3], np.uint8), (2, 5, 1)))
    assert (coloured.mode, coloured.size, coloured.getpixel((4, 1))) == ("RGB", (5, 2), (1, 2, 3))


def test_a_traversal_decodes_a_code_with_one_unit_changed():
    vae = tiny_vae((1, 1, 3))
    start = torch.tensor([0.2, 0.4, 0.6])
    found = pictures.traverse(vae, start, torch.tensor([0.0, 0.8, 5.0, -5.0])) / 255
    assert found.shape == (3, 4, 1, 3, 1)
    for unit in range(3):
        for n, value in enumerate((0.0, 0.8, 1.0, 0.0)):
            code = start.clone()
            code[unit] = value
            assert found[unit, n].ravel() == pytest.approx(code.numpy(), abs=0.002)
    assert start.tolist() == pytest.approx([0.2, 0.4, 0.6])  # not written over


def test_eleven_frames_are_shown_from_the_first_to_the_last():
    for n, step in ((31, 3), (21, 2), (11, 1)):
        shown = pictures.columns_of(np.arange(2 * n).reshape(2, n, 1, 1, 1))
        assert shown[:, :, 0, 0, 0].tolist() == [list(range(0, n, step)), list(range(n, 2 * n, step))]
    there = pictures.back_and_forth(np.arange(8).reshape(2, 4, 1, 1, 1))
    assert there[..., 0, 0, 0].tolist() == [[0, 1, 2, 3, 2, 1], [4, 5, 6, 7, 6, 5]]
    assert (pictures.FRAMES - 1) % (pictures.COLUMNS - 1) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_lie_in_rows_and_columns_on_grey(channels):
    shown = frames(2, 3, 5, 6, channels)
    axes = pictures._show(Figure(), shown, ["first", "second"])
    (image,) = axes.get_images()
    sheet = np.array(image.get_array()).reshape(2 * (5 + 4) - 4, 3 * (6 + 4) - 4, channels)
    for row in range(2):
        for column in range(3):
            top, left = row * (5 + 4), column * (6 + 4)
            assert np.array_equal(sheet[top : top + 5, left : left + 6], shown[row, column])
            sheet[top : top + 5, left : left + 6] = 128
    assert (sheet == 128).all()
    assert image.get_clim() == (0, 255) if channels == 1 else True
    assert image.get_cmap().name == "gray" if channels == 1 else True
    assert axes.get_yticks().tolist() == [2.5, 11.5]  # the middle of each row
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert axes.get_xticks().tolist() == []


def test_originals_are_above_their_reconstructions(figure):
    originals, decoded = frames(2, 4, 5, 6)
    assert pictures.reconstructions(originals, decoded).size == (1, 1)
    (axes,) = figure[0].axes
    sheet = np.asarray(axes.get_images()[0].get_array())
    for n in range(4):
        assert np.array_equal(sheet[:5, 10 * n : 10 * n + 6], originals[n, ..., 0])
        assert np.array_equal(sheet[9:14, 10 * n : 10 * n + 6], decoded[n, ..., 0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "reconstruction"]


def test_traversals_are_a_row_a_unit_in_the_tables_order_from_minus_3_to_3(figure):
    moving = frames(3, 31, 5, 6)
    pictures.traversals(moving, TABLE)
    (axes,) = figure[0].axes
    sheet = np.asarray(axes.get_images()[0].get_array())
    assert sheet.shape == (3 * 9 - 4, 11 * 10 - 4)
    for row, unit in enumerate((2, 0, 1)):
        for column in range(11):
            shown = sheet[9 * row : 9 * row + 5, 10 * column : 10 * column + 6]
            assert np.array_equal(shown, moving[unit, 3 * column, ..., 0])
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == [
        "unit 2: x\nKL 2.50 nats\nvariance 0.01235",
        "unit 0: active\nKL 1.25 nats\nvariance 0.5",
        "unit 1: at the prior\nKL 0.00 nats\nvariance 0.99",
    ]
    assert [label.get_color() for label in labels] == ["black", "black", "gray"]
    values = "-3.0 -2.4 -1.8 -1.2 -0.6 +0.0 +0.6 +1.2 +1.8 +2.4 +3.0"
    assert " ".join(label.get_text() for label in axes.get_xticklabels()) == values
    assert axes.get_xticks().tolist() == pytest.approx([10 * n + 3 for n in range(11)])


def test_a_rendered_figure_has_its_size_and_its_colours():
    drawn = pictures.traversals(np.zeros((3, 31, 8, 8, 1), np.uint8), TABLE)
    assert drawn.mode == "RGB"
    # What is blank is cut off.
    assert drawn.size == pytest.approx((100 * (2.4 + 0.8 * 11), 100 * (0.82 * 3 + 0.4)), rel=0.05)
    assert {(0, 0, 0), (128, 128, 128), (255, 255, 255)} <= {colour for _, colour in drawn.getcolors(1 << 20)}
    pair = pictures.reconstructions(np.zeros((2, 8, 8, 1), np.uint8), np.zeros((2, 8, 8, 1), np.uint8))
    assert pair.size == pytest.approx((320, 220), rel=0.05)


def test_a_matplotlibrc_changes_no_picture():
    shown = frames(3, 31, 8, 8), TABLE
    pair = shown[0][:, 0], shown[0][:, 0]
    before = pictures.traversals(*shown), pictures.reconstructions(*pair)
    own = {"text.usetex": True, "savefig.dpi": 20, "savefig.bbox": "tight", "font.size": 40, "image.origin": "lower"}
    with matplotlib.rc_context(own):
        assert (pictures.traversals(*shown), pictures.reconstructions(*pair)) == before
        assert matplotlib.rcParams["text.usetex"]  # as it was, afterwards


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mosaic_has_each_unit_at_its_place_with_a_heading(channels):
    moving = frames(3, 4, 20, 30, channels)
    headings = (("2: x", 255, 4, 4), ("0: active", 255, 68, 4), ("1: at the prior", 160, 4, 64))
    sheets = pictures.mosaic(moving, TABLE, columns=2)
    assert len(sheets) == 4
    # Pictures twice as large, each with 16 pixels above it, 4 between them and around all.
    assert {sheet.size for sheet in sheets} == {(2 * 64 + 4, 2 * (16 + 40 + 4) + 4)}
    assert {sheet.mode for sheet in sheets} == {"L" if channels == 1 else "RGB"}
    for n, sheet in enumerate(sheets):
        drawn = np.asarray(sheet).reshape(124, 132, channels)
        for unit, left, top in ((2, 4, 4), (0, 68, 4), (1, 4, 64)):
            expected = moving[unit, n].repeat(2, axis=0).repeat(2, axis=1)
            assert np.array_equal(drawn[top + 16 : top + 56, left : left + 60], expected)
        assert (drawn[64:, 68:] == 48).all()  # where there is no fourth
        assert (drawn[:4] == 48).all()
        for heading, fill, left, top in headings:
            written = Image.new("L", (50, 16), 48)
            ImageDraw.Draw(written).text((0, 0), heading, fill=fill)
            assert np.array_equal(drawn[top : top + 16, left : left + 50, 0], np.asarray(written))
    assert pictures.mosaic(moving, TABLE)[0].size == (3 * 64 + 4, 64)  # five side by side, or fewer
    six = [LatentUnit(unit, 1.0, 0.0, False) for unit in range(6)]
    moving = frames(6, 2, 20, 30, channels)
    sheet = pictures.mosaic(moving, six)[0]
    assert sheet.size == (5 * 64 + 4, 2 * 60 + 4)
    drawn = np.asarray(sheet).reshape(124, 324, channels)
    for unit, left, top in ((4, 4 + 4 * 64, 4), (5, 4, 64)):
        expected = moving[unit, 0].repeat(2, axis=0).repeat(2, axis=1)
        assert np.array_equal(drawn[top + 16 : top + 56, left : left + 60], expected)


def test_films_are_twice_as_large_and_play_for_ever(tmp_path):
    moving = frames(1, 5, 6, 7)[0]
    moving[..., 0] = moving[..., 0] // 100 * 100  # few greys, which a GIF keeps
    large = pictures.enlarged(moving)
    for shown, frame in zip(large, moving, strict=True):
        assert np.array_equal(np.asarray(shown), frame[..., 0].repeat(2, axis=0).repeat(2, axis=1))
    assert pictures.enlarged(moving, 3)[0].size == (21, 18)
    pictures.save_gif(large, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (5, 0, 80)
        for n in range(5):
            gif.seek(n)
            assert np.array_equal(np.asarray(gif.convert("L")), np.asarray(large[n]))
