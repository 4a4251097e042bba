"""One objective on one batch: loss, parts, losses of the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """One objective on one batch.

    Attributes:
        loss: Scalar float32 with gradient, the sum of the parts.
        parts: Terms that it is the sum of, scalars without gradient, for the log.
        per_image: ``[B]`` with gradient, its mean is the loss; None where the loss is not a mean over images.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    per_image: Tensor | None


def summed(values: Iterable[Tensor]) -> Tensor:
    """The sum of tensors in their order, without a leading zero that would change no bit but costs a kernel."""
    first, *rest = values
    out: Tensor = first
    for value in rest:
        out = out + value
    return out
