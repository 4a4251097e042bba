"""What runs of a seed share changes no bit of them, and what cannot be trusted is asked anew."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import World, same_run

from kdstats import schemes
from kdstats.errors import KdstatsError
from kdstats.records.paths import RunPaths
from runners.run_spec import RunSpec
from runners.training import shared_answers
from runners.training.asking import Asking
from runners.training.checkpoint import load_state, save_state
from runners.training.shared_answers import SharedAnswers, group_of
from runners.training.teaching import TEACHINGS

EPOCHS, IMAGES, CLASSES = 2, 90, 10
COMPARED = 16 + 10  # a whole batch and the short last one


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """Sizes of the batches that the teacher was asked about."""
    sizes: list[int] = []
    ask = Asking._ask
    monkeypatch.setattr(Asking, "_ask", lambda self, images: sizes.append(len(images)) or ask(self, images))
    return sizes


class Study:
    """Runs that share a folder."""

    def __init__(self, world: World, root: Path) -> None:
        self.world, self.root, self.said = world, root, list[str]()
        self.folder = root / ".answers"
        (self.folder / str(group_of(world.spec))).mkdir(parents=True)

    def run(self, **changes: object) -> RunPaths:
        spec = self.world.with_(**changes)
        return self.world.run(self.root, spec, answers=self.answers(spec))

    def answers(self, spec: RunSpec) -> SharedAnswers:
        return SharedAnswers(self.folder, spec, self.said.append)

    def alone(self, **changes: object) -> RunPaths:
        return self.world.run(self.root / "alone", self.world.with_(**changes))

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("*.pt"))


@pytest.fixture
def study(world: World, tmp_path: Path) -> Study:
    return Study(world, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "mixup"},
        {"scheme": "pick(cutmix)"},
        {"scheme": "identity"},
        {"scheme": "cutmix", "targets": "interpolated"},
        {"scheme": "cutmix", "student": "resnet8", "passes": "joint", "temperature": 2.0},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_a_run_that_reads_is_the_run_that_asks(study: Study, asked: list[int], changes: dict[str, object]):
    study.run(scheme="cutout")
    assert [file.name for file in study.files] == ["epoch=0000.pt", "epoch=0001.pt"]
    asked.clear()
    reads = study.run(**changes)
    read = sum(asked)
    asked.clear()
    same_run(reads, study.alone(**changes))
    # All originals but one batch of each size are spared in each epoch; identity's views are its originals.
    assert sum(asked) - read == EPOCHS * (IMAGES - COMPARED)
    assert study.said == []


def test_the_run_that_keeps_is_the_run_that_does_not(study: Study):
    same_run(study.run(), study.alone())
    assert len(study.files) == EPOCHS


def test_a_run_that_dies_in_an_epoch_keeps_none_of_it_and_may_read(study: Study):
    class Boom(Exception):
        pass

    def dies(epoch: int, step: int, loss: Callable[[], float]) -> None:
        if (epoch, step) == (1, 4):
            raise Boom

    spec = study.world.spec
    with pytest.raises(Boom):
        study.world.run(study.root, spec, answers=study.answers(spec), on_step=dies, keep_every=0.0)
    assert study.files == []
    killed = study.run()
    assert [file.name for file in study.files] == ["epoch=0001.pt"], "the first epoch was heard in part only"
    study.run(scheme="mixup")
    assert len(study.files) == EPOCHS
    same_run(killed, study.alone())
    spec = study.world.with_(scheme="cutout")
    with pytest.raises(Boom):
        study.world.run(study.root, spec, answers=study.answers(spec), on_step=dies, keep_every=0.0)
    same_run(study.run(scheme="cutout"), study.alone(scheme="cutout"))


def _state(file: Path) -> dict[str, object]:
    state = torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=True)
    assert isinstance(state, dict)
    return state


def _with(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """A file that is whole and says it is the right one, with other content."""

    def damage(file: Path) -> None:
        state = _state(file)
        save_state(file, {**state, "logits": change(state["logits"])})  # type: ignore[arg-type]

    return damage


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _last_row(logits: torch.Tensor) -> torch.Tensor:
    logits[-1] += 1
    return logits


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _link(file: Path) -> None:
    file.rename(file.with_name("real"))
    file.symlink_to("real")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (_flip_a_bit, "is damaged: the teacher is asked itself"),
    "torn": (lambda f: f.write_bytes(f.read_bytes()[:1000]), "is damaged"),
    "empty": (lambda f: f.write_bytes(b""), "is damaged"),
    "no state": (lambda f: f.write_bytes(hashlib.sha256(b"").digest()), "the teacher is asked itself"),
    "another epoch's": (
        lambda f: f.write_bytes(f.with_name("epoch=0001.pt").read_bytes()),
        "belongs to another run",
    ),
    "another teacher's": (
        _with(lambda t: t.flip(1)),
        "the teacher answers otherwise here, so it is asked itself",
    ),
    "a row short": (_with(lambda t: t[:-1]), ""),
    "float64": (_with(torch.Tensor.double), ""),
    "sparse": (_with(torch.Tensor.to_sparse), "the teacher is asked itself"),
    "nowhere": (_with(lambda t: t.to("meta")), ""),
    "huge": (lambda f: f.write_bytes(b"0" * (4 * IMAGES * CLASSES + (1 << 16) + 1)), ""),
    "a pipe": (_fifo, ""),
    "a link": (_link, ""),
    "a folder": (lambda f: (f.unlink(), f.mkdir()), ""),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE.keys())
def test_answers_that_cannot_be_trusted_are_asked_anew(study: Study, asked: list[int], damage, said: str):
    study.run(scheme="cutout")
    damage(study.files[0])
    asked.clear()
    reads = study.run(scheme="mixup")
    assert sum(asked) == EPOCHS * 2 * IMAGES - (IMAGES - COMPARED), (
        "the second epoch's are read, the first's not"
    )
    same_run(reads, study.alone(scheme="mixup"))
    assert [said in line for line in study.said] == ([True] if said else [])


@pytest.mark.parametrize("damage", [_flip_a_bit, _fifo, _link])
def test_answers_that_cannot_be_used_are_replaced(study: Study, asked: list[int], damage):
    study.run(scheme="cutout")
    damage(study.files[0])
    study.run(scheme="mixup")
    assert not study.files[0].is_symlink()
    asked.clear()
    study.run(scheme="cutmix")
    assert sum(asked) == EPOCHS * (IMAGES + COMPARED)


def test_the_short_last_batch_is_compared_too(study: Study):
    study.run(scheme="cutout")
    _with(_last_row)(study.files[0])
    same_run(study.run(scheme="mixup"), study.alone(scheme="mixup"))
    assert ["answers otherwise" in line for line in study.said] == [True]


def test_a_scheme_that_writes_into_the_originals_spoils_no_other_run(study: Study, monkeypatch):
    scheme = schemes.get("cutout")
    apply, calls = type(scheme).apply, []

    def careless(self, images, *args, **more):
        calls.append(1)
        if len(calls) == 3:
            images.add_(1.0)
        return apply(self, images, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(scheme), "apply", careless)
        study.run(scheme="cutout")
    assert len(study.files) == EPOCHS
    same_run(study.run(scheme="mixup"), study.alone(scheme="mixup"))


def test_a_folder_that_is_gone_from_the_server_is_no_failure(study: Study, monkeypatch):
    lstat = Path.lstat

    def stale(self: Path) -> os.stat_result:
        if ".answers" in self.parts:
            raise OSError(errno.ESTALE, "Stale file handle")
        return lstat(self)

    monkeypatch.setattr(Path, "lstat", stale)
    same_run(study.run(), study.alone())
    assert study.files == []


def test_a_group_that_the_driver_removes_does_not_come_back(study: Study):
    def removes(epoch: int, step: int, loss: Callable[[], float]) -> None:
        if (epoch, step) == (1, 3):
            study.files and pytest.fail("too late")
            (study.folder / str(group_of(study.world.spec))).rmdir()

    spec = study.world.spec
    study.world.run(study.root, spec, answers=study.answers(spec), on_step=removes)
    assert not any(study.folder.iterdir())


@pytest.mark.parametrize("level", [0, 1, 2], ids=["machine", "group", "answers"])
def test_answers_in_a_folder_behind_a_link_are_left_alone(
    study: Study, asked: list[int], tmp_path: Path, level
):
    study.run(scheme="cutout")
    elsewhere, linked = tmp_path / "elsewhere", study.files[0].parents[level]
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    before = {file: file.stat().st_mtime_ns for file in elsewhere.rglob("*")}
    asked.clear()
    study.run(scheme="mixup")
    assert sum(asked) == EPOCHS * 2 * IMAGES
    assert {file: file.stat().st_mtime_ns for file in elsewhere.rglob("*")} == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KdstatsError("cannot write")])
def test_no_room_for_answers_is_no_failure(study: Study, monkeypatch, error: Exception):
    def full(*args: object) -> None:
        raise error

    monkeypatch.setattr(shared_answers, "save_state", full)
    same_run(study.run(), study.alone())
    assert study.files == []


def test_more_than_fits_into_memory_is_not_kept(study: Study, monkeypatch):
    monkeypatch.setattr(shared_answers, "MOST", 4 * IMAGES * CLASSES - 1)
    study.run()
    assert study.files == []
    monkeypatch.setattr(shared_answers, "MOST", 4 * IMAGES * CLASSES)
    study.run(scheme="mixup")
    assert len(study.files) == EPOCHS


def test_what_else_an_answer_depends_on(world: World, monkeypatch):
    def told(**changes: object) -> str:
        images = replace(world.train, **changes)
        return repr(shared_answers._circumstances(images))

    known = {told()}
    for changes in ({"mean": (0.5,)}, {"std": (0.5,)}, {"base": "crop1+flip"}, {"stamp": "written anew"}):
        known.add(told(**changes))
    for where, name, value in (
        (shared_answers, "__version__", "0.0.0"),
        (torch, "__version__", "0.0.0"),
        (torch, "get_num_threads", lambda: 1000),
        (torch.backends.cpu, "get_cpu_capability", lambda: "?"),
        (shared_answers, "_processor", lambda: ("?",)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, value)
            known.add(told())
    assert len(known) == 10
    assert shared_answers._processor()[0] == platform.machine()


def test_answers_of_another_machine_or_version_are_not_looked_at(study: Study, asked: list[int], monkeypatch):
    study.run(scheme="cutout")
    asked.clear()
    monkeypatch.setattr(shared_answers, "_processor", lambda: ("?",))
    study.run(scheme="mixup")
    assert sum(asked) == EPOCHS * 2 * IMAGES
    assert len({file.parent for file in study.files}) == 2


def test_without_a_folder_nothing_is_kept(study: Study):
    (study.folder / str(group_of(study.world.spec))).rmdir()
    study.run()
    assert study.files == []
    assert not any(study.folder.iterdir())


def test_who_asks_the_same(world: World):
    spec = world.spec
    same = [
        {"scheme": "mixup"},
        {"student": "resnet8"},
        {"recipe": spec.recipe.with_epochs(5)},
        {"recipe": replace(spec.recipe, lr=0.01)},
        {"temperature": 1.0},
        {"log_every": 2},
        {"data": "/elsewhere"},
        {"teacher_weights": "/moved.safetensors"},
    ]
    other = [
        {"seed": 1},
        {"teacher_arch": "resnet14"},
        {"teacher_sha256": "0" * 64},
        {"dataset_sha256": "1" * 64},
        {"recipe": replace(spec.recipe, batch_size=32)},
        {"img_size": 16},
        {"classes": "5"},
        {"per_class": 7},
        {"val_split": 0.1},
        {"channels_last": False},
        {"fold_teacher": True},
        {"determinism": "strict"},
    ]
    assert {group_of(world.with_(**changes)) for changes in same} == {group_of(spec)}
    assert len({group_of(world.with_(**changes)) for changes in other} | {group_of(spec)}) == len(other) + 1
    assert group_of(world.with_(teaching=TEACHINGS["ema"])) is None
    assert group_of(world.with_(originals="replaced")) is None
    assert group_of(world.with_(objective="fitnet", beta=10.0)) is None
    assert group_of(world.with_(teacher_arch="mine.networks:factory")) is None
    assert group_of(world.with_(teacher_arch="torchvision:resnet18")) is not None


def test_objectives_that_want_the_maps_ask_themselves(study: Study, asked: list[int]):
    changes = {"objective": "fitnet", "beta": 10.0, "alpha": 1.0, "student": "resnet8"}
    study.run()
    asked.clear()
    reads = study.run(**changes)
    assert sum(asked) == EPOCHS * 2 * IMAGES
    same_run(reads, study.alone(**changes))


def test_what_is_kept(study: Study):
    study.run()
    group, machine = study.files[0].parts[-3:-1]
    state = load_state(study.files[0], f"kdstats/teacher-answers/1 {group} {machine} epoch 0")
    assert state is not None
    assert (state["logits"].shape, state["logits"].dtype) == ((IMAGES, CLASSES), torch.float32)
    kept = {file: file.stat().st_mtime_ns for file in study.files}
    study.run(scheme="mixup")
    assert {file: file.stat().st_mtime_ns for file in study.files} == kept
