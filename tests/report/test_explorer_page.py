"""What the explorer's page holds: its JSON, its pictures and its numbers, read as the page reads them."""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import runnable
from tiny import Served
from torch import nn

from bvae.data.image_set import FactorGrid, Factors
from bvae.evaluation import LatentUnit
from bvae.evaluation.names import named_by
from bvae.report import Explored, explore
from bvae.report.explorer import _thinned

SHAPE = (1, 2, 3)


def read(path: Path) -> tuple[dict, list[bytes], str]:
    """The page's JSON, its unpacked blobs, and its text."""
    text = path.read_text(encoding="utf-8")
    about = json.loads(re.search(r'<script type="application/json" id="about">(.*?)</script>', text)[1])
    blobs = re.findall(r'<script type="text/plain" class="blob">(.*?)</script>', text)
    return about, [gzip.decompress(base64.b64decode(blob)) for blob in blobs], text


def units(n: int = 6) -> list[LatentUnit]:
    return [LatentUnit(unit, 0.25 if unit else 0.04, 1.5, unit > 0, name=f"u{unit}") for unit in reversed(range(n))]


def written(tmp_path, images, vae=None, title="mine", classes=None, factors=None, table=None) -> tuple:
    data = Served(images, classes, batch_size=1_000, factors=factors)
    shape = tuple(images.shape[1:])
    explored = Explored(title, vae or runnable(shape), units(math.prod(shape)) if table is None else table)
    explore(tmp_path / "explorer.html", [explored], data)
    return read(tmp_path / "explorer.html")


def test_units_are_described_with_their_deviation(tmp_path):
    images = np.random.default_rng(0).uniform(size=(5, *SHAPE))
    table = named_by(units(), {4: "mine"})
    about, _, text = written(tmp_path, images, classes=np.arange(10).reshape(5, 2), table=table)
    (model,) = about["models"]
    assert model["units"] == [
        # σ is the root of the variance, ¼ and 0.04
        {
            **{"unit": unit, "name": "mine" if unit == 4 else f"u{unit}", "called": "mine" if unit == 4 else ""},
            **{"plain": f"u{unit}", "kl": 1.5, "sigma": 0.5 if unit else 0.2, "active": unit > 0},
        }
        for unit in (5, 4, 3, 2, 1, 0)
    ]
    assert (model["title"], about["shape"]) == ("mine", [1, 2, 3])
    assert [factor["label"] for factor in about["factors"]] == ["factor 0", "factor 1"]
    assert about["factors"][1] == {
        **{"label": "factor 1", "category": False, "angle": False, "kept": [], "names": []},
        **{"values": [1, 3, 5, 7, 9]},
    }
    assert "<title>mine · bvae</title>" in text


@pytest.mark.parametrize("title", ["</script><b>", "a <!-- <script>", 'x & "y"'])
def test_a_title_ends_no_script(tmp_path, title):
    about, blobs, text = written(tmp_path, torch.zeros(2, *SHAPE), title=title)
    assert about["models"][0]["title"] == title
    assert len(blobs) == 2
    data = text.partition('id="about">')[2].partition("</script>")[0]
    assert "<" not in data
    assert json.loads(data) == about
    assert f"<title>{html.escape(title, quote=False)}" in text.replace("&#34;", '"')


def test_black_and_white_pictures_are_packed_and_others_are_not(tmp_path):
    rng = np.random.default_rng(0)
    binary = rng.integers(2, size=(5, *SHAPE)).astype(float)
    about, (pictures, _), _ = written(tmp_path, binary)
    assert about["pictures"] == {"count": 5, "packed": True, "points": [0, 1, 2, 3, 4]}
    assert len(pictures) == 5  # six pixels are one byte, and each picture begins with one
    bits = np.unpackbits(np.frombuffer(pictures, np.uint8).reshape(5, 1), axis=1)[:, :6]
    assert np.array_equal(bits, binary.reshape(5, 6))
    grey = binary.copy()
    grey[3, 0, 1, 2] = 1 / 255
    about, (pictures, _), _ = written(tmp_path, grey)
    assert about["pictures"]["packed"] is False
    assert np.array_equal(np.frombuffer(pictures, np.uint8), np.round(grey.ravel() * 255))
    for value, packed in ((254 / 255, False), (0.5, False), (1.0, True), (0.0, True)):
        about, _, _ = written(tmp_path, np.full((2, *SHAPE), value))
        assert about["pictures"]["packed"] is packed


