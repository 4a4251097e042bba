"""Finds a data set's files, tells their layout, and reads one split through the cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kdstats.data import digits
from kdstats.data.cache import Entry, cached, cached_facts
from kdstats.data.class_lists import read_lines
from kdstats.data.imageset import ImageSet
from kdstats.data.labelled import LabelledImages
from kdstats.data.messages import printable
from kdstats.data.moments import channel_moments
from kdstats.data.registry import DataCard, card
from kdstats.data.shelf import entry_name
from kdstats.data.sources import LAYOUTS, Layout, Opened, Wanted
from kdstats.data.sources.class_tree import find
from kdstats.data.sources.decoding import resize_all
from kdstats.data.sources.pixels import check_img_size
from kdstats.data.sources.trees import ARCHIVES, Folder
from kdstats.data.stream import ImageStream
from kdstats.data.subsets import resized_digest
from kdstats.errors import KdstatsError, MissingError, UsageError, unknown

# Part of every key of the cache: raised when the same files would be decoded to something else.
_FORMAT = 3


def load(
    name: str, split: str = "train", path: str | Path | None = None, img_size: int | None = None
) -> LabelledImages:
    """Reads one split of a data set: into memory as uint8, or as a stream where it is a large one (ImageNet).

    Args:
        name: See :func:`kdstats.data.names`; hyphens, underscores and capitals do not matter.
        split: ``train`` or ``test`` (the source may call it validation).
        path: The folder or archive that holds the files, for sets that are not embedded; None looks below
            ``KDSTATS_DATA``.
        img_size: Brings every image to this height and width: shorter side first, antialiased, then the centre.

    Raises:
        UsageError: Unknown data set or split, a path for an embedded set, no path where one is needed, a senseless
            size.
        MissingError: The files are absent, damaged or not what they should be.
    """
    if split not in ("train", "test"):
        raise unknown("split", split, ("train", "test"))
    found = card(name)
    size = check_img_size(img_size)
    if not found.needs_path:
        if path is not None:
            raise UsageError(
                f"{found.name} is embedded and reads no files; leave out --data or name another --dataset"
            )
        return _resized(digits.load(found, split), size)
    try:
        where = _place(found, None if path is None else Path(path))
        if found.streams:
            _layout(found, where)  # names what is missing
            return _streamed(found, split, where, size or found.img_size or 224)
        return _from_files(found, _layout(found, where), split, where, size)
    except KdstatsError:
        raise
    except OSError as error:
        raise MissingError(
            f"{printable(error.filename or path or found.name)} cannot be read: {error.strerror or error}"
        ) from None


def _place(found: DataCard, path: Path | None) -> Path:
    """Where the files should be; raises when there is nothing."""
    if path is None:
        root = os.environ.get("KDSTATS_DATA")
        if root is None:
            raise UsageError(
                f"{found.name} is read from files: name their folder with --data FOLDER, in a study file with "
                f"data = 'FOLDER' under [study]. {found.how}"
            )
        path = Path(root) / found.name
        # The folder may also hold the sets under their own names, as torchvision unpacks them.
        own = [LAYOUTS[name] for name in found.layouts if name in ("cifar_python", "tiny_imagenet")]
        if not path.exists() and any(layout.fits(Path(root), found.name) for layout in own):
            return Path(root)
    if not path.exists():
        raise MissingError(f"no folder {printable(path.absolute())}. {found.how}")
    return path


def _layout(found: DataCard, path: Path) -> Layout:
    """The one layout of the data set that fits ``path``."""
    layouts = [LAYOUTS[name] for name in found.layouts]
    fitting = [layout for layout in layouts if layout.fits(path, found.name)]
    if len(fitting) == 1:
        return fitting[0]
    where = printable(path.absolute())
    if fitting:
        both = " and also ".join(layout.looks_for(found.name) for layout in fitting)
        raise MissingError(f"{where} holds {both}; name a folder with one of them, or move the other away")
    sought = "; or ".join(layout.looks_for(found.name) for layout in layouts)
    raise MissingError(f"no {found.name} in {where}{_instead(path)}; looked for {sought}. {found.how}")


def _instead(path: Path) -> str:
    """What is there instead, where that helps."""
    if not path.is_dir():
        return ", which is a file"
    inside = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    archives = [name for name in inside if name.lower().endswith(ARCHIVES)]
    if not inside:
        return ", which is empty"
    if archives:
        return f", which holds the archive {archives[0]} (unpack it)"
    folders = [name for name in inside if (path / name).is_dir()]
    if folders and "train" not in folders:
        return f", which holds {', '.join(folders[:3])}{', …' if len(folders) > 3 else ''} but no train/ and val/"
    return ""


@dataclass(frozen=True)
class _Constants:
    """What a set without a card's constants takes from its training images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    img_size: int


