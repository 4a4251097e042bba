"""scikit-learn's handwritten digits, the embedded default: 8x8 grey images, no files, no network."""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from kdstats.data.imageset import ImageSet
from kdstats.errors import MissingError

if TYPE_CHECKING:
    from kdstats.data.registry import DataCard

# 20 full batches of 64, so that pools of five batches never straddle an epoch on this set.
TRAIN = 1280
_SPLIT_SEED = 0
_FILE = "datasets/data/digits.csv.gz"  # below scikit-learn's folder
_ROW = 8 * 8 + 1  # pixels, then the class


@dataclass(frozen=True, slots=True)
class _Source:
    """All images as scikit-learn has them; kept for the process, so the arrays cannot be written to.

    Attributes:
        images: Grey levels 0…16, uint8 ``[1797, 8, 8]``.
        labels: Classes, int64 ``[1797]``.
        digest: sha256 of the images.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    digest: str


def load(card: DataCard, split: str) -> ImageSet:
    """The ``split`` of a fixed shuffle of the 1,797 images; ``sample_id`` is scikit-learn's row.

    Raises:
        MissingError: scikit-learn's file is damaged.
    """
    source = _source()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(source.labels))
    rows = order[:TRAIN] if split == "train" else order[TRAIN:]
    # The source has 17 grey levels 0…16; they are spread over 0…255.
    pixels = np.rint(source.images[rows] * (255.0 / 16.0)).astype(np.uint8)
    return ImageSet(
        name=card.name,
        split=split,
        images=torch.from_numpy(pixels[:, None].copy()),
        labels=torch.from_numpy(source.labels[rows]),
        sample_id=torch.from_numpy(rows.astype(np.int64)),
        class_names=tuple(str(c) for c in range(10)),
        mean=card.mean or (),
        std=card.std or (),
        base=card.base or "none",
        digest=source.digest,
    )


@functools.cache
def _source() -> _Source:
    table = _table()
    images, labels = table[:, :-1].astype(np.uint8).reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    images.flags.writeable = labels.flags.writeable = False
    return _Source(images, labels, hashlib.sha256(images.tobytes()).hexdigest())


def _table() -> NDArray[np.float64]:
    """Rows of scikit-learn's table, ``[1797, 65]``: 64 grey levels and the class.

    Read from its file, because importing scikit-learn takes longer than all else; from ``load_digits`` where a
    release keeps the file elsewhere.
    """
    found = importlib.util.find_spec("sklearn")  # finds the folder without importing what is in it
    for folder in (found.submodule_search_locations if found is not None else None) or ():
        file = Path(folder, _FILE)
        if file.is_file():
            return _read(file)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def _read(file: Path) -> NDArray[np.float64]:
    try:
        lines = gzip.decompress(file.read_bytes()).decode("ascii").split()
        if not lines:
            raise ValueError("it is empty")
        table: NDArray[np.float64] = np.loadtxt(lines, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise MissingError(f"{file} is damaged: {error}; install scikit-learn again") from None
    if table.shape[1] != _ROW:
        raise MissingError(
            f"{file} has rows of {table.shape[1]} numbers, not {_ROW}; install scikit-learn again"
        )
    return table
