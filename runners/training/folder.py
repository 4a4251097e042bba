"""What a run writes beside its records: card, metrics, weights, and at last ``done.json``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

import torch

from kdstats import models
from kdstats.data import LabelledImages
from kdstats.errors import CheckError, MissingError
from kdstats.json_text import parse_json
from kdstats.provenance import now, provenance
from kdstats.records.atomic import write_bytes_atomic
from kdstats.records.paths import RunPaths
from kdstats.records.recorder import Recorder
from kdstats.records.writer import write_done, write_json_atomic
from kdstats.teacher.accuracy import Accuracy
from kdstats.teacher.network import Network
from runners.run_spec import RunSpec
from runners.training.ranks import Ranks
from runners.training.setup import Training


def open_folder(
    run: Training,
    spec: RunSpec,
    paths: RunPaths,
    train_set: LabelledImages,
    teacher: Network | None,
    ranks: Ranks,
) -> Recorder:
    """Makes the run's folder ready: the card, the metrics cut to what the state knows, the recorder."""
    paths.root.mkdir(parents=True, exist_ok=True)
    # A run that says it is complete and is not (a damaged part) is taken up again, from its state if there is one.
    paths.done.unlink(missing_ok=True)
    card: dict[str, Any] = {
        "schema": "kdstats/student-run/1",
        "run": spec.resolved(),
        "settings": asdict(spec),
        "digest": spec.digest,
        "recipe_digest": spec.recipe_digest,
        "scheme": repr(run.scheme(spec)),
        "loss": str(run.loss.total),
        "teacher_sha256": None if teacher is None else teacher.sha256,
        "started": now(),
        "provenance": provenance(str(train_set.device)),
    }
    begun = run.place.epoch > 0 or run.place.step > 0
    session = {
        "started": card["started"],
        "epoch": run.place.epoch,
        "step": run.place.step,
        "threads": torch.get_num_threads(),
        "processes": ranks.world,
        "provenance": card["provenance"],
    }
    card["sessions"] = [*(_sessions(paths) if begun else []), session]
    write_json_atomic(paths.run_json, card)
    _keep_lines(paths, run.place.epoch)
    return Recorder(
        paths,
        classes=train_set.classes,
        every=spec.log_every,
        dtype=spec.log_dtype,
        meta={k: getattr(spec, k) for k in ("teacher", "student", "scheme", "seed", "digest")},
        resume=begun,
        overwrite=not begun,
        finish=False,
    )


def _sessions(paths: RunPaths) -> list[Any]:
    """The starts of this run before this one, as its card tells them."""
    try:
        known = parse_json(paths.run_json.read_text(encoding="utf-8")).get("sessions", [])
    except (OSError, ValueError, AttributeError):
        return []
    return known if isinstance(known, list) else []


def end_of_epoch(
    run: Training, spec: RunSpec, paths: RunPaths, images: int, test: Accuracy, held: Accuracy | None
) -> dict[str, Any]:
    """The epoch's line of metrics, written; the best weights, kept; the place moved on."""
    epoch = run.place.epoch + 1
    losses = {name: total / images for name, total in run.place.sums.items()}
    if not abs(losses["train_loss"]) < float("inf"):
        raise CheckError(f"the training loss is {losses['train_loss']} in epoch {epoch} of {spec.title}")
    before = parse_json(paths.metrics.read_text().splitlines()[-1])["total_seconds"] if epoch > 1 else 0.0
    if run.best.see(epoch, test, held or test):
        models.save_weights(run.student, paths.best, {"arch": spec.student, "dataset": spec.dataset})
    line = {
        "epoch": epoch,
        "lr": run.optimiser.param_groups[0]["lr"],
        **losses,
        "test_loss": test.loss,
        "test_acc": test.accuracy,
        **({} if held is None else {"val_loss": held.loss, "val_acc": held.accuracy}),
        "seconds": round(run.place.seconds - before, 3),
        "total_seconds": round(run.place.seconds, 3),
    }
    with paths.metrics.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
        stream.flush()
        os.fsync(stream.fileno())  # the state that comes next speaks of this line
    run.next_epoch()
    return line


def finish(run: Training, spec: RunSpec, paths: RunPaths, final: Accuracy, held_out: bool) -> dict[str, Any]:
    """Writes the last weights and ``done.json``; returns the outcome."""
    models.save_weights(run.student, paths.last, {"arch": spec.student, "dataset": spec.dataset})
    outcome = {
        "test_loss_last": final.loss,
        "acc_last": final.accuracy,
        "test_loss_best": run.best.loss,
        "acc_best": run.best.accuracy,
        "epoch_best": run.best.epoch,
        "best_chosen_by": "validation images" if held_out else "test images",
        "epochs": spec.recipe.epochs,
        "seconds": run.place.seconds,
    }
    write_done(paths, {"outcome": outcome, "run": spec.resolved(), "recipe_digest": spec.recipe_digest})
    paths.state.unlink(missing_ok=True)
    return outcome


def _keep_lines(paths: RunPaths, epochs: int) -> None:
    """Cuts ``metrics.jsonl`` back to the epochs that the state knows.

    Raises:
        MissingError: It lacks some of them.
    """
    kept: list[str] = []
    if paths.metrics.exists():
        for line in paths.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if parse_json(line)["epoch"] <= epochs:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                break
    if len(kept) < epochs:
        raise MissingError(
            f"{paths.metrics} holds {len(kept)} of the {epochs} epochs that the state knows; remove {paths.state} to "
            "start the run anew"
        )
    write_bytes_atomic(paths.metrics, "".join(f"{line}\n" for line in kept).encode())
