"""A study of a stranger: it runs no code, waits for nothing, and ends in a study or in a refusal that names the file."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from settings_study import write_study
from synthetic_study import make_study

from analyses import best_and_last, overhead, training
from analyses.study import Study, load_study
from analyses.study.logs import log_rows
from analyses.study.networks import images_tested, load_student, load_teacher, selected
from analyses.study.settings import trained_runs
from kdstats import data
from kdstats.errors import CheckError, KdstatsError, MissingError, UsageError
from kdstats.provenance import sha256_file
from kdstats.records.part import write_table
from kdstats.records.paths import RunPaths
from kdstats.teacher.load import shipped_path

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that is in order; copied, never changed."""
    root = tmp_path_factory.mktemp("plain") / "s"
    return make_study(root, schemes=("identity", "flip", "mixup", "cutmix"), epochs=4, curves=True)


def copy_of(root: Path, target: Path) -> Path:
    """The files of a study, its runs as links to the same folders."""
    target.mkdir()
    for name in ("study.json", "runs.parquet", "study.parquet", "study.toml"):
        (target / name).write_bytes((root / name).read_bytes())
    for path in root.glob("t_stddev/*/*.json"):
        copied = target / path.relative_to(root)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    return target


def put(*keys: str | int, value: Any) -> Change:
    """Sets what lies under ``keys``."""

    def change(document: dict[str, Any]) -> None:
        at: Any = document
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value

    return change


