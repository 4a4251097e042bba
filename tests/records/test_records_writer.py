from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdstats.errors import CheckError, KdstatsError, MissingError, UsageError
from kdstats.records import atomic
from kdstats.records.lines import whole_epochs, whole_lines
from kdstats.records.paths import RunPaths, StudyPaths
from kdstats.records.scanner import read_pools, read_runs, read_study, scan
from kdstats.records.writer import (
    PartWriter,
    clean_temps,
    is_complete,
    merge_pools,
    read_done,
    split_pools,
    verify_done,
    write_done,
    write_json_atomic,
    write_table,
)

MakeRun = Callable[..., Path]


def run_python(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def to_the_end(code: str, *args: object) -> None:
    _, err = (process := run_python(code, *args)).communicate()
    assert process.returncode == 0, err


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


KILLED_PART = """
import sys, time, pathlib, numpy as np, pyarrow as pa
from kdstats.records.writer import PartWriter
schema = pa.schema([("x", pa.float64())])
writer = PartWriter(pathlib.Path(sys.argv[1]), schema, group_rows=1000)
for k in range(5):
    writer.write(pa.RecordBatch.from_arrays([pa.array(np.random.rand(1000))], schema=schema))
writer._file.file.flush()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_killed_writer_leaves_the_target_as_it_was(tmp_path: Path, before: bytes | None) -> None:
    target = tmp_path / "epoch=0000.parquet"
    if before is not None:
        target.write_bytes(before)
    process = run_python(KILLED_PART, target)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert clean_temps(tmp_path) == []  # its process lives
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (target.read_bytes() if target.exists() else None) == before
    (temp,) = tmp_path.glob(".*.tmp")
    assert temp.stat().st_size > 10_000  # it was in the middle of writing
    assert clean_temps(tmp_path) == [temp]
    assert names(tmp_path) == ([target.name] if before else [])


def test_temporary_files_of_other_machines_and_foreign_files_stay(tmp_path: Path) -> None:
    host, pid, token = atomic._process()
    (tmp_path / f".a.elsewhere-{2**22 + 1}-{token}-0.tmp").touch()
    (tmp_path / ".mine.tmp").touch()
    (tmp_path / f".b.{host}-{pid}-{token}-0.tmp").touch()  # being written by this process
    reused = tmp_path / f".c.{host}-{pid}-{'0' * 8}-0.tmp"  # an earlier process with our id
    reused.touch()
    assert clean_temps(tmp_path) == [reused]


def test_a_failing_write_leaves_nothing(tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.float64())])
    writer = PartWriter(tmp_path / "a.parquet", schema, group_rows=1)
    with pytest.raises(pa.ArrowException):
        writer.write(pa.RecordBatch.from_arrays([pa.array(["no number"])], names=["x"]))
    assert names(tmp_path) == []
    with pytest.raises(UsageError, match="JSON"):
        write_json_atomic(tmp_path / "a.json", {"x": float("nan")})
    (tmp_path / "file").touch()
    with pytest.raises(KdstatsError, match=r"cannot write .*file/a\.json"):
        write_json_atomic(tmp_path / "file" / "a.json", {})
    assert names(tmp_path) == ["file"]


RECORD = """
import sys, time, numpy as np
from kdstats.records.recorder import Recorder
folder, epochs, resume, hold, limit = sys.argv[1], *map(int, sys.argv[2:])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
start = resume
with Recorder(folder, classes=5, resume=bool(resume), meta={"digest": "d" * 16}) as rec:
    for epoch in range(start, epochs):
        rng = np.random.default_rng(epoch)
        rec.start_epoch(epoch)
        for step in range(8 if epoch < 2 else 600):
            n = 64
            t, s = rng.normal(size=(2, n, 5)).astype("f4")
            rec.add(step=step, sample_id=rng.integers(0, 9999, n), labels=rng.integers(0, 5, n),
                    teacher_logits=t, student_logits=s)
        if hold == epoch:
            print("ready", flush=True)
            time.sleep(60)
        rec.end_epoch()
"""


def table(run: Path) -> dict[str, np.ndarray]:
    batches = list(scan(run))
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def test_a_killed_run_keeps_its_epochs_and_resumes_to_the_same_rows(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    to_the_end(RECORD, whole, 3, 0, -1, 0)
    process = run_python(RECORD, cut, 3, 0, 2, 0)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not is_complete(RunPaths(cut))
    with pytest.raises(MissingError, match=r"no done\.json"):
        scan(cut)
    assert {int(b["epoch"][0]) for b in scan(cut, incomplete="allow")} == {0, 1}
    assert len(read_pools(cut, incomplete="allow")["n"]) == 16
    to_the_end(RECORD, cut, 3, 2, -1, 0)
    assert names(cut) == names(whole)
    one, other = table(whole), table(cut)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    np.testing.assert_array_equal(read_pools(whole)["mean_prob"], read_pools(cut)["mean_prob"])


def check_full_disk_then_resume(run: Path, process: subprocess.Popen[str]) -> None:
    _, err = process.communicate()
    assert process.returncode == 1, err
    assert "cannot write" in err
    assert "epoch=0002.parquet" in err
    assert "run the same command again" in err
    assert "Exception ignored" not in err
    assert names(run) == sorted(
        ["run.json", *(f"{kind}/epoch=000{k}.parquet" for kind in ("pools", "samples") for k in (0, 1))]
    )


def test_a_file_size_limit_is_a_clear_error_and_the_run_resumes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    check_full_disk_then_resume(run, run_python(RECORD, run, 3, 0, -1, 60_000))
    to_the_end(RECORD, run, 3, 2, -1, 0)
    assert verify_done(RunPaths(run)) == []
    assert sum(b.num_rows for b in scan(run)) == (8 + 8 + 600) * 64


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a tmpfs is not allowed here; the file size limit is tested instead")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)


def test_a_full_disk_is_a_clear_error_and_the_run_resumes(small_disk: Path) -> None:
    run = small_disk / "run"
    process = run_python(RECORD, run, 3, 0, -1, 0)
    check_full_disk_then_resume(run, process)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    to_the_end(RECORD, run, 3, 2, -1, 0)
    assert verify_done(RunPaths(run)) == []


def test_a_full_disk_does_not_touch_an_older_file(small_disk: Path) -> None:
    target = small_disk / "study.json"
    write_json_atomic(target, {"old": 1})
    with pytest.raises(KdstatsError, match="No space left"):
        write_json_atomic(target, {"new": "x" * 500_000})
    assert json.loads(target.read_text()) == {"old": 1}
    assert names(small_disk) == ["study.json"]


def test_done_lists_every_part_with_rows_bytes_and_hash(make_run: MakeRun) -> None:
    paths = RunPaths(make_run(epochs=2, steps=3, finish=False))
    assert not is_complete(paths)
    paths.metrics.write_text('{"epoch": 0}\n{"epoch": 1}\n')
    paths.last.write_bytes(b"weights")
    write_done(paths, {"note": "x"})
    done = read_done(paths)
    assert list(done["parts"]) == [
        "samples/epoch=0000.parquet", "samples/epoch=0001.parquet", "run.json", "metrics.jsonl",
        "pools.parquet", "last.safetensors",
    ]  # fmt: skip
    assert [part["rows"] for part in done["parts"].values()] == [48, 48, None, 2, 12, None]
    for name, part in done["parts"].items():
        path = paths.root / name
        sha = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout[:64]
        assert (part["sha256"], part["bytes"]) == (sha, path.stat().st_size)
    assert done["extra"] == {"note": "x"}
    assert is_complete(paths)
    assert verify_done(paths) == []


def test_verify_names_each_problem(make_run: MakeRun) -> None:
    paths = RunPaths(make_run(epochs=4, finish=False))
    paths.last.write_bytes(b"weights")
    write_done(paths)
    paths.last.write_bytes(b"Weights")  # same size
    paths.sample_part(0).unlink()
    with paths.sample_part(1).open("ab") as file:
        file.write(b"x")
    (paths.samples / "epoch=0009.parquet").write_bytes(b"")
    done = read_done(paths)
    done["parts"]["samples/epoch=0003.parquet"]["rows"] = 7
    write_json_atomic(paths.done, done)
    problems = verify_done(paths)
    expected = (
        "epoch=0000.parquet is missing",
        "epoch=0001.parquet has",
        "last.safetensors has another hash",
        "epoch=0003.parquet has 48 rows, done.json says 7",
        "epoch=0009.parquet is not listed",
    )
    for text in expected:
        assert sum(text in problem for problem in problems) == 1, (text, problems)
    assert len(problems) == 5
    assert not is_complete(paths)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "kdstats/done/9", "parts": {}}'])
def test_a_damaged_done_is_no_done(make_run: MakeRun, text: str) -> None:
    paths = RunPaths(make_run())
    paths.done.write_text(text)
    assert not is_complete(paths)
    with pytest.raises(MissingError, match=r"done\.json"):
        read_done(paths)


def test_a_damaged_part_is_never_declared_done(make_run: MakeRun) -> None:
    paths = RunPaths(make_run(finish=False))
    data = paths.sample_part(1).read_bytes()
    paths.sample_part(1).write_bytes(data[: len(data) // 2])
    with pytest.raises(MissingError, match=r"epoch=0001\.parquet is truncated"):
        write_done(paths)
    assert not paths.done.exists()


def test_merging_pools_survives_a_kill_between_its_steps(make_run: MakeRun) -> None:
    paths = RunPaths(make_run(epochs=4, finish=False))
    parts = {path: path.read_bytes() for path in sorted(paths.pool_parts.iterdir())}
    assert merge_pools(paths) == 24
    assert not paths.pool_parts.exists()
    expected = pq.read_table(paths.pools)
    paths.pool_parts.mkdir()
    for path in list(parts)[2:]:  # killed while removing parts: the first two are gone
        path.write_bytes(parts[path])
    with contextlib.suppress(MissingError):
        read_pools(paths.root, incomplete="allow")
        pytest.fail("a merge that was cut short must not be read")
    assert merge_pools(paths) == 24
    assert pq.read_table(paths.pools).equals(expected)
    assert expected["epoch"].to_pylist() == sorted(expected["epoch"].to_pylist())
    split_pools(paths)
    assert [pq.read_table(p).num_rows for p in sorted(paths.pool_parts.iterdir())] == [6] * 4
    assert merge_pools(paths) == 24


def runs_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset": "cifar100", "teacher": "t", "student": "s", "scheme": ["cutmix", "mixup"],
            "seed": [0, 1], "recipe_digest": "ab", "epochs": 240, "test_loss_last": [0.9, np.nan],
            "test_loss_best": [0.8, 1.0], "acc_last": [0.75, 0.74], "acc_best": [0.76, 0.75],
            "epoch_best": [200, 210], "excluded": [False, True], "reason": [None, "diverged"], "mine": [1, 2],
        }
    )  # fmt: skip


def test_a_study_table_comes_back_with_types_nulls_and_extra_columns(tmp_path: Path) -> None:
    study = StudyPaths(tmp_path)
    assert write_table(study.runs, "runs", runs_frame()) == 2
    frame = read_runs(tmp_path)
    assert frame["epochs"].dtype == np.int32
    assert frame["acc_last"].tolist() == [0.75, 0.74]
    assert frame["test_loss_last"].isna().tolist() == [False, True]
    assert frame["reason"].tolist()[1] == "diverged"
    assert frame["mine"].tolist() == [1, 2]
    with pytest.raises(MissingError, match="schema 'kdstats/runs/1'"):
        read_study(study.runs)


def test_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    with pytest.raises(MissingError, match="acc_last"):
        write_table(path, "runs", runs_frame().drop(columns="acc_last"))
    with pytest.raises(CheckError, match="'seed' holds 1 missing"):
        write_table(path, "runs", runs_frame().assign(seed=[0, None]))
    with pytest.raises(UsageError, match="'epochs'"):
        write_table(path, "runs", runs_frame().assign(epochs="many"))
    columns = {name: list(values) for name, values in runs_frame().items()} | {"mine": [1]}
    with pytest.raises(UsageError, match="differ in length"):
        write_table(path, "runs", columns)
    assert names(tmp_path) == []


def test_the_file_says_what_it_is(make_run: MakeRun) -> None:
    run = make_run(meta={"scheme": "cutmix", "seed": 3, "digest": "abc"})
    for name, version in (("samples/epoch=0000", "samples"), ("pools", "pools")):
        metadata = pq.read_schema(run / f"{name}.parquet").metadata
        assert metadata[b"kdstats.schema"] == f"kdstats/{version}/1".encode()
        assert metadata[b"kdstats.digest"] == b"abc"
        assert json.loads(metadata[b"kdstats.meta"])["identity"] == {"scheme": "cutmix", "seed": 3}


def test_files_are_flushed_before_they_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b))[1])
    write_json_atomic(tmp_path / "a.json", {})
    assert order == ["fsync", "replace", "fsync"]


def test_a_clean_recorder_writes_done_last(make_run: MakeRun) -> None:
    run = make_run()
    newest = max(
        (path for path in run.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns
    )
    assert newest == run / "done.json"


def by_pathlib(paths: RunPaths) -> list[str]:
    """What a quick look should say, one path at a time."""
    listed = read_done(paths)["parts"]
    problems = []
    for name, said in listed.items():
        path = paths.root / name
        if not path.is_file():
            problems.append(f"{path} is missing")
        elif path.stat().st_size != said["bytes"]:
            problems.append(f"{path} has {path.stat().st_size} bytes, done.json says {said['bytes']}")
    there = (
        sorted(paths.samples.iterdir(), key=lambda path: int(path.stem[6:])) if paths.samples.is_dir() else []
    )
    return problems + [
        f"{path} is not listed in done.json" for path in there if f"samples/{path.name}" not in listed
    ]


def test_a_quick_look_says_what_every_path_says(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = RunPaths(make_run(epochs=5, finish=False))
    paths.last.write_bytes(b"weights")
    paths.best.write_bytes(b"weights")
    write_done(paths)
    assert verify_done(paths, quick=True) == by_pathlib(paths) == []
    paths.sample_part(0).unlink()
    paths.sample_part(1).unlink()
    paths.sample_part(1).mkdir()
    paths.sample_part(2).write_bytes(b"")
    target = paths.sample_part(3).rename(paths.root / "kept")
    paths.sample_part(3).symlink_to(target)  # of the right size
    paths.best.unlink()
    paths.best.symlink_to("best.safetensors")  # to itself
    for epoch in (12, 9):
        paths.sample_part(epoch).write_bytes(b"")
    done = read_done(paths)
    some = done["parts"]["last.safetensors"]
    for odd in (
        "",
        ".",
        "no/such",
        "last.safetensors/below",
        "a" * 200,
        "a\0b",
        "samples//epoch=0004.parquet",
    ):
        done["parts"][odd] = some
    write_json_atomic(paths.done, done)
    expected = by_pathlib(paths)
    assert len(expected) == 13
    assert verify_done(paths, quick=True) == expected
    # What was read already is not read again.
    paths.done.unlink()
    assert verify_done(paths, quick=True, done=done) == expected

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refused)
        with pytest.raises(PermissionError):  # what cannot be seen is not called missing
            verify_done(paths, quick=True, done=done)
    shutil.rmtree(paths.samples)
    assert sum("missing" in problem for problem in verify_done(paths, quick=True, done=done)) == 13
    done["parts"]["a" * 300] = some  # longer than any file system's names
    assert f"{'a' * 300} is missing" in verify_done(paths, quick=True, done=done)[-1]


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_mark_or_a_log_is_not_waited_for(tmp_path):
    paths = RunPaths(tmp_path)
    for path in (paths.done, paths.metrics):
        os.mkfifo(path)
    with pytest.raises(MissingError, match="it is no regular file"):
        read_done(paths)
    assert whole_lines(paths.metrics) == []
    assert whole_epochs(paths.metrics) == 0
