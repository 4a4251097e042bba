"""The sections of ``kdstats correlate`` as rows of one table each, unrounded: what csv prints and text is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.cli.correlate.answer import Answer
    from kdstats.cli.correlate.source import Source

_ACROSS = (
    "what",
    "estimate",
    "low",
    "high",
    "p_value",
    "p_permutation",
    "dof",
    "clusters",
    "n",
    "method",
    "notes",
)


def section_rows(section: str, source: Source, answer: Answer) -> list[dict[str, Any]]:
    """One section as rows of one table, unrounded; the form in which ``csv`` prints it."""
    if section == "across":
        return across_rows(answer)
    if section == "choice":
        return _choice_rows(answer)
    if section == "errors":
        return error_rows(source, answer)
    if section == "given":
        found = answer.partial
        return [] if found is None else [*records(found.panels), *records(found.across)]
    if section == "without":
        return [] if answer.leave_one_out is None else records(answer.leave_one_out)
    if section == "mixed":
        model = answer.across.mixed
        return [] if model is None else [_flat(model.to_dict())]
    return records(answer.results)


def across_rows(answer: Answer) -> list[dict[str, Any]]:
    """What holds over all panels, one estimate a row; columns that a method does not have are empty."""
    rows: list[dict[str, Any]] = []
    found = answer.across
    for m in answer.meta:
        row = _flat(m.to_dict())
        rows.append(
            {**row, "what": f"mean {m.coefficient}", "n": int(answer.results["n"].sum() // 3), "dof": m.k - 1}
        )
    if found.repeated is not None:
        r = found.repeated
        row, dof = _flat(r.to_dict()), r.labels - 2 if r.labels else r.df
        rows.append({**row, "what": "correlation within panels", "dof": dof, "clusters": r.labels or None})
        rows.append(
            {
                **row,
                "what": "slope within panels",
                "estimate": r.slope,
                "low": r.slope_low,
                "high": r.slope_high,
                "dof": dof,
                "clusters": r.labels or None,
            }
        )
    if found.regression is not None:
        for record in records(found.regression):
            method = f"{record['kind']}, clusters: {record['clusters_by']}"
            rows.append({**record, "what": "slope with panel effects", "method": method})
    for each in found.wild:
        row = _flat(each.found.to_dict())
        method = f"wild bootstrap ({each.found.weights}), clusters: {each.clusters_by}"
        rows.append({**row, "what": "slope with panel effects", "method": method})
    if found.mixed is not None:
        m_row = _flat(found.mixed.to_dict())
        rows.append({**m_row, "what": "slope of the mixed model"})
    return [{name: row.get(name) for name in _ACROSS} for row in rows]


def _choice_rows(answer: Answer) -> list[dict[str, Any]]:
    learned = (
        {} if answer.across.pair_out is None else {p.choice.panel: p for p in answer.across.pair_out.panels}
    )
    rows = []
    for panel in answer.regret.to_dict()["panels"]:
        out = learned.get(panel["panel"])
        rows.append(
            {
                **{name: " | ".join(v) if isinstance(v, (list, tuple)) else v for name, v in panel.items()},
                "learned_from_others": None if out is None else out.learned,
                "concordance_left_out": None if out is None else out.choice.concordance,
                "regret_left_out": None if out is None else out.choice.expected,
            }
        )
    return rows


def error_rows(source: Source, answer: Answer) -> list[dict[str, Any]]:
    """As measured and corrected, one estimate a row: group columns, quantity, method, estimate, low, high, n, notes."""
    found = answer.corrected
    if found is None:
        return []
    rows = []
    for r in records(found.disattenuated):
        key = {g: r[g] for g in source.groups}
        common = {name: r[name] for name in ("p_value", "reliability_x", "reliability_y")}
        as_it_is = _pearson(answer, source, key)
        rows.append({**key, "quantity": "correlation", "method": "as measured", **as_it_is, **common})
        rows.append({**key, "quantity": "correlation", "method": "disattenuated", **_ends(r), **common})
    for r in records(found.deming):
        key = {g: r[g] for g in source.groups}
        ends = {"estimate": r["slope"], "low": r["slope_low"], "high": r["slope_high"]}
        naive = {"estimate": r["naive_slope"], "n": r["n"]}
        rows.append({**key, "quantity": "slope", "method": "as measured", **naive})
        rows.append({**key, "quantity": "slope", "method": "deming", **_ends({**r, **ends})})
    for r in records(found.simex):
        key = {g: r[g] for g in source.groups}
        quantity = "correlation" if r["statistic"] == "pearson" else "slope"
        rows.append({**key, "quantity": quantity, "method": "simex", **_ends(r)})
    order = {"correlation": 0, "slope": 1}
    places = {tuple(r[g] for g in source.groups): i for i, r in enumerate(records(answer.results))}
    rows.sort(key=lambda r: (places[tuple(r[g] for g in source.groups)], order[r["quantity"]]))
    names = [*source.groups, "quantity", "method", "estimate", "low", "high", "n", "p_value"]
    names += ["reliability_x", "reliability_y", "notes"]
    return [{name: row.get(name) for name in names} for row in rows]


def _pearson(answer: Answer, source: Source, key: Mapping[str, Any]) -> dict[str, Any]:
    for row in records(answer.results):
        if row["method"] == "pearson" and all(row[g] == key[g] for g in source.groups):
            return _ends(row)
    return {}


def _ends(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("estimate", "low", "high", "n", "notes")}


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        for name, value in fields.items()
    }


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as dictionaries.

    NaN (a permutation p that was not computed) leaves as None: an empty cell in CSV, null in JSON; an end of an
    interval without limit stays infinite in CSV and is null in JSON.
    """
    return [
        {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]
