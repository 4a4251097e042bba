"""A look at a run reads ``done.json`` once and asks once for every part."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace

from kdstats.records.writer import write_done
from runners import recipes
from runners.executors.attempt import note_failure
from runners.run_spec import RunSpec
from runners.study import standing as room
from runners.study.standing import failed_before, standing

SPEC = RunSpec(
    "digits", None, "0" * 64, "resnet8", "t", "resnet8", "1" * 64, "lenet8", "cutmix", 0, recipes.get("digits")
)  # fmt: skip


def finished(spec, study, outcome=None):
    paths = spec.paths(study)
    paths.root.mkdir(parents=True)
    paths.metrics.write_text(json.dumps({"epoch": 1, "seconds": 3.0}) + "\n")
    paths.last.write_bytes(b"weights")
    write_done(paths, {"outcome": {"acc_last": 0.5} if outcome is None else outcome})
    return paths


def test_done_is_read_once_and_each_part_is_looked_at_once(tmp_path, monkeypatch):
    paths = finished(SPEC, tmp_path)
    reads, looks = [], Counter()
    read, stat = room.read_done, os.stat
    monkeypatch.setattr(room, "read_done", lambda p: reads.append(p) or read(p))
    monkeypatch.setattr("kdstats.records.writer.read_done", lambda p: reads.append(p) or read(p))
    monkeypatch.setattr(os, "stat", lambda file, *a, **k: looks.update([str(file)]) or stat(file, *a, **k))
    found = standing(SPEC, tmp_path)
    monkeypatch.undo()
    assert (found.state, found.accuracy) == ("done", 0.5)
    assert reads == [paths]
    assert looks[str(paths.metrics)] == looks[str(paths.last)] == 1


def test_what_is_not_complete_is_told_from_the_folder(tmp_path):
    specs = [replace(SPEC, seed=seed) for seed in range(6)]
    for spec, damage in zip(specs[:5], ("none", "gone", "grown", "torn", "bare"), strict=True):
        paths = finished(spec, tmp_path, {} if damage == "bare" else None)
        if damage == "gone":
            paths.last.unlink()
        if damage == "grown":
            paths.last.write_bytes(b"more weights")
        if damage == "torn":
            paths.done.write_text(paths.done.read_text()[:40])
    for spec in specs[:2]:  # the first came to its end in a later attempt
        note_failure(spec, spec.paths(tmp_path), "OSError: disk full", "traceback\n")
    found = [standing(spec, tmp_path) for spec in specs]
    assert [s.state for s in found] == ["done", "failed", "paused", "paused", "paused", "queued"]
    assert [s.epochs for s in found] == [30, 1, 1, 1, 1, 0]
    assert [s.accuracy for s in found] == [0.5, None, None, None, None, None]
    assert [(spec.seed, error) for spec, error in failed_before(specs, tmp_path)] == [
        (1, "OSError: disk full")
    ]


def test_the_pace_is_that_of_the_latest_epochs(tmp_path):
    metrics = SPEC.paths(tmp_path).metrics
    metrics.parent.mkdir(parents=True)
    # Two epochs beside other work, then a quiet machine, on which one epoch met something again.
    took = (900.0, 800.0, 10.0, 700.0, 12.0)
    metrics.write_text("".join(json.dumps({"epoch": i, "seconds": s}) + "\n" for i, s in enumerate(took, 1)))
    assert (standing(SPEC, tmp_path).epochs, standing(SPEC, tmp_path).per_epoch) == (5, 12.0)
