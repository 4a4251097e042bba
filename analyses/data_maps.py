"""Which images are learnt, forgotten, or never learnt, and does augmentation change that?

Data maps (Swayamdipta et al. 2020): over the recorded epochs, the mean of the student's probability of an image's own
class (confidence), its standard deviation (variability) and the share of epochs in which the image is learnt
(correctness). Forgetting (Toneva et al. 2019): an image learnt at one epoch and not at the next one seen.

The records hold the student's loss on each original, −log p[label], and no predicted class. An image counts as learnt
where p[label] > ½, which makes its class the likeliest for certain; with 1/C ≤ p[label] ≤ ½ it may have been or not,
and the share of such rows is reported. The probabilities are those of training: standard augmentation, the network as
the step found it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.inference import seeds as seeds_
from analyses.inference.image_dynamics import LEARNT, Dynamics
from analyses.inference.over_seeds import against, summarise
from analyses.inference.spread import note_of_few
from analyses.study import Study
from analyses.study.steps import RecordedRun, recorded_runs
from analyses.study.traits import SAMPLES, Need
from analyses.words import CANNOT, count, estimate, listed, records, sizes
from kdstats.errors import CheckError
from kdstats.figures.style import PAGE, plain, style
from kdstats.labels import label_of
from kdstats.records.scanner import scan

QUESTION = "Which images are learnt, forgotten, or never learnt, and does augmentation change that?"
NEEDS: tuple[Need, ...] = (SAMPLES,)
REFERENCE = "identity"
MEASURES = {
    "forgotten": "share of images forgotten once or more",
    "never_learnt": "share of images never learnt",
    "confidence": "mean probability of the label",
    "variability": "mean variability",
}
HEADS = MEASURES
PANELS = 6
LEAST_EPOCHS = 3


@dataclass(frozen=True, slots=True)
class MapFacts:
    """What the maps show, for their caption."""

    pair: str
    schemes: tuple[str, ...]
    images: int
    epochs: int
    seeds: tuple[int, int]

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"Data maps of {self.images:,} training images ({self.pair}; {listed(self.schemes)}; {self.epochs} recorded "
            f"epochs, means over {sizes(self.seeds)}): confidence, the mean probability of the image's class, against "
            "variability, its standard deviation over epochs. Darker: more images (log scale)."
        )


@dataclass(frozen=True, slots=True, eq=False)
class DataMaps:
    """The result, unrounded.

    Attributes:
        samples: A row per pair, scheme and image, means over seeds: ``sample_id, label, confidence, variability,
            correctness, forgetting`` (events), ``never_learnt`` (share of seeds), ``seeds``.
        per_run: A row per run: every name of :data:`MEASURES`, ``events`` (per image), ``undecided`` (share of rows of
            which the records do not say whether the image was learnt), ``images, epochs, first, last, every``.
        table: Means over seeds with intervals, a row per pair and scheme.
        differences: Against identity within seeds: ``pair, scheme, measure, seeds`` (the fewest of a scheme),
            ``difference, low, high``; the intervals of a pair hold together over all measures.
        findings: In words.
    """

    samples: pd.DataFrame
    per_run: pd.DataFrame
    table: pd.DataFrame
    differences: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, MapFacts] | None:
        """Maps of the first pair, up to six schemes; None where nothing was recorded."""
        return None if self.samples.empty else _draw(self.samples, self.per_run)


def run(study: Study) -> DataMaps:
    """Streams the recorded originals of every used run.

    Args:
        study: A study with records of three epochs or more.

    Raises:
        MissingError: Records are damaged.
        CheckError: An image is there twice in an epoch, changes its class, or has a loss that is no number.
    """
    recorded = recorded_runs(study)
    classes = int(study.card.dataset["classes"])
    sums: dict[tuple[str, str], list[pd.DataFrame]] = {}
    rows: list[dict[str, Any]] = []
    short: list[str] = []
    for r in recorded:
        found, undecided = follow(r, classes)
        frame = found.frame()
        epochs = r.epochs
        if frame.empty or len(epochs) < LEAST_EPOCHS:
            why = "no originals" if frame.empty else f"{count(len(epochs), 'recorded epoch')}"
            short.append(f"{r.scheme} ({r.pair}, seed {r.seed}: {why})")
            continue
        sums.setdefault((r.pair, r.scheme), []).append(frame.assign(seed=r.seed))
        gaps = np.diff(epochs)
        rows.append(
            {"pair": r.pair, "scheme": r.scheme, "seed": r.seed}
            | {"forgotten": float((frame["forgetting"] > 0).mean())}
            | {"never_learnt": float(frame["never_learnt"].mean())}
            | {"confidence": float(frame["confidence"].mean())}
            | {"variability": float(frame["variability"].mean())}
            | {"events": float(frame["forgetting"].mean()), "undecided": undecided, "images": len(frame)}
            | {"epochs": len(epochs), "first": epochs[0], "last": epochs[-1], "every": int(gaps.max())}
        )
    per_run = pd.DataFrame(rows)
    findings = (
        [f"Left out, with fewer than {LEAST_EPOCHS} epochs of originals: {listed(short)}."] if short else []
    )
    empty = pd.DataFrame()
    if per_run.empty:
        if not recorded:
            findings.append(f"This {CANNOT} no samples were recorded.")
        elif not short:
            findings.append(f"This {CANNOT} no run is in use.")
        return DataMaps(empty, per_run, empty, empty, tuple(findings))
    samples = pd.concat([_mean_of(key, frames) for key, frames in sums.items()], ignore_index=True)
    table = _table(per_run)
    differences = _differences(per_run)
    findings += [*_recorded(per_run), *_findings(table, differences)]
    return DataMaps(samples, per_run, table, differences, tuple(findings))


def follow(recorded: RecordedRun, classes: int) -> tuple[Dynamics, float]:
    """The dynamics of a run's images, and the share of rows with 1/C ≤ p ≤ ½; NaN without originals.

    Raises:
        CheckError: See :func:`run`.
    """
    found, undecided, rows = Dynamics(), 0, 0
    epoch, held = -1, np.zeros(0, bool)
    for batch in scan([recorded.paths], ("sample_id", "label", "s_ce"), views="original"):
        ids, labels = batch["sample_id"].astype(np.int64), batch["label"].astype(np.int64)
        where = f"{recorded.paths.root}, epoch {batch.epoch}"
        if not np.isfinite(batch["s_ce"]).all():
            raise CheckError(f"{where}: a student's loss is NaN or infinite")
        if batch.epoch != epoch:
            epoch, held = batch.epoch, np.zeros(0, bool)
        held = np.concatenate([held, np.zeros(max(int(ids.max()) + 1 - len(held), 0), bool)])
        if held[ids].any() or len(np.unique(ids)) < len(ids):
            raise CheckError(f"{where}: an original is there twice, so it has no one probability per epoch")
        held[ids] = True
        p = np.exp(-np.maximum(batch["s_ce"].astype(np.float64), 0.0))  # rounding may take a loss below 0
        try:
            found.add(ids, p, labels)
        except CheckError as error:
            raise CheckError(f"{where}: {error}") from None
        rows += len(p)
        undecided += int(((p >= 1 / classes) & (p <= LEARNT)).sum())
    return found, undecided / rows if rows else float("nan")


def _mean_of(key: tuple[str, str], frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Means over seeds of every image; an image that a seed has not seen is a mean over the others."""
    every = pd.concat(frames, ignore_index=True)
    labels = every.groupby("sample_id")["label"]
    if (labels.max() != labels.min()).any():
        raise CheckError(f"{key[0]}, {key[1]}: an image has another label under another seed")
    names = ["confidence", "variability", "correctness", "forgetting", "never_learnt"]
    groups = every.astype(dict.fromkeys(names, float)).groupby("sample_id")
    out = groups[names].mean()
    out.insert(0, "label", labels.first())
    out["seeds"] = groups["seed"].nunique()
    out = out.reset_index()
    out.insert(0, "pair", key[0])
    out.insert(1, "scheme", key[1])
    return out


