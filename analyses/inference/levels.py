"""Runs that are alike in everything but one thing, compared over the values of that thing.

Runs are put into strata: within one, all settings agree but those that belong to the comparison, so a difference
cannot come from an epoch more or another teacher. What has no counterpart in its stratum is not compared, and the
result says so. Means and intervals are those of :mod:`analyses.inference.seeds`; differences against the reference hold
together over all strata (Bonferroni), and the tests of "all values are equal" are Holm-adjusted over strata.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analyses.figures.levels import LevelFacts, draw_levels
from analyses.inference import seeds as seeds_
from analyses.inference.seeds import Seeds
from analyses.inference.spread import note_of_few, scatter
from analyses.study import Study
from analyses.study.settings import TrainedRun, differing, stratum_key, value_key
from analyses.words import (
    CANNOT,
    CONFIDENCE,
    count,
    estimate,
    listed,
    number,
    p_value,
    probability,
    records,
    sizes,
)
from kdstats.association.multiplicity import holm

Level = str | float
OUTCOME = "test_loss_last"


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """What is compared.

    Attributes:
        noun: What it is called, in the singular: ``temperature``.
        level: Value of a run; None for a run that takes no part.
        free: Settings that may differ with it (names, or ``prefix.*``).
        reference: The value that others are compared with; None for none.
        within: Of a run, what must agree although its setting is free: ``cutmix`` for all ways to pick from it.
    """

    noun: str
    level: Callable[[TrainedRun], Level | None]
    free: frozenset[str]
    reference: Level | None = None
    within: Callable[[TrainedRun], str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Stratum:
    """Runs that differ in the level and the seed only.

    Attributes:
        name: Pair, and the settings that other strata do not share.
        pair: ``teacher/student``; ``student NAME`` where the teacher is what is compared.
        levels: In order.
        runs: All of them.
        level_of: Digest of a run → its level.
    """

    name: str
    pair: str
    levels: tuple[Level, ...]
    runs: tuple[TrainedRun, ...]
    level_of: Mapping[str, Level]

    def seeds(self, column: str = OUTCOME) -> Seeds:
        """What the seeds say about the levels' means; ``schemes`` of the result are the levels as text."""
        rows = [
            {
                "pair": self.name,
                "scheme": text(self.level_of[run.digest]),
                "seed": run.seed,
                column: float(run.row[column]),
            }
            for run in self.runs
        ]
        return seeds_.of_runs(pd.DataFrame(rows), self.name, column)


@dataclass(frozen=True, slots=True, eq=False)
class LevelComparison:
    """The result.

    ``table`` has a row per stratum and level, unrounded: ``stratum, pair, level, seeds, test_loss`` (nats) with
    ``test_loss_low, test_loss_high, test_loss_sd``; ``difference, difference_low, difference_high`` against the
    reference; ``p_best``, ``lowest``; ``acc`` and ``acc_sd`` (fractions). ``tests`` has a row per stratum: ``f, df,
    p_equal`` and ``p_holm``, ``p_spread`` (no level's seeds scatter more than the others') and ``loudest``. Both are
    empty where the question cannot be answered; ``findings`` say why.
    """

    noun: str
    table: pd.DataFrame
    tests: pd.DataFrame
    findings: tuple[str, ...]
    answered: bool

    def figure(self) -> tuple[Figure, LevelFacts] | None:
        """Means and intervals over the levels, one panel a stratum; None where nothing was compared."""
        return draw_levels(self.table, self.noun) if self.answered else None


def text(level: Level | None) -> str:
    """A level as it is printed: ``4`` rather than ``4.0``."""
    return f"{level:g}" if isinstance(level, int | float) else str(level)


def strata(runs: Sequence[TrainedRun], axis: Axis) -> tuple[Stratum, ...]:
    """The groups of runs in which two or more levels can be compared."""
    groups: dict[tuple[tuple[str, str], ...], list[TrainedRun]] = {}
    for run in runs:
        if axis.level(run) is not None:
            key = stratum_key(run, axis.free)
            if axis.within is not None:
                key = (*key, ("scheme", repr(axis.within(run))))
            groups.setdefault(key, []).append(run)
    several = {key: own for key, own in groups.items() if len({axis.level(run) for run in own}) > 1}
    shared = frozenset.intersection(*map(frozenset, several)) if several else frozenset()
    short = {key: _short(own, [item for item in key if item not in shared]) for key, own in several.items()}
    out = []
    for key, own in several.items():
        name = short[key]
        if list(short.values()).count(name) > 1:  # the short names do not tell the strata apart
            name = ", ".join([_pair_of(own), *(_said(*item) for item in key if item not in shared)])
        level_of = _labels(own, axis)
        levels = sorted(set(level_of.values()), key=_order)
        out.append(Stratum(name, _pair_of(own), tuple(levels), tuple(own), level_of))
    return tuple(sorted(out, key=lambda stratum: stratum.name))


