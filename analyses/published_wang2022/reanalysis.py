"""The published numbers of Wang et al. (NeurIPS 2022) analysed anew: every number with an interval."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyses.inference.association import Reading, read_association
from analyses.published_wang2022 import accuracy as published_accuracy
from analyses.words import CONFIDENCE, records
from kdstats.association.attenuation import disattenuated
from kdstats.association.coefficients import METHODS
from kdstats.association.concordance import LeaveOnePairOut, leave_one_pair_out
from kdstats.association.correlate import correlate
from kdstats.association.deming import deming
from kdstats.association.loo import leave_one_out
from kdstats.association.meta import meta_analysis
from kdstats.association.mixed import MixedFit, mixed_model
from kdstats.association.partial import partial_correlation
from kdstats.association.regression import regress
from kdstats.association.regret import Regret, regret
from kdstats.association.repeated import RepeatedCorrelation, repeated_correlation
from kdstats.association.wild import WildBootstrap, wild_bootstrap
from kdstats.published import load_published
from kdstats.published.wang2022 import Wang2022

QUESTION = (
    "What do the published numbers of Wang et al. (NeurIPS 2022) say once every one of them has an interval?"
)
X, Y = "t_stddev", "test_loss"
PICKS = ("cutmix_pick_student", "cutmix_pick_teacher")
RUNS = 3  # "at least three"
# Relative standard errors of a T. stddev of 1,564 pools: that of our own wang2022 measurement of 100 pools scaled by
# 1/sqrt(pools), and what it would be if all classes of a pool moved as one, 1/sqrt(2 (1,564 - 1)).
X_ERRORS = {"as measured on a CIFAR-100 teacher of our own": 0.0025, "if all classes moved as one": 0.018}
SUBSETS = {
    "all panels": ("cifar100", "tinyimagenet", "imagenet100", "imagenet"),
    "without ImageNet": ("cifar100", "tinyimagenet", "imagenet100"),
    "without ImageNet and ImageNet100": ("cifar100", "tinyimagenet"),
    "CIFAR-100": ("cifar100",),
    "Tiny ImageNet": ("tinyimagenet",),
}


@dataclass(frozen=True, slots=True, eq=False)
class Panels:
    """Everything panel by panel, for one set of schemes.

    Attributes:
        correlations: Frame of :func:`kdstats.correlate`.
        leave_one_out: Frame of :func:`kdstats.association.loo.leave_one_out`.
        readings: Panel → how far its r may be put into words.
        regret: What choosing the lowest T. stddev cost.
        pair_out: Each panel predicted from the others.
    """

    correlations: pd.DataFrame
    leave_one_out: pd.DataFrame
    readings: dict[str, Reading]
    regret: Regret
    pair_out: LeaveOnePairOut

    def pearson(self, panel: str) -> dict[str, Any]:
        """Pearson's row of one panel."""
        rows = self.correlations
        found: dict[str, Any] = records(rows[(rows["panel"] == panel) & (rows["method"] == "pearson")])[0]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """The result; a panel is a pair on a data set, T. stddev a probability, losses in nats.

    Attributes:
        study: The published tables.
        every: All nine schemes.
        plain: Without the two CutMixPick schemes.
        means: Random-effects means over the panels of each of :data:`SUBSETS`.
        repeated: One slope within all panels, in the units printed.
        standardised: The same with columns divided by each panel's standard deviation.
        regression: Slopes with panel effects, raw and standardised, with panels and with schemes as clusters.
        wild: (columns, clusters) → wild cluster bootstrap.
        mixed: Mixed model with random slopes.
        beyond: Partial correlation within panels, given the scheme's mean T. stddev in the *other* panels.
        others: Correlation within panels of the outcome with that mean alone.
        corrected: Deming's line and disattenuated correlation, errors of the test loss known.
        sensitivity: Pearson's r corrected for errors that the paper does not give.
        accuracy: The accuracy tables.
        unreproduced: Printed numbers that the points do not give.
        seed: Of all resampling.
    """

    study: Wang2022
    every: Panels
    plain: Panels
    means: pd.DataFrame
    repeated: RepeatedCorrelation
    standardised: RepeatedCorrelation
    regression: pd.DataFrame
    wild: dict[tuple[str, str], WildBootstrap]
    mixed: MixedFit
    beyond: pd.DataFrame
    others: RepeatedCorrelation
    corrected: pd.DataFrame
    sensitivity: pd.DataFrame
    accuracy: published_accuracy.Accuracy
    unreproduced: tuple[str, ...]
    seed: int


