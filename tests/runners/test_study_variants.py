"""A real study of several settings at once: runs of their own, rows of their own, and nothing averaged over them."""

import json

import numpy as np
import pytest

from analyses import fairness
from analyses.study import load_study
from analyses.study.settings import trained_runs
from kdstats.errors import UsageError
from kdstats.records.scanner import read_runs, read_study
from runners.study.command import main

STUDY = """
[study]
name = "settings"
per_class = 40
[grid]
pairs = ["resnet8/lenet8"]
schemes = ["identity", "cutmix"]
seeds = [0, 1]
[teacher.resnet8]
weights = "shipped"
[train]
epochs = 2
[probe]
tol = 0.5
[report]
build = false
[[variant]]
name = "T=1"
kd = {temperature = 1.0}
[[variant]]
name = "replaced"
kd = {originals = "replaced"}
[[variant]]
name = "own"
teaching = {kind = "dual"}
grid = {pairs = ["self/lenet8"], schemes = ["cutmix"], seeds = [0]}
[[exclude]]
variant = "T=1"
scheme = "cutmix"
seed = 1
reason = "power cut"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    file = folder / "s.toml"
    file.write_text(STUDY)
    assert main(["run", str(file), "--out", str(folder / "out"), "--workers", "1", "--device", "cpu"]) == 0
    return file, folder / "out"


def test_every_variant_has_rows_of_its_own(study):
    _, out = study
    runs, table = read_runs(out), read_study(out)
    assert runs.groupby("variant").size().to_dict() == {"T=1": 4, "own": 1, "replaced": 4}
    assert table.groupby("variant").size().to_dict() == {"T=1": 2, "own": 1, "replaced": 2}
    for _, row in table.iterrows():
        own = runs[
            (runs["variant"] == row["variant"]) & (runs["scheme"] == row["scheme"]) & ~runs["excluded"]
        ]
        assert row["test_loss"] == pytest.approx(own["test_loss_last"].mean())
        assert row["seeds"] == len(own)
    assert runs.loc[runs["excluded"], "reason"].tolist() == ["power cut"]


def test_settings_are_columns_where_they_vary(study):
    _, out = study
    runs = read_runs(out).set_index("variant")
    varying = {name.removeprefix("setting.") for name in runs if name.startswith("setting.")}
    assert {"temperature", "originals", "teaching"} <= varying
    assert not {"gamma", "recipe.epochs", "student", "seed"} & varying
    assert runs.loc["own", "setting.teaching"] == "following"
    assert runs.loc["own", "setting.teaching.period"] == 1
    assert np.isnan(runs.loc["T=1", "setting.teaching.period"]).all()
    assert set(runs.loc["T=1", "setting.temperature"]) == {1.0}
    settings = json.loads(runs.loc["own", "settings"])
    assert settings["teaching"]["teachers"] == 2
    assert settings["objective"] == "kd"
    assert set(runs["threads"]) == {1}, "of the study, whatever this machine has"


def test_covariance_says_what_it_is_of(study):
    _, out = study
    runs = read_runs(out).set_index("variant")
    assert set(runs.loc["replaced", "covariance_of"]) == {"views: originals are replaced"}
    assert set(runs.loc["T=1", "covariance_of"]) == {"originals and views"}
    assert runs["mean_covariance"].notna().all()


def test_teachers_that_follow_are_neither_loaded_nor_measured(study, capsys):
    file, out = study
    assert [p.name for p in (out / "t_stddev").iterdir()] == ["resnet8"]
    table = read_study(out).set_index("variant")
    assert np.isnan(table.loc["own", "t_stddev"])
    assert table.loc["replaced", "t_stddev"].notna().all()
    card = json.loads((out / "study.json").read_text())
    assert list(card["teachers"]) == ["resnet8"]
    assert card["variants"]["own"]["pairs"] == ["self/lenet8"]
    assert card["threads"] == 1
    assert main(["status", str(file), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "9 runs: 9 done" in shown
    assert "no T. stddev is measured: own" in shown
    assert "(left out)" in shown


def test_a_report_compares_within_variants_only(study):
    _, out = study
    found = load_study(out, seed=0)
    assert found.pairs == ("resnet8/lenet8 [T=1]", "resnet8/lenet8 [replaced]", "self/lenet8 [own]")
    assert found.complete
    assert set(found.measured("resnet8/lenet8 [T=1]")) == {"identity", "cutmix"}
    checks = {check.text: check.ok for check in fairness.run(found).checks}
    assert any("within a variant only" in text for text in checks)
    assert any(text == "1 thread in every run" for text in checks)
    assert any(text.startswith("self/lenet8 [own]: teachers follow the student") for text in checks)
    assert {run.pair for run in trained_runs(found)} == {"resnet8/lenet8", "self/lenet8"}


def test_a_folder_keeps_its_threads_and_its_variants(study):
    file, out = study
    with pytest.raises(UsageError, match=r"another executor.threads"):
        main(["run", str(file), "--out", str(out), "--set", "executor.threads=2"])
    other = file.with_name("other.toml")
    other.write_text(STUDY.replace("temperature = 1.0", "temperature = 2.0"))
    with pytest.raises(UsageError, match=r"another variant 'T=1'"):
        main(["run", str(other), "--out", str(out)])
