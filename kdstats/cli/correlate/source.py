"""Where the points of ``kdstats correlate`` come from, what they are called, and what their table seems to lack."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kdstats.cli.correlate.table import Columns, prepare
from kdstats.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.cli.correlate.request import Request
    from kdstats.published.wang2022 import Wang2022

PUBLISHED_RUNS = 3  # "at least three" by the authors' README, so a standard error from three is an upper one
_SE_OF_MEAN = "test_loss_se"


@dataclass(frozen=True, slots=True)
class Source(Columns):
    """The points, and what they and their columns are called."""

    table: pd.DataFrame
    title: str
    x_name: str
    y_name: str
    unit: str
    what: str
    kind: str = "panels"
    panel_names: dict[str, str] = field(default_factory=dict)
    short_names: dict[str, str] = field(default_factory=dict)
    study: Wang2022 | None = None
    hints: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rows: int = 0

    def panel(self, record: dict[str, Any]) -> str:
        """Printed name of the panel that a row with the group columns belongs to; empty without groups."""
        name = " ".join(str(record[g]) for g in self.groups)
        return self.panel_names.get(name, name)


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
        panel_names=study.names(),
        short_names=study.names(short=True),
        study=study,
        rows=len(table),
    )


def file_source(request: Request) -> Source:
    """The points of FILE; raises ``UsageError`` for a column that is unknown or holds no numbers where it must."""
    from kdstats.association.reading import read_with_layout
    from kdstats.cli.correlate.hints import point_hints, table_hints

    table, layout = read_with_layout(request.file or "")
    groups, given, cluster = (
        columns_of(value, table, name)
        for value, name in (
            (request.group, "--group"),
            (request.given, "--given"),
            (request.cluster, "--cluster"),
        )
    )
    x, y = str(request.x), str(request.y)
    columns = Columns(x, y, groups, request.label, request.x_se, request.y_se, given, cluster)
    made = prepare(request, table, columns)
    found = made.columns
    hints = [
        *made.hints,
        *table_hints(table, columns),
        *point_hints(made.table, found, better_given=request.better_given),
    ]
    return Source(
        **asdict(found),
        table=made.table,
        title=f"{request.file}: {y} against {x}",
        x_name=x,
        y_name=y,
        unit=f"in {y}",
        what=request.label or "row",
        hints=tuple(hints),
        said=(*([f"{layout}."] if layout else []), *made.said),
        notes=made.notes,
        rows=made.rows,
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
