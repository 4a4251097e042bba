"""scikit-learn's handwritten digits, the embedded default: 8x8 grey images, no files, no network."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdstats.data.imageset import ImageSet

if TYPE_CHECKING:
    from kdstats.data.registry import DataCard

# 20 full batches of 64, so that pools of five batches never straddle an epoch on this set.
TRAIN = 1280
_SPLIT_SEED = 0


def load(card: DataCard, split: str) -> ImageSet:
    """The ``split`` of a fixed shuffle of the 1,797 images; ``sample_id`` is scikit-learn's row."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(bunch.target))
    rows = order[:TRAIN] if split == "train" else order[TRAIN:]
    # The source has 17 grey levels 0…16; they are spread over 0…255.
    pixels = np.rint(bunch.images[rows] * (255.0 / 16.0)).astype(np.uint8)
    return ImageSet(
        name=card.name,
        split=split,
        images=torch.from_numpy(pixels[:, None].copy()),
        labels=torch.from_numpy(bunch.target[rows].astype(np.int64)),
        sample_id=torch.from_numpy(rows.astype(np.int64)),
        class_names=tuple(str(c) for c in range(10)),
        mean=card.mean or (),
        std=card.std or (),
        base=card.base or "none",
        digest=hashlib.sha256(bunch.images.astype(np.uint8).tobytes()).hexdigest(),
    )
