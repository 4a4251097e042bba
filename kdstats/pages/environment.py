"""Jinja environment, inline figures and data URIs: what every self-contained page is made with."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from kdstats.console import visible
from kdstats.errors import UsageError
from kdstats.figures.style import style
from kdstats.pages.hover import with_labels

# What may refer to an element of the same drawing: id="x", href="#x", url(#x).
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'(href="#|url\(#)([^")]+)')
_OPENING = re.compile(r"<svg\b[^>]*>")
_VIEW_BOX = re.compile(r'viewBox="([^"]+)"')
# Who made the drawing: the page says so itself, and the RDF links look like web addresses.
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_HELD = re.compile(r"\[[^\[\]]{1,30}\]| (?:=|<|>) (?=[\d−])|(?<=[\d\]]) (?:nats|%)")
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def make_environment(folders: Iterable[str | Path] = ()) -> Environment:
    """The environment of all pages: autoescape on, an undefined name is an error.

    Args:
        folders: Folders with further templates; they are searched first, then those of kdstats, so a template
            there may ``{% extends "base.html.j2" %}``.
    """
    own = PackageLoader("kdstats.pages", "templates")
    environment = Environment(
        loader=ChoiceLoader([*(FileSystemLoader(folder) for folder in folders), own]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["data_uri"] = data_uri
    environment.filters["unbroken"] = unbroken
    environment.filters["visible"] = visible
    return environment


def draw_svg(figure: Figure) -> str:
    """A matplotlib figure as the text of an SVG file; equal figures give equal texts."""
    buffer = io.StringIO()
    with style():
        # Without this metadata the file is the same whenever it is drawn.
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def embed_svg(
    drawn: Figure | str, prefix: str, alt: str, labels: Mapping[str, Sequence[str]] | None = None
) -> Markup:
    """A drawing as an ``<svg>`` element that can stand beside others in one page.

    matplotlib gives equal glyphs of two figures equal ids, and in one document the first one would serve
    both; every id and every reference to one gets ``prefix`` in front. The element scales with its container.

    Args:
        drawn: What to draw, or the text of :func:`draw_svg`.
        prefix: Unique among the drawings of a page: a letter, then letters, digits, ``-`` or ``_``.
        alt: What the drawing shows, in a sentence, for those who cannot see it.
        labels: Of :func:`kdstats.pages.hover.tag_points`: what marks say when the pointer is on them.

    Raises:
        UsageError: A prefix that is no identifier, or no text for ``alt``.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{prefix!r} cannot begin the ids of a drawing: a letter, then letters, digits, - or _"
        )
    if not alt.strip():
        raise UsageError(f"the drawing {prefix!r} needs a sentence that says what it shows")
    text = drawn if isinstance(drawn, str) else draw_svg(drawn)
    text = _METADATA.sub("", text[text.index("<svg") :])
    box = _VIEW_BOX.search(text)
    view = box.group(1) if box else "0 0 1 1"
    text = with_labels(text, labels or {}, float(view.split()[2]))
    text = _ID.sub(lambda m: f'id="{prefix}-{m.group(1)}"', text)
    text = _REFERENCE.sub(lambda m: f"{m.group(1)}{prefix}-{m.group(2)}", text)
    # Of an image, assistive technology sees nothing inside; one with named marks is a group.
    role = "group" if 'class="points"' in text else "img"
    # Its own width in points: pages show all drawings at one scale, so that letters are equally large.
    size = f"--points: {round(float(view.split()[2]))}"
    opening = f'<svg class="plot" viewBox="{view}" role="{role}" aria-label="{escape(alt)}" style="{size}">'
    return Markup(_OPENING.sub(lambda _: opening, text, count=1).replace("xlink:href", "href"))


def data_uri(data: str | bytes, mime: str) -> str:
    """``data`` as an address that needs no network: percent-encoded text, or base64 for bytes.

    Args:
        data: Text is taken as UTF-8.
        mime: For example ``application/json``.
    """
    if isinstance(data, str):
        return f"data:{mime};charset=utf-8,{quote(data)}"
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def unbroken(text: str) -> str:
    """``text`` with the spaces inside "n = 9", "[0.1, 0.2]" and before a unit held together."""
    return _HELD.sub(lambda found: found.group(0).replace(" ", "\u00a0"), text)


def render_template(name: str, folders: Iterable[str | Path] = (), **fields: Any) -> str:
    """The text of template ``name`` filled with ``fields``."""
    return make_environment(folders).get_template(name).render(**fields)
