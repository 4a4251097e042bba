"""Exporters, each read back through the real package: whole, offline, and the same however often it is done."""

import importlib.util
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kdstats.console import run_program
from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.records.distances import SCHEMA as DISTANCES
from kdstats.records.paths import RunPaths
from kdstats.records.writer import write_done
from runners import trackers
from runners.export import main
from runners.trackers import history
from runners.trackers.to_mlflow import uri_of

ROOT = Path(__file__).parents[2]
STARTED = "2026-01-02T03:04:05Z"
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
OUTCOME = {"test_loss_last": 0.5, "acc_last": 0.75, "epochs": 3, "seconds": 7.5}


def _row(epoch, shift=0.0):
    return {"epoch": epoch, "train_loss": 1 / epoch + shift, "test_acc": epoch / 8, "seconds": 2.5}


def _run(study, scheme, epochs, *, done=True, shift=0.0, tail="", digest="ab" * 32):
    paths = RunPaths.of(study, teacher="resnet20", student="resnet8", scheme=scheme, seed=1, digest=digest)
    paths.root.mkdir(parents=True)
    run = {"scheme": scheme, "seed": 1, "recipe": {"name": "digits", "epochs": 3, "milestones": [1, 2]}}
    about = {"version": "0.1.0", "device": "cpu"}
    card = {"run": run, "digest": digest, "scheme": scheme, "started": STARTED, "provenance": about}
    paths.run_json.write_text(json.dumps(card))
    lines = [json.dumps(_row(epoch, shift)) + "\n" for epoch in range(1, epochs + 1)]
    paths.metrics.write_text("".join(lines) + tail)
    if done:
        write_done(paths, {"outcome": OUTCOME})
    return paths


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """One study at three moments: a run is stopped; it has gone on; the other was trained anew."""
    found = []
    for stage in range(3):
        study = tmp_path_factory.mktemp(f"stage{stage}") / "my study"
        _run(study, "identity", 3, shift=5.0 if stage == 2 else 0.0)
        stopped = {"epochs": 2, "done": False, "tail": '{"epoch": 3, "tr'} if stage == 0 else {"epochs": 3}
        _run(study, "cutmix(alpha=0.5)", **stopped, digest="cd" * 32)
        found.append(study)
    return found


NAMES = {
    "identity": "resnet20/resnet8/identity/seed=1/abababab",
    "cutmix": "resnet20/resnet8/cutmix(alpha=0.5)/seed=1/cdcdcdcd",
}
# Any use of the network is refused and leaves a mark, even where the refusal is swallowed.
_OFFLINE = """
import json, os, socket, sys
def refuse(*args, **options):
    open(sys.argv[1] + "/network", "a").write(repr(args) + "\\n")
    raise OSError("there is no network in this test")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from runners.export import main
"""


