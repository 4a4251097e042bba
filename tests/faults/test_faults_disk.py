"""A full disk and a folder that cannot be written to: one clear sentence, and the same command continues."""

import os
import resource
import subprocess
from pathlib import Path

import pytest
from study_under_fault import PATIENCE, call, same

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2 * PATIENCE)]


def _mount(folder, options):
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    return made.returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A folder with little room, how a process is told so, and how room is made.

    A file system of 200 KB; where mounting is not allowed, a limit on the size of any one file.
    """
    folder = tmp_path / "small disk"
    folder.mkdir()
    if _mount(folder, "size=200k"):
        yield folder, {}, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        limit = 20_000  # less than the samples of an epoch take

        def little() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        yield folder, {"preexec_fn": little}, lambda: None


def test_a_full_disk_stops_the_study_and_room_continues_it(file, small_disk, calm):
    folder, limits, make_room = small_disk
    out = folder / "out"
    full = call("run", file, "--out", out, "--workers", "2", **limits)
    assert full.returncode == 3, full.stderr
    assert "no space left" in full.stderr
    assert "Free some space and run the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    assert full.stderr.count("FAILED") == 1, "the other runs could not go on either"
    assert not list(out.rglob("*.tmp"))
    make_room()
    again = call("run", file, "--out", out, "--workers", "2")
    assert again.returncode == 0, again.stderr
    same(out, calm)


def test_a_folder_that_cannot_be_written_to(file, tmp_path):
    out = tmp_path / "read only"
    out.mkdir()
    if os.geteuid() == 0:  # root writes whatever the mode says; a read-only mount holds for it too
        assert _mount(out, "ro"), "root that may not mount: run the tests as another user"
    else:
        out.chmod(0o500)
    try:
        answer = call("run", file, "--out", out)
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", str(out)], check=True)
        else:
            out.chmod(0o700)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"runners.study: cannot write {out}")
    assert "Read-only" in answer.stderr or "Permission" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_file_where_the_folder_belongs(file, tmp_path):
    (tmp_path / "out").write_text("")
    answer = call("run", file, "--out", tmp_path / "out")
    assert answer.returncode == 1
    assert "cannot write" in answer.stderr
    assert Path(tmp_path / "out").is_file()
