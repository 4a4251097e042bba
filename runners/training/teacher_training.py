"""A teacher trained with cross-entropy, alone or under an augmentation; its weights and its card."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdstats import models, schemes
from kdstats.data import LabelledImages, Selection
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import epoch_order, view_generator
from kdstats.errors import CheckError, UsageError
from kdstats.json_text import parse_json
from kdstats.provenance import now, provenance, sha256_file
from kdstats.records.writer import write_json_atomic
from kdstats.schemes import Scheme
from kdstats.teacher import architectures
from kdstats.teacher.accuracy import Accuracy, measure
from runners import objectives
from runners.recipes import Recipe
from runners.training.checkpoint import load_state, save_state
from runners.training.interrupts import Interrupts

SCHEMA = "kdstats/teacher/1"
# Without a teacher of its own a teacher can be taught mixed views by their mixed labels alone.
TARGETS = ("labels",)


@dataclass(frozen=True)
class Augmented:
    """Views of a scheme instead of the originals, taught by their λ-mixed hard labels (mixup-trained teachers).

    Attributes:
        scheme: Name or expression, see :func:`kdstats.schemes.get`.
        draws: One random draw per ``batch`` or per ``sample``; None for what the scheme's preset says, else ``batch``.
    """

    scheme: str
    draws: str | None = None

    @property
    def name(self) -> str:
        """The scheme with its parameters and preset, as the registry spells it."""
        return schemes.record(self.scheme).name

    def make(self, train_set: LabelledImages, batch_size: int) -> Scheme:
        """The scheme, fit for the training set.

        Raises:
            UsageError: Unknown, one that asks a network, or a last batch that is too small for it.
        """
        needs = sorted(schemes.record(self.scheme).needs)
        if needs:
            raise UsageError(
                f"{self.scheme} chooses views by what the {' and '.join(needs)} says; a teacher that is being trained "
                "has nobody to ask"
            )
        draws = schemes.common_draws([self.scheme], self.draws)
        made = schemes.get(self.scheme, draws=draws, space=schemes.PixelSpace(train_set.mean, train_set.std))
        rest = len(train_set) % batch_size
        if 0 < rest < made.least:
            raise UsageError(f"the last batch would hold {rest} image; {made.name} needs {made.least}")
        return made


class _Loss:
    """Cross-entropy of a batch: of the originals, or of views that replace them, with their mixed labels."""

    def __init__(self, scheme: Scheme | None, seed: int) -> None:
        self.scheme, self.seed = scheme, seed
        self.mixed = objectives.get("mix_ce")

    def start_epoch(self, epoch: int) -> None:
        self.mixed.start_epoch(epoch + 1)
        if self.scheme is not None:
            self.scheme.reset()

    def images(self, x: Tensor, labels: Tensor, ids: Tensor, epoch: int, step: int) -> tuple[Tensor, Any]:
        """What the network sees, and the views that say what it is made of."""
        if self.scheme is None:
            return x, None
        draws = view_generator(self.seed, self.scheme.draws, epoch, step)
        view = self.scheme.apply(x, labels, ids, generator=draws)
        return view.images, view

    def of(self, logits: Tensor, labels: Tensor, view: Any) -> Tensor:
        if view is not None and view.labels is not None:
            labels = view.labels
        return self.mixed.evaluate(logits.float(), labels=labels, view=view).loss

    def state_dict(self) -> dict[str, Any]:
        scheme = {} if self.scheme is None else self.scheme.state_dict()
        return {"scheme": scheme, "labels": self.mixed.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.scheme is not None:
            self.scheme.load_state_dict(state["scheme"])
        self.mixed.load_state_dict(state["labels"])


def train(
    arch: str,
    train_set: LabelledImages,
    test_set: LabelledImages,
    recipe: Recipe,
    seed: int,
    out: Path,
    *,
    augmented: Augmented | None = None,
    asked: Selection | None = None,
) -> dict[str, Any]:
    """Trains ``arch`` and writes ``out`` (safetensors) and ``out`` with the suffix ``.json`` (the card).

    The order of the images, their standard augmentation and the draws of a scheme are functions of (seed, epoch,
    step); the state is kept beside ``out`` after each epoch, so the same command continues an interrupted training.

    Args:
        arch: See :func:`kdstats.teacher.architectures.build`.
        train_set: Training images, on the device that trains.
        test_set: Test images, there too.
        recipe: How it is optimised.
        seed: Of initialisation, order, augmentation and draws.
        out: Where the weights go.
        augmented: Views that replace the originals; None for none.
        asked: The selection that the sets came from; goes on the card, so that the same images can be found again.

    Returns:
        The card, as written.

    Raises:
        UsageError: An unknown network, or a scheme that does not fit.
        CheckError: The loss became NaN or infinite.
        KeyboardInterrupt, Terminated: A signal came; the epoch was finished and its state kept.
    """
    device = train_set.device
    torch.manual_seed(seed)
    arch = architectures.check(arch)
    model = architectures.build(arch, train_set).to(device).to(memory_format=torch.channels_last)
    scheme = None if augmented is None else augmented.make(train_set, recipe.batch_size)
    loss_of = _Loss(scheme, seed)
    base = StandardAugmentation(train_set.base)
    optimiser = recipe.optimiser(model)
    setting = [arch, train_set.name, train_set.digest, asdict(recipe), seed]
    setting += [] if augmented is None or scheme is None else [augmented.name, scheme.draws]
    identity = hashlib.sha256(json.dumps(setting).encode()).hexdigest()
    state_path = out.with_suffix(".state.pt")
    out.parent.mkdir(parents=True, exist_ok=True)
    first, spent = 0, 0.0
    state = load_state(state_path, identity, _say)
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        loss_of.load_state_dict(state["loss"])
        _set_generators(state["generators"], device)
        first, spent = state["epoch"], state["seconds"]
        _say(f"continuing after epoch {first}")

    steps = -(-len(train_set) // recipe.batch_size)
    with Interrupts() as interrupts:
        for epoch in range(first, recipe.epochs):
            began = time.perf_counter()
            model.train()
            loss_of.start_epoch(epoch)
            order = epoch_order(seed, epoch, len(train_set))
            total, count = torch.zeros((), device=device, dtype=torch.float64), 0
            batches = train_set.batches(torch.split(order, recipe.batch_size), base, seed, epoch)
            for step, (pixels, labels, ids) in enumerate(batches):
                x = train_set.normalise(pixels).to(memory_format=torch.channels_last)
                images, view = loss_of.images(x, labels, ids, epoch, step)
                for group in optimiser.param_groups:
                    group["lr"] = recipe.lr_at(epoch * steps + step, steps)
                with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                    logits = _logits(model, images.contiguous(memory_format=torch.channels_last), arch)
                loss = loss_of.of(logits, labels, view)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += loss.detach().double() * len(images)
                count += len(images)
            mean_loss = float(total) / count
            if not mean_loss < float("inf"):
                raise CheckError(f"the training loss is {mean_loss} in epoch {epoch + 1} of {arch}")
            spent += time.perf_counter() - began
            save_state(
                state_path,
                {
                    "identity": identity,
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "loss": loss_of.state_dict(),
                    "generators": _generators(device),
                    "epoch": epoch + 1,
                    "seconds": spent,
                },
            )
            left = spent / (epoch + 1) * (recipe.epochs - epoch - 1)
            _say(
                f"epoch {epoch + 1}/{recipe.epochs}  train loss {mean_loss:.4f}  {spent:.0f} s, about {left:.0f} s left"
            )
            if interrupts.asked:
                interrupts.stop()

    result = measure(model, test_set)
    card = _card(arch, train_set, recipe, seed, result, spent, augmented, scheme, asked)
    models.save_weights(model, out, {"arch": arch, "dataset": train_set.name})
    card["sha256"] = sha256_file(out)
    write_json_atomic(out.with_suffix(".json"), card)
    state_path.unlink(missing_ok=True)
    return card


def _logits(model: nn.Module, images: Tensor, arch: str) -> Tensor:
    logits = model(images)
    if not isinstance(logits, Tensor):  # GoogLeNet and Inception have auxiliary heads in training
        raise UsageError(f"{arch} gives {type(logits).__name__} in training, not one tensor of logits")
    return logits


def _generators(device: torch.device) -> dict[str, Tensor]:
    """Where PyTorch's own generators are: networks with dropout draw from them."""
    found = {"cpu": torch.get_rng_state()}
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_generators(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


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
            ours = parse_json(card.read_text(encoding="utf-8")).get("schema") == SCHEMA
        except (OSError, ValueError, AttributeError):
            ours = False
        if not ours:
            raise UsageError(
                f"the card would replace {card}, which is no teacher's card; choose another --out"
            )


def _card(
    arch: str,
    train_set: LabelledImages,
    recipe: Recipe,
    seed: int,
    result: Accuracy,
    seconds: float,
    augmented: Augmented | None,
    scheme: Scheme | None,
    asked: Selection | None,
) -> dict[str, Any]:
    views: dict[str, str | None] = {"scheme": None, "draws": None, "targets": None}
    if augmented is not None and scheme is not None:
        views = {"scheme": augmented.name, "draws": scheme.draws, "targets": "labels"}
    # Without the folder: it is a matter of this machine.
    chosen = ("img_size", "classes", "per_class", "val_split")
    return {
        "schema": SCHEMA,
        "arch": arch,
        "dataset": train_set.name,
        "dataset_sha256": train_set.digest,
        "classes": train_set.classes,
        "class_names": list(train_set.class_names),
        "channels": train_set.channels,
        "img_size": train_set.img_size,
        "selection": None if asked is None else {key: getattr(asked, key) for key in chosen},
        "mean": list(train_set.mean),
        "std": list(train_set.std),
        "base": train_set.base,
        **views,
        "recipe": asdict(recipe),
        "seed": seed,
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "test_images": result.n,
        "training_seconds": round(seconds, 1),
        "made": now(),
        "provenance": provenance(str(train_set.device)),
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
