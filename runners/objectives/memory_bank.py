"""Memory banks of a contrastive loss, and who is drawn from them."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kdstats.errors import CheckError, UsageError

Integers = NDArray[np.int64]


class MemoryBank(nn.Module):
    """One vector per training image, kept as a moving average of its embeddings.

    Args:
        n: Training images.
        dim: Numbers in an embedding.
        momentum: Weight of the old vector in an update.
    """

    vectors: Tensor
    z: Tensor

    def __init__(self, n: int, dim: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        bound = 1 / math.sqrt(dim / 3)
        self.register_buffer("vectors", torch.empty(n, dim).uniform_(-bound, bound))
        self.register_buffer("z", torch.tensor(-1.0))

    def log_scores(self, embeddings: Tensor, columns: Tensor, temperature: float) -> Tensor:
        """``⟨e_i, v_j⟩ / τ − log Z`` for the images j in ``columns[i]``, ``[B, K + 1]``.

        Z is set once, from the first batch: the mean of exp(⟨e, v⟩ / τ) times n; without gradient.
        All n products are taken: for K in the thousands that is less work than to collect K vectors per image.
        """
        scores = (embeddings @ self.vectors.T).gather(1, columns) / temperature
        first = scores.detach().exp().mean() * len(self.vectors)
        z = torch.where(self.z < 0, first, self.z)
        if self.training:
            self.z = z
        return scores - z.log()

    @torch.no_grad()
    def update(self, rows: Tensor, embeddings: Tensor) -> None:
        """``v ← unit(m v + (1 − m) e)`` for the images of the batch; one that is there twice gives its mean.

        The buffer is replaced, not written to, because the backward pass still needs the old one.
        """
        again = (rows[:, None] == rows).float()
        mean = again @ embeddings / again.sum(1, keepdim=True)
        mixed = self.momentum * self.vectors[rows] + (1 - self.momentum) * mean
        self.vectors = self.vectors.index_copy(0, rows, F.normalize(mixed, dim=1))


class Register:
    """The training images: which row of a bank is whose, and who may be a negative of whom.

    Args:
        name: Of the objective, for messages.
        labels: ``[N]`` classes.
        ids: ``[N]`` sample ids; 0…N−1 when None.
    """

    def __init__(self, name: str, labels: Tensor, ids: Tensor | None) -> None:
        self.name = name
        if labels.ndim != 1 or labels.is_floating_point() or not len(labels) or int(labels.min()) < 0:
            raise UsageError(f"{name}: train_labels are [N] classes, not {labels.dtype} {list(labels.shape)}")
        if ids is not None and ids.shape != labels.shape:
            raise UsageError(f"{name}: {len(labels)} train_labels, but {len(ids)} train_ids")
        self._labels = labels.long().cpu().numpy()
        given = np.arange(len(labels)) if ids is None else ids.long().cpu().numpy()
        self._order = np.argsort(given, kind="stable")
        self._ids = given[self._order]
        twice = self._ids[1:][np.diff(self._ids) == 0]
        if len(twice):
            raise UsageError(f"{name}: the sample id {twice[0]} belongs to two training images")
        # Images of one class stand together here, so "of another class" is a shift of the index.
        self._by_class = np.argsort(self._labels, kind="stable")
        self._count = np.bincount(self._labels)
        self._start = np.cumsum(self._count) - self._count
        if int(self._count.max()) == len(labels):
            raise UsageError(f"{name}: all training images are of one class, so there are no negatives")

    def rows(self, ids: Tensor) -> Integers:
        """Rows of the banks for sample ids ``[B]``.

        Raises:
            CheckError: An id that is no training image's.
        """
        wanted = ids.cpu().numpy()
        at = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        strange = wanted[self._ids[at] != wanted]
        if len(strange):
            raise CheckError(
                f"{self.name}: the sample id {strange[0]} is none of the {len(self._ids)} training images"
            )
        return self._order[at]

    def negatives(self, rows: Integers, k: int, draw: np.random.Generator) -> Integers:
        """``[B, k]`` rows of images of other classes, for each image by itself, in no particular order.

        Without replacement, unless fewer than ``k`` images are of other classes.
        """
        out = np.empty((len(rows), k), dtype=np.int64)
        for i, label in enumerate(self._labels[rows]):
            others = len(self._labels) - self._count[label]
            chosen = draw.choice(others, k, replace=k > others, shuffle=False)
            out[i] = self._by_class[chosen + (chosen >= self._start[label]) * self._count[label]]
        return out
