"""CutMix: a box of another image pasted into each image."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError, unknown
from kdstats.schemes.batch import Draw
from kdstats.schemes.boxes import BOXES, boxes, kept_share, paste
from kdstats.schemes.mixing.mixup import beta_quantile, check_alpha, lam_rule
from kdstats.schemes.mixing.partners import batch_partners, check_rule, in_words, sample_partners
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace

CENTRES = ("draw", "image")


class CutMix(Scheme):
    """CutMix (Yun et al. 2019): a box of the partner pasted into the image.

    As in Wang et al. 2022: λ ~ Beta(1, 1); box sides ``int(W √(1 − λ))``, ``int(H √(1 − λ))``; uniform centre;
    half sizes rounded down; clipped at the borders; λ recomputed from the clipped box; the partner is never the
    image itself. The other published rules are parameters, and presets name their combinations: ``box`` (see
    :data:`kdstats.schemes.boxes.BOXES`), ``partner`` (see :data:`kdstats.schemes.mixing.partners.PARTNERS`),
    ``centres="image"`` for one box size per batch at a place of its own in each image, and ``centre_from``, the
    share of the width and height below which no such centre falls (both Dual Teacher).
    """

    mixes = True

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        alpha: float = 1.0,
        partner: str = "derangement",
        box: str = "clipped",
        centres: str = "draw",
        centre_from: float = 0.0,
    ) -> None:
        super().__init__(name, draws, space)
        self.alpha = check_alpha(name, alpha)
        check_rule(name, partner, draws)
        if box not in BOXES:
            raise unknown("box rule", box, BOXES)
        if centres not in CENTRES:
            raise unknown("choice of centres", centres, CENTRES)
        if not 0 <= centre_from < 1:
            raise UsageError(f"{name}: centre_from is a share of the image in 0…1, not {centre_from}")
        if centre_from and box not in ("clipped", "clipped_half"):
            raise UsageError(f"{name}: centre_from is about boxes with a centre, not box={box}")
        if centres == "image" and draws == "sample":
            raise UsageError(f"{name}: centres=image shares a size within the batch; use draws per batch")
        self.partner, self.box, self.centres, self.centre_from = partner, box, centres, centre_from
        self.least = 2 if partner == "derangement" else 1

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        n, _, h, w = images.shape
        # Columns: λ, centre (2), partner, the other corner (2), partner.
        u = uniforms(self.draws, sample_id, 4 if self.draws == "batch" else 7, gen)
        if self.draws == "batch":
            partner = batch_partners(self.partner, n, gen)
        else:
            partner = sample_partners(self.partner, u[:, 3], u[:, 6])
        lam, place = beta_quantile(u[:, 0], self.alpha), u[:, 1:3]
        if self.centres == "image":
            place = torch.rand(n, 2, generator=gen, dtype=torch.float64)
            lam = lam.expand(n)
        if self.box == "corners":
            other = (
                u[:, 4:6] if self.draws == "sample" else torch.rand(place.shape, generator=gen, dtype=u.dtype)
            )
            place = torch.cat([place, other], dim=1)
        if self.centre_from:
            place = self.centre_from + (1 - self.centre_from) * place
        box = boxes(self.box, lam, place, h, w)
        return Draw(self.name, {"partner": partner, "box": box, "lam": kept_share(box, h, w)})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        partner = draw.params["partner"].to(images.device)
        box = draw.params["box"]
        if len(box) == 1:  # only the box itself needs to be gathered
            top, bottom, left, right = box[0].tolist()
            out = images.clone()
            out[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right].index_select(0, partner)
            return out
        return paste(images, images.index_select(0, partner), box)

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        n = len(images)
        return torch.arange(n), draw.params["partner"], draw.params["lam"].expand(n)

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        law = lam_rule(self.draws, self.alpha)
        if self.box == "corners":
            law = f"from the box, one per {self.per}"
        place = BOXES[self.box][1]
        if self.centres == "image":
            place += f"; one size per batch, a centre per image from {self.centre_from:g} of the side upwards"
        return {
            "λ": f"{law}; recomputed as 1 − box area / image area",
            "box": place,
            "partner": in_words(self.partner, self.draws),
            "space": "normalised floats",
        }