def run(*, seed: int) -> Published:
    """Analyses the tables that ship with kdstats.

    Args:
        seed: Of permutations, bootstraps and bounded intervals.
    """
    study = load_published("wang2022")
    points = _with_others(study.points)
    columns: dict[str, Any] = {"group": "panel", "label": "scheme", "confidence": CONFIDENCE}
    raw = {"x": X, "y": Y, **columns}
    scaled = {"x": "x_sd", "y": "y_sd", **columns}
    every = _panels(points, raw, seed)
    regression, wild = [], {}
    for name, chosen in (("raw", raw), ("standardised", scaled)):
        for by, cluster in (("panels", None), ("schemes", "scheme")):
            found = regress(points, **chosen, cluster=cluster)
            regression.append(found.assign(columns=name, clusters_by=by))
            wild[name, by] = wild_bootstrap(
                points, **chosen, cluster=cluster, rng=_rng(seed, f"wild {name} {by}")
            )
    return Published(
        study=study,
        every=every,
        plain=_panels(points[~points["scheme"].isin(PICKS)].reset_index(drop=True), raw, seed),
        means=_means(study, every.correlations),
        repeated=repeated_correlation(points, **raw, seed=seed),
        standardised=repeated_correlation(points, **scaled, seed=seed),
        regression=pd.concat(regression, ignore_index=True),
        wild=wild,
        mixed=mixed_model(points, **raw),
        beyond=partial_correlation(points, **scaled, covariates="x_others", across=True, seed=seed),
        others=repeated_correlation(points, **{**scaled, "x": "x_others"}, seed=seed),
        corrected=_corrected(points, raw),
        sensitivity=_sensitivity(points, raw),
        accuracy=published_accuracy.run(study),
        unreproduced=tuple(study.unreproduced(every.correlations)),
        seed=seed,
    )


def _rng(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def _with_others(points: pd.DataFrame) -> pd.DataFrame:
    """Standardised columns, and for each point the mean standardised T. stddev of its scheme in the other panels."""
    groups = points.groupby("panel", sort=False)
    scaled = {
        name: groups[c].transform(lambda v: (v - v.mean()) / v.std())
        for name, c in (("x_sd", X), ("y_sd", Y))
    }
    out = points.assign(**scaled, test_loss_se=points["test_loss_std"] / RUNS**0.5)
    per_scheme = out.groupby("scheme", sort=False)["x_sd"]
    others = (per_scheme.transform("sum") - out["x_sd"]) / (per_scheme.transform("size") - 1)
    return out.assign(x_others=others)


def _panels(points: pd.DataFrame, raw: dict[str, Any], seed: int) -> Panels:
    plain = {name: value for name, value in raw.items() if name != "confidence"}
    correlations = correlate(points, **raw, seed=seed)
    pearson = records(correlations[correlations["method"] == "pearson"])
    return Panels(
        correlations=correlations,
        leave_one_out=leave_one_out(points, **plain),
        readings={
            str(row["panel"]): read_association(points[points["panel"] == row["panel"]], X, Y, row)
            for row in pearson
        },
        regret=regret(points, **raw, rng=_rng(seed, "regret")),
        pair_out=leave_one_pair_out(points, **raw, rng=_rng(seed, "pair out")),
    )


def _means(study: Wang2022, correlations: pd.DataFrame) -> pd.DataFrame:
    datasets = dict(zip(study.titles["panel"], study.titles["dataset"], strict=True))
    rows = []
    for name, members in SUBSETS.items():
        part = correlations[correlations["panel"].map(datasets).isin(members)]
        for method in METHODS:
            r = part[part["method"] == method]
            found = meta_analysis(r["estimate"], r["n"], method=method, confidence=CONFIDENCE).to_dict()
            rows.append({"subset": name, **found, "notes": "; ".join(found["notes"])})
    return pd.DataFrame(rows)


def _corrected(points: pd.DataFrame, raw: dict[str, Any]) -> pd.DataFrame:
    """Panels whose spread over runs is known (inferred from marker areas); T. stddev taken as exact."""
    known = points[points["test_loss_se"].notna()].reset_index(drop=True)
    options = {**raw, "x_se": None, "y_se": "test_loss_se"}
    r = disattenuated(known, **options)
    line = deming(known, **options)
    names = ["panel", "slope", "slope_low", "slope_high", "naive_slope", "scatter", "p_fit"]
    return r.merge(line[names], on="panel", validate="one_to_one")


def _sensitivity(points: pd.DataFrame, raw: dict[str, Any]) -> pd.DataFrame:
    """What r would be if T. stddev had errors, and if ImageNet's single run had the spread of ImageNet100's runs."""
    spread = float(points.loc[points["dataset"] == "imagenet100", "test_loss_std"].median())
    one_run = points["test_loss_std"].where(points["test_loss_std"].notna(), spread)
    se = points["test_loss_se"].where(points["test_loss_se"].notna(), one_run)
    frames = []
    for what, share in {"none": 0.0, **X_ERRORS}.items():
        table = points.assign(x_se=share * points[X], y_se=se)
        found = disattenuated(table, **raw, x_se="x_se", y_se="y_se")
        frames.append(found.assign(x_error=what, x_relative_se=share))
    return pd.concat(frames, ignore_index=True)
