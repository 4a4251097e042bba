"""Sections of the study file: what each key means, and what it may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kdstats import data, models, schemes
from kdstats.data import Selection
from kdstats.errors import UsageError
from kdstats.records.paths import encode_name
from runners import objectives, recipes
from runners.recipes import Recipe
from runners.training import teaching
from runners.training.teaching import Teaching

SELF = "self"  # the teacher's place in a pair whose teachers follow the student
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A table of the file: fixed once read, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StudySection(Section):
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
        flat = isinstance(classes, list) and classes and all(isinstance(one, str | int) for one in classes)
        return ",".join(map(str, classes)) if isinstance(classes, list) and flat else classes

    @property
    def selection(self) -> Selection:
        """The images of the study."""
        return Selection(self.dataset, self.data, self.img_size, self.classes, self.per_class, self.val_split)


class GridSection(Section):
    """``[grid]``: every pair under every scheme with every seed."""

    pairs: tuple[str, ...] = Field(
        min_length=1, description="teacher/student, by field names; self/student for [teaching] ema and dual"
    )
    schemes: tuple[str, ...] = Field(schemes.PUBLISHED_NINE, min_length=1, description="augmentation schemes")
    seeds: tuple[Annotated[int, Field(ge=0, lt=1 << 63)], ...] = Field(
        (0, 1, 2), min_length=1, description="seeds of the students"
    )
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
        return distinct("pair", tuple(map(_pair_name, pairs)))

    @field_validator("schemes")
    @classmethod
    def _known_schemes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        flat = [member for name in names for member in schemes.members(name)]
        found = tuple(schemes.record(name).name for name in flat)
        for name in found:
            encode_name(name, "scheme")  # each names a folder
        return distinct("scheme", found)

    @model_validator(mode="after")
    def _presets_fit_the_draws(self) -> GridSection:
        for name in self.schemes:
            schemes.get(name, draws=self.draws)
        return self

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return distinct("seed", seeds)


class TeacherSection(Section):
    """``[teacher.NAME]``: where a teacher comes from; without it the study trains one."""

    weights: str | None = Field(None, description="weights file, or 'shipped' for the digits teacher")
    recipe: str | None = Field(None, description="recipe to train it with")
    epochs: Positive | None = Field(None, description="another number of epochs")
    seed: int = Field(0, description="seed of the teacher's training")


class TrainSection(Section):
    """``[train]``: how students are optimised."""

    recipe: str = Field("digits", description="named recipe, see `python -m runners.recipes`")
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


class KdSection(Section):
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


class TeachingSection(Section):
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


class ProbeSection(Section):
    """``[probe]``: the teacher-only measurement."""

    protocol: Literal["efficient", "wang2022"] = Field("efficient", description="how T. stddev is measured")
    tol: float = Field(0.02, gt=0, lt=1, description="relative half-width at which it stops")
    pools: Positive | None = Field(None, description="most pools to spend")
    seed: int = Field(0, description="seed of the probe")


class LogSection(Section):
    """``[log]``: what is kept per image."""

    every: Positive = Field(1, description="record the samples of every k-th epoch")
    dtype: Literal["float32", "float16"] = Field("float32", description="precision on disk")


class ExecutorSection(Section):
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
    store: str | None = Field(
        None,
        description="URL (s3://…, gs://…, file://…; fsspec) through which runs come home from machines that share no "
        "folder with this one (ray)",
    )
    share_gb: float = Field(
        5.0,
        ge=0,
        description="GB on disk, while the study is trained and for each kind of machine, for teachers' answers to the "
        "originals, which the runs of a seed share; where they need more, or at 0, each run asks anew. No bit of a "
        "result depends on it",
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


class ExcludeSection(Section):
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


class VariantSection(Section):
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


class ReportSection(Section):
    """``[report]``: the page at the end."""

    build: bool = Field(True, description="build the page when the study ends")


def _network(name: str) -> str:
    return SELF if name == SELF else models.canonical(name)


def _pair_name(pair: str) -> str:
    return "/".join(map(_network, pair.split("/")))


def distinct(kind: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """``values``; ``UsageError`` where one is named twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise UsageError(f"{kind} {value!r} is named twice")
        seen.add(value)
    return values
