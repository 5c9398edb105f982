"""The explorer in a real browser: its numbers are PyTorch's, and it does what hands do to it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import environment, run_folder
from torch import nn

from bvae.architectures import ConvDecoder, ConvEncoder, LocatelloDecoder, LocatelloEncoder, MLPDecoder, MLPEncoder
from bvae.data import ArrayImages, FactorGrid, ImagesDataModule
from bvae.evaluation import units_of
from bvae.losses import Gaussian
from bvae.model import VAE
from bvae.report import Explored, explore
from bvae.report.explorer import _thinned

GRAY, COLOUR = (1, 16, 16), (3, 32, 32)


class Residual(nn.Module):
    """What people's own decoders are made of, beside our own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 4
        self.linear = nn.Linear(4, 8 * 8 * 8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.last = nn.Sequential(nn.Upsample(scale_factor=2), nn.LeakyReLU(0.1), nn.Conv2d(8, 1, 3, 1, 1, bias=False))

    def forward(self, latents):
        x = self.norm(nn.functional.gelu(self.linear(latents)).view(-1, 8, 8, 8))
        nn.functional.elu_(x.flatten(1))  # which changes x
        return self.last(nn.functional.softplus(self.branch(x)) + x.tanh())


class Fourier(nn.Module):
    """What the page has no version of."""

    latent_dim = 4

    def forward(self, latents):
        return latents.sin().sum(dim=1).view(-1, 1, 1, 1).expand(-1, *GRAY)


class Squares:
    """A white square at each of 6 × 8 places."""

    shape, card = GRAY, None
    factors = FactorGrid(("across", "down"), (6, 8), labels={"across": "x"}, positions=("across", "down"))

    def prepare(self, folder):
        pass

    load = prepare

    def __len__(self):
        return len(self.factors)

    def __getitem__(self, indices):
        classes = self.factors.classes_of(indices)
        images = np.zeros((len(indices), *self.shape), dtype=np.uint8)
        for image, (x, y) in zip(images[:, 0], classes, strict=True):
            image[2 * y : 2 * y + 2, 2 * x : 2 * x + 3] = 1
        return torch.from_numpy(images), torch.from_numpy(classes)

    def decode(self, batch):
        return batch.float()


def model(encoder, decoder, *likelihood) -> VAE:
    """A model whose pictures are as sharp as a trained one's."""
    vae = VAE(encoder, decoder, *likelihood).eval()
    with torch.no_grad():
        for layer in vae.modules():
            if getattr(layer, "bias", None) is not None:
                layer.bias.uniform_(-0.5, 0.5)
        [layer.weight for layer in decoder.modules() if hasattr(layer, "weight")][-1].mul_(4)
    return vae


def written(path: Path, data: ImagesDataModule, *models: VAE) -> Path:
    data.prepare_data()
    data.setup()
    explore(path, [Explored(f"model <{n}>", vae, units_of(vae, data)) for n, vae in enumerate(models)], data)
    return path


def pictures(shape, n: int = 12, levels: int = 255) -> ImagesDataModule:
    images = np.random.default_rng(0).integers(0, levels, (n, *shape), dtype=np.uint8, endpoint=True)
    return ImagesDataModule(ArrayImages(images, np.linspace(0, 1, n), ["hue"]), batch_size=4)


def opened(browser, page: Path):
    """Open a page, which must neither complain nor ask for anything."""
    browser.set_window_size(1280, 1000)
    browser.get(f"file://{page}")
    browser.execute_async_script(
        "const done = arguments[0];"
        "const wait = () => window.explorer ? requestAnimationFrame(done) : setTimeout(wait, 20); wait()"
    )
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert not browser.execute_script("return document.getElementById('problem').offsetHeight")


def shown(browser) -> np.ndarray:
    """The code of the first model, once the page has drawn it."""
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    return np.array(browser.execute_script("return [...explorer.panels[0].code]"))


def networks() -> dict[str, tuple[VAE, ImagesDataModule]]:
    torch.manual_seed(0)
    colour, wide = Gaussian(bounded=False), (3, 16, 16)
    activation = {"activation": nn.SiLU(inplace=True), "image_shape": COLOUR}
    return {
        "conv, gray": (model(ConvEncoder(), ConvDecoder()), pictures((1, 64, 64), levels=1)),
        "conv, colour": (model(ConvEncoder(4, **activation), ConvDecoder(4, **activation), colour), pictures(COLOUR)),
        "conv, 28×28": (
            model(ConvEncoder(3, image_shape=(1, 28, 28)), ConvDecoder(3, image_shape=(1, 28, 28))),
            pictures((1, 28, 28)),
        ),
        "conv, wide, in colour": (
            model(ConvEncoder(3, image_shape=(3, 24, 40)), ConvDecoder(3, image_shape=(3, 24, 40)), colour),
            pictures((3, 24, 40)),
        ),
        "mlp, gray": (
            model(MLPEncoder(5, image_shape=GRAY), MLPDecoder(5, activation=nn.Tanh(), image_shape=GRAY)),
            pictures(GRAY, levels=1),
        ),
        "mlp, colour": (
            model(MLPEncoder(5, image_shape=wide), MLPDecoder(5, image_shape=wide), colour),
            pictures(wide),
        ),
        "locatello": (
            model(LocatelloEncoder(3, image_shape=COLOUR), LocatelloDecoder(3, image_shape=COLOUR)),
            pictures(COLOUR),
        ),
        "a person's own": (model(MLPEncoder(4, image_shape=GRAY), Residual()), pictures(GRAY)),
    }


def test_each_architectures_numbers_are_pytorchs(browser, tmp_path):
    for name, (vae, data) in networks().items():
        page = written(tmp_path / f"{name}.html", data, vae)
        opened(browser, page)
        images, latents = data.images(4), torch.randn(4, vae.decoder.latent_dim)
        decode = "return [...explorer.panels[0].decode(Float32Array.from(arguments[0]))]"
        decoded = [browser.execute_script(decode, z.tolist()) for z in latents]
        with torch.no_grad():
            wanted, posterior = vae.pictures(latents).flatten(1), vae.encode(images)
            reconstructed = vae.reconstruct(images).flatten(1)
        assert wanted.std() > 0.1, name
        np.testing.assert_allclose(decoded, wanted, atol=1e-2, err_msg=name)
        for image, mean, sigma, picture in zip(
            images, posterior.mean, (posterior.log_variance / 2).exp(), reconstructed, strict=True
        ):
            found = browser.execute_script(
                "const p = explorer.panels[0], q = p.encode(Float32Array.from(arguments[0]));"
                "return [[...q.mean], [...q.sigma], [...p.decode(q.mean)]]",
                image.flatten().tolist(),
            )
            np.testing.assert_allclose(found[0], mean, atol=0.05, err_msg=name)
            np.testing.assert_allclose(found[1], sigma, rtol=0.05, err_msg=name)
            np.testing.assert_allclose(found[2], picture, atol=1e-2, err_msg=name)
        if name.startswith("conv"):
            assert page.stat().st_size < 3e6


def test_hands_move_the_units_and_choose_draw_and_open_pictures(browser, tmp_path):
    torch.manual_seed(1)
    vaes = [model(ConvEncoder(d, image_shape=GRAY), ConvDecoder(d, image_shape=GRAY)) for d in (3, 4)]
    data = ImagesDataModule(Squares(), batch_size=4)
    opened(browser, written(tmp_path / "two.html", data, *vaes))

    def code_of(image) -> np.ndarray:
        with torch.no_grad():
            return vaes[0].encode(image[None]).mean[0].numpy()

    # Both models, the titles as they are, one factor's row a factor; a click encodes the picture with that class.
    assert [h.text for h in browser.find_elements("css selector", ".panel h2")] == ["model <0>", "model <1>"]
    browser.execute_script("explorer.pick(0)")
    rows = browser.find_elements("css selector", ".factors fieldset")
    assert [row.find_element("tag name", "span").text for row in rows] == ["x", "down"]
    rows[0].find_elements("tag name", "label")[3].click()
    rows[1].find_elements("tag name", "label")[5].click()
    image = Squares()[np.array([3 * 8 + 5])][0][0].float()
    np.testing.assert_allclose(shown(browser), code_of(image), atol=0.02)
    bands = browser.execute_script(
        "const p = explorer.panels[0]; return p.rows.map(r => [r.unit, r.band.offsetWidth / (r.input.offsetWidth - 20)"
        " * p.reach / 2, p.posterior.sigma[r.unit]])"
    )
    assert [unit for unit, _, _ in bands] == [row.unit for row in units_of(vaes[0], data)]  # by their KL
    np.testing.assert_allclose([min(width, 9) for _, width, _ in bands], [sigma for *_, sigma in bands], rtol=0.1)
    # A slider, the pad by its arrow keys, the prior, and zero.
    before = browser.execute_script("return document.querySelector('.decoded canvas').toDataURL()")
    slider = browser.find_element("css selector", ".unit input")
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    slider.send_keys("" * 5)  # the right arrow
    unit = bands[0][0]
    assert shown(browser)[unit] > code_of(image)[unit] + 0.1
    assert browser.execute_script("return document.querySelector('.decoded canvas').toDataURL()") != before
    browser.find_element("id", "reset").click()
    assert not shown(browser).any()
    browser.find_element("css selector", ".pad canvas").send_keys("")  # up
    np.testing.assert_allclose(shown(browser)[bands[1][0]], 0.05, atol=0.01)
    browser.find_element("id", "prior").click()
    assert 0 < np.abs(shown(browser)).max() < 6
    # A click on a point of the scatter encodes its picture.
    browser.execute_script(
        "const c = document.querySelector('.plane canvas'), b = c.getBoundingClientRect();"
        "const [x, y] = explorer.panels[0].places[7];"
        "c.dispatchEvent(new MouseEvent('click', {clientX: b.left + x, clientY: b.top + y}))"
    )
    chosen = shown(browser)
    assert min(np.abs(chosen - code_of(image.float())).max() for image in Squares()[np.arange(48)][0]) < 0.02
    # A line that is drawn is white; what is opened is cropped to the shape, its transparent part white.
    browser.find_element("id", "clear").click()
    from selenium.webdriver import ActionChains

    canvas = browser.find_element("css selector", ".original canvas")
    ActionChains(browser).move_to_element(canvas).click_and_hold().move_by_offset(40, 0).release().perform()
    shown(browser)
    drawn = browser.execute_script("return [...explorer.panels[0].encode(explorer.current()).mean]")
    white = np.array(browser.execute_script("return [...explorer.current()]")).reshape(16, 16)
    assert white[8, 8:10].all()
    assert not white[:6].any()
    np.testing.assert_allclose(shown(browser), drawn, atol=1e-4)
    picture = Image.new("LA", (40, 20), (0, 255))
    picture.paste((0, 0), (0, 0, 20, 20))
    picture.save(tmp_path / "mine.png")
    browser.find_element("id", "file").send_keys(str(tmp_path / "mine.png"))
    browser.execute_async_script("setTimeout(arguments[0], 100)")
    half = torch.zeros(GRAY)
    half[..., :8] = 1
    np.testing.assert_allclose(shown(browser), code_of(half), atol=0.05)


def test_whole_values_keep_their_digits(browser, tmp_path):
    years = ArrayImages(np.zeros((12, 16, 16), np.uint8), np.arange(1980, 1992), ["year"])
    vae = model(MLPEncoder(2, image_shape=GRAY), MLPDecoder(2, image_shape=GRAY))
    opened(browser, written(tmp_path / "page.html", ImagesDataModule(years, batch_size=4), vae))
    legend = browser.execute_script("return document.querySelector('.legend').textContent")
    assert ("1980" in legend, "1991" in legend) == (True, True)


def test_what_cant_run_in_a_page_says_so_and_shows_frames(browser, tmp_path):
    torch.manual_seed(2)
    vae = VAE(MLPEncoder(4, image_shape=GRAY), Fourier()).eval()
    opened(browser, written(tmp_path / "page.html", pictures(GRAY), vae))
    remark = browser.find_element("css selector", ".remark").text
    assert "it computes sin, which the page can't" in remark
    start, unit = browser.execute_script("return [explorer.panels[0].start, explorer.panels[0].rows[1].unit]")
    for value in (-3, 1):
        pixels = browser.execute_script(
            "const p = explorer.panels[0]; p.move(...arguments); return [...p.decode(p.code)]", unit, value
        )
        code = torch.tensor(start)
        code[unit] = value
        np.testing.assert_allclose(pixels, vae.pictures(code[None]).flatten(), atol=1 / 255)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_runs_explorer_is_small_and_fits_a_phone(run, browser, scheme):
    page = run_folder(run[1].stdout) / "explorer.html"
    assert f"Explorer: {page}" in run[1].stdout
    assert page.stat().st_size < 8e6
    metrics = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    opened(browser, page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", page)[:3])) < 180) == (scheme == "dark")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_two_runs_are_explored_by_the_program(run, warm, tmp_path):
    folder = run_folder(run[1].stdout)
    program = tmp_path / "bvae-explore"
    program.write_text("from bvae.app.explore import run\n\nrun()\n")
    job = warm.run([str(program), f"run={folder}", f"run2={folder}", "output_dir=mine"], tmp_path, environment())
    assert job.returncode == 0, job.stderr
    assert "Explorer: mine/explorer.html" in job.stdout
    page = (tmp_path / "mine" / "explorer.html").read_text()
    assert page.count('class="blob"') == 3
    assert f"({folder})" in page  # which tells runs of one title apart
    job = warm.run([str(program), "run2=nowhere", f"run={folder}"], tmp_path, environment())
    assert "run2=nowhere is not a run's folder" in job.stdout + job.stderr


def test_a_grid_is_thinned_evenly():
    kept = _thinned((3, 6, 40, 32, 32), 10_000)
    assert [len(classes) for classes in kept] == [3, 6, 8, 8, 8]
    assert kept[2] == [0, 6, 11, 17, 22, 28, 33, 39]
    assert all(classes[-1] == size - 1 for classes, size in zip(kept, (3, 6, 40, 32, 32), strict=True))
