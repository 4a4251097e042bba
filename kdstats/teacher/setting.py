"""How a probe measures: the definition that travels with every value, and the stopping rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdstats.estimators.layout import PoolLayout


@dataclass(frozen=True, slots=True)
class Setting:
    """How a probe measures: everything that belongs to the definition of its values, and the stopping rule."""

    protocol: str
    batch_size: int
    batches_per_pool: int
    epochs: int
    base: str
    draws: str
    seed: int
    confidence: float
    tol: float
    layout: PoolLayout

    @property
    def pool_images(self) -> int:
        """Originals of a full pool."""
        return self.batch_size * self.batches_per_pool

    def definition(self) -> dict[str, Any]:
        """The definition that travels with every value."""
        return {
            "metric": "t_stddev",
            "protocol": self.protocol,
            "batch_size": self.batch_size,
            "batches_per_pool": self.batches_per_pool,
            "epochs": self.epochs,
            "views": "original+augmented",
            "base": self.base,
            "temperature": 1.0,
            "ddof": 1,
            "draws": self.draws,
        }

    def label(self, views: int) -> str:
        """The definition in one line, for ``views`` views a batch; how it was estimated is left out."""
        batch = f"{self.batch_size}x2" if views == self.batch_size else f"({self.batch_size}+{views})"
        return (
            f"t_stddev[pool={self.batches_per_pool}x{batch};epochs={self.epochs};T=1;ddof=1;"
            f"draws={self.draws};base={self.base}]"
        )
