"""How a student's probability of every image's own class went over the epochs: learnt, forgotten, never learnt."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdstats.errors import CheckError

LEARNT = 0.5  # a probability above it makes the class the likeliest for certain
Floats = NDArray[np.float64]


@dataclass
class Dynamics:
    """Sums over the epochs of one run, by sample id: memory grows with the images, not with the epochs.

    Attributes:
        seen: Epochs in which the image was recorded.
        mean: Running mean of its probabilities.
        squares: Sum of squared deviations from the running mean (Welford 1962).
        learnt: Epochs in which p > ½.
        events: Times it was learnt and not at the next epoch seen.
        before: Whether it was learnt when last seen.
        label: Its class; −1 where never seen.
    """

    seen: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    mean: Floats = field(default_factory=lambda: np.zeros(0))
    squares: Floats = field(default_factory=lambda: np.zeros(0))
    learnt: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    events: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    before: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    label: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, ids: NDArray[np.int64], p: Floats, labels: NDArray[np.int64]) -> None:
        """Some images of one epoch, each once and in order of epochs.

        Raises:
            CheckError: An image has another label than before.
        """
        self._grow(int(ids.max()) + 1 if len(ids) else 0)
        changed = (self.label[ids] >= 0) & (self.label[ids] != labels)
        if changed.any():
            raise CheckError(f"sample {int(ids[changed][0])} has another label than before")
        self.seen[ids] += 1
        gap = p - self.mean[ids]
        self.mean[ids] += gap / self.seen[ids]
        self.squares[ids] += gap * (p - self.mean[ids])
        now = p > LEARNT
        self.learnt[ids] += now
        self.events[ids] += self.before[ids] & ~now
        self.before[ids] = now
        self.label[ids] = labels

    def frame(self) -> pd.DataFrame:
        """A row per image: ``sample_id, label, confidence, variability, correctness, forgetting, never_learnt``."""
        ids = np.flatnonzero(self.seen)
        n = self.seen[ids]
        return pd.DataFrame(
            {
                "sample_id": ids,
                "label": self.label[ids],
                "confidence": self.mean[ids],
                "variability": np.sqrt(self.squares[ids] / n),
                "correctness": self.learnt[ids] / n,
                "forgetting": self.events[ids],
                "never_learnt": self.learnt[ids] == 0,
            }
        )

    def _grow(self, size: int) -> None:
        more = size - len(self.seen)
        if more <= 0:
            return
        for name in ("seen", "mean", "squares", "learnt", "events", "before", "label"):
            old = getattr(self, name)
            fill = -1 if name == "label" else 0
            setattr(self, name, np.concatenate([old, np.full(more, fill, old.dtype)]))
