"""The sections of ``kdstats correlate`` against the modules behind them and against independent formulas."""

from __future__ import annotations

import csv
import io
import json
import shlex

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import typer
from scipy import stats

from kdstats.association.concordance import leave_one_pair_out
from kdstats.association.mixed import mixed_model
from kdstats.association.partial import partial_correlation
from kdstats.association.regression import regress
from kdstats.association.repeated import repeated_correlation
from kdstats.cli.correlate import command as subject
from kdstats.console import run_program

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("correlate")(subject.command)
COLUMNS = ["--x", "t", "--y", "loss", "--group", "pair", "--label", "scheme"]
KEYS = {"x": "t", "y": "loss", "group": "pair", "label": "scheme"}


@pytest.fixture
def run(capsys):
    def program(*arguments: object) -> tuple[int, str, str]:
        words = [str(a) for a in arguments]
        code = run_program("kdstats", lambda: int(app(words, standalone_mode=False) or 0))
        return code, *capsys.readouterr()

    return program


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    effect = rng.normal(size=9)
    rows = []
    for i, pair in enumerate(["a/b", "c/d", "e/f", "g/h"]):
        t = np.linspace(3, 5, 9) + 0.2 * rng.normal(size=9)
        for j in range(9):
            loss = 2 + i + 0.1 * t[j] + 0.05 * effect[j] + 0.03 * rng.normal()
            rows.append(
                (pair, f"s{j}", t[j], loss, 0.1, 0.03, 3 - 0.5 * t[j] + rng.normal(), pair in ("a/b", "c/d"))
            )
    return pd.DataFrame(rows, columns=["pair", "scheme", "t", "loss", "tse", "lse", "entropy", "old"])


@pytest.fixture(scope="module")
def path(table, tmp_path_factory):
    target = tmp_path_factory.mktemp("sections") / "study.csv"
    table.to_csv(target, index=False)
    return target


@pytest.fixture(scope="module")
def document(path):
    import contextlib

    out = io.StringIO()
    words = [str(path), *COLUMNS, "--x-se", "tse", "--y-se", "lse", "--given", "entropy", "--format", "json"]
    with contextlib.redirect_stdout(out):
        assert run_program("kdstats", lambda: int(app(words, standalone_mode=False) or 0)) == 0
    return json.loads(out.getvalue())


def plain(value):
    return json.loads(json.dumps(value))


def test_json_holds_what_the_modules_give(document, table):
    assert document["repeated_correlation"] == plain(repeated_correlation(table, **KEYS).to_dict())
    model = mixed_model(table, **KEYS).to_dict()
    assert document["mixed_model"]["estimate"] == pytest.approx(model["estimate"], rel=1e-6)
    ours = pd.DataFrame(document["regression"])
    for by, cluster in (("panels", None), ("scheme", "scheme")):
        wanted = regress(table, **KEYS, cluster=cluster)
        rows = ours[ours["clusters_by"] == by]
        np.testing.assert_allclose(rows[["low", "high"]].astype(float), wanted[["low", "high"]], rtol=1e-12)
    partial = partial_correlation(table, **KEYS, covariates="entropy")
    assert [r["estimate"] for r in document["partial_correlation"]["panels"]] == partial["estimate"].tolist()
    assert [r["p_permutation"] for r in document["partial_correlation"]["panels"]] == partial[
        "p_permutation"
    ].tolist()
    over = partial_correlation(table, **KEYS, covariates="entropy", across=True)
    assert (
        [r["labels"] for r in document["partial_correlation"]["across"]] == over["labels"].tolist() == [9, 9]
    )
    pair_out = leave_one_pair_out(table, **KEYS, rng=np.random.default_rng(0))
    assert document["leave_one_pair_out"]["concordance"] == pair_out.concordance
    assert [w["clusters_by"] for w in document["wild_bootstrap"]] == ["panels", "scheme"]


def test_slope_and_correlation_within_panels_are_those_of_dummy_regression(document, table):
    fit = smf.ols("loss ~ t + C(pair)", table).fit()
    default = [row for row in document["regression"] if row["default"]]
    for row in default:
        assert row["estimate"] == pytest.approx(fit.params["t"], rel=1e-10)
    t = fit.tvalues["t"]
    assert document["repeated_correlation"]["estimate"] == pytest.approx(
        t / np.sqrt(t**2 + fit.df_resid), rel=1e-10
    )
    classical = next(row for row in document["regression"] if row["kind"] == "classical")
    assert classical["se"] == pytest.approx(fit.bse["t"], rel=1e-10)