def test_the_models_blob_begins_with_the_codes_of_the_points(tmp_path):
    images = np.round(np.random.default_rng(0).uniform(size=(600, *SHAPE)) * 255) / 255
    about, (_, numbers), _ = written(tmp_path, images, classes=np.arange(600))
    points = about["pictures"]["points"]
    assert about["pictures"]["count"] == 600
    assert (len(points), len(set(points)), points) == (500, 500, sorted(points))
    codes = np.frombuffer(numbers, "<f4", 500 * 6).reshape(500, 6)
    assert codes == pytest.approx(images[points].reshape(500, 6), abs=1e-6)
    assert about["factors"][0]["values"] == points
    again, _, _ = written(tmp_path, images)
    assert again["pictures"]["points"] == points


@pytest.mark.parametrize(("largest", "reach"), [(0.9, 3.0), (3.0, 3.0), (3.1, 3.5), (-3.6, 4.0), (7.5, 7.5)])
def test_sliders_reach_as_far_as_the_codes_in_halves_and_three_at_least(tmp_path, largest, reach):
    images = torch.zeros(3, *SHAPE)
    images[1, 0, 1, 1] = 1
    about, _, _ = written(tmp_path, images, runnable(SHAPE, scale=largest))
    assert about["models"][0]["reach"] == reach


