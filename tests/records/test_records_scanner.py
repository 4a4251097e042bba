from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdstats.errors import CheckError, KdstatsError, MissingError, UsageError
from kdstats.records import schema
from kdstats.records.paths import RunPaths
from kdstats.records.scanner import read_pools, scan
from kdstats.records.writer import read_done, write_done, write_json_atomic, write_table

MakeRun = Callable[..., Path]


def redo_done(run: Path) -> None:
    """Make ``done.json`` agree on sizes, so that the reader itself has to find the damage."""
    paths = RunPaths(run)
    done = read_done(paths)
    for name in done["parts"]:
        done["parts"][name]["bytes"] = (run / name).stat().st_size
    write_json_atomic(paths.done, done)


def test_columns_views_and_epochs_are_picked(make_run: MakeRun) -> None:
    run = make_run(epochs=3, steps=4)
    full = list(scan(run))
    assert sum(b.num_rows for b in full) == 3 * 4 * 2 * 8
    assert list(full[0]) == list(schema.SAMPLES.names)
    views = np.concatenate([b["view"] for b in full])
    ts_ce = np.concatenate([b["ts_ce"] for b in full])
    picked = list(scan([run], ["slot", "ts_ce"], views="augmented", batch_rows=5))
    assert list(picked[0]) == ["slot", "ts_ce"]
    assert max(b.num_rows for b in picked) <= 5
    assert (picked[0].run, picked[0].part) == (run, run / "samples/epoch=0000.parquet")
    np.testing.assert_array_equal(np.concatenate([b["ts_ce"] for b in picked]), ts_ce[views == 1])
    both = scan(run, ["ts_ce"], views=["augmented", "original"])
    np.testing.assert_array_equal(np.concatenate([b["ts_ce"] for b in both]), ts_ce)
    assert {int(e) for b in scan(run, ["epoch"], epochs={0, 2}) for e in b["epoch"]} == {0, 2}
    pools = read_pools(run, views="augmented", epochs=[1])
    assert (set(pools["view"]), set(pools["epoch"]), pools["mean_prob"].shape) == ({1}, {1}, (4, 5))


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) * 2 // 3])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("sample_id,ts_ce\n1,2\n")
    elif how == "flipped":  # one bit in the pages, which only their checksum can tell
        at = len(data) // 4
        path.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
    elif how == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
    elif how == "version":
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({"kdstats.schema": "kdstats/samples/7"}), path)
    elif how == "column":
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["ts_ce"]), path)
    elif how == "other run":
        table = pq.read_table(path)
        metadata = dict(table.schema.metadata) | {b"kdstats.digest": b"other"}
        pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    "how", ["truncated", "empty", "text", "flipped", "foreign", "version", "column", "other run"]
)
def test_a_bad_part_is_named_and_never_skipped(make_run: MakeRun, how: str) -> None:
    run = make_run(epochs=3, steps=20)
    part = run / "samples" / "epoch=0001.parquet"
    damage(part, how)
    if part.stat().st_size != read_done(RunPaths(run))["parts"]["samples/epoch=0001.parquet"]["bytes"]:
        with pytest.raises(MissingError, match=r"not as its done\.json says: .*epoch=0001\.parquet"):
            scan(run)
    redo_done(run)
    with pytest.raises(MissingError, match=r"epoch=0001\.parquet") as caught:
        list(scan(run))
    assert caught.value.exit_code == 4
    with pytest.raises(MissingError, match=r"epoch=0001\.parquet"):
        scan(run, verify="sha256")


def test_random_damage_is_an_error_or_changes_nothing(make_run: MakeRun) -> None:
    run = make_run(epochs=1, steps=30)
    part = run / "samples" / "epoch=0000.parquet"
    data = part.read_bytes()
    whole = list(scan(run))
    rng = np.random.default_rng(0)
    found = 0
    for at in rng.integers(0, len(data) * 7 // 10, 60):  # pages; the footer has no checksum but sha256
        part.write_bytes(data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :])
        again = None
        with contextlib.suppress(MissingError):
            again = list(scan(run))
        found += again is None
        for a, b in zip(whole, again or [], strict=False):
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])
        with pytest.raises(MissingError, match="another hash"):
            scan(run, verify="sha256")
    assert found > 50


