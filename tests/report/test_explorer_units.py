"""What the explorer shows of a unit, and makes of two pictures, in a real browser."""

from __future__ import annotations

import json

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


NAME = """
const [unit, name, key] = arguments, { title } = explorer.panels[0].rows.find((row) => row.unit === unit);
const row = title.closest(".unit"), label = title.parentElement;
row.querySelector(".rename").click();
const field = row.querySelector(".name");
if (document.activeElement !== field || !label.hidden) return "no field to type in";
const before = field.value;
field.value = name;
if (key) field.dispatchEvent(new KeyboardEvent("keydown", { key }));
else field.blur();
return [before, title.textContent, row.querySelector(".name") === null, label.hidden];
"""


def test_a_unit_is_named_in_the_page_and_the_names_are_downloaded(page):
    browser, _ = page
    names = "return document.querySelector('.names').hidden"
    assert browser.execute_script(names)
    assert browser.execute_script(NAME, 1, "no", "Escape") == ["", "no factor", True, False]
    assert browser.execute_script(NAME, 1, "", "Enter") == ["", "no factor", True, False]
    assert browser.execute_script(names)  # nothing is to be kept
    assert browser.execute_script(NAME, 1, "  <b>slant</b> ", "Enter") == ["", "<b>slant</b>", True, False]
    assert browser.execute_script(NAME, 0, "größe", None) == ["", "größe", True, False]
    assert not browser.execute_script(names)
    options = "return explorer.panels[0].axes.map((s) => [...s.options].map((o) => o.textContent).sort())"
    assert browser.execute_script(options) == [["0: größe", "1: <b>slant</b>", "2: no factor"]] * 4
    assert browser.execute_script("return document.activeElement.className") != "name"
    saved = browser.execute_async_script(
        "const done = arguments[0]; HTMLAnchorElement.prototype.click = async function () {"
        "done([this.download, await (await fetch(this.href)).text()]); };"
        "document.querySelector('.names button').click();"
    )
    assert saved[0] == "units.json"
    assert json.loads(saved[1]) == {"0": "größe", "1": "<b>slant</b>"}
    assert browser.execute_script(NAME, 1, "", "Enter") == ["<b>slant</b>", "no factor", True, False]
    assert browser.execute_script("return JSON.parse(named(explorer.panels[0].units))") == {"0": "größe"}


def test_what_is_decoded_is_saved_as_a_picture(page):
    browser, _ = page
    saved = browser.execute_async_script(
        "const done = arguments[0]; HTMLAnchorElement.prototype.click = async function () {"
        "const image = await createImageBitmap(await (await fetch(this.href)).blob());"
        "done([this.download, image.width, image.height]); };"
        "document.querySelector('.save').click();"
    )
    assert saved == ["decoded.png", 64, 64]  # four times the size
