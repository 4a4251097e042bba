"""How far are mixed labels from what the teacher says of the mixed view?

A mixed view of images i and j carries the label q = λ e_i + (1 − λ) e_j by its pixels. The teacher, asked about the
view itself, answers p. The two are compared by total variation ½ Σ |p − q| and by KL(q ‖ p), by whether the teacher's
likeliest class is in the view at all, and, where the two classes differ, by the teacher's relative mass
m = p_i / (p_i + p_j) against λ. On unmixed originals the same numbers (λ = 1) are the teacher's own errors: only what
goes beyond them comes from mixing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analyses.inference.over_seeds import t_interval
from analyses.study import Study
from analyses.study.names import MIXING, composable, is_recursive
from analyses.study.traits import TEACHERS, Need, picks
from analyses.study.views import BATCHES, AskedBatch, Floats, check_batches, not_asked, sources
from analyses.words import CANNOT, CONFIDENCE, LEVEL, estimate, listed, number
from kdstats.errors import CheckError
from kdstats.estimators.intervals import Jackknife, t_quantile
from kdstats.figures.style import COLUMN, marks, plain, style

if TYPE_CHECKING:
    from kdstats.schemes import Scheme

QUESTION = "How far are mixed labels from what the teacher says of the mixed view?"
NEEDS: tuple[Need, ...] = (
    (lambda has: bool(has.of(*MIXING)) or picks(has), "no scheme mixes images"),
    TEACHERS,
)
MEASURES = {
    "total_variation": "total variation between label and answer",
    "kl": "KL(label ‖ answer) in nats",
    "neither": "share of views whose likeliest class is none of those mixed",
    "not_larger": "share of views whose likeliest class is not that of the larger share",
}
BINS = 10
ROUNDING = 1e-5  # of float32 answers: a difference below it is none


@dataclass(frozen=True, slots=True)
class DisagreementFacts:
    """What the curves show, for their caption."""

    teacher: str
    schemes: tuple[str, ...]
    batches: int

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"The teacher's relative mass on the first of two mixed classes against that image's share λ of the view "
            f"({self.teacher}; {listed(self.schemes)}; {self.batches} batches of training images, views of two classes "
            f"only). Means in tenths of λ, {LEVEL} intervals over batches, each for itself. On the diagonal the teacher "
            "divides its answer as the pixels are divided."
        )


@dataclass(frozen=True, slots=True, eq=False)
class LabelDisagreement:
    """The result, unrounded.

    Attributes:
        table: A row per teacher (pair, where a student picks the views), scheme and name of :data:`MEASURES`: ``value,
            low, high`` over batches, ``original`` (the same of the unmixed originals of the batches) and
            ``difference`` with ends; all differences hold together.
        mass: Views of two classes: ``slope`` of the relative mass on λ with ends (delete-one-batch jackknife) and
            ``lean`` = mean of m − λ with ends; slopes of all rows hold together, so do leans.
        calibration: Per tenth of λ: ``left, right, lam, mass, low, high, batches``.
        findings: In words.
    """

    table: pd.DataFrame
    mass: pd.DataFrame
    calibration: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, DisagreementFacts] | None:
        """Relative mass over λ for the first teacher; None where no view of two classes was seen."""
        return None if self.calibration.empty else _draw(self.calibration, self.table)


def run(study: Study, batches: int = BATCHES) -> LabelDisagreement:
    """Asks the study's teachers about views of every mixing scheme.

    Args:
        study: A study with the teachers' weights and the data at hand.
        batches: Batches of training images per scheme.

    Raises:
        UsageError: Too few batches.
        CheckError: The teacher answers with NaN or infinity.
    """
    check_batches(batches)
    missing: list[str] = []
    refused: list[str] = []

    def wanted(name: str, scheme: Scheme) -> bool:
        if scheme.mixes and (is_recursive(name) or not composable(name)):
            refused.append(name)
            return False
        return scheme.mixes

    seed = study.seed_for("label_disagreement")
    per_batch: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    for source in sources(study, wanted, seed, missing):
        key = {"teacher": source.name, "scheme": source.label}
        for at, batch in enumerate(source.batches(batches)):
            lam, mass = relative_mass(batch)
            per_batch.append(key | {"batch": at, "views": len(batch.lam)} | of_batch(batch))
            views.append(key | {"lam": lam, "mass": mass})
    findings = [
        f"{name}: the question {CANNOT} its views are mixed in several steps, so a label is more than one λ."
        for name in dict.fromkeys(refused)
    ]
    findings += not_asked(missing)
    empty = pd.DataFrame()
    if not per_batch:
        if not findings:
            findings.append(f"This {CANNOT} no run mixes images under a fixed teacher.")
        return LabelDisagreement(empty, empty, empty, tuple(findings))
    table = _table(pd.DataFrame(per_batch))
    mass_ = _mass(views)
    return LabelDisagreement(
        table, mass_, _calibration(views), (*findings, *_findings(table), *_mass_findings(mass_))
    )


def of_batch(batch: AskedBatch) -> dict[str, float]:
    """Means over a batch of every name of :data:`MEASURES`, and of the originals under ``<name>_original``."""
    first, second = batch.classes
    own = batch.labels
    out = {name: float(v.mean()) for name, v in disagreement(batch.answers, batch.lam, first, second).items()}
    alone = disagreement(batch.original, np.ones(len(own)), own, own)
    return out | {f"{name}_original": float(v.mean()) for name, v in alone.items()}


def disagreement(
    log_p: Floats, lam: Floats, first: NDArray[np.int64], second: NDArray[np.int64]
) -> dict[str, Floats]:
    """Per view, ``[V]`` each: see :data:`MEASURES`.

    Args:
        log_p: ``[V, C]`` the teacher's log-probabilities.
        lam: ``[V]`` share of the class ``first``.
        first: ``[V]`` class of the base image.
        second: ``[V]`` class of the partner.

    Raises:
        CheckError: A λ outside [0, 1].
    """
    if not ((lam >= 0) & (lam <= 1)).all():
        raise CheckError("a share λ lies outside [0, 1]")
    rows = np.arange(len(lam))
    label = np.zeros_like(log_p)
    np.add.at(label, (rows, first), lam)
    np.add.at(label, (rows, second), 1 - lam)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(label > 0, label * np.log(label), 0.0).sum(axis=1)
    top = log_p.argmax(axis=1)
    return {
        "total_variation": 0.5 * np.abs(np.exp(log_p) - label).sum(axis=1),
        "kl": -(label * log_p).sum(axis=1) - entropy,
        # A share of nothing is not in the view.
        "neither": (label[rows, top] == 0).astype(float),
        # At λ = ½ both are the larger.
        "not_larger": (label[rows, top] < label.max(axis=1)).astype(float),
    }


def relative_mass(batch: AskedBatch) -> tuple[Floats, Floats]:
    """λ and the teacher's relative mass on the base image's class, of the views of two unlike classes."""
    first, second = batch.classes
    rows = np.flatnonzero((first != second) & (batch.lam > 0) & (batch.lam < 1))
    odds = batch.answers[rows, second[rows]] - batch.answers[rows, first[rows]]
    return batch.lam[rows], np.asarray(1 / (1 + np.exp(np.clip(odds, -700, 700))))


def slope_over_batches(
    parts: list[tuple[Floats, Floats]], comparisons: int = 1
) -> tuple[float, float, float]:
    """Least-squares slope of mass on λ, batches as units: delete-one-batch jackknife, Student's t.

    A batch has one draw of λ where draws are per batch, so its views say little more together than one of them.

    Args:
        parts: ``(λ, mass)`` of every batch, ``[n]`` each; empty ones are left out.
        comparisons: So many intervals hold together (Bonferroni).

    Returns:
        Slope and ends; NaN where λ does not vary, ends NaN with fewer than three batches.
    """
    sums = np.array([[len(x), x.sum(), y.sum(), x @ x, x @ y] for x, y in parts if len(x)])

    def slope(s: Floats) -> Floats:
        n, x, y, xx, xy = s
        spread = n * xx - x * x
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(spread > 1e-9 * n * xx, (n * xy - x * y) / spread, math.nan))

    if not len(sums):
        return (math.nan,) * 3
    value = float(slope(sums.sum(axis=0)))
    left = slope((sums.sum(axis=0) - sums).T)
    if len(sums) < 3 or not np.isfinite(left).all():
        return value, math.nan, math.nan
    found = Jackknife.of(value, left)
    half = t_quantile(1 - (1 - CONFIDENCE) / comparisons, len(sums) - 1) * found.se
    return value, value - half, value + half


def _table(per_batch: pd.DataFrame) -> pd.DataFrame:
    comparisons = per_batch.groupby(["teacher", "scheme"]).ngroups * len(MEASURES)
    rows = []
    for (teacher, scheme), own in per_batch.groupby(["teacher", "scheme"], sort=False):
        for name in MEASURES:
            value, low, high = t_interval(own[name])
            gap = t_interval(own[name] - own[f"{name}_original"], comparisons)
            rows.append(
                {"teacher": teacher, "scheme": scheme, "measure": name, "value": value, "low": low}
                | {"high": high, "original": float(own[f"{name}_original"].mean())}
                | dict(zip(("difference", "difference_low", "difference_high"), gap, strict=True))
                | {"batches": len(own), "views": int(own["views"].sum())}
            )
    return pd.DataFrame(rows)


def _by_source(views: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[Floats, Floats]]]:
    out: dict[tuple[str, str], list[tuple[Floats, Floats]]] = {}
    for row in views:
        out.setdefault((row["teacher"], row["scheme"]), []).append((row["lam"], row["mass"]))
    return out


def _mass(views: list[dict[str, Any]]) -> pd.DataFrame:
    by = _by_source(views)
    rows = []
    for (teacher, scheme), parts in by.items():
        some = [(x, y) for x, y in parts if len(x)]
        if not some:
            continue
        slope = slope_over_batches(some, len(by))
        lean = t_interval([float((y - x).mean()) for x, y in some], len(by))
        rows.append(
            {
                "teacher": teacher,
                "scheme": scheme,
                "batches": len(some),
                "views": sum(len(x) for x, _ in some),
            }
            | dict(zip(("slope", "slope_low", "slope_high"), slope, strict=True))
            | dict(zip(("lean", "lean_low", "lean_high"), lean, strict=True))
        )
    return pd.DataFrame(rows)


def _calibration(views: list[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for (teacher, scheme), parts in _by_source(views).items():
        held: dict[int, list[tuple[float, float]]] = {}
        for x, y in parts:
            at = np.minimum((x * BINS).astype(int), BINS - 1)
            for b in np.unique(at).tolist():
                held.setdefault(b, []).append((float(x[at == b].mean()), float(y[at == b].mean())))
        for b, points in sorted(held.items()):
            mass, low, high = t_interval([y for _, y in points])
            rows.append(
                {"teacher": teacher, "scheme": scheme, "left": b / BINS, "right": (b + 1) / BINS}
                | {"lam": float(np.mean([x for x, _ in points])), "mass": mass, "low": low, "high": high}
                | {"batches": len(points)}
            )
    return pd.DataFrame(rows)


def told(low: float, high: float, value: float) -> bool:
    """Whether an interval leaves out 0 by more than rounding of the answers."""
    return (low > 0 or high < 0) and abs(value) > ROUNDING


def _findings(table: pd.DataFrame) -> Iterator[str]:
    for (teacher, scheme), own in table.groupby(["teacher", "scheme"], sort=False):
        by = own.set_index("measure").to_dict("index")
        tv, kl = by["total_variation"], by["kl"]
        yield (
            f"{teacher}, {scheme}: mixed label and teacher's answer differ by a total variation of "
            f"{estimate(tv['value'], tv['low'], tv['high'])} and KL "
            f"{estimate(kl['value'], kl['low'], kl['high'])} nats on average ({tv['views']:,} views in "
            f"{tv['batches']} batches); on the unmixed originals by a total variation of {number(tv['original'], 4)}."
        )
        for name in ("total_variation", "neither", "not_larger"):
            row = by[name]
            gap = estimate(row["difference"], row["difference_low"], row["difference_high"])
            what = MEASURES[name]
            if told(row["difference_low"], row["difference_high"], row["difference"]):
                way = "above" if row["difference"] > 0 else "below"
                yield f"{teacher}, {scheme}: the {what} is {way} that of the originals, by {gap}."
            else:
                yield f"{teacher}, {scheme}: the {what} cannot be told from that of the originals ({gap})."


def _mass_findings(mass: pd.DataFrame) -> Iterator[str]:
    for row in mass.to_dict("records"):
        head = f"{row['teacher']}, {row['scheme']}: per unit of λ the teacher's relative mass on the class grows by "
        if math.isnan(row["slope"]):
            yield f"{row['teacher']}, {row['scheme']}: λ does not vary, so the answer has no slope over it."
            continue
        said = (
            f"{head}{estimate(row['slope'], row['slope_low'], row['slope_high'])} ({row['batches']} batches)"
        )
        if math.isnan(row["slope_low"]):
            yield f"{said}; too few batches for an interval."
        elif row["slope_low"] <= 1 <= row["slope_high"]:
            yield f"{said}: this study cannot tell it from 1, the slope of the label."
        else:
            way = "more" if row["slope_low"] > 1 else "less"
            yield f"{said}: {way} than the label, whose slope is 1."


def _draw(calibration: pd.DataFrame, table: pd.DataFrame) -> tuple[Figure, DisagreementFacts]:
    teacher = str(calibration["teacher"].iloc[0]).split("/")[0]
    here = calibration[calibration["teacher"].str.split("/").str[0] == teacher].drop_duplicates(
        ["scheme", "left"]
    )
    looks = marks(here["scheme"])
    with style():
        figure = Figure(figsize=(COLUMN * 1.1, 2.9), layout="constrained")
        ax = figure.add_subplot()
        ax.plot([0, 1], [0, 1], color="#555555", linewidth=0.6)
        for scheme, part in here.groupby("scheme", sort=False):
            look = looks[str(scheme)]
            known = part["low"].notna()
            ax.plot(part["lam"], part["mass"], color=look.color, marker=look.marker, label=plain(look.text))
            ends = part[["low", "high"]].clip(0, 1)[known]
            ax.vlines(part["lam"][known], ends["low"], ends["high"], color=look.color, linewidth=0.7)
        ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="share λ of the first image")
        ax.set(ylabel="teacher's relative mass on its class")
        ax.legend(loc="upper left")
    batches = int(table["batches"].max())
    return figure, DisagreementFacts(teacher, tuple(map(str, looks)), batches)
