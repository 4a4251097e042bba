"""What a scheme returns: the views, who they were made from, and the draw that makes them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from kdstats.errors import UsageError


@dataclass(frozen=True)
class Draw:
    """All randomness of one application of a scheme; with the images it determines the views.

    Attributes:
        scheme: Name of the scheme that drew it.
        params: Tensors, their meaning belonging to the scheme; on the CPU, except the images that a scheme
            with a history pasted. A leading length of 1 means one draw for the whole batch, a leading length
            of B one draw per image.
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
        recursive: Whether the partner is a *view* of the batch before (``partner_index`` counts there), itself
            mixed from others; ``partner_id`` names the image that view is based on.
        teacher_logits: ``[B, C]`` what the teacher says of the views, where picking asked it; else None.
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
    recursive: bool = False
    teacher_logits: Tensor | None = None

    def mix(self, values: Tensor, before: Tensor | None = None) -> Tensor:
        """λ-mixes per-image ``values`` of the original batch, as the pixels were mixed.

        Args:
            values: ``[B_in, …]``, for example one-hot labels or teacher logits of the originals.
            before: What this function returned for the batch before; needed where ``recursive``, because there
                the partner is a mixture already. :class:`kdstats.schemes.targets.Targets` keeps it.

        Returns:
            ``lam · values[index] + (1 − lam) · partner's``, shape ``[B, …]``; float32 for integer values
            (``one_hot`` gives int64, in which every λ below 1 would become 0).

        Raises:
            UsageError: ``recursive`` and no ``before``.
        """
        values = values if values.is_floating_point() else values.float()
        lam = self.lam.to(values).view(-1, *[1] * (values.ndim - 1))
        if self.recursive and before is None:
            raise UsageError("a recursive view is mixed from the batch before: hand over its mixed values")
        source = values if before is None or not self.recursive else before.to(values)
        return lam * values[self.index] + (1 - lam) * source[self.partner_index]
