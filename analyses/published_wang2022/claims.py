"""What the paper says, and what its own numbers say of it: verdicts follow from the numbers, whichever way they go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analyses.inference.association import HOLDS, ONE_SCHEME
from analyses.published_wang2022.accuracy import BOTH, LONG, dataset_name
from analyses.words import count, interval, listed, number, p_value, records

if TYPE_CHECKING:
    from analyses.published_wang2022.reanalysis import Published

SHOWN, PARTLY, NOT_SHOWN = "shown", "in part", "not shown"


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement of the paper, in our words, and how it fares.

    Attributes:
        statement: What is claimed.
        verdict: :data:`SHOWN`, :data:`PARTLY` or :data:`NOT_SHOWN` by these numbers.
        evidence: Why, with intervals.
    """

    statement: str
    verdict: str
    evidence: str


def claims(result: Published) -> tuple[Claim, ...]:
    """The paper's statements against its own numbers."""
    return (
        _small_images(result),
        _imagenet100(result),
        _imagenet(result),
        _choice(result),
        _pick(result),
        _longer(result),
    )


def findings(result: Published) -> tuple[str, ...]:
    """What the intervals say that p-values did not."""
    return (
        *_widths(result),
        *_levels(result),
        _teacher(result),
        *_picks(result),
        *_errors(result),
        *_slopes(result),
    )


def _small_images(result: Published) -> Claim:
    panels = _members(result, ("cifar100", "tinyimagenet"))
    kept = [name for name in panels if result.every.readings[name].kind == HOLDS]
    holm = [name for name in panels if result.every.pearson(name)["p_holm"] < 0.05]
    weakest = min(panels, key=lambda name: float(result.every.pearson(name)["low"]))
    w = result.every.pearson(weakest)
    verdict = SHOWN if len(kept) == len(panels) else PARTLY if kept else NOT_SHOWN
    return Claim(
        "On CIFAR-100 and Tiny ImageNet a lower T. stddev goes with a lower test loss of the student.",
        verdict,
        f"r excludes 0, by permutation too and without any one scheme, in {len(kept)} of {len(panels)} panels, and after "
        f"Holm over the ten panels in {len(holm)}; weakest {_called(result, weakest)}: r {_r(w)}, n = {w['n']}.",
    )


def _imagenet100(result: Published) -> Claim:
    (name,) = _members(result, ("imagenet100",))
    row, reading = result.every.pearson(name), result.every.readings[name]
    verdict = SHOWN if reading.kind == HOLDS and row["p_holm"] < 0.05 else NOT_SHOWN
    tail = f"; {reading.caveat()}" if reading.kind == ONE_SCHEME else ""
    return Claim(
        "On ImageNet100 the correlation is weaker but significant.",
        verdict,
        f"r {_r(row)}; printed p {100 * row['p_value']:.1f} %, after Holm over the ten panels "
        f"{p_value(row['p_holm'])}{tail}.",
    )


def _imagenet(result: Published) -> Claim:
    (name,) = _members(result, ("imagenet",))
    row = result.every.pearson(name)
    open_ = row["low"] <= 0 <= row["high"]
    strong = row["high"] > 0.8
    evidence = f"r {_r(row)}: 0 {'is' if open_ else 'is not'} within the interval"
    if open_ and strong:
        evidence += (
            ", and so is 0.8: nine schemes with a single run each do not tell no relation from a strong one"
        )
    return Claim(
        "On ImageNet the correlation is not significant.", SHOWN if open_ else NOT_SHOWN, evidence + "."
    )


def _choice(result: Published) -> Claim:
    cost = result.every.regret
    chosen = {label for panel in cost.panels for label in panel.chosen}
    common = set.intersection(*(set(panel.chosen) for panel in cost.panels))
    missed = [p for p in cost.panels if not p.hit]
    same = (
        f"{listed(sorted(common))} has the lowest T. stddev (or ties for it) in every panel" if common else ""
    )
    evidence = (
        f"It was the best scheme in {cost.hits} of {cost.k} panels, share {interval(cost.hits_low, cost.hits_high, 3)}; "
        f"mean cost {cost.mean:.2g} nats, interval up to {cost.high:.2g}"
    )
    if missed:
        evidence += "; " + listed(
            [f"on {_called(result, p.panel)} it cost {p.low:.3f} to {p.high:.3f} nats" for p in missed]
        )
    if same:
        evidence += (
            f". But {same}: this is one choice seen {cost.k} times, not {cost.k} independent predictions"
        )
    out = result.every.pair_out
    evidence += (
        f". Schemes were ordered rightly in {100 * out.concordance:.0f} % "
        f"[{100 * out.concordance_low:.0f}, {100 * out.concordance_high:.0f}] of scheme pairs of a panel left out."
    )
    return Claim(
        "The scheme to distil with can be chosen by the lowest T. stddev.",
        PARTLY if len(chosen) <= 2 or cost.hits < cost.k else SHOWN,
        evidence,
    )


