"""A real small study, run as a user runs it: to the end, again, with a failure, with a killed worker."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kdstats.records.scanner import read_runs, read_study

ROOT = Path(__file__).parents[2]
STUDY = """
[study]
name = "small"
[grid]
pairs = ["resnet8/lenet8"]
schemes = ["identity", "cutmix", "cutmix_pick_student"]
seeds = [0, 1]
[teacher.resnet8]
weights = "shipped"
[train]
epochs = {epochs}
[probe]
tol = 0.2
[report]
build = false
"""


def _command(file, out, verb="run", *extra):
    return [sys.executable, "-m", "runners.study", verb, str(file), "--out", str(out), *extra]


def _call(*args):
    env = {k: v for k, v in os.environ.items() if k != "KDSTATS_TRACEBACK"}
    return subprocess.run(_command(*args), cwd=ROOT, capture_output=True, text=True, env=env, timeout=300)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a study.toml"
    path.write_text(STUDY.format(epochs=2))
    return path


def _weights(out):
    return {
        p.parent.parent.parent.name + p.parent.parent.name: p.read_bytes()
        for p in out.rglob("last.safetensors")
    }


def test_a_study_ends_continues_and_isolates_a_failure(file, tmp_path):
    out = tmp_path / "out put"
    plan = _call(file, out, "plan")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.startswith("6 runs = 1 pair × 3 schemes × 2 seeds (0 done)")
    planned = _call(file, out, "status")
    assert planned.stdout.count("queued") == 6

    first = _call(file, out)
    assert first.returncode == 0, first.stderr
    study = read_study(out).set_index("scheme")
    assert set(study.index) == {"identity", "cutmix", "cutmix_pick_student"}
    assert (study["seeds"] == 2).all()
    assert study["t_stddev"].between(0.001, 0.1).all()
    assert study["test_loss_sd"].notna().all()
    runs = read_runs(out)
    assert runs.groupby("scheme")["test_loss_last"].mean()["cutmix"] == pytest.approx(
        study.test_loss["cutmix"]
    )
    card = json.loads((out / "study.json").read_text())
    assert card["runs"] == {"planned": 6, "done": 6, "failed": []}

    before = _weights(out)
    second = _call(file, out)
    assert second.returncode == 0
    assert "seed" not in second.stderr, "a complete study trains nothing"
    assert _weights(out) == before

    # One run loses its end and cannot be written again: a folder stands where its weights belong.
    victim = next(p for p in out.rglob("done.json") if "cutmix/seed=1" in p.as_posix())
    victim.unlink()
    (victim.parent / "last.safetensors").unlink()
    (victim.parent / "last.safetensors").mkdir()
    third = _call(file, out)
    assert third.returncode == 3
    assert "1 of 6 runs failed" in third.stderr
    assert "Traceback" not in third.stderr
    assert (victim.parent / "log.txt").read_text().count("Traceback") == 1
    assert len(read_runs(out)) == 5
    assert json.loads((out / "study.json").read_text())["runs"]["failed"][0]["scheme"] == "cutmix"

    (victim.parent / "last.safetensors").rmdir()
    assert _call(file, out).returncode == 0
    assert _weights(out) == before


def test_killed_workers_and_a_killed_driver_lose_nothing(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(STUDY.format(epochs=6))
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    assert _call(file, calm).returncode == 0

    def begin():
        return subprocess.Popen(
            _command(file, rough), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def workers(driver):
        children = psutil.Process(driver.pid).children(recursive=True)
        return [c for c in children if "spawn_main" in " ".join(c.cmdline())]

    def wait_for(condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    driver = begin()
    wait_for(lambda: list(rough.rglob("state.pt")))
    workers(driver)[0].kill()
    wait_for(lambda: list(rough.rglob("done.json")))
    family = workers(driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, "a worker outlived its driver and would write beside the next one's"

    driver = begin()
    wait_for(lambda: workers(driver))  # by then the driver has its signal handlers
    driver.send_signal(signal.SIGTERM)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 143, said

    assert _call(file, rough).returncode == 0
    assert _weights(rough) == _weights(calm)
    assert not list(rough.rglob("*.tmp"))


def test_two_drivers_at_once_are_told_apart(file, tmp_path):
    import filelock

    out = tmp_path / "out"
    out.mkdir()
    with filelock.FileLock(out / ".lock"):
        answer = _call(file, out)
    assert answer.returncode == 2
    assert "another process" in answer.stderr


def test_a_wrong_file_is_answered_without_a_traceback(tmp_path):
    answer = _call(tmp_path / "none.toml", tmp_path / "out")
    assert answer.returncode == 4
    assert answer.stderr.startswith("runners.study: no study file at")
