"""What ``kdstats schemes show`` says of an augmentation, and the sheet of images that it saves."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from kdstats import data, schemes
from kdstats.data import LabelledImages
from kdstats.draws.keys import epoch_order, view_generator
from kdstats.errors import UsageError
from kdstats.figures.contact_sheet import Cell, contact_sheet
from kdstats.figures.style import save
from kdstats.schemes import Scheme
from kdstats.schemes.combined.composition import Composition
from kdstats.schemes.combined.probability import Sometimes
from kdstats.schemes.naming.presets import PRESETS, presets_of
from kdstats.schemes.naming.resolve import keywords, resolve
from kdstats.schemes.scheme import Scorer
from kdstats.tables import to_json, write
from kdstats.teacher.load import load_network

IMAGES = 8
_STEPS = 3


@dataclass(frozen=True, slots=True)
class SchemeFacts:
    """One augmentation in words.

    Attributes:
        name: Registry name.
        label: Short name in figures and tables.
        family: What kind of change it makes.
        draws: Granularity shown.
        needs: Networks it must be given.
        targets: Kinds of targets that its views can be given.
        parameters: Name → value; None where it follows from the image size.
        does: Rule → what it does, from the parameters: probability, λ, box, partner, fill, space.
        presets: Published codes whose parameters can be had by ``name@preset``.
        rules: What it is, and where it differs from the publication.
        reference: Where it was published.
    """

    name: str
    label: str
    family: str
    draws: str
    needs: tuple[str, ...]
    targets: tuple[str, ...]
    parameters: dict[str, Any]
    does: dict[str, str]
    presets: tuple[str, ...]
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
    draws: str | None
    seed: int


def describe(name: str, draws: str | None) -> SchemeFacts:
    """The facts of the scheme ``name``; raises ``UsageError`` with the nearest names if there is none."""
    record = schemes.record(name)
    scheme = schemes.get(record.name, draws=draws)
    layers = list(_layers(scheme))
    parameters = dict(record.params)
    for layer in layers:
        own = _parameters(layer)
        parameters |= (
            own if layer is scheme else {f"{layer.name}: {key}": value for key, value in own.items()}
        )
    if not isinstance(scheme, Composition) and not scheme.needs:
        parameters.setdefault("p", 1.0)  # every other scheme takes it
    rules = "\n\n".join(f"{layer.name}: {_prose(type(layer))}" for layer in layers)
    # Docstrings are written for Sphinx, which marks code by doubled backticks and roles.
    rules = re.sub(r":[a-z]+:`~?([^`]*)`", r"\1", rules.replace("``", "")).replace("`", "")
    preset = resolve(name).preset
    reference = f"{PRESETS[preset].reference}" if preset else record.reference
    return SchemeFacts(
        record.name,
        record.label,
        record.family,
        scheme.draws,
        tuple(sorted(record.needs)),
        record.targets,
        parameters,
        scheme.rules(),
        tuple(f"{resolve(name).name}@{p}" for p in presets_of(resolve(name).name)),
        rules,
        reference,
    )


def _prose(cls: type[Scheme]) -> str:
    """The docstring up to its lists of arguments and errors."""
    return re.split(r"\n\n(?:Args|Attributes|Raises|Returns):\n", inspect.getdoc(cls) or "")[0]


def _layers(scheme: Scheme) -> Iterator[Scheme]:
    """The scheme and what it is made of, outermost first."""
    yield scheme
    for part in (*getattr(scheme, "parts", ()), *([scheme.base] if hasattr(scheme, "base") else [])):
        yield from _layers(part)


def _parameters(scheme: Scheme) -> dict[str, Any]:
    inside = {} if not isinstance(scheme, Sometimes) else {"p": scheme.p}
    return {**inside, **{key: getattr(scheme, key) for key in keywords(type(scheme))}}


def render(facts: SchemeFacts, fmt: str) -> str:
    """The facts in one of the formats of :mod:`kdstats.tables`."""
    if fmt == "json":
        return to_json({k: list(v) if isinstance(v, tuple) else v for k, v in asdict(facts).items()})
    rows = [
        {"field": "name", "value": f"{facts.name} ({facts.label})"},
        {"field": "family", "value": facts.family},
        {"field": "draws", "value": f"one per {facts.draws}"},
        {"field": "needs", "value": ", ".join(facts.needs) or "no network"},
        {"field": "targets", "value": ", ".join(facts.targets)},
        {"field": "parameters", "value": _said(facts.parameters)},
        *({"field": key, "value": text} for key, text in facts.does.items()),
        {"field": "presets", "value": ", ".join(facts.presets) or "none"},
        {"field": "reference", "value": facts.reference},
    ]
    if fmt != "table":
        rules = " ".join(facts.rules.split())
        return write(fmt, [*rows, {"field": "rules", "value": rules}], ("field", "value"))
    wide = max(len(row["field"]) for row in rows)
    lines = [
        textwrap.fill(
            row["value"], 110, initial_indent=f"{row['field']:<{wide}}  ", subsequent_indent=" " * (wide + 2)
        )
        for row in rows
    ]
    paragraphs = [textwrap.fill(" ".join(p.split()), 100) for p in facts.rules.split("\n\n")]
    return "\n".join([*lines, "", "\n\n".join(paragraphs)]) + "\n"


def _said(parameters: dict[str, Any]) -> str:
    said = [f"{k} = {'by the images' if v is None else v}" for k, v in parameters.items()]
    return ", ".join(said) or "none"


def save_sheet(name: str, request: SheetRequest, path: Path) -> str:
    """Saves the contact sheet of scheme ``name`` and returns its caption; raises as :func:`sheet_cells`."""
    draws = schemes.get(name, draws=request.draws).draws
    cells = sheet_cells(name, request)
    figure, facts = contact_sheet(cells, schemes.record(name).label, request.dataset, draws, request.seed)
    save(figure, path)
    return facts.caption()


def sheet_cells(name: str, request: SheetRequest) -> list[Cell]:
    """Eight training images and their views under scheme ``name``, see :func:`view_cells`.

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
    return view_cells(scheme, images, request.seed, teacher, student)


def view_cells(
    scheme: Scheme,
    images: LabelledImages,
    seed: int,
    teacher: Scorer | None = None,
    student: Scorer | None = None,
) -> list[Cell]:
    """Eight images of ``images`` and their views under ``scheme``; the third batch of one with a history."""
    order = epoch_order(seed, 0, len(images))
    for step in range(_STEPS if scheme.history else 1):
        chosen = order[step * IMAGES :][:IMAGES] if len(order) >= (step + 1) * IMAGES else order[:IMAGES]
        pixels, labels, ids = next(images.batches([chosen]))
        x = images.normalise(pixels)
        batch = scheme.apply(
            x,
            labels,
            ids,
            generator=view_generator(seed, scheme.draws, 0, step),
            teacher=teacher,
            student=student,
        )
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (images.mean, images.std))
    # Where all views are of one image, the originals that it replaces are what one wants to see.
    one = bool((batch.index == batch.index[0]).all())
    own = torch.arange(len(batch.index)) if one else batch.index
    above = (x * std + mean).clamp(0, 1)[own].permute(0, 2, 3, 1).numpy()
    below = (batch.images * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    names = images.class_names
    partners = labels if batch.partner_labels is None else batch.partner_labels
    return [
        Cell(
            original=above[i],
            view=below[i],
            label=names[int(labels[batch.index[i]])],
            partner=names[int(partners[i])],
            lam=float(batch.lam[i]),
        )
        for i in range(min(len(below), IMAGES))
    ]
