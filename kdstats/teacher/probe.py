"""The probe: one pass of the teacher over originals and the views of several schemes, on the same batches.

Batches are the outer loop and schemes the inner one, so the originals are computed once for all schemes, every
scheme sees the same images under the same random numbers, and memory does not grow with the number of images.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdstats.data import Batch, LabelledImages
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import epoch_order, view_generator
from kdstats.errors import CheckError
from kdstats.estimators.components import PairMoments
from kdstats.estimators.originals import OriginalsMoments
from kdstats.schemes import AugmentedBatch, Scheme
from kdstats.teacher.memo import Memo
from kdstats.teacher.network import Network
from kdstats.teacher.share_law import ShareLaw

Array = NDArray[np.float64]


@dataclass
class Tally:
    """What is kept of one scheme's views: per batch a mean vector, over all images a few sums.

    Attributes:
        pairs: Sums over (original, view) pairs.
        law: Of the λ that a batch draws, where it has one of its own.
        means: Mean probability vector of the views, per batch.
        sizes: Views per batch.
        products: Per batch the sum of products of views and the originals that they are made of, over the number of
            all pairs of a view and an original; kept for the controls of schemes that are blind.
        singles: Per batch the sum of the views in those pairs, over the same number.
        shares: Per batch the mean λ and λ² that were drawn, if there is a ``law``.
        u: Per batch the cross-entropies of originals and views, by position, nats (float32).
        entropy: Sum of the teacher's entropies over views, nats.
        kl: Sum of KL(original ‖ view), nats.
        correct: Sum over views of λ [top-1 = label] + (1 − λ) [top-1 = partner's label]; a partner that is itself
            mixed counts as the image it is based on.
        views: Number of views.
        forwards: Images the teacher was asked about for this scheme, originals not counted; some it had seen in
            the same step.
        seconds: Time spent on this scheme's views.
    """

    pairs: PairMoments
    law: ShareLaw | None = None
    means: list[Array] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    products: list[Array] = field(default_factory=list)
    singles: list[Array] = field(default_factory=list)
    shares: list[Array] = field(default_factory=list)
    u: list[NDArray[np.float32]] = field(default_factory=list)
    entropy: float = 0.0
    kl: float = 0.0
    correct: float = 0.0
    views: int = 0
    forwards: int = 0
    seconds: float = 0.0


class Probe:
    """Feeds batches through the teacher and tallies every scheme.

    Attributes:
        active: Schemes whose views are still being made, see :meth:`finish`.
        tallies: Scheme name → its sums so far.
        means: ``[J]`` mean probability vectors of the originals, one per batch.
        sizes: ``[J]`` images per batch.
        squares: ``[J]`` sums of squared probabilities of the originals, over the square of their number; for the
            controls.
        epoch: ``[J]`` epoch of each batch.
        entropies: ``[J]`` sums of the teacher's entropies over the originals of each batch, nats.
        forwards: Originals that the teacher saw, in batches and in :meth:`spread`.
    """

    def __init__(
        self,
        images: LabelledImages,
        schemes: Mapping[str, Scheme],
        teacher: Network,
        student: Network | None,
        base: StandardAugmentation,
        batch_size: int,
        seed: int,
        *,
        controls: bool = True,
    ) -> None:
        """With ``controls`` it keeps what the control variates of the efficient protocol are made of."""
        self.images, self.schemes, self.teacher, self.student = images, schemes, teacher, student
        self.base, self.batch_size, self.seed = base, batch_size, seed
        self.active, self.controls = dict(schemes), controls
        shape = torch.Size((batch_size, images.channels, images.img_size, images.img_size))
        self.tallies = {
            name: Tally(PairMoments(images.classes), ShareLaw.of(scheme, shape, seed) if controls else None)
            for name, scheme in schemes.items()
        }
        self.means: list[Array] = []
        self.sizes: list[int] = []
        self.squares: list[Array] = []
        self.epoch: list[int] = []
        self.entropies: list[float] = []
        self.forwards = 0

    def finish(self, name: str) -> None:
        """No more views of the scheme ``name``: what it has is enough."""
        self.active.pop(name, None)

    def batches(self, *, drop_last: bool) -> Iterator[tuple[int, int, Batch]]:
        """Endless ``(epoch, step, originals)``, each epoch a fresh shuffle without replacement.

        The originals have had the standard augmentation of their epoch.
        """
        n, size = len(self.images), self.batch_size
        last = n - n % size if drop_last else n
        epoch = 0
        while True:
            chunks = torch.split(epoch_order(self.seed, epoch, n)[:last], size)
            for step, batch in enumerate(self.images.batches(chunks, self.base, self.seed, epoch)):
                yield epoch, step, batch
            epoch += 1

    def step(self, epoch: int, step: int, originals: Batch) -> None:
        """One batch: originals once, then the views of every scheme."""
        pixels, labels, ids = originals
        x = self.images.normalise(pixels)
        asked = Memo(self.teacher.logits)
        log_o = _log_probabilities(asked(x), ids)
        self.forwards += len(x)
        self.means.append(_mean(log_o))
        self.sizes.append(len(x))
        if self.controls:
            squares = log_o.exp().double().square().sum(0)
            self.squares.append(np.asarray(squares.cpu().numpy() / len(x) ** 2))
        self.epoch.append(epoch)
        self.entropies.append(float(_entropy(log_o).sum()))
        u_o = self._u(log_o, x)
        for name, scheme in self.active.items():
            if step == 0:
                scheme.reset()
            self._view(scheme, self.tallies[name], x, labels, ids, log_o, u_o, epoch, step, asked)

    def _view(
        self,
        scheme: Scheme,
        tally: Tally,
        x: Tensor,
        labels: Tensor,
        ids: Tensor,
        log_o: Tensor,
        u_o: Tensor,
        epoch: int,
        step: int,
        asked: Memo[Tensor],
    ) -> None:
        began, before = time.perf_counter(), asked.images
        student = self.student.logits if self.student is not None else None
        # One purpose for all schemes: the same uniform numbers move every scheme (common random numbers).
        batch = scheme.apply(
            x,
            labels,
            ids,
            generator=view_generator(self.seed, scheme.draws, epoch, step),
            teacher=asked,
            student=student,
        )
        if scheme.name == "identity":
            log_v, u_v = log_o, u_o
        else:
            logits = batch.teacher_logits if batch.teacher_logits is not None else asked(batch.images)
            log_v = _log_probabilities(logits, batch.sample_id)
            u_v = self._u(log_v, batch.images)
        base = log_o[batch.index]
        tally.pairs.update(*(part.exp().cpu().numpy() for part in (log_o, log_v, base)))
        if self.controls and scheme.blind:
            self._linked(tally, log_o.exp(), log_v.exp(), batch)
        if tally.law is not None:
            tally.shares.append(tally.law.row(x, batch.draw))
        tally.means.append(_mean(log_v))
        tally.sizes.append(len(log_v))
        tally.u.append(torch.cat([u_o, u_v]).cpu().numpy())
        tally.entropy += float(_entropy(log_v).sum())
        tally.kl += float((base.exp() * (base - log_v)).sum())
        top = log_v.argmax(1)
        if batch.labels is not None and batch.partner_labels is not None:
            own, other = (top == batch.labels).float(), (top == batch.partner_labels).float()
            tally.correct += float((batch.lam * own + (1 - batch.lam) * other).sum())
        tally.views += len(log_v)
        tally.forwards += asked.images - before
        tally.seconds += time.perf_counter() - began

    def _linked(self, tally: Tally, p_o: Tensor, p_v: Tensor, batch: AugmentedBatch) -> None:
        """Tallies the products of views and the originals that they are made of, each pair once."""
        p_o, p_v = p_o.double(), p_v.double()
        mixed = (batch.partner_index != batch.index).view(-1, 1)
        made_of = p_o[batch.index] + mixed * p_o[batch.partner_index]
        pairs = len(p_o) * len(p_v)
        tally.products.append(np.asarray((made_of * p_v).sum(0).cpu().numpy() / pairs))
        tally.singles.append(np.asarray(((1 + mixed.double()) * p_v).sum(0).cpu().numpy() / pairs))

    def _u(self, log_t: Tensor, images: Tensor) -> Tensor:
        """Teacher–student cross-entropy per image, nats; the teacher's entropy while it stands in."""
        if self.student is None:
            return _entropy(log_t)
        log_s = torch.log_softmax(self.student.logits(images), dim=1)
        return -(log_t.exp() * log_s).sum(1)

    def spread(self, images: int, again: int) -> OriginalsMoments:
        """Spread of single originals, from ``images`` of them and a second draw of the first ``again``.

        ``images`` equal to the size of the training set makes the result exact, hence usable as a control.
        """
        # An epoch that no batch of the probe uses, so that the draws are independent of theirs.
        order = epoch_order(self.seed, -1, len(self.images))
        first, second = (self._probabilities(order[:n], epoch) for epoch, n in ((-1, images), (-2, again)))
        return OriginalsMoments.of(first, second, exact=images == len(self.images))

    def _probabilities(self, positions: Tensor, epoch: int) -> NDArray[Any]:
        found = []
        for pixels, _, ids in self.images.batches(torch.split(positions, 500), self.base, self.seed, epoch):
            x = self.images.normalise(pixels)
            self.forwards += len(x)
            found.append(_log_probabilities(self.teacher.logits(x), ids).exp().cpu().numpy())
        return np.concatenate(found)


def _log_probabilities(logits: Tensor, ids: Tensor) -> Tensor:
    log_p = torch.log_softmax(logits, dim=1)
    bad = ~torch.isfinite(log_p).all(1)
    if bool(bad.any()):
        first = ids[bad][:3].tolist()
        raise CheckError(
            f"the teacher's output is NaN or infinite for samples {first} ({int(bad.sum())} in a batch)"
        )
    return log_p


def _mean(log_p: Tensor) -> Array:
    return np.asarray(log_p.exp().double().mean(0).cpu().numpy())


def _entropy(log_p: Tensor) -> Tensor:
    return -(log_p.exp() * log_p).sum(1)