def test_missing_parts_runs_and_epochs_are_named(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(epochs=3)
    with pytest.raises(MissingError, match="no record of epochs 7, 8; it has 3 from 0 to 2"):
        scan(run, epochs=[0, 7, 8])
    (run / "samples" / "epoch=0001.parquet").unlink()
    with pytest.raises(MissingError, match=r"epoch=0001\.parquet is missing"):
        scan(run)
    with pytest.raises(MissingError, match="no run directory"):
        scan(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="incomplete"):
        scan(tmp_path / "empty")
    with pytest.raises(MissingError, match="holds no samples"):
        scan(tmp_path / "empty", incomplete="allow")


def test_runs_that_are_the_same_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    meta = {"scheme": "cutmix", "seed": 0, "digest": "abcdef0123"}
    one, other = make_run("a", meta=meta), make_run("b", meta=meta | {"seed": 1})
    assert sum(b.num_rows for b in scan([one, other])) == 192
    with pytest.raises(UsageError, match="given twice"):
        scan([one, tmp_path / "b" / ".." / "a"])
    copy = tmp_path / "copy"
    shutil.copytree(one, copy)
    with pytest.raises(
        UsageError, match=r"a and .*copy are the same run \(scheme cutmix, seed 0, digest abcdef01\)"
    ):
        scan([other, one, copy])
    assert sum(b.num_rows for b in scan([make_run("c"), make_run("d")])) == 192  # unnamed runs are distinct


def test_options_are_checked_at_the_call(make_run: MakeRun) -> None:
    run = make_run()
    for options in (
        {"columns": ["ts_cee"]},
        {"views": "orig"},
        {"batch_rows": 0},
        {"incomplete": "ok"},
        {"verify": "md5"},
    ):
        with pytest.raises(UsageError):
            scan(run, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no run directory given"):
        scan([])


def test_pools_are_checked(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert (run / "pools.parquet").exists()
    good = {
        "pool": [0, 1],
        "n": [640, 640],
        "view": ["original", "augmented"],
        "mean_prob": np.full((2, 4), 0.25),
    }
    write_table(tmp_path / "pools.parquet", "pools", good)
    found = read_pools(tmp_path / "pools.parquet")
    assert found["mean_prob"].dtype == np.float64
    np.testing.assert_array_equal(found["pool"], [0, 1])
    np.testing.assert_array_equal(found["view"], [0, 1])
    write_table(tmp_path / "pools.parquet", "pools", good | {"mean_prob": np.full((2, 4), 0.26)})
    with pytest.raises(CheckError, match=r"pools\.parquet: .* sums to 1 ± 0.04"):
        read_pools(tmp_path / "pools.parquet")
    damage(run / "pools.parquet", "truncated")
    redo_done(run)
    with pytest.raises(MissingError, match=r"pools\.parquet is truncated"):
        read_pools(run)


def test_a_foreign_order_of_views_is_read_by_name(make_run: MakeRun) -> None:
    run = make_run(epochs=1)
    part = run / "samples" / "epoch=0000.parquet"
    before = np.concatenate([b["view"] for b in scan(run, ["view"])])
    table = pq.read_table(part)
    views = pa.DictionaryArray.from_arrays(pa.array(1 - before, pa.int8()), pa.array(schema.VIEWS[::-1]))
    table = table.set_column(1, pa.field("view", views.type, False), views)
    pq.write_table(table, part)
    write_done(RunPaths(run))
    np.testing.assert_array_equal(np.concatenate([b["view"] for b in scan(run, ["view"])]), before)


def test_reading_five_million_rows_takes_bounded_memory(tmp_path: Path) -> None:
    code = """
    import sys, pathlib, threading, numpy as np, pyarrow as pa
    from kdstats.records.arrow import Header, arrow_schema, view_array
    from kdstats.records.part import GROUP_ROWS, PartWriter
    from kdstats.records.paths import RunPaths
    from kdstats.records.scanner import scan
    from kdstats.records import schema as sc
    paths = RunPaths(pathlib.Path(sys.argv[1]))
    schema = arrow_schema("samples", sc.SAMPLES.names, header=Header(sc.SAMPLES.version, "d"))
    n, total, rng = GROUP_ROWS, 5_000_000, np.random.default_rng(0)
    i32 = lambda x: pa.array(np.asarray(x, np.int32))
    f32 = lambda: pa.array(rng.random(n, np.float32))
    columns = [pa.array(np.arange(n)), view_array(np.arange(n) // 64 % 2), pa.nulls(n, pa.int64()),
               pa.nulls(n, pa.float32()), i32(np.arange(n) % 100), i32(np.zeros(n)), i32(np.arange(n) // 128),
               i32(np.arange(n) % 64), f32(), f32(), f32(), f32(), pa.nulls(n, pa.float32())]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    writer, left = PartWriter(paths.sample_part(0), schema), total
    while left:
        writer.write(batch.slice(0, min(n, left)))
        left -= min(n, left)
    writer.commit()
    del batch, columns, writer
    pool = pa.default_memory_pool()
    pool.release_unused()
    def rss():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096
    before, peak, rows, acc = rss(), 0, 0, 0.0
    for b in scan(paths, incomplete="allow"):
        rows += b.num_rows
        acc += float(b["ts_ce"].sum())
        peak = max(peak, rss())
    print(rows, int(0.49 < acc / rows < 0.51), (peak - before) >> 20, pool.max_memory() >> 20)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not found.stderr
    rows, mean_ok, resident, arrow = map(int, found.stdout.split())
    assert (rows, mean_ok) == (5_000_000, 1)
    # All rows are 291 MiB decoded and 73 MiB on disk; a reader that buffers ahead holds 91 MiB in Arrow.
    assert arrow < 45
    assert resident < 110


def test_errors_are_of_one_family() -> None:
    assert all(issubclass(kind, KdstatsError) for kind in (MissingError, UsageError, CheckError))