def rewrite(path: Path, change: Change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


ARM = {"a": {"pairs": ["resnet8/lenet8"], "schemes": ["flip"], "seeds": [0], "kd": 3}}
CARDS = [
    (put("seeds", value=[None]), MissingError, r"seeds\.0"),
    (put("seeds", value=["x"]), MissingError, r"seeds\.0"),
    (put("seeds", value=[math.inf]), MissingError, r"seeds\.0"),
    (put("seeds", value=[]), MissingError, "seeds"),
    (put("pairs", value=["a [x/b"]), MissingError, "not teacher/student"),
    (put("pairs", value=["a/"]), MissingError, "not teacher/student"),
    (put("runs", "failed", value=None), MissingError, r"runs\.failed"),
    (put("runs", "failed", value=["x"]), MissingError, r"runs\.failed\.0"),
    (put("runs", "failed", value=[{"seed": "x"}]), MissingError, r"runs\.failed\.0\.seed"),
    (put("variants", value=[1]), MissingError, "variants"),
    (put("variants", value=ARM), MissingError, r"variants\.a\.kd"),
    (put("teachers", value={"resnet8": "x"}), MissingError, r"teachers\.resnet8"),
    (put("teachers", value={"../../x": {}}), MissingError, r"study\.json: teacher '../../x'"),
    (put("teachers", "resnet8", "test_accuracy", value="x"), MissingError, "test_accuracy"),
    (put("teachers", "resnet8", "test_accuracy", value=1.5), CheckError, "test_accuracy"),
    (put("teachers", "resnet8", "test_loss", value=math.inf), CheckError, "test_loss"),
    (put("dataset", "test", value="y"), MissingError, r"dataset\.test"),
    (put("runs", "planned", value=-5), CheckError, r"runs\.planned"),
    (put("runs", "done", value=10**4000), CheckError, r"runs\.done"),
    (put("runs", "done", value=10**4), CheckError, "10,000 of 12 runs"),
    (put("name", value="x\ud800y"), MissingError, "half a character"),
    (put("provenance", "command", value="\udfff"), MissingError, "half a character"),
    (put("recipe", "x", value=[[[[1]]]]), MissingError, r"recipe\.x"),
    (
        lambda c: c.update(seeds=[*range(20_000)], schemes=[f"s{i}" for i in range(2_000)]),
        CheckError,
        "40,000,",
    ),
]


@pytest.mark.parametrize(("change", "error", "match"), CARDS)
def test_a_card_that_cannot_be_is_refused(
    plain: Path, tmp_path: Path, change: Change, error: type[KdstatsError], match: str
) -> None:
    root = copy_of(plain, tmp_path / "s")
    rewrite(root / "study.json", change)
    with pytest.raises(error, match=match) as caught:
        load_study(root, seed=0)
    assert "study.json" in str(caught.value)


def row(**values: Any) -> Change:
    return lambda document: [found.update(values) for found in document["results"]]


DOCUMENTS = [
    (put("results", value=[1]), MissingError, r"results\.0"),
    (put("results", value="abc"), MissingError, "results"),
    (put("comparisons", value=None), MissingError, "comparisons"),
    (put("comparisons", 0, "low", value=None), MissingError, r"comparisons\.0\.low"),
    (put("student", value="x"), MissingError, "student"),
    (put("definition", value=[1]), MissingError, "definition"),
    (put("definition", "x", value={"a": ["<b>"]}), MissingError, r"definition\.x"),
    (put("teacher", "sha256", value=5), MissingError, r"teacher\.sha256"),
    (put("provenance", value="x"), MissingError, "provenance"),
    (row(components=None), MissingError, "components"),
    (row(t_stddev="x"), MissingError, "t_stddev"),
    (row(t_stddev=math.inf), CheckError, "t_stddev"),
    (row(t_stddev=-1.0), CheckError, "t_stddev"),
    (row(rivals=None), MissingError, "rivals"),
]


@pytest.mark.parametrize(("change", "error", "match"), DOCUMENTS)
def test_a_measurement_that_cannot_be_is_refused(
    plain: Path, tmp_path: Path, change: Change, error: type[KdstatsError], match: str
) -> None:
    root = copy_of(plain, tmp_path / "s")
    rewrite(root / "t_stddev" / "resnet8" / "teacher-only.json", change)
    with pytest.raises(error, match=rf"teacher-only\.json.*{match}"):
        load_study(root, seed=0)


TABLES = [
    ("study", {"t_stddev": math.inf}, "t_stddev is inf"),
    ("study", {"t_stddev": -1.0}, "t_stddev is -1"),
    ("study", {"t_stddev_high": math.inf}, "t_stddev_high"),
    ("study", {"acc": 1.5}, "acc is 1.5"),
    ("study", {"mean_covariance": -math.inf}, "mean_covariance"),
    ("runs", {"acc_last": 1e308}, r"acc_last is 1e\+308"),
    ("runs", {"acc_best": -0.1}, "acc_best"),
    ("runs", {"test_loss_best": 1e308}, "test_loss_best"),
    ("runs", {"epochs": 2**30}, "epochs"),
]


@pytest.mark.parametrize(("table", "values", "match"), TABLES)
def test_numbers_that_no_measurement_gives_are_refused(
    plain: Path, tmp_path: Path, table: str, values: dict[str, Any], match: str
) -> None:
    root = copy_of(plain, tmp_path / "s")
    path = root / f"{table}.parquet"
    write_table(path, table, pd.read_parquet(path).assign(**values))
    with pytest.raises(CheckError, match=rf"{table}\.parquet: {match}"):
        load_study(root, seed=0)


def test_numbers_of_an_excluded_run_may_be_anything(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", excluded=(("flip", 0),), curves=False)
    frame = pd.read_parquet(root / "runs.parquet")
    frame.loc[frame["excluded"], ["test_loss_last", "test_loss_best"]] = math.inf
    write_table(root / "runs.parquet", "runs", frame)
    assert len(load_study(root, seed=0).used) == 26


@pytest.mark.parametrize("name", ["t_stddev/resnet8/x.json", "study.json"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "huge", "folder"])
def test_what_is_no_small_file_is_neither_waited_for_nor_read(
    plain: Path, tmp_path: Path, name: str, kind: str
) -> None:
    root = copy_of(plain, tmp_path / "s")
    path = root / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 20 << 30)
    with pytest.raises(MissingError, match=path.name):
        load_study(root, seed=0)


def test_a_name_that_is_not_utf_8_is_no_damage(plain: Path, tmp_path: Path) -> None:
    root = copy_of(plain, Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff")))
    with pytest.raises(UsageError, match="not UTF-8"):
        load_study(root, seed=0)


# Logs


def logged(tmp_path: Path, text: str) -> Study:
    def after(run: RunPaths, scheme: str, seed: int) -> None:
        run.metrics.write_text(text)

    return load_study(
        write_study(
            tmp_path / "s",
            loss=lambda s, k: 0.5,
            schemes=("identity", "flip"),
            after=after,
        ),
        seed=0,
    )


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"epoch": 2, "test_loss": 1e308}', r"test_loss 1e\+308"),
        ('{"epoch": 2, "test_loss": "1"}', "test_loss '1'"),
        ('{"epoch": 2}', "'test_loss' is missing"),
        ('{"epoch": Infinity, "test_loss": 1}', "epoch inf"),
        ('{"epoch": 1e300, "test_loss": 1}', r"epoch 1e\+300"),
        ('{"epoch": -5, "test_loss": 1}', "epoch -5"),
        ('{"epoch": 1.5, "test_loss": 1}', "epoch 1.5"),
        (f'{{"epoch": 2, "test_loss": 1{"0" * 400}}}', "too large"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "no object"),
    ],
)
def test_a_log_with_a_number_that_cannot_be_is_named_with_its_line(
    tmp_path: Path, line: str, match: str
) -> None:
    study = logged(tmp_path, f'{{"epoch": 1, "test_loss": 1}}\n{line}\n')
    with pytest.raises(MissingError, match=rf"metrics\.jsonl, line 2, .*{match}"):
        training.run(study)


