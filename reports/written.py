"""A page's contents for other readers: Markdown for a pull request, JSON for programs, LaTeX for a paper."""

from __future__ import annotations

from typing import Any

from analyses.words import records
from kdstats import tables
from kdstats.console import visible
from kdstats.tables import escape_latex, escape_markdown
from reports import captions
from reports.offers import command
from reports.page import Page
from reports.place import REPORT_SCHEMA
from reports.table_view import TableView, missing

# What our own words hold beside Latin letters and is no macro yet in :func:`kdstats.tables.escape_latex`.
_SIGNS = {
    "→": r"\rightarrow",
    "‖": r"\|",
    "·": r"\cdot",
    "β": r"\beta",
    "γ": r"\gamma",
    "ε": r"\varepsilon",
    "ω": r"\omega",
    "Σ": r"\Sigma",
    "⁻": "^-",
}
_BEYOND_LATIN = 0x250
_KNOWN = frozenset("‐‑‒–—‘’‚“”„†‡•…‰‹›€™")  # to the kernel of LaTeX, in T1


def document(page: Page) -> dict[str, Any]:
    """The page as one document; tables raw, losses in nats, accuracies as fractions.

    It holds no moment of writing, so that the same study gives the same file.
    """
    study, card = page.study, page.study.card
    return {
        "schema": REPORT_SCHEMA,
        "name": card.name,
        "title": captions.title(study),
        "size": study.card.size,
        "pairs": list(card.pairs),
        "schemes": list(card.schemes),
        "seeds": list(card.seeds),
        "complete": study.complete,
        "runs": {"planned": card.planned, "used": len(study.used), "failed": len(card.failed)},
        "incomplete": captions.incomplete(study),
        "caveats": page.caveats(),
        "answer": page.sentence(),
        "answers": [{"pair": pair, "sentences": lines} for pair, lines in page.answer()],
        "fair": page.results["fairness"].fair,
        "questions": [
            {"name": name, "question": question, "findings": page.said(name)}
            for name, question in page.questions.items()
        ],
        "asked": [
            {
                "name": section.name,
                "question": section.question,
                "findings": list(section.findings),
                "refused": section.refused,
                "tables": [_table(view) for view in section.tables],
            }
            for section in page.sections
        ],
        "tables": {name: _table(view) for name, view in page.tables.items()},
        "figures": {drawing.name: drawing.caption for drawing in page.every_drawing()},
        "definition": page.definition,
        "dataset": dict(card.dataset),
        "teachers": {name: dict(said) for name, said in card.teachers.items()},
        "recipe": dict(card.recipe),
        "kd": dict(card.kd),
        "provenance": dict(card.provenance),
        "built": {key: page.built[key] for key in ("version", "git", "python")},
    }


def _table(view: TableView) -> dict[str, Any]:
    rows = [{k: None if missing(v) else v for k, v in row.items()} for row in records(view.frame)]
    return {"name": view.name, "caption": view.caption, "rows": rows}


def json_text(page: Page, html: str) -> str:
    """:func:`document` as JSON, with the name of the page's file."""
    return tables.to_json(document(page) | {"page": html})


def markdown(page: Page) -> str:
    """Answer, ranking, correlations, findings of what was asked, and how to get it again."""
    study, card = page.study, page.study.card
    out = [f"## {escape_markdown(captions.title(study))}", ""]
    for caveat in page.caveats():
        out += [f"> {escape_markdown(caveat)}", ""]
    answers = page.answer()
    for pair, lines in answers:
        head = [f"**{escape_markdown(pair)}**"] if len(answers) > 1 else []
        out += [*head, *(escape_markdown(line) for line in lines), ""]
    if not answers:
        out += [page.sentence(), ""]
    for name in ("ranking", "correlation", "left-out"):
        if name in page.tables:
            out += [page.tables[name].write("md")]
    for section in page.sections:
        out += [f"### {escape_markdown(section.question)}", ""]
        out += [f"- {escape_markdown(text)}" for text in section.findings or (section.refused,)]
        out += ["", *(view.write("md") for view in section.tables)]
    built = f"kdstats {page.built['version']}" + (
        f", commit {page.built['git']}" if page.built.get("git") else ""
    )
    defined = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in page.definition.items())
    teachers = "; ".join(f"{n} sha256 {str(t.get('sha256'))[:12]}" for n, t in card.teachers.items())
    facts = [
        f"{study.card.size}, {len(study.used)} of {card.planned} runs in the numbers",
        f"data: {card.dataset['name']}, sha256 {str(card.dataset.get('sha256'))[:12]}; teachers: {teachers}",
        f"T. stddev: {defined}" if defined else "T. stddev: not measured in this study",
        f"page: {built}",
    ]
    out += ["<details><summary>Where this comes from</summary>", ""]
    out += [f"- {escape_markdown(text)}" for text in facts]
    out += ["", _fenced(commands(page)), "", "</details>", ""]
    return "\n".join(out)


def _fenced(text: str) -> str:
    """A block of code, its fence longer than any run of backticks inside."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


def commands(page: Page) -> str:
    """What makes the study, and what makes the page from it."""
    made = page.study.card.provenance.get("command")
    again = command(page.study, tuple(section.name for section in page.sections), page.others)
    known = f"# as the study's card says\n{visible(' '.join(str(made).split()))}\n" if made else ""
    return f"{known}{again}"


def latex(page: Page) -> str:
    """One file for ``pdflatex`` that inputs the tables and shows the figures, each with its caption."""
    head = [
        r"\documentclass{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[margin=2cm]{geometry}",
        r"\usepackage{booktabs,graphicx}",
        # Engines that know Unicode by themselves have no such command, and need none.
        r"\providecommand{\DeclareUnicodeCharacter}[2]{}",
    ]
    parts = [
        r"\begin{document}",
        rf"\section*{{{escape_latex(captions.title(page.study))}}}",
        *(rf"\emph{{{escape_latex(caveat)}}}\par" for caveat in page.caveats()),
        escape_latex(page.sentence()),
    ]
    for view in page.every_table():
        parts += [
            r"\begin{table}[ht]\centering",
            rf"\caption{{{escape_latex(_line(view.caption))}}}",
            # A table wider than the page is shrunk to it, a narrow one left as it is.
            rf"\resizebox{{\ifdim\width>\linewidth\linewidth\else\width\fi}}{{!}}{{\input{{tables/{view.name}}}}}",
            r"\end{table}",
        ]
    for drawing in page.every_drawing():
        parts += [
            r"\begin{figure}[ht]\centering",
            # Drawn at column or page width, so it is included as it is.
            rf"\includegraphics{{figures/{drawing.name}.pdf}}",
            rf"\caption{{{escape_latex(_line(drawing.caption))}}}",
            r"\end{figure}",
        ]
    body = "\n".join([*parts, r"\end{document}"]) + "\n"
    shown = body + "".join(view.write("latex") for view in page.every_table())
    return "\n".join([*head, *_characters(shown), body])


def _characters(text: str) -> list[str]:
    """Declares what pdfTeX does not know: our own signs as mathematics, letters of other scripts by their number."""
    known = [(sign, rf"\ensuremath{{{macro}}}") for sign, macro in _SIGNS.items()]
    others = sorted({c for c in text if ord(c) >= _BEYOND_LATIN and c not in _SIGNS and c not in _KNOWN})
    numbers = [(c, rf"\texttt{{[U+{ord(c):04X}]}}") for c in others]
    return [rf"\DeclareUnicodeCharacter{{{ord(c):04X}}}{{{meaning}}}" for c, meaning in known + numbers]


def _line(text: str) -> str:
    return " ".join(text.split())