def _table(per_run: pd.DataFrame) -> pd.DataFrame:
    table = summarise(per_run, [*MEASURES, "events", "undecided"])
    # A share lies in [0, 1], so an interval loses nothing by ending there.
    shares = ["forgotten", "never_learnt", "confidence", "undecided"]
    ends = [f"{name}_{end}" for name in shares for end in ("low", "high")]
    table[ends] = table[ends].clip(0, 1)
    # Runs that agree to the last digit, as counts of rare images do, say nothing of what another run would give.
    spans = per_run.groupby(["pair", "scheme"], sort=False)
    for name in [*MEASURES, "events", "undecided"]:
        still = (spans[name].max() == spans[name].min()).to_numpy()
        table.loc[still, [f"{name}_low", f"{name}_high"]] = np.nan
    return table


def _differences(per_run: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for pair, own in per_run.groupby("pair", sort=False):
        seeds = int(own.groupby("scheme")["seed"].nunique().min())
        for name in MEASURES:
            for scheme, gap in _gaps(own, str(pair), name).items():
                rows.append(
                    {"pair": pair, "scheme": scheme, "measure": name, "seeds": seeds}
                    | dict(zip(("difference", "low", "high"), gap, strict=True))
                )
    return pd.DataFrame(rows)


def _gaps(own: pd.DataFrame, pair: str, name: str) -> dict[str, tuple[float, float, float]]:
    """Differences from the reference within seeds; the intervals of a pair hold together over all measures.

    Where some runs are missing, every scheme is compared over the seeds that it shares with the reference.
    """
    found = seeds_.of_runs(own, pair, name)
    if REFERENCE not in found.schemes:
        return {}
    if not found.paired:
        gaps = against(own, name, REFERENCE, families=len(MEASURES))
        return {scheme: gap for (_, scheme), gap in gaps.items()}
    base = found.schemes.index(REFERENCE)
    others = [at for at in range(len(found.schemes)) if at != base]
    family = len(MEASURES) * len(others)
    return {found.schemes[at]: found.difference(at, base, family, len(MEASURES)) for at in others}


def _recorded(per_run: pd.DataFrame) -> Iterator[str]:
    """What the epochs on record are, and what they cannot say."""
    epochs, every = sizes([int(n) for n in per_run["epochs"]], "epoch"), int(per_run["every"].max())
    share = estimate(
        float(per_run["undecided"].mean()),
        float(per_run["undecided"].min()),
        float(per_run["undecided"].max()),
        3,
    )
    missed = (
        ""
        if every == 1
        else f", up to {every} apart, so an image forgotten and learnt again in between is not seen to be forgotten"
    )
    yield (
        f"{epochs} of originals on record per run{missed}; learnt means a probability of the own class above "
        f"{LEARNT:g}. In a share of {share} of the rows (mean and range over runs) the probability lies between chance "
        "and that, where the likeliest class is not on record."
    )


def _findings(table: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    for pair, rows in table.groupby("pair", sort=False):
        each = [
            f"{row['scheme']} {_share(row, 'forgotten')} and {_share(row, 'never_learnt')}"
            for row in records(rows)
        ]
        n = sizes([int(k) for k in rows["seeds"]])
        yield f"{pair}: share of images forgotten once or more, and never learnt (n = {n}): {listed(each)}."
    if differences.empty:
        return
    for (of, measure), rows in differences.groupby(["pair", "measure"], sort=False):
        label = MEASURES[str(measure)]
        if rows["low"].isna().all():
            yield f"{of}: one seed each gives no interval for the differences from {REFERENCE} in {label}."
            continue
        told = rows[(rows["low"] > 0) | (rows["high"] < 0)]
        said = [
            f"{row['scheme']} by {estimate(row['difference'], row['low'], row['high'])}"
            for row in told.to_dict("records")
        ]
        few = note_of_few(int(rows["seeds"].min()))
        if said:
            family = f"intervals of {len(MEASURES)} measures and all schemes hold together{few}"
            yield f"{of}: the {label} differs from that of {REFERENCE} under {listed(said)} ({family})."
        else:
            yield f"{of}: no scheme can be told from {REFERENCE} by the {label}."


def _share(row: dict[str, Any], name: str) -> str:
    """A share with its interval; a share that is 0 in every run has none, for a rare image is missed easily."""
    if row[name] == 0:
        return f"none in {count(int(row['seeds']), 'run')}"
    return estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], 3)


