"""Schemes one after the other: ``crop_flip+cutout``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.scheme import Networks, Scheme


class Composition(Scheme):
    """Schemes applied in written order, each to the views of the one before.

    A part that mixes images, or picks views, comes last: a crop or a hole after it would remove pixels of the
    two images in unknown shares, and λ could no longer be what it says. Schemes with a history do not compose,
    because their history holds views of the whole.
    """

    def __init__(self, name: str, parts: Sequence[Scheme]) -> None:
        super().__init__(name, parts[0].draws, parts[0].space)
        for part in parts:
            if part.draws != self.draws:
                raise UsageError(
                    f"{name}: {part.name} draws per {part.draws}, {parts[0].name} per {self.draws}"
                )
            if part.history:
                raise UsageError(f"{name}: {part.name} pastes whole earlier views and cannot be a part")
        mixing = [part.name for part in parts if part.mixes]
        if len(mixing) > 1:
            raise UsageError(
                f"{name}: {' and '.join(mixing)} both mix images, and records keep one partner per view; leave one out"
            )
        for part in parts[:-1]:
            if part.mixes or part.needs:
                rest = "+".join(p.name for p in parts if p is not part)
                raise UsageError(
                    f"{name}: {part.name} must come last, because what follows it would change the shares that "
                    f"λ states; write {rest}+{part.name}"
                )
        self.parts = tuple(parts)
        self.needs = frozenset().union(*(part.needs for part in parts))
        self.least = max(part.least for part in parts)
        self.mixes = parts[-1].mixes
        self.by_position = any(part.by_position for part in parts)

    @property
    def blind(self) -> bool:
        """See :attr:`Scheme.blind`."""
        return all(part.blind for part in self.parts)

    @property
    def shares_by_draw(self) -> bool:
        """See :attr:`Scheme.shares_by_draw`; only the last part mixes."""
        return self.parts[-1].shares_by_draw

    def shares(self, images: Tensor, draw: Draw) -> Tensor:
        """See :meth:`Scheme.shares`."""
        return self.parts[-1].shares(images, draw.parts[-1])

    def _draw_unseen(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        return Draw(self.name, parts=tuple(part._draw_unseen(images, sample_id, gen) for part in self.parts))

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        return Draw(self.name, parts=tuple(part._draw(images, sample_id, gen) for part in self.parts))

    def _make(
        self, images: Tensor, ids: Tensor, gen: torch.Generator, networks: Networks
    ) -> tuple[Draw, Tensor]:
        drawn = []
        for part in self.parts:
            draw, images = part._make(images, ids, gen, networks)
            drawn.append(draw)
        return Draw(self.name, parts=tuple(drawn)), images

    def _answers(self, draw: Draw) -> Tensor | None:
        return self.parts[-1]._answers(draw.parts[-1])

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        for part, drawn in zip(self.parts, draw.parts, strict=True):
            images = part._render(images, drawn)
        return images

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        n = len(images)
        index = partner = torch.arange(n)
        lam = torch.ones(n)
        for part, drawn in zip(self.parts, draw.parts, strict=True):
            # Only the last part mixes, so up to here a view has one source and λ = 1.
            own, other, lam = part._pairing(images, drawn)
            index, partner = index[own], index[other]
        return index, partner, lam

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {f"{part.name}: {key}": text for part in self.parts for key, text in part.rules().items()}
