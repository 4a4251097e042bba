"""What ``kdstats correlate`` makes of a table that is not one row per scheme, or not as it seems."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
import typer

from kdstats.cli.correlate import command as subject
from kdstats.cli.correlate.hints import looks_like_accuracy
from kdstats.console import run_program

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("correlate")(subject.command)
COLUMNS = ("--x", "t", "--y", "loss", "--group", "pair", "--label", "scheme")


@pytest.fixture
def run(capsys):
    def program(*arguments: object) -> tuple[int, str, str]:
        words = [str(a) for a in arguments]
        code = run_program("kdstats", lambda: int(app(words, standalone_mode=False) or 0))
        return code, *capsys.readouterr()

    return program


def seeds(pairs: str = "abc", n: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    out = []
    for pair in pairs:
        for s in range(n):
            t = rng.normal()
            level = t + 0.3 * rng.normal()
            out += [
                {
                    "pair": pair,
                    "scheme": f"s{s}",
                    "seed": k,
                    "t": t,
                    "t_se": 0.1,
                    "loss": level + 0.1 * rng.normal(),
                }
                for k in range(3)
            ]
    frame = pd.DataFrame(out)
    return frame.assign(acc=90 - 5 * frame["loss"])


@pytest.fixture
def write(tmp_path):
    def file(frame: pd.DataFrame, name: str = "t.csv"):
        frame.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return file


def section(run, name: str, *arguments: object) -> pd.DataFrame:
    code, out, err = run(*arguments, "--show", name, "--format", "csv")
    assert code == 0, err
    return pd.read_csv(io.StringIO(out))


def panels(run, *arguments: object) -> str:
    """The shortest answer, with every hint."""
    code, out, err = run(*arguments, "--show", "panels")
    assert code == 0, err
    return out


def test_repeats_are_averaged_said_and_the_same_as_averaged_by_hand(run, write):
    frame = seeds()
    path = write(frame)
    out = panels(run, path, *COLUMNS).splitlines()
    assert out[0].endswith("(3 panels, n = 9 each)")
    assert out[1].startswith("Repeats: 81 rows → 27 points, each the mean over 3 rows of one scheme;")
    by_hand = frame.groupby(["pair", "scheme"], sort=False, as_index=False)[["t", "loss"]].mean()
    found, wanted = (section(run, "panels", p, *COLUMNS) for p in (path, write(by_hand, "hand.csv")))
    assert found["estimate"].tolist() == pytest.approx(wanted["estimate"].tolist(), rel=1e-12)
    assert set(found["n"]) == {9}


def test_the_document_says_what_was_averaged(run, write):
    code, out, _ = run(write(seeds("a")), *COLUMNS, "--format", "json")
    definition = json.loads(out)["definition"]
    assert code == 0
    assert (definition["repeats"], definition["rows"], definition["points"]) == ("mean", 27, 9)
    assert "--repeats mean" in json.loads(out)["provenance"]["command"]


def test_keep_takes_rows_as_points_with_a_note(run, write):
    out = panels(run, write(seeds()), *COLUMNS, "--repeats", "keep")
    assert "n = 27 each" in out
    assert "repeats of one scheme are not independent points" in out
    code, _, err = run(write(seeds()), *COLUMNS, "--repeats", "kep")
    assert code == 2
    assert "'keep'" in err


def test_errors_combine_and_copies_of_one_x_keep_theirs(run, write):
    frame = seeds().assign(loss_se=0.3)
    words = (write(frame), *COLUMNS, "--x-se", "t_se", "--y-se", "loss_se")
    errors = section(run, "errors", *words).query("method == 'disattenuated'")
    means = frame.groupby(["pair", "scheme"])[["t", "loss"]].mean().groupby("pair").var()
    assert errors["reliability_x"].tolist() == pytest.approx(list(1 - 0.1**2 / means["t"]), rel=1e-9)
    assert errors["reliability_y"].tolist() == pytest.approx(list(1 - 0.3**2 / 3 / means["loss"]), rel=1e-9)
    assert "standard errors combine as sqrt(sum se²)/n" in panels(run, *words)


def test_a_negative_error_is_not_hidden_by_averaging(run, write):
    frame = seeds()
    frame.loc[4, "t_se"] = -0.1
    code, _, err = run(write(frame), *COLUMNS, "--x-se", "t_se")
    assert code == 2
    assert "column 't_se' is negative in line 6" in err


def test_the_spread_over_repeats_as_standard_error(run, write):
    frame = seeds()
    assert "--y-se repeats corrects" in panels(run, write(frame), *COLUMNS)
    found = section(run, "errors", write(frame), *COLUMNS, "--y-se", "repeats")
    cells = frame.groupby(["pair", "scheme"])["loss"]
    noise = cells.var().groupby("pair").mean() / 3
    wanted = 1 - noise / cells.mean().groupby("pair").var()
    errors = found.query("method == 'disattenuated'")
    assert errors["reliability_y"].tolist() == pytest.approx(list(wanted), rel=1e-9)
    once = frame[frame["seed"] == 0]
    for words, said in (
        ((write(once, "once.csv"), *COLUMNS), "no label (--label COL) stands twice"),
        ((write(frame), *COLUMNS, "--repeats", "keep"), "--repeats keep takes every row"),
    ):
        code, _, err = run(*words, "--y-se", "repeats")
        assert code == 2
        assert said in err


def test_panels_that_are_copies_are_hinted_at(run, write):
    def hinted(pairs: str, group: str) -> str:
        return panels(
            run, write(seeds(pairs)), "--x", "t", "--y", "loss", "--label", "scheme", "--group", group
        )

    out = hinted("abc", "pair,seed")
    assert "hint: 9 of 9 panels hold only 3 different sets of t:" in out
    assert "--group pair (with --label) averages over seed" in out
    assert "different set" not in hinted("abc", "pair")
    assert "leave out --group seed (with --label) averages over seed" in hinted("a", "seed")


def test_which_end_is_better_is_said_and_an_accuracy_is_asked_about(run, write):
    words = (write(seeds("a")), "--x", "t", "--y", "acc", "--label", "scheme", "--show", "choice")
    out = run(*words)[1]
    assert "Choice by the lowest t; better is the lowest acc" in out
    assert "without --better highest" in out
    out = run(*words, "--better", "highest")[1]
    assert "Choice by the lowest t; better is the highest acc" in out
    assert "without --better" not in out
    assert "without --better" not in run(*words, "--better", "lowest")[1]
    assert "without --better" not in panels(run, write(seeds()), *COLUMNS)


@pytest.mark.parametrize("name", ["acc", "test_acc", "Accuracy (%)", "top-1", "testAcc", "auroc", "F1"])
def test_names_of_which_more_is_better(name):
    assert looks_like_accuracy(name)


@pytest.mark.parametrize("name", ["loss", "accent", "acc_loss", "top1_error", "stop", "nll", "t"])
def test_names_of_which_less_is_better(name):
    assert not looks_like_accuracy(name)


def test_a_panel_that_is_too_small_is_left_out_by_name(run, write):
    frame = seeds()
    frame = frame[(frame["pair"] != "b") | frame["scheme"].isin(["s0", "s1", "s2"])]
    out = panels(run, write(frame), *COLUMNS)
    assert "2 panels, n = 9 each" in out
    assert "note: panel 'b' is left out: 3 points" in out
    code, _, err = run(write(seeds(n=3)), *COLUMNS)
    assert code == 2
    assert "27 rows → 9 points" in err
    assert "at most 3 in a panel" in err
    assert "at least 5" in err


def test_one_panel_has_a_choice_and_no_interval(run, write):
    frame = seeds("a")
    out = run(write(frame), "--x", "t", "--y", "loss", "--label", "scheme")[1]
    means = frame.groupby("scheme")[["t", "loss"]].mean()
    cost = means["loss"].loc[means["t"].idxmin()] - means["loss"].min()
    miss = f"not the best scheme; it cost {cost:.2g} in loss"
    said = f"Lowest t was {miss if cost else 'the best scheme'}."
    assert said in out
    assert "of 36 scheme pairs ordered rightly. One panel: no interval." in out
    assert "there is one panel only" in run(write(frame), *COLUMNS, "--show", "across")[1]
    assert "there is one panel only" not in out


def test_doubtful_standard_errors_are_hinted_at_and_correct_nothing(run, write):
    words = (write(seeds().assign(t_se=5.0)), *COLUMNS, "--x-se", "t_se")
    out = panels(run, *words)
    assert "is 't_se' really a standard error of 't'? It exceeds the spread of 't' in 3 of 3 panels" in out
    found = section(run, "errors", *words).query("method == 'simex'")
    assert found["estimate"].isna().all()
    ends = found[found["quantity"] == "correlation"][["low", "high"]]
    assert ends.to_numpy().tolist() == [[-1.0, 1.0]] * 3
    same = seeds().assign(t=lambda f: f["t"].abs(), t_se=lambda f: f["t"])
    assert "The two columns are the same" in panels(run, write(same), *COLUMNS, "--x-se", "t_se")
    assert "really a standard error" not in panels(run, write(seeds()), *COLUMNS, "--x-se", "t_se")


def test_names_with_spaces_and_capitals(run, write):
    frame = seeds().astype({"pair": object})
    frame.loc[::2, "pair"] += " "
    out = panels(run, write(frame), *COLUMNS)
    assert "3 panels, n = 9 each" in out
    assert "hint: spaces around the names in column 'pair' were taken off" in out
    frame = seeds()
    frame.loc[frame["pair"] == "b", "scheme"] = frame["scheme"].str.upper()
    assert "'s0' and 'S0' in column 'scheme' differ in capitals only" in panels(run, write(frame), *COLUMNS)


def test_all_cells_at_fault_are_named_at_once(run, tmp_path):
    lines = ["pair,scheme,t,loss,h"] + [f"a,s{i},{i},{i * i % 5},{i % 3}" for i in range(9)]
    lines[2], lines[5], lines[7] = "a,s1,,1,1", "a,s4,4,-,n/a", "a,,6,1,0"
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    code, _, err = run(path, *COLUMNS, "--given", "h")
    assert code == 2
    for said in ("'t' has no value in line 3", "'loss' has no value in line 6", "'h' has no value in line 6"):
        assert said in err
    assert "'scheme' has no value in line 8; fill them in or delete these rows" in err


def test_a_german_table_is_read_and_said(run, tmp_path):
    text = "pair;scheme;t;loss\n" + "".join(f"a;s{i};{i},5;{i * i % 7},25\n" for i in range(9))
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8-sig")
    code, out, _ = run(path, *COLUMNS)
    assert code == 0
    assert out.splitlines()[1] == "Read as a table with semicolons between columns, decimal commas."


def test_huge_numbers_end_in_an_answer(run, write):
    frame = seeds()
    frame.loc[0:2, "t"] = 1e300
    frame.loc[3, "loss"] = -1e308
    code, _, err = run(write(frame), *COLUMNS)
    assert code in (0, 5), err
    assert "unexpected" not in err


def test_only_the_notes_of_the_sections_asked_for_are_printed(run, write):
    words = (write(seeds("abc", 5)), *COLUMNS)
    across = run(*words, "--show", "across")[1]
    assert "degrees of freedom: the interval is wide" in across
    assert "the interval of the concordance" not in across
    assert "see the interval by CR2" in across  # where a note names Python's regress, the page names the line
    assert "of regress" not in across
    assert "degrees of freedom" not in panels(run, *words)
    kept = run(*words, "--repeats", "keep", "--show", "choice")[1]
    assert "repeats of one scheme are not independent points" in kept
    assert "the interval of the concordance" in kept


def test_a_page_changes_nothing_on_the_terminal(run, tmp_path):
    plain, with_page = (run("--published", "wang2022", *more) for more in ((), ("--out", tmp_path / "page")))
    assert plain[:2] == with_page[:2]
    assert (tmp_path / "page" / "index.html").exists()
