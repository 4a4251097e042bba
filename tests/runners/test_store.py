"""Run directories in a store: whole snapshots whatever happens on the way, and never a file outside its folder."""

import json
import shutil
from dataclasses import replace

import fsspec
import pytest

from kdstats import data
from kdstats.errors import UsageError
from kdstats.records.writer import is_complete, verify_done
from kdstats.teacher.load import shipped_path
from runners import recipes
from runners.executors.away import Away, carry_out_away
from runners.executors.base import Ending, Passing, StopSign
from runners.executors.store import Store
from runners.run_spec import RunSpec


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    if request.param == "file":
        return f"file://{tmp_path}/a store"
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/study"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "run"
    (made / "samples").mkdir(parents=True)
    (made / "metrics.jsonl").write_text("{}\n")
    (made / "samples" / "epoch=0001.parquet").write_bytes(b"rows")
    (made / "state.pt").write_bytes(b"state")
    (made / ".claim-x").write_text("mine")
    return made


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_snapshot_comes_back_whole_without_what_is_hidden(url, folder, tmp_path):
    Store(url).push(folder, "runs/a")
    home = tmp_path / "home"
    (home / "held").mkdir(parents=True)
    (home / "held" / "stale").write_text("of an earlier session")
    assert Store(url).pull("runs/a", home)
    expected = contents(folder)
    del expected[".claim-x"]
    assert contents(home) == expected
    assert not Store(url).pull("runs/b", tmp_path / "nothing")


def test_the_newest_counts_and_what_nobody_names_goes(url, folder, tmp_path):
    store = Store(url)
    for epoch in range(5):
        (folder / "state.pt").write_bytes(b"state %d" % epoch)
        store.push(folder, "runs/a")
    assert Store(url).pull("runs/a", tmp_path / "home")
    assert (tmp_path / "home" / "state.pt").read_bytes() == b"state 4"
    names = [path.rpartition("/")[2] for path in store._fs.find(f"{store._root}/runs/a")]
    assert len([n for n in names if n.startswith("snapshot-")]) == 2
    assert len([n for n in names if not n.startswith("snapshot-")]) == 2 + 2  # two files, two states


def test_an_unchanged_folder_writes_nothing(url, folder, monkeypatch):
    store = Store(url)
    store.push(folder, "runs/a")
    monkeypatch.setattr(store, "write", lambda *a: pytest.fail("written again"))
    store.push(folder, "runs/a")


