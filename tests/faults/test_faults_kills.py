"""kill −9 of drivers and workers, signals, and two drivers at once: nothing complete is lost, nothing is there twice."""

import json
import random
import signal
import time

import psutil
import pytest
from study_under_fault import PATIENCE, at_work, call, same, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2 * PATIENCE)]


@pytest.fixture
def rng():
    return random.Random(7)


def _disturb(driver, out, victim, rng):
    """Kills a worker, or the driver, a moment after something was trained; whether anything was left to kill."""

    def over():
        return driver.process.poll() is not None

    wait_for(lambda: driver.workers() or over())
    before = len(list(out.rglob("done.json")))
    wait_for(lambda: list(out.rglob("state.pt")) or len(list(out.rglob("done.json"))) > before or over())
    time.sleep(rng.uniform(0, 0.5))
    if over():
        return False
    if victim == "worker" and (family := driver.workers()):
        rng.choice(family).kill()
        time.sleep(rng.uniform(0.5, 2.0))
    driver.kill()
    return True


def test_killed_three_times_at_random_moments(file, tmp_path, calm, start, rng):
    out = tmp_path / "out put"
    kills = 0
    for victim in ("worker", "driver", "worker"):
        kills += _disturb(start("run", file, "--out", out, "--workers", "2"), out, victim, rng)
    assert kills >= 2, "the study was over before anything could be killed"
    final = call("run", file, "--out", out, "--workers", "2")
    assert final.returncode == 0, final.stderr
    same(out, calm)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGUSR2, 143)])
def test_a_signal_stops_after_a_checkpoint(file, tmp_path, start, signum, code):
    out = tmp_path / "out"
    driver = start("run", file, "--out", out, "--workers", "2", "--set", "train.epochs=400")
    wait_for(lambda: len(at_work(out)) == 2 or driver.process.poll() is not None)
    family = driver.workers()
    returned, said = driver.end(signum)
    assert returned == code, said
    assert "Traceback" not in said
    assert family
    assert not any(worker.is_running() and worker.status() != "zombie" for worker in family)
    for metrics in out.rglob("metrics.jsonl"):
        # Stopped at the end of an epoch: what was recorded is what the state knows, and no owner is left behind.
        epochs = len(metrics.read_text().splitlines())
        assert len(list((metrics.parent / "samples").glob("epoch=*.parquet"))) == epochs
        assert not list(metrics.parent.glob(".claim-*"))
    assert not list(out.rglob("*.tmp"))
    assert not (out / ".stop").exists()


def _owner(out):
    """The process that owns the study; a contender, whose count is 0, is none."""
    for claim in out.glob(".claim-*"):
        try:
            said = json.loads(claim.read_text())
        except (OSError, ValueError):
            continue
        if int(said["beat"]):
            return said["pid"]
    return None


def test_two_drivers_at_once(file, tmp_path, calm, start):
    out = tmp_path / "out"
    both = [start("run", file, "--out", out, "--workers", "2") for _ in range(2)]
    wait_for(lambda: _owner(out))
    owner = psutil.Process(_owner(out))
    other = next(driver.process for driver in both if driver.process.pid != owner.pid)
    owner.suspend()  # however slow the other is, it meets an owner; one that sleeps is no dead one
    try:
        wait_for(lambda: other.poll() is not None)
    finally:
        owner.resume()
    said = [driver.process.communicate(timeout=PATIENCE)[1] for driver in both]
    codes = sorted(driver.process.returncode for driver in both)
    assert codes == [0, 2], said
    loser = said[0] if both[0].process.returncode == 2 else said[1]
    assert "another process is running the study" in loser
    assert f"process {next(d for d in both if d.process.returncode == 0).process.pid}" in loser
    same(out, calm)
