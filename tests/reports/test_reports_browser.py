"""The page in headless Chromium: what is seen, and that nothing overflows or fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.page import Page

DRIVER = Path("/usr/bin/chromedriver")
Whole = tuple[Page, Path]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A fresh Chromium; without one the tests skip, or fail where KDSTATS_REQUIRE_BROWSER=1."""
    if not DRIVER.exists():
        if os.environ.get("KDSTATS_REQUIRE_BROWSER") == "1":
            pytest.fail(f"KDSTATS_REQUIRE_BROWSER=1 and there is no {DRIVER}")
        pytest.skip(f"no {DRIVER}: the page is not opened in a browser")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def open_page(browser: Any, path: Path, width: int, height: int = 800) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(path.as_uri())


def test_what_matters_is_visible(browser: Any, whole: Whole) -> None:
    open_page(browser, whole[1], 1280)
    for selector in (
        "#figure-correlation svg",
        "#table-ranking",
        "#table-covariance",
        "#figure-dependence svg",
    ):
        found = browser.find_element("css selector", selector)
        assert found.is_displayed(), selector
        assert found.size["width"] > 300, selector
        assert found.size["height"] > 100, selector
    rows = browser.find_elements("css selector", "#table-ranking tbody tr")
    assert [row.find_element("css selector", "th").text for row in rows] == list(
        whole[0].results["ranking"].table["scheme"]
    )
    assert browser.get_log("browser") == []


def test_the_answer_and_the_scatter_begin_on_the_first_screen(browser: Any, whole: Whole) -> None:
    open_page(browser, whole[1], 1280, 800)
    top = "return document.querySelector(arguments[0]).getBoundingClientRect()"
    assert browser.execute_script(f"{top}.bottom", "#coefficients") < 800
    assert browser.execute_script(f"{top}.top", "#figure-correlation") < 400
    assert browser.execute_script(f"{top}.bottom", "#figure-correlation svg") < 850


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(browser: Any, whole: Whole, width: int, scheme: str) -> None:
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    open_page(browser, whole[1], width)
    wide, view = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= view
    outside = browser.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, figure, pre') &&"
        " e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.tagName + '.' + e.className)"
    )
    assert outside == []
    assert browser.get_log("browser") == []


def test_labels_cannot_run_code(browser: Any, whole: Whole, tmp_path: Path) -> None:
    page = whole[0]
    path = tmp_path / "hostile.html"
    command = page.study.card.provenance["command"]
    page.study.card.provenance["command"] = "<img src=x onerror=\"document.title='run'\">"  # type: ignore[index]
    try:
        path.write_text(page.html(), encoding="utf-8")
    finally:
        page.study.card.provenance["command"] = command  # type: ignore[index]
    open_page(browser, path, 1280)
    assert browser.title != "run"
    assert "onerror" in browser.find_element("css selector", "#reproduce pre").text
    assert browser.get_log("browser") == []
