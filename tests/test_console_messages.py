"""Messages quote names and texts from files of others: they must neither move the cursor nor fill the screen."""

from __future__ import annotations

import pytest

from kdstats.console import presentable, run_program
from kdstats.errors import MissingError


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no teacher at t.pth", "no teacher at t.pth"),
        ("±2 % · λ „größer“ – 日本", "±2 % · λ „größer“ – 日本"),
        ("a\x1b[31mred\x07", "a\\x1b[31mred\\x07"),
        ("a\rb\tc\x9bd", "a\\rb\\tc\\x9bd"),
        ("gpj\u202eexe.\u2028next", "gpj\\u202eexe.\\u2028next"),
        ("two of 9 runs failed\n  one\n  two", "two of 9 runs failed\n  one\n  two"),
        ("\udcff", "\\udcff"),
    ],
)
def test_control_characters_are_escaped(message, shown):
    assert presentable(message) == shown


def test_long_lines_are_cut_and_keep_their_end():
    text = presentable("no teacher at " + "x" * 5000 + "; the end")
    assert len(text) == 1000
    assert text.startswith("no teacher at xx")
    assert text.endswith("x; the end")
    assert " … " in text
    assert presentable("y" * 1000) == "y" * 1000


@pytest.mark.parametrize(
    ("error", "code"), [(MissingError("bad\x1b[2Jname" + "z" * 5000), 4), (RuntimeError("bad\x1b[2J"), 1)]
)
def test_every_failure_goes_through_it(error, code, capsys):
    def body():
        raise error

    assert run_program("kdstats", body) == code
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "bad\\x1b[2J" in said
    assert len(said) < 1100
