"""PatchMix: a random set of small patches taken from another image."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.mixing.mixup import beta_quantile, check_alpha
from kdstats.schemes.mixing.partners import batch_partners, check_rule, in_words, sample_partners
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace


class PatchMix(Scheme):
    """patchmix (Good-DA-in-KD, ``mix_mode patchmix``): patches of 4×4 pixels replaced by the partner's.

    A share s ~ Beta(1, 1) is drawn and ``int(s · patches)`` random patches are replaced: there the drawn number
    is the *replaced* share, here λ is, as everywhere, the share that stays, counted in pixels. One set of
    patches per batch as published; the partner is another image. Where the image is not a multiple of the patch
    size, the last patches are smaller.
    """

    mixes = True

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        alpha: float = 1.0,
        patch: int = 4,
        partner: str = "derangement",
    ) -> None:
        super().__init__(name, draws, space)
        self.alpha = check_alpha(name, alpha)
        check_rule(name, partner, draws)
        if patch < 1:
            raise UsageError(f"{name}: the side of a patch is a number of pixels, not {patch}")
        self.patch, self.partner = patch, partner
        self.least = 2 if partner == "derangement" else 1

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        n, _, h, w = images.shape
        down, across = (-(-side // self.patch) for side in (h, w))
        patches = down * across
        if self.draws == "batch":
            u = uniforms("batch", sample_id, 1 + patches, gen)
            partner = batch_partners(self.partner, n, gen)
        else:
            u = uniforms("sample", sample_id, 3 + patches, gen)
            partner = sample_partners(self.partner, u[:, -1], u[:, -2])
        count = torch.floor(beta_quantile(u[:, 0], self.alpha) * patches).long()
        rank = u[:, 1 : 1 + patches].argsort(dim=1).argsort(dim=1)
        replaced = (rank < count[:, None]).view(-1, down, across)
        kept = 1 - self._pixels(replaced, h, w).float().mean((1, 2))
        return Draw(self.name, {"partner": partner, "replaced": replaced, "lam": kept})

    def _pixels(self, cells: Tensor, height: int, width: int) -> Tensor:
        rows, columns = (torch.arange(n, device=cells.device) // self.patch for n in (height, width))
        return cells[:, rows][:, :, columns]

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        mask = self._pixels(draw.params["replaced"].to(images.device), *images.shape[2:])[:, None]
        other = images.index_select(0, draw.params["partner"].to(images.device))
        return torch.lerp(images, other, mask.to(images.dtype))  # see boxes.paste

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        n = len(images)
        return torch.arange(n), draw.params["partner"], draw.params["lam"].expand(n)

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {
            "λ": f"1 − replaced pixels / all; int(s · patches) patches replaced, s ~ Beta({self.alpha:g}, "
            f"{self.alpha:g}), one set per {self.per}",
            "box": f"patches of {self.patch}x{self.patch} pixels",
            "partner": in_words(self.partner, self.draws),
            "space": "normalised floats",
        }
