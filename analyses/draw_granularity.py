"""Does it matter whether a scheme draws once per batch or once per image?

Every published implementation draws one flip, one box, one λ for a whole batch, which ties its images to each other; a
draw per image does not. ``draws`` is one for a whole study, so two studies are compared, run by run over their common
seeds, and measurement by measurement of one teacher.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import special

from analyses.figures.draw_granularity import GranularityFacts, draw_granularities
from analyses.inference import seeds as seeds_
from analyses.inference.levels import OUTCOME, Axis, why_not
from analyses.inference.over_seeds import t_interval
from analyses.inference.spread import note_of_few
from analyses.study import Study
from analyses.study.measured import Measured
from analyses.study.settings import TrainedRun, stratum_key, trained_runs
from analyses.study.traits import Need
from analyses.words import CANNOT, CONFIDENCE, count, estimate, listed, records

QUESTION = "Does it matter whether a scheme draws once per batch or once per image?"
NEEDS: tuple[Need, ...] = ((lambda has: has.several("draws"), "all runs draw at one granularity"),)
BATCH, SAMPLE = "batch", "sample"
_FREE = frozenset({"draws"})
_PER_GROUP = _FREE | {"scheme", "scheme.*"}


@dataclass(frozen=True, slots=True, eq=False)
class DrawGranularity:
    """The result, unrounded; differences and ratios are of sample draws against batch draws.

    Attributes:
        measured: A row per teacher and scheme: ``teacher, scheme, t_batch, t_sample, ratio, ratio_low, ratio_high`` (of
            T. stddev), ``inputs_batch, inputs_sample`` (effective inputs of a pool), ``inputs_ratio, inputs_ratio_low,
            inputs_ratio_high``. The intervals of a teacher hold together. They take the two measurements as independent;
            on common images they are positively correlated, which makes these too wide.
        outcome: A row per group of like runs and scheme: ``group, scheme, seeds, difference, low, high`` of the test loss
            (nats), within seeds, spread the larger of the scheme's own and the one pooled over the group; those of a
            group hold together.
        overall: A row per group: the mean difference over schemes, ``group, schemes, seeds, difference, low, high``.
        same: Group → schemes whose runs are the same under both, seed by seed: they draw nothing.
        findings: In words.
    """

    measured: pd.DataFrame
    outcome: pd.DataFrame
    overall: pd.DataFrame
    same: dict[str, tuple[str, ...]]
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, GranularityFacts] | None:
        """Ratios of T. stddev and of effective inputs, and differences of the outcome; None without any."""
        if self.measured.empty and self.outcome.empty:
            return None
        return draw_granularities(self.measured, self.outcome)


def run(study: Study, *others: Study) -> DrawGranularity:
    """Compares studies that differ in ``draws``.

    Args:
        study: One of them.
        others: The other granularity; with one study alone nothing can be compared.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
        CheckError: Two different results of one run.
    """
    studies = (study, *others)
    measured, unlike = _measured(studies)
    outcome, overall, same, why = _outcome(trained_runs(*studies))
    findings = [*_of_measured(measured), *unlike]
    if measured.empty and not unlike:
        findings.append(
            f"T. stddev and effective inputs: this {CANNOT} no teacher was measured with both kinds of draws."
        )
    findings += [f"The students' outcome: {why}"] if why else _of_outcome(outcome, overall, same)
    return DrawGranularity(measured, outcome, overall, same, tuple(findings))


def _measured(studies: Sequence[Study]) -> tuple[pd.DataFrame, list[str]]:
    found: dict[tuple[str, ...], dict[str, Measured]] = {}
    for one in studies:
        for documents in one.documents.values():
            for document in documents:
                rest = {k: v for k, v in document.definition.items() if k != "draws"}
                digest = str(document.teacher.get("sha256") or document.teacher.get("name"))
                images = str(document.dataset.get("sha256") or document.dataset.get("name"))
                key = (
                    digest,
                    images,
                    repr(sorted(rest.items())),
                    str((document.student or {}).get("sha256")),
                )
                draws = str(document.definition.get("draws"))
                for scheme, measured in document.schemes.items():
                    if document.student is None or measured.comparison is not None:
                        found.setdefault((*key, scheme), {}).setdefault(draws, measured)
    names = {
        str(d.teacher.get("sha256") or d.teacher.get("name")): name
        for one in studies
        for name, documents in one.documents.items()
        for d in documents
    }
    both = {key: by for key, by in found.items() if BATCH in by and SAMPLE in by}
    rows = []
    for what, by in both.items():
        family = sum(other[0] == what[0] for other in both)
        row = _ratio(by[BATCH], by[SAMPLE], family)
        rows.append({"teacher": names[what[0]], "scheme": what[-1]} | row)
    unlike = []
    kinds = {draws for by in found.values() for draws in by}
    if not both and {BATCH, SAMPLE} <= kinds:
        unlike.append(
            "T. stddev and effective inputs: not compared, because the measurements with unlike draws also differ in "
            "teacher, images, definition or schemes."
        )
    return pd.DataFrame(rows), unlike


def _ratio(batch: Measured, sample: Measured, family: int) -> dict[str, Any]:
    """Sample over batch: T. stddev with its interval, effective inputs by the interval of T. stddev alone.

    Ends on the log scale are combined as those of independent estimates (Donner and Zou 2012) and widened so that
    ``family`` intervals hold together. Effective inputs are M times the spread of single inputs over the variance of the
    pool. The spread rests on every input and is taken as known; the variance is a mean over classes where T. stddev is a
    mean of standard deviations, so this interval is an approximation.
    """
    t = [float(one.row["t_stddev"]) for one in (batch, sample)]
    inputs = [float(one.row.get("effective_inputs", math.nan)) for one in (batch, sample)]
    ends = [[float(one.row.get(end, math.nan)) for end in ("low", "high")] for one in (batch, sample)]
    logs = [[math.log(end) if end > 0 else math.nan for end in pair] for pair in ends]
    middle = [math.log(value) if value > 0 else math.nan for value in t]
    wider = float(special.ndtri(1 - (1 - CONFIDENCE) / 2 / family) / special.ndtri(0.5 + CONFIDENCE / 2))
    gap = middle[1] - middle[0]
    down = wider * math.hypot(middle[1] - logs[1][0], logs[0][1] - middle[0])
    up = wider * math.hypot(logs[1][1] - middle[1], middle[0] - logs[0][0])
    ratio = inputs[1] / inputs[0]
    return {
        "t_batch": t[0],
        "t_sample": t[1],
        "ratio": math.exp(gap),
        "ratio_low": math.exp(gap - down),
        "ratio_high": math.exp(gap + up),
        "inputs_batch": inputs[0],
        "inputs_sample": inputs[1],
        "inputs_ratio": ratio,
        "inputs_ratio_low": ratio * math.exp(-2 * up),
        "inputs_ratio_high": ratio * math.exp(2 * down),
    }


def _outcome(
    runs: Sequence[TrainedRun],
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, tuple[str, ...]], str]:
    groups: dict[tuple[tuple[str, str], ...], list[dict[str, Any]]] = {}
    pairs: dict[tuple[tuple[str, str], ...], dict[str, TrainedRun]] = {}
    for run_ in runs:
        key = (*stratum_key(run_, _FREE), ("seed", str(run_.seed)))
        pairs.setdefault(key, {})[str(run_.settings.get("draws"))] = run_
    for by in pairs.values():
        if BATCH in by and SAMPLE in by:
            own = by[BATCH]
            gap = float(by[SAMPLE].row[OUTCOME]) - float(own.row[OUTCOME])
            groups.setdefault(stratum_key(own, _PER_GROUP), []).append(
                {"scheme": own.scheme, "seed": own.seed, "difference": gap, "name": own.pair}
            )
    if not groups:
        axis = Axis("granularity of draws", lambda run_: str(run_.settings.get("draws")), _PER_GROUP)
        return pd.DataFrame(), pd.DataFrame(), {}, why_not(runs, axis, "no run says how it draws")
    shared = frozenset.intersection(*map(frozenset, groups))
    rows, overall, same = [], [], {}
    for key, cells in groups.items():
        apart = [f"{name} {value}" for name, value in key if (name, value) not in shared and name != "pair"]
        name = (
            ", ".join([cells[0]["name"], *apart]) if _several(groups, cells[0]["name"]) else cells[0]["name"]
        )
        frame = pd.DataFrame(cells).assign(pair=name)
        still = [
            str(scheme)
            for scheme, part in frame.groupby("scheme", sort=False)
            if (part["difference"] == 0).all()
        ]
        if still:
            same[name] = tuple(still)
        frame = frame[~frame["scheme"].isin(still)]
        if frame.empty:
            continue
        rows += _per_scheme(name, frame)
        table = frame.pivot_table(index="seed", columns="scheme", values="difference").dropna(axis=0)
        mean, low, high = (
            t_interval(table.to_numpy(dtype=np.float64).mean(axis=1)) if len(table) else (math.nan,) * 3
        )
        overall.append(
            {"group": name, "schemes": table.shape[1], "seeds": len(table), "difference": mean}
            | {"low": low, "high": high}
        )
    return pd.DataFrame(rows), pd.DataFrame(overall), same, ""


def _several(groups: dict[Any, list[dict[str, Any]]], pair: str) -> bool:
    return [cells[0]["name"] for cells in groups.values()].count(pair) > 1


def _per_scheme(name: str, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Every scheme's difference with ends, see :meth:`analyses.inference.seeds.Seeds.means_together`."""
    found = seeds_.of_runs(frame, name, "difference")
    lows, highs = found.means_together()
    return [
        {
            "group": name,
            "scheme": scheme,
            "seeds": int(n),
            "difference": float(mean),
            "low": float(low),
            "high": float(high),
        }
        for scheme, n, mean, low, high in zip(found.schemes, found.n, found.mean, lows, highs, strict=True)
    ]


