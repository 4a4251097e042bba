"""The wheel as a stranger gets it: kdstats alone, whole, working from another directory."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # A copy without the working tree's leftovers: what is built is what git tracks.
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "-w", folder, source], check=True, capture_output=True)
    (found,) = folder.glob("kdstats-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel unpacked elsewhere; its dependencies are those of this environment."""
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def _run(installed, cwd, *words):
    env = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-P", "-m", "kdstats.cli.main", *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def test_the_wheel_holds_kdstats_alone_and_all_of_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"kdstats"}
    for needed in (
        "kdstats/py.typed",
        "kdstats/teacher/shipped/digits-resnet8.safetensors",
        "kdstats/teacher/shipped/digits-resnet8.json",
        "kdstats/published/wang2022_points.csv",
        "kdstats/pages/templates/base.html.j2",
    ):
        assert needed in names
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "kdstats").rglob("*.py")}
    assert modules <= set(names)


def test_the_commands_work_from_another_directory(installed, tmp_path):
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import kdstats; print(kdstats.__file__)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(installed)), "the checkout was imported instead of the wheel"
    answer = _run(installed, tmp_path, "evaluate-da", "--scheme", "cutmix", "--tol", "0.2", "--out", "out")
    assert answer.returncode == 0, answer.stderr
    assert "cutmix" in answer.stdout
    assert (tmp_path / "out" / "index.html").stat().st_size > 10_000
    plot = _run(installed, tmp_path, "correlate", "--published", "wang2022", "--plot", "x.png")
    assert plot.returncode == 0, plot.stderr
    assert (tmp_path / "x.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
