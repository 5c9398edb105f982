"""The code of the explorer's page, asked in a browser for what it does."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from explored import GRAY, SIZES, Grid, Sine, numbers, opened, table
from networks import runnable
from tiny import Served

from bvae.report import Explored, explore


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """Two models side by side, of which the second can't run in the page: how to ask the page something."""
    data = Served(torch.zeros(2, *GRAY), np.zeros((2, 3), int), factors=Grid.factors)
    data.image_set = Grid()
    runs, refused = runnable(GRAY, scale=2.0), runnable(GRAY)
    with torch.no_grad():
        runs.encoder[1].bias[8:] = math.log(0.09)  # σ is 0.3
    refused.decoder = Sine()
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    explore(path, [Explored("a", runs, table(5, 6, 7)), Explored("b", refused, table())], data)
    opened(browser, path)
    return lambda script, *given: browser.execute_script(script, *given)


def test_numbers_are_written_for_people(page):
    assert page("return [0.0041, 0.056, 0.123, 0.9949, 0.995, 12.34].map(digits)") == [
        *("0.004", "0.06", "0.12", "0.99", "1.0", "12.3"),
    ]
    assert page("return [-0.004, -0.5, 1.234, 0].map(signed)") == ["0.00", "−0.50", "1.23", "0.00"]
    assert page(
        "return [[['disc'], 0], [['disc'], 1], [[], 1984], [[], 0.12345]].map(([names, v]) => valueName({names}, v))"
    ) == [
        *("disc", "1", "1984", "0.123"),
    ]
    assert page("return called({unit: 3, name: 'x'})") == "3: x"


def test_values_have_colours_by_their_factors_kind(page):
    ask = "const hue = hues(arguments[0]); return arguments[1].map(hue)"
    assert page(ask, {"values": [2, 6], "angle": True}, [2, 3, 6]) == [f"hsl({h} 65% 55%)" for h in (0, 90, 360)]
    assert page(ask, {"values": [0, 3], "category": True}, [0, 2]) == [f"hsl({h} 65% 55%)" for h in (210, 485)]
    assert page(ask, {"values": [2, 6]}, [2, 4, 6]) == [f"hsl({h} 70% 55%)" for h in (250, 147.5, 45)]
    assert page(ask, {"values": [5, 5]}, [5]) == ["hsl(250 70% 55%)"]


def test_pictures_are_found_by_their_number_and_chosen_factor_by_factor(page):
    for n in (0, 13, 23):
        assert page("return [...picture(arguments[0])]", n) == pytest.approx(numbers(n) * 128 / 255)
    page("pick(arguments[0])", 1 * 12 + 2 * 3 + 1)
    # Each choice stands for the picture with that one factor changed.
    stands = [[x * 12 + 7 for x in range(2)], [13 + y * 3 for y in range(4)], [18 + z for z in range(3)]]
    assert page("return thumbnails.map((t) => t.stands())") == [n for row in stands for n in row]
    assert page("return thumbnails.map((t) => t.input.checked)") == [n == 19 for row in stands for n in row]
    legends = "return [...document.querySelectorAll('.factors legend')].map((l) => l.textContent)"
    assert page(legends) == ["kind", "turn", "scale"]
    titles = page("return [...document.querySelectorAll('.factors .choice')].map((l) => l.title)")
    assert titles == ["kind disc", "kind bar", *(f"turn {n}" for n in range(4)), *(f"scale {n}" for n in range(3))]
    page("thumbnails[0].input.click()")
    assert page("return [...explorer.current()]") == pytest.approx(numbers(7) * 128 / 255)
    drawn = "return [...thumbnails[5].canvas.getContext('2d').getImageData(0, 0, 4, 2).data]"
    assert page(drawn) == [v for bit in numbers(0 + 3 * 3 + 1) for v in (*[128 * bit] * 3, 255)]


