"""The sections of ``kdstats correlate`` below the coefficients, each as a table or a few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdstats.association.coefficients import SYMBOLS
from kdstats.cli.correlate.numbers import bracket, digits, number, p_equals, p_text, span
from kdstats.cli.correlate.rows import error_rows, records
from kdstats.tables import Table

if TYPE_CHECKING:
    from kdstats.cli.correlate.answer import Answer
    from kdstats.cli.correlate.source import Source


@dataclass(frozen=True, slots=True)
class Block:
    """A heading (may be empty), a table where there is one, and lines under it."""

    heading: str
    table: Table | None
    lines: list[str]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to print."""
        return not (self.table or self.lines)


def across(fmt: str, source: Source, answer: Answer) -> Block:
    """Means over panels, the common slope, and how sure they are."""
    if answer.regret.k < 2 and answer.across.regression is None:
        return Block("", None, ["Across panels: there is one panel only; --group COLS tells panels apart."])
    rows: list[dict[str, str]] = []
    for m in answer.meta:
        tail = f"I² {100 * m.i2:.0f} %"
        if m.prediction_low == m.prediction_low:
            tail = f"a further panel {bracket(m.prediction_low, m.prediction_high)}, {tail}"
        rows.append(
            {
                "what": f"mean {SYMBOLS[m.coefficient]} over {m.k} panels, random effects",
                "value": f"{number(m.estimate)} {bracket(m.low, m.high)}",
                "more": tail,
            }
        )
    r = answer.across.repeated
    if r is not None:
        units = f"{r.labels} {_plural(source.what)}" if r.labels else "points"
        rows.append(
            {
                "what": f"r within panels (repeated measures), by {units}",
                "value": f"{number(r.estimate)} {bracket(r.low, r.high)}",
                "more": f"permutation {p_equals(r.p_permutation)}",
            }
        )
    rows += _slopes(source, answer)
    lines = []
    if answer.regret.k > 1:
        lines.append(
            "Panels are never pooled as independent points. Panels that share a teacher, a data set or schemes are not "
            "independent, so a mean over them is less sure than it says."
        )
    if sum(row["what"].startswith("slope") for row in rows) > 1:
        lines.append(
            f"Slopes may differ by panel and errors may recur with a {source.what}: of the two slope lines the wider "
            "interval is the safer one."
        )
    heading = "Across panels" if answer.regret.k > 1 else "Least-squares slope"
    return Block(heading, _lines_table(rows), lines)


def _slopes(source: Source, answer: Answer) -> Iterator[dict[str, str]]:
    frame = answer.across.regression
    wild = {each.clusters_by: each.found for each in answer.across.wild}
    if frame is None:
        return
    for row in records(frame):
        if not row["default"]:
            continue
        by = row["clusters_by"]
        units = f"{row['clusters']} {_plural(by)}" if row["clusters"] else "points"
        more = f"{p_equals(row['p_value'])}"
        if by in wild:
            more += f", wild bootstrap {p_equals(wild[by].p_value)} {span(wild[by].low, wild[by].high)}"
        yield {
            "what": f"slope{' with panel effects' if row['groups'] > 1 else ''}, {row['kind'].upper()} by {units}",
            "value": f"{digits(row['estimate'])} {span(row['low'], row['high'])}",
            "more": more,
        }