class Sine(nn.Module):
    """What the page has no version of; its picture is brighter the larger the first unit, and has one colour."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, latents):
        first = latents.sin()[:, :1, None, None] * 0 + latents[:, :1, None, None] / 6 + 0.5
        return torch.cat((first, first * 0, first * 0 + 1), dim=1).expand(-1, 3, 1, 2)


def test_what_cant_run_in_the_page_is_given_as_frames(tmp_path):
    vae = runnable((3, 1, 2))
    vae.decoder = Sine()
    images = torch.rand(4, 3, 1, 2)
    images[2] = 0.004  # about one of 255, so nearest the origin
    about, (_, numbers), _ = written(tmp_path, images, vae)
    (model,) = about["models"]
    assert model["refused"] == "it computes sin, which the page can't"
    assert (model["frames"], model["reach"]) == (31, 3.0)
    assert model["start"] == pytest.approx([1 / 255] * 6)
    frames = np.frombuffer(numbers[4 * 4 * 6 :], np.uint8).reshape(6, 31, 3, 1, 2)  # units, frames, C, H, W
    assert frames[0, :, 0, 0, 0].tolist() == pytest.approx(np.linspace(0, 255, 31), abs=0.6)
    assert (frames[1:, :, 0] == round((0.5 + 1 / 255 / 6) * 255)).all()
    assert (frames[:, :, 1] == 0).all()
    assert (frames[:, :, 2] == 255).all()


def test_models_stand_side_by_side_if_they_take_the_datas_images(tmp_path):
    data = Served(torch.rand(4, *SHAPE))
    small, large = runnable(SHAPE), runnable(SHAPE, scale=5.0)
    models = [Explored("a", small, units()), Explored("b", large, units()[::-1])]
    path = tmp_path / "explorer.html"
    explore(path, models, data)
    about, blobs, text = read(path)
    assert [model["title"] for model in about["models"]] == ["a", "b"]
    assert [model["units"][0]["unit"] for model in about["models"]] == [5, 0]
    first, second = (np.frombuffer(blob, "<f4", 24) for blob in blobs[1:])
    assert second == pytest.approx(5 * first)
    assert "<title>a and b · bvae</title>" in text
    assert '<main class="several"' in text
    large.encoder.image_shape = (1, 4, 4)
    with pytest.raises(ValueError, match=r"b takes images of \(1, 4, 4\), the data's are of \(1, 2, 3\)"):
        explore(path, models, data)
    large.encoder.image_shape = list(SHAPE)
    explore(path, models, data)


def test_a_model_that_trains_is_explored_in_evaluation_mode_and_left_alone(tmp_path):
    vae = runnable(SHAPE).double().train()
    seen = []
    vae.encoder.register_forward_pre_hook(lambda module, given: seen.append((module.training, given[0].dtype)))
    written(tmp_path, torch.rand(4, *SHAPE), vae)
    assert vae.training
    assert next(vae.parameters()).dtype == torch.float64
    assert set(seen) == {(False, torch.float32)}


class Set:
    """A picture of one pixel for each combination, which is as bright as its index says."""

    def __init__(self, *sizes: int, kind=FactorGrid, shape=(1, 1, 1), **more) -> None:
        names = tuple("abc"[: len(sizes)])
        self.factors, self.n, self.shape = kind(names, sizes, **more), math.prod(sizes), shape

    def __len__(self):
        return self.n

    def __getitem__(self, indices):
        classes = np.stack(np.unravel_index(indices, self.factors.sizes), axis=1)
        return torch.from_numpy(np.asarray(indices)).byte(), torch.from_numpy(classes)

    def decode(self, batch):
        return (batch.float() / 255).view(-1, 1, 1, 1).expand(-1, *self.shape)


def of_grid(tmp_path, images: Set, **more) -> tuple[dict, np.ndarray]:
    classes = np.zeros((3, len(images.factors.names)), int)
    data = Served(torch.full((3, *images.shape), 0.5), classes, factors=images.factors)
    data.image_set = images
    vars(data).update(more)
    explore(tmp_path / "page.html", [Explored("a", runnable(images.shape), units(math.prod(images.shape)))], data)
    about, (pictures, *_), _ = read(tmp_path / "page.html")
    return about, np.frombuffer(pictures, np.uint8)


def test_of_a_grid_each_combination_of_some_classes_is_there(tmp_path):
    kinds = {"categories": ("a",), "angles": ("b",), "labels": {"b": "turn"}, "value_names": {"a": ("no", "yes")}}
    images = Set(2, 5, 3, **kinds)
    about, pictures = of_grid(tmp_path, images)
    assert about["pictures"]["count"] == 30
    assert pictures.tolist() == list(range(30))
    values = np.stack(np.unravel_index(np.arange(30), (2, 5, 3)))
    first, second, third = about["factors"]
    assert first == {
        **{"label": "a", "category": True, "angle": False, "kept": [0, 1], "names": ["no", "yes"]},
        **{"values": values[0].tolist()},
    }
    assert (second["label"], second["category"], second["angle"], second["names"]) == ("turn", False, True, [])
    assert (second["kept"], third["kept"]) == ([0, 1, 2, 3, 4], [0, 1, 2])
    assert [second["values"], third["values"]] == values[1:].tolist()
    about, pictures = of_grid(tmp_path, images, eval_images=12)  # no more than are evaluated
    # Of 5 one after the other goes till three are left, of which the first factor of as many loses one more.
    assert [factor["kept"] for factor in about["factors"]] == [[0, 1], [0, 4], [0, 1, 2]]


def test_pictures_of_no_whole_grid_are_those_for_prediction(tmp_path):
    for images in (Set(2, 3, kind=Factors), Set(2, 3)):
        images.n = 5 if isinstance(images.factors, FactorGrid) else 6
        about, pictures = of_grid(tmp_path, images)
        assert pictures.tolist() == [128] * 3
        assert [factor["kept"] for factor in about["factors"]] == [[], []]
        assert [factor["values"] for factor in about["factors"]] == [[0, 0, 0]] * 2


def test_pictures_are_as_many_as_there_is_room_for(tmp_path, monkeypatch):
    module = "bvae.report.explorer"
    monkeypatch.setattr(f"{module}._PICTURES", 7)
    assert written(tmp_path, torch.rand(9, *SHAPE), classes=np.arange(9))[0]["pictures"]["count"] == 7
    assert written(tmp_path, torch.rand(4, *SHAPE))[0]["pictures"]["count"] == 4
    monkeypatch.setattr(f"{module}._BYTES", 31)  # five pictures of six bytes
    about, (pictures, _), _ = written(tmp_path, torch.rand(9, *SHAPE), classes=np.arange(9))
    assert (about["pictures"]["count"], len(pictures)) == (5, 30)
    assert about["factors"][0]["values"] == [0, 1, 2, 3, 4]
    monkeypatch.setattr(f"{module}._BYTES", 1)
    assert written(tmp_path, torch.rand(9, *SHAPE))[0]["pictures"]["count"] == 2
    monkeypatch.setattr(f"{module}._BYTES", 4)
    about, _ = of_grid(tmp_path, Set(3, 3))  # one pixel each
    assert [factor["kept"] for factor in about["factors"]] == [[0, 2], [0, 2]]


def test_the_largest_factors_are_thinned_first_and_keep_their_ends():
    assert _thinned((2, 3), 6) == [[0, 1], [0, 1, 2]]
    assert _thinned((2, 3), 5) == [[0, 1], [0, 2]]
    assert _thinned((4, 2), 6) == [[0, 2, 3], [0, 1]]  # NumPy rounds a half to the even number
    assert _thinned((5, 2), 1) == [[0], [0]]
    assert _thinned((11,), 6) == [[0, 2, 4, 6, 8, 10]]


def test_some_data_modules_have_no_factors(tmp_path):
    about, _, _ = written(tmp_path, torch.rand(3, *SHAPE))
    assert about["factors"] == []


def test_an_explorer_links_to_the_report_beside_it(tmp_path):
    images = torch.rand(3, *SHAPE)
    assert "report.html" not in written(tmp_path, images)[2]
    (tmp_path / "report.html").touch()
    assert '<a href="report.html">Report</a>' in written(tmp_path, images)[2]
    models = [Explored(title, runnable(SHAPE), units()) for title in "ab"]
    explore(tmp_path / "explorer.html", models, Served(images, None, batch_size=1_000))
    assert "report.html" not in (tmp_path / "explorer.html").read_text(encoding="utf-8")