def _of_measured(table: pd.DataFrame) -> Iterator[str]:
    if table.empty:
        return
    for teacher, part in table.groupby("teacher", sort=False):
        known = [row for row in records(part) if not math.isnan(row["ratio_low"])]
        family = f"n = {count(len(part), 'scheme')}, intervals hold together"
        if not known:
            yield f"{teacher}: T. stddev of sample and batch draws cannot be compared: no interval is on record."
            continue
        for way, told in (
            ("higher", [row for row in known if row["ratio_low"] > 1]),
            ("lower", [row for row in known if row["ratio_high"] < 1]),
        ):
            if told:
                each = listed([f"{row['scheme']} ({_times(row, 'ratio')})" for row in told])
                yield f"{teacher}: T. stddev is {way} with sample draws under {each} ({family})."
        unclear = [row["scheme"] for row in known if row["ratio_low"] <= 1 <= row["ratio_high"]]
        if unclear:
            yield (
                f"{teacher}: T. stddev of sample and batch draws cannot be told apart under {listed(unclear)} ({family})."
            )
        yield from _of_inputs(str(teacher), known, family)


def _of_inputs(teacher: str, rows: list[dict[str, Any]], family: str) -> Iterator[str]:
    """Said only where T. stddev differs too: the interval of effective inputs is carried over from it."""
    more = [row for row in rows if row["ratio_high"] < 1 and row["inputs_ratio_low"] > 1]
    fewer = [row for row in rows if row["ratio_low"] > 1 and row["inputs_ratio_high"] < 1]
    for way, told in (("more", more), ("fewer", fewer)):
        if told:
            each = listed([f"{row['scheme']} ({_times(row, 'inputs_ratio')})" for row in told])
            yield (
                f"{teacher}: with sample draws a pool is worth {way} independent inputs under {each} ({family}; carried "
                "over from T. stddev)."
            )