def _teacher(result: Published) -> str:
    row, plain = records(result.beyond)[0], result.others
    text = (
        f"Within panels, in standard deviations, r is {number(row['plain'], 2)}; once the scheme's mean T. stddev in "
        f"the other nine panels is held fixed it is {number(row['estimate'], 2)} "
        f"{interval(row['low'], row['high'], 2)}, and that mean alone gives {number(plain.estimate, 2)} "
        f"{interval(plain.low, plain.high, 2)}"
    )
    if row["low"] > 0:
        return f"{text}: the panel's own T. stddev adds to a fixed ranking of schemes."
    return (
        f"{text}. These schemes hardly change their order between teachers, so the panels neither show nor rule out that "
        "measuring on the teacher at hand adds to a fixed ranking of schemes."
    )


def _pick(result: Published) -> Claim:
    get = result.accuracy.contrast
    name = "CutMixPick instead of CutMix"
    both, sets = get(name, BOTH), {key: get(name, key) for key in LONG}
    firm = all(row["low"] > 0 and row["p_holm"] < 0.05 for row in (both, *sets.values()))
    parts = [
        f"{dataset_name(key)} {_points(row)}, Holm {p_value(row['p_holm'])}" for key, row in sets.items()
    ]
    alone = sum(int(row["alone"]) for row in sets.values())
    return Claim(
        "CutMixPick improves on CutMix (accuracy tables).",
        SHOWN if firm else PARTLY if both["low"] > 0 else NOT_SHOWN,
        f"{'; '.join(parts)}; pairs averaged over both {_points(both)}, Holm {p_value(both['p_holm'])} (points, t over "
        f"{count(int(both['pairs']), 'pair')}); with teachers as units "
        f"{interval(both['teacher_low'], both['teacher_high'], 2)}. The pair's own interval excludes 0 in {alone} of "
        f"{2 * int(both['pairs'])} cases.",
    )


def _longer(result: Published) -> Claim:
    get = result.accuracy.contrast
    together, plain = get("CutMixPick and longer, against KD", BOTH), get("longer, KD", BOTH)
    gain = get("what longer adds to CutMixPick's gain", BOTH)
    firm = together["low"] > 0 and together["p_holm"] < 0.05 and together["teacher_low"] > 0
    return Claim(
        "Stronger augmentation with a longer schedule gives large gains with the plain KD loss.",
        SHOWN if firm else PARTLY if together["low"] > 0 else NOT_SHOWN,
        f"Together {_points(together)} points over both data sets (t over {count(int(together['pairs']), 'pair')}, Holm "
        f"{p_value(together['p_holm'])}; with teachers as units "
        f"{interval(together['teacher_low'], together['teacher_high'], 2)}). Longer alone {_points(plain)}: "
        f"{'shown' if plain['low'] > 0 else 'not shown'}; that one adds to the gain by the other {_points(gain)}: "
        f"{'shown' if gain['low'] > 0 else 'not shown'}.",
    )


def _widths(result: Published) -> tuple[str, ...]:
    rows = records(result.every.correlations)
    zeros = [row for row in rows if round(100 * row["p_value"], 2) == 0]
    widest = max(zeros, key=lambda row: float(row["high"]) - float(row["low"]))
    r = [row for row in rows if row["method"] == "pearson"]
    above = [row for row in r if row["low"] > 0.9]
    return (
        f"{len(zeros)} of {len(rows)} p-values are printed as 0.00 %. The widest interval among these coefficients is "
        f"{_method(widest['method'])} {interval(widest['low'], widest['high'], 2)} "
        f"({_called(result, widest['panel'])}): a tiny p says that the correlation is not 0, not that it is high.",
        f"Of the ten Pearson correlations {len([row for row in r if row['estimate'] > 0.9])} are above 0.9; the interval "
        f"lies above 0.9 in {len(above)}.",
    )


