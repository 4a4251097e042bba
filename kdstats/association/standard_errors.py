"""Known standard errors of x and y: given as a column, one number or none, checked at the door, brought to unit size."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kdstats.association.coefficients import Floats, exponent_of, times_two_to
from kdstats.association.columns import extra
from kdstats.association.panels import row_name
from kdstats.errors import CheckError, UsageError

_LARGEST_ERROR = 1e50  # of the spread of a column


def error_column(df: pd.DataFrame, source: str | float | None, role: str) -> Floats:
    """Standard errors of x or y, one per row of ``df``.

    Args:
        df: One row per point.
        source: A column, one number for all points, or None for no error.
        role: ``"x_se"`` or ``"y_se"``, for messages.

    Raises:
        UsageError: As :func:`extra`; also a negative value.
    """
    if source is None:
        return np.zeros(len(df))
    if not isinstance(source, str):
        return errors_of(source, len(df), role)
    values = extra(df, source)
    below = np.flatnonzero(values < 0)
    if below.size:
        raise UsageError(
            f"column {source!r} ({role}) is negative in {row_name(df, int(below[0]))}: "
            "a standard error is 0 or more"
        )
    return values


def errors_of(value: ArrayLike | None, n: int, role: str) -> Floats:
    """Standard errors as (n,) float64 from one number, n numbers, or None for zeros.

    Raises:
        UsageError: Another shape, NaN, Inf or a negative value.
    """
    if value is None:
        return np.zeros(n)
    given = np.asarray(value, dtype=np.float64)
    if given.shape not in ((), (n,)):
        raise UsageError(f"{role} must be one number or one per point ({n}), got shape {given.shape}")
    if not (np.isfinite(given) & (given >= 0)).all():
        raise UsageError(
            f"{role} holds a value that is negative, NaN or infinite: a standard error is 0 or more"
        )
    out: Floats = np.broadcast_to(given, (n,)).copy()
    return out


def scaled_with_errors(column: Floats, errors: Floats, name: str) -> tuple[Floats, Floats, int]:
    """A column and its standard errors, (n,) each, in units of a power of two near its largest value, and that power.

    Raises:
        CheckError: Errors so far above the spread of the column that their squares say nothing.
    """
    exponent = exponent_of(column)
    column, errors = times_two_to(column, -exponent), times_two_to(errors, -exponent)
    if not float(errors.max()) < _LARGEST_ERROR * float(column.max() - column.min()):
        raise CheckError(
            f"the standard errors of {name} exceed its spread {_LARGEST_ERROR:g} times: nothing is left"
        )
    return column, errors, exponent
