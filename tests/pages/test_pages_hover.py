"""Marks that say what they are: each label sits on its own mark."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure

from kdstats.pages.environment import embed_svg
from kdstats.pages.hover import MOST_STOPS, Point, tag_points


def scatter(points: list[tuple[float, float]], *, one_line: bool = False) -> Figure:
    figure = Figure(figsize=(2, 2))
    ax = figure.add_subplot()
    ax.set(xlim=(0, 10), ylim=(0, 10))
    if one_line:
        ax.plot([x for x, _ in points], [y for _, y in points], "o")
    else:
        for x, y in points:
            ax.plot(x, y, "o")
    ax.plot([0, 10], [0, 10])  # a line without marks is no point
    return figure


def labels(svg: str) -> dict[str, tuple[float, float]]:
    found = re.findall(r'aria-label="([^"]*)"[^>]*><circle class="hit" cx="([\d.]+)" cy="([\d.]+)"', svg)
    return {name: (float(x), float(y)) for name, x, y in found}


@pytest.mark.parametrize("one_line", [False, True])
def test_every_mark_bears_its_own_label(one_line: bool) -> None:
    places = {"low": (1.0, 2.0), "mid": (5.0, 5.0), "high": (8.0, 9.0)}
    figure = scatter(list(places.values()), one_line=one_line)
    named = tag_points(figure, [Point(0, x, y, name) for name, (x, y) in places.items()])
    found = labels(embed_svg(figure, "a", "three points", named))
    for name, (x, y) in places.items():
        across, up = figure.axes[0].transData.transform((x, y)) * 72 / figure.dpi
        assert found[name] == pytest.approx((across, 144 - up), abs=0.02)


def test_a_line_of_which_a_mark_has_no_name_is_left_alone() -> None:
    figure = scatter([(1.0, 2.0), (5.0, 5.0)], one_line=True)
    assert tag_points(figure, [Point(0, 1.0, 2.0, "one")]) == {}
    assert 'class="point"' not in embed_svg(figure, "a", "points")


def test_two_at_one_place_are_both_named() -> None:
    figure = scatter([(1.0, 2.0)])
    named = tag_points(figure, [Point(0, 1.0, 2.0, "one"), Point(0, 1.0, 2.0, "two")])
    assert list(named.values()) == [("one\ntwo",)]


def test_labels_are_text() -> None:
    figure = scatter([(1.0, 2.0)])
    text = '<script>alert(1)</script> & "50 %"\nsecond'
    svg = embed_svg(figure, "a", "x", tag_points(figure, [Point(0, 1.0, 2.0, text)]))
    assert "<script" not in svg
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;50 %&#34;; second" in svg


def test_labels_stay_inside_the_drawing() -> None:
    figure = scatter([(0.1, 9.9), (9.9, 0.1)])
    named = tag_points(figure, [Point(0, 0.1, 9.9, "a long name at the left"), Point(0, 9.9, 0.1, "right")])
    for x, y, width, height in re.findall(
        r'<rect x="([-\d.]+)" y="([-\d.]+)" width="([\d.]+)" height="([\d.]+)" rx',
        embed_svg(figure, "a", "x", named),
    ):
        assert 0 <= float(x) <= 144 - float(width)
        assert 0 <= float(y) <= 144 - float(height)


def test_many_marks_are_no_stops_for_the_keyboard() -> None:
    for n, stops in ((MOST_STOPS, MOST_STOPS), (MOST_STOPS + 1, 0)):
        places = [(10 * k / n, 10 * k / n) for k in range(n)]
        figure = scatter(places, one_line=True)
        svg = embed_svg(figure, "a", "x", tag_points(figure, [Point(0, x, y, "p") for x, y in places]))
        assert svg.count('tabindex="0"') == stops
        assert svg.startswith('<svg class="plot" viewBox="0 0 144 144" role="group"')
