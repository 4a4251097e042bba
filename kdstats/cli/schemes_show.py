"""What ``kdstats schemes show`` says of an augmentation, and the sheet of images that it saves."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from kdstats import data, schemes
from kdstats.errors import UsageError
from kdstats.figures.contact_sheet import Cell, contact_sheet
from kdstats.figures.style import save
from kdstats.schemes import Scheme
from kdstats.schemes.keys import epoch_order, view_generator
from kdstats.schemes.picking import Pick
from kdstats.tables import to_json, write
from kdstats.teacher.load import load_network

IMAGES = 8


@dataclass(frozen=True, slots=True)
class SchemeFacts:
    """One augmentation in words.

    Attributes:
        name: Registry name.
        label: Short name in figures and tables.
        family: What kind of change it makes.
        draws: Granularity shown.
        needs: Networks it must be given.
        parameters: Name → value; None where it follows from the image size.
        rules: What it does.
        reference: Where it was published.
    """

    name: str
    label: str
    family: str
    draws: str
    needs: tuple[str, ...]
    parameters: dict[str, Any]
    rules: str
    reference: str


@dataclass(frozen=True, slots=True)
class SheetRequest:
    """The options of the sheet, as given."""

    dataset: str
    data: Path | None
    teacher: Path | None
    arch: str | None
    student: Path | None
    student_arch: str | None
    draws: str
    seed: int


def describe(name: str, draws: str) -> SchemeFacts:
    """The facts of the scheme ``name``; raises ``UsageError`` with the nearest names if there is none."""
    record = schemes.record(name)
    scheme = schemes.get(record.name, draws=draws)
    parameters = _parameters(scheme, record.params)
    rules = inspect.getdoc(type(scheme)) or ""
    if isinstance(scheme, Pick):
        parameters |= _parameters(scheme.base, {})
        rules += f"\n\n{scheme.base.name}: {inspect.getdoc(type(scheme.base)) or ''}"
    # Docstrings are written for Sphinx, which marks code by doubled backticks.
    rules = rules.replace("``", "").replace(":func:", "").replace("`", "")
    needs = tuple(sorted(record.needs))
    return SchemeFacts(
        record.name, record.label, record.family, scheme.draws, needs, parameters, rules, record.reference
    )


def _parameters(scheme: Scheme, fixed: dict[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(type(scheme).__init__)
    named = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {**fixed, **{name: getattr(scheme, name) for name in named}}


def render(facts: SchemeFacts, fmt: str) -> str:
    """The facts in one of the formats of :mod:`kdstats.tables`."""
    if fmt == "json":
        return to_json({**asdict(facts), "needs": list(facts.needs)})
    rows = [
        {"field": "name", "value": f"{facts.name} ({facts.label})"},
        {"field": "family", "value": facts.family},
        {"field": "draws", "value": f"one per {facts.draws}"},
        {"field": "needs", "value": ", ".join(facts.needs) or "no network"},
        {"field": "parameters", "value": _said(facts.parameters)},
        {"field": "reference", "value": facts.reference},
    ]
    if fmt != "table":
        rules = " ".join(facts.rules.split())
        return write(fmt, [*rows, {"field": "rules", "value": rules}], ("field", "value"))
    lines = [f"{row['field']:<11} {row['value']}" for row in rows]
    paragraphs = [textwrap.fill(" ".join(p.split()), 100) for p in facts.rules.split("\n\n")]
    return "\n".join([*lines, "", "\n\n".join(paragraphs)]) + "\n"


def _said(parameters: dict[str, Any]) -> str:
    said = [f"{k} = {'by image size' if v is None else v}" for k, v in parameters.items()]
    return ", ".join(said) or "none"


def save_sheet(name: str, request: SheetRequest, path: Path) -> str:
    """Saves the contact sheet of scheme ``name`` and returns its caption; raises as :func:`sheet_cells`."""
    figure, facts = contact_sheet(
        sheet_cells(name, request), schemes.record(name).label, request.dataset, request.draws, request.seed
    )
    save(figure, path)
    return facts.caption()


def sheet_cells(name: str, request: SheetRequest) -> list[Cell]:
    """Eight training images and their views under scheme ``name``.

    Raises:
        UsageError: The scheme needs a student and none was given, or there is no such data set.
        MissingError: Data or networks are missing or do not fit.
    """
    images = data.load(request.dataset, "train", request.data)
    record = schemes.record(name)
    if "student" in record.needs and request.student is None:
        raise UsageError(f"{name} ranks views by the student's output: add --student FILE to draw its sheet")
    cpu = torch.device("cpu")
    teacher = student = None
    if "teacher" in record.needs:
        teacher = load_network(request.teacher, request.arch, images, cpu).logits
    if "student" in record.needs:
        student = load_network(request.student, request.student_arch, images, cpu, "student").logits
    scheme = schemes.get(name, draws=request.draws, space=schemes.PixelSpace(images.mean, images.std))
    chosen = epoch_order(request.seed, 0, len(images))[:IMAGES]
    x, labels = images.normalise(images.images[chosen]), images.labels[chosen]
    batch = scheme.apply(
        x,
        labels,
        images.sample_id[chosen],
        generator=view_generator(request.seed, request.draws, 0, 0),
        teacher=teacher,
        student=student,
    )
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (images.mean, images.std))
    above = (x * std + mean).clamp(0, 1)[batch.index].permute(0, 2, 3, 1).numpy()
    below = (batch.images * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    names = images.class_names
    return [
        Cell(
            original=above[i],
            view=below[i],
            label=names[int(labels[batch.index[i]])],
            partner=names[int(labels[batch.partner_index[i]])],
            lam=float(batch.lam[i]),
        )
        for i in range(len(below))
    ]
