"""Estimates of runs as tidy rows, and the same over the seeds of a scheme; unlike runs are never averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdstats.estimators.estimate import Estimate
from kdstats.estimators.intervals import t_quantile
from kdstats.estimators.log_value import centre_of
from kdstats.estimators.tstddev import ROOT_NOTE
from kdstats.recorded.differences import differences
from kdstats.recorded.estimate import Measured, RunEstimate

COVARIANCE = ("mean_variance", "mean_covariance", "risk_variance", "iid_risk_variance", "design_effect")
UNITS = {
    "design_effect": "1",
    "t_stddev": "probability",
    "v2_cov1": "probability²",
    "wang2022_v3": "1",
    "wang2022_v3_teacher": "1",
    "teacher_entropy": "nats",
    "mean_cross_entropy": "nats",
}
OVER_SEEDS = "mean over seeds, t with n − 1 degrees of freedom"
OVER_SEEDS_LOG = (
    "geometric mean over seeds of the values freed from the bias of the square root, t with n − 1 degrees of freedom on "
    "the log scale"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One number of one run, or of the seeds of one scheme.

    Attributes:
        dataset: Data set; empty where it is not said. Likewise the next three.
        teacher: Teacher.
        student: Student.
        scheme: Augmentation scheme.
        recipe: First eight digits of the recipe's digest.
        seed: Seed, None over seeds.
        runs: Number of runs behind it.
        epoch: Epoch, None over epochs.
        quantity: Name.
        estimate: The number; without interval ``se``, ``low`` and ``high`` are NaN.
        sd: Standard deviation over seeds, NaN for one.
        run: Run directory, empty over seeds.
    """

    dataset: str
    teacher: str
    student: str
    scheme: str
    recipe: str
    seed: int | None
    runs: int
    epoch: int | None
    quantity: str
    estimate: Estimate
    sd: float
    run: str

    @property
    def unit(self) -> str:
        """Unit of the number."""
        return UNITS.get(self.quantity, "1" if self.quantity.startswith("correlation ") else "nats²")

    def to_dict(self) -> dict[str, Any]:
        """Flat, ready for CSV and JSON."""
        e = self.estimate
        names = ("dataset", "teacher", "student", "scheme", "recipe", "seed", "runs", "epoch", "quantity")
        numbers = {"value": e.value, "se": e.se, "low": e.low, "high": e.high, "sd": self.sd}
        return (
            {name: getattr(self, name) for name in names}
            | {key: None if math.isnan(value) else value for key, value in numbers.items()}
            | {"n": e.n, "unit": self.unit, "method": e.method, "definition": e.definition}
            | {"notes": "; ".join(e.notes), "run": self.run}
        )


COLUMNS = (
    "dataset", "teacher", "student", "scheme", "recipe", "seed", "runs", "epoch", "quantity", "value", "se", "low",
    "high", "sd", "n", "unit", "method", "definition", "notes", "run",
)  # fmt: skip


def _plain(value: float, n: int, method: str, confidence: float) -> Estimate:
    return Estimate(value, math.nan, math.nan, math.nan, n, method, confidence)


def quantities(found: Measured, confidence: float) -> dict[str, Estimate]:
    """Name → estimate of one stretch of a run."""
    out: dict[str, Estimate] = {}
    if found.covariance is not None:
        out |= {name: getattr(found.covariance, name) for name in COVARIANCE}
    if found.components is not None:
        parts = found.components
        out |= {f"variance {name}": estimate for name, estimate in parts.components.items()}
        out["variance total"] = parts.total
        out |= {f"covariance {kind}": estimate for kind, estimate in parts.covariances.items()}
        out |= {f"correlation {kind}": estimate for kind, estimate in parts.correlations.items()}
    steps = found.covariance.observations if found.covariance is not None else 0
    out["mean_cross_entropy"] = _plain(found.mean, steps, "mean over inputs", confidence)
    out["teacher_entropy"] = _plain(found.teacher_entropy, steps, "mean over views", confidence)
    return out


def run_quantities(found: RunEstimate, confidence: float) -> dict[str, Estimate]:
    """Name → estimate of a whole run."""
    out = quantities(found.whole, confidence)
    if found.t_stddev is not None:
        out["t_stddev"] = found.t_stddev
    if found.cov1 is not None:
        out["v2_cov1"] = found.cov1
    for name in ("wang2022_v3", "wang2022_v3_teacher"):
        value = getattr(found, name)
        if value is not None:
            method = "columns over their maximum; no interval, the maximum having no jackknife"
            out[name] = _plain(value, found.v3_sets, method, confidence)
    return out


def run_rows(found: RunEstimate, confidence: float) -> list[Row]:
    """All numbers of one run."""
    return [_row([found], None, name, [e]) for name, e in run_quantities(found, confidence).items()]


def alike(found: Iterable[RunEstimate]) -> list[list[RunEstimate]]:
    """Runs that differ by their seed only, together: same recipe, same steps, same epochs, same pools."""
    groups: dict[tuple[Any, ...], list[RunEstimate]] = {}
    for run in found:
        pool = run.t_stddev.definition if run.t_stddev is not None else ""
        groups.setdefault((*run.run.key, run.definition, run.epochs, pool), []).append(run)
    return list(groups.values())


