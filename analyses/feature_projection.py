"""How tightly do the classes lie in the last features, and what do they look like on their two main axes?

Features are the vectors before the head on the test images. Separation is the share of their variance that lies
between the class means, tr(S_between)/tr(S_total), in all dimensions; the projection on the two main axes (principal
components of the classes shown) is for the eye. Müller et al. (2019) and MIX-KD draw such pictures of three classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analyses.inference.over_seeds import against, summarise
from analyses.study import Study
from analyses.study.networks import STUDENT, TEACHER, Floats, left_out, panel
from analyses.study.traits import WEIGHTS, Need
from analyses.words import estimate, listed, number, records, sizes
from kdstats.errors import CheckError
from kdstats.figures.style import PAGE, plain, style

QUESTION = (
    "How tightly do the classes lie in the last features, and what do they look like on their two main axes?"
)
NEEDS: tuple[Need, ...] = (WEIGHTS,)
REFERENCE = "identity"
SHOWN_CLASSES = 3
_COLORS = ("#0173b2", "#de8f05", "#029e73", "#cc78bc", "#d55e00", "#ca9161", "#949494", "#56b4e9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")


@dataclass(frozen=True, slots=True)
class ProjectionFacts:
    """What the scatters show, for their caption."""

    pair: str
    panels: tuple[str, ...]
    classes: tuple[str, ...]
    explained: tuple[float, float]

    def caption(self) -> str:
        """The caption, from the fields."""
        low, high = (number(100 * v, 0) for v in self.explained)
        share = low if low == high else f"{low} to {high}"
        return (
            f"Last features of the test images of classes {listed(self.classes)} on their two main axes ({self.pair}: "
            f"{listed(self.panels)}; students of the first seed). The two axes hold {share} % of the variance of the "
            "classes shown. Axes are those of each network by itself."
        )


@dataclass(frozen=True, slots=True, eq=False)
class FeatureProjection:
    """The result.

    Attributes:
        per_network: ``role, pair, scheme, seed, separation`` (fraction), ``dimensions`` (of the features).
        table: Students' separation over seeds with intervals.
        differences: ``pair, scheme, difference, low, high`` against identity within seeds, holding together.
        points: ``role, pair, scheme, x, y, label`` of the classes shown, with ``explained``, of teachers and of the
            first seed's students.
        findings: In words.
    """

    per_network: pd.DataFrame
    table: pd.DataFrame
    differences: pd.DataFrame
    points: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, ProjectionFacts] | None:
        """One scatter a network of the first pair; None where no network could be asked."""
        return None if self.points.empty else _draw(self.points)


def run(
    study: Study, images: int | None = None, classes: tuple[int, ...] = tuple(range(SHOWN_CLASSES))
) -> FeatureProjection:
    """Measures the separation of every network and projects its features.

    Args:
        study: A study with weights.
        images: Only the first so many test images.
        classes: Those shown; the separation is of all classes.

    Raises:
        CheckError: A network answers with NaN or infinity.
    """
    asked = panel(study, images)
    missing: list[str] = []
    rows, points = [], []
    first: dict[tuple[str, str], int] = {}
    for one in asked.each(missing):
        answers = one.answers()
        if answers.features is None:
            missing.append(f"{one.name}: it is no network of kdstats.models and gives no features")
            continue
        try:
            value = separation(answers.features, answers.labels)
        except CheckError as error:
            missing.append(f"{one.pair}, {one.name}: {error}")
            continue
        rows.append(one.key | {"separation": value, "dimensions": answers.features.shape[1]})
        if first.setdefault((one.pair, one.name), one.seed) != one.seed:
            continue
        own = np.isin(answers.labels, classes)
        if own.sum() < 3:
            continue
        xy, explained = main_axes(answers.features[own])
        frame = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "label": answers.labels[own]})
        names = one.images.class_names
        frame["class"] = [names[k] for k in frame["label"]]
        points.append(frame.assign(**one.key, explained=explained))
    empty = pd.DataFrame()
    if not rows:
        return FeatureProjection(empty, empty, empty, empty, (asked.refused or left_out(missing)[0],))
    per_network = pd.DataFrame(rows)
    students = per_network[per_network["role"] == STUDENT]
    table = summarise(students, ["separation"]) if len(students) else empty
    gaps = against(students, "separation", REFERENCE) if len(students) else {}
    differences = pd.DataFrame(
        [
            {"pair": pair, "scheme": scheme, "difference": gap[0], "low": gap[1], "high": gap[2]}
            for (pair, scheme), gap in gaps.items()
        ]
    )
    findings = (*left_out(missing), *_findings(per_network, table, differences))
    shown = pd.concat(points, ignore_index=True) if points else empty
    return FeatureProjection(per_network, table, differences, shown, findings)


def separation(features: Floats, labels: NDArray[np.int64]) -> float:
    """tr(S_between)/tr(S_total), in [0, 1]: 1 where every image lies on its class mean.

    Raises:
        CheckError: The features do not vary.
    """
    centred = features - features.mean(axis=0)
    total = float((centred**2).sum())
    if not total > 0:
        raise CheckError("its features are the same for every image")
    between = 0.0
    for label in np.unique(labels):
        own = centred[labels == label]
        between += len(own) * float((own.mean(axis=0) ** 2).sum())
    return between / total


def main_axes(features: Floats) -> tuple[Floats, float]:
    """Coordinates ``[n, 2]`` on the two principal axes, and their share of the variance.

    An axis has no direction of its own: the one is taken in which its largest loading is positive, so that equal
    features give equal pictures.
    """
    centred = features - features.mean(axis=0)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    if len(axes) < 2:
        axes, scales = np.vstack([axes, np.zeros_like(axes)])[:2], np.append(scales, 0.0)
    main = axes[:2].copy()
    for axis in main:
        if axis[np.abs(axis).argmax()] < 0:
            axis *= -1
    total = float((scales**2).sum())
    return centred @ main.T, float((scales[:2] ** 2).sum()) / total if total else 0.0


def _findings(per_network: pd.DataFrame, table: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    for row in per_network[per_network["role"] == TEACHER].to_dict("records"):
        share = number(100 * row["separation"], 1)
        yield f"Teacher {row['scheme']}: {share} % of the variance of its last features lies between classes."
    if table.empty:
        return
    for pair, rows in table.groupby("pair", sort=False):
        top = records(rows.sort_values("separation", ascending=False))[0]
        said = estimate(*(100 * top[f"separation{k}"] for k in ("", "_low", "_high")))
        yield (
            f"{pair}: the students of {top['scheme']} have the tightest classes: {said} % of the variance of the last "
            f"features lies between them (n = {sizes([int(n) for n in rows['seeds']])} a scheme)."
        )
    for pair, rows in differences.groupby("pair", sort=False) if len(differences) else ():
        told = rows[(rows["low"] > 0) | (rows["high"] < 0)]
        if told.empty:
            yield f"{pair}: no scheme can be told from {REFERENCE} by the separation of its classes."
            continue
        said_ = [
            f"{row['scheme']} by {estimate(*(100 * row[k] for k in ('difference', 'low', 'high')))}"
            for row in told.to_dict("records")
        ]
        yield (
            f"{pair}: against {REFERENCE} the separation differs under {listed(said_)} points (intervals of "
            f"{len(rows)} schemes hold together)."
        )


def _draw(points: pd.DataFrame) -> tuple[Figure, ProjectionFacts]:
    pair = str(points["pair"].iloc[0])
    here = points[points["pair"] == pair]
    names = here[["role", "scheme"]].drop_duplicates().to_dict("records")
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    classes = tuple(dict.fromkeys(here.sort_values("label")["class"].map(str)))
    titles = []
    with style():
        figure = Figure(figsize=(PAGE, 1.75 * rows + 0.3), layout="constrained")
        for at, name in enumerate(names):
            ax = figure.add_subplot(rows, columns, at + 1)
            own = here[(here["role"] == name["role"]) & (here["scheme"] == name["scheme"])]
            for k, label in enumerate(classes):
                part = own[own["class"].map(str) == label]
                ax.scatter(
                    part["x"],
                    part["y"],
                    s=5,
                    color=_COLORS[k % len(_COLORS)],
                    marker=_MARKERS[k % len(_MARKERS)],
                    linewidth=0,
                    alpha=0.7,
                    label=plain(label),
                )
            title = f"teacher {name['scheme']}" if name["role"] == TEACHER else str(name["scheme"])
            titles.append(title)
            ax.set_title(plain(title))
            ax.set_xticks([])
            ax.set_yticks([])
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    explained = (float(here["explained"].min()), float(here["explained"].max()))
    return figure, ProjectionFacts(pair, tuple(titles), classes, explained)
