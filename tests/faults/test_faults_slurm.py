"""The jobs of a cluster, as submitit's processes on this machine, one of them pre-empted in the middle."""

import contextlib
import signal

import psutil
import pytest
from study_under_fault import PATIENCE, at_work, call, same, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2 * PATIENCE)]


def _jobs(driver):
    """The processes that carry out runs, not their controllers."""
    found = []
    for process in psutil.Process(driver.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # jobs end while we look
            if "submitit.core._submit" in process.cmdline():
                found.append(process)
    return found


def _held(driver, out):
    """Jobs in the middle of a run."""
    pids = at_work(out)
    return [job for job in _jobs(driver) if job.pid in pids]


def test_a_preempted_job_is_queued_again_and_continues(file, tmp_path, calm, start):
    out = tmp_path / "out – 数"
    words = ("--executor", "slurm", "--workers", "2", "--set", "executor.cluster=local")
    driver = start("run", file, "--out", out, *words)
    wait_for(lambda: _held(driver, out) or driver.process.poll() is not None)
    job = _held(driver, out)[0]
    job.send_signal(signal.SIGUSR2)
    _, said = driver.process.communicate(timeout=PATIENCE)
    assert driver.process.returncode == 0, said
    logs = [p.read_text() for p in (out / "slurm").rglob("*_log.out")]
    assert sum("Requeued job" in log for log in logs) == 1, "the signal came too late to pre-empt anything"
    same(out, calm)


def test_without_slurm_it_says_what_to_do(file, tmp_path):
    answer = call("run", file, "--out", tmp_path / "out", "--executor", "slurm")
    assert answer.returncode == 2
    assert "no sbatch here" in answer.stderr
