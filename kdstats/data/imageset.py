"""One split of a data set, held as uint8 on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from kdstats.data.labelled import Batch, LabelledImages
from kdstats.data.standard import StandardAugmentation
from kdstats.errors import MissingError


@dataclass(frozen=True, kw_only=True)
class ImageSet(LabelledImages):
    """A split whose images are all in memory, on the device that trains or measures.

    Attributes:
        images: ``[N, channels, H, W]`` uint8.
    """

    images: Tensor

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
        super().__post_init__()

    @property
    def channels(self) -> int:
        """Colour channels of an image."""
        return int(self.images.shape[1])

    @property
    def img_size(self) -> int:
        """Height (and width) of an image in pixels."""
        return int(self.images.shape[2])

    def to(self, device: str | torch.device) -> Self:
        """The same set with its tensors on ``device``."""
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            sample_id=self.sample_id.to(device),
        )

    def rows(self, at: Tensor) -> Batch:
        """Images, labels and sample ids at the positions ``at`` (``[B]`` int64, on the set's device).

        A batch by ``images[at]`` is the same and takes 15 times as long for uint8 on a CPU.
        """
        return Batch(
            self.images.index_select(0, at),
            self.labels.index_select(0, at),
            self.sample_id.index_select(0, at),
        )

    def batches(
        self,
        positions: Iterable[Tensor],
        base: StandardAugmentation | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> Iterator[Batch]:
        """See :meth:`LabelledImages.batches`."""
        for at in positions:
            found = self.rows(at.to(self.device))
            if base is None:
                yield found
            else:
                yield found._replace(images=base.apply(found.images, found.sample_id, seed, epoch))

    def _chosen(self, at: Tensor) -> dict[str, Any]:
        return {"images": self.images.index_select(0, at)}