def test_a_picture_is_encoded_by_each_model_that_runs(page):
    page("pick(13)")
    code, mean, sigma = page(
        "const p = panels[0]; return [p.code, p.posterior.mean, p.posterior.sigma].map((v) => [...v])"
    )
    assert code == pytest.approx(numbers(13) * 256 / 255, abs=0.01)
    assert (mean, sigma) == (code, pytest.approx([0.3] * 8, rel=1e-4))
    assert page("return panels[1].posterior") is None
    decoded = page("return [...panels[0].decode(panels[0].code)]")
    assert decoded == pytest.approx(np.clip(code, 0, 1), abs=0.01)
    # The band is 2σ each way; the slider reaches 3, and its knob takes 10 pixels at each end.
    bands = page(
        "panels[0].render(); return panels[0].rows.map((r) => [r.unit, r.band.style.left, r.band.style.width])"
    )
    assert [unit for unit, *_ in bands] == [7, 6, 5, 4, 3, 2, 1, 0]
    for unit, left, width in bands:
        place, wide = (float(re.search(r"([\d.]+)%", text)[1]) / 100 for text in (left, width))
        assert place == pytest.approx((code[unit] + 3) / 6, abs=1e-4)
        assert wide == pytest.approx(2 * 0.3 / 3, abs=1e-4)
    page("panels[0].set(panels[0].code)")
    assert page("panels[0].render(); return panels[0].rows.map((r) => r.band.hidden)") == [True] * 8


def test_units_are_sliders_with_the_idle_ones_apart(page):
    sliders = (
        "return panels.map((p) => p.rows.map((r) => [r.unit, r.input.min, r.input.max, !!r.input.closest('details')]))"
    )
    first, second = page(sliders)
    assert first == [[unit, "-3", "3", unit < 5] for unit in reversed(range(8))]
    assert all(idle for *_, idle in second)
    summaries = (
        "return panels.map((p) => [p.find('summary').textContent, p.find('details').open, p.find('details').hidden])"
    )
    assert page(summaries) == [["5 idle units", False, False], ["8 idle units", True, False]]
    labels = page("return [...panels[0].root.querySelectorAll('.unit label')].map((l) => l.textContent)")
    assert labels[0] == "u7σ 0.50 · KL 1.23 · unit 7"
    page("panels[0].move(7, 1.5); panels[0].move(6, 99); panels[0].move(5, -99); panels[0].render()")
    assert page("return panels[0].rows.slice(0, 3).map((r) => [r.output.textContent, Number(r.input.value)])") == [
        ["1.50", 1.5],
        ["3.00", 3],
        ["−3.00", -3],
    ]
    chosen = "(s) => [s.value, s.options.length, s.options[0].text]"
    assert page(f"return [...panels[0].root.querySelectorAll('select')].map({chosen})") == [
        ["7", 8, "7: u7"],
        ["6", 8, "7: u7"],
    ] * 2 + [["0", 3, "kind"]]
    assert page("return panels.map((p) => p.find('.pad').hidden)") == [False, True]


def test_what_cant_run_shows_the_frames_of_the_unit_that_moves(page):
    start = page("return panels[1].start")
    assert np.count_nonzero(start) == 0  # picture 0 is black
    for unit, value, frame in ((3, 1.2, 1.2), (3, 1.28, 1.2), (5, -3.0, -3.0), (5, 3.0, 3.0)):
        decoded = page("const p = panels[1]; p.move(...arguments); return [...p.decode(p.code)]", unit, value)
        wanted = [np.clip(math.sin(frame), 0, 1) if n == unit else 0 for n in range(8)]
        assert decoded == pytest.approx(wanted, abs=0.003)
    assert page("return [...panels[1].code]") == [0, 0, 0, 0, 0, 3, 0, 0]  # the other is back where it was
    page("panels[1].move(0, 1); document.getElementById('reset').click()")
    assert page("return [...panels[1].code]") == start


def test_buttons_set_the_code(page):
    page("panels[0].move(3, 1); document.getElementById('reset').click()")
    assert page("return [...panels[0].code]") == [0] * 8
    clicks = "const [id, n] = arguments, button = document.getElementById(id);"
    clicks += "return Array.from({length: n}, () => { button.click(); return [...%s]; })"
    drawn = np.array(page(clicks % "panels[0].code", "prior", 400))
    assert (drawn.mean(), drawn.std()) == (pytest.approx(0, abs=0.08), pytest.approx(1, abs=0.06))
    assert np.abs(np.corrcoef(drawn.T) - np.eye(8)).max() < 0.3
    assert page("return [...panels[1].code]") == page("return panels[1].start")
    seen = page(clicks % "explorer.current()", "any", 300)
    found = {int(sum(2**n for n, v in enumerate(pixels) if v)) for pixels in seen}
    assert found == set(range(24))


