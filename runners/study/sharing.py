"""Which runs of a study ask a teacher the same, and the folder in which they share its answers while it is trained."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdstats.data import LabelledImages
from kdstats.disk import free_bytes
from kdstats.records.paths import StudyPaths
from runners.executors.base import Executor
from runners.run_spec import RunSpec
from runners.study_file.sections import ExecutorSection
from runners.training.shared_answers import MOST, answers_size, group_of

_OF_FREE = 10  # the answers may take one part in so many of what is free on the disk: the runs need the rest


@dataclass(frozen=True)
class Room:
    """What runs would share.

    Attributes:
        size: Bytes of all answers that more than one run asks for, on machines of one kind.
        against: Why they are not shared; empty where they are.
        groups: Group → how many of the runs are in it.
    """

    size: int
    against: str = ""
    groups: Mapping[str, int] = field(default_factory=dict, compare=False)


def grouped(specs: Sequence[RunSpec]) -> dict[str, list[RunSpec]]:
    """The runs that ask a teacher the same, by group; those that share with none are left out."""
    found: dict[str, list[RunSpec]] = {}
    for spec in specs:
        group = group_of(spec)
        if group is not None:
            found.setdefault(group, []).append(spec)
    return found


def room_for(
    paths: StudyPaths,
    waiting: Sequence[RunSpec],
    images: LabelledImages,
    settings: ExecutorSection,
    executor: Executor,
) -> Room:
    """What the runs that are not complete would share, and whether they do.

    Args:
        paths: Of the study, whose folder may not be there yet.
        waiting: The runs.
        images: Those for training.
        settings: ``[executor]``.
        executor: Whose workers they are.
    """
    groups = grouped(waiting)
    epochs = sum(
        max(spec.recipe.epochs for spec in runs)
        for group, runs in groups.items()
        if len(runs) > 1 or (paths.answers / group).is_dir()
    )
    size = answers_size(images)
    against = _against(paths, size, epochs, settings, executor)
    return Room(size * epochs, against, {group: len(runs) for group, runs in groups.items()})


def _against(paths: StudyPaths, size: int, epochs: int, settings: ExecutorSection, executor: Executor) -> str:
    """Why answers of ``size`` bytes an epoch are not shared."""
    if epochs == 0:
        return "no two runs ask the same"
    if size > MOST:
        return f"an epoch's are more than {MOST >> 20} MiB, which is too much to hold in memory"
    if not executor.one_folder:
        return "the workers share no folder"
    if paths.answers.is_symlink():
        return f"{paths.answers} is a link"
    if size * epochs > settings.share_gb * 1e9:
        return f"executor.share_gb = {settings.share_gb:g}"
    free = free_bytes(paths.root) or 0
    free += sum(file.stat().st_size for file in paths.answers.rglob("*.pt"))
    if size * epochs > free / _OF_FREE:
        return f"{free / 1e9:.1f} GB free on the disk, which the runs need"
    return ""


class Sharing:
    """The folder of shared answers; a group's are removed with the last of its runs."""

    def __init__(self, folder: Path, groups: Mapping[str, int]) -> None:
        self.folder, self.left = folder, Counter(groups)

    def ended(self, spec: RunSpec) -> None:
        """``spec`` asks nothing any more."""
        group = group_of(spec)
        if group is None:
            return
        self.left[group] -= 1
        if self.left[group] <= 0:
            self.remove(group)

    def remove(self, group: str) -> None:
        """The answers of a group; a link is left alone, and so is what lies behind it."""
        if not self.folder.is_symlink():
            shutil.rmtree(self.folder / group, ignore_errors=True)


@contextlib.contextmanager
def sharing(folder: Path, room: Room) -> Iterator[Sharing]:
    """The folder while runs are carried out.

    It outlives an interruption, so that the study goes on with what it has, and goes when no run is left to ask.

    Args:
        folder: Of the study's answers.
        room: What all its runs that are not complete share, and whether they do.
    """
    found = Sharing(folder, room.groups)
    if room.against:
        shutil.rmtree(folder, ignore_errors=True)  # refuses a link
    else:
        with contextlib.suppress(OSError):  # a study that cannot be written to is told of by its first run
            for group, runs in room.groups.items():
                if runs > 1:
                    (folder / group).mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*"):
            if path.name not in found.left:
                found.remove(path.name)
        for orphan in folder.rglob(".*.tmp"):
            orphan.unlink(missing_ok=True)
    yield found
    if not any(runs > 0 for runs in found.left.values()):
        shutil.rmtree(folder, ignore_errors=True)