def split_notes(groups: Sequence[Sequence[RunEstimate]]) -> list[str]:
    """Which schemes stand in several rows because their runs are unlike."""
    seen: dict[tuple[str, ...], list[Sequence[RunEstimate]]] = {}
    for group in groups:
        run = group[0].run
        seen.setdefault((run.dataset, run.teacher, run.student, run.scheme), []).append(group)
    notes = []
    for (_, teacher, student, scheme), unlike in seen.items():
        if len(unlike) > 1:
            what = differences(unlike)
            notes.append(
                f"{scheme or 'runs without a scheme'} of {teacher}/{student}: runs of {len(unlike)} definitions or "
                f"recipes, not averaged together{f'; they differ in {what}' if what else ''}"
            )
    return notes


def few_seeds_note(groups: Sequence[Sequence[RunEstimate]], confidence: float) -> list[str]:
    """What two seeds do to an interval, where a scheme has two."""
    two = list(dict.fromkeys(group[0].run.scheme or "?" for group in groups if len(group) == 2))
    if not two:
        return []
    named = ", ".join(two[:3]) + (f" and {len(two) - 3} more" if len(two) > 3 else "")
    reach, five = (t_quantile(confidence, df) for df in (1, 4))
    return [
        f"2 seeds ({named}): with 1 degree of freedom an interval reaches {reach:.3g} standard errors to either side and "
        f"says little; train more seeds (5 reach {five:.2g})"
    ]


def seed_rows(group: Sequence[RunEstimate], confidence: float) -> list[Row]:
    """All numbers over the seeds of a scheme."""
    every = [run_quantities(run, confidence) for run in group]
    return [
        _row(group, None, name, [q[name] for q in every if name in q])
        for name in dict.fromkeys(name for q in every for name in q)
    ]


def epoch_rows(group: Sequence[RunEstimate], confidence: float) -> list[Row]:
    """The numbers of each epoch over the seeds of a scheme."""
    rows = []
    for epoch in group[0].epochs:
        every = [quantities(run.by_epoch[epoch], confidence) for run in group]
        for name in dict.fromkeys(name for q in every for name in q):
            rows.append(_row(group, epoch, name, [q[name] for q in every if name in q]))
    return rows


def _row(group: Sequence[RunEstimate], epoch: int | None, name: str, found: Sequence[Estimate]) -> Row:
    run = group[0].run
    estimate, sd = log_over_seeds(found) if name == "t_stddev" else over_seeds(found, *_range(name))
    return Row(
        run.dataset,
        run.teacher,
        run.student,
        run.scheme,
        run.recipe[:8],
        run.seed if len(group) == 1 else None,
        len(found),
        epoch,
        name,
        estimate,
        sd,
        str(group[0].paths.root) if len(group) == 1 else "",
    )


POSITIVE = (
    "mean_variance",
    "risk_variance",
    "iid_risk_variance",
    "design_effect",
    "t_stddev",
    "v2_cov1",
    "mean_cross_entropy",
    "teacher_entropy",
)


def _range(quantity: str) -> tuple[float, float]:
    """What the number can be at all; few seeds give intervals beyond it, which are cut there."""
    if quantity.startswith("correlation "):
        return -1.0, 1.0
    return (0.0 if quantity in POSITIVE else -math.inf), math.inf


def over_seeds(
    found: Sequence[Estimate], least: float = -math.inf, most: float = math.inf
) -> tuple[Estimate, float]:
    """Mean over runs, its interval from the spread between them, and that spread; one run keeps its own interval.

    What a run leaves uncertain in its own number is part of the spread between runs, so neither it nor the notes on
    the run's own interval are kept. The interval is exact where the values of runs are independent and normal; it is
    one for what a run of this size gives on average, so a number that is biased within a run (T. stddev by its square
    root) belongs into :func:`log_over_seeds`.
    """
    if len(found) == 1:
        return found[0], math.nan
    values = np.array([e.value for e in found])
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    se = sd / math.sqrt(len(values))
    half = t_quantile(found[0].confidence, len(values) - 1) * se
    definitions = {e.definition for e in found}
    estimate = Estimate(
        mean,
        se,
        max(mean - half, least),
        min(mean + half, most),
        len(values),
        OVER_SEEDS,
        found[0].confidence,
        definitions.pop() if len(definitions) == 1 else "",
    )
    return estimate, sd


def log_over_seeds(found: Sequence[Estimate]) -> tuple[Estimate, float]:
    """As :func:`over_seeds`, of numbers with intervals of :class:`~kdstats.estimators.log_value.LogValue`.

    The square root biases T. stddev low by about 1/(4K) in every run alike. More seeds do not average that away, so the
    logarithms that the jackknife has corrected are averaged, and the interval is formed of them. The notes of the runs
    stay, with how many say so.
    """
    if len(found) == 1:
        return found[0], math.nan
    n, confidence = len(found), found[0].confidence
    # A standard deviation of probabilities is below 1, its logarithm below 0.
    logs, spread = over_seeds(
        [
            Estimate(centre_of(e), math.nan, math.nan, math.nan, 1, "", confidence, e.definition)
            for e in found
        ],
        most=0.0,
    )
    said = [note for e in found for note in dict.fromkeys(e.notes) if ROOT_NOTE not in note]
    value = math.exp(logs.value)
    estimate = Estimate(
        value,
        value * logs.se,
        math.exp(logs.low),
        math.exp(logs.high),
        n,
        OVER_SEEDS_LOG,
        confidence,
        logs.definition,
        tuple(f"{said.count(note)} of {n} runs: {note}" for note in dict.fromkeys(said)),
    )
    return estimate, value * spread
