"""A real small study, run as a user runs it: to the end, again, with a failure, with a run left out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdstats.records.scanner import read_runs, read_study
from runners.study_file.sections import ExecutorSection

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
    plan = _call(file, out, "plan", "--workers", "2")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.startswith("6 runs = 1 pair × 3 schemes × 2 seeds (0 done)")
    assert "20 steps × 2 epochs" in plan.stdout
    assert "memory" in plan.stdout
    assert "carried out by: 2 processes" in plan.stdout
    assert not out.exists(), "a plan leaves nothing behind"

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
    attempts = ExecutorSection().attempts
    assert (victim.parent / "log.txt").read_text().count("Traceback") == attempts, "tried again, not for ever"
    assert len(read_runs(out)) == 5
    assert json.loads((out / "study.json").read_text())["runs"]["failed"][0]["scheme"] == "cutmix"

    shown = _call(file, out, "status").stdout
    assert "failed at epoch 2/2" in shown
    assert "6 runs: 5 done, 1 failed" in shown
    assert "last.safetensors" in shown, "the last line of its log"

    (victim.parent / "last.safetensors").rmdir()
    exclusion = '[[exclude]]\nscheme = "identity"\nseed = 0\nreason = "wrong day"\n'
    file.write_text(file.read_text() + exclusion)
    retried = _call(file, out, "retry")
    assert retried.returncode == 0, retried.stderr
    assert retried.stderr.count("  done") == 1, "retry takes up what failed and nothing else"
    assert _weights(out) == before
    runs = read_runs(out).set_index(["scheme", "seed"])
    assert runs["excluded"].sum() == 1
    assert runs.loc[("identity", 0), "reason"] == "wrong day"
    study = read_study(out).set_index("scheme")
    assert study.loc["identity", "seeds"] == 1
    assert study.loc["identity", "excluded"] == 1
    assert study.loc["identity", "test_loss"] == pytest.approx(runs.loc[("identity", 1), "test_loss_last"])


def test_a_wrong_file_is_answered_without_a_traceback(tmp_path):
    answer = _call(tmp_path / "none.toml", tmp_path / "out")
    assert answer.returncode == 4
    assert answer.stderr.startswith("runners.study: no study file at")
