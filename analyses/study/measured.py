"""The teacher-only measurements of a study: its ``kdstats/evaluate-da/1`` documents, checked to be alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyses.study.card import read_json
from kdstats.errors import CheckError, MissingError
from kdstats.records.paths import StudyPaths, encode_name

SCHEMA = "kdstats/evaluate-da/1"


@dataclass(frozen=True, slots=True)
class Measured:
    """One scheme as a teacher sees it.

    Attributes:
        scheme: Its name.
        row: Its entry in ``results``, see :meth:`kdstats.teacher.evaluation.Evaluation.to_dict`.
        comparison: Its comparison with identity (T. stddev), None for identity itself.
        student: Name of the student that had a part in it; None for the teacher alone.
        path: The document.
    """

    scheme: str
    row: Mapping[str, Any]
    comparison: Mapping[str, Any] | None
    student: str | None
    path: Path


@dataclass(frozen=True, slots=True)
class Document:
    """One file of measurements: teacher, optional student, definition, schemes."""

    path: Path
    teacher: Mapping[str, Any]
    student: Mapping[str, Any] | None
    dataset: Mapping[str, Any]
    definition: Mapping[str, Any]
    schemes: Mapping[str, Measured]
    skipped: Mapping[str, str]

    def fits(self, student: str) -> bool:
        """Whether its student is the one called ``student`` (by name, architecture or file name)."""
        given = self.student
        return given is not None and student in (given.get("arch"), given.get("name"), self.path.stem)


def read_document(path: Path) -> Document:
    """The document at ``path``; raises ``MissingError`` naming what is absent or of another schema."""
    raw = read_json(path, "teacher-only measurement")
    if raw.get("schema") != SCHEMA:
        raise MissingError(f"{path} has schema {raw.get('schema')!r}, expected {SCHEMA!r}")
    absent = [key for key in ("definition", "teacher", "dataset", "results") if not raw.get(key)]
    if absent:
        raise MissingError(f"{path} lacks {', '.join(absent)}")
    against = {c["a"]: c for c in raw.get("comparisons", ()) if c.get("b") == "identity"}
    student = raw.get("student")
    pupil = None if student is None else str(student.get("name") or student.get("arch") or "a student")
    schemes = {}
    for row in raw["results"]:
        missing = [key for key in ("scheme", "t_stddev", "components") if key not in row]
        if missing:
            raise MissingError(f"{path}: a row of results lacks {', '.join(missing)}")
        name = str(row["scheme"])
        schemes[name] = Measured(name, row, against.get(name), pupil, path)
    return Document(
        path=path,
        teacher=raw["teacher"],
        student=student,
        dataset=raw["dataset"],
        definition=raw["definition"],
        schemes=schemes,
        skipped=raw.get("skipped") or {},
    )


def read_documents(
    paths: StudyPaths, teachers: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[Document, ...]]:
    """Teacher → its documents, those without a student first.

    Raises:
        MissingError: A document is broken.
        CheckError: Documents of the study differ in definition, or are of another teacher than the card says.
    """
    found = {}
    for teacher, said in teachers.items():
        folder = paths.t_stddev / encode_name(teacher, "teacher")
        documents = [read_document(path) for path in sorted(folder.glob("*.json"))]
        for document in documents:
            was, due = document.teacher.get("sha256"), said.get("sha256")
            if was and due and was != due:
                raise CheckError(
                    f"{document.path} measured a teacher with sha256 {was[:12]}…; the study's "
                    f"{teacher!r} has {due[:12]}…"
                )
        found[teacher] = tuple(sorted(documents, key=lambda d: (d.student is not None, d.path.name)))
    every = [document for documents in found.values() for document in documents]
    for document in every[1:]:
        first = every[0]
        keys = sorted({*first.definition, *document.definition})
        unlike = [k for k in keys if first.definition.get(k) != document.definition.get(k)]
        if unlike:
            said_ = "; ".join(
                f"{k} {first.definition.get(k)!r} and {document.definition.get(k)!r}" for k in unlike
            )
            raise CheckError(f"{first.path} and {document.path} measure unlike things: {said_}")
    return found


def of_pair(documents: tuple[Document, ...], student: str) -> dict[str, Measured]:
    """Scheme → measurement: teacher-only where there is one, with the pair's own student otherwise."""
    out: dict[str, Measured] = {}
    for document in documents:
        if document.student is None or document.fits(student):
            for scheme, measured in document.schemes.items():
                out.setdefault(scheme, measured)
    return out
