"""What ``kdstats estimate`` prints for a reader: the numbers of each scheme, run or epoch, and the components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdstats.cli.estimate.answer import names
from kdstats.tables import escape_latex, write

if TYPE_CHECKING:
    from kdstats.cli.estimate.answer import Answer
    from kdstats.cli.estimate.request import Request
    from kdstats.estimators.estimate import Estimate

MAIN = {
    "mean_covariance": "mean covariance",
    "design_effect": "design effect",
    "risk_variance": "risk variance",
    "t_stddev": "T. stddev",
    "teacher_entropy": "teacher entropy",
    "wang2022_v3": "wang2022_v3",
}
PAIRS = {
    "same_step": "original and view",
    "other_epoch": "same view, other epoch",
    "other_view_and_epoch": "other view and epoch",
    "same_batch": "other image, same batch",
    "same_batch_other_view": "other image and view, same batch",
}


WORDS = "What the words mean: docs/method.md, section Words."


def page(request: Request, answer: Answer) -> str:
    """The whole answer as text, Markdown or LaTeX (there the sentences are comments)."""
    groups: dict[tuple[str, int | None], dict[str, Any]] = {}
    for name, row in zip(names(answer.rows, request.by), answer.rows, strict=True):
        groups.setdefault((name, row.epoch), {"runs": row.runs})[row.quantity] = row.estimate
    fmt = request.fmt
    tables = [
        (
            f"Covariance of the teacher–student cross-entropy ({_stretch(request, answer)})",
            _main(fmt, request, groups),
        ),
    ]
    if any(key.startswith("variance ") for cells in groups.values() for key in cells):
        if request.by != "epoch":
            tables.append(("Variance components by identity of the images, nats²", _components(fmt, groups)))
        tables.append(("Correlation of two losses that share", _correlations(fmt, groups)))
    said = [*_reading(answer), _basis(request, answer)]
    said += [f"note: {note}" for note in [*answer.notes, *_own_notes(request, answer)]]
    said.append(WORDS)
    if fmt == "latex":
        parts = [f"% {escape_latex(title)}\n{table}" for title, table in tables]
        return "\n".join([*parts, *(f"% {escape_latex(line)}" for line in said), ""])
    heading = "**{}**" if fmt == "md" else "{}"
    parts = [f"{heading.format(title)}\n\n{table}" for title, table in tables]
    end = "  \n" if fmt == "md" else "\n"
    return "\n".join(parts) + "\n" + end.join([*said, ""])


def _stretch(request: Request, answer: Answer) -> str:
    spans = {(run.epochs[0], run.epochs[-1], len(run.epochs)) for run in answer.runs}
    if len(spans) > 1:
        return "epochs as each run recorded them"
    first, last, count = spans.pop()
    rows = sum(run.rows for run in answer.runs)
    span = f"epoch {first}" if count == 1 else f"{count} epochs from {first} to {last}"
    return f"{span}; {len(answer.runs)} run{'s' if len(answer.runs) > 1 else ''}, {rows:,} rows"


def _basis(request: Request, answer: Answer) -> str:
    by = "over seeds, or over the steps and pools of the run where there is one"
    by = by if request.by != "run" else "over the steps and pools of each run"
    shapes = sorted({run.definition for run in answer.runs})
    return (
        f"{100 * request.confidence:g} % intervals {by}. An observation is a full step; variances within epochs; "
        f"{'; '.join(shapes)}."
    )


def _reading(answer: Answer) -> list[str]:
    """How to read the columns of the first table."""
    found = {row.quantity for row in answer.rows}
    lines = []
    if "mean_covariance" in found:
        lines.append(
            "Mean covariance: lower is better by the paper's argument (Wang et al. 2022); whether it holds here is for "
            "the test losses to say (kdstats correlate)."
        )
    if any(row.quantity == "t_stddev" and row.runs > 1 for row in answer.rows):
        lines.append(
            "T. stddev over seeds: the interval is over runs; on a study's page it is over the pools of one teacher and "
            "scheme, without a student."
        )
    return lines


def _own_notes(request: Request, answer: Answer) -> list[str]:
    """Notes that stand with single numbers, each once, with the schemes that it concerns where not all have it."""
    where: dict[str, tuple[list[str], list[str]]] = {}
    every = names(answer.rows, request.by)
    for name, row in zip(every, answer.rows, strict=True):
        for note in row.estimate.notes:
            schemes, quantities = where.setdefault(note, ([], []))
            schemes.append(name)
            quantities.append(row.quantity)
    out = []
    for note, (schemes, quantities) in where.items():
        whose = list(dict.fromkeys(schemes))
        said = _some(list(dict.fromkeys(quantities)))
        of = f" of {_some(whose, '; ')}" if len(whose) < len(set(every)) else ""
        out.append(f"{note} ({said}{of})")
    return out


def _some(words: list[str], mark: str = ", ") -> str:
    return f"{mark.join(words[:3])}{f' and {len(words) - 3} more' if len(words) > 3 else ''}"


def _first(request: Request, key: tuple[str, int | None]) -> dict[str, Any]:
    return {"scheme": key[0]} | ({"epoch": key[1]} if request.by == "epoch" else {})


def _main(fmt: str, request: Request, groups: dict[tuple[str, int | None], dict[str, Any]]) -> str:
    present = [name for name in MAIN if any(name in cells for cells in groups.values())]
    rows = []
    for key, cells in groups.items():
        row = _first(request, key) | {"runs": cells["runs"]}
        rows.append(row | {name: _cell(cells.get(name)) for name in present})
    columns = [*_first(request, ("", 0)), "runs", *present]
    return write(fmt, rows, columns, MAIN)


def _components(fmt: str, groups: dict[tuple[str, int | None], dict[str, Any]]) -> str:
    present = list(
        dict.fromkeys(key for cells in groups.values() for key in cells if key.startswith("variance "))
    )
    rows = [
        {"scheme": name, **{column: _cell(cells.get(column)) for column in present}}
        for (name, _), cells in groups.items()
    ]
    headers = {column: column.removeprefix("variance ") for column in present}
    return write(fmt, rows, ["scheme", *present], headers)


def _correlations(fmt: str, groups: dict[tuple[str, int | None], dict[str, Any]]) -> str:
    rows = []
    present = [kind for kind in PAIRS if any(f"correlation {kind}" in cells for cells in groups.values())]
    epochs = any(epoch is not None for _, epoch in groups)
    for (name, epoch), cells in groups.items():
        row: dict[str, Any] = {"scheme": name} | ({"epoch": epoch} if epochs else {})
        rows.append(row | {kind: _cell(cells.get(f"correlation {kind}")) for kind in present})
    return write(fmt, rows, ["scheme", *(["epoch"] if epochs else []), *present], PAIRS)


def _cell(estimate: Estimate | None) -> str:
    """Value and interval; nothing where it could not be had."""
    if estimate is None:
        return ""
    value = number(estimate.value)
    return (
        value
        if estimate.low != estimate.low
        else f"{value} [{number(estimate.low)}, {number(estimate.high)}]"
    )


def number(value: float) -> str:
    """Three digits, with a true minus sign."""
    if abs(value) < 5e-13:
        return "0"
    return f"{value:.3g}".replace("-", "−")
