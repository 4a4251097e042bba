"""Reading a file of others: only a regular one, only so much of it, only text."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from kdstats.errors import MissingError
from kdstats.small_file import MOST, read_text_of


def test_a_text_is_read_through_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("µ\n", encoding="utf-8")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_text_of(tmp_path / "b") == "µ\n"


@pytest.mark.parametrize(("size", "fits"), [(10, True), (11, False)])
def test_the_limit_is_exact(tmp_path: Path, size: int, fits: bool) -> None:
    (tmp_path / "a").write_text("x" * size)
    if fits:
        assert len(read_text_of(tmp_path / "a", most=10)) == size
        return
    with pytest.raises(MissingError, match="a is not a readable text file: it has more than"):
        read_text_of(tmp_path / "a", most=10)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 20 << 30)
    (tmp_path / "latin").write_bytes(b"ab\xe9")
    said = {
        "pipe": "no regular file",
        "endless": "no regular file",
        "loop": "symbolic links",
        "huge": f"{MOST >> 20} MiB",
        "latin": "not UTF-8 at byte 2",
        "absent": "No such file",
        "a\0b": "null",
        ".": "directory",
    }
    found: dict[str, str] = {}

    def read() -> None:
        for name in said:
            try:
                read_text_of(tmp_path / name, "card")
            except MissingError as error:
                found[name] = str(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), f"it waits for {next(name for name in said if name not in found)}"
    assert found.keys() == said.keys()
    for name, text in said.items():
        assert "is not a readable card" in found[name]
        assert text in found[name]


def test_a_small_file_takes_little_memory_whatever_the_cap(tmp_path):
    (tmp_path / "log").write_text("{}\n")
    tracemalloc.start()
    try:
        assert read_text_of(tmp_path / "log", most=1 << 33) == "{}\n"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
