"""Where a scheme lowers T. stddev: are its views softer, or is a pool of them less dependent?

The variance of a pool mean is a sum of four parts: the spread of single originals and of single views (softer
views lower the latter), the covariance of an image with its own view, and the covariance between different
images (dependence). Parts are point estimates without intervals; only the total has one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analyses.study import Study
from analyses.study.measured import Measured
from analyses.words import count, percent
from kdstats.errors import MissingError
from kdstats.estimators.components import DEPENDENCE, SPREAD, split
from kdstats.figures.components import PARTS as LEGEND
from kdstats.figures.style import PAGE, marks, plain, style

QUESTION = "How does a scheme lower T. stddev: by softer views, or by less dependence?"
REFERENCE = "identity"
PARTS = SPREAD + DEPENDENCE
# Colours, hatches and words are those of every other picture of these parts.
LOOKS = {key: (color, hatch, words) for key, color, hatch, words in LEGEND}


@dataclass(frozen=True, slots=True)
class DependenceFacts:
    """What the stacked bars show, for their caption."""

    teachers: tuple[str, ...]
    schemes: int
    relative: bool
    inputs: tuple[int, ...]

    def caption(self) -> str:
        """The caption, from the fields."""
        unit = f"in per cent of {REFERENCE}'s total" if self.relative else "probability²"
        of = f"teacher {self.teachers[0]}" if len(self.teachers) == 1 else f"{len(self.teachers)} teachers"
        pool = f" of {self.inputs[0]:,} inputs" if len(self.inputs) == 1 else ""
        return (
            f"Variance of a pool mean{pool} ({of}, {count(self.schemes, 'scheme')}), {unit}, split into "
            f"{', '.join(LOOKS[p][2] for p in PARTS)}. Blue: spread of single inputs, smaller when "
            "views are softer. "
            "Hatched: dependence, drawn to the left where it is negative. Tick: the total. "
            "Right: mean teacher entropy. Parts are point estimates."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Dependence:
    """The result: ``table`` has one row per teacher and scheme, lowest T. stddev first, unrounded.

    Columns: ``teacher, scheme, t_stddev, t_stddev_low, t_stddev_high``, the four parts and their ``total``
    (probability²), ``entropy`` of views and ``pool_entropy`` (nats), ``design_effect, effective_inputs,
    inputs`` (of a pool), ``change`` (of the total against identity, a fraction), ``softer`` and
    ``dependence`` (of the spread of single inputs and of the design effect; as ratios they
    multiply), ``differs`` (whether the interval of the difference in T. stddev
    excludes 0; None when unknown) and ``null``.
    """

    table: pd.DataFrame
    absent: tuple[str, ...]
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, DependenceFacts] | None:
        """Stacked bars, one row a scheme; None when nothing was measured."""
        return None if self.table.empty else _draw(self.table)


def run(study: Study) -> Dependence:
    """Splits the variance behind T. stddev, scheme by scheme, for every teacher.

    Raises:
        MissingError: A measurement lacks one of the parts.
    """
    frames, absent = [], []
    for teacher in dict.fromkeys(pair.split("/")[0] for pair in study.card.pairs):
        rows: dict[str, dict[str, Any]] = {}
        for pair in study.card.pairs:
            if pair.split("/")[0] != teacher:
                continue
            for scheme, measured in study.measured(pair).items():
                rows.setdefault(scheme, _row(teacher, measured))
        if not rows:
            absent.append(teacher)
            continue
        wanted = [row for scheme, row in rows.items() if scheme in study.card.schemes]
        frames.append(_against(pd.DataFrame(wanted or list(rows.values()))))
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    findings = [f"{teacher}: no teacher-only measurement is in the study." for teacher in absent]
    return Dependence(table, tuple(absent), (*findings, *_findings(table)))


def _row(teacher: str, measured: Measured) -> dict[str, Any]:
    row, comparison, path = measured.row, measured.comparison, measured.path
    parts = row["components"]
    lacking = [part for part in PARTS if part not in parts]
    if lacking:
        raise MissingError(f"{path}: components of {row['scheme']} lack {', '.join(lacking)}")
    differs = None
    if comparison is not None:
        differs = not comparison["low"] <= 0 <= comparison["high"]
    total = float(sum(parts[p] for p in PARTS))
    effect = float(row.get("design_effect", math.nan))
    inputs = effect * float(row.get("effective_inputs", math.nan))
    return {
        "teacher": teacher,
        "scheme": row["scheme"],
        "t_stddev": row["t_stddev"],
        "t_stddev_low": row.get("low", math.nan),
        "t_stddev_high": row.get("high", math.nan),
        **{part: float(parts[part]) for part in PARTS},
        "total": total,
        "entropy": row.get("rivals", {}).get("view_entropy", math.nan),
        "pool_entropy": row.get("teacher_entropy", math.nan),
        "design_effect": effect,
        "effective_inputs": row.get("effective_inputs", math.nan),
        "inputs": round(inputs) if math.isfinite(inputs) else 0,
        "differs": differs,
        "null": row.get("null", math.nan),
    }


def _against(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.sort_values(["t_stddev", "scheme"], ignore_index=True)
    reference = frame[frame["scheme"] == REFERENCE]
    if reference.empty:
        return frame.assign(change=math.nan, softer=math.nan, dependence=math.nan)
    base = reference.iloc[0]
    reference_parts = {part: float(base[part]) for part in PARTS}
    splits = [
        split({part: float(row[part]) for part in PARTS}, reference_parts) for _, row in frame.iterrows()
    ]
    return frame.assign(
        change=[found.total - 1 for found in splits],
        softer=[found.spread - 1 for found in splits],
        dependence=[found.design_effect - 1 for found in splits],
    )


def _findings(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    out = []
    for teacher, rows in table.groupby("teacher", sort=False):
        first = rows.iloc[0]
        if first["scheme"] == REFERENCE:
            out.append(
                f"{teacher}: no scheme measured has a lower T. stddev than {REFERENCE} (n = {len(rows)})."
            )
            continue
        if math.isnan(first["change"]):
            out.append(f"{teacher}: {REFERENCE} was not measured, so no change can be split.")
            continue
        if first["differs"] is False:
            out.append(
                f"{teacher}: the T. stddev of {first['scheme']} is the lowest measured, but its "
                "interval against "
                f"{REFERENCE} includes 0: the study cannot tell them apart."
            )
            continue
        out.append(
            f"{teacher}: under {first['scheme']} the variance of a pool mean changes by "
            f"{percent(first['change'])} "
            f"against {REFERENCE}: the spread of single inputs by {percent(first['softer'])} (softer views), "
            f"the design effect by {percent(first['dependence'])} (dependence); "
            f"{_mostly(first['softer'], first['dependence'])} "
            f"(point estimates; n = {count(len(rows), 'scheme')})."
        )
    return out


def _mostly(softer: float, dependence: float) -> str:
    """Which factor does more; ``(1 + softer)(1 + dependence)`` is the ratio of the pool variances."""
    if softer >= 0 and dependence >= 0:
        return "neither is lower"
    if softer < 0 <= dependence:
        return "all of it is softer views"
    if dependence < 0 <= softer:
        return "all of it is less dependence"
    share = math.log1p(softer) / (math.log1p(softer) + math.log1p(dependence))
    if share > 2 / 3:
        return "mostly softer views"
    return "mostly less dependence" if share < 1 / 3 else "some of both"


def _draw(table: pd.DataFrame) -> tuple[Figure, DependenceFacts]:
    teachers = tuple(dict.fromkeys(table["teacher"]))
    relative = bool(table["change"].notna().all())
    looks = marks(table["scheme"])
    heights = [0.19 * int((table["teacher"] == t).sum()) + 0.45 for t in teachers]
    with style():
        figure = Figure(figsize=(PAGE * 0.62, sum(heights) + 0.35), layout="constrained")
        grid = figure.add_gridspec(len(teachers), 1, height_ratios=heights)
        for at, teacher in enumerate(teachers):
            ax = figure.add_subplot(grid[at])
            rows = table[table["teacher"] == teacher].to_dict("records")
            unit = (
                next((100 / r["total"] for r in rows if r["scheme"] == REFERENCE), 1.0) if relative else 1.0
            )
            reach = max(unit * sum(max(r[p], 0.0) for p in PARTS) for r in rows)
            for y, row in enumerate(rows):
                right = left = 0.0
                for part in PARTS:
                    width = unit * row[part]
                    color, hatch, _ = LOOKS[part]
                    start = right if width >= 0 else left
                    ax.barh(y, width, 0.72, start, color=color, hatch=hatch, edgecolor="white", linewidth=0)
                    right, left = right + max(width, 0.0), left + min(width, 0.0)
                total = unit * row["total"]
                ax.plot([total, total], [y - 0.44, y + 0.44], color="#1a1a1a", linewidth=1.2)
                if not math.isnan(row["pool_entropy"]):
                    ax.text(reach * 1.03, y, f"{row['pool_entropy']:.2f}", va="center", fontsize=6)
            ax.text(reach * 1.03, -0.95, "entropy (nats)", va="center", fontsize=5.5, color="#555555")
            ax.axvline(0, color="#555555", linewidth=0.6)
            ax.set_yticks(range(len(rows)), [plain(looks[r["scheme"]].text) for r in rows])
            ax.set_ylim(len(rows) - 0.45, -1.3)
            ax.set_xlim(right=reach * 1.22)
            ax.tick_params(axis="y", length=0)
            if len(teachers) > 1:
                ax.set_title(plain(str(teacher)), loc="left")
        ax.set_xlabel(
            f"variance of a pool mean (% of {REFERENCE})"
            if relative
            else "variance of a pool mean (probability²)"
        )
        figure.legend(
            handles=[_patch(part) for part in PARTS], loc="outside lower center", ncols=2, columnspacing=1.4
        )
    pools = tuple(sorted({int(n) for n in table["inputs"] if n}))
    return figure, DependenceFacts(teachers, int(table["scheme"].nunique()), relative, pools)


def _patch(part: str) -> Patch:
    color, hatch, words = LOOKS[part]
    return Patch(facecolor=color, hatch=hatch, edgecolor="white", linewidth=0, label=words)
