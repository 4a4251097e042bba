"""Where the points of ``kdstats correlate`` come from, what they are called, and what their table seems to lack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdstats.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.cli.correlate import Request
    from kdstats.published.wang2022 import Wang2022

PUBLISHED_RUNS = 3  # "at least three" by the authors' README, so a standard error from three is an upper one
_SE_OF_MEAN = "test_loss_se"


@dataclass(frozen=True, slots=True)
class Source:
    """The points, and what they are called."""

    table: pd.DataFrame
    title: str
    x: str
    y: str
    groups: list[str]
    label: str | None
    x_se: str | None
    y_se: str | None
    given: list[str]
    cluster: list[str]
    x_name: str
    y_name: str
    unit: str
    what: str
    kind: str = "panels"
    names: dict[str, str] = field(default_factory=dict)
    short_names: dict[str, str] = field(default_factory=dict)
    study: Wang2022 | None = None
    hints: tuple[str, ...] = ()

    def panel(self, record: dict[str, Any]) -> str:
        """Printed name of the panel that a row with the group columns belongs to; empty without groups."""
        name = " ".join(str(record[g]) for g in self.groups)
        return self.names.get(name, name)


def published_source(request: Request) -> Source:
    """The points of ``--published``; raises ``UsageError`` for an unknown study or cluster column."""
    from kdstats.published import load_published

    study = load_published(str(request.published))
    table = study.points.assign(**{_SE_OF_MEAN: study.points["test_loss_std"] / PUBLISHED_RUNS**0.5})
    cluster = columns_of(request.cluster, table, "--cluster")
    _check_known(table, cluster)
    return Source(
        table=table,
        title=f"{study.citation}: student test loss against T. stddev",
        x="t_stddev",
        y="test_loss",
        groups=["panel"],
        label="scheme",
        x_se=None,
        y_se=_SE_OF_MEAN,
        given=[],
        cluster=cluster,
        x_name="T. stddev",
        y_name="student test loss (nats)",
        unit="nats",
        what="scheme",
        kind="published panels",
        names=study.names(),
        short_names=study.names(short=True),
        study=study,
    )


def file_source(request: Request) -> Source:
    """The points of FILE; raises ``UsageError`` for a column that is unknown or holds no numbers where it must."""
    from kdstats.association.columns import extra
    from kdstats.association.reading import read_table

    table = read_table(request.file or "")
    x, y = str(request.x), str(request.y)
    groups, given, cluster = (
        columns_of(value, table, name)
        for value, name in (
            (request.group, "--group"),
            (request.given, "--given"),
            (request.cluster, "--cluster"),
        )
    )
    _check_known(table, cluster)
    for name in given:
        extra(table, name)
    for column in (request.x_se, request.y_se):
        if column is not None:
            _check_errors(table, column)
    return Source(
        table=table,
        title=f"{request.file}: {y} against {x}",
        x=x,
        y=y,
        groups=groups,
        label=request.label,
        x_se=request.x_se,
        y_se=request.y_se,
        given=given,
        cluster=cluster,
        x_name=x,
        y_name=y,
        unit=f"in {y}",
        what=request.label or "row",
        hints=_hints(table, x, y, groups, request.label),
    )


def columns_of(value: str | None, table: pd.DataFrame, option: str) -> list[str]:
    """Column names of an option; a name that holds a comma and is a column stays whole."""
    if value is None:
        return []
    if value in table.columns:
        return [value]
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise UsageError(f"{option} names no column")
    return names


def _check_known(table: pd.DataFrame, names: list[str]) -> None:
    from kdstats.association.panels import check_column

    for name in names:
        check_column(table, name)


def _check_errors(table: pd.DataFrame, name: str) -> None:
    import numpy as np

    from kdstats.association.panels import numbers, row_name

    _check_known(table, [name])
    values = numbers(table, name, missing=True)
    if np.isnan(values).all():
        raise UsageError(f"column {name!r} holds no standard error at all")
    if (values < 0).any():
        where = row_name(table, int((values < 0).argmax()))
        raise UsageError(f"column {name!r} is negative in {where}: a standard error is 0 or more")


def _hints(table: pd.DataFrame, x: str, y: str, groups: list[str], label: str | None) -> tuple[str, ...]:
    """What the table suggests the user left unsaid: a group column, or a label where groups are given."""
    hints = []
    if groups and label is None:
        hints.append(
            "name the points with --label COL: without it intervals across panels take all points as independent, "
            "and are far too short where panels share schemes"
        )
    if not groups:
        found = _panel_columns(table, {x, y}, label)
        if found:
            name, count = found[0]
            others = f" (or {', '.join(f'{n!r}' for n, _ in found[1:3])})" if len(found) > 1 else ""
            hints.append(
                f"column {name!r}{others} repeats {count} values: if they tell panels apart, --group {name} "
                "correlates within each; points pooled over panels are not independent"
            )
    return tuple(hints)


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
