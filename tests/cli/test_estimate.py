"""``kdstats estimate`` from the shell's side: formats, choices, refusals and exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys

import pytest
import typer

from kdstats.cli.estimate import command as subject
from kdstats.console import run_program
from kdstats.estimators.covariance import ce_covariance
from kdstats.recorded.steps import step_matrix
from kdstats.records.paths import RunPaths
from kdstats.records.writer import write_done
from tests.recorded.conftest import record

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("estimate")(subject.command)
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


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for scheme, seeds in (("cutmix", (0, 1, 2)), ("identity", (0, 1))):
        for seed in seeds:
            record(folder / scheme / f"seed={seed}", seed=seed, scheme=scheme, teacher="t", student="s")
    return folder


@pytest.fixture
def study(made, tmp_path):
    shutil.copytree(made, tmp_path / "study")
    return tmp_path / "study"


def test_table_over_seeds(run, made):
    code, out, err = run(made)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()[:5] if line}
    assert lines["cutmix"].split()[1] == "3"
    assert lines["identity"].split()[1] == "2"
    assert "epoch 6; 5 runs, 460 rows" in out
    assert "Correlation of two losses that share" in out
    assert "95 % intervals over seeds" in out
    assert "too few for wang2022_v3, the released statistic (it needs 5" in out
    assert err.count("run ") == 5
    assert "\x1b[" not in out


def test_json_is_one_document_with_provenance(run, made):
    code, out, _ = run(made / "cutmix", "--format", "json", "--epochs", ":")
    document = json.loads(out)
    assert code == 0
    assert document["schema"] == "kdstats/estimate/1"
    assert document["provenance"]["command"].startswith("kdstats estimate ")
    assert document["provenance"]["version"]
    (row,) = [r for r in document["results"] if r["quantity"] == "mean_covariance"]
    values = []
    for seed in range(3):
        u, epochs, _ = step_matrix(RunPaths(made / "cutmix" / f"seed={seed}"), range(1, 7))
        values.append(ce_covariance(u, groups=epochs).mean_covariance.value)
    assert row["value"] == pytest.approx(sum(values) / 3, rel=1e-9)
    assert row["low"] < row["value"] < row["high"]
    assert (row["runs"], row["unit"], row["scheme"]) == (3, "nats²", "cutmix")
    assert document["runs"][0]["epochs"] == [1, 2, 3, 4, 5, 6]
    assert document["runs"][0]["components"]["images"] == 46
    assert document["refused"] == []
    quantities = {r["quantity"] for r in document["results"]}
    assert {"t_stddev", "v2_cov1", "variance image", "correlation same_step", "teacher_entropy"} <= quantities


def test_csv_is_tidy_and_unrounded(run, made):
    code, out, _ = run(made / "cutmix", "--by", "run", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert {row["seed"] for row in rows} == {"0", "1", "2"}
    (row,) = [r for r in rows if r["quantity"] == "risk_variance" and r["seed"] == "1"]
    u, _, _ = step_matrix(RunPaths(made / "cutmix" / "seed=1"), [6])
    assert float(row["value"]) == pytest.approx(ce_covariance(u).risk_variance.value, rel=1e-9)
    assert float(row["se"]) == pytest.approx(ce_covariance(u).risk_variance.se, rel=1e-6)


def test_by_epoch_takes_all_epochs(run, made, tmp_path):
    plot = tmp_path / "epochs.svg"
    code, out, err = run(made, "--by", "epoch", "--components", "none", "--format", "md", "--plot", plot)
    assert code == 0
    assert len(re.findall(r"^\| cutmix \| +\d", out, re.M)) == 6
    assert "along epochs 1 to 6" in err
    assert plot.stat().st_size > 5_000


def test_epochs_may_be_chosen(run, made):
    run_dir = made / "cutmix" / "seed=0"
    for text, epochs in (("2:3", [2, 3]), (":2", [1, 2]), ("5:", [5, 6]), ("4", [4])):
        out = run(run_dir, "--epochs", text, "--format", "json")[1]
        assert json.loads(out)["runs"][0]["epochs"] == epochs
    assert run(run_dir, "--epochs", "7:")[0] == 2
    assert "recorded 6 epochs from 1 to 6" in run(run_dir, "--epochs", "7:")[2]
    assert "first epoch lies after" in run(run_dir, "--epochs", "3:2")[2]
    assert "is no range" in run(run_dir, "--epochs", "a:b")[2]


def test_latex_and_plot(run, made, tmp_path):
    plot = tmp_path / "schemes.png"
    code, out, err = run(f"{made}/*/seed=*", "--format", "latex", "--plot", plot)
    assert code == 0
    assert out.count(r"\begin{tabular}") == 3
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert "caption: Mean covariance" in err
    assert "2 schemes, 2 to 3 runs each" in err


def test_reml_where_asked(run, made):
    out = run(made / "cutmix" / "seed=0", "--components", "reml", "--format", "json", "--epochs", ":")[1]
    document = json.loads(out)
    assert document["runs"][0]["components"]["method"] == "reml"
    (row,) = [r for r in document["results"] if r["quantity"] == "variance image"]
    assert "restricted maximum likelihood" in row["method"]


def test_incomplete_and_damaged_runs_of_a_folder_are_named_and_the_rest_is_done(run, study):
    (study / "cutmix" / "seed=1" / "done.json").unlink()
    part = study / "identity" / "seed=0" / "samples" / "epoch=0006.parquet"
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    code, out, err = run(study)
    assert code == 3
    assert "2 runs are left out" in err
    assert "seed=1 is incomplete: it has no done.json" in err
    assert "epoch=0006.parquet" in err
    assert re.search(r"^cutmix +2 ", out, re.M)
    # Named by hand, each is an error of its own.
    assert run(study / "cutmix" / "seed=1")[0] == 4
    assert run(study / "identity" / "seed=0")[0] == 4
    assert run(study / "cutmix" / "seed=1", study / "cutmix" / "seed=2")[0] == 4
    for name in ("cutmix/seed=0", "cutmix/seed=2", "identity/seed=1"):
        shutil.rmtree(study / name)
    code, out, err = run(study)
    assert (code, out) == (4, "")
    assert "no run could be read" in err


def test_one_malformed_run_does_not_hide_the_others(run, study):
    seeds = [study / "cutmix" / f"seed={seed}" for seed in range(3)]
    (seeds[0] / "run.json").write_text("[" * 100_000)
    write_done(RunPaths(seeds[0]))
    record(study / "short", seed=9, epochs=1, scheme="cutmix", teacher="t", student="s")
    done = json.loads((seeds[1] / "done.json").read_text())
    done["parts"]["pools.parquet"] = None
    (seeds[1] / "done.json").write_text(json.dumps(done))
    code, out, err = run(study, "--epochs", "2:")
    assert code == 3
    assert "3 runs are left out" in err
    for said in ("nested too deeply", "what it says of 'pools.parquet'", "recorded epoch 1 alone"):
        assert said in err
    assert "Traceback" not in err
    assert re.search(r"^cutmix +1 ", out, re.M)
    assert re.search(r"^identity +2 ", out, re.M)
    assert run(seeds[0])[0] == run(seeds[1])[0] == 4
    # Where no run is left, the error is of their kind.
    code, out, err = run(study / "identity", "--epochs", "7:")
    assert (code, out) == (2, "")
    assert "no run could be read" in err


def test_few_pools_an_epoch_are_noted(run, made):
    for what, said in (
        ("cutmix/seed=0", "note: an epoch holds only"),
        ("cutmix", "note: 3 of 3 runs: an epoch holds"),
    ):
        assert said in run(made / what, "--components", "none")[1]


def test_unlike_runs_are_not_averaged(run, study):
    record(study / "cutmix" / "other", seed=5, scheme="cutmix", teacher="t", student="s", recipe="longer")
    code, out, _ = run(study / "cutmix", "--components", "none")
    assert code == 0
    assert "cutmix of t/s: runs of 2 definitions or recipes, not averaged together" in out
    assert sorted(int(n) for n in re.findall(r"^cutmix, [0-9a-f]{8} +(\d) ", out, re.M)) == [1, 3]


def test_what_is_refused(run, made, study):
    shutil.copytree(study / "cutmix" / "seed=0", study / "copy")
    for arguments, code, said in (
        ((made / "nothing",), 4, "does not exist"),
        ((made, "--by", "epochs"), 2, "'epoch'"),
        ((made, "--components", "remml"), 2, "'reml'"),
        ((made, "--format", "yaml"), 2, "yaml"),
        ((made, "--confidence", "95"), 2, "between 0 and 1"),
        ((made, "--plot", made / "x.gif"), 2, ".png"),
        ((study,), 2, "are the same run"),
        ((), 2, "RUN_DIR"),
    ):
        found, out, err = run(*arguments)
        assert (found, out) == (code, ""), arguments
        assert said in err, arguments


def test_torch_is_not_needed(made):
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['kdstats', 'estimate', sys.argv[1], '--format', 'csv']\n"
        "from kdstats.cli.main import main\nmain()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(made / "cutmix" / "seed=0")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("dataset,teacher,student,scheme")


def test_a_reason_that_many_runs_share_is_said_once(run, made):
    code, out, err = run(made, "--epochs", "7")
    last = err.splitlines()[-1]
    assert (code, out) == (2, "")
    assert last.count("seed=") == 1
    assert "seed=0 (and 4 more) recorded 6 epochs from 1 to 6, none in --epochs 7" in last


def test_two_seeds_are_noted_and_three_are_not(run, made):
    out = run(made)[1]
    assert (
        "note: 2 seeds (identity): with 1 degree of freedom an interval reaches 12.7 standard errors" in out
    )
    assert "2 seeds (" not in run(made / "cutmix")[1]
    assert "2 seeds (" not in run(made, "--by", "run")[1]


def test_how_to_read_the_numbers(run, made):
    out = run(made)[1]
    assert "Mean covariance: lower is better by the paper's argument" in out
    assert "T. stddev over seeds: the interval is over runs; on a study's page" in out
    alone = run(made / "cutmix" / "seed=0")[1]
    assert "over the steps and pools of the run" in alone
    assert "T. stddev over seeds" not in alone
    assert out.splitlines()[-1] == "What the words mean: docs/method.md, section Words."


def test_a_note_of_one_scheme_names_it(run, made):
    out = run(made, "--components", "reml")[1]
    for line in out.splitlines():
        if line.startswith("note: 2 of 2 runs: an epoch holds only"):
            assert line.endswith("(t_stddev of identity)")
            break
    else:
        pytest.fail(out)


def test_in_what_unlike_runs_differ(run, study):
    for seed, lr in ((0, 0.1), (1, 0.1), (2, 0.05)):
        folder = study / "cutmix" / f"seed={seed}"
        card = {"run": {"scheme": "cutmix", "seed": seed, "recipe": {"lr": lr}}, "recipe_digest": f"{lr}" * 8}
        (folder / "run.json").write_text(json.dumps(card))
        write_done(RunPaths(folder))
    out = run(study / "cutmix", "--components", "none")[1]
    assert "not averaged together; they differ in recipe.lr 0.1 or 0.05" in out
