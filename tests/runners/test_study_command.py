"""What the command says before it reads a study needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "numpy", "scipy", "pandas", "pyarrow", "pydantic", "rich"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from runners.study.command import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("words", [("status", "--help"), ("report", "--help"), ("init", "FILE.toml")])
def test_help_and_init_load_nothing_heavy(tmp_path, words):
    words = [str(tmp_path / word) if word == "FILE.toml" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
