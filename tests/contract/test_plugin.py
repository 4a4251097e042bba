"""The worked example of docs/, built and installed for real, and used through the command in another process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KDSTATS = str(Path(sys.executable).with_name("kdstats"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the example; the source is copied, since building writes into it."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "docs" / "plugin-example", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(folder / "source")], check=True, timeout=120)
    return folder / "site"


def run(site: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    program = [KDSTATS, *words]
    done = subprocess.run(
        program, env=env, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def test_an_installed_plugin_is_a_scheme_like_any_other(site, tmp_path):
    rows = json.loads(run(site, "schemes", "list", "--format", "json").stdout)
    row = next(row for row in rows if row["name"] == "checkerboard")
    assert row["family"] == "mixing"
    assert row["reference"] == "an example, published nowhere"
    said = run(site, "schemes", "check", "checkerboard").stdout
    assert said.count("keeps all promises") == 8
    assert "at least 2 images" in said
    shown = run(site, "schemes", "show", "checkerboard", "--out", str(tmp_path / "sheet.png"))
    assert "every second square of a 4x4 checkerboard" in shown.stdout
    assert (tmp_path / "sheet.png").stat().st_size > 5000
    measured = run(
        site,
        *(
            "evaluate-da",
            "--scheme",
            "checkerboard(squares=2)",
            "--scheme",
            "pick(checkerboard)",
            "--tol",
            "0.2",
        ),
        *("--format", "json"),
    )
    names = [row["scheme"] for row in json.loads(measured.stdout)["results"]]
    assert names == ["checkerboard(squares=2)", "pick(checkerboard)", "identity"]


def test_its_own_tests_pass(site):
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    tests = ROOT / "docs" / "plugin-example" / "tests"
    program = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(tests),
        "--rootdir",
        str(tests),
    ]
    done = subprocess.run(program, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_without_it_there_is_none():
    done = subprocess.run(
        [KDSTATS, "schemes", "show", "checkerboard"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no scheme named 'checkerboard'" in done.stderr


def broken(folder: Path, entry: str, module: str) -> Path:
    """An installed distribution with one entry point, laid down by hand as pip would."""
    info = folder / "brokenplug-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brokenplug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[kdstats.schemes]\n{entry}\n")
    (folder / "brokenplug.py").write_text(module)
    return folder


@pytest.mark.parametrize(
    ("entry", "module", "said"),
    [
        ("mine = brokenplug:Mine", "raise RuntimeError('boom')", "does not load: RuntimeError: boom"),
        ("mine = brokenplug:Mine", "Mine = 3", "no subclass of kdstats.schemes.Scheme"),
        ("mine = brokenplug:Absent", "", "does not load: AttributeError"),
        ("mine = brokenplug:Mine", "raise SystemExit(0)", "does not load: SystemExit"),
    ],
)
def test_a_broken_plugin_is_named_and_the_rest_goes_on(tmp_path, entry, module, said):
    site = broken(tmp_path / "site", entry, module)
    done = run(site, "schemes", "show", "mine", code=2)
    assert said in done.stderr
    assert "brokenplug 1.0" in done.stderr
    assert "CutMix" in run(site, "schemes", "show", "cutmix").stdout
    listed = run(site, "schemes", "list")
    assert "cutmix_pick_teacher" in listed.stdout
    assert said in listed.stderr


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("cutmix = brokenplug:Mine", "names a scheme 'cutmix', which belongs to kdstats"),
        ("rm = brokenplug:Mine", "names a scheme 'rm', which belongs to kdstats"),
        ("My-Scheme = brokenplug:Mine", "use lower-case letters"),
        ("lambda = brokenplug:Mine", "no word of Python's"),
        ("original = brokenplug:Mine", "which belongs to kdstats"),
        ("wang2022 = brokenplug:Mine", "which belongs to kdstats"),
    ],
)
def test_a_plugin_cannot_take_a_name(tmp_path, entry, said):
    site = broken(tmp_path / "site", entry, "Mine = 3")
    done = run(site, "schemes", "list")
    assert said in done.stderr
    assert "CutMix" in run(site, "schemes", "show", "cutmix").stdout
