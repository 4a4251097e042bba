"""A scheme that acts with a probability: ``cutmix(p=0.5)``."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.scheme import Scheme


class Sometimes(Scheme):
    """Any scheme, applied with probability ``p`` to the whole batch or to each image, as its draws go.

    What it would draw is drawn in any case, so that the views it makes are those of the base scheme under the
    same key. Where it does not act, the view is the original: λ = 1 and no partner.
    """

    def __init__(self, name: str, base: Scheme, p: float) -> None:
        super().__init__(name, base.draws, base.space)
        if not 0 <= p <= 1:
            raise UsageError(f"{name}: the probability p lies in 0…1, not {p}")
        if base.needs:
            raise UsageError(f"{base.name} chooses among views; give p to the scheme that it picks from")
        if base.history:
            raise UsageError(
                f"{base.name} pastes the batch before; acting only sometimes is not defined for it"
            )
        self.base, self.p = base, p
        self.least, self.mixes = base.least, base.mixes
        self.by_position = base.by_position

    @property
    def blind(self) -> bool:
        """See :attr:`Scheme.blind`."""
        return self.base.blind

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        part = self.base._draw(images, sample_id, gen)
        return Draw(self.name, {"acts": uniforms(self.draws, sample_id, 1, gen)[:, 0] < self.p}, (part,))

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        acts = draw.params["acts"]
        if not bool(acts.any()):
            return images.clone()
        views = self.base._render(images, draw.parts[0])
        if bool(acts.all()):
            return views
        return torch.where(acts.to(images.device).view(-1, 1, 1, 1), views, images)

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        n, acts = len(images), draw.params["acts"]
        index, partner, lam = self.base._pairing(images, draw.parts[0])
        still = torch.arange(n)
        return torch.where(acts, index, still), torch.where(acts, partner, still), torch.where(acts, lam, 1.0)

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {"acts": f"with probability {self.p:g}, one draw per {self.per}", **self.base.rules()}
