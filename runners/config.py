"""The study file: TOML or YAML in, checked settings out. Unknown keys are answered with the nearest right one."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kdstats import data, models, schemes
from kdstats.data import Selection
from kdstats.errors import KdstatsError, MissingError, UsageError, nearest
from kdstats.records.paths import encode_name
from runners import objectives, recipes
from runners.recipes import Recipe
from runners.training import teaching
from runners.training.teaching import Teaching

_YAML = (".yaml", ".yml")
SELF = "self"  # the teacher's place in a pair whose teachers follow the student
Positive = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StudySection(_Section):
    """``[study]``: what it is about."""

    name: str = Field(min_length=1, description="name of the study, for titles")
    dataset: str = Field("digits", description="data set, see `kdstats datasets`")
    data: str | None = Field(None, description="folder with its files, where it is not embedded")
    img_size: Positive | None = Field(None, description="bring every image to this height and width")
    classes: str | None = Field(None, description="only these: '20' (the first), 'cat,dog' or '@FILE'")
    per_class: Positive | None = Field(None, description="only so many training images of each class")
    val_split: float | None = Field(
        None, gt=0, lt=1, description="share of the training images held out to choose the best epoch"
    )

    _known = field_validator("dataset")(lambda name: data.card(name).name)

    @field_validator("classes", mode="before")
    @classmethod
    def _one_text(cls, classes: object) -> object:
        """``20`` and ``["cat", "dog"]`` are as good as ``"20"`` and ``"cat,dog"``."""
        if isinstance(classes, int) and not isinstance(classes, bool):
            return str(classes)
        return ",".join(map(str, classes)) if isinstance(classes, list) and classes else classes

    @property
    def selection(self) -> Selection:
        """The images of the study."""
        return Selection(self.dataset, self.data, self.img_size, self.classes, self.per_class, self.val_split)


class GridSection(_Section):
    """``[grid]``: every pair under every scheme with every seed."""

    pairs: tuple[str, ...] = Field(
        min_length=1, description="teacher/student, by field names; self/student for [teaching] ema and dual"
    )
    schemes: tuple[str, ...] = Field(schemes.PUBLISHED_NINE, min_length=1, description="augmentation schemes")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="seeds of the students")
    draws: Literal["batch", "sample"] = Field("batch", description="one draw per batch or per image")

    @field_validator("pairs")
    @classmethod
    def _known_pairs(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        for pair in pairs:
            teacher, slash, student = pair.partition("/")
            if not slash or "/" in student:
                raise UsageError(
                    f"a pair is written teacher/student, for example resnet20/resnet8, not {pair!r}"
                )
            for name in (teacher, student):
                try:
                    _network(name)
                except UsageError as error:
                    raise UsageError(f"in pair {pair!r}: {error}") from None
            if student == SELF:
                raise UsageError(f"pair {pair!r}: {SELF} stands for the teacher only, {SELF}/STUDENT")
        return _distinct("pair", tuple(map(_pair_name, pairs)))

    @field_validator("schemes")
    @classmethod
    def _known_schemes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        flat = [member for name in names for member in schemes.members(name)]
        found = tuple(schemes.record(name).name for name in flat)
        for name in found:
            encode_name(name, "scheme")  # each names a folder
        return _distinct("scheme", found)

    @model_validator(mode="after")
    def _presets_fit_the_draws(self) -> GridSection:
        for name in self.schemes:
            schemes.get(name, draws=self.draws)
        return self

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return _distinct("seed", seeds)


class TeacherSection(_Section):
    """``[teacher.NAME]``: where a teacher comes from; without it the study trains one."""

    weights: str | None = Field(None, description="weights file, or 'shipped' for the digits teacher")
    recipe: str | None = Field(None, description="recipe to train it with")
    epochs: Positive | None = Field(None, description="another number of epochs")
    seed: int = Field(0, description="seed of the teacher's training")


class TrainSection(_Section):
    """``[train]``: how students are optimised."""

    recipe: str = Field("digits", description="named recipe, see runners/recipes.py")
    epochs: Positive | None = Field(None, description="another number of epochs; milestones scale with it")

    passes: Literal["two", "joint"] = Field("two", description="originals and views apart, or as one batch")
    determinism: Literal["off", "seeded", "strict"] = Field(
        "seeded", description="how far runs repeat themselves"
    )
    channels_last: bool = Field(True, description="memory layout of images and student")
    compile: Literal["off", "default", "cudagraphs"] = Field("off", description="torch.compile")
    fold_teacher: bool = Field(False, description="fold the teacher's BatchNorm into its convolutions")

    _known = field_validator("recipe")(lambda name: recipes.get(name).name)

    def fields(self) -> dict[str, Any]:
        """The fields of a :class:`~runners.run_spec.RunSpec` beside the recipe."""
        return self.model_dump(exclude={"recipe", "epochs"})

    def resolve(self) -> Recipe:
        """The recipe for this machine."""
        return recipes.get(self.recipe).with_epochs(self.epochs).on_this_machine()


class KdSection(_Section):
    """``[kd]``: the loss γ CE(x) + α KL(x) + β L(x) + α_v KL(x′); defaults as published for the objective L."""

    objective: str = Field("kd", description="the loss L, see `python -m runners.objectives`; kd is KL alone")
    params: dict[str, Any] = Field(default_factory=dict, description="the objective's own parameters")
    temperature: float = Field(4.0, gt=0, description="temperature T of the KL terms")
    student_temperature: float | None = Field(None, gt=0, description="the student's, where it is another")
    gamma: float | None = Field(None, ge=0, description="weight γ of the cross-entropy with the labels")
    alpha: float | None = Field(None, ge=0, description="weight α of the KL of originals, and of views")
    beta: float | None = Field(None, ge=0, description="weight β of the objective L")
    alpha_views: float | None = Field(None, ge=0, description="weight of the views' KL, where it is not α")
    targets: Literal["teacher", "interpolated", "labels"] = Field(
        "teacher", description="what the views are taught: the teacher's answer, mixed logits or mixed labels"
    )
    originals: Literal["kept", "replaced"] = Field(
        "kept", description="whether originals are trained on beside the views, or replaced by them"
    )

    _known = field_validator("objective")(objectives.canonical)

    @model_validator(mode="after")
    def _can_be_made(self) -> KdSection:
        objectives.get(self.objective, **self.params)
        return self

    def fields(self) -> dict[str, Any]:
        """The fields of a :class:`~runners.run_spec.RunSpec`, weights resolved.

        Raises:
            UsageError: β for an objective that has no term of its own.
        """
        published = objectives.objective_class(self.objective).weights
        weights = {
            name: getattr(published, name) if (own := getattr(self, name)) is None else own
            for name in ("gamma", "alpha", "beta")
        }
        rest = self.model_dump(include={"objective", "temperature", "targets", "originals"})
        rest |= {"student_temperature": self.student_temperature, "alpha_views": self.alpha_views}
        return {**rest, **weights, "objective_params": tuple(sorted(self.params.items()))}


class TeachingSection(_Section):
    """``[teaching]``: teachers that follow the student, instead of the fixed one."""

    kind: Literal["fixed", "ema", "dual"] = Field(
        "fixed", description="a fixed teacher, one average, or two in shifts"
    )
    teachers: Positive | None = Field(None, description="how many take turns")
    period: Positive | None = Field(None, description="length of a shift")
    unit: Literal["epoch", "step"] | None = Field(None, description="of the period")
    restart: Literal["shift", "never"] | None = Field(None, description="when averaging starts afresh")
    decay: float | None = Field(None, ge=0, lt=1, description="largest share that a teacher keeps of itself")
    warmup: bool | None = Field(None, description="whether that share begins at 0")
    buffers: Literal["own", "averaged", "copied"] | None = Field(None, description="BatchNorm's statistics")
    then: tuple[str, ...] | None = Field(None, description="schemes of the shifts after the first")

    def resolve(self) -> Teaching | None:
        """The teachers; None for the fixed one.

        Raises:
            UsageError: Settings of teachers that follow, for the fixed one.
        """
        own = {k: v for k, v in self.model_dump(exclude={"kind"}).items() if v is not None}
        base = teaching.get(self.kind)
        if base is None:
            if own:
                raise UsageError(f"[teaching] {next(iter(own))} belongs to kind = 'ema' or 'dual'")
            return None
        if "then" in own:
            own["then"] = tuple(schemes.record(name).name for name in own["then"])
        return replace(base, **own)

    @model_validator(mode="after")
    def _resolves(self) -> TeachingSection:
        self.resolve()
        return self


class ProbeSection(_Section):
    """``[probe]``: the teacher-only measurement."""

    protocol: Literal["efficient", "wang2022"] = Field("efficient", description="how T. stddev is measured")
    tol: float = Field(0.02, gt=0, lt=1, description="relative half-width at which it stops")
    pools: Positive | None = Field(None, description="most pools to spend")
    seed: int = Field(0, description="seed of the probe")


class LogSection(_Section):
    """``[log]``: what is kept per image."""

    every: Positive = Field(1, description="record the samples of every k-th epoch")
    dtype: Literal["float32", "float16"] = Field("float32", description="precision on disk")


class ExecutorSection(_Section):
    """``[executor]``: what one run may use, and where; no number depends on it, but for the threads."""

    threads: Positive = Field(
        1,
        description="threads of a run, the same under every executor: sums depend on them in their last bits",
    )
    cpus: Positive | None = Field(
        None, description="cores reserved for a run (ray, slurm), where it is not one a thread"
    )
    gpus: float = Field(
        0, ge=0, description="GPUs per run (ray, slurm); a fraction lets runs share one (ray)"
    )
    attempts: Positive = Field(3, description="attempts per run without progress before it counts as failed")
    address: str | None = Field(
        None, description="address of a Ray cluster; default: RAY_ADDRESS, or a local one"
    )
    cluster: Literal["slurm", "local"] = Field(
        "slurm", description="'local': submitit's processes on this machine"
    )
    slurm: dict[str, str | int] = Field(
        default_factory=dict, description="parameters for sbatch: partition, account, timeout_min, mem …"
    )

    @property
    def cores(self) -> int:
        """Cores to reserve for a run."""
        return self.cpus or self.threads


class ExcludeSection(_Section):
    """``[[exclude]]``: runs left out of every summary; they stay in ``runs``, marked with the reason."""

    reason: str = Field(min_length=1, description="why; shown in every table")
    pair: str | None = Field(None, description="teacher/student; all pairs without it")
    scheme: str | None = Field(None, description="scheme; all schemes without it")
    seed: int | None = Field(None, description="seed; all seeds without it")
    variant: str | None = Field(None, description="variant; all variants without it")

    _pair = field_validator("pair")(lambda pair: pair and _pair_name(pair))
    _scheme = field_validator("scheme")(lambda name: name and schemes.record(name).name)

    @model_validator(mode="after")
    def _says_which(self) -> ExcludeSection:
        if self.pair is None and self.scheme is None and self.seed is None and self.variant is None:
            raise UsageError("an exclusion names at least one of pair, scheme, seed and variant")
        return self

    def matches(self, pair: str, scheme: str, seed: int, variant: str = "") -> bool:
        """Whether a run is meant."""
        return (
            self.pair in (None, pair)
            and self.scheme in (None, scheme)
            and self.seed in (None, seed)
            and self.variant in (None, variant)
        )


class VariantSection(_Section):
    """``[[variant]]``: the same study with other settings; where there are variants, they are all that is run."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+=,-]{0,39}$", description="name, a column of both tables"
    )
    kd: dict[str, Any] = Field(default_factory=dict, description="keys of [kd] that differ")
    train: dict[str, Any] = Field(default_factory=dict, description="keys of [train] that differ")
    teaching: dict[str, Any] = Field(default_factory=dict, description="keys of [teaching] that differ")
    grid: dict[str, Any] = Field(
        default_factory=dict, description="pairs, schemes or seeds, where they differ"
    )


