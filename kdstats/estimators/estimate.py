"""The one shape in which a number leaves the statistics rooms: value, uncertainty, origin."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: The estimate, in the unit of the quantity (probability, nats, nats squared …); never rounded.
        se: Standard error, same unit; ``nan`` only where ``low`` and ``high`` are given by another method.
        low: Lower end of the interval at ``confidence``.
        high: Upper end.
        n: Number of independent units behind it (pools, batches, observations, points).
        method: How value and interval were formed, in words that can stand in a caption.
        confidence: Nominal coverage of the interval, a fraction.
        definition: What exactly was measured; two estimates may be compared only when these agree.
        notes: Warnings that must stay with the number.
    """

    value: float
    se: float
    low: float
    high: float
    n: int
    method: str
    confidence: float = 0.95
    definition: str = ""
    notes: tuple[str, ...] = field(default=())

    def __float__(self) -> float:
        return self.value

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary, ready for JSON."""
        out = asdict(self)
        out["notes"] = list(self.notes)
        return out