def _pair_of(runs: Sequence[TrainedRun]) -> str:
    several = len({run.pair for run in runs}) > 1
    return f"student {runs[0].pair.split('/')[1]}" if several else runs[0].pair


def _short(runs: Sequence[TrainedRun], apart: Sequence[tuple[str, str]]) -> str:
    """Pair and what sets the stratum apart; who teaches in words, and nothing that the pair says already."""
    said = [_said(*item) for item in apart if not item[0].startswith(("pair", "teach", "student"))]
    if any(name.startswith("teaching") for name, _ in apart):
        said.append(runs[0].teaching)
    return ", ".join([_pair_of(runs), *said])


def _labels(runs: Sequence[TrainedRun], axis: Axis) -> dict[str, Level]:
    """Digest → level; a level that stands for unlike runs is told apart by the settings in which they differ."""
    by: dict[Level, list[TrainedRun]] = {}
    for run in runs:
        level = axis.level(run)
        if level is not None:
            by.setdefault(level, []).append(run)
    out: dict[str, Level] = {}
    for level, own in by.items():
        unlike = differing(own)
        for run in own:
            said = ", ".join(_said(name, value_key(run.settings.get(name))) for name in unlike)
            out[run.digest] = f"{text(level)} ({said})" if unlike else level
    return out


def _order(level: Level) -> tuple[bool, float, str]:
    is_text = isinstance(level, str)
    return is_text, 0.0 if is_text else float(level), str(level)


def _said(name: str, value: str) -> str:
    plain = value.strip("'").removesuffix(".0")
    if name.endswith("sha256"):
        plain = plain[:8]
    return plain if name == "scheme" else f"{name} {plain}"


def why_not(runs: Sequence[TrainedRun], axis: Axis, absent: str) -> str:
    """Why no stratum holds two levels, as a sentence; ``absent`` is the reason where no run takes part."""
    part = [run for run in runs if axis.level(run) is not None]
    if not part:
        return f"This {CANNOT} {absent}."
    levels = sorted({level for run in part if (level := axis.level(run)) is not None}, key=_order)
    if len(levels) == 1:
        return f"This {CANNOT} all {count(len(part), 'run')} have one {axis.noun}: {text(levels[0])}."
    prefixes = tuple(name[:-1] for name in axis.free if name.endswith(".*"))
    also = [
        key for key in differing(part) if key not in axis.free and not (prefixes and key.startswith(prefixes))
    ]
    if len({run.pair for run in part}) > 1:
        also = ["pair", *(key for key in also if not key.startswith(("teacher", "student")))]
    unlike = f"differ in {listed(also)} too, so the comparison would not be fair"
    return f"This {CANNOT} runs of another {axis.noun} ({listed([text(v) for v in levels])}) {unlike}."


def compare(study: Study, runs: Sequence[TrainedRun], axis: Axis, absent: str) -> LevelComparison:
    """Compares the levels in every stratum.

    Args:
        study: Where the seed of the simulated probabilities comes from.
        runs: Candidates.
        axis: What is compared.
        absent: Why nothing can be said where no run takes part, for the sentence "cannot be answered because …".
    """
    found = strata(runs, axis)
    if not found:
        return LevelComparison(
            axis.noun, pd.DataFrame(), pd.DataFrame(), (why_not(runs, axis, absent),), False
        )
    comparisons = sum(len(s.levels) - 1 for s in found)
    frames, tests = [], []
    for stratum in found:
        losses = stratum.seeds()
        chances = losses.p_best(study.rng(f"{axis.noun} {stratum.name}"))
        frames.append(_table(stratum, losses, stratum.seeds("acc_last"), chances, axis, comparisons))
        f, p = losses.homogeneity()
        tests.append({"stratum": stratum.name, "f": f, "df": losses.residual_df, "p_equal": p})
        tests[-1] |= {"p_spread": losses.equal_spread(), "loudest": losses.loudest}
    table, tests_ = pd.concat(frames, ignore_index=True), pd.DataFrame(tests)
    known = tests_["p_equal"].notna()
    tests_["p_holm"] = math.nan
    if known.any():
        tests_.loc[known, "p_holm"] = holm(tests_.loc[known, "p_equal"].to_numpy(dtype=float))
    findings = [
        sentence
        for stratum in found
        for sentence in _findings(stratum, table, tests_, axis, len(found), comparisons)
    ]
    used = {run.digest for stratum in found for run in stratum.runs}
    aside = [run for run in runs if axis.level(run) is not None and run.digest not in used]
    if aside:
        findings.append(
            f"{count(len(aside), 'run')} had no counterpart alike in everything but the {axis.noun} and "
            f"{'is' if len(aside) == 1 else 'are'} not compared."
        )
    return LevelComparison(axis.noun, table, tests_, tuple(findings), True)


