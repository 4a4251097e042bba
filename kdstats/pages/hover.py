"""Marks of a drawing that say what they are when the pointer, a finger or the keyboard comes to them.

No script: a label stands hidden in the drawing over its mark, and the style sheet of the pages shows it on hover and
focus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import escape
from matplotlib.figure import Figure

MOST_STOPS = 40  # a reader with a keyboard should not have to pass hundreds of marks
_NO_MARK = ("None", "none", "", " ", ",", None)
_USE = re.compile(r"<use\b[^>]*>")
_PLACE = re.compile(r'\b([xy])="([-0-9.eE+]+)"')
_SIZE = 7.0  # of the letters, in points: that of the drawing's own labels
_ADVANCE = 0.6  # mean width of a letter, as a share of its size; a little more than most fonts need


@dataclass(frozen=True, slots=True)
class Point:
    """A mark of a drawing.

    Attributes:
        panel: Position of its axes in the figure.
        x: As plotted, data units.
        y: As plotted.
        text: What it says, one line or more; the first one is its name.
    """

    panel: int
    x: float
    y: float
    text: str


def tag_points(figure: Figure, points: Iterable[Point]) -> dict[str, tuple[str, ...]]:
    """Gives every drawn line of marks that are all named an id, which is then in its SVG.

    Args:
        figure: Drawn already.
        points: The names; a mark at the same place as another takes both texts.

    Returns:
        Id → the texts of its marks, in the order in which they are drawn.
    """
    named: dict[tuple[int, float, float], str] = {}
    for point in points:
        key = (point.panel, float(point.x), float(point.y))
        known = named.get(key)
        named[key] = f"{known}\n{point.text}" if known and known != point.text else point.text
    out: dict[str, tuple[str, ...]] = {}
    for panel, axes in enumerate(figure.axes):
        for line in axes.lines:
            if line.get_marker() in _NO_MARK:
                continue
            texts = [
                named.get((panel, float(x), float(y))) for x, y in np.asarray(line.get_xydata(), dtype=float)
            ]
            found = tuple(text for text in texts if text is not None)
            if found and len(found) == len(texts):
                gid = f"points-{len(out)}"
                line.set_gid(gid)
                out[gid] = found
    return out


def with_labels(svg: str, labels: Mapping[str, Sequence[str]], width: float) -> str:
    """The SVG with a hidden label over every tagged mark, appended so that labels lie above all marks.

    Args:
        svg: Text that ends in ``</svg>``.
        labels: Of :func:`tag_points`.
        width: Of the drawing, in its own units: labels near the right edge grow to the left.
    """
    marks: list[tuple[float, float, str]] = []
    for gid, texts in labels.items():
        start = svg.find(f'id="{gid}"')
        uses = _USE.findall(svg[start : svg.index("</g>", start)]) if start >= 0 else []
        if len(uses) != len(texts):  # marks outside the drawing are not written
            continue
        for use, text in zip(uses, texts, strict=True):
            place = {axis: float(value) for axis, value in _PLACE.findall(use)}
            marks.append((place["x"], place["y"], text))
    if not marks:
        return svg
    stop = ' tabindex="0"' if len(marks) <= MOST_STOPS else ""
    body = "".join(_label(*mark, width, stop) for mark in marks)
    end = svg.rindex("</svg>")
    return f'{svg[:end]}<g class="points">{body}</g>\n{svg[end:]}'


def _label(x: float, y: float, text: str, width: float, stop: str) -> str:
    lines = text.split("\n")
    room = _SIZE * _ADVANCE * max(map(len, lines)) + 8
    height = _SIZE * 1.35 * len(lines) + 5
    left = min(max(x - room / 2, 1), max(width - room - 1, 1))
    top = y - height - 5 if y - height - 5 > 1 else y + 6
    words = "".join(
        f'<text x="{left + 4:.1f}" y="{top + 1.35 * _SIZE * (at + 1):.1f}"'
        f"{' class=' + chr(34) + 'name' + chr(34) if at == 0 else ''}>{escape(line)}</text>"
        for at, line in enumerate(lines)
    )
    return (
        f'<g class="point" role="img" aria-label="{escape("; ".join(lines))}"{stop}>'
        f'<circle class="hit" cx="{x:.2f}" cy="{y:.2f}" r="5"/><g class="tip">'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{room:.1f}" height="{height:.1f}" rx="2"/>{words}</g></g>'
    )
