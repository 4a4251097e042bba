"""The four tables of a study as plain data: names, types, units and meaning of their columns.

``samples`` and ``pools`` are measured while a student trains, ``runs`` has one row per trained student and
``study`` one per pair and scheme. This module needs the standard library only, so any room may name a column
without loading a table library. Arrow types for the names in :attr:`Column.dtype` are in
:mod:`kdstats.records.arrow`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kdstats.errors import MissingError, UsageError, nearest, unknown

VIEWS = ("original", "augmented")
"""The views of an image, in the order of their codes: arrays from the scanner hold 0 or 1."""

NULL_ID = -1
"""What stands for "no partner" in integer arrays; sample ids are therefore 0 or more."""

LOSSES = ("ts_ce", "t_entropy", "t_ce", "s_ce")
"""The measured columns of ``samples``, in the order in which the Recorder computes them."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: Name in the file.
        dtype: ``int8/int32/int64/float16/float32/float64/bool/string``, ``view`` (dictionary of
            :data:`VIEWS`) or ``vector`` (a fixed-size list of C floats).
        unit: Unit of the values, empty for names and counts.
        meaning: What one value says, in words that can stand in a table's foot.
        nullable: A value may be missing (null in the file; -1 or NaN in arrays).
        required: The table is refused without the column.
        also: Other types accepted on reading, the one in ``dtype`` being the one written by default.
    """

    name: str
    dtype: str
    unit: str
    meaning: str
    nullable: bool = False
    required: bool = True
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of table; ``version`` is written into every file and compared on reading.

    At least one of the column groups in ``keys`` must be there whole, where there are any.
    """

    name: str
    version: str
    one_row_per: str
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns in file order."""
        return tuple(column.name for column in self.columns)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the columns without which the table is refused."""
        return tuple(column.name for column in self.columns if column.required)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise unknown("column", name, self.names, f"These are the columns of table {self.name!r}.")


def _measured(name: str, meaning: str, nullable: bool = False) -> Column:
    return Column(name, "float32", "nats", meaning, nullable, also=("float16", "float64"))


def _number(name: str, unit: str, meaning: str, required: bool = False) -> Column:
    return Column(name, "float64", unit, meaning, nullable=True, required=required, also=("float32",))


SAMPLES = Table(
    "samples",
    "kdstats/samples/1",
    "image view per step",
    (
        Column("sample_id", "int64", "", "identity of the image in its data set, 0 or more"),
        Column(
            "view", "view", "", "original, or augmented by the scheme on top of the standard augmentation"
        ),
        Column("partner_id", "int64", "", "the image mixed in; null where there is none", nullable=True),
        Column("lam", "float32", "fraction", "share of sample_id in the mixed view; null if unmixed", True),
        Column("label", "int32", "", "class of sample_id, 0 … C−1"),
        Column(
            "epoch",
            "int32",
            "",
            "epoch of training, as the loop counts it; kdstats' own runners count from 1",
        ),
        Column("step", "int32", "", "training step, as the loop counts it; one batch per step and view"),
        Column(
            "slot",
            "int32",
            "",
            "position in the batch, 0 … n−1; originals and views of a step both start at 0",
        ),
        _measured("ts_ce", "teacher–student cross-entropy −Σ_c p_t log p_s at T = 1"),
        _measured("t_entropy", "entropy of the teacher −Σ_c p_t log p_t at T = 1"),
        _measured("t_ce", "teacher's loss −log p_t[label]"),
        _measured("s_ce", "student's loss −log p_s[label]"),
        _measured(
            "s_loss_kd", "per-image distillation loss as the training used it; null if not given", True
        ),
    ),
)

POOLS = Table(
    "pools",
    "kdstats/pools/1",
    "batch and view (batches combine into pools of any size by n-weighted means)",
    (
        Column(
            "epoch",
            "int32",
            "",
            "epoch of training, as the loop counts it; kdstats' own runners count from 1",
            required=False,
        ),
        Column("step", "int32", "", "training step of the batch", required=False),
        Column("n", "int32", "images", "number of images in the mean"),
        Column("view", "view", "", "which images of the step were averaged"),
        Column("mean_prob", "vector", "probability", "mean of the teacher's softmax at T = 1; sums to 1"),
        # A table of ready-made pools counts them in place of epoch and step.
        Column("pool", "int32", "", "number of the pool", nullable=True, required=False),
        Column("epoch_start", "int32", "", "epoch of the pool's first batch", nullable=True, required=False),
        Column("epoch_end", "int32", "", "epoch of the pool's last batch", nullable=True, required=False),
    ),
    keys=(("epoch", "step"), ("pool",)),
)

_PAIR = (
    Column("dataset", "string", "", "name of the data set"),
    Column("teacher", "string", "", "name of the teacher"),
    Column("student", "string", "", "name of the student"),
    Column("scheme", "string", "", "augmentation scheme, canonical name"),
)

_COVARIANCE = (
    _number("mean_covariance", "nats²", "mean off-diagonal covariance of the teacher–student cross-entropy"),
    _number("mean_covariance_se", "nats²", "standard error of mean_covariance"),
    _number("risk_variance", "nats²", "variance of the batch mean of the cross-entropy"),
    _number("design_effect", "ratio", "risk_variance over its value for independent images"),
    _number(
        "wang2022_v3",
        "1",
        "the covariance statistic as released: sets of 6,400 values, columns over their maximum; null with too few sets",
    ),
)