def _levels(result: Published) -> tuple[str, ...]:
    means = {row["subset"]: row for row in records(result.means) if row["coefficient"] == "pearson"}
    every, without = means["all panels"], means["without ImageNet"]
    return (
        f"Mean r over all ten panels {_r(every)}, but panels differ (I² {100 * every['i2']:.0f} %): for one further "
        f"panel {_ahead(every)}. Leaving ImageNet out narrows that to {_ahead(without)}: the forecast for a new data set "
        "hangs on the panel that does not fit.",
        "Panels share schemes, teachers and data sets, so these means are less sure than their intervals say.",
    )


def _picks(result: Published) -> tuple[str, ...]:
    kept, every = (
        sum(reading.kind == HOLDS for reading in found.readings.values())
        for found in (result.plain, result.every)
    )
    cost, out = result.plain.regret, result.plain.pair_out
    shares = interval(100 * out.concordance_low, 100 * out.concordance_high, 0)
    return (
        f"Without the two CutMixPick schemes (n = 7) the association survives in {kept} of {cost.k} panels instead of "
        f"{every}; the lowest T. stddev is then the best scheme in {cost.hits} of {cost.k}, and "
        f"{100 * out.concordance:.0f} % {shares} of scheme pairs are ordered rightly.",
    )


def _errors(result: Published) -> tuple[str, ...]:
    known = records(result.corrected)
    most = max(known, key=lambda row: float(row["estimate"]) - float(row["observed"]))
    (name,) = _members(result, ("imagenet",))
    one = [row for row in records(result.sensitivity) if row["panel"] == name]
    top = max(one, key=lambda row: float(row["estimate"]))
    return (
        f"Errors of the test loss over runs (inferred from marker areas) hardly dilute r: corrected, it rises by at most "
        f"{number(most['estimate'] - most['observed'], 3)} ({_called(result, most['panel'])}).",
        f"Nor do errors explain ImageNet: with the spread of ImageNet100's runs on its single run and even "
        f"{100 * top['x_relative_se']:.1f} % error of T. stddev, r is {number(top['estimate'], 2)} "
        f"{interval(top['low'], top['high'], 2)}.",
    )


def _slopes(result: Published) -> tuple[str, ...]:
    frame = result.regression[result.regression["default"]]
    rows = {(row["columns"], row["clusters_by"]): row for row in records(frame)}
    raw, scaled = rows["raw", "panels"], rows["standardised", "schemes"]
    mixed, r = result.mixed, result.repeated
    return (
        f"One T. stddev is not worth the same everywhere: slopes of the panels differ ({p_value(r.p_slopes)}). Their "
        f"mean is {number(raw['estimate'], 0)} {interval(raw['low'], raw['high'], 0)} nats per unit (panel effects, "
        f"clusters of panels) and {number(mixed.estimate, 0)} {interval(mixed.low, mixed.high, 0)} in the mixed model; "
        f"in standard deviations {_r(scaled)} with clusters of schemes.",
    )


def _members(result: Published, datasets: tuple[str, ...]) -> list[str]:
    titles = result.study.titles
    return [str(name) for name in titles.loc[titles["dataset"].isin(datasets), "panel"]]


def _called(result: Published, panel: str) -> str:
    return result.study.names(short=True)[panel]


def _r(row: Mapping[str, Any]) -> str:
    return f"{number(row['estimate'], 2)} {interval(row['low'], row['high'], 2)}"


def _points(row: Mapping[str, Any]) -> str:
    d, low, high = (float(row[name]) for name in ("difference", "low", "high"))
    return f"{'+' if d > 0 else ''}{number(d, 2)} {interval(low, high, 2)}"


def _ahead(row: Mapping[str, Any]) -> str:
    return interval(float(row["prediction_low"]), float(row["prediction_high"]), 3)


def _method(name: str) -> str:
    return {"pearson": "Pearson's r", "spearman": "Spearman's ρ", "kendall": "Kendall's τ"}[name]
