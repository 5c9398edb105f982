"""dSprites' variants: what is random in an image is what disentanglement_lib draws, and its own for good."""

from __future__ import annotations

import math
import pickle
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from PIL import Image

from bvae.data import ColorDSprites, DSprites, ImagesDataModule, NoisyDSprites, ScreamDSprites
from bvae.data.dsprites import FACTORS
from bvae.data.dsprites.render import NUM_IMAGES, render

VARIANTS = (ColorDSprites, NoisyDSprites, ScreamDSprites)
SOME = np.random.default_rng(0).permutation(NUM_IMAGES)[:2000]


def decoded(variant, indices, cache_dir):
    variant.load(cache_dir)
    return variant.decode(variant[np.asarray(indices)][0])


def sprites(indices) -> torch.Tensor:
    """Which pixels are the sprite's: (N, 1, 64, 64)."""
    return torch.from_numpy(render(*FACTORS.classes_of(indices).T))[:, None].bool()


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A file whose every window is another: (274, 350, 3) uint8."""
    pixels = np.random.default_rng(1).integers(0, 256, (274, 350, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("picture") / "mine.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


def test_colour_is_one_for_all_of_a_sprite_and_uniform_from_a_half_to_1(cache_dir):
    images, masks = decoded(ColorDSprites(), SOME, cache_dir), sprites(SOME)
    colours = images.amax(dim=(2, 3))
    assert torch.equal(images, masks * colours[:, :, None, None])
    assert 0.5 <= colours.min() < 0.502
    assert 0.998 < colours.max() <= 1
    assert colours.mean(dim=0).numpy() == pytest.approx(0.75, abs=0.012)  # 3.7 standard errors
    assert colours.std(dim=0).numpy() == pytest.approx(0.5 / 12**0.5, abs=0.006)
    assert abs(torch.corrcoef(colours.T) - torch.eye(3)).max() < 0.08
    assert len(colours.unique(dim=0)) == len(colours)


def test_noise_is_uniform_in_each_pixel_and_sprites_are_white(cache_dir):
    images, masks = decoded(NoisyDSprites(), SOME[:500], cache_dir), sprites(SOME[:500]).expand(-1, 3, -1, -1)
    assert (images[masks] == 1).all()  # 1 + U(0, 1), and no more than 1
    noise = images[~masks]
    assert 0 <= noise.min() < 1e-5
    assert 1 - 1e-5 < noise.max() <= 1
    assert noise.mean().item() == pytest.approx(0.5, abs=0.001)
    assert noise.std().item() == pytest.approx(12**-0.5, abs=0.001)
    flat = images.flatten(1) - images.mean(dim=0).flatten()
    alike = torch.corrcoef(flat) - torch.eye(len(flat))
    assert (abs(alike) < 0.2).float().mean() > 0.999  # sprites over one another, or a pool's window twice


def test_a_background_is_a_window_of_the_picture_averaged_with_a_colour_and_the_sprite_its_negative(cache_dir, picture):
    path, pixels = picture
    images, masks = decoded(ScreamDSprites(background=str(path)), SOME[:200], cache_dir), sprites(SOME[:200])
    backgrounds = torch.where(masks, 1 - images, images).permute(0, 2, 3, 1).numpy()
    # A window's pixels differ from one another as the image's do, twice: the colour is the same for all.
    corners = pixels[:, :, 0].astype(int)
    across = corners[:-63, 63:] - corners[:-63, :-63]
    down = corners[63:, :-63] - corners[:-63, :-63]
    diagonal = corners[63:, 63:] - corners[:-63, :-63]
    places, colours = [], []
    for background in backgrounds:
        corner = background[0, 0, 0]
        seen = [510 * (background[at][0] - corner) for at in ((0, -1), (-1, 0), (-1, -1))]
        fits = [abs(kind - value) < 0.1 for kind, value in zip((across, down, diagonal), seen, strict=True)]
        candidates = np.argwhere(np.logical_and.reduce(fits))
        residues = [2 * background - pixels[y : y + 64, x : x + 64] / 255 for y, x in candidates]
        best = min(range(len(residues)), key=lambda n: np.ptp(residues[n], axis=(0, 1)).max())
        assert np.ptp(residues[best], axis=(0, 1)).max() < 1e-6
        places.append(candidates[best])
        colours.append(residues[best].mean(axis=(0, 1)))
    assert -1e-6 < np.min(colours) < 0.02
    assert 0.98 < np.max(colours) < 1 + 1e-6
    assert np.mean(colours, axis=0) == pytest.approx(0.5, abs=0.08)
    assert np.mean(places, axis=0) == pytest.approx([(274 - 64) / 2, (350 - 64) / 2], rel=0.15)
    assert (np.min(places, axis=0) < 8).all()
    assert (np.max(places, axis=0) > [274 - 64 - 8, 350 - 64 - 8]).all()


def test_a_picture_of_one_crop_is_always_that_crop(tmp_path, cache_dir):
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    images = decoded(ScreamDSprites(background=str(tmp_path / "small.png")), [5], cache_dir)
    background = torch.where(sprites([5]), 1 - images, images)[0].permute(1, 2, 0).numpy()
    assert np.ptp(2 * background - pixels / 255, axis=(0, 1)).max() < 1e-6


def _decode(variant, indices):
    return variant.decode(variant[indices][0]).numpy()


@pytest.mark.parametrize("kind", VARIANTS)
def test_an_image_is_the_same_in_every_batch_and_process_and_another_with_another_seed(kind, cache_dir):
    variant, few = kind(seed=7), SOME[:20]
    images = decoded(variant, few, cache_dir)
    assert images.shape == (20, *variant.shape) == (20, 3, 64, 64)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert torch.equal(decoded(kind(seed=7), few[::-1], cache_dir).flip(0), images)
    assert torch.equal(variant.decode(variant[few[3:4]][0]), images[3:4])
    assert torch.equal(variant.decode(variant[few][0][3:5]), images[3:5])  # part of what has travelled
    with torch.inference_mode():
        assert torch.equal(variant.decode(variant[few][0]), images)
    assert torch.equal(decoded(pickle.loads(pickle.dumps(variant)), few, cache_dir), images)
    with get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply(_decode, (variant, few)), images)
    other = decoded(kind(seed=8), few, cache_dir)
    assert (other != images).flatten(1).any(dim=1).all()
    # A sprite's own pixels are as they are; its randomness differs from that of its neighbours in the set.
    near = decoded(variant, np.arange(few[0], few[0] + 8), cache_dir)
    assert len(near.amax(dim=(2, 3)).unique(dim=0)) == (1 if kind is NoisyDSprites else 8)
    assert len(near[:, :, :, :2].mean(dim=(2, 3)).unique(dim=0)) == (1 if kind is ColorDSprites else 8)


def test_what_is_random_comes_from_splitmix64(cache_dir):
    def mixed(x: int) -> int:  # Steele, Lea & Flood (2014)
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    draws = [mixed((mixed(7) + 0x9E3779B97F4A7C15 * (3 * 700_000 + channel)) % 2**64) for channel in range(3)]
    colours = decoded(ColorDSprites(seed=7), [700_000], cache_dir).amax(dim=(2, 3))[0]
    assert colours.tolist() == pytest.approx([0.5 + draw / 2**65 for draw in draws], abs=1e-7)


@pytest.mark.parametrize("kind", VARIANTS)
def test_the_trainings_noise_is_left_alone_and_factors_and_cache_are_dsprites(kind, cache_dir):
    plain, variant = DSprites(), kind(seed=11)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    decoded(variant, SOME[:4], cache_dir)
    assert torch.equal(torch.rand(3), expected)
    assert variant.cache_file(cache_dir) == plain.cache_file(cache_dir)
    assert variant.factors is plain.factors is FACTORS
    plain.load(cache_dir)
    assert torch.equal(variant[SOME[:4]][1], plain[SOME[:4]][1])
    assert torch.equal(variant[SOME[:4]][0][:, :512], plain[SOME[:4]][0])


@pytest.mark.parametrize("kind", VARIANTS)
def test_images_on_the_device_are_those_that_travel(kind, cache_dir, monkeypatch):
    monkeypatch.setattr(DSprites, "__len__", lambda self: 3000)  # not all of them: 383 MB
    modules = [ImagesDataModule(kind(), str(cache_dir), on_device=kept, eval_images=50) for kept in (False, True)]
    for module in modules:
        module.setup()
    batches = [next(iter(module.train_dataloader())) for module in modules]
    assert batches[1][0].shape == (64,)  # positions, in place of images
    streamed, resident = (
        module.on_after_batch_transfer(batch, 0) for module, batch in zip(modules, batches, strict=True)
    )
    assert torch.equal(streamed[0], resident[0])
    assert torch.equal(streamed[1], resident[1])


def test_the_card_names_the_background(picture):
    assert ScreamDSprites().card.about.endswith("Background: generated.")
    assert ScreamDSprites(background=str(picture[0])).card.about.endswith("Background: mine.png.")
    assert [kind.card.name for kind in VARIANTS] == ["dsprites_color", "dsprites_noisy", "dsprites_scream"]
    assert all("Locatello" in kind.card.citation and "Matthey" in kind.card.citation for kind in VARIANTS)


def test_the_generated_background_is_a_colourful_picture():
    picture = ScreamDSprites().picture
    assert picture.shape == (3, 274, 350)
    assert picture.dtype == torch.uint8
    assert torch.equal(picture, ScreamDSprites(seed=5).picture)
    assert picture.float().std(dim=(1, 2)).min() > 30
    for row, column in ((0, 0), (100, 95), (60, 120), (180, 250), (230, 60), (273, 349)):
        x, y = column / 274, row / 274
        for at_x, at_y, turn in ((0.35, 0.3, 4), (0.9, 0.65, -5), (0.2, 0.85, 3)):
            distance, angle = math.dist((x, y), (at_x, at_y)), math.atan2(y - at_y, x - at_x)
            angle += turn * math.exp(-12 * distance**2)
            x, y = at_x + distance * math.cos(angle), at_y + distance * math.sin(angle)
        band, coolness = 0.5 + 0.5 * math.sin(40 * (y + 0.06 * math.sin(7 * x))), 1 / (1 + math.exp(6 - 12 * y))
        for channel, (light, dark, cool, deep) in enumerate(
            ((0.98, 0.78, 0.3, 0.07), (0.72, 0.22, 0.62, 0.13), (0.22, 0.1, 0.7, 0.33))
        ):
            warm = band * light + (1 - band) * dark
            colour = (1 - coolness) * warm + coolness * (band * cool + (1 - band) * deep)
            assert picture[channel, row, column] == pytest.approx(255 * colour, abs=0.51)


def test_any_kind_of_picture_serves_as_a_background(tmp_path):
    steep = np.linspace(0, 65535, 80 * 80).reshape(80, 80).astype(np.uint16)
    Image.fromarray(steep).save(tmp_path / "sixteen.png")
    assert abs(ScreamDSprites(background=str(tmp_path / "sixteen.png")).picture.float().mean() - 127.5) < 1
    Image.new("RGB", (1000, 700), (200, 100, 0)).save(tmp_path / "large.jpg")
    assert ScreamDSprites(background=str(tmp_path / "large.jpg")).picture.shape == (3, 245, 350)
    Image.new("CMYK", (100, 90)).save(tmp_path / "cmyk.jpg")
    assert ScreamDSprites(background=str(tmp_path / "cmyk.jpg")).picture.shape == (3, 90, 100)


def test_a_background_with_damaged_exif_data_is_read(tmp_path):
    Image.new("RGB", (100, 90), "red").save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*")
    assert ScreamDSprites(background=str(tmp_path / "a.png")).picture.shape == (3, 90, 100)


def test_what_is_no_background_is_refused_in_a_sentence(tmp_path):
    Image.new("RGB", (63, 200)).save(tmp_path / "narrow.png")
    Image.new("RGB", (2000, 300)).save(tmp_path / "long.png")
    (tmp_path / "text.png").write_text("no picture")
    whole = (tmp_path / "long.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name, said in {
        "narrow.png": "has 63×200 pixels, 63×200 once it fits 350×274; it must keep 64×64 or more",
        "long.png": "has 2000×300 pixels, 350×53 once it fits 350×274",
        "text.png": "can't be read as a picture, a PNG or JPEG: cannot identify image file",
        "cut.png": "can't be read as a picture",
        "missing.png": "No such file",
        ".": "Is a directory",
    }.items():
        with pytest.raises(ValueError, match=r"data\.background=") as caught:
            ScreamDSprites(background=str(tmp_path / name))
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"data\.images\.seed must be an integer from 0 to 2\^32 - 1, got -1"):
        ColorDSprites(seed=-1)
