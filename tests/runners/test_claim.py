"""One owner at a time: dead owners, owners of other machines, owners that slept, and clocks that jump."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from kdstats.errors import KdstatsError
from runners import claim as module
from runners.claim import Claim, LostClaim, running, touched


def _foreign(folder, *, beat, name="f"):
    """A claim as another machine would write it."""
    path = folder / f".claim-{name}"
    said = {"host": "elsewhere", "machine": "elsewhere boot", "pid": 1, "birth": "1", "since": "then"}
    path.write_text(json.dumps(said | {"beat": f"{beat:012d}"}))
    return path


def test_one_owner_and_after_its_release_the_next(tmp_path):
    first, second = Claim(tmp_path), Claim(tmp_path)
    assert first.attempt() is None
    owner = second.attempt()
    assert owner is not None
    assert owner.pid == os.getpid()
    assert running(tmp_path)
    first.release()
    first.release()
    assert not touched(tmp_path)
    with second:
        assert second.attempt() is None
    assert not touched(tmp_path)


def test_a_dead_process_on_this_machine_is_followed_at_once(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from runners.claim import Claim\n"
        "assert Claim(Path(sys.argv[1])).attempt() is None; os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=os.getcwd())
    assert touched(tmp_path)
    assert not running(tmp_path)
    with Claim(tmp_path, patience=1e9) as claim:
        assert claim.settle() is None
        assert len(list(tmp_path.glob(".claim-*"))) == 1, "the next owner removes what the dead one left"


def test_a_reused_process_id_is_no_owner(tmp_path):
    said = module._self() | {"birth": "1", "beat": f"{3:012d}"}
    (tmp_path / ".claim-old").write_text(json.dumps(said))
    with Claim(tmp_path, patience=1e9) as claim:
        assert claim.attempt() is None


def test_a_silent_owner_elsewhere_is_dead_after_patience_and_not_before(tmp_path):
    _foreign(tmp_path, beat=9)
    claim = Claim(tmp_path, beat=0.02, patience=0.3)
    began = time.monotonic()
    assert str(claim.attempt()).startswith("process 1 on elsewhere")
    assert claim.settle() is None
    assert time.monotonic() - began >= 0.3
    claim.release()


def test_an_owner_elsewhere_that_counts_lives(tmp_path):
    path = _foreign(tmp_path, beat=1)
    stop = threading.Event()

    def live():
        beat = 1
        while not stop.wait(0.02):
            beat += 1
            path.write_text(path.read_text().rsplit(":", 1)[0] + f': "{beat:012d}"}}')

    thread = threading.Thread(target=live)
    thread.start()
    try:
        assert Claim(tmp_path, beat=0.1, patience=0.2).settle() is not None
    finally:
        stop.set()
        thread.join()


def test_wall_clocks_may_jump(tmp_path, monkeypatch):
    holder = Claim(tmp_path, beat=0.02, patience=0.2)
    assert holder.attempt() is None
    content = next(tmp_path.glob(".claim-*")).read_bytes()
    monkeypatch.setattr(module, "_dead", lambda content: None)  # as seen from another machine
    for jump in (-1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.7e9 + jump)
        os.utime(holder.path, (jump + 2e6, jump + 2e6))
        assert Claim(tmp_path, beat=0.1, patience=0.3).settle() is not None
    assert holder.path.read_bytes() != content, "it counted on"
    holder.check()
    holder.release()


def test_an_owner_that_slept_learns_that_it_was_followed(tmp_path, monkeypatch):
    sleeper = Claim(tmp_path, beat=1e9)
    assert sleeper.attempt() is None
    monkeypatch.setattr(module, "_dead", lambda content: None)
    follower = Claim(tmp_path, beat=0.02, patience=0.1)
    assert follower.settle() is None
    with pytest.raises(LostClaim, match="taken over"):
        sleeper.check()
    sleeper.release()
    follower.check()
    assert follower.path.exists(), "the old owner must not remove the new one's claim"
    follower.release()


def test_a_beat_does_not_bring_a_removed_claim_back(tmp_path):
    claim = Claim(tmp_path, beat=0.01)
    assert claim.attempt() is None
    claim.path.unlink()
    time.sleep(0.1)
    assert not touched(tmp_path)
    claim.release()


def _contend(folder, rounds, barrier, failures):
    for _ in range(rounds):
        barrier.wait()
        claim = Claim(folder, beat=0.05)
        while claim.attempt() is not None:
            claim.pause()
        try:
            mine = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            failures.value += 1
        else:
            time.sleep(0.002)
            os.close(mine)
            (folder / "inside").unlink()
        claim.release()


def test_four_at_once_are_never_two_inside(tmp_path):
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    barrier, failures = context.Barrier(4), context.Value("i", 0)
    workers = [context.Process(target=_contend, args=(tmp_path, 8, barrier, failures)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert failures.value == 0


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KdstatsError, match="cannot write"):
        Claim(tmp_path / "none").attempt()


def test_a_torn_claim_is_waited_for_not_trusted(tmp_path):
    (tmp_path / ".claim-torn").write_bytes(b'{"host": "x", "pi')
    claim = Claim(tmp_path, beat=0.02, patience=0.2)
    assert claim.attempt() is not None
    assert claim.settle() is None
    claim.release()


def _odd(folder):
    """What bears the name of a claim and is no file, or can never be read."""
    os.mkfifo(folder / ".claim-pipe")
    (folder / ".claim-folder").mkdir()
    (folder / ".claim-nowhere").symlink_to(folder / "nothing")
    (folder / ".claim-to-pipe").symlink_to(folder / ".claim-pipe")
    return {path.name for path in folder.iterdir()}


@pytest.mark.timeout(30)
def test_a_pipe_of_that_name_is_no_owner_and_nobody_waits_for_it(tmp_path):
    names = _odd(tmp_path)
    assert not running(tmp_path)
    claim = Claim(tmp_path, beat=0.02, patience=1e9)
    assert claim.settle() is None
    other = Claim(tmp_path, beat=0.02, patience=1e9)
    assert other.settle() is not None, "a real owner is still seen among them"
    assert running(tmp_path)
    claim.check()
    claim.release()
    assert {path.name for path in tmp_path.iterdir()} == names, "what is not ours stays"


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff\xfe\x00", b"null", b'{"pid": "7", "since": []}', b'{"machine": 3, "pid": 1}'],
)
def test_a_claim_that_says_nothing_sensible_is_dead_after_patience(tmp_path, content):
    (tmp_path / ".claim-odd").write_bytes(content)
    claim = Claim(tmp_path, beat=0.02, patience=0.1)
    assert str(claim.attempt()).startswith("process ")
    assert claim.settle() is None
    claim.release()
    assert not touched(tmp_path)
