from __future__ import annotations

import base64
import re
import subprocess
import sys
from urllib.parse import unquote

import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from kdstats.errors import UsageError
from kdstats.pages.environment import data_uri, embed_svg, make_environment

REQUIRED = (
    "{% block title %}t{% endblock %}{% block lead %}{% endblock %}{% block body %}{{ text }}{% endblock %}"
)


def drawing() -> Figure:
    figure = Figure(figsize=(2, 2))
    ax = figure.add_subplot()
    ax.plot([1, 2], [3, 4], marker="X")
    ax.bar([1], [1], hatch="//")
    ax.set_xlabel("letters <&>")
    return figure


def ids(svg: str) -> list[str]:
    return re.findall(r'\bid="([^"]+)"', svg)


def references(svg: str) -> list[str]:
    return re.findall(r'(?:href="|url\()#([^")]+)', svg)


def test_ids_of_two_drawings_never_meet_and_every_reference_is_kept():
    one, two = (embed_svg(drawing(), prefix, "a line") for prefix in ("one", "two"))
    assert len(references(one)) > 5
    for svg in (one, two):
        assert len(ids(svg)) == len(set(ids(svg)))
        assert set(references(svg)) <= set(ids(svg))
    assert not set(ids(one)) & set(ids(two))
    assert one.replace("one-", "two-") == two


def test_a_drawing_is_one_element_that_scales_and_says_what_it_shows():
    svg = embed_svg(drawing(), "one", 'a "line" <b>')
    assert svg.startswith(
        '<svg class="plot" viewBox="0 0 144 144" role="img" aria-label="a &#34;line&#34; &lt;b&gt;" '
        'style="--points: 144">'
    )
    assert svg.rstrip().endswith("</svg>")
    assert "http" not in svg
    assert "<?xml" not in svg


@pytest.mark.parametrize(("prefix", "alt"), [("1a", "x"), ("a b", "x"), ("", "x"), ("a", " ")])
def test_a_drawing_without_name_or_words_is_refused(prefix, alt):
    with pytest.raises(UsageError):
        embed_svg(drawing(), prefix, alt)


def test_data_uris_hold_the_data():
    text = '{"a": "ü & <b>#"}'
    uri = data_uri(text, "application/json")
    head, _, body = uri.partition(",")
    assert head == "data:application/json;charset=utf-8"
    assert unquote(body) == text
    assert not set('"<># ') & set(uri)
    assert base64.b64decode(data_uri(b"\x00\xff", "image/png").partition(",")[2]) == b"\x00\xff"


def test_another_room_extends_the_base_and_its_text_is_escaped(tmp_path):
    text = '{% extends "base.html.j2" %}' + REQUIRED + "{% block provenance %}{% endblock %}"
    (tmp_path / "mine.html.j2").write_text(text)
    page = make_environment([tmp_path]).get_template("mine.html.j2").render(text="<script>alert(1)</script>")
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "--ground" in page


def test_an_undefined_name_or_a_missing_block_is_an_error(tmp_path):
    (tmp_path / "mine.html.j2").write_text(
        '{% extends "base.html.j2" %}' + REQUIRED + "{% block provenance %}{% endblock %}"
    )
    (tmp_path / "short.html.j2").write_text('{% extends "base.html.j2" %}' + REQUIRED)
    environment = make_environment([tmp_path])
    with pytest.raises(UndefinedError, match="text"):
        environment.get_template("mine.html.j2").render()
    with pytest.raises(Exception, match="provenance"):
        environment.get_template("short.html.j2").render(text="")


def test_the_package_itself_loads_nothing():
    code = (
        "import sys, kdstats.pages; print([m for m in ('jinja2', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
