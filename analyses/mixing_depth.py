"""How deep do views mix: how many images are in one, and how uncertain is its label?

A view's composition is a vector w of shares over source images. A view of two images has λ and 1 − λ; under
``recursive_mix`` the second image is the whole view at the same position of the step before, which is a mixture
itself, so w_t = λ_t e_own + (1 − λ_t) w_(t−1) since the start of the epoch. The effective number of sources is
1/Σ w² (inverse Simpson), the depth is the number of images that have a share, the label entropy −Σ_c y_c log y_c of
y_c = Σ w over the images of class c. Shares are those of areas that λ states; a resized image counts as its area.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analyses.inference.over_seeds import summarise
from analyses.study import Study
from analyses.study.names import HISTORY, composable, is_recursive
from analyses.study.steps import RecordedRun, Steps, recorded_runs
from analyses.study.traits import SAMPLES, Need
from analyses.words import CANNOT, LEVEL, estimate, number, sizes
from kdstats.errors import CheckError
from kdstats.figures.style import COLUMN, marks, plain, style
from kdstats.records.scanner import scan

QUESTION = "How deep do views mix: how many images are in one, and how uncertain is its label?"
NEEDS: tuple[Need, ...] = (SAMPLES,)
COLUMNS = ("sample_id", "partner_id", "lam")
NUMBERS = ("effective_sources", "depth", "label_entropy", "mixed")
MOST_DEPTH = 64  # shares beyond are below 2⁻⁶⁴ of the whole under any λ ≤ ½, and are dropped

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DepthFacts:
    """What the bars show, for their caption."""

    pair: str
    schemes: int
    seeds: tuple[int, int]

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"Effective number of source images of a view, 1/Σ w², mean over all recorded views ({self.pair}, "
            f"{self.schemes} schemes, {sizes(self.seeds)} each). Bars: {LEVEL} intervals over seeds."
        )


@dataclass(frozen=True, slots=True, eq=False)
class MixingDepth:
    """The result.

    Attributes:
        per_run: ``pair, scheme, seed`` and :data:`NUMBERS` (images, images, nats, fraction).
        table: Means over seeds with intervals, a row per pair and scheme.
        histogram: ``pair, scheme, depth, share``: how many views mix so many images.
        findings: In words.
    """

    per_run: pd.DataFrame
    table: pd.DataFrame
    histogram: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, DepthFacts] | None:
        """Effective number of sources, a row a scheme; None where nothing was recorded."""
        return None if self.table.empty else _draw(self.table)


def run(study: Study) -> MixingDepth:
    """Composes every recorded view of every used run.

    Raises:
        MissingError: Records are damaged.
        CheckError: A λ lies outside [0, 1], or a view of ``recursive_mix`` names another partner than the step before.
    """
    rows, depths, refused = [], [], []
    for recorded in recorded_runs(study):
        if not composable(recorded.scheme):
            refused.append(recorded.scheme)
            continue
        labels = _labels(recorded)
        recursive = is_recursive(recorded.scheme)
        found = [compose(steps, recursive, recorded, labels) for steps in recorded.views(COLUMNS)]
        if not found:
            continue
        n = np.array([len(part["depth"]) for part in found], dtype=float)
        row = {"pair": recorded.pair, "scheme": recorded.scheme, "seed": recorded.seed}
        row |= {name: float(sum(part[name].sum() for part in found) / n.sum()) for name in NUMBERS}
        rows.append(row)
        depths.append((row, np.bincount(np.concatenate([part["depth"] for part in found]).astype(int))))
    per_run = pd.DataFrame(rows)
    findings = [
        f"{scheme}: how its views are composed {CANNOT} the records hold one partner a view, and this scheme mixes "
        "in several steps."
        for scheme in dict.fromkeys(refused)
    ]
    if per_run.empty:
        if not refused:
            findings.append(f"This {CANNOT} no samples were recorded.")
        return MixingDepth(per_run, pd.DataFrame(), pd.DataFrame(), tuple(findings))
    table = summarise(per_run, list(NUMBERS))
    return MixingDepth(per_run, table, _histogram(depths), (*findings, *_findings(table)))


def compose(steps: Steps, recursive: bool, of: RecordedRun, labels: NDArray[np.int64]) -> dict[str, Floats]:
    """The numbers of every view of one epoch, flat, ``[K · B]`` each.

    Args:
        steps: Its views.
        recursive: Whether a partner is the view of the step before rather than an image.
        of: The run, for messages.
        labels: ``[largest id + 1]`` classes by sample id; −1 where unknown.
    """
    lam = np.where(np.isnan(steps.columns["lam"]), 1.0, steps.columns["lam"])
    if ((lam < 0) | (lam > 1)).any():
        raise CheckError(f"{of.paths.root}, epoch {steps.epoch}: a λ lies outside [0, 1]")
    own, partner = (steps.columns[name].astype(np.int64) for name in ("sample_id", "partner_id"))
    partner = np.where(partner < 0, own, partner)
    parts: dict[str, list[Floats]] = {name: [] for name in NUMBERS}
    before: tuple[NDArray[np.int64], Floats] | None = None
    for k in range(len(lam)):
        ids, shares = own[k][:, None], np.ones((lam.shape[1], 1))
        mixed = lam[k] < 1
        if mixed.any():
            if recursive:
                _follows(steps, k, mixed, partner, own, of)
                old_ids, old = before  # type: ignore[misc]
            else:
                old_ids, old = partner[k][:, None], np.ones((lam.shape[1], 1))
            weight = lam[k][:, None]
            ids = np.concatenate([ids, old_ids[:, : MOST_DEPTH - 1]], axis=1)
            shares = np.concatenate([weight, (1 - weight) * old[:, : MOST_DEPTH - 1]], axis=1)
        before = (ids, shares)
        for name, value in _numbers(ids, shares, labels).items():
            parts[name].append(value)
        parts["mixed"].append(mixed.astype(float))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _follows(
    steps: Steps,
    k: int,
    mixed: NDArray[np.bool_],
    partner: NDArray[np.int64],
    own: NDArray[np.int64],
    of: RecordedRun,
) -> None:
    broken = k == 0 or steps.step[k] != steps.step[k - 1] + 1
    if broken or (partner[k][mixed] != own[k - 1][mixed]).any():
        raise CheckError(
            f"{of.paths.root}, epoch {steps.epoch}, step {int(steps.step[k])}: a view of {HISTORY} has another partner "
            "than the view at its position of the step before, so its sources cannot be followed"
        )


def _labels(of: RecordedRun) -> NDArray[np.int64]:
    """Classes by sample id, from originals and views of all epochs."""
    found = np.full(1, -1, np.int64)
    for batch in scan([of.paths], ("sample_id", "label")):
        top = int(batch["sample_id"].max()) + 1
        if top > len(found):
            found = np.concatenate([found, np.full(top - len(found), -1, np.int64)])
        found[batch["sample_id"]] = batch["label"]
    return found


def _numbers(ids: NDArray[np.int64], shares: Floats, labels: NDArray[np.int64]) -> dict[str, Floats]:
    # An image can be in a view twice (it met itself), so shares are added by image first.
    by_image = _grouped(ids, shares)
    classes = np.where(ids < len(labels), labels[np.minimum(ids, len(labels) - 1)], -1)
    unknown = (classes < 0).any(axis=1)
    by_class = _grouped(classes, shares)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(by_class > 0, by_class * np.log(by_class), 0.0).sum(axis=1)
    return {
        "effective_sources": 1 / (by_image**2).sum(axis=1),
        "depth": (by_image > 0).sum(axis=1).astype(float),
        "label_entropy": np.where(unknown, np.nan, entropy),
    }


def _grouped(keys: NDArray[np.int64], shares: Floats) -> Floats:
    """``[B, D]``: per row, the sums of the shares of equal keys; 0 in places that are not needed."""
    same = keys[:, :, None] == keys[:, None, :]
    sums = np.einsum("bde,be->bd", same, shares)
    first = ~(np.tril(np.ones(same.shape[1:], bool), -1) & same).any(axis=2)
    return np.asarray(np.where(first, sums, 0.0))


def _histogram(depths: list[tuple[dict[str, object], NDArray[np.int64]]]) -> pd.DataFrame:
    rows = [
        {"pair": row["pair"], "scheme": row["scheme"], "depth": depth, "views": int(n)}
        for row, counts in depths
        for depth, n in enumerate(counts)
        if n
    ]
    frame = pd.DataFrame(rows).groupby(["pair", "scheme", "depth"], sort=False)[["views"]].sum().reset_index()
    frame["share"] = frame["views"] / frame.groupby(["pair", "scheme"])["views"].transform("sum")
    return frame.drop(columns="views")


def _findings(table: pd.DataFrame) -> Iterator[str]:
    for row in table.to_dict("records"):
        sources = estimate(
            row["effective_sources"], row["effective_sources_low"], row["effective_sources_high"]
        )
        text = f"{row['pair']}, {row['scheme']}: "
        if row["mixed"] == 0:
            yield f"{text}no view mixes images."
            continue
        entropy = row["label_entropy"]
        labels = (
            "label entropy unknown" if math.isnan(entropy) else f"label entropy {number(entropy, 3)} nats"
        )
        yield (
            f"{text}a view holds {sources} effective source images ({number(row['depth'], 1)} with any share; {labels}; "
            f"{number(100 * row['mixed'], 0)} % of views mixed; n = {sizes([row['seeds']])})."
        )


def _draw(table: pd.DataFrame) -> tuple[Figure, DepthFacts]:
    pair = str(table["pair"].iloc[0])
    rows = table[table["pair"] == pair].sort_values("effective_sources", ascending=False)
    looks = marks(rows["scheme"])
    with style():
        figure = Figure(figsize=(COLUMN, 0.22 * len(rows) + 0.7), layout="constrained")
        ax = figure.add_subplot()
        for at, row in enumerate(rows.to_dict("records")):
            mean, high = row["effective_sources"], row["effective_sources_high"]
            ax.barh(at, mean, 0.7, color=looks[row["scheme"]].color)
            if not math.isnan(high):
                ax.errorbar(mean, at, xerr=high - mean, color="#1a1a1a", elinewidth=0.8)
        ax.axvline(1, color="#555555", linewidth=0.6)
        ax.set_yticks(range(len(rows)), [plain(looks[s].text) for s in rows["scheme"]])
        ax.set(xlabel="effective source images of a view")
    counts = [int(n) for n in rows["seeds"]]
    return figure, DepthFacts(pair, len(rows), (min(counts), max(counts)))
