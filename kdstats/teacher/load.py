"""Loading a teacher (or a student): weights, card, hash, normalisation, fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import nn

from kdstats import models
from kdstats.data import LabelledImages, Selection
from kdstats.errors import KdstatsError, MissingError, UsageError
from kdstats.models.guess import infer
from kdstats.provenance import sha256_file
from kdstats.teacher import architectures, pretrained
from kdstats.teacher.card import TeacherCard
from kdstats.teacher.network import Network, buffers_sha256, state_sha256
from kdstats.teacher.normalisation import Constants, Renormalised, parse
from kdstats.teacher.notes import Note
from kdstats.teacher.sources import check_source, is_file_source, named_by_card

SHIPPED = "digits-resnet8"


def shipped_path() -> Path:
    """The weights of the teacher inside the package."""
    return Path(str(resources.files("kdstats.teacher").joinpath("shipped", f"{SHIPPED}.safetensors")))


def load_network(
    source: str | Path | None,
    arch: str | None,
    images: LabelledImages,
    device: torch.device,
    role: str = "teacher",
    normalise: str | None = None,
) -> Network:
    """Builds the architecture, loads the weights strictly, checks that classes and outputs fit the data.

    Args:
        source: A weights file (see :func:`kdstats.models.read_state_dict`); ``torchvision:NAME[@WEIGHTS]``,
            ``timm:NAME``, ``hf-hub:org/name[@revision]``; ``package.module:factory``, a function of yours that
            returns a trained network; None means the shipped digits teacher, which fits ``digits`` only.
        arch: Architecture of a weights file, see :func:`kdstats.teacher.architectures.build`. Without it the card
            beside the file is asked, then the names and shapes in the file itself.
        images: The data the network will see (classes, channels, size).
        device: Where to put it.
        role: ``teacher`` or ``student``, for messages.
        normalise: What it is to be given, see :func:`kdstats.teacher.normalisation.parse`. By default what its
            library, its hub's ``config.json`` or its card says, else what belongs to the data set.

    Raises:
        UsageError: Unknown names, or no weights named for another data set than digits.
        MissingError: No such file, wrong hash, other classes, keys or shapes or outputs that do not fit, or a name
            from a card or a ``config.json`` that would import code.
    """
    check_source(source, arch, role, Selection(images.name))
    if source is None:
        source = shipped_path()
    text = str(source)
    if is_file_source(source):
        found = _from_file(Path(source), arch, images, role)
    elif architectures.is_factory(text):
        model = architectures.from_factory(text, images)
        found = _Found(model, text, text, state_sha256(model))
    else:
        theirs = pretrained.fetch(text, images)
        found = _Found(theirs.model, text, theirs.arch, sha256_file(theirs.file), constants=theirs.constants)
    own = Constants.of(images)
    given = found.constants or own
    if normalise is not None:
        given = (parse(normalise) or own).fit(images.channels, images.name)
    model = found.model if given == own else Renormalised(found.model, images, given.mean, given.std)
    model = model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    network = Network(
        model,
        found.name,
        found.arch,
        found.sha256,
        text,
        found.inferred,
        buffers_sha256(model),
        given.mean,
        given.std,
        found.notes,
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
    constants: Constants | None = None
    notes: tuple[Note, ...] = ()


def _from_file(path: Path, arch: str | None, images: LabelledImages, role: str) -> _Found:
    card = TeacherCard.beside(path)
    digest = sha256_file(path)
    if card.sha256 not in (None, digest):
        raise MissingError(
            f"{path} has sha256 {digest[:12]}…, its card {card.file.name} says {str(card.sha256)[:12]}…; the file was "
            "changed or damaged"
        )
    notes = card.notes(images)
    named = architectures.check(arch) if arch is not None else named_by_card(card, role)
    inferred = named is None
    if named is None:
        named = _inferred(path)
    model = _built(named, images, None if inferred or arch is not None else card.file)
    models.load_weights(model, path)
    constants = card.constants
    if constants is not None and len(constants.mean) != images.channels:
        constants = None  # the weights have said already that the images do not fit
    return _Found(model, path.stem, named, digest, inferred, constants, tuple(notes))


def _built(arch: str, images: LabelledImages, card: Path | None) -> nn.Module:
    """The network; what a card asks in vain is the card's fault and no wrong option."""
    try:
        return architectures.build(arch, images)
    except UsageError as error:
        if card is None:
            raise
        raise MissingError(f"{card}: {error}") from None


def _inferred(path: Path) -> str:
    state = models.read_state_dict(path)
    try:
        return infer(state).name
    except KdstatsError as error:
        raise type(error)(f"{path}: {error}") from None


def _check_outputs(network: Network, images: LabelledImages, device: torch.device) -> None:
    """Two images through the network: the logits must be ``[2, classes]``."""
    ask: Callable[[torch.Tensor], torch.Tensor] = network.logits
    # An image that cannot be read is no fault of the network.
    two = images.normalise(next(images.batches([torch.arange(2)])).images.to(device))
    try:
        logits = ask(two)
    except (
        Exception,
        SystemExit,
    ) as error:  # a foreign network may raise anything on images it does not take
        raise MissingError(
            f"{network.name} ({network.arch}) fails on images of {images.name}, "
            f"{images.channels}x{images.img_size}x{images.img_size}: {type(error).__name__}: {error}"
        ) from error
    if logits.shape != (2, images.classes):
        raise MissingError(
            f"{network.name} ({network.arch}) gives {list(logits.shape)} for 2 images, expected [2, {images.classes}]: "
            f"one logit for each class of {images.name}"
        )
