"""``kdstats doctor`` says what is there, what is missing, and what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

KDSTATS = str(Path(sys.executable).with_name("kdstats"))


def doctor(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("KDSTATS_")}
    return subprocess.run(
        [KDSTATS, "doctor", *words],
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {row["what"]: row for row in json.loads(done.stdout)}


def test_what_is_there(tmp_path):
    (tmp_path / "data" / "cifar100").mkdir(parents=True)
    env = {
        "KDSTATS_HOME": str(tmp_path / "home"),
        "KDSTATS_DATA": str(tmp_path / "data"),
        "KDSTATS_OFFLINE": "1",
    }
    done = doctor("--format", "json", **env)
    assert done.returncode == 0, done.stderr
    found = rows(done)
    import torch

    assert (
        found["torch"]["found"] == torch.__version__.partition("+")[0]
        or torch.__version__ in found["torch"]["found"]
    )
    assert str(tmp_path / "home") in found["cache"]["found"]
    assert "GiB free" in found["cache"]["found"]
    assert found["data"]["found"].endswith(": cifar100")
    assert found["downloads"]["found"] == "switched off (KDSTATS_OFFLINE)"
    assert f"{os.cpu_count()} cores" in found["processor"]["found"]


def test_what_is_missing_ends_with_4_and_advice(tmp_path):
    done = doctor("--format", "json", KDSTATS_DATA=str(tmp_path / "nowhere"), KDSTATS_HOME=str(tmp_path))
    assert done.returncode == 4
    assert rows(done)["data"]["verdict"] == "missing"
    assert rows(done)["data"]["advice"]
    table = doctor(KDSTATS_HOME=str(tmp_path))
    assert table.returncode == 0
    assert table.stdout.startswith("what")
    assert "KDSTATS_DATA is not set" in table.stdout


def test_a_cache_that_cannot_be_written_is_a_note(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    found = rows(doctor("--format", "json", KDSTATS_HOME=str(blocked / "inside")))
    assert "cannot be written" in found["cache"]["found"]
    assert "KDSTATS_HOME" in found["cache"]["advice"]


def test_plugins_that_do_not_load_are_named(tmp_path):
    info = tmp_path / "site" / "badplug-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: badplug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[kdstats.schemes]\nmine = nosuchmodule:Mine\ncutmix = nosuchmodule:Mine\n"
    )
    done = doctor("--format", "json", PYTHONPATH=str(tmp_path / "site"), KDSTATS_HOME=str(tmp_path))
    assert done.returncode == 4
    said = [row["found"] for row in json.loads(done.stdout) if row["what"] == "plug-in"]
    assert any("does not load: ModuleNotFoundError" in text for text in said)
    assert any("'cutmix', which belongs to kdstats" in text for text in said)
