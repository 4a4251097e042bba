"""Leave-one-out: how much a correlation hangs on a single scheme."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from kdstats.association.bootstrap import LARGEST_N, jackknife
from kdstats.association.coefficients import METHODS, coefficient
from kdstats.association.columns import each_panel, panels_for
from kdstats.association.panels import Columns, Panel
from kdstats.errors import UsageError

RESULT_COLUMNS = ("method", "estimate", "lowest", "highest", "without", "without_estimate", "n", "notes")


def leave_one_out(
    df: pd.DataFrame, *, x: str, y: str, group: Columns = None, label: str | None = None
) -> pd.DataFrame:
    """Range of each coefficient when one point of its panel is left out in turn.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell panels apart.
        label: Column that names the points.

    Returns:
        Three rows a panel: group columns, ``method, estimate, lowest, highest`` (over the n left-out values),
        ``without`` (label whose omission moves the coefficient most, empty where none moves it), ``without_estimate``
        (the coefficient without it), ``n, notes``. An omission that leaves a constant column has no coefficient: it is
        left out of the range and named in the notes.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split`; also a panel above 1,000 points, or a group
            column that has the name of a result column.
        CheckError: A column is constant within a panel, or without any single one of its points.
    """
    panels = panels_for(df, RESULT_COLUMNS, x=x, y=y, group=group, label=label)
    return each_panel(panels, group, _without_each)


def _without_each(panel: Panel) -> Iterator[dict[str, Any]]:
    if panel.n > LARGEST_N:
        raise UsageError(f"leave-one-out is for panels of up to {LARGEST_N:,} points, got {panel.n:,}")
    values = jackknife(panel.x, panel.y)
    missing = np.flatnonzero(np.isnan(values[:, 0]))
    notes = []
    if missing.size:
        notes.append(f"without {', '.join(panel.labels[i] for i in missing)} a column is constant")
    for k, method in enumerate(METHODS):
        estimate = coefficient(method, panel.x, panel.y).estimate
        most = int(np.nanargmax(np.abs(values[:, k] - estimate)))
        yield {
            "method": method,
            "estimate": estimate,
            "lowest": float(np.nanmin(values[:, k])),
            "highest": float(np.nanmax(values[:, k])),
            "without": panel.labels[most] if abs(values[most, k] - estimate) > 1e-12 else "",
            "without_estimate": float(values[most, k]),
            "n": panel.n,
            "notes": notes,
        }
