from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator:
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs chromium and chromedriver: apt install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def drawn(monkeypatch) -> None:
    """Lets figures be axes to look at, instead of SVG."""

    def drawing(title, alt, draw, legend=(), size=(3.6, 2.5)):
        axes = Figure().subplots()
        draw(axes)
        return SimpleNamespace(title=title, alt=alt, legend=tuple(legend), size=size, axes=axes)

    for module in ("figures", "sweep_figures", "search"):
        monkeypatch.setattr(f"bvae.report.{module}.plot", drawing)