def test_the_pad_moves_two_units_by_keys_and_by_pointer(page):
    page("panels[0].set(panels[0].code.map(() => 0))")
    press = (
        "const [key, shiftKey] = arguments, event = new KeyboardEvent('keydown', {key, shiftKey});"
        "panels[0].find('.pad canvas').dispatchEvent(event);"
        "return [panels[0].code[7], panels[0].code[6]]"
    )
    for key, shift, across, up in (
        ("ArrowRight", False, 0.05, 0),
        ("ArrowUp", False, 0.05, 0.05),
        ("ArrowLeft", True, -0.2, 0.05),
        ("ArrowDown", True, -0.2, -0.2),
        ("Enter", False, -0.2, -0.2),
    ):
        assert page(press, key, shift) == pytest.approx([across, up], abs=1e-6)
    point = (
        "const pad = panels[0].find('.pad canvas'), box = pad.getBoundingClientRect();"
        "pad.setPointerCapture = () => {};"
        "const [kind, x, y, buttons] = arguments;"
        "const at = {clientX: box.left + x * box.width, clientY: box.top + y * box.height, buttons, pointerId: 1};"
        "pad.dispatchEvent(new PointerEvent(kind, at)); return [panels[0].code[7], panels[0].code[6]]"
    )
    assert page(point, "pointerdown", 0.75, 0.25, 1) == pytest.approx([1.5, 1.5], abs=0.01)
    assert page(point, "pointermove", 0.0, 1.0, 1) == pytest.approx([-3, -3], abs=0.01)
    assert page(point, "pointermove", 0.5, 0.5, 0) == pytest.approx([-3, -3], abs=0.01)  # nothing is pressed


def test_the_rings_are_at_the_code_and_points_at_theirs(page):
    rings = page(
        "const kept = window.ring, found = []; window.ring = (context, x, y) => found.push([x, y]);"
        "const p = panels[0]; p.code = Float32Array.from([0, 0, 0, 0, 0, 0, -1.5, 1.5]);"
        "p.render(); window.ring = kept;"
        "const size = (c) => [p.find(c).clientWidth, p.find(c).clientHeight];"
        "return [found, size('.pad canvas'), size('.plane > canvas')]"
    )
    (pad, scatter), of_pad, of_plane = rings
    for ring, (across, down) in ((pad, of_pad), (scatter, of_plane)):
        assert ring == pytest.approx([0.75 * across, 0.75 * down], abs=0.01)  # unit 7 is across, unit 6 up
    places, points = page("return [panels[0].places, about.pictures.points]")
    across, down = of_plane
    for (x, y), n in zip(places, points, strict=True):
        code = 2 * numbers(n) * 128 / 255
        assert [x, y] == pytest.approx([(code[7] / 3 + 1) / 2 * across, (1 - code[6] / 3) / 2 * down], abs=0.05)


def test_points_show_their_picture_and_choose_it_with_a_legend_of_their_factor(page):
    hover = (
        "const p = panels[0], c = p.find('.plane > canvas'), b = c.getBoundingClientRect();"
        "for (const [n, k] of [['0', 5], ['1', 4]]) {"  # units 5 and 4 tell pictures apart least crowded
        "  p.root.querySelectorAll('.scatter select')[n].value = k; } p.replot(); p.render();"
        "const [x, y] = p.places[arguments[0]], at = {clientX: b.left + x + 3, clientY: b.top + y};"
        "const nearest = p.places.findIndex(([px, py]) => (px - x - 3) ** 2 + (py - y) ** 2 < 14 ** 2);"
        "c.dispatchEvent(new PointerEvent('pointermove', at)); const said = p.find('.tip span').textContent;"
        "c.dispatchEvent(new MouseEvent('click', at)); const far = {clientX: b.left + 1, clientY: b.top + 1};"
        "c.dispatchEvent(new PointerEvent('pointermove', far));"
        "return [nearest, said, [...explorer.current()], p.find('.tip').hidden]"
    )
    for n in (23, 4):
        nearest, said, current, hidden = page(hover, n)
        kind, turn, size = np.unravel_index(nearest, SIZES)
        assert said == f"kind {('disc', 'bar')[kind]}, turn {turn}, scale {size}"
        assert current == pytest.approx(numbers(nearest) * 128 / 255)
        assert hidden is True
    legend = (
        "const p = panels[0]; p.root.querySelectorAll('.scatter select')[2].value = arguments[0];"
        "p.replot(); p.render();"
        "return [p.find('.legend').textContent, p.find('.legend').children.length]"
    )
    assert page(legend, 0) == ["discbar", 2]
    assert page(legend, 1) == ["0 3", 1]
    assert page(legend, 2) == ["0 2", 1]


