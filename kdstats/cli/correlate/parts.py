"""What ``kdstats correlate`` computes beyond each panel's coefficients, part by part.

A part that the data do not allow (points on a line, one slope in all clusters) leaves a note; what the user has
asked for and misspelt is an error before anything is computed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kdstats.association.bootstrap import LARGEST_N
from kdstats.association.coefficients import Floats, centred
from kdstats.association.labels import correlation, recur
from kdstats.association.panels import Panel
from kdstats.errors import CheckError, UsageError

if TYPE_CHECKING:
    from kdstats.association.concordance import LeaveOnePairOut
    from kdstats.association.meta import MetaAnalysis
    from kdstats.association.mixed import MixedFit
    from kdstats.association.repeated import RepeatedCorrelation
    from kdstats.association.wild import WildBootstrap
    from kdstats.cli.correlate.request import Request
    from kdstats.cli.correlate.source import Source

LARGEST_TABLE = 20_000  # points; beyond, resampling across panels takes minutes
PANELS_AS_CLUSTERS = "panels"


@dataclass(frozen=True, slots=True)
class Wild:
    """One wild cluster bootstrap, and what its clusters were."""

    clusters_by: str
    found: WildBootstrap


@dataclass(frozen=True, slots=True)
class Across:
    """What holds over all panels; None or empty where it cannot be formed."""

    repeated: RepeatedCorrelation | None = None
    regression: pd.DataFrame | None = None
    wild: tuple[Wild, ...] = ()
    mixed: MixedFit | None = None
    pair_out: LeaveOnePairOut | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Corrected:
    """Slopes and correlations freed from known errors of measurement, one frame a method."""

    deming: pd.DataFrame
    disattenuated: pd.DataFrame
    simex: pd.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Partial:
    """Partial correlations of every panel, and across them (empty with one panel)."""

    panels: pd.DataFrame
    across: pd.DataFrame
    notes: tuple[str, ...] = ()


def rng_for(request: Request, purpose: str) -> np.random.Generator:
    """A generator that depends on the seed and the purpose only."""
    return np.random.default_rng([request.seed, zlib.crc32(purpose.encode())])


def across(request: Request, source: Source, panels: list[Panel], *, mixed: bool) -> Across:
    """Repeated-measures correlation, regression, wild bootstrap, mixed model, leave-one-pair-out."""
    if len(panels) < 2 and not source.cluster:
        return Across()
    n = sum(panel.n for panel in panels)
    if n > LARGEST_TABLE:
        return Across(notes=(f"no regression and resampling across panels above {LARGEST_TABLE:,} points",))
    notes: list[str] = []
    columns: dict[str, Any] = {"x": source.x, "y": source.y, "group": source.groups, "label": source.label}
    confidence = request.confidence
    labels = {name for panel in panels for name in panel.labels}
    several = len(panels) > 1
    shared = recur(panels, source.label)
    if shared and len(labels) > LARGEST_N:
        notes.append(f"more than {LARGEST_N:,} labels recur: nothing is computed by label")
        shared, columns["label"] = False, None

    def part(what: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (CheckError, UsageError) as error:
            if isinstance(error, UsageError) and source.cluster:
                raise
            notes.append(f"no {what}: {error}")
            return None

    repeated = None
    if several:
        from kdstats.association.repeated import repeated_correlation

        repeated = part(
            "repeated-measures correlation",
            lambda: repeated_correlation(source.table, **columns, confidence=confidence, seed=request.seed),
        )
    regression, wild = _slopes(request, source, columns, shared, part)
    model = None
    if mixed and several:
        from kdstats.association.mixed import mixed_model

        model = part("mixed model", lambda: mixed_model(source.table, **columns, confidence=confidence))
    pair_out = None
    if len(panels) > 2:
        from kdstats.association.concordance import leave_one_pair_out

        pair_out = part(
            "leave-one-pair-out prediction",
            lambda: leave_one_pair_out(
                source.table,
                **columns,
                better=request.better,
                confidence=confidence,
                rng=rng_for(request, "leave one pair out"),
            ),
        )
    return Across(repeated, regression, wild, model, pair_out, tuple(dict.fromkeys(notes)))


def _slopes(
    request: Request, source: Source, columns: dict[str, Any], shared: bool, part: Callable[..., Any]
) -> tuple[pd.DataFrame | None, tuple[Wild, ...]]:
    """The slope with panel effects under each kind of cluster: those asked for, or panels and shared labels."""
    from kdstats.association.regression import regress
    from kdstats.association.wild import wild_bootstrap

    kinds: list[tuple[str, list[str] | None]] = [(PANELS_AS_CLUSTERS, None)]
    if source.cluster:
        kinds = [(", ".join(source.cluster), source.cluster)]
    elif shared and source.label is not None:
        kinds.append((source.label, [source.label]))
    frames, wild = [], []
    for name, cluster in kinds:
        found = part(
            f"regression with clusters of {name}",
            lambda cluster=cluster: regress(
                source.table, **columns, cluster=cluster, confidence=request.confidence
            ),
        )
        if found is not None:
            found.insert(1, "clusters_by", name)
            frames.append(found)
        boot = part(
            f"wild bootstrap with clusters of {name}",
            lambda cluster=cluster, name=name: wild_bootstrap(
                source.table,
                **columns,
                cluster=cluster,
                confidence=request.confidence,
                rng=rng_for(request, f"wild {name}"),
            ),
        )
        if boot is not None:
            wild.append(Wild(name, boot))
    return (pd.concat(frames, ignore_index=True) if frames else None), tuple(wild)


def corrected(request: Request, source: Source, panels: list[Panel]) -> Corrected | None:
    """Deming's line, disattenuated correlation and SIMEX of every panel; None without standard errors."""
    if source.x_se is None and source.y_se is None:
        return None
    from kdstats.association.attenuation import disattenuated
    from kdstats.association.deming import deming
    from kdstats.association.simex import simex

    columns: dict[str, Any] = {"x": source.x, "y": source.y, "group": source.groups, "label": source.label}
    columns |= {"x_se": source.x_se, "y_se": source.y_se, "confidence": request.confidence}
    known = [name for name in (source.x_se, source.y_se) if name is not None]
    seeded = {**columns, "seed": request.seed}
    frames: dict[str, list[pd.DataFrame]] = {"deming": [], "disattenuated": [], "simex": []}
    notes: list[str] = []
    for panel in panels:
        where = f" of panel {panel.name!r}" if source.groups else ""
        rows = source.table.iloc[panel.rows.astype(np.intp)]
        missing = int(rows[known].isna().any(axis=1).sum())
        if missing:
            notes.append(
                f"{missing} of {panel.n} points{where} have no standard error: no correction for errors there"
            )
            continue
        if panel.n > LARGEST_N:
            notes.append(f"no correction for errors{where}: more than {LARGEST_N:,} points")
            continue
        # On an exact line a slope has no scatter to be judged by; the interval of the correlation says so itself.
        refused = {}
        if abs(correlation(centred(panel.x), centred(panel.y))) > 1 - 1e-12:
            refused["deming"] = f"no corrected slope{where}: all points lie on one line"
        if _hangs_on_one(panel.x) or _hangs_on_one(panel.y):
            refused["simex"] = f"no SIMEX{where}: without one of its points a column is constant"
        notes += refused.values()
        for name, make, options in (
            ("deming", deming, columns),
            ("disattenuated", disattenuated, columns),
            ("simex", simex, seeded),
        ):
            if name in refused:
                continue
            try:
                frames[name].append(make(rows, **options))
            except CheckError as error:
                notes.append(f"no correction by {name}: {error}")
    return Corrected(
        deming=_stacked(frames["deming"]),
        disattenuated=_stacked(frames["disattenuated"]),
        simex=_stacked(frames["simex"]),
        notes=tuple(notes),
    )


