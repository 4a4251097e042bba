"""What `status` says of every state a run can be in, and how long it thinks it will take."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kdstats.records.writer import write_done
from runners import recipes
from runners.claim import Claim
from runners.executors.attempt import note_failure
from runners.run_spec import RunSpec
from runners.study.standing import Standing, standing
from runners.study.status import seconds_left, summary, view
from runners.study_file import StudyFile


def _study(seeds=(0, 1)):
    return StudyFile.model_validate(
        {
            "study": {"name": "x"},
            "grid": {"pairs": ["resnet8/lenet8"], "schemes": ["identity", "cutmix"], "seeds": seeds},
            "exclude": [{"scheme": "cutmix", "seed": 1, "reason": "lamp fell"}],
        }
    )


def _specs(study):
    return [
        RunSpec(
            "digits", None, "0" * 64, "resnet8", "t", "resnet8", "0" * 64, "lenet8", scheme, seed,
            recipes.get("digits").with_epochs(10),
        )
        for seed in study.grid.seeds
        for scheme in study.grid.schemes
    ]  # fmt: skip


def _begin(spec, study: Path, epochs):
    paths = spec.paths(study)
    paths.root.mkdir(parents=True)
    paths.metrics.write_text(
        "".join(json.dumps({"epoch": e + 1, "seconds": 3.0}) + "\n" for e in range(epochs))
    )
    return paths


def _text(now, study, out):
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(view(now, study, out))
    return console.export_text()


def test_every_state_has_its_words(tmp_path):
    study = _study()
    done, running, failed, queued = _specs(study)
    write_done(_begin(done, tmp_path, 10), {"outcome": {"acc_last": 0.5412}})
    claim = Claim(_begin(running, tmp_path, 4).root)
    assert claim.attempt() is None
    note_failure(failed, _begin(failed, tmp_path, 2), "FloatingPointError: loss is NaN", "traceback\n")
    now = [standing(spec, tmp_path) for spec in (done, running, failed, queued)]
    claim.release()
    assert [s.state for s in now] == ["done", "running", "failed", "queued"]
    text = _text(now, study, tmp_path)
    assert "done 54.1" in text
    assert "epoch 4/10 ━━━━╺╺╺╺╺╺ 18 s" in text
    assert "failed at epoch 2/10" in text
    assert "queued (left out)" in text
    assert f"FloatingPointError: loss is NaN (log: {failed.paths(tmp_path).log})" in text
    # One at work, 6 + 8 + 10 epochs of 3 s left.
    assert "4 runs: 1 done, 1 running, 1 failed, 1 queued · about 1 min 12 s left" in text
    assert standing(running, tmp_path).state == "paused"
    assert failed.paths(tmp_path).log.read_text() == "traceback\n"


def test_a_run_with_a_missing_part_is_not_done(tmp_path):
    study = _study()
    spec = _specs(study)[0]
    paths = _begin(spec, tmp_path, 10)
    write_done(paths, {"outcome": {"acc_last": 0.5}})
    paths.metrics.unlink()
    assert standing(spec, tmp_path).state == "queued"


def test_many_seeds_are_counted_not_listed(tmp_path):
    study = _study(tuple(range(9)))
    now = [Standing(spec, "queued", 0) for spec in _specs(study)]
    now[0] = replace(now[0], state="done", epochs=10, accuracy=0.5)
    text = _text(now, study, tmp_path)
    assert "9 seeds" in text
    assert "done 1 · queued 8" in text


@pytest.mark.parametrize("failures", [0, 25])
def test_a_long_list_of_failures_is_cut(tmp_path, failures):
    study = _study(tuple(range(40)))
    now = [Standing(spec, "failed", 0, error="boom") for spec in _specs(study)[:failures]]
    now += [Standing(spec, "queued", 0) for spec in _specs(study)[failures:]]
    text = _text(now, study, tmp_path)
    assert text.count("boom") == min(failures, 20)
    assert ("and 5 more" in text) == (failures == 25)


def test_time_left():
    specs = _specs(_study())
    busy = [Standing(spec, "running", 5, 2.0) for spec in specs[:2]]
    rest = [Standing(spec, "queued", 0) for spec in specs[2:]]
    assert seconds_left(busy + rest) == pytest.approx((5 + 5 + 10 + 10) * 2.0 / 2)
    assert seconds_left(rest) is None, "nothing runs: nothing is promised"
    alone = [Standing(specs[0], "running", 0, 2.0), Standing(specs[1], "running", 9, 2.0)]
    assert seconds_left(alone) == pytest.approx(20), "the longest run is a floor"
    assert summary(rest) == "2 runs: 2 queued"