def _elsewhere(program, tmp_path, *arguments):
    """Runs ``program`` in a process of its own: these packages read the environment on import and warn on it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", _OFFLINE + program, str(tmp_path), *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert not (tmp_path / "network").exists(), (tmp_path / "network").read_text()
    return [
        json.loads(line.removeprefix("READ ")) for line in ran.stdout.splitlines() if line.startswith("READ ")
    ]


def _expected(epochs, shift=0.0):
    columns = ("train_loss", "test_acc", "seconds")
    return {name: [[e, _row(e, shift)[name]] for e in range(1, epochs + 1)] for name in columns}


_MLFLOW = """
def read(out):
    from mlflow.tracking import MlflowClient
    client = MlflowClient(tracking_uri="sqlite:///" + out)
    found = []
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            metrics = {
                key: [[p.step, p.value, p.timestamp] for p in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            }
            found.append({
                "experiment": experiment.name, "name": run.info.run_name, "status": run.info.status,
                "id": run.info.run_id, "end": run.info.end_time, "began": run.info.start_time,
                "params": run.data.params, "tags": run.data.tags, "metrics": metrics,
            })
    print("READ " + json.dumps(sorted(found, key=lambda run: run["name"])))

out = sys.argv[1] + "/runs.db"
for place in (0, 0, 1, 2):
    assert main([sys.argv[2 + place], "--to", "mlflow", "--out", out]) == 0
    read(out)
"""


def test_mlflow_reads_back_what_was_exported(stages, tmp_path):
    first, again, later, anew = _elsewhere(_MLFLOW, tmp_path, *stages)
    assert again == first
    cutmix, identity = first
    assert (cutmix["name"], identity["name"]) == (NAMES["cutmix"], NAMES["identity"])
    assert identity["experiment"] == "my study"
    assert (identity["status"], cutmix["status"]) == ("FINISHED", "RUNNING")
    assert cutmix["tags"]["kdstats.status"] == "unfinished, 2 of 3 epochs"
    assert identity["tags"]["kdstats.status"] == "finished"
    assert identity["tags"]["kdstats.device"] == "cpu"
    assert identity["params"]["recipe.epochs"] == "3"
    assert identity["params"]["recipe.milestones"] == "[1, 2]"
    assert identity["began"] == round(1000 * BEGAN)
    assert identity["end"] == round(1000 * (BEGAN + 7.5))

    def series(run):
        points = {k: [p[:2] for p in v] for k, v in run["metrics"].items()}
        return {k: v for k, v in points.items() if not k.startswith("outcome.")}

    assert series(identity) == _expected(3)
    assert series(cutmix) == _expected(2)
    assert [p[2] for p in identity["metrics"]["train_loss"]] == [
        round(1000 * (BEGAN + 2.5 * epoch)) for epoch in (1, 2, 3)
    ]
    assert identity["metrics"]["outcome.acc_last"][0][:2] == [3, 0.75]
    # The stopped run went on: the same MLflow run, one epoch more.
    assert later[0]["id"] == cutmix["id"]
    assert later[0]["status"] == "FINISHED"
    assert series(later[0]) == _expected(3)
    assert later[1] == identity
    # A run that was trained anew with other numbers takes the place of the old one.
    assert len(anew) == 2
    assert anew[0] == later[0]
    assert anew[1]["id"] != identity["id"]
    assert series(anew[1]) == _expected(3, shift=5.0)


_TRACKIO = """
def read():
    from trackio.sqlite_storage import SQLiteStorage as storage
    found = {}
    for project in storage.get_projects():
        for name in storage.get_runs(project):
            found[name] = [project, storage.get_logs(project, name), storage.get_run_config(project, name)]
    print("READ " + json.dumps(found, default=str))

for place in (0, 0, 1, 2):
    assert main([sys.argv[2 + place], "--to", "trackio", "--out", sys.argv[1] + "/trackio"]) == 0
    read()
try:
    main([sys.argv[2], "--to", "trackio", "--out", sys.argv[1] + "/other"])
except Exception as error:
    print("READ " + json.dumps(str(error)))
"""


def test_trackio_reads_back_what_was_exported(stages, tmp_path):
    first, again, later, anew, refused = _elsewhere(_TRACKIO, tmp_path, *stages)
    assert "from another process" in refused

    def timeless(found):  # trackio stamps a configuration when it is written
        return {
            k: [p, logs, {a: b for a, b in c.items() if a != "_Created"}] for k, (p, logs, c) in found.items()
        }

    assert timeless(again) == timeless(first)
    assert set(first) == set(later) == set(anew) == set(NAMES.values())

    def series(found, which):
        logs = sorted(found[NAMES[which]][1], key=lambda row: row["step"])
        names = ("train_loss", "test_acc", "seconds")
        return {name: [[row["step"], row[name]] for row in logs] for name in names}

    project, logs, config = first[NAMES["identity"]]
    assert project == "my-study"
    assert series(first, "identity") == _expected(3)
    assert series(first, "cutmix") == _expected(2)
    assert logs[-1]["outcome.acc_last"] == 0.75
    assert [datetime.fromisoformat(row["timestamp"]).timestamp() for row in logs] == [
        BEGAN + 2.5 * epoch for epoch in (1, 2, 3)
    ]
    assert config["kdstats.status"] == "finished"
    assert config["recipe.name"] == "digits"
    assert first[NAMES["cutmix"]][2]["kdstats.status"] == "unfinished, 2 of 3 epochs"
    assert later[NAMES["cutmix"]][2]["kdstats.status"] == "finished"
    assert series(later, "cutmix") == _expected(3)
    assert series(anew, "identity") == _expected(3, shift=5.0)


def _tensorboard(out):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    reader = EventMultiplexer().AddRunsFromDirectory(str(out)).Reload()
    found = {}
    for run, kinds in reader.Runs().items():
        names = [n for n in kinds["tensors"] if n not in ("run", "status")] + kinds["scalars"]
        scalars = {n: [(e.step, e.wall_time, e.value) for e in reader.Scalars(run, n)] for n in names}
        text = {n: reader.Tensors(run, n)[0].tensor_proto.string_val[0].decode() for n in ("run", "status")}
        found[run] = scalars, text
    return found


def test_tensorboard_reads_back_what_was_exported(stages, tmp_path, capsys):
    def export(stage):
        assert main([str(stages[stage]), "--to", "tensorboard", "--out", str(tmp_path)]) == 0
        return {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}, _tensorboard(tmp_path)

    files, first = export(0)
    assert "1 of them unfinished" in capsys.readouterr().out
    assert export(0) == (files, first)
    assert len(first) == len(files) == 2
    assert {p.name for p in files} == {"events.out.tfevents.kdstats"}  # the next process replaces it
    identity, cutmix = (
        next(values for run, values in first.items() if which in run) for which in ("identity", "cutmix")
    )
    for (scalars, _), epochs in ((identity, 3), (cutmix, 2)):
        for name, points in _expected(epochs).items():
            assert [[step, value] for step, _, value in scalars[name]] == [
                [step, pytest.approx(value, rel=1e-6)]
                for step, value in points  # float32 there
            ]
    assert [time for _, time, _ in identity[0]["train_loss"]] == [BEGAN + 2.5 * e for e in (1, 2, 3)]
    assert cutmix[1]["status"] == "unfinished, 2 of 3 epochs"
    assert identity[1]["status"] == "finished"
    assert "| recipe.name | digits |" in identity[1]["run"]
    _, later = export(1)
    assert {text["status"] for _, text in later.values()} == {"finished"}
    assert len(later) == 2
    _, anew = export(2)
    scalars, _ = next(values for run, values in anew.items() if "identity" in run)
    assert [value for _, _, value in scalars["train_loss"]] == pytest.approx([6.0, 5.5, 5 + 1 / 3])


def test_one_run_and_its_distances(tmp_path):
    paths = _run(tmp_path / "study", "identity", 2, done=False)
    rows = [
        {"schema": DISTANCES},
        *({"epoch": e, "t": "teacher", "s": "student", "kl_mean": e / 10, "cka": None} for e in (1, 2, 3)),
    ]
    (paths.root / "distances.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = history.find(paths.root)
    assert found.name == NAMES["identity"]
    assert found.metrics[1] == {
        "train_loss": 1.0,
        "test_acc": 0.125,
        "seconds": 2.5,
        "distance/teacher-student/kl_mean": 0.1,
    }
    assert list(found.metrics) == [1, 2]  # the third epoch's distance waits for its metrics
    assert found.status == "unfinished, 2 of 3 epochs"


def test_a_run_without_an_epoch_yet(tmp_path):
    paths = _run(tmp_path / "study", "identity", 0, done=False)
    paths.metrics.unlink()
    (found,) = history.find(tmp_path / "study")
    assert found.status == "unfinished, 0 of 3 epochs"
    assert main([str(paths.root), "--to", "tensorboard", "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (lambda p: p.run_json.write_text("{"), MissingError, "is not JSON"),
        (lambda p: p.run_json.write_text("{}"), MissingError, "no card of a student's run"),
        (
            lambda p: p.run_json.write_text(p.run_json.read_text().replace(STARTED, "?")),
            MissingError,
            "started",
        ),
        (lambda p: p.metrics.write_text('x\n{"epoch": 1}\n'), MissingError, "line 1, is damaged"),
        (
            lambda p: p.metrics.write_text('{"epoch": 1}\n{"epoch": 1}\n'),
            MissingError,
            "line 2: epoch 1 after",
        ),
        (lambda p: p.metrics.write_text('{"epoch": 1, "test_loss": NaN}\n'), CheckError, "test_loss is nan"),
    ],
)
def test_damaged_runs_are_named(tmp_path, spoil, kind, said):
    paths = _run(tmp_path / "study", "identity", 2, done=False)
    spoil(paths)
    with pytest.raises(kind, match=said):
        history.find(tmp_path / "study")


def test_wrong_use_ends_with_its_code_and_the_command_that_mends_it(tmp_path, monkeypatch, capsys):
    paths = _run(tmp_path / "study", "identity", 1)

    def code(*words):
        return run_program("runners.export", lambda: main([*map(str, words)]))

    assert code(tmp_path / "nothing", "--to", "tensorboard", "--out", tmp_path / "o") == 4
    assert "no run at" in capsys.readouterr().err
    assert code(paths.root, "--to", "tensorbord", "--out", tmp_path / "o") == 2
    assert "Did you mean 'tensorboard'" in capsys.readouterr().err
    for out in ("http://host:5000", "postgresql://host/db", "sqlite:///"):
        with pytest.raises(UsageError, match="local database"):
            uri_of(out)
    assert uri_of("sqlite:////a/b.db") == "sqlite:////a/b.db"
    assert uri_of(str(tmp_path / "b.db")) == f"sqlite:///{tmp_path}/b.db"
    known = importlib.util.find_spec
    for name, tracker in trackers.TRACKERS.items():
        gone = tracker.needs[0]
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda wanted, gone=gone: None if wanted == gone else known(wanted)
        )
        assert code(paths.root, "--to", name, "--out", tmp_path / "o") == 2
        assert f"pip install 'kdstats[{name}]'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
