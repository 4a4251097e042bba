"""Every note of the results of ``kdstats correlate``, once, with the numbers it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kdstats.association.coefficients import SYMBOLS
from kdstats.cli.correlate.rows import records

if TYPE_CHECKING:
    from kdstats.cli.correlate.answer import Answer
    from kdstats.cli.correlate.source import Source

_BY_PANEL = re.compile(r"^panel (\d+): ")
_NAMED = re.compile(r"^panel '(.*?)': ")
# Notes whose content is said by a hint or by a line of the section itself.
_SAID_ELSEWHERE = (
    "without label=",
    "is found in several clusters",
    "regress(cluster=",
    "schemes: not independent",
    "takes the points of a cluster",
)
# Names of functions and columns in Python, and what a reader of the terminal sees instead.
_IN_WORDS = {
    "see cr2 of regress": "see the interval by CR2",
    "see p_permutation": "see the permutation p",
    "p_permutation exchanges": "the permutation p exchanges",
}


def note_lines(source: Source, answer: Answer, shown: Sequence[str] = ()) -> list[str]:
    """Every note once, with the numbers it belongs to; of the sections ``shown`` only, where any are named."""
    where: dict[str, list[str]] = {}

    def add(section: str, text: str, place: str) -> None:
        if shown and section and section not in shown:
            return
        for name, words in _IN_WORDS.items():
            text = text.replace(name, words)
        places = where.setdefault(text, [])
        if place and place not in places:
            places.append(place)

    for record in records(answer.results):
        name = source.panel(record)
        for note in filter(None, str(record["notes"]).split("; ")):
            # What is wrong with a panel stands with every section made of it.
            section = "" if note.startswith("more than one point") else "panels"
            add(section, note, SYMBOLS[record["method"]] + (f" of {name}" if name else ""))
    for section, note, place in section_notes(source, answer):
        add(section, note, place)
    for note in answer.regret.notes:
        add("choice", note, "")
    for section, notes in answer.general_notes().items():
        for note in notes:
            add(section, note, "")
    lines = []
    for note, places in where.items():
        named = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
        lines.append(f"note: {note}" + (f" ({named})" if named else ""))
    return lines


def section_notes(source: Source, answer: Answer) -> Iterator[tuple[str, str, str]]:
    """Section, note and the number it belongs to, but for notes that a section's text says itself."""
    keys = list(dict.fromkeys(source.panel(record) for record in records(answer.results)))
    found = answer.across
    for m in answer.meta:
        for note in m.notes:
            at = _BY_PANEL.match(note)
            place = (
                f"{SYMBOLS[m.coefficient]} of {keys[int(at[1]) - 1]}"
                if at
                else f"mean {SYMBOLS[m.coefficient]}"
            )
            yield "across", _BY_PANEL.sub("", note), place
    parts: list[tuple[str, str, tuple[str, ...]]] = []
    if found.repeated is not None:
        parts.append(("across", "r within panels", found.repeated.notes))
    if found.regression is not None:
        parts += [
            ("across", f"slope by {row['clusters_by']}", tuple(filter(None, str(row["notes"]).split("; "))))
            for row in records(found.regression)
            if row["default"]
        ]
    parts += [("across", f"wild bootstrap by {each.clusters_by}", each.found.notes) for each in found.wild]
    if found.mixed is not None:
        parts.append(("mixed", "mixed model", found.mixed.notes))
    if found.pair_out is not None:
        parts.append(("choice", "prediction from other panels", found.pair_out.notes))
    for section, name, frame in _frames(answer):
        for record in records(frame):
            panel = source.panel(record) if set(source.groups) <= set(record) else "all panels"
            own = tuple(filter(None, str(record["notes"]).split("; ")))
            parts.append((section, f"{name} of {panel}" if panel else name, own))
    said = {note for record in records(answer.results) for note in str(record["notes"]).split("; ")}
    for section, place, texts in parts:
        for text in texts:
            if any(part in text for part in _SAID_ELSEWHERE):
                continue
            named = _NAMED.match(text)
            plain = _NAMED.sub("", text)
            if plain in said:  # a panel's own note rides on every number made of that panel
                continue
            yield section, plain, f"{place}, {named[1]}" if named else place


def _frames(answer: Answer) -> Iterator[tuple[str, str, Any]]:
    if answer.corrected is not None:
        yield "errors", "Deming slope", answer.corrected.deming
        yield "errors", "disattenuated r", answer.corrected.disattenuated
        yield "errors", "SIMEX", answer.corrected.simex
    if answer.partial is not None:
        yield "given", "partial correlation", answer.partial.panels
        yield "given", "partial correlation", answer.partial.across
    if answer.leave_one_out is not None:
        yield "without", "leave-one-out", answer.leave_one_out
