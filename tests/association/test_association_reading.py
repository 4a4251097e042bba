from __future__ import annotations

import pandas as pd
import pytest

from kdstats.association.correlate import correlate
from kdstats.association.reading import read_table, read_with_layout
from kdstats.errors import MissingError, UsageError

ROWS = "a,b\n1,2\n2,1\n3,4\n4,3\n5,6\n"


@pytest.fixture
def write(tmp_path):
    def file(content: str | bytes, name: str = "t.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return file


def test_formats_agree(write, tmp_path):
    csv = read_table(write(ROWS))
    tsv = read_table(write(ROWS.replace(",", "\t"), "t.tsv"))
    pd.DataFrame(csv).reset_index(drop=True).to_parquet(tmp_path / "t.parquet")
    parquet = read_table(tmp_path / "t.parquet")
    for other in (tsv, parquet):
        assert other.to_dict("list") == csv.to_dict("list") == {"a": [1, 2, 3, 4, 5], "b": [2, 1, 4, 3, 6]}


def test_messages_carry_lines_of_the_file(write):
    path = write("\ufeffa , b\r\n1,2\r\n\r\n2,x\r\n3,4\r\n\r\n")
    table = read_table(path)
    assert list(table.columns) == ["a", "b"]
    assert list(table.index) == [2, 4, 5]
    with pytest.raises(UsageError, match="line 4 holds 'x'"):
        correlate(table, x="a", y="b")
    table = read_table(write(ROWS + ",7\n6,\n"))
    with pytest.raises(UsageError, match=r"'a' has no value .* in line 7"):
        correlate(table, x="a", y="b")


def test_quoted_line_breaks_do_not_shift_names(write):
    table = read_table(write('a,b,c\n1,2,"x\ny"\n2,q,z\n'))
    with pytest.raises(UsageError, match="data row 2 holds 'q'"):
        correlate(table, x="a", y="b")


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("", "t.csv", "is empty"),
        ("\n\n  \n", "t.csv", "blank lines only"),
        ("\na,b\n1,2\n", "t.csv", "starts with a blank line"),
        ("a,b\n", "t.csv", "holds no rows"),
        ("a,b,a\n1,2,3\n", "t.csv", "names column 'a' more than once in line 1"),
        ("a,b\n1,2\n3,4,5\n", "t.csv", "line 3 has 3 fields, line 1 names 2"),
        ("a,b\n1,2,3\n4,5,6\n", "t.csv", "more fields"),
        ('a,b\n1,2\n3,"4\n', "t.csv", "line 3 is never closed"),
        (b"a,b\n1,2\n\x00\x01", "t.csv", "binary"),
        (b"a,b\n1,\xff\n", "t.csv", "not UTF-8"),
        ("a,b\n1,2\n", "t.parquet", "not a readable Parquet file"),
        ("", "t.parquet", "is empty"),
    ],
)
def test_unreadable_files(write, content, name, said):
    with pytest.raises(MissingError, match=said) as caught:
        read_table(write(content, name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files(write, tmp_path):
    write(ROWS, "study.csv")
    with pytest.raises(MissingError, match=r"'stdy.csv' in '.*Did you mean 'study.csv'"):
        read_table(tmp_path / "stdy.csv")
    with pytest.raises(MissingError, match="does not exist"):
        read_table(tmp_path / "no" / "t.csv")
    with pytest.raises(MissingError, match="folder"):
        read_table(tmp_path)
    with pytest.raises(UsageError, match=r"\.parquet"):
        read_table(write(ROWS, "t.xlsx"))


def test_truncated_parquet(write, tmp_path):
    pd.DataFrame({"a": range(100)}).to_parquet(tmp_path / "whole.parquet")
    half = (tmp_path / "whole.parquet").read_bytes()[:-20]
    with pytest.raises(MissingError, match="Parquet"):
        read_table(write(half, "half.parquet"))


GERMAN = "pair;scheme;t;loss\n" + "".join(f"a;s{i};{i},25;{i * i},5\n" for i in range(5))


def test_semicolons_and_decimal_commas_are_read_and_said(write):
    frame, said = read_with_layout(write(GERMAN, "t.csv"))
    assert said == "read as a table with semicolons between columns, decimal commas"
    assert frame["t"].tolist() == [0.25, 1.25, 2.25, 3.25, 4.25]
    assert frame["loss"].tolist() == [0.5, 1.5, 4.5, 9.5, 16.5]
    assert list(frame.index) == [2, 3, 4, 5, 6]


def test_semicolons_with_dots_keep_their_dots(write):
    frame, said = read_with_layout(write(GERMAN.replace(",", "."), "t.csv"))
    assert said == "read as a table with semicolons between columns"
    assert frame["t"].tolist() == [0.25, 1.25, 2.25, 3.25, 4.25]


def test_commas_that_cannot_all_be_decimal_are_left_as_text(write):
    mixed = "a;b\n1,5;0.25\n2,5;0.5\n"
    frame, said = read_with_layout(write(mixed, "t.csv"))
    assert "decimal" not in said
    assert frame["a"].tolist() == ["1,5", "2,5"]


@pytest.mark.parametrize(("name", "mark"), [("t.csv", "\t"), ("t.tsv", ","), ("t.tsv", ";")])
def test_another_separator_than_the_suffix_says(write, name, mark):
    frame, said = read_with_layout(write(ROWS.replace(",", mark), name))
    assert list(frame.columns) == list(read_table(write(ROWS, "usual.csv")).columns)
    assert said.startswith("read as a table with ")


def test_a_usual_file_needs_no_word(write):
    assert read_with_layout(write(ROWS, "t.csv"))[1] == ""
    assert read_table(write("a\n1\n2\n", "one.csv"))["a"].tolist() == [1, 2]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_with_its_mark(write, encoding):
    mark = {"utf-16": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}[encoding]
    frame, said = read_with_layout(write(mark + GERMAN.encode(encoding), "t.csv"))
    assert "UTF-16" in said
    assert frame["t"].tolist() == [0.25, 1.25, 2.25, 3.25, 4.25]


def test_broken_utf_16_is_named(write):
    with pytest.raises(MissingError, match="is not UTF-16 text"):
        read_table(write("a,b\n1,2\n".encode("utf-16") + b"\x00\xd8", "t.csv"))


@pytest.mark.parametrize("mark", ["", "-", "NA", "n/a", "–", "nan"])
def test_marks_of_missing_values(write, mark):
    frame = read_table(write(f"a,b\n1,2\n3,{mark}\n5,6\n", "t.csv"))
    assert frame["b"].isna().tolist() == [False, True, False]
    assert frame["b"].dtype == float
