"""The study file: TOML or YAML in, checked settings out. Unknown keys are answered with the nearest right one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from kdstats.errors import KdstatsError, MissingError, UsageError, nearest
from runners.study_file.sections import (
    SELF,
    ExcludeSection,
    ExecutorSection,
    GridSection,
    KdSection,
    LogSection,
    ProbeSection,
    ReportSection,
    Section,
    StudySection,
    TeacherSection,
    TeachingSection,
    TrainSection,
    VariantSection,
    distinct,
)

_YAML = (".yaml", ".yml")
# Sections of which there may be several.
_TABLES: dict[str, Any] = {"variant": VariantSection, "exclude": ExcludeSection}
# Sections that a variant may change.
VARIED = ("kd", "train", "teaching", "grid")


class StudyFile(Section):
    """A whole study file."""

    schema_version: Literal[1] = Field(1, alias="schema", description="version of this format")
    study: StudySection
    grid: GridSection
    teacher: dict[str, TeacherSection] = Field(default_factory=dict)
    train: TrainSection = TrainSection()
    kd: KdSection = KdSection()
    teaching: TeachingSection = TeachingSection()
    probe: ProbeSection = ProbeSection()
    log: LogSection = LogSection()
    report: ReportSection = ReportSection()
    executor: ExecutorSection = ExecutorSection()
    variant: tuple[VariantSection, ...] = ()
    exclude: tuple[ExcludeSection, ...] = ()

    @property
    def arms(self) -> dict[str, StudyFile]:
        """Variant → the study with its settings alone; the study itself under ``""`` where it has none."""
        if not self.variant:
            return {"": self}
        return {variant.name: self._with(variant) for variant in self.variant}

    def over_arms(self, key: str) -> tuple[Any, ...]:
        """The grid's ``pairs``, ``schemes`` or ``seeds`` of all variants, each once."""
        return tuple(dict.fromkeys(v for arm in self.arms.values() for v in getattr(arm.grid, key)))

    def _with(self, variant: VariantSection) -> StudyFile:
        changed: dict[str, Any] = {}
        for section in VARIED:
            own = getattr(variant, section)
            if not own:
                continue
            base = getattr(self, section)
            try:
                changed[section] = type(base).model_validate(base.model_dump(exclude_unset=True) | own)
            except ValidationError as error:
                placed = [{**e, "loc": (section, *e["loc"])} for e in error.errors()]
                raise UsageError(
                    f"variant {variant.name!r}: " + "; ".join(explain(e) for e in placed)
                ) from None
            except KdstatsError as error:
                raise UsageError(f"variant {variant.name!r}: {error}") from None
        return self.model_copy(update={**changed, "variant": ()})

    @model_validator(mode="after")
    def _variants_fit(self) -> StudyFile:
        distinct("variant", tuple(variant.name for variant in self.variant))
        size = self.train.resolve().batch_size
        for name, arm in self.arms.items():
            of = f"variant {name!r}: " if name else ""
            if arm.grid.draws != self.grid.draws:
                raise UsageError(
                    f"{of}draws are the same for a whole study, because T. stddev is measured once"
                )
            if arm.train.resolve().batch_size != size:
                raise UsageError(
                    f"{of}batches of {arm.train.resolve().batch_size} images beside {size}; one study has one size, "
                    "because T. stddev is measured once"
                )
            for pair in arm.grid.pairs:
                teacher, _, student = pair.partition("/")
                if arm.teaching.kind == "fixed" and teacher == SELF:
                    raise UsageError(
                        f"{of}pair {pair!r} has no fixed teacher; set [teaching] kind = 'ema' or 'dual'"
                    )
                if arm.teaching.kind != "fixed" and teacher != SELF:
                    raise UsageError(
                        f"{of}[teaching] kind = {arm.teaching.kind!r} makes its teachers of the student; write the "
                        f"pair {SELF}/{student}, not {pair}"
                    )
        return self

    @model_validator(mode="after")
    def _exclusions_meet_a_run(self) -> StudyFile:
        for number, rule in enumerate(self.exclude, 1):
            for kind, value, known in (
                ("pair", rule.pair, self.over_arms("pairs")),
                ("scheme", rule.scheme, self.over_arms("schemes")),
                ("seed", rule.seed, self.over_arms("seeds")),
                ("variant", rule.variant, tuple(v.name for v in self.variant)),
            ):
                if value is not None and value not in known:
                    raise UsageError(
                        f"exclusion {number} names {kind} {value!r}, which the grid has not; it has "
                        + ", ".join(map(str, known))
                    )
        return self

    @model_validator(mode="after")
    def _teachers_are_used(self) -> StudyFile:
        used = dict.fromkeys(pair.partition("/")[0] for pair in self.over_arms("pairs"))
        used.pop(SELF, None)
        for name in self.teacher:
            if name not in used:
                raise UsageError(
                    f"[teacher.{name}] belongs to no pair; the pairs' teachers are {', '.join(used) or 'none'}"
                )
        return self


