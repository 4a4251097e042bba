"""Finding and loading a teacher (or a student): source, card, hash, fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdstats import models
from kdstats.data import LabelledImages
from kdstats.errors import KdstatsError, MissingError, UsageError
from kdstats.models.infer import infer
from kdstats.provenance import sha256_file
from kdstats.teacher import architectures, pretrained
from kdstats.teacher.network import Network, buffers_sha256, state_sha256

SHIPPED = "digits-resnet8"


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


def is_file_source(source: str | Path) -> bool:
    """Whether ``source`` names a weights file, rather than a library's network or a factory."""
    text = str(source)
    return not text.startswith(pretrained.PREFIXES) and not architectures.is_factory(text)


def load_network(
    source: str | Path | None,
    arch: str | None,
    images: LabelledImages,
    device: torch.device,
    role: str = "teacher",
) -> Network:
    """Builds the architecture, loads the weights strictly, checks that the outputs fit the data.

    Args:
        source: A weights file (see :func:`kdstats.models.read_state_dict`); ``torchvision:NAME[@WEIGHTS]``,
            ``timm:NAME``, ``hf-hub:org/name[@revision]``; ``package.module:factory``, a function of yours that
            returns a trained network; None means the shipped digits teacher, which fits ``digits`` only.
        arch: Architecture of a weights file, see :func:`kdstats.teacher.architectures.build`. Without it the card
            beside the file is asked, then the names and shapes in the file itself.
        images: The data the network will see (classes, channels, size).
        device: Where to put it.
        role: ``teacher`` or ``student``, for messages.

    Raises:
        UsageError: Unknown names, or no weights named for another data set than digits.
        MissingError: No such file, wrong hash, keys or shapes or outputs that do not fit.
    """
    if source is None:
        if images.name != "digits":
            raise UsageError(
                f"the shipped teacher knows digits only; name a teacher for {images.name} with --{role} FILE --arch "
                f"NAME, or train one: python -m runners.teacher --dataset {images.name} --out teacher.safetensors"
            )
        source = shipped_path()
    text = str(source)
    if is_file_source(source):
        found = _from_file(Path(source), arch, images, role)
    elif arch is not None:
        flag = "--arch" if role == "teacher" else f"--{role}-arch"
        raise UsageError(f"{text} names its own architecture; {flag} belongs to a weights file")
    elif architectures.is_factory(text):
        model = architectures.from_factory(text, images)
        found = _Found(model, text, text, state_sha256(model))
    else:
        theirs = pretrained.fetch(text, images)
        model = theirs.model
        if (
            theirs.mean is not None
            and theirs.std is not None
            and (theirs.mean, theirs.std) != (images.mean, images.std)
        ):
            model = pretrained.Renormalised(model, images, theirs.mean, theirs.std)
        found = _Found(model, text, theirs.arch, sha256_file(theirs.file))
    model = found.model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    network = Network(
        model, found.name, found.arch, found.sha256, text, found.inferred, buffers_sha256(model)
    )
    _check_outputs(network, images, device)
    return network


@dataclass(frozen=True)
class _Found:
    model: nn.Module
    name: str
    arch: str
    sha256: str
    inferred: bool = False


def _from_file(path: Path, arch: str | None, images: LabelledImages, role: str) -> _Found:
    if not path.is_file():
        raise MissingError(
            f"no {role} at {path.absolute()}. `python -m runners.teacher --dataset {images.name} --out {path}` "
            "trains one (from a checkout of kdstats)."
        )
    card = card_of(path)
    digest = sha256_file(path)
    if card.get("sha256") not in (None, digest):
        raise MissingError(
            f"{path} has sha256 {digest[:12]}…, its card {path.with_suffix('.json').name} says "
            f"{str(card['sha256'])[:12]}…; the file was changed or damaged"
        )
    named = arch or card.get("arch")
    inferred = not isinstance(named, str)
    if isinstance(named, str):
        named = named if ":" in named else models.canonical(named)
    else:
        named = _inferred(path)
    model = architectures.build(named, images)
    models.load_weights(model, path)
    return _Found(model, path.stem, named, digest, inferred)


def _inferred(path: Path) -> str:
    state = models.read_state_dict(path)
    try:
        return infer(state).name
    except KdstatsError as error:
        raise type(error)(f"{path}: {error}") from None


def _check_outputs(network: Network, images: LabelledImages, device: torch.device) -> None:
    """Two images through the network: the logits must be ``[2, classes]``."""
    ask: Callable[[torch.Tensor], torch.Tensor] = network.logits
    try:
        logits = ask(images.normalise(next(images.batches([torch.arange(2)])).images.to(device)))
    except Exception as error:  # a foreign network may raise anything on images it does not take
        raise MissingError(
            f"{network.name} ({network.arch}) fails on images of {images.name}, "
            f"{images.channels}x{images.img_size}x{images.img_size}: {type(error).__name__}: {error}"
        ) from error
    if logits.shape != (2, images.classes):
        raise MissingError(
            f"{network.name} ({network.arch}) gives {list(logits.shape)} for 2 images, expected [2, {images.classes}]: "
            f"one logit for each class of {images.name}"
        )