def _draw(samples: pd.DataFrame, per_run: pd.DataFrame) -> tuple[Figure, MapFacts]:
    pair = str(samples["pair"].iloc[0])
    here = samples[samples["pair"] == pair]
    runs = per_run[per_run["pair"] == pair]
    names = list(dict.fromkeys(map(str, here["scheme"])))
    if len(names) > PANELS:  # the reference, and those that forget least and most
        by = runs.groupby("scheme")["forgotten"].mean().sort_values()
        ends = [str(n) for n in by.index if n != REFERENCE]
        half = (PANELS - 1) // 2
        chosen = {REFERENCE, *ends[: PANELS - 1 - half], *ends[len(ends) - half :]}
        names = [name for name in names if name in chosen]
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    with style():
        figure = Figure(figsize=(PAGE * columns / 3, 0.5 + 1.9 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
        top = max(float(here["variability"].max()), 1e-3)
        for ax, name in zip(axes, names, strict=False):
            own = here[here["scheme"] == name]
            ax.hexbin(
                own["variability"],
                own["confidence"],
                gridsize=30,
                extent=(0, top, 0, 1),
                bins="log",
                mincnt=1,
                cmap="cividis_r",
                linewidths=0.1,
            )
            ax.set_title(plain(label_of(name)))
        for ax in axes[len(names) :]:
            ax.set_axis_off()
        figure.supxlabel("variability", fontsize=7)
        figure.supylabel("confidence", fontsize=7)
    seeds = [int(n) for n in here.groupby("scheme")["seeds"].max()]
    images = int(here["sample_id"].nunique())
    facts = MapFacts(pair, tuple(names), images, int(runs["epochs"].max()), (min(seeds), max(seeds)))
    return figure, facts
