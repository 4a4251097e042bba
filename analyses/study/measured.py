"""The teacher-only measurements of a study: its ``kdstats/evaluate-da/1`` documents, checked to be alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from analyses.study.shape import Count, Finite, Number, Plain, Positive, Shape, check_shape, read_json
from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.records.paths import StudyPaths, encode_name

SCHEMA = "kdstats/evaluate-da/1"
_ANEW = "`python -m runners.study run` measures it anew once the file is gone"


class _Network(Shape):
    name: str | None = None
    arch: str | None = None
    sha256: str | None = None


class _Data(Shape):
    name: str | None = None
    sha256: str | None = None


class _Covariance(Shape):
    mean_covariance: Number | None = None
    mean_covariance_low: Number | None = None
    mean_covariance_high: Number | None = None
    risk_variance: Number | None = None
    design_effect: Number | None = None


# JSON has no NaN: what could not be computed is null there.
_NULL = BeforeValidator(lambda value: math.nan if value is None else value)


class _Row(Shape):
    scheme: str
    t_stddev: Positive
    components: dict[str, Finite]
    se: Annotated[Positive, _NULL] = math.nan
    low: Annotated[Positive, _NULL] = math.nan
    high: Annotated[Positive, _NULL] = math.nan
    teacher_forwards: Count = 0
    teacher_entropy: Annotated[Number, _NULL] = math.nan
    design_effect: Annotated[Finite, _NULL] = math.nan
    effective_inputs: Annotated[Finite, _NULL] = math.nan
    covariance: _Covariance | None = None
    rivals: dict[str, Number | None] = Field(default_factory=dict)
    null: Annotated[Number, _NULL] = math.nan


class _Comparison(Shape):
    a: str
    b: str
    low: Number
    high: Number


class _Shared(Shape):
    originals_forwards: Number = math.nan


class _Provenance(Shape):
    seconds: Number = math.nan


class _Measurement(Shape):
    definition: Annotated[dict[str, Plain], Field(min_length=1)]
    teacher: _Network
    dataset: _Data
    results: Annotated[list[_Row], Field(min_length=1)]
    student: _Network | None = None
    comparisons: list[_Comparison] = Field(default_factory=list)
    skipped: dict[str, str] | None = None
    shared: _Shared | None = None
    provenance: _Provenance | None = None


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
    """The document at ``path``.

    Raises:
        MissingError: It is absent, damaged or of another schema, or lacks something.
        CheckError: It holds a number that cannot be: a T. stddev below 0 or infinite.
    """
    raw = read_json(path, "teacher-only measurement")
    if raw.get("schema") != SCHEMA:
        raise MissingError(f"{path} has schema {raw.get('schema')!r}, expected {SCHEMA!r}")
    check_shape(_Measurement, raw, path, anew=_ANEW)
    against = {c["a"]: c for c in raw.get("comparisons", ()) if c.get("b") == "identity"}
    student = raw.get("student")
    pupil = None if student is None else student.get("name") or student.get("arch") or "a student"
    schemes = {
        name: Measured(name, row, against.get(name), pupil, path)
        for name, row in ((row["scheme"], row) for row in raw["results"])
    }
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
        try:
            folder = paths.t_stddev / encode_name(teacher, "teacher")
        except UsageError as error:
            raise MissingError(f"{paths.root / 'study.json'}: {error}") from None
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
