"""Networks trained by others: ``torchvision:NAME[@WEIGHTS]``, ``timm:NAME``, ``hf-hub:org/name[@revision]``.

Weights are downloaded once, into the cache of the library they belong to, and read like any other weights file:
safetensors, or PyTorch's format with ``weights_only=True``. The libraries' own loaders are not used, because
some of them unpickle.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdstats import models
from kdstats.data import LabelledImages
from kdstats.errors import MissingError, UsageError, unknown
from kdstats.json_text import parse_json
from kdstats.offline import refuse
from kdstats.teacher.architectures import build, harmless, timm_library
from kdstats.teacher.normalisation import Constants

PREFIXES = ("torchvision:", "timm:", "hf-hub:")
_HUB_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_HUB_REVISION = re.compile(r"[A-Za-z0-9._/-]*")


@dataclass(frozen=True)
class Pretrained:
    """A network with its weights.

    Attributes:
        model: Maps images normalised by ``constants`` to logits.
        arch: Its architecture.
        file: The weights file.
        constants: What it was trained with; None: those of the data set.
    """

    model: nn.Module
    arch: str
    file: Path
    constants: Constants | None = None


def fetch(spec: str, images: LabelledImages) -> Pretrained:
    """The network behind ``spec``, downloaded if it is not in the cache.

    Raises:
        UsageError: Unknown name.
        MissingError: No network connection, downloads switched off, or weights that do not fit ``images``.
    """
    kind, _, name = spec.partition(":")
    return {"torchvision": _torchvision, "timm": _timm, "hf-hub": _hub}[kind](name, images)


def check(spec: str) -> None:
    """Refuses what can be seen to be no network's name, before data are read or anything is downloaded.

    Raises:
        UsageError: Unknown name.
        MissingError: The library is not installed.
    """
    kind, _, name = spec.partition(":")
    {"torchvision": _torchvision_weights, "timm": _timm_config, "hf-hub": _hub_name}[kind](name)


def _torchvision_weights(name: str) -> tuple[str, Any]:
    """Name of the model and the record of its weights, for ``NAME[@WEIGHTS]``."""
    from torchvision import models as theirs

    plain, _, wanted = name.partition("@")
    known = theirs.list_models(module=theirs)
    if plain not in known:
        raise unknown("torchvision model", plain, known)
    choices: Any = theirs.get_model_weights(plain)
    if wanted and wanted not in choices.__members__:
        raise unknown(f"weights of torchvision:{plain}", wanted, choices.__members__)
    return plain, choices[wanted] if wanted else choices.DEFAULT


def _torchvision(name: str, images: LabelledImages) -> Pretrained:
    plain, weights = _torchvision_weights(name)
    classes = len(weights.meta["categories"])
    if classes != images.classes:
        raise MissingError(
            f"torchvision:{plain} knows {classes} classes, {images.name} has {images.classes}; a teacher must have "
            "been trained on the classes that it is asked about"
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    if not file.is_file():
        _download(weights.url, file, f"torchvision:{name}")
    arch = f"torchvision:{plain}"
    model = build(arch, images)
    models.load_weights(model, file)
    how = weights.transforms()
    return Pretrained(model, arch, file, Constants.read(how.mean, how.std))


def _download(url: str, file: Path, what: str) -> None:
    refuse(what, f"put {file.name} into {file.parent}")
    digest = file.stem.rpartition("-")[2]  # torchvision's names end in the first digits of the sha256
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digest, progress=False)
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"{what} could not be downloaded from {url} ({error}); where there is no network, put {file.name} into "
            f"{file.parent}"
        ) from None


def _timm_config(name: str) -> tuple[str, Any]:
    """Name of the model and the record of its weights, for ``NAME[.WEIGHTS]``."""
    timm = timm_library()
    plain = name.partition(".")[0]
    if plain not in timm.list_models():
        raise unknown("timm model", name, timm.list_models())
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise UsageError(
            f"timm:{name} has no trained weights; name a file of yours: --teacher FILE --arch timm:{plain}"
        )
    return plain, config


def _timm(name: str, images: LabelledImages) -> Pretrained:
    plain, config = _timm_config(name)
    if config.num_classes != images.classes:
        raise MissingError(
            f"timm:{name} knows {config.num_classes} classes, {images.name} has {images.classes}; a teacher must "
            "have been trained on the classes that it is asked about"
        )
    file = hub_file(config.hf_hub_id, "model.safetensors", None)
    model = build(f"timm:{plain}", images)
    models.load_weights(model, file)
    return Pretrained(model, f"timm:{plain}", file, Constants.read(config.mean, config.std))


def _hub(name: str, images: LabelledImages) -> Pretrained:
    """A repository with ``model.safetensors`` and a ``config.json`` that names the architecture, as timm writes them."""
    repo, revision = _hub_name(name)
    file = hub_file(repo, "model.safetensors", revision)
    try:
        config = parse_json(hub_file(repo, "config.json", revision).read_text(encoding="utf-8"))
    except (ValueError, OSError):
        config = {}
    config = config if isinstance(config, dict) else {}
    named = config.get("arch") or (f"timm:{config['architecture']}" if "architecture" in config else None)
    if not isinstance(named, str):
        raise MissingError(
            f"hf-hub:{name} has no config.json that names its architecture; download it and use --arch"
        )
    named = harmless(
        named, f"config.json of hf-hub:{name}", f"download it and pass --teacher FILE --arch {named}"
    )
    model = build(named, images)
    models.load_weights(model, file)
    own = config.get("pretrained_cfg", config)
    own = own if isinstance(own, dict) else {}
    constants = Constants.read(own.get("mean"), own.get("std"))
    fits = constants is not None and len(constants.mean) == images.channels
    return Pretrained(model, named, file, constants if fits else None)


def _hub_name(name: str) -> tuple[str, str | None]:
    """Repository and revision of ``org/name[@revision]``, by the hub's rules for names."""
    repo, _, revision = name.partition("@")
    parts = repo.split("/")
    good = len(parts) == 2 and len(repo) <= 96 and all(map(_HUB_PART.fullmatch, parts)) and ".." not in name
    if not good or "--" in repo or not _HUB_REVISION.fullmatch(revision):
        raise UsageError(
            f"a network on the hub is written hf-hub:org/name or hf-hub:org/name@revision, not {name!r}"
        )
    return repo, revision or None


def hub_file(repo: str, name: str, revision: str | None) -> Path:
    """A file of a repository on the hub, from the cache or downloaded into it.

    Raises:
        MissingError: huggingface_hub is not installed, no network, downloads switched off, or no such file.
    """
    try:
        hub = importlib.import_module("huggingface_hub")
    except ModuleNotFoundError:
        raise MissingError(
            "networks on the hub need the library huggingface_hub: pip install 'kdstats[timm]'"
        ) from None
    cached = hub.try_to_load_from_cache(repo, name, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    where = f"{repo}{'@' + revision if revision else ''}/{name}"
    refuse(f"{where} from the hub", "download it elsewhere and name the file with --teacher FILE --arch NAME")
    try:
        return Path(hub.hf_hub_download(repo, name, revision=revision))
    except Exception as error:  # its errors come from three libraries
        raise MissingError(
            f"{where} could not be downloaded from the hub ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "where there is no network, name a file with --teacher FILE --arch NAME"
        ) from None