def test_one_reading_of_a_log_serves_both_questions(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"epoch": 2, "test_loss": 3, "seconds": 5}\n{"epoch": 1, "test_loss": 1}\n'
        '{"epoch": 2, "test_loss": 2, "seconds": 4}\n{"note": 1}\n'
    )
    assert log_rows(path, optional=("test_loss", "seconds")) == {
        1: {"test_loss": 1.0},
        2: {"test_loss": 2.0, "seconds": 4.0},
    }
    assert log_rows(path, optional=("seconds",)) == {2: {"seconds": 4.0}}
    with pytest.raises(MissingError, match="line 4"):
        log_rows(path, ("test_loss",))


@pytest.mark.parametrize("question", [training, overhead])
def test_a_log_that_is_a_pipe_is_named(tmp_path: Path, question: Any) -> None:
    study = logged(tmp_path, '{"epoch": 1, "test_loss": 1, "seconds": 1}\n')
    path = next(study.paths.run_root.rglob("metrics.jsonl"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(MissingError, match="no regular file"):
        question.run(study)


def test_a_damaged_end_of_a_run_is_named_and_an_absent_one_unknown(tmp_path: Path) -> None:
    study = logged(tmp_path, "")
    assert best_and_last.run(study).chosen_by == ("unknown",)
    path = next(study.paths.run_root.rglob("run.json")).with_name("done.json")
    path.write_text('{"extra": {"outcome": {"best_chosen_by": "test images"}}}')
    assert best_and_last.run(study).chosen_by == ("test images", "unknown")
    path.write_text('{"extra": 3}')
    assert best_and_last.run(study).chosen_by == ("unknown",)
    path.write_text('{"extra"')
    with pytest.raises(MissingError, match=r"done\.json is not a readable"):
        best_and_last.run(study)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(MissingError, match=r"done\.json is not a readable"):
        best_and_last.run(study)


# Settings of runs


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (put("run", "objective_params", value=3), r"run\.objective_params"),
        (put("run", "objective_params", value=["ab"]), r"run\.objective_params"),
        (put("run", "recipe", "epochs", value="x"), r"run\.recipe\.epochs"),
        (put("run", "recipe", "epochs", value=0), r"run\.recipe\.epochs"),
        (put("run", "recipe", "milestones", value=["x"]), r"run\.recipe\.milestones\.0"),
        (put("run", "recipe.epochs", value="x"), r"run\.recipe\.epochs"),
        (put("run", "temperature", value="x"), r"run\.temperature"),
        (put("run", "scheme", value="(" * 5000), "scheme"),
        (put("run", "scheme", value="mixup(alpha='x')"), r"scheme\.alpha"),
        (put("run", "img_size", value=200_000), r"run\.img_size"),
        (put("run", "deep", value=[[[[1]]]]), r"run\.deep"),
        (lambda c: c["run"].pop("dataset"), r"run\.dataset"),
        (put("run", value=3), "no settings under 'run'"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, change: Change, match: str) -> None:
    root = write_study(tmp_path / "s", loss=lambda s, k: 0.5, seeds=(0,))
    rewrite(next(root.rglob("run.json")), change)
    with pytest.raises((MissingError, CheckError), match=rf"run\.json.*{match}"):
        trained_runs(load_study(root, seed=0))


def test_what_early_and_odd_studies_of_our_own_hold_is_taken(plain: Path, tmp_path: Path) -> None:
    """A run without a weight of its own for L, and a seed that was asked for and failed for its size."""
    root = write_study(tmp_path / "s", loss=lambda s, k: 0.5, seeds=(0,), changes={"beta": None})
    assert len(trained_runs(load_study(root, seed=0))) == 1
    rewrite(next(root.rglob("run.json")), put("run", "objective", value="other"))
    with pytest.raises(MissingError, match=r"run\.json: beta is None and no number"):
        trained_runs(load_study(root, seed=0))
    again = copy_of(plain, tmp_path / "again")
    rewrite(again / "study.json", lambda c: c["seeds"].append(10**20))
    assert set(load_study(again, seed=0).missing["seed"]) == {10**20}


# Code and addresses


@pytest.fixture
def bait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder that leaves a mark when it is imported."""
    (tmp_path / "bait_module.py").write_text("import sys\nsys.bait_was_taken = True\ndef make(): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "bait_was_taken", False, raising=False)
    monkeypatch.delitem(sys.modules, "bait_module", raising=False)
    return "bait_module:make"


def named(root: Path, pair: str = "resnet8/lenet8", **teacher: Any) -> Study:
    weights = shipped_path()
    said = {"path": str(weights), "sha256": sha256_file(weights), "arch": "resnet8"} | teacher
    name = pair.split("/")[0]
    write_study(root, loss=lambda s, k: 0.5, seeds=(0,), pair=pair, teachers={name: said})
    return load_study(root, seed=0)


@pytest.mark.parametrize("key", ["path", "arch"])
def test_a_teacher_named_as_code_is_not_imported(tmp_path: Path, bait: str, key: str) -> None:
    study, images = named(tmp_path / "s", **{key: bait}), data.load("digits", "test")
    with pytest.raises(MissingError, match=r"study\.json names .*bait_module:make.*--trust"):
        load_teacher(study, "resnet8", images)
    assert not sys.bait_was_taken  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="bait_module"):  # it returns no network, which only a call tells
        load_teacher(load_study(study.paths.root, seed=0, trusted=True), "resnet8", images)
    assert sys.bait_was_taken  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["torchvision:resnet18", "timm:resnet18", "hf-hub:some/net"])
def test_a_teacher_named_by_an_address_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("kdstats.teacher.pretrained.fetch", lambda *a: pytest.fail("it was fetched"))
    monkeypatch.setattr("kdstats.teacher.pretrained.check", lambda *a: pytest.fail("it was looked up"))
    with pytest.raises(MissingError, match=rf"by code or address, {path}"):
        load_teacher(named(tmp_path / "s", path=path), "resnet8", data.load("digits", "test"))


@pytest.mark.parametrize("path", ["/dev/zero", "pkg/module.py:make", "torchvison:resnet18"])
def test_a_teacher_that_is_no_file_is_missing(tmp_path: Path, path: str) -> None:
    with pytest.raises(MissingError):
        load_teacher(named(tmp_path / "s", path=path), "resnet8", data.load("digits", "test"))


def test_the_study_s_own_weights_are_loaded(tmp_path: Path) -> None:
    images = data.load("digits", "test")
    assert load_teacher(named(tmp_path / "s"), "resnet8", images).arch == "resnet8"


def test_a_student_named_as_code_is_not_imported(tmp_path: Path, bait: str) -> None:
    study = named(tmp_path / "s", pair=f"resnet8/{bait}")
    (run,) = trained_runs(study)
    (run.folder / "last.safetensors").write_bytes(shipped_path().read_bytes())
    with pytest.raises(MissingError, match=r"names code, bait_module:make.*--trust"):
        load_student(run, data.load("digits", "test"))
    assert not sys.bait_was_taken  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", ["secret.txt", "{root}/secret.txt"])
def test_a_file_of_classes_is_read_only_for_a_trusted_study(tmp_path: Path, place: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2\n")
    classes = f"@{place.format(root=tmp_path)}"
    root = write_study(tmp_path / "s", loss=lambda s, k: 0.5, seeds=(0,), changes={"classes": classes})
    study = load_study(root, seed=0)
    (run,) = trained_runs(study)
    with pytest.raises(MissingError, match=r"run\.json takes its classes from a file") as caught:
        images_tested(study, run)
    assert "hunter2" not in str(caught.value)
    trusting = load_study(root, seed=0, trusted=True)
    assert selected(trusting, trained_runs(trusting)[0]).classes == classes


@pytest.mark.parametrize(
    "text",
    ["study = 3", "[study]\ndata = 3", "a = " + "[" * 100_000, "[study"],
    ids=["no table", "3", "deep", "torn"],
)
def test_a_study_file_that_cannot_be_is_named(tmp_path: Path, text: str) -> None:
    settings = tmp_path / "study.toml"
    settings.write_text(text)
    run: Any = SimpleNamespace(settings={"dataset": "digits"}, folder=tmp_path)
    study: Any = SimpleNamespace(trusted=False, paths=SimpleNamespace(study_toml=settings))
    with pytest.raises(MissingError, match=r"study\.toml"):
        selected(study, run)


# Anything else


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**400, 2**63, 1.5, -1e308, math.inf, math.nan, "", "x", "\ud800", "a/b", "a\0b", "@x",
    [], [1], ["x"], [[]], {}, {"a": 1}, {"": None}, [[[[1]]]],
)  # fmt: skip


def mutate(document: Any, draw: random.Random) -> None:
    """One value anywhere in a document is replaced, dropped or doubled."""
    places: list[tuple[Any, Any]] = []
    rest = [document]
    while rest:
        item = rest.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item))
        for key in keys:
            places.append((item, key))
            if isinstance(item[key], dict | list):
                rest.append(item[key])
    at, key = draw.choice(places)
    what = draw.random()
    if what < 0.1:
        del at[key]
    elif what < 0.2 and isinstance(at, list):
        at.append(copy.deepcopy(at[key]))
    else:
        at[key] = copy.deepcopy(draw.choice(ODD))


def outcome(load: Callable[[], object]) -> bool:
    """Whether it was refused; anything but a refusal that names what is wrong comes through and fails the test."""
    try:
        load()
    except (MissingError, CheckError, UsageError) as error:
        assert str(error)
        return True
    return False


@pytest.mark.parametrize("name", ["study.json", "t_stddev/resnet8/teacher-only.json"])
def test_any_change_of_a_document_gives_a_study_or_a_refusal(plain: Path, tmp_path: Path, name: str) -> None:
    root, draw, refused = copy_of(plain, tmp_path / "s"), random.Random(7), 0
    whole = json.loads((root / name).read_text())

    def load() -> None:
        study = load_study(root, seed=0)
        assert isinstance(study.complete, bool)
        assert study.pairs
        study.measured(study.pairs[0])

    for _ in range(100):
        document = copy.deepcopy(whole)
        mutate(document, draw)
        (root / name).write_text(json.dumps(document))
        refused += outcome(load)
    assert 20 < refused < 100


def test_any_change_of_a_run_s_card_gives_settings_or_a_refusal(tmp_path: Path) -> None:
    root = write_study(
        tmp_path / "s", loss=lambda s, k: 0.5, seeds=(0,), changes={"objective_params": [["version", "x"]]}
    )
    study, path, draw, refused = load_study(root, seed=0), next(root.rglob("run.json")), random.Random(8), 0
    whole = json.loads(path.read_text())
    for _ in range(200):
        document = copy.deepcopy(whole)
        mutate(document["run"], draw)
        path.write_text(json.dumps(document))
        refused += outcome(lambda: trained_runs(study))
    assert 40 < refused < 200


def test_any_change_of_a_table_s_types_gives_a_study_or_a_refusal(plain: Path, tmp_path: Path) -> None:
    draw, refused = random.Random(9), 0
    for at in range(40):
        root = copy_of(plain, tmp_path / str(at))
        path = root / draw.choice(["runs.parquet", "study.parquet"])
        table = pq.read_table(path)
        name = draw.choice(table.column_names)
        n = len(table)
        other = draw.choice(
            [
                pa.array(["False"] * n), pa.array([[1]] * n), pa.array([{"a": 1}] * n), pa.nulls(n),
                pa.array([math.inf] * n), pa.array([2**62] * n), pa.array([True] * n), pa.array([b"\xff"] * n),
                pa.array(["x"] * n).dictionary_encode(), pa.array([10**9] * n, pa.timestamp("s")),
            ]
        )  # fmt: skip
        changed = table.set_column(table.column_names.index(name), name, other)
        pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
        refused += outcome(lambda root=root: load_study(root, seed=0))  # type: ignore[misc]
    assert refused > 10
