"""Images that are files of a tree, one label each: their digest, and their decoding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kdstats.data.sources.decoding import Decoder, threads
from kdstats.data.sources.layout import Content, Wanted
from kdstats.data.sources.trees import Tree

_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Item:
    """One image.

    Attributes:
        file: Its name in the tree.
        label: Class index.
        name: ``class/file``: what it is called whatever the layout, so that one data set has one digest.
    """

    file: str
    label: int
    name: str


@dataclass(frozen=True)
class Listing:
    """One split's images in their stated order, with the names of the classes.

    Attributes:
        items: In the order of the sample ids.
        class_names: C names.
        notes: For the user.
        class_ids: Second names of the classes; empty where there are none.
    """

    items: Sequence[Item]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()


def listing_key(tree: Tree, listing: Listing) -> str:
    """sha256 over names, labels and contents of everything listed, hashed by threads."""

    def chunk(first: int) -> list[str]:
        return [_sum(tree.read(item.file)) for item in listing.items[first : first + _CHUNK]]

    with ThreadPoolExecutor(max_workers=threads()) as pool:
        sums = [s for part in pool.map(chunk, range(0, len(listing.items), _CHUNK)) for s in part]
    files = "\0".join(item.file for item in listing.items)
    rest = "\0".join([*listing.class_names, "", *listing.class_ids, "", *listing.notes])
    return _sum("\0".join([_digest(listing.items, sums), _sum(files.encode()), rest]).encode())


def read_listing(tree: Tree, listing: Listing, wanted: Wanted) -> Content:
    """Decodes a listing; hashing and decoding share one reading of each file.

    Raises:
        MissingError: The first file that cannot be read or decoded, or is of another size than it should be.
    """
    items = listing.items
    sums = [""] * len(items)

    def blob(i: int) -> bytes:
        data = tree.read(items[i].file)
        sums[i] = _sum(data)
        return data

    with Decoder(len(items), wanted) as decoder:
        decoder.add(0, len(items), blob, lambda i: tree.where(items[i].file))
        return Content(
            images=decoder.images,
            labels=np.array([item.label for item in items], dtype=np.int64),
            class_names=listing.class_names,
            digest=_digest(items, sums),
            resized=decoder.resized,
            notes=listing.notes,
            class_ids=listing.class_ids,
        )


def _digest(items: Sequence[Item], sums: Sequence[str]) -> str:
    sha = hashlib.sha256()
    for item, content in zip(items, sums, strict=True):
        sha.update(f"{item.name}\0{item.label}\0{content}\n".encode())
    return sha.hexdigest()


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