def once(fmt: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In a terminal a panel is named on the first of its rows only."""
    if fmt != "table":
        return rows
    before = [None, *(row.get("panel") for row in rows)]
    return [
        {**row, "panel": "" if row.get("panel") == last else row.get("panel")}
        for row, last in zip(rows, before, strict=False)
    ]


def _lines_table(rows: list[dict[str, str]]) -> Table:
    """Three columns; in a terminal without a head, as lines that align."""
    headers = {"what": "estimate", "value": "value and interval", "more": "besides"}
    return Table(rows, ["what", "value", "more"], headers, bare=True)


def choice(fmt: str, source: Source, answer: Answer) -> Block:
    """What choosing by the predictor has been worth, here and when learned from the other panels."""
    cost, unit = answer.regret, source.unit
    said = answer.sentence(source)
    ordered = f"{100 * cost.concordance:.0f} % of {cost.pairs} {source.what} pairs ordered rightly"
    heading = f"Choice by the {cost.choose} {source.x_name}; better is the {cost.better} {source.y_name}"
    lines = [f"{said[0].upper()}{said[1:]}."]
    if cost.k < 2:
        lines.append(f"{ordered[0].upper()}{ordered[1:]}. One panel: no interval.")
        return Block(heading, None, lines)
    lines.append(
        f"Mean cost over panels {cost.mean:.2g} {unit} [{cost.low:.2g}, {cost.high:.2g}]; share of panels hit "
        f"[{cost.hits_low:.3f}, {cost.hits_high:.3f}]; {ordered}."
    )
    out = answer.across.pair_out
    if out is not None:
        costs = {panel.panel: panel.expected for panel in cost.panels}
        # The two intervals come of random weights of their own; of one and the same costs one is enough.
        alike = all(costs[each.choice.panel] == each.choice.expected for each in out.panels)
        mean = (
            "the same cost in every panel"
            if alike
            else f"mean cost {out.regret:.2g} [{out.regret_low:.2g}, {out.regret_high:.2g}] {unit}"
        )
        lines.append(
            f"Each panel predicted from the others: {100 * out.concordance:.0f} % "
            f"[{100 * out.concordance_low:.0f}, {100 * out.concordance_high:.0f}] of {source.what} pairs ordered "
            f"rightly, best found in {out.hits} of {out.k}, {mean}."
        )
    return Block(heading, None, lines)


def errors(fmt: str, source: Source, answer: Answer) -> Block:
    """As measured and corrected: correlation and slope of every panel."""
    rows: list[dict[str, Any]] = []
    for record in error_rows(source, answer):
        if record["method"] == "as measured":
            reliability = record["reliability_x"], record["reliability_y"]
            rows.append(
                {
                    "panel": source.panel(record),
                    "quantity": record["quantity"],
                    "measured": _measured(record),
                    "reliability": ", ".join(digits(v) for v in reliability)
                    if reliability[0] is not None
                    else "",
                }
            )
        elif rows:
            value = record["estimate"]
            cell = f"{'none' if value is None else digits(value)} {span(record['low'], record['high'])}"
            rows[-1]["simex" if record["method"] == "simex" else "corrected"] = cell
    if not rows:
        return Block("", None, [])
    columns = ["quantity", "measured", "corrected", "simex", "reliability"]
    if source.groups:
        columns.insert(0, "panel")
    headers = {
        "quantity": "",
        "measured": "as measured",
        "corrected": "corrected",
        "simex": "SIMEX",
        "reliability": "reliability of x, y",
    }
    if fmt != "table":
        headers["quantity"] = "quantity"
    known = " and ".join(n for n, given in (("x", source.x_se), ("y", source.y_se)) if given)
    exact = {"x": source.x_name, "y": source.y_name}
    lines = [
        "Correlation: Spearman's correction with a profile-likelihood interval; slope: Deming/York with scatter.",
        "SIMEX's interval is a jackknife's, which is wide where leaving a point out reaches a correlation of ±1.",
    ]
    if known in exact:
        other = exact["y" if known == "x" else "x"]
        lines.append(f"No standard errors of {other} are given: it is taken as measured without error.")
    table = Table(once(fmt, rows), columns, headers)
    return Block(f"Corrected for known errors of {known}", table, lines)


def _measured(record: Mapping[str, Any]) -> str:
    if record["low"] is None:  # a least-squares slope; its interval would take x as exact
        return digits(record["estimate"])
    return f"{digits(record['estimate'])} {span(record['low'], record['high'])}"


def given(fmt: str, source: Source, answer: Answer) -> Block:
    """Partial correlations, panel by panel and across."""
    found = answer.partial
    if found is None:
        return Block("", None, [])
    rows = []
    for frame, everywhere in ((found.panels, False), (found.across, True)):
        for record in records(frame):
            estimate = record["estimate"]
            rows.append(
                {
                    "panel": f"all {record['k']} panels, within" if everywhere else source.panel(record),
                    "coefficient": SYMBOLS[record["method"]],
                    "plain": float(record["plain"]),
                    "partial": "none" if estimate is None else number(estimate),
                    "interval": bracket(record["low"], record["high"]),
                    "p_permutation": record["p_permutation"],
                    "n": int(record["n"]),
                }
            )
    if not rows:
        return Block("", None, [])
    columns = ["coefficient", "plain", "partial", "interval", "p_permutation", "n"]
    if source.groups:
        columns.insert(0, "panel")
    headers = {
        "coefficient": "" if fmt == "table" else "coefficient",
        "plain": "alone",
        "interval": "interval",
        "p_permutation": "p (permutation)",
    }
    table = Table(once(fmt, rows), columns, headers, {"plain": number, "p_permutation": p_text})
    return Block(f"With {', '.join(source.given)} held fixed (partial correlation)", table, [])


def without(fmt: str, source: Source, answer: Answer) -> Block:
    """Range of each coefficient when one point is left out."""
    if answer.leave_one_out is None:
        return Block("", None, [])
    rows = [
        {
            "panel": source.panel(record),
            "coefficient": SYMBOLS[record["method"]],
            "estimate": float(record["estimate"]),
            "range": bracket(record["lowest"], record["highest"]),
            "without": record["without"],
            "value": float(record["without_estimate"]),
        }
        for record in records(answer.leave_one_out)
    ]
    columns = ["coefficient", "estimate", "range", "without", "value"]
    if source.groups:
        columns.insert(0, "panel")
    headers = {
        "coefficient": "" if fmt == "table" else "coefficient",
        "range": "range without one",
        "without": "moves most without",
        "value": "then",
    }
    table = Table(once(fmt, rows), columns, headers, {"estimate": number, "value": number})
    return Block("Leaving out one point at a time", table, [])


def mixed(fmt: str, source: Source, answer: Answer) -> Block:
    """The mixed model and what was checked about its fit."""
    m = answer.across.mixed
    if m is None:
        return Block("", None, [])
    rows = [
        {
            "what": f"slope, random intercept and slope of {m.groups} panels",
            "value": f"{digits(m.estimate)} {span(m.low, m.high)}",
            "more": f"{p_equals(m.p_value)}, t({m.dof:.0f})",
        }
    ]
    if m.slope_variance is not None:
        rows.append(
            {
                "what": "standard deviation of slopes between panels",
                "value": digits(m.slope_variance**0.5),
                "more": f"residual {digits(m.residual_variance**0.5)}",
            }
        )
    lines = [f"Checked: {'; '.join(m.checks)}."]
    if any("is found in several clusters" in note for note in m.notes):
        lines.append(
            f"What a {source.what} does alike in all panels is not in this interval; --show across has the slope by it."
        )
    return Block(f"Mixed model, {m.method}", _lines_table(rows), lines)


def _plural(word: str) -> str:
    return word if word.endswith("s") else f"{word}s"
