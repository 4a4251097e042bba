"""One split of a data set, held as uint8 on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdstats.errors import MissingError, UsageError


@dataclass(frozen=True)
class ImageSet:
    """Images, labels and everything that belongs to them.

    Attributes:
        name: Data set name, for example ``cifar100``.
        split: ``train`` or ``test``.
        images: ``[N, channels, H, W]`` uint8.
        labels: ``[N]`` int64, class indices.
        sample_id: ``[N]`` int64, a stable id per image (its position in the source).
        class_names: C names, in the order of the indices.
        mean: Per-channel mean of the training images, in units of 1/255 grey levels (fractions of one).
        std: Per-channel standard deviation, likewise.
        base: Name of the data set's standard augmentation (see :mod:`kdstats.schemes.standard`).
        digest: sha256 of the source, hexadecimal.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    sample_id: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    base: str
    digest: str

    def __post_init__(self) -> None:
        n = len(self.images)
        where = f"{self.name} {self.split}"
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or n == 0:
            raise MissingError(
                f"{where}: expected N images as uint8 [N, channels, H, W], got {self.images.shape}"
            )
        if len(self.labels) != n or len(self.sample_id) != n:
            raise MissingError(
                f"{where}: {n} images, {len(self.labels)} labels, {len(self.sample_id)} sample ids"
            )
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.class_names):
            raise MissingError(f"{where}: a label lies outside 0…{len(self.class_names) - 1}")
        if len(self.mean) != self.images.shape[1] or len(self.std) != self.images.shape[1]:
            raise MissingError(f"{where}: {len(self.mean)} means for {self.images.shape[1]} channels")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Colour channels of an image."""
        return int(self.images.shape[1])

    @property
    def img_size(self) -> int:
        """Height (and width) of an image in pixels."""
        return int(self.images.shape[2])

    def to(self, device: str | torch.device) -> ImageSet:
        """The same set with its tensors on ``device``."""
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            sample_id=self.sample_id.to(device),
        )

    def head(self, n: int) -> ImageSet:
        """The first ``n`` images (sources are shuffled, so the classes stay mixed)."""
        if not 0 < n <= len(self):
            raise UsageError(f"{self.name} {self.split} holds {len(self)} images; {n} were asked for")
        return replace(self, images=self.images[:n], labels=self.labels[:n], sample_id=self.sample_id[:n])

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 ``[B, channels, H, W]`` → float32, zero mean and unit deviation per channel."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return (images.float().div_(255.0) - mean).div_(std)
