"""Finding and loading a teacher (or a student): weights, card, hash."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdstats import models
from kdstats.data import ImageSet
from kdstats.errors import MissingError, UsageError
from kdstats.provenance import sha256_file

SHIPPED = "digits-resnet8"


@dataclass(frozen=True)
class Network:
    """A loaded classifier, in evaluation mode and without gradients.

    Attributes:
        model: Normalised images → logits.
        name: For people: architecture, or the file's name.
        arch: Field name of the architecture.
        sha256: Of the weights file.
        path: The weights file.
    """

    model: nn.Module
    name: str
    arch: str
    sha256: str
    path: Path

    def logits(self, images: Tensor) -> Tensor:
        """Float32 logits ``[B, C]`` without gradient."""
        with torch.inference_mode():
            out: Tensor = self.model(images.contiguous(memory_format=torch.channels_last)).float()
        return out


def shipped_path() -> Path:
    """The weights of the teacher inside the package."""
    return Path(str(resources.files("kdstats.teacher").joinpath("shipped", f"{SHIPPED}.safetensors")))


def card_of(weights: Path) -> dict[str, Any]:
    """The card that ``runners.teacher`` writes beside a weights file; empty when there is none."""
    card = weights.with_suffix(".json")
    if not card.is_file():
        return {}
    try:
        loaded = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingError(f"{card} is not readable JSON: {error}") from None
    return loaded if isinstance(loaded, dict) else {}


def load_network(
    weights: str | Path | None,
    arch: str | None,
    images: ImageSet,
    device: torch.device,
    role: str = "teacher",
) -> Network:
    """Builds the architecture, loads the weights strictly, checks the hash of the card.

    Args:
        weights: A ``.safetensors`` or ``.pth`` file; None means the shipped digits teacher, which fits the
            data set ``digits`` only.
        arch: Architecture; needed unless a card beside the file names it.
        images: The data the network will see (classes, channels, size).
        device: Where to put it.
        role: ``teacher`` or ``student``, for messages.

    Raises:
        UsageError: No architecture known, or no weights named for another data set than digits.
        MissingError: No such file, wrong hash, keys or shapes that do not fit.
    """
    if weights is None:
        if images.name != "digits":
            raise UsageError(
                f"the shipped teacher knows digits only; name a teacher for {images.name} with --{role} FILE --arch "
                f"NAME, or train one: python -m runners.teacher --dataset {images.name} --out teacher.safetensors"
            )
        weights = shipped_path()
    path = Path(weights)
    if not path.is_file():
        raise MissingError(
            f"no {role} at {path.absolute()}. `python -m runners.teacher --dataset {images.name} --out {path}` "
            "trains one (from a checkout of kdstats)."
        )
    card = card_of(path)
    found = arch or card.get("arch")
    if not isinstance(found, str):
        flag = "--arch" if role == "teacher" else f"--{role}-arch"
        raise UsageError(
            f"{path.name} does not say which network it holds; name it with {flag}, for example resnet20"
        )
    digest = sha256_file(path)
    if card.get("sha256") not in (None, digest):
        raise MissingError(
            f"{path} has sha256 {digest[:12]}…, its card {path.with_suffix('.json').name} says "
            f"{str(card['sha256'])[:12]}…; the file was changed or damaged"
        )
    model = models.build(found, images.classes, images.img_size, images.channels)
    models.load_weights(model, path)
    model = model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return Network(model, path.stem, found, digest, path)
