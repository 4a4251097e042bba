from __future__ import annotations

import subprocess
import sys

import pytest

from kdstats.errors import MissingError, UsageError
from kdstats.records import schema


def test_the_four_tables_hold_what_the_design_names() -> None:
    assert list(schema.TABLES) == ["samples", "pools", "runs", "study"]
    assert schema.SAMPLES.names == (
        "sample_id", "view", "partner_id", "lam", "label", "epoch", "step", "slot",
        "ts_ce", "t_entropy", "t_ce", "s_ce", "s_loss_kd",
    )  # fmt: skip
    assert {c.name for c in schema.SAMPLES.columns if c.nullable} == {"partner_id", "lam", "s_loss_kd"}
    for name in (
        "test_loss_last",
        "test_loss_best",
        "acc_last",
        "acc_best",
        "epoch_best",
        "excluded",
        "reason",
    ):
        assert name in schema.RUNS.names
    for table in schema.TABLES.values():
        assert len(set(table.names)) == len(table.names)
        assert table.version == f"kdstats/{table.name}/1"
        assert all(column.meaning for column in table.columns)


def test_importing_the_schema_loads_no_table_library() -> None:
    heavy = "{'torch', 'pandas', 'pyarrow', 'numpy'}"
    code = f"import kdstats.records.schema, sys; print(*({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_missing_columns_are_named_with_the_nearest_present() -> None:
    names = ["tsce" if name == "ts_ce" else name for name in schema.SAMPLES.names if name != "slot"]
    with pytest.raises(MissingError, match=r"'slot', 'ts_ce' \(nearest present: 'tsce'\)") as caught:
        schema.check("samples", names)
    assert caught.value.exit_code == 4


def test_extra_columns_are_welcome_and_twins_are_not() -> None:
    schema.check("samples", [*schema.SAMPLES.names, "mine"])
    with pytest.raises(UsageError, match="more than one column named 'slot'"):
        schema.check("samples", [*schema.SAMPLES.names, "slot"])


def test_pools_count_by_batch_or_by_pool() -> None:
    schema.check("pools", ["epoch", "step", "n", "view", "mean_prob"])
    schema.check("pools", ["pool", "epoch_start", "epoch_end", "n", "view", "mean_prob"])
    with pytest.raises(MissingError, match="'step'"):
        schema.check("pools", ["epoch", "n", "view", "mean_prob"])


def test_unknown_names_get_suggestions() -> None:
    with pytest.raises(UsageError, match="Did you mean 'samples'"):
        schema.check("sample", [])
    with pytest.raises(UsageError, match="Did you mean 'ts_ce'"):
        schema.select("samples", ["ts_cee"])
    with pytest.raises(UsageError, match="Did you mean 'augmented'"):
        schema.view_code("augment")
    with pytest.raises(UsageError, match="list of names"):
        schema.select("samples", "ts_ce")
