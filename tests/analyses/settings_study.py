"""Studies with settings of their own per run, as a study writes them: tables, card, ``run.json`` and logs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdstats.records.part import write_table
from kdstats.records.paths import RunPaths, StudyPaths
from kdstats.records.recorder import Recorder
from kdstats.records.writer import write_done

PAIR = "resnet8/lenet8"
SHA = "ab" * 32


def settings(**changes: Any) -> dict[str, Any]:
    """``run.json``'s settings; keys with a dot go one level down."""
    out: dict[str, Any] = {
        "dataset": "digits",
        "dataset_sha256": "cd" * 32,
        "teacher": "resnet8",
        "teacher_arch": "resnet8",
        "teacher_sha256": SHA,
        "student": "lenet8",
        "scheme": "identity",
        "seed": 0,
        "recipe": {
            "name": "digits",
            "epochs": 30,
            "batch_size": 64,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "milestones": [],
            "source": "here",
        },
        "draws": "batch",
        "temperature": 4.0,
        "gamma": 0.1,
        "alpha": 0.9,
        "log_every": 1,
        "log_dtype": "float32",
    }
    for key, value in changes.items():
        head, dot, tail = key.partition(".")
        if dot:
            out[head] = {**(out.get(head) or {}), tail: value}
        else:
            out[head] = value
    return out


