"""What the schemes that work on uint8 pixels have in common: the way there and back, and how they say so."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from kdstats.errors import UsageError, unknown
from kdstats.schemes.batch import Draw
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import QUANTISE, PixelSpace, in_words


class OnPixels(Scheme):
    """A scheme made of :mod:`~kdstats.schemes.policy.operations`; subclasses draw, and change uint8 images.

    Attributes:
        quantise: How normalised images become uint8, see :meth:`PixelSpace.to_uint8`.

    Raises:
        UsageError: No such way.
    """

    def __init__(self, name: str, draws: str, space: PixelSpace | None, quantise: str) -> None:
        super().__init__(name, draws, space)
        if quantise not in QUANTISE:
            raise unknown("way through uint8", quantise, QUANTISE)
        self.quantise = quantise

    @abstractmethod
    def _change(self, pixels: Tensor, draw: Draw) -> Tensor:
        """uint8 images ``[B, 1 or 3, H, W]`` → their views, likewise; must not write to ``pixels``."""

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        if images.shape[1] not in (1, 3):
            raise UsageError(f"{self.name} takes grey or colour images, not {images.shape[1]} channels")
        pixels = self.space.to_uint8(images, self.quantise)
        return self.space.from_uint8(self._change(pixels, draw), images.dtype)

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {"fill": "black outside the moved image", "space": in_words(self.quantise)}
