"""The teacher-only measurement of a study: T. stddev of every scheme, once per teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdstats import schemes
from kdstats._version import __version__
from kdstats.data import LabelledImages
from kdstats.json_text import parse_json
from kdstats.records.paths import StudyPaths
from kdstats.records.writer import is_complete, write_json_atomic
from kdstats.teacher.device import pick_device
from kdstats.teacher.evaluate import measure
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network
from kdstats.teacher.protocols import Status
from runners.progress import say
from runners.run_spec import RunSpec
from runners.study.collect import probe_files
from runners.study_file import StudyFile
from runners.study_file.sections import SELF


def probe(
    study: StudyFile,
    paths: StudyPaths,
    sets: tuple[LabelledImages, LabelledImages],
    teachers: dict[str, Network],
    specs: list[RunSpec],
    device: str,
    *,
    students: bool,
) -> None:
    """Measures T. stddev of every scheme, unless a fitting measurement is there already.

    Args:
        study: Its file.
        paths: Its files.
        sets: Training images, those that the students see, and test images.
        teachers: By name, on the CPU.
        specs: All planned runs.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        students: The schemes that need a student, on the first seed's student of the first scheme; else all others.
    """
    for pair in study.over_arms("pairs"):
        name, _, student = pair.partition("/")
        if name == SELF:
            continue  # no teacher that could be measured before there is a student
        needy, free = _schemes_of(study, name, student if students else None)
        wanted = needy if students else free
        if not wanted:
            continue
        network = teachers[name]
        target = probe_files(paths, name, student)[students]
        pupil = None
        if students:
            own = [s for s in specs if (s.teacher, s.student) == (name, student) and s.scheme not in needy]
            ready = [s for s in own if is_complete(s.paths(paths.root))]
            if not ready:
                continue
            pupil = ready[0].paths(paths.root).last
        asked = _asked(study, network, pupil, wanted, specs[0].dataset_sha256)
        if target.is_file() and _answered(target, asked):
            continue
        if not students and needy:
            say(f"{', '.join(needy)}: measured later, with a trained student")
        say(
            f"measuring {len(wanted)} scheme{'s' * (len(wanted) > 1)} with the teacher {name}"
            + (" and a student" if pupil else " alone")
        )
        where = pick_device(device)
        images, test = (part.to(where) for part in sets)
        answer = measure(
            wanted,
            images,
            test,
            network if where.type == "cpu" else load_network(network.source, network.arch, images, where),
            None if pupil is None else load_network(pupil, student, images, where, "student"),
            protocol=study.probe.protocol,
            tol=study.probe.tol,
            pools=study.probe.pools,
            batch_size=study.train.resolve().batch_size,
            draws=study.grid.draws,
            seed=study.probe.seed,
            progress=_tell(),
        )
        write_json_atomic(target, answer.to_dict())
        write_json_atomic(_question(target), asked)


def _schemes_of(study: StudyFile, teacher: str, student: str | None) -> tuple[list[str], list[str]]:
    """Schemes of a pair, or of all pairs of a teacher, over all variants: those that need a student, and the others."""
    found = dict.fromkeys(
        scheme
        for arm in study.arms.values()
        if any(
            pair.partition("/")[0] == teacher and student in (None, pair.partition("/")[2])
            for pair in arm.grid.pairs
        )
        for scheme in arm.grid.schemes
    )
    needy = [scheme for scheme in found if "student" in schemes.record(scheme).needs]
    return needy, [scheme for scheme in found if scheme not in needy]


def _asked(
    study: StudyFile, teacher: Network, student: Path | None, wanted: list[str], dataset_sha256: str
) -> dict[str, Any]:
    return {
        "schemes": wanted,
        "dataset": study.study.dataset,
        "dataset_sha256": dataset_sha256,
        "version": __version__,
        "teacher": teacher.sha256,
        "student": None if student is None else student.parent.name,
        "probe": study.probe.model_dump(),
        "batch_size": study.train.resolve().batch_size,
        "draws": study.grid.draws,
    }


def _tell() -> Callable[[Status], None]:
    """A line whenever the plan of a measurement changes."""
    told = 0

    def tell(status: Status) -> None:
        nonlocal told
        if status.target != told:
            told = status.target
            width = "" if status.half_width is None else f", widest interval ±{status.half_width:.1%}"
            say(f"  batch {status.done} of {told} planned{width}")

    return tell


def _question(target: Path) -> Path:
    """Where it is kept what a measurement was asked, beside the answer; written after it."""
    return target.with_suffix(".asked")


def _answered(target: Path, asked: dict[str, Any]) -> bool:
    """Whether a measurement is there, whole, and was asked the same."""
    try:
        parse_json(target.read_text(encoding="utf-8"))["results"]
        return bool(parse_json(_question(target).read_text(encoding="utf-8")) == asked)
    except (OSError, ValueError, KeyError, TypeError):
        return False
