"""Which folders the tables speak of, where a study's folder holds others beside them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from settings_study import write_study

from analyses import best_and_last, overhead, training
from analyses.study import Study, load_study, run_folders, used_folders
from analyses.study.settings import trained_runs
from analyses.study.steps import recorded_runs
from analyses.study.traits import traits
from kdstats.errors import CheckError
from kdstats.records.paths import RunPaths
from reports.offers import offers


def log(seconds: float, loss: float) -> str:
    return "".join(
        json.dumps({"epoch": epoch, "test_loss": loss, "test_acc": 0.5, "seconds": seconds}) + "\n"
        for epoch in (1, 2, 3, 4)
    )


def write_log(paths: RunPaths, scheme: str, seed: int) -> None:
    paths.metrics.write_text(log(1.0, 0.5), encoding="utf-8")
    paths.done.write_text('{"extra": {"outcome": {"best_chosen_by": "validation images"}}}', encoding="utf-8")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    root = write_study(
        tmp_path / "study",
        loss=lambda scheme, seed: 0.5 + 0.01 * seed + 0.001 * len(scheme),
        schemes=("identity", "cutmix"),
        after=write_log,
    )
    return load_study(root, seed=0)


def add_stranger(study: Study, recipe: str) -> Path:
    """A run of other settings under the same pair, scheme and seed: slow, with a high loss, and a state of its own."""
    *_, own = next(one for one in run_folders(study.paths) if one[1:3] == ("cutmix", 0))
    other = own.with_name("0badcafe")
    shutil.copytree(own, other)
    (other / "metrics.jsonl").write_text(log(100.0, 9.0), encoding="utf-8")
    (other / "done.json").write_text('{"extra": {"outcome": {"best_chosen_by": "x"}}}', encoding="utf-8")
    (other / "last.safetensors").write_bytes(b"")
    card = json.loads((own / "run.json").read_text(encoding="utf-8"))
    (other / "run.json").write_text(json.dumps(card | {"recipe_digest": recipe}), encoding="utf-8")
    return own


def with_digests(study: Study) -> Study:
    """As tables are written today: every row names its folder."""
    own = (one for one in run_folders(study.paths) if one[3].name != "0badcafe")
    names = {(scheme, seed): folder.name for _, scheme, seed, folder in own}
    digests = [names[key] + 56 * "0" for key in zip(study.runs["scheme"], study.runs["seed"], strict=True)]
    return replace(study, runs=study.runs.assign(digest=digests))


@pytest.mark.parametrize("named", [False, True], ids=["by recipe", "by digest"])
def test_runs_that_the_tables_do_not_speak_of_enter_no_number(study: Study, named: bool) -> None:
    study = with_digests(study) if named else study
    before = used_folders(study)
    assert len(before) == len(study.used) == 6
    numbers = overhead.run(study).table, training.run(study).table
    own = add_stranger(study, "of another teacher")
    study = replace(study)  # what is known of a folder is known of one moment
    assert used_folders(study) == before
    assert own in [folder for *_, folder in before]
    for one, again in zip(numbers, (overhead.run(study).table, training.run(study).table), strict=True):
        assert one.equals(again)
    assert {run.folder for run in trained_runs(study)} == {folder for *_, folder in before}
    assert "held out from training" in " ".join(best_and_last.run(study).findings)
    assert not traits(study).weights
    assert recorded_runs(study) == ()


def test_what_cannot_be_told_apart_is_not_guessed(study: Study) -> None:
    recipe = str(study.runs["recipe_digest"].iloc[0])
    add_stranger(study, recipe)
    study = replace(study)
    with pytest.raises(CheckError, match=r"cutmix, seed 0 has 2 folders of one recipe"):
        used_folders(study)
    assert len(used_folders(with_digests(study))) == 6


def test_a_run_whose_folder_is_gone_has_none(study: Study) -> None:
    *_, gone = used_folders(with_digests(study))[0]
    known = with_digests(study)
    shutil.rmtree(gone)
    assert gone not in [folder for *_, folder in used_folders(known)]
    assert len(used_folders(known)) == 5


def test_an_epoch_without_a_finite_loss_is_a_gap(study: Study) -> None:
    """A run may recover: its last epoch is what counts, and is checked with the tables."""
    *_, folder = used_folders(study)[0]
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    for loss in ("NaN", "Infinity"):
        bad = lines[1].replace('"test_loss": 0.5', f'"test_loss": {loss}')
        assert bad != lines[1]
        (folder / "metrics.jsonl").write_text("\n".join([lines[0], bad, *lines[2:], ""]), encoding="utf-8")
        curves = training.run(replace(study)).curves
        own = curves[(curves["scheme"] == "cutmix") | (curves["scheme"] == "identity")]
        assert own["test_loss"].isna().sum() == 1
        assert training.run(replace(study)).table["seeds"].tolist() == [3, 3]


def test_settings_that_were_not_read_are_not_said_to_be_lacking(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analyses.study.traits.MOST_READ", 1)
    by = {offer.name: offer for offer in offers(replace(study))}
    for name in ("epoch_sweep", "view_targets", "switching_period", "std_logits"):
        assert not by[name].fits
        assert "were not read" in by[name].why_not, name
    assert by["overhead"].fits
