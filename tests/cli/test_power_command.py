"""``kdstats power``: every question and format from the shell, numbers against the library, bad input refused."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import typer

from kdstats import power
from kdstats.cli import power as subject
from kdstats.console import run_program
from kdstats.records.part import write_table
from kdstats.records.paths import RunPaths, StudyPaths
from kdstats.records.writer import write_done

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(subject.app, name="power")
_ClickException = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _body(arguments: list[str]) -> int:
    try:
        return int(app(["power", *arguments], standalone_mode=False) or 0)
    except _ClickException as error:
        error.show()
        return int(error.exit_code)


@pytest.fixture
def run(capsys):
    def program(*arguments: object) -> tuple[int, str, str]:
        code = run_program("kdstats", lambda: _body([str(a) for a in arguments]))
        return code, *capsys.readouterr()

    return program


@pytest.fixture
def pilot(tmp_path):
    rng = np.random.default_rng(0)
    runs = pd.DataFrame(
        [
            {
                "pair": p,
                "scheme": s,
                "seed": k,
                "test_loss_last": 1 + effect + 0.01 * rng.normal(),
                "acc": 0.5 + 0.1 * k,
            }
            for p in "ab"
            for k, effect in enumerate(0.03 * rng.normal(size=3))
            for s in ("identity", "mixup", "cutmix")
        ]
    )
    path = tmp_path / "runs.csv"
    runs.to_csv(path, index=False)
    return path, runs


def test_seeds_from_pilot_runs(run, pilot):
    path, runs = pilot
    found = power(gap=0.01, runs=runs, comparisons=8)
    code, out, err = run("gap", "--gap", 0.01, "--runs", path, "--comparisons", 8)
    assert (code, err) == (0, "")
    assert f"needs {found.seeds} seeds of each scheme ({found.low:.0f} to {found.high:.0f})" in out
    assert "alpha 0.05 over 8 comparisons (holm)" in out
    assert "18 runs in 2 panels" in out
    assert "8 degrees of freedom" in out
    free = power(gap=0.01, runs=runs, paired=False)
    code, out, _ = run("gap", "--gap", 0.01, "--runs", path, "--unpaired", "--group", "pair")
    assert code == 0
    assert f"needs {free.seeds} seeds" in out
    assert "two-sample t test" in out


def test_a_studys_folder_with_excluded_runs(run, tmp_path):
    rng = np.random.default_rng(1)
    runs = pd.DataFrame(
        [
            {
                **dict.fromkeys(("dataset", "teacher", "student"), "x"),
                "scheme": s,
                "seed": k,
                "recipe_digest": "d",
                "epochs": 3,
                "epoch_best": 2,
                "excluded": False,
                **dict.fromkeys(("test_loss_best", "acc_last", "acc_best"), 0.5),
                "test_loss_last": 1 + 0.01 * rng.normal(),
            }
            for s in ("identity", "mixup", "cutmix")
            for k in range(4)
        ]
    )
    runs.loc[2, ["excluded", "test_loss_last"]] = [True, np.nan]
    paths = StudyPaths(tmp_path)
    write_table(paths.runs, "runs", runs)
    found = power(seeds=5, runs=runs)
    code, out, err = run("gap", "--seeds", 5, "--runs", tmp_path)
    assert (code, err) == (0, "")
    assert f"show a gap of {found.gap:.3g} ({found.low:.3g} to {found.high:.3g})" in out
    assert "11 runs in 1 panel" in out
    assert "note: 1 excluded runs left out" in out
    code, _, err = run("gap", "--seeds", 5, "--runs", tmp_path / "absent")
    assert code == 4


def test_formats_hold_the_same_answer(run):
    arguments = ("gap", "--gap", 0.01, "--gap", 0.02, "--sd", 0.01, "--correlation", 0.5, "--df", 8)
    expected = [power(gap=g, sd=0.01, correlation=0.5, df=8) for g in (0.01, 0.02)]
    code, out, err = run(*arguments, "--format", "json")
    document = json.loads(out)
    assert (code, err, document["schema"]) == (0, "", "kdstats/power/1")
    for row, plan in zip(document["results"], expected, strict=True):
        assert (row["seeds"], row["low"], row["high"]) == (plan.seeds, plan.low, plan.high)
        assert row["power"] == plan.power
        assert row["spread"]["df"] == 8
        assert row["curve"]["axis"] == "seeds"
        assert len(row["curve"]["at"]) == len(row["curve"]["power"])
    _, out, _ = run(*arguments, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [float(r["power"]) for r in rows] == [p.power for p in expected]
    _, out, _ = run(*arguments, "--format", "md")
    assert f"| 0.01 | {expected[0].seeds} | {expected[0].power:.2f} |" in out
    _, out, _ = run(*arguments, "--format", "latex")
    assert out.startswith("\\begin{tabular}")
    assert f"0.02 & {expected[1].seeds} &" in out
    assert all(line.startswith("%") for line in out.partition("\\end{tabular}\n")[2].splitlines())


def test_the_other_way_round(run):
    _, out, _ = run("gap", "--seeds", 3, "--seeds", 5, "--sd", 0.01)
    assert f"show a gap of {power(seeds=3, sd=0.01).gap:.3g} with power 0.8" in out
    assert "taken as known" in out
    _, out, _ = run("gap", "--seeds", 5, "--gap", 0.02, "--sd", 0.01, "--power", 0.9)
    assert f"with power {power(seeds=5, gap=0.02, sd=0.01).power:.2f}" in out
    code, out, _ = run("correlation", "--r", 0.8)
    assert code == 0
    assert f"needs {power(r=0.8).schemes} schemes in 1 pair" in out
    _, out, _ = run("correlation", "--r", 0.6, "--schemes", 9, "--tau", 0.6)
    plan = power(r=0.6, schemes=9, tau=0.6)
    assert f"needs 9 schemes in {plan.pairs} pairs" in out
    assert "pairs are taken as independent" in out
    _, out, _ = run("correlation", "--schemes", 9, "--reliability", 0.9)
    assert "9 schemes in 1 pair show a correlation of" in out
    assert "r as seen" in out
    _, out, _ = run(
        "correlation", "--r", 0.9, "--schemes", 9, "--pairs", 10, "--tau", 0.6, "--format", "json"
    )
    assert json.loads(out)["results"][0]["asked"] == "power"


def test_plot(run, tmp_path):
    target = tmp_path / "p.svg"
    code, out, err = run("gap", "--gap", 0.01, "--sd", 0.01, "--plot", target)
    assert code == 0
    assert "caption: Power against seeds" in err
    assert "caption" not in out
    assert target.stat().st_size > 5000
    code, _, err = run("gap", *[a for g in range(1, 8) for a in ("--gap", g)], "--sd", 1, "--plot", target)
    assert code == 2
    assert "up to 6 plans, not 7" in err


def test_bad_input(run, pilot, tmp_path):
    path, runs = pilot
    for arguments, code, match in (
        (("gap",), 2, "--sd, or --runs"),
        (("gap", "--sd", 1), 2, "give --gap"),
        (("gap", "--gap", 1, "--sd", 1, "--runs", path), 2, "needed once"),
        (("gap", "--gap", 1, "--runs", path, "--correlation", 0.5), 2, "go with --sd"),
        (("gap", "--gap", 1, "--sd", 1, "--unpaired"), 2, "goes with --runs"),
        (("gap", "--gap", 0, "--sd", 1), 2, "other than 0"),
        (("gap", "--gap", "nan", "--sd", 1), 2, "other than 0"),
        (("gap", "--gap", 1, "--runs", path, "--value", "test_los"), 2, "'test_loss_last'"),
        (("gap", "--gap", 1, "--runs", path, "--group", "scheme"), 5, "twice"),
        (("gap", "--gap", 1, "--runs", tmp_path / "rums.csv"), 4, "runs.csv"),
        (("gap", "--gap", 1, "--sd", 1, "--format", "jsn"), 2, "'json'"),
        (("gap", "--gap", 1, "--sd", 1, "--plot", tmp_path / "p.gif"), 2, ".png"),
        (("correlation",), 2, "give --r"),
        (("correlation", "--r", 1.5), 2, "strictly between"),
        (("correlation", "--r", 0.5, "--tau", 0.5), 2, "--pairs"),
    ):
        found, out, err = run(*arguments)
        assert (found, out) == (code, ""), arguments
        assert match in err, arguments
    hurt = runs.assign(test_loss_last=runs["test_loss_last"].where(runs.index != 4))
    hurt.to_csv(tmp_path / "hurt.csv", index=False)
    code, _, err = run("gap", "--gap", 1, "--runs", tmp_path / "hurt.csv")
    assert code == 5
    assert "line 6" in err


def test_the_installed_command_knows_it_and_torch_stays_out():
    program = (
        "import sys\nfrom kdstats.cli.main import app\n"
        "app(['power', 'correlation', '--r', '0.8'], standalone_mode=False)\n"
        "assert not {'torch', 'matplotlib', 'statsmodels'} & set(sys.modules), 'heavy imports'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Schemes needed" in done.stdout


def finished(folder, scheme: str, seed: int, loss: float, recipe: str = "abc") -> None:
    """A complete run as ``runners.student`` leaves it, without records."""
    folder.mkdir(parents=True)
    run = {"dataset": "d", "teacher": "t", "student": "s", "scheme": scheme, "seed": seed}
    (folder / "run.json").write_text(json.dumps({"run": run}))
    outcome = {"test_loss_last": loss, "acc_last": 0.5, "best_chosen_by": "test images"}
    write_done(RunPaths(folder), {"outcome": outcome, "run": run, "recipe_digest": recipe})


def test_a_folder_of_runs_without_a_table(run, tmp_path):
    rng = np.random.default_rng(2)
    rows = [(s, k, 1 + 0.01 * rng.normal()) for s in ("identity", "mixup") for k in range(4)]
    for scheme, seed, loss in rows:
        finished(tmp_path / "runs" / scheme / f"seed={seed}", scheme, seed, loss)
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "runs" / "begun" / "run.json").write_text("{}")
    found = power(gap=0.02, runs=pd.DataFrame(rows, columns=["scheme", "seed", "test_loss_last"]))
    code, out, err = run("gap", "--gap", 0.02, "--runs", tmp_path)
    assert (code, err) == (0, "")
    assert f"needs {found.seeds} seeds of each scheme" in out
    assert "note: 8 runs read from their folders; there is no runs.parquet" in out
    assert "note: 1 of 9 runs are left out" in out
    assert "has no done.json" in out


def test_runs_of_unlike_recipes_are_not_taken_for_repeats(run, tmp_path):
    rng = np.random.default_rng(3)
    for recipe in ("one", "two"):
        for scheme in ("identity", "mixup"):
            for seed in range(3):
                finished(tmp_path / recipe / scheme / str(seed), scheme, seed, rng.normal(), recipe)
    code, out, err = run("gap", "--gap", 1, "--runs", tmp_path)
    assert (code, err) == (0, "")
    assert "12 runs in 2 panels" in out


def test_a_folder_without_outcomes_says_what_is_needed(run, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    write_done(RunPaths(folder))
    for where in (folder, tmp_path / "empty"):
        where.mkdir(exist_ok=True)
        code, out, err = run("gap", "--gap", 1, "--runs", where)
        assert (code, out) == (4, "")
        assert "has no runs.parquet" in err
        assert "a .csv with one row a run: scheme, seed and the outcome (--value)" in err


def test_where_pairing_costs_seeds_it_is_said(run, tmp_path):
    rng = np.random.default_rng(4)
    seeds = [rng.permutation(4) / 50 for _ in range(2)]  # opposite luck: pairing by seed helps nothing
    seeds[1] = -seeds[0] + 0.001 * rng.normal(size=4)
    runs = pd.DataFrame(
        [
            {"scheme": f"s{i}", "seed": k, "test_loss_last": v}
            for i, own in enumerate(seeds)
            for k, v in enumerate(own)
        ]
    )
    runs.to_csv(tmp_path / "r.csv", index=False)
    free = power(gap=0.02, runs=runs, paired=False)
    out = run("gap", "--gap", 0.02, "--runs", tmp_path / "r.csv")[1]
    assert f"note: gap 0.02: without pairing (--unpaired) {free.seeds} seeds are enough" in out
    assert "without pairing" not in run("gap", "--gap", 0.02, "--runs", tmp_path / "r.csv", "--unpaired")[1]


def test_every_gap_has_a_sentence(run):
    out = run("gap", "--gap", 0.5, "--gap", 1, "--sd", 1)[1]
    assert "A gap of 0.5 needs 64 seeds of each scheme" in out
    assert "A gap of 1 needs 17 seeds of each scheme" in out
    many = run("gap", *[w for g in range(1, 9) for w in ("--gap", g)], "--sd", 1)[1]
    assert "A gap of" not in many


@pytest.mark.parametrize(
    ("text", "said"), [("0,01", "a decimal comma: write 0.01"), ("x", "'x' is no number")]
)
def test_a_number_that_is_none(run, text, said):
    code, out, err = run("gap", "--gap", text, "--sd", 1)
    assert (code, out) == (2, "")
    assert said in err


def test_few_pairs_are_noted(run):
    words = ("correlation", "--r", 0.8, "--schemes", 9)
    said = "the test changes from 1 to 2 pairs"
    out = run(*words, *(w for k in (1, 2, 3, 4) for w in ("--pairs", k)))[1]
    assert out.count(said) == 1
    assert said in run(*words, "--pairs", 2)[1]
    assert said in run(*words)[1]  # solved for, and one is enough
    assert said not in run(*words, "--pairs", 1)[1]
    assert said not in run(*words, "--pairs", 4)[1]


def test_one_pair_is_told_apart_in_the_figure(run, tmp_path):
    code, _, err = run("correlation", "--r", 0.8, "--schemes", 9, "--plot", tmp_path / "p.svg")
    assert code == 0
    assert "1 pair, tested alone (power 0.82)" in err
    assert "1 pairs" not in err
