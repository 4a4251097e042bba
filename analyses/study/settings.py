"""The settings of every trained run, flat and comparable, from the ``run.json`` in its folder.

A run's settings are what decides its numbers: the loss, the targets, the teachers, the recipe, the scheme and its
parameters. Names are those of ``run.json`` with a dot for every level (``recipe.epochs``, ``teaching.period``);
the scheme is split into ``scheme`` (its name) and one ``scheme.<parameter>`` for each parameter in its expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, Field

from analyses.study import Study, networks_of, used_folders
from analyses.study.shape import (
    MOST_EPOCHS,
    Epochs,
    Finite,
    Fraction,
    Setting,
    Shape,
    check_shape,
    read_json,
)
from analyses.words import records
from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.schemes.naming.expression import Expression, parse

# ``run.json`` leaves out a setting that came after the first runs while it has its default.
DEFAULTS: dict[str, Any] = {
    "targets": "teacher",
    "img_size": None,
    "classes": None,
    "per_class": None,
    "val_split": None,
    "objective": "kd",
    "objective_params": {},
    "beta": 0.0,
    "student_temperature": None,
    "alpha_views": None,
    "originals": "kept",
    "passes": "two",
    "teaching": None,
    "determinism": "seeded",
    "channels_last": True,
    "compile": "off",
    "fold_teacher": False,
}
# No number depends on these, or they only name what others say.
SILENT = frozenset({"seed", "log_every", "log_dtype", "recipe.name", "recipe.source", "recipe.milestones"})
FIXED = "fixed"
# Parameters of schemes that analyses reckon with.
_MEASURES = ("scheme.alpha", "scheme.unmixed")
_ANEW = "`python -m runners.study run` trains the run anew once its folder is gone"


def _parameters(value: Any) -> Any:
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        raise ValueError("should be pairs of a name and a value")
    return value


class _Recipe(Shape):
    epochs: Epochs
    batch_size: Annotated[int, Field(ge=1, le=2**31)]
    milestones: list[Annotated[float, Field(ge=0, le=MOST_EPOCHS)]] = Field(default_factory=list)


class _Teaching(Shape):
    teachers: Annotated[int, Field(ge=1, le=10_000)] = 1
    period: Finite = 0.0
    unit: str = ""
    restart: str = ""
    then: list[str] | None = None


class _Run(Shape):
    dataset: str
    scheme: str
    draws: str
    recipe: _Recipe
    objective: str = ""
    objective_params: Annotated[Setting, AfterValidator(_parameters)] = None
    temperature: Finite = 1.0
    beta: Finite | None = 0.0
    teaching: _Teaching | None = None
    img_size: Annotated[int, Field(ge=1, le=10_000)] | None = None
    classes: str | None = None
    per_class: Annotated[int, Field(ge=1)] | None = None
    val_split: Fraction | None = None


def _level(name: str) -> str:
    if "." in name:
        raise ValueError("should be one level of a name, without a dot")
    return name


class _AnySettings(Shape):
    run: dict[Annotated[str, AfterValidator(_level)], Setting]


class _RunCard(Shape):
    run: _Run
    digest: str | None = None
    recipe_digest: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainedRun:
    """One used run of a study with its settings.

    Attributes:
        study: The study it is in.
        row: Its row in table ``runs``.
        settings: Flat settings, see the module; ``recipe.decays`` has the milestones as shares of the epochs.
        folder: Its directory.
        digest: Digest of all its settings.
    """

    study: Study
    row: Mapping[str, Any]
    settings: Mapping[str, Any]
    folder: Path
    digest: str

    @property
    def pair(self) -> str:
        """``teacher/student``; what its variant changed is in the settings."""
        return networks_of(str(self.row["pair"]))

    @property
    def label(self) -> str:
        """The pair as in the study's tables, with the variant where there are several."""
        return str(self.row["pair"])

    @property
    def scheme(self) -> str:
        """Canonical name of the scheme, with its parameters."""
        return str(self.row["scheme"])

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.row["seed"])

    @property
    def teaching(self) -> str:
        """``fixed``, ``one average`` or ``2 temporary teachers``, see :func:`teaching_in_words`."""
        return teaching_in_words(self.settings)


def trained_runs(*studies: Study) -> tuple[TrainedRun, ...]:
    """The used runs of one or several studies; a run that two of them hold counts once.

    Raises:
        MissingError: A run has no folder with a readable ``run.json``.
        CheckError: Two different results of one run.
    """
    found: dict[str, TrainedRun] = {}
    for study in studies:
        folders = {(pair, scheme, seed): folder for pair, scheme, seed, folder in used_folders(study)}
        for row in records(study.used):
            folder = folders.get((row["pair"], row["scheme"], int(row["seed"])))
            card = _card(folder)
            if folder is None or card is None or card.get("recipe_digest") != row["recipe_digest"]:
                raise MissingError(
                    f"{study.paths.root}: no run.json for {row['pair']}, {row['scheme']}, seed {row['seed']} (recipe "
                    f"{str(row['recipe_digest'])[:8]}), so its settings are unknown"
                )
            run = TrainedRun(
                study, row, _flat(card["run"], folder), folder, str(card.get("digest", folder.name))
            )
            twin = found.setdefault(run.digest, run)
            if twin.row["test_loss_last"] != row["test_loss_last"]:
                raise CheckError(
                    f"{twin.folder} and {folder} are the same run by their digest and have different test losses; "
                    "one of them is no repetition of the other"
                )
    return tuple(found.values())