def test_corrections_are_those_of_the_textbook(document, table):
    found = document["measurement_errors"]
    for row, line in zip(found["disattenuated"], found["deming"], strict=True):
        panel = table[table["pair"] == row["pair"]]
        t, loss = panel["t"].to_numpy(), panel["loss"].to_numpy()
        r = stats.pearsonr(t, loss).statistic
        rx, ry = 1 - 0.1**2 / t.var(ddof=1), 1 - 0.03**2 / loss.var(ddof=1)
        assert row["raw"] == pytest.approx(r / np.sqrt(rx * ry), rel=1e-12)
        moment = np.cov(t, loss)[0, 1] / (t.var(ddof=1) - 0.1**2)
        if line["scatter"] > 0:
            assert line["slope"] == pytest.approx(moment, rel=1e-6)
    assert {(row["pair"], row["statistic"]) for row in found["simex"]} == {
        (pair, s) for pair in table["pair"] for s in ("slope", "pearson")
    }


def test_partial_correlation_of_a_panel_is_that_of_residuals(document, table):
    panel = table[table["pair"] == "c/d"]
    rest = [stats.linregress(panel["entropy"], panel[c]) for c in ("t", "loss")]
    left = [
        panel[c] - (f.intercept + f.slope * panel["entropy"])
        for c, f in zip(("t", "loss"), rest, strict=True)
    ]
    found = next(
        row
        for row in document["partial_correlation"]["panels"]
        if (row["pair"], row["method"]) == ("c/d", "pearson")
    )
    assert found["estimate"] == pytest.approx(stats.pearsonr(*left).statistic, rel=1e-10)


def test_default_page_is_short_and_says_what_matters(run, path):
    code, out, err = run(path, *COLUMNS)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) <= 40
    assert "r within panels (repeated measures), by 9 schemes" in out
    assert "CR2 by 4 panels" in out
    assert "CR2 by 9 schemes" in out
    assert "Each panel predicted from the others" in out
    assert "wild bootstrap p" in out
    assert "Mixed model" not in out
    assert out.splitlines()[-1].startswith("more: --show panels,without,mixed")


def test_given_and_errors_appear_when_asked_for(run, path):
    out = run(path, *COLUMNS, "--x-se", "tse", "--given", "entropy")[1]
    assert "Corrected for known errors of x" in out
    assert "No standard errors of loss are given" in out
    assert "With entropy held fixed" in out
    assert "all 4 panels, within" in out


@pytest.mark.parametrize("fmt", ["table", "latex"])
def test_every_section_in_every_format(run, path, fmt):
    words = [path, *COLUMNS, "--x-se", "tse", "--given", "entropy", "--format", fmt]
    code, out, err = run(*words, "--show", "all")
    assert (code, err) == (0, "")
    for said in ("Across panels", "Mixed model", "Leaving out one point", "known errors of x", "held fixed"):
        assert said in out
    if fmt == "latex":
        assert out.count(r"\begin{tabular}") == out.count(r"\end{tabular}") == 6
        bare = [line for line in out.splitlines() if not line.startswith("%")]
        inside = False
        for line in bare:
            inside = inside or line.startswith(r"\begin{tabular}")
            assert inside
            inside = inside and not line.startswith(r"\end{tabular}")


@pytest.mark.parametrize(
    ("section", "rows", "first"),
    [
        ("across", 3 + 2 + 8 + 2, "what"),
        ("errors", 4 * (2 + 2 + 2), "pair"),
        ("given", 8 + 2, "pair"),
        ("without", 12, "pair"),
    ],
)
def test_csv_prints_any_one_section(run, path, section, rows, first):
    words = [path, *COLUMNS, "--x-se", "tse", "--given", "entropy", "--format", "csv", "--show", section]
    code, out, _ = run(*words)
    table = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert len(table) == rows
    assert next(iter(table[0])) == first


def test_cluster_replaces_the_clusters(run, path, table):
    code, out, _ = run(path, *COLUMNS, "--cluster", "old", "--format", "json")
    rows = json.loads(out)["regression"]
    assert code == 0
    assert {row["clusters_by"] for row in rows} == {"old"}
    assert {row["clusters"] for row in rows} == {2}
    wanted = regress(table, **KEYS, cluster="old").iloc[0]
    assert next(row["low"] for row in rows if row["default"]) == pytest.approx(wanted["low"], rel=1e-12)


def test_label_changes_the_interval_and_its_absence_is_hinted_at(run, path, document):
    without = run(path, "--x", "t", "--y", "loss", "--group", "pair", "--format", "json")[1]
    a, b = (found["repeated_correlation"] for found in (json.loads(without), document))
    assert a["estimate"] == b["estimate"]
    assert (a["labels"], b["labels"]) == (0, 9)
    assert b["high"] - b["low"] > a["high"] - a["low"]
    assert any("--label COL" in hint for hint in json.loads(without)["hints"])
    assert document["hints"] == []