RUNS = Table(
    "runs",
    "kdstats/runs/1",
    "trained student",
    (
        *_PAIR,
        Column("seed", "int64", "", "seed of the run"),
        Column("recipe_digest", "string", "", "sha256 of the resolved recipe"),
        Column("epochs", "int32", "epochs", "epochs trained"),
        _number("test_loss_last", "nats", "test cross-entropy after the last epoch (primary outcome)", True),
        _number("test_loss_best", "nats", "lowest test cross-entropy over epochs", True),
        _number("acc_last", "fraction", "test accuracy after the last epoch", True),
        _number("acc_best", "fraction", "highest test accuracy over epochs", True),
        Column("epoch_best", "int32", "", "epoch of acc_best", nullable=True),
        _number("seconds", "s", "wall time of training"),
        *_COVARIANCE,
        _number("teacher_entropy", "nats", "mean entropy of the teacher over the augmented views"),
        Column("excluded", "bool", "", "left out of every summary; never dropped silently"),
        Column("reason", "string", "", "why it was excluded", nullable=True, required=False),
    ),
)


def _over_seeds(name: str, unit: str, meaning: str, required: bool) -> tuple[Column, ...]:
    return (
        _number(name, unit, f"mean over seeds of {meaning}", required),
        _number(f"{name}_se", unit, f"standard error over seeds of {meaning}"),
        _number(f"{name}_sd", unit, f"standard deviation (ddof 1) over seeds of {meaning}"),
    )


STUDY = Table(
    "study",
    "kdstats/study/1",
    "pair and scheme",
    (
        *_PAIR,
        _number("t_stddev", "probability", "standard deviation of the teacher's mean probability", True),
        _number("t_stddev_se", "probability", "standard error of t_stddev"),
        _number("t_stddev_low", "probability", "lower end of the interval of t_stddev"),
        _number("t_stddev_high", "probability", "upper end of the interval of t_stddev"),
        Column("t_stddev_definition", "string", "", "pool size, views, batch, T, ddof, draws", True, False),
        Column("seeds", "int32", "runs", "number of seeds in the means"),
        Column("excluded", "int32", "runs", "number of runs left out of the means", True, False),
        *_over_seeds("test_loss", "nats", "the test loss after the last epoch (primary outcome)", True),
        *_over_seeds("acc", "fraction", "the test accuracy after the last epoch", True),
        *_over_seeds("test_loss_best", "nats", "the lowest test loss over epochs", False),
        *_over_seeds("acc_best", "fraction", "the highest test accuracy over epochs", False),
        *_COVARIANCE,
        _number("teacher_entropy", "nats", "mean entropy of the teacher over the augmented views"),
        _number("seconds", "s", "mean wall time of training"),
    ),
)

TABLES = {table.name: table for table in (SAMPLES, POOLS, RUNS, STUDY)}


def table(name: str) -> Table:
    """The table called ``name``; raises ``UsageError`` with the nearest names otherwise."""
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    return TABLES[name]


def check(table_name: str, columns: Iterable[str]) -> None:
    """Check at the door that a table has the columns it must have. Extra columns are welcome.

    Args:
        table_name: ``samples``, ``pools``, ``runs`` or ``study``.
        columns: The names that are there.

    Raises:
        UsageError: There is no such table, or a column is there twice.
        MissingError: Required columns are missing; the message pairs each with the nearest name present.
    """
    kind, present = table(table_name), list(columns)
    twice = sorted({name for name in present if present.count(name) > 1})
    if twice:
        raise UsageError(
            f"table {table_name!r} has more than one column named {', '.join(map(repr, twice))}."
        )
    missing = [name for name in kind.required if name not in present]
    if kind.keys and not any(set(key) <= set(present) for key in kind.keys):
        missing = [name for name in kind.keys[0] if name not in present] + missing
    if not missing:
        return
    spare = [name for name in present if name not in kind.names]
    said = []
    for name in missing:
        near = nearest(name, spare)
        said.append(repr(name) + (f" (nearest present: {', '.join(map(repr, near))})" if near else ""))
    shown = ", ".join(present[:20]) + (", …" if len(present) > 20 else "")
    raise MissingError(f"table {table_name!r} lacks column {', '.join(said)}. It has: {shown or 'nothing'}.")


def select(table_name: str, columns: Iterable[str] | None) -> tuple[str, ...]:
    """The columns asked for, checked; all of the table's when ``None``. Raises ``UsageError`` if unknown."""
    kind = table(table_name)
    if columns is None:
        return kind.names
    if isinstance(columns, str):
        raise UsageError(f"columns is a list of names; write [{columns!r}].")
    wanted = tuple(dict.fromkeys(columns))
    for name in wanted:
        kind[name]
    if not wanted:
        raise UsageError(f"no columns asked for; table {table_name!r} has {', '.join(kind.names)}.")
    return wanted


def view_code(view: str) -> int:
    """The code of a view in arrays; raises ``UsageError`` with the nearest name otherwise."""
    try:
        return VIEWS.index(view)
    except ValueError:
        raise unknown("view", view, VIEWS) from None
