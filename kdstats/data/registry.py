"""Name → card: what is known about a data set before any of its files is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdstats.errors import unknown


@dataclass(frozen=True)
class DataCard:
    """What is known about a data set before it is read. None stands for what the files decide.

    Attributes:
        name: Registry name.
        source: Where it comes from, in one sentence.
        layouts: Names of the layouts it may have on disk (see :mod:`kdstats.data.sources`); none when embedded.
        classes: Number of classes of the full set.
        channels: Colour channels.
        img_size: Height and width in pixels.
        mean: Per-channel mean of the training images, fractions of one.
        std: Per-channel standard deviation, likewise.
        base: Name of the standard augmentation that the field trains it with.
        constants: Where mean and std come from.
        how: What to do to get it, a sentence for people without the files.
        partial: Whether a part of the classes is admitted: then those that are found count.
        shorter: For sets that are read batch by batch instead of being held in memory: the shorter side that an image
            is brought to before its centre is cut for testing; None for the others.
        class_list: Name of a file beside the images with the classes that belong to it, one a line; None for all.
    """

    name: str
    source: str
    layouts: tuple[str, ...]
    classes: int | None
    channels: int
    img_size: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    base: str | None
    constants: str
    how: str
    partial: bool = False
    shorter: int | None = None
    class_list: str | None = None

    @property
    def streams(self) -> bool:
        """Whether images stay in their files and are decoded batch by batch."""
        return self.shorter is not None

    @property
    def needs_path(self) -> bool:
        """Whether the files must be named (``--data`` or ``KDSTATS_DATA``)."""
        return bool(self.layouts)


_FOUND = "computed over all training images in float64, kept with the decoded images"
_IMAGENET = (
    "Get ILSVRC 2012 from image-net.org (an account is needed), unpack it to train/<class>/*.JPEG and "
    "val/<class>/*.JPEG as torchvision does, and name the folder that holds both with --data FOLDER."
)
_IMAGENET_1K = DataCard(
    "imagenet",
    source="ImageNet-1K (ILSVRC 2012): about 1.28 million / 50,000 photographs, read batch by batch",
    layouts=("class_folders",),
    classes=1000,
    channels=3,
    img_size=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    base="resizedcrop+flip",
    constants="torchvision's for ImageNet",
    how=_IMAGENET,
    shorter=256,
)
_CARDS = {
    card.name: card
    for card in (
        DataCard(
            "digits",
            source="scikit-learn's digits (UCI optical digits): 1,797 grey images, split 1,280 / 517",
            layouts=(),
            classes=10,
            channels=1,
            img_size=8,
            mean=(0.3053,),
            std=(0.3760,),
            base="crop1",
            constants="of all 1,797 images, computed by us",
            how="It is part of scikit-learn.",
        ),
        DataCard(
            "cifar10",
            source="CIFAR-10 (Krizhevsky 2009): 50,000 / 10,000 colour images",
            layouts=("cifar_python", "hub_parquet", "class_folders"),
            classes=10,
            channels=3,
            img_size=32,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            base="crop4+flip",
            constants="over all pixels of the 50,000 training images, as in airbench; pytorch-cifar's deviations "
            "(0.2023, 0.1994, 0.2010) are means of those within an image",
            how="Put torchvision's folder cifar-10-batches-py, or the hub's files train-*.parquet and test-*.parquet "
            "of 'uoft-cs/cifar10', into a folder and name it with --data FOLDER.",
        ),
        DataCard(
            "cifar100",
            source="CIFAR-100 (Krizhevsky 2009): 50,000 / 10,000 colour images, the 100 fine classes",
            layouts=("cifar_python", "hub_parquet", "class_folders"),
            classes=100,
            channels=3,
            img_size=32,
            mean=(0.5071, 0.4867, 0.4408),
            std=(0.2675, 0.2565, 0.2761),
            base="crop4+flip",
            constants="of the CRD and Good-DA-in-KD code bases, with which the public teachers were trained",
            how="Put torchvision's folder cifar-100-python, or the hub's files train-*.parquet and test-*.parquet of "
            "'uoft-cs/cifar100', into a folder and name it with --data FOLDER.",
        ),
        DataCard(
            "tiny-imagenet",
            source="Tiny ImageNet (Stanford CS231n): 100,000 / 10,000 colour images of 200 classes, or a part of them",
            layouts=("tiny_imagenet", "hub_parquet"),
            classes=200,
            channels=3,
            img_size=64,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            base="crop8+flip",
            constants="ImageNet's, as in the Good-DA-in-KD code base",
            how="Get tiny-imagenet-200.zip (http://cs231n.stanford.edu/tiny-imagenet-200.zip, 248 MB) and name it, or "
            "the folder it unpacks to, with --data PATH.",
            partial=True,
        ),
        _IMAGENET_1K,
        replace(
            _IMAGENET_1K,
            name="imagenet100",
            source="100 classes of ImageNet-1K, those of a list: about 128,000 / 5,000 photographs, read batch by batch",
            classes=100,
            how=f"{_IMAGENET} Put the names of the 100 class folders, one a line, into imagenet100.txt beside train/.",
            class_list="imagenet100.txt",
        ),
        DataCard(
            "imagefolder",
            source="your own images, one folder per class",
            layouts=("class_folders",),
            classes=None,
            channels=3,
            img_size=None,
            mean=None,
            std=None,
            base=None,
            constants=_FOUND,
            how="Make folders train/<class>/ and val/<class>/ with PNG, JPEG or WebP files and name the folder that "
            "holds both with --data FOLDER.",
        ),
        DataCard(
            "parquet",
            source="your own images in Parquet, as the hub stores them: image {bytes, path}, label",
            layouts=("hub_parquet",),
            classes=None,
            channels=3,
            img_size=None,
            mean=None,
            std=None,
            base=None,
            constants=_FOUND,
            how="Put train-*.parquet and test-*.parquet into a folder and name it with --data FOLDER.",
        ),
    )
}


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


_ALIASES = {
    **{_folded(name): name for name in _CARDS},
    "tinyimagenet200": "tiny-imagenet",
    "imagefolders": "imagefolder",
    "hubparquet": "parquet",
    "imagenet1k": "imagenet",
    "ilsvrc2012": "imagenet",
}


def names() -> list[str]:
    """All data set names."""
    return list(_CARDS)


def card(name: str) -> DataCard:
    """The card of a data set; hyphens, underscores and capitals do not matter.

    Raises:
        UsageError: No such data set, with the nearest names.
    """
    found = _ALIASES.get(_folded(name))
    if found is None:
        raise unknown("data set", name, _CARDS, hint="`kdstats datasets` lists all.")
    return _CARDS[found]
