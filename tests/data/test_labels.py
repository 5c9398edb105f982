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
    found, factors, remarks = labels(tmp_path, "file,size,kind\nd.png,3,round\n./a.png,1,square\nb\\c.png,1,round\n")
    assert found.tolist() == [[1, 1], [1, 0], [3, 0]]
    assert found.dtype == np.int64
    assert (factors.names, factors.sizes, factors.categories) == (("size", "kind"), (2, 2), ("kind",))
    assert factors.value_names == {"kind": ("round", "square")}
    assert not remarks
    found, factors, _ = labels(tmp_path, "File,size\na.png,0.5\nb/c.png,1\nd.png,2\n")
    assert found.tolist() == [[0.5], [1], [2]]
    assert factors.categories == ()


def test_what_isnt_known_is_nan(tmp_path):
    text = "\ufefffile,size,kind,notes\na.png,,round,\nelsewhere.png,1,round,\nd.png,7,,\n"
    found, factors, remarks = labels(tmp_path, text)
    assert np.array_equal(found, [[np.nan, 0], [np.nan, np.nan], [7, np.nan]], equal_nan=True)
    assert factors.sizes == (1, 1)
    path = tmp_path / "labels.csv"
    assert remarks == [
        f"{path}: 1 row names no picture that could be read, first elsewhere.png",
        f"{path}: nothing is known of notes",
    ]
    assert labels(tmp_path, "file,size\n")[1:] == (None, [f"{path}: nothing is known of size"])
    assert "2 rows name no pictures" in labels(tmp_path, "file,size\nx,1\ny,2\n")[2][0]
    found, factors, _ = labels(tmp_path, "file,size,kind\na.png,NA,NaN\nb/c.png,2.5,nan\nd.png,,round\n")
    assert np.array_equal(found, [[np.nan, np.nan], [2.5, np.nan], [np.nan, 0]], equal_nan=True)
    assert factors.categories == ("kind",)


def test_texts_that_hardly_repeat_are_notes(tmp_path):
    images = [f"{n}.png" for n in range(60)]
    rows = [f"{n}.png,note {n},{n % 30},person {n % 30},{n if n < 20 else ''}x" for n in range(60)]
    _, factors, remarks = labels(tmp_path, "file,notes,id,who,few\n" + "\n".join(rows), images)
    assert factors.names == ("id", "who", "few")  # two pictures a person, and no more than 21 others
    assert remarks == [f"{tmp_path / 'labels.csv'}: notes is left out, as its 60 texts hardly repeat"]


def test_cells_are_read_as_csv_has_them(tmp_path):
    text = 'file,kind\r\n"a.png","two\nlines"\r\nb/c.png,"a ""b"", c"\r\n"d\x85.png",x\x0cy\r\n'
    found, factors, remarks = labels(tmp_path, text, ["a.png", "b/c.png", "d\x85.png"])
    assert factors.value_names["kind"] == ('a "b", c', r"two\nlines", r"x\x0cy")
    assert found.tolist() == [[1], [0], [2]]
    assert not remarks


def test_numbers_too_large_for_integers_stay(tmp_path):
    found, _, _ = labels(tmp_path, "file,size\na.png,1e300\nb/c.png,2\nd.png,1e400\n")
    assert found.tolist() == [[0], [2], [1]]  # infinity is no number, so the column is text
    found, _, _ = labels(tmp_path, "file,size\na.png,1e300\nb/c.png,2\nd.png,3\n")
    assert found[:, 0].tolist() == [1e300, 2, 3]
    assert found.dtype == np.float64


def test_a_table_in_another_encoding_is_said_in_a_sentence(tmp_path):
    (tmp_path / "labels.csv").write_bytes("file,größe\na.png,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.csv is damaged: 'utf-8' codec can't decode"):
        read_labels(tmp_path / "labels.csv", IMAGES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must begin with a line such as file,size"),
        ("name,size\na.png,1\n", "must begin with a line such as file,size"),
        ("file,size,size\n", "names of columns, all different"),
        ("file,\n", "must begin with a line such as file,size"),
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
    (folder / "labels.csv").write_text("file,grey\n0.png,0\n1.png,1\n")
    caplog.clear()
    again = prepared()
    again.setup()
    again.image_set.load(tmp_path / "cache")
    assert caplog.text.count("1 row names no picture that could be read, first 1.png") == 1


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
