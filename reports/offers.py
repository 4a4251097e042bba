"""Which analyses on request fit a study, told from its tables, folders and settings without running them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import analyses
from analyses.study import Study
from analyses.study.traits import NotRead, Traits, traits
from analyses.words import count


@dataclass(frozen=True, slots=True)
class Offer:
    """One question that could be asked.

    Attributes:
        name: Of the analysis.
        question: In words.
        fits: Whether the study has what it needs.
        why_not: What is lacking; empty where it fits.
        long: Why it is not asked along with all that fit; empty where it is.
    """

    name: str
    question: str
    fits: bool
    why_not: str
    long: str = ""


def offers(study: Study, asked: tuple[str, ...] = ()) -> tuple[Offer, ...]:
    """Every analysis on request that was not asked, those that fit first.

    Args:
        study: The study.
        asked: Names of those that are on the page already.
    """
    rest = [name for name in analyses.ON_REQUEST if name not in asked]
    if not rest:
        return ()
    if study.used.empty:
        found = [Offer(name, _question(name), False, "no run is in the numbers") for name in rest]
    else:
        has = traits(study)
        found = [_offer(name, has) for name in rest]
    return tuple(sorted(found, key=lambda offer: not offer.fits))


def _offer(name: str, has: Traits) -> Offer:
    try:
        lacking = next((words for test, words in analyses.get(name).NEEDS if not test(has)), "")
    except NotRead:
        lacking = "the settings of its runs were not read (too many, or without their cards); ask it to see"
    return Offer(name, _question(name), not lacking, lacking, getattr(analyses.get(name), "LONG", ""))


def _question(name: str) -> str:
    module: Any = analyses.get(name)
    return " ".join(module.QUESTION.split())


def command(study: Study, names: tuple[str, ...] = (), others: tuple[Study, ...] = ()) -> str:
    """The command that builds the page of a study and asks these questions, as it was built."""
    words = ["python", "-m", "reports.build", str(study.paths.root)]
    words += ["--ask", ",".join(names)] if names else []
    words += [word for other in others for word in ("--with", str(other.paths.root))]
    words += ["--seed", str(study.seed)] if study.seed else []
    return shlex.join([*words, *(["--trust"] if study.trusted else [])])


def summary(found: tuple[Offer, ...]) -> str:
    """How many fit, in a sentence."""
    fit = sum(offer.fits for offer in found)
    if not fit:
        return "No further question fits what this study kept."
    return f"{count(fit, 'further question')} {'fits' if fit == 1 else 'fit'} what this study kept."


def fitting(found: tuple[Offer, ...]) -> Iterator[str]:
    """Names of those that fit and do not take long."""
    return (offer.name for offer in found if offer.fits and not offer.long)