def test_a_pen_sets_the_pixels_that_it_passes(page):
    stroke = (
        "const o = original, b = o.getBoundingClientRect(); o.setPointerCapture = () => {};"
        "for (const [kind, column, row, buttons] of arguments[0]) {"
        "  const clientX = b.left + (column + 0.5) / 4 * b.width, clientY = b.top + (row + 0.5) / 2 * b.height;"
        "  o.dispatchEvent(new PointerEvent(kind, {pointerId: 1, buttons, clientX, clientY})); }"
        "return [...explorer.current()]"
    )
    page("document.getElementById('clear').click()")
    assert page("return [...explorer.current()]") == [0] * 8
    assert page(stroke, [["pointerdown", 1, 0, 1]]) == [0, 1, 0, 0, 0, 0, 0, 0]
    assert page(stroke, [["pointermove", 3, 0, 1], ["pointerup", 3, 0, 0]]) == [0, 1, 1, 1, 0, 0, 0, 0]
    assert page(stroke, [["pointermove", 3, 1, 1]]) == [0, 1, 1, 1, 0, 0, 0, 0]  # lifted
    page("document.querySelector('#pen select').value = 0")
    assert page(stroke, [["pointerdown", 2, 0, 1], ["pointermove", 2, 1, 0]]) == [0, 1, 0, 1, 0, 0, 0, 0]
    page("document.querySelector('#pen select').value = 1")


def test_an_opened_picture_is_cropped_and_its_colours_become_grey(page, browser):
    browser.execute_async_script(
        "const done = arguments[0], c = document.createElement('canvas'); c.width = 4; c.height = 6;"
        "const x = c.getContext('2d'), fill = (colour, ...at) => { x.fillStyle = colour; x.fillRect(...at); };"
        "fill('#f00', 0, 2, 1, 2); fill('#0f0', 1, 2, 1, 2); fill('#00f', 2, 2, 1, 2); fill('#fff', 0, 0, 4, 2);"
        "c.toBlob(async (blob) => { await open(new File([blob], 'a.png')); done(); })"
    )
    # Two rows of six are left, the last column of which is transparent, so white.
    assert page("return [...explorer.current()]") == pytest.approx([0.299, 0.587, 0.114, 1.0] * 2, abs=0.01)
    browser.execute_async_script("const done = arguments[0]; open(new File(['x'], 'b.png')).then(done)")
    assert page("return [problem.hidden, problem.textContent]") == [False, "b.png can't be read as a picture."]
    page("problem.hidden = true")


def test_pictures_in_colour_of_no_grid_are_chosen_from_a_row(browser, tmp_path):
    images = torch.from_numpy(np.random.default_rng(0).integers(256, size=(70, 3, 1, 2))) / 255
    data = Served(images, np.arange(70))
    explore(tmp_path / "page.html", [Explored("a", runnable((3, 1, 2)), table(0, units=6))], data)
    opened(browser, tmp_path / "page.html")
    ask = browser.execute_script
    assert ask("return thumbnails.map((t) => t.stands())") == list(range(60))
    assert ask("return document.querySelector('.factors h2').textContent") == "Pictures of the data"
    ask("thumbnails[7].input.click()")
    assert ask("return [...explorer.current()]") == pytest.approx(images[7].flatten().tolist())
    assert ask("return thumbnails.map((t) => t.input.checked)") == [n == 7 for n in range(60)]
    drawn = ask("return [...document.querySelector('.original canvas').getContext('2d').getImageData(0, 0, 2, 1).data]")
    red, green, blue = (images[7] * 255).round().int()[:, 0].tolist()
    assert drawn == [red[0], green[0], blue[0], 255, red[1], green[1], blue[1], 255]
    ask(
        "document.querySelector('#pen input').value = '#336699'; document.getElementById('clear').click();"
        "const o = original, b = o.getBoundingClientRect(); o.setPointerCapture = () => {};"
        "const at = {buttons: 1, clientX: b.left + b.width / 4, clientY: b.top + b.height / 2};"
        "o.dispatchEvent(new PointerEvent('pointerdown', at))"
    )
    assert ask("return [...explorer.current()]") == pytest.approx([0.2, 0, 0.4, 0, 0.6, 0])
