"""Captions and alternative texts, built from the fields of what is shown."""

from __future__ import annotations

from typing import Any

from analyses.prediction import MEANING, Prediction
from analyses.ranking import Ranking
from analyses.study import Study, networks_of
from analyses.study.card import Card
from analyses.words import CONFIDENCE, LEVEL, count, listed, number, sizes
from kdstats.estimators.chance import may_be_luck
from kdstats.figures.correlation import CorrelationFacts


def title(study: Study) -> str:
    """The question that the page answers."""
    data = study.card.dataset["name"]
    networks = list(dict.fromkeys(map(networks_of, study.card.pairs)))
    settings = len(study.card.pairs) // len(networks) if len(study.card.pairs) % len(networks) == 0 else 1
    under = f", under each of {settings} settings" if settings > 1 else ""
    if len(networks) == 1:
        teacher, student = networks[0].split("/")
        return f"Which augmentation should {teacher} → {student} distil with on {data}{under}?"
    return f"Which augmentation should these {len(networks)} pairs distil with on {data}{under}?"


def guessing(card: Card) -> str:
    """Teachers whose accuracy may be luck, for the first screen; empty where there is none."""
    classes, images = card.dataset.get("classes") or 0, card.dataset.get("test") or 0
    if classes < 2 or images < 1:
        return ""
    bad = [
        f"{name} ({100 * said['test_accuracy']:.1f} %)"
        for name, said in card.teachers.items()
        if said.get("test_accuracy") is not None and may_be_luck(said["test_accuracy"], images, classes)
    ]
    if not bad:
        return ""
    return (
        f"{listed(bad)} cannot be told from guessing among {classes} classes on the {images:,} test images: what a "
        "student learns from such a teacher says nothing of distillation."
    )


def incomplete(study: Study) -> str:
    """What is not in the numbers, for the first screen; empty when everything is."""
    excluded = int(study.runs["excluded"].sum())
    if study.complete and not excluded:
        return ""
    failed, missing = len(study.card.failed), len(study.missing)
    counts = ((failed, "failed"), (missing, "missing"), (excluded, "excluded"))
    said = ", ".join(f"{n} {word}" for n, word in counts if n)
    what = "Every run finished, but not all are used" if study.complete else "This study is incomplete"
    return (
        f"{what}: {len(study.used)} of {count(study.card.planned, 'run')} are in the numbers"
        + (f" ({said})" if said else "")
        + ". What follows rests on these."
    )


def scatter_alt(facts: CorrelationFacts) -> str:
    """What the scatter shows, in a sentence with its coefficient."""
    said = []
    for panel in facts.panels:
        r, low, high = panel.coefficients["pearson"]
        said.append(f"{panel.panel}: r {number(r, 2)}, {number(low, 2)} to {number(high, 2)}, n = {panel.n}")
    return f"Scatter of {facts.y} against {facts.x}. {'; '.join(said)}."


def ranking_alt(table: Any) -> str:
    """What the ranking figure shows: every mean, lowest first."""
    many = table["pair"].nunique() > 1
    said = [
        f"{row['pair'] + ': ' if many else ''}{row['scheme']} {number(row['test_loss'], 4)}"
        for row in table.to_dict("records")
    ]
    return f"Mean student test loss of each scheme with its interval, nats, lowest first: {'; '.join(said)}."


def interval_meaning(result: Prediction) -> str:
    """What the interval of the printed correlations means, in one sentence."""
    confidence = float(result.correlations["confidence"].iloc[0])
    return MEANING.format(confidence=100 * confidence)


def ranking_table(result: Ranking, study: Study) -> str:
    """n, selection rule, split, interval and tie rule of the ranking table."""
    ns = [int(n) for n in result.table["seeds"]]
    split = f"{study.card.dataset['name']} test split"
    if "test" in study.card.dataset:
        split += f" ({int(study.card.dataset['test']):,} images)"
    rule = (
        f"mean ± standard deviation (n), n = {sizes(ns)}; brackets: {100 * CONFIDENCE:g} % "
        "intervals of the means (Student's t; they hold the common effect of shared seeds); differences against "
        "identity hold together (Bonferroni); tie: within one standard error of the best"
        if result.table["test_loss_low"].notna().any()
        else f"n = {sizes(ns)} a scheme: no spread, so no interval"
    )
    return f"Test loss (nats) and accuracy after the last epoch, {split}: {rule}."


def correlation_table(frame: Any) -> str:
    """Which intervals and p-values the correlation table holds."""
    ways = listed(list(dict.fromkeys(frame["interval"])))
    ns = [int(n) for n in frame["n"]]
    confidence = float(frame["confidence"].iloc[0])
    panels = frame[["pair"]].drop_duplicates()
    text = (
        f"T. stddev against mean test loss, n = {sizes(ns, 'scheme')}; {100 * confidence:g} % "
        f"intervals ({ways}); "
        "p: scipy's; permutation p: pairings of the two columns at random"
    )
    return f"{text}; Holm over {len(panels)} pairs." if len(panels) > 1 else f"{text}."


def covariance_table(frame: Any, sources: dict[str, str]) -> str:
    """What the covariance table holds and where its numbers come from."""
    kinds = [sources[kind] for kind in dict.fromkeys(frame["source"])]
    error = (
        "± standard error over seeds"
        if frame["se"].notna().any()
        else f"interval in brackets: {LEVEL}, jackknife"
    )
    return (
        f"Mean covariance of the teacher–student cross-entropy of two inputs of a batch, {error}; "
        f"source: {listed(kinds)}; n = {count(len(frame), 'scheme')}, lowest first."
    )


def dependence_table(frame: Any) -> str:
    """What the table of components holds."""
    pools = sorted({int(n) for n in frame["inputs"] if n})
    pool = f" of {pools[0]:,} inputs" if len(pools) == 1 else ""
    return (
        f"T. stddev with its {LEVEL} interval, and the change of the variance of a pool mean{pool} "
        "against identity in "
        f"points of per cent, split in two; n = {count(len(frame), 'scheme')}, lowest T. stddev first. "
        "The variance is that of images drawn independently; T. stddev also holds that an epoch is drawn without "
        "replacement, so on a small training set the two need not move alike."
    )
