"""A loaded classifier, ready to be asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdstats.errors import CheckError
from kdstats.teacher.notes import Note


@dataclass(frozen=True)
class Network:
    """A loaded classifier, in evaluation mode and without gradients.

    Attributes:
        model: Normalised images → logits.
        name: For people: the file's name, or what was written.
        arch: Name of the architecture, see :func:`kdstats.teacher.architectures.build`.
        sha256: Of the weights file; of the tensors where there is no file.
        source: What loads it again: a path, or ``torchvision:…``, ``timm:…``, ``hf-hub:…``, ``pkg.module:factory``.
        inferred: Whether the architecture was read off the weights, because nobody named it.
        mean: What it subtracts per channel from pixels in [0, 1], whatever the data set's own mean is; empty where
            nobody said.
        std: What it divides them by.
        notes: Warnings of how it fits the data.
    """

    model: nn.Module
    name: str
    arch: str
    sha256: str
    source: str
    inferred: bool = False
    _buffers: str = field(default="", repr=False)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    notes: tuple[Note, ...] = ()

    def logits(self, images: Tensor) -> Tensor:
        """Float32 logits ``[B, C]`` without gradient."""
        with torch.inference_mode():
            out: Tensor = self.model(images.contiguous(memory_format=torch.channels_last)).float()
        return out

    def check_unchanged(self) -> None:
        """Raises ``CheckError`` if asking the network changed its buffers (BatchNorm statistics in training mode)."""
        if self._buffers and buffers_sha256(self.model) != self._buffers:
            raise CheckError(
                f"{self.name}: its buffers changed while it was asked; a layer is in training mode although the "
                "network is in evaluation mode"
            )


def buffers_sha256(model: nn.Module) -> str:
    """sha256 over the names and contents of all buffers."""
    return _sha256(dict(model.named_buffers()))


def state_sha256(model: nn.Module) -> str:
    """sha256 over the names and contents of all parameters and buffers, in the order of the names."""
    return _sha256(model.state_dict())


def _sha256(tensors: dict[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return sha.hexdigest()
