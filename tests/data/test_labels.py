"""What people know about some of their pictures, in a table beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import Served, tiny_vae

from bvae.data import FolderImages, ImagesDataModule
from bvae.data.labels import read_labels
from bvae.evaluation import evaluate
from bvae.evaluation.scores import Scoring
from bvae.metrics import Codes, MutualInformationGap, TotalCorrelation
from bvae.report import report

IMAGES = ["a.png", "b/c.png", "d.png"]


def labels(tmp_path, text: str, images=IMAGES):
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    return read_labels(tmp_path / "labels.csv", images)


def test_numbers_stay_and_text_becomes_a_category(tmp_path):
    found, factors = labels(tmp_path, "file,size,kind\nd.png,3,round\n./a.png,1,square\nb\\c.png,1,round\n")
    assert found.tolist() == [[1, 1], [1, 0], [3, 0]]
    assert found.dtype == np.int64
    assert (factors.names, factors.sizes, factors.categories) == (("size", "kind"), (2, 2), ("kind",))
    assert factors.value_names == {"kind": ("round", "square")}
    found, factors = labels(tmp_path, "File,size\na.png,0.5\nb/c.png,1\nd.png,2\n")
    assert found.tolist() == [[0.5], [1], [2]]
    assert factors.categories == ()


def test_what_isnt_known_is_nan(tmp_path, caplog):
    text = "\ufefffile,size,kind,notes\na.png,,round,\nelsewhere.png,1,round,\nd.png,7,,\n"
    found, factors = labels(tmp_path, text)
    assert np.array_equal(found, [[np.nan, 0], [np.nan, np.nan], [7, np.nan]], equal_nan=True)
    assert factors.sizes == (1, 1)
    assert "1 rows are of no picture in the folder, first elsewhere.png" in caplog.text
    assert "nothing is known of notes" in caplog.text
    assert labels(tmp_path, "file,size\n")[1] is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must begin with a line file,"),
        ("name,size\na.png,1\n", "must begin with a line file,"),
        ("file,size,size\n", "the names of its columns, each another"),
        ("file,\n", "must begin with a line file,"),
        ("file,size\na.png\n", r"line 2: it has 1 cells for 2 names"),
        ("file,size\na.png,1\n./a.png,2\n", r"line 3: a\.png has a row already"),
        ("file,size\na.png," + "x" * 200_000, "labels.csv is damaged"),
    ],
)
def test_what_is_no_table_is_said_in_a_sentence(text, said, tmp_path):
    with pytest.raises(ValueError, match=said) as caught:
        labels(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_folder_has_the_labels_of_its_pictures_which_change_neither_cache_nor_digest(tmp_path, caplog):
    folder = tmp_path / "mine"
    folder.mkdir()
    for n in range(4):
        Image.new("L", (8, 8), 60 * n).save(folder / f"{n}.png")
    (folder / "1.png").write_text("no picture")
    cache = str(tmp_path / "cache")

    def prepared() -> ImagesDataModule:
        data = ImagesDataModule(FolderImages(str(folder), size=8), cache_dir=cache, batch_size=2)
        data.prepare_data()
        return data

    before = prepared()
    assert before.factors is None
    (folder / "labels.csv").write_text("file,grey\n0.png,0\n2.png,2\n3.png,3\n")
    after = prepared()
    assert after.image_set[np.arange(3)][1].tolist() == [[0], [2], [3]]
    assert after.state_dict() == before.state_dict()
    assert len(list((tmp_path / "cache").glob("*.h5"))) == 1
    assert "labels.csv" not in caplog.text
    assert "aren't read" not in caplog.text


def test_codes_whose_labels_are_all_known_are_taken():
    factors = torch.tensor([[1.0, 2.0], [torch.nan, 0.0], [3.0, 4.0]])
    codes = Codes(torch.arange(6.0).view(3, 2), torch.zeros(3, 2), factors)
    found = codes.labelled()
    assert found.mean.tolist() == [[0, 1], [4, 5]]
    assert found.factors.tolist() == [[1, 2], [3, 4]]
    assert not found.factors.is_floating_point()
    whole = Codes(codes.mean, None, torch.tensor([[1], [2], [3]]))
    assert whole.labelled() is whole
    halves = Codes(codes.mean, None, factors / 4).labelled().factors
    assert halves.tolist() == [[0.25, 0.5], [0.75, 1]]


@pytest.mark.parametrize("known", [300, 100, 0])
def test_units_are_named_and_scored_by_the_labelled_images_alone(known, tmp_path):
    pixels = torch.rand(600, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    factors = torch.full((600, 2), torch.nan, dtype=torch.float64)
    factors[:known, 0] = (pixels[:known, 0, 0, 1] * 5).floor()
    factors[:known, 1] = (pixels[:known, 0, 0, 2] * 5).floor()
    data = Served(pixels, factors.numpy())
    scoring = Scoring(sample={"mig": MutualInformationGap(), "total_correlation": TotalCorrelation()})
    found = evaluate(tiny_vae(log_variance=-6.0), data, tmp_path, scoring)
    scores = {score.name: score for score in found.scores}
    assert scores["total_correlation"].n == 600
    if known:
        assert scores["mig"].n == known
        assert scores["mig"].value > 0.6
    else:
        assert np.isnan(scores["mig"].value)
        assert "0 of 600 images have all labels" in scores["mig"].protocol
    follows = {row.unit: row.factor for row in found.table}
    assert (follows[1], follows[2]) == (("factor 0", "factor 1") if known >= 200 else ("", ""))
    report(tmp_path, found)
