"""One split of a large data set: listed in memory, read and decoded batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kdstats.data.labelled import Batch, LabelledImages
from kdstats.data.messages import reason
from kdstats.data.sources.decoding import threads
from kdstats.data.sources.labelled_files import Listing
from kdstats.data.sources.pixels import Geometry, decoded, pixels_of, resized
from kdstats.data.sources.trees import Folder
from kdstats.data.standard import Box, StandardAugmentation
from kdstats.data.subsets import streamed_digest
from kdstats.errors import MissingError

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST_WORKERS = 8
# Starting processes takes longer than reading so few.
_FEW_BATCHES, _FEW_IMAGES = 2, 64
_KNOWN_BY = "identified by names and sizes of its files"


@dataclass(frozen=True, kw_only=True)
class ImageStream(LabelledImages):
    """A split whose images stay in their files; batches come through a PyTorch ``DataLoader``.

    Order, sample ids, standard augmentation and pixels are those that an :class:`~kdstats.data.ImageSet` of the same
    files would have, whatever the number of reading processes.

    Attributes:
        tree: The folder.
        files: ``[N]`` names in it, UTF-8 bytes.
        size: Height and width that images come out with.
        shorter: Shorter side to which an image is brought before its centre square of ``size`` is cut, for testing
            and for augmentations of a fixed square (256 for 224 on ImageNet).
        workers: Reading processes; 0 reads in this one.
    """

    tree: Folder
    files: NDArray[np.bytes_]
    size: int
    shorter: int
    workers: int = 0

    @classmethod
    def of(
        cls,
        tree: Folder,
        listing: Listing,
        workers: int | None = None,
        *,
        size: int,
        shorter: int,
        **fields: Any,
    ) -> ImageStream:
        """The listed files; ``fields`` are those of the class that a listing does not decide.

        The digest is of names, labels, file sizes and the two sides of the images: hashing the contents would take as
        long as an epoch. The times at which the files were written make the stamp.
        """
        sha, stamp = hashlib.sha256(b"names, labels and sizes\n"), hashlib.sha256()
        for item in listing.items:
            length, written = tree.state(item.file)
            sha.update(f"{item.name}\0{item.label}\0{length}\n".encode())
            stamp.update(f"{written}\n".encode())
        most = min(threads(), _MOST_WORKERS) if workers is None else workers
        return cls(
            tree=tree,
            files=np.array([item.file.encode() for item in listing.items], dtype=np.bytes_),
            labels=torch.tensor([item.label for item in listing.items]),
            sample_id=torch.arange(len(listing.items)),
            class_names=listing.class_names,
            class_ids=listing.class_ids,
            size=size,
            shorter=shorter,
            digest=streamed_digest(sha.hexdigest(), size, shorter),
            stamp=stamp.hexdigest(),
            notes=(*listing.notes, _KNOWN_BY),
            workers=most,
            **fields,
        )

    @property
    def channels(self) -> int:
        """Three: grey files are read as colour."""
        return 3

    @property
    def img_size(self) -> int:
        """Height (and width) of an image in pixels."""
        return self.size

    def to(self, device: str | torch.device) -> Self:
        """The same set, its batches on ``device``."""
        return replace(self, labels=self.labels.to(device), sample_id=self.sample_id.to(device))

    def batches(
        self,
        positions: Iterable[Tensor],
        base: StandardAugmentation | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> Iterator[Batch]:
        """See :meth:`LabelledImages.batches`; the next batches are read while one is worked on.

        The reading processes live as long as the iterator: one set of them per epoch, none for a handful of images.
        """
        boxes = base if base is not None and base.resized else None
        # A list: the loader asks for positions ahead of what it has given, from a generator that others share.
        wanted = [at.cpu() for at in positions]
        loader: DataLoader[Any] = DataLoader(
            _Files(self, boxes, seed, epoch),
            batch_sampler=_Positions(wanted),
            num_workers=self._workers_for(wanted),
            collate_fn=_joined,
            pin_memory=self.device.type == "cuda",
        )
        for at, pixels in zip(wanted, loader, strict=True):
            if isinstance(pixels, str):
                raise MissingError(pixels)
            images = pixels.to(self.device, non_blocking=True)
            here = at.to(self.device)
            labels, ids = self.labels.index_select(0, here), self.sample_id.index_select(0, here)
            if base is not None:
                images = base.after_box(images, ids, seed, epoch)
            yield Batch(images, labels, ids)

    def _workers_for(self, wanted: list[Tensor]) -> int:
        few = len(wanted) <= _FEW_BATCHES or sum(map(len, wanted)) < _FEW_IMAGES
        return 0 if few else min(self.workers, len(wanted))

    def _chosen(self, at: Tensor) -> dict[str, Any]:
        return {"files": self.files[at.cpu().numpy()]}


class _Positions:
    """The positions of each batch, as a ``DataLoader`` takes them."""

    def __init__(self, wanted: list[Tensor]) -> None:
        self._wanted = wanted

    def __iter__(self) -> Iterator[list[int]]:
        return (at.tolist() for at in self._wanted)

    def __len__(self) -> int:
        return len(self._wanted)


class _Files(Dataset[Any]):
    """Position → ``[3, size, size]`` uint8, or what is wrong with the file as a text.

    A text, because an exception of a reading process would arrive wrapped in that process's traceback.
    """

    def __init__(
        self, stream: ImageStream, boxes: StandardAugmentation | None, seed: int, epoch: int
    ) -> None:
        self._tree, self._files = stream.tree, stream.files
        self._size, self._shorter = stream.size, stream.shorter
        self._ids = stream.sample_id.cpu().numpy()
        self._boxes, self._seed, self._epoch = boxes, seed, epoch

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, position: int) -> NDArray[np.uint8] | str:
        file = self._files[position].decode()
        where = self._tree.where(file)

        def finish(image: Image) -> NDArray[np.uint8]:
            if self._boxes is None:
                return resized(image, where, self._size, self._shorter)[0]
            box = self._boxes.box(int(self._ids[position]), *image.size, self._seed, self._epoch)
            return _cut(image, box, self._size)

        try:
            return decoded(self._tree.read(file), where, Geometry(), finish)
        except MissingError as error:
            return str(error)
        except Exception as error:
            return f"{where}: {type(error).__name__}: {reason(error)}"


def _cut(image: Image, box: Box, size: int) -> NDArray[np.uint8]:
    """A box brought to ``size``, antialiased, as torchvision's ``resized_crop`` does on Pillow images."""
    from PIL.Image import Resampling

    part = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    if part.size != (size, size):
        part = part.resize((size, size), Resampling.BILINEAR)
    return pixels_of(part)


def _joined(found: list[NDArray[np.uint8] | str]) -> Tensor | str:
    wrong = [one for one in found if isinstance(one, str)]
    if wrong:
        return wrong[0]
    return torch.from_numpy(np.stack([one for one in found if not isinstance(one, str)]))
