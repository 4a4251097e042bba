"""Trains a teacher with plain cross-entropy and writes its weights and its card.

python -m runners.teacher --dataset cifar100 --data FOLDER --arch resnet20 --out resnet20.safetensors
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from kdstats import models
from kdstats.allocator import keep_pages
from kdstats.console import run_program
from kdstats.data import LabelledImages
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import epoch_order
from kdstats.errors import CheckError, UsageError
from kdstats.provenance import now, provenance, sha256_file
from kdstats.records.writer import write_json_atomic
from kdstats.teacher.accuracy import Accuracy, measure
from runners import recipes
from runners.checkpoint import load_state, save_state
from runners.recipes import Recipe
from runners.selection_flags import add_selection, selection_of

SCHEMA = "kdstats/teacher/1"


def train(
    arch: str, train_set: LabelledImages, test_set: LabelledImages, recipe: Recipe, seed: int, out: Path
) -> dict[str, Any]:
    """Trains ``arch`` and writes ``out`` (safetensors) and ``out`` with the suffix ``.json`` (the card).

    The order of the images and their standard augmentation are functions of (seed, epoch); the state is kept
    beside ``out`` after each epoch, so the same command continues an interrupted training.

    Returns:
        The card, as written.
    """
    torch.manual_seed(seed)
    model = models.build(arch, train_set.classes, train_set.img_size, train_set.channels)
    model = model.to(memory_format=torch.channels_last)
    base = StandardAugmentation(train_set.base)
    optimiser = recipe.optimiser(model)
    setting = json.dumps([arch, train_set.name, train_set.digest, asdict(recipe), seed])
    identity = hashlib.sha256(setting.encode()).hexdigest()
    state_path = out.with_suffix(".state.pt")
    out.parent.mkdir(parents=True, exist_ok=True)
    first, spent = 0, 0.0
    state = load_state(state_path, identity)
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first, spent = state["epoch"], state["seconds"]
        _say(f"continuing after epoch {first}")

    steps = -(-len(train_set) // recipe.batch_size)
    for epoch in range(first, recipe.epochs):
        began = time.perf_counter()
        model.train()
        order = epoch_order(seed, epoch, len(train_set))
        total = 0.0
        batches = train_set.batches(torch.split(order, recipe.batch_size), base, seed, epoch)
        for step, (pixels, labels, _) in enumerate(batches):
            images = train_set.normalise(pixels).to(memory_format=torch.channels_last)
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr_at(epoch * steps + step, steps)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
                logits = model(images)
            loss = F.cross_entropy(logits.float(), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach()) * len(labels)
        mean_loss = total / len(train_set)
        if not mean_loss < float("inf"):
            raise CheckError(f"the training loss is {mean_loss} in epoch {epoch + 1} of {arch}")
        spent += time.perf_counter() - began
        save_state(
            state_path,
            {
                "identity": identity,
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "epoch": epoch + 1,
                "seconds": spent,
            },
        )
        left = spent / (epoch + 1) * (recipe.epochs - epoch - 1)
        _say(
            f"epoch {epoch + 1}/{recipe.epochs}  train loss {mean_loss:.4f}  {spent:.0f} s, about {left:.0f} s left"
        )

    result = measure(model, test_set)
    card = _card(arch, train_set, recipe, seed, result, spent)
    models.save_weights(model, out, {"arch": arch, "dataset": train_set.name})
    card["sha256"] = sha256_file(out)
    write_json_atomic(out.with_suffix(".json"), card)
    state_path.unlink(missing_ok=True)
    return card


def check_target(out: Path) -> None:
    """Refuses a weights file that would replace something else, before hours are spent on it.

    Raises:
        UsageError: Not ``*.safetensors``, a folder, or a foreign JSON file where the card belongs.
    """
    if out.suffix != ".safetensors":
        raise UsageError(
            f"the weights are written as safetensors: name --out {out.stem}.safetensors, not {out.name}"
        )
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name a file in it")
    card = out.with_suffix(".json")
    if card.exists():
        try:
            ours = json.loads(card.read_text(encoding="utf-8")).get("schema") == SCHEMA
        except (OSError, ValueError, AttributeError):
            ours = False
        if not ours:
            raise UsageError(
                f"the card would replace {card}, which is no teacher's card; choose another --out"
            )


def _card(
    arch: str, train_set: LabelledImages, recipe: Recipe, seed: int, result: Accuracy, seconds: float
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "arch": arch,
        "dataset": train_set.name,
        "dataset_sha256": train_set.digest,
        "classes": train_set.classes,
        "channels": train_set.channels,
        "img_size": train_set.img_size,
        "mean": list(train_set.mean),
        "std": list(train_set.std),
        "base": train_set.base,
        "recipe": asdict(recipe),
        "seed": seed,
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "test_images": result.n,
        "training_seconds": round(seconds, 1),
        "made": now(),
        "provenance": provenance("cpu"),
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runners.teacher", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits", help="data set to train on (default: digits)")
    parser.add_argument("--data", type=Path, help="folder with its files, where it is not embedded")
    add_selection(parser)
    parser.add_argument("--arch", default="resnet8", help="network, by field name (default: resnet8)")
    parser.add_argument("--recipe", default=None, help=f"one of {', '.join(recipes.names())}")
    parser.add_argument("--epochs", type=int, help="another number of epochs; milestones scale with it")
    parser.add_argument("--seed", type=int, default=0, help="seed of initialisation, order and augmentation")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write, *.safetensors")
    args = parser.parse_args(argv)
    keep_pages()
    check_target(args.out)
    recipe = recipes.get(args.recipe or ("digits" if args.dataset == "digits" else "cifar-short"))
    splits = selection_of(args).splits()
    card = train(
        args.arch,
        splits.train,
        splits.test,
        recipe.with_epochs(args.epochs).on_this_machine(),
        args.seed,
        args.out,
    )
    print(
        f"{args.out}: {card['test_accuracy']:.2%} test accuracy, loss {card['test_loss']:.4f}, sha256 {card['sha256']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_program("runners.teacher", main, "the same command continues after the last whole epoch"))
