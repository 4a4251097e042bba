"""Which images a program asked for: data set, place, size, classes, images per class, and what is held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdstats.data.subsets import parse_classes

if TYPE_CHECKING:
    import torch

    from kdstats.data.labelled import LabelledImages


@dataclass(frozen=True, slots=True)
class Splits:
    """What training needs.

    Attributes:
        train: Training images, without those held out.
        test: Test images.
        validation: Training images held out; None where none are.
    """

    train: LabelledImages
    test: LabelledImages
    validation: LabelledImages | None = None

    def to(self, device: str | torch.device) -> Splits:
        """The same splits with their tensors on ``device``."""
        held = self.validation
        return Splits(self.train.to(device), self.test.to(device), None if held is None else held.to(device))


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of images that can be carried out again, from a command line or a study file.

    Attributes:
        dataset: Registry name.
        path: Folder or archive with its files; None for embedded sets and below ``KDSTATS_DATA``.
        img_size: Height and width to bring every image to; None leaves them.
        classes: ``"20"`` for the first twenty, ``"cat,dog"`` or ``"@FILE"`` for these (see
            :func:`~kdstats.data.subsets.parse_classes`); None for all. They hold for every split.
        per_class: So many training images of each class; None for all. The test images stay all.
        val_split: Share of every class of the training images that is held out for choosing the best epoch; None
            holds out none.
    """

    dataset: str
    path: str | None = None
    img_size: int | None = None
    classes: str | None = None
    per_class: int | None = None
    val_split: float | None = None

    def splits(self) -> Splits:
        """All of them, the training images read and divided once. Raises as :meth:`train`."""
        train, held = self._divided()
        return Splits(train, self.test(), held)

    def train(self) -> LabelledImages:
        """The training images, without those held out.

        Raises:
            UsageError: Unknown classes, too few images, a share outside of (0, 1).
            MissingError: See :func:`kdstats.data.load`.
        """
        return self._divided()[0]

    def validation(self) -> LabelledImages | None:
        """The training images held out; None without ``val_split``. Raises as :meth:`train`."""
        return None if self.val_split is None else self._divided()[1]

    def test(self) -> LabelledImages:
        """The test images. Raises as :meth:`train`."""
        return self._whole("test")

    def _divided(self) -> tuple[LabelledImages, LabelledImages | None]:
        """The training images and those of them that are held out."""
        images = self._whole("train")
        if self.val_split is None:
            return images, None
        held, rest = images.divide(self.val_split)
        return rest, held

    def _whole(self, split: str) -> LabelledImages:
        from kdstats.data.loading import load  # loads torch; a choice can be written down without

        images = load(self.dataset, split, self.path, self.img_size)
        few = self.per_class if split == "train" else None
        if self.classes is None and few is None:
            return images
        return images.take(None if self.classes is None else parse_classes(self.classes), few)
