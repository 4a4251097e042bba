"""Rows of ``samples`` as a table image x epoch x view, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import UsageError
from kdstats.estimators.crossed import Crossed

MOST_CELLS = 1 << 20
"""Images x epochs kept at most, about; of more one image in q is taken, by a hash of its id."""

LEAST_SHARE = 0.8
"""Of the images must be complete; those that picking happens to keep once in every epoch are no sample of all."""

_DENSE = 1 << 23  # ids below this are looked up in an array
_HASH = np.uint64(0x9E3779B97F4A7C15)


class ImageTable:
    """Collects one column by identity: ``add`` chunks epoch by epoch, then ``layout``.

    The images are those of the first epoch. One that is missing, or there twice, in any epoch or view is left out.

    Attributes:
        thinning: Every how-many-th image is kept.
    """

    def __init__(self, rows: int, epochs: Sequence[int], views: int) -> None:
        self._epochs, self._views = list(epochs), views
        self.thinning = max(1, -(-rows // (views * MOST_CELLS)))
        self._first: list[tuple[NDArray[Any], ...]] = []
        self._ids: NDArray[np.int64] | None = None
        self._at = -1

    def add(self, epoch: int, ids: Any, view: Any, step: Any, values: Any) -> None:
        """Rows ``[r]`` of one epoch; all rows of an epoch come before those of the next."""
        if self.thinning > 1:
            hashed = np.ascontiguousarray(ids, np.int64).view(np.uint64) * _HASH
            keep = np.flatnonzero(hashed < np.uint64((1 << 64) // self.thinning))
            ids, view, step, values = ids[keep], view[keep], step[keep], values[keep]
        at = self._epochs.index(epoch)
        if at == 0:
            self._first.append((ids, view, step, values))
            self._at = 0
            return
        if self._ids is None:
            self._begin()
        if at != self._at:
            self._close()
            self._at = at
        self._put(ids, view, step, values)

    def _begin(self) -> None:
        ids, view, step, values = (np.concatenate(parts) for parts in zip(*self._first, strict=True))
        self._first = []
        self._ids = np.unique(ids)
        n, top = len(self._ids), int(self._ids[-1])
        self._where: NDArray[np.int32] | None = None
        if top < _DENSE:
            self._where = np.full(top + 1, -1, dtype=np.int32)
            self._where[self._ids] = np.arange(n, dtype=np.int32)
        self._values = np.zeros((len(self._epochs), self._views, n), dtype=values.dtype)
        self._batch = np.zeros((len(self._epochs), n), dtype=np.int32)
        self._counts = np.zeros((self._views, n), dtype=np.int32)
        self._whole = np.ones(n, dtype=bool)
        self._put(ids, view, step, values)

    def _index(self, ids: NDArray[Any]) -> NDArray[np.intp]:
        """Places of ids, −1 for images that the first epoch did not have."""
        known = self._ids if self._ids is not None else np.empty(0, np.int64)
        if self._where is not None:
            inside = ids < len(self._where)
            if inside.all():
                return np.asarray(self._where[ids])
            return np.where(inside, self._where[np.where(inside, ids, 0)], -1)
        place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[place] == ids, place, -1)

    def _put(self, ids: Any, view: Any, step: Any, values: Any) -> None:
        index = self._index(ids)
        known = index >= 0
        if not known.all():
            index, view, step, values = index[known], view[known], step[known], values[known]
        for v in range(self._views):
            mine = view == v
            at = index[mine]
            self._values[self._at, v, at] = values[mine]
            self._counts[v] += np.bincount(at, minlength=len(self._whole)).astype(np.int32)
            if v == 0:
                self._batch[self._at, at] = step[mine]
            else:
                # Rows come step by step, originals first: a view whose original stands in another step has no batch.
                self._whole[at[self._batch[self._at, at] != step[mine]]] = False

    def _close(self) -> None:
        self._whole &= (self._counts == 1).all(axis=0)
        self._counts[:] = 0

    def layout(self, epochs: Sequence[int] | None = None) -> Crossed:
        """The balanced table, of all or of some of the epochs.

        Raises:
            UsageError: Fewer than 10 complete images, fewer than 80 % of all, or each appears once.
        """
        if self._ids is None and self._first:
            self._begin()
        if self._counts.any():
            self._close()
        share = float(self._whole.mean())
        if share < LEAST_SHARE:
            raise UsageError(
                f"{share:.0%} of {len(self._whole):,} images appear once per epoch and view; these would be no sample of "
                "all (schemes that pick views keep some images twice)"
            )
        at = slice(None) if epochs is None else [self._epochs.index(e) for e in epochs]
        values = self._values[at][:, :, self._whole].transpose(2, 0, 1)
        batch = self._batch[at][:, self._whole].T
        return Crossed(values, np.ascontiguousarray(batch, np.int64), int((~self._whole).sum()))
