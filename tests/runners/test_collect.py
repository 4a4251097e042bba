"""From rows on disk to the matrix of cross-entropies, by position."""

import numpy as np
import pytest

from kdstats.errors import MissingError
from kdstats.recorded.steps import last_quarter, step_matrix
from kdstats.records.paths import RunPaths
from kdstats.records.recorder import Recorder


@pytest.fixture
def recorded(tmp_path):
    rng = np.random.default_rng(0)
    expected = {}
    with Recorder(tmp_path / "run", classes=4, meta={"scheme": "identity"}) as recorder:
        for epoch in range(8):
            recorder.start_epoch(epoch)
            for step, size in enumerate((6, 6, 3)):
                ids = np.arange(size)
                for view in ("original", "augmented"):
                    teacher, student = rng.normal(size=(2, size, 4)).astype(np.float32)
                    recorder.add(
                        step=step,
                        sample_id=ids,
                        labels=ids % 4,
                        teacher_logits=teacher,
                        student_logits=student,
                        view=view,
                    )
                    p = np.exp(teacher - np.log(np.exp(teacher).sum(1, keepdims=True)))
                    log_q = student - np.log(np.exp(student).sum(1, keepdims=True))
                    expected[epoch, step, view] = -(p * log_q).sum(1)
            recorder.end_epoch()
    return RunPaths(tmp_path / "run"), expected


def test_the_matrix_holds_full_steps_of_the_last_quarter(recorded):
    paths, expected = recorded
    u, epochs, _ = step_matrix(paths, last_quarter(paths))
    rows = [
        np.concatenate([expected[e, s, "original"], expected[e, s, "augmented"]])
        for e in (6, 7)
        for s in (0, 1)
    ]
    assert epochs.tolist() == [6, 6, 7, 7]
    assert u == pytest.approx(np.array(rows), rel=1e-5)


def test_a_damaged_part_is_reported_and_the_run_no_longer_called_complete(tmp_path, monkeypatch):
    import torch

    from kdstats import data
    from kdstats.records.paths import StudyPaths
    from kdstats.records.writer import is_complete
    from kdstats.teacher.load import load_network
    from runners import recipes
    from runners.run_spec import RunSpec
    from runners.study.collect import collect
    from runners.training.loop import train_student

    train, test = data.load("digits", "train").head(320), data.load("digits", "test").head(50)
    teacher = load_network(None, None, train, torch.device("cpu"))
    specs = [
        RunSpec(
            "digits", None, train.digest, "resnet8", teacher.source, "resnet8", teacher.sha256, "lenet8", scheme,
            0, recipes.get("digits").with_epochs(2),
        )
        for scheme in ("identity", "cutmix")
    ]  # fmt: skip
    for spec in specs:
        train_student(spec, spec.paths(tmp_path), train, test, teacher)
    assert collect(StudyPaths(tmp_path), specs) == []
    part = specs[1].paths(tmp_path).sample_part(2)
    with monkeypatch.context() as moment:  # a disk that does not answer for a moment is no damage

        def failing(*args, **kwargs):
            raise OSError(5, "Input/output error")

        moment.setattr("pyarrow.parquet.ParquetFile", failing)
        moment.setattr("runners.study.collect.sha256_file", failing)
        with pytest.raises(MissingError, match="keeps its mark as complete"):
            collect(StudyPaths(tmp_path), specs)
    assert all(is_complete(spec.paths(tmp_path)) for spec in specs)
    content = bytearray(part.read_bytes())
    content[-3] ^= 255  # the end of a Parquet file's magic word, at the same size
    part.write_bytes(content)
    ((spec, said),) = collect(StudyPaths(tmp_path), specs)
    assert spec.scheme == "cutmix"
    assert "epoch=0002.parquet" in said
    assert not is_complete(spec.paths(tmp_path))
    assert is_complete(specs[0].paths(tmp_path))


def test_the_released_statistic_is_one_number_in_the_study_and_in_estimate(tmp_path):
    from kdstats.recorded.estimate import estimate_run
    from runners.study.collect import _released

    rng = np.random.default_rng(1)
    with Recorder(tmp_path / "run", classes=3, meta={"scheme": "identity"}) as recorder:
        for epoch in range(1, 5):
            recorder.start_epoch(epoch)
            for step in range(41):
                size = 100 if step < 40 else 30  # a short last batch
                ids = np.arange(size)
                for view in ("original", "augmented"):
                    teacher, student = rng.normal(size=(2, size, 3)).astype(np.float32)
                    recorder.add(
                        step=step,
                        sample_id=ids,
                        labels=ids % 3,
                        teacher_logits=teacher,
                        student_logits=student,
                        view=view,
                    )
            recorder.end_epoch()
    paths = RunPaths(tmp_path / "run")
    u, _, _ = step_matrix(paths, [1, 2, 3, 4])
    found = estimate_run(paths, (1, 2, 3, 4), components=False).wang2022_v3
    assert found is not None
    assert _released(u) == pytest.approx(found, rel=1e-12)
    assert np.isnan(_released(u[:100]))
