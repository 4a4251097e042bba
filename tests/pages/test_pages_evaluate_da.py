from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from kdstats.pages import evaluate_da_facts as facts
from kdstats.pages.evaluate_da import render

COMMAND = "kdstats evaluate-da --scheme cutmix --teacher 'my teacher.safetensors' --seed 0"


@pytest.fixture
def page(document, convergence):
    return render(document, convergence, reproduce=COMMAND, worth="Worth: much.", data_note="why")


class _Reader(HTMLParser):
    void = frozenset(("meta", "link", "br", "img", "input", "hr"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_needs_nothing_else(page):
    read = _Reader(page)
    assert read.open == []
    ids = [value for _, key, value in read.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    for tag, key, value in read.attributes:
        if key in ("src", "href", "xlink:href"):
            assert value.startswith(("#", "data:")), (tag, key, value)
        if value.startswith("#") and key == "href":
            assert value[1:] in ids
    assert not re.search(r"https?://|@import|<script|url\((?!#)", page)


def test_the_first_screen_answers(page, document):
    lead = page[page.index('<header class="lead">') : page.index("</header>")]
    best = facts.ranking(document)[0]
    assert f"<strong>{best['scheme']}</strong> has the lowest T. stddev" in lead
    n = facts.digits(document)
    assert f"{best['t_stddev']:.{n}f} [{best['low']:.{n}f}, {best['high']:.{n}f}]" in lead
    assert facts.percent_interval(facts.comparison(document, best["scheme"])) in lead
    assert facts.reason(document) in lead
    assert "<svg" in lead
    assert "Worth: much." in lead


def test_every_scheme_is_in_the_tables(page, document):
    for result in document["results"]:
        assert page.count(f'<th scope="row">{result["scheme"]}</th>') == 2
    assert '<th scope="row">null</th>' in page


def test_what_was_left_out_is_said(document, convergence):
    document["skipped"] = {"x": "x needs <something>"}
    page = render(document, convergence, reproduce=COMMAND, worth="")
    assert "<li>x needs &lt;something&gt;</li>" in page


def test_downloads_are_the_document_and_the_table(page, document):
    hrefs = {
        name: unquote(uri.partition(",")[2])
        for uri, name in re.findall(r'href="(data:[^"]+)" download="([^"]+)"', page)
    }
    assert json.loads(hrefs["result.json"]) == document
    rows = list(csv.DictReader(io.StringIO(hrefs["result.csv"])))
    assert [row["scheme"] for row in rows] == [r["scheme"] for r in facts.ranking(document)]
    assert float(rows[0]["t_stddev"]) == facts.ranking(document)[0]["t_stddev"]


def test_names_are_escaped_everywhere(document, convergence):
    evil = '<img src=x onerror="alert(1)">$'
    document["teacher"]["name"] = evil
    document["provenance"]["command"] = evil
    for result in document["results"]:
        if result["scheme"] == "mixup":
            result["scheme"] = evil
    document["comparisons"] = [
        {**c, "a": evil if c["a"] == "mixup" else c["a"]} for c in document["comparisons"]
    ]
    document["lowest"][evil] = document["lowest"].pop("mixup")
    convergence[evil] = convergence.pop("mixup")
    page = render(document, convergence, reproduce="kdstats '<b>'", worth="<i>")
    assert "<img" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;img src=x onerror=" in page


def test_the_printed_command_is_the_one_given(page):
    import shlex
    from html import unescape

    shown = unescape(re.search(r"<pre>(.*?)</pre>", page, re.DOTALL).group(1))
    assert shlex.split(shown.replace("\\\n", " ")) == shlex.split(COMMAND)
    assert shown.count("\\\n") == 3


def test_a_page_of_identity_alone_and_without_git(document, convergence):
    document["results"] = [r for r in document["results"] if r["scheme"] == "identity"]
    document["comparisons"] = []
    document["lowest"] = {"identity": 1.0}
    document["provenance"]["git"] = None
    page = render(document, {"identity": convergence["identity"]}, reproduce=COMMAND, worth="")
    assert "<strong>identity</strong> has a T. stddev of" in page
    assert "Only identity was measured" in page
    assert "commit" not in page


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(page, browser, tmp_path, dark):
    path = tmp_path / "index.html"
    path.write_text(page, encoding="utf-8")
    for width in (390, 1280):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get(path.as_uri())
        assert browser.get_log("browser") == []
        assert browser.execute_script("return window.innerWidth") == width
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script(
            "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
        )
        drawn = browser.execute_script(
            "return [...document.querySelectorAll('svg.plot')].map(s => [s.getBoundingClientRect().width, "
            "s.getBBox().width > 0, [...s.querySelectorAll('use')].every(u => "
            "document.querySelector(u.getAttribute('href')))])"
        )
        assert len(drawn) == 3
        assert all(0.5 * min(width, 620) < w <= width and box and used for w, box, used in drawn)
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark
        assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
