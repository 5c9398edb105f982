"""What the explorer shows of a unit, and makes of two pictures, in a real browser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_explorer import GRAY, model, opened, pictures, written

from bvae.architectures import MLPDecoder, MLPEncoder


@pytest.fixture
def page(browser, tmp_path):
    torch.manual_seed(0)
    vae = model(MLPEncoder(3, image_shape=GRAY), MLPDecoder(3, image_shape=GRAY))
    with torch.no_grad():
        [layer.bias for layer in vae.encoder.modules() if hasattr(layer, "bias")][-1][3:] = -4  # all units are active
    data = pictures(GRAY, n=20)
    opened(browser, written(tmp_path / "explorer.html", data, vae))
    return browser, vae.encode(data.images(20)).mean.detach().numpy()


def test_both_ends_of_a_unit_are_the_pictures_with_its_lowest_and_highest_codes(page):
    browser, codes = page
    table = browser.execute_script("return explorer.panels[0].units.map((row) => row.unit)")
    for place, unit in enumerate(table):
        order = np.sort(codes[:, unit])
        for at, expected in ((0, order[0]), (7, order[7]), (8, order[-8]), (15, order[-1])):
            click = "document.querySelectorAll('.ends')[arguments[0]].querySelectorAll('canvas')[arguments[1]].click()"
            browser.execute_script(click, place, at)
            assert browser.execute_script("return explorer.panels[0].code[arguments[0]]", unit) == pytest.approx(
                expected, abs=0.02
            )


def test_a_kept_code_is_blended_with_that_of_the_next_picture(page):
    browser, _ = page
    browser.execute_script("explorer.pick(0); document.getElementById('keep').click(); explorer.pick(5)")
    blend = "const b = document.getElementById('blend'); b.value = arguments[0]; b.dispatchEvent(new Event('input'));"
    code = "return [...explorer.panels[0].code]"
    first, other = (browser.execute_script(f"explorer.pick({n}); {code}") for n in (0, 5))
    for share in (0.25, 1, 0):
        expected = (1 - share) * np.array(first) + share * np.array(other)
        assert browser.execute_script(f"{blend} {code}", share) == pytest.approx(expected.tolist(), abs=1e-4)
    third = browser.execute_script(f"explorer.pick(9); {code}")  # with which the kept one is blended from now on
    middle = (np.array(first) + third) / 2
    assert browser.execute_script(f"{blend} {code}", 0.5) == pytest.approx(middle.tolist(), abs=1e-4)


def test_what_is_decoded_is_saved_as_a_picture(page):
    browser, _ = page
    saved = browser.execute_async_script(
        "const done = arguments[0]; HTMLAnchorElement.prototype.click = async function () {"
        "const image = await createImageBitmap(await (await fetch(this.href)).blob());"
        "done([this.download, image.width, image.height]); };"
        "document.querySelector('.save').click();"
    )
    assert saved == ["decoded.png", 64, 64]  # four times the size
