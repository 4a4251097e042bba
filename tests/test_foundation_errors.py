from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdstats import __version__, console, provenance
from kdstats.allocator import keep_pages
from kdstats.errors import (
    CheckError,
    IncompleteError,
    KdstatsError,
    MissingError,
    UsageError,
    nearest,
    unknown,
)


def test_exit_codes():
    codes = {
        c.__name__: c.exit_code for c in (KdstatsError, UsageError, IncompleteError, MissingError, CheckError)
    }
    assert codes == {
        "KdstatsError": 1,
        "UsageError": 2,
        "IncompleteError": 3,
        "MissingError": 4,
        "CheckError": 5,
    }
    assert issubclass(UsageError, ValueError)
    assert issubclass(MissingError, FileNotFoundError)
    assert str(MissingError("no file")) == "no file"
    assert str(MissingError()) == ""


def test_nearest_names():
    known = ["identity", "cutmix", "cutmix_pick_student", "mixup", "flip"]
    assert nearest("cutmx", known)[0] == "cutmix"
    assert nearest("CUTMIX", known)[0] == "cutmix"
    assert nearest("qqqq", known) == []
    assert nearest("", known) == []
    assert len(nearest("cutmix", known, n=1)) == 1
    assert str(unknown("scheme", "cutmx", known, "Ask.")).startswith(
        "no scheme named 'cutmx'. Did you mean 'cutmix'"
    )
    assert str(unknown("scheme", "cutmx", known, "Ask.")).endswith("? Ask.")
    assert "Known: identity, cutmix" in str(unknown("scheme", "qqqq", known))
    assert ", …" in str(unknown("thing", "zzz", [f"name{i}" for i in range(20)]))
    assert str(unknown("thing", "zzz", [])) == "no thing named 'zzz'."
    assert isinstance(unknown("a", "b", []), UsageError)


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (UsageError("bad option"), 2, "p: bad option\n"),
        (IncompleteError("two runs failed"), 3, "p: two runs failed\n"),
        (MissingError("no file"), 4, "p: no file\n"),
        (CheckError("nan"), 5, "p: nan\n"),
        (KeyboardInterrupt(), 130, "p: interrupted"),
        (console.Terminated(), 143, "p: terminated"),
        (OSError(28, "No space left on device", "/disk/x"), 1, "p: No space left on device: /disk/x\n"),
        (RuntimeError("boom"), 1, "p: unexpected RuntimeError: boom"),
    ],
)
def test_how_a_program_ends(raised, code, text, capsys):
    def body() -> int:
        raise raised

    before = signal.getsignal(signal.SIGTERM)
    assert console.run_program("p", body) == code
    assert signal.getsignal(signal.SIGTERM) is before
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(text)
    assert "Traceback" not in err


def test_return_values_and_traceback(capsys, monkeypatch):
    assert console.run_program("p", lambda: None) == 0
    assert console.run_program("p", lambda: 3) == 3
    monkeypatch.setenv("KDSTATS_TRACEBACK", "1")

    def body() -> int:
        raise UsageError("bad")

    assert console.run_program("p", body) == 2
    assert "Traceback" in capsys.readouterr().err


def test_sigterm_ends_a_program_with_143():
    code = (
        "import os, signal, sys\nfrom kdstats.console import run_program\n"
        "def body():\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(5)\n"
        "    except Exception: return 0\n"
        "sys.exit(run_program('p', body))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert found.returncode == 143
    assert "terminated" in found.stderr


def test_a_reader_that_leaves_is_no_error():
    code = (
        "import sys\nfrom kdstats.console import run_program\n"
        "def body():\n    for i in range(100000): print(i)\n"
        "sys.exit(run_program('p', body))"
    )
    found = subprocess.run(
        f'set -o pipefail; {sys.executable} -c "{code}" | head -1',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "0\n", "")


def test_provenance(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"abc")
    assert provenance.sha256_file(tmp_path / "f").startswith("ba7816bf8f01cfea")
    found = provenance.provenance("cpu")
    assert set(found) >= {"version", "git", "python", "torch", "device", "machine", "command"}
    assert (found["device"], found["version"]) == ("cpu", __version__)
    assert provenance.now().endswith("Z")
    assert len(provenance.now()) == 20
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kdstats", "evaluate-da", "--out", "a b"])
    assert provenance.command_line() == "kdstats evaluate-da --out 'a b'"
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "kdstats" / "provenance.py"))
    assert provenance.git_commit() is None


def test_torch_is_named_only_where_it_is_loaded():
    code = "from kdstats.provenance import provenance; import sys; print(provenance()['torch'], 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["None", "False"]


@pytest.mark.skipif(not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="glibc's mallopt is asked")
def test_the_allocator_takes_the_thresholds():
    assert keep_pages() is True


def test_other_platforms_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_pages() is False
