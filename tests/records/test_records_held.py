"""Rows of an open epoch on disk: going on in the middle gives the rows of a run that never stopped."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from kdstats.errors import KdstatsError, MissingError, UsageError
from kdstats.records import held
from kdstats.records.paths import RunPaths
from kdstats.records.recorder import Recorder
from kdstats.records.scanner import scan
from kdstats.records.writer import verify_done

CLASSES, SIZE = 7, 13


def batch(epoch: int, step: int):
    rng = np.random.default_rng([epoch, step])
    logits = rng.normal(size=(4, SIZE, CLASSES)).astype(np.float32)
    ids = rng.integers(0, 1000, SIZE)
    return ids, ids % CLASSES, logits


def feed(rec: Recorder, epoch: int, steps: range) -> None:
    for step in steps:
        ids, labels, logits = batch(epoch, step)
        for view, (t, s) in (("original", logits[:2]), ("augmented", logits[2:])):
            rec.add(
                step=step,
                sample_id=ids,
                labels=labels,
                teacher_logits=t,
                student_logits=s,
                view=view,
                lam=0.5,
            )


def rows(root):
    found = list(scan([RunPaths(root)]))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def pools(root):
    return pq.read_table(root / "pools.parquet").to_pydict()


@pytest.fixture
def whole(tmp_path):
    root = tmp_path / "whole"
    with Recorder(root, classes=CLASSES, meta={"digest": "ab" * 8}) as rec:
        for epoch in (1, 2):
            rec.start_epoch(epoch)
            feed(rec, epoch, range(40))
            rec.end_epoch()
    return root


def same(a, b):
    for one, other in ((rows(a), rows(b)), (pools(a), pools(b))):
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(other[name]), err_msg=name)


def recorder(root, resume=False):
    return Recorder(root, classes=CLASSES, meta={"digest": "ab" * 8}, resume=resume)


@pytest.mark.parametrize("holds", [(3,), (3, 4, 21), (40,), (1, 40)])
def test_holding_changes_no_row(whole, tmp_path, holds):
    root = tmp_path / "held-run"
    with recorder(root) as rec:
        for epoch in (1, 2):
            rec.start_epoch(epoch)
            at = 0
            for stop in holds:
                feed(rec, epoch, range(at, stop))
                rec.hold(stop)
                at = stop
            feed(rec, epoch, range(at, 40))
            rec.end_epoch()
    same(whole, root)
    assert verify_done(RunPaths(root)) == []
    assert not (root / "held").exists()


@pytest.mark.parametrize("stop", [1, 17, 39])
def test_a_run_killed_after_a_hold_goes_on_from_it(whole, tmp_path, stop):
    root = tmp_path / "killed"
    rec = recorder(root)
    rec.start_epoch(1)
    feed(rec, 1, range(40))
    rec.end_epoch()
    rec.start_epoch(2)
    feed(rec, 2, range(stop))
    rec.hold(stop)
    feed(rec, 2, range(stop, 40))  # these are lost with the process
    rec.abort()
    with recorder(root, resume=True) as rec:
        rec.start_epoch(2, stop)
        feed(rec, 2, range(stop, 40))
        rec.end_epoch()
    same(whole, root)


def test_a_later_hold_that_the_state_does_not_know_is_dropped(whole, tmp_path):
    root = tmp_path / "later"
    rec = recorder(root)
    rec.start_epoch(1)
    feed(rec, 1, range(40))
    rec.end_epoch()
    rec.start_epoch(2)
    for first, stop in ((0, 5), (5, 9), (9, 30)):
        feed(rec, 2, range(first, stop))
        rec.hold(stop)
    rec.abort()
    with recorder(root, resume=True) as rec:
        rec.start_epoch(2, 9)
        feed(rec, 2, range(9, 40))
        rec.end_epoch()
    same(whole, root)


def test_an_epoch_started_anew_forgets_what_was_held(whole, tmp_path):
    root = tmp_path / "anew"
    rec = recorder(root)
    rec.start_epoch(1)
    feed(rec, 1, range(5))
    rec.hold(5)
    rec.abort()
    with recorder(root, resume=True) as rec:
        for epoch in (1, 2):
            rec.start_epoch(epoch)
            feed(rec, epoch, range(40))
            rec.end_epoch()
    same(whole, root)


def test_half_a_piece_and_a_gap_are_refused(tmp_path):
    root = tmp_path / "gap"
    rec = recorder(root)
    rec.start_epoch(1)
    for first, stop in ((0, 5), (5, 9)):
        feed(rec, 1, range(first, stop))
        rec.hold(stop)
    rec.abort()
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    next((root / "held").glob("*00000005.samples.parquet")).unlink()
    with pytest.raises(
        MissingError, match="holds the steps before 0 of epoch 1, the state goes on from step 9"
    ):
        recorder(root, resume=True).start_epoch(1, 9)
    with pytest.raises(MissingError, match="before 9 of epoch 1, the state goes on from step 12"):
        recorder(copy, resume=True).start_epoch(1, 12)


def test_a_damaged_piece_is_named_and_the_epoch_not_written(tmp_path):
    root = tmp_path / "damaged"
    rec = recorder(root)
    rec.start_epoch(1)
    feed(rec, 1, range(5))
    rec.hold(5)
    piece = next((root / "held").glob("*.samples.parquet"))
    piece.write_bytes(piece.read_bytes()[:-40])
    feed(rec, 1, range(5, 8))
    with pytest.raises(KdstatsError, match="samples.parquet"):
        rec.end_epoch()
    assert not list((root / "samples").glob("epoch=*.parquet"))


def test_what_makes_no_sense_is_refused(tmp_path):
    rec = recorder(tmp_path / "senseless")
    with pytest.raises(UsageError, match="hold without start_epoch"):
        rec.hold(1)
    rec.start_epoch(1)
    feed(rec, 1, range(5))
    rec.hold(5)
    with pytest.raises(UsageError, match="before step 5 are held already"):
        rec.hold(5)
    with pytest.raises(UsageError, match="step 4 of epoch 1 lies before step 5"):
        feed(rec, 1, range(4, 5))
    rec.abort()


def test_an_epoch_that_is_not_recorded_holds_nothing(tmp_path):
    root = tmp_path / "thin"
    with Recorder(root, classes=CLASSES, every=2) as rec:
        rec.start_epoch(1)
        feed(rec, 1, range(5))
        rec.hold(5)
        feed(rec, 1, range(5, 7))
        rec.start_epoch(2)
        feed(rec, 2, range(3))
    assert not held.held(RunPaths(root))
    assert set(rows(root)["epoch"]) == {2}