class ReportSection(_Section):
    """``[report]``: the page at the end."""

    build: bool = Field(True, description="build the page when the study ends")


class StudyFile(_Section):
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
        _distinct("variant", tuple(variant.name for variant in self.variant))
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


# Sections that a variant may change.
VARIED = ("kd", "train", "teaching", "grid")


def _network(name: str) -> str:
    return SELF if name == SELF else models.canonical(name)


def _pair_name(pair: str) -> str:
    return "/".join(map(_network, pair.split("/")))


def _distinct(kind: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [v for v in values if values.count(v) > 1]
    if twice:
        raise UsageError(f"{kind} {twice[0]!r} is named twice")
    return values


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
    except (tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        kind = "YAML" if path.suffix in _YAML else "TOML"
        raise MissingError(f"{path} is not {kind}: {' '.join(str(error).split())}") from None
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
    except tomllib.TOMLDecodeError:
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
    cause = error.get("ctx", {}).get("error")
    said = cause if cause is not None else error["msg"]
    return f"{where}: {said}" if where else str(said)


def _keys(sections: list[str]) -> list[str]:
    model: Any = StudyFile
    for section in sections:
        if section in ("variant", "exclude") or section.isdigit():
            tables: dict[str, Any] = {"variant": VariantSection, "exclude": ExcludeSection}
            model = tables.get(section, model)
        elif section in StudyFile.model_fields and section != "teacher":
            model = StudyFile.model_fields[section].annotation
        else:
            model = TeacherSection
    return [field.alias or name for name, field in model.model_fields.items()]
