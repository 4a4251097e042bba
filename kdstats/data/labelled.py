"""What every split of a data set is, wherever its pixels lie: labels, ids, constants, and batches in a given order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdstats.data.standard import StandardAugmentation
from kdstats.data.subsets import Classes, choose, class_indices, halve, part_digest
from kdstats.errors import MissingError, UsageError


class Batch(NamedTuple):
    """Some images of a set, on its device.

    Attributes:
        images: ``[B, channels, H, W]`` uint8.
        labels: ``[B]`` int64.
        sample_id: ``[B]`` int64.
    """

    images: Tensor
    labels: Tensor
    sample_id: Tensor


@dataclass(frozen=True, kw_only=True)
class LabelledImages(ABC):
    """One split: labels and everything that belongs to the images, but not where their pixels lie.

    Attributes:
        name: Data set name, for example ``cifar100``.
        split: ``train`` or ``test``.
        labels: ``[N]`` int64, class indices.
        sample_id: ``[N]`` int64, a stable id per image (its position in the source). Parts keep the ids of the whole.
        class_names: C names, in the order of the indices.
        mean: Per-channel mean of the training images, fractions of one (grey level 255 is 1).
        std: Per-channel standard deviation, likewise. Parts keep the constants of the whole.
        base: Name of the data set's standard augmentation (see :mod:`kdstats.data.standard`).
        digest: sha256 of the source, hexadecimal; that of a part is derived from it and from what was chosen.
        notes: What is unlike the full data set, one sentence each, for people.
        class_ids: Second names of the classes (WordNet ids where ``class_names`` are words); empty where there are none.
        stamp: Changes whenever a file is written anew, for what is remembered on one machine about a set whose digest
            is not of the contents; empty where it is.
    """

    name: str
    split: str
    labels: Tensor
    sample_id: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    base: str
    digest: str
    notes: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()
    stamp: str = ""

    def __post_init__(self) -> None:
        where = f"{self.name} {self.split}"
        if len(self.labels) != len(self.sample_id) or len(self.labels) == 0:
            raise MissingError(f"{where}: {len(self.labels)} labels, {len(self.sample_id)} sample ids")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.class_names):
            raise MissingError(f"{where}: a label lies outside 0…{len(self.class_names) - 1}")
        if self.class_ids and len(self.class_ids) != len(self.class_names):
            raise MissingError(f"{where}: {len(self.class_ids)} ids of {len(self.class_names)} classes")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise MissingError(f"{where}: {len(self.mean)} means for {self.channels} channels")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    @property
    @abstractmethod
    def channels(self) -> int:
        """Colour channels of an image."""

    @property
    @abstractmethod
    def img_size(self) -> int:
        """Height (and width) of an image in pixels."""

    @property
    def device(self) -> torch.device:
        """Where batches come out."""
        return self.labels.device

    @abstractmethod
    def to(self, device: str | torch.device) -> Self:
        """The same set with its tensors on ``device``."""

    @abstractmethod
    def batches(
        self,
        positions: Iterable[Tensor],
        base: StandardAugmentation | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> Iterator[Batch]:
        """The images at each of ``positions`` (``[B]`` int64, on the CPU), in that order.

        The pixels are a function of (image, base, seed, epoch) alone: never of the batch, of the number of reading
        processes, or of what was read before.

        Args:
            positions: One tensor per batch.
            base: Standard augmentation; None gives the images as they are tested.
            seed: Of its draws.
            epoch: Of its draws.

        Raises:
            UsageError: The augmentation does not fit the images.
            MissingError: A file has become unreadable.
        """

    @abstractmethod
    def _chosen(self, at: Tensor) -> dict[str, Any]:
        """The fields that hold the pixels, of the images ``at`` alone."""

    def in_order(self, size: int) -> Iterator[Batch]:
        """All images as they are tested, ``size`` at a time."""
        return self.batches(torch.split(torch.arange(len(self)), size))

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 ``[B, channels, H, W]`` → float32, zero mean and unit deviation per channel."""
        mean, std = (_channels(values, images.device) for values in (self.mean, self.std))
        return images.float().div_(255.0).sub_(mean).div_(std)

    def head(self, n: int) -> Self:
        """The first ``n`` images, all classes kept in name.

        CIFAR and digits are shuffled at the source. Sources of one folder per class are not: :meth:`take` with
        ``per_class`` keeps their classes equal.
        """
        if not 0 < n <= len(self):
            raise UsageError(f"{self.name} {self.split} holds {len(self)} images; {n} were asked for")
        return self._part(np.arange(n), range(self.classes), f"the first {n} of {len(self)} images")

    def take(self, classes: Classes | None = None, per_class: int | None = None, seed: int = 0) -> Self:
        """The images of some classes, and of each class some images.

        Labels are renumbered 0…N−1 in the order of the old indices; images keep their order and their ids.

        Args:
            classes: A number N for the first N classes, or names, ids or indices; None for all.
            per_class: So many of each class, the same for the same seed whatever the other classes; None for all.
            seed: Of the choice of images, 0 or more.

        Raises:
            UsageError: Unknown classes, or fewer images than were asked for.
        """
        labels, ids = self._arrays()
        indices = class_indices(classes, self.class_names, self.class_ids)
        chosen = choose(labels, ids, self.class_names, indices, per_class, seed)
        said = []
        if len(indices) < self.classes:
            said.append(f"{len(indices)} of {self.classes} classes")
        if per_class is not None:
            said.append(f"{per_class} images per class (seed {seed})")
        return self._part(chosen, indices, ", ".join(said))

    def divide(self, fraction: float, seed: int = 0) -> tuple[Self, Self]:
        """Two sets without a common image: ``fraction`` of every class, and the rest.

        Raises:
            UsageError: ``fraction`` outside of (0, 1), or a class of a single image.
        """
        labels, ids = self._arrays()
        first = halve(labels, ids, self.class_names, fraction, seed)
        every = range(self.classes)
        return (
            self._part(np.flatnonzero(first), every, f"{fraction:g} of each class (seed {seed})"),
            self._part(
                np.flatnonzero(~first), every, f"the rest without {fraction:g} of each class (seed {seed})"
            ),
        )

    def _arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.labels.cpu().numpy(), self.sample_id.cpu().numpy()

    def _part(self, chosen: NDArray[np.int64], indices: Sequence[int], note: str) -> Self:
        """The images at the positions ``chosen``; all of them with all classes are the set itself."""
        if len(chosen) == len(self) and len(indices) == self.classes:
            return self
        if len(chosen) == 0:
            raise UsageError(f"{self.name} {self.split}: the chosen classes have no images")
        at = torch.from_numpy(chosen).to(self.device)
        labels, ids = self.labels[at], self.sample_id[at]
        renumbered = torch.full((self.classes,), -1, dtype=torch.int64, device=self.device)
        renumbered[list(indices)] = torch.arange(len(indices), device=self.device)
        return replace(
            self,
            **self._chosen(at),
            labels=renumbered[labels],
            sample_id=ids,
            class_names=tuple(self.class_names[i] for i in indices),
            class_ids=tuple(self.class_ids[i] for i in indices if self.class_ids),
            digest=part_digest(self.digest, indices, ids.cpu().numpy()),
            notes=(*self.notes, note),
        )


# A batch of small images takes as long as making a handful of tensors, so these are made once.
@lru_cache(maxsize=64)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept for calls outside of it too
        return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
