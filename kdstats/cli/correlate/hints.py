"""What a table of ``kdstats correlate`` suggests that its user left unsaid or took for something else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.cli.correlate.table import Columns

_HIGHER_IS_BETTER = {
    "acc",
    "accuracy",
    "top",
    "top1",
    "top5",
    "auc",
    "auroc",
    "f1",
    "map",
    "iou",
    "miou",
    "psnr",
}
_HIGHER_IS_BETTER |= {"precision", "recall", "score", "bleu"}
_LOWER_IS_BETTER = {"loss", "err", "error", "nll", "ce", "gap", "drop"}


def table_hints(table: pd.DataFrame, columns: Columns) -> list[str]:
    """Of the file as it is: a group column, or a label where groups are given."""
    hints = []
    if columns.groups and columns.label is None:
        hints.append(
            "name the points with --label COL: without it intervals across panels take all points as independent, "
            "and are far too short where panels share schemes"
        )
    if not columns.groups:
        found = _panel_columns(table, {columns.x, columns.y}, columns.label)
        if found:
            name, count = found[0]
            others = f" (or {', '.join(f'{n!r}' for n, _ in found[1:3])})" if len(found) > 1 else ""
            hints.append(
                f"column {name!r}{others} repeats {count} values: if they tell panels apart, --group {name} "
                "correlates within each; points pooled over panels are not independent"
            )
    return hints


def point_hints(table: pd.DataFrame, columns: Columns, *, better_given: bool) -> list[str]:
    """Of the points that are correlated: copied panels, the outcome's direction, doubtful standard errors."""
    hints = copied_panels(table, columns)
    if not better_given and looks_like_accuracy(columns.y):
        hints.append(
            f"{columns.y!r} looks like a measure of which more is better; without --better highest the lowest counts "
            "as the best"
        )
    for name, of in columns.errors.items():
        hints += doubtful_errors(table, columns, name, of)
    return hints


def looks_like_accuracy(name: str) -> bool:
    """Whether a column's name says that more of it is better.

    >>> [looks_like_accuracy(name) for name in ("acc", "test_top1", "Top-1 accuracy", "acc_drop", "loss")]
    [True, True, True, False, False]
    """
    words = set(re.findall(r"[a-z]+[0-9]*", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))
    return bool(words & _HIGHER_IS_BETTER) and not words & _LOWER_IS_BETTER


def copied_panels(table: pd.DataFrame, columns: Columns) -> list[str]:
    """A hint where panels have one and the same x under the same labels: repeats of one experiment, or one predictor."""
    from kdstats.association.panels import members, numbers

    panels = members(table, columns.groups)
    if len(panels) < 2:
        return []
    x = numbers(table, columns.x)
    names = [""] * len(table) if columns.label is None else [str(v) for v in table[columns.label]]
    sets: dict[tuple[tuple[str, float], ...], list[tuple[object, ...]]] = {}
    for key, rows in panels:
        sets.setdefault(tuple(sorted((names[i], float(x[i])) for i in rows)), []).append(key)
    copies = [keys for keys in sets.values() if len(keys) > 1]
    if not copies:
        return []
    count = sum(map(len, copies))
    text = (
        f"{count} of {len(panels)} panels hold only {len(copies)} different set{'s' * (len(copies) > 1)} of {columns.x}: "
        "panels with one and the same x are repeats of one experiment, and means over panels take them as independent"
    )
    # A column that alone differs within every set of copies is what repeats them.
    alone = [
        name
        for at, name in enumerate(columns.groups)
        if all(len({key[:at] + key[at + 1 :] for key in keys}) == 1 for keys in copies)
    ]
    if not alone or columns.label is None:
        return [text]
    rest = [name for name in columns.groups if name != alone[0]]
    remedy = f"--group {','.join(rest)}" if rest else f"leave out --group {alone[0]}"
    return [f"{text}; {remedy} (with --label) averages over {alone[0]}"]


def doubtful_errors(table: pd.DataFrame, columns: Columns, name: str, of: str) -> list[str]:
    """A hint where a column of standard errors is the column itself, or exceeds its spread."""
    import numpy as np

    from kdstats.association.panels import members, numbers

    errors, values = numbers(table, name, missing=True), numbers(table, of)
    doubt = f"is {name!r} really a standard error of {of!r}?"
    if np.allclose(errors, values, rtol=1e-9, atol=0.0):
        return [f"{doubt} The two columns are the same"]
    panels = members(table, columns.groups)
    over = 0
    for _, rows in panels:
        top = float(np.abs(values[rows]).max()) or 1.0  # squares of columns near 1e±200 would not fit
        own, spread = errors[rows] / top, (values[rows] / top).std(ddof=1) if len(rows) > 1 else 0.0
        over += bool(np.isfinite(own).all() and (own**2).mean() >= spread**2)
    if not over:
        return []
    where = f" in {over} of {len(panels)} panels" if len(panels) > 1 else ""
    return [f"{doubt} It exceeds the spread of {of!r}{where}, where nothing can be corrected"]


def _panel_columns(table: pd.DataFrame, used: set[str], label: str | None) -> list[tuple[str, int]]:
    """Columns whose values cut the table into two or more panels of enough points, with their number.

    With a label that repeats, each label must stand once a panel. Without one, only columns of text count: numbers
    that repeat are often settings or rounded measurements.
    """
    import pandas as pd

    from kdstats.association.panels import SMALLEST_N

    known = label is not None and label in table.columns
    if known and not table[label].duplicated().any():
        return []
    out = []
    for name in table.columns:
        if name in used or name == label:
            continue
        column = table[name]
        text = not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))
        if not (text or (known and pd.api.types.is_integer_dtype(column))) or column.isna().any():
            continue
        sizes = column.value_counts()
        if not (sizes.size >= 2 and int(sizes.min()) >= SMALLEST_N):
            continue
        if known and table.duplicated([name, label]).any():
            continue
        out.append((str(name), int(sizes.size)))
    return out
