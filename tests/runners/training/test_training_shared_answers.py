"""What runs of a seed share changes no bit of them, and what cannot be trusted is asked anew."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import World, same_run

from kdstats.errors import KdstatsError
from kdstats.records.paths import RunPaths
from runners.run_spec import RunSpec
from runners.training import shared_answers
from runners.training.asking import Asking
from runners.training.checkpoint import load_state, save_state
from runners.training.shared_answers import SharedAnswers, group_of
from runners.training.teaching import TEACHINGS

STEPS, EPOCHS, BATCH, IMAGES = 6, 2, 16, 90


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
    # All originals but the first batch of each epoch are spared; identity's views are its originals.
    assert sum(asked) - read == EPOCHS * (IMAGES - BATCH)
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


def _other_numbers(file: Path) -> None:
    """A file that is whole and says it is the right one, of a teacher that is another one."""
    state = torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=True)
    save_state(file, {**state, "logits": state["logits"].flip(1)})


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _short(file: Path) -> None:
    state = torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=True)
    save_state(file, {**state, "logits": state["logits"][:-1]})


def _double(file: Path) -> None:
    state = torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=True)
    save_state(file, {**state, "logits": state["logits"].double()})


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (_flip_a_bit, "is damaged"),
    "torn": (lambda f: f.write_bytes(f.read_bytes()[:1000]), "is damaged"),
    "empty": (lambda f: f.write_bytes(b""), "is damaged"),
    "another epoch's": (
        lambda f: f.write_bytes((f.parent / "epoch=0001.pt").read_bytes()) if "0000" in f.name else None,
        "belongs to another run",
    ),
    "another teacher's": (_other_numbers, "the teacher answers otherwise here, so it is asked itself"),
    "a row short": (_short, ""),
    "float64": (_double, ""),
    "huge": (lambda f: f.write_bytes(b"0" * (4 * IMAGES * 10 + (1 << 16) + 1)), ""),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE.keys())
def test_answers_that_cannot_be_trusted_are_asked_anew(study: Study, asked: list[int], damage, said: str):
    study.run(scheme="cutout")
    damage(study.files[0])
    asked.clear()
    reads = study.run(scheme="mixup")
    assert sum(asked) == EPOCHS * 2 * IMAGES - (IMAGES - BATCH), (
        "the second epoch's are read, the first's are not"
    )
    same_run(reads, study.alone(scheme="mixup"))
    assert [said in line for line in study.said] == ([True] if said else [])


def test_answers_in_a_folder_behind_a_link_are_left_alone(study: Study, asked: list[int], tmp_path: Path):
    study.run(scheme="cutout")
    elsewhere = tmp_path / "elsewhere"
    group = study.files[0].parents[1]
    group.rename(elsewhere)
    group.symlink_to(elsewhere)
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
    monkeypatch.setattr(shared_answers, "MOST", 4 * IMAGES * 10 - 1)
    study.run()
    assert study.files == []
    monkeypatch.setattr(shared_answers, "MOST", 4 * IMAGES * 10)
    study.run(scheme="mixup")
    assert len(study.files) == EPOCHS


def test_answers_of_another_machine_or_version_are_not_looked_at(study: Study, asked: list[int], monkeypatch):
    study.run(scheme="cutout")
    for what, changed in (("__version__", "0.0.0"), ("threads", None)):
        asked.clear()
        with monkeypatch.context() as patch:
            if changed:
                patch.setattr(shared_answers, what, changed)
            else:
                patch.setattr(torch, "get_num_threads", lambda: 2)
            study.run(scheme="mixup", temperature=3.0 if changed else 2.0)
        assert sum(asked) == EPOCHS * 2 * IMAGES
    assert len({file.parent for file in study.files}) == 3


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


def test_objectives_that_want_the_maps_ask_themselves(study: Study, asked: list[int]):
    changes = {"objective": "fitnet", "beta": 10.0, "alpha": 1.0, "student": "resnet8"}
    study.run()
    asked.clear()
    reads = study.run(**changes)
    assert sum(asked) == EPOCHS * 2 * IMAGES
    same_run(reads, study.alone(**changes))


def test_a_kept_file_is_a_checked_one(study: Study):
    study.run()
    group, machine = study.files[0].parts[-3:-1]
    identity = f"kdstats/teacher-answers/1 {group} {machine} epoch 0"
    state = load_state(study.files[0], identity)
    assert state is not None
    assert state["logits"].shape == (IMAGES, 10)
    assert state["logits"].dtype == torch.float32