def write_study(
    root: Path,
    *,
    loss: Callable[[str, int], float],
    schemes: Iterable[str] = ("identity",),
    seeds: Iterable[int] = (0, 1, 2),
    changes: Mapping[str, Any] | None = None,
    pair: str = PAIR,
    acc: Callable[[str, int], float] | None = None,
    teachers: Mapping[str, Mapping[str, Any]] | None = None,
    best: Callable[[str, int], float] | None = None,
    after: Callable[[RunPaths, str, int], None] | None = None,
    **card: Any,
) -> Path:
    """Writes a study of one pair in which every run has the same settings but for scheme and seed.

    Args:
        root: Where.
        loss: Test loss by scheme and seed.
        schemes: Canonical names.
        seeds: One run each.
        changes: Settings that differ from :func:`settings`.
        pair: ``teacher/student``.
        acc: Accuracy by scheme and seed; 1 − loss/3 without.
        teachers: Of the card.
        best: Lowest test loss by scheme and seed; the last without.
        after: Called with every run's paths, scheme and seed, to put logs and records there.
        card: Keys of ``study.json`` to replace.
    """
    root.mkdir(parents=True, exist_ok=True)
    paths, rows = StudyPaths(root), []
    schemes, seeds = tuple(schemes), tuple(seeds)
    teacher, student = pair.split("/")
    for scheme in schemes:
        for seed in seeds:
            own = settings(scheme=scheme, seed=seed, teacher=teacher, student=student, **(changes or {}))
            rest = {k: v for k, v in own.items() if k not in ("scheme", "seed")}
            recipe, digest = _digest(rest), _digest(own)
            run = paths.run(teacher=teacher, student=student, scheme=scheme, seed=seed, digest=digest)
            run.root.mkdir(parents=True)
            document = {"run": own, "digest": digest, "recipe_digest": recipe}
            run.run_json.write_text(json.dumps(document), encoding="utf-8")
            value = loss(scheme, seed)
            rows.append(
                {"dataset": "digits", "teacher": teacher, "student": student, "scheme": scheme, "seed": seed}
                | {"recipe_digest": recipe, "epochs": own["recipe"]["epochs"], "test_loss_last": value}
                | {"test_loss_best": best(scheme, seed) if best else value}
                | {"acc_last": acc(scheme, seed) if acc else 1 - value / 3}
                | {"acc_best": acc(scheme, seed) if acc else 1 - value / 3}
                | {"epoch_best": own["recipe"]["epochs"], "seconds": 1.0, "excluded": False, "reason": None}
                | {"mean_covariance": math.nan, "mean_covariance_se": math.nan, "risk_variance": math.nan}
                | {"design_effect": math.nan, "wang2022_v3": math.nan, "teacher_entropy": 0.5}
            )
            if after is not None:
                after(run, scheme, seed)
    runs = pd.DataFrame(rows)
    write_table(paths.runs, "runs", runs)
    write_table(paths.study, "study", _study(runs))
    paths.study_toml.write_text('[study]\nname = "settings"\n', encoding="utf-8")
    document = {
        "schema": "kdstats/study-card/1",
        "name": root.name,
        "dataset": {"name": "digits", "sha256": "cd" * 32, "train": 1280, "test": 517, "classes": 10},
        "pairs": [pair],
        "schemes": list(schemes),
        "seeds": list(seeds),
        "recipe": own["recipe"],
        "kd": {},
        "teachers": {teacher: {"sha256": SHA, **(teachers or {}).get(teacher, {})}},
        "runs": {"planned": len(rows), "done": len(rows), "failed": []},
        "selection": "last epoch",
        "provenance": {},
    }
    (root / "study.json").write_text(json.dumps(document | card), encoding="utf-8")
    return root


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _study(runs: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (dataset, teacher, student, scheme), own in runs.groupby(
        ["dataset", "teacher", "student", "scheme"], sort=False
    ):
        row = {"dataset": dataset, "teacher": teacher, "student": student, "scheme": scheme}
        row |= dict.fromkeys(("t_stddev", "t_stddev_se", "t_stddev_low", "t_stddev_high"), math.nan)
        row |= {"t_stddev_definition": None, "seeds": len(own), "excluded": 0}
        for name, column in (("test_loss", "test_loss_last"), ("acc", "acc_last")):
            row |= {name: own[column].mean(), f"{name}_sd": own[column].std(), f"{name}_se": math.nan}
        for name in ("mean_covariance", "mean_covariance_se", "risk_variance", "design_effect"):
            row[name] = math.nan
        rows.append(row | {"wang2022_v3": math.nan, "teacher_entropy": 0.5, "seconds": 1.0})
    return pd.DataFrame(rows)


def noisy(levels: Mapping[str, float], sd: float, rng: int) -> Callable[[str, int], float]:
    """A loss that is the scheme's level, an effect of the seed that all share, and noise of ``sd``."""

    def loss(scheme: str, seed: int) -> float:
        common = np.random.default_rng([rng, seed]).normal(0, 3 * sd)
        own = np.random.default_rng([rng, seed, *scheme.encode()]).normal(0, sd)
        return levels[scheme] + common + own

    return loss


def logits_of(entropy_like: np.ndarray, classes: int) -> np.ndarray:
    """``[n, C]`` logits of which class 0 is ahead by the given margins."""
    out = np.zeros((len(entropy_like), classes), np.float32)
    out[:, 0] = entropy_like
    return out


def record_views(
    run: RunPaths,
    epochs: Iterable[int],
    ids: Callable[[int, int], np.ndarray],
    margins: Callable[[int, int, np.ndarray], tuple[np.ndarray, np.ndarray]],
    *,
    steps: int = 12,
    classes: int = 4,
    pairing: Callable[[int, int, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
) -> None:
    """Records originals and views of a run through the Recorder.

    Args:
        run: Where; its ``run.json`` stays.
        epochs: Recorded.
        ids: Of epoch and step, ``[B]``.
        margins: Of epoch, step and ids: margins of teacher and student on the views.
        steps: Of an epoch.
        classes: C.
        pairing: Partner and λ of the views.
    """
    card = run.run_json.read_text(encoding="utf-8")
    identity = {"scheme": run.root.parts[-3], "seed": int(run.root.parts[-2].removeprefix("seed="))}
    digest = json.loads(card)["digest"]
    meta = {**identity, "digest": digest}
    with Recorder(run.root, classes=classes, meta=meta, overwrite=True, finish=False) as recorder:
        for epoch in epochs:
            recorder.start_epoch(epoch)
            for step in range(steps):
                own = ids(epoch, step)
                teacher, student = margins(epoch, step, own)
                for view in ("original", "augmented"):
                    more: dict[str, Any] = {}
                    if view == "augmented" and pairing is not None:
                        partner, lam = pairing(epoch, step, own)
                        more = {"partner_id": partner, "lam": lam}
                    recorder.add(
                        step=step,
                        sample_id=own,
                        labels=own % classes,
                        teacher_logits=logits_of(teacher, classes),
                        student_logits=logits_of(student, classes),
                        view=view,
                        **more,
                    )
            recorder.end_epoch()
    run.run_json.write_text(card, encoding="utf-8")
    write_done(run, {})