def _times(row: dict[str, Any], name: str) -> str:
    return f"{estimate(row[name], row[f'{name}_low'], row[f'{name}_high'], 2)} times"


def _of_outcome(
    outcome: pd.DataFrame, overall: pd.DataFrame, same: dict[str, tuple[str, ...]]
) -> Iterator[str]:
    for group, names in same.items():
        yield f"{group}: {listed(names)} gave the same test loss with both, run by run: nothing is drawn there."
    for row in records(overall):
        n = f"{count(row['schemes'], 'scheme')} that draw, n = {count(row['seeds'], 'common seed')}"
        said = estimate(row["difference"], row["low"], row["high"])
        lead = f"{row['group']}: over {n}, sample draws change the mean test loss by {said} nats"
        if math.isnan(row["low"]):
            yield f"{lead}: one seed gives no spread, so this could be chance."
        elif row["low"] <= 0 <= row["high"]:
            yield f"{lead}: this cannot be told from 0."
        else:
            yield f"{lead}, {'worse' if row['low'] > 0 else 'better'} than batch draws."
    if outcome.empty:
        return
    for name, part in outcome.groupby("group", sort=False):
        told = [row for row in records(part) if row["low"] > 0 or row["high"] < 0]
        family = (
            f"intervals of {count(len(part), 'scheme')} hold together{note_of_few(int(part['seeds'].min()))}"
        )
        if told:
            each = listed(
                [f"{row['scheme']} by {estimate(row['difference'], row['low'], row['high'])}" for row in told]
            )
            yield f"{name}: with sample draws the test loss differs under {each} nats ({family})."
        elif part["low"].notna().any():
            yield f"{name}: under no single scheme can the two be told apart by the test loss ({family})."
