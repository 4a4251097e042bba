"""How smooth are the answers of teachers and students: entropy, confidence, spread of the logits?

MIX-KD calls a network smooth whose probabilities are even: high entropy, low largest probability, small standard
deviation of the logits over the classes (its own temperature in ``std_logits``). All at T = 1 on the test images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.inference.over_seeds import against, summarise
from analyses.inference.spread import quantile
from analyses.study import Study
from analyses.study.networks import STUDENT, TEACHER, Answers, Floats, left_out, panel
from analyses.study.traits import WEIGHTS, Need
from analyses.words import count, estimate, number, records, sizes
from kdstats.figures.style import PAGE, marks, plain, style

QUESTION = "How smooth are the answers of teachers and students: entropy, confidence, spread of the logits?"
NEEDS: tuple[Need, ...] = (WEIGHTS,)
REFERENCE = "identity"
MEASURES = {
    "entropy": "entropy (nats)",
    "confidence": "largest probability",
    "logit_sd": "deviation of logits",
}
HEADS = MEASURES
BINS = 40


@dataclass(frozen=True, slots=True)
class SmoothnessFacts:
    """What the histograms show, for their caption."""

    pair: str
    networks: int
    images: int

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"Entropy, largest probability and standard deviation of the logits over {self.images:,} test images at "
            f"T = 1 ({self.pair}; the teacher, dashed, and students of {count(self.networks - 1, 'scheme')}, their "
            "seeds together). Share of images per bin."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Smoothness:
    """The result.

    Attributes:
        per_network: ``role, pair, scheme, seed`` and the mean over images of every name of :data:`MEASURES`.
        table: Means over seeds with intervals; a teacher's interval is over images.
        differences: ``pair, scheme, measure, difference, low, high`` against identity within seeds; the intervals of
            a pair and measure hold together.
        histogram: ``role, pair, scheme, measure, left, right, share``.
        images: How many were asked.
        findings: In words.
    """

    per_network: pd.DataFrame
    table: pd.DataFrame
    differences: pd.DataFrame
    histogram: pd.DataFrame
    images: int
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, SmoothnessFacts] | None:
        """Three histograms of the first pair; None where no network could be asked."""
        return None if self.histogram.empty else _draw(self.histogram, self.images)


def of_answers(answers: Answers) -> dict[str, Floats]:
    """Per image: ``entropy`` (nats), ``confidence`` and ``logit_sd`` (divisor C − 1), ``[N]`` each."""
    log_p = answers.log_probabilities
    p = np.exp(log_p)
    return {
        # p log p → 0 where p underflows: log p is finite there.
        "entropy": -(p * log_p).sum(axis=1),
        "confidence": p.max(axis=1),
        "logit_sd": answers.logits.std(axis=1, ddof=1),
    }


def run(study: Study, images: int | None = None) -> Smoothness:
    """Asks every teacher and every last student about the test images.

    Args:
        study: A study with weights.
        images: Only the first so many test images.

    Raises:
        CheckError: A network answers with NaN or infinity.
    """
    asked = panel(study, images)
    missing: list[str] = []
    rows, values, n = [], [], 0
    for one in asked.each(missing):
        found = of_answers(one.answers())
        n = len(found["entropy"])
        rows.append(one.key | {name: float(v.mean()) for name, v in found.items()})
        rows[-1] |= {f"{name}_se": float(v.std(ddof=1)) / math.sqrt(n) for name, v in found.items()}
        values.append((one.key, found))
    empty = pd.DataFrame()
    if not rows:
        return Smoothness(empty, empty, empty, empty, 0, (asked.refused or left_out(missing)[0],))
    per_network = pd.DataFrame(rows)
    students = per_network[per_network["role"] == STUDENT]
    table = pd.concat([_teachers(per_network), _students(students)], ignore_index=True)
    differences = _differences(students)
    findings = (*left_out(missing), *_findings(table, differences))
    return Smoothness(per_network, table, differences, _histogram(values), n, findings)


def _teachers(per_network: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in per_network[per_network["role"] == TEACHER].to_dict("records"):
        out = {k: row[k] for k in ("role", "pair", "scheme")} | {"seeds": 1}
        for name in MEASURES:
            half = quantile(math.inf) * row[f"{name}_se"]
            out |= {name: row[name], f"{name}_low": row[name] - half, f"{name}_high": row[name] + half}
        rows.append(out)
    return pd.DataFrame(rows)


def _students(students: pd.DataFrame) -> pd.DataFrame:
    if students.empty:
        return pd.DataFrame()
    return summarise(students, list(MEASURES), ("role", "pair", "scheme"))


def _differences(students: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {"pair": pair, "scheme": scheme, "measure": name, "difference": gap[0], "low": gap[1], "high": gap[2]}
        for name in MEASURES
        if len(students)
        for (pair, scheme), gap in against(students, name, REFERENCE).items()
    ]
    return pd.DataFrame(rows)


def _histogram(values: list[tuple[dict[str, object], dict[str, Floats]]]) -> pd.DataFrame:
    rows = []
    for name in MEASURES:
        every = np.concatenate([found[name] for _, found in values])
        low, high = (0.0, 1.0) if name == "confidence" else (0.0, float(every.max()) or 1.0)
        edges = np.linspace(low, high, BINS + 1)
        together: dict[tuple[object, ...], list[Floats]] = {}
        for key, found in values:
            together.setdefault((key["role"], key["pair"], key["scheme"]), []).append(found[name])
        for (role, pair, scheme), parts in together.items():
            counts, _ = np.histogram(np.concatenate(parts), edges)
            for left, right, share in zip(edges[:-1], edges[1:], counts / counts.sum(), strict=True):
                rows.append(
                    {"role": role, "pair": pair, "scheme": scheme, "measure": name}
                    | {"left": float(left), "right": float(right), "share": float(share)}
                )
    return pd.DataFrame(rows)


def _findings(table: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    for row in table[table["role"] == TEACHER].to_dict("records"):
        each = [
            f"{label} {estimate(row[name], row[f'{name}_low'], row[f'{name}_high'])}"
            for name, label in MEASURES.items()
        ]
        yield f"Teacher {row['scheme']}: mean {', '.join(each)} (intervals over images)."
    for pair, rows in table[table["role"] == STUDENT].groupby("pair", sort=False):
        top = records(rows.sort_values("entropy", ascending=False))[0]
        said = estimate(top["entropy"], top["entropy_low"], top["entropy_high"])
        yield (
            f"{pair}: the students of {top['scheme']} have the highest mean entropy, {said} nats, mean largest "
            f"probability {number(top['confidence'], 3)} (n = {sizes([int(n) for n in rows['seeds']])} a scheme)."
        )
    if differences.empty:
        return
    for pair, rows in differences[differences["measure"] == "entropy"].groupby("pair", sort=False):
        told = rows[(rows["low"] > 0) | (rows["high"] < 0)]
        if told.empty:
            yield f"{pair}: no scheme's students can be told from those of {REFERENCE} by their entropy."
        for row in told.to_dict("records"):
            way = "smoother" if row["low"] > 0 else "less smooth"
            yield (
                f"{pair}: {row['scheme']} leaves students {way} than {REFERENCE}: entropy differs by "
                f"{estimate(row['difference'], row['low'], row['high'])} nats (intervals of {len(rows)} schemes hold "
                "together)."
            )


def _draw(histogram: pd.DataFrame, images: int) -> tuple[Figure, SmoothnessFacts]:
    pair = str(histogram["pair"].iloc[0])
    here = histogram[histogram["pair"] == pair]
    looks = marks(here["scheme"])
    with style():
        figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
        axes = figure.subplots(1, len(MEASURES))
        for ax, (name, label) in zip(axes, MEASURES.items(), strict=True):
            for (role, scheme), part in here[here["measure"] == name].groupby(["role", "scheme"], sort=False):
                edges = [*part["left"], part["right"].iloc[-1]]
                ax.stairs(
                    part["share"],
                    edges,
                    color="#1a1a1a" if role == TEACHER else looks[str(scheme)].color,
                    linestyle="--" if role == TEACHER else "-",
                    label=plain(f"teacher {scheme}" if role == TEACHER else looks[str(scheme)].text),
                )
            ax.set_yscale("log")
            ax.set(xlabel=label)
        axes[0].set(ylabel="share of images")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    networks = here[["role", "scheme"]].drop_duplicates()
    return figure, SmoothnessFacts(pair, len(networks), images)
