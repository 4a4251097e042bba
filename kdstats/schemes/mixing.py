"""mixup and CutMix: views made of two images of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.erasing import box_mask, clipped_box
from kdstats.schemes.keys import integers, uniforms
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace


def beta_quantile(u: Tensor, alpha: float) -> Tensor:
    """Beta(alpha, alpha) numbers from uniforms, by the quantile function; alpha = 1 is the uniform itself."""
    if alpha == 1.0:
        return u
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, u.numpy()))


def derangement(n: int, gen: torch.Generator) -> Tensor:
    """A uniform permutation of n ≥ 2 positions without a fixed point, by rejection (e tries on average)."""
    still = torch.arange(n)
    while True:
        order = torch.randperm(n, generator=gen)
        if not bool((order == still).any()):
            return order


def cycle(u: Tensor) -> Tensor:
    """Partners by a random cyclic order: everyone's partner is the next in the order of ``u``.

    Never a fixed point for two or more, each partner uniform over the others, and a function of the ids in
    the batch alone.
    """
    order = torch.argsort(u)
    partner = torch.empty_like(order)
    partner[order] = order.roll(-1)
    return partner


class _Mix(Scheme):
    """What mixup and CutMix share: λ ~ Beta(α, α) and the partner."""

    def __init__(
        self, name: str, draws: str = "batch", space: PixelSpace | None = None, *, alpha: float = 1.0
    ) -> None:
        super().__init__(name, draws, space)
        if not alpha > 0:
            raise UsageError(f"{name}: alpha of the Beta distribution is positive, not {alpha}")
        self.alpha = alpha


class Mixup(_Mix):
    """mixup (Zhang et al. 2018): ``λ x + (1 − λ) x[partner]``.

    As in Wang et al. 2022: α = 1, one λ and one permutation per batch, fixed points allowed. With per-sample
    draws the partner is another image (see :func:`cycle`), or the image itself in a batch of one.
    """

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 2, gen)
        partner = torch.randperm(len(images), generator=gen) if self.draws == "batch" else cycle(u[:, 1])
        return Draw(self.name, {"partner": partner, "lam": beta_quantile(u[:, 0], self.alpha).float()})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        lam = draw.params["lam"].to(images).view(-1, 1, 1, 1)
        return lam * images + (1 - lam) * images[draw.params["partner"].to(images.device)]

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        n = len(images)
        return torch.arange(n), draw.params["partner"], draw.params["lam"].expand(n)


class CutMix(_Mix):
    """CutMix (Yun et al. 2019): a box of the partner pasted into the image.

    As in Wang et al. 2022 and the authors' code: λ ~ Beta(1, 1); box sides ``int(W √(1 − λ))``,
    ``int(H √(1 − λ))``; uniform centre; half sizes rounded down; clipped at the borders; λ recomputed from the
    clipped box. The partner is never the image itself.
    """

    least = 2

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        n, _, h, w = images.shape
        u = uniforms(self.draws, sample_id, 4, gen)
        side = torch.sqrt(1 - beta_quantile(u[:, 0], self.alpha))
        cut_h, cut_w = (h * side).long(), (w * side).long()
        box = clipped_box(integers(u[:, 1], 0, h - 1), integers(u[:, 2], 0, w - 1), cut_h, cut_w, h, w)
        area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
        partner = derangement(n, gen) if self.draws == "batch" else cycle(u[:, 3])
        return Draw(self.name, {"partner": partner, "box": box, "lam": 1 - area.float() / (h * w)})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        box, partner = draw.params["box"], draw.params["partner"].to(images.device)
        if len(box) == 1:
            top, bottom, left, right = box[0].tolist()
            out = images.clone()
            out[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
            return out
        return torch.where(box_mask(box.to(images.device), *images.shape[2:]), images[partner], images)

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        n = len(images)
        return torch.arange(n), draw.params["partner"], draw.params["lam"].expand(n)