def _table(
    stratum: Stratum, losses: Seeds, accuracy: Seeds, chances: seeds_.Floats, axis: Axis, comparisons: int
) -> pd.DataFrame:
    at = {name: i for i, name in enumerate(losses.schemes)}
    base = None if axis.reference is None else at.get(text(axis.reference))
    half = losses.quantile * losses.se
    rows = []
    for level in stratum.levels:
        i = at[text(level)]
        gap = (
            (math.nan,) * 3
            if base is None or i == base
            else tuple(map(float, losses.difference(i, base, comparisons)))
        )
        rows.append(
            {
                "stratum": stratum.name,
                "pair": stratum.pair,
                "level": level,
                "seeds": int(losses.n[i]),
                "test_loss": float(losses.mean[i]),
                "test_loss_low": float(losses.mean[i] - half[i]),
                "test_loss_high": float(losses.mean[i] + half[i]),
                "test_loss_sd": float(losses.sd[i]),
                "difference": gap[0],
                "difference_low": gap[1],
                "difference_high": gap[2],
                "p_best": float(chances[i]),
                "lowest": i == losses.best,
                "acc": float(accuracy.mean[i]),
                "acc_sd": float(accuracy.sd[i]),
            }
        )
    return pd.DataFrame(rows)


def _findings(
    stratum: Stratum, table: pd.DataFrame, tests: pd.DataFrame, axis: Axis, strata_: int, comparisons: int
) -> list[str]:
    levels = listed([text(level) for level in stratum.levels])
    if _identical(stratum):
        return [
            f"{stratum.name}, {axis.noun}: the test loss is the same under {levels}, run by run, so the setting had no "
            "effect on these runs."
        ]
    rows = table[table["stratum"] == stratum.name]
    best = records(rows[rows["lowest"]])[0]
    n = sizes([int(k) for k in rows["seeds"]])
    said = estimate(best["test_loss"], best["test_loss_low"], best["test_loss_high"])
    head = f"{stratum.name}, {axis.noun}: {text(best['level'])} has the lowest mean test loss of {len(rows)}, {said} nats"
    if math.isnan(best["test_loss_low"]):
        return [
            f"{head} (n = {n} each): one seed gives no spread, so the order could be chance.",
        ]
    head += f" (n = {n} each; P(lowest) {probability(float(best['p_best']))})"
    test = records(tests[tests["stratum"] == stratum.name])[0]
    p = float(test["p_holm"])
    if math.isnan(p):
        return [f"{head}; the values differ alike in every seed, which leaves no spread to judge that by."]
    over = f", Holm over {strata_}" if strata_ > 1 else ""
    shown = f"F({len(rows) - 1}, {int(test['df'])}) = {number(float(test['f']), 2)}, {p_value(p)}{over}"
    if not p < 1 - CONFIDENCE:
        return [f"{head}, but this study cannot tell them apart ({shown})."]
    out = [f"{head}; they differ by more than seeds explain ({shown})."]
    out += _against(stratum, rows, axis, comparisons)
    if loud := scatter(float(test["p_spread"]), str(test["loudest"]), "value"):
        out.append(f"{stratum.name}: {loud}; differences allow for it, the F test does not.")
    edge = _edge(stratum, best["level"])
    return [*out, edge] if edge else out


def _against(stratum: Stratum, rows: pd.DataFrame, axis: Axis, comparisons: int) -> list[str]:
    if axis.reference is None or axis.reference not in stratum.levels:
        return []
    known = rows[rows["difference_low"].notna()]
    told = [
        f"{text(row['level'])} by {estimate(row['difference'], row['difference_low'], row['difference_high'])}"
        for row in records(known)
        if row["difference_low"] > 0 or row["difference_high"] < 0
    ]
    notes = f"intervals of all {comparisons} differences hold together" if comparisons > 1 else ""
    notes += note_of_few(int(rows["seeds"].min()))
    together = f" ({notes.removeprefix('; ')})" if notes else ""
    ref = text(axis.reference)
    if not told:
        return [f"{stratum.name}: no value can be told from {ref}{together}."]
    return [f"{stratum.name}: against {ref} the test loss differs under {listed(told)} nats{together}."]


def _identical(stratum: Stratum) -> bool:
    """Whether every level has the very same test loss in every seed."""
    losses: dict[int, list[float]] = {}
    for run in stratum.runs:
        losses.setdefault(run.seed, []).append(float(run.row[OUTCOME]))
    return all(len(own) == len(stratum.levels) and len(set(own)) == 1 for own in losses.values())


def _edge(stratum: Stratum, best: Level) -> str:
    numbers = [level for level in stratum.levels if not isinstance(level, str)]
    if len(numbers) < 3 or best not in (numbers[0], numbers[-1]):
        return ""
    where = "lowest" if best == numbers[0] else "highest"
    return f"{stratum.name}: {text(best)} is the {where} value tried, so a better one may lie beyond."
