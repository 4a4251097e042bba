from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import typer

from kdstats.cli.correlate import command as subject
from kdstats.console import run_program
from kdstats.published.wang2022 import Wang2022

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("correlate")(subject.command)
_ClickException = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _body(arguments: list[str]) -> int:
    try:
        return int(app(arguments, standalone_mode=False) or 0)
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
def study(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(18)
    df = pd.DataFrame(
        {
            "pair": ["one"] * 9 + ["two"] * 9,
            "seed": 0,
            "scheme": [f"s{i}" for i in range(9)] * 2,
            "t": x,
            "loss": x + 0.3 * rng.standard_normal(18),
            "weak": 0.3 * x + rng.standard_normal(18),
            "se": 0.1,
        }
    )
    path = tmp_path / "study.csv"
    df.to_csv(path, index=False)
    return path


def test_published_table(run):
    code, out, err = run("--published", "wang2022")
    assert (code, err) == (0, "")
    assert "All 60 printed numbers" in out
    assert "Lowest T. stddev was the best scheme in 9 of 10 published panels; on ImageNet" in out
    assert "it cost 0.015–0.024 nats." in out
    assert "never pooled" in out
    assert "best found in 9 of 10, the same cost in every panel." in out
    line = next(line for line in out.splitlines() if line.startswith("ImageNet resnet34/resnet18"))
    assert "0.35 [−0.41, 0.82]" in line
    assert len(out.splitlines()) <= 42
    assert "note: the slopes of the panels differ" in out
    full = run("--published", "wang2022", "--show", "panels")[1]
    line = next(line for line in full.splitlines() if line.startswith("ImageNet resnet34/resnet18"))
    assert "0.3460  [−0.413, 0.821]" in line
    assert "random effects" not in full
    assert "\x1b[" not in out


def test_published_that_no_longer_reproduces_exits_5(run, monkeypatch):
    monkeypatch.setattr(Wang2022, "unreproduced", lambda self, results: ["x: pearson printed 1, here 2"])
    code, out, err = run("--published", "wang2022", "--show", "panels")
    assert code == 5
    assert "59 of 60 printed numbers" in out
    assert "here 2" in err


def test_published_json_is_one_document(run):
    code, out, err = run("--published", "wang2022", "--format", "json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["schema"] == "kdstats/correlate/1"
    assert len(document["results"]) == len(document["leave_one_out"]) == 30
    wanted = {"panel", "method", "estimate", "low", "high", "p_value", "p_permutation", "n"}
    assert wanted <= set(document["results"][0])
    assert [found["k"] for found in document["meta_analysis"]] == [10] * 3
    assert document["regret"]["hits"] == 9
    assert document["published"]["unreproduced"] == []
    assert document["provenance"]["seed"] == 0
    assert document["provenance"]["command"].startswith("kdstats correlate --published wang2022")


def test_file_with_groups(run, study):
    code, out, err = run(study, "--x", "t", "--y", "loss", "--group", "pair,seed", "--label", "scheme")
    assert (code, err) == (0, "")
    assert "one 0" in out
    assert "random effects" in out
    assert "of 2 panels" in out


def test_without_groups_there_is_nothing_across_panels(run, study):
    code, out, _ = run(study, "--x", "t", "--y", "loss")
    assert code == 0
    assert "n = 18" in out
    assert "never pooled" not in out
    assert "hint: column 'pair' repeats 2 values: if they tell panels apart, --group pair" in out
    assert "Holm" not in out


@pytest.mark.parametrize("fmt", ["csv", "md", "latex", "json"])
def test_formats(run, study, fmt):
    code, out, err = run(study, "--x", "t", "--y", "loss", "--group", "pair", "--format", fmt)
    assert (code, err) == (0, "")
    if fmt == "csv":
        assert out.splitlines()[0].startswith("pair,method,estimate,low,high")
        assert len(out.splitlines()) == 7
        assert len(out.splitlines()[1].split(",")[2]) > 10
    elif fmt == "latex":
        body = [line for line in out.splitlines() if not line.startswith("%")]
        assert (body[0], body[-1]) == (r"\begin{tabular}{llrlrrrr}", r"\end{tabular}")
    elif fmt == "md":
        assert "| panel |" in out
    else:
        assert json.loads(out)["definition"]["group"] == ["pair"]


def test_seed_interval_and_confidence_reach_the_numbers(run, study):
    base = [study, "--x", "t", "--y", "weak", "--format", "json"]
    first, again, other = (json.loads(run(*base, "--seed", s)[1]) for s in (1, 1, 2))
    assert first == again
    assert first["results"] != other["results"]
    bca = json.loads(run(*base, "--interval", "bca", "--confidence", "0.8")[1])["results"]
    assert {(row["interval"], row["confidence"]) for row in bca} == {("bca", 0.8)}


def test_better_and_choose(run, study):
    base = [study, "--x", "t", "--y", "loss", "--group", "pair", "--format", "json"]
    plain = json.loads(run(*base)[1])["regret"]
    better = json.loads(run(*base, "--better", "highest")[1])["regret"]["panels"][0]
    chosen = json.loads(run(*base, "--choose", "highest")[1])["regret"]["panels"][0]
    assert better["best"] != plain["panels"][0]["best"]
    assert better["chosen"] == plain["panels"][0]["chosen"] != chosen["chosen"]


def test_no_minus_zero():
    from kdstats.cli.correlate.numbers import bracket, number

    assert bracket(-0.0001, -0.1) == "[0.000, −0.100]"
    assert number(-0.00001) == "0.0000"


def test_other_file_kinds(run, study, tmp_path):
    df = pd.read_csv(study)
    df.to_parquet(tmp_path / "study.parquet")
    df.to_csv(tmp_path / "study.tsv", sep="\t", index=False)
    results = [
        json.loads(run(path, "--x", "t", "--y", "loss", "--format", "json")[1])["results"]
        for path in (study, tmp_path / "study.parquet", tmp_path / "study.tsv")
    ]
    assert results[0] == results[1] == results[2]


def test_plot(run, study, tmp_path):
    target = tmp_path / "figure.png"
    code, out, err = run(
        study, "--x", "t", "--y", "loss", "--x-se", "se", "--y-se", "se", "--plot", target, "--format", "json"
    )
    assert code == 0
    json.loads(out)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert "± 1 standard error" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "nothing to correlate"),
        (["{study}", "--published", "wang2022"], 2, "both FILE and --published"),
        (["{study}"], 2, "--x and --y not given"),
        (["{study}", "--x", "t"], 2, "--y not given"),
        (["--published", "wang2021"], 2, "'wang2022'"),
        (["--published", "wang2022", "--x", "t"], 2, "--x belongs to a FILE"),
        (["{study}", "--x", "tt", "--y", "loss"], 2, "no column named 'tt'. Did you mean 't'"),
        (["{study}", "--x", "t", "--y", "scheme"], 2, "line 2 holds 's0'"),
        (["{study}", "--x", "t", "--y", "loss", "--group", ","], 2, "--group names no column"),
        (["{study}", "--x", "t", "--y", "loss", "--format", "jsn"], 2, "'json'"),
        (["{study}", "--x", "t", "--y", "loss", "--interval", "normal"], 2, "interval"),
        (["{study}", "--x", "t", "--y", "loss", "--confidence", "95"], 2, "between 0 and 1"),
        (["{study}", "--x", "t", "--y", "loss", "--seed", "-1"], 2, "--seed"),
        (["{study}", "--x", "t", "--y", "loss", "--better", "more"], 2, "lowest"),
        (["{study}", "--x", "t", "--y", "loss", "--plot", "p.jpg"], 2, ".png, .pdf, .svg"),
        (["{study}", "--x", "t", "--y", "loss", "--plot", "/no/p.png"], 4, "no folder"),
        (["{study}", "--x", "t", "--y", "loss", "--y-se", "see"], 2, "Did you mean 'seed' or 'se'"),
        (["{study}", "--x", "t", "--y", "loss", "--y-se", "weak"], 2, "a standard error is 0 or more"),
        (["{study}", "--x", "t", "--y", "loss", "--x-se", "scheme"], 2, "not numeric"),
        (["{study}", "--x", "t", "--y", "loss", "--given", "weka"], 2, "Did you mean 'weak'"),
        (["{study}", "--x", "t", "--y", "loss", "--given", "t"], 2, "is x or y itself"),
        (["{study}", "--x", "t", "--y", "loss", "--given", "seed"], 5, "'seed' is constant"),
        (["{study}", "--x", "t", "--y", "loss", "--cluster", "par"], 2, "Did you mean 'pair'"),
        (["{study}", "--x", "t", "--y", "loss", "--cluster", "seed"], 2, "one cluster only"),
        (["{study}", "--x", "t", "--y", "loss", "--show", "acros"], 2, "Did you mean 'across'"),
        (["{study}", "--x", "t", "--y", "loss", "--show", ","], 2, "--show names no section"),
        (["{study}", "--x", "t", "--y", "loss", "--show", "errors"], 2, "--x-se COL"),
        (["{study}", "--x", "t", "--y", "loss", "--show", "given"], 2, "--given COLS"),
        (
            ["{study}", "--x", "t", "--y", "loss", "--show", "all", "--format", "csv"],
            2,
            "csv prints one section",
        ),
        (["{study}", "--x", "t", "--y", "loss", "--show", "all", "--format", "json"], 2, "every section"),
        (["--published", "wang2022", "--given", "test_loss"], 2, "--given belongs to a FILE"),
        (["{study}", "--x", "t", "--y", "loss", "--wrong"], 2, "--wrong"),
        (["{study}", "--x", "t", "--y", "seed"], 5, "'seed' is constant (0)"),
        (["{folder}/stdy.csv", "--x", "t", "--y", "loss"], 4, "'study.csv'"),
        (["{folder}/empty.csv", "--x", "t", "--y", "loss"], 4, "empty"),
    ],
)
def test_errors_are_one_sentence_with_the_right_code(run, study, arguments, code, said):
    (study.parent / "empty.csv").touch()
    found, out, err = run(*[a.format(study=study, folder=study.parent) for a in arguments])
    assert found == code
    assert said in err
    assert out == ""
    if "--wrong" not in arguments:
        assert err.startswith("kdstats: ")
        assert err.count("\n") == 1


def test_every_option_is_explained(run):
    _, out, _ = run("--help")
    text = " ".join(out.split())
    for option in (
        "--x ",
        "--y ",
        "--group",
        "--label",
        "--x-se",
        "--y-se",
        "--published",
        "--format",
        "--plot",
    ):
        assert option in text
    for option in (
        "--interval",
        "--confidence",
        "--choose",
        "--better",
        "--seed",
        "--given",
        "--cluster",
        "--show",
    ):
        assert option in text


def test_no_torch_and_no_matplotlib_without_plot(tmp_path):
    code = (
        "import sys, typer\n"
        "from kdstats.cli.correlate import command\n"
        "app = typer.Typer(); app.command()(command.command)\n"
        "app(['--published', 'wang2022', '--format', 'csv'], standalone_mode=False)\n"
        "heavy = ('torch', 'matplotlib', 'statsmodels', 'seaborn')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stderr.strip() == "[]"
    code = "import sys, kdstats.cli.correlate.command; print([m for m in ('numpy', 'pandas') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
