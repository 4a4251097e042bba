"""``kdstats datasets get``: what is said before a download, and after."""

from __future__ import annotations

import sys

import pytest

from kdstats.cli import main
from kdstats.console import run_program
from kdstats.data import download as module
from kdstats.data.download import Archive


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.delenv("KDSTATS_OFFLINE", raising=False)

    def program(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kdstats", *map(str, arguments)])
        code = run_program("kdstats", main._run)
        return code, *capsys.readouterr()

    yield program
    monkeypatch.delenv("KDSTATS_OFFLINE", raising=False)


def test_offline_says_what_where_and_how(run, tmp_path):
    code, out, err = run("datasets", "get", "cifar-100", "--to", tmp_path / "my data", "--offline")
    assert (code, out) == (4, "")
    first = err.splitlines()[0]
    assert first.startswith("cifar-100-python.tar.gz, 169 MB, from https://www.cs.toronto.edu/")
    assert str(tmp_path / "my data") in first
    assert "downloads are switched off" in err
    assert not (tmp_path / "my data").exists()


def test_what_is_there_already_is_only_named(run, tmp_path, monkeypatch):
    body = b"x" * 100
    import hashlib

    found = Archive("tiny-imagenet-200.zip", ("http://127.0.0.1:9/x",), 100, hashlib.md5(body).hexdigest())
    monkeypatch.setitem(module.ARCHIVES, "tiny-imagenet", found)
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / found.file).write_bytes(body)
    code, out, _ = run("datasets", "get", "tiny-imagenet", "--to", tmp_path / "a b")
    assert code == 0
    assert out.strip().endswith(f"--data '{tmp_path}/a b/tiny-imagenet-200.zip' --teacher FILE")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("get",), "name the data set and a folder"),
        (("get", "cifar100"), "name the data set and a folder"),
        (("get", "digits", "--to", "x"), "digits is not downloaded by kdstats. It is part of scikit-learn."),
        (("get", "imagefolder", "--to", "x"), "Make folders train/<class>/"),
        (("get", "image-net", "--to", "x"), "Get ILSVRC 2012 from image-net.org"),
        (("get", "cifar101", "--to", "x"), "cifar100"),
        (("cifar100", "--to", "x"), "--to belongs to"),
    ],
)
def test_usage(run, words, said):
    code, _, err = run("datasets", *words)
    assert code == 2
    assert said in err
