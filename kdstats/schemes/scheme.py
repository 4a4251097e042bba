"""The contract that every scheme fulfils."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdstats.errors import CheckError, UsageError, unknown
from kdstats.schemes.batch import AugmentedBatch, Draw
from kdstats.schemes.naming.catalogue import GRANULARITIES
from kdstats.schemes.space import PixelSpace

Scorer = Callable[[Tensor], Tensor]
Networks = Mapping[str, "Scorer | None"]


class BatchTooSmallError(UsageError):
    """The scheme has no meaning in a batch this small."""


class Scheme(ABC):
    """One augmentation. Subclasses say how to draw and how to render; pairing has a default.

    Attributes:
        name: Registry name.
        draws: ``batch`` (one draw for the whole batch, as the published code) or ``sample`` (one per image).
        space: Normalisation of the images, needed by schemes that think in grey levels.
        needs: Which networks ``apply`` must be given: a subset of ``{"teacher", "student"}``.
        least: The smallest batch in which the scheme has a meaning.
        mixes: Whether a view is made of two images.
        history: Whether views depend on the batches before, so that :meth:`reset` and :meth:`state_dict` matter.
        by_position: Whether the place of an image in the batch decides, even with draws per sample.
    """

    needs: frozenset[str] = frozenset()
    least: int = 1
    mixes: bool = False
    history: bool = False
    by_position: bool = False

    def __init__(self, name: str, draws: str = "batch", space: PixelSpace | None = None) -> None:
        if draws not in GRANULARITIES:
            raise unknown("granularity of draws", draws, GRANULARITIES)
        self.name = name
        self.draws = draws
        self.space = space or PixelSpace()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, draws={self.draws!r})"

    @property
    def per(self) -> str:
        """What has a draw of its own, in words: ``batch`` or ``image``."""
        return "batch" if self.draws == "batch" else "image"

    @property
    def blind(self) -> bool:
        """Whether a view follows from its image, its partner and the draw alone, and the draw from no pixel.

        Then views of different images say nothing of each other beyond what the draw and a common image make of them,
        which is what the control variates of :mod:`kdstats.estimators.controls` build on. ``kdstats schemes check``
        tests it.
        """
        return not self.needs and not self.history and type(self)._make is Scheme._make

    @abstractmethod
    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        """Draws everything at random that :meth:`_render` needs; looks at shapes, never at pixels."""

    @abstractmethod
    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        """The views of ``images`` under ``draw``; must not write to ``images``."""

    def rules(self) -> dict[str, str]:
        """What the scheme does, in words built from its parameters, for ``kdstats schemes show``.

        Keys in use: probability, draw, partner, λ, box, fill, space. A key is left out where it means nothing.
        """
        return {}

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """Base index, partner index and λ per view, on the CPU; by default nothing is mixed."""
        index = torch.arange(len(images))
        return index, index, torch.ones(len(images))

    def apply(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        sample_id: Tensor | None = None,
        *,
        generator: torch.Generator,
        teacher: Scorer | None = None,
        student: Scorer | None = None,
    ) -> AugmentedBatch:
        """Draws and renders one batch of views.

        Args:
            images: ``[B, channels, H, W]`` finite floats (float32, float16 or bfloat16), normalised by ``space``;
                views carry no gradient.
            labels: ``[B]`` classes, carried into the result.
            sample_id: ``[B]`` int64 ids; positions in the batch when left out.
            generator: A CPU generator, see :mod:`kdstats.draws.keys`.
            teacher: Images → logits; only schemes whose ``needs`` names it use it.
            student: Likewise.

        Raises:
            BatchTooSmallError: The batch is too small for the scheme.
            UsageError: Wrong shape or dtype, or a network that it needs and was not given.
        """
        self._check(images, labels, sample_id)
        images = images.detach()
        ids = torch.arange(len(images)) if sample_id is None else sample_id
        networks = {"teacher": teacher, "student": student}
        for role in sorted(self.needs):
            if networks[role] is None:
                raise UsageError(
                    f"{self.name} ranks views by what the {role} says of them and was given no {role}"
                )
        draw, views = self._make(images, ids, generator, networks)
        index, partner, lam = self._pairing(images, draw)
        if not 0 <= float(lam.min()) <= float(lam.max()) <= 1:
            raise CheckError(
                f"{self.name} states λ outside 0…1; `kdstats schemes check {self.name}` says more"
            )
        partner = torch.where(lam < 1, partner, index)  # nothing of it is in the view
        own = ids.cpu()
        return AugmentedBatch(
            images=views,
            sample_id=own[index].to(images.device),
            partner_id=own[partner].to(images.device),
            lam=lam.float().to(images.device),
            draw=draw,
            index=index.to(images.device),
            partner_index=partner.to(images.device),
            labels=None if labels is None else labels[index.to(labels.device)],
            partner_labels=None if labels is None else labels[partner.to(labels.device)],
            teacher_logits=self._answers(draw),
        )

    def _make(
        self, images: Tensor, ids: Tensor, gen: torch.Generator, networks: Networks
    ) -> tuple[Draw, Tensor]:
        """The draw and its views; schemes that look at a network's output before they decide override this."""
        del networks
        draw = self._draw(images, ids, gen)
        return draw, self._render(images, draw)

    def _answers(self, draw: Draw) -> Tensor | None:
        """Teacher logits of the views, if the scheme had to ask for them."""
        del draw
        return None

    def reset(self) -> None:  # noqa: B027  most schemes have nothing to forget
        """Forgets the history; called at the start of every epoch. Nothing to do for most schemes."""

    def state_dict(self) -> dict[str, Any]:
        """The history as plain tensors, for a checkpoint; empty for most schemes."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`.

        Raises:
            UsageError: The state belongs to another scheme.
        """
        if state:
            raise UsageError(f"{self.name} has no history, the state holds {', '.join(sorted(state))}")

    def replay(self, images: Tensor, draw: Draw) -> Tensor:
        """The views of ``images`` under an earlier ``draw``, bit for bit on the CPU.

        Raises:
            UsageError: The draw belongs to another scheme.
        """
        if draw.scheme != self.name:
            raise UsageError(f"a draw of {draw.scheme} cannot be replayed by {self.name}")
        return self._render(images, draw)

    @property
    def shares_by_draw(self) -> bool:
        """Whether λ is drawn before any pixel is looked at, so that it has a law of its own."""
        return self.mixes and self.blind

    def shares(self, images: Tensor, draw: Draw) -> Tensor:
        """λ of all that was drawn: of the views, or, where views are picked, of all among which they were."""
        return self._pairing(images, draw)[2]

    def draw_shares(self, images: Tensor, *, generator: torch.Generator) -> Tensor:
        """:meth:`shares` of a new draw, without making its views; the shapes of ``images`` count, not their pixels.

        Raises:
            UsageError: Not :attr:`shares_by_draw`.
        """
        if not self.shares_by_draw:
            raise UsageError(f"{self.name} draws no λ, or draws it by what it sees, so there is no law of it")
        return self.shares(images, self._draw_unseen(images, torch.arange(len(images)), generator))

    def _draw_unseen(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        """As much of a draw as is drawn before any pixel is looked at."""
        return self._draw(images, sample_id, gen)

    def _check(self, images: Tensor, labels: Tensor | None, sample_id: Tensor | None) -> None:
        if images.ndim != 4 or not images.is_floating_point():
            raise UsageError(
                f"{self.name} takes normalised floats [B, channels, H, W], not {images.dtype} {list(images.shape)}"
            )
        if len(images) < self.least:
            raise BatchTooSmallError(
                f"{self.name} needs a batch of at least {self.least} images, not {len(images)}"
            )
        for what, value in (("labels", labels), ("sample ids", sample_id)):
            if value is not None and value.shape != (len(images),):
                raise UsageError(f"{len(images)} images, but {what} of shape {list(value.shape)}")
        channels = len(self.space.mean)
        if channels not in (1, images.shape[1]):
            raise UsageError(
                f"{self.name}: the pixel space has {channels} channels, the images {images.shape[1]}"
            )
