"""Jinja environment, inline figures and data URIs: what every self-contained page is made with."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from kdstats.errors import UsageError
from kdstats.figures.style import style

# What may refer to an element of the same drawing: id="x", href="#x", url(#x).
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'(href="#|url\(#)([^")]+)')
_OPENING = re.compile(r"<svg\b[^>]*>")
_VIEW_BOX = re.compile(r'viewBox="([^"]+)"')
# Who made the drawing: the page says so itself, and the RDF links look like web addresses.
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
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
    return environment


def embed_svg(figure: Figure, prefix: str, alt: str) -> Markup:
    """A matplotlib figure as an ``<svg>`` element that can stand beside others in one page.

    matplotlib gives equal glyphs of two figures equal ids, and in one document the first one would serve
    both; every id and every reference to one gets ``prefix`` in front. The element scales with its container.

    Args:
        figure: What to draw.
        prefix: Unique among the drawings of a page: a letter, then letters, digits, ``-`` or ``_``.
        alt: What the drawing shows, in a sentence, for those who cannot see it.

    Raises:
        UsageError: A prefix that is no identifier, or no text for ``alt``.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{prefix!r} cannot begin the ids of a drawing: a letter, then letters, digits, - or _"
        )
    if not alt.strip():
        raise UsageError(f"the drawing {prefix!r} needs a sentence that says what it shows")
    buffer = io.StringIO()
    with style():
        # Without this metadata the file is the same whenever it is drawn.
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = _METADATA.sub("", text[text.index("<svg") :])
    box = _VIEW_BOX.search(text)
    view = box.group(1) if box else "0 0 1 1"
    text = _ID.sub(lambda m: f'id="{prefix}-{m.group(1)}"', text)
    text = _REFERENCE.sub(lambda m: f"{m.group(1)}{prefix}-{m.group(2)}", text)
    opening = f'<svg class="plot" viewBox="{view}" role="img" aria-label="{escape(alt)}">'
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


def render_template(name: str, folders: Iterable[str | Path] = (), **fields: Any) -> str:
    """The text of template ``name`` filled with ``fields``."""
    return make_environment(folders).get_template(name).render(**fields)