@pytest.mark.parametrize("at", range(1, 5))
def test_killed_while_pushing_the_one_before_is_in_force(url, folder, tmp_path, monkeypatch, at):
    store = Store(url)
    store.push(folder, "runs/a")
    before = contents(folder)
    for path in ("state.pt", "metrics.jsonl", "samples/epoch=0001.parquet"):
        (folder / path).write_bytes(b"newer " + path.encode())
    write, count = store.write, 0

    class Killed(BaseException):
        pass

    def dying(name, content):
        nonlocal count
        count += 1
        if count == at:
            write(name, content[: len(content) // 2])  # a store that lets half a file be seen
            raise Killed
        write(name, content)

    monkeypatch.setattr(store, "write", dying)
    with pytest.raises(Killed):
        store.push(folder, "runs/a")
    assert Store(url).pull("runs/a", tmp_path / "home")
    del before[".claim-x"]
    assert contents(tmp_path / "home") == before
    Store(url).push(folder, "runs/a")  # the half object is not taken for the whole one
    assert Store(url).pull("runs/a", tmp_path / "home")
    assert (tmp_path / "home" / "state.pt").read_bytes() == b"newer state.pt"


def test_a_damaged_object_is_not_believed(folder, tmp_path):
    store = Store(f"file://{tmp_path}/store")
    store.push(folder, "runs/a")
    victim = next(p for p in (tmp_path / "store/runs/a/objects").iterdir() if p.read_bytes() == b"state")
    victim.write_bytes(b"stat3")
    assert not store.pull("runs/a", tmp_path / "home")
    assert not (tmp_path / "home" / "state.pt").exists()
    Store(store.url).push(folder, "runs/a")  # heals: what is not whole is brought again
    assert store.pull("runs/a", tmp_path / "home")


def test_what_a_rule_of_the_bucket_took_away_is_brought_again(folder, tmp_path):
    store = Store(f"file://{tmp_path}/store")
    store.push(folder, "runs/a")
    next((tmp_path / "store/runs/a/objects").iterdir()).unlink()
    store.push(folder, "runs/a")
    assert store.pull("runs/a", tmp_path / "home")


def test_a_person_s_notes_stay(folder, tmp_path):
    store, home = Store(f"file://{tmp_path}/store"), tmp_path / "home"
    store.push(folder, "runs/a")
    home.mkdir()
    (home / "my notes.txt").write_text("mine")
    assert store.pull("runs/a", home)
    assert (home / "my notes.txt").exists()


def test_another_worker_s_objects_are_left_alone(folder, tmp_path):
    store = Store(f"file://{tmp_path}/store")
    store.push(folder, "runs/a")
    other = "f" * 64
    store.write(f"runs/a/objects/{other}", b"on the way")
    for epoch in range(4):
        (folder / "state.pt").write_bytes(b"state %d" % epoch)
        store.push(folder, "runs/a")
    assert store.read(f"runs/a/objects/{other}") == b"on the way"


def test_done_is_what_is_complete_at_home(spec, tmp_path):
    driver = Away(f"file://{tmp_path}/store", tmp_path / "home")
    ending = driver.fetch(spec, Ending("done"))
    assert ending.kind == "failed"
    assert ending.again
    assert "does not hold all of it" in ending.error


@pytest.mark.parametrize(
    "name",
    [
        "../../evil",
        "/etc/evil",
        "a/../../evil",
        "",
        ".claim-evil",
        "nul\0evil",
        "evil" * 90,
        "\ud800evil",
        "a/b/evil",
    ],
)
def test_a_hostile_list_writes_nothing(tmp_path, name):
    store = Store(f"file://{tmp_path}/store")
    store.write("runs/a/objects/" + "0" * 64, b"x")
    store.write("runs/a/snapshot-000000001.json", json.dumps({name: "0" * 64}).encode())
    store.write("runs/a/snapshot-000000002.json", b"[" * 100_000)
    store.write("runs/a/snapshot-000000003.json", b"{}")
    store.write("runs/a/snapshot-999999999.json", b"{}")
    assert not store.pull("runs/a", tmp_path / "deep" / "home")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("url", ["/a/folder", "nonsense://x/y", "ftp://me:secret@host/x"])
def test_what_is_no_store_is_refused(url):
    with pytest.raises(UsageError, match=r"a URL such as|cannot be opened|leave credentials"):
        Store(url)


def test_a_silent_store_is_asked_again_then_named(monkeypatch):
    monkeypatch.setattr("runners.executors.store._PAUSES", (0, 0))
    store = Store("memory://bucket/x")
    asked = []

    def silent(path):
        asked.append(path)
        if len(asked) == 3:
            return b"back again"
        raise ConnectionResetError("gone")

    monkeypatch.setattr(store._fs, "cat_file", silent)
    assert store.read("stop") == b"back again"
    asked = [0] * 3
    with pytest.raises(Passing, match="memory://bucket/x did not answer: ConnectionResetError"):
        store.read("stop")


@pytest.fixture
def spec():
    train = data.load("digits", "train")
    teacher = shipped_path()
    from kdstats.provenance import sha256_file

    return RunSpec(
        "digits", None, train.digest, "resnet8", str(teacher), "resnet8", sha256_file(teacher), "lenet8", "flip", 0,
        replace(recipes.get("digits").with_epochs(3), batch_size=64), per_class=12,
    )  # fmt: skip


def test_a_run_stopped_on_one_machine_goes_on_on_another(url, spec, tmp_path, monkeypatch):
    """Two scratch folders stand for two machines; the third course is one without any stop."""
    from kdstats.data import Selection

    spec = replace(spec, dataset_sha256=Selection("digits", None, None, None, 12).train().digest)
    driver = Away(url, tmp_path / "home")
    (shipped,) = driver.ship([spec])
    assert str(tmp_path) not in shipped.teacher_weights.replace(url, "")

    def machine(name):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))

    machine("one")
    pushes = 0
    push = Store.push

    def stopping(self, folder, name):
        nonlocal pushes
        push(self, folder, name)
        pushes += 1
        if pushes == 1:
            driver.ask_to_stop(StopSign(tmp_path, "token"))
            driver.ask_to_stop(StopSign(tmp_path, "of another driver"))

    monkeypatch.setattr(Store, "push", stopping)
    assert carry_out_away(shipped, url, "cpu", "token").kind == "stopped"
    assert driver.fetch(spec, Ending("stopped")).kind == "stopped"
    assert len(spec.paths(tmp_path / "home").metrics.read_text().splitlines()) == 1
    assert not list((tmp_path / "one").glob("kdstats-*")), "a worker left something behind"

    machine("two")
    assert carry_out_away(shipped, url, "cpu", "another token").kind == "done"
    assert driver.fetch(spec, Ending("done")) == Ending("done")
    home = spec.paths(tmp_path / "home")
    assert is_complete(home)
    assert verify_done(home) == []
    machine("calm")
    shutil.rmtree(tmp_path / "a store", ignore_errors=True)
    fsspec.filesystem("memory").store.clear()
    (again,) = Away(url, tmp_path / "empty").ship([spec])
    assert carry_out_away(again, url, "cpu", "t").kind == "done"
    Away(url, tmp_path / "calm home").fetch(spec, Ending("done"))
    calm = spec.paths(tmp_path / "calm home")
    for name in ("last", "best"):
        assert getattr(home, name).read_bytes() == getattr(calm, name).read_bytes()
