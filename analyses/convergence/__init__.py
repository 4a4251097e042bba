"""How many teacher passes does T. stddev take, by the published protocol and by the efficient one?

The study's teachers are probed anew, several times with seeds of their own, by both protocols over the same number of
batches of the training images and of the test images. What is not known from one probe comes from the repeats: whether
the protocols agree, how much narrower the efficient one is, from which number of batches on the schemes stand in the
order of the end. The repeats share images and weights, so intervals are about this teacher on these images.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from analyses.convergence.numbers import (
    PROTOCOLS,
    SPLITS,
    cost_of,
    order_of,
    ratios,
    told_apart,
)
from analyses.convergence.words import on_cost, on_order, on_rank, on_ratio
from analyses.figures.convergence import ConvergenceFacts, draw_convergence
from analyses.study import Study
from analyses.study.networks import load_teacher, selected
from analyses.study.settings import FIXED, TrainedRun, trained_runs
from analyses.study.traits import TEACHERS, Need
from analyses.words import CANNOT
from kdstats.errors import KdstatsError, UsageError

if TYPE_CHECKING:
    from kdstats.teacher.evaluation import Evaluation

QUESTION = "How many teacher passes does T. stddev take, by the published protocol and by the efficient one?"
NEEDS: tuple[Need, ...] = (TEACHERS,)
LONG = "it asks the teacher for thousands of batches anew"
HEADS = {"seconds": "seconds of its views"}
POOLS, REPEATS, TOLERANCE = 40, 3, 0.01
LEAST_POOLS, LEAST_REPEATS = 10, 3
_NEVER = 1e-4  # a tolerance that no probe of this size meets: every scheme is measured to the end


@dataclass(frozen=True, slots=True, eq=False)
class ConvergenceAnswer:
    """The result, unrounded.

    Attributes:
        curves: Along every probe: ``teacher, split, protocol, repeat, scheme, batches, value, low, high, half_width``
            (relative). Points of a curve share batches.
        table: At the end of every probe: ``teacher, split, protocol, repeat, scheme, batches, value, low, high,
            half_width``; ``passes`` (images the teacher saw for it: views and originals), ``seconds`` (making and
            asking its views; originals are shared), and what the tolerance needs: ``batches_needed, passes_needed,
            seconds_needed``, scaled by the square of the half-width.
        cost: Per teacher, split and protocol: passes and seconds to the tolerance over all schemes one by one,
            geometric means over repeats with ends; ``gain`` (batches the published protocol needs for one of the
            efficient one's at equal width, mean over schemes but identity) in the rows of ``efficient``.
        agreement: Per teacher, split and scheme: ``ratio`` of efficient to published value, ``low, high`` over repeats;
            ends of all rows of schemes hold together, and those of the rows ``all``, their mean.
        order: Per teacher, split, protocol and number of batches: ``in_order``, the least share over repeats of the
            pairs told apart at the end that stand rightly; ``tau``, mean over repeats of Kendall's tau-b with the
            final means.
        told: Pairs of schemes told apart at the end: ``teacher, split, protocol, a, b, ratio, low, high``; ends of
            all pairs of all probes hold together.
        splits: Per teacher, protocol and scheme: ``ratio`` of test to train value with ends, as ``agreement``.
        notes: What the estimators say of their own intervals.
        findings: In words.
    """

    curves: pd.DataFrame
    table: pd.DataFrame
    cost: pd.DataFrame
    agreement: pd.DataFrame
    order: pd.DataFrame
    told: pd.DataFrame
    splits: pd.DataFrame
    notes: tuple[str, ...]
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, ConvergenceFacts] | None:
        """Widths over batches, and the share of pairs in order; None where nothing could be probed."""
        return None if self.curves.empty else draw_convergence(self.curves, self.order)


def run(
    study: Study,
    pools: int = POOLS,
    repeats: int = REPEATS,
    tolerance: float = TOLERANCE,
    splits: Sequence[str] = SPLITS,
) -> ConvergenceAnswer:
    """Probes every fixed teacher of the study.

    Args:
        study: A study with the teachers' weights and the data at hand.
        pools: Of 5 batches per probe; the batches are those of the study's training.
        repeats: Probes with seeds of their own.
        tolerance: Relative half-width for which passes and seconds are reckoned.
        splits: ``train``, ``test`` or both.

    Raises:
        UsageError: Too few pools or repeats, a tolerance outside (0, 1), an unknown split.
        CheckError: NaN or infinity in a teacher's output.
    """
    if (
        pools < LEAST_POOLS
        or repeats < LEAST_REPEATS
        or not 0 < tolerance < 1
        or not set(splits) <= set(SPLITS)
    ):
        raise UsageError(
            f"convergence takes {LEAST_POOLS} or more pools, {LEAST_REPEATS} or more repeats, a tolerance in (0, 1) and "
            f"splits among {', '.join(SPLITS)}; not {pools}, {repeats}, {tolerance:g} and {', '.join(splits) or 'none'}"
        )
    missing: list[str] = []
    curves: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    for teacher, run_, names, weights in _teachers(study, missing):
        for split, protocol, repeat in itertools.product(splits, PROTOCOLS, range(repeats)):
            began = time.perf_counter()
            try:
                found = _probe(study, run_, names, weights, split, protocol, repeat, pools)
            except (UsageError, OSError) as error:
                missing.append(f"{teacher}, {split} images: {error}")
                break
            key = {"teacher": teacher, "split": split, "protocol": protocol, "repeat": repeat}
            curves += _curve(found, key)
            rows += _ends(found, key, tolerance, time.perf_counter() - began)
            notes |= dict.fromkeys(f"{protocol}: {note}" for r in found.results for note in r.t_stddev.notes)
    findings = [f"Not probed: {text}." for text in dict.fromkeys(missing)]
    empty = pd.DataFrame()
    if not rows:
        findings = findings or [f"This {CANNOT} no run has a fixed teacher."]
        return ConvergenceAnswer(empty, empty, empty, empty, empty, empty, empty, (), tuple(findings))
    table = pd.DataFrame(rows)
    path = pd.DataFrame(curves)
    cost, agreement = cost_of(table), ratios(table, "protocol", "efficient", "wang2022")
    told = told_apart(table)
    order = order_of(path, table, told)
    between = ratios(table, "split", "test", "train")
    if notes:
        findings.append(f"Of some of these intervals the estimator itself says: {'; '.join(notes)}.")
    findings += [
        *on_cost(cost, tolerance),
        *on_ratio(agreement, "with the efficient protocol", "with the published one", "split"),
        *on_order(order, told, table),
        *on_ratio(between, "on test images", "on training images", "protocol"),
        *on_rank(table, told),
    ]
    return ConvergenceAnswer(
        path, table, cost, agreement, order, told, between, tuple(notes), tuple(findings)
    )


def _teachers(study: Study, missing: list[str]) -> Iterator[tuple[str, TrainedRun, list[str], str]]:
    """``(teacher, one of its runs, schemes it can be asked about alone, place of its weights)``."""
    from kdstats import schemes

    try:
        runs = [r for r in trained_runs(study) if r.settings["teaching"] == FIXED]
    except KdstatsError as error:
        missing.append(str(error))
        return
    for teacher in dict.fromkeys(r.pair.split("/")[0] for r in runs):
        own = [r for r in runs if r.pair.split("/")[0] == teacher]
        asked = dict.fromkeys(
            n for n in (*study.card.schemes, *(r.scheme for r in own)) if n in {r.scheme for r in own}
        )
        alone = [name for name in asked if "student" not in schemes.get(name).needs]
        try:
            load_teacher(study, teacher, selected(study, own[0]).test())  # its hash is that of the card
        except (KdstatsError, OSError) as error:
            missing.append(f"{teacher}: {error}")
            continue
        yield teacher, own[0], alone, str(study.card.teachers[teacher]["path"])


def _probe(
    study: Study,
    run_: TrainedRun,
    names: list[str],
    weights: str,
    split: str,
    protocol: str,
    repeat: int,
    pools: int,
) -> Evaluation:
    from kdstats.teacher.evaluate import evaluate_da

    choice = selected(study, run_)
    arch = study.card.teachers[run_.pair.split("/")[0]].get("arch")
    return evaluate_da(
        names,
        dataset=choice.dataset,
        data_path=choice.path,
        img_size=choice.img_size,
        classes=choice.classes,
        per_class=choice.per_class,
        split=split,
        teacher=weights,
        arch=arch if weights.endswith((".safetensors", ".pth", ".pt")) else None,
        protocol=protocol,
        tol=_NEVER,
        pools=pools,
        batch_size=int(run_.settings["recipe.batch_size"]),
        draws=str(run_.settings["draws"]),
        device="cpu",
        # The same images and draws for both protocols, so that they are compared on equal terms.
        seed=int(study.rng(f"convergence {split} {repeat}").integers(2**31)),
    )


def _curve(found: Evaluation, key: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for scheme, path in found.convergence.items():
        for batches, value, low, high in zip(*path, strict=True):
            yield key | {
                "scheme": scheme,
                "batches": int(batches),
                "value": value,
                "low": low,
                "high": high,
                "half_width": math.log(high / low) / 2,
            }


def _ends(
    found: Evaluation, key: dict[str, Any], tolerance: float, seconds: float
) -> Iterator[dict[str, Any]]:
    size = found.setting.batch_size
    for result in found.results:
        value = result.t_stddev
        batches = len(found.batch_means[result.scheme])
        half = math.log(value.high / value.low) / 2
        more = (half / tolerance) ** 2
        passes = result.teacher_forwards + batches * size
        # The spread of the originals is taken once, however many batches follow.
        once = found.originals_forwards - len(found.epoch) * size
        yield key | {
            "scheme": result.scheme,
            "batches": batches,
            "value": value.value,
            "low": value.low,
            "high": value.high,
            "half_width": half,
            "passes": passes,
            "seconds": result.seconds,
            "probe_seconds": seconds,
            "batches_needed": batches * more,
            "passes_needed": passes * more + max(once, 0),
            "seconds_needed": result.seconds * more,
        }