def _hangs_on_one(column: Floats) -> bool:
    """Whether all values but one are equal, so that nothing is left when that one is left out."""
    low, high = float(column.min()), float(column.max())
    spread = 1e-9 * (high - low)
    return min(int((column > low + spread).sum()), int((column < high - spread).sum())) <= 1


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def partial(request: Request, source: Source, panels: list[Panel]) -> Partial | None:
    """Partial correlations given ``--given``; None without it."""
    if not source.given:
        return None
    from kdstats.association.partial import partial_correlation

    columns: dict[str, Any] = {"x": source.x, "y": source.y, "group": source.groups, "label": source.label}
    columns |= {"covariates": source.given, "confidence": request.confidence, "seed": request.seed}
    if sum(panel.n for panel in panels) > LARGEST_TABLE:
        return Partial(
            pd.DataFrame(), pd.DataFrame(), (f"no partial correlation above {LARGEST_TABLE:,} points",)
        )
    frames, notes = [], []
    for panel in panels:
        try:
            frames.append(partial_correlation(source.table.iloc[panel.rows.astype(np.intp)], **columns))
        except CheckError as error:
            if len(panels) == 1:
                raise
            notes.append(f"no partial correlation: {error}")
    over = pd.DataFrame()
    if len(panels) > 1:
        try:
            over = partial_correlation(source.table, **columns, across=True)
        except CheckError as error:
            notes.append(f"no partial correlation across panels: {error}")
    return Partial(
        _stacked(frames),
        over,
        tuple(dict.fromkeys(notes)),
    )


def means(request: Request, results: pd.DataFrame, panels: list[str]) -> tuple[list[MetaAnalysis], list[str]]:
    """The random-effects mean of each coefficient over panels, and why one is missing."""
    from kdstats.association.coefficients import METHODS
    from kdstats.association.meta import meta_analysis

    found, notes = [], []
    if len(panels) < 2:
        return [], []
    for method in METHODS:
        rows = results[results["method"] == method]
        try:
            found.append(
                meta_analysis(rows["estimate"], rows["n"], method=method, confidence=request.confidence)
            )
        except UsageError as error:
            notes.append(f"no mean over panels for {method}: {error}")
    return found, notes
