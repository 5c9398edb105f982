"""A training is resumed with the images that it began with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bvae.checks import OtherImages
from bvae.data import (
    ArrayFile,
    ArrayImages,
    ColorDSprites,
    FolderImages,
    ImagesDataModule,
    NoisyDSprites,
    ScreamDSprites,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 64, 64), dtype=np.uint8)


def module(images, cache: Path) -> ImagesDataModule:
    data = ImagesDataModule(images, cache_dir=str(cache), batch_size=2)
    data.prepare_data()
    data.setup()
    return data


def write(folder: Path, pixels: np.ndarray) -> FolderImages:
    folder.mkdir(exist_ok=True)
    for n, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{n}.png")
    return FolderImages(str(folder))


def array_file(path: Path, pixels: np.ndarray) -> ArrayFile:
    np.savez(path, images=pixels)
    return ArrayFile(str(path))


OTHERS = {
    "inverted": 255 - PIXELS,
    "half of them inverted": np.concatenate([255 - PIXELS[:3], PIXELS[3:]]),
    "in another order": PIXELS[[1, 0, 2, 3, 4, 5]],
}


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("kind", ["memory", "file", "folder"])
def test_other_images_of_the_same_number_are_refused(kind, others, tmp_path):
    make = {
        "memory": ArrayImages,
        "file": lambda pixels: array_file(tmp_path / "x.npz", pixels),
        "folder": lambda pixels: write(tmp_path / "x", pixels),
    }[kind]
    state = module(make(PIXELS), tmp_path / "cache").state_dict()
    assert state["images"] == 6
    assert isinstance(state["digest"], int)
    module(make(PIXELS), tmp_path / "another cache").load_state_dict(state)
    message = r"began with 6 other images, or with these in another order: bring those back, or .* by init_from=…$"
    with pytest.raises(OtherImages, match=message):
        module(make(OTHERS[others]), tmp_path / "cache").load_state_dict(state)


def test_what_varies_in_a_variant_is_a_part_of_its_images(cache_dir, tmp_path):
    for n, colour in enumerate(("red", "blue")):
        Image.new("RGB", (100, 100), colour).save(tmp_path / f"{n}.png")
    made = [
        ColorDSprites(),
        ColorDSprites(seed=1),
        NoisyDSprites(),
        ScreamDSprites(),
        ScreamDSprites(background=str(tmp_path / "0.png")),
        ScreamDSprites(background=str(tmp_path / "1.png")),
    ]
    for images in made:
        images.load(cache_dir)
    assert len({images.digest for images in made}) == len(made)


def test_a_set_that_has_no_digest_is_told_by_its_number(tmp_path):
    class Own:
        shape, factors, card = (1, 64, 64), None, None
        prepare = load = lambda self, folder: None

        def __len__(self):
            return 6

    data = ImagesDataModule(Own(), cache_dir=str(tmp_path), batch_size=2)
    assert data.state_dict() == {"images": 6, "digest": None}
    data.load_state_dict({"images": 6, "digest": 5})
    with pytest.raises(OtherImages, match="began with 7 images and now there are 6"):
        data.load_state_dict({"images": 7, "digest": None})