def read_study(path: Path, overrides: list[str] | None = None) -> StudyFile:
    """Reads and checks a study file.

    Args:
        path: The file: TOML, or YAML where the name ends in .yaml or .yml.
        overrides: ``section.key=value`` texts, values in TOML's spelling.

    Raises:
        MissingError: No such file, or neither TOML nor YAML.
        UsageError: Unknown keys or senseless values, all named with their place.
    """
    try:
        raw = _parse(path)
    except FileNotFoundError:
        raise MissingError(
            f"no study file at {path.absolute()}. `python -m runners.study init FILE.toml` writes one to start from."
        ) from None
    except (tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        kind = "YAML" if path.suffix in _YAML else "TOML"
        said = "it nests too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise MissingError(f"{path} is not {kind}: {said}") from None
    for override in overrides or ():
        _override(raw, override)
    try:
        return StudyFile.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{path}: " + "; ".join(explain(e) for e in error.errors())) from None
    except KdstatsError as error:
        raise UsageError(f"{path}: {error}") from None


def _parse(path: Path) -> dict[str, Any]:
    """A mapping from TOML, or from YAML by its suffix (``safe_load``: no tag makes an object or runs code)."""
    text = path.read_text(encoding="utf-8")
    if path.suffix not in _YAML:
        return tomllib.loads(text)
    raw = yaml.safe_load(text)
    if not isinstance(raw, dict):
        raise yaml.YAMLError("a study file is a mapping with the keys study and grid")
    return raw


def _override(raw: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set takes section.key=value, for example kd.temperature=2, not {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value.strip()
    *sections, last = key.strip().split(".")
    node = raw
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise UsageError(f"--set {text}: {section} is a value, not a section")
    node[last] = parsed


def explain(error: Any) -> str:
    """One of pydantic's errors in words: the key, and what is wrong or what was meant."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        *sections, last = (str(part) for part in error["loc"])
        known = _keys(sections)
        near = nearest(last, known)
        meant = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        return f"unknown key {where}; {meant}"
    if error["type"] == "missing":
        return f"{where} is missing; `python -m runners.study init FILE.toml` writes a file to start from"
    if error["type"] == "tuple_type" and where in _TABLES:
        return f"{where} is a list of tables; in TOML each is headed [[{where}]], not [{where}]"
    if error["type"] == "tuple_type":
        return f'{where} is a list, for example [0, 1, 2] or ["identity", "cutmix"], not {error["input"]!r}'
    cause = error.get("ctx", {}).get("error")
    said = cause if cause is not None else error["msg"]
    return f"{where}: {said}" if where else str(said)


def _keys(sections: list[str]) -> list[str]:
    model: Any = StudyFile
    for section in sections:
        if section in _TABLES or section.isdigit():
            model = _TABLES.get(section, model)
        elif section in StudyFile.model_fields and section != "teacher":
            model = StudyFile.model_fields[section].annotation
        else:
            model = TeacherSection
    return [field.alias or name for name, field in model.model_fields.items()]
