"""The page of ``kdstats evaluate-da``: the answer first, then its evidence, method and origin."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdstats.figures.components import components_figure
from kdstats.figures.convergence import Path, convergence_figure
from kdstats.figures.ranking import ranking_figure
from kdstats.pages import evaluate_da_facts as facts
from kdstats.pages.environment import data_uri, render_template
from kdstats.pages.hover import Point
from kdstats.pages.parts import FigurePart, TablePart, figure_part, plain_table
from kdstats.tables import to_csv, to_json

Document = Mapping[str, Any]


CONTENTS = tuple(
    {"id": name, "title": title, "below": ()}
    for name, title in (
        ("evidence", "Evidence"),
        ("numbers", "Numbers"),
        ("method", "Method and definition"),
        ("left-out", "What was left out"),
        ("reproduce", "Reproduce"),
        ("download", "Download"),
        ("origin", "Origin"),
    )
)


def render(
    document: Document, convergence: Mapping[str, Path], *, reproduce: str, worth: str, data_note: str = ""
) -> str:
    """The page as one self-contained HTML text.

    Args:
        document: ``Evaluation.to_dict()``, or a ``result.json`` read back.
        convergence: Scheme → (batches, values, lows, highs).
        reproduce: The command that gives the result again.
        worth: What choosing by T. stddev has been worth so far, a sentence.
        data_note: Why this data set, where nobody named it.
    """
    order = facts.ranking(document)
    best = order[0]
    compared = facts.comparison(document, best["scheme"])
    csv = facts.csv_rows(document)
    return render_template(
        "evaluate_da.html.j2",
        document=document,
        best=best,
        compared=compared,
        best_value=_value(document, best),
        against="" if compared is None else facts.percent_interval(compared),
        sure=compared is not None and facts.surely_below(compared),
        alone=len(order) == 1,
        probability=facts.probability_text(document["lowest"][best["scheme"]]),
        level=f"{100 * best['confidence']:g} %",
        reason=facts.reason(document),
        stopping=facts.stopping(document),
        warnings=facts.warnings(document),
        worth=worth,
        header=facts.header(document, data_note),
        plots=_plots(document, order, convergence),
        table=_main_table(document, order),
        components=_parts_table(document, order),
        contents=CONTENTS,
        pool_inputs=facts.pool_inputs(document),
        taken=facts.duration(document["provenance"]["seconds"]),
        reproduce=_lines(reproduce),
        json_uri=data_uri(to_json(document), "application/json"),
        csv_uri=data_uri(to_csv(csv, list(csv[0])), "text/csv"),
    )


def _lines(command: str) -> str:
    """A long command over several lines, one option each, to be pasted as it stands."""
    groups: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    return " \\\n  ".join(shlex.join(group) for group in groups)


def _share(p: float) -> str:
    # Counted over draws, so never exactly none or all.
    return "> 0.999" if p > 0.999 else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _small(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.2e}".replace("-", "−")


def _value(document: Document, row: Mapping[str, Any]) -> str:
    n = facts.digits(document)
    return f"{row['t_stddev']:.{n}f} [{row['low']:.{n}f}, {row['high']:.{n}f}]"


def _plots(
    document: Document, order: Sequence[Mapping[str, Any]], convergence: Mapping[str, Path]
) -> dict[str, FigurePart]:
    confidence, inputs = float(order[0]["confidence"]), facts.pool_inputs(document)
    ranked, rank_facts = ranking_figure(
        order, null=float(order[0]["null"]), null_inputs=inputs // 2, confidence=confidence
    )
    stacked, part_facts = components_figure(order, pool_inputs=inputs)
    settling, path_facts = convergence_figure(convergence, confidence=confidence)
    n = facts.digits(document)
    values = "; ".join(f"{r['scheme']} {r['t_stddev']:.{n}f}" for r in order)
    effects = "; ".join(f"{r['scheme']} {r['design_effect']:.2f}" for r in order)
    ends = "; ".join(
        f"{name} {path[1][0]:.{n}f} to {path[1][-1]:.{n}f}" for name, path in convergence.items()
    )
    hints = [
        Point(0, r["t_stddev"], place, f"{r['scheme']}\nT. stddev {_value(document, r)}")
        for place, r in enumerate(order)
    ]
    shown = ["scheme", "t_stddev", "low", "high"]
    split_up = [
        {"scheme": r["scheme"], **r["components"], "design_effect": r["design_effect"]} for r in order
    ]
    looks = [
        dict(zip(("scheme", "batches", *shown[1:]), (name, *look), strict=True))
        for name, path in convergence.items()
        for look in zip(*(np.asarray(column).tolist() for column in path), strict=True)
    ]
    return {
        "ranking": figure_part(
            "ranking",
            ranked,
            rank_facts.caption(),
            f"T. stddev with its interval for each scheme, lowest first: {values}.",
            hints,
            [("ranking.csv", to_csv(order, shown))],
        ),
        "components": figure_part(
            "components",
            stacked,
            part_facts.caption(),
            f"Components of the pool variance for each scheme; design effects: {effects}.",
            contents=[("components.csv", to_csv(split_up, list(split_up[0])))],
        ),
        "convergence": figure_part(
            "convergence",
            settling,
            path_facts.caption(),
            f"Estimate of T. stddev against the number of batches, from the first look to the last: {ends}.",
            contents=[("convergence.csv", to_csv(looks, ["scheme", "batches", *shown[1:]]))],
        ),
    }


def _main_table(document: Document, order: Sequence[Mapping[str, Any]]) -> TablePart:
    n = facts.digits(document)
    rows, kinds = [], []
    for place, result in enumerate(order):
        compared = facts.comparison(document, result["scheme"])
        rows.append(
            [
                result["scheme"],
                f"{result['t_stddev']:.{n}f}",
                f"{result['low']:.{n}f} – {result['high']:.{n}f}",
                "" if compared is None else facts.percent_interval(compared),
                _share(document["lowest"][result["scheme"]]),
                f"{result['teacher_entropy']:.3f}",
                f"{result['effective_inputs']:.0f}",
                f"{100 * result['rivals']['view_accuracy']:.1f} %",
            ]
        )
        kinds.append("best" if place == 0 else "reference" if compared is None else "")
    rows.append(["null", f"{order[0]['null']:.{n}f}", *[""] * 6])
    level = f"{100 * order[0]['confidence']:g} %"
    head = [
        "scheme",
        "T.\u00a0stddev",
        f"{level} interval",
        f"vs identity [{level}]",
        "P(lowest)",
        "entropy (nats)",
    ]
    caption = (
        "Entropy: the teacher's, mean over originals and views. View accuracy: top-1, the classes of a "
        "mixed view "
        f"weighted by λ. {facts.null_note(document)[0].upper()}{facts.null_note(document)[1:]}."
    )
    heads = [*head, "effective inputs", "view accuracy"]
    return plain_table("ranking", caption, heads, rows, [*kinds, "reference"])


def _parts_table(document: Document, order: Sequence[Mapping[str, Any]]) -> TablePart:
    source = order[0]["covariance"]["source"]
    rows = [
        [
            r["scheme"],
            *(f"{1e6 * r['components'][key]:,.1f}".replace("-", "−") for key in _PARTS),
            f"{r['design_effect']:.2f}",
            f"{r['rivals']['kl_view_original']:.3f}",
            _small(r["covariance"]["mean_covariance"]),
            f"[{_small(r['covariance']['mean_covariance_low'])}, "
            f"{_small(r['covariance']['mean_covariance_high'])}]",
        ]
        for r in order
    ]
    stand_in = (
        "the student was not given, so the teacher stands in for it and the cross-entropy is the teacher's "
        "entropy"
        if source == "teacher"
        else "of the teacher and the student given"
    )
    head = ["scheme", "originals", "views", "original–view", "between images", "design effect"]
    level = f"{100 * order[0]['confidence']:g} %"
    caption = (
        "Four components of the pool variance, in 10⁻⁶, averaged over classes; they add up to the variance of a "
        "pool's mean. CE covariance: mean covariance of the teacher–student cross-entropy between the "
        f"{order[0]['covariance']['positions']} positions of a batch; {stand_in}."
    )
    heads = [*head, "KL(original ‖ view) (nats)", "CE covariance (nats²)", f"{level} interval"]
    return plain_table("components", caption, heads, rows, ["best", *[""] * (len(rows) - 1)])


_PARTS = ("var_original", "var_augmented", "cov_views", "cov_cross")
