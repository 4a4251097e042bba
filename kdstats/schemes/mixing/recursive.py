"""RecursiveMix: the whole previous view, shrunk, pasted into this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError, unknown
from kdstats.schemes.batch import AugmentedBatch, Draw
from kdstats.schemes.boxes import boxes, kept_share, paste
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace

RESIZE = ("nearest", "bilinear")
_KEYS = ("images", "sample_id", "labels")


class RecursiveMix(Scheme):
    """RecursiveMix (Yang et al., NeurIPS 2022), as in its released code.

    The share of the box is uniform on (0, alpha), its sides ``int(W √share)``, ``int(H √share)``, its centre
    uniform; clipped as in CutMix. The *whole* view at the same position of the batch before is resized to the
    box and pasted there, so views are mixtures of mixtures. λ is recomputed from the clipped box and is the
    share of the *own* image (the paper's figures use the opposite). One box per batch as published.

    The history is empty at the start of every epoch (:meth:`reset`) and after it at the first batch, whose
    views are the images themselves. A batch smaller than the history uses its first rows; images without a
    counterpart stay unmixed. Views depend on the batches before: T. stddev needs units of whole pools here.

    The region-consistency loss of the paper is an objective of the student, not part of the view.
    """

    mixes = True
    history = True
    by_position = True

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        alpha: float = 0.5,
        resize: str = "nearest",
    ) -> None:
        super().__init__(name, draws, space)
        if not 0 < alpha <= 1:
            raise UsageError(
                f"{name}: alpha, the largest share of the pasted box, lies in (0, 1], not {alpha}"
            )
        if resize not in RESIZE:
            raise unknown("way to resize", resize, RESIZE)
        self.alpha, self.resize = alpha, resize
        self._before: dict[str, Tensor | None] = {}

    def reset(self) -> None:
        """Forgets the views of the batch before, as the release does at every epoch."""
        self._before = {}

    def state_dict(self) -> dict[str, Any]:
        """Views ``images``, ``sample_id`` and ``labels`` of the batch before; empty at the start of an epoch."""
        return dict(self._before)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`; raises ``UsageError`` for anything else."""
        if state and set(state) != set(_KEYS):
            raise UsageError(f"{self.name}: no history of it, but {', '.join(sorted(state))}")
        self._before = dict(state)

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        n, _, h, w = images.shape
        u = uniforms(self.draws, sample_id, 3, gen)
        box = boxes("clipped", 1 - self.alpha * u[:, 0], u[:, 1:], h, w)
        before = self._before.get("images")
        if before is None:
            return Draw(self.name, {"lam": torch.ones(1)})
        if before.shape[1:] != images.shape[1:]:
            raise UsageError(
                f"{self.name}: the batch before held images of {list(before.shape[1:])}, this one of "
                f"{list(images.shape[1:])}; call reset() in between"
            )
        before = before[:n].to(images)
        return Draw(self.name, {"box": box, "lam": kept_share(box, h, w), "before": before})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        before = draw.params.get("before")
        if before is None:
            return images.clone()
        m = len(before)
        box = draw.params["box"][:m].to(images.device)
        mixed = paste(images[:m], _RESIZERS[self.resize](before, box), box)
        return torch.cat([mixed, images[m:]]) if m < len(images) else mixed

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        n = len(images)
        lam = draw.params["lam"].expand(n).clone()
        lam[len(draw.params["before"]) if "before" in draw.params else 0 :] = 1
        return torch.arange(n), torch.arange(n), lam

    def apply(self, images: Tensor, *args: Any, **kwargs: Any) -> AugmentedBatch:
        """As :meth:`Scheme.apply`; the views become the history of the next call."""
        before, batch = self._before, super().apply(images, *args, **kwargs)
        if before and (before["labels"] is None) != (batch.labels is None):
            raise UsageError(f"{self.name}: labels came with this batch or the one before, not with both")
        self._before = {
            "images": batch.images.detach().clone(),
            "sample_id": batch.sample_id.clone(),
            "labels": None if batch.labels is None else batch.labels.clone(),
        }
        old_id, old_labels = before.get("sample_id"), before.get("labels")
        if old_id is None:
            return batch
        mixed = batch.lam < 1
        at = batch.partner_index.clamp(max=len(old_id) - 1)
        partner_labels = batch.partner_labels
        if partner_labels is not None and old_labels is not None:
            partner_labels = torch.where(mixed.to(partner_labels.device), old_labels[at], partner_labels)
        return replace(
            batch,
            partner_id=torch.where(mixed, old_id.to(batch.partner_id.device)[at], batch.partner_id),
            partner_labels=partner_labels,
            partner_index=at,
            recursive=True,
        )

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {
            "λ": f"1 − box area / image area; share of the box ~ U(0, {self.alpha:g}), one per {self.per}",
            "box": "sides int(W √share), half sizes rounded down, uniform centre, clipped at the borders",
            "partner": f"the whole previous view at the same position, resized to the box ({self.resize}); none "
            "in the first batch of an epoch",
            "space": "normalised floats",
        }


def _nearest(images: Tensor, box: Tensor) -> Tensor:
    """Every image resized to its box by nearest neighbour, laid where the box is.

    Row ``floor(i · H / height)`` with the quotient in float32, as PyTorch's ``interpolate`` takes it.
    """
    b, c, h, w = images.shape
    rows = _source(box[:, 0], box[:, 1], h)
    columns = _source(box[:, 2], box[:, 3], w)
    if len(box) == 1:
        return images[:, :, rows[0]][:, :, :, columns[0]]
    flat = (rows[:, :, None] * w + columns[:, None, :]).view(b, 1, h * w).expand(b, c, h * w)
    return images.reshape(b, c, h * w).gather(2, flat).view(b, c, h, w)


def _source(start: Tensor, stop: Tensor, size: int) -> Tensor:
    """``[k, size]``: for each pixel of the image the row (or column) that comes to lie there; any outside."""
    inside = torch.arange(size, device=start.device) - start[:, None]
    length = (stop - start).clamp(min=1)[:, None].float()
    scale = (
        torch.full_like(length, size) / length
    )  # tensor by tensor: size / length multiplies by a reciprocal
    return torch.floor(inside.float() * scale).long().clamp(0, size - 1)


def _bilinear(images: Tensor, box: Tensor) -> Tensor:
    """Likewise with corners aligned, as the release's option does."""
    h, w = images.shape[2:]
    box = box.expand(len(images), 4)
    y, x = (_place(box[:, a], box[:, a + 1], size) for a, size in ((0, h), (2, w)))
    grid = torch.stack([x[:, None, :].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)], dim=3)
    out = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return out.to(images.dtype)


def _place(start: Tensor, stop: Tensor, size: int) -> Tensor:
    inside = (torch.arange(size, device=start.device) - start[:, None]).float()
    return 2 * inside / (stop - start - 1).clamp(min=1)[:, None] - 1


_RESIZERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"nearest": _nearest, "bilinear": _bilinear}
