"""A table from a CSV, TSV or Parquet file, or one sentence on what is wrong with the file and where."""

from __future__ import annotations

import csv
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kdstats.errors import MissingError, UsageError, nearest

SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": ""}


def read_table(path: str | Path) -> pd.DataFrame:
    """Reads a table whose first line names the columns.

    Args:
        path: Ends in .csv (comma), .tsv (tab) or .parquet.

    Returns:
        The table. For text files the index holds line numbers and is named ``line``, so that later messages
        can point into the file; blank lines are skipped.

    Raises:
        UsageError: Another suffix.
        MissingError: No such file (with close names in its folder), or a file that is empty, binary, not
        UTF-8,
            broken, without rows, or with one column name twice.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    if source.is_dir():
        raise MissingError(f"{str(source)!r} is a folder; name a .csv, .tsv or .parquet file in it")
    if not source.exists():
        raise _not_found(source)
    if suffix not in SUFFIXES:
        raise UsageError(f"cannot read {str(source)!r}: expected a name that ends in {', '.join(SUFFIXES)}")
    try:
        if source.stat().st_size == 0:
            raise MissingError(f"{str(source)!r} is empty")
        frame = _parquet(source) if suffix == ".parquet" else _text(source, SUFFIXES[suffix])
    except PermissionError:
        raise MissingError(f"no permission to read {str(source)!r}") from None
    if len(frame) == 0:
        raise MissingError(f"{str(source)!r} names columns but holds no rows")
    return frame


def _not_found(source: Path) -> MissingError:
    folder = source.parent
    if not folder.is_dir():
        return MissingError(f"no file {str(source)!r}: the folder {str(folder.absolute())!r} does not exist")
    names = [p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES]
    near = nearest(source.name, names, n=3) or sorted(names)[:3]
    there = f" There: {', '.join(map(repr, near))}." if near else " No .csv, .tsv or .parquet file there."
    return MissingError(f"no file {source.name!r} in {str(folder.absolute())!r}.{there}")


def _parquet(source: Path) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(source, use_threads=False)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise MissingError(f"{str(source)!r} is not a readable Parquet file: {reason}") from None
    _refuse_repeats(source, table.column_names, "")
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    frame.index.name = "row"
    return frame


def _text(source: Path, separator: str) -> pd.DataFrame:
    with source.open("rb") as raw:
        if b"\0" in raw.read(65_536):
            raise MissingError(f"{str(source)!r} is a binary file, not a table of text")
    lines, blank = 0, []
    try:
        with source.open(encoding="utf-8-sig") as file:
            header = next(csv.reader(file, delimiter=separator, strict=True), [])
            file.seek(0)
            for lines, line in enumerate(file, start=1):
                if not line.strip():
                    blank.append(lines)
    except UnicodeDecodeError:
        raise MissingError(
            f"{str(source)!r} is not UTF-8 text (near line {lines + 1}); save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise MissingError(f"{str(source)!r} has a broken line 1: {error}") from None
    if len(blank) == lines:
        raise MissingError(f"{str(source)!r} is empty (blank lines only)")
    if 1 in blank:
        raise MissingError(f"{str(source)!r} starts with a blank line; line 1 must name the columns")
    names = [name.strip() for name in header]
    _refuse_repeats(source, names, " in line 1")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t,"):
        raise MissingError(
            f"{str(source)!r} has one column, {names[0]!r}: .csv needs commas between columns, .tsv tabs"
        )
    frame = _parse(source, separator, keep_blank=True)
    if len(frame) + 1 == lines:
        frame.index = pd.RangeIndex(2, lines + 1, name="line")
        frame = frame.drop(index=[number for number in blank if number > 1])
    else:  # a quoted field spans lines, so row and line numbers part: count rows of data instead
        frame = _parse(source, separator, keep_blank=False)
        frame.index = pd.RangeIndex(1, len(frame) + 1, name="data row")
    frame.columns = pd.Index([name or f"column {i}" for i, name in enumerate(names, start=1)])
    return frame


def _parse(source: Path, separator: str, *, keep_blank: bool) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                source,
                sep=separator,
                encoding="utf-8-sig",
                index_col=False,
                skip_blank_lines=not keep_blank,
                skipinitialspace=True,
                low_memory=False,
            )
    except pd.errors.ParserWarning:
        raise MissingError(
            f"{str(source)!r} has more fields in its rows than column names in line 1"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise MissingError(f"{str(source)!r} is broken: {_reason(str(error))}") from None


def _reason(message: str) -> str:
    fields = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message)
    if fields:
        return f"line {fields[2]} has {fields[3]} fields, line 1 names {fields[1]}"
    quote = re.search(r"EOF inside string starting at row (\d+)", message)
    if quote:
        return f"a quote opened in line {int(quote[1]) + 1} is never closed"
    return " ".join(message.split())


def _refuse_repeats(source: Path, names: Sequence[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise MissingError(f"{str(source)!r} names column {twice[0]!r} more than once{where}")
