"""One look for every figure: fonts that journals accept, column widths, a colour and a marker per scheme."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from kdstats._version import __version__
from kdstats.errors import MissingError, UsageError
from kdstats.labels import label_of
from kdstats.records.atomic import write_bytes_atomic

COLUMN = 3.25  # inches, one column of a two-column page
PAGE = 6.75  # inches, both columns
SUFFIXES = (".png", ".pdf", ".svg")
DPI = 200

RC: Any = {  # matplotlib types the keys of settings one by one
    # Type 42 (TrueType): camera-ready checkers refuse matplotlib's default Type 3 fonts.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    # Element ids are drawn from this salt instead of a random one, so equal figures are equal files.
    "svg.hashsalt": "kdstats",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs (ρ, τ) everywhere
    "font.size": 7.0,
    "axes.titlesize": 7.0,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.0,
    "ytick.labelsize": 6.0,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.grid": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 4.0,
    "legend.frameon": False,
    "figure.dpi": DPI,
    # Each figure names its layout; another one from a user's settings would move what was placed.
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "savefig.dpi": DPI,
    "text.usetex": False,
}


@dataclass(frozen=True, slots=True)
class Mark:
    """How one scheme is drawn in every figure."""

    color: str
    marker: str
    text: str


# Colours: seaborn's "colorblind" set, after Wong (Nature Methods 2011), made darker where white paper needs
# it. Markers differ too, so the schemes can be told apart in grey.
_NINE = {
    "identity": ("#4d4d4d", "o"),
    "flip": ("#949494", "s"),
    "crop_flip": ("#56b4e9", "^"),
    "cutout": ("#0173b2", "v"),
    "autoaugment": ("#d55e00", "D"),
    "mixup": ("#de8f05", "P"),
    "cutmix": ("#029e73", "X"),
    "cutmix_pick_student": ("#cc78bc", "<"),
    "cutmix_pick_teacher": ("#8b1a4a", ">"),
}
# The other built-in schemes share the colour of their family and differ by marker.
_OTHERS = {
    "same": ("#4d4d4d", "H"),
    "crop": ("#56b4e9", "v"),
    "random_erasing": ("#0173b2", "s"),
    "masking": ("#0173b2", "D"),
    "randaugment": ("#d55e00", "^"),
    "trivialaugment": ("#d55e00", "o"),
    "augmix": ("#d55e00", "P"),
    "color_jitter": ("#ca9161", "s"),
    "grayscale": ("#ca9161", "o"),
    "gaussian_blur": ("#ca9161", "^"),
    "full_mixup": ("#de8f05", "X"),
    "partial_mixup": ("#de8f05", "d"),
    "patchmix": ("#029e73", "s"),
    "recursive_mix": ("#029e73", "*"),
    "cutmix_pick_kl": ("#cc78bc", ">"),
    "cutmix_pick_dissimilarity": ("#8b1a4a", "<"),
}
SCHEMES: dict[str, Mark] = {
    name: Mark(color, marker, label_of(name)) for name, (color, marker) in {**_NINE, **_OTHERS}.items()
}

_SPARE_COLORS = (
    "#0173b2",
    "#de8f05",
    "#029e73",
    "#d55e00",
    "#cc78bc",
    "#ca9161",
    "#949494",
    "#56b4e9",
    "#8b1a4a",
)
_SPARE_MARKERS = ("h", "p", "*", "d", "8", "H", "o", "s", "^", "v")


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's settings for a kdstats figure, put back on leaving."""
    with mpl.rc_context(RC):
        yield


def marks(labels: Iterable[str]) -> dict[str, Mark]:
    """A colour and marker for every label.

    The built-in schemes keep theirs in all figures. An unknown label
    takes a colour and marker that follow from its name; where two meet, the one later in alphabetical order
    moves on (to an unused colour while there is one), so the order of rows does not matter.

    Args:
        labels: Names of schemes or points; repeats are allowed.
    """
    names = list(dict.fromkeys(labels))
    out = {name: SCHEMES[name] for name in names if name in SCHEMES}
    used = {mark.color for mark in out.values()}
    taken = {(mark.color, mark.marker) for mark in out.values()}
    for name in sorted(set(names) - set(out)):
        start = zlib.crc32(name.encode())
        colors = _turned(_SPARE_COLORS, start)
        free = [color for color in colors if color not in used] or colors
        pairs = [(c, m) for c in free for m in _turned(_SPARE_MARKERS, start)]
        pair = next((p for p in pairs if p not in taken), pairs[0])
        used.add(pair[0])
        taken.add(pair)
        out[name] = Mark(*pair, name)
    return {name: out[name] for name in names}


def plain(text: str) -> str:
    """``text`` as matplotlib must be given it to print it as it is, shortened to 40 characters a line.

    A dollar would start mathematics, and a legend leaves out names that begin with an underscore.
    """
    lines = [line if len(line) <= 40 else line[:39] + "…" for line in text.split("\n")]
    out = "\n".join(lines).replace("$", r"\$")
    return f" {out}" if out.startswith("_") else out


def _turned(items: tuple[str, ...], start: int) -> tuple[str, ...]:
    cut = start % len(items)
    return items[cut:] + items[:cut]


def check_path(path: str | Path) -> Path:
    """``path`` if a figure can be saved there.

    Raises:
        UsageError: The suffix is none of :data:`SUFFIXES`.
        MissingError: The folder does not exist.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot tell the format of figure {str(path)!r}: end it in {', '.join(SUFFIXES)}")
    if not target.parent.is_dir():
        raise MissingError(f"no folder {str(target.parent)!r} to save the figure in; create it first")
    return target


def save(figure: Figure, path: str | Path) -> Path:
    """Writes ``figure`` in the format of the suffix, without a time stamp, whole or not at all.

    A symbolic link of that name is replaced; what it points to stays as it is.

    Args:
        figure: What to write.
        path: Ends in .png, .pdf or .svg.

    Returns:
        The path written.

    Raises:
        UsageError: Another suffix.
        MissingError: The folder does not exist.
        KdstatsError: The file cannot be written.
    """
    target = check_path(path)
    suffix = target.suffix.lower()
    software = f"kdstats {__version__}"
    metadata: dict[str, dict[str, Any]] = {
        ".png": {"Software": software},
        ".pdf": {"Creator": software, "CreationDate": None},
        ".svg": {"Creator": [software], "Date": None},
    }
    drawn = io.BytesIO()
    with style():
        figure.savefig(drawn, format=suffix[1:], metadata=metadata[suffix])
    write_bytes_atomic(target, drawn.getvalue())
    return target
