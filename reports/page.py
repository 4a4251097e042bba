"""From a study to everything its page shows; the template adds nothing but layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import analyses
from analyses.study import Study
from analyses.words import capital, count, estimate, number
from kdstats.association.coefficients import SYMBOLS
from kdstats.errors import UsageError
from kdstats.pages.environment import make_environment
from kdstats.pages.hover import Point
from kdstats.pages.parts import File, files
from kdstats.provenance import provenance
from reports import TEMPLATES, captions, tables
from reports.drawing import MOST_EMBEDDED_ROWS, Drawing, draw, scatter_points
from reports.offers import Offer, command, offers, summary
from reports.sections import Section, ask
from reports.table_view import TableView, plain_csv

EVIDENCE = ("ranking", "prediction", "dependence", "covariance", "training")


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Everything on the page, as built from one study.

    Attributes:
        study: The study.
        results: Analysis → its result.
        drawings: Name → figure.
        tables: Name → table.
        sections: Of the analyses asked for, in that order.
        offers: The other analyses on request.
        built: What made the page.
        others: Further studies, for questions that compare settings over several.
    """

    study: Study
    results: dict[str, Any]
    drawings: dict[str, Drawing]
    tables: dict[str, TableView]
    sections: tuple[Section, ...]
    offers: tuple[Offer, ...]
    built: dict[str, Any]
    others: tuple[Study, ...] = ()

    def every_drawing(self) -> tuple[Drawing, ...]:
        """All figures, those of the sections too."""
        return (*self.drawings.values(), *(d for section in self.sections for d in section.drawings))

    def every_table(self) -> tuple[TableView, ...]:
        """All tables, those of the sections too."""
        return (*self.tables.values(), *(t for section in self.sections for t in section.tables))

    @property
    def questions(self) -> dict[str, str]:
        """Analysis → its question, of those that every page has."""
        return {name: analyses.get(name).QUESTION for name in self.results}

    def answer(self) -> list[tuple[str, list[str]]]:
        """Per pair, the sentences of the first screen."""
        out = []
        for ranked in self.results["ranking"].pairs:
            choice = self.results["prediction"].choice(ranked.pair)
            lines = [ranked.answer(), choice.answer() if choice else "", ranked.caution()]
            out.append((ranked.pair, [line for line in lines if line]))
        return out

    def sentence(self) -> str:
        """The answer in one line, for the terminal and a paper."""
        answers = self.answer()
        if not answers:
            return "No run of this study is in the numbers yet."
        named = len(answers) > 1
        return " ".join(f"{pair}: {' '.join(lines)}" if named else " ".join(lines) for pair, lines in answers)

    def caveats(self) -> list[str]:
        """What must be read before the answer: missing runs, unequal terms, a teacher that knows nothing."""
        fairness = self.results["fairness"]
        found = (
            captions.incomplete(self.study),
            "" if fairness.fair else fairness.findings[0],
            captions.guessing(self.study.card),
        )
        return [text for text in found if text]

    def html(self) -> str:
        """The page."""
        environment = make_environment([TEMPLATES])
        return environment.get_template("study.html.j2").render(**self._fields())

    def _fields(self) -> dict[str, Any]:
        study, results = self.study, self.results
        return {
            "title": captions.title(study),
            "size": study.card.size,
            "caveats": self.caveats(),
            "card": study.card,
            "answer": self.answer(),
            "pairs": study.pairs,
            "coefficients": self._coefficients(),
            "reading": self.said("prediction")[:1] if self._coefficients() else [],
            "refused": results["prediction"].refused,
            "meaning": captions.interval_meaning(results["prediction"]) if self._coefficients() else "",
            "questions": self.questions,
            "findings": {name: self.said(name) for name in results},
            "figures": {name: drawing.part() for name, drawing in self.drawings.items()},
            "tables": {name: view.part() for name, view in self.tables.items()},
            "sections": [self._section(section) for section in self.sections],
            "offers": self.offers,
            "offered": summary(self.offers),
            "asking": {offer.name: command(study, (offer.name,), self.others) for offer in self.offers},
            "asking_all": command(study, ("all",), self.others),
            "contents": self._contents(),
            "checks": results["fairness"].checks,
            "fair": results["fairness"].fair,
            "definition": self.definition,
            "downloads": self._downloads(),
            "again": command(study, tuple(section.name for section in self.sections), self.others),
            "built": self.built,
        }

    @property
    def definition(self) -> dict[str, Any]:
        """Of T. stddev in this study; empty without a teacher-only measurement."""
        documents = [d for group in self.study.documents.values() for d in group]
        return dict(documents[0].definition) if documents else {}

    def said(self, name: str) -> list[str]:
        """The findings of one analysis as the page prints them."""
        return self._bare(tuple(self.results[name].findings))

    def _section(self, section: Section) -> dict[str, Any]:
        return {
            "id": f"ask-{section.name}",
            "question": section.question,
            "refused": section.refused,
            "findings": self._bare(section.findings),
            "figures": [drawing.part() for drawing in section.drawings],
            "tables": [view.part() for view in section.tables],
            "data": section.downloads,
        }

    def _contents(self) -> list[dict[str, Any]]:
        """Sections with the questions below them, for the table of contents."""

        def entry(anchor: str, title: str, below: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
            return {"id": anchor, "title": title, "below": [{"id": i, "title": t} for i, t in below]}

        asked = self.questions
        entries = [
            entry("evidence", "Evidence", [(name, asked[name]) for name in EVIDENCE]),
            entry("method", "Method and definition"),
            entry("fairness", "Equal terms"),
            entry("left-out", "What was left out"),
            entry("reproduce", "Reproduce"),
            entry("download", "Download"),
            entry("provenance", "Provenance"),
        ]
        if self.offers:
            entries.insert(1, entry("offers", "Questions this study can also answer"))
        if self.sections:
            below = [(f"ask-{section.name}", section.question) for section in self.sections]
            entries.insert(1, entry("questions", "Further questions", below))
        return entries

    def _bare(self, findings: tuple[str, ...]) -> list[str]:
        """Findings without the pair's or teacher's name in front where there is only one."""
        if len(self.study.card.pairs) > 1:
            return list(findings)
        pair = self.study.card.pairs[0]
        names = {*self.study.card.schemes, pair, pair.split("/")[0]}
        out = []
        for text in findings:
            bare = text
            for name in (pair, pair.split("/")[0]):
                bare = bare.removeprefix(f"{name}: ").removeprefix(f"{name}, ")
            # A name keeps its small letter.
            out.append(bare if bare.split(" ")[0].rstrip(":,") in names else capital(bare))
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

    def _downloads(self) -> tuple[File, ...]:
        # The settings as JSON are as long as the rest of a row, and stand in run.json and runs.parquet.
        raw = [
            (name, plain_csv(frame.drop(columns="settings", errors="ignore")))
            for name, frame in (("study.csv", self.study.study), ("runs.csv", self.study.runs))
            if len(frame) <= MOST_EMBEDDED_ROWS
        ]
        return files(raw + [(f"{name}.csv", view.write("csv")) for name, view in self.tables.items()])


def make_page(
    study: Study,
    progress: Callable[[str], None] = lambda text: None,
    asked: tuple[str, ...] = (),
    others: tuple[Study, ...] = (),
) -> Page:
    """Runs every analysis and draws every figure.

    Args:
        study: A checked study.
        progress: Told what is being done, a line at a time.
        asked: Analyses on request that get a section.
        others: Further studies, for those that compare settings over several.

    Raises:
        UsageError: No analysis of that name, or one that every page has.
    """
    wanted = tuple(dict.fromkeys(asked))
    for name in wanted:
        analyses.get(name)
        if name in analyses.ANALYSES:
            raise UsageError(f"{name!r} is on every page; ask for one of {', '.join(analyses.ON_REQUEST)}")
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
    sections = []
    for name in wanted:
        progress(f"{name}: {analyses.get(name).QUESTION}")
        sections.append(ask(study, name, *others))
    return Page(
        study,
        results,
        _drawings(study, results),
        {k: v for k, v in shown.items() if v is not None},
        tuple(sections),
        offers(study, wanted),
        provenance(),
        others,
    )


def _drawings(study: Study, results: dict[str, Any]) -> dict[str, Drawing]:
    found: list[Drawing] = []
    made = results["prediction"].figure()
    if made:
        figure, facts = made
        panels = {panel.panel: at for at, panel in enumerate(facts.panels)}
        points = results["prediction"].points
        said = {"t_stddev": "T. stddev", "test_loss": "test loss"}
        labels = [
            point
            for pair, at in panels.items()
            for point in scatter_points(points[points["pair"] == pair], at, "t_stddev", "test_loss", said)
        ]
        data = points[points["pair"].isin(panels)]
        caption, alt = capital(facts.caption()), captions.scatter_alt(facts)
        found.append(draw("correlation", figure, caption, alt, data, labels))
    made = results["dependence"].figure()
    if made:
        caption = made[1].caption()
        found.append(draw("dependence", made[0], caption, caption, results["dependence"].table))
    if len(results["ranking"].table):
        found.append(_ranking(results["ranking"], study))
    many = len(study.pairs) > 1
    for at, pair in enumerate(study.pairs, start=1):
        made = results["covariance"].figure(pair)
        if made:
            name = f"covariance-{at}" if many else "covariance"
            found.append(_covariance(name, made, results["covariance"].table, pair))
    made = results["training"].figure()
    if made:
        caption = made[1].caption()
        found.append(draw("training", made[0], caption, caption, results["training"].curves))
    return {drawing.name: drawing for drawing in found}


def _ranking(result: Any, study: Study) -> Drawing:
    figure, facts = result.figure()
    labels, table = [], result.table
    for panel, pair in enumerate(dict.fromkeys(table["pair"])):
        for at, row in enumerate(table[table["pair"] == pair].to_dict("records")):
            loss = estimate(row["test_loss"], row["test_loss_low"], row["test_loss_high"])
            text = f"{row['scheme']}\ntest loss {loss}\nn = {count(row['seeds'], 'seed')}"
            labels.append(Point(panel, row["test_loss"], at, text))
    runs = study.used[["pair", "scheme", "seed", "test_loss_last", "acc_last"]]
    return draw("ranking", figure, facts.caption(), captions.ranking_alt(table), runs, labels)


def _covariance(name: str, made: Any, table: Any, pair: str) -> Drawing:
    rows = table[table["pair"] == pair]
    said = {"t_stddev": "T. stddev", "mean_covariance": "covariance", "test_loss": "test loss"}
    labels = scatter_points(rows, 0, "t_stddev", "mean_covariance", said)
    labels += scatter_points(rows, 1, "mean_covariance", "test_loss", said)
    caption = made[1].caption()
    return draw(name, made[0], caption, caption, rows, labels)
