"""What a ``kdstats/evaluate-da`` document says, in words: shared by the terminal answer and the page.

Every number in a sentence is taken from the document; rounding happens here and nowhere before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kdstats.estimators.components import Split, split

Document = Mapping[str, Any]


def gain(document: Document, scheme: str) -> Split | None:
    """The split of a scheme's gain over identity; None where its pool variance is not below that of identity."""
    mine, theirs = (result(document, name)["components"] for name in (scheme, "identity"))
    found = split(mine, theirs)
    return found if found.total < 1 else None


def result(document: Document, scheme: str) -> Mapping[str, Any]:
    """The result of one scheme."""
    return next(r for r in document["results"] if r["scheme"] == scheme)


def comparison(document: Document, scheme: str) -> Mapping[str, Any] | None:
    """The comparison of a scheme with identity; None for identity itself."""
    return next((c for c in document["comparisons"] if c["a"] == scheme), None)


def ranking(document: Document) -> list[Mapping[str, Any]]:
    """Results from the lowest T. stddev to the highest."""
    return sorted(document["results"], key=lambda r: float(r["t_stddev"]))


def half_width(row: Mapping[str, Any]) -> float:
    """Relative half-width of the interval of T. stddev, on the log scale on which it was formed."""
    return 0.5 * math.log(row["high"] / row["low"])


def signed(value: float, decimals: int = 1) -> str:
    """A number with its sign, a true minus and no minus zero."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")


def digits(document: Document) -> int:
    """Decimals that show four figures of the smallest T. stddev (and at least three)."""
    least = min(float(r["t_stddev"]) for r in document["results"])
    return max(3, 3 - math.floor(math.log10(least)))


def width_text(relative: float) -> str:
    """A relative half-width as ``±1.9 %``."""
    return f"±{100 * relative:.2g} %"


def probability_text(p: float) -> str:
    """A probability that was counted over draws: never 0 or 1."""
    if p > 0.999:
        return "P > 0.999"
    return "P < 0.001" if p < 0.001 else f"P = {p:.3g}"


def percent_interval(compared: Mapping[str, Any]) -> str:
    """``−31.6 % [−32.2, −31.0]``: the difference from identity with its interval."""
    low, high = (signed(100 * compared[key]) for key in ("relative_low", "relative_high"))
    return f"{signed(100 * compared['relative'])} % [{low}, {high}]"


def surely_below(compared: Mapping[str, Any]) -> bool:
    """Whether the whole interval of the difference from identity lies below zero."""
    return float(compared["high"]) < 0


def header(document: Document, data_note: str = "") -> list[tuple[str, str]]:
    """What was measured, of whom, on what and how: a name and a line each."""
    teacher, data, what = document["teacher"], document["dataset"], document["definition"]
    guessed = f" ({teacher['arch']}, read off the weights)" if teacher.get("arch_inferred") else ""
    who = [
        f"{teacher['name']}{guessed} · {100 * teacher['test_accuracy']:.1f} % test accuracy, loss "
        f"{teacher['test_loss']:.3f}",
        f"sha256 {teacher['sha256'][:8]}…",
    ]
    lines = [("teacher", " · ".join(who))]
    if document["student"] is not None:
        student = document["student"]
        other = "" if _given(student) == _given(teacher) else f" · given {_given(student)}"
        lines.append(("student", f"{student['name']} · sha256 {student['sha256'][:8]}…{other}"))
    base = "no standard augmentation" if what["base"] == "none" else f"standard augmentation {what['base']}"
    known = f"{data['name']} {data['split']} · {data['n']:,} images · {data['classes']} classes · {base}"
    lines.append(("data", f"{known} · {_given(teacher)}" if _given(teacher) else known))
    if data_note:
        lines.append(("", f"({data_note})"))
    lines.append(("measure", measure(document)))
    lines.append(("protocol", protocol(document)))
    return lines


def _given(network: Mapping[str, Any]) -> str:
    """What a network's images are normalised with; empty in documents that do not say."""
    mean, std = (" ".join(f"{v:.3g}" for v in network.get(key, [])) for key in ("mean", "std"))
    return f"mean {mean}, std {std}" if mean and std else ""


def warnings(document: Document) -> list[str]:
    """What must be known of the networks before the values are believed, a sentence each, with its name."""
    return [f"Warning ({note['name']}): {note['text']}." for note in document.get("warnings", [])]


def pool_inputs(document: Document) -> int:
    """Inputs of a pool, originals and views."""
    what = document["definition"]
    return int(2 * what["batch_size"] * what["batches_per_pool"])


def measure(document: Document) -> str:
    """The definition of the number, in words."""
    what = document["definition"]
    return (
        f"T. stddev over pools of {pool_inputs(document)} inputs ({what['batches_per_pool']} batches of "
        f"{what['batch_size']}, original + view), T = {what['temperature']:g}, one draw per {what['draws']}"
    )


