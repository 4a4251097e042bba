"""Labels of mixed views as shares, batch after batch."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdstats.errors import UsageError
from runners.objectives.outputs import Outputs


class MixedLabels:
    """``[B, C]`` shares: ``λ onehot(y) + (1 − λ) onehot(y_partner)``.

    A recursive view is mixed from a view of the batch before, whose shares are kept for it: then the second
    summand is that view's own mixture (RecursiveMix, fused labels).
    """

    def __init__(self) -> None:
        self._before: Tensor | None = None

    def forget(self) -> None:
        """At the start of an epoch."""
        self._before = None

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {} if self._before is None else {"shares": self._before}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state`."""
        self._before = state.get("shares")

    def of(self, o: Outputs) -> Tensor:
        """The shares of this batch: those given, else mixed as its views were, else one-hot labels.

        Raises:
            UsageError: No labels; or a recursive view whose batch before was not seen.
        """
        if o.labels is not None and o.labels.ndim == 2:
            shares = o.labels.float()
        elif o.view is None:
            shares = F.one_hot(o.own_labels(), o.classes).float()
        else:
            shares = self._mixed(o)
        self._before = shares.detach()
        return shares

    def _mixed(self, o: Outputs) -> Tensor:
        view = o.view
        if view is None or view.labels is None or view.partner_labels is None:
            raise UsageError(f"{o.objective}: give the scheme the labels, so that its views carry them")
        own = F.one_hot(view.labels, o.classes).float()
        lam = view.lam.to(own)[:, None]
        if not view.recursive:
            return lam * own + (1 - lam) * F.one_hot(view.partner_labels, o.classes).float()
        if self._before is None:
            raise UsageError(
                f"{o.objective}: the views are mixed from the batch before, which this objective has not seen; "
                "call it on every batch of the epoch"
            )
        return lam * own + (1 - lam) * self._before.to(own)[view.partner_index]
