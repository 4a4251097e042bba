"""A table from a CSV, TSV or Parquet file, or one sentence on what is wrong with the file and where."""

from __future__ import annotations

import codecs
import csv
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import pandas as pd

from kdstats.errors import MissingError, UsageError, nearest

SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": ""}
MISSING = ("-", "–", "—", "n.a.")
"""What stands for a missing value besides pandas' own (nothing, NA, n/a, nan, null, …)."""
_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_DECIMAL_COMMA = r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*"
_DECIMAL_DOT = r"\s*[-+]?\d*\.\d+(?:[eE][-+]?\d+)?\s*"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is written.

    Attributes:
        separator: Between columns.
        decimal: Mark of decimals.
        encoding: As Python names it.
    """

    separator: str
    decimal: str
    encoding: str

    def sentence(self, usual: str) -> str:
        """What is unlike a file of its suffix, whose columns are parted by ``usual``; empty where nothing is."""
        said = [f"{_MARKS[self.separator]} between columns"] if self.separator != usual else []
        said += ["decimal commas"] if self.decimal == "," else []
        said += ["text in UTF-16"] if self.encoding == "utf-16" else []
        return f"read as a table with {', '.join(said)}" if said else ""


def read_table(path: str | Path) -> pd.DataFrame:
    """:func:`read_with_layout` without the word on how the file is written."""
    return read_with_layout(path)[0]


def read_with_layout(path: str | Path) -> tuple[pd.DataFrame, str]:
    """Reads a table whose first line names the columns.

    Args:
        path: Ends in .csv (comma), .tsv (tab) or .parquet. A text file whose first line would be one column, but for
            semicolons, tabs or commas in it, is parted there; where semicolons part columns and numbers have a comma
            in them and none a dot, commas are decimal (as a German Excel writes them). UTF-8, or UTF-16 with its mark.

    Returns:
        The table, and in words how it was read where that is not what its suffix says. For text files the index holds
        line numbers and is named ``line``, so that later messages can point into the file; blank lines are skipped.
        Empty cells and :data:`MISSING` are missing values.

    Raises:
        UsageError: Another suffix.
        MissingError: No such file (with close names in its folder), or a file that is empty, binary, neither UTF-8
            nor UTF-16, broken, without rows, or with one column name twice.
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
        frame, said = (_parquet(source), "") if suffix == ".parquet" else _text(source, SUFFIXES[suffix])
    except PermissionError:
        raise MissingError(f"no permission to read {str(source)!r}") from None
    if len(frame) == 0:
        raise MissingError(f"{str(source)!r} names columns but holds no rows")
    return frame, said


def _not_found(source: Path) -> MissingError:
    folder = source.parent
    if not folder.is_dir():
        return MissingError(f"no file {str(source)!r}: the folder {str(folder.absolute())!r} does not exist")
    names = [p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES]
    near = nearest(source.name, names, n=3)
    there = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if not near:
        shown = f"{', '.join(map(repr, sorted(names)[:3]))}{', …' if len(names) > 3 else ''}"
        there = f" Tables in that folder: {shown}." if names else " No .csv, .tsv or .parquet file there."
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


def _text(source: Path, usual: str) -> tuple[pd.DataFrame, str]:
    with source.open("rb") as raw:
        start = raw.read(65_536)
    encoding = "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in start:
        raise MissingError(f"{str(source)!r} is a binary file, not a table of text")
    lines, blank = 0, []
    try:
        with source.open(encoding=encoding) as file:
            separator, header = _header(file, usual)
            file.seek(0)
            for lines, line in enumerate(file, start=1):
                if not line.strip():
                    blank.append(lines)
    except (UnicodeDecodeError, UnicodeError):
        kind = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise MissingError(
            f"{str(source)!r} is not {kind} text (near line {lines + 1}); save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise MissingError(f"{str(source)!r} has a broken line 1: {error}") from None
    if len(blank) == lines:
        raise MissingError(f"{str(source)!r} is empty (blank lines only)")
    if 1 in blank:
        raise MissingError(f"{str(source)!r} starts with a blank line; line 1 must name the columns")
    names = [name.strip() for name in header]
    _refuse_repeats(source, names, " in line 1")
    layout = Layout(separator, ".", encoding)
    frame = _parse(source, layout, keep_blank=True)
    if separator == ";" and _decimal_commas(frame):
        layout = replace(layout, decimal=",")
        frame = _parse(source, layout, keep_blank=True)
    if len(frame) + 1 == lines:
        frame.index = pd.RangeIndex(2, lines + 1, name="line")
        frame = frame.drop(index=[number for number in blank if number > 1])
    else:  # a quoted field spans lines, so row and line numbers part: count rows of data instead
        frame = _parse(source, layout, keep_blank=False)
        frame.index = pd.RangeIndex(1, len(frame) + 1, name="data row")
    frame.columns = pd.Index([name or f"column {i}" for i, name in enumerate(names, start=1)])
    return frame, layout.sentence(usual)


def _header(file: TextIO, usual: str) -> tuple[str, list[str]]:
    """Separator and first row: the usual one, or the one that parts the first line where that does not."""
    header: list[str] = []
    for mark in dict.fromkeys([usual, ";", "\t", ","]):
        file.seek(0)
        found = next(csv.reader(file, delimiter=mark, strict=True), [])
        if len(found) > 1:
            return mark, found
        header = header or found
    return usual, header


def _decimal_commas(frame: pd.DataFrame) -> bool:
    """Whether texts in the table look like numbers with a decimal comma, and none of its numbers has a dot."""
    commas = False
    for _, column in frame.items():
        if pd.api.types.is_float_dtype(column):
            if (column.dropna() % 1 != 0).any():
                return False
        elif pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column):
            texts = column.dropna().astype(str)
            if texts.str.fullmatch(_DECIMAL_DOT).any():
                return False
            commas = commas or bool(texts.str.fullmatch(_DECIMAL_COMMA).any())
    return commas


def _parse(source: Path, layout: Layout, *, keep_blank: bool) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                source,
                sep=layout.separator,
                decimal=layout.decimal,
                encoding=layout.encoding,
                na_values=list(MISSING),
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
