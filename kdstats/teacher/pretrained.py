"""Networks trained by others: ``torchvision:NAME[@WEIGHTS]``, ``timm:NAME``, ``hf-hub:org/name[@revision]``.

Weights are downloaded once, into the cache of the library they belong to, and read like any other weights file:
safetensors, or PyTorch's format with ``weights_only=True``. The libraries' own loaders are not used, because
some of them unpickle.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdstats import models
from kdstats.data import LabelledImages
from kdstats.errors import MissingError, UsageError, unknown
from kdstats.offline import refuse
from kdstats.teacher.architectures import build, timm_library

PREFIXES = ("torchvision:", "timm:", "hf-hub:")


@dataclass(frozen=True)
class Pretrained:
    """A network with its weights.

    Attributes:
        model: Maps images normalised by ``mean`` and ``std`` to logits.
        arch: Its architecture.
        file: The weights file.
        mean: Per-channel mean that it was trained with, fractions of one; None: that of the data set.
        std: Standard deviation, likewise.
    """

    model: nn.Module
    arch: str
    file: Path
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class Renormalised(nn.Module):
    """Takes images normalised for one data set and hands them on normalised for a network trained with others."""

    def __init__(
        self, network: nn.Module, images: LabelledImages, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        own_mean, own_std, mean_t, std_t = (torch.tensor(v) for v in (images.mean, images.std, mean, std))
        self.network = network
        self.scale = nn.Buffer((own_std / std_t).view(1, -1, 1, 1), persistent=False)
        self.shift = nn.Buffer(((own_mean - mean_t) / std_t).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, C]`` of images ``[B, channels, H, W]``."""
        out: Tensor = self.network(images * self.scale + self.shift)
        return out


def fetch(spec: str, images: LabelledImages) -> Pretrained:
    """The network behind ``spec``, downloaded if it is not in the cache.

    Raises:
        UsageError: Unknown name.
        MissingError: No network connection, downloads switched off, or weights that do not fit ``images``.
    """
    kind, _, name = spec.partition(":")
    return {"torchvision": _torchvision, "timm": _timm, "hf-hub": _hub}[kind](name, images)


def _torchvision(name: str, images: LabelledImages) -> Pretrained:
    from torchvision import models as theirs

    plain, _, wanted = name.partition("@")
    if plain not in theirs.list_models(module=theirs):
        raise unknown("torchvision model", plain, theirs.list_models(module=theirs))
    choices: Any = theirs.get_model_weights(plain)
    if wanted and wanted not in choices.__members__:
        raise unknown(f"weights of torchvision:{plain}", wanted, choices.__members__)
    weights = choices[wanted] if wanted else choices.DEFAULT
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
    return Pretrained(model, arch, file, tuple(how.mean), tuple(how.std))


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


def _timm(name: str, images: LabelledImages) -> Pretrained:
    timm = timm_library()
    plain = name.partition(".")[0]
    if plain not in timm.list_models():
        raise unknown("timm model", name, timm.list_models())
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise UsageError(
            f"timm:{name} has no trained weights; name a file of yours: --teacher FILE --arch timm:{plain}"
        )
    if config.num_classes != images.classes:
        raise MissingError(
            f"timm:{name} knows {config.num_classes} classes, {images.name} has {images.classes}; a teacher must "
            "have been trained on the classes that it is asked about"
        )
    file = hub_file(config.hf_hub_id, "model.safetensors", None)
    model = build(f"timm:{plain}", images)
    models.load_weights(model, file)
    return Pretrained(model, f"timm:{plain}", file, tuple(config.mean), tuple(config.std))


def _hub(name: str, images: LabelledImages) -> Pretrained:
    """A repository with ``model.safetensors`` and a ``config.json`` that names the architecture, as timm writes them."""
    repo, _, revision = name.partition("@")
    if repo.count("/") != 1:
        raise UsageError(
            f"a network on the hub is written hf-hub:org/name or hf-hub:org/name@revision, not {name!r}"
        )
    file = hub_file(repo, "model.safetensors", revision or None)
    try:
        config = json.loads(hub_file(repo, "config.json", revision or None).read_text(encoding="utf-8"))
    except (ValueError, OSError):
        config = {}
    config = config if isinstance(config, dict) else {}
    named = config.get("arch") or (f"timm:{config['architecture']}" if "architecture" in config else None)
    if not isinstance(named, str):
        raise MissingError(
            f"hf-hub:{name} has no config.json that names its architecture; download it and use --arch"
        )
    model = build(named, images)
    models.load_weights(model, file)
    own = config.get("pretrained_cfg", config)
    own = own if isinstance(own, dict) else {}
    mean, std = (_numbers(own.get(key), images.channels) for key in ("mean", "std"))
    return Pretrained(model, named, file, *((mean, std) if mean and std else (None, None)))


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    fits = (
        isinstance(values, list) and len(values) == count and all(isinstance(v, (int, float)) for v in values)
    )
    return tuple(float(v) for v in values) if fits else None


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
