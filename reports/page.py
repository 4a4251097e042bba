"""From a study to everything its page shows; the template adds nothing but layout."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import analyses
from analyses.study import Study
from analyses.words import capital, number
from kdstats.association.coefficients import SYMBOLS
from kdstats.pages.environment import embed_svg, make_environment
from kdstats.provenance import provenance
from kdstats.tables import to_csv
from reports import captions, tables
from reports.tables import TableView

TEMPLATES = Path(__file__).parent / "templates"
_HELD = re.compile(r"\[[^\[\]]{1,30}\]| (?:=|<|>) (?=[\d−])|(?<=[\d\]]) (?:nats|%)")


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure with the caption that its facts wrote."""

    name: str
    figure: Figure
    caption: str
    alt: str


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Everything on the page, as built from one study.

    Attributes:
        study: The study.
        results: Analysis → its result.
        drawings: Name → figure.
        tables: Name → table.
    """

    study: Study
    results: dict[str, Any]
    drawings: dict[str, Drawing]
    tables: dict[str, TableView]

    def answer(self) -> list[tuple[str, list[str]]]:
        """Per pair, the sentences of the first screen."""
        out = []
        for ranked in self.results["ranking"].pairs:
            choice = self.results["prediction"].choice(ranked.pair)
            lines = [ranked.answer(), choice.answer() if choice else "", ranked.caution()]
            out.append((ranked.pair, [line for line in lines if line]))
        return out

    def sentence(self) -> str:
        """The answer in one line, for the terminal."""
        ranked = self.results["ranking"].pairs
        if not ranked:
            return "No run of this study is in the numbers yet."
        if len(ranked) == 1:
            return f"{ranked[0].answer()} {ranked[0].caution()}".strip()
        return " ".join(f"{one.pair}: {one.answer()} {one.caution()}".strip() for one in ranked)

    def html(self) -> str:
        """The page."""
        environment = make_environment([TEMPLATES])
        environment.filters["unbroken"] = unbroken
        return environment.get_template("study.html.j2").render(**self._fields())

    def _fields(self) -> dict[str, Any]:
        study, results = self.study, self.results
        documents = [d for group in study.documents.values() for d in group]
        return {
            "title": captions.title(study),
            "size": captions.size(study),
            "incomplete": captions.incomplete(study),
            "card": study.card,
            "answer": self.answer(),
            "pairs": study.pairs,
            "coefficients": self._coefficients(),
            "reading": self._said(tuple(results["prediction"].findings[:1])) if self._coefficients() else [],
            "refused": results["prediction"].refused,
            "meaning": captions.interval_meaning(results["prediction"]) if self._coefficients() else "",
            "questions": {name: analyses.get(name).QUESTION for name in analyses.ANALYSES},
            "findings": {name: self._said(result.findings) for name, result in results.items()},
            "figures": {
                name: {"svg": embed_svg(d.figure, f"f{at}", d.alt), "caption": d.caption, "name": name}
                for at, (name, d) in enumerate(self.drawings.items())
            },
            "tables": {name: _printed(view) for name, view in self.tables.items()},
            "checks": results["fairness"].checks,
            "fair": results["fairness"].fair,
            "definition": documents[0].definition if documents else {},
            "downloads": self._downloads(),
            "directory": shlex.quote(str(study.paths.root)),
            "built": provenance(),
        }

    def _said(self, findings: tuple[str, ...]) -> list[str]:
        """Findings without the pair's or teacher's name in front where there is only one."""
        if len(self.study.card.pairs) > 1:
            return list(findings)
        pair = self.study.card.pairs[0]
        schemes = set(self.study.card.schemes)
        out = []
        for text in findings:
            bare = text.removeprefix(f"{pair}: ").removeprefix(f"{pair.split('/')[0]}: ")
            out.append(bare if bare.split(" ")[0] in schemes else capital(bare))
        return out

    def _coefficients(self) -> list[dict[str, str]]:
        prediction = self.results["prediction"]
        out = []
        for pair in self.study.pairs:
            for method, symbol in SYMBOLS.items():
                row = prediction.coefficient(pair, method)
                if row:
                    ends = f"[{number(row['low'], 2)}, {number(row['high'], 2)}]"
                    out.append(
                        {
                            "pair": pair,
                            "symbol": symbol,
                            "method": method,
                            "value": number(row["estimate"], 2),
                            "interval": ends,
                            "n": str(row["n"]),
                        }
                    )
        return out

    def _downloads(self) -> list[tuple[str, str]]:
        # The settings as JSON are as long as the rest of a row, and stand in run.json and runs.parquet.
        raw = [
            (name, frame.drop(columns="settings", errors="ignore"))
            for name, frame in (("study.csv", self.study.study), ("runs.csv", self.study.runs))
        ]
        files = [(name, to_csv(_plain(frame), [str(c) for c in frame.columns])) for name, frame in raw]
        return files + [(f"{name}.csv", view.write("csv")) for name, view in self.tables.items()]


def unbroken(text: str) -> str:
    """``text`` with the spaces inside "n = 9", "[0.1, 0.2]" and before a unit held together."""
    return _HELD.sub(lambda found: found.group(0).replace(" ", "\u00a0"), text)


def _plain(frame: Any) -> list[dict[str, Any]]:
    """Rows with None for what is missing, as the CSV writer leaves a cell empty for it."""
    return [
        {str(k): None if v is None or v != v else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]


def _printed(view: TableView) -> dict[str, Any]:
    rows = [
        {"cells": list(zip(cells, (c.word for c in view.columns), strict=True)), "style": view.style(raw)}
        for cells, raw in zip(view.printed(), view.rows(), strict=True)
    ]
    heads = [(column.header, column.word) for column in view.columns]
    return {"name": view.name, "caption": view.caption, "heads": heads, "rows": rows}


def make_page(study: Study, progress: Callable[[str], None] = lambda text: None) -> Page:
    """Runs every analysis and draws every figure.

    Args:
        study: A checked study.
        progress: Told what is being done, a line at a time.
    """
    results = {}
    for name in analyses.ANALYSES:
        progress(f"{name}: {analyses.get(name).QUESTION}")
        results[name] = analyses.get(name).run(study)
    shown = {
        "ranking": tables.ranking(results["ranking"], study) if len(results["ranking"].table) else None,
        "correlation": tables.correlation(results["prediction"]),
        "dependence": tables.dependence(results["dependence"]),
        "covariance": tables.covariance(results["covariance"]),
        "left-out": tables.left_out(results["left_out"]),
    }
    return Page(study, results, _drawings(study, results), {k: v for k, v in shown.items() if v is not None})


def _drawings(study: Study, results: dict[str, Any]) -> dict[str, Drawing]:
    out = {}
    made = results["prediction"].figure()
    if made:
        out["correlation"] = Drawing(
            "correlation", made[0], capital(made[1].caption()), captions.scatter_alt(made[1])
        )
    wanted: list[tuple[str, Any]] = [
        ("dependence", results["dependence"].figure()),
        ("ranking", results["ranking"].figure() if len(results["ranking"].table) else None),
    ]
    many = len(study.pairs) > 1
    for at, pair in enumerate(study.pairs, start=1):
        wanted.append((f"covariance-{at}" if many else "covariance", results["covariance"].figure(pair)))
    wanted.append(("training", results["training"].figure()))
    for name, drawn in wanted:
        if drawn:
            figure, facts = drawn
            out[name] = Drawing(name, figure, facts.caption(), facts.caption())
    return out
