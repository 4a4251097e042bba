"""The small tables: types at the door, no file that stands for more than memory holds, advice that loses no data."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdstats.errors import MissingError
from kdstats.records import frame as frame_
from kdstats.records.arrow import Header, naming, open_part
from kdstats.records.frame import read_frame
from kdstats.records.part import write_table
from kdstats.records.schema import RUNS

ROW: dict[str, Any] = {
    "dataset": "digits", "teacher": "t", "student": "s", "scheme": "flip", "seed": 0, "recipe_digest": "0f",
    "epochs": 3, "test_loss_last": 0.5, "test_loss_best": 0.4, "acc_last": 0.9, "acc_best": 0.9, "epoch_best": 2,
    "seconds": 1.0, "mean_covariance": 0.1, "mean_covariance_se": 0.1, "risk_variance": 0.1, "design_effect": 1.1,
    "wang2022_v3": math.nan, "teacher_entropy": 0.5, "excluded": False, "reason": None,
}  # fmt: skip


def file_of(folder: Path, columns: dict[str, Any], n: int = 3, **options: Any) -> Path:
    """A table ``runs`` with columns as they are given, whatever the schema says of them."""
    made = {
        name: value if isinstance(value, pa.Array) else pa.array([value] * n)
        for name, value in columns.items()
    }
    path = folder / "runs.parquet"
    pq.write_table(pa.table(made).replace_schema_metadata(Header(RUNS.version).encode()), path, **options)
    return path


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = pd.DataFrame([ROW | {"seed": k, "note": "x", "kept": k > 0} for k in range(3)])
    rows.loc[1, "epoch_best"] = None
    write_table(tmp_path / "runs.parquet", "runs", rows)
    found = read_frame(tmp_path / "runs.parquet", "runs")
    pd.testing.assert_frame_equal(found, pq.ParquetFile(tmp_path / "runs.parquet").read().to_pandas())
    assert found["epoch_best"].isna().tolist() == [False, True, False]
    assert found["kept"].tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("excluded", pa.array(["False"] * 3), "true or false"),
        ("excluded", pa.array([0, 0, 1]), "true or false"),
        ("test_loss_last", pa.array(["1"] * 3), "not numbers"),
        ("test_loss_last", pa.array([[1.0]] * 3), "not numbers"),
        ("scheme", pa.array([[1]] * 3), "not text"),
        ("scheme", pa.array([1, 2, 3]), "not text"),
        ("seed", pa.array([0.5] * 3), "whole numbers"),
        ("seed", pa.array([1, None, 3]), "lacks a value in 1 of 3 rows"),
        ("more", pa.array([{"a": 1}] * 3), "plain values"),
        ("more", pa.array([b"\xff"] * 3), "plain values"),
    ],
)
def test_another_type_is_refused_by_name(tmp_path: Path, name: str, values: pa.Array, said: str) -> None:
    with pytest.raises(MissingError, match=rf"runs\.parquet: column '{name}' .*{said}.*anew") as caught:
        read_frame(file_of(tmp_path, ROW | {name: values}), "runs")
    assert caught.value.exit_code == 4


def test_types_that_pandas_makes_of_the_schema_s_are_taken(tmp_path: Path) -> None:
    columns = {
        "epochs": pa.array([3, 3, 3], pa.int64()),
        "epoch_best": pa.array([1.0, None, 2.0]),
        "mean_covariance": pa.nulls(3),
        "reason": pa.nulls(3),
        "scheme": pa.array(["flip", "mixup", "flip"]).dictionary_encode(),
        "teacher": pa.array(["t"] * 3, pa.large_string()),
        "acc_last": pa.array([1, 1, 0]),
    }
    found = read_frame(file_of(tmp_path, ROW | columns), "runs")
    assert found["scheme"].tolist() == ["flip", "mixup", "flip"]
    assert found["mean_covariance"].dtype == np.float64
    assert found["reason"].isna().all()


def test_text_that_is_no_utf_8_is_damage(tmp_path: Path) -> None:
    torn = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe\xff")]
    )
    with pytest.raises(MissingError, match="damaged"):
        read_frame(file_of(tmp_path, ROW | {"scheme": torn}), "runs")


def test_rows_beyond_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path, ROW, n=frame_.MOST_ROWS + 1, compression="zstd")
    assert path.stat().st_size < 1_000_000
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *a, **k: pytest.fail("it was read"))
    with pytest.raises(MissingError, match="1,000,001 rows"):
        read_frame(path, "runs")


def test_many_columns_of_many_rows_are_refused(tmp_path: Path) -> None:
    wide = {f"c{at}": pa.nulls(200_000) for at in range(500)}
    with pytest.raises(MissingError, match="200,000 rows of 521 columns"):
        read_frame(file_of(tmp_path, ROW | wide, n=200_000), "runs")


def test_one_long_text_in_many_rows_is_refused(tmp_path: Path) -> None:
    """A dictionary holds it once, so the file takes no space; unfolded it would be 20 GB."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), pa.array(["x" * 100_000]))
    path = file_of(tmp_path, ROW | {"scheme": text}, n=200_000, compression="zstd")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(MissingError, match=r"18\.6 GiB of text"):
        read_frame(path, "runs")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be read: Permission denied"),
        (OSError(errno.EMFILE, "Too many open files"), "cannot be read: Too many open files"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), "not UTF-8"),
        (MemoryError("no"), "memory"),
        (pa.ArrowMemoryError("malloc of size 1 failed"), "memory"),
    ],
)
def test_what_is_no_damage_is_no_reason_to_delete(error: Exception, said: str) -> None:
    with pytest.raises(MissingError, match=said) as caught, naming(Path("x.parquet")):
        raise error
    assert "Delete" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [OSError("Couldn't deserialize thrift"), pa.ArrowInvalid("bad"), ValueError("")]
)
def test_damage_is_a_reason(error: Exception) -> None:
    with pytest.raises(MissingError, match="Delete it"), naming(Path("x.parquet")):
        raise error


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "epoch=0001.parquet")
    with (
        pytest.raises(MissingError, match="no regular file"),
        open_part(tmp_path / "epoch=0001.parquet", "samples"),
    ):
        pass