def _card(folder: Path | None) -> dict[str, Any] | None:
    if folder is None or not (folder / "run.json").is_file():
        return None
    card = read_json(folder / "run.json", "card of a run")
    if not isinstance(card.get("run"), dict):
        raise MissingError(f"{folder / 'run.json'} has no settings under 'run'; {_ANEW}")
    check_shape(_RunCard, card, folder / "run.json", anew=_ANEW)
    check_shape(_AnySettings, card, folder / "run.json", anew=_ANEW)
    return card


def _flat(run: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """As :func:`flat`; raises ``MissingError`` that names the file where the scheme is none."""
    try:
        out = flat(run)
    except UsageError as error:
        raise MissingError(f"{folder / 'run.json'}: {error}; {_ANEW}") from None
    reckoned = (*_MEASURES, *(("beta",) if out["objective"] != "kd" else ()))
    odd = [name for name in reckoned if not isinstance(out.get(name, 0.0), int | float)]
    if odd:
        raise MissingError(f"{folder / 'run.json'}: {odd[0]} is {out[odd[0]]!r} and no number; {_ANEW}")
    return out


def flat(run: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of ``run.json`` as one level of plain values, defaults filled in.

    >>> flat({"scheme": "mixup(alpha=0.2)", "recipe": {"epochs": 8, "milestones": [4]}})["scheme.alpha"]
    0.2
    """
    out: dict[str, Any] = {}
    for key, value in {**DEFAULTS, **run}.items():
        if key == "objective_params":
            pairs = value.items() if isinstance(value, Mapping) else value
            out |= {f"objective.{name}": _plain(given) for name, given in pairs}
        elif key == "teaching" and value is None:
            out["teaching"] = FIXED
        elif isinstance(value, Mapping):
            out |= {f"{key}.{name}": _plain(given) for name, given in value.items()}
            if key == "teaching":
                out["teaching"] = "following"
        else:
            out[key] = _plain(value)
    epochs = out.get("recipe.epochs")
    if epochs:
        out["recipe.decays"] = tuple(m / epochs for m in out.get("recipe.milestones") or ())
    return out | _scheme(str(out.get("scheme", "")))


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _scheme(text: str) -> dict[str, Any]:
    node = parse(text) if text else Expression("")
    if node.name == "+" or node.parts:
        return {"scheme": text}
    name = f"{node.name}@{node.preset}" if node.preset else node.name
    return {"scheme": name} | {f"scheme.{key}": value for key, value in node.params}


def differing(runs: Iterable[TrainedRun]) -> tuple[str, ...]:
    """Names of the settings in which runs differ, silent ones aside."""
    found = [dict(run.settings) for run in runs]
    keys = sorted({key for settings in found for key in settings} - SILENT)
    return tuple(key for key in keys if len({value_key(settings.get(key)) for settings in found}) > 1)


def value_key(value: Any) -> str:
    """A text that is equal for equal values of a setting."""
    # 4 and 4.0 are one temperature, True and 1 are not one setting.
    return (
        repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)
    )


def stratum_key(run: TrainedRun, free: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """What runs must share to be compared: all settings but silent ones and ``free`` (names, ``prefix.*``, ``pair``)."""
    prefixes = tuple(name[:-1] for name in free if name.endswith(".*"))
    kept = (
        (key, value_key(value))
        for key, value in run.settings.items()
        if key not in SILENT and key not in free and not (prefixes and key.startswith(prefixes))
    )
    return (*((("pair", run.pair),) if "pair" not in free else ()), *sorted(kept))


def teaching_in_words(settings: Mapping[str, Any]) -> str:
    """Who teaches, from the settings under ``teaching``."""
    if settings.get("teaching", FIXED) == FIXED:
        return "fixed teacher"
    teachers = int(settings.get("teaching.teachers", 1))
    fresh = settings.get("teaching.restart") == "shift"
    kind = "temporary" if fresh else "lasting"
    return f"{teachers} {kind} average{'' if teachers == 1 else 's'}"


def frame(runs: Iterable[TrainedRun], *names: str) -> pd.DataFrame:
    """One row per run: ``study, pair, scheme, seed`` and the settings named (None where a run has none)."""
    rows = [
        {"study": run.study.card.name, "pair": run.pair, "scheme": run.scheme, "seed": run.seed}
        | {name: run.settings.get(name) for name in names}
        for run in runs
    ]
    return pd.DataFrame(rows, columns=["study", "pair", "scheme", "seed", *names])
