"""One folder per class: ``train/<class>/*.png`` and ``val/<class>/*.png`` (or ``test/``, ``validation/``, ``valid/``)."""

from __future__ import annotations

from pathlib import Path

from kdstats.data.sources.class_tree import ENDINGS, find
from kdstats.data.sources.labelled_files import listing_key, read_listing
from kdstats.data.sources.layout import Opened, Wanted
from kdstats.data.sources.trees import Folder


class ClassFolders:
    """Classes and, within a class, files in the order of their names; ``sample_id`` is the position.

    Class folders that are named by numbers are in the order of the numbers where the data set numbers its classes
    (CIFAR); anyone's own folders are in the order of the text, as torchvision's ``ImageFolder`` has them.
    """

    def looks_for(self, name: str) -> str:
        del name
        return f"train/<class>/ and val/<class>/ (or test/) with {ENDINGS}"

    def fits(self, path: Path, name: str) -> bool:
        del name
        return (path / "train").is_dir()

    def open(self, path: Path, wanted: Wanted) -> Opened:
        tree = Folder(path)
        listing = find(tree, wanted)
        return Opened(listing_key(tree, listing), lambda: read_listing(tree, listing, wanted))
