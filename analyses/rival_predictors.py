"""Is T. stddev better than other numbers of the teacher alone at predicting the students' test loss?

Rivals are numbers of the same passes (:data:`.study.teacher_numbers.RIVALS`), so none is cheaper than another. Three
comparisons, each with an interval: the difference of |r| over the same schemes, what T. stddev says beyond a rival (and
the rival beyond it), and how well either orders the schemes of a pair that it was not tried on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.figures.rival_predictors import RivalFacts, draw_rivals
from analyses.inference.association import HOLDS, ONE_SCHEME, UNCLEAR
from analyses.inference.difference_of_r import difference_of_r
from analyses.inference.readings import in_words, partial_readings, plain_readings, sign_of
from analyses.study import Study
from analyses.study.teacher_numbers import OUTCOME, RIVALS, T_STDDEV, WORDS, collect, usable
from analyses.study.traits import MEASURED, SEVERAL, Need
from analyses.words import CONFIDENCE, count, estimate, interval, listed, number, p_value, records
from kdstats.association.concordance import SMALLEST_K, leave_one_pair_out
from kdstats.association.panels import SMALLEST_N
from kdstats.errors import CheckError

QUESTION = "Does T. stddev predict the students' test loss better than other numbers of the teacher alone?"
NEEDS: tuple[Need, ...] = (SEVERAL, MEASURED)


@dataclass(frozen=True, slots=True, eq=False)
class RivalPredictors:
    """The result, unrounded.

    Attributes:
        points: Of :func:`analyses.study.teacher_numbers.collect`.
        correlations: A row per pair and predictor: ``pair, predictor, p_holm`` (over the predictors of a pair, on the
            permutation p) and the fields of :class:`~analyses.inference.association.Reading`; BCa intervals.
        differences: ``pair, rival, difference, low, high`` of |r|, T. stddev less the rival (the intervals of a pair hold
            together), ``without`` whom ``low_without, high_without`` are nearest to covering 0, ``told``, ``n``.
        partials: ``pair`` and the columns of :func:`analyses.inference.readings.partial_readings`: T. stddev given each
            rival, and each rival given T. stddev.
        out_of_pair: A row per predictor: ``predictor, pairs, concordance, concordance_low, concordance_high, regret,
            regret_low, regret_high`` (nats), ``hits``; leave-one-pair-out.
        refused: ``(pair, predictor)`` → why it takes no part; the pair is "" for what concerns all.
        findings: In words.
    """

    points: pd.DataFrame
    correlations: pd.DataFrame
    differences: pd.DataFrame
    partials: pd.DataFrame
    out_of_pair: pd.DataFrame
    refused: dict[tuple[str, str], str]
    findings: tuple[str, ...]

    def figure(self, pair: str) -> tuple[Figure, RivalFacts] | None:
        """Correlations and partial correlations of a pair; None where it has none."""
        if self.correlations.empty or pair not in set(self.correlations["pair"]):
            return None
        return draw_rivals(pair, self.correlations, self.partials)


def run(study: Study) -> RivalPredictors:
    """Compares T. stddev with its rivals in every pair and, with three pairs or more, out of pair."""
    points = collect(study)
    refused: dict[tuple[str, str], str] = {}
    correlations, differences, partials = [], [], []
    for pair in study.pairs:
        rows = points[points["pair"] == pair].reset_index(drop=True)
        names, why = usable(rows, WORDS)
        refused |= {(pair, name): reason for name, reason in why.items()}
        if not names:
            continue
        correlations += plain_readings(pair, rows, names, OUTCOME, study.seed)
        rivals = [name for name in names if name in RIVALS]
        if T_STDDEV not in names or not rivals:
            continue
        differences += [_difference(pair, rows, rival, len(rivals), study) for rival in rivals]
        tests = [(T_STDDEV, rival) for rival in rivals] + [(rival, T_STDDEV) for rival in rivals]
        found, not_found = partial_readings(rows, tests, OUTCOME, study.seed)
        refused |= {(pair, f"{a} given {b}"): why for (a, b), why in not_found.items()}
        if len(found):
            partials.append(found.assign(pair=pair))
    out = _out_of_pair(points, refused, study)
    result = RivalPredictors(
        points,
        pd.DataFrame(correlations),
        pd.DataFrame(differences),
        pd.concat(partials, ignore_index=True) if partials else pd.DataFrame(),
        out,
        refused,
        (),
    )
    findings = [text for pair in study.pairs for text in _findings(result, pair)]
    findings += _between_pairs(result)
    return RivalPredictors(
        result.points,
        result.correlations,
        result.differences,
        result.partials,
        result.out_of_pair,
        refused,
        tuple(findings),
    )


def _difference(pair: str, rows: pd.DataFrame, rival: str, family: int, study: Study) -> dict[str, Any]:
    confidence = 1 - (1 - CONFIDENCE) / family

    def of(part: pd.DataFrame, resamples: int, purpose: str) -> tuple[float, float, float]:
        if len(part) < SMALLEST_N:
            return math.nan, math.nan, math.nan
        columns = (part[name].to_numpy(dtype=np.float64) for name in (T_STDDEV, rival, OUTCOME))
        rng = study.rng(f"difference of r {pair} {rival} {purpose}")
        try:
            found = difference_of_r(*columns, confidence=confidence, resamples=resamples, rng=rng)
        except CheckError:  # without one scheme a column is constant
            return math.nan, math.nan, math.nan
        return found.value, found.low, found.high

    value, low, high = of(rows, 4_999, "all")
    rests = [
        (*of(rows.drop(index=at), 999, str(rows["scheme"][at])), str(rows["scheme"][at])) for at in rows.index
    ]
    # The omission that leaves least of the claim: NaN says nothing is left to judge by.
    weakest = min(rests, key=lambda r: -math.inf if math.isnan(r[1]) else r[1] if value > 0 else -r[2])
    sign = low > 0 or high < 0
    survives = weakest[1] > 0 if value > 0 else weakest[2] < 0
    return {
        "pair": pair,
        "rival": rival,
        "difference": value,
        "low": low,
        "high": high,
        "comparisons": family,
        "without": weakest[3],
        "low_without": weakest[1],
        "high_without": weakest[2],
        "told": bool(sign and survives),
        "n": len(rows),
    }


def _out_of_pair(points: pd.DataFrame, refused: dict[tuple[str, str], str], study: Study) -> pd.DataFrame:
    rows = []
    for name in WORDS:
        pairs = [pair for pair in study.pairs if (pair, name) not in refused and pair in set(points["pair"])]
        if len(pairs) < SMALLEST_K:
            refused["", name] = f"{count(len(pairs), 'pair')}; an order learned on others needs {SMALLEST_K}"
            continue
        try:
            found = leave_one_pair_out(
                points[points["pair"].isin(pairs)],
                x=name,
                y=OUTCOME,
                group="pair",
                label="scheme",
                confidence=CONFIDENCE,
                rng=study.rng(f"out of pair {name}"),
            )
        except CheckError as error:
            refused["", name] = str(error)
            continue
        kept = ("concordance", "concordance_low", "concordance_high", "regret", "regret_low", "regret_high")
        rows.append(
            {"predictor": name, "pairs": found.k, "hits": found.hits}
            | {key: getattr(found, key) for key in kept}
        )
    return pd.DataFrame(rows)


def _findings(result: RivalPredictors, pair: str) -> Iterator[str]:
    missing = {WORDS[name]: why for (of, name), why in result.refused.items() if of == pair and name in WORDS}
    if len(missing) == len(WORDS):
        yield f"{pair}: no comparison ({next(iter(missing.values()))})."
        return
    if missing:
        each = "; ".join(f"{name}: {why}" for name, why in missing.items())
        yield f"{pair}: not compared: {each}."
    here = records(result.correlations[result.correlations["pair"] == pair])
    yield _which(pair, here)
    if len(result.differences):
        own = records(result.differences[result.differences["pair"] == pair])
        if own:
            yield _closer(pair, own)
    if len(result.partials):
        own = records(result.partials[result.partials["pair"] == pair])
        yield from _beyond(pair, own)


def _which(pair: str, rows: list[dict[str, Any]]) -> str:
    def named(kind: str) -> list[str]:
        return [_said(row) for row in rows if row["kind"] == kind]

    parts = []
    if named(HOLDS):
        parts.append(
            f"{listed(named(HOLDS))} {_go(len(named(HOLDS)))} with the test loss, whichever scheme is left out"
        )
    if named(ONE_SCHEME):
        without = listed(sorted({row["without"] for row in rows if row["kind"] == ONE_SCHEME}))
        parts.append(f"{listed(named(ONE_SCHEME))} only by one scheme ({without})")
    if named(UNCLEAR):
        parts.append(f"for {listed(named(UNCLEAR))} this study cannot tell")
    n = count(int(rows[0]["n"]), "scheme")
    tests = f", Holm over {len(rows)}" if len(rows) > 1 else ""
    return (
        f"{pair}: of {count(len(rows), 'number')} of the teacher alone, {'; '.join(parts)} (n = {n}{tests})."
    )


def _go(n: int) -> str:
    return "goes" if n == 1 else "go"


def _said(row: dict[str, Any]) -> str:
    ends = interval(row["low"], row["high"], 2)
    return (
        f"{WORDS[row['predictor']]} (r {number(row['r'], 2)} {ends}, {p_value(row['p_holm'])}{sign_of(row)})"
    )


def _closer(pair: str, rows: list[dict[str, Any]]) -> str:
    def each(told: list[dict[str, Any]]) -> str:
        return listed(
            [f"{WORDS[r['rival']]} ({estimate(r['difference'], r['low'], r['high'], 2)})" for r in told]
        )

    better = [row for row in rows if row["told"] and row["low"] > 0]
    worse = [row for row in rows if row["told"] and row["high"] < 0]
    rest = [row for row in rows if not row["told"]]
    parts = []
    if better:
        parts.append(f"T. stddev is closer to the test loss, in |r|, than {each(better)}")
    if worse:
        parts.append(f"{each(worse)}: closer to the test loss, in |r|, than T. stddev")
    if rest:
        parts.append(f"this study cannot tell whether T. stddev is closer to the test loss than {each(rest)}")
    together = f"; intervals of {len(rows)} differences hold together" if len(rows) > 1 else ""
    alone = [row["without"] for row in rest if row["low"] > 0 or row["high"] < 0]
    if alone:
        who = listed(sorted(set(alone)))
        together += f"; an interval beside 0 that does not survive leaving out {who} counts as unclear"
    return f"{pair}: {'; '.join(parts)} (n = {count(int(rows[0]['n']), 'scheme')}{together})."


def _beyond(pair: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    own = [row for row in rows if row["predictor"] == T_STDDEV]
    others = [row for row in rows if row["given"] == T_STDDEV]
    if own:
        says, asks = "T. stddev goes with the test loss beyond", "T. stddev says more than"
        yield _partials(pair, own, "given", says, asks, len(rows))
    if others:
        says, asks = "beyond T. stddev the test loss goes with", "more is said beyond T. stddev by"
        yield _partials(pair, others, "predictor", says, asks, len(rows))


def _partials(pair: str, rows: list[dict[str, Any]], key: str, says: str, asks: str, family: int) -> str:
    def named(kind: str) -> list[str]:
        return [in_words(row, WORDS[row[key]]) for row in rows if row["kind"] == kind]

    parts = [f"{says} {listed(named(HOLDS))}"] if named(HOLDS) else []
    if named(ONE_SCHEME):
        parts.append(f"{says}, on the strength of one scheme only, {listed(named(ONE_SCHEME))}")
    if named(UNCLEAR):
        parts.append(f"this study cannot tell whether {asks} {listed(named(UNCLEAR))}")
    return f"{pair}: {'; '.join(parts)} (n = {count(int(rows[0]['n']), 'scheme')}, Holm over {family})."


def _between_pairs(result: RivalPredictors) -> Iterator[str]:
    if result.out_of_pair.empty:
        why = [why for (of, _), why in result.refused.items() if not of]
        if why:
            yield f"No prediction of a pair that was not tried ({why[0]})."
        return
    rows = records(result.out_of_pair)
    each = [
        f"{WORDS[r['predictor']]} {estimate(r['concordance'], r['concordance_low'], r['concordance_high'], 2)}, regret "
        f"{estimate(r['regret'], r['regret_low'], r['regret_high'])} nats"
        for r in rows
    ]
    yield (
        f"Of two schemes of a pair that was not looked at, the better one is named in a share of {'; '.join(each)} "
        f"(n = {count(int(rows[0]['pairs']), 'pair')}, which may share teachers and schemes; 0.5 is guessing)."
    )
