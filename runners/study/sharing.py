"""Which runs of a study ask a teacher the same, and the folder in which they share its answers while it is trained."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdstats.records.paths import StudyPaths
from runners.run_spec import RunSpec
from runners.training.shared_answers import MOST, group_of


def needed(specs: Sequence[RunSpec], images: int, classes: int) -> int:
    """Bytes of all answers that at least two of ``specs`` would ask for; 0 where nothing is shared."""
    size = 4 * images * classes  # of an epoch
    if size > MOST:
        return 0
    groups = [(group_of(spec), spec.recipe.epochs) for spec in specs]
    counts = Counter(group for group, _ in groups if group is not None)
    epochs: dict[str, int] = {}
    for group, length in groups:
        if group is not None and counts[group] > 1:
            epochs[group] = max(length, epochs.get(group, 0))
    return size * sum(epochs.values())


@dataclass
class Sharing:
    """The folder of shared answers; a group's are removed with the last of its runs.

    Attributes:
        folder: Where they lie.
        left: Group → its runs that have not ended.
    """

    folder: Path
    left: Counter[str] = field(default_factory=Counter)

    def ended(self, spec: RunSpec) -> None:
        """``spec`` asks nothing any more."""
        group = group_of(spec)
        if group is None:
            return
        self.left[group] -= 1
        if self.left[group] <= 0:
            _remove(self.folder / group)


@contextlib.contextmanager
def sharing(
    paths: StudyPaths, specs: Sequence[RunSpec], images: int, classes: int, limit: float
) -> Iterator[Sharing]:
    """The folder while ``specs`` are carried out.

    It outlives an interruption, so that the study goes on with what it has, and goes when all have ended.

    Args:
        paths: Of the study.
        specs: The runs still to be carried out.
        images: Training images.
        classes: C.
        limit: Bytes that the answers may take; of what is free on the disk they take no more than half.
    """
    limit = min(limit, shutil.disk_usage(paths.root).free / 2)
    found = Sharing(paths.answers, Counter(g for spec in specs if (g := group_of(spec)) is not None))
    if not 0 < needed(specs, images, classes) <= limit:
        _remove(paths.answers)
    elif not paths.answers.is_symlink():
        with contextlib.suppress(OSError):  # a folder that cannot be written to is told by the first run
            for group, runs in found.left.items():
                if runs > 1:
                    (paths.answers / group).mkdir(parents=True, exist_ok=True)
    yield found
    _remove(paths.answers)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # a link is left alone, and so is what it points at