def protocol(document: Document) -> str:
    """How the number was estimated, in words."""
    shared, what = document["shared"], document["definition"]
    first = document["results"][0]
    level = f"{100 * first['confidence']:g} %"
    if what["protocol"] == "wang2022":
        return (
            f"wang2022, {first['pools']} pools of {what['epochs']} epochs as published, {level} intervals "
            f"(originals computed once for all schemes)"
        )
    most = (
        f"up to {shared['batches']:,} batches a scheme"
        if len(document["results"]) > 1
        else f"{shared['batches']:,} batches"
    )
    return f"efficient, until ±{100 * shared['tol']:.3g} % at {level}: {most} (originals computed once for all schemes)"


def stopping(document: Document) -> str:
    """A warning where the probe ran out of pools before the tolerance was reached; empty otherwise."""
    what, shared = document["definition"], document["shared"]
    short = [row for row in document["results"] if row["stopped"] == "pools"]
    if what["protocol"] != "efficient" or not short:
        return ""
    worst = max(short, key=half_width)
    whom = (
        "" if len(short) == len(document["results"]) else f" by {', '.join(row['scheme'] for row in short)}"
    )
    return (
        f"Stopped after {worst['pools']} pools, the most allowed, before ±{100 * shared['tol']:.3g} % was reached"
        f"{whom}: the widest interval, that of {worst['scheme']}, is {width_text(half_width(worst))}. Allow more "
        "with --pools."
    )


def published_per_image(document: Document) -> str:
    """Which schemes were measured with another granularity of draws than they were published with; or empty."""
    whom = [
        row["scheme"]
        for row in document["results"]
        if any("published with one draw per image" in n for n in row["notes"])
    ]
    if not whom:
        return ""
    return f"Published with one draw per image, measured here with one per batch (--draws sample): {', '.join(whom)}."


def lowest(document: Document) -> str:
    """Which scheme has the lowest T. stddev, how sure that is, and what its gain is made of."""
    best = ranking(document)[0]["scheme"]
    if len(document["results"]) == 1:
        return reason(document)
    return f"Lowest: {best} ({probability_text(document['lowest'][best])}). {reason(document)}"


def reason(document: Document) -> str:
    """What the gain of the lowest scheme over identity is made of, or why there is none to explain."""
    best = ranking(document)[0]["scheme"]
    if len(document["results"]) == 1:
        return "Only identity was measured; name a scheme to compare it with."
    compared = comparison(document, best)
    if compared is None:
        return "No scheme measured here lowers T. stddev below that of identity."
    if not surely_below(compared):
        gap = percent_interval(compared)
        return f"Its difference from identity, {gap}, may be none, so there is no gain to explain."
    return explained(document, best)


def explained(document: Document, scheme: str) -> str:
    """How much of a gain over identity is softer views and how much less dependence."""
    found = gain(document, scheme)
    if found is None:
        return "Its pool variance is not below that of identity."
    parts = (
        f"spread of single inputs {signed(100 * (found.spread - 1), 0)} %, "
        f"design effect {signed(100 * (found.design_effect - 1), 0)} %"
    )
    if found.design_effect >= 1:
        return f"All of its gain over identity is softer views, none is less dependence ({parts})."
    if found.spread >= 1:
        return f"All of its gain over identity is less dependence, none is softer views ({parts})."
    share = round(100 * found.softer_share)
    return f"Of its gain over identity {share} % is softer views, {100 - share} % less dependence ({parts})."


def null_note(document: Document) -> str:
    """What the null row is."""
    return (
        f"null: a fully confident, class-balanced teacher on {pool_inputs(document) // 2} independent "
        "images, each "
        "counted twice"
    )


def worth(seed: int) -> str:
    """What choosing by T. stddev has been worth so far, in the published panels."""
    import numpy as np

    from kdstats.association.worth import published_regret, published_sentence

    said = published_sentence(published_regret(rng=np.random.default_rng(seed)))
    return f"What this has been worth: {said}."


def csv_rows(document: Document) -> list[dict[str, Any]]:
    """One row a scheme, lowest first, every number at full precision, nested names joined by a dot."""
    return [_flat(document, row) for row in ranking(document)]


def _flat(document: Document, result: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            row |= {f"{key}.{inner}": number for inner, number in value.items()}
        else:
            row[key] = "; ".join(value) if isinstance(value, list) else value
    compared = comparison(document, result["scheme"]) or {}
    for key in ("difference", "low", "high", "relative", "relative_low", "relative_high", "p"):
        row[f"vs_identity.{key}"] = compared.get(key)
    row["p_lowest"] = document["lowest"][result["scheme"]]
    return row


def duration(seconds: float) -> str:
    """Seconds for people: ``4.2 s`` or ``1 min 52 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
