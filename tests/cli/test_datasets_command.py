"""``kdstats datasets``: cards, and the cache of decoded images."""

from __future__ import annotations

import csv
import io
import json
import sys

import numpy as np
import pytest

from kdstats import data
from kdstats.cli import main
from kdstats.console import run_program
from kdstats.data import cache


@pytest.fixture
def run(capsys, monkeypatch):
    def program(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kdstats", *map(str, arguments)])
        code = run_program("kdstats", main._run)
        return code, *capsys.readouterr()

    return program


@pytest.fixture
def filled(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSTATS_HOME", str(tmp_path))
    entry = cache.Entry(np.zeros((1000, 3, 32, 32), np.uint8), np.zeros(1000, np.int64), {})
    for name in ("cifar100-train", "cifar100-test", "tiny-imagenet-train-32px"):
        cache.cached(name, "d" * 64, lambda: entry)
    return tmp_path / "datasets"


def test_every_data_set_is_listed(run):
    rows = json.loads(run("datasets", "--format", "json")[1])
    assert [row["name"] for row in rows] == data.names()
    by_name = {row["name"]: row for row in rows}
    assert by_name["tiny-imagenet"]["classes"] == 200
    assert by_name["tiny-imagenet"]["base"] == "crop8+flip"
    assert by_name["imagefolder"]["classes"] is None
    _, out, _ = run("datasets")
    assert "from files" in next(line for line in out.splitlines() if line.startswith("imagefolder"))


def test_one_data_set_says_how_to_get_it(run):
    for name in ("cifar-10", "tiny_imagenet", "imagefolder", "digits"):
        code, out, err = run("datasets", name)
        assert (code, err) == (0, "")
        card = data.card(name)
        assert card.how in out
        assert card.constants in out
    facts = {r["name"]: r["value"] for r in json.loads(run("datasets", "cifar10", "--format", "json")[1])}
    assert facts["mean"] == "0.4914, 0.4822, 0.4465"
    assert facts["layout 1"].startswith("cifar-10-batches-py/ with data_batch_1")
    code, out, err = run("datasets", "cifar")
    assert (code, out) == (2, "")
    assert "'cifar'" in err


@pytest.mark.parametrize("command", [("datasets", "cifar10"), ("datasets", "--cache"), ("datasets", "clear")])
@pytest.mark.parametrize("fmt", ["table", "json", "csv", "md", "latex"])
def test_formats(run, filled, command, fmt):
    code, out, err = run(*command, "--format", fmt)
    assert code == 0
    if fmt == "json":
        assert json.loads(out)
    elif fmt == "csv":
        rows = list(csv.reader(io.StringIO(out)))
        assert len({len(row) for row in rows}) == 1
        assert len(rows) > 3
    else:
        assert out
    if fmt == "table" or "cifar10" in command:
        assert err == ""


def test_the_cache_is_shown(run, filled):
    code, out, err = run("datasets", "--cache")
    assert (code, err) == (0, "")
    assert f"3 entries, 9.2 MB, in {filled}" in out.splitlines()[-1]
    assert [line.split()[:2] for line in out.splitlines()[1:4]] == [
        ["cifar100", "test"],
        ["cifar100", "train"],
        ["tiny-imagenet", "train"],
    ]
    rows = json.loads(run("datasets", "--cache", "--format", "json")[1])
    assert rows[2]["img_size"] == 32
    assert rows[0]["path"] == str(filled / f"cifar100-test-{'d' * 16}")
    assert rows[0]["bytes"] == sum(f.stat().st_size for f in (filled / f"cifar100-test-{'d' * 16}").iterdir())
    # A data set narrows it.
    assert len(json.loads(run("datasets", "CIFAR-100", "--cache", "--format", "json")[1])) == 2


def test_an_empty_cache(run, tmp_path, monkeypatch):
    monkeypatch.setenv("KDSTATS_HOME", str(tmp_path / "none"))
    assert run("datasets", "--cache", "--format", "json")[:2] == (0, "[]\n")
    code, out, err = run("datasets", "clear")
    assert (code, err) == (0, "")
    assert "removed 0 entries" in out
    assert not (tmp_path / "none").exists()


def test_clearing(run, filled):
    (filled / "mine").mkdir()
    link = filled / f"cifar100-train-{'e' * 16}"
    link.symlink_to(filled / "mine")
    code, out, err = run("datasets", "clear", "cifar-100")
    assert code == 0
    assert f"removed 2 entries, 6.2 MB, from {filled}" in out
    assert err == f"kdstats: left alone: {link} (a link or not a folder)\n"
    assert sorted(p.name for p in filled.iterdir()) == sorted(
        ["mine", link.name, f"tiny-imagenet-train-32px-{'d' * 16}"]
    )
    code, out, err = run("datasets", "clear", "--format", "json")
    assert [row["dataset"] for row in json.loads(out)] == ["tiny-imagenet"]
    assert "removed 1 entry, 3.1 MB" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clear", "cifar"], ["no data set named 'cifar'", "cifar10"]),
        (["cler", "cifar100"], ["'cifar100' is one word too many", "Did you mean 'clear'?"]),
        (["cifar10", "cifar100"], ["one word too many"]),
        (["clear", "--cache"], ["choose one"]),
        (["--cache", "--format", "yaml"], ["yaml"]),
        (["clear", "a", "b"], ["b"]),
    ],
)
def test_what_makes_no_sense(run, filled, arguments, words):
    code, out, err = run("datasets", *arguments)
    assert (code, out) == (2, "")
    for word in words:
        assert word in err
    assert len(list(filled.iterdir())) == 3
