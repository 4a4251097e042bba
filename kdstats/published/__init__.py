"""The papers' published numbers as tables, so that a claim can be checked against what was printed.

Nothing here is computed: every value is a fact taken from a paper or recovered from its figures, and each
study's docstring says which is which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kdstats.errors import unknown

if TYPE_CHECKING:
    from kdstats.published.wang2022 import Wang2022


def _wang2022() -> Wang2022:
    from kdstats.published.wang2022 import load

    return load()


_STUDIES: dict[str, Callable[[], Wang2022]] = {"wang2022": _wang2022}


def published_names() -> tuple[str, ...]:
    """Names that :func:`load_published` knows."""
    return tuple(_STUDIES)


def load_published(name: str) -> Wang2022:
    """The published numbers of one study.

    Args:
        name: ``"wang2022"``: Wang, Lohit, Jones, Fu, 'What Makes a "Good" Data Augmentation in Knowledge
            Distillation - A Statistical Perspective', NeurIPS 2022. See
            :class:`~kdstats.published.wang2022.Wang2022` for columns, units and caveats.

    Raises:
        UsageError: No study of that name.

    >>> study = load_published("wang2022")
    >>> len(study.points), study.points["panel"].nunique()
    (90, 10)
    """
    if name not in _STUDIES:
        raise unknown("published study", name, _STUDIES)
    return _STUDIES[name]()
