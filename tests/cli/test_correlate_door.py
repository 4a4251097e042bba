"""Whatever the file holds, the answer is a result or one sentence, never a traceback."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdstats.cli.correlate import command as subject
from kdstats.console import run_program

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("correlate")(subject.command)
ALLOWED = {0, 2, 4, 5}


def answer(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_program(
            "kdstats", lambda: int(app([str(a) for a in arguments], standalone_mode=False) or 0)
        )
    return code, out.getvalue(), err.getvalue()


def expect_an_answer(code: int, out: str, err: str, fmt: str) -> None:
    assert code in ALLOWED, err
    if code == 0:
        assert out
        if fmt == "json":
            json.loads(out)
            assert "NaN" not in out
    else:
        assert out == ""
        assert err.startswith("kdstats: ")
        assert "Traceback" not in err


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("door") / "table.csv"


quiet = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quiet
@given(text=st.text(max_size=300))
def test_any_text(path, text):
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    expect_an_answer(*answer(path, "--x", "a", "--y", "b"), "table")


LINES = st.lists(
    st.lists(
        st.sampled_from(["1", "2.5", "-3", "x", "", "nan", "inf", '"', "1e308", "é", " 4"]), max_size=4
    ).map(",".join),
    max_size=12,
)


@quiet
@given(lines=LINES)
def test_any_lines_under_a_right_header(path, lines):
    path.write_text("\n".join(["a,b,g", *lines]), encoding="utf-8")
    expect_an_answer(*answer(path, "--x", "a", "--y", "b", "--group", "g", "--format", "json"), "json")


NUMBER = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, -1.0]),
    st.floats(-10, 10).map(lambda v: round(v, 2)),
    st.sampled_from([np.nan, np.inf, 1e-300, 1e200, 1 + 1e-15]),
)
CLEAN = st.floats(-10, 10).map(lambda v: round(v, 2))


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_table(path, data):
    one_table(path, data)


def one_table(path, data):
    groups, size = data.draw(st.integers(1, 4)), data.draw(st.integers(4, 9))
    n = groups * size
    number = data.draw(st.sampled_from([CLEAN, CLEAN, NUMBER]))
    columns = {name: data.draw(st.lists(number, min_size=n, max_size=n)) for name in ("a", "b", "z")}
    errors = data.draw(st.lists(st.sampled_from([0.0, 0.1, 5.0, np.nan]), min_size=n, max_size=n))
    labels = data.draw(
        st.sampled_from([[f"s{i % size}" for i in range(n)], ["s"] * n, [f"p{i}" for i in range(n)]])
    )
    frame = pd.DataFrame(columns).assign(g=np.repeat(range(groups), size), l=labels, e=errors)
    frame.to_csv(path, index=False)
    fmt = data.draw(st.sampled_from(["table", "json", "csv", "md", "latex"]))
    options: list[str] = ["--format", fmt]
    for option in (
        ["--group", "g"],
        ["--label", "l"],
        ["--x-se", "e"],
        ["--given", "z"],
        ["--cluster", "l"],
        *([["--show", "all"]] if fmt in {"table", "md", "latex"} else []),
    ):
        options += option if data.draw(st.booleans()) else []
    expect_an_answer(*answer(path, "--x", "a", "--y", "b", *options), fmt)