def _from_files(found: DataCard, layout: Layout, split: str, path: Path, size: int | None) -> ImageSet:
    constants = None
    if found.mean is None and split == "test":
        constants = _training_constants(found, layout, path, size)
    wanted = _wanted(found, split, size, constants)
    opened = layout.open(path, wanted)
    entry = cached(
        entry_name(found.name, split, size),
        _key(wanted, opened),
        lambda: _decoded(opened, found, split, size),
    )
    facts = entry.facts
    mean, std = found.mean, found.std
    if mean is None or std is None:
        known = constants or _Constants(tuple(facts["mean"]), tuple(facts["std"]), 0)
        mean, std = known.mean, known.std
    images = torch.from_numpy(entry.images)
    return ImageSet(
        name=found.name,
        split=split,
        images=images,
        labels=torch.from_numpy(entry.labels),
        sample_id=torch.arange(len(images)),
        class_names=tuple(facts["class_names"]),
        class_ids=tuple(facts["class_ids"]),
        mean=mean,
        std=std,
        base=_base(found.base, int(images.shape[2]), found.img_size),
        digest=facts["digest"],
        notes=tuple(facts["notes"]),
    )


def _streamed(found: DataCard, split: str, path: Path, size: int) -> ImageStream:
    """A listed split; the side before the centre cut keeps its proportion to the card's image size."""
    tree = Folder(path)
    only = None if found.class_list is None else _class_list(found, path)
    wanted = Wanted(
        found.name, split, None if only else found.classes, how=found.how, only=only, ordered=True
    )
    listing = find(tree, wanted)
    usual, shorter = found.img_size or size, found.shorter or size
    return ImageStream.of(
        tree,
        listing,
        name=found.name,
        split=split,
        mean=found.mean or (),
        std=found.std or (),
        base=found.base or "none",
        size=size,
        shorter=round(size * shorter / usual),
    )


def _class_list(found: DataCard, path: Path) -> tuple[str, ...] | None:
    """The classes named in the list beside the images; None where the folder holds just these classes.

    Raises:
        MissingError: No list and other classes than wanted, or a list of another length or with a repeated name.
    """
    file = path / str(found.class_list)
    there = Folder(path / "train").folders("")
    if not file.exists():
        if len(there) == found.classes:
            return None
        raise MissingError(
            f"{printable(file)} is missing and {printable(path / 'train')} holds {len(there)} class folders; "
            f"{found.how}"
        )
    known = frozenset(there)
    read = [(line, line.reading(known)) for line in read_lines(file)]
    # What is no folder stays as it stands, so that it is named when it is looked for.
    named = [reading or line.named for line, reading in read if reading or line.named]
    if len(named) != found.classes or len(set(named)) != len(named):
        raise MissingError(
            f"{printable(file)} names {len(set(named))} different classes in {len(named)} lines; {found.name} has "
            f"{found.classes}"
        )
    return tuple(named)


def _wanted(found: DataCard, split: str, size: int | None, constants: _Constants | None) -> Wanted:
    native, why = found.img_size, ""
    if constants is not None and size is None:
        native, why = constants.img_size, " as the training images; --img-size N resizes all of them to NxN"
    return Wanted(
        name=found.name,
        split=split,
        classes=None if found.partial else found.classes,
        native=native,
        why_native=why,
        resize=size,
        how=found.how,
        ordered=found.classes is not None,
    )


def _key(wanted: Wanted, opened: Opened) -> str:
    asked = {**asdict(wanted), "how": "", "why_native": ""}  # words for people
    return hashlib.sha256(json.dumps([_FORMAT, asked, opened.key]).encode()).hexdigest()


def _decoded(opened: Opened, found: DataCard, split: str, size: int | None) -> Entry:
    content = opened.read()
    facts: dict[str, Any] = {
        "class_names": content.class_names,
        "class_ids": content.class_ids,
        "digest": content.digest,
        "notes": list(content.notes),
        "img_size": int(content.images.shape[2]),
    }
    if size is not None and content.resized:
        facts["digest"] = resized_digest(content.digest, size)
        facts["notes"].append(f"resized to {size}x{size}")
    if found.partial and found.classes not in (None, len(content.class_names)):
        facts["notes"].append(f"{len(content.class_names)} of the full set's {found.classes} classes")
    if found.mean is None and split == "train":
        facts["mean"], facts["std"] = channel_moments(content.images)
    return Entry(content.images, content.labels, facts)


def _training_constants(found: DataCard, layout: Layout, path: Path, size: int | None) -> _Constants:
    """Of the cached training images, which are read if they are not there yet."""
    wanted = _wanted(found, "train", size, None)
    opened = layout.open(path, wanted)
    facts = cached_facts(entry_name(found.name, "train", size), _key(wanted, opened))
    if facts is not None:
        return _Constants(tuple(facts["mean"]), tuple(facts["std"]), int(facts["img_size"]))
    train = _from_files(found, layout, "train", path, size)
    return _Constants(train.mean, train.std, train.img_size)


def _base(named: str | None, size: int, usual: int | None) -> str:
    """The card's standard augmentation; at another size than the card's, crops of an eighth, the field's rule."""
    if named is not None and size == usual:
        return named
    form = named or "crop4+flip"
    if size >= 8:
        return re.sub(r"crop[0-9]+", f"crop{size // 8}", form)
    return "flip" if "flip" in form else "none"


def _resized(images: ImageSet, size: int | None) -> ImageSet:
    """An embedded set at another size."""
    if size is None or size == images.img_size:
        return images
    pixels = resize_all(images.images.numpy(), size)
    return replace(
        images,
        images=torch.from_numpy(pixels),
        base=_base(images.base, size, images.img_size),
        digest=resized_digest(images.digest, size),
        notes=(*images.notes, f"resized to {size}x{size}"),
    )