def test_a_panel_without_standard_errors_is_named_and_the_others_are_corrected(run, table, tmp_path):
    some = table.assign(lse=table["lse"].where(table["pair"] != "c/d"))
    some.to_csv(tmp_path / "some.csv", index=False)
    code, out, _ = run(tmp_path / "some.csv", *COLUMNS, "--y-se", "lse", "--format", "json")
    document = json.loads(out)
    assert code == 0
    assert {row["pair"] for row in document["measurement_errors"]["deming"]} == {"a/b", "e/f", "g/h"}
    assert any("9 of 9 points of panel 'c/d' have no standard error" in note for note in document["notes"])
    code, _, err = run(tmp_path / "some.csv", *COLUMNS, "--y-se", "none")
    assert code == 2
    table.assign(none=np.nan).to_csv(tmp_path / "none.csv", index=False)
    code, _, err = run(tmp_path / "none.csv", *COLUMNS, "--y-se", "none")
    assert (code, "no standard error at all" in err) == (2, True)


def test_errors_larger_than_the_spread_give_a_note_not_a_number(run, table, tmp_path):
    table.assign(tse=5.0).to_csv(tmp_path / "noisy.csv", index=False)
    code, out, _ = run(tmp_path / "noisy.csv", *COLUMNS, "--x-se", "tse")
    assert code == 0
    assert "the reliability of x is" in out
    assert "none [−1.00, 1.00]" in out


@pytest.mark.parametrize(("column", "slopes"), [([0, 0, 1, 0, 0], 0), ([0, 0, 1, 2, 4], 1)])
def test_points_on_a_line_have_no_corrected_slope(run, tmp_path, column, slopes):
    table = pd.DataFrame({"a": column, "b": column, "e": 0.1})
    table.to_csv(tmp_path / "line.csv", index=False)
    code, out, err = run(tmp_path / "line.csv", "--x", "a", "--y", "b", "--x-se", "e", "--format", "json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["measurement_errors"]["deming"] == []
    assert len(found["measurement_errors"]["disattenuated"]) == 1
    assert len(found["measurement_errors"]["simex"]) == 2 * slopes
    assert "no corrected slope: all points lie on one line" in found["notes"]
    assert ("no SIMEX: without one of its points a column is constant" in found["notes"]) == (not slopes)


def test_duplicated_labels_are_noted_once_and_group_is_hinted_at(run, path):
    out = run(path, "--x", "t", "--y", "loss", "--label", "scheme", "--repeats", "keep")[1]
    assert out.count("more than one point is labelled") == 1
    assert "--group pair" in out


def test_a_doubled_panel_is_a_note_for_the_part_it_breaks(run, table, tmp_path):
    one = table[table["pair"] == "a/b"]
    pd.concat([one, one.assign(pair="copy")]).to_csv(tmp_path / "twice.csv", index=False)
    code, out, _ = run(tmp_path / "twice.csv", *COLUMNS)
    assert code == 0
    assert "no regression with clusters of panels: every cluster gives the same slope" in out


def test_meta_notes_surface_in_print(run):
    out = run("--published", "wang2022", "--show", "panels,across")[1]
    assert "is moved to 0.9917 for Fisher's z (ρ of CIFAR-100 vgg13/vgg8" in out
    assert "Spearman's rho near ±1 from n = 9 points is biased towards 0" in out


def test_the_command_in_the_document_gives_the_document_again(run, document):
    words = shlex.split(document["provenance"]["command"])
    assert words[:2] == ["kdstats", "correlate"]
    again = json.loads(run(*words[2:])[1])
    assert again == document


def test_large_tables_leave_parts_out_and_say_so(run, tmp_path):
    rng = np.random.default_rng(0)
    n = 12_000
    frame = pd.DataFrame({"t": rng.normal(size=2 * n), "g": np.repeat(["a", "b"], n)})
    frame.assign(loss=frame["t"] + rng.normal(size=2 * n), e=0.1).to_csv(tmp_path / "large.csv", index=False)
    words = [
        tmp_path / "large.csv",
        "--x",
        "t",
        "--y",
        "loss",
        "--group",
        "g",
        "--x-se",
        "e",
        "--format",
        "json",
    ]
    code, out, _ = run(*words)
    document = json.loads(out)
    assert code == 0
    assert document["repeated_correlation"] is None
    assert any("above 20,000 points" in note for note in document["notes"])
    assert any("more than 1,000 points" in note for note in document["notes"])


def test_public_names_are_lazy_and_importable():
    import kdstats

    for name in (
        *("repeated_correlation", "partial_correlation", "deming", "disattenuated", "simex", "mixed_model"),
        *("wild_bootstrap", "leave_one_pair_out", "rank_probabilities", "regress", "power"),
    ):
        assert name in kdstats.__all__
        assert getattr(kdstats, name).__name__ == name
