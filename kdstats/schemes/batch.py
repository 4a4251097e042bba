"""What a scheme returns: the views, who they were made from, and the draw that makes them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """All randomness of one application of a scheme; with the images it determines the views.

    Attributes:
        scheme: Name of the scheme that drew it.
        params: Tensors on the CPU, their meaning belonging to the scheme. A leading length of 1 means one draw
            for the whole batch, a leading length of B one draw per image.
        parts: Draws of inner schemes, in the order of application.
    """

    scheme: str
    params: Mapping[str, Tensor] = field(default_factory=dict)
    parts: tuple[Draw, ...] = ()


@dataclass(frozen=True)
class AugmentedBatch:
    """B views and what they are made of.

    Attributes:
        images: ``[B, channels, H, W]``, same dtype and device as the images that went in.
        sample_id: ``[B]`` int64, id of the image that each view is based on.
        partner_id: ``[B]`` int64, id of the image mixed in; the view's own id where nothing is mixed.
        lam: ``[B]`` float32 in [0, 1], the share of the view that comes from its base image (after clipping).
        draw: Replays the views.
        index: ``[B]`` int64, position of the base image in the batch that went in.
        partner_index: ``[B]`` int64, position of the partner.
        labels: ``[B]`` class of the base image, or None when no labels were given.
        partner_labels: ``[B]`` class of the partner, or None.
    """

    images: Tensor
    sample_id: Tensor
    partner_id: Tensor
    lam: Tensor
    draw: Draw
    index: Tensor
    partner_index: Tensor
    labels: Tensor | None = None
    partner_labels: Tensor | None = None

    def mix(self, values: Tensor) -> Tensor:
        """λ-mixes per-image ``values`` of the original batch, as the pixels were mixed.

        Args:
            values: ``[B_in, …]``, for example one-hot labels or teacher logits of the originals.

        Returns:
            ``lam · values[index] + (1 − lam) · values[partner_index]``, shape ``[B, …]``; float32 for integer
            values (``one_hot`` gives int64, in which every λ below 1 would become 0).
        """
        values = values if values.is_floating_point() else values.float()
        lam = self.lam.to(values).view(-1, *[1] * (values.ndim - 1))
        return lam * values[self.index] + (1 - lam) * values[self.partner_index]
