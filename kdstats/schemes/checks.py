"""What every scheme promises, as a check that plug-in authors can run too: ``kdstats schemes check NAME``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes.batch import AugmentedBatch
from kdstats.schemes.naming.registry import get, record
from kdstats.schemes.naming.resolve import keywords
from kdstats.schemes.scheme import BatchTooSmallError, Scheme, Scorer
from kdstats.schemes.space import PixelSpace

_CLASSES = 6
_STEPS = 3  # of one epoch: a scheme with a history needs more than one


@dataclass(frozen=True, slots=True)
class Situation:
    """Under what a scheme is checked.

    Attributes:
        draws: ``batch`` or ``sample``.
        channels: 1 or 3.
        height: Pixels.
        width: Pixels.
        n: Images per batch.
        dtype: Of the images.
        device: Where.
    """

    draws: str = "batch"
    channels: int = 3
    height: int = 32
    width: int = 32
    n: int = 6
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __str__(self) -> str:
        """In words, for tables."""
        kind = str(self.dtype).removeprefix("torch.")
        return f"draws {self.draws}, {self.n} images {self.channels}x{self.height}x{self.width}, {kind}"

    def images(self, step: int) -> Tensor:
        """Normalised random pixels."""
        g = torch.Generator().manual_seed(step)
        pixels = torch.randint(0, 256, (self.n, self.channels, self.height, self.width), generator=g)
        return ((pixels / 255.0 - 0.5) / 0.25).to(self.device, self.dtype)

    def ids(self, step: int) -> Tensor:
        """Ids that are no positions."""
        return (torch.arange(self.n) * 13 + 5 + 1000 * step).to(self.device)

    def labels(self, step: int) -> Tensor:
        """Classes."""
        return ((torch.arange(self.n) + step) % _CLASSES).to(self.device)

    def scheme(self, name: str) -> Scheme:
        """A fresh scheme for these images."""
        half, quarter = (0.5,) * self.channels, (0.25,) * self.channels
        return get(name, draws=self.draws, space=PixelSpace(half, quarter))


def violations(name: str, situation: Situation = Situation()) -> list[str]:
    """Broken promises of the scheme ``name``, in words; empty if it keeps them all.

    Raises:
        BatchTooSmallError: It has no meaning in so small a batch.
        UsageError: No such scheme, or none for this granularity of draws.
    """
    said: list[str] = []
    scheme = situation.scheme(name)
    lacking = [key for key in keywords(type(scheme)) if not hasattr(scheme, key)]
    if lacking:
        said.append(f"the parameter {lacking[0]} is not kept as an attribute of its name")
    before: AugmentedBatch | None = None
    for step in range(_STEPS):
        batch = _apply(scheme, situation, step)
        said += _of_batch(scheme, situation, step, batch, before)
        before = batch
    again = situation.scheme(name)
    last = [_apply(again, situation, step) for step in range(_STEPS)][-1]
    if before is None or not torch.equal(last.images, before.images):
        said.append("the same key gave other views")
    if not said:  # the rest reads the columns that were checked so far
        if situation.draws == "sample" and not scheme.by_position:
            said += _of_samples(name, situation)
        if scheme.mixes:
            said += _of_lam(name, situation)
        if scheme.blind:
            said += _of_strangers(name, situation)
    return list(dict.fromkeys(said))


def _apply(scheme: Scheme, situation: Situation, step: int, images: Tensor | None = None) -> AugmentedBatch:
    x = situation.images(step) if images is None else images
    return scheme.apply(
        x,
        situation.labels(step),
        situation.ids(step),
        generator=generator(7, step),
        teacher=_network(1),
        student=_network(2),
    )


def _network(seed: int) -> Scorer:
    """A small fixed classifier of any number of pixels."""

    def logits(x: Tensor) -> Tensor:
        flat = x.float().flatten(1)
        weight = torch.randn(flat.shape[1], _CLASSES, generator=torch.Generator().manual_seed(seed))
        out: Tensor = flat @ weight.to(flat.device) / flat.shape[1] ** 0.5
        return out

    return logits


def _of_batch(
    scheme: Scheme, situation: Situation, step: int, batch: AugmentedBatch, before: AugmentedBatch | None
) -> Iterator[str]:
    x, ids, labels = situation.images(step), situation.ids(step), situation.labels(step)
    given = x.clone()
    _apply(situation.scheme(scheme.name), situation, step, given)
    views, n = batch.images, len(batch.images)
    if not torch.equal(given, x):
        yield "the input was written to"
    if views.shape[1:] != x.shape[1:] or views.dtype != x.dtype or views.device != x.device:
        yield f"views are {views.dtype} {list(views.shape)} on {views.device}, images {x.dtype} {list(x.shape)}"
        return
    if not bool(torch.isfinite(views).all()):
        yield "views hold NaN or infinity"
    columns = (batch.sample_id, batch.partner_id, batch.lam, batch.index, batch.partner_index)
    if any(column.shape != (n,) for column in columns):
        yield "ids, λ and positions are not one per view"
        return
    if not torch.equal(batch.sample_id, ids[batch.index]):
        yield "sample_id is not the id of the base image"
    source = ids if not batch.recursive or before is None else before.sample_id
    mixed = batch.lam < 1
    partner = torch.where(mixed, source[batch.partner_index], batch.sample_id)
    if not torch.equal(batch.partner_id, partner):
        yield "partner_id is not the id of the partner, or not the own id where nothing is mixed"
    if batch.labels is None or not torch.equal(batch.labels, labels[batch.index]):
        yield "labels are not those of the base images"
    if batch.lam.dtype != torch.float32 or not bool(((batch.lam >= 0) & (batch.lam <= 1)).all()):
        yield "λ is not a float32 in 0…1"
    if not scheme.mixes and not bool((batch.lam == 1).all()):
        yield "λ differs from 1, but the scheme says that it mixes nothing"
    if not torch.equal(scheme.replay(x, batch.draw), views):
        yield "replaying the draw gives other views"


def _of_samples(name: str, situation: Situation) -> Iterator[str]:
    """Draws per sample belong to the ids: order and company must not matter."""
    x, ids, labels = situation.images(0), situation.ids(0), situation.labels(0)
    nets = {"teacher": _network(1), "student": _network(2)}

    def views(rows: Tensor) -> AugmentedBatch:
        scheme = situation.scheme(name)
        return scheme.apply(x[rows], labels[rows], ids[rows], generator=generator(7, 0), **nets)

    def by_id(batch: AugmentedBatch) -> tuple[Tensor, ...]:
        order = torch.argsort(batch.sample_id, stable=True)
        return batch.sample_id[order], batch.partner_id[order], batch.lam[order], batch.images[order]

    everyone = torch.arange(situation.n)
    whole, turned = by_id(views(everyone)), by_id(views(everyone.flip(0)))
    if record(name).picks:  # picked views of one image have no order of their own
        whole, turned = whole[:1], turned[:1]
    if not all(torch.equal(a, b) for a, b in zip(whole, turned, strict=True)):
        yield "with draws per sample, the order of the batch changed the views"
    scheme = situation.scheme(name)
    if not scheme.mixes and not scheme.needs and situation.n > 2:
        half = by_id(views(everyone[: situation.n // 2]))
        if not torch.equal(half[3], whole[3][: len(half[3])]):
            yield "with draws per sample, the size of the batch changed the views"


def _of_strangers(name: str, situation: Situation) -> Iterator[str]:
    """Other pixels in one image: the views that are not made of it must stay as they were."""
    for step, changed in itertools.product(range(_STEPS), range(situation.n)):
        x = situation.images(step)
        other = x.clone()
        # Neither the mean nor the size of the batch's pixels stays what it was.
        other[changed] = 1.7 * situation.images(_STEPS + step)[changed] + 0.3
        before, after = (_apply(situation.scheme(name), situation, step, images) for images in (x, other))
        drawn = zip(
            (before.index, before.partner_index, before.lam),
            (after.index, after.partner_index, after.lam),
            strict=True,
        )
        if not all(torch.equal(a, b) for a, b in drawn):
            yield "the pixels of an image changed what was drawn"
            return
        apart = (before.index != changed) & (before.partner_index != changed)
        if not torch.equal(before.images[apart], after.images[apart]):
            yield "a view depends on an image that is neither its base nor its partner"
            return


def _of_lam(name: str, situation: Situation) -> Iterator[str]:
    """Constant images: the mean of a view tells how much of each image is in it."""
    if situation.dtype != torch.float32 or "+" in name:  # what comes before the mixing changes the images
        return
    scheme = situation.scheme(name)
    before = None
    for step in range(
        2
    ):  # from the third batch on, shrinking a view that is no longer constant rounds its shares
        level = torch.arange(situation.n, dtype=torch.float32, device=situation.device) + 10.0 * step
        x = level.view(-1, 1, 1, 1).expand_as(situation.images(step)).contiguous()
        batch = _apply(scheme, situation, step, x)
        before = batch.mix(level, before)
        if not torch.allclose(batch.images.mean((1, 2, 3)), before, atol=1e-3):
            yield "λ is not the share of the base image in the view"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in one situation.

    Attributes:
        situation: Where.
        broken: Promises that the scheme does not keep, or what it raised.
        not_applicable: Why it has no meaning there; empty where it has.
    """

    situation: Situation
    broken: tuple[str, ...] = ()
    not_applicable: str = ""

    def text(self) -> str:
        """One line."""
        if self.not_applicable:
            return f"({self.not_applicable})"
        return "; ".join(self.broken) or "keeps all promises"


def check(name: str, situations: list[Situation]) -> list[Finding]:
    """The promises of the scheme ``name`` in each situation; an error that it raises is a broken promise."""
    out = []
    for situation in situations:
        try:
            situation.scheme(name)
        except UsageError as error:  # no such scheme, or a preset of another granularity
            out.append(Finding(situation, not_applicable=str(error)))
            continue
        try:
            out.append(Finding(situation, tuple(violations(name, situation))))
        except BatchTooSmallError as error:
            out.append(Finding(situation, not_applicable=str(error)))
        except Exception as error:  # a stranger's code
            out.append(Finding(situation, (f"it raised {type(error).__name__}: {error}",)))
    return out
