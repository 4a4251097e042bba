"""The document ``kdstats/evaluate-da/1``, key by key; a key that is not listed here is refused."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Definition(_Strict):
    metric: Literal["t_stddev"]
    protocol: Literal["efficient", "wang2022"]
    batch_size: int = Field(ge=2)
    batches_per_pool: int = Field(ge=1)
    epochs: int = Field(ge=1)
    views: str
    base: str
    temperature: float
    ddof: int
    draws: Literal["batch", "sample"]


class Teacher(_Strict):
    name: str
    arch: str
    arch_inferred: bool
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    test_accuracy: float = Field(ge=0, le=1)
    test_loss: float = Field(ge=0)
    mean: list[float] = []
    std: list[float] = []


class Student(_Strict):
    name: str
    arch: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    mean: list[float] = []
    std: list[float] = []


class Dataset(_Strict):
    name: str
    split: Literal["train", "test"]
    n: int = Field(ge=1)
    classes: int = Field(ge=2)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Components(_Strict):
    var_original: float = Field(ge=0)
    var_augmented: float = Field(ge=0)
    cov_views: float
    cov_cross: float


class Covariance(_Strict):
    source: Literal["student", "teacher"]
    mean_covariance: float
    mean_covariance_low: float
    mean_covariance_high: float
    risk_variance: float = Field(ge=0)
    design_effect: float
    observations: int = Field(ge=2)
    positions: int = Field(ge=2)


class Rivals(_Strict):
    view_entropy: float = Field(ge=0)
    view_accuracy: float = Field(ge=0, le=1)
    kl_view_original: float


class Result(_Strict):
    scheme: str
    t_stddev: float = Field(gt=0)
    se: float = Field(ge=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    confidence: float = Field(gt=0, lt=1)
    method: str = Field(min_length=10)
    pools: int = Field(ge=1)
    inputs: int = Field(ge=1)
    teacher_forwards: int = Field(ge=0)
    teacher_entropy: float = Field(ge=0)
    design_effect: float = Field(gt=0)
    effective_inputs: float = Field(gt=0)
    components: Components
    covariance: Covariance
    rivals: Rivals
    null: float = Field(gt=0)
    stopped: Literal["tol", "pools", "epochs"]
    seconds: float = Field(ge=0)
    notes: list[str]


class Comparison(_Strict):
    a: str
    b: Literal["identity"]
    difference: float
    low: float
    high: float
    relative: float
    relative_low: float
    relative_high: float
    p: float = Field(ge=0, le=1)


class Shared(_Strict):
    originals_forwards: int = Field(ge=1)
    batches: int = Field(ge=1)
    seed: int
    tol: float = Field(gt=0)


class Warned(_Strict):
    name: str = Field(pattern="^(teacher|student)-[a-z-]+$")
    text: str = Field(min_length=10)


class Provenance(_Strict):
    version: str
    git: str | None
    python: str
    torch: str
    device: str
    machine: str
    threads: int | None = Field(default=None, ge=1)
    command: str
    started: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    seconds: float = Field(ge=0)


class EvaluateDA(_Strict):
    schema_: Literal["kdstats/evaluate-da/1"] = Field(alias="schema")
    definition: Definition
    teacher: Teacher
    student: Student | None
    dataset: Dataset
    results: list[Result] = Field(min_length=1)
    comparisons: list[Comparison]
    lowest: dict[str, float]
    skipped: dict[str, str]
    warnings: list[Warned] = []
    shared: Shared
    provenance: Provenance
