"""The page in headless Chromium: what is seen, and that nothing overflows or fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import make_study

from reports import compare, index, published
from reports.page import Page

RULES = (Path(__file__).parent / "page_rules.js").read_text(encoding="utf-8")
KINDS = ("study", "comparison", "index", "published")
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


@pytest.fixture(scope="module")
def pages(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One page of each kind, the studies' folder with a damaged neighbour."""
    root = tmp_path_factory.mktemp("pages")
    first = make_study(root / "first", curves=False, rng=5, name="A first study")
    (root / "damaged").mkdir()
    (root / "damaged" / "study.json").write_text("{", encoding="utf-8")
    compared = compare.write(first, whole[1].parent.parent, root / "compared.html")[1]
    own = published.write("wang2022", root / "wang2022.html", seed=0)[1]
    return {"study": whole[1], "comparison": compared, "index": index.write(root)[1], "published": own}


def look(browser: Any, scheme: str) -> None:
    wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wanted.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_no_rule_is_broken(
    browser: Any, pages: dict[str, Path], width: int, scheme: str, kind: str
) -> None:
    look(browser, scheme)
    open_page(browser, pages[kind], width)
    wide, view = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= view
    outside = browser.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, figure, pre, .skip') &&"
        " e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.tagName + '.' + e.className)"
    )
    assert outside == []
    assert browser.execute_script(RULES) == []
    assert browser.execute_script("return [...document.images].filter(i => !i.naturalWidth).length") == 0
    assert browser.get_log("browser") == []


BREAKS = {
    "headers have scope": "document.querySelector('thead th').removeAttribute('scope')",
    "drawings have alternative text": "document.querySelector('svg.plot').removeAttribute('aria-label')",
    "anchors exist": "document.querySelector('#evidence').id = 'gone'",
    "contrast": "document.querySelector('.small').style.color = '#bbb'",
    "no level of headings is skipped": "document.querySelector('#ranking').outerHTML = '<h4>x</h4>'",
    "landmark main": "document.querySelector('main').outerHTML = '<div></div>'",
    "what scrolls can be reached": "document.querySelector('.scroll').tabIndex = -1",
    "links have names": "document.querySelector('nav a').textContent = ''",
    "ids are unique": "document.querySelector('h1').id = 'evidence'",
}


def test_each_rule_can_be_broken(browser: Any, whole: Whole) -> None:
    look(browser, "light")
    for rule, change in BREAKS.items():
        open_page(browser, whole[1], 1280)
        browser.execute_script(change)
        found = browser.execute_script(RULES)
        assert any(text.startswith(rule) for text in found), rule


@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing(browser: Any, pages: dict[str, Path], kind: str) -> None:
    """With the file that KDSTATS_AXE names (axe.min.js of the package axe-core, which is not part of this project)."""
    script = os.environ.get("KDSTATS_AXE")
    if not script:
        pytest.skip("KDSTATS_AXE names no axe.min.js; the rules of page_rules.js are checked all the same")
    for scheme in ("light", "dark"):
        look(browser, scheme)
        open_page(browser, pages[kind], 390)
        browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        browser.execute_script(Path(script).read_text(encoding="utf-8"))
        found = browser.execute_async_script(
            "const done = arguments[0]; axe.run().then(r => done(r.violations.map(v => v.id + ' ' + v.nodes[0].html)))"
        )
        browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
        assert found == []


def visible(browser: Any, point: Any) -> bool:
    tip = point.find_element("css selector", ".tip")
    return str(browser.execute_script("return getComputedStyle(arguments[0]).visibility", tip)) == "visible"


@pytest.mark.parametrize("width", [390, 1280])
def test_points_tell_their_scheme(browser: Any, whole: Whole, width: int) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    look(browser, "light")
    open_page(browser, whole[1], width)
    points = browser.find_elements("css selector", "#figure-correlation .point")
    frame = whole[0].results["prediction"].points
    assert {p.get_attribute("aria-label").split(";")[0] for p in points} == set(frame["scheme"])
    point = points[0]
    assert not visible(browser, point)
    # Where marks overlap the last one drawn is on top, so the pointer goes to one that nothing covers.
    free = browser.execute_script(
        "return arguments[0].findIndex(p => { p.scrollIntoView({block: 'center'});"
        " const hit = p.querySelector('.hit').getBoundingClientRect();"
        " const top = document.elementFromPoint(hit.x + hit.width / 2, hit.y + hit.height / 2);"
        " return top && top.closest('.point') === p; })",
        points,
    )
    assert free >= 0
    hit = points[free].find_element("css selector", ".hit")
    ActionChains(browser).move_to_element(hit).perform()
    assert visible(browser, points[free])
    assert [visible(browser, p) for p in points].count(True) == 1
    ActionChains(browser).move_to_element(browser.find_element("css selector", "#evidence h2")).perform()
    assert not visible(browser, points[free])
    browser.execute_script("arguments[0].focus()", point)
    assert visible(browser, point)
    words = browser.execute_script("return arguments[0].querySelector('.name').textContent", point)
    assert words == point.get_attribute("aria-label").split(";")[0]


def test_the_keyboard_reaches_the_contents(browser: Any, whole: Whole) -> None:
    from selenium.webdriver.common.keys import Keys

    open_page(browser, whole[1], 1280)
    body = browser.find_element("css selector", "body")
    body.send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.get_attribute("class") == "skip"
    assert browser.execute_script("return arguments[0].getBoundingClientRect().top", skip) >= 0
    skip.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "content"
    links = browser.find_elements("css selector", "nav.contents ul a")
    assert [link.text for link in links][:2] == ["Evidence", "Further questions"]
    summary = browser.find_element("css selector", "nav.contents summary")
    summary.send_keys(Keys.ENTER)
    inner = browser.find_elements("css selector", "nav.contents ol ol a")
    hashes = {browser.execute_script("return arguments[0].hash", link) for link in inner}
    assert {f"#ask-{section.name}" for section in whole[0].sections} <= hashes
    browser.execute_script("arguments[0].focus()", links[0])
    style = browser.execute_script(
        "const s = getComputedStyle(arguments[0]); return [s.outlineStyle, s.outlineWidth]", links[0]
    )
    assert style == ["solid", "2px"]
    links[0].send_keys(Keys.ENTER)
    assert browser.current_url.endswith("#evidence")


def test_on_paper_nothing_is_hidden_in_a_box(browser: Any, whole: Whole) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        open_page(browser, whole[1], 760)
        hidden = [
            browser.find_element("css selector", s) for s in ("nav.contents", "#download .button", ".files")
        ]
        assert not browser.find_element("css selector", "nav.contents").is_displayed()
        assert not hidden[2].is_displayed()
        assert browser.execute_script(
            "return [...document.querySelectorAll('.scroll')].every(e => getComputedStyle(e).overflow === 'visible')"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


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
