"""The study's teachers and students, asked about the test images.

Needs what a study keeps beside its tables: the students' ``last.safetensors``, the teachers' weights at the paths in
``study.json``, and the data set. torch is imported inside the functions, so a study without these costs nothing.

A study may come from a stranger. What it names is looked up only if it is a weights file and an architecture of the
registry, unless its reader trusts it (:attr:`analyses.study.Study.trusted`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyses.study import Study
from analyses.study.settings import FIXED, TrainedRun, trained_runs
from analyses.words import CANNOT, count
from kdstats.errors import CheckError, KdstatsError, MissingError
from kdstats.small_file import read_text_of

if TYPE_CHECKING:
    from kdstats.data import LabelledImages, Selection
    from kdstats.teacher.network import Network

TEACHER, STUDENT = "teacher", "student"
TRUST = "pass --trust to reports.build"
BATCH = 500
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One network that can be asked.

    Attributes:
        role: :data:`TEACHER` or :data:`STUDENT`.
        pair: As in the study's tables; for a teacher that of its first pair.
        name: The teacher's name, or the scheme of the student.
        seed: Of the student; −1 for a teacher.
        network: Loaded, in evaluation mode.
        images: The test images.
    """

    role: str
    pair: str
    name: str
    seed: int
    network: Network
    images: LabelledImages

    @property
    def key(self) -> dict[str, Any]:
        """``role, pair, scheme, seed`` for a table; a teacher stands under its name."""
        return {"role": self.role, "pair": self.pair, "scheme": self.name, "seed": self.seed}

    def answers(self) -> Answers:
        """What it says of every test image.

        Raises:
            CheckError: A logit is not finite.
        """
        return _answers(self.network, self.images)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """``logits`` ``[N, C]``, ``labels`` ``[N]``, ``features`` ``[N, D]`` before the head (None where it has none)."""

    logits: Floats
    labels: NDArray[np.int64]
    features: Floats | None

    @property
    def log_probabilities(self) -> Floats:
        """Log-softmax at T = 1, ``[N, C]``, nats."""
        z = self.logits - self.logits.max(axis=1, keepdims=True)
        return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """``[N]`` whether the likeliest class is the label."""
        return np.asarray(self.logits.argmax(axis=1) == self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """The networks of a study.

    Attributes:
        load: Makes them, one at a time; gives the reason instead where one cannot be loaded.
        refused: Why none can be asked, as a sentence; empty where some can.
    """

    load: Callable[[], Iterator[Asked | str]]
    refused: str

    def each(self, missing: list[str]) -> Iterator[Asked]:
        """The networks that load; the reasons of the others are appended to ``missing``."""
        for found in self.load() if not self.refused else ():
            if isinstance(found, str):
                missing.append(found)
            else:
                yield found


def panel(study: Study, images: int | None = None) -> Panel:
    """The teachers and the last students of every used run.

    Args:
        study: The study.
        images: Only the first so many test images; all with None.
    """
    try:
        runs = trained_runs(study)
        tests = images_tested(study, runs[0], images) if runs else None
    except (KdstatsError, OSError) as error:
        return Panel(lambda: iter(()), f"This {CANNOT} the networks cannot be asked: {error}")
    if tests is None:
        return Panel(lambda: iter(()), f"This {CANNOT} no run is in use.")
    return Panel(lambda: _load(study, runs, tests), "")


def _load(study: Study, runs: tuple[TrainedRun, ...], tests: LabelledImages) -> Iterator[Asked | str]:
    # A teacher that follows its student is gone when the run ends.
    for teacher in dict.fromkeys(r.pair.split("/")[0] for r in runs if r.settings["teaching"] == FIXED):
        pair = next(r.label for r in runs if r.pair.split("/")[0] == teacher)
        try:
            yield Asked(TEACHER, pair, teacher, -1, load_teacher(study, teacher, tests), tests)
        except KdstatsError as error:
            yield f"teacher {teacher}: {error}"
    for run in runs:
        try:
            yield Asked(STUDENT, run.label, run.scheme, run.seed, load_student(run, tests), tests)
        except KdstatsError as error:
            yield f"{run.label}, {run.scheme}, seed {run.seed}: {error}"


def left_out(missing: list[str]) -> list[str]:
    """One sentence on the networks that could not be asked."""
    if not missing:
        return []
    return [f"{count(len(missing), 'network')} could not be asked, the first because: {missing[0]}"]


def images_tested(study: Study, run: TrainedRun, images: int | None = None) -> LabelledImages:
    """The test images as the runs were tested on.

    Raises:
        MissingError: The data set is not at hand.
        CheckError: It has another number of test images than the study's card says.
    """
    found = selected(study, run).test()
    due = study.card.dataset.get("test")
    if due is not None and len(found) != due:
        raise CheckError(
            f"the data set has {len(found)} test images, the study was tested on {due}; it is not the same data"
        )
    return found if images is None or images >= len(found) else found.head(images)


def selected(study: Study, run: TrainedRun) -> Selection:
    """The choice of images that a run was trained and tested on.

    Raises:
        MissingError: ``study.toml`` is not readable, so the data's place is unknown, or the classes stand in a file whose
            place a study that is not trusted names: what is in it would be told.
    """
    from kdstats.data import Selection

    classes = run.settings.get("classes")
    if classes is not None and classes.lstrip().startswith("@") and not study.trusted:
        raise MissingError(
            f"{run.folder / 'run.json'} takes its classes from a file of this machine, {classes}; {TRUST} if you trust it"
        )
    wanted = {name: run.settings.get(name) for name in ("img_size", "classes", "per_class", "val_split")}
    return Selection(str(run.settings["dataset"]), _data_path(study.paths.study_toml), **wanted)


def _data_path(settings: Path) -> str | None:
    try:
        said = tomllib.loads(read_text_of(settings, "study file")).get("study", {})
        path = said.get("data")
    except (ValueError, AttributeError, RecursionError) as error:
        raise MissingError(
            f"{settings} is not readable TOML, so the data's place is unknown: {error}"
        ) from None
    if path is not None and not isinstance(path, str):
        raise MissingError(f"{settings}: data is {path!r}, not the name of a folder")
    return path


def load_teacher(study: Study, teacher: str, images: LabelledImages) -> Network:
    """A teacher of the study, its weights compared with the card's hash.

    Raises:
        MissingError: No weights at the card's path, they do not fit, or a study that is not trusted names a network by
            code or address.
        CheckError: The weights are not those of the study.
    """
    import torch

    from kdstats.teacher.load import load_network
    from kdstats.teacher.sources import refuse_foreign

    card = study.card.teachers.get(teacher, {})
    if not card.get("path"):
        raise MissingError("study.json gives no path of its weights")
    arch = card.get("arch") if str(card["path"]).endswith((".safetensors", ".pth", ".pt")) else None
    if not study.trusted:
        refuse_foreign(card["path"], arch, str(study.paths.root / "study.json"), TRUST, TEACHER)
    found = load_network(card["path"], arch, images, torch.device("cpu"))
    if card.get("sha256") not in (None, found.sha256):
        raise CheckError(f"{card['path']} has another sha256 than the study's card says")
    return found


def load_student(run: TrainedRun, images: LabelledImages) -> Network:
    """The student after the last epoch.

    Raises:
        MissingError: Its weights are gone or do not fit, or a study that is not trusted names code as its architecture.
    """
    import torch

    from kdstats.teacher.load import load_network
    from kdstats.teacher.sources import refuse_foreign

    weights, arch = run.folder / "last.safetensors", run.pair.split("/")[1]
    if not weights.is_file():
        raise MissingError(f"no weights at {weights}")
    if not run.study.trusted:
        refuse_foreign(str(weights), arch, str(run.study.paths.root / "study.json"), TRUST, STUDENT)
    return load_network(weights, arch, images, torch.device("cpu"), role=STUDENT)


def _answers(network: Network, images: LabelledImages) -> Answers:
    import torch

    from kdstats.models.classifier import Classifier

    logits, features, labels = [], [], []
    with torch.inference_mode():
        for batch in images.in_order(BATCH):
            x = images.normalise(batch.images).contiguous(memory_format=torch.channels_last)
            if isinstance(network.model, Classifier):
                out, maps = network.model(x, features=True)
                features.append(maps[-1].double().numpy())
            else:
                out = network.model(x)
            logits.append(out.double().numpy())
            labels.append(batch.labels.numpy())
    found = np.concatenate(logits)
    if not np.isfinite(found).all():
        raise CheckError(f"{network.name} answers with NaN or infinity")
    return Answers(found, np.concatenate(labels), np.concatenate(features) if features else None)
