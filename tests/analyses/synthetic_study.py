"""A study's directory made of chosen numbers: what a study writes, without training anything."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdstats.records.part import write_table
from kdstats.records.paths import StudyPaths, encode_name

NINE = (
    "identity",
    "flip",
    "crop_flip",
    "cutout",
    "autoaugment",
    "mixup",
    "cutmix",
    "cutmix_pick_student",
    "cutmix_pick_teacher",
)
SHA = "ab" * 32
DEFINITION = {
    "metric": "t_stddev",
    "protocol": "efficient",
    "batch_size": 64,
    "batches_per_pool": 5,
    "epochs": 10,
    "views": "original+augmented",
    "base": "none",
    "temperature": 1.0,
    "ddof": 1,
    "draws": "batch",
}


def make_study(
    root: Path,
    *,
    schemes: tuple[str, ...] = NINE,
    pairs: tuple[str, ...] = ("resnet8/lenet8",),
    seeds: tuple[int, ...] = (0, 1, 2),
    slope: float = 60.0,
    noise: float = 0.01,
    scatter: float = 0.004,
    rng: int = 0,
    name: str = "Synthetic",
    failed: tuple[tuple[str, int], ...] = (),
    missing: tuple[tuple[str, int], ...] = (),
    excluded: tuple[tuple[str, int], ...] = (),
    epochs: int = 30,
    curves: bool = True,
    documents: bool = True,
    covariance: bool = True,
    **card: Any,
) -> Path:
    """Writes a study whose test loss is ``0.35 + slope · T. stddev + scatter + seed noise``.

    Args:
        root: Where.
        schemes: Names, T. stddev falling in this order.
        pairs: ``teacher/student``.
        seeds: One run each.
        slope: Planted association, nats per unit of T. stddev; 0 for none.
        noise: Standard deviation over seeds, nats.
        scatter: Standard deviation of schemes around the line, nats.
        rng: Seed of all of it.
        name: Of the study.
        failed: ``(scheme, seed)`` that ended in an error.
        missing: ``(scheme, seed)`` without a trace.
        excluded: ``(scheme, seed)`` marked as excluded.
        epochs: Of the curves.
        curves: Whether ``metrics.jsonl`` is written.
        documents: Whether the teacher-only measurements are written.
        covariance: Whether training recorded the covariance.
        card: Keys of ``study.json`` to replace.
    """
    draw = np.random.default_rng(rng)
    paths = StudyPaths(root)
    root.mkdir(parents=True, exist_ok=True)
    t = {s: 0.0038 - 0.0014 * i / max(1, len(schemes) - 1) for i, s in enumerate(schemes)}
    runs, study = [], []
    for pair in pairs:
        teacher, student = pair.split("/")
        for scheme in schemes:
            level = 0.35 + slope * t[scheme] + scatter * draw.standard_normal()
            own, every = [], []
            for seed in seeds:
                loss = level + noise * draw.standard_normal()
                entropy = 0.9 + 40 * (0.0038 - t[scheme])
                if (scheme, seed) in failed or (scheme, seed) in missing:
                    continue
                out = (scheme, seed) in excluded
                row = _run(
                    teacher, student, scheme, seed, loss, t[scheme], entropy, epochs, draw, out, covariance
                )
                runs.append(row)
                every.append(row)
                own += [] if out else [row]
                if curves:
                    _curve(paths, row, epochs, draw)
            if every:
                line = _study(own or every, t[scheme], draw)
                if not own:  # what a mean over no run leaves
                    line |= {name: math.nan for name, value in line.items() if isinstance(value, float)}
                    line |= {"t_stddev": t[scheme], "seeds": 0}
                study.append(line)
        if documents:
            alone = [s for s in schemes if s != "cutmix_pick_student"]
            _document(paths, teacher, None, alone, t)
            if "cutmix_pick_student" in schemes:
                _document(paths, teacher, student, ["cutmix_pick_student"], t)
    write_table(paths.runs, "runs", pd.DataFrame(runs))
    write_table(paths.study, "study", pd.DataFrame(study))
    planned = len(pairs) * len(schemes) * len(seeds)
    (root / "study.toml").write_text("schema = 1\n", encoding="utf-8")
    document = {
        "schema": "kdstats/study-card/1",
        "name": name,
        "dataset": {"name": "digits", "sha256": "cd" * 32, "train": 1437, "test": 360, "classes": 10},
        "pairs": list(pairs),
        "schemes": list(schemes),
        "seeds": list(seeds),
        "recipe": {"epochs": epochs, "batch_size": 64, "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        "kd": {"temperature": 4.0, "gamma": 0.1, "alpha": 0.9},
        "teachers": {
            p.split("/")[0]: {
                "sha256": SHA,
                "test_accuracy": 0.975,
                "test_loss": 0.083,
                "path": "resnet8.safetensors",
            }
            for p in pairs
        },
        "runs": {
            "planned": planned,
            "done": planned - len(pairs) * (len(failed) + len(missing)),
            "failed": [
                {
                    "teacher": pair.split("/")[0],
                    "student": pair.split("/")[1],
                    "scheme": scheme,
                    "seed": seed,
                    "error": "FloatingPointError: loss is NaN at epoch 3",
                    "log": "runs/log.txt",
                }
                for pair in pairs
                for scheme, seed in failed
            ],
        },
        "selection": "last epoch",
        "provenance": {
            "version": "0.1.0",
            "git": "9f66372",
            "python": "3.12",
            "torch": "2.8.0",
            "device": "cpu",
            "machine": "x86_64",
            "command": "python -m runners.study run runners/studies/quickstart.toml --out runs/quickstart",
            "started": "2025-01-01T00:00:00Z",
            "seconds": 812.3,
        },
    }
    (root / "study.json").write_text(json.dumps(document | card), encoding="utf-8")
    return root


def _run(
    teacher: str,
    student: str,
    scheme: str,
    seed: int,
    loss: float,
    t: float,
    entropy: float,
    epochs: int,
    draw: np.random.Generator,
    excluded: bool,
    covariance: bool,
) -> dict[str, Any]:
    measured = 30 * t**2 * (1 + 0.05 * draw.standard_normal()) if covariance else math.nan
    return {
        "dataset": "digits",
        "teacher": teacher,
        "student": student,
        "scheme": scheme,
        "seed": seed,
        "recipe_digest": "0f" * 32,
        "epochs": epochs,
        "test_loss_last": loss,
        "test_loss_best": loss - 0.02,
        "acc_last": min(0.95 - 0.2 * (loss - 0.35), 1.0),
        "acc_best": min(0.96 - 0.2 * (loss - 0.35), 1.0),
        "epoch_best": epochs - 3,
        "seconds": 20.0,
        "mean_covariance": measured,
        "mean_covariance_se": measured / 10,
        "risk_variance": measured * 1.1,
        "design_effect": 1.4,
        "wang2022_v3": measured * 2,
        "teacher_entropy": entropy,
        "excluded": excluded,
        "reason": "diverged <script>alert(1)</script>" if excluded else None,
    }


def _study(rows: list[dict[str, Any]], t: float, draw: np.random.Generator) -> dict[str, Any]:
    frame = pd.DataFrame(rows)
    first = rows[0]
    out: dict[str, Any] = {k: first[k] for k in ("dataset", "teacher", "student", "scheme")}
    se = 0.01 * t
    out |= {"t_stddev": t, "t_stddev_se": se, "t_stddev_low": t - 2 * se, "t_stddev_high": t + 2 * se}
    out |= {"t_stddev_definition": json.dumps(DEFINITION, sort_keys=True), "seeds": len(frame), "excluded": 0}
    for name, column in (
        ("test_loss", "test_loss_last"),
        ("acc", "acc_last"),
        ("test_loss_best", "test_loss_best"),
        ("acc_best", "acc_best"),
    ):
        sd = float(frame[column].std(ddof=1)) if len(frame) > 1 else math.nan
        out |= {name: float(frame[column].mean()), f"{name}_sd": sd, f"{name}_se": sd / math.sqrt(len(frame))}
    for name in (
        "mean_covariance",
        "risk_variance",
        "design_effect",
        "wang2022_v3",
        "teacher_entropy",
        "seconds",
    ):
        out[name] = float(frame[name].mean())
    spread = frame["mean_covariance"].std(ddof=1) if len(frame) > 1 else math.nan
    return out | {"mean_covariance_se": float(spread) / math.sqrt(len(frame))}


def _curve(paths: StudyPaths, row: dict[str, Any], epochs: int, draw: np.random.Generator) -> None:
    run = paths.run(
        teacher=row["teacher"],
        student=row["student"],
        scheme=row["scheme"],
        seed=row["seed"],
        digest="0123abcd",
    )
    run.root.mkdir(parents=True, exist_ok=True)
    lines = []
    for epoch in range(1, epochs + 1):
        loss = row["test_loss_last"] + 2 * (math.exp(-epoch / 6) - math.exp(-epochs / 6))
        loss += 0.004 * draw.standard_normal() * (epoch < epochs)
        point = {
            "epoch": epoch,
            "lr": 0.05,
            "train_loss": loss,
            "test_loss": loss,
            "test_acc": 0.9,
            "seconds": 1.0,
        }
        lines.append(json.dumps(point))
    run.metrics.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _document(
    paths: StudyPaths, teacher: str, student: str | None, schemes: list[str], t: dict[str, float]
) -> None:
    names = list(dict.fromkeys([*schemes, *(["identity"] if "identity" in t else [])]))
    base = t.get("identity", max(t.values()))
    results = [_result(name, t[name], base, student) for name in names]
    comparisons = [
        {
            "a": n,
            "b": "identity",
            "difference": t[n] - base,
            "low": t[n] - base - 4e-5,
            "high": t[n] - base + 4e-5,
            "relative": t[n] / base - 1,
            "relative_low": t[n] / base - 1.01,
            "relative_high": t[n] / base - 0.99,
            "p": 0.001,
        }
        for n in names
        if n != "identity"
    ]
    document = {
        "schema": "kdstats/evaluate-da/1",
        "definition": DEFINITION,
        "teacher": {
            "name": teacher,
            "arch": teacher,
            "sha256": SHA,
            "test_accuracy": 0.975,
            "test_loss": 0.083,
        },
        "student": None if student is None else {"name": student, "arch": student, "sha256": "ef" * 32},
        "dataset": {"name": "digits", "split": "train", "n": 1437, "classes": 10, "sha256": "cd" * 32},
        "results": results,
        "comparisons": comparisons,
        "lowest": {n: float(i == len(names) - 1) for i, n in enumerate(names)},
        "skipped": {} if student else {"cutmix_pick_student": "needs a student; add --student FILE"},
    }
    folder = paths.t_stddev / encode_name(teacher, "teacher")
    folder.mkdir(parents=True, exist_ok=True)
    stem = "teacher-only" if student is None else f"with-{student}"
    (folder / f"{stem}.json").write_text(json.dumps(document), encoding="utf-8")


def _result(scheme: str, t: float, base: float, student: str | None) -> dict[str, Any]:
    total = t**2
    parts = {"var_original": 0.45 * base**2, "var_augmented": 0.45 * base * t, "cov_views": 0.2 * total}
    parts["cov_cross"] = total - sum(parts.values())
    effect = total / (parts["var_original"] + parts["var_augmented"])
    return {
        "scheme": scheme,
        "t_stddev": t,
        "se": 0.01 * t,
        "low": 0.98 * t,
        "high": 1.02 * t,
        "confidence": 0.95,
        "method": "batch-level variance",
        "pools": 40,
        "inputs": 25600,
        "teacher_forwards": 12800,
        "teacher_entropy": 0.2 + 50 * (0.0038 - t),
        "design_effect": effect,
        "effective_inputs": 640 / effect,
        "components": parts,
        "covariance": {
            "source": "teacher" if student is None else "student",
            "mean_covariance": 25 * total,
            "mean_covariance_low": 24 * total,
            "mean_covariance_high": 26 * total,
            "risk_variance": 30 * total,
            "design_effect": 1.3,
            "observations": 200,
            "positions": 128,
        },
        "rivals": {"view_entropy": 0.3 + 80 * (0.0038 - t), "view_accuracy": 0.9, "kl_view_original": 0.1},
        "null": 0.0168,
        "stopped": "tol",
        "seconds": 12.0,
        "notes": [],
    }
